"""One attempt at a sweep with some savings: record, run in passes, and check against plain runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import is_memory
from ..model import Work
from ..structures import mapped, tensors
from ..taps import RunTaps, call
from .axes import another_batch, first_axis, rows_of
from .events import Key, Recorder
from .passes import Conductor, Rows, handed_out, laid_out, run_conducted, run_packed, run_plain, touched
from .plan import Group, Write, budget_rows, entry_of, grouped, halved, portions
from .question import Means, Sweep
from .skip import Comparison, Known
from .spot import Cell, check_cells, culprit, sampled

BLOCK, ROWS = 16, 512
"""How many examples' base run is kept at one time: so many, or more where a block would give fewer rows than this."""

ENOUGH, TOKENS = 2**11, 2**14
"""How many tokens the rows of a packed pass have on a CPU, if there are so many, and at most: products of more are
hardly faster."""

HEAP = 2**25 - 2**16
"""Bytes below the most for which the GNU C library may take memory that it has kept, not new pages of the system."""


@dataclass(frozen=True)
class Base:
    """What the base run of a block of examples gave: the score of each, and what passes need of it.

    rows: the plan of a pass without writes; outcome: a row an example, and control: its scores, as passes compute them.
    outputs: what calls gave that are left out; known: what token-wise calls took and gave.
    """

    block: Tensor
    outputs: Mapping[Key, Any] = field(default_factory=dict)
    known: Known = field(default_factory=dict)
    outcome: Any = None
    control: Tensor | None = None


def attempt(sweep: Sweep, means: Means, live: list[Write], scores: Tensor, tick: Callable[[float], object]) -> Tensor:
    """Fill in the scores of the cells that change. Raises Mismatch, Deviated or NotByRow where a check fails."""
    if not live:
        return scores
    if means.pack and sweep.device.type == "cpu":
        torch.empty(HEAP, dtype=torch.uint8)  # once so much was let go, as much is kept: new pages cost half a second
    groups = _groups(means, live)
    weight = _weights(means, live)
    total = sum(weight[write.number] * len(write.cells) for write in live)
    by_example = hasattr(sweep.metric, "pairs")
    limit = _limit(sweep, means)
    unchecked = set(range(len(groups))) if sweep.engine.check else set()
    cells: list[Cell] = []
    for block in _blocks(sweep, means, groups):
        base = _base_run(sweep, means, groups, block)
        for number, group in enumerate(groups):
            queue = list(portions(group.writes, block, limit, by_example))
            while queue:
                writes, examples = queue.pop(0)
                rows = laid_out(writes, examples, base=means.base_rows)
                try:
                    with another_batch():
                        outcome = _run(sweep, means, group, rows, base)
                except (RuntimeError, MemoryError) as error:
                    if not is_memory(error):
                        raise
                    queue[:0] = halved(writes, examples, by_example, error)
                    sweep.tell(f"A pass of {rows.count} rows does not fit into memory. It is made in two halves.")
                    continue
                _collect(sweep, means, group, rows, base, outcome, scores)
                if number in unchecked:
                    cells += sampled(group, rows, len(groups), by_example)
                    unchecked.discard(number)
                    if not unchecked:
                        check_cells(sweep, means, cells, scores)
                tick(len(live) * sum(weight[write.number] * len(places) for write, _, places in rows.where) / total)
    return scores


def _groups(means: Means, live: list[Write]) -> list[Group]:
    """Writes that run in the same passes: all of them where rows that are not written yet cost nothing."""
    if means.probe is None or means.pack:
        return [Group(tuple(live), 0)]
    return grouped(live, means.probe, base=means.base_rows)


def _weights(means: Means, live: list[Write]) -> dict[int, float]:
    """What a cell of each write costs, by the number of the write."""
    known = means.probe
    if known is None:
        return dict.fromkeys((write.number for write in live), 1.0)
    entries = {write.number: entry_of(write, known) for write in live}
    costs = {entry: known.cost_from(entry) + 1 for entry in set(entries.values())}
    return {number: costs[entry] for number, entry in entries.items()}


# -- the base run ------------------------------------------------------------------------------------


