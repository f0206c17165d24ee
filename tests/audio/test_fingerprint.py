"""Fingerprints: copies are found through what is done to copies, other songs are not; on synthetic and real songs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm.audio import landmark_fingerprint as f
from tiktok_dm.audio.landmark_fingerprint import FOUND, Fingerprint, Index, fingerprint, match
from tiktok_dm.benchmark.codec_round_trip import AAC
from tiktok_dm.errors import UserError
from tiktok_dm.media import read_audio
from tiktok_dm.synthetic import DemoParams, clip_truth

RATE = 22_050
DEMO = DemoParams(clips=16, songs=12)


@pytest.fixture(scope="module")
def clips() -> list[tuple[int, np.ndarray]]:
    """Song and sound of ten clips."""
    found = [clip_truth(DEMO, number) for number in range(10)]
    return [(song, audio) for _, audio, _, song in found]


@pytest.fixture(scope="module")
def prints(clips: list[tuple[int, np.ndarray]]) -> list[Fingerprint]:
    return [fingerprint(audio, RATE) for _, audio in clips]


def noisy(audio: np.ndarray, decibels: float) -> np.ndarray:
    """With white noise so many dB below its RMS."""
    rms = np.sqrt(np.mean(audio**2))
    return audio + 10 ** (decibels / 20) * rms * np.random.default_rng(0).standard_normal(len(audio))


CHANGES = {
    "the same": (lambda a: a, 0.0),
    "a tenth of the gain": (lambda a: 0.1 * a, 0.0),
    "half a second later": (lambda a: np.concatenate([np.zeros(11_025, np.float32), a])[: len(a)], -0.5),
    "half a second cut off": (lambda a: a[11_025:], 0.5),
    "noise at -30 dB": (lambda a: noisy(a, -30), 0.0),
    "AAC at 64 kbit/s": (lambda a: AAC(64)(a, RATE), 0.0),
    "two seconds from the middle": (lambda a: a[50_001:94_101], 50_001 / RATE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found(clips: list[tuple[int, np.ndarray]], prints: list[Fingerprint], change: str) -> None:
    alter, offset = CHANGES[change]
    index = Index([(str(k), one) for k, one in enumerate(prints)])
    for k, (_, audio) in enumerate(clips[:6]):
        name, found = index.search(fingerprint(alter(audio), RATE))
        assert name == str(k)
        assert found.score > FOUND
        assert found.offset_s == pytest.approx(offset, abs=0.03)


def test_other_songs_are_not_found(clips: list[tuple[int, np.ndarray]], prints: list[Fingerprint]) -> None:
    scores = [
        match(prints[i], prints[j]).score
        for i in range(len(clips))
        for j in range(len(clips))
        if clips[i][0] != clips[j][0]
    ]
    assert len(scores) > 60
    assert max(scores) < FOUND / 1.25
    assert np.median(scores) < 0.02


def test_real_songs(shared_data: Path) -> None:
    """All pairs of clips of the real compilation: those that share four seconds of a song match, other songs don't."""
    truth = json.loads((shared_data / "compilations" / "compilation_a.truth.json").read_text())["clips"]
    film = shared_data / "compilations" / "compilation_a.mp4"
    prints = [fingerprint(read_audio(film, start_s=clip["start_s"], end_s=clip["end_s"]), RATE) for clip in truth]
    near, far = [], []
    for i, a in enumerate(truth):
        for j, b in enumerate(truth[:i]):
            found = match(prints[i], prints[j])
            if a["song"] != b["song"]:
                far.append(found.score)
                continue
            starts = a["song_offset_s"], b["song_offset_s"]
            lengths = a["end_s"] - a["start_s"], b["end_s"] - b["start_s"]
            overlap = min(starts[0] + lengths[0], starts[1] + lengths[1]) - max(starts)
            if overlap > 3.4 and a["song_speed"] == b["song_speed"] == 1:
                near.append(found.score)
                if found.score > FOUND:
                    assert found.offset_s == pytest.approx(starts[0] - starts[1], abs=0.05)
    assert len(near) >= 4
    assert len(far) > 30
    assert np.mean(np.array(near) > FOUND) == 1
    assert max(far) < 0.05


