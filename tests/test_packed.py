"""Packed passes: values held once for all rows that share them are those of the rows; what is not known is refused."""

import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import interpose as ip
from interpose import errors
from interpose.engine import attention as attending
from interpose.engine.kept import STEP, Kept
from interpose.engine.live import Batch
from interpose.engine.packed import Packed, Unpacked, packed_rows, unlike
from interpose.metrics import Scored
from test_engine import ENGINES, agree, both, from_source, language_model, numbers, sites_of, token_pairs

from known import seeded

BASE, TOKENS, WIDTH = 3, 5, 8


def rows_like_base(seed=0, width=WIDTH, dtype=torch.float64):
    """[row, token, unit]: base rows, and rows that differ from theirs in some tokens, in all, or in none."""
    generator = torch.Generator().manual_seed(seed)
    batch = Batch(BASE, torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1]))
    base = torch.randn(BASE, TOKENS, width, generator=generator, dtype=dtype)
    whole = base[batch.owner].clone()
    for row, tokens in ((3, slice(2, 3)), (4, slice(3, None)), (5, slice(None)), (6, slice(4, None)), (8, slice(1, 3))):
        whole[row, tokens] = torch.randn(whole[row, tokens].shape, generator=generator, dtype=dtype)
    return batch, whole


def forms(batch, whole):
    """The same tensor packed by row, and by token."""
    by_row = packed_rows(batch, whole)
    return by_row, by_row.along(1)


def dense(found):
    return found.dense() if isinstance(found, Packed) else found


# -- what operations do ------------------------------------------------------------------------------------

W, B = torch.randn(WIDTH, 6, dtype=torch.float64), torch.randn(TOKENS, WIDTH, dtype=torch.float64)
OPERATIONS = {
    "pointwise": lambda x: torch.tanh(2 * x + 1) - x * x.sigmoid(),
    "by token": lambda x: x * B + B[0],
    "one for all": lambda x: x + B[None, :1],
    "where": lambda x: torch.where(x > 0, x, 0.5),
    "masked": lambda x: x.masked_fill(x < 0, -1.0),
    "to": lambda x: x.to(torch.float32).to(torch.float64),
    "mean of units": lambda x: x - x.mean(-1, keepdim=True),
    "norm": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "mean of tokens": lambda x: x - x.mean(1, keepdim=True),
    "running sum": lambda x: x.cumsum(1),
    "layer norm": lambda x: nn.functional.layer_norm(x, (WIDTH,)),
    "layer norm of tokens": lambda x: nn.functional.layer_norm(x, (TOKENS, WIDTH)),
    "softmax": lambda x: x.softmax(-1) + x.softmax(1),
    "largest": lambda x: x.max(-1).values + x.topk(2, -1).values.sum(-1) + x.max(1).values[:, :1],
    "product": lambda x: x @ W,
    "linear": lambda x: nn.functional.linear(x, W.T, W[0]),
    "flat product": lambda x: (x.reshape(-1, WIDTH) @ W).view(len(x), TOKENS, -1),
    "heads": lambda x: x.view(len(x), TOKENS, 2, 4).transpose(1, 2).softmax(-1).transpose(1, 2).reshape(x.shape),
    "scores": lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x,
    "split": lambda x: torch.cat([-x.chunk(2, -1)[1], x.chunk(2, -1)[0]], -1),
    "stacked": lambda x: torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) + torch.stack([x, -x], 1)[:, 1],
    "tokens beside": lambda x: torch.cat([x[:, 1:], x[:, :1]], 1),
    "some tokens": lambda x: x[:, 1:4] * x[:, :3],
    "every other token": lambda x: x[:, ::2],
    "last": lambda x: x[:, -1],
    "last tokens": lambda x: x[:, -2:, :][:, -1:, ::2],
    "more axes": lambda x: x[:, :, None].expand(-1, -1, 3, -1).reshape(len(x), TOKENS * 3, WIDTH),
    "turned": lambda x: x.flip(1) + x.flip(-1),
    "numbers of tokens": lambda x: B[x.argmax(-1) % TOKENS],
    "unbound": lambda x: sum(x.unbind(1)),
    "whether": lambda x: x * bool((x > 0).any()),
    "a cache": lambda x: torch.cat([torch.zeros(0), x], -2),
    "squeezed": lambda x: x[:, :1].squeeze(1) + x[:, -1:].squeeze(1),
    "squeezed if short": lambda x: x.unsqueeze(2).squeeze((1, 2)) + x[:, :, None, None].squeeze((1, 3)).squeeze(2),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_what_they_give_all_rows(name, seed):
    batch, whole = rows_like_base(seed)
    expected = OPERATIONS[name](whole)
    for x in forms(batch, whole):
        found = OPERATIONS[name](x)
        assert isinstance(found, Packed) and found.shape == expected.shape and not batch.refusals
        torch.testing.assert_close(dense(found), expected)


