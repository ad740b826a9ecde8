"""What nothing that is read depends on: found by putting NaN and large numbers there, which would show in the output.

Whatever is computed from NaN is NaN, also where it is multiplied by 0 or masked before a softmax. So an output without
NaN, and equal to the last bit also where large numbers are put, says that no path leads there from what was spoilt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..structures import tensors
from .axes import close
from .passes import Conductor, handed_out, laid_out, only_base, run_conducted, touched
from .plan import Write, entry_of
from .probe import Probe
from .readout import Readout
from .skip import LARGE
from .subject import Subject

PATIENCE = 4
"""How many calls in a row, from the last one back, may matter at every token before the search ends."""


def find_last_only(subject: Subject, probe: Probe, readout: Readout | None) -> frozenset[int]:
    """The token-wise calls of which nothing in the outcome depends on any token but the last, by their numbers.

    readout: the outputs that are read, if not all are.
    """
    found: set[int] = set()
    rows = only_base(2)
    stand_ins = readout.stand_in(rows.index) if readout is not None else {}

    def outcome(call: int, seen: Callable[[int, Any], Any] = lambda i, output: output) -> dict[Any, Tensor]:
        given = handed_out(probe, probe.given(probe.events[call].start - 1), probe.outputs, rows.index, 2)
        conductor = Conductor(probe, subject.paths, given, None, frozenset(), seen=seen, stand_ins=stand_ins)
        return tensors(subject.outcome(run_conducted(subject.module, probe.rows, rows, subject.modules, conductor)))

    expected = outcome(len(probe.events) - 1)
    missed, i = 0, len(probe.events)
    while missed < PATIENCE and (i := i - 1) >= 0:
        output = probe.events[i].output
        if not probe.tokenwise[i] or not isinstance(output, Tensor) or output.ndim != 3 or output.shape[1] < 2:
            continue
        if _inside_another(probe, i):
            continue
        gave = outcome(i, _spoiling(i))
        if all(close(gave[path], tensor, 0.01) for path, tensor in expected.items()):
            found.add(i)
            missed = 0
        else:
            missed += 1
    return frozenset(found)


def find_unreachable(
    subject: Subject, probe: Probe, writes: Sequence[Write], rows: int, readout: Readout | None
) -> set[int]:
    """The writes from which nothing leads to the outcome, by their numbers; looked for from the last places back.

    rows: how many a pass may hold; readout: the outputs that are read, if not all are.
    """
    found: set[int] = set()
    entries: dict[int, list[Write]] = {}
    for write in writes:
        entries.setdefault(entry_of(write, probe), []).append(write)
    for entry in sorted(entries, reverse=True):
        before = len(found)
        group = entries[entry]
        for first in range(0, len(group), max(1, rows // 2 - 1)):
            part = group[first : first + max(1, rows // 2 - 1)]
            spoilt = [
                Write(2 * k + j, dict.fromkeys(write.sites, spoil), torch.tensor([0]), False)
                for k, write in enumerate(part)
                for j, spoil in enumerate((_nan, _large))
            ]
            laid = laid_out(spoilt, torch.tensor([0]))
            given = handed_out(probe, probe.given(entry), probe.outputs, laid.index, 2)
            sites = [site for write in part for site in write.sites]
            conductor = Conductor(
                probe,
                subject.paths,
                given,
                None,
                touched(sites, probe),
                stand_ins=readout.stand_in(laid.index) if readout is not None else {},
            )
            gave = subject.outcome(run_conducted(subject.module, probe.rows, laid, subject.modules, conductor))
            same = _rows_equal_to_first(gave, laid.count)
            found |= {write.number for k, write in enumerate(part) if same[1 + 2 * k] and same[2 + 2 * k]}
        if len(found) == before:
            break
    return found


def _rows_equal_to_first(outcome: Any, count: int) -> list[bool]:
    same = torch.ones(count, dtype=torch.bool)
    for tensor in tensors(outcome).values():
        same &= (tensor == tensor[:1]).reshape(count, -1).all(1).cpu()
    return same.tolist()


def _spoiling(call: int) -> Callable[[int, Any], Any]:
    def seen(i: int, output: Any) -> Any:
        if i != call:
            return output
        spoilt = output.clone()
        spoilt[0, :-1] = math.nan
        spoilt[1, :-1] = _large(spoilt[1, :-1])
        return spoilt

    return seen


def _nan(old: Tensor) -> Tensor:
    return torch.full_like(old, math.nan)


def _large(old: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (LARGE * torch.randn(old.shape, generator=generator, dtype=torch.float64)).to(old)


def _inside_another(probe: Probe, i: int) -> bool:
    above = probe.events[i].parent
    while above is not None:
        if probe.tokenwise[above]:
            return True
        above = probe.events[above].parent
    return False
