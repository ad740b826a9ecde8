"""How a variable is written in the values of its sites, and what to write to set it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import WrongInput
from ..sites import Site
from ..statistics import Floats
from .holdings import Held
from .responses import Prober

EXACT = 1e-4
"""A fit is exact where nothing is further off than this share of the range of what is fitted."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """The rule of one variable: value of the site = slope * variable + intercept, or a table.

    residual: the largest distance of the fit; r_squared; exact: whether the fit is. acted: (slope, intercept) as they
    show when the site is forced and the output is read, None where that was not clear; known: variable's value -> value
    of each site, one example a class. lowest, highest: the range of values that inputs give.
    """

    name: str
    sites: tuple[Site, ...]
    slope: float | None
    intercept: float | None
    residual: float
    r_squared: float
    exact: bool
    acted: tuple[float, float] | None
    known: Mapping[Any, tuple[Tensor, ...]]
    lowest: Any
    highest: Any

    def __str__(self) -> str:
        sites = " + ".join(map(str, self.sites))
        if self.slope is None or self.intercept is None:
            return f"a table of {len(self.known)} values"
        bracket = f"({self.name})" if any(mark in self.name for mark in "+- *") else self.name
        sign = "-" if self.intercept < 0 else "+"
        shift = f" {sign} {_short(abs(self.intercept))}" if abs(self.intercept) > 1e-9 else ""
        how = "exact" if self.exact else f"R squared {self.r_squared:.4f}, off by at most {_short(self.residual)}"
        return f"{sites} = {_short(self.slope)} {bracket}{shift}, {how}"

    def __repr__(self) -> str:
        return str(self)

    def encode(self, value: Any) -> tuple[Tensor, ...]:
        """What to write at each site to set the variable. Raises WrongInput for a value that no rule reaches."""
        if value in self.known:
            return self.known[value]
        if self.slope is None or self.intercept is None or not self.exact:
            raise WrongInput(
                f"{self.name} = {value!r} is not among the {len(self.known)} values that inputs give, "
                f"{_some(list(self.known))}, and no exact rule says how it would be written."
            )
        (like,) = next(iter(self.known.values()))
        return (torch.full_like(like, self.slope * float(value) + self.intercept),)


def decoded(held: Held, prober: Prober) -> Decoded:
    """The rule of a variable by the values that inputs give, and by what the output does when its site is forced."""
    values, labels = prober.read(held.group), names_of(held)
    rule = rule_of(label_of(held), held.group, values, labels, numeric=held.is_named and _numeric(labels))
    if not rule.exact:
        return rule
    seen = values[held.group[0]].double().reshape(-1).cpu().numpy()
    return replace(rule, acted=_by_acting(held, np.array(labels, dtype=float), seen, prober))


def rule_of(
    name: str, sites: tuple[Site, ...], values: Mapping[Site, Tensor], labels: Sequence[Any], *, numeric: bool
) -> Decoded:
    """The rule of a variable by what its sites and it itself are, input by input; a line only of one number in another.

    values: site -> [input, ...]; labels: [input], the variable's values; numeric: whether these are numbers.
    """
    known: dict[Any, tuple[Tensor, ...]] = {}
    for i, label in enumerate(labels):
        known.setdefault(label, tuple(values[site][i] for site in sites))
    lowest, highest = (min(labels), max(labels)) if numeric else (None, None)
    alone = len(sites) == 1 and values[sites[0]][0].numel() == 1
    if not numeric or not alone or len(known) < 2:
        return Decoded(name, sites, None, None, float("nan"), float("nan"), False, None, known, lowest, highest)
    seen = values[sites[0]].double().reshape(-1).cpu().numpy()
    slope, intercept, residual, r_squared = line(np.array(labels, dtype=float), seen)
    exact = residual <= EXACT * max(float(np.ptp(seen)), 1e-12)
    return Decoded(name, sites, slope, intercept, residual, r_squared, exact, None, known, lowest, highest)


def names_of(held: Held) -> list[Any]:
    """The value of a held variable at every input: what its name gives, or the number of its class."""
    if held.name is None or not held.name.exact or not held.name.best.number:
        return [int(c) for c in held.classes]
    return [plain(value) for value in held.name.best.values]


def label_of(held: Held) -> str:
    """What to call a held variable: its name, or the sites that hold it."""
    if held.name is not None and held.name.exact:
        return held.name.best.text
    return f"held by {' + '.join(held.labels)}"


def plain(value: Any) -> Any:
    """A number of Python's own, whole where it is whole."""
    number = value.item() if hasattr(value, "item") else value
    whole = isinstance(number, bool) or (isinstance(number, float) and number.is_integer())
    return int(number) if whole else number


def _by_acting(held: Held, numbers: Floats, seen: Floats, prober: Prober) -> tuple[float, float] | None:
    """Slope and intercept as the output tells: values are forced, and what has their effect is found.

    The output must be a line in the variable: then a forced value's effect says which variable value it stands for.
    """
    base = prober.bases[:1]
    order = np.unique(numbers, return_index=True)[1]
    rows = held.responses.rows[held.responses.number[order]][:, : prober.domain.outputs.shape[1]]
    direction = rows[-1] - rows[0]
    if np.abs(direction).max() <= prober.tol:
        return None
    along = rows @ direction
    steps, shift, off, _ = line(numbers[order], along)
    if off > EXACT * np.ptp(along):
        return None
    low, high = seen.min(), seen.max()
    grid = np.linspace(low - (high - low) / 2, high + (high - low) / 2, 9)
    site = held.group[0]
    like = prober.read([site])[site]
    forced = {site: torch.from_numpy(grid).to(like.dtype).reshape(9, *like.shape[1:])}
    found = prober.forced(forced, 9, bases=base) @ direction
    stands_for = (found - shift) / steps
    slope, intercept, off, _ = line(stands_for, grid)
    return (slope, intercept) if off <= 10 * EXACT * np.ptp(grid) else None


def line(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Slope, intercept, largest residual and R squared of y on x."""
    slope, intercept = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, float(y.mean()))
    off = np.abs(y - slope * x - intercept)
    spread = float(((y - y.mean()) ** 2).sum())
    return float(slope), float(intercept), float(off.max()), 1.0 - float((off**2).sum()) / spread if spread else 1.0


def _numeric(labels: list[Any]) -> bool:
    return all(isinstance(label, int | float) for label in labels)


def _short(value: float) -> str:
    return f"{value:.4g}"


def _some(values: list[Any], most: int = 6) -> str:
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")
