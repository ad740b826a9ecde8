"""One job in four libraries: which neurons of the adder carry A? docs/side-by-side.md shows these functions.

Each takes the 50 pairs in which A differs and gives, for each of six neurons, the share of pairs whose output becomes
the source's. All pairs go through a run at once, in the form that each library's own pages show for one place.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import interpose as ip
from interpose.pairs import Pairs
from interpose.tasks import adder

from .measure import Contender

LAYERS = ("l1", "l2")


def with_interpose(pairs: Pairs) -> Callable[[], Any]:
    """Both directions, every pair kept, an interval and a verdict a neuron: `scan.table()`."""
    net = adder.network()

    def run() -> Any:
        scan = ip.scan(net, pairs, net.neurons("l1", "l2"), metric=ip.matches)
        return scan.ybs.mean(0)

    return run


def with_nnsight(pairs: Pairs) -> Callable[[], Any]:
    """A trace of the source, and one of the base for each neuron."""
    import nnsight

    base, source = numbers(pairs)
    model = nnsight.NNsight(adder.Adder())

    def run() -> Any:
        with model.trace(source):
            kept = nnsight.save({"l1": model.l1.output.clone(), "l2": model.l2.output.clone()})
            target = model.output.save()
        shares = []
        for layer in LAYERS:
            for unit in range(3):
                with model.trace(base):
                    getattr(model, layer).output[:, unit] = kept[layer][:, unit]
                    patched = model.output.save()
                shares.append(share(patched, target))
        return shares

    return run


def with_pyvene(pairs: Pairs) -> Callable[[], Any]:
    """A model around the model for each layer, called once for each neuron; places are [pair, position, unit]."""
    import pyvene

    base, source = numbers(pairs)
    module: Any = adder.Adder()
    module.config, module.device = SimpleNamespace(), torch.device("cpu")  # which it asks of a model

    @torch.no_grad()
    def run() -> Any:
        target = module(source)
        shares = []
        for layer in LAYERS:
            intervention = pyvene.VanillaIntervention(embed_dim=3)
            config = {"component": f"{layer}.output", "intervention": intervention}
            model = pyvene.IntervenableModel([config], model=module)
            for unit in range(3):
                _, patched = model(
                    {"inputs": base[:, None]},
                    [{"inputs": source[:, None]}],
                    {"sources->base": 0},
                    subspaces=[[[unit]] * len(base)],
                )
                shares.append(share(patched[:, 0], target))
        return shares

    return run


def with_transformer_lens(pairs: Pairs) -> Callable[[], Any]:
    """The network written again with a hook point at each place, a cached run, and a run with hooks for each neuron."""
    from transformer_lens import HookedRootModule
    from transformer_lens.hook_points import HookPoint

    class HookedAdder(HookedRootModule):
        def __init__(self) -> None:
            super().__init__()
            self.adder = adder.Adder()
            self.hook_l1, self.hook_l2 = HookPoint(), HookPoint()
            self.setup()

        def forward(self, x: Tensor) -> Tensor:
            x = self.hook_l1(self.adder.l1(x))
            x = self.hook_l2(self.adder.l2(x))
            return self.adder.l3(x).squeeze(-1)

    base, source = numbers(pairs)
    model = HookedAdder()

    @torch.no_grad()
    def run() -> Any:
        target, cache = model.run_with_cache(source)
        shares = []
        for layer in LAYERS:
            for unit in range(3):

                def patch(value: Tensor, hook: Any, unit: int = unit) -> Tensor:
                    value[:, unit] = cache[hook.name][:, unit]
                    return value

                patched = model.run_with_hooks(base, fwd_hooks=[(f"hook_{layer}", patch)])
                shares.append(share(patched, target))
        return shares

    return run


def numbers(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Base and source as tensors, [pair, input]."""
    first, second = (torch.tensor([list(row.values()) for row in rows]) for rows in (pairs.base, pairs.source))
    return first.float(), second.float()


def share(patched: Tensor, target: Tensor) -> float:
    """How many outputs became the source's."""
    return float(((patched - target).abs() <= 1e-3).double().mean())


FORMS = {
    "interpose": (with_interpose, "one `ip.scan`", None),
    "nnsight": (with_nnsight, "one trace a neuron, all pairs in it", "nnsight"),
    "pyvene": (with_pyvene, "one call of an IntervenableModel a neuron, all pairs in it", "pyvene"),
    "TransformerLens": (with_transformer_lens, "`run_with_hooks` a neuron, all pairs in it", "transformer_lens"),
}
ONE_VARIABLE = tuple(
    Contender(name, form, lambda question, prepare=prepare: prepare(question["A"]), package)
    for name, (prepare, form, package) in FORMS.items()
)
