"""The graphs that sections show: of a model by itself, and of what was discovered beside its network.

Every section that draws a graph takes its figures from here: what takes a picture's place takes it everywhere.
"""

from __future__ import annotations

from ..causal_model import CausalModel
from ..discovery.found import Found
from ..drawing import draw
from ..network import Network
from .pictures import picture_widget
from .sections import Part

MOST = 60
"""Graphs of more nodes than this are not drawn."""


def model_parts(model: CausalModel | Network) -> tuple[Part, ...]:
    """The graph of a model, where it is small enough to be read."""
    graph = model.as_causal_model() if isinstance(model, Network) else model
    if len(graph.variables) > MOST:
        return (Part("The graph", None, (f"It has {len(graph.variables):,} nodes, too many to draw.",)),)
    return (Part("The graph", picture_widget(draw(model))),)


def found_parts(found: Found) -> tuple[Part, ...]:
    """Network and algorithm side by side; nothing where no algorithm was found."""
    if found.alignment is None:
        return ()
    nodes = len(found.network.as_causal_model().variables)
    if nodes > MOST:
        return (Part("Network and algorithm", None, (f"The network has {nodes:,} nodes, too many to draw.",)),)
    return (Part("Network and algorithm", picture_widget(found.draw())),)
