"""A language model: a network whose inputs are prompts and whose output is the next token's logits."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .engine.question import ALL, Engine
from .errors import AmbiguousSite, MissingPart, WrongInput, WrongPairs
from .network import Network
from .sites import EACH, Site
from .units import at_rest, declared_width, is_neural

ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
"""What blocks call their attention, if its class does not say that it is one."""


class LanguageModel(Network):
    """A causal language model of the transformers library as a `Model`.

    module, tokenizer: used as they are; without a tokenizer, inputs are token ids.

    A prompt is a text, a list of texts, or token ids [token] or [prompt, token]; the prompts of one run have equally
    many tokens. The output of a run is the logits of the next token, [prompt, vocabulary].
    """

    reads_last = True

    def __init__(self, module: nn.Module, tokenizer: Any = None, *, engine: Engine | Literal["full"] = ALL) -> None:
        super().__init__(module, example=[[0, 0]], engine=engine)
        self.tokenizer = tokenizer
        accepted = inspect.signature(module.forward).parameters
        self.options = {
            name: value for name, value in {"use_cache": False, "logits_to_keep": 1}.items() if name in accepted
        }

    @classmethod
    def load(cls, name: str | Path, **options: Any) -> LanguageModel:
        """A model and its tokenizer from a hub id, a folder, or a GGUF file.

        A GGUF file is converted once, to full precision in the user's cache folder, and read from there afterwards.
        options: for `AutoModelForCausalLM.from_pretrained`.
        Raises MissingPart where transformers, or for GGUF files gguf and accelerate, are not installed.
        """
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise MissingPart("Language models need transformers. Install it: pip install 'interpose[lm]'.") from None
        source = str(_converted(Path(name)) if str(name).endswith(".gguf") else name)
        return cls(AutoModelForCausalLM.from_pretrained(source, **options), AutoTokenizer.from_pretrained(source))

    def __repr__(self) -> str:
        return f"LanguageModel({type(self.module).__name__}, {len(self.blocks())} layers)"

    # -- tokens ------------------------------------------------------------------------------------

    def token_ids(self, text: str, *, special: bool = True) -> list[int]:
        """The ids a text is run as; special: with the tokens the tokenizer puts around a prompt."""
        if self.tokenizer is None:
            raise WrongInput(
                "This language model has no tokenizer. Give token ids, or LanguageModel(module, tokenizer)."
            )
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def tokens(self, text: str, *, special: bool = True) -> list[str]:
        """The same tokens as text."""
        return [self.tokenizer.decode([token]) for token in self.token_ids(text, special=special)]

    # -- places ------------------------------------------------------------------------------------

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
        if len(lists) != 1:
            raise WrongInput(
                f"{type(self.module).__name__} should hold one list of {count} blocks; there are {lists or 'none'}. "
                "Name the sites by their module paths, as in lm.site('model.layers.3')."
            )
        return tuple(f"{lists[0]}.{i}" for i in range(len(self.modules[lists[0]])))  # type: ignore[arg-type]

    def residual(
        self, *, layers: Sequence[int] | None = None, positions: Sequence[int] | None = None
    ) -> tuple[Site, ...]:
        """The residual stream after each block: one site a layer and position.

        layers: which blocks, from 0; positions: which tokens, negative ones from the end. Without positions a site
        spans them all: a run writes them together, and a scan takes each by itself.
        Raises WrongInput for a layer that does not exist.
        """
        blocks = self.blocks()
        return tuple(
            Site(
                blocks[layer],
                leaf=self._stream,
                position=position,
                name=f"layer {layer}" + ("" if position == EACH else f" @ {position}"),
                coordinates=(("layer", layer, layer), ("position", position, _rank(position))),
                cut=(f"the residual stream after layer {layer}", 1) if positions is None else None,
            )
            for layer in self._layers(layers)
            for position in ([EACH] if positions is None else map(index, positions))
        )

    def heads(self, *, layers: Sequence[int] | None = None, positions: Sequence[int] | None = None) -> tuple[Site, ...]:
        """The attention heads: one site a layer and query head, and position where some are given.

        A head is what it hands to the output projection of its attention: units h*d to (h+1)*d of that input, for heads
        of width d. Without positions a run, and a scan too, writes all positions of a head together.
        Raises WrongInput for a layer that does not exist, or whose output projection is not found.
        """
        sites = []
        for layer in self._layers(layers):
            path, heads, width = self._projection(layer)
            for head in range(heads):
                for position in [None] if positions is None else map(index, positions):
                    where = () if position is None else (("position", position, _rank(position)),)
                    sites.append(
                        Site(
                            path,
                            units=tuple(range(head * width, (head + 1) * width)),
                            position=position,
                            end="input",
                            name=f"layer {layer} head {head}" + ("" if position is None else f" @ {position}"),
                            coordinates=(("layer", layer, layer), ("head", head, head), *where),
                        )
                    )
        return tuple(sites)

    def _layers(self, layers: Sequence[int] | None) -> list[int]:
        count = len(self.blocks())
        wanted = range(count) if layers is None else layers
        if wrong := [layer for layer in wanted if not 0 <= layer < count]:
            raise WrongInput(f"There is no layer {wrong[0]}: the blocks count from 0 to {count - 1}.")
        return [index(layer) for layer in wanted]

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
        width = getattr(config, "head_dim", None) or size // heads
        attention = _attention(self.modules[block])
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

    @cached_property
    def _stream(self) -> str | None:
        """Which tensor of a block's output is the residual stream: the first, where a block returns several."""
        try:
            with at_rest(self.module):
                self.run(self.example, read=[Site(self.blocks()[0])])
        except AmbiguousSite:
            return "0"
        return None

    def place(self, spelling: Any) -> Site:
        """The site that a spelling means; as tables call it, "layer 3" and "layer 3 @ -1" are the residual stream.

        "layer 3 head 5" and "layer 3 head 5 @ -1" are heads.
        """
        match = (
            re.fullmatch(r"layer (\d+)( head (\d+))?(?: @ (-?\d+))?", spelling) if isinstance(spelling, str) else None
        )
        if match is None:
            return super().place(spelling)
        layers, positions = [int(match[1])], None if match[4] is None else [int(match[4])]
        if match[2] is None:
            return self.residual(layers=layers, positions=positions)[0]
        heads, head = self.heads(layers=layers, positions=positions), int(match[3])
        if head >= len(heads):
            raise WrongInput(f"Layer {match[1]} has no head {head}: its heads count from 0 to {len(heads) - 1}.")
        return heads[head]

    # -- the waist ---------------------------------------------------------------------------------

    def arguments(self, inputs: Any, places: Sequence[Site] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Prompts or token ids as the module takes them.

        Raises WrongPairs for prompts of unequal length, also where padding hides that.
        """
        options = dict(self.options)
        if any(site.path in ("", self.unembedding()) for site in places):
            options.pop("logits_to_keep", None)  # what is read or written there has all positions
        if isinstance(inputs, Mapping):
            given = {name: torch.as_tensor(value, device=self.device) for name, value in inputs.items()}
            if "attention_mask" in given and not bool(given["attention_mask"].all()):
                raise WrongPairs("These prompts are padded. Prompts that run together have equally many tokens.")
            return (), {**given, **options}
        ids = self._ids(inputs)
        if not len(ids) or not all(len(row) for row in ids):
            raise WrongInput("A prompt without tokens cannot be run: a language model continues something.")
        lengths = sorted({len(row) for row in ids})
        if len(lengths) != 1:
            raise WrongPairs(f"The prompts have {lengths} tokens. Prompts that run together have equally many tokens.")
        return (), {"input_ids": torch.as_tensor(ids, device=self.device), **options}

    def outcome(self, output: Any) -> Tensor:
        """[prompt, vocabulary]: the logits at the last position."""
        if isinstance(output, tuple):
            output = output[0]
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits[:, -1]

    def _ids(self, inputs: Any) -> Any:
        """Token ids, one row a prompt."""
        if isinstance(inputs, str):
            return [self.token_ids(inputs)]
        if isinstance(inputs, Tensor | np.ndarray):
            return torch.atleast_2d(torch.as_tensor(inputs))
        rows: list[Any] = [row.tolist() if isinstance(row, Tensor | np.ndarray) else row for row in inputs]
        if rows and isinstance(rows[0], str):
            return [self.token_ids(row) for row in rows]
        return [rows] if rows and isinstance(rows[0], int | np.integer) else rows

    def unembedding(self) -> str | None:
        """The path of the layer that gives the logits."""
        find = getattr(self.module, "get_output_embeddings", None)
        layer = find() if find is not None else None
        return self.paths.get(layer) if layer is not None else None

    @property
    def device(self) -> torch.device:
        """Where the model's embeddings are, and so where token ids go."""
        return next(self.module.parameters()).device


def _attention(block: nn.Module) -> str | None:
    """The name of a block's self-attention; None where there is none, or several that cannot be told apart."""
    children = dict(block.named_children())
    found = [name for name in ATTENTIONS if name in children]
    found = found or [name for name, child in children.items() if "Attention" in type(child).__name__]
    return found[0] if len(found) == 1 else None


def _rank(position: int | str) -> int:
    """Positions that count from the end stand behind those that count from the beginning."""
    return 0 if isinstance(position, str) else position if position >= 0 else 10**9 + position


def _converted(path: Path) -> Path:
    """The folder of a GGUF file's weights in full precision, made if it is not there yet."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = cache_folder() / f"{path.stem}-{digest}"
    if folder.is_dir():
        return folder
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise MissingPart(f"A GGUF file needs {error.name}. Install it: pip install 'interpose[lm]'.") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        tokenizer: Any = AutoTokenizer.from_pretrained(**where)
        tokenizer.save_pretrained(partial)
        quantised = GgufConfig(dequantize=True)
        AutoModelForCausalLM.from_pretrained(**where, quantization_config=quantised).save_pretrained(partial)
        partial.replace(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has just finished the same conversion
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """Where converted weights are kept: $INTERPOSE_CACHE, or interpose in the user's cache folder."""
    if given := os.environ.get("INTERPOSE_CACHE"):
        return Path(given)
    home = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "interpose"
