"""An answer to "what does this network compute, and where?", in a form that any method can fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .partitions import Kernel

Sites = frozenset[str]
Label = Literal["exact", "verified", "approximate", "none"]
Verdict = Literal["exact", "verified", "approximate", "partial", "none"]
Grade = Literal["certified", "does not mediate", "undetermined"]
OUTPUT: Sites = frozenset({"output"})
"""What an edge to the output leads to."""


@dataclass(frozen=True)
class Claim:
    """What a group of sites of one layer holds.

    sites: spelled as "l1[0]". classes: which settings of the inputs it tells apart, a number for each in the order of
    `Planted.settings`; None where it is graded. name: what to call it, None for a variable without a name.
    label: with what right it is claimed.
    """

    sites: Sites
    classes: Kernel | None
    name: str | None = None
    label: Label = "exact"


@dataclass(frozen=True)
class Answer:
    """Claims of every layer, sites that do nothing, which claim feeds which, and a verdict of the whole.

    layers: by module, "l1" and so on; a layer that was not explained has none. edges: (parent, child) as groups of
    sites, where a parent may be an input, frozenset({"A"}), and a child `OUTPUT`. decode: for groups of sites, what to
    write for each of their claim's classes, in the order of the layer's units.
    """

    layers: Mapping[str, tuple[Claim, ...]]
    inert: Mapping[str, Grade] = field(default_factory=dict)
    edges: frozenset[tuple[Sites, Sites]] = frozenset()
    verdict: Verdict = "exact"
    decode: Mapping[Sites, Mapping[int, tuple[float, ...]]] = field(default_factory=dict)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of all layers."""
        return tuple(claim for claims in self.layers.values() for claim in claims)
