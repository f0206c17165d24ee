"""The poses stage: from a clip's file to `poses.npy` and a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.pose.people_factory import Invented, person
from tiktok_dm import media
from tiktok_dm.errors import Filtered, UserError
from tiktok_dm.pipeline.poses import PosesParams, best_frame, poses
from tiktok_dm.pose import registry as register

BOX = (0, 0, 160, 120)


class ByBrightness(Invented):
    """Pictures say which one they are by how bright they are, which survives encoding."""

    @staticmethod
    def index(frame: np.ndarray) -> int:
        return round(float(frame.mean()) / 4)


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> Iterator[ByBrightness]:
    """An estimator of a dancer who walks, and of a second one who comes halfway."""

    def people(k: int) -> list:
        seen = [(person(40 + k, 60, 90), 0.9, 1.0)]
        return [*seen, (person(130, 60, 70, 0.6), 0.9, 1.0)] if k >= 15 else seen

    made = ByBrightness(people)
    register.get_estimator.cache_clear()
    monkeypatch.setitem(register.ESTIMATORS, "invented", lambda: made)
    yield made
    register.get_estimator.cache_clear()


def video(path: Path, count: int, fps: int = 30) -> Path:
    media.write_video(path, (np.full((120, 160, 3), 4 * k, np.uint8) for k in range(count)), fps, crf=1)
    return path


def test_the_record_says_what_the_array_holds(tmp_path: Path, invented: ByBrightness) -> None:
    record = poses(video(tmp_path / "c.mp4", 30), BOX, 1.0, PosesParams(estimator="invented"), tmp_path)
    found = np.load(tmp_path / "poses.npy")
    assert found.shape == (30, 2, 25, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0, 8, 0], 40 + np.arange(30), atol=1e-3)
    assert record == {
        "n_frames": 30,
        "n_dancers": 2,
        "n_dancers_at_once": 2,
        "coverage": 1.0,
        "coverage_by_dancer": [1.0, 0.5],
        "mean_confidence": pytest.approx((30 * 0.9 + 15 * 0.6) / 45, abs=1e-4),
        "best_frame": record["best_frame"],
        "estimator": "invented",
        "estimator_version": "1",
        "weights_sha256": "0" * 64,
    }
    assert 15 <= record["best_frame"] < 27
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(("duration_s", "expected"), [(1.0, 30), (0.9, 27), (0.98, 29), (1.1, 33)])
def test_the_number_of_poses_is_the_duration_s(
    tmp_path: Path, invented: ByBrightness, duration_s: float, expected: int
) -> None:
    record = poses(video(tmp_path / "c.mp4", 30), BOX, duration_s, PosesParams(estimator="invented"), tmp_path)
    found = np.load(tmp_path / "poses.npy")
    assert len(found) == record["n_frames"] == expected
    np.testing.assert_array_equal(found[30:], np.broadcast_to(found[29:30], found[30:].shape))


def test_poses_live_on_the_grid_whatever_the_video_s_rate(tmp_path: Path, invented: ByBrightness) -> None:
    """At 15 frames a second every picture is on screen for two points of the grid, at 60 every second one counts."""
    params = PosesParams(estimator="invented")
    poses(video(tmp_path / "slow.mp4", 12, 15), BOX, 0.8, params, tmp_path)
    slow = np.load(tmp_path / "poses.npy")[:, 0, 4, 0]
    assert len(slow) == 24
    assert (np.abs(slow - slow[0] - np.arange(24) // 2) < 0.5).all()
    poses(video(tmp_path / "fast.mp4", 12, 60), BOX, 0.2, params, tmp_path)
    fast = np.load(tmp_path / "poses.npy")[:, 0, 4, 0]
    np.testing.assert_allclose(fast - fast[0], 2 * np.arange(6), atol=1e-3)


def test_a_clip_without_people_is_filtered(tmp_path: Path) -> None:
    with pytest.raises(Filtered, match="no dancer found in 10 pictures"):
        poses(video(tmp_path / "c.mp4", 10), BOX, 10 / 30, PosesParams(), tmp_path)
    assert not (tmp_path / "poses.npy").exists()


def test_an_unknown_estimator_is_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mediapipe"):
        poses(tmp_path / "none.mp4", BOX, 1.0, PosesParams(estimator="mediapip"), tmp_path)


def test_the_best_frame_shows_everyone() -> None:
    found = np.zeros((20, 2, 25, 3), np.float32)
    found[:, 0] = person(50, 50, 40, 0.95)
    found[5:9, 1] = person(90, 50, 40, 0.3)
    found[7, 0] = person(50, 50, 40, 0.99)
    found[0] = 1
    assert best_frame(found) == 7
    assert best_frame(found[:1]) == 0
    only_at_the_edge = np.zeros((20, 1, 25, 3), np.float32)
    only_at_the_edge[19] = 1
    assert best_frame(only_at_the_edge) == 19
