"""What a module keeps between its runs, found wherever Python keeps things, compared and put back.

A module whose forward changes an attribute, a list, a global variable or a counter answers the next run from another
state than this one, so that what one run shows need not hold of another. And what a run that only looks has changed
should not stay changed.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..structures import version_of

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, types.ModuleType, torch.dtype, torch.device)
"""What cannot change, and leads nowhere."""

LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "transformers"}) - {"__main__"}
"""Packages whose global variables are taken not to decide what their modules compute."""


@dataclass(frozen=True, slots=True)
class Global:
    """A variable of a Python module that some code names."""

    namespace: dict[str, Any]
    name: str

    @property
    def value(self) -> Any:
        """What it stands for; None where there is no such variable."""
        return self.namespace.get(self.name)


class Kept:
    """A copy of everything that can be reached from some objects and can change: containers, attributes, cells, arrays.

    code: the packages of which what their code names is among it: class attributes and global variables.
    tensors: every tensor that was reached. opaque: what could not be looked into, in words, or None.
    """

    def __init__(self, *roots: Any, code: frozenset[str] = frozenset()) -> None:
        self.tensors: list[Tensor] = []
        self.opaque: str | None = None
        self._copies: list[tuple[Any, Any]] = []
        self._versions: list[tuple[int, Any]] = []
        seen: dict[int, Any] = {}  # the objects themselves are held, so that no other can have the same id
        waiting = list(roots)
        while waiting:
            thing = waiting.pop()
            if (
                id(thing) in seen
                or isinstance(thing, PLAIN)
                or (isinstance(thing, type) and _package(thing) not in code)
            ):
                continue
            seen[id(thing)] = thing
            if isinstance(thing, Tensor):
                self.tensors.append(thing)
                self._versions.append(_version(thing))
                continue
            inside, copy = _inside(thing), _copy(thing)
            if hasattr(type(thing), "__next__") and not inside:
                self.opaque = f"a {type(thing).__name__}, of which it cannot be seen how far it has gone"
            if copy is not None:
                self._copies.append((thing, copy))
            waiting += [*inside, *_named(thing, code)]

    def change(self) -> str | None:
        """What is not as it was, in words, or None."""
        for thing, copy in self._copies:
            if not _same(_copy(thing), copy):
                return f"the global {thing.name}" if isinstance(thing, Global) else f"a {type(thing).__name__}"
        for tensor, (version, grad) in zip(self.tensors, self._versions, strict=True):
            now = _version(tensor)
            if now[0] != version or now[1] is not grad:
                return f"a tensor {list(tensor.shape)}"
        return None

    def put_back(self) -> None:
        """Make everything as it was, but for the numbers in tensors."""
        for thing, copy in self._copies:
            if not _same(_copy(thing), copy):
                _restore(thing, copy)
        for tensor, (_, grad) in zip(self.tensors, self._versions, strict=True):
            if _version(tensor)[1] is not grad:
                tensor.grad = grad


@contextmanager
def kept(module: nn.Module) -> Iterator[Kept]:
    """What a module keeps, for the time of some runs that only look; put back afterwards.

    Python's and numpy's random numbers are among it, and what the code of its parts and their hooks names.
    """
    parts = list(module.modules())
    hooks = [
        hook for part in parts for hooks in (part._forward_hooks, part._forward_pre_hooks) for hook in hooks.values()
    ]
    code = frozenset(map(_package, [*map(type, parts), *hooks])) - LIBRARIES
    before = Kept(module, random.getstate, np.random.get_state, code=code)
    try:
        yield before
    finally:
        before.put_back()


# -- what leads where --------------------------------------------------------------------------------------


def _inside(thing: Any) -> list[Any]:
    """What can be reached from an object in one step."""
    found: list[Any] = []
    if isinstance(thing, dict):
        found += [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        found += thing
    elif isinstance(thing, types.CellType):
        found += _content(thing)
    elif isinstance(thing, Global):
        found.append(thing.value)
    elif isinstance(thing, types.FunctionType):
        found += [*(thing.__closure__ or ()), thing.__defaults__, thing.__kwdefaults__]
    elif isinstance(thing, types.MethodType):
        found += [thing.__self__, thing.__func__]
    elif isinstance(thing, types.BuiltinMethodType):
        found.append(thing.__self__)
    elif isinstance(thing, functools.partial):
        found += [thing.func, thing.args, thing.keywords]
    elif isinstance(thing, np.ndarray) and thing.dtype.hasobject:
        found += thing.ravel().tolist()
    attributes = None if isinstance(thing, type) else getattr(thing, "__dict__", None)
    if isinstance(attributes, dict):
        found.append(attributes)
    return [*found, *(value for _, value in _slots(thing))]


def _named(thing: Any, code: frozenset[str]) -> list[Any]:
    """What the code of an object names, if it is code of these packages: its class, and global variables."""
    if isinstance(thing, type):
        inside = [getattr(part, "__func__", getattr(part, "fget", part)) for part in vars(thing).values()]
        return [*thing.__mro__, *inside]
    if isinstance(thing, types.FunctionType) and _package(thing) in code:
        names = {*_names(thing.__code__)} & thing.__globals__.keys()
        return [Global(thing.__globals__, name) for name in sorted(names)]
    return [type(thing)] if hasattr(thing, "__dict__") and not isinstance(thing, Global) else []


def _names(code: types.CodeType) -> list[str]:
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [*code.co_names, *(name for part in inner for name in _names(part))]


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", None)).partition(".")[0]


# -- copies --------------------------------------------------------------------------------------------------


def _copy(thing: Any) -> Any:
    """What of an object itself may change, shallowly; None where nothing does."""
    if isinstance(thing, type):
        return list(vars(thing).items())
    if isinstance(thing, Global):
        return [thing.value]
    if isinstance(thing, dict):
        return list(thing.items())
    if isinstance(thing, list | set | deque):
        return list(thing)
    if isinstance(thing, types.CellType):
        return _content(thing)
    if isinstance(thing, np.ndarray):
        return thing.copy()
    if isinstance(thing, random.Random):
        return thing.getstate()
    if isinstance(thing, np.random.RandomState):
        return thing.get_state()
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    if isinstance(thing, torch.Generator):
        return thing.get_state().numpy()
    return _slots(thing) or None


def _restore(thing: Any, copy: Any) -> None:
    if isinstance(thing, type):
        for name, value in copy:
            if vars(thing).get(name) is not value:
                setattr(thing, name, value)
        for name in vars(thing).keys() - {name for name, _ in copy}:
            delattr(thing, name)
    elif isinstance(thing, Global):
        thing.namespace[thing.name] = copy[0]
    elif isinstance(thing, dict):
        plain: Any = OrderedDict if isinstance(thing, OrderedDict) else dict  # some dicts refuse to be changed
        plain.clear(thing)
        for key, value in copy:
            plain.__setitem__(thing, key, value)
    elif isinstance(thing, list):
        thing[:] = copy
    elif isinstance(thing, set):
        thing.clear()
        thing.update(copy)
    elif isinstance(thing, deque):
        thing.clear()
        thing.extend(copy)
    elif isinstance(thing, types.CellType):
        thing.cell_contents = copy[0]
    elif isinstance(thing, np.ndarray):
        thing[...] = copy
    elif isinstance(thing, random.Random):
        thing.setstate(copy)
    elif isinstance(thing, np.random.RandomState):
        thing.set_state(copy)
    elif isinstance(thing, np.random.Generator):
        thing.bit_generator.state = copy
    elif isinstance(thing, torch.Generator):
        thing.set_state(torch.from_numpy(copy))
    else:
        for name, value in copy:
            object.__setattr__(thing, name, value)


def _same(now: Any, before: Any) -> bool:
    """Whether two copies hold the very same things: the same objects, or equal numbers and texts."""
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, PLAIN):
        return bool(now == before or (now != now and before != before))
    if isinstance(now, np.ndarray):
        return now.shape == before.shape and now.tobytes() == before.tobytes()
    if isinstance(now, list | tuple):
        return len(now) == len(before) and all(map(_same, now, before))
    return isinstance(now, dict) and _same(list(now.items()), list(before.items()))


def _version(tensor: Tensor) -> tuple[int, Any]:
    """How often a tensor was written, and its gradient."""
    return version_of(tensor), tensor.grad if tensor.is_leaf else None


def _content(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not filled yet
        return []


def _slots(thing: Any) -> list[tuple[str, Any]]:
    """The attributes that an object holds outside a dictionary."""
    if isinstance(thing, Global | type):
        return []
    return [(name, getattr(thing, name)) for name in _slot_names(type(thing)) if hasattr(thing, name)]


@functools.lru_cache(maxsize=4096)
def _slot_names(kind: type) -> tuple[str, ...]:
    given = [part.__dict__.get("__slots__", ()) for part in kind.__mro__]
    names = [name for slots in given for name in ((slots,) if isinstance(slots, str) else tuple(slots))]
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))
