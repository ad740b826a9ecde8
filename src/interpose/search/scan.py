"""Every place alone, exact: which of them mediate?"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from ..effects import BATCH, as_effects, check_pairs, check_question, grouped, listed
from ..errors import NoEffect, WrongPairs
from ..maps import Scan, Scans, with_warning
from ..measure import measured, measured_together
from ..metrics import Metric
from ..model import Model
from ..pairs import Pairs
from ..sites import EACH, Site


@overload
def scan(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    tol: float | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Scan: ...


@overload
def scan(
    model: Model[Any],
    pairs: Mapping[str, Pairs],
    places: Iterable[Any],
    metric: Metric,
    *,
    tol: float | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Scans: ...


def scan(
    model: Model[Any],
    pairs: Pairs | Mapping[str, Pairs],
    places: Iterable[Any],
    metric: Metric,
    *,
    tol: float | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Scan | Scans:
    """The effects of every place alone, as a map over the places' own axes.

    pairs: the pairs of one question, or a dict of them by name, {"A": pairs in which A varies, ...}: then the result is
    a dict of as many maps, and a store is a folder with a folder for each.
    The other arguments are those of `effects`. A site at position `EACH` becomes one site a position of the pairs.
    Warns NoEffect where all cells of a map are equal, as where a write is lost: no place was told from another.
    """
    several = dict(pairs) if isinstance(pairs, Mapping) else {"": pairs}
    if not several:
        raise WrongPairs("There are no pairs to measure: the dict of them is empty.")
    size = BATCH if batch_size is None else batch_size
    check_question(model, metric, size, store, key)
    for one in several.values():
        check_pairs(one, metric)
    spelled = [place if isinstance(place, list | tuple) else model.place(place) for place in listed(places)]
    groups = {name: grouped(model, _each_position(model, one, spelled, size)) for name, one in several.items()}
    at_once = None
    if len(several) > 1 and batch_size is None and store is None:
        at_once = measured_together(model, list(several.values()), next(iter(groups.values())), metric, tol=tol)
    found = {}
    for k, (name, one) in enumerate(several.items()):
        if at_once is not None:
            part = at_once[k]
        else:
            folder = store if store is None or not isinstance(pairs, Mapping) else Path(store) / name
            told: dict[str, Any] = {"progress": progress, "store": folder, "key": key}
            part = measured(model, one, groups[name], metric, tol=tol, batch_size=size, **told)
        found[name] = _told_apart(as_effects(model, one, groups[name], metric, tol, part, kind=Scan))
    return Scans(found) if isinstance(pairs, Mapping) else found[""]


def _told_apart(found: Scan) -> Scan:
    """The same scan, with a warning if no place was told from another."""
    if len(found.places) > 1 and np.ptp(found.nie, axis=1).max() <= found.tol >= np.ptp(found.tie, axis=1).max():
        said = (
            f"All {len(found.places)} cells of this scan are equal: NIE {found.nie.mean():.3g}, TIE "
            f"{found.tie.mean():.3g}. No place was told from another."
        )
        warnings.warn(said, NoEffect, stacklevel=3)
        return with_warning(found, said)
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
