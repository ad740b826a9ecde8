"""Every page that shows code is run, and shows what it gives; the README's commands are the ones that CI calls."""

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from interpose import errors
from interpose.tasks import capitals

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("execute", ROOT / "docs" / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)


def _weights():
    try:
        return capitals.weights()
    except errors.MissingPart:
        return None


def test_the_tutorial_shows_what_its_code_gives():
    assert execute.execute(ROOT / "docs" / "tutorials" / "adder.md") == 29


@pytest.mark.parametrize(
    ("page", "blocks"), [("effects.md", 1), ("your-own-model.md", 9), ("tutorials/discover.md", 10)]
)
def test_the_other_pages_show_what_their_code_gives(page, blocks):
    assert execute.execute(ROOT / "docs" / page) == blocks


@pytest.mark.skipif(_weights() is None, reason=f"SmolLM2 is not installed: {capitals.INSTALL}")
@pytest.mark.xdist_group("smollm2")
def test_the_tutorial_on_certainty_shows_what_its_code_gives():
    assert execute.execute(ROOT / "docs" / "tutorials" / "how-sure.md") == 14


@pytest.mark.skipif(_weights() is None, reason=f"SmolLM2 is not installed: {capitals.INSTALL}")
@pytest.mark.xdist_group("smollm2")
def test_the_tutorial_on_a_language_model_shows_what_its_code_gives():
    assert execute.execute(ROOT / "docs" / "tutorials" / "language-model.md") == 18


@pytest.mark.skipif(_weights() is None, reason=f"SmolLM2 is not installed: {capitals.INSTALL}")
@pytest.mark.xdist_group("smollm2")
def test_the_readme_shows_what_its_code_gives():
    assert execute.execute(ROOT / "README.md") == 4


@pytest.mark.parametrize(
    ("page", "blocks"),
    [
        ("hypothesis", 4),
        ("network", 5),
        ("pairs", 4),
        ("effects", 4),
        ("scan", 4),
        ("claim", 3),
        ("discover", 2),
        ("ablate", 3),
        ("report", 3),
    ],
)
def test_a_page_on_how_to_shows_what_its_code_gives(page, blocks):
    assert execute.execute(ROOT / "docs" / "howto" / f"{page}.md") == blocks


@pytest.mark.skipif(_weights() is None, reason=f"SmolLM2 is not installed: {capitals.INSTALL}")
@pytest.mark.xdist_group("smollm2")
@pytest.mark.parametrize(
    ("page", "blocks"), [("language-model", 5), ("positions", 5), ("attention", 4), ("generate", 3)]
)
def test_a_page_on_how_to_ask_a_language_model_shows_what_its_code_gives(page, blocks):
    assert execute.execute(ROOT / "docs" / "howto" / f"{page}.md") == blocks


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "errors").glob("[A-Z]*.md")), ids=lambda page: page.stem)
def test_the_page_of_an_error_shows_what_its_code_gives(page):
    assert execute.execute(page) == 1


def test_the_examples_in_docstrings_give_what_they_show():
    tried = {}
    for path in (ROOT / "src" / "interpose").rglob("*.py"):
        if ">>> " in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
            tried[name] = doctest.testmod(importlib.import_module(name))
    assert sum(one.attempted for one in tried.values()) >= 6
    assert not any(one.failed for one in tried.values()), tried


def test_a_page_that_shows_something_else_is_caught(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n1 + 1\n```\n\n```text\n3\n```\n")
    with pytest.raises(execute.Mismatch, match="gives\n2\nbut the page shows\n3"):
        execute.execute(page)
    execute.execute(page, write=True)
    assert execute.execute(page) == 1
    page.write_text("```python\nprint(7)\n```\n\nNo output is shown.\n")
    with pytest.raises(execute.Mismatch):
        execute.execute(page)
    page.write_text(
        "```python\nimport interpose as ip\nfrom interpose.tasks import adder\nip.draw(adder.network())\n```\n"
    )
    with pytest.raises(execute.Mismatch, match="no image follows"):
        execute.execute(page)


def _anchors(page):
    """The headings of a page, spelled as links do."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_inside_the_repository_leads_somewhere():
    pages = (*ROOT.glob("*.md"), *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts))
    for page in pages:
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            target = (page.parent / path) if path else page
            assert target.exists(), f"{page.name} links to {path}"
            if anchor and target.name != "index.md":
                assert anchor in _anchors(target), f"{page.name} links to {path}#{anchor}"


def test_ci_runs_the_readmes_test_command():
    commands = re.findall(r"```bash\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(commands) == 2 and commands[0].endswith("interpose demo") and commands[1].endswith("pytest")
    assert commands[1] in (ROOT / ".ci" / "run").read_text()
    assert capitals.INSTALL.split("install ")[1] in commands[0]
    assert all("-c constraints.txt" in command for command in commands)


def test_versions_agree():
    import interpose

    assert f"## {interpose.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"({interpose.__version__})" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("h12  1.00  [0.93, 1.00]", "h12  1.00  [0.93, 1.00]", True),
        ("h12  0.97  [0.93, 1.00]", "h12  0.98  [0.93, 1.00]", True),
        ("h12  0.97  [0.93, 1.00]", "h12  0.99  [0.93, 1.00]", False),
        ("h12 -0.00", "h12  0.00", True),
        ("h12  50 of 50", "h12  49 of 50", False),
        ("h12  1.00", "h13  1.00", False),
        ("h12  1.00", "h12  1.00 1.00", False),
        ("0.998 to 1.2", "0.999 to 1.2", True),
    ],
)
def test_pages_may_differ_by_one_in_the_last_place_and_in_nothing_else(one, other, same):
    assert execute.alike(one, other) == execute.alike(other, one) == same
