"""Ablations: what a place is worth when its value is replaced by nothing in particular. No mediation effect.

A value that no input gives leaves the data, and what the network then does may say little about what it does on data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checks import check_mixed, checked, model_name
from .effects import BATCH, check_pairs, check_question, grouped, listed
from .errors import BadIntervention, WrongInput
from .grid import Group, label_of
from .inputs import take
from .interventions import Noise, Scale, Set
from .metrics import Metric, Scored, name_of, score
from .model import Model, Work, read_all
from .pairs import Pairs
from .quantities import Warned
from .statistics import LEVEL, Estimates, Floats, Resampling, exhaustive, number
from .tables import Table, Tabled


@dataclass(frozen=True)
class Mean:
    """Ablation by the mean of a place over the base inputs, position by position."""


@dataclass(frozen=True)
class Resample:
    """Ablation by the value of a place in the base input of another pair, drawn at random; seed: of the draw."""

    seed: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Ablated(Tabled):
    """Each base run with a place ablated: y [pair, place], beside the untouched ybb [pair]. docs/effects.md says more.

    by: what the value was replaced with, in words; way: the same as it was given, with its sigma and seed; samples: how
    many draws y is the mean of.
    """

    model: str
    metric: str
    by: str
    way: Any
    samples: int
    pairs: Pairs
    places: tuple[Group, ...]
    ybb: Floats
    y: Floats
    noise: float
    work: Work

    @property
    def effect(self) -> Floats:
        """[pair, place]: Y(base, place ablated) - Ybb."""
        return self.y - self.ybb[:, None]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each place is called."""
        return tuple(map(label_of, self.places))

    @cached_property
    def mean(self) -> Estimates:
        """The mean effect at each place, with its interval."""
        return over_pairs(self.pairs, self.effect, self.noise)

    @cached_property
    def size(self) -> Estimates:
        """The mean size of the effect at each place, with its interval."""
        return over_pairs(self.pairs, np.abs(self.effect), self.noise)

    def notes(self) -> tuple[Warned, ...]:
        """What a reader should know beside the numbers."""
        if self.by.startswith("resampled"):
            return ()
        said = f"Places are {self.by}, which no input may give: an ablation, off the data, and no mediation effect."
        return (Warned("off_support", said),)

    def table(self, *, most: int = 20) -> Table:
        """One row a place, the largest mean size first."""
        order = np.argsort(-self.size.estimate, kind="stable")
        rows = tuple(
            (self.labels[j], self.mean.shown(j), self.mean.text(j), self.size.shown(j), self.size.text(j))
            for j in order[:most]
        )
        rest = (f"{len(order) - most} more places are in .effect.",) if len(order) > most else ()
        interval = f"{100 * LEVEL:.0f} % interval"
        title = f"Ablation, {self.by}: {self.metric}, {self.model}, {len(self.pairs)} base inputs"
        return Table(title, ("place", "mean", interval, "mean size", interval + " of it"), rows, (*rest, *self.notes()))


def over_pairs(pairs: Pairs, values: Floats, noise: float) -> Estimates:
    """The mean of each column of values [pair, place], with its interval over pairs."""
    found = Resampling(pairs.clusters()).ratio(values, tol=10 * noise)
    return exhaustive(found) if pairs.exhaustive else found


