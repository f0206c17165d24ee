"""From tracks to the array of a clip."""

from __future__ import annotations

import numpy as np
import pytest
from people_factory import person

from tiktok_dm.pose.tracking import (
    Track,
    TrackingParams,
    assemble,
    bridge,
    pose_distance,
    pose_scale,
    smoothed,
    visible_area,
)

PLAIN = TrackingParams(smooth=False)


def track(frames: range, x: float = 100, height: float = 100, score: float = 0.9, total: float = 5) -> Track:
    return Track({k: person(x, 120, height) for k in frames}, best_detection=score, all_detections=total)


def test_scale_and_distance_worked_by_hand() -> None:
    a, b = np.zeros((25, 3), np.float32), np.zeros((25, 3), np.float32)
    for k, (x, y) in enumerate([(0, 0), (40, 0), (0, 90)]):
        a[k], b[k] = (x, y, 1), (x + 3, y + 4, 1)
    assert pose_scale(a) == pytest.approx(60)  # sqrt(40 * 90)
    assert pose_distance(a, b) == pytest.approx(5 / 60)
    b[2] = 0
    assert pose_distance(a, b) == np.inf, "two joints in common say nothing"
    assert pose_scale(np.zeros((25, 3), np.float32)) == 1


def test_visible_area_ignores_missing_joints() -> None:
    pose = np.zeros((2, 25, 3), np.float32)
    pose[0, 3], pose[0, 4] = (10, 20, 0.5), (40, 60, 0.5)
    assert visible_area(pose).tolist() == [1200, 0]


def test_bridge_fills_short_gaps_only() -> None:
    joints = np.zeros((12, 1, 3), np.float32)
    joints[1], joints[4], joints[8] = (0, 0, 0.8), (30, 60, 0.6), (50, 50, 1)
    bridge(joints, 2, 0.5)
    np.testing.assert_allclose(joints[2:4, 0], [[10, 20, 0.3], [20, 40, 0.3]], rtol=1e-6)
    assert not joints[5:8].any(), "a gap of three is longer than two"
    assert not joints[[0, 9, 10, 11]].any(), "before the first and after the last sight nothing is known"


def test_smoothing_keeps_parabolas_and_lone_joints() -> None:
    time = np.arange(20, dtype=np.float32)
    poses = np.zeros((20, 1, 25, 3), np.float32)
    poses[:, 0, 0] = np.stack([time**2, 3 - 2 * time, np.full(20, 0.5)], axis=-1)
    poses[::2, 0, 1] = 9, 9, 0.7
    np.testing.assert_allclose(smoothed(poses), poses, atol=1e-3)
    poses[10, 0, 0, 0] += 35  # one picture's slip spreads as the filter says: 17, 12 and -3 parts
    slip = smoothed(poses)[:, 0, 0, 0] - time**2
    np.testing.assert_allclose(slip[8:13], [-3, 12, 17, 12, -3], atol=1e-3)
    np.testing.assert_array_equal(smoothed(poses)[..., 2], poses[..., 2])
    short = poses[:3]
    np.testing.assert_array_equal(smoothed(short), short)


def test_the_largest_dancer_comes_first_and_only_so_many_are_kept() -> None:
    tracks = [
        track(range(30), x=60, height=80),
        track(range(30), x=200, height=120),
        track(range(30), x=400, height=100),
    ]
    out = assemble(tracks, 30, 0.5, PLAIN)
    assert out.shape == (30, 3, 25, 3)
    assert out[0, :, 8, 0].tolist() == [200, 400, 60]
    assert assemble(tracks, 30, 0.5, TrackingParams(max_dancers=2))[0, :, 8, 0].tolist() == [200, 400]


def test_mean_area_counts_absence() -> None:
    """A large dancer who is there for a third of the clip comes after a smaller one who is there throughout."""
    out = assemble([track(range(10), x=60, height=130), track(range(30), x=300)], 30, 0.5, PLAIN)
    assert out[0, :, 8, 0].tolist() == [300, 60]


def test_pieces_of_one_dancer_are_joined_and_two_dancers_are_not() -> None:
    out = assemble([track(range(10)), track(range(25, 40), x=110), track(range(40), x=400)], 40, 0.5, PLAIN)
    assert out.shape[1] == 2
    assert (out[..., 8, 2] > 0).sum(axis=0).tolist() == [40, 25]
    together = assemble([track(range(40)), track(range(5, 40), x=110)], 40, 0.5, PLAIN)
    assert together.shape[1] == 2, "who are seen at the same time are two"


def test_short_and_doubtful_tracks_are_nobody() -> None:
    params = TrackingParams(min_share=0.2)
    assert assemble([track(range(19))], 100, 0.5, params).shape == (100, 0, 25, 3)
    assert assemble([track(range(20))], 100, 0.5, params).shape[1] == 1
    assert assemble([track(range(100), score=0.49, total=1.9)], 100, 0.5, params).shape[1] == 0
    assert assemble([track(range(100), score=0.49, total=2.1)], 100, 0.5, params).shape[1] == 1
    assert assemble([track(range(100), score=0.5, total=0.5)], 100, 0.5, params).shape[1] == 1


def test_assembling_leaves_the_tracks_as_they_were() -> None:
    tracks = [track(range(10)), track(range(12, 20))]
    assemble(tracks, 20, 0.5, PLAIN)
    assert [len(t.poses) for t in tracks] == [10, 8]
