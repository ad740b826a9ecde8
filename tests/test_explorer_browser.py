"""Figures to try out, in a browser: what is shown is what Python computes, by mouse, by keyboard, on any screen."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

import interpose as ip
from interpose.drawing import classify, full, graph_of, short
from interpose.reports.abstraction import abstraction
from interpose.reports.explorer import explorer
from interpose.tasks import adder

from known import OR, Residual, seeded

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome to look with"),
    pytest.mark.xdist_group("browser"),
]
SCRIPTS = Path(ip.__file__).parent / "reports"
BASE, SOURCE = [1, 2, 3], [4, 2, 3]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open a page with a widget; at the end nothing was asked of any server and nothing went wrong."""
    contexts, wrong = [], []

    def open_page(widget, *, width=1000, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.set_content(written(widget))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def written(widget):
    """A page with one widget: the least that the scripts are promised."""
    data = json.dumps(widget.data, allow_nan=False).replace("<", "\\u003c")
    names = (*widget.needs, widget.kind)
    scripts = "".join(f"<script>{(SCRIPTS / f'{name}.js').read_text()}</script>" for name in names)
    figure = f'<script type="application/json">{data}</script>{widget.still}'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>'
        '<meta name="viewport" content="width=device-width"></head><body style="margin: 8px">'
        f'<figure class="widget" style="margin: 0">{figure}</figure>'
        f"<script>window.interpose = {{widgets: {{}}}};</script>{scripts}<script>"
        'const figure = document.querySelector("figure");'
        f"interpose.widgets.{widget.kind}(figure, JSON.parse(figure.querySelector('script').textContent));"
        "</script></body></html>"
    )


class Reader:
    """A reader of the page: where nodes are, what they show, and what one does with them."""

    def __init__(self, page):
        self.page = page

    def shown(self):
        """[panel][node]: name, full value, kind, and the text in the circle."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.ip-canvas [role=group]')].map((panel) =>
            [...panel.querySelectorAll('.ip-node')].map((node) => ({
                name: node.querySelector('.ip-name').textContent, value: node.dataset.value, kind: node.dataset.kind,
                text: node.querySelector('.ip-value').textContent,
                was: node.querySelector('.ip-was:not(.ip-halo)').textContent })))"""
        )

    def text(self, panel, name):
        return next(node["text"] for node in self.shown()[panel] if node["name"] == name)

    def said(self):
        return self.page.locator(".ip-said").inner_text()

    def panel(self, panel):
        return self.page.locator(".ip-canvas [role=group]").nth(panel)

    def node(self, panel, name):
        nodes = self.panel(panel).locator(".ip-node")
        names = nodes.locator(".ip-name").all_text_contents()
        return nodes.nth(names.index(name))

    def circle(self, panel, name):
        return self.node(panel, name).locator("circle")

    def click(self, panel, name):
        self.circle(panel, name).click()

    def middle(self, panel, name):
        box = self.circle(panel, name).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, start, end, *, to=0, source=1):
        (x, y), (u, v) = self.middle(source, start), self.middle(to, end)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move((x + u) / 2, (y + v) / 2)
        self.page.mouse.move(u + 3, v - 3)
        self.page.mouse.up()

    def field(self, label):
        return self.page.get_by_label(label, exact=True)

    def put(self, label, value):
        field = self.field(label)
        if field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(label=str(value))
        else:
            field.fill(str(value))

    def chosen(self, name):
        """Choose a node of the base, once."""
        if "ip-chosen" not in self.node(0, name).get_attribute("class"):
            self.click(0, name)

    def force(self, name, value):
        self.chosen(name)
        self.put(f"Force {name} to", value)

    def release(self, name):
        self.chosen(name)
        self.page.get_by_role("button", name="Release").click()


class State:
    """What Python says of the same settings and interventions."""

    def __init__(self, model, base, sources):
        self.model, self.graph = model, graph_of(model)
        self.panels = [dict(zip(self.graph.inputs, setting, strict=True)) for setting in (base, *sources)]
        self.writes = {}

    def values(self):
        """[panel]: the value of every variable, as the model runs."""
        of_sources = [self.graph.run(setting).values for setting in self.panels[1:]]
        write = {
            name: of_sources[what[0] - 1][what[1]] if isinstance(what, tuple) else what
            for name, what in self.writes.items()
        }
        return [self.graph.run(self.panels[0], write=write).values, *of_sources]

    def check(self, reader, numbers):
        kinds = [classify(self.graph, self.writes), *[classify(self.graph, self.graph.inputs)] * (len(self.panels) - 1)]
        plain = self.graph.run(self.panels[0]).values
        for panel, values, those in zip(reader.shown(), self.values(), kinds, strict=True):
            for node in panel:
                value, before = values[node["name"]], plain[node["name"]]
                assert node["kind"] == those[node["name"]]
                if numbers:
                    assert float(node["value"]) == pytest.approx(value, rel=1e-12, abs=1e-13), node
                    assert node["text"] == ("0" if abs(value) < 1e-13 else short(float(value))), node
                else:
                    assert (node["value"], node["text"]) == (full(value), short(value))
                if node["was"]:
                    assert full(before) != full(value)
                    assert node["was"] == ("0" if numbers and abs(before) < 1e-13 else short(before))


