"""`tiktok-dm import`: sets that others published, as datasets of segments. Thin; see `importers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiktok_dm.cli.options import (
    SOME_FAILED,
    STOPPED,
    Device,
    Json,
    Visual,
    VisualFlow,
    VisualWeights,
    Workers,
    complain,
    print_json,
    visual_choice,
)
from tiktok_dm.errors import UserError
from tiktok_dm.machine import cores

if TYPE_CHECKING:
    from tiktok_dm.importers.aist.driver import AistOptions

app = typer.Typer(no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verb, and the spelling that it had before."""
    app.command("archives")(archives)
    app.command("aist++")(aist)
    parent.add_typer(app, name="import", help="Sets that others published, as datasets: the authors' archives, AIST++.")
    parent.command("import-preprocessed", hidden=True)(archives)


def archives(
    out: Annotated[Path, typer.Option(help="The dataset's folder.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder with motion_s2, video_s2, audio_s2; with --fetch, for the downloads.")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get the archives from Google Drive first.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit with 0 though segments were left out.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn the authors' preprocessed archives into a dataset of segments, ready to train on without any video."""
    from tiktok_dm.importers.archive_files import fetch_archives
    from tiktok_dm.importers.archives import import_preprocessed
    from tiktok_dm.runtime.progress import BuildProgress

    if root is None and not fetch:
        raise UserError("say where the unpacked archives are: --root FOLDER; or get them first: --fetch")
    root = root or out.with_name(out.name + ".download")
    with BuildProgress(quiet=as_json) as bars:
        if fetch:
            root = fetch_archives(root, tell=bars.say)

        def tell(done: int, total: int, what: str) -> None:
            bars.expect("segments", total)
            bars.advance("segments", what)

        made = import_preprocessed(root, out, progress=tell)
    if as_json:
        print_json({"out": str(out), **made.counts, "report": made.report})
    else:
        for sentence in made.sentences():
            print(sentence)
        for name, part in made.counts["splits"].items():
            print(f"{name}: {part['segments']:,} segments of {part['clips']} clips, {part['songs']} songs")
        print(f"{out}: {made.counts['bytes'] / 1e6:.0f} MB" + (", unchanged" if made.counts["unchanged"] else ""))
    if not (made.complete or allow_missing):
        raise typer.Exit(SOME_FAILED)


def aist(
    annotations: Annotated[Path, typer.Option(help="AIST++'s published annotations, unpacked.")],
    media: Annotated[Path, typer.Option(help="Folder with AIST's videos, or with its music alone.")],
    out: Annotated[Path, typer.Option(help="The dataset's folder.")],
    camera: Annotated[str, typer.Option(help="c01 to c09; the published segments are of c01.")] = "c01",
    skip_ignored: Annotated[
        bool, typer.Option("--skip-ignored", help="Leave its ignore list out; published segments have it.")
    ] = False,
    segments_only: Annotated[bool, typer.Option("--segments-only", help="Cut no clips out of its videos.")] = False,
    genre_order: Annotated[
        str | None, typer.Option(help="Of the one-hot, such as BR,HO,...; AIST's own if left.", metavar="GENRES")
    ] = None,
    max_height: Annotated[int, typer.Option(help="Of stored clips, in px; 0 keeps the source's.", min=0)] = 720,
    visual: Visual = None,
    visual_weights: VisualWeights = None,
    visual_flow: VisualFlow = "tvl1",
    device: Device = "auto",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Turn AIST++'s published annotations and media into a dataset, as the released model takes it."""
    from tiktok_dm.importers.aist.driver import AistOptions

    seen, weights = visual_choice(visual, visual_weights, visual_flow, device)
    options = AistOptions(
        annotations,
        media,
        out,
        camera=camera,
        skip_ignored=skip_ignored,
        clips=not segments_only,
        max_height=max_height or None,
        visual=seen,
        visual_source=weights,
        workers=workers or cores(),
        **genre_choice(genre_order),
    )
    run_aist(options, as_json)


def genre_choice(order: str | None) -> dict[str, Any]:
    """`--genre-order` as an option of `AistOptions`; none where it was left out."""
    return {} if order is None else {"genres": tuple(order.upper().replace(",", " ").split())}


def run_aist(options: AistOptions, as_json: bool) -> None:
    """Build it, and say what was made."""
    from tiktok_dm.importers.aist.driver import build_aist
    from tiktok_dm.runtime.progress import BuildProgress

    with BuildProgress(quiet=as_json) as bars:

        def tell(done: int, total: int, what: str) -> None:
            bars.expect("AIST++", total)
            bars.advance("AIST++", what)

        try:
            made = build_aist(options, tell)
        except KeyboardInterrupt:
            complain(STOPPED)
            raise typer.Exit(130) from None
    if as_json:
        print_json({"out": str(options.out), **made.counts, "report": made.report})
    else:
        for sentence in made.sentences():
            print(sentence)
        print(
            f"{options.out}: {made.counts['segments']:,} segments, {made.counts['clips']:,} clips, "
            f"{made.counts['bytes'] / 1e6:.0f} MB" + (", unchanged" if made.counts["unchanged"] else "")
        )
    if made.failed:
        raise typer.Exit(SOME_FAILED)
