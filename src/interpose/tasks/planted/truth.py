"""What interventions do in a stack of linear layers, found by plain forward passes over every setting of the inputs.

The table of a group of sites is T[x, b]: the output of base b with the group's values from source x. Settings whose
rows agree are one class; that partition is the group's kernel. Nothing here knows how the network was made, or uses the
engine that is judged by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ...errors import UnknownPlace, suggest
from .answer import OUTPUT, Sites
from .partitions import Kernel, kernel, refines, size

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MANY = 1_000_000
"""So many rows at most are computed at once."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of an intervention table: rows[index[x], b] is the output of base b with values from source x."""

    rows: Floats
    index: Ints

    def full(self) -> Floats:
        """[source, base, output]"""
        return self.rows[self.index]


class Truth:
    """The intervention tables of a network, over given inputs.

    module: linear layers and ReLUs, called in the order in which they are its children.
    names: of the inputs; inputs: [setting, input]. tol: what outputs are told apart by; resolution: the same where
    noise exceeds tol, and something coarser is looked for. grain: values nearer than this are forced once, for all of
    them; coarse: the same where only classes matter.
    """

    def __init__(
        self,
        module: nn.Module,
        names: Sequence[str],
        inputs: Floats,
        *,
        tol: float,
        resolution: float | None = None,
        grain: float = 1e-9,
        coarse: float = 1e-6,
    ) -> None:
        self.tol, self.grain, self.coarse = tol, grain, coarse
        self.resolution = tol if resolution is None else resolution
        self.names: list[str] = []
        self.weights: list[Floats] = []
        self.bias: list[Floats] = []
        self.bends: list[bool] = [False]
        for name, part in module.named_children():
            if isinstance(part, nn.Linear):
                self.names.append(name)
                self.weights.append(part.weight.detach().double().numpy())
                self.bias.append(part.bias.detach().double().numpy())
                self.bends.append(False)
            else:
                assert isinstance(part, nn.ReLU), f"{name} is neither a linear layer nor a ReLU"
                self.bends[-1] = True
        self.before = [inputs]
        for level in range(len(self.weights)):
            self.before.append(self.onward(level, self.before[level], level + 1))
        self.output = self.before[-1]
        self.places: dict[str, tuple[int, int]] = {name: (0, i) for i, name in enumerate(names)}
        for level, name in enumerate(self.names[:-1], 1):
            self.places |= {f"{name}[{unit}]": (level, unit) for unit in range(len(self.bias[level - 1]))}
        self.rows_run = 0
        self._tables: dict[Sites, Table] = {}
        self._kernels: dict[tuple[Sites, float], tuple[Kernel, float, float]] = {}
        self._edges: dict[tuple[Sites, Sites], bool] = {}

    # -- passes ------------------------------------------------------------------------------------

    def after(self, level: int, values: Floats) -> Floats:
        """What a layer hands on, given what it holds."""
        return np.maximum(values, 0) if self.bends[level] else values

    def onward(self, level: int, values: Floats, to: int | None = None) -> Floats:
        """What a later layer holds, by default the output, given what this one does: [..., unit]."""
        for at in range(level, len(self.weights) if to is None else to):
            values = self.after(at, values) @ self.weights[at].T + self.bias[at]
        return values

    def find(self, sites: Iterable[str]) -> tuple[int, list[int]]:
        """The layer of a group of sites, counted from the inputs at 0, and their units in ascending order.

        Raises UnknownPlace for what is no site here, or sites of several layers.
        """
        sites = list(sites)
        if sites == ["output"]:
            return len(self.weights), list(range(self.output.shape[1]))
        for site in sites:
            if site not in self.places:
                raise UnknownPlace(f"There is no site {site!r}. {suggest(site, self.places)}")
        levels = {self.places[site][0] for site in sites}
        if len(levels) != 1:
            raise UnknownPlace(f"{sorted(sites)} are not sites of one layer, which is what a claim is about.")
        return levels.pop(), sorted(self.places[site][1] for site in sites)

    def sites(self, level: int, units: Iterable[int] | None = None) -> Sites:
        """Sites of a layer, all of them or some."""
        width = self.before[level].shape[1]
        name = self.names[level - 1]
        return frozenset(f"{name}[{unit}]" for unit in (range(width) if units is None else units))

    def in_order(self, sites: Sites) -> tuple[str, ...]:
        """Sites by their layer and unit."""
        return tuple(sorted(sites, key=lambda site: self.places.get(site, (len(self.weights), 0))))

    def values(self, sites: Sites) -> Floats:
        """What a group of sites holds: [setting, site in order]."""
        level, units = self.find(sites)
        return self.before[level][:, units]

    def forced(self, sites: Sites, values: Floats, to: int | None = None) -> Floats:
        """What a later layer holds, by default the output, with values put in: [value, base, unit].

        values: [value, site in order].
        """
        level, units = self.find(sites)
        base = self.before[level]
        step = max(1, MANY // len(base))
        parts = []
        for first in range(0, len(values), step):
            some = values[first : first + step]
            held = np.repeat(base[None], len(some), 0)
            held[:, :, units] = some[:, None, :]
            self.rows_run += held.shape[0] * held.shape[1]
            parts.append(self.onward(level, held, to))
        return np.concatenate(parts)

    # -- tables ------------------------------------------------------------------------------------

    def table(self, sites: Sites) -> Table:
        """The intervention table of a group of sites."""
        if sites not in self._tables:
            if not any(self.has_path(site) for site in sites):
                self._tables[sites] = Table(self.output[None], np.zeros(len(self.output), int))
            else:
                values, index = distinct(self.values(sites), self.grain)
                self._tables[sites] = Table(self.forced(sites, values), index)
        return self._tables[sites]

    def has_path(self, site: str) -> bool:
        """Whether a path of weights other than zero leads from a site to the output."""
        level, unit = self.places[site]
        reached = np.zeros(self.before[level].shape[1], bool)
        reached[unit] = True
        for weights in self.weights[level:]:
            reached = (weights[:, reached] != 0).any(1)
        return bool(reached.any())

    def effect(self, sites: Sites) -> float:
        """The greatest change of any base's output by any source's values."""
        return float(np.abs(self.table(sites).rows - self.output).max())

    def short_of_swap(self, sites: Sites) -> float:
        """The greatest difference between the output with a source's values and the output of that source."""
        table = self.table(sites)
        return float(np.abs(table.full() - self.output[:, None]).max())

    def differ(self, sites: Sites, others: Sites) -> float:
        """The greatest difference between two tables."""
        return float(np.abs(self.table(sites).full() - self.table(others).full()).max())

    def kernel(self, sites: Sites, tol: float | None = None) -> Kernel:
        """Which settings a group of sites tells apart, in what the output makes of it."""
        return self.graded(sites, tol)[0]

    def seen(self, sites: Sites) -> Kernel:
        """The kernel at the resolution, which is coarser than the tolerance where there is noise."""
        return self.kernel(sites, self.resolution)

    def is_one_variable(self, sites: Sites) -> bool:
        """Whether a group tells apart all that any of its sites does alone."""
        together = self.seen(sites)
        return size(together) > 1 and all(refines(together, self.seen(frozenset({site}))) for site in sites)

    def graded(self, sites: Sites, tol: float | None = None) -> tuple[Kernel, float, float]:
        """The kernel, the greatest distance of rows within a class, and the least between classes."""
        tol = self.tol if tol is None else tol
        if (sites, tol) not in self._kernels:
            if self.find(sites)[0] == len(self.weights):
                rows, index = distinct(self.output, self.grain)
            else:
                table = self.table(sites)
                flat, which = distinct(table.rows.reshape(len(table.rows), -1), self.grain)
                rows, index = flat, which[table.index]
            classes, within, between = linked(rows, tol)
            self._kernels[sites, tol] = kernel(classes[index].tolist()), within, between
        return self._kernels[sites, tol]

    # -- wiring ------------------------------------------------------------------------------------

    def feeds(self, parents: Sites, child: Sites) -> bool:
        """Whether values put in at the parents ever change the class of the child: what the output makes of it.

        The class of a value is told by putting it in at the child, into every base.
        """
        if (parents, child) not in self._edges:
            self._edges[parents, child] = self._feeds(parents, child)
        return self._edges[parents, child]

    def _feeds(self, parents: Sites, child: Sites) -> bool:
        level, units = self.find(child)
        values, _ = distinct(self.values(parents), self.coarse)
        reached = self.forced(parents, values, level)[:, :, units]
        if child == OUTPUT:
            return bool(np.abs(reached - self.output).max() > self.resolution)
        if not any(self.has_path(site) for site in child):
            return False
        base = self.before[level][:, units]
        held, index = distinct(np.concatenate([base, reached.reshape(-1, len(units))]), self.coarse)
        natural, patched = index[: len(base)], index[len(base) :].reshape(len(values), len(base))
        rows = self.forced(child, held).reshape(len(held), -1)
        changes = {*zip(np.tile(natural, len(values)).tolist(), patched.ravel().tolist(), strict=True)}
        return any(a != b and np.abs(rows[a] - rows[b]).max() > self.resolution for a, b in changes)

    def child_table(self, parents: Sequence[Sites], child: Sites) -> Mapping[tuple[int, ...], int | None] | None:
        """The class of a child for every combination of its parents' classes; None where it also depends on the base.

        A class that the child never shows by itself is None.
        """
        level, units = self.find(child)
        kernels = [self.seen(sites) for sites in parents]
        firsts = [[classes.index(c) for c in range(max(classes) + 1)] for classes in kernels]
        everything = frozenset().union(*parents)
        order = self.in_order(everything)
        grid = np.stack(np.meshgrid(*map(np.arange, map(len, firsts)), indexing="ij"), -1).reshape(-1, len(parents))
        values = np.zeros((len(grid), len(order)))
        for column, (sites, first) in enumerate(zip(parents, firsts, strict=True)):
            chosen = self.values(sites)[np.array(first)[grid[:, column]]]
            values[:, [order.index(site) for site in self.in_order(sites)]] = chosen
        reached = self.forced(everything, values, level)[:, :, units].reshape(-1, len(units))
        held, index = distinct(reached, self.coarse)
        if child == OUTPUT:
            found, known = held, self.output
        else:
            found, known = self.forced(child, held).reshape(len(held), -1), self.table(child).full()
            known = known.reshape(len(known), -1)
        classes = np.array([_matched(row, known, self.seen(child), self.resolution) for row in found])
        by_combination = classes[index].reshape(len(grid), -1)
        if (by_combination != by_combination[:, :1]).any():
            return None
        found_classes = [None if c < 0 else int(c) for c in by_combination[:, 0]]
        return dict(zip(map(tuple, grid.tolist()), found_classes, strict=True))


def _matched(row: Floats, known: Floats, classes: Kernel, tol: float) -> int:
    away = np.abs(known - row).max(1)
    nearest = int(away.argmin())
    return classes[nearest] if away[nearest] <= tol else -1


def distinct(values: Floats, grain: float) -> tuple[Floats, Ints]:
    """The different rows of an array, each as it first occurs, and which of them every row is.

    Rows nearer than `grain` may be taken for one; rows farther apart never are.
    """
    rounded = np.round(values / grain) + 0.0
    seen: dict[bytes, int] = {}
    index = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rounded], int)
    _, first = np.unique(index, return_index=True)
    return values[first], index


def linked(rows: Floats, tol: float) -> tuple[Ints, float, float]:
    """Classes of rows by single linkage at tol: [row] class; the widest class; the least gap between classes.

    The distance of rows is their largest absolute difference.
    """
    n = len(rows)
    apart = np.stack([np.abs(rows - row).max(1) for row in rows])
    classes = np.arange(n)
    near = apart <= tol
    while True:
        lowest = np.where(near, classes[None], n).min(1)
        if (lowest == classes).all():
            break
        classes = lowest
    same = classes[:, None] == classes[None]
    within = float(apart[same].max(initial=0.0))
    between = float(apart[~same].min(initial=np.inf))
    return classes, within, between
