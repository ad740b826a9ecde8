"""A causal model from what was found: variables by name, each computed from its parents by a formula or a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..causal_model import CausalModel, Variable
from ..errors import OutsideDomain
from ..statistics import Floats
from .decoding import label_of, names_of, plain
from .grammar import Expression, expressions, named
from .holdings import Held
from .kernels import Kernel, kernel, representatives
from .responses import Domain
from .wiring import STRANGE, Node, Wire

TRIED = 4000
"""How many formulas are tried before a table is taken."""

SOME = 400
"""On how many combinations formulas are tried first."""


@dataclass(frozen=True, eq=False)
class Formula:
    """How a variable is computed from its parents: in words, and as a function; a table where there are no words."""

    text: str
    parents: tuple[str, ...]
    compute: Callable[..., Any]
    table: bool


def causal_model(
    domain: Domain,
    names: Mapping[str, Sequence[Any]],
    nodes: Sequence[Node],
    wires: Mapping[str, Wire],
    output: str,
    *,
    held: Kernel,
    strict: bool = True,
) -> tuple[CausalModel, dict[str, Formula]]:
    """The model of inputs, held variables and the output, and the formula of each variable that is computed.

    names: input variable -> its domain. nodes: of the held variables that are no copies of inputs, in causal order.
    held: the kernel of the output. strict: whether it is an error to ask for what the network was never seen to do;
    otherwise the answer is `UNSAID`.
    """
    values: dict[str, list[Any]] = {name: [plain(v) for v in column] for name, column in domain.columns().items()}
    classes: dict[str, Kernel] = {name: kernel(column) for name, column in domain.columns().items()}
    variables: dict[str, Variable] = {name: Variable(of, open=True) for name, of in names.items()}
    formulas: dict[str, Formula] = {}
    for node in nodes:
        assert node.held is not None
        values[node.name], classes[node.name] = names_of(node.held), node.classes
        formulas[node.name] = _formula(node.name, wires[node.name], values, classes, strict)
    values[output] = outputs_of(domain.outputs)
    classes[output] = held
    formulas[output] = _formula(output, wires[output], values, classes, strict)
    used = _ancestors(output, formulas)
    for name, formula in formulas.items():
        if name not in used:
            continue
        compute = formula.compute if strict else _unless_unsaid(formula.compute)
        variables[name] = Variable(compute, parents=formula.parents, vectorised=False)
    return CausalModel(variables), formulas


def _ancestors(output: str, formulas: Mapping[str, Formula]) -> set[str]:
    """The variables from which the output is computed, and itself."""
    found, todo = set(), [output]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += formulas[name].parents if name in formulas else ()
    return found


def outputs_of(outputs: Floats) -> list[Any]:
    """The value of the output variable at every input: a number, or a tuple of them."""
    rounded = np.round(outputs, 6)
    near = np.abs(outputs - np.round(outputs)).max(initial=0.0) < 1e-3
    rounded = np.round(outputs) if near else rounded
    return [plain(row[0]) if len(row) == 1 else tuple(plain(v) for v in row) for row in rounded]


def _formula(
    name: str, wire: Wire, values: Mapping[str, Sequence[Any]], classes: Mapping[str, Kernel], strict: bool
) -> Formula:
    """A formula over the parents that gives the variable's own values; a table of them where none is found.

    It must hold for every combination of the parents' classes that was set, natural or not; where that gave the child a
    value that no input gives, the formula must give one too.
    """
    parents = sorted(wire.parents, key=len)
    of_class = {one: _by_class(values[one], classes[one]) for one in (*parents, name)}
    if all(isinstance(v, int | float) for column in of_class.values() for v in column):
        told = np.array(list(wire.table.values()))
        plain_ones = told < STRANGE
        combinations, told = np.array(list(wire.table))[plain_ones], told[plain_ones]
        columns = {
            parent: np.array(of_class[parent])[combinations[:, wire.parents.index(parent)]] for parent in parents
        }
        found = _said(columns, np.array(of_class[name]), told)
        if found is not None:
            compute = _by_position(wire.parents, found[1])
            compute = compute if strict else _table(name, wire, values, classes, otherwise=compute)
            return Formula(found[0], wire.parents, compute, False)
    table = _table(name, wire, values, classes, otherwise=None if strict else _unsaid)
    return Formula(f"table of {', '.join(wire.parents)}", wire.parents, table, True)


def _by_class(values: Sequence[Any], classes: Kernel) -> list[Any]:
    """[class]: the value of a variable."""
    return [values[i] for i in representatives(classes).tolist()]


Said = tuple[str, Callable[[Mapping[str, Any]], Any]]


def _said(columns: Mapping[str, Any], of_class: Floats, child: Kernel) -> Said | None:
    """The first formula of the parents' values, [combination], that fits the child's class there: see `_formula`."""
    some = np.random.default_rng(0).permutation(len(child))[:SOME]
    atoms = [_atom(name, column[some]) for name, column in columns.items()]
    for tried, one in enumerate(expressions(atoms)):
        if tried > TRIED:
            break
        if one.number and one.size and _fits(np.asarray(one.values, float), of_class, child[some]):
            whole = np.broadcast_to(np.asarray(one.compute(columns), float), child.shape)
            if len(some) == len(child) or _fits(whole, of_class, child):
                return _bare(one), one.compute
    return _line(columns, atoms, of_class, child, some)


def _fits(values: Floats, of_class: Floats, child: Kernel) -> bool:
    """Whether values are those of the child's classes, and tell its unknown classes apart as it does."""
    known = child < len(of_class)
    if not np.array_equal(values[known], of_class[child[known]]):
        return False
    return bool(known.all()) or np.array_equal(kernel(values), kernel(child))


