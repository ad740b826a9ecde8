"""Where transformers keep their parts: names to look under, and checks by value that what is found there is the part.

A name is only a candidate. What attention and the MLP of a block add must be, together, what the block adds to the
residual stream. What does not pass is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from torch import Tensor, nn

from .sites import Site
from .structures import close, tensors
from .taps import Taps
from .units import declared_width, is_neural

ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
"""What blocks call their attention, if its class does not say that it is one."""

MLPS = ("mlp", "ffn", "feed_forward")
"""What blocks call their MLP; some have only its layers."""

DEEPER = ("SelfAttention", "DenseReluDense")
"""The same where they stand deeper in a block (T5)."""

CROSS = ("encoder_attn", "EncDecAttention", "crossattention")
"""What decoders call the attention to what an encoder made: a third part of a block."""

AFTER_ATTENTION = ("post_self_attn_layernorm", "post_attention_layernorm")
AFTER_MLP = ("post_mlp_layernorm", "post_feedforward_layernorm")
"""Norms that some blocks put between a part and the residual stream: then the part is what comes out of them."""

FACTORS = ("residual_multiplier",)
"""What configurations call a factor on all that is added to the residual stream."""


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
    cross: where attention to an encoder comes out, if it runs. between: where the stream is that the MLP is given: the
    one norm that gives it, or the parts that are added for it; none where the MLP is not given what attention added.
    """

    attention: Part
    mlp: Part | None
    hidden: str | None
    cross: Part | None = None
    between: tuple[Part, ...] = ()
    normed: bool = False


def cross_of(block: nn.Module) -> str | None:
    """The name of a block's attention to an encoder; None where it has none."""
    return next(iter(_deeper(block, CROSS)), None)


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


def candidates(block: nn.Module, width: int) -> tuple[list[str], list[str], list[str]]:
    """Where what attention adds may come out of a block, what attention to an encoder does, and what the MLP does.

    The most telling names first.
    """
    children = dict(block.named_children())
    attention, cross, mlp = attention_of(block), cross_of(block), mlp_of(block)
    linear = linear_to(block, width)
    own, far = ([n for n in linear if name and n.startswith(f"{name}.")] for name in (attention, cross))
    beside = [name for name in linear if name not in own and name not in far]
    after = [name for name in AFTER_ATTENTION if name in children]
    return (
        [*after, *([attention] if attention else []), *own[-1:]],
        [*([cross] if cross else []), *far[-1:]],
        [*(name for name in AFTER_MLP if name in children), *([mlp] if mlp else []), *beside[-1:]],
    )


class Watched(Taps):
    """What modules take and give in one run: the first tensor of each, by path, where they run once.

    leaf: by path and end, what that tensor is called, also where no other passes: with another kind of attention
    modules may pass more.
    """

    def __init__(self, paths: Iterable[str], modules: Mapping[str, nn.Module]) -> None:
        ends: tuple[Literal["input", "output"], ...] = ("input", "output")
        super().__init__([Site(path, end=end) for path in paths for end in ends], modules)
        self.took: dict[str, Tensor] = {}
        self.gave: dict[str, Tensor] = {}
        self.leaf: dict[tuple[str, str], str | None] = {}

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """Keeps a copy."""
        found = tensors(structure)
        for site in here if found else ():
            leaf, first = next(iter(found.items()))
            (self.took if site.end == "input" else self.gave)[site.path] = first.detach().clone()
            self.leaf[site.path, site.end] = leaf or None
        return structure

    def check(self, owner: str) -> None:
        """Forgets what ran several times; what did not run is not there."""
        for path in [path for path, calls in self.calls.items() if calls > 1]:
            self.took.pop(path, None)
            self.gave.pop(path, None)


def watched_in(path: str, block: nn.Module, width: int) -> list[str]:
    """The modules of a block that its parts are told by: candidates, norms, and the block itself."""
    named = [name for found in candidates(block, width) for name in found]
    return [path, *(f"{path}.{n}" for n in dict.fromkeys([*named, *_norms(block), *linear_to(block, width)]))]


