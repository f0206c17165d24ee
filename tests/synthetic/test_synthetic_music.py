"""Songs: known tempo and beats, found by a beat tracker; songs that differ; levels; determinism."""

from __future__ import annotations

import numpy as np
import pytest

from tiktok_dm.synthetic import instruments
from tiktok_dm.synthetic.instruments import SAMPLE_RATE
from tiktok_dm.synthetic.music import SONG_BEATS, make_song, render_song
from tiktok_dm.synthetic.styles import STYLES

SONGS = range(6)


@pytest.fixture(scope="module")
def songs() -> dict[int, np.ndarray]:
    return {k: render_song(0, k) for k in SONGS}


def test_the_first_six_songs_have_six_styles_and_tempos_within_their_bounds():
    made = [make_song(0, k) for k in SONGS]
    assert [song.style for song in made] == list(STYLES)
    for song in made:
        low, high = song.style.tempo_bpm
        assert 85 <= low <= song.tempo_bpm <= high <= 140
        beats = song.beats_s()
        assert len(beats) == SONG_BEATS == 96
        np.testing.assert_allclose(np.diff(beats), 60 / song.tempo_bpm)


def test_a_song_lasts_its_beats_is_loud_and_does_not_clip(songs):
    for k, samples in songs.items():
        song = make_song(0, k)
        assert samples.dtype == np.float32
        assert len(samples) == int(np.ceil(96 * 60 / song.tempo_bpm * SAMPLE_RATE))
        assert np.abs(samples).max() == pytest.approx(0.9, abs=1e-3)
        assert (np.abs(samples) > 0.89).mean() < 1e-3
        assert 0.15 < np.sqrt((samples.astype(float) ** 2).mean()) < 0.45
        assert abs(samples.mean()) < 0.01


def test_the_same_seed_gives_the_same_samples_and_another_seed_gives_others():
    first = render_song(3, 2).copy()
    render_song.cache_clear()
    np.testing.assert_array_equal(first, render_song(3, 2))
    other = render_song(4, 2)
    count = min(len(first), len(other))
    assert np.abs(first[:count] - other[:count]).max() > 0.3


def test_a_beat_tracker_finds_the_tempo_of_most_songs_within_four_percent_or_an_octave(songs):
    import librosa
    import soxr

    found = 0
    for k, samples in songs.items():
        excerpt = soxr.resample(samples[10 * SAMPLE_RATE : 18 * SAMPLE_RATE], SAMPLE_RATE, 22_050)
        tempo = float(np.atleast_1d(librosa.beat.beat_track(y=excerpt, sr=22_050)[0])[0])
        ratio = tempo / make_song(0, k).tempo_bpm
        found += min(abs(ratio / octave - 1) for octave in (0.5, 1.0, 2.0)) <= 0.04
    assert found >= 5


def test_beats_are_where_the_song_says(songs):
    """The low end (kick) rises at beats: in four-on-the-floor styles energy after a beat exceeds that before it."""
    for k in (0, 2):  # house, disco
        samples, beats = songs[k].astype(float), make_song(0, k).beats_s()
        low = np.abs(np.convolve(samples, np.ones(300) / 300, "same"))
        window = int(0.05 * SAMPLE_RATE)
        starts = (beats[8:64] * SAMPLE_RATE).astype(int)
        after = np.array([low[s : s + window].mean() for s in starts])
        before = np.array([low[s - window : s].mean() for s in starts])
        assert (after > before).mean() > 0.9


def test_songs_differ_in_harmony_and_timbre(songs):
    import librosa
    import soxr

    features = []
    for samples in songs.values():
        y = soxr.resample(samples[10 * SAMPLE_RATE : 18 * SAMPLE_RATE], SAMPLE_RATE, 22_050)
        chroma = librosa.feature.chroma_stft(y=y, sr=22_050).mean(1)
        mel = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=22_050, n_mels=24)).mean(1)
        features.append((chroma / np.linalg.norm(chroma), mel))
    for a in range(len(features)):
        for b in range(a):
            chroma_distance = 1 - features[a][0] @ features[b][0]
            spectral_distance = np.abs(features[a][1] - features[b][1]).mean()
            assert chroma_distance > 0.004 or spectral_distance > 3
            assert spectral_distance > 0.8


@pytest.mark.parametrize("shape", ["saw", "square"])
def test_tones_do_not_alias(shape):
    """Everything in a steady 1 kHz-ish tone sits on its harmonics."""
    midi = 84.0
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = instruments._tone(shape, midi, t, 20_000)
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)))) ** 2
    frequency = np.arange(len(spectrum))
    ratio = frequency / instruments.hertz(midi)
    harmonic = np.abs(ratio - np.round(ratio)) * instruments.hertz(midi) < 6
    assert spectrum[~harmonic].sum() < 1e-4 * spectrum.sum()
