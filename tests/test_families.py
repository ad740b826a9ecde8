"""Parts of transformers, on every architecture: where they are is told by value, and by patterns we did not look at."""

import pytest
import torch
import transformers as hf
from torch import nn

import interpose as ip
from architectures import CONFIGS, MASKED, NO_ATTENTION, ONE_LIST, build
from interpose import errors
from interpose.metrics import Scored

EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v3", "llama4")
LATENT = ("deepseek_v3",)
pytestmark = pytest.mark.usefixtures("without_gradients")
IDS = torch.tensor([[5, 17, 42, 8, 23], [31, 2, 64, 12, 90]])


@pytest.fixture
def without_gradients():
    """Values that are read are compared, and nothing is learned."""
    with torch.no_grad():
        yield


def whole(site):
    """All positions of a site."""
    return site.everywhere() if site.position is not None else site


def projection(lm, layer):
    """The path of a layer's output projection, and how many heads it has."""
    heads = lm.heads(layers=[layer])
    return heads[0].path, len(heads)


IN_STREAM = [kind for kind in CONFIGS if kind not in (*NO_ATTENTION, *ONE_LIST, "bert", "roberta")]
"""Where what parts add is added to the stream itself, and not to what is normalised then."""


@pytest.mark.parametrize("kind", IN_STREAM)
def test_attention_and_mlp_are_what_a_block_adds_to_the_residual_stream(models, kind):
    lm = models(kind)
    factor = getattr(lm.module.config, "residual_multiplier", 1.0)
    for layer in range(len(lm.blocks())):
        chosen = {"layers": [layer]}
        sites = [
            *lm.residual(**chosen, at="before"),
            *lm.residual(**chosen),
            *lm.attentions(**chosen),
            *lm.mlps(**chosen),
        ]
        run = lm.run(IDS, read=list(map(whole, sites)))
        before, after, attention, mlp = (run[whole(site)] for site in sites)
        assert attention.abs().max() > 0 and mlp.abs().max() > 0
        added = factor * (attention + mlp)
        assert torch.allclose(before + added, after, atol=1e-4 * float(after.abs().max()))


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in NO_ATTENTION])
def test_writing_all_heads_of_another_input_is_writing_its_attention(models, kind):
    """What all heads together hand on is what attention adds: the two writes give one output."""
    lm = models(kind)
    layer = len(lm.blocks()) - 1
    heads, attention = lm.heads(layers=[layer]), whole(lm.attentions(layers=[layer])[0])
    run = lm.run(IDS[1:], read=[*heads, attention])
    one = lm.run(IDS[:1], write={site: ip.Set(run[site]) for site in heads}).output
    other = lm.run(IDS[:1], write={attention: ip.Set(run[attention])}).output
    plain = lm.run(IDS[:1]).output
    scale = float(plain.abs().max())
    assert torch.allclose(one, other, atol=1e-4 * scale) and float((one - plain).abs().max()) > 1e-4 * scale


def patterns(lm, layer, ids, write=None):
    """[row, head, query, key]: the weights that eager attention gives beside its output, by a hook of our own."""
    inside, _ = projection(lm, layer)
    size, seen = ids.shape[1], []

    def keep(module, args, output):
        found = output if isinstance(output, tuple) else ()
        seen.extend(x for x in found if isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[2:] == (size, size))

    above = [m for path, m in lm.modules.items() if inside.startswith(f"{path}.") and path > lm.blocks()[layer]]
    handles = [module.register_forward_hook(keep) for module in above]
    try:
        lm.run(ids, write=write or {})
    finally:
        for handle in handles:
            handle.remove()
    return seen[0] if seen else None


SHOWN = [kind for kind in CONFIGS if kind not in (*NO_ATTENTION, *LATENT)]


def test_most_architectures_show_their_patterns(models):
    assert sum(patterns(models(kind), 1, IDS) is not None for kind in SHOWN) >= 30


