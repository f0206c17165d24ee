"""The verbs `tiktok-dm submit new`, `tiktok-dm submit check` and `tiktok-dm leaderboard build`. Thin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tiktok_dm.cli.options import AllowPrivate, Json, Workers
from tiktok_dm.errors import UserError
from tiktok_dm.machine import cores

Dataset = Annotated[Path, typer.Option("--dataset", help="The benchmark: a folder that `tiktok-dm build` wrote.")]
Work = Annotated[Path | None, typer.Option(help="Where archives and what is made again are kept; else beside.")]
Config = Annotated[str | None, typer.Option(help="clips or segments; else what the ids look like.")]


def register(app: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verbs."""
    submit = typer.Typer(help="Make and check a submission to the leaderboard.", no_args_is_help=True)
    submit.command("new")(new)
    submit.command("check")(check)
    submit.command("example")(example)
    app.add_typer(submit, name="submit")
    leaderboard = typer.Typer(help="Score all submissions again, and write the leaderboard.", no_args_is_help=True)
    # With a single command, typer would let the group's name stand for it.
    leaderboard.callback()(_group)
    leaderboard.command("build")(build)
    app.add_typer(leaderboard, name="leaderboard")


def example(
    folder: Annotated[Path, typer.Argument(help="Folder for submissions, such as submissions.", metavar="DIR")],
) -> None:
    """Lay the shipped example (a metronome) and the rules into a folder for submissions."""
    from shutil import copytree

    from tiktok_dm.shipped import shipped

    to = folder / "metronome"
    if to.exists():
        raise UserError(f"{to} exists already: remove it first, or give another folder")
    copytree(shipped("submissions"), folder, dirs_exist_ok=True)
    print(f"{to / '1.0'}: an example of a submission; the rules are in {folder / 'README.md'}")


def _group() -> None:
    """Score all submissions again, and write the leaderboard."""


def new(
    folder: Annotated[Path, typer.Argument(help="submissions/SYSTEM/VERSION, new.", metavar="DIR")],
    dataset: Dataset,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Folder of wav files named by id, or of such folders named by seed.", metavar="DIR"),
    ] = None,
    seed_dir: Annotated[
        list[str] | None, typer.Option(help="Instead: SEED=DIR, a seed's wav files; repeatable.", metavar="SEED=DIR")
    ] = None,
    config: Config = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="Pack the predictions into this zip, to be uploaded, instead of beside the card."),
    ] = None,
) -> None:
    """Make a submission: predictions, their manifest, and a card to fill in."""
    from tiktok_dm.benchmark.leaderboard import new as submission_new

    if (predictions is None) == (not seed_dir):
        raise UserError("say where the music is: either --predictions DIR or --seed-dir SEED=DIR, once a seed")
    folders = _seed_folders(seed_dir or []) if predictions is None else submission_new.seed_folders(predictions)
    steps = submission_new.new(folder, dataset, folders, config=config, archive=archive)
    print(f"{folder}: {len(folders)} seed{'s' if len(folders) > 1 else ''}. What is left to do:")
    for step in steps:
        print(f"  {step}")


def _seed_folders(words: list[str]) -> dict[int, Path]:
    folders: dict[int, Path] = {}
    for word in words:
        seed, equals, place = word.partition("=")
        if not equals or not seed.isascii() or not seed.isdigit() or not place:
            raise UserError(f"--seed-dir got '{word}': write SEED=DIR, such as 0=music/seed0")
        if int(seed) in folders:
            raise UserError(f"--seed-dir names seed {int(seed)} twice: give each seed once")
        folders[int(seed)] = Path(place)
    return folders


