"""Hooks on modules: what reads and writes in a run. This is the only file that registers hooks or wraps `forward`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .errors import AmbiguousSite, NotFired, OverlappingWrites, WrongShape
from .interventions import Set, fitting, intervene
from .model import Written
from .sites import Site
from .structures import choose, copied, exchange, version_of
from .units import plain_attention, refuse_recomputed

ONE_AT_A_TIME = threading.RLock()
"""Hooks on a module, and torch's choice of attention path, belong to one run at a time."""

Forwards = Mapping[nn.Module, Callable[..., Any]]

BESIDE: ContextVar[tuple[Callable[[], Taps], ...]] = ContextVar("BESIDE", default=())
"""What else is tapped in every run, after the taps of the run itself: `windows.py` says what."""

Change = tuple[slice, Callable[[Tensor], Tensor]]
"""Some rows, one after another, and what to put in their place given what they are."""


def call(module: nn.Module, args: Any, kwargs: Any, taps: Taps, forwards: Forwards | None = None) -> Any:
    """What a module returns while it is tapped, and while some of its parts compute something else.

    The module, its hooks and its parts are left as they were in any case; it works on copies of the tensors given.
    """
    every = [taps, *(made() for made in BESIDE.get())]
    with ONE_AT_A_TIME, ExitStack() as stack, _replaced(forwards or {}), plain_attention():
        for one in every:
            stack.enter_context(one.attached())
        output = module(*copied(args), **copied(kwargs))
    for one in every:
        if one.failure is not None:  # the module caught it, and went on without what was to be written
            raise one.failure
        one.check(type(module).__name__)
    return output


@contextmanager
def _replaced(forwards: Forwards) -> Iterator[None]:
    """Other functions as the `forward` of some modules, as instance attributes, so that hooks around them still run."""
    before = {module: module.__dict__["forward"] for module in forwards if "forward" in module.__dict__}
    try:
        for module, forward in forwards.items():
            module.__dict__["forward"] = forward
        yield
    finally:
        for module in forwards:
            module.__dict__.pop("forward", None)
        for module, forward in before.items():
            module.__dict__["forward"] = forward


