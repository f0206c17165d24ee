"""The default estimator on rendered dancers and, where it is present, on real footage."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people_factory import Rendered

from tiktok_dm import media
from tiktok_dm.errors import UserError
from tiktok_dm.pose.base import Estimator, Region
from tiktok_dm.pose.registry import ESTIMATORS, get_estimator
from tiktok_dm.pose.skeletons import BLAZEPOSE_33, to_body_25
from tiktok_dm.pose.tracking import track_poses

Render = Callable[[int, int], Rendered]


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return get_estimator("mediapipe")


def torso(joints: np.ndarray) -> float:
    return float(np.linalg.norm(joints[1] - joints[8]))


def test_the_register_offers_the_nearest_name() -> None:
    assert get_estimator("mediapipe") is get_estimator("mediapipe")
    with pytest.raises(UserError, match="no pose estimator called 'media-pipe': did you mean 'mediapipe'"):
        get_estimator("media-pipe")
    with pytest.raises(UserError, match="choose one of"):
        get_estimator("xyz")
    assert "mediapipe" in ESTIMATORS


def test_it_names_its_weights_and_keeps_the_contract(estimator: Estimator) -> None:
    assert isinstance(estimator, Estimator)
    assert (estimator.name, estimator.version, estimator.skeleton) == ("mediapipe", "0.10.21-full", BLAZEPOSE_33)
    assert estimator.weights_sha256 == "babf28247ffed0a562cf02cb53d113059d41a6d5e6a23795b85603c9bdb84088"


def test_neither_mediapipe_nor_opencv_is_imported() -> None:
    code = (
        "import sys, numpy as np; from tiktok_dm.pose.registry import get_estimator as g\n"
        "g('mediapipe').detect([np.zeros((64, 64, 3), np.uint8)])\n"
        "print([m for m in ('mediapipe', 'cv2', 'torch', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_picture_gives_one_person_where_it_is(estimator: Estimator, rendered: Render) -> None:
    scene = rendered(1, 24)
    [found] = estimator.detect([scene.frames[0]])
    assert len(found) == 1
    assert found[0].score > 0.8
    estimates = estimator.estimate([scene.frames[0]], [(0, found[0].region)])
    assert estimates.keypoints.shape == (1, 33, 3)
    assert estimates.scores[0] > 0.9
    truth = scene.joints[0, 0]
    body = to_body_25(estimates.keypoints, BLAZEPOSE_33)[0]
    seen = body[:, 2] > 0
    assert seen.sum() == 23  # all but the small toes
    error = np.linalg.norm(body[seen, :2] - truth[seen], axis=1) / torso(truth)
    assert error.mean() < 0.08
    # Left and right: the wrists are nearer to their own side's truth.
    assert np.linalg.norm(body[4, :2] - truth[4]) < np.linalg.norm(body[4, :2] - truth[7])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_gives_turned_joints(estimator: Estimator, rendered: Render, turns: int) -> None:
    """The region's angle, the crop and the way back agree: quarter turns of picture and region change nothing else."""
    frame = rendered(1, 24).frames[0]
    size = np.array([frame.shape[1], frame.shape[0]], dtype=float)
    region = estimator.detect([frame])[0][0].region

    def turned(points: np.ndarray) -> np.ndarray:
        """Pixel edges (x, y) after `turns` counter-clockwise quarter turns of the picture."""
        side = size.copy()
        for _ in range(turns):
            points = np.stack([points[..., 1], side[0] - points[..., 0]], axis=-1)
            side = side[::-1]
        return points

    x, y = turned(np.array([region.x, region.y]))
    other = Region(x, y, region.width, region.height, region.angle - turns * np.pi / 2)
    straight = estimator.estimate([frame], [(0, region)]).keypoints[0]
    rotated = estimator.estimate([np.ascontiguousarray(np.rot90(frame, turns))], [(0, other)]).keypoints[0]
    distance = np.linalg.norm(turned(straight[:, :2].astype(float)) - rotated[:, :2], axis=1)
    assert distance.max() < 1.5
    np.testing.assert_allclose(rotated[:, 2], straight[:, 2], atol=0.05)


