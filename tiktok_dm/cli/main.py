"""The `tiktok-dm` command, put together: each package has its verbs' words in a module of its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tiktok_dm.cli import annotations as annotations_cli
from tiktok_dm.cli import build as build_cli
from tiktok_dm.cli import curate as curate_cli
from tiktok_dm.cli import dataset as dataset_cli
from tiktok_dm.cli import evaluate as evaluate_cli
from tiktok_dm.cli import imports as imports_cli
from tiktok_dm.cli import submit as submit_cli
from tiktok_dm.cli.dataset import app as models_app
from tiktok_dm.cli.listen import app as listen_app
from tiktok_dm.cli.options import complain
from tiktok_dm.errors import UserError, about_the_place

app = typer.Typer(
    name="tiktok-dm",
    help="Dance-video compilations to a song-disjoint dance-music dataset, and its benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
curate_cli.register(app)
annotations_cli.register(app)
build_cli.register(app)
imports_cli.register(app)
dataset_cli.register(app)
evaluate_cli.register(app)
submit_cli.register(app)
app.add_typer(models_app, name="models")
app.add_typer(listen_app, name="listen", help="Listening tests: make a study, serve it, report on it.")


def main() -> None:
    """Entry point: errors that a user can cause are one sentence on standard error."""
    try:
        app()
    except UserError as error:
        complain(str(error))
        sys.exit(1)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - whoever read our output has left
        sys.exit(1)
    except KeyboardInterrupt:
        complain("stopped")
        sys.exit(130)
    except OSError as error:
        sentence = about_the_place(error)
        if sentence is None:
            raise
        complain(sentence)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from tiktok_dm import __version__

        print(__version__)
        raise typer.Exit
