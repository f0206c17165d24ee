"""How well estimated poses agree with true ones, and true ones with an estimator's errors.

Known joints with the errors of an estimator, so that a model trained on them knows estimated ones when it sees them.

The numbers are BlazePose's on 16 rendered clips of the demo (seed 0, 3,700 poses of lead dancers) against the truth: a
mean joint error of 0.044 torso lengths, of which most is an offset that stays (what the two skeletons mean by a joint,
and how a dancer is built) and the rest drifts slowly; no joint was lost, the two small toes apart, which BlazePose has
not.
"""

from __future__ import annotations

import numpy as np

NECK, MID_HIP = 1, 8
SMALL_TOES = (20, 23)  # BlazePose has no small toes
JOINTS = tuple(k for k in range(25) if k not in SMALL_TOES)


def pose_accuracy(estimated: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Compare estimated with true BODY_25 poses, in torso lengths (true neck to true mid-hip).

    In every frame the estimated dancers are matched with the true ones so that the sum of mean joint errors is least.
    A true person is found when the matched estimate's mean joint error is below half a torso length.

    Args:
        estimated: (n, d, 25, 3), px and confidence; a missing dancer or joint is all zeros.
        truth: (n, e, 25, 2), px; a dancer who is absent from a frame is NaN or all zeros.

    Returns:
        recall: found persons over true persons.
        mean_error_torso: mean joint error of the persons found, missing joints left out; NaN when nobody is found.
        pck02: joints of true persons that are estimated within 0.2 torso lengths; missing joints count as wrong.

    Raises:
        ValueError: shapes that do not fit, or no true person at all.
    """
    from scipy.optimize import linear_sum_assignment

    if estimated.ndim != 4 or estimated.shape[2:] != (25, 3):
        raise ValueError(f"estimated poses must be (frames, dancers, 25, 3), not {estimated.shape}")
    if truth.ndim != 4 or truth.shape[2:] != (25, 2) or len(truth) != len(estimated):
        raise ValueError(f"true poses must be ({len(estimated)}, dancers, 25, 2), not {truth.shape}")
    joints = list(JOINTS)
    present = np.isfinite(truth).all((2, 3)) & (truth != 0).any((2, 3))
    if not present.any():
        raise ValueError("there is no true person to compare with")
    true = np.where(present[:, :, None, None], truth, 0.0).astype(float)
    torso = np.maximum(np.linalg.norm(true[:, :, NECK] - true[:, :, MID_HIP], axis=-1), 1e-6)
    seen = (estimated[:, :, joints, 2] > 0)[:, None]  # (n, 1, d, joints)
    error = (
        np.linalg.norm(true[:, :, None, joints] - estimated[:, None, :, joints, :2], axis=-1) / torso[:, :, None, None]
    )
    seen = np.broadcast_to(seen, error.shape)
    count = seen.sum(-1)
    mean = np.where(count > 0, np.where(seen, error, 0).sum(-1) / np.maximum(count, 1), np.inf)  # (n, e, d)

    found, errors, right = 0, [], 0
    for k in range(len(true)):
        people = np.flatnonzero(present[k])
        if not len(people) or not mean.shape[2]:
            continue
        rows, columns = linear_sum_assignment(np.minimum(mean[k, people], 1e6))
        for person, other in zip(people[rows], columns, strict=True):
            good = seen[k, person, other]
            right += int((error[k, person, other][good] < 0.2).sum())
            if mean[k, person, other] < 0.5:
                found += 1
                errors.append(error[k, person, other][good])
    persons = int(present.sum())
    return {
        "recall": found / persons,
        "mean_error_torso": float(np.concatenate(errors).mean()) if errors else float("nan"),
        "pck02": right / (persons * len(joints)),
    }


# By BODY_25 joint, in torso lengths: the offset's mean over clips (x, y), for a dancer who faces the camera; the spread
# of the error within a clip; mean and spread of the confidence.
_OFFSET_X = (6, 7, 33, 19, 4, -18, -8, 5, 11, 2, 12, 20, 21, 2, -5, 16, -3, 45, -36, 0, 0, -28, 17, 0, 37)
_OFFSET_Y = (
    -44, -24, -25, -5, -6, -24, -5, -6, -42, -41, -43, -48, -43, -41, -41, -40, -36, -19, -18, 15, 0, -25, 18, 0, -34,
)  # fmt: skip
_SPREAD = (17, 10, 13, 30, 23, 13, 30, 23, 13, 16, 14, 15, 15, 13, 15, 13, 13, 10, 10, 16, 0, 23, 15, 0, 22)
_CONFIDENCE = (
    1000, 999, 999, 993, 976, 999, 994, 986, 999, 999, 991, 989, 999, 988, 987, 1000, 1000, 1000, 1000, 979, 0, 891,
    979, 0, 874,
)  # fmt: skip
_CONFIDENCE_SPREAD = (1, 2, 1, 8, 37, 1, 8, 24, 1, 1, 12, 10, 1, 8, 9, 1, 1, 1, 1, 12, 0, 55, 14, 0, 66)
_OFFSET_SPREAD = 0.012  # of a joint's offset over clips, torso lengths
_MEMORY = 0.9  # correlation of an error with the one a frame before, at 30 frames a second


def as_estimated(poses: np.ndarray, rng: np.random.Generator, size: float = 1.0) -> np.ndarray:
    """Known poses of one clip as BlazePose would give them.

    Args:
        poses: (n, dancers, 25, 3) at 30 frames a second: x px, y px, confidence.
        rng: of the errors.
        size: factor of all errors of place; the small toes are absent and confidences drawn in any case.

    Returns:
        float32, shaped as `poses`.
    """
    true = np.asarray(poses, dtype=np.float64)
    frames, dancers = true.shape[:2]
    torso = np.median(np.linalg.norm(true[:, :, NECK, :2] - true[:, :, MID_HIP, :2], axis=-1), axis=0)
    torso = torso.reshape(1, dancers, 1, 1)
    mean = np.stack([_OFFSET_X, _OFFSET_Y], -1) / 1000
    offset = mean + _OFFSET_SPREAD * rng.standard_normal((1, dancers, 25, 2))
    drift = _drift(rng, (frames, dancers, 25, 2)) * np.reshape(_SPREAD, (25, 1)) / 1000
    place = true[..., :2] + size * torso * (offset + drift)
    sure = (np.array(_CONFIDENCE) + np.array(_CONFIDENCE_SPREAD) * _drift(rng, (frames, dancers, 25))) / 1000
    out = np.concatenate([place, np.clip(sure, 0.05, 1.0)[..., None]], -1).astype(np.float32)
    out[:, :, SMALL_TOES] = 0
    out[true[..., 2] <= 0] = 0
    return out


def _drift(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A first-order autoregressive process along the first axis, of mean 0 and variance 1 at every step."""
    from scipy.signal import lfilter

    white = rng.standard_normal(shape)
    white[1:] *= np.sqrt(1 - _MEMORY**2)
    return lfilter([1.0], [1.0, -_MEMORY], white, axis=0)
