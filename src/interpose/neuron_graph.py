"""The neurons of a small feed-forward network as the variables of a causal model.

A unit's mechanism is the network itself, run with the layers that the unit is computed from set to given values. Which
layers these are is what autograd sees when every earlier layer is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .causal_model import CausalModel, Variable
from .errors import WrongInput
from .model import Run
from .sites import Site

OUTPUT = Site("", name="output")


def neuron_graph(network: Any, layers: Sequence[Site]) -> CausalModel:
    """A causal model of the network's named inputs and the units of `layers`, in causal order.

    What the module returns is a further stage where it is not just the last layer.
    Raises WrongInput where inputs have no names, layers do not hold [example, unit], or a unit's value does not follow
    from the layers before it.
    """
    if not network.inputs:
        raise WrongInput("The variables of the inputs need names: Network(module, inputs=('A', 'B', ...)).")
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=torch.float64).repeat_interleave(16)[:, None]
    probe = network.numbers(scales * torch.randn(64, len(network.inputs), generator=generator, dtype=torch.float64))
    with torch.no_grad():
        run = network.run(probe, read=layers)
    for layer in layers:
        if run[layer].ndim != 2:
            raise WrongInput(
                f"{layer} holds {tuple(run[layer].shape)}, not [example, unit], so its units are no variables."
            )
    stages = list(layers) if _is_output(run, layers[-1]) else [*layers, OUTPUT]
    variables = {name: Variable() for name in network.inputs}
    names: dict[Site, list[str]] = {}
    for k, stage in enumerate(stages):
        inputs, before = _parents(network, stage, stages[:k], probe, run)
        names[stage] = _unit_names(network, stage, run)
        parents = [*(network.inputs if inputs else ()), *(name for site in before for name in names[site])]
        source = Stage(network, stage, tuple(before), tuple(len(names[site]) for site in before), inputs)
        for unit, name in enumerate(names[stage]):
            variables[name] = Variable(Unit(source, unit), parents=parents, vectorised=bool(parents))
    model = CausalModel(variables)
    _check_same(
        model,
        network.inputs,
        probe,
        {name: _value(run, site)[:, u] for site in stages for u, name in enumerate(names[site])},
    )
    return model


@dataclass(frozen=True)
class Stage:
    """Where the units of a layer come from: the network's inputs or not, and the earlier layers that are set."""

    network: Any
    site: Site
    before: tuple[Site, ...]
    widths: tuple[int, ...]
    inputs: bool

    def values(self, rows: Tensor) -> Tensor:
        """[row, parent] -> [row, unit], in the gradient mode that holds outside."""
        blocks = list(rows.split([len(self.network.inputs)] * self.inputs + list(self.widths), dim=-1))
        inputs = blocks.pop(0) if self.inputs else torch.zeros(len(rows), len(self.network.inputs))
        run = self.network.run(inputs, read=[self.site], write=dict(zip(self.before, blocks, strict=True)))
        return _value(run, self.site)


@dataclass(frozen=True)
class Unit:
    """The mechanism of one unit of a layer, on numbers or on columns of them."""

    stage: Stage
    unit: int

    def __call__(self, *values: Any) -> Any:
        """The unit's value, given those of its parents."""
        single = not any(isinstance(value, np.ndarray | Tensor | list) for value in values)
        columns = torch.broadcast_tensors(*(torch.as_tensor(value, dtype=torch.float64) for value in values))
        rows = torch.stack(columns, -1).reshape(-1, len(values)) if values else torch.zeros(1, 0)
        with torch.no_grad():
            column = self.stage.values(rows)[:, self.unit]
        return column.item() if single else column


def _value(run: Run[Site], stage: Site) -> Tensor:
    """[example, unit]"""
    return run.output.reshape(len(run.output), -1) if stage is OUTPUT else run[stage]


def _is_output(run: Run[Site], layer: Site) -> bool:
    last = run[layer]
    if not isinstance(run.output, Tensor) or len(run.output) != len(last):
        raise WrongInput(f"The network returns {type(run.output).__name__}, not a tensor [example, ...] of numbers.")
    return run.output.numel() == last.numel() and torch.equal(run.output.reshape(last.shape), last)


def _unit_names(network: Any, stage: Site, run: Run[Site]) -> list[str]:
    width = _value(run, stage).shape[1]
    if stage is OUTPUT:
        return ["output"] if width == 1 else [f"output[{unit}]" for unit in range(width)]
    return [str(network.place(replace(stage, units=unit, name=None))) for unit in range(width)]


def _parents(
    network: Any, stage: Site, earlier: Sequence[Site], probe: Tensor, run: Run[Site]
) -> tuple[bool, list[Site]]:
    """Whether the inputs, and which earlier stages, reach this one directly: by gradients, or where these see nothing
    (a threshold, a choice between branches), by putting other rows' values there.
    """
    with torch.enable_grad():
        inputs = probe.clone().requires_grad_()
        set_to = {site: run[site].clone().requires_grad_() for site in earlier}
        total = _value(network.run(inputs, read=[stage], write=set_to), stage).sum()
        leaves = [inputs, *set_to.values()]
        grads = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
    with torch.no_grad():
        plain = _value(network.run(probe, read=[stage], write=set_to), stage)
        moved = [_value(network.run(probe.flip(0), read=[stage], write=set_to), stage)]
        for site in earlier:
            moved.append(_value(network.run(probe, read=[stage], write={**set_to, site: run[site].flip(0)}), stage))
    reached = [grad is not None or not torch.equal(value, plain) for grad, value in zip(grads, moved, strict=True)]
    return reached[0], [site for site, reaches in zip(earlier, reached[1:], strict=True) if reaches]


def _check_same(model: CausalModel, inputs: Sequence[str], probe: Tensor, activations: dict[str, Tensor]) -> None:
    values = model.run(dict(zip(inputs, probe.unbind(-1), strict=True))).values
    for name, activation in activations.items():
        if not torch.allclose(torch.as_tensor(values[name]).to(activation), activation, rtol=1e-4, atol=1e-5):
            raise WrongInput(
                f"{name} depends on something beside the layers given, {', '.join(activations)}. Name every layer "
                "that it is computed from, in causal order: net.as_causal_model('first', 'second', ...)."
            )
