"""The stages under one roof: how each is keyed, and how a worker runs one. The stages know nothing of keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tiktok_dm.errors import Filtered, MediaError, UserError
from tiktok_dm.pipeline import music, poses, segment, visual
from tiktok_dm.pipeline.plan import Parameters, PlannedClip
from tiktok_dm.pose.video import Clip
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.visual.base import VisualSource

# A verdict of a stage that is as lasting as an output: kept under the stage's key in the record's place.
FILTERED = "filtered"


def segment_key(clip: PlannedClip, source_sha256: str, parameters: Parameters) -> str:
    """Key of a cut: the source's bytes, the annotated times, the parameters of cutting."""
    inputs = {"source": source_sha256, "start_s": clip.start_s, "end_s": clip.end_s}
    return content_key("segment", segment.VERSION, parameters.segment, inputs)


def poses_key(segment_record: Mapping[str, Any], parameters: Parameters) -> str:
    """Key of a clip's poses: its picture, where to look, the estimator and its parameters."""
    from tiktok_dm.pose.registry import get_estimator

    estimator = get_estimator(parameters.poses.estimator)
    inputs = {
        "video": segment_record["video_sha256"],
        "content_box": segment_record["content_box"],
        "duration_s": segment_record["duration_s"],
        "estimator": [estimator.name, estimator.version, estimator.weights_sha256],
    }
    return content_key("poses", poses.VERSION, parameters.published().poses, inputs)


def music_key(segment_record: Mapping[str, Any], parameters: Parameters) -> str:
    """Key of a clip's music features: its sound and the parameters."""
    return content_key("music", music.VERSION, parameters.music, {"audio": segment_record["audio_sha256"]})


def visual_key(segment_record: Mapping[str, Any], parameters: Parameters, source: VisualSource) -> str:
    """Key of a clip's visual features: its picture, where to look, the extractor, its parameters and its weights."""
    assert parameters.visual is not None
    extractor = visual.extractor_of(parameters.visual, source)
    inputs = {
        "video": segment_record["video_sha256"],
        "content_box": segment_record["content_box"],
        "duration_s": segment_record["duration_s"],
        "extractor": [extractor.name, extractor.version, sorted(extractor.weights.items())],
    }
    return content_key("visual", visual.VERSION, parameters.visual, inputs)


def run_segment(root: Path, key: str, source: Path, clip: PlannedClip, parameters: Parameters) -> dict[str, Any]:
    """Cut one clip; runs in a worker."""
    assert clip.start_s is not None
    assert clip.end_s is not None
    start_s, end_s = clip.start_s, clip.end_s
    return _run(
        root, "segment", key, source, lambda out: segment.segment(source, start_s, end_s, parameters.segment, out)
    )


@dataclass(frozen=True)
class PosesTask:
    """One clip whose poses are wanted.

    Args:
        key: of its poses.
        folder: of its cut.
        record: of its cut.
        visual_key: of its visual features, if the dataset is to have any: the same pass over the clip makes them too
            where the store has none. What goes wrong with those is not told by the poses' task: `run_visual`, which
            follows, then meets it again and tells.
        source: of the visual features' weights.
    """

    key: str
    folder: Path
    record: Mapping[str, Any]
    visual_key: str = ""
    source: VisualSource = field(default_factory=VisualSource)

    @property
    def clip(self) -> Path:
        """The cut's video."""
        return self.folder / "clip.mp4"

    def watching(self, root: Path, parameters: Parameters) -> _Watching | None:
        """Makes the visual features from the poses' pictures, where they are wanted and not there yet."""
        wanted = bool(self.visual_key) and Store(root).record("visual", self.visual_key) is None
        return _Watching(self, parameters) if wanted else None


def clips_together(parameters: Parameters) -> int:
    """How many clips' poses are best one task: as many as keep a network busy that takes pictures of several clips.

    More would lose more when a worker dies; with an estimator that goes picture by picture it is 1.
    """
    return 16 if poses.batches(parameters.poses) else 1


def run_poses(root: Path, task: PosesTask, parameters: Parameters) -> dict[str, Any]:
    """Estimate one clip's poses; runs in a worker."""
    box, duration_s = tuple(task.record["content_box"]), task.record["duration_s"]
    watching = task.watching(root, parameters)
    watch = watching.show if watching is not None else None
    found = _run(
        root,
        "poses",
        task.key,
        task.clip,
        lambda out: poses.poses(task.clip, box, duration_s, parameters.poses, out, watch),
    )
    if watching is not None:
        watching.keep(root)
    return found


