"""Calls of operations as rules are told of them: what goes in, of which some numbers are known and some are marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor that goes into an operation.

    number: which of the inputs that are not known it is; None where it is known.
    nonzero: of one that is known, whether it is not 0; None where it is nowhere 0, or where that does not count.
    value: of one that is known, its whole numbers or truth values. names: the parameters that it is made of.
    mask: of one that is not known, what of it is marked.
    """

    shape: torch.Size
    number: int | None
    nonzero: Tensor | None = None
    value: Tensor | None = None
    names: frozenset[str] = frozenset()
    mask: Tensor | None = None


@dataclass(frozen=True)
class Operation:
    """One call of an operation: its arguments by name, with operands for tensors, and the shapes of what it gives."""

    name: str
    given: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]
    device: torch.device
    pointwise: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first tensor it gives."""
        return tuple(self.shapes[0])

    def zeros(self, shape: Sequence[int] | None = None) -> Tensor:
        """Nothing marked."""
        return torch.zeros(tuple(self.shape if shape is None else shape), device=self.device)


def each(structure: Any, change: Callable[[Any], Any], kind: type = Operand) -> Any:
    """The same nested dicts, lists and tuples, with something else for everything of a kind."""
    if isinstance(structure, kind):
        return change(structure)
    if isinstance(structure, Mapping):
        return {name: each(part, change, kind) for name, part in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(each(part, change, kind) for part in structure)
    return structure


def parts(structure: Any, kind: type = Operand) -> list[Any]:
    """Everything of a kind in nested dicts, lists and tuples."""
    found: list[Any] = []
    each(structure, found.append, kind)
    return found