def check(
    folder: Annotated[Path, typer.Argument(help="submissions/SYSTEM/VERSION.", metavar="DIR")],
    dataset: Dataset,
    work: Work = None,
    allow_private_networks: AllowPrivate = False,
    as_json: Json = False,
) -> None:
    """Name everything that keeps a submission from the leaderboard: card, manifest, predictions."""
    import tempfile

    from tiktok_dm.benchmark.leaderboard import check as submission_check

    with tempfile.TemporaryDirectory(prefix="tiktok-dm-") as passing:
        checked = submission_check.check(folder, dataset, work or Path(passing), allow_private=allow_private_networks)
    problems = [str(problem) for problem in checked.problems]
    if as_json:
        print(json.dumps({"ok": not problems, "problems": problems, "notes": checked.notes}, indent=1))
    else:
        for problem in problems:
            print(problem)
        for note in checked.notes:
            print(f"note: {note}")
        files = sum(map(len, checked.files.paths.values()))
        seeds = len(checked.files.paths)
        print(
            f"{folder}: " + (f"{len(problems)} problems" if problems else "fit to be scored") + _counted(files, seeds)
        )
    if problems:
        raise typer.Exit(1)


def _counted(files: int, seeds: int) -> str:
    return f" ({files} files of {seeds} seed{'' if seeds == 1 else 's'})"


def build(
    submissions: Annotated[Path, typer.Argument(help="Folder of SYSTEM/VERSION/submission.yaml.")],
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="Folder for leaderboard.json, leaderboard.md and index.html.")],
    config: Annotated[str, typer.Option(help="clips (whole dances) or segments (2 s).")] = "clips",
    audio: Annotated[
        bool, typer.Option("--audio", help="Copy predictions (up to 1.5 MB a file) beside the page, to be heard there.")
    ] = False,
    reference_audio: Annotated[
        bool, typer.Option("--reference-audio", help="Copy the dataset's own music too, where its licence allows it.")
    ] = False,
    codec: Annotated[
        str, typer.Option(help="Of the row 'ground truth through a codec': as in `tiktok-dm baselines`, or none.")
    ] = "aac:32",
    embedder: Annotated[
        str, typer.Option(help="Of the distribution metrics: log-mel, vggish, panns, clap.")
    ] = "log-mel",
    weights: Annotated[Path | None, typer.Option(help="The embedder's weights, where it needs any.")] = None,
    resamples: Annotated[int, typer.Option(help="Swaps of the tests that compare systems.", min=100)] = 2000,
    seed: Annotated[int, typer.Option(help="Of intervals and baselines.", min=0)] = 0,
    workers: Workers = None,
    work: Annotated[Path | None, typer.Option(help="Where scores are kept between runs; OUT.work by default.")] = None,
    allow_private_networks: AllowPrivate = False,
    as_json: Json = False,
) -> None:
    """Score every submission again from its predictions, beside the baselines, and write tables and a page."""
    from tiktok_dm.benchmark.codec_round_trip import open_codec
    from tiktok_dm.benchmark.leaderboard import board as leaderboard

    options = leaderboard.BoardOptions(
        config=config,
        codec=open_codec(codec),
        embedder=embedder,
        weights=weights,
        resamples=resamples,
        seed=seed,
        workers=workers or cores(),
        audio=audio or reference_audio,
        reference_audio=reference_audio,
        allow_private=allow_private_networks,
    )

    def progress(text: str) -> None:
        if not as_json and sys.stderr.isatty():
            print(text, file=sys.stderr)

    board = leaderboard.build(submissions, dataset, out, options, work=work, progress=progress)
    refused = {name: [str(problem) for problem in found] for name, found in board.refused.items()}
    if as_json:
        told = {"scored": board.scored, "kept": board.kept, "other": board.other, "refused": refused}
        print(json.dumps({"out": str(out), **told, "notes": board.notes}, indent=1))
    else:
        for name, problems in refused.items():
            for problem in problems:
                print(f"{name}: refused: {problem}", file=sys.stderr)
        for name, notes in board.notes.items():
            for note in notes:
                print(f"{name}: note: {note}")
        rows = board.data["rows"]
        own = sum(row["kind"] == "baseline" for row in rows)
        print(
            f"{out / 'index.html'}: {len(rows) - own} submissions ({len(board.scored)} scored now, {len(board.kept)} "
            f"known) and {own} baselines"
            + (f"; {len(refused)} refused" if refused else "")
            + (f"; {len(board.other)} for another dataset or configuration" if board.other else "")
        )
    if refused:
        raise typer.Exit(1)
