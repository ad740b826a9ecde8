"""A hypothesis put to the test in the network it was made for: interchanges, everything else resampled, values forced."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .causal_model import CausalModel
from .decoding import Decoded
from .errors import WrongInput
from .interventions import Set
from .responses import Domain, Prober
from .sites import Site
from .statistics import Floats, clopper_pearson

DRAWS = 1000
"""How many random interchanges each way of interchanging is tried with."""

SUBSETS = 32
"""Of how many sets of variables interchange is tried at most."""


@dataclass(frozen=True, eq=False)
class Check:
    """One thing that was tried: how often, how often it failed, and the first failures, which can be run again.

    bound: the upper limit of the share of failures at 95 %, one-sided; 0 where every case there is was tried.
    """

    name: str
    n: int
    failed: int
    exhaustive: bool = False
    worst: float = 0.0
    failures: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

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
        return f"{self.name}: {outcome} {self.n:,}{' cases, all there are' if self.exhaustive else ''}{bound}"


Sources = Mapping[str, NDArray[np.int64]]
"""Variable -> [case]: the input that its value is taken from."""


class Verifier:
    """A network and a causal model that is said to be what it does, held against each other on inputs by their numbers."""

    def __init__(
        self,
        prober: Prober,
        model: CausalModel,
        sites: Mapping[str, Sequence[Site]],
        pool: NDArray[np.int64],
        seed: int,
    ) -> None:
        self.prober, self.model, self.sites, self.pool = prober, model, sites, pool
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
            *(check for name, rule in decoded.items() if (check := self.forced(name, rule)) is not None),
        )

    def unpatched(self, *, exhaustive: bool) -> Check:
        """The network and the model on every input, nothing written."""
        index = np.arange(len(self.domain)) if exhaustive else self.pool
        outputs, _ = self.prober.run(self.domain.settings[index])
        return self._compared("the model's own output, nothing patched", outputs, index, {}, exhaustive=exhaustive)

    def single(self, name: str) -> Check:
        """One variable taken from another input, any pair of inputs."""
        return self._interchanged((name,), f"interchange of {name}")

    def several(self) -> list[Check]:
        """Variables taken each from an input of its own: sets of two and more."""
        names = list(self.sites)
        sets = [chosen for size in range(2, len(names) + 1) for chosen in itertools.combinations(names, size)]
        if len(sets) > SUBSETS:
            picked = self.rng.choice(len(sets) - 1, SUBSETS - 1, replace=False)
            sets = [sets[k] for k in sorted(picked.tolist())] + [sets[-1]]
        if not sets:
            return []
        parts = [self._interchanged(chosen, "") for chosen in sets]
        n, failed = sum(part.n for part in parts), sum(part.failed for part in parts)
        failures = tuple(failure for part in parts for failure in part.failures)[:20]
        worst = max(part.worst for part in parts)
        return [Check(f"interchange of several variables at once, {len(sets)} sets of them", n, failed, False, worst, failures)]

    def resampled(self, others: Sequence[Site]) -> Check:
        """Every site that holds nothing takes the value of a random other input, each its own."""
        index = self.rng.choice(self.pool, DRAWS)
        held = self.prober.read(others)
        write = {site: held[site][torch.from_numpy(self.rng.choice(self.pool, DRAWS))] for site in others}
        outputs = self._run(index, write)
        return self._compared(f"everything else resampled, {len(others)} sites", outputs, index, {})

    def forced(self, name: str, rule: Decoded) -> Check | None:
        """A variable set to values between and beyond those that inputs give; None where no rule says what to write."""
        if not rule.exact or rule.lowest is None:
            return None
        span = max(1, int(rule.highest - rule.lowest) // 4)
        values = [rule.lowest - span, rule.lowest, rule.highest, rule.highest + span]
        cases = self.rng.choice(self.pool, (len(values), 25))
        failed, worst, failures = 0, 0.0, []
        for value, index in zip(values, cases, strict=True):
            write = {site: part.expand(len(index), *part.shape) for site, part in zip(rule.sites, rule.encode(value), strict=True)}
            outputs = self._run(index, write)
            try:
                expected = self._expected(index, {name: value})
            except (WrongInput, KeyError):
                return None
            apart = np.abs(outputs - expected).max(1)
            failed, worst = failed + int((apart > self.prober.tol).sum()), max(worst, float(apart.max()))
            failures += [self._case(int(i), {name: value}, e, o) for i, e, o, a in zip(index, expected, outputs, apart, strict=True) if a > self.prober.tol]
        return Check(f"{name} forced to values in and beyond its range", cases.size, failed, False, worst, tuple(failures[:20]))

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
        parts = []
        for start in range(0, len(index), self.prober.rows):
            rows = slice(start, start + self.prober.rows)
            here = {site: Set(value[rows]) for site, value in write.items()}
            parts.append(self.prober.run(self.domain.settings[index[rows]], write=here)[0])
        return np.concatenate(parts)

    def _compared(
        self, label: str, outputs: Floats, index: NDArray[np.int64], sources: Sources, *, exhaustive: bool = False
    ) -> Check:
        written = {name: [self.values[name][i] for i in chosen.tolist()] for name, chosen in sources.items()}
        expected = self._expected(index, written)
        apart = np.abs(outputs - expected).max(1)
        bad = np.flatnonzero(~(apart <= self.prober.tol))
        failures = [
            self._case(int(index[k]), {name: self._setting(int(chosen[k])) for name, chosen in sources.items()}, expected[k], outputs[k])
            for k in bad[:20].tolist()
        ]
        return Check(label, len(index), len(bad), exhaustive, float(apart.max(initial=0.0)), tuple(failures))

    def _expected(self, index: NDArray[np.int64], written: Mapping[str, Any]) -> Floats:
        """The model's outputs on some inputs with variables set: [case, number]."""
        given = {name: column[index].tolist() for name, column in self.domain.columns().items()}
        write: dict[str, Callable[[Any], Any] | Any] = {name: Set(value) for name, value in written.items()}
        output = self.model.run(given, write=write).output
        return np.array([np.atleast_1d(np.asarray(one, float)) for one in output])

    def _setting(self, i: int) -> dict[str, Any]:
        return {name: column[i].item() for name, column in self.domain.columns().items()}

    def _case(self, base: int, sources: Mapping[str, Any], expected: Floats, observed: Floats) -> dict[str, Any]:
        return {
            "base": self._setting(base),
            "sources": dict(sources),
            "expected": expected.tolist(),
            "observed": observed.tolist(),
        }
