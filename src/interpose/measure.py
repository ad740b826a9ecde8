"""The four runs of every pair and place, batch by batch: checked first, kept as they are finished."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checks import change_of, checked
from .errors import Interrupted, ReplayMismatch, is_memory
from .grid import Group
from .identity import question
from .interventions import Set
from .metrics import Metric, Scored, score
from .model import Model, Run, Work
from .pairs import Pairs
from .progress import Once, bar
from .statistics import Floats
from .store import Block, Store, merged, remaining


@dataclass(frozen=True, eq=False)
class Asked:
    """Which runs with a place written are made.

    both: into the base and into the source, or into the base alone; pinned: what is written at each group of places in
    either input, in place of what it holds in the other one.
    """

    both: bool = True
    pinned: tuple[Mapping[Any, Any], ...] | None = None

    @property
    def told(self) -> str:
        """This in words, for a store's question."""
        words = "interchange" if self.pinned is None else "pinned values"
        return words if self.both else f"{words}, into the base alone"


FOUR = Asked()


@dataclass(frozen=True, eq=False)
class Measured:
    """The runs of the pairs that were finished, the noise floor, the work of checking, and what there is to say."""

    runs: Block
    noise: float
    checks: Work
    said: tuple[str, ...]


def measured(
    model: Model[Any],
    pairs: Pairs,
    groups: Sequence[Group],
    metric: Metric,
    *,
    tol: float | None,
    batch_size: int,
    progress: bool | None,
    store: str | os.PathLike[str] | None,
    key: str | None,
    asked: Asked = FOUR,
) -> Measured:
    """The four runs of all the pairs, or of those that were finished when Ctrl-C stopped it, as `effects` takes them.

    Whether runs repeat, rows are independent and writes arrive is checked before the first batch counts.
    """
    model.comparable(pairs.base, pairs.source, list(dict.fromkeys(place for group in groups for place in group)))
    kept = None if store is None else Store(store, question(model, pairs, groups, metric, key, asked=asked))
    blocks = [] if kept is None else kept.blocks()
    left = remaining(len(pairs), batch_size, blocks)
    with torch.no_grad(), nullcontext() if kept is None else kept.telling():
        if kept is None or kept.noise is None or left:
            first = _at_once(model, pairs, left[0], groups, metric, asked) if left else None
            known = first if first is not None and first.checked else None
            noise, checks = checked(model, pairs, groups, metric, known=known, tol=tol, batch_size=batch_size)
            noise, checks = (noise, checks) if kept is None else kept.begin(noise, checks)
        else:
            first, noise, checks = None, kept.noise, kept.checks
        with bar((1 + asked.both) * len(groups) * len(left), progress) as tick:
            fresh = _fresh(model, pairs, groups, metric, left, first, tick, asked)
            said = _gather(fresh, blocks, kept, len(pairs))
    return Measured(merged(blocks, noise), noise, checks, said)


def measured_together(
    model: Model[Any], several: Sequence[Pairs], groups: Sequence[Group], metric: Metric, *, tol: float | None
) -> list[Measured] | None:
    """The four runs of several data sets in one go, where the model can and all of them have one form; or None."""
    if any(type(pairs.base) is not list or type(pairs.source) is not list for pairs in several):
        return None
    together = Pairs.joined(several)
    found = _at_once(model, together, range(len(together)), groups, metric, FOUR)
    if found is None or not found.checked:
        return None
    noise, checks = checked(model, together, groups, metric, known=found, tol=tol, batch_size=len(together))
    ends = np.cumsum([len(pairs) for pairs in several]).tolist()
    parts = [found.part(end - len(pairs), end) for pairs, end in zip(several, ends, strict=True)]
    return [Measured(part, noise, checks, ()) for part in parts]


def _fresh(
    model: Model[Any],
    pairs: Pairs,
    groups: Sequence[Group],
    metric: Metric,
    left: Sequence[Sequence[int]],
    first: Block | None,
    tick: Callable[[float], object],
    asked: Asked,
) -> Iterator[Block]:
    """The batches that are left, one after the other; the first may be there already."""
    most = max(map(len, left), default=1)
    for number, index in enumerate(left):
        block = first if number == 0 else _at_once(model, pairs, index, groups, metric, asked)
        if block is not None:
            tick((1 + asked.both) * len(groups))
            yield block
        else:
            most = yield from _that_fit(model, pairs, index, groups, metric, tick, asked, most=most)


