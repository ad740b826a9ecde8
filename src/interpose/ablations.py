"""Ablations: what a place is worth when its value is replaced by nothing in particular. No mediation effect.

A value that no input gives leaves the data, and what the network then does may say little about what it does on data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checks import checked, model_name
from .effects import BATCH, check_pairs, check_question, grouped, listed
from .errors import WrongInput
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

    by: what the value was replaced with, in words.
    """

    model: str
    metric: str
    by: str
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
        found = Resampling(self.pairs.clusters()).ratio(self.effect, tol=10 * self.noise)
        return exhaustive(found) if self.pairs.exhaustive else found

    @cached_property
    def size(self) -> Estimates:
        """The mean size of the effect at each place, with its interval."""
        found = Resampling(self.pairs.clusters()).ratio(np.abs(self.effect), tol=10 * self.noise)
        return exhaustive(found) if self.pairs.exhaustive else found

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


def ablate(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    by: Any = 0.0,
    batch_size: int = BATCH,
) -> Ablated:
    """What each place is worth to the base run: Y(base, place ablated) - Ybb, an ablation and no mediation effect.

    by: a number that fills the place (0 is zero ablation), `Mean()` over the base inputs, `Resample()` from another
    base input, `Noise(std)` on top of what is there (as in ROME, Meng et al. 2022), or any intervention old -> new.
    The sources of the pairs are not used, but by a metric that reads answers or targets.
    """
    check_question(model, metric, batch_size)
    check_pairs(pairs, metric)
    groups = grouped(model, listed(places))
    flat = list(dict.fromkeys(place for group in groups for place in group))
    works: list[Work] = []
    with torch.no_grad():
        noise, work = checked(model, pairs, groups, metric, known=None, tol=None, batch_size=batch_size)
        bases = (batch.base for batch in pairs.batches(batch_size))
        held = read_all(model, bases, flat) if isinstance(by, Mean | Resample) else {}
        order = np.random.default_rng(getattr(by, "seed", 0)).permutation(len(pairs))
        parts = []
        for start in range(0, len(pairs), batch_size):
            batch, rows = pairs[start : start + batch_size], order[start : start + batch_size]
            writes = [{place: _intervention(by, held.get(place), rows) for place in group} for group in groups]
            plain = score(metric, model.run(batch.base).output, batch)
            scores = model.sweep(batch.base, writes, metric=Scored(metric, batch, record=works.append))
            parts.append((plain.numpy(), scores.double().cpu().numpy().T))
    return Ablated(
        model=model_name(model),
        metric=name_of(metric),
        by=_words(by),
        pairs=pairs,
        places=tuple(groups),
        ybb=np.concatenate([plain for plain, _ in parts]),
        y=np.concatenate([scores for _, scores in parts]),
        noise=noise,
        work=sum(works, work),
    )


def _intervention(by: Any, held: Any, rows: Any) -> Callable[[Any], Any]:
    if isinstance(by, Mean):
        if not isinstance(held, Tensor):
            return Set(float(np.mean(held)))
        mean = held.mean(0)
        return Set(mean.expand(len(rows), *mean.shape))
    if isinstance(by, Resample):
        return Set(take(held, rows.tolist()))
    if isinstance(by, Mapping):
        raise WrongInput("by is one way for all places: a number, Mean(), Resample(), Noise(std), or an intervention.")
    return by if callable(by) else Set(by)


def _words(by: Any) -> str:
    match by:
        case Mean():
            return "set to their mean"
        case Resample():
            return "resampled from other inputs"
        case Noise():
            return f"with Gaussian noise of standard deviation {by.std:g} added"
        case Scale():
            return f"scaled by {by.factor}"
        case int() | float():
            return f"set to {number(float(by), 2) if by != int(by) else int(by)}"
        case _:
            return f"changed by {getattr(by, '__name__', type(by).__name__)}"
