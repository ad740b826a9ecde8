"""The scan command killed at random moments, in processes of its own: only one of one thread may fork safely.

python killed_command.py MODEL PAIRS FOLDER prints what came of it as JSON.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

import interpose as ip
import tiny
from interpose.cli import app

KILLS = 6

torch.set_num_threads(1)


def command(model, pairs, out):
    asked = ["scan", model, pairs, "--out", str(out), "--layers", "0,2", "--batch-size", "1"]
    return CliRunner().invoke(app, asked)


def killed(rng, *asked):
    """Start the command in a process of its own, and kill it some time after it wrote some files: was it at work?"""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        fsync = os.fsync

        def slow(number):
            os.write(writing, b".")
            fsync(number)
            time.sleep(0.003)  # so that some kills meet a file half written

        os.fsync = slow
        command(*asked)
        os._exit(0)
    os.close(writing)
    for _ in range(rng.choice([1, 2, 3])):
        os.read(reading, 1)
    time.sleep(rng.uniform(0, 0.02))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(model, pairs, folder):
    tiny.model()  # so that what it imports is imported once
    rng, kills, sizes = random.Random(0), 0, []
    for _ in range(KILLS):
        kills += killed(rng, model, pairs, folder / "killed")
        sizes.append(len(list((folder / "killed" / "store").glob("pairs-*"))))
    printed = [command(model, pairs, folder / name) for name in ("killed", "whole")]
    one, other = (ip.load(folder / name / "scan.interpose") for name in ("killed", "whole"))
    equal = [np.array_equal(one.values(name), other.values(name)) for name in ("ybb", "yss", "ybs", "ysb", "response")]
    files = ("table.txt", "table.csv", "map.svg", "map.png")
    equal += [(folder / "killed" / file).read_bytes() == (folder / "whole" / file).read_bytes() for file in files]
    codes = [result.exit_code for result in printed]
    print(json.dumps({"kills": kills, "sizes": sizes, "codes": codes, "equal": equal}))


if __name__ == "__main__":
    main(*sys.argv[1:3], Path(sys.argv[3]))
