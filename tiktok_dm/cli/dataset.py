"""The verbs for a dataset that is there: `tiktok-dm verify`, `stats` and `remove`. Thin; see the modules so called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
