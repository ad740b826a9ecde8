"""Pictures: their data, their colours, their bytes."""

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import interpose as ip
from interpose import drawing, errors
from interpose.drawing import FILLS, classify
from interpose.plots.graph import layered
from interpose.plots.heatmap import Panel, colours, heatmap
from interpose.tasks import adder

from known import OR, Residual, mlp, seeded

BASE, SOURCE = [1, 2, 3], [4, 2, 3]


@pytest.fixture(scope="module")
def net():
    return adder.network()


@pytest.fixture(scope="module")
def scans(net):
    return {name: ip.scan(net, pairs, net.neurons("l1", "l2"), ip.matches) for name, pairs in adder.pairs().items()}


def hovers(picture):
    return list(picture.hover.values())


# -- colours follow descent --------------------------------------------------------------------------------


def test_the_five_classes():
    model = adder.hypothesis()
    assert classify(model, ["B+C"]) == {
        "A": "base input",
        "B": "base input",
        "C": "base input",
        "B+C": "source input",
        "A+B+C": "counterfactual value",
    }
    assert classify(model, [])["A+B+C"] == "base value"
    assert classify(model, ["A", "B", "C"])["A+B+C"] == "source value"


def test_a_diamond_with_paths_of_unequal_length_does_not_depend_on_the_order_of_visiting():
    """Y is reached by two intervened paths, one longer: all its ancestors are source-side, so it is too."""
    mechanisms = {
        "A": ip.Variable(),
        "short": ip.Variable(lambda A: A),
        "one": ip.Variable(lambda A: A),
        "two": ip.Variable(lambda one: one),
        "Y": ip.Variable(lambda short, two: short + two),
    }
    for names in (list(mechanisms), list(mechanisms)[::-1], ["Y", "two", "A", "short", "one"]):
        kinds = classify(ip.CausalModel({name: mechanisms[name] for name in names}), ["A"])
        assert kinds["Y"] == "source value"
        kinds = classify(ip.CausalModel({name: mechanisms[name] for name in names}), ["one"])
        assert kinds["Y"] == "counterfactual value"


# -- what a picture says ------------------------------------------------------------------------------------


def test_a_run_shows_every_value_and_where_it_comes_from():
    picture = ip.draw(adder.hypothesis(), {"A": 1, "B": 2, "C": 3}, write={"B+C": 4})
    assert hovers(picture) == [
        "A = 1 (base input)",
        "B = 2 (base input)",
        "C = 3 (base input)",
        "B+C = 4 (source input)",
        "A+B+C = 5 (counterfactual value)",
    ]
    assert FILLS["source input"].lower() in picture.svg().lower()


def test_a_network_draws_the_same_way(net):
    said = hovers(ip.draw(net, BASE, write={"h23": -100}))
    assert "h12 = 8.1 (base value)" in said and "h23 = -100 (source input)" in said
    assert "Y = 6 (counterfactual value)" in said
    assert len(hovers(ip.draw(net))) == 10


def test_an_interchange_shows_base_and_source_and_carries_the_value_over(net):
    picture = ip.draw_interchange(net, BASE, {"h12": SOURCE})
    assert picture.title == "Adder: interchange of h12 into A = 1, B = 2, C = 3"
    said = hovers(picture)
    assert len(said) == 20
    assert "h12 = 20.1 (source input)" in said and "Y = 9 (counterfactual value)" in said
    assert "h12 = 20.1 (source value)" in said and "Y = 9 (source value)" in said
    assert "base A = 1, B = 2, C = 3" in picture.svg() and "source A = 4, B = 2, C = 3" in picture.svg()


def test_interchanges_of_renamed_variables_and_several_sources_are_drawn_like_any_other():
    model, base = adder.hypothesis(), {"A": 1, "B": 2, "C": 3}
    one, two = {"A": 4, "B": 5, "C": 6}, {"A": 7, "B": 8, "C": 9}
    picture = ip.draw_interchange(model, base, {"A+B+C": (one, "B"), "B+C": two, "A": one})
    assert len(hovers(picture)) == 15 and "A+B+C = 5 (source input)" in hovers(picture)
    assert "source 1 A = 4" in picture.svg() and "source 2 A = 7" in picture.svg()


