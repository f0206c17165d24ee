"""The verbs about a dataset that is there (`verify`, `stats`, `remove`) and about the pose models.

The words of `tiktok-dm models`: which model files the toolkit fetches by itself, and whether they are here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tiktok_dm.cli.options import Json, print_json
from tiktok_dm.errors import UserError

Dataset = Annotated[Path, typer.Argument(help="A dataset folder that `tiktok-dm build` wrote.", metavar="OUT")]


def register(app: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verbs."""
    app.command()(verify)
    app.command()(stats)
    app.command()(remove)


def verify(out: Dataset, as_json: Json = False) -> None:
    """Check a dataset: checksums, schema, split, and that picture and sound agree."""
    from tiktok_dm.dataset.verify import verify as verify_dataset

    report = verify_dataset(out)
    if as_json:
        findings = [str(finding) for finding in report.findings]
        offsets = {"max_start_ms": report.max_start_ms, "max_sync_ms": report.max_sync_ms}
        print_json({"ok": report.ok, "findings": findings, "counts": report.counts, **offsets, "notes": report.notes})
    else:
        for finding in report.findings:
            print(finding)
        for note in report.notes:
            print(f"note: {note}")
        checked = ", ".join(f"{n} {name}" for name, n in report.counts.items())
        print(f"{out}: " + ("sound" if report.ok else f"{len(report.findings)} findings") + f" ({checked})")
    if not report.ok:
        raise typer.Exit(1)


def stats(out: Dataset, as_json: Json = False) -> None:
    """The numbers of the paper's section 3 for a dataset, and the content identity of what is scored of it."""
    from tiktok_dm.benchmark.leaderboard.content import describe
    from tiktok_dm.benchmark.leaderboard.open_benchmark import contents
    from tiktok_dm.dataset import stats as statistics

    numbers = statistics.stats(out)
    if not as_json:
        print(statistics.table(numbers))
    held = contents(out)
    if as_json:
        identities = {config: content.identity for config, content in held.items()}
        # Only of those for which a reference is shipped.
        references = {
            config: {"same": not content.reference, "differences": describe(content.reference)}
            for config, content in held.items()
            if content.reference is not None
        }
        print_json({**numbers, "content": identities, **({"reference": references} if references else {})})
        return
    for config, content in held.items():
        print(f"content of the test {config}: {content.identity}")
        if content.reference is not None:
            same = "the same content" if not content.reference else f"other content: {describe(content.reference)}"
            print(f"  beside the shipped reference: {same}")


def remove(
    out: Dataset,
    reason: Annotated[str, typer.Option(help="Why, in a few words; it stays in the dataset.")],
    source: Annotated[int | None, typer.Option(help="Id of a compilation.", metavar="ID")] = None,
    clip: Annotated[int | None, typer.Option(help="Id of a clip.", metavar="ID")] = None,
    song: Annotated[int | None, typer.Option(help="Id of a song.", metavar="ID")] = None,
) -> None:
    """Take a source, a clip or a song out of a dataset on request, and keep it out."""
    from tiktok_dm.pipeline.remove import remove as remove_item

    given = [(kind, n) for kind, n in (("compilation", source), ("clip", clip), ("song", song)) if n is not None]
    if len(given) != 1:
        raise UserError("name exactly one of --source ID, --clip ID, --song ID")
    gone = remove_item(out, *given[0], reason)
    print(
        f"{out}: {given[0][0]} {given[0][1]} is out ({len(gone)} clips: {', '.join(map(str, gone))}); "
        "its tombstone stays"
    )


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
