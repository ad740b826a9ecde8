"""Effects of many places as a map: which of them mediate?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from .errors import UnknownPlace, WrongMetric, WrongShape, suggest
from .grid import axes_of, axis_labels, cells_of, drawn_axes
from .judgement import EITHER
from .plots.heatmap import TALL, Panel, heatmap
from .plots.picture import Picture
from .quantities import Warned
from .results import Effects, dataset
from .statistics import ALPHA, LEVEL, P0, Floats, fcr_level, number
from .tables import Table, Tabled

MANY = 20
"""Among so many places the best look better than they are."""

MOST_MAPS = 12
"""How many maps of one scan stand beside each other."""


class Mediators(tuple[Any, ...]):
    """The places that mediate, the strongest first, with a table that allows for their having been chosen."""

    scan: Scan

    def __new__(cls, places: Sequence[Any], scan: Scan) -> Mediators:
        made = super().__new__(cls, places)
        made.scan = scan
        return made

    def table(self, *, most: int = 20) -> Table:
        """One row a place: what it carries, with an interval that is honest about the choice, p value and role.

        Measured on other pairs where the scan had some to confirm on. Otherwise intervals have the level at which at
        most 5 % of those of chosen places miss on average (Benjamini & Yekutieli 2005).
        """
        scan, confirmed = self.scan, self.scan.confirmed
        tested = scan.tests or len(scan.places)
        level = fcr_level(len(self), tested) if self and confirmed is None and not scan.pairs.exhaustive else LEVEL
        of = scan if confirmed is None else confirmed
        found, judgements = of.transfer(level=level), scan.judgements()
        rows = []
        for place in self[:most]:
            j, k = scan.column(place), of.column(place)
            rows.append((scan.labels[j], found.shown(k), found.text(k), _p(judgements[j].adjusted), judgements[j].role))
        columns = ("place", scan.quantity, f"{100 * level:.3g} % interval", "adjusted p", "role")
        title = f"What mediates {scan.subject}? {len(self)} of {tested} places"
        return Table(title, columns, tuple(rows), self._notes(most))

    def _notes(self, most: int) -> tuple[str, ...]:
        confirmed, either = self.scan.confirmed, sum(one.role == EITHER for one in self.scan.judgements())
        said = [f"{len(self) - most} more places are in .mediators()."] if len(self) > most else []
        if either:
            said.append(f"{either} of them move the output either way: no share of the effect is theirs.")
        if confirmed is not None:
            n, others = len(self.scan.pairs), len(confirmed.pairs)
            said.append(f"Chosen on {n} pairs, measured on {others} others that share no input.")
        elif not self.scan.pairs.exhaustive:
            said.append("Intervals allow for the choice: of those of chosen places at most 5 % miss on average.")
        return tuple(said)


@dataclass(frozen=True, eq=False, repr=False)
class Scan(Effects):
    """Effects of many places, as a map: which of them mediate?

    confirmed: the effects of those that do, on pairs that share no input with the scan's, where that was asked for.
    """

    confirmed: Effects | None = None

    def mediators(self, *, delta: float | None = None, p0: float = P0, alpha: float = ALPHA) -> Mediators:
        """The places whose verdict is "mediates", the strongest first; the thresholds are those of `judgements`."""
        order = np.argsort(-self._strength(), kind="stable")
        verdicts = self.verdicts(delta=delta, p0=p0, alpha=alpha)
        found = [
            self.places[j][0] if len(self.places[j]) == 1 else self.places[j]
            for j in order
            if verdicts[j] == "mediates"
        ]
        return Mediators(found, self)

    def table(self, *, most: int = 20) -> Table:
        """One row a place, the strongest first: what it carries, with its interval, and what may be said of it."""
        transfer, restores, extent, judgements = self.transfer(), self.recovery("tie"), self.extent(), self.judgements()
        order = np.argsort(-self._strength(), kind="stable")
        rows = tuple(
            (
                self.labels[j],
                transfer.shown(j),
                transfer.text(j),
                number(restores.estimate[j]),
                f"{extent[0, j]:.0f}/{extent[1, j]:.0f}/{extent[2, j]:.0f}",
                judgements[j].role,
            )
            for j in order[:most]
        )
        rest = [f"{len(order) - most} more places are in .data."] if len(order) > most else []
        columns = ("place", self.quantity, f"{100 * LEVEL:.0f} % interval", "restores", "full/part/none", "role")
        return Table(
            self._title(f"What carries {self.subject}?"), columns, rows, (*rest, *self._undecided(), *self.notes())
        )

    def heatmap(self, *others: Scan, effect: Literal["nie", "tie"] = "nie", top: float | None = None) -> Picture:
        """The map as a picture, the interval of every cell under the pointer; others beside it on one scale.

        effect: "nie" shows what each place carries into the base run, "tie" what is lost when it is put back in the
        source run. Violet is towards the source, orange away from it, white none; top: the value of full colour.
        Places on three axes give a map for each label of the last, such as layers by heads at a few positions.
        Raises WrongMetric for maps of different metrics, WrongShape for places on more axes or too many maps.
        """
        if effect not in ("nie", "tie"):
            raise UnknownPlace(f"A map shows 'nie' or 'tie', not {effect!r}.")
        for other in others:
            if (other.metric, other.quantity) != (self.metric, self.quantity):
                raise WrongMetric(
                    f"Maps of {self.metric} and of {other.metric} do not share one scale. Draw them apart."
                )
        quantity = self.quantity if effect == "nie" else "recovery of TIE"
        of = "pairs" if effect == "nie" and self.binary else "the total effect"
        panels = [panel for scan in (self, *others) for panel in scan._panels(effect, quantity)]
        return heatmap(panels, quantity=f"{quantity} (share of {of})", top=top)

    @property
    def quantity(self) -> str:
        """What a cell of the map shows."""
        return "IIA" if self.binary else "recovery"

    @property
    def subject(self) -> str:
        """What the pairs ask about."""
        return " and ".join(self.pairs.varies) or "the difference"

    def _title(self, what: str) -> str:
        return super()._title(what + " Metric:") if what.endswith("?") else super()._title(what)

    def _undecided(self) -> tuple[str, ...]:
        """What it would take to decide what is open; and what intervals of many places do not say."""
        said = []
        judgements = self.judgements()
        missing = [one.more for one in judgements if one.verdict == "undetermined" and not one.hits]
        if self.has_size and missing and np.isfinite(max(missing)):
            said.append(
                f"Undetermined: {max(missing):.0f} more pairs without an effect would show that it moves at most "
                f"{100 * P0:.0f} % of them."
            )
        chosen = sum(one.verdict == "mediates" for one in judgements)
        if 0 < chosen < len(self.places) and len(self.places) > MANY and not self.pairs.exhaustive:
            said.append(
                f"Intervals are of each place alone; .mediators().table() allows for the choice of {chosen} out of "
                f"{self.tests or len(self.places)}."
            )
        return tuple(said)

    def _strength(self) -> Floats:
        return np.nan_to_num(np.maximum(np.abs(self.transfer().estimate), np.abs(self.recovery("tie").estimate)))

    def _panels(self, effect: str, quantity: str) -> list[Panel]:
        """One map, or of places on three axes one for each label of the last."""
        axes, same = drawn_axes(axes_of(self.places))
        *_, last = axes
        if len(axes) > 3 or (len(axes) == 3 and len(axes[last]) > MOST_MAPS):
            raise WrongShape(
                f"A heatmap has two axes, and up to {MOST_MAPS} maps stand beside each other; this scan has "
                f"{', '.join(f'{len(labels)} on {axis}' for axis, labels in axes.items())}. Scan fewer, or draw a part "
                "of .data yourself."
            )
        cells = cells_of(self.places, axes)
        if len(axes) < 3:
            return [self._panel(effect, quantity, axes, cells, same, range(len(self.places)))]
        labels = axes.pop(last)
        of = [np.flatnonzero(cells[2] == k).tolist() for k in range(len(labels))]
        named = axis_labels(last, labels, self.pairs.tokens)
        return [
            self._panel(
                effect, quantity, axes, tuple(cell[chosen] for cell in cells[:2]), {**same, last: label}, chosen
            )
            for label, chosen in zip(named, of, strict=True)
        ]

    def _panel(
        self,
        effect: str,
        quantity: str,
        axes: Mapping[str, list[Any]],
        cells: Sequence[Any],
        same: Mapping[str, Any],
        chosen: Sequence[int],
    ) -> Panel:
        """The map of some places, whose cells these are; same: what all of them have in common."""
        rows, columns = ([""], *axes.values()) if len(axes) == 1 else tuple(axes.values())
        index = tuple(cells) if len(axes) == 2 else (np.zeros(len(chosen), int), *cells)
        shape = (len(rows), len(columns))
        carried = self.transfer() if effect == "nie" else self.recovery("tie")
        extent, judgements = self.extent(), self.judgements()
        values = np.full(shape, np.nan)
        values[index] = carried.estimate[chosen]
        undefined = np.zeros(shape, bool)
        undefined[index] = np.isnan(carried.estimate[chosen])
        labels = np.full(shape, "", dtype=object)
        hover = np.full(shape, "not measured", dtype=object)
        crowded, low = shape[0] * shape[1] > 60, shape[0] > TALL
        for j, cell in zip(chosen, zip(*index, strict=True), strict=True):
            value = number(carried.estimate[j])
            labels[cell] = "" if crowded else value if low else f"{self.labels[j]}\n{value}"
            hover[cell] = (
                f"{self.labels[j]}: {quantity} {carried.shown(j)}, {carried.text(j)}; {judgements[j].role}; "
                f"full {extent[0, j]:.0f}, part {extent[1, j]:.0f}, none {extent[2, j]:.0f} of "
                f"{extent[:, j].sum():.0f} pairs"
            )
        names = ["", *axes][-2:]
        return Panel(
            title=f"What carries {self.subject}?\n"
            + ", ".join([f"{self.metric}, {self.model}, {self._how_many()}", *(f"{a} {at}" for a, at in same.items())]),
            values=values,
            rows=[str(row) for row in rows],
            columns=axis_labels(names[1], columns, self.pairs.tokens),
            row_axis=names[0],
            column_axis=names[1],
            labels=labels.tolist(),
            hover=hover.tolist(),
            undefined=undefined,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Scans(Tabled, Mapping[str, Scan]):
    """Maps of the same places for several questions, by name: which places mediate A, which B?"""

    scans: Mapping[str, Scan]

    def __getitem__(self, name: str) -> Scan:
        if name not in self.scans:
            raise UnknownPlace(f"There is no scan {name!r}. {suggest(name, self.scans)}")
        return self.scans[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scans)

    def __len__(self) -> int:
        return len(self.scans)

    def mediators(
        self, *, delta: float | None = None, p0: float = P0, alpha: float = ALPHA
    ) -> dict[str, tuple[Any, ...]]:
        """For each name the places whose verdict is "mediates", the strongest first."""
        return {name: scan.mediators(delta=delta, p0=p0, alpha=alpha) for name, scan in self.items()}

    def heatmap(self, *, effect: Literal["nie", "tie"] = "nie", top: float | None = None) -> Picture:
        """The maps side by side on one scale, as `Scan.heatmap` draws them."""
        first, *others = self.values()
        return first.heatmap(*others, effect=effect, top=top)

    def table(self, *, most: int = 20) -> Table:
        """The tables of all the maps as one."""
        tables = {name: scan.table(most=most) for name, scan in self.items()}
        first = next(iter(self.values()))
        rows = tuple((name, *row) for name, table in tables.items() for row in table.rows)
        notes = tuple(f"{name}: {note}" for name, table in tables.items() for note in table.notes)
        columns = ("", *next(iter(tables.values())).columns)
        return Table(f"What carries {', '.join(self)}? Metric: {first.metric}, {first.model}", columns, rows, notes)

    @cached_property
    def data(self) -> Any:
        """All of the maps as one xarray `Dataset`, with a dim `variable` more; pairs that one has less of are NaN."""
        return dataset(list(self.values()), list(self))

    def to_frame(self) -> Any:
        """The per-pair values as a pandas DataFrame, one row a name, pair and cell."""
        return self.data.to_dataframe().reset_index()


def as_scan(effects: Effects) -> Scan:
    """The same effects, read as a map."""
    return Scan(**{name: getattr(effects, name) for name in Effects.__dataclass_fields__})


def with_warning(scan: Scan, warning: Warned) -> Scan:
    """The same scan, with one more thing to know."""
    return replace(scan, warnings=(*scan.warnings, warning))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
