"""Straight-line programs over named integers: what a planted network computes, one level of steps a layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor

from ...causal_model import CausalModel, Variable
from ...errors import UnknownPlace, suggest

Reader = float | Callable[[int], float]
"""How a step reads a value: times a coefficient, or through a function of it."""


@dataclass(frozen=True)
class Step:
    """One variable of a program: a sum over readers of values one level below, and where rectified, its positive part.

    of: the variable that it stores, where that is another's: copies of one variable share it.
    """

    name: str
    reads: Mapping[str, Reader] = field(default_factory=dict)
    plus: float = 0
    rectified: bool = False
    of: str | None = None

    @property
    def variable(self) -> str:
        """What it stores."""
        return self.of or self.name

    def of_values(self, values: Mapping[str, float]) -> float:
        """Its value, given those it reads."""
        total = self.plus + sum(read(reader, values[name]) for name, reader in self.reads.items())
        return max(total, 0) if self.rectified else total


def read(reader: Reader, value: float) -> float:
    """What a reader makes of a value."""
    return reader(value) if callable(reader) else reader * value  # type: ignore[arg-type]


def carry(name: str, of: str | None = None) -> Step:
    """The same value, one level on."""
    return Step(name, {name: 1}, of=of)


Level = tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """Levels of steps, each over the level below; what a level lacks that a later one reads is carried along.

    function: what it computes; programs of one function differ in how. output: the last step, which nothing stores.
    classes: how many class logits the network gives, where the output is a class; otherwise it gives the number itself.
    """

    name: str
    function: str
    inputs: Mapping[str, Sequence[int]]
    levels: tuple[Level, ...]
    output: Step
    classes: int | None = None

    def __post_init__(self) -> None:
        known = dict.fromkeys(self.inputs)
        for level in (*self.levels, (self.output,)):
            for step in level:
                for name in step.reads:
                    if name not in known:
                        raise UnknownPlace(
                            f"{step.name} reads {name!r}, which no level below it computes. {suggest(name, known)}"
                        )
            known |= {step.name: None for step in level}
        if not self.levels:
            raise UnknownPlace(f"{self.name} has no level, so that nothing could be stored. Give it one: levels=((),).")

    def __repr__(self) -> str:
        return f"Program({self.name}: {self.function})"

    @property
    def depth(self) -> int:
        """How many levels there are between input and output."""
        return len(self.levels)

    def settings(self) -> list[dict[str, int]]:
        """Every setting of the inputs, the last input varying fastest."""
        return [dict(zip(self.inputs, values, strict=True)) for values in itertools.product(*self.inputs.values())]

    def run(self, setting: Mapping[str, float]) -> float:
        """What it computes."""
        values = dict(setting)
        for level in self.levels:
            values |= {step.name: step.of_values(values) for step in level}
        return self.output.of_values(values)

    def causal_model(self) -> CausalModel:
        """The same as a causal model, whose variables are the steps; what is carried along is one variable."""
        variables = {name: Variable(domain) for name, domain in self.inputs.items()}
        for step in (*itertools.chain(*self.levels), self.output):
            if step.name not in variables:
                variables[step.name] = Variable(_mechanism(step), parents=tuple(step.reads), vectorised=False)
        return CausalModel(variables)

    def completed(self) -> Program:
        """The program with everything that is carried along written down as a step."""
        levels: list[Level] = []
        needed = dict.fromkeys(self.output.reads)
        for at in reversed(range(self.depth)):
            here = {step.name for step in self.levels[at]}
            stored = {step.name: step.of for level in self.levels[:at] for step in level}
            full = (*self.levels[at], *(carry(name, stored.get(name)) for name in needed if name not in here))
            levels.insert(0, full)
            needed = dict.fromkeys(name for step in full for name in step.reads)
        return replace(self, levels=tuple(levels))

    def ranges(self) -> list[dict[str, tuple[int, int]]]:
        """The least and greatest value that each step may take before it is rectified, level by level, inputs first.

        Values below may be combined at will, as interventions do.
        """
        found = [{name: (min(domain), max(domain)) for name, domain in self.inputs.items()}]
        positive: set[str] = set()
        for level in self.levels:
            below = {name: (max(low, 0), max(high, 0)) if name in positive else (low, high)
                     for name, (low, high) in found[-1].items()}  # fmt: skip
            found.append({step.name: _range(step, below) for step in level})
            positive = {step.name for step in level if step.rectified}
        return found


def _range(step: Step, below: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    low = high = step.plus
    for name, reader in step.reads.items():
        values = [read(reader, value) for value in range(below[name][0], below[name][1] + 1)]
        low, high = low + min(values), high + max(values)
    return floor(low), ceil(high)


def _mechanism(step: Step) -> Callable[..., float]:
    def mechanism(*values: float) -> float:
        return step.of_values(dict(zip(step.reads, values, strict=True)))

    return mechanism


def step(name: str, reads: Mapping[str, Reader] | Iterable[str], plus: float = 0, *, of: str | None = None) -> Step:
    """A sum; values that are only named are read as they are."""
    return Step(name, reads if isinstance(reads, Mapping) else dict.fromkeys(reads, 1), plus, of=of)


def positive(name: str, reads: Mapping[str, Reader] | Iterable[str], plus: float = 0) -> Step:
    """The positive part of a sum: of bits, `positive("A and B", "AB", -1)` is a gate."""
    return replace(step(name, reads, plus), rectified=True)


def odd(value: int) -> int:
    """1 for odd numbers."""
    return value % 2


def mod_3(value: int) -> int:
    """The remainder after division by three."""
    return value % 3


def is_zero(value: int) -> int:
    """1 for nothing but zero."""
    return int(value == 0)


def at_least(least: int, then: int = 1) -> Callable[[int], int]:
    """The threshold [value >= least], times `then`."""
    return lambda value: then * int(value >= least)


def at_most_zero(value: int) -> int:
    """1 for numbers that are not positive."""
    return int(value <= 0)


def quarter_square(value: int) -> float:
    """value^2 / 4."""
    return value * value / 4


def minus_quarter_square(value: int) -> float:
    """-value^2 / 4."""
    return -value * value / 4
