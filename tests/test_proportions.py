"""Shares and medians against scipy and statsmodels, with and without clusters; coverage by simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.descriptivestats import sign_test
from statsmodels.stats.proportion import proportion_confint

from interpose import errors
from interpose.statistics import Resampling, clopper_pearson, design_effect, mcnemar, median, shares, wilson

from samples import covered


@pytest.mark.parametrize("n", [1, 2, 7, 50, 1000])
def test_wilson_and_clopper_pearson_agree_with_scipy(n):
    for k in sorted({0, 1, n // 3, n - 1, n}):
        test = scipy.stats.binomtest(k, n)
        theirs = test.proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson(k, n), [theirs.low, theirs.high], atol=1e-9)
        exact = test.proportion_ci(confidence_level=0.9, method="exact")
        np.testing.assert_allclose(clopper_pearson(k, n, alpha=0.05), [exact.low, exact.high], atol=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_whole_maps_at_once_agree_with_statsmodels(level):
    k, n = np.meshgrid(np.arange(13), [12, 40, 5000])
    theirs = proportion_confint(k, n, alpha=1 - level, method="wilson")
    np.testing.assert_allclose(wilson(k, n, level=level), theirs, atol=1e-9)
    theirs = proportion_confint(k, n, alpha=1 - level, method="beta")
    np.testing.assert_allclose(clopper_pearson(k, n, alpha=(1 - level) / 2), theirs, atol=1e-9)


def test_the_tutorials_cells_have_their_intervals():
    low, high = wilson([50, 0], [50, 50])
    np.testing.assert_allclose(low.round(4), [0.9287, 0])
    np.testing.assert_allclose(high.round(4), [1, 0.0713])


def test_no_units_have_no_interval_and_no_information():
    assert np.isnan(wilson(0, 0)).all()
    np.testing.assert_array_equal(clopper_pearson(0, 0, alpha=0.05), [0, 1])


def test_a_share_never_has_an_interval_of_zero_width():
    for k in (0, 5, 10):
        for clusters in (np.arange(10), np.arange(10) // 2):
            found = shares((np.arange(10) < k)[:, None], clusters)
            assert found.high[0] > found.low[0]


def test_what_is_no_share_is_refused():
    with pytest.raises(errors.WrongNumbers, match="of zeros and ones"):
        shares([0.0, 0.5], [0, 1])
    with pytest.raises(errors.WrongShape, match=r"hits has shape \(3,\)"):
        shares([0, 1, 0], [0, 1])


def test_no_pairs_have_a_reason_and_no_value():
    found = shares(np.zeros((0, 2)), [])
    assert found.method == ("undefined",) * 2 and np.isnan(found.estimate).all()
    assert found.reason == ("there are no pairs",) * 2
    kept = shares(np.ones((3, 2)), np.arange(3), kept=[[1, 0]] * 3)
    assert kept.method == ("wilson", "undefined") and kept.clusters.tolist() == [3, 0]


def test_leaving_pairs_out_is_the_same_as_not_having_them():
    rng = np.random.default_rng(0)
    hits, clusters, kept = rng.random((40, 3)) < 0.5, rng.integers(0, 12, 40), rng.random(40) < 0.6
    left, had = shares(hits, clusters, kept=kept), shares(hits[kept], clusters[kept])
    for name in ("estimate", "low", "high", "error", "share", "clusters"):
        np.testing.assert_allclose(getattr(left, name), getattr(had, name))


# -- clusters --------------------------------------------------------------------------------------


def test_pairs_that_agree_within_clusters_count_as_clusters():
    rng = np.random.default_rng(0)
    hits = rng.random((12, 5)) < 0.4
    clusters = np.arange(12)
    alone, copied = shares(hits, clusters), shares(np.repeat(hits, 7, axis=0), np.repeat(clusters, 7))
    np.testing.assert_allclose(copied.low, alone.low)
    np.testing.assert_allclose(copied.high, alone.high)
    np.testing.assert_allclose(design_effect(np.repeat(hits, 7, axis=0), np.repeat(clusters, 7)), 7)
    every = shares(np.ones(84), np.repeat(clusters, 7))
    np.testing.assert_allclose([every.low[0], every.high[0]], wilson(12, 12))
    assert every.flags == (("few_clusters",),) and alone.flags == ((),) * 5


def test_the_design_effect_is_one_and_the_intraclass_correlation_times_the_rest():
    """Clusters of 5 with a known correlation within: P(hit) is Beta(a, b), so that it is 1 / (a + b + 1)."""
    rng = np.random.default_rng(0)
    for a, b in ((1, 1), (2, 6), (30, 30)):
        p = np.repeat(rng.beta(a, b, size=20_000), 5)
        found = design_effect(rng.random(len(p)) < p, np.repeat(np.arange(20_000), 5))[0]
        assert found == pytest.approx(1 + 4 / (a + b + 1), abs=0.03)


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_copies_of_pairs_inside_their_cluster_change_no_interval(seed, copies):
    """Of shares, where pairs of a cluster are alike at all; of medians."""
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 9, 30)
    hits = rng.random((30, 4)) < rng.random((9, 1))[clusters]
    many = np.tile(np.arange(30), copies)
    alike = design_effect(hits, clusters) > 1
    for of, values in ((shares, hits[:, alike]), (median, rng.normal(size=(9, 2))[clusters])):
        once, more = of(values, clusters), of(values[many], clusters[many])
        np.testing.assert_allclose(more.low, once.low)
        np.testing.assert_allclose(more.high, once.high)


@pytest.mark.parametrize(("a", "b"), [(1.5, 1.5), (3, 0.5), (50, 50)])
@pytest.mark.parametrize("sizes", ["four each", "one to seven"])
def test_coverage_of_clustered_shares(a, b, sizes):
    """2,000 samples of 60 clusters, as columns; Monte-Carlo error 0.5 %. Ignoring clusters misses far more."""
    rng = np.random.default_rng(0)
    many = np.full(60, 4) if sizes == "four each" else rng.integers(1, 8, 60)
    clusters = np.repeat(np.arange(60), many)
    hits = rng.random((len(clusters), 2000)) < rng.beta(a, b, size=(60, 2000))[clusters]
    assert 0.93 <= covered(shares(hits, clusters), a / (a + b)) <= 0.97
    if a + b < 10:
        assert covered(shares(hits, np.arange(len(clusters))), a / (a + b)) < 0.9


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.95])
def test_coverage_of_wilsons_and_of_the_guaranteed_limits(p):
    """Exact, by summing binomial probabilities: Wilson's is near 95 %, Clopper and Pearson's never below."""
    k = np.arange(61)
    weights = scipy.stats.binom.pmf(k, 60, p)
    for (low, high), least in ((wilson(k, 60), 0.92), (clopper_pearson(k, 60, alpha=0.025), 0.95)):
        assert weights[(low <= p) & (p <= high)].sum() >= least


# -- two shares of the same pairs ------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(20, 5, 12, 3), (10, 0, 0, 4), (0, 8, 1, 0), (9, 7, 7, 9), (1, 0, 9, 1)])
def test_mcnemar_is_statsmodels(counts):
    both, ours, theirs, neither = counts
    one = np.repeat([1, 1, 0, 0], counts)
    other = np.repeat([1, 0, 1, 0], counts)
    expected = their_mcnemar([[both, ours], [theirs, neither]], exact=True).pvalue
    assert mcnemar(one[:, None], other[:, None])[0] == pytest.approx(min(1.0, expected))
    assert mcnemar(other, one)[0] == pytest.approx(min(1.0, expected))


def test_a_paired_comparison_sees_what_two_overlapping_intervals_do_not():
    rng = np.random.default_rng(0)
    ours = rng.random(200) < 0.7
    theirs = ours & (rng.random(200) < 0.9)
    one, other = shares(ours, np.arange(200)), shares(theirs, np.arange(200))
    assert other.high[0] > one.low[0] and mcnemar(ours, theirs)[0] < 0.001
    apart = Resampling(np.arange(200)).difference(ours.astype(float), theirs.astype(float))
    assert apart.low[0] > 0


def test_mcnemar_rejects_equal_shares_in_at_most_one_of_twenty():
    """2,000 comparisons; Monte-Carlo error 0.5 %."""
    rng = np.random.default_rng(0)
    p = mcnemar(rng.random((100, 2000)) < 0.4, rng.random((100, 2000)) < 0.4)
    assert (p <= 0.05).mean() <= 0.06


# -- medians ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (50, 18), (100, 40)])
def test_the_median_lies_between_the_tabulated_order_statistics(n, rank):
    values = np.random.default_rng(0).permutation(np.arange(n) + 1.0)
    found = median(values, np.arange(n))
    assert (found.low[0], found.high[0]) == (rank, n + 1 - rank) and found.estimate[0] == (n + 1) / 2
    assert sign_test(values, found.low[0] - 0.5)[1] < 0.05 <= sign_test(values, found.low[0] + 0.5)[1]


def test_medians_that_cannot_have_an_interval_say_why():
    few = median(np.arange(5.0), np.arange(5))
    assert few.method == ("too few",) and few.text(0) == "-" and few.estimate[0] == 2
    assert few.reason == ("5 pairs are too few for the median at this level",)
    assert median(np.ones(9), np.arange(9)).method == ("constant",)
    assert median(np.arange(9.0), np.zeros(9)).method == ("one cluster",)
    assert median([1.0, np.nan, 2.0], np.arange(3)).reason == ("some values are not finite",)
    empty = median(np.zeros((0, 2)), [])
    assert empty.reason == ("there are no pairs",) * 2 and np.isnan(empty.estimate).all()


def test_coverage_of_medians():
    """2,000 samples, as columns; Monte-Carlo error 0.5 %. Skew is no matter; clusters are."""
    rng = np.random.default_rng(0)
    assert 0.94 <= covered(median(rng.lognormal(size=(61, 2000)), np.arange(61)), 1.0) <= 0.98
    clusters = np.repeat(np.arange(60), 5)
    values = rng.normal(size=(60, 2000))[clusters] + 0.5 * rng.normal(size=(300, 2000))
    assert 0.93 <= covered(median(values, clusters), 0.0) <= 0.97
    assert covered(median(values, np.arange(300)), 0.0) < 0.75
