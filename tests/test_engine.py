"""The engine: what a sweep leaves out changes no number; what it cannot be sure of, it does not leave out."""

import copy
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig, LlamaConfig, MixtralConfig

import interpose as ip
import tiny
from interpose import errors
from interpose.interventions import Set
from interpose.metrics import Scored
from interpose.structures import mapped
from interpose.tasks import adder

from known import SUBJECTS, numbers, seeded

ENGINES = {
    "all": ip.Engine(replay=True, skip=True, cone=True),
    "replay": ip.Engine(replay=True, skip=False),
    "skip": ip.Engine(replay=False, skip=True),
    "rows": ip.Engine(replay=False, skip=False),
    "small passes": ip.Engine(replay=True, skip=True, budget=1),
    "what pays": ip.Engine(),
}


def both(network, base, writes, metric, engine):
    """The scores by one run a write, those by the engine, and what the engine says of its work."""
    work = []
    network.engine = "full"
    expected = network.sweep(base, writes, metric=metric)
    network.engine = engine
    if hasattr(metric, "record"):
        metric = Scored(metric.metric, metric.pairs, record=work.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.ReplayMismatch)
        found = network.sweep(base, writes, metric=metric)
    return expected, found, work[-1] if work else None


def from_source(network, source, sites):
    with torch.no_grad():
        run = network.run(source, read=sites)
    return [{site: Set(run[site])} for site in map(network.place, sites)]


def agree(expected, found, share=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=share * max(1.0, float(expected.abs().max())))


# -- modules of every shape -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all", "small passes"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_so_it_does_in_single_precision(subject, name):
    network, base, source = subject.network(), subject.inputs(5), subject.inputs(5, seed=1)
    network.module.float()
    base, source = (mapped(given, lambda _, x: x.float()) for given in (base, source))
    writes = from_source(network, source, subject.sites)
    expected, found, _ = both(network, base, writes, Scored(ip.value, ip.Pairs(base, source)), ENGINES[name])
    assert float((found - expected).abs().max()) <= 2e-6 * float(expected.abs().max())


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_the_engine_gives_the_numbers_of_the_loop(subject, engine):
    network, base, source = subject.network(), subject.inputs(5), subject.inputs(5, seed=1)
    writes = from_source(network, source, subject.sites)
    writes += [{site: lambda old: 2 * old + old.mean()} for site in subject.sites]  # depends on its whole batch
    writes += [{site: 0.5} for site in subject.sites]
    metric = Scored(ip.value, ip.Pairs(base, source))
    expected, found, work = both(network, base, writes, metric, engine)
    agree(expected, found)
    assert work.mechanisms and "rows over sites" in work.mechanisms


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_sites_written_together_and_metrics_without_pairs(subject):
    network, base, source = subject.network(), subject.inputs(4), subject.inputs(4, seed=1)
    values = {site: write[site] for write in from_source(network, source, subject.sites) for site in write}
    writes = []
    for ours in values:
        for theirs in values:
            try:
                network.run(base, write={ours: values[ours], theirs: values[theirs]})
            except errors.OverlappingWrites:
                with pytest.raises(errors.OverlappingWrites):
                    network.sweep(base, [{ours: values[ours], theirs: values[theirs]}], metric=lambda y: y.reshape(-1))
                continue
            writes.append({ours: values[ours], theirs: values[theirs]})
    if writes:
        expected, found, _ = both(network, base, writes, lambda y: y.reshape(len(y), -1).sum(1), ENGINES["all"])
        agree(expected, found)


@settings(max_examples=15)
@given(st.integers(0, 100), st.permutations(range(4)), st.permutations(range(6)), st.sampled_from(list(ENGINES)))
def test_the_order_of_sites_and_pairs_changes_nothing(seed, sites, rows, engine):
    subject = SUBJECTS[1]
    network, base, source = subject.network(), subject.inputs(6, seed), subject.inputs(6, seed + 1)
    names = ["first[1]", "second[2]", "second:input[0]", "out:input"]
    network.engine = ENGINES[engine]

    def scores(order, index):
        pairs = ip.Pairs(base[index], source[index])
        writes = from_source(network, source[index], [names[i] for i in order])
        return network.sweep(base[index], writes, metric=Scored(ip.value, pairs))

    agree(scores(range(4), list(range(6)))[list(sites)][:, list(rows)], scores(sites, list(rows)))


