"""The waist: a model runs inputs, and at its places interventions overwrite values.

A causal model's places are its variables; a network's places are its sites. Both answer the same few
calls, so that interchange, effects, scans and alignments are written once and work on either.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import UnknownPlace, WrongInput

Place = TypeVar("Place", bound=Hashable)
Floats = NDArray[np.float64]
Intervention = Callable[[Any], Any]
"""A function old -> new. A plain value is short for `Set(value)`."""

Score = Callable[[Any], Tensor]
"""A function output -> [example]."""

NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Written(Generic[Place]):
    """What one write did: an entry of the ledger. It is worked out when it is asked for.

    place: where; fired: how often the place was met in the run; old, new: the values before and after (old is None for
    a variable that was set without being computed).
    """

    place: Place
    fired: int
    old: Any = field(repr=False)
    new: Any = field(repr=False)

    @property
    def size(self) -> int:
        """How many values stand there."""
        return self._old.numel()

    @property
    def touched(self) -> int:
        """How many of them changed."""
        return int((self._old != self._new).sum())

    @property
    def change(self) -> float:
        """The largest absolute change; of values that are no numbers, 1 where they differ."""
        wide = torch.complex128 if self._new.is_complex() or self._old.is_complex() else torch.float64
        return float((self._new.to(wide) - self._old.to(wide)).abs().max()) if self.size else 0.0

    @property
    def _old(self) -> Tensor:
        return _comparable(self.old, self.new)[0]

    @property
    def _new(self) -> Tensor:
        return _comparable(self.old, self.new)[1]

    def __repr__(self) -> str:
        changed = f"{self.touched} of {self.size} values changed, by at most {self.change:.3g}"
        return f"<{self.place}: fired {self.fired} x, {changed}>"


def untold(_: Any) -> None:
    """Stands in where nobody wants to hear of progress."""


def is_site(thing: Any) -> bool:
    """Whether something is a place that knows its own spelling."""
    return hasattr(thing, "spelling")


def several(places: Iterable[Any], what: str = "places") -> list[Any]:
    """Places as a list. Raises WrongInput for a single one, whose letters would be taken for places."""
    if isinstance(places, str) or is_site(places):
        raise WrongInput(f"{what} is one place, {places!r}. Give a list of them: [{places!r}].")
    return list(places)


def assigned(write: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """What to write where. Raises WrongInput for places without values."""
    if not isinstance(write, Mapping):
        raise WrongInput(f"write says what to write where, as in write={{'l1[1]': 0.0}}, not {write!r}.")
    return write


def meet(place: Any, other: Any) -> bool:
    """Whether two places of one model share what they hold, so that writing both would overwrite one."""
    return bool(place == other or (hasattr(place, "overlaps") and place.overlaps(other)))


def _comparable(old: Any, new: Any) -> tuple[Tensor, Tensor]:
    """Two values as tensors of one length; where they are no numbers, as 0 and 1 by whether they differ."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.detach().cpu(), new.detach().cpu()
    before, after = (list(v) if isinstance(v, list | np.ndarray | Tensor) else [v] for v in (old, new))
    if len(before) == 1:  # one value for every row, or None: set without having been computed
        before = before * len(after)
    if all(isinstance(v, int | float | np.number | Tensor) for v in (*before, *after)):
        return tuple(torch.tensor([float(v) for v in values]) for values in (before, after))  # type: ignore[return-value]
    differ = [float(a != b) for a, b in zip(before, after, strict=True)]
    return torch.zeros(len(differ)), torch.tensor(differ)


@dataclass(frozen=True, eq=False)
class Run(Generic[Place]):
    """The outcome of one run: its output, the values read, and a ledger of what was written.

    `run["h12"]` is the value read at a place, by any spelling the model accepts.
    """

    output: Any
    values: Mapping[Place, Any]
    ledger: tuple[Written[Place], ...] = ()
    place: Callable[[Any], Place] = field(default=lambda spelling: spelling, repr=False)

    def __getitem__(self, spelling: Any) -> Any:
        place = self.place(spelling)
        if place not in self.values:
            raise UnknownPlace(
                f"{str(spelling)!r} was not read in this run. Pass read=[{str(spelling)!r}] to run. "
                + (f"Read were {', '.join(map(str, self.values))}." if self.values else "Nothing was read.")
            )
        return self.values[place]


