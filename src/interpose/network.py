"""A torch module as a `Model`.

net = Network(module, inputs=("A", "B", "C"), names={"h12": "l1[1]"})
net.run([1, 2, 3], read=["h12"], write={"l2[2]": -100}).output
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from .causal_model import CausalModel
from .engine.once import Plans, four_runs
from .engine.probe import Refused
from .engine.question import ALL, UNCHECKED, Engine
from .engine.sweep import swept
from .errors import (
    InterposeError,
    NotRepeatable,
    UnknownPlace,
    WrongInput,
    suggest,
)
from .featurizers import NEURONS
from .inputs import call_arguments, named_numbers
from .interventions import Set, as_intervention
from .metrics import Scored
from .model import NOTHING, FourRuns, Model, Run, Score, Work, assigned, several, untold
from .neuron_graph import neuron_graph
from .sites import EACH, Site, parse
from .taps import Order, RunTaps, call, refuse_overlap
from .units import (
    at_rest,
    channel_axis,
    declared_width,
    device_of,
    is_holder,
    is_layer,
    is_leaf,
    is_neural,
    plain_tensors,
    refuse_uninspectable,
    unsteady,
)
from .unwrapping import unwrapped
from .windows import Window, opened


class Network(Model[Site]):
    """Any `torch.nn.Module` as a `Model`: its places are its sites.

    module: used as it is and left as it was: mode, hooks, parameters, gradients, random state.
    inputs: names for the numbers that make up one input. Then an input may be a list, a dict by these names, a list of
        either, or a tensor, and the module is given a float tensor [..., names]; the names are places too.
    names: names for sites, as {"h12": "l1[1]"}.
    example: an input to learn shapes from, where modules do not declare them; not needed with `inputs`.
    engine: which savings a sweep may use; "full" makes one run a write, which gives the same.

    Without `inputs`, what is run is handed to the module as it is. A dict whose keys are parameters of `forward` is
    passed by keyword; a tuple is spread over positional parameters where `forward` needs several.
    """

    reads_last = False  # whether nothing of the output is read but what stands at the last position

    def __init__(
        self,
        module: Any,
        *,
        inputs: Sequence[str] | None = None,
        names: Mapping[str, str | Site] = NOTHING,
        example: Any = None,
        engine: Engine | Literal["full"] = ALL,
    ) -> None:
        module, _ = unwrapped(module)
        refuse_uninspectable(module)
        self.module = module
        self.engine = engine
        self.inputs = tuple(inputs or ())
        self.modules = dict(module.named_modules(remove_duplicate=False))
        self.example = [[0.0] * len(self.inputs)] if self.inputs and example is None else example
        self.names = {
            name: Site("", units=i, end="input", name=name, coordinates=(("input", name, i),))
            for i, name in enumerate(self.inputs)
        }
        self._plans: Plans = {}
        self._placed: WeakValueDictionary[int, Site] = WeakValueDictionary()  # sites that are known to be here
        self.paths = {part: path for path, part in reversed(self.modules.items())}
        for name in (*self.inputs, *names):
            if name in self.modules or (name in self.inputs and name in names) or self.inputs.count(name) > 1:
                raise WrongInput(f"{name!r} names two things. Choose another name for the input or site.")
        for name, spelling in names.items():
            self.names[name] = replace(self.place(spelling), name=name)

    def __repr__(self) -> str:
        title = f"Network({type(self.module).__name__})" + (f" of {', '.join(self.inputs)}" if self.inputs else "")
        leaves = [
            path for path, module in self.modules.items() if path and is_leaf(module) and not isinstance(module, Window)
        ]
        margin = max((len(path) for path in leaves), default=0)
        lines = []
        for path in leaves:
            width = declared_width(self.modules[path], "output")
            named = [name for name, site in self.names.items() if site.path == path and name not in self.inputs]
            units = f"{width} unit{'s' * (width != 1)}" if width else type(self.modules[path]).__name__
            lines.append(f"  {path:<{margin}}  {units}" + (f": {', '.join(named)}" if named else ""))
        return "\n".join([title, *lines])

    # -- places ------------------------------------------------------------------------------------

    def place(self, spelling: Any) -> Site:
        """The site that a name, a spelling such as "l1[1]" or a `Site` means here.

        Raises UnknownPlace if there is no such module or unit, with the nearest name.
        """
        if isinstance(spelling, str) and spelling in self.names:
            return self.names[spelling]
        if self._placed.get(id(spelling)) is spelling:
            return spelling
        if not isinstance(spelling, str | Site):
            raise UnknownPlace(
                f"{spelling!r} is no site. Sites are spelled 'module.path[units]'. {suggest(spelling, self.names)}"
            )
        site = parse(spelling) if isinstance(spelling, str) else spelling
        if site.path not in self.modules and not self.revealed(site.path):
            known = [*self.names, *(path for path in self.modules if path)]
            raise UnknownPlace(f"{type(self.module).__name__} has no module {site.path!r}. {suggest(site.path, known)}")
        typed = site.spelling
        module = self.modules[site.path]
        axis = channel_axis(module)
        path = self.paths[module]  # a module that goes by two names is one module
        site = replace(site, path=path, unit_axis=axis if site.unit_axis is None else site.unit_axis)
        width = declared_width(module, site.end)
        for unit in (site.units,) if isinstance(site.units, int) else site.units or ():
            if width is not None and site.featurizer == NEURONS and unit >= width:
                raise UnknownPlace(f"{typed} asks for unit {unit}, but {path} has {width}: 0 to {width - 1}.")
        if site.position == EACH and not site.coordinates:
            site = replace(site, coordinates=(("layer", str(replace(site, position=None)), self._rank(path)),))
        known_as = next((name for name, known in self.names.items() if known == site), None)
        site = replace(site, name=site.name or known_as or (typed if typed != site.spelling else None))
        self._placed[id(site)] = site
        return site

    def revealed(self, path: str) -> bool:
        """Whether a place by this path, which no module has, could be shown through a window; then it is there now."""
        return False

    def site(self, path: str, **lens: Any) -> Site:
        """A site by parts: net.site("blocks.3", units=range(8), position=-1, end="input", occurrence=0)."""
        return self.place(Site(path, **lens))

    def sites(self) -> tuple[Site, ...]:
        """What can be read and written: the inputs that have names, and what every module returns."""
        named = [self.names[name] for name in self.inputs]
        found = [p for p, m in self.modules.items() if p and not is_holder(m) and not isinstance(m, Window)]
        return (*named, *(self.place(Site(path)) for path in found))

    def layers(self) -> tuple[str, ...]:
        """The modules that hold parameters of their own and no other modules.

        In the order in which a run of the example meets them, or as they were registered where there is no example.
        """
        found = [path for path, module in self.modules.items() if path and is_layer(module)]
        for module in self.modules.values():
            if isinstance(module, nn.MultiheadAttention):  # its parts are used, but never called
                found = [path for path in found if self.modules[path] not in set(module.children())]
        found = list(dict.fromkeys(self.paths[self.modules[path]] for path in found))
        if self.example is None:
            return tuple(found)
        order = Order(map(Site, found), self.modules)
        args, kwargs = self.arguments(self.example)
        with at_rest(self.module):
            call(self.module, args, kwargs, order)
        return tuple(order.paths)

    def neurons(self, *paths: str) -> tuple[Site, ...]:
        """One site a unit of what stands at `paths`, modules or other places; by default, of every layer but the last.

        Layers are linear ones, convolutions and the like, before any nonlinearity that follows them; normalisations and
        embeddings are not. After a convolution a unit is a channel.
        Raises UnknownPlace, or WrongInput where the width is not known.
        """
        found = []
        for path in paths or [path for path in self.layers() if is_neural(self.modules[path])][:-1]:
            whole = replace(self.place(path), name=None)
            axis = None if whole.unit_axis == channel_axis(self.modules[whole.path]) else whole.unit_axis
            layer = replace(whole, units=None, unit_axis=axis).spelling
            for unit in range(self.width(whole)) if whole.units is None else np.atleast_1d(whole.units).tolist():
                where = (("layer", layer, self._rank(whole.path)), ("unit", unit, unit))
                found.append(self.place(replace(whole, units=unit, unit_axis=axis, coordinates=where)))
        return tuple(found)

    def width(self, spelling: Any) -> int:
        """How many units there are at a site: as its module declares, or as a run of the example shows."""
        site = replace(self.place(spelling), units=None, name=None)
        declared = declared_width(self.modules[site.path], site.end)
        if declared is not None:
            return declared
        if self.example is None:
            raise WrongInput(
                f"How many units {site} has shows only in a run. Give one: Network(module, example=an_input)."
            )
        with at_rest(self.module):
            return int(
                self.run(self.example, read=[site])[site].shape[-1 if site.unit_axis is None else site.unit_axis]
            )

    def _rank(self, path: str) -> int:
        """Where a module stands among all of them."""
        return list(self.modules).index(path)

    # -- the waist ---------------------------------------------------------------------------------

    def run(self, inputs: Any, *, read: Iterable[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[Site]:
        """One forward pass, in the gradient mode that holds outside; writes are differentiable, reads are copies.

        The output is the module's own; torch's fused transformer layers run as their plain selves, which gives other
        values at padding. Raises UnknownPlace, OverlappingWrites or WrongInput before the pass; WrongShape,
        AmbiguousSite or NotFired if what passes does not fit the site. The module is left as it was in any case.
        """
        reads = list(dict.fromkeys(self.place(spelling) for spelling in several(read, "read")))
        writes = checked_writes(self, write)
        args, kwargs = self.arguments(inputs, [*reads, *writes])
        taps = RunTaps(reads, writes, self.modules)
        with opened(self.shown([*reads, *writes])[0]):
            output = call(self.module, args, kwargs, taps)
        return Run(self.outcome(output), taps.values, taps.ledger(), self.place)

    def sweep(self, inputs: Any, writes: Sequence[Mapping[Any, Any]], *, metric: Score) -> Tensor:
        """Run once per element of `writes`, each from the same inputs: [write, example] scores, without gradients.

        What the same run would compute again is not computed again: see `Engine`. Where the engine cannot be sure, it
        makes one run a write. Warns ReplayMismatch where a saving did not give what plain runs give.
        """
        checked = [checked_writes(self, write) for write in writes]
        sites = list(dict.fromkeys(site for write in checked for site in write))
        shown, notes = self.shown(sites)
        with plain_tensors(), opened(shown):
            if notes:
                getattr(metric, "record", untold)(Work(notes=notes))
            reason = "engine='full'"
            if self.engine != "full" and len(writes):
                try:
                    return swept(self, self.arguments(inputs, sites), checked, metric, self.engine)
                except Refused as refusal:
                    reason = f"One run a write: {refusal}."
            getattr(metric, "record", untold)(Work(notes=(reason,)))
            return super().sweep(inputs, checked, metric=metric)

    def four_runs(self, base: Any, source: Any, places: Sequence[Any], *, metric: Score) -> FourRuns | None:
        """The four runs of every pair and site in one pass, without gradients; None where that does not pay.

        It pays on small networks, where passes cost more than their products. Unless the engine is told not to check,
        a small plain run is held against it.
        """
        groups = [place if isinstance(place, list | tuple) else (place,) for place in places]
        if self.engine not in (ALL, UNCHECKED) or any(len(group) != 1 for group in groups):
            return None
        if not isinstance(metric, Scored):
            return None
        sites = [self.place(site) for (site,) in groups]
        if any(site.is_named for site in sites):
            return None
        try:
            self.ready()
            ours, theirs = self.arguments(base, sites), self.arguments(source, sites)
        except InterposeError:
            return None
        shown, notes = self.shown(sites)
        with plain_tensors(), opened(shown):
            found = four_runs(self, ours, theirs, sites, metric, self._plans, check=self.engine == ALL)
        return found and replace(found, work=found.work + Work(notes=notes))

    def shown(self, sites: Iterable[Site]) -> tuple[list[Window], tuple[str, ...]]:
        """The windows that some sites are in, and what is to be told of runs in which these are open."""
        windows = [
            one for path in dict.fromkeys(s.path for s in sites) if isinstance(one := self.modules[path], Window)
        ]
        return windows, tuple(dict.fromkeys(window.note for window in windows if window.note))

    def unembedding(self) -> str | None:
        """The path of the layer whose units are the outcome, where that is known."""
        return None

    def ready(self) -> None:
        """Raise NotRepeatable where the module's mode makes a run depend on other rows, or on chance."""
        for path, module in self.modules.items():
            if reason := unsteady(module):
                raise NotRepeatable(
                    f"{path or 'The module'!r} is a {type(module).__name__} in training mode: {reason}. Switch that "
                    "off with module.eval()."
                )

    def precedes(self, place: Any, other: Any) -> bool:
        """Whether a run of the example reaches one site before the other; False where there is no example."""
        first, second = self.place(place), self.place(other)
        if self.example is None or (first.path, first.end) == (second.path, second.end):
            return False
        first, second = (site.everywhere() if site.is_named else site for site in (first, second))
        with at_rest(self.module):
            met = list(self.run(self.example, read=[first, second]).values)
        return met.index(first) < met.index(second)

    def arguments(self, inputs: Any, places: Sequence[Site] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """How the module is called with these inputs, when these places are read or written."""
        return ((self.numbers(inputs),), {}) if self.inputs else call_arguments(self.module.forward, inputs)

    def outcome(self, output: Any) -> Any:
        """What a run calls its output, given what the module returned."""
        return output

    def numbers(self, inputs: Any) -> Tensor:
        """Named inputs in any form as a tensor [..., names] of the module's precision, on its device."""
        parameter = next((p for p in self.module.parameters() if p.is_floating_point()), torch.zeros(()))
        return named_numbers(inputs, self.inputs).to(device_of(self.module), parameter.dtype)

    # -- a network is a causal model too -------------------------------------------------------------

    def as_causal_model(self, *layers: str) -> CausalModel:
        """Inputs and neurons of a small feed-forward network as variables, connected as the layers are.

        layers: module paths in causal order; by default `layers()`. Each should hold [example, unit]. A unit's
        mechanism is the network itself with the layers it is computed from set, so its value is the module's own
        activation.
        Raises WrongInput where inputs have no names, or a layer depends on something that is no layer; NotRepeatable in
        training mode, where a unit may depend on chance or on other rows.
        """
        self.ready()
        return neuron_graph(self, [self.place(path) for path in layers or self.layers()])


def checked_writes(network: Network, write: Mapping[Any, Any]) -> dict[Site, Callable[[Any], Any]]:
    """Sites and interventions, checked before any run.

    Raises UnknownPlace, WrongInput, WrongShape for another number of units, or OverlappingWrites, naming both.
    """
    writes: dict[Site, Callable[[Any], Any]] = {}
    for spelling, new in assigned(write).items():
        site = network.place(spelling)
        for other in writes:
            if site.overlaps(other):
                refuse_overlap(site, other)
        writes[site] = intervention = as_intervention(new)
        width = declared_width(network.modules[site.path], site.end)
        if width is not None and isinstance(intervention, Set) and not intervention.broadcast:
            site.check_units(intervention.value, width)
    return writes
