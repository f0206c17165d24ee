"""The words of `tiktok-dm models`: which model files the toolkit fetches by itself, and whether they are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tiktok_dm.cli.options import Json, print_json

app = typer.Typer(invoke_without_command=True)


def _table() -> list[dict[str, Any]]:
    from tiktok_dm.pose import model_files

    state = model_files.state()
    return [
        {
            "model": file.name,
            "for": "--pose mediapipe",
            "from": model_files.REQUIREMENT,
            "licence": model_files.LICENCE,
            "bytes": file.size,
            "sha256": file.sha256,
            "path": str(model_files.cache_folder() / file.name),
            "state": state[file.name],
        }
        for file in model_files.FILES
    ]


def _show(as_json: bool) -> bool:
    """Print the table; whether every model is here and whole."""
    rows = _table()
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print(
                f"{row['state']:8} {row['model']}  {row['bytes'] / 1e6:.1f} MB, {row['licence']}, from {row['from']}, "
                f"SHA-256 {row['sha256'][:12]}...\n         {row['path']}"
            )
    return all(row["state"] == "ok" for row in rows)


@app.callback()
def models(context: typer.Context, as_json: Json = False) -> None:
    """The model files that the toolkit fetches by itself: list them, fetch them, check them."""
    if context.invoked_subcommand is None and not _show(as_json) and not as_json:
        print("tiktok-dm models fetch brings what is missing")


@app.command()
def fetch(
    source: Annotated[
        Path | None,
        typer.Option("--from", help="MediaPipe's wheel, or a folder with it or the models: for machines offline."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring the models into the user's cache, where they are not there already."""
    from tiktok_dm.pose import model_files

    model_files.fetch(source)
    _show(as_json)


@app.command()
def check(as_json: Json = False) -> None:
    """Hold the models against their checksums; exit code 1 if one is missing or damaged."""
    if not _show(as_json):
        raise typer.Exit(1)
