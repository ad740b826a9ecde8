"""Many tests at once: adjusted p values for lists, and the level of intervals of what was selected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..errors import WrongNumbers
from .estimates import Floats


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Adjusted p values of the same shape: reject at most q for a false discovery rate of at most q.

    p_(i) * m / i, made monotone from the largest; NaN is a test that was not made, and does not count. For independent
    tests, and those that depend positively.
    Source: Benjamini & Hochberg 1995.
    """
    return _adjusted(p, lambda rank, tests: tests / rank, from_smallest=False)


def benjamini_yekutieli(p: ArrayLike) -> Floats:
    """As `benjamini_hochberg`, under any dependence: times 1 + 1/2 + ... + 1/m.

    Source: Benjamini & Yekutieli 2001.
    """
    return _adjusted(p, lambda rank, tests: tests / rank * (1 / rank).sum(), from_smallest=False)


def holm(p: ArrayLike) -> Floats:
    """Adjusted p values of the same shape: reject at most alpha for a chance of at most alpha of any false rejection.

    p_(i) * (m - i + 1), made monotone from the smallest; NaN is a test that was not made. Under any dependence.
    Source: Holm 1979.
    """
    return _adjusted(p, lambda rank, tests: tests - rank + 1, from_smallest=True)


def bonferroni(p: ArrayLike) -> Floats:
    """Adjusted p values p * m; NaN is a test that was not made. `holm` promises the same and rejects more."""
    return _adjusted(p, lambda rank, tests: np.full(len(rank), float(tests)), from_smallest=True)


def fcr_level(selected: int, tested: int, *, q: float = 0.05) -> float:
    """The level of intervals of `selected` of `tested` columns, so that at most a share q of them miss on average.

    1 - q * selected / tested, of columns selected by any rule, like a list by `benjamini_hochberg` at q.
    Source: Benjamini & Yekutieli 2005 (false coverage rate).
    """
    if not 0 < selected <= tested or not 0 < q < 1:
        raise WrongNumbers(
            f"No level follows from {selected} selected of {tested} tested at q = {q:g}: "
            "selected is from 1 to tested, and q between 0 and 1."
        )
    return 1 - q * selected / tested


def _adjusted(p: ArrayLike, factor: Callable[[Floats, int], Floats], *, from_smallest: bool) -> Floats:
    """p times a factor of its rank (from 1) and the number of tests, made monotone in the order of p, at most 1."""
    p = np.asarray(p, float)
    made = np.flatnonzero(~np.isnan(p))
    tests = p.ravel()[made]
    if ((tests < 0) | (tests > 1)).any():
        raise WrongNumbers(f"p values lie between 0 and 1; here are some from {tests.min():g} to {tests.max():g}.")
    order = np.argsort(tests, kind="stable")
    scaled = tests[order] * factor(np.arange(1.0, len(tests) + 1), len(tests))
    scaled = np.maximum.accumulate(scaled) if from_smallest else np.minimum.accumulate(scaled[::-1])[::-1]
    found = np.full(p.size, np.nan)
    found[made[order]] = np.minimum(scaled, 1.0)
    return found.reshape(p.shape)
