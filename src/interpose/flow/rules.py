"""Which numbers of an operation's output can depend on which of its inputs, for the operations that are understood.

Every rule is a linear function of masks with nonnegative coefficients, 0 or at least 1, so that it can be transposed by
torch's own differentiation. For an operation that is not listed here, every output depends on every input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .operations import Operand, Operation, each, parts

aten = torch.ops.aten

Rule = Callable[[Operation], Tensor | list[Tensor]]


def marked(operation: Operation, masks: Sequence[Tensor], dense: bool) -> list[Tensor]:
    """What of the outputs depends on what is marked of the inputs that are not known; dense: if no weight were 0.

    Raises an exception of any kind where a rule does not fit the operation.
    """

    def filled(operand: Operand) -> Operand:
        if operand.number is not None:
            return replace(operand, mask=masks[operand.number].to(operation.device))
        return replace(operand, nonzero=None) if dense else operand

    call = replace(operation, given=each(operation.given, filled))
    gave = _rule(call)(call)
    outputs = gave if isinstance(gave, list) else [gave] * len(call.shapes)
    for mask, shape in zip(outputs, call.shapes, strict=True):
        if tuple(mask.shape) != tuple(shape):
            raise ValueError(f"the relation of {operation.name} gives {tuple(mask.shape)}, not {tuple(shape)}")
    return outputs


def _rule(call: Operation) -> Rule:
    """The rule of an operation, where it is one that takes account of all the inputs that are not known."""
    rule = RULES.get(call.name, anything)
    if call.pointwise and rule not in (product, chosen):
        return elementwise
    considered = CONSIDERED.get(rule, call.given.keys())
    loose = {name for name, part in call.given.items() if any(o.number is not None for o in parts(part))}
    return rule if loose <= set(considered) else anything


def anything(call: Operation) -> list[Tensor]:
    """Every output depends on every input."""
    total = call.zeros(())
    for operand in parts(call.given):
        if operand.mask is not None:
            total = total + operand.mask.sum()
    return [total.expand(tuple(shape)) for shape in call.shapes]


def elementwise(call: Operation) -> Tensor:
    """Every output depends on the input at the same place, after broadcasting."""
    return _sum(call, *parts(call.given))


def _sum(call: Operation, *operands: Any) -> Tensor:
    total = call.zeros()
    for operand in operands:
        if isinstance(operand, Operand) and operand.mask is not None:
            total = total + operand.mask.expand(call.shape)
    return total


def product(call: Operation) -> Tensor:
    """Elementwise, but for what is multiplied by a known 0."""
    total = call.zeros()
    for one, other in ((call["self"], call["other"]), (call["other"], call["self"])):
        if isinstance(one, Operand) and one.mask is not None:
            mask = one.mask
            if isinstance(other, Operand):
                mask = mask if other.nonzero is None else mask * other.nonzero.to(call.device)
            elif other == 0:
                mask = mask * 0
            total = total + mask.expand(call.shape)
    return total


def chosen(call: Operation) -> Tensor | list[Tensor]:
    """Of two values the one that a known condition chooses; both, and the condition, where it is not known."""
    if call.name == "masked_fill":
        condition, yes, no = call["mask"], call["value"], call["self"]
    else:
        condition, yes, no = call["condition"], call["self"], call["other"]
    if condition.value is None:
        return elementwise(call)
    here = condition.value.to(call.device).float()
    return _sum(call, _times(yes, here), _times(no, 1 - here))


def _times(operand: Any, factor: Tensor) -> Any:
    loose = isinstance(operand, Operand) and operand.mask is not None
    return replace(operand, mask=operand.mask * factor) if loose else operand


# -- sums of products --------------------------------------------------------------------------------


def contraction(call: Operation) -> Tensor:
    """Matrix products, of which a known 0 in one factor hides the other."""
    left, right, *added = (call[name] for name in FACTORS[call.name])
    total = _sum(call, *added)
    if left.mask is not None:
        total = total + _contracted(left.mask, left.shape, right)
    if right.mask is not None:
        mask, shape = right.mask, right.shape
        if len(shape) == 1:
            mask, shape = mask[:, None], torch.Size((*shape, 1))
        there = _contracted(mask.transpose(-2, -1), torch.Size((*shape[:-2], shape[-1], shape[-2])), _transposed(left))
        there = there.transpose(-2, -1)
        total = total + (there.squeeze(-1) if len(right.shape) == 1 else there).expand(call.shape)
    return total


FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2", "self"),
    "baddbmm": ("batch1", "batch2", "self"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec", "self"),
}
"""The names of the two factors, and of what is added."""


def _contracted(mask: Tensor, shape: torch.Size, other: Operand) -> Tensor:
    """[..., a, b] times [..., b, c] or [b]"""
    if other.nonzero is not None:
        return mask @ other.nonzero.to(mask)
    total = mask.sum(-1, keepdim=True)
    return total.squeeze(-1) if len(other.shape) == 1 else total.expand(*shape[:-1], other.shape[-1])


def _transposed(operand: Operand) -> Operand:
    nonzero = None if operand.nonzero is None else operand.nonzero.transpose(-2, -1)
    return replace(operand, shape=torch.Size((*operand.shape[:-2], *operand.shape[:-3:-1])), nonzero=nonzero)


def linear(call: Operation) -> Tensor | list[Tensor]:
    """A linear layer in one operation."""
    image, weight = call["input"], call["weight"]
    if image.mask is None or weight.number is not None:
        return anything(call)
    return _contracted(image.mask, image.shape, _transposed(weight)) + _sum(call, call["bias"])


def convolution(call: Operation) -> Tensor | list[Tensor]:
    """A convolution by a known kernel."""
    image, kernel, bias = call["input"], call["weight"], call["bias"]
    if image.mask is None or kernel.number is not None or (bias is not None and bias.number is not None):
        return anything(call)
    ones = torch.ones(kernel.shape, device=call.device) if kernel.nonzero is None else kernel.nonzero.float()
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    return aten.convolution(image.mask, ones, None, *(call[name] for name in names))


# -- along axes --------------------------------------------------------------------------------------


def reduced(call: Operation) -> list[Tensor]:
    """Sums, means, extremes and the like: every output depends on what lies along the axes that are reduced."""
    mask = call["self"].mask
    axes = call.given.get("dim")
    axes = range(mask.ndim) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    total = mask.sum(tuple(axes), keepdim=True) if mask.ndim else mask
    return [total.reshape(tuple(shape)) for shape in call.shapes]


def along(call: Operation) -> list[Tensor]:
    """Softmax, sorting and the like: every output depends on all that lies along one axis."""
    mask = call["self"].mask
    total = mask.sum(call["dim"], keepdim=True) if mask.ndim else mask
    return [total.expand(tuple(shape)) for shape in call.shapes]


def running(call: Operation) -> list[Tensor]:
    """Cumulative sums and the like: every output depends on what lies before it on one axis."""
    mask = call["self"].mask
    return [mask.cumsum(call["dim"]) if mask.ndim else mask] * len(call.shapes)


def layer_norm(call: Operation) -> list[Tensor]:
    """Every output depends on what it is normalised with, unless its weight is a known 0."""
    image, weight, bias = call["input"], call["weight"], call["bias"]
    if image.mask is None:
        return anything(call)
    axes = tuple(range(-len(call["normalized_shape"]), 0))
    total = image.mask.sum(axes, keepdim=True)
    out = total.expand(call.shape)
    if weight is not None and weight.nonzero is not None:
        out = out * weight.nonzero
    return [out + _sum(call, weight, bias), *(total.reshape(tuple(shape)) for shape in call.shapes[1:])]


def batch_norm(call: Operation) -> list[Tensor]:
    """By known statistics elementwise, otherwise by channel; unless a channel's weight is a known 0."""
    image, weight = call["input"], call["weight"]
    others = [call.given.get(name) for name in ("weight", "bias", "running_mean", "running_var")]
    if image.mask is None or any(operand.number is not None for operand in parts(others)):
        return anything(call)
    axes = [axis for axis in range(image.mask.ndim) if axis != 1]
    total = image.mask.sum(axes, keepdim=True)
    out = total.expand(call.shape) if call.given.get("training", False) else image.mask
    if weight is not None and weight.nonzero is not None:
        out = out * weight.nonzero.reshape(-1, *[1] * (len(axes) - 1))
    return [out, *(total.reshape(-1)[: math.prod(shape)].reshape(tuple(shape)) for shape in call.shapes[1:])]


