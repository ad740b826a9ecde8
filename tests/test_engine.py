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


def counted(kind, sites_of, *, layers=6, n=24, length=10, shared=0):
    lm = language_model(kind, layers=layers, vocab_size=400)
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


def test_a_logit_difference_never_multiplies_the_whole_vocabulary_in_a_pass():
    lm, pairs = language_model("llama"), token_pairs(4)
    wide = []
    lm.engine = ENGINES["all"]
    inner = lm.module.lm_head.forward
    lm.module.lm_head.forward = lambda x: wide.append(x.shape[0]) or inner(x)
    writes = from_source(lm, pairs.source, [s for whole in lm.residual() for s in whole.positions(7)])
    wide.clear()
    lm.sweep(pairs.base, writes, metric=Scored(ip.logit_difference, pairs))
    assert max(wide) <= 12  # base runs, and the cells that are checked; no pass of many rows


# -- cells that are not run -------------------------------------------------------------------------------


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
    def forward(self, x):
        hidden = self.first(x)
        if hidden.ndim == 3:
            return hidden.sum((1, 2))
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
@pytest.mark.parametrize(
    "kind", [AddsInPlace, ActsInPlaceAndLooksBack, HandsOnAndOverwrites, KeepsWhatItSaw, LeavesEarly]
)
def test_mischief_gives_the_loops_result(kind, engine):
    network = ip.Network(seeded(kind))
    base, source = numbers(5, 4), numbers(5, 4, seed=1)
    writes = from_source(network, source, ["first[1]", "first", "second", "second[(0, 2)]", "out:input[3]"])
    expected, found, _ = both(network, base, writes, Scored(ip.value, ip.Pairs(base, source)), engine)
    agree(expected, found)


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


@pytest.mark.parametrize("kind", [Forks, Couples])
@pytest.mark.parametrize("name", ["all", "replay", "rows"])
def test_a_module_that_lies_is_found_out_and_run_in_full(kind, name):
    network = ip.Network(seeded(kind))
    base, source = numbers(5, 4), numbers(5, 4, seed=1)
    writes = from_source(network, source, ["first#0[1]" if kind is Forks else "first[1]"])
    metric = Scored(ip.value, ip.Pairs(base, source))
    network.engine = "full"
    expected = network.sweep(base, writes, metric=metric)
    network.engine = ENGINES[name]
    notes = []
    metric = Scored(ip.value, metric.pairs, record=lambda work: notes.extend(work.notes))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = network.sweep(base, writes, metric=metric)
    agree(expected, found)
    if kind is Couples:
        assert [str(w.message) for w in told if w.category is errors.ReplayMismatch], notes
        assert any("differs from the" in note for note in notes)


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
