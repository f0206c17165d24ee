"""Names, pairs and conversions of skeletons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tiktok_dm import schema
from tiktok_dm.pose.skeletons import (
    BLAZEPOSE_33,
    BODY_25,
    COCO_17,
    HALPE_26,
    SKELETONS,
    SMPL_24,
    Skeleton,
    convert,
    mirror,
    to_body_25,
)

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


# ------------------------------------------------------------------------------------------------ between all of them

PAIRS = [(a, b) for a in ALL for b in ALL]
PAIR_IDS = [f"{a.name} to {b.name}" for a, b in PAIRS]

# Worked by hand: what the target has and the source can give, for every pair of different skeletons. "Given" joints
# are named as in the target; middles are told apart.
_FACE = {"nose", "left_eye", "right_eye", "left_ear", "right_ear"}
_LIMBS = {f"{side}_{j}" for side in ("left", "right") for j in ["shoulder", "elbow", "wrist", "hip", "knee", "ankle"]}
_HEELS = {"left_heel", "right_heel"}
_BIG = {"left_big_toe", "right_big_toe"}
_INDEX = {"left_foot_index", "right_foot_index"}
_SMALL = {"left_small_toe", "right_small_toe"}
_TRUNK = {"neck", "mid_hip"}
_SMPL_TRUNK = {"neck", "pelvis"}
GIVEN: dict[tuple[str, str], tuple[set[str], set[str]]] = {
    ("BODY_25", "BlazePose-33"): (_FACE | _LIMBS | _HEELS | _INDEX, set()),
    ("BODY_25", "COCO-17"): (_FACE | _LIMBS, set()),
    ("BODY_25", "Halpe-26"): (_FACE | _LIMBS | _HEELS | _BIG | _SMALL | _TRUNK, set()),
    ("BODY_25", "SMPL-24"): (_LIMBS | _SMPL_TRUNK, set()),
    ("BlazePose-33", "BODY_25"): (_FACE | _LIMBS | _HEELS | _BIG, _TRUNK),
    ("BlazePose-33", "COCO-17"): (_FACE | _LIMBS, set()),
    ("BlazePose-33", "Halpe-26"): (_FACE | _LIMBS | _HEELS | _BIG, _TRUNK),
    ("BlazePose-33", "SMPL-24"): (_LIMBS, _SMPL_TRUNK),
    ("COCO-17", "BODY_25"): (_FACE | _LIMBS, _TRUNK),
    ("COCO-17", "BlazePose-33"): (_FACE | _LIMBS, set()),
    ("COCO-17", "Halpe-26"): (_FACE | _LIMBS, _TRUNK),
    ("COCO-17", "SMPL-24"): (_LIMBS, _SMPL_TRUNK),
    ("Halpe-26", "BODY_25"): (_FACE | _LIMBS | _HEELS | _BIG | _SMALL | _TRUNK, set()),
    ("Halpe-26", "BlazePose-33"): (_FACE | _LIMBS | _HEELS | _INDEX, set()),
    ("Halpe-26", "COCO-17"): (_FACE | _LIMBS, set()),
    ("Halpe-26", "SMPL-24"): (_LIMBS | _SMPL_TRUNK, set()),
    ("SMPL-24", "BODY_25"): (_LIMBS | _TRUNK, set()),
    ("SMPL-24", "BlazePose-33"): (_LIMBS, set()),
    ("SMPL-24", "COCO-17"): (_LIMBS, set()),
    ("SMPL-24", "Halpe-26"): (_LIMBS | _TRUNK, set()),
}


def test_smpl_is_a_tree_from_the_pelvis_in_the_published_order() -> None:
    known = {0: "pelvis", 3: "spine1", 7: "left_ankle", 10: "left_foot", 12: "neck", 14: "right_collar", 15: "head"}
    known |= {16: "left_shoulder", 19: "right_elbow", 20: "left_wrist", 23: "right_hand"}
    assert {k: SMPL_24.joints[k] for k in known} == known
    parents = {child: parent for parent, child in SMPL_24.edges}
    assert [parents[k] for k in range(1, 24)] == [
        0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21
    ]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=PAIR_IDS)
def test_every_pair_gives_what_it_can_and_nothing_else(source: Skeleton, target: Skeleton) -> None:
    pose = np.zeros((len(source.joints), 3), np.float32)
    pose[:, 0] = 100 + np.arange(len(pose))
    pose[:, 1] = 2 * pose[:, 0]
    pose[:, 2] = 0.5 + np.arange(len(pose)) / 100
    out = convert(pose, source, target)
    assert out.shape == (len(target.joints), 3)
    if source is target:
        assert (out == pose).all()
        return
    given, middles = GIVEN[source.name, target.name]
    assert {target.joints[k] for k in np.flatnonzero(out[:, 2])} == given | middles
    other_names = {"left_foot_index": "left_big_toe", "right_foot_index": "right_big_toe", "pelvis": "mid_hip"}
    other_names |= {b: a for a, b in other_names.items()}
    for name in given:
        origin = name if name in source.joints else other_names[name]
        assert (out[target.index(name)] == pose[source.index(origin)]).all(), name
    for name in middles:
        sides = ("left_shoulder", "right_shoulder") if name == "neck" else ("left_hip", "right_hip")
        a, b = (pose[source.index(side)] for side in sides)
        assert out[target.index(name)].tolist() == [*((a[:2] + b[:2]) / 2).tolist(), min(a[2], b[2])], name


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=PAIR_IDS)
@settings(max_examples=25)
@given(data=st.data())
def test_there_and_back(source: Skeleton, target: Skeleton, data: st.DataObject) -> None:
    pose = data.draw(poses(source))
    there = convert(pose, source, target)
    back = convert(there, target, source)
    # A joint comes back as it was, or is missing; only a neck or mid-hip that was missing may come back as a middle.
    middle = np.array([joint in ("neck", "mid_hip", "pelvis") for joint in source.joints])
    missing = back[..., 2] == 0
    assert ((back == pose).all(-1) | missing | middle).all()
    assert (back[pose[..., 2] > 0][:, 2] <= pose[pose[..., 2] > 0][:, 2]).all() or middle.any()
    # Whatever once was converted stays as it is, however often it goes there and back.
    np.testing.assert_array_equal(convert(convert(back, source, target), target, source), back)


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=PAIR_IDS)
@settings(max_examples=25)
@given(data=st.data())
def test_between_all_mirroring_commutes_and_no_confidence_grows(
    source: Skeleton, target: Skeleton, data: st.DataObject
) -> None:
    pose = data.draw(poses(source))
    out = convert(pose, source, target)
    assert out.dtype == np.float32
    assert (out[out[..., 2] == 0] == 0).all()
    np.testing.assert_array_equal(mirror(out, 1000, target), convert(mirror(pose, 1000, source), source, target))
    # Losing confidence in the source never gives more in the target, and no person gets more than it had.
    assert (convert(pose * np.float32([1, 1, 0.5]), source, target)[..., 2] <= out[..., 2]).all()
    assert (out[..., 2].max(-1, initial=0) <= pose[..., 2].max(-1, initial=0)).all()
    assert not convert(np.zeros_like(pose), source, target).any()
