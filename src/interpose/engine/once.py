"""The four runs of every pair and place in one pass: for networks so small that a pass costs more than its products.

The rows of the pass are blocks of one row a pair: base, source, the base with each place from the source, the source
with each place from the base, and the base again with the first and the last place as they are. What is written in one
row is read in another row of the same pass, so nothing is stored, and effects are told apart within one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..featurizers import NEURONS
from ..metrics import Scored
from ..model import Floats, FourRuns, Work
from ..sites import Site
from ..structures import choose, distances, exchange, mapped, tensors
from ..taps import NotByRow, Taps, call
from .axes import close
from .probe import SMALL, Given, Refused, operations, two_unlike
from .subject import Subject
from .watch import Watch

SCORES = 1e-3
"""The score of a row may differ by this share of the largest between batches; more is no rounding."""

LARGEST = 2**22
"""How many numbers the input of a pass may hold."""


class Unlike(Exception):
    """A row does not give in the pass what it gives in another run."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of rows of a pass, by their numbers: each has a row a pair."""

    pairs: int
    places: int

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return 2 * self.places + 4

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.count * self.pairs

    def inputs(self) -> Tensor:
        """[row]: which input it runs, out of the base inputs followed by the source inputs."""
        base, source = torch.arange(2 * self.pairs).view(2, self.pairs)
        return torch.cat([base, source, base.repeat(self.places), source.repeat(self.places), base, base])

    def moves(self, places: Sequence[int]) -> list[tuple[int, int, int]]:
        """(place, block it is written in, block its value comes from): into the base, into the source, as they are."""
        last = self.places - 1
        return [
            *((j, 2 + j, 1) for j in places),
            *((j, 2 + self.places + j, 0) for j in places),
            *((j, self.count - 2, 0) for j in places if j == 0),
            *((j, self.count - 1, 0) for j in places if j == last),
        ]


@dataclass(frozen=True)
class Transfer:
    """Which entries of a tensor are written with which others, as flat indices in the order of `Blocks.moves`.

    shapes: of each place, by its number, the shape of its values in a block.
    """

    to: Tensor
    start: Tensor
    shapes: Mapping[int, torch.Size]

    def changes(self, moved: Tensor) -> dict[int, Floats]:
        """Of each place the largest distance of the source's value from the base's, [pair], given what was moved."""
        size = sum(shape.numel() for shape in self.shapes.values())
        apart, at, found = distances(moved[size : 2 * size], moved[:size]), 0, {}
        for j, shape in self.shapes.items():
            entries = apart[at : at + shape.numel()].reshape(shape[0], shape[1:].numel())
            found[j] = entries[:, 0] if entries.shape[1] == 1 else entries.max(1, initial=0.0)
            at += shape.numel()
        return found


def transfer(sites: Mapping[int, Site], blocks: Blocks, tensor: Tensor) -> Transfer:
    """Where in a tensor of this shape the values of some sites are, by the numbers of their places."""
    rows = torch.arange(tensor.numel(), device=tensor.device).view(tensor.shape).split(blocks.pairs)
    moves = blocks.moves(list(sites))
    to = torch.cat([sites[j].get(rows[block]).reshape(-1) for j, block, _ in moves])
    start = torch.cat([sites[j].get(rows[block]).reshape(-1) for j, _, block in moves])
    return Transfer(to, start, {j: site.get(rows[0]).shape for j, site in sites.items()})


Plans = dict[Any, Any]
"""What was worked out before, by what it depends on."""


def kept(plans: Plans, known: Any, made: Callable[[], Any]) -> Any:
    """A plan from among those kept, or made now; few are kept, since they are as large as what they move."""
    if known not in plans:
        if len(plans) >= 16:
            plans.clear()
        plans[known] = made()
    return plans[known]


