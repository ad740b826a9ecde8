"""What other libraries wrap a module in: it is taken out, and used as it is."""

from __future__ import annotations

from typing import Any

from torch import nn

from .errors import WrongInput

WRAPPERS = {"nnsight": "_module", "transformer_lens": "original_model", "transformers": "model"}
"""Where libraries keep the module that they wrap."""


def unwrapped(given: Any) -> tuple[nn.Module, Any]:
    """The module in what was given, and the tokenizer beside it or None.

    A module, an nnsight `NNsight` or `LanguageModel`, a TransformerLens bridge, or a pipeline of transformers.
    Raises WrongInput for anything else.
    """
    library = type(given).__module__.partition(".")[0]
    inside = getattr(given, WRAPPERS[library], None) if library in WRAPPERS else None
    pipeline = library == "transformers" and not isinstance(given, nn.Module)
    if isinstance(inside, nn.Module) and (library != "transformers" or pipeline):
        return inside, getattr(given, "tokenizer", None)
    if isinstance(given, nn.Module):
        return given, None
    raise WrongInput(
        f"A Network wraps a torch.nn.Module, not {type(given).__name__}. What nnsight, TransformerLens or a pipeline "
        "of transformers makes of a module may be given too."
    )
