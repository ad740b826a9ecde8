"""A grammar of names: expressions over variables, from short to long, and the shortest with a given kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import Kernel, kernel, key, representatives, violations

Values = NDArray[Any]
LONGEST = 7
"""The size of the longest expression that is tried, in variables, coefficients and operations."""

LARGEST = 3
"""The largest whole number that a variable is multiplied by in a sum."""

FEW, FEW_TERMS, FEW_SCALED = 7, 3, 5
"""Of up to 7 variables sums of all are tried, of more sums of 3; of up to 5 those with other coefficients than 1."""

MOST_ATOMS = 12
"""Of how many variables, the first ones, sums are tried."""

THRESHOLDS = 24
"""A comparison with a constant is tried for at most so many constants."""

KEPT = 2**21
"""How many numbers the values of expressions may be that are kept for the next name."""

BUILDING = 3
"""Expressions of at most this size are parts of longer ones."""


@dataclass(frozen=True, eq=False)
class Expression:
    """A name for a function of the inputs: its text, its size, its value at every input, and how to compute it.

    rank: 0 for a variable or a call, 1 for a product, 2 for a sum, 3 for what needs brackets inside anything.
    made_of: the variables in it; number: whether its values are numbers, and no labels of a tuple or of a word.
    terms: of a sum of variables the coefficient of each, None for what is no such sum. length: as size, but with what
    its variables stand for. again: whether a part is used more than once; uses: its parts, inputs and
    names found before. opposite: the text of a sum with its sign turned.
    """

    text: str
    size: int
    rank: int
    values: Values
    made_of: frozenset[str]
    compute: Callable[[Mapping[str, Any]], Any]
    number: bool = True
    terms: Mapping[str, int] | None = None
    length: int = 1
    again: bool = False
    uses: frozenset[str] = frozenset()
    opposite: str = ""

    def __repr__(self) -> str:
        return self.text

    @property
    def plain(self) -> bool:
        """Whether it is a name that says something: no list of variables, and none used twice."""
        return self.number and not self.again

    @property
    def kernel(self) -> Kernel:
        """The partition of the inputs that it makes."""
        return kernel(self.values)

    def inside(self, rank: int) -> str:
        """The text as a part of another, in brackets where it would be misread."""
        return self.text if self.rank <= rank else f"({self.text})"


@dataclass(frozen=True)
class Named:
    """What a search for a name found.

    best: the shortest expression with the kernel, or the nearest one; ties: others with the same kernel.
    invariance, collapse: how far the best is from the kernel, both 0 where it has it; tried: how many were.
    """

    best: Expression
    ties: tuple[Expression, ...]
    invariance: float
    collapse: float
    tried: int

    @property
    def exact(self) -> bool:
        """Whether the name has the very kernel."""
        return self.invariance == 0 == self.collapse


def variable(name: str, values: Values) -> Expression:
    """A variable as an expression."""
    array = np.asarray(values)
    number = array.dtype.kind in "biuf"
    held = array if number else kernel(array)
    return Expression(
        name, 1, 0, held, frozenset((name,)), lambda given: given[name], number, {name: 1}, uses=frozenset((name,))
    )


class Words:
    """Expressions over some variables, made once however many names are looked for, as far as they are kept.

    atoms: inputs, and names that were found before. more: functions of the user's, of one or two arguments.
    """

    def __init__(self, atoms: Sequence[Expression], *, more: Sequence[Callable[..., Any]] = ()) -> None:
        self.atoms, self.more = atoms, more
        self._made: list[Expression] = []
        self._rest = expressions(atoms, more=more) if atoms else iter(())
        self._most = KEPT // max(1, len(atoms[0].values)) if atoms else 0

    def __iter__(self) -> Iterator[Expression]:
        """All of them, shorter ones first."""
        for k in itertools.count():
            if k == len(self._made):
                if k == self._most:
                    break
                following = next(self._rest, None)
                if following is None:
                    return
                self._made.append(following)
            yield self._made[k]
        yield from itertools.islice(expressions(self.atoms, more=self.more), self._most, None)


def named(
    held: Kernel, words: Iterable[Expression], *, most: int = 20_000, ties: int = 8, longest: float = math.inf
) -> Named | None:
    """The shortest of some expressions that has the kernel, and a few others that have it too; None of none.

    words: the expressions, shorter ones first. most: how many are tried; longest: of which size at most. Where none has
    the kernel, the one with the least sum of both errors is given, out of the shortest.
    """
    first = representatives(held)
    found: list[Expression] = []
    tried = 0
    short: list[Expression] = []
    for expression in words:
        enough = len(found) > ties or (found and expression.size > found[0].size + 1)
        if tried >= most or enough or expression.size > longest:
            break
        tried += 1
        if _has(expression.values, held, first):
            found.append(expression)
        elif len(short) < 500:
            short.append(expression)
    if found:
        found.sort(key=lambda one: (one.again, one.length))
        return Named(found[0], tuple(found[1:]), 0.0, 0.0, tried)
    if not short:
        return None
    rates = [violations(one.kernel, held) for one in short]
    errors = [(invariance or 0.0, collapse or 0.0) for invariance, collapse in rates]
    best = min(range(len(short)), key=lambda i: (sum(errors[i]), short[i].size))
    return Named(short[best], (), errors[best][0], errors[best][1], tried)


def expressions(atoms: Sequence[Expression], *, more: Sequence[Callable[..., Any]] = ()) -> Iterator[Expression]:
    """Expressions over some variables, shorter ones first; of those with one kernel, one goes into longer ones."""
    nothing = np.zeros(len(atoms[0].values), dtype=np.int64)
    yield Expression("constant", 0, 0, nothing, frozenset(), lambda given: 0)
    levels: dict[int, list[Expression]] = {}
    known: set[bytes] = set()
    for size in range(1, LONGEST + 1):
        made = atoms if size == 1 else _sums(atoms, size)
        made_of_one = (one for inner in _upto(levels, size - 1) for one in _of_one(inner, more) if one.size == size)
        made_of_two = _of_two(levels, size, more)
        level = []
        for one in itertools.chain(made, made_of_two, made_of_one):
            yield one
            if size <= BUILDING and (own := key(one.kernel)) not in known:
                known.add(own)
                level.append(one)
        levels[size] = level


def _has(values: Values, held: Kernel, first: NDArray[np.int64]) -> bool:
    """Whether values are equal within each class and differ between any two."""
    of_classes = values[first]
    return bool((values == of_classes[held]).all()) and len(np.unique(of_classes)) == len(first)


def _upto(levels: Mapping[int, list[Expression]], size: int) -> Iterator[Expression]:
    return (one for length in range(1, size + 1) for one in levels.get(length, ()))


# -- sums ------------------------------------------------------------------------------------------


def _sums(atoms: Sequence[Expression], size: int) -> Iterator[Expression]:
    """Sums of variables whose whole coefficients add up to a size, the first one positive, few minuses first."""
    numbers = [atom for atom in atoms if atom.number][:MOST_ATOMS]
    found = []
    for terms in range(2, min(size, len(numbers), LONGEST if len(numbers) <= FEW else FEW_TERMS) + 1):
        parts = [p for p in _compositions(size, terms) if max(p) <= (LARGEST if len(numbers) <= FEW_SCALED else 1)]
        for part in parts:
            if math.gcd(*part) > 1:
                continue
            for chosen in itertools.combinations(range(len(numbers)), terms):
                for signs in itertools.product((1, -1), repeat=terms - 1):
                    found.append((sum(sign < 0 for sign in signs), terms, chosen, tuple(map(mul, part, (1, *signs)))))
    for _, _, chosen, coefficients in sorted(found, key=lambda one: one[:2]):
        yield _sum([numbers[k] for k in chosen], coefficients, size)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write a number as a sum of so many positive ones, in order."""
    for cuts in itertools.combinations(range(1, total), parts - 1):
        yield tuple(b - a for a, b in itertools.pairwise((0, *cuts, total)))


