"""Values that are made when they are asked for, a few at a time: what lies between them stays near the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
            for _ in self.parts(max(1, STEP // max(1, size)) if self.first.device.type == "cpu" else self.count):
                pass
        assert self._made is not None
        return self._made

    def parts(self, most: int) -> Iterator[Tensor]:
        """All of them, at most so many at a time; those that are not made yet are made as they are given."""
        size = -(-self.count // -(-self.count // most))
        if self._made is not None:
            yield from self._made.split(size)
            return
        whole = self.first.new_empty(self.count, *self.first.shape[1:])
        for start in range(0, self.count, size):
            with torch._C._DisableAutocast():  # casts that autocast asked for are operations of their own
                whole[start : start + size] = self._make(slice(start, start + size))
            yield whole[start : start + size]
        self._made, self._make = whole, whole.__getitem__

    def take(self) -> Take:
        """A function that gives some of them. They are made here where others want them, too."""
        if self._wanted:
            self.whole()
        self._wanted = True
        return lambda where: self._make(where)
