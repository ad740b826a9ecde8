"""A language model: a network whose inputs are prompts and whose output is the next token's logits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .anatomy import Of
from .engine.question import ALL, Engine
from .errors import MissingPart, WrongInput, WrongPairs
from .gguf_files import converted
from .prompts import overlapping
from .sites import Site
from .transformer import Transformer
from .units import device_of
from .unwrapping import unwrapped


class LanguageModel(Transformer):
    """A causal language model of the transformers library as a `Model`.

    module, tokenizer: used as they are; without a tokenizer, inputs are token ids. What nnsight, TransformerLens or a
    pipeline makes of a model is taken apart first.

    stack: of an encoder-decoder the part whose blocks, heads and neurons are meant, by default the decoder. Prompts go
    to the encoder, and the decoder starts with its first token; a dict gives both, as the module takes them.

    A prompt is a text, a list of texts, or token ids [token] or [prompt, token]; the prompts of one run have equally
    many tokens. The output of a run is the logits of the next token, [prompt, vocabulary].
    """

    reads_last = True

    def __init__(
        self,
        module: Any,
        tokenizer: Any = None,
        *,
        stack: Literal["encoder", "decoder"] | None = None,
        engine: Engine | Literal["full"] = ALL,
    ) -> None:
        module, own = unwrapped(module)
        self.stack = stack or ("decoder" if _is_pair(module) else None)
        super().__init__(module, example=[[0, 0]], engine=engine)
        self.tokenizer = own if tokenizer is None else tokenizer
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
        source = str(converted(Path(name)) if str(name).endswith(".gguf") else name)
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

    def positions(
        self, prompts: str | Sequence[str], of: str | Sequence[str], *, occurrence: int | None = None
    ) -> list[int]:
        """Where a part of the text stands: the positions of all tokens that overlap it, the same in every prompt.

        prompts: one, or several; of: the part, or one a prompt, as [" Paris", " Rome"]. occurrence: which one, where
        there are several, from 0. `show` shows what was found.
        Raises WrongInput where it is not there, or several times, or at other positions in other prompts.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        parts = [of] * len(texts) if isinstance(of, str) else list(of)
        if len(parts) != len(texts) or not texts:
            raise WrongInput(f"There are {len(texts)} prompts and {len(parts)} parts of them; give one part a prompt.")
        self.token_ids("")  # without a tokenizer there are no texts
        found = [overlapping(self, *each, occurrence) for each in zip(texts, parts, strict=True)]
        for text, part, positions in zip(texts, parts, found, strict=True):
            if positions != found[0]:
                raise WrongInput(
                    f"{parts[0]!r} stands at {found[0]} in {texts[0]!r}, and {part!r} at {positions} in {text!r}. "
                    "Sites have one position in all prompts: choose words of as many tokens, or ask for each apart."
                )
        return found[0]

    def show(self, prompt: str, positions: Sequence[int]) -> str:
        """The prompt with its tokens at some positions marked: "The city of< Paris> is".

        Raises WrongInput for a position that is not there.
        """
        tokens = self.tokens(prompt)
        if wrong := [t for t in positions if not -len(tokens) <= t < len(tokens)]:
            raise WrongInput(f"There is no position {wrong[0]}: {prompt!r} has {len(tokens)} tokens.")
        chosen = {t % len(tokens) for t in positions}
        return "".join(f"<{token}>" if t in chosen else token for t, token in enumerate(tokens))

    # -- the waist ---------------------------------------------------------------------------------

    def arguments(self, inputs: Any, places: Sequence[Site] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Prompts or token ids as the module takes them.

        Raises WrongPairs for prompts of unequal length, also where padding hides that.
        """
        options: dict[str, Any] = dict(self.options)
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
        if _is_pair(self.module):
            start = getattr(getattr(self.module, "config", None), "decoder_start_token_id", None) or 0
            options |= {"decoder_input_ids": torch.full((len(ids), 1), start, device=self.device)}
        return (), {"input_ids": torch.as_tensor(ids, device=self.device), **options}

    def trial(self, rows: int) -> Any:
        """So many rows of the tokens by which parts are checked, for both parts of an encoder-decoder."""
        ids = super().trial(rows)
        return {"input_ids": ids, "decoder_input_ids": ids} if _is_pair(self.module) else ids

    def attending(self, of: Of = "self") -> tuple[str, str]:
        """The arguments of the module that hold the tokens of an attention's queries, and those of its keys."""
        decoded = "decoder_input_ids" if self.stack == "decoder" else "input_ids"
        return decoded, "input_ids" if of == "cross" else decoded

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
        return device_of(self.module)


def _is_pair(module: Any) -> bool:
    """Whether it is an encoder and a decoder."""
    return bool(getattr(getattr(module, "config", None), "is_encoder_decoder", False))
