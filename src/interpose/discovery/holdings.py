"""What a layer holds: which of its sites matter alone, which only together, and which variable each group holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np
import torch

from ..sites import Site
from .grammar import Expression, Named, Words, named, variable
from .kernels import Kernel, count, kernel, key, refines, representatives, spread
from .reading import classes_at
from .responses import Group, Prober, Responses, values_of

VALUES, BEHIND = 64, 64
"""How many values of a site without effect, in how many inputs, are tried for what they change in later sites."""

MANY_PARTS = 4
"""More parts of one quantity than this are told as one."""

SOURCES = 128
"""From how many inputs a group is written, to see whether it carries everything."""

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
    cut: whether all sites of the layer together carry everything from the inputs to the output, so that nothing goes
    round it. distributed: the live sites of a layer in which no group below all of them holds a variable.
    """

    name: str
    held: tuple[Held, ...]
    silent: tuple[Site, ...]
    graded: tuple[Held, ...]
    cut: bool
    distributed: Group = ()


def layer_name(site: Site) -> str:
    """The layer that a site is in, by the module it is in or before."""
    return site.path + ("" if site.end == "output" else ":input")


@dataclass(frozen=True, eq=False)
class Search:
    """What a search in a layer has at hand.

    prober: runs of the network; atoms: the inputs and what was found before, as names; more: functions of the user's,
    to name with. words: the expressions over some of the atoms, by their texts, which are kept for the next search.
    """

    prober: Prober
    atoms: Sequence[Expression]
    more: Sequence[Callable[..., Any]] = ()
    words: dict[tuple[str, ...], Words] = field(default_factory=dict, repr=False)

    def held(self, layer: str, group: Group) -> Held | None:
        """What a group of sites holds, with its name; None where its rows are graded or all equal."""
        responses = self.prober.responses(group)
        if responses.classes is None or not responses.live:
            return None
        return self.described(layer, group, responses.classes)

    def described(
        self, layer: str, group: Group, classes: Kernel, *, hidden: bool = False, longest: float = inf
    ) -> Held:
        """A group of sites that hold these classes, with the inputs they depend on, and their name, not too long."""
        signature = depends_on(classes, self.prober.domain.columns())
        title = named(classes, self._over(signature), longest=longest)
        return Held(layer, group, self.prober.responses(group), classes, signature, title, hidden=hidden)

    def plain(self) -> Search:
        """The same, with no functions of the user's."""
        return Search(self.prober, self.atoms) if self.more else self

    def _over(self, signature: tuple[str, ...]) -> Words:
        """The expressions over what is made of some inputs."""
        usable = [atom for atom in self.atoms if atom.made_of <= set(signature)]
        texts = tuple(atom.text for atom in usable)
        return self.words.setdefault(texts, Words(usable, more=self.more))


def layer_of(name: str, sites: Sequence[Site], live: Sequence[Site], search: Search, after: Sequence[Site]) -> Layer:
    """What a layer holds.

    sites: all of its sites; live: those that may matter. after: sites of later layers, by which those are found that
    change them and no output.
    """
    prober = search.prober
    alone = {site: prober.responses((site,)) for site in live}
    matter = [site for site in live if alone[site].live]
    silent = tuple(site for site in live if not alone[site].live)
    cut = _carries(tuple(sites), prober)
    together: Group = ()
    if cut and silent and not _carries(tuple(matter), prober):
        together = _needed(tuple(matter), silent, prober)
    graded = tuple(
        Held(name, (site,), alone[site], np.zeros(len(prober.domain), np.int64), (), None)
        for site in matter
        if alone[site].graded
    )
    found = [search.held(name, (site,)) for site in matter]
    observers = [one for one in (prober.responses((site,)) for site in after) if one.live and not one.graded]
    hidden = {site: _behind(site, observers, prober) for site in silent} if observers else {}
    hidden = {site: held for site, held in hidden.items() if held is not None}
    found += [search.described(name, (site,), held, hidden=True) for site, held in hidden.items()]
    silent = tuple(site for site in silent if site not in hidden)
    together = tuple(site for site in together if site not in hidden)
    if together:
        found.append(search.held(name, together))
    groups = _grouped([one for one in found if one is not None], search)
    apart = [one for one in groups if one.all_apart]
    distributed: Group = ()
    if len(apart) > 1 and len(apart) == len(groups):
        distributed = tuple(site for one in apart for site in one.group)
        groups = []
    left = tuple(site for site in silent if site not in together)
    return Layer(name, tuple(groups), left, graded, cut, distributed)


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
    first = first[spread(len(first), VALUES)]
    bases = spread(len(prober.domain), BEHIND)
    held = prober.read([site])[site]
    chosen = torch.from_numpy(np.repeat(first, len(bases)))
    sites = [one.group[0] for one in observers]
    settings = prober.domain.settings[np.tile(bases, len(first))]
    _, read = prober.run(settings, read=sites, write={site: held[chosen]})
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