def discovered():
    found = ip.discover(adder.network(), {name: range(4) for name in "ABC"})
    assert found.model is not None
    return found.model


def diamond():
    return ip.CausalModel(
        A=ip.Variable(range(5)),
        short=ip.Variable(lambda A: A + 1),
        one=ip.Variable(lambda A: 2 * A),
        two=ip.Variable(lambda one: one + 1, domain=range(12)),
        three=ip.Variable(lambda: 3),
        Y=ip.Variable(lambda short, two, three: short * two + three),
    )


def doubled():
    return ip.Network(adder.Adder().double(), inputs="ABC", names=adder.NAMES)


SUBJECTS = {
    "hypothesis": (adder.hypothesis, [1, 2, 3], [4, 5, 6]),
    "network": (doubled, [1.0, 2.0, 3.0], [4.0, 2.0, 3.0]),
    "residual": (lambda: ip.Network(seeded(Residual), inputs="ABCD"), [0.5, -1.0, 2.0, 0.0], [1.0, 1.0, -1.0, 3.0]),
    "diamond": (diamond, [1], [3]),
    "or": (lambda: OR, [0, 0], [1, 0]),
    "discovered": (discovered, [1, 2, 3], [3, 0, 1]),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_value_and_colour_is_pythons_whatever_the_reader_does(opened, name):
    build, base, source = SUBJECTS[name]
    model = build()
    state, draw = State(model, base, [source]), random.Random(7)
    graph = state.graph
    some = graph.order[-1]
    setting = dict(zip(graph.inputs, base, strict=True))
    widget = explorer(model, setting, {some: dict(zip(graph.inputs, source, strict=True))})
    reader, numbers = Reader(opened(widget, height=1400)), widget.data["numbers"]
    state.writes[some] = (1, some)
    state.check(reader, numbers)
    codes = widget.data["graph"]["nodes"]
    choices = lambda name: [
        widget.data["values"][code] for code in next(node for node in codes if node["name"] == name)["levels"]
    ]
    for _ in range(40):
        act, variable = draw.choice(["input", "force", "take", "take", "drop"]), draw.choice(graph.order)
        if act == "input":
            variable, panel = draw.choice(graph.inputs), draw.randrange(2)
            value = round(draw.uniform(-9, 9), 2) if numbers else draw.choice(choices(variable))["number"]
            reader.put(f"{variable} of the {('base', 'source')[panel]}", value)
            state.panels[panel][variable] = value
        elif act == "force" and variable not in graph.inputs:
            value = round(draw.uniform(-9, 9), 2) if numbers else draw.choice(choices(variable))["number"]
            reader.force(variable, value)
            state.writes[variable] = value
        elif act == "take":
            reader.drag(variable, variable)
            state.writes[variable] = (1, variable)
        elif act == "drop" and variable in state.writes:
            reader.release(variable)
            del state.writes[variable]
        state.check(reader, numbers)


def test_the_page_agrees_with_the_network_itself_in_its_own_precision(opened):
    net = adder.network()
    reader = Reader(opened(explorer(net, BASE, {"h12": SOURCE})))
    names = [node["name"] for node in reader.shown()[0]]
    assert names == ["A", "B", "C", *adder.NAMES]
    with torch.no_grad():
        run = net.run(BASE, read=list(adder.NAMES), write={"h12": net.run(SOURCE, read=["h12"])["h12"]})
    for node in reader.shown()[0][3:]:
        assert float(node["value"]) == pytest.approx(run[node["name"]].item(), rel=1e-6)
    assert reader.said() == "h12 is taken from the source (20.1 instead of 8.1): the output becomes 9 instead of 6."


def test_numbers_are_written_as_python_writes_them(opened):
    page = opened(explorer(adder.network(), BASE))
    draw = random.Random(0)
    values = [
        0.0,
        12.125,
        12.375,
        0.00012345,
        0.0000123455,
        99995.0,
        99999.5,
        1e15,
        1e22,
        123456.5,
        1234565.0,
        2.5,
        0.5,
    ]
    values += [draw.uniform(-1, 1) * 10 ** draw.randint(-9, 18) for _ in range(500)]
    values += [draw.randint(1, 99999) / 2 ** draw.randint(0, 8) for _ in range(500)]
    values += [-value for value in values[1:]]
    said = page.evaluate("values => values.map(v => [interpose.graph.short(v), interpose.graph.full(v)])", values)
    assert said == [[short(value), full(value)] for value in values]


# -- by mouse, by keyboard ----------------------------------------------------------------------------


def test_a_value_is_dragged_from_the_source_onto_the_base(opened):
    reader = Reader(opened(explorer(adder.network(), BASE, {"A": BASE})))
    reader.put("A of the source", 4)
    reader.release("A")
    assert reader.said() == "Nothing is intervened on: the output is 6."
    reader.drag("h12", "h12")
    assert reader.said() == "h12 is taken from the source (20.1 instead of 8.1): the output becomes 9 instead of 6."
    assert reader.page.locator(".ip-taken").count() == 1
    reader.put("A of the source", 2)  # what is taken follows its source
    assert reader.said() == "h12 is taken from the source (12.1 instead of 8.1): the output becomes 7 instead of 6."
    reader.drag("h11", "h23")
    assert "h23 is taken from h11 of the source (12.19 instead of -0.271)" in reader.said()


def test_a_drag_into_the_void_or_given_up_changes_nothing(opened):
    reader = Reader(opened(explorer(adder.network(), BASE, {"h12": SOURCE})))
    before = reader.shown()
    reader.drag("h13", "Y", to=1)
    assert reader.shown() == before
    x, y = reader.middle(1, "h13")
    reader.page.mouse.move(x, y)
    reader.page.mouse.down()
    reader.page.mouse.move(5, 5)
    reader.page.mouse.up()
    assert reader.shown() == before and reader.page.locator(".ip-ghost, .ip-open, .ip-over").count() == 0


def test_the_keyboard_does_the_same(opened):
    page = opened(explorer(adder.network(), BASE, {"h12": SOURCE}))
    reader, keys = Reader(page), page.keyboard
    reader.node(0, "h12").focus()
    keys.press("Delete")
    assert reader.said() == "Nothing is intervened on: the output is 6."
    reader.node(1, "A").focus()
    keys.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "h11 = 14.79 (source value)"
    keys.press("ArrowRight")
    keys.press("Enter")  # takes h12 in hand, and goes to h12 of the base
    assert "in hand" in page.locator(".ip-bar").inner_text()
    keys.press("Enter")
    assert reader.said() == "h12 is taken from the source (20.1 instead of 8.1): the output becomes 9 instead of 6."
    keys.press("Backspace")
    reader.node(0, "h23").focus()
    keys.press("Enter")  # goes to the field that forces it
    keys.press("ControlOrMeta+a")
    keys.type("-100")
    assert reader.said() == "h23 is forced to -100 instead of -0.271: the output stays 6."
    reader.node(1, "h22").focus()
    keys.press(" ")
    keys.press("Escape")
    assert "in hand" not in page.locator(".ip-bar").inner_text()
    assert reader.said() == "h23 is forced to -100 instead of -0.271: the output stays 6."


def test_a_screen_reader_presses_a_node_without_a_pointer(opened):
    reader = Reader(opened(explorer(adder.network(), BASE, {"h12": SOURCE})))
    press = "node => node.dispatchEvent(new MouseEvent('click', {bubbles: true, detail: 0}))"
    reader.node(1, "A").evaluate(press)
    reader.node(0, "A").evaluate(press)
    assert "A is taken from the source (4 instead of 1)" in reader.said()


def test_values_to_choose_from_are_all_that_an_input_takes(opened):
    reader = Reader(opened(explorer(adder.network(), BASE, domains={"A": range(4), "B": (2, 3, 5)})))
    reader.put("A of the base", 3)
    reader.put("A of the base", 4)
    reader.put("B of the base", "5")
    assert (reader.text(0, "A"), reader.text(0, "B"), reader.text(0, "Y")) == ("3", "5", "11")
    assert reader.field("A of the base").get_attribute("aria-invalid") == "true"


def test_every_control_is_reached_by_tab_and_has_a_name(opened):
    page = opened(explorer(adder.hypothesis(), {"A": 1, "B": 2, "C": 3}, {"B+C": {"A": 4, "B": 5, "C": 6}}))
    named = []
    for _ in range(12):
        page.keyboard.press("Tab")
        named.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")
        )
    assert named[:2] == ["A = 1 (base input)", "A = 4 (source input)"]
    assert named[2:8] == [f"{name} of the {panel}" for panel in ("base", "source") for name in "ABC"]
    assert named[8] == "Reset"


