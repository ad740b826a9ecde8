"""Metrics give one number a pair, and say what they need."""

import re

import numpy as np
import pytest
import torch

import interpose as ip
from interpose import errors
from interpose.metrics import name_of, score
from interpose.tasks import adder

from known import Outcome

three = ip.Pairs([1, 2, 3], [4, 5, 6], targets=[1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("output", "targets", "expected"),
    [
        (torch.tensor([1.0, 2.0005, 3.5]), [1, 2, 3], [1, 1, 0]),
        (torch.tensor([[1.0], [2.0], [4.0]]), np.array([1, 2, 3]), [1, 1, 0]),
        (np.array([1, 2, 4]), np.array([1, 2, 3]), [1, 1, 0]),
        (["a", "b", "c"], ["a", "x", "c"], [1, 0, 1]),
        ([(1, 2), (1,), None], [(1, 2), (2,), None], [1, 0, 1]),
        ([1, 2.0004, 3], [1, 2, 4], [1, 1, 0]),
        (torch.tensor([[0.1, 2.0], [3.0, 3.0], [0.0, 1.0]]), torch.tensor([1, 0, 0]), [1, 1, 0]),
        (torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([[1.0, 2], [3, 9], [5, 6]]), [1, 0, 1]),
    ],
)
def test_matches_compares_numbers_classes_vectors_and_anything_else(output, targets, expected):
    pairs = ip.Pairs([1, 2, 3], [4, 5, 6], targets=targets)
    assert ip.matches(output, pairs).tolist() == expected


def test_matches_takes_a_tolerance():
    assert ip.Matches(tol=0.5)(torch.tensor([1.4, 2.6, 3.0]), three).tolist() == [1, 0, 1]


@pytest.mark.parametrize("tol", [-1e-3, float("nan")])
def test_a_tolerance_within_which_nothing_lies_is_refused(tol):
    with pytest.raises(errors.WrongMetric, match=f"tol={tol}: nothing lies within such a tolerance"):
        ip.Matches(tol=tol)
    with pytest.raises(errors.WrongAlignment, match=f"tol={tol}: nothing lies within such a tolerance"):
        ip.interchange_accuracy(adder.network(), adder.alignment(), n=5, tol=tol)
    assert ip.Matches(tol=0)(torch.tensor([1.0, 2.5, 3.0]), three).tolist() == [1, 0, 1]


def test_logit_difference_is_source_answer_minus_base_answer():
    pairs = ip.Pairs.from_tokens(base=[[0], [0]], source=[[1], [1]], answers=[[0, 2], [1, 0]])
    logits = torch.tensor([[1.0, 2.0, 5.0], [1.0, 3.0, 0.0]])
    assert ip.logit_difference(logits, pairs).tolist() == [4.0, -2.0]
    assert ip.logit_difference(logits, pairs.swapped()).tolist() == [-4.0, 2.0]


@pytest.mark.parametrize("metric", [ip.value, ip.matches, ip.logit_difference])
def test_the_metric_of_a_slice_is_the_slice_of_the_metric(metric):
    pairs = ip.Pairs.from_tokens(base=torch.zeros(6, 1), source=torch.ones(6, 1), answers=[[0, 1]] * 6)
    pairs = ip.Pairs(pairs.base, pairs.source, answers=pairs.answers, targets=torch.arange(6.0))
    output = torch.arange(6.0) if metric is not ip.logit_difference else torch.arange(18.0).reshape(6, 3) ** 2
    whole = metric(output, pairs)
    parts = [metric(output[i : i + 2], pairs[i : i + 2]) for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts)) and whole.shape == (6,)


def test_metrics_have_names():
    def mine(output, pairs):
        return output

    assert [name_of(m) for m in (ip.value, ip.matches, ip.logit_difference, mine)] == [
        "value",
        "matches",
        "logit_difference",
        "mine",
    ]


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda: ip.value(torch.zeros(3, 2), three), errors.WrongShape, "`value` needs one number a pair"),
        (lambda: ip.value({"a": 1}, three), errors.WrongShape, "The output is dict, not a tensor of numbers."),
        (
            lambda: ip.matches(torch.zeros(3), ip.Pairs([1], [2])),
            errors.WrongPairs,
            "needs targets, and these pairs carry none",
        ),
        (lambda: ip.matches(torch.zeros(2), three), errors.WrongShape, "The output of 3 pairs has shape (2,)"),
        (
            lambda: ip.matches(["a"], three),
            errors.WrongShape,
            "The output is str values and the targets are numbers: no output could match.",
        ),
        (lambda: ip.logit_difference(torch.zeros(3, 4), three), errors.WrongPairs, "needs answers"),
        (
            lambda: ip.logit_difference(
                torch.zeros(1, 2, 3), ip.Pairs.from_tokens(base=[[1, 2]], source=[[3, 4]], answers=[[0, 1]])
            ),
            errors.WrongShape,
            "needs logits [pair, vocabulary] of 1 pairs, but the output is (1, 2, 3)",
        ),
        (lambda: score(lambda o, p: o.mean(), torch.zeros(3), three), errors.WrongMetric, "gave shape () for 3 pairs"),
        (
            lambda: score(ip.value, torch.tensor([1.0, float("nan"), 0.0]), three),
            errors.WrongMetric,
            "The metric 'value' gave nan for pair 1 of the batch.",
        ),
    ],
)
def test_mistakes_are_named(act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act()


def test_an_output_that_is_no_number_is_never_a_miss():
    with pytest.raises(errors.WrongMetric, match="The metric 'matches' gave nan for pair 1 of the batch"):
        score(ip.matches, torch.tensor([1.0, float("nan"), 0.0]), three)
    scores = torch.tensor([[0.1, 0.9], [float("nan"), 0.0], [1.0, 0.0]])
    classes = ip.Pairs(three.base, three.source, targets=[1, 0, 0])
    with pytest.raises(errors.WrongMetric, match="gave nan for pair 1"):
        score(ip.matches, scores, classes)


def test_several_outputs_need_a_metric_that_picks_one():
    output = {"up": torch.tensor([1.0, 2.0, 3.0]), "down": torch.zeros(3)}
    with pytest.raises(errors.WrongShape, match=re.escape("The output is a dict of up, down. Write a metric")):
        ip.matches(output, three)
    picked = lambda output, pairs: ip.matches(output["up"], pairs)
    assert score(picked, output, ip.Pairs(three.base, three.source, targets=[1.0, 2.0, 0.0])).tolist() == [1, 1, 0]


def test_an_output_that_is_one_object_needs_a_metric_that_picks_a_part_of_it():
    output = Outcome(torch.zeros(3, 2), torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(
        errors.WrongShape,
        match=re.escape(
            "The output is one Outcome, not a list of what each pair gives. Write a metric that picks a part of it: "
            "metric=lambda output, pairs: ip.matches(output.field, pairs)."
        ),
    ):
        ip.matches(output, three)
    with pytest.raises(errors.WrongShape, match="The output is one float, not a list"):
        ip.matches(1.0, three)
    picked = lambda output, pairs: ip.matches(output.score, pairs)
    assert score(picked, output, three).tolist() == [1, 1, 1]


def test_an_answer_beyond_the_vocabulary_is_refused():
    pairs = ip.Pairs.from_tokens(base=[[0]], source=[[1]], answers=[[0, 9]])
    with pytest.raises(errors.WrongShape, match="Answer 9 is no token of a vocabulary of 5"):
        ip.logit_difference(torch.zeros(1, 5), pairs)
