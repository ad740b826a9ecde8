"""Places that no module passes, the stream between attention and MLP and patterns, against forwards by hand."""

import pytest
import torch
import transformers as hf
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from transformers.models.gpt2 import modeling_gpt2

import interpose as ip
from architectures import CONFIGS, MASKED, NO_ATTENTION, ONE_LIST, PARALLEL, build
from interpose import errors
from interpose.windows import Between, Window

IDS = torch.tensor([[5, 17, 42, 8, 23], [31, 2, 64, 12, 90]])
SEQUENTIAL = [kind for kind in CONFIGS if kind not in (*NO_ATTENTION, *PARALLEL)]
ATTENTIVE = [kind for kind in CONFIGS if kind not in NO_ATTENTION]
KEYED = [kind for kind in ATTENTIVE if kind != "deepseek_v3"]
FUSED = ("gpt2", "llama", "gpt_neox", "gemma", "bert", "opt", "modernbert")


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def whole(site):
    """All positions of a site."""
    return site.everywhere()


def near(ours, theirs, tol=1e-4):
    """Whether two tensors agree, but for rounding."""
    return torch.allclose(ours, theirs, atol=tol * float(theirs.abs().max()), rtol=0)


def fused(kind):
    """The same network, with the attention that transformers choose by themselves."""
    module = build(kind)
    module.set_attn_implementation("sdpa")
    return module


# -- the stream between attention and MLP ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in SEQUENTIAL if kind not in (*ONE_LIST, "bert", "roberta")])
def test_between_the_parts_attention_was_added_and_the_mlp_was_not(models, kind):
    lm = models(kind)
    factor = getattr(lm.module.config, "residual_multiplier", 1.0)
    for layer in range(len(lm.blocks())):
        of = {"layers": [layer]}
        sites = [*lm.residual(**of, at="before"), *lm.attentions(**of), *lm.mlps(**of), *lm.residual(**of)]
        between = whole(lm.residual(**of, at="between")[0])
        run = lm.run(IDS, read=[between, *map(whole, sites)])
        before, attention, mlp, after = (run[whole(site)] for site in sites)
        assert near(run[between], before + factor * attention) and near(after, run[between] + factor * mlp)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_where_the_stream_is_normalised_it_is_what_the_norm_gives(models, kind):
    lm = models(kind)
    site = lm.residual(layers=[1], at="between")[0]
    assert site.path == f"{lm.blocks()[1]}.attention.output.LayerNorm"
    last = ip.Site(f"{lm.blocks()[1]}.output.LayerNorm", end="input")
    mlp = whole(lm.mlps(layers=[1])[0])
    value = torch.randn(2, 5, 32)
    run = lm.run(IDS, read=[last, mlp], write={whole(site): ip.Set(value)})
    assert near(run[last], value + run[mlp])


def oracle(module, layer, value):
    """The logits of a network whose block is written out, with another stream between its parts."""
    block = module.get_submodule("transformer.h" if hasattr(module, "transformer") else "model.layers")[layer]
    factor = getattr(module.config, "residual_multiplier", 1.0)
    norm = block.ln_2 if hasattr(block, "ln_2") else block.post_attention_layernorm
    block.forward = lambda *args, **kwargs: value + factor * block.mlp(norm(value))
    try:
        return module(IDS, use_cache=False).logits[:, -1]
    finally:
        del block.forward


