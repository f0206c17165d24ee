"""Loudness by its own meter and by hand, the gate's worth, what is written into files."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
import soundfile
from media_factory import click_times, clicks, film, number_of, numbered

from d2m_model.sampling.music_file import denoise, metadata, set_loudness, true_peak, wav_bytes, write_film, write_wav
from tiktok_dm import media
from tiktok_dm.errors import UserError

RATE = 22_050
T = np.arange(3 * RATE) / RATE


def tone(amplitude: float, hz: float = 997.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * T)).astype(np.float32)


# --- loudness


def test_a_tone_comes_to_its_loudness() -> None:
    # BS.1770: a 997-Hz sine at 0 dBFS in one channel has -3.01 LUFS; at amplitude 0.05 it has -29.03.
    quiet = set_loudness(tone(0.05), RATE)
    assert quiet.lufs == pytest.approx(-16.0, abs=1e-6)
    assert quiet.gain_db == pytest.approx(-16 + 29.03, abs=0.1)
    assert pyloudnorm.Meter(RATE).integrated_loudness(quiet.audio) == pytest.approx(-16.0, abs=0.01)
    loud = set_loudness(tone(1.0), RATE, -23.0)
    assert loud.gain_db == pytest.approx(-19.99, abs=0.1)
    assert loud.audio == pytest.approx(tone(1.0) * 10 ** (loud.gain_db / 20), abs=1e-6)


def test_silence_stays_silence_and_a_blink_has_no_loudness() -> None:
    silence = set_loudness(np.zeros(RATE, np.float32), RATE)
    assert not silence.audio.any()
    assert (silence.lufs, silence.gain_db) == (None, 0.0)
    blink = set_loudness(tone(0.1)[:4000], RATE)
    assert (blink.lufs, blink.gain_db) == (None, 0.0)
    assert len(set_loudness(np.zeros(0, np.float32), RATE).audio) == 0


def test_peaks_stay_below_one_decibel_under_full_scale() -> None:
    sparse = np.zeros(3 * RATE, np.float32)
    sparse[::4410] = 0.5  # five clicks a second: quiet by the meter, and full of peaks
    louder = set_loudness(sparse, RATE)
    assert 20 * np.log10(true_peak(louder.audio)) == pytest.approx(-1.0, abs=1e-3)
    assert np.abs(louder.audio).max() < 10 ** (-1 / 20) + 1e-6
    assert louder.lufs is not None
    assert louder.lufs < -16.5  # as loud as peaks allow, without a limiter
    # A sine of a quarter of the rate, sampled at 45 degrees: its samples are at 0.707 of its peak.
    n = np.arange(RATE)
    assert true_peak(np.sin(np.pi / 2 * n + np.pi / 4)) == pytest.approx(1.0, abs=0.08)
    swell = tone(3.0)[:4000] * np.hanning(4000).astype(np.float32)  # too short for the meter, and far too loud
    assert set_loudness(swell, RATE).gain_db == pytest.approx(-1 - 20 * np.log10(3), abs=0.05)


def test_nonsense_is_refused() -> None:
    with pytest.raises(UserError, match="loudness is 3 LUFS"):
        set_loudness(tone(0.1), RATE, 3.0)
    with pytest.raises(UserError, match="NaN or infinite"):
        set_loudness(np.full(RATE, np.nan, np.float32), RATE)


# --- the gate


def test_the_gate_lowers_even_noise_and_leaves_the_music() -> None:
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(len(T))
    playing = (T % 1) < 0.5
    music = np.where(playing, tone(0.5, 440), 0)
    gated = denoise(music + noise, RATE)
    assert (len(gated), gated.dtype) == (len(T), np.float32)
    pause = ((T % 1) > 0.6) & ((T % 1) < 0.9)
    lowered_db = 10 * np.log10(np.mean(gated[pause] ** 2) / np.mean(noise[pause] ** 2))
    assert -12.5 < lowered_db < -8
    held = ((T % 1) > 0.1) & ((T % 1) < 0.4)
    kept_db = 10 * np.log10(np.mean(gated[held] ** 2) / np.mean(music[held] ** 2))
    assert kept_db == pytest.approx(0, abs=0.2)


def test_the_gate_leaves_silence_and_blinks_alone() -> None:
    assert not denoise(np.zeros(RATE, np.float32), RATE).any()
    assert np.array_equal(denoise(tone(0.1)[:1000], RATE), tone(0.1)[:1000])


# --- files

LICENCE = "For non-commercial use only (https://example.org/licence)."


def test_a_wav_carries_its_texts(tmp_path: Path) -> None:
    texts = metadata(LICENCE, "dances.mp4", "D2M-GAN (paper, high level)")
    write_wav(tmp_path / "a.wav", tone(0.5), RATE, texts)
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert (file.samplerate, file.channels, file.subtype, file.frames) == (RATE, 1, "PCM_16", 3 * RATE)
        assert file.copyright == LICENCE
        assert file.comment.startswith("Music made from dance by D2M-GAN (paper, high level), d2m_model ")
        assert "dances.mp4" in file.comment
        assert file.comment.endswith(LICENCE)
        assert file.software.startswith("d2m_model ")
        assert file.read(dtype="float32") == pytest.approx(tone(0.5), abs=1 / 32768)
    free = metadata("", "dances.mp4")
    assert "copyright" not in free
    with pytest.raises(UserError, match="exists already"):
        write_wav(tmp_path / "a.wav", tone(0.1), RATE)
    assert soundfile.read(tmp_path / "a.wav")[0].max() > 0.49
    write_wav(tmp_path / "a.wav", tone(0.1), RATE, free, force=True)
    assert soundfile.read(tmp_path / "a.wav")[0].max() < 0.11
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    with pytest.raises(UserError, match="cannot be written"):
        write_wav(tmp_path / "none" / "a.wav", tone(0.1), RATE)


def test_wav_bytes_are_the_same_each_time_also_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = metadata(LICENCE, "x")
    first = wav_bytes(tone(1.5), RATE, texts, float_samples=True)
    samples, rate = soundfile.read(io.BytesIO(first), dtype="float32")
    assert rate == RATE
    assert np.array_equal(samples, tone(1.5))  # floats are not clipped
    assert soundfile.info(io.BytesIO(first)).subtype == "FLOAT"
    at = first.find(b"PEAK", 12, first.find(b"data"))
    assert at < 0 or first[at + 12 : at + 16] == bytes(4)  # no time of day
    assert wav_bytes(tone(1.5), RATE, texts, float_samples=True) == first
    clipped, _ = soundfile.read(io.BytesIO(wav_bytes(tone(1.5), RATE)), dtype="float32")
    assert clipped == pytest.approx(np.clip(tone(1.5), -1, 1), abs=1 / 16384)


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_film_keeps_its_pictures_and_gets_the_music(tmp_path: Path, as_bytes: bool) -> None:
    pictures = [numbered(k) for k in range(90)]
    source = film(
        tmp_path / "in.mp4",
        pictures,
        range(90),
        Fraction(1, 30),
        b_frames=2,
        sound=clicks([0.3], 3.0, 48000),
        rotation=90,
    )
    sound = clicks([1.0, 2.5], 3.0, RATE)[:, 0]
    out = tmp_path / "out.mp4"
    write_film(out, source.read_bytes() if as_bytes else source, sound, RATE, metadata(LICENCE, "in.mp4"))
    assert packets(out) == packets(source)
    found = media.probe(out)
    assert found.rotation == 90
    assert found.audio is not None
    assert (found.audio.codec, found.audio.channels, found.audio.sample_rate) == ("aac", 1, RATE)
    assert found.duration_s == pytest.approx(3.0, abs=0.001)
    heard = media.read_audio(out, sample_rate=RATE)
    assert len(heard) == 3 * RATE
    assert click_times(heard, RATE) == pytest.approx([1.0, 2.5], abs=1e-3)
    with av.open(str(out)) as container:
        assert container.metadata["copyright"] == LICENCE
        assert container.metadata["comment"].endswith(LICENCE)
    upright = media.frame_at(out, 1.0)
    assert number_of(np.rot90(upright, 1)) == 30
    with pytest.raises(UserError, match="exists already"):
        write_film(out, source, sound, RATE)
    write_film(out, source, sound, RATE, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_codec_that_mp4_cannot_hold_is_encoded_anew(tmp_path: Path) -> None:
    source = film(tmp_path / "in.webm", [numbered(k) for k in range(60)], range(60), Fraction(1, 30), codec="libvpx")
    write_film(tmp_path / "out.mp4", source, tone(0.1)[: 2 * RATE], RATE)
    assert [number_of(picture) for _, picture in media.read_frames(tmp_path / "out.mp4")] == list(range(60))
