"""The question put to every library: SmolLM2-135M, city pairs of 10 tokens, a map in one direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

import interpose as ip
from interpose.sites import Site
from interpose.tasks import capitals

Kind = Literal["residual", "heads"]


@dataclass(frozen=True)
class Question:
    """Which cells of which map, for which pairs.

    cells: (layer, position) or (layer, head), by layer; a head is written at all positions together.
    """

    kind: Kind
    lm: ip.LanguageModel
    pairs: ip.Pairs
    cells: tuple[tuple[int, int], ...]

    @property
    def module(self) -> Any:
        """The transformers model itself."""
        return self.lm.module

    @property
    def blocks(self) -> list[nn.Module]:
        """Its transformer blocks."""
        return list(self.module.model.layers)

    @cached_property
    def layers(self) -> dict[int, list[int]]:
        """The positions or heads of each layer."""
        found: dict[int, list[int]] = {}
        for layer, other in self.cells:
            found.setdefault(layer, []).append(other)
        return found

    @property
    def width(self) -> int:
        """The units of a head."""
        return int(self.module.config.head_dim)

    @cached_property
    def sites(self) -> list[Site]:
        """The cells as sites."""
        if self.kind == "residual":
            return [self.lm.residual(layers=[layer], positions=[position])[0] for layer, position in self.cells]
        return [self.lm.heads(layers=[layer])[head] for layer, head in self.cells]

    @cached_property
    def base(self) -> Tensor:
        """Token ids of the base prompts."""
        return token_ids(self.lm, self.pairs.base)

    @cached_property
    def source(self) -> Tensor:
        """Token ids of the source prompts."""
        return token_ids(self.lm, self.pairs.source)

    def metric(self, logits: Tensor) -> Tensor:
        """The logit difference of each pair, from logits [pair, token, vocabulary]."""
        return ip.logit_difference(logits[:, -1], self.pairs).detach()

    def part(self, index: int, of: Tensor) -> Tensor:
        """A cell's part of a whole value [pair, token, unit], as a view that can be written."""
        return of[:, index] if self.kind == "residual" else of[..., index * self.width : (index + 1) * self.width]


def question(
    kind: Kind,
    *,
    n: int = 16,
    layers: Sequence[int] | None = None,
    inner: Sequence[int] | None = None,
    lm: ip.LanguageModel | None = None,
) -> Question:
    """n pairs; by default all layers, and in each all positions or heads (inner; the last for what is beyond it)."""
    lm = capitals.language_model() if lm is None else lm
    pairs = city_pairs(lm, n)
    count = len(lm.blocks())
    chosen = range(count) if layers is None else [layer for layer in layers if layer < count]
    width = len(lm.token_ids(pairs.base[0])) if kind == "residual" else lm.module.config.num_attention_heads
    within = sorted({min(index, width - 1) for index in (range(width) if inner is None else inner)})
    return Question(kind, lm, pairs, tuple((layer, index) for layer in chosen for index in within))


def token_ids(lm: ip.LanguageModel, prompts: Sequence[str]) -> Tensor:
    """Token ids [prompt, token]."""
    return torch.tensor([lm.token_ids(prompt) for prompt in prompts])


def city_pairs(lm: ip.LanguageModel, n: int) -> ip.Pairs:
    """n pairs of two cities each: neighbours in the list first, as `capitals.pairs` makes them, then others."""
    cities = list(capitals.COUNTRIES)
    chosen = [
        (city, cities[(i + step) % len(cities)]) for step in range(1, len(cities)) for i, city in enumerate(cities)
    ]
    return ip.Pairs.from_prompts(
        lm,
        base=[capitals.PROMPT.format(city=a) for a, _ in chosen[:n]],
        source=[capitals.PROMPT.format(city=b) for _, b in chosen[:n]],
        answers=[tuple(f" {capitals.COUNTRIES[city]}" for city in pair) for pair in chosen[:n]],
    )
