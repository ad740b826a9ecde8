"""Generation with interventions: what every step reads and writes, against runs of the whole text with plain hooks."""

import copy

import numpy as np
import pytest
import torch
import transformers as hf

import architectures
import interpose as ip
import tiny
from interpose import errors
from interpose.steps import Steps
from interpose.tasks import capitals

T = 4
IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 3, 4]])
BLOCK = {"gpt2": "transformer.h.1", "llama": "model.layers.1", "gpt_neox": "gpt_neox.layers.1"}
BLOCK |= {"mamba": "backbone.layers.1", "gemma3": "model.layers.1", "qwen3": "model.layers.1"}


def model(kind):
    return ip.LanguageModel(architectures.build(kind).double())


def near(kind):
    """Mamba keeps its state in single precision whatever its weights."""
    if kind == "mamba":
        return {"atol": 1e-5, "rtol": 1e-5}
    if kind == "gpt2":
        return {"atol": 1e-9, "rtol": 1e-9}
    return {"atol": 1e-6, "rtol": 1e-6}  # eager attention takes its softmax in single precision


def oracle(lm, ids, tokens, writes):
    """Logits [prompt, step, vocabulary] and tokens of a generation that runs the whole text anew in every step.

    writes: (module path, which end, step or None for all, which tokens of the step's pass, a function of their values).
    """
    seq, logits = ids, []
    for now in range(tokens):

        def hooks(path, end, at, where, change, now=now):
            def edit(x):
                x = x.clone()
                for step in range(now + 1):
                    span = list(range(T)) if step == 0 else [T + step - 1]
                    chosen = [span[i] for i in where(span)] if at in (None, step) else []
                    if chosen:
                        x[:, chosen] = change(x[:, chosen])
                return x

            module = lm.module.get_submodule(path)
            if end == "input":
                return module.register_forward_pre_hook(lambda _, args: (edit(args[0]), *args[1:]))
            return module.register_forward_hook(
                lambda _m, _a, out: (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)
            )

        handles = [hooks(*write) for write in writes]
        logits.append(lm.module(seq, use_cache=False).logits[:, -1])
        for handle in handles:
            handle.remove()
        seq = torch.cat([seq, logits[-1].argmax(-1, keepdim=True)], 1)
    return torch.stack(logits, 1), seq[:, T:]


def every(span):
    return range(len(span))


def last(span):
    return [len(span) - 1]


def position(p):
    return lambda span: [i for i, q in enumerate(span) if q == p]


