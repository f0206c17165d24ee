"""Skeletons and the way from one to another: joint names, bones, left and right, conversion, mirroring.

Not for finding people or following them (`estimator`, `tracking`), nor for drawing (`overlay`), nor for files
(`openpose_json`).

Poses are arrays (..., joints, 3): x px, y px, confidence 0..1. A missing joint is all zeros.
"Left" is the dancer's left, as in all five skeletons.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pose = NDArray[np.float32]


@dataclass(frozen=True)
class Skeleton:
    """Names of the joints in array order, the bones between them, and the left-right pairs.

    Args:
        name: the field's name of the skeleton.
        joints: one name a joint, in array order.
        edges: pairs of joint indices joined by a bone.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def index(self, joint: str) -> int:
        """Place of a joint in the array."""
        return self.joints.index(joint)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) joint indices."""
        return tuple(
            (i, self.joints.index("right" + joint[4:]))
            for i, joint in enumerate(self.joints)
            if joint.startswith("left") and "right" + joint[4:] in self.joints
        )


def _skeleton(name: str, joints: str, edges: str) -> Skeleton:
    names = tuple(joints.split())
    bones = tuple((names.index(a), names.index(b)) for a, b in (edge.split("-") for edge in edges.split()))
    return Skeleton(name, names, bones)


BODY_25 = _skeleton(
    "BODY_25",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe left_small_toe "
    "left_heel right_big_toe right_small_toe right_heel",
    "neck-mid_hip neck-right_shoulder neck-left_shoulder right_shoulder-right_elbow right_elbow-right_wrist "
    "left_shoulder-left_elbow left_elbow-left_wrist mid_hip-right_hip right_hip-right_knee right_knee-right_ankle "
    "mid_hip-left_hip left_hip-left_knee left_knee-left_ankle neck-nose nose-right_eye right_eye-right_ear "
    "nose-left_eye left_eye-left_ear left_ankle-left_big_toe left_big_toe-left_small_toe left_ankle-left_heel "
    "right_ankle-right_big_toe right_big_toe-right_small_toe right_ankle-right_heel",
)
"""OpenPose BODY_25 (Cao et al., TPAMI 2019), the skeleton of the published dataset."""

BLAZEPOSE_33 = _skeleton(
    "BlazePose-33",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
    "left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
    "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle left_heel right_heel left_foot_index right_foot_index",
    "nose-left_eye_inner left_eye_inner-left_eye left_eye-left_eye_outer left_eye_outer-left_ear "
    "nose-right_eye_inner right_eye_inner-right_eye right_eye-right_eye_outer right_eye_outer-right_ear "
    "left_mouth-right_mouth left_shoulder-right_shoulder left_shoulder-left_elbow left_elbow-left_wrist "
    "left_wrist-left_pinky left_wrist-left_index left_wrist-left_thumb left_pinky-left_index "
    "right_shoulder-right_elbow right_elbow-right_wrist right_wrist-right_pinky right_wrist-right_index "
    "right_wrist-right_thumb right_pinky-right_index left_shoulder-left_hip right_shoulder-right_hip "
    "left_hip-right_hip left_hip-left_knee left_knee-left_ankle left_ankle-left_heel left_heel-left_foot_index "
    "left_ankle-left_foot_index right_hip-right_knee right_knee-right_ankle right_ankle-right_heel "
    "right_heel-right_foot_index right_ankle-right_foot_index",
)
"""BlazePose GHUM (Bazarevsky et al., 2020), MediaPipe's skeleton."""

_COCO_JOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
_COCO_EDGES = (
    "left_shoulder-left_elbow left_elbow-left_wrist right_shoulder-right_elbow right_elbow-right_wrist "
    "left_hip-left_knee left_knee-left_ankle right_hip-right_knee right_knee-right_ankle nose-left_eye nose-right_eye "
    "left_eye-left_ear right_eye-right_ear"
)

COCO_17 = _skeleton(
    "COCO-17",
    _COCO_JOINTS,
    _COCO_EDGES + " left_shoulder-right_shoulder left_shoulder-left_hip right_shoulder-right_hip left_hip-right_hip",
)
"""COCO keypoints (Lin et al., ECCV 2014)."""

HALPE_26 = _skeleton(
    "Halpe-26",
    _COCO_JOINTS + " head neck mid_hip left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel",
    _COCO_EDGES + " head-neck neck-left_shoulder neck-right_shoulder neck-mid_hip mid_hip-left_hip mid_hip-right_hip "
    "left_ankle-left_big_toe left_ankle-left_small_toe left_ankle-left_heel "
    "right_ankle-right_big_toe right_ankle-right_small_toe right_ankle-right_heel",
)
"""Halpe full body with 26 keypoints (AlphaPose, Fang et al., TPAMI 2022)."""

