"""From a program and an encoding to the weights of a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from .codes import drawn_slope
from .encodings import Encoding
from .layers import Task, inputs_draft, made, rows
from .plan import Layer, Plan
from .program import Program, Reader, Step, read


def planned(program: Program, encoding: Encoding, rng: Generator) -> Plan:
    """The weights of a network that runs a program, written in an encoding."""
    if encoding.rewrites:
        program = encoding.rewrites[rng.integers(len(encoding.rewrites))](program, rng)
    program, rotated = _with_room(program.completed(), encoding, rng)
    heads = _heads(program, encoding, rng)
    ranges = program.ranges()
    drafts = [inputs_draft(program.inputs)]
    for at, level in enumerate(program.levels):
        last = at + 1 == len(program.levels)
        readers = heads if last else program.levels[at + 1]
        drafts.append(made(Task(level, readers, ranges[at + 1], last, rotated == at), drafts[-1], encoding, rng))
    weights, constants = zip(*rows(heads, drafts[-1], rng), strict=True)
    plan = Plan(
        tuple(program.inputs),
        (*(draft.layer for draft in drafts[1:]), Layer(np.array(weights), np.array(constants), False)),
        tuple(draft.groups for draft in drafts[1:]),
        {at: draft.mixture for at, draft in enumerate(drafts[1:]) if draft.mixture},
    )
    plan = plan.shuffled(rng) if encoding.permuted else plan
    return _noisy(plan, program, encoding, rng) if encoding.noise else plan


def _with_room(program: Program, encoding: Encoding, rng: Generator) -> tuple[Program, int | None]:
    """The program, and which of its levels is rotated: one of numbers that are only read as they are.

    Where there is none, the inputs are carried along for one level, which is rotated.
    """
    if not encoding.rotated:
        return program, None
    after = [*program.levels[1:], (program.output,)]
    straight = [
        at
        for at, level in enumerate(program.levels)
        if not any(step.rectified for step in level)
        and not any(callable(reader) for step in after[at] for reader in step.reads.values())
    ]
    if straight:
        return program, int(rng.choice(straight))
    return replace(program, levels=((), *program.levels)).completed(), 0


def _heads(program: Program, encoding: Encoding, rng: Generator) -> tuple[Step, ...]:
    """What the output layer computes: the output Y itself, or for every class c a logit.

    That is scale * (2 c Y - c^2) + common * Y, which is greatest at c = Y.
    """
    if program.classes is None:
        return (program.output,)
    scale, common = (float(rng.uniform(1, 2)), drawn_slope(rng)) if encoding.drawn else (1.0, 0.0)
    return tuple(_scaled(program.output, 2 * c * scale + common, -c * c * scale) for c in range(program.classes))


def _scaled(step: Step, factor: float, plus: float) -> Step:
    def scaled(reader: Reader) -> Reader:
        return (lambda value: factor * read(reader, value)) if callable(reader) else factor * reader

    reads = {name: scaled(reader) for name, reader in step.reads.items()}
    return replace(step, reads=reads, plus=factor * step.plus + plus)


def _noisy(plan: Plan, program: Program, encoding: Encoding, rng: Generator) -> Plan:
    """The plan with small random weights everywhere, which move some output by `noise` tolerances and none by more."""
    changes = [(rng.normal(size=layer.weights.shape), rng.normal(size=layer.bias.shape)) for layer in plan.layers]
    inputs = np.array([[setting[name] for name in plan.inputs] for setting in program.settings()], float)
    exact, wanted = plan.forward(inputs), encoding.noise * encoding.tol

    def moves(by: float) -> float:
        return float(np.abs(plan.moved(changes, by).forward(inputs) - exact).max())

    low, high = 0.0, 1e-9
    while moves(high) < wanted:
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if moves(middle) < wanted else (low, middle)
    return plan.moved(changes, low)
