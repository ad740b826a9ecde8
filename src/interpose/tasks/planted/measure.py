"""Making a key: every site and planted group is forced to every value, and what the rest of the network tells apart is
written down. What the maker of the network meant enters only as the groups that are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from .answer import Sites
from .key import Cell, Inert, LayerKey, Why
from .partitions import Kernel, size
from .plan import Group, Mixture
from .truth import Truth, distinct

MANY_SITES = 10
"""Smallest sets are looked for among up to so many sites that can stand in for each other."""


def layer_keys(
    truth: Truth, groups: Sequence[Sequence[Group]], mixtures: Mapping[int, Mixture]
) -> tuple[tuple[LayerKey, ...], tuple[str, ...]]:
    """The keys of all layers but the output, and reasons why they may be ambiguous.

    groups: for every layer, which units were meant to hold a variable together. mixtures: of rotated layers, by index.
    """
    layers: list[LayerKey] = []
    doubts: list[str] = []
    hidden: Sites = frozenset()
    for at in reversed(range(len(groups))):
        layer, doubtful = layer_key(truth, at + 1, groups[at], mixtures.get(at), hidden)
        hidden = frozenset(site for site, inert in layer.inert.items() if inert.why == "cancels downstream")
        layers.insert(0, layer)
        doubts = [*doubtful, *doubts]
    return tuple(layers), tuple(doubts)


def layer_key(
    truth: Truth, level: int, groups: Sequence[Group], mixture: Mixture | None, hidden: Sites
) -> tuple[LayerKey, list[str]]:
    """The key of one layer, counted from 1, and doubts about it. hidden: what cancels further on in the next layer."""
    name = truth.names[level - 1]
    cells: list[Cell] = []
    doubts: list[str] = []
    live: set[str] = set()
    distributed = False
    if mixture:
        block = truth.sites(level, mixture.units)
        live |= {site for site in block if truth.effect(frozenset({site})) > truth.resolution}
        distributed = is_distributed(truth, level, mixture, frozenset(live))
        if not distributed:
            doubts.append(f"{name} was rotated, and yet some of its neurons suffice")
    for group in groups:
        alive = living(truth, truth.sites(level, group.units))
        live |= alive
        if alive:
            cell, doubt = cell_of(truth, group.variable, alive)
            cells.append(cell)
            doubts += doubt
    pairs = [(cell, other) for cell in cells for other in cells if cell is not other and cell.whole and other.whole]
    loose = tuple((block, other.variable) for cell, other in pairs for block in movable(truth, cell, other))
    others = truth.sites(level) - live
    dead = truth.sites(level) - {site for group in groups for site in truth.sites(level, group.units)}
    strays = {site for site in dead - live if truth.effect(frozenset({site})) > truth.resolution}
    if strays:
        doubts.append(f"{sorted(strays)} were meant to be dead, and are not")
    if others and truth.effect(others) > truth.resolution:
        doubts.append(f"the inert sites of {name} do something together")
    short = truth.short_of_swap(frozenset(live)) if live else float(np.ptp(truth.output, 0).max())
    if short > truth.resolution:
        doubts.append(f"the live sites of {name} do not carry everything")
    inert = {site: inert_of(truth, site, hidden) for site in truth.in_order(others)}
    return LayerKey(name, tuple(cells), inert, frozenset(live), loose, distributed), doubts


def living(truth: Truth, group: Sites) -> Sites:
    """The sites of a group that matter: alone, or where all that are silent alone do something together."""
    silent = {site for site in group if truth.effect(frozenset({site})) <= truth.resolution}
    possible = frozenset(site for site in silent if truth.has_path(site))
    speaking = group - silent
    if possible and _apart(truth, speaking | possible, speaking) > truth.resolution:
        return speaking | possible
    return frozenset(speaking)


def _apart(truth: Truth, sites: Sites, others: Sites) -> float:
    return truth.differ(sites, others) if others else truth.effect(sites)


def cell_of(truth: Truth, variable: str, sites: Sites) -> tuple[Cell, list[str]]:
    """What a group of live sites holds, and doubts about that."""
    classes, within, between = truth.graded(sites, truth.resolution)
    doubts = []
    if within >= between / 2:
        doubts.append(f"the classes of {variable} are not apart: {within:.2g} within, {between:.2g} between")
    smallest, sure = minimal(truth, sites)
    if not sure:
        doubts.append(f"too many of the sites of {variable} can stand in for each other")
    whole = truth.is_one_variable(sites)
    values = truth.values(sites)
    encoder = {c: tuple(values[classes.index(c)].tolist()) for c in range(size(classes))}
    return Cell(sites, variable, classes, smallest, whole, encoder, margin(truth, sites)), doubts


def movable(truth: Truth, cell: Cell, other: Cell) -> list[Sites]:
    """Parts of one cell that could as well belong to another: both would hold one variable, and no more classes.

    A part is all sites of a cell that have one kernel alone.
    """
    blocks: dict[Kernel, set[str]] = {}
    for site in cell.sites:
        blocks.setdefault(truth.seen(frozenset({site})), set()).add(site)
    found = []
    for block in map(frozenset, blocks.values()):
        rest, more = cell.sites - block, other.sites | block
        if rest and truth.is_one_variable(rest) and truth.is_one_variable(more):
            classes = size(truth.seen(rest)) + size(truth.seen(more))
            if classes <= size(cell.classes) + size(other.classes):
                found.append(block)
    return found


def minimal(truth: Truth, sites: Sites) -> tuple[tuple[Sites, ...], bool]:
    """The smallest sets of these sites that do as well as all of them, and whether all of them were looked for."""
    if len(sites) == 1:
        return (sites,), True
    needed = frozenset(s for s in sites if _apart(truth, sites, sites - {s}) > truth.resolution)
    if needed and _apart(truth, sites, needed) <= truth.resolution:
        return (needed,), True
    spare = truth.in_order(sites - needed)
    if len(spare) > MANY_SITES:
        return (sites,), False
    found: list[Sites] = []
    for n in range(1, len(spare) + 1):
        for some in map(frozenset, combinations(spare, n)):
            enough = needed | some
            if not any(one <= enough for one in found) and _apart(truth, sites, enough) <= truth.resolution:
                found.append(enough)
    return tuple(found), True


def margin(truth: Truth, sites: Sites) -> float:
    """How far values of these sites may go beyond those that occur, before the ReLU after them bends one."""
    level, _ = truth.find(sites)
    least = float(truth.values(sites).min())
    return float("inf") if not truth.bends[level] else max(least, 0.0)


def inert_of(truth: Truth, site: str, hidden: Sites) -> Inert:
    """Why a site does nothing. hidden: sites of the next layer whose effects cancel."""
    level, unit = truth.places[site]
    values = truth.before[level][:, unit]
    responds = bool(np.ptp(values) > truth.grain)
    why: Why
    if truth.effect(frozenset({site})) > truth.tol:
        why = "only noise"
    elif not responds:
        why = "constant"
    elif not (truth.weights[level][:, unit] != 0).any():
        why = "unread"
    elif not truth.has_path(site):
        why = "zero path"
    else:
        why = "cancels downstream" if _moves_something(truth, site, hidden) else "no effect"
    return Inert(why, responds)


def _moves_something(truth: Truth, site: str, hidden: Sites) -> bool:
    """Whether a site feeds a living one of the next layer, or changes what one holds whose effects cancel."""
    level, _ = truth.places[site]
    if level + 1 == len(truth.weights):
        return False
    alone = frozenset({site})
    living_below = [one for one in truth.sites(level + 1) if truth.effect(frozenset({one})) > truth.resolution]
    if any(truth.feeds(alone, frozenset({one})) for one in living_below):
        return True
    values, _ = distinct(truth.values(alone), truth.coarse)
    moved = np.abs(truth.forced(alone, values, level + 1) - truth.before[level + 1]).max((0, 1))
    return any(moved[truth.places[one][1]] > truth.coarse for one in hidden)


def is_distributed(truth: Truth, level: int, mixture: Mixture, live: Sites) -> bool:
    """Whether no group of neurons below all the live ones of a rotated layer carries everything, or a variable."""
    quantities = [mixed_table(truth, level, mixture, j) for j in range(len(mixture.variables))]
    for n in range(1, len(live)):
        for some in map(frozenset, combinations(truth.in_order(live), n)):
            full = truth.table(some).full()
            if np.abs(full - truth.output[:, None]).max() <= truth.resolution:
                return False
            if any(np.abs(full - quantity).max() <= truth.resolution for quantity in quantities):
                return False
    return True


def mixed_table(truth: Truth, level: int, mixture: Mixture, quantity: int) -> np.ndarray:
    """The intervention table of one rotated quantity: [source, base, output]."""
    base = truth.before[level]
    direction = np.zeros(base.shape[1])
    direction[list(mixture.units)] = mixture.basis[:, quantity]
    along = base @ direction
    moved = base[None] + (along[:, None] - along[None])[..., None] * direction
    return truth.onward(level, moved)
