"""Where a word stands in prompts, which pairs a model answers right, and what other libraries make of a model."""

import pytest
import torch
import transformers

import interpose as ip
import tiny
from interpose import errors
from interpose.tasks.capitals import PROMPT

CITIES = ["Paris", "Rome", "Oslo", "Cairo"]


@pytest.fixture(scope="module")
def lm():
    return ip.LanguageModel(tiny.model(), tiny.tokenizer())


@pytest.fixture(scope="module")
def with_start():
    return ip.LanguageModel(tiny.model(), tiny.tokenizer(bos=True))


# -- positions by text -------------------------------------------------------------------------------------


def test_a_word_is_found_where_its_tokens_are_and_shown(lm, with_start):
    prompt = PROMPT.format(city="Paris")
    (at,) = lm.positions(prompt, "Paris")
    assert lm.tokens(prompt)[at] == " Paris" and "< Paris>" in lm.show(prompt, [at])
    assert with_start.positions(prompt, "Paris") == [at + 1], "special tokens are counted"
    assert with_start.tokens(prompt)[at + 1] == " Paris"
    assert lm.show(prompt, [-1]) == prompt[: prompt.rindex(" ")] + "< of>"


def test_every_token_that_overlaps_is_given(lm):
    prompt = PROMPT.format(city="Paris")
    whole = lm.positions(prompt, "ty of Par")
    tokens = lm.tokens(prompt)
    assert [tokens[t] for t in whole] == [" city", " of", " Paris"]
    spelled = "The city of Lisome is located"
    found = lm.positions(spelled, "Lisome")
    assert len(found) > 1 and "Lisome" in "".join(lm.tokens(spelled)[t] for t in found)


def test_one_word_a_prompt_at_one_place_in_all(lm):
    prompts = [PROMPT.format(city=city) for city in CITIES]
    (at,) = lm.positions(prompts, CITIES)
    assert lm.residual(layers=[0], positions=[at])[0].position == at
    with pytest.raises(errors.WrongInput, match=r"stands at \[3\].*'Oslo' at"):
        lm.positions([prompts[0], "In Oslo is located"], ["Paris", "Oslo"])


@pytest.mark.parametrize(
    ("prompt", "part", "more", "said"),
    [
        ("The city of Paris", "Rome", {}, "'Rome' is not in"),
        ("The city of Paris", "", {}, "at least"),
        ("of the city of Paris", "of", {}, "is 2 times in .* occurrence=0 to 1"),
        ("of the city of Paris", "of", {"occurrence": 2}, "no occurrence 2"),
        (["The city", "of Paris"], ["city"], {}, "2 prompts and 1 parts"),
        ([], [], {}, "0 prompts"),
    ],
)
def test_a_part_that_is_not_there_once_is_refused(lm, prompt, part, more, said):
    with pytest.raises(errors.WrongInput, match=said):
        lm.positions(prompt, part, **more)


def test_one_of_several_is_chosen_by_its_number(lm):
    prompt = "of the city of Paris"
    first, second, last = (lm.positions(prompt, "of", occurrence=n) for n in (0, 1, -1))
    assert first < second == last and [lm.tokens(prompt)[t].strip() for t in (*first, *second)] == ["of", "of"]


def test_a_tokenizer_without_offsets_gives_the_same(lm, monkeypatch):
    prompt = PROMPT.format(city="Paris")
    fast = [lm.positions(prompt, part) for part in ("Paris", "ty of P", "The", "of", "country of") if part != "of"]
    monkeypatch.setattr(type(lm.tokenizer), "is_fast", False)
    assert fast == [lm.positions(prompt, part) for part in ("Paris", "ty of P", "The", "country of")]


def test_a_position_that_is_not_there_is_not_shown(lm):
    with pytest.raises(errors.WrongInput, match="no position 40"):
        lm.show("The city", [40])


def test_without_a_tokenizer_there_are_no_texts():
    with pytest.raises(errors.WrongInput, match="no tokenizer"):
        ip.LanguageModel(tiny.model()).positions("The city", "city")


# -- where the model is right ------------------------------------------------------------------------------


