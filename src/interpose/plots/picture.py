"""A picture: a figure that shows itself in a notebook and saves as SVG, PNG, PDF or HTML, without a server."""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import WrongInput

SVG = "http://www.w3.org/2000/svg"
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a picture is the same everywhere."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "interpose",
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": 10,
}
"""Text stays text in an SVG, and the same picture gives the same bytes."""


class Picture:
    """A matplotlib figure as an object to look at and to keep.

    figure: the `matplotlib.figure.Figure`, for further changes; hover: element id -> text shown under the pointer in
    SVG and HTML; title: the words for those who cannot see it.
    """

    def __init__(self, figure: Any, *, title: str, hover: Mapping[str, str] | None = None) -> None:
        self.figure = figure
        self.title = title
        self.hover = dict(hover or {})

    def __repr__(self) -> str:
        return f"<Picture: {self.title}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"image/png": self.png(), "text/plain": repr(self)}

    def png(self, *, dpi: int = 144) -> bytes:
        """The picture as PNG bytes."""
        return self._rendered("png", dpi=dpi, metadata={"Software": None})

    def svg(self) -> str:
        """The picture as SVG text, the same at every call, with hover texts as titles."""
        import matplotlib

        with matplotlib.rc_context(STYLE):
            raw = self._rendered("svg", metadata={"Date": None, "Creator": None})
        for prefix, uri in (("", SVG), ("xlink", "http://www.w3.org/1999/xlink")):
            ElementTree.register_namespace(prefix, uri)
        root = ElementTree.fromstring(raw)
        for metadata in root.findall(f"{{{SVG}}}metadata"):
            root.remove(metadata)
        root.set("role", "img")
        _titled(root, self.title)
        for element in root.iter():
            if text := self.hover.get(element.get("id", "")):
                _titled(element, text)
        return ElementTree.tostring(root, encoding="unicode")

    def html(self) -> str:
        """A page that holds the picture, with hover texts; it opens from disk and asks for nothing."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(self.title)}</title>\n'
            "<style>body{margin:2rem;font-family:sans-serif;background:#fff}svg{max-width:100%;height:auto}</style></head>\n"
            f"<body>{self.svg()}</body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, in the form its suffix names: .svg, .png, .pdf or .html. Returns the path."""
        path = Path(path)
        content: bytes | str
        match path.suffix.lower():
            case ".svg":
                content = self.svg()
            case ".html":
                content = self.html()
            case ".png":
                content = self.png()
            case ".pdf":
                content = self._rendered("pdf", metadata={"CreationDate": None})
            case suffix:
                raise WrongInput(f"{path.name} ends in {suffix!r}. A picture saves as .svg, .png, .pdf or .html.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def _rendered(self, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        with spelled_out(self.figure, form != "svg"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)  # an SVG keeps the text
            self.figure.savefig(buffer, format=form, bbox_inches="tight", facecolor="white", **options)
        return buffer.getvalue()


@contextmanager
def spelled_out(figure: Any, asked: bool) -> Iterator[None]:
    """Within it, the figure names characters by their numbers for which the font has no picture, as \\u6771."""
    from matplotlib.text import Text
    from matplotlib.ticker import Formatter

    class Spelled(Formatter):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __call__(self, x: float, pos: int | None = None) -> str:
            return drawable(self.inner(x, pos))

        def get_offset(self) -> str:
            return str(self.inner.get_offset())

        def set_locs(self, locs: Any) -> None:
            self.inner.set_locs(locs)

    texts = [(text, text.get_text()) for text in figure.findobj(Text)] if asked else []
    texts = [(text, said) for text, said in texts if drawable(said) != said]
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)] if texts else []
    formatters = [(axis, axis.get_major_formatter()) for axis in axes]
    try:
        for text, said in texts:
            text.set_text(drawable(said))
        for axis, formatter in formatters:
            axis.set_major_formatter(Spelled(formatter))
        yield
    finally:
        for axis, formatter in formatters:
            axis.set_major_formatter(formatter)
        for text, said in texts:
            text.set_text(said)


def drawable(text: str) -> str:
    """A text in which the font has a picture of every character; others by their numbers, as \\u6771."""
    glyphs = _glyphs()
    return "".join(c if ord(c) in glyphs or c == "\n" else c.encode("unicode_escape").decode() for c in text)


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(FONT)).get_charmap())


def plain(text: str) -> str:
    """Words as they are: no character starts a formula, and none is forbidden in SVG."""
    printable = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return printable.replace("$", r"\$")


def new_figure(width: float, height: float) -> Any:
    """An empty figure of a size in inches, made without pyplot."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height))


def _titled(element: ElementTree.Element, text: str) -> None:
    title = ElementTree.Element(f"{{{SVG}}}title")
    title.text = plain(text).replace(r"\$", "$")
    element.insert(0, title)
