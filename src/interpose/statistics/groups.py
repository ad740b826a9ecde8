"""Which pairs are in which cluster, and sums over each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Floats, Integers


@dataclass(frozen=True, eq=False)
class Groups:
    """Which pairs are in which cluster. order: pairs, cluster by cluster; starts: where each cluster begins in it."""

    order: Integers
    starts: Integers

    @classmethod
    def of(cls, clusters: ArrayLike) -> Groups:
        """Clusters in the order of their names, whatever those are."""
        _, index, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
        return cls(np.argsort(index, kind="stable"), np.cumsum(sizes) - sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def sums(self, columns: Floats) -> Floats:
        """[cluster, column] from [pair, column]."""
        if not len(self.order):
            return np.zeros((0, columns.shape[1]))
        return np.add.reduceat(columns[self.order], self.starts, axis=0)
