"""A human body in body heights: proportions, two-bone inverse kinematics, and the BODY_25 joints of a pose.

Not for what the body does (`choreography`) or looks like (`figure`).

Coordinates: x to the right of the picture, y up from the floor, z towards the camera. A dancer who faces the camera has
the left hand at positive x. Arrays run over frames first; sides are 0 = right, 1 = left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HIP_HEIGHT, SPINE, HEAD_ABOVE = 0.53, 0.29, 0.118
SHOULDER, HIP = 0.108, 0.058
UPPER_ARM, FOREARM, HAND, FINGERS = 0.165, 0.145, 0.050, 0.042
THIGH, SHIN, ANKLE = 0.243, 0.243, 0.045
SIDE = np.array([-1.0, 1.0])  # x of right and left in the dancer's own frame

# Points of the face in the head's own frame: x to the dancer's left, y up, z forward.
NOSE = (0.0, -0.006, 0.060)
EYE = (0.0195, 0.010, 0.047)
EAR = (0.046, 0.002, 0.010)  # where the ear meets the cheek, which is what estimators mean by it


@dataclass(frozen=True)
class Controls:
    """What drives a body over n frames; lengths in body heights, angles in rad.

    Args:
        yaw: turn about the vertical, (n,).
        hip: sideways and forward shift of the hips, (n, 2).
        drop: how far the hips are lowered from standing, (n,).
        pelvis_roll, chest_roll, chest_twist, lean: rotations of pelvis and chest, each (n,).
        head: yaw, pitch, roll of the head beside the chest's, (n, 3).
        hands: wrist targets from the shoulder as (outwards, up, forward), (n, 2, 3).
        feet: ankles as (x, height above standing, z) in the dancer's frame, (n, 2, 3).
        foot_pitch: toes down, (n, 2).
    """

    yaw: np.ndarray
    hip: np.ndarray
    drop: np.ndarray
    pelvis_roll: np.ndarray
    chest_roll: np.ndarray
    chest_twist: np.ndarray
    lean: np.ndarray
    head: np.ndarray
    hands: np.ndarray
    feet: np.ndarray
    foot_pitch: np.ndarray


@dataclass(frozen=True)
class Skeleton:
    """A posed body over n frames.

    Args:
        joints: BODY_25 joints, (n, 25, 3).
        head: centre of the head, (n, 3).
        head_axes, chest_axes, pelvis_axes: columns are left, up, forward, (n, 3, 3).
        fingertips: (n, 2, 3).
    """

    joints: np.ndarray
    head: np.ndarray
    head_axes: np.ndarray
    chest_axes: np.ndarray
    pelvis_axes: np.ndarray
    fingertips: np.ndarray


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3): roll about z, then pitch about x (positive leans forward), then yaw about y."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    about_y = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    about_x = np.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], -1).reshape(-1, 3, 3)
    about_z = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return about_y @ about_x @ about_z


def two_bones(
    root: np.ndarray, target: np.ndarray, first: float, second: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end of a chain of two bones that reaches for a target, bent towards `pole`.

    Args:
        root, target, pole: (..., 3); `pole` is a direction.
        first, second: lengths of the bones.

    Returns:
        Elbow (or knee) and wrist (or ankle); the end stops short of a target that is out of reach.
    """
    span = target - root
    distance = np.linalg.norm(span, axis=-1, keepdims=True)
    direction = span / np.maximum(distance, 1e-9)
    distance = np.clip(distance, abs(first - second) + 1e-3, (first + second) * 0.998)
    bend = pole - (pole * direction).sum(-1, keepdims=True) * direction
    bend /= np.maximum(np.linalg.norm(bend, axis=-1, keepdims=True), 1e-9)
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    middle = root + first * (cosine * direction + np.sqrt(np.maximum(1 - cosine**2, 0)) * bend)
    return middle, root + direction * distance