def test_a_single_number_is_what_it_was_when_it_was_used():
    batch, whole = rows_like_base()
    for x in forms(batch, whole):
        factor = torch.tensor(2.0, dtype=torch.float64)
        found = x * factor
        factor += 1
        torch.testing.assert_close(dense(found), 2 * whole)


def test_what_follows_kept_values_takes_the_room_after_them_once():
    count, width = 3 * STEP // 8, 4
    x = torch.arange(count * width, dtype=torch.float64).reshape(count, width)
    kept = Kept(lambda where: x[where] + 1, count, lambda where, out: torch.add(x[where], 1, out=out))
    whole = kept.whole(room=2)
    first, second = torch.full((2, width), 5.0).double(), torch.full((1, width), 7.0).double()
    followed, again = kept.followed_by(first), kept.followed_by(second)
    assert followed.data_ptr() == whole.data_ptr() != again.data_ptr()
    assert torch.equal(followed, torch.cat([x + 1, first])) and torch.equal(again, torch.cat([x + 1, second]))
    assert torch.equal(whole, x + 1) and torch.equal(
        kept.followed_by(torch.cat([first, first]))[count:], first.repeat(2, 1)
    )


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["pointwise", "norm", "softmax", "heads", "scores", "turned", "by token"]), max_size=5))
def test_so_do_operations_one_after_another_and_together(names):
    batch, whole = rows_like_base()
    for x in forms(batch, whole):
        expected, found = whole, x
        for name in names:
            expected, found = whole + OPERATIONS[name](expected), x + OPERATIONS[name](found)
        torch.testing.assert_close(dense(found), expected)


