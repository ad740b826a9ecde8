"""A TransformerLens bridge is the model that it wraps: the same sites, the same numbers, or a refusal."""

import copy
import re

import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import interpose as ip
import tiny
from architectures import PARALLEL, build
from interpose import errors

bridges = pytest.importorskip("transformer_lens.model_bridge")
pytestmark = pytest.mark.filterwarnings("ignore")

KINDS = ("gpt2", "llama", "gpt_neox", "gemma2")
IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
T5 = {
    "vocab_size": 100,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
PARTS = ("residual", "attentions", "mlps", "neurons", "heads", "queries", "keys", "values", "patterns")


def bridged(kind, module=None):
    """A bridge, the module in it, and the same module before it was wrapped."""
    module = build(kind) if module is None else module
    plain = copy.deepcopy(module)
    bridge = bridges.TransformerBridge.boot_transformers(
        kind, hf_model=module, tokenizer=tiny.tokenizer(), device="cpu", dtype=torch.float32
    )
    return bridge, module, plain


def ran(lm):
    """The types of the modules that a run comes to."""
    found = set()
    hook = register_module_forward_hook(lambda module, *_: found.add(type(module).__name__))
    lm.run(IDS)
    hook.remove()
    return found


@pytest.fixture(scope="module", params=KINDS)
def both(request):
    """The language model of a bridge, that of the module before, and what the bridge itself gives."""
    bridge, _, plain = bridged(request.param)
    with torch.no_grad():
        return ip.LanguageModel(bridge), ip.LanguageModel(plain), bridge(IDS)[:, -1]


def sites_of(lm, part, **of):
    """Sites of a part; between attention and MLP too, where the two are not side by side."""
    own = getattr(lm, part)(**of)
    if part != "residual":
        return own
    between = () if lm.module.config.model_type in PARALLEL else lm.residual(**of, at="between")
    return (*own, *lm.residual(**of, at="before"), *between)


def test_a_bridge_gives_what_its_model_gives(both):
    lm, plain, given = both
    assert lm.tokenizer is not None and type(lm.module) is type(plain.module)
    assert torch.equal(lm.run(IDS).output, plain.run(IDS).output)
    assert torch.allclose(lm.run(IDS).output, given, atol=1e-5) and ran(lm) == ran(plain)
    assert {p: type(m) for p, m in lm.modules.items()} == {p: type(m) for p, m in plain.modules.items()}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_read_and_written_as_without_the_bridge(both, part):
    lm, plain, _ = both
    sites = sites_of(lm, part, layers=[0, 2])
    assert sites and sites == sites_of(plain, part, layers=[0, 2])
    ours, theirs = (model.run(IDS, read=sites) for model in (lm, plain))
    assert all(torch.equal(ours[site], theirs[site]) for site in sites)
    assert all(ours[site].abs().max() > 0 for site in sites if part != "neurons")
    for site in sites[:: max(1, len(sites) // 5)]:
        write = {site: ip.Set(ours[site].flip(0))}
        one, other = (model.run(IDS, write=write) for model in (lm, plain))
        assert torch.equal(one.output, other.output) and one.ledger[0].touched
        assert not torch.equal(one.output, ours.output)


def test_scans_of_a_bridge_are_those_of_its_model(both):
    lm, plain, _ = both
    pairs = ip.Pairs.from_tokens(base=IDS, source=IDS.flip(0), answers=torch.tensor([[3, 7], [20, 41]]))
    sites = [site for part in PARTS for site in sites_of(lm, part, layers=[1])[:6]]
    one, other = (ip.scan(model, pairs, sites, metric=ip.logit_difference) for model in (lm, plain))
    assert abs(one.nie - other.nie).max() < 1e-6 < 1e-3 < abs(other.nie).max()


def test_the_bridge_is_left_as_it_was():
    bridge, module, _ = bridged("gpt2")
    before, parts = bridge.eval()(IDS), dict(module.named_modules(remove_duplicate=False))
    state = {name: value.clone() for name, value in module.state_dict().items()}
    modes = {name: part.training for name, part in bridge.train().named_modules()}
    lm = ip.LanguageModel(bridge)
    assert modes == {name: part.training for name, part in bridge.named_modules()}
    bridge.eval()
    lm.module.eval()
    assert lm.patterns(layers=[0]) and lm.run(IDS, read=lm.heads()).values
    assert dict(module.named_modules(remove_duplicate=False)) == parts and bridge.original_model is module
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    assert torch.equal(bridge(IDS), before)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in lm.module.modules())


def test_the_parameters_are_those_of_the_bridge():
    """What is trained or edited in one is in the other; a model that was wrapped may be given without the bridge."""
    bridge, module, plain = bridged("gpt2")
    lm = ip.LanguageModel(module)
    assert {id(p) for p in lm.module.parameters()} <= {id(p) for p in bridge.parameters()}
    with torch.no_grad():
        for _, parameter in bridge.blocks[1].mlp.named_parameters():
            parameter.mul_(1.5)
        assert torch.allclose(lm.run(IDS).output, bridge(IDS)[:, -1], atol=1e-5)
    assert not torch.allclose(lm.run(IDS).output, ip.LanguageModel(plain).run(IDS).output, atol=1e-3)


def test_weights_that_transformer_lens_processed_are_run_as_they_are():
    bridge, _, plain = bridged("gpt2")
    bridge.enable_compatibility_mode()
    lm = ip.LanguageModel(bridge)
    assert torch.allclose(lm.run(IDS).output, bridge(IDS)[:, -1], atol=1e-5)
    assert not torch.allclose(lm.run(IDS).output, ip.LanguageModel(plain).run(IDS).output, atol=1e-2)
    heads = lm.heads(layers=[1])
    z = bridge.run_with_cache(IDS)[1]["blocks.1.attn.hook_z"].reshape(2, 5, 4, 8)
    run = lm.run(IDS, read=heads)
    assert all(torch.allclose(run[site], z[:, :, head], atol=1e-5) for head, site in enumerate(heads))


def test_an_encoder_decoder_is_taken_apart_too():
    """In whose blocks a bridge exchanges the functions that run them."""
    bridge, _, before = bridged("google-t5/t5-small", hf.T5ForConditionalGeneration(hf.T5Config(**T5)).eval())
    lm, plain = ip.LanguageModel(bridge), ip.LanguageModel(before)
    for part in ("residual", "attentions", "mlps", "heads", "keys", "patterns"):
        sites = getattr(lm, part)(layers=[1])
        ours, theirs = (model.run(IDS, read=sites) for model in (lm, plain))
        assert all(torch.allclose(ours[site], theirs[site], atol=1e-5) for site in sites)
    assert "T5Block" in ran(lm) and not [name for name in ran(lm) if name.endswith("Bridge")]


# -- what is refused ---------------------------------------------------------------------------------------


def refused(given):
    with pytest.raises(errors.WrongInput) as caught:
        ip.LanguageModel(given)
    return str(caught.value)


def test_hooks_on_a_bridge_are_not_lost_in_silence():
    bridge, _, _ = bridged("llama")
    bridge.blocks[1].attn.hook_pattern.add_perma_hook(lambda value, hook: value)
    assert refused(bridge) == (
        "There are hooks on the TransformerLens bridge, at 'blocks.1.attn.hook_pattern', which would not run. Take "
        "them off with reset_hooks(including_permanent=True), and write with interventions."
    )
    bridge.reset_hooks(including_permanent=True)
    assert ip.LanguageModel(bridge).heads()


def test_a_bridge_that_computes_something_else_is_refused():
    bridge, _, _ = bridged("gpt2")
    query = bridge.blocks[0].attn.q._original_component
    query.weight = nn.Parameter(2 * query.weight.detach())
    said = refused(bridge)
    assert re.sub(r"by up to [\d.e-]+", "by up to N", said) == (
        "The TransformerLens bridge gives other values than GPT2LMHeadModel in it, by up to N: weights of the bridge's "
        "own were changed, or it computes otherwise. Give the Hugging Face model itself, loaded anew."
    )


def test_a_forward_that_is_bound_to_the_changed_module_is_refused():
    """As what offloads models puts there."""
    bridge, module, _ = bridged("llama")
    forward = module.forward
    module.forward = lambda *args, **kwargs: forward(*args, **kwargs)
    assert refused(bridge) == (
        "TransformerLens changed LlamaForCausalLM, and something else runs in place of its forward, which would run "
        "it as it was changed. Give the Hugging Face model itself, loaded anew."
    )


def test_a_bridge_that_cannot_be_tried_is_refused():
    bridge, module, _ = bridged("llama")
    module.main_input_name = "pixel_values"
    assert refused(bridge) == (
        "TransformerLens changed LlamaForCausalLM part by part, and whether it gives the same without that shows only "
        "for models of token ids. Give the Hugging Face model itself, loaded anew."
    )
