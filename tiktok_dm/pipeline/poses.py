"""The poses stage: every dancer of one clip on the 30-fps grid.

How people are found and followed is `tiktok_dm.pose`'s matter; here a clip becomes `poses.npy` and a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tiktok_dm import media
from tiktok_dm.errors import Filtered
from tiktok_dm.pose.base import Picture
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.tracking import TrackingParams
from tiktok_dm.pose.video import Clip, estimate_clips

VERSION = 2

K = TypeVar("K")


@dataclass(frozen=True)
class PosesParams:
    """What a build may choose; see `tiktok_dm.pose.tracking.TrackingParams` for the tracker's part.

    Args:
        estimator: by name, see `tiktok_dm.pose.registry.ESTIMATORS`.
        fps: of the grid on which poses live.
        max_dancers: at most so many dancers are kept, largest first.
        min_confidence: joints below this are missing (zeros).
        min_share: people seen in a smaller share of the clip are not dancers.
        max_gap: pictures of the grid; shorter gaps in a dancer's track are bridged, longer ones stay empty.
    """

    estimator: str = "mediapipe"
    fps: int = 30
    max_dancers: int = TrackingParams.max_dancers
    min_confidence: float = TrackingParams.min_confidence
    min_share: float = TrackingParams.min_share
    max_gap: int = TrackingParams.max_gap


def poses(
    clip: Path,
    content_box: tuple[int, int, int, int],
    duration_s: float,
    params: PosesParams,
    out: Path,
    watch: Callable[[Picture], None] | None = None,
) -> dict[str, Any]:
    """Estimate the poses of one clip.

    Args:
        clip: video of one continuous performance.
        content_box: x, y, width, height in px of `clip`: the picture proper.
        duration_s: length of the clip; there are round(duration_s * fps) poses.
        params: estimator and tracker.
        out: existing folder; receives `poses.npy`, (frames, dancers, 25, 3) float32, see `docs/architecture.md`.
        watch: is shown each picture of the grid as it is decoded, so that another stage needs no pass of its own.

    Returns:
        The record, as of `keep`.

    Raises:
        Filtered: nobody was found.
        MediaError: the clip can't be decoded.
    """
    [(_, found)] = look([to_look_at(None, clip, content_box, duration_s, params, watch)], params)
    if isinstance(found, Exception):
        raise found
    return keep(found, duration_s, params, out)


def batches(params: PosesParams) -> bool:
    """Whether the estimator takes pictures of several clips at a time, so that clips are better looked at together."""
    return get_estimator(params.estimator).batch > 1


def to_look_at(
    key: K,
    clip: Path,
    content_box: tuple[int, int, int, int],
    duration_s: float,
    params: PosesParams,
    watch: Callable[[Picture], None] | None = None,
) -> Clip[K]:
    """A clip for `look`; what it is given is what `poses` is given."""
    n_frames = _n_frames(duration_s, params)

    def frames() -> Iterator[tuple[float, Picture]]:
        for time_s, picture in islice(media.read_frames(clip, fps=params.fps), n_frames):
            if watch is not None:
                watch(picture)
            yield time_s, picture

    return Clip(key, frames, content_box)


def look(
    clips: Iterable[Clip[K]], params: PosesParams, open_clips: int = 4
) -> Iterator[tuple[K, NDArray[np.float32] | Exception]]:
    """(key, poses or what went wrong) of each clip, as clips end; see `tiktok_dm.pose.video.estimate_clips`."""
    tracking = TrackingParams(
        max_dancers=params.max_dancers,
        min_confidence=params.min_confidence,
        min_share=params.min_share,
        max_gap=params.max_gap,
    )
    return estimate_clips(clips, get_estimator(params.estimator), tracking, open_clips)


def keep(found: NDArray[np.float32], duration_s: float, params: PosesParams, out: Path) -> dict[str, Any]:
    """Write the poses that were found in a clip.

    Args:
        found: (pictures, dancers, 25, 3), a picture for each pose, or fewer where the video ends before its sound.
        duration_s: length of the clip.
        params: by which they were found.
        out: existing folder; receives `poses.npy`.

    Returns:
        The record: `n_frames`; `n_dancers`, in the array; `n_dancers_at_once`, most in one picture; `coverage`, share
        of frames that show at least one dancer; `coverage_by_dancer`; `mean_confidence` of all joints that are not
        missing; `best_frame`, the picture that shows all dancers best; `estimator`, `estimator_version`,
        `weights_sha256`.

    Raises:
        Filtered: nobody was found.
    """
    if found.shape[1] == 0:
        raise Filtered(f"no dancer found in {len(found)} pictures")
    n_frames = _n_frames(duration_s, params)
    # The last picture stays on screen until the clip ends.
    found = found[np.minimum(np.arange(n_frames), len(found) - 1)]
    np.save(out / "poses.npy", found)
    seen = found[..., 2] > 0
    shown = seen.any(axis=-1)
    estimator = get_estimator(params.estimator)
    return {
        "n_frames": n_frames,
        "n_dancers": found.shape[1],
        "n_dancers_at_once": int(shown.sum(axis=1).max()),
        "coverage": round(float(np.any(shown, axis=1).mean()), 4),
        "coverage_by_dancer": [round(float(share), 4) for share in shown.mean(axis=0)],
        "mean_confidence": round(float(found[..., 2][seen].mean(dtype=np.float64)), 4),
        "best_frame": best_frame(found),
        "estimator": estimator.name,
        "estimator_version": estimator.version,
        "weights_sha256": estimator.weights_sha256,
    }


def _n_frames(duration_s: float, params: PosesParams) -> int:
    return max(1, round(duration_s * params.fps))


def best_frame(poses: NDArray[np.float32]) -> int:
    """Index of the picture that shows most dancers, and among those the most joints with the most confidence.

    The first and last tenth are left out where possible: a fade from or to the neighbouring clip may lie there.

    Args:
        poses: (frames, dancers, 25, 3).
    """
    confidence = poses[..., 2].astype(np.float64)
    worth = (confidence > 0).any(axis=-1).sum(axis=1) * poses.shape[2] * poses.shape[1] + confidence.sum(axis=(1, 2))
    margin = len(poses) // 10
    inner = worth[margin : len(poses) - margin]
    return margin + int(np.argmax(inner)) if inner.any() else int(np.argmax(worth))
