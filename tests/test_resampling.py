"""Resampling: what is left out, refused or exact, which method an interval has, and what it costs."""

import tracemalloc

import numpy as np
import pytest
import scipy.stats

from interpose import errors
from interpose.statistics import Resampling, ratios, weights

from samples import METHODS, covered, limits, same, some_pairs, width

# -- pairs left out, few pairs, no pairs -----------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_pairs_left_out_keep_the_weights_of_the_others(method):
    te, nie, clusters = some_pairs()
    kept = np.random.default_rng(1).random(40) < 0.6
    resampling = Resampling(clusters, resamples=199)
    left = resampling.ratio(nie, np.abs(te), kept=kept, method=method)
    zeroed = resampling.ratio(np.where(kept[:, None], nie, 0), np.where(kept[:, None], np.abs(te), 0), method=method)
    same(left, zeroed)
    by_column = resampling.ratio(nie, np.abs(te), kept=np.tile(kept[:, None], 3), method=method)
    same(left, by_column)
    np.testing.assert_allclose(left.estimate, ratios(nie[kept], np.abs(te)[kept], clusters[kept]).estimate)
    mean = resampling.ratio(np.where(kept[:, None], nie, np.nan), kept=kept, method=method)
    np.testing.assert_allclose(mean.estimate, nie[kept].mean(0))


def test_clusters_without_a_pair_that_counts_are_no_evidence():
    _, nie, clusters = some_pairs(pairs=60, clusters=20)
    kept = clusters < 8
    left = Resampling(clusters).ratio(nie, kept=kept, method="t")
    had = Resampling(clusters[kept]).ratio(nie[kept], method="t")
    same(left, had)
    assert left.clusters.tolist() == [8] * 3
    one = Resampling(clusters).ratio(nie, kept=clusters == 3)
    assert one.method == ("one cluster",) * 3 and one.clusters.tolist() == [1] * 3


@pytest.mark.parametrize("method", [None, *METHODS])
def test_no_pairs_and_one_pair_have_reasons(method):
    for pairs, reason in ((0, "there are no pairs"), (1, "one pair says nothing of how others differ")):
        found = Resampling(np.arange(pairs)).ratio(np.ones((pairs, 2)), method=method)
        assert found.reason == (reason,) * 2 and np.isnan(limits(found)).all()
        assert (found.estimate == 1).all() if pairs else np.isnan(found.estimate).all()
    nothing = Resampling(np.arange(9)).ratio(np.ones((9, 2)), kept=np.zeros(9), method=method)
    assert nothing.reason == ("there are no pairs",) * 2 and np.isnan(nothing.estimate).all()
    assert len(Resampling(np.arange(9)).ratio(np.ones((9, 0)), method=method)) == 0


@pytest.mark.parametrize("value", [0.0, 0.1, 3.0, -1e9, 1e-9])
@pytest.mark.parametrize("method", METHODS)
def test_constant_data_has_a_bound_instead_of_an_interval(value, method):
    resampling = Resampling(np.arange(50), resamples=99)
    x = np.random.default_rng(0).normal(size=50)
    cases = [resampling.ratio(np.full(50, value), method=method), resampling.ratio(value * x**2, x**2, method=method)]
    if value:
        cases.append(resampling.slope(x, value * x, method=method))
    for found in cases:
        assert found.method == ("constant",) and np.isnan(limits(found)).all()
        assert found.estimate[0] == pytest.approx(value) and found.share[0] == pytest.approx(0.05**0.02)
    explained = resampling.r_squared(x, (value or 1) * x)
    assert explained.method == ("constant",) and explained.estimate[0] == pytest.approx(1)