def test_a_batch_is_the_same_as_its_pictures(estimator: Estimator, rendered: Render) -> None:
    frames = rendered(1, 24).frames[:2]
    alone = [estimator.detect([frame])[0] for frame in frames]
    assert estimator.detect(frames) == alone
    regions = [(n, found[0].region) for n, found in enumerate(alone)]
    together = estimator.estimate(frames, regions)
    for n, frame in enumerate(frames):
        single = estimator.estimate([frame], [(0, regions[n][1])])
        np.testing.assert_array_equal(together.keypoints[n], single.keypoints[0])
    empty = estimator.estimate(frames, [])
    assert empty.keypoints.shape == (0, 33, 3)


def test_nobody_in_black_noise_or_plain_shapes(estimator: Estimator) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    frames = [np.zeros((240, 320, 3), np.uint8), np.full((240, 320, 3), 255, np.uint8)]
    frames += [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(8)]
    frames += [np.stack([(x * k) % 256, (y * k) % 256, (x + y) % 256], axis=-1).astype(np.uint8) for k in (1, 3, 9)]
    frames += [np.repeat(((x // 16 + y // 16) % 2 * 255)[..., None], 3, axis=-1).astype(np.uint8)]
    for found in estimator.detect(frames):
        assert not [d for d in found if d.score >= estimator.high_score]
    clip = [(k / 30, frame) for k, frame in enumerate(frames * 2)]
    assert track_poses(clip, (0, 0, 320, 240), estimator).shape[1] == 0


def test_a_region_beside_the_picture_is_harmless(estimator: Estimator) -> None:
    frame = np.zeros((50, 60, 3), np.uint8)
    regions = [(0, Region(500, 500, 100, 100)), (0, Region(-500, -500, 100, 100)), (0, Region(30, 25, 1e-3, 1e-3))]
    estimates = estimator.estimate([frame], regions)
    assert np.isfinite(estimates.keypoints).all()
    assert (estimates.scores[:2] == 0).all()
    assert estimator.detect([frame[:1, :1], frame[:, :1]]) == [[], []]


@pytest.mark.parametrize(("dancers", "frames"), [(1, 24), (3, 24)])
def test_rendered_dancers_are_found_and_followed(
    estimator: Estimator, rendered: Render, dancers: int, frames: int
) -> None:
    from tiktok_dm.synthetic.accuracy import pose_accuracy

    scene = rendered(dancers, frames)
    height, width = scene.frames[0].shape[:2]
    clip = [(k / 30, frame) for k, frame in enumerate(scene.frames)]
    poses = track_poses(clip, (0, 0, width, height), estimator)
    assert poses.shape == (frames, dancers, 25, 3)
    accuracy = pose_accuracy(poses, scene.joints)
    assert accuracy["recall"] >= 0.98
    assert accuracy["mean_error_torso"] <= 0.06
    assert (poses[poses[..., 2] == 0] == 0).all()
    assert poses[..., 2].max() <= 1
    again = track_poses(clip, (0, 0, width, height), estimator)
    np.testing.assert_array_equal(again, poses)


CLIPS = ("D2M_high2", "D2M_low1", "D2M_low6", "tiktok_high1", "tiktok_low1", "tiktok_low2")


@pytest.mark.parametrize("name", CLIPS)
def test_real_dancers_are_found(estimator: Estimator, shared_data: Path, name: str) -> None:
    known = json.loads((shared_data / "clips" / "clips.json").read_text(encoding="utf-8"))["clips"]
    clip = next(c for c in known if c["file"] == f"{name}.mp4")
    frames = media.read_frames(shared_data / "clips" / clip["file"], fps=30)
    poses = track_poses(frames, tuple(clip["content_box"]), estimator)
    seen = (poses[..., 2] > 0).any(axis=-1)
    assert poses.shape[1] == clip["n_dancers"]
    assert seen.any(axis=1).mean() >= (0.95 if name.startswith("D2M") else 0.90)
    assert seen.all(axis=1).mean() >= (0.80 if clip["n_dancers"] == 3 else 0.90)
    # Ids are stable: nobody's chest leaps by half a torso from one picture to the next.
    for dancer in range(poses.shape[1]):
        body = poses[:, dancer]
        whole = (body[:, [1, 8], 2] > 0).all(axis=1)
        length = np.median(np.linalg.norm(body[whole, 1, :2] - body[whole, 8, :2], axis=1))
        step = np.linalg.norm(np.diff(body[:, 1, :2], axis=0), axis=1)[whole[1:] & whole[:-1]]
        assert step.max() < 0.5 * length
