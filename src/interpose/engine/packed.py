"""A tensor of a pass that is kept as the entries of its base rows and those that differ from them.

It stands for [row, ...] like any other tensor and says so, but most of its rows' tokens are held only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..structures import bits
from .kept import Kept, Take
from .live import Batch, Live


class Unpacked(Exception):
    """Something was done with a packed tensor that is not known to treat entries, or rows, one by one."""


class Packed(Tensor):
    """[row, ...] as [value, ...]: entries of base rows, then live ones; all others equal those of their base rows.

    kept: their values. live: which entries these are. axis: the axis that they have in [row, ...]; 0 where they lie
    along the first, row by row: then an entry is a row, or rows and entries are one axis.
    """

    kept: Kept
    live: Live
    axis: int

    operate: Callable[..., Any]  # what to do for an operation; `packing.py` puts it here

    @staticmethod
    def __new__(cls, values: Kept | Tensor | Take, live: Live, axis: int) -> Packed:
        kept = values if isinstance(values, Kept) else Kept(values, live.count)
        rest = kept.first.shape[1:]
        if axis:
            shape = (live.batch.rows, *rest[: axis - 1], live.each, *rest[axis - 1 :])
        else:
            shape = (live.batch.rows * live.each, *rest)
        made = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=kept.first.dtype, device=kept.first.device)
        made.kept, made.live, made.axis = kept, live, axis
        return made

    @property
    def entries(self) -> Tensor:
        """[value, ...]: the values of the entries."""
        return self.kept.whole()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What is done with a packed tensor in Python: it goes on to `operate`, before anyone who counts operations."""
        with torch._C.DisableTorchFunctionSubclass():
            if getattr(func, "__name__", "") == "__get__":
                return func(*args)
            with _Packing():
                return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # pyrefly: ignore[bad-override]  - torch's own signature leaves out the class
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """What is done with a packed tensor elsewhere."""
        return Packed.operate(func, args, kwargs or {})

    def _nowhere(self, *args: Any, **kwargs: Any) -> Any:
        self.live.batch.refusals.append("a packed tensor lies nowhere in memory")
        raise Unpacked(self.live.batch.refusals[-1])

    data_ptr = untyped_storage = storage = numpy = tolist = __array__ = __dlpack__ = share_memory_ = _nowhere
    __deepcopy__ = __reduce_ex__ = _nowhere

    def __repr__(self, **_: Any) -> str:
        return f"Packed({tuple(self.shape)}, {self.live.count} values)"

    # -- other forms -------------------------------------------------------------------------------

    @property
    def row_bytes(self) -> int:
        """What one row would take."""
        return self.numel() * self.element_size() // len(self)

    def of(self, rows: Tensor, start: int = 0) -> Tensor:
        """Some of the rows, themselves, from an entry on. Raises Unpacked where rows and entries are one axis."""
        live = self.live
        if not self.axis and live.each > 1:
            raise Unpacked("rows and entries are one axis")
        index = live.lookup.view(-1, live.each).index_select(0, rows)[:, start:]
        found = self.entries.index_select(0, index.reshape(-1))
        return found.view(*index.shape, *found.shape[1:]).movedim(1, self.axis) if self.axis else found

    def dense(self) -> Tensor:
        """The tensor itself, [row, ...]."""
        if self.axis:
            return self.of(torch.arange(self.live.batch.rows, device=self.device))
        return self.entries.index_select(0, self.live.lookup)

    def rows(self) -> Packed:
        """With rows as entries. Raises Unpacked where rows and entries are one axis."""
        if not self.axis and self.live.each == 1:
            return self
        if self.axis and self.live.whole is not None:
            whole = self.entries.reshape(-1, self.live.each, *self.entries.shape[1:])
            return Packed(whole.movedim(1, self.axis), self.live.whole, 0)
        return Packed(self.of(self.live.rows.places), self.live.rows, 0)

    def along(self, axis: int) -> Packed:
        """With the places on an axis as entries, those that differ from their base rows'."""
        if self.axis == axis:
            return self
        rows = self.live.rows
        parts = ((some, self.of(some).movedim(axis, 1), 0) for some in rows.parts(self.row_bytes))
        return sifted(parts, self.live.batch, axis, rows.count * self.shape[axis])

    def tokens(self) -> Packed:
        """With the vectors along its last axis as entries, where it is [row, token, unit] or [row, unit]."""
        if self.ndim not in (2, 3):
            raise Unpacked(f"a token is a vector in [row, token, unit], not in {tuple(self.shape)}")
        return self.along(1) if self.ndim == 3 else self if not self.axis else self.rows()

    def spread(self, live: Live) -> Take:
        """The values of another choice of live entries, which ours are among."""
        if live is self.live:
            return self.kept.take()
        entries, found = self.entries, self.live.found_in(live)
        return lambda where: entries.index_select(0, found[where])

    def edited(self, changes: Sequence[tuple[slice, Callable[[Tensor], Tensor]]]) -> Packed:
        """With functions of them in place of some rows, one function after another; the rows are given as they are."""
        packed = self.tokens() if self.ndim == 3 else self.rows()
        live, axis = packed.live, packed.axis
        slices = list(dict.fromkeys((rows.start, rows.stop) for rows, _ in changes))
        rows = torch.cat([torch.arange(*ends, device=live.at.device) for ends in slices])
        packed.kept.whole(room=len(rows) * live.each)
        old = packed.of(rows)
        parts = dict(zip(slices, old.split([stop - start for start, stop in slices]), strict=True))
        for place, change in changes:
            parts[place.start, place.stop] = change(parts[place.start, place.stop])
        new = torch.cat(list(parts.values()))
        new = new.movedim(axis, 1) if axis else new[:, None]
        base = packed.entries[: live.base].reshape(-1, live.each, *packed.entries.shape[1:])
        found = unlike(new, base, live.batch.owner.index_select(0, rows)).view(-1).nonzero()[:, 0]
        new = new.reshape(-1, *packed.entries.shape[1:]).index_select(0, found)
        at = rows.index_select(0, found // live.each) * live.each + found % live.each
        written = torch.zeros(live.batch.rows, dtype=torch.bool, device=rows.device)
        written[rows] = True
        kept, places = (~written[live.places // live.each]).nonzero()[:, 0], live.places
        if len(kept) < len(places):
            places = places[kept]
            entries = torch.cat([packed.entries.index_select(0, kept), new])
        else:
            entries = packed.kept.followed_by(new)
        return Packed(entries, Live(live.batch, live.each, torch.cat([places[live.base :], at])), axis)


class _Packing(TorchDispatchMode):
    """Sees operations before the modes around it do, which see those on plain tensors that they become."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Packed.operate(func, args, kwargs or {}) if Packed in types else func(*args, **(kwargs or {}))


def packed_rows(batch: Batch, whole: Tensor) -> Packed:
    """A tensor [row, ...] as base rows and those that differ from them."""
    if whole.stride(0) == 0:
        return Packed(whole[: batch.base], batch.none(), 0)
    each = whole.reshape(len(whole), 1, -1)
    differs = unlike(each[batch.base :], each, batch.owner[batch.base :])[:, 0]
    at = differs.nonzero()[:, 0] + batch.base
    kept = torch.cat([torch.arange(batch.base, device=at.device), at])
    return Packed(whole.index_select(0, kept), Live(batch, 1, at), 0)


def sifted(parts: Iterable[tuple[Tensor, Tensor, int]], batch: Batch, axis: int, most: int) -> Packed:
    """A packed tensor with the entries of some rows that differ from their base rows'.

    parts: which rows, [row, entry, ...] what they hold, and from which entry on; base rows first, and all of these.
    axis: where the entries belong; most: how many entries the parts hold together, or more.
    """
    parts = iter(parts)
    _, base, _ = next(parts)
    each, shape = base.shape[1], base.shape[2:]
    count, at = batch.base * each, [batch.none().at]
    kept = base.new_empty(most, *shape)
    kept[:count] = base.reshape(-1, *shape)
    for rows, values, start in parts:
        row, entry = unlike(values, base[:, start:], batch.owner.index_select(0, rows)).nonzero().unbind(1)
        chosen = row * values.shape[1] + entry
        torch.index_select(values.reshape(-1, *shape), 0, chosen, out=kept[count : count + len(chosen)])
        count += len(chosen)
        at.append(rows.index_select(0, row) * each + start + entry)
    return Packed(kept[:count], Live(batch, each, torch.cat(at)), axis)


def unlike(rows: Tensor, base: Tensor, owner: Tensor) -> Tensor:
    """[row, entry]: where rows [row, entry, ...] differ from their base rows in a bit."""
    differs = _words(rows) != _words(base.index_select(0, owner))
    if differs.shape[-1] % 8 == 0 and differs.shape[-1]:
        return differs.view(torch.int64).amax(-1) != 0
    return differs.any(-1)


def _words(x: Tensor) -> Tensor:
    """[row, entry, ...] as [row, entry, word], whose bits are compared; whole words of eight bytes where they fit."""
    x = bits(x).reshape(*x.shape[:2], -1).contiguous()
    size = x.element_size()
    return x.view(torch.int64) if x.shape[-1] * size % 8 == 0 and x.storage_offset() * size % 8 == 0 else x


def named(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by their names."""
    arguments = func._schema.arguments
    named = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
    return named | {argument.name: given for argument, given in zip(arguments, args, strict=False)} | kwargs


def by_row(x: Tensor, ndim: int, like: Packed) -> Tensor:
    """A plain tensor that has a row for each of the batch as a packed one; others as they are."""
    if isinstance(x, Packed) or x.ndim < ndim or x.shape[0] == 1 or x.stride(0) == 0:
        return x
    batch = like.live.batch
    if len(x) != batch.rows or len(like) != batch.rows:
        raise Unpacked(f"a tensor of shape {tuple(x.shape)} does not have {batch.rows} rows")
    return batch.once(x, packed_rows)
