"""Only the outputs that a metric reads: two logits of a vocabulary, not all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .skip import is_linear


@dataclass(frozen=True)
class Readout:
    """The last layer, the units of it that are read for each example, and the metric of these units alone.

    columns: [example, unit]; the metric's pairs number the units as they stand there.
    """

    path: str
    layer: nn.Linear
    columns: Tensor
    metric: Any

    def stand_in(self, index: Tensor) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """What to call in place of the layer for rows that belong to these examples: [row, ..., unit]."""
        layer, wanted = self.layer, self.columns.index_select(0, index).to(self.layer.weight.device)

        def read(x: Tensor) -> Tensor:
            weight = layer.weight.index_select(0, wanted.reshape(-1)).reshape(*wanted.shape, -1)
            units = torch.bmm(x.reshape(len(x), -1, x.shape[-1]), weight.transpose(1, 2))
            if layer.bias is not None:
                units = units + layer.bias[wanted][:, None]
            return units.reshape(*x.shape[:-1], wanted.shape[1])

        return {self.path: read}


def readout_of(modules: Mapping[str, nn.Module], path: str | None, metric: Any) -> Readout | None:
    """The readout of a metric that says which units it reads, where the layer that computes them is a linear one."""
    part = getattr(getattr(metric, "metric", None), "columns", None)
    layer = modules.get(path) if path is not None else None
    if part is None or path is None or not isinstance(layer, nn.Linear) or not is_linear(layer):
        return None
    if layer._forward_hooks or layer._forward_pre_hooks:
        return None
    columns: Tensor = getattr(metric.pairs, part)
    if not len(columns) or int(columns.max()) >= layer.out_features:
        return None
    renamed = torch.arange(columns.shape[1]).expand(columns.shape)
    return Readout(path, layer, columns, replace(metric, pairs=replace(metric.pairs, **{part: renamed})))
