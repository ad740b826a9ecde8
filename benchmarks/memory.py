"""Peak memory: how far a process grows in a sweep, in a plain forward, and in the effects of more and more pairs."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

import interpose as ip
from interpose.interventions import Set
from interpose.metrics import Scored

from .measure import say, worker
from .subject import Question, question

FEW = (20, 25, 29)
"""Layers whose sites are measured with 16 pairs and with ten times as many, 16 at a time."""

AT_ONCE, RUNS = 16, 3
"""Pairs in a batch; and how many processes each number is the median of."""

NAMES = ("sweep", "plain forward", "effects, fewer sites", "effects, fewer sites, 10 x the pairs")


def measured(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sweep, a forward with as many rows, and the effects of two sets of pairs, one ten times the other."""
    asked = {"case": "memory", **request, "n": AT_ONCE}
    sweep = _median(NAMES[0], {**asked, "contender": "sweep"})
    plain = {"case": "memory", "contender": "forward", "n": AT_ONCE, "rows": sweep.get("rows", AT_ONCE)}
    few = {**asked, "layers": request.get("layers", FEW), "contender": "effects"}
    many = {**few, "n": 10 * AT_ONCE}
    return [sweep, *(_median(name, one) for name, one in zip(NAMES[1:], (plain, few, many), strict=True))]


def _median(name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What processes tell, one after another: the median of how far they grew, and the least and the most."""
    told = [worker(request) for _ in range(RUNS)]
    (one, *_) = sorted(told, key=lambda one: "failed" not in one)  # a failure, if there is one
    if "failed" not in one:
        sizes = [one["grown"] for one in told]
        one |= {"grown": int(median(sizes)), "spread": [min(sizes), max(sizes)]}
    say(f"memory: {name}: {one.get('failed') or round(one['grown'] / 1e6)} MB")
    return {"name": name, **one}


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
        read = RUN[request["contender"]](q, request)
    handle.remove()
    return {
        "grown": _peak() - before,
        "rows": max(largest),
        "read": read,
        "pairs": len(q.pairs),
        "cells": 0 if request["contender"] == "forward" else len(q.cells),
    }


def _sweep(q: Question, _: Mapping[str, Any]) -> int:
    donor = q.lm.run(q.pairs.source, read=q.sites)
    writes = [{site: Set(donor[site])} for site in q.sites]
    q.lm.sweep(q.pairs.base, writes, metric=Scored(ip.logit_difference, q.pairs))
    return sum(donor[site].numel() * donor[site].element_size() for site in q.sites)


def _effects(q: Question, _: Mapping[str, Any]) -> int:
    ip.effects(q.lm, q.pairs, q.sites, ip.logit_difference, batch_size=AT_ONCE, progress=False)
    return 0


def _forward(q: Question, request: Mapping[str, Any]) -> int:
    rows = request["rows"]
    ids = q.base.repeat(-(-rows // len(q.base)), 1)[:rows]
    q.module(input_ids=ids, use_cache=False, logits_to_keep=1)
    return 0


RUN = {"sweep": _sweep, "effects": _effects, "forward": _forward}


def _settled() -> int:
    """What the process holds now; on Linux its peak is counted from here on."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")
    return int(psutil.Process().memory_info().rss)


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
