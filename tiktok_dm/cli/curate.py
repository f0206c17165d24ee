"""The words of `tiktok-dm propose`, `review` and `recover`; what they do is in the modules beside this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tiktok_dm.cli.options import SOME_FAILED, Json, Workers
from tiktok_dm.machine import cores


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(propose)
    app.command()(review)
    app.command()(recover)


def propose(
    videos: Annotated[list[Path], typer.Argument(help="Compilations, or folders of them.", metavar="VIDEO...")],
    out: Annotated[Path, typer.Option(help="Folder for the annotations; an existing one grows.")],
    dancers: Annotated[bool, typer.Option(help="Count dancers too; it takes most of the time.")] = True,
    pose: Annotated[str, typer.Option(help="Pose estimator that counts them.")] = "mediapipe",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Propose clips, songs and dancers of compilations, each value with a confidence and a reason in words."""
    from dataclasses import asdict

    from tiktok_dm.curate.propose import propose as run
    from tiktok_dm.runtime.progress import BuildProgress

    with BuildProgress(quiet=as_json) as bars:
        done = run(
            videos,
            out,
            dancers=dancers,
            estimator=pose,
            workers=workers or cores(),
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


def review(
    folder: Annotated[Path, typer.Argument(help="A folder that `tiktok-dm propose --out` wrote.", metavar="DIR")],
    media: Annotated[Path | None, typer.Option(help="Folder with the videos, if they have moved.")] = None,
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Confirm or mend proposals on a local web page; every change is saved at once."""
    from tiktok_dm.curate.review import serve

    serve(folder, media=media, port=port, open_browser=browser)


def recover(
    out: Annotated[Path, typer.Option(help="A new folder: the annotations with the times that were found.")],
    media: Annotated[Path | None, typer.Option(help="Folder with the compilations.")] = None,
    proposals: Annotated[
        Path | None, typer.Option(help="What `propose` said of these videos, reviewed or not; else it is run now.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="What is known of the clips; by default the 445 released ones.")
    ] = None,
    dancers: Annotated[bool, typer.Option(help="Count dancers where proposals are made.")] = False,
    least_confidence: Annotated[float, typer.Option(help="Clips found less surely are listed, without times.")] = 0.2,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Find the times of clips whose order, songs and lengths are known, such as the 445 released ones."""
    from collections.abc import Sequence

    from tiktok_dm.curate import propose as proposing
    from tiktok_dm.curate.recover import driver as recovering
    from tiktok_dm.runtime.progress import BuildProgress

    def say(videos: Sequence[Path], folder: Path) -> None:
        with BuildProgress(quiet=as_json) as bars:
            made = proposing.propose(
                videos,
                folder,
                dancers=dancers,
                workers=workers or cores(),
                expect=bars.expect,
                advance=bars.advance,
            )
        for sentence in made.failed.values():
            print(f"tiktok-dm: {sentence}", file=sys.stderr)

    found = recovering.recover(
        media, out, proposals=proposals, annotations=annotations, propose=say, least_confidence=least_confidence
    )
    summary = found.summary()
    if as_json:
        print(json.dumps({"out": str(out), **summary}, indent=1))
        return
    for match in found.matches:
        print(f"compilation {match.compilation_id}: {match.file or 'proposal ' + str(match.proposed_id)} ({match.how})")
    print(
        f"{out}: {summary['recovered']} of {summary['clips']} clips got their times, {summary['recovered_surely']} of "
        f"them surely; {summary['expected_within_half_a_second']:g} are expected to be right within half a second; "
        f"{summary['clips_not_found']} clips and {summary['stretches_unclaimed']} stretches of video are listed in "
        f"{out / 'unmatched.csv'}"
    )
