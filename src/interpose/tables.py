"""A table that reads like a page: a title, columns, rows, and notes under it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import TextWrapper
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of text under column heads. It prints itself, and shows itself as a table in a notebook."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = [_aligned(column) for column in zip(self.columns, *self.rows, strict=True)]
        lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
        rule = "-" * max(map(len, lines))
        return "\n".join([self.title, "", lines[0], rule, *lines[1:], *([""] if self.notes else []), *self.notes])

    __repr__ = __str__

    def within(self, width: int) -> str:
        """The table in lines of so many characters: sentences are broken, and columns before the last left out.

        What is left out is said below. Two columns and the last one stay, however wide they are.
        """
        shown = list(range(len(self.columns)))
        while len(shown) > 3 and len(str(self._only(shown)).split("\n")[3]) > width:
            del shown[-2]
        left = [self.columns[j] for j in range(len(self.columns)) if j not in shown]
        notes = (*self.notes, *([f"Left out, for want of room: {', '.join(left)}."] if left else []))
        title, *lines = str(self._only(shown)).split("\n")
        fill = TextWrapper(width, break_long_words=False, break_on_hyphens=False).fill
        return "\n".join([fill(title), *lines, *([""] if notes else []), *map(fill, notes)])

    def _only(self, columns: Sequence[int]) -> Table:
        """Some of the columns, without notes."""
        rows = tuple(tuple(row[j] for j in columns) for row in self.rows)
        return Table(self.title, tuple(self.columns[j] for j in columns), rows)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>{body}</table>{notes}"

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame of text."""
        import pandas

        return pandas.DataFrame(list(self.rows), columns=list(self.columns))


class Tabled:
    """A result that prints itself, and shows itself in a notebook, as its table."""

    def table(self) -> Table:
        """What was found, as a table."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def some(labels: Sequence[str], most: int = 6) -> str:
    """The first few of many labels, and how many more there are."""
    return ", ".join(labels[:most]) + (f" and {len(labels) - most} more" if len(labels) > most else "")


def _aligned(column: Sequence[str]) -> list[str]:
    """The cells of a column, head first, as wide as the widest: numbers to the right, words to the left."""
    width = max(map(len, column))
    right = numeric(column[1:])
    return [cell.rjust(width) if right else cell.ljust(width) for cell in column]


def numeric(cells: Sequence[str]) -> bool:
    """Whether there are numbers in the cells of a column, and nothing else."""
    there = [cell for cell in cells if cell not in ("", "-")]
    return bool(there) and all(_is_number(cell) for cell in there)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
