"""What operations do to packed tensors: entries are treated by themselves, or rows; what is not known is refused.

Each rule says how an operation on [row, ...] is done on the values that are kept. None of them guesses: an operation
without a rule, a random one, and one that changes anything in place raise Unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..structures import version_of
from .attention import attention
from .kept import Kept, Take
from .live import Live
from .packed import Packed, Unpacked, by_row, named

aten = torch.ops.aten

DIRECT = {aten.add, aten.sub, aten.mul, aten.div}
"""Operations that can put what they give straight where it is kept; they often come last before it is."""


def operate(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What an operation gives that is given packed tensors. Raises Unpacked, and says so to the batch."""
    try:
        rule = RULES.get(func.overloadpacket) or (_pointwise if torch.Tag.pointwise in func.tags else _unknown)
        random = torch.Tag.nondeterministic_seeded in func.tags and rule is not attention
        if random or func._schema.is_mutable:
            raise Unpacked(f"{func} is random" if random else f"{func} changes a tensor in place")
        return rule(func, args, kwargs)
    except Unpacked as reason:
        for x in _tensors((args, list(kwargs.values()))):
            if isinstance(x, Packed):
                x.live.batch.refusals.append(str(reason))
        raise


Packed.operate = operate


def _tensors(given: Any) -> list[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    return [x for part in given for x in _tensors(part)] if isinstance(given, list | tuple) else []


def _wrapped(out: Any, live: Live, axis: int) -> Any:
    if isinstance(out, Tensor):
        return Packed(out, live, axis)
    return type(out)([Packed(part, live, axis) for part in out])


# -- several tensors at once -----------------------------------------------------------------------------


def _aligned(operands: Sequence[Tensor], *, rows: bool = False) -> tuple[list[Take], Live, int]:
    """What to compute with in place of tensors that are broadcast together; and what the results are entries of.

    rows: whether entries are to lie along the first axis.
    """
    ndim = max(x.ndim for x in operands)
    first = next(x for x in operands if isinstance(x, Packed))
    ours = [by_row(x, ndim, first) for x in operands]
    packed = [x for x in ours if isinstance(x, Packed)]
    if any(x.ndim != ndim for x in packed):
        raise Unpacked("rows would be broadcast along another axis")
    axis = 0 if rows else next((x.axis for x in packed if x.axis), 0)
    if axis and all(x.ndim + axis < ndim or x.shape[axis - ndim] in _lengths(x, first.shape[axis]) for x in ours):
        ours = [x.along(axis) if isinstance(x, Packed) else x for x in ours]
    elif axis or any(x.axis or x.live.each != first.live.each for x in packed):
        ours, axis = [x.rows() if isinstance(x, Packed) else x for x in ours], 0
    live = reduce(Live.united, [x.live for x in ours if isinstance(x, Packed)])
    return [x.spread(live) if isinstance(x, Packed) else _beside(x, live, axis, ndim) for x in ours], live, axis


def _lengths(x: Tensor, each: int) -> tuple[int, ...]:
    """How long an axis may be on which there are so many entries: they are not broadcast, but others are to them."""
    return (each,) if isinstance(x, Packed) else (1, each)


def _beside(x: Tensor, live: Live, axis: int, ndim: int) -> Take:
    """A plain tensor that is the same for all rows, as it stands beside values [value, ...]."""
    plain, version = x, version_of(x)  # views that are made here do not count with it
    if x.ndim == ndim and x.shape[0] != 1:
        x = x[:1]
    x = x[(None,) * (ndim - x.ndim)]
    by_entry = axis > 0 and x.shape[axis] > 1
    x = x[0].movedim(axis - 1, 0) if by_entry else x.squeeze(axis) if axis else x

    def take(where: slice) -> Tensor:
        if version_of(plain) != version:
            raise Unpacked("a tensor was changed in place after it was used")
        return x.index_select(0, live.entry[where]) if by_entry else x

    return take


def _pointwise(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Number by number."""
    given = [x.clone() if isinstance(x, Tensor) and not x.ndim else x for x in (*args, *kwargs.values())]
    if "device" in kwargs and kwargs["device"] not in (None, given[0].device):
        raise Unpacked("it is moved to another device")
    operands = [x for x in given if isinstance(x, Tensor) and x.ndim]
    takes, live, axis = _aligned(operands)

    def make(where: slice, func: Any = func, **out: Tensor) -> Tensor:
        parts = iter(take(where) for take in takes)
        all_given = [next(parts) if isinstance(x, Tensor) and x.ndim else x for x in given]
        return func(*all_given[: len(args)], **dict(zip(kwargs, all_given[len(args) :], strict=True)), **out)

    packet = func.overloadpacket
    if packet not in DIRECT or func._overloadname not in ("Tensor", "default"):
        return Packed(make, live, axis)
    return Packed(Kept(make, live.count, lambda where, out: make(where, packet.out, out=out)), live, axis)


def _cat(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Several tensors, one after the other along an axis inside of entries, or of rows."""
    operands = [x for x in args[0] if x.ndim > 1 or x.numel()]  # a cache that is empty counts for nothing
    like = next(x for x in operands if isinstance(x, Packed))
    dim = named(func, args, kwargs)["dim"] % like.ndim
    if dim == 0 or any(not isinstance(x, Packed) and len(x) != len(like) for x in operands):
        raise Unpacked("rows are put beside others")
    takes, live, axis = _aligned(operands, rows=dim == like.axis)

    def make(where: slice) -> Tensor:
        parts = [take(where) for take in takes]
        return func([x.expand(max(map(len, parts)), *x.shape[1:]) for x in parts], _inside(dim, axis))

    return Packed(make, live, axis)


def _stack(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Several tensors, side by side on an axis of their own."""
    dim = named(func, args, kwargs)["dim"] % (args[0][0].ndim + 1)
    beside = [_unsqueeze(func, [x, dim], {}) if isinstance(x, Packed) else x.unsqueeze(dim) for x in args[0]]
    return _cat(aten.cat.default, [beside, dim], {})


def _products(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Matrix products of rows, or of heads of rows, with their own matrices: bmm, baddbmm."""
    takes, live, axis = _aligned([x for x in args if isinstance(x, Tensor)], rows=True)
    parts = [take(slice(None)) for take in takes]
    return Packed(func(*(x.expand(live.count, *x.shape[1:]) for x in parts), **kwargs), live, axis)


def _times_weights(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Vectors times one matrix: mm, and addmm with one bias."""
    *bias, x, weights = args
    plain = not any(isinstance(other, Packed) or other.ndim > 1 for other in bias) and not isinstance(weights, Packed)
    if not plain or not isinstance(x, Packed) or x.axis:
        raise Unpacked("packed is what a matrix is multiplied with, or added to")
    return Packed(func(*bias, x.entries, weights, **kwargs), x.live, 0)


# -- along axes ------------------------------------------------------------------------------------------


def _inside(dim: int, axis: int) -> int:
    """Which axis of values [value, ...] an axis of [row, ...] is that is neither the rows' nor the entries'."""
    return dim - (0 < axis < dim)


def _along(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Along some axes, or cut there: not those of rows; if it is that of entries, then in whole rows."""
    x = args[0]
    given = named(func, args, kwargs)
    name = "dims" if "dims" in given else "dim"
    dim = given.get(name)
    dims = [d % x.ndim for d in ([dim] if isinstance(dim, int) else dim or [0])]
    if not isinstance(x, Packed) or 0 in dims or any(isinstance(other, Packed) for other in args[1:]):
        return _unknown(func, args, kwargs)
    x = x.rows() if x.axis in dims else x
    inside = [_inside(d, x.axis) for d in dims]
    given |= {name: inside[0] if isinstance(dim, int) else inside}
    first, take = func(**{**given, "self": x.kept.first}), x.kept.take()
    one = first if isinstance(first, Tensor) else first[0]
    before = [d for d in dims if d < x.axis and (func.overloadpacket is not aten.squeeze or x.shape[d] == 1)]
    gone = len(before) if one.ndim < x.kept.first.ndim else 0
    if one is first:
        return Packed(lambda where: func(**{**given, "self": take(where)}), x.live, x.axis - gone)
    return _wrapped(func(**{**given, "self": x.entries}), x.live, x.axis - gone)


def _slice(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A part of an axis: of the entries', some of them; of the rows', all."""
    x, given = args[0], named(func, args, kwargs)
    dim = given["dim"] % x.ndim
    chosen = range(x.shape[dim])[slice(given["start"], given["end"], given["step"])]
    if len(chosen) == x.shape[dim] and given["step"] == 1:
        return Packed(x.kept, x.live, x.axis)
    if dim != x.axis or not dim:
        return _along(func, args, kwargs)
    live, kept = x.live.chosen(chosen)
    return Packed(x.entries.index_select(0, kept), live, x.axis)


def _select(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """One place on an axis, which is gone then."""
    x, dim, index = args
    if dim % x.ndim != x.axis or not x.axis:
        return _along(func, args, kwargs)
    live, kept = x.live.chosen([index % x.live.each])
    return Packed(x.entries.index_select(0, kept), live, 0)


def _last_axes(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Over the last axes, whose lengths are given: a layer norm."""
    x, shape = args[:2]
    if len(shape) >= x.ndim or any(isinstance(other, Packed) for other in args[1:]):
        raise Unpacked(f"{func} goes along the rows")
    x = x.rows() if x.axis >= x.ndim - len(shape) else x
    return _wrapped(func(x.entries, *args[1:], **kwargs), x.live, x.axis)


# -- other shapes ----------------------------------------------------------------------------------------


def _same(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The same tensor."""
    return Packed(args[0].kept, args[0].live, args[0].axis)


def _view(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The same numbers in their order, in another shape, in which rows are still the first axis or part of it."""
    x, shape = args
    if not isinstance(shape, list | tuple | torch.Size):
        raise Unpacked("bytes are taken for other numbers")
    missing = x.numel() // max(1, -prod(shape)) if -1 in shape else 0
    shape = [missing if size == -1 else size for size in shape]
    found = _reshaped(x, shape)
    if found is None and x.axis:
        found = _reshaped(x.rows(), shape)
    if found is None:
        raise Unpacked(f"{tuple(x.shape)} is viewed as {tuple(shape)}")
    return found


def _reshaped(x: Packed, shape: list[int]) -> Packed | None:
    live, axis, rows = x.live, x.axis, x.live.batch.rows
    each, old = live.each, x.shape
    if axis and shape[0] == rows:
        for i in range(1, len(shape)):
            around = prod(shape[1:i]), prod(shape[i + 1 :])
            if shape[i] == each and around == (prod(old[1:axis]), prod(old[axis + 1 :])):
                return Packed(x.entries.reshape(-1, *shape[1:i], *shape[i + 1 :]), live, i)
    elif (axis and shape[0] == rows * each and prod(old[1:axis]) == 1) or (not axis and shape[0] == len(x)):
        return Packed(x.entries.reshape(-1, *shape[1:]), live, 0)
    elif not axis and each > 1 and shape[0] == rows and shape[1] == each:
        return Packed(x.entries.reshape(-1, *shape[2:]), live, 1)
    elif not axis and live.whole is not None and shape[0] == rows:
        return Packed(x.entries.reshape(-1, *shape[1:]), live.whole, 0)
    elif not axis and each == 1 and shape[0] > rows and shape[0] % rows == 0:
        return Packed(x.entries.reshape(-1, *shape[1:]), live.folded(shape[0] // rows), 0)
    return None


def _permute(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Axes in another order, rows first."""
    x = args[0]
    if func.overloadpacket is aten.permute:
        dims = [d % x.ndim for d in args[1]]
    else:
        one, other = (d % x.ndim for d in args[1:])
        dims = [{one: other, other: one}.get(d, d) for d in range(x.ndim)]
    if dims[0] != 0:
        raise Unpacked("rows are no longer the first axis")
    inside = [_inside(d, x.axis) for d in dims[1:] if d != x.axis]
    return Packed(x.entries.permute(0, *inside), x.live, dims.index(x.axis))


def _unsqueeze(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """One more axis."""
    x, dim = args[0], args[1] % (args[0].ndim + 1)
    if dim == 0:
        raise Unpacked("rows are no longer the first axis")
    before = x.axis > 0 and dim <= x.axis
    return Packed(x.entries.unsqueeze(dim - (0 < x.axis < dim)), x.live, x.axis + before)


def _expand(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Axes of length 1 made longer."""
    x, shape = args[0], list(args[1])
    if len(shape) != x.ndim or shape[0] not in (-1, len(x)):
        raise Unpacked("rows are no longer the first axis")
    if x.axis and shape[x.axis] not in (-1, x.live.each):
        x = x.rows()
    inside = [size for d, size in enumerate(shape) if d not in (0, x.axis)]
    return Packed(x.entries.expand(-1, *inside), x.live, x.axis)


# -- whatever else ---------------------------------------------------------------------------------------


def _looked_up(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The lines of a table at some numbers: embedding, and table[numbers]."""
    table, numbers, *others = args
    (numbers,) = numbers if isinstance(numbers, list | tuple) and len(numbers) == 1 else (numbers,)
    if isinstance(table, Packed) or not isinstance(numbers, Packed) or numbers.dtype == torch.bool:
        return _unknown(func, args, kwargs)
    entries = [numbers.entries] if func.overloadpacket is aten.index else numbers.entries
    return Packed(func(table, entries, *others, **kwargs), numbers.live, numbers.axis)


def _unknown(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Numbers of tokens, masks and the like are small: what is done with them is done in full, unless it is a view."""
    given = _tensors((list(args), list(kwargs.values())))
    if any(isinstance(x, Packed) and x.is_floating_point() for x in given):
        raise Unpacked(f"{func} is not known to treat rows one by one")
    if any(out.alias_info is not None for out in func._schema.returns):
        raise Unpacked(f"{func} shares memory")

    def dense(x: Any) -> Any:
        if isinstance(x, list | tuple):
            return type(x)([dense(part) for part in x])
        return x.dense() if isinstance(x, Packed) else x

    return func(*map(dense, args), **{name: dense(x) for name, x in kwargs.items()})


RULES: dict[Any, Callable[[Any, Sequence[Any], dict[str, Any]], Any]] = {
    getattr(aten, name): rule
    for rule, names in {
        _pointwise: "_to_copy masked_fill zeros_like ones_like full_like",
        _along: "mean sum amax amin prod var std logsumexp argmax argmin any all max min linalg_vector_norm cumsum "
        "topk sort flip index_select _softmax _log_softmax _safe_softmax split split_with_sizes unbind squeeze",
        _last_axes: "native_layer_norm _fused_rms_norm",
        _cat: "cat",
        _stack: "stack",
        _products: "bmm baddbmm",
        _times_weights: "mm addmm",
        attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention",
        _view: "view _unsafe_view _reshape_alias",
        _permute: "permute transpose",
        _unsqueeze: "unsqueeze",
        _expand: "expand",
        _slice: "slice",
        _select: "select",
        _same: "alias detach lift_fresh",
        _looked_up: "embedding index",
    }.items()
    for name in names.split()
    if hasattr(aten, name)
}
"""What is known of operations, beside those that torch calls pointwise."""
