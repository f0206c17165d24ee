"""Stimuli: sound brought to one loudness and length, films with it, all under random names.

Everything that could tell one version of a clip from another but its music is the same: length, sample rate, channels,
codec, bit rate, picture, tags (none) and the kind of name. Not for which stimuli a study has (`making`).
"""

from __future__ import annotations

import math
import secrets
from pathlib import Path

import numpy as np

from tiktok_dm.listening.sources import Piece
from tiktok_dm.media import cut, mux_audio, read_audio
from tiktok_dm.media.encoding import Mp4Writer, whole_file
from tiktok_dm.media.source import Source

SAMPLE_RATE = 48_000
"""Hz, of every stimulus."""

LOUDNESS_LUFS = -23.0
"""EBU R128's programme loudness: it leaves 22 dB for peaks, so that next to nothing has to be turned down for them."""

PEAK = 10 ** (-1 / 20)
"""Greatest sample: 1 dB below full scale, so that the codec's overshoot does not clip."""

SHORTEST_S = 1.0
_FADE_S = 0.01
_SILENT_LUFS = -70.0  # the absolute gate of ITU-R BS.1770-4
_MAX_HEIGHT = 720


def length_s(piece: Piece, need: str) -> float:
    """Seconds of a piece.

    Args:
        need: `audio` or `video`: what has to be in it.

    Raises:
        MediaError: it cannot be read, or lacks that.
    """
    with Source(piece.path, need=need) as source:
        end = float(source.duration)
    return (min(end, piece.end_s) if piece.end_s is not None else end) - piece.start_s


def read_sound(piece: Piece, seconds: float) -> np.ndarray:
    """The piece's first `seconds`, mono, at `SAMPLE_RATE`, float32 (samples,).

    Mono, since the systems of this field make mono music: width would tell the recording from them at once.

    Raises:
        MediaError: it cannot be read, or has no sound.
    """
    return read_audio(piece.path, sample_rate=SAMPLE_RATE, start_s=piece.start_s, end_s=piece.start_s + seconds)


def loudness(sound: np.ndarray) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4) of mono sound at `SAMPLE_RATE`; -inf for silence."""
    import warnings

    import pyloudnorm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(np.asarray(sound, np.float64)))
    return value if value > _SILENT_LUFS else -math.inf


def normalise(sound: np.ndarray, target_lufs: float) -> tuple[np.ndarray, float]:
    """Sound at a loudness, faded in and out over 10 ms, and how many dB it stays below because of its peaks.

    Args:
        sound: float (samples,).
        target_lufs: integrated loudness to reach.

    Returns:
        float32 (samples,) and dB: 0 where the target was reached, inf for silence, which is left as it is.
    """
    faded = np.array(sound, np.float64)
    n = min(len(faded) // 2, round(_FADE_S * SAMPLE_RATE))
    ramp = np.sin(np.linspace(0, np.pi / 2, n, endpoint=False)) ** 2
    faded[:n] *= ramp
    faded[len(faded) - n :] *= ramp[::-1]
    level = loudness(faded)
    if level == -math.inf:
        return faded.astype(np.float32), math.inf
    gain = 10 ** ((target_lufs - level) / 20)
    peak = float(np.abs(faded).max()) * gain
    lack = max(0.0, 20 * math.log10(peak / PEAK))
    return (faded * gain * 10 ** (-lack / 20)).astype(np.float32), lack


def low_passed(sound: np.ndarray) -> np.ndarray:
    """The low anchor of ITU-R BS.1534-3: 3.5 kHz, ripple within 0.1 dB, 25 dB down at 4 kHz and 50 dB at 4.5 kHz."""
    from scipy.signal import ellip, sosfilt

    return np.asarray(sosfilt(ellip(10, 0.1, 60, 3500, fs=SAMPLE_RATE, output="sos"), sound), np.float32)


def _new_name(folder: Path, suffix: str) -> Path:
    return folder / f"{secrets.token_hex(12)}{suffix}"


def write_sound(folder: Path, sound: np.ndarray) -> str:
    """Write sound, (samples,) or (samples, channels) at `SAMPLE_RATE`, as AAC; returns the file's name."""
    channels = np.asarray(sound, np.float32)
    channels = channels[:, None] if channels.ndim == 1 else channels
    position = 0

    def take(count: int) -> np.ndarray:
        nonlocal position
        block = np.ascontiguousarray(channels[position : position + count].T)
        position += count
        return block

    out = _new_name(folder, ".m4a")
    with whole_file(out) as partial, Mp4Writer(partial) as writer:
        writer.add_aac(SAMPLE_RATE, channels.shape[1], take)
        writer.sound_until(len(channels), last=True)
    return out.name


def cut_picture(piece: Piece, seconds: float, out: Path) -> float:
    """Write the first `seconds` of a film as H.264 for browsers; returns its length to the nearest frame, s.

    Raises:
        MediaError: the film cannot be read or is shorter.
    """
    done = cut(piece.path, piece.start_s, piece.start_s + seconds, out, max_height=_MAX_HEIGHT)
    return done.duration_s


def write_film(folder: Path, picture: Path, sound: np.ndarray) -> str:
    """Write a film's picture with new sound at `SAMPLE_RATE`; returns the file's name."""
    out = _new_name(folder, ".mp4")
    mux_audio(picture, sound, SAMPLE_RATE, out)
    return out.name
