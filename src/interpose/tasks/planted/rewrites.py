"""Other programs for the same function, with more steps: backups, finer stores, cancelling readers, longer chains.

Each takes a program and random numbers and gives a program, in which everything that is carried along is a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from numpy.random import Generator

from .program import Level, Program, Reader, Step, carry, positive

Rewrite = Callable[[Program, Generator], Program]


def _inserted(program: Program, at: int, *new: Level) -> Program:
    """The program with new levels before the one at that index."""
    return replace(program, levels=(*program.levels[:at], *new, *program.levels[at:])).completed()


def _replaced(program: Program, at: int, old: Step, new: Level, *after: Level) -> Program:
    """The program with one step replaced by others, and new levels after that."""
    level = tuple(part for step in program.levels[at] for part in (new if step is old else (step,)))
    return replace(program, levels=(*program.levels[:at], level, *after, *program.levels[at + 1 :])).completed()


def _a_step(program: Program, rng: Generator) -> tuple[int, Step]:
    places = [(at, step) for at, level in enumerate(program.levels) for step in level]
    return places[rng.integers(len(places))]


def longer(program: Program, rng: Generator) -> Program:
    """One or two levels more, which only carry along what is there."""
    program = program.completed()
    for _ in range(rng.integers(1, 3)):
        program = _inserted(program, int(rng.integers(len(program.levels) + 1)), ())
    return program


def with_backup(program: Program, rng: Generator) -> Program:
    """One variable is stored twice and read through the maximum of the two: V + max(V' - V, 0)."""
    program = program.completed()
    at, step = _a_step(program, rng)
    name, second = step.name, f"{step.name} (backup)"
    twins = (step, replace(step, name=second, of=step.variable))
    gap = positive(f"{second} over {name}", {second: 1, name: -1})
    greater = Step(name, {name: 1, gap.name: 1}, of=step.of)
    return _replaced(program, at, step, twins, (carry(name, step.of), gap), (greater,))


def finer(program: Program, rng: Generator) -> Program:
    """One variable is stored with more than is read of it; a later level saturates, and the surplus is gone.

    What is to be rectified is stored as it is. Any other V is stored as (n + 1) V + W, where W is another value between
    0 and n, and looked up from that.
    """
    program = program.completed()
    places = [(at, step) for at, level in enumerate(program.levels) for step in level]
    for at, step in [places[i] for i in rng.permutation(len(places))]:
        if step.rectified:
            inside = Step(f"what {step.name} rectifies", step.reads, step.plus, of=step.of)
            return _replaced(program, at, step, (inside,), (Step(step.name, {inside.name: 1}, 0, True, step.of),))
        if surplus := _surplus(program, at, step, rng):
            both, back = surplus
            return _replaced(program, at, step, (both,), (carry(both.name, step.of),), (back,))
    raise AssertionError(f"{program.name} has no variable that leaves room for a surplus")


def _surplus(program: Program, at: int, step: Step, rng: Generator) -> tuple[Step, Step] | None:
    """A step that stores a variable and something else, and one that gets the variable back; None if it is too wide."""
    ranges = program.ranges()
    low, high = ranges[at + 1][step.name]
    below = list(program.inputs) if at == 0 else [other.name for other in program.levels[at - 1] if not other.rectified]
    for name in [below[i] for i in rng.permutation(len(below))]:
        least, most = ranges[at][name]
        base = most - least + 1
        alone = list(step.reads) == [name]
        if not alone and base > 1 and base * (high - low + 1) <= 64:
            text = f"{base}({step.name}) + {name}"
            reads = {one: _scaled(reader, base) for one, reader in step.reads.items()}
            reads[name] = _sum(reads.get(name, 0), 1)
            both = Step(text, reads, base * step.plus - least, of=step.of)
            return both, Step(step.name, {text: _whole(base)}, of=step.of)
    return None


def cancelling(program: Program, rng: Generator) -> Program:
    """One more quantity is stored twice, and read with weights that cancel; sometimes by way of a unit of its own."""
    program = program.completed()
    at = int(rng.integers(len(program.levels)))
    below = list(program.inputs) if at == 0 else [step.name for step in program.levels[at - 1]]
    name = below[rng.integers(len(below))]
    added: Mapping[int, tuple[Step, ...]] = {}
    of = f"{name}, cancelled"
    if at > 0 and rng.random() < 0.5:
        under = next(step for step in program.levels[at - 1] if step.name == name)
        name = f"{name} (to be cancelled)"
        added = {at - 1: (replace(under, name=name, of=of),)}
    twins = [Step(f"{of} {i}", {name: 1}, of=of) for i in (1, 2)]
    added = {**added, at: tuple(twins)}
    levels = [(*level, *added.get(i, ())) for i, level in enumerate(program.levels)]
    weight = int(rng.choice([-1, 1]))
    opposed: Mapping[str, Reader] = {twins[0].name: weight, twins[1].name: -weight}
    readers = levels[at + 1] if at + 1 < len(levels) else (program.output,)
    calm = [step for step in readers if not step.rectified] or list(readers)
    chosen = calm[rng.integers(len(calm))]
    reading = replace(chosen, reads={**chosen.reads, **opposed})
    if chosen is program.output:
        return replace(program, levels=tuple(levels), output=reading)
    levels[at + 1] = tuple(reading if step is chosen else step for step in levels[at + 1])
    return replace(program, levels=tuple(levels))


def _scaled(reader: Reader, factor: int) -> Reader:
    if callable(reader):
        return lambda value: factor * reader(value)  # type: ignore[operator]
    return factor * reader


def _sum(reader: Reader, more: float) -> Reader:
    if callable(reader):
        return lambda value: reader(value) + more * value  # type: ignore[operator]
    return reader + more


def _whole(base: int) -> Reader:
    """How often a whole number of `base` goes into a value."""
    return lambda value: value // base