# -- language models --------------------------------------------------------------------------------------

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
CONFIGS = {
    "llama": LlamaConfig(vocab_size=50, num_key_value_heads=2, **SIZES),
    "gpt2": GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4),
    "neox": GPTNeoXConfig(vocab_size=50, **SIZES),
    "gemma2": Gemma2Config(vocab_size=50, num_key_value_heads=2, head_dim=8, sliding_window=4, **SIZES),
    "mixtral": MixtralConfig(vocab_size=50, num_key_value_heads=2, num_local_experts=4, **SIZES),
}
INSIDE = {
    "llama": (
        "model.layers.1.mlp",
        "model.layers.1.self_attn.v_proj[2, 0:8]",
        "model.layers.2.mlp.down_proj:input[-1, 5]",
    ),
    "gpt2": ("transformer.h.1.mlp", "transformer.h.0.attn.c_attn[2, 0:8]", "transformer.h.2.mlp.act[-1, 5]"),
    "neox": ("gpt_neox.layers.1.mlp", "gpt_neox.layers.2.attention:output.0[4, :]", "gpt_neox.embed_in[3, :]"),
    "gemma2": ("model.layers.1.post_feedforward_layernorm", "model.layers.0.self_attn.q_proj[5, 0:8]"),
    "mixtral": ("model.layers.1.self_attn.q_proj[5, 0:8]", "model.layers.2.post_attention_layernorm[-1, :]"),
}


def language_model(kind, *, dtype=torch.float64, layers=3, attention="eager", **more):
    config = copy.deepcopy(CONFIGS[kind])
    config._experts_implementation = "eager"  # the grouped kernels know no doubles
    config.num_hidden_layers = layers
    for name, value in more.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(dtype).eval()
    return ip.LanguageModel(module)


def token_pairs(n, length=7, shared=0, seed=0, vocabulary=50):
    generator = torch.Generator().manual_seed(seed)
    base, source = (torch.randint(vocabulary, (n, length), generator=generator) for _ in range(2))
    source[:, :shared] = base[:, :shared]
    return ip.Pairs.from_tokens(base=base, source=source, answers=torch.tensor([[1, 2], [3, 4]] * n)[:n])


def sites_of(lm, kind, length=7):
    residual = [site for whole in lm.residual() for site in whole.positions(length)]
    return [*residual, *lm.heads(), *map(lm.place, INSIDE[kind])]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", ["all", "replay", "skip", "small passes"])
@pytest.mark.parametrize("shared", [0, 3])
def test_every_site_of_a_language_model(kind, name, shared):
    lm, pairs = language_model(kind), token_pairs(4, shared=shared)
    writes = from_source(lm, pairs.source, sites_of(lm, kind))
    for metric in (ip.logit_difference, lambda logits, pairs: logits.log_softmax(-1)[:, 7]):
        expected, found, work = both(lm, pairs.base, writes, Scored(metric, pairs), ENGINES[name])
        agree(expected, found)
    assert len(work.mechanisms) > 1


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@settings(max_examples=5)
@given(order=st.randoms(use_true_random=False), rows=st.integers(3, 60), pack=st.sampled_from([None, False]))
def test_any_order_of_sites_and_pairs_in_passes_of_any_size(kind, order, rows, pack):
    """More pairs than the base run of one block, and passes that end anywhere."""
    lm, pairs = language_model(kind), token_pairs(20, length=5, shared=2)
    index, sites = list(range(20)), [s for whole in lm.residual() for s in whole.positions(5)] + list(lm.heads())[::5]
    order.shuffle(index)
    order.shuffle(sites)
    known = KNOWN.setdefault(kind, {})
    if not known:
        lm.engine = "full"
        scores = lm.sweep(pairs.base, from_source(lm, pairs.source, sites), metric=Scored(ip.logit_difference, pairs))
        known.update(zip(map(str, sites), scores, strict=True))
    most, counts = [], Scored(ip.logit_difference, pairs[index], record=lambda work: most.append(work.mechanisms))
    lm.engine = ip.Engine(replay=True, skip=True, cone=True, pack=pack, budget=rows * PER_ROW)
    found = lm.sweep(pairs.base[index], from_source(lm, pairs.source[index], sites), metric=counts)
    agree(torch.stack([known[str(site)][index] for site in sites]), found)
    assert ("packed" in most[-1]) == (pack is None)


KNOWN = {}
"""The scores by one run a write of each kind of language model, by site."""

PER_ROW = 8 * 5 * 48 * 8
"""What a row of five tokens is taken to need: eight times the largest of its tensors, that inside of an MLP."""


