"""Which cells to run together: the writes of a sweep, grouped by where they enter the network, and cut to a budget."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..interventions import Set
from ..sites import Site
from ..structures import bits
from .probe import Probe, Refused

PASSING = 0.1
"""What a row costs in a layer it passes through unchanged, as a share of what the layer's products would cost."""

CALL = 1e7
"""What making a call once more costs, for whatever rows, in operations: of Python, and of reading its weights."""

SHARE = 0.25
"""The share of the free memory that a pass may take unless told otherwise."""

MOST = 2**30
"""Bytes that a pass on a CPU takes at most unless told otherwise: wider products are not faster there."""


@dataclass(frozen=True)
class Write:
    """One write of a sweep: interventions at sites, and the examples in which they change something.

    number: which of the sweep's writes; cells: the numbers of these examples; whole: whether all of a batch must be
    written at once, because an intervention is a function of what it finds there.
    """

    number: int
    sites: Mapping[Site, Callable[[Any], Any]]
    cells: Tensor
    whole: bool


@dataclass(frozen=True)
class Group:
    """Writes that run in the same passes, and the clock at the first of them."""

    writes: tuple[Write, ...]
    entry: int

    @property
    def sites(self) -> list[Site]:
        """Where they write."""
        return [site for write in self.writes for site in write.sites]


def changed_by(intervention: Callable[[Any], Any], held: Tensor) -> Tensor | None:
    """[row]: whether an intervention changes what a site holds there; None where it is a function of what it finds."""
    if not isinstance(intervention, Set) or not _fits(intervention.value, held):
        return None
    differs = bits(held) != bits(torch.as_tensor(intervention.value).to(held))
    return differs.reshape(len(held), -1).any(1) if held.numel() else differs.new_zeros(len(held))


def changing(
    number: int, sites: Mapping[Site, Callable[[Any], Any]], changed: Sequence[Tensor | None], size: int
) -> Write:
    """A write with the examples in which it changes something, given what `changed_by` says at each of its sites."""
    known = [rows for rows in changed if rows is not None]
    if len(known) < len(changed):
        return Write(number, sites, torch.arange(size), whole=True)
    cells = torch.zeros(size, dtype=torch.bool)
    for rows in known:
        cells |= rows.cpu() if len(rows) == size else bool(rows.any())
    return Write(number, sites, cells.nonzero()[:, 0], whole=False)


def entry_of(write: Write, probe: Probe) -> int:
    """The clock at the first place that is written. Raises Refused where a site's call is not in the recording."""
    return min(clock_at(site, probe) for site in write.sites)


def clock_at(site: Site, probe: Probe) -> int:
    """When a run passes a site. Raises Refused where its module does not run, or runs several times."""
    calls = probe.calls.get(site.path, [])
    if site.occurrence is not None:
        calls = calls[site.occurrence : site.occurrence + 1]
    if len(calls) != 1:
        raise Refused(f"{site} is met {len(calls)} times")
    return calls[0].start - 1 if site.end == "input" else calls[0].end


def grouped(writes: Sequence[Write], probe: Probe, *, base: bool) -> list[Group]:
    """The writes in as many groups as cost least together.

    base: whether every group runs the base rows again from its own entry on. In fewer groups, rows pass unchanged
    through more layers before their own; in more, the same calls are made more often for fewer rows.
    """
    entries: dict[int, list[Write]] = {}
    for write in writes:
        entries.setdefault(entry_of(write, probe), []).append(write)
    clocks = sorted(entries)
    costs = {clock: probe.cost_from(clock) for clock in clocks}
    calls = {clock: CALL * sum(event.end > clock for event in probe.events) for clock in clocks}
    cells = {clock: sum(len(write.cells) for write in entries[clock]) for clock in clocks}
    again = max((len(write.cells) for write in writes), default=0) if base else 0

    def cost(parts: list[list[int]]) -> float:
        passing = [PASSING * sum(cells[clock] for clock in part) for part in parts]
        return sum(costs[part[0]] * (again + rows) + calls[part[0]] for part, rows in zip(parts, passing, strict=True))

    best = min((_parted(clocks, k) for k in range(1, min(len(clocks), 64) + 1)), key=cost)
    return [Group(tuple(write for clock in part for write in entries[clock]), part[0]) for part in best]


def portions(
    group: Sequence[Write], block: Tensor, rows: int, by_example: bool
) -> Iterator[tuple[list[Write], Tensor]]:
    """Writes and examples of a block to run in one pass of at most so many rows: few examples with all writes.

    by_example: whether examples may be run apart from each other at all.
    """
    for examples in _parts(group, block, rows) if by_example else [block]:
        cells = [len(cells_in(write, examples)) for write in group]
        part: list[Write] = []
        count = len(examples)
        for write, more in zip(group, cells, strict=True):
            if part and count + more > rows:
                yield part, examples
                part, count = [], len(examples)
            if more:
                part.append(write)
                count += more
        if part:
            yield part, examples


def _parts(group: Sequence[Write], block: Tensor, rows: int) -> list[Tensor]:
    """Neighbouring examples together as long as their cells, and a base row each, are no more than so many rows."""
    if any(write.whole for write in group):
        return [block]
    counts = torch.ones(len(block), dtype=torch.long)
    for write in group:
        counts[_within(write, block) - int(block[0])] += 1
    sizes = _filled(counts.tolist(), rows)
    even = int(counts.sum()) // len(sizes) + int(counts.max())  # as many parts, of about the same size
    return list(block.split(_filled(counts.tolist(), min(rows, even))))


def _filled(counts: Sequence[int], most: int) -> list[int]:
    """How many neighbours go together, if they may count so much together; one goes alone whatever it counts."""
    sizes: list[int] = []
    left = 0
    for count in counts:
        if sizes and count <= left:
            sizes[-1] += 1
        else:
            sizes.append(1)
            left = most
        left -= count
    return sizes


def halved(
    writes: list[Write], examples: Tensor, by_example: bool, error: BaseException
) -> list[tuple[list[Write], Tensor]]:
    """The same portion in two. Raises the error where it is a single row."""
    if len(examples) > 1 and by_example and not any(write.whole for write in writes):
        middle = len(examples) // 2
        return [(writes, examples[:middle]), (writes, examples[middle:])]
    if len(writes) == 1:
        raise error
    middle = len(writes) // 2
    return [(writes[:middle], examples), (writes[middle:], examples)]


def cells_in(write: Write, examples: Tensor) -> Tensor:
    """The examples of a portion that a write changes."""
    return write.cells if write.whole else _within(write, examples)


def budget_rows(budget: int | None, row_bytes: int, device: torch.device) -> int:
    """How many rows a pass may hold."""
    return max(2, (default_budget(device) if budget is None else budget) // max(1, row_bytes))


def default_budget(device: torch.device) -> int:
    """A share of the memory that is free on a device, in bytes."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return MOST
    return min(MOST, int(SHARE * free))


def _within(write: Write, examples: Tensor) -> Tensor:
    first, last = int(examples[0]), int(examples[-1])
    return write.cells[(write.cells >= first) & (write.cells <= last)]


def _parted(clocks: list[int], parts: int) -> list[list[int]]:
    """Neighbours in so many parts of about the same length."""
    bounds = [round(i * len(clocks) / parts) for i in range(parts + 1)]
    return [clocks[a:b] for a, b in itertools.pairwise(bounds) if b > a]


def _fits(value: Any, held: Tensor) -> bool:
    if isinstance(value, Tensor):
        return value.shape == held.shape and held.ndim > 0
    return isinstance(value, int | float) and not isinstance(value, bool) and held.ndim > 0
