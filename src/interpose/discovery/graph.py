"""The graph of all that is held: a name for each, copies told from what is new, and parents."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .holdings import Held, Layer, parts_joined, same_values
from .kernels import alike, kernel
from .modelling import name_for, place_of
from .responses import Prober
from .wiring import Node, Wire, Wiring

OUTPUT = "Y"


def graph(
    layers: Sequence[Layer], names: Mapping[str, Any], prober: Prober, seed: int
) -> tuple[list[Layer], list[Node], dict[str, Wire], list[str]]:
    """A node for everything that is held, in causal order; from what each is computed; and those of which no parents
    were found.

    What is computed from one place alone, and tells the same inputs apart, is the same variable, carried on. Places
    that tell more apart alone than their parents do are parts of one thing, of which less is read: they become one,
    also in the layers that are handed back.
    """
    seen, nodes, wires = _found(layers, prober, seed)
    apart = _unread(nodes, wires)
    if apart:
        seen = [replace(layer, held=_with_likes(layer.held, apart, prober)) for layer in seen]
        seen, nodes, wires = _found(seen, prober, seed)
    called = _called(nodes, wires, names)
    named_wires, unwired = {}, []
    for node, wire in wires.items():
        name = called.get(node, OUTPUT)
        if wire is None:
            unwired.append(name)
        elif name not in named_wires and not _is_copy(node, wire, called):
            parents = tuple(called.get(parent, parent.name) for parent in wire.nodes)
            named_wires[name] = replace(wire, child=name, parents=parents)
    return seen, [replace(node, name=called[node]) for node in nodes], named_wires, unwired


Wires = dict[Node, Wire | None]


def _found(layers: Sequence[Layer], prober: Prober, seed: int) -> tuple[list[Layer], list[Node], Wires]:
    """Nodes and their parents, layer by layer; places that no parents were found for are tried as one."""
    domain = prober.domain
    wiring = Wiring(prober, seed)
    before = [Node(name, 0, kernel(column), input=k) for k, (name, column) in enumerate(domain.columns().items())]
    nodes: list[Node] = []
    wires: Wires = {}
    seen: list[Layer] = []
    for depth, layer in enumerate(layers, 1):
        found = _wired(layer.held, depth, before, wiring)
        lost = [node.held for node, wire in found.items() if wire is None and node.held is not None]
        if len(lost) > 1:
            kept = [held for held in layer.held if held not in lost]
            layer = replace(layer, held=(*kept, *parts_joined(lost, prober)))
            found = _wired(layer.held, depth, before, wiring)
        here = list(found)
        wires |= found
        seen.append(layer)
        nodes += here
        before += here
    output = Node(OUTPUT, 10**6, alike(domain.outputs, prober.tol))
    wires[output] = wiring.wired(output, before)
    return seen, nodes, wires


def _unread(nodes: Sequence[Node], wires: Wires) -> list[Held]:
    """What is held where nothing that was found leads on to the output: it is read together with something else."""
    read: set[Node] = set()
    todo = [node for node in wires if node not in nodes]
    while todo:
        node = todo.pop()
        if node not in read:
            read.add(node)
            wire = wires.get(node)
            todo += wire.nodes if wire is not None else ()
    return [node.held for node in nodes if node not in read and node.held is not None]


def _with_likes(held: Sequence[Held], apart: Sequence[Held], prober: Prober) -> tuple[Held, ...]:
    """What a layer holds, with those that are written in one quantity as one wherever one of them stands apart."""
    quantities = {same_values(one) for one in held if one in apart}
    likes = [one for one in held if same_values(one) in quantities]
    rest = [one for one in held if same_values(one) not in quantities]
    return (*rest, *parts_joined(likes, prober)) if likes else tuple(held)


def _wired(several: Sequence[Held], depth: int, before: Sequence[Node], wiring: Wiring) -> Wires:
    """A node for each, with its parents."""
    return {node: wiring.wired(node, before) for node in (Node("", depth, held.classes, held) for held in several)}


def _called(nodes: Sequence[Node], wires: Mapping[Node, Wire | None], names: Mapping[str, Any]) -> dict[Node, str]:
    """A name for every node: that of the node it is a copy of, or one of its own.

    A copy of an input that others read beside the copy has a name of its own: to set it is not to set the input. So has
    a copy that is read together with what it is a copy of.
    """
    readers: dict[Node, int] = {}
    together: set[frozenset[Node]] = set()
    for wire in wires.values():
        for parent in wire.nodes if wire is not None else ():
            readers[parent] = readers.get(parent, 0) + 1
        together |= {frozenset(pair) for pair in itertools.combinations(wire.nodes, 2)} if wire is not None else set()
    called: dict[Node, str] = {}
    taken = {*names, OUTPUT}
    for node in nodes:
        assert node.held is not None
        wire = wires[node]
        origin = wire.nodes[0] if wire is not None and len(wire.nodes) == 1 else None
        copy = origin is not None and np.array_equal(origin.classes, node.classes)
        if copy and origin is not None and (readers[origin] == 1 if origin.held is None else True):
            name = called.get(origin, origin.name)
            same = [other for other, known in called.items() if known == name]
            if not any(frozenset((node, other)) in together for other in same):
                called[node] = name
                continue
        called[node] = (
            f"{origin.name} at {place_of(node.held)}"
            if copy and origin and origin.held is None
            else name_for(node.held, taken)
        )
        taken.add(called[node])
    return called


def _is_copy(node: Node, wire: Wire, called: Mapping[Node, str]) -> bool:
    """Whether a node is its only parent, carried on."""
    return len(wire.nodes) == 1 and called.get(node, OUTPUT) == called.get(wire.nodes[0], wire.nodes[0].name)


def unique(nodes: Sequence[Node]) -> dict[str, Node]:
    """The first place of each variable."""
    first: dict[str, Node] = {}
    for node in nodes:
        first.setdefault(node.name, node)
    return first
