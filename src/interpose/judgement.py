"""What may be said of a place: whether it mediates, in which direction, with what bound, and in which words.

A unit (a cluster of pairs) is a hit where an effect is larger than delta. A place mediates if more than a share p0 of
all the units there are would be hits, and does not mediate if at most p0 would be; both are said with a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .quantities import SILENT, Warned
from .statistics import ALPHA, P0, Floats, Verdict, benjamini_hochberg, further, limits, p_above

Truths = NDArray[np.bool_]
Numbers = NDArray[np.int_]
Grade = Literal["N1", "N2", "N3"]
"""Of a negative: no disruption; neither disrupts nor restores; nor together with any other measured place."""

Extent = Literal["full", "partial", "over", "against", "none", "mixed"]


EITHER = "moves it either way"


@dataclass(frozen=True)
class Judgement:
    """What may be said of one place.

    verdict: of effects in either direction. hits: how many of the units have one; disrupts, restores: of each
    direction.
    low, high: one-sided limits of the share of hits in the population.
    p, adjusted: of the null that at most p0 are hits, as it is and with Benjamini and Hochberg's adjustment.
    grade: of a negative; certificate: why no input whatever can show an effect, where that is certain.
    witness: a pair with the largest effect, where there is one above delta. more: further units that would decide.
    extent, back: how far the usual pair is moved to the source's output, and back to the base's.
    exhaustive: all pairs there are were measured. directed: whether effects have a direction, so that a share of the
    total effect is the place's; not where some pairs are moved towards the source's output and others as far away.
    """

    verdict: Verdict
    hits: int
    disrupts: int
    restores: int
    units: int
    low: float
    high: float
    p: float
    adjusted: float
    grade: Grade | None
    certificate: Warned | None
    witness: int | None
    more: float
    extent: Extent
    back: Extent
    exhaustive: bool
    p0: float = P0
    directed: bool = True

    @property
    def role(self) -> str:
        """In words: what the place is for what the base run does."""
        if self.certificate is not None:
            return "inert (certified)" if self.certificate.code == SILENT else "not reached (certified)"
        if self.verdict == "mediates":
            return self._mediator()
        if self.verdict == "undetermined":
            return "undetermined"
        alone = "no effect up to pairs" if self.grade == "N3" else "no effect alone"
        return alone if self.exhaustive else f"{alone}, at most {100 * self.high:.2g} %"

    def _mediator(self) -> str:
        if not self.directed:
            return EITHER
        if self.disrupts and self.restores:
            return "complete mediator" if self.extent == "full" == self.back else "mediator, in part"
        return "necessary, jointly with others" if self.disrupts else "sufficient, a backup exists"


def judged(
    moved: Truths,
    back: Truths,
    clusters: Numbers,
    *,
    sizes: Floats,
    extents: tuple[Sequence[Extent], ...],
    tests: int,
    p0: float = P0,
    alpha: float = ALPHA,
    exhaustive: bool = False,
    sized: bool = True,
    certificates: Sequence[Warned | None] | None = None,
    together: Truths | None = None,
) -> tuple[Judgement, ...]:
    """A judgement for each place.

    moved, back: [pair, place], whether the base run is disrupted, and the source run put back, by more than delta.
    clusters: [pair]. sizes: [pair, place], how large effects are, to choose witnesses by. extents: for each direction.
    tests: how many judgements share alpha, over all tables they belong to.
    sized: whether delta is a share of something; without, no place "does not mediate".
    together: [pair, place], whether with another place there is more than with that one alone: for grade N3.
    """
    ours, theirs = (by_cluster(side, clusters) for side in (moved, back))
    either = np.maximum(ours, theirs)
    units, hits = len(either), either.sum(0)
    low, high = (hits / max(units, 1),) * 2 if exhaustive else limits(hits, units, alpha=alpha, tests=tests)
    p = p_above(hits, units, p0=p0)
    adjusted = benjamini_hochberg(np.concatenate([p, np.ones(max(tests - len(p), 0))]))[: len(p)]
    found = low > p0 if exhaustive else (adjusted <= alpha) & (hits > 0)
    none = (high <= p0) & (exhaustive or sized) & ~found
    more = further(hits, units, p0=p0, alpha=alpha, tests=tests)
    pairwise = None if together is None else by_cluster(together, clusters).sum(0)
    joint = None if pairwise is None else limits(pairwise, units, alpha=alpha, tests=tests)[1] <= p0

    def of_place(j: int) -> Judgement:
        certificate = None if certificates is None or hits[j] else certificates[j]
        verdict: Verdict = "mediates" if found[j] else "does not mediate" if none[j] or certificate else "undetermined"
        grade: Grade = "N3" if joint is not None and joint[j] else "N2"
        return Judgement(
            verdict=verdict,
            hits=int(hits[j]),
            disrupts=int(ours[:, j].sum()),
            restores=int(theirs[:, j].sum()),
            units=units,
            low=float(low[j]),
            high=0.0 if certificate else float(high[j]),
            p=float(p[j]),
            adjusted=float(adjusted[j]),
            grade=grade if verdict == "does not mediate" and not certificate else None,
            certificate=certificate,
            witness=_witness(moved[:, j], back[:, j], sizes[:, j]),
            more=float(more[j]) if verdict == "undetermined" else 0.0,
            extent=extents[0][j],
            back=extents[1][j],
            exhaustive=exhaustive,
            p0=p0,
        )

    return tuple(map(of_place, range(len(hits))))


def extent_of(te: Floats, nie: Floats, tol: float) -> tuple[Extent, ...]:
    """For each place how far the usual pair is moved: to the source's output ("full"), in part, too far, or against.

    te: [pair], of pairs with an effect; nie: [pair, place]; the class of more than half of the pairs, or "mixed".
    """
    if not len(te):
        return ("none",) * nie.shape[1]
    share = nie / te[:, None]
    none = np.abs(nie) <= tol
    full = ~none & (np.abs(te[:, None] - nie) <= tol)
    classes: dict[Extent, np.ndarray] = {
        "full": full,
        "none": none,
        "over": ~full & (share > 1),
        "against": ~none & (share < 0),
        "partial": ~none & ~full & (share >= 0) & (share <= 1),
    }
    shares = {name: members.mean(0) for name, members in classes.items()}
    return tuple(next((name for name, share in shares.items() if share[j] > 0.5), "mixed") for j in range(nie.shape[1]))


def by_cluster(hits: Truths, clusters: Numbers) -> Floats:
    """[unit, place]: 1 where any pair of the unit is a hit."""
    names, index = np.unique(clusters, return_inverse=True)
    found = np.zeros((len(names), hits.shape[1]))
    np.maximum.at(found, index, hits.astype(float))
    return found


def _witness(moved: Truths, back: Truths, sizes: Floats) -> int | None:
    either = np.flatnonzero(moved | back)
    return int(either[np.argmax(sizes[either])]) if len(either) else None
