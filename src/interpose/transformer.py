"""A transformer: a network of blocks on a residual stream, and sites for all of its parts, each checked by value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .errors import AmbiguousSite, WrongInput
from .families import FACTORS, Layout, Part, Parts, Watched, acts_as_said, attention_of, layouts, parts_of, watched_in
from .named import listed, ranked
from .network import Network
from .sites import EACH, Site
from .taps import call
from .units import at_rest, declared_width, is_neural

TRIAL = (1, 2, 3)
"""The tokens of the runs by which parts are checked."""

KINDS = {
    "attention": "attentions",
    "MLP": "mlps",
    "head": "heads",
    "neuron": "neurons",
    "query": "queries",
    "key": "keys",
    "value": "values",
}
"""What tables call the parts of a block, and the methods that give them."""

SPELLED = re.compile(
    r"(before )?layer (\d+)(?: (?:(attention|MLP)|(?:(head|neuron|query|key|value) (\d+))))?(?: @ (-?\d+|\{.+))?"
)


class Transformer(Network):
    """A network whose module holds one list of blocks, each of which adds to a residual stream.

    stack: of an encoder-decoder the one whose blocks are meant, "encoder" or "decoder".
    """

    stack: str | None = None

    def trial(self, rows: int) -> Any:
        """So many rows of the tokens by which parts are checked."""
        return torch.tensor([TRIAL] * rows)

    def blocks(self) -> tuple[str, ...]:
        """The paths of the transformer's blocks, from the first to the last.

        Raises WrongInput where no list of as many modules as the configuration has layers is found.
        """
        count = getattr(getattr(self.module, "config", None), "num_hidden_layers", None)
        lists = [
            path
            for path, module in self.modules.items()
            if isinstance(module, nn.ModuleList)
            and len(module) == count
            and len({type(block) for block in module}) == 1
        ]
        if len(lists) > 1 and self.stack is not None:
            lists = [path for path in lists if self.stack in path.split(".")]
        if len(lists) != 1:
            raise WrongInput(
                f"{type(self.module).__name__} should hold one list of {count} blocks; there are {lists or 'none'}. "
                "Name the sites by their module paths, as in lm.site('model.layers.3')."
            )
        return tuple(f"{lists[0]}.{i}" for i in range(len(self.modules[lists[0]])))  # type: ignore[arg-type]

    def residual(
        self,
        *,
        layers: Sequence[int] | None = None,
        positions: Sequence[int | str] | None = None,
        at: Literal["before", "after"] = "after",
    ) -> tuple[Site, ...]:
        """The residual stream after each block, or before: one site a layer and position.

        layers: which blocks, from 0; positions: which tokens, negative ones from the end, or parts of the prompts by
        name, as "{city[-1]}". Without positions a site spans them all: a run writes them together, and a scan takes
        each by itself.
        Raises WrongInput for a layer that does not exist.
        """
        if at not in ("before", "after"):
            raise WrongInput(f"at={at!r}: the residual stream is read before or after a block.")
        end: Literal["input", "output"] = "output" if at == "after" else "input"
        blocks, word = self.blocks(), "layer {}" if at == "after" else "before layer {}"
        leaf = self._stream if at == "after" else self._entry
        return self._each_position(
            layers,
            positions,
            lambda layer: Site(
                blocks[layer],
                leaf=leaf,
                end=end,
                cut=(f"the residual stream {at} layer {layer}", 1) if positions is None else None,
            ),
            word,
        )

    def embeddings(self, *, positions: Sequence[int | str] | None = None) -> tuple[Site, ...]:
        """The residual stream as it enters the first block: token embeddings, with positions where these are added."""
        first = self.residual(layers=[0], positions=positions, at="before")
        return tuple(replace(site, name=(site.name or "").replace("before layer 0", "embeddings")) for site in first)

    def attentions(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """What attention adds to the residual stream, up to a factor of the configuration: see `residual`.

        Raises WrongInput for a layer where no two parts add up, by value, to what the block adds.
        """
        return self._each_position(
            layers,
            positions,
            lambda layer: _site_of(self._parts(layer).attention),
            "layer {} attention",
        )

    def mlps(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """What the MLP adds to the residual stream, experts and all: see `attentions`."""
        return self._each_position(
            layers,
            positions,
            lambda layer: _site_of(self._mlp(layer)),
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
            found += self._numbered(layer, hidden, "neuron", [(unit,) for unit in range(width)], positions, "input")
        return tuple(found)

    def queries(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """The queries of attention heads, before positions are rotated in: one site a layer and head, as `heads`."""
        return self._projected("query", layers, positions)

    def keys(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """The keys of attention, before positions are rotated in: one site a layer and key-value head.

        Where several query heads share a key, it is one site, which acts on all of them.
        """
        return self._projected("key", layers, positions)

    def values(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """The values of attention: one site a layer and key-value head, as `keys`."""
        return self._projected("value", layers, positions)

    def _projected(
        self, kind: str, layers: Sequence[int] | None, positions: Sequence[int | str] | None
    ) -> tuple[Site, ...]:
        found: list[Site] = []
        for layer in self._layers(layers):
            of = self._layout(layer)[kind]
            found += self._numbered(layer, of.path, kind, of.units, positions, "output")
        return tuple(found)

    def heads(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int | str] | None = None
    ) -> tuple[Site, ...]:
        """The attention heads: one site a layer and query head, and position where some are given.

        A head is what it hands to the output projection of its attention: units h*d to (h+1)*d of that input, for heads
        of width d. Without positions a run, and a scan too, writes all positions of a head together.
        Raises WrongInput for a layer that does not exist, or whose output projection is not found.
        """
        found: list[Site] = []
        for layer in self._layers(layers):
            path, heads, width = self._projection(layer)
            units = [tuple(range(head * width, (head + 1) * width)) for head in range(heads)]
            found += self._numbered(layer, path, "head", units, positions, "input")
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

    @staticmethod
    def _numbered(
        layer: int,
        path: str,
        kind: str,
        units: Sequence[tuple[int, ...]],
        positions: Sequence[int | str] | None,
        end: Literal["input", "output"],
    ) -> list[Site]:
        """One site a head, or whatever is counted, and position where some are given."""
        where = [(None, None, 0)] if positions is None else ranked(positions)
        return [
            Site(
                path,
                units=own,
                position=position,
                end=end,
                name=f"layer {layer} {kind} {number}" + ("" if position is None else f" @ {position}"),
                coordinates=(
                    ("layer", layer, layer),
                    (kind, number, number),
                    *(() if position is None else (("position", label, rank),)),
                ),
            )
            for number, own in enumerate(units)
            for position, label, rank in where
        ]

    def _layers(self, layers: Sequence[int] | None) -> list[int]:
        count = len(self.blocks())
        wanted = list(range(count)) if layers is None else listed("layer", layers)
        if wrong := [layer for layer in wanted if not 0 <= layer < count]:
            raise WrongInput(f"There is no layer {wrong[0]}: the blocks count from 0 to {count - 1}.")
        return wanted

    def _projection(self, layer: int) -> tuple[str, int, int]:
        """The path of a block's output projection, how many heads it projects, and their width."""
        config = getattr(self.module, "config", None)
        block = self.blocks()[layer]
        heads, size = (getattr(config, name, None) for name in ("num_attention_heads", "hidden_size"))
        by_hand = (
            f"Name the units of a head by its module's path, as in lm.site('{block}.ATTENTION.PROJECTION', "
            "end='input', units=range(WIDTH))."
        )
        if not (isinstance(heads, int) and isinstance(size, int)):
            raise WrongInput(f"The configuration does not say how many heads of what width a layer has. {by_hand}")
        width = next((w for name in ("v_head_dim", "head_dim") if (w := getattr(config, name, None))), size // heads)
        attention = attention_of(self.modules[block])
        fitting = [
            path
            for path in (self._neural if attention else ())
            if path.startswith(f"{block}.{attention}.")
            and declared_width(self.modules[path], "input") == heads * width
            and declared_width(self.modules[path], "output") == size
        ]
        if not fitting:
            missing = (
                f"output projection from {heads} heads of {width} units to {size}" if attention else "one attention"
            )
            raise WrongInput(f"There is no {missing} in {block}. {by_hand}")
        return fitting[-1], heads, width

    @cached_property
    def _neural(self) -> tuple[str, ...]:
        """The linear layers, in the order in which a run meets them."""
        return tuple(path for path in self.layers() if is_neural(self.modules[path]))

    def _parts(self, layer: int) -> Parts:
        """What a block adds to the residual stream, checked by value."""
        found = self._all_parts[layer]
        if found is None:
            raise WrongInput(
                f"No two parts of {self.blocks()[layer]} add up to what it adds to the residual stream. Name its "
                f"modules by their paths, as in lm.site('{self.blocks()[layer]}.MODULE')."
            )
        return found

    def _mlp(self, layer: int) -> Part:
        part = self._parts(layer).mlp
        if part is None:
            raise WrongInput(
                f"The MLP of layer {layer} gives its tokens as one list, with no row an example: nothing can be read "
                "or written there by example and position. lm.residual() and lm.attentions() are open."
            )
        return part

    @cached_property
    def _all_parts(self) -> list[Parts | None]:
        """[layer]: the parts of every block, from one run that is watched."""
        config = getattr(self.module, "config", None)
        width = getattr(config, "hidden_size", 0)
        factor = next((float(getattr(config, name)) for name in FACTORS if hasattr(config, name)), 1.0)
        blocks = {path: self.modules[path] for path in self.blocks()}
        watched = [name for path, block in blocks.items() for name in watched_in(path, block, width)]
        seen = Watched(watched, self.modules)
        with at_rest(self.module), torch.no_grad():
            call(self.module, *self.arguments(self.trial(1)), seen)
        return [parts_of(path, block, width, factor, seen) for path, block in blocks.items()]

    def _layout(self, layer: int) -> Layout:
        """Where the queries, keys and values of a layer are made, checked by what they act on."""
        if layer not in self._layouts:
            block = self.blocks()[layer]
            projection, heads, width = self._projection(layer)
            attention = f"{block}.{attention_of(self.modules[block])}"
            entering = Site(projection, end="input")

            def run(path: str, change: Callable[[Tensor], Tensor], rows: int) -> Tensor:
                found = self.run(self.trial(rows), read=[entering], write={Site(path): change})[entering]
                return found.unflatten(-1, (heads, width))

            with at_rest(self.module), torch.no_grad():
                tried = layouts(self.modules[attention], attention, heads, width)
                fitting = next((one for one in tried if acts_as_said(one, heads, run)), None)
            if fitting is None:
                raise WrongInput(
                    f"Which units of {attention} are the queries, keys and values of which head was not found, or does "
                    "not act so. Name them by module and units, as in lm.site('PATH', units=range(WIDTH))."
                )
            self._layouts[layer] = fitting
        return self._layouts[layer]

    @cached_property
    def _layouts(self) -> dict[int, Layout]:
        return {}

    @cached_property
    def _entry(self) -> str | None:
        """Which tensor of what a block takes is the residual stream: the first, where it takes several."""
        try:
            with at_rest(self.module):
                self.run(self.example, read=[Site(self.blocks()[-1], end="input")])  # some pass more from then on
        except AmbiguousSite as several:
            return "hidden_states" if "'hidden_states'" in str(several) else "0"
        return None

    @cached_property
    def _stream(self) -> str | None:
        """Which tensor of a block's output is the residual stream: the first, where a block returns several."""
        try:
            with at_rest(self.module):
                self.run(self.example, read=[Site(self.blocks()[-1])])
        except AmbiguousSite:
            return "0"
        return None

    def place(self, spelling: Any) -> Site:
        """The site that a spelling means; as tables call it, "layer 3" and "layer 3 @ -1" are the residual stream.

        "before layer 3", "layer 3 attention", "layer 3 MLP @ 2", "layer 3 head 5", "layer 3 key 0 @ -1", and so on.
        """
        match = SPELLED.fullmatch(spelling) if isinstance(spelling, str) else None
        if match is None:
            return super().place(spelling)
        before, layer, part, numbered, number, position = match.groups()
        kind = part or numbered
        if before and kind:
            return super().place(spelling)
        at = position if position is None or position.startswith("{") else int(position)
        where: dict[str, Any] = {"layers": [int(layer)], "positions": None if at is None else [at]}
        if kind is None:
            return self.residual(**where, at="before" if before else "after")[0]
        found: tuple[Site, ...] = getattr(self, KINDS[kind])(**where)
        if number is not None and int(number) >= len(found):
            raise WrongInput(
                f"Layer {layer} has no {kind} {number}: its {KINDS[kind]} count from 0 to {len(found) - 1}."
            )
        return found[int(number or 0)]


def _site_of(part: Part) -> Site:
    return Site(part.path, leaf=part.leaf)
