"""The `tiktok-dm` command: thin, one function a verb. What a verb does is in the packages; here are its words."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tiktok_dm.benchmark import baselines_cli, evaluate_cli, submit_cli
from tiktok_dm.benchmark.listening.listen_cli import app as listen_app
from tiktok_dm.curate import curate_cli
from tiktok_dm.errors import UserError

app = typer.Typer(
    name="tiktok-dm",
    help="Dance-video compilations to a song-disjoint dance-music dataset, and its benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
annotations_app = typer.Typer(help="Check, import, export and fetch annotations.", no_args_is_help=True)
app.add_typer(annotations_app, name="annotations")
curate_cli.register(app)
evaluate_cli.register(app)
baselines_cli.register(app)
submit_cli.register(app)
app.add_typer(listen_app, name="listen", help="Listening tests: make a study, serve it, report on it.")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Dataset = Annotated[Path, typer.Argument(help="A dataset folder that `tiktok-dm build` wrote.", metavar="OUT")]

# Exit codes: 1 for what a user must mend, 3 for a build of which some items failed and are worth another try.
SOME_FAILED = 3


def main() -> None:
    """Entry point: errors that a user can cause are one sentence on standard error."""
    try:
        app()
    except UserError as error:
        _complain(str(error))
        sys.exit(1)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - whoever read our output has left
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from tiktok_dm import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def build(
    annotations: Annotated[
        Path | None,
        typer.Argument(help="Folder with compilations.csv, clips.csv and songs.csv.", metavar="[ANNOTATIONS]"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The dataset's folder.")] = None,
    media: Annotated[Path | None, typer.Option(help="Folder with local compilations, by file name or by id.")] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Table song_id,split; else the annotations' own, else made.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Render the embedded demo and build from that.")] = False,
    clips: Annotated[int, typer.Option(help="Clips of the demo.", min=2)] = 8,
    songs: Annotated[int, typer.Option(help="Songs of the demo.", min=2)] = 4,
    seed: Annotated[int, typer.Option(help="Of the demo, and of a split that is made here.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores by default.", min=1)] = None,
    executor: Annotated[str, typer.Option(help="Where stages run: local or ray.")] = "local",
    pose: Annotated[str, typer.Option(help="Pose estimator.")] = "mediapipe",
    visual: Annotated[
        str | None, typer.Option(help="Also visual features of each segment: i3d, or a video model's hub id.")
    ] = None,
    visual_weights: Annotated[
        list[Path] | None, typer.Option(help="Folder or files with the weights for --visual; repeatable.")
    ] = None,
    visual_flow: Annotated[str, typer.Option(help="Optical flow for --visual i3d: tvl1, or raft for a GPU.")] = "tvl1",
    device: Annotated[str, typer.Option(help="Where networks for --visual run: auto, cpu, cuda, ...")] = "auto",
    only: Annotated[list[str] | None, typer.Option(help="clip:3-7, compilation:0, song:4; repeatable.")] = None,
    max_height: Annotated[
        int | None, typer.Option(help="Of downloads and stored clips, in px; 0 keeps the source's.", min=0)
    ] = 720,
    cookies: Annotated[
        Path | None, typer.Option(help="Cookies file (Netscape format) for sources that want a login.")
    ] = None,
    cookies_from_browser: Annotated[
        str | None, typer.Option(help="Browser to take cookies from, such as firefox.")
    ] = None,
    max_gigabytes: Annotated[float, typer.Option(help="Greatest download.", min=0.001)] = 4.0,
    max_hours: Annotated[float, typer.Option(help="Longest compilation to download.", min=0.01)] = 3.0,
    pause: Annotated[float, typer.Option(help="Mean seconds between requests to a site.", min=0.0)] = 1.0,
    retries: Annotated[int, typer.Option(help="Further attempts for errors that pass.", min=0, max=20)] = 4,
    ray_address: Annotated[str | None, typer.Option(help="Of a running Ray cluster, with --executor ray.")] = None,
    retry_gone: Annotated[
        bool, typer.Option("--retry-gone", help="Ask again for sources that were found gone.")
    ] = False,
    keep_work: Annotated[
        bool, typer.Option("--keep-work", help="Keep the cut clips in OUT.work after the export too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost; write nothing.")] = False,
    dataset: Annotated[
        str, typer.Option("--dataset", help="compilations, or aist++ for AIST++'s published annotations and media.")
    ] = "compilations",
    annotations_folder: Annotated[
        Path | None, typer.Option("--annotations", help="The same as ANNOTATIONS; AIST++'s, with --dataset aist++.")
    ] = None,
    camera: Annotated[str, typer.Option(help="Of AIST++: c01 to c09; the published segments are of c01.")] = "c01",
    skip_ignored: Annotated[
        bool, typer.Option("--skip-ignored", help="Of AIST++: leave its ignore list out; published segments have it.")
    ] = False,
    segments_only: Annotated[
        bool, typer.Option("--segments-only", help="Of AIST++: cut no clips out of its videos.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a dataset, or go on building it: acquire, segment, poses, music, export."""
    from tiktok_dm.pipeline import build as builds
    from tiktok_dm.pipeline.acquire import AcquireParams
    from tiktok_dm.pipeline.plan import Parameters
    from tiktok_dm.pipeline.poses import PosesParams
    from tiktok_dm.pipeline.segment import SegmentParams
    from tiktok_dm.pipeline.visual import VisualParams, extractor_of
    from tiktok_dm.pose.estimator import get_estimator
    from tiktok_dm.synthetic import DemoParams
    from tiktok_dm.visual.extractor import VisualSource

    if out is None:
        raise UserError("say where the dataset goes: --out FOLDER")
    if annotations is not None and annotations_folder is not None:
        raise UserError("the annotations are named twice: leave ANNOTATIONS or --annotations out")
    annotations = annotations or annotations_folder
    if dataset.casefold() in ("aist++", "aist"):
        if demo or dry_run or only or splits:
            raise UserError("--demo, --dry-run, --only and --splits are not for --dataset aist++: leave them out")
        if annotations is None or media is None:
            raise UserError("--dataset aist++ needs --annotations FOLDER and --media FOLDER")
        chosen = {"camera": camera, "skip_ignored": skip_ignored, "clips": not segments_only}
        _build_aist(annotations, media, out, max_height or None, workers or _cores(), as_json, **chosen)
        return None
    if dataset.casefold() != "compilations":
        raise UserError(f"there is no dataset {dataset!r}: take compilations or aist++")
    if demo and (annotations or media):
        raise UserError("--demo brings its own annotations and media: leave ANNOTATIONS and --media out")
    if not demo and annotations is None:
        raise UserError("name a folder with annotations, or use --demo")
    if cookies is not None and not cookies.is_file():
        raise UserError(f"the cookies file {cookies} does not exist: give the file that your browser's export wrote")
    get_estimator(pose)
    seen = VisualParams(extractor=visual, flow=visual_flow) if visual else None
    weights = VisualSource(tuple(visual_weights or ()), device)
    if seen is None and visual_weights:
        raise UserError("--visual-weights goes with --visual: say which features, for instance --visual i3d")
    if seen is not None:
        extractor_of(seen, weights)
    height = max_height or None
    options = builds.BuildOptions(
        out=out,
        annotations=annotations,
        media=media,
        splits=splits,
        demo=DemoParams(clips=clips, songs=songs, seed=seed) if demo else None,
        parameters=Parameters(
            max_height=height,
            seed=seed,
            segment=SegmentParams(max_height=height),
            poses=PosesParams(estimator=pose),
            visual=seen,
        ),
        acquire=AcquireParams(
            max_bytes=round(max_gigabytes * 2**30),
            max_duration_s=max_hours * 3600,
            retries=retries,
            sleep_requests_s=pause,
            cookies=cookies,
            cookies_from_browser=cookies_from_browser,
        ),
        only=tuple(only or ()),
        workers=workers or _cores(),
        executor=executor,
        ray_address=ray_address,
        keep_work=keep_work,
        retry_gone=retry_gone,
        quiet=as_json,
        visual=weights,
    )
    if dry_run:
        plan = builds.plan_build(options)
        excluded = sorted({clip.excluded for clip in plan.clips if clip.excluded})
        result: dict[str, Any] = {
            "name": plan.name,
            "clips": len(plan.clips),
            "buildable": len(plan.buildable),
            "compilations": len(plan.sources),
            "not_buildable_because": excluded,
            "cost": plan.cost(),
        }
        if as_json:
            return _print_json(result)
        sys.stdout.write(plan.lines())
        cost = plan.cost()
        cpu = sum(seconds for name, seconds in cost.items() if name.startswith("cpu_s_"))
        print(
            f"{plan.name}: {len(plan.buildable)} of {len(plan.clips)} clips can be built, {cost['video_s']:.0f} s of "
            f"video from {len(plan.sources)} compilations, {cost['downloads']:.0f} to download. About {cpu / 60:.1f} "
            f"minutes of processor time ({cost['cpu_s_poses'] / 60:.1f} for poses) and "
            f"{cost['disk_bytes'] / 1e6:.0f} MB. Nothing was written.",
            file=sys.stderr,
        )
        for reason in excluded:
            print(f"  not buildable: {reason}", file=sys.stderr)
        return None
    try:
        done = builds.build(options)
    except KeyboardInterrupt:
        _complain("stopped; run the same command again to go on from here")
        raise typer.Exit(130) from None
    if as_json:
        _print_json(
            {
                "out": str(done.out),
                "planned": done.planned,
                "clips": done.counts,
                "unchanged": done.unchanged,
                "not_built": done.failed,
            }
        )
    else:
        ok = done.counts.get("ok", 0)
        others = ", ".join(f"{n} {status}" for status, n in sorted(done.counts.items()) if status != "ok")
        print(
            f"{done.out}: {ok} of {done.planned} clips"
            + (f" ({others})" if others else "")
            + (", nothing had to be done" if done.unchanged else "")
            + f"; report: {done.out / 'report.html'}"
        )
    if done.counts.get("failed"):
        if not as_json:
            _complain(
                f"{done.counts['failed']} clips failed; {done.out / 'ledger.jsonl'} says why; "
                "the next run tries them again"
            )
        raise typer.Exit(SOME_FAILED)
    return None