def _grouped(single: list[Held], search: Search) -> list[Held]:
    """Sites of one signature that hold one variable together, as far as two at a time can be joined under a short name.

    Two are joined where together they hold what both hold, under a name that is no longer than either's and no tuple:
    copies, pairs of a positive and a negative part, thermometers; not a maximum and a minimum.
    """
    found: list[Held] = []
    for several in _by(lambda one: one.signature, single):
        for alike in (_same_use, same_values, lambda one: None):
            several = [one for part in _by(alike, several) for one in _joined(part, search)]
        found += _named_as_one(_as_one(several, _same_use, search), search)
    return sorted(found, key=lambda one: min(single.index(s) for s in single if set(s.group) <= set(one.group)))


def parts_joined(several: Sequence[Held], prober: Prober) -> list[Held]:
    """Those that are written in one quantity as one, whatever it is that they hold together."""
    atoms = [variable(name, column) for name, column in prober.domain.columns().items()]
    return _as_one(several, same_values, Search(prober, atoms))


def _named_as_one(several: Sequence[Held], search: Search) -> list[Held]:
    """What is written in one quantity as one, where some has no name alone, or much has, and the whole has one."""
    found: list[Held] = []
    for parts in _by(same_values, several):
        whole = parts
        if len(parts) > MANY_PARTS or not all(one.is_named for one in parts):
            whole = _as_one(parts, same_values, search)
        found += whole if all(one.is_named for one in whole) else parts
    return found


def _as_one(several: Sequence[Held], of: Callable[[Held], Any], search: Search) -> list[Held]:
    """Those that are alike as one, whatever it is that they hold together: the whole is named by our own grammar."""
    found: list[Held] = []
    for parts in _by(of, several):
        group = tuple(site for one in parts for site in one.group)
        alone = len(parts) == 1 or any(_remembers(one) for one in parts)
        whole = None if alone else search.plain().held(parts[0].layer, group)
        members = {site: _said(one) for one in parts for site in one.group}
        found += parts if whole is None else [replace(whole, members=members)]
    return found


def _by(of: Callable[[Held], Any], several: Iterable[Held]) -> list[list[Held]]:
    """Groups of those that are alike, in the order in which they first occur."""
    groups: dict[Any, list[Held]] = {}
    for one in several:
        groups.setdefault(of(one), []).append(one)
    return list(groups.values())


def _remembers(one: Held) -> bool:
    """Whether a place is written in a number for every input: then together such places hold whatever is asked for."""
    return len(one.signature) > 1 and count(one.responses.number) == len(one.classes)


def _same_use(one: Held) -> bytes:
    """Equal for copies: those of one use, which together tell no less apart than alone."""
    return key(one.classes)


def same_values(one: Held) -> bytes:
    """Equal for what is written in one quantity, of whatever use."""
    return key(one.responses.number)


def _joined(several: list[Held], search: Search) -> list[Held]:
    """All of them as one, or two by two as far as that goes."""
    groups = list(several)
    if len(groups) > 2:
        whole = _together(groups, search)
        if whole is not None:
            return [whole]
    while 1 < len(groups) <= CROWD:
        best: tuple[float, int, int, Held] | None = None
        for i, j in itertools.combinations(range(len(groups)), 2):
            both = _together([groups[i], groups[j]], search)
            if both is not None and (best is None or both.size < best[0]):
                best = both.size, i, j, both
        if best is None:
            break
        _, i, j, both = best
        groups = [one for k, one in enumerate(groups) if k not in (i, j)] + [both]
    return groups


def _together(several: Sequence[Held], search: Search) -> Held | None:
    """The variable that several groups hold as one, or None where they hold several."""
    group = tuple(site for one in several for site in one.group)
    classes = search.prober.responses(group).classes
    if classes is None or not all(refines(classes, one.classes) for one in several):
        return None
    longest = min(one.size for one in several)
    both = search.described(several[0].layer, group, classes, longest=longest + 1)
    if both.name is None or not both.name.exact or not both.name.best.number or both.size > longest:
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
    sources = spread(len(prober.domain), SOURCES)
    held = prober.read(group)
    index = torch.from_numpy(sources)
    rows = prober.forced({site: held[site][index] for site in group}, len(sources))
    expected = np.repeat(prober.domain.outputs[sources], len(prober.bases), axis=0).reshape(len(sources), -1)
    return bool(np.abs(rows - expected).max(initial=0.0) <= prober.tol)


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
