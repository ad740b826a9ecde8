"""How often interchange did what a claim says it should: the result of `interchange_accuracy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .inputs import examples
from .statistics import Estimates, Floats, number, shares
from .tables import Table


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How often interchange in the network does what the causal model says it should.

    score: the share of interchanges that did, singly and all together; rows: the same for each way of interchanging.
    floor: the score without any intervention; ceiling: the score with everything taken from one source, which is the
    source run itself; accuracy: how often network and causal model agree on the base when nothing is patched.
    smallest: for each way that failed one failure, with as little changed between base and sources as leaves it one.
    """

    rows: tuple[Interchanges, ...]
    floor: float
    ceiling: float
    accuracy: float
    tol: float
    smallest: tuple[dict[str, Any], ...] = ()

    @property
    def score(self) -> float:
        """The share of all interchanges that gave the causal model's output."""
        return float(self._hits.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the score, at 95 %, with the pairs as clusters of interchanges."""
        return float(self._estimates.low[0]), float(self._estimates.high[0])

    @property
    def _estimates(self) -> Estimates:
        return shares(self._hits[:, None], np.tile(np.arange(self.rows[0].size), len(self.rows)))

    @property
    def _hits(self) -> Floats:
        return np.concatenate([row.hits for row in self.rows]).astype(float)

    def table(self) -> Table:
        """One row a variable, and one for all together."""
        rows = []
        for row in self.rows:
            all_pairs = shares(row.hits[:, None].astype(float), np.arange(row.size))
            told = row.informative
            informed = shares(row.hits[told][:, None].astype(float), np.arange(int(told.sum())))
            rows.append(
                (
                    row.label,
                    number(row.hits.mean()),
                    all_pairs.text(0),
                    number(row.chance),
                    number(informed.estimate[0]),
                    f"{told.sum()} of {row.size}",
                )
            )
        notes = (
            f"Without any intervention {number(self.floor)}; with everything from one source {number(self.ceiling)}. "
            f"Unpatched, network and causal model agree on {number(self.accuracy)} of the base inputs.",
        )
        columns = ("interchange", "accuracy", "95 % interval", "chance", "informative", "informative pairs")
        return Table("Interchange intervention accuracy", columns, tuple(rows), notes)

    def failures(self) -> list[dict[str, Any]]:
        """Every interchange that went otherwise: base, sources, expected and observed; each can be run again."""
        return [failure for row in self.rows for failure in row.failures()]

    def __repr__(self) -> str:
        floor, ceiling = number(self.floor), number(self.ceiling)
        return f"<Accuracy: {number(self.score)} {self._estimates.text(0)}, floor {floor}, ceiling {ceiling}>"


@dataclass(frozen=True, eq=False)
class Interchanges:
    """One way of interchanging, on many pairs: what was expected, what came out.

    sources: place of the network -> one source a pair; informative: pairs where the causal model's output changes at
    all. chance: the score with sources that were meant for other pairs.
    """

    label: str
    base: Any
    sources: dict[Any, Any]
    expected: Sequence[Any]
    observed: Sequence[Any]
    hits: np.ndarray
    informative: np.ndarray
    chance: float = float("nan")

    @property
    def corrected(self) -> float:
        """The score above chance, (score - chance) / (1 - chance); NaN where chance is 1."""
        return (float(self.hits.mean()) - self.chance) / (1 - self.chance) if self.chance < 1 else float("nan")

    @property
    def size(self) -> int:
        """How many pairs."""
        return len(self.hits)

    def failures(self) -> list[dict[str, Any]]:
        """The pairs that went otherwise."""
        base, sources = examples(self.base), {place: examples(given) for place, given in self.sources.items()}
        return [
            {
                "interchange": self.label,
                "base": base[i],
                "sources": {place: given[i] for place, given in sources.items()},
                "expected": self.expected[i],
                "observed": self.observed[i],
            }
            for i in np.flatnonzero(~self.hits).tolist()
        ]
