"""Interchange, and the effects that are contrasts of four runs; written once, for any model.

Ybb  base input, untouched        Ybs  base input,   with the source's value at the place
Yss  source input, untouched      Ysb  source input, with the base's value at the place
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checks import change_of, checked, model_name
from .errors import Interrupted, OverlappingWrites, WrongInput, WrongPairs
from .grid import Group
from .identity import check_identity, question
from .interventions import Set
from .metrics import Metric, Scored, is_binary, name_of, require, score
from .model import Model, Run, Work, is_site, meet, several
from .pairs import Pairs
from .results import Effects
from .statistics import Floats
from .store import Block, Store, check_folder, merged, remaining

BATCH = 64
SMALL = 1e-3
"""Differences below this share of the usual total effect count as none, unless told otherwise."""


def interchange(model: Model[Any], base: Any, sources: Mapping[Any, Any]) -> Run[Any]:
    """Run the base with the values that places take in other runs.

    sources: place -> the source input, or place -> (source input, another place to take the value from).
    Each source is run once. Raises what `run` raises; the ledger of the returned run says what was written.
    Source: Geiger et al. 2021.
    """
    if not isinstance(sources, Mapping):
        raise WrongInput(f"sources says where each place's value comes from: {{'h12': source_input}}, not {sources!r}.")
    wanted: dict[Any, tuple[Any, Any]] = {}
    for spelling, source in sources.items():
        if (place := model.place(spelling)) in wanted:
            raise OverlappingWrites(f"{place} is given two sources. Take it from one of them.")
        given, donor = donor_of(source, spelling)
        wanted[place] = given, model.place(donor)
    runs: list[tuple[Any, Run[Any]]] = []
    for source, _ in wanted.values():
        if not any(source is known for known, _ in runs):
            places = [donor for other, donor in wanted.values() if other is source]
            runs.append((source, model.run(source, read=places)))
    writes = {
        place: Set(next(run for known, run in runs if known is source)[donor])
        for place, (source, donor) in wanted.items()
    }
    return model.run(base, read=list(writes), write=writes)


def effects(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    tol: float | None = None,
    batch_size: int = BATCH,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Effects:
    """Total, natural direct and indirect effects of each place: four runs a pair, all of them kept.

    places: places or their spellings; a list or tuple of places is written together.
    metric: (output, pairs) -> [pair]. tol: what counts as no difference, in the metric's units; by default a thousandth
    of the median |TE|, where that is not zero, and never less than 10 x the noise floor.
    progress: a bar on stderr; None shows it in terminals and notebooks, after a second.
    store: a folder that keeps every finished batch; the same call goes on where it was stopped. key: a name for what
    cannot be told from another by looking at it, such as a lambda.

    Before the first pair is measured, the model is run twice and in other batches: NotRepeatable if that changes it.
    Stopped by Ctrl-C without a store, it returns the finished pairs with a warning, Interrupted.
    Raises WrongPairs for no pairs or lacking parts, UnknownPlace, WrongStore, and what `run` and the metric raise.
    Source: natural effects, Robins & Greenland 1992 and Pearl 2001; of neurons, Vig et al. 2020.
    """
    check_question(model, pairs, metric, store, key)
    groups = [_group(model, place) for place in listed(places)]
    if batch_size < 1:
        raise WrongInput(f"batch_size={batch_size}: at least one pair must be run at a time.")
    if not groups:
        raise WrongInput("There are no places to measure. Give some, as in net.neurons('l1').")
    if not len(pairs):
        raise WrongPairs("There are no pairs to measure: an effect of no pairs is not defined.")
    kept = None if store is None else Store(store, question(model, pairs, groups, metric, key))
    blocks = [] if kept is None else kept.blocks()
    left = remaining(len(pairs), batch_size, blocks)
    with torch.no_grad(), nullcontext() if kept is None else kept.telling():
        if kept is None or kept.noise is None or left:
            noise, checks = checked(model, pairs, groups, metric, tol=tol, batch_size=batch_size)
            noise, checks = (noise, checks) if kept is None else kept.begin(noise, checks)
        else:
            noise, checks = kept.noise, kept.checks
        with _bar(2 * len(groups) * len(left), progress) as tick:
            fresh = (_four_runs(model, pairs, index, groups, metric, tick) for index in left)
            said = _gather(fresh, blocks, kept, len(pairs))
    return _effects(model, pairs, groups, metric, tol, noise, checks, merged(blocks, noise), said)


def _gather(fresh: Iterator[Block], blocks: list[Block], kept: Store | None, size: int) -> tuple[str, ...]:
    """Add what is measured to blocks, one after the other; what to say if Ctrl-C stopped it."""
    try:
        for block in fresh:
            if kept is not None:
                kept.keep(block)
            blocks.append(block)
    except KeyboardInterrupt:
        if kept is not None or not blocks:
            raise
        said = f"Stopped after {sum(map(len, blocks))} of {size} pairs."
        warnings.warn(said, Interrupted, stacklevel=3)
        return (said,)
    return ()


def _effects(
    model: Model[Any],
    pairs: Pairs,
    groups: Sequence[Group],
    metric: Metric,
    tol: float | None,
    noise: float,
    checks: Work,
    found: Block,
    said: tuple[str, ...],
) -> Effects:
    """The result over the pairs that were measured, which are all of them or the first."""
    if tol is None:
        sizes = np.abs(found.yss - found.ybb)
        tol = SMALL * float(np.median(sizes) or sizes.max() or 1.0)
    noise = max(noise, found.work.noise)
    return Effects(
        model=model_name(model),
        metric=name_of(metric),
        binary=is_binary(metric),
        pairs=pairs if len(found) == len(pairs) else pairs[: len(found)],
        places=tuple(groups),
        ybb=found.ybb,
        yss=found.yss,
        ybs=found.ybs,
        ysb=found.ysb,
        response=found.response,
        tol=max(tol, 10 * noise),
        noise=noise,
        warnings=said,
        work=checks + found.work,
        unreachable=found.unreachable,
    )


def _four_runs(
    model: Model[Any],
    pairs: Pairs,
    index: Sequence[int],
    groups: Sequence[Group],
    metric: Metric,
    tick: Callable[[float], object],
) -> Block:
    """The pairs at index, measured. Ticks come to twice the number of groups, whatever the sweeps tell."""
    batch = pairs[index]
    flat = list(dict.fromkeys(place for group in groups for place in group))
    base, source = model.run(batch.base, read=flat), model.run(batch.source, read=flat)
    change = {place: change_of(base[place], source[place], len(batch)) for place in flat}
    response = np.stack([np.max([change[place] for place in group], 0) for group in groups], 1)
    ybb, yss = score(metric, base.output, batch), score(metric, source.output, batch)
    moved = np.flatnonzero(response.any(0)).tolist()
    works = [Work(forwards=2, rows=2 * len(batch))]

    def swept(inputs: Any, donor: Run[Any], untouched: Tensor) -> tuple[Floats, Any]:
        """[pair, group], and [group], whether it cannot reach the metric.

        A place that holds the same in base and source is not written: its effects are exactly 0.
        """
        table, lost, done = _array(untouched)[:, None].repeat(len(groups), 1), np.zeros(len(groups), bool), 0.0

        def told(writes: float) -> None:
            nonlocal done
            step = min(writes, len(moved) - done)
            done += step
            tick(step)

        if moved:
            writes = [{place: Set(donor[place]) for place in groups[j]} for j in moved]
            before = len(works)
            scores = model.sweep(inputs, writes, metric=Scored(metric, batch, told, works.append))
            table[:, moved] = _array(scores).T
            lost[[moved[k] for work in works[before:] for k in work.unreachable]] = True
        tick(len(groups) - done)
        return table, lost

    (ybs, ours), (ysb, theirs) = swept(batch.base, source, ybb), swept(batch.source, base, yss)
    return Block(
        index=np.asarray(index, np.int64),
        ybb=_array(ybb),
        yss=_array(yss),
        ybs=ybs,
        ysb=ysb,
        response=response,
        unreachable=np.tile(ours & theirs, (len(batch), 1)),
        work=sum(works, Work()),
    )


# -- small things ----------------------------------------------------------------------------------


def check_question(model: Any, pairs: Any, metric: Any, store: Any = None, key: str | None = None) -> None:
    """Raise WrongInput, WrongPairs, WrongMetric or WrongStore for what is no model, no pairs, no metric for them, or
    nothing that a store could tell from another.
    """
    if not hasattr(model, "place"):
        wrap = f": Network({type(model).__name__}(...))" if isinstance(model, nn.Module) else ""
        raise WrongInput(f"{type(model).__name__} is no model. Give a Network or a CausalModel first{wrap}.")
    if not isinstance(pairs, Pairs):
        raise WrongPairs(f"{type(pairs).__name__} is no Pairs. Make some: Pairs(base, source), or Pairs.varying(...).")
    require(metric, pairs)
    check_folder(store, key)
    if store is not None:
        check_identity(model, metric, key)


def listed(places: Iterable[Any]) -> list[Any]:
    """Places as a list. Raises WrongInput for a single one, or for a dict, whose values would be ignored."""
    if isinstance(places, Mapping):
        raise WrongInput(
            "Effects interchange values between base and source, so places come without values. To write values of "
            "your own, call model.run(inputs, write={...})."
        )
    return several(places)


def donor_of(source: Any, place: Any) -> tuple[Any, Any]:
    """The source input, and the place to take a value from: the same one, or the one named beside the source."""
    renamed = isinstance(source, tuple) and len(source) == 2 and (isinstance(source[1], str) or is_site(source[1]))
    return source if renamed else (source, place)


def _group(model: Model[Any], place: Any) -> Group:
    group = tuple(model.place(one) for one in place) if isinstance(place, list | tuple) else (model.place(place),)
    for one, other in itertools.combinations(group, 2):
        if meet(one, other):
            raise OverlappingWrites(
                f"{one} and {other} share units and cannot be written together. Leave one of them out."
            )
    return group


def _array(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


@dataclass
class _Bar:
    bar: Any

    def __enter__(self) -> Callable[[float], object]:
        return self.bar.update if self.bar is not None else lambda runs: None

    def __exit__(self, *failure: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def _bar(total: int, progress: bool | None) -> _Bar:
    """A progress bar in terminals and notebooks for what takes longer than a second, or as told."""
    shown = (sys.stderr.isatty() or "ipykernel" in sys.modules) if progress is None else progress
    if not shown:
        return _Bar(None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*IProgress.*")
        from tqdm.auto import tqdm
    shape = "{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
    delay = 1 if progress is None else 0
    return _Bar(tqdm(total=total, unit="run", leave=False, delay=delay, bar_format=shape))
