"""Networks in which a saving would be wrong though nothing says so at first: the engine does without it."""

import warnings

import pytest
import torch
from torch import nn

import interpose as ip
from interpose import errors
from interpose.engine.packed import Packed
from interpose.engine.skip import is_tokenwise
from interpose.interventions import Set
from interpose.metrics import Scored
from test_engine import ENGINES, agree, both, from_source, language_model, token_pairs

from known import numbers, seeded

TOKENS = 5


class Stack(nn.Module):
    """Three layers of a stack over tokens, and a place for doubts between them."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, x):
        return self.read(self.out(self.second(self.middle(torch.tanh(self.first(x)))))[..., 0])

    def middle(self, x):
        return x

    def read(self, x):
        return x[:, -1]


def sweeps(kind, engine, sites, n=5, width=4, more=(), quiet=True, metric=ip.value):
    """Held against one run a write; the notes of the sweep, and its network."""
    network = ip.Network(seeded(kind) if isinstance(kind, type) else kind)
    base, source = ((numbers(n, TOKENS, width, seed=seed), *more) for seed in (0, 1))
    base, source = (given if more else given[0] for given in (base, source))
    writes = from_source(network, source, sites)
    pairs = ip.Pairs(base, source) if not more else ip.Pairs([0] * n, [1] * n)
    notes = []
    scored = Scored(metric, pairs, record=lambda work: notes.extend(work.notes))
    network.engine = "full"
    expected = network.sweep(base, writes, metric=scored)
    notes.clear()
    network.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("error" if quiet else "ignore", errors.ReplayMismatch)
        agree(expected, network.sweep(base, writes, metric=scored))
    return notes, network


EACH = [f"first[{token}, :]" for token in range(TOKENS)]
every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


# -- what depends on what ----------------------------------------------------------------------------------


class ReadsWhereItIsTold(Stack):
    """Each example is read at a position of its own."""

    def forward(self, x, where):
        return self.out(self.second(torch.tanh(self.first(x))))[..., 0].gather(1, where)[:, 0]


class HasAThreshold(Stack):
    """NaN is below no threshold, and neither is a number that is large."""

    def middle(self, x):
        return torch.where(x < 0, -1.0, 1.0).to(x)


@every_engine
def test_a_place_that_only_some_examples_read_is_not_lost(engine):
    where = torch.tensor([[4], [1], [0], [3], [2]])
    sweeps(ReadsWhereItIsTold, engine, EACH, more=(where,))


@every_engine
def test_a_threshold_is_reached(engine):
    sweeps(HasAThreshold, engine, [*EACH, *(f"first[-1, {unit}]" for unit in range(4))])


class Few(Stack):
    """A little of the other tokens is added to each, beside one number that is far larger than all others."""

    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return self.second(self.mix(self.first(x)))


def with_a_massive_unit(x):
    return torch.cat([x[..., :1] + 1e5, x[..., 1:]], -1)


@pytest.mark.parametrize(
    ("mix", "is_so"),
    [
        (torch.tanh, True),
        (lambda x: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(), True),
        (with_a_massive_unit, True),
        (lambda x: with_a_massive_unit(x) + 1e-2 * x.mean(1, keepdim=True), False),
        (lambda x: with_a_massive_unit(x) + 1e-2 * x.cumsum(1), False),
        (lambda x: with_a_massive_unit(x) + 1e-2 * x.mean(0), False),
        (lambda x: x / (x.norm(dim=(1, 2), keepdim=True) / 100).clamp(min=1), False),
        (lambda x: torch.where(x.amax((1, 2), keepdim=True) > 100, x, 2 * x), False),
    ],
)
def test_what_treats_tokens_one_by_one_is_told_by_what_others_do_not_reach(mix, is_so):
    assert certified(mix, numbers(2, TOKENS, 4)) == is_so


def certified(mix, x):
    module = seeded(lambda: Few(mix)).float()
    with torch.no_grad():
        return is_tokenwise(module, module.forward, ((x.float(),), {}), module(x.float()))


def test_of_rows_with_one_token_it_is_told_by_other_rows():
    assert certified(torch.tanh, numbers(2, 1, 4))
    assert not certified(lambda x: with_a_massive_unit(x) + 1e-2 * x.mean(0), numbers(2, 1, 4))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_function_finds_all_positions_also_where_only_the_last_is_read(attention):
    lm, pairs = language_model("llama", attention=attention), token_pairs(6)
    early = [site for whole in lm.residual()[:2] for site in whole.positions(7)]
    donor = lm.run(pairs.source, read=early)
    over = {lm.place("model.layers.2.mlp"): lambda old: old.mean(1, keepdim=True).expand_as(old)}
    writes = [{site: Set(donor[site])} | over for site in early[:3]] + [{site: Set(donor[site])} for site in early]
    expected, found, _ = both(lm, pairs.base, writes, Scored(ip.logit_difference, pairs), ENGINES["all"])
    agree(expected, found)


# -- bits, versions, memory ----------------------------------------------------------------------------------


class InPlace(Stack):
    def middle(self, x):
        again = self.second(x)
        x += 0.3 * x.cumsum(1)
        return x + self.second(x) + again


@every_engine
def test_tensors_that_do_not_count_their_changes(engine):
    """Those of inference mode: a mask of the tokens that differ would be taken for that of another tensor."""
    with torch.inference_mode():
        sweeps(InPlace, engine, EACH)


class Signed(Stack):
    """Half a turn, or half a turn the other way, by the sign of a zero."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()

    def middle(self, x):
        return torch.atan2(self.same(-torch.relu(x)), -torch.ones_like(x))


