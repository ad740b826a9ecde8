"""Maps of numbers over two axes, violet where they are positive, on one scale that is centred at zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .picture import STYLE, Picture, new_figure, plain

VIOLET, ORANGE = "#A59FD9", "#E8A33D"

TALL = 12
"""Maps of more rows than this have low cells, in which there is room for one line."""

WIDEST, TALLEST, PAGE = 10.0, 9.0, 16.0
"""Inches that the cells of a map take at most, across and up, and that maps side by side take together."""

NARROW = 0.2
"""Inches of a cell whose label can be read; maps that would have less side by side stand one below the other."""

DRAWN = 4000
"""So many cells are drawn one by one, with their records under the pointer; more are one image."""

FINEST = 500
"""Columns that can be told apart; of more, some stand together for the one of the largest size."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One map: values [row, column], NaN where there is none, with what to call each cell.

    labels: short words in a cell ("h12", or ""); hover: the whole record of a cell; undefined: where a cell was
    measured, and yet has no value (a share of nothing).
    """

    title: str
    values: NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]
    row_axis: str
    column_axis: str
    labels: Sequence[Sequence[str]]
    hover: Sequence[Sequence[str]]
    undefined: NDArray[np.bool_] | None = None

    @property
    def dotted(self) -> NDArray[np.bool_]:
        """[row, column]: where there is no value although it was measured."""
        empty = np.isnan(self.values)
        return np.zeros_like(empty) if self.undefined is None else empty & self.undefined


def heatmap(panels: Sequence[Panel], *, quantity: str, top: float | None = None) -> Picture:
    """Maps side by side, or one below the other where they are wide, on one scale from -top to top.

    White is zero, hatched not measured, dotted undefined; top: the value of full colour; by default the largest size in
    any panel, and at least 1.
    """
    import matplotlib

    title = "; ".join(panel.title for panel in panels)
    most = max(-(-len(panel.columns) // FINEST) for panel in panels)
    panels = [strongest(panel, most) for panel in panels] if most > 1 else panels
    measured = np.concatenate([np.abs(panel.values[np.isfinite(panel.values)]) for panel in panels])
    top = max(1.0, float(measured.max(initial=0.0))) if top is None else top
    lowest = min((float(np.nanmin(panel.values, initial=0.0)) for panel in panels), default=0.0)
    with matplotlib.rc_context(STYLE):
        figure, axes, small = _sheet(panels)
        hover: dict[str, str] = {}
        for k, (panel, ax) in enumerate(zip(panels, axes, strict=True)):
            hover |= _draw(panel, ax, f"cell-{k}", top)
        _scale(figure, axes, quantity, top, lowest)
        for panel, ax in zip(panels, axes, strict=True):
            _name(panel, ax, small=small)
        if said := [*_legend(panels), *_pooled(most, panels[0])]:
            _say("; ".join(said), axes)
    return Picture(figure, title=title, hover=hover)


def _sheet(panels: Sequence[Panel]) -> tuple[Any, list[Any], bool]:
    """A figure with axes for every panel, and whether their labels are small."""
    rows, columns = max(len(p.rows) for p in panels), max(len(p.columns) for p in panels)
    wide, tall = (0.75, 0.75) if rows <= TALL else (0.6, 0.26)
    tall = min(tall, TALLEST / rows)
    names = max(len(row) for panel in panels for row in panel.rows)
    margin = 1.3 + max(0.0, 0.085 * names - 0.5)
    titles = 0.085 * max(len(line) for panel in panels for line in panel.title.split("\n")) if panels[1:] else 0.0
    room = (PAGE - 0.9) / len(panels)
    fits = room >= max(margin + min(wide, NARROW) * columns, titles)
    narrow = min(wide, WIDEST / columns, (room - margin) / columns if fits else np.inf)
    wide, tall = narrow, tall if narrow == wide else min(tall, max(0.26, 1.3 * narrow))
    each = max(margin + wide * columns, titles)
    across = len(panels) if fits else max(1, int((PAGE - 0.9) / each))
    down = -(-len(panels) // across)
    figure = new_figure(across * each + 0.9, down * (1.5 + tall * rows))
    grid = [*figure.subplots(down, across, squeeze=False).flat]
    gap = 0.45 if margin == 1.3 else max(0.45, 1.2 * margin / (wide * columns))
    figure.subplots_adjust(wspace=gap if across > 1 else 0.2, hspace=min(1.0, 2.2 / (tall * rows)))
    for unused in grid[len(panels) :]:
        unused.remove()
    return figure, grid[: len(panels)], rows > TALL or wide < 0.4


def strongest(panel: Panel, most: int) -> Panel:
    """A map with fewer columns, each of which stands for so many neighbours: in every row for the one of largest size.

    Where one of them has no value the others stand for it.
    """
    starts = range(0, len(panel.columns), most)
    sizes = np.where(np.isnan(panel.values), -1.0, np.abs(panel.values))
    chosen = np.stack([start + sizes[:, start : start + most].argmax(1) for start in starts], 1)

    def of(cells: Sequence[Sequence[str]]) -> list[list[str]]:
        return [[row[j] for j in those] for row, those in zip(cells, chosen.tolist(), strict=True)]

    return replace(
        panel,
        values=np.take_along_axis(panel.values, chosen, 1),
        columns=[panel.columns[start] for start in starts],
        labels=of(panel.labels),
        hover=of(panel.hover),
        undefined=None if panel.undefined is None else np.take_along_axis(panel.undefined, chosen, 1),
    )


def thinned(count: int, each: float, need: float) -> list[int]:
    """Which of so many labels to write, if they are `each` apart and need so much room: the first, the last, and as
    many between them at equal distances as there is room for."""
    step = max(1, int(np.ceil(need / each - 1e-9)))
    kept = [*range(0, count - 1, step), count - 1] if count else []
    if len(kept) > 2 and kept[-1] - kept[-2] < step:
        del kept[-2]
    return kept


def _legend(panels: Sequence[Panel]) -> list[str]:
    """What the cells without a colour mean, of those there are."""
    hatched = any((np.isnan(panel.values) & ~panel.dotted).any() for panel in panels)
    parts = ["hatched: no such cell was measured"] if hatched else []
    return parts + ["dotted: undefined, no pair has what it is a share of"] * any(p.dotted.any() for p in panels)


def _pooled(most: int, panel: Panel) -> list[str]:
    return [f"each cell shows the strongest of {most} {panel.column_axis}s"] if most > 1 else []


def _say(text: str, axes: Sequence[Any]) -> None:
    """A line below the maps, wherever their labels end."""
    below = axes[-1].xaxis.label
    axes[-1].annotate(
        text,
        (0.5, 0.0),
        xycoords=below if len({ax.get_position().x0 for ax in axes}) == 1 else ("figure fraction", below),
        xytext=(0, -8),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        color="#666666",
    )


def colours() -> Any:
    """White at zero, violet above, orange below."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        "interpose", [(0, ORANGE), (0.5, "#FFFFFF"), (0.85, VIOLET), (1, "#8A80CC")]
    )


