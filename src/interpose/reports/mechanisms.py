"""The mechanisms of a causal model as data: tables over the parents' values, or the weights of a small network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..causal_model import CausalModel, Variable
from ..columns import plain
from ..errors import NoDomain, OutsideDomain, WrongInput
from ..neuron_graph import Stage, Unit

MOST_ENTRIES = 20_000
"""How many entries the tables of one model may have together."""

SMOOTH: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "tanh": (torch.tanh, 1.0),
    "sigmoid": (torch.sigmoid, 0.25),
    "silu": (functional.silu, 0.5),
}
"""Nonlinearities that a parent may pass through, and their slopes at 0. Those of two straight parts need no name."""

OUTSIDE = object()
"""What a mechanism gives that says it was asked for something outside its domain."""

Levels = Mapping[str, Sequence[Hashable]]


# -- tables --------------------------------------------------------------------------------------------


def levels_and_tables(graph: CausalModel, extra: Mapping[str, Sequence[Any]]) -> tuple[Levels, dict[str, list[Any]]]:
    """The values that each variable may take, and for each computed one the number of its value (None: outside its
    domain, or none) for every combination of its parents' values, the last parent varying fastest.

    extra: further values for a variable to take. Raises NoDomain for an input without a domain, WrongInput where there
    are more than `MOST_ENTRIES` combinations or values that are not hashable; an error of a mechanism passes through,
    with a note on what it was asked.
    """
    levels: dict[str, list[Hashable]] = {}
    tables: dict[str, list[Any]] = {}
    entries = 0
    for name in graph.order:
        variable, more = graph.variables[name], list(extra.get(name, ()))
        if variable.mechanism is None:
            if variable.domain is None and not more:
                raise NoDomain(f"{name} has no values to choose from. Give it some: domains={{{name!r}: range(10)}}.")
            levels[name] = _distinct(name, variable.domain or (), more)
            continue
        entries += math.prod(len(levels[parent]) for parent in variable.parents)
        if entries > MOST_ENTRIES:
            raise WrongInput(
                f"The tables of this model need {entries:,} entries up to {name}, and a page holds {MOST_ENTRIES:,}: "
                "its variables have too many values to be tabulated. Give smaller domains."
            )
        values = _column(name, variable, [levels[parent] for parent in variable.parents])
        inside = [value for value in values if value is not OUTSIDE and variable.admits(value)]
        levels[name] = _distinct(name, [*(variable.domain or ()), *inside], more)
        number = {_key(value): k for k, value in enumerate(levels[name])}
        tables[name] = [number.get(_key(value)) for value in values]
    return levels, tables


def _column(name: str, variable: Variable, of_parents: Sequence[Sequence[Any]]) -> list[Any]:
    """A variable's value for every combination of its parents', each run alone."""
    inputs = {parent: Variable() for parent in variable.parents}
    alone = CausalModel({**inputs, name: Variable(variable.mechanism, parents=variable.parents, vectorised=False)})
    column = []
    for values in itertools.product(*of_parents):
        setting = dict(zip(variable.parents, values, strict=True))
        try:
            column.append(plain(alone.run(setting)[name]))
        except OutsideDomain:
            column.append(OUTSIDE)
        except Exception as error:
            error.add_note(f"{name} was asked for a table of all its values, of {setting} among them.")
            raise
    return column


def _distinct(name: str, values: Sequence[Any], more: Sequence[Any]) -> list[Hashable]:
    """The values, and of more those that equal none of them."""
    for value in (*values, *more):
        if not isinstance(value, Hashable):
            raise WrongInput(f"{name} takes the value {value!r}, which is not hashable: use tuples, not lists.")
    found = {_key(value): value for value in values}
    for value in more:
        if value not in found.values():
            found[_key(value)] = value
    return list(found.values())


def _key(value: Hashable) -> Hashable:
    """1, 1.0 and True are equal, but are shown as different."""
    return type(value), ("nan" if value != value else value)


# -- weights -------------------------------------------------------------------------------------------


def weights(graph: CausalModel) -> dict[str, dict[str, Any]]:
    """How each unit of a network is computed, {"bias", "above", "below", "through"}, of those of which that is known.

    A unit is its bias and, for each parent, a weight times the parent's value, which may be another weight below 0 (a
    ReLU between two layers is a 0 there), or times a nonlinearity of `SMOOTH`. Biases and weights are the module's own,
    read off its values and gradients, and believed where they give the module's values at other points too.
    """
    units = {n: v for n, v in graph.variables.items() if isinstance(v.mechanism, Unit)}
    stages = {v.mechanism.stage: len(v.parents) for v in units.values() if isinstance(v.mechanism, Unit)}
    read = {stage: _units(stage, parents) for stage, parents in stages.items()}
    return {
        name: of_stage[v.mechanism.unit]
        for name, v in units.items()
        if isinstance(v.mechanism, Unit) and (of_stage := read[v.mechanism.stage]) is not None
    }


def _units(stage: Stage, parents: int) -> list[dict[str, Any]] | None:
    """The units of one layer; None where they are no such sums."""
    rows = torch.zeros(1, parents, dtype=torch.float64)
    with torch.no_grad():
        at_zero = stage.values(rows)[0]
    above, below, middle = (_slopes(stage, rows[0] + start) for start in (1.0, -1.0, 0.0))
    through, bias = [], at_zero.double()
    for parent in range(parents):
        kind = _through(stage, parent, rows, above[:, parent], below[:, parent], middle[:, parent])
        if kind is None:
            return None
        through.append(kind)
        if kind in SMOOTH:
            function, slope = SMOOTH[kind]
            above[:, parent] = below[:, parent] = middle[:, parent] / slope
            bias = bias - above[:, parent] * function(rows[0, 0])
    if not _holds(stage, bias, above, below, through):
        return None
    return [
        {"bias": bias[unit].item(), "above": above[unit].tolist(), "below": below[unit].tolist(), "through": through}
        for unit in range(len(bias))
    ]


def _slopes(stage: Stage, at: Tensor) -> Tensor:
    """[unit, parent]: the derivative of every unit by every parent."""
    if not len(at):
        return torch.zeros(len(stage.values(at[None])[0]), 0, dtype=torch.float64)
    with torch.enable_grad():
        rows = at[None].clone().requires_grad_()
        values = stage.values(rows)[0]
        if not values.requires_grad:
            return torch.zeros(len(values), len(at), dtype=torch.float64)
        return torch.stack([_gradient(value, rows)[0] for value in values]).double()


def _gradient(value: Tensor, rows: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, rows, retain_graph=True, allow_unused=True)
    return torch.zeros_like(rows) if gradient is None else gradient


def _through(stage: Stage, parent: int, origin: Tensor, above: Tensor, below: Tensor, middle: Tensor) -> str | None:
    """What one parent passes through on its way: "" for two straight parts, a name of `SMOOTH`, None for neither."""
    points = torch.tensor([-30.0, -3.0, -0.4, 0.0, 0.7, 2.0, 40.0], dtype=torch.float64)
    rows = origin.repeat(len(points), 1)
    rows[:, parent] = points
    with torch.no_grad():
        seen = stage.values(rows)
    bias, precision = seen[3].double(), _precision(seen)
    straight = torch.where(points[:, None] > 0, above, below) * points[:, None]
    guesses = {"": straight} | {
        name: (function(points) - function(points[3]))[:, None] * (middle / slope)
        for name, (function, slope) in SMOOTH.items()
    }
    for name, moved in guesses.items():
        if bool(((seen.double() - bias - moved).abs() <= precision * (bias.abs() + moved.abs() + 1e-30)).all()):
            return name
    return None


def _holds(stage: Stage, bias: Tensor, above: Tensor, below: Tensor, through: Sequence[str]) -> bool:
    """Whether the sums give the layer's values where all parents have values at once, small and large."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=torch.float64).repeat_interleave(16)[:, None]
    rows = scales * torch.randn(64, len(through), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        seen = stage.values(rows)
    passed = rows.clone()
    for parent, kind in enumerate(through):
        if kind in SMOOTH:
            passed[:, parent] = SMOOTH[kind][0](rows[:, parent])
    terms = torch.where(rows[:, None, :] > 0, above, below) * passed[:, None, :]
    size = bias.abs() + terms.abs().sum(-1)
    return bool(((seen.double() - bias - terms.sum(-1)).abs() <= _precision(seen) * (size + 1e-30)).all())


def _precision(seen: Tensor) -> float:
    """How far apart two ways of computing the same sum may be, as a share of the size of its terms."""
    return 200 * torch.finfo(seen.dtype).eps
