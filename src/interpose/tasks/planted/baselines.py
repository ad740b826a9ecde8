"""Answers that a method should beat: whatever scores at interchange, single-variable scans, and guesses.

They are told which sites have an effect and what feeds what, so that only their names and groups are their own.
"""

from __future__ import annotations

import numpy as np

from .answer import Answer, Claim, Sites
from .instance import generator
from .key import Key
from .partitions import Kernel, kernel
from .truth import Truth
from .wiring import wired


def by_accuracy_alone(key: Key) -> Answer:
    """Every site with an effect holds the tuple of all inputs, which interchange accuracy never refutes."""
    everything = tuple(range(len(key.settings)))
    return _answer(key, dict.fromkeys(_with_effect(key), (everything, "all inputs")))


def by_single_variables(key: Key) -> Answer:
    """The tutorial's scan: a site holds those inputs whose change alone it hands on in full, on every pair."""
    found: dict[str, tuple[Kernel, str]] = {}
    for site in _with_effect(key):
        names = [name for name in key.inputs if hands_on(key.truth, key, site, name)]
        if names:
            found[site] = kernel(tuple(setting[name] for name in names) for setting in key.settings), ",".join(names)
    return _answer(key, found)


def by_guessing(key: Key) -> Answer:
    """Every site holds the sum of some of the inputs, drawn at random; one in four is called inert."""
    rng = generator("guess", key.program, key.encoding, key.seed)
    names = list(key.inputs)
    found: dict[str, tuple[Kernel, str]] = {}
    for layer in key.layers:
        for site in key.truth.in_order(layer.live | layer.inert.keys()):
            some = [name for name in names if rng.random() < 0.5]
            if some and rng.random() < 0.75:
                found[site] = kernel(sum(setting[name] for name in some) for setting in key.settings), "+".join(some)
    return _answer(key, found)


def hands_on(truth: Truth, key: Key, site: str, name: str) -> bool:
    """Whether a site's value from a source that differs in one input alone always gives the source's output."""
    others = np.array(kernel(tuple(s[one] for one in key.inputs if one != name) for s in key.settings))
    table = truth.table(frozenset({site})).full()
    pairs = others[:, None] == others[None]
    return bool((np.abs(table - truth.output[:, None])[pairs] <= truth.resolution).all())


def _with_effect(key: Key) -> list[str]:
    sites = [site for layer in key.layers for site in key.truth.in_order(layer.live | layer.inert.keys())]
    return [site for site in sites if key.truth.effect(frozenset({site})) > key.truth.resolution]


def _answer(key: Key, found: dict[str, tuple[Kernel, str]]) -> Answer:
    layers, inert = {}, {}
    for layer in key.layers:
        sites = key.truth.in_order(layer.live | layer.inert.keys())
        layers[layer.name] = tuple(Claim(_one(site), *found[site]) for site in sites if site in found)
        inert |= {site: "does not mediate" for site in sites if site not in found}
    inputs = [_one(name) for name in key.inputs]
    groups = [[claim.sites for claim in claims] for claims in layers.values()]
    return Answer(layers, inert, wired(key.truth, [inputs, *groups]))


def _one(site: str) -> Sites:
    return frozenset({site})
