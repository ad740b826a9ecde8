"""A causal model from what was found: variables by name, each computed from its parents by a formula or a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..causal_model import CausalModel, Variable
from ..errors import OutsideDomain
from ..statistics import Floats
from .decoding import label_of, line, names_of, plain
from .grammar import Expression, expressions, named, variable
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
    """How a variable is computed from its parents: in words, and as a function; a table where there are no words.

    careful: the same function, which gives `UNSAID` wherever the network was never seen to do what is asked.
    """

    text: str
    parents: tuple[str, ...]
    compute: Callable[..., Any]
    careful: Callable[..., Any]
    table: bool


def formulas_of(
    domain: Domain, nodes: Sequence[Node], wires: Mapping[str, Wire], output: str, held: Kernel
) -> dict[str, Formula]:
    """The formula of each variable that is computed: of the held ones and of the output.

    nodes: of the held variables that are no copies of inputs, in causal order. held: the kernel of the output.
    """
    values: dict[str, list[Any]] = {name: [plain(v) for v in column] for name, column in domain.columns().items()}
    classes: dict[str, Kernel] = {name: kernel(column) for name, column in domain.columns().items()}
    formulas: dict[str, Formula] = {}
    for node in nodes:
        assert node.held is not None
        values[node.name], classes[node.name] = names_of(node.held), node.classes
        formulas[node.name] = _formula(node.name, wires[node.name], values, classes)
    values[output], classes[output] = outputs_of(domain.outputs), held
    formulas[output] = _formula(output, wires[output], values, classes)
    return formulas


def causal_model(
    names: Mapping[str, Sequence[Any]], formulas: Mapping[str, Formula], output: str, *, careful: bool = False
) -> CausalModel:
    """The model of the inputs, the output, and all from which it is computed.

    names: input variable -> its domain. careful: whether the answer to what the network was never seen to do is
    `UNSAID`; otherwise it is an error to ask for it.
    """
    inputs = {name: Variable(of, open=True) for name, of in names.items()}
    computed = {
        name: Variable(
            _unless_unsaid(formula.careful) if careful else formula.compute, parents=formula.parents, vectorised=False
        )
        for name, formula in formulas.items()
    }
    used = {output, *CausalModel({**inputs, **computed}).ancestors(output)}
    return CausalModel({**inputs, **{name: variable for name, variable in computed.items() if name in used}})


def outputs_of(outputs: Floats) -> list[Any]:
    """The value of the output variable at every input: a number, or a tuple of them."""
    rounded = np.round(outputs, 6)
    near = np.abs(outputs - np.round(outputs)).max(initial=0.0) < 1e-3
    rounded = np.round(outputs) if near else rounded
    return [plain(row[0]) if len(row) == 1 else tuple(plain(v) for v in row) for row in rounded]


def _formula(name: str, wire: Wire, values: Mapping[str, Sequence[Any]], classes: Mapping[str, Kernel]) -> Formula:
    """A formula over the parents that gives the variable's own values; a table of them where none is found.

    It must hold for every combination of the parents' classes that was set, natural or not; where that gave the child a
    value that no input gives, the formula must give one too.
    """
    parents = sorted(wire.parents, key=len)
    of_class = {one: _by_class(values[one], classes[one]) for one in (*parents, name)}
    table = partial(_table, name, wire, values, classes)
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
            return Formula(found[0], wire.parents, compute, table(otherwise=compute), False)
    text = f"table of {', '.join(wire.parents)}"
    return Formula(text, wire.parents, table(otherwise=None), table(otherwise=_unsaid), True)


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
    found = named(kernel(child[some]), expressions(atoms), most=TRIED)
    if found is None or not found.exact or not found.best.number or not found.best.size:
        return None
    inner = found.best
    x = np.broadcast_to(np.asarray(inner.compute(columns), float), child.shape)
    known = child < len(of_class)
    y = of_class[child[known]]
    if np.ptp(x[known]) == 0 or not np.array_equal(kernel(x), kernel(child)):
        return None
    slope, intercept, off, _ = line(x[known], y)
    if off > 1e-4 * max(1.0, np.ptp(y)):
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


def _atom(name: str, values: Floats) -> Expression:
    """A parent in a formula: in brackets where its name is none of one word, and to be used as often as it takes."""
    text = name if name.isidentifier() else f"({name})"
    return replace(variable(name, values), text=text, terms={text: 1}, uses=frozenset())


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
