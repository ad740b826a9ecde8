"""What a planted network is made of, and where its maker meant to put what: weights, groups of units, rotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from .codes import Floats


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer: weights [unit, unit below], bias [unit], and whether a ReLU follows."""

    weights: Floats
    bias: Floats
    bends: bool


@dataclass(frozen=True)
class Group:
    """Units of one layer that were meant to hold one variable together."""

    variable: str
    units: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Units of one layer that hold quantities in rotated coordinates: quantity j lies along column j of `basis`.

    variables: of the first quantities; the others are read by nothing.
    """

    units: tuple[int, ...]
    basis: Floats
    variables: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """The weights of a network, the last layer being the output; for each other one the groups, or the mixture."""

    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    groups: tuple[tuple[Group, ...], ...]
    mixtures: Mapping[int, Mixture]

    def permuted(self, orders: list[list[int]]) -> Plan:
        """The same network with its inputs and the units of each layer in other orders: new place -> old place."""
        layers, groups, mixtures = [], [], {}
        for at, layer in enumerate(self.layers):
            rows = orders[at + 1] if at + 1 < len(self.layers) else list(range(len(layer.bias)))
            layers.append(Layer(layer.weights[rows][:, orders[at]], layer.bias[rows], layer.bends))
            new = {old: place for place, old in enumerate(rows)}
            if at < len(self.groups):
                groups.append(tuple(Group(g.variable, tuple(sorted(new[u] for u in g.units))) for g in self.groups[at]))
            if at in self.mixtures:
                mixture = self.mixtures[at]
                mixtures[at] = replace(mixture, units=tuple(new[u] for u in mixture.units))
        return Plan(tuple(self.inputs[i] for i in orders[0]), tuple(layers), tuple(groups), mixtures)

    def shuffled(self, rng: Generator) -> Plan:
        """The same network with its inputs and the units of each layer in random orders."""
        sizes = [len(self.inputs), *(len(layer.bias) for layer in self.layers[:-1])]
        return self.permuted([rng.permutation(size).tolist() for size in sizes])

    def forward(self, inputs: Floats) -> Floats:
        """What the network gives: [..., input] -> [..., output]."""
        for layer in self.layers:
            inputs = inputs @ layer.weights.T + layer.bias
            inputs = np.maximum(inputs, 0) if layer.bends else inputs
        return inputs

    def moved(self, changes: list[tuple[Floats, Floats]], by: float) -> Plan:
        """The same network with other weights: so many times `changes`, (weights, bias) a layer, is added."""
        layers = [
            Layer(layer.weights + by * weights, layer.bias + by * bias, layer.bends)
            for layer, (weights, bias) in zip(self.layers, changes, strict=True)
        ]
        return replace(self, layers=tuple(layers))
