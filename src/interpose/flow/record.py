"""The trace of one run of a network, and the places that it comes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..sites import Site
from ..structures import choose, exchange, mapped, tensors
from ..taps import Taps, call
from ..windows import opened
from .state import Kept
from .trace import Trace, Traced


class Marks(Taps):
    """Where a trace comes by some places.

    apart: whether what is there is taken for unknown. left_out: places at which nothing is done.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        modules: Mapping[str, nn.Module],
        trace: Trace,
        apart: bool,
        left_out: frozenset[Site],
    ) -> None:
        super().__init__(sites, modules)
        self.trace, self.apart, self.left_out = trace, apart, left_out

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """The structure with tensors that are set apart."""
        at: dict[str, list[Site]] = {}
        for site in here:
            at.setdefault(choose(structure, site.leaf, owner)[0], []).append(site)
        for leaf, sites in at.items():
            if self.left_out.isdisjoint(sites):
                tensor = self.trace.come_by(tensors(structure)[leaf], sites, apart=self.apart)
                structure = exchange(structure, leaf, tensor) if self.apart else structure
        return structure


def record(
    network: Any,
    args: Any,
    kwargs: Any,
    sites: Sequence[Site],
    *,
    apart: bool,
    left_out: frozenset[Site] = frozenset(),
) -> Trace:
    """The trace of one run of a network, which holds its output, or the reason why it says nothing of other inputs.

    args, kwargs: how the module is called; what tensors there are in them is not known. sites: the places it comes by;
    apart: whether these are taken for unknown, other than in a plain run, but for those that are `left_out`.
    """
    names = {
        id(t): name for named in (network.module.named_parameters, network.module.named_buffers) for name, t in named()
    }
    trace = Trace(names)
    try:
        with trace.following():
            given, named = mapped((args, kwargs), lambda _, tensor: trace.give(tensor))
            with opened(network.modules[site.path] for site in sites):
                output = call(network.module, given, named, Marks(sites, network.modules, trace, apart, left_out))
            trace.output = network.outcome(output)
        found = Kept(trace.output)
        if found.opaque:
            trace.note(f"the output holds {found.opaque}")
        trace.tape.outcome += [
            trace.cell(t).view for t in found.tensors if isinstance(t, Traced) and not t.cell.store.known
        ]
    except Exception as failure:  # noqa: BLE001 - the plain run went well, so that it is the trace that does not
        trace.note(f"{type(failure).__name__}: {failure}")
    return trace
