"""Answers in sentences, made from results: which places carry what, how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..accuracy import Accuracy
from ..circuits import Circuit
from ..comparison import Comparison
from ..grid import axes_of
from ..judgement import EITHER, Judgement
from ..maps import MANY, Scan, Scans
from ..statistics import LEVEL, Estimates, fcr_level, number
from .words import capital, counted, interval, named

GROUPS = 5
"""Of more groups of places than this, the strongest are told."""

SHARE = 0.5
"""What carries more than this share of the effect is told of."""


# -- maps ------------------------------------------------------------------------------------------


def of_scan(scan: Scan) -> list[str]:
    """What carries it, what does not, and what is open."""
    if not len(scan.pairs):
        return ["Nothing was measured: there are no pairs."]
    chosen = [scan.column(place) for place in scan.mediators()]
    return [*where_it_is(scan), *_carried(scan, chosen), *_confirmed(scan), *_negative(scan), *_open(scan)]


def of_scans(scans: Scans) -> list[str]:
    """Which place carries what, then each map by itself."""
    carried: dict[str, list[str]] = {}
    for name, places in scans.mediators().items():
        for place in places:
            carried.setdefault(scans[name].labels[scans[name].column(place)], []).append(name)
    said = [f"{place} carries {named(names)}" for place, names in carried.items()]
    summary = [f"In short: {'; '.join(said)}."] if 1 < len(said) <= 2 * GROUPS and len(scans) > 1 else []
    of_each = [
        sentence if scan.subject == name else f"{name}: {sentence}"
        for name, scan in scans.items()
        for sentence in of_scan(scan)
    ]
    return [*summary, *dict.fromkeys(of_each)]


def where_it_is(flow: Scan, share: float = SHARE) -> list[str]:
    """In sentences, which positions carry more than a share of the effect, and over which layers.

    Of maps of layers and positions; of others there is nothing to say.
    """
    if list(axes_of(flow.places)) != ["layer", "position"]:
        return []
    recovery = flow.transfer().estimate
    sentences = []
    for position in flow.data.position.values.tolist():
        layers = [
            site.coordinates[0][1]
            for (site,), carried in zip(flow.places, recovery, strict=True)
            if site.position == position and carried > share
        ]
        tokens = list(dict.fromkeys(row[position].strip() for row in flow.pairs.tokens or ()))
        token = "/".join(tokens[:2]) + ("/..." if len(tokens) > 2 else "")
        for run in np.split(np.array(layers), np.flatnonzero(np.diff(layers) > 1) + 1) if layers else []:
            sentences.append(
                f"After layers {run[0]} to {run[-1]}, position {position} ({token}) carries more than "
                f"{100 * share:.0f} % of the effect."
            )
    return sentences


def _carried(scan: Scan, chosen: Sequence[int]) -> list[str]:
    """The places that mediate, those of which the same is to be said together, the strongest first."""
    if not chosen:
        return [f"No place is shown to carry {scan.subject}."]
    allowing = len(scan.places) > MANY and len(chosen) < len(scan.places) and not scan.pairs.exhaustive
    level = fcr_level(len(chosen), scan.tests or len(scan.places)) if allowing else LEVEL
    transfer, restores, judgements = scan.transfer(level=level), scan.recovery("tie", level=level), scan.judgements()
    groups: dict[tuple[str, str], list[int]] = {}
    for j in chosen:
        groups.setdefault((judgements[j].role, _how_much(scan, transfer, restores, judgements[j], j)), []).append(j)
    said = [
        f"{named([scan.labels[j] for j in columns])} {_does(scan, role, len(columns))}"
        f"{'each' if len(columns) > 1 else 'it'} {how}."
        for (role, how), columns in list(groups.items())[:GROUPS]
    ]
    left = sum(map(len, list(groups.values())[GROUPS:]))
    if left:
        said.append(f"{counted(left, 'more place')} mediate{'s' * (left == 1)}; the table has them.")
    if allowing:
        among = scan.tests or len(scan.places)
        said.append(f"These intervals allow for {len(chosen)} having been chosen out of {among:,}.")
    return said


def _does(scan: Scan, role: str, n: int) -> str:
    """What places of a role do, before how much."""
    s = "s" * (n == 1)
    if role == EITHER:
        own = "its own" if s else "their own"
        return f"move{s} the output either way, so that no share of the effect of {scan.subject} is {own}: "
    if role in ("complete mediator", "mediator, in part"):
        return f"carr{'ies' if s else 'y'} {scan.subject}: "
    return f"mediate{s} {scan.subject} ({role}): "


def _how_much(scan: Scan, transfer: Estimates, restores: Estimates, judgement: Judgement, j: int) -> str:
    """How many outputs are moved, or what share of the effect; and of places that do not do all, what is undone."""
    sure = interval(transfer, j)
    if scan.binary:
        kept = scan.ybb < 1
        hits, n = int(scan.ybs[kept, j].sum()), int(kept.sum())
        how = f"moves {'all ' * (0 < hits == n)}{hits:,} of {n:,} outputs to the source's"
    else:
        how = f"brings {transfer.shown(j)} of the effect"
    undone = "" if judgement.role == "complete mediator" else f"; putting it back undoes {restores.shown(j)} of it"
    return f"{how} ({sure}){undone}"


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
    names = named([scan.labels[j] for j in columns], 3)
    return [f"Undetermined, for these pairs cannot tell: {names}."]


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
        if difference.low[j] > 0 or difference.high[j] < 0
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
