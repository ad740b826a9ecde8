"""From resampled values to limits: BCa, percentile and studentised; and Student's t, from the standard error alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Booleans, Floats

TIE = 1e-9
"""Draws nearer to the estimate than this share of its standard error are equal to it: sums in another order differ."""


def student(estimate: Floats, error: Floats, freedom: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """estimate -+ t * error, with Student's t at `freedom` degrees of freedom."""
    from scipy.special import stdtrit

    half = stdtrit(np.maximum(freedom, 1), 0.5 + level / 2) * error
    return estimate - half, estimate + half


def as_student(z: float, freedom: ArrayLike) -> Floats:
    """What Student's t, at each `freedom`, exceeds as often as the normal distribution exceeds z."""
    from scipy.special import ndtr, stdtrit

    return -stdtrit(np.maximum(freedom, 1), np.maximum(ndtr(-z), 1e-300))


def bca(
    draws: Floats, estimate: Floats, error: Floats, left_out: Floats, level: float
) -> tuple[Floats, Floats, Booleans]:
    """Limits corrected for bias and acceleration, and in which columns they are BCa and not percentile limits.

    draws: [column, draw], which this sorts in place; left_out: [cluster, column], the estimate without each cluster.
    Limits are the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z0 = Phi^-1(share of draws below the estimate, ties
    half), a = sum d^3 / (6 (sum d^2)^1.5), d = mean of left_out - left_out. Where that is not a number, or a draw is
    not, percentile limits stand in.
    Source: Efron 1987.
    """
    from scipy.special import ndtr, ndtri

    margin = TIE * error
    below = ((draws < (estimate - margin)[:, None]).mean(1) + (draws <= (estimate + margin)[:, None]).mean(1)) / 2
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        away = left_out.mean(0) - left_out
        squares = away * away
        acceleration = (squares * away).sum(0) / (6 * squares.sum(0) ** 1.5)
        bias = ndtri(below)
        z = bias + ndtri(_tails(level))
        at = ndtr(bias + z / (1 - acceleration * z))
    draws.sort(axis=1)
    fine = np.isfinite(at).all(0) & np.isfinite(draws).all(1)
    at = np.where(fine, at, _tails(level))
    return quantile(draws, at[0]), quantile(draws, at[1]), fine


def percentile(draws: Floats, level: float) -> tuple[Floats, Floats]:
    """The quantiles of the draws, [column, draw], which this sorts in place; draws that are no number are left out."""
    draws.sort(axis=1)
    low, high = (np.broadcast_to(tail, len(draws)) for tail in _tails(level))
    return quantile(draws, low), quantile(draws, high)


def studentised(
    draws: Floats, errors: Floats, estimate: Floats, error: Floats, level: float
) -> tuple[Floats, Floats, Booleans]:
    """Limits from the quantiles of (draw - estimate) / its own standard error, and in which columns they are numbers.

    draws, errors: [column, draw]. A draw of no spread that differs from the estimate counts as infinitely far away.
    Source: Efron & Tibshirani 1993, section 12.5 (the bootstrap-t interval).
    """
    distance = draws - estimate[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(np.abs(distance) <= TIE * error[:, None], 0.0, distance / errors)
    t.sort(axis=1)
    tails = _tails(level)[:, 0]
    below, above = (quantile(t, np.full(len(t), tail)) for tail in tails)
    low, high = estimate - above * error, estimate - below * error
    return low, high, np.isfinite(low) & np.isfinite(high)


def quantile(ordered: Floats, at: Floats) -> Floats:
    """[row]: the quantile `at` of each row of values in order, NaN last and left out; linear in between."""
    many = (~np.isnan(ordered)).sum(1)
    place = np.clip(at, 0, 1) * np.maximum(many - 1, 0)
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, np.maximum(many - 1, 0))
    low, high = (np.take_along_axis(ordered, side[:, None], 1)[:, 0] for side in (before, after))
    with np.errstate(invalid="ignore"):
        between = low + (place - before) * (high - low)
    return np.where((place == before) | (low == high), low, between)


def _tails(level: float) -> Floats:
    """[[lower tail], [upper tail]] of a two-sided interval."""
    return np.array([[(1 - level) / 2], [(1 + level) / 2]])
