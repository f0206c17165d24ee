"""Clips in groups that a system may treat differently: dancers, how sure the poses are, seen compilations, length.

Not for scores: `evaluate` gives each group the same statistics as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LENGTHS_S = (10.0, 15.0)
"""Bounds of the length groups, s."""
_TERCILES = ("lowest third", "middle third", "highest third")


def groups(clips: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Which clips are in which group: by kind and label, bool (clips,). A kind with fewer than two groups is left out.

    Args:
        clips: one row a clip with `n_dancers`, `pose_confidence` (0..1), `seen_compilation` and `clip_seconds`; None or
            nan where unknown, and such a clip is in no group of that kind.
    """
    kinds: Mapping[str, Callable[[pd.DataFrame], dict[str, np.ndarray]]] = {
        "dancers": _dancers,
        "pose confidence": _confidence,
        "compilation": _compilation,
        "clip length": _length,
    }
    found = {}
    for kind, split in kinds.items():
        parts = {label: rows for label, rows in split(clips).items() if rows.any()}
        if len(parts) > 1:
            found[kind] = parts
    return found


def _column(clips: pd.DataFrame, name: str) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in clips[name]], dtype=np.float64)


def _dancers(clips: pd.DataFrame) -> dict[str, np.ndarray]:
    number = _column(clips, "n_dancers")
    return {"1 dancer": number == 1, "2 dancers": number == 2, "3 or more dancers": number >= 3}


def _confidence(clips: pd.DataFrame) -> dict[str, np.ndarray]:
    """Thirds of the clips that are scored."""
    confidence = _column(clips, "pose_confidence")
    known = confidence[~np.isnan(confidence)]
    if len(known) < 3:
        return {}
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    rows = (confidence <= low, (confidence > low) & (confidence <= high), confidence > high)
    bounds = (f"to {low:.3f}", f"to {high:.3f}", f"over {high:.3f}")
    return {f"{label} ({bound})": row for label, bound, row in zip(_TERCILES, bounds, rows, strict=True)}


def _compilation(clips: pd.DataFrame) -> dict[str, np.ndarray]:
    seen = _column(clips, "seen_compilation")
    return {"also gives train clips": seen == 1, "gives no train clip": seen == 0}


def _length(clips: pd.DataFrame) -> dict[str, np.ndarray]:
    seconds = _column(clips, "clip_seconds")
    low, high = LENGTHS_S
    return {
        f"under {low:g} s": seconds < low,
        f"{low:g} to {high:g} s": (seconds >= low) & (seconds < high),
        f"{high:g} s and longer": seconds >= high,
    }
