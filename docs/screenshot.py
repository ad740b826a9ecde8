"""Photograph the live graph of a page of results: `python docs/screenshot.py` writes docs/pictures/report.png.

It needs chromium and playwright. What the graph says of itself is printed: it is the text of the picture in the pages.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

import interpose as ip
from interpose.reports.explorer import explorer
from interpose.tasks import adder

PICTURE = Path(__file__).parent / "pictures" / "report.png"


def photograph(to: Path | None = None) -> str:
    """Open a page with the graph, photograph it if told where to, and return what it says."""
    from playwright.sync_api import sync_playwright

    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    figure = explorer(adder.network(), [1, 2, 3], {"h12": [4, 2, 3]})
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = ip.report(Path(folder) / "page.html", figure).resolve()
        browser = playwright.chromium.launch(executable_path=next(found), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 900}, device_scale_factor=1.5, color_scheme="light")
        page.goto(page_file.as_uri())
        figure_there = page.locator("figure.widget")
        said = figure_there.locator(".ip-said").inner_text()
        if to is not None:
            Image.open(io.BytesIO(figure_there.screenshot())).quantize(96).save(to, optimize=True)
        browser.close()
    return said


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    sys.stdout.write(f"{photograph(PICTURE)}\n")
