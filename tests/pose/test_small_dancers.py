"""Dancers who are small in a wide picture: looked for in parts of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from people_factory import Invented, numbered, person

from tiktok_dm.pose.base import Detection, Region
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.tracking import detect_in_tiles, track_poses
from tiktok_dm.synthetic import performance
from tiktok_dm.synthetic.figure import Camera
from tiktok_dm.synthetic.plan import DemoParams, make_plan

WIDTH, HEIGHT = 960, 540


def scene(
    seed: int, height: float | None, frames: int, patch: pytest.MonkeyPatch
) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of a room with one dancer of `height` px somewhere in it, or none; the true joints (frames, 25, 2)."""
    rng = np.random.default_rng(seed)
    params = DemoParams(clips=3, songs=1, compilations=3, width=WIDTH, height=HEIGHT, seed=seed, layouts=("full",))
    plan = make_plan(params)[0].clips[0]
    clip = replace(plan, frames=frames, window=(0, 0, WIDTH, HEIGHT), dancers=plan.dancers[:1], looks=plan.looks[:1])
    x = rng.uniform(0.15, 0.85) * WIDTH if height else -3000
    size = height or 200
    view = Camera(x, rng.uniform(size / HEIGHT + 0.1, 0.97) * HEIGHT, size)
    patch.setattr(performance, "cameras", lambda params, clip: (view,))
    joints = performance.joints_px(params, clip, np.arange(frames) / params.fps)
    return list(performance.pictures(params, clip)), joints[:, 0]


def seen_share(frames: list[np.ndarray], joints: np.ndarray, height: float) -> tuple[float, int]:
    """Share of frames that show the dancer within 0.1 body heights; how many dancers there are said to be."""
    poses = track_poses([(k / 30, f) for k, f in enumerate(frames)], (0, 0, WIDTH, HEIGHT), get_estimator("mediapipe"))
    shown = poses[..., 2] > 0
    error = np.linalg.norm(poses[..., :2] - joints[:, None], axis=-1)
    near = np.where(shown, error, 0).sum(axis=-1) < 0.1 * height * np.maximum(shown.sum(axis=-1), 1)
    return float((near & shown.any(axis=-1)).any(axis=1).mean()), poses.shape[1]


@pytest.mark.parametrize(("seed", "height"), [(400, 70), (401, 100)])
def test_small_dancers_are_found(seed: int, height: float, monkeypatch: pytest.MonkeyPatch) -> None:
    share, dancers = seen_share(*scene(seed, height, 12, monkeypatch), height)
    assert share == 1.0
    assert dancers == 1


@pytest.mark.slow
@pytest.mark.parametrize(("height", "least"), [(60, 0.85), (85, 0.9), (110, 0.95), (160, 0.95)])
def test_dancers_of_many_sizes(height: float, least: float) -> None:
    shares = []
    for seed in range(500, 515):
        with pytest.MonkeyPatch.context() as patch:
            shares.append(seen_share(*scene(seed, height, 24, patch), height)[0])
    assert np.mean(shares) >= least


@pytest.mark.slow
def test_furniture_is_nobody() -> None:
    dancers = []
    for seed in range(500, 515):
        with pytest.MonkeyPatch.context() as patch:
            dancers.append(seen_share(*scene(seed, None, 24, patch), 200)[1])
    assert sum(dancers) <= 1


def test_a_detection_in_a_part_is_where_it_is_in_the_picture() -> None:
    """A detector that sees a white spot, if the whole of it is there: each place of the spot is told once, as it is."""

    class Spot(Invented):
        def detect(self, frames):  # type: ignore[no-untyped-def]
            out = []
            for frame in frames:
                ys, xs = np.nonzero(frame[..., 2])
                whole = len(ys) == 40 * 40
                region = Region(xs.mean(), ys.mean(), 40, 40, head=(xs.mean(), ys.min())) if whole else None
                out.append([Detection(region, 0.9)] if region else [])
            return out

    rng = np.random.default_rng(0)
    for width, height in ((320, 180), (180, 320), (200, 200)):
        for _ in range(20):
            left, top = rng.integers(0, width - 40), rng.integers(0, height - 40)
            frame = np.zeros((height, width, 3), np.uint8)
            frame[top : top + 40, left : left + 40] = 255
            [one] = detect_in_tiles(Spot(lambda k: []), frame, 1 / 2)
            assert (one.region.x, one.region.y) == (left + 19.5, top + 19.5)
            assert one.region.head == (left + 19.5, top)


def test_parts_are_looked_at_only_where_nobody_or_somebody_small_is_seen() -> None:
    def of(people: list) -> int:
        estimator = Invented(lambda k: people)
        track_poses(numbered(30), (0, 0, 640, 240), estimator)
        return estimator.detections

    # A region of 125 px is less than a quarter of 640 px: parts then, but not of a picture of 480 px.
    whole = 15 + 2  # the beginning, then pictures 20 and 26
    estimator = Invented(lambda k: [(person(200, 120), 0.9, 1.0)])
    track_poses(numbered(30, width=480), (0, 0, 480, 240), estimator)
    assert estimator.detections == whole
    assert of([(person(200, 120), 0.9, 1.0)]) > whole