REFUSED = {
    "rows together": lambda x: x - x.mean(0),
    "rows turned": lambda x: x.flip(0),
    "some rows": lambda x: x[1:],
    "rows elsewhere": lambda x: x.transpose(0, 1),
    "rows beside": lambda x: torch.cat([x, x]),
    "rows stacked": lambda x: torch.stack([x, x]),
    "all numbers": lambda x: x.sum(),
    "a number": lambda x: float(x.sum()),
    "in place": lambda x: x.add_(1),
    "a part in place": lambda x: x.__setitem__((slice(None), 0), 0.0),
    "random": lambda x: nn.functional.dropout(x, 0.5, training=True),
    "noise": lambda x: x + torch.randn_like(x),
    "one for each of other rows": lambda x: x + torch.ones(4, 1, 1),
    "unknown": lambda x: torch.linalg.svdvals(x),
    "memory": lambda x: x.data_ptr(),
    "numpy": lambda x: x.numpy(),
    "a list": lambda x: x.tolist(),
    "bytes": lambda x: x.view(torch.int64),
    "rows in a product": lambda x: W.T @ x.reshape(-1, WIDTH).T,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_to_treat_rows_one_by_one_is_refused(name):
    batch, whole = rows_like_base()
    for x in forms(batch, whole):
        with pytest.raises((Unpacked, RuntimeError)):
            dense(REFUSED[name](x))
        assert batch.refusals  # even if the network went on as if nothing had happened
        batch.refusals.clear()


def test_a_tensor_that_is_changed_after_it_was_used_is_noticed():
    batch, whole = rows_like_base()
    weight = torch.ones(WIDTH, dtype=torch.float64)
    found = packed_rows(batch, whole).along(1) * weight
    weight.add_(1)
    with pytest.raises(Unpacked, match="changed in place"):
        found.dense()


# -- attention ---------------------------------------------------------------------------------------------


def attended(query, key, value, **more):
    return nn.functional.scaled_dot_product_attention(
        *(x.unflatten(-1, (-1, 4)).transpose(1, 2) for x in (query, key, value)), **more
    )


@pytest.mark.parametrize("near", [1, 2**21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["causal", "all", "mask", "mask by row", "numbers", "grouped"])
def test_attention_gives_what_it_gives_all_rows(kind, dtype, near, monkeypatch):
    monkeypatch.setattr("interpose.engine.live.NEAR", near)  # row by row, or all at once
    batch, whole = rows_like_base(dtype=dtype)
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    by_row = mask.repeat(len(whole), 1, 1, 1)
    by_row[batch.owner == 1, :, 1:, 0] = False
    more = {
        "causal": {"is_causal": True},
        "all": {},
        "mask": {"attn_mask": mask},
        "mask by row": {"attn_mask": by_row},
        "numbers": {"attn_mask": torch.randn(1, 1, TOKENS, TOKENS, dtype=dtype)},
        "grouped": {"is_causal": True, "enable_gqa": True},
    }[kind]
    few = 4 if kind == "grouped" else WIDTH
    expected = attended(whole.sin(), whole[..., :few].cos(), whole[..., :few], **more)
    x = packed_rows(batch, whole).along(1)
    found = attended(x.sin(), x[..., :few].cos(), x[..., :few], **more)
    torch.testing.assert_close(dense(found), expected)


@pytest.mark.parametrize("near", [1, 2**21])
def test_causal_attention_is_asked_from_the_first_token_that_differs(near, monkeypatch):
    monkeypatch.setattr("interpose.engine.live.NEAR", near)
    asked, of = {}, attending._part

    def part(given, rows, start):
        asked.update(dict.fromkeys(rows.tolist(), start))
        return of(given, rows, start)

    monkeypatch.setattr(attending, "_part", part)
    batch, whole = rows_like_base()
    x = packed_rows(batch, whole).along(1)
    found = attended(x, x, x, is_causal=True)
    assert asked == {0: 0, 1: 0, 2: 0, 3: 2, 4: 3, 5: 0, 6: 4, 8: 1}  # row 7 is as its base row
    assert len(found.live.at) == sum(TOKENS - start for row, start in asked.items() if row >= BASE)


def test_what_attention_gives_beside_its_output_is_whole():
    batch, whole = rows_like_base()
    q, (x,) = whole.unflatten(-1, (-1, 4)).transpose(1, 2), [packed_rows(batch, whole).along(1)]
    p = x.unflatten(-1, (-1, 4)).transpose(1, 2)
    expected, found = (attending.CPU(y, y, y, 0.0, True) for y in (q, p))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(dense(ours), theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64, torch.int64])
@pytest.mark.parametrize("start", [0, 1, 5, 7])
def test_rows_are_unlike_their_base_rows_where_a_bit_is(dtype, start):
    """Also where only a later number differs, the first one does for all, or what differs is the sign of a zero."""
    base = (100 * torch.rand(2, 3, 8)).to(dtype)
    owner = torch.tensor([1, 0, 1, 1])
    rows = base[owner].clone()
    assert not unlike(rows, base, owner).any()
    rows[..., start] += 1
    assert unlike(rows, base, owner).all()
    rows[1, 2] = base[0, 2]
    assert unlike(rows, base, owner).logical_not().nonzero().tolist() == [[1, 2]]
    if dtype.is_floating_point:
        zeros = torch.zeros(1, 1, 8, dtype=dtype)
        assert unlike(-zeros, zeros, torch.tensor([0])).all()
        assert not unlike(zeros + 0, zeros, torch.tensor([0])).any()


# -- whole sweeps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("kind", "attention"),
    [("gemma2", "eager"), *itertools.product(["llama", "gpt2", "neox"], ["sdpa", "eager"])],
)
@pytest.mark.parametrize("budget", [None, 1])
def test_packed_passes_give_the_numbers_of_the_loop(kind, attention, dtype, budget):
    lm, pairs = language_model(kind, dtype=dtype, attention=attention), token_pairs(4, shared=2)
    writes = from_source(lm, pairs.source, sites_of(lm, kind))
    engine = ip.Engine(replay=True, skip=True, cone=True, budget=budget)
    expected, found, work = both(lm, pairs.base, writes, Scored(ip.logit_difference, pairs), engine)
    agree(expected, found, share=1e-10 if dtype == torch.float64 else 2e-6)
    assert "packed" in work.mechanisms, work.notes


