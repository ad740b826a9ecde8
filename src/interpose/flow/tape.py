"""A run as a list of steps, and which numbers can depend on which, followed along it forwards or backwards.

A store is memory that tensors share, and a view is what one tensor sees of it; so a write into a view is seen by all
the others, as it is in the run. A mask says of every number of a store whether it may depend on something, or whether
something may depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..sites import Site

Relation = Callable[[Sequence[Tensor], bool], list[Tensor]]
"""Which outputs of an operation depend on which inputs: linear and nonnegative, from masks of numbers to masks.

An output depends on nothing that is marked where 0 comes out; any other result is at least 1. The flag asks what would
hold if no weight were 0.
"""


@dataclass(eq=False)
class Store:
    """Memory that some tensors share.

    size: of how many numbers, of `itemsize` bytes each.
    known: whether they are the same for every input, made of parameters and constants alone.
    foreign: whether it was there before the run, and frozen: whether it is seen as numbers of two kinds, so that it
    must not be written.
    kin: all the stores that would be one if no places were set apart. sites: the places that set this one apart from
    the first of them. stale: those without which something written elsewhere would have been written here.
    """

    size: int
    itemsize: int
    device: torch.device
    known: bool
    foreign: bool = False
    frozen: bool = False
    kin: list[Store] = field(default_factory=list, repr=False)
    sites: frozenset[Site] = frozenset()
    stale: set[Site] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.kin.append(self)

    def apart(self, real: Tensor, sites: Sequence[Site]) -> Store:
        """Memory of its own for what is here, where some places are."""
        store = Store.of(real, known=False, foreign=self.foreign)
        store.kin, store.sites = self.kin, self.sites.union(sites)
        store.kin.append(store)
        return store

    def write(self, known: bool) -> None:
        """Note that something is written here, which is known or not."""
        self.known = self.known and known
        for other in self.kin:
            other.stale |= other.sites ^ self.sites

    @classmethod
    def of(cls, real: Tensor, *, known: bool, foreign: bool = False) -> Store:
        """The memory of a tensor."""
        size = real.untyped_storage().nbytes() // real.itemsize
        return cls(size, real.itemsize, real.device, known, foreign)


Masks = dict[Store, Tensor]
"""[number] for some stores; nothing is marked in the others."""


@dataclass(frozen=True)
class View:
    """What one tensor sees of a store."""

    store: Store
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def get(self, masks: Masks) -> Tensor | None:
        """The mask of these numbers, in the tensor's shape; None where nothing is marked in the store."""
        flat = masks.get(self.store)
        return None if flat is None else self._seen(flat).clone()

    def add(self, masks: Masks, mask: Tensor) -> None:
        """Mark these of the numbers, beside those that are marked."""
        if self.store not in masks:
            if not bool(mask.any()):
                return
            masks[self.store] = torch.zeros(self.store.size, dtype=torch.bool, device=self.store.device)
        flat = masks[self.store]
        mask = mask.to(flat.device)
        if self._apart:
            self._seen(flat).logical_or_(mask)
        else:
            flat[self._numbers(flat)[mask]] = True

    def clear(self, masks: Masks) -> None:
        """Mark none of these numbers."""
        flat = masks.get(self.store)
        if flat is not None and self._apart:
            self._seen(flat).fill_(False)
        elif flat is not None:
            flat[self._numbers(flat).reshape(-1)] = False

    def _seen(self, flat: Tensor) -> Tensor:
        return flat.as_strided(self.shape, self.stride, self.offset)

    def _numbers(self, flat: Tensor) -> Tensor:
        return self._seen(torch.arange(len(flat), device=flat.device))

    @property
    def _apart(self) -> bool:
        """Whether no number is seen twice."""
        reach = 0
        for stride, size in sorted(zip(self.stride, self.shape, strict=True)):
            if size > 1:
                if stride <= reach:
                    return False
                reach += stride * (size - 1)
        return True