class OnceTaps(Taps):
    """The writes of a pass whose rows are blocks: each takes its values from other rows of the same tensor.

    moved: for every tensor written to, its transfer and the values that were moved; held: a few rows, as they were.
    """

    def __init__(
        self, sites: Sequence[Site], modules: Mapping[str, nn.Module], blocks: Blocks, plans: Plans, few: Tensor
    ) -> None:
        super().__init__(sites, modules)
        self.number = {site: j for j, site in enumerate(sites)}
        self.blocks, self.plans, self.few = blocks, plans, few
        self.moved: list[tuple[Transfer, Tensor]] = []
        self.held: dict[tuple[str, str], Tensor] = {}

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """The structure with a copy of the tensor in which every place's blocks are written."""
        chosen: dict[str, list[Site]] = {}
        for leaf, sites in {site.leaf: [s for s in here if s.leaf == site.leaf] for site in here}.items():
            chosen.setdefault(choose(structure, leaf, owner)[0], []).extend(sites)
        for path, sites in chosen.items():
            tensor = tensors(structure)[path]
            if tensor.ndim == 0 or len(tensor) != self.blocks.rows:
                raise NotByRow(f"{sites[0]} holds {tuple(tensor.shape)} in a pass of {self.blocks.rows} rows")
            numbered = {self.number[site]: site for site in sites}
            known = (self.blocks, *numbered.items(), tensor.shape, tensor.device)
            plan = kept(self.plans, known, partial(transfer, numbered, self.blocks, tensor))
            values = tensor.take(plan.start)
            self.moved.append((plan, values))
            self.held[owner, path] = tensor.index_select(0, self.few.to(tensor.device))
            structure = exchange(structure, path, tensor.clone().put_(plan.to, values))
        return structure


class Glance(Taps):
    """Copies of the whole tensors that some sites are parts of, in a run of a few rows.

    In the last row `site` is written with what the row before holds there; held: of every tensor, the other rows.
    """

    def __init__(self, sites: Sequence[Site], modules: Mapping[str, nn.Module], site: Site) -> None:
        super().__init__(sites, modules)
        self.site = site
        self.held: dict[tuple[str, str], Tensor] = {}

    def visited(self, here: Sequence[Site], owner: str, structure: Any) -> Any:
        """What was there goes on, but for the last row of the one site."""
        for site in {site.leaf: site for site in here}.values():
            path, tensor = choose(structure, site.leaf, owner)
            self.held[owner, path] = tensor[:-1].clone()
        if self.site in here:
            path, tensor = choose(structure, self.site.leaf, owner)
            last = self.site.set(tensor[-1:], self.site.get(tensor[-2:-1]))
            structure = exchange(structure, path, torch.cat([tensor[:-1], last]))
        return structure


def four_runs(
    subject: Subject,
    base: tuple[Any, Any],
    source: tuple[Any, Any],
    sites: Sequence[Site],
    metric: Scored,
    plans: Plans,
    *,
    check: bool,
) -> FourRuns | None:
    """The four runs in one pass; None where that cannot be done, or where a small plain run gives something else.

    base, source: how the module is called with them. No error of ours is raised here: the runs that are made one after
    another instead say more clearly what is wrong.
    """
    blocks = Blocks(len(metric.pairs), len(sites))
    plain = all(site.featurizer == NEURONS for site in sites) and len(set(sites)) == len(sites)
    if blocks.pairs < 2 or not plain or not _is_small(subject, base, blocks):
        return None
    ours, theirs = (Given(*given, blocks.pairs) for given in (base, source))
    try:
        return _Pass(subject, ours, theirs, sites, metric, blocks, plans, check).four_runs(check)
    except Exception:  # noqa: BLE001 - memory, too: runs one after another need less, and say what is wrong
        return None


