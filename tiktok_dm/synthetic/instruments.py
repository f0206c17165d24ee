"""One-shot sounds for the demo's songs: drums, basses, chords, leads, and a room. Mono float32 at 44.1 kHz.

Tones are read from wavetables that hold only harmonics below 14 kHz, so that nothing aliases. Not for what is played
when (`music`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import signal

SAMPLE_RATE = 44_100
_TABLE = 2048


def hertz(midi: float) -> float:
    """Frequency of a MIDI note number (69 = 440 Hz)."""
    return 440.0 * 2 ** ((midi - 69) / 12)


def _time(seconds: float) -> np.ndarray:
    return np.arange(max(int(seconds * SAMPLE_RATE), 64)) / SAMPLE_RATE


@lru_cache(maxsize=512)
def _table(shape: str, midi: float, cutoff_hz: float) -> np.ndarray:
    """One period of a wave with a 12 dB per octave low-pass at `cutoff_hz`, plus its first sample."""
    f0 = hertz(midi)
    k = np.arange(1, max(2, int(min(14_000 / f0, _TABLE // 2 - 1)) + 1))
    amplitude = np.where(k % 2 == 1, 1 / k, 0.0) if shape == "square" else 1 / k
    amplitude = amplitude / (1 + (k * f0 / cutoff_hz) ** 2)
    spectrum = np.zeros(_TABLE // 2 + 1, complex)
    spectrum[k] = -1j * amplitude
    wave = np.fft.irfft(spectrum)
    wave /= np.abs(wave).max()
    return np.append(wave, wave[0])


def _tone(shape: str, midi: float, t: np.ndarray, cutoff_hz: float, vibrato: float = 0.0) -> np.ndarray:
    phase = hertz(midi) * t
    if vibrato:
        phase = phase + vibrato * hertz(midi) / 5.3 * (1 - np.cos(2 * np.pi * 5.3 * t)) / (2 * np.pi)
    return np.interp((phase % 1) * _TABLE, np.arange(_TABLE + 1), _table(shape, midi, cutoff_hz))


def _envelope(t: np.ndarray, attack: float, decay: float, sustain: float, release: float) -> np.ndarray:
    rise = np.minimum(t / attack, 1)
    fall = sustain + (1 - sustain) * np.exp(-np.maximum(t - attack, 0) / decay)
    return rise * fall * np.minimum((t[-1] - t) / release, 1)


def _noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng([count, seed]).standard_normal(count)


def _band(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return signal.sosfilt(signal.butter(2, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos"), x)


def kick(seconds: float = 0.32, deep: float = 48.0) -> np.ndarray:
    """A sine that falls from 170 Hz, with a click."""
    t = _time(seconds)
    phase = deep * t + (170 - deep) * 0.028 * (1 - np.exp(-t / 0.028))
    body = np.sin(2 * np.pi * phase) * np.exp(-t / (seconds * 0.38))
    click = _band(_noise(len(t), 1), 1500, 6000) * np.exp(-t / 0.004) * 0.25
    return np.tanh(1.6 * (body + click)) * np.minimum((t[-1] - t) / 0.02, 1)


def snare(kind: str, tone_hz: float = 190.0) -> np.ndarray:
    """`snare` (skin and wires), `clap` (four hands) or `rim` (a dry stick)."""
    if kind == "rim":
        t = _time(0.16)
        stick = np.sin(2 * np.pi * 1.9 * tone_hz * t) * np.exp(-t / 0.022)
        return 0.8 * stick + 0.45 * _band(_noise(len(t), 2), 1200, 7000) * np.exp(-t / 0.035)
    t = _time(0.28)
    if kind == "clap":
        hands = sum(np.where(t >= d, np.exp(-np.maximum(t - d, 0) / w), 0)
                    for d, w in ((0, 0.008), (0.010, 0.008), (0.021, 0.008), (0.030, 0.075)))  # fmt: skip
        return 0.75 * _band(_noise(len(t), 3), 900, 5200) * hands
    skin = np.sin(2 * np.pi * tone_hz * t * (1 + 0.3 * np.exp(-t / 0.015))) * np.exp(-t / 0.07)
    wires = _band(_noise(len(t), 4), 1300, 9000) * np.exp(-t / 0.085)
    return 0.7 * skin + 0.6 * wires


def hat(seconds: float, seed: int = 5) -> np.ndarray:
    """Closed (0.05 s) to open (0.3 s) cymbals."""
    t = _time(seconds)
    return 0.5 * _band(_noise(len(t), seed), 6500, 14_000) * np.exp(-t / (seconds * 0.33))


def crash() -> np.ndarray:
    """A long cymbal for the start of a section."""
    t = _time(1.6)
    return 0.45 * _band(_noise(len(t), 6), 3500, 13_000) * np.exp(-t / 0.45)


def conga(high: float) -> np.ndarray:
    """A hand drum; `high` in Hz."""
    t = _time(0.2)
    return 0.8 * np.sin(2 * np.pi * high * t * (1 + 0.12 * np.exp(-t / 0.02))) * np.exp(-t / 0.055)


def _sub(midi: float, seconds: float) -> np.ndarray:
    t = _time(seconds)
    f = hertz(midi)
    sine = np.sin(2 * np.pi * (f * t + 0.25 * f * 0.02 * (1 - np.exp(-t / 0.02))))
    return np.tanh(1.7 * sine * _envelope(t, 0.004, 0.5, 0.25, 0.03)) * 0.9


def _bass(shape: str) -> Callable[[float, float], np.ndarray]:
    def play(midi: float, seconds: float) -> np.ndarray:
        t = _time(seconds)
        bright = np.exp(-t / 0.09)
        wave = bright * _tone(shape, midi, t, 1500) + (1 - bright) * _tone(shape, midi, t, 420)
        return wave * _envelope(t, 0.004, 0.3, 0.5, 0.015)

    return play


def _pluck(shape: str, decay: float, cutoff_hz: float) -> Callable[[float, float], np.ndarray]:
    def play(midi: float, seconds: float) -> np.ndarray:
        t = _time(min(seconds + 0.12, 1.2))
        bright = np.exp(-t / (0.35 * decay))
        wave = bright * _tone(shape, midi, t, cutoff_hz) + (1 - bright) * _tone(shape, midi, t, cutoff_hz / 5)
        return wave * _envelope(t, 0.003, decay, 0.0, 0.02)

    return play


def _held(shape: str, cutoff_hz: float, attack: float, detune: float, vibrato: float = 0.0):
    def play(midi: float, seconds: float) -> np.ndarray:
        t = _time(seconds + 0.08)
        wave = sum(_tone(shape, midi + d, t, cutoff_hz, vibrato) for d in (-detune, 0.0, detune)) / 2.2
        return wave * _envelope(t, attack, 0.8, 0.7, 0.08)

    return play


def _frequency_modulated(ratio: float, index: float, decay: float, sustain: float = 0.0):
    def play(midi: float, seconds: float) -> np.ndarray:
        t = _time(min(seconds + 0.25, 2.0))
        f = hertz(midi)
        modulator = index * np.exp(-t / (0.4 * decay)) * np.sin(2 * np.pi * ratio * f * t)
        return np.sin(2 * np.pi * f * t + modulator) * _envelope(t, 0.003, decay, sustain, 0.1)

    return play


def _flute(midi: float, seconds: float) -> np.ndarray:
    t = _time(seconds + 0.05)
    breath = 0.05 * _band(_noise(len(t), 7), 1500, 5000)
    return (_tone("square", midi, t, 900, 0.006) + breath) * _envelope(t, 0.04, 0.5, 0.8, 0.06)


INSTRUMENTS: dict[str, Callable[[float, float], np.ndarray]] = {
    "sub": _sub,
    "saw": _bass("saw"),
    "square": _bass("square"),
    "organ": _held("square", 1600, 0.006, 0.04),
    "stab": _pluck("saw", 0.16, 4200),
    "keys": _frequency_modulated(1.0, 1.1, 0.9, 0.15),
    "guitar": _pluck("saw", 0.11, 5200),
    "pluck": _pluck("square", 0.22, 3800),
    "arpeggio": _pluck("saw", 0.17, 3600),
    "pad": _held("saw", 1100, 0.16, 0.09),
    "strings": _held("saw", 2600, 0.05, 0.07, 0.004),
    "brass": _held("saw", 2200, 0.025, 0.03),
    "bell": _frequency_modulated(3.5, 1.6, 0.7),
    "marimba": _frequency_modulated(4.0, 0.7, 0.22),
    "flute": _flute,
    "lead": _held("square", 2800, 0.01, 0.05, 0.005),
}  # fmt: skip


def room(x: np.ndarray, seconds: float = 0.9, seed: int = 8) -> np.ndarray:
    """What a small hall answers: exponentially decaying noise between 250 and 6,000 Hz, as long as `x`."""
    count = int(seconds * SAMPLE_RATE)
    t = np.arange(count) / SAMPLE_RATE
    tail = _band(_noise(count, seed), 250, 6000) * np.exp(-t / (seconds / 5)) * np.minimum(t / 0.012, 1)
    tail = (tail / np.sqrt((tail**2).sum())).astype(np.float32)
    return signal.oaconvolve(x.astype(np.float32), tail)[: len(x)]
