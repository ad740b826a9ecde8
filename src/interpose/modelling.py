"""A causal model from what was found: variables by name, each computed from its parents by a formula or a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .causal_model import CausalModel, Variable
from .decoding import label_of, names_of, plain
from .errors import OutsideDomain
from .grammar import Expression, expressions, named, variable
from .holdings import Held
from .kernels import Kernel, kernel, representatives
from .responses import Domain
from .statistics import Floats
from .wiring import Node, Wire

TRIED = 4000
"""How many formulas are tried before a table is taken."""


@dataclass(frozen=True, eq=False)
class Formula:
    """How a variable is computed from its parents: in words, and as a function; by a table where no words were found."""

    text: str
    parents: tuple[str, ...]
    compute: Callable[..., Any]
    table: bool


def causal_model(
    domain: Domain, names: Mapping[str, Sequence[Any]], nodes: Sequence[Node], wires: Mapping[str, Wire], output: str
) -> tuple[CausalModel, dict[str, Formula]]:
    """The model of inputs, held variables and the output, and the formula of each variable that is computed.

    names: input variable -> its domain. nodes: of the held variables that are no copies of inputs, in causal order.
    """
    values: dict[str, list[Any]] = {name: [plain(v) for v in column] for name, column in domain.columns().items()}
    classes: dict[str, Kernel] = {name: kernel(column) for name, column in domain.columns().items()}
    variables: dict[str, Variable] = {name: Variable(of, open=True) for name, of in names.items()}
    formulas: dict[str, Formula] = {}
    for node in nodes:
        assert node.held is not None
        values[node.name], classes[node.name] = names_of(node.held), node.classes
        formulas[node.name] = _formula(node.name, wires[node.name], values, classes)
    values[output] = outputs_of(domain.outputs)
    classes[output] = kernel(domain.outputs)
    formulas[output] = _formula(output, wires[output], values, classes)
    for name, formula in formulas.items():
        variables[name] = Variable(formula.compute, parents=formula.parents, vectorised=False)
    return CausalModel(variables), formulas


def outputs_of(outputs: Floats) -> list[Any]:
    """The value of the output variable at every input: a number, or a tuple of them."""
    rounded = np.round(outputs, 6)
    near = np.abs(outputs - np.round(outputs)).max(initial=0.0) < 1e-3
    rounded = np.round(outputs) if near else rounded
    return [plain(row[0]) if len(row) == 1 else tuple(plain(v) for v in row) for row in rounded]


def _formula(
    name: str, wire: Wire, values: Mapping[str, Sequence[Any]], classes: Mapping[str, Kernel]
) -> Formula:
    """A formula over the parents that gives the variable's own values; a table of them where none is found."""
    atoms = [_atom(parent, values[parent]) for parent in wire.parents]
    wanted = values[name]
    if atoms and all(atom.number for atom in atoms) and all(isinstance(v, int | float) for v in wanted):
        numbers = np.array(wanted, float)
        found = _same(numbers, atoms) or _line(numbers, classes[name], atoms)
        if found is not None:
            return Formula(found[0], wire.parents, _by_position(wire.parents, found[1]), False)
    return Formula(f"table of {', '.join(wire.parents)}", wire.parents, _table(name, wire, values, classes), True)


def _same(numbers: Floats, atoms: Sequence[Expression]) -> tuple[str, Callable[[Mapping[str, Any]], Any]] | None:
    for tried, one in enumerate(expressions(atoms)):
        if tried > TRIED:
            return None
        if one.number and one.size and np.array_equal(np.asarray(one.values, float), numbers):
            return one.text, one.compute
    return None


def _line(
    numbers: Floats, held: Kernel, atoms: Sequence[Expression]
) -> tuple[str, Callable[[Mapping[str, Any]], Any]] | None:
    """slope * expression + intercept, of the shortest expression with the variable's kernel."""
    found = named(held, atoms, most=TRIED)
    if found is None or not found.exact or not found.best.number or not found.best.size:
        return None
    x = np.asarray(found.best.values, float)
    if np.ptp(x) == 0:
        return None
    slope, intercept = np.polyfit(x, numbers, 1)
    if np.abs(numbers - slope * x - intercept).max() > 1e-4 * max(1.0, np.ptp(numbers)):
        return None
    slope, intercept = (plain(np.round(v, 6)) for v in (slope, intercept))
    inner = found.best

    def compute(given: Mapping[str, Any]) -> Any:
        return plain(slope * inner.compute(given) + intercept)

    sign = "-" if intercept < 0 else "+"
    times = inner.text if slope == 1 else f"{slope:g} * {inner.inside(1)}"
    return times + (f" {sign} {abs(intercept):g}" if intercept else ""), compute


def _table(
    name: str, wire: Wire, values: Mapping[str, Sequence[Any]], classes: Mapping[str, Kernel]
) -> Callable[..., Any]:
    """A lookup from the parents' values, through their classes, to the child's value."""
    numbers = [dict(zip(values[p], classes[p].tolist(), strict=True)) for p in wire.parents]
    of_class = {int(classes[name][i]): values[name][i] for i in representatives(classes[name]).tolist()}

    def compute(*given: Any) -> Any:
        try:
            combination = tuple(number[value] for number, value in zip(numbers, given, strict=True))
            return of_class[wire.table[combination]]
        except KeyError:
            shown = ", ".join(f"{parent} = {value!r}" for parent, value in zip(wire.parents, given, strict=True))
            raise OutsideDomain(
                f"{name} is known by a table, and {shown} is not in it: no input gave these, and no formula was found."
            ) from None

    return compute


def _atom(name: str, values: Sequence[Any]) -> Expression:
    number = all(isinstance(v, int | float) for v in values)
    column = np.array(values) if number else kernel(np.array(values, dtype=object))
    atom = variable(name, column)
    return atom if number else Expression(name, 1, 0, column, frozenset((name,)), atom.compute, False)


def _by_position(parents: Sequence[str], compute: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Any]:
    return lambda *given: plain(compute(dict(zip(parents, given, strict=True))))


def name_for(held: Held, taken: set[str]) -> str:
    """A name for a held variable that no other has."""
    text = label_of(held)
    if text not in taken:
        return text
    return f"{text} at {' + '.join(held.labels)}"
