"""Poses of video files: of one, or of many with an estimator kept fed by threads that decode ahead of it.

One clip alone gives a GPU too little to do, at its end nothing; a picture that is decoded while the GPU waits is time
lost.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tiktok_dm import media
from tiktok_dm.media.content_box import find_content_box
from tiktok_dm.pose.base import Estimator, Picture
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.tracking import Observation, Tracker, TrackingParams, look_at_all, poses_of_tracks, track_poses
from tiktok_dm.schema import POSE_FPS

T = TypeVar("T")
K = TypeVar("K")
_END = object()


def prefetch(items: Iterable[T], ahead: int) -> Generator[T, None, None]:
    """The same items in the same order, made by a thread that is at most `ahead` items ahead.

    An exception in the thread is raised here, in its place. Closing the generator stops the thread before the next
    item; the items' own generator, if it is one, is closed in its thread.
    """
    box: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(max(1, ahead))
    stopped = threading.Event()

    def put(item: object, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return box.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put(item)
                if stopped.is_set():
                    return
            put(_END)
        except BaseException as error:
            put(_END, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = box.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()


@dataclass(frozen=True)
class Clip(Generic[K]):
    """A clip to be looked at.

    Args:
        key: whatever tells its poses from others'.
        open: begins to decode; called once, in a thread. As `frames` of `tracking.track_poses`.
        content_box: x, y, width, height in px; nothing outside it is looked at.
    """

    key: K
    open: Callable[[], Iterable[tuple[float, Picture]]]
    content_box: tuple[int, int, int, int]


@dataclass
class _Open(Generic[K]):
    """A clip that is being decoded and tracked."""

    clip: Clip[K]
    frames: Generator[Picture, None, None]
    tracker: Tracker
    error: Exception | None = None


@dataclass(frozen=True)
class _Batch(Generic[K]):
    """Pictures in turn of several clips; and the clips whose last picture is in it, or was in an earlier one."""

    pictures: list[tuple[_Open[K], Picture]]
    ended: list[_Open[K]]


def estimate_clips(
    clips: Iterable[Clip[K]],
    estimator: Estimator,
    params: TrackingParams | None = None,
    open_clips: int = 4,
) -> Iterator[tuple[K, NDArray[np.float32] | Exception]]:
    """Poses of many clips, each as `tracking.track_poses` gives them for it alone.

    `open_clips` clips are decoded at a time, each by a thread of its own; the estimator gets batches that take in turn
    from all of them, in another thread, while this one tracks. At most four batches of pictures are in memory.

    Args:
        clips: taken one by one, when there is room.
        estimator: its `batch` is the number of pictures handed over at once.
        params: of the tracker.
        open_clips: as many clips side by side.

    Yields:
        (key, poses) in the order in which clips end; in place of poses the exception that decoding one raised.
    """
    params = params or TrackingParams()
    if estimator.batch <= 1:
        for clip in clips:
            try:
                yield clip.key, track_poses(clip.open(), clip.content_box, estimator, params)
            except Exception as error:
                yield clip.key, error
        return
    looked = prefetch(_looked(_batches(iter(clips), estimator.batch, params, max(1, open_clips)), estimator, params), 1)
    try:
        for batch, seen in looked:
            for (one, _), observations in zip(batch.pictures, seen, strict=True):
                one.tracker.step(observations)
            for one in batch.ended:
                yield (
                    one.clip.key,
                    one.error
                    if one.error is not None
                    else poses_of_tracks(one.tracker, estimator, one.clip.content_box),
                )
    finally:
        looked.close()


def _views(clip: Clip[K]) -> Iterator[Picture]:
    left, top, width, height = clip.content_box
    for _, rgb in clip.open():
        yield np.ascontiguousarray(rgb[top : top + height, left : left + width])


def _batches(
    clips: Iterator[Clip[K]], size: int, params: TrackingParams, most: int
) -> Generator[_Batch[K], None, None]:
    """Pictures of the open clips in turn, `size` at a time; a new clip is opened when one ends."""
    running: list[_Open[K]] = []
    batch: _Batch[K] = _Batch([], [])
    try:
        more = True
        while more or running:
            while more and len(running) < most:
                clip = next(clips, None)
                if clip is None:
                    more = False
                    break
                running.append(_Open(clip, prefetch(_views(clip), max(2, size // most)), Tracker(params)))
            for one in list(running):
                try:
                    picture = next(one.frames, None)
                except Exception as error:
                    one.error, picture = error, None
                if picture is None:
                    running.remove(one)
                    batch.ended.append(one)
                    continue
                batch.pictures.append((one, picture))
                if len(batch.pictures) == size:
                    yield batch
                    batch = _Batch([], [])
        yield batch
    finally:
        for one in running:
            one.frames.close()


def _looked(
    batches: Generator[_Batch[K], None, None], estimator: Estimator, params: TrackingParams
) -> Iterator[tuple[_Batch[K], list[list[Observation]]]]:
    with contextlib.closing(batches):
        for batch in batches:
            yield batch, look_at_all(estimator, [picture for _, picture in batch.pictures], params)


_SAMPLED = 32  # frames in which static decoration is looked for
_SAMPLE_HEIGHT = 360  # px


def estimate_poses(
    video: str | Path, estimator: str = "mediapipe", content_box: tuple[int, int, int, int] | None = None
) -> NDArray[np.float32]:
    """Poses of every dancer in a video, on the 30-fps grid.

    Args:
        video: one continuous performance.
        estimator: name and options, see `registry.ESTIMATORS`.
        content_box: x, y, width, height, px, of the frame without static decoration; it is looked for when None.

    Returns:
        (frames, dancers, 25, 3) float32 BODY_25: x px, y px, confidence 0..1; dancers by mean visible area, largest
        first. `dancers` is 0 when nobody was found. Missing dancers and joints are all zeros.

    Raises:
        MediaError: not a video that can be read.
        UserError: no such estimator, or its models are not to be had.

    Example:
        >>> from tiktok_dm import decode_video, estimate_poses, open_dataset
        >>> clip = open_dataset("demo")["train"][0]
        >>> _ = Path("clip.mp4").write_bytes(clip["video"]["bytes"])
        >>> poses = estimate_poses("clip.mp4")
        >>> poses.shape[1:], len(poses) == len(clip["pose"])
        ((1, 25, 3), True)
    """
    video = Path(video)
    if content_box is None:
        film = media.probe(video)
        spread = min(_SAMPLED / max(film.duration_s, 0.1), 20.0)
        frames = media.read_frames(video, fps=spread, max_height=_SAMPLE_HEIGHT)
        sample = [rgb for _, rgb in islice(frames, 2 * _SAMPLED)]
        height, width = sample[0].shape[:2]
        box = find_content_box(np.stack(sample)).scaled((width, height), (film.width, film.height))
        content_box = (box.x, box.y, box.width, box.height)
    return track_poses(media.read_frames(video, fps=POSE_FPS), content_box, get_estimator(estimator))
