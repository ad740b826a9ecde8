"""Chance by mismatched pairs: exact on small tables, uniform where nothing is there, and what is corrected for it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpose import errors
from interpose.statistics import Chance, Resampling, drawn, mismatched, p_among

from samples import covered


def table(seed, pairs=40, classes=3, carries=0.6):
    """matches[source, base] of a site that carries the source's class in some bases, and in others nothing."""
    rng = np.random.default_rng(seed)
    base, source = rng.integers(0, classes, (2, pairs))
    open_bases = rng.random(pairs) < carries
    return np.where(open_bases, source[:, None], base) == source[None, :]


@pytest.mark.parametrize("seed", range(3))
def test_all_orders_of_a_small_table_are_the_null(seed):
    """p is (1 + orders that score at least as much) / (1 + orders), of random orders: 5 of 5! to Monte-Carlo error."""
    matches = np.random.default_rng(seed).random((5, 5)) < 0.5
    matches[np.arange(5), np.arange(5)] = [1, 1, 0, 1, 1]
    scores = [matches[list(order), np.arange(5)].mean() for order in itertools.permutations(range(5))]
    found = mismatched(matches, draws=20_000)
    assert found.accuracy[0] == 0.8 and found.chance[0] == pytest.approx(matches.mean())
    assert found.chance[0] == pytest.approx(np.mean(scores))
    assert found.p[0] == pytest.approx(np.mean(np.array(scores) >= 0.8), abs=0.012)


def test_p_is_never_zero_and_counts_ties():
    assert p_among([1.0], np.zeros((999, 1)))[0] == 0.001
    assert p_among([0.3], np.full((9, 1), 0.1 + 0.2))[0] == 1.0
    assert p_among([0.1 + 0.2], np.full((9, 1), 0.3))[0] == 1.0
    np.testing.assert_allclose(p_among([5, 1], [[1, 2], [3, 0], [6, 1]]), [0.5, 0.75])
    perfect = mismatched(np.eye(30), draws=499)
    assert perfect.p[0] == 1 / 500 and perfect.accuracy[0] == 1 and perfect.chance[0] == pytest.approx(1 / 30)


def test_p_is_uniform_where_sources_say_nothing():
    """2,000 tables at once in groups of columns; Monte-Carlo error 0.5 % at 5 %."""
    rng = np.random.default_rng(0)
    p = []
    for seed in range(40):
        said, target = rng.integers(0, 3, (2, 40, 50))
        p.extend(mismatched(said[:, None] == target[None], draws=299, seed=seed).p)
    p = np.array(p)
    for level in (0.05, 0.1, 0.3, 0.6):
        assert (p <= level).mean() <= level + 0.012
    assert (p <= 0.6).mean() >= 0.45


def test_shuffled_pairs_score_chance():
    matches = table(0, pairs=200)
    order = np.random.default_rng(1).permutation(200)
    right, shuffled = mismatched(matches, draws=999), mismatched(matches[order], draws=999)
    assert right.p[0] == 0.001 and right.accuracy[0] > 0.65
    assert shuffled.p[0] > 0.05 and abs(shuffled.accuracy[0] - shuffled.chance[0]) < 0.07
    assert shuffled.chance[0] == pytest.approx(right.chance[0])


def test_a_site_that_always_gives_the_same_is_at_chance_however_often_it_is_right():
    target = np.random.default_rng(0).random(60) < 0.9
    matches = np.broadcast_to(target, (60, 60))
    found = mismatched(matches, draws=99)
    assert found.chance[0] == pytest.approx(target.mean()) == found.accuracy[0] and found.p[0] == 1
    corrected = found.corrected(Resampling(np.arange(60)))
    assert corrected.estimate[0] == pytest.approx(0)


def test_chance_is_as_uncertain_as_the_sources_are():
    """Where a match depends on the source alone, chance is the mean of n sources."""
    said = np.random.default_rng(0).random(60) < 0.4
    found = mismatched(np.broadcast_to(said[:, None], (60, 60)), draws=9)
    resampling = Resampling(np.arange(60))
    chance, sources = resampling.ratio(found.shuffled), resampling.ratio(said)
    np.testing.assert_allclose([chance.low, chance.high], [sources.low, sources.high])


# -- clusters and strata ---------------------------------------------------------------------------


def test_sources_stay_within_their_stratum():
    strata = np.repeat(["a", "b"], 20)
    same = strata[:, None] == strata[None, :]
    found = mismatched(same, strata=strata, draws=99)
    assert found.chance[0] == 1 and found.p[0] == 1
    assert mismatched(same, draws=99).chance[0] == 0.5


def test_whole_clusters_change_places_with_clusters_of_their_size():
    clusters = np.array([7, 7, 7, 2, 2, 2, 5, 5, 9])
    member = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0])
    size = np.array([3, 3, 3, 3, 3, 3, 2, 2, 1])
    allowed = (member[:, None] == member) & (size[:, None] == size)
    found = mismatched(allowed, clusters=clusters, draws=99)
    assert found.chance[0] == 1 and found.p[0] == 1
    assert mismatched(~allowed, clusters=clusters, draws=99).chance[0] == 0
    lone = mismatched(np.ones((3, 3)), clusters=[1, 1, 2])
    assert np.isnan(lone.p[0]) and lone.reason == "no two clusters can change places"


