"""Intervals against scipy's, textbook values, and simulations with fixed seeds."""

import numpy as np
import pytest
import scipy.stats

from interpose.statistics import clopper_pearson, exhaustive, pairs_to_exclude, ratios, shares, verdicts, wilson


@pytest.mark.parametrize("n", [1, 2, 7, 50, 1000])
def test_wilson_and_clopper_pearson_agree_with_scipy(n):
    for k in sorted({0, 1, n // 3, n - 1, n}):
        test = scipy.stats.binomtest(k, n)
        theirs = test.proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson(k, n), [theirs.low, theirs.high], atol=1e-9)
        exact = test.proportion_ci(confidence_level=0.9, method="exact")
        np.testing.assert_allclose(clopper_pearson(k, n, alpha=0.05), [exact.low, exact.high], atol=1e-9)


def test_the_tutorials_cells_have_their_intervals():
    low, high = wilson([50, 0], [50, 50])
    np.testing.assert_allclose(low.round(4), [0.9287, 0])
    np.testing.assert_allclose(high.round(4), [1, 0.0713])


def test_the_bootstrap_agrees_with_scipys_bca():
    values = np.random.default_rng(0).gamma(2.0, size=60)
    ours = ratios(values[:, None], None, np.arange(60), seed=1)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=9999, rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.method == ("bca",)
    np.testing.assert_allclose([ours.low[0], ours.high[0]], [theirs.low, theirs.high], rtol=0.02)


def test_one_weight_matrix_keeps_columns_paired():
    x = np.random.default_rng(0).normal(size=(40, 1))
    both = ratios(np.hstack([x, 2 * x, x + 100]), None, np.arange(40))
    np.testing.assert_allclose(both.low[1], 2 * both.low[0])
    np.testing.assert_allclose(both.high[2], both.high[0] + 100)


def test_order_of_pairs_and_copies_inside_a_cluster_change_nothing():
    rng = np.random.default_rng(0)
    top, bottom, clusters = rng.normal(size=(30, 2)), rng.uniform(1, 2, (30, 2)), np.repeat(np.arange(10), 3)
    plain = ratios(top, bottom, clusters)
    order = rng.permutation(30)
    twice = ratios(np.vstack([top, top]), np.vstack([bottom, bottom]), np.hstack([clusters, clusters]))
    relabelled = ratios(top[order], bottom[order], clusters[order])
    for other in (twice, relabelled):
        np.testing.assert_allclose(other.low, plain.low)
        np.testing.assert_allclose(other.estimate, plain.estimate)


def test_clusters_widen_intervals():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=10), 8)[:, None]
    width = lambda e: float(e.high[0] - e.low[0])
    assert width(ratios(x, None, np.repeat(np.arange(10), 8))) > 2 * width(ratios(x, None, np.arange(80)))
    hits = (np.repeat(rng.uniform(size=10) < 0.5, 8))[:, None].astype(float)
    assert width(shares(hits, np.repeat(np.arange(10), 8))) > 1.8 * width(shares(hits, np.arange(80)))


def test_what_does_not_vary_has_no_interval_and_says_so():
    constant = ratios(np.full((50, 1), 3.0), None, np.arange(50))
    assert constant.method == ("constant",) and np.isnan(constant.low[0]) and constant.estimate[0] == 3
    assert constant.share == pytest.approx(0.05 ** (1 / 50)) and constant.text(0) == "constant (>= 94 %)"
    single = ratios(np.ones((4, 1)) * np.arange(4)[:, None], None, np.zeros(4, int))
    assert single.method == ("one cluster",) and single.estimate[0] == 1.5 and np.isnan(single.low[0])
    nothing = ratios(np.ones((5, 1)), np.zeros((5, 1)), np.arange(5))
    assert nothing.method == ("undefined",) and np.isnan(nothing.estimate[0]) and nothing.text(0) == "undefined"
    assert exhaustive(constant).text(0) == "exact" and exhaustive(nothing).text(0) == "undefined"


def test_a_denominator_that_cannot_be_told_from_zero_is_refused():
    rng = np.random.default_rng(0)
    bottom = rng.normal(0.01, 1, size=(40, 1))
    assert ratios(rng.normal(size=(40, 1)), bottom, np.arange(40)).method == ("undefined",)


def test_a_share_never_has_an_interval_of_zero_width():
    for k in (0, 5, 10):
        found = shares((np.arange(10) < k)[:, None].astype(float), np.arange(10))
        assert found.high[0] > found.low[0]


def test_coverage_is_near_nominal():
    """400 samples of 40 pairs from a skewed population; Monte-Carlo error of the coverage about 1.1 %."""
    rng = np.random.default_rng(3)
    samples = rng.gamma(2.0, size=(40, 400))
    found = ratios(samples, None, np.arange(40), resamples=1999)
    covered = ((found.low <= 2) & (found.high >= 2)).mean()
    assert 0.91 <= covered <= 0.97


def test_verdicts_bound_their_errors():
    assert verdicts([50, 0, 3], 50) == ("mediates", "undetermined", "undetermined")
    assert verdicts([0], 59) == ("does not mediate",) and verdicts([0], 58) == ("undetermined",)
    assert verdicts([0], 299, p0=0.01) == ("does not mediate",)
    assert verdicts([5], 0) == ("undetermined",)
    assert [pairs_to_exclude(p0=p0) for p0 in (0.05, 0.01, 0.001)] == [59, 299, 2995]


def test_wrong_verdicts_are_rare_in_simulation():
    """At p just below p0 "mediates" is wrong; 2000 tables of one place, allowed 5 %."""
    rng = np.random.default_rng(0)
    hits = rng.binomial(80, 0.05, size=2000)
    wrong = np.mean([verdicts([k], 80)[0] == "mediates" for k in hits])
    assert wrong <= 0.05 + 0.015
