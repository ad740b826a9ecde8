"""Intervals, tests and verdicts, from numbers alone: nothing here knows of networks."""

from .estimates import FEW_CLUSTERS, LEVEL, Estimates, Floats, Method, exhaustive, number
from .nulls import mean_equivalence, p_above, p_below, p_mean
from .proportions import clopper_pearson, design_effect, mcnemar, median, shares, wilson
from .resampling import MANY_CLUSTERS, RESAMPLES, Resampling, ratios
from .sizes import further, n_for_iia, n_for_mean, n_for_none, pairs_to_exclude
from .verdicts import ALPHA, P0, Verdict, limits, verdicts

__all__ = [
    "ALPHA",
    "FEW_CLUSTERS",
    "LEVEL",
    "MANY_CLUSTERS",
    "P0",
    "RESAMPLES",
    "Estimates",
    "Floats",
    "Method",
    "Resampling",
    "Verdict",
    "clopper_pearson",
    "design_effect",
    "exhaustive",
    "further",
    "limits",
    "mcnemar",
    "mean_equivalence",
    "median",
    "n_for_iia",
    "n_for_mean",
    "n_for_none",
    "number",
    "p_above",
    "p_below",
    "p_mean",
    "pairs_to_exclude",
    "ratios",
    "shares",
    "verdicts",
    "wilson",
]
