"""Three verdicts, each with its bound: more than a share p0 of the population are hits, at most p0 are, or neither."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..errors import WrongNumbers
from .estimates import Floats
from .proportions import clopper_pearson

Verdict = Literal["mediates", "does not mediate", "undetermined"]

P0 = 0.05
"""A place that moves at most this share of the population does not mediate."""
ALPHA = 0.05
"""The chance of any wrong verdict in a table."""


def limits(hits: ArrayLike, n: ArrayLike, *, alpha: float = ALPHA, tests: int | None = None) -> tuple[Floats, Floats]:
    """[column]: the lower and the upper limit of the share of hits, which verdicts compare with p0.

    Clopper and Pearson's (1934), one-sided at 1 - alpha / tests; 0 and 1 where there are no units.
    hits: [column], of n units each (one number, or one a column). tests: how many verdicts share alpha; the columns
    unless given.
    """
    hits, n = np.atleast_1d(np.asarray(hits, float)), np.asarray(n, float)
    if ((hits < 0) | (hits > n)).any():
        raise WrongNumbers("There are more hits than units, or fewer than none.")
    return clopper_pearson(hits, n, alpha=alpha / max(len(hits) if tests is None else tests, 1))


def verdicts(
    hits: ArrayLike, n: ArrayLike, *, p0: float = P0, alpha: float = ALPHA, tests: int | None = None
) -> tuple[Verdict, ...]:
    """[column]: whether more than a share p0 of the population is a hit, with a chance of at most alpha of any error.

    "mediates" where the lower of the `limits` is above p0, "does not mediate" where the upper one is at most p0,
    "undetermined" otherwise.
    """
    low, high = limits(hits, n, alpha=alpha, tests=tests)
    return tuple(
        "mediates" if below > p0 else "does not mediate" if above <= p0 else "undetermined"
        for below, above in zip(low, high, strict=True)
    )
