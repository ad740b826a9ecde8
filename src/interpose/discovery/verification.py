"""A hypothesis put to the test in its network: interchanges, everything else resampled, values forced."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..causal_model import CausalModel
from ..errors import OutsideDomain, WrongInput
from ..sites import Site
from ..statistics import Floats, clopper_pearson
from .decoding import Decoded
from .kernels import representatives, spread
from .modelling import UNSAID
from .responses import Domain, Prober

DRAWS = 1000
"""How many random interchanges each way of interchanging is tried with."""

FORCED, EACH = 20, 25
"""To how many values a variable is set at most, and in how many inputs each."""

EVERY = 30_000
"""Up to so many interchanges of one variable all that there are are tried."""

SUBSETS = 32
"""Of how many sets of variables interchange is tried at most."""


@dataclass(frozen=True, eq=False)
class Check:
    """One thing that was tried: how often, how often it failed, and the first failures, which can be run again.

    bound: the upper limit of the share of failures at 95 %, one-sided; 0 where every case there is was tried.
    unforeseen: how often a variable got a value that no input gives, of which nothing was said; n is without these.
    decides: whether the verdict depends on it; what is forced beyond what inputs give is told, and decides nothing.
    """

    name: str
    n: int
    failed: int
    exhaustive: bool = False
    worst: float = 0.0
    failures: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    decides: bool = True
    unforeseen: int = 0

    @property
    def holds(self) -> bool:
        """Whether it was tried, and never failed."""
        return self.n > 0 and self.failed == 0

    @property
    def bound(self) -> float:
        """At most this share of all cases fails, with 95 % confidence."""
        if self.exhaustive:
            return self.failed / self.n if self.n else 0.0
        return float(clopper_pearson(self.failed, self.n, alpha=0.05)[1]) if self.n else 1.0

    def __str__(self) -> str:
        if not self.n:
            return f"{self.name}: not tried"
        outcome = "held in all" if not self.failed else f"failed in {self.failed} of"
        bound = "" if self.exhaustive else f" (at most {100 * self.bound:.2g} % fail)"
        left = f"; {self.unforeseen:,} more gave a variable a value that no input gives" if self.unforeseen else ""
        return f"{self.name}: {outcome} {self.n:,}{' cases, all there are' if self.exhaustive else ''}{bound}{left}"


Sources = Mapping[str, NDArray[np.int64]]
"""Variable -> [case]: the input that its value is taken from."""


class Verifier:
    """A network and a causal model that is said to be what it does, held against each other."""

    def __init__(
        self,
        prober: Prober,
        model: CausalModel,
        sites: Mapping[str, Sequence[Site]],
        pool: NDArray[np.int64],
        seed: int,
        beyond: CausalModel,
    ) -> None:
        self.prober, self.model, self.sites, self.pool, self.beyond = prober, model, sites, pool, beyond
        self.domain: Domain = prober.domain
        self.rng = np.random.default_rng(seed)
        self.values = model.run({name: column.tolist() for name, column in self.domain.columns().items()}).values

    # -- what is tried -----------------------------------------------------------------------------------

    def all(self, others: Sequence[Site], decoded: Mapping[str, Decoded], *, exhaustive: bool) -> tuple[Check, ...]:
        """Every check. others: sites that hold no variable, to be resampled."""
        return (
            self.unpatched(exhaustive=exhaustive),
            *(self.single(name) for name in self.sites),
            *self.several(),
            *([self.resampled(others)] if others else []),
            *(check for name, rule in decoded.items() for check in self.forced(name, rule)),
        )

    def unpatched(self, *, exhaustive: bool) -> Check:
        """The network and the model on every input, nothing written."""
        index = np.arange(len(self.domain)) if exhaustive else self.pool
        outputs = self._run(index, {})
        return self._compared("the model's own output, nothing patched", outputs, index, {}, exhaustive=exhaustive)

    def single(self, name: str) -> Check:
        """One variable taken from another input, any pair of inputs."""
        label = f"interchange of {name}"
        if not self.domain.exhaustive:
            return self._interchanged((name,), label)
        found = self.prober.responses(tuple(self.sites[name]))
        first = representatives(found.number)
        if len(first) * len(self.prober.bases) > EVERY:
            return self._interchanged((name,), label)
        index = np.tile(self.prober.bases, len(first))
        sources = {name: np.repeat(first, len(self.prober.bases))}
        outputs = found.rows.reshape(len(index), -1)
        return self._compared(label, outputs, index, sources, exhaustive=True)

    def several(self) -> list[Check]:
        """Variables taken each from an input of its own: sets of two and more."""
        names = list(self.sites)
        if len(names) < 2:
            return []
        if 2 ** len(names) <= 2 * SUBSETS:
            every = [chosen for size in range(2, len(names) + 1) for chosen in itertools.combinations(names, size)]
            sets = every[::-1][:SUBSETS]
        else:
            sizes = self.rng.integers(2, len(names), size=SUBSETS - 1)
            sets = [tuple(names[k] for k in sorted(self.rng.choice(len(names), size, replace=False))) for size in sizes]
            sets = [*dict.fromkeys(sets), tuple(names)]
        parts = [self._interchanged(chosen, "") for chosen in sets]
        n, failed = sum(part.n for part in parts), sum(part.failed for part in parts)
        failures = tuple(failure for part in parts for failure in part.failures)[:20]
        worst, unforeseen = max(part.worst for part in parts), sum(part.unforeseen for part in parts)
        label = f"interchange of several variables at once, {len(sets)} sets of them"
        return [Check(label, n, failed, False, worst, failures, unforeseen=unforeseen)]

    def resampled(self, others: Sequence[Site]) -> Check:
        """Every site that holds nothing takes the value of a random other input, each its own."""
        index = self.rng.choice(self.pool, DRAWS)
        held = self.prober.read(others)
        write = {site: held[site][torch.from_numpy(self.rng.choice(self.pool, DRAWS))] for site in others}
        outputs = self._run(index, write)
        return self._compared(f"everything else resampled, {len(others)} sites", outputs, index, {})

    def forced(self, name: str, rule: Decoded) -> tuple[Check, ...]:
        """A variable set by its rule: to values that inputs give, and to some beyond them, which decides nothing."""
        span = 0 if rule.lowest is None or not rule.exact else max(1, int(rule.highest - rule.lowest) // 4)
        beyond = [rule.lowest - span, rule.highest + span] if span else []
        known = list(rule.known)
        some = [known[k] for k in spread(len(known), FORCED)]
        inside = self._forced(f"{name} set to values that inputs give", name, rule, some, decides=True)
        outside = self._forced(f"{name} set to values beyond those", name, rule, beyond, decides=False)
        return tuple(check for check in (inside, outside) if check is not None)

    def _forced(self, label: str, name: str, rule: Decoded, values: Sequence[Any], *, decides: bool) -> Check | None:
        """The rule's values written, in random inputs; None where the model does not say what should come out."""
        if not values:
            return None
        cases = self.rng.choice(self.pool, (len(values), EACH))
        tried, failed, worst, failures = 0, 0, 0.0, []
        for value, index in zip(values, cases, strict=True):
            written = zip(rule.sites, rule.encode(value), strict=True)
            outputs = self._run(index, {site: part.expand(len(index), *part.shape) for site, part in written})
            try:
                expected = self._expected(index, {name: value}, self.model if decides else self.beyond)
            except (WrongInput, OutsideDomain):
                continue
            apart, said = self._apart(outputs, expected)
            tried, worst = tried + int(said.sum()), max(worst, float(apart.max(initial=0.0)))
            for k in np.flatnonzero(apart > self.prober.tol).tolist():
                failed += 1
                failures.append(self._case(int(index[k]), {name: value}, expected[k], outputs[k]))
        missed = cases.size - tried
        return Check(label, tried, failed, False, worst, tuple(failures[:20]), decides, missed) if tried else None

    # -- inside ------------------------------------------------------------------------------------------

    def _interchanged(self, names: tuple[str, ...], label: str) -> Check:
        index = self.rng.choice(self.pool, DRAWS)
        sources = {name: self.rng.choice(self.pool, DRAWS) for name in names}
        write = {}
        for name in names:
            held = self.prober.read(self.sites[name])
            write |= {site: held[site][torch.from_numpy(sources[name])] for site in self.sites[name]}
        return self._compared(label, self._run(index, write), index, sources)

    def _run(self, index: NDArray[np.int64], write: Mapping[Site, Tensor]) -> Floats:
        return self.prober.run(self.domain.settings[index], write=write)[0]

    def _compared(
        self, label: str, outputs: Floats, index: NDArray[np.int64], sources: Sources, *, exhaustive: bool = False
    ) -> Check:
        written = {name: [self.values[name][i] for i in chosen.tolist()] for name, chosen in sources.items()}
        expected = self._expected(index, written)
        apart, said = self._apart(outputs, expected)
        bad = np.flatnonzero(apart > self.prober.tol)
        failures = [
            self._case(
                int(index[k]),
                {name: self._setting(int(chosen[k])) for name, chosen in sources.items()},
                expected[k],
                outputs[k],
            )
            for k in bad[:20].tolist()
        ]
        n = int(said.sum())
        worst = float(apart.max(initial=0.0))
        return Check(label, n, len(bad), exhaustive, worst, tuple(failures), unforeseen=len(index) - n)

    @staticmethod
    def _apart(outputs: Floats, expected: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """How far outputs are from what was expected, 0 where nothing was said; and where something was."""
        said = np.asarray(~np.isnan(expected).any(1))
        apart = np.abs(outputs - expected).max(1)
        return np.where(said, np.where(np.isnan(apart), np.inf, apart), 0.0), said

    def _expected(
        self, index: NDArray[np.int64], written: Mapping[str, Any], model: CausalModel | None = None
    ) -> Floats:
        """The model's outputs on some inputs with variables set: [case, number].

        `UNSAID` where any variable, also one that is set, would get a value that no input gives: then what is beside it
        in the network gets one too.
        """
        columns: dict[str, list[Any]] = {n: column[index].tolist() for n, column in self.domain.columns().items()}
        foreseen = np.ones(len(index), dtype=bool)
        model = self.model if model is None else model
        for name in model.order:
            variable = model.variables[name]
            if variable.parents and variable.mechanism is not None:
                given = zip(*(columns[parent] for parent in variable.parents), strict=True)
                columns[name] = [variable.mechanism(*values) for values in given]
                foreseen &= np.array([one == one for one in columns[name]])
            if name in written:
                new = written[name]
                columns[name] = list(new) if isinstance(new, list) else [new] * len(index)
        width = self.domain.outputs.shape[1]
        (output,) = model.outputs
        found = np.array([np.broadcast_to(np.asarray(one, float), (width,)) for one in columns[output]])
        return np.where(foreseen[:, None], found, UNSAID)

    def _setting(self, i: int) -> dict[str, Any]:
        return {name: column[i].item() for name, column in self.domain.columns().items()}

    def _case(self, base: int, sources: Mapping[str, Any], expected: Floats, observed: Floats) -> dict[str, Any]:
        return {
            "base": self._setting(base),
            "sources": dict(sources),
            "expected": expected.tolist(),
            "observed": observed.tolist(),
        }
