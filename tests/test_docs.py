"""Every page that shows code is run, and shows what it gives; the README's commands are the ones that CI calls."""

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
    assert execute.execute(ROOT / "README.md") == 5


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


def test_every_link_inside_the_repository_leads_somewhere():
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


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
