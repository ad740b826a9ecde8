"""Pairs of prompts in files: every line is read and checked before anything is run, and a wrong one named by number."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from .errors import MissingPart, WrongAnswers, WrongPairs
from .prompts import answer_ids, lined_up

Row = tuple[str, Any]
"""Where a row stands, such as "line 3", and what is there."""

LINE = '{"base": "Paris is in", "source": "Rome is in", "answers": [" France", " Italy"]}'
CSV_HEAD = "base,source,answer,source_answer"
CSV_LINE = "Paris is in,Rome is in, France, Italy"


@dataclass(frozen=True)
class PairFile:
    """What a file of pairs holds, before a model sees it; rows: the fields of each by where it stands."""

    name: str
    rows: Mapping[str, Mapping[str, Any]]

    @property
    def families(self) -> list[Any] | None:
        """The family of each row, where rows name one."""
        found = [fields["family"] for fields in self.rows.values()]
        return None if all(family is None for family in found) else found


def read_pairs(file: Any) -> PairFile:
    """Every row of a file, checked; `Pairs.from_file` says which files those are.

    Raises WrongPairs with the first row that is wrong, what is wrong with it, and the numbers of the others.
    """
    name, rows, right = _opened(file)
    read = [(where, *_fields(row)) for where, row in rows]
    if wrong := [(where, said) for where, _, said in read if said]:
        others = f" Wrong too: {_some([where for where, _ in wrong[1:]])}." if wrong[1:] else ""
        raise WrongPairs(f"{name}, {wrong[0][0]}: {wrong[0][1]}. {right}.{others}")
    if not read:
        raise WrongPairs(f"{name} holds no pairs. {right}.")
    found = PairFile(name, {where: fields for where, fields, _ in read})
    without = [where for where, fields in found.rows.items() if fields["family"] is None]
    if found.families is not None and without:
        raise WrongPairs(f"{name}: {_some(without)} without a family, and others have one. Name one in each or none.")
    return found


def parts_of(lm: Any, file: Any) -> dict[str, Any]:
    """The parts of `Pairs` that a file of prompts holds, or what `read_pairs` made of it, for a language model."""
    read = file if isinstance(file, PairFile) else read_pairs(file)
    name, found = read.name, read.rows
    tokens, others, answers = zip(*(_resolved(lm, name, where, fields) for where, fields in found.items()), strict=True)
    return {
        "base": [fields["base"] for fields in found.values()],
        "source": [fields["source"] for fields in found.values()],
        "answers": torch.cat(answers),
        "tokens": tokens,
        "source_tokens": others,
        "families": read.families,
    }


# -- files -----------------------------------------------------------------------------------------


def _opened(file: Any) -> tuple[str, Iterable[Row], str]:
    """What to call a file, its rows, and what a right one looks like."""
    if not isinstance(file, str | Path):
        return _rows_of(f"The {type(file).__name__}", file)
    path = Path(file)
    if path.is_dir():
        return _rows_of(path.name, _data_set(path))
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise WrongPairs(
            f"{str(file)!r} is no file of pairs. Give a .jsonl file, a .csv file, or the folder of a saved data set."
        )
    if not path.exists():
        raise WrongPairs(f"There is no file {str(file)!r}, seen from {Path.cwd().name!r}.")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise WrongPairs(f"{path.name}, line {line}: this is not UTF-8. Save the file as UTF-8.") from None
    if path.suffix.lower() == ".csv":
        right = f"A right file begins {CSV_HEAD!r}, and a right line is {CSV_LINE!r}"
        return path.name, list(_csv_rows(path.name, text, right)), right
    return path.name, list(_json_rows(text)), f"A right line is {LINE}"


def _json_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as error:
                yield f"line {number}", error
            except RecursionError:
                yield f"line {number}", ValueError("this is nested too deep to be read")


def _csv_rows(name: str, text: str, right: str) -> Iterator[Row]:
    """Rows by the heads of their columns; a row is named by the line that it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins, heads = 1, None
    try:
        for cells in reader:
            if cells and heads is None:
                heads = [head.strip() for head in cells]
                if missing := [head for head in CSV_HEAD.split(",") if heads.count(head) != 1]:
                    raise WrongPairs(
                        f"{name}, line {begins}: the columns are {', '.join(heads)}, which should name {missing[0]} "
                        f"once. {right}."
                    )
            elif cells and heads is not None:
                fits = len(cells) == len(heads)
                said = ValueError(f"it has {len(cells)} cells, and the first line names {len(heads)} columns")
                yield f"line {begins}", dict(zip(heads, cells, strict=True)) if fits else said
            begins = reader.line_num + 1
    except csv.Error as error:
        raise WrongPairs(f"{name}, line {begins}: {error}. {right}.") from None