def _blocks(sweep: Sweep, means: Means, groups: list[Group]) -> list[Tensor]:
    """Examples whose base run is kept at one time: as many as fit the budget, or all where they cannot be parted."""
    examples = torch.arange(sweep.given.size)
    whole = any(write.whole for group in groups for write in group.writes)
    if means.probe is None or whole or not hasattr(sweep.metric, "pairs"):
        return [examples]
    rows = min(ROWS, ENOUGH // means.probe.tokens) if means.pack else ROWS
    most = max(BLOCK, rows // sum(len(group.writes) for group in groups))
    if not means.pack:
        kept = sum(event.size + event.size_taken for event in means.probe.events) // means.probe.rows.size
        most = min(most, budget_rows(sweep.engine.budget, kept, sweep.device))
    return list(examples.split(most))


def _base_run(sweep: Sweep, means: Means, groups: list[Group], block: Tensor) -> Base:
    """Run the base of some examples once more, and keep what passes leave out."""
    known, subject = means.probe, sweep.subject
    if known is None or means.pack:
        return Base(block)
    keep: set[int] = set()
    both: set[int] = set()
    for group in groups:
        given = known.given(group.entry) if means.replay else []
        keep |= set(given)
        if means.skip and not means.base_rows:
            both |= known.atoms(given, touched(group.sites, known))
    stand_ins = means.readout.stand_in(block) if means.readout is not None else {}
    keys = {known.events[i].key for i in both}
    recorder = Recorder(subject.paths, {known.events[i].key for i in keep}, keys, stand_ins)
    given = sweep.given.rows(block)
    taps = RunTaps((), {}, subject.modules)
    with another_batch():
        outcome = subject.outcome(call(subject.module, given.args, given.kwargs, taps, recorder.forwards()))
    sweep.work += Work(forwards=1, rows=len(block), flops=len(block) * known.cost_from(-1))
    control = sweep.scored(outcome, block, means.readout)
    sweep.compare(control, block, "The metric")
    taken = {event.key: event for event in recorder.events if event.key in keys}
    pairs = {i: taken[known.events[i].key] for i in both if known.events[i].key in taken}
    return Base(
        block,
        recorder.outputs(),
        {i: (event.called[0][0], event.output) for i, event in pairs.items()},
        outcome,
        control,
    )


# -- a pass ------------------------------------------------------------------------------------------


def _run(sweep: Sweep, means: Means, group: Group, rows: Rows, base: Base) -> Any:
    """The outcome of a pass."""
    subject, known = sweep.subject, means.probe
    if known is None:
        sweep.work += Work(forwards=1, rows=rows.count)
        return subject.outcome(run_plain(subject.module, sweep.given, rows, subject.modules))
    stand_ins = means.readout.stand_in(rows.index) if means.readout is not None else {}
    if means.pack:
        conductor = Conductor(known, subject.paths, {}, None, touched(group.sites, known), means.last_only, stand_ins)
        outcome = run_packed(subject, sweep.given, rows, conductor, sweep.device)
        sweep.work += Work(forwards=1, rows=rows.count, flops=conductor.flops)
        return outcome
    left_out = known.given(group.entry) if means.replay else []
    given = handed_out(known, left_out, base.outputs, rows.index - int(base.block[0]), len(base.block))
    comparison = None
    if means.skip:
        first = 0 if means.base_rows else int(rows.examples[0] - base.block[0])
        comparison = Comparison((rows.owner + first).to(sweep.device), rows.base, base.known)
    conductor = Conductor(
        known, subject.paths, given, comparison, touched(group.sites, known), means.last_only, stand_ins
    )
    output = run_conducted(subject.module, sweep.given, rows, subject.modules, conductor)
    sweep.work += Work(forwards=1, rows=rows.count, flops=conductor.flops)
    return subject.outcome(output)


def _collect(sweep: Sweep, means: Means, group: Group, rows: Rows, base: Base, outcome: Any, scores: Tensor) -> None:
    """The scores of a pass, put in their places; base rows are compared with the plain run."""
    own = torch.arange(len(rows.examples))
    if rows.base:
        untouched = rows_of(outcome, first_axis(outcome), own, rows.count)
        control = sweep.scored(untouched, rows.examples, means.readout)
        sweep.compare(control, rows.examples, lambda: culprit(sweep, means, group))
    else:
        assert base.control is not None
        first = int(rows.examples[0] - base.block[0])
        untouched = rows_of(base.outcome, first_axis(base.outcome), own + first, len(base.block))
        control = base.control[first : first + len(own)]
    anchor = sweep.anchor.index_select(0, rows.examples)
    for write, block, places in rows.where:
        found = rows_of(outcome, first_axis(outcome), torch.arange(block.start, block.stop), rows.count)
        if len(places) < len(own):
            found = _put(untouched, places, found)
        changed = sweep.scored(found, rows.examples, means.readout)
        scores[write.number, rows.examples] = anchor + (changed - control)


def _put(whole: Any, places: Tensor, part: Any) -> Any:
    """A structure with some of its rows from another."""
    parts = tensors(part)
    return mapped(whole, lambda path, x: x.index_copy(0, places.to(x.device), parts[path]))


def _limit(sweep: Sweep, means: Means) -> int:
    """How many rows a pass may have."""
    known = means.probe
    if known is None:
        return budget_rows(sweep.engine.budget, _row_bytes(sweep), sweep.device)
    read = means.readout.path if means.readout is not None else None
    limit = budget_rows(sweep.engine.budget, known.row_bytes(read), sweep.device)
    return min(limit, max(2, TOKENS // known.tokens)) if means.pack and sweep.device.type == "cpu" else limit


def _row_bytes(sweep: Sweep) -> int:
    """A rough size of what a row needs, where nothing is known of the network: of its input and its widest weight."""
    widest = max((max(p.shape, default=1) for p in sweep.subject.module.parameters()), default=1)
    entries = sum(x.numel() * x.element_size() for x in tensors((sweep.given.args, sweep.given.kwargs)).values())
    return 64 * widest + 16 * entries // sweep.given.size
