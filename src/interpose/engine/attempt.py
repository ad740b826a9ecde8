"""One attempt at a sweep with some savings: record, run in passes, and check against plain runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..interventions import Set
from ..model import Work
from ..structures import tensors
from ..taps import RunTaps, call
from .axes import close, first_axis, rows_of
from .events import Key, Recorder
from .passes import Conductor, Rows, handed_out, laid_out, run_conducted, run_plain, touched
from .plan import Group, Write, budget_rows, grouped, halved, portions
from .probe import Probe
from .question import Means, Mismatch, Sweep
from .skip import Comparison


def attempt(sweep: Sweep, means: Means, live: list[Write], scores: Tensor, tick: Callable[[float], object]) -> Tensor:
    """Fill in the scores of the cells that change. Raises Mismatch, Deviated or NotByRow where a check fails."""
    subject, known = sweep.subject, means.probe
    groups = grouped(live, known) if known is not None else [Group(tuple(live), 0)]
    outputs = _recorded(sweep, known, groups) if known is not None and means.replay else {}
    costs = [known.cost_from(group.entry) + 1 if known is not None else 1.0 for group in groups]
    total = sum(cost * len(write.cells) for cost, group in zip(costs, groups, strict=True) for write in group.writes)
    row_bytes = known.row_bytes if known is not None else _row_bytes(sweep)
    limit = budget_rows(sweep.engine.budget, row_bytes, sweep.device)
    by_example = hasattr(sweep.metric, "pairs")
    for cost, group in zip(costs, groups, strict=True):
        queue = list(portions(group.writes, sweep.given.size, limit, by_example))
        checked = not sweep.engine.check
        while queue:
            writes, examples = queue.pop(0)
            rows = laid_out(writes, examples)
            try:
                outcome = subject.outcome(_run(sweep, means, group, rows, outputs))
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise
                queue[:0] = halved(writes, examples, by_example, error)
                sweep.tell(f"A pass of {rows.count} rows does not fit into memory.")
                continue
            _collect(sweep, means, group, rows, outcome, scores)
            if not checked:
                _check(sweep, rows, scores)
                checked = True
            tick(len(live) * cost * len(rows.owner) / total)
    return scores


def _run(sweep: Sweep, means: Means, group: Group, rows: Rows, outputs: Mapping[Any, Any]) -> Any:
    subject, known = sweep.subject, means.probe
    if known is None:
        sweep.work += Work(forwards=1, rows=rows.count)
        return run_plain(subject.module, sweep.given, rows, subject.modules)
    left_out = known.given(group.entry) if means.replay else []
    given = handed_out(known, left_out, outputs, rows.index, sweep.given.size)
    sites = [site for write, *_ in rows.where for site in write.sites]
    device = sweep.device
    comparison = Comparison(len(rows.examples), rows.owner.to(device)) if means.skip else None
    stand_ins = means.readout.stand_in(rows.index) if means.readout is not None else {}
    conductor = Conductor(known, subject.paths, given, comparison, touched(sites, known), means.last_only, stand_ins)
    output = run_conducted(subject.module, sweep.given, rows, subject.modules, conductor)
    sweep.work += Work(forwards=1, rows=rows.count, flops=conductor.flops)
    return output


def _collect(sweep: Sweep, means: Means, group: Group, rows: Rows, outcome: Any, scores: Tensor) -> None:
    """The scores of a pass, put in their places; base rows are compared with the plain run."""
    axes, size = first_axis(outcome), rows.count
    own = torch.arange(len(rows.examples))
    control = sweep.scored(rows_of(outcome, axes, own, size), rows.examples, means.readout)
    anchor = sweep.anchor.index_select(0, rows.examples)
    noise = float((control - anchor).abs().max())
    if not noise <= sweep.tolerance():
        raise Mismatch(f"{_culprit(sweep, means, group)} differs from the base run by {noise:.2g} when replayed.")
    sweep.work += Work(noise=noise)
    for write, block, places in rows.where:
        index = own.clone()
        index[places] = torch.arange(block.start, block.stop)
        found = sweep.scored(rows_of(outcome, axes, index, size), rows.examples, means.readout)
        scores[write.number, rows.examples] = anchor + (found - control)


def _check(sweep: Sweep, rows: Rows, scores: Tensor) -> None:
    """One cell of a pass against a plain run of its example alone. Raises Mismatch where they differ."""
    write, _, places = rows.where[len(rows.where) // 2]
    i = int(rows.examples[places[len(places) // 2]])
    one = torch.tensor([i])
    if write.whole or not hasattr(sweep.metric, "pairs"):
        plain = sweep.scored(sweep.call(sweep.given, write.sites), torch.arange(sweep.given.size))[i]
    else:
        alone = {site: _row_of(new, one) for site, new in write.sites.items()}
        plain = sweep.scored(sweep.call(sweep.given.rows(one), alone), one)[0]
    apart = float((plain - scores[write.number, i]).abs())
    if not apart <= sweep.tolerance(max(float(plain.abs()), float(scores[write.number].abs().max()))):
        place = " and ".join(map(str, write.sites))
        raise Mismatch(
            f"The run of example {i} that writes {place} gives {float(plain):.6g} alone, and "
            f"{float(scores[write.number, i]):.6g} in a pass with others."
        )


def _culprit(sweep: Sweep, means: Means, group: Group) -> str:
    """The first call that gives something else in a pass than in the recording, as text."""
    known, subject = means.probe, sweep.subject
    if known is None:
        return "The metric of rows that are run together with others"
    found: list[str] = []

    def seen(i: int, output: Any) -> Any:
        recorded, now = tensors(known.events[i].output), tensors(output)
        if not all(path in now and close(now[path], tensor) for path, tensor in recorded.items()):
            found.append(repr(known.events[i].key[0] or type(subject.module).__name__))
        return output

    two = Rows(torch.arange(2), torch.zeros(0, dtype=torch.long), ())
    given = handed_out(known, known.given(group.entry), known.outputs, two.index, 2)
    conductor = Conductor(known, subject.paths, given, None, frozenset(range(len(known.events))), seen=seen)
    run_conducted(subject.module, known.rows, two, subject.modules, conductor)
    return found[0] if found else "The metric"


def _recorded(sweep: Sweep, known: Probe, groups: list[Group]) -> dict[Key, Any]:
    """What the calls gave, for all examples, that some group leaves out."""
    numbers = {i for group in groups for i in known.given(group.entry)}
    if not numbers:
        return {}
    recorder = Recorder(sweep.subject.paths, {known.events[i].key for i in numbers})
    taps = RunTaps((), {}, sweep.subject.modules)
    call(sweep.subject.module, sweep.given.args, sweep.given.kwargs, taps, recorder.forwards())
    sweep.work += Work(forwards=1, rows=sweep.given.size, flops=sweep.given.size * known.cost_from(-1))
    return recorder.outputs()


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
