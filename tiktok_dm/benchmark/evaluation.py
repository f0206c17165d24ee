"""What a system scored: as an object and as plain JSON types, in groups of clips, and over several seeds.

`evaluate` gives each group the same statistics as the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.benchmark.metrics.definitions import METRICS, METRICS_VERSION, SETS
from tiktok_dm.benchmark.metrics.intervals import Difference, Score
from tiktok_dm.benchmark.pairs import Finding
from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_PLACES = 9


@dataclass(frozen=True)
class Evaluation:
    """What a system scored.

    Args:
        reference: the reference set, in words.
        metrics: by name, see `definitions.METRICS`; distribution metrics carry their embedding in `parameters`.
        beside: levels to read a metric by: `*_shuffled`, `*_reference`.
        p_values: of beat alignment, by metric: how probably chance pairs dance and music as well.
        per_clip: one row a scored clip, in the reference's order: what is known of it, and its scores.
        undefined: by metric, clips that its formula leaves undefined, which its mean leaves out.
        breakdowns: kind of group, group, metric.
        problems: everything wrong with single ids.
        notes: what could not be computed, and what to bear in mind.
        counts: references, scored clips, songs.
        parameters: everything the numbers depend on.
    """

    reference: str
    metrics: dict[str, Score]
    beside: dict[str, Score]
    p_values: dict[str, float]
    per_clip: pd.DataFrame
    undefined: dict[str, int]
    breakdowns: dict[str, dict[str, dict[str, Score]]]
    problems: list[Finding]
    notes: list[str]
    counts: dict[str, int]
    parameters: dict[str, Any]
    clusters: list[Any] = field(repr=False, default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; equal inputs and options give an equal dictionary. Numbers are rounded to nine places."""
        return {
            "metrics_version": METRICS_VERSION,
            "reference": self.reference,
            "counts": self.counts,
            "parameters": self.parameters,
            "metrics": {
                name: {**score_as_dict(score), "undefined": self.undefined.get(name, 0), **described(name)}
                for name, score in self.metrics.items()
            },
            "beside": {name: score_as_dict(score) for name, score in self.beside.items()},
            "p_values": {name: rounded(value) for name, value in self.p_values.items()},
            "breakdowns": {
                kind: {
                    label: {name: score_as_dict(score) for name, score in scores.items()}
                    for label, scores in parts.items()
                }
                for kind, parts in self.breakdowns.items()
            },
            "problems": [{**asdict(problem), "fatal": problem.fatal} for problem in self.problems],
            "notes": self.notes,
        }


def compare(
    a: Evaluation, b: Evaluation, *, seed: int = 0, resamples: int = intervals.RESAMPLES
) -> dict[str, Difference]:
    """System a less system b by metric, on the clips that both have; see `intervals.difference`.

    Raises:
        UserError: they were scored on different references, or share no clip.
    """
    shared = [name for name in a.per_clip["id"] if name in set(b.per_clip["id"])]
    if a.reference != b.reference or not shared:
        raise UserError("two systems can be compared on one reference only: score both against the same one")
    songs = dict(zip(a.per_clip["id"], a.clusters, strict=True))
    first, second = a.per_clip.set_index("id").loc[shared], b.per_clip.set_index("id").loc[shared]
    found = {}
    for name, metric in METRICS.items():
        columns = list(metric.columns)
        if name in a.metrics and name in b.metrics:
            found[name] = intervals.difference(
                first[columns].to_numpy(np.float64),
                second[columns].to_numpy(np.float64),
                [songs[key] for key in shared],
                metric.statistic,
                resamples=resamples,
                seed=seed,
            )
    return found


def rounded(value: float | None, places: int = _PLACES) -> float | None:
    """A number for JSON: None where it is not finite."""
    # What comes after depends on the processor; nothing reads it.
    return None if value is None or not math.isfinite(value) else round(value, places)


def score_as_dict(score: Score, places: int = _PLACES) -> dict[str, Any]:
    """A score as plain JSON types."""
    return {
        "value": rounded(score.value, places),
        "low": rounded(score.low, places),
        "high": rounded(score.high, places),
        "n": score.n,
        "songs": score.songs,
    }


