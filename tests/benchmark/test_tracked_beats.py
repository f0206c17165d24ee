"""Tracked-beat scores, worked by hand and against mir_eval."""

from __future__ import annotations

import math

import mir_eval
import numpy as np
import pytest
from benchmark_sets import beat_times, pulse_train
from hypothesis import given
from hypothesis import strategies as st

from tiktok_dm.benchmark import clip_features
from tiktok_dm.benchmark.metrics import tracked_beats as tracked

EVERY = np.arange(0.2, 8, 0.5)


def test_f_measure_by_hand() -> None:
    reference = np.array([0.5, 1.0, 1.5, 2.0])
    generated = np.array([0.56, 1.08, 1.5])  # 60 ms: in; 80 ms: out; 0: in
    assert tracked.beat_f_measure(reference, generated) == pytest.approx(2 * 2 / (4 + 3))
    assert tracked.beat_f_measure(reference, reference) == 1.0


def test_a_reference_beat_is_matched_once() -> None:
    assert tracked.beat_f_measure(np.array([1.0]), np.array([0.97, 1.0, 1.03])) == pytest.approx(2 / 4)


def test_beats_of_the_first_five_seconds_count() -> None:
    early = np.array([0.5, 1.0, 1.5])
    assert tracked.beat_f_measure(early, early) == 1.0
    # What mir_eval's own evaluate makes of them:
    with pytest.warns(UserWarning, match="empty"):
        assert mir_eval.beat.evaluate(early, early)["F-measure"] == 0.0


def test_continuity_by_hand() -> None:
    assert tracked.beat_continuity(EVERY, EVERY) == (1.0, 1.0)
    double = np.arange(0.2, 7.71, 0.25)
    cmlt, amlt = tracked.beat_continuity(EVERY, double)
    assert cmlt < 0.2
    assert amlt == 1.0
    # Off the beat by 0.1 s of 0.5 s is 20 % and wrong everywhere; by 0.05 s it is 10 % and right everywhere.
    assert tracked.beat_continuity(EVERY, EVERY + 0.1).cmlt == 0.0
    assert tracked.beat_continuity(EVERY, EVERY + 0.05).cmlt == 1.0
    off = tracked.beat_continuity(EVERY, EVERY[:-1] + 0.25)
    assert off.cmlt == 0.0
    assert off.amlt > 0.9


def test_undefined_and_empty() -> None:
    none = np.zeros(0)
    assert math.isnan(tracked.beat_f_measure(none, EVERY))
    assert tracked.beat_f_measure(EVERY, none) == 0.0
    assert all(math.isnan(value) for value in tracked.beat_continuity(EVERY[:1], EVERY))
    assert tracked.beat_continuity(EVERY, EVERY[:1]) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [np.array([1.0, 0.5]), np.array([-0.1]), np.array([np.nan]), np.array([[1.0]])])
def test_what_is_no_row_of_beats_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="beats"):
        tracked.beat_f_measure(bad, EVERY)
    with pytest.raises(ValueError, match="beats"):
        tracked.beat_continuity(EVERY, bad)


@pytest.mark.parametrize(
    ("reference", "generated", "plain", "tolerant"),
    [
        (120, 120, 0, 0),
        (120, 126, 5, 5),
        (120, 60, 50, 0),
        (100, 202, 102, 1),
        (90, 30, 200 / 3, 0),
        (90, 270, 200, 0),
        (90, None, 100, 100),
        (None, 120, math.nan, math.nan),
    ],
)
def test_tempo_error(reference: float | None, generated: float | None, plain: float, tolerant: float) -> None:
    assert tracked.tempo_error(reference, generated) == pytest.approx(plain, nan_ok=True)
    assert tracked.tempo_error(reference, generated, octaves=True) == pytest.approx(tolerant, nan_ok=True)


@given(
    st.lists(st.floats(0, 20), max_size=25).map(lambda x: np.array(sorted(x))),
    st.lists(st.floats(0, 20), max_size=25).map(lambda x: np.array(sorted(x))),
)
def test_f_measure_agrees_with_mir_eval_and_is_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) and len(b):
        value = tracked.beat_f_measure(a, b)
        assert value == mir_eval.beat.f_measure(a, b)
        assert value == pytest.approx(tracked.beat_f_measure(b, a))
        assert 0 <= value <= 1


@pytest.mark.parametrize("bpm", [84.0, 103.0, 128.0, 150.0])
def test_the_tracker_finds_what_was_played(bpm: float) -> None:
    features = clip_features.measure(pulse_train(bpm, 0.31, 8))
    truth = beat_times(bpm, 0.31, 8)
    assert tracked.beat_f_measure(truth, features.whole.beats_s) > 0.95
    assert tracked.tempo_error(bpm, features.whole.tempo_bpm) < 1
    assert len(features.windows) == 4
    scores = []
    for k, window in enumerate(features.windows):
        inside = truth[(truth >= 2 * k) & (truth < 2 * k + 2)] - 2 * k
        scores.append(tracked.beat_f_measure(inside, window.beats_s))
        assert ((window.beats_s >= 0) & (window.beats_s < 2)).all()
    assert np.mean(scores) > 0.85