class Taps:
    """Hooks on the modules of some sites, for one run; what they do there is said by `visited`."""

    def __init__(self, sites: Iterable[Site], modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self.calls: dict[str, int] = {}
        self.open: dict[str, list[int]] = {}  # the calls that have begun and not ended, innermost last
        self.met: dict[Site, int] = dict.fromkeys(sites, 0)
        self.at: dict[tuple[str, str], list[Site]] = {}
        for site in self.met:
            self.at.setdefault((site.path, site.end), []).append(site)
        self.failure: BaseException | None = None
        self.thread = threading.get_ident()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on the modules that are read or written, for the time of one run."""
        with ExitStack() as stack:
            for path in dict.fromkeys(site.path for site in self.met):
                module = self.modules[path]
                stack.callback(module.register_forward_pre_hook(self._before(path), with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(self._after(path)).remove)
            yield

    def _before(self, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if threading.get_ident() != self.thread:
                return None  # somebody else's call of the same module
            call = self.calls.get(path, 0)
            self.calls[path] = call + 1
            self.open.setdefault(path, []).append(call)
            if (path, "input") not in self.at:
                return None
            given = {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}
            changed = self._visit(path, "input", call, given)
            if changed is given:
                return None
            return tuple(changed[str(i)] for i in range(len(args))), {name: changed[name] for name in kwargs}

        return hook

    def _after(self, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if threading.get_ident() != self.thread:
                return None
            call = self.open[path].pop()
            return self._visit(path, "output", call, output) if (path, "output") in self.at else None

        return hook

    def _visit(self, path: str, end: str, call: int, structure: Any) -> Any:
        try:
            here = [site for site in self.at[path, end] if site.occurrence in (None, call)]
            for site in here:
                self.met[site] += 1
            here = [site for site in here if self.met[site] == 1]  # check() refuses a second call without an occurrence
            return self.visited(here, f"{path}:{end}", structure)
        except BaseException as failure:
            self.failure = self.failure or failure
            raise

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """What goes on from a place where these sites are."""
        return structure

    def check(self, owner: str) -> None:
        """Raise NotFired for a site that was not met, AmbiguousSite for one met in several calls."""
        for site, times in self.met.items():
            calls = self.calls.get(site.path, 0)
            if times == 0 and calls == 0:
                raise NotFired(
                    f"{site.path or owner!r} did not run in this forward pass, so nothing was read or written at "
                    f"{site}. Is it on a branch not taken, or bypassed by a fused path?"
                )
            if times == 0:
                raise NotFired(
                    f"{site.path or owner!r} ran {calls} times, so there is no call #{site.occurrence}: they count "
                    "from #0."
                )
            if times > 1:
                raise AmbiguousSite(
                    f"{site.path or owner!r} ran {times} times in this forward pass. Say which call {site} means: "
                    f"'{site.path}#0' to '{site.path}#{times - 1}'."
                )


class RunTaps(Taps):
    """The reads and writes of one run, the same for all its rows; keep: what is kept of what a site holds, a copy."""

    def __init__(
        self,
        reads: Sequence[Site],
        writes: Mapping[Site, Callable[[Any], Any]],
        modules: Mapping[str, nn.Module],
        keep: Callable[[Site, Tensor], Any] = lambda site, held: held.clone(),
    ) -> None:
        super().__init__([*writes, *reads], modules)
        self.reads, self.writes, self.keep = set(reads), writes, keep
        self.values: dict[Site, Any] = {}
        self.changes: dict[Site, tuple[Tensor, Tensor]] = {}
        self.made: list[tuple[Tensor, int, Site]] = []  # tensors that hold a write, as they were when it was made
        self.differentiable = torch.is_grad_enabled()

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """The structure with what is written there; reads see the writes."""
        for site in here:
            if site in self.writes:
                leaf, tensor = choose(structure, site.leaf, owner)
                self._refuse_overlap(site, tensor)
                new = self._written(site, tensor)
                self.made.append((new, version_of(new), site))
                structure = exchange(structure, leaf, new)
        for site in here:
            if site in self.reads:
                self.values[site] = self.keep(site, site.get(choose(structure, site.leaf, owner)[1]))
        return structure

    def _refuse_overlap(self, site: Site, tensor: Tensor) -> None:
        """Other addresses may lead to one tensor: that of a child is its parent's, if the parent just hands it on."""
        for made, version, other in self.made:
            if made is tensor and version == version_of(tensor) and _same_units(other, site, tensor):
                refuse_overlap(site, other)

    def _written(self, site: Site, tensor: Tensor) -> Tensor:
        if self.differentiable:
            refuse_recomputed(site)
        old, new = written(site, tensor, self.writes[site])
        self.changes[site] = old.detach().clone(), new.detach().clone()
        return site.set(tensor, new)

    def ledger(self) -> tuple[Written[Site], ...]:
        """What every write did, in the order in which the sites were met."""
        return tuple(Written(site, self.met[site], old, new) for site, (old, new) in self.changes.items())


class Order(Taps):
    """The order in which a run comes to the end of some modules, those that run at all."""

    def __init__(self, sites: Iterable[Site], modules: Mapping[str, nn.Module]) -> None:
        super().__init__(sites, modules)
        self.paths: dict[str, None] = {}

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """Whatever goes by goes on."""
        self.paths |= dict.fromkeys(site.path for site in here)
        return structure

    def check(self, owner: str) -> None:
        """A module that does not run is no mistake."""


@dataclass(frozen=True)
class RowWrite:
    """What is written at a site in some rows of a pass; of a whole column of values, the part at `examples`.

    rows: which rows, one after another; examples: which examples they belong to, None for all in their order.
    number: which write of the sweep this belongs to; alone: whether that write has no other sites.
    """

    rows: slice
    intervention: Callable[[Any], Any]
    examples: Tensor | None
    number: int
    alone: bool

    def chosen(self) -> Callable[[Any], Any]:
        """The intervention for these rows."""
        if self.examples is None or not isinstance(self.intervention, Set):
            return self.intervention
        value = self.intervention.value
        return Set(value.index_select(0, self.examples.to(value.device))) if isinstance(value, Tensor) else Set(value)


class RowTaps(Taps):
    """The writes of one pass, in which every write has rows of its own; other rows stay as they are, bit for bit.

    Raises NotByRow where what passes does not have as many rows as the pass.
    """

    def __init__(self, writes: Mapping[Site, Sequence[RowWrite]], rows: int, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(writes, modules)
        self.writes, self.rows = writes, rows
        self.made: list[tuple[Tensor, int, Site, set[int]]] = []

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """The structure with a copy of the tensor in which these rows are written."""
        found: dict[str, Tensor] = {}
        changes: dict[str, list[Change]] = {}
        for site in here:
            leaf, tensor = choose(structure, site.leaf, owner)
            if tensor.ndim == 0 or len(tensor) != self.rows:
                raise NotByRow(f"{site} holds {tuple(tensor.shape)} in a pass of {self.rows} rows")
            self._refuse_overlap(site, tensor)
            found[leaf] = tensor
            changes.setdefault(leaf, []).extend((write.rows, _change(site, write)) for write in self.writes[site])
        for leaf, tensor in found.items():
            whole = self.edited(tensor, changes[leaf])
            several = {w.number for site in here for w in self.writes[site] if not w.alone}
            self.made += [(whole, version_of(whole), site, several) for site in here if several]
            structure = exchange(structure, leaf, whole)
        return structure

    def edited(self, tensor: Tensor, changes: Sequence[Change]) -> Tensor:
        """A copy of a tensor with functions of them in place of some rows, one function after another."""
        whole = tensor.clone()
        for rows, change in changes:
            whole[rows] = change(whole[rows])
        return whole

    def _refuse_overlap(self, site: Site, tensor: Tensor) -> None:
        for made, version, other, numbers in self.made:
            shared = numbers & {write.number for write in self.writes[site]}
            if shared and made is tensor and version == version_of(tensor) and _same_units(other, site, tensor):
                refuse_overlap(site, other)


def _change(site: Site, write: RowWrite) -> Callable[[Tensor], Tensor]:
    """What a write does to its rows."""
    return lambda rows: site.set(rows, written(site, rows, write.chosen())[1])


class NotByRow(Exception):
    """A tensor whose first axis is not the row of the pass, so that rows cannot be written one by one."""


def written(site: Site, tensor: Tensor, intervention: Callable[[Any], Any]) -> tuple[Tensor, Tensor]:
    """The old value at a site and the new one. Raises WrongShape or BadIntervention where the new one does not fit."""
    old = site.get(tensor)
    try:
        new = intervene(intervention, old.clone())
    except WrongShape as error:
        raise WrongShape(f"At {site}: {error}. Read the same site from a source run, or pass a number.") from None
    if not isinstance(new, Tensor):
        new = Set(new)(old)
    if new.shape != old.shape:
        raise WrongShape(
            f"At {site}: the intervention made {tuple(new.shape)} of {tuple(old.shape)}. It should keep the shape."
        )
    return old, fitting(new, old, site).clone()  # a copy: what comes later in the network may overwrite it in place


def refuse_overlap(site: Site, other: Site) -> None:
    """Raise OverlappingWrites, naming both."""
    raise OverlappingWrites(
        f"{site} and {other} overwrite the same units, and the last would silently win. "
        "Write them once, or one after another with Chain(first, second)."
    )


def _same_units(other: Site, site: Site, tensor: Tensor) -> bool:
    there = replace(other, path=site.path, end=site.end, leaf=site.leaf, occurrence=site.occurrence)
    return site.overlaps(there, tensor)
