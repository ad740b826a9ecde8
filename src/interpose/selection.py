"""Pairs on which a model is right, beside all of them: to keep some of them is to ask another question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .errors import WrongInput, WrongPairs

RIGHT, ALL = "where right", "all"
BATCH = 64
"""How many prompts run at a time."""


@dataclass(frozen=True, eq=False, repr=False)
class Selected(Mapping[str, Any]):
    """The pairs that were kept and all pairs, by the names "where right" and "all", as `scan` takes them.

    why: what was wrong, and in how many pairs; a pair may count twice.
    """

    kept: Any
    unfiltered: Any
    why: Mapping[str, int]

    def __getitem__(self, name: str) -> Any:
        return {RIGHT: self.kept, ALL: self.unfiltered}[name]

    def __iter__(self) -> Iterator[str]:
        return iter((RIGHT, ALL))

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        reasons = "; ".join(f"{said}: {times}" for said, times in self.why.items() if times)
        return f"Kept {len(self.kept)} of {len(self.unfiltered)} pairs" + (f". {reasons}." if reasons else ".")


def where_correct(pairs: Any, model: Any, by: Literal["first", "preferred"]) -> Selected:
    """The pairs whose base and source a model both answers right: see `Pairs.where_correct`."""
    if by not in ("first", "preferred"):
        raise WrongInput(f"by={by!r}: an answer is right if it comes 'first' of all tokens, or is 'preferred'.")
    if pairs.answers is None:
        raise WrongPairs("These pairs carry no answers, so that nothing is right. Make them with Pairs.from_prompts.")
    right = {side: _right(pairs, model, side, by) for side in ("base", "source")}
    both = right["base"] & right["source"]
    said = "is not the first of all tokens" if by == "first" else "is not preferred to the other"
    why = {f"the {side}'s answer {said}": int((~found).sum()) for side, found in right.items()}
    return Selected(pairs[both.tolist()], pairs, why)


def _right(pairs: Any, model: Any, side: str, by: str) -> Tensor:
    """[pair]: whether the base or source is answered right."""
    own = ("base", "source").index(side)
    found = [torch.zeros(0, dtype=torch.bool)]
    for batch in pairs.batches(BATCH):
        with torch.no_grad():
            logits = model.run(getattr(batch, side)).output
        answers = batch.answers.to(logits.device)
        mine, other = (logits.gather(1, answers[:, k : k + 1])[:, 0] for k in (own, 1 - own))
        found.append((mine >= logits.amax(1) if by == "first" else mine > other).cpu())
    return torch.cat(found)
