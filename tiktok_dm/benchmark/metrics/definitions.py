"""The metrics as one table: name, formula in words, unit, source, and what statistic over clips it is.

Not for computing them. A change of any definition, detector or convention raises `METRICS_VERSION`: numbers of two
versions are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.errors import UserError
from tiktok_dm.plugins import added, load

METRICS_VERSION = "2.0"


@dataclass(frozen=True)
class Metric:
    """One number of a system.

    Args:
        group: heading that it stands under.
        columns: of the per-clip table, from which it is computed; none for what is computed from whole sets.
        statistic: over clips.
        better: `higher`, `lower`, or `` where neither is.
        unit: `` for shares and ratios.
        meaning: formula and convention in words.
        source: where the definition comes from.
        bounds: least and most that it can be.
    """

    name: str
    group: str
    columns: tuple[str, ...]
    statistic: intervals.Statistic
    better: str
    unit: str
    meaning: str
    source: str
    bounds: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class ClipMetric:
    """Numbers of each clip that another package adds (entry point group `tiktok_dm.metrics`).

    Args:
        metrics: what they are called and mean; each has one column, of its own name.
        score: called with (reference, generated, sample rate, what is known of the clip: `reference.Item`), sounds
            float32 (samples,); gives a number for each of `metrics`, nan where it has none.
    """

    metrics: tuple[Metric, ...]
    score: Callable[[np.ndarray, np.ndarray, int, Any], Mapping[str, float]]


_D2M = "onsets in one-second bins, detector wait=1, delta=0.2, pre_avg=1, post_avg=1, post_max=1"
_LORIS = "onsets in one-second bins, detector wait=1, delta=0.2, pre_avg=post_avg=pre_max=post_max=3"
_LORIS_PAPER = "Yu et al., ICML 2023 (LORIS), arXiv 2305.01319"
_D2M_GAN = "D2M-GAN, CDCD, UniMuMo"
_PUBLISHED = "published beats (they saturate)"
_TRACKED = "tracked beats"
_DANCE = "dance and music"
_GENRE = "genre"
_MEMORY = "memorisation"
_MIR = "mir_eval.beat, nothing trimmed"
_UNBOUNDED = ("beat_coverage_d2m", "training_distance")


def _mean(name: str, group: str, better: str, unit: str, meaning: str, source: str) -> Metric:
    most = math.inf if unit or name in _UNBOUNDED else 1.0
    return Metric(name, group, (name,), intervals.mean, better, unit, meaning, source, (0.0, most))


def _tracked(suffix: str, where: str) -> tuple[Metric, ...]:
    return (
        _mean(f"beat_f_70ms{suffix}", _TRACKED, "higher", "", f"F-measure within 70 ms, {where}", _MIR),
        _mean(f"beat_cmlt{suffix}", _TRACKED, "higher", "", f"beats right in phase and period (CMLt), {where}", _MIR),
        _mean(f"beat_amlt{suffix}", _TRACKED, "higher", "", f"the same at any metrical level (AMLt), {where}", _MIR),
        _mean(f"tempo_error{suffix}", _TRACKED, "lower", "%", f"|tempo - reference| / reference, {where}", ""),
        _mean(
            f"tempo_error_octave{suffix}",
            _TRACKED,
            "lower",
            "%",
            f"the same, the best of 1/3, 1/2, 1, 2 and 3 times the tempo, {where}",
            "",
        ),
    )


def _alignment(suffix: str, whose: str) -> tuple[Metric, ...]:
    aistpp, bailando = "Li et al., ICCV 2021 (AIST++)", "Siyao et al., CVPR 2022 (Bailando)"
    formula = "mean over motion beats of exp(-d^2 / 2 sigma^2) to the nearest music beat, sigma 0.05 s"
    return (
        _mean(
            f"beat_align_motion_aistpp{suffix}",
            _DANCE,
            "higher",
            "",
            f"{formula}; AIST++'s own motion beats, least speeds within 1/6 s; {whose}",
            aistpp,
        ),
        _mean(
            f"beat_align_motion_smoothed{suffix}",
            _DANCE,
            "higher",
            "",
            f"{formula}; Bailando's motion beats, minima of the smoothed speed; {whose}",
            f"{aistpp}; motion beats of {bailando}",
        ),
        _mean(
            f"beat_align_music_bailando{suffix}",
            _DANCE,
            "higher",
            "",
            f"the same over music beats to the nearest motion beat, {whose}",
            bailando,
        ),
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _mean("beat_coverage_d2m", _PUBLISHED, "", "", f"sum(s) / sum(g), may pass 1; {_D2M}", _D2M_GAN),
        _mean("beat_hit_d2m", _PUBLISHED, "higher", "", f"sum(g and s) / sum(g); {_D2M}", _D2M_GAN),
        _mean(
            "beat_precision_loris",
            _PUBLISHED,
            "higher",
            "",
            f"sum(g and s) / sum(s) over the seconds that both have, 0 for 0 / 0; {_LORIS}",
            _LORIS_PAPER,
        ),
        _mean(
            "beat_recall_loris",
            _PUBLISHED,
            "higher",
            "",
            f"sum(g and s) / sum(g) over the seconds that both have, 0 for 0 / 0; {_LORIS}",
            _LORIS_PAPER,
        ),
        Metric(
            "csd",
            _PUBLISHED,
            ("beat_precision_loris",),
            intervals.deviation,
            "",
            "",
            "sample standard deviation over clips of beat_precision_loris",
            _LORIS_PAPER,
        ),
        Metric(
            "hsd",
            _PUBLISHED,
            ("beat_recall_loris",),
            intervals.deviation,
            "",
            "",
            "sample standard deviation over clips of beat_recall_loris",
            _LORIS_PAPER,
        ),
        Metric(
            "f1_loris",
            _PUBLISHED,
            ("beat_precision_loris", "beat_recall_loris"),
            intervals.harmonic,
            "higher",
            "",
            "2 P R / (P + R) of the means of precision and recall",
            _LORIS_PAPER,
            (0.0, 1.0),
        ),
        _mean(
            "onset_precision_1s",
            _PUBLISHED,
            "higher",
            "",
            f"sum(g and s) / sum(s) over the whole reference, undefined for 0 / 0; {_LORIS}",
            "",
        ),
        _mean(
            "onset_recall_1s",
            _PUBLISHED,
            "higher",
            "",
            f"sum(g and s) / sum(g) over the whole reference, seconds without music being missed; {_LORIS}",
            "",
        ),
        *_tracked("", "over the whole dance"),
        *_tracked("_2s", "over each two seconds alone, mean over a clip's"),
        *_alignment("", "lead dancer"),
        *_alignment("_all", "mean over all dancers"),
        _mean(
            "genre_agreement",
            _GENRE,
            "higher",
            "",
            "share of clips for which a classifier hears the same genre in generated and reference music",
            "",
        ),
        _mean(
            "training_copied",
            _MEMORY,
            "lower",
            "",
            "share of clips that hold a recording of the training set, by fingerprint",
            "",
        ),
        _mean("training_fingerprint", _MEMORY, "lower", "", "best fingerprint score with any training clip, 0..1", ""),
        _mean(
            "training_distance",
            _MEMORY,
            "",
            "",
            "cosine distance to the nearest training clip in the standardised embedding, 0..2",
            "",
        ),
        _mean(
            "training_closer",
            _MEMORY,
            "lower",
            "",
            "share of clips nearer to a training clip than the nearest twentieth of the reference music (chance: 0.05)",
            "",
        ),
    )
}

SHUFFLED = "_shuffled"
"""Suffix of the level that music of other songs' clips reaches."""
REFERENCE = "_reference"
"""Suffix of the reference music's own score."""
BESIDE = (
    "beat_hit_d2m_shuffled",
    "beat_f_70ms_shuffled",
    "genre_agreement_shuffled",
    "training_copied_reference",
    "training_fingerprint_reference",
    "training_distance_reference",
    *(name + suffix for name in METRICS if name.startswith("beat_align") for suffix in (SHUFFLED, REFERENCE)),
)
"""Per-clip columns that are printed beside a metric."""