def test_tapping_does_what_dragging_does(opened):
    widget = explorer(adder.network(), BASE, {"h12": SOURCE})
    page = opened(widget, width=375, height=800, has_touch=True, is_mobile=True)
    reader = Reader(page)
    reader.circle(1, "A").tap()
    reader.circle(0, "A").tap()
    assert reader.said().startswith("h12 is taken from the source (20.1 instead of 8.1) and A is taken from the source")
    reader.circle(1, "h13").tap()
    page.get_by_role("button", name="Put into h13").tap()
    assert "h13 is taken from the source (12.3, as before)" in reader.said()


# -- what is said, and what cannot be --------------------------------------------------------------------


def test_on_a_phone_what_can_be_done_with_a_node_is_in_sight_where_it_is_tapped(opened):
    page = opened(
        explorer(adder.network(), BASE, {"h12": SOURCE}), width=390, height=700, has_touch=True, is_mobile=True
    )
    for name in ("Y", "h13"):
        page.locator(f".ip-node:not(.ip-source)[aria-label^='{name} =']").locator("circle").tap()
        force = page.get_by_label(f"Force {name} to").bounding_box()
        assert force["y"] >= 0 and force["y"] + force["height"] <= 700, name


def test_a_sentence_has_room_for_whole_words(opened):
    spoken = {"Paris": "French", "Oslo": "Norwegian"}
    model = ip.CausalModel(city=ip.Variable(list(spoken)), tongue=ip.Variable(lambda city: spoken[city]))
    reader = Reader(opened(explorer(model, {"city": "Paris"}, {"city": {"city": "Oslo"}})))
    assert reader.text(0, "tongue") == "Norwegi…"
    assert reader.said() == (
        "city is taken from the source (Oslo instead of Paris): the output becomes Norwegian instead of French."
    )


