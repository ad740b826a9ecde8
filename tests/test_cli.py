"""The command line, and the demo that it runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import interpose as ip
import tiny
from interpose import errors
from interpose.cli import app
from interpose.reports.sentences import where_it_is
from interpose.tables import Table
from interpose.tasks import capitals

PICTURES = [f"adder-{name}" for name in ("alignment", "circuit", "hypothesis", "interchange", "maps", "network")]


def test_the_demo_tells_the_adders_story_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(capitals, "WEIGHTS", "not_installed")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for name in "ABC":
        assert f"What carries {name}?" in result.output
    for sentence in ("h12 carries A.", "h13 carries B and C.", "h22 carries A and B and C."):
        assert sentence in result.output
    assert "A is held at h12, B+C is held at h13, A+B+C is held at h22." in result.output
    assert "network and causal model agree on 1.00 of the base inputs." in result.output
    missing = (
        f"The language model is left out: The weights of SmolLM2 are not installed. Install them: {capitals.INSTALL}"
    )
    assert missing in result.output.splitlines()
    assert result.output.rstrip().endswith(f"Saved in {tmp_path}/, as one page in report.html.")
    assert (
        {path.stem for path in tmp_path.glob("*.svg")}
        == {path.stem for path in tmp_path.glob("*.png")}
        == set(PICTURES)
    )
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert titles == [
        "What carries A, B and C?",
        "Adder: interchange of h12 into A = 1, B = 2, C = 3",
        "How A+B+C is computed from A, B and C",
        "Alignment: A at h12, B+C at h13, A+B+C at h22",
        "Does the network do what the hypothesis says?",
        "Circuit of Adder for A, B, C",
    ]
    again = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert again.exit_code == 0 and again.output == result.output


def test_the_demo_scans_a_language_model(tmp_path, monkeypatch):
    """On a tiny random model: everything but the answer is the real thing."""
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    monkeypatch.setattr(capitals, "weights", lambda: tmp_path / "tiny.gguf")
    monkeypatch.setattr(capitals, "language_model", lambda: lm)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--cities", "3"])
    assert result.exit_code == 0, result.output
    assert "2. A real language model, tiny." in result.output and "3 pairs" in result.output
    assert {"capitals-flow.svg", "capitals-flow.png", "capitals-flow.html"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_flow_is_told_in_sentences():
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    flow = ip.scan(lm, capitals.pairs(lm, n=3), lm.residual(), ip.logit_difference)
    said = where_it_is(flow)
    assert any(
        re.fullmatch(r"After layers \d to 2, position 9 \(of\) carries more than 50 % of the effect\.", s) for s in said
    )
    assert all(int(re.search(r"position (\d)", sentence)[1]) >= 3 for sentence in said)


def test_help_and_wrong_options():
    assert "Which parts of a neural network carry what?" in CliRunner().invoke(app, ["--help"]).output
    assert CliRunner().invoke(app, ["demo", "--citys", "3"]).exit_code == 2


def test_transformers_missing_is_one_line_too(tmp_path, monkeypatch):
    def no_transformers():
        raise errors.MissingPart("Language models need transformers. Install it: pip install 'interpose[lm]'.")

    monkeypatch.setattr(capitals, "weights", lambda: tmp_path / "x.gguf")
    monkeypatch.setattr(capitals, "language_model", no_transformers)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0
    assert "The language model is left out: Language models need transformers." in result.output


@pytest.mark.parametrize("n", [2, 5])
def test_pairs_of_capitals_go_round(n):
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    pairs = capitals.pairs(lm, n=n)
    assert len(pairs) == n and pairs.source[0] == pairs.base[1]


def test_the_version_is_the_packages():
    assert CliRunner().invoke(app, ["--version"]).output == f"{ip.__version__}\n"


# -- discover ------------------------------------------------------------------------------------------------------


MODEL = """
from torch import nn
from interpose.tasks import adder

def build():
    return adder.network()

plain = adder.Adder()
number = 3
"""


@pytest.mark.parametrize("name", ["build", "plain"])
def test_a_network_in_a_file_is_discovered(tmp_path, name):
    (tmp_path / "model.py").write_text(MODEL)
    asked = [f"{tmp_path / 'model.py'}:{name}", "--out", str(tmp_path / "out")]
    asked += [part for one in ("A=0..4", "B=0,1,2", "C=0..3") for part in ("--input", one)]
    result = CliRunner().invoke(app, ["discover", *asked])
    assert result.exit_code == 0, result.output
    assert "on all 60 inputs: exact" in result.output and "implements this algorithm, exactly" in result.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"found.txt", "found.csv", "found.svg", "found.png", "report.html"}
    assert "B+C" in (tmp_path / "out" / "found.csv").read_text()


@pytest.mark.parametrize(
    ("model", "value", "said"),
    [
        ("build", "A=9..0", "leaves A without a value"),
        ("build", "A", "gives no input its values"),
        ("build", "A=x", "are no values of A"),
        ("nothing", "A=0..3", "has no 'nothing'"),
        ("number", "A=0..3", "gives a int"),
    ],
)
def test_what_cannot_be_discovered_is_said_in_a_line(tmp_path, model, value, said):
    (tmp_path / "model.py").write_text(MODEL)
    result = CliRunner().invoke(app, ["discover", f"{tmp_path / 'model.py'}:{model}", "--input", value])
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output


# -- scan ----------------------------------------------------------------------------------------------------------


SAVED = {"scan.interpose", "table.csv", "table.txt", "map.svg", "map.png", "store"}

LM_IN_A_FILE = """
import interpose as ip
import tiny

