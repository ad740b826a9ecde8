"""Sweeps over the parts of transformers: the numbers of one run a write, and no more work than the writes ask for."""

from functools import partial

import pytest
import torch
from torch import nn

import interpose as ip
from interpose import errors
from interpose.metrics import Scored
from test_engine import ENGINES, agree, both, counted, from_source, language_model, token_pairs

KINDS = ("attentions", "mlps", "heads", "queries", "keys", "values", "neurons")
LENGTH = 7


def parts(lm, kind, positions=None, *, every=1):
    """The parts of one kind, each at all positions together unless some are given; of units only some."""
    found = [site for site in getattr(lm, kind)(positions=positions) if not (site.units or (0,))[0] % every]
    return found if kind not in ("attentions", "mlps") or positions is not None else [whole(site) for site in found]


def whole(site):
    return ip.Site(site.path, leaf=site.leaf, end=site.end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["gpt2", "llama", "mixtral"])
@pytest.mark.parametrize("engine", ["all", "replay", "what pays"])
def test_parts_of_a_language_model_have_the_numbers_of_the_loop(model, kind, engine):
    lm, pairs = language_model(model), token_pairs(4, LENGTH, shared=2)
    if (model, kind) == ("mixtral", "neurons"):
        with pytest.raises(errors.WrongInput, match="Layer 0 has no one layer of MLP neurons"):
            lm.neurons()
        return
    sites = [
        *parts(lm, kind, every=16 if kind == "neurons" else 1),
        *parts(lm, kind, [0, 3, -1], every=16 if kind == "neurons" else 1),
    ]
    expected, found, _ = both(
        lm, pairs.base, from_source(lm, pairs.source, sites), Scored(ip.logit_difference, pairs), ENGINES[engine]
    )
    assert len(expected) == len(sites) and (expected - expected[0]).abs().max() > 1e-7
    agree(expected, found)


@pytest.mark.parametrize("model", ["gpt2", "llama", "mixtral"])
def test_queries_keys_and_values_together_are_the_attention(model):
    lm, pairs = language_model(model), token_pairs(4, LENGTH)
    lm.engine = ENGINES["all"]
    made = [site for kind in ("queries", "keys", "values") for site in getattr(lm, kind)(layers=[1])]
    together = {site: write for each in from_source(lm, pairs.source, made) for site, write in each.items()}
    (attention,) = from_source(lm, pairs.source, [whole(lm.attentions(layers=[1])[0])])
    scores = lm.sweep(pairs.base, [together, attention], metric=Scored(ip.logit_difference, pairs))
    agree(scores[0], scores[1])


# -- counted work --------------------------------------------------------------------------------------------


def least(lm, kind, u, cells, one, *, layers, length, positions):
    """What the writes of a sweep ask for: the layers above, and the products that come after the part in its own.

    Where a position is written, tokens before it are not run above, and in its own layer only that token is; the keys
    and values of a token are seen by the tokens after it.
    """
    block = lm.module.get_submodule(lm.blocks()[0])
    weights = {name: p.numel() for name, p in block.named_parameters() if p.ndim > 1}
    mlp = sum(count for name, count in weights.items() if "mlp" in name)
    projected, down = (next(count for name, count in weights.items() if name in ends) for ends in (ATTENTION, MLP))
    products = {"mlps": 0, "neurons": down, "attentions": mlp}.get(kind, mlp + projected)
    after = products / sum(weights.values())
    above = here = 1.0
    if positions == "each":
        above, here = (length + 1) / (2 * length), 1 / length
        here = above if kind in ("keys", "values") else here
    elif positions == "last":
        above = here = 1 / length
    return (1 - u) * ((layers - 1) / (2 * layers) * above + after / layers * here) * cells * one


ATTENTION, MLP = (
    ("attn.c_proj.weight", "self_attn.o_proj.weight"),
    ("mlp.c_proj.weight", "mlp.down_proj.weight"),
)


def swept(model, kind, positions, *, n, every=1, layers=5, length=8):
    """The counted work of a sweep with its source run, the least that it could be, and that of a plain forward."""
    where = {"each": range(length), "last": [length - 1], None: None}[positions]
    engine, one, u, cells, lm = counted(
        model, lambda lm, length: parts(lm, kind, where, every=every), layers=layers, n=n, length=length
    )
    return engine, least(lm, kind, u, cells, one, layers=layers, length=length, positions=positions), one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_a_sweep_of_parts_at_each_position_does_no_more_than_it_must(model, kind):
    engine, least, one = swept(model, kind, "each", n=16, every=24 if kind == "neurons" else 1)
    assert engine <= 1.10 * (least + 2 * one)


@pytest.mark.parametrize("kind", ["queries", "keys", "values", "neurons"])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_a_sweep_of_parts_at_all_positions_together_does_no_more_than_it_must(model, kind):
    engine, least, one = swept(model, kind, None, n=16, every=12 if kind == "neurons" else 1)
    assert engine <= 1.10 * (least + 2 * one)


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_each_further_neuron_at_the_last_position_costs_no_more_than_it_must(model, monkeypatch):
    """Fixed costs apart, which few neurons do not outweigh; the fused kernel, since the other takes all tokens."""
    monkeypatch.setattr("test_engine.language_model", partial(language_model, attention="sdpa"))
    few, least_of_few, _ = swept(model, "neurons", "last", n=16, every=16)
    many, least_of_many, _ = swept(model, "neurons", "last", n=16, every=8)
    assert many - few <= 1.10 * (least_of_many - least_of_few)


@pytest.mark.parametrize("kind", ["attentions", "mlps"])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_a_sweep_of_a_few_cells_runs_the_base_rows_once_more_in_its_pass(model, kind):
    engine, least, one = swept(model, kind, None, n=16)
    assert engine <= 1.10 * (least + 3 * one)


@pytest.mark.parametrize("kind", ["neurons", "keys"])
def test_the_bounds_are_missed_where_all_tokens_are_run(kind, monkeypatch):
    monkeypatch.setitem(ENGINES, "all", ip.Engine(replay=True, skip=False))
    engine, least, one = swept("llama", kind, "each", n=8, every=24 if kind == "neurons" else 1, layers=4)
    assert engine > 1.10 * (least + 2 * one)


class Careless(nn.Module):
    """Goes on without its part where that fails."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(2, 2)

    def forward(self, x):
        try:
            return self.part(x)
        except ZeroDivisionError:
            return x


def test_a_write_that_fails_is_an_error_though_the_module_goes_on():
    with pytest.raises(ZeroDivisionError):
        ip.Network(Careless()).run(torch.ones(1, 2), write={"part": lambda old: old * (1 // 0)})