def _sum(atoms: Sequence[Expression], coefficients: Sequence[int], size: int) -> Expression:
    parts = [(c, atom) for c, atom in zip(coefficients, atoms, strict=True) if c]
    terms = _terms(parts)
    shown = parts if terms is None else [(c, name) for name, c in terms.items()]
    text, opposite = _written(shown), _written([(-c, part) for c, part in shown])
    values = sum(c * atom.values.astype(float if atom.values.dtype.kind == "f" else np.int64) for c, atom in parts)

    def compute(given: Mapping[str, Any]) -> Any:
        return sum(c * atom.compute(given) for c, atom in parts)

    made_of = frozenset().union(*(atom.made_of for _, atom in parts))
    length = sum(abs(c) * atom.length for c, atom in parts)
    again = _again([atom for _, atom in parts])
    uses = _uses([atom for _, atom in parts])
    return Expression(text, size, 2, np.asarray(values), made_of, compute, True, terms, length, again, uses, opposite)


def _again(parts: Sequence[Expression]) -> bool:
    """Whether parts share a variable, or one of them uses one twice."""
    return any(part.again for part in parts) or len(_uses(parts)) < sum(len(part.uses) for part in parts)


def _uses(parts: Sequence[Expression]) -> frozenset[str]:
    return frozenset().union(*(part.uses for part in parts))


