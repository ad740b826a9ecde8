"""A statistic of some columns of one sample of clusters: its value, its spread, and why it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .estimates import FEW_CLUSTERS, NO_PAIRS, SKEWED, Booleans, Floats, Integers
from .functions import Statistic
from .groups import Groups
from .weights import Weights


@dataclass(frozen=True, eq=False)
class Sample:
    """A statistic of some columns, each [pair, column] or one for all.

    kept: [pair, column], or one column for all, which pairs count. Pairs of nothing but zeros never do.
    """

    statistic: Statistic
    columns: Sequence[Floats]
    groups: Groups
    kept: Booleans | None = None

    def take(self, at: Integers) -> Sample:
        """The same of some of the columns."""
        if len(at) == self.width:
            return self
        columns = [_some(column, at) for column in self.columns]
        return replace(self, columns=columns, kept=None if self.kept is None else _some(self.kept, at))

    @cached_property
    def width(self) -> int:
        """How many columns there are."""
        several = self.columns if self.kept is None else (*self.columns, self.kept)
        return int(np.broadcast_shapes(*(column.shape for column in several))[1])

    @cached_property
    def counted(self) -> Sequence[Floats]:
        """The columns, zero in pairs that do not count."""
        return self.columns if self.kept is None else [np.where(self.kept, column, 0.0) for column in self.columns]

    @cached_property
    def sums(self) -> tuple[Floats, ...]:
        """[cluster, column]: each of the statistic's sums."""
        return tuple(self.groups.sums(term) for term in self.statistic.terms(*self.counted))

    @cached_property
    def totals(self) -> tuple[Floats, ...]:
        """[column]: each of the statistic's sums over everything."""
        return tuple(part.sum(0) for part in self.sums)

    @cached_property
    def estimate(self) -> Floats:
        """[column]: the statistic; NaN where it has no value."""
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.array(np.broadcast_to(self.statistic.value(*self.totals), self.width))
        return np.where(np.isfinite(value), value, np.nan)

    @cached_property
    def present(self) -> Booleans:
        """[pair, column]: which pairs count."""
        return self._any([column != 0 for column in self.counted])

    @cached_property
    def clusters(self) -> Integers:
        """[column]: how many clusters have pairs that count."""
        return (self.groups.sums(self.present.astype(float)) > 0).sum(0)

    @cached_property
    def slopes(self) -> tuple[Floats, ...]:
        """[column] each: how fast the statistic changes with each of its sums."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.statistic.derivatives(self.sums, self.totals)

    @cached_property
    def influences(self) -> Floats:
        """[cluster, column]: how much each cluster pushes the statistic, to first order; they add up to zero."""
        found = np.zeros((len(self.groups), self.width))
        with np.errstate(invalid="ignore"):
            for slope, part, total in zip(self.slopes, self.sums, self.totals, strict=True):
                found += slope * (part - total / max(len(part), 1))
        return found

    @cached_property
    def error(self) -> Floats:
        """[column]: the standard error, sqrt(G / (G - 1) * sum of squared influences), for G clusters that count."""
        spread = self.clusters / np.maximum(self.clusters - 1, 1)
        return np.sqrt(spread * (self.influences**2).sum(0))

    @cached_property
    def skewed(self) -> Booleans:
        """[column]: whether clusters are so skewed that intervals are rough."""
        squares = self.influences * self.influences
        square, cube = squares.sum(0), (squares * self.influences).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.abs(np.sqrt(self.clusters) * cube / square**1.5) > SKEWED

    @property
    def few(self) -> Booleans:
        """[column]: whether there are so few clusters that intervals are rough."""
        return self.clusters < FEW_CLUSTERS

    def steady(self, tol: float) -> Booleans:
        """[column]: whether the statistic is the same, within tol, in every pair; or at least in every cluster."""
        pushes = np.abs(self.influences).max(0, initial=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            alike = pushes <= self._rounding()
            of_pairs = self.statistic.steady(self.counted, tol)
        if of_pairs is None:
            of_pairs = pushes * len(self.groups) <= tol
        return np.asarray(alike | np.broadcast_to(of_pairs, self.width))

    def _rounding(self) -> Floats:
        """[column]: pushes smaller than this are errors of rounding."""
        size = np.zeros((len(self.groups), self.width))
        for slope, term in zip(self.slopes, self.statistic.terms(*self.counted), strict=True):
            size += np.abs(slope) * self.groups.sums(np.abs(term))
        return size.max(0, initial=0.0) * (1e-12 if self.statistic.slopes else 1e-8)

    def lacking(self, level: float) -> list[str | None]:
        """[column]: why there is no value; None where there is one.

        A denominator with terms of both signs cannot be told from zero where zero is within Student's interval of it
        (the check of Fieller 1954): the interval of the ratio would be unbounded.
        """
        pairs = len(self.groups.order)
        there = self._any([np.ones((pairs, 1), bool) if self.kept is None else self.kept]).sum(0)
        bad = self._any([~np.isfinite(column) for column in self.counted]).sum(0)
        zero, unclear = np.zeros(self.width, bool), np.zeros(self.width, bool)
        for k in self.statistic.denominators:
            zero |= self.totals[k] == 0
            unclear |= _indistinct(self.sums[k], level)
        found = np.full(self.width, None, dtype=object)
        found[np.isnan(self.estimate)] = "the function has no value here"
        found[unclear] = "the denominator cannot be told from zero"
        found[zero] = "the denominator is zero"
        for j in np.flatnonzero(bad):
            found[j] = f"{bad[j]} of {there[j]} values are not finite"
        found[there == 0] = NO_PAIRS
        return list(found)

    def _any(self, several: Sequence[Booleans]) -> Booleans:
        """[pair, column]: where any of several holds."""
        whole = (len(self.groups.order), self.width)
        return np.asarray(np.logical_or.reduce([np.broadcast_to(one, whole) for one in several]))

    def draws(self, weights: Weights) -> Floats:
        """[column, draw]: the statistic in each resample; NaN where it has no value."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            found = self.statistic.value(*weights.sums(self.sums))
        whole = (self.width, len(weights.counts))
        found = found if found.shape == whole else np.array(np.broadcast_to(found, whole))
        lost = ~np.isfinite(found.sum(1))
        if lost.any():
            found[lost] = np.where(np.isfinite(found[lost]), found[lost], np.nan)
        return found

    def draws_with_errors(self, weights: Weights) -> tuple[Floats, Floats]:
        """[column, draw] twice: a ratio in each resample, and its standard error there."""
        top, bottom = self.sums
        rest = top - self.estimate * bottom
        parts = weights.sums((rest, bottom, rest * rest, rest * bottom, bottom * bottom))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            rests, bottoms, squares, products, sizes = parts
            away = rests / bottoms
            spread = np.maximum(squares - 2 * away * products + away**2 * sizes, 0)
            factor = np.sqrt(self.clusters / np.maximum(self.clusters - 1, 1))
            return self.estimate[:, None] + away, factor[:, None] * np.sqrt(spread) / np.abs(bottoms)

    def left_out(self) -> Floats:
        """[cluster, column]: the statistic without each of the clusters."""
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = (total - part for part, total in zip(self.sums, self.totals, strict=True))
            return np.broadcast_to(self.statistic.value(*parts), (len(self.groups), self.width))


def _some(columns: NDArray[Any], at: Integers) -> NDArray[Any]:
    return columns[:, at] if columns.shape[1] > 1 else columns


def _indistinct(bottoms: Floats, level: float) -> Booleans:
    """[column]: whether the sum of [cluster, column], of both signs, cannot be told from zero."""
    from scipy.special import stdtrit

    groups = len(bottoms)
    if groups < 2:
        return np.zeros(bottoms.shape[1], bool)
    spread = groups / (groups - 1) * ((bottoms - bottoms.mean(0)) ** 2).sum(0)
    lost = stdtrit(groups - 1, 0.5 + level / 2) ** 2 * spread >= bottoms.sum(0) ** 2
    return np.asarray(lost & ~((bottoms >= 0).all(0) | (bottoms <= 0).all(0)))
