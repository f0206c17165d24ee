"""Names, pairs and conversions of skeletons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tiktok_dm import schema
from tiktok_dm.pose.skeletons import BLAZEPOSE_33, BODY_25, COCO_17, HALPE_26, SKELETONS, Skeleton, mirror, to_body_25

ALL = list(SKELETONS.values())


def poses(skeleton: Skeleton) -> st.SearchStrategy[np.ndarray]:
    """(n, joints, 3) with whole-number pixels, so that mirroring twice is exact; some joints missing."""

    def whole(values: np.ndarray) -> np.ndarray:
        pose = values.astype(np.float32)
        pose[..., 2] = np.clip(pose[..., 2] / 500 - 0.5, 0, 1)
        pose[pose[..., 2] == 0] = 0
        return pose

    shape = st.tuples(st.integers(0, 3), st.just(len(skeleton.joints)), st.just(3))
    return npst.arrays(np.int64, shape, elements=st.integers(0, 999)).map(whole)


def joint(skeleton: Skeleton, name: str) -> int:
    return skeleton.joints.index(name)


@pytest.mark.parametrize("skeleton", ALL, ids=lambda s: s.name)
def test_a_skeleton_is_one_piece_with_paired_sides(skeleton: Skeleton) -> None:
    assert len(set(skeleton.joints)) == len(skeleton.joints) == int(skeleton.name.split("-")[-1].split("_")[-1])
    sided = [name for name in skeleton.joints if name.startswith(("left", "right"))]
    assert len(skeleton.pairs) * 2 == len(sided)
    for left, right in skeleton.pairs:
        assert skeleton.joints[left].removeprefix("left") == skeleton.joints[right].removeprefix("right")
    bones = {frozenset(edge) for edge in skeleton.edges}
    assert len(bones) == len(skeleton.edges)
    swap = {a: b for pair in skeleton.pairs for a, b in (pair, pair[::-1])}
    assert {frozenset(swap.get(k, k) for k in edge) for edge in bones} == bones, "bones differ between the sides"


def test_body_25_has_the_published_order() -> None:
    # OpenPose's documentation: "Result for BODY_25".
    assert len(BODY_25.joints) == schema.N_JOINTS
    known = {0: "nose", 1: "neck", 4: "right_wrist", 7: "left_wrist", 8: "mid_hip", 11: "right_ankle", 14: "left_ankle"}
    known |= {15: "right_eye", 18: "left_ear", 19: "left_big_toe", 21: "left_heel", 24: "right_heel"}
    assert {k: BODY_25.joints[k] for k in known} == known


def test_blazepose_and_halpe_have_their_published_order() -> None:
    assert [BLAZEPOSE_33.joints[k] for k in (0, 7, 11, 16, 23, 28, 31)] == [
        "nose", "left_ear", "left_shoulder", "right_wrist", "left_hip", "right_ankle", "left_foot_index"
    ]  # fmt: skip
    assert HALPE_26.joints[:17] == COCO_17.joints
    assert HALPE_26.joints[17:] == (
        "head", "neck", "mid_hip", "left_big_toe", "right_big_toe",
        "left_small_toe", "right_small_toe", "left_heel", "right_heel",
    )  # fmt: skip


@pytest.mark.parametrize("skeleton", [BLAZEPOSE_33, COCO_17], ids=lambda s: s.name)
def test_neck_and_mid_hip_are_middles_with_the_lower_confidence(skeleton: Skeleton) -> None:
    pose = np.zeros((len(skeleton.joints), 3), np.float32)
    pose[joint(skeleton, "left_shoulder")] = 40, 10, 0.5
    pose[joint(skeleton, "right_shoulder")] = 20, 14, 0.75
    pose[joint(skeleton, "left_hip")] = 38, 60, 0.9
    body = to_body_25(pose, skeleton)
    assert body[1].tolist() == [30, 12, 0.5]
    assert body[8].tolist() == [0, 0, 0], "one hip alone has no middle"
    assert body[5].tolist() == [40, 10, 0.5]
    assert np.count_nonzero(body[:, 2]) == 4


def test_feet_come_from_where_they_are() -> None:
    blaze = np.zeros((33, 3), np.float32)
    blaze[31], blaze[30] = (7, 8, 0.5), (1, 2, 0.25)  # left foot index, right heel
    body = to_body_25(blaze, BLAZEPOSE_33)
    assert body[19].tolist() == [7, 8, 0.5]
    assert body[24].tolist() == [1, 2, 0.25]
    assert not body[[20, 23]].any(), "BlazePose knows no small toes"
    halpe = np.arange(26 * 3, dtype=np.float32).reshape(26, 3) / 100 + 0.01
    body = to_body_25(halpe, HALPE_26)
    assert (body[[1, 8, 19, 20, 21, 22, 23, 24]] == halpe[[18, 19, 20, 22, 24, 21, 23, 25]]).all()
    assert not to_body_25(np.ones((17, 3), np.float32), COCO_17)[19:].any()


def test_a_wrong_number_of_joints_is_refused() -> None:
    with pytest.raises(ValueError, match="COCO-17 has 17 joints"):
        to_body_25(np.ones((18, 3), np.float32), COCO_17)


@pytest.mark.parametrize("skeleton", ALL, ids=lambda s: s.name)
@given(data=st.data())
def test_conversion_keeps_missing_joints_blank_and_invents_no_confidence(
    skeleton: Skeleton, data: st.DataObject
) -> None:
    pose = data.draw(poses(skeleton))
    body = to_body_25(pose, skeleton)
    assert body.shape == (len(pose), 25, 3)
    assert body.dtype == np.float32
    assert (body[body[..., 2] == 0] == 0).all()
    if len(pose):
        assert body[..., 2].max() <= pose[..., 2].max()


@pytest.mark.parametrize("skeleton", ALL, ids=lambda s: s.name)
@given(data=st.data())
def test_mirroring_twice_is_nothing_and_commutes_with_conversion(skeleton: Skeleton, data: st.DataObject) -> None:
    pose = data.draw(poses(skeleton))
    once = mirror(pose, 1000, skeleton)
    np.testing.assert_array_equal(mirror(once, 1000, skeleton), pose)
    np.testing.assert_array_equal(mirror(to_body_25(pose, skeleton), 1000), to_body_25(once, skeleton))


def test_mirroring_swaps_the_sides_and_turns_the_picture() -> None:
    pose = np.zeros((25, 3), np.float32)
    pose[4], pose[0] = (10, 20, 0.5), (99, 5, 1)
    turned = mirror(pose, 100)
    assert turned[7].tolist() == [89, 20, 0.5]
    assert turned[0].tolist() == [0, 5, 1]
    assert not turned[4].any()