def vector():
    return torch.randn(32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def cases(path):
    v = vector()
    push = lambda x: x + 2 * v
    return {
        "every token of every step": ({path: ip.Add(2 * v, broadcast=True)}, [(path, "output", None, every, push)]),
        "the last token of every step": (
            {f"{path}[-1, :]": ip.Add(2 * v, broadcast=True)},
            [(path, "output", None, last, push)],
        ),
        "the prompt's pass alone": ({path: {0: lambda x: x + 2 * v}}, [(path, "output", 0, every, push)]),
        "a token of the prompt": ({f"{path}[2, :]": 3.0}, [(path, "output", None, position(2), lambda x: 0 * x + 3)]),
        "chosen steps": (
            {f"{path}[-1, :]": {1: ip.Add(2 * v, broadcast=True), 3: 0.0}},
            [(path, "output", 1, last, push), (path, "output", 3, last, lambda x: 0 * x)],
        ),
        "a token to come": (
            {f"{path}[{T + 1}, :]": ip.Scale(-2)},
            [(path, "output", None, position(T + 1), lambda x: -2 * x)],
        ),
        "two places, some units": (
            {f"{path}:input.0[(0, 3), :]": ip.Scale(3), f"{path}[-1, 0:7]": {2: 9.0}},
            [
                (path, "input", 0, lambda span: [0, 3], lambda x: 3 * x),
                (path, "output", 2, last, lambda x: torch.cat([0 * x[..., :7] + 9, x[..., 7:]], -1)),
            ],
        ),
    }


# -- what a generation is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLOCK)
@pytest.mark.parametrize("case", cases(""))
def test_generation_with_the_cache_is_generation_without_it(kind, case):
    lm = model(kind)
    write, by_hand = cases(BLOCK[kind])[case]
    with torch.no_grad():
        found = lm.generate(IDS, tokens=5, write=write, stop=[])
        logits, tokens = oracle(lm, IDS, 5, by_hand)
        plain = lm.generate(IDS, tokens=5, stop=[])
    assert found.ids == tuple(map(tuple, tokens.tolist()))
    torch.testing.assert_close(found.logits, logits, **near(kind))
    assert float((found.logits - plain.logits).nan_to_num().abs().max()) > 1e-4  # the write did something


@pytest.mark.parametrize("kind", [kind for kind in architectures.CONFIGS if kind not in architectures.MASKED])
def test_every_architecture_generates_what_runs_of_the_whole_text_give(kind):
    lm = ip.LanguageModel(architectures.build(kind))
    (site,) = lm.residual(layers=[0], positions=[1])
    with torch.no_grad():
        found = lm.generate(IDS, tokens=4, stop=[], write={site: ip.Scale(2)})
        for step in range(4):
            whole = torch.cat([IDS, torch.tensor([row[:step] for row in found.ids], dtype=torch.long)], 1)
            again = lm.run(whole, write={site: ip.Scale(2)})
            torch.testing.assert_close(found.steps[step].output, again.output, atol=1e-5, rtol=1e-4)


def test_a_module_without_a_cache_is_refused():
    """An encoder that sees what comes later keeps nothing, and could not."""
    lm = ip.LanguageModel(architectures.build("bert"))
    with pytest.raises(errors.WrongInput) as refused:
        lm.generate(IDS)
    assert str(refused.value) == (
        "BertForMaskedLM gives no cache of earlier tokens (past_key_values or cache_params), so that it cannot go on "
        "step by step. Run the whole text: lm.run(prompt)."
    )


def test_a_cache_that_does_not_stand_for_earlier_tokens_is_refused(monkeypatch):
    lm = model("llama")
    forward = lm.module.forward

    def forgetful(input_ids=None, past_key_values=None, use_cache=None, logits_to_keep=0):
        return forward(input_ids=input_ids, use_cache=use_cache, logits_to_keep=logits_to_keep)

    monkeypatch.setattr(lm.module, "forward", forgetful)
    with pytest.raises(errors.WrongInput, match=r"^LlamaForCausalLM gives other logits with its cache than without \("):
        lm.generate(IDS)


@pytest.mark.parametrize("start", [1, 3])
def test_an_encoder_decoder_generates_with_its_encoder_run_once(start):
    config = hf.T5Config(
        vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = ip.LanguageModel(hf.T5ForConditionalGeneration(config).eval().double())
    for parameter in lm.module.parameters():
        parameter.data.mul_(1.5)
    begun = torch.tensor([[0, 4, 9][:start]] * 2)
    prompt = {"input_ids": IDS, "decoder_input_ids": begun} if start > 1 else IDS
    write = {"encoder.block.1:output.0[2, :]": ip.Scale(3), f"decoder.block.0:output.0[{start + 1}, :]": 0.5}
    with torch.no_grad():
        found = lm.generate(prompt, tokens=4, stop=[], write=write, read=["encoder.block.1:output.0"])
        seq = begun
        for step in range(4):
            here = dict(list(write.items())[: 2 if step >= 2 else 1])
            again = lm.run({"input_ids": IDS, "decoder_input_ids": seq}, write=here)
            torch.testing.assert_close(found.steps[step].output, again.output, atol=1e-9, rtol=1e-9)
            seq = torch.cat([seq, again.output.argmax(-1, keepdim=True)], 1)
        plain = lm.generate(prompt, tokens=4, stop=[])
    assert found.ids == tuple(map(tuple, seq[:, start:].tolist()))
    assert not torch.allclose(plain.logits, found.logits)
    assert [len(run.values) for run in found.steps] == [1, 0, 0, 0]
    assert [[str(entry.place) for entry in entries] for entries in found.ledger] == [
        ["encoder.block.1:output.0[2, :]"], [], [f"decoder.block.0:output.0[{start + 1}, :]"], []
    ]  # fmt: skip


# -- what is read, written and reported, step by step ------------------------------------------------------------


def test_reads_are_of_the_tokens_of_each_step():
    lm = model("llama")
    sites = [*lm.residual(layers=[1]), *lm.residual(layers=[1], positions=[-1, 2, T])]
    with torch.no_grad():
        found = lm.generate(IDS, tokens=3, read=sites, stop=[])
        whole = torch.cat([IDS, torch.tensor(found.ids)[:, :2]], 1)
        run = lm.run(whole, read=sites[:1])[sites[0]]
    steps = found.steps
    close = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(torch.cat([step[sites[0]] for step in steps], 1), run, **close)
    for step, p in enumerate([T - 1, T, T + 1]):
        torch.testing.assert_close(steps[step]["layer 1 @ -1"], run[:, p], **close)
    torch.testing.assert_close(steps[0]["layer 1 @ 2"], run[:, 2], **close)
    torch.testing.assert_close(steps[1][f"layer 1 @ {T}"], run[:, T], **close)
    assert sites[2] not in steps[1].values and sites[3] not in steps[0].values
    torch.testing.assert_close(found.logits[:, 1], steps[1].output)


def test_windows_are_open_in_every_step():
    lm = ip.LanguageModel(architectures.build("llama"))
    lm.module.set_attn_implementation("sdpa")
    path = lm.place("layer 1 pattern 1").path
    with torch.no_grad():
        found = lm.generate(
            IDS, tokens=4, stop=[], read=["layer 2 pattern 3 @ -1"],
            write={"layer 0 between @ 2": 0.5, "layer 1 pattern 1 @ -1": ip.Scale(0.5)},
        )  # fmt: skip
        seq = IDS
        for step in range(4):
            queries = lm.site(path, leaf="1", position=range(T - 1, T + step))
            write = {"layer 0 between @ 2": 0.5, queries: ip.Scale(0.5)}
            again = lm.run(seq, read=["layer 2 pattern 3 @ -1"], write=write)
            torch.testing.assert_close(found.steps[step].output, again.output, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(
                found.steps[step]["layer 2 pattern 3 @ -1"], again["layer 2 pattern 3 @ -1"], atol=1e-5, rtol=1e-5
            )
            seq = torch.cat([seq, torch.tensor(found.ids)[:, step : step + 1]], 1)
        plain = lm.generate(IDS, tokens=4, stop=[])
    assert not torch.allclose(plain.logits, found.logits, atol=1e-3)
    assert lm.module.config._attn_implementation == "sdpa"


def test_the_ledger_counts_by_step():
    lm = model("llama")
    with torch.no_grad():
        found = lm.generate(IDS, tokens=4, write={"layer 1": {0: ip.Add(0.5), 2: ip.Add(0.25)}}, stop=[])
    first, second, third, fourth = found.ledger
    assert second == fourth == ()
    assert (first[0].fired, first[0].size, first[0].touched, first[0].change) == (1, 2 * T * 32, 2 * T * 32, 0.5)
    assert (third[0].fired, third[0].size, third[0].change) == (1, 2 * 32, pytest.approx(0.25))
    assert str(first[0].place) == "layer 1" and found.missed == ()
    assert repr(found).splitlines() == [
        "Generated: 2 prompts, 4 steps",
        f"  0: {list(found.ids[0])}",
        f"  1: {list(found.ids[1])}",
        "  layer 1: written at step 0, 2, 320 of 320 values changed, by at most 0.5",
    ]


def ending(lm):
    """A token with which the first prompt ends earlier than the second, and after how many tokens each ends."""
    with torch.no_grad():
        ids = lm.generate(IDS, tokens=8, stop=[]).ids
    for token in ids[0]:
        lengths = [row.index(token) + 1 if token in row else len(row) for row in ids]
        if 1 < lengths[0] < lengths[1] - 1:
            return token, lengths, ids
    raise AssertionError(ids)


def test_a_prompt_that_ends_early_is_masked_and_what_was_missed_is_told():
    lm = model("gpt2")
    token, (short, long), ids = ending(lm)
    nothing = {step: ip.Add(0.0) for step in (0, short)}
    with torch.no_grad():
        found = lm.generate(IDS, tokens=8, stop=[token], read=["layer 1 @ -1"], write={"layer 2": nothing})
        alone = lm.generate(IDS[1:], tokens=8, stop=[token])
    assert found.ids == (ids[0][:short], ids[1][:long]) and found.ids[1:] == alone.ids
    assert found.ended == (True, long < 8 or ids[1][-1] == token)
    assert len(found.steps) == long
    for step, run in enumerate(found.steps):
        assert bool(run.output[0].isnan().all()) == (step >= short) == bool(run["layer 1 @ -1"][0].isnan().all())
        assert not run.output[1].isnan().any() and not run["layer 1 @ -1"][1].isnan().any()
    torch.testing.assert_close(found.logits[1:], alone.logits, atol=1e-9, rtol=1e-9)
    assert [entry.size for entries in found.ledger for entry in entries] == [2 * T * 32, 32]
    ((place, step, prompts),) = found.missed
    assert (str(place), step, prompts) == ("layer 2", short, (0,))
    assert f"  layer 2: not written at step {short} of prompt 0, which had ended" in repr(found).splitlines()
    assert f"  0: {list(ids[0][:short])}, ended after {short} tokens" in repr(found).splitlines()


def test_a_write_at_no_step_that_came_is_an_error():
    lm = model("gpt2")
    token, (short, _), _ = ending(lm)
    with pytest.raises(errors.NotFired) as refused, torch.no_grad():
        lm.generate(IDS[:1], tokens=20, stop=[token], write={"layer 1": {7: 0.0, 8: 0.0, 12: 0.0}})
    assert str(refused.value) == (
        f"layer 1 was to be written at step 7-8, 12, but every text had ended after {short} steps, so that nothing was "
        "written there. Write at an earlier step, or go on past the end with stop=[]."
    )
    with torch.no_grad():
        found = lm.generate(IDS[:1], tokens=20, stop=[token], write={"layer 1": {0: ip.Add(1.0), 18: 0.0}})
        assert len(found.steps) == 20 or [(step, rows) for _, step, rows in found.missed] == [(18, (0,))]
        late = lm.generate(IDS, tokens=9, stop=[token], write={f"layer 1 @ {T + short - 1}": ip.Add(0.0)})
    assert [(step, rows) for _, step, rows in late.missed] == [(short, (0,))]


def test_a_part_that_does_not_run_in_a_step_that_was_asked_for_is_an_error():
    lm = model("llama")
    block = lm.module.model.layers[1]

    class Skipping(torch.nn.Module):
        def __init__(self, mlp):
            super().__init__()
            self.mlp = mlp

        def forward(self, hidden):
            return hidden if hidden.shape[1] == 1 else self.mlp(hidden)

    block.mlp = Skipping(block.mlp)
    lm = ip.LanguageModel(lm.module)
    lm.__dict__["cache"] = "past_key_values"  # it would be refused: one token alone is treated otherwise
    path = "model.layers.1.mlp.mlp"
    with torch.no_grad():
        assert [len(entries) for entries in lm.generate(IDS, tokens=3, stop=[], write={path: 0.0}).ledger] == [1, 0, 0]
        with pytest.raises(errors.NotFired) as refused:
            lm.generate(IDS, tokens=3, stop=[], write={path: {0: 0.0, 2: 0.0}})
        assert str(refused.value) == (
            f"{path!r} did not run at step 2, so nothing was written at {path}. Is it on a branch not taken, or "
            "bypassed by a fused path?"
        )
        with pytest.raises(errors.NotFired) as refused:
            lm.generate(IDS, tokens=3, stop=[], read=[f"{path}[{T}, :]"])
        assert str(refused.value).startswith(f"{path!r} ran in none of 3 steps, so nothing was read at ")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            {"layer 1 @ 2": {1: 0.0}},
            "layer 1 @ 2 is not met in step 1, a pass of one token, at position 4. It is in step 0.",
        ),
        (
            {"layer 1 @ 30": 0.0},
            "layer 1 @ 30 is in no step: the first pass holds positions 0 to 3, and each of 2 later ones the next "
            "position alone. Positions of several steps are named apart.",
        ),
        (
            {"layer 1": {3: 0.0}},
            "layer 1 is to be written at step 3; of 3 tokens there are the steps 0 to 2. Step 0 is the prompt's pass.",
        ),
        (
            {"layer 1": {-1: 0.0}},
            "layer 1 is to be written at step -1; of 3 tokens there are the steps 0 to 2. Step 0 is the prompt's pass.",
        ),
        (
            {"layer 1": {}},
            "layer 1 is to be written at no step. Say at which, as in {0: value}, or leave it out.",
        ),
    ],
)
def test_steps_that_cannot_come_are_refused_before_the_first_pass(write, said, monkeypatch):
    lm = model("llama")
    assert lm.cache and lm.residual()
    monkeypatch.setattr(lm.module, "forward", None)
    with pytest.raises(errors.WrongInput) as refused:
        lm.generate(IDS, tokens=3, write=write)
    assert str(refused.value) == said


