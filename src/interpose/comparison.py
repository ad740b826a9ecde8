"""Two results side by side, of two checkpoints or two families of prompts: the difference, place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .errors import UnknownPlace, WrongMetric, WrongPairs
from .inputs import keys
from .results import Effects
from .statistics import LEVEL, Estimates, Floats, Resampling, mcnemar, number
from .tables import Table, Tabled

Side = Literal["nie", "tie"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Tabled):
    """How much more one result carries than another, at each place that both have.

    one, other: [place], the recovery or IIA in each; difference: one minus other, with an interval of the difference
    itself. paired: whether both are of the same pairs, so that what pairs have in common cancels.
    p: [place], McNemar's exact test, for metrics that say yes or no on the same pairs; None otherwise.
    """

    labels: tuple[str, ...]
    quantity: str
    names: tuple[str, str]
    one: Estimates
    other: Estimates
    difference: Estimates
    paired: bool
    p: Floats | None

    def table(self) -> Table:
        """One row a place, the largest difference first."""
        order = np.argsort(-np.abs(np.nan_to_num(self.difference.estimate)), kind="stable")
        rows = tuple(
            (
                self.labels[j],
                self.one.shown(j),
                self.other.shown(j),
                self.difference.shown(j),
                self.difference.text(j),
                *(() if self.p is None else (number(float(self.p[j]), 3),)),
            )
            for j in order
        )
        columns = (
            "place",
            *self.names,
            "difference",
            f"{100 * LEVEL:.0f} % interval",
            *(() if self.p is None else ("p",)),
        )
        how = "the same pairs" if self.paired else "pairs of their own, drawn independently"
        return Table(
            f"{self.quantity[:1].upper()}{self.quantity[1:]} of {' and '.join(self.names)}, on {how}", columns, rows
        )


def compare(
    one: Effects, other: Effects, *, effect: Side = "nie", names: tuple[str, str] = ("one", "other")
) -> Comparison:
    """The difference of two results at the places that both have, each with its interval.

    effect: "nie" compares what places bring (IIA for metrics that say yes or no, else the recovery), "tie" what is lost
    without them. Both on the same pairs give a paired interval.
    Raises WrongMetric for results of two metrics, UnknownPlace where they have no place in common.
    """
    if (one.metric, one.binary) != (other.metric, other.binary):
        raise WrongMetric(
            f"Results of {one.metric} and of {other.metric} are not of one kind. Measure both with one metric."
        )
    labels = tuple(label for label in one.labels if label in other.labels)
    if not labels:
        raise UnknownPlace(
            f"The results have no place in common: {', '.join(one.labels[:3])}; {', '.join(other.labels[:3])}."
        )
    paired = _same_pairs(one, other)
    sides = [_parts(found, labels, effect) for found in (one, other)]
    if paired:
        resampling = one.resampling
        (top, bottom), (their_top, their_bottom) = sides
    else:
        if set(keys(one.pairs.base)) & set(keys(other.pairs.base)):
            raise WrongPairs(
                "The two results are of different pairs that share inputs: they are neither paired nor independent. "
                "Measure both on the same pairs, or on pairs without a common input."
            )
        ours, theirs = one.pairs.clusters(), other.pairs.clusters()
        resampling = Resampling(np.concatenate([ours, theirs + ours.max(initial=-1) + 1]))
        (top, bottom), (their_top, their_bottom) = (
            _alone(side, len(ours), len(theirs), k) for k, side in enumerate(sides)
        )
    difference = resampling.difference((top, bottom), (their_top, their_bottom), tol=max(one.tol, other.tol))
    yes = one.binary and paired and effect == "nie"
    columns = [[found.column(label) for label in labels] for found in (one, other)]
    p = mcnemar(one.ybs[:, columns[0]], other.ybs[:, columns[1]]) if yes else None
    quantity = "IIA" if one.binary and effect == "nie" else "recovery" if effect == "nie" else "what is lost without it"
    found = [_estimates(result, labels, effect) for result in (one, other)]
    return Comparison(labels, quantity, names, found[0], found[1], difference, paired, p)


def _parts(found: Effects, labels: tuple[str, ...], effect: Side) -> tuple[Floats, Floats]:
    """The top and the bottom of the ratio of sums at these places: [pair, place] each."""
    columns = [found.column(label) for label in labels]
    if found.binary and effect == "nie":
        told = (found.ybb < 1).astype(float)[:, None]
        return found.ybs[:, columns] * told, np.repeat(told, len(columns), 1)
    te = np.where(found.informative, found.te, 0.0)[:, None]
    return np.sign(te) * found.values(effect)[:, columns], np.repeat(np.abs(te), len(columns), 1)


def _estimates(found: Effects, labels: tuple[str, ...], effect: Side) -> Estimates:
    columns = np.array([found.column(label) for label in labels])
    return (found.transfer() if effect == "nie" else found.recovery("tie")).take(columns)


def _alone(side: tuple[Floats, Floats], ours: int, theirs: int, k: int) -> tuple[Floats, Floats]:
    """The same columns with zeros in the rows of the other result."""
    before, after = ((0, theirs), (ours, 0))[k]
    top, bottom = (np.pad(part, ((before, after), (0, 0))) for part in side)
    return top, bottom


def _same_pairs(one: Effects, other: Effects) -> bool:
    return len(one.pairs) == len(other.pairs) and all(
        keys(getattr(one.pairs, side)) == keys(getattr(other.pairs, side)) for side in ("base", "source")
    )
