"""Noise: ablation by it, and causal tracing against corrupted and restored runs made with plain hooks."""

import numpy as np
import pytest
import torch
from torch import nn

import architectures
import interpose as ip
from interpose import errors
from test_prompted import hooked

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 3, 4, 2], [11, 12, 13, 14, 15]])
ANSWERS = torch.tensor([[17, 18], [19, 20], [21, 22]])
PLACES = {  # embeddings, a block, what enters a projection
    "gpt2": ("transformer.wte", "transformer.h.1", "transformer.h.2.attn.c_proj"),
    "llama": ("model.embed_tokens", "model.layers.1", "model.layers.2.self_attn.o_proj"),
}


def pairs_of_tokens():
    return ip.Pairs.from_tokens(base=IDS, source=IDS.flip(0), answers=ANSWERS)


def probability(logits, pairs):
    """p(base answer): [pair]"""
    return logits.softmax(-1)[torch.arange(len(pairs)), pairs.answers[:, 0]]


def draw(seed, sample, place, pair, *shape):
    return np.random.default_rng([seed, sample, place, pair]).normal(size=shape)


def linear(scale=3.0):
    module = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)).double()
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[scale, 0.0, 1.0, 2.0]]))
    return ip.Network(module, inputs=("A", "B"))


def numbers(n):
    values = np.random.default_rng(0).normal(size=(n, 2)).tolist()
    return ip.Pairs(base=values, source=values[::-1])


# -- ablation by noise -----------------------------------------------------------------------------------------


def test_noise_has_the_size_that_was_asked_for_and_each_pair_its_own():
    """On a linear network the effect of noise on a unit is the noise, times the unit's weight."""
    for std in (0.5, 2.0):
        found = ip.ablate(linear(), numbers(400), ["0[0]", "0[1]", "0[3]"], ip.value, by=ip.Noise(std, seed=3))
        np.testing.assert_allclose(found.effect.std(0), [3 * std, 0, 2 * std], rtol=0.15, atol=1e-9)
        np.testing.assert_allclose(found.effect.mean(0), 0, atol=0.5 * std)
        assert abs(np.corrcoef(found.effect[:, 0], found.effect[:, 2])[0, 1]) < 0.2  # places have noise of their own
        np.testing.assert_allclose(found.effect[5, 0], 3 * std * draw(3, 0, 0, 5), rtol=1e-6)
    other = ip.ablate(linear(), numbers(400), ["0[0]"], ip.value, by=ip.Noise(2.0, seed=4))
    assert not np.allclose(other.effect, found.effect[:, :1])


def test_batches_change_nothing_also_with_noise():
    pairs, net = numbers(23), linear()
    for by in (ip.Noise(1.0, seed=1), ip.Resample(seed=2)):
        whole = ip.ablate(net, pairs, ["0[0]", "0"], ip.value, by=by, samples=3)
        parts = ip.ablate(net, pairs, ["0[0]", "0"], ip.value, by=by, samples=3, batch_size=4)
        np.testing.assert_allclose(whole.y, parts.y, atol=1e-12)


def test_draws_are_averaged_pair_by_pair_and_stored():
    pairs, net = numbers(7), linear()
    by = ip.Noise(0.7, seed=5)
    found = ip.ablate(net, pairs, ["0"], lambda out, _: out[:, 0] ** 2, by=by, samples=4)
    with torch.no_grad():
        hidden = net.module[0](torch.tensor(pairs.base, dtype=torch.float64))
        runs = []
        for sample in range(4):
            noise = torch.tensor(np.stack([draw(5, sample, 0, i, 4) for i in range(7)]))
            runs.append(net.module[1](hidden + 0.7 * noise)[:, 0] ** 2)
    np.testing.assert_allclose(found.y[:, 0], torch.stack(runs).mean(0).numpy(), rtol=1e-12)
    assert (found.way, found.samples) == (by, 4)
    assert found.by == "with Gaussian noise of standard deviation 0.7 added (seed 5), the mean of 4 draws"
    once = ip.ablate(net, pairs, ["0"], ip.value, by=ip.Resample(seed=6))
    assert (once.by, once.way, once.samples) == ("resampled from other inputs (seed 6)", ip.Resample(6), 1)


