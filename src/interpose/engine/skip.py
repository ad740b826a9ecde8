"""Compare and skip: a token whose input equals its base row's has its base row's output.

True of every call that treats each token by itself, whatever the tokens mean: equal input, equal output. So such a call
need only be made for the tokens that differ, all of them packed into one, and for the base rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..structures import bits, tensors, version_of
from .axes import close

SMALLEST = 2**14
"""Modules with fewer weights are called in full: comparing would cost more than it saves."""

LARGE = 1e3
"""How large the numbers are that are put where nothing should depend on them."""

CROWDED = 0.9
"""Where more than this share of the tokens differ, the call is made in full."""


Known = Mapping[int, tuple[Tensor, Tensor]]
"""What token-wise calls of the base run took and gave, by the numbers of the calls."""


@dataclass
class Comparison:
    """The rows of one pass, and which of their tokens differ from those of their base rows.

    owner: [row], for all but the first `base` rows, which base row each belongs to.
    base: how many of the first rows are base rows; 0 where what base rows give is known from the base run.
    """

    owner: Tensor
    base: int
    known: Known
    last: tuple[Tensor, int, Tensor] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        size = int(self.owner.max()) + 1 if len(self.owner) else 1
        blocks, left = divmod(len(self.owner), size)
        whole = not left and bool((self.owner == torch.arange(size, device=self.owner.device).repeat(blocks)).all())
        self.blocks = (blocks, size) if whole else None  # every base row in its turn, again and again

    @property
    def rows(self) -> int:
        """How many rows the pass has."""
        return self.base + len(self.owner)

    def live(self, x: Tensor, base: Tensor) -> Tensor:
        """[row, ...]: where the later rows' vectors differ from those of their base rows."""
        if self.last is not None and self.last[0] is x and self.last[1] == version_of(x):
            return self.last[2]  # query, key and value, gate and up, are made of one tensor
        later = x[self.base :]
        if self.blocks is not None and self.blocks[1] <= len(base) and later.is_contiguous():
            blocks, size = self.blocks
            differs = (bits(later.view(blocks, size, *later.shape[1:])) != bits(base[:size])).view(later.shape)
        else:
            differs = bits(later) != bits(base.index_select(0, self.owner))
        words = differs.is_contiguous() and differs.shape[-1] % 8 == 0
        mask = differs.view(torch.int64).amax(-1) != 0 if words else differs.any(-1)
        self.last = x, version_of(x), mask
        return mask

    def call(
        self, i: int, forward: Callable[..., Tensor], x: Tensor, *, last_only: bool = False
    ) -> tuple[Tensor, float]:
        """What token-wise call number i gives for x, made for the tokens that differ; and for which share of all.

        last_only: nothing reads what it gives but at the last token.
        """
        if not self.base and i not in self.known:
            return forward(x), 1.0
        base = x[: self.base] if self.base else self.known[i][0]
        if base.shape[1:] != x.shape[1:]:
            return forward(x), 1.0
        live = self.live(x, base)
        if last_only and live.ndim == 2:
            live = live.clone()
            live[:, :-1] = False
        chosen = live.reshape(-1).nonzero()[:, 0]
        if len(chosen) > CROWDED * live.numel():
            return forward(x), 1.0
        tokens, width = live[0].numel(), x.shape[-1]
        wanted = chosen + self.base * tokens
        if self.base:
            wanted = torch.cat([torch.arange(self.base * tokens, device=x.device), wanted])
        packed = x.reshape(-1, width).index_select(0, wanted)
        gave = forward(packed if x.ndim == 2 else packed[:, None])
        gave = gave.reshape(len(packed), gave.shape[-1])
        known = gave[: self.base * tokens].reshape(self.base, *x.shape[1:-1], -1) if self.base else self.known[i][1]
        return self._filled(known, gave, wanted), len(packed) / (self.rows * tokens)

    def _filled(self, known: Tensor, gave: Tensor, wanted: Tensor) -> Tensor:
        """The base rows' outputs in all rows, and what was computed in its places."""
        whole = torch.empty(self.rows, *known.shape[1:], dtype=gave.dtype, device=gave.device)
        if self.blocks is not None:
            blocks, size = self.blocks
            whole[self.base :].view(blocks, size, *known.shape[1:]).copy_(known[:size])
        else:
            torch.index_select(known, 0, self.owner, out=whole[self.base :])
        whole.view(-1, gave.shape[-1]).index_copy_(0, wanted, gave)
        return whole


def is_tokenwise(module: nn.Module, forward: Callable[..., Any], called: Any, output: Any) -> bool:
    """Whether a call treats each token by itself: its output for all tokens is its output for each as a row of its own.

    forward: the module's own; called: the arguments it was called with; output: what it gave.
    """
    args, kwargs = called
    if len(args) != 1 or tensors(kwargs) or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
        return False
    (x,) = args
    if not x.is_floating_point() or x.ndim not in (2, 3) or output.shape[:-1] != x.shape[:-1]:
        return False
    if not any(True for _ in module.parameters()):
        return False
    if is_linear(module):
        return True
    if x.ndim == 2:
        return False
    rows = x.reshape(-1, 1, x.shape[-1])
    try:
        gave = forward(rows.clone(), **kwargs)
        same = isinstance(gave, Tensor) and gave.shape == (*rows.shape[:2], output.shape[-1])
        return same and close(gave.reshape(output.shape), output) and not _is_reached(forward, x, kwargs, output)
    except Exception:  # noqa: BLE001 - a module that cannot take tokens as rows does not treat each by itself
        return False


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer as torch has it, which nobody gave another `forward`."""
    return type(module) is nn.Linear and "forward" not in module.__dict__


def _is_reached(forward: Callable[..., Tensor], x: Tensor, kwargs: Mapping[str, Any], output: Tensor) -> bool:
    """Whether what a call gives for some tokens depends on the others: NaN there, or large numbers, would show.

    What differs by little beside the largest of all numbers, as it may where the shape is another, may still do so.
    """
    if x.shape[1] > 1:
        x, output = x[:1], output[:1]  # neighbours in one row; else those in others
    number = torch.arange(x.shape[0] * x.shape[1], device=x.device).view(*x.shape[:2], 1)
    kept = torch.stack([number % 2 == 0, number % 2 == 1])
    large = LARGE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spoilt = torch.stack([torch.where(kept, x, other) for other in (torch.full_like(x, torch.nan), large.to(x))])
    gave = forward(spoilt.reshape(-1, *x.shape[1:]), **kwargs).reshape(2, 2, *output.shape)
    found, expected = (x[kept.expand(2, 2, *output.shape)] for x in (gave, output.expand_as(gave)))
    return not close(found, expected) or bool((found.isnan() & ~expected.isnan()).any())
