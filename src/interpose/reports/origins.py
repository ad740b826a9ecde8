"""Where numbers come from, as far as a result knows: the model, the data, the work; and what it does not know."""

from __future__ import annotations

from importlib.metadata import version

from ..errors import WrongStore
from ..identity import told
from ..pairs import Pairs
from ..results import Effects
from .words import counted, named

Origin = tuple[tuple[str, str], ...]
KEPT = 16
"""How many digits of a hash are shown."""
HASHED = ", SHA-256"


def of_effects(found: Effects) -> Origin:
    """The model and its weights, the pairs, tolerances, and what the engine did."""
    work = found.work
    lines = [
        ("Model", found.model),
        (f"Weights{HASHED}", _weights(found)),
        ("Metric", found.metric),
        ("Pairs", pairs_line(found.pairs)),
        (f"Data{HASHED}", data_hash(found.pairs)),
        ("Places", counted(len(found.places), "place") + _tests(found)),
        ("Counts as no difference", f"at most {found.tol:.3g} in the metric"),
        ("Noise floor", f"{found.noise:.3g}"),
        ("Counts as an effect", f"more than {found.delta:.3g}, unless told otherwise"),
        ("Mechanisms of the engine", ", ".join(work.mechanisms) or "not recorded"),
        ("Forward passes", f"{work.forwards:,}, of {counted(work.rows, 'row')} together"),
        ("FLOPs of the sweeps", f"about {work.flops:.2g}" if work.flops else "not counted"),
    ]
    lines += [("The engine says", note) for note in work.notes]
    lines.append(("Seed of the intervals", "0"))
    return tuple(lines)


def limits(found: Effects) -> list[str]:
    """What the way it was asked does not allow to say."""
    said = []
    if found.part == "discover":
        said.append("These are the pairs of one half, to choose places on; the other half is to confirm them.")
    if found.part == "confirm":
        said.append("These are the pairs of the half that confirms; places were chosen on the other.")
    if found.looks > 1:
        said.append(f"These pairs were looked at {found.looks} times.")
    unreachable = [
        label
        for label, column in zip(found.labels, found.status.T, strict=True)
        if len(column) and (column == "unreachable").all()
    ]
    if unreachable:
        said.append(f"Nothing leads from {named(unreachable)} to what the metric reads.")
    return said


def pairs_line(pairs: Pairs) -> str:
    """How many pairs, and how many of them count as one observation."""
    if pairs.exhaustive:
        return f"all {counted(len(pairs), 'pair')} there are"
    clusters = len(set(pairs.clusters().tolist()))
    return f"{counted(len(pairs), 'pair')}, {clusters:,} of them independent of each other"


def data_hash(pairs: Pairs) -> str:
    """A hash of bases, sources, answers and targets, the same in any process."""
    unknown: list[str] = []
    digest = told((pairs.base, pairs.source, pairs.answers, pairs.targets, pairs.varies), unknown)
    return f"none: {unknown[0]} has no form to hash" if unknown else short(digest)


def short(digest: str) -> str:
    """The first digits of a hash."""
    return f"{digest[:KEPT]}…"


def versions() -> str:
    """What the page was made with."""
    return ", ".join(f"{name} {version(name)}" for name in ("interpose", "torch", "numpy", "scipy", "matplotlib"))


def _weights(found: Effects) -> str:
    if found.origin is None:
        return "not known: the result was loaded without its model"
    try:
        return short(found.origin.weights())
    except WrongStore as why:
        return f"not known. {why}"


def _tests(found: Effects) -> str:
    return f"; verdicts hold over {found.tests:,} together" if found.tests and found.tests > len(found.places) else ""