def described(name: str) -> dict[str, str]:
    """What a metric is: its group, which way is better, unit, meaning, source."""
    metric = METRICS.get(name)
    if metric is None:
        better, meaning, source = SETS[name]
        return {"group": "distributions", "better": better, "unit": "", "meaning": meaning, "source": source}
    return {
        "group": metric.group,
        "better": metric.better,
        "unit": metric.unit,
        "meaning": metric.meaning,
        "source": metric.source,
    }


LENGTHS_S = (10.0, 15.0)
"""Bounds of the length groups, s."""
_TERCILES = ("lowest third", "middle third", "highest third")


def breakdown_groups(clips: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
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


PER_CLIP = ("beat_f_70ms", "beat_align_motion_aistpp")
"""Scores that are shown for single clips."""
_SEED_PLACES = 6


def over_seeds(found: Mapping[int, Evaluation]) -> dict[str, Any]:
    """The scores of a system that was run with several seeds, as plain JSON types.

    A metric is its mean over seeds. Its interval is over songs: the seeds are given, not drawn. The interval of a
    distribution metric is the mean of the seeds' limits, which is never too narrow. `seed_sd` is the sample standard
    deviation over seeds.

    Args:
        found: by seed, all on one reference.
    """
    runs = [found[key] for key in sorted(found)]
    metrics = {}
    for name in runs[0].metrics:
        scores = [run.metrics[name] for run in runs]
        if name in METRICS:
            score = _over_songs(runs, METRICS[name].columns, METRICS[name].statistic, METRICS[name].bounds)
        else:
            score = _mean_score(scores)
        values = [one.value for one in scores if one.value is not None]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 and len(values) == len(runs) else None
        undefined = sum(run.undefined.get(name, 0) for run in runs)
        metrics[name] = {
            **score_as_dict(score, _SEED_PLACES),
            "seed_sd": rounded(spread, _SEED_PLACES),
            "undefined": undefined,
        }
    beside = {name: score_as_dict(_over_songs(runs, (name,)), _SEED_PLACES) for name in runs[0].beside}
    clips: dict[str, dict[str, float | None]] = {}
    for place, key in enumerate(runs[0].per_clip["id"]):
        columns = [name for name in PER_CLIP if name in runs[0].per_clip]
        clips[key] = {
            name: rounded(float(np.mean([run.per_clip[name].iloc[place] for run in runs])), _SEED_PLACES)
            for name in columns
        }
    return {
        "seeds": sorted(found),
        "metrics": metrics,
        "beside": beside,
        "p_values": {name: rounded(max(run.p_values[name] for run in runs), _SEED_PLACES) for name in runs[0].p_values},
        "clips": clips,
        "notes": list(dict.fromkeys(note for run in runs for note in run.notes)),
        # Without the name of the reference's folder: it is no part of what was scored.
        "embedding": {
            name: value for name, value in runs[0].parameters.get("embedding", {}).items() if name != "reference_set"
        },
    }


def _over_songs(
    runs: Sequence[Evaluation],
    columns: Sequence[str],
    statistic: intervals.Statistic = intervals.mean,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Score:
    width = len(columns)

    def mean_over_seeds(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        parts = [statistic(values[:, k * width : (k + 1) * width], weights) for k in range(len(runs))]
        return np.mean(parts, axis=0)

    values = np.hstack([run.per_clip[list(columns)].to_numpy(np.float64) for run in runs])
    return intervals.interval(values, runs[0].clusters, mean_over_seeds, bounds=bounds)


def _mean_score(scores: Sequence[Score]) -> Score:
    """Means of values and limits, where every seed has one."""

    def mean(numbers: list[float | None]) -> float | None:
        known = [number for number in numbers if number is not None]
        return float(np.mean(known)) if len(known) == len(numbers) else None

    value, low, high = (mean([getattr(score, part) for score in scores]) for part in ("value", "low", "high"))
    return Score(value, low, high, scores[0].n, scores[0].songs)
