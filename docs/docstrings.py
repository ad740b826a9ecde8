"""Plain docstrings as reStructuredText, as Sphinx wants them, without rewriting them.

They say `[pair]`, `old * new` and "name: what it is", which would be markup, or lost.
"""

from __future__ import annotations

import re
from typing import Any

from interpose import errors

NAMES = r"[a-z_]\w*(?:, [a-z_]\w*)*"
SENTENCE = re.compile(rf"(?<=[.;:]) (?=(?:{NAMES}: |Raises |Warns |Source: |Returns ))")
START = re.compile(rf"(?:(?P<names>{NAMES}|Source):|(?P<verb>Raises|Warns|Returns)) (?P<rest>.*)", re.DOTALL)
CODE = re.compile(r"(`[^`]*`)")


def process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """What Sphinx calls with the lines of a docstring: replace them."""
    lines[:] = reformed(lines)


def reformed(lines: list[str]) -> list[str]:
    """Paragraphs stay; what is said of a parameter, of errors and of sources becomes a point of a list."""
    shown: list[str] = []
    for paragraph in _paragraphs(lines):
        if paragraph[0].startswith((" ", ">>>")):
            shown += ["::" if paragraph[0].startswith(" ") else "", "", *paragraph, ""]
            continue
        for part in SENTENCE.split(" ".join(line.strip() for line in paragraph)):
            if start := START.fullmatch(part):
                head = ", ".join(f"**{one}**" for one in (start["names"] or start["verb"]).split(", "))
                colon = ":" if start["names"] else ""
                shown += [f"- {head}{colon} {_text(start['rest'])}", ""]
            else:
                shown += [_text(part), ""]
    return shown


def _paragraphs(lines: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if not line.strip():
            found.append([])
        else:
            found[-1].append(line)
    return [paragraph for paragraph in found if paragraph]


def _text(text: str) -> str:
    """What stands between backticks is code, errors are links to their pages, and nothing else is markup."""
    parts = CODE.split(text)
    return "".join(f"``{part[1:-1]}``" if place % 2 else _plain(part) for place, part in enumerate(parts))


def _plain(text: str) -> str:
    escaped = re.sub(r"([\\*|_])", r"\\\1", text)
    return re.sub(
        r"\b([A-Z]\w+)\b",
        lambda word: f":doc:`{word[1]} </errors/{word[1]}>`" if hasattr(errors, word[1]) else word[1],
        escaped,
    )
