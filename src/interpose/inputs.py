"""Inputs of any form: how many there are, single ones and some of them, and the names of their parts.

A list holds one example an element; a tensor or array has examples on its first axis; a dict or tuple holds columns.
And how a function is called with an input of any form.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import MissingInput, UnknownPlace, WrongInput, WrongPairs, WrongShape, suggest


def count(inputs: Any) -> int:
    """How many examples there are in inputs of the forms that `Pairs` takes."""
    if isinstance(inputs, (Tensor, np.ndarray)):
        if inputs.ndim == 0:
            raise WrongInput("A single number is no list of examples: the first axis should be the pair.")
        return len(inputs)
    if isinstance(inputs, Mapping | tuple):
        columns = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
        sizes = {count(column) for column in columns}
        if len(sizes) != 1:
            raise WrongPairs(f"The columns of one input hold {sorted(sizes)} examples; they should all hold as many.")
        return sizes.pop()
    if isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes):
        return len(inputs)
    raise WrongInput(
        f"{type(inputs).__name__} is no list of examples. Give a list with one example an element, a tensor "
        "[pair, ...], or a dict or tuple of such columns."
    )


def take(inputs: Any, index: Sequence[int]) -> Any:
    """The examples at `index`, in the form the inputs have."""
    if isinstance(inputs, (Tensor, np.ndarray)):
        return inputs[list(index)]
    if isinstance(inputs, Mapping):
        return {name: take(column, index) for name, column in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(take(column, index) for column in inputs)
    return [inputs[i] for i in index]


def rows_of(rows: Any, size: int) -> list[int]:
    """Indices from a number, a slice, numbers or a mask. Raises IndexError beyond the last."""
    if isinstance(rows, slice):
        return list(range(size)[rows])
    array = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
    if array.dtype == bool:
        if array.shape != (size,):
            raise IndexError(f"A mask of shape {array.shape} does not fit {size} pairs.")
        array = np.flatnonzero(array)
    if array.size and array.dtype.kind not in "iu":
        raise IndexError(f"Pairs are picked by numbers, a slice or a mask, not by {rows!r}.")
    return [range(size)[int(i)] for i in np.atleast_1d(array).tolist()]


def repeat(inputs: Any, times: int) -> Any:
    """All the examples so many times, one set after the other, in the form the inputs have."""
    if isinstance(inputs, Tensor):
        return inputs.repeat(times, *[1] * (inputs.ndim - 1))
    if isinstance(inputs, np.ndarray):
        return np.tile(inputs, (times, *[1] * (inputs.ndim - 1)))
    if isinstance(inputs, Mapping):
        return {name: repeat(column, times) for name, column in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(repeat(column, times) for column in inputs)
    return list(inputs) * times


def examples(inputs: Any) -> list[Any]:
    """One element an example; of columns, a dict or tuple of each row's values."""
    if isinstance(inputs, Mapping):
        columns = {name: examples(column) for name, column in inputs.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(count(inputs))]
    if isinstance(inputs, tuple):
        return list(zip(*map(examples, inputs), strict=True))
    return list(inputs)


def key(example: Any) -> Any:
    """A hashable stand-in for one example: equal for equal examples, different for different ones."""
    if isinstance(example, Mapping):
        return ("dict", frozenset((name, key(value)) for name, value in example.items()))
    if isinstance(example, list | tuple):
        return ("list", tuple(key(value) for value in example))
    if isinstance(example, (Tensor, np.ndarray)):
        return key(example.tolist())
    return "nan" if example != example else example


def keys(inputs: Any) -> list[Any]:
    """A stand-in for each example: see `key`."""
    return [key(example) for example in examples(inputs)]


def join(first: Any, second: Any) -> Any:
    """The examples of two inputs, one after the other; of inputs in two forms, as a list of plain values."""
    if any(isinstance(first, form) != isinstance(second, form) for form in (Tensor, np.ndarray, Mapping, tuple)):
        return [row.tolist() if hasattr(row, "tolist") else row for row in (*examples(first), *examples(second))]
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    if isinstance(first, np.ndarray):
        return np.concatenate([first, second])
    if isinstance(first, Mapping):
        return {name: join(column, second[name]) for name, column in first.items()}
    if isinstance(first, tuple):
        return tuple(join(a, b) for a, b in zip(first, second, strict=True))
    return [*first, *second]


def check_names(given: Iterable[str], inputs: Sequence[str], computed: Iterable[str] = ()) -> None:
    """Raise UnknownPlace for a name that is no input, MissingInput for an input without a value."""
    for name in given:
        if name in computed:
            raise UnknownPlace(f"{name} is computed, not an input. To set it, pass write={{{name!r}: ...}}.")
        if name not in inputs:
            raise UnknownPlace(f"There is no input {name!r}. {suggest(name, inputs)}")
    if missing := [name for name in inputs if name not in given]:
        raise MissingInput(f"The input lacks {', '.join(missing)}. It needs {', '.join(inputs)}.")


def call_arguments(forward: Callable[..., Any], inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a function is called with one input: positional and keyword arguments.

    A dict whose keys are all parameters goes by keyword; a tuple is spread where one argument would not do; anything
    else is the one argument.
    """
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):
        return (inputs,), {}
    if isinstance(inputs, Mapping) and all(isinstance(name, str) for name in inputs) and _binds(signature, **inputs):
        return (), dict(inputs)
    if isinstance(inputs, tuple) and _binds(signature, *inputs) and not _binds(signature, inputs):
        return inputs, {}
    return (inputs,), {}


def named_numbers(inputs: Any, names: Sequence[str]) -> Tensor:
    """Inputs that consist of named numbers as a tensor [..., names].

    inputs: a dict by these names, of numbers or columns; a list of such dicts; or a list, array or tensor [..., names].
    Raises UnknownPlace, MissingInput, or WrongShape where there are more or fewer numbers than names.
    """
    if isinstance(inputs, Mapping):
        check_names(inputs, names)
        tensor = torch.stack(torch.broadcast_tensors(*(_as_tensor(inputs[name]) for name in names)), dim=-1)
    elif (
        isinstance(inputs, Sequence)
        and len(inputs)
        and all(issubclass(kind, Mapping) for kind in set(map(type, inputs)))
    ):
        wanted = set(names)
        for row in inputs:
            if row.keys() != wanted:
                check_names(row, names)
        columns = [[row[name] for row in inputs] for name in names]
        tensor = torch.from_numpy(np.array(columns, dtype=np.float64).T)
    else:
        tensor = _as_tensor(inputs)
    if tensor.ndim == 0 or tensor.shape[-1] != len(names):
        raise WrongShape(
            f"An input holds {len(names)} numbers, {', '.join(names)}; this one has shape {tuple(tensor.shape)}."
        )
    return tensor


def _as_tensor(numbers: Any) -> Tensor:
    """Numbers as a tensor; Python's floats in full precision, which torch would halve."""
    return numbers if isinstance(numbers, Tensor) else torch.as_tensor(np.asarray(numbers))


def _binds(signature: inspect.Signature, *args: Any, **kwargs: Any) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True
