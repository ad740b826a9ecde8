"""How many units a claim needs, before it is made or when it could not be made."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..errors import WrongNumbers
from .estimates import LEVEL, Booleans, Floats
from .proportions import clopper_pearson
from .verdicts import ALPHA, P0, limits


def n_for_none(*, p0: float = P0, alpha: float = ALPHA, tests: int = 1, design: float = 1.0) -> int:
    """How many units without a single hit show that at most a share p0 are hits: ln(alpha / tests) / ln(1 - p0).

    tests: how many verdicts share alpha. design: the design effect, by which clustering multiplies pairs.
    """
    _check(0 < p0 < 1 and 0 < alpha < 1 and tests >= 1 and design >= 1, p0=p0, alpha=alpha, tests=tests, design=design)
    return _whole(design * _whole(math.log(alpha / tests) / math.log1p(-p0)))


def pairs_to_exclude(*, tests: int = 1, p0: float = P0, alpha: float = ALPHA) -> int:
    """`n_for_none`, of pairs that count one each."""
    return n_for_none(p0=p0, alpha=alpha, tests=tests)


def n_for_iia(half_width: float, *, level: float = LEVEL, design: float = 1.0) -> int:
    """How many pairs give Wilson's interval of a share this half width, whatever the share: z^2 / (4 h^2) - z^2."""
    from scipy.special import ndtri

    _check(0 < half_width < 0.5 and 0 < level < 1 and design >= 1, half_width=half_width, level=level, design=design)
    z = float(ndtri(0.5 + level / 2))
    return _whole(design * max(_whole(z**2 / (4 * half_width**2) - z**2), 1))


def n_for_mean(d: float, *, power: float = 0.8, alpha: float = ALPHA, design: float = 1.0) -> int:
    """The fewest pairs that find a mean of d standard deviations with this power, in a two-sided t test at alpha.

    From the noncentral t distribution with n - 1 degrees of freedom and noncentrality d sqrt(n).
    """
    from scipy.special import nctdtr, stdtrit

    _check(d != 0 and alpha < power < 1 and 0 < alpha < 1 and design >= 1, d=d, power=power, alpha=alpha, design=design)

    def found(n: int) -> bool:
        bound, shift = stdtrit(n - 1, 1 - alpha / 2), abs(d) * math.sqrt(n)
        return bool(1 - nctdtr(n - 1, shift, bound) + nctdtr(n - 1, shift, -bound) >= power)

    return _whole(design * _first(found, 2))


def further(hits: ArrayLike, n: int, *, p0: float = P0, alpha: float = ALPHA, tests: int | None = None) -> Floats:
    """[column]: how many more units would decide a verdict if the share of hits stayed as it is; 0 where it is decided.

    hits, p0, alpha and tests are those of `verdicts`; of no units yet, no hits are expected. Infinite where a thousand
    million would not do, as where the share is p0 itself.
    """
    low, high = limits(hits, n, alpha=alpha, tests=tests)
    rate = np.atleast_1d(np.asarray(hits, float)) / max(n, 1)
    level = alpha / max(len(rate) if tests is None else tests, 1)

    def decided(more: Floats) -> Booleans:
        below, above = clopper_pearson(rate * (n + more), n + more, alpha=level)
        return (below > p0) | (above <= p0)

    enough = np.where((low > p0) | (high <= p0), 0.0, 1.0)
    while (short := ~decided(enough) & (enough > 0) & (enough < 1e9)).any():
        enough = np.where(short, 2 * enough, enough)
    never, too_few = enough >= 1e9, np.floor(enough / 2)
    while (apart := enough - too_few > 1).any():
        half = np.floor((too_few + enough) / 2)
        fine = decided(half)
        enough, too_few = np.where(apart & fine, half, enough), np.where(apart & ~fine, half, too_few)
    return np.where(never, np.inf, enough)


def _first(found: Callable[[int], bool], start: int) -> int:
    """The first number from `start` on for which something holds that holds for all greater ones too."""
    short, enough = start - 1, start
    while not found(enough):
        short, enough = enough, 2 * enough
    while enough - short > 1:
        half = (short + enough) // 2
        short, enough = (short, half) if found(half) else (half, enough)
    return enough


def _whole(number: float) -> int:
    """The next whole number, not counting errors of rounding."""
    return math.ceil(round(number, 9))


def _check(fine: bool, **values: float) -> None:
    if not fine:
        given = ", ".join(f"{name} = {value:g}" for name, value in values.items())
        raise WrongNumbers(f"No number of units follows from {given}.")
