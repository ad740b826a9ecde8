"""A page of results: what is in it, in which words, in the same bytes, and nothing that a text could smuggle in."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import interpose as ip
from interpose import errors
from interpose.cli import app
from interpose.reports import cells, kinds
from interpose.reports.explorer import explorer
from interpose.reports.page import as_json, page
from interpose.reports.sections import Part, Section
from interpose.reports.sentences import of_accuracy, of_circuit, of_comparison, of_scan, of_scans, stretches
from interpose.reports.widgets import Widget
from interpose.reports.words import interval, named, shown
from interpose.tables import Table
from interpose.tasks import adder
from pages import EVIL, Place, Read, flow, scans


@pytest.fixture(scope="module")
def maps():
    return scans()


@pytest.fixture(scope="module")
def every(maps):
    """A result of each kind."""
    net, pairs = adder.network(), adder.pairs()["A"]
    effects = ip.effects(net, pairs, ["h12", "h13"], ip.value)
    wrong = ip.Alignment(adder.hypothesis(), {"A": "h12", "B+C": "h22"})
    return {
        "Scans": maps,
        "Scan": maps["A"],
        "Effects": effects,
        "Accuracy": ip.interchange_accuracy(net, wrong, n=60),
        "Found": ip.discover(net, {"A": range(3), "B": range(3), "C": range(2)}),
        "Circuit": ip.circuit(net, pairs, ["h12", "h22"], net.neurons("l1", "l2"), ip.matches),
        "Comparison": ip.compare(effects, effects),
        "Rivalry": ip.distinguish(net, adder.alignment(), wrong, n=60),
        "Ablated": ip.ablate(net, pairs, ["h12", "h11"], ip.value),
        "Mediators": maps["A"].mediators(),
        "CausalModel": adder.hypothesis(),
        "Network": net,
        "Picture": ip.draw(adder.hypothesis()),
        "Table": Table("Some rows", ("a", "b"), (("x", "1"), ("y", "2"))),
        "Widget": explorer(adder.hypothesis(), {"A": 1, "B": 2, "C": 3}),
    }


def pages(*results, **options):
    return page([kinds.section_of(result) for result in results], **options)


# -- every kind ------------------------------------------------------------------------------------------------------


def test_there_is_a_result_of_every_kind(every):
    assert set(every) == {kind.__name__ for kind in kinds.KINDS}


@pytest.mark.parametrize("kind", [kind.__name__ for kind in kinds.KINDS])
def test_every_kind_has_its_page(every, kind, tmp_path):
    result = every[kind]
    path = ip.report(tmp_path / "new" / "page.html", result)
    read = Read(path.read_text(encoding="utf-8"))
    table = result.table() if hasattr(result, "table") else result if kind == "Table" else None
    for row in table.rows if table else ():
        for cell in row:
            assert " ".join(cell.split()) in read.text, cell
    assert read.tags("svg") or kind not in {"Scans", "Scan", "Effects", "Found", "CausalModel", "Network", "Picture"}


@pytest.mark.parametrize("together", [False, True])
def test_a_page_is_in_order(every, together):
    for results in [list(every.values())] if together else [[every["Scan"]], [every["Table"]]]:
        read = Read(pages(*results))
        assert read.open == [] and read.all("html")[0]["lang"] == "en"
        assert any("width=device-width" in meta.get("content", "") for meta in read.all("meta"))
        levels = [int(tag[1]) for tag in read.tags("h1", "h2", "h3", "h4")]
        assert levels.count(1) == 1 and levels[0] == 1 and levels.count(2) == len(results)
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        assert read.tags("main") == ["main"] and read.tags("footer") == ["footer"]
        ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        links = [a["href"][1:] for a in read.all("a")]
        assert "content" in links and set(links) <= set(ids)
        assert len(read.tags("caption")) == len(read.tags("table"))
        assert all(th["scope"] in ("row", "col") for th in read.all("th"))
        assert all(svg["role"] == "img" for svg in read.all("svg"))
        assert all(figure["aria-label"] for figure in read.all("figure"))


def test_a_page_asks_for_nothing(every):
    text = pages(*every.values())
    read = Read(text)
    assert {a for _, found in read.elements for a in found} & {"src", "srcset", "action", "data", "poster"} == set()
    assert all(found["href"].startswith("#") for _, found in read.elements if "href" in found)
    assert not read.tags("link", "iframe", "object", "embed", "form", "base")
    spaces = re.findall(r"https?://[^\"' )]*", text)
    assert set(spaces) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    policy = next(meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "script-src 'sha256-" in policy


def test_only_the_scripts_that_are_needed_are_there(maps):
    alone = pages(Table("t", ("a",), (("1",),)))
    assert "interpose.widgets.table" in alone and "interpose.widgets.heatmap" not in alone
    assert "interpose.widgets.heatmap" in pages(maps["A"])


# -- what is no result -----------------------------------------------------------------------------------------------


def test_what_is_no_result_is_refused_before_anything_is_written(maps, tmp_path):
    names = "Scans, Scan, Effects, Accuracy, Found, Circuit, Comparison, Rivalry, Ablated, Mediators, CausalModel, "
    said = f"dict is no kind of result that a page shows. There are {names}Network, Picture, Table and Widget."
    with pytest.raises(errors.WrongInput, match=f"^{re.escape(said)}$"):
        ip.report(tmp_path / "page.html", maps, {"A": 1})
    with pytest.raises(
        errors.WrongInput, match=r"^A page of nothing: give it results, as in report\('page.html', scan"
    ):
        ip.report(tmp_path / "page.html")
    with pytest.raises(errors.WrongInput, match=r"^'page.pdf' is no name for a page\. Let it end in \.html\.$"):
        ip.report(tmp_path / "page.pdf", maps)
    assert list(tmp_path.iterdir()) == []


# -- the same bytes --------------------------------------------------------------------------------------------------


TWICE = """
import hashlib, sys, torch
import interpose as ip
from interpose.tasks import adder
torch.set_num_threads(1)
net, pairs = adder.network(), adder.pairs(n=12)
scans = ip.scan(net, pairs, net.neurons("l1", "l2"), metric=ip.matches)
found = ip.discover(net, {"A": range(3), "B": range(2), "C": range(2)})
claim = ip.interchange_accuracy(net, adder.alignment(), n=30)
path = ip.report(sys.argv[1], scans, found, claim, scans.heatmap(), adder.hypothesis(), net)
print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_equal_results_give_equal_bytes_in_any_process(tmp_path, monkeypatch):
    said = []
    for seed in ("0", "4711"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        command = [sys.executable, "-W", "error", "-c", TWICE, str(tmp_path / f"{seed}.html")]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1] and len(said[0]) == 65


