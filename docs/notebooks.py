"""Notebooks from the pages of the tutorials, for Jupyter and Colab: `python docs/notebooks.py FOLDER`.

A block of code is a cell, with the output that the page shows; what stands between is Markdown. Pictures are left out,
since their cells draw them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from execute import BLOCK

from interpose.tasks import capitals

TUTORIALS = Path(__file__).parent / "tutorials"
INSTALL = f"""\
# Once, where interpose is not installed yet, as in Colab
import importlib.util

if importlib.util.find_spec("interpose") is None:
    %pip install -q "interpose[lm]"
    %{capitals.INSTALL.replace("install ", "install -q ")}
"""


def notebook(page: Path) -> dict[str, Any]:
    """The notebook of a page, as its file holds it."""
    text = page.read_text(encoding="utf-8")
    cells, end = [_code(INSTALL, "")], 0
    for match in BLOCK.finditer(text):
        cells += [_prose(text[end : match.start()]), _code(match["code"], match["text"] or "")]
        end = match.end()
    cells.append(_prose(text[end:]))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    found = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel},
        "cells": [c for c in cells if c["source"]],
    }
    for number, cell in enumerate(found["cells"]):
        cell["id"] = f"{page.stem}-{number}"
    return found


def write(folder: Path) -> list[Path]:
    """The notebooks of all tutorials, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in sorted(set(TUTORIALS.glob("*.md")) - {TUTORIALS / "index.md"}):
        path = folder / f"{page.stem}.ipynb"
        path.write_text(json.dumps(notebook(page), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _prose(text: str) -> dict[str, Any]:
    """Links lead to the other notebooks; those to pages that are none are left as words."""
    text = re.sub(r"\]\(([\w-]+)\.md\)", r"](\1.ipynb)", text)
    text = re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|[\w-]+\.ipynb)[^)]*\)", r"\1", text)
    return {"cell_type": "markdown", "metadata": {}, "source": text.strip()}


def _code(code: str, shown: str) -> dict[str, Any]:
    outputs = [{"output_type": "stream", "name": "stdout", "text": shown}] if shown else []
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "source": code.strip()}
    return {**cell, "outputs": outputs}


if __name__ == "__main__":
    sys.stdout.write("".join(f"{path}\n" for path in write(Path(sys.argv[1]))))
