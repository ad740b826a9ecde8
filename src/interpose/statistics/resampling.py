"""The paired cluster bootstrap: one weight matrix for every column and every statistic that is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ..errors import WrongNumbers, WrongShape
from . import bootstrap
from .estimates import (
    LEVEL,
    Estimates,
    Floats,
    Integers,
    Method,
    Random,
    as_columns,
    check_level,
    exhaustive,
    joined,
    share_shown_by_all,
)
from .functions import DIFFERENCE, R_SQUARED, RATIO, SLOPE, Statistic, general
from .groups import Groups
from .intervals import estimates
from .samples import Sample
from .weights import Weights, draw

RESAMPLES = 9999
MANY_CLUSTERS = 1000
"""From this many clusters on, Student's t interval is as good as a bootstrap and costs nothing."""
BEYOND = 5
"""A bootstrap limit needs at least this many draws beyond it; where the level leaves fewer, Student's t says more."""

Ratio = ArrayLike | tuple[ArrayLike, ArrayLike | None]
"""A mean, or the top and the bottom of a ratio of sums."""


@dataclass(frozen=True, eq=False)
class Resampling:
    """Clusters of pairs, resampled together: statistics of any columns, all from one weight matrix.

    clusters: [pair], any integers (or names); pairs of one cluster are drawn together. resamples: how many draws.
    seed: an integer or a `Generator`. population: how many pairs there are, if these were drawn from few without
    replacement; standard errors and intervals shrink by sqrt((N - n) / (N - 1)), and n = N is exhaustive.

    Weights are drawn once, when first needed. Since every column sees the same draws, differences and ratios of columns
    have the spread of paired data. `kept` (or a pair of nothing but zeros) leaves pairs out without drawing anew.

    Columns are done `chunk` at a time. Peak memory is about resamples * chunk * 8 bytes * (k + 2) + 8 MB, k being the
    sums of the statistic (2 for a ratio, 5 if studentised), beside the weights, resamples * clusters bytes (2 each from
    256 clusters on).

    Without a `method` limits are BCa (Efron 1987; percentile where BCa is no number), and Student's t from a thousand
    clusters on, or where fewer than five draws lie beyond the level. `Estimates.method` says which it was.
    Raises WrongShape, and WrongNumbers for a level or a population that cannot be.
    """

    clusters: ArrayLike
    _: KW_ONLY
    resamples: int = RESAMPLES
    seed: Random = 0
    population: int | None = None
    chunk: int = 128

    def __post_init__(self) -> None:
        if np.ndim(self.clusters) != 1:
            raise WrongShape(f"clusters has shape {np.shape(self.clusters)}. It should be [pair], a cluster each.")
        if self.resamples < 1 or self.chunk < 1:
            raise WrongNumbers(f"resamples ({self.resamples}) and chunk ({self.chunk}) are at least 1.")
        if self.population is not None and self.population < self.pairs:
            raise WrongNumbers(
                f"A population of {self.population} pairs cannot give {self.pairs} without replacement. "
                "Leave population out if pairs were drawn with replacement."
            )

    # -- statistics --------------------------------------------------------------------------------

    def ratio(
        self,
        top: ArrayLike,
        bottom: ArrayLike | None = None,
        *,
        kept: ArrayLike | None = None,
        tol: float = 0.0,
        level: float = LEVEL,
        method: Method | None = None,
    ) -> Estimates:
        """sum(top) / sum(bottom) of each column; the mean of `top` without a bottom.

        top, bottom: [pair, column], or one column for all. kept: [pair] or [pair, column], which pairs count.
        tol: values nearer than this are equal, so that a column of equal ratios is constant.
        Undefined where the bottom is zero or, with terms of both signs, cannot be told from zero (Fieller 1954).
        """
        return self._estimates(RATIO, self._pair((top, bottom)), kept=kept, tol=tol, level=level, method=method)

    def slope(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        kept: ArrayLike | None = None,
        tol: float = 0.0,
        level: float = LEVEL,
        method: Method | None = None,
    ) -> Estimates:
        """sum(x y) / sum(x^2) of each column: the slope of y on x through the origin. Undefined where x is all 0."""
        return self._estimates(SLOPE, (x, y), kept=kept, tol=tol, level=level, method=method)

    def r_squared(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        kept: ArrayLike | None = None,
        tol: float = 0.0,
        level: float = LEVEL,
        method: Method | None = None,
    ) -> Estimates:
        """sum(x y)^2 / (sum(x^2) sum(y^2)) of each column: the share of y^2 that the slope explains."""
        return self._estimates(R_SQUARED, (x, y), kept=kept, tol=tol, level=level, method=method)

    def difference(
        self,
        one: Ratio,
        other: Ratio,
        *,
        kept: ArrayLike | None = None,
        tol: float = 0.0,
        level: float = LEVEL,
        method: Method | None = None,
    ) -> Estimates:
        """One ratio minus another on the same draws: columns that move together have a narrow difference.

        one, other: columns, of which the means are compared, or (top, bottom). Ratios over different pairs have zeros
        in the rows of the others.
        """
        columns = (*self._pair(one), *self._pair(other))
        return self._estimates(DIFFERENCE, columns, kept=kept, tol=tol, level=level, method=method)

    def of(
        self,
        columns: Sequence[ArrayLike],
        function: Callable[..., Floats],
        *,
        kept: ArrayLike | None = None,
        tol: float = 0.0,
        level: float = LEVEL,
        method: Method | None = None,
    ) -> Estimates:
        """function(sum of the first columns, sum of the second, ...), for any smooth function of weighted sums.

        columns: [pair, column] each, or one column for all. function: works elementwise on arrays of any one shape, and
        gives NaN where it has no value. A column in which no cluster moves the result by more than tol is constant.
        """
        return self._estimates(general(function), tuple(columns), kept=kept, tol=tol, level=level, method=method)

    def band(
        self,
        top: ArrayLike,
        bottom: ArrayLike | None = None,
        *,
        kept: ArrayLike | None = None,
        tol: float = 0.0,
        level: float = LEVEL,
    ) -> Estimates:
        """Intervals of ratios (as `ratio` has them) that hold for all columns at once, with probability `level`.

        estimate -+ q * error. z is the `level` quantile over draws of max over columns of |draw - estimate| / spread of
        draws, and q what Student's t has where the normal distribution has z: the error is itself an estimate. Columns
        that do not vary are left out of the maximum; their share is that of a one-sided limit at (1 - level) / columns.
        Source: Westfall & Young 1993 (single-step max-t).
        """
        pair = self._pair((top, bottom))
        alone = self._estimates(RATIO, pair, kept=kept, tol=tol, level=level, method="t")
        shares = share_shown_by_all(alone.clusters, 1 - (1 - level) / max(len(alone), 1))
        varied = np.flatnonzero(np.array(alone.method) == "t")
        if not len(varied):
            return replace(alone, share=shares)
        whole = self._sample(RATIO, pair, kept)
        spread = alone.error / self.correction * np.sqrt(1 - 1 / np.maximum(alone.clusters, 1))
        farthest = np.zeros(self.resamples)
        for at in self._chunks(varied):
            away = whole.take(at).draws(self.weights)
            away -= alone.estimate[at][:, None]
            away /= spread[at][:, None]
            farthest = np.fmax(farthest, np.fmax.reduce(np.abs(away, out=away), axis=0))
        half = bootstrap.as_student(np.quantile(farthest, level), alone.clusters - 1) * alone.error
        half[alone.error == 0] = np.nan
        return replace(
            alone,
            low=alone.estimate - half,
            high=alone.estimate + half,
            method=tuple("band" if method == "t" else method for method in alone.method),
            share=shares,
        )

    # -- inside ------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> Weights:
        """The one weight matrix, drawn when first needed."""
        return draw(len(self.groups), self.resamples, self.seed)

    @cached_property
    def groups(self) -> Groups:
        """Which pairs are in which cluster."""
        return Groups.of(self.clusters)

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(np.asarray(self.clusters))

    @property
    def correction(self) -> float:
        """What standard errors are multiplied by: below 1 where much of a finite population was drawn."""
        if self.population is None or self.population < 2:
            return 1.0
        return math.sqrt((self.population - self.pairs) / (self.population - 1))

    def _estimates(
        self,
        statistic: Statistic,
        columns: Sequence[ArrayLike],
        *,
        kept: ArrayLike | None,
        tol: float,
        level: float,
        method: Method | None,
    ) -> Estimates:
        check_level(level)
        if method == "studentised" and statistic not in (RATIO, SLOPE):
            raise WrongNumbers("A studentised interval is there for means, ratios and slopes; take 'bca' or 't'.")
        few_beyond = (1 - level) / 2 * self.resamples < BEYOND
        usual: Method = "t" if few_beyond or len(self.groups) >= MANY_CLUSTERS else "bca"
        whole = self._sample(statistic, columns, kept)
        found = joined(
            [
                estimates(
                    whole.take(at),
                    lambda: self.weights,
                    tol=tol,
                    level=level,
                    method=method or usual,
                    correction=self.correction,
                )
                for at in self._chunks(np.arange(whole.width))
            ]
        )
        return exhaustive(found) if self.population == self.pairs else found

    def _sample(self, statistic: Statistic, columns: Sequence[ArrayLike], kept: ArrayLike | None) -> Sample:
        """The columns as [pair, column], in their clusters."""
        given = [as_columns(values, self.pairs, f"column {k + 1}") for k, values in enumerate(columns)]
        there = None if kept is None else as_columns(kept, self.pairs, "kept") != 0
        return Sample(statistic, given, self.groups, there)

    def _pair(self, ratio: Ratio) -> tuple[ArrayLike, ArrayLike]:
        """Top and bottom; the bottom of a mean counts pairs."""
        top, bottom = ratio if isinstance(ratio, tuple) else (ratio, None)
        return top, np.ones(self.pairs) if bottom is None else bottom

    def _chunks(self, columns: Integers) -> list[Integers]:
        """So many columns at a time; one time, even of no columns at all."""
        return np.array_split(columns, max(-(-len(columns) // self.chunk), 1))


def ratios(
    top: ArrayLike,
    bottom: ArrayLike | None,
    clusters: ArrayLike,
    *,
    tol: float = 0.0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: Random = 0,
    interval: bool = True,
) -> Estimates:
    """`Resampling.ratio` in one call; without `interval`, nothing is resampled and limits are Student's t."""
    resampling = Resampling(clusters, resamples=resamples, seed=seed)
    return resampling.ratio(top, bottom, tol=tol, level=level, method=None if interval else "t")
