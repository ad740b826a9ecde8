"""High-level causal models: variables, each computed from its parents by a mechanism.

hypothesis = CausalModel(
    B=Variable(range(10)),
    C=Variable(range(10)),
    S=Variable(lambda B, C: B + C),
)
hypothesis.run({"B": 2, "C": 3}).output  # 5
"""

from __future__ import annotations

import graphlib
import inspect
import itertools
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from .columns import as_column, evaluate, is_column, plain, rows_of
from .errors import (
    CyclicModel,
    NoDomain,
    OutsideDomain,
    UnknownPlace,
    Unsatisfiable,
    WrongInput,
    WrongShape,
    suggest,
)
from .inputs import check_names
from .interventions import Set, as_intervention, intervene
from .model import NOTHING, Model, Run, Written, assigned, several


class Variable:
    """A variable of a causal model: an input with a domain, or a mechanism that computes it.

    what: the domain (any iterable of hashable values) of an input, or the mechanism, a function of the parents.
    parents: their names; by default the names of the mechanism's arguments that have no default value.
    domain: the values a computed variable may take. open: values beyond the domain are accepted all the same.
    vectorised: whether the mechanism may be called on whole columns (numpy arrays or torch tensors); None finds out,
        checking the answer against single rows.
    """

    __slots__ = ("_set", "domain", "mechanism", "open", "parents", "vectorised")

    def __init__(
        self,
        what: Iterable[Hashable] | Callable[..., Any] | None = None,
        *,
        parents: Sequence[str] | None = None,
        domain: Iterable[Hashable] | None = None,
        open: bool = False,
        vectorised: bool | None = None,
    ) -> None:
        is_domain = isinstance(what, type) and issubclass(what, Enum)
        self.mechanism: Callable[..., Any] | None = what if callable(what) and not is_domain else None
        if what is not None and self.mechanism is None:
            if domain is not None:
                raise WrongInput("A variable has one domain. Give it first, or as domain=, not both.")
            domain = what  # type: ignore[assignment]
        if self.mechanism is None and parents is not None:
            raise WrongInput(f"A variable with parents {tuple(parents)} needs a mechanism, a function of them.")
        self.domain: Sequence[Hashable] | None = None if domain is None else _in_order(domain)
        self._set = self.domain if isinstance(self.domain, range) else frozenset(self.domain or ())
        self.parents = (
            () if self.mechanism is None else tuple(_arguments(self.mechanism) if parents is None else parents)
        )
        self.open = open
        self.vectorised = vectorised

    def __repr__(self) -> str:
        if self.mechanism is None:
            return f"Variable({self.domain})" if self.domain is not None else "Variable()"
        return f"Variable(of {', '.join(self.parents)})"

    def admits(self, value: Any) -> bool:
        """Whether a value may stand here."""
        return self.open or self.domain is None or value in self._set