def group_norm(call: Operation) -> list[Tensor]:
    """Every output depends on all of its group."""
    image = call["input"]
    if image.mask is None or any(
        call[name] is not None and call[name].number is not None for name in ("weight", "bias")
    ):
        return anything(call)
    grouped = image.mask.reshape(call["N"], call["group"], -1)
    total = grouped.sum(-1, keepdim=True)
    stats = [total.reshape(tuple(shape)) for shape in call.shapes[1:]]
    return [total.expand(grouped.shape).reshape(call.shape), *stats]


def pooled(call: Operation) -> Tensor | list[Tensor]:
    """Every output depends on its window."""
    mask, dilation = call["self"].mask, call.given.get("dilation", 1)
    if any(step != 1 for step in ([dilation] if isinstance(dilation, int) else dilation)):
        return anything(call)
    size, step, edge, ceil = (call[name] for name in ("kernel_size", "stride", "padding", "ceil_mode"))
    return functional.avg_pool2d(mask, size, step or None, edge, ceil, True, 1)


def pooled_to_size(call: Operation) -> Tensor:
    """Every output depends on its window, which follows from how many windows there are."""
    mask = call["self"].mask
    return aten._adaptive_avg_pool2d(mask, call["output_size"]) * mask.numel()


def halved(call: Operation) -> Tensor:
    """A gated linear unit: one half gates the other."""
    one, other = call["self"].mask.chunk(2, call["dim"])
    return one + other


