"""Which entries of a pass's rows have values of their own; all other entries have those of their base rows.

An entry is a token of a row, a head of it, or the row as a whole. Only indices are here, no values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..structures import version_of

NEAR, FAR = 2**21, 2**28
"""Bytes of the rows that are treated at a time, on a processor with caches and elsewhere."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of a pass, base rows first.

    owner: [row] the base row of each; base rows are their own. refusals: what was done with a packed tensor that may
    not be done, also where the network went on as if nothing had happened.
    """

    base: int
    owner: Tensor
    refusals: list[str] = field(default_factory=list)
    _seen: dict[int, tuple[Tensor, int, Any]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.owner)

    def none(self) -> Live:
        """Rows of which none differs from its base row."""
        return Live(self, 1, torch.zeros(0, dtype=torch.long, device=self.owner.device))

    def all(self) -> Live:
        """Rows that may all differ from their base rows."""
        return Live(self, 1, torch.arange(self.base, self.rows, device=self.owner.device))

    def once(self, x: Tensor, make: Callable[[Batch, Tensor], Any]) -> Any:
        """What is made of a tensor, made once as long as it is the same: a mask goes through every layer."""
        seen = self._seen.get(id(x))
        if seen is None or seen[1] != version_of(x):
            self._seen[id(x)] = seen = x, version_of(x), make(self, x)
        return seen[2]


class Live:
    """Some entries of some rows; values are kept for those of the base rows, in their order, and then for these.

    each: how many entries a row has. at: [live] where they are, as row * each + entry; none is a base row's.
    whole: the rows that they are all the entries of, in their order, if they are.
    """

    def __init__(self, batch: Batch, each: int, at: Tensor, whole: Live | None = None) -> None:
        self.batch, self.each, self.at, self.whole = batch, each, at, whole
        self._folded: dict[int, Live] = {}
        self._united: dict[Live, Live] = {}

    @property
    def base(self) -> int:
        """How many of the values are those of base rows."""
        return self.batch.base * self.each

    @property
    def count(self) -> int:
        """How many values there are."""
        return self.base + len(self.at)

    @cached_property
    def places(self) -> Tensor:
        """[value]: where it belongs, as row * each + entry."""
        return torch.cat([torch.arange(self.base, device=self.at.device), self.at])

    @cached_property
    def entry(self) -> Tensor:
        """[value]: which entry of its row it is."""
        return self.places % self.each

    @cached_property
    def lookup(self) -> Tensor:
        """[row * each + entry]: which value every entry has, its own or its base row's."""
        entries = torch.arange(self.each, device=self.at.device)
        lookup = (self.batch.owner[:, None] * self.each + entries).reshape(-1)
        lookup[self.at] = torch.arange(self.base, self.base + len(self.at), device=self.at.device)
        return lookup

    @cached_property
    def rows(self) -> Live:
        """The rows that have a live entry, each as one entry."""
        if self.whole is not None:
            return self.whole
        live = torch.zeros(self.batch.rows, dtype=torch.bool, device=self.at.device)
        live[self.at // self.each] = True
        return Live(self.batch, 1, live.nonzero()[:, 0])

    def parts(self, size: int) -> Iterator[Tensor]:
        """The rows, if an entry is a row, a few at a time, base rows first. size: the bytes of one."""
        near = NEAR if self.at.device.type == "cpu" else FAR
        yield self.places[: self.base]
        yield from self.at.split(max(1, near // max(1, size))) if len(self.at) else ()

    def folded(self, each: int) -> Live:
        """The same rows, if an entry is a row, with so many entries in each that are all live."""
        if each not in self._folded:
            at = (self.at[:, None] * each + torch.arange(each, device=self.at.device)).reshape(-1)
            self._folded[each] = Live(self.batch, each, at, whole=self)
        return self._folded[each]

    def chosen(self, entries: Sequence[int]) -> tuple[Live, Tensor]:
        """Rows of some of their entries, with the live ones among these; and [value] which of the values they keep."""
        place = torch.full((self.each,), -1, device=self.at.device)
        place[list(entries)] = torch.arange(len(entries), device=self.at.device)
        kept = (place[self.entry] >= 0).nonzero()[:, 0]
        base = self.batch.base * len(entries)
        at = self.places[kept[base:]]
        live = Live(self.batch, len(entries), at // self.each * len(entries) + place[at % self.each])
        return live, kept

    @cached_property
    def last(self) -> tuple[Live, Tensor]:
        """As many entries, of which only each row's last may be live; and [value] which of the values these keep."""
        kept = ((self.entry == self.each - 1) | (self.places < self.base)).nonzero()[:, 0]
        return Live(self.batch, self.each, self.places[kept[self.base :]]), kept

    def united(self, other: Live) -> Live:
        """The entries that are live in either."""
        if other is self:
            return self
        if other not in self._united:
            live = torch.zeros(self.batch.rows * self.each, dtype=torch.bool, device=self.at.device)
            live[self.at] = True
            live[other.at] = True
            at = live.nonzero()[:, 0]
            ours = next((one for one in (other, self) if len(one.at) == len(at)), None)
            self._united[other] = ours or Live(self.batch, self.each, at)
        return self._united[other]

    def found_in(self, other: Live) -> Tensor:
        """[value of the other]: which of our values it is, that of a base row where it is not live here."""
        return self.lookup.index_select(0, other.places)
