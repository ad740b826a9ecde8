"""The model that a result was measured on, as far as it is still there, and still as it was."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .certificates import certified, constant
from .errors import WrongStore
from .grid import Group
from .identity import model_digest
from .network import Network
from .pairs import Pairs
from .quantities import SILENT, UNREACHED, Warned

FEW = 2_000_000
"""Models of at most so many weights are kept alive by their results, and certificates looked for by themselves."""


class Measurable:
    """A hold on a model, weak on a large one, and on the state it was in: it believes nothing that changed."""

    def __init__(self, model: Any) -> None:
        self._small = _weights(model) <= FEW
        self._model: Callable[[], Any] = (lambda: model) if self._small else weakref.ref(model)
        self.state = _state(model)

    def certificates(self, places: tuple[Group, ...], pairs: Pairs) -> tuple[Warned | None, ...]:
        """For each group why it cannot carry what varies in pairs to the output for any input; None if it may.

        Either nothing in the output depends on it, or it does not depend on what varies.
        """
        network = self._model()
        sites = list(dict.fromkeys(site for group in places for site in group))
        if not self._small or not _one_form(network, pairs) or _state(network) != self.state:
            return (None,) * len(places)
        silent = certified(network, sites)
        names = pairs.varies if set(pairs.varies) <= set(network.inputs) else ()
        still = constant(network, sites, of=names) if names else dict.fromkeys(sites)
        told: dict[Any, Warned | None] = {}
        for site in sites:
            if (one := silent[site]) is not None:
                told[site] = Warned(SILENT, f"No output depends on {site}: {one.reason}.")
            elif (one := still[site]) is not None:
                told[site] = Warned(UNREACHED, f"{site} does not depend on {' or '.join(names)}: {one.reason}.")
        return tuple(_joined([told.get(site) for site in group]) for group in places)

    def weights(self) -> str:
        """A hash of the model. Raises WrongStore where it is gone, or has changed since."""
        model = self._model()
        if model is None:
            raise WrongStore("The model that this was measured on is gone, so the result cannot name its weights.")
        if _state(model) != self.state:
            raise WrongStore("The model has changed since this was measured, so the result cannot name its weights.")
        return model_digest(model)


def _one_form(model: Any, pairs: Pairs) -> bool:
    """Whether all inputs are sure to have the form of the example, of which certificates are."""
    if not isinstance(model, Network) or model.inputs:
        return isinstance(model, Network)
    forms = [
        (x.shape[1:], x.dtype) if isinstance(x, Tensor) else None for x in (model.example, pairs.base, pairs.source)
    ]
    return forms[0] is not None and forms[0] == forms[1] == forms[2]


def _joined(several: list[Warned | None]) -> Warned | None:
    """One certificate for places that are written together: each needs its own."""
    known = [one for one in several if one is not None]
    if len(known) < len(several):
        return None
    return Warned(known[0].code, " ".join(known))


def _state(model: Any) -> tuple[Any, ...]:
    """What changes whenever a weight does: where each tensor is, and how often it was written to."""
    module = getattr(model, "module", None)
    if not isinstance(module, nn.Module):
        return ()
    tensors = (*module.parameters(), *module.buffers())
    return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)


def _weights(model: Any) -> int:
    module = getattr(model, "module", None)
    return sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else FEW + 1
