"""Every error a user can meet: what happened, why, and what to do, with the values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch


class InterposeError(Exception):
    """The base of every error that interpose raises on purpose."""


class UnknownPlace(InterposeError, LookupError):
    """A variable, module or site that the model does not have, or that was not read."""


class MissingInput(InterposeError, LookupError):
    """An input lacks the value of an input variable."""


class WrongInput(InterposeError, TypeError):
    """An input, or a part of a model, of a form that cannot be used."""


class OutsideDomain(InterposeError, ValueError):
    """A value that its variable's domain does not contain."""


class NoDomain(InterposeError, ValueError):
    """Sampling or enumeration was asked of a variable that has no domain."""


class CyclicModel(InterposeError, ValueError):
    """Variables that are, directly or not, their own parents."""


class Unsatisfiable(InterposeError, ValueError):
    """No example meets the condition that was asked for."""


class WrongShape(InterposeError, ValueError):
    """A tensor or column whose shape does not fit where it should go."""


class AmbiguousSite(InterposeError, ValueError):
    """An address that fits several tensors, or several calls of one module."""


class OverlappingWrites(InterposeError, ValueError):
    """Two writes of one run that overwrite the same units."""


class NotFired(InterposeError, RuntimeError):
    """A site whose module never ran, so that nothing was read or written."""


class BadIntervention(InterposeError, TypeError):
    """An intervention that returned no new value."""


class NotRepeatable(InterposeError, RuntimeError):
    """Two identical runs disagree, or a row depends on the rows beside it."""


class BrokenCut(InterposeError, RuntimeError):
    """A complete cut was patched from the source, and the output is not the source's."""


class WrongPairs(InterposeError, ValueError):
    """Base and source that do not form the pairs they are said to be."""


class WrongAnswers(InterposeError, ValueError):
    """Answers that one next token cannot tell apart."""


class WrongNumbers(InterposeError, ValueError):
    """Numbers from which a statistic cannot be computed as it was asked for."""


class WrongMetric(InterposeError, ValueError):
    """A metric that does not give one finite number a pair."""


class WrongAlignment(InterposeError, ValueError):
    """A claim about places and variables that no run could test."""


class WrongStore(InterposeError, ValueError):
    """A folder that keeps another measurement, or a measurement that cannot be told from another."""


class MissingPart(InterposeError, ImportError):
    """An optional package, or a model's weights, is not installed."""


class NoEffect(UserWarning):
    """Every cell of a scan shows the same number: a write may not have done what was meant."""


class ShiftedWords(UserWarning):
    """The words of a base and its source stand at different positions, so that a position means two things."""


class ReplayMismatch(UserWarning):
    """A saving of the engine did not give what plain runs give, so that a sweep went on without it."""


class Interrupted(UserWarning):
    """A measurement was stopped early: its result is over the pairs that were finished."""


def is_memory(error: BaseException) -> bool:
    """Whether an error, whoever raised it, says that something did not fit into memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def suggest(wrong: object, choices: Iterable[object], most: int = 12) -> str:
    """A closing sentence for an error: the nearest name there is, or the names there are."""
    names = [str(choice) for choice in choices]
    if inside := [name for name in names if name.lower() == str(wrong).lower() or name.endswith(f".{wrong}")]:
        return f"Did you mean {inside[0]!r}?"
    near = difflib.get_close_matches(str(wrong), names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    if not names:
        return "There are none."
    shown = ", ".join(names[:most])
    return f"There are {shown}." if len(names) <= most else f"There are {shown}, and {len(names) - most} more."