def _build_aist(
    annotations: Path, media: Path, out: Path, max_height: int | None, workers: int, as_json: bool, **chosen: Any
) -> None:
    from tiktok_dm.pipeline.aist import AistOptions, build_aist
    from tiktok_dm.pipeline.progress import BuildProgress

    options = AistOptions(annotations, media, out, max_height=max_height, workers=workers, **chosen)
    with BuildProgress(quiet=as_json) as bars:

        def tell(done: int, total: int, what: str) -> None:
            bars.expect("AIST++", total)
            bars.advance("AIST++", what)

        made = build_aist(options, tell)
    if as_json:
        _print_json({"out": str(out), **made.counts, "report": made.report})
        return
    for sentence in made.sentences():
        print(sentence)
    print(
        f"{out}: {made.counts['segments']:,} segments, {made.counts['clips']:,} clips, "
        f"{made.counts['bytes'] / 1e6:.0f} MB" + (", unchanged" if made.counts["unchanged"] else "")
    )


@app.command("demo-segments")
def demo_segments(
    out: Annotated[Path, typer.Argument(help="A new folder.", metavar="OUT")],
    songs: Annotated[int, typer.Option(help="Songs.", min=2)] = 64,
    clips: Annotated[int, typer.Option(help="Dances; each song is danced to equally often.", min=2)] = 128,
    seed: Annotated[int, typer.Option(help="Take another than the rendered demo's, which is 0.")] = 1,
    seconds: Annotated[tuple[float, float], typer.Option(help="Shortest and longest clip, s.")] = (12.0, 16.0),
    test_share: Annotated[float, typer.Option(help="Share of clips in the test split; whole songs.")] = 0.15,
    noise: Annotated[float, typer.Option(help="Errors of the poses beside the estimator's; 0 for none.")] = 1.0,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores by default.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Write segments of synthetic dances and songs, straight from their known joints: to train small models on."""
    from tiktok_dm.pipeline.demo_segments import SegmentSetParams, write_demo_segments
    from tiktok_dm.pipeline.progress import BuildProgress

    params = SegmentSetParams(
        songs=songs,
        clips=clips,
        seed=seed,
        shortest_s=seconds[0],
        longest_s=seconds[1],
        test_share=test_share,
        noise=noise,
    )
    with BuildProgress(quiet=as_json) as bars:

        def tell(done: int, total: int, what: str) -> None:
            bars.expect("songs", total)
            bars.advance("songs", what)

        made = write_demo_segments(out, params, workers=workers or _cores(), progress=tell)
    if as_json:
        return _print_json({"out": str(out), **made})
    for name, part in made["splits"].items():
        low, high = made["tempo_bpm"][name]
        print(
            f"{name}: {part['segments']} segments of {part['clips']} clips, {part['songs']} songs, "
            f"{low:g} to {high:g} beats a minute"
        )
    print(f"{out}: {made['bytes'] / 1e6:.0f} MB" + (", nothing had to be done" if made["unchanged"] else ""))
    return None


@app.command("import-preprocessed")
def import_preprocessed(
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
    from tiktok_dm.pipeline.preprocessed import import_preprocessed as run
    from tiktok_dm.pipeline.preprocessed_fetch import fetch_archives
    from tiktok_dm.pipeline.progress import BuildProgress

    if root is None and not fetch:
        raise UserError("say where the unpacked archives are: --root FOLDER; or get them first: --fetch")
    root = root or out.with_name(out.name + ".download")
    with BuildProgress(quiet=as_json) as bars:
        if fetch:
            root = fetch_archives(root, tell=bars.say)

        def tell(done: int, total: int, what: str) -> None:
            bars.expect("segments", total)
            bars.advance("segments", what)

        made = run(root, out, progress=tell)
    if as_json:
        _print_json({"out": str(out), **made.counts, "report": made.report})
    else:
        for sentence in made.sentences():
            print(sentence)
        for name, part in made.counts["splits"].items():
            print(f"{name}: {part['segments']:,} segments of {part['clips']} clips, {part['songs']} songs")
        print(f"{out}: {made.counts['bytes'] / 1e6:.0f} MB" + (", unchanged" if made.counts["unchanged"] else ""))
    if not (made.complete or allow_missing):
        raise typer.Exit(SOME_FAILED)


@app.command()
def verify(out: Dataset, as_json: Json = False) -> None:
    """Check a dataset: checksums, schema, split, and that picture and sound agree."""
    from tiktok_dm.pipeline.verify import verify as verify_dataset

    report = verify_dataset(out)
    if as_json:
        findings = [str(finding) for finding in report.findings]
        offsets = {"max_start_ms": report.max_start_ms, "max_sync_ms": report.max_sync_ms}
        _print_json({"ok": report.ok, "findings": findings, "counts": report.counts, **offsets, "notes": report.notes})
    else:
        for finding in report.findings:
            print(finding)
        for note in report.notes:
            print(f"note: {note}")
        checked = ", ".join(f"{n} {name}" for name, n in report.counts.items())
        print(f"{out}: " + ("sound" if report.ok else f"{len(report.findings)} findings") + f" ({checked})")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def stats(out: Dataset, as_json: Json = False) -> None:
    """The numbers of the paper's section 3 for a dataset: clips, compilations, songs, lengths, dancers, splits."""
    from tiktok_dm.pipeline import stats as statistics

    numbers = statistics.stats(out)
    if as_json:
        _print_json(numbers)
    else:
        print(statistics.table(numbers))


@app.command()
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


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(help="Folder with annotations.", metavar="DIR")],
    test_fraction: Annotated[float, typer.Option(help="Share of clips in the test split.")] = 0.2,
    validation_fraction: Annotated[float, typer.Option(help="Share of clips in a validation split.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal splits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write; DIR/splits.csv by default.")] = None,
    splits: Annotated[Path | None, typer.Option(help="With --audit: the split table to look at.")] = None,
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
    from tiktok_dm import splits as song_splits
    from tiktok_dm.annotations import read_annotations, write_splits

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
            findings = song_splits.audit_splits(annotations.clips, annotations.splits)
        leaks = [finding for finding in findings if finding.severity == "error"]
        counts = song_splits.count_splits(annotations.clips, annotations.splits)
        if as_json:
            details = [asdict(finding) for finding in findings]
            shown = [str(finding) for finding in findings]
            _print_json({"ok": not leaks, "findings": shown, "details": details, "counts": counts, **heard})
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
        _print_json({"out": str(path), "counts": counts})
    else:
        _print_counts(counts)
        print(f"written: {path}")