@pytest.mark.parametrize("kind", SHOWN)
def test_values_weighted_by_the_pattern_are_the_heads(models, kind):
    lm = models(kind)
    pattern = patterns(lm, 1, IDS)
    if pattern is None:
        pytest.skip("this architecture does not show its patterns")
    values, heads = lm.values(layers=[1]), lm.heads(layers=[1])
    run = lm.run(IDS, read=[*values, *heads])
    each = len(heads) // len(values)
    scale = max(float(run[site].abs().max()) for site in heads)
    for head, site in enumerate(heads):
        assert torch.allclose(pattern[:, head] @ run[values[head // each]], run[site], atol=1e-5 * scale), head


@pytest.mark.parametrize("kind", SHOWN)
@pytest.mark.parametrize("part", ["queries", "keys"])
def test_a_head_without_queries_or_keys_attends_the_same_whatever_the_input(models, kind, part):
    lm = models(kind)
    plain = patterns(lm, 1, IDS)
    if plain is None:
        pytest.skip("this architecture does not show its patterns")
    sites, (_, heads) = getattr(lm, part)(layers=[1]), projection(lm, 1)
    each = heads // len(sites)
    for number, site in enumerate(sites):
        pattern = patterns(lm, 1, IDS, {site: 0.0})
        own = list(range(number * each, (number + 1) * each))
        others = [head for head in range(heads) if head not in own]
        assert torch.allclose(pattern[0, own], pattern[1, own], atol=1e-6)
        assert torch.equal(pattern[:, others], plain[:, others])
        assert not torch.allclose(plain[0, own], plain[1, own], atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in (*NO_ATTENTION, *ONE_LIST, *EXPERTS)])
def test_neurons_are_what_the_mlp_is_computed_from(models, kind):
    """Every neuron acts on its own MLP and nothing before it; all of them from another input give that input's MLP."""
    lm = models(kind)
    neurons, mlp, attention = lm.neurons(1), whole(lm.mlps(layers=[1])[0]), whole(lm.attentions(layers=[1])[0])
    assert len(neurons) == len({site.units for site in neurons}) and neurons[0].name == "layer 1 neuron 0"
    other = lm.run(IDS[1:], read=[*neurons, mlp])
    plain = lm.run(IDS[:1], read=[mlp, attention])
    one = lm.run(IDS[:1], read=[mlp, attention], write={neurons[3]: ip.Set(other[neurons[3]])})
    assert torch.equal(one[attention], plain[attention]) and not torch.equal(one[mlp], plain[mlp])
    full = lm.run(IDS[:1], read=[mlp], write={site: ip.Set(other[site]) for site in neurons})
    assert torch.allclose(full[mlp], other[mlp], atol=1e-5 * float(other[mlp].abs().max()))


@pytest.mark.parametrize("kind", CONFIGS)
def test_sites_are_read_back_from_what_they_are_called(models, kind):
    lm = models(kind)
    for method in ("residual", "attentions", "mlps", "heads", "neurons", "queries", "keys", "values"):
        for more in ({}, {"positions": [-1, 2]}):
            try:
                sites = getattr(lm, method)(layers=[0, 1], **more)
            except errors.WrongInput:
                continue
            assert len({str(site) for site in sites}) == len(sites)
            for site in sites[:: max(1, len(sites) // 4)]:
                again = lm.place(str(site))
                assert (again, str(again), again.coordinates) == (site, str(site), site.coordinates)
    before = lm.residual(layers=[1], positions=[0], at="before")[0]
    assert lm.place(str(before)) == before and str(before) == "before layer 1 @ 0"


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_comes_before_a_block_is_what_the_block_before_gave(models, kind):
    lm = models(kind)
    before, after = (whole(s[0]) for s in (lm.residual(layers=[1], at="before"), lm.residual(layers=[0])))
    run = lm.run(IDS, read=[before, after])
    assert torch.equal(run[before], run[after])
    start = lm.embeddings()[0]
    assert str(start) == "embeddings" and lm.run(IDS, read=[whole(start)])[whole(start)].shape == (2, 5, 32)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "gemma2", "bloom", "falcon_new", "olmo2", "codegen"])
@pytest.mark.parametrize("part", ["attentions", "mlps", "queries", "keys", "values", "neurons"])
@pytest.mark.parametrize("saving", ["what pays", "every_saving"])
def test_sweeps_give_what_one_run_a_write_gives(models, kind, part, saving, request):
    if saving == "every_saving":
        request.getfixturevalue(saving)
    lm = models(kind)
    sites = getattr(lm, part)(layers=[0, 2], positions=[1, 4])[:: 17 if part == "neurons" else 1]
    donor = lm.run(IDS, read=sites)
    writes = [{site: ip.Set(donor[site])} for site in sites]
    base = IDS.flip(0)
    fast = lm.sweep(base, writes, metric=lambda output: output[:, 7] - output[:, 11])
    slow = ip.LanguageModel(lm.module, engine="full").sweep(base, writes, metric=lambda o: o[:, 7] - o[:, 11])
    scale = float(lm.run(base).output.abs().max())
    assert torch.allclose(fast, slow, atol=1e-5 * scale) and float(fast.std(0).max()) > 0


@pytest.mark.usefixtures("every_saving")
@pytest.mark.parametrize("kind", CONFIGS)
def test_sweeps_with_every_saving_give_what_one_run_a_write_gives(models, kind):
    """The residual stream of every architecture; and which of them go through whole passes packed."""
    lm = models(kind)
    sites = lm.residual(positions=[1, 4])
    base = IDS.flip(0)
    donor = lm.run(IDS, read=sites)
    writes = [{site: ip.Set(donor[site])} for site in sites]
    work = []
    metric = Scored(lambda output, pairs: output[:, 7] - output[:, 11], ip.Pairs(base, IDS), record=work.append)
    fast = lm.sweep(base, writes, metric=metric)
    slow = ip.LanguageModel(lm.module, engine="full").sweep(base, writes, metric=metric)
    scale = float(lm.run(base).output.abs().max())
    assert torch.allclose(fast, slow, atol=1e-5 * scale) and float(fast.std(0).max()) > 0
    assert "compare and skip" in work[0].mechanisms, work[0].notes
    assert ("packed" in work[0].mechanisms) == (kind not in NOT_PACKED), work[0].notes


NOT_PACKED = ("falcon", "falcon_new", "bloom", "llama4", "deepseek_v3", "mamba")
"""Architectures with operations between their modules of which it is not known that they treat tokens one by one."""


def test_a_shared_key_is_the_keys_of_its_group_where_they_are_apart(models):
    """Grouped queries against the same network with every key and value head written out."""
    lm = models("llama")
    config = CONFIGS["llama"]()
    config.num_key_value_heads = 4
    apart = type(lm.module)(config).eval()
    weights = {}
    for name, value in lm.module.state_dict().items():
        if "k_proj" in name or "v_proj" in name:
            value = value.unflatten(0, (2, 8)).repeat_interleave(2, 0).flatten(0, 1)
        weights[name] = value
    apart.load_state_dict(weights)
    wide = ip.LanguageModel(apart)
    assert torch.allclose(wide.run(IDS).output, lm.run(IDS).output, atol=1e-5)
    for part in ("keys", "values"):
        ours, theirs = getattr(lm, part)(layers=[1]), getattr(wide, part)(layers=[1])
        assert (len(ours), len(theirs)) == (2, 4)
        for group, site in enumerate(ours):
            donor = lm.run(IDS.flip(0), read=[site])[site]
            one = lm.run(IDS, write={site: ip.Set(donor)}).output
            both = wide.run(IDS, write={theirs[2 * group + i]: ip.Set(donor) for i in (0, 1)}).output
            assert torch.allclose(one, both, atol=1e-5) and not torch.allclose(one, lm.run(IDS).output, atol=1e-4)


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "part", "said"),
    [
        ("mixtral", "neurons", "which experts run depends on the token"),
        ("qwen3_moe", "neurons", "which experts run depends on the token"),
        ("opt", "mlps", "no row an example"),
        ("llama4", "neurons", "no row an example"),
        ("mamba", "heads", "how many heads"),
        ("mamba", "attentions", "No two parts of backbone.layers.0 add up"),
        ("deepseek_v3", "keys", "was not found, or does not act so"),
    ],
)
def test_what_is_not_there_is_refused_with_what_to_do(models, kind, part, said):
    with pytest.raises(errors.WrongInput, match=said):
        getattr(models(kind), part)(layers=[1] if kind == "deepseek_v3" else [0])


