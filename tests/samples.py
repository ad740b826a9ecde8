"""Numbers to estimate from, and estimates compared."""

import numpy as np

METHODS = ["bca", "percentile", "studentised", "t"]
FIELDS = ("estimate", "low", "high", "error")


def same(one, other, **tolerance):
    assert one.method == other.method
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), **tolerance)


def limits(found):
    return np.array([found.low, found.high])


def width(found):
    return found.high - found.low


def some_pairs(seed=0, pairs=40, columns=3, clusters=12):
    rng = np.random.default_rng(seed)
    te = rng.normal(1, 1, size=(pairs, 1))
    return te, 0.6 * te + rng.normal(size=(pairs, columns)), rng.integers(0, clusters, pairs)


def drawn(resampling):
    """[draw, cluster]: how often each cluster was drawn."""
    return resampling.weights.counts.astype(int)


def covered(found, truth):
    """The share of columns whose interval covers the truth."""
    return float(((found.low <= truth) & (truth <= found.high)).mean())
