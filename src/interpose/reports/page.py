"""One self-contained page of results: what was asked, what was found, how it is known, and where it comes from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import WrongInput
from ..portable import write_whole
from . import origins
from .kinds import section_of
from .pictures import again, boxed, own
from .sections import Section
from .widgets import Widget
from .words import named

HERE = Path(__file__).parent


def report(path: str | os.PathLike[str], *results: Any, title: str | None = None) -> Path:
    """Write one HTML file that shows results, and opens from disk without a server or a request. Returns its path.

    results: effects, scans, accuracies, discovered algorithms, circuits, comparisons, ablations, causal models,
    networks, pictures, tables, and graphs to try out, as `reports.explorer.explorer` and
    `reports.abstraction.abstraction` give them.
    title: of the page; by default the models' names.
    Equal results give equal bytes. Raises WrongInput, before anything is written, for what is no result.
    """
    return write_page(path, [section_of(result) for result in results], title=title)


def write_page(path: str | os.PathLike[str], sections: Sequence[Section], *, title: str | None = None) -> Path:
    """Write sections as one page."""
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise WrongInput(f"{target.name!r} is no name for a page. Let it end in .html.")
    if not sections:
        raise WrongInput("A page of nothing: give it results, as in report('page.html', scan).")
    content = page(sections, title=title).encode("utf-8", "replace")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)
    return target


def page(sections: Sequence[Section], *, title: str | None = None) -> str:
    """The whole page as text."""
    models = list(dict.fromkeys(section.model for section in sections if section.model))
    widgets = [part.widget for section in sections for part in section.parts if part.widget is not None]
    kinds = sorted({widget.kind for widget in widgets})
    needed = [name for widget in widgets for name in widget.needs]
    script = "\n".join(_file(f"{name}.js") for name in dict.fromkeys(("page", *needed, *kinds)))
    seen: dict[str, int] = {}

    def figure(widget: Widget) -> Any:
        seen[widget.still] = seen.get(widget.still, 0) + 1
        return _figure(widget, seen[widget.still])

    text = _template().render(
        title=title or named(models, 3) if models or title else "Results",
        sections=sections,
        figure=figure,
        css=_file("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        versions=origins.versions(),
    )
    return str(text)


def as_json(value: Any) -> str:
    """JSON that may stand in a script element: no text in it can close that, or be taken for markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["trusted"] = Markup
    return environment.from_string(_file("page.html"))


def _figure(widget: Widget, times: int) -> Any:
    """A widget in its place: data, then what stands alone; times: how often it came before, with this."""
    from markupsafe import Markup, escape

    still = boxed(own(widget.still), widget.title) if widget.still.startswith("<svg") else widget.still
    still = still if times == 1 else again(still, times)

    return Markup(
        f'<figure class="widget" data-kind="{escape(widget.kind)}" aria-label="{escape(widget.title)}">'
        f'<script type="application/json">{as_json(dict(widget.data))}</script>{still}</figure>'
    )


@cache
def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
