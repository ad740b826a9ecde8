"""Effects, scans and what is derived from them, number by number on the tutorial's adder."""

import copy
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import interpose as ip
from interpose import errors
from interpose.maps import as_scan
from interpose.model import Work
from interpose.results import Effects
from interpose.tasks import adder

from known import Encoder, mlp, numbers, seeded


@pytest.fixture(scope="module")
def net():
    return adder.network()


@pytest.fixture(scope="module")
def data():
    return adder.pairs()


def one(base, source):
    return ip.Pairs([base], [source])


# -- the worked example of EFFECTS, section 8 ------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "ybs", "ysb", "nie", "tie", "nde", "tde"),
    [
        *((site, 9, 6, 3, 3, 0, 0) for site in ("h12", "h22")),
        *((site, 6, 9, 0, 0, 3, 3) for site in ("h11", "h13", "h21", "h23")),
    ],
)
def test_the_worked_example(net, site, ybs, ysb, nie, tie, nde, tde):
    found = ip.effects(net, one([1, 2, 3], [4, 2, 3]), [site], ip.value)
    measured = [found.ybb[0], found.yss[0], found.ybs[0, 0], found.ysb[0, 0], found.te[0]]
    assert measured == pytest.approx([6, 9, ybs, ysb, 3], abs=1e-5)
    effects = [found.values(name)[0, 0] for name in ("nie", "tie", "nde", "tde", "int")]
    assert effects == pytest.approx([nie, tie, nde, tde, 0], abs=1e-5)


def test_the_contrast_in_b(net):
    found = ip.effects(net, one([1, 2, 3], [1, 4, 3]), ["h12", "h13", "h22"], ip.value)
    assert found.te[0] == pytest.approx(2, abs=1e-5)
    assert found.nie[0].tolist() == pytest.approx([0, 2, 2], abs=1e-5)
    assert found.tie[0].tolist() == pytest.approx([0, 2, 2], abs=1e-5)


@pytest.mark.parametrize(
    ("site", "source", "expected"), [("h13", [1, 4, 5], 10), ("h22", [4, 5, 6], 15), ("h12", [1, 4, 3], 6)]
)
def test_interchange_by_hand(net, site, source, expected):
    assert ip.interchange(net, [1, 2, 3], {site: source}).output.item() == pytest.approx(expected, abs=1e-5)


def test_forced_values(net):
    assert net.run([1, 2, 3], write={"h23": -100}).output.item() == pytest.approx(6, abs=1e-5)
    assert net.run([1, 2, 3], write={"h12": 12.1}).output.item() == pytest.approx(7, abs=1e-5)


# -- scans -------------------------------------------------------------------------------------------------

MAPS = {"A": [[0, 1, 0], [0, 1, 0]], "B": [[0, 0, 1], [0, 1, 0]], "C": [[0, 0, 1], [0, 1, 0]]}
MEDIATORS = {"A": ["h12", "h22"], "B": ["h13", "h22"], "C": ["h13", "h22"]}


@pytest.mark.parametrize("name", "ABC")
@pytest.mark.parametrize("metric", [ip.matches, ip.value])
def test_the_three_maps(net, data, name, metric):
    found = ip.scan(net, data[name], net.neurons("l1", "l2"), metric)
    assert found.transfer().estimate.reshape(2, 3).round(6).tolist() == MAPS[name]
    assert [str(site) for site in found.mediators()] == MEDIATORS[name]
    assert found.data.nie.dims == ("pair", "layer", "unit")
    assert found.data.layer.values.tolist() == ["l1", "l2"] and found.data.attrs["varies"] == name
    intervals = [found.transfer().text(j) for j in range(6)]
    if metric is ip.matches:
        expected = {1: "[0.93, 1.00]", 0: "[0.00, 0.07]"}
        assert intervals == [expected[cell] for row in MAPS[name] for cell in row]
    else:
        assert set(intervals) == {"constant (>= 94 %)"}


def test_the_same_scan_runs_on_a_causal_model(data):
    model = adder.network().as_causal_model()
    found = ip.scan(model, data["B"], ["h11", "h12", "h13", "h21", "h22", "h23"], ip.matches)
    assert found.transfer().estimate.tolist() == [0, 0, 1, 0, 1, 0]
    assert found.data.nie.dims == ("pair", "site") and found.mediators() == ("h13", "h22")


