"""The programs: for each function several, so that the outputs never tell which of them a network runs."""

from __future__ import annotations

from .arithmetic import distances, long_sums, products, sums_of_three, sums_of_two
from .logic import comparisons, gates_of_three, gates_of_two, remainders
from .program import Program

PROGRAMS: dict[str, Program] = {
    program.name: program
    for family in (
        sums_of_three,
        long_sums,
        sums_of_two,
        distances,
        products,
        remainders,
        comparisons,
        gates_of_two,
        gates_of_three,
    )
    for program in family()
}
"""Every program, by name."""