def test_a_name_that_lies_is_found_out():
    """A block that adds twice what its attention gives, under the usual names."""
    module = build("llama")
    block = module.model.layers[1]
    forward = block.forward
    block.forward = lambda *args, **kwargs: forward(*args, **kwargs) + 0.1 * args[0]
    with pytest.raises(errors.WrongInput, match=r"No two parts of model.layers.1 add up"):
        ip.LanguageModel(module).attentions(layers=[1])
    assert len(ip.LanguageModel(build("llama")).attentions(layers=[1])) == 1


def test_heads_in_another_order_are_found_out():
    """Queries and keys that change places, by name: neither acts as it is called."""
    module = build("gpt_neox")
    attention = module.gpt_neox.layers[0].attention
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention.query_key_value.weight.copy_(attention.query_key_value.weight[order])
    shuffled = nn.Sequential(attention.query_key_value, Reordered(order))
    attention.query_key_value = shuffled
    with pytest.raises(errors.WrongInput, match="was not found, or does not act so"):
        ip.LanguageModel(module).queries(layers=[0])


class Reordered(nn.Module):
    """Units in the order they had before."""

    def __init__(self, order):
        super().__init__()
        self.back = torch.argsort(order)

    def forward(self, x):
        return x[..., self.back]


def test_looking_for_parts_leaves_nothing_behind():
    module = build("gpt2")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.random.get_rng_state()
    lm = ip.LanguageModel(module.train())
    assert lm.neurons(0) and lm.keys(layers=[0]) and lm.attentions()
    assert module.training and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("kind", MASKED)
