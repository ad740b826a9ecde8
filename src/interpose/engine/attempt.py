"""One attempt at a sweep with some savings: record, run in passes, and check against plain runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..interventions import Set
from ..model import Work
from ..structures import mapped, tensors
from ..taps import RunTaps, call
from .axes import close, first_axis, rows_of
from .events import Key, Recorder
from .passes import Conductor, Rows, handed_out, laid_out, only_base, run_conducted, run_plain, touched
from .plan import Group, Write, budget_rows, grouped, halved, portions
from .question import Means, Mismatch, Sweep
from .skip import Comparison, Known

BLOCK, ROWS = 16, 512
"""How many examples' base run is kept at one time: so many, or more where a block would give fewer rows than this."""


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
    known = means.probe
    groups = grouped(live, known, base=means.base_rows) if known is not None else [Group(tuple(live), 0)]
    costs = [known.cost_from(group.entry) + 1 if known is not None else 1.0 for group in groups]
    total = sum(cost * len(write.cells) for cost, group in zip(costs, groups, strict=True) for write in group.writes)
    by_example = hasattr(sweep.metric, "pairs")
    limit = budget_rows(sweep.engine.budget, known.row_bytes if known is not None else _row_bytes(sweep), sweep.device)
    unchecked = set(range(len(groups))) if sweep.engine.check else set()
    for block in _blocks(sweep, means, groups):
        base = _base_run(sweep, means, groups, block)
        for number, (cost, group) in enumerate(zip(costs, groups, strict=True)):
            queue = list(portions(group.writes, block, limit, by_example))
            while queue:
                writes, examples = queue.pop(0)
                rows = laid_out(writes, examples, base=means.base_rows)
                try:
                    outcome = _run(sweep, means, group, rows, base)
                except (RuntimeError, MemoryError) as error:
                    if not _is_memory(error):
                        raise
                    queue[:0] = halved(writes, examples, by_example, error)
                    sweep.tell(f"A pass of {rows.count} rows does not fit into memory. It is made in two halves.")
                    continue
                _collect(sweep, means, group, rows, base, outcome, scores)
                if number in unchecked:
                    _check(sweep, means, group, rows, scores)
                    unchecked.discard(number)
                tick(len(live) * cost * len(rows.owner) / total)
    return scores


# -- the base run ------------------------------------------------------------------------------------


def _blocks(sweep: Sweep, means: Means, groups: list[Group]) -> list[Tensor]:
    """Examples whose base run is kept at one time: as many as fit the budget, or all where they cannot be parted."""
    examples = torch.arange(sweep.given.size)
    whole = any(write.whole for group in groups for write in group.writes)
    if means.probe is None or whole or not hasattr(sweep.metric, "pairs"):
        return [examples]
    kept = sum(event.size + event.size_taken for event in means.probe.events) // means.probe.rows.size
    writes = sum(len(group.writes) for group in groups)
    most = max(BLOCK, ROWS // writes)
    return list(examples.split(min(most, budget_rows(sweep.engine.budget, kept, sweep.device))))


def _base_run(sweep: Sweep, means: Means, groups: list[Group], block: Tensor) -> Base:
    """Run the base of some examples once more, and keep what passes leave out."""
    known, subject = means.probe, sweep.subject
    if known is None:
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
    left_out = known.given(group.entry) if means.replay else []
    given = handed_out(known, left_out, base.outputs, rows.index - int(base.block[0]), len(base.block))
    comparison = None
    if means.skip:
        first = 0 if means.base_rows else int(rows.examples[0] - base.block[0])
        comparison = Comparison((rows.owner + first).to(sweep.device), rows.base, base.known)
    stand_ins = means.readout.stand_in(rows.index) if means.readout is not None else {}
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
        sweep.compare(control, rows.examples, lambda: _culprit(sweep, means, group))
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


# -- checks ------------------------------------------------------------------------------------------


def _check(sweep: Sweep, means: Means, group: Group, rows: Rows, scores: Tensor) -> None:
    """One cell of a pass against a plain run of its example alone. Raises Mismatch where they differ."""
    write, _, places = rows.where[len(rows.where) // 2]
    i = int(rows.examples[places[len(places) // 2]])
    one = torch.tensor([i])
    if write.whole or not hasattr(sweep.metric, "pairs"):
        plain = sweep.scored(sweep.call(sweep.given, write.sites), torch.arange(sweep.given.size))[i]
    else:
        alone = {site: _row_of(new, one) for site, new in write.sites.items()}
        plain = sweep.scored(sweep.call(sweep.given.rows(one), alone), one)[0]
    found = scores[write.number, i]
    apart = float((plain - found).abs())
    if not apart <= sweep.tolerance(max(float(plain.abs()), float(found.abs()))):
        place = " and ".join(map(str, write.sites))
        raise Mismatch(
            f"{_culprit(sweep, means, group)} differs from the plain run by {apart:.2g}, where example {i} runs with "
            f"{place} written in a pass with others."
        )
    sweep.work += Work(noise=apart)


def _culprit(sweep: Sweep, means: Means, group: Group) -> str:
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


def _row_bytes(sweep: Sweep) -> int:
    """A rough size of what a row needs, where nothing is known of the network: of its input and its widest weight."""
    widest = max((max(p.shape, default=1) for p in sweep.subject.module.parameters()), default=1)
    entries = sum(x.numel() * x.element_size() for x in tensors((sweep.given.args, sweep.given.kwargs)).values())
    return 64 * widest + 16 * entries // sweep.given.size


def _row_of(intervention: Any, row: Tensor) -> Any:
    """The same intervention for one example."""
    value = intervention.value
    return Set(value.index_select(0, row.to(value.device))) if isinstance(value, Tensor) else Set(value)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