def run_poses_together(root: Path, tasks: Sequence[PosesTask], parameters: Parameters) -> None:
    """Estimate the poses of several clips, whose pictures go through the network together; runs in a worker.

    What could be found is in the store afterwards. A clip with which something went wrong is passed over: `run_poses`
    then meets it again and tells.
    """
    store = Store(root)
    watchings: dict[str, _Watching | None] = {}

    def clips() -> Iterator[Clip[PosesTask]]:
        for task in {task.key: task for task in tasks if store.record("poses", task.key) is None}.values():
            watching = watchings[task.key] = task.watching(root, parameters)
            watch = watching.show if watching is not None else None
            box, duration_s = tuple(task.record["content_box"]), task.record["duration_s"]
            yield poses.to_look_at(task, task.clip, box, duration_s, parameters.poses, watch)

    for task, found in poses.look(clips(), parameters.poses):
        watching = watchings.pop(task.key)
        if isinstance(found, Exception):
            continue
        with contextlib.suppress(Filtered):
            _run(root, "poses", task.key, task.clip, partial(_keep_poses, found, task, parameters))
            if watching is not None:
                watching.keep(root)


def _keep_poses(found: Any, task: PosesTask, parameters: Parameters, out: Path) -> dict[str, Any]:
    return poses.keep(found, task.record["duration_s"], parameters.poses, out)


# What visual features may end with where it is the poses that are asked for.
_TOLD_LATER = (UserError, Filtered, ValueError, RuntimeError, MemoryError, ImportError)


class _Watching:
    """Shows the poses' pictures to a reader of segments; after an error there is no reader any more."""

    def __init__(self, task: PosesTask, parameters: Parameters) -> None:
        assert parameters.visual is not None
        self.task, self.parameters = task, parameters
        self.reader: visual.SegmentReader | None = None
        with contextlib.suppress(*_TOLD_LATER):
            extractor = visual.extractor_of(parameters.visual, task.source)
            box = tuple(task.record["content_box"])
            self.reader = visual.SegmentReader(extractor, box, task.record["duration_s"])

    def show(self, picture: Any) -> None:
        if self.reader is not None:
            try:
                self.reader.take(picture)
            except _TOLD_LATER:
                self.reader = None

    def keep(self, root: Path) -> None:
        """The last picture was shown: store what the reader made of them."""
        if self.reader is not None:
            task = self.task
            with contextlib.suppress(*_TOLD_LATER):
                _run_visual(root, task.visual_key, task.folder, task.record, self.parameters, task.source, self.reader)


def run_visual(
    root: Path, key: str, folder: Path, record: dict[str, Any], parameters: Parameters, source: VisualSource
) -> dict[str, Any]:
    """Describe what is seen in one clip's segments; runs in a worker."""
    return _run_visual(root, key, folder, record, parameters, source, None)


def _run_visual(
    root: Path,
    key: str,
    folder: Path,
    record: Mapping[str, Any],
    parameters: Parameters,
    source: VisualSource,
    reader: visual.SegmentReader | None,
) -> dict[str, Any]:
    params = parameters.visual
    assert params is not None
    box, clip = tuple(record["content_box"]), folder / "clip.mp4"
    return _run(
        root,
        "visual",
        key,
        clip,
        lambda out: visual.visual(clip, box, record["duration_s"], params, source, out, reader),
    )


def run_music(root: Path, key: str, folder: Path, record: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    """Describe one clip's music; runs in a worker."""
    if not record["has_audio"]:
        raise Filtered("the source has no sound")
    return _run(
        root, "music", key, folder / "audio.flac", lambda out: music.music(folder / "audio.flac", parameters.music, out)
    )


def _run(root: Path, stage: str, key: str, source: Path, make: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Run a stage through the store; a `Filtered` verdict is kept there and raised again by every later build."""
    store = Store(root)

    def guarded(folder: Path) -> Mapping[str, Any]:
        try:
            return make(folder)
        except Filtered as verdict:
            for path in folder.iterdir():
                path.unlink()
            return {FILTERED: str(verdict)}
        except MediaError as error:
            # The ledger is published: a file is named in it, the folders of this machine are not.
            raise MediaError(str(error).replace(str(source), source.name)) from error

    record = store.run(stage, key, guarded)
    if FILTERED in record:
        raise Filtered(record[FILTERED])
    return record
