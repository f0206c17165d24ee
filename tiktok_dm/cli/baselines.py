"""The verb `tiktok-dm baselines`. Thin; see `baseline_folders`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tiktok_dm.cli.options import Json


def register(app: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verb."""
    app.command("baselines")(baselines)


def baselines(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder that `tiktok-dm build` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for a folder of wav files per baseline.")],
    split: Annotated[str, typer.Option(help="Whose ids get music: test, train, validation or all.")] = "test",
    config: Annotated[str, typer.Option(help="clips (whole dances) or segments (2 s).")] = "clips",
    codec: Annotated[
        str,
        typer.Option(
            help="Of the row 'ground truth through a codec': aac:KBITS, none, a registered codec such as d2m:FOLDER, "
            "or package.module:function:ARGUMENT.",
            metavar="NAME[:ARGUMENT]",
        ),
    ] = "aac:32",
    seed: Annotated[int, typer.Option(help="Of shuffling, phases and noise.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Make what every table carries: ground truth, codec, shuffled, metronomes, silence, noise, nearest by motion."""
    from tiktok_dm.benchmark.baseline_folders import DESCRIPTION, make_baselines
    from tiktok_dm.benchmark.baselines import TITLES
    from tiktok_dm.benchmark.codec_round_trip import open_codec

    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if not as_json and sys.stderr.isatty() and 100 * done // total != shown:
            shown = 100 * done // total
            print(f"\r{done} of {total} files", end="\n" if done == total else "", file=sys.stderr, flush=True)

    names = make_baselines(
        dataset, out, split=split, config=config, codec=open_codec(codec), seed=seed, progress=progress
    )
    about = {name: json.loads((out / name / DESCRIPTION).read_text(encoding="utf-8")) for name in names}
    if as_json:
        told = {name: {"n": one["n"], "title": one["title"], "notes": one["notes"]} for name, one in about.items()}
        print(json.dumps({"out": str(out), "baselines": told}))
        return
    for name in names:
        print(f"{out / name}: {TITLES[name]}, {about[name]['n']} files")
        for note in about[name]["notes"]:
            print(f"  note: {note}")
