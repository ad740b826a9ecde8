"""Several sources at once in language models: against hooks by hand, and under a claim about variables."""

import re

import pytest
import torch

import architectures
import interpose as ip
import tiny
from interpose import errors
from interpose.tasks import capitals

IDS = torch.tensor([[5, 6, 7, 8], [9, 8, 3, 4]])
SECOND, THIRD = IDS + 10, IDS.flip(1) + 30
PLACES = {
    "gpt2": ("transformer.h.{}", "transformer.h.{}.attn.c_proj", "transformer.h.{}.mlp"),
    "llama": ("model.layers.{}", "model.layers.{}.self_attn.o_proj", "model.layers.{}.mlp"),
    "gpt_neox": ("gpt_neox.layers.{}", "gpt_neox.layers.{}.attention.dense", "gpt_neox.layers.{}.mlp"),
}


def hooked(module, ids, seen=None, edits=None, **options):
    """The last logits of a run in which hooks keep what modules give (seen) or replace it (edits): path:end -> f."""

    def first(output):
        return output[0] if isinstance(output, tuple) else output

    handles = []
    for place in (*(seen or ()), *(edits or ())):
        path, _, end = place.partition(":")

        def keep(x, place=place):
            if seen is not None and place in seen:
                seen[place] = x.detach().clone()
            return edits[place](x) if edits is not None and place in edits else x

        part = module.get_submodule(path)
        if end == "input":
            handles.append(part.register_forward_pre_hook(lambda _m, a, f=keep: (f(a[0]), *a[1:])))
        else:
            handles.append(part.register_forward_hook(lambda _m, _a, out, f=keep: _with(out, f(first(out)))))
    try:
        with torch.no_grad():
            return module(ids, **options).logits[:, -1]
    finally:
        for handle in handles:
            handle.remove()


def _with(output, x):
    return (x, *output[1:]) if isinstance(output, tuple) else x


def seen_in(module, ids, place):
    found = {place: None}
    hooked(module, ids, seen=found)
    return found[place]


@pytest.mark.parametrize("kind", PLACES)
def test_places_take_their_values_from_several_prompts_at_once(kind):
    module = architectures.build(kind).double()
    lm = ip.LanguageModel(module)
    block, projection, mlp = PLACES[kind]
    block, projection, mlp = block.format(0), projection.format(1) + ":input", mlp.format(2)
    with torch.no_grad():
        run = ip.interchange(lm, IDS, {"layer 0 @ 1": SECOND, "layer 1 head 2 @ -1": THIRD, "layer 2 MLP @ 3": SECOND})
    a, b, c = (seen_in(module, ids, at) for ids, at in ((SECOND, block), (THIRD, projection), (SECOND, mlp)))
    edits = {
        block: lambda x: torch.cat([x[:, :1], a[:, 1:2], x[:, 2:]], 1),
        projection: lambda x: torch.cat(
            [x[:, :-1], torch.cat([x[..., :16], b[..., 16:24], x[..., 24:]], -1)[:, -1:]], 1
        ),
        mlp: lambda x: torch.cat([x[:, :3], c[:, 3:]], 1),
    }
    torch.testing.assert_close(run.output, hooked(module, IDS, edits=edits), atol=1e-10, rtol=1e-10)
    assert not torch.allclose(run.output, hooked(module, IDS))
    assert [entry.fired for entry in run.ledger] == [1, 1, 1]
    for left_out in edits:  # each of the three matters
        fewer = {place: edit for place, edit in edits.items() if place != left_out}
        assert float((hooked(module, IDS, edits=fewer) - run.output).abs().max()) > 1e-8


@pytest.mark.parametrize("kind", PLACES)
def test_a_value_may_come_from_another_place_of_its_source(kind):
    module = architectures.build(kind).double()
    lm = ip.LanguageModel(module)
    block = PLACES[kind][0]
    sources = {"layer 1 @ 2": (SECOND, "layer 0 @ 3"), "layer 2 @ 0": THIRD, "layer 1 @ 0": (SECOND, "layer 2 @ 1")}
    with torch.no_grad():
        run = ip.interchange(lm, IDS, sources)
    a, c = seen_in(module, SECOND, block.format(0)), seen_in(module, SECOND, block.format(2))
    b = seen_in(module, THIRD, block.format(2))
    edits = {
        block.format(1): lambda x: torch.cat([c[:, 1:2], x[:, 1:2], a[:, 3:4], x[:, 3:]], 1),
        block.format(2): lambda x: torch.cat([b[:, :1], x[:, 1:]], 1),
    }
    torch.testing.assert_close(run.output, hooked(module, IDS, edits=edits), atol=1e-10, rtol=1e-10)


