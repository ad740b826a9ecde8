"""A causal graph to try out on a page: change inputs, force values, take values from another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..causal_model import CausalModel
from ..checks import model_name
from ..discovery.found import Found
from ..drawing import carried_to, draw, draw_interchange, full, graph_of, setting_of, short, written_at
from ..errors import UnknownPlace, WrongInput, suggest
from ..inputs import key
from ..model import NOTHING
from ..network import Network
from ..neuron_graph import Unit
from .mechanisms import SMOOTH, levels_and_tables, weights
from .sketches import sketched
from .widgets import Widget


def explorer(
    model: CausalModel | Network | Found,
    base: Any,
    sources: Mapping[Any, Any] = NOTHING,
    *,
    write: Mapping[Any, Any] = NOTHING,
    domains: Mapping[str, Sequence[Any]] = NOTHING,
) -> Widget:
    """A graph in which the reader of a page changes inputs, forces nodes, and takes values from sources.

    base: one input. sources: place -> source input, as in `draw_interchange`; write: interventions, as in `draw`; the
    page opens with one or the other. domains: the values to choose from, for inputs that have no domain of their own.

    The page computes a network of linear layers, with ReLU, tanh, sigmoid or SiLU between them, from its own weights in
    double precision; any other model from tables, so that its variables take few values.
    Raises WrongInput where neither is possible, NoDomain for an input of a table without values to choose from.
    """
    if isinstance(model, Found):
        model = _algorithm(model)
    if sources and write:
        raise WrongInput("A figure opens with sources or with writes, not both: the other can be tried on the page.")
    graph = graph_of(model)
    for name in domains:
        if name not in graph.inputs:
            raise UnknownPlace(f"The graph has no input {name!r}. {suggest(name, graph.inputs)}")
    still = draw_interchange(model, base, sources) if sources else draw(model, base, write=write)
    panels, writes = _opening(model, graph, base, sources, write)
    numbers = {name: k for k, name in enumerate(graph.variables)}
    sketch = sketched(graph, keep_order=isinstance(model, Network))
    for node, variable in zip(sketch["nodes"], graph.variables.values(), strict=True):
        node["parents"] = [numbers[parent] for parent in variable.parents]
    mechanisms = _computed(graph, domains, panels, writes)
    for name, own in mechanisms.pop("nodes").items():
        sketch["nodes"][numbers[name]] |= own
    data = {
        "name": model_name(model),
        "graph": sketch,
        "order": [numbers[name] for name in graph.order],
        **mechanisms,
    }
    return Widget("explorer", still.title, data, still.svg(), needs=("graph",))


def _algorithm(found: Found) -> CausalModel:
    """The model of what was found, which is None where nothing was."""
    if found.model is None:
        raise WrongInput(
            f"No algorithm was found that explains the output ({found.verdict}), so there is none to explore."
        )
    return found.model


Write = tuple[str, Any]


def _opening(
    model: Any, graph: CausalModel, base: Any, sources: Mapping[Any, Any], write: Mapping[Any, Any]
) -> tuple[list[dict[str, Any]], dict[str, Write]]:
    """The setting of each panel, the base's first; and for each node that is intervened on, ("forced", value) or
    ("taken", (panel, node)).
    """
    setting = setting_of(model, base)
    carried = [item for place, source in sources.items() for item in carried_to(model, place, source)]
    distinct = {key(source): source for _, source, _ in carried}
    panels = [setting, *(setting_of(model, source) for source in distinct.values())]
    number = {each: k for k, each in enumerate(distinct, 1)}
    taken: dict[str, Write] = {to: ("taken", (number[key(source)], start)) for to, source, start in carried}
    values = graph.run(setting, write=written_at(model, setting, write)).values if write else {}
    forced: dict[str, Write] = {name: ("forced", values[name]) for name in written_at(model, setting, write)}
    return panels, taken | forced


def _computed(
    graph: CausalModel,
    domains: Mapping[str, Sequence[Any]],
    panels: Sequence[Mapping[str, Any]],
    writes: Mapping[str, Write],
) -> dict[str, Any]:
    """What the script computes with: for each node its own part, and what all share."""
    opening = {name: [panel[name] for panel in panels] for name in graph.inputs}
    found = weights(graph)
    if len(found) == len(graph.variables) - len(graph.inputs):
        return _by_weights(graph, found, domains, opening, writes)
    _check_tables(graph, found, domains)
    extra = {name: [*domains.get(name, ()), *opening.get(name, ())] for name in graph.variables}
    for name, (how, what) in writes.items():
        extra[name].append(what if how == "forced" else graph.run(panels[what[0]])[what[1]])
    levels, tables = levels_and_tables(graph, extra)
    return _by_tables(graph, levels, tables, opening, writes)


def _check_tables(graph: CausalModel, found: Mapping[str, Any], domains: Mapping[str, Any]) -> None:
    other = [name for name, v in graph.variables.items() if isinstance(v.mechanism, Unit) and name not in found]
    if other and (missing := [name for name in graph.inputs if name not in domains]):
        raise WrongInput(
            f"{other[0]} is computed otherwise than by a linear layer of units that pass through ReLU, "
            f"{', '.join(SMOOTH)} or nothing, so that the page must hold tables. Say what values {missing[0]} takes: "
            f"domains={{{missing[0]!r}: range(10)}}."
        )


def _by_weights(
    graph: CausalModel,
    found: Mapping[str, Mapping[str, Any]],
    domains: Mapping[str, Sequence[Any]],
    opening: Mapping[str, Sequence[Any]],
    writes: Mapping[str, Write],
) -> dict[str, Any]:
    """Numbers as they are, and how far the module's own precision goes."""
    nodes: dict[str, dict[str, Any]] = {name: {"sum": dict(unit)} for name, unit in found.items()}
    for name, domain in domains.items():
        nodes[name] = {"choices": sorted({float(value) for value in (*domain, *opening[name])})}
    stage = next(v.mechanism.stage for v in graph.variables.values() if isinstance(v.mechanism, Unit))
    precision = stage.network.numbers([[0.0] * len(graph.inputs)]).dtype
    return {
        "nodes": nodes,
        "numbers": True,
        "precision": torch.finfo(precision).eps,
        "panels": [[float(opening[name][k]) for name in graph.inputs] for k in range(_panels(opening))],
        "writes": _written(graph, writes, lambda name, value: float(value)),
    }