def test_other_results_give_other_bytes(maps):
    assert pages(maps["A"]) == pages(maps["A"]) != pages(replace(maps["A"], ybs=1 - maps["A"].ybs))


# -- texts stay texts ------------------------------------------------------------------------------------------------


@given(st.recursive(st.text() | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False), st.lists))
def test_data_comes_back_and_cannot_close_its_script(value):
    text = as_json(value)
    assert json.loads(text) == value and not set(text) & set("<>&\u2028\u2029")


def evil():
    """Everything that a user names, named badly."""
    digits = ip.Variable(range(3))
    model = ip.CausalModel({EVIL: digits, "B": digits, "Y": ip.Variable(lambda a, b: a + b, parents=(EVIL, "B"))})
    pairs = ip.Pairs.varying(model, EVIL)
    scans = ip.scan(model, {EVIL: pairs}, [EVIL, "B"], metric=ip.value)
    table = Table(EVIL, (EVIL, "b"), ((EVIL, "=1+1"),), (EVIL,))
    told = replace(flow(tokens=(EVIL, "b"), said=EVIL + "{}"), model=EVIL, metric=EVIL)
    return [scans, scans[EVIL], table, told, model, ip.draw(model)]


def test_no_text_becomes_markup():
    text = pages(*evil(), title=EVIL)
    read = Read(text)
    assert read.open == [] and not read.tags("img")
    assert text.count("</script>") == len(read.tags("script")) == len(read.tags("figure")) + 1
    texts = [text for kind, data in read.widgets() if kind == "heatmap" for text in data["texts"]]
    assert f"{EVIL}0" in texts and f"{EVIL}=0, B=0" in texts
    assert not [name for _, found in read.elements for name in found if name.startswith("on")]
    assert read.text.count("onerror") > 10


def test_what_no_file_can_hold_is_replaced(tmp_path):
    path = ip.report(tmp_path / "page.html", Table("\ud800", ("a",), (("\ud800",),)))
    assert "\ud800" not in path.read_text(encoding="utf-8")


# -- sentences -------------------------------------------------------------------------------------------------------