def test_a_layer_is_drawn_as_its_neurons(net):
    said = hovers(ip.draw_interchange(net, BASE, {"l2": SOURCE}))
    assert {"h21 = 10.0039 (source input)", "h22 = 5.205 (source input)", "h23 = -0.271 (source input)"} <= set(said)


def test_the_circuit_has_the_edges_between_mediators_alone(net, scans):
    picture = ip.draw_circuit(net, {name: found.mediators() for name, found in scans.items()})
    assert {"h12 carries A", "h13 carries B, C", "h22 carries A, B, C", "h11 mediates nothing that was scanned"} <= set(
        hovers(picture)
    )
    arrows = [patch for patch in picture.figure.axes[0].patches if type(patch).__name__ == "FancyArrowPatch"]
    assert len(arrows) == 6  # A-h12, B-h13, C-h13, h12-h22, h13-h22, h22-Y


def test_the_alignment_has_a_line_for_every_claim(net):
    picture = ip.draw_alignment(net, adder.alignment())
    assert {"h12 holds A", "h13 holds B+C", "h22 holds A+B+C"} <= set(hovers(picture))
    lines = [patch for patch in picture.figure.axes[0].patches if patch.get_linestyle() != "solid"]
    assert len([line for line in lines if type(line).__name__ == "FancyArrowPatch"]) == 3
    assert picture.title == "Alignment: A at h12, B+C at h13, A+B+C at h22"


def test_every_cell_of_a_map_says_its_value_and_its_interval(scans):
    picture = scans["A"].heatmap(scans["B"], scans["C"])
    said = hovers(picture)
    assert len(said) == 18
    assert said[1] == "h12: IIA 1.00, [0.93, 1.00]; complete mediator; full 50, part 0, none 0 of 50 pairs"
    assert said[0] == "h11: IIA 0.00, [0.00, 0.07]; inert (certified); full 0, part 0, none 50 of 50 pairs"
    svg = picture.svg()
    for title in ("What carries A?", "What carries B?", "What carries C?"):
        assert title in svg
    assert svg.count("IIA 1.00, [0.93, 1.00]") == 6


def test_a_map_is_labelled_from_coordinates_whatever_the_order_of_the_sites(net):
    pairs = adder.pairs()["A"]
    sites = net.neurons("l1", "l2")
    plain, mixed = (ip.scan(net, pairs, those, ip.matches) for those in (sites, sites[::-1]))
    assert plain.heatmap().svg() == mixed.heatmap().svg()


def test_low_cells_hold_their_number_alone():
    layers = [torch.nn.Linear(1, 1, bias=False) for _ in range(13)]
    for layer in layers:
        torch.nn.init.ones_(layer.weight)
    tall = ip.Network(torch.nn.Sequential(*layers))
    places = [replace(tall.site(str(k), units=0), coordinates=(("layer", k, k), ("unit", 0, 0))) for k in range(13)]
    with pytest.warns(errors.NoEffect):
        found = ip.scan(tall, ip.Pairs(torch.ones(1, 1), torch.zeros(1, 1)), places, ip.value)
    assert {text.get_text() for text in found.heatmap().figure.axes[0].texts} == {"1.00"}


def test_what_was_not_measured_is_hatched_and_has_no_colour(net):
    found = ip.scan(net, adder.pairs()["A"], [*net.neurons("l1"), *net.neurons("l3")], ip.matches)
    picture = found.heatmap()
    cells = {cell.get_gid(): cell for cell in picture.figure.axes[0].patches if cell.get_gid()}
    missing = [gid for gid, cell in cells.items() if cell.get_hatch()]
    assert missing == ["cell-0-1-1", "cell-0-1-2"] and all(picture.hover[gid] == "not measured" for gid in missing)
    assert all(cells[gid].get_facecolor() == (1, 1, 1, 1) for gid in missing)
    assert "hatched: no such cell was measured" in picture.svg()


