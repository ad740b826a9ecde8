"""Causal mediation analysis and causal abstraction of neural networks.

A model runs inputs. At places, interventions overwrite values. An effect is the change of a metric over pairs of base
and source. A search looks for the places that have the effect you want. An alignment claims which places hold which
variable, and interchange tests the claim.
"""

from .ablations import Mean, Resample, ablate
from .abstraction import Alignment, interchange_accuracy
from .causal_model import CausalModel, Variable
from .circuits import circuit
from .comparison import compare
from .drawing import draw, draw_alignment, draw_attention, draw_circuit, draw_interchange
from .effects import effects, interchange
from .engine.question import Engine
from .generated import Generated
from .interventions import Add, Chain, Noise, Scale, Set
from .language import LanguageModel
from .metrics import Matches, logit_difference, matches, value
from .model import Model, Run
from .named import Prompt
from .network import Network
from .pairs import Pairs
from .prompted import Prompted
from .reports.page import report
from .rivals import distinguish
from .saved import load, save
from .search.discover import discover
from .search.scan import scan
from .sites import EACH, Site
from .tracing import Traced, trace

__version__ = "0.1.0"
__all__ = [
    "EACH",
    "Add",
    "Alignment",
    "CausalModel",
    "Chain",
    "Engine",
    "Generated",
    "LanguageModel",
    "Matches",
    "Mean",
    "Model",
    "Network",
    "Noise",
    "Pairs",
    "Prompt",
    "Prompted",
    "Resample",
    "Run",
    "Scale",
    "Set",
    "Site",
    "Traced",
    "Variable",
    "ablate",
    "circuit",
    "compare",
    "discover",
    "distinguish",
    "draw",
    "draw_alignment",
    "draw_attention",
    "draw_circuit",
    "draw_interchange",
    "effects",
    "interchange",
    "interchange_accuracy",
    "load",
    "logit_difference",
    "matches",
    "report",
    "save",
    "scan",
    "trace",
    "value",
]
