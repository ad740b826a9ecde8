"""Run the Python blocks of a Markdown page and hold what they give against what the page shows.

A page is read from top to bottom in one namespace. What a block prints, and the value of its last line, must be the
```text block that follows it; a block that ends in a picture is followed by an image that says what the picture says.
A warning of interpose is an output like any other, and so is an error, where the page already shows one of its name:
"UnknownPlace: Adder has no module 'l4'. ...".

    python docs/execute.py PAGE ...          check
    python docs/execute.py --write PAGE ...  put the outputs and pictures in place
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from interpose import errors

BLOCK = re.compile(
    r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<text>.*?)```\n|\n!\[(?P<alt>[^\]]*)\]\((?P<image>[^)]+)\)\n)?",
    re.DOTALL,
)


DECIMAL = re.compile(r"-?\d+\.\d+")


class Mismatch(AssertionError):
    """A page shows something else than its code gives."""


def execute(page: Path, *, write: bool = False) -> int:
    """Run a page and return how many blocks it has; raise Mismatch at the first that differs, or write them all."""
    names: dict[str, Any] = {"__name__": "__page__"}
    count = 0

    def block(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        expected = (match["text"] or "").rstrip().split("\n")[-1].partition(":")[0]
        printed, value = _run(match["code"], names, f"{page.name}, block {count}", expected)
        if hasattr(value, "svg"):
            return _picture(page, match, value, write)
        shown = _trim(printed + ("" if value is None else f"{value!r}\n"))
        if write:
            return f"```python\n{match['code']}```\n" + (f"\n```text\n{shown}```\n" if shown else "")
        if not alike(shown, _trim(match["text"] or "")):
            raise Mismatch(f"{page}, block {count}:\n{match['code']}gives\n{shown}but the page shows\n{match['text']}")
        return match[0]

    text = page.read_text(encoding="utf-8")
    new = BLOCK.sub(block, text)
    if write:
        page.write_text(new, encoding="utf-8")
    return count


def _run(code: str, names: dict[str, Any], where: str, expected: str = "") -> tuple[str, Any]:
    """What a block prints, warns of and raises as expected, and the value of its last line if that is an expression."""
    tree = ast.parse(code, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed), _warnings_shown():
        try:
            exec(compile(tree, where, "exec"), names)
            value = eval(compile(ast.Expression(last.value), where, "eval"), names) if last else None
        except errors.InterposeError as error:
            if type(error).__name__ != expected:
                raise
            sys.stdout.write(f"{type(error).__name__}: {error}\n")
    return printed.getvalue(), value


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """Print the warnings of interpose, each time; others stay what they are."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def told(message: Any, category: type[Warning], *rest: Any) -> None:
            if category.__module__ == errors.__name__:
                sys.stdout.write(f"{category.__name__}: {message}\n")
            else:
                show(message, category, *rest)

        warnings.showwarning = told
        for category in vars(errors).values():
            if isinstance(category, type) and issubclass(category, Warning):
                warnings.simplefilter("always", category)
        yield


def _picture(page: Path, match: re.Match[str], picture: Any, write: bool) -> str:
    if not match["image"]:
        raise Mismatch(f"{page}: a block ends in {picture!r}, and no image follows it:\n{match['code']}")
    path = page.parent / match["image"]
    if write:
        picture.save(path)
    elif not path.exists() or not alike(_texts(path.read_text(encoding="utf-8")), _texts(picture.svg())):
        raise Mismatch(f"{path} does not show {picture!r}. Run: python docs/execute.py --write {page}")
    return match[0]


def _texts(svg: str) -> str:
    """Everything a picture says: its labels and its hover texts, in order, one a line."""
    root = ElementTree.fromstring(svg)
    told = [element.text or "" for element in root.iter() if element.tag.rsplit("}", 1)[-1] in ("text", "title")]
    return "\n".join(told)


def alike(one: str, other: str) -> bool:
    """Whether two texts say the same, where a decimal may differ by one in its last place: processors round apart."""
    if one == other:
        return True
    apart = [re.sub(r"\s+", " ", part) for part in DECIMAL.split(one)]
    if apart != [re.sub(r"\s+", " ", part) for part in DECIMAL.split(other)]:
        return False
    return all(
        abs(float(a) - float(b)) <= 1.01 * 10.0 ** -min(len(x.partition(".")[2]) for x in (a, b))
        for a, b in zip(DECIMAL.findall(one), DECIMAL.findall(other), strict=True)
    )


def _trim(text: str) -> str:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    arguments = sys.argv[1:]
    for name in (argument for argument in arguments if argument != "--write"):
        sys.stdout.write(f"{name}: {execute(Path(name), write='--write' in arguments)} blocks\n")
