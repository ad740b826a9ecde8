"""A page of the results that a folder keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import WrongInput
from ..saved import load, weights_of
from .kinds import section_of
from .origins import HASHED, short
from .page import write_page
from .sections import Section

SUFFIX = ".interpose"


def report_folder(folder: Path, out: Path | None = None) -> Path:
    """Write the page of every saved result below a folder, by default into it as report.html. Returns its path.

    Raises WrongInput where there is no such folder, or nothing is kept in it.
    """
    if not folder.is_dir():
        raise WrongInput(f"There is no folder {str(folder)!r}, seen from {Path.cwd().name!r}.")
    files = sorted(folder.rglob(f"*{SUFFIX}"), key=lambda file: file.relative_to(folder).as_posix())
    if not files:
        raise WrongInput(
            f"{str(folder)!r} keeps no results: no file below it ends in {SUFFIX}. Keep one with "
            f"save(scan, 'flow/scan{SUFFIX}'), or with interpose scan --out flow."
        )
    return write_page(out or folder / "report.html", [_section(file, folder) for file in files])


def _section(file: Path, folder: Path) -> Section:
    """The section of a saved result, which knows the weights that the file names."""
    section, term = section_of(load(file)), f"Weights{HASHED}"
    lines = [(name, short(weights_of(file)) if name == term else known) for name, known in section.origin]
    return replace(section, origin=(("File", file.relative_to(folder).as_posix()), *lines))
