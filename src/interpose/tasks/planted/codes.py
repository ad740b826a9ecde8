"""Codes: how the units of one layer store a number, and the weights by which the next layer reads it.

Before its ReLU, every unit holds an affine function of the number: slope * (V - kink) where it bends, slope * V + shift
where it does not. What can be read is any function that is a weighted sum of the units on all integers of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Unit:
    """One unit of a code. kink: where it bends; None where it stays on one side. read: whether anything reads it."""

    slope: float
    kink: float | None = None
    read: bool = True


Code = Callable[[int, int, Generator], tuple[Unit, ...]]
"""(least, greatest, random numbers) -> units that together tell the integers between them apart."""


def drawn_slope(rng: Generator, *, either: bool = True) -> float:
    """A slope whose size is between 0.5 and 2.5, of either sign unless it should be positive."""
    size = float(rng.uniform(0.5, 2.5))
    return -size if either and rng.random() < 0.5 else size


def plain(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
    """The number itself."""
    return (Unit(1.0),)


def affine(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
    """slope * V + shift."""
    return (Unit(drawn_slope(rng)),)


def pair(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
    """Two units that share a kink: relu(V - k) and relu(k - V)."""
    kink = _inside(low, high, rng)
    return (Unit(drawn_slope(rng, either=False), kink), Unit(-drawn_slope(rng, either=False), kink))


def thermometer(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
    """Pairs at up to three neighbouring kinks, each of which the next layer reads in part."""
    first = _inside(low, high, rng)
    kinks = [kink for kink in (first, first + 1, first + 2) if low < kink < high]
    return tuple(Unit(side * drawn_slope(rng, either=False), kink) for kink in kinks for side in (1, -1))


def piecewise(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
    """One unit an interval between neighbours, bent somewhere inside it, either way: any function can be read."""
    if high - low > 8:
        return pair(low, high, rng)
    grid = np.arange(low, high + 1, dtype=float)
    while True:
        units = tuple(Unit(drawn_slope(rng), n + float(rng.uniform(0.2, 0.8))) for n in range(low, high))
        stored = np.maximum(held(units, grid, np.zeros(len(units))), 0)
        if np.linalg.cond(stored - stored.mean(0)) < 40 * len(units):
            return units


def bent(functions: Sequence[Callable[[int], float]], low: int, high: int, rng: Generator, *, even: bool) -> list[Unit]:
    """A unit that rises all the way, and one at every integer where a function that will be read changes its slope."""
    values = np.array([[function(v) for v in range(low, high + 1)] for function in functions], float)
    turns = np.flatnonzero(np.abs(np.diff(values, 2, axis=1)).max(0) > 1e-9) + low + 1
    rise = 1.0 if even else drawn_slope(rng, either=False)
    return [Unit(rise, float(low)), *(Unit(1.0 if even else drawn_slope(rng), float(turn)) for turn in turns)]


def _inside(low: int, high: int, rng: Generator) -> float:
    return float(rng.integers(low + 1, high)) if high - low > 1 else (low + high) / 2


def held(units: Sequence[Unit], values: Floats, shifts: Floats) -> Floats:
    """What the units hold before any ReLU: [value, unit]."""
    slopes = np.array([unit.slope for unit in units])
    kinks = np.array([np.nan if unit.kink is None else unit.kink for unit in units])
    return values[:, None] * slopes + np.where(np.isnan(kinks), shifts, -slopes * kinks)


def readout(stored: Floats, wanted: Floats, read: Sequence[bool]) -> tuple[Floats, float]:
    """Weights and a constant by which what is stored gives what is wanted: ([unit], constant).

    stored: [value, unit] after any ReLU; wanted: [value]. The smallest weights that do, so that copies share them; a
    weight that is zero but for rounding is zero.
    """
    used = np.flatnonzero(read)
    weights = np.zeros(stored.shape[1])
    columns = stored[:, used]
    centred = columns - columns.mean(0)
    weights[used] = np.linalg.lstsq(centred, wanted - wanted.mean(), rcond=1e-10)[0]
    weights[np.abs(weights) < 1e-9] = 0.0
    constant = float(wanted.mean() - columns.mean(0) @ weights[used])
    constant = 0.0 if abs(constant) < 1e-9 else constant
    error = np.abs(stored @ weights + constant - wanted).max()
    assert error < 1e-9 * max(1.0, float(np.abs(wanted).max())), f"a code cannot be read: {error:g}"
    return weights, constant


def copied(code: Code, copies: int, unread: int) -> Code:
    """Several copies of a code, with constants of their own; so many more of them are never read."""

    def units(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
        read = [unit for _ in range(copies) for unit in code(low, high, rng)]
        return (*read, *(replace(unit, read=False) for _ in range(unread) for unit in code(low, high, rng)))

    return units