def _that_fit(
    model: Model[Any],
    pairs: Pairs,
    index: Sequence[int],
    groups: Sequence[Group],
    metric: Metric,
    tick: Callable[[float], object],
    asked: Asked,
    *,
    most: int,
) -> Generator[Block, None, int]:
    """The pairs at index, at most so many at a time; half as many from where they do not fit into memory on.

    Returns how many fit.
    """
    told, done, said = Once(tick), 0, Work()
    while done < len(index):
        part, before = index[done : done + most], told.so_far
        try:
            block = _one_by_one(model, pairs, part, groups, metric, told.scaled(len(part) / len(index)), asked)
        except (RuntimeError, MemoryError) as error:
            if not is_memory(error) or len(part) == 1:
                raise
            most, told.so_far = -(-len(part) // 2), before
            said += Work(notes=(f"{len(part)} pairs do not fit into memory together. They are made in two halves.",))
            warnings.warn(said.notes[-1], ReplayMismatch, stacklevel=5)
        else:
            yield replace(block, work=said + block.work)
            done, said = done + len(part), Work()
    return most


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


def _at_once(
    model: Model[Any], pairs: Pairs, index: Sequence[int], groups: Sequence[Group], metric: Metric, asked: Asked
) -> Block | None:
    """The pairs at index, measured in one go by a model that can; None by others."""
    if asked.pinned is not None:
        return None
    batch = pairs[index]
    runs = model.four_runs(batch.base, batch.source, groups, metric=Scored(metric, batch))
    return None if runs is None else Block(**vars(runs), index=np.asarray(index, np.int64))


def _one_by_one(
    model: Model[Any],
    pairs: Pairs,
    index: Sequence[int],
    groups: Sequence[Group],
    metric: Metric,
    tick: Callable[[float], object],
    asked: Asked,
) -> Block:
    """The pairs at index, measured in runs and sweeps.

    Ticks come to the number of groups a direction, whatever the sweeps tell.
    """
    batch = pairs[index]
    flat = list(dict.fromkeys(place for group in groups for place in group))
    base, source = model.run(batch.base, read=flat), model.run(batch.source, read=flat)
    change = {place: change_of(base[place], source[place], len(batch)) for place in flat}
    response = np.stack([np.max([change[place] for place in group], 0) for group in groups], 1)
    ybb, yss = _array(score(metric, base.output, batch)), _array(score(metric, source.output, batch))
    works = [Work(forwards=2, rows=2 * len(batch))]

    def written(donor: Run[Any]) -> dict[int, dict[Any, Any]]:
        """What to write at each group. A place that holds the same in base and source is not written."""
        if asked.pinned is not None:
            return {j: _pinned(values, donor) for j, values in enumerate(asked.pinned)}
        moved = np.flatnonzero(response.any(0)).tolist()
        return {j: {place: Set(donor[place]) for place in groups[j]} for j in moved}

    def swept(inputs: Any, donor: Run[Any], untouched: Floats) -> tuple[Floats, Any]:
        """[pair, group], and [group], whether it cannot reach the metric; untouched where nothing is written."""
        table, lost, done = untouched[:, None].repeat(len(groups), 1), np.zeros(len(groups), bool), 0.0
        writes = written(donor)

        def told(parts: float) -> None:
            nonlocal done
            step = min(parts, len(writes) - done)
            done += step
            tick(step)

        if writes:
            before, moved = len(works), list(writes)
            scores = model.sweep(inputs, list(writes.values()), metric=Scored(metric, batch, told, works.append))
            table[:, moved] = _array(scores).T
            lost[[moved[k] for work in works[before:] for k in work.unreachable]] = True
        tick(len(groups) - done)
        return table, lost

    ybs, ours = swept(batch.base, source, ybb)
    ysb, theirs = swept(batch.source, base, yss) if asked.both else (yss[:, None].repeat(len(groups), 1), ours)
    return Block(
        index=np.asarray(index, np.int64),
        ybb=ybb,
        yss=yss,
        ybs=ybs,
        ysb=ysb,
        response=response,
        unreachable=np.tile(ours & theirs, (len(batch), 1)),
        work=sum(works, Work()),
    )


def _pinned(values: Mapping[Any, Any], like: Run[Any]) -> dict[Any, Any]:
    """Interventions that set places to fixed values, the same in every row."""
    held = {place: like[place] for place in values}
    return {
        place: Set(_filling(value, held[place]) if isinstance(value, Tensor) else value)
        for place, value in values.items()
    }


# -- small things ----------------------------------------------------------------------------------


def _filling(value: Tensor, held: Any) -> Any:
    """A value for every row of what a place holds; a list of them where rows differ in length."""
    return [value.expand_as(row) for row in held] if isinstance(held, list) else value.expand_as(held)


def _array(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()