def _line(
    columns: Mapping[str, Any], atoms: Sequence[Expression], of_class: Floats, child: Kernel, some: Kernel
) -> Said | None:
    """slope * expression + intercept, of the shortest expression with the variable's kernel."""
    found = named(kernel(child[some]), atoms, most=TRIED)
    if found is None or not found.exact or not found.best.number or not found.best.size:
        return None
    inner = found.best
    x = np.broadcast_to(np.asarray(inner.compute(columns), float), child.shape)
    known = child < len(of_class)
    y = of_class[child[known]]
    if np.ptp(x[known]) == 0 or not np.array_equal(kernel(x), kernel(child)):
        return None
    slope, intercept = np.polyfit(x[known], y, 1)
    if np.abs(y - slope * x[known] - intercept).max() > 1e-4 * max(1.0, np.ptp(y)):
        return None
    slope, intercept = (plain(np.round(v, 6)) for v in (slope, intercept))

    def compute(given: Mapping[str, Any]) -> Any:
        return plain(slope * inner.compute(given) + intercept)

    sign = "-" if intercept < 0 else "+"
    times = _bare(inner) if slope == 1 else f"{slope:g}*{inner.inside(1)}"
    return times + (f" {sign} {abs(intercept):g}" if intercept else ""), compute


def _table(
    name: str,
    wire: Wire,
    values: Mapping[str, Sequence[Any]],
    classes: Mapping[str, Kernel],
    *,
    otherwise: Callable[..., Any] | None,
) -> Callable[..., Any]:
    """A lookup from the parents' values, through their classes, to the child's value.

    otherwise: asked for combinations that were not tried; None raises OutsideDomain. Of what gave the child a value
    that no input gives, or is one, nothing is said.
    """
    numbers = [dict(zip(values[p], classes[p].tolist(), strict=True)) for p in wire.parents]
    of_class = dict(enumerate(_by_class(values[name], classes[name])))
    natural = set(of_class.values())

    def compute(*given: Any) -> Any:
        combination = tuple(number.get(value, -1) for number, value in zip(numbers, given, strict=True))
        held = wire.table.get(combination)
        if held is None and otherwise is not None and min(combination) >= 0:
            found = otherwise(*given)
            return found if found in natural else UNSAID
        if held in of_class:
            return of_class[held]
        if otherwise is not None:
            return UNSAID
        shown = ", ".join(f"{parent} = {value!r}" for parent, value in zip(wire.parents, given, strict=True))
        raise OutsideDomain(
            f"{name} is known by a table, and {shown} is not in it: no input gave these, and no formula was found."
        )

    return compute


def _unsaid(*given: Any) -> Any:
    return UNSAID


UNSAID = float("nan")
"""What a model that was found says of what it does not know."""


def _unless_unsaid(compute: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: UNSAID if any(one != one for one in given) else compute(*given)


def _atom(name: str, values: Sequence[Any]) -> Expression:
    column = np.asarray(values)
    number = column.dtype.kind in "biuf"
    column = column if number else kernel(np.array(values, dtype=object))
    text = name if name.isidentifier() else f"({name})"
    return Expression(text, 1, 0, column, frozenset((name,)), lambda given: given[name], number, {text: 1})


def _bare(one: Expression) -> str:
    """The text of an expression; of a single variable without its brackets."""
    return one.text[1:-1] if one.size == 1 and one.text.startswith("(") else one.text


def _by_position(parents: Sequence[str], compute: Callable[[Mapping[str, Any]], Any]) -> Callable[..., Any]:
    return lambda *given: plain(compute(dict(zip(parents, given, strict=True))))


def name_for(held: Held, taken: set[str]) -> str:
    """A name for a held variable that no other has."""
    text = label_of(held)
    if text not in taken:
        return text
    return f"{text} at {place_of(held)}"


def place_of(held: Held) -> str:
    """The sites of a held variable, as a part of its name."""
    return "+".join(held.labels)
