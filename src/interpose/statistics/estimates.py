"""Estimates: one number a column, with its interval and how that was made, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import WrongNumbers, WrongShape

Floats = NDArray[np.float64]
Integers = NDArray[np.int_]
Booleans = NDArray[np.bool_]
Method = Literal["bca", "percentile", "studentised", "t"]
Random = int | np.random.Generator
"""A seed, or what draws."""

LEVEL = 0.95
FEW_CLUSTERS = 30
"""No bootstrap rescues a small sample: below this many clusters, intervals are called rough."""
SKEWED = 2.0
"""Nor a heavily skewed one: beyond this skewness of clusters, in either direction, intervals are called rough."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """One estimate a column, with its interval and how that was made.

    estimate, error, low, high: [column]; error is the standard error; NaN for what there is not.
    method: "bca", "percentile", "studentised", "t", "band" (max-t), "wilson", "order statistics"; and without an
        interval "constant" (no variation to resample), "exhaustive" (nothing to estimate: all pairs were measured),
        "one cluster" (nothing says how others would differ), "too few" or "undefined" (no value either).
    reason: in words, why there is no interval, or no value; None where there is one.
    flags: why the interval is rough: "few_clusters" (under 30), "skewed" (clusters' skewness beyond 2).
    share: of a constant column, the least share of the population that has this value, at `level`.
    clusters: [column], how many independent units the estimate rests on.
    """

    estimate: Floats
    low: Floats
    high: Floats
    error: Floats
    method: tuple[str, ...]
    reason: tuple[str | None, ...]
    flags: tuple[tuple[str, ...], ...]
    share: Floats
    clusters: Integers
    level: float

    def __len__(self) -> int:
        return len(self.estimate)

    def text(self, column: int) -> str:
        """The interval in words: "[0.93, 1.00]", or why there is none."""
        match self.method[column]:
            case "constant":
                return f"constant (>= {100 * self.share[column]:.0f} %)"
            case "exhaustive":
                return "exact"
            case "undefined":
                return "undefined"
            case "one cluster" | "too few":
                return "-"
            case _:
                digits = self.digits(column)
                return f"[{self.low[column]:.{digits}f}, {self.high[column]:.{digits}f}]"

    def digits(self, column: int) -> int:
        """How many digits after the point the estimate and its interval are worth."""
        width = self.high[column] - self.low[column]
        return 4 if width < 0.002 else 3 if width <= 0.02 else 2

    def shown(self, column: int) -> str:
        """The estimate, rounded as its interval is."""
        return number(float(self.estimate[column]), self.digits(column))


def number(value: float, digits: int = 2) -> str:
    """A number for a table, without a negative zero; "-" for what is not defined."""
    if value != value:
        return "-"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def exhaustive(estimates: Estimates) -> Estimates:
    """The same estimates where every pair of the domain was measured: exact, and without an interval."""
    nothing = np.full_like(estimates.estimate, np.nan)
    known = ~np.isnan(estimates.estimate)
    return replace(
        estimates,
        low=nothing,
        high=nothing,
        error=np.where(known, 0.0, np.nan),
        method=tuple("exhaustive" if value else "undefined" for value in known),
        reason=tuple(
            "every pair of the domain was measured" if value else reason
            for value, reason in zip(known, estimates.reason, strict=True)
        ),
        flags=((),) * len(known),
        share=np.ones(len(known)),
    )


def joined(several: Sequence[Estimates]) -> Estimates:
    """The columns of all of them, one after the other."""
    whole: dict[str, object] = {"level": several[0].level}
    for field in fields(Estimates):
        values = [getattr(one, field.name) for one in several]
        if isinstance(values[0], np.ndarray):
            whole[field.name] = np.concatenate(values)
        elif isinstance(values[0], tuple):
            whole[field.name] = sum(values, ())
    return Estimates(**whole)  # type: ignore[arg-type]


def share_shown_by_all(groups: ArrayLike, level: float) -> Floats:
    """A value shown by all of `groups` independent clusters is had by at least this share of the population.

    (1 - level)^(1 / groups), the one-sided limit of Clopper and Pearson (1934) for no exception; 0 for no clusters.
    """
    groups = np.asarray(groups)
    return np.where(groups > 0, (1 - level) ** (1 / np.maximum(groups, 1)), 0.0)


NO_PAIRS = "there are no pairs"


def one_cluster(pairs: int) -> str:
    """Why there is no interval from a single cluster, and what would give one."""
    if pairs == 1:
        return "one pair says nothing of how others differ"
    return (
        f"all {pairs} pairs are in one cluster, which says nothing of how others differ: "
        "pairs that share no input with one another would give an interval"
    )


def all_alike(clusters: int, pairs: int) -> str:
    """Why there is no interval where nothing varies."""
    return f"all {clusters} {'pairs' if clusters == pairs else 'clusters'} show the same"


def as_columns(values: ArrayLike, pairs: int, what: str) -> Floats:
    """The values as [pair, column]; one value a pair is one column. Raises WrongShape for another number of pairs."""
    columns = np.asarray(values, float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or len(columns) != pairs:
        raise WrongShape(f"{what} has shape {np.shape(values)}. It should be [pair, column], of {pairs} pairs.")
    return columns


def check_level(level: float) -> None:
    """Raise WrongNumbers for a level that is not between 0 and 1."""
    if not 0 < level < 1:
        raise WrongNumbers(f"The level of an interval is between 0 and 1, like 0.95, not {level!r}.")
