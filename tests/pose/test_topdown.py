"""What top-down estimators share, with a detector and a network that are told what to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tiktok_dm.errors import UserError
from tiktok_dm.pose.base import Estimator, Options, Region
from tiktok_dm.pose.crops import Pictures
from tiktok_dm.pose.skeletons import COCO_17
from tiktok_dm.pose.topdown import TopDown, choose_device, presence, square_enough
from tiktok_dm.pose.tracking import track_poses


class Told:
    """Sees a person wherever a picture has bright pixels."""

    version, weights_sha256 = "told", "ab"

    def detect(self, pictures: Pictures, least: float) -> list[tuple[np.ndarray, np.ndarray]]:
        out = []
        for offset, (height, width) in zip(pictures.offsets.tolist(), pictures.sizes, strict=True):
            picture = pictures.pixels[offset : offset + height * width].view(height, width, 3).numpy()
            y, x = np.nonzero(picture[..., 0] > 128)
            found = len(x) > 0
            box = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if found else np.zeros((0, 4))
            out.append((np.array(box, np.float32).reshape(-1, 4), np.full(int(found), 0.9, np.float32)))
        return out


class Spread(TopDown):
    """Puts the joints of each person on the diagonal of the box."""

    name, skeleton = "spread", COCO_17

    def __init__(self, options: Options = Options()) -> None:
        super().__init__(Told(), options, torch.device("cpu"))
        self._identify("spread", "cd")
        self.sizes: list[int] = []
        self.confidence = 0.9

    def _places(self, pictures: Pictures, index: Sequence[int], boxes: np.ndarray) -> tuple[Any, Any, Any]:
        self.sizes.append(len(index))
        share = np.linspace(0.1, 0.9, 17)[None, :, None]
        places = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
        # As with a padded batch: one more than was asked for.
        places = np.concatenate([places, places[-1:]])
        scores = torch.full((len(places), 17), self.confidence)
        return torch.from_numpy(places), scores, lambda found: found.astype(np.float32)


class Seeing(Spread):
    """Puts the joints on the diagonal of what is bright, wherever it was told to look."""

    def _places(self, pictures: Pictures, index: Sequence[int], boxes: np.ndarray) -> tuple[Any, Any, Any]:
        found = self.detector.detect(pictures, 0.5)
        return super()._places(pictures, index, np.concatenate([found[n][0] for n in index]))


def bright(x: int, y: int, width: int, height: int) -> np.ndarray:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[y : y + height, x : x + width] = 255
    return picture


def test_it_is_an_estimator() -> None:
    assert isinstance(Spread(), Estimator)


def test_people_are_counted_by_the_detector() -> None:
    """A picture without anybody has nobody: the whole picture is not taken for a person."""
    estimator = Spread()
    found = estimator.detect([np.zeros((120, 160, 3), np.uint8), bright(40, 20, 30, 60)])
    assert [len(of_picture) for of_picture in found] == [0, 1]
    none = estimator.estimate([np.zeros((120, 160, 3), np.uint8)], [])
    assert none.keypoints.shape == (0, 17, 3)
    assert none.scores.shape == (0,)
    assert estimator.sizes == []
    frames = [(k / 30, np.zeros((120, 160, 3), np.uint8)) for k in range(6)]
    assert track_poses(frames, (0, 0, 160, 120), estimator).shape == (6, 0, 25, 3)


def test_a_detection_holds_the_box_and_has_the_crops_proportions() -> None:
    [[detection]] = Spread().detect([bright(40, 20, 30, 60)])
    # 30 x 60 about (55, 50), grown to three quarters of its height.
    assert detection.region == Region(55, 50, 45, 60)
    assert detection.score == pytest.approx(0.9)
    assert square_enough(np.array([0, 0, 90, 60]), 0.75) == Region(45, 30, 90, 120)


def test_more_people_than_fit_are_taken_in_turns() -> None:
    estimator = Spread()
    estimator.crops = 4
    frames = [bright(10, 10, 20, 40), bright(60, 30, 20, 40)]
    regions = [(n % 2, Region(20 + 10 * n, 50, 30, 40)) for n in range(10)]
    estimates = estimator.estimate(frames, regions)
    assert estimator.sizes == [4, 4, 2]
    # First joint at a tenth of the box, last at nine tenths.
    np.testing.assert_allclose(estimates.keypoints[:, 0, 0], [20 + 10 * n - 15 + 3 for n in range(10)], rtol=1e-6)
    np.testing.assert_allclose(estimates.keypoints[:, -1, 1], 30 + 36, rtol=1e-6)
    np.testing.assert_array_equal(estimates.keypoints[..., 2], np.float32(0.9))
    np.testing.assert_array_equal(estimates.scores, 1)


def test_the_next_region_is_about_the_joints_unless_too_few_are_seen() -> None:
    estimator = Spread()
    region = Region(50, 50, 30, 40)
    [following] = estimator.estimate([bright(1, 1, 9, 9)], [(0, region)]).regions
    # Joints span 24 x 32; a tenth more; three quarters as wide as high already.
    assert (following.x, following.y) == pytest.approx((50, 50))
    assert (following.width, following.height) == pytest.approx((26.4, 35.2), rel=1e-5)
    estimator.confidence = 0.1
    assert estimator.estimate([bright(1, 1, 9, 9)], [(0, region)]).regions == (region,)


def test_presence_is_half_where_joints_begin_to_be_shown() -> None:
    keypoints = np.zeros((3, 4, 3), np.float32)
    keypoints[0, :, 2] = 0.3
    keypoints[1, :, 2] = [0, 0, 0.6, 0.6]  # only an upper half, but a clear one
    np.testing.assert_allclose(presence(keypoints), [0.5, 1, 0])


def test_the_same_pictures_go_to_the_device_once() -> None:
    estimator = Spread()
    frames = [bright(1, 1, 9, 9)]
    first = estimator._uploaded(frames)
    assert estimator._uploaded([frames[0]]) is first
    assert estimator._uploaded([frames[0].copy()]) is not first


def test_version_and_checksum_tell_everything_that_changes_the_output() -> None:
    plain, other = Spread(), Spread(Options(flip=True, half=True, batch=7, device="cpu"))
    assert plain.version == "spread+told"
    assert other.version == "spread-flip-fp16+told"
    assert plain.weights_sha256 == other.weights_sha256
    assert len(plain.weights_sha256) == 64
    assert (plain.batch, other.batch) == (1, 7)


def test_a_device_that_is_not_there_is_explained() -> None:
    assert choose_device("cpu").type == "cpu"
    for wrong, says in (("gpu", "is no device"), ("meta", "not estimated on 'meta'")):
        with pytest.raises(UserError, match=says):
            choose_device(wrong)
    with pytest.raises(UserError, match="sees no GPU"):
        choose_device(f"cuda:{torch.cuda.device_count()}")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_moving_person_is_followed(batch: int) -> None:
    frames = [(k / 30, bright(20 + 2 * k, 20, 30, 60)) for k in range(12)]
    poses = track_poses(frames, (0, 0, 160, 120), Seeing(Options(batch=batch)))
    assert poses.shape == (12, 1, 25, 3)
    # COCO has no feet: the six joints of BODY_25's feet are missing, all others are there.
    np.testing.assert_array_equal((poses[:, 0, :, 2] > 0).sum(axis=1), 19)
    assert (poses[:, 0, 19:] == 0).all()
    assert (np.diff(poses[:, 0, 0, 0]) > 0).all()