class CausalModel(Model[str]):
    """A causal model as a `Model`: its places are its variables.

    One input is a dict of the input variables. A data set is a list of such dicts, or a dict of columns (lists, numpy
    arrays or torch tensors); then every value of the run is a column too. The output is the value of the computed
    variable without children, or a dict of them where there are several.
    Raises UnknownPlace for a parent that is no variable, CyclicModel for a variable that depends on itself.

    >>> model = CausalModel(A=Variable(range(10)), B=Variable(range(10)), S=Variable(lambda A, B: A + B))
    >>> model.run({"A": 1, "B": 2}).output
    3
    >>> model.run({"A": 1, "B": 2}, write={"A": 5}).output
    7
    """

    def __init__(self, variables: Mapping[str, Variable] = NOTHING, /, **more: Variable) -> None:
        self.variables: dict[str, Variable] = {**variables, **more}
        if not self.variables:
            raise WrongInput("A causal model needs at least one variable.")
        for name, variable in self.variables.items():
            if not isinstance(variable, Variable):
                raise WrongInput(f"{name} is {type(variable).__name__}. Wrap it: {name}=Variable({variable!r}).")
            for parent in variable.parents:
                if parent not in self.variables:
                    raise UnknownPlace(
                        f"{name} has a parent {parent!r}, which is no variable. {suggest(parent, self.variables)}"
                    )
        self._names = {name: name for name in self.variables}
        self.order = self._sorted()
        children = {parent for variable in self.variables.values() for parent in variable.parents}
        self.inputs = tuple(name for name, variable in self.variables.items() if variable.mechanism is None)
        sinks = tuple(name for name in self.variables if name not in children)
        self.outputs = tuple(name for name in sinks if name not in self.inputs) or sinks

    def __repr__(self) -> str:
        lines = [
            f"  {name} <- {', '.join(self.variables[name].parents)}" for name in self.order if name not in self.inputs
        ]
        return "\n".join([f"CausalModel of {', '.join(self.inputs)}", *lines])

    # -- the waist ---------------------------------------------------------------------------------

    def place(self, spelling: Any) -> str:
        """The variable of that name. Raises UnknownPlace, with the nearest name."""
        for known_as in (spelling, str(spelling)):  # a site of a network goes by its name
            if isinstance(known_as, Hashable) and known_as in self._names:
                return self._names[known_as]
        raise UnknownPlace(f"The causal model has no variable {str(spelling)!r}. {suggest(spelling, self.variables)}")

    def run(self, inputs: Any, *, read: Iterable[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[str]:
        """Compute every variable in its order; those written are then overwritten, and their children follow.

        All values are in the run, whatever was asked to be read.
        Raises MissingInput, UnknownPlace, OutsideDomain, or WrongShape for columns of unequal length.
        """
        for spelling in several(read, "read"):
            self.place(spelling)
        writes = {self.place(spelling): as_intervention(new) for spelling, new in assigned(write).items()}
        given, size = self._settle(inputs)
        values: dict[str, Any] = {}
        ledger: list[Written[str]] = []
        for name in self.order:
            cut = isinstance(
                writes.get(name), Set
            )  # a variable that is set is not computed: its parents may be anything
            old = given.get(name) if cut else self._compute(name, given, values, size)
            values[name] = _overwrite(writes[name], old, size, name) if name in writes else old
            if name in writes:
                ledger.append(Written(name, 1, old, values[name]))
            self._check_domain(name, values[name], size)
        output = {name: values[name] for name in self.outputs}
        return Run(output if len(output) > 1 else output[self.outputs[0]], values, tuple(ledger), self.place)

    def precedes(self, place: Any, other: Any) -> bool:
        """Whether one variable is an ancestor of the other."""
        return self.place(place) in self.ancestors(self.place(other))

    def ancestors(self, name: str) -> set[str]:
        """The variables that a variable is computed from, directly or not."""
        found: set[str] = set()
        waiting = list(self.variables[self.place(name)].parents)
        while waiting:
            if (one := waiting.pop()) not in found:
                found.add(one)
                waiting += self.variables[one].parents
        return found

    # -- domains -----------------------------------------------------------------------------------

    def domain(self, name: str) -> Sequence[Hashable]:
        """The domain of an input variable. Raises UnknownPlace or NoDomain."""
        if self.place(name) not in self.inputs:
            raise UnknownPlace(f"{name} is computed, not an input. The inputs are {', '.join(self.inputs)}.")
        domain = self.variables[name].domain
        if domain is None:
            raise NoDomain(f"{name} has no domain to draw from. Give it one: {name}=Variable(range(10)), say.")
        return domain

    def settings(self) -> Iterator[dict[str, Any]]:
        """Every setting of the inputs, the last input varying fastest. Raises NoDomain."""
        domains = [self.domain(name) for name in self.inputs]
        return (dict(zip(self.inputs, values, strict=True)) for values in itertools.product(*domains))

    def sample(
        self, n: int, *, seed: int | random.Random = 0, where: Callable[[Mapping[str, Any]], bool] | None = None
    ) -> list[dict[str, Any]]:
        """n settings of the inputs, drawn uniformly with replacement.

        where: a condition on all variables of a setting, inputs and computed; every draw meets it.
        Raises NoDomain, or Unsatisfiable if 10,000 draws in a row do not meet the condition.
        """
        if n < 0:
            raise WrongInput(f"n={n}: there is no sample of so many.")
        rng = seed if isinstance(seed, random.Random) else random.Random(seed)
        domains = {name: self.domain(name) for name in self.inputs}
        for name, domain in domains.items():
            if not domain:
                raise Unsatisfiable(f"{name} cannot be drawn: its domain is empty.")
        settings: list[dict[str, Any]] = []
        missed = 0
        while len(settings) < n:
            setting = {name: rng.choice(domain) for name, domain in domains.items()}
            if where is None or where(self.run(setting).values):
                settings.append(setting)
                missed = 0
            elif (missed := missed + 1) == 10_000:
                raise Unsatisfiable(
                    f"10,000 draws in a row did not meet the condition {where!r}. Can it be met at all?"
                )
        return settings

    # -- inside ------------------------------------------------------------------------------------

    def _sorted(self) -> tuple[str, ...]:
        graph = {name: variable.parents for name, variable in self.variables.items()}
        try:
            return tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            cycle = " -> ".join(error.args[1])
            raise CyclicModel(f"These variables depend on themselves: {cycle}. Cut the circle somewhere.") from None

    def _settle(self, inputs: Any) -> tuple[dict[str, Any], int | None]:
        """The inputs by name, and how many rows there are: None for a single setting."""
        if isinstance(inputs, Mapping):
            given = {name: plain(value) for name, value in inputs.items()}
            sizes = {name: len(value) for name, value in given.items() if is_column(value)}
            if len(set(sizes.values())) > 1:
                raise WrongShape(f"Columns of unequal length: {sizes}. A data set has one row a setting.")
            self._check_names(given)
            return given, next(iter(sizes.values()), None)
        if (
            isinstance(inputs, Sequence)
            and not isinstance(inputs, str)
            and all(isinstance(row, Mapping) for row in inputs)
        ):
            for row in inputs:
                self._check_names(row)
            return {name: as_column([row[name] for row in inputs]) for name in self.inputs}, len(inputs)
        raise WrongInput(
            f"A causal model runs on {{{', '.join(f'{name!r}: ...' for name in self.inputs)}}}, or on a list of "
            f"such dicts, not on {inputs!r}."
        )

    def _check_names(self, given: Mapping[str, Any]) -> None:
        check_names(given, self.inputs, [name for name in self.variables if name not in self.inputs])

    def _compute(self, name: str, given: Mapping[str, Any], values: Mapping[str, Any], size: int | None) -> Any:
        variable = self.variables[name]
        if variable.mechanism is None:
            return given[name] if size is None or is_column(given[name]) else as_column([given[name]] * size)
        parents = [values[parent] for parent in variable.parents]
        arguments = _by_name(variable)
        if size is None:
            return arguments(parents)
        return evaluate(arguments, parents, size, variable.vectorised)

    def _check_domain(self, name: str, value: Any, size: int | None) -> None:
        variable = self.variables[name]
        if variable.domain is None or variable.open:
            return
        for single in [value] if size is None else dict.fromkeys(rows_of(value)):
            if not variable.admits(single):
                shown = list(variable.domain) if len(variable.domain) <= 12 else variable.domain
                raise OutsideDomain(
                    f"{name} = {single!r} is outside its domain {shown}. Variable(..., open=True) accepts values "
                    "beyond it."
                )


def _in_order(domain: Iterable[Hashable]) -> Sequence[Hashable]:
    """A domain as a sequence; a set, whose order changes from process to process, is sorted."""
    if isinstance(domain, range):
        return domain
    if not isinstance(domain, Iterable):
        raise WrongInput(f"{domain!r} is neither a domain nor a mechanism. Give an iterable of values or a function.")
    if isinstance(domain, set | frozenset) and not all(isinstance(v, str | int | float | None) for v in domain):
        raise WrongInput(f"The order of {domain!r} changes from process to process. Give the domain as a list.")
    in_order = sorted(domain, key=lambda v: (str(type(v)), repr(v))) if isinstance(domain, set | frozenset) else domain
    in_order = [plain(value) if getattr(value, "ndim", None) == 0 else value for value in in_order]
    try:
        return tuple(dict.fromkeys(in_order))
    except TypeError:
        raise WrongInput(
            f"The values of a domain are hashable: tuples, not lists. These are not: {domain!r}."
        ) from None


def _arguments(mechanism: Callable[..., Any]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(mechanism).parameters.values()
    except (TypeError, ValueError):
        raise WrongInput(
            f"The arguments of {mechanism!r} cannot be read. Name them: Variable(..., parents=('A', 'B'))."
        ) from None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise WrongInput(f"{mechanism!r} takes any arguments. Name its parents: Variable(..., parents=('A', 'B')).")
    return tuple(p.name for p in parameters if p.default is p.empty)


def _by_name(variable: Variable) -> Callable[[Sequence[Any]], Any]:
    """The mechanism as a function of the list of its parents' values."""
    mechanism = variable.mechanism
    assert mechanism is not None
    try:
        parameters = list(inspect.signature(mechanism).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not keyword:
        return lambda values: mechanism(*values)
    split = len(variable.parents) - len(keyword)
    return lambda values: mechanism(*values[:split], **dict(zip(keyword, values[split:], strict=True)))


def _overwrite(intervention: Callable[[Any], Any], old: Any, size: int | None, name: str) -> Any:
    if size is None:
        new = plain(intervene(intervention, old))
        if is_column(new):
            raise WrongShape(f"Cannot write a column of {len(new)} values at {name} of a single setting.")
        return new
    operand = getattr(intervention, "value", getattr(intervention, "factor", None))
    if isinstance(intervention, Set):
        new = plain(intervention.value)
    elif is_column(operand):
        raise WrongShape(f"{type(intervention).__name__} takes one number for {name}. Use a function of the old value.")
    else:
        new = evaluate(lambda values: intervene(intervention, values[0]), [old], size, None)
    if not is_column(new):
        return as_column([new] * size)
    if len(new) != size:
        raise WrongShape(f"Cannot write a column of {len(new)} values at {name}, which has {size} rows.")
    return new
