"""The answer key of a planted network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from .answer import OUTPUT, Answer, Claim, Grade, Sites, Verdict
from .partitions import Kernel, size
from .truth import Truth
from .wiring import Edge, back, links, wired

Why = Literal["constant", "unread", "zero path", "no effect", "only noise", "cancels downstream"]
CERTAIN: tuple[Why, ...] = ("constant", "unread", "zero path")
"""Reasons that the weights alone show."""


@dataclass(frozen=True)
class Cell:
    """Sites of one layer that hold one variable.

    sites: all that matter. variable: what its maker calls it. classes: its kernel. minimal: the smallest sets of sites
    that do as well as all of them. whole: whether its kernel tells apart all that its members' kernels do; otherwise
    the sites are parts of a gadget, which may be described together or in parts. encoder: for each class, a value for
    each site in order. margin: how far a value may go beyond those that occur before the site's own ReLU bends it.
    """

    sites: Sites
    variable: str
    classes: Kernel
    minimal: tuple[Sites, ...]
    whole: bool
    encoder: Mapping[int, tuple[float, ...]]
    margin: float


@dataclass(frozen=True)
class Inert:
    """A site whose interchange never changes the output: why, and whether it responds to the inputs."""

    why: Why
    responds: bool


@dataclass(frozen=True)
class LayerKey:
    """One layer: its cells, its inert sites, and whether it is distributed.

    Distributed: it holds what it holds in rotated coordinates, and no group of neurons below the whole live layer
    carries any of it, so that it has no cells. live: sites whose interchange, alone or with others, changes the output.
    loose: parts of cells that may as well belong to the cell of another variable, as no more classes result.
    """

    name: str
    cells: tuple[Cell, ...]
    inert: Mapping[str, Inert]
    live: Sites
    loose: tuple[tuple[Sites, str], ...] = ()
    distributed: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Key:
    """What a planted network computes and where, measured by forcing values into every site.

    inputs: their domains. settings: every setting of the inputs, in the order of all class numbers. outputs: what the
    program gives. error: how far the network is from that at most. verdicts: those that are right. control: whether
    nothing was planted. ambiguous: reasons why more than one answer may be right, beyond the listed ones. truth: tables
    of any sites.
    """

    program: str
    function: str
    encoding: str
    seed: int
    version: int
    inputs: Mapping[str, Sequence[int]]
    settings: tuple[Mapping[str, int], ...]
    outputs: tuple[float, ...]
    error: float
    layers: tuple[LayerKey, ...]
    verdicts: tuple[Verdict, ...]
    control: bool
    ambiguous: tuple[str, ...]
    truth: Truth = field(repr=False)

    def __repr__(self) -> str:
        return f"Key of a network of {', '.join(self.inputs)}. key.explain() tells it."

    @property
    def tol(self) -> float:
        """What outputs are told apart by."""
        return self.truth.tol

    def layer(self, name: str) -> LayerKey:
        """The key of one layer."""
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of all layers."""
        return tuple(cell for layer in self.layers for cell in layer.cells)

    @property
    def inert(self) -> dict[str, Inert]:
        """The inert sites of all layers."""
        return {site: inert for layer in self.layers for site, inert in layer.inert.items()}

    @property
    def live(self) -> Sites:
        """The live sites of all layers."""
        return frozenset().union(*(layer.live for layer in self.layers))

    @property
    def noisy(self) -> Sites:
        """Inert sites that do something beyond the tolerance, but no more than noise does."""
        return frozenset(site for site, inert in self.inert.items() if inert.why == "only noise")

    @property
    def cancelling(self) -> Sites:
        """Inert sites that feed living ones, in whose effects on the output they cancel."""
        return frozenset(site for site, inert in self.inert.items() if inert.why == "cancels downstream")

    @cached_property
    def groups(self) -> tuple[tuple[Sites, ...], ...]:
        """The sites of every claim of the key's own answer, layer by layer, inputs first; of a control none."""
        inputs = tuple(frozenset({name}) for name in self.inputs)
        claims = [[] if self.control else self._claims(layer) for layer in self.layers]
        return (inputs, *(tuple(claim.sites for claim in some) for some in claims))

    @cached_property
    def wiring(self) -> frozenset[Edge]:
        """Which of these groups, and of the cancelling sites, feed which."""
        cancelling = frozenset() if self.control else self.cancelling
        hidden = [[frozenset({site}) for site in layer.inert if site in cancelling] for layer in self.layers]
        return wired(self.truth, [[*some, *more] for some, more in zip(self.groups, [[], *hidden], strict=True)])

    @cached_property
    def edges(self) -> frozenset[Edge]:
        """Which of these groups feed which."""
        return frozenset(edge for edge in self.wiring if not any(end <= self.cancelling for end in edge))

    @cached_property
    def chains(self) -> tuple[tuple[Sites, ...], ...]:
        """Groups that carry one variable through several layers, in order; parts of what is cancelled are left out."""
        cancelled = {cell.sites for cell in self.cells if size(cell.classes) == 1}
        carried = links(self.truth, self.edges)
        chains: dict[Sites, list[Sites]] = {}
        for group in sorted(carried, key=lambda sites: self.truth.find(sites)[0]):
            if not any(group <= sites for sites in cancelled):
                first = back(group, carried)[-1]
                chains.setdefault(first, [first]).append(group)
        return tuple(map(tuple, chains.values()))

    def child_table(self, child: Sites) -> Mapping[tuple[int, ...], int | None] | None:
        """The class of a group for every combination of its parents' classes, parents in the order of their sites.

        None where it also depends on something else.
        """
        return self.truth.child_table(self.parents(child), child)

    def parents(self, child: Sites) -> list[Sites]:
        """The groups and cancelling sites that feed a group, in the order of their sites."""
        feeding = [parent for parent, fed in self.wiring if fed == child]
        return sorted(feeding, key=lambda sites: [self.truth.places[site] for site in self.truth.in_order(sites)])

    def _claims(self, layer: LayerKey) -> list[Claim]:
        label = "approximate" if self.verdicts[0] == "approximate" else "exact"
        claims = []
        for cell in layer.cells:
            if size(cell.classes) == 1:  # cancelled: only its parts do anything
                parts = [frozenset({site}) for site in self.truth.in_order(cell.sites)]
                claims += [Claim(part, self.truth.seen(part), cell.variable, label) for part in parts]
            else:
                claims.append(Claim(cell.sites, cell.classes, cell.variable, label))
        return claims

    def answer(self) -> Answer:
        """The key as an answer, as a perfect method would give it."""
        if self.control:
            return Answer({}, self._grades(), verdict=self.verdicts[0])
        layers = {layer.name: tuple(self._claims(layer)) for layer in self.layers}
        decode = {cell.sites: cell.encoder for cell in self.cells if size(cell.classes) > 1}
        return Answer(layers, self._grades(), self.edges, self.verdicts[0], decode)

    def _grades(self) -> dict[str, Grade]:
        grades: dict[str, Grade] = {}
        for site, one in self.inert.items():
            known = "certified" if one.why in CERTAIN else "does not mediate"
            grades[site] = "undetermined" if one.why == "only noise" else known
        return grades

    @property
    def hash(self) -> str:
        """A short text that is the same for the same key."""
        content = (
            [(sorted(cell.sites), cell.classes, cell.whole) for cell in self.cells],
            sorted((site, inert.why) for site, inert in self.inert.items()),
            sorted((sorted(parent), sorted(child)) for parent, child in self.edges),
            self.settings,
            self.outputs,
            self.verdicts,
        )
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

    def explain(self) -> str:
        """The key in sentences."""
        if self.control:
            lines = [f"Nothing was planted here ({self.function}); the right verdict is {self.verdicts[0]!r}."]
        else:
            planted = f"by the program {self.program!r}, encoded as {self.encoding!r}"
            lines = [f"The network computes {self.function}, {planted}."]
        for layer in self.layers:
            if layer.distributed:
                lines.append(
                    f"{layer.name} is distributed: no neuron holds a variable, and {_listed(self, layer.live)} are "
                    "needed together."
                )
            lines += [self._said(cell) for cell in layer.cells if not self.control]
            lines += [f"{_listed(self, part)} may as well be of {other}." for part, other in layer.loose]
            lines += [_said_inert(site, one) for site, one in layer.inert.items()]
        if not self.control:
            if last := self.parents(OUTPUT):
                lines.append(f"The output is computed from {_joined([_listed(self, parent) for parent in last])}.")
            lines += [
                f"{' -> '.join(_listed(self, group) for group in chain)}: the same variable, carried on."
                for chain in self.chains
            ]
            lines.append(f"The right verdict is {self.verdicts[0]!r}.")
        lines += [f"This key is ambiguous: {reason}." for reason in self.ambiguous]
        return "\n".join(lines)

    def _said(self, cell: Cell) -> str:
        sites = _listed(self, cell.sites)
        several = len(cell.sites) > 1
        if size(cell.classes) == 1:
            return f"{sites} hold {cell.variable}: each changes the output, and together they cancel."
        text = f"{sites} {'together hold' if several else 'holds'} {cell.variable} ({size(cell.classes)} classes)"
        if cell.minimal != (cell.sites,):
            text += f"; {' or '.join(_listed(self, one) for one in cell.minimal)} would do"
        if not cell.whole:
            text += "; its parts tell more apart than is read of them together"
        parents = [_listed(self, parent) for parent in self.parents(cell.sites)]
        return text + (f", computed from {_joined(parents)}." if parents else ".")


def _listed(key: Key, sites: Sites) -> str:
    return _joined(key.truth.in_order(sites))


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _said_inert(site: str, inert: Inert) -> str:
    reasons = {
        "constant": "it is constant",
        "unread": "nothing reads it",
        "zero path": "every path from it to the output has a weight of zero",
        "no effect": "it never changes the output, although paths lead there",
        "only noise": "it changes the output only as much as noise does",
        "cancels downstream": "what it changes further on cancels",
    }
    return f"{site} is inert: {'it responds to the inputs, but ' if inert.responds else ''}{reasons[inert.why]}."
