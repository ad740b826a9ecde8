"""Alignments, and how often interchange does in the network what they claim it does."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from .accuracy import Accuracy, Interchanges
from .checks import check_rows_alone, repeatable
from .errors import UnknownPlace, WrongAlignment, suggest
from .inputs import examples, take
from .interventions import Set
from .metrics import Matches, score
from .model import Model, meet
from .pairs import Pairs


@dataclass(frozen=True, eq=False)
class Alignment:
    """A claim: these places of a network hold these variables of a causal model.

    model: the causal model. places: variable -> a place or several; every computed variable need not be claimed, but
    no variable may be claimed that the model does not have.
    Raises UnknownPlace for such a variable, WrongAlignment for a variable without a place.
    """

    model: Any
    places: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not hasattr(self.model, "variables") or not isinstance(self.places, Mapping):
            raise WrongAlignment(
                "An alignment is a causal model and a dict of places: Alignment(model, {'A': 'h12'}), not "
                f"Alignment({type(self.model).__name__}, {type(self.places).__name__})."
            )
        places: dict[str, tuple[Any, ...]] = {}
        for variable, given in self.places.items():
            if variable not in self.model.variables:
                raise UnknownPlace(
                    f"The hypothesis has no variable {variable!r}. {suggest(variable, self.model.variables)}"
                )
            places[variable] = tuple(given) if isinstance(given, list | tuple) else (given,)
            if not places[variable]:
                raise WrongAlignment(f"{variable} has no place. Leave it out, or name where it is held.")
        if not places:
            raise WrongAlignment("The alignment claims nothing. Give it, for example, {'A': 'h12'}.")
        object.__setattr__(self, "places", MappingProxyType(places))

    def __reduce__(self) -> Any:
        return Alignment, (self.model, dict(self.places))

    def __repr__(self) -> str:
        return (
            f"Alignment({', '.join(variable + ' at ' + _joined(places) for variable, places in self.places.items())})"
        )

    def items(self) -> Any:
        """Every variable with the places that hold it."""
        return self.places.items()

    def on(self, network: Model[Any]) -> dict[str, tuple[Any, ...]]:
        """The places as the network knows them, checked before any run.

        Raises UnknownPlace, or WrongAlignment where two variables share units, or a variable's place comes before the
        place of a variable it is computed from.
        """
        found = {variable: tuple(network.place(place) for place in places) for variable, places in self.places.items()}
        claims = [(variable, place) for variable, places in found.items() for place in places]
        for i, (variable, place) in enumerate(claims):
            for other, beside in claims[:i]:
                if meet(place, beside):
                    raise WrongAlignment(
                        f"{other} at {beside} and {variable} at {place} share units. A unit holds one variable."
                    )
        for variable, place in claims:
            for other, beside in claims:
                if other in self.model.ancestors(variable) and network.precedes(place, beside):
                    raise WrongAlignment(
                        f"{variable} is computed from {other}, but its place {place} comes before {beside}, the "
                        f"place of {other}."
                    )
        return found


def interchange_accuracy(
    network: Model[Any], alignment: Alignment, *, n: int = 1000, seed: int = 0, tol: float = 1e-3
) -> Accuracy:
    """How often interchange at the claimed places gives the causal model's counterfactual output.

    n random pairs of inputs a way of interchanging: each variable alone, and variables together, each from a source of
    its own: every set of them up to four variables, beyond that every two and all. The target is the model's output
    with the same variables set to their values in the same sources, never the source's own output.

    tol: what counts as equal among numbers; it must be below half the smallest gap between the model's outputs.

    Source: interchange intervention accuracy (Geiger et al. 2021).
    Raises WrongAlignment before any pair is run, NotRepeatable if two runs of the network disagree.
    """
    if n < 1:
        raise WrongAlignment(f"n={n}: a share of no pairs is not defined.")
    if not tol >= 0:
        raise WrongAlignment(f"tol={tol}: nothing lies within such a tolerance, so that every interchange would fail.")
    if not isinstance(alignment, Alignment):
        raise WrongAlignment(
            f"{alignment!r} is no alignment. Say what is held where: Alignment(model, {{'A': 'h12'}})."
        )
    hypothesis, places = alignment.model, alignment.on(network)
    rng, variables = random.Random(seed), list(places)
    base, *drawn = [hypothesis.sample(n, seed=rng) for _ in range(len(variables) + 1)]
    sources = dict(zip(variables, drawn, strict=True))
    check_comparable(network, places, base, sources)
    ways = [{variable: sources[variable] for variable in chosen} for chosen in sets_of(variables)]
    plain, swapped = hypothesis.run(base).output, hypothesis.run(drawn[-1]).output
    targets = [counterfactual(hypothesis, base, way) for way in ways]
    _check_tolerance([plain, *targets], tol)
    with torch.no_grad():
        untouched = _first_run(network, hypothesis, base)
        whole = network.run(drawn[-1]).output
        rows = tuple(
            _interchanges(network, places, base, way, target, plain, tol, seed)
            for way, target in zip(ways, targets, strict=True)
        )
        smallest = tuple(
            _smallest(network, hypothesis, places, way, base, int(np.flatnonzero(~row.hits)[0]), tol)
            for row, way in zip(rows, ways, strict=True)
            if not row.hits.all()
        )
    return Accuracy(
        rows=rows,
        smallest=smallest,
        floor=float(np.mean([hit(untouched, target, base, tol).mean() for target in targets])),
        ceiling=float(hit(whole, swapped, base, tol).mean()),
        accuracy=float(hit(untouched, plain, base, tol).mean()),
        tol=tol,
    )


def check_comparable(network: Model[Any], places: Mapping[Any, Any], base: Any, sources: Mapping[Any, Any]) -> None:
    """Raise WrongPairs for a place that is not the same in all inputs, as where prompts differ in length."""
    for variable, source in sources.items():
        for side in (base, source):
            network.comparable(side, [base[0]] * len(side), places[variable], ("an input", "the first"))


def _first_run(network: Model[Any], hypothesis: Any, base: Any) -> Any:
    """The network's output on the base inputs; where it cannot take them, its error with a note on why."""
    try:
        output = repeatable(network, base)[0].output
        check_rows_alone(network, base, output)
        return output
    except Exception as error:
        if not getattr(network, "inputs", True):
            names = ", ".join(map(repr, hypothesis.inputs))
            error.add_note(f"The hypothesis has inputs with names; does the network? Network(module, inputs=({names}))")
        raise


