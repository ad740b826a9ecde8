"""From a network to a verified causal abstraction: what each place holds, from what it is computed, and how we know."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..abstraction import Alignment
from ..certificates import certified, constant
from ..checks import check_rows_alone, model_name, repeatable
from ..discovery.decoding import Decoded, decoded
from ..discovery.found import SURE, Found, Inert, Made, at_tolerance, limits_of, verdict_of
from ..discovery.grammar import Expression, variable
from ..discovery.graph import OUTPUT, graph, unique
from ..discovery.holdings import Held, Layer, Search, layer_name, layer_of
from ..discovery.kernels import alike, count
from ..discovery.modelling import causal_model, formulas_of
from ..discovery.responses import Domain, Prober, as_inputs, flat, run_rows
from ..discovery.verification import Check, Verifier
from ..discovery.wiring import Node, Wire
from ..errors import WrongInput
from ..network import Network
from ..progress import bar
from ..sites import Site

BUDGET = 200_000_000
"""How many rows of the network may be run in all, unless told otherwise: a row is one input with something written."""

OBSERVERS = 64
"""By how many sites of later layers a site that changes no output is judged at most."""

PAIRS = 1000
"""By how many pairs of inputs the usual difference of two outputs is told."""

STEP, COARSEST = 8, 0.25
"""Where not all is found, larger tolerances are tried, each so many times the last, up to this share of it."""

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

    network: with inputs that have names, or a module that takes a tensor of them, [row, input]. inputs: name -> the
    values it may take; all combinations are looked at where the budget allows, a sample otherwise. sites: where
    variables may be held, by default every neuron but those of the last layer; the answer is one in terms of these.
    tol: what counts as the same output; by default a thousandth of the usual difference of two outputs, and never less
    than 10 x the noise. Where not everything is found at that, larger ones are tried, up to a quarter of the usual
    difference, and what holds at one of these is approximate. functions: of one or two values, to name variables with,
    beside our own grammar.

    The rest of the network is the judge of what a place holds: two inputs hold the same there if swapping one's value
    for the other's changes no output whatever the rest of the input is. That partition is named, its parents are found
    by setting them, and the whole is tested by interchange. Nothing is named that was not found so.

    Source: causal abstraction, Beckers & Halpern 2019, Geiger et al. 2021; partitions by causal effect, Chalupka et al.
    2015. Raises WrongInput for inputs that do not fit, NotRepeatable for a network that is random.
    """
    net = _named(network, inputs)
    names = {name: list(inputs[name]) for name in net.inputs}
    places = _places(net, sites)
    domain, others = _domain(net, names, len(places), budget, seed)
    with torch.no_grad():
        return _discovered(net, names, places, domain, others, tol, functions, seed, progress)


def _discovered(
    net: Network,
    names: Mapping[str, list[Any]],
    places: Sequence[Site],
    domain: Domain,
    others: Domain,
    tol: float | None,
    functions: Sequence[Callable[..., Any]],
    seed: int,
    progress: bool | None,
) -> Found:
    """What is found at the tolerance asked for; or where that is not all, at the first at which everything is."""
    started = time.perf_counter()
    noise, usual = _noise(net, domain), _usual(domain)
    least = max(SHARE * usual if tol is None else tol, 10 * noise)
    inputs = [variable(name, column) for name, column in domain.columns().items()]
    search = Search(Prober(net, domain, np.arange(len(domain)), least), inputs, functions)
    inert = _certain(net, places)
    tried: list[Found] = []
    for each in [least, *_coarser(least, usual)]:
        search = replace(search, prober=search.prober.at(each))
        found = _found(names, places, search, others, inert, seed, progress)
        silent = {site: _silent(site, search.prober, least) for layer in found.layers for site in layer.silent}
        tried.append(replace(found, inert={**inert, **silent}))
        if tried[-1].verdict in SURE:
            break
    whole = tried[-1] if tried[-1].verdict in SURE else tried[0]
    return replace(
        whole,
        verdict="approximate" if whole is not tried[0] else whole.verdict,
        asked=least,
        curve=tuple(at_tolerance(one) for one in tried),
        runs=tried[-1].runs,
        noise=noise,
        seconds=time.perf_counter() - started,
    )


