"""Statistics as functions of sums over pairs: means, ratios, slopes, R^2, differences; only such are resampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .estimates import Booleans, Floats


@dataclass(frozen=True)
class Statistic:
    """A function of sums over pairs, and what is needed to say when it has no value and when it does not vary.

    terms: the columns given, [pair, column] -> what is summed over pairs.
    value: sums -> the statistic, elementwise on arrays of any one shape.
    slopes: sums -> its derivative by each of them; measured by small steps if None.
    denominators: which sums it divides by, so that there is no value where one cannot be told from zero.
    fitted: the columns given -> (what was seen, what a statistic that never varies would predict) of every pair, or
        None where that cannot be said of single pairs.
    """

    terms: Callable[..., tuple[Floats, ...]]
    value: Callable[..., Floats]
    slopes: Callable[..., tuple[Floats, ...]] | None = None
    denominators: tuple[int, ...] = ()
    fitted: Callable[..., tuple[tuple[Floats, Floats], ...]] | None = None

    def derivatives(self, sums: Sequence[Floats], totals: Sequence[Floats]) -> tuple[Floats, ...]:
        """[column] each: how fast the statistic changes with each of its sums.

        sums: [cluster, column] each; totals: [column] each.
        """
        return self.slopes(*totals) if self.slopes else _measured(self.value, sums, totals)

    def steady(self, columns: Sequence[Floats], tol: float) -> Booleans | None:
        """[column]: whether no pair is farther than tol from what is said of all; None if nothing is said of pairs."""
        if self.fitted is None:
            return None
        found: Booleans = np.ones(1, bool)
        for seen, predicted in self.fitted(*columns):
            found = found & (np.abs(seen - predicted) <= tol).all(0)
        return found


def general(value: Callable[..., Floats]) -> Statistic:
    """Any function of the sums of the columns."""
    return Statistic(lambda *columns: columns, value)


def _measured(value: Callable[..., Floats], sums: Sequence[Floats], totals: Sequence[Floats]) -> tuple[Floats, ...]:
    """The derivative of a function of sums by each of them, from central differences of a hundred-thousandth."""
    slopes = []
    for k, (part, total) in enumerate(zip(sums, totals, strict=True)):
        size = np.abs(part).sum(0)
        step = 1e-5 * np.where(size > 0, size, 1.0)
        above, below = ([*totals[:k], total + side, *totals[k + 1 :]] for side in (step, -step))
        slopes.append((value(*above) - value(*below)) / (2 * step))
    return tuple(slopes)


def _quotient(top: Floats, bottom: Floats) -> Floats:
    return top / bottom


def _quotient_slopes(top: Floats, bottom: Floats) -> tuple[Floats, ...]:
    return 1 / bottom, -top / bottom**2


def _line(x: Floats, y: Floats) -> tuple[tuple[Floats, Floats], ...]:
    return ((y, (x * y).sum(0) / (x * x).sum(0) * x),)


def _explained(xy: Floats, xx: Floats, yy: Floats) -> Floats:
    return xy**2 / (xx * yy)


def _explained_slopes(xy: Floats, xx: Floats, yy: Floats) -> tuple[Floats, ...]:
    explained = _explained(xy, xx, yy)
    return 2 * xy / (xx * yy), -explained / xx, -explained / yy


def _two_fits(a: Floats, b: Floats, c: Floats, d: Floats) -> tuple[tuple[Floats, Floats], ...]:
    return (a, a.sum(0) / b.sum(0) * b), (c, c.sum(0) / d.sum(0) * d)


def _difference_slopes(a: Floats, b: Floats, c: Floats, d: Floats) -> tuple[Floats, ...]:
    return 1 / b, -a / b**2, -1 / d, c / d**2


RATIO = Statistic(
    terms=lambda top, bottom: (top, bottom),
    value=_quotient,
    slopes=_quotient_slopes,
    denominators=(1,),
    fitted=lambda top, bottom: ((top, top.sum(0) / bottom.sum(0) * bottom),),
)
"""sum(top) / sum(bottom)."""

SLOPE = Statistic(
    terms=lambda x, y: (x * y, x * x),
    value=_quotient,
    slopes=_quotient_slopes,
    denominators=(1,),
    fitted=_line,
)
"""sum(x y) / sum(x^2), the line through the origin."""

R_SQUARED = Statistic(
    terms=lambda x, y: (x * y, x * x, y * y),
    value=_explained,
    slopes=_explained_slopes,
    denominators=(1, 2),
    fitted=_line,
)
"""sum(x y)^2 / (sum(x^2) sum(y^2)), what the line through the origin explains."""

DIFFERENCE = Statistic(
    terms=lambda *columns: columns,
    value=lambda a, b, c, d: a / b - c / d,
    slopes=_difference_slopes,
    denominators=(1, 3),
    fitted=_two_fits,
)
"""sum(a) / sum(b) - sum(c) / sum(d)."""
