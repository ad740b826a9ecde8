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
    seeds = list(seeds)
    if not seeds:
        raise WrongInput("A suite needs at least one seed: each draws the constants of all its instances anew.")
    drawn = [name for name, encoding in ENCODINGS.items() if encoding.drawn]
    return _instances(seeds, list(programs) or list(PROGRAMS), list(encodings) or drawn, controls)


def _instances(seeds: list[int], programs: list[str], encodings: list[str], controls: bool) -> Iterator[Planted]:
    for seed in seeds:
        for encoding in encodings:
            for program in programs:
                yield planted(program, encoding, seed)
        if controls:
            for kind in CONTROLS:
                for shape in SHAPES:
                    yield control(kind, shape, seed)
