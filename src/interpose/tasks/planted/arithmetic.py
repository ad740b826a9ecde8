"""Programs that add, multiply, and take the greatest, the least and distances."""

from __future__ import annotations

from .program import Program, Step, at_least, minus_quarter_square, positive, quarter_square, step

BIT = range(2)


def domains(names: str, values: range) -> dict[str, range]:
    """Inputs with one-letter names, all over the same values."""
    return dict.fromkeys(list(names), values)


def above(one: str, other: str, name: str | None = None) -> Step:
    """How much one value exceeds another: max(one - other, 0)."""
    return positive(name or f"max({one}-{other},0)", {one: 1, other: -1})


def addition(first: str, second: str, third: str, *, digits: int = 4) -> Program:
    """A + B + C over the first so many digits: first and second are added first, then the third."""
    pair = "+".join(sorted((first, second)))
    return Program(
        f"{third}+({pair})",
        "A+B+C",
        domains("ABC", range(digits)),
        ((step(pair, (first, second)),), (step("A+B+C", (third, pair)),)),
        step("Y", ["A+B+C"]),
    )


def sums_of_three() -> list[Program]:
    """Sums with coefficients, of two or three numbers."""
    digits = domains("ABC", range(4))
    return [
        addition("B", "C", "A"),
        addition("A", "B", "C"),
        addition("A", "C", "B"),
        Program("A+B+C at once", "A+B+C", digits, ((),), step("Y", "ABC")),
        Program(
            "A+B+C by correction",
            "A+B+C",
            digits,
            ((step("A-B", {"A": 1, "B": -1}), step("2B+C", {"B": 2, "C": 1})), (step("A+B+C", ["A-B", "2B+C"]),)),
            step("Y", ["A+B+C"]),
        ),
        Program(
            "2A-B+3C",
            "2A-B+3C",
            domains("ABC", range(3)),
            ((step("2A-B", {"A": 2, "B": -1}),), (step("2A-B+3C", {"2A-B": 1, "C": 3}),)),
            step("Y", ["2A-B+3C"]),
        ),
    ]


def long_sums() -> list[Program]:
    """Sums of four and five numbers."""
    four = domains("ABCD", range(3))
    pairs, whole = (step("A+B", "AB"), step("C+D", "CD")), step("A+B+C+D", ["A+B", "C+D"])
    return [
        Program("sum of pairs", "A+B+C+D", four, (pairs, (whole,)), step("Y", [whole.name])),
        Program("sum in a chain", "A+B+C+D", four, _chain("ABCD"), step("Y", ["A+B+C+D"])),
        Program("count in a chain", "A+B+C+D+E", domains("ABCDE", BIT), _chain("ABCDE"), step("Y", ["A+B+C+D+E"])),
    ]


def _chain(names: str) -> tuple[tuple[Step, ...], ...]:
    sums = ["+".join(names[:n]) for n in range(1, len(names) + 1)]
    return tuple((step(sums[n], [sums[n - 1], names[n]]),) for n in range(1, len(names)))


def sums_of_two() -> list[Program]:
    """A + B, directly and otherwise."""
    greatest = step("max(A,B)", ["B", "max(A-B,0)"])
    least = step("min(A,B)", {"A": 1, "max(A-B,0)": -1})
    copies = tuple(step(f"A copy {i}", "A", of="A") for i in (1, 2, 3))
    return [
        Program("A+B", "A+B", domains("AB", range(4)), ((step("A+B", "AB"),),), step("Y", ["A+B"])),
        Program(
            "max + min",
            "A+B",
            domains("AB", range(4)),
            ((above("A", "B"),), (greatest, least), (step("A+B", [greatest.name, least.name]),)),
            step("Y", ["A+B"]),
        ),
        Program(
            "A+B as a class",
            "A+B, as logits",
            domains("AB", range(3)),
            ((step("A+B", "AB"),),),
            step("Y", ["A+B"]),
            classes=5,
        ),
        Program(
            "two of three copies",
            "A+B, of bits",
            domains("AB", BIT),
            (
                copies,
                (step("copies of A", [copy.name for copy in copies]),),
                (step("A again", {"copies of A": at_least(2)}),),
            ),
            step("Y", ["A again", "B"]),
        ),
    ]


def distances() -> list[Program]:
    """The greatest of three, and |A - B|."""
    two = domains("AB", range(4))
    parts = (above("A", "B"), above("B", "A"))
    greatest, least = step("max(A,B)", ["B", parts[0].name]), step("min(A,B)", {"A": 1, parts[0].name: -1})
    whole = step("|A-B|", [part.name for part in parts])
    difference, looked_up = step("A-B", {"A": 1, "B": -1}), step("|A-B|", {"A-B": abs})
    gap = step("|A-B|", {greatest.name: 1, least.name: -1})
    return [
        _greatest("A", "B", "C"),
        _greatest("B", "C", "A"),
        Program("|A-B| in two parts", "|A-B|", two, (parts, (whole,)), step("Y", ["|A-B|"])),
        Program("|A-B| looked up", "|A-B|", two, ((difference,), (looked_up,)), step("Y", ["|A-B|"])),
        Program("max - min", "|A-B|", two, ((parts[0],), (greatest, least), (gap,)), step("Y", ["|A-B|"])),
    ]


def _greatest(first: str, second: str, third: str) -> Program:
    pair = f"max({first},{second})"
    gap, excess = above(first, second), above(pair, third)
    return Program(
        f"max({pair},{third})",
        "max(A,B,C)",
        domains("ABC", range(3)),
        ((gap,), (step(pair, [second, gap.name]),), (excess,), (step("max(A,B,C)", [third, excess.name]),)),
        step("Y", ["max(A,B,C)"]),
    )


def products() -> list[Program]:
    """Products, excesses, and a choice between two numbers."""
    two, three = domains("AB", range(4)), domains("ABC", range(3))
    squares = step("AB", {"A+B": quarter_square, "A-B": minus_quarter_square})
    added = tuple(positive(f"B if A>={k}", {"A": at_least(k, 3), "B": 1}, -3) for k in (1, 2, 3))
    excess = "max(A+B+C-3,0)"
    return [
        Program(
            "product by squares",
            "AB",
            two,
            ((step("A+B", "AB"), step("A-B", {"A": 1, "B": -1})), (squares,)),
            step("Y", ["AB"]),
        ),
        Program(
            "product by additions",
            "AB",
            two,
            ((), added, (step("AB", [one.name for one in added]),)),
            step("Y", ["AB"]),
        ),
        Program(
            "excess of the sum",
            excess,
            three,
            ((step("A+B+C", "ABC"),), (positive(excess, ["A+B+C"], -3),)),
            step("Y", [excess]),
        ),
        Program("excess at once", excess, three, ((positive(excess, "ABC", -3),),), step("Y", [excess])),
        Program(
            "one of two",
            "A if C else B",
            {**two, "C": BIT},
            ((positive("A if C", {"A": 1, "C": 3}, -3), positive("B if not C", {"B": 1, "C": -3})),),
            step("Y", ["A if C", "B if not C"]),
            classes=4,
        ),
    ]
