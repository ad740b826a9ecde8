"""Alignments and interchange accuracy."""

import re

import pytest
import torch

import interpose as ip
from interpose import errors
from interpose.tasks import adder


@pytest.fixture(scope="module")
def net():
    return adder.network()


def test_the_true_alignment_is_right_every_time(net):
    accuracy = ip.interchange_accuracy(net, adder.alignment(), n=200, seed=1)
    assert accuracy.score == accuracy.ceiling == accuracy.accuracy == 1.0
    assert accuracy.interval[0] == pytest.approx(0.981, abs=1e-3) and accuracy.interval[1] == 1.0
    assert accuracy.floor < 0.2 and accuracy.failures() == []
    assert [row.label for row in accuracy.rows] == [
        "A at h12",
        "B+C at h13",
        "A+B+C at h22",
        "A at h12, B+C at h13",
        "A at h12, A+B+C at h22",
        "B+C at h13, A+B+C at h22",
        "A at h12, B+C at h13, A+B+C at h22",
    ]
    assert all(row.informative.sum() > 150 for row in accuracy.rows)


def test_a_false_alignment_fails_and_its_failures_can_be_run_again(net):
    wrong = ip.Alignment(adder.hypothesis(), {"A": "h13"})
    accuracy = ip.interchange_accuracy(net, wrong, n=100)
    assert accuracy.score < 0.3
    failure = accuracy.failures()[0]
    again = ip.interchange(net, failure["base"], failure["sources"]).output.item()
    assert again == pytest.approx(failure["observed"], abs=1e-5) and abs(again - failure["expected"]) > 0.5


def test_a_finer_variable_scores_too_so_the_score_alone_is_no_proof(net):
    """Accuracy cannot choose between B+C and the pair (B, C): a limit that the documentation names."""
    assert ip.interchange_accuracy(net, ip.Alignment(of_the_pair(), {"both": "h13"}), n=100).score == 1.0


def test_several_places_may_hold_one_variable(net):
    claim = ip.Alignment(adder.hypothesis(), {"A+B+C": ["h21", "h22"]})
    assert ip.interchange_accuracy(net, claim, n=50).score == 1.0


def test_a_causal_model_can_be_the_network(net):
    claim = ip.Alignment(adder.hypothesis(), {"A": "h12", "B+C": "h13"})
    assert ip.interchange_accuracy(net.as_causal_model(), claim, n=50).score == 1.0


def test_the_table_says_what_an_accuracy_is_worth(net):
    text = str(ip.interchange_accuracy(net, adder.alignment(), n=100).table())
    assert "informative pairs" in text and "network and causal model agree on 1.00 of the base inputs." in text


@pytest.mark.parametrize(
    ("places", "kind", "text"),
    [
        ({"D": "h12"}, errors.UnknownPlace, "The hypothesis has no variable 'D'."),
        ({"A": "h99"}, errors.UnknownPlace, "Adder has no module 'h99'."),
        ({"A": []}, errors.WrongAlignment, "A has no place."),
        ({}, errors.WrongAlignment, "The alignment claims nothing."),
        ({"A": "h12", "B+C": "h12"}, errors.WrongAlignment, "A at h12 and B+C at h12 share units."),
        ({"A": "h12", "B+C": "l1"}, errors.WrongAlignment, "share units"),
        (
            {"B+C": "h22", "A+B+C": "h12"},
            errors.WrongAlignment,
            "A+B+C is computed from B+C, but its place h12 comes before h22, the place of B+C.",
        ),
    ],
)
def test_claims_that_could_not_be_tested_are_refused(net, places, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        ip.interchange_accuracy(net, ip.Alignment(adder.hypothesis(), places))


def test_a_tolerance_that_cannot_tell_outputs_apart_is_refused(net):
    with pytest.raises(errors.WrongAlignment, match=re.escape("Pass a tol below 0.5")):
        ip.interchange_accuracy(net, adder.alignment(), n=50, tol=0.5)


def test_a_claim_prints_itself():
    assert repr(adder.alignment()) == "Alignment(A at h12, B+C at h13, A+B+C at h22)"


def test_several_outputs_are_compared_by_name():
    low = ip.CausalModel(
        A=ip.Variable(range(5)),
        h=ip.Variable(lambda A: 2 * A),
        up=ip.Variable(lambda h: h + 1),
        down=ip.Variable(lambda h: -h),
    )
    high = ip.CausalModel(
        A=ip.Variable(range(5)),
        V=ip.Variable(lambda A: A),
        down=ip.Variable(lambda V: -2 * V),
        up=ip.Variable(lambda V: 2 * V + 1),
    )
    right = ip.interchange_accuracy(low, ip.Alignment(high, {"V": "h"}), n=50)
    assert right.score == right.ceiling == 1.0 and right.floor < 0.5
    wrong = ip.CausalModel(
        A=ip.Variable(range(5)),
        V=ip.Variable(lambda A: A),
        down=ip.Variable(lambda V: -2 * V),
        up=ip.Variable(lambda V: 2 * V),
    )
    assert ip.interchange_accuracy(low, ip.Alignment(wrong, {"V": "h"}), n=50).score == 0.0
    fewer = ip.CausalModel(A=ip.Variable(range(5)), V=ip.Variable(lambda A: A), up=ip.Variable(lambda V: 2 * V + 1))
    with pytest.raises(errors.WrongShape, match="The output is a dict of up, down"):
        ip.interchange_accuracy(low, ip.Alignment(fewer, {"V": "h"}), n=50)


def test_a_network_that_is_random_or_in_training_is_refused():
    net = ip.Network(
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)), inputs="ABC"
    )
    with pytest.raises(errors.NotRepeatable, match="'1' is a Dropout in training mode"):
        ip.interchange_accuracy(net, ip.Alignment(adder.hypothesis(), {"A": "0[1]"}))


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda net: ip.interchange_accuracy(net, adder.alignment(), n=0), "n=0: a share of no pairs is not defined."),
        (lambda net: ip.interchange_accuracy(net, {"A": "h12"}), "is no alignment. Say what is held where"),
        (lambda net: ip.Alignment(net, {"A": "h12"}), "An alignment is a causal model and a dict of places"),
        (lambda net: ip.Alignment(adder.hypothesis(), ["h12"]), "not Alignment(CausalModel, list)."),
    ],
)
def test_what_is_no_claim_is_refused(net, act, text):
    with pytest.raises(errors.WrongAlignment, match=re.escape(text)):
        act(net)


