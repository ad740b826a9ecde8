"""Estimates and how they print, verdicts and sample sizes: textbook values, oracles, and bounds held."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from interpose import errors
from interpose.statistics import (
    Resampling,
    clopper_pearson,
    exhaustive,
    further,
    limits,
    mean_equivalence,
    n_for_iia,
    n_for_mean,
    n_for_none,
    number,
    p_above,
    p_below,
    p_mean,
    pairs_to_exclude,
    ratios,
    shares,
    verdicts,
    wilson,
)

# -- what an estimate says of itself ---------------------------------------------------------------


def test_what_does_not_vary_has_no_interval_and_says_so():
    constant = ratios(np.full((50, 1), 3.0), None, np.arange(50))
    assert constant.method == ("constant",) and np.isnan(constant.low[0]) and constant.estimate[0] == 3
    assert constant.share[0] == pytest.approx(0.05 ** (1 / 50)) and constant.text(0) == "constant (>= 94 %)"
    assert constant.error[0] == 0 and constant.reason == ("all 50 pairs show the same",)
    single = ratios(np.ones((4, 1)) * np.arange(4)[:, None], None, np.zeros(4, int))
    assert single.method == ("one cluster",) and single.estimate[0] == 1.5 and np.isnan(single.low[0])
    nothing = ratios(np.ones((5, 1)), np.zeros((5, 1)), np.arange(5))
    assert nothing.method == ("undefined",) and np.isnan(nothing.estimate[0]) and nothing.text(0) == "undefined"
    assert nothing.reason == ("the denominator is zero",) and np.isnan(nothing.error[0])
    assert exhaustive(constant).text(0) == "exact" and exhaustive(nothing).text(0) == "undefined"
    assert exhaustive(nothing).reason == nothing.reason
    assert exhaustive(constant).reason == ("every pair of the domain was measured",)
    assert exhaustive(single).method == ("exhaustive",) and exhaustive(single).estimate[0] == 1.5


def test_a_single_cluster_says_which_sampling_would_give_an_interval():
    values, together = np.arange(4.0), np.zeros(4, int)
    reason = (
        "all 4 pairs are in one cluster, which says nothing of how others differ: "
        "pairs that share no input with one another would give an interval",
    )
    assert Resampling(together).ratio(values).reason == reason
    assert shares(values > 1, together).reason == reason and shares(values > 1, together).text(0) == "-"
    assert ratios(values[:1], None, [0]).reason == ("one pair says nothing of how others differ",)


def test_numbers_are_as_long_as_their_interval_is_worth():
    rng = np.random.default_rng(0)
    wide, narrow, exact = (ratios(rng.normal(0.5, s, 100), None, np.arange(100)) for s in (1, 0.03, 0.003))
    assert [len(e.shown(0)) - 2 for e in (wide, narrow, exact)] == [2, 3, 4]
    assert wide.text(0).startswith("[0.") and len(exact.text(0)) == len("[0.1234, 0.1234]")
    assert number(-0.001) == "0.00" and number(float("nan")) == "-"


# -- verdicts --------------------------------------------------------------------------------------


def test_verdicts_bound_their_errors():
    assert verdicts([50, 0, 3], 50) == ("mediates", "undetermined", "undetermined")
    assert verdicts([0], 59) == ("does not mediate",) and verdicts([0], 58) == ("undetermined",)
    assert verdicts([0], 299, p0=0.01) == ("does not mediate",)
    assert verdicts([0], 0) == ("undetermined",)
    with pytest.raises(errors.WrongNumbers, match="more hits than units"):
        verdicts([5], 4)


def test_the_bound_of_no_hits_is_the_textbooks():
    assert [n_for_none(p0=p0) for p0 in (0.05, 0.01, 0.001)] == [59, 299, 2995]
    assert pairs_to_exclude(tests=6) == n_for_none(tests=6) == 94
    for n in (59, 299, 2995):
        assert limits([0], n)[1][0] == pytest.approx(1 - 0.05 ** (1 / n))


def test_limits_are_shared_by_the_tests_there_are():
    alone, of_ten = limits([3], 50), limits([3], 50, tests=10)
    assert of_ten[0][0] < alone[0][0] and of_ten[1][0] > alone[1][0]
    np.testing.assert_allclose(limits([3] * 10, 50), [[side[0]] * 10 for side in of_ten])
    assert verdicts([0], 59, tests=2) == ("undetermined",)


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.02, 0.05, 0.3]))
def test_further_units_at_the_same_share_decide_and_one_less_does_not(k, n, p0):
    k = min(k, n)
    more = further([k], n, p0=p0)[0]
    if not np.isfinite(more):
        assert abs(k / n - p0) < 1e-3
        return
    assert (more == 0) == (verdicts([k], n, p0=p0) != ("undetermined",))

    def decided(units):
        low, high = clopper_pearson(k / n * units, units, alpha=0.05)
        return low > p0 or high <= p0

    assert decided(n + more) and (more == 0 or not decided(n + more - 1))


def test_further_units_without_a_hit_are_those_of_no_hits_at_all():
    assert further([0, 0], 50)[0] == n_for_none(tests=2) - 50
    assert further([0], 50, tests=10)[0] == n_for_none(tests=10) - 50
    assert further([0], 0)[0] == 59 and further([5], 100)[0] == np.inf


@pytest.mark.parametrize("p0", [0.05, 0.2])
def test_wrong_verdicts_are_rare_in_simulation(p0):
    """At p = p0 "mediates" is wrong, just above it "does not mediate"; 5 % each allowed, Monte-Carlo error 0.5 %."""
    rng = np.random.default_rng(0)
    for wrong, p in (("mediates", p0), ("does not mediate", p0 * 1.0001)):
        found = verdicts(rng.binomial(150, p, size=2000), 150, p0=p0, tests=1)
        assert np.mean([verdict == wrong for verdict in found]) <= 0.05 + 0.01
    assert np.mean([v == "mediates" for v in verdicts(rng.binomial(150, 0.5, size=100), 150, p0=p0, tests=1)]) == 1


def test_a_table_of_verdicts_is_wrong_anywhere_in_one_of_twenty():
    """2,000 tables of 20 places at p0; Monte-Carlo error 0.5 %."""
    hits = np.random.default_rng(1).binomial(150, 0.05, size=(2000, 20))
    wrong = [("mediates" in verdicts(table, 150)) for table in hits]
    assert np.mean(wrong) <= 0.05 + 0.01


def test_p_values_of_shares_are_the_binomial_tests():
    for k, n, p0 in [(0, 20, 0.05), (3, 20, 0.05), (20, 20, 0.05), (7, 50, 0.2)]:
        assert p_above(k, n, p0=p0) == pytest.approx(scipy.stats.binomtest(k, n, p0, alternative="greater").pvalue)
        assert p_below(k, n, p0=p0) == pytest.approx(scipy.stats.binomtest(k, n, p0, alternative="less").pvalue)
    assert np.isnan(p_above(0, 0)) and np.isnan(p_below(0, 0))
    hits, n = np.arange(60), 59
    one_sided = np.array(verdicts(hits, n, tests=1))
    assert ((p_above(hits, n) < 0.05) == (one_sided == "mediates")).all()
    assert ((p_below(hits, n) <= 0.05) == (one_sided == "does not mediate")).all()


def test_p_values_of_means_are_the_t_tests():
    x = np.random.default_rng(0).normal(0.3, 1, size=(30, 4))
    found = Resampling(np.arange(30)).ratio(x, method="t")
    np.testing.assert_allclose(p_mean(found), scipy.stats.ttest_1samp(x, 0).pvalue)
    np.testing.assert_allclose(p_mean(found, null=0.5), scipy.stats.ttest_1samp(x, 0.5).pvalue)
    theirs = [DescrStatsW(column).ttost_mean(-0.8, 0.8)[0] for column in x.T]
    np.testing.assert_allclose(mean_equivalence(found, delta=0.8), theirs)
    constant = Resampling(np.arange(30)).ratio(np.ones(30), method="t")
    assert np.isnan(p_mean(constant)).all() and np.isnan(mean_equivalence(constant, delta=2)).all()


def test_balanced_effects_pass_as_a_mean_of_nearly_nothing():
    signs = np.tile([1.0, -1.0], 500)
    assert mean_equivalence(Resampling(np.arange(1000)).ratio(signs), delta=0.2)[0] < 0.001
    assert verdicts([(np.abs(signs) > 0.2).sum()], 1000) == ("mediates",)


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "power"), [(0.5, 0.8), (0.2, 0.8), (0.8, 0.9), (1.5, 0.8), (0.05, 0.95)])
def test_the_size_for_a_mean_is_statsmodels(d, power):
    theirs = TTestPower().solve_power(effect_size=d, power=power, alpha=0.05)
    assert n_for_mean(d, power=power) == n_for_mean(-d, power=power) == np.ceil(theirs)


def test_the_textbooks_sizes():
    assert [n_for_mean(d) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert n_for_iia(0.05) == 381 and n_for_iia(0.1) == 93
    for half in (0.03, 0.05, 0.1):
        enough, short = (np.diff(wilson(n / 2, n), axis=0)[0] for n in (n_for_iia(half), n_for_iia(half) - 1))
        assert enough <= 2 * half < short
    assert n_for_none(design=2.5) == 148 and n_for_iia(0.1, design=2) == 186 and n_for_mean(0.5, design=1.5) == 51


def test_a_size_of_what_cannot_be_is_refused():
    with pytest.raises(errors.WrongNumbers, match=r"No number of units follows from d = 0, power = 0.8"):
        n_for_mean(0)
    with pytest.raises(errors.WrongNumbers, match=r"half_width = 5,"):
        n_for_iia(5)
    with pytest.raises(errors.WrongNumbers, match=r"p0 = 1,"):
        n_for_none(p0=1)
    with pytest.raises(errors.WrongNumbers, match=r"between 0 and 1, like 0.95, not 95"):
        wilson(3, 5, level=95)
