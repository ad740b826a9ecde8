"""How often each cluster was drawn in each resample: one small matrix for every column and every statistic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimates import Floats, Random

AT_ONCE = 2**20
"""How many weights are drawn, and written out as floats, at a time: 8 MB."""


@dataclass(frozen=True, eq=False)
class Weights:
    """counts: [draw, cluster], small integers; every draw adds up to the number of clusters."""

    counts: NDArray[np.unsignedinteger]

    def sums(self, parts: Sequence[Floats]) -> tuple[Floats, ...]:
        """[column, draw] for each of the parts, which are [cluster, column]: the sums over each resample.

        All parts are multiplied together, a block of draws at a time, so that the weights are never floats as a whole.
        """
        draws, groups = self.counts.shape
        columns = np.concatenate(parts, axis=1).T
        out = np.empty((len(columns), draws))
        step = max(AT_ONCE // max(groups, 1), 1)
        for start in range(0, draws, step):
            block = self.counts[start : start + step].astype(float)
            np.matmul(columns, block.T, out=out[:, start : start + step])
        return tuple(np.split(out, np.cumsum([part.shape[1] for part in parts[:-1]])))


def draw(groups: int, resamples: int, seed: Random) -> Weights:
    """Weights of `resamples` draws of as many clusters as there are, with replacement (multinomial)."""
    rng = np.random.default_rng(seed)
    step = max(AT_ONCE // groups, 1)
    counts = np.empty((resamples, groups), np.uint8 if groups < 256 else np.uint16)
    for start in range(0, resamples, step):
        block = counts[start : start + step]
        block[:] = rng.multinomial(groups, np.full(groups, 1 / groups), size=len(block))
    return Weights(counts)