def _draw(panel: Panel, ax: Any, prefix: str, top: float) -> dict[str, str]:
    """The cells of a map, and what is said of each under the pointer, by its id."""
    from matplotlib.patches import Rectangle

    missing, colour, hover = ~np.isfinite(panel.values), colours(), {}
    ax.set(xlim=(0, len(panel.columns)), ylim=(0, len(panel.rows)))
    if panel.values.size > DRAWN:
        _draw_as_image(panel, ax, missing, top)
        return {}
    for (i, j), value in np.ndenumerate(panel.values):
        cell = Rectangle(
            (j, i),
            1,
            1,
            facecolor="#FFFFFF" if missing[i, j] else colour(0.5 + value / (2 * top)),
            edgecolor="#BBBBBB" if missing[i, j] else "#E4E2F2",
            linewidth=0.8,
            hatch=_hatch(panel, i, j) if missing[i, j] else None,
        )
        cell.set_gid(f"{prefix}-{i}-{j}")
        ax.add_patch(cell)
        hover[f"{prefix}-{i}-{j}"] = panel.hover[i][j]
    return hover


def _write(panel: Panel, ax: Any, wide: float, tall: float) -> None:
    """What there is room for in cells of so many inches: all of their labels, the last lines of all, or nothing."""
    for lines in (slice(None), slice(-1, None)):
        labels = [["\n".join(label.split("\n")[lines]) for label in row] for row in panel.labels]
        parts = [label.split("\n") for row in labels for label in row]
        if max(map(len, parts)) * 0.14 <= tall and max(len(line) for part in parts for line in part) * 0.061 <= wide:
            for (i, j), value in np.ndenumerate(panel.values):
                if labels[i][j] and np.isfinite(value):
                    ax.text(
                        j + 0.5, i + 0.5, plain(labels[i][j]), ha="center", va="center", fontsize=8, color="#222222"
                    )
            return


