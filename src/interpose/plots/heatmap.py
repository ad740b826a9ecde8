"""Maps of numbers over two axes, violet where they are positive, on one scale that is centred at zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .picture import STYLE, Picture, new_figure, plain

VIOLET, ORANGE = "#A59FD9", "#E8A33D"

TALL = 12
"""Maps of more rows than this have low cells, in which there is room for one line."""


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


def heatmap(panels: Sequence[Panel], *, quantity: str, top: float | None = None) -> Picture:
    """Maps side by side on one scale from -top to top; white is zero, hatched not measured, dotted undefined.

    top: the value of full colour; by default the largest size in any panel, and at least 1.
    """
    import matplotlib

    measured = np.concatenate([np.abs(panel.values[np.isfinite(panel.values)]) for panel in panels])
    top = max(1.0, float(measured.max(initial=0.0))) if top is None else top
    lowest = min((float(np.nanmin(panel.values, initial=0.0)) for panel in panels), default=0.0)
    rows, columns = max(len(p.rows) for p in panels), max(len(p.columns) for p in panels)
    wide = 0.75 if rows <= TALL else 0.6
    tall = 0.75 if rows <= TALL else 0.26
    with matplotlib.rc_context(STYLE):
        figure = new_figure(len(panels) * (1.3 + wide * columns) + 0.9, 1.5 + tall * rows)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        figure.subplots_adjust(wspace=0.45 if len(panels) > 1 else 0.2)
        hover: dict[str, str] = {}
        for k, (panel, ax) in enumerate(zip(panels, axes, strict=True)):
            hover |= _draw(panel, ax, f"cell-{k}", top, small=rows > TALL)
        _scale(figure, list(axes), quantity, top, lowest)
        if legend := _legend(panels):
            figure.text(0.5, -0.08, legend, ha="center", fontsize=8, color="#666666")
    return Picture(figure, title="; ".join(panel.title for panel in panels), hover=hover)


def _legend(panels: Sequence[Panel]) -> str:
    """What the cells without a colour mean, of those there are."""
    empty = [np.isnan(panel.values) for panel in panels]
    dotted = [
        np.zeros_like(e) if panel.undefined is None else e & panel.undefined
        for panel, e in zip(panels, empty, strict=True)
    ]
    hatched = any((e & ~d).any() for e, d in zip(empty, dotted, strict=True))
    parts = ["hatched: no such cell was measured"] if hatched else []
    parts += ["dotted: undefined, no pair has what it is a share of"] if any(d.any() for d in dotted) else []
    return "; ".join(parts)


def colours() -> Any:
    """White at zero, violet above, orange below."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        "interpose", [(0, ORANGE), (0.5, "#FFFFFF"), (0.85, VIOLET), (1, "#8A80CC")]
    )


def _draw(panel: Panel, ax: Any, prefix: str, top: float, *, small: bool) -> dict[str, str]:
    from matplotlib.patches import Rectangle

    colour, hover = colours(), {}
    for i in range(len(panel.rows)):
        for j in range(len(panel.columns)):
            value, gid = panel.values[i, j], f"{prefix}-{i}-{j}"
            missing = not np.isfinite(value)
            hatch = "...." if panel.undefined is not None and panel.undefined[i, j] else "////"
            cell = Rectangle(
                (j, i),
                1,
                1,
                facecolor="#FFFFFF" if missing else colour(0.5 + value / (2 * top)),
                edgecolor="#BBBBBB" if missing else "#E4E2F2",
                linewidth=0.8,
                hatch=hatch if missing else None,
            )
            cell.set_gid(gid)
            ax.add_patch(cell)
            hover[gid] = panel.hover[i][j]
            if panel.labels[i][j] and not missing:
                ax.text(
                    j + 0.5, i + 0.5, plain(panel.labels[i][j]), ha="center", va="center", fontsize=8, color="#222222"
                )
    ax.set(xlim=(0, len(panel.columns)), ylim=(0, len(panel.rows)), xlabel=panel.column_axis, ylabel=panel.row_axis)
    ax.set_title(plain(panel.title), fontsize=9, pad=10)
    slanted = any(len(str(label)) > 4 for label in panel.columns)
    ax.set_xticks(
        np.arange(len(panel.columns)) + 0.5,
        [*map(plain, panel.columns)],
        rotation=45 if slanted else 0,
        ha="right" if slanted else "center",
    )
    ax.set_yticks(np.arange(len(panel.rows)) + 0.5, [*map(plain, panel.rows)])
    ax.tick_params(length=0, labelsize=7 if small else 9)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return hover


def _scale(figure: Any, axes: list[Any], quantity: str, top: float, lowest: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-top, top), colours())
    bar = figure.colorbar(scale, ax=axes, fraction=0.04, pad=0.03, label=quantity)
    bar.ax.set_ylim(min(0.0, lowest), top)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)
