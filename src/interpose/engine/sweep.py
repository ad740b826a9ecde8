"""A sweep by the engine: with all the savings that hold, and with fewer where a check fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..model import Work, untold
from ..progress import Once
from ..sites import Site
from ..structures import tensors
from ..taps import NotByRow, RunTaps, call
from .attempt import attempt
from .axes import Deviated
from .cone import find_last_only, find_unreachable
from .packed import Unpacked
from .plan import Write, budget_rows, changed_by, changing, grouped
from .probe import SMALL, Given, Probe, Refused, operations, probe
from .question import Engine, Interventions, Means, Mismatch, Subject, Sweep
from .readout import readout_of
from .skip import SMALLEST


def swept(
    subject: Subject,
    arguments: tuple[Any, Any],
    writes: Sequence[Interventions],
    metric: Callable[[Any], Tensor],
    engine: Engine,
) -> Tensor:
    """[write, example]: the metric of a run a write, in few passes. Raises Refused where that cannot be done.

    The score of a row is that of the plain base run, and the distance from the row's base row in its pass: what batches
    of other shapes differ by cancels, and a write that changes nothing has the score of the base run itself.
    """
    written: dict[Site, dict[int, Callable[[Any], Any]]] = {}
    for j, write in enumerate(writes):
        for site, intervention in write.items():
            written.setdefault(site, {})[j] = intervention

    def changed(site: Site, held: Tensor) -> dict[int, Tensor | None]:
        return {j: changed_by(intervention, held) for j, intervention in written[site].items()}

    taps = RunTaps(list(written), {}, subject.modules, keep=changed)
    outcome = subject.outcome(call(subject.module, *arguments, taps))
    anchor = metric(outcome)
    if not isinstance(anchor, Tensor) or anchor.ndim != 1 or not len(anchor):
        raise Refused("the metric does not give one number an example")
    given = Given(*arguments, len(anchor))
    given.rows(torch.zeros(1, dtype=torch.long))
    if not (held := tensors(outcome)) or any(not x.ndim or len(x) != len(anchor) for x in held.values()):
        raise Refused("the first axis of the output is not the example")
    sweep = Sweep(subject, given, metric, anchor, engine, Work(forwards=1, rows=len(anchor)))
    known = taps.values
    planned = [changing(j, write, [known[site][j] for site in write], len(anchor)) for j, write in enumerate(writes)]
    del outcome, held  # what the plain run gave is not kept
    live = [write for write in planned if len(write.cells)]
    tick = getattr(metric, "tick", untold)
    tick(len(planned) - len(live))
    scores = anchor.repeat(len(writes), 1)
    if live:
        scores = _by_the_best_means(sweep, live, scores, tick)
    getattr(metric, "record", untold)(sweep.work)
    return scores


# -- with fewer and fewer savings --------------------------------------------------------------------


def _by_the_best_means(sweep: Sweep, live: list[Write], scores: Tensor, tick: Callable[[float], object]) -> Tensor:
    failed: Exception | None = None
    told = Once(tick)
    for means, reachable in _ladder(sweep, live):
        told.so_far = 0.0
        told(len(live) - len(reachable))
        try:
            found = attempt(sweep, means, reachable, scores.clone(), told)
        except Unpacked as reason:
            sweep.work += Work(notes=(f"Not packed: {reason}.",))
            continue
        except (Mismatch, Deviated, NotByRow) as reason:
            failed = failed or reason
            continue
        unreachable = frozenset(write.number for write in live) - {write.number for write in reachable}
        sweep.work = replace(sweep.work + Work(means.names), unreachable=unreachable)
        if failed is not None:
            sweep.tell(f"{failed} This sweep goes on with {' and '.join(means.names)}.")
        return found
    if sweep.given.size > 1 and not isinstance(failed, NotByRow):  # alone in its batch, an example may be so on purpose
        sweep.tell(f"{failed} This sweep makes one run a write.")
    raise Refused(str(failed))


def _ladder(sweep: Sweep, live: list[Write]) -> Iterator[tuple[Means, list[Write]]]:
    """The savings to try, all of them first; with each, the writes from which something leads to the outcome."""
    rows = Means(("rows over sites",))
    known = _probed(sweep, live)
    if known is not None:
        steps = [replace(rows, probe=known)]
        if sweep.engine.replay is not False:
            steps.append(replace(steps[-1], names=("replay", *steps[-1].names), replay=True))
        if sweep.engine.skip is not False:
            steps.append(
                replace(steps[-1], names=("compare and skip", *steps[-1].names), skip=True, base_rows=sweep.is_rough)
            )
        best, reachable = _with_cone(sweep, _with_readout(sweep, steps[-1], live), live)
        if best.skip and sweep.engine.pack is not False:
            names = ("packed", *(name for name in best.names if name != "replay"))
            yield replace(best, names=names, pack=True, replay=False, base_rows=True), reachable
        if best != steps[-1] or len(reachable) < len(live):
            yield best, reachable
        for step in reversed(steps[1:]):
            yield step, live
    yield rows, live


def _probed(sweep: Sweep, live: Sequence[Write]) -> Probe | None:
    """What two rows tell of the network, where it is worth asking."""
    subject, engine = sweep.subject, sweep.engine
    forced = True in (engine.replay, engine.skip, engine.cone)
    if engine.replay is False and engine.skip is False:
        return None
    if not forced:
        entries = max(tensor[0].numel() for tensor in tensors((sweep.given.args, sweep.given.kwargs)).values())
        if operations(subject.module, entries, sum(len(write.cells) for write in live)) < SMALL:
            return None
    smallest = 0 if engine.skip else SMALLEST
    try:
        known = probe(subject.module, subject.paths, subject.modules, sweep.given, smallest)
        grouped(live, known, base=True)
    except Refused as reason:
        sweep.work += Work(notes=(f"No replay: {reason}.",))
        return None
    sweep.work += Work(forwards=2, rows=3, flops=3 * known.cost_from(-1))
    return known


def _with_cone(sweep: Sweep, means: Means, live: list[Write]) -> tuple[Means, list[Write]]:
    """What nothing that is read depends on is left out."""
    subject, known = sweep.subject, means.probe
    if known is None or sweep.engine.cone is False:
        return means, live
    rows = min(512, budget_rows(sweep.engine.budget, known.row_bytes(), sweep.device))
    try:
        unreachable = find_unreachable(subject, known, live, rows, means.readout)
        last = find_last_only(subject, known, means.readout) if subject.reads_last and means.skip else frozenset()
    except Exception:  # noqa: BLE001 - a module may refuse NaN; then nothing is known of what it depends on
        return means, live
    if last:
        means = replace(means, names=("cone", *means.names), last_only=last)
    return means, [write for write in live if write.number not in unreachable]


def _with_readout(sweep: Sweep, means: Means, live: list[Write]) -> Means:
    """Only the outputs that the metric reads are computed."""
    path = sweep.subject.unembedding() if sweep.engine.columns else None
    readout = readout_of(sweep.subject.modules, path, sweep.metric)
    if readout is None or any(site.path in (path, "") for write in live for site in write.sites):
        return means
    return replace(means, names=("columns", *means.names), readout=readout)
