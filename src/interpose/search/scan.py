"""Every place alone, exact: which of them mediate?"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from ..effects import BATCH, as_effects, check_pairs, check_question, grouped, listed, with_more
from ..errors import NoEffect, WrongPairs
from ..further import Measurement, check_more
from ..inputs import keys
from ..maps import Scan, Scans, with_warning
from ..measure import FOUR, Measured, measured_together
from ..metrics import Metric
from ..model import Model
from ..pairs import Pairs
from ..quantities import Warned
from ..sites import EACH, Site


@overload  # what follows takes named options; a checker is told of them once
def scan(  # type: ignore[inconsistent-overload]
    model: Model[Any], pairs: Pairs, places: Iterable[Any], metric: Metric, **options: Any
) -> Scan: ...


@overload
def scan(  # type: ignore[inconsistent-overload]
    model: Model[Any], pairs: Mapping[str, Pairs], places: Iterable[Any], metric: Metric, **options: Any
) -> Scans: ...


def scan(
    model: Model[Any],
    pairs: Pairs | Mapping[str, Pairs],
    places: Iterable[Any],
    metric: Metric,
    *,
    confirm: bool | Pairs | Mapping[str, Pairs] = False,
    pinned: Any = None,
    chance: int = 0,
    jointly: bool = False,
    seed: int = 0,
    tol: float | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Scan | Scans:
    """The effects of every place alone, as a map over the places' own axes.

    pairs: the pairs of one question, or a dict of them by name, {"A": pairs in which A varies, ...}: then the result is
    a dict of as many maps, and a store is a folder with a folder for each.
    confirm: True scans one half of the pairs, which shares no input with the other, and measures the places that
    mediate on the other; or other pairs to measure them on. `.mediators().table()` then tells of those.
    The other arguments are those of `effects`; seed is also that of the halves. A site at position `EACH` becomes one
    site a position of the pairs.
    Warns NoEffect where all cells of a map are equal, as where a write is lost: no place was told from another.
    """
    several = dict(pairs) if isinstance(pairs, Mapping) else {"": pairs}
    if not several:
        raise WrongPairs("There are no pairs to measure: the dict of them is empty.")
    size = BATCH if batch_size is None else batch_size
    check_question(model, metric, size, store, key)
    for one in several.values():
        check_pairs(one, metric)
    several, others = _parted(several, confirm, metric, seed)
    spelled = [place if isinstance(place, list | tuple) else model.place(place) for place in listed(places)]
    asked = {
        name: Measurement(
            model=model,
            pairs=one,
            groups=grouped(model, _each_position(model, [one, *_of(others, name)], spelled, size)),
            metric=metric,
            tol=tol,
            batch_size=size,
            progress=progress,
            store=store if store is None or not name else Path(store) / name,
            key=key,
        )
        for name, one in several.items()
    }
    _check_further(asked, others, pinned=pinned, chance=chance, jointly=jointly)
    runs = _runs(asked, together=batch_size is None and store is None)
    tests = sum(len(one.groups) for one in asked.values())
    found = {}
    for name, one in asked.items():
        plain = replace(as_effects(one, runs[name], kind=Scan), tests=tests)
        more = with_more(plain, one, pinned=pinned, chance=chance, jointly=jointly, seed=seed)
        found[name] = _told_apart(_confirmed(more, one, others[name]) if name in others else more)
    return Scans(found) if isinstance(pairs, Mapping) else found[""]


def _check_further(asked: Mapping[str, Measurement], others: Mapping[str, Pairs], **more: Any) -> None:
    """Raise for further runs that cannot be made, and for pairs to confirm on that do not fit the places."""
    for name, one in asked.items():
        check_more(one, **more)
        for other in _of(others, name):
            one.model.comparable(other.base, other.source, [place for group in one.groups for place in group])


def _runs(asked: Mapping[str, Measurement], *, together: bool) -> dict[str, Measured]:
    """The runs of every question, in one go where that is possible."""
    first, *more = asked.values()
    if together and more:
        found = measured_together(
            first.model, [one.pairs for one in asked.values()], first.groups, first.metric, tol=first.tol
        )
        if found is not None:
            return dict(zip(asked, found, strict=True))
    return {name: one.runs(FOUR, "") for name, one in asked.items()}


def _parted(
    several: dict[str, Pairs], confirm: bool | Pairs | Mapping[str, Pairs], metric: Metric, seed: int
) -> tuple[dict[str, Pairs], dict[str, Pairs]]:
    """The pairs to scan, and those to confirm on, by name."""
    if confirm is False:
        return several, {}
    if confirm is True:
        halves = {name: pairs.split(seed=seed) for name, pairs in several.items()}
        return {name: parts[0] for name, parts in halves.items()}, {name: parts[1] for name, parts in halves.items()}
    others = dict(confirm) if isinstance(confirm, Mapping) else {"": confirm}
    if others.keys() != several.keys():
        raise WrongPairs(
            "Pairs to confirm on come in the form of the pairs to scan: a Pairs for a Pairs, and a dict with the same "
            "names for a dict."
        )
    for name, pairs in others.items():
        check_pairs(pairs, metric)
        if shared := len(_inputs(pairs) & _inputs(several[name])):
            raise WrongPairs(
                f"{shared} inputs are among the pairs to scan and among those to confirm on, so that the latter could "
                "not tell chance from a finding. confirm=True splits pairs so that none is."
            )
    return several, others


def _inputs(pairs: Pairs) -> set[Any]:
    return {*keys(pairs.base), *keys(pairs.source)}


def _confirmed(found: Scan, asked: Measurement, pairs: Pairs) -> Scan:
    """The scan with its mediators measured on other pairs."""
    chosen = [tuple(place) if isinstance(place, list | tuple) else (place,) for place in found.mediators()]
    found = replace(found, part="discover")
    if not chosen:
        return found
    again = replace(
        asked, pairs=pairs, groups=chosen, store=None if asked.store is None else Path(asked.store) / "confirm"
    )
    return replace(found, confirmed=replace(as_effects(again, again.runs(FOUR, "")), part="confirm"))


def _told_apart(found: Scan) -> Scan:
    """The same scan, with a warning if no place was told from another."""
    if len(found.places) > 1 and np.ptp(found.nie, axis=1).max() <= found.tol >= np.ptp(found.tie, axis=1).max():
        said = (
            f"All {len(found.places)} cells of this scan are equal: NIE {found.nie.mean():.3g}, TIE "
            f"{found.tie.mean():.3g}. No place was told from another."
        )
        warnings.warn(said, NoEffect, stacklevel=3)
        return with_warning(found, Warned("all_cells_equal", said))
    return found


def _of(others: Mapping[str, Pairs], name: str) -> list[Pairs]:
    """The pairs to confirm on, where there are some."""
    return [others[name]] if name in others else []


def _each_position(model: Model[Any], several: list[Pairs], places: list[Any], batch_size: int) -> list[Any]:
    """The places, at positions that count from the beginning; a site at `EACH` becomes one a position.

    Positions that count from the end stay as they are where inputs differ in length, those to confirm on among them.
    """
    spread = {place: place.everywhere() for place in places if isinstance(place, Site) and place.is_open}
    if not spread or not len(several[0]):
        return places
    lengths: dict[Site, set[int]] = {site: set() for site in spread}
    with torch.no_grad():
        for inputs in itertools.chain(*(pairs.inputs(batch_size) for pairs in several)):
            run = model.run(inputs, read=list(spread.values()))
            for site, whole in spread.items():
                held = run[whole]  # a list where prompts of one batch differ in length
                lengths[site] |= {
                    site.length(row) for row in ([one[None] for one in held] if isinstance(held, list) else [held])
                }
    for site, found in lengths.items():
        if len(found) > 1 and site.position == EACH:
            raise WrongPairs(
                f"{site} has {sorted(found)} positions in these pairs. One map needs one length: name positions, as in "
                "positions=['{city}', -1], or make one Pairs a length."
            )
    each = {site: site.positions(*found) if len(found) == 1 else [site] for site, found in lengths.items()}
    return [one for place in places for one in (each.get(place, [place]) if isinstance(place, Site) else [place])]
