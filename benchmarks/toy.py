"""The tutorial's toy scan: three variables x 50 pairs x 6 neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

import interpose as ip
from interpose.metrics import Scored
from interpose.pairs import Pairs
from interpose.tasks import adder

from .measure import Contender

Question = Mapping[str, Pairs]
"""The pairs in which each variable differs."""


def question(*, n: int = 50) -> Question:
    """The tutorial's data sets."""
    return adder.pairs(n=n)


# -- end to end: the share of pairs whose output becomes the source's, [variable, neuron] ------------------------------


def scan(pairs: Question) -> Callable[[], Any]:
    """One call; both directions, every pair kept, each share under the name of its variable and neuron."""
    net = adder.network()
    sites = net.neurons("l1", "l2")

    def run() -> Any:
        scans = ip.scan(net, pairs, sites, metric=ip.matches)
        found = {name: dict(zip(one.labels, one.ybs.mean(0), strict=True)) for name, one in scans.items()}
        return [list(shares.values()) for shares in found.values()]

    return run


def tutorial(pairs: Question) -> Callable[[], Any]:
    """The tutorial's own function, letter by letter, called as it calls it; that of C is given C's pairs."""
    import nnsight

    toy_model = nnsight.NNsight(adder.Adder())
    toy_model_components = [toy_model.l1, toy_model.l2, toy_model.l3]

    # fmt: off
    def compute_causal_effect(dataset, layer : int, neuron : int):
        # keep track of number of times neuron had an effect
        num_examples_with_effect = 0
        for inputs in dataset:
            base_inputs, source_inputs = inputs['base'], inputs['source']

            with toy_model.trace(source_inputs):
                # 1. collect source value of h12
                source_h12_value = toy_model_components[layer].output[neuron].save()
                source_output = toy_model.output.item().save()

            # forward pass on base input
            with toy_model.trace(base_inputs):
                # 2. set base value of h12 to source value
                toy_model_components[layer].output[neuron] = source_h12_value
                # 3. save final output & compare to base value
                intervened_output = toy_model.output.item().save()

            # this is techincally direct effect:
            # we want the intervened output to match the source output
            # (for indirect effect, it's enough for the intervened output to be different from the base output)
            if intervened_output == source_output:
                num_examples_with_effect += 1

        # we return the "interchange intervention accuracy", or how many examples had an effect
        return num_examples_with_effect / len(dataset)
    # fmt: on

    datasets = [
        [
            {"base": [row[name] for name in adder.INPUTS], "source": [other[name] for name in adder.INPUTS]}
            for row, other in zip(chosen.base, chosen.source, strict=True)
        ]
        for chosen in pairs.values()
    ]

    def run() -> Any:
        return [
            [compute_causal_effect(dataset, layer, neuron) for layer in range(2) for neuron in range(3)]
            for dataset in datasets
        ]

    return run


# -- the sweep alone: the output with one neuron from the source, [variable, neuron, pair] -----------------------------


def sweep(pairs: Question, *, engine: ip.Engine | None = None) -> Callable[[], Any]:
    """All runs of all three data sets at once, in both directions; numbers without labels."""
    net = adder.network()
    net.engine = engine or net.engine
    sites = [(site,) for site in net.neurons("l1", "l2")]
    together = Pairs.joined(list(pairs.values()))
    base, source = net.numbers(together.base), net.numbers(together.source)
    metric, ends = Scored(ip.value, together), [len(chosen) for chosen in pairs.values()]

    def run() -> Any:
        found = net.four_runs(base, source, sites, metric=metric)
        assert found is not None
        return list(np.split(found.ybs.T, np.cumsum(ends)[:-1], axis=1))

    return run


def unchecked(pairs: Question) -> Callable[[], Any]:
    """The same without a run that is held against it, which nobody writes by hand either."""
    return sweep(pairs, engine=ip.Engine(check=False))


def by_hand(pairs: Question) -> Callable[[], Any]:
    """Bare torch, written for this network: a source forward, and one forward with a row a pair and neuron."""
    module = adder.Adder()
    net = adder.network()
    rows = [(net.numbers(chosen.base), net.numbers(chosen.source)) for chosen in pairs.values()]

    @torch.no_grad()
    def run() -> Any:
        found = []
        for base, source in rows:
            n = len(base)
            source1 = module.l1(source)
            source2 = module.l2(source1)
            module.l3(source2)
            first = module.l1(base.repeat(6, 1)).view(6, n, 3)
            for unit in range(3):
                first[unit, :, unit] = source1[:, unit]
            second = module.l2(first)
            for unit in range(3):
                second[3 + unit, :, unit] = source2[:, unit]
            found.append(module.l3(second).squeeze(-1).numpy())
        return found

    return run


END_TO_END = (
    Contender("interpose", "one `ip.scan`: both directions, every pair kept, results by name", scan),
    Contender("nnsight", "the tutorial's own loop: one direction, a share a neuron", tutorial, "nnsight"),
)
SWEEPS = (
    Contender("interpose", "`Network.four_runs`, both directions, `Engine(check=False)`", unchecked),
    Contender("interpose, checked", "the same, and a small run that is held against it", sweep),
    Contender("torch, by hand", "a source forward and one batched forward a variable", by_hand),
)
