"""The command line: it parses, calls and prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated

import typer

from .commands import SITES, discovered, reported, scanned
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
    with _in_a_line():
        discovered(network, inputs, out, tol=tol, seed=seed, say=typer.echo)


@app.command()
def scan(
    model: Annotated[str, typer.Argument(help="A hub id, a folder, a GGUF file, or FILE.py:NAME.")],
    pairs: Annotated[Path, typer.Argument(help="A .jsonl or .csv file, or the folder of a saved data set.")],
    sites: Annotated[str, typer.Option(help=f"Of {', '.join(SITES)}.")] = "residual",
    metric: Annotated[str, typer.Option(help="What is measured of the next token's logits.")] = "logit-difference",
    layers: Annotated[str | None, typer.Option(help="Which layers, as in 0,5,10; otherwise all.")] = None,
    positions: Annotated[str | None, typer.Option(help="Which tokens, as in 3,-1 (the last).")] = None,
    out: Annotated[Path, typer.Option(help="The folder to save in; the same command goes on from there.")] = Path(
        "interpose-scan"
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="How many pairs to run, and to keep, at a time.")] = 16,
) -> None:
    """Which places of a language model carry what differs between prompts?

    A line of PAIRS: {"base": "Paris is in", "source": "Rome is in", "answers": [" France", " Italy"]}
    """
    with _in_a_line():
        scanned(
            model,
            pairs,
            out,
            sites=sites,
            metric=metric,
            layers=layers,
            positions=positions,
            batch_size=batch_size,
            say=typer.echo,
            width=get_terminal_size().columns if sys.stdout.isatty() else None,
        )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Where results were saved, as by interpose scan --out.")],
    out: Annotated[Path | None, typer.Option(help="The page to write; report.html in the folder otherwise.")] = None,
) -> None:
    """One page of all saved results below a folder, as a file that opens from disk."""
    with _in_a_line():
        reported(folder, out, say=typer.echo)


@contextmanager
def _in_a_line() -> Iterator[None]:
    """An error that is meant for the user, and a stop with Ctrl-C, as lines on stderr instead of a traceback."""
    try:
        yield
    except InterposeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stop:
        typer.echo(" ".join(["Stopped.", *getattr(stop, "__notes__", [])]), err=True)
        raise typer.Exit(130) from None
