"""How well estimated poses agree with true ones. Not for estimating (`tiktok_dm.pose`)."""

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