def test_clusters_that_are_alike_are_constant_though_their_pairs_are_not():
    found = Resampling(np.arange(40) // 2).ratio(np.tile([0.1, -0.1], 20))
    assert found.method == ("constant",) and found.reason == ("all 20 clusters show the same",)


def test_what_is_equal_within_tolerance_is_constant():
    x = 1 + 1e-4 * np.random.default_rng(0).normal(size=50)
    resampling = Resampling(np.arange(50))
    assert resampling.ratio(x, tol=1e-3).method == ("constant",)
    assert resampling.ratio(x, tol=1e-6).method == ("bca",)
    for size in (0.01, 1, 100):
        assert resampling.slope(np.full(50, size), x, tol=1e-3).method == ("constant",)
        assert resampling.slope(np.full(50, size), x, tol=1e-6).method == ("bca",)
    assert resampling.difference(x, 2 * x, tol=1e-3).method == ("constant",)
    assert resampling.of([x, np.ones(50)], lambda a, n: a / n, tol=1e-3).method == ("constant",)


def test_a_denominator_that_cannot_be_told_from_zero_is_refused():
    rng = np.random.default_rng(0)
    top, bottom = rng.normal(size=(40, 2)), rng.normal([0.01, 3], 1, size=(40, 2))
    resampling = Resampling(np.arange(40))
    found = resampling.ratio(top, bottom)
    assert found.method == ("undefined", "bca") and np.isnan(found.estimate[0])
    assert found.reason == ("the denominator cannot be told from zero", None)
    assert resampling.difference((top, bottom), top).method == ("undefined", "bca")
    assert resampling.difference(top, (top, bottom)).method == ("undefined", "bca")
    half = scipy.stats.t.ppf(0.975, 39) * bottom.std(0, ddof=1) / np.sqrt(40)
    edge = bottom[:, 0] - bottom[:, 0].mean()
    assert ratios(top[:, 0], edge + 1.01 * half[0], np.arange(40)).method == ("bca",)
    assert ratios(top[:, 0], edge + 0.99 * half[0], np.arange(40)).method == ("undefined",)


def test_sizes_of_one_sign_are_a_denominator_however_they_spread():
    found = ratios([0.05, 5.0, 0.1], [0.1, 9.0, 0.1], [0, 1, 2])
    assert found.method != ("undefined",) and found.estimate[0] == pytest.approx(5.15 / 9.2)


def test_what_is_not_finite_says_so_and_spoils_no_other_column():
    _, nie, clusters = some_pairs()
    spoiled = nie.copy()
    spoiled[[3, 5], 1] = np.nan, np.inf
    resampling = Resampling(clusters)
    found, plain = resampling.ratio(spoiled), resampling.ratio(nie)
    assert found.method == ("bca", "undefined", "bca")
    assert found.reason[1] == "2 of 40 values are not finite" and np.isnan(found.estimate[1])
    np.testing.assert_allclose(limits(found)[:, [0, 2]], limits(plain)[:, [0, 2]])


# -- which method ----------------------------------------------------------------------------------


def test_percentile_limits_stand_in_where_bca_is_no_number():
    """One cluster holds all of the denominator: without it there is no ratio."""
    bottom = np.zeros(40)
    bottom[:2] = 5, 1e-300
    found = Resampling(np.arange(40)).ratio(np.linspace(0, 1, 40), bottom)
    assert found.method == ("percentile",) and np.isfinite(limits(found)).all()


def test_draws_without_a_value_leave_percentile_limits_of_the_others():
    """Three of forty clusters count: one draw in twenty has none of them."""
    x = np.random.default_rng(0).normal(size=40)
    resampling = Resampling(np.arange(40))
    found = resampling.ratio(x, kept=np.arange(40) < 3)
    counts = resampling.weights.counts[:, :3].astype(int)
    draws = (counts @ x[:3])[counts.sum(1) > 0] / counts.sum(1)[counts.sum(1) > 0]
    assert found.method == ("percentile",) and 0.03 < (counts.sum(1) == 0).mean() < 0.06
    np.testing.assert_allclose(limits(found)[:, 0], np.quantile(draws, [0.025, 0.975]))


def test_many_clusters_and_far_levels_get_students_t_unless_another_is_named():
    x = np.random.default_rng(0).normal(size=1000)
    many, few = Resampling(np.arange(1000), resamples=99), Resampling(np.arange(999), resamples=999)
    assert many.ratio(x).method == ("t",) and many.ratio(x, method="bca").method == ("bca",)
    assert few.ratio(x[:999]).method == ("bca",)
    assert few.ratio(x[:999], level=0.999).method == ("t",)
    assert few.ratio(x[:999], level=0.999, method="percentile").method == ("percentile",)


def test_small_and_skewed_samples_are_flagged():
    rng = np.random.default_rng(0)
    flat, skewed = rng.uniform(size=40), rng.uniform(size=40)
    skewed[3] = 50
    found = Resampling(np.arange(40)).ratio(np.stack([flat, skewed, -skewed], 1))
    assert found.flags == ((), ("skewed",), ("skewed",))
    assert Resampling(np.arange(29)).ratio(flat[:29]).flags == (("few_clusters",),)
    assert Resampling(np.arange(40) // 2).ratio(skewed, method="t").flags == (("few_clusters", "skewed"),)
    assert Resampling(np.arange(9)).ratio(np.ones(9)).flags == ((),)
    heavy = np.r_[np.zeros(39), 1.0]
    g1 = scipy.stats.skew(heavy)
    assert g1 > 2 and Resampling(np.arange(40)).ratio(heavy).flags == (("skewed",),)
    near = np.r_[np.zeros(33), np.ones(7)]
    assert scipy.stats.skew(near) < 2 and Resampling(np.arange(40)).ratio(near).flags == ((),)


def test_mistakes_are_refused_with_the_values():
    resampling = Resampling(np.arange(5))
    with pytest.raises(errors.WrongShape, match=r"column 1 has shape \(4, 2\). .* \[pair, column\], of 5 pairs"):
        resampling.ratio(np.ones((4, 2)))
    with pytest.raises(errors.WrongShape, match=r"clusters has shape \(5, 1\)"):
        Resampling(np.ones((5, 1)))
    with pytest.raises(errors.WrongNumbers, match=r"between 0 and 1, like 0.95, not 95"):
        resampling.ratio(np.ones(5), level=95)
    with pytest.raises(errors.WrongNumbers, match="population of 4 pairs cannot give 5"):
        Resampling(np.arange(5), population=4)
    with pytest.raises(errors.WrongNumbers, match="resamples"):
        Resampling(np.arange(5), resamples=0)
    with pytest.raises(errors.WrongNumbers, match="take 'bca' or 't'"):
        resampling.r_squared(np.ones(5), np.ones(5), method="studentised")


# -- finite populations ----------------------------------------------------------------------------


def test_drawing_much_of_a_small_population_narrows_the_interval():
    x = np.random.default_rng(0).normal(size=(40, 2))
    plain, half = Resampling(np.arange(40)).ratio(x), Resampling(np.arange(40), population=80).ratio(x)
    factor = np.sqrt((80 - 40) / (80 - 1))
    np.testing.assert_allclose(half.error, factor * plain.error)
    np.testing.assert_allclose(half.estimate - half.low, factor * (plain.estimate - plain.low))
    np.testing.assert_allclose(width(Resampling(np.arange(40), population=10**9).ratio(x)), width(plain))
    bands = [Resampling(np.arange(40), population=n).band(x) for n in (None, 80)]
    np.testing.assert_allclose(width(bands[1]), factor * width(bands[0]))


def test_all_of_a_population_is_exact():
    x = np.random.default_rng(0).normal(size=(40, 2))
    resampling = Resampling(np.arange(40), population=40)
    for found in (resampling.ratio(x), resampling.band(x), resampling.slope(x[:, :1], x)):
        assert found.method == ("exhaustive",) * 2 and found.text(0) == "exact" and (found.error == 0).all()
    assert resampling.ratio(x, np.zeros(40)).reason == ("the denominator is zero",) * 2


def test_coverage_of_a_finite_population():
    """60 of 90 values, 2,000 times; Monte-Carlo error 0.5 %. Without the correction nearly all intervals cover."""
    rng = np.random.default_rng(0)
    population = rng.normal(size=90)
    samples = np.stack([rng.choice(population, 60, replace=False) for _ in range(2000)], 1)
    found = Resampling(np.arange(60), population=90, resamples=1999).ratio(samples)
    assert 0.935 <= covered(found, population.mean()) <= 0.965
    assert covered(Resampling(np.arange(60), resamples=1999).ratio(samples), population.mean()) > 0.99


# -- work ------------------------------------------------------------------------------------------


def test_the_weights_are_drawn_once_and_only_when_needed(monkeypatch):
    drawn = []
    original = weights.draw
    monkeypatch.setattr("interpose.statistics.resampling.draw", lambda *args: drawn.append(args) or original(*args))
    te, nie, clusters = some_pairs()
    resampling = Resampling(clusters, resamples=99)
    resampling.ratio(nie, method="t")
    resampling.ratio(np.ones(40), method="bca")
    assert not drawn
    resampling.ratio(nie), resampling.slope(te, nie), resampling.band(nie), resampling.difference(nie, te)
    assert len(drawn) == 1
    counts = resampling.weights.counts
    assert counts.dtype == np.uint8 and (counts.sum(1) == len(np.unique(clusters))).all()


def test_weights_are_multinomial_and_do_not_depend_on_the_size_of_blocks(monkeypatch):
    whole = weights.draw(20, 50, 7)
    expected = np.random.default_rng(7).multinomial(20, np.full(20, 1 / 20), size=50)
    np.testing.assert_array_equal(whole.counts, expected)
    monkeypatch.setattr(weights, "AT_ONCE", 3 * 20)
    np.testing.assert_array_equal(weights.draw(20, 50, 7).counts, expected)
    x = np.random.default_rng(0).normal(size=(20, 4))
    np.testing.assert_allclose(weights.Weights(whole.counts).sums((x,))[0], (expected @ x).T)


def test_columns_are_multiplied_a_chunk_at_a_time_within_a_stated_memory(monkeypatch):
    """Peak: resamples * chunk * 8 bytes * (sums + 2), and 8 MB; one product a chunk and block of weights."""
    products = []
    multiply = np.matmul
    monkeypatch.setattr(np, "matmul", lambda *args, **kwargs: products.append(len(args)) or multiply(*args, **kwargs))
    rng = np.random.default_rng(0)
    te, nie = rng.normal(2, 1, size=(300, 1)), rng.normal(size=(300, 1000))
    resampling = Resampling(np.arange(300), resamples=4000, chunk=50)
    resampling.ratio(nie[:, :1], method="bca")
    blocks = -(-4000 // (weights.AT_ONCE // 300))
    for ask, sums in (
        (lambda: resampling.ratio(nie, method="bca"), 2),
        (lambda: resampling.slope(te, nie), 2),
        (lambda: resampling.r_squared(te, nie), 3),
        (lambda: resampling.ratio(nie, method="studentised"), 5),
        (lambda: resampling.band(nie), 2),
    ):
        products.clear()
        tracemalloc.start()
        ask()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(products) == 20 * blocks
        assert peak < 1.1 * (4000 * 50 * 8 * (sums + 2) + 8 * weights.AT_ONCE) < 4000 * 1000 * 8


def test_nothing_is_printed_and_nothing_is_changed(capsys):
    te, nie, clusters = some_pairs()
    before = [array.copy() for array in (te, nie, clusters)]
    state = np.random.get_state()[1].copy()
    resampling = Resampling(clusters, resamples=99)
    resampling.ratio(nie, np.abs(te), kept=te[:, 0] > 0), resampling.band(nie), resampling.r_squared(te, nie)
    assert all((one == other).all() for one, other in zip(before, (te, nie, clusters), strict=True))
    assert (np.random.get_state()[1] == state).all() and capsys.readouterr() == ("", "")
