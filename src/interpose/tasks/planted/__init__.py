"""Networks with a planted algorithm, keys that tell it, and scores of answers: puzzles, and a judge of methods.

puzzle = planted("A+(B+C)", "dead", seed=3)
puzzle.network, puzzle.inputs     # what a method is given
puzzle.key.explain()              # what it should find
score(answer, puzzle.key)
table(score(method(puzzle), puzzle.key) for puzzle in suite(range(100, 101)))
"""

from .answer import OUTPUT, Answer, Claim
from .arithmetic import addition
from .baselines import by_accuracy_alone, by_guessing, by_single_variables
from .controls import CONTROLS, control
from .discovered import answer_of, by_discovery
from .encodings import ENCODINGS, Encoding
from .instance import VERSION, Planted, planted
from .key import Cell, Inert, Key, LayerKey
from .program import Program, Step, positive, step
from .programs import PROGRAMS
from .scoring import Score, score, table
from .suites import suite
from .truth import Truth

__all__ = [
    "CONTROLS",
    "ENCODINGS",
    "OUTPUT",
    "PROGRAMS",
    "VERSION",
    "Answer",
    "Cell",
    "Claim",
    "Encoding",
    "Inert",
    "Key",
    "LayerKey",
    "Planted",
    "Program",
    "Score",
    "Step",
    "Truth",
    "addition",
    "answer_of",
    "by_accuracy_alone",
    "by_discovery",
    "by_guessing",
    "by_single_variables",
    "control",
    "planted",
    "positive",
    "score",
    "step",
    "suite",
    "table",
]
