"""What a result keeps: four runs a pair and place, and every contrast of them, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from .errors import UnknownPlace, suggest
from .grid import Group, label_of
from .model import Work
from .pairs import Pairs
from .statistics import Floats

RUNS = {
    "ybb": "Y(base)",
    "yss": "Y(source)",
    "ybs": "Y(base, place from the source)",
    "ysb": "Y(source, place from the base)",
}
EFFECTS = {
    "te": "Yss - Ybb",
    "nie": "Ybs - Ybb",
    "tie": "Yss - Ysb",
    "nde": "Ysb - Ybb",
    "tde": "Yss - Ybs",
    "int": "Yss - Ysb - Ybs + Ybb",
}
SPLITS = {"shapley_m": "(NIE + TIE) / 2", "shapley_d": "(NDE + TDE) / 2"}
PINNED = {"cde": "Ysm - Ybm", "int_ref": "NDE - CDE"}
FORMULAS = {**EFFECTS, **SPLITS, **PINNED}
"""Every quantity that is one number a pair, by its short name. Ybm and Ysm have the place at a value of one's own."""


class Warned(str):
    """Something to know beside the numbers: a sentence, with a code that stays the same."""

    code: str

    def __new__(cls, code: str, text: str) -> Warned:
        made = super().__new__(cls, text)
        made.code = code
        return made

    def __reduce__(self) -> Any:
        return Warned, (self.code, str(self))


SILENT, UNREACHED = "silent", "unreached"
"""Codes of certificates: nothing depends on the place, or the place does not depend on what varies."""


class Origin(Protocol):
    """The model that was measured, as far as it is still there and as it was."""

    def certificates(self, places: tuple[Group, ...], pairs: Pairs) -> tuple[Warned | None, ...]:
        """For each group why it cannot carry what varies in pairs to the output for any input; None if it may."""
        ...

    def weights(self) -> str:
        """A hash of the model. Raises WrongStore where it is gone, or has changed since."""
        ...


@dataclass(frozen=True, eq=False)
class Pinned:
    """Runs with each place set to a value of one's own, in the base and in the source input: [pair, place] each."""

    values: tuple[Any, ...]
    ybm: Floats
    ysm: Floats


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Runs with the source of another pair: ybs [draw, pair, place]; order: [draw, pair], whose source it was."""

    ybs: Floats
    order: Any


@dataclass(frozen=True, eq=False)
class Quantities:
    """Four runs a pair and place, and what follows from them for each pair.

    ybb, yss: [pair], the base and the source input untouched.
    ybs, ysb: [pair, place], the base input with the source's value at the place, and the source input with the base's.
    response: [pair, place], the largest change of the place's own value between base and source.
    tol: what counts as no difference; noise: the noise floor it was raised above.
    work: what it cost, checks and plain runs included; flops are those of the sweeps.
    unreachable: [pair, place], whether nothing leads from the place to what the metric reads; None is nowhere.
    pinned, shuffled: other runs, where they were asked for.
    tests: how many places were measured for how many questions together, over all of which verdicts are right.
    joint: the same of every two places together, where that was asked for.
    known: certificates that were found before, as of a result from disk.
    part: "discover" or "confirm", where the pairs were split for it; looks: how often these pairs were looked at.
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
    warnings: tuple[Warned, ...] = ()
    work: Work = field(default_factory=Work)
    unreachable: Any = None
    pinned: Pinned | None = None
    shuffled: Shuffled | None = None
    tests: int | None = None
    part: str | None = None
    looks: int = 1
    joint: Any = field(default=None, repr=False)
    known: tuple[Warned | None, ...] | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)

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
    def cde(self) -> Floats:
        """[pair, place]: controlled direct effect, Ysm - Ybm, the effect of the input with the place at a given value.

        Raises UnknownPlace where no value was given: effects(..., pinned=...).
        """
        if self.pinned is None:
            raise UnknownPlace(
                "A controlled direct effect is of a value at which the place is held. Give one: "
                "effects(..., pinned={'h12': 8.1})."
            )
        return self.pinned.ysm - self.pinned.ybm

    @property
    def status(self) -> Any:
        """[pair, place]: "unchanged" where base and source hold the same, "unreachable" where they differ and nothing
        leads on to what the metric reads, so that effects are 0 in either; and "measured".
        """
        lost = np.zeros(self.response.shape, bool) if self.unreachable is None else self.unreachable
        return np.where(self.response == 0, "unchanged", np.where(lost, "unreachable", "measured"))

    def values(self, name: str) -> Floats:
        """The per-pair values of a quantity by its short name: "te", "nie", ..., "int", or of a run: "ybs".

        [pair] for "te" and the two plain runs, [pair, place] for all others.
        Source of cde and int_ref: the four-way decomposition, VanderWeele 2014.
        """
        match name:
            case "int":
                return self.interaction
            case "int_ref":
                return self.nde - self.cde
            case "shapley_m":
                return (self.nie + self.tie) / 2
            case "shapley_d":
                return (self.nde + self.tde) / 2
            case "ybm" | "ysm" if self.pinned is not None:
                return self.pinned.ybm if name == "ybm" else self.pinned.ysm
            case _ if name in RUNS or name in EFFECTS or name in ("cde", "response"):
                return getattr(self, name)  # type: ignore[no-any-return]
        names = {**RUNS, **FORMULAS, "response": ""}
        raise UnknownPlace(f"There is no quantity {name!r}. {suggest(name, names)}")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What each place is called."""
        return tuple(map(label_of, self.places))

    def column(self, place: Any) -> int:
        """The number of a place, by its name or itself. Raises UnknownPlace, with the nearest name."""
        name = label_of(tuple(place)) if isinstance(place, list | tuple) else str(place)
        spelled = [
            {label, *(str(getattr(site, "spelling", site)) for site in group if len(group) == 1)}
            for label, group in zip(self.labels, self.places, strict=True)
        ]
        found = [j for j, names in enumerate(spelled) if name in names]
        if not found:
            raise UnknownPlace(f"{name!r} was not measured. {suggest(name, self.labels)}")
        return found[0]

    @property
    def informative(self) -> Any:
        """[pair]: whether the change of input changes the metric by more than tol, and so can be shared out."""
        return np.abs(self.te) > self.tol
