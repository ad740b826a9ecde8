"""Shares of pairs and medians: closed forms, with clusters through the design effect."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import WrongNumbers
from .estimates import (
    FEW_CLUSTERS,
    LEVEL,
    NO_PAIRS,
    Estimates,
    Floats,
    Integers,
    all_alike,
    as_columns,
    check_level,
    one_cluster,
    share_shown_by_all,
)
from .groups import Groups


def wilson(hits: ArrayLike, n: ArrayLike, *, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's (1927) two-sided interval of a share, elementwise; never of zero width. NaN where n is 0."""
    from scipy.special import ndtri

    check_level(level)
    k, n = np.asarray(hits, float), np.asarray(n, float)
    z = ndtri(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.where(k == 0, np.where(n > 0, 0.0, np.nan), centre - half), np.where(k == n, p, centre + half)


def clopper_pearson(hits: ArrayLike, n: ArrayLike, *, alpha: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's (1934) lower and upper limits of a share, each one-sided at 1 - alpha, elementwise."""
    from scipy.special import betaincinv

    k, n = np.asarray(hits, float), np.asarray(n, float)
    low = np.where(k > 0, betaincinv(np.where(k > 0, k, 1), n - k + 1, alpha), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.where(k < n, n - k, 1), 1 - alpha), 1.0)
    return low, high


def shares(hits: ArrayLike, clusters: ArrayLike, *, kept: ArrayLike | None = None, level: float = LEVEL) -> Estimates:
    """The share of ones in each column of zeros and ones, with Wilson's interval.

    hits: [pair, column]; clusters: [pair]; kept: [pair] or [pair, column], which pairs count.
    Where pairs share clusters, n is their effective number: that of clusters if all pairs agree. Several pairs of a
    single cluster have no interval, whether they agree or not.
    """
    groups = Groups.of(clusters)
    pairs = len(groups.order)
    ones = as_columns(hits, pairs, "hits")
    there = np.ones((pairs, 1)) if kept is None else (as_columns(kept, pairs, "kept") != 0).astype(float)
    ones = np.where(there > 0, ones, 0.0)
    if not np.isin(ones, (0.0, 1.0)).all():
        raise WrongNumbers("A share is of zeros and ones; hits has other values.")
    sums, sizes = groups.sums(ones), np.broadcast_to(groups.sums(there), (len(groups), ones.shape[1]))
    n, many = sizes.sum(0), (sizes > 0).sum(0)
    effective = effective_size(sums, sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = sums.sum(0) / n
        error = np.sqrt(p * (1 - p) / effective)
    alone = (many == 1) & (n > 1)
    low, high = (np.where(alone, np.nan, limit) for limit in wilson(p * effective, effective, level=level))
    return Estimates(
        estimate=p,
        low=low,
        high=high,
        error=np.where(alone | (error == 0), np.nan, error),
        method=tuple(np.where(n == 0, "undefined", np.where(alone, "one cluster", "wilson")).tolist()),
        reason=tuple(
            NO_PAIRS if not size else one_cluster(int(size)) if single else None
            for size, single in zip(n, alone, strict=True)
        ),
        flags=tuple(
            ("few_clusters",) if size > 1 and count < min(size, FEW_CLUSTERS) else ()
            for size, count in zip(n, many, strict=True)
        ),
        share=share_shown_by_all(many, level),
        clusters=many,
        level=level,
    )


def design_effect(hits: ArrayLike, clusters: ArrayLike) -> Floats:
    """[column]: by how much clusters multiply the pairs that a share needs (Kish 1965); 1 where they are independent.

    hits: [pair, column] of zeros and ones; clusters: [pair]. For the `design` of sample sizes.
    """
    groups = Groups.of(clusters)
    ones = as_columns(hits, len(groups.order), "hits")
    sizes = groups.sums(np.ones_like(ones))
    return sizes.sum(0) / effective_size(groups.sums(ones), sizes)


def effective_size(sums: Floats, sizes: Floats) -> Floats:
    """How many independent pairs would tell as much of the share of each column; at most as many as there are.

    sums, sizes: [cluster, column], hits and pairs. 1 + p (1 - p) / v, with p the share and v its variance between
    clusters, G / (G - 1) * sum (hits - p size)^2 / n^2: the number of pairs where each is its own cluster, of clusters
    where pairs agree within each. n divided by it is the design effect (Kish 1965), which for clusters of one size m is
    1 + (m - 1) * intraclass correlation.
    """
    n, many = sizes.sum(0), (sizes > 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = sums.sum(0) / n
        variance = many / np.maximum(many - 1, 1) * ((sums - p * sizes) ** 2).sum(0) / n**2
        return np.where((p == 0) | (p == 1), many, np.minimum(1 + p * (1 - p) / variance, n))


def mcnemar(ours: ArrayLike, theirs: ArrayLike) -> Floats:
    """[column]: p values that two shares of the same pairs are equal, from the pairs in which the two differ.

    ours, theirs: [pair, column] of zeros and ones. The exact two-sided binomial test of McNemar (1947); 1 where no pair
    differs. Pairs are independent; for clusters see `Resampling.difference`.
    """
    from scipy.special import bdtr

    one, other = np.asarray(ours) != 0, np.asarray(theirs) != 0
    ours_alone, theirs_alone = (one & ~other).sum(0), (other & ~one).sum(0)
    fewer, discordant = np.minimum(ours_alone, theirs_alone), ours_alone + theirs_alone
    return np.atleast_1d(np.where(discordant > 0, np.minimum(1.0, 2 * bdtr(fewer, discordant, 0.5)), 1.0))


def median(values: ArrayLike, clusters: ArrayLike, *, level: float = LEVEL) -> Estimates:
    """The median of each column, with the interval between two order statistics, whatever the distribution.

    values: [pair, column]; clusters: [pair]. The r-th smallest and r-th largest of n values, r the largest with
    P(Binomial(n, 1/2) < r) <= (1 - level) / 2 (Thompson 1936). Where pairs share clusters, r is that of the effective
    number of pairs for the share of values up to the median, and keeps its place in the order (Woodruff 1952).
    """
    check_level(level)
    groups = Groups.of(clusters)
    pairs, many = len(groups.order), len(groups)
    columns = as_columns(values, pairs, "values")
    width = columns.shape[1]
    ordered = np.sort(columns, axis=0)
    finite = np.isfinite(columns).all(0)
    middle = np.where(finite, np.median(columns, axis=0), np.nan) if pairs else np.full(width, np.nan)
    ranks = _ranks(columns, middle, groups, level) if pairs else np.zeros(width, int)
    constant = finite & (columns == middle).all(0)
    methods = np.where(ranks < 1, "too few", "order statistics").astype(object)
    for method, where in {"constant": constant, "one cluster": many < 2, "undefined": ~finite | (pairs == 0)}.items():
        methods[np.broadcast_to(where, width)] = method
    shown = methods == "order statistics"
    at, side = np.arange(width), np.maximum(ranks, 1)
    low, high = (np.where(shown, ordered[k, at], np.nan) if pairs else middle for k in (side - 1, pairs - side))
    reasons = {
        "undefined": "some values are not finite" if pairs else NO_PAIRS,
        "one cluster": one_cluster(pairs),
        "constant": all_alike(many, pairs),
        "too few": f"{many} {'pairs' if many == pairs else 'clusters'} are too few for the median at this level",
    }
    return Estimates(
        estimate=middle,
        low=low,
        high=high,
        error=np.full(width, np.nan),
        method=tuple(methods.tolist()),
        reason=tuple(reasons.get(method) for method in methods),
        flags=(("few_clusters",) if many < min(pairs, FEW_CLUSTERS) else (),) * width,
        share=np.full(width, share_shown_by_all(many, level)),
        clusters=np.full(width, many),
        level=level,
    )


def _ranks(columns: Floats, middle: Floats, groups: Groups, level: float) -> Integers:
    """[column]: which of the smallest, and of the largest, bounds the median; 0 where there are too few."""
    from scipy.special import bdtr

    pairs = len(columns)
    sizes = groups.sums(np.ones_like(columns))
    found = effective_size(groups.sums((columns <= middle).astype(float)), sizes)
    effective = np.floor(found + 1e-9).astype(int)
    ranks = {int(n): int((bdtr(np.arange(n), n, 0.5) <= (1 - level) / 2).sum()) for n in np.unique(effective)}
    return np.array([-(-ranks[int(n)] * pairs // int(n)) for n in effective], int)
