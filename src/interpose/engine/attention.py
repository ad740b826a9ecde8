"""Attention on packed tensors: for rows that differ from their base rows, from the first query on that can see where.

A query before that gives every key that differs a weight of exactly zero, so it finds what it does in its base row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .live import Live
from .packed import Packed, Unpacked, by_row, named, sifted

CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def attention(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Attention of each row's queries to its own keys and values, with a mask: a few rows at a time.

    The entries of what it gives are the queries, those that find something else than in their base rows.
    """
    given, ndim = named(func, args, kwargs), args[0].ndim
    if given["dropout_p"] or not all(isinstance(x, Packed) for x in args[:3]):
        raise Unpacked("attention is random, or its queries, keys or values are the same for all rows")
    given = {name: by_row(x, ndim, args[0]) if isinstance(x, Tensor) else x for name, x in given.items()}
    live = reduce(Live.united, [x.live.rows for x in given.values() if isinstance(x, Packed)])
    first = _first(given, ndim - 2) if func.overloadpacket is CPU else None
    if first is not None:
        live = Live(live.batch, 1, live.at.index_select(0, first.index_select(0, live.at).argsort(stable=True)))
    others: list[list[Tensor]] = []

    def attended() -> Iterator[tuple[Tensor, Tensor, int]]:
        for rows, start in _portions(live, sum(x.row_bytes for x in args[:3]), first):
            out, *more = func(**_part(given, rows, start))
            if start:
                base = live.batch.owner.index_select(0, rows)
                more = [torch.cat([others[0][i].index_select(0, base)[..., :start], x], -1) for i, x in enumerate(more)]
            others.append(more)
            yield rows, out.movedim(ndim - 2, 1), start

    asked = (live.count if first is None else live.base) * args[0].shape[-2]
    if first is not None:
        asked += int((args[0].shape[-2] - first.index_select(0, live.at)).sum())
    out = sifted(attended(), live.batch, ndim - 2, asked)
    return out, *(_joined(parts, live) for parts in zip(*others, strict=True))


def _first(given: dict[str, Any], axis: int) -> Tensor | None:
    """[row]: the first token whose query, key or value differs, where later tokens are known to be out of sight.

    axis: that of tokens. None where they are not, or where it is not known which tokens differ.
    """
    packed = [given[name] for name in ("query", "key", "value")]
    if not given["is_causal"] or len({x.shape[axis] for x in packed}) > 1 or any(x.axis != axis for x in packed):
        return None
    batch, tokens = packed[0].live.batch, packed[0].shape[axis]
    first = torch.full((batch.rows,), tokens - 1, device=packed[0].live.at.device)
    for live in dict.fromkeys(x.live for x in packed):
        first.scatter_reduce_(0, live.at // tokens, live.at % tokens, "amin")
    return first


def _portions(live: Live, size: int, first: Tensor | None) -> Iterator[tuple[Tensor, int]]:
    """A few rows at a time that differ from the same token on, and that token; base rows first, with all tokens."""
    base, *others = live.parts(size)
    yield base, 0
    for rows in others:
        if first is None:
            yield rows, 0
            continue
        starts, counts = first.index_select(0, rows).unique_consecutive(return_counts=True)
        yield from zip(rows.split(counts.tolist()), starts.tolist(), strict=True)


def _part(given: dict[str, Any], rows: Tensor, start: int) -> dict[str, Any]:
    """What attention is given for some rows; of their queries only those from a first one on."""
    query = given["query"]
    part = {name: x.of(rows) if isinstance(x, Packed) else x for name, x in given.items() if name != "query"}
    part["query"] = query.of(rows, start)
    for name in ("query", "key", "value"):  # torch sees to it before it chooses a kernel
        part[name] = part[name] if part[name].stride(-1) == 1 else part[name].contiguous()
    mask = given.get("attn_mask")
    if start:
        tokens = query.shape[-2]
        later = torch.full((tokens, tokens), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
        return part | {"is_causal": False, "attn_mask": later[start:].expand(len(rows), 1, -1, -1)}
    if (
        isinstance(mask, Tensor)
        and not isinstance(mask, Packed)
        and mask.ndim == query.ndim
        and len(mask) == len(query)
    ):
        part["attn_mask"] = mask[:1].expand(len(rows), *mask.shape[1:])  # one for all rows
    return part


def _joined(parts: Sequence[Any], live: Live) -> Any:
    """What rows gave beside the output, by row if it is."""
    first = parts[0]
    by_row = isinstance(first, Tensor) and first.ndim > 1 and len(first) == live.batch.base
    return Packed(torch.cat(list(parts)), live, 0) if by_row else first
