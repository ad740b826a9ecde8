"""Partitions of the settings: two functions are told apart by what they merge, never by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from math import comb

Kernel = tuple[int, ...]
"""The class of every setting, classes being numbered in the order in which they are first met."""


def kernel(values: Iterable[Hashable]) -> Kernel:
    """Which settings a function gives the same value."""
    seen: dict[Hashable, int] = {}
    return tuple(seen.setdefault(value, len(seen)) for value in values)


def size(classes: Kernel) -> int:
    """How many classes there are."""
    return max(classes, default=-1) + 1


def refines(fine: Kernel, coarse: Kernel) -> bool:
    """Whether settings that the first merges are merged by the second too."""
    return len(set(zip(fine, coarse, strict=True))) == size(fine)


def joined(*classes: Kernel) -> Kernel:
    """What several functions tell apart between them."""
    return kernel(zip(*classes, strict=True))


def is_trivial(classes: Kernel) -> bool:
    """Whether it merges everything, or nothing."""
    return size(classes) in (0, 1, len(classes))


def rand_index(first: Kernel, second: Kernel) -> float:
    """The agreement of two partitions, 1 if they are the same and 0 on average by chance.

    Source: Hubert and Arabie 1985, their adjusted index.
    """
    both = sum(comb(n, 2) for n in Counter(zip(first, second, strict=True)).values())
    rows, columns = (sum(comb(n, 2) for n in Counter(one).values()) for one in (first, second))
    chance = rows * columns / max(comb(len(first), 2), 1)
    most = (rows + columns) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)
