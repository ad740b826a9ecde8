"""What two rows tell of a network: its calls, where rows are in what they give, and which treat tokens one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..structures import mapped, tensors
from ..taps import RunTaps, call
from .axes import Axes, row_axes
from .events import Event, Key, Recorder
from .skip import is_tokenwise

SMALL = 2e8
"""Operations of a sweep below which leaving out calls costs more than it saves."""


class Refused(Exception):
    """Why a saving, or the engine as a whole, is not used here."""


def _lists(structure: Any) -> Iterator[Any]:
    """Lists, tuples and arrays without tensors in nested tuples, lists and dicts."""
    if isinstance(structure, np.ndarray) and structure.ndim:
        yield structure
    elif isinstance(structure, dict):
        for part in structure.values():
            yield from _lists(part)
    elif isinstance(structure, list | tuple):
        if structure and not any(isinstance(part, Tensor | dict | list | tuple | np.ndarray) for part in structure):
            yield structure
        for part in structure:
            yield from _lists(part)


@dataclass(frozen=True)
class Given:
    """How a module is called with a batch: arguments of which every tensor has a row an example."""

    args: Any
    kwargs: Any
    size: int

    def rows(self, index: Tensor) -> Given:
        """The arguments of a batch of these rows. Raises Refused where something has no rows."""
        found: list[object] = []

        def chosen(path: str, tensor: Tensor) -> Tensor:
            if not tensor.ndim or len(tensor) != self.size:
                raise Refused(f"the input {path} has shape {tuple(tensor.shape)}, not {self.size} rows")
            found.append(path)
            return tensor.index_select(0, index.to(tensor.device))

        if any(len(part) == self.size > 1 for part in _lists((self.args, self.kwargs))):
            raise Refused("the module is given a list or an array, of which rows cannot be taken")
        given = mapped((self.args, self.kwargs), chosen)
        if not found:
            raise Refused("the module is given no tensor, so its rows cannot be taken apart")
        args, kwargs = given
        return Given(args, kwargs, len(index))


@dataclass
class Probe:
    """The calls of a run, and what is known of each by its number.

    after: the number of the first later call that did not happen inside; axes: where rows are in its output, None where
    that is not clear; tokenwise: whether it treats each token by itself, with weights enough for a comparison to pay;
    light: whether it does with fewer; per_token: the operations of its products for one token; rows: the two rows;
    forwards: how many runs this took.
    """

    events: list[Event]
    axes: list[Axes | None]
    tokenwise: list[bool]
    light: list[bool]
    after: list[int]
    per_token: list[float]
    rows: Given
    forwards: int

    @cached_property
    def number(self) -> Mapping[Key, int]:
        """Calls by their addresses."""
        return {event.key: i for i, event in enumerate(self.events)}

    @cached_property
    def calls(self) -> Mapping[str, list[Event]]:
        """The calls of each module, by its path."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            found.setdefault(event.key[0], []).append(event)
        return found

    @cached_property
    def outputs(self) -> Mapping[Key, Any]:
        """What the calls gave for the two rows."""
        return {event.key: event.output for event in self.events}

    @property
    def leaves(self) -> str | None:
        """The path of a module in which a call leaves something behind, if there is one."""
        return next((event.key[0] for event in self.events if event.leaves), None)

    def steady(self, i: int) -> bool:
        """Whether a call may be left out where its output is known."""
        return self.events[i].steady and self.axes[i] is not None

    def given(self, clock: int) -> list[int]:
        """The outermost calls that have ended by some time and may be left out, if what they gave is handed out."""
        found, i = [], 0
        while i < len(self.events):
            if self.events[i].end <= clock and self.steady(i):
                found.append(i)
                i = self.after[i]
            else:
                i += 1
        return found

    def atoms(self, given: Collection[int], touched: Collection[int]) -> set[int]:
        """The outermost token-wise calls that are made where some calls' outputs are handed out."""
        found, i, known = set(), 0, set(given)
        while i < len(self.events):
            if i not in known and self.tokenwise[i] and i not in touched:
                found.add(i)
            i = self.after[i] if i in known or i in found else i + 1
        return found

    def cost_from(self, clock: int) -> float:
        """Operations of one row's matrix products from some time on."""
        return sum(event.flops for event in self.events if event.end > clock) / self.rows.size

    @property
    def tokens(self) -> int:
        """How many tokens a row has: as many as any token-wise call treats."""
        made = [event.output for event, one in zip(self.events, self.tokenwise, strict=True) if one]
        return max((x.numel() // x.shape[-1] for x in made), default=1) // self.rows.size or 1

    def row_bytes(self, readout: str | None = None) -> int:
        """A rough size of what one row needs while it passes through: several of the largest tensors.

        readout: the path of a layer of which only a few outputs are computed; what it is part of gives no more.
        """
        small: set[int | None] = set()
        for i in range(len(self.events)):
            above: int | None = i if self.events[i].key[0] == readout else None
            while above is not None:
                small.add(above)
                above = self.events[above].parent
        sizes = [event.size for i, event in enumerate(self.events) if i not in small]
        return 8 * max(sizes, default=0) // self.rows.size


def probe(
    module: nn.Module, paths: Mapping[nn.Module, str], modules: Mapping[str, nn.Module], given: Given, smallest: int
) -> Probe:
    """Run two unlike rows together, and the second alone.

    Raises Refused where the two runs do not make the same calls, so that calls cannot be told apart.
    """
    both = given.rows(two_unlike(given))
    alone = both.rows(torch.tensor([1]))
    runs = []
    for rows in (both, alone):
        recorder = Recorder(paths, keep=None)
        call(module, rows.args, rows.kwargs, RunTaps((), {}, modules), recorder.forwards())
        runs.append(recorder.events)
    events, others = runs
    certified = _tokenwise(events, modules)
    weights = [sum(parameter.numel() for parameter in modules[event.key[0]].parameters()) for event in events]
    tokenwise = [one and count >= smallest for one, count in zip(certified, weights, strict=True)]
    light = [one and count < smallest for one, count in zip(certified, weights, strict=True)]
    after = _after(events)
    _same_outline(events, others, tokenwise, after)
    alone_by_key = {event.key: event for event in others}
    axes = [
        row_axes(event.output, alone_by_key[event.key].output) if event.key in alone_by_key else None
        for event in events
    ]
    for event in events:
        event.called = ((), {})
    per_token = [
        2.0 * _weights(modules[event.key[0]]) if one else 0.0 for event, one in zip(events, certified, strict=True)
    ]
    return Probe(events, axes, tokenwise, light, after, per_token, both, forwards=2)


def operations(module: nn.Module, entries: int, rows: int) -> float:
    """About how many operations so many rows take that hold so many numbers each."""
    weights = sum(parameter.numel() for parameter in module.parameters())
    return 2.0 * weights * rows * max(1, entries // 8)


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


def _outline(events: list[Event], atoms: list[bool], after: list[int]) -> list[Key]:
    """The calls in their order, without those inside a token-wise one."""
    found, i = [], 0
    while i < len(events):
        found.append(events[i].key)
        i = after[i] if atoms[i] else i + 1
    return found


def _same_outline(events: list[Event], others: list[Event], atoms: list[bool], after: list[int]) -> None:
    """Raise Refused unless two runs make the same calls, but for those inside token-wise ones."""
    whole = {event.key for event, atom in zip(events, atoms, strict=True) if atom}
    theirs = _outline(others, [event.key in whole for event in others], _after(others))
    ours = _outline(events, atoms, after)
    if ours != theirs:
        path = next((a[0] for a, b in zip(ours, theirs, strict=False) if a != b), "the last call")
        raise Refused(f"which calls are made depends on the input: runs part at {path!r}")


def _after(events: list[Event]) -> list[int]:
    """For every call the number of the first later one that did not happen inside it."""
    starts = [event.start for event in events]
    after = []
    for i, event in enumerate(events):
        j = i + 1
        while j < len(events) and starts[j] < event.end:
            j += 1
        after.append(j)
    return after


def _tokenwise(events: list[Event], modules: Mapping[str, nn.Module]) -> list[bool]:
    def of(event: Event) -> bool:
        module = modules[event.key[0]]
        forward: Callable[..., Any] = module.forward
        return event.steady and is_tokenwise(module, forward, event.called, event.output)

    return [of(event) for event in events]


def two_unlike(given: Given) -> Tensor:
    """[2]: the first row and one that differs from it, or the first twice where there is none."""
    columns = [tensor for tensor in tensors((given.args, given.kwargs)).values() if tensor.ndim]
    for i in range(1, given.size):
        if any(not torch.equal(column[i], column[0]) for column in columns if len(column) == given.size):
            return torch.tensor([0, i])
    return torch.tensor([0, 0])
