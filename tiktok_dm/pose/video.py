"""Poses of a video file as they are wanted by whoever has a file and nothing else."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiktok_dm import media
from tiktok_dm.media.content_box import find_content_box
from tiktok_dm.pose import tracking
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.schema import POSE_FPS

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
    return tracking.estimate_poses(media.read_frames(video, fps=POSE_FPS), content_box, get_estimator(estimator))
