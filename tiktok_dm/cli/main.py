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
from tiktok_dm.runtime.command_help import describe_commands

app = typer.Typer(
    name="tiktok-dm",
    help="Dance-video compilations to a song-disjoint dance-music dataset, and its benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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

_CURATE, _BUILD, _PUBLISH, _BENCHMARK, _LISTEN = "Curate", "Build", "Publish", "Benchmark", "Listen"
EXAMPLES = {
    "propose": (_CURATE, "tiktok-dm propose films/*.mp4 --out proposals"),
    "review": (_CURATE, "tiktok-dm review proposals --media films"),
    "recover": (_CURATE, "tiktok-dm recover --annotations annotations --media films --out found"),
    "annotations": (_CURATE, ""),
    "annotations check": (_CURATE, "tiktok-dm annotations check annotations"),
    "annotations export": (_CURATE, "tiktok-dm annotations export proposals --format elan --out elan"),
    "annotations import": (_CURATE, "tiktok-dm annotations import clips.csv --out annotations"),
    "annotations fetch": (_CURATE, "tiktok-dm annotations fetch --out annotations"),
    "split": (_CURATE, "tiktok-dm split annotations --test-fraction 0.1 --out splits"),
    "build": (_BUILD, "tiktok-dm build --demo --out demo"),
    "demo-segments": (_BUILD, "tiktok-dm demo-segments demo_segments --songs 24 --clips 48"),
    "import": (_BUILD, ""),
    "import archives": (_BUILD, "tiktok-dm import archives --root archives --out released"),
    "import aist++": (_BUILD, "tiktok-dm import aist++ --annotations aist_plusplus --media aist --out aist_segments"),
    "models": (_BUILD, ""),
    "models fetch": (_BUILD, "tiktok-dm models fetch"),
    "models check": (_BUILD, "tiktok-dm models check"),
    "verify": (_PUBLISH, "tiktok-dm verify demo"),
    "stats": (_PUBLISH, "tiktok-dm stats demo"),
    "remove": (_PUBLISH, "tiktok-dm remove demo --clip 12 --reason 'asked by the dancer'"),
    "evaluate": (_BENCHMARK, "tiktok-dm evaluate --reference demo --generated music"),
    "baselines": (_BENCHMARK, "tiktok-dm baselines demo --out baselines --codec aac:32"),
    "metronome-check": (_BENCHMARK, "tiktok-dm metronome-check --songs 4"),
    "submit": (_BENCHMARK, ""),
    "submit new": (_BENCHMARK, "tiktok-dm submit new submissions/mine/1.0 --dataset demo --predictions music"),
    "submit check": (_BENCHMARK, "tiktok-dm submit check submissions/mine/1.0 --dataset demo"),
    "submit example": (_BENCHMARK, "tiktok-dm submit example submissions"),
    "leaderboard": (_BENCHMARK, ""),
    "leaderboard build": (_BENCHMARK, "tiktok-dm leaderboard build submissions --dataset demo --out site"),
    "listen": (_LISTEN, ""),
    "listen new": (_LISTEN, "tiktok-dm listen new study --videos demo mine=music"),
    "listen serve": (_LISTEN, "tiktok-dm listen serve study"),
    "listen places": (_LISTEN, "tiktok-dm listen places study --links"),
    "listen report": (_LISTEN, "tiktok-dm listen report study"),
}
describe_commands(app, EXAMPLES)


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
