"""Maps that nnsight and TransformerLens made of tiny models, cell by cell, and ours: golden/make.py made the files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

import interpose as ip

GOLDEN = Path(__file__).parent / "golden"
SIZES = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "llama": lambda: LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, **SIZES
    ),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=16, **SIZES),
}
PAIRS = {
    "base": torch.tensor([[5, 17, 42, 8, 23], [31, 9, 60, 12, 50]]),
    "source": torch.tensor([[5, 11, 42, 8, 23], [31, 9, 44, 12, 50]]),
    "answers": torch.tensor([[3, 7], [20, 41]]),
}
METHODS = {
    "residual": "residual",
    "attention": "attentions",
    "mlp": "mlps",
    "head": "heads",
    "query": "queries",
    "key": "keys",
    "value": "values",
}


@pytest.fixture(scope="module")
def golden():
    """Each file, and the model with the weights in it."""
    made = {}
    for kind, config in CONFIGS.items():
        with np.load(GOLDEN / f"{kind}.npz") as file:
            arrays = {name: file[name] for name in file}
        module = AutoModelForCausalLM.from_config(config()).eval()
        weights = {name.removeprefix("weight/"): torch.from_numpy(arrays[name]) for name in arrays if "weight/" in name}
        module.load_state_dict(weights)
        made[kind] = ip.LanguageModel(module), arrays
    return made


CASES = [
    (kind, library, part)
    for kind in CONFIGS
    for library, parts in (("nnsight", list(METHODS)[:4]), ("transformer_lens", list(METHODS)))
    for part in parts
]


@pytest.mark.parametrize(("kind", "library", "part"), CASES)
def test_every_cell_is_what_others_find(golden, kind, library, part):
    """Base runs with one part of the source: Y(base, site from source), pair by pair."""
    lm, arrays = golden[kind]
    expected = arrays[f"{library}/{part}"]
    pairs = ip.Pairs.from_tokens(**PAIRS)
    sites = getattr(lm, METHODS[part])()
    scan = ip.scan(lm, pairs, sites, metric=ip.logit_difference)
    ours = scan.ybs.reshape(expected.shape)
    assert np.allclose(ours, expected, atol=2e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=(1, 2)).min() > 0.01 * np.abs(expected).max(), "the cells differ"


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_files_say_what_they_were_made_with_and_what_they_cover(golden, kind):
    _, arrays = golden[kind]
    assert set(json.loads(str(arrays["versions"]))) == {"nnsight", "transformer_lens", "transformers", "torch"}
    covered = {name for name in arrays if not name.startswith("weight/") and name != "versions"}
    assert covered == {f"{library}/{part}" for one, library, part in CASES if one == kind}