def test_several_sources_and_outputs_are_told_apart(opened):
    up, down = ip.Variable(lambda A, B: A + B), ip.Variable(lambda B: -B)
    model = ip.CausalModel(A=ip.Variable(range(9)), B=ip.Variable(range(9)), up=up, down=down)
    one, two = {"A": 5, "B": 2}, {"A": 0, "B": 7}
    reader = Reader(opened(explorer(model, {"A": 1, "B": 2}, {"A": one, "B": two}), width=1400))
    assert reader.said() == (
        "A is taken from source 1 (5 instead of 1) and B is taken from source 2 (7 instead of 2): "
        "up becomes 12 instead of 3 and down becomes -7 instead of -2."
    )
    reader.release("B")
    reader.drag("B", "B", source=1)
    assert reader.said() == (
        "A is taken from source 1 (5 instead of 1) and B is taken from source 1 (2, as before): "
        "up becomes 7 instead of 3 and down stays -2."
    )


def test_reset_goes_back_to_how_the_page_opened(opened):
    reader = Reader(opened(explorer(adder.network(), BASE, write={"h23": -100})))
    before, said = reader.shown(), reader.said()
    assert said == "h23 is forced to -100 instead of -0.271: the output stays 6."
    reader.put("A of the base", 7)
    reader.force("h22", 1)
    reader.page.get_by_role("button", name="Compare with a source").click()
    reader.put("B of the source", 9)
    reader.drag("h13", "h13")
    assert len(reader.shown()) == 2 and reader.said() != said
    reader.page.get_by_role("button", name="Reset").click()
    assert (reader.shown(), reader.said()) == (before, said)


def test_what_is_no_value_changes_nothing_and_is_marked(opened):
    reader = Reader(opened(explorer(adder.hypothesis(), {"A": 1, "B": 2, "C": 3})))
    for wrong in ("", "11", "2.5"):
        reader.put("A of the base", wrong)
        assert reader.field("A of the base").get_attribute("aria-invalid") == "true"
        assert reader.text(0, "A") == "1"
    reader.put("A of the base", 9)
    assert reader.field("A of the base").get_attribute("aria-invalid") == "false"
    assert reader.text(0, "A+B+C") == "14"


def test_a_value_that_a_node_cannot_take_is_not_dropped_there(opened):
    setting = {"A": 1, "B": 2, "C": 3}
    reader = Reader(opened(explorer(adder.hypothesis(), setting, {"B+C": {"A": 4, "B": 9, "C": 9}})))
    reader.drag("A+B+C", "A")  # 22 is no digit
    assert reader.text(0, "A") == "1"
    reader.drag("A", "B+C")
    assert reader.said().startswith("B+C is taken from A of the source (4 instead of 5): the output becomes 5")


