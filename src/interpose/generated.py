"""What a generation gave: texts, and a run a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .model import Run, Written
from .sites import Site


class Missed(NamedTuple):
    """A write at a step that did not come: these prompts had ended before."""

    place: Site
    step: int
    prompts: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Generated:
    """What a language model wrote, and what was read and written on the way.

    prompts: [prompt][token], the ids that were given; ids: [prompt][step], the ids that were chosen, the one that ends
    a text among them, and none after it. texts: the same as texts, without what ends them; None without a tokenizer.
    ended: [prompt], whether a text came to its end; the others have as many tokens as were asked for.
    steps: the run of each step. Its output are the logits that the token of that step was chosen from, [prompt,
    vocabulary]; its values what was read, its ledger what was written. Prompts that had ended are NaN there, and are
    not counted.
    missed: writes that were asked of a step, or of a position, that did not come for some prompts.
    """

    prompts: tuple[tuple[int, ...], ...]
    ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...] | None
    steps: tuple[Run[Site], ...]
    ended: tuple[bool, ...]
    missed: tuple[Missed, ...] = ()

    @property
    def logits(self) -> Tensor:
        """[prompt, step, vocabulary]: what each token was chosen from; NaN where a prompt had ended."""
        return torch.stack([run.output for run in self.steps], 1)

    @property
    def ledger(self) -> tuple[tuple[Written[Site], ...], ...]:
        """[step]: what was written in it."""
        return tuple(run.ledger for run in self.steps)

    def __repr__(self) -> str:
        lines = [f"Generated: {len(self.ids)} prompt{'s' * (len(self.ids) != 1)}, {len(self.steps)} steps"]
        for i, ids in enumerate(self.ids):
            shown = list(ids) if self.texts is None else repr(self.texts[i])
            lines.append(f"  {i}: {shown}" + (f", ended after {len(ids)} tokens" if self.ended[i] else ""))
        for place in dict.fromkeys(entry.place for run in self.steps for entry in run.ledger):
            found = {k: e for k, run in enumerate(self.steps) for e in run.ledger if e.place == place}
            touched, size = sum(e.touched for e in found.values()), sum(e.size for e in found.values())
            lines.append(
                f"  {place}: written at step {ranges(list(found))}, {touched} of {size} values changed, by at most "
                f"{max(e.change for e in found.values()):.3g}"
            )
        for place, step, late in self.missed:
            lines.append(f"  {place}: not written at step {step} of prompt {ranges(list(late))}, which had ended")
        return "\n".join(lines)


def masked(run: Run[Site], step: int, lengths: Sequence[int]) -> Run[Site]:
    """The run of a step without the prompts that had ended before it: NaN in what it holds of them."""
    alive = torch.tensor([length > step for length in lengths])
    if bool(alive.all()):
        return run
    return Run(
        _with_nan(run.output, alive),
        {site: _with_nan(value, alive) for site, value in run.values.items()},
        tuple(Written(e.place, e.fired, _only(e.old, alive), _only(e.new, alive)) for e in run.ledger),
        run.place,
    )


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in their order, neighbours as ranges: "0-2, 5"."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in found)


def _with_nan(value: Any, alive: Tensor) -> Any:
    """A floating tensor of a row a prompt, with NaN in the rows of those that had ended."""
    if len(value) != len(alive) or not value.is_floating_point():
        return value
    shape = (-1, *[1] * (value.ndim - 1))
    return torch.where(alive.to(value.device).reshape(shape), value, torch.full_like(value, torch.nan))


def _only(value: Any, alive: Tensor) -> Any:
    return value[alive.to(value.device)] if len(value) == len(alive) else value
