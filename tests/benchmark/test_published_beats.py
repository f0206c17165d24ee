"""The published beat scores, against bins worked by hand and against librosa itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_sets import injected, pulse_train, write_wav
from hypothesis import given
from hypothesis import strategies as st

from tiktok_dm.benchmark import clip_features
from tiktok_dm.benchmark.clip_features import FeatureCache
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.metrics import published_beats as beats
from tiktok_dm.benchmark.reference import Item, Reference

RATE = 22_050


def bins(text: str) -> np.ndarray:
    return np.array([c == "1" for c in text])


# ------------------------------------------------------------------------------------------- bins


@pytest.mark.parametrize(
    ("onsets", "samples", "expected"),
    [
        ([], 2 * RATE, "00"),
        ([0.0], 2 * RATE, "10"),
        ([0.999, 1.0], 2 * RATE, "11"),
        ([0.2, 0.4, 0.9], 2 * RATE, "10"),
        ([1.5], 2 * RATE + 1, "010"),  # one sample more is one bin more
        ([2.00001], 2 * RATE + 1, "001"),
        ([2.0], 2 * RATE, "00"),  # at the very end: no bin
        ([0.5, 3.7], 4 * RATE - 1, "1001"),
        ([0.0], 1, "1"),
    ],
)
def test_bins_are_whole_seconds(onsets: list[float], samples: int, expected: str) -> None:
    assert beats.onset_bins(np.array(onsets), samples).tolist() == bins(expected).tolist()


def test_the_detectors_are_asked_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    import librosa.onset

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(librosa.onset, "onset_detect", lambda **given: asked.append(given) or np.zeros(0))
    envelope = np.zeros(4)
    beats.D2M.onsets(envelope)
    beats.LORIS.onsets(envelope)
    shared = {"sr": 22050, "hop_length": 512, "wait": 1, "delta": 0.2, "units": "time"}
    for given_, expected in zip(
        asked,
        (
            {**shared, "pre_avg": 1, "post_avg": 1, "post_max": 1},
            {**shared, "pre_avg": 3, "post_avg": 3, "post_max": 3, "pre_max": 3},
        ),
        strict=True,
    ):
        assert given_.pop("onset_envelope") is envelope
        assert given_ == expected


@pytest.mark.parametrize("samples", [2 * RATE, 44_032, 5 * RATE + 17, 600])
def test_one_envelope_serves_as_the_original_calls_do(samples: int) -> None:
    import librosa

    sound = pulse_train(127, 0.13, 6)[:samples]
    features = clip_features.measure(sound)
    envelope, _ = clip_features.onset_envelopes(sound)
    np.testing.assert_array_equal(envelope, librosa.onset.onset_strength(y=sound, sr=RATE))
    d2m = librosa.onset.onset_detect(
        y=sound, sr=RATE, wait=1, delta=0.2, pre_avg=1, post_avg=1, post_max=1, units="time"
    )
    loris = librosa.onset.onset_detect(
        y=sound, sr=RATE, wait=1, delta=0.2, pre_avg=3, post_avg=3, post_max=3, pre_max=3, units="time"
    )
    np.testing.assert_array_equal(features.onsets_s["d2m"], d2m)
    np.testing.assert_array_equal(features.onsets_s["loris"], loris)


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16", "PCM_24"])
def test_mono_sound_at_the_rate_comes_through_untouched(tmp_path: Path, subtype: str) -> None:
    import librosa

    path = write_wav(tmp_path / "a.wav", pulse_train(100, 0.1, 2.3), subtype=subtype)
    read = clip_features.read_sound(path)
    expected, _ = librosa.load(path, sr=RATE)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_other_sound_is_read_as_librosa_reads_it(tmp_path: Path, rate: int) -> None:
    import librosa

    rng = np.random.default_rng(rate)
    path = write_wav(tmp_path / "a.wav", 0.1 * rng.standard_normal((rate * 2 + 7, 2)), rate)
    expected, _ = librosa.load(path, sr=RATE)
    np.testing.assert_array_equal(clip_features.read_sound(path), expected)
    np.testing.assert_array_equal(clip_features.read_sound(path.read_bytes()), expected)


# ------------------------------------------------------------------------------------------- scores by hand

NAN = math.nan


@pytest.mark.parametrize(
    ("reference", "generated", "coverage", "hit", "precision"),
    [
        ("1111", "1111", 1.0, 1.0, 1.0),
        ("1100", "0110", 1.0, 0.5, 0.5),
        ("1000", "1111", 4.0, 1.0, 0.25),  # coverage is a count ratio and passes 1
        ("1110", "0001", 1 / 3, 0.0, 0.0),
        ("1010", "1000", 0.5, 0.5, 1.0),
        ("1110", "0000", 0.0, 0.0, 0.0),  # nothing claimed where there was something: precision 0
        ("0000", "0100", NAN, NAN, 0.0),  # the formula: 0 / 1
        ("0000", "0000", NAN, NAN, NAN),
        ("1111", "11", 0.5, 0.5, 1.0),  # missing seconds are empty
        ("11", "1111", 1.0, 1.0, 1.0),  # seconds beyond the reference are left out
        ("10", "0111", 1.0, 0.0, 0.0),
    ],
)
def test_scores_of_one_clip(reference: str, generated: str, coverage: float, hit: float, precision: float) -> None:
    g, s = bins(reference), bins(generated)
    found = beats.clip_scores(g, s, g, s)
    common = min(len(g), len(s))
    both, claimed, there = (g & s if len(g) == len(s) else g[:common] & s[:common]).sum(), s[:common], g[:common]
    expected = {
        "beat_coverage_d2m": coverage,
        "beat_hit_d2m": hit,
        "beat_precision_loris": both / claimed.sum() if claimed.any() else 0.0,
        "beat_recall_loris": both / there.sum() if there.any() else 0.0,
        "onset_precision_1s": precision,
        "onset_recall_1s": hit,
    }
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(list(found.values()), list(expected.values()))


def test_loris_as_published_where_it_differs() -> None:
    """0 for 0 / 0, and the reference cut to the generated length: by hand."""
    nothing, some = bins("0000"), bins("0100")
    assert (beats.beat_precision_loris(nothing, nothing), beats.beat_recall_loris(nothing, some)) == (0.0, 0.0)
    # 1111 against 11: of two seconds both have, all are met; the whole reference is half met.
    assert (
        beats.beat_precision_loris(bins("1111"), bins("11")),
        beats.beat_recall_loris(bins("1111"), bins("11")),
    ) == (
        1.0,
        1.0,
    )
    assert beats.onset_recall_1s(bins("1111"), bins("11")) == 0.5
    assert beats.beat_recall_loris(bins("0011"), bins("10")) == 0.0  # none in the two common seconds
    assert beats.onset_recall_1s(bins("0011"), bins("10")) == 0.0


def test_scores_over_clips() -> None:
    precisions, recalls = [1.0, 0.5, NAN, 0.75], [0.5, 0.5, 1.0, NAN]
    assert beats.csd(precisions) == pytest.approx(0.25)  # deviations .25, -.25, 0 over n - 1 = 2
    assert beats.hsd(recalls) == pytest.approx(math.sqrt(1 / 12))
    mean_p, mean_r = 0.75, 2 / 3
    assert beats.f1_loris(precisions, recalls) == pytest.approx(2 * mean_p * mean_r / (mean_p + mean_r))
    assert beats.f1_loris([0.0], [0.0]) == 0.0
    assert math.isnan(beats.f1_loris([NAN], [1.0]))
    assert math.isnan(beats.csd([1.0]))
    assert math.isnan(beats.hsd([]))


def test_f1_is_of_the_means_not_the_mean_of_f1s() -> None:
    # Published: 88.83 / 82.66 / 85.71 (LORIS), 92.68 / 88.56 / 90.56 (PN-Diffusion).
    assert beats.f1_loris([0.8883], [0.8266]) == pytest.approx(0.8564, abs=1e-4)
    assert beats.f1_loris([0.9268], [0.8856]) == pytest.approx(0.9057, abs=1e-4)
    assert beats.f1_loris([1.0, 0.0], [0.0, 1.0]) == pytest.approx(0.5)


def test_what_is_no_row_of_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="bool"):
        beats.beat_hit_d2m(np.array([1, 0]), bins("10"))
    with pytest.raises(ValueError, match="empty"):
        beats.beat_hit_d2m(np.zeros(0, dtype=bool), bins("10"))
    with pytest.raises(ValueError, match="bool"):
        beats.beat_precision_loris(bins("10"), np.array([[True]]))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_properties(pairs: list[tuple[bool, bool]]) -> None:
    g, s = (np.array(row) for row in zip(*pairs, strict=True))
    found = beats.clip_scores(g, s, g, s)
    if g.any():
        assert 0 <= found["beat_hit_d2m"] <= min(1, found["beat_coverage_d2m"])
        # Recall / precision is the count ratio: the two pairs differ by what they divide by.
        if s.any() and found["beat_precision_loris"]:
            ratio = found["beat_recall_loris"] / found["beat_precision_loris"]
            assert ratio == pytest.approx(found["beat_coverage_d2m"])
        # A click in every second wins both.
        clicks = np.ones_like(g)
        assert beats.beat_hit_d2m(g, clicks) == 1.0
        assert beats.beat_recall_loris(g, clicks) == 1.0


# ------------------------------------------------------------------------------------------- through evaluate


def test_evaluate_on_injected_onsets() -> None:
    """Two clips of 3 s and one whose reference has no onset; every published number worked by hand."""
    cache = FeatureCache()
    references = [np.full(3 * RATE, 0.1 * k, np.float32) for k in (1, 2, 3)]
    generated = [np.full(3 * RATE, -0.1 * k, np.float32) for k in (1, 2, 3)]
    injected(cache, references[0], [0.5, 1.5, 2.5], [0.5, 2.5])  # 111, 101
    injected(cache, generated[0], [0.1, 0.2], [0.1, 1.2])  # 100, 110
    injected(cache, references[1], [1.0], [1.0])  # 010, 010
    injected(cache, generated[1], [0.0, 1.0, 2.0], [1.9])  # 111, 010
    injected(cache, references[2], [], [])
    injected(cache, generated[2], [2.2], [])
    names = ("a", "b", "c")
    reference = Reference(
        {n: Item(n, r, song_id=k) for k, (n, r) in enumerate(zip(names, references, strict=True))}, "x"
    )
    result = evaluate(reference, dict(zip(names, generated, strict=True)), EvaluateOptions(embedder=None), cache=cache)
    value = {name: score.value for name, score in result.metrics.items()}
    assert value["beat_coverage_d2m"] == pytest.approx((1 / 3 + 3) / 2)
    assert value["beat_hit_d2m"] == pytest.approx((1 / 3 + 1) / 2)
    assert value["onset_precision_1s"] == value["onset_recall_1s"] == pytest.approx((1 / 2 + 1) / 2)
    assert value["beat_precision_loris"] == pytest.approx((1 / 2 + 1 + 0) / 3)  # 0 for 0 / 0, as published
    assert value["beat_recall_loris"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert value["csd"] == value["hsd"] == pytest.approx(0.5)  # of 1/2, 1, 0
    assert value["f1_loris"] == pytest.approx(0.5)
    assert result.metrics["beat_hit_d2m"].n == 2
    assert result.undefined["beat_hit_d2m"] == 1
    assert any("1 references have no onset" in note for note in result.notes)
