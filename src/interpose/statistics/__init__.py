"""Intervals, tests and verdicts, from numbers alone: nothing here knows of networks."""

from .estimates import FEW_CLUSTERS, LEVEL, Estimates, Floats, Method, exhaustive, number
from .multiplicity import benjamini_hochberg, benjamini_yekutieli, bonferroni, fcr_level, holm
from .nulls import mean_equivalence, p_above, p_below, p_mean
from .permutation import Chance, drawn, mismatched, p_among
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
    "Chance",
    "Estimates",
    "Floats",
    "Method",
    "Resampling",
    "Verdict",
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "bonferroni",
    "clopper_pearson",
    "design_effect",
    "drawn",
    "exhaustive",
    "fcr_level",
    "further",
    "holm",
    "limits",
    "mcnemar",
    "mean_equivalence",
    "median",
    "mismatched",
    "n_for_iia",
    "n_for_mean",
    "n_for_none",
    "number",
    "p_above",
    "p_among",
    "p_below",
    "p_mean",
    "pairs_to_exclude",
    "ratios",
    "shares",
    "verdicts",
    "wilson",
]
