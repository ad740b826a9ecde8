"""The layout of a graph as data, for scripts that draw it as `draw` does."""

from __future__ import annotations

from typing import Any

from ..causal_model import CausalModel
from ..drawing import FILLS
from ..plots.graph import RADIUS, layered, way


def sketched(graph: CausalModel, *, keep_order: bool) -> dict[str, Any]:
    """Nodes by place, numbered in the order of the graph's variables, and the curves between them.

    keep_order: whether units stand in the order of their layer, as in a network.
    """
    parents = {name: variable.parents for name, variable in graph.variables.items()}
    at = layered(parents, keep_order=keep_order)
    number = {name: k for k, name in enumerate(graph.variables)}
    nodes = [{"name": name, "x": at[name][0], "y": at[name][1]} for name in graph.variables]
    edges = [
        {"from": number[parent], "to": number[name], "way": [list(point) for point in way(at, parent, name)]}
        for name, those in parents.items()
        for parent in those
    ]
    return {
        "nodes": nodes,
        "edges": edges,
        "inputs": [number[name] for name in graph.inputs],
        "outputs": [number[name] for name in graph.outputs],
        "radius": RADIUS,
        "colours": FILLS,
    }
