"""Parts of a data set that share no input, so that what is found on one can be confirmed on another."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Hashable, Sequence

UNEVEN = 0.7
"""Where a whole component would make one part hold more than this share of all pairs, it is cut."""


def parted(base: Sequence[Hashable], source: Sequence[Hashable], *, parts: int, seed: int) -> list[list[int]]:
    """The numbers of pairs in each part, about as many in each; pairs between two parts are in none.

    base, source: [pair], stand-ins for inputs. Pairs that share an input, directly or through others, hang together and
    stay together where the parts are then of similar size; otherwise inputs are dealt out, neighbours together.
    """
    rng = random.Random(seed)
    whole = _dealt(components(base, source), parts, rng)
    if len(base) and max(map(len, whole)) <= max(UNEVEN, 1.5 / parts) * len(base) and all(whole):
        return whole
    part = _cut(base, source, parts, rng)
    return [
        [i for i, (a, b) in enumerate(zip(base, source, strict=True)) if part[a] == part[b] == k] for k in range(parts)
    ]


def _dealt(groups: list[list[int]], parts: int, rng: random.Random) -> list[list[int]]:
    """Whole groups, each put where there is least, the largest first."""
    rng.shuffle(groups)
    dealt: list[list[int]] = [[] for _ in range(parts)]
    for group in sorted(groups, key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return [sorted(one) for one in dealt]


def _cut(base: Sequence[Hashable], source: Sequence[Hashable], parts: int, rng: random.Random) -> dict[Hashable, int]:
    """A part for every input: inputs in the order in which a walk from a random one meets them, in stretches."""
    beside: dict[Hashable, list[Hashable]] = {}
    for a, b in zip(base, source, strict=True):
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    order: dict[Hashable, None] = {}
    starts = list(beside)
    rng.shuffle(starts)
    for start in starts:
        waiting = deque([start])
        while waiting:
            one = waiting.popleft()
            if one not in order:
                order[one] = None
                waiting.extend(other for other in beside[one] if other not in order)
    return {one: k * parts // len(order) for k, one in enumerate(order)}


def components(base: Sequence[Hashable], source: Sequence[Hashable]) -> list[list[int]]:
    """Numbers of pairs, grouped by shared inputs."""
    leader: dict[Hashable, Hashable] = {}

    def find(x: Hashable) -> Hashable:
        while leader.setdefault(x, x) != x:
            leader[x] = leader[leader[x]]
            x = leader[x]
        return x

    for ours, theirs in zip(base, source, strict=True):
        leader[find(ours)] = find(theirs)
    groups: dict[Hashable, list[int]] = {}
    for i, ours in enumerate(base):
        groups.setdefault(find(ours), []).append(i)
    return list(groups.values())
