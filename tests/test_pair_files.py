"""Pairs of prompts in files: what they hold comes out as it was written, and a wrong line is named by its number."""

import csv
import json
import re
import sys

import pandas
import pytest
import torch

import interpose as ip
import tiny
from interpose.pair_files import check_lengths, read_pairs
from interpose.tasks import capitals

LM = ip.LanguageModel(tiny.model(), tiny.tokenizer())


def row(base="Paris", source="Rome", **more):
    return {
        "base": capitals.PROMPT.format(city=base),
        "source": capitals.PROMPT.format(city=source),
        "answers": [f" {capitals.COUNTRIES[base]}", f" {capitals.COUNTRIES[source]}"],
        **more,
    }


def apart(whole):
    answer, source_answer = whole.pop("answers")
    return {**whole, "answer": answer, "source_answer": source_answer}


ROWS = [row(), row("Oslo", "Cairo"), row("Rome", "Lima")]


def written(path, rows):
    """The rows in a file of the form that its suffix names; a text is a line as it is."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = [apart(dict(one)) for one in rows]
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows) + "\n")
    return path


def same(one, other):
    parts = ("base", "source", "tokens", "source_tokens", "families")
    return torch.equal(one.answers, other.answers) and all(getattr(one, p) == getattr(other, p) for p in parts)


def expected(rows=ROWS):
    return ip.Pairs.from_prompts(LM, **{name: [one[name] for one in rows] for name in ("base", "source", "answers")})


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv", "PAIRS.CSV"])
def test_a_file_gives_the_pairs_that_are_written_in_it(tmp_path, name):
    assert same(ip.Pairs.from_file(LM, written(tmp_path / name.lower(), ROWS).rename(tmp_path / name)), expected())
    assert same(ip.Pairs.from_file(LM, str(tmp_path / name)), expected())


def test_rows_with_named_columns_do_as_well():
    class DataSet:
        """What a data set of the hub is like: rows come out as dicts, with columns of other use."""

        def __iter__(self):
            return ({"id": i, **one, "family": None} for i, one in enumerate(ROWS))

    assert same(ip.Pairs.from_file(LM, DataSet()), expected())
    assert same(ip.Pairs.from_file(LM, [apart(dict(one)) for one in ROWS]), expected())


def test_a_data_frame_is_read_by_its_rows_and_what_it_leaves_out_is_not_there():
    frame = pandas.DataFrame([apart(dict(one)) for one in ROWS])
    assert same(ip.Pairs.from_file(LM, frame), expected())
    assert same(ip.Pairs.from_file(LM, frame.assign(family=float("nan"))), expected())
    with pytest.raises(ip.errors.WrongPairs, match="The DataFrame, row 1: base is nan, and should be a text"):
        ip.Pairs.from_file(LM, frame.assign(base=[frame.base[0], float("nan"), frame.base[2]]))


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.csv"])
def test_families_are_clusters(tmp_path, name):
    families = ["north", "south", "north"]
    rows = [{**one, "family": family} for one, family in zip(ROWS, families, strict=True)]
    pairs = ip.Pairs.from_file(LM, written(tmp_path / name, rows))
    assert pairs.families == families and pairs.clusters().tolist() == [0, 1, 0]


def test_a_byte_order_mark_empty_lines_and_other_letters_are_no_trouble(tmp_path):
    path = tmp_path / "pairs.jsonl"
    text = "\n\n".join(json.dumps(one) for one in ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert same(ip.Pairs.from_file(LM, path), expected())
    path.with_suffix(".csv").write_bytes(
        b"\xef\xbb\xbfbase,source,answer,source_answer\r\n\r\n"
        + "\r\n".join(f"{r['base']},{r['source']},{','.join(r['answers'])}" for r in ROWS).encode()
    )
    assert same(ip.Pairs.from_file(LM, path.with_suffix(".csv")), expected())


def test_a_saved_data_set_is_read_where_datasets_is_there(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "one"))
    assert same(ip.Pairs.from_file(LM, tmp_path / "one"), expected())
    assert same(ip.Pairs.from_file(LM, datasets.Dataset.from_list(ROWS)), expected())
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "parts"))
    with pytest.raises(ip.errors.WrongPairs, match=r"parts has several parts: train\. Give one of them"):
        ip.Pairs.from_file(LM, tmp_path / "parts")
    assert same(ip.Pairs.from_file(LM, tmp_path / "parts" / "train"), expected())
    with pytest.raises(ip.errors.WrongPairs, match="holds no data set"):
        ip.Pairs.from_file(LM, tmp_path)


def test_without_datasets_a_folder_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ip.errors.MissingPart, match=r"is a folder, .* needs datasets\. Install it: pip install datasets"
    ):
        ip.Pairs.from_file(LM, tmp_path)


# -- what is wrong with a line ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{base: 3}", "this is not JSON (Expecting property name enclosed in double quotes at character 2)"),
        ("[1, 2]", "this is a list, and not fields with names"),
        ({"base": "a", "answers": [" b", " c"]}, "source is missing; there are base, answers"),
        (row(base="Paris") | {"base": 3}, "base is 3, and should be a text"),
        (row() | {"source": ""}, "source is '', and should be a text"),
        ({"base": "a", "source": "b"}, "answers are missing; there are base, source"),
        (row() | {"answers": " France"}, "the answers are ' France', and should be two texts"),
        (row() | {"answers": [" France"]}, "the answers are [' France'], and should be two texts"),
        (row() | {"answers": [" France", 3]}, "the answers are [' France', 3], and should be two texts"),
        (row() | {"answers": 3}, "the answers are 3, and should be two texts"),
        (row() | {"answer": " France"}, "it has answers, and answer or source_answer too"),
        (row() | {"base": "Paris\ud800"}, "base is 'Paris\\ud800', and should be a text"),
        (row() | {"answers": [" France", "\udfff"]}, "the answers are [' France', '\\udfff'], and should be two texts"),
        (row() | {"family": ["north"]}, "the family is ['north'], and should be a text or a number"),
        ("[" * 100_000, "this is nested too deep to be read"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong_and_a_right_one(tmp_path, line, said):
    path = written(tmp_path / "pairs.jsonl", [row(), "", line, row()])
    with pytest.raises(ip.errors.WrongPairs, match=re.escape(f"pairs.jsonl, line 3: {said}")) as wrong:
        ip.Pairs.from_file(None, path)
    right = re.search(r"A right line is (\{.*\})\.$", str(wrong.value))[1]
    assert json.loads(right).keys() == {"base", "source", "answers"} and "\n" not in str(wrong.value)


def test_all_wrong_lines_are_named(tmp_path):
    path = written(tmp_path / "pairs.jsonl", ["{", row(), "{", "3"])
    with pytest.raises(ip.errors.WrongPairs, match=r"line 1: this is not JSON .* Wrong too: lines 3 and 4\.$"):
        ip.Pairs.from_file(None, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "base,source,answer\na,b,c\n",
            r"line 1: the columns are base, source, answer, which should name source_answer",
        ),
        ("base,base,source,answer,source_answer\n", r"which should name base once"),
        ("base,source,answer,source_answer\na,b,c,d\na,b,c\n", r"line 3: it has 3 cells, and the first line names 4"),
        ('base,source,answer,source_answer\n"a\nb",b,c,d\na,b,,d\n', r"line 4: the answers are \['', 'd'\]"),
        ('base,source,answer,source_answer\na,b,c,"d\n', r"line 2: unexpected end of data"),
        ("base,source,answer,source_answer\n", r"pairs.csv holds no pairs"),
        ("", r"pairs.csv holds no pairs"),
    ],
)
def test_a_wrong_line_of_a_csv_file_is_named_too(tmp_path, text, said):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ip.errors.WrongPairs, match=said) as wrong:
        ip.Pairs.from_file(None, path)
    assert re.search(r"A right file begins 'base,source,answer,source_answer', .* Italy'\.$", str(wrong.value))


def test_what_is_no_file_of_pairs_is_said(tmp_path):
    (tmp_path / "pairs.txt").write_text("")
    (tmp_path / "pairs.jsonl").write_bytes(b'{"base": "a"}\n\xff\n')
    (tmp_path / "empty.jsonl").write_text("\n\n")
    for file, said in {
        tmp_path / "pairs.txt": "is no file of pairs. Give a .jsonl file, a .csv file",
        tmp_path / "none.jsonl": "There is no file",
        tmp_path / "pairs.jsonl": "pairs.jsonl, line 2: this is not UTF-8",
        tmp_path / "empty.jsonl": "empty.jsonl holds no pairs. A right line is",
    }.items():
        with pytest.raises(ip.errors.WrongPairs, match=re.escape(said)):
            ip.Pairs.from_file(None, file)
    with pytest.raises(ip.errors.WrongPairs, match=r"The int holds no rows"):
        ip.Pairs.from_file(None, 3)
    with pytest.raises(ip.errors.WrongPairs, match=r"The list, row 1: this is a int"):
        ip.Pairs.from_file(None, [row(), 3])


def test_a_family_is_named_in_each_line_or_in_none(tmp_path):
    path = written(tmp_path / "pairs.jsonl", [row(family="a"), row(), row(family=0), row()])
    with pytest.raises(ip.errors.WrongPairs, match=r"lines 2 and 4 without a family, and others have one"):
        ip.Pairs.from_file(LM, path)


def test_prompts_of_unequal_length_are_named_by_their_lines(tmp_path):
    longer = {**row(), **{side: f"So. {row()[side]}" for side in ("base", "source")}}
    extra = len(LM.tokens(longer["base"]))
    path = written(tmp_path / "pairs.jsonl", [row(), longer, row("Oslo", "Cairo"), longer])
    said = rf"10 in line 1 and 1 others; {extra} in lines 2 and 4\. A map of every position needs prompts of one length"
    read = read_pairs(path)
    found = ip.Pairs.from_file(LM, read)
    assert [len(tokens) for tokens in found.tokens] == [10, extra, 10, extra]
    with pytest.raises(ip.errors.WrongPairs, match=said):
        check_lengths(read, found.tokens)
    path = written(tmp_path / "pairs.jsonl", [row(), row() | {"source": longer["source"]}])
    with pytest.raises(
        ip.errors.WrongPairs, match=rf"pairs.jsonl, line 2: the base has 10 tokens and the source {extra}"
    ):
        ip.Pairs.from_file(LM, path)


def test_answers_that_cannot_be_told_apart_are_named_by_their_line(tmp_path):
    path = written(tmp_path / "pairs.jsonl", [row(), row() | {"answers": [" France", " France"]}])
    with pytest.raises(ip.errors.WrongAnswers, match=r"pairs.jsonl, line 2: both answers, ' France' and ' France'"):
        ip.Pairs.from_file(LM, path)
    path = written(tmp_path / "pairs.jsonl", [row() | {"answers": [" Atlantis", " France"]}])
    with pytest.raises(ip.errors.WrongAnswers, match=r"pairs.jsonl, line 1: the answer ' Atlantis' is \d+ tokens"):
        ip.Pairs.from_file(LM, path)