@dataclass(frozen=True)
class Work:
    """What a sweep cost, and how it was run.

    mechanisms: which savings were in force, in words; forwards: passes through the model, and rows: what they held
    together; flops: predicted for the layers' matrix products, multiply-add = 2, 0 where they are too few to be
    counted; noise: the largest distance of an untouched row of a pass from the plain run, in the metric's units;
    unreachable: the writes (by their number in the sweep) from which nothing leads to what the metric reads; notes:
    what a reader should know.
    """

    mechanisms: tuple[str, ...] = ()
    forwards: int = 0
    rows: int = 0
    flops: float = 0.0
    noise: float = 0.0
    unreachable: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Work) -> Work:
        """The work of two sweeps together; which writes were unreachable is said of single sweeps only."""
        return Work(
            tuple(dict.fromkeys((*self.mechanisms, *other.mechanisms))),
            self.forwards + other.forwards,
            self.rows + other.rows,
            self.flops + other.flops,
            max(self.noise, other.noise),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )


@dataclass(frozen=True, eq=False)
class FourRuns:
    """What every effect is a contrast of, for some pairs and places.

    ybb, yss: [pair], the base and the source input untouched.
    ybs, ysb: [pair, place], the base input with the source's value at the place, and the source input with the base's.
    response: [pair, place], the largest change of the place's own value between base and source.
    unreachable: [pair, place], whether nothing leads from the place to what the metric reads.
    checked: whether runs were repeated and rows held against rows of other batches on the way.
    """

    ybb: Floats
    yss: Floats
    ybs: Floats
    ysb: Floats
    response: Floats
    unreachable: NDArray[np.bool_]
    work: Work
    checked: bool = field(default=False, kw_only=True)


class Model(Protocol[Place]):
    """Anything that runs inputs and lets its places be read and overwritten."""

    def place(self, spelling: Any) -> Place:
        """The place that a spelling names.

        Raises UnknownPlace, with the nearest name, if there is none.
        """
        ...

    def run(self, inputs: Any, *, read: Iterable[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[Place]:
        """Run once. A place that is both written and read reads the written value.

        inputs: one example or a batch of them, in whatever form the model takes.
        read: places whose values are copied; write: place -> intervention or plain value.
        Raises UnknownPlace, WrongShape, OverlappingWrites or NotFired, and never writes in part.
        """
        ...

    def precedes(self, place: Any, other: Any) -> bool:
        """Whether one place is known to be reached before another, so that nothing of the other can be in it."""
        return False

    def ready(self) -> None:
        """Raise NotRepeatable if the state the model is in makes its runs depend on chance or on each other."""
        return

    def comparable(
        self, base: Any, source: Any, places: Sequence[Any], names: tuple[str, str] = ("the base", "the source")
    ) -> None:
        """Raise WrongPairs for a place that is not the same place in base and source of a pair, before it is measured.

        names: what to call the two.
        """
        return

    def sweep(self, inputs: Any, writes: Sequence[Mapping[Any, Any]], *, metric: Score) -> Tensor:
        """Run once per element of `writes`, each from the same inputs: [write, example] scores.

        A metric that has `tick` and `record` (`metrics.Scored`) is told of progress, and of the `Work` done.
        """
        scores = []
        for write in writes:
            scores.append(metric(self.run(inputs, write=write).output))
            getattr(metric, "tick", untold)(1)
        getattr(metric, "record", untold)(
            Work(("one run a write",), len(writes), sum(score.numel() for score in scores))
        )
        return torch.stack(scores)

    def four_runs(self, base: Any, source: Any, places: Sequence[Any], *, metric: Score) -> FourRuns | None:
        """The four runs of every pair and place at once, where a model has a way that costs less than asking for each.

        places: places or groups of them. None where it has none, or where a check on the way did not hold: then the
        runs are asked for one after another.
        """
        return None


def read_all(model: Model[Any], inputs: Iterable[Any], places: Sequence[Any]) -> dict[Any, Any]:
    """The value of every place in every example of several inputs: a tensor [example, ...], or a list.

    It is a list, too, of tensors that differ in shape, as what spans prompts of unequal length does.
    """
    runs = [model.run(some, read=places) for some in inputs]
    return {place: _one_after_another([run[place] for run in runs]) for place in places}


def _one_after_another(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, Tensor) for part in parts) and len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    return [row for part in parts for row in part]
