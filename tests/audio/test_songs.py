"""Sketches and their index: the same recording is found through what is done to it, other songs are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soxr

from tiktok_dm.audio import spectrogram_sketch as song_sketch
from tiktok_dm.audio.song_index import DOUBTFUL, USED, SameSong, SongIndex
from tiktok_dm.audio.spectrogram_sketch import FRAME_RATE, SongSketch, overlay, sketch, unit_frames
from tiktok_dm.curate.song_groups import group_songs
from tiktok_dm.errors import UserError
from tiktok_dm.media import read_audio
from tiktok_dm.synthetic.music import render_song

RATE = 22_050
SONGS = 6


def seconds(sound: np.ndarray, start: float, end: float) -> np.ndarray:
    return sound[round(start * RATE) : round(end * RATE)]


def played(sound: np.ndarray, speed: float) -> np.ndarray:
    """Pitch and tempo together."""
    return soxr.resample(sound, RATE * speed, RATE).astype(np.float32)


def stretched(sound: np.ndarray, speed: float) -> np.ndarray:
    """Tempo alone, by a phase vocoder of our own: librosa's takes seconds to load."""
    n, hop = 2048, 512
    window = np.hanning(n)
    frames = np.stack([np.fft.rfft(window * sound[k : k + n]) for k in range(0, len(sound) - n, hop)])
    steps = np.arange(0, len(frames) - 1, speed)
    phase = np.angle(frames[0])
    expected = 2 * np.pi * hop * np.arange(n // 2 + 1) / n
    out = np.zeros(len(steps) * hop + n)
    for k, step in enumerate(steps):
        low, part = int(step), step % 1
        size = (1 - part) * np.abs(frames[low]) + part * np.abs(frames[low + 1])
        out[k * hop : k * hop + n] += window * np.fft.irfft(size * np.exp(1j * phase))
        turn = np.angle(frames[low + 1]) - np.angle(frames[low]) - expected
        phase = phase + expected + turn - 2 * np.pi * np.round(turn / (2 * np.pi))
    return (out / 1.5).astype(np.float32)


def noisy(sound: np.ndarray, snr_db: float) -> np.ndarray:
    rms = np.sqrt(np.mean(sound**2))
    hiss = np.random.default_rng(3).standard_normal(len(sound))
    return (sound + 10 ** (-snr_db / 20) * rms * hiss).astype(np.float32)


@pytest.fixture(scope="module")
def songs() -> list[np.ndarray]:
    """Sixteen seconds of six songs, one of each style."""
    return [seconds(soxr.resample(render_song(40, k), 44_100, RATE), 9, 25) for k in range(SONGS)]


@pytest.fixture(scope="module")
def index(songs: list[np.ndarray]) -> SongIndex:
    """Ten seconds of each."""
    found = SongIndex()
    for k, song in enumerate(songs):
        found.add(str(k), sketch(seconds(song, 0, 10), RATE))
    return found


# What is done to seconds 4 to 9 of a song, the speed, and the pitch.
EDITS = {
    "nothing": (lambda x: x, 1.0, 1.0),
    "0.8 times as fast": (lambda x: played(x, 0.8), 0.8, 0.8),
    "1.06 times as fast": (lambda x: played(x, 1.06), 1.06, 1.06),
    "1.3 times as fast": (lambda x: played(x, 1.3), 1.3, 1.3),
    "stretched 0.85": (lambda x: stretched(x, 0.85), 0.85, 1.0),
    "stretched 1.2": (lambda x: stretched(x, 1.2), 1.2, 1.0),
    "a tone higher": (lambda x: played(stretched(x, 1 / 1.122), 1.122), 1.0, 1.122),
    "noise at 5 dB": (lambda x: noisy(x, 5), 1.0, 1.0),
    "faster, with noise": (lambda x: noisy(played(x, 1.25), 10), 1.25, 1.25),
    "40 dB quieter": (lambda x: (0.01 * x).astype(np.float32), 1.0, 1.0),
    "fading in": (lambda x: (x * np.linspace(0.05, 1, len(x))).astype(np.float32), 1.0, 1.0),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_same_recording_is_found(songs: list[np.ndarray], index: SongIndex, edit: str) -> None:
    change, speed, pitch = EDITS[edit]
    for k, song in enumerate(songs):
        found = index.search(sketch(change(seconds(song, 4, 9)), RATE))
        assert [pair.a for pair in found if pair.confidence >= USED] == [str(k)]
        best = found[0]
        assert best.b == ""
        assert best.speed == pytest.approx(speed, rel=0.02)
        assert best.pitch == pytest.approx(pitch, rel=0.02)
        # A loop may be found a bar away; where it is found, the place is right.
        middle = (2.5 / speed - best.offset_s) * best.speed
        bar = 4 * 60 / 90
        assert abs(middle - 6.5) < 0.2 or abs(middle - 6.5) > bar / 2
        assert "of the same recording" in best.reason


def test_all_clips_of_a_song_are_found_also_when_clips_come_between_searches(songs: list[np.ndarray]) -> None:
    found = SongIndex()
    for k in range(40):
        found.add(f"a{k}", sketch(seconds(songs[0], 0.2 * k, 0.2 * k + 6), RATE))
        if k % 10 == 0:
            near = {f"a{i}" for i in range(k) if 0.2 * (k - i) < 3}  # share three seconds and more
            assert near <= {pair.a for pair in found.search(f"a{k}") if pair.confidence >= USED}
    for k in range(1, SONGS):
        found.add(f"b{k}", sketch(seconds(songs[k], 0, 6), RATE))
    query = found.search(sketch(seconds(songs[0], 3, 12), RATE))
    assert {f"a{k}" for k in range(30)} <= {pair.a for pair in query if pair.confidence >= USED}
    assert not {pair.a for pair in query if pair.confidence >= USED} & {f"b{k}" for k in range(1, SONGS)}


def test_places_in_time(songs: list[np.ndarray]) -> None:
    """2.5 s that two clips of 7 s have in common, at another speed; both ways of asking agree."""
    index = SongIndex()
    index.add("first", sketch(seconds(songs[1], 0, 7), RATE))
    index.add("second", sketch(played(seconds(songs[1], 4.5, 12), 1.1), RATE))
    found = index.search("second")[0]
    assert (found.a, found.b) == ("first", "second")
    assert found.confidence >= USED
    assert found.speed == pytest.approx(1.1, abs=0.015)
    assert found.offset_s == pytest.approx(-4.5 / 1.1, abs=0.15)
    assert found.overlap_s == pytest.approx(2.5 / 1.1, abs=0.5)
    other = index.search("first")[0]
    assert (other.a, other.b) == ("first", "second")
    assert other.speed == pytest.approx(found.speed, abs=0.015)
    assert other.offset_s == pytest.approx(found.offset_s, abs=0.15)
    assert index.pairs()[0] == found


def test_other_songs_are_not_found(songs: list[np.ndarray], index: SongIndex) -> None:
    assert [pair for pair in index.pairs() if pair.confidence >= USED] == []
    for k in range(SONGS):
        assert all(pair.confidence < USED for pair in index.search(str(k)))
        assert all(pair.confidence >= DOUBTFUL for pair in index.search(str(k)))


def test_an_overlay_by_hand() -> None:
    # Random pictures; b is a from frame 40 on, at 1.25 times the speed, eight bins higher.
    rng = np.random.default_rng(0)
    from scipy.ndimage import gaussian_filter

    a = gaussian_filter(rng.standard_normal((200, 120)), (2, 1)).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    places = 40 + 1.25 * np.arange(80)
    b = np.zeros((80, 120), np.float32)
    low = places.astype(int)
    part = (places - low)[:, None]
    b[:, 8:] = ((1 - part) * a[low] + part * a[low + 1])[:, :-8]
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    found = overlay(a, b, 1.22, 8, 41.0)
    assert found.speed == pytest.approx(1.25, abs=0.004)
    assert found.bins == 8
    assert found.offset == pytest.approx(40, abs=0.4)
    assert found.frames == 80
    assert found.agreement > 0.95  # less than 1 by the interpolation between frames, twice
    assert found.kept > 0.9
    assert found.logit > 3
    assert overlay(a, b[::-1], 1.22, 8, 41.0).logit < -3


def test_the_picture_by_hand() -> None:
    # A tone of 600 Hz sounds from 2 to 4 s in soft noise: two octaves above 150 Hz is bin 48.
    rng = np.random.default_rng(0)
    t = np.arange(6 * RATE) / RATE
    sound = 0.01 * rng.standard_normal(len(t)) + np.where((t > 2) & (t < 4), 0.3 * np.sin(2 * np.pi * 600 * t), 0)
    found = sketch(sound.astype(np.float32), RATE)
    assert found.duration_s == 6
    assert not found.silent
    assert found.picture.shape == (int(6 * FRAME_RATE) + 1, 120)
    during = found.picture[round(2.5 * FRAME_RATE) : round(3.5 * FRAME_RATE)]
    assert set(during.argmax(axis=1)) == {48}
    # 0.3 / sqrt(2) is -13.5 dBFS, in steps of half a dB.
    assert int(found.level[round(3 * FRAME_RATE)]) == pytest.approx(27, abs=1)
    # The noise has -40 dBFS, and half of its power lies below 5.5 kHz.
    assert int(found.level[round(1 * FRAME_RATE)]) == pytest.approx(86, abs=2)
    # Unlike the level, the picture does not know the gain.
    quiet = sketch((0.1 * sound).astype(np.float32), RATE)
    assert np.abs(quiet.picture[2:-2].astype(int) - found.picture[2:-2]).max() <= 1


def test_a_sketch_is_small_and_kept_as_bytes(songs: list[np.ndarray]) -> None:
    found = sketch(songs[0], RATE)
    data = found.to_bytes()
    assert len(data) < 3000 * 16
    again = SongSketch.from_bytes(data)
    assert (again.picture == found.picture).all()
    assert (again.level == found.level).all()
    assert (again.duration_s, again.silent) == (found.duration_s, found.silent)
    assert data == sketch(songs[0], RATE).to_bytes()
    with pytest.raises(UserError, match="no sketch"):
        SongSketch.from_bytes(b"PK nothing")


def test_a_sketch_of_another_version(songs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    data = sketch(songs[0][:RATE], RATE).to_bytes()
    monkeypatch.setattr(song_sketch, "VERSION", "another")
    with pytest.raises(UserError, match="another version"):
        SongSketch.from_bytes(data)


NO_MUSIC = {
    "silence": np.zeros(5 * RATE, np.float32),
    "nothing": np.zeros(0, np.float32),
    "one sample": np.ones(1, np.float32),
    "half a second": np.random.default_rng(0).standard_normal(RATE // 2).astype(np.float32),
    "hiss at -70 dB": (3e-4 * np.random.default_rng(0).standard_normal(5 * RATE)).astype(np.float32),
    "a constant tone": np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE).astype(np.float32),
    "a constant": np.ones(5 * RATE, np.float32),
}


@pytest.mark.parametrize("kind", NO_MUSIC)
def test_no_music(kind: str, index: SongIndex) -> None:
    found = sketch(NO_MUSIC[kind], RATE)
    assert found.silent
    assert found.duration_s == pytest.approx(len(NO_MUSIC[kind]) / RATE)
    assert index.search(found) == []
    two = SongIndex()
    two.add("a", found)
    two.add("b", found)
    assert two.pairs() == []


def test_noise_matches_nothing_but_itself(index: SongIndex) -> None:
    rng = np.random.default_rng(1)
    found = SongIndex()
    for k in range(4):
        white = sketch(rng.standard_normal(8 * RATE).astype(np.float32) / 4, RATE)
        assert index.search(white) == []
        found.add(str(k), white)
    assert found.pairs() == []


def test_what_is_no_sound(songs: list[np.ndarray], index: SongIndex) -> None:
    with pytest.raises(UserError, match="mono"):
        sketch(np.zeros((RATE, 2), np.float32), RATE)
    with pytest.raises(UserError, match="not finite"):
        sketch(np.full(RATE, np.nan, np.float32), RATE)
    with pytest.raises(UserError, match="rate"):
        sketch(songs[0], 0)
    with pytest.raises(UserError, match="already"):
        index.add("0", sketch(songs[0], RATE))
    with pytest.raises(UserError, match="not in the index"):
        index.search("ninety")
    assert "0" in index
    assert "ninety" not in index
    assert len(index) == SONGS


def test_other_rates_and_kinds_of_numbers(songs: list[np.ndarray], index: SongIndex) -> None:
    part = seconds(songs[2], 3, 8)
    for sound, rate in ((soxr.resample(part, RATE, 48_000), 48_000), (part.astype(np.float64), RATE)):
        best = index.search(sketch(sound, rate))[0]
        assert best.a == "2"
        assert best.agreement > 0.9


def test_a_long_video_is_cut_short(songs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(song_sketch, "MOST_S", 8.0)
    found = sketch(songs[0], RATE)
    assert found.duration_s == pytest.approx(16, abs=1e-3)
    assert found.frames == pytest.approx(8 * FRAME_RATE, abs=2)
    assert unit_frames(found).shape == (found.frames, 120)


def test_the_reason_in_words(songs: list[np.ndarray]) -> None:
    index = SongIndex()
    index.add("a", sketch(seconds(songs[4], 0, 8), RATE))
    index.add("b", sketch(played(seconds(songs[4], 2, 8), 1.25), RATE))
    (found,) = index.pairs()
    assert isinstance(found, SameSong)
    assert found.reason == f"{found.overlap_s:.1f} s of the same recording, played {found.speed:.2f} times as fast"
    assert found.overlap_s == pytest.approx(6 / 1.25, abs=0.3)


def real_clips(folder: Path, name: str) -> dict[str, tuple[str, np.ndarray]]:
    truth = json.loads((folder / f"{name}.truth.json").read_text())
    sounds = {}
    for clip in truth["clips"]:
        sound = read_audio(folder / truth["file"], sample_rate=RATE, start_s=clip["start_s"], end_s=clip["end_s"])
        sounds[f"{name[-1]}{clip['index']}"] = (clip["song"], sound)
    return sounds


def test_real_songs(shared_data: Path) -> None:
    """Same-song pairs with the true times of the clips, each film alone and both together."""
    folder = shared_data / "compilations"
    clips = real_clips(folder, "compilation_a") | real_clips(folder, "compilation_b")
    index = SongIndex()
    for key, (_, sound) in clips.items():
        index.add(key, sketch(sound, RATE))
    pairs = index.pairs()
    for film, wanted in (("a", 0.95), ("b", 0.9), ("ab", 0.95)):
        keys = [key for key in clips if key[0] in film]
        song = group_songs(keys, pairs, runs_on=[("b0", "b1", 0.9)]).song_of
        both = [(a, b) for i, a in enumerate(keys) for b in keys[:i]]
        right = {pair for pair in both if clips[pair[0]][0] == clips[pair[1]][0]}
        said = {pair for pair in both if song[pair[0]] == song[pair[1]]}
        assert 2 * len(right & said) / (len(right) + len(said)) >= wanted
    faster = next(pair for pair in pairs if (pair.a, pair.b) == ("b3", "b6"))
    assert faster.speed == pytest.approx(1.02, abs=0.01)
    assert faster.offset_s == pytest.approx(-3 / 1.02, abs=0.1)
