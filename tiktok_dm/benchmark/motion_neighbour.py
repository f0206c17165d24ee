"""Which training dance moves most like this one? A descriptor of motion, and the nearest neighbour by it.

For the baseline that dances to somebody else's music. Not for scoring how dance and music fit (`alignment`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tiktok_dm.benchmark.metrics.alignment import joint_speed
from tiktok_dm.pose.skeletons import BODY_25
from tiktok_dm.schema import POSE_FPS

VERSION = 1
LAGS_S = np.geomspace(0.2, 1.0, 12)
"""Of the autocorrelation: 300 to 60 a minute; two seconds of motion hold each of them twice at least."""
PARTS = {
    "body": tuple(range(len(BODY_25.joints))),
    "hands": (BODY_25.index("right_wrist"), BODY_25.index("left_wrist")),
    "feet": (BODY_25.index("right_ankle"), BODY_25.index("left_ankle")),
    "trunk": (BODY_25.index("neck"), BODY_25.index("mid_hip")),
}
DIM = 2 * len(PARTS) + len(LAGS_S)


def motion_descriptor(pose: np.ndarray, fps: float = POSE_FPS) -> np.ndarray | None:
    """What one dancer's motion is like, float64 (20,); None where too little of the dancer was seen to say.

    Speeds are means over joints (`alignment.joint_speed`), divided by the torso length (the median distance from neck
    to mid-hip), so that neither the picture's size nor the dancer's distance counts:

    - 0-7: for the whole body, wrists, ankles, and neck with mid-hip: log(1 + mean speed in torso lengths a second), and
      the speed's standard deviation over its mean; 0 where the part is not seen;
    - 8-19: autocorrelation of the whole body's speed (its mean removed, gaps filled by the mean, divided by its value
      at lag 0) at 12 lags spaced evenly in the logarithm from 0.2 to 1 s: the dance's pulse.

    Args:
        pose: (frames, 25, 3): x px, y px, confidence.
        fps: poses a second.
    """
    pose = np.asarray(pose, np.float64)
    if len(pose) < 3:
        return None
    neck, hip = (pose[:, i] for i in PARTS["trunk"])
    seen = (neck[:, 2] > 0) & (hip[:, 2] > 0)
    torso = float(np.median(np.linalg.norm(neck[seen, :2] - hip[seen, :2], axis=1))) if seen.any() else 0.0
    body = joint_speed(pose, fps)
    if torso <= 0 or np.isfinite(body).sum() < fps / 2:
        return None
    values: list[float] = []
    for joints in PARTS.values():
        speed = joint_speed(pose[:, joints], fps) / torso
        speed = speed[np.isfinite(speed)]
        mean = float(speed.mean()) if len(speed) else 0.0
        values += [float(np.log1p(mean)), float(speed.std()) / mean if mean > 0 else 0.0]
    centred = np.where(np.isfinite(body), body - np.nanmean(body), 0.0)
    power = float(centred @ centred)
    correlation = np.correlate(centred, centred, "full")[len(centred) - 1 :] / power if power > 0 else np.zeros(1)
    pulse = np.interp(LAGS_S * fps, np.arange(len(correlation)), correlation, right=0.0)
    return np.array([*values, *pulse])


def nearest_by_motion(
    wanted: Sequence[np.ndarray | None], training: Sequence[np.ndarray | None]
) -> list[tuple[int, float]]:
    """For each wanted descriptor the place of the nearest training one and their distance; of equals the first.

    Euclidean distance after each dimension is standardised by the training's mean and standard deviation. Where a
    dance has no descriptor, it stands at the training's mean, and its distance is nan; training dances without one are
    never chosen unless all are, and then the first is.
    """
    places = [k for k, value in enumerate(training) if value is not None]
    if not places:
        return [(0, float("nan"))] * len(wanted)
    known = np.stack([value for value in training if value is not None])
    mean, std = known.mean(axis=0), known.std(axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    known = (known - mean) / std
    found = []
    for value in wanted:
        point = (value - mean) / std if value is not None else np.zeros(known.shape[1])
        distances = np.linalg.norm(known - point, axis=1)
        best = int(distances.argmin())
        found.append((places[best], float(distances[best]) if value is not None else float("nan")))
    return found