# -- what is moved, not changed ------------------------------------------------------------------------


def moved(call: Operation) -> Tensor | list[Tensor]:
    """Operations that put numbers elsewhere, by known indices: the same is done with the mask."""
    indices = ("index", "indices")
    if any(operand.number is not None for name in indices for operand in parts(call.given.get(name))):
        return anything(call)
    given = {
        name: each(part, lambda o, name=name: o.value.to(call.device) if name in indices else _mask(call, o))
        for name, part in call.given.items()
        if name not in ("dtype", "sparse_grad")
    }
    if "value" in given:
        given["value"] = 0.0
    return getattr(aten, call.name)(**given)


def _mask(call: Operation, operand: Operand) -> Tensor:
    return call.zeros(operand.shape) if operand.mask is None else operand.mask


def placed(call: Operation) -> Tensor | list[Tensor]:
    """Operations that put numbers among others, at known indices; those that are overwritten count as kept."""
    index = call.given.get("index", call.given.get("indices"))
    if any(operand.number is not None for operand in parts(index)):
        return anything(call)
    where = each([index], lambda operand: operand.value.to(call.device))[0]
    source = next((call[name] for name in ("src", "source", "values") if name in call.given), None)
    there = call.zeros()
    if isinstance(source, Operand) and source.mask is not None:
        if call.name == "index_put":
            there = aten.index_put(there, where, source.mask, True)
        else:
            rows = call.name in ("index_add", "index_copy")
            mask = source.mask if rows else source.mask[tuple(map(slice, where.shape))]  # what has no index is not read
            there = (aten.index_add if rows else aten.scatter_add)(there, call["dim"], where, mask)
    return there + _sum(call, call["self"])


def looked_up(call: Operation) -> Tensor | list[Tensor]:
    """Rows of a known table, which depend on nothing but which rows are asked for."""
    if call["weight"].number is not None:
        return anything(call)
    return call["indices"].mask[..., None].expand(call.shape)


def split(call: Operation) -> Tensor:
    """Complex numbers as pairs."""
    return call["self"].mask[..., None].expand(call.shape)


def joined(call: Operation) -> Tensor:
    """Pairs as complex numbers."""
    return call["self"].mask.sum(-1)


def copied(call: Operation) -> Tensor:
    """What was there is overwritten by something of the same or a smaller shape, or by a number."""
    return _sum(call, *(call.given.get(name) for name in ("src", "value")))


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_named(elementwise, "_to_copy clone _prelu_kernel"),
    **_named(product, "mul multiply"),
    **_named(chosen, "where masked_fill"),
    **_named(contraction, " ".join(FACTORS)),
    **_named(linear, "linear"),
    **_named(convolution, "convolution"),
    **_named(
        reduced, "sum mean amax amin any all argmax argmin max min prod var std var_mean std_mean logsumexp nansum"
    ),
    **_named(reduced, "linalg_vector_norm norm median nanmedian count_nonzero aminmax"),
    **_named(along, "_softmax _log_softmax _safe_softmax sort argsort topk"),
    **_named(running, "cumsum cumprod cummax cummin logcumsumexp"),
    **_named(layer_norm, "native_layer_norm"),
    **_named(batch_norm, "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"),
    **_named(group_norm, "native_group_norm"),
    **_named(pooled, "max_pool2d_with_indices avg_pool2d"),
    **_named(pooled_to_size, "_adaptive_avg_pool2d adaptive_max_pool2d"),
    **_named(halved, "glu"),
    **_named(moved, "cat stack index gather index_select flip roll repeat tril triu diag_embed constant_pad_nd"),
    **_named(moved, "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d im2col pixel_shuffle"),
    **_named(moved, "slice_scatter select_scatter upsample_nearest1d upsample_nearest2d"),
    **_named(placed, "index_put index_add index_copy scatter scatter_add"),
    **_named(looked_up, "embedding"),
    **_named(copied, "copy fill zero"),
    **_named(split, "view_as_real"),
    **_named(joined, "view_as_complex"),
}
"""By the operation's name, which is that of its form in place without the underscore."""

WEIGHTED: Mapping[str, tuple[str, ...]] = {
    **{name: ("self", "other") for name, rule in RULES.items() if rule is product},
    **{name: factors[:2] for name, factors in FACTORS.items()},
    **{name: ("weight",) for name, rule in RULES.items() if rule in (linear, convolution, layer_norm, batch_norm)},
}
"""The arguments of which it counts where they are known to be 0."""

INDEXED = frozenset(name for name, rule in RULES.items() if rule in (chosen, moved, placed))
"""Operations of which it counts what whole numbers or truth values their operands hold."""

CONSIDERED: Mapping[Rule, tuple[str, ...]] = {
    **dict.fromkeys((reduced, along, running, pooled, pooled_to_size, halved), ("self",)),
    layer_norm: ("input", "weight", "bias"),
    placed: ("self", "src", "source", "values"),
    looked_up: ("indices",),
    copied: ("self", "src", "value"),
}
"""The arguments that a rule takes account of, where these are not all."""
