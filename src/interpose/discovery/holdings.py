"""What a layer holds: which of its sites matter alone, which only together, and which variable each group holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..interventions import Set
from ..sites import Site
from .grammar import Expression, Named, named, variable
from .kernels import Kernel, count, kernel, key, refines, representatives
from .reading import classes_at, values_of
from .responses import Domain, Group, Prober, Responses

VALUES, BEHIND = 64, 64
"""How many values of a site without effect, in how many inputs, are tried for what they change in later sites."""

MANY_PARTS = 4
"""More parts of one quantity than this are told as one."""

CROWD = 10
"""In a layer with more live sites of one signature than this, sites are not tried together two by two."""


@dataclass(frozen=True, eq=False)
class Held:
    """A variable that a group of sites holds.

    responses: what the rest of the network makes of it; classes: the class of every input.
    signature: the input variables it depends on; name: what it is in the grammar, None where rows are graded.
    members: of a group, what each site holds alone. hidden: whether it changes no output alone, only what later sites
    hold: others stand in for it, or what it changes cancels.
    """

    layer: str
    group: Group
    responses: Responses
    classes: Kernel
    signature: tuple[str, ...]
    name: Named | None
    members: Mapping[Site, str] = field(default_factory=dict)
    hidden: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """What its sites are called."""
        return tuple(map(str, self.group))

    @property
    def is_named(self) -> bool:
        """Whether it has a name that says something: see `Expression.plain`."""
        return self.name is not None and self.name.exact and self.name.best.plain

    @property
    def size(self) -> float:
        """The length of its name; infinite without one."""
        return self.name.best.size if self.name is not None and self.name.exact else float("inf")

    @property
    def all_apart(self) -> bool:
        """Whether it tells all inputs apart, so that nothing was compressed."""
        return len(self.signature) > 1 and count(self.classes) == len(self.classes)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: what its sites hold, alone and in groups.

    held: the variables; silent: sites none of whose values makes a difference alone; graded: sites without classes.
    closed: whether the live sites together carry everything from the inputs to the output; cut: whether all sites of
    the layer do, so that nothing goes round it. together: silent sites that are needed to carry everything, though none
    of them matters alone. distributed: the live sites of a layer in which no group below all of them holds a variable.
    """

    name: str
    held: tuple[Held, ...]
    silent: tuple[Site, ...]
    graded: tuple[Held, ...]
    closed: bool
    cut: bool
    together: Group = ()
    distributed: Group = ()


def layer_of(
    name: str,
    sites: Sequence[Site],
    live: Sequence[Site],
    prober: Prober,
    atoms: Sequence[Expression],
    more: Sequence[Callable[..., Any]],
    after: Sequence[Site] = (),
) -> Layer:
    """What a layer holds.

    sites: all of its sites; live: those that may matter. atoms: the inputs and what was found before, as names.
    after: sites of later layers, by which those are found that change them and no output.
    """
    alone = {site: prober.responses((site,)) for site in live}
    matter = [site for site in live if alone[site].live]
    silent = tuple(site for site in live if not alone[site].live)
    cut = _carries(tuple(sites), prober)
    closed = bool(matter) and _carries(tuple(matter), prober)
    together: Group = ()
    if cut and not closed and silent:
        together = _needed(tuple(matter), silent, prober)
        closed = bool(together)
    graded = tuple(
        Held(name, (site,), alone[site], np.zeros(len(prober.domain), np.int64), (), None)
        for site in matter
        if alone[site].graded
    )
    single = [_held(name, (site,), prober, atoms, more) for site in matter if not alone[site].graded]
    observers = [one for one in (prober.responses((site,)) for site in after) if one.live and not one.graded]
    for site in silent:
        found = _behind(site, observers, prober) if observers else None
        if found is not None:
            signature = depends_on(found, prober.domain.columns())
            usable = [atom for atom in atoms if atom.made_of <= set(signature)]
            title = named(found, usable, more=more)
            single.append(Held(name, (site,), alone[site], found, signature, title, hidden=True))
    hidden = {site for one in single if one is not None and one.hidden for site in one.group}
    silent = tuple(site for site in silent if site not in hidden)
    together = tuple(site for site in together if site not in hidden)
    if together:
        single.append(_held(name, together, prober, atoms, more))
    groups = _grouped([one for one in single if one is not None], prober, atoms, more)
    apart = [one for one in groups if one.all_apart]
    distributed: Group = ()
    if len(apart) > 1 and len(apart) == len(groups):
        distributed = tuple(site for one in apart for site in one.group)
        groups = []
    left = tuple(site for site in silent if site not in together)
    return Layer(name, tuple(groups), left, graded, closed, cut, together, distributed)


