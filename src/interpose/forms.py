"""Prompts of unequal length, and positions with names: what has one form runs together, and no prompt is padded.

A batch is parted into prompts of equally many tokens whose named parts stand at the same positions. Each part runs as
it would alone, with names in place of numbers taken out, and what it gives is put back in the order of the prompts.
So a prompt gives what it gives alone, whatever runs beside it, and no position is ever that of a pad.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import WrongPairs, WrongShape
from .interventions import Add, Chain, Scale, Set
from .model import Run, Work, Written
from .named import part_of
from .prompts import tokens_in
from .sites import EACH, Site
from .taps import refuse_overlap
from .units import at_rest
from .windows import Pattern

Writes = Mapping[Site, Callable[[Any], Any]]


@dataclass(frozen=True, eq=False)
class Form:
    """Prompts of a batch that have one form.

    rows: which of the batch, of so many in total; inputs: their token ids; sites: each site with its position counted.
    """

    rows: list[int]
    total: int
    inputs: list[list[int]]
    sites: Mapping[Site, Site]

    def writes(self, given: Writes) -> dict[Site, Callable[[Any], Any]]:
        """The interventions of these prompts alone. Raises OverlappingWrites where two names mean one position."""
        found: dict[Site, Callable[[Any], Any]] = {}
        for site, new in given.items():
            place = self.sites[site]
            if place in found:
                refuse_overlap(site, next(other for other in given if self.sites[other] == place))
            found[place] = new if len(self.rows) == self.total else _of_rows(new, self, place)
        return found


def forms(lm: Any, prompts: Sequence[Any], sites: Sequence[Site]) -> list[Form] | None:
    """The forms of a batch; None where there is one and no position has a name, so that nothing need be done.

    prompts: texts or token ids. Raises UnknownPlace for a name that a prompt does not have.
    """
    ids = [lm.token_ids(prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    named = [site for site in sites if site.is_named]
    if not named and len({len(row) for row in ids}) <= 1:
        return None
    names = _names(named)
    where: dict[tuple[Any, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        found = tuple(counted(lm, prompt, name) for name in names)
        where.setdefault((len(ids[i]), *found), []).append(i)
    return [
        Form(
            rows,
            len(ids),
            [ids[i] for i in rows],
            {site: site for site in sites}
            | {site: replace(site, position=found[names.index(site.position)]) for site in named},
        )
        for (_, *found), rows in where.items()
    ]


def without_pads(inputs: Mapping[str, Any]) -> Any:
    """Inputs by name as they are, or, where some are padded, the token ids without pads, one list a prompt.

    Raises WrongPairs where pads lie between tokens, or something else is given for every token.
    """
    mask = None if inputs.get("attention_mask") is None else torch.as_tensor(inputs["attention_mask"])
    if mask is None or bool(mask.all()):
        return inputs
    kept = mask.bool()
    steps = (kept.int().diff(dim=-1) != 0).sum(-1)
    one_side = bool((steps <= 1).all()) and bool(kept.any(-1).all())
    more = {name for name, column in inputs.items() if name != "token_type_ids" or torch.as_tensor(column).any()}
    if kept.ndim != 2 or not one_side or more != {"input_ids", "attention_mask"}:
        raise WrongPairs(
            f"These inputs are padded, and hold {', '.join(inputs)}. Pads are taken off where they stand before or "
            "behind each prompt and there is nothing but input_ids and attention_mask: give these, or texts."
        )
    ids = torch.as_tensor(inputs["input_ids"])
    return [row[keep].tolist() for row, keep in zip(ids, kept, strict=True)]


def token_rows(inputs: Mapping[str, Any]) -> Any:
    """The token ids of inputs by name, one row a prompt, without pads; inputs that hold more as they are."""
    rows = without_pads(inputs)
    plain = isinstance(rows, Mapping) and set(rows) <= {"input_ids", "attention_mask"}
    return torch.as_tensor(rows["input_ids"]).tolist() if plain else rows


def counted(lm: Any, prompt: Any, position: Any) -> int | tuple[int, ...]:
    """The position that a name means in a prompt: one for "{city[-1]}", all tokens of the part for "{city}"."""
    place, nth = part_of(prompt, position)
    found = tuple(tokens_in(lm, prompt, place)) if isinstance(prompt, str) else place
    if nth is None:
        return found
    if not -len(found) <= nth < len(found):
        raise WrongShape(f"{position} asks for token {nth} of a part that has {len(found)} in {prompt!r}.")
    return found[nth]


def check_alike(
    lm: Any, base: Sequence[Any], source: Sequence[Any], sites: Sequence[Site], names: tuple[str, str]
) -> None:
    """Raise WrongPairs for a site that is not the same place in base and source of a pair, before anything is measured.

    A position counted from the beginning needs prompts of one length, a named part as many tokens, and what spans all
    tokens as many of them, which a run of the first pair of two lengths tells. names: what the two are called.
    """
    ours_are, theirs_are = names
    fixed = [site for site in sites if not isinstance(site.position, str) and _from_start(site.position)]
    names_of_parts = _names([site for site in sites if site.is_named])
    spanning = [s for s in sites if s.position in (None, EACH) or isinstance(lm.modules[s.path], Pattern)]
    unequal = []
    for i, (ours, theirs) in enumerate(zip(base, source, strict=True) if fixed or names_of_parts or spanning else ()):
        sizes = [len(lm.token_ids(one) if isinstance(one, str) else one) for one in (ours, theirs)]
        unequal += [i] if sizes[0] != sizes[1] else []
        if fixed and sizes[0] != sizes[1] and (there := lm.of_prompt(fixed)):
            raise WrongPairs(
                f"Pair {i}: {ours_are} has {sizes[0]} tokens and {theirs_are} {sizes[1]}, so that {there[0]} is not "
                "the same place in both. Name the position, as in '{city}', or count it from the end."
            )
        for name in names_of_parts:
            spans = [np.size(counted(lm, one, name)) for one in (ours, theirs)]
            if spans[0] != spans[1]:
                raise WrongPairs(
                    f"Pair {i}: {name} is {spans[0]} tokens in {ours_are} and {spans[1]} in {theirs_are}. "
                    f"Take one of them, '{name[:-1]}[-1]}}', or choose words of as many tokens."
                )
    for i in unequal[:1] if spanning else ():
        with at_rest(lm.module), torch.no_grad():
            held = [lm.run([one[i]], read=spanning) for one in (base, source)]
        for site in spanning:
            ours, theirs = (tuple(run[site].shape[1:]) for run in held)
            if ours != theirs:
                raise WrongPairs(
                    f"Pair {i}: {site} holds {ours} in {ours_are} and {theirs} in {theirs_are}, since it has values "
                    "for each of their tokens. Choose words of as many tokens, or a place at one position, such as "
                    "lm.residual(positions=['{city[-1]}', -1])."
                )


def joined(given: Sequence[Form], runs: Sequence[Run[Site]], reads: Sequence[Site], place: Any) -> Run[Site]:
    """The runs of all forms as one, in the order of the prompts; what differs in length is a list, one a prompt."""

    def together(parts: Sequence[Any]) -> Any:
        return _in_order(given, parts)

    written = list(zip(*(run.ledger for run in runs), strict=True))
    names = [{counted: site for site, counted in form.sites.items()} for form in given]
    return Run(
        together([run.output for run in runs]),
        {site: together([run[form.sites[site]] for form, run in zip(given, runs, strict=True)]) for site in reads},
        tuple(
            Written(
                names[0][entries[0].place],
                max(entry.fired for entry in entries),
                *(_flat(together([getattr(entry, end) for entry in entries])) for end in ("old", "new")),
            )
            for entries in written
        ),
        place,
    )


def work_of(parts: Sequence[Work]) -> Work:
    """The work of the same sweep over all forms: a write is unreachable where it is in every one."""
    lost = frozenset.intersection(*(part.unreachable for part in parts)) if parts else frozenset()
    return replace(sum(parts, Work()), unreachable=lost)


def scores_of(given: Sequence[Form], parts: Sequence[Tensor]) -> Tensor:
    """[write, example]: the scores of all forms, in the order of the prompts."""
    return torch.cat(list(parts), 1)[:, _order(given)]


# -- small things ----------------------------------------------------------------------------------


def _names(named: Sequence[Site]) -> list[Any]:
    """The names of positions, each once: many sites stand at one, and to find it in a prompt takes its tokens."""
    return list(dict.fromkeys(site.position for site in named))


def _from_start(position: Any) -> bool:
    return position is not None and any(p >= 0 for p in np.atleast_1d(position).tolist())


def _order(given: Sequence[Form]) -> Tensor:
    return torch.tensor([row for form in given for row in form.rows]).argsort()


def _in_order(given: Sequence[Form], parts: Sequence[Any]) -> Any:
    """What every form gave, one row a prompt: a tensor, or a list of tensors where they differ in shape."""
    if len(parts) == 1 or len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))[_order(given).to(parts[0].device)]
    rows = [row for part in parts for row in part]
    return [rows[i] for i in _order(given).tolist()]


def _flat(value: Any) -> Tensor:
    """A value with its rows in one, where they differ in shape."""
    return torch.cat([row.reshape(-1) for row in value]) if isinstance(value, list) else value


def _of_rows(new: Any, form: Form, site: Site) -> Any:
    """An intervention on some rows of a batch: what holds a value for every row holds those of these rows.

    A function old -> new stays as it is, and sees these rows alone, unless it has `of_rows`, which gives its own.
    """
    match new:
        case Set(value) | Add(value):
            return replace(new, value=_taken(value, form, site, new.broadcast))
        case Scale(factor):
            return replace(new, factor=_taken(factor, form, site, new.broadcast))
        case Chain(steps):
            return Chain(*(_of_rows(step, form, site) for step in steps))
    return new.of_rows(form.rows) if hasattr(new, "of_rows") else new


def _taken(value: Any, form: Form, site: Site, broadcast: bool) -> Any:
    if isinstance(value, list | tuple) and len(value) == form.total and all(isinstance(row, Tensor) for row in value):
        rows = [value[i] for i in form.rows]
        if len({row.shape for row in rows}) > 1:
            raise WrongShape(f"What is written at {site} has rows of shapes {sorted({tuple(r.shape) for r in rows})}.")
        return torch.stack(rows)
    if not isinstance(value, Tensor | np.ndarray) or not value.ndim or len(value) != form.total:
        return value
    axes = 3 - isinstance(site.position, int) - isinstance(site.units, int)
    return value if broadcast and value.ndim < axes else value[form.rows]
