"""Poses as the model takes them: units, checks, other frame rates. Not for finding poses in pictures.

A pose row is BODY_25 as the dataset stores it: 25 x (x px, y px, confidence), a missing joint all zeros. Units:

- `as_given`: all as it is;
- `torso`: x and y are distances from the mean mid-hip of the window in torso lengths (median distance of neck and
  mid-hip over the window), so that neither the frame's size nor where the dancer stands matters;
- `movement`: x and y are distances of each joint from its own mean over the window, in torso lengths, and confidences
  are left out, so that only what moves is left. A model in these units also divides each number by its spread in the
  training data (`d2m_gan.D2MGAN.fit_motion`). On the demo's dances a small network found
  the beats of unseen songs after 180 steps on these, and had not begun to with `torso`.
"""

from __future__ import annotations

import numpy as np

from d2m_model.config import UNITS, one_of
from tiktok_dm.errors import UserError

NECK, MID_HIP = 1, 8
N_JOINTS = 25


def check_motion(motion: np.ndarray, frames: int, features: int, where: str) -> np.ndarray:
    """Motion as float32 (windows, frames, features).

    Args:
        motion: (frames, features) of one window or (windows, frames, features).
        where: what it belongs to, for messages.

    Raises:
        UserError: another shape, or values that are not finite.
    """
    motion = np.asarray(motion, dtype=np.float32)
    if motion.ndim == 2:
        motion = motion[None]
    if motion.ndim != 3 or motion.shape[1:] != (frames, features):
        shape = "x".join(map(str, motion.shape[1:] if motion.ndim == 3 else motion.shape))
        raise UserError(f"The motion of {where} is {shape}; this model takes windows of {frames}x{features}.")
    if not np.isfinite(motion).all():
        raise UserError(f"The motion of {where} holds NaN or infinite values; leave it out or estimate it again.")
    return motion


def to_units(motion: np.ndarray, units: str) -> np.ndarray:
    """Windows of pixel poses, float32 (windows, frames, 75), in a model's units; see the module's docstring.

    A window in which nobody is seen stays all zeros.
    """
    one_of("motion_units", units, UNITS)
    if units == "as_given":
        return motion
    joints = motion.reshape(*motion.shape[:2], N_JOINTS, 3).astype(np.float32)
    out = np.zeros_like(joints)
    for window, result in zip(joints, out, strict=True):
        seen = window[..., 2] > 0
        hips, torsos = seen[:, MID_HIP], seen[:, MID_HIP] & seen[:, NECK]
        if not torsos.any():
            continue
        centre = window[hips, MID_HIP, :2].mean(axis=0)
        span = np.linalg.norm(window[torsos, NECK, :2] - window[torsos, MID_HIP, :2], axis=-1)
        torso = max(float(np.median(span)), 1.0)  # px; a shorter one is no body
        place = (window[..., :2] - centre) / torso
        if units == "movement":
            times_seen = np.maximum(seen.sum(axis=0), 1)[:, None]
            place = place - np.where(seen[..., None], place, 0).sum(axis=0) / times_seen
        else:
            result[..., 2] = window[..., 2]
        result[..., :2] = np.where(seen[..., None], place, 0)
    return out.reshape(motion.shape)


def at_times(poses: np.ndarray, fps: float, times_s: np.ndarray) -> np.ndarray:
    """Poses (frames, 25, 3) at other instants, (len(times_s), 25, 3), linear between two frames that both show a joint.

    Where only one of the two shows it, that one is taken; beyond the ends the first or last frame stands.
    """
    position = np.clip(np.asarray(times_s, dtype=np.float64) * fps, 0, len(poses) - 1)
    before = np.floor(position).astype(int)
    after = np.minimum(before + 1, len(poses) - 1)
    share = (position - before).astype(np.float32)[:, None, None]
    early, late = poses[before], poses[after]
    mixed = (1 - share) * early + share * late
    has_early, has_late = early[..., 2:] > 0, late[..., 2:] > 0
    nearest = np.where(has_early | (share == 0), early, late)
    return np.where(has_early & has_late, mixed, nearest).astype(np.float32)
