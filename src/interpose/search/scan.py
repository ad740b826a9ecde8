"""Every place alone, exact: which of them mediate?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ..effects import BATCH, check_question, effects, listed
from ..errors import NoEffect, WrongPairs
from ..maps import Scan, as_scan, with_warning
from ..metrics import Metric
from ..model import Model
from ..pairs import Pairs
from ..sites import EACH, Site


def scan(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    tol: float | None = None,
    batch_size: int = BATCH,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Scan:
    """The effects of every place alone, as a map over the places' own axes.

    The arguments are those of `effects`. A site at position `EACH` becomes one site a position of the pairs.
    Warns NoEffect where all cells of the map are equal, as where a write is lost: no place was told from another.
    """
    check_question(model, pairs, metric, store, key)
    spelled = [place if isinstance(place, list | tuple) else model.place(place) for place in listed(places)]
    found = as_scan(
        effects(
            model,
            pairs,
            _each_position(model, pairs, spelled, batch_size),
            metric,
            tol=tol,
            batch_size=batch_size,
            progress=progress,
            store=store,
            key=key,
        )
    )
    if len(found.places) > 1 and np.ptp(found.nie, axis=1).max() <= found.tol >= np.ptp(found.tie, axis=1).max():
        said = (
            f"All {len(found.places)} cells of this scan are equal: NIE {found.nie.mean():.3g}, TIE "
            f"{found.tie.mean():.3g}. No place was told from another."
        )
        warnings.warn(said, NoEffect, stacklevel=2)
        return with_warning(found, said)  # type: ignore[return-value]
    return found


def _each_position(model: Model[Any], pairs: Pairs, places: list[Any], batch_size: int) -> list[Any]:
    """The places, at positions that count from the beginning; a site at `EACH` becomes one a position.

    Positions that count from the end stay as they are where inputs differ in length.
    """
    spread = {place: place.everywhere() for place in places if isinstance(place, Site) and place.is_open}
    if not spread or not len(pairs):
        return places
    lengths: dict[Site, set[int]] = {site: set() for site in spread}
    with torch.no_grad():
        for inputs in (part for batch in pairs.batches(batch_size) for part in (batch.base, batch.source)):
            run = model.run(inputs, read=list(spread.values()))
            for site, whole in spread.items():
                lengths[site].add(site.length(run[whole]))
    for site, found in lengths.items():
        if len(found) > 1 and site.position == EACH:
            raise WrongPairs(
                f"{site} has {sorted(found)} positions in these pairs. One map needs one length: make one Pairs a "
                "length."
            )
    each = {site: site.positions(*found) if len(found) == 1 else [site] for site, found in lengths.items()}
    return [one for place in places for one in (each.get(place, [place]) if isinstance(place, Site) else [place])]
