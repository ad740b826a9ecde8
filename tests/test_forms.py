"""Prompts of unequal length and positions with names: every prompt gives what it gives alone."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
import transformers

import interpose as ip
import tiny
from interpose import errors
from interpose.forms import forms
from interpose.named import Tokens
from interpose.tasks.capitals import COUNTRIES, PROMPT

CITIES = ["Paris", "New York", "Rome", "the old city of Oslo"]
TEMPLATE = "The city of {city} is located in the country of"
KINDS = ["llama", "gpt2", "neox"]


def model(kind="llama", *, bos=False, double=True):
    module = tiny.model(kind)
    return ip.LanguageModel(module.double() if double else module, tiny.tokenizer(bos=bos))


@pytest.fixture(scope="module")
def lm():
    return model()


def prompts(cities=CITIES):
    return [ip.Prompt(TEMPLATE, city=city) for city in cities]


def answers(n):
    return [(" France", " Italy")] * n


def template_pairs(lm, base=CITIES, source=("Rome", "Oslo", "the new city of Lima", "Cairo")):
    return ip.Pairs.from_template(lm, TEMPLATE, base=base, source=list(source), answers=answers(len(base)))


# -- laws ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_gives_what_it_gives_alone_whatever_runs_beside_it(kind, bos):
    lm = model(kind, bos=bos)
    sites = [*lm.residual(layers=[1], positions=["{city[-1]}", "{city[0]}", -1]), lm.place("layer 2 head 1 @ -1")]
    with torch.no_grad():
        together = lm.run(prompts(), read=sites)
        for i, prompt in enumerate(prompts()):
            alone = lm.run(str(prompt), read=[lm.place("layer 1"), lm.place("layer 2 head 1")])
            torch.testing.assert_close(together.output[i], alone.output[0])
            where = lm.positions(str(prompt), CITIES[i])
            for site, position in zip(sites[:3], (where[-1], where[0], -1), strict=True):
                torch.testing.assert_close(together[site][i], alone["layer 1"][0, position])
            torch.testing.assert_close(together[sites[3]][i], alone["layer 2 head 1"][0, -1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_inputs_give_what_their_prompts_give_alone(kind, side):
    lm = model(kind)
    rows = [lm.token_ids(str(prompt)) for prompt in prompts()]
    longest = max(map(len, rows))
    pads = [[7] * (longest - len(row)) for row in rows]
    ids = [pad + row if side == "left" else row + pad for pad, row in zip(pads, rows, strict=True)]
    ones = [([0] * (longest - len(row)), [1] * len(row)) for row in rows]
    mask = [zeros + own if side == "left" else own + zeros for zeros, own in ones]
    given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    with torch.no_grad():
        torch.testing.assert_close(lm.run(given).output, lm.run(prompts()).output)
        held = lm.run(given, read=["layer 0"])["layer 0"]
    assert [len(row) for row in held] == [len(row) for row in rows]  # no pad is a position


def test_pads_between_tokens_and_further_columns_are_refused(lm):
    ids = torch.tensor([[1, 2, 3, 4]] * 2)
    given = {"input_ids": ids, "attention_mask": torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]])}
    with pytest.raises(errors.WrongPairs, match="Pads are taken off where they stand before or behind each prompt"):
        lm.run(given)
    given = {"input_ids": ids, "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]), "position_ids": ids}
    with pytest.raises(errors.WrongPairs, match=r"hold input_ids, attention_mask, position_ids\."):
        lm.run(given)
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    torch.testing.assert_close(lm.run(whole).output, lm.run(ids).output)


@pytest.mark.parametrize(
    ("make", "of_one"),
    [
        (lambda v: v, lambda v, i: v[[i]]),
        (ip.Set, lambda v, i: ip.Set(v[[i]])),
        (ip.Add, lambda v, i: ip.Add(v[[i]])),
        (ip.Scale, lambda v, i: ip.Scale(v[[i]])),
        (lambda v: ip.Chain(ip.Add(v), ip.Scale(2.0)), lambda v, i: ip.Chain(ip.Add(v[[i]]), ip.Scale(2.0))),
        (lambda v: ip.Add(v[0], broadcast=True), lambda v, i: ip.Add(v[0], broadcast=True)),
        (lambda v: ip.Set(list(v)), lambda v, i: ip.Set(v[[i]])),
        (lambda v: lambda old: old * 3, lambda v, i: lambda old: old * 3),
    ],
)
@pytest.mark.parametrize("position", ["{city[-1]}", -1, 2])
def test_a_write_to_many_prompts_is_the_writes_to_each(lm, make, of_one, position):
    (site,) = lm.residual(layers=[1], positions=[position])
    values = torch.randn(len(CITIES), 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = lm.run(prompts(), read=[site], write={site: make(values)})
        for i, prompt in enumerate(prompts()):
            where = lm.positions(str(prompt), CITIES[i])[-1] if isinstance(position, str) else position
            (counted,) = lm.residual(layers=[1], positions=[where])
            alone = lm.run([str(prompt)], read=[counted], write={counted: of_one(values, i)})
            torch.testing.assert_close(together.output[i], alone.output[0])
            torch.testing.assert_close(together[site][i], alone[counted][0])
    (entry,) = together.ledger
    assert entry.place == site
    assert (entry.fired, entry.size) == (1, len(CITIES) * 32)


def test_a_whole_sequence_is_read_and_written_as_a_list(lm):
    site = lm.place("layer 1")
    with torch.no_grad():
        other = [p.replace("located", "country") for p in prompts()]
        source = lm.run(other, read=[site])
        assert [tuple(row.shape) for row in source[site]] == [(len(lm.token_ids(p)), 32) for p in other]
        patched = lm.run(prompts(), write={site: ip.Set(source[site])})
    torch.testing.assert_close(patched.output, source.output)
    assert patched.ledger[0].size == sum(row.numel() for row in source[site])


@pytest.mark.parametrize("engine", ["all", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_of_named_positions_is_one_interchange_a_pair(kind, engine):
    lm = model(kind)
    if engine == "full":
        lm.engine = "full"
    pairs = template_pairs(lm)
    sites = [*lm.residual(positions=["{city[-1]}", "{city[0]}", -1]), lm.heads(layers=[1], positions=["{city[-1]}"])[2]]
    found = ip.scan(lm, pairs, sites, ip.logit_difference)
    difference = lambda out: float(out[0, pairs.answers[0, 1]] - out[0, pairs.answers[0, 0]])
    for i, (base, source) in enumerate(zip(pairs.base, pairs.source, strict=True)):
        for j, (site,) in enumerate(found.places):
            ours, theirs = (_counted(lm, text, site) for text in (base, source))
            with torch.no_grad():
                donor = lm.run(str(source), read=[theirs])
                run = lm.run(str(base), write={ours: donor[theirs]})
            assert found.ybs[i, j] == pytest.approx(difference(run.output), abs=1e-9)
        assert found.yss[i] == pytest.approx(difference(donor.output), abs=1e-9)


def _counted(lm, text, site):
    """The same site, with its position found in the text by hand."""
    from dataclasses import replace

    if site.position == -1:
        return site
    where = lm.positions(str(text), text[slice(*text.parts["city"])])
    return replace(site, position=where[0] if site.position == "{city[0]}" else where[-1], coordinates=())


def test_the_order_of_pairs_and_the_size_of_batches_change_nothing(lm):
    pairs = template_pairs(lm)
    sites = lm.residual(positions=["{city[-1]}", -1])
    whole = ip.scan(lm, pairs, sites, ip.logit_difference)
    other = ip.scan(lm, pairs[[3, 1, 0, 2]], sites[::-1], ip.logit_difference, batch_size=3)
    np.testing.assert_allclose(other.ybs[:, ::-1], whole.ybs[[3, 1, 0, 2]], atol=1e-12)
    assert list(whole.data.position.values) == ["{city[-1]}", "-1"]


def test_a_place_from_which_only_some_prompts_reach_the_output_is_not_called_unreachable(lm):
    """In the last layer a city matters where it is the last word, and nowhere else."""
    pairs = ip.Pairs.from_prompts(
        lm,
        base=[ip.Prompt("The city of {city}", city="Paris"), ip.Prompt("The city of {city} is", city="Rome")],
        source=[ip.Prompt("The city of {city}", city="Oslo"), ip.Prompt("The city of {city} is", city="Lima")],
        answers=answers(2),
    )
    found = ip.scan(lm, pairs, lm.residual(layers=[1, 2], positions=["{city[-1]}"]), ip.logit_difference)
    assert np.abs(found.nie[:, 1]).tolist() == [pytest.approx(abs(found.te[0])), 0.0]
    assert not found.unreachable[0, 1]


def test_positions_may_be_given_by_text_and_by_number(lm):
    base, source = [f"See {city} and Rome now" for city in ("Paris", "New York")], ["See the Oslo and Rome now"] * 2
    texts = ip.Pairs.from_prompts(
        lm,
        base=base,
        source=source,
        answers=answers(2),
        positions={"first": (["Paris", "New York"], "Oslo"), "second": ("Rome", "Rome")},
    )
    ids = [[lm.token_ids(text) for text in side] for side in (base, source)]
    ends = [
        [lm.positions(text, word)[-1] for text, word in zip(side, words, strict=True)]
        for side, words in ((base, ["Paris", "New York"]), (source, ["Oslo", "Oslo"]))
    ]
    seconds = [[lm.positions(text, "Rome") for text in side] for side in (base, source)]
    numbers = ip.Pairs.from_tokens(
        base=ids[0], source=ids[1], answers=texts.answers, positions={"first": ends, "second": seconds}
    )
    bare = ip.LanguageModel(lm.module)
    sites = lm.residual(layers=[0, 1], positions=["{first[-1]}", "{second}"])
    one = ip.scan(lm, texts, sites, ip.logit_difference)
    other = ip.scan(bare, numbers, sites, ip.logit_difference)
    np.testing.assert_allclose(one.ybs, other.ybs)
    np.testing.assert_allclose(one.ysb, other.ysb)


def test_other_questions_take_named_positions_too(lm):
    pairs = template_pairs(lm)
    (site,) = lm.residual(layers=[1], positions=["{city[-1]}"])
    ablated = ip.ablate(lm, pairs, [site], ip.logit_difference, by=ip.Mean())
    assert np.isfinite(ablated.y).all()
    chance = ip.effects(lm, pairs, [site], ip.logit_difference, chance=2)
    assert np.isfinite(chance.shuffled.ybs).all()
    found = ip.circuit(lm, pairs, [site], [site], ip.logit_difference, draws=2)
    assert np.isfinite(found.full).all()
    run = ip.interchange(lm, pairs.base[0], {site: pairs.source[1]})
    assert run.ledger[0].touched > 0


def test_what_was_measured_is_saved_with_its_names_and_kept_apart_from_other_names(lm, tmp_path):
    pairs = template_pairs(lm)
    sites = lm.residual(layers=[1], positions=["{city[-1]}"])
    found = ip.scan(lm, pairs, sites, ip.logit_difference, store=tmp_path / "store")
    again = ip.load(ip.save(found, tmp_path / "flow.interpose"))
    assert [dict(p.parts) for p in again.pairs.base] == [dict(p.parts) for p in pairs.base]
    assert again.places == found.places
    other = ip.Pairs.from_prompts(
        lm,
        base=[str(p) for p in pairs.base],
        source=[str(p) for p in pairs.source],
        answers=answers(4),
        positions={"city": ("located", "located")},
    )
    with pytest.raises(errors.WrongStore):
        ip.scan(lm, other, sites, ip.logit_difference, store=tmp_path / "store")


# -- words -----------------------------------------------------------------------------------------


def test_a_template_tells_where_its_parts_are():
    prompt = ip.Prompt("{A} and {B} met; {B} gave {A} a {{cup}}", A="Ann", B="Bob")
    assert prompt == "Ann and Bob met; Bob gave Ann a {cup}"
    assert {name: prompt[slice(*span)] for name, span in prompt.parts.items()} == {
        "A#0": "Ann",
        "A#1": "Ann",
        "B#0": "Bob",
        "B#1": "Bob",
    }
    assert [prompt.parts[f"B#{i}"] for i in (0, 1)] == [(8, 11), (17, 20)]


def test_a_prompt_is_copied_with_its_parts():
    prompt = ip.Prompt("{{see}} {A}", A="Ann", special=False)
    for again in (copy.deepcopy(prompt), pickle.loads(pickle.dumps(prompt)), copy.copy(prompt)):
        assert (again, again.parts, again.special) == ("{see} Ann", {"A": (6, 9)}, False)


def test_named_positions_are_shown_as_text(lm):
    prompt = ip.Prompt(TEMPLATE, city="New York")
    assert lm.show(prompt, ["{city}", -1]).replace("><", "").count("<") == 2
    assert lm.show(ip.Prompt(TEMPLATE, city="Paris"), ["{city[-1]}"]) == (
        "The city of< Paris> is located in the country of"
    )


def test_a_site_with_a_name_is_spelled_and_read_back(lm):
    for spelling in ("model.layers.1[{city[-1]}, :]", "model.layers.1[{B#1}, 0:4]", "model.layers.1[{city[0]}, 3]"):
        assert lm.place(spelling).spelling == spelling
    assert lm.place("layer 1 head 2 @ {city[-1]}").position == "{city[-1]}"
    assert str(lm.place("layer 1 @ {city}")) == "layer 1 @ {city}"


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (
            lambda lm: lm.run(prompts(), read=lm.residual(positions=["{town}"])),
            errors.UnknownPlace,
            "'The city of Paris is located in the country of' has no part {town}. There are {city}.",
        ),
        (
            lambda lm: lm.run("The city", read=lm.residual(positions=["{city}"])),
            errors.UnknownPlace,
            "'The city' has no part {city}. Prompts with parts are made by Pairs.from_template, or ip.Prompt.",
        ),
        (
            lambda lm: lm.run(prompts(), read=lm.residual(positions=["{city[7]}"])),
            errors.WrongShape,
            "{city[7]} asks for token 7 of a part that has 1 in 'The city of Paris",
        ),
        (
            lambda lm: lm.run(prompts(), read=lm.residual(positions=["city"])),
            errors.WrongShape,
            "has position='city'. A position is a number, or names a part of a prompt in braces: '{city}'.",
        ),
        (
            lambda lm: ip.scan(lm, template_pairs(lm), lm.residual(positions=["{city}"]), ip.logit_difference),
            errors.WrongPairs,
            "in the source. Take one of them, '{city[-1]}', or choose words of as many tokens.",
        ),
        (
            lambda lm: ip.scan(lm, template_pairs(lm), lm.residual(positions=[5]), ip.logit_difference),
            errors.WrongPairs,
            "so that layer 0 @ 5 is not the same place in both. Name the position, as in '{city}', or count it from",
        ),
        (
            lambda lm: ip.scan(lm, template_pairs(lm), lm.residual(), ip.logit_difference),
            errors.WrongPairs,
            "One map needs one length: name positions, as in positions=['{city}', -1], or make one Pairs a length.",
        ),
        (
            lambda lm: lm.run(
                prompts(), write=dict.fromkeys(lm.residual(layers=[0], positions=["{city[-1]}", "{city[0]}"]), 0.0)
            ),
            errors.OverlappingWrites,
            "layer 0 @ {city[0]}",
        ),
        (lambda lm: ip.Prompt("A {b}"), errors.WrongInput, "'A {b}' has a part {b} that is given no value."),
        (lambda lm: ip.Prompt("A {b}", b=1, c=2), errors.WrongInput, "'A {b}' has no part {c}. There are b."),
        (lambda lm: ip.Prompt("A {b", b=1), errors.WrongInput, "A brace that is meant is written twice."),
        (
            lambda lm: ip.Pairs.from_template(lm, "{A} {B}", base=["x"], source=["y"], answers=answers(1)),
            errors.WrongInput,
            "'{A} {B}' has the parts A, B; give each prompt's values by name, not 'x'.",
        ),
        (
            lambda lm: ip.Pairs.from_prompts(
                lm, base=["Rome Rome"], source=["Rome Oslo"], answers=answers(1), positions={"c": ("Rome", "Oslo")}
            ),
            errors.WrongInput,
            "'Rome' is 2 times in 'Rome Rome'.",
        ),
        (
            lambda lm: ip.Pairs.from_tokens(
                base=[[1, 2]], source=[[1, 2, 3]], answers=[[1, 2]], positions={"c": ([2], [0])}
            ),
            errors.WrongInput,
            "positions['c'], pair 0: 2 is no position of 2 tokens, from 0.",
        ),
        (
            lambda lm: ip.Pairs.from_tokens(base=[[1, 2]], source=[[1, 2, 3]], answers=[[1, 2]]),
            errors.WrongPairs,
            "base is (1, 2) and source (1, 3)",
        ),
        (lambda lm: lm.chat([{"role": "user", "content": "x"}]), errors.WrongInput, "has no chat template"),
    ],
)
def test_mistakes_are_named(lm, act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act(lm)


def test_a_mistake_is_found_before_the_first_forward_pass(lm, monkeypatch):
    ran = []
    monkeypatch.setattr(type(lm.module), "forward", lambda *a, **k: ran.append(1))
    with pytest.raises(errors.WrongPairs):
        ip.scan(lm, template_pairs(lm), lm.residual(positions=["{city}"]), ip.logit_difference)
    assert not ran


def test_the_first_token_of_the_tokenizer_is_not_run_twice():
    lm = model(bos=True)
    assert lm.token_ids("The city")[0] == 0
    with pytest.raises(errors.WrongInput, match=re.escape("'<s>The city' begins with '<s>', which the tokenizer puts")):
        lm.run("<s>The city")
    complete = ip.Prompt("<s>The city", special=False)
    torch.testing.assert_close(lm.run(complete).output, lm.run("The city").output)


def test_words_that_moved_are_warned_of_and_replaced_words_are_not(lm):
    moved = {"base": [" in in the city of Oslo"], "source": [" in the city of Oslo in"]}
    with pytest.warns(errors.ShiftedWords, match="stands at position . of the base and . of the source"):
        ip.Pairs.from_prompts(lm, **moved, answers=answers(1))
    swapped = {"base": [" Rome of Oslo is in"], "source": [" Oslo of Rome is in"]}
    ip.Pairs.from_prompts(lm, **swapped, answers=answers(1))  # a warning would be an error here


def test_answers_of_several_tokens_are_told_apart_by_their_first(lm):
    ask = lambda two, **k: ip.Pairs.from_prompts(lm, base=[" Paris"], source=[" Oslo"], answers=[two], **k)
    with pytest.raises(errors.WrongAnswers, match=re.escape("or take the first of each: first_tokens=True.")):
        ask((" France and Italy", " Norway"))
    found = ask((" France and Italy", " Norway"), first_tokens=True)
    assert found.answers.tolist() == [[lm.token_ids(" France")[0], lm.token_ids(" Norway")[0]]]
    with pytest.raises(
        errors.WrongAnswers, match=re.escape("both answers, ' France' and ' France and Italy', are tok")
    ):
        ask((" France", " France and Italy"), first_tokens=True)


TURNS = "{% for m in messages %}<s>{{ m.role }}: {{ CONTENT }}\n{% endfor %}"
OPENED = "{% if add_generation_prompt %}<s>assistant:{% endif %}"
TEMPLATES = {"plain": "m.content", "stripping": "m.content | trim"}


@pytest.mark.parametrize("form", TEMPLATES)
def test_a_conversation_is_the_prompt_that_its_template_makes(form):
    lm = model(bos=True)
    lm.tokenizer.chat_template = TURNS.replace("CONTENT", TEMPLATES[form]) + OPENED
    messages = [
        {"role": "system", "content": "You know {country}."},
        {"role": "user", "content": "  Where is {city}?"},
    ]
    prompt = lm.chat(messages, city="New York", country="France")
    filled = [{**m, "content": m["content"].format(city="New York", country="France")} for m in messages]
    expected = lm.tokenizer.apply_chat_template(filled, add_generation_prompt=True)
    expected = expected["input_ids"] if not isinstance(expected, list) else expected
    assert lm.token_ids(prompt) == expected
    assert [prompt[slice(*prompt.parts[name])] for name in ("country", "city")] == ["France", "New York"]
    assert lm.show(prompt, ["{city[-1]}"]).count("<") > 0
    alone = lm.run(torch.tensor([expected]), read=["layer 1"])
    named = lm.run(
        [prompt, lm.chat(messages, city="Rome", country="Italy")], read=["layer 1 @ {city[-1]}", "layer 1 @ -1"]
    )
    torch.testing.assert_close(named["layer 1 @ -1"][0], alone["layer 1"][0, -1])
    braces = lm.chat([{"role": "user", "content": "A set {1}"}])
    assert "A set {1}" in braces and not braces.parts
    with pytest.raises(errors.WrongInput, match=re.escape("has no part {town}")):
        lm.chat(messages, city="Rome", country="Italy", town="x")


def test_prompts_of_one_form_and_counted_positions_cost_nothing_more(lm):
    assert forms(lm, [PROMPT.format(city=city) for city in list(COUNTRIES)[:3]], lm.residual(layers=[0])) is None
    found = forms(lm, prompts(), lm.residual(layers=[0], positions=["{city[-1]}"]))
    assert sorted(row for form in found for row in form.rows) == list(range(len(CITIES)))
    assert found[0].rows == [0, 2]


def test_tokens_keep_their_parts():
    assert Tokens([1, 2, 3], {"a": [1]}).parts == {"a": (1,)}


# -- together with what else there is --------------------------------------------------------------


def one_by_one(lm, pairs, sites):
    """[pair, site]: Ybs and Ysb of every pair by itself, its tokens as numbers and its positions counted."""

    def counted_in(prompt, site):
        ((form),) = forms(lm, [prompt], [site]) or (None,)
        return form.sites[site] if form else site

    found = []
    for pair in pairs:
        ids = [[lm.token_ids(prompt)] for prompt in (pair.base[0], pair.source[0])]
        row = []
        for site in sites:
            ours, theirs = (counted_in(prompt, site) for prompt in (pair.base[0], pair.source[0]))
            values = lm.run(ids[0], read=[ours])[ours], lm.run(ids[1], read=[theirs])[theirs]
            runs = lm.run(ids[0], write={ours: values[1]}), lm.run(ids[1], write={theirs: values[0]})
            row.append([float(ip.logit_difference(run.output, pair)) for run in runs])
        found.append(row)
    return np.moveaxis(np.array(found), 2, 0)


@pytest.mark.parametrize("engine", ["default", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_site_is_at_its_name_in_either_prompt(kind, engine):
    options = {"engine": "full"} if engine == "full" else {}
    lm = ip.LanguageModel(tiny.model(kind).double(), tiny.tokenizer(), **options)
    named = {"layers": [1], "positions": ["{city[-1]}"]}
    sites = [*lm.keys(**named)[:1], *lm.values(**named)[:1], *lm.heads(**named)[:1], *lm.neurons(**named)[:1]]
    sites += lm.residual(**named, at="between") if kind != "neox" else ()
    pairs = template_pairs(lm)
    with torch.no_grad():
        found = ip.scan(lm, pairs, sites, metric=ip.logit_difference, batch_size=3)
        np.testing.assert_allclose([found.ybs, found.ysb], one_by_one(lm, pairs, sites), atol=1e-9)


@pytest.mark.parametrize("size", [1, 3])
def test_patterns_and_whole_places_are_exchanged_where_base_and_source_are_as_long(lm, size):
    pairs = template_pairs(lm, source=["Rome", "New Oslo", "Cairo", "the old city of Lima"])[[0, 2, 3]]
    assert [len(words) for words in pairs.tokens] == [len(words) for words in pairs.source_tokens] == [10, 10, 17]
    sites = [
        *lm.patterns(layers=[1], heads=[0], positions=["{city[-1]}"]),
        lm.place("layer 1 head 0"),
        lm.place("layer 1"),
    ]
    with torch.no_grad():
        found = ip.effects(lm, pairs, sites, metric=ip.logit_difference, batch_size=size, pinned=0.5)
        np.testing.assert_allclose(
            [found.ybs, found.ysb], one_by_one(lm, pairs, sites), atol=1e-7
        )  # eager softmax is of single precision
        for i, prompt in enumerate(pairs.base):
            for j, site in enumerate(sites):
                score = ip.logit_difference(lm.run([prompt], write={site: 0.5}).output, pairs[i])
                assert abs(found.pinned.ybm[i, j] - float(score)) < 1e-7


def held(ours, theirs, name="the source", site="layer 1 head 0"):
    return (
        f"Pair 1: {site} holds {ours} in the base and {theirs} in {name}, since it has values for each of their "
        "tokens. Choose words of as many tokens, or a place at one position, such as "
        "lm.residual(positions=['{city[-1]}', -1])."
    )


HEAD, PATTERN = "layer 1 head 0", "layer 1 pattern 0 @ {city[-1]}"
FIRST = "the base of pair 0"
TWO_LENGTHS = [
    (lambda lm, p, m: ip.effects(lm, p, [HEAD], m), held((15, 8), (10, 8))),
    (lambda lm, p, m: ip.effects(lm, p, ["layer 1"], m), held((15, 32), (10, 32), site="layer 1")),
    (lambda lm, p, m: ip.scan(lm, p, [PATTERN], m), held((15,), (10,), site=PATTERN)),
    (lambda lm, p, m: ip.ablate(lm, p, [HEAD], m, by=ip.Mean()), held((15, 8), (10, 8), FIRST)),
    (lambda lm, p, m: ip.ablate(lm, p, [HEAD], m, by=ip.Resample()), held((15, 8), (10, 8), FIRST)),
    (lambda lm, p, m: ip.circuit(lm, p, [HEAD], [HEAD], m), held((15, 8), (10, 8), FIRST)),
    (
        lambda lm, p, m: ip.ablate(lm, p, ["layer 1 @ {city}"], m, by=ip.Mean()),
        "Pair 1: {city} is 6 tokens in the base and 1 in the base of pair 0. Take one of them, '{city[-1]}', or choose "
        "words of as many tokens.",
    ),
    (
        lambda lm, p, m: ip.ablate(lm, p, ["layer 1 @ 3"], m, by=ip.Resample()),
        "Pair 1: the base has 15 tokens and the base of pair 0 10, so that layer 1 @ 3 is not the same place in both. "
        "Name the position, as in '{city}', or count it from the end.",
    ),
]


@pytest.mark.parametrize(("ask", "text"), TWO_LENGTHS)
def test_values_of_every_token_do_not_go_between_prompts_of_two_lengths(lm, ask, text):
    def metric(logits, pairs):
        raise AssertionError("something was measured")

    with pytest.raises(errors.WrongPairs, match=f"^{re.escape(text)}$"):
        ask(lm, template_pairs(lm), metric)


def test_sources_of_other_pairs_and_places_together_are_asked_for_before_anything_is_measured(lm):
    def metric(logits, pairs):
        raise AssertionError("something was measured")

    pairs = template_pairs(lm, source=["Rome", "New Oslo", "Cairo", "the old city of Lima"])[[0, 2, 3]]
    text = held((17, 8), (10, 8), FIRST).replace("Pair 1", "Pair 2")
    for ask, kind, said in [
        ({"chance": 2}, errors.WrongPairs, text),
        ({"chance": -1}, errors.WrongInput, "chance=-1: sources are tried in one random order or more."),
        ({"jointly": True}, errors.WrongInput, "jointly=True measures every two places together; give two places"),
        ({"pinned": {}}, errors.WrongInput, "pinned gives no value for layer 1 head 0."),
    ]:
        for search in (ip.effects, ip.scan):
            with pytest.raises(kind, match=f"^{re.escape(said)}"):
                search(lm, pairs, [HEAD], metric, **ask)


@pytest.mark.parametrize("site", [HEAD, "layer 1", "layer 1 @ {city}", PATTERN])
def test_what_takes_no_value_from_another_prompt_may_span_prompts_of_every_length(lm, site):
    pairs = template_pairs(lm)
    with torch.no_grad():
        found = ip.ablate(lm, pairs, [site], ip.logit_difference, by=ip.Scale(0.5), batch_size=3)
        for i, prompt in enumerate(pairs.base):
            score = ip.logit_difference(lm.run([prompt], write={site: ip.Scale(0.5)}).output, pairs[i])
            assert abs(found.y[i, 0] - float(score)) < 1e-9


def test_the_last_position_is_the_last_of_the_pairs_to_confirm_on_too(lm):
    short = template_pairs(lm, base=["Paris", "Lima"], source=["Rome", "Oslo"])
    long = template_pairs(lm, base=["New York", "New Cairo"], source=["New Rome", "New Delhi"])
    found = ip.scan(lm, short, lm.residual(layers=[2], positions=[-1]), ip.logit_difference, confirm=long)
    assert [str(site) for (site,) in found.places] == ["layer 2 @ -1"]
    alone = ip.scan(lm, short, lm.residual(layers=[2], positions=[-1]), ip.logit_difference)
    assert [str(site) for (site,) in alone.places] == ["layer 2 @ 9"]


def test_padded_inputs_of_two_lengths_have_no_position_in_common(lm):
    ones, some = [[1, 1, 1, 1]], [[0, 1, 1, 1]]
    base = {"input_ids": torch.tensor([[1, 2, 3, 4]]), "attention_mask": torch.tensor(ones)}
    source = {"input_ids": torch.tensor([[7, 2, 3, 5]]), "attention_mask": torch.tensor(some)}
    pairs = ip.Pairs(base, source, answers=torch.tensor([[1, 2]]))
    with pytest.raises(errors.WrongPairs, match=r"^Pair 0: the base has 4 tokens and the source 3, so that"):
        ip.effects(lm, pairs, ["layer 1 @ 2"], ip.logit_difference)
    assert len(ip.effects(lm, pairs, ["layer 1 @ -1"], ip.logit_difference).ybs) == 1


def encoder_decoder(stack=None):
    config = transformers.T5Config(
        vocab_size=700, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = transformers.T5ForConditionalGeneration(config).eval().double()
    return ip.LanguageModel(module, tiny.tokenizer(), stack=stack)


def test_in_an_encoder_decoder_names_are_of_the_encoders_tokens():
    decoding, encoding = encoder_decoder(), encoder_decoder("encoder")
    texts = [ip.Prompt("{city} is the city", city=city) for city in CITIES]
    pairs = ip.Pairs.from_template(
        decoding, "{city} is the city", base=CITIES, source=["Rome", "Oslo", "New York", "Cairo"], answers=answers(4)
    )
    for site in ("layer 0 @ {city[0]}", "layer 1 cross query 0 @ {city[0]}", "layer 1 cross pattern 0 @ {city[0]}"):
        text = (
            f"At {site} pass tokens of the decoder, and {{city[0]}} names tokens of the prompt, which the encoder "
            "takes. Count the position, as in -1, or take a place of the encoder: LanguageModel(..., stack='encoder'), "
            "or lm.keys(of='cross')."
        )
        with pytest.raises(errors.UnknownPlace, match=f"^{re.escape(text)}$"):
            decoding.run(texts, read=[site])
    with torch.no_grad():
        for lm, site in [
            (encoding, "layer 1 @ {city[-1]}"),
            (decoding, "layer 1 cross key 0 @ {city[-1]}"),
            (decoding, "layer 1 @ -1"),
            (decoding, "layer 1 @ 0"),  # the decoder starts with one token, however long the prompts are
            (decoding, "layer 1 cross head 0"),
        ]:
            sites = [lm.place(site)]
            found = ip.scan(lm, pairs, sites, metric=ip.logit_difference)
            np.testing.assert_allclose([found.ybs, found.ysb], one_by_one(lm, pairs, sites), atol=1e-9)
            assert np.ptp(found.nie) > 1e-6


def test_an_empty_part_has_no_token(lm):
    text = "A part of 'The city is', at character 4, is empty: no token is its own."
    with pytest.raises(errors.WrongInput, match=f"^{re.escape(text)}$"):
        lm.run(ip.Prompt("The {word}city is", word=""), read=["layer 1 @ {word}"])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_a_prompt_has_its_parts(again):
    prompt = ip.Prompt("{{x}} is {city}", special=False, city="New York")
    found = again([prompt])[0]
    assert (found, found.parts, found.special) == (prompt, {"city": (7, 15)}, False)
    tokens = again([Tokens([4, 5], {"s": [1]})])[0]
    assert (tokens, tokens.parts) == ([4, 5], {"s": (1,)})
