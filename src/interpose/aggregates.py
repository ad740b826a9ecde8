"""From pairs to numbers: means, recoveries, slopes and shares with their intervals, and judgements of each place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .errors import UnknownPlace, WrongInput
from .judgement import Judgement, Truths, by_cluster, extent_of, judged
from .quantities import Quantities, Warned
from .statistics import (
    ALPHA,
    LEVEL,
    P0,
    Chance,
    Estimates,
    Floats,
    Method,
    Resampling,
    Verdict,
    drawn,
    exhaustive,
    median,
    p_among,
    shares,
)

SHARE = 0.05
"""An effect is worth the name where it is more than this share of the usual total effect."""


@dataclass(frozen=True, eq=False)
class ChanceLevel:
    """What sources of other pairs give at each place, beside what the right ones do.

    score, chance: [place]; p: [place], that the score is no better than chance; draws: how many orders were run.
    corrected: (score - chance) / (1 - chance), with an interval where the metric says yes or no.
    """

    score: Floats
    chance: Floats
    p: Floats
    draws: int
    corrected: Estimates | None


@dataclass(frozen=True, eq=False)
class Aggregates(Quantities):
    """Four runs a pair and place, and what they come to over pairs; intervals are from one set of resampled pairs."""

    @cached_property
    def resampling(self) -> Resampling:
        """The clusters of pairs, resampled together for every place and every number."""
        return Resampling(self.pairs.clusters())

    # -- sizes of effects --------------------------------------------------------------------------

    def mean(self, quantity: str, *, level: float = LEVEL, method: Method | None = None) -> Estimates:
        """The mean over pairs of a quantity ("te", "nie", ..., "cde") at each place. Signs may cancel: see `size`."""
        return self._estimated(self.resampling.ratio(self._columns(quantity), tol=self.tol, level=level, method=method))

    def size(self, quantity: str, *, level: float = LEVEL, method: Method | None = None) -> Estimates:
        """The mean over pairs of a quantity's absolute value at each place."""
        sizes = np.abs(self._columns(quantity))
        return self._estimated(self.resampling.ratio(sizes, tol=self.tol, level=level, method=method))

    def median_size(self, quantity: str, *, level: float = LEVEL) -> Estimates:
        """The median over pairs of a quantity's absolute value at each place."""
        return self._estimated(median(np.abs(self._columns(quantity)), self.pairs.clusters(), level=level))

    def band(self, quantity: str, *, level: float = LEVEL) -> Estimates:
        """The mean of a quantity at each place, with intervals that hold for all places at once (max-t)."""
        return self._estimated(self.resampling.band(self._columns(quantity), tol=self.tol, level=level))

    # -- shares of the effect ----------------------------------------------------------------------

    def recovery(self, quantity: str = "nie", *, level: float = LEVEL, method: Method | None = None) -> Estimates:
        """sum of sgn(TE) * effect / sum of |TE| at each place: the sign-aligned share of the effect, not clipped.

        quantity: "nie" for what the place brings, "tie" for what is lost without it. Pairs with |TE| <= tol are left
        out; undefined where none is left.
        """
        return self._estimated(
            self.resampling.ratio(
                *self._aligned(quantity), kept=self.informative, level=level, method=method, tol=self.tol
            )
        )

    def recovery_band(self, quantity: str = "nie", *, level: float = LEVEL) -> Estimates:
        """The recovery of each place, with intervals that hold for all places at once (max-t)."""
        top, bottom = self._aligned(quantity)
        return self._estimated(self.resampling.band(top, bottom, kept=self.informative, level=level, tol=self.tol))

    def ratio_of_means(self, quantity: str = "nie", *, level: float = LEVEL) -> Estimates:
        """mean of the effect / mean of TE, signs and all; undefined where the mean of TE cannot be told from zero."""
        te = self.te[:, None]
        return self._estimated(self.resampling.ratio(self.values(quantity), te, kept=self.informative, level=level))

    def slope(self, quantity: str = "nie", *, level: float = LEVEL, method: Method | None = None) -> Estimates:
        """sum of TE * effect / sum of TE^2 at each place: 2 where twice too much is transmitted, however noisily."""
        found = self.resampling.slope(
            self.te, self.values(quantity), kept=self.informative, level=level, method=method, tol=self.tol
        )
        return self._estimated(found)

    def r_squared(self, quantity: str = "nie", *, level: float = LEVEL) -> Estimates:
        """(sum of TE * effect)^2 / (sum of TE^2 * sum of effect^2): 1 where the place transmits without noise."""
        found = self.resampling.r_squared(
            self.te, self.values(quantity), kept=self.informative, level=level, tol=self.tol
        )
        return self._estimated(found)

    def transfer(self, *, level: float = LEVEL) -> Estimates:
        """How much of the source's answer the place alone carries into the base run.

        For a metric that says yes or no, the share of pairs in which it says yes, among those in which the untouched
        base run does not (interchange intervention accuracy on informative pairs; Geiger et al. 2021); for any other,
        the recovery of NIE.
        """
        if not self.binary:
            return self.recovery("nie", level=level)
        return self._estimated(shares(self.ybs, self.pairs.clusters(), kept=self.ybb < 1, level=level))

    def full_transfer(self, *, level: float = LEVEL) -> dict[str, Estimates]:
        """The shares of pairs that are moved in "full" (|NIE - TE| <= tol), in "part", and not at all ("none").

        Of pairs with |TE| > tol; the three add up to 1 at each place.
        """
        clusters = self.pairs.clusters()
        return {
            name: self._estimated(shares(of, clusters, kept=self.informative, level=level))
            for name, of in self._extents().items()
        }

    def extent(self) -> Floats:
        """[3, place]: how many pairs transfer in full (|NIE - TE| <= tol), in part, and not at all (|NIE| <= tol)."""
        return np.stack([of[self.informative].sum(0) for of in self._extents().values()])

    def synergy(self, place: Any, other: Any, *, quantity: str = "nie", level: float = LEVEL) -> Estimates:
        """NIE(both) - NIE(one) - NIE(other): what only the two together do; negative where they are redundant.

        Raises UnknownPlace unless the two were measured alone and together: [["h12"], ["h13"], ["h12", "h13"]], or
        jointly=True.
        """
        one, two = (self.values(quantity)[:, [self.column(name)]] for name in (place, other))
        both = self._together(place, other, quantity)
        return self._estimated(self.resampling.ratio(both - one - two, tol=self.tol, level=level))

    def difference(self, place: Any, other: Any, *, quantity: str = "nie", level: float = LEVEL) -> Estimates:
        """The recovery of one place minus that of another, on the same pairs and the same draws: one column."""
        top, bottom = self._aligned(quantity)
        ours, theirs = (top[:, [self.column(name)]] for name in (place, other))
        found = self.resampling.difference(
            (ours, bottom), (theirs, bottom), kept=self.informative, tol=self.tol, level=level
        )
        return self._estimated(found)

    # -- chance ------------------------------------------------------------------------------------

    def chance(self) -> ChanceLevel:
        """What each place scores with sources that were meant for other pairs, and whether it does better than that.

        The score is IIA over all pairs for a metric that says yes or no, the recovery of NIE for any other.
        Raises WrongInput where no other sources were run: effects(..., chance=20).
        Source: mismatched-pair permutation; p values never 0 (Phipson & Smyth 2010).
        """
        if self.shuffled is None:
            raise WrongInput("No sources of other pairs were run. Ask for some: effects(..., chance=20).")
        draws = len(self.shuffled.ybs)
        if self.binary:
            found: Chance = drawn(self.ybs, self.shuffled.ybs)
            corrected = self._estimated(found.corrected(self.resampling))
            return ChanceLevel(found.accuracy, found.chance, found.p, draws, corrected)
        kept = self.informative
        weight = np.sign(self.te[kept]) / max(np.abs(self.te[kept]).sum(), 1e-300)
        score = weight @ self.nie[kept]
        others = np.einsum("i,dij->dj", weight, self.shuffled.ybs[:, kept] - self.ybb[kept, None])
        return ChanceLevel(score, others.mean(0), p_among(score, others), draws, None)

    def resample_effect(self, *, level: float = LEVEL) -> Estimates:
        """The mean over other sources s' of Y(base, place from s') - Ybb: of a random other value at each place.

        Refused with fewer than two other sources a base: effects(..., chance=2) or more.
        """
        if self.shuffled is None or len(self.shuffled.ybs) < 2:
            raise WrongInput("An effect of random other values needs two of them or more: effects(..., chance=2).")
        values = self.shuffled.ybs.mean(0) - self.ybb[:, None]
        return self._estimated(self.resampling.ratio(values, tol=self.tol, level=level))

    # -- verdicts ----------------------------------------------------------------------------------

    def hits(self, *, delta: float | None = None) -> Floats:
        """[cluster, place]: 1 where any pair of the cluster has max(|NIE|, |TIE|) > delta.

        delta: what is worth calling an effect; 5 % of the median |TE|, and never less than tol, unless given.
        """
        bound = self.delta if delta is None else delta
        return by_cluster(np.maximum(np.abs(self.nie), np.abs(self.tie)) > bound, self.pairs.clusters())

    def judgements(self, *, delta: float | None = None, p0: float = P0, alpha: float = ALPHA) -> tuple[Judgement, ...]:
        """What may be said of each place: see `Judgement`.

        A place mediates if more than a share p0 of the clusters there are would be hits: among the places of which that
        is said, at most a share alpha wrongly (Benjamini & Hochberg). It does not mediate if at most p0 would be, with
        a chance of at most alpha that this is wrong of any place. Where half of the pairs have no total effect, nothing
        says what is worth calling an effect, and no place "does not mediate" unless delta is given.
        """
        bound = self.delta if delta is None else delta
        if delta is None and (p0, alpha) == (P0, ALPHA):
            return self._judgements
        return self._judged(bound, p0, alpha, sized=delta is not None or self.has_size)

    def verdicts(self, *, delta: float | None = None, p0: float = P0, alpha: float = ALPHA) -> tuple[Verdict, ...]:
        """Per place: mediates, does not mediate, or undetermined; the thresholds are those of `judgements`."""
        return tuple(one.verdict for one in self.judgements(delta=delta, p0=p0, alpha=alpha))

    @property
    def delta(self) -> float:
        """What is worth calling an effect unless told otherwise: 5 % of the median |TE|, and never less than tol."""
        return max(SHARE * float(np.median(np.abs(self.te))), self.tol) if len(self.te) else self.tol

    @property
    def has_size(self) -> bool:
        """Whether the usual pair has a total effect, of which delta can be a share."""
        return bool(len(self.te)) and bool(np.median(np.abs(self.te)) > self.tol)

    @cached_property
    def certificates(self) -> tuple[Warned | None, ...]:
        """For each place why it cannot carry what varies to the output for any input, where that is certain."""
        if self.known is not None:
            return self.known
        if self.origin is None:
            return (None,) * len(self.places)
        return self.origin.certificates(self.places, self.pairs)

    # -- inside ------------------------------------------------------------------------------------

    @cached_property
    def _judgements(self) -> tuple[Judgement, ...]:
        return self._judged(self.delta, P0, ALPHA, sized=self.has_size)

    def _judged(self, delta: float, p0: float, alpha: float, *, sized: bool) -> tuple[Judgement, ...]:
        kept = self.informative
        found = judged(
            np.abs(self.nie) > delta,
            np.abs(self.tie) > delta,
            self.pairs.clusters(),
            tests=self.tests or len(self.places),
            p0=p0,
            alpha=alpha,
            exhaustive=self.pairs.exhaustive,
            sized=sized,
            certificates=self.certificates,
            together=self._more_together(delta),
            extents=tuple(extent_of(self.te[kept], of[kept], delta) for of in (self.nie, self.tie)),
            sizes=np.maximum(np.abs(self.nie), np.abs(self.tie)),
        )
        in_part = [one.verdict == "mediates" and not one.extent == "full" == one.back for one in found]
        if not any(in_part) or not kept.any():
            return found
        bands = [self.recovery_band(quantity) for quantity in ("nie", "tie")]
        told = np.any([(band.low > 0) | (band.high < 0) | np.isnan(band.low) for band in bands], axis=0)
        return tuple(replace(one, directed=bool(told[j]) or not in_part[j]) for j, one in enumerate(found))

    def _extents(self) -> dict[str, Floats]:
        none = np.abs(self.nie) <= self.tol
        full = ~none & (np.abs(self.tde) <= self.tol)
        return {"full": full.astype(float), "part": (~none & ~full).astype(float), "none": none.astype(float)}

    def _more_together(self, delta: float) -> Truths | None:
        """[pair, place]: whether with another place there is more than with that alone; None if not measured."""
        if self.joint is None:
            return None
        found = np.zeros(self.nie.shape, bool)
        for j, group in enumerate(self.places):
            for k, other in enumerate(self.places):
                both = (*group, *other) if j < k else (*other, *group)
                if j != k and both in self.joint.places:
                    of = self.joint.places.index(both)
                    more = np.maximum(
                        np.abs(self.joint.nie[:, of] - self.nie[:, k]), np.abs(self.joint.tie[:, of] - self.tie[:, k])
                    )
                    found[:, j] |= more > delta
        return found

    def _together(self, place: Any, other: Any, quantity: str) -> Floats:
        """[pair, 1]: a quantity of two places written together."""
        wanted = {str(site) for name in (place, other) for site in self.places[self.column(name)]}
        for found in (self, self.joint):
            for j, group in enumerate(found.places if found is not None else ()):
                if set(map(str, group)) == wanted:
                    values: Floats = found.values(quantity)[:, [j]]
                    return values
        raise UnknownPlace(
            f"{place} and {other} were not measured together. Ask for it: ['{place}', '{other}'] among the places, or "
            "jointly=True."
        )

    def _aligned(self, quantity: str) -> tuple[Floats, Floats]:
        """The top and the bottom of a recovery."""
        te = self.te[:, None]
        return np.sign(te) * self.values(quantity), np.abs(te)

    def _columns(self, quantity: str) -> Floats:
        values = self.values(quantity)
        return values[:, None] if values.ndim == 1 else values

    def _estimated(self, estimates: Estimates) -> Estimates:
        return exhaustive(estimates) if self.pairs.exhaustive else estimates
