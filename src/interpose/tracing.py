"""Causal tracing: a run is corrupted by noise, and one place at a time gets back the value it has without."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .ablations import RowNoise, check_samples, over_pairs
from .checks import checked, model_name
from .effects import BATCH, check_pairs, check_question, grouped, listed
from .errors import OverlappingWrites, WrongInput
from .grid import Group, label_of
from .interventions import Set
from .metrics import Metric, Scored, name_of, score
from .model import Model, Work, meet, read_all
from .pairs import Pairs
from .quantities import Warned
from .statistics import LEVEL, Estimates, Floats, number
from .tables import Table, Tabled, some

ROME = 3.0
"""How many standard deviations of what is corrupted the noise has, where it is not given."""


@dataclass(frozen=True, eq=False, repr=False)
class Traced(Tabled):
    """Base runs clean [pair], with noise at some places [pair], and with noise but one place restored [pair, place].

    corrupted, restored: means over the draws. noisy: where the noise was added, of standard deviation std; seed and
    samples: of its draws.
    """

    model: str
    metric: str
    noisy: tuple[Any, ...]
    std: float
    seed: int
    samples: int
    pairs: Pairs
    places: tuple[Group, ...]
    clean: Floats
    corrupted: Floats
    restored: Floats
    noise: float
    work: Work

    @property
    def te(self) -> Floats:
        """[pair]: clean - corrupted, what the noise does (ROME's total effect)."""
        return self.clean - self.corrupted

    @property
    def nie(self) -> Floats:
        """[pair, place]: restored - corrupted, what the place alone brings back (ROME's indirect effect)."""
        return self.restored - self.corrupted[:, None]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each place is called."""
        return tuple(map(label_of, self.places))

    @cached_property
    def total(self) -> Estimates:
        """The mean of what the noise does, with its interval over pairs."""
        return over_pairs(self.pairs, self.te[:, None], self.noise)

    @cached_property
    def mean(self) -> Estimates:
        """The mean of what each place brings back, with its interval over pairs."""
        return over_pairs(self.pairs, self.nie, self.noise)

    def notes(self) -> tuple[Warned, ...]:
        """What a reader should know beside the numbers."""
        clean, corrupted = (number(float(column.mean())) for column in (self.clean, self.corrupted))
        where = some([str(place) for place in self.noisy])
        said = (
            f"Gaussian noise of standard deviation {self.std:.3g} at {where}, seed {self.seed}, the mean of "
            f"{self.samples} draws: off the data, and no other input. Clean {clean}, corrupted {corrupted}: the noise "
            f"takes {self.total.shown(0)} {self.total.text(0)}."
        )
        return (Warned("off_support", said),)

    def table(self, *, most: int = 20) -> Table:
        """One row a place, the largest mean first."""
        order = np.argsort(-self.mean.estimate, kind="stable")
        rows = tuple((self.labels[j], self.mean.shown(j), self.mean.text(j)) for j in order[:most])
        rest = (f"{len(order) - most} more places are in .nie.",) if len(order) > most else ()
        title = f"What each place brings back: {self.metric}, {self.model}, {len(self.pairs)} base inputs"
        return Table(title, ("place", "NIE", f"{100 * LEVEL:.0f} % interval"), rows, (*rest, *self.notes()))


def trace(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    noisy: Iterable[Any],
    std: float | None = None,
    seed: int = 0,
    samples: int = 10,
    batch_size: int = BATCH,
) -> Traced:
    """What each place brings back when it alone is restored in a run corrupted by noise, and what the noise takes.

    noisy: where noise is added; in ROME the embeddings of the subject's tokens, as
    lm.embeddings(positions=lm.positions(prompts, subjects)). std: of the noise; by default 3 x the standard deviation
    of what stands there in the base inputs. samples: how many draws are averaged, each a corrupted run and a restored
    one a place; seed: of the draws. Noise is drawn for each pair by itself, so that batches change nothing.
    The sources of the pairs are not used, but by a metric that reads answers or targets.
    Raises what `effects` raises; OverlappingWrites for a place that is both restored and noisy.
    Source: causal tracing, Meng et al. 2022 (ROME).
    """
    check_question(model, metric, batch_size)
    check_pairs(pairs, metric)
    check_samples(samples)
    if std is not None and not 0 < std < float("inf"):
        raise WrongInput(f"std={std}: noise has a standard deviation above 0.")
    groups = grouped(model, listed(places))
    corrupted = [model.place(place) for place in listed(noisy)]
    if not corrupted:
        raise WrongInput("There is no place to add noise to. Name some, as in noisy=lm.embeddings(positions=[2, 3]).")
    _check_apart(groups, corrupted)
    with torch.no_grad():
        noise, work = checked(model, pairs, groups, metric, known=None, tol=None, batch_size=batch_size)
        std = _usual(model, pairs, corrupted, batch_size) if std is None else std
        works, parts = [work], []
        for start in range(0, len(pairs), batch_size):
            rows = range(len(pairs))[start : start + batch_size]
            noises = [
                {at: RowNoise(std, seed, sample, i, rows) for i, at in enumerate(corrupted)}
                for sample in range(samples)
            ]
            parts.append(_runs(model, pairs[rows.start : rows.stop], groups, metric, noises, works))
    clean, means = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Traced(
        model=model_name(model),
        metric=name_of(metric),
        noisy=tuple(corrupted),
        std=std,
        seed=seed,
        samples=samples,
        pairs=pairs,
        places=tuple(groups),
        clean=clean,
        corrupted=means[:, 0],
        restored=means[:, 1:],
        noise=noise,
        work=sum(works, Work()),
    )


def _check_apart(groups: Sequence[Group], noisy: Sequence[Any]) -> None:
    """Raise OverlappingWrites for a place that would be restored and given noise."""
    for place, at in itertools.product([place for group in groups for place in group], noisy):
        if meet(place, at):
            raise OverlappingWrites(
                f"{place} is to be restored, and {at} shares units with it and is given noise. Restore a later place."
            )


def _runs(
    model: Model[Any],
    batch: Pairs,
    groups: Sequence[Group],
    metric: Metric,
    noises: Sequence[Mapping[Any, Any]],
    works: list[Work],
) -> tuple[Floats, Floats]:
    """Of some pairs the clean runs [pair], and corrupted beside restored ones [pair, 1 + place], draws averaged."""
    run = model.run(batch.base, read=list(dict.fromkeys(place for group in groups for place in group)))
    restored: list[dict[Any, Any]] = [{place: Set(run[place]) for place in group} for group in groups]
    scored = Scored(metric, batch, record=works.append)
    found = [
        model.sweep(batch.base, [{**noise, **back} for back in ({}, *restored)], metric=scored) for noise in noises
    ]
    return score(metric, run.output, batch).numpy(), torch.stack(found).double().mean(0).cpu().numpy().T


def _usual(model: Model[Any], pairs: Pairs, places: list[Any], batch_size: int) -> float:
    """3 x the standard deviation of all that stands at some places in the base inputs, taken together."""
    held = read_all(model, (batch.base for batch in pairs.batches(batch_size)), places)
    rows = [row for value in held.values() for row in value]  # of unequal length, where the prompts are
    values = torch.cat([torch.as_tensor(row).double().flatten() for row in rows])
    if values.numel() < 2 or not float(values.std()) > 0:
        raise WrongInput("What stands at the noisy places does not vary. Give the noise a size: std=0.1, say.")
    return ROME * float(values.std())
