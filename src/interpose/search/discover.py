"""From a network to a verified causal abstraction: what each place holds, from what it is computed, and how we know."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..abstraction import Alignment
from ..causal_model import CausalModel
from ..certificates import certified, constant
from ..checks import check_rows_alone, model_name, repeatable
from ..decoding import Decoded, decoded
from ..errors import WrongInput
from ..found import Found, Inert, limits_of, verdict_of
from ..grammar import Expression, variable
from ..holdings import Held, Layer, layer_of
from ..kernels import alike, kernel
from ..modelling import Formula, causal_model, name_for, place_of
from ..network import Network
from ..progress import bar
from ..responses import Domain, Prober, as_inputs, flat
from ..sites import Site
from ..verification import Check, Verifier
from ..wiring import Node, Wire, Wiring

BUDGET = 200_000_000
"""How many rows of the network may be run in all, unless told otherwise: a row is one input with something written."""

OBSERVERS = 64
"""By how many sites of later layers a site that changes no output is judged at most."""

SHARE = 1e-3
"""Outputs nearer than this share of the usual difference of two are the same."""


def discover(
    network: Network | nn.Module,
    inputs: Mapping[str, Iterable[Any]],
    *,
    sites: Iterable[Any] | None = None,
    tol: float | None = None,
    functions: Sequence[Callable[..., Any]] = (),
    budget: int = BUDGET,
    seed: int = 0,
    progress: bool | None = None,
) -> Found:
    """What algorithm a network follows over the values of its inputs: variables, where they are held, and how computed.

    network: with inputs that have names, or a module that takes a tensor of them, [row, input].
    inputs: name -> the values it may take; all combinations are looked at where the budget allows, a sample otherwise.
    sites: where variables may be held, by default every neuron but those of the last layer; the answer is one in terms of
    these. tol: what counts as the same output; by default a thousandth of the usual difference of two outputs, and never
    less than 10 x the noise. functions: of one or two values, to name variables with, beside our own grammar.

    The rest of the network is the judge of what a place holds: two inputs hold the same there if swapping one's value
    for the other's changes no output whatever the rest of the input is. That partition is named, its parents are found
    by setting them, and the whole is tested by interchange. Nothing is named that was not found so.

    Source: causal abstraction, Beckers & Halpern 2019, Geiger et al. 2021; partitions by causal effect, Chalupka et al. 2015.
    Raises WrongInput for inputs that do not fit, NotRepeatable for a network that is random.
    """
    started = time.perf_counter()
    net = _named(network, inputs)
    names = {name: list(values) for name, values in inputs.items()}
    names = {name: names[name] for name in net.inputs}
    places = _places(net, sites)
    layers = _by_layer(places)
    domain, others = _domain(net, names, len(places), budget, seed)
    with torch.no_grad():
        noise = _noise(net, domain)
        prober = Prober(net, domain, np.arange(len(domain)), _tolerance(domain, tol, noise))
        silent = {site: one for site, one in certified(net, places).items() if one is not None}
        still = {site: one for site, one in constant(net, places).items() if one is not None}
        inert = {site: Inert(site, "constant" if site in still else "certified", one.reason) for site, one in silent.items()}
        inert |= {site: Inert(site, "constant", one.reason) for site, one in still.items()}
        found = _layers(layers, inert, prober, functions, progress)
        nodes, wires, unwired = _graph(found, names, domain, prober, seed)
        made = _made(names, domain, nodes, wires, unwired, prober.tol)
        rules = {name: decoded(node.held, prober) for name, node in _unique(nodes).items() if node.held is not None}
        checks = _checks(made, prober, others, seed, places, rules) if made is not None else ()
    for layer in found:
        inert |= {site: Inert(site, "no effect alone", _no_effect(domain)) for site in layer.silent}
    return Found(
        network=net,
        model_name=model_name(net),
        domain=domain,
        layers=found,
        nodes=tuple(nodes),
        wires=wires,
        unwired=tuple(unwired),
        model=None if made is None else made.model,
        formulas={} if made is None else made.formulas,
        alignment=None if made is None else made.alignment,
        rules=rules,
        inert=inert,
        checks=tuple(checks),
        verdict=verdict_of(found, unwired, checks, domain, nodes),
        limits=limits_of(found, domain, nodes),
        tol=prober.tol,
        noise=noise,
        runs=prober.runs,
        seconds=time.perf_counter() - started,
        seed=seed,
    )


# -- before -----------------------------------------------------------------------------------------------


def _named(network: Any, inputs: Mapping[str, Iterable[Any]]) -> Network:
    if not isinstance(inputs, Mapping) or not inputs:
        raise WrongInput("inputs says which values each input takes: discover(net, {'A': range(10), 'B': range(10)}).")
    module = network if isinstance(network, nn.Module) else getattr(network, "module", None)
    if not isinstance(module, nn.Module):
        raise WrongInput(f"{type(network).__name__} is no network. Give a Network, or a torch module.")
    if not isinstance(network, Network) or not network.inputs:
        return Network(module, inputs=tuple(inputs))
    if set(network.inputs) != set(inputs):
        raise WrongInput(
            f"The network has the inputs {', '.join(network.inputs)}, and values are given for {', '.join(inputs)}. Give "
            "values for each of them, and no others."
        )
    return network


def _places(net: Network, sites: Iterable[Any] | None) -> list[Site]:
    if sites is None:
        return list(net.neurons())
    found = [net.place(site) for site in sites]
    if not found:
        raise WrongInput("There are no sites to look at. Leave sites out for every neuron.")
    return found


def _by_layer(places: Sequence[Site]) -> dict[str, list[Site]]:
    layers: dict[str, list[Site]] = {}
    for site in places:
        layers.setdefault(site.path + ("" if site.end == "output" else ":input"), []).append(site)
    return layers


def _domain(
    net: Network, names: Mapping[str, Sequence[Any]], sites: int, budget: int, seed: int
) -> tuple[Domain, Domain]:
    """The inputs to discover on and those to verify on: all there are, twice, or two samples that share none."""
    for name, values in names.items():
        if not values or not all(isinstance(value, int | float | bool | np.number) for value in values):
            raise WrongInput(f"The values of {name} should be numbers, at least one: {list(values)[:5]}.")
    total = int(np.prod([len(values) for values in names.values()]))
    most = max(16, int((budget / max(sites, 1)) ** 0.5))
    grid = [np.array(list(values), dtype=float) for values in names.values()]
    if total <= most:
        settings = np.stack([part.reshape(-1) for part in np.meshgrid(*grid, indexing="ij")], 1)
        whole = Domain(net.inputs, settings, _outputs(net, settings), True)
        return whole, whole
    rng = np.random.default_rng(seed)
    settings = np.unique(np.stack([rng.choice(part, 4 * most) for part in grid], 1), axis=0)
    settings = settings[rng.permutation(len(settings))[: 2 * most]]
    first, second = (Domain(net.inputs, part, _outputs(net, part), False) for part in np.array_split(settings, 2))
    return first, second


def _outputs(net: Network, settings: Any) -> Any:
    with torch.no_grad():
        parts = [flat(net.run(as_inputs(part)).output, len(part)) for part in np.array_split(settings, -(-len(settings) // 2**15))]
    return np.concatenate(parts)


def _noise(net: Network, domain: Domain) -> float:
    few = as_inputs(domain.settings[:: max(1, len(domain) // 16)][:16])
    first, again = repeatable(net, few, others=as_inputs(domain.settings[-1:]))
    check_rows_alone(net, few, first.output)
    size = len(few)
    together = flat(first.output, size)
    alone = np.concatenate([flat(net.run(row[None]).output, 1) for row in few])
    return float(max(np.abs(together - flat(again.output, size)).max(), np.abs(together - alone).max()))


def _tolerance(domain: Domain, tol: float | None, noise: float) -> float:
    apart = np.abs(domain.outputs - np.roll(domain.outputs, len(domain) // 3 + 1, axis=0)).max(1)
    usual = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    return max(SHARE * usual if tol is None else tol, 10 * noise)


# -- layer by layer ------------------------------------------------------------------------------------------


def _layers(
    layers: Mapping[str, Sequence[Site]],
    inert: Mapping[Site, Inert],
    prober: Prober,
    functions: Sequence[Callable[..., Any]],
    progress: bool | None,
) -> tuple[Layer, ...]:
    atoms = [variable(name, column) for name, column in prober.domain.columns().items()]
    known = {atom.text for atom in atoms}
    found: list[Layer] = []
    with bar(len(layers), progress, unit="layer") as tick:
        live = {name: [site for site in sites if site not in inert] for name, sites in layers.items()}
        for k, (name, sites) in enumerate(layers.items()):
            after = [site for later in list(live)[k + 1 :] for site in live[later]][:OBSERVERS]
            layer = layer_of(name, sites, live[name], prober, atoms, functions, after)
            found.append(layer)
            for one in layer.held:
                atoms += _as_atom(one, known)
            tick(1)
    return tuple(found)


def _as_atom(held: Held, known: set[str]) -> list[Expression]:
    """What was found, as a name for what comes after."""
    if held.name is None or not held.name.exact or not held.name.best.number or held.name.best.text in known:
        return []
    best = held.name.best
    known.add(best.text)
    return [replace(best, size=1)]


OUTPUT = "Y"


def _graph(
    layers: Sequence[Layer], names: Mapping[str, Any], domain: Domain, prober: Prober, seed: int
) -> tuple[list[Node], dict[str, Wire], list[str]]:
    """A node for everything that is held, in causal order; from what each is computed; and those of which no parents
    were found.

    What is computed from one place alone, and tells the same inputs apart, is the same variable, carried on.
    """
    wiring = Wiring(prober, seed)
    before = [Node(name, 0, kernel(column), input=k) for k, (name, column) in enumerate(domain.columns().items())]
    nodes: list[Node] = []
    wires: dict[Node, Wire | None] = {}
    for depth, layer in enumerate(layers, 1):
        here = [Node("", depth, held.classes, held) for held in layer.held]
        wires |= {node: wiring.wired(node, before) for node in here}
        nodes += here
        before += here
    output = Node(OUTPUT, 10**6, alike(domain.outputs, prober.tol))
    wires[output] = wiring.wired(output, before)
    called = _called(nodes, wires, names)
    named_wires, unwired = {}, []
    for node, wire in wires.items():
        name = called.get(node, OUTPUT)
        if wire is None:
            unwired.append(name)
        elif name not in named_wires and not _is_copy(node, wire, called):
            parents = tuple(called.get(parent, parent.name) for parent in wire.nodes)
            named_wires[name] = replace(wire, child=name, parents=parents)
    return [replace(node, name=called[node]) for node in nodes], named_wires, unwired


def _called(nodes: Sequence[Node], wires: Mapping[Node, Wire | None], names: Mapping[str, Any]) -> dict[Node, str]:
    """A name for every node: that of the node it is a copy of, or one of its own.

    A copy of an input that others read beside the copy has a name of its own: to set it is not to set the input. So has
    a copy that is read together with what it is a copy of.
    """
    readers: dict[Node, int] = {}
    together: set[frozenset[Node]] = set()
    for wire in wires.values():
        for parent in wire.nodes if wire is not None else ():
            readers[parent] = readers.get(parent, 0) + 1
        together |= {frozenset(pair) for pair in itertools.combinations(wire.nodes, 2)} if wire is not None else set()
    called: dict[Node, str] = {}
    taken = {*names, OUTPUT}
    for node in nodes:
        assert node.held is not None
        wire = wires[node]
        origin = wire.nodes[0] if wire is not None and len(wire.nodes) == 1 else None
        copy = origin is not None and np.array_equal(origin.classes, node.classes)
        if copy and origin is not None and (readers[origin] == 1 if origin.held is None else True):
            name = called.get(origin, origin.name)
            same = [other for other, known in called.items() if known == name]
            if not any(frozenset((node, other)) in together for other in same):
                called[node] = name
                continue
        called[node] = f"{origin.name} at {place_of(node.held)}" if copy and origin and origin.held is None else name_for(node.held, taken)
        taken.add(called[node])
    return called


def _is_copy(node: Node, wire: Wire, called: Mapping[Node, str]) -> bool:
    """Whether a node is its only parent, carried on."""
    return len(wire.nodes) == 1 and called.get(node, OUTPUT) == called.get(wire.nodes[0], wire.nodes[0].name)


def _unique(nodes: Sequence[Node]) -> dict[str, Node]:
    """The first place of each variable."""
    first: dict[str, Node] = {}
    for node in nodes:
        first.setdefault(node.name, node)
    return first


# -- the model, and its test ------------------------------------------------------------------------------------


def _made(
    names: Mapping[str, Sequence[Any]],
    domain: Domain,
    nodes: Sequence[Node],
    wires: Mapping[str, Wire],
    unwired: list[str],
    tol: float,
) -> _Made | None:
    """The causal model, its formulas, and the alignment; None where the output is not computed from what was found.

    What is held and does not lead to the output in it joins what was not wired: then something was missed.
    """
    if unwired or not nodes:
        return None
    first = _unique(nodes)
    variables = [node for node in first.values() if node.name not in names]
    model, formulas = causal_model(domain, names, variables, wires, OUTPUT, held=alike(domain.outputs, tol))
    careful, _ = causal_model(domain, names, variables, wires, OUTPUT, held=alike(domain.outputs, tol), strict=False)
    unwired += [name for name in first if name not in model.variables]
    sites = {name: tuple(node.held.group) for name, node in first.items() if node.held and name in model.variables}
    return _Made(model, careful, formulas, Alignment(model, sites), sites)


@dataclass(frozen=True, eq=False)
class _Made:
    """A model; the same, which says `UNSAID` of what it does not know; formulas; and where its variables are held."""

    model: CausalModel
    careful: CausalModel
    formulas: Mapping[str, Formula]
    alignment: Alignment
    sites: Mapping[str, tuple[Site, ...]]


def _checks(
    made: _Made, prober: Prober, others: Domain, seed: int, places: Sequence[Site], rules: Mapping[str, Decoded]
) -> tuple[Check, ...]:
    """The model, as it stands, held against the network on inputs of its own."""
    silent = [site for site in places if not _holds(site, made.sites, prober)]
    fresh = prober if others is prober.domain else Prober(prober.network, others, np.arange(len(others)), prober.tol)
    verifier = Verifier(fresh, made.careful, made.sites, np.arange(len(others)), seed)
    known = {name: rule for name, rule in rules.items() if name in made.sites}
    checks = verifier.all(silent, known, exhaustive=others.exhaustive)
    prober.runs += 0 if fresh is prober else fresh.runs
    return checks


def _holds(site: Site, sites: Mapping[str, Sequence[Site]], prober: Prober) -> bool:
    """Whether a site holds a variable, or carries one on from where it first is held."""
    known = prober.known.get((site,))
    return any(site in of for of in sites.values()) or (known is not None and known.live)


def _no_effect(domain: Domain) -> str:
    if domain.exhaustive:
        return "no value that an input gives changes any output, alone"
    return f"no effect in {len(domain) // 2} inputs, alone"