def test_the_hypothesis_is_scanned_like_the_network(data):
    model = adder.hypothesis()
    found = ip.scan(model, data["A"], ["A", "B", "B+C", "A+B+C"], ip.matches)
    assert found.mediators() == ("A", "A+B+C") and found.transfer().estimate.tolist() == [1, 0, 0, 1]


def test_a_table_reads_like_a_page(net, data):
    assert str(ip.scan(net, data["A"], net.neurons("l1", "l2"), ip.matches).table()).splitlines() == [
        "What carries A? Metric: matches, Adder, 50 pairs in which A changes",
        "",
        "place   IIA  95 % interval  restores  full/part/none  role",
        "-----------------------------------------------------------------------------",
        "h12    1.00  [0.93, 1.00]       1.00  50/0/0          complete mediator",
        "h22    1.00  [0.93, 1.00]       1.00  50/0/0          complete mediator",
        "h11    0.00  [0.00, 0.07]       0.00  0/0/50          inert (certified)",
        "h13    0.00  [0.00, 0.07]       0.00  0/0/50          not reached (certified)",
        "h21    0.00  [0.00, 0.07]       0.00  0/0/50          inert (certified)",
        "h23    0.00  [0.00, 0.07]       0.00  0/0/50          inert (certified)",
        "",
        "Not changed by the change of input: h13, h23.",
    ]


def test_cancelling_means_are_announced_and_full_mediation_shown(net, data):
    table = ip.effects(net, data["A"], ["h12"], ip.value).table()
    assert [row[1] for row in table.rows] == ["TE", "NIE", "TIE", "NDE", "TDE", "INT"]
    assert table.notes[0].startswith("h12: complete mediator. Recovery 1.00, constant (>= 94 %) of the effect")
    assert "in full 50" in table.notes[0]
    assert any(note.startswith("Total effects cancel: their mean is 0.26 [-1.00, 1.42]") for note in table.notes)


def test_an_exhausted_domain_carries_no_interval(net):
    pairs = ip.Pairs.varying(adder.hypothesis(), "A")
    found = ip.scan(net, pairs, net.neurons("l1"), ip.matches, batch_size=1000)
    assert len(pairs) == 9000 and found.transfer().estimate.tolist() == [0, 1, 0]
    assert set(found.transfer().method) == {"exhaustive"}
    assert found.verdicts() == ("does not mediate", "mediates", "does not mediate")
    assert "exact" in str(found.table())


def test_places_may_be_written_together(net, data):
    found = ip.effects(net, data["A"], [["h12", "h13"], "l1"], ip.value)
    assert found.labels == ("h12 + h13", "l1")
    np.testing.assert_allclose(found.nie - found.te[:, None], 0, atol=1e-5)
    with pytest.raises(errors.OverlappingWrites, match="h12 and l1 share units"):
        ip.effects(net, data["A"], [["h12", "l1"]], ip.value)


def test_a_tiny_total_effect_does_not_move_recovery():
    """One pair whose total effect is 1e-6 would ruin a mean of ratios."""
    module = nn.Linear(2, 1, bias=False).requires_grad_(False)
    module.weight.copy_(torch.tensor([[1.0, 1.0]]))
    base, source = torch.zeros(20, 2), torch.full((20, 2), 1.0)
    source[0] = torch.tensor([1.0, -1 + 2e-6])
    found = ip.effects(ip.Network(module), ip.Pairs(base, source), [":input[0]"], ip.value, tol=1e-9)
    assert found.recovery().estimate[0] == pytest.approx(0.5, abs=0.05)


def test_recovery_is_not_clipped():
    module = nn.Linear(2, 1, bias=False).requires_grad_(False)
    module.weight.copy_(torch.tensor([[3.0, -2.0]]))
    pairs = ip.Pairs(torch.zeros(9, 2), torch.arange(1.0, 10)[:, None].repeat(1, 2))
    found = ip.effects(ip.Network(module), pairs, [":input[0]", ":input[1]"], ip.value)
    assert found.recovery().estimate.tolist() == pytest.approx([3, -2])


