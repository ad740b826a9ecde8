"""Many at once: adjusted p values against scipy and statsmodels, and what bands, lists and selections promise."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from interpose import errors
from interpose.statistics import (
    Resampling,
    benjamini_hochberg,
    benjamini_yekutieli,
    bonferroni,
    fcr_level,
    holm,
    p_mean,
)

from samples import covered, drawn

NAMES = {"fdr_bh": benjamini_hochberg, "fdr_by": benjamini_yekutieli, "holm": holm, "bonferroni": bonferroni}
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


# -- adjusted p values -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(p=p_values)
def test_adjusted_p_values_are_statsmodels(name, p):
    np.testing.assert_allclose(NAMES[name](p), multipletests(p, method=name)[1], atol=1e-12)


@given(p_values)
def test_false_discovery_rates_are_scipys(p):
    for ours, method in ((benjamini_hochberg, "bh"), (benjamini_yekutieli, "by")):
        np.testing.assert_allclose(ours(p), scipy.stats.false_discovery_control(p, method=method), atol=1e-12)


def test_the_example_of_benjamini_and_hochberg():
    """Their 15 p values of 1995, section 4.1: four rejected at q = .05, three by Holm's and Bonferroni's."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    ]
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    assert (bonferroni(p) <= 0.05).sum() == (holm(p) <= 0.05).sum() == 3


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_kept_and_tests_not_made_do_not_count(name):
    p = np.random.default_rng(0).random((3, 4))
    np.testing.assert_allclose(NAMES[name](p), NAMES[name](p.ravel()).reshape(3, 4))
    p[1, 2] = np.nan
    found = NAMES[name](p)
    assert np.isnan(found[1, 2])
    np.testing.assert_allclose(found[~np.isnan(p)], NAMES[name](p[~np.isnan(p)]))
    assert NAMES[name](np.zeros((0, 2))).shape == (0, 2)
    with pytest.raises(errors.WrongNumbers, match=r"between 0 and 1; here are some from 0.5 to 1.5"):
        NAMES[name]([0.5, 1.5])


def test_the_level_of_what_was_selected():
    assert fcr_level(5, 100) == pytest.approx(0.9975) and fcr_level(7, 7) == 0.95
    for selected, tested in ((0, 10), (11, 10)):
        with pytest.raises(errors.WrongNumbers, match=f"{selected} selected of {tested} tested"):
            fcr_level(selected, tested)


# -- what they promise -----------------------------------------------------------------------------

PAIRS, SITES = 60, 1000


def tables(effects, count):
    """Samples of many sites at once, and what is found in them."""
    for seed in range(count):
        x = np.random.default_rng(seed).normal(effects, 1, size=(PAIRS, SITES))
        yield x, Resampling(np.arange(PAIRS), seed=seed, resamples=999)


def test_a_list_holds_as_few_false_discoveries_as_it_says_and_its_intervals_cover():
    """100 of 1,000 sites have an effect of .6 standard deviations; 60 tables, Monte-Carlo error under 0.5 %."""
    effects = np.where(np.arange(SITES) < 100, 0.6, 0.0)
    false, missed, naive, power = [], [], [], []
    for x, resampling in tables(effects, 60):
        found = benjamini_hochberg(p_mean(resampling.ratio(x, method="t"))) <= 0.05
        false.append((effects[found] == 0).mean() if found.any() else 0.0)
        power.append(found[:100].mean())
        level = fcr_level(found.sum(), SITES)
        missed.append(1 - covered(resampling.ratio(x[:, found], level=level, method="t"), effects[found]))
        naive.append(1 - covered(resampling.ratio(x[:, found], method="t"), effects[found]))
    assert 0.03 <= np.mean(false) <= 0.055 and np.mean(power) > 0.8
    assert np.mean(missed) <= 0.06 < 0.07 < np.mean(naive)


