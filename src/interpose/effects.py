"""Interchange, and the effects that are contrasts of four runs; written once, for any model.

Ybb  base input, untouched        Ybs  base input,   with the source's value at the place
Yss  source input, untouched      Ysb  source input, with the base's value at the place
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from torch import nn

from .checks import model_name
from .errors import OverlappingWrites, WrongInput, WrongPairs
from .further import Measurement, check_more, two_together, with_other_sources, with_values
from .grid import Group
from .identity import check_identity
from .interventions import Set
from .measure import FOUR, Measured
from .metrics import Metric, is_binary, name_of, require, require_parts
from .model import Model, Run, is_site, meet, several
from .origin import Measurable
from .pairs import Pairs
from .quantities import Warned
from .results import Effects
from .store import check_folder

Found = TypeVar("Found", bound=Effects)
BATCH = 64
SMALL = 1e-3
"""Differences below this share of the usual total effect count as none, unless told otherwise."""


def interchange(model: Model[Any], base: Any, sources: Mapping[Any, Any]) -> Run[Any]:
    """Run the base with the values that places take in other runs.

    sources: place -> the source input, or place -> (source input, another place to take the value from).
    Each source is run once. Raises what `run` raises; the ledger of the returned run says what was written.
    Source: Geiger et al. 2021.

    >>> from interpose.tasks import adder
    >>> interchange(adder.network(), [1, 2, 3], {"h12": [4, 2, 3]}).output
    tensor(9.)
    """
    if not isinstance(sources, Mapping):
        raise WrongInput(f"sources says where each place's value comes from: {{'h12': source_input}}, not {sources!r}.")
    wanted: dict[Any, tuple[Any, Any]] = {}
    for spelling, source in sources.items():
        if (place := model.place(spelling)) in wanted:
            raise OverlappingWrites(f"{place} is given two sources. Take it from one of them.")
        given, donor = donor_of(source, spelling)
        wanted[place] = given, model.place(donor)
    runs: list[tuple[Any, Run[Any]]] = []
    for source, _ in wanted.values():
        if not any(source is known for known, _ in runs):
            places = [donor for other, donor in wanted.values() if other is source]
            runs.append((source, model.run(source, read=places)))
    writes = {
        place: Set(next(run for known, run in runs if known is source)[donor])
        for place, (source, donor) in wanted.items()
    }
    return model.run(base, read=list(writes), write=writes)


def effects(
    model: Model[Any],
    pairs: Pairs,
    places: Iterable[Any],
    metric: Metric,
    *,
    pinned: Any = None,
    chance: int = 0,
    jointly: bool = False,
    seed: int = 0,
    tol: float | None = None,
    batch_size: int = BATCH,
    progress: bool | None = None,
    store: str | os.PathLike[str] | None = None,
    key: str | None = None,
) -> Effects:
    """Total, natural direct and indirect effects of each place: four runs a pair, all of them kept.

    places: places or their spellings; a list or tuple of places is written together.
    metric: (output, pairs) -> [pair]. tol: what counts as no difference, in the metric's units; by default a thousandth
    of the median |TE|, where that is not zero, and never less than 10 x the noise floor.

    Three questions more, each for more runs. pinned: a value, or place -> value, at which places are held, for
    controlled direct effects. chance: in how many random orders the sources of other pairs are tried, for what chance
    gives; seed: of these orders. jointly: every two places also together, for what only both do.

    progress: a bar on stderr; None shows it in terminals and notebooks, after a second.
    store: a folder that keeps every finished batch; the same call goes on where it was stopped. key: a name for what
    cannot be told from another by looking at it, such as a lambda.

    Before the first pair is measured, the model is run twice and in other batches: NotRepeatable if that changes it.
    Stopped by Ctrl-C without a store, it returns the finished pairs with a warning, Interrupted.
    Raises WrongPairs for no pairs or lacking parts, UnknownPlace, WrongStore, and what `run` and the metric raise.
    Source: natural effects, Robins & Greenland 1992 and Pearl 2001; of neurons, Vig et al. 2020; controlled direct
    effects and the four-way decomposition, VanderWeele 2014.
    """
    check_question(model, metric, batch_size, store, key)
    check_pairs(pairs, metric)
    groups = grouped(model, listed(places))
    asked = Measurement(model, pairs, groups, metric, tol, batch_size, progress, store, key)
    check_more(asked, pinned=pinned, chance=chance, jointly=jointly)
    return with_more(
        as_effects(asked, asked.runs(FOUR, "")), asked, pinned=pinned, chance=chance, jointly=jointly, seed=seed
    )


def as_effects(asked: Measurement, found: Measured, *, kind: type[Found] = Effects) -> Found:  # type: ignore[assignment]
    """What was measured, as a result over its pairs, which are all of them or the first."""
    runs, noise = found.runs, max(found.noise, found.runs.work.noise)
    tol = asked.tol
    if tol is None:
        sizes = np.sort(np.abs(runs.yss - runs.ybb))
        tol = SMALL * float(sizes[(len(sizes) - 1) // 2 : len(sizes) // 2 + 1].mean() or sizes[-1] or 1.0)
    return kind(
        model=model_name(asked.model),
        metric=name_of(asked.metric),
        binary=is_binary(asked.metric),
        pairs=asked.pairs if len(runs) == len(asked.pairs) else asked.pairs[: len(runs)],
        places=tuple(asked.groups),
        ybb=runs.ybb,
        yss=runs.yss,
        ybs=runs.ybs,
        ysb=runs.ysb,
        response=runs.response,
        tol=max(tol, 10 * noise),
        noise=noise,
        warnings=tuple(Warned("interrupted", text) for text in found.said),
        work=found.checks + runs.work,
        unreachable=runs.unreachable,
        origin=Measurable(asked.model),
    )


def with_more(found: Found, asked: Measurement, *, pinned: Any, chance: int, jointly: bool, seed: int) -> Found:
    """The same result with the further runs that were asked for."""
    if len(found.pairs) < len(asked.pairs):
        return found  # it was interrupted
    if pinned is not None:
        held, said = with_values(asked, pinned)
        found = replace(found, pinned=held, warnings=(*found.warnings, *said))
    if chance:
        found = replace(found, shuffled=with_other_sources(asked, chance, seed))
    if jointly:
        together, runs = two_together(asked)
        joint = as_effects(replace(asked, groups=together), runs)
        found = replace(found, joint=joint)
    return found


# -- small things ----------------------------------------------------------------------------------


def check_question(model: Any, metric: Any, batch_size: int = BATCH, store: Any = None, key: str | None = None) -> None:
    """Raise WrongInput, WrongMetric or WrongStore for what is no model, no metric, no number of pairs, or nothing that
    a store could tell from another.
    """
    if not hasattr(model, "place"):
        wrap = f": Network({type(model).__name__}(...))" if isinstance(model, nn.Module) else ""
        raise WrongInput(f"{type(model).__name__} is no model. Give a Network or a CausalModel first{wrap}.")
    require(metric)
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise WrongInput(f"batch_size={batch_size}: pairs are run by whole numbers of them, at least one at a time.")
    check_folder(store, key)
    if store is not None:
        check_identity(model, metric, key)


def check_pairs(pairs: Any, metric: Any) -> None:
    """Raise WrongPairs for what is no pairs, for none of them, and where they lack what the metric needs."""
    if not isinstance(pairs, Pairs):
        raise WrongPairs(f"{type(pairs).__name__} is no Pairs. Make some: Pairs(base, source), or Pairs.varying(...).")
    require_parts(metric, pairs)
    if not len(pairs):
        raise WrongPairs("There are no pairs to measure: an effect of no pairs is not defined.")


def listed(places: Iterable[Any]) -> list[Any]:
    """Places as a list. Raises WrongInput for a single one, or for a dict, whose values would be ignored."""
    if isinstance(places, Mapping):
        raise WrongInput(
            "Effects interchange values between base and source, so places come without values. To write values of "
            "your own, call model.run(inputs, write={...})."
        )
    return several(places)


def donor_of(source: Any, place: Any) -> tuple[Any, Any]:
    """The source input, and the place to take a value from: the same one, or the one named beside the source."""
    renamed = isinstance(source, tuple) and len(source) == 2 and (isinstance(source[1], str) or is_site(source[1]))
    return source if renamed else (source, place)


def grouped(model: Model[Any], places: Iterable[Any]) -> list[Group]:
    """Places or lists of them as groups that are written together. Raises WrongInput where there are none."""
    groups = [_group(model, place) for place in places]
    if not groups:
        raise WrongInput("There are no places to measure. Give some, as in net.neurons('l1').")
    return groups


def _group(model: Model[Any], place: Any) -> Group:
    group = tuple(model.place(one) for one in place) if isinstance(place, list | tuple) else (model.place(place),)
    for one, other in itertools.combinations(group, 2):
        if meet(one, other):
            raise OverlappingWrites(
                f"{one} and {other} share units and cannot be written together. Leave one of them out."
            )
    return group
