"""Results on disk: one file with every value of every pair, and the hash of the weights they were measured on."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from .errors import WrongInput, WrongStore
from .featurizers import NEURONS
from .identity import model_digest
from .maps import Scan, Scans
from .model import Work
from .named import Prompt, Tokens
from .origin import Measurable
from .pairs import Pairs
from .portable import packed, read, unpacked, write
from .quantities import Pinned, Shuffled, Warned
from .results import Effects
from .sites import Site

FORMAT = 1
KINDS = (Effects, Scan, Scans, Pairs, Site, Work, Pinned, Shuffled)
"""What a file is made of, beside plain values."""

Result = TypeVar("Result", Effects, Scan, Scans)


def save(result: Effects | Scans, path: str | os.PathLike[str]) -> Path:
    """Write a result to one file, with all its pairs and a hash of the weights as they were when it was measured.

    Raises WrongInput for another kind of result, and WrongStore where the model is gone or has changed since, or where
    inputs have no form on disk.
    """
    if not isinstance(result, Effects | Scans):
        raise WrongInput(
            f"{type(result).__name__} has no form on disk: a file is of Effects, a Scan or Scans. Keep the numbers and "
            "the table of this result."
        )
    first = next(iter(result.values())) if isinstance(result, Scans) else result
    if first.origin is None:
        raise WrongStore(
            "This result does not know the model it was measured on: load it with its model, and save that."
        )
    arrays: dict[str, torch.Tensor] = {}
    told = {"format": FORMAT, "weights": first.origin.weights(), "result": packed(_complete(result), arrays, _plain)}
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, told, arrays)
    return target


def load(path: str | os.PathLike[str], *, model: Any = None) -> Any:
    """A result that was saved: Effects, a Scan or Scans.

    model: the model it was measured on, if it is at hand; refused with WrongStore if its weights are others.
    """
    told, arrays = read(Path(path))
    if told.get("format") != FORMAT:
        raise WrongStore(f"{str(path)!r} is of format {told.get('format')}, and this version reads {FORMAT}.")
    if model is not None and model_digest(model) != told["weights"]:
        raise WrongStore(
            f"{str(path)!r} was measured on other weights, or another structure, than this model's. Measure again, or "
            "load it without a model."
        )
    makers = {kind.__name__: _maker(kind) for kind in KINDS}
    makers |= {"Warned": lambda parts: Warned(*parts), "frozenset": frozenset}
    makers |= {
        "Prompt": lambda parts: Prompt.marked(parts[0], parts[1], special=parts[2]),
        "Tokens": lambda parts: Tokens(*parts),
    }
    result = unpacked(told["result"], arrays, makers)
    return result if model is None else _at(result, Measurable(model))


def weights_of(path: str | os.PathLike[str]) -> str:
    """The hash of the weights that a saved result was measured on."""
    told, _ = read(Path(path))
    return str(told["weights"])


def _at(result: Any, origin: Measurable) -> Any:
    if isinstance(result, Scans):
        return Scans({name: replace(scan, origin=origin) for name, scan in result.items()})
    return replace(result, origin=origin)


def _complete(result: Any) -> Any:
    """A result with its certificates, and those of the results in it."""
    if isinstance(result, Scans):
        return Scans({name: _complete(scan) for name, scan in result.items()})
    more = {"confirmed": _complete(result.confirmed)} if isinstance(result, Scan) and result.confirmed else {}
    return replace(result, known=result.certificates, **more)


def _plain(value: Any) -> tuple[str, Any] | None:
    """A value of ours as the name of its kind and its parts; None for what is not ours."""
    if isinstance(value, Warned):
        return "Warned", (value.code, str(value))
    if isinstance(value, frozenset):
        return "frozenset", sorted(value)
    if isinstance(value, Prompt):
        return "Prompt", [str(value), dict(value.parts), value.special]
    if isinstance(value, Tokens):
        return "Tokens", [list(value), value.parts]
    if type(value) not in KINDS:
        return None
    if isinstance(value, Site) and value.featurizer != NEURONS:
        raise WrongStore(f"{value} is in other coordinates, {value.featurizer!r}, which have no form on disk yet.")
    left_out = {"origin", "featurizer"}
    return type(value).__name__, {
        field.name: getattr(value, field.name) for field in fields(value) if field.name not in left_out
    }


def _maker(kind: Any) -> Any:
    def made(parts: dict[str, Any]) -> Any:
        return kind(**parts)

    return made
