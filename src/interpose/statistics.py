"""Intervals and verdicts, from numbers alone: nothing here knows of networks.

Shares get Wilson intervals; means and ratios of sums get a paired cluster bootstrap with one weight matrix for all
columns; what does not vary is called constant and is not resampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Verdict = Literal["mediates", "does not mediate", "undetermined"]

LEVEL = 0.95
RESAMPLES = 9999
MANY_CLUSTERS = 1000
"""From this many clusters on, Student's t interval is as good as a bootstrap and costs nothing."""
FEW_CLUSTERS = 30
"""No bootstrap rescues a small sample: below this many clusters, intervals are called rough."""
P0 = 0.05
"""A place that moves at most this share of the population does not mediate."""
ALPHA = 0.05
"""The chance of any wrong verdict in a table."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """One estimate a column, with its interval and how that was made.

    method: "wilson", "bca", "percentile", "t", "constant" (no variation to resample), "exhaustive" (nothing to
        estimate: all pairs were measured), "one cluster" (all pairs share a base, so nothing says how others would
        differ) or "undefined" (a ratio by what cannot be told from zero); low and high are NaN for the last four.
    share: of a constant column, the least share of the population that has this value, at `level`.
    """

    estimate: Floats
    low: Floats
    high: Floats
    method: tuple[str, ...]
    level: float
    share: float
    clusters: int

    def text(self, column: int) -> str:
        """The interval in words: "[0.93, 1.00]", or why there is none."""
        match self.method[column]:
            case "constant":
                return f"constant (>= {100 * self.share:.0f} %)"
            case "exhaustive":
                return "exact"
            case "undefined":
                return "undefined"
            case "one cluster":
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


def wilson(hits: ArrayLike, n: ArrayLike, *, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's (1927) two-sided interval of a share, elementwise; never of zero width. NaN where n is 0."""
    from scipy.special import ndtri

    k, n = np.asarray(hits, float), np.asarray(n, float)
    z = ndtri(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.where(k == 0, np.where(n > 0, 0.0, np.nan), centre - half), np.where(k == n, p, centre + half)


def clopper_pearson(hits: ArrayLike, n: ArrayLike, *, alpha: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's (1934) lower and upper limits of a share, each one-sided at 1 - alpha."""
    from scipy.special import betaincinv

    k, n = np.asarray(hits, float), np.asarray(n, float)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha), 1.0)
    return low, high


def verdicts(hits: ArrayLike, n: int, *, p0: float = P0, alpha: float = ALPHA) -> tuple[Verdict, ...]:
    """Whether more than a share p0 of the population is a hit, with errors at most alpha over all the columns together.

    hits: [column], of n units each. "mediates" where the one-sided lower limit is above p0, "does not mediate" where
    the upper one is at most p0, "undetermined" otherwise.
    """
    hits = np.atleast_1d(np.asarray(hits))
    if n == 0:
        return ("undetermined",) * len(hits)
    low, high = clopper_pearson(hits, n, alpha=alpha / max(len(hits), 1))
    return tuple(
        "mediates" if below > p0 else "does not mediate" if above <= p0 else "undetermined"
        for below, above in zip(low, high, strict=True)
    )


def pairs_to_exclude(*, tests: int = 1, p0: float = P0, alpha: float = ALPHA) -> int:
    """How many pairs without a single hit show that at most a share p0 are hits: ln(alpha / tests) / ln(1 - p0)."""
    return math.ceil(math.log(alpha / tests) / math.log1p(-p0))


def shares(hits: Floats, clusters: NDArray[np.int_], *, level: float = LEVEL) -> Estimates:
    """The mean of each column of zeros and ones, with Wilson's interval.

    hits: [pair, column]; clusters: [pair]. Where pairs share a cluster, n is the number of clusters if all agree, and
    is divided by the design effect 1 + (mean cluster size - 1) * intraclass correlation otherwise.
    """
    n = len(hits)
    groups = len(np.unique(clusters))
    k = hits.sum(0)
    p = k / n if n else np.full(hits.shape[1], np.nan)
    effective = np.array([_effective(hits[:, j], clusters, groups) for j in range(hits.shape[1])])
    low, high = wilson(p * effective, effective, level=level)
    method = ("wilson" if n else "undefined",) * hits.shape[1]
    return Estimates(p, low, high, method, level, _share(groups, level), groups)