def ablate(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    by: Any = 0.0,
    samples: int = 1,
    batch_size: int = BATCH,
) -> Ablated:
    """What each place is worth to the base run: Y(base, place ablated) - Ybb, an ablation and no mediation effect.

    by: a number that fills the place (0 is zero ablation), `Mean()` over the base inputs, `Resample(seed)` from another
    base input, `Noise(std, seed)` on top of what is there, or any intervention old -> new.
    samples: of how many draws of `Noise` or `Resample` the mean is taken, pair by pair. Noise is drawn for each pair by
    itself, so that batches change nothing.
    The sources of the pairs are not used, but by a metric that reads answers or targets.
    Source: resampling, Chan et al. 2022; noise, Meng et al. 2022, whose corrupted runs are `trace`.
    """
    check_question(model, metric, batch_size)
    check_pairs(pairs, metric)
    check_samples(samples)
    if samples > 1 and not isinstance(by, Noise | Resample):
        raise WrongInput(f"samples={samples}: without Noise or Resample nothing is drawn, and all would be the same.")
    groups = grouped(model, listed(places))
    flat = list(dict.fromkeys(place for group in groups for place in group))
    if isinstance(by, Mean | Resample):
        check_mixed(model, pairs, groups, sides=["base"])
    works: list[Work] = []
    with torch.no_grad():
        noise, work = checked(model, pairs, groups, metric, known=None, tol=None, batch_size=batch_size)
        bases = (batch.base for batch in pairs.batches(batch_size))
        held = read_all(model, bases, flat) if isinstance(by, Mean | Resample) else {}
        rng = np.random.default_rng(getattr(by, "seed", 0))
        drawn = [Drawn(sample, rng.permutation(len(pairs))) for sample in range(samples)]
        parts = []
        for start in range(0, len(pairs), batch_size):
            rows = slice(start, start + batch_size)
            batch, found = pairs[rows], []
            for draw in drawn:
                ways = {at: _intervention(by, held.get(at), draw, i, rows) for i, at in enumerate(flat)}
                writes = [{place: ways[place] for place in group} for group in groups]
                scores = model.sweep(batch.base, writes, metric=Scored(metric, batch, record=works.append))
                found.append(scores.double().cpu().numpy().T)
            parts.append((score(metric, model.run(batch.base).output, batch).numpy(), np.mean(found, 0)))
    return Ablated(
        model=model_name(model),
        metric=name_of(metric),
        by=_words(by) + (f", the mean of {samples} draws" if samples > 1 else ""),
        way=by,
        samples=samples,
        pairs=pairs,
        places=tuple(groups),
        ybb=np.concatenate([plain for plain, _ in parts]),
        y=np.concatenate([scores for _, scores in parts]),
        noise=noise,
        work=sum(works, work),
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """One draw: its number, and which other pair each pair takes its value from."""

    sample: int
    order: Any


@dataclass(frozen=True)
class RowNoise:
    """Gaussian noise on a place, drawn for every pair by itself: new = old + std * noise(seed, sample, place, pair).

    place: its number, so that places have noise of their own. pairs: which pairs the rows of the place belong to.
    Raises BadIntervention where it has no row a pair.
    """

    std: float
    seed: int
    sample: int
    place: int
    pairs: Sequence[int]

    def __call__(self, old: Any) -> Tensor:
        if not isinstance(old, Tensor) or old.ndim == 0 or len(old) != len(self.pairs):
            shape = tuple(old.shape) if isinstance(old, Tensor) else type(old).__name__
            raise BadIntervention(f"Noise needs a tensor of {len(self.pairs)} rows, one a pair; this is {shape}.")
        seeds = ([self.seed, self.sample, self.place, i] for i in self.pairs)
        noise = [np.random.default_rng(seed).normal(size=old.shape[1:]) for seed in seeds]
        return old + torch.as_tensor(self.std * np.stack(noise)).to(old)

    def of_rows(self, rows: Sequence[int]) -> RowNoise:
        """The noise of some of these pairs, where others run apart."""
        return replace(self, pairs=[self.pairs[row] for row in rows])


def check_samples(samples: Any) -> None:
    """Raise WrongInput for no number of draws."""
    if not isinstance(samples, int) or samples < 1:
        raise WrongInput(f"samples={samples!r}: the mean is over one draw or more.")


def _intervention(by: Any, held: Any, draw: Drawn, place: int, rows: slice) -> Callable[[Any], Any]:
    pairs = range(len(draw.order))[rows]
    if isinstance(by, Mean):
        if not isinstance(held, Tensor):
            return Set(float(np.mean(held)))
        mean = held.mean(0)
        return Set(mean.expand(len(pairs), *mean.shape))
    if isinstance(by, Resample):
        return Set(take(held, draw.order[rows].tolist()))
    if isinstance(by, Noise):
        return RowNoise(by.std, by.seed, draw.sample, place, pairs)
    if isinstance(by, Mapping):
        raise WrongInput("by is one way for all places: a number, Mean(), Resample(), Noise(std), or an intervention.")
    return by if callable(by) else Set(by)


def _words(by: Any) -> str:
    match by:
        case Mean():
            return "set to their mean"
        case Resample():
            return f"resampled from other inputs (seed {by.seed})"
        case Noise():
            return f"with Gaussian noise of standard deviation {by.std:g} added (seed {by.seed})"
        case Scale():
            return f"scaled by {by.factor}"
        case int() | float():
            return f"set to {number(float(by), 2) if by != int(by) else int(by)}"
        case _:
            return f"changed by {getattr(by, '__name__', type(by).__name__)}"
