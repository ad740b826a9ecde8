"""What makes two measurements the same: every part of a question as a text that is equal only for the same part.

Equal in any process and on any device: nothing here depends on addresses, on the order of a set, or on where tensors
are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from numbers import Number
from types import CodeType, EllipsisType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checks import model_name
from .errors import WrongStore
from .featurizers import NEURONS
from .grid import Group
from .metrics import Metric, name_of
from .model import is_site
from .pairs import Pairs
from .structures import tensors

SEMANTICS = 1
"""Raised whenever the same question would get another answer, so that old answers are not taken for it."""

SCALARS = (bool, int, float, complex, str, bytes, type(None))
PLAIN = frozenset(SCALARS)


@dataclass(frozen=True)
class Question:
    """What is asked, part by part, and the key of it all."""

    parts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """SHA-256 over all the parts, as hexadecimal digits."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()


def question(
    model: Any, pairs: Pairs, groups: Sequence[Group], metric: Metric, key: str | None, *, asked: Any = None
) -> Question:
    """The question that a measurement answers.

    asked: which runs are made, with a text of its own.
    key: the user's own name for what cannot be told from another by looking at it, such as a lambda.
    Raises WrongStore where there is such a thing, and no key.
    """
    unknown: list[str] = []
    sites = [place for group in groups for place in group if is_site(place)]
    lenses = [place.featurizer for place in sites if place.featurizer != NEURONS]
    labels = (pairs.varies, pairs.tokens, pairs.source_tokens, pairs.swapped_targets)
    parts = {
        "model": model_name(model),
        "weights": _model(model, unknown),
        "inputs": _digest("inputs", *(told(_tokens(model, side), unknown) for side in (pairs.base, pairs.source))),
        "answers": told(pairs.answers, unknown),
        "targets": told(pairs.targets, unknown),
        "labels": told(labels, unknown),
        "pairs": len(pairs),
        "metric": spelled(metric),
        "parameters": told(metric, unknown) if key is None else "",
        "key": key,
        "places": [" + ".join(map(_place, group)) for group in groups],
        "intervention": "interchange" if asked is None else asked.told,
        **({} if getattr(asked, "pinned", None) is None else {"values": _values(asked.pinned, unknown)}),
        "lenses": told(lenses, unknown),
        "dtype": _precision(model),
        "semantics": SEMANTICS,
    }
    _refuse(unknown, key)
    return Question(parts)


def check_identity(model: Any, metric: Metric, key: str | None) -> None:
    """Raise WrongStore for a metric or mechanisms without a name of their own, where no key names them."""
    unknown: list[str] = []
    told(metric, unknown)
    if not _is_network(model):
        _model(model, unknown)
    _refuse(unknown, key)


def told(value: Any, unknown: list[str]) -> str:
    """SHA-256 of a value of any kind; what cannot be told from another of its kind is named in `unknown`."""
    kind = type(value)
    if kind in PLAIN:
        return _digest(kind.__name__, repr(value))
    if isinstance(value, Tensor):
        return _tensor(value, unknown)
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return _digest("array", value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
    if isinstance(value, Mapping):
        return _digest("mapping", *sorted(told(k, unknown) + told(v, unknown) for k, v in value.items()))
    if isinstance(value, Set):
        return _digest("set", *sorted(told(element, unknown) for element in value))
    if isinstance(value, list | tuple | np.ndarray):
        if all(type(element) in PLAIN for element in value):
            return _digest("list", repr(list(value)))
        return _digest("list", *(told(element, unknown) for element in value))
    return _object(value, unknown)


def _object(value: Any, unknown: list[str]) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Enum):
        return _digest("enum", kind, value.name)
    if isinstance(value, np.generic):
        return _digest("number", value.dtype.str, value.tobytes())
    if isinstance(value, range | slice | Number | EllipsisType):
        return _digest(kind, repr(value))
    if isinstance(value, FunctionType):
        return _function(value, unknown)
    if isinstance(value, partial):
        return _digest("partial", *(told(part, unknown) for part in (value.func, value.args, value.keywords)))
    if isinstance(value, nn.Module):
        return _module(value, unknown)
    if is_dataclass(value) and not isinstance(value, type) and "<" not in kind:
        code = _code(vars(type(value)).get("__call__"), unknown)
        return _digest(kind, code, *(told(getattr(value, field.name), unknown) for field in fields(value)))
    unknown.append(f"an object of {kind}")
    return ""


def spelled(metric: Metric) -> str:
    """A metric's name, with the parameters that can be written in a word."""
    if not is_dataclass(metric):
        return name_of(metric)
    given = [(field.name, getattr(metric, field.name)) for field in fields(metric)]
    return f"{name_of(metric)}({', '.join(f'{name}={value!r}' for name, value in given if type(value) in PLAIN)})"


# -- functions -------------------------------------------------------------------------------------