def _draw_as_image(panel: Panel, ax: Any, missing: NDArray[np.bool_], top: float) -> None:
    from matplotlib.patches import Rectangle

    ax.imshow(
        np.where(missing, 0.0, panel.values),
        cmap=colours(),
        vmin=-top,
        vmax=top,
        interpolation="nearest",
        aspect="auto",
        origin="lower",
        extent=(0, len(panel.columns), 0, len(panel.rows)),
    )
    for i, row in enumerate(missing):
        for hatch, start, stop in _runs((_hatch(panel, i, j) if empty else "") for j, empty in enumerate(row)):
            if hatch:
                ax.add_patch(Rectangle((start, i), stop - start, 1, fill=False, edgecolor="#BBBBBB", hatch=hatch))


def _runs(marks: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """Equal neighbours together: what they are, where they begin, and where they end."""
    at = 0
    for mark, those in groupby(marks):
        start, at = at, at + len(list(those))
        yield mark, start, at


def _hatch(panel: Panel, i: int, j: int) -> str:
    return "...." if panel.undefined is not None and panel.undefined[i, j] else "////"


def _name(panel: Panel, ax: Any, *, small: bool) -> None:
    """Title, axes, and as many of their labels as there is room for."""
    ax.set(xlabel=panel.column_axis, ylabel=panel.row_axis)
    ax.set_title(plain(panel.title), fontsize=9, pad=10)
    size, box = 7 if small else 9, ax.get_position()
    inches = ax.figure.get_size_inches() * (box.width, box.height)
    _write(panel, ax, inches[0] / len(panel.columns), inches[1] / len(panel.rows))
    longest = max(len(str(label)) for label in panel.columns)
    slanted, line = longest > 4, 1.25 * size / 72
    columns = thinned(
        len(panel.columns), inches[0] / len(panel.columns), 1.2 * line if slanted else (0.4 + 0.55 * longest) * line
    )
    rows = thinned(len(panel.rows), inches[1] / len(panel.rows), line)
    ax.set_xticks(
        np.array(columns) + 0.5,
        [plain(panel.columns[j]) for j in columns],
        rotation=45 if slanted else 0,
        rotation_mode="anchor" if slanted else "default",
        ha="right" if slanted else "center",
        va="top",
    )
    ax.set_yticks(np.array(rows) + 0.5, [plain(panel.rows[i]) for i in rows])
    ax.tick_params(length=0, labelsize=size)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _scale(figure: Any, axes: list[Any], quantity: str, top: float, lowest: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-top, top), colours())
    bar = figure.colorbar(scale, ax=axes, fraction=0.04, pad=0.03, label=quantity)
    bar.ax.set_ylim(min(0.0, lowest), top)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)
