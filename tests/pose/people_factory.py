"""People that tests know everything about: invented ones with an estimator that sees them, and rendered ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import numpy as np

from tiktok_dm.pose.base import Detection, Estimates, Picture, Region
from tiktok_dm.pose.skeletons import BODY_25
from tiktok_dm.synthetic import performance
from tiktok_dm.synthetic.figure import Camera
from tiktok_dm.synthetic.plan import DemoParams, make_plan

# A standing person of height 1 about (0, 0), BODY_25.
STANDING = np.array([
    (0, -0.45), (0, -0.3), (-0.1, -0.3), (-0.15, -0.15), (-0.15, 0), (0.1, -0.3), (0.15, -0.15), (0.15, 0),
    (0, 0), (-0.06, 0), (-0.06, 0.25), (-0.06, 0.48), (0.06, 0), (0.06, 0.25), (0.06, 0.48),
    (-0.02, -0.47), (0.02, -0.47), (-0.04, -0.46), (0.04, -0.46),
    (0.08, 0.5), (0.1, 0.5), (0.05, 0.5), (-0.08, 0.5), (-0.1, 0.5), (-0.05, 0.5),
])  # fmt: skip


def person(x: float, y: float, height: float = 100.0, confidence: float = 0.9) -> np.ndarray:
    """(25, 3): someone standing with the hips at (x, y)."""
    return np.column_stack([STANDING * height + (x, y), np.full(25, confidence)]).astype(np.float32)


@dataclass
class Invented:
    """An estimator whose people are a function of the frame index, which is written in each picture's first pixel.

    `people(k)` gives (pose, detector's score, landmark score) for each person of picture k.
    """

    people: Callable[[int], Sequence[tuple[np.ndarray, float, float]]]
    batch: int = 1
    name: str = "invented"
    version: str = "1"
    weights_sha256: str = "0" * 64
    low_score: float = 0.2
    high_score: float = 0.5
    skeleton = BODY_25
    detections: int = 0
    sizes: list[int] = field(default_factory=list)

    @staticmethod
    def index(frame: Picture) -> int:
        return int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1])

    @staticmethod
    def region(pose: np.ndarray) -> Region:
        return Region(float(pose[8, 0]), float(pose[8, 1]), 125, 125, 0.0, (float(pose[0, 0]), float(pose[0, 1])))

    def detect(self, frames: Sequence[Picture]) -> list[list[Detection]]:
        self.detections += len(frames)
        self.sizes.append(len(frames))
        found = []
        for frame in frames:
            seen = [Detection(self.region(p), score) for p, score, _ in self.people(self.index(frame))]
            found.append(sorted((d for d in seen if d.score >= self.low_score), key=lambda d: -d.score))
        return found

    def estimate(
        self,
        frames: Sequence[Picture],
        regions: Sequence[tuple[int, Region]],
        others: Sequence[tuple[int, Region]] = (),
    ) -> Estimates:
        keypoints = np.zeros((len(regions), 25, 3), np.float32)
        scores = np.zeros(len(regions), np.float32)
        following = []
        for n, (index, region) in enumerate(regions):
            people = self.people(self.index(frames[index]))
            near = min(people, key=lambda p: np.hypot(*(p[0][8, :2] - (region.x, region.y))), default=None)
            if near is not None and np.hypot(*(near[0][8, :2] - (region.x, region.y))) < 40:
                keypoints[n], scores[n] = near[0], near[2]
                region = self.region(near[0])
            following.append(region)
        return Estimates(keypoints, scores, tuple(following))


def numbered(count: int, width: int = 640, height: int = 240) -> list[tuple[float, np.ndarray]]:
    """Pictures on the 30-fps grid that say which one they are."""
    pictures = []
    for k in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[0, 0, :2] = k % 256, k // 256
        pictures.append((k / 30, picture))
    return pictures


@dataclass(frozen=True)
class Rendered:
    """Pictures of rendered dancers and their true joints, (n, dancers, 25, 2) px."""

    frames: list[np.ndarray]
    joints: np.ndarray


# What wide scenes are rendered in, px.
WIDTH, HEIGHT = 960, 540


def wide_scene(seed: int, height: float | None, frames: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of a room with one dancer of `height` px somewhere in it, or none; the true joints (frames, 25, 2)."""
    rng = np.random.default_rng(seed)
    params = DemoParams(
        clips=3, songs=1, compilations=3, width=WIDTH, height=HEIGHT, seed=seed, layouts=("full",), groove="exact"
    )
    plan = make_plan(params)[0].clips[0]
    clip = replace(plan, frames=frames, window=(0, 0, WIDTH, HEIGHT), dancers=plan.dancers[:1], looks=plan.looks[:1])
    x = rng.uniform(0.15, 0.85) * WIDTH if height else -3000
    size = height or 200
    view = Camera(x, rng.uniform(size / HEIGHT + 0.1, 0.97) * HEIGHT, size)
    with patch.object(performance, "cameras", lambda params, clip: (view,)):
        joints = performance.joints_px(params, clip, np.arange(frames) / params.fps)
        return list(performance.pictures(params, clip)), joints[:, 0]
