"""Where transformers keep their parts: names to look under, and checks by value that what is found there is the part.

A name is only a candidate. What attention and the MLP of a block add must be, together, what the block adds to the
residual stream; units of a query, key or value head must act as one. What does not pass is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .sites import Site
from .structures import tensors
from .taps import Taps
from .units import declared_width, is_neural

ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
"""What blocks call their attention, if its class does not say that it is one."""

MLPS = ("mlp", "ffn", "feed_forward")
"""What blocks call their MLP; some have only its layers."""

DEEPER = ("SelfAttention", "DenseReluDense")
"""The same where they stand deeper in a block (T5)."""

CROSS = ("encoder_attn", "EncDecAttention")
"""What decoders call the attention to what an encoder made: a third part of a block."""

AFTER_ATTENTION = ("post_self_attn_layernorm", "post_attention_layernorm")
AFTER_MLP = ("post_mlp_layernorm", "post_feedforward_layernorm")
"""Norms that some blocks put between a part and the residual stream: then the part is what comes out of them."""

FACTORS = ("residual_multiplier",)
"""What configurations call a factor on all that is added to the residual stream."""

PROJECTIONS = {
    "query": ("q_proj", "query", "q_norm", "q"),
    "key": ("k_proj", "key", "k_norm", "k"),
    "value": ("v_proj", "value", "v"),
}
FUSED = ("c_attn", "query_key_value", "qkv_proj", "Wqkv")
"""What attentions call the layers that make queries, keys and values, each or all at once."""

CLOSE = 1e-4
"""Two values are the same if they differ by no more than this share of the largest; in half precision 64 roundings."""


FLOOR = 1e-7
"""What is no more than this share of the largest is no change: what attention gives one head depends on no other."""

LINEAR = 1e-5
"""What is no more than this share of the largest effect is rounding: values act in proportion but for that."""

STEP = 20
"""How many standard deviations a unit is moved to see what it acts on: far enough for keys not to act in proportion."""


@dataclass(frozen=True)
class Part:
    """A module whose output is a part of a block; leaf: which tensor of it, where it passes several."""

    path: str
    leaf: str | None = None


@dataclass(frozen=True)
class Parts:
    """What a block adds to the residual stream: at the output of which module attention does, and the MLP.

    mlp is None where it comes out of no module with a row an example, as in a mixture of experts that goes through all
    tokens as one list. hidden: the module whose input are the MLP's neurons, None where there is no one layer of them.
    """

    attention: Part
    mlp: Part | None
    hidden: str | None


def attention_of(block: nn.Module) -> str | None:
    """The name of a block's self-attention; None where there is none, or several that cannot be told apart."""
    children = dict(block.named_children())
    found = [name for name in ATTENTIONS if name in children]
    found = found or _deeper(block, DEEPER[:1])
    found = found or [name for name, child in children.items() if "Attention" in type(child).__name__]
    return found[0] if len(found) == 1 else None


def mlp_of(block: nn.Module) -> str | None:
    """The name of a block's MLP; None where its layers stand alone."""
    children = dict(block.named_children())
    return next((name for name in (*MLPS, *_deeper(block, DEEPER[1:])) if name in children or "." in name), None)


def _deeper(block: nn.Module, names: Sequence[str]) -> list[str]:
    return [name for name, _ in block.named_modules() if name.rpartition(".")[2] in names]


def linear_to(block: nn.Module, width: int) -> list[str]:
    """The linear layers inside a block that give so many units, by name, in their order there."""
    return [
        name
        for name, module in block.named_modules()
        if is_neural(module) and declared_width(module, "output") == width
    ]


def candidates(block: nn.Module, width: int) -> tuple[list[str], list[str]]:
    """Where what attention adds may come out of a block, and where what the MLP adds: the most telling names first."""
    children = dict(block.named_children())
    attention = attention_of(block)
    mlp = mlp_of(block)
    linear = linear_to(block, width)
    inside = [name for name in linear if attention and name.startswith(f"{attention}.")]
    beside = [name for name in linear if name not in inside]
    after = [name for name in AFTER_ATTENTION if name in children]
    ours = [*after, *([attention] if attention else []), *inside[-1:]]
    theirs = [*(name for name in AFTER_MLP if name in children), *([mlp] if mlp else []), *beside[-1:]]
    return ours, theirs