def sets_of(variables: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The sets of variables that are interchanged together, single ones first."""
    sizes = range(1, len(variables) + 1) if len(variables) <= 4 else (1, 2, len(variables))
    return [chosen for size in sizes for chosen in itertools.combinations(variables, size)]


def counterfactual(hypothesis: Any, base: Any, sources: Mapping[str, Any]) -> Any:
    """What the hypothesis gives with every variable of `sources` set to its value in its source."""
    return hypothesis.run(base, write={v: Set(hypothesis.run(source)[v]) for v, source in sources.items()}).output


def _interchanges(
    network: Model[Any],
    places: Mapping[str, Any],
    base: Any,
    sources: Mapping[str, Any],
    target: Any,
    plain: Any,
    tol: float,
    seed: int,
) -> Interchanges:
    """The same in the network: the places of every variable of `sources` take the values they have in its source."""
    observed = interchanged(network, places, base, sources)
    order = np.random.default_rng(seed).permutation(len(base)).tolist()
    others = interchanged(
        network, places, base, {variable: take(source, order) for variable, source in sources.items()}
    )
    return Interchanges(
        label=", ".join(f"{variable} at {_joined(places[variable])}" for variable in sources),
        base=base,
        sources={place: source for variable, source in sources.items() for place in places[variable]},
        expected=_listed(target),
        observed=_listed(observed),
        hits=hit(observed, target, base, tol).astype(bool),
        informative=~hit(plain, target, base, tol).astype(bool),
        chance=float(hit(others, target, base, tol).mean()),
    )


def _smallest(
    network: Model[Any],
    hypothesis: Any,
    places: Mapping[str, Any],
    way: Mapping[str, Any],
    base: Any,
    i: int,
    tol: float,
) -> dict[str, Any]:
    """One failure, with as few variables interchanged and as few inputs changed as leave it one (delta debugging)."""
    start = take(base, [i])
    found = {variable: take(source, [i]) for variable, source in way.items()}

    def outcome(sources: Mapping[str, Any]) -> tuple[Any, Any, bool]:
        expected, observed = counterfactual(hypothesis, start, sources), interchanged(network, places, start, sources)
        return expected, observed, not hit(observed, expected, start, tol).all()

    for variable in list(found):
        fewer = {name: source for name, source in found.items() if name != variable}
        found = fewer if fewer and outcome(fewer)[2] else found
    for variable in found:
        for name in hypothesis.inputs:
            nearer = {**found, variable: [{**found[variable][0], name: start[0][name]}]}
            found = nearer if nearer[variable] != found[variable] and outcome(nearer)[2] else found
    expected, observed, _ = outcome(found)
    return {
        "interchange": ", ".join(f"{variable} at {_joined(places[variable])}" for variable in found),
        "base": start[0],
        "sources": {place: source[0] for variable, source in found.items() for place in places[variable]},
        "expected": _listed(expected)[0] if not isinstance(expected, Mapping) else expected,
        "observed": _listed(observed)[0] if not isinstance(observed, Mapping) else observed,
    }


def interchanged(network: Model[Any], places: Mapping[Any, Any], base: Any, sources: Mapping[Any, Any]) -> Any:
    """The network's output on the base inputs with the places of every variable taken from its source."""
    values: dict[Any, Any] = {}
    for variable, source in sources.items():
        run = network.run(source, read=places[variable])
        values |= {place: Set(run[place]) for place in places[variable]}
    return network.run(base, write=values).output


def hit(output: Any, expected: Any, base: Any, tol: float) -> np.ndarray:
    """[pair]: 1 where the output is what was expected; of several outputs, all of them."""
    if isinstance(expected, Mapping):
        if not isinstance(output, Mapping) or set(output) != set(expected):
            raise WrongAlignment(
                f"The hypothesis has the outputs {', '.join(expected)}, the network a {type(output).__name__}. Give "
                "the network a dict of as many, or the hypothesis one output."
            )
        return np.min([hit(output[name], column, base, tol) for name, column in expected.items()], axis=0)
    return score(Matches(tol), output, Pairs(base, base, targets=expected)).numpy()


def _joined(places: Iterable[Any]) -> str:
    return " + ".join(map(str, places))


def _listed(column: Any) -> list[Any]:
    return [row.tolist() if hasattr(row, "tolist") else row for row in examples(column)]


def _check_tolerance(columns: list[Any], tol: float) -> None:
    parts = [part for column in columns for part in (column.values() if isinstance(column, Mapping) else [column])]
    values = sorted({value for part in parts for value in _listed(part) if isinstance(value, int | float)})
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-9 * max(1.0, *map(abs, values))] if len(values) > 1 else gaps  # others are rounding
    if not len(gaps):
        return
    gap = float(gaps.min())
    if tol >= gap / 2:
        raise WrongAlignment(
            f"tol={tol:g} cannot tell the causal model's outputs apart: two of them differ by {gap:g}. Pass a tol "
            f"below {gap / 2:g}."
        )