def _by_tables(
    graph: CausalModel,
    levels: Mapping[str, Sequence[Any]],
    tables: Mapping[str, Sequence[Any]],
    opening: Mapping[str, Sequence[Any]],
    writes: Mapping[str, Write],
) -> dict[str, Any]:
    """Values by their number in one list of all, each with its words."""
    texts: dict[Any, int] = {}
    values: list[dict[str, Any]] = []

    def number(value: Any) -> int:
        identity = (type(value), value if value == value else "nan")
        if identity not in texts:
            texts[identity] = len(values)
            quantity = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
            values.append({"short": short(value), "full": full(value)} | ({"number": value} if quantity else {}))
        return texts[identity]

    def coded(name: str, value: Any) -> int:
        return number(next((level for level in levels[name] if level == value), value))

    nodes: dict[str, dict[str, Any]] = {name: {"levels": [number(v) for v in own]} for name, own in levels.items()}
    for name, table in tables.items():
        nodes[name]["table"] = list(table)
    return {
        "nodes": nodes,
        "numbers": False,
        "values": values,
        "panels": [[coded(name, opening[name][k]) for name in graph.inputs] for k in range(_panels(opening))],
        "writes": _written(graph, writes, coded),
    }


def _panels(opening: Mapping[str, Sequence[Any]]) -> int:
    return len(next(iter(opening.values())))


def _written(graph: CausalModel, writes: Mapping[str, Write], coded: Any) -> list[dict[str, Any]]:
    number = {name: k for k, name in enumerate(graph.variables)}
    return [
        {"node": number[name], "panel": what[0], "from": number[what[1]]}
        if how == "taken"
        else {"node": number[name], "value": coded(name, what)}
        for name, (how, what) in writes.items()
    ]