def _terms(parts: Sequence[tuple[int, Expression]]) -> dict[str, int] | None:
    """The coefficients of a sum of sums; None where something in it is no sum, or all of a variable cancels."""
    found: dict[str, int] = {}
    for c, part in parts:
        if part.terms is None:
            return None
        for name, times in part.terms.items():
            found[name] = found.get(name, 0) + c * times
    ordered = sorted(found.items(), key=lambda one: (one[0].startswith("("), one[0]))
    return dict(ordered) if all(found.values()) else None


def _written(parts: Sequence[tuple[int, Expression | str]]) -> str:
    """A sum in words: positive parts first, no brackets where none are needed."""
    shown = []
    for c, part in sorted(parts, key=lambda one: one[0] < 0):
        own = part if isinstance(part, str) else part.inside(2 if c == 1 else 1)
        shown.append(("-" if c < 0 else "+") + (f"{abs(c)}*{own}" if abs(c) > 1 else own))
    return "".join(shown).removeprefix("+")


# -- functions of one and two --------------------------------------------------------------------------


def _of_one(inner: Expression, more: Sequence[Callable[..., Any]]) -> Iterator[Expression]:
    """Functions of one expression."""
    x = inner.values
    if not inner.number:
        return
    whole = x.dtype.kind in "iu" or bool((x == np.round(x)).all())
    if _is_truth(x):
        yield _made(f"not {inner.inside(1)}", 3, inner.size + 1, lambda a: 1 - a, inner)
    elif whole:
        if x.min() < 0:
            yield _made(f"|{inner.text}|", 0, inner.size + 1, abs, inner)
            yield _made(f"max({inner.text}, 0)", 0, inner.size + 1, lambda a: np.maximum(a, 0), inner)
            yield _made(f"max({_negated(inner)}, 0)", 0, inner.size + 1, lambda a: np.maximum(-a, 0), inner)
        for m in range(2, 11):
            if m <= x.max() - x.min():
                yield _made(f"{inner.inside(1)} mod {m}", 3, inner.size + 1, lambda a, m=m: a % m, inner)
        steps = np.unique(x)[1:]
        for c in steps[:THRESHOLDS].tolist() if len(steps) > 1 else ():
            shown = int(c) if c == int(c) else c
            yield _made(f"{inner.inside(2)} >= {shown}", 3, inner.size + 1, lambda a, c=c: (a >= c) * 1, inner)
            if len(steps) <= THRESHOLDS and c != steps[0]:
                yield _made(f"max({inner.text}, {shown})", 0, inner.size + 2, lambda a, c=c: np.maximum(a, c), inner)
                yield _made(f"min({inner.text}, {shown})", 0, inner.size + 2, lambda a, c=c: np.minimum(a, c), inner)
        for c in np.unique(x)[:THRESHOLDS].tolist():
            shown = int(c) if c == int(c) else c
            yield _made(f"{inner.inside(2)} = {shown}", 3, inner.size + 1, lambda a, c=c: (a == c) * 1, inner)
    for function in more:
        if _takes(function, 1):
            yield _made(f"{function.__name__}({inner.text})", 0, inner.size + 1, function, inner)