def test_copies_of_pairs_do_not_make_a_site_significant():
    """Sources that say nothing, each base six times: 600 tables, Monte-Carlo error of 5 % is 0.9 %."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(8), 6)
    blind, aware = [], []
    for seed in range(600):
        said, target = rng.integers(0, 2, (2, 8))[:, clusters]
        matches = said[:, None] == target[None]
        blind.append(mismatched(matches, draws=99, seed=seed).p[0])
        aware.append(mismatched(matches, draws=99, seed=seed, clusters=clusters).p[0])
    assert np.mean(np.array(aware) <= 0.05) <= 0.06 and np.mean(np.array(blind) <= 0.05) > 0.2


@given(st.integers(0, 10**6))
def test_the_order_of_pairs_changes_neither_chance_nor_its_interval(seed):
    rng = np.random.default_rng(seed)
    matches, clusters, order = rng.random((12, 12, 2)) < 0.4, rng.integers(0, 5, 12), rng.permutation(12)
    one, other = mismatched(matches, draws=9), mismatched(matches[order][:, order], draws=9)
    np.testing.assert_allclose(other.chance, one.chance)
    np.testing.assert_allclose(other.shuffled, one.shuffled[order], atol=1e-12)
    left = one.corrected(Resampling(clusters, resamples=99))
    right = other.corrected(Resampling(clusters[order], resamples=99))
    np.testing.assert_allclose(right.low, left.low, atol=1e-12)
    assert right.method == left.method


# -- corrected accuracy ----------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [30, 100])
def test_the_corrected_interval_covers_the_share_of_open_bases(pairs):
    """A site open in 60 % of bases has corrected accuracy .6; 400 tables, Monte-Carlo error 1.1 %."""
    hits = []
    for seed in range(400):
        found = mismatched(table(seed, pairs=pairs), draws=1)
        hits.append(covered(found.corrected(Resampling(np.arange(pairs), resamples=499, seed=seed)), 0.6))
    assert 0.92 <= np.mean(hits) <= 0.985


def test_perfect_and_worthless_sites_are_one_and_nothing():
    perfect = mismatched(table(0, carries=1.0), draws=9).corrected(Resampling(np.arange(40)))
    assert perfect.estimate[0] == pytest.approx(1) and perfect.method == ("constant",)
    always = mismatched(np.ones((40, 40)), draws=9).corrected(Resampling(np.arange(40)))
    assert always.method == ("undefined",) and always.reason == ("the denominator is zero",)


def test_drawn_orders_say_what_the_whole_table_says():
    matches = table(3)[:, :, None]
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(40) for _ in range(4000)])
    shuffled = matches[orders, np.arange(40)]
    some, whole = drawn(matches[np.arange(40), np.arange(40)], shuffled), mismatched(matches, draws=4000)
    np.testing.assert_allclose(some.chance, whole.chance, atol=0.005)
    np.testing.assert_allclose(some.p, whole.p, atol=0.01)
    assert some.draws == 4000 and isinstance(some, Chance)
    flat = drawn(matches[np.arange(40), np.arange(40), 0], shuffled[:, :, 0])
    np.testing.assert_array_equal(flat.p, some.p)
    resampling = Resampling(np.arange(40))
    np.testing.assert_allclose(some.corrected(resampling).estimate, whole.corrected(resampling).estimate, atol=0.01)


def test_seeds_repeat_and_blocks_of_draws_change_nothing(monkeypatch):
    matches = np.random.default_rng(0).random((20, 20, 3)) < 0.5
    one = mismatched(matches, draws=200, seed=4).p
    np.testing.assert_array_equal(mismatched(matches, draws=200, seed=np.random.default_rng(4)).p, one)
    monkeypatch.setattr("interpose.statistics.permutation.AT_ONCE", 700)
    np.testing.assert_array_equal(mismatched(matches, draws=200, seed=4).p, one)


def test_nothing_to_shuffle_has_a_reason():
    empty = mismatched(np.zeros((0, 0, 2)))
    assert empty.reason == "there are no pairs" and np.isnan([*empty.p, *empty.chance, *empty.accuracy]).all()
    assert drawn([1, 0], np.zeros((0, 2))).reason == "nothing was shuffled"
    assert np.isnan(drawn([1, 0], np.zeros((0, 2))).chance).all()


def test_tables_that_cannot_be_are_refused():
    with pytest.raises(errors.WrongShape, match=r"matches has shape \(3, 4\)"):
        mismatched(np.ones((3, 4)))
    with pytest.raises(errors.WrongShape, match="one entry a pair"):
        mismatched(np.ones((3, 3)), clusters=[1, 2])
    with pytest.raises(errors.WrongNumbers, match="in several strata"):
        mismatched(np.ones((3, 3)), clusters=[1, 1, 2], strata=[1, 2, 2])
    with pytest.raises(errors.WrongShape, match=r"shuffled has shape \(5, 3\)"):
        drawn([1, 0], np.ones((5, 3)))
