"""Chance by mismatched pairs: how often a source that was meant for another base gives what the right one should."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import WrongNumbers, WrongShape
from .estimates import LEVEL, NO_PAIRS, Estimates, Floats, Integers, Method, Random
from .groups import Groups
from .resampling import Resampling

DRAWS = 9999
AT_ONCE = 2**22
"""How many matches are looked up at a time."""


@dataclass(frozen=True, eq=False)
class Chance:
    """What shuffled sources score, beside what the right ones do.

    hits: [pair, column], what each base gives with its own source.
    shuffled: [pair, column], what each pair adds to chance, as a base and as a source; the mean over pairs is chance.
    p: [column], (1 + orders that score at least as much) / (1 + orders); never 0. NaN where nothing can be shuffled.
    draws: how many orders were drawn. reason: why there is no p; None where there is one.
    """

    hits: Floats
    shuffled: Floats
    p: Floats
    draws: int
    reason: str | None = None

    @property
    def accuracy(self) -> Floats:
        """[column]: the share of matches with the right sources."""
        return _mean(self.hits)

    @property
    def chance(self) -> Floats:
        """[column]: the share of matches with sources in random order."""
        return _mean(self.shuffled)

    def corrected(self, resampling: Resampling, *, level: float = LEVEL, method: Method | None = None) -> Estimates:
        """(accuracy - chance) / (1 - chance), 0 for chance and 1 for perfect, with an interval of both together.

        resampling: of the same pairs. Undefined where chance cannot be told from 1.
        """
        return resampling.ratio(self.hits - self.shuffled, 1 - self.shuffled, level=level, method=method)


def p_among(score: ArrayLike, draws: ArrayLike) -> Floats:
    """(1 + draws that are at least the score) / (1 + draws), for each column; never 0 (Phipson & Smyth 2010).

    score: [column]; draws: [draw, column], scores under a null: shuffled sources, random places of the same size,
    retrained on shuffled labels. What is smaller by rounding alone counts as equal.
    """
    score, draws = np.asarray(score, float), np.asarray(draws, float)
    return np.asarray((1 + (draws >= score - 1e-9 * np.abs(score)).sum(0)) / (1 + len(draws)))


def mismatched(
    matches: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: Random = 0,
) -> Chance:
    """Chance from every source in every base: matches[j, i] says that source j in base i gives base i's target.

    matches: [source, base] or [source, base, column] of zeros and ones, the right pairs on the diagonal.
    clusters: [pair]; whole clusters change places, with clusters of as many pairs. strata: [pair]; sources stay within
    theirs (what changes the task). Without either, chance is the mean of all n^2 cells: random orders leave some
    sources in place.
    Raises WrongShape, and WrongNumbers for a cluster in several strata.
    """
    cells = np.asarray(matches)
    cells = cells[:, :, None] if cells.ndim == 2 else cells
    if cells.ndim != 3 or cells.shape[0] != cells.shape[1]:
        raise WrongShape(f"matches has shape {np.shape(matches)}. It should be [source, base] or one more, [column].")
    n, _, width = cells.shape
    blocks = _blocks(n, clusters, strata)
    hits = cells[np.arange(n), np.arange(n)].astype(float)
    shuffled = _added(cells, blocks)
    if all(len(block) < 2 for block in blocks):
        reason = "no two clusters can change places" if n else NO_PAIRS
        return Chance(hits, shuffled, np.full(width, np.nan), 0, reason)
    rng = np.random.default_rng(seed)
    at_once = max(AT_ONCE // max(n * width, 1), 1)
    scores = [
        cells[_orders(blocks, n, min(at_once, draws - start), rng), np.arange(n)].mean(1)
        for start in range(0, draws, at_once)
    ]
    return Chance(hits, shuffled, p_among(_mean(hits), np.concatenate(scores)), draws)


def drawn(hits: ArrayLike, shuffled: ArrayLike) -> Chance:
    """Chance from the orders that were run: what each base gives with its own source, and with shuffled ones.

    hits: [pair] or [pair, column]; shuffled: [draw, pair] or [draw, pair, column]; of zeros and ones.
    """
    right, wrong = np.asarray(hits, float), np.asarray(shuffled, float)
    if wrong.shape[1:] != right.shape or right.ndim not in (1, 2):
        raise WrongShape(f"shuffled has shape {wrong.shape}. It should be [draw, *hits], with hits {right.shape}.")
    if right.ndim == 1:
        right, wrong = right[:, None], wrong[:, :, None]
    nothing = np.full(right.shape[1], np.nan)
    if not right.size or not len(wrong):
        return Chance(right, np.full_like(right, np.nan), nothing, len(wrong), "nothing was shuffled")
    return Chance(right, wrong.mean(0), p_among(_mean(right), wrong.mean(1)), len(wrong))


def _blocks(n: int, clusters: ArrayLike | None, strata: ArrayLike | None) -> list[NDArray[np.int_]]:
    """[cluster, member] each: pairs, in clusters that may change places (of one stratum, and as many pairs)."""
    groups = Groups.of(np.arange(n) if clusters is None else clusters)
    if len(groups.order) != n or (strata is not None and np.shape(strata) != (n,)):
        raise WrongShape(f"There are {n} pairs in matches; clusters and strata should have one entry a pair.")
    stratum = np.zeros(n, int) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    blocks: dict[tuple[int, int], list[Integers]] = {}
    for members in np.split(groups.order, groups.starts[1:]) if n else ():
        if len(np.unique(stratum[members])) > 1:
            raise WrongNumbers("A cluster has pairs in several strata, so it cannot change places as a whole.")
        blocks.setdefault((int(stratum[members[0]]), len(members)), []).append(members)
    return [np.stack(members) for members in blocks.values()]


def _orders(blocks: list[NDArray[np.int_]], n: int, count: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """[draw, base]: the source that each base gets."""
    orders = np.tile(np.arange(n), (count, 1))
    for block in blocks:
        places = rng.permuted(np.tile(np.arange(len(block)), (count, 1)), axis=1)
        orders[:, block.ravel()] = block[places].reshape(count, -1)
    return orders


def _added(cells: NDArray[np.generic], blocks: list[NDArray[np.int_]]) -> Floats:
    """[pair, column]: what each pair adds to chance: its mean as a base, and how its source differs from others'.

    The mean over pairs is chance, and its spread is that of chance when both bases and sources are a sample (the
    projection of Hájek 1968 of the mean over cells).
    """
    added = np.zeros(cells.shape[1:])
    for block in blocks:
        for member in block.T:
            part = cells[np.ix_(member, member)]
            of_bases, of_sources = part.mean(0), part.mean(1)
            added[member] = of_bases + of_sources - of_bases.mean(0)
    return added


def _mean(columns: Floats) -> Floats:
    """[column]: the mean over pairs; NaN of none."""
    return columns.mean(0) if len(columns) else np.full(columns.shape[1], np.nan)
