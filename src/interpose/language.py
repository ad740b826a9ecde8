"""A language model: a network whose inputs are prompts and whose output is the next token's logits."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .anatomy import Of
from .engine.question import ALL, Engine
from .errors import MissingPart, UnknownPlace, WrongInput, WrongPairs
from .forms import Form, check_alike, counted, forms, joined, scores_of, token_rows, without_pads, work_of
from .generated import Generated
from .generation import cache_of, generate
from .gguf_files import converted
from .interventions import as_intervention
from .metrics import Scored
from .model import NOTHING, Model, Run, Score, Work, assigned, several
from .named import Prompt, Tokens
from .network import checked_writes
from .prompts import conversation, overlapping
from .sites import Site
from .transformer import Transformer
from .units import at_rest, device_of
from .unwrapping import unwrapped

POSITIONS = ("wpe", "embed_positions", "position_embeddings")
"""What transformers call their tables of learned positions, which have an end."""


class LanguageModel(Transformer):
    """A causal language model of the transformers library as a `Model`.

    module, tokenizer: used as they are; without a tokenizer, inputs are token ids. What nnsight, TransformerLens or a
    pipeline makes of a model is taken apart first.

    stack: of an encoder-decoder the part whose blocks, heads and neurons are meant, by default the decoder. Prompts go
    to the encoder, and the decoder starts with its first token; a dict gives both, as the module takes them.

    A prompt is a text, a list of texts, or token ids [token] or [prompt, token]. Prompts of unequal length run in parts
    of one length each and are never padded, so that each gives what it gives alone; pads that inputs bring along are
    taken off. A place that spans all positions then holds a list, one tensor [token, units] a prompt.

    The output of a run is the logits of the next token, [prompt, vocabulary].
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
        special = special and getattr(text, "special", True)
        ids = list(self.tokenizer(str(text), add_special_tokens=special)["input_ids"])
        first = getattr(self.tokenizer, "bos_token_id", None)
        if special and first is not None and ids[:2] == [first, first]:
            raise WrongInput(
                f"{str(text)!r} begins with {self.tokenizer.decode([first])!r}, which the tokenizer puts there too, so "
                "that it would run twice. Leave it out, make a conversation with lm.chat(...), or say that the text "
                "has all its special tokens: ip.Prompt(text, special=False)."
            )
        return ids

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
                    "A number is one position in all prompts: choose words of as many tokens, or name it, as in "
                    "Pairs.from_template(lm, 'The city of {city} is', ...) and positions=['{city[-1]}']."
                )
        return found[0]

    def show(self, prompt: str, positions: Sequence[int | str]) -> str:
        """The prompt with its tokens at some positions marked: "The city of< Paris> is".

        positions: numbers, or names as in "{city[-1]}". Raises WrongInput for a position that is not there.
        """
        tokens = self.tokens(prompt)
        found = [counted(self, prompt, one) if isinstance(one, str) else one for one in positions]
        each = [t for one in found for t in (one if isinstance(one, tuple) else (one,))]
        if wrong := [t for t in each if not -len(tokens) <= t < len(tokens)]:
            raise WrongInput(f"There is no position {wrong[0]}: {str(prompt)!r} has {len(tokens)} tokens.")
        chosen = {t % len(tokens) for t in each}
        return "".join(f"<{token}>" if t in chosen else token for t, token in enumerate(tokens))

    def chat(self, messages: Sequence[Mapping[str, str]], **values: Any) -> Prompt:
        """A conversation as the prompt that the model's chat template makes of it, special tokens and all.

        messages: [{"role": "user", "content": "Where is {city}?"}]; values: of parts such as {city}, which are then
        positions with a name. The assistant's turn is opened, or, where the last message is its own, left open.
        Raises WrongInput for a tokenizer without a template.
        """
        self.token_ids("")  # without a tokenizer there is no template
        return conversation(self, messages, values)

    # -- the waist ---------------------------------------------------------------------------------

    def run(self, inputs: Any, *, read: Iterable[Any] = (), write: Mapping[Any, Any] = NOTHING) -> Run[Site]:
        """One forward pass, or one for each form of prompts: see `Network.run`, and `forms.py`."""
        reads = list(dict.fromkeys(self.place(spelling) for spelling in several(read, "read")))
        writes = {self.place(spelling): as_intervention(new) for spelling, new in assigned(write).items()}
        parts = self.forms(inputs, [*reads, *writes])
        if parts is None:
            return super().run(inputs, read=reads, write=write)
        given = [checked_writes(self, form.writes(writes)) for form in parts]
        runs = [
            super(LanguageModel, self).run(form.inputs, read=[form.sites[site] for site in reads], write=own)
            for form, own in zip(parts, given, strict=True)
        ]
        return joined(parts, runs, reads, self.place)

    def sweep(self, inputs: Any, writes: Sequence[Mapping[Any, Any]], *, metric: Score) -> Tensor:
        """As `Network.sweep`, for every form of prompts by itself."""
        given = [{self.place(at): as_intervention(new) for at, new in assigned(one).items()} for one in writes]
        parts = self.forms(inputs, list(dict.fromkeys(site for one in given for site in one)))
        if parts is None:
            return super().sweep(inputs, writes, metric=metric)
        if not isinstance(metric, Scored):
            return Model.sweep(self, inputs, writes, metric=metric)
        scores, works = [], list[Work]()
        for form in parts:
            share = len(form.rows) / form.total
            own = replace(
                metric,
                pairs=metric.pairs[form.rows],
                tick=lambda done, share=share: metric.tick(done * share),
                record=works.append,
            )
            with torch.no_grad():
                scores.append(super().sweep(form.inputs, [form.writes(one) for one in given], metric=own))
        metric.record(work_of(works))
        return scores_of(parts, scores)

    def comparable(
        self, base: Any, source: Any, places: Sequence[Any], names: tuple[str, str] = ("the base", "the source")
    ) -> None:
        """Raise WrongPairs for a place that is not the same in base and source, as where their words are shifted."""
        ours, theirs = (token_rows(one) if isinstance(one, Mapping) else self._prompts(one) for one in (base, source))
        if not isinstance(ours, Mapping) and not isinstance(theirs, Mapping):
            check_alike(self, ours, theirs, [self.place(place) for place in places], names)

    def forms(self, inputs: Any, sites: Sequence[Site]) -> list[Form] | None:
        """The forms that prompts have, which run apart; None where there is one, and no position has a name.

        Raises UnknownPlace for a name at a place of the decoder's own tokens.
        """
        named = [site for site in sites if site.is_named]
        ours = self.of_prompt(named)
        if wrong := [site for site in named if site not in ours]:
            raise UnknownPlace(
                f"At {wrong[0]} pass tokens of the decoder, and {wrong[0].position} names tokens of the prompt, which "
                "the encoder takes. Count the position, as in -1, or take a place of the encoder: "
                "LanguageModel(..., stack='encoder'), or lm.keys(of='cross')."
            )
        rows = without_pads(inputs) if isinstance(inputs, Mapping) else inputs
        if isinstance(rows, Mapping) or (isinstance(rows, Tensor | np.ndarray) and not any(s.is_named for s in sites)):
            return None
        return forms(self, self._prompts(rows), sites)

    def of_prompt(self, sites: Sequence[Site]) -> list[Site]:
        """Those of some sites, each at a position, whose positions are the tokens of the prompt: all but a decoder's.

        In an encoder-decoder a run of three tokens, and one of the decoder, tells them apart.
        """
        if not _is_pair(self.module):
            return list(sites)
        if unknown := [whole for site in sites if (whole := site.everywhere()) not in self._prompted]:
            ids = super().trial(1)
            with at_rest(self.module), torch.no_grad():
                run = super().run({"input_ids": ids, "decoder_input_ids": ids[:, :1]}, read=unknown)
            self._prompted |= {site: site.length(run[site]) == ids.shape[1] for site in unknown}
        return [site for site in sites if self._prompted[site.everywhere()]]

    @cached_property
    def _prompted(self) -> dict[Site, bool]:
        return {}

    def arguments(self, inputs: Any, places: Sequence[Site] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Prompts or token ids as the module takes them.

        Raises WrongPairs for prompts of unequal length, which `run` runs apart.
        """
        options: dict[str, Any] = dict(self.options)
        if any(site.path in ("", self.unembedding()) for site in places):
            options.pop("logits_to_keep", None)  # what is read or written there has all positions
        if isinstance(inputs, Mapping) and isinstance(rows := without_pads(inputs), Mapping):
            given = {name: torch.as_tensor(value, device=self.device) for name, value in rows.items()}
            return (), {**given, **options}
        ids = self._ids(rows if isinstance(inputs, Mapping) else inputs)
        if not len(ids) or not all(len(row) for row in ids):
            raise WrongInput("A prompt without tokens cannot be run: a language model continues something.")
        lengths = sorted({len(row) for row in ids})
        if len(lengths) != 1:
            raise WrongPairs(f"The prompts have {lengths} tokens. Prompts that run together have equally many tokens.")
        self._check_tokens(torch.as_tensor(ids))
        if _is_pair(self.module):
            start = getattr(getattr(self.module, "config", None), "decoder_start_token_id", None) or 0
            options |= {"decoder_input_ids": torch.full((len(ids), 1), start, device=self.device)}
        return (), {"input_ids": torch.as_tensor(ids, device=self.device), **options}

    def generate(
        self,
        prompt: Any,
        *,
        tokens: int = 20,
        read: Iterable[Any] = (),
        write: Mapping[Any, Any] = NOTHING,
        temperature: float | None = None,
        seed: int | None = None,
        stop: Sequence[int] | None = None,
    ) -> Generated:
        """What the model writes after a prompt, token after token, while places are read and written.

        Step 0 is the pass of the prompt, T tokens; step k that of the k-th new token, which finds the earlier ones in
        the model's cache: each token is processed once, and what was written to it lives on.
        write: place -> value or intervention, for every step in which the place is met; or place -> {step: value}.
        A position p from 0 on is that of the whole text, met in step 0 if p < T and else in step p - T + 1; -1 is the
        last token of each pass. Without a position all tokens of a pass are meant.
        read: places, read in every step in which they are met.

        The likeliest token is taken, or with a temperature and a seed one is drawn; what else the model's generation
        configuration says is not used. stop: ids of tokens that end a text, by default those the model names; [] none.
        Runs in the gradient mode that holds outside; use torch.no_grad() for less memory.
        Raises WrongInput for a step or position that cannot come, for options without an effect, and for modules
        without a cache that stands for earlier tokens; NotFired for a place written or read in no step; and what `run`
        raises.
        """
        return generate(
            self, prompt, tokens=tokens, read=read, write=write, temperature=temperature, seed=seed, stop=stop
        )

    @cached_property
    def cache(self) -> str:
        """What the module calls its cache of earlier tokens, checked by value: see `generate`."""
        return cache_of(self)

    @property
    def encoder(self) -> str | None:
        """The path of the encoder of an encoder-decoder, None elsewhere."""
        find: Any = getattr(self.module, "get_encoder", None)
        return self.paths.get(find()) if _is_pair(self.module) and find is not None else None

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
        if not isinstance(output, Tensor) and not hasattr(output, "logits"):
            raise WrongInput(
                f"{type(self.module).__name__} gives no logits of a next token. Give a model with a language-model "
                "head, as AutoModelForCausalLM loads it, or an ip.Network."
            )
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits[:, -1]

    def _check_tokens(self, ids: Tensor) -> None:
        """Raise WrongInput for tokens that the model does not embed, and for more than it has positions for."""
        find = getattr(self.module, "get_input_embeddings", None)
        many = getattr(find() if find is not None else None, "num_embeddings", None)
        if many is not None and len(wrong := ids[(ids < 0) | (ids >= many)]):
            raise WrongInput(f"Token {int(wrong[0])} is none of the model's: they count from 0 to {many - 1}.")
        tables = [self.modules[path] for path in self.modules if path.rpartition(".")[2] in POSITIONS]
        ends = [m.num_embeddings - getattr(m, "offset", 0) for m in tables if isinstance(m, nn.Embedding)]
        if (length := ids.shape[1]) > min(ends, default=length):
            raise WrongInput(
                f"The prompts have {length} tokens, and the model has {min(ends)} positions. Shorten them."
            )

    def _ids(self, inputs: Any) -> Any:
        """Token ids, one row a prompt."""
        rows = self._prompts(inputs)
        return rows if isinstance(rows, Tensor) else [self.token_ids(p) if isinstance(p, str) else p for p in rows]

    def _prompts(self, inputs: Any) -> Any:
        """Texts or token ids, one a prompt; what came as a tensor is one."""
        if isinstance(inputs, str):
            return [inputs]
        if isinstance(inputs, Tensor | np.ndarray):
            return torch.atleast_2d(torch.as_tensor(inputs))
        rows: list[Any] = [row.tolist() if isinstance(row, Tensor | np.ndarray) else row for row in inputs]
        if rows and isinstance(rows[0], int | np.integer):
            return [inputs if isinstance(inputs, Tokens) else rows]
        return rows

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