def build():
    return ip.LanguageModel(tiny.model(), tiny.tokenizer())

network = tiny.model()
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A model in a folder, and a file of pairs."""
    folder = tmp_path_factory.mktemp("asked")
    tiny.saved(folder / "model")
    pairs = capitals.pairs(ip.LanguageModel(tiny.model(), tiny.tokenizer()), n=6)
    countries = list(capitals.COUNTRIES.values())
    answers = [[f" {countries[i]}", f" {countries[i + 1]}"] for i in range(6)]
    rows = zip(pairs.base, pairs.source, answers, strict=True)
    lines = [json.dumps(dict(zip(("base", "source", "answers"), row, strict=True))) for row in rows]
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder


def invoked(asked, out, *options, model=None):
    command = ["scan", str(model or asked / "model"), str(asked / "pairs.jsonl"), "--out", str(out), *options]
    return CliRunner().invoke(app, command)


def test_a_language_model_is_scanned_and_everything_is_saved(asked, tmp_path):
    result = invoked(asked, tmp_path / "out", "--layers", "0,2", "--positions", "-1,3")
    assert result.exit_code == 0, result.output
    lm = ip.LanguageModel.load(asked / "model")
    pairs = ip.Pairs.from_file(lm, asked / "pairs.jsonl")
    found = ip.scan(lm, pairs, lm.residual(layers=[0, 2], positions=[-1, 3]), ip.logit_difference)
    page = f"Saved in {tmp_path / 'out'}/. To read it as one page: interpose report {tmp_path / 'out'}\n"
    assert str(found.table()) in result.stdout and result.stdout.endswith(page)
    assert {path.name for path in (tmp_path / "out").iterdir()} == SAVED
    back = ip.load(tmp_path / "out" / "scan.interpose", model=lm)
    assert back.labels == found.labels and (back.nie == found.nie).all()
    assert (tmp_path / "out" / "table.txt").read_text() == f"{found.table()}\n"
    table = (tmp_path / "out" / "table.csv").read_text().splitlines()
    assert len(table) == 5 and table[0].startswith("place,recovery,")
    ElementTree.parse(tmp_path / "out" / "map.svg")
    again = invoked(asked, tmp_path / "out", "--layers", "0,2", "--positions", "-1,3")
    assert again.exit_code == 0 and again.stdout == result.stdout


@pytest.mark.parametrize(
    ("options", "places"), [(["--layers", "1"], 4), (["--layers", "1,2", "--positions", "3,9"], 16)]
)
def test_heads_are_scanned_and_drawn_also_at_several_positions(asked, tmp_path, options, places):
    result = invoked(asked, tmp_path, "--sites", "heads", *options)
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "table.csv").read_text().splitlines()) == places + 1
    assert "No picture" not in result.output
    maps = (tmp_path / "map.svg").read_text().count("What carries the difference?")
    assert maps == (4 if "--positions" in options else 2)  # over each map, and in the picture's own title


@pytest.mark.parametrize(
    ("options", "same"),
    [
        (["--layers", "1,2", "--positions", "-1"], "position 9"),
        (["--layers", "1", "--positions", "-1"], "position 9"),
        (["--layers", "1", "--positions", "3,9"], "layer 1"),
    ],
)
def test_of_three_axes_one_that_is_the_same_everywhere_is_told_and_not_drawn(asked, tmp_path, options, same):
    result = invoked(asked, tmp_path, "--sites", "heads", *options)
    assert result.exit_code == 0 and "No picture" not in result.output, result.output
    told = [text for text in (tmp_path / "map.svg").read_text().split("<") if "5 pairs" in text or "6 pairs" in text]
    assert told and all(text.endswith(f", {same}") for text in told if text.startswith("text"))


def test_in_a_terminal_lines_fit_and_the_files_hold_all(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("interpose.cli.get_terminal_size", lambda: os.terminal_size((80, 24)))
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda stream: True, raising=False)
    result = invoked(asked, tmp_path, "--sites", "attention")
    lines = [line for line in result.stdout.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 80
    whole = (tmp_path / "table.txt").read_text()
    assert max(map(len, whole.splitlines())) > 80 and "full/part/none" in whole
    shown = " ".join(result.stdout.split())
    assert "Left out, for want of room: restores, full/part/none." in shown and "layer 0 attention @ 9" in shown


def test_a_table_that_fits_is_as_it_is_and_one_that_does_not_keeps_its_ends():
    table = Table(
        "A title of words", ("place", "first", "second", "third", "role"), (tuple("abcde"),), ("A note of it.",)
    )
    assert table.within(80) == str(table)
    lines = table.within(24).splitlines()
    assert lines[2].split() == ["place", "first", "role"] and lines[-2:] == [
        "Left out, for want of",
        "room: second, third.",
    ]
    assert table.within(1).splitlines()[7].split() == ["a", "b", "e"]


def test_a_model_in_a_file_and_another_metric(asked, tmp_path):
    (tmp_path / "model.py").write_text(LM_IN_A_FILE)
    options = ["--metric", "matches", "--layers", "2"]
    result = invoked(asked, tmp_path / "out", *options, model=f"{tmp_path / 'model.py'}:build")
    assert result.exit_code == 0, result.output
    assert "Metric: matches" in result.output and "the source run itself does not give the target" in result.output
    wrong = invoked(asked, tmp_path / "other", model=f"{tmp_path / 'model.py'}:network")
    assert wrong.exit_code == 1 and wrong.stderr.endswith("and not a LanguageModel.\n")


@pytest.mark.parametrize(
    ("sites", "method", "places"),
    [("attention", "attentions", 20), ("mlp", "mlps", 20), ("neurons", "neurons", 96), ("keys", "keys", 4)],
)
def test_every_kind_of_site_is_scanned(asked, tmp_path, sites, method, places):
    result = invoked(asked, tmp_path, "--sites", sites, "--layers", "2,0")
    assert result.exit_code == 0, result.output
    lm = ip.LanguageModel.load(asked / "model")
    found = ip.load(tmp_path / "scan.interpose", model=lm)
    assert len(found.places) == places and (tmp_path / "map.svg").exists()
    wanted = {site.path for site in getattr(lm, method)(layers=[0, 2])}
    assert {site.path for group in found.places for site in group} == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sites", "head"], "There are no sites 'head'. Did you mean 'heads'?"),
        (["--metric", "logit_difference"], "no metric 'logit_difference'. Did you mean 'logit-difference'?"),
        (["--layers", "1,x"], "--layers '1,x' are no whole numbers. Write them with commas: 0,5,10."),
        (["--layers", "7"], "There is no layer 7: the blocks count from 0 to 2."),
        (["--positions", "70"], "asks for position 70, but there are 10: 0 to 9."),
    ],
)
def test_what_cannot_be_scanned_is_said_in_a_line(asked, tmp_path, options, said):
    result = invoked(asked, tmp_path / "out", *options)
    assert result.exit_code == 1 and said in result.stderr.splitlines()[-1] and not result.stdout


def test_what_is_wrong_with_files_is_said_in_a_line(asked, tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"base": "Paris is in"}')
    (tmp_path / "file").write_text("")
    model, pairs = str(asked / "model"), str(asked / "pairs.jsonl")
    for words, said in {
        (model, str(tmp_path / "pairs.jsonl")): "pairs.jsonl, line 1: source is missing; there are base.",
        (model, str(tmp_path / "other.jsonl")): "There is no file",
        (str(tmp_path / "none"), pairs): "could not be loaded: ",
        (str(tmp_path / "none.py:build"), pairs): "There is no file",
        (model, pairs, "--out", str(tmp_path / "file")): "is a file, and results go into a folder.",
    }.items():
        result = CliRunner().invoke(app, ["scan", "--out", str(tmp_path / "out"), *words])
        assert result.exit_code == 1 and said in result.stderr.splitlines()[-1], result.output
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(app, ["scan", model]).exit_code == 2


def test_another_question_is_not_mixed_into_the_same_folder(asked, tmp_path):
    assert invoked(asked, tmp_path, "--layers", "2").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    result = invoked(asked, tmp_path, "--layers", "0")
    assert result.exit_code == 1 and "keeps another measurement: " in result.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(asked, tmp_path, monkeypatch):
    run = ip.LanguageModel.outcome

    def stopping(lm, output):
        if len(list(tmp_path.glob("out/store/pairs-*"))) == 2:
            raise KeyboardInterrupt
        return run(lm, output)

    options = ["--layers", "2", "--batch-size", "2"]
    with monkeypatch.context() as patched:
        patched.setattr(ip.LanguageModel, "outcome", stopping)
        result = invoked(asked, tmp_path / "out", *options)
    assert result.exit_code == 130
    kept = f"Stopped. 4 of 6 pairs are kept in '{tmp_path / 'out' / 'store'}'. The same call goes on from there."
    assert result.stderr.splitlines()[-1] == kept
    again, whole = (invoked(asked, tmp_path / name, *options) for name in ("out", "whole"))
    assert again.exit_code == 0 and again.stdout.splitlines()[:-1] == whole.stdout.splitlines()[:-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_command_that_is_killed_goes_on_as_if_nothing_had_been(asked, tmp_path):
    program = Path(__file__).parent / "killed_command.py"
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(program), str(asked / "model"), str(asked / "pairs.jsonl"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **threads})
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= 4 and told["codes"] == [0, 0] and all(told["equal"]), told
    assert told["sizes"] == sorted(told["sizes"]) and told["sizes"][-1] > 0
