"""How often `discover` finds what was planted: every program in every encoding, and networks in which nothing was.

python -m benchmarks.planted --seeds 100 prints the table with intervals. Scores are kept as they come, so that a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm.auto import tqdm

from interpose.tasks.planted import Score, by_discovery, score, table
from interpose.tasks.planted.suites import Name, instance, names


def measured(name: Name) -> dict[str, Any]:
    """The score of one instance, as plain values."""
    torch.set_num_threads(1)
    puzzle = instance(*name)
    return asdict(score(by_discovery(puzzle), puzzle.key))


def main(
    seeds: Annotated[list[int] | None, typer.Option(help="Seeds of the generator; 0 was used in development.")] = None,
    encoding: Annotated[list[str] | None, typer.Option(help="Encodings; by default all.")] = None,
    program: Annotated[list[str] | None, typer.Option(help="Programs; by default all.")] = None,
    controls: Annotated[bool, typer.Option(help="Networks in which nothing was planted, too.")] = True,
    out: Annotated[Path, typer.Option(help="Scores, one a line.")] = Path("planted.jsonl"),
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Score `discover` on planted networks."""
    asked = names(seeds or [100], programs=program or (), encodings=encoding or (), controls=controls)
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(one["program"], one["encoding"], one["seed"]) for one in known}
    left = [one for one in asked if one not in done]
    with ProcessPoolExecutor(workers) as pool, out.open("a") as kept:
        running = {pool.submit(measured, one): one for one in left}
        for finished in tqdm(as_completed(running), total=len(left), unit="network", disable=not sys.stderr.isatty()):
            known.append(finished.result())
            kept.write(json.dumps(known[-1]) + "\n")
            kept.flush()
    tuples = ("contradictions", "false_inert")
    sys.stdout.write(f"{table(Score(**{**one, **{k: tuple(one[k]) for k in tuples}}) for one in known)}\n")


if __name__ == "__main__":
    typer.run(main)
