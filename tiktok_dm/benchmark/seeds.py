"""The scores of a system that was run with several seeds: their mean, its interval over songs, their spread.

Not for scoring a run (`evaluate`), nor for tables of systems (`leaderboard`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiktok_dm.benchmark.evaluation import Evaluation, rounded, score_as_dict
from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.benchmark.metrics.definitions import METRICS
from tiktok_dm.benchmark.metrics.intervals import Score

PER_CLIP = ("beat_f_70ms", "beat_align_motion_aistpp")
"""Scores that are shown for single clips."""
_PLACES = 6


def over_seeds(
    found: Mapping[int, Evaluation], *, resamples: int = intervals.RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """The scores of a system that was run with several seeds, as plain JSON types.

    A metric is its mean over seeds. Its interval resamples songs, the same for every seed, and takes the mean of the
    seeds' statistics in each draw: the seeds are given, not resampled. The interval of a distribution metric is the
    mean of the seeds' limits, which is never too narrow. `seed_sd` is the sample standard deviation over seeds.

    Args:
        found: by seed, all on one reference.
        resamples, seed: of songs.
    """
    runs = [found[key] for key in sorted(found)]
    metrics = {}
    for name in runs[0].metrics:
        scores = [run.metrics[name] for run in runs]
        if name in METRICS:
            score = _over_songs(runs, METRICS[name].columns, METRICS[name].statistic, resamples, seed)
        else:
            score = _mean_score(scores)
        values = [one.value for one in scores if one.value is not None]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 and len(values) == len(runs) else None
        undefined = sum(run.undefined.get(name, 0) for run in runs)
        metrics[name] = {**score_as_dict(score, _PLACES), "seed_sd": rounded(spread, _PLACES), "undefined": undefined}
    beside = {
        name: score_as_dict(_over_songs(runs, (name,), intervals.mean, resamples, seed), _PLACES)
        for name in runs[0].beside
    }
    clips: dict[str, dict[str, float | None]] = {}
    for place, key in enumerate(runs[0].per_clip["id"]):
        columns = [name for name in PER_CLIP if name in runs[0].per_clip]
        clips[key] = {
            name: rounded(float(np.mean([run.per_clip[name].iloc[place] for run in runs])), _PLACES) for name in columns
        }
    return {
        "seeds": sorted(found),
        "metrics": metrics,
        "beside": beside,
        "p_values": {name: rounded(max(run.p_values[name] for run in runs), _PLACES) for name in runs[0].p_values},
        "clips": clips,
        "notes": list(dict.fromkeys(note for run in runs for note in run.notes)),
        # Without the name of the reference's folder: it is no part of what was scored.
        "embedding": {
            name: value for name, value in runs[0].parameters.get("embedding", {}).items() if name != "reference_set"
        },
    }


def _over_songs(
    runs: Sequence[Evaluation], columns: Sequence[str], statistic: intervals.Statistic, resamples: int, seed: int
) -> Score:
    width = len(columns)

    def mean_over_seeds(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        parts = [statistic(values[:, k * width : (k + 1) * width], weights) for k in range(len(runs))]
        return np.mean(parts, axis=0)

    values = np.hstack([run.per_clip[list(columns)].to_numpy(np.float64) for run in runs])
    return intervals.interval(values, runs[0].clusters, mean_over_seeds, resamples=resamples, seed=seed)


def _mean_score(scores: Sequence[Score]) -> Score:
    """Means of values and limits, where every seed has one."""

    def mean(numbers: list[float | None]) -> float | None:
        known = [number for number in numbers if number is not None]
        return float(np.mean(known)) if len(known) == len(numbers) else None

    value, low, high = (mean([getattr(score, part) for score in scores]) for part in ("value", "low", "high"))
    return Score(value, low, high, scores[0].n, scores[0].songs)
