"""Compare and skip: a token whose input equals its base row's has its base row's output.

True of every call that treats each token by itself, whatever the tokens mean: equal input, equal output. So such a call
need only be made for the tokens that differ, all of them packed into one, and for the base rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..structures import tensors, version_of
from .axes import close

SMALLEST = 2**14
"""Modules with fewer weights are called in full: comparing would cost more than it saves."""

CROWDED = 0.7
"""Where more than this share of the tokens differ, the call is made in full."""


@dataclass
class Comparison:
    """The rows of one pass, and which of their tokens differ from those of their base row.

    base: how many of the first rows are base rows; owner: [row], which of them each later row belongs to.
    tokens: how many tokens calls were made for, in all.
    """

    base: int
    owner: Tensor
    last: tuple[Tensor, int, Tensor] | None = field(default=None, repr=False)

    def live(self, x: Tensor) -> Tensor:
        """[row, ...]: where the later rows' vectors differ from those of their base rows."""
        if self.last is not None and self.last[0] is x and self.last[1] == version_of(x):
            return self.last[2]  # query, key and value, gate and up, are made of one tensor
        mask = (x[self.base :] != x[: self.base].index_select(0, self.owner)).any(-1)
        self.last = x, version_of(x), mask
        return mask

    def call(self, forward: Callable[..., Tensor], x: Tensor, *, last_only: bool = False) -> tuple[Tensor, float]:
        """What a token-wise call gives for x, made for the tokens that differ alone; and for which share of them.

        last_only: nothing reads what it gives but at the last token.
        """
        live = self.live(x)
        if last_only and live.ndim == 2:
            live = live.clone()
            live[:, :-1] = False
        chosen = live.reshape(-1).nonzero()[:, 0]
        if len(chosen) > CROWDED * live.numel():
            return forward(x), 1.0
        width = x.shape[-1]
        flat = x[self.base :].reshape(-1, width)
        packed = torch.cat([x[: self.base].reshape(-1, width), flat.index_select(0, chosen)])
        gave = forward(packed if x.ndim == 2 else packed[:, None])
        gave = gave.reshape(len(packed), gave.shape[-1])
        known = gave[: len(packed) - len(chosen)].reshape(self.base, *x.shape[1:-1], -1)
        whole = torch.empty(len(x), *x.shape[1:-1], gave.shape[-1], dtype=gave.dtype, device=gave.device)
        whole[: self.base] = known
        torch.index_select(known, 0, self.owner, out=whole[self.base :])
        whole[self.base :].view(-1, gave.shape[-1]).index_copy_(0, chosen, gave[len(packed) - len(chosen) :])
        return whole, len(packed) / (len(packed) - len(chosen) + live.numel())


def is_tokenwise(module: nn.Module, forward: Callable[..., Any], called: Any, output: Any, smallest: int) -> bool:
    """Whether a call treats each token by itself: its output for all tokens is its output for each as a row of its own.

    forward: the module's own; called: the arguments it was called with; output: what it gave.
    """
    args, kwargs = called
    if len(args) != 1 or tensors(kwargs) or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
        return False
    (x,) = args
    if not x.is_floating_point() or x.ndim not in (2, 3) or output.shape[:-1] != x.shape[:-1]:
        return False
    if sum(parameter.numel() for parameter in module.parameters()) < max(smallest, 1):
        return False
    if type(module) is nn.Linear:
        return True
    if x.ndim == 2:
        return False
    rows = x.reshape(-1, 1, x.shape[-1])
    try:
        gave = forward(rows.clone(), **kwargs)
    except Exception:  # noqa: BLE001 - a module that cannot take tokens as rows does not treat each by itself
        return False
    same = isinstance(gave, Tensor) and gave.shape == (*rows.shape[:2], output.shape[-1])
    return same and close(gave.reshape(output.shape), output)
