"""Featurizers: the coordinates in which a site's units are counted.

`encode` splits an activation into features and a remainder; `decode` puts them together again. The law every
featurizer obeys: decode(*encode(x)) is x, also for featurizers that keep only some of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Featurizer(Protocol):
    """A change of coordinates of the last axis, with what it leaves out carried over."""

    def encode(self, activation: Tensor) -> tuple[Tensor, Any]:
        """[..., units] -> features [..., features] and a remainder."""
        ...

    def decode(self, features: Tensor, remainder: Any) -> Tensor:
        """Features [..., features] and the remainder of `encode` -> [..., units]."""
        ...


@dataclass(frozen=True)
class Neurons:
    """The network's own coordinates: a feature is a unit, and nothing is left over."""

    def encode(self, activation: Tensor) -> tuple[Tensor, None]:
        return activation, None

    def decode(self, features: Tensor, remainder: None) -> Tensor:
        return features


NEURONS = Neurons()