def test_draws_of_what_is_not_drawn_are_refused():
    net, pairs = linear(), numbers(4)
    for by in (0.0, ip.Mean(), ip.Scale(2)):
        with pytest.raises(errors.WrongInput) as refused:
            ip.ablate(net, pairs, ["0"], ip.value, by=by, samples=2)
        assert str(refused.value) == "samples=2: without Noise or Resample nothing is drawn, and all would be the same."
    for samples in (0, 1.5):
        with pytest.raises(errors.WrongInput) as refused:
            ip.ablate(net, pairs, ["0"], ip.value, by=ip.Noise(1.0), samples=samples)
        assert str(refused.value) == f"samples={samples}: the mean is over one draw or more."


def test_noise_without_a_row_a_pair_is_refused():
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.shift = nn.Linear(2, 1), nn.Linear(1, 1)

        def forward(self, x):
            return self.layer(x) + 0 * self.shift(torch.ones(5, 1)).sum()

    net = ip.Network(Sums(), inputs=("A", "B"))
    with pytest.raises(errors.BadIntervention) as refused, torch.no_grad():
        from interpose.ablations import RowNoise

        net.run([[1.0, 2.0]], write={"shift": RowNoise(1.0, 0, 0, 0, range(1))})
    assert str(refused.value) == "Noise needs a tensor of 1 rows, one a pair; this is (5, 1)."


