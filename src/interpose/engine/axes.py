"""Where the rows of a batch are in what a call gives, certified by running two rows together and one alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from ..errors import InterposeError, is_memory
from ..structures import distances, mapped, tensors, told

Axes = Mapping[str, int | None]
"""For every tensor of a structure, by the path that leads to it, the axis of its rows; None where it has no rows."""

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far the same row may differ between batches, as a share of the largest value; in lower precision, 0.03."""


class Deviated(Exception):
    """A pass did not go as the recording did, so that what was left out may not have been what it would do."""


@contextmanager
def another_batch() -> Iterator[None]:
    """Runs of a module with other rows than it was given: an error of its own is Deviated, of which there may be more.

    Errors of ours, of memory, and what says how a pass went otherwise, are raised as they are.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, InterposeError) or is_memory(error) or type(error).__module__.startswith("interpose."):
            raise
        raise Deviated(f"In another batch there was {told(error)}.") from error


def row_axes(both: Any, alone: Any) -> Axes | None:
    """The axes of rows in what a call gave for two rows together, given what it gave for the second alone.

    None where it is not clear: where the second row's part of the two is not what the row gives alone.
    """
    two, one = tensors(both), tensors(alone)
    if two.keys() != one.keys():
        return None
    axes: dict[str, int | None] = {}
    for path, tensor in two.items():
        axis = _axis(tensor, one[path])
        if axis is False:
            return None
        axes[path] = axis
    return axes


def rows_of(structure: Any, axes: Axes, rows: Tensor, size: int) -> Any:
    """The same structure with these rows of its tensors, out of `size` of them; tensors without rows are copied.

    Raises Deviated where an axis does not hold as many entries for every row.
    """

    def chosen(path: str, tensor: Tensor) -> Tensor:
        axis = axes[path]
        if axis is None:
            return tensor.clone()
        entries, left = divmod(tensor.shape[axis], size)
        if left or not entries:
            raise Deviated(f"an output of shape {tuple(tensor.shape)} does not hold {size} rows on axis {axis}.")
        index = rows.to(tensor.device)
        if entries > 1:
            index = (index[:, None] * entries + torch.arange(entries, device=index.device)).reshape(-1)
        return tensor.index_select(axis, index)

    return mapped(structure, chosen)


def first_axis(structure: Any) -> Axes:
    """Rows on the first axis of every tensor."""
    return dict.fromkeys(tensors(structure), 0)


def close(ours: Tensor, theirs: Tensor, share: float = 1.0) -> bool:
    """Whether two tensors are the same but for the rounding of other batch shapes."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if torch.equal(ours, theirs) or not (ours.is_floating_point() or ours.is_complex()):
        return bool(torch.equal(ours, theirs))
    most = share * rounding(ours.dtype)
    if (apart := float((ours - theirs).abs().max())) <= most:
        return True
    size = float(theirs.abs().max())
    if isfinite(apart + size):
        return apart <= most * max(1.0, size)
    size = float(theirs.abs().nan_to_num(nan=0.0, posinf=0.0).max())
    return float(distances(ours, theirs).max(initial=0.0)) <= most * max(1.0, size)


def rounding(dtype: torch.dtype) -> float:
    """How far the same row may differ between batches, as a share of the largest value."""
    return CLOSE.get(dtype, 0.03)


def _axis(two: Tensor, one: Tensor) -> int | bool | None:
    """The axis that two rows make longer, None if none does, False if the rows are not found along it."""
    if two.shape == one.shape:
        return None if close(two, one) else False
    if two.ndim != one.ndim:
        return False
    longer = [axis for axis, (a, b) in enumerate(zip(two.shape, one.shape, strict=True)) if a != b]
    if len(longer) != 1 or two.shape[longer[0]] != 2 * one.shape[longer[0]]:
        return False
    (axis,) = longer
    return axis if close(two.narrow(axis, one.shape[axis], one.shape[axis]), one) else False
