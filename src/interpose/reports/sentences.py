"""Answers in sentences, made from results: which places carry what, how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..accuracy import Accuracy
from ..circuits import Circuit
from ..comparison import Comparison
from ..grid import axes_of, cells_of, tokens_at
from ..judgement import EITHER
from ..maps import MANY, Scan, Scans
from ..statistics import LEVEL, Estimates, fcr_level, number
from .words import capital, counted, interval, named

GROUPS = 5
"""Of more groups of places than this, the strongest are told."""

SHARE = 0.5
"""What carries more than this share of the effect is told of."""

SAME = ("constant", "exhaustive")
"""The methods of what is no estimate: every pair shows it, or all pairs there are were run."""

ROUGH = ("few_clusters", "skewed", "no_informative_pairs")
"""The codes of notes that belong beside the answer."""

CARRIES = ("complete mediator", "mediator, in part")
"""The roles of places that carry what varies; others mediate it together with more."""


# -- maps ------------------------------------------------------------------------------------------


def of_scan(scan: Scan) -> list[str]:
    """What carries it, what does not, and what is open."""
    return [*_found(scan), *_negative(scan), *_open(scan), *_rough(scan)]


def of_scans(scans: Scans) -> list[str]:
    """Which place carries what, then each map by itself: what was found, then what was not."""
    carried: dict[str, list[str]] = {}
    for name, scan in scans.items():
        for j in map(scan.column, scan.mediators()):
            if scan.judgements()[j].role in CARRIES:
                carried.setdefault(scan.labels[j], []).append(name)
    said = [f"{place} carries {named(names)}" for place, names in carried.items()]
    summary = [f"In short: {'; '.join(said)}."] if 1 < len(said) <= 2 * GROUPS and len(scans) > 1 else []
    of_each = [
        sentence if scan.subject == name else f"{name}: {sentence}"
        for tell in (_found, _negative, _open, _rough)
        for name, scan in scans.items()
        for sentence in tell(scan)
    ]
    return [*summary, *dict.fromkeys(of_each)]


def where_it_is(flow: Scan, share: float = SHARE) -> list[str]:
    """In sentences, which positions carry more than a share of the effect, and over which layers."""
    return [
        f"After layers {layers[0]} to {layers[-1]}, {words} carries more than {100 * share:.0f} % of the effect."
        for words, layers, _ in stretches(flow, share)
    ]


def stretches(flow: Scan, share: float = SHARE) -> list[tuple[str, list[int], list[int]]]:
    """Where a map of layers and positions is above a share: the position, the layers in a row, and their columns."""
    axes = axes_of(flow.places)
    if list(axes) != ["layer", "position"]:
        return []
    carried, cells = flow.transfer().estimate, np.stack(cells_of(flow.places, axes), 1).tolist()
    found = []
    for p, position in enumerate(axes["position"]):
        above = sorted((axes["layer"][at[0]], j) for j, at in enumerate(cells) if at[1] == p and carried[j] > share)
        layers = [layer for layer, _ in above]
        for run in np.split(np.arange(len(above)), np.flatnonzero(np.diff(layers) > 1) + 1) if above else []:
            found.append((_position(flow, position), [above[k][0] for k in run], [above[k][1] for k in run]))
    return found


def _position(flow: Scan, position: Any) -> str:
    """A position with the tokens that stand there, where that is known."""
    tokens = tokens_at(position, flow.pairs.tokens)
    shown = f" ({'/'.join(tokens[:2])}{'/...' if len(tokens) > 2 else ''})" if tokens else ""
    return f"position {position}{shown}"


def _found(scan: Scan) -> list[str]:
    """The places that mediate: over which layers, where there are layers and positions; and the strongest first."""
    if not len(scan.pairs):
        return [f"Nothing was measured for {scan.subject}: there are no pairs."]
    chosen = [scan.column(place) for place in scan.mediators()]
    if not chosen:
        return [f"No place is shown to carry {scan.subject}."]
    allowing = len(scan.places) > MANY and len(chosen) < len(scan.places) and not scan.pairs.exhaustive
    among = scan.tests or len(scan.places)
    level = fcr_level(len(chosen), among) if allowing else LEVEL
    flow = _flow(scan, level)
    groups = _alike(scan, chosen, level)
    told = [*groups.items()][: 1 if flow else GROUPS]
    said = [*flow, *(_group(scan, role, how, columns, strongest=bool(flow)) for (role, how), columns in told)]
    if left := len(chosen) - sum(len(columns) for _, columns in told):
        said.append(f"{counted(left, 'more place')} mediate{'s' * (left == 1)}; the table has them.")
    if allowing:
        said.append(f"These intervals allow for {len(chosen)} places having been chosen out of {among:,}.")
    return [*said, *_confirmed(scan)]


def _flow(scan: Scan, level: float) -> list[str]:
    """Over which layers a position carries more than a share of the effect, and how sure that is."""
    found, carried = stretches(scan), scan.transfer(level=level)
    said = []
    for words, layers, columns in found if len(found) <= GROUPS else []:
        least, most = carried.estimate[columns].min(), carried.estimate[columns].max()
        sure = int((np.nan_to_num(carried.low[columns], nan=-np.inf) > SHARE).sum())
        over = f"layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}"
        bounds = f"{number(least)} to {number(most)}" if len(layers) > 1 else number(least)
        said.append(
            f"After {over}, {words} carries more than {100 * SHARE:.0f} % of the effect: {bounds} of it, and in {sure} "
            f"of {counted(len(layers), 'layer')} the {100 * level:.3g} % interval is above {100 * SHARE:.0f} % too."
        )
    return said


def _alike(scan: Scan, chosen: Sequence[int], level: float) -> dict[tuple[str, str], list[int]]:
    """The chosen places by what is to be said of them: their role, and how much."""
    transfer, restores, judgements = scan.transfer(level=level), scan.recovery("tie", level=level), scan.judgements()
    groups: dict[tuple[str, str], list[int]] = {}
    for j in chosen:
        role = judgements[j].role
        groups.setdefault((role, _how_much(scan, transfer, restores, j)), []).append(j)
    return groups


def _group(scan: Scan, role: str, how: str, columns: Sequence[int], *, strongest: bool) -> str:
    """One sentence of places of which the same is to be said."""
    names, s = named([scan.labels[j] for j in columns]), "s" * (len(columns) == 1)
    if role == EITHER:
        own = "its own" if s else "their own"
        does = f"move{s} the output either way, so that no share of the effect of {scan.subject} is {own}"
    elif role in CARRIES:
        does = f"carr{'ies' if s else 'y'} {scan.subject}"
    else:
        does = f"mediate{s} {scan.subject} ({role})"
    return f"{'The strongest, ' * strongest}{names}{',' * strongest} {does}: {'it' if s else 'each'} {how}."


def _how_much(scan: Scan, transfer: Estimates, restores: Estimates, j: int) -> str:
    """How many outputs are moved, or what share of the effect; and of places that do not do all, what is undone."""
    if scan.binary:
        kept = scan.ybb < 1
        hits, n = int(scan.ybs[kept, j].sum()), int(kept.sum())
        how = f"moves {'all ' * (0 < hits == n)}{hits:,} of {n:,} outputs to the source's"
    else:
        how = f"brings {transfer.shown(j)} of the effect"
    whole = number(transfer.estimate[j]) == number(restores.estimate[j]) == "1.00"
    undone = "" if whole else f"; putting it back undoes {restores.shown(j)} of it"
    return f"{how} ({interval(transfer, j)}){undone}"


def _confirmed(scan: Scan) -> list[str]:
    """What the chosen places do on pairs that they were not chosen on."""
    if scan.confirmed is None or not len(scan.confirmed.places):
        return []
    of = scan.confirmed
    found = of.transfer()
    told = [f"{of.labels[k]} {found.shown(k)} ({interval(found, k)})" for k in range(min(len(of.places), GROUPS))]
    return [f"On {counted(len(of.pairs), 'other pair')}, which share no input with these: {', '.join(told)}."]


def _negative(scan: Scan) -> list[str]:
    """The places that do not mediate, by how that is known."""
    groups: dict[str, list[int]] = {}
    for j, one in enumerate(scan.judgements()):
        if one.verdict == "does not mediate":
            groups.setdefault(one.role.partition(",")[0], []).append(j)
    said = []
    for role, columns in groups.items():
        names = named([scan.labels[j] for j in columns])
        s, es = ("s", "es") if len(columns) == 1 else ("", "")
        if role == "not reached (certified)":
            said.append(f"{scan.subject} does not reach {names}, for certain.")
        elif role == "inert (certified)":
            said.append(f"Nothing in the output depends on {names}, for certain.")
        elif scan.pairs.exhaustive:
            said.append(f"{names} do{es} not mediate: {role}, in any pair there is.")
        else:
            bound = max(scan.judgements()[j].high for j in columns)
            said.append(f"{names} show{s} {role}; at most {100 * bound:.2g} % of all such pairs would.")
    return said


def _open(scan: Scan) -> list[str]:
    columns = [j for j, verdict in enumerate(scan.verdicts()) if verdict == "undetermined"]
    if not columns:
        return []
    names = [scan.labels[j] for j in columns]
    what = named(names) if len(names) <= GROUPS else f"{len(names):,} of {counted(len(scan.places), 'place')}"
    return [f"Undetermined, for {counted(len(scan.pairs), 'pair')} cannot tell: {what}."]


def _rough(scan: Scan) -> list[str]:
    """What takes weight from all of the above."""
    return [str(note) for note in scan.notes() if note.code in ROUGH]


# -- other results -----------------------------------------------------------------------------------


def of_accuracy(found: Accuracy) -> list[str]:
    """How often the network did as the hypothesis says, against what chance and no intervention give."""
    hits, n = sum(int(row.hits.sum()) for row in found.rows), sum(row.size for row in found.rows)
    low, high = found.interval
    digits = 3 if high - low <= 0.02 else 2
    every = "all " * (hits == n)
    said = [
        f"The network did what the hypothesis says in {every}{hits:,} of {n:,} interchanges "
        f"({100 * LEVEL:.0f} % interval {low:.{digits}f} to {high:.{digits}f}).",
        f"Without any intervention it would be {number(found.floor)} of them; with everything taken from one source it "
        f"is {number(found.ceiling)}.",
        f"Untouched, the two agree on {number(found.accuracy)} of the inputs.",
    ]
    worst = min(found.rows, key=lambda row: row.hits.mean())
    if hits < n:
        said.append(
            f"Least often with {worst.label}: {int(worst.hits.sum()):,} of {worst.size:,}, where sources meant for "
            f"other pairs give {number(worst.chance)}."
        )
    return said


def of_circuit(found: Circuit) -> list[str]:
    """How much of the task the places do alone, what is left out, and what is not needed."""
    names = named([" + ".join(map(str, group)) for group in found.kept])
    does = "do" if len(found.kept) > 1 else "does"
    faithful, complete = found.faithfulness, found.completeness
    said = [
        f"With everything else resampled, {names} {does} {faithful.shown(0)} of the task ({interval(faithful, 0)}).",
        f"Resampling all the others changes the metric by {complete.shown(0)} on average ({interval(complete, 0)}).",
    ]
    least = found.minimality
    idle = [
        " + ".join(map(str, group))
        for j, group in enumerate(found.kept)
        if least.estimate[j] == 0 or least.low[j] <= 0 <= least.high[j]
    ]
    return [*said, f"Not shown to be needed: {named(idle)}."] if idle else [*said, "Each place of it is needed."]


def of_comparison(found: Comparison) -> list[str]:
    """The places at which the two results differ, the largest difference first."""
    one, other = found.names
    difference = found.difference
    apart = [
        j
        for j in np.argsort(-np.abs(np.nan_to_num(difference.estimate)), kind="stable").tolist()
        if difference.low[j] > 0 or difference.high[j] < 0 or (difference.method[j] in SAME and difference.estimate[j])
    ]
    said = [
        f"At {found.labels[j]}, {one} has {found.one.shown(j)} and {other} {found.other.shown(j)}: a difference of "
        f"{difference.shown(j)} ({interval(difference, j)})."
        for j in apart[:GROUPS]
    ]
    if not apart:
        said = [f"At no place is a difference between {one} and {other} shown."]
    left = len(found.labels) - len(apart)
    more = [f"{counted(len(apart) - GROUPS, 'more place')} differ too."] if len(apart) > GROUPS else []
    rest = [f"At the other {counted(left, 'place')} their interval of the difference contains 0, or there is none."]
    return [capital(sentence) for sentence in (*said, *more, *(rest if apart and left else []))]
