"""Interventions: frozen values that turn the old value of a place into a new one.

Any function old -> new is an intervention; these are the ones that have names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from .errors import BadIntervention, WrongShape


@dataclass(frozen=True, eq=False)
class Set:
    """new = value. A number fills the place; anything else has the place's own shape.

    broadcast: let a tensor of smaller shape be repeated by torch's broadcasting rules.
    Raises WrongShape if a tensor does not fit.
    """

    value: Any
    broadcast: bool = False

    def __call__(self, old: Any) -> Any:
        if not isinstance(old, Tensor):
            return self.value
        value = _operand(self.value, old, self.broadcast)
        return value.expand_as(old) if isinstance(value, Tensor) else _filled(value, old)


@dataclass(frozen=True, eq=False)
class Add:
    """new = old + value. Raises WrongShape if a tensor does not fit and `broadcast` is off."""

    value: Any
    broadcast: bool = False

    def __call__(self, old: Any) -> Any:
        return old + _operand(self.value, old, self.broadcast)


@dataclass(frozen=True, eq=False)
class Scale:
    """new = factor * old; `Scale(0)` is zero ablation. Raises WrongShape as `Add` does."""

    factor: Any
    broadcast: bool = False

    def __call__(self, old: Any) -> Any:
        return old * _operand(self.factor, old, self.broadcast)


@dataclass(frozen=True)
class Noise:
    """new = old + Gaussian noise of standard deviation `std`, in the units of the place.

    seed: the same seed gives the same noise for the same shape; the global random state is not touched.
    """

    std: float
    seed: int = 0

    def __call__(self, old: Tensor) -> Tensor:
        if not isinstance(old, Tensor):
            raise BadIntervention(f"Noise is for tensors; {old!r} is {type(old).__name__}.")
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(old.shape, generator=generator, dtype=torch.float64)
        return old + (self.std * noise).to(old)


@dataclass(frozen=True)
class Chain:
    """Interventions one after another: new = last(... first(old)).

    >>> Chain(Scale(2), Add(1))(torch.tensor([1.0, 5.0]))
    tensor([ 3., 11.])
    """

    steps: tuple[Callable[[Any], Any], ...]

    def __init__(self, *steps: Any) -> None:
        object.__setattr__(self, "steps", tuple(as_intervention(step) for step in steps))

    def __call__(self, old: Any) -> Any:
        for step in self.steps:
            old = intervene(step, old)
        return old


def as_intervention(value: Any) -> Callable[[Any], Any]:
    """The intervention that a value stands for: itself if it can be called, otherwise `Set(value)`."""
    return value if callable(value) else Set(value)


def intervene(intervention: Callable[[Any], Any], old: Any) -> Any:
    """The new value.

    Raises BadIntervention if the intervention returns None, which a forgotten `return` does.
    """
    new = intervention(old)
    if new is None and not isinstance(intervention, Set):
        raise BadIntervention(
            f"{intervention!r} returned None. An intervention is a function old -> new: does it lack a `return`?"
        )
    return new


def fitting(new: Tensor, old: Tensor, where: object) -> Tensor:
    """A new value in the precision of the old one. Raises BadIntervention where more than rounding would be lost."""
    floating = old.is_floating_point() or old.is_complex()
    if new.dtype == old.dtype:
        return new.to(old)
    if new.is_complex() and not old.is_complex():
        raise BadIntervention(f"{where} holds real numbers ({old.dtype}); the intervention makes complex ones of them.")
    cast = new.to(old)
    if floating and bool((cast.isfinite() != new.isfinite().to(cast.device)).any()):
        raise BadIntervention(f"{where} holds {old.dtype}; the intervention makes numbers that are too large for it.")
    if not floating and bool((cast.to(new) != new).any()):
        raise BadIntervention(
            f"{where} holds whole numbers ({old.dtype}); the intervention makes others of them, such as fractions."
        )
    return cast


def _filled(number: Any, old: Tensor) -> Tensor:
    """A tensor of the shape of `old` that holds one number, unrounded where `old` has whole ones: `fitting` decides."""
    if not old.is_floating_point() or isinstance(number, complex):
        return torch.full(old.shape, number, device=old.device)
    if abs(number) > torch.finfo(old.dtype).max and abs(number) != float("inf"):
        raise BadIntervention(f"{number!r} is too large for {old.dtype}.")
    return torch.full_like(old, number)


def _operand(value: Any, old: Any, broadcast: bool) -> Any:
    """`value` ready to meet `old`: numbers as they are, everything else as a tensor of its shape."""
    if not isinstance(old, Tensor) or isinstance(value, Number):
        return value
    try:
        tensor = torch.as_tensor(value)
        tensor = tensor.to(old if old.is_floating_point() and not tensor.is_complex() else old.device)
    except (TypeError, ValueError, RuntimeError):
        raise BadIntervention(
            f"{value!r} is no value for a tensor. Give a number, or a tensor of the place's shape."
        ) from None
    if tensor.shape != old.shape and not broadcast:
        raise WrongShape(f"cannot write a value of shape {tuple(tensor.shape)} over one of shape {tuple(old.shape)}")
    return tensor
