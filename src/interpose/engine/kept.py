"""Values that are made when they are asked for, a few at a time: what lies between them stays near the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

Take = Callable[[slice], Tensor]
"""Gives some of the values, one after another."""

STEP = 2**19
"""Bytes of values that are made at a time on a processor with caches."""


class Kept:
    """Values [value, ...], given, or as a function that makes some of them from others that do not change.

    They are made once, when they are asked for, together with those that they alone are made of.
    """

    def __init__(self, values: Tensor | Take, count: int) -> None:
        self.count = count
        self._made = values if isinstance(values, Tensor) else None
        self._make = values.__getitem__ if isinstance(values, Tensor) else values
        self.first = self._make(slice(0, 1))
        self._wanted = False

    def whole(self) -> Tensor:
        """All of them."""
        if self._made is None:
            size = self.first.numel() * self.first.element_size()
            most = max(1, STEP // max(1, size)) if self.first.device.type == "cpu" else self.count
            self._made = joined(self.parts(most), self.count)
            self._make = self._made.__getitem__
        return self._made

    def parts(self, most: int) -> Iterator[Tensor]:
        """All of them, at most so many at a time; those that are not made yet are made for this time only."""
        for start, stop in self._steps(most):
            with torch._C._DisableAutocast():  # casts that autocast asked for are operations of their own
                part = self._make(slice(start, stop))
            yield part

    def _steps(self, most: int) -> Iterator[tuple[int, int]]:
        size = -(-self.count // -(-self.count // most))
        return ((start, min(start + size, self.count)) for start in range(0, self.count, size))

    def take(self) -> Take:
        """A function that gives some of them. They are made here where others want them, too."""
        if self._wanted:
            self.whole()
        self._wanted = True
        return lambda where: self._make(where)


def joined(parts: Iterable[Tensor], count: int) -> Tensor:
    """[value, ...]: parts one after another; each is let go before the next is made."""
    whole: Tensor | None = None
    at = 0
    for part in parts:
        if len(part) == count:
            return part
        whole = part.new_empty(count, *part.shape[1:]) if whole is None else whole
        whole[at : at + len(part)] = part
        at += len(part)
    assert whole is not None
    return whole
