"""The measured numbers as a table, as JSON, and as a section of a page; and which targets they meet."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .measure import ROOT, Row

JSON = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
START, END = "<!-- measured: python -m benchmarks -->", "<!-- end of what was measured -->"
PACKAGES = ("torch", "transformers", "nnsight", "pyvene", "transformer-lens")
AGREE = 1e-4
DOCUMENTED = ("nnsight", "pyvene", "TransformerLens")
TITLES = {
    "toy": "Toy scan, end to end: three variables x 50 pairs x 6 neurons",
    "toy A": "The scan for A alone, in the form of each library: 50 pairs x 6 neurons",
    "toy sweeps": "Toy scan, the sweeps alone",
    "residual": "Residual stream of SmolLM2-135M, layer x position",
    "heads": "Attention heads of SmolLM2-135M, all positions together",
    "memory": "Peak memory, residual stream of SmolLM2-135M",
}
Case = dict[str, Any]


def case(name: str, rows: Sequence[Row], reference: str, **settings: Any) -> Case:
    """A case as plain data; settings: what was asked, such as the number of cells."""
    ours = next((row for row in rows if row.name == "interpose" and row.timings), None)
    other = next((row for row in rows if row.name == reference and row.timings), ours)
    table = []
    for row in rows:
        told: dict[str, Any] = {"name": row.name, "form": row.form, "runs": len(row.timings)}
        if row.failed or not row.timings:
            table.append({**told, "failed": row.failed or "was not run"})
            continue
        told |= {"wall": row.spread("wall"), "cpu": row.spread("cpu"), "notes": dict(row.timings[-1].notes)}
        told["ratio"] = None if ours is None else told["cpu"][0] / ours.spread("cpu")[0]
        told["difference"] = None if other is None else row.distance(other)
        table.append(told)
    return {
        "case": name,
        "settings": settings,
        "held against": other.name if other else None,
        **_where(),
        "rows": table,
    }


def memory_case(rows: Sequence[Mapping[str, Any]], **settings: Any) -> Case:
    """The memory case as plain data."""
    return {"case": "memory", "settings": settings, **_where(), "rows": [dict(row) for row in rows]}


def _where() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cpu = Path("/proc/cpuinfo")
    told = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(":")[1].strip() for line in told if line.startswith("model name")] or [platform.machine()]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{names[0]}, {os.cpu_count()} cores, one thread, {platform.system()}",
        "python": platform.python_version(),
        "versions": versions,
    }


# -- as text -----------------------------------------------------------------------------------------------------------


def section(one: Case) -> str:
    """One case as a Markdown section."""
    lines = [f"### {TITLES[one['case']]}", "", _asked(one), ""]
    lines += _memory(one) if one["case"] == "memory" else _times(one)
    met = [f"- {text}: {value} ({'met' if good else 'not met'})" for text, value, good in targets(one)]
    return "\n".join([*lines, "", *met]).rstrip() + "\n"


def _asked(one: Case) -> str:
    settings = ", ".join(f"{value} {name}" for name, value in one["settings"].items())
    versions = ", ".join(f"{name} {version}" for name, version in [("Python", one["python"]), *one["versions"].items()])
    return f"{one['date']}, {one['machine']}; {versions}." + (
        f" {settings[:1].upper()}{settings[1:]}." if settings else ""
    )


def _times(one: Case) -> list[str]:
    lines = [
        "| who | how | runs | clock: median (min to max) | CPU: the same | x interpose | largest difference |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in one["rows"]:
        if "failed" in row:
            lines.append(f"| {row['name']} | {row['form']} | - | failed: `{row['failed']}` | | | |")
            continue
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        far = "" if row["difference"] is None else f"{row['difference']:.1e}"
        far += " (!)" if row["difference"] is not None and row["difference"] > AGREE else ""
        spreads = " | ".join(_spread(row[clock]) for clock in ("wall", "cpu"))
        lines.append(f"| {row['name']} | {row['form']} | {row['runs']} | {spreads} | {ratio} | {far} |")
    note = f"Ratios are of median CPU times. Differences are from {one['held against']}, in the metric's units."
    return [*lines, "", note, *_work(one)]


def _spread(seconds: Sequence[float]) -> str:
    unit, scale = ("ms", 1e3) if seconds[0] < 1 else ("s", 1.0)
    middle, least, most = (f"{second * scale:.3g}" for second in seconds)
    return f"{middle} {unit} ({least} to {most})"


def _work(one: Case) -> list[str]:
    flops = one.get("flops")
    if not flops:
        return []
    share = flops["flops"] / flops["naive"]
    return [
        "",
        f"Our sweep's matrix products: {flops['flops'] / 1e9:.3g} GFLOP, {share:.3f} of one full forward a cell "
        f"({flops['naive'] / 1e9:.3g} GFLOP, all logits, base and source runs included).",
    ]


def _memory(one: Case) -> list[str]:
    lines = [
        "| what | pairs | sites | largest batch | peak growth: median (min to max) | values read |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in one["rows"]:
        if "failed" in row:
            lines.append(f"| {row['name']} | | | | failed: `{row['failed']}` | |")
            continue
        grown, least, most, read = (f"{size / 1e6:.0f}" for size in (row["grown"], *row["spread"], row["read"]))
        sizes = f"{grown} MB ({least} to {most}) | {read} MB"
        lines.append(f"| {row['name']} | {row['pairs']} | {row['cells'] or '-'} | {row['rows']} | {sizes} |")
    return lines


# -- targets -----------------------------------------------------------------------------------------------------------


def targets(one: Case) -> list[tuple[str, str, bool]]:
    """What the project set itself for a case: (text, measured, met); nothing where a part was not measured."""
    rows = {row["name"]: row for row in one["rows"] if "failed" not in row}
    if one["case"] == "memory":
        return _memory_targets(rows)
    if one["case"] == "toy A":
        return []

    def least(text: str, names: Sequence[str], bound: float) -> list[tuple[str, str, bool]]:
        ratios = [rows[name]["ratio"] for name in names if name in rows and rows[name]["ratio"]]
        return [(text.format(bound), f"{min(ratios):.3g}", min(ratios) >= bound)] if ratios else []

    def most(text: str, name: str, bound: float) -> list[tuple[str, str, bool]]:
        ratio = rows.get(name, {}).get("ratio")
        return [(text.format(bound), f"{1 / ratio:.3g}", 1 / ratio <= bound)] if ratio else []

    if one["case"] == "toy":
        return least("at least {} x faster than the tutorial's loop", ["nnsight"], 100)
    if one["case"] == "toy sweeps":
        return most("at most {} x a batched forward written by hand", "torch, by hand", 2.5)
    if one["case"] == "residual":
        return [
            *least("at least {} x faster than the fastest documented loop", DOCUMENTED, 8),
            *least("at least {} x faster than nnsight with skipped layers", ["nnsight, skipping"], 5),
            *most("at most {} x the bare matrix products of the counted FLOPs", "matrix products", 1.5),
        ]
    return least("at least {} x faster than the fastest documented loop", DOCUMENTED, 5)


def _memory_targets(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    if len(rows) < 4:
        return []
    sweep, forward, few, many = rows.values()
    share = (sweep["grown"] - sweep["read"]) / forward["grown"]
    flat = (many["grown"] - many["read"]) / (few["grown"] - few["read"])
    return [
        ("at most 1.5 x a plain batched forward with as many rows, beside what is read", f"{share:.2f}", share <= 1.5),
        ("flat in the number of pairs: ten times the pairs over the same sites", f"{flat:.2f}", flat <= 1.1),
    ]


# -- on disk -----------------------------------------------------------------------------------------------------------


def keep(cases: Sequence[Case], path: Path = JSON, page: Path = PAGE) -> None:
    """Put cases into the JSON file, where others measured before stay, and all of them into the page's section."""
    known = {one["case"]: one for one in json.loads(path.read_text())} if path.exists() else {}
    known |= {one["case"]: one for one in cases}
    ordered = [known[name] for name in TITLES if name in known]
    path.write_text(json.dumps(ordered, indent=1) + "\n")
    before, _, rest = page.read_text().partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n\n" + "\n".join(map(section, ordered)) + f"\n{END}{after}")
