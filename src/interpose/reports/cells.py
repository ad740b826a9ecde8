"""A map whose cells open: the four runs of every pair behind each, as data for the page's script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..grid import axes_of, cells_of
from ..inputs import examples
from ..maps import Scan
from ..results import Effects
from ..statistics import Floats
from .pictures import boxed, inline, raster
from .widgets import Widget
from .words import interval, shown

MOST_DRAWN = 2500
"""Maps of more cells than this are images: a page of as many shapes is slow."""

MOST_RUNS = 60_000
"""A map keeps about so many pairs of cells: of more, the first pairs of each cell."""

DIGITS = 6
"""To how many digits runs are kept."""


def map_widget(scans: Sequence[Scan], *, title: str) -> Widget:
    """Maps side by side; with the script, each cell opens its pairs below them. Raises ValueError for three axes."""
    first, *others = scans
    picture = first.heatmap(*others)
    if sum(len(scan.places) for scan in scans) > MOST_DRAWN:
        return Widget("picture", title, {}, boxed(raster(picture), picture.title))
    texts: dict[str, int] = {}
    maps = [_map(scan, texts, MOST_RUNS // sum(len(one.places) for one in scans)) for scan in scans]
    data = {"quantity": first.quantity, "maps": maps, "texts": list(texts)}
    return Widget("heatmap", title, data, boxed(inline(picture), picture.title))


def _map(scan: Scan, texts: dict[str, int], most: int) -> dict[str, Any]:
    n = min(len(scan.pairs), max(most, 5))
    transfer, restores, extent = scan.transfer(), scan.recovery("tie"), scan.extent()
    cells = []
    for j, (at, one) in enumerate(zip(_where(scan), scan.judgements(), strict=True)):
        cells.append(
            {
                "at": at,
                "place": scan.labels[j],
                "value": [transfer.shown(j), interval(transfer, j)],
                "restores": [restores.shown(j), interval(restores, j)],
                "verdict": one.verdict,
                "role": one.role,
                "extent": [int(count) for count in extent[:, j]],
                "why": str(one.certificate or ""),
                "ybs": rounded(scan.ybs[:n, j]),
                "ysb": rounded(scan.ysb[:n, j]),
            }
        )
    return {
        "subject": scan.subject,
        "metric": scan.metric,
        "pairs": [[_kept(texts, text) for text in pair] for pair in pair_texts(scan, n)],
        "of": len(scan.pairs),
        "ybb": rounded(scan.ybb[:n]),
        "yss": rounded(scan.yss[:n]),
        "cells": cells,
    }


def _where(scan: Scan) -> list[list[int]]:
    """The row and the column of each place on its map."""
    axes = axes_of(scan.places)
    cells = cells_of(scan.places, axes)
    rows = cells if len(axes) == 2 else (np.zeros(len(scan.places), int), *cells)
    return np.stack(rows, 1).tolist()


def pair_texts(found: Effects, most: int) -> list[tuple[str, str]]:
    """Base and source of each pair as text: tokens where the inputs are their numbers, otherwise the inputs."""
    pairs = found.pairs[:most]
    if pairs.tokens is not None and pairs.source_tokens is not None and not isinstance(pairs.base, list):
        base, source = (["".join(row) for row in side] for side in (pairs.tokens, pairs.source_tokens))
    else:
        base, source = ([shown(one) for one in examples(side)] for side in (pairs.base, pairs.source))
    return list(zip(base, source, strict=True))


def rounded(values: Floats) -> list[float | None]:
    """Numbers as JSON keeps them: to a few digits, and none for what is not finite."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values.tolist()]


def _kept(texts: dict[str, int], text: str) -> int:
    return texts.setdefault(text, len(texts))
