"""The pulse of a dance: tempo and phase read from the dancer's motion alone, and a drum pattern played on it.

What a rule of a few lines hears in a dance is the least that a system has to beat: see `baselines`. Not for motion
beats one by one (`metrics.alignment`), nor for music's beats (`clip_features`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiktok_dm.benchmark.metrics.alignment import joint_speed
from tiktok_dm.schema import POSE_FPS, SAMPLE_RATE

SLOWEST_BPM, FASTEST_BPM = 60.0, 200.0
_USUAL_BPM, _OCTAVES = 118.0, 0.6
"""Weight of a tempo: log-normal about the usual one, as wide as so many octaves (Ellis, J. New Music Res. 36, 2007)."""
_SMOOTHING_S = 0.02
_TREND_S = 0.3
_STEPS = 400
_HARMONIC = 0.5


@dataclass(frozen=True)
class DancePulse:
    """A steady pulse.

    Args:
        bpm: beats a minute.
        first_s: time of the first beat, from 0 to one period.
    """

    bpm: float
    first_s: float

    def beats_s(self, seconds: float) -> np.ndarray:
        """Its beats in a dance of so many seconds, s, ascending."""
        return np.arange(self.first_s, seconds, 60 / self.bpm)


def stillness(pose: np.ndarray, fps: float = POSE_FPS) -> np.ndarray | None:
    """How still the lead dancer is beside the moments before and after, (frames - 1,); None where too little is seen.

    Minus the logarithm of the mean joint speed, smoothed over 20 ms, less its mean over 0.3 s: dancers hit poses on
    beats, and a logarithm makes a small move's beats count like a large one's. Value k lies at (k + 1/2) / fps s.

    Args:
        pose: (frames, 25, 3): x px, y px, confidence.
        fps: poses a second.
    """
    from scipy.ndimage import gaussian_filter1d

    if len(pose) < 3:
        return None
    speed = joint_speed(pose, fps)
    seen = np.isfinite(speed)
    if seen.sum() < fps or not speed[seen].max() > 0:
        return None
    place = np.arange(len(speed))
    speed = np.interp(place, place[seen], speed[seen])
    speed = gaussian_filter1d(speed, _SMOOTHING_S * fps, mode="nearest")
    still = -np.log(speed + 0.05 * np.median(speed) + 1e-9)
    still -= gaussian_filter1d(still, _TREND_S * fps, mode="nearest")
    still[~seen] = 0
    return still


def dance_pulse(pose: np.ndarray, fps: float = POSE_FPS) -> DancePulse | None:
    """The steady pulse on which a dancer is stillest; None where nothing pulses, or too little is seen.

    Over tempi from 60 to 200 a minute, the strength of a tempo is the length of the stillness's Fourier component there
    and half of the one at twice the tempo, as far as both agree in phase, times the weight of usual tempi.

    Args:
        pose: of one dancer, see `stillness`.
    """
    still = stillness(pose, fps)
    if still is None or not still.any():
        return None
    times = (np.arange(len(still)) + 0.5) / fps
    window = np.hanning(len(still) + 2)[1:-1]
    tempi = np.geomspace(SLOWEST_BPM, FASTEST_BPM, _STEPS)
    turns = np.exp(-2j * np.pi * times[None, :] * tempi[:, None] / 60)
    first = turns @ (still * window)
    second = (turns**2) @ (still * window)
    weight = np.exp(-0.5 * (np.log2(tempi / _USUAL_BPM) / _OCTAVES) ** 2)
    # A beat's stillness is narrow: its second harmonic has a crest where the first has one.
    agreeing = (second * np.conj(first) ** 2).real / np.maximum(np.abs(first) ** 2, 1e-12)
    strength = (np.abs(first) + _HARMONIC * np.maximum(agreeing, 0)) * weight
    best = int(strength.argmax())
    if not strength[best] > 0:
        return None
    period = 60 / float(tempi[best])
    phase = -np.angle(first[best]) / (2 * np.pi)  # crest where 2 pi f t + angle = 0
    return DancePulse(60 / period, float(phase % 1) * period)


def drum_beat(pulse: DancePulse, samples: int) -> np.ndarray:
    """A kick on each beat of a pulse and a closed hat halfway between, float32 (samples,) at 22,050 Hz, peak 0.9."""
    sound = np.zeros(samples)
    half = 30 / pulse.bpm
    time = np.arange(round(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    # A sine that falls from 150 to 50 Hz within 30 ms, as drum machines make a kick; noise above 7 kHz for the hat.
    kick = np.sin(2 * np.pi * (50 * time + 100 * 0.03 * (1 - np.exp(-time / 0.03)))) * np.exp(-time / 0.08)
    noise = np.diff(np.random.default_rng(0).standard_normal(len(time) + 1))
    hat = 0.06 * noise * np.exp(-time / 0.02)
    for at_s, drum in [(beat, kick) for beat in pulse.beats_s(samples / SAMPLE_RATE)] + [
        (beat + half, hat) for beat in pulse.beats_s(samples / SAMPLE_RATE)
    ]:
        start = round(at_s * SAMPLE_RATE)
        part = drum[: max(0, samples - start)]
        sound[start : start + len(part)] += part
    peak = float(np.abs(sound).max(initial=0))
    return (0.9 / peak * sound if peak > 0 else sound).astype(np.float32)


def clicks_at(times_s: np.ndarray, samples: int) -> np.ndarray:
    """A click at each time, float32 (samples,) at 22,050 Hz: 1,000 Hz, dying away within 20 ms, peak about 0.7."""
    sound = np.zeros(samples, np.float32)
    time = np.arange(round(0.02 * SAMPLE_RATE)) / SAMPLE_RATE
    click = (np.sin(2 * np.pi * 1000 * time) * np.exp(-200 * time)).astype(np.float32)
    for at_s in times_s:
        start = round(at_s * SAMPLE_RATE)
        part = click[: max(0, samples - start)]
        sound[start : start + len(part)] += part
    return sound
