"""What a transformer is made of: blocks, and where their parts come out, each checked by value when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .errors import AmbiguousSite, NotFired, WrongInput, WrongShape
from .families import FACTORS, Part, Parts, Watched, attention_of, cross_of, parts_of, watched_in
from .named import listed
from .network import Network
from .projections import Layout, acts_as_said, layouts, weighs_values
from .sites import Site
from .structures import close
from .taps import call
from .units import at_rest, declared_width, is_neural
from .windows import Between, Pattern, Window

TRIAL = (1, 2, 3)
"""The tokens of the runs by which parts are checked."""

BETWEEN, PATTERN = "between", "pattern"
"""What windows are called in a block, and in an attention."""

Of = Literal["self", "cross"]
"""Which attention of a block: to its own tokens, or to what an encoder made."""


class Anatomy(Network):
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
        count = self._configured("decoder_layers", "num_decoder_layers", "num_hidden_layers")
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

    def _configured(self, *names: str) -> Any:
        """The first of some attributes of the configuration that it has, without those of another stack."""
        config = getattr(self.module, "config", None)
        ours = [name for name in names if self.stack == "decoder" or "decoder" not in name]
        return next((value for name in ours if (value := getattr(config, name, None))), None)

    def _layers(self, layers: Sequence[int] | None) -> list[int]:
        count = len(self.blocks())
        wanted = list(range(count)) if layers is None else listed("layer", layers)
        if wrong := [layer for layer in wanted if not 0 <= layer < count]:
            raise WrongInput(f"There is no layer {wrong[0]}: the blocks count from 0 to {count - 1}.")
        return wanted

    # -- parts of a block --------------------------------------------------------------------------

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

    def _attended(self, layer: int, of: Of) -> Part:
        """Where what attention adds comes out."""
        parts = self._parts(layer)
        part = parts.attention if _checked(of) == "self" else parts.cross
        if part is None:
            raise WrongInput(f"Layer {layer} has no attention to an encoder that runs: of='cross' asks for one.")
        return part

    @cached_property
    def _all_parts(self) -> list[Parts | None]:
        """[layer]: the parts of every block, from one run that is watched."""
        width = self._configured("hidden_size") or 0
        blocks = {path: self.modules[path] for path in self.blocks()}
        watched = [name for path, block in blocks.items() for name in watched_in(path, block, width)]
        seen = Watched(watched, self.modules)
        with at_rest(self.module), torch.no_grad():
            call(self.module, *self.arguments(self.trial(1)), seen)
        return [parts_of(path, block, width, self._factor, seen) for path, block in blocks.items()]

    @property
    def _factor(self) -> float:
        """What the configuration says that everything is multiplied with before it is added to the stream."""
        config = getattr(self.module, "config", None)
        return next((float(getattr(config, name)) for name in FACTORS if hasattr(config, name)), 1.0)

    # -- attention ---------------------------------------------------------------------------------

    def _attention(self, layer: int, of: Of) -> str:
        """The path of an attention of a block."""
        block = self.blocks()[layer]
        name = (attention_of if _checked(of) == "self" else cross_of)(self.modules[block])
        if name is None:
            raise WrongInput(
                f"There is no one attention in {block}. {_by_hand(block)}"
                if of == "self"
                else f"There is no attention to an encoder in {block}: of='cross' asks for one."
            )
        return f"{block}.{name}"

    def _projection(self, layer: int, of: Of = "self") -> tuple[str, int, int]:
        """The path of an attention's output projection, how many heads it projects, and their width."""
        block = self.blocks()[layer]
        heads, size = (
            self._configured("decoder_attention_heads", "num_attention_heads"),
            self._configured("hidden_size"),
        )
        if not (isinstance(heads, int) and isinstance(size, int)):
            raise WrongInput(
                f"The configuration does not say how many heads of what width a layer has. {_by_hand(block)}"
            )
        width = self._configured("v_head_dim", "head_dim", "d_kv") or size // heads
        attention = self._attention(layer, of)
        fitting = [
            path
            for path in self._neural
            if path.startswith(f"{attention}.")
            and declared_width(self.modules[path], "input") == heads * width
            and declared_width(self.modules[path], "output") == size
        ]
        if not fitting:
            raise WrongInput(
                f"There is no output projection from {heads} heads of {width} units to {size} in {block}. "
                f"{_by_hand(block)}"
            )
        return fitting[-1], heads, width

    @cached_property
    def _neural(self) -> tuple[str, ...]:
        """The linear layers, in the order in which a run meets them."""
        return tuple(path for path in self.layers() if is_neural(self.modules[path]))

    def _layout(self, layer: int, of: Of = "self") -> Layout:
        """Where the queries, keys and values of a layer are made, checked by what they act on."""
        if (layer, of) not in self._layouts:
            attention = self._attention(layer, of)
            run, heads, width = self._entering(layer, of)

            def change(path: str, by: Callable[[Tensor], Tensor], rows: int) -> Tensor:
                return run({Site(path): by}, rows)

            with at_rest(self.module), torch.no_grad():
                tried = layouts(self.modules[attention], attention, heads, width)
                fitting = next((one for one in tried if acts_as_said(one, heads, change)), None)
            if fitting is None:
                raise WrongInput(
                    f"Which units of {attention} are the queries, keys and values of which head was not found, or does "
                    "not act so. Name them by module and units, as in lm.site('PATH', units=range(WIDTH))."
                )
            self._layouts[layer, of] = fitting
        return self._layouts[layer, of]

    def _entering(self, layer: int, of: Of) -> tuple[Callable[[Mapping[Site, Any], int], Tensor], int, int]:
        """What heads give, [row, token, head, unit], by writes and a number of rows; their number and width."""
        projection, heads, width = self._projection(layer, of)
        entering = Site(projection, end="input")

        def run(write: Mapping[Site, Any], rows: int) -> Tensor:
            return self.run(self.trial(rows), read=[entering], write=write)[entering].unflatten(-1, (heads, width))

        return run, heads, width

    @cached_property
    def _layouts(self) -> dict[tuple[int, Of], Layout]:
        return {}

    # -- the residual stream -----------------------------------------------------------------------

    @property
    def _entry(self) -> str | None:
        """Which tensor of what a block takes is the residual stream: the first."""
        return self._leaves["input"]

    @property
    def _stream(self) -> str | None:
        """Which tensor of a block's output is the residual stream: the first, where a block returns several."""
        return self._leaves["output"]

    @cached_property
    def _leaves(self) -> dict[str, str | None]:
        """What the first tensor is called that the last block takes, and gives; others pass no more than it."""
        last = self.blocks()[-1]
        seen = Watched([last], self.modules)
        with at_rest(self.module), torch.no_grad():
            call(self.module, *self.arguments(self.example), seen)
        return {end: seen.leaf[last, end] for end in ("input", "output")}

    # -- windows -----------------------------------------------------------------------------------

    def revealed(self, path: str) -> bool:
        """Whether a place by this path, which no module has, could be shown through a window; then it is there now."""
        owner, _, name = path.rpartition(".")
        for layer, block in enumerate(self.blocks() if name in (BETWEEN, PATTERN) else ()):
            if name == BETWEEN and owner == block:
                self._between(layer)
            elif name == PATTERN and owner.startswith(f"{block}."):
                ofs: tuple[Of, ...] = ("self", "cross") if cross_of(self.modules[block]) else ("self",)
                for of in ofs:
                    if self._attention(layer, of) == owner:
                        self._pattern(layer, of)
        return path in self.modules

    def _between(self, layer: int) -> Site:
        """Where the stream is that the MLP is given: what a norm gives, or a window."""
        parts, block = self._parts(layer), self.blocks()[layer]
        if not parts.between:
            raise WrongInput(
                f"There is no residual stream between attention and MLP in layer {layer}: {block} gives both what "
                "enters it, side by side. lm.residual(at='before') and lm.residual() are the stream around them."
            )
        added = [site_of(part) for part in parts.between]
        if parts.normed:
            return added[0]
        before = Site(block, end="input", leaf=self._entry)
        self._show(f"{block}.{BETWEEN}", lambda: Between(self.modules, before, added, self._factor))
        return Site(f"{block}.{BETWEEN}")

    def _pattern(self, layer: int, of: Of) -> tuple[str, int]:
        """The path of a window on the patterns of an attention, and how many heads it has; checked by what they do."""
        attention = self._attention(layer, of)
        run, heads, _ = self._entering(layer, of)
        path = f"{attention}.{PATTERN}"
        if self._show(path, lambda: Pattern(self.modules, attention, heads)):
            try:
                with at_rest(self.module), torch.no_grad():
                    plain, shown = (self.run(self.trial(2), read=read) for read in ([], [Site(path, leaf="0")]))
                    ours = [Site(path, leaf=str(head)) for head in range(heads)]
                    found = close(plain.output, shown.output) and weighs_values(ours, run)
            except (NotFired, AmbiguousSite, WrongShape):
                found = False
            if not found:
                del self.paths[self.modules.pop(path)]
                raise WrongInput(
                    f"The patterns of {attention} were not found: its own code should run one softmax, of all heads, "
                    "and weigh values with what that gives. Load the model with attn_implementation='eager', or take "
                    "lm.heads(), lm.queries(), lm.keys() and lm.values()."
                )
        return path, heads

    def _show(self, path: str, made: Callable[[], Window]) -> bool:
        """Whether a window had to be made for a path."""
        if path not in self.modules:
            self.modules[path] = window = made()
            self.paths[window] = path
            return True
        if not isinstance(self.modules[path], Window):
            raise WrongInput(f"{path!r} is a module of this network, so nothing else can be shown by that name.")
        return False


def site_of(part: Part) -> Site:
    """Where a part comes out."""
    return Site(part.path, leaf=part.leaf)


def _checked(of: Of) -> Of:
    if of not in ("self", "cross"):
        raise WrongInput(f"of={of!r}: attention is 'self', to a block's own tokens, or 'cross', to an encoder.")
    return of


def _by_hand(block: str) -> str:
    return (
        f"Name the units of a head by its module's path, as in lm.site('{block}.ATTENTION.PROJECTION', end='input', "
        "units=range(WIDTH))."
    )
