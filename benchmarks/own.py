"""What the peers are held against: our sweep, plain torch with hooks, and the matrix products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import interpose as ip
from interpose.interventions import Set
from interpose.metrics import Scored

from .measure import REFERENCE, Contender
from .subject import Question

ROWS = 2048
"""How many tokens the bare matrix products take at a time."""


def sweep(q: Question) -> Callable[[], Any]:
    """A source run that reads, and the sweep with its base run; what the sweep says of its work is kept."""

    sites = q.sites

    @torch.no_grad()
    def run() -> Any:
        work: list[Any] = []
        donor = q.lm.run(q.pairs.source, read=sites)
        writes = [{site: Set(donor[site])} for site in sites]
        scores = q.lm.sweep(q.pairs.base, writes, metric=Scored(ip.logit_difference, q.pairs, record=work.append))
        (done,) = work or [None]
        told = {} if done is None else {n: getattr(done, n) for n in ("forwards", "rows", "flops", "noise")}
        return scores.numpy(), {**told, "mechanisms": list(done.mechanisms) if done else []}

    return run


def hooks(q: Question) -> Callable[[], Any]:
    """Plain torch: one forward a cell, all pairs in a batch, a hook that overwrites; logits of the last token only."""

    @torch.no_grad()
    def run() -> Any:
        kept: dict[int, Tensor] = {}
        handles = [hook(q, layer, lambda x, layer=layer: kept.update({layer: x.clone()})) for layer in q.layers]
        q.module(q.source, use_cache=False, logits_to_keep=1)
        for handle in handles:
            handle.remove()
        scores = []
        for layer, index in q.cells:
            handle = hook(q, layer, lambda x, layer=layer, i=index: q.part(i, x).copy_(q.part(i, kept[layer])))
            scores.append(q.metric(q.module(q.base, use_cache=False, logits_to_keep=1).logits))
            handle.remove()
        return torch.stack(scores)

    return run


def hook(q: Question, layer: int, act: Callable[[Tensor], object]) -> Any:
    """Call `act` with the residual stream after a layer, or with what enters its output projection."""

    def told(module: nn.Module, args: Any, *output: Any) -> None:
        act(output[0] if output else args[0])

    if q.kind == "residual":
        return q.blocks[layer].register_forward_hook(told)
    return q.blocks[layer].self_attn.o_proj.register_forward_pre_hook(told)


def count(q: Question) -> dict[str, float]:
    """FLOPs of the matrix products of our sweep, and of one full forward a cell: attention scores are not counted."""
    run = sweep(q)
    with FlopCounterMode(display=False) as counter:
        run()
    with FlopCounterMode(display=False) as once, torch.no_grad():
        q.module(q.base, use_cache=False)
    return {"flops": counter.get_total_flops(), "naive": once.get_total_flops() * (len(q.cells) + 2)}


def products(q: Question, flops: float) -> Callable[[], Any]:
    """The products of the blocks' own weights with as many tokens as take this many FLOPs, and nothing else."""
    weights = [[part.weight for part in block.modules() if isinstance(part, nn.Linear)] for block in q.blocks]
    tokens = round(flops / (2 * sum(weight.numel() for block in weights for weight in block)))
    inputs = {weight.shape[1]: torch.randn(min(tokens, ROWS), weight.shape[1]) for weight in weights[0]}

    @torch.no_grad()
    def run() -> Any:
        for block in weights:
            for weight in block:
                for start in range(0, tokens, ROWS):
                    torch.mm(inputs[weight.shape[1]][: tokens - start], weight.T)
        return None, {"tokens": tokens, "flops": flops}

    return run


OWN = (
    Contender("interpose", "source run, base run, `Network.sweep`", sweep),
    Contender(REFERENCE, "a forward hook, one forward a cell, last logits only", hooks, slow=True),
)
