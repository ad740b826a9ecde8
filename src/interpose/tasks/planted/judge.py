"""What in an answer is true, statement by statement, and whether its layers are those of the key.

Every statement about sites is held against their own intervention table, whether or not the key has the same groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from ...errors import UnknownPlace
from .answer import OUTPUT, Answer, Claim, Sites
from .key import Cell, Key, LayerKey
from .partitions import Kernel, is_trivial, joined, kernel, refines, size
from .truth import distinct
from .wiring import Edge, back, links, wired

SURE = ("exact", "verified")


def contradictions(answer: Answer, key: Key) -> list[str]:
    """Everything that the answer calls exact or verified and that is false."""
    found = [text for claim in answer.claims if claim.label in SURE for text in _false_claim(claim, key)]
    labels = {claim.sites: claim.label for claim in answer.claims}
    whole = answer.verdict in SURE
    for parent, child in sorted(answer.edges, key=str):
        sure = labels.get(child, answer.verdict) in SURE
        if sure and not is_edge(key, answer, parent, child):
            found.append(f"{_text(parent)} does not feed {_text(child)}")
    if whole:
        found += [f"{_text(parent)} feeds {_text(child)}, which is left out" for parent, child in left_out(answer, key)]
        if key.verdicts[0] == "approximate":
            found.append(f"the verdict {answer.verdict!r}, where only an approximation holds")
        if key.control and any(claim.classes and not is_trivial(kernel(claim.classes)) for claim in answer.claims):
            found.append(f"the verdict {answer.verdict!r} on an abstraction of a network in which none was planted")
    return found


def _false_claim(claim: Claim, key: Key) -> Iterator[str]:
    try:
        level, _ = key.truth.find(claim.sites)
    except UnknownPlace as reason:
        yield f"{_text(claim.sites)} is no group of sites: {reason}"
        return
    if claim.classes is None:
        return
    classes, truth = kernel(claim.classes), key.truth.kernel(claim.sites)
    dead = key.inert.keys() - key.cancelling
    if claim.sites <= key.cancelling:
        held = kernel(distinct(key.truth.values(claim.sites), key.truth.coarse)[1].tolist())
        if not refines(held, classes):
            yield f"{_text(claim.sites)} does not even tell apart what it is said to hold"
        return
    if classes != truth:
        yield f"{_text(claim.sites)} has {size(truth)} classes, other than the {size(classes)} claimed"
    elif inert := [site for site in key.truth.in_order(claim.sites) if site in dead and size(classes) > 1]:
        yield f"{_text(inert)} is inert, and yet said to hold {claim.name or 'something'}"
    layer = next((one for one in key.layers if one.name == key.truth.names[level - 1]), None)
    named = claim.name is not None and not is_trivial(classes)
    if named and layer and layer.distributed and claim.sites != layer.live:
        yield f"{_text(claim.sites)} is named {claim.name}, where no neuron holds a variable"
    if named and key.control:
        yield f"{_text(claim.sites)} is named {claim.name}, where nothing was planted"


def false_inert(answer: Answer, key: Key) -> list[str]:
    """Sites that are called inert and are not.

    One whose effects cancel further on may be said not to mediate, but not be certified.
    """
    said = {site for site, grade in answer.inert.items() if grade != "undetermined"}
    alive = key.live | key.noisy
    certified = {site for site, grade in answer.inert.items() if grade == "certified"}
    return sorted((said & alive) | (certified & key.cancelling))


# -- edges ---------------------------------------------------------------------------------------------


def is_edge(key: Key, answer: Answer, parent: Sites, child: Sites) -> bool:
    """Whether a group feeds another: itself, or what carries its variable on to the layer before the other.

    Across a distributed layer, any dependence counts.
    """
    truth = key.truth
    try:
        first, last = truth.find(parent)[0], truth.find(child)[0]
    except UnknownPlace:
        return False
    if first >= last:
        return False
    between = [layer for layer in key.layers if first < truth.names.index(layer.name) + 1 < last]
    if not between or any(layer.distributed for layer in between):
        return truth.feeds(parent, child)
    carriers = {parent}
    for layer in between:
        nodes = {*_sites(answer, layer), *(cell.sites for cell in layer.cells)}
        carriers = {node for node in nodes for carrier in carriers if truth.feeds(carrier, node)}
    return any(truth.feeds(carrier, child) for carrier in carriers)


def _sites(answer: Answer, layer: LayerKey) -> list[Sites]:
    return [claim.sites for claim in answer.layers.get(layer.name, ()) if claim.label != "none"]


def missing(answer: Answer, key: Key) -> list[Edge]:
    """Edges that an answer with these claims should state, and does not.

    An edge may start wherever its variable is stored before, and none is needed to what only carries it on. Edges from
    inputs count where the answer states any; cancelling sites and distributed layers need none.
    """
    inputs = [frozenset({name}) for name in key.inputs]
    wanted = wired(key.truth, [inputs, *(_needing_edges(answer, layer, key) for layer in key.layers)])
    carried = links(key.truth, wanted)
    told = any(parent in inputs for parent, _ in answer.edges)
    return sorted(
        (
            (parent, child)
            for parent, child in wanted
            if child not in carried
            and (told or parent not in inputs)
            and not any((start, child) in answer.edges for start in back(parent, carried))
        ),
        key=str,
    )


def _needing_edges(answer: Answer, layer: LayerKey, key: Key) -> list[Sites]:
    there = key.truth.sites(key.truth.names.index(layer.name) + 1)
    if layer.distributed:
        return []
    return [sites for sites in _sites(answer, layer) if sites <= there and not sites <= key.cancelling]


def left_out(answer: Answer, key: Key) -> list[Edge]:
    """Edges into groups for which the answer gives other parents, and not this one."""
    told = {child for _, child in answer.edges}
    return [edge for edge in missing(answer, key) if edge[1] in told]


def edges_f1(answer: Answer, key: Key) -> float:
    """The harmonic mean of the share of stated edges that are true, and of true ones that are stated."""
    true = sum(is_edge(key, answer, *edge) for edge in answer.edges)
    wanting = len(missing(answer, key))
    return 2 * true / (true + len(answer.edges) + wanting) if answer.edges or wanting else 1.0


# -- layers --------------------------------------------------------------------------------------------


def is_recovered(answer: Answer, key: Key) -> bool:
    """Whether groups, kernels, inert sites and wiring are the key's, up to what the key lists as equivalent.

    Equivalent are: the smallest sets of a group's sites and all of them; the parts of a gadget, in any grouping, and
    the gadget; variables of one layer that depend on each other, apart and together; loose parts in either cell; an
    edge from any of the layers that only carry a variable on; cancelling sites, and those that only hand on noise,
    explained or not.
    """
    if answer.verdict not in key.verdicts or false_inert(answer, key) or contradictions(answer, key):
        return False
    if key.control:
        return True
    label = ("approximate",) if key.verdicts[0] == "approximate" else SURE
    said = {site for site, grade in answer.inert.items() if grade != "undetermined"}
    if said - key.cancelling - key.noisy != key.inert.keys() - key.cancelling - key.noisy:
        return False
    if not all(_layer_is_right(answer.layers.get(layer.name, ()), layer, key, label) for layer in key.layers):
        return False
    return not missing(answer, key) and all(is_edge(key, answer, *edge) for edge in answer.edges)


def _layer_is_right(claims: Iterable[Claim], layer: LayerKey, key: Key, labels: Sequence[str]) -> bool:
    claims = [claim for claim in claims if not claim.sites <= key.cancelling]
    if layer.distributed:
        return all(claim.sites == layer.live or claim.label == "none" for claim in claims)
    for claim in claims:
        if claim.label not in labels or claim.classes is None or not claim.sites <= layer.live:
            return False
        if kernel(claim.classes) != key.truth.seen(claim.sites):
            return False
    groups = [claim.sites for claim in claims]
    if sum(map(len, groups)) != len(frozenset().union(*groups)):
        return False
    return (
        all(_cell_is_found(cell, groups) for cell in layer.cells)
        and all(_may_be_one(group, layer, key) for group in groups)
    ) or (bool(layer.loose) and _is_regrouped(groups, layer, key))


def _cell_is_found(cell: Cell, groups: Sequence[Sites]) -> bool:
    """Whether one group has all that is needed of a cell or, of a gadget, some groups have all of it between them."""
    shares = [group & cell.sites for group in groups if group & cell.sites]
    return shares in [[enough] for enough in (cell.sites, *cell.minimal)] or (
        not cell.whole and cell.sites == frozenset().union(*shares)
    )


def _may_be_one(group: Sites, layer: LayerKey, key: Key) -> bool:
    """Whether a group is of one cell, or of parts of several that depend on each other and that it tells apart."""
    parts = [cell.sites & group for cell in layer.cells if cell.sites & group]
    if len(parts) == 1:
        return True
    together = key.truth.seen(group)
    apart = [_tells(part, key) for part in parts]
    return (
        key.truth.is_one_variable(group)
        and all(refines(together, one) for one in apart)
        and size(together) < prod(map(size, apart))
    )


def _tells(part: Sites, key: Key) -> Kernel:
    """What a part of a cell tells apart or, if it cancels, what its sites do."""
    together = key.truth.seen(part)
    return together if size(together) > 1 else joined(*(key.truth.seen(frozenset({site})) for site in part))


def _is_regrouped(groups: Sequence[Sites], layer: LayerKey, key: Key) -> bool:
    """Whether the groups are cells whose loose parts belong to other cells, with no more classes than the key's."""
    loose = [part for part, _ in layer.loose]
    whole = [cell for cell in layer.cells if cell.whole]
    cores = [cell.sites - frozenset().union(*loose) for cell in whole]
    kept = all(any(part <= group for group in groups) for part in (*cores, *loose))
    gadgets = [cell for cell in layer.cells if not cell.whole]
    others = [group for group in groups if not any(group <= cell.sites for cell in gadgets)]
    classes = sum(size(key.truth.seen(group)) for group in others)
    return (
        kept
        and all(_cell_is_found(cell, groups) for cell in gadgets)
        and all(key.truth.is_one_variable(group) for group in others)
        and classes <= sum(size(cell.classes) for cell in whole)
    )


def _text(sites: Iterable[str]) -> str:
    return "output" if sites == OUTPUT else "+".join(sorted(sites))
