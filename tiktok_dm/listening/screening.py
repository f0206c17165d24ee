"""Sounds and clips of this project's own: volume check, headphone check, practice. Not rated for a study.

The headphone check is the one of Woods, Siegel, Traer and McDermott ("Headphone screening to facilitate web-based
auditory experiments", 2017): of three 200-Hz tones one is 6 dB quieter and one has its right channel inverted, which
loudspeakers and a phone's single one cancel, so that it seems the quietest there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tiktok_dm.listening.stimuli import SAMPLE_RATE
from tiktok_dm.media import write_video

_TONE_S, _GAP_S, _RAMP_S = 0.8, 0.3, 0.1
_TONE_HZ, _TONE_LEVEL, _QUIETER_DB = 200.0, 0.2, 6.0
_PIP_HZ, _PIP_S, _PIP_EVERY_S = 1000.0, 0.15, 0.55
_BEAT_S = 0.5
_FPS = 30


def _tone(hz: float, seconds: float, ramp_s: float) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    edge = np.clip(np.minimum(t, t[-1] - t) / ramp_s, 0, 1)
    return np.sin(2 * np.pi * hz * t) * np.sin(np.pi / 2 * edge) ** 2


def headphone_sound(quietest: int, inverted: int) -> np.ndarray:
    """Three tones, float32 (samples, 2).

    Args:
        quietest: place (1 to 3) of the tone that is 6 dB quieter: the right answer.
        inverted: place of the tone with its right channel inverted.

    Raises:
        ValueError: the same place, or one out of range.
    """
    if quietest == inverted or not {quietest, inverted} <= {1, 2, 3}:
        raise ValueError(f"places {quietest} and {inverted} are not two of 1, 2, 3")
    parts = []
    for place in (1, 2, 3):
        tone = _tone(_TONE_HZ, _TONE_S, _RAMP_S) * _TONE_LEVEL
        if place == quietest:
            tone = tone * 10 ** (-_QUIETER_DB / 20)
        parts += [np.stack([tone, -tone if place == inverted else tone], axis=1)]
        parts += [np.zeros((round(_GAP_S * SAMPLE_RATE), 2))]
    return np.concatenate(parts).astype(np.float32)


def volume_sound(tones: int, level: float = 0.02) -> np.ndarray:
    """So many short quiet tones, float32 (samples,); `level` is their amplitude, 14 dB below a clip at -23 LUFS."""
    pip = _tone(_PIP_HZ, _PIP_S, 0.02) * level
    sound = np.zeros(round((0.4 + 5 * _PIP_EVERY_S) * SAMPLE_RATE))
    for k in range(tones):
        at = round((0.3 + k * _PIP_EVERY_S) * SAMPLE_RATE)
        sound[at : at + len(pip)] += pip
    return sound.astype(np.float32)


def practice_sound(seconds: float, beat_s: float = _BEAT_S) -> np.ndarray:
    """A plain tune with a soft stroke on every beat, float32 (samples,)."""
    sound = np.zeros(round(seconds * SAMPLE_RATE))
    for k in range(int(seconds / beat_s) + 1):
        note = 220.0 * 2 ** ((0, 7, 4, 12)[k % 4] / 12)
        t = np.arange(round(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
        stroke = (np.sin(2 * np.pi * note * t) + 0.4 * np.sin(4 * np.pi * note * t)) * np.exp(-t / 0.12)
        stroke *= np.clip(t / 0.004, 0, 1)
        at = round(k * beat_s * SAMPLE_RATE)
        end = min(len(sound), at + len(stroke))
        sound[at:end] += 0.3 * stroke[: end - at]
    return sound.astype(np.float32)


def practice_film(out: Path, seconds: float, size: tuple[int, int] = (480, 270)) -> None:
    """A ball that touches the floor on every beat of `practice_sound`."""

    def pictures() -> Iterator[np.ndarray]:
        width, height = size
        y, x = np.mgrid[0:height, 0:width]
        radius, floor = height / 9, height * 0.84
        for k in range(round(seconds * _FPS)):
            phase = k / _FPS / _BEAT_S % 1
            centre = floor - radius - 4 * phase * (1 - phase) * height * 0.5
            picture = np.full((height, width, 3), (236, 232, 224), np.uint8)
            picture[round(floor) :] = (214, 208, 197)
            picture[(x - width / 2) ** 2 + (y - centre) ** 2 < radius**2] = (13, 110, 110)
            yield picture

    write_video(out, pictures(), _FPS)
