"""Tiny random language models and a tiny tokenizer, built offline."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from interpose.tasks.capitals import COUNTRIES, PROMPT

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS = {
    "llama": lambda v: LlamaConfig(vocab_size=v, num_key_value_heads=2, **SIZES),
    "gpt2": lambda v: GPT2Config(vocab_size=v, n_embd=32, n_layer=3, n_head=4),
    "neox": lambda v: GPTNeoXConfig(vocab_size=v, **SIZES),
}


def tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE that makes one token of every word of the city prompts."""
    text = [PROMPT.format(city=city) + f" {country}" for city, country in COUNTRIES.items()]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<s>"], show_progress=False)
    raw.train_from_iterator(text * 3, trainer)
    if bos:
        from tokenizers.processors import TemplateProcessing

        raw.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>" if bos else None)


def model(kind: str = "llama", *, vocabulary: int = 700, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(CONFIGS[kind](vocabulary)).eval()


def saved(folder: Path) -> Path:
    """A folder as the hub would give it."""
    model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