def test_writes_overlap_step_by_step():
    lm = model("llama")
    with torch.no_grad():
        lm.generate(IDS, tokens=3, write={"layer 1": {0: 0.0}, "layer 1 @ -1": {1: 0.0, 2: 0.0}}, stop=[])
        with pytest.raises(errors.OverlappingWrites):
            lm.generate(IDS, tokens=3, write={"layer 1": {0: 0.0}, "layer 1 @ -1": {0: 0.0}}, stop=[])
        with pytest.raises(errors.OverlappingWrites):
            lm.generate(IDS, tokens=3, write={f"layer 1 @ {T - 1}": 0.0, "layer 1 @ -1": 0.0}, stop=[])


def test_an_error_says_at_which_step_it_was():
    lm = model("llama")
    with torch.no_grad():
        value = lm.run(IDS, read=["layer 1"])["layer 1"]
        with pytest.raises(errors.WrongShape, match="cannot write a value of shape") as refused:
            lm.generate(IDS, tokens=3, write={"layer 1": value}, stop=[])
        assert refused.value.__notes__ == ["This was at step 1 of the generation, a pass of one token, at position 4."]
        found = lm.generate(IDS, tokens=3, write={"layer 1": {0: value}}, stop=[])
        torch.testing.assert_close(found.logits, lm.generate(IDS, tokens=3, stop=[]).logits)