def test_what_carries_a_is_said_as_one_would_say_it(maps):
    assert of_scan(maps["A"]) == [
        "h12 and h22 carry A: each moves all 50 of 50 outputs to the source's (95 % interval 0.93 to 1.00).",
        "Nothing in the output depends on h11, h21 and h23, for certain.",
        "A does not reach h13, for certain.",
    ]
    said = of_scans(maps)
    assert said[0] == "In short: h12 carries A; h22 carries A, B and C; h13 carries B and C."
    assert said.count("Nothing in the output depends on h11, h21 and h23, for certain.") == 1


def test_where_all_pairs_were_run_nothing_is_uncertain():
    few = ip.CausalModel({"A": ip.Variable(range(3)), "Y": ip.Variable(lambda a: a, parents=("A",))})
    whole = ip.scan(few, ip.Pairs.varying(few, "A"), ["A"], metric=ip.value)
    assert of_scan(whole)[0] == "A carries A: it brings 1.00 of the effect (exact: all pairs there are were run)."


def test_a_place_that_moves_some_outputs_is_not_said_to_move_all(maps):
    scan = maps["A"]
    some = scan.ybs.copy()
    some[:20, scan.column("h12")] = 0
    said = of_scan(replace(scan, ybs=some))
    assert said[1].startswith("h22 carries A: it moves all 50 of 50 outputs")
    assert said[0] == (
        "h12 carries A: it moves 30 of 50 outputs to the source's (95 % interval 0.46 to 0.72); "
        "putting it back undoes 1.00 of it."
    )


def test_few_pairs_decide_nothing_and_that_is_said(maps):
    net = adder.network()
    one = ip.scan(net, adder.pairs()["A"][:1], net.neurons("l1"), metric=ip.value)
    assert of_scan(one)[0] == "No place is shown to carry A."
    assert "Undetermined, for 1 pair cannot tell: h12." in of_scan(one)


def test_where_a_map_of_layers_and_positions_is_above_a_half_is_said_with_how_sure_that_is():
    said = of_scan(flow(pairs=40))
    share, level = "more than 50 % of the effect", r"(95|9[5-9]\.\d) %"
    assert re.fullmatch(
        rf"After layers 0 to 1, position 0 \(a\) carries {share}: 0\.90 to 0\.90 of it, and in 2 of 2 "
        rf"layers the {level} interval is above 50 % too\.",
        said[0],
    )
    assert said[1].startswith("After layers 2 to 3, position 2 (is) carries more than 50 % of the effect: ")
    assert (
        said[2].startswith("The strongest, layer ")
        and " carries the difference: it brings 0.899 of the effect" in said[2]
    )
    doubtful = flow(pairs=40)
    cell = doubtful.column("layer 0 @ 0")
    ybs = doubtful.ybs.copy()
    ybs[::2, cell] = doubtful.ybb[::2] + 2.5 * (doubtful.yss - doubtful.ybb)[::2]
    ybs[1::2, cell] = doubtful.ybb[1::2] - 1.2 * (doubtful.yss - doubtful.ybb)[1::2]
    assert "in 1 of 2 layers" in of_scan(replace(doubtful, ybs=ybs))[0]


def test_positions_with_names_and_prompts_of_unequal_length_are_shown_too():
    rows = (("The", "city", "of", "Rio"), ("The", "city", "of", "New", "York"))
    uneven = flow(positions=2, pairs=2)
    places = tuple((Named(place.layer, place.position),) for (place,) in uneven.places)
    uneven = replace(uneven, places=places, pairs=replace(uneven.pairs, tokens=rows, source_tokens=rows))
    assert [words for words, _, _ in stretches(uneven)] == ["position {city}", "position -1 (Rio/York)"]
    assert "{city}" in Read(pages(uneven)).text and "-1 Rio/York" in Read(pages(uneven)).text


class Named(Place):
    """A place at a position with a name, or at the last."""

    @property
    def coordinates(self):
        return (("layer", self.layer, self.layer), ("position", ("{city}", -1)[self.position], self.position))


def test_a_hypothesis_that_fails_is_said_to(every):
    said = of_accuracy(every["Accuracy"])
    hits = sum(int(row.hits.sum()) for row in every["Accuracy"].rows)
    low, high = every["Accuracy"].interval
    assert f"in {hits} of 180 interchanges (95 % interval {low:.2f} to {high:.2f})." in said[0]
    assert said[-1].startswith("Least often with ")
    failures = every["Accuracy"].failures()
    assert failures and f"{len(failures)} went otherwise" in Read(pages(every["Accuracy"])).text
    right = ip.interchange_accuracy(adder.network(), adder.alignment(), n=50)
    assert of_accuracy(right)[0].startswith("The network did what the hypothesis says in all 350 of 350 interchanges (")