def test_the_scale_is_centred_at_zero_and_shared_by_panels():
    panel = lambda values: Panel("t", np.array([values]), ["r"], ["0", "1"], "row", "column", [["", ""]], [["", ""]])
    picture = heatmap([panel([-0.5, 0.0]), panel([2.0, 1.0])], quantity="effect")
    faces = [cell.get_facecolor() for ax in picture.figure.axes[:2] for cell in ax.patches if cell.get_gid()]
    scale = colours()
    expected = [scale(0.5 + value / 4) for value in (-0.5, 0.0, 2.0, 1.0)]
    np.testing.assert_allclose(faces, expected)
    assert scale(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)


def test_layers_go_up_and_neighbours_stay_close():
    at = layered({"A": (), "B": (), "C": (), "S": ("B", "C"), "Y": ("A", "S")})
    assert at["A"][1] == at["B"][1] < at["S"][1] < at["Y"][1]
    crossing = layered({"a": (), "b": (), "x": ("b",), "y": ("a",)})
    assert (crossing["a"][0] < crossing["b"][0]) == (crossing["y"][0] < crossing["x"][0])


def arrows(picture):
    return [patch for patch in picture.figure.axes[0].patches if type(patch).__name__ == "FancyArrowPatch"]


@pytest.mark.parametrize(
    "model",
    [
        ip.CausalModel(
            A=ip.Variable(),
            B=ip.Variable(lambda A: A),
            C=ip.Variable(lambda B: B),
            D=ip.Variable(lambda C, A: C + A),
            E=ip.Variable(lambda D, A, B: D + A + B),
        ),
        ip.Network(seeded(Residual), inputs="ABCD"),
        adder.hypothesis(),
    ],
)
def test_an_edge_goes_round_the_nodes_between_its_ends(model):
    """A straight one from the first of a chain to the last would hide behind those between, as if it were not there."""
    picture = ip.draw(model)
    circles = [patch for patch in picture.figure.axes[0].patches if patch.get_gid()]
    graph = model if isinstance(model, ip.CausalModel) else model.as_causal_model()
    edges = sum(len(variable.parents) for variable in graph.variables.values())
    assert len(arrows(picture)) == edges and len(circles) == len(graph.variables)
    for arrow in arrows(picture):
        (line, *_), _ = arrow._get_path_in_displaycoord()
        way = arrow.axes.transData.inverted().transform(line.interpolated(50).vertices)
        ends = sorted(circles, key=lambda circle: min(np.hypot(*(way[[0, -1]] - circle.center).T)))[:2]
        rows = sorted(circle.center[1] for circle in ends)
        for circle in circles:
            if rows[0] < circle.center[1] < rows[1]:
                assert np.hypot(*(way - circle.center).T).min() > circle.radius


def test_names_and_titles_that_stand_side_by_side_do_not_overlap():
    inputs = ("temperature", "pressure", "relative humidity", "wind speed at noon")
    net = ip.Network(seeded(lambda: mlp(4, 5, 2)), inputs=inputs)
    named = ip.Network(net.module, inputs=inputs, names={f"hidden neuron {k}": f"0[{k}]" for k in range(5)})
    narrow = ip.CausalModel({"a long name": ip.Variable(), "Y": ip.Variable(lambda x: x, parents=("a long name",))})
    source = {"a long name": "another"}
    for picture in (
        ip.draw_interchange(named, [1, 2, 3, 4], {"hidden neuron 1": [4, 3, 2, 1]}),
        ip.draw_interchange(narrow, {"a long name": "value"}, {"Y": source, "a long name": {"a long name": "third"}}),
    ):
        renderer = FigureCanvasAgg(picture.figure).get_renderer()
        boxes = [text.get_window_extent(renderer) for text in picture.figure.axes[0].texts if text.get_text()]
        assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8.1, "8.1"),
        (-0.271, "-0.271"),
        (10.0039, "10"),
        (-83732194.0, "-8.4e+07"),
        (1553000000.0, "1.55e+09"),
        (-0.0008373, "-0.00084"),
        (-1.234e-105, "-1e-105"),
        ("a long word", "a long …"),
    ],
)
def test_a_value_in_a_node_loses_digits_and_never_its_exponent(value, shown):
    model = ip.CausalModel(A=ip.Variable(), Y=ip.Variable(lambda A: A))
    assert [text.get_text() for text in ip.draw(model, {"A": value}).figure.axes[0].texts].count(shown) == 2


