"""What a page is made of: sections, each with a question, its answer in sentences, figures, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from .widgets import Widget


@dataclass(frozen=True)
class Part:
    """A figure or table under a heading of its own, with sentences before it."""

    heading: str
    widget: Widget | None = None
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """One result on a page.

    kind: what sort of result; model: what it is of; title: the question; asked: how it was asked; answer: what was
    found, in sentences that are made from the result.
    notes: what to keep in mind; origin: where the numbers come from, as terms and what is known of them.
    """

    kind: str
    title: str
    model: str = ""
    asked: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()
    origin: tuple[tuple[str, str], ...] = ()
