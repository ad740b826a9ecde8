"""One request in a process of its own: python -m benchmarks.work REQUEST; `measure.worker` calls it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import memory
from .measure import Timing, in_turn, timed
from .own import OWN, count, products
from .peers import PEERS
from .subject import question
from .toy import END_TO_END, SWEEPS
from .toy import question as toy_question
from .variable import ONE_VARIABLE

TOYS = {"toy": END_TO_END, "toy sweeps": SWEEPS, "toy A": ONE_VARIABLE}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Time what a request names.

    case: one of `TOYS` (`contenders` in turn, `repeats` times); "residual" and "heads" (one `contender`, and
    `layers` and `inner` of the map); "memory" (one `contender`, see `memory.grown`).
    """
    case = request["case"]
    if case in TOYS:
        contenders = [one for one in TOYS[case] if one.name in request["contenders"]]
        rows = in_turn(contenders, toy_question(), request["repeats"])
        return {"rows": [dataclasses.asdict(row) for row in rows]}
    if case == "memory":
        return memory.grown(request)
    if case not in ("residual", "heads"):
        raise ValueError(f"There is no case {case!r}.")
    return dataclasses.asdict(_language(request))


def _language(request: Mapping[str, Any]) -> Timing:
    asked = {name: request[name] for name in ("layers", "inner") if name in request}
    q = question(request["case"], **asked)
    if request["contender"] == "count":
        return Timing(0.0, 0.0, None, count(q))
    if request["contender"] == "products":
        products(q, request["flops"] / 100)()
        return timed(products(q, request["flops"]))
    (contender,) = (one for one in (*OWN, *PEERS) if one.name == request["contender"])
    contender.prepare(question(request["case"], layers=[q.cells[-1][0]], inner=[q.cells[-1][1]], lm=q.lm))()
    return timed(contender.prepare(q))


if __name__ == "__main__":
    torch.set_num_threads(1)
    request = json.loads(sys.argv[1])
    told = answer(request)
    Path(request["answer"]).write_text(json.dumps(told))