def test_no_pass_has_more_rows_than_the_budget_holds():
    """And ten times the pairs have no larger ones: what a sweep holds at a time does not grow with them."""
    lm, rows = language_model("llama"), []
    lm.module.register_forward_pre_hook(lambda m, args, kw: rows.append(len(kw["input_ids"])), with_kwargs=True)
    sites = [s for whole in lm.residual() for s in whole.positions(5)]
    largest = {}
    for n, budget, pack in (
        (16, 10**6, False),
        (160, 10**6, False),
        (16, 10**6, None),
        (160, 10**6, None),
        (16, 1, None),
    ):
        pairs = token_pairs(n, length=5)
        writes = from_source(lm, pairs.source, sites)
        rows.clear()
        lm.engine = ip.Engine(replay=True, skip=True, cone=True, columns=False, pack=pack, budget=budget)
        lm.sweep(pairs.base, writes, metric=Scored(ip.logit_difference, pairs))
        largest[n, budget, pack] = max(rows[1:])  # the first is the plain run of all
    bound = 10**6 // PER_ROW
    assert 40 < largest[16, 10**6, False] <= largest[160, 10**6, False] <= bound == 65
    assert 40 < largest[16, 10**6, None] <= largest[160, 10**6, None] <= bound
    assert largest[16, 1, None] <= 8 + 1  # two rows a pass, and the cells that are checked


@pytest.mark.parametrize("kind", CONFIGS)
def test_single_precision_agrees_to_rounding(kind):
    lm, pairs = language_model(kind, dtype=torch.float32), token_pairs(4, shared=2)
    writes = from_source(lm, pairs.source, sites_of(lm, kind))
    expected, found, _ = both(lm, pairs.base, writes, Scored(ip.logit_difference, pairs), ENGINES["all"])
    agree(expected, found, share=2e-6)


def test_half_precision_compares_rows_of_one_pass():
    lm, pairs = language_model("llama", dtype=torch.bfloat16), token_pairs(4, shared=2)
    writes = from_source(lm, pairs.source, sites_of(lm, "llama"))
    expected, found, _ = both(lm, pairs.base, writes, Scored(ip.logit_difference, pairs), ENGINES["all"])
    agree(expected, found, share=0.03)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_ragged_prompts_with_a_mask(kind):
    module, pairs = language_model(kind, attention="sdpa").module, token_pairs(4)
    mask = torch.ones(4, 7, dtype=torch.long)
    mask[1, :2] = mask[2, :3] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    base, source = (
        {"input_ids": ids, "attention_mask": mask, "position_ids": positions} for ids in (pairs.base, pairs.source)
    )
    network = ip.Network(module)
    block = "model.layers" if kind == "llama" else "transformer.h"
    sites = [f"{block}.{layer}[{position}, :]" for layer in range(3) for position in range(3, 7)]
    metric = Scored(lambda out, pairs: out.logits[:, -1, 3], ip.Pairs(base, source))
    expected, found, work = both(network, base, from_source(network, source, sites), metric, ENGINES["all"])
    agree(expected, found)
    assert "compare and skip" in work.mechanisms


def test_all_positions_of_a_layer_give_the_sources_logits_and_all_heads_the_attention_output():
    lm, pairs = language_model("llama"), token_pairs(4)
    lm.engine = ENGINES["all"]
    heads = {site: write[site] for write in from_source(lm, pairs.source, lm.heads(layers=[1])) for site in write}
    (whole,) = from_source(lm, pairs.source, ["model.layers.1.self_attn.o_proj:input"])
    (layer,) = from_source(lm, pairs.source, ["layer 1"])
    metric = Scored(ip.logit_difference, pairs)
    scores = lm.sweep(pairs.base, [heads, whole, layer], metric=metric)
    agree(scores[0], scores[1])
    agree(scores[2], metric(lm.run(pairs.source).output).to(scores))


# -- counted work -----------------------------------------------------------------------------------------


def flops(act):
    with FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


def counted(kind, sites_of, *, layers=6, n=24, length=10, shared=0, **more):
    lm = language_model(kind, layers=layers, vocab_size=400, **more)
    pairs = token_pairs(n, length, shared, vocabulary=400)
    writes = from_source(lm, pairs.source, sites_of(lm, length))
    metric = Scored(ip.logit_difference, pairs)
    lm.engine = ENGINES["all"]
    engine = flops(lambda: lm.sweep(pairs.base, writes, metric=metric)) + flops(lambda: lm.run(pairs.source))
    lm.options = {"use_cache": False}  # a plain forward, with the logits of every position
    one = flops(lambda: lm.run(pairs.base))
    lm.options = {"use_cache": False, "logits_to_keep": 1}
    head = one - flops(lambda: lm.run(pairs.base))
    u = head * length / (length - 1) / one
    return engine, one, u, len(writes), lm


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_residual_sweep_does_no_more_than_it_must(kind):
    def sites(lm, length):
        return [site for whole in lm.residual() for site in whole.positions(length)]

    layers, length = 6, 10
    engine, one, u, cells, _ = counted(kind, sites, layers=layers, length=length)
    ratio = (1 - u) * (layers + 1) / (2 * layers) * (length + 1) / (2 * length)
    assert engine <= 1.10 * (ratio * cells * one + 2 * one)
    engine, one, *_ = counted(kind, sites, layers=layers, length=length, shared=5)
    assert engine <= 1.10 * (ratio / 4 * cells * one + 2 * one)  # the square of the part that is not shared


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_sweep_of_heads_does_no_more_than_it_must(kind):
    layers = 6
    engine, one, u, cells, lm = counted(kind, lambda lm, length: lm.heads(), layers=layers)
    block = lm.module.get_submodule(lm.blocks()[0])
    mlp = sum(p.numel() for p in block.mlp.parameters() if p.ndim > 1)
    share = mlp / sum(p.numel() for p in block.parameters() if p.ndim > 1)
    ratio = (1 - u) * ((layers - 1) / (2 * layers) + share / layers)
    assert engine <= 1.10 * (ratio * cells * one + 2 * one)


