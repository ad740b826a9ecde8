"""Values of any kind as plain JSON and arrays, and back without loss: types, keys and order stay as they were."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import WrongStore

KIND, HELD = "kind", "held"
"""Every value but texts, whole numbers, truth values and None is a dict of its kind and what it holds."""

Decoders = Mapping[str, Callable[[Any], Any]]
"""By the name of a kind of one's own: from what it holds to the value."""


def packed(value: Any, arrays: dict[str, Tensor], own: Callable[[Any], tuple[str, Any] | None] = lambda _: None) -> Any:
    """A value as plain JSON; its tensors and arrays are put into `arrays`, and named there.

    own: for values of other kinds, (the name of the kind, what it holds), or None for what it does not know.
    Raises WrongStore for what has no such form.
    """

    def pack(one: Any) -> Any:
        if one is None or type(one) in (bool, int, str):
            return one
        if type(one) is float:
            return one if math.isfinite(one) else {KIND: "float", HELD: repr(one)}
        if type(one) in (list, tuple):
            inside = [pack(part) for part in one]
            return inside if type(one) is list else {KIND: "tuple", HELD: inside}
        if type(one) is dict:
            return {KIND: "dict", HELD: [[pack(name), pack(part)] for name, part in one.items()]}
        if type(one) is range:
            return {KIND: "range", HELD: [one.start, one.stop, one.step]}
        if isinstance(one, Tensor):
            return {KIND: "tensor", HELD: _put(arrays, one)}
        if isinstance(one, np.ndarray | np.generic) and one.dtype.kind in "biufc":
            return {
                KIND: type(one).__name__,
                HELD: _put(arrays, torch.from_numpy(np.array(one, ndmin=1))),
                "shape": one.shape,
            }
        if (known := own(one)) is not None:
            return {KIND: known[0], HELD: pack(known[1])}
        raise WrongStore(
            f"{one!r} is {type(one).__name__}, which has no form on disk. Inputs that are saved are numbers, texts, "
            "tensors, arrays, and lists, tuples or dicts of these."
        )

    return pack(value)


def unpacked(plain: Any, arrays: Mapping[str, Tensor], own: Decoders | None = None) -> Any:
    """The value that `packed` made plain JSON of."""
    if isinstance(plain, list):
        return [unpacked(part, arrays, own) for part in plain]
    if not isinstance(plain, dict):
        return plain
    kind, held = plain[KIND], plain[HELD]
    if kind == "tensor":
        return arrays[held]
    if "shape" in plain:
        array = arrays[held].numpy().reshape(plain["shape"])
        return array if kind == "ndarray" else array[()]
    inside = unpacked(held, arrays, own)
    makers: dict[str, Callable[[Any], Any]] = {
        "float": float,
        "tuple": tuple,
        "dict": dict,
        "range": lambda ends: range(*ends),
        **(own or {}),
    }
    return makers[kind](inside)


def write(path: Path, told: Any, arrays: Mapping[str, Tensor]) -> None:
    """Plain JSON and arrays as one safetensors file, put in its place whole."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in arrays.items()}
    write_whole(path, save(whole, {"interpose": json.dumps(told)}))


def read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """What `write` wrote. Raises WrongStore for a file of another kind, FileNotFoundError for none."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["interpose"])
            return told, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        raise WrongStore(f"{str(path)!r} is no result of interpose, or was cut short.") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and put it there in one step."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)  # noqa: PTH105 - the one call that every system promises to do at once
    finally:
        beside.unlink(missing_ok=True)


def _put(arrays: dict[str, Tensor], tensor: Tensor) -> str:
    name = f"value {len(arrays)}"
    arrays[name] = tensor
    return name
