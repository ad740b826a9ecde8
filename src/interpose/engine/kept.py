"""Values that are made when they are asked for, a few at a time: what lies between them stays near the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

Take = Callable[[slice], Tensor]
"""Gives some of the values, one after another."""

Into = Callable[[slice, Tensor], object]
"""Puts some of the values where it is told to."""

STEP = 2**19
"""Bytes of values that are made at a time on a processor with caches."""


class Kept:
    """Values [value, ...], given, or as a function that makes some of them from others that do not change.

    They are made once, when they are asked for, together with those that they alone are made of.
    into: a function that makes them where it is told to, if there is one.
    """

    def __init__(self, values: Tensor | Take, count: int, into: Into | None = None) -> None:
        self.count, self._into = count, into
        self._roomy: Tensor | None = None
        self._made = values if isinstance(values, Tensor) else None
        self._make = values.__getitem__ if isinstance(values, Tensor) else values
        self.first = self._make(slice(0, 1))
        self._wanted = False

    def whole(self, room: int = 0) -> Tensor:
        """All of them. room: how many others are to find room after them, if they are made only now."""
        if self._made is None:
            size = self.first.numel() * self.first.element_size()
            most = max(1, STEP // max(1, size)) if self.first.device.type == "cpu" else self.count
            if self._into is None and not room:
                self._made = joined(self.parts(most), self.count)
            else:
                self._roomy = self.first.new_empty(self.count + room, *self.first.shape[1:])
                self._made = self._filled(self._roomy[: self.count], most)
            self._make, self._into = self._made.__getitem__, None
        return self._made

    def _filled(self, whole: Tensor, most: int) -> Tensor:
        for start, stop in self._steps(most):
            with torch._C._DisableAutocast():
                if self._into is None:
                    whole[start:stop] = self._make(slice(start, stop))
                else:
                    self._into(slice(start, stop), whole[start:stop])
        return whole

    def followed_by(self, others: Tensor) -> Tensor:
        """All of them, and then others: in the room after them, if there is enough that nobody has taken."""
        whole, roomy = self.whole(), self._roomy
        if roomy is None or len(roomy) < self.count + len(others):
            return torch.cat([whole, others])
        self._roomy = None
        roomy[self.count : self.count + len(others)] = others
        return roomy[: self.count + len(others)]

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