@dataclass(frozen=True, eq=False)
class Step:
    """One operation, or the places where the run comes by.

    inputs: what it reads, of what is not known; outputs: what it writes, all of which it overwrites. born: the stores
    that it makes.
    zeros: whether something known that it multiplies by is exactly 0, and weights: the parameters that this is made of.
    chance: whether what it writes is random, or left unset.
    sites: the places whose whole tensor is the output, or, where a step only looks, the input.
    """

    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    relation: Relation
    born: tuple[Store, ...] = ()
    zeros: bool = False
    weights: tuple[str, ...] = ()
    chance: bool = False
    sites: tuple[Site, ...] = ()

    def reached(self, masks: Sequence[Tensor | None], dense: bool = False) -> list[Tensor]:
        """Which outputs depend on these inputs; dense: if no weight were 0."""
        given = [_floats(mask, view) for mask, view in zip(masks, self.inputs, strict=True)]
        return [mask > 0.5 for mask in self.relation(given, dense)]

    def needed(self, masks: Sequence[Tensor | None], dense: bool = False) -> list[Tensor]:
        """Which inputs these outputs depend on: the transpose of the relation."""
        with torch.inference_mode(False), torch.enable_grad():
            given = [_floats(None, view).requires_grad_() for view in self.inputs]
            gave = self.relation(given, dense)
            wanted = [_floats(mask, view) for mask, view in zip(masks, self.outputs, strict=True)]
            paths = [(a, b.to(a.device)) for a, b in zip(gave, wanted, strict=True) if a.requires_grad]
            grads: Sequence[Tensor | None] = [None] * len(given)
            if paths:
                gave, wanted = [a for a, _ in paths], [b for _, b in paths]
                grads = torch.autograd.grad(gave, given, wanted, allow_unused=True)
        return [_floats(g, view) > 0.5 for g, view in zip(grads, self.inputs, strict=True)]

    def check(self) -> None:
        """Raise an exception of some kind where the relation cannot be followed both ways."""
        there = self.reached([torch.ones(view.shape) for view in self.inputs])
        back = self.needed([torch.ones(view.shape) for view in self.outputs])
        if _any(there) != _any(back):
            raise ValueError("what it reaches does not need it")


Followed = tuple[Step, list[Tensor | None], list[Tensor]]
"""A step, what is marked on the side that is come from, and what on the other."""


@dataclass(eq=False)
class Tape:
    """The steps of one run, what it was given and what its outcome is made of."""

    steps: list[Step] = field(default_factory=list)
    given: list[View] = field(default_factory=list)
    outcome: list[View] = field(default_factory=list)

    def backward(self, masks: Masks, start: int | None = None) -> Iterator[Followed]:
        """From the last step, or the one before `start`, to the first: each of which something is needed.

        With what of its outputs is needed, and what of its inputs is therefore. The masks move along.
        """
        for step in reversed(self.steps[:start]):
            wanted = [view.get(masks) for view in step.outputs]
            if not _any(wanted):
                continue
            for view in step.outputs:
                view.clear(masks)
            for store in step.born:
                masks.pop(store, None)
            needed = step.needed(wanted)
            for view, mask in zip(step.inputs, needed, strict=True):
                view.add(masks, mask)
            yield step, wanted, needed

    def forward(self, masks: Masks, start: int = 0, *, chance: bool = False) -> Iterator[Followed]:
        """From `start` to the last step: each of which some inputs are reached.

        With what of its inputs is reached, and what of its outputs is therefore. The masks move along.
        chance: whether what is random is reached too.
        """
        for step in self.steps[start:]:
            given = [view.get(masks) for view in step.inputs]
            for view in step.outputs:
                view.clear(masks)
            if step.chance and chance:
                for view in step.outputs:
                    view.add(masks, torch.ones(view.shape, dtype=torch.bool))
            elif _any(given):
                reached = step.reached(given)
                for view, mask in zip(step.outputs, reached, strict=True):
                    view.add(masks, mask)
                yield step, given, reached


def _any(masks: Sequence[Tensor | None]) -> bool:
    return any(mask is not None and bool(mask.any()) for mask in masks)


def _floats(mask: Tensor | None, view: View) -> Tensor:
    if mask is None:
        return torch.zeros(view.shape, device=view.store.device)
    return mask.to(view.store.device, torch.float32, copy=True)