def test_positions_are_spread_and_labelled_by_the_scan():
    net = ip.Network(seeded(Encoder))
    pairs = ip.Pairs(numbers(3, 4, 8), numbers(3, 4, 8, seed=1))
    each = [net.site("block", position="each"), net.site("block.norm1", position="each")]
    found = ip.scan(net, pairs, each, ip.value)
    assert found.data.nie.dims == ("pair", "layer", "position")
    assert found.data.layer.values.tolist() == ["block", "block.norm1"]
    assert found.nie.shape == (3, 8)
    alone = ip.effects(net, pairs, ["block[2, :]"], ip.value)
    np.testing.assert_allclose(found.nie[:, 2], alone.nie[:, 0])


def test_data_is_nan_where_nothing_was_measured(net, data):
    found = ip.scan(net, data["A"], [*net.neurons("l1"), *net.neurons("l3")], ip.value)
    grid = found.data.nie.values
    assert grid.shape == (50, 2, 3) and np.isnan(grid[:, 1, 1:]).all() and not np.isnan(grid[:, 0]).any()
    frame = found.to_frame()
    assert len(frame) == 50 * 6 and {"pair", "layer", "unit", "te", "nie", "int"} <= set(frame.columns)


def test_sites_that_cannot_change_are_exactly_zero_and_never_run(net, data):
    calls = []

    class Counting(ip.Network):
        def run(self, inputs, *, read=(), write=ip.network.NOTHING):
            calls.append(tuple(map(str, write)))
            return super().run(inputs, read=read, write=write)

    counted = Counting(adder.Adder(), inputs=adder.INPUTS, names=adder.NAMES, engine="full")
    found = ip.effects(counted, data["A"], ["h12", "h13", "h23"], ip.value)
    assert np.all(found.nie[:, 1:] == 0) and np.all(found.tie[:, 1:] == 0)
    swept = [write for write in calls if write][2:]  # the first two are the identity patches
    assert swept == [("h12",), ("h12",)]


def test_a_site_that_changes_in_some_pairs_is_measured_in_all(net):
    pairs = ip.Pairs([[1, 2, 3], [1, 2, 3]], [[4, 2, 3], [1, 5, 3]])
    found = ip.effects(net, pairs, ["h12", "h13"], ip.value)
    np.testing.assert_allclose(found.nie, [[3, 0], [0, 3]], atol=1e-5)
    np.testing.assert_allclose(found.tie, [[3, 0], [0, 3]], atol=1e-5)


@pytest.mark.parametrize("form", [torch.tensor, np.array, list])
def test_base_and_source_may_come_in_different_forms(net, form):
    """One pair, or one base, has no second base to see with whether rows mix: base and source are put together."""
    base, source = [[1, 2, 3]], [[4, 2, 3]]
    for pairs in (ip.Pairs(base, form(source)), ip.Pairs(form(base), source), ip.Pairs(form(base), form(source))):
        assert ip.effects(net, pairs, ["h12"], ip.value).nie.tolist() == [[pytest.approx(3, abs=1e-5)]]


# -- what is checked before anything is believed -----------------------------------------------------------


def test_dropout_left_on_is_an_error():
    net = ip.Network(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1)))
    pairs = ip.Pairs(torch.ones(4, 3), torch.zeros(4, 3))
    with pytest.raises(
        errors.NotRepeatable,
        match=re.escape("'1' is a Dropout in training mode: its output is random. Switch that off"),
    ):
        ip.effects(net, pairs, ["0"], ip.value)
    net.module.eval()
    ip.effects(net, pairs, ["0"], ip.value)


def test_rows_that_depend_on_their_neighbours_are_refused():
    net = ip.Network(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train())
    pairs = ip.Pairs(numbers(4, 3).float(), numbers(4, 3, seed=1).float())
    before = copy.deepcopy(net.module.state_dict())
    with pytest.raises(errors.NotRepeatable, match="'1' is a BatchNorm1d in training mode"):
        ip.effects(net, pairs, ["0"], ip.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.module.state_dict().items())


