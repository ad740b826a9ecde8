"""The tensors in what a module takes and returns: nested tuples, lists, dicts and dataclasses of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import AmbiguousSite

Floats = NDArray[np.float64]

CLOSE = 1e-4
"""Two values are the same if they differ by no more than this share of the largest; in half precision 64 roundings."""


def tensors(structure: Any, at: str = "") -> dict[str, Tensor]:
    """Every tensor in nested tuples, lists, dicts and dataclasses, by the dotted path that leads to it."""
    if isinstance(structure, Tensor):
        return {at: structure}
    found: dict[str, Tensor] = {}
    for name, part in _parts(structure):
        found |= tensors(part, f"{at}.{name}" if at else str(name))
    return found


def choose(structure: Any, leaf: str | None, owner: str) -> tuple[str, Tensor]:
    """The tensor meant by `leaf`, or the only one there is (floating ones before others), with its path.

    Raises AmbiguousSite, listing the choices, where there are several, or none by that name.
    """
    found = tensors(structure)
    if leaf is not None and leaf in found:
        return leaf, found[leaf]
    floating = {path: tensor for path, tensor in found.items() if tensor.is_floating_point()}
    candidates = floating or found
    if leaf is None and len(candidates) == 1:
        return next(iter(candidates.items()))
    choices = ", ".join(f"{path or 'itself'!r} {tuple(tensor.shape)}" for path, tensor in found.items())
    if not found:
        raise AmbiguousSite(f"{owner} passes no tensor, but {type(structure).__name__}. Nothing can be read there.")
    asked = "passes several tensors" if leaf is None else f"passes no tensor {leaf!r}"
    raise AmbiguousSite(f"{owner} {asked}: {choices}. Name one, as in '{owner}.{next(iter(candidates))}'.")


def exchange(structure: Any, leaf: str, new: Tensor) -> Any:
    """The same structure, rebuilt in its own type, with one tensor exchanged; the original is not touched."""
    if leaf == "":
        return new
    if isinstance(structure, tuple | list):
        first, _, rest = leaf.partition(".")
        parts = list(structure)
        parts[int(first)] = exchange(parts[int(first)], rest, new)
        return _rebuilt(structure, parts)
    rebuilt = copy.copy(structure)
    name = next(name for name, _ in _parts(structure) if leaf == str(name) or leaf.startswith(f"{name}."))
    rest = leaf[len(str(name)) + 1 :]
    if isinstance(structure, Mapping):
        rebuilt[name] = exchange(structure[name], rest, new)  # type: ignore[index]
    else:
        object.__setattr__(rebuilt, name, exchange(getattr(structure, name), rest, new))
    return rebuilt


def mapped(structure: Any, change: Callable[[str, Tensor], Tensor], at: str = "") -> Any:
    """The same nested tuples, lists, dicts and dataclasses, in their own types, with other tensors in them.

    change: a function of the dotted path that leads to a tensor, and the tensor; the original is not touched.
    """
    if isinstance(structure, Tensor):
        return change(at, structure)
    inside = at + "." if at else ""
    if isinstance(structure, tuple | list):
        return _rebuilt(structure, [mapped(part, change, f"{inside}{i}") for i, part in enumerate(structure)])
    if not (isinstance(structure, dict) or dataclasses.is_dataclass(structure)) or not tensors(structure):
        return structure
    again = copy.copy(structure)
    for name, part in _parts(structure):
        if isinstance(again, dict):
            again[name] = mapped(part, change, f"{inside}{name}")
        else:
            object.__setattr__(again, name, mapped(part, change, f"{inside}{name}"))
    return again


def copied(structure: Any) -> Any:
    """The same structure with a copy of every tensor."""
    return mapped(structure, lambda _, tensor: tensor.clone())


def is_plain(structure: Any) -> bool:
    """Whether there is nothing but tensors, numbers, texts and None in nested tuples, lists, dicts and dataclasses."""
    if structure is None or isinstance(structure, Tensor | bool | int | float | complex | str):
        return True
    parts = _parts(structure)
    empty = isinstance(structure, tuple | list | dict) and not parts
    return empty or (bool(parts) and all(is_plain(part) for _, part in parts))


def distances(ours: Tensor, theirs: Tensor) -> Floats:
    """How far two tensors are apart, element by element, in double precision: 0 for two NaN, infinity for one."""
    a, b = (x.detach().cpu().to(torch.complex128 if x.is_complex() else torch.float64).numpy() for x in (ours, theirs))
    with np.errstate(invalid="ignore"):
        apart: Floats = np.asarray(np.abs(b - a))
    if np.isnan(apart).any():
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.nan_to_num(apart, nan=np.inf, posinf=np.inf))
    return apart


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    if one.shape != other.shape or not one.numel():
        return False
    share = max(CLOSE, 64 * torch.finfo(one.dtype).eps)
    return bool((one - other).abs().max() <= share * torch.maximum(one.abs().max(), other.abs().max()))


def told(error: BaseException) -> str:
    """An error of somebody else in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(".: ")


WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers by their bytes."""


def bits(tensor: Tensor) -> Tensor:
    """The same tensor as whole numbers, equal where its bits are: 0.0 is not -0.0 there, and NaN is itself."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.view(WHOLE[real.element_size()])


def version_of(tensor: Tensor) -> int:
    """How often a tensor was changed in place; inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _rebuilt(structure: Any, parts: list[Any]) -> Any:
    """A list or tuple of the same type: named tuples take their parts singly, torch's return types as one."""
    if hasattr(structure, "_fields"):
        return type(structure)(*parts)
    return type(structure)(parts)


def _parts(structure: Any) -> list[tuple[Any, Any]]:
    if isinstance(structure, Mapping):
        return list(structure.items())
    if isinstance(structure, tuple | list):
        return list(enumerate(structure))
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        return [(f.name, getattr(structure, f.name)) for f in dataclasses.fields(structure)]
    return []
