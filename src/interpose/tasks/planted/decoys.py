"""Dead neurons, of every kind: they hold something or nothing, and the output never depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from .codes import Floats


@dataclass(frozen=True)
class Below:
    """What a new unit may read: bounds of the units below it after their ReLU.

    The first `live` of them are alive; those in `fed` are dead, and some dead unit should read them.
    """

    low: Floats
    high: Floats
    live: int
    fed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dead:
    """A dead unit: its weights on the layer below, and who reads it.

    read: the living read it, which does nothing as it never varies there. fed: other dead units read it, in the next
    layer or, if `onward`, in every later one.
    """

    weights: Floats
    bias: float
    read: bool = False
    fed: bool = False
    onward: bool = False


Decoy = Callable[[Below, Generator], Dead]


def blank(below: Below, rng: Generator) -> Dead:
    """A unit that is not connected at all."""
    return Dead(np.zeros(len(below.low)), 0.0)


def constant(below: Below, rng: Generator) -> Dead:
    """A constant that is read, as a bias would be."""
    return Dead(np.zeros(len(below.low)), float(rng.uniform(-2, 4)), read=True)


def unread(below: Below, rng: Generator) -> Dead:
    """A unit that responds, and that nothing reads."""
    return Dead(_some_weights(below, rng), float(rng.uniform(0, 3)))


def fed(below: Below, rng: Generator) -> Dead:
    """A unit that responds, and that only dead units of the next layer read."""
    return Dead(_some_weights(below, rng), float(rng.uniform(0, 3)), fed=True)


def relayed(below: Below, rng: Generator) -> Dead:
    """A unit that responds, and is handed on from layer to layer; the last step to the output has weight zero."""
    return Dead(_some_weights(below, rng), float(rng.uniform(0, 3)), fed=True, onward=True)


def shut(below: Below, rng: Generator) -> Dead:
    """A unit that responds, and that its ReLU never lets through to the living that read it."""
    weights = _some_weights(replace(below, fed=()), rng)
    most = float(np.maximum(weights * below.low, weights * below.high).sum())
    return Dead(weights, -most - float(rng.uniform(0.5, 2)), read=True)


def _some_weights(below: Below, rng: Generator) -> Floats:
    weights = np.zeros(len(below.low))
    live = rng.uniform(-1, 1, below.live) * (rng.random(below.live) < 0.7)
    live[rng.integers(below.live)] = float(rng.uniform(0.3, 1))
    weights[: below.live] = live
    for unit in below.fed:
        weights[unit] = float(rng.uniform(0.3, 1))
    return weights


ALL_KINDS: tuple[Decoy, ...] = (constant, unread, fed, relayed, shut)