def _held(
    layer: str,
    group: Group,
    prober: Prober,
    atoms: Sequence[Expression],
    more: Sequence[Callable[..., Any]],
) -> Held | None:
    """What a group of sites holds, with its name; None where its rows are graded or all equal."""
    responses = prober.responses(group)
    if responses.classes is None or not responses.live:
        return None
    signature = depends_on(responses.classes, prober.domain.columns())
    usable = [atom for atom in atoms if atom.made_of <= set(signature)]
    return Held(layer, group, responses, responses.classes, signature, named(responses.classes, usable, more=more))


def depends_on(classes: Kernel, columns: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables of which a change alone can change the class."""
    found = []
    for name in columns:
        others = np.stack(
            [np.unique(column, return_inverse=True)[1] for other, column in columns.items() if other != name]
            or [np.zeros(len(classes), int)]
        )
        _, line = np.unique(others, axis=1, return_inverse=True)
        line = line.reshape(-1)
        lowest, highest = np.full(line.max() + 1, len(classes)), np.full(line.max() + 1, -1)
        np.minimum.at(lowest, line, classes)
        np.maximum.at(highest, line, classes)
        if (lowest < highest).any():
            found.append(name)
    return tuple(found)


def _behind(site: Site, observers: Sequence[Responses], prober: Prober) -> Kernel | None:
    """What a site without effect on any output holds for later sites; None where it changes no class of theirs."""
    own = prober.responses((site,))
    first = representatives(own.number)
    first = first[np.unique(np.linspace(0, len(first) - 1, min(len(first), VALUES)).astype(int))]
    n = len(prober.domain)
    bases = np.unique(np.linspace(0, n - 1, min(n, BEHIND)).astype(int))
    held = prober.read([site])[site]
    chosen = torch.from_numpy(np.repeat(first, len(bases)))
    sites = [one.group[0] for one in observers]
    settings = prober.domain.settings[np.tile(bases, len(first))]
    _, read = prober.run(settings, read=sites, write={site: Set(held[chosen])})
    rows = []
    for one in observers:
        seen = values_of(read, one.group)
        assert one.classes is not None
        rows.append(classes_at(one, one.classes, seen, prober)[0].reshape(len(first), len(bases)))
    found = kernel(np.concatenate(rows, axis=1))
    if count(found) == 1:
        return None
    nearest = np.abs(own.values[:, :1] - own.values[first, 0]).argmin(1)
    return kernel(found[nearest])


# -- groups ----------------------------------------------------------------------------------------------


def _grouped(
    single: list[Held], prober: Prober, atoms: Sequence[Expression], more: Sequence[Callable[..., Any]]
) -> list[Held]:
    """Sites of one signature that hold one variable together, as far as two at a time can be joined under a short name.

    Two are joined where together they hold what both hold, under a name that is no longer than either's and no tuple:
    copies, pairs of a positive and a negative part, thermometers; not a maximum and a minimum.
    """
    groups = list(single)
    by_signature: dict[tuple[str, ...], list[Held]] = {}
    for one in groups:
        by_signature.setdefault(one.signature, []).append(one)
    found: list[Held] = []
    for several in by_signature.values():
        for alike in (_same_use, same_values, lambda one: b""):
            parts: dict[bytes, list[Held]] = {}
            for one in several:
                parts.setdefault(alike(one), []).append(one)
            several = [one for part in parts.values() for one in _joined(part, prober, atoms, more)]
        found += _named_as_one(_as_parts(several, prober, atoms), prober, atoms)
    return sorted(found, key=lambda one: min(single.index(s) for s in single if set(s.group) <= set(one.group)))


def parts_joined(several: Sequence[Held], prober: Prober, domain: Domain) -> list[Held]:
    """Those that are written in one quantity as one, whatever it is that they hold together."""
    atoms = [variable(name, column) for name, column in domain.columns().items()]
    return _as_one(several, same_values, prober, atoms)


def _as_parts(several: Sequence[Held], prober: Prober, atoms: Sequence[Expression]) -> list[Held]:
    """Those of one use that are no copies, since together they tell less apart than alone, as one: they are parts."""
    return _as_one(several, _same_use, prober, atoms)


def _named_as_one(several: list[Held], prober: Prober, atoms: Sequence[Expression]) -> list[Held]:
    """What is written in one quantity as one, where some has no name alone, or much has, and the whole has one."""
    found: list[Held] = []
    quantities: dict[bytes, list[Held]] = {}
    for one in several:
        quantities.setdefault(same_values(one), []).append(one)
    for parts in quantities.values():
        whole = parts
        if len(parts) > MANY_PARTS or not all(one.is_named for one in parts):
            whole = _as_one(parts, same_values, prober, atoms)
        found += whole if all(one.is_named for one in whole) else parts
    return found


def _as_one(
    several: Sequence[Held], of: Callable[[Held], Any], prober: Prober, atoms: Sequence[Expression]
) -> list[Held]:
    alike: dict[Any, list[Held]] = {}
    for one in several:
        alike.setdefault(of(one), []).append(one)
    found: list[Held] = []
    for parts in alike.values():
        group = tuple(site for one in parts for site in one.group)
        alone = len(parts) == 1 or any(_remembers(one) for one in parts)
        whole = None if alone else _held(parts[0].layer, group, prober, atoms, ())
        members = {site: _said(one) for one in parts for site in one.group}
        found += parts if whole is None else [replace(whole, members=members)]
    return found


def _remembers(one: Held) -> bool:
    """Whether a place is written in a number for every input: then together such places hold whatever is asked for."""
    return len(one.signature) > 1 and count(one.responses.number) == len(one.classes)


def _same_use(one: Held) -> bytes:
    """Equal for copies."""
    return key(one.classes)


def same_values(one: Held) -> bytes:
    """Equal for what is written in one quantity, of whatever use."""
    return key(one.responses.number)


def _joined(
    several: list[Held], prober: Prober, atoms: Sequence[Expression], more: Sequence[Callable[..., Any]]
) -> list[Held]:
    """All of them as one, or two by two as far as that goes."""
    groups = list(several)
    if len(groups) > 2:
        whole = _together(groups, prober, atoms, more)
        if whole is not None:
            return [whole]
    while 1 < len(groups) <= CROWD:
        best: tuple[float, int, int, Held] | None = None
        for i, j in itertools.combinations(range(len(groups)), 2):
            both = _together([groups[i], groups[j]], prober, atoms, more)
            if both is not None and (best is None or both.size < best[0]):
                best = both.size, i, j, both
        if best is None:
            break
        _, i, j, both = best
        groups = [one for k, one in enumerate(groups) if k not in (i, j)] + [both]
    return groups


def _together(
    several: Sequence[Held], prober: Prober, atoms: Sequence[Expression], more: Sequence[Callable[..., Any]]
) -> Held | None:
    """The variable that several groups hold as one, or None where they hold several."""
    group = tuple(site for one in several for site in one.group)
    both = _held(several[0].layer, group, prober, atoms, more)
    if both is None or both.name is None or not both.name.exact or not both.name.best.number:
        return None
    if both.size > min(one.size for one in several):
        return None
    if not all(refines(both.classes, one.classes) for one in several):
        return None
    members = {site: _said(one) for one in several for site in one.group}
    members |= {site: text for one in several for site, text in one.members.items()}
    return replace(both, members=members)


def _said(one: Held) -> str:
    return one.name.best.text if one.name is not None and one.name.exact else f"{count(one.classes)} classes"


# -- what carries everything --------------------------------------------------------------------------------


def _carries(group: Group, prober: Prober) -> bool:
    """Whether a group written from the source gives the source's output, in every base."""
    if not group:
        return False
    sources = _sources(prober)
    held = prober.read(group)
    index = torch.from_numpy(sources)
    rows = prober.forced({site: held[site][index] for site in group}, len(sources))
    expected = np.repeat(prober.domain.outputs[sources], len(prober.bases), axis=0).reshape(len(sources), -1)
    return bool(np.abs(rows - expected).max(initial=0.0) <= prober.tol)


def _sources(prober: Prober, most: int = 128) -> Any:
    """Some inputs to take values from, spread over the domain."""
    n = len(prober.domain)
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _needed(matter: Group, silent: Group, prober: Prober) -> Group:
    """A smallest set of silent sites without which the rest does not carry everything; () where there is none.

    Halves are left out while the rest still carries everything, then single sites (delta debugging, Zeller 1999).
    """
    kept = list(silent)
    if not _carries((*matter, *kept), prober):
        return ()
    step = len(kept) // 2
    while step >= 1:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + step :]
            if (rest or matter) and _carries((*matter, *rest), prober):
                kept = rest
            else:
                start += step
        step //= 2
    return tuple(kept)
