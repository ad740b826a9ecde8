"""Networks in which nothing was planted: random weights, layers that keep all inputs apart, and lookup by memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.random import Generator

from .build import planned
from .encodings import ENCODINGS, Encoding
from .instance import Planted, from_plan, generator
from .plan import Group, Layer, Plan
from .program import Program
from .programs import PROGRAMS

Control = Callable[[Program, Generator], Plan]
SHAPES = (
    "A+(B+C)",
    "sum of pairs",
    "max + min",
    "|A-B| looked up",
    "parity by gates",
    "one of two",
    "in order, in a chain",
)


def random_twin(program: Program, rng: Generator) -> Plan:
    """The shape of a network with this program, and random weights."""
    plan = planned(program, ENCODINGS["dead"], rng)
    layers = [
        Layer(rng.normal(size=(n, below)) / below**0.5, rng.normal(size=n), layer.bends)
        for layer in plan.layers
        for n, below in [layer.weights.shape]
    ]
    return _alone(tuple(program.inputs), layers)


def all_apart(program: Program, rng: Generator) -> Plan:
    """Layers of random sums of everything below, none of which a ReLU cuts off: every live site tells all inputs apart.

    One neuron a layer is read by nothing.
    """
    names = tuple(program.inputs)
    low, high = np.array([(min(domain), max(domain)) for domain in program.inputs.values()], float).T
    layers, dead = [], 0
    for width in (*rng.integers(3, 6, size=rng.integers(1, 4)).tolist(), 0):
        weights = rng.uniform(0.3, 1.5, (width or 1, len(low))) * rng.choice([-1, 1], (width or 1, len(low)))
        weights[:, len(low) - dead :] = 0
        ends = np.stack([weights * low, weights * high])
        bias = rng.uniform(0.5, 2, len(weights)) - ends.min(0).sum(1)
        low, high = ends.min(0).sum(1) + bias, ends.max(0).sum(1) + bias
        layers.append(Layer(weights, bias, bool(width) and bool(rng.random() < 0.7)))
        dead = 1
    return _alone(names, layers)


def memory(program: Program, rng: Generator) -> Plan:
    """One layer of random ReLU features, read by weights that fit the program's outputs: no step of it is stored."""
    names = tuple(program.inputs)
    settings = program.settings()
    inputs = np.array([[setting[name] for name in names] for setting in settings], float)
    width = len(settings) + 8
    weights = rng.normal(size=(width, len(names)))
    centres = inputs[rng.integers(len(inputs), size=width)] + rng.uniform(-0.5, 0.5, (width, len(names)))
    bias = -(weights * centres).sum(1)
    wanted = np.array([program.run(setting) for setting in settings])
    features = np.maximum(inputs @ weights.T + bias, 0)
    read = np.linalg.lstsq(np.c_[features, np.ones(len(features))], wanted, rcond=None)[0]
    return _alone(names, [Layer(weights, bias, True), Layer(read[None, :-1], read[-1:], False)])


def _alone(names: tuple[str, ...], layers: list[Layer]) -> Plan:
    """A plan in which every neuron is a group of its own."""
    groups = tuple(tuple(Group(f"unit {u}", (u,)) for u in range(len(layer.bias))) for layer in layers[:-1])
    return Plan(names, tuple(layers), groups, {})


CONTROLS: dict[str, Control] = {"random weights": random_twin, "all inputs apart": all_apart, "memory": memory}
"""Every kind of control, by name."""


def control(kind: str, program: Program | str, seed: int = 0, *, dtype: torch.dtype = torch.float64) -> Planted:
    """A network without an algorithm, over the inputs of a program. kind: a name in `CONTROLS`."""
    program = PROGRAMS[program] if isinstance(program, str) else program
    plan = CONTROLS[kind](program, generator("control", kind, program.name, seed))
    named = replace(program, name=f"{kind}, {program.name}", function=kind)
    return from_plan(plan, named, Encoding(f"control: {kind}"), seed, dtype, control=True)
