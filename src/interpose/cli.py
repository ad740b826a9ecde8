"""The command line: it parses, calls and prints."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .commands import discovered
from .demo import demo as run_demo
from .errors import InterposeError

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


@app.command()
def discover(
    network: Annotated[str, typer.Argument(help="FILE.py:NAME, a torch module or a function that makes one.")],
    inputs: Annotated[list[str], typer.Option("--input", help="An input and its values: A=0..9 or A=0,1,5.")],
    out: Annotated[Path, typer.Option(help="The folder to save tables and a picture in.")] = Path("interpose-found"),
    tol: Annotated[float | None, typer.Option(help="Outputs nearer than this are the same.")] = None,
    seed: Annotated[int, typer.Option(help="Of random interchanges and samples.")] = 0,
) -> None:
    """From a network to its algorithm: variables, the neurons that hold them, and how it is known."""
    try:
        discovered(network, inputs, out, tol=tol, seed=seed, say=typer.echo)
    except InterposeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
