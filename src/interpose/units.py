"""What modules say of themselves: how many units they have, on which axis, and whether they can be looked into."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .errors import WrongInput

POOLS = (
    (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d),
    (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
)
CHANNELS: dict[int, tuple[type[nn.Module], ...]] = {
    -2: (nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d, *POOLS[0]),
    -3: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, *POOLS[1]),
    -4: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d, *POOLS[2]),
}
"""Where the units of a convolution are: its channel axis."""

WIDTHS = {
    "input": ("in_features", "in_channels", "num_features", "nx"),
    "output": ("out_features", "out_channels", "num_features", "embedding_dim", "nf"),
}
"""What modules call their number of units; nx and nf are those of GPT-2's linear layers."""


def channel_axis(module: nn.Module) -> int | None:
    """The axis of the units of a convolution, or of a module that follows one by its type; None elsewhere."""
    return next((axis for axis, kinds in CHANNELS.items() if isinstance(module, kinds)), None)


def declared_width(module: nn.Module, end: str) -> int | None:
    """How many units a module says it takes or gives; None for containers, and where the axis of units is not clear."""
    if isinstance(module, nn.LayerNorm):
        return int(module.normalized_shape[-1])
    if not is_leaf(module) or isinstance(module, nn.BatchNorm1d | nn.InstanceNorm1d | nn.RNNBase):
        return None
    widths = [getattr(module, name) for name in WIDTHS[end] if isinstance(getattr(module, name, None), int)]
    return widths[0] if widths else None


def is_leaf(module: nn.Module) -> bool:
    """Whether a module holds no others; what its weights are parametrised with, or packed in, does not count."""
    return all(name in ("parametrizations", "_packed_params") for name, _ in module.named_children())


def is_holder(module: nn.Module) -> bool:
    """Whether a module only holds others, or parameters, and is never called."""
    return isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict)


def is_layer(module: nn.Module) -> bool:
    """Whether a module holds parameters and no other modules; or weights that are none, as quantised layers do."""
    weights = _is_linear(module) or any(True for _ in module.parameters())
    return is_leaf(module) and not is_holder(module) and weights


def device_of(module: nn.Module) -> torch.device:
    """Where a module takes its inputs: at its first weights, or where what offloads these runs it."""
    for part in module.modules():
        if (where := getattr(getattr(part, "_hf_hook", None), "execution_device", None)) is not None:
            return torch.device(where)
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def is_neural(module: nn.Module) -> bool:
    """Whether a layer computes each unit from several: it holds a weight of two axes or more, and is no lookup."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return False
    return _is_linear(module) or any(p.ndim > 1 for p in module.parameters())


def _is_linear(module: nn.Module) -> bool:
    """Whether a module says, as linear layers do, how many units it makes of how many, whatever its weights are."""
    widths = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return all(isinstance(width, int) for width in widths)


def unsteady(module: nn.Module) -> str | None:
    """Why a module's output depends on other rows or on chance in the mode it is in, or None."""
    if not module.training:
        return None
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "its output depends on the whole batch, and every run changes its running statistics"
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
        return "every run changes its running statistics"
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return "its output is random"
    return None


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode and torch's random state kept, for a run that only looks. Both restored afterwards.

    In training mode a run of an example would change running statistics, and draw random numbers.
    """
    modes = {part: part.training for part in module.modules()}
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            for part in modes:
                part.training = False
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def refuse_uninspectable(module: nn.Module) -> None:
    """Raise WrongInput for parts that do not run the hooks that read and write."""
    for path, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, torch.jit.ScriptModule | nn.DataParallel) or kind == "OptimizedModule":
            raise WrongInput(
                f"{path or 'The module'!r} is a {kind}: compiled, scripted or replicated modules do not run the hooks "
                "that read and write. Pass the module it was made from."
            )
    held = [path for path, parameter in module.named_parameters() if parameter.is_meta]
    if held and not any(hasattr(part, "_hf_hook") for part in module.modules()):  # which fetches weights when they run
        raise WrongInput(
            f"{held[0]!r} is on the meta device: it has a shape and no values, so that nothing can be run. Load "
            "weights into the module first."
        )


def refuse_recomputed(where: object) -> None:
    """Raise WrongInput if the code that runs is called by torch's activation checkpointing."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            raise WrongInput(
                f"{where} runs under activation checkpointing: backward would compute it again, without the write. "
                "Switch checkpointing off, or run under torch.no_grad()."
            )
        frame = frame.f_back


@contextmanager
def plain_tensors() -> Iterator[None]:
    """No gradients, and tensors that count how often they are changed in place, also where inference mode is on."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """torch's fused transformer layers switched off: they bypass the modules inside them. Restored afterwards."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