@every_engine
def test_a_zero_of_another_sign_is_a_change(engine):
    network = ip.Network(seeded(Signed))
    base = numbers(5, TOKENS, 4)
    writes = [{network.place(f"same[{token}, {unit}]"): Set(0.0)} for token in range(TOKENS) for unit in range(4)]
    expected, found, _ = both(network, base, writes, Scored(ip.value, ip.Pairs(base, base)), engine)
    agree(expected, found)
    with torch.no_grad():
        assert float((expected[-1] - network.run(base).output).abs().max()) > 0.1


class AttendsToChannels(Stack):
    """Keys whose numbers do not lie side by side, which the kernel behind attention takes for granted."""

    def middle(self, x):
        n, t, d = x.shape
        c = x.view(n, t, 2, d // 2).permute(0, 2, 3, 1)
        return x + nn.functional.scaled_dot_product_attention(c, c, c).permute(0, 3, 1, 2).reshape(n, t, d)


@every_engine
def test_attention_to_numbers_that_do_not_lie_side_by_side(engine):
    sweeps(seeded(lambda: AttendsToChannels(8)), engine, EACH, width=8, n=6)


# -- modules that take no other batch ------------------------------------------------------------------------


class OfOneSize(Stack):
    def __init__(self):
        super().__init__()
        self.register_buffer("each", torch.ones(5, 1, 1).cumsum(0))

    def middle(self, x):
        return x * self.each


class OfALengthEach(Stack):
    """Lengths as a list, in falling order."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.first(x), lengths, batch_first=True)
        return self.out(self.cell(packed)[1][0][0])[:, 0]


@every_engine
def test_a_batch_of_one_size(engine):
    notes, _ = sweeps(OfOneSize, engine, EACH, quiet=False)
    assert any(
        note.startswith("One run a write: the first example does not run alone") or "In another batch" in note
        for note in notes
    )


@every_engine
@pytest.mark.parametrize("lengths", [[5, 4, 3, 2, 1], torch.tensor([5, 4, 3, 2, 1])], ids=["list", "tensor"])
def test_lengths_in_falling_order(engine, lengths):
    sweeps(OfALengthEach, engine, ["first"], more=(lengths,), quiet=False)


def test_what_comes_after_the_last_layer_may_want_all_that_it_gives():
    lm, pairs = language_model("llama", attention="sdpa"), token_pairs(4)
    head = lm.module.lm_head
    bias = torch.linspace(-1, 1, 50, dtype=torch.float64)
    lm.module.register_forward_hook(lambda module, args, output: _plus(output, bias))
    writes = from_source(lm, pairs.source, [site for whole in lm.residual() for site in whole.positions(7)])
    expected, found, work = both(lm, pairs.base, writes, Scored(ip.logit_difference, pairs), ENGINES["all"])
    agree(expected, found)
    assert "packed" in work.mechanisms and "columns" not in work.mechanisms and head is lm.module.lm_head


def _plus(output, bias):
    output.logits = output.logits + bias
    return output


# -- what modules keep ----------------------------------------------------------------------------------------


class Keeper(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.stash = nn.Linear(4, 4), None

    def forward(self, x):
        self.stash = x
        return self.layer(x)


class Deep(Stack):
    """What a part two modules down keeps is read later."""

    def __init__(self):
        super().__init__()
        self.top = nn.Sequential(nn.Sequential(Keeper()))

    def middle(self, x):
        self.top(x)
        return x + self.top[0][0].stash.cumsum(1)


class Peak(Stack):
    """The largest number it ever saw."""

    def __init__(self):
        super().__init__()
        self.register_buffer("peak", torch.zeros(()))

    def middle(self, x):
        self.peak = torch.maximum(self.peak, x.max())
        return x


@every_engine
@pytest.mark.parametrize("kind", [Deep, Peak])
def test_what_a_module_keeps_is_a_plain_tensor_of_a_plain_run(kind, engine):
    notes, network = sweeps(kind, engine, [*EACH, "second[-1, :]"])
    kept = network.module.top[0][0].stash if kind is Deep else network.module.peak
    assert type(kept) is torch.Tensor and not isinstance(kept, Packed) and bool(kept.isfinite().all())
    if engine.skip:
        assert any(note.startswith("Not packed: ") and "keeps something" in note for note in notes)


def test_a_layer_with_another_forward_is_not_believed_by_its_type():
    module = seeded(Stack)
    inner = module.second.forward
    module.second.forward = lambda x: inner(x) + x.cumsum(1)
    sweeps(module, ENGINES["all"], EACH)


# -- metrics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric", [lambda y: y > 0, lambda y: torch.where(y > 0, y, -torch.inf), lambda y: torch.where(y > 0, y, torch.nan)]
)
def test_scores_that_cannot_be_subtracted_are_those_of_one_run_a_write(metric):
    network = ip.Network(seeded(Stack))
    base, source = numbers(5, TOKENS, 4), numbers(5, TOKENS, 4, seed=1)
    writes = from_source(network, source, EACH)
    found = []
    for engine in ("full", ENGINES["all"]):
        network.engine = engine
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found.append(network.sweep(base, writes, metric=metric))
    torch.testing.assert_close(*found, equal_nan=True)
