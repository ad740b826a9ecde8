"""How Sphinx lays out the pages. Their code is run by docs/execute.py and the tests, not here."""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import docstrings  # noqa: E402

import interpose  # noqa: E402

project = "interpose"
author = "The interpose developers"
copyright = "2026, the interpose developers, Apache-2.0"
version = release = interpose.__version__

# No intersphinx: links to torch and xarray would need their inventories, and the site is built without a network.
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "VISION.md"]  # which stands in more.md
myst_heading_anchors = 3
default_role = "code"
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "interpose"
html_static_path = ["_static"]
html_css_files = ["interpose.css"]
html_copy_source = False
html_show_sphinx = False
html_context = {"default_mode": "auto"}  # without which the theme complains in the browser's console
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "header_links_before_dropdown": 7,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "which": [], "words": []},
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars = {page: [] for page in ("index", "which", "effects")}


INCLUDE = re.compile(r'```\{include\} (?P<file>\S+)\n(?::end-before: "(?P<end>.*)"\n)?```\n')
HERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}


def _include(app, page, source):
    """Put the files above docs/ in place, with links that lead to the same pages from here."""

    def text(match):
        whole = (DOCS / match["file"]).read_text(encoding="utf-8")
        return re.sub(r"\]\((?!https?:|#)([^)]+)\)", link, whole.partition(match["end"])[0] if match["end"] else whole)

    def link(match):
        path, mark, anchor = match[1].partition("#")
        inside = path.removeprefix("docs/") if path.startswith("docs/") else HERE.get(path, f"../{path}")
        return f"]({inside}{'index.md' if inside.endswith('/') else ''}{mark}{anchor})"

    source[0] = INCLUDE.sub(text, source[0])


def _add_notebook(app, page, source):
    """Offer a tutorial as a notebook, right after its title."""
    if page.startswith("tutorials/") and (DOCS / f"{page}.md").exists() and not page.endswith("index"):
        folder = os.path.relpath(Path(app.outdir).parent / "notebooks", DOCS / "tutorials")
        link = f"{Path(folder).as_posix()}/{Path(page).name}.ipynb"
        note = f"*Run it yourself: [this page as a notebook]({link}), for Jupyter or Colab.*"
        source[0] = re.sub(r"\A(# .*\n)", rf"\1\n{note}\n", source[0])


def _mark_messages(app, tree):
    """On the pages of errors, outputs are sentences, which may be broken anywhere."""
    from docutils import nodes

    if app.env.docname.startswith("errors/"):
        for block in tree.findall(nodes.literal_block):
            if block.get("language") == "text":
                block["classes"].append("message")


def setup(app):
    """What Sphinx calls."""
    app.connect("source-read", _include)
    app.connect("source-read", _add_notebook)
    app.connect("doctree-read", _mark_messages)
    app.connect("autodoc-process-docstring", docstrings.process)