def _turn(axes: np.ndarray, vector: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """A vector (3,) of a rotated frame, as seen from outside, (n, 3)."""
    return np.einsum("nij,j->ni", axes, np.asarray(vector, float))


def pose(controls: Controls) -> Skeleton:
    """The body that the controls describe; legs always reach their feet (the hips come down where they must)."""
    n = len(controls.yaw)
    zero = np.zeros(n)
    body_axes = rotation(controls.yaw, zero, zero)
    pelvis_axes = rotation(controls.yaw, zero, controls.pelvis_roll)
    chest_axes = rotation(controls.yaw + controls.chest_twist, controls.lean, controls.chest_roll)
    head_axes = rotation(
        controls.yaw + 0.5 * controls.chest_twist + controls.head[:, 0],
        controls.head[:, 1],
        controls.head[:, 2] + 0.4 * controls.chest_roll,
    )

    ankles = np.einsum("nij,nsj->nsi", body_axes, controls.feet + np.array([0, ANKLE, 0]))
    hip_centre = np.stack([controls.hip[:, 0], HIP_HEIGHT - controls.drop, controls.hip[:, 1]], -1)
    sideways = np.einsum("nij,sj->nsi", pelvis_axes, np.stack([SIDE * HIP, 0 * SIDE, 0 * SIDE], -1))
    level = hip_centre[:, None] + sideways
    apart = ((level - ankles)[..., [0, 2]] ** 2).sum(-1)
    reach = ankles[..., 1] + np.sqrt(np.maximum(((THIGH + SHIN) * 0.995) ** 2 - apart, 0.05)) - sideways[..., 1]
    hip_centre[:, 1] = np.minimum(hip_centre[:, 1], reach.min(1))
    hips = hip_centre[:, None] + sideways

    forward, left = body_axes[:, :, 2], body_axes[:, :, 0]
    knee_pole = forward[:, None] + 0.28 * SIDE[None, :, None] * left[:, None]
    knees, ankles = two_bones(hips, ankles, THIGH, SHIN, knee_pole)

    neck = hip_centre + SPINE * chest_axes[:, :, 1]
    shoulders = neck[:, None] + SHOULDER * SIDE[None, :, None] * chest_axes[:, None, :, 0]
    outwards = np.stack([SIDE, np.ones(2), np.ones(2)], -1)
    wrists = shoulders + np.einsum("nij,nsj->nsi", chest_axes, controls.hands * outwards)
    elbow_pole = np.einsum("nij,sj->nsi", chest_axes, np.array([0.75, -0.42, -0.5]) * outwards)
    elbows, wrists = two_bones(shoulders, wrists, UPPER_ARM, FOREARM, elbow_pole)
    along = (wrists - elbows) / np.linalg.norm(wrists - elbows, axis=-1, keepdims=True)
    fingertips = wrists + (HAND + FINGERS) * along

    head = neck + HEAD_ABOVE * (0.5 * chest_axes[:, :, 1] + 0.5 * head_axes[:, :, 1])
    joints = np.empty((n, 25, 3))
    joints[:, 0] = head + _turn(head_axes, NOSE)
    joints[:, 1], joints[:, 8] = neck, hip_centre
    for side, (arm, leg) in enumerate(((2, 9), (5, 12))):
        joints[:, arm], joints[:, arm + 1], joints[:, arm + 2] = shoulders[:, side], elbows[:, side], wrists[:, side]
        joints[:, leg], joints[:, leg + 1], joints[:, leg + 2] = hips[:, side], knees[:, side], ankles[:, side]
        mirror = np.array([SIDE[side], 1.0, 1.0])
        joints[:, 15 + side] = head + _turn(head_axes, np.array(EYE) * mirror)
        joints[:, 17 + side] = head + _turn(head_axes, np.array(EAR) * mirror)
        foot_axes = rotation(controls.yaw + SIDE[side] * 0.30, controls.foot_pitch[:, side], zero)
        big_toe, small_toe, heel = (22, 23, 24) if side == 0 else (19, 20, 21)
        joints[:, big_toe] = ankles[:, side] + _turn(foot_axes, (-0.008 * SIDE[side], -0.030, 0.088))
        joints[:, small_toe] = ankles[:, side] + _turn(foot_axes, (0.024 * SIDE[side], -0.032, 0.072))
        joints[:, heel] = ankles[:, side] + _turn(foot_axes, (0.0, -0.030, -0.028))
    return Skeleton(joints, head, head_axes, chest_axes, pelvis_axes, fingertips)
