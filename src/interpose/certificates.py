"""Certificates: proofs that nothing in a network's output can depend on a place, or that a place holds a constant.

One run of an example is recorded without data (`flow.trace`), so that what it shows holds of every input of that form;
then dependence is followed through it, number by number. A path ends at a weight that is exactly 0. What is not
understood is taken to depend on everything, or nothing is certified at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .engine.axes import close
from .errors import WrongInput
from .featurizers import NEURONS
from .flow.record import record
from .flow.state import kept
from .flow.tape import Followed, Masks, Step, Tape, View
from .flow.trace import Trace, Traced
from .model import several
from .network import Network
from .sites import Site
from .structures import tensors
from .taps import ONE_AT_A_TIME
from .units import at_rest

MOST = 3
"""How many weights or places a reason names."""


@dataclass(frozen=True)
class Certificate:
    """A proof about one place, for every input of the example's form: the same shapes and types, flags and texts.

    It is about the module in evaluation mode, run without gradients, with the weights and buffers it has now.
    reason: what proves it, in words. bound: how far the output, or the place's value, can move at most.

    A weight of 0 hides finite numbers only: 0 times infinity, or times what is no number, is no number.
    """

    site: Site
    reason: str
    bound: float = 0.0

    def __str__(self) -> str:
        return f"{self.site}: {self.reason}"


@torch.inference_mode(False)
def certified(network: Network, places: Iterable[Any], *, inputs: Any = None) -> dict[Site, Certificate | None]:
    """For each place, a certificate that nothing in the output can depend on it, or None where that is not proved.

    Whatever finite values are written at any or all of the certified places, the outcome stays the same, for every
    input of the example's form. No value is tried out: it follows from the operations.

    inputs: an example of another form than the network's own, such as more tokens.
    Raises WrongInput where there is no example, and whatever a run that reads the places raises.
    """
    sites = [network.place(place) for place in several(places)]
    tape = _studied(network, sites, inputs, apart=True).tape
    marks = {step: _Marks.of(step.sites, step.outputs[0]) for step in tape.steps if step.sites}
    live = {
        site
        for step, wanted, _ in tape.backward(_everything(tape.outcome))
        for site in (marks[step].touched(wanted[0]) if step in marks else ())
    }
    found: dict[Site, Certificate | None] = dict.fromkeys(sites)
    for number, step in enumerate(tape.steps):
        for site in step.sites:
            if site not in live:
                found[site] = Certificate(site, _unread(tape, number, site, marks))
    return found


@torch.inference_mode(False)
def constant(network: Network, places: Iterable[Any], *, inputs: Any = None) -> dict[Site, Certificate | None]:
    """For each place, a certificate that it holds the same value whatever the input, or None where that is not proved.

    inputs, and what is raised: as of `certified`. What is random is not constant.
    """
    sites = [network.place(place) for place in several(places)]
    tape = _studied(network, sites, inputs, apart=False).tape
    marks = {step: _Marks.of(step.sites, step.inputs[0]) for step in tape.steps if step.sites and step.inputs}
    varying = {
        site
        for step, given, _ in tape.forward(_everything(tape.given), chance=True)
        for site in (marks[step].touched(given[0]) if step in marks else ())
    }
    found: dict[Site, Certificate | None] = dict.fromkeys(sites)
    for number, step in enumerate(tape.steps):
        for site in step.sites:
            if site not in varying:
                found[site] = Certificate(site, _unmoved(tape, number, site, marks))
    return found


@torch.inference_mode(False)
def obstacle(network: Network, *, inputs: Any = None) -> str | None:
    """Why nothing can be certified of a network, in words; None where it is understood what it does."""
    return _studied(network, [], inputs, apart=True).refusal


# -- the run that is studied -----------------------------------------------------------------------------


def _studied(network: Network, sites: Sequence[Site], inputs: Any, *, apart: bool) -> Trace:
    """The trace of a run; one that is refused has an empty tape."""
    inputs = network.example if inputs is None else inputs
    if inputs is None:
        raise WrongInput(
            "What a network does shows only in a run. Give an input: certified(network, places, inputs=x)."
        )
    args, kwargs = network.arguments(inputs, sites)
    own = getattr(network, "options", {})
    module = network.module
    with ONE_AT_A_TIME, at_rest(module), kept(module) as before:
        plain = network.run(inputs, read=sites)
        trace, left_out = Trace({}), frozenset[Site]()
        trace.refusal = _values([*args, *(value for name, value in kwargs.items() if name not in own)])
        if before.opaque:
            trace.note(f"the module holds {before.opaque}")
        while not trace.refusal:
            trace = record(network, args, kwargs, sites, apart=apart, left_out=left_out)
            if trace.conflicts <= left_out:
                break
            left_out |= trace.conflicts
        if change := before.change():
            trace.note(f"a run changes what the module holds: {change}")
        if not trace.refusal and not _same(trace.output, plain.output):
            trace.note("the trace does not give what a run gives")
    if trace.refusal:
        trace.tape = Tape()
    return trace


def _values(structure: Any) -> str | None:
    """Why an input is of no form that others can share, or None: numbers outside of tensors are values, not form."""
    if structure is None or isinstance(structure, bool | str | Tensor):
        return None
    if isinstance(structure, dict | list | tuple):
        inside = structure.values() if isinstance(structure, dict) else structure
        return next(filter(None, map(_values, inside)), None)
    return f"the input holds a {type(structure).__name__} outside of tensors, which may be another in other inputs"


def _same(ours: Any, theirs: Any) -> bool:
    """Whether a trace gave what a run gives, up to rounding."""
    mine = {path: t.cell.real if isinstance(t, Traced) else t for path, t in tensors(ours).items()}
    others = tensors(theirs)
    return mine.keys() == others.keys() and all(close(tensor, others[path]) for path, tensor in mine.items())


# -- places on the tape ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Marks:
    """Some sites in one tensor, and which of its numbers each can change.

    index: the numbers of all the sites, one after another; owner: to which of the sites each belongs.
    """

    sites: tuple[Site, ...]
    shape: tuple[int, ...]
    index: Tensor
    owner: Tensor

    @classmethod
    def of(cls, sites: tuple[Site, ...], view: View) -> _Marks:
        """A site in other coordinates than the network's own can change every unit."""
        numbers = torch.arange(torch.Size(view.shape).numel()).reshape(view.shape)
        lenses = [s if s.featurizer == NEURONS else replace(s, featurizer=NEURONS, units=None) for s in sites]
        each = [lens.get(numbers).reshape(-1) for lens in lenses]
        owner = torch.arange(len(sites)).repeat_interleave(torch.tensor([len(part) for part in each]))
        return cls(sites, view.shape, torch.cat(each), owner)

    def touched(self, mask: Tensor | None) -> list[Site]:
        """The sites of which something is marked."""
        if mask is None:
            return []
        return [self.sites[owner] for owner in self.owner[mask.cpu().reshape(-1)[self.index]].unique().tolist()]

    def only(self, site: Site) -> Tensor:
        """A mask of one of the sites."""
        mask = torch.zeros(self.shape, dtype=torch.bool)
        mask.view(-1)[self.index[self.owner == self.sites.index(site)]] = True
        return mask


