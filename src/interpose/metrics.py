"""Metrics: functions (output, pairs) -> [pair], one number a pair. A metric never averages.

What is said of a metric beside its numbers stands on it as attributes: `needs`, the parts of `Pairs` it reads;
`binary`, whether it says yes (1) or no (0), so that its averages are shares; `columns`, the part of `Pairs` that
numbers the only units of the output it reads ("answers"), so that the others need not be computed; and `rowwise`,
whether it reads nothing of the pairs but what it needs, so that several runs of them can be scored in one call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import WrongMetric, WrongPairs, WrongShape
from .pairs import Pairs
from .structures import mapped

MAKERS = {"targets": "Pairs.varying(causal_model, ...)", "answers": "Pairs.from_prompts(lm, ...)"}

Metric = Callable[[Any, Pairs], Tensor]


def value(output: Any, pairs: Pairs) -> Tensor:
    """The scalar output itself, in its own units.

    output: [pair] or [pair, 1]. Returns [pair].
    Raises WrongShape if a pair has more than one number.
    """
    numbers = _numbers(output)
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.shape != (len(pairs),):
        raise WrongShape(
            f"`value` needs one number a pair, but the output of {len(pairs)} pairs has shape {tuple(numbers.shape)}. "
            "Write a metric that picks one: metric=lambda output, pairs: output[:, 0]."
        )
    return numbers


value.rowwise = True  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Matches:
    """1 where the output is the pair's target, 0 where it is not; its mean is a share.

    output: [pair] or [pair, 1] numbers, which match within `tol`; or [pair, class] scores against integer targets,
    where the largest score counts and the lowest index wins a tie; or any values, which match if equal.
    Source: the tutorial's score, with a tolerance in place of bitwise equality; the target is the causal
    model's counterfactual (Geiger et al. 2021).
    Raises WrongPairs if the pairs carry no targets.
    """

    tol: float = 1e-3
    name = "matches"
    binary = True
    rowwise = True
    needs = ("targets",)

    def __post_init__(self) -> None:
        if not self.tol >= 0:
            raise WrongMetric(f"tol={self.tol}: nothing lies within such a tolerance, so that nothing would match.")

    def __call__(self, output: Any, pairs: Pairs) -> Tensor:
        require_parts(self, pairs)
        if not isinstance(output, Mapping | Sequence | np.ndarray | Tensor):
            raise WrongShape(
                f"The output is one {type(output).__name__}, not a list of what each pair gives. Write a metric that "
                "picks a part of it: metric=lambda output, pairs: ip.matches(output.field, pairs)."
            )
        if isinstance(output, Mapping):
            raise WrongShape(
                f"The output is a dict of {', '.join(map(str, output))}. Write a metric that compares one of them: "
                "metric=lambda output, pairs: ip.matches(output['name'], pairs)."
            )
        numbers, wanted = numeric(output), numeric(pairs.targets)
        if (numbers is None) != (wanted is None):
            raise WrongShape(
                f"The output is {_kind(output)} and the targets are {_kind(pairs.targets)}: no output could match. "
                "Give targets of the output's kind, such as class numbers for scores."
            )
        if numbers is None or wanted is None:
            ours, theirs = _list(output), _list(pairs.targets)
            if len(ours) != len(theirs):
                raise WrongShape(f"There are {len(ours)} outputs for {len(theirs)} targets. A batch gives one a pair.")
            return torch.tensor([float(a == b) for a, b in zip(ours, theirs, strict=True)], dtype=torch.float64)
        if numbers.ndim == wanted.ndim + 1 and numbers.shape[-1] == 1:
            numbers = numbers[..., 0]
        if numbers.ndim == 2 and wanted.ndim == 1 and not wanted.is_floating_point():
            if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < numbers.shape[1]:
                raise WrongShape(
                    f"Targets {int(wanted.min())} to {int(wanted.max())} are not among the {numbers.shape[1]} classes "
                    f"that are scored, 0 to {numbers.shape[1] - 1}."
                )
            return _known(numbers, numbers.argmax(-1) == wanted)
        if numbers.shape != wanted.shape:
            raise WrongShape(
                f"The output of {len(pairs)} pairs has shape {tuple(numbers.shape)}, their targets "
                f"{tuple(wanted.shape)}. Class numbers, as targets of scores [pair, class], should be integers."
            )
        wide = torch.complex128 if numbers.is_complex() or wanted.is_complex() else torch.float64
        far = (numbers.to(wide) - wanted.to(wide)).abs().reshape(len(pairs), -1)
        return _known(numbers, (far <= self.tol).all(-1))


matches = Matches()


def logit_difference(logits: Tensor, pairs: Pairs) -> Tensor:
    """logit(source answer) - logit(base answer), in nats: larger means nearer to the source's answer.

    logits: [pair, vocabulary], at the read position. Returns [pair].
    Raises WrongShape if a position axis is left over, WrongPairs if the pairs carry no answers.
    Source: Wang et al. 2023 (there between two names).
    """
    require_parts(logit_difference, pairs)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(pairs):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise WrongShape(
            f"`logit_difference` needs logits [pair, vocabulary] of {len(pairs)} pairs, but the output is {shape}. "
            "LanguageModel(module) gives them at the last position; for another Network, pick a position first."
        )
    assert pairs.answers is not None
    answers = pairs.answers.to(logits.device)
    if int(answers.max()) >= logits.shape[1]:
        raise WrongShape(f"Answer {int(answers.max())} is no token of a vocabulary of {logits.shape[1]}.")
    base, source = logits.gather(1, answers).unbind(1)
    return source - base


logit_difference.needs = ("answers",)  # type: ignore[attr-defined]
logit_difference.columns = "answers"  # type: ignore[attr-defined]
logit_difference.rowwise = True  # type: ignore[attr-defined]


def name_of(metric: Metric) -> str:
    """What to call a metric in a title."""
    inner = metric.func if isinstance(metric, partial) else metric
    return str(getattr(inner, "name", None) or getattr(inner, "__name__", type(inner).__name__))


def is_binary(metric: Metric) -> bool:
    """Whether a metric says yes or no, so that its averages are shares."""
    return bool(getattr(metric, "binary", False))


def require(metric: Metric) -> None:
    """Raise WrongMetric for what cannot be called as a metric is; asked before the first forward pass."""
    if not callable(metric) or isinstance(metric, type):
        raise WrongMetric(
            f"{metric!r} is no metric. A metric is a function (output, pairs) -> [pair], such as ip.value, ip.matches, "
            "ip.Matches(tol=0.1) or ip.logit_difference."
        )
    try:
        inspect.signature(metric).bind(None, None)
    except TypeError as error:
        raise WrongMetric(f"{name_of(metric)!r} is called with an output and its pairs, but: {error}.") from None
    except ValueError:  # a callable that has no signature to read
        pass


def require_parts(metric: Metric, pairs: Pairs) -> None:
    """Raise WrongPairs if the pairs lack what the metric needs."""
    for part in getattr(metric, "needs", ()):
        if getattr(pairs, part, None) is None:
            maker = f", or make them with {MAKERS[part]}, which knows them" if part in MAKERS else ""
            raise WrongPairs(
                f"The metric {name_of(metric)!r} needs {part}, and these pairs carry none. Give "
                f"Pairs({part}=...){maker}."
            )


def score(metric: Metric, output: Any, pairs: Pairs) -> Tensor:
    """The metric's numbers for a batch: [pair]. Raises WrongMetric unless they are one finite number a pair."""
    scores = torch.as_tensor(metric(output, pairs))
    if scores.shape != (len(pairs),):
        raise WrongMetric(
            f"The metric {name_of(metric)!r} gave shape {tuple(scores.shape)} for {len(pairs)} pairs. It should give "
            f"one number a pair, of shape ({len(pairs)},): averages, with their intervals, are made from these."
        )
    if scores.is_complex():
        raise WrongMetric(f"The metric {name_of(metric)!r} gave complex numbers. Take their real part, or their size.")
    scores = scores.cpu().double()
    if not bool(scores.isfinite().all()):
        row = int((~scores.isfinite()).nonzero()[0])
        raise WrongMetric(f"The metric {name_of(metric)!r} gave {float(scores[row])} for pair {row} of the batch.")
    return scores