def test_models_that_look_both_ways_have_parts_too(models, kind):
    lm = models(kind)
    assert len(lm.heads()) == 12 and len(lm.neurons(0)) == 48 and len(lm.keys(layers=[2])) == 4


# -- encoder and decoder -----------------------------------------------------------------------------------


SIZES_OF_A_STACK = {"layers": 2, "ffn_dim": 48, "attention_heads": 4}
FAR = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in SIZES_OF_A_STACK.items()}
NEAR = {"vocab_size": 100, "d_model": 32, "max_position_embeddings": 64, "decoder_start_token_id": 2}
PAIRED = {
    "t5": lambda: hf.T5Config(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        num_decoder_layers=3,
    ),
    "bart": lambda: hf.BartConfig(**{**NEAR, **FAR, "decoder_layers": 3, "decoder_attention_heads": 2}),
    "mbart": lambda: hf.MBartConfig(**NEAR, **FAR),
    "marian": lambda: hf.MarianConfig(**NEAR, **FAR, pad_token_id=0),
    "pegasus": lambda: hf.PegasusConfig(**NEAR, **FAR),
}
"""Encoder-decoders: T5, mBART and Pegasus add to the stream; BART and Marian normalise it after each part."""
GIVEN = {"input_ids": IDS, "decoder_input_ids": IDS[:, :4].flip(0)}