# -- how tokens are chosen ---------------------------------------------------------------------------------------


def test_greedy_generation_is_transformers_own():
    module = tiny.model("gpt2")
    lm = ip.LanguageModel(module, tiny.tokenizer())
    prompt = capitals.PROMPT.format(city="Paris")
    ids = torch.tensor([lm.token_ids(prompt)])
    with torch.no_grad():
        found = lm.generate(prompt, tokens=6, stop=[])
        theirs = module.generate(ids, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    assert found.ids[0] == tuple(theirs[0, ids.shape[1] :].tolist())
    assert found.texts == (lm.tokenizer.decode(theirs[0])[len(prompt) :],)
    assert found.prompts == (tuple(ids[0].tolist()),)
    assert (
        lm.generate(ids, tokens=2).texts is not None and ip.LanguageModel(module).generate(ids, tokens=1).texts is None
    )


def test_texts_are_what_is_added_without_what_ends_them():
    lm = ip.LanguageModel(tiny.model("llama"), tiny.tokenizer(bos=True))
    prompt = capitals.PROMPT.format(city="Rome")
    with torch.no_grad():
        (ids,) = lm.generate(prompt, tokens=6, stop=[]).ids
        end = next(token for token in ids[1:] if token != ids[0])
        found = lm.generate(prompt, tokens=6, stop=[end])
    n = ids.index(end)
    assert found.ids == (ids[: n + 1],) and found.texts == (lm.tokenizer.decode(ids[:n]),) and found.ended == (True,)


def test_the_token_that_ends_a_text_is_the_models_own():
    module = tiny.model("gpt2")
    lm = ip.LanguageModel(module, tiny.tokenizer())
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        (plain,) = lm.generate(ids, tokens=5, stop=[]).ids
        module.generation_config.eos_token_id = [plain[2], 699]
        assert lm.generate(ids, tokens=5).ids == (plain[: plain.index(plain[2]) + 1],)
        module.generation_config.eos_token_id = plain[0]
        assert lm.generate(ids, tokens=5).ids == (plain[:1],)


def test_tokens_are_drawn_as_the_logits_say():
    lm = ip.LanguageModel(architectures.build("llama"))
    rows = IDS[:1].repeat(4000, 1)
    with torch.no_grad():
        shares = (lm.run(IDS[:1]).output[0].double() / 0.5).softmax(-1)
        drawn = torch.tensor(lm.generate(rows, tokens=1, temperature=0.5, seed=1, stop=[]).ids)[:, 0]
        counts = torch.bincount(drawn, minlength=100) / 4000
        assert float((counts - shares).abs().max()) < 0.03
        state = torch.random.get_rng_state()
        same = [lm.generate(IDS, tokens=6, temperature=1.5, seed=s, stop=[]).ids for s in (0, 0, 1)]
        assert same[0] == same[1] != same[2]
        cold = lm.generate(IDS, tokens=6, temperature=1e-6, seed=0, stop=[])
        assert cold.ids == lm.generate(IDS, tokens=6, stop=[]).ids
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokens": 0}, "tokens=0: at least one token is generated."),
        ({"tokens": 1.5}, "tokens=1.5: at least one token is generated."),
        ({"seed": 3}, "seed=3: without a temperature the likeliest token is taken, and nothing is drawn."),
        ({"temperature": 1.0}, "Tokens are drawn at a temperature, so give the seed of the draw too: seed=0."),
        (
            {"temperature": 0.0, "seed": 0},
            "temperature=0.0: give a number above 0; for the likeliest token, leave it out.",
        ),
    ],
)
def test_options_without_an_effect_are_errors(options, said):
    with pytest.raises(errors.WrongInput) as refused:
        model("llama").generate(IDS, **options)
    assert str(refused.value) == said