def parts_of(lm):
    """The operations for one token of a block's products: query, key and value, output, MLP."""
    block = lm.module.get_submodule(lm.blocks()[0])
    sizes = {name: 2 * p.numel() for name, p in block.named_parameters() if p.ndim > 1}
    key_value = sum(size for name, size in sizes.items() if "k_proj" in name or "v_proj" in name)
    query = sum(size for name, size in sizes.items() if "q_proj" in name or "c_attn" in name)
    output = sum(size for name, size in sizes.items() if "o_proj" in name or "attn.c_proj" in name)
    return query, key_value, output, sum(sizes.values()) - query - key_value - output


def least_residual(lm, layers, length, shared):
    """The operations for one pair: every layer above a write, at its position and after, but where it enters and ends.

    Where it enters, queries, keys and values of one token; in the last layer, all but keys and values for the last one.
    GPT-2's queries, keys and values are one product, which is made for all of them.
    """
    query, key_value, output, mlp = parts_of(lm)
    last = query if key_value == 0 else 0  # what is made with keys and values there
    total = 0
    for written in range(layers):
        for position in range(shared, length):
            after = length - position
            for layer in range(written + 1, layers):
                entry, end = layer == written + 1, layer == layers - 1
                total += (1 if entry else after) * (key_value + (last if end else query))
                total += (1 if end else after) * (output + mlp) + (query - last if end else 0)
    return total


def least_heads(lm, layers, length, shared):
    """The operations for one pair: from the output projection on, for all tokens that differ, but in the last layer."""
    query, key_value, output, mlp = parts_of(lm)
    last = query if key_value == 0 else 0
    after, heads = length - shared, len(lm.heads(layers=[0]))
    total = 0
    for written in range(layers):
        end = written == layers - 1
        total += heads * (1 if end else after) * (output + mlp)
        total += heads * max(0, layers - written - 2) * after * (query + key_value + output + mlp)
        total += heads * (not end) * (after * (key_value + last) + query - last + output + mlp)
    return total


@pytest.mark.parametrize(("kind", "shared"), [("gpt2", 0), ("llama", 0), ("llama", 5)])
@pytest.mark.parametrize("part", ["residual", "heads"])
def test_a_sweep_does_the_least_work_there_is(part, kind, shared):
    """Counted by torch, with the source and the base run. Base rows run once more in packed passes: where half of every
    prompt is shared, so that little else is left to do, that is more than the tenth that is allowed for it otherwise.
    """
    layers, length, n = 12, 10, 48
    least = {"residual": least_residual, "heads": least_heads}[part]

    def sites(lm, length):
        return [s for w in lm.residual() for s in w.positions(length)] if part == "residual" else lm.heads()

    engine, one, _, _, lm = counted(kind, sites, layers=layers, n=n, length=length, shared=shared, attention="sdpa")
    assert engine <= 1.10 * (n * least(lm, layers, length, shared) + (2 if shared == 0 else 3) * one)


def test_layers_below_a_write_are_not_run_on_a_plain_stack():
    width, depth = 64, 8
    stack = seeded(lambda: nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth))))
    network = ip.Network(stack)
    base, source = numbers(48, width), numbers(48, width, seed=1)
    writes = from_source(network, source, [f"{layer}[{unit}]" for layer in range(depth) for unit in range(8)])
    metric = Scored(lambda y, pairs: y.sum(1), ip.Pairs(base, source))
    network.engine = ENGINES["all"]
    engine = flops(lambda: network.sweep(base, writes, metric=metric))
    one = flops(lambda: network.run(base))
    assert engine <= 1.10 * ((depth - 1) / (2 * depth) * len(writes) * one + 2 * one)