def _found(
    names: Mapping[str, list[Any]],
    places: Sequence[Site],
    search: Search,
    others: Domain,
    inert: Mapping[Site, Inert],
    seed: int,
    progress: bool | None,
) -> Found:
    """What is found at one tolerance on one domain, and put to the test on the other."""
    prober, domain = search.prober, search.prober.domain
    layers = _layers(_by_layer(places), inert, search, progress)
    layers, nodes, wires, unwired = graph(layers, names, prober, seed)
    made = _made(names, domain, nodes, wires, unwired, prober.tol)
    rules = {name: decoded(node.held, prober) for name, node in unique(nodes).items() if node.held is not None}
    checks = _checks(made, prober, others, seed, places, rules) if made is not None else ()
    return Found(
        network=prober.network,
        model_name=model_name(prober.network),
        domain=domain,
        layers=tuple(layers),
        nodes=tuple(nodes),
        wires=wires,
        unwired=tuple(unwired),
        made=made,
        rules=rules,
        inert=inert,
        checks=tuple(checks),
        verdict=verdict_of(layers, unwired, checks, domain, nodes),
        limits=limits_of(layers, domain, nodes),
        tol=prober.tol,
        runs=prober.runs,
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
            f"The network has the inputs {', '.join(network.inputs)}, and values are given for {', '.join(inputs)}. "
            "Give values for each of them, and no others."
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
        layers.setdefault(layer_name(site), []).append(site)
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
        whole = Domain(net.inputs, settings, run_rows(net, settings)[0], True)
        return whole, whole
    rng = np.random.default_rng(seed)
    settings = np.unique(np.stack([rng.choice(part, 4 * most) for part in grid], 1), axis=0)
    settings = settings[rng.permutation(len(settings))[: 2 * most]]
    first, second = (Domain(net.inputs, part, run_rows(net, part)[0], False) for part in np.array_split(settings, 2))
    return first, second


def _noise(net: Network, domain: Domain) -> float:
    few = as_inputs(domain.settings[:: max(1, len(domain) // 16)][:16])
    first, again = repeatable(net, few, others=as_inputs(domain.settings[-1:]))
    check_rows_alone(net, few, first.output)
    size = len(few)
    together = flat(first.output, size)
    alone = np.concatenate([flat(net.run(row[None]).output, 1) for row in few])
    return float(max(np.abs(together - flat(again.output, size)).max(), np.abs(together - alone).max()))


def _usual(domain: Domain) -> float:
    """The usual difference of two outputs: the mean over some pairs of inputs, each in the number that differs most."""
    rng = np.random.default_rng(0)
    one, other = (rng.choice(len(domain), PAIRS) for _ in range(2))
    return float(np.abs(domain.outputs[one] - domain.outputs[other]).max(1).mean()) or 1.0


def _coarser(least: float, usual: float) -> list[float]:
    """Larger tolerances, as far as what counts as the same is well below the usual difference."""
    steps = itertools.takewhile(lambda tol: tol < COARSEST * usual, (least * STEP**k for k in itertools.count(1)))
    return [*steps, COARSEST * usual] if least < COARSEST * usual else []


def _certain(net: Network, places: Sequence[Site]) -> dict[Site, Inert]:
    """The sites that the weights show to be constant, or read by nothing."""
    unread = {site: one for site, one in certified(net, places).items() if one is not None}
    still = {site: one for site, one in constant(net, places).items() if one is not None}
    return {site: Inert(site, "certified", one.reason) for site, one in unread.items()} | {
        site: Inert(site, "constant", one.reason) for site, one in still.items()
    }


# -- layer by layer ------------------------------------------------------------------------------------------


def _layers(
    layers: Mapping[str, Sequence[Site]],
    inert: Mapping[Site, Inert],
    search: Search,
    progress: bool | None,
) -> list[Layer]:
    atoms = list(search.atoms)
    known = {atom.text for atom in atoms}
    found: list[Layer] = []
    with bar(len(layers), progress, unit="layer") as tick:
        live = {name: [site for site in sites if site not in inert] for name, sites in layers.items()}
        for k, (name, sites) in enumerate(layers.items()):
            after = [site for later in list(live)[k + 1 :] for site in live[later]][:OBSERVERS]
            layer = layer_of(name, sites, live[name], replace(search, atoms=atoms), after)
            found.append(layer)
            for one in layer.held:
                atoms += _as_atom(one, known)
            tick(1)
    return found


def _as_atom(held: Held, known: set[str]) -> list[Expression]:
    """What was found, as a name for what comes after."""
    if held.name is None or not held.name.exact or not held.name.best.number or held.name.best.text in known:
        return []
    best = held.name.best
    known.add(best.text)
    return [replace(best, size=1, again=False, uses=frozenset((best.text,)))]


# -- the model, and its test ------------------------------------------------------------------------------------


def _made(
    names: Mapping[str, Sequence[Any]],
    domain: Domain,
    nodes: Sequence[Node],
    wires: Mapping[str, Wire],
    unwired: list[str],
    tol: float,
) -> Made | None:
    """The causal model, its formulas, and the alignment; None where the output is not computed from what was found.

    What is held and does not lead to the output in it joins what was not wired: then something was missed.
    """
    if unwired or not nodes:
        return None
    first = unique(nodes)
    variables = [node for node in first.values() if node.name not in names]
    formulas = formulas_of(domain, variables, wires, OUTPUT, alike(domain.outputs, tol))
    model = causal_model(names, formulas, OUTPUT)
    careful = causal_model(names, formulas, OUTPUT, careful=True)
    unwired += [name for name in first if name not in model.variables]
    sites = {name: tuple(node.held.group) for name, node in first.items() if node.held and name in model.variables}
    return Made(model, careful, formulas, Alignment(model, sites), sites)


def _checks(
    made: Made, prober: Prober, others: Domain, seed: int, places: Sequence[Site], rules: Mapping[str, Decoded]
) -> tuple[Check, ...]:
    """The model, as it stands, held against the network on inputs of its own."""
    silent = [site for site in places if not _holds(site, made.sites, prober)]
    fresh = prober if others is prober.domain else Prober(prober.network, others, np.arange(len(others)), prober.tol)
    verifier = Verifier(fresh, made.careful, made.sites, np.arange(len(others)), seed, made.model)
    known = {name: rule for name, rule in rules.items() if name in made.sites}
    checks = verifier.all(silent, known, exhaustive=others.exhaustive)
    prober.runs += 0 if fresh is prober else fresh.runs
    return checks


def _holds(site: Site, sites: Mapping[str, Sequence[Site]], prober: Prober) -> bool:
    """Whether a site holds a variable, or carries one on from where it first is held."""
    known = prober.known.get((site,))
    return any(site in of for of in sites.values()) or (known is not None and known.live)


def _silent(site: Site, prober: Prober, asked: float) -> Inert:
    """Why a site is said not to be needed that has no effect above the tolerance."""
    domain = prober.domain
    classes, *_ = prober.tables[site,].classes(asked)
    if classes is None or count(classes) > 1:
        return Inert(site, "small effect", f"off by at most {prober.tables[site,].farthest:.2g}, alone")
    if domain.exhaustive:
        return Inert(site, "no effect", "no value that an input gives changes any output, alone")
    return Inert(site, "no effect", f"no effect in {len(domain) // 2} inputs, alone")
