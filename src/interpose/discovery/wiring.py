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
from .kernels import Kernel, common, count, refines, representatives
from .reading import classes_at, known_or_new
from .responses import Prober, values_of

COMBINATIONS = 4096
"""Of how many combinations of the parents' classes a table is checked at most; of more, so many are drawn."""

BASES = 4
"""In how many inputs each combination is set, at least."""

STRANGE = 10**9
"""From here on classes are numbered of values that no input gives, and whose effect on the output is that of one that
inputs give: with other places set too, it may be another.
"""

DRAWS = 384
"""In how many random settings of everything before it a place is tried as a parent."""


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

    nodes: the parents themselves, at the places that were set. table: combination of their classes -> class of the
    child, where classes that no input gives have numbers beyond those of the child. checked: how many combinations were
    set by hand, each in several bases; of: how many there are.
    """

    child: str
    parents: tuple[str, ...]
    nodes: tuple[Node, ...]
    table: Mapping[tuple[int, ...], int]
    checked: int
    of: int


class Wiring:
    """The graph of what is held, as it is found from the inputs on: parents of one node after the other."""

    def __init__(self, prober: Prober, seed: int) -> None:
        self.prober = prober
        self.rng = np.random.default_rng(seed)

    def wired(self, child: Node, before: Sequence[Node]) -> Wire | None:
        """From which nodes a node is computed; None where what was found before does not tell.

        before: the nodes of earlier layers, and the inputs. The nearest layer is asked first; where it does not
        determine the child, those before it too. Of these the parents are those on which the child depends.
        """
        levels = sorted({node.depth for node in before}, reverse=True)
        for k in range(len(levels)):
            asked = [node for node in before if node.depth >= levels[k]]
            if not refines(common([node.classes for node in asked], len(child.classes)), child.classes):
                continue
            parents = self._essential(child, asked)
            if parents and refines(common([node.classes for node in parents], len(child.classes)), child.classes):
                table = self._table(child, parents)
                if table is not None:
                    return table
        return None

    def _essential(self, child: Node, asked: Sequence[Node]) -> list[Node]:
        """The nodes on which a child depends, whatever the others are set to, nearest first."""
        n = len(self.prober.domain)
        bases = self.rng.integers(n, size=DRAWS)
        sources = self.rng.integers(n, size=(len(asked), DRAWS))
        others = self.rng.integers(n, size=(len(asked), DRAWS))
        runs = [sources]
        for p in range(len(asked)):
            changed = sources.copy()
            changed[p] = others[p]
            runs.append(changed)
        found, _ = self._classes_of(child, asked, np.tile(bases, len(runs)), np.concatenate(runs, axis=1))
        rows = found.reshape(len(runs), DRAWS)
        return [node for p, node in enumerate(asked) if (rows[p + 1] != rows[0]).any()]

    def _table(self, child: Node, parents: Sequence[Node]) -> Wire | None:
        """The table of a child over these parents, set by hand; None where its class varies with the rest."""
        counts = [count(node.classes) for node in parents]
        total = int(np.prod(counts, dtype=float))
        n = len(self.prober.domain)
        if total <= COMBINATIONS:
            combinations = np.array(list(itertools.product(*map(range, counts))))
        else:
            drawn = np.stack([self.rng.integers(c, size=COMBINATIONS) for c in counts], axis=1)
            combinations = np.unique(drawn, axis=0)
        times = max(BASES, min(64, DRAWS // len(combinations)))
        members = [_members(node.classes) for node in parents]
        wanted = np.repeat(combinations, times, axis=0)
        sources = np.stack([_drawn(members[p], wanted[:, p], self.rng) for p in range(len(parents))])
        found, natural = self._classes_of(child, parents, self.rng.integers(n, size=len(wanted)), sources)
        rows = found.reshape(len(combinations), times)
        if (rows != rows[:, :1]).any():
            return None
        strange = ~natural.reshape(len(combinations), times).all(1)
        known = np.where(strange & (rows[:, 0] < count(child.classes)), STRANGE + np.arange(len(rows)), rows[:, 0])
        table = {tuple(map(int, c)): int(held) for c, held in zip(combinations, known, strict=True)}
        for i in representatives(common([node.classes for node in parents], n)).tolist():
            combination = tuple(int(node.classes[i]) for node in parents)
            if table.setdefault(combination, int(child.classes[i])) != int(child.classes[i]):
                return None
        return Wire(child.name, tuple(node.name for node in parents), tuple(parents), table, len(combinations), total)

    def _classes_of(
        self, child: Node, nodes: Sequence[Node], bases: NDArray[np.int64], sources: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """[run]: the class that a child takes with nodes set to what they hold in other inputs; whether inputs give it.

        sources: [node, run]. By its value where that is known, by its effect otherwise; classes that no input gives
        have numbers beyond those that inputs give.
        """
        prober = self.prober
        settings = prober.domain.settings[bases].copy()
        write: dict[Any, Tensor] = {}
        for node, chosen in zip(nodes, sources, strict=True):
            if node.input is not None:
                settings[:, node.input] = prober.domain.settings[chosen, node.input]
            else:
                assert node.held is not None
                held = prober.read(node.held.group)
                write |= {site: held[site][torch.from_numpy(chosen)] for site in node.held.group}
        sites = () if child.held is None else child.held.group
        outputs, read = prober.run(settings, read=sites, write=write)
        if child.held is None:
            found = known_or_new(outputs, prober.domain.outputs, child.classes, prober.tol)
            return found, found < count(child.classes)
        seen = values_of(read, sites)
        return classes_at(child.held.responses, child.classes, seen, prober, by_effect=not child.held.hidden)


def _members(classes: Kernel) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(classes == c) for c in range(count(classes))]


def _drawn(members: list[NDArray[np.int64]], wanted: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """[run]: a random input of each wanted class."""
    sizes = np.array([len(one) for one in members])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.asarray(np.concatenate(members)[starts[wanted] + (rng.random(len(wanted)) * sizes[wanted]).astype(int)])
