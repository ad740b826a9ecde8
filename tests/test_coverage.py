"""Do 95 % intervals hold the truth in 95 of 100 samples? Simulated with fixed seeds, every sample a column.

The Monte-Carlo error of a coverage of 95 % from 2,000 samples is 0.5 %; bounds are three of it, or wider where an
interval is known to be rough.
"""

import numpy as np
import pytest

from interpose.statistics import Resampling

from samples import METHODS, covered

SAMPLES = 2000
R_SQUARED = 0.25 / (0.25 + 0.09)


def effects(rng, pairs):
    """[pair, sample]: total effects, and what a place carries of them: half, with noise."""
    te = rng.normal(size=(pairs, SAMPLES))
    return te, 0.5 * te + 0.3 * rng.normal(size=(pairs, SAMPLES))


def recovery(resampling, te, nie, method):
    return resampling.ratio(np.sign(te) * nie, np.abs(te), method=method)


STATISTICS = {
    "mean": (lambda r, te, nie, method: r.ratio(nie, method=method), 0.0),
    "recovery": (recovery, 0.5),
    "slope": (lambda r, te, nie, method: r.slope(te, nie, method=method), 0.5),
    "r squared": (lambda r, te, nie, method: r.r_squared(te, nie, method=method), R_SQUARED),
}


CASES = [(name, method) for name in STATISTICS for method in METHODS if (name, method) != ("r squared", "studentised")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_coverage_of_independent_pairs(name, method):
    ask, truth = STATISTICS[name]
    te, nie = effects(np.random.default_rng(0), 100)
    assert 0.925 <= covered(ask(Resampling(np.arange(100), resamples=999), te, nie, method), truth) <= 0.965


@pytest.mark.parametrize("method", ["bca", "t"])
@pytest.mark.parametrize("sizes", ["four each", "one to seven"])
@pytest.mark.parametrize("name", ["mean", "recovery", "slope"])
def test_coverage_of_clusters(name, sizes, method):
    """Pairs of a cluster share most of their noise; intervals that take them for independent miss far too often."""
    rng = np.random.default_rng(0)
    many = np.full(60, 4) if sizes == "four each" else rng.integers(1, 8, 60)
    clusters = np.repeat(np.arange(60), many)
    te = rng.normal(size=(60, SAMPLES))[clusters] + 0.3 * rng.normal(size=(len(clusters), SAMPLES))
    noise = rng.normal(size=(60, SAMPLES))[clusters] + 0.3 * rng.normal(size=te.shape)
    ask, truth = STATISTICS[name]
    nie = 0.5 * te + 0.3 * noise
    assert 0.92 <= covered(ask(Resampling(clusters, resamples=999), te, nie, method), truth) <= 0.97
    assert covered(ask(Resampling(np.arange(len(clusters))), te, nie, "t"), truth) < 0.8


@pytest.mark.parametrize(("pairs", "bca", "studentised"), [(10, 0.86, 0.92), (20, 0.90, 0.93), (50, 0.92, 0.935)])
def test_small_skewed_samples_are_as_rough_as_their_flag_says(pairs, bca, studentised):
    """Gamma(2) has skewness 1.4. Under thirty clusters BCa is too short, and says so; the studentised interval less."""
    x = np.random.default_rng(0).gamma(2.0, size=(pairs, SAMPLES))
    resampling = Resampling(np.arange(pairs), resamples=999)
    found = resampling.ratio(x, method="bca")
    assert bca <= covered(found, 2.0) <= 0.965
    assert studentised <= covered(resampling.ratio(x, method="studentised"), 2.0) <= 0.965
    assert all(("few_clusters" in flags) == (pairs < 30) for flags in found.flags)


def test_coverage_of_paired_differences():
    """Two sites that share most of their noise: intervals hold the difference, a fifth as wide as unpaired ones."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(80, SAMPLES))
    one, other = (shared + 0.1 * rng.normal(size=shared.shape) + mean for mean in (0.3, 0.1))
    resampling = Resampling(np.arange(80), resamples=999)
    apart, alone = resampling.difference(one, other), resampling.ratio(one)
    assert 0.93 <= covered(apart, 0.2) <= 0.965
    assert (apart.high - apart.low).mean() < 0.2 * (alone.high - alone.low).mean()


def test_coverage_of_any_function_of_sums():
    """The log of a mean of lognormal(0, 1/2), by BCa; and the standard deviation of normal numbers."""
    rng = np.random.default_rng(0)
    resampling = Resampling(np.arange(100), resamples=999)
    x, n = rng.lognormal(0, 0.5, size=(100, SAMPLES)), np.ones(100)
    assert 0.925 <= covered(resampling.of([x, n], lambda a, n: np.log(a / n)), 0.125) <= 0.965
    z = rng.normal(size=(100, SAMPLES))
    deviation = resampling.of([z * z, z, n], lambda a, b, n: np.sqrt(a / n - (b / n) ** 2))
    assert 0.915 <= covered(deviation, 1.0) <= 0.965


def test_coverage_of_pairs_that_were_left_out_of_a_shared_resampling():
    rng = np.random.default_rng(0)
    te, nie = effects(rng, 150)
    kept = np.abs(te) > 0.5
    found = Resampling(np.arange(150), resamples=999).ratio(np.sign(te) * nie, np.abs(te), kept=kept)
    assert 0.93 <= covered(found, 0.5) <= 0.965
    assert (found.clusters == kept.sum(0)).all()
