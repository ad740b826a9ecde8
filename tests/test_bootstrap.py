"""The paired cluster bootstrap against scipy and a slow version of itself, and its laws."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from interpose.statistics import Resampling, bootstrap, ratios

from samples import METHODS, drawn, limits, same, some_pairs, width

# -- oracles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_intervals_agree_with_scipys_bootstrap(method):
    """Each of 19,999 draws of its own: limits agree to Monte-Carlo error, under a twentieth of their distance."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=60)
    y = 0.5 * x + rng.normal(size=60)
    resampling = Resampling(np.arange(60), resamples=19_999, seed=1)
    cases = [
        (resampling.ratio(x, method=method), lambda x, y, axis: x.mean(axis)),
        (resampling.ratio(y, x, method=method), lambda x, y, axis: y.sum(axis) / x.sum(axis)),
        (resampling.slope(x, y, method=method), lambda x, y, axis: (x * y).sum(axis) / (x * x).sum(axis)),
        (
            resampling.r_squared(x, y, method=method),
            lambda x, y, axis: (x * y).sum(axis) ** 2 / ((x * x).sum(axis) * (y * y).sum(axis)),
        ),
        (resampling.difference((y, x), x), lambda x, y, axis: y.sum(axis) / x.sum(axis) - x.mean(axis)),
    ][: 5 if method == "bca" else 4]
    for ours, function in cases:
        theirs = scipy.stats.bootstrap(
            (x, y),
            lambda x, y, axis, function=function: function(x, y, axis),
            paired=True,
            vectorized=True,
            n_resamples=19_999,
            method="BCa" if method == "bca" else "percentile",
            rng=np.random.default_rng(2),
        ).confidence_interval
        assert ours.method == (method,)
        np.testing.assert_allclose([ours.low[0], ours.high[0]], theirs, atol=0.05 * width(ours)[0])


def slow_limits(draws, estimate, left_out, level):
    """Efron's (1987) formula, one number after the other."""
    norm = scipy.stats.norm
    below = (np.sum(draws < estimate) + np.sum(draws == estimate) / 2) / len(draws)
    away = left_out.mean() - left_out
    acceleration = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5)
    z0 = norm.ppf(below)
    return [
        np.quantile(draws, norm.cdf(z0 + (z0 + norm.ppf(q)) / (1 - acceleration * (z0 + norm.ppf(q)))))
        for q in ((1 - level) / 2, (1 + level) / 2)
    ]


