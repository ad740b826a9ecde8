"""The calls of one run: which modules ran, in which order, inside which others, and what they gave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ..structures import copied, is_plain, tensors, version_of
from ..units import declared_width, is_leaf, is_neural

Key = tuple[str, int]
"""A call's address: the module's path, and which of its calls in the run this is."""


NO_STAND_INS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({})


@dataclass
class Event:
    """One call of a module.

    parent: the number of the call it happened in; start, end: when it began and ended, on a clock that counts both.
    steady: whether nothing came of it but its output, so that handing out that output is as good as calling it;
    leaves: whether it left something in its module.
    output: a copy of what it gave, where that was to be kept; flops: of its own matrix products, multiply-add = 2;
    size, size_taken: the bytes of the largest tensor it gave, and took; called: a copy of its arguments, where they
    were to be kept.
    """

    key: Key
    parent: int | None
    start: int
    end: int = -1
    steady: bool = True
    leaves: bool = False
    output: Any = None
    flops: float = 0.0
    size: int = 0
    size_taken: int = 0
    called: tuple[Any, Mapping[str, Any]] = field(default=((), {}), repr=False)


class Recorder:
    """Records the calls of a run, made in this thread, through functions that stand in for every module's `forward`.

    paths: module -> path. keep: the calls whose outputs to keep a copy of; None keeps all, with their arguments.
    both: the calls of which to keep the one tensor they take, too; stand_ins: other functions for some modules.
    """

    def __init__(
        self,
        paths: Mapping[nn.Module, str],
        keep: Collection[Key] | None = (),
        both: Collection[Key] = (),
        stand_ins: Mapping[str, Callable[[Tensor], Tensor]] = NO_STAND_INS,
    ) -> None:
        self.paths, self.keep, self.both, self.stand_ins = paths, keep, both, stand_ins
        self.taken: tuple[Tensor, int, Tensor] | None = None
        self.events: list[Event] = []
        self.counts: dict[str, int] = {}
        self.inside: list[int] = []
        self.clock = 0
        self.thread = threading.get_ident()

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """What to call in place of each module's `forward`."""
        return {module: self._recorded(module, path) for module, path in self.paths.items()}

    def outputs(self) -> dict[Key, Any]:
        """What the calls gave whose outputs were kept."""
        return {event.key: event.output for event in self.events if event.output is not None}

    def _recorded(self, module: nn.Module, path: str) -> Callable[..., Any]:
        original = self.stand_ins.get(path, module.forward)

        def forward(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self.thread:
                return original(*args, **kwargs)
            event = self._begin(path)
            given = list(tensors((args, kwargs)).values())
            before = _footprint(module, given)
            if self.keep is None:
                event.called = copied((args, kwargs))
            elif event.key in self.both:
                event.called = ((self._once(given[0]),), {})
            try:
                output = original(*args, **kwargs)
            finally:
                self.inside.pop()
                event.end = self._tick()
            self._ended(event, module, given, before, output)
            return output

        return forward

    def _once(self, x: Tensor) -> Tensor:
        """A copy, the same one for calls that take the same tensor one after another."""
        if self.taken is None or self.taken[0] is not x or self.taken[1] != version_of(x):
            self.taken = x, version_of(x), x.clone()
        return self.taken[2]

    def _begin(self, path: str) -> Event:
        occurrence = self.counts.get(path, 0)
        self.counts[path] = occurrence + 1
        event = Event((path, occurrence), self.inside[-1] if self.inside else None, self._tick())
        self.inside.append(len(self.events))
        self.events.append(event)
        return event

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _ended(self, event: Event, module: nn.Module, given: list[Tensor], before: Any, output: Any) -> None:
        gave = list(tensors(output).values())
        (state, versions), (state_now, versions_now) = before, _footprint(module, given)
        same = _same(state, state_now)
        event.steady &= same and versions == versions_now and is_plain(output) and not _shared(given, gave)
        if not same:
            event.leaves = True
            for i in self.inside:
                self.events[i].steady = False  # what a part remembers, the whole remembers
        event.flops = products(module, given)
        event.size, event.size_taken = map(_bytes, (gave, given))
        if self.keep is None or event.key in self.keep or event.key in self.both:
            event.output = copied(output)


def products(module: nn.Module, given: list[Tensor]) -> float:
    """The operations of a layer's matrix products on these inputs, multiply-add = 2; 0 for what is no layer."""
    width = declared_width(module, "input") if is_leaf(module) and is_neural(module) else None
    if not width or not given:
        return 0.0
    weights = sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
    return 2.0 * weights * given[0].numel() / width


def _bytes(found: list[Tensor]) -> int:
    return max((tensor.numel() * tensor.element_size() for tensor in found), default=0)


def _footprint(module: nn.Module, given: list[Tensor]) -> tuple[Any, list[int]]:
    """What a call could change besides giving an output: the module's attributes and buffers, and its inputs."""
    held = {name: value for name, value in module.__dict__.items() if name != "forward"}
    held |= {f"buffer {name}": buffer for name, buffer in module._buffers.items()}
    sizes = {name: len(value) for name, value in held.items() if isinstance(value, list | dict | set)}
    sizes |= {name: version_of(value) for name, value in held.items() if isinstance(value, Tensor)}
    return (held, sizes), [version_of(tensor) for tensor in given]


def _same(before: Any, after: Any) -> bool:
    (held, sizes), (held_now, sizes_now) = before, after
    return (
        held.keys() == held_now.keys()
        and all(held[name] is value for name, value in held_now.items())
        and sizes == sizes_now
    )


def _shared(given: list[Tensor], gave: list[Tensor]) -> bool:
    """Whether an output lies in the memory of an input: changing one in place would change the other."""
    ours = {tensor.untyped_storage().data_ptr() for tensor in given if tensor.numel()}
    return any(tensor.untyped_storage().data_ptr() in ours for tensor in gave if tensor.numel())