# -- what a picture is ---------------------------------------------------------------------------------------


def test_a_picture_shows_itself_as_png_and_never_as_html(net):
    bundle = ip.draw(net)._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/plain"} and bundle["image/png"].startswith(b"\x89PNG")


def test_the_same_picture_has_the_same_bytes_in_every_process(net):
    program = (
        "import hashlib, interpose as ip; from interpose.tasks import adder;"
        "p = ip.draw_interchange(adder.network(), [1, 2, 3], {'h12': [4, 2, 3]});"
        "print(hashlib.sha256(p.svg().encode()).hexdigest(), hashlib.sha256(p.png()).hexdigest(), p.svg() == p.svg())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout and runs[0].stdout.endswith(b"True\n")


@pytest.mark.parametrize(
    ("suffix", "start"), [(".svg", b"<svg"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".html", b"<!doctype html>")]
)
def test_a_picture_saves_in_every_form(net, tmp_path, suffix, start):
    path = ip.draw(net, BASE).save(tmp_path / "new folder" / f"picture{suffix}")
    assert path.read_bytes().startswith(start)


def test_an_unknown_form_is_an_error_and_leaves_no_file(net, tmp_path):
    with pytest.raises(
        errors.WrongInput, match=re.escape("picture.gif ends in '.gif'. A picture saves as .svg, .png, .pdf or .html.")
    ):
        ip.draw(net).save(tmp_path / "picture.gif")
    assert not list(tmp_path.iterdir())


def test_svg_is_well_formed_keeps_text_as_text_and_carries_titles(net):
    root = ElementTree.fromstring(ip.draw(net, BASE).svg())
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "Adder on A = 1, B = 2, C = 3" and "h12 = 8.1 (base value)" in titles
    assert "h12" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_words_from_users_cannot_become_markup():
    model = ip.CausalModel({"<script>": ip.Variable(), "Y": ip.Variable(lambda x: x, parents=("<script>",))})
    page = ip.draw(model, {"<script>": "</text><b>"}).html()
    assert "<script>" not in page and "</text><b>" not in page


def test_no_window_toolkit_is_loaded():
    program = (
        "import sys, interpose as ip; from interpose.tasks import adder; ip.draw(adder.network()).png();"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], env={"PATH": ""}, capture_output=True, check=True)
    assert out.stdout == b"False\n"


def test_a_map_of_one_axis_is_a_row_and_maps_of_unlike_metrics_share_no_scale(net, scans):
    row = ip.scan(net, adder.pairs()["A"], ["h12", "h13", "h22"], ip.matches)
    assert [text.get_text() for text in row.heatmap().figure.axes[0].get_xticklabels()] == ["h12", "h13", "h22"]
    assert len(row.heatmap().hover) == 3
    other = ip.scan(net, adder.pairs()["A"], net.neurons("l1"), ip.value)
    with pytest.raises(errors.WrongMetric, match="Maps of matches and of value do not share one scale"):
        scans["A"].heatmap(other)


def test_a_layer_takes_a_function_of_the_layer_as_in_a_run(net):
    write = {"l1": lambda old: old.flip(-1)}
    said = hovers(ip.draw(net, BASE, write=write))
    values = net.run([BASE], read=["l1"], write=write)["l1"][0].tolist()
    assert {f"h1{k + 1} = {value:.6g} (source input)" for k, value in enumerate(values)} <= set(said)
    (drawn,) = [text.split()[2] for text in said if text.startswith("Y = ")]
    assert float(drawn) == pytest.approx(net.run([BASE], write=write).output.item(), abs=1e-4)


