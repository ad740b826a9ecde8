"""Pairs: what varies, where they come from, and how they are cut."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import interpose as ip
from interpose import errors
from interpose.inputs import key
from interpose.tasks import adder


@pytest.fixture
def model():
    return adder.hypothesis()


def test_varying_pairs_differ_in_the_named_inputs_alone(model):
    for names in (("A",), ("B", "C")):
        pairs = ip.Pairs.varying(model, *names, n=40, seed=1)
        assert pairs.varies == names and len(pairs) == 40
        for base, source in zip(pairs.base, pairs.source, strict=True):
            assert list(base) == list(source) == ["A", "B", "C"]
            assert {name for name in base if base[name] != source[name]} == set(names)


def test_the_target_is_what_the_model_gives_for_the_source(model):
    pairs = ip.Pairs.varying(model, "B", n=10)
    assert list(pairs.targets) == [sum(source.values()) for source in pairs.source]
    back = pairs.swapped()
    assert list(back.targets) == [sum(base.values()) for base in pairs.base]
    assert (back.base, back.source) == (pairs.source, pairs.base)
    assert list(back.swapped().targets) == list(pairs.targets)


def test_enumeration_gives_every_pair_once():
    small = ip.CausalModel(A=ip.Variable(range(3)), B=ip.Variable("xy"), Y=ip.Variable(lambda A, B: (A, B)))
    pairs = ip.Pairs.varying(small, "A")
    assert pairs.exhaustive and len(pairs) == 3 * 2 * 2
    assert len({(key(base), key(source)) for base, source in zip(pairs.base, pairs.source, strict=True)}) == 12
    assert not pairs[:3].exhaustive and pairs[:].exhaustive


def test_a_generator_goes_on_drawing(model):
    one, both = random.Random(5), random.Random(5)
    first, second = (ip.Pairs.varying(model, name, n=3, seed=one) for name in "AB")
    again = [ip.Pairs.varying(model, name, n=3, seed=both) for name in "AB"]
    assert first.base == again[0].base and second.base == again[1].base
    assert ip.Pairs.varying(model, "B", n=3, seed=5).base != second.base


@pytest.mark.parametrize(
    ("base", "source"),
    [
        ([[1, 2], [3, 4]], [[5, 6], [7, 8]]),
        ([(1, 2), (3, 4)], [(5, 6), (7, 8)]),
        (["a", "b"], ["c", "d"]),
        ([{"x": (1, 2)}, {"x": None}], [{"x": (3,)}, {"x": 4}]),
        ({"x": [1, 2], "y": ["a", "b"]}, {"x": [3, 4], "y": ["c", "d"]}),
        (([1, 2], [3, 4]), ([5, 6], [7, 8])),
    ],
)
def test_pairs_come_back_as_they_were_given(base, source):
    pairs = ip.Pairs(base, source)
    assert pairs.base is base and pairs.source is source and len(pairs) == 2
    assert pairs[:].base == base and type(pairs[:].base) is type(base)
    assert pairs[[1]].source == ip.Pairs(source, source)[1:].base
    if isinstance(base, dict):
        assert list(pairs[:1].base) == list(base)


def test_tensors_and_arrays_are_cut_along_their_first_axis():
    x = torch.arange(12).reshape(4, 3)
    pairs = ip.Pairs({"ids": x, "mask": np.ones((4, 3))}, {"ids": x + 1, "mask": np.ones((4, 3))})
    part = pairs[[3, 1]]
    assert torch.equal(part.base["ids"], x[[3, 1]]) and part.base["mask"].shape == (2, 3)
    assert [len(batch) for batch in pairs.batches(3)] == [3, 1]


def test_a_split_shares_no_input(model):
    pairs = ip.Pairs.varying(model, "A", n=300, seed=2)
    first, second = pairs.split(seed=1)
    inputs = [{key(x) for x in (*part.base, *part.source)} for part in (first, second)]
    assert not inputs[0] & inputs[1] and len(first) + len(second) == 300
    assert abs(len(first) - len(second)) < 60
    assert first.base == pairs.split(seed=1)[0].base != pairs.split(seed=2)[0].base
    with pytest.raises(errors.Unsatisfiable, match="share their inputs and cannot be split"):
        ip.Pairs([1, 1], [2, 3]).split()


def test_where_all_pairs_hang_together_inputs_are_parted_and_what_lies_between_is_counted():
    ring = ip.Pairs([[i] for i in range(19)], [[(i + 1) % 19] for i in range(19)])
    parts = ring.split()
    assert [len(part) for part in parts] == [9, 8] and parts.dropped == 2
    for one, other in itertools.combinations(parts, 2):
        assert not {x[0] for x in (*one.base, *one.source)} & {x[0] for x in (*other.base, *other.source)}
    three = ring.split(parts=3, seed=4)
    assert len(three) == 3 and sum(map(len, three)) + three.dropped == 19
    with pytest.raises(errors.WrongInput, match="parts=1"):
        ring.split(parts=1)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=60), st.integers(2, 3))
def test_parts_never_share_an_input(ends, parts):
    pairs = ip.Pairs([[a] for a, _ in ends], [[b] for _, b in ends])
    try:
        found = pairs.split(parts=parts)
    except errors.Unsatisfiable:
        return
    inputs = [{x[0] for x in (*part.base, *part.source)} for part in found]
    assert all(not a & b for a, b in itertools.combinations(inputs, 2))
    assert sum(map(len, found)) + found.dropped == len(pairs) and all(map(len, found))


def test_clusters_go_by_family_by_base_and_by_what_sources_have_in_common():
    assert ip.Pairs([[1], [2], [3]], [[4], [5], [6]], families=("a", "b", "a")).clusters().tolist() == [0, 1, 0]
    assert ip.Pairs([[1], [2], [3]], [[9], [9], [8]]).clusters().tolist() == [0, 0, 1]
    ring = ip.Pairs([[i] for i in range(5)], [[(i + 1) % 5] for i in range(5)])
    assert ring.clusters().tolist() == [0, 1, 2, 3, 4]
    every = ip.Pairs([[i] for i in range(3) for _ in range(2)], [[j] for i in range(3) for j in range(3) if j != i])
    assert set(every.clusters()) == {0}
    assert ring[[1, 3]].families is None and ip.Pairs([[1]], [[2]], families=["x"]).swapped().families == ["x"]


def test_pairs_that_share_a_base_are_one_cluster_unless_drawn_independently(model):
    assert ip.Pairs([[1], [2], [1]], [[3], [4], [5]]).clusters().tolist() == [0, 1, 0]
    assert len(set(ip.Pairs.varying(model, "A", n=50).clusters())) == 50
    assert ip.Pairs(torch.tensor([[1.0], [1.0]]), torch.zeros(2, 1)).clusters().tolist() == [0, 0]


def test_keys_tell_inputs_apart():
    different = [(1, 11), (11, 1), "111", ((1,), 11), {"a": 1}, {"a": "1"}, 1.5, None, (1, None)]
    assert len({key(x) for x in different}) == len(different)
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1}) and key([1, 2]) == key(torch.tensor([1, 2]))


def test_the_audit_says_what_pairs_cannot_show():
    rows = [{"A": 1, "B": 1, "C": 5}, {"A": 2, "B": 2, "C": 5}]
    assert ip.Pairs(rows, rows).audit() == ("C never varies.", "A and B always agree.")
    assert ip.Pairs([[1], [1]], [[1], [1]]).audit() == ()


def test_a_single_pair_prints_what_it_is(model):
    assert repr(ip.Pairs.varying(model, "A", n=50, seed=42)) == (
        "<50 pairs in which A varies: {'A': 1, 'B': 0, 'C': 4} -> {'A': 4, 'B': 0, 'C': 4}, ...>"
    )


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (lambda m: ip.Pairs([1, 2], [1]), errors.WrongPairs, "There are 2 base inputs but 1 of source."),
        (lambda m: ip.Pairs([1, 2], [1, 2], targets=[1]), errors.WrongPairs, "2 base inputs but 1 of targets."),
        (
            lambda m: ip.Pairs([{"A": 1, "B": 2}], [{"A": 2, "B": 3}], varies="A"),
            errors.WrongPairs,
            "Pair 0 should differ in A alone, but differs in A, B: {'A': 1, 'B': 2} -> {'A': 2, 'B': 3}.",
        ),
        (
            lambda m: ip.Pairs([{"A": 1, "B": 2}], [{"A": 1, "B": 2}], varies="A"),
            errors.WrongPairs,
            "but differs in nothing",
        ),
        (lambda m: ip.Pairs([[1, 2]], [[3, 2]], varies="A"), errors.WrongPairs, "have no named variables"),
        (lambda m: ip.Pairs("text", "text"), errors.WrongInput, "str is no list of examples"),
        (lambda m: ip.Pairs(torch.tensor(1.0), torch.tensor(1.0)), errors.WrongInput, "no list of examples"),
        (lambda m: ip.Pairs({"x": [1], "y": [1, 2]}, {}), errors.WrongPairs, "hold [1, 2] examples"),
        (lambda m: ip.Pairs.varying(m, "D", n=3), errors.UnknownPlace, "no variable 'D'"),
        (lambda m: ip.Pairs.varying(m, "B+C", n=3), errors.UnknownPlace, "B+C is computed, not an input."),
        (lambda m: ip.Pairs.varying(m, n=3), errors.WrongInput, "which one should vary"),
        (
            lambda m: ip.Pairs.varying(m, "A", "B", "A"),
            errors.WrongInput,
            "A is named twice. Name each variable that should vary once.",
        ),
        (
            lambda m: ip.Pairs.varying(m, "A", n=-1),
            errors.WrongInput,
            "n=-1: there is no sample of so many. n=None enumerates all pairs.",
        ),
        (
            lambda m: ip.Pairs.varying(adder.network(), "A", n=3),
            errors.WrongInput,
            "Pairs are drawn from the domains of a causal model, and Network has none. Give a CausalModel, or "
            "Pairs(base, source).",
        ),
        (
            lambda m: ip.Pairs.varying(ip.CausalModel(A=ip.Variable([1]), Y=ip.Variable(lambda A: A)), "A"),
            errors.Unsatisfiable,
            "A cannot vary: its domain is [1].",
        ),
        (
            lambda m: ip.Pairs.varying(
                ip.CausalModel(A=ip.Variable(range(2000)), B=ip.Variable(range(2000)), Y=ip.Variable(lambda A, B: A)),
                "A",
            ),
            errors.Unsatisfiable,
            "too many to enumerate",
        ),
        (
            lambda m: ip.Pairs.from_tokens(base=[[1, 2]], source=[[1]], answers=[[1, 2]]),
            errors.WrongPairs,
            "of one shape",
        ),
        (
            lambda m: ip.Pairs.from_tokens(base=[[1]], source=[[2]], answers=[[1]]),
            errors.WrongAnswers,
            "should be (1, 2)",
        ),
        (
            lambda m: ip.Pairs.from_tokens(base=[[1]], source=[[2]], answers=[[7, 7]]),
            errors.WrongAnswers,
            "both answers, 7 and 7, are token 7",
        ),
    ],
)
def test_mistakes_are_named(model, build, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        build(model)


def test_pairs_are_picked_by_number_slice_list_or_mask_and_counted_off():
    pairs = ip.Pairs([[1], [2], [3]], [[4], [5], [6]])
    for rows, expected in (
        (1, [[2]]),
        (-1, [[3]]),
        (slice(1, None), [[2], [3]]),
        ([2, 0], [[3], [1]]),
        ([True, False, True], [[1], [3]]),
        (np.array([False, True, False]), [[2]]),
        (torch.tensor([0, 1]), [[1], [2]]),
        ([], []),
    ):
        assert pairs[rows].base == expected
    assert [one.source for one in pairs] == [[[4]], [[5]], [[6]]]
    for rows, text in (
        (3, "range object index"),
        ([True, False], "does not fit 3 pairs"),
        ([0.5], "or a mask, not by"),
    ):
        with pytest.raises(IndexError, match=text):
            pairs[rows]


def test_what_is_no_list_of_examples_is_refused():
    for base in (3, None, "text", torch.tensor(1.0), {"x": [1, 2], "y": [1]}):
        with pytest.raises((errors.WrongInput, errors.WrongPairs)):
            ip.Pairs(base, base)


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        (torch.zeros(3, 2), "[0.0, 0.0]"),
        (torch.zeros(3, 40), "tensor (40,)"),
        (np.zeros((3, 40)), "tensor (40,)"),
        (torch.zeros(3), "0.0"),
        ([torch.zeros(2)] * 3, "[0.0, 0.0]"),
        ({"x": torch.zeros(3, 5)}, "{x: (5,)}"),
        ((torch.zeros(3, 5), torch.ones(3)), "(tensor("),
        (["a", "b", "c"], "a -> a"),
    ],
)
def test_pairs_of_every_form_print_themselves(base, shown):
    assert repr(ip.Pairs(base, base)).startswith("<3 pairs: ") and shown in repr(ip.Pairs(base, base))


@pytest.mark.parametrize("answers", [[[0.5, 1.0]], [[-1, 2]]])
def test_answers_are_token_ids(answers):
    with pytest.raises(errors.WrongAnswers, match="Answers are token ids, whole numbers from 0"):
        ip.Pairs.from_tokens(base=[[1, 2]], source=[[1, 3]], answers=answers)