def slow_ratio(top, bottom, rows_of_clusters):
    rows = np.concatenate(rows_of_clusters)
    return top[rows].sum() / bottom[rows].sum()


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_slow_version_that_copies_pairs_gives_the_same(level):
    te, nie, clusters = some_pairs()
    top, bottom = np.sign(te) * nie, np.broadcast_to(np.abs(te), nie.shape)
    resampling = Resampling(clusters, resamples=400, seed=5)
    names = np.unique(clusters)
    rows = [np.flatnonzero(clusters == name) for name in names]
    found = resampling.ratio(top, bottom, level=level)
    plain = resampling.ratio(top, bottom, level=level, method="percentile")
    t = resampling.ratio(top, bottom, level=level, method="t")
    for j in range(nie.shape[1]):
        value = lambda chosen, j=j: slow_ratio(top[:, j], bottom[:, j], chosen)
        draws = np.array(
            [value([rows[g] for g, times in enumerate(counts) for _ in range(times)]) for counts in drawn(resampling)]
        )
        left_out = np.array([value(rows[:g] + rows[g + 1 :]) for g in range(len(rows))])
        np.testing.assert_allclose(limits(found)[:, j], slow_limits(draws, value(rows), left_out, level))
        np.testing.assert_allclose(limits(plain)[:, j], np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
        residuals = np.array([(top[of, j] - value(rows) * bottom[of, j]).sum() for of in rows])
        spread = np.sqrt(len(rows) / (len(rows) - 1) * (residuals**2).sum()) / bottom[:, j].sum()
        half = scipy.stats.t.ppf((1 + level) / 2, len(rows) - 1) * spread
        np.testing.assert_allclose(limits(t)[:, j], [value(rows) - half, value(rows) + half])
        np.testing.assert_allclose(found.error[j], spread)


def test_the_studentised_interval_is_a_loop_over_draws():
    _, nie, clusters = some_pairs(1, columns=1)
    resampling = Resampling(clusters, resamples=300, seed=2)
    found = resampling.ratio(nie, method="studentised")
    rows = [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
    t = []
    for counts in drawn(resampling):
        copies = [rows[g] for g, times in enumerate(counts) for _ in range(times)]
        labels = np.repeat(np.arange(len(copies)), [len(copy) for copy in copies])
        again = Resampling(labels).ratio(nie[np.concatenate(copies)], method="t")
        t.append((again.estimate[0] - found.estimate[0]) / again.error[0])
    low, high = np.quantile(t, [0.975, 0.025])
    expected = [found.estimate[0] - low * found.error[0], found.estimate[0] - high * found.error[0]]
    np.testing.assert_allclose(limits(found)[:, 0], expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_spread_around_a_large_mean_is_not_lost(method):
    x = np.random.default_rng(0).normal(size=50)
    resampling = Resampling(np.arange(50), resamples=999)
    near, far = resampling.ratio(x, method=method), resampling.ratio(x + 1e7, method=method)
    np.testing.assert_allclose(limits(far) - 1e7, limits(near), atol=1e-6)


def test_draws_without_spread_are_no_distance_or_an_infinite_one():
    """Of the values 0, 1, 2: a ninth of draws is three times the same, and the middle one is the estimate itself."""
    resampling = Resampling(np.arange(3), resamples=2000)
    found = resampling.ratio(np.arange(3.0), method="studentised", level=0.9)
    samples = [np.repeat(np.arange(3.0), counts) for counts in drawn(resampling)]
    far = lambda x: np.sign(x.mean() - 1) * np.inf if x.mean() != 1 else 0.0
    t = [(x.mean() - 1) / scipy.stats.sem(x) if np.ptp(x) else far(x) for x in samples]
    above, below = np.sort(t)[[1899, 100]]
    error = scipy.stats.sem(np.arange(3.0))
    np.testing.assert_allclose(limits(found)[:, 0], [1 - above * error, 1 - below * error])
    assert resampling.ratio(np.arange(3.0), method="studentised").method == ("percentile",)
    draws, errors, one = np.array([[1, 1, 1, 0, 2.0]]), np.array([[0, 0, 0, 1, 1.0]]), np.ones(1)
    low, high, fine = bootstrap.studentised(draws, errors, one, one, 0.5)
    assert (low[0], high[0], fine[0]) == (1, 1, True)


def test_t_intervals_are_the_textbooks():
    x = np.random.default_rng(0).normal(size=30)
    found = Resampling(np.arange(30)).ratio(x, method="t")
    theirs = scipy.stats.ttest_1samp(x, 0).confidence_interval(0.95)
    np.testing.assert_allclose([found.low[0], found.high[0]], theirs)
    assert found.error[0] == pytest.approx(scipy.stats.sem(x))


def test_any_function_of_sums_is_what_it_says():
    te, nie, clusters = some_pairs()
    resampling = Resampling(clusters, resamples=999)
    same(resampling.of([nie, np.ones(40)], lambda a, n: a / n), resampling.ratio(nie), rtol=1e-8)
    r_squared = resampling.of([te * nie, te * te, nie * nie], lambda xy, xx, yy: xy**2 / (xx * yy), method="percentile")
    same(r_squared, resampling.r_squared(te, nie, method="percentile"), rtol=1e-8)
    deviation = resampling.of([nie**2, nie, np.ones(40)], lambda a, b, n: np.sqrt(a / n - (b / n) ** 2))
    np.testing.assert_allclose(deviation.estimate, nie.std(0))
    assert (deviation.low < deviation.estimate).all() and (deviation.estimate < deviation.high).all()
    total = Resampling(np.arange(40)).of([nie], lambda a: a, method="t")
    np.testing.assert_allclose(total.error, 40 * scipy.stats.sem(nie), rtol=1e-6)
    nowhere = resampling.of([nie, nie], lambda a, b: np.sqrt(-(a**2) - b**2))
    assert nowhere.reason == ("the function has no value here",) * 3
    steady = resampling.of([np.full(40, 2.0), np.ones(40)], lambda a, n: np.exp(a / n))
    assert steady.method == ("constant",) and steady.estimate[0] == pytest.approx(np.exp(2))


# -- laws ------------------------------------------------------------------------------------------

seeds = st.integers(0, 10**6)


@given(seeds, st.sampled_from(METHODS))
def test_the_order_of_pairs_and_copies_inside_their_clusters_change_nothing(seed, method):
    te, nie, clusters = some_pairs(seed)
    shuffled = np.random.default_rng(seed).permutation(40)
    rows = np.tile(np.arange(40), 3)
    for chosen in (shuffled, rows):
        one, other = Resampling(clusters, resamples=199), Resampling(clusters[chosen], resamples=199)
        same(other.ratio(nie[chosen], method=method), one.ratio(nie, method=method), rtol=1e-6)
        same(other.slope(te[chosen], nie[chosen], method=method), one.slope(te, nie, method=method), rtol=1e-6)
    same(other.r_squared(te[rows], nie[rows]), one.r_squared(te, nie), rtol=1e-6)


@given(seeds, st.sampled_from(METHODS), st.floats(-5, 5).filter(lambda c: abs(c) > 0.01), st.floats(-10, 10))
def test_intervals_scale_and_shift_with_what_they_are_of(seed, method, scale, shift):
    te, nie, clusters = some_pairs(seed)
    resampling = Resampling(clusters, resamples=199)
    plain, other = resampling.ratio(nie, method=method), resampling.ratio(scale * nie + shift, method=method)
    expected = np.sort(scale * limits(plain) + shift, axis=0)
    np.testing.assert_allclose(limits(other), expected, atol=1e-6 * max(abs(scale), 1))
    recovery = resampling.ratio(np.sign(te) * nie, np.abs(te), method=method)
    rescaled = resampling.ratio(np.sign(scale * te) * scale * nie, np.abs(scale * te), method=method)
    same(rescaled, recovery, rtol=1e-6)
    same(resampling.r_squared(scale * te, nie), resampling.r_squared(te, nie), rtol=1e-6)


@given(seeds, st.integers(1, 7), st.sampled_from(METHODS))
def test_chunks_and_seeds_and_other_columns_change_nothing(seed, chunk, method):
    te, nie, clusters = some_pairs(seed, columns=5)
    whole, parts = (
        Resampling(clusters, resamples=99, seed=seed),
        Resampling(clusters, resamples=99, seed=seed, chunk=chunk),
    )
    for ask in (lambda r, y: r.ratio(y, method=method), lambda r, y: r.ratio(y, np.abs(te), method=method)):
        same(ask(parts, nie), ask(whole, nie), rtol=1e-7)
        alone = ask(whole, nie[:, 2])
        np.testing.assert_allclose(limits(ask(whole, nie))[:, 2], limits(alone)[:, 0])
    same(parts.band(nie), whole.band(nie), rtol=1e-7)


def test_a_seed_repeats_and_a_generator_goes_on():
    _, nie, clusters = some_pairs()
    low = lambda seed: Resampling(clusters, resamples=99, seed=seed).ratio(nie, method="bca").low
    np.testing.assert_array_equal(low(3), low(3))
    assert (low(3) != low(4)).any()
    np.testing.assert_array_equal(low(np.random.default_rng(3)), low(3))
    generator = np.random.default_rng(3)
    assert (low(generator) != low(generator)).any()
    one = Resampling(clusters, seed=generator)
    np.testing.assert_array_equal(one.ratio(nie).low, one.ratio(nie).low)


def test_clusters_may_have_any_names():
    _, nie, clusters = some_pairs()
    same(ratios(nie, None, clusters * 1000 - 7), ratios(nie, None, clusters))
    same(ratios(nie, None, np.array(list("abcdefghijklm"))[clusters]), ratios(nie, None, clusters))


def test_one_weight_matrix_keeps_columns_paired():
    x = np.random.default_rng(0).normal(size=(40, 1))
    resampling = Resampling(np.arange(40))
    both = resampling.ratio(np.hstack([x, 2 * x, x + 100]))
    np.testing.assert_allclose(both.low[1], 2 * both.low[0])
    np.testing.assert_allclose(both.high[2], both.high[0] + 100)
    near = x + 0.1 * np.random.default_rng(1).normal(size=(40, 1))
    apart = resampling.difference(x, near)
    assert width(apart) < 0.2 * width(resampling.ratio(x))
    unpaired = Resampling(np.arange(80)).difference(
        (np.vstack([x, 0 * x]), np.repeat([1, 0], 40)), (np.vstack([0 * x, near]), np.repeat([0, 1], 40))
    )
    assert width(unpaired) > 1.2 * width(resampling.ratio(x))
    assert resampling.difference(x, x + 3).method == ("constant",)


def test_the_difference_of_ratios_has_the_error_of_the_difference():
    te, nie, clusters = some_pairs(pairs=400, clusters=100)
    resampling = Resampling(clusters)
    ours, theirs = (np.sign(te) * nie[:, :2], np.abs(te)), (np.sign(te) * nie[:, 2:], np.abs(te))
    apart = resampling.difference(ours, theirs)
    direct = resampling.ratio(ours[0] - theirs[0], np.abs(te))
    same(apart, direct, rtol=1e-6)