def _of_two(
    levels: Mapping[int, list[Expression]], size: int, more: Sequence[Callable[..., Any]]
) -> Iterator[Expression]:
    """Functions of two expressions, their sizes and one together."""
    for left in range(1, size - 1):
        right = size - 1 - left
        if left > right:
            break
        ours, theirs = levels.get(left, ()), levels.get(right, ())
        pairs = itertools.combinations(ours, 2) if left == right else itertools.product(ours, theirs)
        for a, b in pairs:
            yield from _pair(a, b, size, more)


def _pair(a: Expression, b: Expression, size: int, more: Sequence[Callable[..., Any]]) -> Iterator[Expression]:
    if a.number and b.number:
        if _is_truth(a.values) and _is_truth(b.values):
            yield _made(f"{a.inside(2)} and {b.inside(2)}", 3, size, lambda x, y: x * y, a, b)
            yield _made(f"{a.inside(2)} or {b.inside(2)}", 3, size, lambda x, y: x + y - x * y, a, b)
            yield _made(f"{a.inside(2)} xor {b.inside(2)}", 3, size, lambda x, y: x + y - 2 * x * y, a, b)
        else:
            yield _made(f"max({a.text}, {b.text})", 0, size, np.maximum, a, b)
            yield _made(f"min({a.text}, {b.text})", 0, size, np.minimum, a, b)
            yield _made(f"{a.inside(1)}*{b.inside(1)}", 1, size, lambda x, y: x * y, a, b)
            for one, truth in ((a, b), (b, a)):
                if _is_truth(truth.values):
                    yield _made(
                        f"{one.inside(1)}*(not {truth.inside(1)})", 1, size, lambda x, y: x * (1 - y), one, truth
                    )
            yield _made(f"{a.inside(2)} >= {b.inside(2)}", 3, size, lambda x, y: (x >= y) * 1, a, b)
            yield _made(f"{b.inside(2)} >= {a.inside(2)}", 3, size, lambda x, y: (y >= x) * 1, a, b)
            yield _made(f"{a.inside(2)} = {b.inside(2)}", 3, size, lambda x, y: (x == y) * 1, a, b)
        if a.size > 1 or b.size > 1:
            yield from (_sum((a, b), signs, size) for signs in ((1, 1), (1, -1), (-1, 1)))
    for function in more:
        if _takes(function, 2):
            yield _made(f"{function.__name__}({a.text}, {b.text})", 0, size, function, a, b)
    together = kernel(np.stack([kernel(a.values), kernel(b.values)], 1))
    yield Expression(
        f"({a.text}, {b.text})",
        size,
        0,
        together,
        a.made_of | b.made_of,
        lambda given: (a.compute(given), b.compute(given)),
        number=False,
        length=a.length + b.length + 1,
    )


def _made(text: str, rank: int, size: int, function: Callable[..., Any], *of: Expression) -> Expression:
    values = np.asarray(function(*(one.values for one in of)))

    def compute(given: Mapping[str, Any]) -> Any:
        made = function(*(one.compute(given) for one in of))
        return made.item() if isinstance(made, np.generic | np.ndarray) and np.ndim(made) == 0 else made

    made_of = frozenset().union(*(one.made_of for one in of))
    length = sum(one.length for one in of) + 1
    return Expression(text, size, rank, values, made_of, compute, length=length, again=_again(of), uses=_uses(of))


def _negated(one: Expression) -> str:
    """The text of an expression with its sign turned: "B-A" for "A-B"."""
    return one.opposite or f"-{one.inside(1)}"


def _is_truth(values: Values) -> bool:
    return values.dtype.kind == "b" or bool(np.isin(values, (0, 1)).all())


def _takes(function: Callable[..., Any], count: int) -> bool:
    import inspect

    parameters = inspect.signature(function).parameters.values()
    return (
        sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
        == count
    )
