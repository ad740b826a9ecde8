"""The main job, twice: which neurons carry A, B and C, and where a language model keeps a city's country."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .abstraction import interchange_accuracy
from .drawing import draw, draw_alignment, draw_circuit, draw_interchange
from .errors import MissingPart
from .maps import Scan
from .metrics import logit_difference, matches
from .reports.abstraction import abstraction
from .reports.explorer import explorer
from .reports.page import report
from .reports.sentences import where_it_is
from .search.scan import scan
from .tasks import adder, capitals

Say = Callable[[str], object]


def demo(out: Path, *, say: Say = print, cities: int = 8, progress: bool | None = None) -> None:
    """Run both parts, say what was found, and save pictures in `out`, with a page that shows it all.

    Where the language model's weights, or transformers, are not installed, that is said in a line, and the first
    part stands alone.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = adder_part(out, say)
    try:
        results.append(capitals_part(out, say, cities, progress))
    except MissingPart as missing:
        say(f"The language model is left out: {missing}")
    report(out / "report.html", *results, title="Which parts carry what?")
    say(f"\nSaved in {out}/, as one page in report.html.")


def adder_part(out: Path, say: Say) -> list[Any]:
    """The tutorial's adder: three maps, the mediators, the circuit, and the abstraction, tested by interchange.

    Returns what a page of it should show.
    """
    network, hypothesis = adder.network(), adder.hypothesis()
    say("1. A network that computes A + B + C. Which of its neurons carry what?\n")
    scans = scan(network, adder.pairs(), network.neurons("l1", "l2"), matches)
    for found in scans.values():
        say(f"{found.table()}\n")
    mediators = scans.mediators()
    for site in dict.fromkeys(site for sites in mediators.values() for site in sites):
        say(f"{site} carries {' and '.join(name for name, sites in mediators.items() if site in sites)}.")
    claim = adder.alignment()
    accuracy = interchange_accuracy(network, claim)
    say(f"\nThe claim: {', '.join(f'{variable} is held at {places[0]}' for variable, places in claim.items())}.")
    say(f"{accuracy.table()}\n")
    pictures = {
        "adder-hypothesis": draw(hypothesis),
        "adder-network": draw(network, [1, 2, 3]),
        "adder-interchange": draw_interchange(network, [1, 2, 3], {"h12": [4, 2, 3]}),
        "adder-maps": scans.heatmap(),
        "adder-circuit": draw_circuit(network, mediators),
        "adder-alignment": draw_alignment(network, claim),
    }
    for name, picture in pictures.items():
        picture.save(out / f"{name}.svg")
        picture.save(out / f"{name}.png")
    pictures["adder-maps"].save(out / "adder-maps.html")
    tried = (
        explorer(network, [1, 2, 3], {"h12": [4, 2, 3]}),
        hypothesis,
        abstraction(network, claim),
    )
    return [scans, *tried, accuracy, pictures["adder-circuit"]]


def capitals_part(out: Path, say: Say, cities: int, progress: bool | None = None) -> Scan:
    """The language model: its residual stream, every layer and position, patched from another city's run."""
    weights = capitals.weights()
    say(f"2. A real language model, {weights.stem}. Where does it keep a city's country?\n")
    lm = capitals.language_model()
    pairs = capitals.pairs(lm, n=cities)
    flow = scan(lm, pairs, lm.residual(), logit_difference, progress=progress)
    say(f"{flow.table(most=10)}\n")
    for sentence in where_it_is(flow):
        say(sentence)
    picture = flow.heatmap()
    for form in ("svg", "png", "html"):
        picture.save(out / f"capitals-flow.{form}")
    return flow