class Centred(nn.Module):
    """Every row less the mean of its batch: seen only where rows differ."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        hidden = self.first(x)
        return self.out(hidden - hidden.mean(0))


@pytest.mark.parametrize("base", [numbers(4, 3), numbers(1, 3).repeat(4, 1)])
def test_rows_that_are_compared_with_their_batch_are_refused_also_where_all_bases_are_equal(base):
    net = ip.Network(seeded(Centred))
    pairs = ip.Pairs(base, numbers(4, 3, seed=1))
    with pytest.raises(errors.NotRepeatable, match="the rows of a batch of Centred are not independent"):
        ip.effects(net, pairs, ["first"], ip.value)
    assert ip.effects(net, pairs, ["first"], ip.value, batch_size=1).nie.shape == (4, 1)


class TimeMajor(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.LSTM(3, 5), nn.Linear(5, 1)

    def forward(self, x):
        states, _ = self.cell(x.transpose(0, 1))
        return self.out(states[-1])[:, 0]


def test_a_first_axis_that_is_not_the_pair_is_refused_naming_the_site():
    net = ip.Network(TimeMajor())
    pairs = ip.Pairs(torch.randn(4, 6, 3, generator=torch.Generator()), torch.zeros(4, 6, 3))
    with pytest.raises(errors.NotRepeatable, match=re.escape("What cell:output.0 holds for two pairs, (6, 2, 5)")):
        ip.effects(net, pairs, ["cell:output.0"], ip.value)
    with pytest.raises((errors.NotRepeatable, errors.WrongShape)):
        ip.effects(net, pairs, ["cell:output.0[1, :]"], ip.value)


def test_the_noise_floor_raises_the_tolerance():
    class Jitter(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.calls = nn.Linear(2, 1), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x)[:, 0] + self.size * (self.calls % 2)

    net, pairs = ip.Network(Jitter()), ip.Pairs(torch.zeros(3, 2), torch.ones(3, 2))
    net.module.size = 3e-5  # some hundred steps of single precision: rounding
    found = ip.effects(net, pairs, ["linear"], ip.value, tol=1e-6)
    assert found.noise == pytest.approx(3e-5, rel=0.1) and found.tol == pytest.approx(3e-4, rel=0.1)
    net.module.size = 3e-3
    with pytest.raises(errors.NotRepeatable, match=re.escape("disagree, by 0.003. Something in it is random")):
        ip.effects(net, pairs, ["linear"], lambda output, those: (ip.value(output, those).abs() > 9).float())


def test_a_broken_cut_is_an_error():
    """A declared cut with a way round it: the patched output is not the source's."""

    class Round(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return (self.linear(x) + x).sum(-1)

    net = ip.Network(Round())
    pairs = ip.Pairs(torch.zeros(3, 2), torch.ones(3, 2))
    with pytest.raises(errors.BrokenCut, match="the middle was patched whole from the source, and 'value' is off by"):
        ip.scan(net, pairs, [net.site("linear", cut=("the middle", 1))], ip.value)
    plain, pairs = ip.Network(seeded(lambda: mlp(2, 3, 1))), ip.Pairs(numbers(3, 2), numbers(3, 2, seed=1))
    ip.scan(plain, pairs, [ip.Site("0", cut=("the middle", 1))], ip.value)


def test_a_part_of_a_cut_is_no_cut():
    net = ip.Network(seeded(Encoder))
    pairs = ip.Pairs(numbers(3, 4, 8), numbers(3, 4, 8, seed=1))
    whole = net.site("block", position="each", cut=("the block", 1))
    found = ip.scan(net, pairs, [whole], ip.value)
    assert found.places[0][0].cut == ("the block", 4)
    ip.scan(net, pairs, [group[0] for group in found.places[:2]], ip.value)


def test_a_tolerance_below_the_noise_is_refused():
    """Outputs of size 1e5 in single precision differ by more than 1e-3 from batch to batch."""

    class Rough(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 1)
            nn.init.ones_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

        def forward(self, x):
            return self.linear(x)[:, 0] + 0.01 * len(x)

    pairs = ip.Pairs(torch.zeros(3, 2), torch.ones(3, 2), targets=[0.0, 0.0, 0.0])
    with pytest.raises(errors.WrongMetric, match=re.escape("takes outputs within 0.001 as equal, but the same run")):
        ip.scan(ip.Network(Rough()), pairs, ["linear"], ip.matches)
    ip.scan(ip.Network(Rough()), pairs, ["linear"], ip.Matches(tol=0.2))


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda n, d: ip.effects(n, d["A"], [], ip.value), errors.WrongInput, "There are no places to measure."),
        (lambda n, d: ip.effects(n, d["A"][:0], ["h12"], ip.value), errors.WrongPairs, "There are no pairs to measure"),
        (
            lambda n, d: ip.scan(n, ip.Pairs([[1, 2, 3]], [[4, 2, 3]]), ["h12"], ip.matches),
            errors.WrongPairs,
            "targets",
        ),
        (lambda n, d: ip.scan(n, d["A"], ["h99"], ip.value), errors.UnknownPlace, "has no module 'h99'"),
    ],
)
def test_mistakes_come_before_the_first_forward_pass(data, act, kind, text):
    class Untouchable(adder.Adder):
        def forward(self, inputs):
            raise AssertionError("it ran")

    with pytest.raises(kind, match=re.escape(text)):
        act(ip.Network(Untouchable(), inputs=adder.INPUTS, names=adder.NAMES), data)


