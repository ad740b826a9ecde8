"""What the command line's words stand for: a model in a file, and the values of its inputs."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from .errors import WrongInput
from .network import Network
from .search.discover import discover


def built(spelling: str) -> Any:
    """The network that FILE.py:NAME gives: a module or a Network, or a function without arguments that makes one."""
    file, colon, name = spelling.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py":
        raise WrongInput(f"{spelling!r} names no network. Write FILE.py:NAME, as in model.py:build.")
    if not path.exists():
        raise WrongInput(f"There is no file {file!r}, seen from {Path.cwd().name!r}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        there = [known for known in vars(module) if not known.startswith("_")]
        raise WrongInput(f"{file} has no {name!r}. It has {', '.join(there) or 'nothing'}.")
    found = getattr(module, name)
    made = found() if not isinstance(found, nn.Module | Network) and callable(found) else found
    if not isinstance(made, nn.Module | Network):
        raise WrongInput(f"{spelling} gives a {type(made).__name__}, and not a torch module or a Network.")
    return made


def values_of(spellings: Iterable[str]) -> dict[str, list[int | float]]:
    """Input -> values, from A=0..9 (whole numbers, both ends included) and A=0,1,5."""
    found: dict[str, list[int | float]] = {}
    for spelling in spellings:
        name, equals, values = spelling.partition("=")
        if not equals or not name or name in found:
            raise WrongInput(f"{spelling!r} gives no input its values. Write each once: A=0..9 or A=0,1,5.")
        try:
            if ".." in values:
                low, high = (int(end) for end in values.split(".."))
                found[name] = list(range(low, high + 1))
            else:
                found[name] = [float(v) if any(c in v for c in ".e") else int(v) for v in values.split(",")]
        except ValueError:
            raise WrongInput(f"{values!r} are no values of {name}. Write 0..9 or 0,1,5.") from None
        if not found[name]:
            raise WrongInput(f"{spelling!r} leaves {name} without a value: the first end is the lower one.")
    return found


def discovered(
    network: str, inputs: Iterable[str], out: Path, *, tol: float | None, seed: int, say: Callable[[str], Any]
) -> None:
    """Discover the algorithm of a network in a file, say it, and save tables and a picture in a folder."""
    found = discover(built(network), values_of(inputs), tol=tol, seed=seed)
    say(f"{found}\n\n{found.explain()}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "found.txt").write_text(f"{found}\n\n{found.explain()}\n", encoding="utf-8")
    with (out / "found.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([found.table().columns, *found.table().rows])
    if found.alignment is not None:
        picture = found.draw()
        picture.save(out / "found.svg")
        picture.save(out / "found.png")
    say(f"\nSaved in {out}/")