def test_the_floor_is_the_score_without_interchange_and_the_ceiling_that_of_the_whole_source(net):
    """A hypothesis that is wrong on its own inputs, by one: no interchange can do better than it does."""
    off = ip.CausalModel(
        **{name: ip.Variable(range(10)) for name in "ABC"}, Y=ip.Variable(lambda A, B, C: A + B + C + (A == 0))
    )
    accuracy = ip.interchange_accuracy(net, ip.Alignment(off, {"A": "h12"}), n=400)
    assert [accuracy.ceiling, accuracy.accuracy] == pytest.approx([0.9, 0.9], abs=0.05) and accuracy.floor < 0.2


def test_a_network_without_names_for_its_inputs_fails_with_a_note_on_why():
    net = ip.Network(adder.Adder())
    with pytest.raises(Exception, match=r".") as failed:
        ip.interchange_accuracy(net, ip.Alignment(adder.hypothesis(), {"A": "l1[1]"}))
    assert failed.value.__notes__ == [
        "The hypothesis has inputs with names; does the network? Network(module, inputs=('A', 'B', 'C'))"
    ]


# -- chance, and rivals -----------------------------------------------------------------------------------------------


def test_chance_is_what_sources_of_other_pairs_score(net):
    rows = ip.interchange_accuracy(net, adder.alignment(), n=400).rows
    assert all(0 < row.chance < 0.25 for row in rows) and all(row.corrected == 1 for row in rows)
    everything = ip.interchange_accuracy(net, ip.Alignment(adder.hypothesis(), {"A": "h11"}), n=400).rows[0]
    assert everything.chance == pytest.approx(
        everything.hits.mean(), abs=0.05
    )  # h11 carries nothing: chance is the score


def of_the_pair():
    """A finer account of the adder than A + (B+C): the pair (B, C) is kept, and added up at the end."""
    return ip.CausalModel(
        A=ip.Variable(range(10)),
        B=ip.Variable(range(10)),
        C=ip.Variable(range(10)),
        both=ip.Variable(lambda B, C: (B, C)),
        Y=ip.Variable(lambda A, both: A + sum(both)),
    )


def other_order():
    return ip.CausalModel(
        A=ip.Variable(range(10)),
        B=ip.Variable(range(10)),
        C=ip.Variable(range(10)),
        AB=ip.Variable(lambda A, B: A + B),
        Y=ip.Variable(lambda AB, C: AB + C),
    )


def test_of_two_hypotheses_the_right_one_is_told(net):
    true = ip.Alignment(adder.hypothesis(), {"B+C": "h13"})
    found = ip.distinguish(net, true, ip.Alignment(other_order(), {"AB": "h13"}), names=("B+C", "A+B"))
    assert found.told > 1000 and found.right[0].all() and found.right[1].mean() < 0.1
    assert found.verdict.startswith("B+C is right in 1.00 of") and "A+B" in str(found)


def test_hypotheses_that_expect_the_same_are_indistinguishable_and_the_coarser_is_named(net):
    true = ip.Alignment(adder.hypothesis(), {"B+C": "h13"})
    found = ip.distinguish(net, true, ip.Alignment(of_the_pair(), {"both": "h13"}), names=("the sum", "the pair"))
    assert found.told == 0 and found.verdict.startswith("indistinguishable: none of 2,000 interchanges")
    assert "the sum tells fewer values apart (19 against" in found.verdict


def test_rivals_must_meet(net):
    true = ip.Alignment(adder.hypothesis(), {"B+C": "h13"})
    with pytest.raises(errors.WrongAlignment, match="no place in common"):
        ip.distinguish(net, true, ip.Alignment(other_order(), {"AB": "h12"}))
    few = ip.CausalModel(A=ip.Variable(range(2)), Y=ip.Variable(lambda A: A))
    with pytest.raises(errors.WrongAlignment, match="have other inputs"):
        ip.distinguish(net, true, ip.Alignment(few, {"Y": "h13"}))


def test_a_failure_is_made_as_small_as_it_stays_one(net):
    wrong = ip.Alignment(adder.hypothesis(), {"A": "h12", "B+C": "h11"})
    found = ip.interchange_accuracy(net, wrong, n=100)
    assert len(found.smallest) == 2  # B+C alone, and both
    for one in found.smallest:
        assert one["interchange"] == "B+C at h11"
        (source,) = one["sources"].values()
        assert sum(source[name] != one["base"][name] for name in "ABC") == 1 and source["A"] == one["base"]["A"]
        again = ip.interchange(net, one["base"], one["sources"]).output.item()
        assert again == pytest.approx(one["observed"]) and abs(again - one["expected"]) > 0.5
    assert ip.interchange_accuracy(net, adder.alignment(), n=50).smallest == ()
