"""A transformer: a network of blocks on a residual stream, and sites for all of its parts, each checked by value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from .anatomy import Anatomy, Of, site_of
from .errors import WrongInput
from .named import listed, ranked
from .sites import EACH, Site
from .units import declared_width

KINDS = {
    "attention": "attentions",
    "MLP": "mlps",
    "head": "heads",
    "neuron": "neurons",
    "query": "queries",
    "key": "keys",
    "value": "values",
    "pattern": "patterns",
}
"""What tables call the parts of a block, and the methods that give them."""

CROSS = "cross "
"""What stands before the name of a part of the attention to an encoder."""

SPELLED = re.compile(
    r"(?P<before>before )?layer (?P<layer>\d+)(?: (?:(?P<between>between)|(?P<part>MLP|(?:cross )?attention)"
    r"|(?P<numbered>neuron|(?:cross )?(?:head|query|key|value|pattern)) (?P<number>\d+)))?"
    r"(?: @ (?P<position>-?\d+|\{.+))?"
)

At = Literal["before", "between", "after"]
"""Where the residual stream is met: before a block, between its attention and its MLP, or after it."""


class Transformer(Anatomy):
    """A network of blocks on a residual stream, with a method for every kind of site in it.

    of: where a method takes it, which attention is meant: "self", or "cross", a decoder's attention to an encoder.
    """

    def residual(
        self,
        *,
        layers: Sequence[int] | None = None,
        positions: Sequence[int | str] | None = None,
        at: At = "after",
    ) -> tuple[Site, ...]:
        """The residual stream after each block, before it, or between its attention and its MLP.

        One site a layer and position. layers: which blocks, from 0; positions: which tokens, negative ones from the
        end, or parts of the prompts by name, as "{city[-1]}". Without positions a site spans them all: a run writes
        them together, and a scan takes each by itself.
        Between attention and MLP, what is written is what the MLP is given and what it is added to, up to rounding.
        Raises WrongInput for a layer that does not exist, or, between, where a block runs both side by side.
        """
        if at not in ("before", "between", "after"):
            raise WrongInput(f"at={at!r}: the residual stream is read before, between or after the parts of a block.")
        blocks = self.blocks()
        of: dict[str, tuple[Callable[[int], Site], str]] = {
            "before": (lambda layer: Site(blocks[layer], leaf=self._entry, end="input"), "before layer {}"),
            "between": (self._between, "layer {} between"),
            "after": (lambda layer: Site(blocks[layer], leaf=self._stream), "layer {}"),
        }
        find, word = of[at]

        def site(layer: int) -> Site:
            where = f"in layer {layer}, between its parts" if at == "between" else f"{at} layer {layer}"
            whole = positions is None and self.stack != "decoder"  # to which an encoder passes more, beside the stream
            return replace(find(layer), cut=(f"the residual stream {where}", 1) if whole else None)

        return self._each_position(layers, positions, site, word)

    def embeddings(self, *, positions: Sequence[int | str] | None = None) -> tuple[Site, ...]:
        """The residual stream as it enters the first block: token embeddings, with positions where these are added."""
        first = self.residual(layers=[0], positions=positions, at="before")
        return tuple(replace(site, name=(site.name or "").replace("before layer 0", "embeddings")) for site in first)

    def attentions(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None, of: Of = "self"
    ) -> tuple[Site, ...]:
        """What attention adds to the residual stream, up to a factor of the configuration: see `residual`.

        Raises WrongInput for a layer where no two parts add up, by value, to what the block adds.
        """
        return self._each_position(
            layers,
            positions,
            lambda layer: site_of(self._attended(layer, of)),
            f"layer {{}} {_of(of)}attention",
        )

    def mlps(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """What the MLP adds to the residual stream, experts and all: see `attentions`."""
        return self._each_position(
            layers,
            positions,
            lambda layer: site_of(self._mlp(layer)),
            "layer {} MLP",
        )

    def neurons(
        self, *which: Any, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """The hidden units of MLPs, after their nonlinearity: one site a layer and unit, and position where given.

        which: layers too, as in lm.neurons(8), or paths of modules, for `Network.neurons`. Coordinates of what an MLP
        adds to the stream are no neurons: see `mlps`. Without positions all positions are written together.
        Raises WrongInput for a mixture of experts, where which units there are depends on the token.
        """
        if any(isinstance(one, str | Site) for one in which):
            return super().neurons(*which)
        found: list[Site] = []
        given = [*which, *([] if layers is None else listed("layer", layers))]
        for layer in self._layers(given if which or layers is not None else None):
            hidden = self._parts(layer).hidden if self._mlp(layer) else None
            if hidden is None:
                raise WrongInput(
                    f"Layer {layer} has no one layer of MLP neurons: which experts run depends on the token. Name "
                    f"those of one expert by its module, as in lm.neurons('{self.blocks()[layer]}.MODULE:input')."
                )
            width = declared_width(self.modules[hidden], "input") or self.width(f"{hidden}:input")
            sites = {unit: Site(hidden, units=(unit,), end="input") for unit in range(width)}
            found += _numbered(layer, "neuron", sites, positions)
        return tuple(found)

    def queries(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None, of: Of = "self"
    ) -> tuple[Site, ...]:
        """The queries of attention heads, before positions are rotated in: one site a layer and head, as `heads`."""
        return self._projected("query", layers, positions, of)

    def keys(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None, of: Of = "self"
    ) -> tuple[Site, ...]:
        """The keys of attention, before positions are rotated in: one site a layer and key-value head.

        Where several query heads share a key, it is one site, which acts on all of them.
        """
        return self._projected("key", layers, positions, of)

    def values(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None, of: Of = "self"
    ) -> tuple[Site, ...]:
        """The values of attention: one site a layer and key-value head, as `keys`."""
        return self._projected("value", layers, positions, of)

    def _projected(
        self, kind: str, layers: Sequence[int] | None, positions: Sequence[int | str] | None, of: Of
    ) -> tuple[Site, ...]:
        found: list[Site] = []
        for layer in self._layers(layers):
            made = self._layout(layer, of)[kind]
            sites = {head: Site(made.path, units=own) for head, own in enumerate(made.units)}
            found += _numbered(layer, _of(of) + kind, sites, positions)
        return tuple(found)

    def heads(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None, of: Of = "self"
    ) -> tuple[Site, ...]:
        """The attention heads: one site a layer and query head, and position where some are given.

        A head is what it hands to the output projection of its attention: units h*d to (h+1)*d of that input, for heads
        of width d. Without positions a run, and a scan too, writes all positions of a head together.
        Raises WrongInput for a layer that does not exist, or whose output projection is not found.
        """
        found: list[Site] = []
        for layer in self._layers(layers):
            path, heads, width = self._projection(layer, of)
            own = {head: tuple(range(head * width, (head + 1) * width)) for head in range(heads)}
            sites = {head: Site(path, units=units, end="input") for head, units in own.items()}
            found += _numbered(layer, f"{_of(of)}head", sites, positions)
        return tuple(found)

    def patterns(
        self,
        *,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        positions: Sequence[int | str] | None = None,
        of: Of = "self",
    ) -> tuple[Site, ...]:
        """The attention patterns: one site a layer and query head, and position of the query where some are given.

        A pattern is [row, query, key]: how a query weighs the values of keys, as the softmax gives it; units are keys.
        What is written is taken as it is, also where its rows do not sum to one, or weigh keys that were masked. A run
        that reads or writes patterns runs eager attention, which is told in what it records; other runs do not.
        Raises WrongInput where no one softmax of an attention acts so.
        """
        found: list[Site] = []
        for layer in self._layers(layers):
            path, count = self._pattern(layer, of)
            wanted = list(range(count)) if heads is None else listed("head", heads)
            if wrong := [head for head in wanted if not 0 <= head < count]:
                raise WrongInput(f"There is no head {wrong[0]} in layer {layer}: they count from 0 to {count - 1}.")
            sites = {head: Site(path, leaf=str(head)) for head in wanted}
            found += _numbered(layer, f"{_of(of)}pattern", sites, positions)
        return tuple(found)

    def _each_position(
        self,
        layers: Sequence[int] | None,
        positions: Sequence[int | str] | None,
        of: Callable[[int], Site],
        word: str,
    ) -> tuple[Site, ...]:
        """One site a layer and position, or one a layer that stands for each of its positions."""
        where = [(EACH, EACH, 0)] if positions is None else ranked(positions)
        return tuple(
            replace(
                of(layer),
                position=position,
                name=word.format(layer) + ("" if position == EACH else f" @ {position}"),
                coordinates=(("layer", layer, layer), ("position", label, rank)),
            )
            for layer in self._layers(layers)
            for position, label, rank in where
        )

    def place(self, spelling: Any) -> Site:
        """The site that a spelling means; as tables call it, "layer 3" and "layer 3 @ -1" are the residual stream.

        "before layer 3", "layer 3 between", "layer 3 attention", "layer 3 MLP @ 2", "layer 3 head 5", "layer 3 cross
        key 0 @ -1", and so on.
        """
        match = SPELLED.fullmatch(spelling) if isinstance(spelling, str) else None
        if match is None:
            return super().place(spelling)
        kind = match["part"] or match["numbered"]
        if match["before"] and (kind or match["between"]):
            return super().place(spelling)
        where: dict[str, Any] = {"layers": [int(match["layer"])]}
        position = match["position"]
        where["positions"] = position and [position if position.startswith("{") else int(position)]
        if kind is None:
            at: At = "before" if match["before"] else "between" if match["between"] else "after"
            return self.residual(**where, at=at)[0]
        if kind.startswith(CROSS):
            kind, where["of"] = kind.removeprefix(CROSS), "cross"
        found: tuple[Site, ...] = getattr(self, KINDS[kind])(**where)
        number = int(match["number"] or 0)
        if number >= len(found):
            raise WrongInput(
                f"Layer {match['layer']} has no {kind} {number}: its {KINDS[kind]} count from 0 to {len(found) - 1}."
            )
        return found[number]


def _numbered(layer: int, kind: str, of: Mapping[int, Site], positions: Sequence[int | str] | None) -> list[Site]:
    """One site a head, or whatever is counted, and position where some are given."""
    where = [(None, None, 0)] if positions is None else ranked(positions)
    return [
        replace(
            site,
            position=position,
            name=f"layer {layer} {kind} {number}" + ("" if position is None else f" @ {position}"),
            coordinates=(
                ("layer", layer, layer),
                (kind, number, number),
                *(() if position is None else (("position", label, rank),)),
            ),
        )
        for number, site in of.items()
        for position, label, rank in where
    ]


def _of(of: Of) -> str:
    """How the names of the parts of an attention begin."""
    return CROSS if of == "cross" else ""
