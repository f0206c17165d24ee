"""Whether the music goes on over an instant, or something else begins there.

Where the picture may change, the sound on both sides is compared: its colour and its harmony over two seconds, and how
abruptly it changes at that very instant, against how it changes nearby anyway. Evidence about one instant only: which
clips share a song is the matter of `songs`, and instants at which only the music changes are no business of a program
that cuts pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.schema import SAMPLE_RATE

Array = NDArray[np.float32]

REACH_S = 2.0  # on either side: a bar of most dance music
_GAP_S = 0.03  # left out beside the instant: codecs smear over this much
_HOP = 256
_SHORT, _LONG = 1024, 4096
_SILENT = 1e-3  # root mean square: 60 dB below full scale
# Log-odds that the music changes, in the order of `Music`: logistic regression on 3,511 instants of 270 compilations of
# nine kinds (`benchmarks/unseen.py fit`), both answers weighed alike. On dancers and songs left out of the fit, the
# area under the curve is 0.92.
_WEIGHTS = np.array([4.05, 7.3, 0.99, 2.9, 2.83])
_OFFSET = -4.12
_SUREST = 3.0  # log-odds: no sound alone is surer than 95 %
_ONE_SIDE = 0.05  # probability of going on where one side is silent, or what lies between them


@dataclass(frozen=True)
class Music:
    """Sound on both sides of an instant, in numbers; see `features`."""

    colour: float  # distance of the mean spectra, in standard deviations over time
    harmony: float  # 1 - cosine of the mean chroma
    abrupt: float  # log of the change of the spectrum at the instant over the usual one
    tones: float  # how much less the partials go on than they usually do
    level: float  # change of loudness, in units of 6 dB, at most 4

    def vector(self) -> NDArray[np.float64]:
        return np.array([self.colour, self.harmony, self.abrupt, self.tones, self.level])


def runs_on(
    sound: Array, at_s: float, fade_s: float = 0.0, limits_s: tuple[float, float] | None = None
) -> float | None:
    """Probability, 0..1, that what is heard before an instant goes on after it.

    Args:
        sound: mono at `schema.SAMPLE_RATE`, from the source's first instant on.
        at_s: the instant, s.
        fade_s: how long the picture takes to change about it, s. Music that changes with it may be mixed or silent in
            there, so what is heard before is held against what is heard after, as far apart.
        limits_s: nothing before the first and after the second is heard: another change lies there.

    Returns:
        None where nothing can be said: no sound, silence on both sides, or less than half a second on one of them.
    """
    found = features(sound, at_s, fade_s, limits_s)
    if found is None:
        return None
    if isinstance(found, float):
        return found
    return probability(found)


def probability(found: Music, weights: NDArray[np.float64] | None = None, offset: float | None = None) -> float:
    """Probability, 0..1, that music of these numbers goes on; with other coefficients where they are being fitted."""
    weights, offset = (_WEIGHTS if weights is None else weights), (_OFFSET if offset is None else offset)
    odds = float(np.clip(found.vector() @ weights + offset, -_SUREST, _SUREST))
    return 1 / (1 + float(np.exp(odds)))


def features(
    sound: Array, at_s: float, fade_s: float = 0.0, limits_s: tuple[float, float] | None = None
) -> Music | float | None:
    """Numbers about an instant; a probability where one side is silent; None where nothing can be said.

    Args as of `runs_on`.
    """
    at = round(at_s * SAMPLE_RATE)
    reach = round((REACH_S + fade_s / 2) * SAMPLE_RATE)
    gap = round((_GAP_S + fade_s / 2) * SAMPLE_RATE)
    first, last = (0, len(sound)) if limits_s is None else (round(one * SAMPLE_RATE) for one in limits_s)
    low, high = max(0, first, at - reach), min(len(sound), last, at + reach)
    if min(at - low, high - at) - round(fade_s / 2 * SAMPLE_RATE) < SAMPLE_RATE // 2:
        return None
    around = np.asarray(sound[low:high], np.float32)
    middle = at - low
    before, after = around[: middle - gap], around[middle + gap :]
    loud_b, loud_a = (float(np.sqrt(np.mean(side[-SAMPLE_RATE:] ** 2))) for side in (before, after[::-1]))
    if max(loud_b, loud_a) < _SILENT:
        return None
    if min(loud_b, loud_a) < _SILENT:
        return _ONE_SIDE
    within = around[middle - gap // 2 : middle + gap // 2]
    if fade_s >= _LONG / SAMPLE_RATE and float(np.sqrt(np.mean(within**2))) < _SILENT:
        return _ONE_SIDE  # music that goes on does not fall silent while the picture changes
    short, long = _spectra(around)
    frame = middle / _HOP
    where = np.arange(len(short)) - frame  # hops from the instant
    near = gap / _HOP
    fade = round(fade_s / 2 * SAMPLE_RATE / _HOP)  # hops on either side that belong to the change
    spread = np.concatenate([short[where < -near], short[where > near]]).std(0) + 0.5
    colour = float(np.abs((short[where > near].mean(0) - short[where < -near].mean(0)) / spread).mean())
    chroma = long @ _pitch_classes()
    cb, ca = chroma[where < -8 - fade].mean(0), chroma[where > 8 + fade].mean(0)
    harmony = 1 - float(cb @ ca / (np.linalg.norm(cb) * np.linalg.norm(ca) + 1e-9))

    # The change over an instant, everywhere: mean of some frames before against some frames after.
    def change(values: Array, width: int, skip: int) -> Array:
        total = np.cumsum(np.concatenate([np.zeros((1, values.shape[1]), np.float64), values]), 0)
        k = np.arange(len(values))
        ok = (k - skip - width >= 0) & (k + skip + width < len(values))
        result = np.full(len(values), np.nan)
        left = total[k[ok] - skip] - total[k[ok] - skip - width]
        right = total[k[ok] + skip + width] - total[k[ok] + skip]
        result[ok] = np.abs(left - right).mean(1) / width
        return result

    jumps = change(short, 5, 2 + fade)
    here = np.abs(where) <= 2
    apart = (np.abs(where) > 12 + 2 * fade) & np.isfinite(jumps)
    abrupt = float(np.log((np.nanmax(jumps[here]) + 0.1) / (np.quantile(jumps[apart], 0.75) + 0.1)))

    fine = np.log(long[:, 10:400] + 1e-3)
    fine = fine - fine.mean(1, keepdims=True)
    fine /= np.linalg.norm(fine, axis=1, keepdims=True) + 1e-6
    lag = 16 + 2 * fade  # hops: 0.19 s beside the fade, so that the windows do not overlap
    goes_on = np.full(len(fine), np.nan)
    half = lag // 2
    goes_on[half : len(fine) - half] = (fine[:-lag] * fine[lag:]).sum(1)
    apart = (np.abs(where) > 16 + 2 * fade) & np.isfinite(goes_on)
    tones = float(np.median(goes_on[apart]) - np.nanmean(goes_on[np.abs(where) <= 1]))
    level = min(4.0, abs(float(np.log2(loud_a / loud_b))))
    return Music(colour, harmony, abrupt, tones, level)


@lru_cache(maxsize=1)
def _bands() -> Array:
    """Triangles, 24 of them, evenly spaced in mel (O'Shaughnessy 1987) from 40 Hz to 10 kHz, (bins, 24)."""
    edges = 700 * (10 ** (np.linspace(2595 * np.log10(1 + 40 / 700), 2595 * np.log10(1 + 1e4 / 700), 26) / 2595) - 1)
    frequency = np.fft.rfftfreq(_SHORT, 1 / SAMPLE_RATE)[:, None]
    rise = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


@lru_cache(maxsize=1)
def _pitch_classes() -> Array:
    """(bins, 12): which pitch class each bin between 65 Hz and 2 kHz belongs to."""
    frequency = np.fft.rfftfreq(_LONG, 1 / SAMPLE_RATE)
    table = np.zeros((len(frequency), 12), np.float32)
    inside = np.flatnonzero((frequency > 65) & (frequency < 2000))
    table[inside, np.round(12 * np.log2(frequency[inside] / 440)).astype(int) % 12] = 1
    return table


def _spectra(sound: Array) -> tuple[Array, Array]:
    """(log energy in mel bands (frames, 24), magnitudes of a long window (frames, bins)), both centred on hops."""
    results = []
    for size in (_SHORT, _LONG):
        padded = np.pad(sound, (size // 2, size // 2))
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::_HOP]
        results.append(np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)).astype(np.float32))
    return np.log(results[0] ** 2 @ _bands() + 1e-3), results[1]
