"""Scores of answers against keys, one an instance, and their table with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UnknownPlace, WrongShape
from ...statistics import ALPHA, clopper_pearson, number, wilson
from ...tables import Table
from .answer import Answer, Sites
from .judge import contradictions, edges_f1, false_inert, is_recovered
from .key import Key
from .partitions import kernel, rand_index


@dataclass(frozen=True)
class Score:
    """How good an answer is.

    version, key: of the generator, and the key's hash. recovered: whether the answer is the key, up to what is
    equivalent; None for an ambiguous instance, where only the verdict counts. contradictions: what it calls exact or
    verified and is false. false_inert: live sites it calls inert. abstained: whether it leaves something undetermined,
    or claims less than the whole. precision, recall: of live sites. agreement: adjusted Rand index of kernels, on
    average over the key's cells. edges: F1. decode_error: how far the output is off at most when what the answer says
    to write is written; None where it says nothing.
    """

    program: str
    encoding: str
    seed: int
    version: int
    key: str
    control: bool
    recovered: bool | None
    verdict_right: bool
    contradictions: tuple[str, ...]
    false_inert: tuple[str, ...]
    abstained: bool
    precision: float
    recall: float
    agreement: float
    edges: float
    decode_error: float | None

    @property
    def false_abstraction(self) -> bool:
        """Whether anything that the answer calls exact or verified is false."""
        return bool(self.contradictions)


def score(answer: Answer, key: Key) -> Score:
    """How good an answer is, by the key.

    Raises WrongShape where a claim has classes of more or fewer settings than there are.
    """
    for claim in answer.claims:
        if claim.classes is not None and len(claim.classes) != len(key.settings):
            raise WrongShape(
                f"The claim on {sorted(claim.sites)} has classes of {len(claim.classes)} settings; there are "
                f"{len(key.settings)}, in the order of Planted.settings."
            )
    claimed = frozenset().union(*(claim.sites for claim in answer.claims if claim.label != "none"))
    live = frozenset().union(*(cell.sites for cell in key.cells)) if not key.control else frozenset()
    hits = len(claimed & live)
    return Score(
        program=key.program,
        encoding=key.encoding,
        seed=key.seed,
        version=key.version,
        key=key.hash,
        control=key.control,
        recovered=None if key.ambiguous else is_recovered(answer, key),
        verdict_right=answer.verdict in key.verdicts,
        contradictions=tuple(contradictions(answer, key)),
        false_inert=tuple(false_inert(answer, key)),
        abstained=_abstained(answer),
        precision=hits / len(claimed) if claimed else 1.0,
        recall=hits / len(live) if live else 1.0,
        agreement=_agreement(answer, key),
        edges=edges_f1(answer, key),
        decode_error=_decode_error(answer, key),
    )


def _abstained(answer: Answer) -> bool:
    return (
        answer.verdict in ("partial", "none")
        or "undetermined" in answer.inert.values()
        or any(claim.label == "none" or claim.classes is None for claim in answer.claims)
    )


def _agreement(answer: Answer, key: Key) -> float:
    """For every cell of the key the agreement of its kernel with that of the claim that shares most sites with it."""
    if key.control or not key.cells:
        return 1.0
    found = []
    for cell in key.cells:
        claims = [claim for claim in answer.claims if claim.sites & cell.sites and claim.classes is not None]
        shared = [len(claim.sites & cell.sites) / len(claim.sites | cell.sites) for claim in claims]
        best = claims[int(np.argmax(shared))] if claims else None
        agrees = 0.0
        if best is not None and best.classes is not None:
            truth = key.truth.seen(best.sites & cell.sites)
            agrees = rand_index(kernel(best.classes), truth)
        found.append(agrees)
    return float(np.mean(found))


def _decode_error(answer: Answer, key: Key) -> float | None:
    """How far the output is off at most when the answer's values are written instead of those of a source.

    Only values within what occurs, and as far beyond it as the key's margin goes, are written.
    """
    errors = []
    claims = {claim.sites: claim.classes for claim in answer.claims if claim.classes is not None}
    for sites, written in answer.decode.items():
        try:
            level, _ = key.truth.find(sites)
        except UnknownPlace:
            continue
        classes = claims.get(sites)
        if classes is None or level == len(key.truth.weights):
            continue
        low, high = _within(sites, key)
        for one, values in written.items():
            told = np.array([values], float)
            if one in classes and told.shape == (1, len(sites)) and ((low <= told) & (told <= high)).all():
                sources = [x for x, c in enumerate(classes) if c == one]
                table = key.truth.table(sites)
                errors.append(np.abs(table.rows[table.index[sources]] - key.truth.forced(sites, told)).max())
    return float(max(errors)) if errors else None


def _within(sites: Sites, key: Key) -> tuple[np.ndarray, np.ndarray]:
    values = key.truth.values(sites)
    margin = next((cell.margin for cell in key.cells if cell.sites == sites), 0.0)
    return values.min(0) - margin - 1e-9, values.max(0) + margin + 1e-9


def table(scores: Iterable[Score]) -> Table:
    """Scores by tier of encoding and by program, never only pooled, with intervals at 95 %.

    Recovery has Wilson's interval; rates that must be near zero have Clopper and Pearson's upper limit. Of ambiguous
    instances only the verdict counts.
    """
    scores = list(scores)
    networks, controls = [one for one in scores if not one.control], [one for one in scores if one.control]
    rows = [*_rows(networks, lambda one: "all with a program"), *_rows(controls, lambda one: "all without")]
    rows += [*_rows(scores, lambda one: one.encoding), *_rows(networks, lambda one: one.program)]
    notes = (
        "right: groups, kernels, inert sites and wiring are the key's. false: something that is called exact or",
        "verified is false. live: a live site is called inert. open: something is left open. kernels: adjusted Rand",
        "index. edges: F1. In brackets Wilson's interval, after <= Clopper and Pearson's upper limit, both at 95 %.",
    )
    columns = ("instances", "n", "right", "", "false", "", "live", "", "open", "verdict", "kernels", "edges")
    return Table("Answers against keys", columns, tuple(rows), notes)


def _rows(scores: Sequence[Score], part: Callable[[Score], str]) -> list[tuple[str, ...]]:
    names = dict.fromkeys(part(one) for one in scores)
    return [_row(name, [one for one in scores if part(one) == name]) for name in names]


def _row(name: str, scores: Sequence[Score]) -> tuple[str, ...]:
    clear = [one for one in scores if one.recovered is not None]
    n, hits = len(clear), sum(bool(one.recovered) for one in clear)
    low, high = wilson(hits, n)
    return (
        name,
        str(len(scores)),
        number(hits / n if n else float("nan")),
        f"[{number(float(low))}, {number(float(high))}]",
        *_rare(sum(one.false_abstraction for one in clear), n),
        *_rare(sum(bool(one.false_inert) for one in clear), n),
        _mean([one.abstained for one in clear]),
        _mean([one.verdict_right for one in scores]),
        _mean([one.agreement for one in clear]),
        _mean([one.edges for one in clear]),
    )


def _mean(values: Sequence[float]) -> str:
    return number(float(np.mean(values)) if values else float("nan"))


def _rare(hits: int, n: int) -> tuple[str, str]:
    _, most = clopper_pearson(hits, n, alpha=ALPHA)
    return f"{hits}/{n}", f"<= {number(float(most), 3)}"
