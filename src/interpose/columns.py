"""Columns of values, and mechanisms evaluated on them: at once where that is right, otherwise row by row.

A column is a numpy array or a torch tensor where values are numbers, and a list where they are anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import WrongShape

Column = np.ndarray | Tensor | list[Any]
ROW_BY_ROW = 64
"""Data sets up to this size are evaluated one by one; as many rows check an evaluation at once."""
MOST_DISTINCT = 4096
"""Up to this many different rows are evaluated one by one, however often they occur."""


def evaluate(
    mechanism: Callable[[Sequence[Any]], Any], parents: Sequence[Column], size: int, vectorised: bool | None
) -> Column:
    """A mechanism on whole columns, with the answers of single rows.

    Where rows repeat, each different one is evaluated once. Where most are different, the mechanism is tried on the
    columns at once, and believed if it gives the answers of single rows on a sample of them.
    """
    if vectorised:
        result = mechanism([copied(column) for column in parents])
        if not is_column(result) or len(result) != size:
            raise WrongShape(f"A mechanism declared vectorised gave {result!r} for columns of {size} rows.")
        return as_column(result, like=parents)
    if not parents:
        return as_column([mechanism([]) for _ in range(size)])
    numbers = size > ROW_BY_ROW and all(_numeric(column) for column in parents)
    first, which = _distinct(parents, size) if numbers else (None, None)
    if first is not None and which is not None:
        singles = [mechanism(values) for values in zip(*(rows_of(column, first) for column in parents), strict=True)]
        return as_column([singles[k] for k in which], like=parents)
    if numbers and vectorised is None:
        result = _at_once(mechanism, parents, size)
        if result is not None and _same_in_floats(mechanism, parents, result):
            rows = _telling_rows(parents, size)
            singles = [mechanism(values) for values in zip(*(rows_of(column, rows) for column in parents), strict=True)]
            if all(a == b or (a != a and b != b) for a, b in zip(singles, rows_of(result, rows), strict=True)):
                return result
    return as_column([mechanism(values) for values in zip(*map(rows_of, parents), strict=True)], like=parents)


def _distinct(parents: Sequence[Column], size: int) -> tuple[list[int] | None, list[int] | None]:
    """The first row of each combination of the parents' values, and each row's combination; None if there are many."""
    codes, combinations = np.zeros(size, np.int64), 1
    for column in parents:
        array = _as_array(column)
        bits = array.view(np.int64) if array.dtype == np.float64 else array  # -0.0 is not 0.0 to every mechanism
        values, code = np.unique(bits, return_inverse=True)
        combinations *= len(values)
        if combinations > 2**62:
            return None, None
        codes = codes * len(values) + code
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    return (first.tolist(), which.tolist()) if len(first) <= MOST_DISTINCT else (None, None)


def _at_once(mechanism: Callable[[Sequence[Any]], Any], parents: Sequence[Column], size: int) -> Column | None:
    kind = Tensor if any(isinstance(column, Tensor) for column in parents) else np.ndarray
    columns = [torch.as_tensor(column).clone() if kind is Tensor else copied(column) for column in parents]
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            result = mechanism(columns)
    except Exception:  # noqa: BLE001 - made for single values; row by row, a true mistake shows itself again
        return None
    if not isinstance(result, kind) or tuple(result.shape) != (size,):
        return None
    finite = bool(torch.as_tensor(result).isfinite().all())  # Python raises where arrays give infinity
    return result if finite else None


def _same_in_floats(mechanism: Callable[[Sequence[Any]], Any], parents: Sequence[Column], result: Column) -> bool:
    """Whether integers did not run over: computed in floating point, the result is about the same, or is none."""
    if not all(_as_array(column).dtype.kind == "i" for column in (*parents, result)):
        return True
    kind = torch.as_tensor if isinstance(result, Tensor) else np.asarray
    floats = _at_once(mechanism, [kind(_as_array(column).astype(float)) for column in parents], len(result))
    return floats is None or np.allclose(_as_array(floats), _as_array(result).astype(float), rtol=1e-6)


def _as_array(column: Column) -> np.ndarray:
    """A column of numbers as a numpy array; of tensors, without their gradients, and bfloat16 in full."""
    if isinstance(column, Tensor):
        return (column.detach().cpu() if column.dtype is not torch.bfloat16 else column.detach().cpu().float()).numpy()
    return np.asarray(column)


def copied(column: Any) -> Any:
    """The same column in memory of its own."""
    return column.clone() if isinstance(column, Tensor) else column.copy() if isinstance(column, np.ndarray) else column


def _telling_rows(parents: Sequence[Column], size: int) -> list[int]:
    """Rows that check an evaluation at once: evenly spread, and the extremes of every parent."""
    extremes = [
        int(at) for column in parents if not isinstance(column, list) for at in (column.argmin(), column.argmax())
    ]
    return sorted({*np.linspace(0, size - 1, ROW_BY_ROW).astype(int).tolist(), *extremes})


def is_column(value: Any) -> bool:
    """Whether a value is a column rather than one value: a list, or an array or tensor of one axis."""
    return isinstance(value, list) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 1)


def plain(value: Any) -> Any:
    """A zero-dimensional array or tensor as the Python value it holds, a column as one of our own; no more axes."""
    if isinstance(value, np.ndarray | Tensor):
        if value.ndim > 1:
            raise WrongShape(f"A column has one axis, the setting; this one has shape {tuple(value.shape)}.")
        if value.ndim == 0:
            return value.item()
        if isinstance(value, np.ndarray) and value.dtype.kind not in "iuf":
            return as_column(value.tolist())
        return _machine_words(copied(value))
    if isinstance(value, np.generic):
        return value.item()
    return as_column(value) if isinstance(value, list) else value


def as_column(values: Any, like: Sequence[Any] = ()) -> Column:
    """Values as a column, in the kind of the parents' columns where they are all numbers."""
    if isinstance(values, np.ndarray | Tensor):
        return values
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {float}):
        return values
    array = np.array(values)
    if array.dtype.kind != ("i" if kinds == {int} else "f"):  # integers too long for a machine word
        return values
    tensors = [column for column in like if isinstance(column, Tensor)]
    return torch.from_numpy(array).to(tensors[0].device) if tensors else array


def _machine_words(column: Any) -> Any:
    """Integers in 64 bits, so that they run over as late as they can; longer ones as a list."""
    if isinstance(column, Tensor):
        return column if column.is_floating_point() or column.dtype is torch.bool else column.long()
    if column.dtype.kind == "u" and column.size and int(column.max()) > np.iinfo(np.int64).max:
        return column.tolist()
    return column.astype(np.int64) if column.dtype.kind in "iu" else column


def _numeric(column: Column) -> bool:
    return (isinstance(column, np.ndarray) and column.dtype.kind in "iuf") or (
        isinstance(column, Tensor) and column.dtype is not torch.bool
    )


def rows_of(column: Column, rows: Sequence[int] | None = None) -> list[Any]:
    """Python values of a column, all or at some rows."""
    if rows is not None:
        column = [column[i] for i in rows] if isinstance(column, list) else column[list(rows)]
    return list(column if isinstance(column, list) else column.tolist())