def test_circuits_and_comparisons_are_told(every, maps):
    assert of_circuit(every["Circuit"])[0].startswith("With everything else resampled, h12 and h22 do ")
    assert of_comparison(every["Comparison"]) == ["At no place is a difference between one and other shown."]
    other = replace(maps["A"], ybs=maps["A"].ybs * 0)
    apart = of_comparison(ip.compare(maps["A"], other))
    assert apart[0].startswith("At h12, one has 1.00 and other 0.00: a difference of 1.00 (")


def test_how_sure_a_number_is_is_always_in_words(maps):
    found = maps["A"].transfer()
    assert interval(found, 0) == "95 % interval 0.00 to 0.07"
    restores = maps["A"].recovery("tie")
    assert interval(restores, 1) == "the same in every pair, and so, at 95 %, in at least 94 % of all such pairs"
    alone = ip.effects(adder.network(), adder.pairs()["A"][:1], ["h12"], ip.value).transfer()
    assert interval(alone, 0) == "no interval: one pair says nothing of how others differ"


@pytest.mark.parametrize(
    ("names", "said"),
    [((), "nothing"), (("a",), "a"), (("a", "b"), "a and b"), (tuple("abcdefgh"), "a, b, c, d, e, f and 2 more")],
)
def test_names_are_listed(names, said):
    assert named(names) == said


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ({"A": 1, "B": 0.1234567891}, "A=1, B=0.123457"),
        (torch.tensor([1.0, 2.5]), "[1, 2.5]"),
        (np.zeros((4, 4)), "numbers of shape (4, 4)"),
        ("x" * 700, "x" * 600 + " …"),
        (["a", 2], "[a, 2]"),
    ],
)
def test_inputs_are_shown_in_a_line(example, said):
    assert shown(example) == said


# -- the data behind a map -------------------------------------------------------------------------------------------


def test_every_run_of_every_pair_is_behind_its_cell(maps):
    (data,) = (data for kind, data in Read(pages(maps)).widgets() if kind == "heatmap")
    assert len(data["texts"]) == len(set(data["texts"])) > 100
    for told, scan in zip(data["maps"], maps.values(), strict=True):
        assert [cell["place"] for cell in told["cells"]] == list(scan.labels)
        for runs in ("ybs", "ysb"):
            np.testing.assert_array_equal([cell[runs] for cell in told["cells"]], getattr(scan, runs).T)
        np.testing.assert_array_equal(told["yss"], scan.yss)
        first = scan.pairs.base[0]
        assert data["texts"][told["pairs"][0][0]] == ", ".join(f"{name}={value}" for name, value in first.items())
        assert [cell["verdict"] for cell in told["cells"]] == list(scan.verdicts())


def test_runs_are_kept_to_six_digits_and_what_is_not_finite_as_nothing():
    assert cells.rounded(np.array([1 / 3, np.nan, -1234567.0, 0.0])) == [0.333333, None, -1234570.0, 0.0]


def test_of_many_pairs_the_first_are_kept_and_that_is_said(maps, monkeypatch):
    monkeypatch.setattr(cells, "MOST_RUNS", 6 * 7)
    (data,) = (data for kind, data in Read(pages(maps["A"])).widgets() if kind == "heatmap")
    assert len(data["maps"][0]["pairs"]) == len(data["maps"][0]["cells"][0]["ybs"]) == 7
    assert data["maps"][0]["of"] == 50


def test_a_map_of_too_many_cells_is_an_image(maps, monkeypatch):
    monkeypatch.setattr(cells, "MOST_DRAWN", 5)
    read = Read(pages(maps["A"]))
    assert read.all("img")[0]["src"].startswith("data:image/png;base64,") and read.all("img")[0]["alt"]
    assert "heatmap" not in [kind for kind, _ in read.widgets()]


def test_the_page_of_a_language_models_map_is_small():
    text = pages(flow(30, 10, 19, said="The city of number {} is located in the country of"))
    assert len(text.encode()) < 1_000_000
    assert len(next(data for kind, data in Read(text).widgets() if kind == "heatmap")["maps"][0]["cells"]) == 300


