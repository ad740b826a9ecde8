"""How what is held in a later layer is computed from what is held before: parents, and the table of every combination.

A set of parents computes a variable if inputs that the parents do not tell apart are held together, and if, with the
parents set by hand to any combination of their classes, the variable takes one class whatever the rest of the input is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .holdings import Held
from .kernels import Kernel, common, count, kernel, refines, representatives
from .responses import Prober
from .statistics import Floats

MOST_PARENTS = 4
COMBINATIONS = 400
"""Of how many combinations of the parents' classes a table is checked at most; of more, so many are drawn."""

BASES = 12
"""In how many bases each combination is set."""


@dataclass(frozen=True, eq=False)
class Node:
    """A place in the graph of what was found: an input variable, something held, or the output.

    classes: of every input. sites: what to write to set it; of an input none, since it is set by running another input.
    depth: 0 for inputs, the number of the layer otherwise.
    """

    name: str
    depth: int
    classes: Kernel
    held: Held | None = None
    input: int | None = None


@dataclass(frozen=True, eq=False)
class Wire:
    """From which nodes one is computed, and its class (or the output's numbers) for every combination of their classes.

    table: combination of the parents' classes -> class of the child. checked: how many combinations were set by hand, each
    in several bases; of: how many there are.
    """

    child: str
    parents: tuple[str, ...]
    table: Mapping[tuple[int, ...], int]
    checked: int
    of: int


def wired(child: Node, before: Sequence[Node], prober: Prober, seed: int) -> Wire | None:
    """The smallest set of nodes that computes another, nearer ones first; None where no set of them does.

    before: nodes of earlier layers and the inputs.
    """
    nearest = sorted(before, key=lambda node: -node.depth)
    for size in range(1, MOST_PARENTS + 1):
        for parents in sorted(itertools.combinations(nearest, size), key=lambda p: -sum(node.depth for node in p)):
            fine = common([node.classes for node in parents], len(child.classes))
            if refines(fine, child.classes) and _needed(parents, child):
                table = _table(child, parents, prober, seed)
                if table is not None:
                    return table
    return None


def _needed(parents: Sequence[Node], child: Node) -> bool:
    """Whether no part of the parents is enough by itself."""
    for left_out in range(len(parents)):
        rest = [node.classes for k, node in enumerate(parents) if k != left_out]
        if refines(common(rest, len(child.classes)), child.classes):
            return False
    return True


def _table(child: Node, parents: Sequence[Node], prober: Prober, seed: int) -> Wire | None:
    """The table of a child over these parents, set by hand; None where its class varies with the rest of the input."""
    rng = np.random.default_rng(seed)
    counts = [count(node.classes) for node in parents]
    total = int(np.prod(counts))
    every = itertools.product(*(range(c) for c in counts))
    combinations = list(every) if total <= COMBINATIONS else [tuple(int(rng.integers(c)) for c in counts) for _ in range(COMBINATIONS)]
    n = len(prober.domain)
    bases = rng.integers(n, size=(len(combinations), BASES))
    members = [[np.flatnonzero(node.classes == c) for c in range(k)] for node, k in zip(parents, counts, strict=True)]
    sources = np.array([[rng.choice(members[p][c]) for p, c in enumerate(combination)] for combination in combinations])
    settings = prober.domain.settings[bases.reshape(-1)].copy()
    repeated = np.repeat(sources, BASES, axis=0)
    write: dict[Any, Tensor] = {}
    for p, node in enumerate(parents):
        if node.input is not None:
            settings[:, node.input] = prober.domain.settings[repeated[:, p], node.input]
        else:
            assert node.held is not None
            held = prober.read(node.held.group)
            write |= {site: held[site][torch.from_numpy(repeated[:, p])] for site in node.held.group}
    found = _classes_of(child, settings, write, prober)
    if found is None:
        return None
    rows = found.reshape(len(combinations), BASES)
    if (rows != rows[:, :1]).any() or (rows < 0).any():
        return None
    table = {combination: int(row[0]) for combination, row in zip(combinations, rows, strict=True)}
    for i in representatives(common([node.classes for node in parents], n)).tolist():
        combination = tuple(int(node.classes[i]) for node in parents)
        if table.setdefault(combination, int(child.classes[i])) != int(child.classes[i]):
            return None
    return Wire(child.name, tuple(node.name for node in parents), table, len(combinations), total)


def _classes_of(
    child: Node, settings: NDArray[Any], write: Mapping[Any, Tensor], prober: Prober
) -> NDArray[np.int64] | None:
    """The class that a child takes in each of these runs: by its value where that is known, by its effect otherwise."""
    from .interventions import Set

    sites = () if child.held is None else child.held.group
    values: list[Floats] = []
    for start in range(0, len(settings), prober.rows):
        part = {site: Set(value[start : start + prober.rows]) for site, value in write.items()}
        outputs, read = prober.run(settings[start : start + prober.rows], read=sites, write=part)
        rows = len(outputs)
        values.append(outputs if child.held is None else np.concatenate([read[s].double().reshape(rows, -1).cpu().numpy() for s in sites], 1))
    seen = np.concatenate(values)
    if child.held is None:
        return _nearest(seen, prober.domain.outputs, child.classes, prober.tol)
    spread = np.ptp(child.held.responses.values, axis=0)
    found = _nearest(seen, child.held.responses.values, child.classes, 1e-4 * float(spread.max(initial=1.0) or 1.0))
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        found[unknown] = _by_effect(child.held, seen[unknown], prober)
    return found


def _nearest(seen: Floats, known: Floats, classes: Kernel, most: float) -> NDArray[np.int64]:
    """[row]: the class of the known value that each is nearest to; -1 where none is near."""
    from scipy.spatial import cKDTree

    first = np.unique(kernel(np.round(known / max(most, 1e-12))), return_index=True)[1]
    distance, index = cKDTree(known[first]).query(seen, p=np.inf)
    return np.where(distance <= most, classes[first][index], -1)


def _by_effect(held: Held, values: Floats, prober: Prober) -> NDArray[np.int64]:
    """[row]: the class whose effect on the output a value has, though no input gives it; -1 for a new one."""
    widths = [prober.read([site])[site][:1].numel() for site in held.group]
    parts = np.split(values, np.cumsum(widths)[:-1], axis=1)
    like = prober.read(held.group)
    forced = {
        site: torch.from_numpy(part).to(like[site].dtype).reshape(len(values), *like[site].shape[1:])
        for site, part in zip(held.group, parts, strict=True)
    }
    rows = prober.forced(forced, len(values))
    first = representatives(held.classes)
    known = held.responses.rows[held.responses.number[first]]
    distance = np.abs(rows[:, None] - known[None]).max(-1)
    best = distance.argmin(1)
    return np.where(distance[np.arange(len(rows)), best] <= prober.tol, best, -1)