def test_what_has_no_value_is_said_to_have_none(opened):
    few, copy = ip.Variable(lambda A: A * A, domain=range(5)), ip.Variable(lambda Y: Y)
    model = ip.CausalModel(A=ip.Variable(range(4)), Y=few, Z=copy)
    reader = Reader(opened(explorer(model, {"A": 2})))
    reader.put("A of the base", 3)
    assert reader.shown()[0][1]["value"] == "no value" and reader.text(0, "Z") == "?"


def test_names_and_values_are_text_and_nothing_else(opened):
    evil = "<img src=x onerror=alert(1)>"
    model = ip.CausalModel(
        {
            evil: ip.Variable([evil, "</script><script>alert(2)</script>", "b"]),
            '"><svg onload=alert(3)>': ip.Variable(lambda x: x, parents=(evil,)),
        }
    )
    page = opened(explorer(model, {evil: evil}, {evil: {evil: "b"}}))
    reader = Reader(page)
    reader.click(0, '"><svg onload=alert(3)>')
    reader.force('"><svg onload=alert(3)>', "</script><script>alert(2)</script>")
    reader.drag(evil, '"><svg onload=alert(3)>')
    assert reader.said().startswith(f"{evil} is taken from the source")
    for panel in (0, 1):
        for node in page.locator(".ip-canvas [role=group]").nth(panel).locator(".ip-node circle").all():
            node.click()
            assert page.locator("img, .ip-live script, .ip-live svg svg, .ip-bar svg").count() == 0


# -- on any screen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: explorer(adder.network(), BASE, {"h12": SOURCE}), lambda: abstraction(adder.network(), adder.alignment()),
])  # fmt: skip
def test_a_phone_scrolls_down_and_never_sideways(opened, make):
    page = opened(make(), width=375, height=700, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    boxes = [circle.bounding_box() for circle in page.locator(".ip-node circle").all()]
    assert min(box["x"] for box in boxes) >= 0 and max(box["x"] + box["width"] for box in boxes) <= 375
    assert min(box["width"] for box in boxes) > 34


def test_print_shows_the_still_picture_and_the_screen_the_live_one(opened):
    page = opened(explorer(adder.network(), BASE, {"h12": SOURCE}))
    still, live = page.locator("figure > svg"), page.locator(".ip-live")
    assert live.is_visible() and not still.is_visible()
    page.emulate_media(media="print")
    assert still.is_visible() and not live.is_visible()


def test_dark_and_light_have_inks_of_their_own(opened):
    inks = set()
    for scheme in ("light", "dark"):
        page = opened(explorer(adder.network(), BASE), color_scheme=scheme)
        inks.add(page.evaluate("getComputedStyle(document.querySelector('.ip-name')).fill"))
    assert len(inks) == 2


# -- abstractions ---------------------------------------------------------------------------------------------


def lit(page):
    return page.locator(".ip-node:not(.ip-away) .ip-name").all_text_contents()


def test_pointing_at_a_variable_shows_its_neurons_and_its_rule(opened):
    page = opened(abstraction(adder.network(), adder.alignment()))
    reader = Reader(page)
    hint = reader.said()
    reader.circle(1, "A").hover()
    assert reader.said() == "h12 holds A: h12 = 4 A + 4.1, exact." and lit(page) == ["A", "h12", "A"]
    page.mouse.move(2, 2)
    assert reader.said() == hint and len(lit(page)) == 15
    reader.node(0, "h13").focus()
    assert reader.said() == "h13 holds B+C: h13 = 2 (B+C) + 2.3, exact." and lit(page) == ["h13", "B+C"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert reader.said() == "h11 holds no variable of the claim." and lit(page) == ["h11"]
    reader.circle(1, "B").hover()
    assert reader.said() == "B is an input of both." and lit(page) == ["B", "B"]
    page.locator(".ip-rules button").nth(2).hover()
    assert lit(page) == ["h22", "A+B+C"]


def test_what_was_discovered_says_why_a_neuron_holds_nothing(opened):
    page = opened(abstraction(ip.discover(adder.network(), {name: range(4) for name in "ABC"})))
    reader = Reader(page)
    reader.circle(0, "h23").hover()
    assert reader.said().startswith("h23 holds no variable. Constant: every path from the input meets a weight")
    reader.circle(1, "Y").hover()
    assert reader.said() == "Y is the output."