@pytest.mark.parametrize("source", [[4, 2, 3], (4, 2, 3), {"A": 4, "B": 2, "C": 3}, torch.tensor([4.0, 2.0, 3.0])])
def test_a_source_is_drawn_in_any_form_of_an_input(net, source):
    assert "Y = 9 (counterfactual value)" in hovers(ip.draw_interchange(net, BASE, {"h12": source}))


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda net: ip.draw(net, [1, 2]), errors.WrongShape, "An input holds 3 values, A, B, C; this one 2."),
        (lambda net: ip.draw(net, [[1, 2, 3]] * 3), errors.WrongShape, "A picture shows one input"),
        (lambda net: ip.draw_circuit(net, {"D": ["h12"]}), errors.UnknownPlace, "The graph has no input 'D'."),
        (lambda net: ip.draw_circuit(net, {"A": ["h99"]}), errors.UnknownPlace, "has no module 'h99'"),
        (lambda net: ip.draw_interchange(net, BASE, {"h12": ([4, 2, 3], "l2")}), errors.WrongShape, "h12 has 1 units"),
    ],
)
def test_what_cannot_be_drawn_is_said(net, act, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        act(net)


def test_a_place_between_the_layers_is_no_node():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    with pytest.raises(errors.UnknownPlace, match=re.escape("1[0] is no node of the picture: it shows inputs and")):
        ip.draw_interchange(ip.Network(module, inputs="AB"), [1, 2], {"1": [3, 4]})


def test_dollars_and_control_characters_are_drawn_as_they_are():
    model = ip.CausalModel(price=ip.Variable(), Y=ip.Variable(lambda price: price))
    svg = ip.draw(model, {"price": "$x$\x07"}).svg()
    assert "$x$" in svg and "\x07" not in svg and ElementTree.fromstring(svg) is not None


def test_the_arrow_of_an_interchange_points_from_the_source_into_the_base(net, monkeypatch):
    drawn = {}
    monkeypatch.setattr(drawing, "draw_graphs", lambda panels, **parts: drawn.update(parts, panels=panels))
    ip.draw_interchange(net, BASE, {"h12": SOURCE, "h13": [1, 5, 5], "A": SOURCE})
    assert [panel.title.split()[0] for panel in drawn["panels"]] == ["base", "source", "source"]
    assert [(link.start, link.end, link.arrow) for link in drawn["links"]] == [
        ((1, "h12"), (0, "h12"), True),
        ((2, "h13"), (0, "h13"), True),
        ((1, "A"), (0, "A"), True),
    ]


def test_what_was_measured_and_has_no_value_is_dotted_and_not_called_unmeasured(net):
    pairs = ip.Pairs([[1, 2, 3]] * 3, [[4, 2, 3]] * 3, targets=[6.0] * 3)  # the base run gives the target untouched
    picture = ip.scan(net, pairs, net.neurons("l1", "l2"), ip.matches).heatmap()
    assert {cell.get_hatch() for cell in picture.figure.axes[0].patches if cell.get_gid()} == {"...."}
    svg = picture.svg()
    assert "dotted: undefined" in svg and "no such cell" not in svg


def test_a_map_shows_either_direction():
    """An input of an OR is seen when it is put back, and not when it is taken away."""
    pairs = ip.Pairs([{"P": 1, "Q": 1}] * 30, [{"P": 0, "Q": 0}] * 30, independent=True)
    found = ip.scan(OR, pairs, ["p", "q", "Y"], ip.value)
    assert "p: recovery 0.00" in str(hovers(found.heatmap())) and "p: recovery of TIE 1.00" in str(
        hovers(found.heatmap(effect="tie"))
    )
    with pytest.raises(errors.UnknownPlace, match="A map shows 'nie' or 'tie', not 'te'"):
        found.heatmap(effect="te")


def test_a_circuit_needs_to_know_what_mediates_what(net, scans):
    with pytest.raises(errors.WrongInput, match="A circuit is drawn from a dict of what mediates what"):
        ip.draw_circuit(net, scans["A"])
    with pytest.raises(errors.WrongInput, match=re.escape("mediators['A'] is one place, 'h12'")):
        ip.draw_circuit(net, {"A": "h12"})
