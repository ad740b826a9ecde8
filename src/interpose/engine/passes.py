"""One pass: base rows and patched rows together, through the part of the network that the writes can change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import is_memory
from ..sites import Site
from ..structures import mapped, tensors
from ..taps import Change, RowTaps, RowWrite, call
from . import packing  # noqa: F401  - its rules are what packed tensors follow
from .axes import Deviated, rows_of
from .events import Key, products
from .kept import joined
from .live import Batch
from .packed import Packed, Unpacked
from .plan import Write, cells_in
from .probe import Given, Probe
from .skip import Comparison
from .subject import Subject

TOGETHER, MANY = 1024, 2**16
"""For how many packed tokens a call is made at a time, on a processor with caches and elsewhere: products of fewer are
slower; of more, what is between products no longer stays near the processor."""


@dataclass(frozen=True)
class Rows:
    """What each row of a pass is: first one base row an example, or none of them, then one row a cell.

    examples: the examples in the pass, one after another; base: how many base rows there are; owner: [cell], the place
    of its example among them; where: for each write, its rows and the places of its cells among the examples.
    """

    examples: Tensor
    base: int
    owner: Tensor
    where: tuple[tuple[Write, slice, Tensor], ...]

    @property
    def index(self) -> Tensor:
        """[row]: which example it belongs to."""
        return torch.cat([self.examples[: self.base], self.examples.index_select(0, self.owner)])

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.base + len(self.owner)

    def taps(self, modules: Mapping[str, nn.Module], kind: type[RowTaps] = RowTaps) -> RowTaps:
        """The writes of these rows, as hooks."""
        writes: dict[Site, list[RowWrite]] = {}
        for write, rows, places in self.where:
            examples = None if write.whole else self.examples.index_select(0, places)
            for site, intervention in write.sites.items():
                entry = RowWrite(rows, intervention, examples, write.number, len(write.sites) == 1)
                writes.setdefault(site, []).append(entry)
        return kind(writes, self.count, modules)


class PackedTaps(RowTaps):
    """The writes of one pass, also into packed tensors."""

    def edited(self, tensor: Tensor, changes: Sequence[Change]) -> Tensor:
        """A copy of a tensor with functions of them in place of some rows, one function after another."""
        return tensor.edited(changes) if isinstance(tensor, Packed) else super().edited(tensor, changes)


def laid_out(writes: Sequence[Write], examples: Tensor, *, base: bool = True) -> Rows:
    """Base rows for the examples if wanted, then the cells of the writes, each write's in a block of its own."""
    owners: list[Tensor] = []
    where = []
    at = first = len(examples) if base else 0
    for write in writes:
        places = cells_in(write, examples) - int(examples[0])
        if len(places):
            where.append((write, slice(at, at + len(places)), places))
            owners.append(places)
            at += len(places)
    return Rows(examples, first, torch.cat(owners) if owners else torch.zeros(0, dtype=torch.long), tuple(where))


def only_base(size: int) -> Rows:
    """A row for each of so many examples, and nothing written."""
    return Rows(torch.arange(size), size, torch.zeros(0, dtype=torch.long), ())


