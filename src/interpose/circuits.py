"""Circuits: sets of places that are said to do the work alone, with what happens when everything else is resampled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .checks import check_mixed, checked, model_name
from .effects import BATCH, check_pairs, check_question, grouped, listed
from .errors import WrongInput
from .grid import Group, label_of
from .inputs import take
from .interventions import Set
from .metrics import Metric, Scored, name_of, score
from .model import Model, read_all
from .pairs import Pairs
from .statistics import LEVEL, Estimates, Floats, Resampling, exhaustive, number
from .tables import Table, Tabled

DRAWS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Circuit(Tabled):
    """How a set of places does alone: the metric with everything else taken from random other inputs.

    kept: the places of the circuit; among: all places there are to choose from, of which the others are resampled.
    full, none: [pair], the metric of the untouched run, and with every place resampled; alone: with all but the
    circuit. without: [pair, place], with one place of the circuit resampled too. All but `full` are means over draws.
    worst: [pair], the largest distance of a draw with the circuit alone from the untouched run.
    """

    model: str
    metric: str
    pairs: Pairs
    kept: tuple[Group, ...]
    among: tuple[Group, ...]
    full: Floats
    none: Floats
    alone: Floats
    without: Floats
    worst: Floats
    noise: float

    @cached_property
    def _resampling(self) -> Resampling:
        return Resampling(self.pairs.clusters())

    @cached_property
    def faithfulness(self) -> Estimates:
        """(m(circuit) - m(nothing)) / (m(all) - m(nothing)): 1 where the circuit does all of the task, not clipped.

        Undefined where m(all) - m(nothing) cannot be told from zero (Fieller).
        """
        return self._told(self._resampling.ratio(self.alone - self.none, self.full - self.none, tol=10 * self.noise))

    @cached_property
    def completeness(self) -> Estimates:
        """The mean of |m(circuit) - m(all)|: what resampling everything outside changes; 0 if nothing is left out."""
        return self._told(self._resampling.ratio(np.abs(self.alone - self.full), tol=10 * self.noise))

    @cached_property
    def minimality(self) -> Estimates:
        """For each place of the circuit, the mean of m(circuit) - m(circuit without it): 0 where it is not needed."""
        return self._told(self._resampling.ratio(self.alone[:, None] - self.without, tol=10 * self.noise))

    @property
    def scrubbed(self) -> Estimates:
        """The share of the loss that is kept when the rest is resampled: faithfulness, of a metric that is a loss.

        Source: causal scrubbing, Chan et al. 2022.
        """
        return self.faithfulness

    def table(self) -> Table:
        """Faithfulness, completeness, and one row a place on whether it is needed."""
        rows = [
            ("the circuit", "faithfulness", self.faithfulness.shown(0), self.faithfulness.text(0)),
            ("everything else", "|change| when resampled", self.completeness.shown(0), self.completeness.text(0)),
            *(
                (label_of(group), "change when resampled too", self.minimality.shown(j), self.minimality.text(j))
                for j, group in enumerate(self.kept)
            ),
        ]
        names = ", ".join(map(label_of, self.kept))
        notes = (
            f"The metric is {number(float(self.full.mean()))} untouched, {number(float(self.alone.mean()))} with the "
            f"circuit alone, {number(float(self.none.mean()))} with all {len(self.among)} places resampled. At worst "
            f"the circuit alone is off by {number(float(self.worst.max(initial=0.0)))}.",
        )
        title = f"Circuit of {names or 'nothing'}: {self.metric}, {self.model}, {len(self.pairs)} inputs"
        return Table(title, ("place", "what", "mean", f"{100 * LEVEL:.0f} % interval"), tuple(rows), notes)

    def _told(self, estimates: Estimates) -> Estimates:
        return exhaustive(estimates) if self.pairs.exhaustive else estimates


def circuit(
    model: Model[Any],
    pairs: Pairs,
    kept: Iterable[Any],
    among: Iterable[Any],
    metric: Metric,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    batch_size: int = BATCH,
) -> Circuit:
    """Faithfulness, completeness and minimality of a set of places, on the source inputs of the pairs.

    kept: the circuit. among: all places it is chosen from; what is not kept is taken from other inputs (bases and
    sources of the pairs), drawn anew for every place, pair and draw. What follows from a resampled place, in the
    circuit or not, is computed anew. The metric is that of the source run: pairs carry what it should give.
    Source: Wang et al. 2023 (faithfulness, completeness, minimality); resampling, Chan et al. 2022.
    Raises WrongInput for a place of the circuit that is not among the others.
    """
    check_question(model, metric, batch_size)
    check_pairs(pairs, metric)
    every = grouped(model, listed(among))
    chosen = grouped(model, ours) if (ours := list(listed(kept))) else []
    if missing := [label_of(group) for group in chosen if group not in every]:
        raise WrongInput(
            f"{missing[0]} is in the circuit, but not among the places it is chosen from. Name it there too."
        )
    if draws < 1:
        raise WrongInput(f"draws={draws}: at least one is needed.")
    check_mixed(model, pairs, every, sides=["base", "source"])
    rng = np.random.default_rng(seed)
    rest = [group for group in every if group not in chosen]
    sets: list[list[Group]] = [every, rest, *([*rest, group] for group in chosen)]
    flat = list(dict.fromkeys(place for group in every for place in group))
    with torch.no_grad():
        noise, _ = checked(model, pairs, every, metric, known=None, tol=None, batch_size=batch_size)
        held = read_all(model, pairs.inputs(batch_size), flat)
        found = [
            _scores(model, batch, sets, held, metric, draws, rng, 2 * len(pairs)) for batch in pairs.batches(batch_size)
        ]
    full, scores = np.concatenate([one for one, _ in found]), np.concatenate([many for _, many in found], axis=2)
    means = scores.mean(0)
    return Circuit(
        model=model_name(model),
        metric=name_of(metric),
        pairs=pairs,
        kept=tuple(chosen),
        among=tuple(every),
        full=full,
        none=means[0],
        alone=means[1],
        without=means[2:].T,
        worst=np.abs(scores[:, 1] - full).max(0),
        noise=noise,
    )


def _scores(
    model: Model[Any],
    batch: Pairs,
    sets: Sequence[Sequence[Group]],
    held: dict[Any, Any],
    metric: Metric,
    draws: int,
    rng: np.random.Generator,
    pool: int,
) -> tuple[Floats, Floats]:
    """[pair] untouched, and [draw, set, pair] with each set of places resampled."""
    full = score(metric, model.run(batch.source).output, batch).numpy()
    found = []
    for _ in range(draws):
        values = {place: take(held[place], rng.integers(pool, size=len(batch)).tolist()) for place in held}
        writes = [{place: Set(values[place]) for group in groups for place in group} for groups in sets]
        alive = [write for write in writes if write]
        scores = (
            model.sweep(batch.source, alive, metric=Scored(metric, batch)).double().cpu().numpy() if alive else None
        )
        rows = iter(scores if scores is not None else ())
        found.append(np.stack([next(rows) if write else full for write in writes]))
    return full, np.stack(found)
