"""Pairs drawn from the domains of a causal model, in which chosen variables differ and nothing else does."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

from .errors import Unsatisfiable, WrongInput

MOST_ENUMERATED = 1_000_000


def varied(model: Any, names: tuple[str, ...], n: int | None, seed: int | random.Random) -> dict[str, Any]:
    """The parts of `Pairs.varying`, which says what they are and what is refused."""
    if not hasattr(model, "settings"):
        raise WrongInput(
            f"Pairs are drawn from the domains of a causal model, and {type(model).__name__} has none. Give a "
            "CausalModel, or Pairs(base, source)."
        )
    if not names:
        raise WrongInput("Pairs.varying needs the name of at least one input variable: which one should vary?")
    if twice := [name for name in names if names.count(name) > 1]:
        raise WrongInput(f"{twice[0]} is named twice. Name each variable that should vary once.")
    if n is not None and n < 0:
        raise WrongInput(f"n={n}: there is no sample of so many. n=None enumerates all pairs.")
    others = {name: _others(model, name) for name in names}
    if n is None:
        domains = [tuple(model.domain(name)) for name in model.inputs]
        _check_countable(domains + list(others.values()), "n=50, say, draws a sample")
        base, source = [], []
        for setting in model.settings():
            for values in itertools.product(*(others[name](setting[name]) for name in names)):
                base.append(setting)
                source.append({**setting, **dict(zip(names, values, strict=True))})
    else:
        rng = seed if isinstance(seed, random.Random) else random.Random(seed)
        base, source = [], []
        for _ in range(n):
            (setting,) = model.sample(1, seed=rng)
            base.append(setting)
            source.append({**setting, **{name: rng.choice(others[name](setting[name])) for name in names}})
    return {
        "base": base,
        "source": source,
        "varies": names,
        "targets": model.run(source).output if base else [],
        "swapped_targets": model.run(base).output if base else [],
        "exhaustive": n is None,
        "independent": n is not None,
    }


def _others(model: Any, name: str) -> Any:
    """The function from a value of input `name` to the values that differ from it, in the domain's order."""
    domain = tuple(model.domain(name))
    if len(domain) < 2:
        raise Unsatisfiable(f"{name} cannot vary: its domain is {list(domain)}.")
    table = {value: tuple(other for other in domain if other != value) for value in domain}
    return table.__getitem__


def _check_countable(parts: Sequence[Any], instead: str) -> None:
    size = math.prod(len(part) if isinstance(part, tuple) else 1 for part in parts)
    if size > MOST_ENUMERATED:
        raise Unsatisfiable(
            f"There are {size:,} settings, too many to enumerate (at most {MOST_ENUMERATED:,}): {instead}."
        )
