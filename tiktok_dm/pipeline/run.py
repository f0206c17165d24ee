"""`tiktok-dm build`: annotations and media in, a dataset folder out; stopped anywhere, it goes on where it was.

The driver: it reads, plans, schedules, exports and cleans up. What a stage does is the stages' business.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tiktok_dm import __version__
from tiktok_dm.dataset.export import LEDGER, PLAN, read_tombstones
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic
from tiktok_dm.pipeline.acquire import AcquireParams
from tiktok_dm.pipeline.plan import Parameters, Plan, make_plan, parse_only
from tiktok_dm.runtime.progress import BuildProgress
from tiktok_dm.runtime.publish import locked, scratch
from tiktok_dm.runtime.store import Store, canonical_json
from tiktok_dm.synthetic import DemoParams
from tiktok_dm.visual.base import VisualSource

_FINISHED = "finished.json"


@dataclass(frozen=True)
class BuildOptions:
    """What a user asks of a build.

    Args:
        out: the dataset's folder; its work folder stands beside it as `<out>.work`.
        annotations: folder with compilations.csv, clips.csv, songs.csv; not needed for the demo.
        media: folder with local compilations, by file name or by id.
        demo: render the embedded demo and build from that.
        only: `clip:3-7`, `compilation:0`, `song:4`.
        keep_work: keep the cut clips in the work folder too, though the dataset holds them.
        retry_gone: ask again for sources that an earlier build found gone.
        visual: weights and device of the visual features, where the parameters ask for them.

    Example:
        >>> from pathlib import Path
        >>> from tiktok_dm import BuildOptions
        >>> BuildOptions(Path("my_dataset"), annotations=Path("my_dances"), media=Path("my_videos")).work.name
        'my_dataset.work'
    """

    out: Path
    annotations: Path | None = None
    media: Path | None = None
    splits: Path | None = None
    demo: DemoParams | None = None
    parameters: Parameters = field(default_factory=Parameters)
    acquire: AcquireParams = field(default_factory=AcquireParams)
    only: tuple[str, ...] = ()
    workers: int = 2
    executor: str = "local"
    ray_address: str | None = None
    keep_work: bool = False
    retry_gone: bool = False
    quiet: bool = False
    visual: VisualSource = field(default_factory=VisualSource)

    @property
    def work(self) -> Path:
        """The work folder."""
        return self.out.with_name(self.out.name + ".work")


@dataclass(frozen=True)
class BuildResult:
    """What a build came to.

    Args:
        counts: clips by status, against the plan.
        unchanged: nothing of the dataset had to be changed, or could be made better.
        kept: clips that could not be made again and stay as they were published, with the reason.
    """

    out: Path
    planned: int
    counts: dict[str, int]
    failed: list[dict[str, Any]]
    unchanged: bool = False
    kept: dict[int, str] = field(default_factory=dict)


def plan_build(options: BuildOptions) -> Plan:
    """The plan that `build` would follow; nothing is written.

    Raises:
        UserError: see `build`.
    """
    if options.demo is not None:
        from tiktok_dm.pipeline.demo import demo_annotations

        return make_plan(demo_annotations(options.demo), options.parameters, only=options.only)
    return _plan(options)


def build(options: BuildOptions) -> BuildResult:
    """Build, or go on building, the dataset in `options.out`.

    Raises:
        UserError: no annotations, a folder that belongs to another build, another build at work in it, nothing to
            build, or no clip that came through.
        ProblemsError: everything that is wrong with the annotations.
        DiskFull: no room; what is finished is kept.

    Example:
        >>> from pathlib import Path
        >>> from tiktok_dm import BuildOptions, build
        >>> from tiktok_dm.synthetic import DemoParams
        >>> result = build(BuildOptions(Path("demo"), demo=DemoParams(clips=2, songs=2, seed=0), quiet=True))
        >>> result.counts["ok"]
        2
    """
    parse_only(options.only)  # a slip in it should not cost the rendering of a demo first
    with _writing(options):
        _check_out(options.out)
        request = _request_key(options)
        done = _finished(options, request)
        return _build(options, request) if done is None else done


def _build(options: BuildOptions, request: str) -> BuildResult:
    from tiktok_dm.runtime.executor import make_executor

    if options.parameters.visual is not None:
        from tiktok_dm.pipeline.visual import extractor_of

        extractor_of(options.parameters.visual, options.visual).check()  # before hours of work, not after
    store = Store(options.work)
    store.clear_unfinished()
    progress = BuildProgress(options.quiet)
    with (
        progress,
        make_executor(
            options.executor, options.workers, options.ray_address, ["tiktok_dm.pipeline.preload"]
        ) as executor,
    ):
        truth = None
        if options.demo is not None:
            from tiktok_dm.pipeline.demo import render_demo

            folder = render_demo(options.demo, store, options.workers, progress)
            options, truth = (
                replace(options, annotations=folder / "annotations", media=folder / "media"),
                folder / "truth",
            )
        plan = _plan(options)
        _check_owner(options.out, plan)
        if not plan.buildable:
            reasons = sorted({clip.excluded for clip in plan.clips})
            raise UserError(
                f"none of the {len(plan.clips)} clips of {plan.name} can be built: {'; '.join(reasons)}. "
                "For the released clips, `tiktok-dm annotations fetch` brings the authors' annotation file"
            )
        return _run(options, plan, store, executor, progress, truth, request)


def _run(
    options: BuildOptions,
    plan: Plan,
    store: Store,
    executor: Any,
    progress: BuildProgress,
    truth: Path | None,
    request: str,
) -> BuildResult:
    from tiktok_dm.dataset.export import export
    from tiktok_dm.pipeline.lock import (
        clip_items,
        dataset_meta,
        dataset_texts,
        items_from_dataset,
        keep_in_lock,
        keep_published,
        lock_table,
        read_published,
        restorer,
    )
    from tiktok_dm.pipeline.scheduler import Scheduler

    (options.work / _FINISHED).unlink(missing_ok=True)
    published = read_published(options.out)
    if published is None:  # a first build shows from its start what it is about; a finished dataset is left alone
        options.out.mkdir(parents=True, exist_ok=True)
        write_atomic(options.out / PLAN, plan.lines())
    scheduler = Scheduler(
        plan,
        store,
        executor,
        progress,
        replace(options.acquire, max_height=plan.parameters.max_height),
        restore=restorer(options.out, options.work),
        retry_gone=options.retry_gone,
        visual_source=options.visual,
    )
    try:
        outcome = scheduler.run()
    finally:
        if published is None:
            scheduler.ledger.write(options.out / LEDGER)
    ledger = outcome.ledger
    items = clip_items(plan, outcome, store)
    kept = {} if published is None else keep_published(plan, outcome, published)
    items = [item for item in items if item.clip_id not in kept]
    failed = [asdict(entry) for entry in ledger.entries if entry.status in ("failed", "gone")]
    if not items and not kept:
        bad = [entry for entry in ledger.entries if entry.status != "ok"]
        reasons = "\n".join(f"  {entry.item}: {entry.status}, {entry.reason}" for entry in bad[:10])
        raise UserError(f"no clip of {plan.name} came through, so nothing was exported:\n{reasons}")
    counts = dict(ledger.counts("clip"))
    lock = lock_table(plan, outcome, _annotations(options), truth, items)
    tombstones = read_tombstones(options.out)
    if published is not None and kept:
        keep_in_lock(lock, published, plan, kept)
        if all(lock[part] == published[part] for part in ("clips", "dataset", "songs")):
            return BuildResult(options.out, len(plan.clips), counts, failed, unchanged=True, kept=kept)
    progress.say(f"export: {len(items) + len(kept)} clips")
    meta = dataset_meta(lock, plan.lines(), ledger, tombstones)
    with scratch(options.out) as folder:
        if published is not None and kept:
            of_kept = {**lock, "clips": {str(clip_id): lock["clips"][str(clip_id)] for clip_id in kept}}
            items += items_from_dataset(options.out, of_kept, folder)
        export(items, options.out, meta, files=dataset_texts(plan.lines(), lock, ledger, tombstones))
    if not counts.get("failed") and not kept:
        if not options.keep_work:
            for item in items:
                item.video.unlink(missing_ok=True)
                item.audio.unlink(missing_ok=True)
        _note_finished(options, request, len(plan.clips), counts, failed)
    return BuildResult(options.out, len(plan.clips), counts, failed, kept=kept)


def _plan(options: BuildOptions) -> Plan:
    return make_plan(
        _annotations(options),
        options.parameters,
        media=options.media,
        only=options.only,
        tombstones=read_tombstones(options.out),
    )


def _annotations(options: BuildOptions) -> Any:
    from tiktok_dm.annotations.tables import read_annotations

    if options.annotations is None:
        raise UserError("no annotations given: name a folder with clips.csv, or use --demo")
    return read_annotations(options.annotations, options.splits)


def _check_out(out: Path) -> None:
    if out.is_file():
        raise UserError(f"{out} is a file: give --out a folder that is new, empty, or holds this dataset")
    if out.is_dir() and any(out.iterdir()) and not (out / PLAN).exists():
        raise UserError(f"{out} is not empty and holds no dataset of this program: give --out another folder")


def _check_owner(out: Path, plan: Plan) -> None:
    if not (out / PLAN).exists():
        return
    try:
        with open(out / PLAN, encoding="utf-8") as file:
            owner = json.loads(file.readline())["plan"]
    except (ValueError, KeyError):
        raise UserError(f"{out / PLAN} cannot be read: give --out another folder, or remove this one") from None
    if owner != plan.name:
        raise UserError(
            f"{out} belongs to the build of '{owner}', this one is '{plan.name}': give --out another folder"
        )


@contextmanager
def _writing(options: BuildOptions) -> Iterator[None]:
    """The lock of `out`, and its work folder; a build that is refused at once leaves no empty folders behind."""
    made = [folder for folder in (options.work, options.work.parent) if not folder.exists()]
    try:
        with locked(options.out):
            options.work.mkdir(parents=True, exist_ok=True)
            yield
    except PermissionError as error:
        raise UserError(f"{error.filename} cannot be written: give --out a folder that you may write to") from error
    finally:
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _request_key(options: BuildOptions) -> str:
    """Changes whenever something that was asked, or that the answer depends on, does; costs milliseconds."""

    def state(folder: Path | None, pattern: str) -> list[list[Any]]:
        if folder is None or not folder.is_dir():
            return []
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]

    folder = options.annotations
    visual = {"visual": options.visual.state()} if options.parameters.visual is not None else {}
    text = canonical_json(
        {
            **visual,
            "version": __version__,
            "packages": {name: _version(name) for name in ("av", "ai-edge-litert", "librosa", "pyarrow")},
            "parameters": options.parameters,
            "demo": options.demo,
            "only": options.only,
            "annotations": [str(folder.resolve()) if folder else "", state(folder, "*")],
            "splits": [
                state(options.splits.parent, options.splits.name) if options.splits else [],
                state(folder.resolve().parents[1] / "splits", folder.resolve().name + ".csv")
                if folder and len(folder.resolve().parents) > 1
                else [],
            ],
            "media": [str(options.media.resolve()) if options.media else "", state(options.media, "*")],
            "tombstones": read_tombstones(options.out),
            "keep_work": options.keep_work,
            "retry_gone": options.retry_gone,
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _files(out: Path) -> dict[str, list[int]]:
    return {
        path.relative_to(out).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _note_finished(
    options: BuildOptions, request: str, planned: int, counts: Mapping[str, int], failed: list[dict[str, Any]]
) -> None:
    note = {
        "request": request,
        "files": _files(options.out),
        "planned": planned,
        "counts": dict(counts),
        "failed": failed,
    }
    write_atomic(options.work / _FINISHED, json.dumps(note))


def _finished(options: BuildOptions, request: str) -> BuildResult | None:
    """The result of an earlier build, if that was the very same request and no file of its dataset has changed."""
    try:
        note = json.loads((options.work / _FINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if note.get("request") != request or options.retry_gone or note.get("files") != _files(options.out):
        return None
    return BuildResult(options.out, note["planned"], note["counts"], note["failed"], unchanged=True)
