"""Models as pictures: structure, a run, an interchange, a circuit, an alignment, patterns of attention.

Colours of values follow descent alone, so that they cannot depend on the order in which nodes are visited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .anatomy import Of
from .causal_model import CausalModel
from .checks import model_name
from .effects import donor_of, interchange
from .errors import UnknownPlace, WrongInput, WrongShape, suggest
from .inputs import key
from .language import LanguageModel
from .model import NOTHING, several
from .network import Network
from .plots.graph import Graph, Link, Node, draw_graphs, layered
from .plots.patterns import patterns
from .plots.picture import Picture
from .sites import Site

FILLS = {
    "source input": "#EC3B82",
    "base input": "#68AF9C",
    "source value": "#F276A8",
    "counterfactual value": "#A59FD9",
    "base value": "#A0CCC0",
}
VIOLET = "#A59FD9"


def draw(model: CausalModel | Network, inputs: Any = None, *, write: Mapping[Any, Any] = NOTHING) -> Picture:
    """A causal model, or the neurons of a small network, as a graph.

    inputs: one input; with it every node shows its value, and is coloured by where the value comes from. write: the
    interventions of that run. Without inputs the structure alone is drawn.
    """
    graph = graph_of(model)
    if inputs is None:
        nodes = {
            name: Node(name, fill=FILLS["base input"] if name in graph.inputs else "#FFFFFF")
            for name in graph.variables
        }
        return draw_graphs(
            [_sketch(graph, "", nodes, model)], title=f"{model_name(model)}: {', '.join(graph.variables)}"
        )
    setting = setting_of(model, inputs)
    writes = written_at(model, setting, write)
    run = graph.run(setting, write=writes)
    kinds = classify(graph, writes)
    title = f"{model_name(model)} on {_words(setting)}"
    return draw_graphs([_sketch(graph, "", _valued(run.values, kinds), model)], legend=_legend([kinds]), title=title)


def draw_interchange(model: CausalModel | Network, base: Any, sources: Mapping[Any, Any]) -> Picture:
    """An interchange: the base run on the left, a run of each source at its right, and arrows for what was carried
    over.

    sources: place -> source input, or place -> (source input, another place), as in `interchange`.
    """
    graph, setting = graph_of(model), setting_of(model, base)
    carried = [item for place, source in sources.items() for item in carried_to(model, place, source)]
    distinct = {key(source): source for _, source, _ in carried}
    number = {each: k for k, each in enumerate(distinct)}
    settings = [setting_of(model, source) for source in distinct.values()]
    run = interchange(graph, setting, {to: (settings[number[key(source)]], start) for to, source, start in carried})
    kinds = classify(graph, [to for to, _, _ in carried])
    panels = [_sketch(graph, f"base {_words(setting)}", _valued(run.values, kinds), model)]
    of_sources = classify(graph, graph.inputs)
    for k, other in enumerate(settings):
        heading = f"source {k + 1} " if len(settings) > 1 else "source "
        panels.append(_sketch(graph, heading + _words(other), _valued(graph.run(other).values, of_sources), model))
    links = [Link((1 + number[key(source)], start), (0, to)) for to, source, start in carried]
    title = f"{model_name(model)}: interchange of {', '.join(to for to, _, _ in carried)} into {_words(setting)}"
    return draw_graphs(panels, links=links, legend=_legend([kinds, of_sources]), title=title)


def draw_circuit(network: CausalModel | Network, mediators: Mapping[str, Iterable[Any]]) -> Picture:
    """The circuit: only the edges between mediators, in the graph of the whole network.

    mediators: input variable -> the places that mediate it, as the scans of each variable found them. An edge is drawn
    where both of its ends carry the same variable; the output carries all of them.
    """
    graph = graph_of(network)
    if not isinstance(mediators, Mapping):
        raise WrongInput("A circuit is drawn from a dict of what mediates what: {'A': scan.mediators(), ...}.")
    if unknown := [variable for variable in mediators if variable not in graph.inputs]:
        raise UnknownPlace(f"The graph has no input {unknown[0]!r}. {suggest(unknown[0], graph.inputs)}")
    carry = {name: {name} if name in mediators else set() for name in graph.variables}
    for variable, places in mediators.items():
        for place in several(places, f"mediators[{variable!r}]"):
            for name in units_of(network, place):
                carry[name].add(variable)
    for name in graph.outputs:
        carry[name] = set(mediators)
    edges = [(p, n) for n, v in graph.variables.items() for p in v.parents]
    kept = [(a, b) for a, b in edges if carry[a] & carry[b]]
    nodes = {
        name: Node(
            name,
            fill=FILLS["base input"] if name in graph.inputs else VIOLET if carried else "#FFFFFF",
            value=", ".join(v for v in mediators if v in carried) if name not in graph.inputs else "",
            faint=not carried,
            hover=f"{name} carries {', '.join(sorted(carried))}"
            if carried
            else f"{name} mediates nothing that was scanned",
        )
        for name, carried in carry.items()
    }
    return draw_graphs(
        [replace(_sketch(graph, "", nodes, network), edges=kept)],
        title=f"Circuit of {model_name(network)} for {', '.join(mediators)}",
    )


def draw_alignment(network: CausalModel | Network, alignment: Any) -> Picture:
    """A causal abstraction: network on the left, causal model on the right, lines from places to variables."""
    low, high = graph_of(network), alignment.model
    held = {
        name: variable
        for variable, places in alignment.items()
        for place in places
        for name in units_of(network, place)
    }
    below = {
        name: Node(
            name,
            value=held.get(name, ""),
            fill=VIOLET if name in held else _plain_fill(low, name),
            faint=name not in held and name not in low.inputs,
            hover=f"{name} holds {held[name]}" if name in held else f"{name} holds no variable of the claim",
        )
        for name in low.variables
    }
    above = {
        name: Node(name, fill=VIOLET if name in held.values() else _plain_fill(high, name)) for name in high.variables
    }
    panels = [_sketch(low, "network", below, network), _sketch(high, "causal model", above, high)]
    links = [Link((0, name), (1, variable), colour="#6A5FC1", arrow=False) for name, variable in held.items()]
    claims = ", ".join(f"{variable} at {name}" for name, variable in held.items())
    return draw_graphs(panels, links=links, title=f"Alignment: {claims}")


def draw_attention(
    lm: LanguageModel,
    prompt: Any,
    *,
    layer: int,
    heads: Sequence[int] | None = None,
    of: Of = "self",
    write: Mapping[Any, Any] = NOTHING,
) -> Picture:
    """What each token of a prompt attends to: the patterns of a layer's heads, a row a query and a column a key.

    heads: which, by default all; of: "self", or "cross" for a decoder's attention to an encoder; write: the
    interventions of that run. Raises WrongInput for several prompts.
    """
    sites = lm.patterns(layers=[layer], heads=heads, of=of)
    run = lm.run(prompt, read=sites, write=write)
    shown = {f"head {site.leaf}": run[site] for site in sites}
    if wrong := [x for x in shown.values() if len(x) != 1]:
        raise WrongInput(
            f"There are {len(wrong[0])} prompts; the patterns of one are drawn. Call draw_attention for each."
        )
    queries, keys = (_labels(lm, prompt, end) for end in lm.attending(of))
    title = f"{model_name(lm)}, layer {layer}: what each token (row) attends to"
    panels = {name: x[0].detach().double().cpu().numpy() for name, x in shown.items()}
    return patterns(panels, queries, keys, title=title)


def _labels(lm: LanguageModel, prompt: Any, argument: str) -> list[str]:
    """The tokens of a prompt, or their ids where there is no tokenizer."""
    ids = lm.arguments(prompt)[1][argument][0].tolist()
    return [str(token) if lm.tokenizer is None else lm.tokenizer.decode([token]) for token in ids]


def classify(graph: CausalModel, intervened: Iterable[str]) -> dict[str, str]:
    """The class of every variable's value, by the first rule that holds: see FILLS, from first to last.

    A variable that is intervened on is a source input. Otherwise its parents decide: all source-side makes a source
    value, all base-side a base value, anything mixed a counterfactual value.
    """
    written, kinds = set(intervened), {}
    for name in graph.order:
        parents = {kinds[parent].split()[0] for parent in graph.variables[name].parents}
        if name in written:
            kinds[name] = "source input"
        elif name in graph.inputs:
            kinds[name] = "base input"
        elif parents == {"source"}:
            kinds[name] = "source value"
        else:
            kinds[name] = "base value" if parents <= {"base"} else "counterfactual value"
    return kinds


# -- places of a network as variables of its graph --------------------------------------------------


def graph_of(model: CausalModel | Network) -> CausalModel:
    """The model as variables: a network as its inputs and neurons."""
    return model.as_causal_model() if isinstance(model, Network) else model


def setting_of(model: CausalModel | Network, inputs: Any) -> dict[str, Any]:
    """One input as a dict by the names of the inputs."""
    values = inputs if isinstance(inputs, Mapping) else inputs.tolist() if hasattr(inputs, "tolist") else list(inputs)
    if not isinstance(values, Mapping):
        if len(values) != len(model.inputs):
            raise WrongShape(
                f"An input holds {len(model.inputs)} values, {', '.join(model.inputs)}; this one {len(values)}."
            )
        values = dict(zip(model.inputs, values, strict=True))
    setting = {input: value.item() if hasattr(value, "item") else value for input, value in values.items()}
    if batch := [input for input, value in setting.items() if isinstance(value, list)]:
        raise WrongShape(f"A picture shows one input, but {batch[0]} holds {len(setting[batch[0]])} values: a batch.")
    return setting


def units_of(model: CausalModel | Network, place: Any) -> list[str]:
    """The variables of the graph that a place covers. Raises UnknownPlace where it covers none."""
    if isinstance(model, CausalModel):
        return [model.place(place)]
    site: Site = model.place(place)
    units = range(model.width(site)) if site.units is None else np.atleast_1d(site.units).tolist()
    found = [str(model.place(replace(site, units=unit, name=None))) for unit in units]
    graph = graph_of(model)
    if missing := [unit for unit in found if unit not in graph.variables]:
        raise UnknownPlace(
            f"{missing[0]} is no node of the picture: it shows inputs and the neurons of {', '.join(model.layers())}."
        )
    return found


def written_at(model: CausalModel | Network, setting: Mapping[str, Any], write: Mapping[Any, Any]) -> dict[str, Any]:
    """What a run with interventions holds at each variable they cover: the run itself decides, not the drawing."""
    if isinstance(model, CausalModel) or not write:
        return dict(write)
    with torch.no_grad():
        run = model.run(setting, read=list(write), write=write)
    return {
        variable: value
        for place in write
        for variable, value in zip(units_of(model, place), run[place].reshape(-1).tolist(), strict=True)
    }


def carried_to(model: CausalModel | Network, place: Any, source: Any) -> list[tuple[str, Any, str]]:
    """(variable of the base, source input, variable of the source) for each unit of an interchange."""
    given, start = donor_of(source, place)
    to, origin = units_of(model, place), units_of(model, start)
    if len(to) != len(origin):
        raise WrongShape(f"{place} has {len(to)} units and {start} {len(origin)}: one cannot take the other's values.")
    return [(variable, given, donor) for variable, donor in zip(to, origin, strict=True)]


# -- nodes -----------------------------------------------------------------------------------------


def _sketch(graph: CausalModel, title: str, nodes: Mapping[str, Node], model: Any) -> Graph:
    parents = {name: variable.parents for name, variable in graph.variables.items()}
    edges = [(parent, name) for name, those in parents.items() for parent in those]
    return Graph(title, nodes, layered(parents, keep_order=isinstance(model, Network)), edges)


def _valued(values: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Node]:
    return {
        name: Node(name, value=short(values[name]), fill=FILLS[kind], hover=f"{name} = {full(values[name])} ({kind})")
        for name, kind in kinds.items()
    }


def short(value: Any) -> str:
    """A value in the room of a node: fewer digits where there are many, and never without its exponent."""
    texts = [f"{value:.{digits}g}" for digits in (4, 3, 2, 1)] if isinstance(value, float) else [str(value)]
    text = next((text for text in texts if len(text) <= 8), texts[-1])
    return text if len(text) <= 8 else text[:7] + "…"


def full(value: Any) -> str:
    """A value in up to six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {short(value)}" for name, value in setting.items())


def _legend(kinds: Sequence[Mapping[str, str]]) -> dict[str, str]:
    used = {kind for those in kinds for kind in those.values()}
    words = {"source input": "source input, or intervened on"}
    return {words.get(kind, kind): fill for kind, fill in FILLS.items() if kind in used}


def _plain_fill(graph: CausalModel, name: str) -> str:
    return FILLS["base input"] if name in graph.inputs else "#FFFFFF"
