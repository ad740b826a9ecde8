"""The command: time the cases, print their tables, and put them on the page."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from . import memory, report
from .measure import REFERENCE, Contender, Row, Timing, in_processes, worker
from .own import OWN
from .peers import PEERS
from .work import TOYS

CASES = tuple(report.TITLES)


def main(
    cases: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(CASES)}; by default all.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of what takes seconds.")] = 5,
    slow_repeats: Annotated[int, typer.Option(help="Runs of what takes minutes.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Contenders beside interpose; by default all.")] = None,
    layers: Annotated[str | None, typer.Option(help="Some layers of SmolLM2, as 0,10,29.")] = None,
    inner: Annotated[str | None, typer.Option(help="Some positions or heads, as 3,9.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Four cells a map, one run, nothing is kept.")] = False,
    write: Annotated[bool, typer.Option(help="Keep the numbers in docs/benchmarks.json and .md.")] = True,
) -> None:
    """Time interpose beside other libraries, one thread each, in turn."""
    if unknown := set(cases or ()) - set(CASES):
        raise typer.BadParameter(f"There is no case {unknown.pop()!r}. There are {', '.join(CASES)}.")
    if quick:
        layers, inner, repeats, write = layers or "22,29", inner or "3,9", 1, False
    asked = {
        name: [int(number) for number in given.split(",")]
        for name, given in (("layers", layers), ("inner", inner))
        if given is not None
    }
    found = []
    for name in cases or CASES:
        if name.startswith("toy"):
            found.append(toy(name, 2 if quick else 4 * repeats, only))
        elif name == "memory":
            found.append(report.memory_case(memory.measured(asked), **_said(asked)))
        else:
            found.append(language(name, asked, repeats, slow_repeats, only))
        sys.stdout.write(report.section(found[-1]) + "\n")
    if write and not asked:
        report.keep(found)


def toy(name: str, repeats: int, only: Sequence[str] | None) -> report.Case:
    """A toy case: all contenders in turn in one process."""
    contenders = _chosen(TOYS[name], only)
    able = [one.name for one in contenders if one.package is None or importlib.util.find_spec(one.package)]
    told = worker({"case": name, "contenders": able, "repeats": repeats})
    rows = {
        row["name"]: Row(row["name"], row["form"], [Timing(**timing) for timing in row["timings"]])
        for row in told.get("rows", ())
    }
    why = told.get("failed")
    return report.case(
        name,
        [rows.get(o.name) or Row(o.name, o.form, failed=why or f"no {o.package}") for o in contenders],
        "interpose",
    )


def language(
    name: str, asked: dict[str, Any], repeats: int, slow_repeats: int, only: Sequence[str] | None
) -> report.Case:
    """A map of SmolLM2: each contender in processes of its own, and the bare products of the FLOPs we count."""
    rows = in_processes(name, _chosen((*OWN, *PEERS), only), asked, repeats, slow_repeats)
    counted = worker({**asked, "case": name, "contender": "count"})
    flops = counted.get("notes")
    if flops:
        bare = Contender("products", "the blocks' products of as many FLOPs, nothing else", lambda q: lambda: None)
        (row,) = in_processes(name, [bare], {**asked, "flops": flops["flops"]}, repeats, slow_repeats)
        rows.append(Row("matrix products", row.form, row.timings, row.failed))
    ours = next((row.timings[0].values for row in rows if row.name == "interpose" and row.timings), [])
    return {
        **report.case(name, rows, REFERENCE, cells=len(ours), pairs=len(ours[0]) if ours else 0, **_said(asked)),
        "flops": flops,
    }


def _chosen(contenders: Sequence[Contender], only: Sequence[str] | None) -> list[Contender]:
    return [one for one in contenders if only is None or one.name == "interpose" or one.name in only]


def _said(asked: dict[str, Any]) -> dict[str, str]:
    return {"": "only " + ", ".join(f"{name} {values}" for name, values in asked.items())} if asked else {}


if __name__ == "__main__":
    typer.run(main)