def parts_of(path: str, block: nn.Module, width: int, factor: float, seen: Watched) -> Parts | None:
    """The parts of a block that, by value, add up to what it adds to the residual stream; None if none do.

    Where the stream itself is normalised (BERT), they add up to what the norms take.
    """
    before = seen.took[path]
    norms = [name for each in _norms(block) if (name := f"{path}.{each}") in seen.took]
    for names in _combined(path, block, width, seen):
        gave = [seen.gave[name] for name in names]
        if gave[0].shape != before.shape or any(x.numel() != before.numel() for x in gave):
            continue
        added = [factor * x.reshape(before.shape) for x in gave]
        passed = _passed(before, added, seen.gave[path], norms, seen)
        if passed is None:
            continue
        parts = [Part(name, seen.leaf[name, "output"]) for name in names]
        *attended, mlp = parts
        between, normed = tuple(attended), False
        if passed[-2] is not None:
            between, normed = (Part(passed[-2]),), True
        elif not _is_given(before + sum(added[:-2]), added[-2], path, seen):
            between = ()
        cross = attended[1] if len(attended) > 1 else None
        if gave[-1].shape != before.shape:
            return Parts(parts[0], None, None, cross, between, normed)
        hidden = _hidden(path, block, width, mlp.path.removeprefix(f"{path}."), seen)
        return Parts(parts[0], mlp, hidden, cross, between, normed)
    return None


def _combined(path: str, block: nn.Module, width: int, seen: Watched) -> Iterator[tuple[str, ...]]:
    """Paths of modules that ran and may give the parts of a block: one a part, in their order."""
    found = [[p for name in names if (p := f"{path}.{name}") in seen.gave] for names in candidates(block, width)]
    return product(*(paths for k, paths in enumerate(found) if paths or k != 1))


def _passed(
    stream: Tensor, added: Sequence[Tensor], after: Tensor, norms: Sequence[str], seen: Watched
) -> tuple[str | None, ...] | None:
    """Through which norm the stream goes after each part, None where it goes through none, to be what comes after.

    None if it comes to that in no way.
    """
    if not added:
        return () if close(stream, after) else None
    total = stream + added[0]
    for norm in (None, *(name for name in norms if close(seen.took[name], total))):
        rest = _passed(total if norm is None else seen.gave[norm], added[1:], after, norms, seen)
        if rest is not None:
            return (norm, *rest)
    return None


def _is_given(stream: Tensor, added: Tensor, path: str, seen: Watched) -> bool:
    """Whether a module in a block takes the stream with a part added to it, and not without."""
    total = stream + added
    return any(
        close(took.reshape(total.shape), total) and 2 * _apart(took, total) < _apart(took, stream)
        for name, took in seen.took.items()
        if name.startswith(f"{path}.") and took.numel() == total.numel()
    )


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.reshape(other.shape) - other).abs().max())


def _norms(block: nn.Module) -> list[str]:
    return [name for name, module in block.named_modules() if "norm" in type(module).__name__.lower()]


def _hidden(path: str, block: nn.Module, width: int, mlp: str, seen: Watched) -> str | None:
    """The layer whose input are the neurons of an MLP: the one that gives, by value, what the MLP gives."""
    attentions = [f"{name}." for name in (attention_of(block), cross_of(block)) if name]
    linear = [name for name in linear_to(block, width) if not any(map(name.startswith, attentions))]
    child = mlp_of(block) or mlp
    wholes = [seen.gave[f"{path}.{name}"] for name in dict.fromkeys((child, mlp)) if f"{path}.{name}" in seen.gave]
    for name in reversed(linear):
        gave = seen.gave.get(f"{path}.{name}")
        if gave is not None and any(close(gave, whole) for whole in wholes):
            return f"{path}.{name}"
    return None
