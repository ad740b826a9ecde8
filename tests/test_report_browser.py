"""A page of results in a browser: it asks for nothing, sorts, keeps, opens cells, and takes no text for markup."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

import interpose as ip
from interpose.reports import kinds
from interpose.reports.page import page as page_of
from interpose.tables import Table
from interpose.tasks import adder
from pages import flow, scans
from test_report import evil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed"),
    pytest.mark.xdist_group("browser"),
]

ROWS = (("b", "-0.5", "[0.30, 0.40]"), ("a10", "12", "[-1.00, 2.00]"), ("a9", "", "-"), ("=cmd()", "1e-3", "constant"))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def maps():
    return scans(n=12)


@pytest.fixture(scope="module")
def files(maps, tmp_path_factory):
    """Pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    net = adder.network()
    values = {name: replace(scan, binary=False, metric="value") for name, scan in maps.items()}
    table = Table("Some rows", ("name", "number", "interval"), ROWS)
    many = Table("Many rows", ("n",), tuple((str(i),) for i in range(50)))
    ways = ip.interchange_accuracy(net, adder.alignment(), n=20)
    return {
        "adder": ip.report(folder / "adder.html", maps, ways, ip.draw(net, [1, 2, 3]), adder.hypothesis()),
        "table": ip.report(folder / "table.html", table, many),
        "flow": ip.report(folder / "flow.html", flow(), replace(flow(seed=1), binary=False), *values.values()),
        "evil": ip.report(folder / "evil.html", *evil(), title="x" * 300),
    }


