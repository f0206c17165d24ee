"""Every metric against a plain file of inputs and results: a number that changes needs a new metrics version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiktok_dm.benchmark.metrics import alignment, distribution, published_beats, tracked_beats
from tiktok_dm.benchmark.metrics.definitions import METRICS_VERSION

FIXTURE = Path(__file__).resolve().parents[1] / "data" / "metrics.json"


def results(case: dict[str, Any]) -> dict[str, float]:
    """All metrics of a case's two rows of times and two sets of points."""
    reference, generated = (np.array(case[name]) for name in ("reference_s", "generated_s"))
    bins = [published_beats.onset_bins(times, case["samples"]) for times in (reference, generated)]
    continuity = tracked_beats.beat_continuity(reference, generated)
    sets = (np.array(case["reference_points"]), np.array(case["generated_points"]))
    precision, recall = case["precisions"], case["recalls"]
    return {
        "beat_coverage_d2m": published_beats.beat_coverage_d2m(*bins),
        "beat_hit_d2m": published_beats.beat_hit_d2m(*bins),
        "beat_precision_loris": published_beats.beat_precision_loris(*bins),
        "beat_recall_loris": published_beats.beat_recall_loris(*bins),
        "onset_precision_1s": published_beats.onset_precision_1s(*bins),
        "onset_recall_1s": published_beats.onset_recall_1s(*bins),
        "csd": published_beats.csd(precision),
        "hsd": published_beats.hsd(recall),
        "f1_loris": published_beats.f1_loris(precision, recall),
        "beat_f_70ms": tracked_beats.beat_f_measure(reference, generated),
        "beat_cmlt": continuity.cmlt,
        "beat_amlt": continuity.amlt,
        "tempo_error": tracked_beats.tempo_error(120.0, 126.0),
        "beat_align_motion_aistpp": alignment.beat_align_motion_aistpp(reference, generated),
        "beat_align_music_bailando": alignment.beat_align_music_bailando(reference, generated),
        **distribution.distribution_metrics(*sets),
    }


CASES = json.loads(FIXTURE.read_text(encoding="utf-8"))


def test_the_fixture_is_of_this_version_of_the_metrics():
    assert CASES["metrics_version"] == METRICS_VERSION


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_metrics_stay_what_they_were(case: dict[str, Any]):
    assert results(case["input"]) == pytest.approx(case["expected"], rel=1e-6, abs=1e-9, nan_ok=True)