@dataclass
class Conductor:
    """Decides for every call of a pass: hand out what is known, make it for the tokens that differ, or make it.

    given: the calls whose output is handed out, with that output for the pass's rows; comparison: how to skip, if at
    all; touched: the calls in which something is written, so that what is inside of them is looked at.
    last_only: the calls of which only the last token matters; stand_ins: other functions for some modules; seen: what
    goes on from a call that was made, given its number and output.
    Raises Deviated where the calls are not those of the recording.
    """

    probe: Probe
    paths: Mapping[nn.Module, str]
    given: Mapping[int, Callable[[], Any]]
    comparison: Comparison | None
    touched: frozenset[int]
    last_only: frozenset[int] = frozenset()
    stand_ins: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    next: int = 0
    inside: bool = False
    flops: float = 0.0
    failure: Deviated | None = None
    seen: Callable[[int, Any], Any] = field(default=lambda i, output: output)

    def forwards(self) -> dict[nn.Module, Callable[..., Any]]:
        """What to call in place of each module's `forward`."""
        self.thread = threading.get_ident()
        return {module: self._conducted(module, path) for module, path in self.paths.items()}

    def finish(self) -> None:
        """Raise Deviated unless all the calls of the recording were met."""
        if self.failure is None and self.next != len(self.probe.events):
            self.failure = Deviated(f"{self.probe.events[self.next].key[0]!r} was not called.")
        if self.failure is not None:
            raise self.failure

    def _conducted(self, module: nn.Module, path: str) -> Callable[..., Any]:
        original = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.inside or threading.get_ident() != self.thread:
                return original(*args, **kwargs)
            i = self._met(path)
            if i in self.given:
                self.next = self.probe.after[i]
                return self.given[i]()
            if path in self.stand_ins:
                return self.stand_ins[path](*(x.dense() if isinstance(x, Packed) else x for x in args))
            packed = bool(args) and isinstance(args[0], Packed)
            tokenwise = self.probe.tokenwise[i] or (packed and self.probe.light[i])
            if not tokenwise or i in self.touched:
                self.flops += products(module, list(tensors((args, kwargs)).values()))
                return self.seen(i, original(*args, **kwargs))
            if packed:
                return self.seen(i, self._packed(i, type(module) is nn.Linear, original, *args, **kwargs))
            self.next, self.inside = self.probe.after[i], True
            try:
                (x,) = args
                if self.comparison is None or x.ndim < 2 or len(x) != self.comparison.rows:
                    output, share = original(x, **kwargs), 1.0
                else:
                    last = i in self.last_only
                    output, share = self.comparison.call(i, lambda t: original(t, **kwargs), x, last_only=last)
                self.flops += share * self.probe.per_token[i] * x.numel() / x.shape[-1]
            finally:
                self.inside = False
            return self.seen(i, output)

        return forward

    def _packed(self, i: int, at_once: bool, forward: Callable[..., Tensor], x: Packed, **kwargs: Any) -> Packed:
        """What a token-wise call gives, made for the values that are kept; at_once: of which all are given at once."""
        if tensors(kwargs):
            raise Unpacked("a token-wise call is given more than one tensor")
        x = x.tokens()
        if i in self.last_only and x.axis:
            live, kept = x.live.last
            x = Packed(x.entries.index_select(0, kept), live, x.axis)
        parts = [x.entries] if at_once else x.kept.parts(TOGETHER if x.device.type == "cpu" else MANY)
        self.next, self.inside = self.probe.after[i], True
        try:
            whole = joined((self._vectors(x.ndim, forward, part, kwargs) for part in parts), x.live.count)
        finally:
            self.inside = False
        self.flops += self.probe.per_token[i] * x.live.count
        return Packed(whole, x.live, x.axis)

    @staticmethod
    def _vectors(ndim: int, forward: Callable[..., Tensor], x: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """[value, unit]: what a call gives for [value, unit], taken for tokens, each in a row of its own."""
        return forward(x[:, None] if ndim == 3 else x, **kwargs).reshape(len(x), -1)

    def _met(self, path: str) -> int:
        i = self.next
        if i >= len(self.probe.events) or self.probe.events[i].key[0] != path:
            expected = self.probe.events[i].key[0] if i < len(self.probe.events) else "the end"
            self.failure = self.failure or Deviated(f"{path!r} was called where {expected!r} was expected.")
            raise self.failure
        self.next = i + 1
        return i


def touched(sites: Sequence[Site], probe: Probe) -> frozenset[int]:
    """The calls inside which one of the sites is, by their numbers."""
    found: set[int] = set()
    paths = {site.path for site in sites}
    for event in probe.events:
        above = event.parent if event.key[0] in paths else None
        while above is not None:
            found.add(above)
            above = probe.events[above].parent
    return frozenset(found)


def handed_out(
    probe: Probe, numbers: Sequence[int], outputs: Mapping[Key, Any], rows: Tensor, size: int
) -> dict[int, Callable[[], Any]]:
    """Functions that give what was recorded of these calls, for the rows of a pass."""

    def of(i: int) -> Callable[[], Any]:
        axes = probe.axes[i]
        assert axes is not None
        return lambda: rows_of(outputs[probe.events[i].key], axes, rows, size)

    return {i: of(i) for i in numbers}


def run_plain(module: nn.Module, given: Given, rows: Rows, modules: Mapping[str, nn.Module]) -> Any:
    """The output of a pass in which every call is made for all rows."""
    wide = given.rows(rows.index)
    return call(module, wide.args, wide.kwargs, rows.taps(modules))


def run_conducted(
    module: nn.Module, given: Given, rows: Rows, modules: Mapping[str, nn.Module], conductor: Conductor
) -> Any:
    """The output of a pass with a conductor. Raises Deviated."""
    wide = given.rows(rows.index)
    taps = rows.taps(modules)
    try:
        output = call(module, wide.args, wide.kwargs, taps, conductor.forwards())
    except Exception:
        if conductor.failure is not None:
            raise conductor.failure from None
        raise
    conductor.finish()
    return output


def run_packed(subject: Subject, given: Given, rows: Rows, conductor: Conductor, device: torch.device) -> Any:
    """The outcome of a pass with base rows, in which tensors are packed. Raises Unpacked where that cannot be done."""
    batch = Batch(rows.base, torch.cat([torch.arange(rows.base), rows.owner]).to(device))
    base = given.rows(rows.examples)
    args, kwargs = mapped((base.args, base.kwargs), lambda _, x: Packed(x, batch.none(), 0))
    try:
        output = call(subject.module, args, kwargs, rows.taps(subject.modules, PackedTaps), conductor.forwards())
        outcome = mapped(subject.outcome(output), lambda _, x: x.dense() if isinstance(x, Packed) else x)
        conductor.finish()
    except Exception as error:
        if is_memory(error):
            raise
        raise Unpacked(batch.refusals[0] if batch.refusals else f"{type(error).__name__}: {error}") from error
    if batch.refusals:
        raise Unpacked(batch.refusals[0])
    return outcome
