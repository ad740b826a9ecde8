"""A causal abstraction to look into on a page: which neurons hold a variable, and how it is written there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from ..abstraction import Alignment
from ..discovery.decoding import rule_of
from ..discovery.found import Found
from ..drawing import draw_alignment, graph_of, units_of
from ..errors import WrongInput
from ..model import NOTHING
from ..network import Network
from .sketches import sketched
from .widgets import Widget

LOOKED_AT = 1000
"""On how many inputs a rule is fitted, where there are more."""


def abstraction(network: Network | Found, alignment: Alignment | None = None) -> Widget:
    """Network and causal model side by side: to point at a variable shows the neurons that hold it, and its rule.

    network: with the alignment that is claimed of it; or what was discovered of one, which knows its own.
    Raises WrongInput where nothing was found, or of a network alone.
    """
    found = network if isinstance(network, Found) else None
    if isinstance(network, Found):
        network, alignment = network.network, network.alignment
        if alignment is None:
            raise WrongInput(
                "No algorithm was found that explains the output, so there is none to show beside the network."
            )
    if alignment is None:
        raise WrongInput("Say which places hold which variables: abstraction(network, Alignment(model, {...})).")
    still, rules = draw_alignment(network, alignment), dict(_rules(network, alignment, found))
    low, high = graph_of(network), alignment.model
    numbers = [{name: k for k, name in enumerate(graph.variables)} for graph in (low, high)]
    held = [
        {
            "variable": numbers[1][variable],
            "nodes": [numbers[0][unit] for place in places for unit in units_of(network, place)],
            "rule": rules[variable],
        }
        for variable, places in alignment.items()
    ]
    data = {
        "low": sketched(low, keep_order=True),
        "high": sketched(high, keep_order=False),
        "held": held,
        "notes": _notes(found, numbers[0]),
    }
    return Widget("abstraction", still.title, data, still.svg(), needs=("graph",))


def _rules(network: Network, alignment: Alignment, found: Found | None) -> Iterator[tuple[str, str]]:
    """How each variable is written in its places, in words: as it was found, or as a line fitted to runs."""
    if found is not None:
        yield from ((name, str(rule)) for name, rule in found.rules.items())
        return
    places = alignment.on(network)
    settings = list(islice(alignment.model.settings(), LOOKED_AT + 1))
    if len(settings) > LOOKED_AT:
        settings = alignment.model.sample(LOOKED_AT)
    values = alignment.model.run(settings).values
    with torch.no_grad():
        run = network.run(settings, read=[site for sites in places.values() for site in sites])
    for name, sites in places.items():
        labels = [getattr(value, "tolist", lambda value=value: value)() for value in values[name]]
        numeric = all(isinstance(label, int | float) for label in labels)
        rule = rule_of(name, sites, {site: run[site] for site in sites}, labels, numeric=numeric)
        yield name, str(rule) if rule.slope is not None else _as_table(name, sites, run, labels)


def _as_table(name: str, sites: tuple[Any, ...], run: Any, labels: list[Any]) -> str:
    """What is said of a variable that is no line: whether its value alone decides what its sites hold."""
    where = " + ".join(map(str, sites))
    for site in sites:
        first: dict[Any, Any] = {}
        for value, label in zip(run[site], labels, strict=True):
            if not torch.allclose(value, first.setdefault(label, value), rtol=1e-4, atol=1e-5):
                return f"{where} varies where {name} does not: no rule"
    return f"{where}: one value for each of the {len(dict.fromkeys(labels))} of {name}"


def _notes(found: Found | None, numbers: Any = NOTHING) -> list[dict[str, Any]]:
    """What is known of neurons that hold nothing."""
    inert = found.inert if found is not None else {}
    return [
        {"node": numbers[str(site)], "text": f"{why.grade}: {why.reason}"}
        for site, why in inert.items()
        if str(site) in numbers
    ]