def test_places_of_three_axes_have_no_map_and_that_is_said():
    whole = flow()
    one, two = (tuple((Deep(p.layer, k * (p.layer % 2), p.position),) for (p,) in whole.places) for k in (0, 1))
    text = Read(pages(replace(whole, places=two))).text
    assert "There is none: a map has two axes, and these places have layer, head and position." in text
    (data,) = (data for kind, data in Read(pages(replace(whole, places=one))).widgets() if kind == "heatmap")
    assert [cell["at"] for cell in data["maps"][0]["cells"]] == [[p.layer, p.position] for (p,) in whole.places]


class Deep:
    """A place on three axes."""

    def __init__(self, layer, head, position):
        self.coordinates = (("layer", layer, layer), ("head", head, head), ("position", position, position))

    def __str__(self):
        return f"{self.coordinates}"


# -- where it comes from ---------------------------------------------------------------------------------------------


def test_what_is_known_of_the_measurement_is_there_and_no_more(maps, every):
    text = Read(pages(maps)).text
    work = maps["A"].work
    for known in (
        f"Weights, SHA-256 {maps['A'].origin.weights()[:16]}",
        "Places 6 places; verdicts hold over 18 together",
        "Counts as no difference at most 0.001 in the metric",
        f"Mechanisms of the engine {', '.join(work.mechanisms)}",
        f"Forward passes {work.forwards:,}, of {work.rows:,} rows together",
    ):
        assert known in text
    assert "Not recorded by this result the model, its weights, and the seed" in Read(pages(every["Accuracy"])).text
    unknown = Read(pages(replace(maps["A"], origin=None))).text
    assert "Weights, SHA-256 not known: the result was loaded without its model" in unknown


def test_warnings_limits_and_failures_are_told(maps):
    few = ip.scan(adder.network(), adder.pairs()["A"][:20], ["h12", "h13"], ip.value)
    text = Read(pages(replace(few, part="discover", looks=3))).text
    assert all(note in text for note in few.notes())
    assert "These are the pairs of one half, to choose places on; the other half is to confirm them." in text
    assert "These pairs were looked at 3 times." in text
    scan = maps["A"]
    some = scan.ybs.copy()
    some[7, scan.column("h12")] = some[7, scan.column("h22")] = 0
    text = Read(pages(replace(scan, ybs=some))).text
    assert "Where h12 falls short" in text and "1 of 50 pairs are not carried all the way" in text


# -- from a folder ---------------------------------------------------------------------------------------------------


def test_a_folder_of_saved_results_becomes_a_page(maps, tmp_path):
    ip.save(maps, tmp_path / "b" / "maps.interpose")
    ip.save(maps["A"], tmp_path / "a.interpose")
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 0 and result.output == f"Written: {tmp_path / 'report.html'}\n"
    text = Read((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert text.index("File a.interpose") < text.index("File b/maps.interpose")
    assert text.count(f"Weights, SHA-256 {maps['A'].origin.weights()[:16]}") == 2
    again = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "other.html")])
    assert again.exit_code == 0
    assert (tmp_path / "other.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_a_folder_without_results_is_refused_in_a_line(tmp_path):
    empty = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert empty.exit_code == 1 and empty.stderr == (
        f"'{tmp_path}' keeps no results: no file below it ends in .interpose. Keep one with save(scan, "
        "'flow/scan.interpose'), or with interpose scan --out flow.\n"
    )
    none = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert none.exit_code == 1 and none.stderr.startswith(f"There is no folder '{tmp_path / 'none'}', seen from ")
    (tmp_path / "cut.interpose").write_bytes(b"no")
    cut = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert cut.exit_code == 1 and "is no result of interpose, or was cut short." in cut.stderr
    assert not (tmp_path / "report.html").exists()


# -- figures of other kinds ------------------------------------------------------------------------------------------


def test_a_widget_brings_its_script_and_what_that_needs_once_and_its_svg_gets_names_of_its_own(maps):
    raw = ip.draw(adder.hypothesis()).svg()
    widget = Widget("heatmap", "A <graph>", {"a": "</script>"}, raw, needs=("table", "picture"))
    text = page([Section("A kind", "A title", parts=(Part("One", widget), Part("Two", widget)))])
    assert text.index("widgets.table =") < text.index("widgets.picture =") < text.index("widgets.heatmap =")
    assert text.count("widgets.table =") == 1
    read = Read(text)
    assert [data for _, data in read.widgets()] == [{"a": "</script>"}] * 2
    assert [figure["aria-label"] for figure in read.all("figure")] == ["A <graph>"] * 2
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20 and not read.tags("style")[1:]
    for name in re.findall(r"url\(#([^)]*)\)|href=\"#(p[^\"]*)\"", text):
        assert "".join(name) in ids
