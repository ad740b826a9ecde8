"""Maps of many rows and columns, with tokens of all kinds: what is written, what is left out, what stays the same."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from transformers import AutoModelForCausalLM, LlamaConfig

import interpose as ip
import tiny
from interpose import errors
from interpose.grid import axis_labels
from interpose.plots.heatmap import DRAWN, PAGE, TALLEST, WIDEST, Panel, colours, heatmap, strongest, thinned
from interpose.plots.picture import drawable
from interpose.tasks import capitals

ODD = [
    "<s>",
    " The",
    "\n",
    "\t",
    "\n\n",
    " 東京",
    "عربى",
    "$x$",
    "<b>",
    " 🙂",
    " internationalisation",
    "�",
    "  ",
    "",
    "\x07",
]


def panel(
    rows, columns, *, values=None, tokens=None, title="What carries it?\nlogit_difference, Llama, 3 pairs", **more
):
    values = np.random.default_rng(0).uniform(-1, 1, (rows, columns)) if values is None else values
    cell = np.full((rows, columns), "", dtype=object)
    names = axis_labels("position", range(columns), tokens)
    of = {"rows": [*map(str, range(rows))], "columns": names, "row_axis": "layer", "column_axis": "position"}
    return Panel(**{"title": title, "values": values, "labels": cell, "hover": cell, **of, **more})


def ticks(ax, axis="x"):
    return [text.get_text() for text in getattr(ax, f"get_{axis}ticklabels")()]


def drawn(picture):
    """What draws a figure, once it has been drawn, so that everything has its place."""
    canvas = FigureCanvasAgg(picture.figure)
    canvas.draw()
    return canvas.get_renderer()


def prompts(length):
    """Three prompts of odd tokens, which differ in the fourth."""
    words = [ODD[i % len(ODD)] for i in range(length)]
    return [[*words[:3], city, *words[4:]] for city in (" Paris", " Rome", " Oslo")]


# -- labels --------------------------------------------------------------------------------------------------


def test_tokens_are_short_words_in_which_blanks_can_be_seen():
    labels = axis_labels("position", range(len(ODD)), [ODD])
    assert labels[:5] == ["0 <s>", "1 The", "2 ↵", "3 ⇥", "4 ↵↵"] and labels[12:14] == ["12 ␣␣", "13"]
    assert labels[10] == "10 internat…ion" and labels[5] == "5 東京"


def test_where_pairs_differ_two_tokens_are_named_and_that_there_are_more():
    assert axis_labels("position", [1], [["a", " Paris"], ["a", " Rome"]]) == ["1 Paris/Rome"]
    assert axis_labels("position", [1, -1], prompts(4)) == ["1 The", "-1 Paris/Rome/…"]
    assert axis_labels("position", ["{city[-1]}", "-1"], prompts(4)) == ["{city[-1]}", "-1"]
    assert axis_labels("position", [2, -1], [["a", "b", "c"], ["a", "b"]]) == ["2", "-1 c/b"]
    assert axis_labels("head", [0, 1], prompts(4)) == ["0", "1"] and axis_labels("position", [7], None) == ["7"]


@pytest.mark.parametrize(("count", "each", "need"), [(60, 0.1, 0.2), (61, 0.1, 0.2), (5, 1.0, 0.2), (3072, 0.003, 0.4)])
def test_labels_are_thinned_and_the_ends_kept(count, each, need):
    kept = thinned(count, each, need)
    assert kept[0] == 0 and kept[-1] == count - 1
    assert (np.diff(kept) * each >= need - 1e-9).all()
    assert len(kept) >= min(count, count * each // (2 * need))


def test_few_labels_are_all_kept():
    assert thinned(5, 1.0, 0.2) == [0, 1, 2, 3, 4] and thinned(1, 0.1, 9.0) == [0] and thinned(2, 0.1, 9.0) == [0, 1]


@pytest.mark.parametrize(("rows", "columns"), [(48, 60), (48, 32), (12, 10), (1, 60), (48, 1), (1, 1), (100, 300)])
@pytest.mark.parametrize("count", [1, 3])
def test_labels_of_an_axis_do_not_run_into_each_other_and_the_figure_is_bounded(rows, columns, count, monkeypatch):
    monkeypatch.setattr("interpose.plots.heatmap.DRAWN", 0)
    picture = heatmap([panel(rows, columns, tokens=prompts(columns))] * count, quantity="recovery")
    width, height = picture.figure.get_size_inches()
    assert width <= max(PAGE, WIDEST + 3) + 0.1 and height <= count * (TALLEST + 2)
    for ax in picture.figure.axes[:count]:
        at = ax.get_position()
        assert ticks(ax)[0].startswith("0") and ticks(ax)[-1].startswith(str(columns - 1))
        assert ticks(ax, "y")[0] == "0" and ticks(ax, "y")[-1] == str(rows - 1)
        apart = np.diff(ax.get_yticks()) * at.height * height / rows
        assert (apart >= 7 / 72).all()
        slanted = ax.get_xticklabels()[0].get_rotation() == 45
        apart = np.diff(ax.get_xticks()) * at.width * width / columns
        assert (apart >= (2**0.5 * 7 / 72 if slanted else 0)).all()
        if not slanted:
            found = [text.get_window_extent(drawn(picture)) for text in ax.get_xticklabels()]
            assert all(a.x1 <= b.x0 for a, b in pairwise(found))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_titles_and_labels_of_neighbours_do_not_run_into_each_other(monkeypatch):
    monkeypatch.setattr("interpose.plots.heatmap.DRAWN", 0)
    for rows, columns in ((48, 60), (12, 10), (3, 2), (20, 1)):
        picture = heatmap([panel(rows, columns, tokens=prompts(columns))] * 3, quantity="recovery")
        *maps, _ = picture.figure.axes
        renderer = drawn(picture)
        found = [ax.get_tightbbox(renderer) for ax in maps]
        assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i]), (rows, columns)


def test_a_label_is_written_in_a_cell_that_has_room_for_it():
    cells = {"labels": [["layer 0 @ 0\n0.12"] * 5], "title": ""}
    wide = heatmap([panel(1, 5, **cells)], quantity="recovery").figure.axes[0].texts
    assert {text.get_text() for text in wide if text.get_text()} == {"layer 0 @ 0\n0.12"}
    narrow = heatmap([panel(1, 20, **cells | {"labels": [["layer 0 @ 0\n0.12"] * 20]})], quantity="recovery")
    assert {text.get_text() for text in narrow.figure.axes[0].texts if text.get_text()} == {"0.12"}
    none = heatmap([panel(1, 60, **cells | {"labels": [["layer 0 @ 0\n0.12"] * 60]})], quantity="recovery")
    assert not [text for text in none.figure.axes[0].texts if text.get_text()]


# -- colours and hatching ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-9, 1.0, 3e6])
def test_the_scale_is_centred_at_zero_whatever_the_size_of_values(size):
    values = np.array([[-size, 0.0], [size / 2, np.nan]])
    picture = heatmap([panel(2, 2, values=values), panel(2, 2, values=values / 2)], quantity="recovery")
    cells = {cell.get_gid(): cell for ax in picture.figure.axes[:2] for cell in ax.patches}
    top = max(1.0, size)
    for k, share in ((0, 1), (1, 0.5)):
        for i, j in ((0, 0), (0, 1), (1, 0)):
            expected = colours()(0.5 + share * values[i, j] / (2 * top))
            assert cells[f"cell-{k}-{i}-{j}"].get_facecolor() == pytest.approx(expected)
        assert cells[f"cell-{k}-1-1"].get_hatch() == "////"
    bar = picture.figure.axes[-1]
    assert bar.get_ylabel() == "recovery" and bar.get_ylim()[1] == pytest.approx(top)


@pytest.mark.parametrize("shape", [(6, 5), (80, 60)])
def test_rows_without_values_are_hatched_and_said_to_be(shape):
    values = np.full(shape, 0.5)
    values[2], values[4, 1:3] = np.nan, np.nan
    undefined = np.zeros(shape, bool)
    undefined[4] = True
    picture = heatmap([panel(*shape, values=values, undefined=undefined)], quantity="recovery")
    marks = {"////": 0.0, "....": 0.0}
    for cell in picture.figure.axes[0].patches:
        if cell.get_hatch():
            marks[cell.get_hatch()] += cell.get_width() * cell.get_height()
    assert marks == {"////": shape[1], "....": 2}
    assert bool(picture.figure.axes[0].images) == (np.prod(shape) > DRAWN)
    svg = picture.svg()
    assert "hatched: no such cell was measured; dotted: undefined, no pair has what it is a share of" in svg


def test_a_map_without_any_value_is_all_hatched():
    picture = heatmap([panel(2, 3, values=np.full((2, 3), np.nan))], quantity="recovery")
    assert {cell.get_hatch() for cell in picture.figure.axes[0].patches} == {"////"} and picture.png()


# -- very many columns ---------------------------------------------------------------------------------------


def test_of_very_many_columns_the_strongest_are_shown_and_that_is_said():
    values = np.zeros((2, 3072))
    values[0, 1001], values[1, 3071], values[1, 7] = -0.9, 0.8, np.nan
    picture = heatmap([panel(2, 3072, values=values, tokens=None, column_axis="neuron")], quantity="recovery")
    (image,) = picture.figure.axes[0].images or [None]
    shown = np.array([cell.get_facecolor() for cell in picture.figure.axes[0].patches]).reshape(2, -1, 4)
    assert image is None and shown.shape[1] == 439
    assert shown[0, 143] == pytest.approx(colours()(0.5 - 0.9 / 2)) and shown[1, 438] == pytest.approx(colours()(0.9))
    assert "each cell shows the strongest of 7 neurons" in picture.svg() and "hatched" not in picture.svg()


def test_the_strongest_of_neighbours_bring_their_own_records():
    one = panel(1, 5, values=np.array([[0.1, -0.7, 0.3, np.nan, np.nan]]), hover=[list("abcde")], tokens=None)
    found = strongest(one, 2)
    np.testing.assert_equal(found.values, [[-0.7, 0.3, np.nan]])
    assert found.hover == [["b", "c", "e"]] and found.columns == ["0", "2", "4"]


# -- text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["svg", "png", "pdf", "html"])
def test_tokens_of_any_script_are_saved_in_every_form_without_a_warning_and_twice_the_same(form, tmp_path):
    picture = heatmap([panel(4, len(ODD), tokens=prompts(len(ODD)), title="東京 🙂 $x$ <b>")], quantity="recovery")
    one, other = (picture.save(tmp_path / f"{name}.{form}").read_bytes() for name in "ab")
    assert one == other
    if form in ("svg", "html"):
        text = one.decode()
        assert ">5 東京<" in text and ">6 عربى<" in text and ">7 $x$<" in text and ">8 &lt;b&gt;<" in text
        assert ">9 🙂<" in text and "\\u6771" not in text and "\x07" not in text


def test_a_character_the_font_has_no_picture_of_is_named_by_its_number_where_text_is_drawn(monkeypatch):
    drawn = []
    of = Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, renderer: (drawn.append(text.get_text()), of(text, renderer))[1])
    picture = heatmap([panel(2, len(ODD), tokens=[ODD], title="東")], quantity="recovery")
    picture.png(dpi=50)
    assert r"5 \u6771\u4eac" in drawn and r"9 \U0001f642" in drawn and r"\u6771" in drawn and "6 عربى" in drawn
    assert picture.figure.axes[0].get_title() == "東" and ticks(picture.figure.axes[0])[5] == "5 東京"
    assert drawable("a é 東\n") == "a é \\u6771\n"


def test_a_character_is_named_again_after_an_error(monkeypatch):
    picture = heatmap([panel(2, 2, title="東")], quantity="recovery")
    monkeypatch.setattr(type(picture.figure), "savefig", lambda *args, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        picture.png()
    assert picture.figure.axes[0].get_title() == "東"


def test_a_map_of_named_positions_is_drawn():
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    cities, others = ["Paris", "Oslo xx"], ["Rome", "Cairo"]
    answers = [(" France", " Italy"), (" Norway", " Egypt")]
    pairs = ip.Pairs.from_template(lm, "The city of {city} is", base=cities, source=others, answers=answers)
    found = ip.scan(lm, pairs, lm.residual(positions=["{city[-1]}", -1]), ip.logit_difference)
    assert ticks(found.heatmap().figure.axes[0]) == ["{city[-1]}", "-1"]


# -- a deep model --------------------------------------------------------------------------------------------


def test_a_scan_of_a_deep_model_is_one_page():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 48, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = ip.LanguageModel(AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=60, **sizes)).eval())
    pairs = ip.Pairs.from_tokens(base=[[1, 2, 3]] * 2, source=[[1, 5, 3], [1, 6, 3]], answers=[[7, 8], [9, 10]])
    picture = ip.scan(lm, pairs, lm.residual(), ip.logit_difference).heatmap()
    shown, bar = picture.figure.axes
    assert bar.get_ylabel() == "recovery (share of the total effect)"
    assert ticks(shown) == ["0", "1", "2"] and ticks(shown, "y")[0] == "0" and ticks(shown, "y")[-1] == "47"
    assert len(picture.hover) == 48 * 3 and picture.figure.get_size_inches()[1] <= TALLEST + 2


def test_places_on_three_axes_give_a_map_for_each_label_of_the_last():
    lm = ip.LanguageModel(tiny.model(), tiny.tokenizer())
    found = ip.scan(lm, capitals.pairs(lm, n=2), lm.heads(layers=[0, 2], positions=[3, -1]), ip.logit_difference)
    panels = found._panels("nie", "recovery")
    assert [panel.title.splitlines()[1].rpartition("pairs, ")[2] for panel in panels] == [
        "position 3 Paris/Rome",
        "position 9 of",
    ]
    carried = found.transfer().estimate
    for j, (site,) in enumerate(found.places):
        layer, head, position = (part[1] for part in site.coordinates)
        panel = panels[[3, 9].index(position)]
        assert panel.values[[0, 2].index(layer), head] == pytest.approx(carried[j])
        assert panel.hover[[0, 2].index(layer)][head].startswith(f"layer {layer} head {head} @ {position}: ")
    assert len(found.heatmap().figure.axes) >= 2
    many = ip.scan(lm, capitals.pairs(lm, n=2), lm.heads(layers=[0], positions=range(10)), ip.logit_difference)
    assert len(many._panels("nie", "recovery")) == 1  # one layer: heads by positions
    wide = replace(
        found,
        places=tuple((replace(s, coordinates=(*s.coordinates, ("x", i, i))),) for i, (s,) in enumerate(found.places)),
    )
    with pytest.raises(errors.WrongShape, match="A heatmap has two axes, and up to 12 maps stand beside each other"):
        wide.heatmap()