def ratios(
    top: Floats,
    bottom: Floats | None,
    clusters: NDArray[np.int_],
    *,
    tol: float = 0.0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    interval: bool = True,
) -> Estimates:
    """sum(top) / sum(bottom) of each column, with a BCa interval (Efron 1987) from resampled clusters.

    From a thousand clusters on, or where no interval is asked for, nothing is resampled.

    top: [pair, column]; bottom: the same, or None for the mean of `top`; clusters: [pair].
    tol: values nearer than this are equal, so that a column of equal ratios is constant.

    Undefined where the bottom cannot be told from zero (Fieller); without an interval where there is a single cluster.
    """
    columns = top.shape[1]
    bottom = np.ones_like(top) if bottom is None else np.broadcast_to(bottom, top.shape)
    _, index = np.unique(clusters, return_inverse=True)
    groups = int(index.max(initial=-1)) + 1
    tops, bottoms = np.zeros((groups, columns)), np.zeros((groups, columns))
    np.add.at(tops, index, top)
    np.add.at(bottoms, index, bottom)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = tops.sum(0) / bottoms.sum(0)
    method = np.full(columns, "bca", dtype=object)
    method[_indistinct(bottoms) | ~np.isfinite(estimate)] = "undefined"
    steady = (np.abs(top - np.where(np.isfinite(estimate), estimate, 0) * bottom) <= tol).all(0)
    method[steady & (method != "undefined")] = "constant"
    if groups < 2:
        method[method != "undefined"] = "one cluster"
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    if not interval or groups >= MANY_CLUSTERS:
        method[method == "bca"] = "t"
    varied = np.flatnonzero(method == "t")
    low[varied], high[varied] = _student(tops[:, varied], bottoms[:, varied], estimate[varied], level)
    varied = np.flatnonzero(method == "bca")
    if len(varied):
        weights = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
        for chunk in np.array_split(varied, -(-len(varied) // 256)):
            low[chunk], high[chunk], fine = _bca(tops[:, chunk], bottoms[:, chunk], estimate[chunk], weights, level)
            method[chunk[~fine]] = "percentile"
    estimate = np.where(method == "undefined", np.nan, estimate)
    return Estimates(estimate, low, high, tuple(method), level, _share(groups, level), groups)


def exhaustive(estimates: Estimates) -> Estimates:
    """The same estimates where every pair of the domain was measured: exact, and without an interval."""
    nothing = np.full_like(estimates.estimate, np.nan)
    method = tuple(
        "undefined" if m == "undefined" and np.isnan(e) else "exhaustive"
        for m, e in zip(estimates.method, estimates.estimate, strict=True)
    )
    return Estimates(estimates.estimate, nothing, nothing, method, estimates.level, 1.0, estimates.clusters)


def _bca(
    tops: Floats, bottoms: Floats, estimate: Floats, weights: NDArray[np.int_], level: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Limits per column, and whether BCa could be computed (the percentile limits stand in where not)."""
    from scipy.special import ndtr, ndtri

    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ tops) / (weights @ bottoms)
        left_out = (tops.sum(0) - tops) / (bottoms.sum(0) - bottoms)
        away = left_out.mean(0) - left_out
        acceleration = (away**3).sum(0) / (6 * (away**2).sum(0) ** 1.5)
        below = (draws < estimate).mean(0) + (draws == estimate).mean(0) / 2
        bias = ndtri(below)
        tail = (1 - level) / 2
        z = bias + ndtri(np.array([[tail], [1 - tail]]))
        at = ndtr(bias + z / (1 - acceleration * z))
    fine = np.isfinite(at).all(0)
    at = np.where(fine, at, np.array([[tail], [1 - tail]]))
    draws = np.sort(draws, axis=0)
    low, high = (np.array([np.quantile(draws[:, j], at[side, j]) for j in range(draws.shape[1])]) for side in (0, 1))
    return low, high, fine


def _student(tops: Floats, bottoms: Floats, estimate: Floats, level: float) -> tuple[Floats, Floats]:
    """Limits per column from the spread of cluster residuals, with one degree of freedom less than clusters."""
    from scipy.special import stdtrit

    groups = len(tops)
    spread = groups / max(groups - 1, 1) * ((tops - estimate * bottoms) ** 2).sum(0) / bottoms.sum(0) ** 2
    half = stdtrit(max(groups - 1, 1), 0.5 + level / 2) * np.sqrt(spread)
    return estimate - half, estimate + half


def _indistinct(bottoms: Floats) -> NDArray[np.bool_]:
    """Per column: the sum of the bottoms is zero or, where they have both signs, cannot be told from it (Fieller)."""
    from scipy.special import stdtrit

    groups = len(bottoms)
    total = bottoms.sum(0)
    if groups < 2:
        return np.asarray(total == 0)
    spread = groups / (groups - 1) * ((bottoms - bottoms.mean(0)) ** 2).sum(0)
    lost = stdtrit(groups - 1, 0.975) ** 2 * spread >= total**2
    return np.asarray(np.where((bottoms >= 0).all(0), total == 0, lost))


def _effective(hits: Floats, clusters: NDArray[np.int_], groups: int) -> float:
    n = len(hits)
    if groups == n or n == 0:
        return float(n)
    p = hits.mean()
    if p in (0.0, 1.0):
        return float(groups)
    sizes = np.unique(clusters, return_counts=True)[1]
    _, index = np.unique(clusters, return_inverse=True)
    means = np.bincount(index, hits) / sizes
    within = ((hits - means[index]) ** 2).sum() / max(n - groups, 1)
    between = (sizes * (means - p) ** 2).sum() / max(groups - 1, 1)
    size = (n - (sizes**2).sum() / n) / max(groups - 1, 1)
    correlation = (between - within) / (between + (size - 1) * within) if between + (size - 1) * within > 0 else 0.0
    return float(n / max(1.0, 1 + (n / groups - 1) * correlation))


def _share(groups: int, level: float) -> float:
    """A value shown by all of `groups` independent clusters is had by at least this share of the population."""
    return (1 - level) ** (1 / groups) if groups else 0.0