@pytest.mark.parametrize(
    ("kind", "attention"), [("llama", "sdpa"), ("gpt2", "sdpa"), ("neox", "sdpa"), ("gpt2", "eager")]
)
def test_ragged_prompts_are_packed_too(kind, attention):
    module, pairs = language_model(kind, attention=attention).module, token_pairs(4)
    mask = torch.ones(4, 7, dtype=torch.long)
    mask[1, :2] = mask[2, :3] = 0
    given = {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
    base, source = ({"input_ids": ids, **given} for ids in (pairs.base, pairs.source))
    network = ip.Network(module)
    block = {"gpt2": "transformer.h", "neox": "gpt_neox.layers"}.get(kind, "model.layers")
    sites = [f"{block}.{layer}[{position}, :]" for layer in range(3) for position in range(3, 7)]
    metric = Scored(lambda out, pairs: out.logits[:, -1, 3], ip.Pairs(base, source))
    expected, found, work = both(network, base, from_source(network, source, sites), metric, ENGINES["all"])
    agree(expected, found)
    assert "packed" in work.mechanisms, work.notes


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_passes_under_autocast_give_the_numbers_of_the_loop(attention):
    lm, pairs = language_model("llama", attention=attention), token_pairs(4, shared=2)
    writes = from_source(lm, pairs.source, sites_of(lm, "llama"))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found, work = both(lm, pairs.base, writes, Scored(ip.logit_difference, pairs), ENGINES["all"])
    agree(expected, found, share=0.03)
    assert "packed" in work.mechanisms, work.notes


def test_a_packed_sweep_does_no_product_twice():
    lm = language_model("llama", layers=4, vocab_size=400, attention="sdpa")
    pairs = token_pairs(24, 10, vocabulary=400)
    writes = from_source(lm, pairs.source, [s for whole in lm.residual() for s in whole.positions(10)])
    work = []
    metric = Scored(ip.logit_difference, pairs, record=work.append)
    counts = {}
    for name, pack in {"packed": None, "not": False}.items():
        lm.engine = ip.Engine(replay=True, skip=True, cone=True, pack=pack)
        with FlopCounterMode(display=False) as counter:
            lm.sweep(pairs.base, writes, metric=metric)
        counts[name] = counter.get_total_flops()
        assert ("packed" in work[-1].mechanisms) == (name == "packed")
        assert {"cone", "columns"} <= set(
            work[-1].mechanisms
        )  # a search that fails would leave them out, and say nothing
    assert counts["packed"] <= 1.02 * counts["not"]
    assert 0.9 * counts["packed"] <= work[0].flops <= counts["packed"]  # the search for the cone comes on top


class Block(nn.Module):
    """Three layers of a stack over tokens, and a place for mischief between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.kept = None

    def forward(self, x):
        return self.out(self.second(self.middle(torch.tanh(self.first(x)))))[:, -1, 0]

    def middle(self, x):
        return x


class CouplesTokens(Block):
    def middle(self, x):
        return x / x.pow(2).mean((1, 2), keepdim=True).sqrt()


class CouplesRows(Block):
    def middle(self, x):
        return x - x.mean(0)


class Chooses(Block):
    def middle(self, x):
        return x if bool((x[:, 0] > 0.5).any()) else 2 * x


class InPlace(Block):
    def middle(self, x):
        x = x.clone()
        x[:, 1:] += x[:, :-1].clone()
        return x


class GoesOn(Block):
    """Looks at a number of the whole batch, does without it where it may not, and says nothing."""

    def middle(self, x):
        try:
            return x * float(x.abs().max() > 0)
        except Exception:  # noqa: BLE001 - it is as careless as that
            return x + 1


class Keeps(Block):
    def middle(self, x):
        self.kept = x
        return self.kept * 2


class Tries(Block):
    """Does without what may not be done with a packed tensor, and says nothing."""

    def middle(self, x):
        try:
            return x * torch.linalg.inv(torch.eye(4, dtype=x.dtype) + 0 * x[:1, :4]).new_ones(1)
        except Exception:  # noqa: BLE001 - it is as careless as that
            return x + 1


LIARS = {
    CouplesTokens: True,
    Keeps: False,
    InPlace: False,
    Tries: False,
    CouplesRows: None,
    Chooses: None,
    GoesOn: None,
}
"""Whether they run packed; None where every row depends on the others, so that one run a write is made."""


@pytest.mark.parametrize("kind", LIARS, ids=lambda kind: kind.__name__)
def test_a_module_that_is_not_what_it_seems_gives_the_loops_numbers(kind):
    network = ip.Network(seeded(kind))
    base, source = numbers(6, 5, 4), numbers(6, 5, 4, seed=1)
    writes = from_source(network, source, [f"first[{token}, :]" for token in range(5)])
    metric = Scored(ip.value, ip.Pairs(base, source))
    network.engine = "full"
    expected = network.sweep(base, writes, metric=metric)
    work = []
    network.engine = ip.Engine(replay=True, skip=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.ReplayMismatch)
        found = network.sweep(base, writes, metric=Scored(ip.value, metric.pairs, record=work.append))
    agree(expected, found)
    if LIARS[kind]:
        assert "packed" in work[-1].mechanisms, work[-1].notes
    elif work:
        assert "packed" not in work[-1].mechanisms
        assert (work[-1].mechanisms == ("one run a write",)) == (LIARS[kind] is None)
        assert LIARS[kind] is None or any(note.startswith("Not packed: ") for note in work[-1].notes)


def test_writes_from_which_nothing_is_read_have_no_effect_and_say_so():
    lm, pairs = language_model("llama"), token_pairs(3)
    sites = lm.residual()[-1].positions(7)[:-1]
    lm.engine = "full"
    writes = from_source(lm, pairs.source, sites)
    expected = lm.sweep(pairs.base, writes, metric=Scored(ip.logit_difference, pairs))
    work = []
    lm.engine = ENGINES["all"]
    found = lm.sweep(pairs.base, writes, metric=Scored(ip.logit_difference, pairs, record=work.append))
    agree(expected, found)
    assert work[-1].unreachable == frozenset(range(len(sites)))