def _everything(views: Iterable[View]) -> Masks:
    """All that some tensors see is marked."""
    masks: Masks = {}
    for view in views:
        view.add(masks, torch.ones(view.shape, dtype=torch.bool))
    return masks


# -- reasons -------------------------------------------------------------------------------------------


def _unread(tape: Tape, number: int, site: Site, marks: dict[Step, _Marks]) -> str:
    """Why nothing in the output depends on a place."""
    masks: Masks = {}
    step = tape.steps[number]
    step.outputs[0].add(masks, marks[step].only(site))
    weights: dict[str, None] = {}
    others: dict[str, None] = {}
    for followed in tape.forward(masks, number + 1):
        weights |= dict.fromkeys(_cut(followed, Step.reached))
        if followed[0] in marks:
            others |= dict.fromkeys(map(str, marks[followed[0]].touched(followed[1][0])))
    if not weights:
        return "no path leads from it to the output"
    reason = f"every path to the output meets a weight that is exactly 0, in {_listed(list(weights), 'or')}"
    return reason + (f"; it reaches {_listed(list(others), 'and')}" if others else "")


def _unmoved(tape: Tape, number: int, site: Site, marks: dict[Step, _Marks]) -> str:
    """Why a place holds a constant."""
    masks: Masks = {}
    step = tape.steps[number]
    for view in step.inputs:
        view.add(masks, marks[step].only(site))
    weights: dict[str, None] = {}
    for followed in tape.backward(masks, number):
        weights |= dict.fromkeys(_cut(followed, Step.needed))
    if not weights:
        return "no path leads to it from the input"
    return f"every path from the input meets a weight that is exactly 0, in {_listed(list(weights), 'or')}"


def _cut(followed: Followed, follow: Any) -> tuple[str, ...]:
    """The names of the weights of a step, if fewer numbers depend on these than would if none were 0."""
    step, come_from, found = followed
    if not step.zeros:
        return ()
    without = follow(step, come_from, dense=True)
    fewer = any(bool((a != b).any()) for a, b in zip(found, without, strict=True))
    return (step.weights or ("a constant",)) if fewer else ()


def _listed(names: Sequence[str], word: str) -> str:
    shown = list(names) if len(names) <= MOST else [*names[: MOST - 1], f"{len(names) - MOST + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"
