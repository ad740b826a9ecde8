"""The documentation site: built without a warning, whole, and asking nothing of any network."""

import builtins
import importlib.util
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import interpose as ip
from interpose import errors

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.InterposeError | Warning)
]
pytest.importorskip("sphinx")
pytestmark = pytest.mark.xdist_group("site")


def script(name, monkeypatch):
    """A script of docs/, which imports its neighbours."""
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages by their paths, as one command builds them; any warning of Sphinx fails it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(DOCS / "build.py"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    html = folder / "html"
    assert done.stdout.strip() == str(html / "index.html")
    return {path.relative_to(html).as_posix(): path.read_text(encoding="utf-8") for path in html.rglob("*.html")}


def test_no_page_asks_anything_of_a_network(site):
    """What a browser fetches by itself: scripts, styles, pictures, frames. A link that is clicked may lead away."""
    for name, page in site.items():
        for tag in re.findall(r"<(?:script|link|img|iframe|source|object)\b[^>]*>", page):
            assert not re.search(r"""(?:src|href|data)=["']?(?:https?:)?//""", tag), f"{name}: {tag}"


def test_the_theme_finds_nothing_to_complain_of_when_a_page_is_first_opened(site):
    for name, page in site.items():
        assert all(mode == "auto" for mode in re.findall(r'data-default-mode="(.*?)"', page)), name
    assert "data-default-mode" in site["index.html"]


def test_the_first_page_tells_what_it_is_shows_a_picture_and_ten_lines(site):
    page = site["index.html"]
    assert page.index("carry what?") < page.index("<img") < page.index("complete mediator") < page.index("Read on")


def test_every_public_name_is_in_the_reference(site):
    reference = "".join(page for name, page in site.items() if name.startswith("reference/"))
    for name in ip.__all__:
        assert f'id="interpose.{name}"' in reference, f"{name} is public: add it to a page of docs/reference"


def test_every_page_of_docs_is_reached_and_tutorials_come_as_notebooks(site):
    for page in (page for page in DOCS.rglob("*.md") if "_build" not in page.parts):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert name in site or page.name == "VISION.md", f"{name} is not built"
    for page in (DOCS / "tutorials").glob("*.md"):
        offered = f"{page.stem}.ipynb" in site[f"tutorials/{page.stem}.html"]
        assert offered == (page.stem != "index"), page


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_page(kind):
    """It says what the class says and what else it is, and ends its example with the error itself."""
    text = (DOCS / "errors" / f"{kind.__name__}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {kind.__name__}\n\n**{kind.__doc__}**")
    assert f"]({kind.__name__}.md)" in (DOCS / "errors" / "index.md").read_text(encoding="utf-8")
    if kind is errors.InterposeError:
        return
    shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert len(shown) == 1 and shown[0].splitlines()[-1].startswith(f"{kind.__name__}: ")
    assert "\n## Why\n" in text and "\n## What to do\n" in text
    if not issubclass(kind, Warning):
        (also,) = (base for base in kind.__bases__ if base.__module__ == builtins.__name__)
        assert f"Also a `{also.__name__}`." in text


def test_there_is_no_page_of_an_error_that_is_gone():
    pages = {page.stem for page in (DOCS / "errors").glob("*.md")} - {"index"}
    assert pages == {kind.__name__ for kind in KINDS}


def test_an_error_shows_on_a_page_only_where_it_is_expected(tmp_path, monkeypatch):
    execute = script("execute", monkeypatch)
    page = tmp_path / "page.md"
    code = "```python\nimport interpose as ip\nip.Pairs([1], [2, 3])\n```\n"
    page.write_text(code)
    with pytest.raises(errors.WrongPairs):
        execute.execute(page, write=True)
    page.write_text(f"{code}\n```text\nWrongPairs\n```\n")
    execute.execute(page, write=True)
    assert "WrongPairs: There are 1 base inputs but 2 of source." in page.read_text()
    page.write_text(page.read_text().replace("2 of source", "3 of source"))
    with pytest.raises(execute.Mismatch):
        execute.execute(page)
    page.write_text(f"{code}\n```text\nWrongShape: something else\n```\n")
    with pytest.raises(errors.WrongPairs):
        execute.execute(page)


def test_docstrings_read_as_they_are_written(monkeypatch):
    reformed = script("docstrings", monkeypatch).reformed
    assert reformed(["new = factor * old_, of |x|; `Scale(0)` is zero."]) == [
        r"new = factor \* old\_, of \|x\|; ``Scale(0)`` is zero.",
        "",
    ]
    told = reformed(["path: the module's name. units, position: which", "of them. Raises WrongShape for others."])
    assert told[::2] == [
        "- **path**: the module's name.",
        "- **units**, **position**: which of them.",
        "- **Raises** :doc:`WrongShape </errors/WrongShape>` for others.",
    ]
    assert reformed([">>> 1 + 1", "2"]) == ["", "", ">>> 1 + 1", "2", ""]


def test_a_notebook_gives_what_its_page_shows(monkeypatch, tmp_path):
    """The adder's notebook, in a kernel of its own, as somebody opens it: every output is that of the page."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebooks, execute = script("notebooks", monkeypatch), script("execute", monkeypatch)
    paths = {path.stem: path for path in notebooks.write(tmp_path)}
    assert set(paths) == {page.stem for page in (DOCS / "tutorials").glob("*.md")} - {"index"}
    for path in paths.values():
        nbformat.validate(nbformat.read(path, as_version=4))
    shown = nbformat.read(paths["adder"], as_version=4)
    assert "pip install" in shown.cells[0].source and shown.cells[1].source.startswith("# Which neurons carry what?")
    run = nbformat.read(paths["adder"], as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbclient.NotebookClient(run, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    pictures = 0
    for before, after in zip(shown.cells, run.cells, strict=True):
        if before.cell_type == "code":
            given = "".join(_said(one) for one in after.outputs)
            pictures += given.count("<picture>")
            if "<picture>" not in given:
                assert execute.alike(given.strip(), "".join(one.text for one in before.outputs).strip()), before.source
    assert pictures == (DOCS / "tutorials" / "adder.md").read_text(encoding="utf-8").count("![")


def _said(output):
    """What an output of a cell says, as a page would show it."""
    if output.output_type == "stream":
        return output.text if output.name == "stdout" else ""
    return "<picture>" if "image/png" in output.data else output.data["text/plain"] + "\n"


def test_the_photograph_of_a_page_is_true(monkeypatch):
    """Its text is what the live graph says of itself today."""
    pytest.importorskip("playwright")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no chromium, chromium-browser or google-chrome to look with")
    said = script("screenshot", monkeypatch).photograph()
    assert f"![{said}](../pictures/report.png)" in (DOCS / "howto" / "report.md").read_text(encoding="utf-8")
    assert (DOCS / "pictures" / "report.png").stat().st_size < 200_000