def test_the_toy_scan_is_a_handful_of_forwards():
    calls = []
    module = adder.Adder()
    module.register_forward_hook(lambda *_: calls.append(1))
    network = ip.Network(module, inputs=adder.INPUTS, names=adder.NAMES)
    for pairs in adder.pairs().values():
        ip.scan(network, pairs, network.neurons("l1", "l2"), ip.matches)
    assert len(calls) <= 3 * 25


def test_a_logit_difference_never_multiplies_the_whole_vocabulary_in_a_pass(monkeypatch):
    lm, pairs = language_model("llama"), token_pairs(4)
    wide, linear = [], nn.functional.linear
    lm.engine = ENGINES["all"]

    def seen(x, weight, bias=None):
        wide.extend([x.shape[0]] if weight is lm.module.lm_head.weight else [])
        return linear(x, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", seen)
    writes = from_source(lm, pairs.source, [s for whole in lm.residual() for s in whole.positions(7)])
    wide.clear()
    lm.sweep(pairs.base, writes, metric=Scored(ip.logit_difference, pairs))
    assert max(wide) <= 12  # base runs, and the cells that are checked; no pass of many rows


# -- cells that are not run -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_cells_that_hold_the_same_in_base_and_source_run_nothing(engine):
    lm, pairs, calls, work = language_model("llama"), token_pairs(4), [], []
    writes = from_source(lm, pairs.base, [site for whole in lm.residual() for site in whole.positions(7)])
    lm.module.register_forward_hook(lambda *_: calls.append(1))
    lm.engine = engine
    metric = Scored(ip.logit_difference, pairs, record=work.append)
    scores = lm.sweep(pairs.base, writes, metric=metric)
    assert len(calls) == work[-1].forwards == 2  # the base run, and one example alone
    assert bool((scores == scores[0]).all()) and work[-1].noise == 0.0


def test_unchanged_and_unreachable_cells_are_exactly_zero_and_say_so():
    lm, pairs = language_model("llama"), token_pairs(4, shared=3)
    lm.engine = ENGINES["all"]
    found = ip.scan(lm, pairs, lm.residual(), ip.logit_difference)
    status = found.data.status.values
    assert (status[:, :, :3] == "unchanged").all()
    assert (status[:, 2, 3:6] == "unreachable").all()
    assert (status[:, :2, 3:] == "measured").all() and (status[:, 2, 6] == "measured").all()
    still = status != "measured"
    assert (found.data.nie.values[still] == 0).all() and (found.data.tie.values[still] == 0).all()
    assert (np.abs(found.data.nie.values[~still]) > 0).all()


def test_a_dead_unit_is_measured_where_a_path_leads_on():
    net = ip.Network(adder.Adder(), inputs=adder.INPUTS, names=adder.NAMES, engine=ENGINES["all"])
    found = ip.scan(net, adder.pairs()["A"], net.neurons("l1", "l2"), ip.value)
    assert set(found.data.status.values.ravel()) == {"measured", "unchanged"}  # weights of zero are a path


# -- adversarial modules ------------------------------------------------------------------------------------


class Adversary(nn.Module):
    """Two layers, a place for mischief between them, and a read-out."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.act, self.same = nn.ReLU(inplace=True), nn.Identity()
        self.calls, self.kept = 0, None

    def forward(self, x):
        return self.out(self.second(self.middle(self.first(x)))).squeeze(-1)

    def middle(self, hidden):
        return hidden


class AddsInPlace(Adversary):
    def middle(self, hidden):
        hidden += torch.tanh(self.second(hidden))
        return hidden

    def forward(self, x):
        return self.out(self.middle(self.first(x))).squeeze(-1)


class ActsInPlaceAndLooksBack(Adversary):
    def middle(self, hidden):
        self.act(hidden)  # the output is not used: the input was overwritten
        return hidden


class HandsOnAndOverwrites(Adversary):
    def middle(self, hidden):
        other = self.same(hidden)
        other.mul_(2)
        return hidden


class KeepsWhatItSaw(Adversary):
    def middle(self, hidden):
        self.kept = hidden
        return self.kept.clone()


class LeavesEarly(Adversary):
    """If the first layer is silent for all rows at once: so a row may leave alone, and go on beside others."""

    def forward(self, x):
        hidden = self.first(x)
        if bool((hidden[:, 0] < 0).all()):
            return hidden.sum(1)
        return self.out(self.second(hidden)).squeeze(-1)


class TimeMajor(Adversary):
    def forward(self, x):
        hidden = self.second(torch.tanh(self.first(x.reshape(len(x), 2, 2).repeat(1, 1, 2).transpose(0, 1))))
        return self.out(hidden.transpose(0, 1)).sum((1, 2))


class FlattensTokens(Adversary):
    def forward(self, x):
        tokens = torch.tanh(self.first(x[:, None].repeat(1, 3, 1).reshape(-1, 4)))
        return self.out(self.second(tokens)).reshape(len(x), -1).sum(1)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("kind", [AddsInPlace, ActsInPlaceAndLooksBack, HandsOnAndOverwrites, KeepsWhatItSaw])
def test_mischief_gives_the_loops_result(kind, engine):
    network = ip.Network(seeded(kind))
    base, source = numbers(5, 4), numbers(5, 4, seed=1)
    writes = from_source(network, source, ["first[1]", "first", "second", "second[(0, 2)]", "out:input[3]"])
    expected, found, _ = both(network, base, writes, Scored(ip.value, ip.Pairs(base, source)), engine)
    agree(expected, found)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("kind", [TimeMajor, FlattensTokens])
def test_sites_whose_first_axis_is_not_the_example_give_the_loops_result(kind, n, engine):
    """Also where there are as many examples as times, or as many rows in a pass, and half of what is written is new."""
    network = ip.Network(seeded(kind))
    base, source = numbers(n, 4), numbers(n, 4, seed=1)
    source[:, :2] = base[:, :2]
    writes = from_source(network, source, ["first", "first[1]", "second", ":input[3]"])
    notes = []
    metric = Scored(ip.value, ip.Pairs(base, source), record=lambda work: notes.extend(work.notes))
    for some, refused in ((writes, True), (writes[:1], True), (writes[3:], False)):
        notes.clear()
        network.engine = "full"
        expected = network.sweep(base, some, metric=metric)
        network.engine = engine
        agree(expected, network.sweep(base, some, metric=metric))
        assert ("One run a write: the first axis of first is not the example." in notes) == refused


@pytest.mark.parametrize("kind", [TimeMajor, FlattensTokens])
def test_rows_that_are_not_on_the_first_axis_are_replayed_there_or_not_at_all(kind):
    network = ip.Network(seeded(kind))
    base, source = numbers(5, 4), numbers(5, 4, seed=1)
    writes = from_source(network, source, [":input[1]", "out"])
    work = []
    network.engine = ENGINES["all"]
    found = network.sweep(base, writes, metric=Scored(ip.value, ip.Pairs(base, source), record=work.append))
    network.engine = "full"
    agree(network.sweep(base, writes, metric=Scored(ip.value, ip.Pairs(base, source))), found)
    assert work


class Forks(Adversary):
    """Which layer is called depends on the data, once for the whole batch."""

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.out(self.second(hidden) if bool(hidden.sum() > 0) else self.first(hidden)).squeeze(-1)


class Remembers(Adversary):
    """Each call adds what the last one left behind, where nobody looks."""

    def __init__(self):
        super().__init__()
        self.box = [[0.0]]

    def middle(self, hidden):
        out = hidden + self.box[0][0]
        self.box[0][0] = float(hidden.abs().max())
        return out


class Couples(Adversary):
    def middle(self, hidden):
        return hidden - hidden.mean(0)


def lied_to(kind, engine, seed, sites):
    """The scores by one run a write, those by the engine, its notes, and its warnings."""
    network = ip.Network(seeded(kind))
    base, source = numbers(5, 4, seed=2 * seed), numbers(5, 4, seed=2 * seed + 1)
    writes = from_source(network, source, sites)
    notes = []
    metric = Scored(ip.value, ip.Pairs(base, source), record=lambda work: notes.extend(work.notes))
    network.engine = "full"
    expected = network.sweep(base, writes, metric=metric)
    notes.clear()
    network.engine = engine
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = network.sweep(base, writes, metric=metric)
    return expected, found, notes, [str(w.message) for w in told if w.category is errors.ReplayMismatch]


@pytest.mark.parametrize("name", ["all", "replay", "rows"])
def test_a_module_that_couples_rows_is_found_out_and_run_in_full(name):
    expected, found, notes, told = lied_to(Couples, ENGINES[name], 0, ["first[1]"])
    agree(expected, found)
    assert told and any("differs from the" in note for note in notes)


LOOKS = "One run a write: on its way the module looks at what it computed, and may go on otherwise for other rows."


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("kind", "sites"), [(Forks, ["first#0[1]", "first#0", ":input[2]"]), (LeavesEarly, ["first[1]", "first"])]
)
def test_a_module_that_goes_one_way_for_a_whole_batch_is_run_in_full(kind, sites, seed, engine):
    """Which way may be another in a pass, or for a sampled cell alone, or happen to be the same in all of these."""
    expected, found, notes, _ = lied_to(kind, engine, seed, sites)
    agree(expected, found)
    assert LOOKS in notes


@pytest.mark.parametrize("kind", [Forks, LeavesEarly])
def test_nor_is_such_a_module_measured_in_one_pass(kind):
    network = ip.Network(seeded(kind))
    site = network.place("first#0[1]" if kind is Forks else "first[1]")
    pairs = ip.Pairs(numbers(5, 4, seed=6), numbers(5, 4, seed=7))
    assert network.four_runs(pairs.base, pairs.source, [site], metric=Scored(ip.value, pairs)) is None


class Looker(Adversary):
    def __init__(self, look):
        super().__init__()
        self.look, self.scale = look, nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.ones(()))

    def forward(self, x, mask=None):
        hidden = self.first(x)
        self.look(self, hidden, x, mask)
        return self.out(self.second(hidden)).squeeze(-1)


@pytest.mark.parametrize(
    ("look", "looks"),
    {
        "a sign": (lambda m, h, x, mask: bool(h.sum() > 0), True),
        "a branch": (lambda m, h, x, mask: 1 if (h > 0).any() else 2, True),
        "a number": (lambda m, h, x, mask: h.max().item(), True),
        "a float": (lambda m, h, x, mask: float(h.abs().max()), True),
        "a list": (lambda m, h, x, mask: h[0].tolist(), True),
        "an input": (lambda m, h, x, mask: bool(x[0, 0] > 0), True),
        "whether equal": (lambda m, h, x, mask: torch.equal(h, x), True),
        "whether close": (lambda m, h, x, mask: h.allclose(x), True),
        "a parameter": (lambda m, h, x, mask: m.scale.item() + float(m.seen), False),
        "a mask": (lambda m, h, x, mask: bool(mask.all()) and bool((mask[:, 0] == 1).any()), False),
        "which": (lambda m, h, x, mask: [int(h[i].argmax()) for i in range(len(h))], False),
        "which of several": (lambda m, h, x, mask: bool((h.max(1).indices == 0).all()), False),
        "whether finite": (lambda m, h, x, mask: bool(h.isfinite().all()) or bool(torch.isnan(h).any()), False),
        "a shape": (lambda m, h, x, mask: h.shape[0] > 2 and h.is_floating_point() and h.requires_grad, False),
    }.values(),
)
def test_what_counts_as_looking(look, looks):
    """Numbers that were computed do; parameters, masks, which token goes to which expert, and NaN do not."""
    network = ip.Network(Looker(look).double().eval())
    base = {"x": numbers(5, 4), "mask": torch.ones(5, 3, dtype=torch.long)}
    notes = []
    metric = Scored(ip.value, ip.Pairs(base, base), record=lambda work: notes.extend(work.notes))
    network.sweep(base, [{network.place("first[1]"): Set(0.5)}], metric=metric)
    assert (LOOKS in notes) == looks, notes


def test_a_module_that_remembers_is_refused_before_any_sweep():
    network = ip.Network(seeded(Remembers))
    pairs = ip.Pairs(numbers(5, 4), numbers(5, 4, seed=1))
    with pytest.raises(errors.NotRepeatable):
        ip.effects(network, pairs, ["first"], ip.value)


# -- memory, exceptions, what is left behind ------------------------------------------------------------------


class Cramped(Adversary):
    most = 20

    def middle(self, hidden):
        if len(hidden) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return hidden


@pytest.mark.parametrize("name", ["all", "rows"])
def test_a_pass_that_does_not_fit_is_halved_and_that_is_said(name):
    network = ip.Network(seeded(Cramped))
    base, source = numbers(8, 4), numbers(8, 4, seed=1)
    writes = from_source(network, source, [f"first[{i}]" for i in range(4)] + [f"second[{i}]" for i in range(4)])
    metric = Scored(ip.value, ip.Pairs(base, source))
    network.engine = "full"
    expected = network.sweep(base, writes, metric=metric)
    network.engine = ENGINES[name]
    with pytest.warns(errors.ReplayMismatch, match="rows does not fit into memory. It is made in two halves."):
        agree(expected, network.sweep(base, writes, metric=metric))
    Cramped.most = 0
    try:
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            network.sweep(base, writes, metric=metric)
    finally:
        Cramped.most = 20


@pytest.mark.parametrize(("most", "said"), [(7, ["50 pairs", "25 pairs", "13 pairs"]), (40, ["50 pairs"])])
def test_pairs_that_do_not_fit_together_are_measured_in_parts_and_that_is_said(monkeypatch, tmp_path, most, said):
    """Whatever fails for want of memory: one pass for all, the checks, plain runs, or passes."""
    network = ip.Network(seeded(Cramped))
    pairs = ip.Pairs(numbers(120, 4), numbers(120, 4, seed=1))
    sites = [*(network.site("first", units=i) for i in range(4)), network.site("second", cut=("the middle", 1))]
    asked = {"batch_size": 50, "progress": True, "store": tmp_path}
    monkeypatch.setattr(Cramped, "most", 10**6)
    expected = ip.effects(network, pairs, sites, ip.value, batch_size=50)
    ticks = []

    @contextmanager
    def bar(total, progress):
        ticks.clear()
        yield ticks.append
        assert sum(ticks) == pytest.approx(total) and min(ticks, default=1) > 0

    monkeypatch.setattr(ip.measure, "bar", bar)
    monkeypatch.setattr(Cramped, "most", most)
    with pytest.warns(errors.ReplayMismatch) as told:
        found = ip.effects(network, pairs, sites, ip.value, **asked)
    for name in ("ybb", "yss", "ybs", "ysb", "response"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10)
    texts = [f"{few} do not fit into memory together. They are made in two halves." for few in said]
    assert [text for text in map(str, (w.message for w in told)) if "together" in text] == texts
    assert [note for note in found.work.notes if "together" in note] == texts
    monkeypatch.setattr(Cramped, "most", 0)
    again = ip.effects(network, pairs, sites, ip.value, **asked)  # all of it is kept
    np.testing.assert_array_equal(again.ybs, found.ybs)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        ip.effects(network, pairs[:5], sites, ip.value)


@pytest.mark.parametrize("name", ENGINES)
def test_nothing_is_left_behind_even_by_an_error(name):
    lm, pairs = language_model("gpt2"), token_pairs(3)
    own = lm.module.transformer.h[0].forward
    lm.module.transformer.h[0].forward = own  # somebody's own, as accelerate puts one
    before = {path: dict(m.__dict__) for path, m in lm.module.named_modules()}
    hooks = {path: (len(m._forward_hooks), len(m._forward_pre_hooks)) for path, m in lm.module.named_modules()}
    state = torch.random.get_rng_state()
    calls = []

    def metric(logits, pairs):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError("the user's own")
        return logits[:, 0]

    lm.engine = ENGINES[name]
    writes = from_source(lm, pairs.source, [s for whole in lm.residual() for s in whole.positions(7)])
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        lm.sweep(pairs.base, writes, metric=Scored(metric, pairs))
    for path, module in lm.module.named_modules():
        assert module.__dict__.keys() == before[path].keys()
        assert all(module.__dict__[name] is value for name, value in before[path].items())
        assert (len(module._forward_hooks), len(module._forward_pre_hooks)) == hooks[path]
    assert torch.equal(state, torch.random.get_rng_state()) and all(p.grad is None for p in lm.module.parameters())


def test_a_metric_that_needs_all_outputs_and_one_that_reads_two_agree():
    lm, pairs = language_model("gemma2"), token_pairs(3)  # its logits are squashed after they are computed
    writes = from_source(lm, pairs.source, [s for whole in lm.residual() for s in whole.positions(7)])
    lm.engine = ENGINES["all"]

    def plain(logits, pairs):
        return ip.logit_difference(logits, pairs)

    read = lm.sweep(pairs.base, writes, metric=Scored(ip.logit_difference, pairs))
    agree(lm.sweep(pairs.base, writes, metric=Scored(plain, pairs)), read)


def test_mistakes_are_named_as_a_run_names_them():
    network = SUBJECTS[0].network()
    base = SUBJECTS[0].inputs(3)
    for write, kind in (
        ({"0[7]": 1.0}, errors.UnknownPlace),
        ({"0": torch.zeros(3, 2)}, errors.WrongShape),
        ({"0[1]": 1.0, "0[(1, 2)]": 2.0}, errors.OverlappingWrites),
        ({"0[1]": lambda old: None}, errors.BadIntervention),
    ):
        texts = []
        for engine in ("full", *ENGINES.values()):
            network.engine = engine
            with pytest.raises(kind) as error:
                network.sweep(base, [write], metric=lambda y: y[:, 0])
            texts.append(str(error.value))
        assert len(set(texts)) == 1, texts


def test_effects_in_both_directions_are_those_of_the_loop():
    lm = ip.LanguageModel(tiny.model("llama"), tiny.tokenizer())
    pairs = token_pairs(3, vocabulary=700)
    full = ip.LanguageModel(lm.module, lm.tokenizer, engine="full")
    places = [*(site for whole in lm.residual() for site in whole.positions(7)), *lm.heads(layers=[1])]
    ours, theirs = (ip.effects(model, pairs, places, ip.logit_difference) for model in (lm, full))
    np.testing.assert_allclose(ours.nie, theirs.nie, atol=1e-5)
    np.testing.assert_allclose(ours.tie, theirs.tie, atol=1e-5)
