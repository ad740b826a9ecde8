"""A sweep by the engine: with all the savings that hold, and with fewer where a check fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import is_memory
from ..model import Work, untold
from ..progress import Once
from ..sites import Site
from ..structures import tensors, told
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
from .watch import Watch


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
    watch = Watch(subject.modules)
    with watch if engine.check else nullcontext():
        output = call(subject.module, *arguments, taps)
    watch.refuse()
    outcome = subject.outcome(output)
    anchor = metric(outcome)
    if not isinstance(anchor, Tensor) or anchor.ndim != 1 or not len(anchor):
        raise Refused("the metric does not give one number an example")
    if anchor.dtype == torch.bool or not bool(anchor.isfinite().all()):
        raise Refused("the metric does not give numbers that can be subtracted")
    given = Given(*arguments, len(anchor))
    if not (held := tensors(outcome)) or any(not x.ndim or len(x) != len(anchor) for x in held.values()):
        raise Refused("the first axis of the output is not the example")
    _refuse_other_axes(subject, given, list(written))
    sweep = Sweep(subject, given, metric, anchor, engine, Work(forwards=2, rows=len(anchor) + 1))
    sizes = [float(x.detach().abs().max()) for x in held.values() if x.is_floating_point() and x.numel()]
    sweep.largest = max((size for size in sizes if size < torch.inf), default=1.0)
    known = taps.values
    planned = [changing(j, write, [known[site][j] for site in write], len(anchor)) for j, write in enumerate(writes)]
    del output, outcome, held  # what the plain run gave is not kept
    live = [write for write in planned if len(write.cells)]
    tick = getattr(metric, "tick", untold)
    tick(len(planned) - len(live))
    scores = anchor.repeat(len(writes), 1)
    if live:
        scores = _by_the_best_means(sweep, live, scores, tick)
    getattr(metric, "record", untold)(sweep.work)
    return scores


def _refuse_other_axes(subject: Subject, given: Given, sites: Sequence[Site]) -> None:
    """Raise Refused where the first axis of a site is not that of examples: alone, one would not be one entry of it."""
    taps = RunTaps(sites, {}, subject.modules, keep=lambda site, held: held.shape[:1])
    one = given.rows(torch.zeros(1, dtype=torch.long))
    try:
        call(subject.module, one.args, one.kwargs, taps)
    except Exception as reason:
        if is_memory(reason):
            raise
        raise Refused(f"the first example does not run alone as it does beside others: {told(reason)}") from reason
    if other := next((site for site, length in taps.values.items() if length != (1,)), None):
        raise Refused(f"the first axis of {other} is not the example")


# -- with fewer and fewer savings --------------------------------------------------------------------


def _by_the_best_means(sweep: Sweep, live: list[Write], scores: Tensor, tick: Callable[[float], object]) -> Tensor:
    failed: Exception | None = None
    once = Once(tick)
    for means in _ladder(sweep, live):
        once.so_far = 0.0
        try:
            found = attempt(sweep, means, live, scores.clone(), once)
        except Unpacked as reason:
            sweep.work += Work(notes=(f"Not packed: {reason}.",))
            continue
        except (Mismatch, Deviated, NotByRow) as reason:
            failed = failed or reason
            continue
        sweep.work = replace(sweep.work + Work(means.names), unreachable=_without_effect(sweep, means, found))
        if failed is not None:
            sweep.tell(f"{failed} This sweep goes on with {' and '.join(means.names)}.")
        return found
    if sweep.given.size > 1 and not isinstance(failed, NotByRow):  # alone in its batch, an example may be so on purpose
        sweep.tell(f"{failed} This sweep makes one run a write.")
    raise Refused(str(failed).removesuffix("."))


def _without_effect(sweep: Sweep, means: Means, found: Tensor) -> frozenset[int]:
    """The writes of which nothing leads to the outcome for two examples, and nothing arrives for any, but rounding.

    Their scores become those of the base run.
    """
    lost = [j for j in means.unreachable if float((found[j] - sweep.anchor).abs().max()) <= sweep.work.noise]
    found[lost] = sweep.anchor
    return frozenset(lost)


def _ladder(sweep: Sweep, live: list[Write]) -> Iterator[Means]:
    """The savings to try, all of them first."""
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
        narrow = _with_readout(sweep, steps[-1], live)
        best = [_with_cone(sweep, narrow, live)]
        yield from _packed(sweep, best[0])
        if narrow is not steps[-1]:  # what comes after the last layer may want all that it gives
            best.append(_with_cone(sweep, steps[-1], live))
            yield from _packed(sweep, best[1])
        yield from (means for means in best if means != steps[-1])
        yield from reversed(steps[1:])
    yield rows


def _packed(sweep: Sweep, means: Means) -> Iterator[Means]:
    """The same savings in packed passes, where these can be made: nothing is to keep what goes through them."""
    if means.probe is None or not means.skip or sweep.engine.pack is False:
        return
    if (path := means.probe.leaves) is not None:
        sweep.work += Work(notes=(f"Not packed: {path or 'the module'} keeps something of what goes through it.",))
        return
    names = ("packed", *(name for name in means.names if name != "replay"))
    yield replace(means, names=names, pack=True, replay=False, base_rows=True)


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
    except Exception as reason:
        if is_memory(reason):
            raise
        sweep.work += Work(notes=(f"No replay: {reason if isinstance(reason, Refused) else told(reason)}.",))
        return None
    sweep.row_flops = known.cost_from(-1)
    sweep.work += Work(forwards=2, rows=3, flops=(sweep.work.rows + 3) * sweep.row_flops)
    return known


def _with_cone(sweep: Sweep, means: Means, live: list[Write]) -> Means:
    """What nothing that is read depends on is left out, or is known not to.

    Not asked of a module that keeps something: NaN would stay there. What a function of a whole batch finds must be
    all there.
    """
    subject, known = sweep.subject, means.probe
    if known is None or sweep.engine.cone is False or known.leaves is not None:
        return means
    rows = min(512, budget_rows(sweep.engine.budget, known.row_bytes(), sweep.device))
    wanted = subject.reads_last and means.skip and not any(write.whole for write in live)
    try:
        means = replace(means, unreachable=frozenset(find_unreachable(subject, known, live, rows, means.readout)))
        last = find_last_only(subject, known, means.readout) if wanted else frozenset()
    except Exception:  # noqa: BLE001 - a module may refuse NaN; then nothing is known of what it depends on
        return means
    return replace(means, names=("cone", *means.names), last_only=last) if last else means


def _with_readout(sweep: Sweep, means: Means, live: list[Write]) -> Means:
    """Only the outputs that the metric reads are computed."""
    path = sweep.subject.unembedding() if sweep.engine.columns else None
    readout = readout_of(sweep.subject.modules, path, sweep.metric)
    if readout is None or any(site.path in (path, "") for write in live for site in write.sites):
        return means
    return replace(means, names=("columns", *means.names), readout=readout)