def _rows_of(name: str, rows: Any) -> tuple[str, Iterable[Row], str]:
    """The rows of a data set, a data frame, or of anything else that gives rows with named columns."""
    right = f"A right row is {LINE}"
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") and hasattr(rows, "columns") else rows
    if isinstance(rows, Mapping) and rows:
        raise WrongPairs(f"{name} has several parts: {_some([str(part) for part in rows])}. Give one of them.")
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise WrongPairs(f"{name} holds no rows. {right}.")
    return name, ((f"row {number}", row) for number, row in enumerate(rows)), right


def _data_set(folder: Path) -> Any:
    """A folder that the datasets library saved."""
    try:
        from datasets import load_from_disk  # type: ignore[import-not-found]
    except ImportError:
        raise MissingPart(
            f"{str(folder)!r} is a folder, and reading a saved data set needs datasets. Install it: pip install "
            "datasets. Or give a .jsonl or .csv file."
        ) from None
    try:
        return load_from_disk(str(folder))
    except FileNotFoundError:
        raise WrongPairs(
            f"{str(folder)!r} holds no data set. Give a .jsonl file, a .csv file, or the folder that save_to_disk made."
        ) from None


# -- rows ------------------------------------------------------------------------------------------


def _fields(row: Any) -> tuple[dict[str, Any], str]:
    """The fields of a row, and what is wrong with it, or nothing."""
    if isinstance(row, json.JSONDecodeError):
        return {}, f"this is not JSON ({row.msg} at character {row.pos + 1})"
    if isinstance(row, ValueError):
        return {}, str(row)
    if not isinstance(row, Mapping):
        return {}, f"this is a {type(row).__name__}, and not fields with names"
    for name in ("base", "source"):
        if row.get(name) is None:
            return {}, f"{name} is missing; there are {', '.join(map(str, row)) or 'no fields'}"
        if not _is_text(row[name]):
            return {}, f"{name} is {row[name]!r}, and should be a text"
    apart = [row.get(name) for name in ("answer", "source_answer")]
    if row.get("answers") is not None and apart != [None, None]:
        return {}, "it has answers, and answer or source_answer too: give one or the other"
    answers = apart if row.get("answers") is None else row["answers"]
    if answers is apart and apart == [None, None]:
        return {}, f"answers are missing; there are {', '.join(map(str, row))}"
    if isinstance(answers, str | Mapping) or not isinstance(answers, Iterable) or not _two_texts(list(answers)):
        return {}, f"the answers are {answers!r}, and should be two texts, the base's and the source's"
    family = row.get("family")
    family = None if family == "" or family != family else family  # not a number is how a data frame says nothing
    if not isinstance(family, str | int | float | None):
        return {}, f"the family is {family!r}, and should be a text or a number"
    return {"base": row["base"], "source": row["source"], "answers": tuple(answers), "family": family}, ""


def _two_texts(answers: Sequence[Any]) -> bool:
    return len(answers) == 2 and all(map(_is_text, answers))


def _is_text(value: Any) -> bool:
    """Whether it is a text that has a character, and none that is half of one."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= c <= "\udfff" for c in value)


def _resolved(lm: Any, name: str, where: str, fields: Mapping[str, Any]) -> tuple[Any, Any, torch.Tensor]:
    """The tokens of a row's two prompts, and of its answers; an error says where the row stands."""
    try:
        (tokens,), (others,) = lined_up(lm, [fields["base"]], [fields["source"]])
        return tokens, others, answer_ids(lm, [fields["answers"]])
    except (WrongPairs, WrongAnswers) as error:
        raise type(error)(f"{name}, {where}: {str(error).removeprefix('Pair 0: ')}") from None


def check_lengths(read: PairFile, tokens: Sequence[Sequence[str]]) -> None:
    """Raise WrongPairs where prompts differ in their number of tokens, with the rows that differ from most."""
    name, places = read.name, list(read.rows)
    lengths = [len(row) for row in tokens]
    usual = max(sorted(set(lengths)), key=lengths.count)
    others = sorted((n, i) for i, n in enumerate(lengths) if n != usual)
    if others:
        groups = groupby(others, key=lambda one: one[0])
        said = "; ".join(f"{n} in {_some([places[i] for _, i in found])}" for n, found in groups)
        raise WrongPairs(
            f"{name}: the prompts differ in their number of tokens: {usual} in {places[lengths.index(usual)]} and "
            f"{lengths.count(usual) - 1} others; {said}. A map of every position needs prompts of one length: make one "
            "file a length, or choose positions that count from the end."
        )


def _some(names: Sequence[str], most: int = 8) -> str:
    """The first few of many names, and how many more there are; of rows, "lines 2, 5 and 7"."""
    kinds = {name.rpartition(" ")[0] for name in names}
    kind = kinds.pop() if len(kinds) == 1 and len(names) > 1 else ""
    short = [name.removeprefix(f"{kind} ") for name in names] if kind else list(names)
    shown, last = (short[:most], f"{len(names) - most} more") if len(names) > most else (short[:-1], short[-1])
    return (f"{kind}s " if kind else "") + (f"{', '.join(shown)} and {last}" if shown else last)