SETS: dict[str, tuple[str, str, str]] = {
    "fad": (
        "lower",
        "squared distance of Gaussians fitted to both sets' embeddings; too large by about a constant over n",
        "Kilgour et al., Interspeech 2019",
    ),
    "kad": (
        "lower",
        "100 times the unbiased squared maximum mean discrepancy of both sets' embeddings; may fall below 0",
        "Chung et al., 2025",
    ),
    "density": ("higher", "how densely reference neighbourhoods are filled; may pass 1", "Naeem et al., ICML 2020"),
    "coverage": ("higher", "share of reference neighbourhoods with generated music", "Naeem et al., ICML 2020"),
}
"""Metrics of whole sets of embeddings, with intervals from leaving songs out: better, meaning, source."""


def clip_metrics() -> list[ClipMetric]:
    """What other packages add; their metrics stand in `METRICS` like any other.

    Raises:
        UserError: one that cannot be imported, is no `ClipMetric`, or takes a name that there is.
    """
    return [_checked(name, load("metrics", name)) for name in added("metrics")]


def _checked(name: str, found: Any) -> ClipMetric:
    if not isinstance(found, ClipMetric) or any(metric.columns != (metric.name,) for metric in found.metrics):
        raise UserError(
            f"what is added to metrics as {name} is no ClipMetric with one column a metric: mend its package"
        )
    for metric in found.metrics:
        if METRICS.setdefault(metric.name, metric) != metric:
            raise UserError(f"{name} adds a metric {metric.name}, which there is already: it needs another name")
    return found
