"""Which groups of sites feed which, and which of them only carry a variable on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from .answer import OUTPUT, Sites
from .truth import Truth

Edge = tuple[Sites, Sites]


def wired(truth: Truth, groups: Sequence[Sequence[Sites]]) -> frozenset[Edge]:
    """The edges between groups of neighbouring layers, the inputs and the output among them.

    groups: of every layer but the output. A layer without groups has no edges.
    """
    levels = [*groups, [OUTPUT]]
    return frozenset(
        (parent, child)
        for above, below in pairwise(levels)
        for parent in above
        for child in below
        if truth.feeds(parent, child)
    )


def links(truth: Truth, edges: frozenset[Edge]) -> dict[Sites, Sites]:
    """Groups that only carry a variable on, and what they have it from: one parent, with the same kernel."""
    parents: dict[Sites, list[Sites]] = {}
    for parent, child in sorted(edges, key=lambda edge: [sorted(side) for side in edge]):
        parents.setdefault(child, []).append(parent)
    return {
        child: above[0]
        for child, above in parents.items()
        if child != OUTPUT and len(above) == 1 and truth.seen(above[0]) == truth.seen(child)
    }


def back(group: Sites, carried: Mapping[Sites, Sites]) -> list[Sites]:
    """A group and all that it has its variable from, up to where that is first stored."""
    path = [group]
    while path[-1] in carried:
        path.append(carried[path[-1]])
    return path