def pairs_of(lm, answers):
    prompts = [PROMPT.format(city=city) for city in CITIES]
    ids = torch.tensor([lm.token_ids(prompt) for prompt in prompts])
    return ip.Pairs.from_tokens(base=ids, source=ids.roll(1, 0), answers=answers)


def test_pairs_are_kept_where_base_and_source_are_right_and_all_stand_beside(lm):
    logits = lm.run([PROMPT.format(city=city) for city in CITIES]).output
    best, worst = logits.argmax(1), logits.argmin(1)
    answers = torch.stack([best, best.roll(1)], 1)
    answers[2, 0] = worst[2]  # the base of pair 2 is answered wrong; and all answers differ in a pair
    answers[:, 1] = torch.where(answers[:, 0] == answers[:, 1], worst, answers[:, 1])
    pairs = pairs_of(lm, answers)
    found = pairs.where_correct(lm)
    base = [int(logits[i].argmax()) == int(answers[i, 0]) for i in range(4)]
    source = [int(logits[i - 1].argmax()) == int(answers[i, 1]) for i in range(4)]
    expected = [a and b for a, b in zip(base, source, strict=True)]
    assert found["all"] is pairs and len(found["where right"]) == sum(expected)
    assert list(found.why.values()) == [base.count(False), source.count(False)]
    assert str(found).startswith(f"Kept {sum(expected)} of 4 pairs")
    assert "the base's answer is not the first of all tokens: " in str(found)


def test_what_is_preferred_need_not_be_first(lm):
    logits = lm.run([PROMPT.format(city=city) for city in CITIES]).output
    order = logits.argsort(1, descending=True)
    answers = torch.stack([order[:, 1], order[:, -1]], 1)
    pairs = pairs_of(lm, answers)
    assert len(pairs.where_correct(lm).kept) == 0
    preferred = pairs.where_correct(lm, by="preferred")
    right = [bool(logits[i - 1, answers[i, 1]] > logits[i - 1, answers[i, 0]]) for i in range(4)]
    assert len(preferred.kept) == sum(right) and "is not preferred to the other" in str(preferred)


def test_a_scan_takes_both_and_shows_both(lm):
    logits = lm.run([PROMPT.format(city=city) for city in CITIES]).output
    answers = torch.stack([logits.argmax(1), logits.argmin(1)], 1)
    found = pairs_of(lm, answers).where_correct(lm, by="preferred")
    if not len(found.kept):
        found = type(found)(found.unfiltered[:2], found.unfiltered, found.why)
    scans = ip.scan(lm, found, lm.residual(layers=[1], positions=[3, -1]), metric=ip.logit_difference)
    assert list(scans) == ["where right", "all"] and len(scans["all"].pairs) == 4


def test_of_no_pairs_none_is_kept(lm):
    found = pairs_of(lm, torch.tensor([[1, 2]] * 4))[:0].where_correct(lm)
    assert str(found) == "Kept 0 of 0 pairs."


def test_pairs_without_answers_and_unknown_ways_are_refused(lm):
    with pytest.raises(errors.WrongPairs, match="no answers"):
        ip.Pairs(["The city"], ["The country"]).where_correct(lm)
    with pytest.raises(errors.WrongInput, match="by='best'"):
        pairs_of(lm, torch.tensor([[1, 2]] * 4)).where_correct(lm, by="best")


# -- what others make of a model ---------------------------------------------------------------------------


def test_a_pipeline_is_taken_apart():
    module, tokenizer = tiny.model(), tiny.tokenizer()
    pipe = transformers.pipeline("text-generation", model=module, tokenizer=tokenizer)
    lm = ip.LanguageModel(pipe)
    assert lm.module is module and lm.tokenizer is tokenizer


@pytest.mark.filterwarnings("ignore")
def test_nnsight_models_are_taken_apart():
    nnsight = pytest.importorskip("nnsight")
    module, tokenizer = tiny.model(), tiny.tokenizer()
    assert ip.LanguageModel(nnsight.LanguageModel(module, tokenizer=tokenizer)).tokenizer is tokenizer
    net = ip.Network(nnsight.NNsight(module))
    assert net.module is module


def test_a_thing_without_a_module_is_refused():
    with pytest.raises(errors.WrongInput, match=r"wraps a torch.nn.Module, not str"):
        ip.LanguageModel("gpt2")
