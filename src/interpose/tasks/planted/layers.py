"""One layer of a planted network: the steps of one level, written in codes, among dead units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from .codes import Floats, Unit, bent, copied, drawn_slope, held, readout
from .decoys import Below, Dead, relayed, unread
from .encodings import Encoding
from .plan import Group, Layer, Mixture
from .program import Level, Reader, Step, read

Form = tuple[Floats, float]
"""Weights over the units of a layer, and a constant."""
Forms = Callable[[str, Reader], Form]
"""How a layer is read: (variable, reader) -> weights and a constant."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A layer, and how the next one reads it. nulls: what is read and always zero; fed, onward: dead units to read."""

    layer: Layer
    below: Below
    forms: Forms
    nulls: tuple[Form, ...] = ()
    onward: bool = False
    groups: tuple[Group, ...] = ()
    mixture: Mixture | None = None


@dataclass(frozen=True)
class Task:
    """The steps of one level, and what there is to know about them: who reads them, and their ranges."""

    level: Level
    readers: Sequence[Step]
    ranges: Mapping[str, tuple[int, int]]
    last: bool
    rotated: bool


def inputs_draft(domains: Mapping[str, Sequence[int]]) -> Draft:
    """The inputs, which are read as they are."""
    names = list(domains)
    low, high = np.array([(min(domain), max(domain)) for domain in domains.values()], float).T
    eye = np.eye(len(names))
    layer = Layer(eye, np.zeros(len(names)), False)

    def forms(name: str, reader: Reader) -> Form:
        return read(reader, 1) * eye[names.index(name)], 0.0

    return Draft(layer, Below(low, high, len(names)), forms)


def rows(steps: Sequence[Step], below: Draft, rng: Generator) -> list[Form]:
    """Steps as weights over the layer below; what is always zero there is read by one of them."""
    forms = []
    for step in steps:
        weights, constant = np.zeros(len(below.below.low)), float(step.plus)
        for name, reader in step.reads.items():
            more, plus = below.forms(name, reader)
            weights, constant = weights + more, constant + plus
        forms.append((weights, constant))
    for more, plus in below.nulls:
        at, by = rng.integers(len(forms)), drawn_slope(rng)
        forms[at] = (forms[at][0] + by * more, forms[at][1] + by * plus)
    return forms


def made(task: Task, below: Draft, encoding: Encoding, rng: Generator) -> Draft:
    """One layer: the units of every step, then the dead ones, rotated if asked for."""
    codes = {step.name: _code(step, task, encoding, rng) for step in task.level}
    units = [unit for code in codes.values() for unit in code]
    dead = _dead(task, below, encoding, rng)
    kinks = any(unit.kink is not None for unit in units) or any(one.read and one.weights.any() for one in dead)
    bends = kinks or (encoding.drawn and bool(rng.random() < 0.7))
    matrix, bias = _stacked(codes, rows(task.level, below, rng), dead)
    free = np.array([unit.kink is None for unit in units] + [False] * len(dead))
    mixture = _mixture(task.level, len(units), rng) if task.rotated else None
    if mixture:
        at = list(mixture.units)
        matrix[at], bias[at], free[at] = mixture.basis @ matrix[at], mixture.basis @ bias[at], True
    least = _bounds(matrix, bias, below.below)[0]
    if not mixture:  # of steps, the range that their programs give may be wider
        least[: len(units)] = np.minimum(least[: len(units)], _least(task, codes))
    shifts = _shifts(least, free, bends, encoding, rng)
    low, high = _bounds(matrix, bias + shifts, below.below)
    if bends:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    layer = Layer(matrix, bias + shifts, bends)
    first = len(units)
    fed = tuple(first + i for i, one in enumerate(dead) if one.fed and not task.last)
    places = _places(codes)
    return Draft(
        layer,
        Below(low, high, len(units), fed),
        _mixed_forms(mixture, codes, shifts, len(bias)) if mixture else _forms(task, codes, places, shifts, layer),
        tuple(_null(first + i, layer) for i, one in enumerate(dead) if one.read),
        any(one.onward for one in dead),
        () if mixture else _groups(task.level, places),
        mixture,
    )


def _stacked(codes: Mapping[str, Sequence[Unit]], forms: Sequence[Form], dead: Sequence[Dead]) -> tuple[Floats, Floats]:
    """Weights and biases of all units, those that may be shifted without a shift."""
    units = [(unit, *form) for code, form in zip(codes.values(), forms, strict=True) for unit in code]
    weights = [unit.slope * form for unit, form, _ in units] + [one.weights for one in dead]
    bias = [unit.slope * (constant - (unit.kink or 0)) for unit, _, constant in units] + [one.bias for one in dead]
    return np.array(weights), np.array(bias, float)


def _bounds(matrix: Floats, bias: Floats, below: Below) -> tuple[Floats, Floats]:
    """The least and greatest value of every unit, whatever is put into each unit below."""
    ends = np.stack([matrix * below.low, matrix * below.high])
    return ends.min(0).sum(1) + bias, ends.max(0).sum(1) + bias


def _least(task: Task, codes: Mapping[str, Sequence[Unit]]) -> Floats:
    """The least value of every unit over the range of its step."""
    ends = ((unit.slope, task.ranges[name]) for name, code in codes.items() for unit in code)
    return np.array([min(slope * low, slope * high) for slope, (low, high) in ends])


