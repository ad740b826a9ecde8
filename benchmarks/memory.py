"""Peak memory: how far a process grows in a sweep, and in a plain batched forward with as many rows."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

import interpose as ip
from interpose.interventions import Set
from interpose.metrics import Scored

from .measure import say, worker
from .subject import Question, question

FEW = (20, 25, 29)
"""Layers whose sites are swept with 16 pairs and with ten times as many."""


def measured(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Four processes: the sweep, a forward with as many rows, and two sweeps of which one has ten times the pairs."""
    asked = {"case": "memory", **request}
    found = [worker({**asked, "contender": "sweep", "n": 16})]
    rows = found[0].get("rows", 16)
    found.append(worker({"case": "memory", "contender": "forward", "n": 16, "rows": rows}))
    few = {**asked, "layers": request.get("layers", FEW), "contender": "sweep"}
    found += [worker({**few, "n": 16}), worker({**few, "n": 160})]
    names = ("sweep", "plain forward", "sweep, fewer sites", "sweep, fewer sites, 10 x the pairs")
    for name, one in zip(names, found, strict=True):
        say(f"memory: {name}: {one.get('failed') or round(one['grown'] / 1e6)} MB")
    return [{"name": name, **one} for name, one in zip(names, found, strict=True)]


def grown(request: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes by which this process grows at most; rows: the largest batch the model was given; read: what is kept."""
    asked = {name: request[name] for name in ("layers", "inner") if name in request}
    q = question("residual", n=request["n"], **asked)
    largest: list[int] = []
    handle = q.module.register_forward_pre_hook(
        lambda module, args, kwargs: largest.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    with torch.no_grad():
        q.lm.run(q.pairs.base[:1])
        before = _settled()
        read = _sweep(q) if request["contender"] == "sweep" else _forward(q, request["rows"])
    handle.remove()
    return {
        "grown": _peak() - before,
        "rows": max(largest),
        "read": read,
        "pairs": len(q.pairs),
        "cells": len(q.cells) if request["contender"] == "sweep" else 0,
    }


def _sweep(q: Question) -> int:
    donors = [q.lm.run(batch.source, read=q.sites) for batch in q.pairs.batches(16)]
    values = {site: torch.cat([donor[site] for donor in donors]) for site in q.sites}
    del donors
    writes = [{site: Set(value)} for site, value in values.items()]
    q.lm.sweep(q.pairs.base, writes, metric=Scored(ip.logit_difference, q.pairs))
    return sum(value.numel() * value.element_size() for value in values.values())


def _forward(q: Question, rows: int) -> int:
    ids = q.base.repeat(-(-rows // len(q.base)), 1)[:rows]
    q.module(input_ids=ids, use_cache=False, logits_to_keep=1)
    return 0


def _settled() -> int:
    """What the process holds now; on Linux its peak is counted from here on."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")
    return int(psutil.Process().memory_info().rss)


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
