"""What a system scored: its scores as an object and as plain JSON types, and one system's less another's.

Not for how they come about (`evaluate`), nor for showing them (`evaluate_cli`).
"""

from __future__ import annotations

import math
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
