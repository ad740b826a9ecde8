"""Effects of many places as a map: which of them mediate?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from .errors import UnknownPlace, WrongMetric, suggest
from .grid import axes_of, axis_labels, cells_of
from .plots.heatmap import Panel, heatmap
from .plots.picture import Picture
from .results import Effects, dataset
from .statistics import ALPHA, LEVEL, P0, Floats, number, pairs_to_exclude
from .tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class Scan(Effects):
    """Effects of many places, as a map: which of them mediate?"""

    def mediators(self, *, delta: float | None = None, p0: float = P0, alpha: float = ALPHA) -> tuple[Any, ...]:
        """The places whose verdict is "mediates", the strongest first; the thresholds are those of `verdicts`."""
        order = np.argsort(-self._strength(), kind="stable")
        verdicts = self.verdicts(delta=delta, p0=p0, alpha=alpha)
        return tuple(
            self.places[j][0] if len(self.places[j]) == 1 else self.places[j]
            for j in order
            if verdicts[j] == "mediates"
        )

    def table(self, *, most: int = 20) -> Table:
        """One row a place, the strongest first: what it carries, with its interval, and the verdict."""
        transfer, restores, extent, verdicts = self.transfer(), self.recovery("tie"), self.extent(), self.verdicts()
        order = np.argsort(-self._strength(), kind="stable")
        rows = tuple(
            (
                self.labels[j],
                transfer.shown(j),
                transfer.text(j),
                number(restores.estimate[j]),
                f"{extent[0, j]:.0f}/{extent[1, j]:.0f}/{extent[2, j]:.0f}",
                verdicts[j],
            )
            for j in order[:most]
        )
        rest = [f"{len(order) - most} more places are in .data."] if len(order) > most else []
        hits = self.hits()
        more = pairs_to_exclude(tests=len(self.places)) - len(hits)
        if (
            self._has_size
            and more > 0
            and any(v == "undetermined" and not hit for v, hit in zip(verdicts, hits.max(0), strict=True))
        ):
            rest.append(
                f"Undetermined: {more} more pairs without an effect would show that it moves at most "
                f"{100 * P0:.0f} % of them."
            )
        columns = ("place", self.quantity, f"{100 * LEVEL:.0f} % interval", "restores", "full/part/none", "verdict")
        return Table(self._title(f"What carries {self.subject}?"), columns, rows, (*rest, *self.notes()))

    def heatmap(self, *others: Scan, effect: Literal["nie", "tie"] = "nie", top: float | None = None) -> Picture:
        """The map as a picture, the interval of every cell under the pointer; others beside it on one scale.

        effect: "nie" shows what each place carries into the base run, "tie" what is lost when it is put back in the
        source run. Violet is towards the source, orange away from it, white none; top: the value of full colour.
        Raises WrongMetric for maps of different metrics.
        """
        if effect not in ("nie", "tie"):
            raise UnknownPlace(f"A map shows 'nie' or 'tie', not {effect!r}.")
        for other in others:
            if (other.metric, other.quantity) != (self.metric, self.quantity):
                raise WrongMetric(
                    f"Maps of {self.metric} and of {other.metric} do not share one scale. Draw them apart."
                )
        quantity = self.quantity if effect == "nie" else "recovery of TIE"
        return heatmap([scan._panel(effect, quantity) for scan in (self, *others)], quantity=quantity, top=top)

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

    def _strength(self) -> Floats:
        return np.nan_to_num(np.maximum(np.abs(self.transfer().estimate), np.abs(self.recovery("tie").estimate)))

    def _panel(self, effect: str, quantity: str) -> Panel:
        axes = axes_of(self.places)
        if len(axes) > 2:
            raise ValueError(
                f"A heatmap has two axes; this scan has {', '.join(axes)}. Pick a part with .data.sel(...)."
            )
        cells = cells_of(self.places, axes)
        rows, columns = ([""], *axes.values()) if len(axes) == 1 else tuple(axes.values())
        index = cells if len(axes) == 2 else (np.zeros(len(self.places), int), *cells)
        shape = (len(rows), len(columns))
        carried = self.transfer() if effect == "nie" else self.recovery("tie")
        extent, verdicts = self.extent(), self.verdicts()
        values = np.full(shape, np.nan)
        values[index] = carried.estimate
        undefined = np.zeros(shape, bool)
        undefined[index] = np.isnan(carried.estimate)
        labels = np.full(shape, "", dtype=object)
        hover = np.full(shape, "not measured", dtype=object)
        crowded = shape[0] * shape[1] > 60
        for j, cell in enumerate(zip(*index, strict=True)):
            labels[cell] = "" if crowded else f"{self.labels[j]}\n{number(carried.estimate[j])}"
            hover[cell] = (
                f"{self.labels[j]}: {quantity} {carried.shown(j)}, {carried.text(j)}; {verdicts[j]}; "
                f"full {extent[0, j]:.0f}, part {extent[1, j]:.0f}, none {extent[2, j]:.0f} of "
                f"{extent[:, j].sum():.0f} pairs"
            )
        names = ["", *axes][-2:]
        return Panel(
            title=f"What carries {self.subject}?\n{self.metric}, {self.model}, {self._how_many()}",
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
class Scans(Mapping[str, Scan]):
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

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def as_scan(effects: Effects) -> Scan:
    """The same effects, read as a map."""
    return Scan(**{name: getattr(effects, name) for name in Effects.__dataclass_fields__})


def with_warning(scan: Scan, warning: str) -> Scan:
    """The same scan, with one more thing to know."""
    return replace(scan, warnings=(*scan.warnings, warning))
