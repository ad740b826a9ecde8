"""Models in eight bits: their sites, scans and interventions, against their weights in full, and by hand."""

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import architectures
import interpose as ip
from interpose import errors
from interpose.identity import question
from test_prompted import hooked

try:
    import bitsandbytes
except ImportError:
    bitsandbytes = None

IDS = torch.randint(3, 90, (4, 7), generator=torch.Generator().manual_seed(0))
KINDS = ("residual", "embeddings", "attentions", "mlps", "heads", "queries", "keys", "values", "neurons")


def pairs_of_tokens():
    return ip.Pairs.from_tokens(base=IDS, source=IDS.flip(0), answers=[[7, 8]] * 4)


class EightBits(nn.Module):
    """A linear layer whose weights are whole numbers of eight bits and a scale an output; none are parameters."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def full(self):
        return self.weight.to(self.scale.dtype) * self.scale

    def forward(self, x):
        return nn.functional.linear(x, self.full, self.bias)


def in_eight_bits(kind):
    """A model with such layers, and the same with their weights in full."""
    module, twin = architectures.build(kind), architectures.build(kind)
    for path, part in list(module.named_modules()):
        if isinstance(part, nn.Linear) and "head" not in path:
            module.set_submodule(path, EightBits(part))
            with torch.no_grad():
                twin.get_submodule(path).weight.copy_(module.get_submodule(path).full)
    assert sum(isinstance(part, EightBits) for part in module.modules()) >= 12
    return ip.LanguageModel(module), ip.LanguageModel(twin)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
@pytest.mark.parametrize("sites", KINDS)
def test_layers_of_eight_bits_have_the_sites_and_effects_of_their_weights_in_full(kind, sites):
    lm, twin = in_eight_bits(kind)
    ours, theirs = getattr(lm, sites)(), getattr(twin, sites)()
    assert ours == theirs and len(ours)
    found = ip.scan(lm, pairs_of_tokens(), ours[:8], ip.logit_difference)
    wanted = ip.scan(twin, pairs_of_tokens(), theirs[:8], ip.logit_difference)
    np.testing.assert_allclose(found.nie, wanted.nie, atol=1e-5)
    assert np.abs(found.nie).max() > 1e-4


def test_a_small_network_of_eight_bits_has_neurons():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    module[0], module[2] = EightBits(module[0]), EightBits(module[2])
    net = ip.Network(module, inputs=("A", "B", "C"))
    assert net.layers() == ("0", "2") and len(net.neurons()) == 4 and "  0  4 units" in repr(net)
    assert net.run([1, 2, 3], write={"0[1]": 5.0}, read=["0"])["0"].dtype == torch.float32


def test_two_models_that_differ_in_what_is_no_parameter_are_two_questions():
    class Scaled(nn.Linear):
        """As layers of bitsandbytes do, this one keeps a scale in its state that is neither parameter nor buffer."""

        factor = torch.ones(1)

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[prefix + "factor"] = self.factor

    def told(factor):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = Scaled(3, 1)
        layer.factor = torch.tensor([factor])
        net = ip.Network(nn.Sequential(layer), inputs=("A", "B", "C"))
        pairs = ip.Pairs(base=[[1.0, 2.0, 3.0]], source=[[3.0, 2.0, 1.0]])
        return question(net, pairs, [(net.place("0"),)], ip.value, None)

    assert told(1.0) == told(1.0) != told(2.0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_dynamic_quantisation_has_its_sites_and_is_measured_one_by_one():
    """Its scale is of all rows together, so rows are not independent: that is seen, and said."""
    module = torch.ao.quantization.quantize_dynamic(architectures.build("llama"), {nn.Linear}, dtype=torch.qint8)
    lm, full = ip.LanguageModel(module), ip.LanguageModel(module, engine="full")
    plain = ip.LanguageModel(architectures.build("llama"))
    assert "quantized" in type(module.model.layers[0].mlp.down_proj).__module__
    for sites in ("heads", "neurons", "mlps", "attentions"):
        assert getattr(lm, sites)() == getattr(plain, sites)()
    places = [*lm.residual(layers=[1], positions=[3, -1]), *lm.heads(layers=[2])[:2]]
    with pytest.raises(errors.NotRepeatable, match="batch_size=1"):
        ip.effects(lm, pairs_of_tokens(), places, ip.logit_difference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.ReplayMismatch)
        found = ip.effects(lm, pairs_of_tokens(), places, ip.logit_difference, batch_size=1)
    wanted = ip.effects(full, pairs_of_tokens(), places, ip.logit_difference, batch_size=1)
    np.testing.assert_allclose(found.nie, wanted.nie, atol=1e-5)
    with torch.no_grad():
        run = lm.run(IDS[:1], write={"layer 1 @ 3": ip.Scale(2)})
    edits = {"model.layers.1": lambda x: x * torch.eye(7)[3][:, None] + x}
    by_hand = hooked(module, IDS[:1], edits=edits, logits_to_keep=1)
    torch.testing.assert_close(run.output, by_hand)


# -- bitsandbytes ----------------------------------------------------------------------------------------------

needs_bitsandbytes = pytest.mark.skipif(bitsandbytes is None, reason="bitsandbytes is not installed")


def loaded(folder, **options):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = BitsAndBytesConfig(load_in_8bit=True, **options)
        return AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config, device_map="cpu", attn_implementation="eager"
        )


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
def test_a_model_that_bitsandbytes_loads_in_eight_bits_is_one_like_any_other(tmp_path):
    original = architectures.build("llama")
    original.save_pretrained(tmp_path)
    module = loaded(tmp_path)
    layer = module.model.layers[1].mlp.down_proj
    assert type(layer).__name__ == "Linear8bitLt" and layer.weight.dtype == torch.int8
    lm, full, plain = ip.LanguageModel(module), ip.LanguageModel(module, engine="full"), ip.LanguageModel(original)
    for sites in KINDS:
        assert getattr(lm, sites)() == getattr(plain, sites)()
    write = {"layer 1 @ 3": ip.Scale(2), "layer 2 head 1 @ -1": 0.5}
    with torch.no_grad():
        run = lm.run(IDS, write=write, read=["layer 1 @ 3"])
        exact = plain.run(IDS, write=write)

    def head(x):
        return torch.cat([x[:, :-1], torch.cat([x[:, -1:, :8], 0 * x[:, -1:, 8:16] + 0.5, x[:, -1:, 16:]], -1)], 1)

    edits = {
        "model.layers.1": lambda x: x * torch.eye(7)[3][:, None] + x,
        "model.layers.2.self_attn.o_proj:input": head,
    }
    torch.testing.assert_close(run.output, hooked(module, IDS, edits=edits))
    assert run.output.dtype == run["layer 1 @ 3"].dtype == torch.float32
    assert 0 < float((run.output - exact.output).abs().max()) < 0.3 * float(exact.output.abs().max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.ReplayMismatch)
        for sites in ("residual", "heads", "mlps"):
            found = ip.scan(lm, pairs_of_tokens(), getattr(lm, sites)(), ip.logit_difference)
            wanted = ip.scan(full, pairs_of_tokens(), getattr(lm, sites)(), ip.logit_difference)
            np.testing.assert_allclose(found.nie, wanted.nie, atol=10 * max(found.noise, 1e-6))
    with torch.no_grad():
        steps = lm.generate(IDS, tokens=3, stop=[], write={"layer 1 @ -1": ip.Add(0.5)})
    assert [entries[0].touched for entries in steps.ledger] == [4 * 32] * 3
    assert layer.weight.dtype == torch.int8


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
def test_a_store_tells_scales_of_bitsandbytes_apart_and_knows_a_model_again(tmp_path):
    original = architectures.build("llama")

    def told(factor):
        folder = tmp_path / str(factor)
        with torch.no_grad():
            original.model.layers[0].mlp.down_proj.weight.mul_(factor)
        original.save_pretrained(folder)
        lm = ip.LanguageModel(loaded(folder))
        ask = lambda: question(lm, pairs_of_tokens(), [(lm.residual()[0],)], ip.logit_difference, None)
        before = ask()
        with torch.no_grad():
            lm.run(IDS)
        assert before == ask()
        return before

    first, again, other = told(1.0), told(1.0), told(2.0)  # twice the weights: the same eight bits, another scale
    assert first == again != other
