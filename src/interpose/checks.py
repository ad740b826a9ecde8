"""What is checked before anything is believed: that runs repeat, that rows are independent, that writes arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import BrokenCut, NotRepeatable, WrongMetric, WrongPairs, is_memory
from .grid import Group
from .inputs import count, examples, join, key, take
from .interventions import Set
from .metrics import Metric, name_of, numeric, score
from .model import NOTHING, FourRuns, Model, Run, Work
from .pairs import Pairs
from .statistics import Floats
from .structures import distances

ROUNDING = 1e-3
"""The same row in batches of different sizes may differ by this share of the largest value; more is no rounding."""


def checked(
    model: Model[Any],
    pairs: Pairs,
    groups: Sequence[Group],
    metric: Metric,
    *,
    known: FourRuns | None,
    tol: float | None,
    batch_size: int,
) -> tuple[float, Work]:
    """The noise floor, once every check has passed, and the work of checking. Raises what the checks raise.

    known: what was measured of the first pairs in a way that makes these checks itself, but for that of the cuts.
    """
    counted = _Counted(model)
    if known is None:
        unlike = two_unlike(pairs)
        few = unlike if batch_size > 1 else pairs[:1]
        noise = noise_floor(counted, few, groups, metric, unlike=None if few is unlike else unlike)
    else:
        noise = known.work.noise
    few = pairs[:batch_size]
    while not _fits(lambda few=few: check_cuts(counted, few, groups, metric, max(tol or 0.0, 10 * noise)), few):
        few = few[: -(-len(few) // 2)]
    return noise, counted.work


def _fits(check: Callable[[], None], pairs: Pairs) -> bool:
    """Whether a check of some pairs was made, or else ran out of memory and can be made of fewer."""
    try:
        check()
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error) or len(pairs) == 1:
            raise
        return False
    return True


def noise_floor(
    model: Model[Any], few: Pairs, groups: Sequence[Group], metric: Metric, *, unlike: Pairs | None = None
) -> float:
    """The largest change of the metric that means nothing: of a repeated run, of other batches, of an identity patch.

    few: two pairs are enough to see whether rows are independent and where they lie. With one, that is not asked; then
    unlike, two pairs, tell at least whether the first axis of every place is the pair.
    Raises NotRepeatable if a repeated run differs by more than rounding, or a row by the rows beside it; WrongMetric if
    a metric's own tolerance is less than 10 x what outputs differ by without a reason.
    """
    flat = list(dict.fromkeys(place for group in groups for place in group))
    first, again = repeatable(model, few.base, flat, others=few.source)
    reference, repeated = score(metric, first.output, few), score(metric, again.output, few)
    size = max(1.0, float(reference.abs().max()))
    if unlike is not None:
        _check_axis(model, flat, unlike)
    alone = [few[i : i + 1] for i in range(len(few))]
    runs = [model.run(one.base, read=flat) for one in alone]
    for place in flat:
        _check_rows(place, first[place], [run[place] for run in runs])
    single = torch.cat([score(metric, run.output, one) for run, one in zip(runs, alone, strict=True)])
    if _largest(single - reference) > ROUNDING * size:
        raise NotRepeatable(
            f"The first pairs give {_listed(reference)} together and {_listed(single)} alone: the rows of a batch of "
            f"{model_name(model)} are not independent. Measure pairs one by one with batch_size=1."
        )
    patches = [{place: Set(first[place]) for place in group} for group in (groups[0], groups[-1])]
    patched = [model.run(few.base, write=patch).output for patch in patches]
    _check_tolerance(metric, first.output, [again.output, *patched], [run.output for run in runs])
    scores = [repeated, single, *(score(metric, output, few) for output in patched)]
    return max(_largest(those - reference) for those in scores)


def check_cuts(model: Model[Any], pairs: Pairs, groups: Sequence[Group], metric: Metric, tol: float) -> None:
    """Sites that together carry everything from input to output must, all patched at once, give the source's output.

    Only cuts of which every site is among the groups are checked, on pairs whose base and source hold as much there.
    Raises BrokenCut otherwise: a write that did not reach the network, or a value that was lost on its way.
    """
    cuts: dict[tuple[str, int], list[Any]] = {}
    for group in groups:
        if len(group) == 1 and (cut := getattr(group[0], "cut", None)):
            cuts.setdefault(cut, []).append(group[0])
    whole = {label: places for (label, parts), places in cuts.items() if len(places) == parts}
    if not whole:
        return
    flat = [place for places in whole.values() for place in places]
    base, source = (model.run(side, read=flat) for side in (pairs.base, pairs.source))
    alike = [i for i in range(len(pairs)) if all(base[at][i].shape == source[at][i].shape for at in flat)]
    if len(alike) < len(pairs):  # an ablation takes prompts of two lengths, which cannot be exchanged whole
        if alike:
            check_cuts(model, pairs[alike], groups, metric, tol)
        return
    expected = score(metric, source.output, pairs)
    for label, places in whole.items():
        patched = model.run(pairs.base, write={place: Set(source[place]) for place in places})
        gap = _largest(expected - score(metric, patched.output, pairs))
        if gap > tol + ROUNDING * float(expected.abs().max()):
            raise BrokenCut(
                f"{label} was patched whole from the source, and {name_of(metric)!r} is off by {gap:.3g} from the "
                "source's own. Something passes beside it, or writes are lost (offloaded or replaced weights?). This "
                "scan is not to be trusted."
            )


def check_mixed(model: Model[Any], pairs: Pairs, groups: Sequence[Group], *, sides: Sequence[str]) -> None:
    """Raise WrongPairs for a place that is not the same in all inputs, where values of some are written in others.

    sides: "base", "source", or both.
    """
    flat = list(dict.fromkeys(place for group in groups for place in group))
    first = take(pairs.base, [0] * len(pairs))
    for side in sides:
        model.comparable(getattr(pairs, side), first, flat, (f"the {side}", "the base of pair 0"))


def change_of(ours: Any, theirs: Any, rows: int) -> Floats:
    """[pair]: the largest absolute difference of a place's value; 1 where values that are no numbers differ."""
    if _is_ragged(ours) or _is_ragged(theirs):
        each = [change_of(a[None], b[None], 1) for a, b in zip(ours, theirs, strict=True)]
        return np.concatenate(each) if rows > 1 else np.concatenate(each).max(keepdims=True)
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if ours.shape != theirs.shape:
            raise WrongPairs(
                f"Base and source hold {tuple(ours.shape)} and {tuple(theirs.shape)} at the same place. Pairs need one "
                "length."
            )
        return distances(ours, theirs).reshape(rows, ours.numel() // max(rows, 1)).max(1, initial=0.0)
    return np.array([_apart(a, b) for a, b in zip(ours, theirs, strict=True)])


def two_unlike(pairs: Pairs) -> Pairs:
    """Two pairs whose bases differ, so that rows that mix are seen; if there are none, the first and its converse.

    Of prompts, two of one length where there are any: others do not run together.
    """
    met: dict[Any, tuple[int, Any]] = {}
    unlike: list[int] = []
    for i in range(len(pairs)):
        here = key(examples(take(pairs.base, [i]))[0])
        at, first = met.setdefault(None if pairs.tokens is None else len(pairs.tokens[i]), (i, here))
        if here != first:
            return pairs[[at, i]]
        if not unlike and here != next(iter(met.values()))[1]:
            unlike = [0, i]
    if unlike:
        return pairs[unlike]
    one = pairs[:1]
    return Pairs(
        join(one.base, one.source),
        join(one.source, one.base),
        targets=None if one.targets is None else join(one.targets, one.targets),
        answers=None if one.answers is None else join(one.answers, one.answers),
    )


def repeatable(
    model: Model[Any], inputs: Any, places: Sequence[Any] = (), *, others: Any = None
) -> tuple[Run[Any], Run[Any]]:
    """Two runs of the same inputs, which must give the same but for rounding. Raises NotRepeatable.

    others: inputs to run before a third run, so that what a model remembers of its last run is another.
    """
    model.ready()
    first, again = model.run(inputs, read=places), model.run(inputs, read=places)
    _check_repeats(model, first, again, places)
    if others is not None:
        model.run(others)
        _check_repeats(model, first, model.run(inputs, read=places), places)
    return first, again


def _check_repeats(model: Model[Any], first: Run[Any], again: Run[Any], places: Sequence[Any]) -> None:
    held = [([numeric(run.output)], *([run[place]] for place in places)) for run in (first, again)]
    for (ours,), (theirs,) in zip(*held, strict=True):
        if ours is None or theirs is None:
            continue
        drift = float(change_of(ours, theirs, 1).max(initial=0.0))
        if drift > _rounding(ours) * _size(ours):
            raise NotRepeatable(
                f"Two identical runs of {model_name(model)} disagree, by {drift:.3g}. Something in it is random, or "
                "remembers earlier runs: switch dropout and the like off with module.eval()."
            )


def check_rows_alone(model: Model[Any], inputs: Any, together: Any) -> None:
    """Raise NotRepeatable where the first or last row of a batch gives something else than it does alone."""
    rows = numeric(together)
    for i in (0, count(inputs) - 1) if rows is not None and rows.ndim else ():
        alone = numeric(model.run(take(inputs, [i])).output)
        if alone is None or rows is None:
            continue
        if alone.shape != rows[i : i + 1].shape or change_of(alone, rows[i : i + 1], 1)[0] > ROUNDING * _size(rows):
            raise NotRepeatable(
                f"Input {i} gives {_listed(alone.reshape(-1)[:4])} alone and {_listed(rows[i].reshape(-1)[:4])} in a "
                f"batch: the rows of a batch of {model_name(model)} are not independent."
            )


def model_name(model: Any) -> str:
    """What to call a model: the class of its module, if it wraps one, or its own."""
    model = model.model if isinstance(model, _Counted) else model
    return type(getattr(model, "module", model)).__name__


class _Counted(Model[Any]):
    """A model that counts its runs."""

    def __init__(self, model: Model[Any]) -> None:
        self.model, self.work = model, Work()

    def place(self, spelling: Any) -> Any:
        return self.model.place(spelling)

    def run(self, inputs: Any, *, read: Iterable[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[Any]:
        self.work += Work(forwards=1, rows=count(inputs))
        return self.model.run(inputs, read=read, write=write)

    def ready(self) -> None:
        self.model.ready()


def _check_axis(model: Model[Any], places: Sequence[Any], two: Pairs) -> None:
    try:
        run = model.run(two.base, read=places)
    except Exception:  # noqa: BLE001 - a module that takes one example at a time; measured one by one, that is no mistake
        return
    for place in places:
        held = run[place]
        if isinstance(held, Tensor) and (held.ndim == 0 or len(held) != len(two)):
            raise NotRepeatable(
                f"What {place} holds for {len(two)} pairs is {tuple(held.shape)}: its first axis is not the pair, so "
                "units and positions would be taken from wrong axes. Choose a site whose first axis is the example."
            )


def _check_rows(place: Any, together: Any, alone: Sequence[Any]) -> None:
    if not isinstance(together, Tensor):
        return
    try:
        rows = torch.cat([value.reshape(-1) if value.ndim == 0 else value for value in alone])
    except RuntimeError:
        rows = torch.zeros(0)
    if rows.shape != together.shape or change_of(rows, together, 1)[0] > ROUNDING * _size(together):
        raise NotRepeatable(
            f"What {place} holds for two pairs, {tuple(together.shape)}, is not what it holds for each alone, "
            f"{[tuple(value.shape) for value in alone]}: its first axis is not the pair, or a pair depends on its "
            "neighbours. Choose a site whose first axis is the example; pairs that depend on their neighbours can be "
            "measured one by one, with batch_size=1."
        )


def _check_tolerance(metric: Metric, first: Any, others: Sequence[Any], alone: Sequence[Any]) -> None:
    tol = getattr(metric, "tol", None)
    reference = numeric(first)
    if tol is None or reference is None:
        return
    again = [numeric(other) for other in others]
    rows = [numeric(one) for one in alone]
    if all(row is not None for row in rows):
        again.append(torch.cat([row for row in rows if row is not None]))
    noise = max(_largest(other - reference) for other in again if other is not None and other.shape == reference.shape)
    if 10 * noise > tol:
        raise WrongMetric(
            f"{name_of(metric)!r} takes outputs within {tol:g} as equal, but the same run gives outputs that differ by "
            f"{noise:.2g}. Pass a tolerance of at least {10 * noise:.2g}: metric=ip.Matches(tol=...)."
        )


def _is_ragged(value: Any) -> bool:
    """Whether it is what prompts of unequal length hold: a list, with a tensor for each."""
    return isinstance(value, list) and bool(value) and all(isinstance(row, Tensor) and row.ndim for row in value)


def _apart(a: Any, b: Any) -> float:
    if all(isinstance(value, int | float | np.number | Tensor) for value in (a, b)):
        return float(abs(float(b) - float(a))) if a == a and b == b else float((a == a) != (b == b))
    return float(a != b)


def _rounding(value: Any) -> float:
    """How far two identical runs may differ, as a share of the largest value: a thousand steps of the precision."""
    value = value[0] if _is_ragged(value) else value
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return min(1e3 * torch.finfo(value.dtype).eps, 0.01) if floating else 0.0


def _size(value: Any) -> float:
    if _is_ragged(value):
        return max(map(_size, value))
    return max(1.0, _largest(value[value.isfinite()])) if isinstance(value, Tensor) else 1.0


def _largest(values: Tensor) -> float:
    sizes = values.abs() if values.is_floating_point() or values.is_complex() else values.double().abs()
    return float(sizes.max()) if values.numel() else 0.0


def _listed(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