class Watched(Taps):
    """What modules take and give in one run: the first tensor of each, by path, where they run once."""

    def __init__(self, paths: Iterable[str], modules: Mapping[str, nn.Module]) -> None:
        ends: tuple[Literal["input", "output"], ...] = ("input", "output")
        super().__init__([Site(path, end=end) for path in paths for end in ends], modules)
        self.took: dict[str, Tensor] = {}
        self.gave: dict[str, Tensor] = {}
        self.leaf: dict[str, str | None] = {}

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """Keeps a copy."""
        found = tensors(structure)
        for site in here if found else ():
            leaf, first = next(iter(found.items()))
            (self.took if site.end == "input" else self.gave)[site.path] = first.detach().clone()
            if site.end == "output":
                self.leaf[site.path] = leaf if len(found) > 1 else None
        return structure

    def check(self, owner: str) -> None:
        """Forgets what ran several times; what did not run is not there."""
        if self.failure is not None:
            raise self.failure
        for path in [path for path, calls in self.calls.items() if calls > 1]:
            self.took.pop(path, None)
            self.gave.pop(path, None)


def watched_in(path: str, block: nn.Module, width: int) -> list[str]:
    """The modules of a block that its parts are told by: candidates, norms, and the block itself."""
    ours, theirs = candidates(block, width)
    more = [*_norms(block), *linear_to(block, width), *_deeper(block, CROSS)]
    return [path, *(f"{path}.{name}" for name in dict.fromkeys([*ours, *theirs, *more]))]


def parts_of(path: str, block: nn.Module, width: int, factor: float, seen: Watched) -> Parts | None:
    """The parts of a block that, by value, add up to what it adds to the residual stream; None if none do.

    Where the stream itself is normalised (BERT), they add up to what the norms take.
    """
    ours, theirs = candidates(block, width)
    beyond = [f"{path}.{name}" for name in _deeper(block, CROSS)]
    before = seen.took[path] + sum(seen.gave[name] for name in beyond if name in seen.gave)
    norms = [name for each in _norms(block) if (name := f"{path}.{each}") in seen.took]
    for attention in ours:
        for mlp in theirs:
            a, m = (seen.gave.get(f"{path}.{name}") for name in (attention, mlp))
            if a is None or m is None or a.shape != before.shape or m.numel() != a.numel():
                continue
            if _adds_up(before, factor * a, factor * m.reshape(a.shape), seen.gave[path], norms, seen):
                one, other = (Part(f"{path}.{n}", seen.leaf[f"{path}.{n}"]) for n in (attention, mlp))
                if m.shape != a.shape:
                    return Parts(one, None, None)
                return Parts(one, other, _hidden(path, block, width, mlp, seen))
    return None


def _adds_up(before: Tensor, attention: Tensor, mlp: Tensor, after: Tensor, norms: list[str], seen: Watched) -> bool:
    """Whether what comes before and two parts are what comes after, or what norms take on the way."""
    if close(before + attention + mlp, after):
        return True
    between = [norm for norm in norms if close(seen.took[norm], before + attention)]
    return any(
        close(seen.took[last], seen.gave[norm] + mlp) and close(seen.gave[last], after)
        for norm in between
        for last in norms
    )


def _norms(block: nn.Module) -> list[str]:
    return [name for name, module in block.named_modules() if "norm" in type(module).__name__.lower()]


def _hidden(path: str, block: nn.Module, width: int, mlp: str, seen: Watched) -> str | None:
    """The layer whose input are the neurons of an MLP: the one that gives, by value, what the MLP gives."""
    attention = attention_of(block)
    linear = [n for n in linear_to(block, width) if not (attention and n.startswith(f"{attention}."))]
    child = mlp_of(block) or mlp
    wholes = [seen.gave[f"{path}.{name}"] for name in dict.fromkeys((child, mlp)) if f"{path}.{name}" in seen.gave]
    for name in reversed(linear):
        gave = seen.gave.get(f"{path}.{name}")
        if gave is not None and any(close(gave, whole) for whole in wholes):
            return f"{path}.{name}"
    return None


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    if one.shape != other.shape or not one.numel():
        return False
    share = max(CLOSE, 64 * torch.finfo(one.dtype).eps)
    return bool((one - other).abs().max() <= share * torch.maximum(one.abs().max(), other.abs().max()))


# -- queries, keys and values ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Projected:
    """Where the heads of one kind are made: at the output of which module, and [head]: in which of its units."""

    path: str
    units: tuple[tuple[int, ...], ...]


Layout = dict[str, Projected]


