"""The command line: it parses, calls and prints."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .demo import demo as run_demo

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Which parts of a neural network carry what?")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(version("interpose"))
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Which parts of a neural network carry what?"""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to save pictures in.")] = Path("interpose-demo"),
    cities: Annotated[
        int, typer.Option(min=2, max=19, help="How many city pairs to scan the language model with.")
    ] = 8,
) -> None:
    """The tutorial's adder, then a real language model: tables here, pictures in a folder."""
    run_demo(out, say=typer.echo, cities=cities)