@pytest.mark.parametrize("kind", ["gpt2", "llama", "granite", "qwen3", "starcoder2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_write_between_is_what_the_mlp_is_given_and_what_it_is_added_to(models, kind, layer):
    """The input of the norm alone would leave the sum around the MLP as it was; the oracle has both."""
    lm = models(kind)
    site = whole(lm.residual(layers=[layer], at="between")[0])
    value = torch.randn(2, 5, 32)
    run = lm.run(IDS, write={site: ip.Set(value)}, read=[site])
    assert near(run.output, oracle(lm.module, layer, value), 1e-5) and torch.equal(run[site], value)
    assert not near(run.output, lm.run(IDS).output, 1e-2)
    norm = ip.Site(f"{lm.blocks()[layer]}.{'ln_2' if kind == 'gpt2' else 'post_attention_layernorm'}", end="input")
    given = lm.run(IDS, write={site: ip.Set(value)}, read=[norm])[norm]
    assert near(given, value, 1e-6)


@pytest.mark.parametrize("kind", SEQUENTIAL)
def test_writing_between_what_was_read_there_changes_nothing_and_other_positions_stay_to_the_bit(models, kind):
    lm = models(kind)
    layer = len(lm.blocks()) - 1
    site, after = whole(lm.residual(layers=[layer], at="between")[0]), whole(lm.residual(layers=[layer])[0])
    plain = lm.run(IDS, read=[site, after])
    assert near(lm.run(IDS, write={site: ip.Set(plain[site])}).output, plain.output, 1e-5)
    one = lm.residual(layers=[layer], positions=[2], at="between")[0]
    run = lm.run(IDS, read=[after, site], write={one: 3.0})
    others = [0, 1, 3, 4]
    assert bool((run[site][:, 2] == 3).all()) and torch.equal(run[site][:, others], plain[site][:, others])
    if kind not in (*ONE_LIST, "mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v3"):  # experts run on other batches
        assert torch.equal(run[after][:, others], plain[after][:, others])
    assert not near(run[after][:, 2], plain[after][:, 2])


@pytest.mark.parametrize("kind", PARALLEL)
def test_where_attention_and_mlp_run_side_by_side_there_is_nothing_between(models, kind):
    lm = models(kind)
    with pytest.raises(errors.WrongInput) as refusal:
        lm.residual(at="between")
    assert str(refusal.value) == (
        f"There is no residual stream between attention and MLP in layer 0: {lm.blocks()[0]} gives both what enters "
        "it, side by side. lm.residual(at='before') and lm.residual() are the stream around them."
    )


def test_the_same_blocks_one_after_the_other_have_it():
    config = CONFIGS["gpt_neox"]()
    config.use_parallel_residual = False
    lm = ip.LanguageModel(hf.GPTNeoXForCausalLM(config).eval())
    assert [str(site) for site in lm.residual(at="between", positions=[-1])] == [
        f"layer {layer} between @ -1" for layer in range(3)
    ]


class Small(nn.Module):
    """What a part adds that is small beside the stream, passed on alone."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(4, 4)

    def forward(self, x):
        return self.part(1e-4 * x)


def test_what_is_not_written_stays_to_the_bit():
    """The stream less what it was before is not always what was added to it."""
    net = ip.Network(Small())
    net.modules["window"] = window = Between(net.modules, ip.Site("", end="input"), [ip.Site("part")], 1.0)
    net.paths[window] = "window"
    x = 1e4 * torch.randn(2, 3, 4)
    plain, run = net.run(x).output, net.run(x, write={"window[1, :]": 0.0}).output
    assert torch.equal(run[:, [0, 2]], plain[:, [0, 2]]) and torch.equal(run[:, 1], -x[:, 1])


def test_attention_written_in_the_same_run_is_in_the_stream(models):
    lm = models("llama")
    before, between, attention = (
        whole(sites[0])
        for sites in (
            lm.residual(layers=[1], at="before"),
            lm.residual(layers=[1], at="between"),
            lm.attentions(layers=[1]),
        )
    )
    run = lm.run(IDS, read=[before, between], write={attention: 2.0, before: 1.0})
    assert bool((run[between] == 3).all())
    chained = lm.run(IDS, read=[between], write={attention: 2.0, before: 1.0, between: ip.Add(4.0)})
    assert bool((chained[between] == 7).all())


def test_gradients_go_through_a_write_between(models):
    lm = models("gpt2")
    site = whole(lm.residual(layers=[1], at="between")[0])
    with torch.enable_grad():
        ours = torch.randn(2, 5, 32, requires_grad=True)
        theirs = ours.detach().clone().requires_grad_()
        lm.run(IDS, write={site: ip.Set(ours)}).output[:, 7].sum().backward()
        oracle(lm.module, 1, theirs)[:, 7].sum().backward()
    assert ours.grad.abs().max() > 0 and near(ours.grad, theirs.grad)
    lm.module.zero_grad(set_to_none=True)


@pytest.mark.usefixtures("every_saving")
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "olmo2", "granite", "bloom", "bert"])
@pytest.mark.parametrize("part", ["between", "patterns", "patterns at positions"])
def test_sweeps_with_every_saving_give_what_one_run_a_write_gives(models, kind, part):
    lm = models(kind)
    where = {"positions": [1, 4]} if part != "patterns" else {}
    sites = lm.residual(at="between", **where) if part == "between" else lm.patterns(**where)
    donor = lm.run(IDS, read=sites)
    writes = [{site: ip.Set(donor[site])} for site in sites]
    full = ip.LanguageModel(lm.module, engine="full")
    fast, slow = (model.sweep(IDS.flip(0), writes, metric=difference) for model in (lm, full))
    assert near(fast, slow, 1e-5) and float((fast - fast[0]).abs().max()) > 1e-4


def difference(output):
    """Of two logits."""
    return output[:, 7] - output[:, 11]


# -- patterns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "gemma2", "bert", "opt", "modernbert", "qwen3"])
def test_patterns_are_what_eager_attention_shows(kind):
    module = build(kind)
    shown = module(IDS, output_attentions=True, **({} if kind in MASKED else {"use_cache": False})).attentions
    lm = ip.LanguageModel(fused(kind) if kind != "gemma2" else module)
    for layer, pattern in enumerate(shown):
        sites = lm.patterns(layers=[layer])
        run = lm.run(IDS, read=sites)
        assert len(sites) == pattern.shape[1] == 4
        for head, site in enumerate(sites):
            assert torch.allclose(run[site], pattern[:, head], atol=1e-6)
    assert not near(shown[0], shown[1])


@pytest.mark.parametrize("kind", KEYED)
def test_a_pattern_from_elsewhere_weighs_the_values_that_are_here(models, kind):
    """By hand: the head becomes the source's pattern times the base's values, and nothing else of the layer changes."""
    lm = models(kind)
    layer, base, source = len(lm.blocks()) - 1, IDS[:1], IDS[1:]
    patterns, heads, values = lm.patterns(layers=[layer]), lm.heads(layers=[layer]), lm.values(layers=[layer])
    donor, plain = lm.run(source, read=patterns), lm.run(base, read=[*values, *heads, *patterns])
    each, scale = len(heads) // len(values), max(float(plain[head].abs().max()) for head in heads)
    for k, (pattern, head) in enumerate(zip(patterns, heads, strict=True)):
        by_hand = donor[pattern] @ plain[values[k // each]]
        ours = lm.run(base, read=heads, write={pattern: ip.Set(donor[pattern])})
        assert torch.allclose(ours[head], by_hand, atol=1e-5 * scale)
        assert all(torch.equal(ours[other], plain[other]) for other in heads if other is not head)
        assert near(ours.output, lm.run(base, write={head: ip.Set(by_hand)}).output, 1e-5)
        assert not torch.allclose(by_hand, plain[head], atol=1e-4 * scale)


@pytest.mark.parametrize("kind", ATTENTIVE)
def test_writing_the_pattern_that_was_read_changes_nothing_and_no_token_sees_a_later_one(models, kind):
    lm = models(kind)
    sites = lm.patterns()
    plain = lm.run(IDS)
    run = lm.run(IDS, read=sites)
    assert near(run.output, plain.output, 1e-5)
    assert near(lm.run(IDS, write={site: ip.Set(run[site]) for site in sites}).output, plain.output, 1e-5)
    later = torch.stack([run[site].triu(1).abs().amax() for site in sites])
    assert bool((later > 0).all()) if kind in MASKED else bool((later == 0).all())


def test_patterns_need_not_sum_to_one_and_may_see_what_was_masked(models):
    lm = models("llama")
    pattern, head = lm.patterns(layers=[1], heads=[3])[0], lm.heads(layers=[1])[3]
    value = lm.values(layers=[1])[1]
    none = lm.run(IDS, read=[head], write={pattern: 0.0})[head]
    assert bool((none == 0).all())
    run = lm.run(IDS, read=[head, value], write={pattern: 1.0})
    assert torch.allclose(run[head], run[value].sum(1, keepdim=True).expand(-1, 5, -1), atol=1e-6)


def test_a_row_of_a_pattern_is_a_query_and_its_units_are_keys(models):
    lm = models("gpt2")
    (row,) = lm.patterns(layers=[1], heads=[2], positions=[3])
    assert (str(row), row.coordinates) == (
        "layer 1 pattern 2 @ 3",
        (("layer", 1, 1), ("pattern", 2, 2), ("position", 3, 3)),
    )
    full = lm.patterns(layers=[1], heads=[2])[0]
    run = lm.run(IDS, read=[row, full, f"{full.path}:output.2[3, (0, 1)]"])
    assert run[row].shape == (2, 5) and torch.equal(run[row], run[full][:, 3])
    assert torch.equal(run[f"{full.path}:output.2[3, (0, 1)]"], run[full][:, 3, :2])
    new = torch.tensor([[0.5, 0.5, 0, 0, 0]]).expand(2, -1)
    changed = lm.run(IDS, read=[full], write={row: ip.Set(new)})[full]
    assert torch.equal(changed[:, 3], new)
    assert torch.equal(changed[:, [0, 1, 2, 4]], run[full][:, [0, 1, 2, 4]])


@pytest.mark.parametrize("kind", FUSED)
def test_only_runs_that_name_patterns_are_eager_and_the_choice_is_restored_also_after_an_error(kind, monkeypatch):
    module = fused(kind)
    lm = ip.LanguageModel(module)
    sites = lm.patterns(layers=[1])
    calls = []
    real = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    plain = lm.run(IDS).output
    many = len(calls)
    shown = lm.run(IDS, read=sites).output
    assert many == len(lm.blocks()) and len(calls) == many and near(shown, plain, 1e-5)

    def fail(old):
        raise KeyError("no")

    for failing in (lambda: lm.run(IDS, write={sites[0]: fail}), lambda: lm.sweep(IDS, [{sites[0]: fail}], metric=sum)):
        with pytest.raises(KeyError):
            failing()
        assert not _get_current_function_mode_stack() and module.config._attn_implementation == "sdpa"
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.equal(lm.run(IDS).output, plain) and len(calls) == 2 * many
    assert not any("forward" in part.__dict__ for part in module.modules())


def test_a_scan_over_patterns_records_that_attention_was_eager():
    lm = ip.LanguageModel(fused("llama"))
    full = ip.LanguageModel(lm.module, engine="full")
    pairs = ip.Pairs.from_tokens(base=IDS, source=IDS.flip(0), answers=torch.tensor([[3, 7], [20, 41]]))
    ours, theirs = (ip.scan(model, pairs, model.patterns(), metric=ip.logit_difference) for model in (lm, full))
    assert abs(ours.nie - theirs.nie).max() < 1e-5 and abs(theirs.nie).max() > 1e-3
    assert "Attention ran as 'eager', which makes patterns, and not as 'sdpa'." in ours.work.notes
    assert "Attention ran as" not in " ".join(ip.scan(lm, pairs, lm.heads(), metric=ip.logit_difference).work.notes)


class Averaging(nn.Module):
    """An attention without a softmax: the mean of all tokens so far."""

    def __init__(self, like):
        super().__init__()
        self.c_proj, self.value = like.c_proj, nn.Linear(32, 32)

    def forward(self, x, **kwargs):
        counts = torch.arange(1, x.shape[1] + 1)[:, None]
        return self.c_proj(self.value(x).cumsum(1) / counts), None


class Twice(nn.Module):
    """An attention that runs another one twice."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        self.inner(*args, **kwargs)
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize("other", [Averaging, Twice])
def test_attention_that_does_not_run_one_softmax_is_refused(other):
    module = build("gpt2")
    module.transformer.h[1].attn = other(module.transformer.h[1].attn)
    lm = ip.LanguageModel(module)
    with pytest.raises(errors.WrongInput) as refusal:
        lm.patterns(layers=[1])
    assert str(refusal.value) == (
        "The patterns of transformer.h.1.attn were not found: its own code should run one softmax, of all heads, and "
        "weigh values with what that gives. Load the model with attn_implementation='eager', or take lm.heads(), "
        "lm.queries(), lm.keys() and lm.values()."
    )
    assert len(lm.patterns(layers=[0])) == 4 and not any("h.1.attn.pattern" in path for path in lm.modules)


def squared(module, query, key, value, attention_mask, **_):
    """Attention that weighs with the squares of what the softmax gives."""
    scores = query @ key.mT / query.shape[-1] ** 0.5 + attention_mask
    pattern = nn.functional.softmax(scores, dim=-1) ** 2
    return (pattern @ value).transpose(1, 2), pattern


def test_a_softmax_that_does_not_weigh_the_values_is_no_pattern(monkeypatch):
    monkeypatch.setattr(modeling_gpt2, "eager_attention_forward", squared)
    with pytest.raises(errors.WrongInput, match=r"The patterns of transformer.h.1.attn were not found"):
        ip.LanguageModel(build("gpt2")).patterns(layers=[1])


# -- both --------------------------------------------------------------------------------------------------


def test_windows_are_found_again_by_their_spelling_and_are_no_modules_of_the_network(models):
    lm = ip.LanguageModel(build("llama"))
    before, said = lm.sites(), repr(ip.Network(lm.module))
    for site in (
        *lm.residual(at="between", layers=[1], positions=[-1]),
        *lm.patterns(layers=[2], heads=[1], positions=[0]),
    ):
        other = ip.LanguageModel(lm.module)
        for spelling in (str(site), site.spelling, site):
            assert other.place(spelling) == site and ip.LanguageModel(lm.module).place(spelling) == site
        assert torch.equal(other.run(IDS, read=[site])[site], lm.run(IDS, read=[site])[site])
    assert lm.sites() == before and not any(isinstance(part, Window) for part in lm.module.modules())
    assert repr(ip.Network(lm.module)) == said and "pattern" not in super(ip.LanguageModel, lm).__repr__()
    with pytest.raises(errors.UnknownPlace, match=r"has no module 'model.layers.1.pattern'"):
        lm.place("model.layers.1.pattern")
    with pytest.raises(errors.UnknownPlace, match="has no module 'between'"):
        ip.Network(nn.Linear(2, 2)).place("between")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda lm: lm.residual(at="middle"),
            "at='middle': the residual stream is read before, between or after the parts of a block.",
        ),
        (lambda lm: lm.patterns(layers=[1], heads=[4]), "There is no head 4 in layer 1: they count from 0 to 3."),
        (lambda lm: lm.place("layer 1 pattern 9"), "Layer 1 has no pattern 9: its patterns count from 0 to 3."),
        (
            lambda lm: lm.heads(of="other"),
            "of='other': attention is 'self', to a block's own tokens, or 'cross', to an encoder.",
        ),
        (
            lambda lm: lm.heads(of="cross", layers=[0]),
            "There is no attention to an encoder in model.layers.0: of='cross' asks for one.",
        ),
        (
            lambda lm: lm.attentions(of="cross", layers=[0]),
            "Layer 0 has no attention to an encoder that runs: of='cross' asks for one.",
        ),
    ],
)
def test_what_is_asked_wrongly_is_refused(models, call, said):
    with pytest.raises(errors.WrongInput) as refusal:
        call(models("llama"))
    assert str(refusal.value) == said


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_patterns_and_parts_of_blocks_are_met_in_one_run_where_attention_is_not_eager_otherwise(kind):
    module = build(kind)
    module.set_attn_implementation("sdpa")
    lm = ip.LanguageModel(module)
    parts = [*lm.residual(layers=[1], at="before"), *lm.attentions(layers=[1]), *lm.residual(layers=[1]), *lm.mlps()]
    parts += lm.residual(layers=[1], at="between") if kind != "gpt_neox" else ()
    with torch.no_grad():
        alone = lm.run(IDS, read=parts)
        found = lm.run(IDS, read=[*parts, *lm.patterns(layers=[1])])
        for site in parts:
            torch.testing.assert_close(found[site], alone[site], rtol=1e-4, atol=1e-4)