def _numbers(output: Any) -> Tensor:
    numbers = numeric(output)
    if numbers is None:
        raise WrongShape(
            f"The output is {type(output).__name__}, not a tensor of numbers. Write a metric that picks the numbers: "
            "metric=lambda output, pairs: output['name'] or output.field."
        )
    return numbers


@dataclass(frozen=True)
class Scored:
    """A metric bound to its pairs, as a sweep takes it: output -> [pair]. What is bound stays open to a planner.

    tick: called with how many of the sweep's writes are done since, in parts of one too, for a progress bar.
    record: called with the `Work` of a sweep at its end.
    """

    metric: Metric
    pairs: Pairs
    tick: Callable[[float], object] = lambda writes: None
    record: Callable[[Any], object] = lambda work: None

    def __call__(self, output: Any) -> Tensor:
        return score(self.metric, output, self.pairs)

    def blocks(self, output: Any, count: int) -> Tensor:
        """[block, pair]: the scores of an output that holds so many blocks, each of which has a row a pair."""
        n = len(self.pairs)
        if not getattr(self.metric, "rowwise", False):
            parts = [mapped(output, lambda _, x, k=k: x[k * n : (k + 1) * n]) for k in range(count)]
            return torch.stack([self(part) for part in parts])
        targets = self.pairs.targets if (known := numeric(self.pairs.targets)) is None else known
        parts = {"targets": targets, "answers": self.pairs.answers}
        wanted: dict[str, Any] = {
            name: part for name, part in parts.items() if name in getattr(self.metric, "needs", ())
        }
        return score(self.metric, output, Pairs(range(n), range(n), **wanted).repeated(count)).view(count, n)


def numeric(column: Any) -> Tensor | None:
    """A column of numbers as a tensor on the CPU; None if it holds anything else."""
    if isinstance(column, list) and not any(isinstance(value, str | bytes) for value in column):
        try:
            column = np.array([value.tolist() if hasattr(value, "tolist") else value for value in column])
        except ValueError:  # rows of unequal length
            return None
    if isinstance(column, np.ndarray) and column.dtype.kind in "biuf":
        column = torch.from_numpy(column)
    return column.cpu() if isinstance(column, Tensor) else None


def _known(numbers: Tensor, hits: Tensor) -> Tensor:
    """Hits as 1 and 0; NaN, which `score` refuses, where an output itself is NaN."""
    lost = numbers.isnan().reshape(len(numbers), -1).any(-1)
    return torch.where(lost, torch.nan, hits.double())


def _list(column: Any) -> list[Any]:
    return list(column.tolist() if isinstance(column, np.ndarray | Tensor) else column)


def _kind(column: Any) -> str:
    values = _list(column)
    return f"{type(values[0]).__name__} values" if values and numeric(column) is None else "numbers"
