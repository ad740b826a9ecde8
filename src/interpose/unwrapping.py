"""What other libraries wrap a module in: it is taken out, and used as it is."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn

from .errors import WrongInput
from .structures import close, tensors
from .units import at_rest, device_of

WRAPPERS = {"nnsight": "_module", "transformer_lens": "original_model", "transformers": "model"}
"""Where libraries keep the module that they wrap."""

INSIDE = "_original_component"
"""Where a part that TransformerLens put in place of another keeps that other one."""

ITSELF = "Give the Hugging Face model itself, loaded anew."


def unwrapped(given: Any) -> tuple[nn.Module, Any]:
    """The module in what was given, and the tokenizer beside it or None.

    A module, an nnsight `NNsight` or `LanguageModel`, a TransformerLens bridge, or a pipeline of transformers.
    A bridge changes the model in it part by part: what is given back is the model with its own parts, which hold the
    same parameters, once its logits are seen to be those of the bridge. What switches it to training or evaluation
    later should be called on this one.
    Raises WrongInput for anything else.
    """
    library = _library(given)
    inside = getattr(given, WRAPPERS[library], None) if library in WRAPPERS else None
    pipeline = library == "transformers" and not isinstance(given, nn.Module)
    wrapped = isinstance(inside, nn.Module) and (library != "transformers" or pipeline)
    module = inside if wrapped else given
    if not isinstance(module, nn.Module):
        raise WrongInput(
            f"A Network wraps a torch.nn.Module, not {type(given).__name__}. What nnsight, TransformerLens or a "
            "pipeline of transformers makes of a module may be given too."
        )
    return _with_own_parts(module, given), getattr(given, "tokenizer", None) if wrapped else None


def _library(thing: Any) -> str:
    return type(thing).__module__.partition(".")[0]


def _with_own_parts(module: nn.Module, given: Any) -> nn.Module:
    """The module without what TransformerLens put in place of its parts; the module itself where there is nothing.

    Raises WrongInput where hooks would be lost, or where other logits come out.
    """
    if not any(_replaced(part) for part in module.modules()):
        return module
    name = type(module).__name__
    whole = given if isinstance(given, nn.Module) else module
    hooked = [point for part in whole.modules() if (point := _hooked(part)) is not None]
    if hooked:
        raise WrongInput(
            f"There are hooks on the TransformerLens bridge, at {hooked[0]!r}, which would not run. Take them off with "
            "reset_hooks(including_permanent=True), and write with interventions."
        )
    found = _restored(module, {})
    trial = getattr(module, "dummy_inputs", None) if getattr(module, "main_input_name", "") == "input_ids" else None
    if trial is None:
        raise WrongInput(
            f"TransformerLens changed {name} part by part, and whether it gives the same without that shows only for "
            f"models of token ids. {ITSELF}"
        )
    trial = {key: value.to(device_of(module)) for key, value in trial.items()}
    with at_rest(module), at_rest(found), torch.no_grad():
        ours, theirs = (next(iter(tensors(one(**trial)).values())) for one in (found, module))
    if not close(ours, theirs):
        apart = f"by up to {float((ours - theirs).abs().max()):.2g}" if ours.shape == theirs.shape else "of other shape"
        raise WrongInput(
            f"The TransformerLens bridge gives other values than {name} in it, {apart}: weights of the bridge's own "
            f"were changed, or it computes otherwise. {ITSELF}"
        )
    return found


def _replaced(part: nn.Module) -> nn.Module | None:
    """What a part that TransformerLens put there stands for; None for all other modules."""
    return part._modules.get(INSIDE) if _library(part) == "transformer_lens" else None


def _hooked(part: Any) -> str | None:
    """What TransformerLens calls a point where somebody put a hook; None for all other modules."""
    return part.name if hasattr(part, "has_hooks") and part.has_hooks() else None


def _restored(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    """A module with its own parts; what holds none that were replaced is itself, what does is a copy by reference.

    known: what was found for each module so far.
    """
    if module not in known:
        inside = _replaced(module)
        known[module] = _with_parts(module, known) if inside is None else _restored(inside, known)
    return known[module]


def _with_parts(module: nn.Module, known: dict[nn.Module, nn.Module]) -> nn.Module:
    parts = {name: None if part is None else _restored(part, known) for name, part in module._modules.items()}
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    again = object.__new__(type(module))
    bound = {
        name: MethodType(value.__func__, again)
        for name, value in vars(module).items()
        if isinstance(value, MethodType) and value.__self__ is module
    }
    if "forward" in vars(module) and "forward" not in bound:
        raise WrongInput(
            f"TransformerLens changed {type(module).__name__}, and something else runs in place of its forward, which "
            f"would run it as it was changed. {ITSELF}"
        )
    vars(again).update({**vars(module), **bound, "_modules": parts})
    return again