def _audit_sound(annotations: Any, media: Path | None, dataset: Path | None, quiet: bool) -> Any:
    from tiktok_dm.curate.sound_audit import audit_sound
    from tiktok_dm.pipeline.progress import BuildProgress

    with BuildProgress(quiet=quiet) as bars:

        def tell(stage: str, done: int, total: int, what: str) -> None:
            bars.expect(stage, total)
            bars.advance(stage, what)

        return audit_sound(annotations, media=media, dataset=dataset, progress=tell)


@annotations_app.command("check")
def annotations_check(
    folder: Annotated[Path, typer.Argument(help="Folder with annotations.", metavar="DIR")],
    splits: Annotated[Path | None, typer.Option(help="Split table; else the annotations' own.")] = None,
    as_json: Json = False,
) -> None:
    """Name every problem in a folder of annotations: file, line, column, what to do."""
    from tiktok_dm.annotations import check_annotations

    report = check_annotations(folder, splits)
    if as_json:
        problems = [{"file": p.file, "row": p.row, "column": p.column, "message": p.message} for p in report.problems]
        _print_json({"ok": report.ok, "problems": problems, "counts": report.counts, "notes": report.notes})
    else:
        for problem in report.problems:
            print(problem)
        for note in report.notes:
            print(f"note: {note}")
        print(", ".join(f"{n} {name.replace('_', ' ')}" for name, n in report.counts.items()))
        print("no problems" if report.ok else f"{len(report.problems)} problems")
    if not report.ok:
        raise typer.Exit(1)


