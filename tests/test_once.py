"""All four runs in one pass: the numbers of the loop, or nothing; and several questions asked in one call."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import interpose as ip
from interpose import errors
from interpose.engine import once
from interpose.metrics import Scored
from interpose.tasks import adder
from test_engine import Adversary, Couples, FlattensTokens, Remembers, TimeMajor

from known import SUBJECTS, numbers, seeded

RUNS = ("ybb", "yss", "ybs", "ysb", "response")


def runs(network, pairs, places, metric=ip.value):
    """The four runs of the pairs in one pass."""
    groups = [(network.place(place),) for place in places]
    return network.four_runs(pairs.base, pairs.source, groups, metric=Scored(metric, pairs))


def in_full(network, pairs, places, metric=ip.value, **options):
    """The same by one run a write."""
    network.engine = "full"
    try:
        return ip.effects(network, pairs, places, metric, **options)
    finally:
        network.engine = ip.Engine()


# -- exactness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_one_pass_gives_the_numbers_of_one_run_a_write(subject, dtype):
    network = subject.network()
    network.module.to(dtype)
    base, source = ({"x": x["x"].to(dtype)} if isinstance(x, dict) else x.to(dtype) for x in _both(subject))
    pairs = ip.Pairs(base, source)
    found, expected = runs(network, pairs, subject.sites), in_full(network, pairs, subject.sites)
    assert found is not None and found.work.mechanisms == ("one pass",)
    for name in RUNS:
        tolerance = 1e-10 if dtype is torch.float64 else 2e-6 * max(1.0, float(np.abs(expected.values(name)).max()))
        np.testing.assert_allclose(getattr(found, name), expected.values(name), rtol=0, atol=tolerance)


def _both(subject):
    return subject.inputs(5), subject.inputs(5, seed=1)


@pytest.mark.parametrize("metric", [ip.value, ip.matches, ip.Matches(0.5), lambda output, pairs: output**2])
def test_a_metric_gets_what_it_gets_in_plain_runs(metric):
    net, pairs = adder.network(), adder.pairs()["B"]
    places = [*net.neurons("l1", "l2"), net.place("Y")]
    found, expected = runs(net, pairs, places, metric), in_full(net, pairs, places, metric)
    for name in RUNS:
        np.testing.assert_allclose(getattr(found, name), expected.values(name), atol=1e-5)


def test_order_and_company_of_places_and_pairs_change_nothing():
    subject = SUBJECTS[0]
    network, base, source = subject.network(), subject.inputs(6), subject.inputs(6, seed=1)
    whole = runs(network, ip.Pairs(base, source), subject.sites)
    back = runs(network, ip.Pairs(base.flip(0), source.flip(0)), subject.sites[::-1])
    alone = runs(network, ip.Pairs(base[:2], source[:2]), subject.sites[3:4])
    np.testing.assert_allclose(back.ybs[::-1, ::-1], whole.ybs, atol=1e-12)
    np.testing.assert_allclose(alone.ysb, whole.ysb[:2, 3:4], atol=1e-12)


def test_no_units_at_all_change_nothing():
    found = runs(adder.network(), adder.pairs()["A"], [ip.Site("l1", units=()), "h12"])
    assert (found.response[:, 0] == 0).all() and (found.ybs[:, 0] == found.ybb).all()


def test_a_place_that_holds_the_same_has_no_effect_to_the_last_bit():
    found = runs(adder.network(), adder.pairs()["A"], ["h13", "h23", "h12"])
    assert (found.ybs[:, :2] == found.ybb[:, None]).all() and (found.ysb[:, :2] == found.yss[:, None]).all()
    assert (found.response[:, :2] == 0).all() and (found.response[:, 2] > 0).all()


def test_a_wrong_row_would_be_seen(monkeypatch):
    """Break it on purpose: values from the wrong block, and places written in the wrong one."""
    net, pairs = adder.network(), adder.pairs()["A"]
    right = once.Blocks.moves
    for wrong in (
        lambda blocks, places: [(j, to, 0) for j, to, _ in right(blocks, places)],
        lambda blocks, places: [(j, max(to - 1, 2), start) for j, to, start in right(blocks, places)],
    ):
        monkeypatch.setattr(once.Blocks, "moves", wrong)
        net._plans.clear()
        assert runs(net, pairs, ["h11", "h12", "h13"]) is None


# -- what it leaves to the plain way ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Couples, Remembers, TimeMajor, FlattensTokens])
def test_a_module_whose_rows_cannot_be_told_apart_is_left_to_the_plain_way(kind):
    network = ip.Network(seeded(kind))
    assert runs(network, ip.Pairs(numbers(5, 4), numbers(5, 4, seed=1)), ["first", "first[1]"]) is None


class FewRows(Adversary):
    """Counts as something else what is a large batch."""

    def forward(self, x):
        return super().forward(x) + (1.0 if len(x) > 30 else 0.0)


def test_a_module_that_behaves_otherwise_in_a_large_batch_is_left_to_the_plain_way():
    network, pairs = ip.Network(seeded(FewRows)), ip.Pairs(numbers(6, 4), numbers(6, 4, seed=1))
    assert runs(network, pairs, ["first[1]", "second"]) is None
    network.engine = ip.Engine(budget=1)
    found, expected = ip.effects(network, pairs, ["first[1]"], ip.value), in_full(network, pairs, ["first[1]"])
    np.testing.assert_allclose(found.ybs, expected.ybs, atol=1e-12)


class Doubled(nn.Module):
    def encode(self, activation):
        return 2 * activation, None

    def decode(self, features, remainder):
        return features / 2


@pytest.mark.parametrize(
    "places",
    [["h12", "h12"], [ip.Site("l1").through(Doubled(), units=0)], ["l1[7]"]],
    ids=["twice", "other coordinates", "no such unit"],
)
def test_places_it_has_no_way_for(places):
    net, pairs = adder.network(), adder.pairs()["A"]
    if places == ["l1[7]"]:
        with pytest.raises(errors.UnknownPlace):
            ip.effects(net, pairs, places, ip.value)
    else:
        assert runs(net, pairs, places) is None


def test_an_engine_that_is_told_what_to_do_is_obeyed():
    net, pairs = adder.network(), adder.pairs()["A"]
    for engine in ("full", ip.Engine(replay=True), ip.Engine(budget=2**20)):
        net.engine = engine
        assert runs(net, pairs, ["h12"]) is None
        assert "one pass" not in ip.effects(net, pairs, ["h12"], ip.value).work.mechanisms


def test_without_checks_there_is_one_forward_and_the_noise_is_measured_apart():
    net, pairs, calls = adder.network(), adder.pairs()["A"], []
    net.engine = ip.Engine(check=False)
    net.module.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    found = runs(net, pairs, ["h12", "h13"])
    assert calls == [50 * 8] and not found.checked and found.work.forwards == 1
    assert ip.effects(net, pairs, ["h12", "h13"], ip.value).work.forwards > 2


def test_one_pair_alone_and_large_networks_are_left_to_the_plain_way():
    net, pairs = adder.network(), adder.pairs()["A"]
    assert runs(net, pairs[:1], ["h12"]) is None
    large = ip.Network(seeded(lambda: nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 1))))
    wide = ip.Pairs(numbers(50, 64), numbers(50, 64, seed=1))
    assert runs(large, wide, [f"0[{i}]" for i in range(40)]) is None


def test_errors_are_those_of_the_plain_way():
    net, pairs = adder.network(), adder.pairs()["A"]
    with pytest.raises(errors.WrongMetric, match="gave nan for pair 1 of the batch"):
        ip.effects(net, pairs, ["h12"], lambda output, those: output.index_fill(0, torch.tensor(1), torch.nan))
    with pytest.raises(ZeroDivisionError):
        ip.effects(net, pairs, ["h12"], lambda output, those: 1 / 0)


def test_nothing_is_left_behind():
    net, pairs = adder.network(), adder.pairs()["A"]
    before = {name: parameter.clone() for name, parameter in net.module.named_parameters()}
    runs(net, pairs, ["h12"])
    assert all(torch.equal(before[name], parameter) for name, parameter in net.module.named_parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.module.modules())


def test_the_toy_scan_is_a_handful_of_batched_forwards():
    net, pairs, calls = adder.network(), adder.pairs(), []
    handle = net.module.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    with FlopCounterMode(display=False) as counter:
        found = ip.scan(net, pairs, net.neurons("l1", "l2"), metric=ip.matches)
    handle.remove()
    assert calls == [150 * 16, 4] and found["A"].work.forwards == 2
    row = 2 * (9 + 9 + 3)
    assert counter.get_total_flops() <= 1.10 * row * 150 * (2 + 2 * 6 + 2)


# -- several questions in one call -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans():
    net = adder.network()
    return ip.scan(net, adder.pairs(), net.neurons("l1", "l2"), metric=ip.matches)


def test_several_questions_give_what_each_gives_alone(scans):
    net, pairs = adder.network(), adder.pairs()
    assert list(scans) == list("ABC") and len(scans) == 3
    for name, found in scans.items():
        alone = ip.scan(net, pairs[name], net.neurons("l1", "l2"), metric=ip.matches)
        for run in RUNS:
            np.testing.assert_allclose(found.values(run), alone.values(run), atol=1e-5)
        assert found.pairs.base == pairs[name].base and found.subject == name
        assert found.table().rows == alone.table().rows and found.tests == 18


def test_what_mediates_each_of_them(scans):
    found = {name: sorted(map(str, places)) for name, places in scans.mediators().items()}
    assert found == {"A": ["h12", "h22"], "B": ["h13", "h22"], "C": ["h13", "h22"]}
    assert ip.draw_circuit(adder.network(), scans.mediators()).svg()
    assert sum(panel in scans.heatmap().svg() for panel in ("What carries A?", "What carries B?")) == 2


def test_all_of_them_as_labelled_data(scans):
    assert dict(scans.data.sizes) == {"variable": 3, "pair": 50, "layer": 2, "unit": 3}
    assert scans.data.variable.values.tolist() == list("ABC")
    for name, found in scans.items():
        assert scans.data.sel(variable=name).drop_vars("variable").equals(found.data)
    assert len(scans.to_frame()) == 3 * 50 * 6
    assert "What carries A, B, C?" in str(scans) and "B: Not changed by the change of input: h12, h23." in str(scans)
    with pytest.raises(errors.UnknownPlace, match="There is no scan 'D'"):
        scans["D"]


def test_questions_of_unequal_length_are_filled_with_nothing():
    net, pairs = adder.network(), adder.pairs()
    found = ip.scan(net, {"A": pairs["A"][:3], "B": pairs["B"][:5]}, ["h12", "h13"], metric=ip.value).data
    assert (
        found.nie.shape == (2, 5, 2) and bool(found.nie[0, 3:].isnull().all()) and not bool(found.nie[1].isnull().any())
    )
    assert found.status.values[0, 4].tolist() == ["not measured"] * 2


def test_questions_of_several_forms_or_with_a_store_are_measured_one_by_one(tmp_path):
    net, pairs = adder.network(), adder.pairs()
    mixed = {"A": pairs["A"], "B": ip.Pairs(torch.tensor([[1.0, 2, 3]] * 2), torch.tensor([[1.0, 5, 3]] * 2))}
    found = ip.scan(net, mixed, ["h12", "h13"], metric=ip.value)
    assert found["B"].nie.tolist() == pytest.approx(np.array([[0.0, 3.0]] * 2), abs=1e-5)
    kept = ip.scan(net, {"A": pairs["A"], "B": pairs["B"]}, ["h12"], metric=ip.value, store=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A", "B"]
    again = ip.scan(net, {"A": pairs["A"], "B": pairs["B"]}, ["h12"], metric=ip.value, store=tmp_path)
    assert all((kept[name].nie == again[name].nie).all() for name in kept)