def test_both_directions_are_each_others_with_base_and_source_changed():
    """Ybs and Ysb of a scan are the interchanges from source to base and back, cell by cell."""
    lm = ip.LanguageModel(architectures.build("llama").double())
    pairs = ip.Pairs.from_tokens(base=IDS, source=SECOND, answers=[[7, 8], [9, 10]])
    places = [*lm.residual(layers=[1], positions=[2, -1]), *lm.heads(layers=[2], positions=[-1])]
    found = ip.effects(lm, pairs, places, ip.logit_difference)
    with torch.no_grad():
        for k, place in enumerate(places):
            there = ip.interchange(lm, IDS, {place: SECOND}).output
            back = ip.interchange(lm, SECOND, {place: IDS}).output
            for column, output in ((found.ybs, there), (found.ysb, back)):
                expected = ip.logit_difference(output, pairs)
                torch.testing.assert_close(torch.tensor(column[:, k]), expected, atol=1e-9, rtol=1e-9)


# -- a claim about variables, on a language model --------------------------------------------------------------

CITIES = ["Paris", "Rome", "Oslo", "Lima", "Tokyo"]
WORDS = ["city", "country", "in", "is", "located"]


def prompted():
    """A tiny language model, asked about two words; which of six tokens comes next is a function of both."""
    lm = ip.LanguageModel(tiny.model("llama", seed=3).double(), tiny.tokenizer())
    with torch.no_grad():
        for name, parameter in lm.module.named_parameters():
            parameter.mul_(1 if "norm" in name else 8)
    answers = {f"answer {i}": 20 + 7 * i for i in range(6)}
    return ip.Prompted(lm, "The {word} of {city} is", answers)


def hypothesis_of(model):
    table = {(word, city): model.run({"word": word, "city": city}).output[0] for word in WORDS for city in CITIES}
    assert len(set(table.values())) > 2
    hypothesis = ip.CausalModel(
        word=ip.Variable(WORDS),
        city=ip.Variable(CITIES),
        which=ip.Variable(lambda city: city),
        Y=ip.Variable(lambda word, which: table[word, which]),
    )
    return hypothesis, table


def test_a_claim_about_a_language_model_is_tested_with_a_source_for_each_variable():
    """By construction: what a token's embedding is, decides what follows, as the table of all runs says."""
    model = prompted()
    lm = model.lm
    hypothesis, table = hypothesis_of(model)
    prompt = model.prompts({"word": "city", "city": "Rome"})[0]
    (at,), (first,) = lm.positions(prompt, " Rome"), lm.positions(prompt, " city")
    claim = ip.Alignment(
        hypothesis,
        {"word": lm.residual(layers=[0], positions=[first], at="before"), "which": f"before layer 0 @ {at}"},
    )
    right = ip.interchange_accuracy(model, claim, n=60, seed=1)
    assert right.score == right.ceiling == right.accuracy == 1 and len(right.rows) == 3 and right.floor < 1
    wrong = ip.Alignment(hypothesis, {"word": f"before layer 0 @ {at}", "which": f"before layer 0 @ {first}"})
    found = ip.interchange_accuracy(model, wrong, n=60, seed=1)
    assert found.score < 0.9 and found.smallest
    failure = found.failures()[0]
    run = ip.interchange(model, [failure["base"]], {place: [s] for place, s in failure["sources"].items()})
    assert run.output == [failure["observed"]] != [failure["expected"]]
    assert table[failure["base"]["word"], failure["base"]["city"]] == model.run([failure["base"]]).output[0]


def test_pairs_of_a_causal_model_are_measured_on_a_language_model():
    model = prompted()
    hypothesis, _ = hypothesis_of(model)
    pairs = ip.Pairs.varying(hypothesis, "city", n=12, seed=0)
    prompt = model.prompts({"word": "city", "city": "Rome"})[0]
    (at,) = model.lm.positions(prompt, " Rome")
    found = ip.effects(model, pairs, [f"before layer 0 @ {at}", f"before layer 0 @ {at - 1}"], ip.matches)
    assert (found.yss == 1).all() and (found.ybs[:, 0] == 1).all()
    assert (found.ybs[:, 1] == found.ybb).all()


