"""What is said of places: quantities on request, roles, chance, confirmation, comparison, files, circuits."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import interpose as ip
from interpose import errors
from interpose.tasks import adder

from known import AND, OR, XOR, backup, mlp, numbers, opposed, seeded


def net_and_pairs(seed, n=12):
    network = ip.Network(
        seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)), seed)
    )
    return network, ip.Pairs(numbers(n, 3, seed=seed), numbers(n, 3, seed=seed + 1))


def close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-9)


# -- identities ------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(-3, 3))
def test_the_four_way_decomposition_adds_up_for_every_value(seed, m):
    network, pairs = net_and_pairs(seed)
    found = ip.effects(network, pairs, ["0[1]", "2[0]", "2[(1, 2)]"], ip.value, pinned=m)
    te = found.te[:, None].repeat(3, 1)
    close(te, found.values("cde") + found.values("int_ref") + found.values("int") + found.values("nie"))
    close(te, found.values("nde") + found.values("tie"))
    close(te, found.values("tde") + found.values("nie"))
    close(te, found.values("shapley_m") + found.values("shapley_d"))
    plain = ip.effects(network, pairs, ["0[1]", "2[0]", "2[(1, 2)]"], ip.value)
    close(found.nie, plain.nie)
    with torch.no_grad():
        by_hand = (
            network.run(pairs.source, write={"2[0]": m}).output - network.run(pairs.base, write={"2[0]": m}).output
        )
    close(found.values("cde")[:, 1], by_hand[:, 0].numpy())


@given(st.integers(0, 1000))
def test_recovery_slope_and_shares_do_not_depend_on_the_unit_of_the_metric(seed):
    network, pairs = net_and_pairs(seed, 30)
    one = ip.effects(network, pairs, ["0[1]", "2[0]"], ip.value)
    scaled = ip.effects(network, pairs, ["0[1]", "2[0]"], lambda output, those: 5 - 3 * output[:, 0])
    close(one.recovery().estimate, scaled.recovery().estimate)
    close(one.slope().estimate, scaled.slope().estimate)
    close(one.r_squared().estimate, scaled.r_squared().estimate)
    assert (one.extent() == scaled.extent()).all()
    assert [j.role for j in one.judgements()] == [j.role for j in scaled.judgements()]


def test_a_slope_of_two_is_no_noise():
    """A place that transmits twice too much has recovery and slope 2 and R squared 1; one that is not read has none."""

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.copy = nn.Identity()

        def forward(self, x):
            held = self.copy(x)
            return 2 * held[:, 0] - x[:, 0] + 0 * held[:, 1]

    base, source = numbers(60, 2), numbers(60, 2, seed=1)
    found = ip.effects(ip.Network(Reader().double()), ip.Pairs(base, source), ["copy[0]", "copy[1]"], ip.value)
    assert found.slope().estimate[0] == pytest.approx(2) and found.r_squared().estimate[0] == pytest.approx(1)
    assert found.recovery().estimate[0] == pytest.approx(2) and found.judgements()[0].extent == "over"
    assert found.slope().estimate[1] == 0 and found.r_squared().method[1] == "undefined"


def test_a_value_that_no_input_gives_is_flagged_and_one_for_each_place_is_taken():
    net, pairs = adder.network(), adder.pairs()["A"]
    found = ip.effects(net, pairs, ["h12", "h13"], ip.value, pinned={"h12": 8.1, "h13": -50})
    assert [note.code for note in found.warnings] == ["out_of_range"] and "No input gives h13" in found.warnings[0]
    close(found.values("cde")[:, 0], 0)
    np.testing.assert_allclose(found.values("cde")[:, 1], found.te, atol=1e-5)
    with pytest.raises(errors.WrongInput, match="pinned gives no value for h13"):
        ip.effects(net, pairs, ["h12", "h13"], ip.value, pinned={"h12": 8.1})
    with pytest.raises(errors.UnknownPlace, match="A controlled direct effect is of a value"):
        ip.effects(net, pairs, ["h12"], ip.value).values("cde")


# -- roles ---------------------------------------------------------------------------------------------------


def rising(model, n=200):
    """Pairs in which both bits go from 0 to 1."""
    inputs = model.inputs
    return ip.Pairs([dict.fromkeys(inputs, 0)] * n, [dict.fromkeys(inputs, 1)] * n, independent=True)


def roles(model, pairs, places, **options):
    found = ip.effects(model, pairs, places, ip.value, **options)
    return dict(zip(found.labels, (one.role for one in found.judgements()), strict=True))


def test_gates_are_reported_truthfully_in_both_directions():
    """Both inputs rise. An AND is broken by putting one back, an OR is made by one alone: they are mirror images."""
    sufficient, necessary = "sufficient, a backup exists", "necessary, jointly with others"
    assert roles(AND, rising(AND), ["p", "q"]) == {"p": sufficient, "q": sufficient}
    assert roles(OR, rising(OR), ["p", "q"]) == {"p": necessary, "q": necessary}
    for model, ours, theirs in ((AND, sufficient, necessary), (OR, necessary, sufficient)):
        falling = rising(model).swapped()
        assert set(roles(model, rising(model), ["p", "q"]).values()) == {ours}
        assert set(roles(model, falling, ["p", "q"]).values()) == {theirs}
        assert roles(model, rising(model), [["p", "q"]]) == {"p + q": "complete mediator"}


def test_inputs_of_an_xor_that_both_change_have_no_total_effect_and_are_alive():
    found = ip.effects(XOR, rising(XOR), ["p", "q"], ip.value, jointly=True)
    assert (found.te == 0).all() and {one.verdict for one in found.judgements(delta=0.5)} == {"mediates"}
    assert found.synergy("p", "q").estimate[0] == -2 and "no_size" in [note.code for note in found.notes()]


def test_a_backup_and_opposed_paths():
    model = backup()
    pairs = ip.Pairs([{"A": 0}] * 100, [{"A": 1}] * 100, independent=True)
    assert set(roles(model, pairs, ["a", "b"]).values()) == {"necessary, jointly with others"}
    assert set(roles(model, pairs.swapped(), ["a", "b"]).values()) == {"sufficient, a backup exists"}
    cancelling = opposed()
    moved = ip.Pairs.varying(cancelling, "A", n=100)
    found = ip.effects(cancelling, moved, ["up", "down"], ip.value)
    assert (found.te == 0).all() and {one.verdict for one in found.judgements(delta=0.1)} == {"mediates"}


VOTE = ip.CausalModel(
    A=ip.Variable((0, 1)),
    a=ip.Variable(lambda A: A + 0),
    b=ip.Variable(lambda A: A + 0),
    c=ip.Variable(lambda A: A + 0),
    d=ip.Variable(lambda A: 0 * A),
    Y=ip.Variable(lambda a, b, c, d: (a + b + c + 0 * d >= 2) * 1),
)
"""Three copies vote: none alone matters in either direction, every two do."""


def test_what_is_silent_alone_is_said_to_be_so_and_no_more():
    pairs = ip.Pairs([{"A": 0}] * 200, [{"A": 1}] * 200, independent=True)
    alone = ip.effects(VOTE, pairs, ["a", "b", "c", "d"], ip.value)
    assert {one.grade for one in alone.judgements()} == {"N2"}
    assert all(one.role.startswith("no effect alone, at most") for one in alone.judgements())
    both = ip.effects(VOTE, pairs, ["a", "b", "c", "d"], ip.value, jointly=True)
    assert [one.grade for one in both.judgements()] == ["N2", "N2", "N2", "N3"]
    assert both.judgements()[3].role.startswith("no effect up to pairs, at most")
    assert both.synergy("a", "b").estimate[0] == 1 and both.synergy("a", "d").estimate[0] == 0
    with pytest.raises(errors.UnknownPlace, match="were not measured together"):
        alone.synergy("a", "b")
    with pytest.raises(errors.WrongInput, match="give two places or more"):
        ip.effects(VOTE, pairs, ["a"], ip.value, jointly=True)


def test_a_witness_is_the_pair_with_the_largest_effect_and_an_exhausted_domain_has_no_bound():
    net, model = adder.network(), adder.hypothesis()
    found = ip.effects(net, adder.pairs()["A"], ["h12", "h13"], ip.value)
    one, other = found.judgements()
    assert abs(found.te[one.witness]) == abs(found.te).max() and other.witness is None
    whole = ip.scan(net, ip.Pairs.varying(model, "A"), ["h12", "h13"], ip.value)
    assert [one.role for one in whole.judgements()] == ["complete mediator", "not reached (certified)"]
    assert whole.mediators().table().columns[2] == "95 % interval" and "exact" in str(whole.mediators().table())


# -- chance ----------------------------------------------------------------------------------------------------


def test_chance_is_what_sources_of_other_pairs_give():
    net, pairs = adder.network(), adder.pairs(n=40)["A"]
    found = ip.effects(net, pairs, ["h12", "h22", "h11"], ip.matches, chance=30, seed=3)
    level = found.chance()
    assert found.shuffled.ybs.shape == (30, 40, 3) and (np.sort(found.shuffled.order, 1) == np.arange(40)).all()
    for draw, i in ((0, 0), (7, 12)):
        source = pairs.source[found.shuffled.order[draw, i]]
        out = float(ip.interchange(net, pairs.base[i], {"h12": source}).output)
        assert found.shuffled.ybs[draw, i, 0] == (abs(out - pairs.targets[i]) < 1e-3)
    close(level.score, [1, 1, 0])
    close(level.chance, found.shuffled.ybs.mean((0, 1)))
    assert 0 < level.chance[0] < 0.3
    close(level.p[:2], 1 / 31)
    assert level.p[2] == 1 and level.corrected.estimate[0] == 1
    again = ip.effects(net, pairs, ["h12", "h22", "h11"], ip.matches, chance=30, seed=3)
    assert (again.shuffled.ybs == found.shuffled.ybs).all()
    assert not (
        ip.effects(net, pairs, ["h12"], ip.matches, chance=30, seed=4).shuffled.order == found.shuffled.order
    ).all()


def test_pairs_whose_sources_are_shuffled_score_at_chance():
    net, pairs = adder.network(), adder.pairs(n=60)["A"]
    order = np.random.default_rng(0).permutation(60)
    wrong = ip.Pairs(pairs.base, [pairs.source[i] for i in order], targets=pairs.targets)
    level = ip.effects(net, wrong, ["h12", "h22"], ip.matches, chance=100).chance()
    assert (level.p > 0.05).all() and (abs(level.score - level.chance) < 0.15).all()


def test_an_effect_of_random_other_values():
    net, pairs = adder.network(), adder.pairs(n=40)["A"]
    found = ip.effects(net, pairs, ["h12", "h11"], ip.value, chance=20)
    by_hand = (found.shuffled.ybs.mean(0) - found.ybb[:, None]).mean(0)
    np.testing.assert_allclose(found.resample_effect().estimate, by_hand, atol=1e-9)
    for act in (
        lambda: ip.effects(net, pairs, ["h12"], ip.value).chance(),
        lambda: ip.effects(net, pairs, ["h12"], ip.value, chance=1).resample_effect(),
    ):
        with pytest.raises(errors.WrongInput, match="chance="):
            act()


# -- confirmed on other pairs ------------------------------------------------------------------------------------


def test_a_scan_confirms_on_pairs_that_share_no_input():
    net, pairs = adder.network(), adder.pairs(n=120)["A"]
    found = ip.scan(net, pairs, net.neurons("l1", "l2"), ip.matches, confirm=True, seed=5)
    first, second = pairs.split(seed=5)
    assert found.pairs.base == first.base and found.part == "discover" and found.confirmed.part == "confirm"
    assert found.confirmed.pairs.base == second.base and found.confirmed.labels == ("h12", "h22")
    table = str(found.mediators().table())
    assert f"Chosen on {len(first)} pairs, measured on {len(second)} others" in table and "95 % interval" in table
    given = ip.scan(net, first, net.neurons("l1", "l2"), ip.matches, confirm=second)
    assert (given.confirmed.nie == found.confirmed.nie).all()
    with pytest.raises(errors.WrongPairs, match="inputs are among the pairs to scan and among those to confirm on"):
        ip.scan(net, pairs, ["h12"], ip.matches, confirm=pairs[:3])
    with pytest.raises(errors.WrongPairs, match="a Pairs for a Pairs, and a dict"):
        ip.scan(net, {"A": pairs}, ["h12"], ip.matches, confirm=second)


def test_several_questions_are_confirmed_each_on_its_own_half():
    net = adder.network()
    found = ip.scan(net, adder.pairs(n=80), net.neurons("l1", "l2"), ip.matches, confirm=True)
    assert {name: sorted(one.confirmed.labels) for name, one in found.items()} == {
        "A": ["h12", "h22"],
        "B": ["h13", "h22"],
        "C": ["h13", "h22"],
    }
    assert all(one.tests == 18 for one in found.values())


# -- comparison -------------------------------------------------------------------------------------------------


def test_two_checkpoints_are_compared_on_the_same_pairs():
    pairs = ip.Pairs(numbers(60, 4), numbers(60, 4, seed=1))
    one, other = (ip.Network(seeded(lambda: mlp(4, 6, 1), seed)) for seed in (0, 1))
    first, second = (ip.effects(network, pairs, ["0[0]", "0[1]"], ip.value) for network in (one, other))
    found = ip.compare(first, second, names=("before", "after"))
    assert found.paired and found.p is None
    close(found.difference.estimate, first.recovery().estimate - second.recovery().estimate)
    same = ip.compare(first, first)
    assert same.difference.method == ("constant", "constant") and (same.difference.estimate == 0).all()
    assert "before" in str(found) and found._repr_html_()


def test_a_paired_difference_is_narrower_than_one_of_independent_pairs():
    network = ip.Network(seeded(lambda: mlp(4, 6, 1)))
    nudged = ip.Network(seeded(lambda: mlp(4, 6, 1)))
    with torch.no_grad():
        nudged.module[0].weight *= 1.05
    pairs, others = (ip.Pairs(numbers(80, 4, seed=s), numbers(80, 4, seed=s + 1)) for s in (0, 10))
    paired = ip.compare(*(ip.effects(net, pairs, ["0[0]"], ip.value) for net in (network, nudged)))
    apart = ip.compare(ip.effects(network, pairs, ["0[0]"], ip.value), ip.effects(nudged, others, ["0[0]"], ip.value))
    width = lambda one: float(one.difference.high[0] - one.difference.low[0])
    assert not apart.paired and width(paired) < width(apart) / 3


def test_shares_on_the_same_pairs_get_mcnemars_test():
    net, pairs = adder.network(), adder.pairs()["A"]
    broken = adder.network()
    with torch.no_grad():
        broken.module.l2.weight[1, 1] = 0.1
    first, second = (ip.effects(network, pairs, ["h12", "h22"], ip.matches) for network in (net, broken))
    found = ip.compare(first, second)
    assert found.p[0] < 1e-6 and found.quantity == "IIA" and found.difference.estimate[0] == 1
    with pytest.raises(errors.WrongMetric, match="are not of one kind"):
        ip.compare(first, ip.effects(net, pairs, ["h12"], ip.value))
    with pytest.raises(errors.UnknownPlace, match="no place in common"):
        ip.compare(first, ip.effects(net, pairs, ["h13"], ip.matches))
    with pytest.raises(errors.WrongPairs, match="neither paired nor independent"):
        ip.compare(first, ip.effects(net, pairs[:20], ["h12"], ip.matches))


def test_two_places_are_compared_on_the_same_draws():
    network, pairs = net_and_pairs(3, 40)
    found = ip.effects(network, pairs, ["0[0]", "0[1]"], ip.value)
    difference = found.difference("0[0]", "0[1]")
    close(difference.estimate[0], found.recovery().estimate[0] - found.recovery().estimate[1])
    assert difference.low[0] < difference.estimate[0] < difference.high[0]


# -- records and files --------------------------------------------------------------------------------------------


def test_a_record_says_everything_as_plain_values():
    net, pairs = adder.network(), adder.pairs()["A"]
    found = ip.effects(net, pairs, ["h12", "h13"], ip.value, chance=20)
    for place, quantity in itertools.product(
        ("h12", "l1[2]"), ("recovery", "restores", "transfer", "slope", "te", "nie", "shapley_m")
    ):
        record = found.record(place, quantity)
        assert json.loads(json.dumps(record)) == record
        assert record["estimate"] is not None or record["reason"]
        assert {
            "estimand",
            "n_clusters",
            "n_excluded",
            "noise_floor",
            "selection",
            "versions",
            "warnings",
        } <= record.keys()
    assert found.record("h12")["verdict"] == "mediates" and "cancellation" in found.record("h12")["warnings"]
    with pytest.raises(errors.UnknownPlace, match="'h21' was not measured"):
        found.record("h21")
    with pytest.raises(errors.UnknownPlace, match="There is no number 'recovry'"):
        found.record("h12", "recovry")


def test_what_is_not_defined_is_none_with_a_reason():
    still = ip.Pairs([[1, 2, 3]] * 3, [[1, 2, 3]] * 3, independent=True)
    record = ip.effects(adder.network(), still, ["h12"], ip.value).record("h12")
    assert record["estimate"] is None and record["ci_low"] is None and record["reason"]
    assert "no_informative_pairs" in record["warnings"]


def test_failures_can_be_run_again():
    net, pairs = adder.network(), adder.pairs()["A"]
    with torch.no_grad():
        net.module.l2.weight[1, 1] = 0.13
    found = ip.scan(net, pairs, ["h12", "h11"], ip.value)
    missed = found.failures("h11")
    assert len(missed) == 50 and found.failures("h12") == []
    one = missed[7]
    out = ip.interchange(net, one["base"], {one["place"]: one["source"]}).output
    assert float(out) == pytest.approx(one["observed"]) != one["expected"]
    assert one["untouched"] == pytest.approx(float(net.run(one["base"]).output))


def test_results_come_back_from_disk_as_they_were(tmp_path):
    net = adder.network()
    scans = ip.scan(net, adder.pairs(n=30), net.neurons("l1", "l2"), ip.matches, confirm=True)
    effects = ip.effects(
        net, adder.pairs()["A"], ["h12", ["h13", "h22"]], ip.value, pinned=3.0, chance=5, jointly=False
    )
    tensors = ip.effects(net, ip.Pairs(numbers(4, 3), numbers(4, 3, seed=1)), ["h12"], ip.value)
    for k, result in enumerate((scans, scans["A"], effects, tensors)):
        path = ip.save(result, tmp_path / f"{k}.interpose")
        back = ip.load(path)
        assert type(back) is type(result) and str(back) == str(result)
        assert back.data.identical(result.data)
        assert ip.save(ip.load(path, model=net), tmp_path / "again").read_bytes() == path.read_bytes()
    back = ip.load(tmp_path / "2.interpose")
    assert (back.shuffled.ybs == effects.shuffled.ybs).all() and (back.values("cde") == effects.values("cde")).all()
    assert back.warnings == effects.warnings and back.warnings[0].code == "out_of_range"
    assert back.pairs.base == effects.pairs.base and back.places == effects.places


def test_other_weights_are_refused_and_weights_that_changed_are_not_named(tmp_path, monkeypatch):
    net, pairs = adder.network(), adder.pairs()["A"]
    found = ip.effects(net, pairs, ["h12"], ip.value)
    path = ip.save(found, tmp_path / "found")
    other = adder.network()
    with torch.no_grad():
        other.module.l1.bias[0] += 1
    with pytest.raises(errors.WrongStore, match="was measured on other weights"):
        ip.load(path, model=other)
    with torch.no_grad():
        net.module.l1.bias[0] += 1
    with pytest.raises(errors.WrongStore, match="has changed since this was measured"):
        ip.save(found, tmp_path / "late")
    monkeypatch.setattr("interpose.origin.FEW", 0)  # large models are not kept alive by their results
    lost = ip.effects(adder.network(), pairs, ["h12"], ip.value)
    with pytest.raises(errors.WrongStore, match="is gone"):
        ip.save(lost, tmp_path / "lost")
    with pytest.raises(errors.WrongStore, match="does not know the model"):
        ip.save(ip.load(path), tmp_path / "twice")


def test_results_without_a_form_on_disk_are_refused_and_nothing_is_written(tmp_path):
    net, pairs = adder.network(), adder.pairs()["A"]
    for found in (ip.ablate(net, pairs, ["h12"], ip.value), ip.circuit(net, pairs, ["h12"], ["h12", "h11"], ip.value)):
        text = (
            f"{type(found).__name__} has no form on disk: a file is of Effects, a Scan or Scans. Keep the numbers and "
            "the table of this result."
        )
        with pytest.raises(errors.WrongInput, match=f"^{re.escape(text)}$"):
            ip.save(found, tmp_path / "found")
    assert not list(tmp_path.iterdir())


# -- ablations and circuits ------------------------------------------------------------------------------------------


def test_ablations_are_named_as_what_they_are():
    net, pairs = adder.network(), adder.pairs()["A"]
    zero = ip.ablate(net, pairs, ["h12", "h11"], ip.value)
    with torch.no_grad():
        expected = net.run(pairs.base, write={"h12": 0.0}).output - net.run(pairs.base).output
    np.testing.assert_allclose(zero.effect[:, 0], expected.numpy(), atol=1e-5)
    assert "Ablation, set to 0" in str(zero) and [note.code for note in zero.notes()] == ["off_support"]
    mean = ip.ablate(net, pairs, ["h12"], ip.value, by=ip.Mean(), batch_size=7)
    assert abs(mean.effect.mean()) < 1e-4 and mean.by == "set to their mean"
    other = ip.ablate(net, pairs, ["h12"], ip.value, by=ip.Resample(seed=1))
    assert sorted(np.round(other.y[:, 0] - other.ybb + 0, 3)) != sorted(np.round(other.ybb, 3)) and not other.notes()
    noisy = ip.ablate(net, pairs, ["h12"], ip.value, by=ip.Noise(0.1))
    assert "Gaussian noise of standard deviation 0.1" in noisy.by and 0 < noisy.size.estimate[0] < 0.2
    with pytest.raises(errors.WrongInput, match="one way for all places"):
        ip.ablate(net, pairs, ["h12"], ip.value, by={"h12": 0})


def test_the_adders_circuit_is_faithful_complete_and_minimal():
    net, pairs = adder.network(), adder.pairs()["A"]
    every = net.neurons("l1", "l2")
    found = ip.circuit(net, pairs, ["h12", "h13", "h22"], every, ip.matches)
    assert found.faithfulness.estimate[0] == 1 and found.completeness.estimate[0] == 0 and found.worst.max() == 0
    assert (found.minimality.estimate > 0.5).all()
    whole = ip.circuit(net, pairs, every, every, ip.matches)
    assert whole.faithfulness.estimate[0] == 1 and (whole.minimality.estimate[[0, 3, 5]] == 0).all()
    nothing = ip.circuit(net, pairs, [], every, ip.matches)
    assert nothing.faithfulness.estimate[0] == 0
    part = ip.circuit(net, pairs, ["h12"], net.neurons("l1"), ip.matches)
    assert part.faithfulness.estimate[0] < 0.3 and part.completeness.estimate[0] > 0.7
    with pytest.raises(errors.WrongInput, match="h22 is in the circuit, but not among"):
        ip.circuit(net, pairs, ["h22"], net.neurons("l1"), ip.matches)
