"""Sampled cells of passes beside plain runs: whatever a saving leaves out, these must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..interventions import Set
from ..model import Work
from ..structures import tensors
from .axes import another_batch, close
from .passes import Conductor, Rows, handed_out, only_base, run_conducted, run_plain
from .plan import Group, Write
from .question import Means, Mismatch, Sweep

CELLS = 8
"""How many cells of a sweep are looked at, or one a group of writes if there are more groups."""


@dataclass(frozen=True)
class Cell:
    """One write and one example. whole: whether it runs plainly only with the whole batch."""

    group: Group
    write: Write
    example: int
    whole: bool


def sampled(group: Group, rows: Rows, groups: int, by_example: bool) -> list[Cell]:
    """Cells of a pass, from its writes in turn, and some of writes of a whole batch; groups: how many groups there are.

    by_example: whether examples may be run apart from each other.
    """
    count = min(len(rows.where), -(-CELLS // groups))
    chosen = [(2 * k + 1) * len(rows.where) // (2 * count) for k in range(count)]
    chosen += [k for k, (write, _, _) in enumerate(rows.where) if write.whole][:count]
    found = []
    for k, which in enumerate(dict.fromkeys(chosen)):
        write, _, places = rows.where[which]
        example = int(rows.examples[places[(2 * (k % count) + 1) * len(places) // (2 * count)]])
        found.append(Cell(group, write, example, not by_example or write.whole))
    return found


def check_cells(sweep: Sweep, means: Means, cells: list[Cell], scores: torch.Tensor) -> None:
    """The scores of cells beside a plain run with a row for each, and of the first alone. Raises Mismatch."""
    for cell in (cell for cell in cells if cell.whole):
        outcome = sweep.call(sweep.given, cell.write.sites)
        _compare(sweep, means, cell, sweep.scored(outcome, torch.arange(sweep.given.size))[cell.example], scores)
    if single := [cell for cell in cells if not cell.whole]:
        one = torch.tensor([single[0].example])
        alone = {site: _row_of(new, one) for site, new in single[0].write.sites.items()}
        plain = sweep.scored(sweep.call(sweep.given.rows(one), alone), one)
        _compare(sweep, means, single[0], plain[0], scores)
        for cell, score in zip(single, _together(sweep, single), strict=True):
            _compare(sweep, means, cell, score, scores)


def _together(sweep: Sweep, cells: list[Cell]) -> torch.Tensor:
    """[cell]: the scores of a pass in which every call is made for every row."""
    own = torch.arange(len(cells))
    where = tuple((cell.write, slice(i, i + 1), own[i : i + 1]) for i, cell in enumerate(cells))
    rows = Rows(torch.tensor([cell.example for cell in cells]), 0, own, where)
    sweep.work += Work(forwards=1, rows=rows.count, flops=rows.count * sweep.row_flops)
    with another_batch():
        outcome = sweep.subject.outcome(run_plain(sweep.subject.module, sweep.given, rows, sweep.subject.modules))
    return sweep.scored(outcome, rows.examples)


def _compare(sweep: Sweep, means: Means, cell: Cell, plain: torch.Tensor, scores: torch.Tensor) -> None:
    found = scores[cell.write.number, cell.example]
    apart = float((plain - found).abs())
    if not apart <= sweep.tolerance(max(float(plain.abs()), float(found.abs()))):
        place = " and ".join(map(str, cell.write.sites))
        raise Mismatch(
            f"{culprit(sweep, means, cell.group)} differs from the plain run by {apart:.2g}, where example "
            f"{cell.example} runs with {place} written in a pass with others."
        )
    sweep.work += Work(noise=apart)


def culprit(sweep: Sweep, means: Means, group: Group) -> str:
    """The first call that gives something else in a pass than in the recording, as text."""
    known, subject = means.probe, sweep.subject
    if known is None:
        return "The metric"
    found: list[str] = []

    def seen(i: int, output: Any) -> Any:
        recorded, now = tensors(known.events[i].output), tensors(output)
        if not all(path in now and close(now[path], tensor) for path, tensor in recorded.items()):
            found.append(repr(known.events[i].key[0] or type(subject.module).__name__))
        return output

    two = only_base(2)
    given = handed_out(known, known.given(group.entry) if means.replay else [], known.outputs, two.index, 2)
    conductor = Conductor(known, subject.paths, given, None, frozenset(range(len(known.events))), seen=seen)
    run_conducted(subject.module, known.rows, two, subject.modules, conductor)
    return found[0] if found else "The metric"


def _row_of(intervention: Any, row: torch.Tensor) -> Any:
    """The same intervention for one example."""
    value = intervention.value
    return Set(value.index_select(0, row.to(value.device))) if isinstance(value, torch.Tensor) else Set(value)
