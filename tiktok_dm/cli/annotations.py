"""The verbs `tiktok-dm annotations check`, `export`, `import`, `fetch`, and `tiktok-dm split`. Thin.

They stand here and not in a package, since they drive modules of several: `annotations`, `annotations_import`,
`splits`, and of `curate` what goes out to annotation tools and comes home, and what listens for leaks.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tiktok_dm.cli.options import Json, print_json
from tiktok_dm.errors import UserError
from tiktok_dm.shipped import annotations_folder, split_table

Column = Annotated[list[str] | None, typer.Option(help="name=theirs, where a column is not recognised; repeatable.")]
Ignore = Annotated[list[str] | None, typer.Option(help="A column of theirs to leave out; repeatable.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet of an xlsx file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over annotations that are there already.")]
Compare = Annotated[bool, typer.Option(help="Compare with the 445 released clips.")]


def register(app: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verbs."""
    annotations = typer.Typer(help="Check, import, export and fetch annotations.", no_args_is_help=True)
    annotations.command("check")(check)
    annotations.command("export")(export)
    annotations.command("import")(import_)
    annotations.command("fetch")(fetch)
    app.add_typer(annotations, name="annotations")
    app.command()(split)


def check(
    folder: Annotated[
        Path, typer.Argument(help="Folder with annotations, or tiktok_dm.", metavar="DIR", parser=annotations_folder)
    ],
    splits: Annotated[
        Path | None,
        typer.Option(help="Split table, or tiktok_dm; else the annotations' own.", metavar="FILE", parser=split_table),
    ] = None,
    as_json: Json = False,
) -> None:
    """Name every problem in a folder of annotations: file, line, column, what to do."""
    from tiktok_dm.annotations.tables import check_annotations

    report = check_annotations(folder, splits)
    if as_json:
        problems = [{"file": p.file, "row": p.row, "column": p.column, "message": p.message} for p in report.problems]
        print_json({"ok": report.ok, "problems": problems, "counts": report.counts, "notes": report.notes})
    else:
        for problem in report.problems:
            print(problem)
        for note in report.notes:
            print(f"note: {note}")
        print(", ".join(f"{n} {name.replace('_', ' ')}" for name, n in report.counts.items()))
        print("no problems" if report.ok else f"{len(report.problems)} problems")
    if not report.ok:
        raise typer.Exit(1)