SMPL_24 = _skeleton(
    "SMPL-24",
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "left_hand right_hand",
    "pelvis-left_hip pelvis-right_hip pelvis-spine1 left_hip-left_knee right_hip-right_knee spine1-spine2 "
    "left_knee-left_ankle right_knee-right_ankle spine2-spine3 left_ankle-left_foot right_ankle-right_foot spine3-neck "
    "spine3-left_collar spine3-right_collar neck-head left_collar-left_shoulder right_collar-right_shoulder "
    "left_shoulder-left_elbow right_shoulder-right_elbow left_elbow-left_wrist right_elbow-right_wrist "
    "left_wrist-left_hand right_wrist-right_hand",
)
"""The 24 joints of SMPL (Loper et al., SIGGRAPH Asia 2015), the skeleton of AIST++'s motions; its edges are the
kinematic tree, from parent to child. Joints that are projected into a picture are a pose like any other."""

SKELETONS = {skeleton.name: skeleton for skeleton in (BODY_25, BLAZEPOSE_33, COCO_17, HALPE_26, SMPL_24)}

# Where a name does not say which point of the body is meant. BlazePose's foot index lies at the toe-tip of the foot's
# inner side. OpenPose's neck and mid-hip are held to be SMPL's neck and pelvis, as where SMPL is fitted to keypoints
# (Pavlakos et al., CVPR 2019). Halpe's head is the top of the head, SMPL's the joint below the skull: two points; and
# SMPL's foot is the ball of the foot, which no other skeleton has.
_POINTS: dict[str, dict[str, str]] = {
    BLAZEPOSE_33.name: {"left_foot_index": "left_big_toe", "right_foot_index": "right_big_toe"},
    HALPE_26.name: {"head": "head_top"},
    SMPL_24.name: {"pelvis": "mid_hip", "head": "head_joint"},
}
_MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}


def _present(pose: Pose) -> NDArray[np.bool_]:
    return pose[..., 2] > 0


def _blank_missing(pose: Pose) -> Pose:
    return np.where(_present(pose)[..., None], pose, np.float32(0)).astype(np.float32, copy=False)


def _middle(a: Pose, b: Pose) -> Pose:
    """The joint halfway between two; confidence is the lower one, so it is missing when either is."""
    return np.concatenate([(a[..., :2] + b[..., :2]) / 2, np.minimum(a[..., 2:], b[..., 2:])], axis=-1)


@functools.cache
def _sources(source: Skeleton, target: Skeleton) -> tuple[tuple[int, int, int], ...]:
    """(place in the target, place in the source, place of the other one of two to take the middle of, or -1)."""

    def points(skeleton: Skeleton) -> list[str]:
        names = _POINTS.get(skeleton.name, {})
        return [names.get(joint, joint) for joint in skeleton.joints]

    have, found = points(source), []
    for place, point in enumerate(points(target)):
        pair = _MIDDLES.get(point, ())
        if point in have:
            found.append((place, have.index(point), -1))
        elif pair and set(pair) <= set(have):
            found.append((place, have.index(pair[0]), have.index(pair[1])))
    return tuple(found)


def convert(pose: Pose, source: Skeleton, target: Skeleton) -> Pose:
    """Poses of one skeleton as another has them.

    Joints are matched by what they are, and nothing is guessed: a joint that the source does not have is missing. Only
    a neck or mid-hip (SMPL: pelvis) that the source does not have is the middle of its shoulders or hips where both are
    there, with the lower of the two confidences. So the small toe of BlazePose is missing (a point guessed from the big
    toe would only repeat it), and a pose from COCO-17 has no feet.

    There and back, every joint that both skeletons have comes back as it was.

    Args:
        pose: (..., joints of `source`, 3).
        source, target: two of `SKELETONS`.

    Returns:
        (..., joints of `target`, 3) float32; missing joints are all zeros.

    Raises:
        ValueError: `pose` has another number of joints than `source`.
    """
    pose = _blank_missing(np.asarray(pose, dtype=np.float32))
    if pose.shape[-2:] != (len(source.joints), 3):
        raise ValueError(f"{source.name} has {len(source.joints)} joints of 3 values, got {pose.shape[-2:]}")
    if source is target:
        return pose
    out = np.zeros((*pose.shape[:-2], len(target.joints), 3), np.float32)
    for place, one, other in _sources(source, target):
        out[..., place, :] = pose[..., one, :] if other < 0 else _middle(pose[..., one, :], pose[..., other, :])
    return _blank_missing(out)


def to_body_25(pose: Pose, skeleton: Skeleton) -> Pose:
    """Poses of any skeleton as BODY_25, the dataset's own; see `convert`.

    Args:
        pose: (..., joints of `skeleton`, 3).
        skeleton: one of `SKELETONS`.

    Returns:
        (..., 25, 3) float32; missing joints are all zeros.
    """
    return convert(pose, skeleton, BODY_25)


def mirror(pose: Pose, width: float, skeleton: Skeleton = BODY_25) -> Pose:
    """Poses as they would be in the picture mirrored left to right.

    Args:
        pose: (..., joints, 3) in pixels of a picture `width` wide.
        width: picture width in px; pixel column x becomes width - 1 - x.

    Returns:
        Same shape; left and right joints change places; missing joints stay all zeros.
    """
    order = np.arange(len(skeleton.joints))
    for left, right in skeleton.pairs:
        order[left], order[right] = right, left
    out = np.array(pose, dtype=np.float32)[..., order, :]
    out[..., 0] = width - 1 - out[..., 0]
    return _blank_missing(out)
