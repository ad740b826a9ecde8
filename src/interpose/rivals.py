"""Two hypotheses about one network: interchanges of which they expect different outputs, and which of them is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .abstraction import Alignment, check_comparable, counterfactual, hit, interchanged, sets_of
from .errors import WrongAlignment
from .inputs import examples, keys, take
from .model import Model
from .statistics import number, shares
from .tables import Table, Tabled


@dataclass(frozen=True, eq=False, repr=False)
class Rivalry(Tabled):
    """How two hypotheses did where they disagree.

    tried: interchanges, out of which in `told` the two expect different outputs.
    right: [hypothesis, interchange of these], whether the network gave what each expects.
    values: how many values of the claimed variables each hypothesis tells apart in these inputs.
    """

    names: tuple[str, str]
    tried: int
    told: int
    right: np.ndarray
    values: tuple[int, int]
    cases: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def verdict(self) -> str:
        """In words: who is right where they disagree, or why that cannot be told."""
        one, other = self.names
        if not self.told:
            said = (
                f"indistinguishable: none of {self.tried:,} interchanges at the places that both claim tells them apart"
            )
            if self.values[0] != self.values[1]:
                coarser = self.names[int(self.values[1] < self.values[0])]
                said += f"; {coarser} tells fewer values apart ({min(self.values)} against {max(self.values)})"
            return said
        scores = self.right.mean(1)
        if scores[0] == scores[1]:
            return f"undecided: each is right in {number(scores[0])} of {self.right.shape[1]}"
        best = int(scores[1] > scores[0])
        never = ", the other never" if scores[1 - best] == 0 else f", the other in {number(scores[1 - best])}"
        return f"{(one, other)[best]} is right in {number(scores[best])} of {self.right.shape[1]}{never}"

    def table(self) -> Table:
        """One row a hypothesis: how often it is right where the two disagree, with Wilson's interval."""
        size = self.right.shape[1]
        rows = []
        for name, hits, values in zip(self.names, self.right, self.values, strict=True):
            found = shares(hits[:, None].astype(float), np.arange(size))
            rows.append((name, number(found.estimate[0]), found.text(0), str(values)))
        notes = (
            f"{self.told:,} of {self.tried:,} interchanges tell the two apart.",
            f"{self.verdict[0].upper()}{self.verdict[1:]}.",
        )
        return Table(
            "Where two hypotheses disagree", ("hypothesis", "right", "95 % interval", "values"), tuple(rows), notes
        )


def distinguish(
    network: Model[Any],
    one: Alignment,
    other: Alignment,
    *,
    n: int = 2000,
    seed: int = 0,
    tol: float = 1e-3,
    names: tuple[str, str] = ("one", "other"),
) -> Rivalry:
    """Which of two hypotheses is right where they expect different outputs.

    n random interchanges at the places that both claim, of every set of these places; what the two expect of each is
    computed without the network, which is run only on those that tell them apart, at most n.
    Raises WrongAlignment where the two have other inputs, or no place in common.
    """
    if set(one.model.inputs) != set(other.model.inputs):
        raise WrongAlignment(
            f"The hypotheses have other inputs: {', '.join(one.model.inputs)}; {', '.join(other.model.inputs)}."
        )
    held = [of.on(network) for of in (one, other)]
    ours, theirs = ({frozenset(map(str, places)): v for v, places in places_of.items()} for places_of in held)
    shared = [places for places in ours if places in theirs]
    if not shared:
        raise WrongAlignment("The two hypotheses claim no place in common, so that no interchange is of both.")
    known = {frozenset(map(str, places)): places for places in held[0].values()}
    rng = np.random.default_rng(seed)
    ways = sets_of(shared)
    each = max(1, n // len(ways))
    told, tried, right, cases = 0, 0, [], []
    distinct: tuple[set[Any], set[Any]] = (set(), set())
    for way in ways:
        base, *sources = (one.model.sample(each, seed=int(rng.integers(2**31))) for _ in range(len(way) + 1))
        check_comparable(network, known, base, dict(zip(way, sources, strict=True)))
        expected = []
        for k, (of, at) in enumerate(((one, ours), (other, theirs))):
            written = {at[places]: source for places, source in zip(way, sources, strict=True)}
            expected.append(counterfactual(of.model, base, written))
            distinct[k].update((v, one) for v, s in written.items() for one in keys(of.model.run(s)[v]))
        apart = np.flatnonzero(~hit(expected[0], expected[1], base, tol).astype(bool))
        tried, told = tried + each, told + len(apart)
        if not len(apart):
            continue
        rows = apart.tolist()
        some, values = take(base, rows), [take(source, rows) for source in sources]
        with torch.no_grad():
            placed = dict(zip(way, values, strict=True))
            output = interchanged(network, {places: known[places] for places in way}, some, placed)
        targets = [take(want, rows) for want in expected]
        right.append(np.stack([hit(output, want, some, tol).astype(bool) for want in targets]))
        cases += [
            {"base": b, "expected": pair} for b, *pair in zip(examples(some), *map(examples, targets), strict=True)
        ]
    found = np.concatenate(right, axis=1) if right else np.zeros((2, 0), bool)
    return Rivalry(names, tried, told, found, (len(distinct[0]), len(distinct[1])), tuple(cases[:100]))
