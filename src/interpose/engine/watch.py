"""Whether a run looks at what it computed: then it may go another way for a whole batch than for one of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..structures import tensors
from .probe import Refused

LOOKS = {
    *(Tensor.__bool__, Tensor.__float__, Tensor.item, Tensor.tolist, torch.is_nonzero, Tensor.is_nonzero),
    *(torch.equal, Tensor.equal, torch.allclose, Tensor.allclose),
}
"""What makes numbers of Python of those in a tensor, or a single yes or no of whole tensors."""

FINITE = {
    f
    for name in ("isfinite", "isinf", "isnan", "isposinf", "isneginf")
    for f in (getattr(torch, name), getattr(Tensor, name))
}
"""What asks only whether there are numbers at all, as networks do before they clamp in half precision."""


class Watch(TorchFunctionMode):
    """Notes whether numbers that were computed, or whether they compare with others, are looked at in Python.

    Parameters and buffers may be looked at, and so may inputs and masks that are no floating-point numbers. Whole
    numbers may, too: which expert a token goes to is asked so, and every token by itself.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.looked, self._modules = False, modules
        self._computed = WeakTensorKeyDictionary()  # what is yes or no, of numbers that were computed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            if out.dtype == torch.bool and func not in FINITE and self._any(args, kwargs):
                self._computed[out] = True
        elif func in LOOKS:
            self.looked |= self._any(args, kwargs)
        return out

    @cached_property
    def _own(self) -> set[int]:
        """Parameters and buffers, which stay where they are as long as the run lasts."""
        return {id(x) for m in self._modules.values() for x in (*m._parameters.values(), *m._buffers.values())}

    def refuse(self) -> None:
        """Raise Refused if anything was looked at."""
        if self.looked:
            raise Refused("on its way the module looks at what it computed, and may go on otherwise for other rows")

    def _any(self, args: Any, kwargs: Any) -> bool:
        """Whether any of some tensors was computed."""
        return any(
            (x.is_floating_point() and id(x) not in self._own) or x in self._computed
            for x in tensors((args, kwargs or {})).values()
        )
