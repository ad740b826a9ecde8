"""Maps that nnsight and TransformerLens made of tiny models, cell by cell, and ours: golden/make.py made the files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import interpose as ip
from golden.question import ANSWERS, BASE, CONFIGS, SOURCE

GOLDEN = Path(__file__).parent / "golden"
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
    pairs = ip.Pairs.from_tokens(base=BASE, source=SOURCE, answers=ANSWERS)
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
