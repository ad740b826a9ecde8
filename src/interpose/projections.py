"""Where queries, keys and values of heads are made, told by what they act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .sites import Site
from .units import declared_width

PROJECTIONS = {
    "query": ("q_proj", "query", "q_norm", "q"),
    "key": ("k_proj", "key", "k_norm", "k"),
    "value": ("v_proj", "value", "v"),
}
FUSED = ("c_attn", "query_key_value", "qkv_proj", "Wqkv")
"""What attentions call the layers that make queries, keys and values, each or all at once."""

FLOOR = 1e-7
"""What is no more than this share of the largest is no change: what attention gives one head depends on no other."""

LINEAR = 1e-5
"""What is no more than this share of the largest effect is rounding: values act in proportion but for that."""

STEP = 20
"""How many standard deviations a unit is moved to see what it acts on: far enough for keys not to act in proportion."""


@dataclass(frozen=True)
class Projected:
    """Where the heads of one kind are made: at the output of which module, and [head]: in which of its units."""

    path: str
    units: tuple[tuple[int, ...], ...]


Layout = dict[str, Projected]


def layouts(attention: nn.Module, path: str, heads: int, width: int) -> Iterator[Layout]:
    """How queries, keys and values may lie in an attention, by its modules' names and widths."""
    modules = dict(attention.named_modules())
    named = {
        kind: [name for name in modules if name.rpartition(".")[2] in names] for kind, names in PROJECTIONS.items()
    }
    if all(named.values()):
        for query in named["query"]:
            for key in named["key"]:
                chosen = {"query": query, "key": key, "value": named["value"][0]}
                yield {kind: _alone(f"{path}.{name}", _width(modules[name]), width) for kind, name in chosen.items()}
    for name in (name for name in modules if name.rpartition(".")[2] in FUSED):
        total, rest = divmod(_width(modules[name]), width)
        groups = (total - heads) // 2
        if rest or groups < 1 or heads + 2 * groups != total or heads % groups:
            continue
        for order in (_in_turn, _by_group, _in_fours):
            numbers = order(heads, groups)
            if numbers is not None:
                yield {kind: Projected(f"{path}.{name}", _blocks(of, width)) for kind, of in numbers.items()}


def _width(module: nn.Module) -> int:
    weight = getattr(module, "weight", None)
    return declared_width(module, "output") or (weight.shape[0] if isinstance(weight, Tensor) else 0)


def _alone(path: str, total: int, width: int) -> Projected:
    return Projected(path, _blocks(range(total // width), width))


def _blocks(numbers: Sequence[int], width: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(k * width, (k + 1) * width)) for k in numbers)


def _in_turn(heads: int, groups: int) -> dict[str, Sequence[int]]:
    """All queries, then all keys, then all values."""
    return {
        "query": range(heads),
        "key": range(heads, heads + groups),
        "value": range(heads + groups, heads + 2 * groups),
    }


def _by_group(heads: int, groups: int) -> dict[str, Sequence[int]]:
    """Group by group its queries, its key and its value."""
    each = heads // groups
    return {
        "query": [g * (each + 2) + i for g in range(groups) for i in range(each)],
        "key": [g * (each + 2) + each for g in range(groups)],
        "value": [g * (each + 2) + each + 1 for g in range(groups)],
    }


def _in_fours(heads: int, groups: int) -> dict[str, Sequence[int]] | None:
    """In four parts, each with its queries, then values, then keys (CodeGen)."""
    if groups != heads or heads % 4:
        return None
    each = heads // 4
    return {
        kind: [part * 3 * each + k * each + i for part in range(4) for i in range(each)]
        for k, kind in enumerate(("query", "value", "key"))
    }


def acts_as_said(layout: Layout, heads: int, run: Callable[[str, Callable[[Tensor], Tensor], int], Tensor]) -> bool:
    """Whether each head of a layout acts on its own heads of the attention, and as a query, key or value does.

    run: of a module, a change of its output [row, token, unit] and a number of rows, what enters the output projection:
    [row, token, head, unit]. A query changes its own token alone; a value acts in proportion, a key does not, and both
    on all heads of their group.
    """
    groups = len(layout["key"].units)
    if len(layout["value"].units) != groups or len(layout["query"].units) != heads or heads % groups:
        return False
    each = heads // groups
    for kind, projected in layout.items():
        count = len(projected.units)
        rows = 2 * count + 1
        z = run(projected.path, _nudged(projected.units), rows)
        changed = (z - z[:1]).float()
        size = changed.abs().max()
        acts = (changed.abs().amax(-1) > FLOOR * z.float().abs().max()).cpu()  # [row, token, head]
        once, twice = changed[1 : count + 1], changed[count + 1 :]
        linear = bool((twice - 2 * once).abs().max() <= max(LINEAR, 8 * torch.finfo(z.dtype).eps) * size)
        if linear != (kind == "value"):
            return False
        for k in range(count):
            mine = torch.zeros(heads, dtype=torch.bool)
            mine[[k] if kind == "query" else list(range(k * each, (k + 1) * each))] = True
            here = acts[k + 1]
            if here[:, ~mine].any() or not here[:, mine].any(0).all() or (kind == "query" and here[[0, 2]].any()):
                return False
    return True


def _nudged(units: Sequence[Sequence[int]]) -> Callable[[Tensor], Tensor]:
    """A change of [row, token, unit]: row k of the first half has head k moved at token 1, of the second twice as far.

    The first row of all stays as it is.
    """

    def change(old: Tensor) -> Tensor:
        new, count = old.clone(), len(units)
        noise = torch.randn(old.shape[-1], generator=torch.Generator().manual_seed(0)).to(old)
        step = STEP * old[0, 1].float().std().to(old.dtype) * noise
        for k, own in enumerate(units):
            new[k + 1, 1, list(own)] += step[list(own)]
            new[count + k + 1, 1, list(own)] += 2 * step[list(own)]
        return new

    return change


def weighs_values(
    heads: Sequence[Site], run: Callable[[Mapping[Site, Callable[[Tensor], Tensor]], int], Tensor]
) -> bool:
    """Whether each head of a pattern says how a query of that head weighs what the keys have to give, and nothing else.

    run: of writes and a number of rows, what the heads give, [row, token, head, unit]. A query that weighs two keys by
    one half each gives the mean of what it gives for each alone, at its own token, and changes no other head.
    """
    z = run({site: _weighed(1 + 3 * k) for k, site in enumerate(heads)}, 1 + 3 * len(heads))
    least = max(LINEAR, 8 * torch.finfo(z.dtype).eps) * float(z.abs().max())
    z = z.float()
    for k in range(len(heads)):
        mine = z[1 + 3 * k : 4 + 3 * k]
        one, other, both = mine[:, 1, k]
        elsewhere = (mine - z[:1]).abs().amax(-1)
        elsewhere[:, 1, k] = 0
        if (
            elsewhere.max() > least
            or (both - (one + other) / 2).abs().max() > least
            or (one - other).abs().max() <= least
        ):
            return False
    return True


def _weighed(first: int) -> Callable[[Tensor], Tensor]:
    """A change of [row, query, key]: in three rows, query 1 weighs the first key, the second, and both."""

    def change(old: Tensor) -> Tensor:
        new = old.clone()
        new[first : first + 3, 1] = 0
        for row, key, weight in ((0, 0, 1.0), (1, 1, 1.0), (2, 0, 0.5), (2, 1, 0.5)):
            new[first + row, 1, key] = weight
        return new

    return change
