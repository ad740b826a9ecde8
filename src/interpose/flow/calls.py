"""One call of one of torch's operations, as its schema describes it: what it reads and writes, and what it may hide."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .operations import each, parts
from .rules import RULES

FILLED = ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
"""Operations that take nothing from their tensors but the shape."""


@dataclass(frozen=True, eq=False)
class Call:
    """What is called with what.

    name: the operation's, without the underscore of its form in place. given: the arguments that are read, by name.
    written: the tensors that are overwritten.
    """

    func: Any
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    given: Mapping[str, Any]
    written: tuple[Tensor, ...]

    @classmethod
    def of(cls, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """A call as torch hands it to whoever listens."""
        given: dict[str, Any] = {}
        written: list[Tensor] = []
        for place, argument in enumerate(func._schema.arguments):
            value = args[place] if place < len(args) else kwargs.get(argument.name, argument.default_value)
            overwritten = argument.alias_info is not None and argument.alias_info.is_write
            written += parts([value], Tensor) if overwritten else []
            if not (overwritten and argument.kwarg_only):  # what is only written is not read
                given[argument.name] = value
        name = str(func._schema.name).split("::")[1]
        return cls(func, name.removesuffix("_") if written else name, args, kwargs, given, tuple(written))

    @property
    def fills(self) -> bool:
        """Whether what it gives depends on no number in any tensor."""
        return self.name in FILLED

    @property
    def chance(self) -> bool:
        """Whether what it gives is random, or whatever stands in memory."""
        draws = torch.Tag.nondeterministic_seeded in self.func.tags or "generator" in self.given
        return draws or self.name.startswith(("empty", "new_empty"))

    @property
    def pointwise(self) -> bool:
        """Whether every number it gives depends on numbers at the same place, after broadcasting."""
        not_in_place = getattr(getattr(torch.ops.aten, self.name, None), self.func._overloadname, self.func)
        return torch.Tag.pointwise in self.func.tags or torch.Tag.pointwise in not_in_place.tags

    def obstacle(self, loose: Collection[Tensor]) -> str | None:
        """Why its result for one input says nothing of others, or None. loose: what it reads that is not known."""
        if not isinstance(self.func, torch._ops.OpOverload) or (loose and self.func.namespace not in ("aten", "prims")):
            return f"{self.func} is no operation of torch's own"
        trains = self.given.get("training", self.name != "_native_batch_norm_legit_no_training")
        if self.given.get("running_mean") is not None and trains:
            return f"{self.func} changes running statistics"
        indices = parts(self.given.get("indices"), Tensor) if self.name in ("index", "index_put") else []
        loose_ids = {id(tensor) for tensor in loose}
        if any(id(index) in loose_ids and index.dtype in (torch.bool, torch.uint8) for index in indices):
            return f"{self.func} chooses as many numbers as other numbers say"
        by_value = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(self.func.tags)
        if loose and by_value and self.name != "index":
            return f"{self.func} makes a number or a shape of what it reads"
        return None

    def unknown_shape(self, real: tuple[Any, Any], gave: Any) -> str | None:
        """Why the shapes that it gave may hold for this input only, or None, as for all that there are rules for."""
        if self.name in RULES or self.pointwise:
            return None
        args, kwargs = each(real, _without_data, Tensor)
        try:
            shapes = [t.shape for t in parts([self.func(*args, **kwargs)], Tensor)]
        except Exception as error:  # noqa: BLE001 - what torch cannot tell the shape of is not understood
            return f"{self.func} gives shapes that are not known without data ({type(error).__name__})"
        same = shapes == [t.shape for t in parts([gave], Tensor)]
        return None if same else f"{self.func} gives shapes that depend on data"


def _without_data(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
