"""The words of `tiktok-dm propose`, `review` and `recover`; what they do is in the modules beside this one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]

SOME_FAILED = 3  # as for a build: the rest is done, and some items are worth another try


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(propose)
    app.command()(review)
    app.command()(recover)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def propose(
    videos: Annotated[list[Path], typer.Argument(help="Compilations, or folders of them.", metavar="VIDEO...")],
    out: Annotated[Path, typer.Option(help="Folder for the annotations; an existing one grows.")],
    dancers: Annotated[bool, typer.Option(help="Count dancers too; it takes most of the time.")] = True,
    pose: Annotated[str, typer.Option(help="Pose estimator that counts them.")] = "mediapipe",
    workers: Annotated[int | None, typer.Option(help="Processes; all cores by default.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Propose clips, songs and dancers of compilations, each value with a confidence and a reason in words."""
    from dataclasses import asdict

    from tiktok_dm.curate.propose import propose as run
    from tiktok_dm.pipeline.progress import BuildProgress

    with BuildProgress(quiet=as_json) as bars:
        done = run(
            videos,
            out,
            dancers=dancers,
            estimator=pose,
            workers=workers or _cores(),
            expect=bars.expect,
            advance=bars.advance,
        )
    if as_json:
        print(json.dumps(asdict(done), indent=1, ensure_ascii=False, default=str))
    else:
        for number, clips in done.new.items():
            print(f"compilation {number}: {clips} clips")
        for number in done.known:
            print(f"compilation {number}: proposed before, left as it is")
        for note in done.notes:
            print(f"note: {note}")
        print(
            f"{done.out}: {done.clips} clips, {done.songs} songs, {done.rejected} stretches that are no clips, "
            f"{done.unsure} clips to look at first; now: tiktok-dm review {done.out}"
        )
    for sentence in done.failed.values():
        print(f"tiktok-dm: {sentence}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(SOME_FAILED if done.new or done.known else 1)