def test_what_later_steps_would_be_without_is_refused():
    lm = model("llama")
    with pytest.raises(errors.WrongInput) as refused:
        lm.generate({"inputs_embeds": torch.zeros(1, 3, 32)})
    assert (
        str(refused.value) == "Generation starts from texts or token ids; later steps would be without inputs_embeds."
    )
    padded = {"input_ids": IDS, "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])}
    with pytest.raises(errors.WrongPairs):
        lm.generate(padded)
    with torch.no_grad():
        ones = lm.generate({"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, tokens=3, stop=[])
        assert ones.ids == lm.generate(IDS, tokens=3, stop=[]).ids


# -- what is left behind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_changed_also_by_an_error(fails, training):
    lm = ip.LanguageModel(tiny.model("gpt2"), tiny.tokenizer())
    lm.module.train(training)

    def state():
        module = lm.module
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]
        own = (module.config.to_dict(), module.generation_config.to_dict(), lm.tokenizer.padding_side)
        grads = [p.grad is None and p.requires_grad for p in module.parameters()]
        return hooks, own, grads, [m.training for m in module.modules()], torch.random.get_rng_state().tolist()

    def fail(old):
        raise KeyError("mine")

    weights = copy.deepcopy(lm.module.state_dict())
    before = state() if not training else state()[:4]
    ids, write = torch.tensor([[5, 6, 7]]), {"layer 1": {0: ip.Add(1.0), 2: fail if fails else ip.Add(1.0)}}
    with torch.no_grad():
        if fails:
            with pytest.raises(KeyError, match="mine"):
                lm.generate(ids, tokens=4, write=write)
        else:
            lm.generate(ids, tokens=4, write=write, temperature=1.0, seed=0, stop=[])
    assert before == (state() if not training else state()[:4])  # dropout draws what it draws in any run
    assert list(write["layer 1"]) == [0, 2] and all(
        torch.equal(w, weights[k]) for k, w in lm.module.state_dict().items()
    )


def test_steps_count_the_passes():
    steps = Steps(start=4, prompt=4, tokens=5, encoder=None)
    at = lambda position: steps.of(ip.Site("x", position=position))
    assert at(None) == at("each") == at(-1) == [0, 1, 2, 3, 4]
    assert at(-2) == at(0) == at(3) == at((0, 3)) == at((1, -1)) == [0]
    assert at(4) == at((4,)) == [1] and at(7) == [4] and at(8) == at((3, 4)) == []
    assert steps.within(ip.Site("x", position=(4,)), 1).position == (0,)
    assert np.array_equal(list(steps.span(ip.Site("x"), 3)), [6])


def test_positions_with_names_are_counted_in_the_prompt():
    lm = ip.LanguageModel(tiny.model("llama"), tiny.tokenizer())
    prompts = [ip.Prompt(capitals.PROMPT, city=city) for city in ("Rome", "Oslo")]
    (at,) = lm.positions([str(prompt) for prompt in prompts], [" Rome", " Oslo"])
    name = "layer 1 @ {city[-1]}"
    with torch.no_grad():
        found = lm.generate(prompts, tokens=3, stop=[], write={name: ip.Scale(3)}, read=[name])
        wanted = lm.generate(list(map(str, prompts)), tokens=3, stop=[], write={f"layer 1 @ {at}": ip.Scale(3)})
        assert torch.equal(found.logits, wanted.logits) and found.ids == wanted.ids
        assert str(found.ledger[0][0].place) == name and found.ledger[0][0].size == 64
        assert found.steps[0][name].shape == (2, 32)
        with pytest.raises(errors.OverlappingWrites):
            lm.generate(prompts, tokens=3, write={name: ip.Scale(3), f"layer 1 @ {at}": 0.0})
        with pytest.raises(errors.WrongPairs) as refused:
            lm.generate(["The city of Rome", "The city"], tokens=3)
    assert str(refused.value) == (
        "These prompts have 2 forms: other lengths, or the same names at other positions. Prompts that generate "
        "together have one: generate from each apart."
    )
