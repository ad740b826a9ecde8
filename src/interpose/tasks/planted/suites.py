"""Every program in every encoding, and networks without any: instances to score a method on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...errors import WrongInput
from .controls import CONTROLS, SHAPES, control
from .encodings import ENCODINGS
from .instance import Planted, planted
from .programs import PROGRAMS


def suite(
    seeds: Iterable[int] = range(1),
    *,
    programs: Iterable[str] = (),
    encodings: Iterable[str] = (),
    controls: bool = True,
) -> Iterator[Planted]:
    """For each seed every program in every encoding, 714 networks, and 21 in which nothing was planted.

    Disjoint seeds give disjoint instances: tune on some, report on others. Encodings that draw no constants, which give
    the same for every seed, are left out unless they are asked for.
    programs, encodings: some of them, by name; controls: whether to add networks without a program.
    Raises WrongInput where there is no seed.
    """
    return (instance(*name) for name in names(seeds, programs=programs, encodings=encodings, controls=controls))


Name = tuple[str, str, int]
"""An instance: its program, its encoding and its seed; of a control its shape, "control: " and its kind, and its seed.
"""

CONTROL = "control: "


def names(
    seeds: Iterable[int], *, programs: Iterable[str] = (), encodings: Iterable[str] = (), controls: bool = True
) -> list[Name]:
    """What a suite consists of: see `suite`."""
    seeds = list(seeds)
    if not seeds:
        raise WrongInput("A suite needs at least one seed: each draws the constants of all its instances anew.")
    drawn = list(encodings) or [name for name, encoding in ENCODINGS.items() if encoding.drawn]
    of = list(programs) or list(PROGRAMS)
    found: list[Name] = []
    for seed in seeds:
        found += [(program, encoding, seed) for encoding in drawn for program in of]
        found += [(shape, CONTROL + kind, seed) for kind in CONTROLS for shape in SHAPES] if controls else []
    return found


def instance(program: str, encoding: str, seed: int) -> Planted:
    """The instance of a name."""
    kind = encoding.removeprefix(CONTROL)
    return planted(program, encoding, seed) if kind == encoding else control(kind, program, seed)