def layouts(attention: nn.Module, path: str, heads: int, width: int) -> Iterator[Layout]:
    """How queries, keys and values may lie in an attention, by its modules' names and widths."""
    modules = dict(attention.named_modules())
    named = {
        kind: [name for name in modules if name.rpartition(".")[2] in names] for kind, names in PROJECTIONS.items()
    }
    if all(named.values()):
        for query in named["query"]:
            for key in named["key"]:
                chosen = {"query": query, "key": key, "value": named["value"][0]}
                yield {kind: _alone(f"{path}.{name}", _width(modules[name]), width) for kind, name in chosen.items()}
    for name in (name for name in modules if name.rpartition(".")[2] in FUSED):
        total, rest = divmod(_width(modules[name]), width)
        groups = (total - heads) // 2
        if rest or groups < 1 or heads + 2 * groups != total or heads % groups:
            continue
        for order in (_in_turn, _by_group, _in_fours):
            numbers = order(heads, groups)
            if numbers is not None:
                yield {kind: Projected(f"{path}.{name}", _blocks(of, width)) for kind, of in numbers.items()}


def _width(module: nn.Module) -> int:
    weight = getattr(module, "weight", None)
    return declared_width(module, "output") or (weight.shape[0] if isinstance(weight, Tensor) else 0)


def _alone(path: str, total: int, width: int) -> Projected:
    return Projected(path, _blocks(range(total // width), width))


def _blocks(numbers: Sequence[int], width: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(k * width, (k + 1) * width)) for k in numbers)


def _in_turn(heads: int, groups: int) -> dict[str, Sequence[int]]:
    """All queries, then all keys, then all values."""
    return {
        "query": range(heads),
        "key": range(heads, heads + groups),
        "value": range(heads + groups, heads + 2 * groups),
    }


def _by_group(heads: int, groups: int) -> dict[str, Sequence[int]]:
    """Group by group its queries, its key and its value."""
    each = heads // groups
    return {
        "query": [g * (each + 2) + i for g in range(groups) for i in range(each)],
        "key": [g * (each + 2) + each for g in range(groups)],
        "value": [g * (each + 2) + each + 1 for g in range(groups)],
    }


def _in_fours(heads: int, groups: int) -> dict[str, Sequence[int]] | None:
    """In four parts, each with its queries, then values, then keys (CodeGen)."""
    if groups != heads or heads % 4:
        return None
    each = heads // 4
    return {
        kind: [part * 3 * each + k * each + i for part in range(4) for i in range(each)]
        for k, kind in enumerate(("query", "value", "key"))
    }


def acts_as_said(layout: Layout, heads: int, run: Callable[[str, Callable[[Tensor], Tensor], int], Tensor]) -> bool:
    """Whether each head of a layout acts on its own heads of the attention, and as a query, key or value does.

    run: of a module, a change of its output [row, token, unit] and a number of rows, what enters the output projection:
    [row, token, head, unit]. A query changes its own token alone; a value acts in proportion, a key does not, and both
    on all heads of their group.
    """
    groups = len(layout["key"].units)
    if len(layout["value"].units) != groups or len(layout["query"].units) != heads or heads % groups:
        return False
    each = heads // groups
    for kind, projected in layout.items():
        count = len(projected.units)
        rows = 2 * count + 1
        z = run(projected.path, _nudged(projected.units), rows)
        changed = (z - z[:1]).float()
        size = changed.abs().max()
        acts = (changed.abs().amax(-1) > FLOOR * z.float().abs().max()).cpu()  # [row, token, head]
        once, twice = changed[1 : count + 1], changed[count + 1 :]
        linear = bool((twice - 2 * once).abs().max() <= max(LINEAR, 8 * torch.finfo(z.dtype).eps) * size)
        if linear != (kind == "value"):
            return False
        for k in range(count):
            mine = torch.zeros(heads, dtype=torch.bool)
            mine[[k] if kind == "query" else list(range(k * each, (k + 1) * each))] = True
            here = acts[k + 1]
            if here[:, ~mine].any() or not here[:, mine].any(0).all() or (kind == "query" and here[[0, 2]].any()):
                return False
    return True


def _nudged(units: Sequence[Sequence[int]]) -> Callable[[Tensor], Tensor]:
    """A change of [row, token, unit]: row k of the first half has head k moved at token 1, of the second twice as far.

    The first row of all stays as it is.
    """

    def change(old: Tensor) -> Tensor:
        new, count = old.clone(), len(units)
        noise = torch.randn(old.shape[-1], generator=torch.Generator().manual_seed(0)).to(old)
        step = STEP * old[0, 1].float().std().to(old.dtype) * noise
        for k, own in enumerate(units):
            new[k + 1, 1, list(own)] += step[list(own)]
            new[count + k + 1, 1, list(own)] += 2 * step[list(own)]
        return new

    return change
