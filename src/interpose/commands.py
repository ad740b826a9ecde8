"""What the command line's words stand for: a model, the values of its inputs, places in it, and a metric."""

from __future__ import annotations

import csv
import importlib.util
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from . import metrics
from .errors import NoEffect, WrongInput, WrongMetric, WrongShape, suggest
from .language import LanguageModel
from .maps import Scan
from .network import Network
from .pair_files import check_lengths, read_pairs
from .pairs import Pairs
from .plots.picture import Picture
from .reports.folder import report_folder
from .reports.page import report
from .saved import save
from .search.discover import discover
from .search.scan import scan
from .tables import Table

SITES: Mapping[str, Callable[..., Any]] = {
    "residual": LanguageModel.residual,
    "between": partial(LanguageModel.residual, at="between"),
    "attention": LanguageModel.attentions,
    "mlp": LanguageModel.mlps,
    "heads": LanguageModel.heads,
    "neurons": LanguageModel.neurons,
    "queries": LanguageModel.queries,
    "keys": LanguageModel.keys,
    "values": LanguageModel.values,
    "patterns": LanguageModel.patterns,
}
"""What --sites says, and what gives them of a language model; "between" is the stream between attention and MLP."""

EVERYWHERE = ("residual", "attention", "mlp")
"""Those of which a scan takes every position by itself, unless some are chosen."""

SCORED = (("answers",), ("targets",))
"""What a metric may need of the pairs of a file."""


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


def language_model(spelling: str) -> LanguageModel:
    """The language model that a hub id, a folder, a GGUF file or FILE.py:NAME gives."""
    if ".py:" in spelling:
        made = built(spelling)
        if not isinstance(made, LanguageModel):
            raise WrongInput(f"{spelling} gives a {type(made).__name__}, and not a LanguageModel.")
        return made
    try:
        return LanguageModel.load(spelling)
    except (OSError, ValueError) as error:
        why = str(error).strip().partition("\n")[0]
        raise WrongInput(
            f"{spelling!r} could not be loaded: {why} Give a hub id, a folder with a model and its tokenizer, a GGUF "
            "file, or FILE.py:NAME."
        ) from None


def numbers_of(spelling: str | None, option: str) -> list[int] | None:
    """Whole numbers from 0,5,-1; None for none given."""
    try:
        return None if spelling is None else [int(number) for number in spelling.split(",")]
    except ValueError:
        raise WrongInput(f"{option} {spelling!r} are no whole numbers. Write them with commas: 0,5,10.") from None


def sites_of(lm: LanguageModel, spelling: str, *, layers: list[int] | None, positions: list[int] | None) -> Any:
    """The sites of a kind, at the layers and positions that are given, or at all."""
    return SITES[spelling](lm, layers=layers, positions=positions)


def metric_of(spelling: str) -> Any:
    """A metric by its name with hyphens, of those that read the answers, or the source's answer as a target."""
    known = {
        name.replace("_", "-"): one
        for name, one in vars(metrics).items()
        if not name.startswith("_") and not isinstance(one, type) and getattr(one, "needs", ()) in SCORED
    }
    if spelling not in known:
        raise WrongMetric(f"There is no metric {spelling!r}. {suggest(spelling, known)}")
    return known[spelling]


def scanned(
    model: str,
    pairs: Path,
    out: Path,
    *,
    sites: str,
    metric: str,
    layers: str | None,
    positions: str | None,
    batch_size: int,
    say: Callable[[str], Any],
    width: int | None = None,
) -> None:
    """Scan a language model with the pairs of a file, say what was found, and save it in a folder.

    width: of the terminal, if it is one: what is said fits into it, and files hold all.

    Every finished batch is kept in the folder, from where a scan that was stopped goes on. All that is asked is read
    before the model is.
    """
    if sites not in SITES:
        raise WrongInput(f"There are no sites {sites!r}. {suggest(sites, SITES)}")
    if out.exists() and not out.is_dir():
        raise WrongInput(f"{str(out)!r} is a file, and results go into a folder. Choose another name.")
    where = {"layers": numbers_of(layers, "--layers"), "positions": numbers_of(positions, "--positions")}
    scored, rows = metric_of(metric), read_pairs(pairs)
    lm = language_model(model)
    given = Pairs.from_file(lm, rows)
    if where["positions"] is None and sites in EVERYWHERE:
        check_lengths(rows, given.tokens or ())
    if scored.needs == ("targets",):
        assert given.answers is not None
        given = replace(given, targets=given.answers[:, 1], swapped_targets=given.answers[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffect)  # the table's notes tell it
        found = scan(lm, given, sites_of(lm, sites, **where), scored, batch_size=batch_size, store=out / "store")
    say(found.table().within(width) if width else f"{found.table()}")
    _save(found, out, say)
    say(f"\nSaved in {out}/. To read it as one page: interpose report {shlex.quote(str(out))}")


def _save(found: Scan, out: Path, say: Callable[[str], Any]) -> None:
    """The values, the whole table and, where a map can show it, a picture."""
    save(found, out / "scan.interpose")
    whole = found.table(most=len(found.places))
    (out / "table.txt").write_text(f"{whole}\n", encoding="utf-8")
    _write_table(whole, out / "table.csv")
    try:
        picture = found.heatmap()
    except WrongShape as too_many:
        say(f"\nNo picture: {too_many} With one layer, one position, or without --positions there is one.")
    else:
        _write_picture(picture, out / "map")


def discovered(
    network: str, inputs: Iterable[str], out: Path, *, tol: float | None, seed: int, say: Callable[[str], Any]
) -> None:
    """Discover the algorithm of a network in a file, say it, and save tables and a picture in a folder."""
    found = discover(built(network), values_of(inputs), tol=tol, seed=seed)
    say(f"{found}\n\n{found.explain()}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "found.txt").write_text(f"{found}\n\n{found.explain()}\n", encoding="utf-8")
    _write_table(found.table(), out / "found.csv")
    if found.alignment is not None:
        _write_picture(found.draw(), out / "found")
    report(out / "report.html", found)
    say(f"\nSaved in {out}/, as one page in report.html.")


def reported(folder: Path, out: Path | None, *, say: Callable[[str], Any]) -> None:
    """Write a page of the results that a folder keeps, and say where."""
    say(f"Written: {report_folder(folder, out)}")


def _write_table(table: Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])


def _write_picture(picture: Picture, path: Path) -> None:
    for form in ("svg", "png"):
        picture.save(path.with_name(f"{path.name}.{form}"))
