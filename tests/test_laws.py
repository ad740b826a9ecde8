"""The laws that every model, site and intervention obeys, on random networks of every shape."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import interpose as ip
from interpose.featurizers import NEURONS, Featurizer
from interpose.sites import Site, parse

from known import AND, OR, SUBJECTS, XOR, backup, mlp, numbers, opposed, seeded

CASES = [pytest.param(subject, site, id=f"{subject.name}-{site}") for subject in SUBJECTS for site in subject.sites]
seeds = st.integers(0, 10_000)


# -- lens laws ---------------------------------------------------------------------------------------

indices = st.one_of(st.none(), st.integers(0, 3), st.sets(st.integers(0, 3)).map(lambda units: tuple(sorted(units))))
positions = st.one_of(st.none(), st.integers(-3, 2), st.just((0, 2)), st.just((-1,)), st.just("each"))
lenses = st.one_of(
    st.builds(Site, st.just("m"), units=indices, position=positions, unit_axis=st.sampled_from([None, -1])),
    st.builds(Site, st.just("m"), units=indices, position=positions, unit_axis=st.just(-2)),
    st.builds(Site, st.just("m"), units=indices, unit_axis=st.just(-3)),
)


def activation(site, seed):
    """A tensor that the lens fits: 4 units on its axis, 3 positions on the one before or behind."""
    return numbers(*{None: (2, 3, 4), -1: (2, 3, 4), -2: (2, 4, 3), -3: (2, 4, 3, 5)}[site.unit_axis], seed=seed)


@given(lenses, seeds)
def test_setting_what_you_got_changes_nothing(site, seed):
    x = activation(site, seed)
    assert torch.equal(site.set(x, site.get(x)), x)


@given(lenses, seeds)
def test_you_get_what_you_set(site, seed):
    x = activation(site, seed)
    value = numbers(*site.get(x).shape, seed=seed + 1)
    assert torch.equal(site.get(site.set(x, value)), value)


@given(lenses, seeds)
def test_the_last_set_wins(site, seed):
    x = activation(site, seed)
    shape = site.get(x).shape
    a, b = numbers(*shape, seed=seed + 1), numbers(*shape, seed=seed + 2)
    assert torch.equal(site.set(site.set(x, a), b), site.set(x, b))


@given(lenses, seeds)
def test_a_set_leaves_everything_else_bit_identical_and_the_original_untouched(site, seed):
    x = activation(site, seed)
    before = x.clone()
    after = site.set(x, site.get(x) + 1)
    assert torch.equal(x, before)
    assert int((after != x).sum()) == site.get(x).numel()


@given(lenses)
def test_a_spelling_names_its_site(site):
    assert parse(site.spelling) == site


@pytest.mark.parametrize("featurizer", [NEURONS])
def test_every_featurizer_comes_back(featurizer):
    assert isinstance(featurizer, Featurizer)
    x = numbers(2, 3, 4)
    assert torch.equal(featurizer.decode(*featurizer.encode(x)), x)


# -- laws of a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_writing_what_was_read_changes_no_output(subject, site):
    net, inputs = subject.network(), subject.inputs(3)
    run = net.run(inputs, read=[site])
    assert torch.equal(net.run(inputs, write={site: run[site]}).output, run.output)


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_a_place_that_is_written_reads_what_was_written(subject, site):
    net, inputs = subject.network(), subject.inputs(3)
    value = numbers(*net.run(inputs, read=[site])[site].shape, seed=1)
    run = net.run(inputs, read=[site], write={site: value})
    assert torch.equal(run[site], value)
    (entry,) = run.ledger
    assert (entry.fired, entry.touched, entry.size) == (1, value.numel(), value.numel())


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_the_last_of_a_chain_wins(subject, site):
    net, inputs = subject.network(), subject.inputs(3)
    shape = net.run(inputs, read=[site])[site].shape
    a, b = numbers(*shape, seed=1), numbers(*shape, seed=2)
    chained = net.run(inputs, write={site: ip.Chain(ip.Set(a), ip.Set(b))}).output
    assert torch.equal(chained, net.run(inputs, write={site: b}).output)


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_batching_changes_nothing(subject, site):
    net, base, source = subject.network(), subject.inputs(5), subject.inputs(5, seed=1)
    together = ip.interchange(net, base, {site: source}).output
    pairs = ip.Pairs(base, source)
    alone = [ip.interchange(net, pairs[[i]].base, {site: pairs[[i]].source}).output for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_an_interchange_from_the_base_itself_has_no_effect(subject, site):
    net, pairs = subject.network(), ip.Pairs(subject.inputs(4), subject.inputs(4))
    found = ip.effects(net, pairs, [site], ip.value)
    for name in ("te", "nie", "tie", "nde", "tde", "int"):
        assert np.all(found.values(name) == 0), name


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_effects_add_up(subject, site):
    net, pairs = subject.network(), ip.Pairs(subject.inputs(6), subject.inputs(6, seed=1))
    found = ip.effects(net, pairs, [site], ip.value)
    te = found.te[:, None]
    np.testing.assert_allclose(found.nde + found.tie - te, 0, atol=1e-9)
    np.testing.assert_allclose(found.tde + found.nie - te, 0, atol=1e-9)
    np.testing.assert_allclose(found.interaction - (te - found.nde - found.nie), 0, atol=1e-9)
    np.testing.assert_allclose(found.interaction - (found.tde - found.nde), 0, atol=1e-9)


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_swapping_base_and_source_exchanges_the_effects(subject, site):
    net, pairs = subject.network(), ip.Pairs(subject.inputs(4), subject.inputs(4, seed=1))
    there, back = (ip.effects(net, those, [site], ip.value) for those in (pairs, pairs.swapped()))
    np.testing.assert_allclose(there.nie, -back.tie, atol=1e-9)
    np.testing.assert_allclose(there.nde, -back.tde, atol=1e-9)
    np.testing.assert_allclose(there.te, -back.te, atol=1e-9)


@pytest.mark.parametrize(("subject", "site"), CASES)
def test_four_runs_are_the_four_runs_one_pair_at_a_time(subject, site):
    """The oracle: plain runs, one pair and one write at a time."""
    net, pairs = subject.network(), ip.Pairs(subject.inputs(4), subject.inputs(4, seed=1))
    found = ip.effects(net, pairs, [site], ip.value, batch_size=3)
    for i in range(4):
        one = pairs[[i]]
        base, source = net.run(one.base, read=[site]), net.run(one.source, read=[site])
        expected = (
            base.output,
            source.output,
            net.run(one.base, write={site: source[site]}).output,
            net.run(one.source, write={site: base[site]}).output,
        )
        measured = (found.ybb[i], found.yss[i], found.ybs[i, 0], found.ysb[i, 0])
        np.testing.assert_allclose(measured, [y.item() for y in expected], atol=1e-9)


# -- laws on random networks ---------------------------------------------------------------------------


@given(seeds, st.lists(st.integers(2, 5), min_size=1, max_size=3))
def test_a_complete_cut_gives_the_sources_output(seed, widths):
    net = ip.Network(seeded(lambda: mlp(3, *widths, 1), seed))
    pairs = ip.Pairs(numbers(5, 3, seed=seed), numbers(5, 3, seed=seed + 1))
    layers = [str(2 * k) for k in range(len(widths))]
    units = [[f"{layer}[{u}]" for u in range(width)] for layer, width in zip(layers, widths, strict=True)]
    found = ip.effects(net, pairs, [*layers, *units], ip.value)
    np.testing.assert_allclose(found.ybs, np.broadcast_to(found.yss[:, None], found.ybs.shape), atol=1e-9)
    np.testing.assert_allclose(found.nde, 0, atol=1e-9)
    np.testing.assert_allclose(found.tde, 0, atol=1e-9)


@given(seeds)
def test_in_an_affine_network_nothing_interacts_and_units_of_a_cut_add_up(seed):
    net = ip.Network(seeded(lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)), seed))
    pairs = ip.Pairs(numbers(5, 3, seed=seed), numbers(5, 3, seed=seed + 1))
    found = ip.effects(net, pairs, net.neurons("0"), ip.value)
    np.testing.assert_allclose(found.interaction, 0, atol=1e-9)
    np.testing.assert_allclose(found.nie.sum(1), found.te, atol=1e-9)


@given(seeds, st.permutations(range(6)), st.permutations(range(5)), st.integers(1, 7))
def test_permuting_pairs_or_sites_permutes_results_and_batch_size_changes_none(seed, pairs_order, sites_order, size):
    net = ip.Network(seeded(lambda: mlp(3, 3, 2, 1), seed))
    pairs = ip.Pairs(numbers(6, 3, seed=seed), numbers(6, 3, seed=seed + 1))
    sites = net.neurons("0", "2")
    plain = ip.scan(net, pairs, sites, ip.value)
    mixed = ip.scan(net, pairs[pairs_order], [sites[j] for j in sites_order], ip.value, batch_size=size)
    for name in ("ybs", "ysb", "nie", "tie"):
        expected = plain.values(name)[np.ix_(pairs_order, sites_order)]
        np.testing.assert_allclose(mixed.values(name), expected, atol=1e-12)
    assert np.array_equal(plain.data.nie.isel(pair=pairs_order).values.round(9), mixed.data.nie.values.round(9), True)


@given(seeds, st.floats(0.1, 5), st.floats(-3, 3), st.integers(0, 3))
def test_reencoding_a_neuron_changes_no_interchange_effect(seed, a, c, unit):
    module = seeded(lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)), seed)
    pairs = ip.Pairs(numbers(4, 3, seed=seed), numbers(4, 3, seed=seed + 1))
    before = ip.effects(ip.Network(module), pairs, [f"0[{unit}]"], ip.value)
    with torch.no_grad():
        module[0].weight[unit] *= a
        module[0].bias[unit] = a * module[0].bias[unit] + c
        module[1].bias -= module[1].weight[0, unit] * c / a
        module[1].weight[0, unit] /= a
    after = ip.effects(ip.Network(module), pairs, [f"0[{unit}]"], ip.value)
    np.testing.assert_allclose(before.nie, after.nie, atol=1e-9)
    np.testing.assert_allclose(before.tie, after.tie, atol=1e-9)


@given(seeds, st.floats(0.5, 4), st.floats(-3, 3))
def test_recovery_does_not_depend_on_the_scale_of_the_outcome(seed, p, q):
    net = ip.Network(seeded(lambda: mlp(3, 3, 1), seed))
    pairs = ip.Pairs(numbers(9, 3, seed=seed), numbers(9, 3, seed=seed + 1))
    plain = ip.effects(net, pairs, ["0[1]"], ip.value, tol=1e-12)
    scaled = ip.effects(net, pairs, ["0[1]"], lambda output, those: p * ip.value(output, those) + q, tol=1e-12)
    np.testing.assert_allclose(scaled.nie, p * plain.nie, atol=1e-9)
    np.testing.assert_allclose(scaled.recovery().estimate, plain.recovery().estimate, atol=1e-6)


# -- laws of causal models -----------------------------------------------------------------------------


@st.composite
def causal_models(draw):
    """Random integer models: two or three inputs, up to four computed variables, any shape."""
    names = ["A", "B", "C"][: draw(st.integers(2, 3))]
    variables = {name: ip.Variable(range(3)) for name in names}
    for k in range(draw(st.integers(1, 4))):
        parents = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        weights = draw(st.tuples(*[st.integers(-2, 2) for _ in parents]))
        modulus = draw(st.sampled_from([0, 2, 5]))

        def mechanism(*values, weights=weights, modulus=modulus):
            total = sum(w * v for w, v in zip(weights, values, strict=True))
            return total % modulus if modulus else total + 0

        name = f"V{k}"
        variables[name] = ip.Variable(mechanism, parents=parents)
        names = [*names, name]
    return ip.CausalModel(variables)


@given(causal_models(), seeds)
def test_a_model_is_an_abstraction_of_itself(model, seed):
    claim = ip.Alignment(model, {name: name for name in model.variables})
    accuracy = ip.interchange_accuracy(model, claim, n=20, seed=seed, tol=0.1)
    assert accuracy.score == accuracy.ceiling == accuracy.accuracy == 1.0
    assert accuracy.failures() == []


@given(causal_models(), seeds)
def test_a_causal_model_obeys_the_laws_of_runs_and_effects(model, seed):
    pairs = ip.Pairs.sample(model, n=7, seed=seed)
    for name in model.variables:
        run = model.run(pairs.base, read=[name])
        again = model.run(pairs.base, write={name: run[name]})
        assert all(list(again[other]) == list(run[other]) for other in model.variables)
    if len(model.outputs) == 1:
        found = ip.effects(model, pairs, list(model.variables), ip.value)
        assert np.all(found.nde + found.tie == found.te[:, None])
        assert np.all(found.tde + found.nie == found.te[:, None])


@given(causal_models(), seeds)
def test_a_data_set_at_once_is_its_rows_one_by_one(model, seed):
    rows = model.sample(200, seed=seed)
    columns = {name: np.array([row[name] for row in rows]) for name in model.inputs}
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    singles = [model.run(row).values for row in rows]
    for given_as in (rows, columns, tensors):
        together = model.run(given_as).values
        for name in model.variables:
            assert list(np.asarray(together[name])) == [single[name] for single in singles]


# -- gates: both directions see both kinds --------------------------------------------------------------


def _directions(model, varies, place):
    pairs = ip.Pairs.varying(model, varies)
    found = ip.effects(model, pairs, [place], ip.value)
    return np.abs(found.nie).max(), np.abs(found.tie).max()


@pytest.mark.parametrize("model", [AND, OR, XOR])
def test_a_gate_has_mediators_in_both_directions(model):
    assert _directions(model, "P", "p") == (1.0, 1.0)
    assert ip.scan(model, ip.Pairs.varying(model, "P"), ["p", "q"], ip.value).mediators() == ("p",)


def test_a_backup_hides_from_one_direction_only():
    """Turning A on: either copy restores nothing when removed, yet either alone suffices."""
    model = backup()
    pairs = ip.Pairs([{"A": 0}], [{"A": 1}], varies="A")
    found = ip.effects(model, pairs, ["a", ["a", "b"]], ip.value)
    assert found.nie.tolist() == [[1, 1]] and found.tie.tolist() == [[0, 1]]
    back = ip.effects(model, pairs.swapped(), ["a", ["a", "b"]], ip.value)
    assert back.nie.tolist() == [[0, -1]] and back.tie.tolist() == [[-1, -1]]
    both = ip.effects(model, ip.Pairs.varying(model, "A"), ["a", "b"], ip.value)
    assert both.verdicts() == ("mediates", "mediates")


def test_cancelling_paths_are_alive_without_a_total_effect():
    model = opposed()
    found = ip.effects(model, ip.Pairs.varying(model, "A"), ["up", "down"], ip.value)
    assert np.all(found.te == 0) and np.all(np.abs(found.nie).min(0) > 0)
    assert found.verdicts() == ("mediates", "mediates")
    assert np.isnan(found.recovery().estimate).all() and found.recovery().method == ("undefined", "undefined")


def test_every_gate_behaves_the_same_under_every_assignment():
    for (p, q), (p2, q2) in itertools.product(itertools.product((0, 1), repeat=2), repeat=2):
        run = ip.interchange(AND, {"P": p, "Q": q}, {"p": {"P": p2, "Q": q2}})
        assert run.output == p2 * q
