"""The tutorial's toy scan: three variables x 50 pairs x 6 neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

import interpose as ip
from interpose.interventions import Set
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
    """One call a variable; both directions, every pair kept, as labelled data."""
    net = adder.network()

    def run() -> Any:
        found = [ip.scan(net, chosen, net.neurons("l1", "l2"), metric=ip.matches) for chosen in pairs.values()]
        return [one.data.ybs.mean("pair").to_numpy().ravel() for one in found]

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


def sweep(pairs: Question) -> Callable[[], Any]:
    """A source run that reads, and a sweep, in one direction; numbers without labels."""
    net = adder.network()
    sites = net.neurons("l1", "l2")
    rows = {name: (net.numbers(chosen.base), net.numbers(chosen.source)) for name, chosen in pairs.items()}

    @torch.no_grad()
    def run() -> Any:
        found = []
        for name, (base, source) in rows.items():
            donor = net.run(source, read=sites)
            writes = [{site: Set(donor[site])} for site in sites]
            found.append(net.sweep(base, writes, metric=Scored(ip.value, pairs[name])).numpy())
        return found

    return run


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
    Contender("interpose", "`ip.scan` a variable: both directions, labelled results", scan),
    Contender("nnsight", "the tutorial's own loop: one direction, a share a neuron", tutorial, "nnsight"),
)
SWEEPS = (
    Contender("interpose", "a source run and `Network.sweep` a variable, one direction", sweep),
    Contender("torch, by hand", "a source forward and one batched forward a variable", by_hand),
)
