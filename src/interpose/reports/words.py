"""Small words for sentences: lists, counts, intervals, inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..statistics import Estimates

LONGEST = 600
"""Texts of inputs are cut after so many characters."""

NUMBERS = 12
"""Tensors of more numbers than this are told by their shape."""


def named(names: Sequence[str], most: int = 6) -> str:
    """Names as in a sentence: "a", "a and b", "a, b and c"; of many the first, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    *first, last = names or ("nothing",)
    return f"{', '.join(first)} and {last}" if first else last


def counted(n: int, what: str) -> str:
    """A number of things: "1 pair", "1,200 pairs"."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def interval(found: Estimates, column: int) -> str:
    """How sure an estimate is, in words: its interval, or why there is none."""
    match found.method[column]:
        case "constant":
            level, share = 100 * found.level, 100 * found.share[column]
            return f"the same in every pair, and so, at {level:.3g} %, in at least {share:.0f} % of all such pairs"
        case "exhaustive":
            return "exact: all pairs there are were run"
        case "one cluster" | "too few" | "undefined":
            return f"no interval: {found.reason[column]}"
    digits = found.digits(column)
    low, high = f"{found.low[column]:.{digits}f}", f"{found.high[column]:.{digits}f}"
    return f"{100 * found.level:.3g} % interval {low} to {high}"


def shown(example: Any) -> str:
    """One input as a line of text."""
    if isinstance(example, Mapping):
        text = ", ".join(f"{name}={shown(value)}" for name, value in example.items())
    elif isinstance(example, Tensor | np.ndarray):
        small = np.prod(np.shape(example)) <= NUMBERS
        text = shown(example.tolist()) if small else f"numbers of shape {tuple(example.shape)}"
    elif isinstance(example, list | tuple):
        text = f"[{', '.join(map(shown, example))}]"
    else:
        text = f"{example:.6g}" if isinstance(example, float | np.floating) else str(example)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def capital(text: str) -> str:
    """The same, with a capital first letter."""
    return text[:1].upper() + text[1:]