def test_prompts_and_answers_are_checked():
    lm = ip.LanguageModel(tiny.model("llama"), tiny.tokenizer())
    countries = {name: f" {name}" for name in ("France", "Italy")}
    model = ip.Prompted(lm, capitals.PROMPT, countries)
    with torch.no_grad():
        logits = lm.run([capitals.PROMPT.format(city=city) for city in ("Paris", "Rome")]).output
    tokens = [lm.token_ids(answer)[0] for answer in countries.values()]
    expected = [list(countries)[int(row[tokens].argmax())] for row in logits]
    assert model.run([{"city": "Paris"}, {"city": "Rome"}]).output == expected
    assert model.run({"city": ["Paris", "Rome"]}).output == expected
    assert ip.Prompted(lm, lambda s: lm.token_ids(s["city"]), {1: 5, 2: 6}).run({"city": "Rome"}).output[0] in (1, 2)
    assert repr(model) == f"Prompted({lm!r}, {capitals.PROMPT!r}, 2 answers)"
    for wrong, said in (
        (
            {1: " not one token"},
            "The answer ' not one token' for 1 is 12 tokens, ",
        ),
        ({1: 5, 2: 5}, "1 and 2 both have token 5 for an answer. Nothing could tell them apart."),
        ({}, "answers says which token stands for which value: {7: ' seven'}, not {}."),
    ):
        with pytest.raises(errors.WrongAnswers, match="^" + re.escape(said)):
            ip.Prompted(lm, "x", wrong)
    with pytest.raises(errors.WrongInput) as refused:
        model.run({"town": "Rome"})
    assert str(refused.value) == f"{capitals.PROMPT!r} has a part {{city}} that is given no value."


def test_the_variables_of_a_text_are_positions_with_a_name():
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    asked = ip.Prompted(lm, capitals.PROMPT, {"France": " France", "Italy": " Italy"})
    (site,) = lm.residual(layers=[1], positions=["{city[-1]}"])
    run = asked.run([{"city": "Paris"}, {"city": "New York"}], read=[site])
    for i, city in enumerate(("Paris", "New York")):
        text = capitals.PROMPT.format(city=city)
        whole = lm.run(text, read=["layer 1"])["layer 1"]
        assert torch.allclose(run[site][i], whole[0, lm.positions(text, city)[-1]], atol=1e-6)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("layer 1 @ 3", "an input has "),
        ("layer 1 @ {city}", "{city} is "),
        ("layer 1 head 0", "layer 1 head 0 holds "),
    ],
)
def test_prompts_of_unequal_length_have_no_counted_position_in_common(place, text):
    cities = {"Paris": "Paris", "Oslo": "the old city of Oslo"}
    model = ip.Prompted(
        ip.LanguageModel(tiny.model("llama"), tiny.tokenizer()),
        lambda one: ip.Prompt("{word} of {city} is", word=one["word"], city=cities[one["city"]]),
        {0: " France", 1: " Italy"},
    )
    hypothesis = ip.CausalModel(
        word=ip.Variable(["The city", "The country"]),
        city=ip.Variable(list(cities)),
        y=ip.Variable(lambda word, city: int(word == "The city") ^ int(city == "Oslo")),
    )
    claim = ip.Alignment(hypothesis, {"city": place})
    for ask in (ip.interchange_accuracy, lambda *given, n: ip.distinguish(*given, claim, n=n)):
        with pytest.raises(errors.WrongPairs, match=rf"^Pair \d+: {re.escape(text)}"):
            ask(model, claim, n=12)
    settings = {"city": "Paris", "word": "The city"}, {"city": "Oslo", "word": "The city"}
    pairs = ip.Pairs([settings[0]], [settings[1]], targets=[0])
    with pytest.raises(errors.WrongPairs, match=r"^Pair 0: "):
        ip.effects(model, pairs, [place], ip.matches)

    named = "layer 1 @ {city[-1]}"
    (row,) = ip.interchange_accuracy(model, ip.Alignment(hypothesis, {"city": named}), n=12).rows
    (sources,) = row.sources.values()
    for base, source, observed in zip(row.base, sources, row.observed, strict=True):
        values = model.run([source], read=[named])
        assert model.run([base], write={named: values[named]}).output == [observed]