def test_hashes_by_hand() -> None:
    # Two tones that begin at 0.5 and 1.0 s: bins 46.4 and 92.9 of 10.77 Hz, 43 frames of 11.6 ms apart.
    t = np.arange(round(1.5 * 11_025)) / 11_025
    audio = np.zeros(len(t))
    for hz, start in ((46 * 11_025 / 1024, 0.5), (92 * 11_025 / 1024, 1.0)):
        burst = np.exp(-0.5 * ((t - start) / 0.03) ** 2)
        audio += 0.5 * burst * np.sin(2 * np.pi * hz * t)
    found = fingerprint(audio, 11_025)
    assert len(found) >= 1
    first, step, gap = found.hashes >> 14, (found.hashes >> 7 & 127).astype(int) - 64, found.hashes & 127
    assert set(zip(first.tolist(), step.tolist(), strict=True)) == {(46, 46)}
    assert gap[0] == pytest.approx(0.5 * 11_025 / 128, abs=1)
    # A frame is centred half a window after it starts.
    assert found.frames[0] == pytest.approx((0.5 * 11_025 - 512) / 128, abs=1)
    assert found.duration_s == pytest.approx(1.5, abs=1e-4)


def test_the_score_by_hand() -> None:
    def made(hashes: list[int], frames: list[int], seconds: float) -> Fingerprint:
        return Fingerprint(np.array(hashes, np.uint32), np.array(frames, np.int32), seconds)

    # Ten hashes; eight agree 100 frames later (one by a gap of one frame more), one at another offset, one not at all.
    a = made([1000 * k for k in range(1, 11)], list(range(10, 110, 10)), 2.0)
    b = made(
        [1000, 2000, 3001, *(1000 * k for k in range(4, 9)), 9000, 77_777],
        [110, 120, 130, 140, 150, 160, 170, 180, 20, 210],
        4.0,
    )
    found = match(a, b)
    # The one at frame 20 of b lies before the overlap, which begins at frame 100.
    assert found.score == pytest.approx(8 / (9 + 20))
    assert found.offset_s == pytest.approx(100 * 128 / 11_025)


def test_a_resampled_copy_is_the_same(clips: list[tuple[int, np.ndarray]], prints: list[Fingerprint]) -> None:
    import soxr

    louder = soxr.resample(clips[0][1], RATE, 44_100)
    assert match(fingerprint(louder, 44_100), prints[0]).score > 0.8


def test_a_sped_up_copy_is_found_by_its_rate(clips: list[tuple[int, np.ndarray]], prints: list[Fingerprint]) -> None:
    import soxr

    faster = soxr.resample(clips[1][1], 1.25 * RATE, RATE)
    assert match(fingerprint(faster, RATE), prints[1]).score < FOUND
    assert match(fingerprint(faster, RATE / 1.25), prints[1]).score > 0.8


def test_nothing_matches_silence(prints: list[Fingerprint]) -> None:
    silence = fingerprint(np.zeros(44_100, np.float32), RATE)
    short = fingerprint(np.ones(100, np.float32), RATE)
    assert len(silence) == len(short) == 0
    assert match(silence, prints[0]).score == 0
    assert np.isnan(match(silence, prints[0]).offset_s)
    assert match(prints[0], silence).score == 0
    assert Index([]).search(prints[0])[0] is None


def test_an_index_agrees_with_pairs(prints: list[Fingerprint]) -> None:
    index = Index([(str(k), one) for k, one in enumerate(prints)])
    ranked = dict(index.search_all(prints[3], most=4))
    assert next(iter(ranked)) == "3"
    for name, found in ranked.items():
        assert found == match(prints[3], prints[int(name)])


def test_fingerprints_are_deterministic(clips: list[tuple[int, np.ndarray]], prints: list[Fingerprint]) -> None:
    again = fingerprint(clips[0][1], RATE)
    assert (again.hashes == prints[0].hashes).all()
    assert (again.frames == prints[0].frames).all()
    assert (np.diff(again.hashes.astype(np.int64)) >= 0).all()
    assert 60 < len(again) / again.duration_s < f.DENSITY * f.FAN_OUT


def test_what_has_no_fingerprint() -> None:
    with pytest.raises(UserError, match="mono"):
        fingerprint(np.zeros((9, 2)), RATE)
    with pytest.raises(UserError, match="not finite"):
        fingerprint(np.full(9000, np.inf), RATE)
