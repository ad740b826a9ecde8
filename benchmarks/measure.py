"""Contenders, and how they are timed: one after another in turn, in processes of their own, on one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
REFERENCE = "torch, hooks"
"""The contender that the others' numbers are held against: plain torch, the obvious way."""


@dataclass(frozen=True)
class Contender:
    """Something to time: `prepare(question)` wraps what it needs and returns the function that is timed.

    form: how it was written. package: what must be importable. slow: whether it takes minutes.
    """

    name: str
    form: str
    prepare: Callable[[Any], Callable[[], Any]] = field(repr=False)
    package: str | None = None
    slow: bool = False


@dataclass(frozen=True)
class Timing:
    """One run of a contender: seconds on the clock and of the processor, what it found, and what it says besides."""

    wall: float
    cpu: float
    values: Any = field(repr=False)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """A contender's runs, or why there are none."""

    name: str
    form: str
    timings: list[Timing] = field(default_factory=list)
    failed: str | None = None

    def spread(self, clock: str) -> tuple[float, float, float]:
        """Median, minimum and maximum in seconds; clock: "wall" or "cpu"."""
        seconds = [getattr(timing, clock) for timing in self.timings]
        return median(seconds), min(seconds), max(seconds)

    def distance(self, other: Row) -> float | None:
        """The largest difference of what two contenders found; None where one found nothing that compares."""
        ours, theirs = (row.timings[0].values if row.timings else None for row in (self, other))
        if ours is None or theirs is None or np.shape(ours) != np.shape(theirs):
            return None
        return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


SHORT, TIMES = 0.01, 10
"""What takes fewer seconds is run so many times in its turn."""


def timed(run: Callable[[], Any]) -> Timing:
    """One run, or the mean of several short ones. What it returns is its values, or a pair of values and notes."""
    wall, cpu = time.perf_counter(), time.process_time()
    found, times = run(), 1
    if time.perf_counter() - wall < SHORT:
        wall, cpu, times = time.perf_counter(), time.process_time(), TIMES
        for _ in range(times):
            found = run()
    wall, cpu = (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times
    values, notes = found if isinstance(found, tuple) else (found, {})
    return Timing(wall, cpu, None if values is None else np.asarray(values, dtype=float).tolist(), notes)


def in_turn(contenders: Sequence[Contender], question: Any, repeats: int, *, warm: int = 1) -> list[Row]:
    """Rows of contenders that are timed in this process, each once a round; warm: runs that are not counted."""
    rows = [Row(contender.name, contender.form) for contender in contenders]
    runs = [contender.prepare(question) for contender in contenders]
    for _ in range(warm):
        for run in runs:
            run()
    for _ in range(repeats):
        for row, run in zip(rows, runs, strict=True):
            row.timings.append(timed(run))
    return rows


def in_processes(
    case: str, contenders: Sequence[Contender], request: Mapping[str, Any], repeats: int, slow_repeats: int
) -> list[Row]:
    """Rows of contenders that are timed in processes of their own, in rounds; slow ones in fewer rounds.

    A contender that fails is not run again.
    """
    rows = [Row(contender.name, contender.form) for contender in contenders]
    for turn in range(max(repeats, slow_repeats)):
        for row, contender in zip(rows, contenders, strict=True):
            if row.failed is None and turn < (slow_repeats if contender.slow else repeats):
                told = worker({**request, "case": case, "contender": contender.name})
                row.failed = told.pop("failed", None)
                if row.failed is None:
                    row.timings.append(Timing(**told))
                say(f"{case}: {row.name}: " + (row.failed or f"{row.timings[-1].wall:.2f} s"))
    return rows


def worker(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own answers to a request; {"failed": reason} where it stops before it answers."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks.work", json.dumps({**request, "answer": str(answer)})]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0 and answer.exists():
            return dict(json.loads(answer.read_text()))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": lines[-1][:200] if lines else f"stopped with {done.returncode}"}


def say(line: str) -> None:
    """What is going on, on stderr, where it does not mix with the table."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
