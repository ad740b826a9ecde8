"""Prompts that know where their parts stand, so that a position can be named instead of counted."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from types import MappingProxyType
from typing import Any

from .errors import UnknownPlace, WrongInput, suggest

NAME = re.compile(r"\{([^{}\[\]]+)(?:\[(-?\d+)\])?\}")
"""A position by name: "{city}" is all tokens of a part, "{city[0]}" its first and "{city[-1]}" its last."""

Span = tuple[int, int]
"""From which character to which a part goes, the end not included."""

NO_PARTS: Mapping[str, Any] = MappingProxyType({})


class Prompt(str):
    """A text made of a template, which knows where its parts stand.

    Prompt("The city of {city} is", city="Paris") reads "The city of Paris is", and a site at position "{city}" is at
    the tokens of Paris. A part that the template has several times is named "B#0", "B#1" and so on.

    parts: the characters of each; special: whether the tokenizer puts its own tokens around the text, or all are there.
    Raises WrongInput for a part without a value, or a value without a part.
    """

    parts: Mapping[str, Span]
    special: bool

    def __new__(cls, template: str, /, *, special: bool = True, **values: Any) -> Prompt:
        text, spans = filled(template, values)
        check_used(values, spans, template)
        return cls.marked(text, numbered(spans), special=special)

    @classmethod
    def marked(cls, text: str, parts: Mapping[str, Span], *, special: bool = True) -> Prompt:
        """A text as it is, with the characters of its parts."""
        made = str.__new__(cls, text)
        made.parts, made.special = dict(parts), special
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (str(self), dict(self.parts), self.special)


def _again(text: str, parts: Mapping[str, Span], special: bool) -> Prompt:
    return Prompt.marked(text, parts, special=special)


class Tokens(list[int]):
    """Token ids that know where their parts stand; parts: the positions of each."""

    def __init__(self, ids: Iterable[int], parts: Mapping[str, Sequence[int]] = NO_PARTS) -> None:
        super().__init__(ids)
        self.parts = {name: tuple(positions) for name, positions in parts.items()}


def filled(template: str, values: Mapping[str, Any]) -> tuple[str, list[tuple[str, Span]]]:
    """A template with its parts put in, and where each stands, in their order."""
    text, spans = "", []
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise WrongInput(f"{template!r} is no template: {error}. A brace that is meant is written twice.") from None
    for literal, name, form, conversion in pieces:
        text += literal
        if name is None:
            continue
        if form or conversion or not re.fullmatch(r"[^{}\[\].#]+", name):
            raise WrongInput(f"{template!r} has a part that is no name. Parts read {{city}}, and nothing more.")
        if name not in values:
            raise WrongInput(f"{template!r} has a part {{{name}}} that is given no value.")
        start = len(text)
        text += str(values[name])
        spans.append((name, (start, len(text))))
    return text, spans


def check_used(values: Mapping[str, Any], spans: Sequence[tuple[str, Span]], template: str) -> None:
    """Raise WrongInput for a value that no part takes."""
    names = {name for name, _ in spans}
    if unused := [name for name in values if name not in names]:
        raise WrongInput(f"{template!r} has no part {{{unused[0]}}}. {suggest(unused[0], names)}")


def numbered(spans: Sequence[tuple[str, Span]]) -> dict[str, Span]:
    """Spans by name; those of a name that is there several times by "name#0", "name#1" and so on."""
    names = [name for name, _ in spans]
    found: dict[str, Span] = {}
    for i, (name, span) in enumerate(spans):
        found[name if names.count(name) == 1 else f"{name}#{names[:i].count(name)}"] = span
    return found


def part_of(prompt: Any, position: str) -> tuple[Any, int | None]:
    """Where the part that a position names stands in a prompt, and which of its tokens is meant: None is all of them.

    Raises UnknownPlace for a name that the prompt does not have.
    """
    match = NAME.fullmatch(position)
    assert match is not None  # a site takes no other
    name, nth = match.groups()
    parts = getattr(prompt, "parts", NO_PARTS)
    if name not in parts:
        shown = str(prompt) if isinstance(prompt, str) else f"Token ids {list(prompt)[:8]}"
        there = (
            suggest(f"{{{name}}}", [f"{{{part}}}" for part in parts])
            if parts
            else "Prompts with parts are made by Pairs.from_template, or ip.Prompt."
        )
        raise UnknownPlace(f"{shown!r} has no part {{{name}}}. {there}")
    return parts[name], None if nth is None else int(nth)


def ranked(positions: Sequence[int | str]) -> list[tuple[Any, Any, int]]:
    """Positions, their labels, and their ranks on an axis: numbers before those from the end, names as they are given.

    Raises WrongInput for a single one, whose letters would be taken for positions.
    """
    found = listed("position", positions, names=True)
    if any(isinstance(position, str) for position in found):  # then labels are texts, as on any axis of one kind
        return [(position, str(position), i) for i, position in enumerate(found)]
    return [(p, p, p if p >= 0 else 10**9 + p) for p in found]


def listed(word: str, given: Any, *, names: bool = False) -> list[Any]:
    """The whole numbers of a list, of layers or of positions, each of them once; names: texts may be among them.

    Raises WrongInput for one that is in no list, and for one that is there twice.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) == 0:
        raise WrongInput(f"{word}s is one {word}, {given!r}. Give a list of them: [{given!r}].")
    found = [one if names and isinstance(one, str) else index(one) for one in given]
    if len(set(found)) < len(found):
        twice = next(one for one in found if found.count(one) > 1)
        raise WrongInput(f"{word}s={found} names {twice!r} twice. What is measured once is measured.")
    return found