class _Pass:
    """One pass, and the score of every row: [block, pair]."""

    def __init__(
        self,
        subject: Subject,
        base: Given,
        source: Given,
        sites: Sequence[Site],
        metric: Scored,
        blocks: Blocks,
        plans: Plans,
        check: bool,
    ) -> None:
        self.subject, self.sites, self.metric, self.blocks = subject, sites, metric, blocks
        self.inputs, self.few = _joined(base, source), two_unlike(base)
        held = torch.cat([self.few, self.few[1:] + blocks.pairs])
        self.taps = OnceTaps(sites, subject.modules, blocks, plans, held)
        watch = Watch(subject.modules)
        with watch if check else nullcontext():
            self.outcome = self._run(self.inputs.rows(kept(plans, blocks, blocks.inputs)), self.taps)
        watch.refuse()
        if any(not tensor.ndim or len(tensor) != blocks.rows for tensor in tensors(self.outcome).values()):
            raise Refused("the first axis of the output is not the example")
        self.scores = metric.blocks(self.outcome, blocks.count).numpy().reshape(blocks.count, -1)

    def four_runs(self, check: bool) -> FourRuns:
        """The runs, once the checks have passed. A place that holds the same in base and source has no effect."""
        noise = self._checked() if check else self._same()
        many = len(self.sites)
        changes = {j: change for plan, moved in self.taps.moved for j, change in plan.changes(moved).items()}
        response = np.stack([changes[j] for j in range(many)], 1)
        ybb, yss = self.scores[:2]
        ybs, ysb = self.scores[2 : 2 + many].T, self.scores[2 + many : -2].T
        same = response == 0
        work = Work(("one pass",), 1 + check, self.blocks.rows + 4 * check, noise=noise)
        return FourRuns(
            ybb=ybb,
            yss=yss,
            ybs=np.where(same, ybb[:, None], ybs),
            ysb=np.where(same, yss[:, None], ysb),
            response=response,
            unreachable=np.zeros_like(same),
            work=work,
            checked=check,
        )

    def _checked(self) -> float:
        """The noise floor: of places written as they are, and of a small run that is made in another way.

        It runs two base inputs, the source of the second, and the second again with a place taken from that source.
        """
        n, place = self.blocks.pairs, len(self.sites) // 2
        again, one = torch.cat([self.few, self.few[1:] + n]), self.few[1:]
        glance = Glance(self.sites, self.subject.modules, self.sites[place])
        outcome = self._run(self.inputs.rows(torch.cat([again, one])), glance)
        noise = max(self._same(), self._apart(outcome, torch.cat([again, one + (2 + place) * n])))
        for where, tensor in self.taps.held.items():
            if where not in glance.held or not close(glance.held[where], tensor):
                raise Unlike
        if noise > SCORES * max(1.0, float(np.abs(self.scores).max())):
            raise Unlike
        return noise

    def _same(self) -> float:
        """How far the scores of places written as they are are from those of the base."""
        return float(np.abs(self.scores[-2:] - self.scores[0]).max())

    def _apart(self, outcome: Any, rows: Tensor) -> float:
        """How far the scores of an outcome are from those of these rows of the pass. Raises Unlike."""
        wide, tol = tensors(self.outcome), getattr(self.metric.metric, "tol", torch.inf)
        for path, tensor in tensors(outcome).items():
            ours = wide[path].index_select(0, rows.to(tensor.device))
            if not close(tensor, ours) or (tol < torch.inf and 10 * float(distances(tensor, ours).max()) > tol):
                raise Unlike
        pairs = self.metric.pairs[(rows % self.blocks.pairs).tolist()]
        scores = replace(self.metric, pairs=pairs)(outcome).numpy()
        return float(np.abs(scores - self.scores.reshape(-1)[rows.numpy()]).max())

    def _run(self, given: Given, taps: Taps) -> Any:
        return self.subject.outcome(call(self.subject.module, given.args, given.kwargs, taps))


def _is_small(subject: Subject, base: tuple[Any, Any], blocks: Blocks) -> bool:
    """Whether a pass has so few operations, and its input so few numbers, that making it whole costs least."""
    entries = sum(tensor.numel() for tensor in tensors(base).values()) // blocks.pairs
    return blocks.rows * entries <= LARGEST and operations(subject.module, entries, blocks.rows) < SMALL


def _joined(base: Given, source: Given) -> Given:
    """The base inputs followed by the source inputs. Raises Refused where they have other forms."""
    ours, theirs = tensors((base.args, base.kwargs)), tensors((source.args, source.kwargs))
    if ours.keys() != theirs.keys() or any(ours[path].shape != theirs[path].shape for path in ours):
        raise Refused("base and source inputs differ in form")
    args, kwargs = mapped((base.args, base.kwargs), lambda path, tensor: torch.cat([tensor, theirs[path]]))
    return Given(args, kwargs, base.size + source.size)
