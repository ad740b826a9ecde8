"""What the rest of a network makes of the values of a place: a row of outputs for every value, over the same bases.

The row of a source is the output of every base with the place's value from that source. Sources with equal rows hold
the same for all that follows: their partition is what the place holds, with no hypothesis of what that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..interventions import Set
from ..model import NOTHING
from ..network import Network
from ..sites import Site
from ..statistics import Floats
from .kernels import Kernel, count, kernel

Group = tuple[Site, ...]
ROWS = 2**15
"""How many rows run in one forward pass."""

SAME = 1e-6
"""Values of a place nearer than this share of its range are one value."""


@dataclass(frozen=True)
class Domain:
    """The inputs that are looked at: settings of the input variables, and what the network gives for each.

    names: of the input variables; settings: [input, variable]; outputs: [input, number]; exhaustive: whether these are
    all settings there are.
    """

    names: tuple[str, ...]
    settings: NDArray[Any]
    outputs: Floats
    exhaustive: bool

    def __len__(self) -> int:
        return len(self.settings)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The values of each input variable, [input]."""
        return {name: self.settings[:, k] for k, name in enumerate(self.names)}


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a group of places, whatever counts as the same.

    values: [input, unit], what the places hold; number: [input], which row is each input's; rows: [row, base * number].
    """

    values: Floats
    number: Kernel
    rows: Floats

    @cached_property
    def _distances(self) -> tuple[Floats, Floats]:
        """Of every two rows, the largest difference of any output; and the tree of single linkage over them."""
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import pdist

        distances = np.asarray(pdist(self.rows, "chebyshev"), dtype=float)
        return distances, np.asarray(linkage(distances, "single"))

    @property
    def farthest(self) -> float:
        """The largest distance of two rows; 0 of one."""
        return float(self._distances[0].max()) if len(self.rows) > 1 else 0.0

    def classes(self, tol: float) -> tuple[Kernel | None, float, float]:
        """The classes of rows by single linkage at tol, the largest distance within one, and the smallest between two.

        Classes count only where those within are less than half as far apart as those between, and one class alone
        where all are within tol; otherwise there are none.
        """
        from scipy.cluster.hierarchy import fcluster

        if len(self.rows) == 1:
            return np.zeros(1, dtype=np.int64), 0.0, np.inf
        distances, tree = self._distances
        labels = kernel(fcluster(tree, t=tol, criterion="distance"))
        i, j = np.triu_indices(len(self.rows), 1)
        same = labels[i] == labels[j]
        within = float(distances[same].max(initial=0.0))
        between = float(distances[~same].min(initial=np.inf))
        apart = within < between / 2 if count(labels) > 1 else within <= tol
        return (labels if apart else None), within, between


@dataclass(frozen=True, eq=False)
class Responses:
    """The rows of a group of places over some bases, and the classes they fall into.

    values: [input, unit], what the places hold; number: [input], which row is each input's; rows: [row, base * number].
    classes: [input], the class of each input: which are the same for all that follows; None where rows have no gap
    between alike and different. within: the largest distance of two rows of a class; between: the smallest of two
    classes (infinity for one class); farthest: the largest of any two.
    """

    group: Group
    values: Floats
    number: Kernel
    rows: Floats
    classes: Kernel | None
    within: float
    between: float
    farthest: float

    @property
    def graded(self) -> bool:
        """Whether rows shade into one another, so that there are no classes."""
        return self.classes is None

    @property
    def live(self) -> bool:
        """Whether the values make any difference."""
        return self.classes is None or count(self.classes) > 1


class Prober:
    """Runs of a network with places set to values, over a domain; counts them, and keeps what was asked before."""

    def __init__(
        self, network: Network, domain: Domain, bases: NDArray[np.int64], tol: float, *, rows: int = ROWS
    ) -> None:
        self.network, self.domain, self.bases, self.tol, self.rows = network, domain, bases, tol, rows
        self.runs = 0
        self.known: dict[Group, Responses] = {}
        self.held: dict[Site, Tensor] = {}
        self.tables: dict[Group, Rows] = {}

    def at(self, tol: float) -> Prober:
        """The same at another tolerance: what was run is not run again."""
        other = Prober(self.network, self.domain, self.bases, tol, rows=self.rows)
        other.held, other.tables, other.runs = self.held, self.tables, self.runs
        return other

    # -- what places hold --------------------------------------------------------------------------------

    def read(self, sites: Sequence[Site]) -> dict[Site, Tensor]:
        """The values of sites at every input of the domain: [input, ...] each."""
        missing = [site for site in dict.fromkeys(sites) if site not in self.held]
        if missing:
            self.held |= self.run(self.domain.settings, read=missing)[1]
        return {site: self.held[site] for site in sites}

    def run(
        self, settings: NDArray[Any], *, read: Sequence[Site] = (), write: Mapping[Site, Tensor] | None = None
    ) -> tuple[Floats, dict[Site, Tensor]]:
        """The outputs [row, number] of some settings, with values written, [row, ...] each, and what is read."""
        self.runs += len(settings)
        return run_rows(self.network, settings, read=read, write=write or {}, rows=self.rows)

    # -- rows -----------------------------------------------------------------------------------------------

    def responses(self, group: Group) -> Responses:
        """The rows of a group of places, written together, and their classes."""
        if group not in self.known:
            self.known[group] = self._responses(group)
        return self.known[group]

    def _responses(self, group: Group) -> Responses:
        if group not in self.tables:
            held = self.read(group)
            values = values_of(held, group)
            number = _alike(values)
            first = np.unique(number, return_index=True)[1]
            rows = self.forced({site: held[site][torch.from_numpy(first)] for site in group}, len(first))
            self.tables[group] = Rows(values, number, rows)
        table = self.tables[group]
        labels, within, between = table.classes(self.tol)
        found = None if labels is None else kernel(labels[table.number])
        return Responses(group, table.values, table.number, table.rows, found, within, between, table.farthest)

    def forced(self, values: Mapping[Site, Tensor], size: int, *, bases: NDArray[np.int64] | None = None) -> Floats:
        """[row, base * number]: the outputs of every base with these values, one row of them a set of values."""
        bases = self.bases if bases is None else bases
        n, width = len(bases), self.domain.outputs.shape[1]
        found = np.empty((size, n * width))
        step = max(1, self.rows // n)
        for start in range(0, size, step):
            chosen = torch.arange(start, min(start + step, size)).repeat_interleave(n)
            settings = np.tile(self.domain.settings[bases], (len(chosen) // n, 1))
            outputs, _ = self.run(
                settings, write={site: value[chosen.to(value.device)] for site, value in values.items()}
            )
            found[start : start + step] = outputs.reshape(-1, n * width)
        return found


def run_rows(
    network: Network,
    settings: NDArray[Any],
    *,
    read: Sequence[Site] = (),
    write: Mapping[Site, Tensor] = NOTHING,
    rows: int = ROWS,
) -> tuple[Floats, dict[Site, Tensor]]:
    """The outputs [row, number] of some settings, and what is read, so many rows in one forward pass."""
    outputs: list[Floats] = []
    seen: dict[Site, list[Tensor]] = {site: [] for site in read}
    for start in range(0, len(settings), rows):
        here = settings[start : start + rows]
        sets = {site: Set(value[start : start + rows]) for site, value in write.items()}
        with torch.no_grad():
            run = network.run(as_inputs(here), read=read, write=sets)
        outputs.append(flat(run.output, len(here)))
        for site, parts in seen.items():
            parts.append(run[site])
    return np.concatenate(outputs), {site: torch.cat(parts) for site, parts in seen.items()}


def values_of(read: Mapping[Site, Tensor], sites: Sequence[Site]) -> Floats:
    """[run, unit]: what was read at some sites."""
    return np.concatenate([read[site].double().reshape(len(read[site]), -1).cpu().numpy() for site in sites], 1)


def as_inputs(settings: NDArray[Any]) -> Any:
    """Settings in a form that a network with named inputs takes."""
    return torch.from_numpy(np.ascontiguousarray(settings, dtype=np.float64))


def flat(output: Any, size: int) -> Floats:
    """The numbers of an output, [row, number]."""
    tensor = output if isinstance(output, Tensor) else torch.as_tensor(output)
    return tensor.detach().cpu().double().reshape(size, -1).numpy()


def _alike(values: Floats) -> Kernel:
    """[input]: which inputs hold the same value, but for rounding."""
    spread = np.ptp(values, axis=0)
    step = np.where(spread > 0, SAME * spread, 1.0)
    lowest = values.min(0)
    rounded = np.round((values - lowest) / step)
    return _joined_neighbours(rounded)


def _joined_neighbours(rounded: Floats) -> Kernel:
    """Whole numbers that are next to each other along a single unit count as one; of several units, equal ones."""
    if rounded.shape[1] > 1:
        return kernel(rounded)
    order = np.argsort(rounded[:, 0], kind="stable")
    jumps = np.diff(rounded[order, 0], prepend=rounded[order[0], 0]) > 1
    ids = np.empty(len(order), dtype=np.int64)
    ids[order] = np.cumsum(jumps)
    return kernel(ids)
