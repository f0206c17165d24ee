"""The verbs that make a dataset: `tiktok-dm build` and `demo-segments`. Thin; see `pipeline`."""

from __future__ import annotations

import sys
from functools import partial
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
    seen_option,
    visual_choice,
)
from tiktok_dm.errors import UserError
from tiktok_dm.machine import cores
from tiktok_dm.shipped import annotations_folder, split_table

if TYPE_CHECKING:
    from tiktok_dm.pipeline.plan import Plan
    from tiktok_dm.pipeline.run import BuildResult


def register(app: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verbs."""
    app.command()(build)
    app.command("demo-segments")(demo_segments)


# `build` has so many options that its help shows them by what they are about; what every build wants comes first.
_source = partial(typer.Option, rich_help_panel="Sources")
_download = partial(typer.Option, rich_help_panel="Downloads")
# The old spelling of `tiktok-dm import aist++`, which still answers.
_aist = partial(typer.Option, hidden=True)
_machine = partial(typer.Option, rich_help_panel="Machine")


def build(
    annotations: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with compilations.csv, clips.csv and songs.csv.",
            metavar="[ANNOTATIONS]",
            parser=annotations_folder,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The dataset's folder.")] = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            help="Table song_id,split, or tiktok_dm; else the annotations' own, else made.",
            metavar="FILE",
            parser=split_table,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the demo, and of a split that is made here.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="clip:3-7, compilation:0, song:4; repeatable.")] = None,
    max_height: Annotated[
        int | None, typer.Option(help="Of downloads and stored clips, in px; 0 keeps the source's.", min=0)
    ] = 720,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost; write nothing.")] = False,
    as_json: Json = False,
    media: Annotated[Path | None, _source(help="Folder with local compilations, by file name or by id.")] = None,
    dataset: Annotated[
        str, _aist("--dataset", help="compilations, or aist++: what `tiktok-dm import aist++` does.")
    ] = "compilations",
    named_annotations: Annotated[Path | None, _source("--annotations", help="The same as ANNOTATIONS.")] = None,
    demo: Annotated[bool, _source("--demo", help="Render the embedded demo and build from that.")] = False,
    clips: Annotated[int, _source(help="Clips of the demo.", min=2)] = 8,
    songs: Annotated[int, _source(help="Songs of the demo.", min=2)] = 4,
    audio_track: Annotated[
        int | None, _source(help="Sound track of the sources, from 0; by default the one marked as default.", min=0)
    ] = None,
    max_gigabytes: Annotated[float, _download(help="Greatest download.", min=0.001)] = 4.0,
    max_hours: Annotated[float, _download(help="Longest compilation to download.", min=0.01)] = 3.0,
    pause: Annotated[float, _download(help="Mean seconds between requests to a site.", min=0.0)] = 1.0,
    retries: Annotated[int, _download(help="Further attempts for errors that pass.", min=0, max=20)] = 4,
    retry_gone: Annotated[bool, _download("--retry-gone", help="Ask again for sources that were found gone.")] = False,
    cookies: Annotated[
        Path | None, _download(help="Cookies file (Netscape format) for sources that want a login.")
    ] = None,
    cookies_from_browser: Annotated[
        str | None, _download(help="Browser to take cookies from, such as firefox.")
    ] = None,
    allow_private_networks: Annotated[
        bool, _download("--allow-private-networks", help="Follow links to addresses that are not public, too.")
    ] = False,
    pose: Annotated[
        str,
        seen_option(
            help="mediapipe, mmpose or vitpose; such as mmpose:device=cuda:0,batch=64 or mediapipe:models=DIR."
        ),
    ] = "mediapipe",
    visual: Visual = None,
    visual_weights: VisualWeights = None,
    visual_flow: VisualFlow = "tvl1",
    device: Device = "auto",
    camera: Annotated[str, _aist(help="c01 to c09; the published segments are of c01.")] = "c01",
    skip_ignored: Annotated[
        bool, _aist("--skip-ignored", help="Leave its ignore list out; published segments have it.")
    ] = False,
    segments_only: Annotated[bool, _aist("--segments-only", help="Cut no clips out of its videos.")] = False,
    genre_order: Annotated[
        str | None, _aist(help="Of the one-hot, such as BR,HO,...; AIST's own if left.", metavar="GENRES")
    ] = None,
    workers: Annotated[int | None, _machine(help="Processes; all cores by default.", min=1)] = None,
    executor: Annotated[str, _machine(help="Where stages run: local or ray.")] = "local",
    ray_address: Annotated[str | None, _machine(help="Of a running Ray cluster, with --executor ray.")] = None,
    keep_work: Annotated[
        bool, _machine("--keep-work", help="Keep the cut clips in OUT.work after the export too.")
    ] = False,
) -> None:
    """Build a dataset, or go on building it: acquire, segment, poses, music, export."""
    from tiktok_dm.pipeline import run as builds
    from tiktok_dm.pipeline.acquire import AcquireParams
    from tiktok_dm.pipeline.plan import Parameters
    from tiktok_dm.pipeline.poses import PosesParams
    from tiktok_dm.pipeline.segment import SegmentParams
    from tiktok_dm.pose.registry import get_estimator
    from tiktok_dm.synthetic import DemoParams

    if out is None:
        raise UserError("say where the dataset goes: --out FOLDER")
    if annotations is not None and named_annotations is not None:
        raise UserError("the annotations are named twice: leave ANNOTATIONS or --annotations out")
    annotations = annotations or named_annotations
    seen, weights = visual_choice(visual, visual_weights, visual_flow, device)
    if dataset.casefold() in ("aist++", "aist"):
        if demo or dry_run or only or splits:
            raise UserError("--demo, --dry-run, --only and --splits are not for --dataset aist++: leave them out")
        if annotations is None or media is None:
            raise UserError("--dataset aist++ needs --annotations FOLDER and --media FOLDER")
        from tiktok_dm.cli.imports import genre_choice, run_aist
        from tiktok_dm.importers.aist.driver import AistOptions

        run_aist(
            AistOptions(
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
            ),
            as_json,
        )
        return
    if dataset.casefold() != "compilations":
        raise UserError(f"there is no dataset {dataset!r}: take compilations or aist++")
    if demo and (annotations or media):
        raise UserError("--demo brings its own annotations and media: leave ANNOTATIONS and --media out")
    if not demo and annotations is None:
        raise UserError("name a folder with annotations, or use --demo")
    if cookies is not None and not cookies.is_file():
        raise UserError(f"the cookies file {cookies} does not exist: give the file that your browser's export wrote")
    get_estimator(pose)
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
            segment=SegmentParams(max_height=height, audio_track=audio_track),
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
            allow_private=allow_private_networks,
        ),
        only=tuple(only or ()),
        workers=workers or cores(),
        executor=executor,
        ray_address=ray_address,
        keep_work=keep_work,
        retry_gone=retry_gone,
        quiet=as_json,
        visual=weights,
    )
    if dry_run:
        _show_plan(builds.plan_build(options), as_json)
        return
    try:
        done = builds.build(options)
    except KeyboardInterrupt:
        complain(STOPPED)
        raise typer.Exit(130) from None
    _show_built(done, as_json)
    if done.counts.get("failed"):
        raise typer.Exit(SOME_FAILED)


def _show_plan(plan: Plan, as_json: bool) -> None:
    excluded = sorted({clip.excluded for clip in plan.clips if clip.excluded})
    missing = {source.compilation_id for source in plan.missing}
    possible = sum(clip.compilation_id not in missing for clip in plan.buildable)
    result: dict[str, Any] = {
        "name": plan.name,
        "clips": len(plan.clips),
        "buildable": possible,
        "missing_sources": {str(source.compilation_id): source.source for source in plan.missing},
        "compilations": len(plan.sources),
        "not_buildable_because": excluded,
        "cost": plan.cost(),
    }
    if as_json:
        print_json(result)
        return
    sys.stdout.write(plan.lines())
    cost = plan.cost()
    cpu = sum(seconds for name, seconds in cost.items() if name.startswith("cpu_s_"))
    print(
        f"{plan.name}: {possible} of {len(plan.clips)} clips can be built, {cost['video_s']:.0f} s of "
        f"video from {len(plan.sources)} compilations, {cost['downloads']:.0f} to download. About {cpu / 60:.1f} "
        f"minutes of processor time ({cost['cpu_s_poses'] / 60:.1f} for poses) and "
        f"{cost['disk_bytes'] / 1e6:.0f} MB. Nothing was written.",
        file=sys.stderr,
    )
    for source in plan.missing:
        print(
            f"  not there: compilation {source.compilation_id}, "
            + (
                f"looked for '{source.source}' in the media folder"
                if source.source
                else "which has no link and no file"
            ),
            file=sys.stderr,
        )
    for reason in excluded:
        print(f"  not buildable: {reason}", file=sys.stderr)


def _show_built(done: BuildResult, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "out": str(done.out),
                "planned": done.planned,
                "clips": done.counts,
                "unchanged": done.unchanged,
                "not_built": done.failed,
                "kept": {str(clip_id): reason for clip_id, reason in done.kept.items()},
            }
        )
    else:
        ok = done.counts.get("ok", 0)
        others = ", ".join(f"{n} {status}" for status, n in sorted(done.counts.items()) if status != "ok")
        print(
            f"{done.out}: {ok} of {done.planned} clips"
            + (f" ({others})" if others else "")
            + (", nothing was changed" if done.unchanged and done.kept else "")
            + (", nothing had to be done" if done.unchanged and not done.kept else "")
            + f"; report: {done.out / 'report.html'}"
        )
    if done.kept and not as_json:
        clip_id, reason = next(iter(done.kept.items()))
        complain(
            f"{len(done.kept)} clips could not be made again and stay as they were published (clip {clip_id}: {reason})"
        )
    if done.counts.get("failed") and not as_json:
        complain(
            f"{done.counts['failed']} clips failed; {done.out / 'ledger.jsonl'} says why; the next run tries them again"
        )


def demo_segments(
    out: Annotated[Path, typer.Argument(help="A new folder.", metavar="OUT")],
    songs: Annotated[int, typer.Option(help="Songs.", min=2)] = 64,
    clips: Annotated[int, typer.Option(help="Dances; each song is danced to equally often.", min=2)] = 128,
    seed: Annotated[int, typer.Option(help="Take another than the rendered demo's, which is 0.")] = 1,
    seconds: Annotated[tuple[float, float], typer.Option(help="Shortest and longest clip, s.")] = (12.0, 16.0),
    test_share: Annotated[float, typer.Option(help="Share of clips in the test split; whole songs.")] = 0.15,
    noise: Annotated[float, typer.Option(help="Errors of the poses beside the estimator's; 0 for none.")] = 1.0,
    groove: Annotated[str, typer.Option(help="How dancers keep time: human, or exact.")] = "human",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Write segments of synthetic dances and songs, straight from their known joints: to train small models on."""
    from tiktok_dm.importers.demo_segments import SegmentSetParams, write_demo_segments
    from tiktok_dm.runtime.progress import BuildProgress

    params = SegmentSetParams(
        songs=songs,
        clips=clips,
        seed=seed,
        shortest_s=seconds[0],
        longest_s=seconds[1],
        test_share=test_share,
        noise=noise,
        groove=groove,
    )
    with BuildProgress(quiet=as_json) as bars:

        def tell(done: int, total: int, what: str) -> None:
            bars.expect("songs", total)
            bars.advance("songs", what)

        made = write_demo_segments(out, params, workers=workers or cores(), progress=tell)
    if as_json:
        return print_json({"out": str(out), **made})
    for name, part in made["splits"].items():
        low, high = made["tempo_bpm"][name]
        print(
            f"{name}: {part['segments']} segments of {part['clips']} clips, {part['songs']} songs, "
            f"{low:g} to {high:g} beats a minute"
        )
    print(f"{out}: {made['bytes'] / 1e6:.0f} MB" + (", nothing had to be done" if made["unchanged"] else ""))
    return None
