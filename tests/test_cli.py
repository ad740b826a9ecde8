"""The command line, and the demo that it runs."""

import re
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

import interpose as ip
import tiny
from interpose import errors
from interpose.cli import app
from interpose.demo import where_it_is
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
    assert result.output.rstrip().endswith(f"Saved in {tmp_path}/")
    assert (
        {path.stem for path in tmp_path.glob("*.svg")}
        == {path.stem for path in tmp_path.glob("*.png")}
        == set(PICTURES)
    )
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"found.txt", "found.csv", "found.svg", "found.png"}
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