def test_the_best_of_many_null_sites_is_nothing_though_its_own_interval_says_so():
    """1,000 sites without effect, 100 tables; Monte-Carlo error of 5 % is 2 %."""
    alone, selected, confirmed, listed = [], [], [], []
    for seed, (x, resampling) in enumerate(tables(0.0, 100)):
        found = resampling.ratio(x, method="t")
        best = np.argmax(np.abs(found.estimate))
        alone.append(covered(resampling.ratio(x[:, best]), 0.0))
        selected.append(covered(resampling.ratio(x[:, best], level=fcr_level(1, SITES)), 0.0))
        fresh = np.random.default_rng(10_000 + seed).normal(size=PAIRS)
        confirmed.append(covered(resampling.ratio(fresh), 0.0))
        listed.append((benjamini_hochberg(p_mean(found)) <= 0.05).any())
    assert np.mean(alone) == 0 and np.mean(selected) >= 0.9 and np.mean(confirmed) >= 0.9
    assert np.mean(listed) <= 0.05 + 0.05


# -- bands -----------------------------------------------------------------------------------------


def test_a_band_is_a_loop_over_draws():
    rng = np.random.default_rng(0)
    top, bottom = rng.normal(size=(30, 4)), rng.uniform(1, 2, size=(30, 4))
    resampling = Resampling(np.arange(30), resamples=500)
    found, alone = resampling.band(top, bottom), resampling.ratio(top, bottom, method="t")
    farthest = []
    for counts in drawn(resampling):
        rows = np.repeat(np.arange(30), counts)
        away = top[rows].sum(0) / bottom[rows].sum(0) - alone.estimate
        farthest.append(np.max(np.abs(away) / (alone.error * np.sqrt(29 / 30))))
    z = np.quantile(farthest, 0.95)
    q = scipy.stats.t.isf(scipy.stats.norm.sf(z), 29)
    np.testing.assert_allclose(found.high, alone.estimate + q * alone.error)
    np.testing.assert_allclose(found.low, alone.estimate - q * alone.error)
    assert found.method == ("band",) * 4


def test_a_band_of_one_column_is_students_interval_and_of_copies_too():
    x = np.random.default_rng(0).normal(size=(200, 1))
    resampling = Resampling(np.arange(200))
    alone, band = resampling.ratio(x, method="t"), resampling.band(np.hstack([x, -2 * x, x + 5]))
    np.testing.assert_allclose(band.low[0], alone.low[0], atol=0.05 * (alone.high[0] - alone.low[0]))
    np.testing.assert_allclose(band.low[2] - 5, band.low[0])
    many = resampling.band(np.random.default_rng(1).normal(size=(200, 50)))
    assert (many.high - many.low).mean() > 1.5 * (alone.high - alone.low)[0]


def test_columns_that_do_not_vary_leave_the_band_alone_and_get_their_bound():
    x = np.random.default_rng(0).normal(size=(50, 5))
    resampling = Resampling(np.arange(50), resamples=999)
    still = resampling.band(np.hstack([x, np.full((50, 3), 2.0)]))
    assert still.method == ("band",) * 5 + ("constant",) * 3 and np.isnan(still.low[5:]).all()
    np.testing.assert_allclose(still.low[:5], resampling.band(x).low)
    assert still.share[5] == pytest.approx((0.05 / 8) ** (1 / 50)) and still.text(5) == "constant (>= 90 %)"
    constant = resampling.band(np.ones((50, 3)))
    assert constant.method == ("constant",) * 3 and constant.share[0] == pytest.approx((0.05 / 3) ** 0.02)
    refused = resampling.band(np.hstack([x, x]), np.hstack([x - x.mean(0), np.ones((50, 5))]))
    assert refused.method == ("undefined",) * 5 + ("band",) * 5


@pytest.mark.parametrize(("pairs", "shared"), [(20, 0.0), (50, 0.6), (50, 3.0)])
def test_a_band_covers_all_columns_at_once(pairs, shared):
    """400 samples of 50 columns that share a part; Monte-Carlo error 1.1 %. Their own intervals do not."""
    rng = np.random.default_rng(0)
    band, alone = [], []
    for seed in range(400):
        x = shared * rng.normal(size=(pairs, 1)) + rng.normal(size=(pairs, 50))
        resampling = Resampling(np.arange(pairs), resamples=499, seed=seed)
        band.append(covered(resampling.band(x), 0.0) == 1)
        alone.append(covered(resampling.ratio(x, method="t"), 0.0) == 1)
    assert 0.91 <= np.mean(band) <= 0.975 and np.mean(alone) < 0.85
