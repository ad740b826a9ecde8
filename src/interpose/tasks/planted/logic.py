"""Programs of remainders, comparisons and gates."""

from __future__ import annotations

from .arithmetic import BIT, above, domains
from .program import Program, at_least, at_most_zero, is_zero, mod_3, odd, positive, step


def remainders() -> list[Program]:
    """(A + B) mod 3, as logits of three classes."""
    five, wanted = domains("AB", range(5)), "(A+B) mod 3"
    return [
        Program(
            "sum, then remainder",
            wanted,
            five,
            ((step("A+B", "AB"),), (step(wanted, {"A+B": mod_3}),)),
            step("Y", [wanted]),
            classes=3,
        ),
        Program(
            "remainders, then sum",
            wanted,
            five,
            (
                (),
                (step("A mod 3", {"A": mod_3}), step("B mod 3", {"B": mod_3})),
                (step("sum of remainders", ["A mod 3", "B mod 3"]),),
                (step(wanted, {"sum of remainders": mod_3}),),
            ),
            step("Y", [wanted]),
            classes=3,
        ),
    ]


def comparisons() -> list[Program]:
    """Whether two numbers are equal, and whether three are in order."""
    four, three = domains("AB", range(4)), domains("ABC", range(3))
    difference = step("A-B", {"A": 1, "B": -1})
    orders = (step("A>=B", {"A-B": at_least(0)}), step("A<=B", {"A-B": at_most_zero}))
    parts = (above("A", "B"), above("B", "A"))
    none = positive("A=B", {part.name: -1 for part in parts}, 1)
    gaps = (step("B-A", {"B": 1, "A": -1}), step("C-B", {"C": 1, "B": -1}))
    below = (step("A<B", {"B-A": at_least(1)}), step("B<C", {"C-B": at_least(1)}))
    gate = positive("A<B<C", {gap.name: at_least(1) for gap in gaps}, -1)
    equal, ordered = step("Y", ["A=B"]), step("Y", ["A<B<C"])
    return [
        Program("equal by difference", "A=B", four, ((difference,), (step("A=B", {"A-B": is_zero}),)), equal),
        Program(
            "equal by two orders", "A=B", four, ((difference,), orders, (positive("A=B", ["A>=B", "A<=B"], -1),)), equal
        ),
        Program("equal by distance", "A=B", four, (parts, (none,)), equal),
        Program("in order, in one gate", "A<B<C", three, (gaps, (gate,)), ordered),
        Program(
            "in order, in a chain", "A<B<C", three, (gaps, below, (positive("A<B<C", ["A<B", "B<C"], -1),)), ordered
        ),
    ]


TOTAL = step("A+B", "AB")
BOTH = positive("A and B", "AB", -1)
EITHER = step("A or B", {"A+B": 1, "A and B": -1})
XOR = step("A xor B", {"A+B": 1, "A and B": -2})


def gates_of_two() -> list[Program]:
    """And, or and xor of two bits."""
    bits, neither = domains("AB", BIT), positive("neither", {"A": -1, "B": -1}, 1)
    only = (above("A", "B", "A and not B"), above("B", "A", "B and not A"))
    without = step("A xor B", {"A or B": 1, "A and B": -1})
    xor = step("Y", ["A xor B"])
    return [
        Program("and", "A and B", bits, ((BOTH,),), step("Y", ["A and B"])),
        Program("or by gates", "A or B", bits, ((TOTAL, BOTH), (EITHER,)), step("Y", ["A or B"])),
        Program("or by neither", "A or B", bits, ((neither,),), step("Y", {"neither": -1}, 1)),
        Program("xor by gates", "A xor B", bits, ((TOTAL, BOTH), (XOR,)), xor),
        Program("xor by differences", "A xor B", bits, (only,), step("Y", [one.name for one in only])),
        Program("xor as or without and", "A xor B", bits, ((TOTAL, BOTH), (EITHER,), (without,)), xor),
        Program("xor looked up", "A xor B", bits, ((TOTAL,), (step("A xor B", {"A+B": odd}),)), xor),
    ]


def gates_of_three() -> list[Program]:
    """Parity and majority of three bits."""
    bits, parity, majority = domains("ABC", BIT), step("Y", ["parity"]), step("Y", ["majority"])
    count = step("A+B+C", "ABC")
    third = positive("C and (A xor B)", ["A xor B", "C"], -1)
    more = step("(A xor B)+C", ["A xor B", "C"])
    pairs = tuple(positive(f"{a} and {b}", (a, b), -1) for a, b in ("AB", "AC", "BC"))
    agree, every = step("pairs that agree", [pair.name for pair in pairs]), positive("all", ["A and B", "A and C"], -1)
    return [
        Program("parity by count", "A xor B xor C", bits, ((count,), (step("parity", {"A+B+C": odd}),)), parity),
        Program(
            "parity by gates",
            "A xor B xor C",
            bits,
            ((TOTAL, BOTH), (XOR,), (more, third), (step("parity", {more.name: 1, third.name: -2}),)),
            parity,
        ),
        Program(
            "majority by count", "majority", bits, ((count,), (step("majority", {"A+B+C": at_least(2)}),)), majority
        ),
        Program(
            "majority by pairs",
            "majority",
            bits,
            (pairs, (agree, every), (step("majority", {agree.name: 1, every.name: -2}),)),
            majority,
        ),
        Program(
            "majority as a carry",
            "majority",
            bits,
            ((TOTAL, BOTH), (XOR,), (third,), (step("majority", ["A and B", third.name]),)),
            majority,
        ),
    ]
