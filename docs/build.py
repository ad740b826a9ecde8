"""Build the documentation site: `python docs/build.py` gives docs/_build/html/index.html, which needs no network.

    python docs/build.py FOLDER  the same, in another folder

Pages are Markdown that docs/execute.py runs; here they are only laid out. A warning stops the build.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import main

DOCS = Path(__file__).parent


def build(to: Path) -> int:
    """Lay out the site in `to`/html and its notebooks in `to`/notebooks; returns 0 if nothing was complained of."""
    sys.path.insert(0, str(DOCS))
    try:
        import notebooks

        notebooks.write(to / "notebooks")
        return main(
            ["-q", "-E", "-W", "--keep-going", "-b", "html", "-d", str(to / "doctrees"), str(DOCS), str(to / "html")]
        )
    finally:
        sys.path.remove(str(DOCS))


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "_build"
    failed = build(folder)
    if not failed:
        sys.stdout.write(f"{folder / 'html' / 'index.html'}\n")
    sys.exit(failed)
