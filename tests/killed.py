"""Scans killed at random moments, in a process of their own, since only a process of one thread may fork safely.

python killed.py FOLDER prints what came of it as JSON.
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import interpose as ip
from interpose.identity import question, told
from interpose.tasks import adder
from kills import killed

KILLS = 24


class Slow(nn.Sequential):
    """A small network that takes its time, so that a kill meets it at work."""

    def forward(self, x):
        time.sleep(0.001)
        return super().forward(x)


torch.manual_seed(0)
torch.set_num_threads(1)
NET = ip.Network(Slow(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)))
PAIRS = ip.Pairs(torch.randn(400, 3), torch.randn(400, 3))


def scan(store=None):
    return ip.scan(NET, PAIRS, NET.neurons()[:2], ip.value, batch_size=2, store=store)


def main(folder):
    rng, kills, sizes = random.Random(0), 0, []
    for _ in range(KILLS):
        kills += killed(lambda: scan(folder), rng, [0, 0, 1, 2, 3, 4])
        sizes.append(len(list(folder.glob("pairs-*"))))
    half_written = len(list(folder.glob(".*.tmp")))
    whole, found = scan(), scan(folder)
    asked = question(adder.network(), adder.pairs()["A"], [("h12",)], ip.matches, None)
    words = {"the", "key", "of", "a", "question", "is", "one", "in", "any", "process"}
    print(
        json.dumps(
            {
                "kills": kills,
                "sizes": sizes,
                "half_written": half_written,
                "files": len(list(folder.glob("pairs-*"))),
                "equal": all(
                    np.array_equal(found.values(name), whole.values(name))
                    for name in ("ybb", "yss", "ybs", "ysb", "response")
                ),
                "noise": [found.noise, whole.noise],
                "verdicts": [found.verdicts(), whole.verdicts()],
                "keys": [asked.key, told(words, [])],
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
