"""`pose_accuracy`: values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tiktok_dm.synthetic import pose_accuracy


def person(x: float = 100.0) -> np.ndarray:
    """(25, 2) with a torso of exactly 100 px."""
    joints = np.stack([x + np.arange(25.0), 50 + 7.0 * np.arange(25)], -1)
    joints[1], joints[8] = (x, 100.0), (x, 200.0)
    return joints


def estimate(joints: np.ndarray) -> np.ndarray:
    return np.concatenate([joints, np.full((25, 1), 0.9)], -1)


def test_a_perfect_estimate():
    truth = np.stack([person()] * 3)[:, None]
    result = pose_accuracy(np.stack([estimate(person())] * 3)[:, None], truth)
    assert result == {"recall": 1.0, "mean_error_torso": 0.0, "pck02": 1.0}


def test_a_shift_of_ten_px_is_a_tenth_of_the_torso():
    result = pose_accuracy(estimate(person() + np.array([10, 0]))[None, None], person()[None, None])
    assert result["recall"] == 1.0
    assert result["mean_error_torso"] == pytest.approx(0.1)
    assert result["pck02"] == 1.0


def test_a_shift_of_thirty_px_is_found_but_not_within_a_fifth_and_sixty_is_not_found():
    near = pose_accuracy(estimate(person() + np.array([0, 30]))[None, None], person()[None, None])
    assert near["recall"] == 1.0
    assert near["mean_error_torso"] == pytest.approx(0.3)
    assert near["pck02"] == 0.0
    far = pose_accuracy(estimate(person() + np.array([60, 0]))[None, None], person()[None, None])
    assert far["recall"] == 0.0
    assert np.isnan(far["mean_error_torso"])


def test_dancers_are_matched_whatever_their_order_and_small_toes_do_not_count():
    truth = np.stack([person(100), person(400), person(700)])[None]
    found = np.stack([estimate(person(700)), estimate(person(100)), estimate(person(400))])[None]
    found[0, :, [20, 23], :2] = 0
    assert pose_accuracy(found, truth) == {"recall": 1.0, "mean_error_torso": 0.0, "pck02": 1.0}


def test_missing_people_lower_recall_and_missing_joints_only_the_share_of_right_ones():
    truth = np.stack([person(100), person(400)])[None]
    found = estimate(person(400))[None, None]
    found[0, 0, 4] = 0
    result = pose_accuracy(found, truth)
    assert result["recall"] == 0.5
    assert result["mean_error_torso"] == 0.0
    assert result["pck02"] == pytest.approx(22 / 46)


def test_absent_dancers_and_estimates_without_anyone():
    truth = np.stack([np.stack([person(100), np.full((25, 2), np.nan)]), np.stack([person(100), np.zeros((25, 2))])])
    found = np.zeros((2, 2, 25, 3))
    found[0, 1] = estimate(person(100))
    assert pose_accuracy(found, truth)["recall"] == 0.5
    nobody = pose_accuracy(np.zeros((2, 0, 25, 3)), truth)
    assert nobody["recall"] == 0.0
    assert nobody["pck02"] == 0.0


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="estimated poses must be"):
        pose_accuracy(np.zeros((2, 25, 3)), np.zeros((2, 1, 25, 2)))
    with pytest.raises(ValueError, match="true poses must be"):
        pose_accuracy(np.zeros((2, 1, 25, 3)), np.zeros((3, 1, 25, 2)))
    with pytest.raises(ValueError, match="no true person"):
        pose_accuracy(np.zeros((2, 1, 25, 3)), np.zeros((2, 1, 25, 2)))
