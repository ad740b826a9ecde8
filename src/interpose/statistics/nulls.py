"""p values of nulls that make sense: few are hits, many are, the mean is zero, the mean is as large as delta."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Estimates, Floats
from .verdicts import P0


def p_above(hits: ArrayLike, n: ArrayLike, *, p0: float = P0) -> Floats:
    """p values that at most a share p0 of the population is a hit, elementwise: P(Binomial(n, p0) >= hits).

    Small for what mediates; for lists of sites, see `benjamini_hochberg`. NaN where there are no units.
    """
    from scipy.special import bdtrc

    k, n = np.broadcast_arrays(np.asarray(hits, int), np.asarray(n, int))
    return np.where(n > 0, np.where(k > 0, bdtrc(np.maximum(k, 1) - 1, np.maximum(n, 1), p0), 1.0), np.nan)


def p_below(hits: ArrayLike, n: ArrayLike, *, p0: float = P0) -> Floats:
    """p values that more than a share p0 is a hit, elementwise: P(Binomial(n, p0) <= hits). NaN for no units.

    Small for what does not mediate.
    """
    from scipy.special import bdtr

    k, n = np.broadcast_arrays(np.asarray(hits, int), np.asarray(n, int))
    return np.where(n > 0, bdtr(k, np.maximum(n, 1), p0), np.nan)


def p_mean(estimates: Estimates, *, null: float = 0.0) -> Floats:
    """[column]: two-sided p values that the true value is `null`, from (estimate - null) / error and Student's t.

    Clusters - 1 degrees of freedom. NaN where there is no standard error to compare with, as in constant columns: that
    a mean is not zero in every pair is no statistical question.
    """
    from scipy.special import stdtr

    distance, freedom = np.abs(estimates.estimate - null), np.maximum(estimates.clusters - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(estimates.error > 0, 2 * stdtr(freedom, -distance / estimates.error), np.nan)


def mean_equivalence(estimates: Estimates, *, delta: float) -> Floats:
    """[column]: p values that the true mean is at least delta away from zero, by two one-sided t tests.

    Small for a mean that is nearly zero; that says nothing of single pairs, since effects of +1 and -1 pass. NaN where
    there is no standard error.
    Source: Schuirmann 1987 (TOST).
    """
    from scipy.special import stdtr

    freedom = np.maximum(estimates.clusters - 1, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        nearest = (delta - np.abs(estimates.estimate)) / estimates.error
        return np.where(estimates.error > 0, stdtr(freedom, -nearest), np.nan)
