"""A site is an address in a network, and a lens on what is found there.

The address names a call of a module and one end of it; the lens picks positions and units of the tensor that
passes there. One class covers a neuron, a residual stream, an MLP, a head or a learned subspace.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .errors import AmbiguousSite, UnknownPlace, WrongShape
from .featurizers import NEURONS, Featurizer
from .named import NAME

Index = int | tuple[int, ...] | None
EACH: Literal["each"] = "each"
"""A position that stands for every position: a scan measures them one by one, a single run all at once."""


@dataclass(frozen=True, repr=False)
class Site:
    """An address and a lens; the value there is [..., (position,) units].

    path: the module's name in `named_modules`, "" for the model itself.
    units: which units; an int drops the axis, a tuple keeps it, None is all of them and () is none.
    position: which positions, on the axis before the units; negative ones count from the end, and a text such as
        "{city}" or "{city[-1]}" names a part of each prompt.
    end: the module's input or its output. leaf: which tensor, where several pass ("0", "hidden_states", "1.0").
    occurrence: which call, where the module runs several times in one forward pass.
    unit_axis: where the units are; None is the channel axis after a convolution, otherwise the last.
    featurizer: the coordinates in which units are counted.
    name: what to call it; coordinates: where it stands in a map, as ((axis, label, rank), ...), labels sorted by rank.
    cut: the label shared by sites that together carry everything from input to output, and how many they are.
    """

    path: str
    units: Index = None
    position: Index | str = None
    end: Literal["input", "output"] = "output"
    leaf: str | None = None
    occurrence: int | None = None
    unit_axis: int | None = None
    featurizer: Featurizer = NEURONS
    name: str | None = field(default=None, compare=False)
    coordinates: tuple[tuple[str, Any, int], ...] = field(default=(), compare=False)
    cut: tuple[str, int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.end not in ("input", "output"):
            raise UnknownPlace(f"Site {self.path!r} has end={self.end!r}. An end is 'input' or 'output'.")
        object.__setattr__(self, "units", _index(self.units, "units"))
        if isinstance(self.position, str) and self.position != EACH and not self.is_named:
            raise WrongShape(
                f"Site {self.path!r} has position={self.position!r}. A position is a number, or names a part of a "
                f"prompt in braces: '{{{self.position}}}'."
            )
        if not isinstance(self.position, str):
            object.__setattr__(self, "position", _index(self.position, "position"))
        if self.unit_axis is not None and self.unit_axis >= 0:
            raise WrongShape(
                f"Site {self.path!r} has unit_axis={self.unit_axis}. Axes count from the end: -1 is the last."
            )
        if any(unit < 0 for unit in _listed(self.units)):
            raise WrongShape(f"Site {self.path!r} has units {self.units}. Units count from 0; the last of n is n - 1.")

    def __hash__(self) -> int:
        if (known := self.__dict__.get("_hash")) is None:
            parts = (self.path, self.units, self.position, self.end, self.leaf, self.occurrence, self.unit_axis)
            known = hash((*parts, self.featurizer))
            object.__setattr__(self, "_hash", known)  # a site is looked up far more often than it is made
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # texts hash anew elsewhere

    def __str__(self) -> str:
        return self.name or self.spelling

    def __repr__(self) -> str:
        return (
            f"Site({self.spelling})" if self.name in (None, self.spelling) else f"Site({self.name} = {self.spelling})"
        )

    @property
    def spelling(self) -> str:
        """The one text for this site; `parse` reads it back."""
        end = ":input" if self.end == "input" else ":output" if self.leaf is not None else ""
        text = self.path + (f"#{self.occurrence}" if self.occurrence is not None else "")
        text += end + (f".{self.leaf}" if self.leaf is not None else "")
        inside = [_spell(self.position), _spell(self.units)] if self.position is not None else [_spell(self.units)]
        lens = ", ".join(inside) if inside != [":"] else ""
        axis = f"axis {self.unit_axis}" if self.unit_axis is not None else ""
        bracket = " | ".join(part for part in (lens, axis, _through(self.featurizer)) if part)
        return (text or "") + (f"[{bracket}]" if bracket else "") or ":output"

    def through(self, featurizer: Featurizer, *, units: Index | Iterable[int] = None) -> Site:
        """The same place in other coordinates."""
        return replace(self, featurizer=featurizer, units=_index(units, "units"), name=None)

    def everywhere(self) -> Site:
        """The whole tensor that this site is a part of."""
        return replace(self, units=None, position=None, featurizer=NEURONS, name=None)

    @property
    def is_named(self) -> bool:
        """Whether its position is that of a named part of a prompt, which only the prompt can tell."""
        return isinstance(self.position, str) and NAME.fullmatch(self.position) is not None

    @property
    def is_open(self) -> bool:
        """Whether it takes a length to say which positions are meant: at `EACH`, or counted from the end."""
        return self.position == EACH or (isinstance(self.position, int) and self.position < 0)

    def positions(self, length: int) -> list[Site]:
        """This site at positions that count from the beginning: one a position for a site at `EACH`."""
        if not self.is_open:
            return [self]
        each = self.position == EACH
        where = [part for part in self.coordinates if part[0] != "position"]
        cut = None if self.cut is None else (self.cut[0], self.cut[1] * length)
        stem = None if self.name is None else self.name.split(" @ ")[0] + " @ "
        chosen = range(length) if self.position == EACH else [_from_zero(self.position, length)]  # type: ignore[list-item]
        return [
            replace(
                self,
                position=p,
                name=stem and f"{stem}{p}",
                coordinates=(*where, ("position", p, p)) if each or self.coordinates else (),
                cut=cut if each else None,
            )
            for p in chosen
        ]

    # -- the lens ----------------------------------------------------------------------------------

    def get(self, activation: Tensor) -> Tensor:
        """The value of the lens in a whole activation, with its axes in their order; an int index drops its axis.

        Raises WrongShape where the lens does not fit, AmbiguousSite where it is not clear which axis holds the units.
        """
        features, _ = self.featurizer.encode(_at(self._units_last(activation), -2, self._where(activation)))
        return self._units_back(_at(features, -1, self._which(features)))

    def set(self, activation: Tensor, value: Tensor) -> Tensor:
        """A new activation that holds `value`, shaped as `get` gives it; everything else as it was."""
        moved = self._units_last(activation)
        where = self._where(activation)
        features, remainder = self.featurizer.encode(_at(moved, -2, where))
        value = value if isinstance(self.units, int) else value.movedim(self._kept_axis, -1)
        there = self.featurizer.decode(_put(features, -1, self._which(features), value), remainder)
        return _laid_out(_put(moved, -2, where, there).movedim(-1, self._axis), activation)

    def check_units(self, value: Any, width: int) -> None:
        """Raise WrongShape for a tensor that has more or fewer units than this site of a module with `width` of them.

        This is what shows before a run; whether all of a shape fits shows when the site is met.
        """
        plain = self.leaf is None and self.featurizer == NEURONS and not isinstance(self.units, int)
        if not plain or not isinstance(value, Tensor | np.ndarray) or value.ndim < -self._kept_axis:
            return
        units = width if self.units is None else len(_listed(self.units))
        if value.shape[self._kept_axis] != units:
            raise WrongShape(
                f"At {self}: cannot write a value of shape {tuple(value.shape)} where there are {units} units. Read "
                "the same site from a source run, or pass a number."
            )

    def length(self, activation: Tensor) -> int:
        """How many positions a whole activation has. Raises WrongShape where it has none."""
        self._check_position(activation)
        return self._units_last(activation).shape[-2]

    def overlaps(self, other: Site, activation: Tensor | None = None) -> bool:
        """Whether two sites share units.

        Without the activation, positions counted from opposite ends are taken to differ.
        """
        if (self.path, self.end) != (other.path, other.end):
            return False
        if any(
            None not in (a, b) and a != b for a, b in ((self.leaf, other.leaf), (self.occurrence, other.occurrence))
        ):
            return False
        ours, theirs = (
            (self.position, other.position)
            if activation is None
            else (self._where(activation), other._where(activation))
        )
        same_coordinates = self.featurizer == other.featurizer and self._axis == other._axis
        return _meet(ours, theirs) and (not same_coordinates or _meet(self.units, other.units))

    @property
    def _axis(self) -> int:
        return -1 if self.unit_axis is None else self.unit_axis

    @property
    def _kept_axis(self) -> int:
        """Where the units are in a value that keeps them: an axis nearer the end if the position behind was dropped."""
        return min(self._axis + 1, -1) if isinstance(self.position, int) else self._axis

    def _units_last(self, activation: Tensor) -> Tensor:
        if activation.ndim < -self._axis:
            raise WrongShape(f"{self} counts units on axis {self._axis}, but holds {tuple(activation.shape)}.")
        if self.unit_axis is None and activation.ndim > 3 and (self.units, self.position) != (None, None):
            raise AmbiguousSite(
                f"{self} holds {tuple(activation.shape)}: which axis counts its units? Say so with unit_axis=-3 (the "
                f"channels of an image) or unit_axis=-1, as in '{self.path}[... | axis -1]'."
            )
        return activation.movedim(self._axis, -1)

    def _units_back(self, value: Tensor) -> Tensor:
        return value if isinstance(self.units, int) or self._axis == -1 else value.movedim(-1, self._kept_axis)

    def _check_position(self, activation: Tensor) -> None:
        if activation.ndim < 3 or self._axis < -2:
            raise WrongShape(
                f"{self} has a position, but holds {tuple(activation.shape)}"
                + (f" with units on axis {self._axis}" if self._axis < -2 else "")
                + ". A position needs a tensor [example, position, units]. Leave it out, or give the model a batch of "
                "sequences."
            )

    def _where(self, activation: Tensor) -> Index:
        if self.position is None or self.position == EACH:
            return None
        if isinstance(self.position, str):
            raise WrongShape(
                f"{self} is at a part of a prompt, and this model's inputs have no named parts. Count the position."
            )
        self._check_position(activation)
        length = self._units_last(activation).shape[-2]
        for p in _listed(self.position):
            if not -length <= p < length:
                raise WrongShape(f"{self} asks for position {p}, but there are {length}: 0 to {length - 1}.")
        where = _from_zero(self.position, length)
        if isinstance(where, tuple) and len(set(where)) < len(where):
            raise WrongShape(f"{self} names one of {length} positions twice, from both ends.")
        return where

    def _which(self, features: Tensor) -> Index:
        if features.ndim == 0:
            if self.units is not None:
                raise WrongShape(f"{self} asks for unit {self.units} of a single number.")
            return None
        for unit in _listed(self.units):
            if unit >= features.shape[-1]:
                raise WrongShape(
                    f"{self} asks for unit {unit}, but there are {features.shape[-1]}: 0 to {features.shape[-1] - 1}."
                )
        return self.units


_SPELLING = re.compile(
    r"^(?P<path>[^#:\[\]]*)(?:\#(?P<occurrence>\d+))?(?::(?P<end>input|output)(?:\.(?P<leaf>[^\[\]]+))?)?(?:\[(?P<lens>.*)\])?$"
)
_LENS = re.compile(r"^(?P<lens>.*?)\s*\|?\s*(?:axis (?P<axis>-\d+))?$")


def parse(spelling: str) -> Site:
    """The site that a text names: `path#occurrence:end.leaf[position, units | axis k]`, all but the path optional.

    "l1[1]" is unit 1 of l1; "h.3[-1, 0:64]" units 0 to 63 of h.3 at the last position; "l2:input[(0, 2)]" two units
    of what enters l2. Raises UnknownPlace if the text is no such spelling.
    """
    match = _SPELLING.match(spelling.strip())
    inside = _LENS.match((match["lens"] or "").replace("[", "(").replace("]", ")").strip()) if match else None
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", inside["lens"] or ":" if inside else "")]
    if not match or not inside or len(parts) > 2:
        raise UnknownPlace(
            f"{spelling!r} is no site. A site reads 'module.path[units]' or 'module.path[position, units]', "
            "with ':input' or '#2' (the third call) after the path where they are needed."
        )
    position, units = (None, parts[0]) if len(parts) == 1 else parts
    return Site(
        match["path"],
        units=_read(units, spelling),
        position=_read_position(position, spelling),
        end="input" if match["end"] == "input" else "output",
        leaf=match["leaf"],
        occurrence=int(match["occurrence"]) if match["occurrence"] else None,
        unit_axis=int(inside["axis"]) if inside["axis"] else None,
    )


# -- indices ---------------------------------------------------------------------------------------


def _index(given: Any, what: str) -> Index:
    """An index in its one form: an int, a tuple of different ints, or None for all."""
    if given is None:
        return None
    if isinstance(given, slice):
        if given.stop is None or given.stop < 0 or (given.start or 0) < 0:
            raise WrongShape(f"{what}={given}: a slice needs a start and an end that count from 0.")
        given = range(given.start or 0, given.stop, given.step or 1)
    indices = _integers(given, what)
    if isinstance(indices, tuple) and len(set(indices)) < len(indices):
        raise WrongShape(f"{what}={list(indices)} names one of them twice.")
    return indices


def _integers(given: Any, what: str) -> int | tuple[int, ...]:
    many = isinstance(given, Iterable) and not isinstance(given, str)
    values: list[Any] = list(given) if many else [given]
    if any(isinstance(value, bool | np.bool_) or not hasattr(value, "__index__") for value in values):
        raise WrongShape(f"{what}={given!r}: give an int, a list of ints, or None for all.")
    whole = tuple(operator.index(value) for value in values)
    return whole if many else whole[0]


def _listed(index: Any) -> tuple[Any, ...]:
    return () if index is None or index == EACH else (index,) if isinstance(index, int | str) else index


def _from_zero(index: Index, length: int) -> Index:
    if isinstance(index, int):
        return index % length
    return None if index is None else tuple(i % length for i in index)


def _meet(a: Any, b: Any) -> bool:
    if () in (a, b):
        return False
    every = a in (None, EACH) or b in (None, EACH)
    return every or bool(set(_listed(a)) & set(_listed(b)))


def _at(x: Tensor, axis: int, index: Index) -> Tensor:
    if index is None:
        return x
    if isinstance(index, int):
        return x.select(axis, index)
    return x.index_select(axis, torch.tensor(index, dtype=torch.long, device=x.device))


def _put(x: Tensor, axis: int, index: Index, value: Tensor) -> Tensor:
    if index is None:
        return value
    if isinstance(index, int):
        whole = x.clone()  # not select_scatter, which copies all of the memory that a part of a tensor is a part of
        whole.select(axis, index).copy_(value)
        return whole
    return x.index_copy(axis, torch.tensor(index, dtype=torch.long, device=x.device), value)


def _through(featurizer: Featurizer) -> str:
    return "" if featurizer == NEURONS else f"through {featurizer!r}"


def _laid_out(x: Tensor, like: Tensor) -> Tensor:
    """The same values in the memory layout of another tensor, which `view` further on may depend on."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def _spell(index: Any) -> str:
    if index is None:
        return ":"
    if isinstance(index, int | str):
        return str(index)
    if len(index) > 1 and index == tuple(range(index[0], index[-1] + 1)) and index[0] >= 0:
        return f"{index[0]}:{index[-1] + 1}"
    return "(" + ", ".join(map(str, index)) + ("," if len(index) == 1 else "") + ")"


def _read_position(text: str | None, spelling: str) -> Index | str:
    named = (text or "").replace("(", "[").replace(")", "]")
    return named if named == EACH or NAME.fullmatch(named) else _read(text, spelling)


def _read(text: str | None, spelling: str) -> Index:
    if text is None or text == ":":
        return None
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if bounds := re.fullmatch(r"(\d+)?:(\d+)", text):
        return tuple(range(int(bounds[1] or 0), int(bounds[2])))
    if re.fullmatch(r"[(\[][-\d,\s]*[)\]]", text):
        return tuple(int(number) for number in re.findall(r"-?\d+", text))
    raise UnknownPlace(f"{text!r} in {spelling!r} is no index. Write 3, 0:64, (1, 5) or ':' for all of them.")