@pytest.fixture
def opened(browser, files):
    """A function that opens a page, and sees to it that nothing was asked for and nothing went wrong."""
    contexts, trouble = [], []

    def open_page(name, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        url = files[name].as_uri()
        page.on("request", lambda asked: asked.url == url or asked.url.startswith("blob:") or trouble.append(asked.url))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def cell(page, k, row, column, figure=0):
    return page.locator("figure[data-kind=heatmap]").nth(figure).locator(f'[id$="-cell-{k}-{row}-{column}"]')


def panel_rows(page):
    rows = page.locator(".panel tbody tr").all()
    return [[part.replace("−", "-") for part in row.locator("th, td").all_inner_texts()] for row in rows]


@pytest.mark.parametrize("name", ["adder", "table", "flow", "evil"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_page_opens_without_a_request_or_an_error_and_never_scrolls_sideways(opened, name, width):
    page = opened(name, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure.widget").count() > 0
    for table in page.locator("figure[data-kind=table]").all():
        assert table.locator("th button").count() > 0 and table.locator(".tools button").count() > 0


def test_a_click_on_a_head_sorts_and_another_one_turns_it_round(opened):
    page = opened("table")
    table = page.locator("table").first

    def names():
        return table.locator("tbody th").all_inner_texts()

    table.get_by_role("button", name="number").click()
    assert names() == ["b", "=cmd()", "a10", "a9"]
    heads = table.locator("thead th")
    assert heads.nth(1).get_attribute("aria-sort") == "ascending" and heads.nth(0).get_attribute("aria-sort") is None
    table.get_by_role("button", name="number").click()
    assert names() == ["a10", "=cmd()", "b", "a9"] and heads.nth(1).get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="name").focus()
    page.keyboard.press("Enter")
    assert names() == ["=cmd()", "a9", "a10", "b"]


def test_long_tables_are_folded_until_asked_for_and_sorted_as_a_whole(opened):
    page = opened("table")
    table = page.locator("figure[data-kind=table]").nth(1)
    rows = table.locator("tbody tr:visible")
    assert rows.count() == 20
    table.get_by_role("button", name="n", exact=True).click()
    table.get_by_role("button", name="n", exact=True).click()
    assert rows.first.inner_text() == "49" and rows.count() == 20
    more = table.get_by_role("button", name="Show all 50 rows")
    assert more.get_attribute("aria-expanded") == "false"
    more.click()
    assert rows.count() == 50


def downloaded(page, button):
    with page.expect_download() as waiting:
        button.click()
    with waiting.value.path().open(encoding="utf-8-sig", newline="") as file:
        return waiting.value.suggested_filename, list(csv.reader(file))


def test_a_table_is_kept_as_csv_and_no_cell_as_a_formula(opened):
    page = opened("table")
    page.locator("table").first.get_by_role("button", name="name").click()  # what is kept is in the order it came in
    name, rows = downloaded(page, page.get_by_role("button", name="Download as CSV").first)
    assert name == "table.csv" and rows[0] == ["name", "number", "interval"]
    assert rows[1:] == [[cell.replace("=", "'=") for cell in row] for row in ROWS]


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1", "|calc", "%0A"]


def test_what_a_spreadsheet_would_compute_is_text(opened):
    page = opened("table")
    for text in FORMULAS:
        assert page.evaluate("text => interpose.csv([[text]])", text).lstrip('"').startswith("'"), text
    for text in ["-0.5", "+3", "1e-5", "-", "[0.1, 0.2]", "a=b", ""]:
        assert "'" not in page.evaluate("text => interpose.csv([[text]])", text), text
    assert page.evaluate("interpose.csv([['a\"b', 'c,d', 'e\\nf']])") == '"a""b","c,d","e\nf"\r\n'


@pytest.mark.parametrize(
    ("k", "name", "row", "column", "place"), [(0, "A", 0, 1, "h12"), (1, "B", 0, 2, "h13"), (2, "C", 1, 0, "h21")]
)
def test_a_click_on_a_cell_opens_its_pairs(opened, maps, k, name, row, column, place):
    page = opened("adder")
    cell(page, k, row, column).click()
    panel = page.locator(".panel")
    assert panel.locator("h4").inner_text() == f"{place}, for {name}"
    judgement = maps[name].judgements()[maps[name].column(place)]
    assert panel.inner_text().count(judgement.role) == 1 and judgement.verdict in panel.inner_text().lower()
    data = maps.data.sel(variable=name, layer="l1" if row == 0 else "l2", unit=column)
    rows = panel_rows(page)
    assert [row[0] for row in rows] == [str(i) for i in range(12)]
    shown = np.array([row[3:] for row in rows], float)
    np.testing.assert_array_equal(shown, np.stack([data[run].values for run in ("ybb", "yss", "ybs", "ysb")], 1))
    assert cell(page, k, row, column).get_attribute("aria-pressed") == "true"


def test_the_numbers_of_a_cell_are_pythons_to_four_digits(opened):
    page, scan = opened("flow"), flow()
    cell(page, 0, 3, 2).click()
    column = scan.column("layer 3 @ 2")
    runs = np.stack([scan.ybb, scan.yss, scan.ybs[:, column], scan.ysb[:, column]], 1)
    np.testing.assert_allclose(np.array([row[3:] for row in panel_rows(page)], float), runs, rtol=5.1e-4)
    assert [row[1:3] for row in panel_rows(page)] == [
        list(pair) for pair in zip(scan.pairs.base, scan.pairs.source, strict=True)
    ]
    name, rows = downloaded(page, page.get_by_role("button", name="Download these pairs as CSV"))
    assert name == "pairs-layer-3-2.csv" and rows[0] == [
        "of",
        "place",
        "pair",
        "base",
        "source",
        "Ybb",
        "Yss",
        "Ybs",
        "Ysb",
    ]
    np.testing.assert_allclose(np.array([row[5:] for row in rows[1:]], float), runs, rtol=1e-5)
    _, rows = downloaded(page, page.get_by_role("button", name="Download every cell as CSV"))
    assert len(rows) == 1 + scan.ybs.size
    kept = np.array([float(row[7]) for row in rows[1:]]).reshape(scan.ybs.T.shape)
    np.testing.assert_allclose(kept, scan.ybs.T, rtol=1e-5, atol=1e-9)


def test_the_keyboard_goes_from_cell_to_cell_and_opens_one(opened):
    page = opened("adder")
    cells = page.locator("figure[data-kind=heatmap] [role=button][tabindex='0'].cell")
    assert cells.count() == 1
    cells.focus()

    def here():
        return page.evaluate("document.activeElement.id.split('-cell-')[1]")

    def pressed(*names):
        for name in names:
            page.keyboard.press(name)
        return here()

    assert here() == "0-0-0" and pressed("ArrowRight") == "0-0-1" and pressed("ArrowUp") == "0-1-1"
    assert pressed("ArrowUp") == "0-1-1" and pressed("ArrowLeft") == "0-1-0" and pressed("End") == "0-1-2"
    assert pressed("ArrowRight") == "1-1-0" and pressed("ArrowDown") == "1-0-0"
    page.keyboard.press("Enter")
    assert page.locator(".panel h4").inner_text() == "h11, for B"
    assert pressed("ArrowRight", "ArrowRight") == "1-0-2"
    page.keyboard.press(" ")
    assert page.locator(".panel h4").inner_text() == "h13, for B" and cells.count() == 1
    assert page.locator(".ring.open").count() == 1


def test_a_keyboard_reaches_the_content_first(opened):
    page = opened("adder")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_badly_named_things_are_shown_as_they_are_named(opened):
    page = opened("evil")
    assert page.locator("img").count() == 0 and page.locator("script:not([type])").count() == 1
    page.locator("figure[data-kind=heatmap] .cell").first.click()
    for figure in page.locator("figure[data-kind=heatmap]").all():
        figure.locator(".cell").first.click()
    assert all("<img src=x onerror=" in text for text in page.locator(".panel").all_inner_texts())
    assert page.locator(".panel h4").first.inner_text().startswith("</script><img src=x onerror=\"alert('x')\">")
    for button in page.get_by_role("button", name="Download as CSV").all():
        downloaded(page, button)


def test_the_browser_refuses_scripts_that_are_not_the_pages(browser, files):
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(files["table"].as_uri())
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.broken = 1\">')")
    page.wait_for_timeout(200)
    assert page.evaluate("window.broken") is None
    assert any("Content Security Policy" in text for text in said)
    page.close()


def test_pages_are_light_or_dark_as_one_wants_and_can_be_read_in_either(opened):
    for scheme in ("light", "dark"):
        page = opened("adder", color_scheme=scheme)
        other = {"light": "Dark page", "dark": "Light page"}
        assert page.locator(".theme").inner_text() == other[scheme]
        assert (brightness(page, "--paper") > 0.5) == (scheme == "light")
        for _ in range(2):
            for ground in ("--paper", "--wash"):
                for ink in ("--ink", "--soft", "--accent"):
                    one, two = sorted((brightness(page, ink), brightness(page, ground)))
                    assert (two + 0.05) / (one + 0.05) >= 4.5, (ink, ground)
            page.locator(".theme").click()
        page.locator(".theme").click()
        assert (brightness(page, "--paper") > 0.5) == (scheme == "dark")


def brightness(page, name):
    """The relative luminance of a colour, as WCAG has it."""
    text = page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", name).strip("# ")
    parts = [int((text if len(text) == 6 else "".join(2 * c for c in text))[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_without_scripts_and_in_print_everything_is_there_to_read(opened):
    page = opened("adder", java_script_enabled=False)
    assert page.locator("svg:visible").count() == page.locator("svg").count() > 2
    assert page.locator("tbody tr:visible").count() == page.locator("tbody tr").count() > 20
    page = opened("adder")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".tools:visible, .theme:visible, nav:visible").count() == 0
    assert brightness(page, "--paper") == 1
    for figure in page.locator("figure").all():
        assert figure.locator("svg:visible, table:visible").count() == 1  # what is alive is still on paper


@pytest.mark.parametrize("name", ["adder", "flow"])
def test_on_a_phone_the_words_of_a_picture_are_no_smaller_than_on_a_desk(opened, name):
    page = opened(name, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    heights = """[...document.querySelectorAll("svg.picture")].filter(one => one.checkVisibility()).map(one =>
        Math.min(...[...one.querySelectorAll("text")].map(text => text.getBoundingClientRect().height)))"""
    assert min(page.evaluate(heights)) >= 9


def test_a_picture_tells_what_is_under_the_pointer(opened):
    page = opened("adder")
    figure = page.locator("figure[data-kind=picture]").first
    node = figure.locator('[id*="-node-"]').first
    node.hover()
    assert figure.locator(".told").inner_text() == node.locator("title").text_content()


def test_the_pages_sections_are_made_of_what_they_show(maps):
    assert "interpose.widgets" in page_of([kinds.section_of(maps)])
