"""What is kept of a clip's music to know it again: a small picture of its notes over time.

A sketch is a spectrogram with logarithmic frequency (24 bins an octave, 21.5 frames a second) in which each bin is held
against its surroundings, first in frequency, then in time. That takes level, equaliser, hum and room out, and leaves
the pattern of partials and onsets, in which every frame counts the same. A copy that is played faster is the same
picture, narrower; one that is pitched higher is the same picture, moved up: so every speed and pitch is compared
without touching the sound again. For finding recordings again (`songs`). Not for hearing whether two performances are
of one composition, nor for likeness of style (`tiktok_dm.benchmark.embedders.base`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tiktok_dm.errors import UserError

VERSION = "1"  # of the numbers below; a stored sketch of another version is made again

RATE = 11_025  # Hz
N_FFT = 2048  # 186 ms: two notes a semitone apart are told apart from 200 Hz on
HOP = 512
FRAME_RATE = RATE / HOP  # 21.5 frames a second
BINS_PER_OCTAVE = 24
LOWEST_HZ = 150.0
BINS = 120  # five octaves, up to 4.8 kHz
MOST_S = 300.0
"""A sketch ends here: a "clip" of an hour is a video without cuts, and its first minutes tell its song."""
SILENCE = 10 ** (-70 / 20)  # of full scale: frames whose RMS stays below are silent
LEAST_S = 1.0  # of sound; less is no music that could be known again
_AROUND_BINS = 8.0  # standard deviation of the surroundings in frequency: a third of an octave
_AROUND_S = 1.5  # and in time
_STEP = 1 / 40  # of the stored int8
_FLAT = 40.0  # of a frame's norm in the stored steps; music has 100 to 300, a constant tone or hum next to nothing


@dataclass(frozen=True)
class SongSketch:
    """All that is kept of one clip's music, about 2.6 kB a second.

    Args:
        duration_s: of the sound.
        silent: it holds less than a second of sound that could be music; such a sketch matches nothing.
        picture: int8 (frames, 120), the picture in steps of 1/40; frame k lies at `k / FRAME_RATE` s.
        level: uint8 (frames,), level below full scale in steps of 0.5 dB (0: 0 dBFS, 255: silence).
    """

    duration_s: float
    silent: bool
    picture: np.ndarray = field(repr=False)
    level: np.ndarray = field(repr=False)

    def to_bytes(self) -> bytes:
        """As an npz file."""
        out = io.BytesIO()
        np.savez_compressed(
            out,
            version=np.array(VERSION),
            duration_s=np.float64(self.duration_s),
            silent=np.bool_(self.silent),
            picture=self.picture,
            level=self.level,
        )
        return out.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> SongSketch:
        """The sketch that `to_bytes` wrote.

        Raises:
            UserError: these are no sketch's bytes, or they come from another version.
        """
        try:
            with np.load(io.BytesIO(data)) as stored:
                if str(stored["version"]) != VERSION:
                    raise UserError("this sketch of a song was made by another version: make it again")
                return SongSketch(
                    float(stored["duration_s"]), bool(stored["silent"]), stored["picture"], stored["level"]
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError("these bytes are no sketch of a song: make it again") from error

    @property
    def frames(self) -> int:
        return len(self.picture)


def sketch(audio: np.ndarray, sample_rate: float) -> SongSketch:
    """Sketch of mono audio.

    Args:
        audio: float (samples,), full scale 1.
        sample_rate: Hz.

    Raises:
        UserError: the audio is not mono or not finite, or the rate is no rate.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise UserError(f"songs are compared by mono sound (samples,), and this has the shape {audio.shape}")
    if not sample_rate > 0:
        raise UserError(f"a sound of {sample_rate} samples a second cannot be compared: give its rate in Hz")
    if not np.isfinite(audio).all():
        raise UserError("the sound holds values that are not finite: cut the clip again")
    duration = len(audio) / sample_rate
    power, level = _spectrogram(audio[: round(MOST_S * sample_rate)], sample_rate)
    sounding = level > SILENCE
    steps = np.clip(np.round(-40 * np.log10(np.maximum(level, 1e-9))), 0, 255).astype(np.uint8)
    picture = _picture(power, sounding)
    textured = np.linalg.norm(picture.astype(np.float32), axis=1) > _FLAT
    silent = int((textured & sounding).sum()) < LEAST_S * FRAME_RATE
    return SongSketch(duration, silent, picture, steps)


def _spectrogram(audio: np.ndarray, sample_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude (frames, 120) in bands of logarithmic width, and RMS (frames,)."""
    import soxr
    from scipy.fft import rfft

    sound = np.asarray(audio, np.float32)
    if sample_rate != RATE and len(sound):
        sound = soxr.resample(sound, sample_rate, RATE, quality="MQ")
    sound = np.pad(sound, (N_FFT // 2, N_FFT // 2))
    if len(audio) == 0:
        return np.zeros((0, BINS), np.float32), np.zeros(0, np.float32)
    views = np.lib.stride_tricks.sliding_window_view(sound, N_FFT)[::HOP]
    window, bank = _window(), _bank()
    bands = np.empty((len(views), BINS), np.float32)
    level = np.empty(len(views), np.float32)

    for first in range(0, len(views), 256):  # so that minutes of sound need no more memory than seconds
        block = views[first : first + 256] * window
        spectrum = rfft(block, axis=1)
        bands[first : first + 256] = np.sqrt((spectrum.real**2 + spectrum.imag**2) @ bank)
        level[first : first + 256] = np.sqrt((block * block).mean(axis=1) / (window * window).mean())
    return bands, level


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(N_FFT).astype(np.float32)


@lru_cache(maxsize=1)
def _bank() -> np.ndarray:
    """Triangular filters on a logarithmic axis, (1025, 120), at least one bin of the transform wide."""
    hertz = np.arange(N_FFT // 2 + 1) * RATE / N_FFT
    centre = LOWEST_HZ * 2 ** (np.arange(BINS) / BINS_PER_OCTAVE)
    width = np.maximum(centre * (2 ** (1 / BINS_PER_OCTAVE) - 1), RATE / N_FFT)
    bank = np.maximum(0, 1 - np.abs(hertz[:, None] - centre) / width)
    return (bank / bank.sum(axis=0)).astype(np.float32)


def _picture(bands: np.ndarray, sounding: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    if not len(bands):
        return np.zeros((0, BINS), np.int8)
    around = gaussian_filter1d(bands, _AROUND_BINS, axis=1, mode="nearest")
    # log1p keeps what stands out of its surroundings and flattens what lies below them, where noise and coding live.
    relief = np.log1p(3 * bands / (around + 1e-9))
    relief -= gaussian_filter1d(relief, _AROUND_BINS, axis=1, mode="nearest")
    weight = sounding.astype(np.float32)
    smooth = _AROUND_S * FRAME_RATE
    usual = gaussian_filter1d(relief * weight[:, None], smooth, axis=0, mode="constant")
    usual /= gaussian_filter1d(weight, smooth, mode="constant")[:, None] + 1e-6
    relief = (relief - usual) * weight[:, None]
    return np.clip(np.round(relief / _STEP), -127, 127).astype(np.int8)


def unit_frames(found: SongSketch) -> np.ndarray:
    """The picture with frames of length one, float32 (frames, 120); silent and flat frames are zero."""
    picture = found.picture.astype(np.float32)
    norm = np.linalg.norm(picture, axis=1, keepdims=True)
    return np.where(norm > _FLAT, picture / np.maximum(norm, _FLAT), np.float32(0))
