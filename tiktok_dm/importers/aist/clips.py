"""Clips of AIST++: the camera's video, cut to its dance, with AIST++'s 2-D keypoints as poses at 30 fps.

So that what reads the project's own clips reads these too. Not for the segments, which are not cut from the clips:
those are `aist_segments`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import __version__, schema
from tiktok_dm.dataset.items import ClipItem
from tiktok_dm.errors import DiskFull, Filtered, UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.importers.aist.layout import FPS, Sequence, read_keypoints2d
from tiktok_dm.importers.aist.report import reason
from tiktok_dm.pose.skeletons import COCO_17, to_body_25
from tiktok_dm.runtime.store import Store, content_key

VERSION = 1  # of what this module writes


@dataclass(frozen=True)
class ClipJob:
    """One video to be cut, for one worker."""

    sequence: Sequence
    split: str
    clip_id: int
    video: Path
    keypoints: Path
    camera: str
    picture: tuple[int, int]
    max_height: int | None
    work: Path


@dataclass(frozen=True)
class LeftOut:
    """Why a video gave no clip: a broken file, or a video that cannot be one."""

    file: str
    reason: str
    broken: bool


def body_25_at_30_fps(
    keypoints: np.ndarray, n_poses: int, picture: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """COCO-17 keypoints at 60 fps as the dataset's poses.

    Args:
        keypoints: (N, 17, 3) in px of `picture`.
        n_poses: how many are wanted; the last keypoints stand for those past the end.
        picture, size: width and height in px of the pictures of the keypoints, and of those that the poses belong to.

    Returns:
        (n_poses, 1, 25, 3) float32.
    """
    every = FPS // schema.POSE_FPS
    chosen = np.array(keypoints[np.minimum(np.arange(n_poses) * every, len(keypoints) - 1)], np.float32)
    chosen[..., 0] *= np.float32(size[0] / picture[0])
    chosen[..., 1] *= np.float32(size[1] / picture[1])
    return to_body_25(chosen, COCO_17)[:, None]


def _make_clip(job: ClipJob) -> ClipItem | LeftOut:
    """The clip of a video, cut now or earlier, or why there is none."""
    from tiktok_dm.media import probe
    from tiktok_dm.pipeline.music import MusicParams, music
    from tiktok_dm.pipeline.segment import SegmentParams, segment

    store = Store(job.work)

    def make(out: Path) -> dict[str, Any]:
        keypoints = read_keypoints2d(job.keypoints, job.camera)
        end_s = min(probe(job.video).duration_s, len(keypoints) / FPS)
        cut = segment(job.video, 0.0, end_s, SegmentParams(max_height=job.max_height), out)
        if not cut["has_audio"]:
            raise Filtered("the video has no sound")
        poses = body_25_at_30_fps(
            keypoints, max(1, round(cut["duration_s"] * schema.POSE_FPS)), job.picture, (cut["width"], cut["height"])
        )
        np.save(out / "poses.npy", poses)
        seen = poses[:, 0, :, 2] > 0
        if not seen.any():
            raise Filtered("no keypoints in it")
        return {
            "segment": cut,
            "music": music(out / "audio.flac", MusicParams(), out),
            "poses": {
                "n_frames": len(poses),
                "n_dancers": 1,
                "coverage": round(float(seen.any(axis=1).mean()), 4),
                "mean_confidence": round(float(poses[:, 0, :, 2][seen].mean(dtype=np.float64)), 4),
                "estimator": "AIST++ keypoints2d",
                "estimator_version": "1.0",
                "weights_sha256": "",
            },
        }

    try:
        if not job.keypoints.is_file():
            raise Filtered("there are no keypoints2d of it")
        sha256 = sha256_file(job.video)
        inputs = {"video": sha256, "keypoints": sha256_file(job.keypoints), "package": __version__}
        parameters = [job.camera, list(job.picture), job.max_height]
        key = content_key("aist_clip", VERSION, parameters, inputs)
        record = store.run("aist_clip", key, make)
    except DiskFull:
        raise
    except Filtered as verdict:
        return LeftOut(job.video.name, str(verdict), broken=False)
    except UserError as error:
        told = job.keypoints if str(job.keypoints) in str(error) else job.video
        return LeftOut(told.name, reason(error, told), broken=True)
    except OSError as error:
        return LeftOut(job.video.name, f"cannot be read: {error.strerror or error}", broken=True)
    place = store.folder("aist_clip", key)
    return ClipItem(
        clip_id=job.clip_id,
        compilation_id=job.sequence.dancer,
        song_id=job.sequence.song_id,
        split=job.split,
        annotated_start_s=0.0,
        annotated_end_s=float(record["segment"]["end_s"]),
        segment=record["segment"],
        poses=record["poses"],
        music=record["music"],
        n_dancers_annotated=1,
        source=job.video.name,
        source_sha256=sha256,
        video=place / "clip.mp4",
        audio=place / "audio.flac",
        pose=place / "poses.npy",
    )


def clip_items(jobs: list[ClipJob], workers: int) -> Iterator[ClipItem | LeftOut]:
    """Results in the order of the jobs."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_make_clip, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make_clip, jobs)
