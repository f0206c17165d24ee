"""Following invented people through a clip: identities, thrift, gaps and false finds."""

from __future__ import annotations

import numpy as np
import pytest
from people_factory import Invented, numbered, person

from tiktok_dm.pose.base import Estimator
from tiktok_dm.pose.tracking import TrackingParams, track_poses

BOX = (0, 0, 640, 240)
PLAIN = TrackingParams(smooth=False)


def test_the_invented_estimator_keeps_the_contract() -> None:
    assert isinstance(Invented(lambda k: []), Estimator)


@pytest.mark.parametrize("batch", [1, 8])
def test_two_dancers_keep_their_ids_and_their_places(batch: int) -> None:
    def people(k: int) -> list:
        return [(person(150 + 3 * np.sin(k / 5), 120, 160), 0.9, 1.0), (person(400 - k, 120), 0.8, 1.0)]

    estimator = Invented(people, batch=batch)
    poses = track_poses(numbered(50), BOX, estimator, PLAIN)
    assert poses.shape == (50, 2, 25, 3)
    assert poses.dtype == np.float32
    for k in range(50):
        for dancer, (truth, _, _) in enumerate(people(k)):
            np.testing.assert_array_equal(poses[k, dancer], truth)
    if batch == 8:
        assert estimator.sizes == [8] * 6 + [2]


def test_the_detector_rests_while_everyone_is_followed() -> None:
    estimator = Invented(lambda k: [(person(200, 120), 0.9, 1.0)])
    track_poses(numbered(99, width=480), (0, 0, 480, 240), estimator, TrackingParams(settle=15, detect_every=6))
    assert estimator.detections == 15 + 14  # 15 at the beginning, then pictures 20, 26, ... 98


def test_a_dancer_who_was_lost_comes_back_with_the_same_id_and_the_gap_is_bridged() -> None:
    def people(k: int) -> list:
        seen = [(person(150, 120, 160), 0.9, 1.0)]
        return seen if 20 <= k < 26 else [*seen, (person(400 + k, 120), 0.4 if k < 10 else 0.9, 1.0)]

    poses = track_poses(numbered(50), BOX, Invented(people), PLAIN)
    assert poses.shape[1] == 2
    np.testing.assert_allclose(poses[:, 1, 8, 0], 400 + np.arange(50), rtol=1e-6)
    np.testing.assert_allclose(poses[20:26, 1, :, 2], 0.45, rtol=1e-6)
    np.testing.assert_allclose(poses[[19, 26], 1, :, 2], 0.9, rtol=1e-6)


def test_a_dancer_noticed_late_is_followed_back_to_where_they_came_in() -> None:
    """The detector looks at pictures 20 and 26; someone who comes at 21 is noticed at 26, and known from 21 on."""

    def people(k: int) -> list:
        seen = [(person(150, 120, 160), 0.9, 1.0)]
        return [*seen, (person(400 + k, 120), 0.9, 1.0)] if k >= 21 else seen

    estimator = Invented(people)
    poses = track_poses(numbered(50), BOX, estimator, TrackingParams(smooth=False, settle=15, detect_every=6))
    assert (poses[:, 1, :, 2] > 0).all(axis=1).tolist() == [False] * 21 + [True] * 29
    np.testing.assert_array_equal(poses[21:, 1, 8, 0], 400 + np.arange(21, 50))
    short = track_poses(numbered(50), BOX, estimator, TrackingParams(smooth=False, look_back=5))
    assert (short[:, 1, 8, 2] > 0).sum() == 27, "at 28 they were seen three times; 23 to 27 are remembered"
    one_by_one = track_poses(numbered(50), BOX, estimator, TrackingParams(smooth=False, look_back=0))
    assert (one_by_one[:, 1, 8, 2] > 0).sum() == 24


def test_long_gaps_stay_empty() -> None:
    def people(k: int) -> list:
        return [] if 20 <= k < 35 else [(person(300, 120), 0.9, 1.0)]

    poses = track_poses(numbered(60), BOX, Invented(people), TrackingParams(max_gap=10))
    assert poses.shape[1] == 1
    assert not poses[20:35].any()
    assert (poses[np.r_[:20, 35:60], 0, :, 2] > 0).all()


def test_two_estimates_of_one_person_are_one_dancer() -> None:
    def people(k: int) -> list:
        return [(person(300, 120), 0.9, 1.0), (person(303, 121), 0.6, 1.0)]

    for batch in (1, 4):
        assert track_poses(numbered(30), BOX, Invented(people, batch=batch)).shape[1] == 1


def test_flickers_and_faint_shapes_are_nobody() -> None:
    def people(k: int) -> list:
        seen = [(person(150, 120), 0.9, 1.0)]
        if k % 20 == 0:
            seen.append((person(400, 120), 0.7, 1.0))  # a flash of a shape
        seen.append((person(550, 120), 0.3, 0.3))  # a detection that the landmarks deny
        return seen

    assert track_poses(numbered(80), BOX, Invented(people)).shape[1] == 1


def test_nobody_gives_no_dancers() -> None:
    assert track_poses(numbered(5), BOX, Invented(lambda k: [])).shape == (5, 0, 25, 3)
    assert track_poses([], BOX, Invented(lambda k: [])).shape == (0, 0, 25, 3)


def test_joints_that_are_faint_or_outside_the_content_box_are_missing() -> None:
    pose = person(60, 120, 200)
    pose[7, 2] = 0.1

    class Shifted(Invented):
        """Finds the person where the picture's own number is: the box must not hide the first pixel."""

        @staticmethod
        def index(frame: np.ndarray) -> int:
            return 0

    poses = track_poses(numbered(10), (100, 10, 120, 200), Shifted(lambda k: [(pose, 0.9, 1.0)]), PLAIN)
    inside = (pose[:, 1] >= 0) & (pose[:, 1] <= 199) & (pose[:, 2] > 0.2)
    assert 15 < inside.sum() < 25
    expected = np.where(inside[:, None], pose + np.array([100, 10, 0]), 0)
    np.testing.assert_allclose(poses[5, 0], expected, rtol=1e-6)


def test_frames_are_streamed() -> None:
    held: list[int] = []

    class Watching(Invented):
        def detect(self, frames):  # type: ignore[no-untyped-def]
            held.append(len(frames))
            return super().detect(frames)

    def stream():  # type: ignore[no-untyped-def]
        for n, frame in enumerate(numbered(20)):
            assert n <= sum(held) + 4, "pictures are read ahead"
            yield frame

    poses = track_poses(stream(), BOX, Watching(lambda k: [(person(200, 120), 0.9, 1.0)], batch=4))
    assert len(poses) == 20
    assert held == [4] * 5
