"""What `discover` finds in a planted network, as an answer that can be scored."""

from __future__ import annotations

from ...discovery.found import Found
from ...discovery.wiring import Node
from ...search.discover import discover
from .answer import OUTPUT, Answer, Claim, Grade, Label, Sites
from .instance import Planted
from .partitions import kernel


def by_discovery(puzzle: Planted, *, seed: int = 0) -> Answer:
    """The answer of `discover`, which is given the network, its inputs, and what outputs are told apart by."""
    found = discover(puzzle.network, puzzle.inputs, tol=puzzle.tol, seed=seed, progress=False)
    return answer_of(found, puzzle)


def answer_of(found: Found, puzzle: Planted) -> Answer:
    """What was found, in the words of an answer: site by site, in the order of the puzzle's settings."""
    order = _order(found, puzzle)
    label: Label = found.verdict if found.verdict in ("exact", "verified", "approximate") else "none"  # type: ignore[assignment]
    layers: dict[str, tuple[Claim, ...]] = {}
    for layer in found.layers:
        layers[layer.name] = tuple(
            Claim(
                _sites(node),
                kernel(tuple(node.classes[order].tolist())),
                node.name if node.held.is_named else None,
                label,
            )
            for node in found.nodes
            if node.held is not None and node.held.layer == layer.name
        )
    grades: dict[str, Grade] = {"no effect": "does not mediate", "small effect": "undetermined"}
    inert = {str(site): grades.get(why.grade, "certified") for site, why in found.inert.items()}
    return Answer(layers, inert, frozenset(_edges(found)), found.verdict, {})


def _order(found: Found, puzzle: Planted) -> list[int]:
    names = found.domain.names
    where = {tuple(row): k for k, row in enumerate(found.domain.settings.tolist())}
    return [where[tuple(float(setting[name]) for name in names)] for setting in puzzle.key.settings]


def _edges(found: Found) -> list[tuple[Sites, Sites]]:
    """Who feeds whom; of places without an effect on the output of their own, not by whom."""
    first = {name: next((node for node in found.nodes if node.name == name), None) for name in found.wires}
    return [
        (_sites(parent), OUTPUT if child is None else _sites(child))
        for name, wire in found.wires.items()
        if (child := first[name]) is None or (child.held is not None and not child.held.hidden)
        for parent in wire.nodes
    ]


def _sites(node: Node) -> Sites:
    if node.held is None:
        return frozenset({node.name})
    return frozenset(map(_spelled, node.held.group))


def _spelled(site: object) -> str:
    return str(getattr(site, "spelling", site))
