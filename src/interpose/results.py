"""Results: labelled per-pair values, and the tables, records and notes that are made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from .aggregates import Aggregates
from .errors import UnknownPlace, suggest
from .grid import axes_of, cells_of
from .inputs import examples
from .judgement import Judgement
from .quantities import EFFECTS, PINNED, SPLITS, Warned
from .statistics import FEW_CLUSTERS, LEVEL, Estimates, number
from .tables import Table, Tabled, some

PER_PAIR = ("ybb", "yss", "te")
PER_CELL = ("ybs", "ysb", "nie", "tie", "nde", "tde", "int", "response")


@dataclass(frozen=True, eq=False, repr=False)
class Effects(Tabled, Aggregates):
    """Four runs a pair and place, and what follows from them; docs/effects.md has every formula."""

    # -- as data -----------------------------------------------------------------------------------

    @cached_property
    def data(self) -> Any:
        """All of this as an xarray `Dataset`: dims pair and the places' own axes, NaN where nothing was measured."""
        return dataset([self])

    def told(self) -> dict[str, Any]:
        """What is said of the whole, as plain values: the model, the metric, what varies, tolerances and work."""
        return {
            "model": self.model,
            "metric": self.metric,
            "varies": ", ".join(self.pairs.varies),
            "tol": self.tol,
            "noise_floor": self.noise,
            "exhaustive": int(self.pairs.exhaustive),
            "mechanisms": ", ".join(self.work.mechanisms),
            "forwards": self.work.forwards,
            "flops": self.work.flops,
        }

    def to_frame(self) -> Any:
        """The per-pair values as a pandas DataFrame, one row a pair and cell."""
        return self.data.to_dataframe().reset_index()

    def record(self, place: Any, quantity: str = "recovery") -> dict[str, Any]:
        """Everything that is known of one number, as plain values: the estimate, its interval, what it is of, and how.

        quantity: "transfer", "recovery" (of NIE), "restores" (the recovery of TIE), "slope", or the mean of "te",
        "nie", ... Undefined numbers are None, with a reason.
        """
        j = self.column(place)
        found, judgement = self._named(quantity), self.judgements()[j]
        at = 0 if len(found) == 1 else j
        kept = int(self.informative.sum())
        left_out = {} if quantity in EFFECTS else {"total effect within tol": len(self.pairs) - kept}
        chance = self.chance() if self.shuffled is not None else None
        return {
            "estimate": _plain(found.estimate[at]),
            "ci_low": _plain(found.low[at]),
            "ci_high": _plain(found.high[at]),
            "level": found.level,
            "ci_method": found.method[at],
            "reason": found.reason[at],
            "estimand": {
                "site": self.labels[j],
                "variable": " and ".join(self.pairs.varies) or None,
                "distribution": repr(self.pairs),
                "metric": self.metric,
                "quantity": quantity,
                "formula": {**EFFECTS, **SPLITS, **PINNED}.get(quantity),
            },
            "n_pairs": len(self.pairs),
            "n_clusters": int(found.clusters[at]),
            "n_excluded": {reason: count for reason, count in left_out.items() if count},
            "tol": self.tol,
            "noise_floor": self.noise,
            "exhaustive": self.pairs.exhaustive,
            "selection": {"tested": self.tests or len(self.places), "adjustment": "Benjamini-Hochberg"},
            "split": self.part,
            "n_looks": self.looks,
            "chance": None if chance is None else _plain(chance.chance[j]),
            "p_value": {
                f"at most {100 * judgement.p0:g} % of pairs have an effect": judgement.p,
                **({} if chance is None else {"no better than chance": _plain(chance.p[j])}),
            },
            "p_adjusted": judgement.adjusted,
            "verdict": judgement.verdict,
            "role": judgement.role,
            "bounds": [judgement.low, judgement.high],
            "grade": judgement.grade,
            "certificate": judgement.certificate,
            "extent": judgement.extent,
            "witness": judgement.witness,
            "approx": False,
            "seed": 0,
            "versions": {name: version(name) for name in ("interpose", "torch", "numpy", "scipy")},
            "warnings": [note.code for note in self.notes()],
        }

    def failures(self, place: Any = None) -> list[dict[str, Any]]:
        """The pairs that a place does not carry to the source's output: what was expected and what came out.

        place: one place; by default every place that mediates. Each can be run again: interchange(model, base, {place:
        source}).
        """
        columns = [j for j, verdict in enumerate(self.verdicts()) if verdict == "mediates"]
        columns = columns if place is None else [self.column(place)]
        base, source = examples(self.pairs.base), examples(self.pairs.source)
        missed = np.abs(self.tde) > self.tol
        return [
            {
                "place": self.labels[j],
                "pair": i,
                "base": base[i],
                "source": source[i],
                "expected": float(self.yss[i]),
                "observed": float(self.ybs[i, j]),
                "untouched": float(self.ybb[i]),
            }
            for j in columns
            for i in np.flatnonzero(missed[:, j]).tolist()
        ]

    # -- to read -----------------------------------------------------------------------------------

    def table(self) -> Table:
        """TE, NIE, TIE, NDE, TDE and INT at each place, each with its interval; CDE and INTref where asked for."""
        names = [*EFFECTS, *(PINNED if self.pinned is not None else ())]
        (total,), *others = [self._rows(name) for name in names]
        rows = (total, *(row for of_place in zip(*others, strict=True) for row in of_place))
        transfer, restores, extent = self.recovery("nie"), self.recovery("tie"), self.extent()
        judgements = self.judgements()
        lines = [
            f"{label}: {_said(judgements[j])}ecovery {_worth(transfer, j)} of the effect; putting it back undoes "
            f"{_worth(restores, j)}. Pairs moved in full {extent[0, j]:.0f}, in part {extent[1, j]:.0f}, not at all "
            f"{extent[2, j]:.0f}."
            for j, label in enumerate(self.labels)
        ]
        columns = ("place", "effect", "formula", "mean", f"{100 * LEVEL:.0f} % interval", "mean size")
        return Table(self._title("Effects on"), columns, rows, (*lines, *self.notes()))

    def notes(self) -> tuple[Warned, ...]:
        """What a reader should know beside the numbers."""
        notes = (
            [Warned("not_shown", f"Not shown by these pairs: {' '.join(audit)}")]
            if (audit := self.pairs.audit())
            else []
        )
        clusters = len(self.resampling.groups)
        if 1 < clusters < FEW_CLUSTERS and not self.pairs.exhaustive:
            notes.append(Warned("few_clusters", f"Rough intervals: they rest on {clusters} independent pairs."))
        elif any("skewed" in flags for flags in self.recovery("nie").flags) and not self.pairs.exhaustive:
            notes.append(Warned("skewed", "Rough intervals: a few pairs count for most of the effect."))
        n, small = len(self.te), int((~self.informative).sum())
        if self.binary and (known := int((self.ybb == 1).sum())):
            said = f"In {known} of {n} pairs the base run gives the target untouched: IIA leaves them out."
            notes.append(Warned("no_informative_pairs" if known == n else "uninformative", said))
        if self.binary and (missed := int((self.yss != 1).sum())):
            said = f"In {missed} of {n} pairs the source run itself does not give the target."
            notes.append(Warned("not_solved_by_network", said))
        if not self.binary and small:
            code = "no_informative_pairs" if small == n else "uninformative"
            said = f"In {small} of {n} pairs the total effect is at most {self.tol:.2g}: shares leave them out."
            notes.append(Warned(code, said))
        if not self.has_size and not self.pairs.exhaustive:
            said = "The usual pair has no total effect: give delta to .verdicts() to tell small effects from none."
            notes.append(Warned("no_size", said))
        if self.cancels():
            te = self.mean("te")
            said = (
                f"Total effects cancel: their mean is {te.shown(0)} {te.text(0)}, their mean size "
                f"{number(float(np.abs(self.te).mean()))}. Read the shares and recoveries, not the means."
            )
            notes.append(Warned("cancellation", said))
        return (*notes, *self._unmoved(), *self._interactions(), *self.warnings)

    def cancels(self) -> bool:
        """Whether the interval of the mean total effect covers 0 while total effects are clearly there."""
        if not len(self.te) or np.abs(self.te).mean() <= 10 * self.tol:
            return False
        te = self.mean("te")
        return bool(te.low[0] <= 0 <= te.high[0]) or (te.method[0] == "exhaustive" and abs(te.estimate[0]) <= self.tol)

    # -- inside ------------------------------------------------------------------------------------

    def _unmoved(self) -> list[Warned]:
        still = [
            label for label, change in zip(self.labels, self.response.max(0, initial=0.0), strict=True) if change == 0
        ]
        said = f"Not changed by the change of input: {some(still)}."
        return [Warned("noop_write", said)] if still else []

    def _interactions(self) -> list[Warned]:
        """Places at which the two directions tell different stories."""
        usual = float(np.median(np.abs(self.te))) if len(self.te) else 0.0
        apart = np.abs(self.interaction).mean(0) > 0.2 * usual if usual > self.tol else np.zeros(len(self.places), bool)
        labels = [label for label, one in zip(self.labels, apart, strict=True) if one]
        said = f"What the place brings (NIE) and what is lost without it (TIE) differ at {some(labels)}."
        return [Warned("interaction", said)] if labels else []

    def _named(self, quantity: str) -> Estimates:
        match quantity:
            case "recovery":
                return self.recovery("nie")
            case "restores":
                return self.recovery("tie")
            case "transfer":
                return self.transfer()
            case "slope":
                return self.slope("nie")
            case _ if quantity in EFFECTS or quantity in SPLITS or quantity in PINNED:
                return self.mean(quantity)
        names = ("recovery", "restores", "transfer", "slope", *EFFECTS, *SPLITS, *PINNED)
        raise UnknownPlace(f"There is no number {quantity!r}. {suggest(quantity, names)}")

    def _rows(self, name: str) -> list[tuple[str, ...]]:
        """The rows of one quantity in the table: one a place, or one for all."""
        estimates, values = self.mean(name), self.values(name)
        sizes = np.abs(values.reshape(len(self.pairs), -1)).mean(0)
        labels = ("all",) if values.ndim == 1 else self.labels
        formula = {**EFFECTS, **PINNED}[name]
        return [
            (label, name.upper().replace("_", ""), formula, estimates.shown(j), estimates.text(j), number(sizes[j]))
            for j, label in enumerate(labels)
        ]

    def _title(self, what: str) -> str:
        varies = " and ".join(self.pairs.varies)
        changes = f" in which {varies} change{'s' * (len(self.pairs.varies) == 1)}" if varies else ""
        return f"{what} {self.metric}, {self.model}, {self._how_many()}{changes}"

    def _how_many(self) -> str:
        return f"{'all ' * self.pairs.exhaustive}{len(self.pairs)} pair{'s' * (len(self.pairs) != 1)}"


