"""What a sweep is asked, which savings it may use, and what plain runs say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ReplayMismatch
from ..model import Work
from ..sites import Site
from ..taps import RunTaps, call
from ..units import device_of
from .axes import another_batch, rounding
from .probe import Given, Probe
from .readout import Readout
from .subject import Subject

Interventions = Mapping[Site, Callable[[Any], Any]]


@dataclass(frozen=True)
class Engine:
    """Which savings a sweep may use; all of them are exact, and None uses each where it pays.

    replay: hand out what calls gave that ended before a write, instead of making them again.
    skip: make token-wise calls only for the tokens that differ from the base run.
    pack: keep values packed between these calls, so that what is done in between is done for these tokens only, too.
    cone: in the last calls, only for the token that is read. columns: only the outputs that the metric reads.
    budget: bytes that a pass may take; by default a quarter of the free memory, on a CPU at most 1 GiB.
    check: compare sampled cells with plain runs, and fall back to fewer savings where they differ; and look whether the
    network goes this way or that by what it computed, for then one run a write is made.
    """

    replay: bool | None = None
    skip: bool | None = None
    pack: bool | None = None
    cone: bool | None = None
    columns: bool = True
    budget: int | None = None
    check: bool = True


ALL = Engine()
"""Every saving, each where it pays."""

UNCHECKED = Engine(check=False)


@dataclass(frozen=True)
class Means:
    """The savings in force, and what is known for them."""

    names: tuple[str, ...]
    probe: Probe | None = None
    replay: bool = False
    skip: bool = False
    pack: bool = False
    last_only: frozenset[int] = frozenset()
    unreachable: frozenset[int] = frozenset()  # the writes from which nothing leads to the outcome, as far as is known
    readout: Readout | None = None
    base_rows: bool = True  # whether every pass has base rows of its own


class Mismatch(Exception):
    """A check that failed."""


@dataclass
class Sweep:
    """One sweep: what is asked, what the plain base run gave, and the work done."""

    subject: Subject
    given: Given
    metric: Any
    anchor: Tensor
    engine: Engine
    work: Work = field(default_factory=Work)
    largest: float = 1.0  # of the numbers that the plain base run gave
    row_flops: float = 0.0  # of one row in a plain run, once it is known

    def scored(self, outcome: Any, examples: Tensor, readout: Readout | None = None) -> Tensor:
        """The metric of an outcome that has a row for each of some examples."""
        metric = self.metric if readout is None else readout.metric
        if not torch.equal(examples, torch.arange(self.given.size)):
            metric = replace(metric, pairs=metric.pairs[examples.tolist()])
        return metric(outcome)

    def call(self, given: Given, writes: Interventions) -> Any:
        """The outcome of a plain run."""
        self.work += Work(forwards=1, rows=given.size, flops=given.size * self.row_flops)
        taps = RunTaps((), writes, self.subject.modules)
        with another_batch():
            return self.subject.outcome(call(self.subject.module, given.args, given.kwargs, taps))

    def compare(self, control: Tensor, examples: Tensor, culprit: str | Callable[[], str]) -> None:
        """Untouched rows with the plain base run. Raises Mismatch where they differ by more than rounding."""
        noise = float((control - self.anchor.index_select(0, examples)).abs().max())
        if not noise <= self.tolerance():
            name = culprit if isinstance(culprit, str) else culprit()
            raise Mismatch(f"{name} differs from the base run by {noise:.2g} when replayed.")
        self.work += Work(noise=noise)

    def tell(self, text: str) -> None:
        """Say once, to the user and in the record, what did not go as planned."""
        if text not in self.work.notes:
            self.work += Work(notes=(text,))
            warnings.warn(text, ReplayMismatch, stacklevel=2)

    def tolerance(self, size: float = 0.0) -> float:
        """How far scores of this size may differ between batches of other shapes."""
        kinds = [p.dtype for p in self.subject.module.parameters() if p.is_floating_point()]
        size = max(size, float(self.anchor.abs().max()))
        share = 10 * max(map(rounding, kinds), default=rounding(torch.float32))
        finest = max((torch.finfo(kind).eps for kind in kinds), default=torch.finfo(torch.float32).eps)
        return max(share * size, min(share, 32 * finest * self.largest))

    @property
    def is_rough(self) -> bool:
        """Whether the network computes in half precision, where rows are compared within one pass only."""
        return any(p.dtype in (torch.float16, torch.bfloat16) for p in self.subject.module.parameters())

    @property
    def device(self) -> torch.device:
        """Where the network's first parameter is, and so where passes run."""
        return device_of(self.subject.module)
