"""Tables as widgets: sorted by a click, and kept as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..tables import Table, numeric
from .widgets import Widget

SHOWN = 20
"""How many rows are shown before a reader asks for all."""

LONG = 24
"""Columns with texts of more characters than this are given room."""

MOST = 1000
"""Of more rows than this a page keeps the first."""


def table_widget(table: Table, *, title: str | None = None, file: str = "table", shown: int = SHOWN) -> Widget:
    """A table that stands alone as markup; its notes are left to the section.

    title: what it shows, above it; the table's own title by default.
    file: what its CSV is called; shown: how many rows at first.
    """
    rows, left = table.rows[:MOST], len(table.rows) - MOST
    title = table.title if title is None else title
    said = f" The first {MOST:,} of {len(table.rows):,} rows." if left > 0 else ""
    still = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table>'
        f"<caption>{escape(title + said)}</caption>{_markup(table.columns, rows)}</table></div>"
    )
    return Widget("table", title, {"file": file, "shown": shown}, still)


def _markup(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    sides = [_side(column) for column in zip(*rows, strict=True)] or [""] * len(columns)
    head = "".join(f'<th scope="col"{side}>{escape(name)}</th>' for name, side in zip(columns, sides, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row"{side}>{escape(cell)}</th>' if k == 0 else f"<td{side}>{escape(cell)}</td>"
            for k, (cell, side) in enumerate(zip(row, sides, strict=True))
        )
        + "</tr>"
        for row in rows
    )
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _side(column: Sequence[str]) -> str:
    """Numbers stand at the right; long texts are given room."""
    if numeric(column):
        return ' class="number"'
    return ' class="long"' if max(map(len, column)) > LONG else ""
