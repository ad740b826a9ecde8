"""What a page shows and a script brings to life: a picture or table that stands alone, and the data behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Widget:
    """A figure of a page.

    kind: the script beside this file that brings it to life, without its ".js"; title: what it shows, in words.
    data: what the script is given, as JSON; still: markup that is trusted, shown without scripts and in print.
    needs: further scripts beside this file, without their ".js", that come before it on the page, once.
    """

    kind: str
    title: str
    data: Mapping[str, Any]
    still: str
    needs: tuple[str, ...] = ()
