"""From a sample of clusters to estimates: which columns get an interval, of which kind, and why others get none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import bootstrap
from .estimates import Estimates, Floats, Method, all_alike, one_cluster, share_shown_by_all
from .samples import Sample
from .weights import Weights


def estimates(
    sample: Sample, weights: Callable[[], Weights], *, tol: float, level: float, method: Method, correction: float
) -> Estimates:
    """The statistic of each column, with its interval.

    weights: asked for only where something is resampled. correction: what standard errors are multiplied by, below 1
    where much of a finite population was drawn.
    """
    lacking = sample.lacking(level)
    undefined = np.array([reason is not None for reason in lacking], bool)
    methods = np.full(sample.width, method, dtype=object)
    methods[sample.steady(tol)] = "constant"
    methods[sample.clusters < 2] = "one cluster"
    methods[undefined] = "undefined"
    varied = np.flatnonzero(methods == method)
    low, high = np.full(sample.width, np.nan), np.full(sample.width, np.nan)
    if len(varied):
        low[varied], high[varied], methods[varied] = _limits(sample.take(varied), weights, level, method)
    estimate = np.where(undefined, np.nan, sample.estimate)
    error = np.where(undefined | (methods == "one cluster"), np.nan, sample.error)
    error[methods == "constant"] = 0.0
    return Estimates(
        estimate=estimate,
        low=estimate + (low - estimate) * correction,
        high=estimate + (high - estimate) * correction,
        error=error * correction,
        method=tuple(methods.tolist()),
        reason=tuple(_reason(str(methods[j]), lacking[j], sample, j) for j in range(sample.width)),
        flags=tuple(
            tuple(flag for flag, raised in (("few_clusters", few), ("skewed", skewed)) if raised and shown)
            for few, skewed, shown in zip(sample.few, sample.skewed, ~np.isnan(low), strict=True)
        ),
        share=share_shown_by_all(sample.clusters, level),
        clusters=sample.clusters,
        level=level,
    )


def _limits(
    sample: Sample, weights: Callable[[], Weights], level: float, method: Method
) -> tuple[Floats, Floats, np.ndarray]:
    """Limits, and the method that each column got: percentile where the one asked for gives no number."""
    estimate, error = sample.estimate, sample.error
    fine = np.full(sample.width, method != "percentile")
    match method:
        case "t":
            low, high = bootstrap.student(estimate, error, sample.clusters - 1, level)
        case "bca":
            draws = sample.draws(weights())
            low, high, fine = bootstrap.bca(draws, estimate, error, sample.left_out(), level)
        case "studentised":
            draws, errors = sample.draws_with_errors(weights())
            low, high, fine = bootstrap.studentised(draws, errors, estimate, error, level)
            if not fine.all():
                below, above = bootstrap.percentile(draws, level)
                low, high = np.where(fine, low, below), np.where(fine, high, above)
        case "percentile":
            low, high = bootstrap.percentile(sample.draws(weights()), level)
    return low, high, np.where(fine, method, "percentile").astype(object)


def _reason(method: str, lacking: str | None, sample: Sample, column: int) -> str | None:
    """Why a column has no interval, or no value; None where it has one."""
    pairs = int(sample.present[:, column].sum())
    match method:
        case "undefined":
            return lacking
        case "constant":
            return all_alike(int(sample.clusters[column]), pairs)
        case "one cluster":
            return one_cluster(pairs)
        case _:
            return None