def test_unknown_options_are_refused(net, data):
    with pytest.raises(TypeError, match="batchsize"):
        ip.scan(net, data["A"], ["h12"], ip.value, batchsize=3)


def test_a_bar_is_shown_only_when_it_is_asked_for(net, data, capsys):
    ip.scan(net, data["A"], net.neurons("l1"), ip.value)
    assert capsys.readouterr() == ("", "")
    ip.scan(net, data["A"], net.neurons("l1"), ip.value, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "0/6" in shown.err


class Parts(ip.Network):
    """Sweeps that tell of progress in parts, too much of it or none, and of places from which nothing leads on."""

    def __init__(self, *args, ticks=(1.0,), unreachable=(), noise=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.ticks, self.work = ticks, Work(("parts",), 3, 7, 11.0, noise, frozenset(unreachable))

    def four_runs(self, base, source, places, *, metric):
        return None

    def sweep(self, inputs, writes, *, metric):
        scores = torch.stack([metric(self.run(inputs, write=write).output) for write in writes])
        for part in self.ticks:
            metric.tick(part)
        metric.record(self.work)
        return scores


def parts(**told):
    return Parts(adder.Adder(), inputs=adder.INPUTS, names=adder.NAMES, **told)


@pytest.mark.parametrize("ticks", [(), (0.25,) * 8, (1 / 3,) * 3, (2.0, 5.0)])
def test_ticks_add_up_to_the_bars_total_whatever_a_sweep_tells(data, monkeypatch, ticks):
    bars = []

    class Bar:
        def __init__(self, *, total, **_):
            self.total, self.n = total, 0.0
            bars.append(self)

        def update(self, n):
            assert n >= 0
            self.n += n

        def close(self):
            pass

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    ip.scan(parts(ticks=ticks), data["A"], ["h11", "h12", "h13"], ip.value, batch_size=20, progress=True)
    ip.scan(adder.network(), data["A"], ["h11", "h12", "h13"], ip.value, batch_size=20, progress=True)
    assert [bar.total for bar in bars] == [2 * 3 * 3] * 2
    assert [bar.n for bar in bars] == pytest.approx([18] * 2)


def test_a_bar_is_shown_in_terminals_and_notebooks_and_can_be_switched_off(data, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **asked):
            bars.append(asked["delay"])
            self.update = self.close = lambda *_: None

    def scan(progress):
        bars.clear()
        ip.scan(adder.network(), data["A"], ["h11", "h12"], ip.value, progress=progress)
        return list(bars)

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    assert (scan(None), scan(False), scan(True)) == ([], [], [0])  # tests have no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert (scan(None), scan(False), scan(True)) == ([1], [], [0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert (scan(None), scan(False)) == ([1], [])


def test_a_bar_counts_only_what_a_store_lacks(data, capsys, tmp_path):
    places = ["h11", "h12", "h13"]
    ip.scan(adder.network(), data["A"], places, ip.value, batch_size=20, store=tmp_path)
    next(tmp_path.glob("pairs-*")).unlink()
    ip.scan(adder.network(), data["A"], places, ip.value, batch_size=20, store=tmp_path, progress=True)
    assert "0/6 [" in capsys.readouterr().err


def test_a_bar_shows_whole_runs(data, capsys):
    ip.scan(parts(ticks=(1 / 3,)), data["A"], ["h11", "h12", "h13"], ip.value, batch_size=5, progress=True)
    assert "333" not in capsys.readouterr().err


def test_places_from_which_nothing_leads_to_the_metric_are_marked():
    """h13 holds the same in both inputs of the first pair; h11, h12 and h23 are written, and one is said to be lost."""
    pairs = ip.Pairs([[1, 2, 3]] * 2, [[4, 2, 3], [1, 5, 3]])
    found = ip.scan(parts(unreachable={1}), pairs, ["A", "C", "B", "h12"], ip.value, batch_size=2)
    assert found.status.tolist() == [
        ["measured", "unchanged", "unchanged", "measured"],
        ["unchanged", "unchanged", "unreachable", "unchanged"],
    ]
    grid = found.data.status
    assert grid.values.tolist() == found.status.tolist() and "unreachable" not in str(found.table())


def test_a_place_is_unreachable_only_if_it_is_from_both_inputs():
    class Once(Parts):
        def sweep(self, inputs, writes, *, metric):
            self.work = replace(self.work, unreachable=frozenset({0} if inputs[0][0] == 1 else {0, 1}))
            return super().sweep(inputs, writes, metric=metric)

    net = Once(adder.Adder(), inputs=adder.INPUTS, names=adder.NAMES)
    found = ip.effects(net, one([1, 2, 3], [4, 5, 6]), ["h11", "h12"], ip.value)
    assert found.status.tolist() == [["unreachable", "measured"]]


@pytest.mark.parametrize("stored", [True, False])
def test_the_work_of_checks_runs_and_sweeps_is_kept(data, tmp_path, stored):
    net, runs = parts(noise=1e-3), []
    original = net.run
    net.run = lambda inputs, **options: runs.append(len(inputs)) or original(inputs, **options)
    kept = {"store": tmp_path} if stored else {}
    found = ip.effects(net, data["A"], ["h12", "h22"], ip.value, batch_size=20, **kept)
    swept = 3 * 2  # batches, directions
    assert found.work.forwards == len(runs) - swept * 2 + swept * net.work.forwards
    assert found.work.mechanisms == ("parts",) and found.work.flops == swept * 11.0
    assert found.noise == 1e-3 and found.tol == 1e-2
    told = found.data.attrs
    assert (told["mechanisms"], told["forwards"], told["flops"]) == ("parts", found.work.forwards, 66.0)
    assert "parts" not in str(found.table()) and as_scan(found).work == found.work
    if stored:
        again = ip.effects(net, data["A"], ["h12", "h22"], ip.value, batch_size=20, **kept)
        assert again.work == found.work and again.noise == found.noise and (again.status == found.status).all()


# -- what aggregates are made of ---------------------------------------------------------------------------


def made(nie, tie, te, *, names=("p",), **kept):
    """Effects as if measured: NIE and TIE [pair, place], TE [pair]."""
    te, nie, tie = (np.asarray(values, float) for values in (te, nie, tie))
    pairs = ip.Pairs(list(range(len(te))), list(range(len(te))), **{"independent": True, **kept})
    return Effects(
        model="m",
        metric="value",
        binary=False,
        pairs=pairs,
        places=tuple((name,) for name in names),
        ybb=np.zeros(len(te)),
        yss=te,
        ybs=nie,
        ysb=te[:, None] - tie,
        response=np.ones_like(nie),
        tol=1e-3,
        noise=0.0,
    )


def test_a_place_mediates_if_either_direction_moves_it():
    """Removing an AND input is seen by TIE alone in one direction, adding it by NIE alone in the other."""
    zero, one = np.zeros((40, 1)), np.ones((40, 1))
    assert made(zero, one, np.ones(40)).hits().tolist() == one.tolist()
    assert made(one, zero, np.ones(40)).hits().tolist() == one.tolist()
    assert made(zero, one, np.ones(40)).verdicts() == made(one, zero, np.ones(40)).verdicts() == ("mediates",)
    assert not made(zero, zero, np.ones(40)).hits().any()


def test_errors_are_shared_among_all_the_places_of_a_table():
    """Six hits of 40 are enough for one place alone, and not for one of a hundred."""
    hits = np.zeros((40, 1))
    hits[:7] = 1
    alone = made(hits, 0 * hits, np.ones(40))
    others = np.hstack([hits, np.zeros((40, 99))])
    many = made(others, np.zeros((40, 100)), np.ones(40), names=tuple(map(str, range(100))))
    assert alone.verdicts() == ("mediates",) and set(many.verdicts()) == {"undetermined"}
    assert set(replace(alone, tests=100).verdicts()) == {"undetermined"}


def test_pairs_without_a_total_effect_leave_the_recovery_and_stay_in_the_hits():
    te = np.array([1.0] * 10 + [1e-4] * 10)
    nie = np.array([0.5] * 10 + [7.0] * 10)[:, None]
    found = made(nie, nie, te)
    assert found.recovery().estimate[0] == pytest.approx(0.5)
    assert found.hits().sum() == 20 and found.extent()[:, 0].tolist() == [0, 10, 0]


def test_the_extent_of_transfer_counts_every_pair_with_a_total_effect_once():
    te = np.array([2.0, 2.0, 2.0, 2.0, 0.0])
    nie = np.array([2.0, 2.0005, 1.0, 0.0005, 5.0])[:, None]
    assert made(nie, nie, te).extent()[:, 0].tolist() == [2, 1, 1]


def test_the_strongest_place_comes_first_and_the_column_restores_is_that_of_tie():
    found = as_scan(made([[0.2, 0.9, 0.0]] * 30, [[0.3, 0.8, 1.0]] * 30, [1.0] * 30, names="abc"))
    rows = found.table().rows
    assert [row[0] for row in rows] == ["c", "b", "a"] and [row[1] for row in rows] == ["0.00", "0.90", "0.20"]
    assert [row[3] for row in rows] == ["1.00", "0.80", "0.30"]
    assert found.mediators() == ("c", "b", "a")
    assert [row[0] for row in found.table(most=1).rows] == ["c"]
    assert "2 more places are in .data." in found.table(most=1).notes


def test_every_place_that_holds_the_same_in_base_and_source_is_marked(net):
    found = ip.effects(net, ip.Pairs([[1, 2, 3]] * 2, [[4, 2, 3], [1, 5, 3]]), ["h12", "h13"], ip.value)
    assert found.status.tolist() == [["measured", "unchanged"], ["unchanged", "measured"]]
    grid = ip.scan(net, adder.pairs()["A"], [*net.neurons("l1"), *net.neurons("l3")], ip.value).data.status
    assert grid.values[0].tolist() == [["measured", "measured", "unchanged"], ["measured", *["not measured"] * 2]]


def test_a_result_shows_its_table(net, data):
    for found in (ip.effects(net, data["A"], ["h12"], ip.value), ip.scan(net, data["A"], ["h12"], ip.matches)):
        assert repr(found) == str(found.table()) and found._repr_html_().startswith("<table><caption>")


@pytest.mark.parametrize("places", ["h12", {"h12": 3.0}, ip.Site("l1", units=1)])
@pytest.mark.parametrize("act", [ip.effects, ip.scan])
def test_a_single_place_or_values_beside_places_are_refused(net, data, act, places):
    with pytest.raises(errors.WrongInput, match=r"places is one place|places come without values"):
        act(net, data["A"], places, ip.value)


def test_a_batch_holds_at_least_one_pair(net, data):
    with pytest.raises(errors.WrongInput, match="batch_size=0: pairs are run by whole numbers of them"):
        ip.effects(net, data["A"], ["h12"], ip.value, batch_size=0)


def test_a_metric_is_a_function(net, data):
    for wrong in ("matches", ip.Matches):
        with pytest.raises(errors.WrongMetric, match=r"is no metric. A metric is a function"):
            ip.effects(net, data["A"], ["h12"], wrong)


def test_pairs_that_show_nothing_are_no_evidence_of_no_mediation(net):
    """Base equal to source: nothing can move, which says nothing about the places."""
    rows = [[a, 2, 3] for a in range(10)] * 20
    same = ip.effects(net, ip.Pairs(rows, rows, independent=True), ["h12", "h13"], ip.value)
    assert same.verdicts() == ("undetermined",) * 2
    assert same.verdicts(delta=0.1) == ("does not mediate",) * 2
    assert any("The usual pair has no total effect: give delta" in note for note in same.notes())
    few = made(np.eye(200)[:, :1], np.zeros((200, 1)), np.eye(200)[0])
    assert few.verdicts() == ("undetermined",)
    many = made(np.ones((200, 1)), np.ones((200, 1)), np.zeros(200))
    assert many.verdicts() == ("mediates",)


def test_the_unit_of_a_verdict_is_the_base():
    """Twenty bases, each with one pair in a hundred that is moved: every base is a hit."""
    nie = np.zeros((2000, 1))
    nie[::100] = 1
    bases = [i // 100 for i in range(2000)]
    found = made(nie, nie, np.ones(2000), independent=False)
    clustered = replace(found, pairs=ip.Pairs(bases, list(range(2000))))
    assert found.verdicts() == ("does not mediate",) and clustered.verdicts() == ("mediates",)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_counts_as_no_difference_follows_the_scale_of_the_metric(scale):
    net = ip.Network(seeded(lambda: mlp(3, 4, 1)))
    pairs = ip.Pairs(numbers(40, 3), numbers(40, 3, seed=1), independent=True)
    sizes = []
    for factor in (1.0, scale):
        found = ip.scan(
            net, pairs, net.neurons(), lambda output, those, factor=factor: factor * ip.value(output, those)
        )
        assert found.tol == pytest.approx(1e-3 * np.median(np.abs(found.te)), rel=0.2)
        sizes.append((found.verdicts(), found.transfer().method, found.extent().tolist()))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (
            lambda n, d: ip.scan(n.module, d["A"], ["h12"], ip.value),
            errors.WrongInput,
            "Adder is no model. Give a Network",
        ),
        (lambda n, d: ip.effects(d["A"], n, ["h12"], ip.value), errors.WrongInput, "Pairs is no model."),
        (lambda n, d: ip.effects(n, d, ["h12"], ip.value), errors.WrongPairs, "dict is no Pairs."),
        (lambda n, d: ip.scan(n, {"A": [1, 2]}, ["h12"], ip.value), errors.WrongPairs, "list is no Pairs."),
        (lambda n, d: ip.scan(n, {}, ["h12"], ip.value), errors.WrongPairs, "the dict of them is empty"),
        (lambda n, d: ip.scan(n, d["A"], ["h12"], lambda output: output), errors.WrongMetric, "too many positional"),
        (lambda n, d: n.run([1, 2, 3], read="h12"), errors.WrongInput, "read is one place, 'h12'. Give a list of them"),
        (
            lambda n, d: adder.hypothesis().run({"A": 1, "B": 2, "C": 3}, read="A"),
            errors.WrongInput,
            "read is one place",
        ),
        (lambda n, d: n.run([1, 2, 3], write={"h12": "x"}), errors.BadIntervention, "'x' is no value for a tensor."),
        (lambda n, d: n.run([1, 2, 3], read=["L1[0]"]), errors.UnknownPlace, "Did you mean 'l1'?"),
    ],
)
def test_what_is_put_in_the_wrong_place_is_named(net, data, act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act(net, data)


def test_a_metric_may_ask_for_any_part_of_the_pairs(net, data):
    for part in ("tokens", "labels"):
        metric = lambda output, pairs: ip.value(output, pairs)
        metric.needs = (part,)
        with pytest.raises(errors.WrongPairs, match=f"needs {part}, and these pairs carry none"):
            ip.effects(net, data["A"], ["h12"], metric)
