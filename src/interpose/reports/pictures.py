"""Pictures as widgets: inline SVG whose names are its own, so that many stand on one page."""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from typing import Any
from xml.etree import ElementTree

from ..plots.picture import SVG, Picture
from .widgets import Widget

PAPER = "fill: #ffffff"
"""How a picture spells the colour of the paper; on a page it is the page's."""


IDS = re.compile(r"\bp[0-9a-f]{10}-")
"""How the ids of a picture on a page begin."""


def picture_widget(picture: Picture, *, title: str | None = None) -> Widget:
    """A picture that tells what is under the pointer, or touched, in a line below it."""
    return Widget("picture", picture.title if title is None else title, {}, boxed(inline(picture), picture.title))


def inline(picture: Picture) -> str:
    """The picture as an SVG element for a page: see `own`."""
    return own(picture.svg())


def own(text: str) -> str:
    """An SVG with names of its own for a page: every id begins with a hash of it, and white is the page's colour.

    Its style sheet, which would be that of the whole page, is left out: page.css says the same.
    """
    prefix = f"p{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:10]}-"
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in [child for child in parent if child.tag == f"{{{SVG}}}style"]:
            parent.remove(child)
        for name, value in parent.attrib.items():
            parent.set(name, _renamed(name.rpartition("}")[2], value, prefix))
    width = float(root.attrib["width"].removesuffix("pt"))
    root.set("class", "picture")
    root.set("style", f"--natural: {width:.0f}pt")
    return ElementTree.tostring(root, encoding="unicode")


def raster(picture: Picture) -> str:
    """The picture as an image inside the page, for what would be too large as SVG."""
    data = base64.b64encode(picture.png()).decode()
    return f'<img class="picture" alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'


def boxed(markup: str, title: str) -> str:
    """Markup in a box that scrolls by itself where it is wider than the page."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{markup}</div>'


def again(markup: str, number: int) -> str:
    """The same markup for a second place on a page, with ids of its own."""
    return IDS.sub(rf"\g<0>{number}-", markup)


def _renamed(name: str, value: Any, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    if name == "style":
        value = value.replace(PAPER, "fill: var(--paper, #ffffff)")
    return re.sub(r"url\(#", f"url(#{prefix}", value)