def dataset(several: Sequence[Effects], names: Sequence[str] | None = None) -> Any:
    """Effects of the same places as an xarray `Dataset`: dims pair and the places' axes, NaN where there is nothing.

    names: what to call each of several, in a dim `variable` before the others.
    """
    import xarray

    first = several[0]
    axes, size = axes_of(first.places), max(len(one.pairs) for one in several)
    cells, shape = cells_of(first.places, axes), tuple(len(labels) for labels in axes.values())

    def column(values: Sequence[Any], nothing: Any, *, by_cell: bool) -> tuple[tuple[str, ...], Any]:
        whole = np.full((len(several), size, *(shape if by_cell else ())), nothing)
        for k, rows in enumerate(values):
            whole[k, : len(rows)][(slice(None), *(cells if by_cell else ()))] = rows
        dims = ("variable", "pair", *(axes if by_cell else ()))
        return (dims, whole) if names is not None else (dims[1:], whole[0])

    variables = {name: column([one.values(name) for one in several], np.nan, by_cell=False) for name in PER_PAIR}
    variables |= {name: column([one.values(name) for one in several], np.nan, by_cell=True) for name in PER_CELL}
    variables["status"] = column([one.status for one in several], "not measured", by_cell=True)
    coordinates = {"pair": np.arange(size), **axes} | ({} if names is None else {"variable": list(names)})
    told = [one.told() for one in several]
    shared = {name: said for name, said in told[0].items() if all(one[name] == said for one in told)}
    return xarray.Dataset(variables, coordinates, shared)


def _said(judgement: Judgement) -> str:
    """The role of a place before what follows; of a single pair, which decides nothing, none."""
    return f"{judgement.role}. R" if judgement.units > 1 or judgement.verdict != "undetermined" else "r"


def _worth(estimates: Estimates, column: int) -> str:
    """An estimate with its interval in brackets, or alone where it has none."""
    text = estimates.text(column)
    return estimates.shown(column) + (f" {text}" if text.startswith("[") else f", {text}" if text != "-" else "")


def _plain(value: float) -> float | None:
    return None if value != value else float(value)
