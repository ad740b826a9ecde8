"""Results: labelled per-pair values, from which every table, interval and picture is derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .errors import UnknownPlace, suggest
from .grid import Group, axes_of, cells_of, label_of
from .model import Work
from .pairs import Pairs
from .statistics import (
    ALPHA,
    FEW_CLUSTERS,
    LEVEL,
    P0,
    Estimates,
    Floats,
    Verdict,
    exhaustive,
    number,
    ratios,
    shares,
    verdicts,
)
from .tables import Table

FORMULAS = {
    "te": "Yss - Ybb",
    "nie": "Ybs - Ybb",
    "tie": "Yss - Ysb",
    "nde": "Ysb - Ybb",
    "tde": "Yss - Ybs",
    "int": "Yss - Ysb - Ybs + Ybb",
}

PER_PAIR = ("ybb", "yss", "te")
PER_CELL = ("ybs", "ysb", "nie", "tie", "nde", "tde", "int", "response")


@dataclass(frozen=True, eq=False)
class Effects:
    """Four runs a pair and place, and what follows from them; docs/effects.md has every formula.

    ybb, yss: [pair], the base and the source input untouched.
    ybs, ysb: [pair, place], the base input with the source's value at the place, and the source input with the base's.
    response: [pair, place], the largest change of the place's own value between base and source.
    tol: what counts as no difference; noise: the noise floor it was raised above.
    work: what it cost, checks and plain runs included; flops are those of the sweeps.
    unreachable: [pair, place], whether nothing leads from the place to what the metric reads; None is nowhere.
    """

    model: str
    metric: str
    binary: bool
    pairs: Pairs
    places: tuple[Group, ...]
    ybb: Floats
    yss: Floats
    ybs: Floats
    ysb: Floats
    response: Floats
    tol: float
    noise: float
    warnings: tuple[str, ...] = ()
    work: Work = field(default_factory=Work)
    unreachable: Any = None

    # -- quantities, per pair ----------------------------------------------------------------------

    @property
    def te(self) -> Floats:
        """[pair]: what changing the input does, Yss - Ybb."""
        return self.yss - self.ybb

    @property
    def nie(self) -> Floats:
        """[pair, place]: natural indirect effect, Ybs - Ybb: moved by the place alone (noising)."""
        return self.ybs - self.ybb[:, None]

    @property
    def tie(self) -> Floats:
        """[pair, place]: total indirect effect, Yss - Ysb: lost when the place is put back (denoising)."""
        return self.yss[:, None] - self.ysb

    @property
    def nde(self) -> Floats:
        """[pair, place]: natural direct effect, Ysb - Ybb: what still changes with the place kept at base."""
        return self.ysb - self.ybb[:, None]

    @property
    def tde(self) -> Floats:
        """[pair, place]: total direct effect, Yss - Ybs: what is missing with the place at source."""
        return self.yss[:, None] - self.ybs

    @property
    def interaction(self) -> Floats:
        """[pair, place]: interaction, Yss - Ysb - Ybs + Ybb: how far the place and the rest fail to add up."""
        return self.tie - self.nie

    @property
    def status(self) -> Any:
        """[pair, place]: "unchanged" where base and source hold the same, "unreachable" where they differ and nothing
        leads on to what the metric reads, so that effects are 0 in either; and "measured".
        """
        lost = np.zeros(self.response.shape, bool) if self.unreachable is None else self.unreachable
        return np.where(self.response == 0, "unchanged", np.where(lost, "unreachable", "measured"))

    def values(self, name: str) -> Floats:
        """The per-pair values of a quantity by its short name: "te", "nie", ..., "int", or of a run: "ybs"."""
        names = {**dict.fromkeys(("ybb", "yss", "ybs", "ysb", "response")), **FORMULAS}
        if name not in names:
            raise UnknownPlace(f"There is no quantity {name!r}. {suggest(name, names)}")
        return getattr(self, "interaction" if name == "int" else name)  # type: ignore[no-any-return]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each place is called."""
        return tuple(map(label_of, self.places))

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

    # -- aggregates --------------------------------------------------------------------------------

    def mean(self, quantity: str) -> Estimates:
        """The mean over pairs of "te", "nie", "tie", "nde", "tde" or "int" at each place."""
        values = self.values(quantity)
        columns = values[:, None] if values.ndim == 1 else values
        return self._ratios(columns, None, self._clusters)

    def recovery(self, quantity: str = "nie") -> Estimates:
        """sum of sgn(TE) * effect / sum of |TE| at each place: the sign-aligned share of the effect, not clipped.

        Pairs with |TE| <= tol are left out; undefined where none is left.
        """
        kept = np.abs(self.te) > self.tol
        te = self.te[kept][:, None]
        effect = self.values(quantity)[kept]
        return self._ratios(np.sign(te) * effect, np.abs(te), self._clusters[kept])

    def transfer(self) -> Estimates:
        """How much of the source's answer the place alone carries into the base run.

        For a metric that says yes or no, the share of pairs in which it says yes, among those in which the untouched
        base run does not (interchange intervention accuracy on informative pairs; Geiger et al. 2021); for any other,
        the recovery of NIE.
        """
        if not self.binary:
            return self.recovery("nie")
        told = self.ybb < 1
        return self._estimated(shares(self.ybs[told], self._clusters[told]))

    def extent(self) -> Floats:
        """[3, place]: how many pairs transfer in full (|NIE - TE| <= tol), in part, and not at all (|NIE| <= tol)."""
        kept = np.abs(self.te) > self.tol
        none = np.abs(self.nie[kept]) <= self.tol
        full = ~none & (np.abs(self.tde[kept]) <= self.tol)
        return np.stack([full.sum(0), (~none & ~full).sum(0), none.sum(0)]).astype(float)

    def hits(self, *, delta: float | None = None) -> Floats:
        """[cluster, place]: 1 where any pair of the cluster has max(|NIE|, |TIE|) > delta.

        delta: what is worth calling an effect; 5 % of the median |TE|, and never less than tol, unless given.
        """
        moved = self._moved(delta).astype(float)
        clusters, index = np.unique(self._clusters, return_inverse=True)
        hits = np.zeros((len(clusters), moved.shape[1]))
        np.maximum.at(hits, index, moved)
        return hits

    def verdicts(self, *, delta: float | None = None, p0: float = P0, alpha: float = ALPHA) -> tuple[Verdict, ...]:
        """Per place: mediates, does not mediate, or undetermined.

        A place mediates if more than a share p0 of the clusters there are (independent pairs, or bases) are hits, with
        errors at most alpha over all the places together. Where half of the pairs have no total effect, nothing says
        what is worth calling an effect, and no place "does not mediate" unless delta is given.
        """
        if self.pairs.exhaustive:
            shares_of_all = self._moved(delta).mean(0)
            return tuple("mediates" if share > p0 else "does not mediate" for share in shares_of_all)
        hits = self.hits(delta=delta)
        found = verdicts(hits.sum(0), len(hits), p0=p0, alpha=alpha)
        if delta is None and not self._has_size:
            return tuple("undetermined" if verdict == "does not mediate" else verdict for verdict in found)
        return found

    # -- to read -----------------------------------------------------------------------------------

    def table(self) -> Table:
        """TE, NIE, TIE, NDE, TDE and INT at each place, each with its interval."""
        (total,), *others = [self._rows(name, formula) for name, formula in FORMULAS.items()]
        rows = (total, *(row for of_place in zip(*others, strict=True) for row in of_place))
        transfer, restores, extent = self.recovery("nie"), self.recovery("tie"), self.extent()
        lines = [
            f"{label}: recovery {_worth(transfer, j)} of the effect; putting it back undoes {_worth(restores, j)}. "
            f"Pairs moved in full {extent[0, j]:.0f}, in part {extent[1, j]:.0f}, not at all {extent[2, j]:.0f}."
            for j, label in enumerate(self.labels)
        ]
        columns = ("place", "effect", "formula", "mean", f"{100 * LEVEL:.0f} % interval", "mean size")
        return Table(self._title("Effects on"), columns, rows, (*lines, *self.notes()))

    def notes(self) -> tuple[str, ...]:
        """What a reader should know beside the numbers."""
        notes = [f"Not shown by these pairs: {' '.join(audit)}"] if (audit := self.pairs.audit()) else []
        if 1 < (clusters := len(np.unique(self._clusters))) < FEW_CLUSTERS and not self.pairs.exhaustive:
            notes.append(f"Rough intervals: they rest on {clusters} independent pairs.")
        n, small = len(self.te), int((np.abs(self.te) <= self.tol).sum())
        if self.binary and (known := int((self.ybb == 1).sum())):
            notes.append(f"In {known} of {n} pairs the base run gives the target untouched: IIA leaves them out.")
        if self.binary and (missed := int((self.yss != 1).sum())):
            notes.append(f"In {missed} of {n} pairs the source run itself does not give the target.")
        if not self.binary and small:
            notes.append(f"In {small} of {n} pairs the total effect is at most {self.tol:.2g}: shares leave them out.")
        if not self._has_size and not self.pairs.exhaustive:
            notes.append(
                "The usual pair has no total effect: give delta to .verdicts() to tell small effects from none."
            )
        if self.cancels():
            te = self.mean("te")
            notes.append(
                f"Total effects cancel: their mean is {te.shown(0)} {te.text(0)}, their mean size "
                f"{number(float(np.abs(self.te).mean()))}. Read the shares and recoveries, not the means."
            )
        still = [
            label for label, change in zip(self.labels, self.response.max(0, initial=0.0), strict=True) if change == 0
        ]
        if still:
            more = f" and {len(still) - 6} more" if len(still) > 6 else ""
            notes.append(f"Not changed by the change of input: {', '.join(still[:6])}{more}.")
        return (*notes, *self.warnings)

    def cancels(self) -> bool:
        """Whether the interval of the mean total effect covers 0 while total effects are clearly there."""
        if not len(self.te) or np.abs(self.te).mean() <= 10 * self.tol:
            return False
        te = self.mean("te")
        return bool(te.low[0] <= 0 <= te.high[0]) or (te.method[0] == "exhaustive" and abs(te.estimate[0]) <= self.tol)

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    # -- inside ------------------------------------------------------------------------------------

    def _rows(self, name: str, formula: str) -> list[tuple[str, ...]]:
        """The rows of one quantity in the table: one a place, or one for all."""
        estimates, values = self.mean(name), self.values(name)
        sizes = np.abs(values.reshape(len(self.pairs), -1)).mean(0)
        labels = ("all",) if values.ndim == 1 else self.labels
        return [
            (label, name.upper(), formula, estimates.shown(j), estimates.text(j), number(sizes[j]))
            for j, label in enumerate(labels)
        ]

    def _moved(self, delta: float | None) -> Any:
        """[pair, place]: whether the effect in either direction is larger than delta."""
        delta = max(0.05 * float(np.median(np.abs(self.te))), self.tol) if delta is None else delta
        return np.maximum(np.abs(self.nie), np.abs(self.tie)) > delta

    @property
    def _has_size(self) -> bool:
        """Whether the usual pair has a total effect, of which delta can be a share."""
        return bool(np.median(np.abs(self.te)) > self.tol)

    @property
    def _clusters(self) -> Any:
        return self.pairs.clusters()

    def _ratios(self, top: Floats, bottom: Floats | None, clusters: Any) -> Estimates:
        sampled = not self.pairs.exhaustive
        return self._estimated(ratios(top, bottom, clusters, tol=self.tol, interval=sampled))

    def _estimated(self, estimates: Estimates) -> Estimates:
        return exhaustive(estimates) if self.pairs.exhaustive else estimates

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


def _worth(estimates: Estimates, column: int) -> str:
    """An estimate with its interval in brackets, or alone where it has none."""
    text = estimates.text(column)
    return estimates.shown(column) + (f" {text}" if text.startswith("[") else f", {text}" if text != "-" else "")