# -- causal tracing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLACES)
def test_tracing_is_corrupted_and_restored_runs_by_hand(kind):
    module = architectures.build(kind).double()
    lm = ip.LanguageModel(module)
    embed, block, projection = PLACES[kind]
    subject, pairs = (1, 2), pairs_of_tokens()
    places = [*lm.residual(layers=[1], positions=[2, -1]), *lm.heads(layers=[2], positions=[-1])[2:3]]
    noisy = [f"{embed}[(1, 2), :]"]
    found = ip.trace(lm, pairs, places, probability, noisy=noisy, seed=7, samples=3, batch_size=2)

    with torch.no_grad():
        embedded = module.get_input_embeddings()(IDS)[:, list(subject)]
    std = 3 * float(embedded.std())
    seen = {block: None, f"{projection}:input": None}
    clean = probability(hooked(module, IDS, seen=seen), pairs)
    corrupted, restored = [], []
    for sample in range(3):
        noise = torch.tensor(np.stack([draw(7, sample, 0, i, 2, 32) for i in range(3)])) * std
        corrupt = {embed: lambda x, noise=noise: torch.cat([x[:, :1], x[:, 1:3] + noise, x[:, 3:]], 1)}
        back = [
            {block: lambda x: torch.cat([x[:, :2], seen[block][:, 2:3], x[:, 3:]], 1)},
            {block: lambda x: torch.cat([x[:, :-1], seen[block][:, -1:]], 1)},
            {f"{projection}:input": lambda x: _head(x, seen[f"{projection}:input"])},
        ]
        corrupted.append(probability(hooked(module, IDS, edits=corrupt), pairs))
        restored.append(
            torch.stack([probability(hooked(module, IDS, edits={**corrupt, **one}), pairs) for one in back], 1)
        )
    close = {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(found.clean, clean.numpy(), **close)
    np.testing.assert_allclose(found.corrupted, torch.stack(corrupted).mean(0).numpy(), **close)
    np.testing.assert_allclose(found.restored, torch.stack(restored).mean(0).numpy(), **close)
    np.testing.assert_allclose(found.te, (clean - torch.stack(corrupted).mean(0)).numpy(), **close)
    assert found.std == pytest.approx(std) and (found.seed, found.samples) == (7, 3)
    assert np.abs(found.nie).max() > 1e-4 and np.abs(found.te).max() > 1e-4


def _head(x, clean):
    last = torch.cat([x[:, -1:, :16], clean[:, -1:, 16:24], x[:, -1:, 24:]], -1)
    return torch.cat([x[:, :-1], last], 1)


def test_restoring_all_that_the_noise_reaches_brings_back_everything():
    lm = ip.LanguageModel(architectures.build("llama").double())
    pairs = pairs_of_tokens()
    whole = [lm.residual(layers=[1], positions=range(5)), *lm.residual(layers=[1], positions=[0])]
    noisy = lm.embeddings(positions=[1, 2])
    found = ip.trace(lm, pairs, whole, ip.logit_difference, noisy=noisy, std=0.5, samples=2)
    np.testing.assert_allclose(found.restored[:, 0], found.clean, atol=1e-9)
    np.testing.assert_allclose(found.nie[:, 0], found.te, atol=1e-9)
    np.testing.assert_allclose(found.nie[:, 1], 0, atol=1e-9)  # the noise does not reach what comes before it
    softer = ip.trace(lm, pairs, whole[1:], ip.logit_difference, noisy=noisy, std=1e-4, samples=2)
    assert np.abs(found.te).mean() > 10 * np.abs(softer.te).mean() > 0
    assert [note.code for note in found.notes()] == ["off_support"]
    text = str(found)
    assert text.startswith("What each place brings back: logit_difference, LlamaForCausalLM, 3 base inputs\n")
    assert "Gaussian noise of standard deviation 0.5 at embeddings @ 1, embeddings @ 2, seed 0, the mean of 2" in text


def test_tracing_refuses_what_it_cannot_do():
    lm = ip.LanguageModel(architectures.build("llama"))
    pairs, places = pairs_of_tokens(), lm.residual(layers=[1], positions=[1])
    noisy = lm.embeddings(positions=[1])
    for options, error, said in (
        ({"noisy": []}, errors.WrongInput, "There is no place to add noise to. Name some, as in "),
        ({"noisy": noisy, "std": 0.0}, errors.WrongInput, "std=0.0: noise has a standard deviation above 0."),
        ({"noisy": noisy, "samples": 0}, errors.WrongInput, "samples=0: the mean is over one draw or more."),
        (
            {"noisy": places, "std": 1.0},
            errors.OverlappingWrites,
            "layer 1 @ 1 is to be restored, and layer 1 @ 1 shares units with it and is given",
        ),
    ):
        with pytest.raises(error, match="^" + said):
            ip.trace(lm, pairs, places, ip.logit_difference, **options)
    net = linear()
    with torch.no_grad():
        net.module[0].weight.zero_()
    with pytest.raises(errors.WrongInput, match=r"^What stands at the noisy places does not vary\. Give the noise a"):
        ip.trace(net, numbers(4), ["1"], ip.value, noisy=["0[1]"])


def test_prompts_of_unequal_length_have_the_noise_they_have_together_or_apart():
    lm = ip.LanguageModel(architectures.build("llama").double())
    prompts = [row[:n] for row, n in zip(IDS.tolist(), (5, 3, 4), strict=True)]
    pairs = ip.Pairs(base=prompts, source=prompts[::-1])

    def first(logits, _):
        return logits[:, 0]

    options = {"noisy": lm.embeddings(positions=[-2]), "std": 0.5, "samples": 2, "seed": 1}
    whole = ip.trace(lm, pairs, lm.residual(layers=[1], positions=[-1, -2]), first, **options)
    parts = ip.trace(lm, pairs, lm.residual(layers=[1], positions=[-1, -2]), first, **options, batch_size=1)
    np.testing.assert_allclose(whole.restored, parts.restored, atol=1e-9)
    np.testing.assert_allclose(whole.corrupted, parts.corrupted, atol=1e-9)
    noise = ip.ablate(lm, pairs, lm.residual(layers=[1], positions=[-1]), first, by=ip.Noise(0.1), samples=2)
    apart = ip.ablate(
        lm, pairs, lm.residual(layers=[1], positions=[-1]), first, by=ip.Noise(0.1), samples=2, batch_size=1
    )
    np.testing.assert_allclose(noise.y, apart.y, atol=1e-9)
    assert np.abs(noise.effect).min() > 0 and np.abs(whole.te).min() > 0


@pytest.mark.parametrize("size", [1, 3])
def test_the_usual_noise_is_of_all_tokens_of_prompts_of_every_length(size):
    lm = ip.LanguageModel(architectures.build("llama").double())
    prompts = [row[:n] for row, n in zip(IDS.tolist(), (5, 3, 4), strict=True)]
    pairs = ip.Pairs(base=prompts, source=prompts[::-1])
    found = ip.trace(
        lm, pairs, ["layer 1 @ -1"], lambda logits, _: logits[:, 0], noisy=lm.embeddings(), samples=1, batch_size=size
    )
    with torch.no_grad():
        table = lm.module.get_input_embeddings().weight
        values = torch.cat([table[row].flatten() for row in prompts])
    assert found.std == pytest.approx(3 * float(values.std()))
