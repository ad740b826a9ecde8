"""Places as cells of a map: its axes, and where on them each place stands.

A place that knows its coordinates carries them, each with a rank, so that a map never depends on the order of a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNS = {" ": "\N{OPEN BOX}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}
"""How blanks are written where there is nothing else."""

LONGEST = 12
"""Characters of a token that are written."""

Group = tuple[Any, ...]
"""Places that are written together; most often one."""


def axes_of(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The axes and their labels, from the places' own coordinates; a single axis "site" if they have none in common."""
    where = [_coordinates(group) for group in groups]
    names = [tuple(axis for axis, _, _ in parts) for parts in where]
    cells = {tuple(label for _, label, _ in parts) for parts in where}
    if not names or not names[0] or len(set(names)) > 1 or len(cells) < len(where):
        return {"site": [label_of(group) for group in groups]}
    ranks: dict[str, dict[Any, int]] = {axis: {} for axis in names[0]}
    for axis, label, rank in (part for parts in where for part in parts):
        ranks[axis][label] = rank
    return {axis: sorted(labels, key=labels.__getitem__) for axis, labels in ranks.items()}


def cells_of(groups: Sequence[Group], axes: dict[str, list[Any]]) -> tuple[NDArray[np.int_], ...]:
    """The index of each group on every axis."""
    if list(axes) == ["site"]:
        return (np.arange(len(groups)),)
    where = [{axis: label for axis, label, _ in _coordinates(group)} for group in groups]
    at = {axis: {label: i for i, label in enumerate(labels)} for axis, labels in axes.items()}
    return tuple(np.array([index[place[axis]] for place in where]) for axis, index in at.items())


def drawn_axes(axes: dict[str, list[Any]]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The axes to draw, and what is the same everywhere: of more than two, the last that have one label go."""
    drawn, same = dict(axes), {}
    for axis in reversed(axes):
        if len(drawn) > 2 and len(axes[axis]) == 1:
            (same[axis],) = drawn.pop(axis)
    return drawn, same


def label_of(group: Group) -> str:
    """What a group is called."""
    return " + ".join(map(str, group))


def axis_labels(axis: str, labels: Sequence[Any], tokens: Sequence[Sequence[str]] | None) -> list[str]:
    """What to write at an axis: at positions also the token, or the first two where pairs differ in it."""
    if axis != "position" or tokens is None:
        return [str(label) for label in labels]
    shown = []
    for position in labels:
        here = tokens_at(position, tokens)
        several = "/".join([*here[:2], *(["…"] if len(here) > 2 else [])])
        shown.append(f"{position} {several}".rstrip())
    return shown


def tokens_at(position: Any, tokens: Sequence[Sequence[str]] | None) -> list[str]:
    """The different tokens that stand at a position, as words; none where it is named, or not every prompt has it."""
    rows = tokens or ()
    if not isinstance(position, int | np.integer) or not all(-len(row) <= position < len(row) for row in rows):
        return []
    return [_visible(token) for token in dict.fromkeys(row[position] for row in rows)]


def _visible(token: str) -> str:
    """A token as a short word: blanks around it left out, blanks alone as signs, and the middle of a long one cut."""
    word = token.strip() or "".join(SIGNS.get(c, c) for c in token)
    word = "".join(SIGNS.get(c, c) for c in word)
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 4]}…{word[-3:]}"


def _coordinates(group: Group) -> tuple[tuple[str, Any, int], ...]:
    return getattr(group[0], "coordinates", ()) if len(group) == 1 else ()
