"""Sections of what was measured pair by pair: effects and maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..grid import axes_of
from ..maps import Scan, Scans, as_scan
from ..results import Effects
from ..tables import Table
from . import origins
from .cells import map_widget, pair_texts
from .sections import Part, Section
from .sentences import of_scan, of_scans
from .tables import MOST, table_widget
from .words import counted, named

WORST = 50
"""How many of the pairs that went furthest astray are listed."""


def section_of_effects(found: Effects) -> Section:
    """The six effects at each place, and the runs of each pair."""
    scan = as_scan(found)
    table = Part("Six effects at each place", table_widget(found.table(), file="effects"))
    return Section(
        kind=f"Effects at {counted(len(found.places), 'place')}",
        title=f"What goes through {named(found.labels, 4)}?",
        model=found.model,
        asked=_asked([scan]),
        answer=tuple(of_scan(scan)),
        parts=(*_map([scan]), table, *_short_of(scan)),
        notes=_others([*found.notes(), *origins.limits(found)], of_scan(scan)),
        origin=origins.of_effects(found),
    )


def section_of_scan(scan: Scan) -> Section:
    """One map: what carries what, every place, and the pairs behind each."""
    return Section(
        kind=f"A scan of {counted(len(scan.places), 'place')}",
        title=f"What carries {scan.subject}?",
        model=scan.model,
        asked=_asked([scan]),
        answer=tuple(of_scan(scan)),
        parts=(*_map([scan]), *_tables(scan, "Every place"), *_short_of(scan)),
        notes=_others([*_of_table(scan), *origins.limits(scan)], of_scan(scan)),
        origin=origins.of_effects(scan),
    )


def section_of_scans(scans: Scans) -> Section:
    """Maps of the same places for several questions."""
    several = list(scans.values())
    subjects = list(dict.fromkeys(scan.subject for scan in several))
    tables = [part for name, scan in scans.items() for part in _tables(scan, f"Every place, for {name}")]
    short = [part for name, scan in scans.items() for part in _short_of(scan, name)]
    notes: dict[str, list[str]] = {}
    for name, scan in scans.items():
        for note in _others([*_of_table(scan), *origins.limits(scan)], of_scan(scan)):
            notes.setdefault(note, []).append(name)
    told = [origins.of_effects(scan) for scan in several]
    return Section(
        kind=f"{counted(len(scans), 'scan')} of {counted(len(several[0].places), 'place')}",
        title=f"What carries {named(subjects)}?",
        model=several[0].model,
        asked=_asked(several),
        answer=tuple(of_scans(scans)),
        parts=(*_map(several), *tables, *short),
        notes=tuple(note if len(names) == len(scans) else f"{named(names)}: {note}" for note, names in notes.items()),
        origin=_together(list(scans), told),
    )


# -- what was asked --------------------------------------------------------------------------------


def _asked(scans: Sequence[Scan]) -> tuple[str, ...]:
    """How it was asked, in sentences, with a pair as an example."""
    first = scans[0]
    sets = [f"{'all ' * one.pairs.exhaustive}{counted(len(one.pairs), 'pair')}{_which(one)}" for one in scans]
    one = f"Each of {counted(len(first.places), 'place')}" if len(first.places) > 1 else "One place"
    said = [
        f"{one} of {first.model} was given, in the run of the base, the value that it has in the run of the source, "
        f"and the other way round: in {named(sets)}."
    ]
    if first.binary:
        said.append(
            f"The metric, {first.metric}, says yes or no to an output. IIA (interchange intervention accuracy) is how "
            "often it says yes with the value from the source, of the pairs in which it says no to the untouched base."
        )
    else:
        said.append(
            f"The metric is {first.metric}. Recovery is the share of its change from base to source that the place "
            "brings by itself: 0 is nothing, 1 is all of it."
        )
    if len(first.pairs):
        (base, source), *_ = pair_texts(first, 1)
        said.append(f"The first pair: base {_quoted(base)}, source {_quoted(source)}.")
    return tuple(said)


def _which(scan: Scan) -> str:
    names = scan.pairs.varies
    return f" in which {named(names)} change{'s' * (len(names) == 1)}" if names else ""


def _quoted(text: str) -> str:
    return f"“{text}”"


# -- figures and tables ----------------------------------------------------------------------------


def _map(scans: Sequence[Scan]) -> tuple[Part, ...]:
    """The map, where the places have at most two axes; otherwise why there is none."""
    axes = axes_of(scans[0].places)
    if len(axes) > 2:
        said = f"There is none: a map has two axes, and these places have {named(list(axes))}."
        return (Part("The map", None, (said,)),)
    if not any(len(scan.pairs) for scan in scans):
        return ()
    said = "Violet is towards the source, orange away from it, no colour is nothing. Each cell opens its pairs."
    missing = [int(np.prod([len(labels) for labels in axes.values()])) - len(scan.places) for scan in scans]
    more = f" {counted(max(missing), 'cell')} of the map were not measured." if max(missing) else ""
    title = f"Map of {scans[0].quantity} for {named([scan.subject for scan in scans])}"
    return (Part("The map", map_widget(scans, title=title), (said + more,)),)


def _tables(scan: Scan, heading: str) -> list[Part]:
    table = scan.table(most=MOST)
    name = "-".join(("scan", *scan.pairs.varies))
    parts = [Part(heading, table_widget(table, title=f"What carries {scan.subject}, place by place", file=name))]
    if scan.confirmed is not None and scan.mediators():
        chosen = scan.mediators().table(most=MOST)
        parts.append(Part("Those that mediate", table_widget(chosen, file=f"{name}-mediators"), chosen.notes))
    return parts


def _short_of(scan: Scan, name: str = "") -> list[Part]:
    """The pairs that the strongest mediator does not carry to the source's output, the furthest first."""
    chosen = scan.mediators()
    if not chosen:
        return []
    failed = scan.failures(list(chosen[0]) if isinstance(chosen[0], tuple) else chosen[0])
    texts = pair_texts(scan, len(scan.pairs))
    failed.sort(key=lambda one: -abs(one["expected"] - one["observed"]))
    label = scan.labels[scan.column(chosen[0])]
    heading = f"Where {label} falls short" + (f" for {name}" if name else "")
    if not failed:
        said = f"Nowhere: {label} carries each of {counted(len(scan.pairs), 'pair')} to the source's output."
        return [Part(heading, None, (said,))]
    runs = ("untouched", "observed", "expected")
    rows = tuple(
        (str(one["pair"]), *texts[one["pair"]], *(f"{one[run]:.4g}" for run in runs)) for one in failed[:WORST]
    )
    columns = ("pair", "base", "source", "Ybb", "Ybs", "Yss")
    of = f"{len(failed):,} of {counted(len(scan.pairs), 'pair')} are not carried all the way, the furthest first"
    more = f" (the first {WORST})" if len(failed) > WORST else ""
    said = f"Ybs is the output with {label} from the source; where it is carried all the way, it is Yss."
    return [Part(heading, table_widget(Table(f"{of}{more}", columns, rows), file="short", shown=10), (said,))]


# -- notes and origin ------------------------------------------------------------------------------


def _of_table(scan: Scan) -> list[str]:
    """What the table of a scan says under its rows."""
    return list(scan.table(most=MOST).notes)


def _others(notes: Sequence[str], said: Sequence[str]) -> tuple[str, ...]:
    """The notes that the answer does not say already, each once."""
    return tuple(str(note) for note in dict.fromkeys(notes) if note not in said)


def _together(names: Sequence[str], told: Sequence[origins.Origin]) -> origins.Origin:
    """One list of what is known of several: once where it is the same for all."""
    terms = list(dict.fromkeys(term for one in told for term, _ in one))
    lines = []
    for term in terms:
        values = {
            name: "; ".join(value for key, value in one if key == term) for name, one in zip(names, told, strict=True)
        }
        distinct = list(dict.fromkeys(values.values()))
        text = distinct[0] if len(distinct) == 1 else "; ".join(f"{name}: {value}" for name, value in values.items())
        lines.append((term, text))
    return tuple(lines)
