"""The scan command killed at random moments, in processes of its own: only one of one thread may fork safely.

python killed_command.py MODEL PAIRS FOLDER prints what came of it as JSON.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

import interpose as ip
import tiny
from interpose.cli import app
from kills import killed

KILLS = 6

torch.set_num_threads(1)


def command(model, pairs, out):
    asked = ["scan", model, pairs, "--out", str(out), "--layers", "0,2", "--batch-size", "1"]
    return CliRunner().invoke(app, asked)


def main(model, pairs, folder):
    tiny.model()  # so that what it imports is imported once
    rng, kills, sizes = random.Random(0), 0, []
    for _ in range(KILLS):
        kills += killed(lambda: command(model, pairs, folder / "killed"), rng, [1, 2, 3])
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
