"""Further runs that a result may ask for: places held at a value, sources of other pairs, two places together."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .checks import check_mixed
from .errors import WrongInput
from .grid import Group, label_of
from .inputs import repeat, take
from .measure import Asked, Measured, measured
from .metrics import Metric
from .model import Model, meet
from .pairs import Pairs
from .quantities import Pinned, Shuffled, Warned
from .statistics import orders


@dataclass(frozen=True, eq=False)
class Measurement:
    """A measurement that can be made again with other runs: of these pairs, places and metric, in this way."""

    model: Model[Any]
    pairs: Pairs
    groups: Sequence[Group]
    metric: Metric
    tol: float | None
    batch_size: int
    progress: bool | None
    store: str | os.PathLike[str] | None
    key: str | None

    def runs(
        self, asked: Asked, folder: str, *, pairs: Pairs | None = None, groups: Sequence[Group] | None = None
    ) -> Measured:
        """The runs that are asked for; folder: where in the store they are kept."""
        return measured(
            self.model,
            self.pairs if pairs is None else pairs,
            self.groups if groups is None else groups,
            self.metric,
            tol=self.tol,
            batch_size=self.batch_size,
            progress=self.progress,
            store=None if self.store is None else Path(self.store) / folder if folder else self.store,
            key=self.key,
            asked=asked,
        )


def check_more(of: Measurement, *, pinned: Any, chance: int, jointly: bool) -> None:
    """Raise WrongInput or WrongPairs for further runs that cannot be made, before anything is measured."""
    if pinned is not None:
        _values(of, pinned)
    if chance:
        if chance < 1:
            raise WrongInput(f"chance={chance}: sources are tried in one random order or more.")
        check_mixed(of.model, of.pairs, of.groups, sides=["base", "source"])
    if jointly:
        _together(of)


def with_values(of: Measurement, given: Any) -> tuple[Pinned, tuple[Warned, ...]]:
    """Runs with every place held at a value; and a warning for values that no base or source input gives.

    given: one number for all places, or place -> number or tensor [units].
    """
    values = _values(of, given)
    found = of.runs(Asked(pinned=values), "pinned").runs
    outside = _outside(of, values)
    said = f"No input gives {', '.join(outside)} such a value: the runs with it are off the data." if outside else ""
    shown = tuple(next(iter(one.values())) if len(one) == 1 else one for one in values)
    return Pinned(shown, found.ybs, found.ysb), ((Warned("out_of_range", said),) if outside else ())


def with_other_sources(of: Measurement, draws: int, seed: int) -> Shuffled:
    """Runs of every base with the sources of other pairs, in so many orders; its targets are its own pair's."""
    n = len(of.pairs)
    order = orders(n, clusters=of.pairs.clusters(), draws=draws, seed=seed)
    pairs = of.pairs
    mixed = Pairs(
        repeat(pairs.base, draws),
        take(pairs.source, order.reshape(-1).tolist()),
        targets=None if pairs.targets is None else repeat(pairs.targets, draws),
        answers=None if pairs.answers is None else pairs.answers.repeat(draws, 1),
    )
    found = of.runs(Asked(both=False), "chance", pairs=mixed).runs
    return Shuffled(found.ybs.reshape(draws, n, -1), order)


def two_together(of: Measurement) -> tuple[list[Group], Measured]:
    """Every two of the groups that share no units, written together."""
    together = _together(of)
    return together, of.runs(Asked(), "jointly", groups=together)


# -- small things ----------------------------------------------------------------------------------


def _together(of: Measurement) -> list[Group]:
    pairs = itertools.combinations(of.groups, 2)
    together = [(*a, *b) for a, b in pairs if not any(meet(one, other) for one in a for other in b)]
    if not together:
        raise WrongInput(
            "jointly=True measures every two places together; give two places or more that share no units."
        )
    return together


def _values(of: Measurement, given: Any) -> tuple[dict[Any, Any], ...]:
    if isinstance(given, Mapping):
        named = {of.model.place(spelling): value for spelling, value in given.items()}
        places = [place for group in of.groups for place in group]
        if missing := [str(place) for place in places if place not in named]:
            raise WrongInput(f"pinned gives no value for {missing[0]}. Give one for every place, or one for all.")
        if unknown := [str(place) for place in named if place not in places]:
            raise WrongInput(f"pinned gives a value for {unknown[0]}, which is not among the places.")
    else:
        named = {place: given for group in of.groups for place in group}
    return tuple({place: _tensor(named[place]) for place in group} for group in of.groups)


def _tensor(value: Any) -> Any:
    return torch.as_tensor(value) if isinstance(value, list | np.ndarray) else value


def _outside(of: Measurement, values: Sequence[Mapping[Any, Any]]) -> list[str]:
    """The groups whose values lie beyond what the places hold in any base or source."""
    places = {place: value for group in values for place, value in group.items()}
    lowest: dict[Any, Tensor] = {}
    highest: dict[Any, Tensor] = {}
    with torch.no_grad():
        for inputs in of.pairs.inputs(of.batch_size):
            run = of.model.run(inputs, read=list(places))
            for place in places:
                for found, best in ((lowest, torch.amin), (highest, torch.amax)):
                    found[place] = _further(found.get(place), _over_rows(run[place], best), best)
    beyond = {
        place
        for place, value in places.items()
        if isinstance(value, Tensor | int | float)
        and bool(
            ((torch.as_tensor(value) < lowest[place].cpu()) | (torch.as_tensor(value) > highest[place].cpu())).any()
        )
    }
    return [label_of(tuple(group)) for group in values if beyond & set(group)]


def _over_rows(held: Any, best: Any) -> Tensor:
    """The least or largest value of each unit over the rows of a place; of all units where rows differ in length."""
    if isinstance(held, list) and isinstance(held[0], Tensor):
        return best(torch.stack([best(row) for row in held]))
    return best(held if isinstance(held, Tensor) else torch.as_tensor(np.asarray(held)), 0)


def _further(known: Tensor | None, found: Tensor, best: Any) -> Tensor:
    if known is None:
        return found
    if known.shape != found.shape:
        known, found = best(known), best(found)
    return best(torch.stack([known, found]), 0)