def encoder_decoder(stack=None, kind="t5"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = hf.AutoModelForSeq2SeqLM.from_config(PAIRED[kind]()).eval()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if kind != "t5" and parameter.ndim > 1 and "embed" not in name and "shared" not in name:
                    parameter.mul_(4)
        return ip.LanguageModel(module, stack=stack)


@pytest.mark.parametrize("kind", PAIRED)
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_of_an_encoder_decoder_the_parts_of_one_stack_add_up(kind, stack):
    """To the stream, one after another, with a norm after each where there is one (BART)."""
    lm = encoder_decoder(stack, kind)
    assert all(stack in path.split(".") for path in lm.blocks())
    assert len(lm.blocks()) == (3 if stack == "decoder" and kind in ("t5", "bart") else 2)
    for layer, block in enumerate(lm.blocks()):
        of = {"layers": [layer]}
        crossed = lm.attentions(**of, of="cross") if stack == "decoder" else ()
        parts = [*lm.attentions(**of), *crossed, *lm.mlps(**of)]
        around = [*lm.residual(**of, at="before"), *lm.residual(**of, at="between"), *lm.residual(**of)]
        normed = kind in ("bart", "marian")
        names = ["self_attn_layer_norm", *(["encoder_attn_layer_norm"] if crossed else []), "final_layer_norm"]
        norms = [lm.modules[f"{block}.{name}"] if normed else nn.Identity() for name in names]
        run = lm.run(GIVEN, read=[whole(site) for site in (*parts, *around)])
        stream, between, after = (run[whole(site)] for site in around)
        for k, (part, norm) in enumerate(zip(parts, norms, strict=True)):
            if k == len(parts) - 1:
                assert torch.allclose(stream, between, atol=1e-5 * float(between.abs().max()))
            assert run[whole(part)].abs().max() > 0
            stream = norm(stream + run[whole(part)])
        assert torch.allclose(stream, after, atol=1e-5 * float(after.abs().max()))


@pytest.mark.parametrize("kind", PAIRED)
@pytest.mark.parametrize("of", ["self", "cross"])
def test_the_heads_of_a_decoder_are_its_patterns_times_the_values(kind, of):
    """Of the attention to the encoder, whose keys are the tokens of the prompt; told by what eager attention shows."""
    lm = encoder_decoder(kind=kind)
    module, options = lm.module, {"output_attentions": True, "use_cache": False}
    chosen = module.config._attn_implementation
    module.set_attn_implementation("eager")
    shown = module(**GIVEN, **options)["cross_attentions" if of == "cross" else "decoder_attentions"][1]
    module.set_attn_implementation(chosen)
    patterns, heads, values = (getattr(lm, name)(layers=[1], of=of) for name in ("patterns", "heads", "values"))
    run = lm.run(GIVEN, read=[*patterns, *heads, *values])
    assert len(heads) == (2 if kind == "bart" else 4) and shown.shape[2:] == (4, 5 if of == "cross" else 4)
    for k, (pattern, head, value) in enumerate(zip(patterns, heads, values, strict=True)):
        assert torch.allclose(run[pattern], shown[:, k], atol=1e-6)
        assert torch.allclose(run[head], run[pattern] @ run[value], atol=1e-5 * float(run[head].abs().max()))
    for part in ("queries", "keys"):
        sites = getattr(lm, part)(layers=[1], of=of)
        flat = lm.run(GIVEN, read=patterns, write={sites[0]: 0.0})
        assert torch.allclose(flat[patterns[0]][0], flat[patterns[0]][1], atol=1e-6) or kind == "t5"  # by distance, too
        assert torch.equal(flat[patterns[1]], run[patterns[1]])
        assert not torch.allclose(flat[patterns[0]], run[patterns[0]], atol=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_write_between_in_a_decoder_is_what_the_mlp_is_given_and_added_to(kind):
    lm = encoder_decoder(kind=kind)
    site, after, mlp = (
        whole(s[0]) for s in (lm.residual(layers=[1], at="between"), lm.residual(layers=[1]), lm.mlps(layers=[1]))
    )
    value = torch.randn(2, 4, 32)
    run = lm.run(GIVEN, read=[after, mlp], write={site: ip.Set(value)})
    norm = lm.modules[f"{lm.blocks()[1]}.final_layer_norm"] if kind == "bart" else nn.Identity()
    assert torch.allclose(norm(value + run[mlp]), run[after], atol=1e-5)


@pytest.mark.parametrize("of", ["attentions", "heads", "queries", "keys", "values", "patterns"])
def test_parts_of_the_attention_to_an_encoder_are_read_back_from_what_they_are_called(of):
    lm = encoder_decoder(kind="bart")
    sites = getattr(lm, of)(layers=[1], of="cross", positions=[0])
    own = getattr(lm, of)(layers=[1], positions=[0])
    assert str(sites[0]) == {
        "attentions": "layer 1 cross attention @ 0",
        "queries": "layer 1 cross query 0 @ 0",
    }.get(of, f"layer 1 cross {of[:-1]} 0 @ 0")
    for site in (*sites, *own):
        again = lm.place(str(site))
        assert (again, str(again), again.coordinates) == (site, str(site), site.coordinates)
    assert not {site.spelling for site in sites} & {site.spelling for site in own}


def test_prompts_go_to_the_encoder_and_the_decoder_starts():
    lm = encoder_decoder()
    assert lm.stack == "decoder" and lm.blocks()[0].startswith("decoder")
    given = {"input_ids": IDS, "decoder_input_ids": torch.zeros(2, 1, dtype=torch.long)}
    assert torch.equal(lm.run(IDS).output, lm.run(given).output)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_an_encoder_decoder_is_scanned_as_one_run_a_write_does(stack):
    lm = encoder_decoder(stack)
    full = ip.LanguageModel(lm.module, stack=stack, engine="full")
    pairs = ip.Pairs.from_tokens(base=IDS, source=IDS.flip(0), answers=torch.tensor([[3, 7], [20, 41]]))
    sites = [*lm.heads(layers=[0]), *lm.mlps(layers=[1], positions=[0]), *lm.neurons(0)[:3], *lm.residual()]
    if stack == "decoder":
        sites += [*lm.heads(layers=[1], of="cross"), *lm.patterns(layers=[1], of="cross")]
    one, other = (ip.scan(model, pairs, sites, metric=ip.logit_difference) for model in (lm, full))
    assert abs(one.nie - other.nie).max() < 1e-5 and abs(other.nie).max() > 1e-3


def test_a_decoder_whose_attention_to_an_encoder_does_not_run_has_its_parts():
    config = hf.BartConfig(**NEAR, **FAR, is_encoder_decoder=False)
    with torch.random.fork_rng():
        lm = ip.LanguageModel(hf.BartForCausalLM(config).eval())
    assert len(lm.attentions()) == len(lm.mlps()) == 2 and len(lm.neurons(0)) == 48