Column = Annotated[list[str] | None, typer.Option(help="name=theirs, where a column is not recognised; repeatable.")]
Ignore = Annotated[list[str] | None, typer.Option(help="A column of theirs to leave out; repeatable.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet of an xlsx file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over annotations that are there already.")]
Compare = Annotated[bool, typer.Option(help="Compare with the 445 released clips.")]


@annotations_app.command("export")
def annotations_export(
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
    from tiktok_dm.curate.exchange import export_annotations

    options = {"media": media, "fps": fps, "video_prefix": video_prefix, "overwrite": overwrite}
    _print_import(export_annotations(folder, format, out, **options), as_json)  # type: ignore[arg-type]


@annotations_app.command("import")
def annotations_import(
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
    from tiktok_dm.annotations_import import import_annotations
    from tiktok_dm.curate.exchange import comes_from_a_tool, import_exported

    if base is not None or comes_from_a_tool(file):
        return _print_import(import_exported(file, base, out, drop_missing=drop_missing, overwrite=overwrite), as_json)
    columns = _pairs(column)
    result = import_annotations(
        file, out, columns=columns, ignore=ignore or (), sheet=sheet, compare=compare, overwrite=overwrite
    )
    return _print_import(result, as_json)


@annotations_app.command("fetch")
def annotations_fetch(
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
    from tiktok_dm.annotations_import import AUTHORS_FILE_ID, fetch_annotations

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
        _print_json(result.as_dict())
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


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _print_counts(counts: dict[str, dict[str, int]]) -> None:
    for name, numbers in counts.items():
        print(f"{name}: " + ", ".join(f"{n} {what}" for what, n in numbers.items()))


def _complain(sentence: str) -> None:
    print(f"tiktok-dm: {sentence}", file=sys.stderr)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