def _function(function: FunctionType, unknown: list[str]) -> str:
    """A function by its name, its defaults and what it does; one that holds values of its surroundings has no name."""
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" in function.__qualname__ or function.__closure__:
        unknown.append(f"the function {function.__qualname__}")
        return ""
    defaults = told((function.__defaults__, function.__kwdefaults__), unknown)
    return _digest("function", name, defaults, _code(function, unknown))


def _code(function: Any, unknown: list[str]) -> str:
    """What a function of the user's does; what ours do is told by SEMANTICS, and torch's stay as they are."""
    code = getattr(function, "__code__", None)
    ours = str(getattr(function, "__module__", "")).partition(".")[0] in (__name__.partition(".")[0], "torch")
    return "" if code is None or ours else _compiled(code, function.__doc__, unknown)


def _compiled(code: CodeType, said: str | None, unknown: list[str]) -> str:
    """Instructions, names and constants, but for the docstring, which is not done."""
    constants = [c for c in code.co_consts if said is None or c != said]
    held = [_compiled(c, None, unknown) if isinstance(c, CodeType) else told(c, unknown) for c in constants]
    return _digest("code", code.co_code, code.co_names, code.co_varnames, *held)


def model_digest(model: Any) -> str:
    """SHA-256 of a model: its weights and structure, or its variables and mechanisms as far as they have names."""
    return _model(model, [])


# -- models ----------------------------------------------------------------------------------------


def _is_network(model: Any) -> bool:
    return isinstance(getattr(model, "module", None), nn.Module)


def _model(model: Any, unknown: list[str]) -> str:
    """A network by its weights and structure, a causal model by its variables and mechanisms."""
    if _is_network(model):
        return _digest("network", told(getattr(model, "inputs", None), unknown), _module(model.module, unknown))
    if (variables := getattr(model, "variables", None)) is None:
        unknown.append(f"a model of {type(model).__qualname__}")
        return ""
    known = {
        name: (variable.parents, variable.domain, variable.open, variable.vectorised, variable.mechanism)
        for name, variable in variables.items()
    }
    return told(known, unknown)


def _module(module: nn.Module, unknown: list[str]) -> str:
    """All tensors of its state, and of every part its class, options, plain numbers and what its forward does."""
    lines = []
    for path, part in module.named_modules():
        plain = {
            name: value
            for name, value in vars(part).items()
            if type(value) in PLAIN and name != "training" and not name.startswith("_")
        }
        extra = re.sub(r" at 0x[0-9a-f]+", "", part.extra_repr())
        kind, code = type(part), _code(type(part).forward, unknown)
        lines.append(_digest(path, kind.__module__, kind.__qualname__, extra, told(plain, unknown), code))
    held = dict((*module.named_parameters(), *module.named_buffers()))
    seen = {tensor.data_ptr() for tensor in held.values()}  # one tensor may have several names
    state = tensors(dict(module.state_dict())).items()
    held |= {name: tensor for name, tensor in state if name not in held and tensor.data_ptr() not in seen}
    for name, tensor in held.items():  # quantised layers keep scales, or all their weights, in their state alone
        lines.append(_digest(name, _tensor(tensor, unknown)))
    return _digest("module", *lines)


def _tensor(tensor: Tensor, unknown: list[str]) -> str:
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized:
        unknown.append(f"a tensor {tuple(tensor.shape)} whose values are not in memory as they are")
        return ""
    held = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    return _digest("tensor", str(tensor.dtype), tuple(tensor.shape), held.numpy().data)


def _precision(model: Any) -> str:
    if not _is_network(model):
        return "Python"
    kinds = sorted({str(p.dtype) for p in model.module.parameters()})
    cast = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
    return ", ".join(kinds) + (f", cast to {torch.get_autocast_dtype(cast[0])}" if cast else "")


# -- small things ----------------------------------------------------------------------------------


def _tokens(model: Any, inputs: Any) -> Any:
    """Inputs as the model gets them: texts as the token ids they become."""
    if not isinstance(inputs, list | tuple):
        return inputs
    texts = getattr(model, "tokenizer", None) is not None
    ids = [model.token_ids(text) if texts and isinstance(text, str) else text for text in inputs]
    parts = [dict(getattr(text, "parts", {})) for text in inputs]
    return [ids, parts] if any(parts) else ids


def _values(pinned: Sequence[Mapping[Any, Any]], unknown: list[str]) -> str:
    return told([[(_place(place), value) for place, value in values.items()] for values in pinned], unknown)


def _place(place: Any) -> str:
    return str(place.spelling if is_site(place) else place)


def _refuse(unknown: list[str], key: str | None) -> None:
    if unknown and key is None:
        raise WrongStore(
            f"What is measured here cannot be told from something else in a later session, because of {unknown[0]}"
            + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else "")
            + ". Give it a name at the top of a module, or name the whole measurement: key='...', another one whenever "
            "you change it."
        )


def _digest(*parts: Any) -> str:
    sha = hashlib.sha256()
    for part in parts:
        piece = part if isinstance(part, bytes | memoryview) else str(part).encode("utf-8", "surrogatepass")
        sha.update(f"{len(piece)}:".encode())
        sha.update(piece)
    return sha.hexdigest()