def _shifts(low: Floats, free: np.ndarray, bends: bool, encoding: Encoding, rng: Generator) -> Floats:
    """What is added to units that may be shifted: where a ReLU follows, enough to keep them positive by a margin."""
    drawn = encoding.drawn
    if bends:
        return np.where(free, (rng.uniform(0.5, 3, len(free)) if drawn else 1.0) - low, 0.0)
    return np.where(free, rng.uniform(-3, 3, len(free)) if drawn else 0.0, 0.0)


# -- codes ---------------------------------------------------------------------------------------------


def _code(step: Step, task: Task, encoding: Encoding, rng: Generator) -> tuple[Unit, ...]:
    """The units that hold a step. They bend where the step does, or where what is read of it does."""
    read_as = [other.reads[step.name] for other in task.readers if callable(other.reads.get(step.name))]

    def needed(low: int, high: int, rng: Generator) -> tuple[Unit, ...]:
        if not read_as:
            return (Unit(drawn_slope(rng, either=False) if encoding.drawn else 1.0, 0.0),)
        functions = [lambda value, reader=reader: _target(step, reader, value) for reader in read_as]
        return tuple(bent(functions, low, high, rng, even=not encoding.drawn))

    code = encoding.codes[rng.integers(len(encoding.codes))]
    code = needed if read_as or step.rectified else code
    copies = int(rng.integers(encoding.copies[0], encoding.copies[1] + 1))
    return copied(code, copies, encoding.unread)(*task.ranges[step.name], rng)


def _target(step: Step, reader: Reader, value: int) -> float:
    """What is read of a step whose sum has this value."""
    return read(reader, max(value, 0) if step.rectified else value)


def _places(codes: Mapping[str, Sequence[Unit]]) -> dict[str, list[int]]:
    places, first = {}, 0
    for name, code in codes.items():
        places[name] = list(range(first, first := first + len(code)))
    return places


def _groups(level: Level, places: Mapping[str, list[int]]) -> tuple[Group, ...]:
    units: dict[str, list[int]] = {}
    for step in level:
        units.setdefault(step.variable, []).extend(places[step.name])
    return tuple(Group(variable, tuple(at)) for variable, at in units.items())


def _forms(
    task: Task, codes: Mapping[str, Sequence[Unit]], places: Mapping[str, list[int]], shifts: Floats, layer: Layer
) -> Forms:
    steps = {step.name: step for step in task.level}

    def forms(name: str, reader: Reader) -> Form:
        low, high = task.ranges[name]
        grid = np.arange(low, high + 1)
        stored = held(codes[name], grid.astype(float), shifts[places[name]])
        stored = np.maximum(stored, 0) if layer.bends else stored
        wanted = np.array([_target(steps[name], reader, int(value)) for value in grid], float)
        found, constant = readout(stored, wanted, [unit.read for unit in codes[name]])
        weights = np.zeros(len(layer.bias))
        weights[places[name]] = found
        return weights, constant

    return forms


# -- rotations -----------------------------------------------------------------------------------------


def _mixture(level: Level, live: int, rng: Generator) -> Mixture:
    """A random rotation of the units of a level; of a single one, with the first dead one."""
    width = max(live, 2)
    basis, triangle = np.linalg.qr(rng.normal(size=(width, width)))
    return Mixture(tuple(range(width)), basis * np.sign(np.diag(triangle)), tuple(step.variable for step in level))


def _mixed_forms(mixture: Mixture, codes: Mapping[str, Sequence[Unit]], shifts: Floats, width: int) -> Forms:
    names = list(codes)

    def forms(name: str, reader: Reader) -> Form:
        column = names.index(name)
        weights = np.zeros(width)
        weights[list(mixture.units)] = read(reader, 1) / codes[name][0].slope * mixture.basis[:, column]
        return weights, -float(weights @ shifts)

    return forms


# -- dead units ----------------------------------------------------------------------------------------


def _dead(task: Task, below: Draft, encoding: Encoding, rng: Generator) -> list[Dead]:
    """The dead units of a layer, and where a rotation needs a second quantity one that responds first."""
    kinds = list(encoding.decoys)
    n = int(rng.integers(encoding.pads[0], encoding.pads[1] + 1)) if kinds else 0
    chosen = [kinds[i] for i in (rng.permutation(len(kinds)).tolist() * n)[:n]]
    if task.rotated and len(task.level) == 1:
        chosen = [unread, *chosen]
    if below.below.fed and not any(kind in (unread, relayed) for kind in chosen):
        chosen.append(relayed if below.onward else unread)
    elif below.onward and relayed not in chosen:
        chosen.append(relayed)
    dead = [kind(below.below, rng) for kind in chosen]
    return [replace(one, fed=False, onward=False) for one in dead] if task.last else dead


def _null(unit: int, layer: Layer) -> Form:
    """What reads a unit that never varies after its ReLU, and nothing else: zero."""
    weights = np.zeros(len(layer.bias))
    weights[unit] = 1.0
    constant = unit_constant(layer, unit)
    return weights, -constant


def unit_constant(layer: Layer, unit: int) -> float:
    """What a unit without weights, or one that is never on, gives."""
    alone = float(layer.bias[unit]) if not layer.weights[unit].any() else 0.0
    return max(alone, 0.0) if layer.bends else alone
