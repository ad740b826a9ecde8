"""The graphs that sections show, to try out where the page can compute them: of a model, and of what was discovered.

Every section that draws a graph takes its figures from here: what takes a picture's place takes it everywhere.
"""

from __future__ import annotations

from typing import Any

from ..causal_model import CausalModel
from ..discovery.found import Found
from ..drawing import draw, graph_of
from ..errors import NoDomain, WrongInput
from ..network import Network
from .abstraction import abstraction
from .explorer import explorer
from .pictures import picture_widget
from .sections import Part
from .widgets import Widget

MOST = 60
"""Graphs of more nodes than this are not drawn."""


def model_parts(model: CausalModel | Network) -> tuple[Part, ...]:
    """The graph of a model, where it is small enough to be read."""
    graph = graph_of(model)
    if len(graph.variables) > MOST:
        return (Part("The graph", None, (f"It has {len(graph.variables):,} nodes, too many to draw.",)),)
    return (_tried_out(model, graph) or Part("The graph", picture_widget(draw(model))),)


def found_parts(found: Found) -> tuple[Part, ...]:
    """Network and algorithm side by side, and each to try out; nothing where no algorithm was found."""
    if found.alignment is None or found.model is None:
        return ()
    network = graph_of(found.network)
    if len(network.variables) > MOST:
        nodes = f"The network has {len(network.variables):,} nodes, too many to draw."
        return (Part("Network and algorithm", None, (nodes,)),)
    domains = {name: found.model.domain(name) for name in found.model.inputs}
    tried = (_tried_out(found.model, found.model, "The algorithm"), _tried_out(found.network, network, domains=domains))
    return (Part("Network and algorithm", abstraction(found)), *(part for part in tried if part is not None))


def widget_title(widget: Widget) -> str:
    """What a figure that was handed in is called."""
    return {"explorer": "A causal graph to try out", "abstraction": "Network and algorithm"}.get(
        widget.kind, "A figure"
    )


def _tried_out(model: Any, graph: CausalModel, what: str | None = None, *, domains: Any = None) -> Part | None:
    """A graph to try out, on the first values that tell inputs apart; None where a page cannot compute it."""
    base = {}
    for i, name in enumerate(graph.inputs, 1):
        values = (domains or {}).get(name, graph.variables[name].domain)
        base[name] = i if values is None else list(values)[min(i, len(values) - 1)]
    try:
        widget = explorer(model, base, domains=domains or {})
    except (WrongInput, NoDomain):
        return None
    name = what or ("The network" if isinstance(model, Network) else "The graph")
    return Part(f"{name}, to try out", widget)
