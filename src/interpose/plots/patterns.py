"""Patterns of attention as small multiples: a row is a query, a column a key, and the colour how much it is weighed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .picture import STYLE, Picture, new_figure, plain

DEEP = "#3B2F87"
CELL, LEAST = 0.28, 0.13
"""How wide a token is in inches, if there is room, and at least if it is named."""

ALONE, BESIDE, GAP = 8.4, 3.2, 0.42
"""How wide a panel is in inches at most, alone and beside others, and what is between two."""

LETTERS, WEIGHED = 12, 5
"""How many letters of a token are shown, and how many keys of a query under the pointer."""


def patterns(
    panels: Mapping[str, NDArray[np.float64]], queries: Sequence[str], keys: Sequence[str], *, title: str
) -> Picture:
    """Patterns [query, key] by what to call them, on one scale from 0 to 1; hatched is a weight of exactly 0.

    Where there is no room for the names of all tokens, every second one is named, or third, and so on, with its place.
    """
    import matplotlib

    across = min(len(panels), 4)
    down = ceil(len(panels) / across)
    most, (widest, least) = max(len(queries), len(keys)), (ALONE, 1.1) if len(panels) == 1 else (BESIDE, 0.9)
    cell = max(min(CELL, widest / most), least / most)
    rows, columns = ([_short(token) for token in tokens] for tokens in (queries, keys))
    margin, wide, tall = 0.5 + 0.07 * max(map(len, (*rows, *columns))), cell * len(keys), cell * len(queries)
    width, height = margin + across * (wide + GAP) + 0.5, margin + down * (tall + GAP) + 0.3
    scale = (min(0.0, *(float(x.min()) for x in panels.values())), max(1.0, *(float(x.max()) for x in panels.values())))
    hover: dict[str, str] = {}
    with matplotlib.rc_context({**STYLE, "hatch.linewidth": 0.5}):
        figure = new_figure(width, height)
        for k, (name, pattern) in enumerate(panels.items()):
            below, beside = down - 1 - k // across, k % across
            x, y = margin + beside * (wide + GAP), margin + below * (tall + GAP)
            ax = figure.add_axes((x / width, y / height, wide / width, tall / height))
            _draw(ax, pattern, scale)
            ax.set_title(plain(name), fontsize=9, pad=4)
            _name(ax, rows if not beside else [], columns if k + across >= len(panels) else [], cell)
            hover |= _under_the_pointer(ax, f"pattern-{k}", name, pattern, queries, keys)
        top, right = margin + down * tall + (down - 1) * GAP, margin + across * wide + (across - 1) * GAP
        _scale(figure, (right + 0.18) / width, top / height, min(tall, 2.2) / height, scale)
        figure.text(margin / width, (top + 0.32) / height, plain(title), fontsize=10)
        if any((pattern == 0).any() for pattern in panels.values()):
            note = "hatched: exactly 0, as where a mask hides the key"
            figure.text(margin / width, 0, note, fontsize=8, color="#666666")
    return Picture(figure, title=title, hover=hover)


def colours() -> Any:
    """White for no weight, deep violet for all of it."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weights", [(0, "#FFFFFF"), (0.45, "#A59FD9"), (1, DEEP)])


def _draw(ax: Any, pattern: NDArray[np.float64], scale: tuple[float, float]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    queries, keys = pattern.shape
    shown = np.ma.masked_where(pattern == 0, pattern)
    ax.imshow(
        shown, cmap=colours(), vmin=scale[0], vmax=scale[1], extent=(0, keys, queries, 0), interpolation="nearest"
    )
    hidden = [Path.unit_rectangle().transformed(_moved(*run)) for run in _runs(pattern == 0)]
    if hidden:
        patch = PathPatch(
            Path.make_compound_path(*hidden), facecolor="#FAFAFA", edgecolor="#CFCFCF", hatch="////", linewidth=0
        )
        ax.add_patch(patch)
    ax.set(xlim=(0, keys), ylim=(queries, 0))
    for spine in ax.spines.values():
        spine.set(color="#CCCCCC", linewidth=0.6)


def _moved(row: int, first: int, last: int) -> Any:
    from matplotlib.transforms import Affine2D

    return Affine2D().scale(last - first, 1).translate(first, row)


def _runs(hidden: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Row, first column and the column after the last, of neighbours in a row that are hidden."""
    found = []
    for row, line in enumerate(hidden):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        found += [(row, int(first), int(last)) for first, last in edges.reshape(-1, 2)]
    return found


def _name(ax: Any, rows: Sequence[str], columns: Sequence[str], cell: float) -> None:
    """Names of tokens on the axes: of all, or of every n-th with its place."""
    every = max(1, ceil(LEAST / cell))
    size = min(9.0, max(5.5, 60 * cell * every))
    for axis, names, turned in ((ax.yaxis, rows, 0), (ax.xaxis, columns, 90)):
        at = list(range(0, len(names), every))
        labels = [plain(names[t] if every == 1 else f"{names[t]} {t}") for t in at]
        axis.set_ticks([t + 0.5 for t in at], labels, rotation=turned, fontsize=size)
    ax.tick_params(length=0, pad=2)


def _under_the_pointer(
    ax: Any, prefix: str, name: str, pattern: NDArray[np.float64], queries: Sequence[str], keys: Sequence[str]
) -> dict[str, str]:
    """What a query weighs most, on a strip of its own."""
    from matplotlib.patches import Rectangle

    hover = {}
    for q, weights in enumerate(pattern):
        strip = Rectangle((0, q), len(weights), 1, facecolor="#FFFFFF", edgecolor="none", alpha=0)
        strip.set_gid(f"{prefix}-{q}")
        ax.add_patch(strip)
        order = [int(k) for k in np.argsort(-weights, kind="stable")[:WEIGHED] if weights[k] != 0]
        said = ", ".join(f"{keys[k]!r} at {k}: {weights[k]:.2f}" for k in order)
        hover[f"{prefix}-{q}"] = f"{name}: {queries[q]!r} at {q} weighs {said or 'nothing'}"
    return hover


def _scale(figure: Any, left: float, top: float, tall: float, scale: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    place = figure.add_axes((left, top - tall, 0.12 / figure.get_figwidth(), tall))
    bar = figure.colorbar(ScalarMappable(Normalize(*scale), colours()), cax=place)
    bar.set_label("weight", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)


def _short(token: str) -> str:
    """A token as a label: without spaces around it, what cannot be printed by its number, and not too long."""
    shown = token.strip(" ") or "\N{OPEN BOX}" * len(token)
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
    return shown if len(shown) <= LETTERS else shown[: LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