def export(
    folder: Annotated[Path, typer.Argument(help="Folder with annotations or proposals.", metavar="DIR")],
    format: Annotated[str, typer.Option("--format", help="label-studio or elan.")],
    out: Annotated[Path, typer.Option(help="Folder for the export.")],
    media: Annotated[Path | None, typer.Option(help="Folder with the compilations: for frame rates and links.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second where no file tells (Label Studio).")] = None,
    video_prefix: Annotated[
        str | None, typer.Option(help="Put before a file's name (Label Studio); /data/local-files/?d= by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over an export that is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Write annotations for Label Studio or ELAN, with the proposals' confidences and reasons."""
    from tiktok_dm.curate.exchange.corrections import export_annotations

    options = {"media": media, "fps": fps, "video_prefix": video_prefix, "overwrite": overwrite}
    _print_import(export_annotations(folder, format, out, **options), as_json)  # type: ignore[arg-type]


def import_(
    file: Annotated[
        Path, typer.Argument(help="csv, tsv, xlsx; or what came back: .eaf, a folder of them, .json.", metavar="FILE")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the annotations.")],
    column: Column = None,
    ignore: Ignore = None,
    sheet: Sheet = None,
    compare: Compare = True,
    base: Annotated[Path | None, typer.Option(help="The annotations that an .eaf or .json was exported from.")] = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="With --base: remove clips that did not come back.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn the authors' annotation file, or a corrected export, into annotations."""
    from tiktok_dm.annotations.author_file import import_annotations
    from tiktok_dm.curate.exchange.corrections import comes_from_a_tool, import_exported

    if base is not None or comes_from_a_tool(file):
        return _print_import(import_exported(file, base, out, drop_missing=drop_missing, overwrite=overwrite), as_json)
    columns = _pairs(column)
    result = import_annotations(
        file, out, columns=columns, ignore=ignore or (), sheet=sheet, compare=compare, overwrite=overwrite
    )
    return _print_import(result, as_json)


def fetch(
    out: Annotated[Path, typer.Option(help="Folder for the annotations.")],
    file_id: Annotated[str | None, typer.Option(help="Google Drive id, if not the published one.")] = None,
    column: Column = None,
    ignore: Ignore = None,
    sheet: Sheet = None,
    compare: Compare = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fetch the authors' annotation file from where they share it, then import it."""
    from tiktok_dm.annotations.author_file import AUTHORS_FILE_ID, fetch_annotations

    result = fetch_annotations(
        out,
        file_id or AUTHORS_FILE_ID,
        columns=_pairs(column),
        ignore=ignore or (),
        sheet=sheet,
        compare=compare,
        overwrite=overwrite,
    )
    _print_import(result, as_json)


def _print_import(result: Any, as_json: bool) -> None:
    if as_json:
        print_json(result.as_dict())
    else:
        print(result)


def _pairs(words: list[str] | None) -> dict[str, str]:
    pairs = {}
    for word in words or ():
        name, equals, theirs = word.partition("=")
        if not equals or not name.strip() or not theirs.strip():
            raise UserError(f"--column got '{word}': write name=theirs, such as start_s=Begin")
        pairs[name.strip()] = theirs.strip()
    return pairs


def split(
    folder: Annotated[Path, typer.Argument(help="Folder with annotations.", metavar="DIR")],
    test_fraction: Annotated[float, typer.Option(help="Share of clips in the test split.")] = 0.2,
    validation_fraction: Annotated[float, typer.Option(help="Share of clips in a validation split.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal splits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write; DIR/splits.csv by default.")] = None,
    splits: Annotated[
        Path | None, typer.Option(help="With --audit: the split table to look at.", metavar="FILE", parser=split_table)
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Look for leaks in the existing split; write nothing.")
    ] = False,
    media: Annotated[
        Path | None, typer.Option(help="With --audit: compilations, to hear equal songs and see equal clips.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="With --audit: the same in a built dataset.")] = None,
    as_json: Json = False,
) -> None:
    """Split a dataset by song: whole songs, balanced in clips and compilations; or audit a split for leaks."""
    from tiktok_dm.annotations import splits as song_splits
    from tiktok_dm.annotations.tables import read_annotations, write_splits

    annotations = read_annotations(folder, splits, with_splits=audit)
    if audit:
        if annotations.splits is None:
            raise UserError(
                f"{folder} has no split to look at: give --splits FILE, or make one with `tiktok-dm split {folder}`"
            )
        heard: dict[str, Any] = {}
        if media is not None or dataset is not None:
            listened = _audit_sound(annotations, media, dataset, as_json)
            findings, heard = listened.findings, {"heard": listened.heard, "notes": listened.notes}
        else:
            findings = song_splits.audit_splits(annotations.clips, annotations.splits, catalogue=annotations.songs)
        leaks = [finding for finding in findings if finding.severity == "error"]
        counts = song_splits.count_splits(annotations.clips, annotations.splits)
        if as_json:
            details = [asdict(finding) for finding in findings]
            shown = [str(finding) for finding in findings]
            print_json({"ok": not leaks, "findings": shown, "details": details, "counts": counts, **heard})
        else:
            for finding in findings:
                print(finding)
            for note in heard.get("notes", ()):
                print(f"note: {note}")
            _print_counts(counts)
            if heard:
                print(f"{heard['heard']} of {len(annotations.clips)} clips compared by sound and picture")
            print("no leak found" if not leaks else f"{len(leaks)} leaks")
        if leaks:
            raise typer.Exit(1)
        return
    if media is not None or dataset is not None:
        raise UserError("--media and --dataset belong to --audit: a split is made from the annotations alone")
    table = song_splits.assign_splits(annotations.clips, test_fraction, seed, validation_fraction)
    path = out or folder / "splits.csv"
    write_splits(table, path)
    counts = song_splits.count_splits(annotations.clips, table)
    if as_json:
        print_json({"out": str(path), "counts": counts})
    else:
        _print_counts(counts)
        print(f"written: {path}")


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    for name, numbers in counts.items():
        print(f"{name}: " + ", ".join(f"{n} {what}" for what, n in numbers.items()))


def _audit_sound(annotations: Any, media: Path | None, dataset: Path | None, quiet: bool) -> Any:
    from tiktok_dm.curate.leaks import audit_sound
    from tiktok_dm.runtime.progress import BuildProgress

    with BuildProgress(quiet=quiet) as bars:

        def tell(stage: str, done: int, total: int, what: str) -> None:
            bars.expect(stage, total)
            bars.advance(stage, what)

        return audit_sound(annotations, media=media, dataset=dataset, progress=tell)
