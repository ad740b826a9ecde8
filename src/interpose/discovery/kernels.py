"""Kernels: the partition of inputs that a function makes, by whether it gives the same; as class numbers, one an input.

Two functions with one kernel hold the same distinctions, whatever they call them. A kernel is an array of class numbers
in the order in which classes first occur, so that equal partitions are equal arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kernel = NDArray[np.int64]


def kernel(values: ArrayLike) -> Kernel:
    """The kernel of a function, given its value at every input: [input], or [input, ...] of rows that count as one."""
    array = np.asarray(values)
    if array.dtype == object:
        seen: dict[Any, int] = {}
        return np.array([seen.setdefault(value, len(seen)) for value in array.tolist()], dtype=np.int64)
    axis = None if array.ndim == 1 else 0
    _, first, ids = np.unique(array, axis=axis, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first, kind="stable")] = np.arange(len(first))
    return np.asarray(order[ids.reshape(-1)])


def alike(rows: NDArray[Any], tol: float) -> Kernel:
    """[row]: rows that are together in every number, where numbers with no gap above tol between them are together."""
    found = np.empty(rows.shape, dtype=np.int64)
    for k, column in enumerate(rows.T):
        order = np.argsort(column, kind="stable")
        found[order, k] = np.cumsum(np.diff(column[order], prepend=column[order[0]]) > tol)
    return kernel(found)


def count(of: Kernel) -> int:
    """How many classes there are."""
    return int(of.max(initial=-1)) + 1


def key(of: Kernel) -> bytes:
    """A stand-in that is equal for equal partitions only."""
    return of.astype(np.int32).tobytes()


def common(kernels: Iterable[Kernel], size: int) -> Kernel:
    """The common refinement: inputs are together where they are together in all of them; one class for none."""
    whole = np.zeros(size, dtype=np.int64)
    for one in kernels:
        whole = kernel(whole * (count(one) + 1) + one)
    return whole


def refines(fine: Kernel, coarse: Kernel) -> bool:
    """Whether inputs that are together in the first are together in the second."""
    return count(common([fine, coarse], len(fine))) == count(fine)


def representatives(of: Kernel) -> NDArray[np.int64]:
    """[class]: the first input of each class."""
    return np.unique(of, return_index=True)[1]


def violations(name: Kernel, held: Kernel) -> tuple[float | None, float | None]:
    """How far a name is from what is held: (invariance, collapse), both 0 where their kernels are the same.

    invariance: the share of pairs of inputs that the name puts together and that are held apart (it is too coarse);
    collapse: the share of those it tells apart that are held together (it is too fine). None of no pairs.
    Counted from the sizes of classes, without going through pairs.
    """
    together, alike = _pairs_within(name), _pairs_within(held)
    both = _pairs_within(common([name, held], len(name)))
    apart = len(name) * (len(name) - 1) // 2 - together
    return (1 - both / together if together else None), ((alike - both) / apart if apart else None)


def rand_index(one: Kernel, other: Kernel) -> float:
    """The adjusted Rand index of two partitions: 1 for the same, about 0 for unrelated ones (Hubert & Arabie 1985)."""
    pairs = len(one) * (len(one) - 1) / 2
    a, b, both = _pairs_within(one), _pairs_within(other), _pairs_within(common([one, other], len(one)))
    expected = a * b / pairs if pairs else 0.0
    most = (a + b) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _pairs_within(of: Kernel) -> int:
    sizes = np.bincount(of)
    return int((sizes * (sizes - 1) // 2).sum())


def spread(size: int, most: int) -> NDArray[np.int64]:
    """At most so many indices of [0, size), evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))
