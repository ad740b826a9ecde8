"""The benchmarks ask everybody the same: contenders agree on small questions, and the report says what happened."""

import importlib.util
import inspect
import json
from pathlib import Path

import pytest

import interpose as ip
import tiny
from benchmarks import measure, own, peers, report, subject, toy, variable

pytestmark = pytest.mark.filterwarnings("ignore")

CLOSE = 1e-4
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("contenders", [toy.END_TO_END, toy.SWEEPS], ids=["end to end", "sweeps"])
def test_the_toy_scans_agree(contenders):
    pytest.importorskip("nnsight")
    ours, *others = measure.in_turn(contenders, toy.question(n=4), 1, warm=0)
    assert others and all(ours.distance(other) <= CLOSE for other in others)
    assert max(map(max, ours.timings[0].values[0] if contenders is toy.SWEEPS else ours.timings[0].values)) > 0


def test_one_job_gives_the_same_in_every_library():
    able = [one for one in variable.ONE_VARIABLE if one.package is None or importlib.util.find_spec(one.package)]
    ours, *others = measure.in_turn(able, toy.question(n=4), 1, warm=0)
    assert ours.timings[0].values == [0, 1, 0, 0, 1, 0]
    assert others and all(ours.distance(other) <= CLOSE for other in others)


@pytest.mark.parametrize("kind", ["residual", "heads"])
def test_the_maps_of_a_language_model_agree(kind):
    pytest.importorskip("nnsight")
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    question = subject.question(kind, n=3, inner=[0, 3], lm=lm)
    chosen = [one for one in (*own.OWN, *peers.PEERS) if one.package in (None, "nnsight")]
    assert len(chosen) == 5 and len(question.cells) == 6
    rows = measure.in_turn(chosen, question, 1, warm=0)
    for row in rows[1:]:
        assert rows[0].distance(row) <= CLOSE, row.name
    assert len({round(score, 6) for cell in rows[0].timings[0].values for score in cell}) > 6


def test_the_products_take_the_counted_flops():
    question = subject.question("heads", n=2, inner=[1], lm=ip.LanguageModel(tiny.model(), tiny.tokenizer()))
    counted = own.count(question)
    assert 0 < counted["flops"] <= counted["naive"]
    _, told = own.products(question, counted["flops"])()
    weights = sum(p.numel() for block in question.blocks for p in block.parameters() if p.ndim == 2)
    assert told["tokens"] == pytest.approx(counted["flops"] / 2 / weights, abs=1)


def rows(ratio=10.0):
    def timings(seconds):
        return [measure.Timing(seconds * part, seconds * part, [[1.0]]) for part in (1.0, 0.5, 3.0)]

    return [
        measure.Row("interpose", "ours", timings(0.01)),
        measure.Row("nnsight", "theirs", timings(0.01 * ratio)),
        measure.Row("pyvene", "theirs", failed="ModuleNotFoundError: No module named 'pyvene'"),
    ]


def test_the_report_says_what_was_measured_and_how_a_contender_failed():
    one = report.case("residual", rows(), measure.REFERENCE, cells=1, pairs=1)
    text = report.section(one)
    assert "| nnsight | theirs | 3 | 100 ms (50 to 300) | 100 ms (50 to 300) | 10 | 0.0e+00 |" in text
    assert "failed: `ModuleNotFoundError: No module named 'pyvene'`" in text
    assert "at least 8 x faster than the fastest documented loop: 10 (met)" in text
    assert "7 (not met)" in report.section(report.case("residual", rows(7.0), measure.REFERENCE))


def test_cases_that_are_not_measured_again_stay_on_the_page(tmp_path):
    page, kept = tmp_path / "page.md", tmp_path / "kept.json"
    page.write_text(f"# Above\n\n{report.START}\nold\n{report.END}\n\nBelow.\n")
    report.keep([report.case("toy", rows(200.0), "interpose")], kept, page)
    report.keep([report.case("heads", rows(), "interpose")], kept, page)
    report.keep([report.case("heads", rows(4.0), "interpose")], kept, page)
    text = page.read_text()
    assert text.startswith("# Above") and text.endswith("Below.\n") and "old" not in text
    assert text.count("###") == 2 and "200 (met)" in text and "4 (not met)" in text
    assert [one["case"] for one in json.loads(kept.read_text())] == ["toy", "heads"]


def test_the_page_shows_what_is_kept():
    page = report.PAGE.read_text()
    for one in json.loads(report.JSON.read_text()):
        assert report.section(one) in page
    assert report.START in page and report.END in page


def test_a_contender_that_stops_is_told_in_one_line():
    (row,) = measure.in_processes("no such case", [own.OWN[0]], {}, 2, 1)
    assert row.timings == [] and row.failed == "ValueError: There is no case 'no such case'."


def test_the_readme_shows_the_numbers_of_the_page():
    """Every CPU time and ratio in the README's table stands in the benchmark's own record."""
    cases = {one["case"]: one for one in json.loads((ROOT / "docs" / "benchmarks.json").read_text())}
    text = (ROOT / "README.md").read_text().split("## How fast")[1].split("\n## ")[0]
    assert cases["toy"]["date"] in text
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    names = ("interpose", "nnsight", "TransformerLens", "pyvene", "nnsight, packed", "matrix products")
    assert len(rows) == len(names)
    for name, (_, *cells) in zip(names, rows, strict=True):
        for case, cell in zip(("toy", "residual", "heads"), cells, strict=True):
            (row,) = [one for one in cases[case]["rows"] if one["name"] == name] or [None]
            if row is None or (case == "toy" and name not in ("interpose", "nnsight")):
                assert not cell.strip()
                continue
            shown = _shown(row)
            assert cell.strip() == (shown if name == "interpose" else f"{shown} ({row['ratio']:.3g})")


def test_the_page_side_by_side_shows_the_numbers_and_the_lines():
    """Times are those of the record; lines those of the functions that are shown, without name and docstring."""
    cases = {one["case"]: {row["name"]: row for row in one["rows"]} for one in json.loads(report.JSON.read_text())}
    text = (ROOT / "docs" / "side-by-side.md").read_text(encoding="utf-8")
    for name, (form, _, _) in variable.FORMS.items():
        lines = [line for line in inspect.getsource(form).splitlines()[2:] if line.strip()]
        assert f"| {name} | {len(lines)} | {_shown(cases['toy A'][name])} |" in text
        assert f":pyobject: {form.__name__}\n" in text
        alone = [_shown(cases[case][name]) for case in ("residual", "heads")]
        times = [f"{cases[case][name]['ratio']:.3g}" for case in ("residual", "heads")]
        both = alone if name == "interpose" else [f"{a} ({b})" for a, b in zip(alone, times, strict=True)]
        assert f"| {name} | {both[0]} | {both[1]} |" in text
    assert f"{cases['toy']['nnsight']['ratio']:.3g} times as long" in text


def _shown(row):
    seconds = row["cpu"][0]
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
