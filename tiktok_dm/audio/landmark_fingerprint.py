"""Is this sound a piece of that one? An audio fingerprint of spectral peaks and the search for one in many.

Landmark hashes after Wang (ISMIR 2003): the peaks of a spectrogram, in pairs, each pair a hash of two frequencies and
the time between them. A copy keeps many pairs at one constant offset, whatever its gain, its coding and a moderate
noise; another recording keeps few, and at scattered offsets. For copied training clips and for near-duplicate songs.
Not for cover versions, transpositions or other performances of one song, and not for likeness (`embedders`).

A copy at another speed is not found as it stands. Whoever looks for one fingerprints it as if recorded at another rate:
`fingerprint(audio, sample_rate * speed)` slows sped-up sound down again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tiktok_dm.errors import UserError

VERSION = "1"  # of hashes and scores; changes with any number below

RATE = 11_025  # Hz; above 5.5 kHz lies little that coding and noise leave in place
N_FFT = 1024
HOP = 128  # 11.6 ms
FLOOR_DB = 60.0  # peaks this far below the loudest one are left out
SPREAD_BINS, SPREAD_FRAMES = 16, 8  # a peak is the greatest value this far around it
DENSITY = 30  # at most so many peaks in the second around one
FAN_OUT = 8  # pairs that start in one peak
LEAST_GAP, MOST_GAP, MOST_STEP = 4, 100, 60  # of a pair: frames, frames, bins
LEAST_OVERLAP_S = 1.5  # of two sounds, where neither is shorter; less proves nothing
PRIOR = 20  # hashes that a score counts as missed besides those that are
_CLOSER_LOOKS = 15  # sounds of an index that are scored besides those asked for
SILENCE = 1e-4  # -80 dBFS: sound whose loudest sample stays below has no fingerprint
FOUND = 0.25
"""A score from which on a sound counts as a copy.

Measured on 36 synthetic songs' clips and 20 of real songs: clips of different songs reach 0.17 (two synthetic house
tracks of one tempo that share their drum sounds; real ones 0.02); whole clips that are copied keep 0.36 with noise at
-30 dB, 0.45 after AAC at 64 kbit/s, 0.8 after a shift. Excerpts of two seconds that are coded at 24 kbit/s may fall
below it.
"""


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of a sound.

    Args:
        hashes: uint32 (n,), sorted: first bin, step in bins, gap in frames.
        frames: int32 (n,), the first peak's frame of each; a frame is `HOP / RATE` = 11.6 ms.
        duration_s: of the sound.
    """

    hashes: np.ndarray
    frames: np.ndarray
    duration_s: float

    def __len__(self) -> int:
        return len(self.hashes)


class Match(NamedTuple):
    """How much of two sounds is the same.

    Args:
        score: 0..1, the share of hashes in their overlap that agree at one offset; see `match`.
        offset_s: second of the second sound at which the first one starts, negative if it starts before; nan if the
            score is 0.
    """

    score: float
    offset_s: float


def fingerprint(audio: np.ndarray, sample_rate: float) -> Fingerprint:
    """Fingerprint of mono audio (samples,) at `sample_rate` Hz; silence and sounds under 0.2 s have an empty one.

    Raises:
        UserError: the audio is not mono or not finite.
    """
    if audio.ndim != 1:
        raise UserError(f"a fingerprint is made of mono sound (samples,), and this has the shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise UserError("the sound holds values that are not finite: make the clip again")
    duration = len(audio) / sample_rate
    frames, bins = _peaks(audio, sample_rate)
    hashes, starts = _pairs(frames, bins)
    order = np.lexsort((starts, hashes))
    return Fingerprint(hashes[order], starts[order], duration)


def match(a: Fingerprint, b: Fingerprint) -> Match:
    """Whether `a` is found in `b`, or `b` in `a`, at one offset.

    A hash of `a` agrees with one of `b` when the two frequencies are equal and the gap differs by one frame at most.
    The offset is the one at which most hashes of `a` agree, within a frame. The score is their number over the number
    of hashes that the sound with fewer of them has in the overlap, plus 20; an overlap of less than 1.5 s (or of nine
    tenths of the shorter sound) is no match.
    """
    return Index([("b", b)]).search(a)[1]


class Index:
    """Fingerprints of many sounds, in which one is searched in milliseconds.

    Args:
        sounds: (id, fingerprint); ids are unique.
    """

    def __init__(self, sounds: Iterable[tuple[str, Fingerprint]]) -> None:
        self._sounds = list(sounds)
        prints = [found for _, found in self._sounds]
        hashes = np.concatenate([p.hashes for p in prints]) if prints else np.zeros(0, np.uint32)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._owners = np.repeat(np.arange(len(prints)), [len(p) for p in prints])[order]
        self._frames = (np.concatenate([p.frames for p in prints]) if prints else np.zeros(0, np.int32))[order]

    def search(self, query: Fingerprint) -> tuple[str | None, Match]:
        """The sound that matches `query` best, and how (`match(query, sound)`); None where none does."""
        ranked = self.search_all(query, most=1)
        return ranked[0] if ranked else (None, Match(0.0, float("nan")))

    def search_all(self, query: Fingerprint, *, most: int = 10) -> list[tuple[str, Match]]:
        """Up to `most` sounds that match at all, best first."""
        rows, places = self._agreeing(query)
        if not len(rows):
            return []
        owners = self._owners[places]
        shifts = self._frames[places].astype(np.int64) - query.frames[rows]
        found = []
        for owner in self._candidates(owners, shifts, most):
            mine = owners == owner
            best = self._best(query, owner, rows[mine], shifts[mine])
            if best.score > 0:
                found.append((owner, best))
        found.sort(key=lambda item: (-item[1].score, item[0]))
        return [(self._sounds[owner][0], best) for owner, best in found[:most]]

    def _candidates(self, owners: np.ndarray, shifts: np.ndarray, most: int) -> list[int]:
        """Sounds worth a closer look: those with most agreeing hashes at a single shift."""
        span = int(shifts.max() - shifts.min()) + 1
        keys, counts = np.unique(owners * span + (shifts - shifts.min()), return_counts=True)
        best = np.zeros(len(self._sounds), np.int64)
        np.maximum.at(best, keys // span, counts)
        order = np.argsort(-best, kind="stable")[: most + _CLOSER_LOOKS]
        return [int(owner) for owner in order if best[owner]]

    def _agreeing(self, query: Fingerprint) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (row of the query, place in the index) whose hashes agree."""
        rows, places = [], []
        for change in (-1, 0, 1):  # of the gap, which is the hash's last digits
            wanted = (query.hashes.astype(np.int64) + change).astype(self._hashes.dtype)
            low, high = np.searchsorted(self._hashes, wanted, "left"), np.searchsorted(self._hashes, wanted, "right")
            counts = high - low
            rows.append(np.repeat(np.arange(len(wanted)), counts))
            places.append(np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum()))
        return np.concatenate(rows), np.concatenate(places)

    def _best(self, query: Fingerprint, owner: int, rows: np.ndarray, shifts: np.ndarray) -> Match:
        sound = self._sounds[owner][1]
        low = int(shifts.min())
        # A hash may agree at several places: count it once an offset, and a shift with its two neighbours.
        once = np.unique(np.stack([rows, shifts - low]), axis=1)[1]
        counts = np.bincount(once, minlength=3)
        # Its own count breaks ties, so that the middle of three neighbours wins.
        near = np.convolve(counts, np.ones(3), "same") + counts / (counts.sum() + 1)
        best = Match(0.0, float("nan"))
        # Offsets at which the two hardly meet are no copy of anything.
        ends = np.minimum(_frames_of(query), _frames_of(sound) - low - np.arange(len(near)))
        overlap = ends - np.maximum(0, -low - np.arange(len(near)))
        least = min(LEAST_OVERLAP_S * RATE / HOP, 0.9 * _frames_of(query), 0.9 * _frames_of(sound))
        near = np.where(overlap >= least, near, 0)
        for shift in np.argsort(-near, kind="stable")[:3] + low:
            if not near[shift - low]:
                break
            agreed = len(np.unique(rows[np.abs(shifts - shift) <= 1]))
            ours = _between(query, -shift, -shift + _frames_of(sound))
            theirs = _between(sound, shift, shift + _frames_of(query))
            score = min(1.0, agreed / (min(ours, theirs) + PRIOR))
            if score > best.score:
                best = Match(float(score), float(shift * HOP / RATE))
        return best


def _frames_of(sound: Fingerprint) -> int:
    return int(sound.duration_s * RATE / HOP)


def _between(sound: Fingerprint, first: int, last: int) -> int:
    """How many hashes start in frames `first` to `last`, with one frame of grace."""
    return int(((sound.frames >= first - 1) & (sound.frames <= last + 1)).sum())


def _peaks(audio: np.ndarray, sample_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames and bins of the spectrogram's peaks, in order of time."""
    import soxr
    from scipy.ndimage import maximum_filter

    none = np.zeros(0, np.int64)
    if len(audio) < N_FFT or np.abs(audio).max() < SILENCE:
        return none, none
    sound = np.asarray(audio, np.float64)
    sound = soxr.resample(sound, sample_rate, RATE, quality="HQ") if sample_rate != RATE else sound
    if len(sound) < 2 * N_FFT:
        return none, none
    # The difference weighs frequencies by 6 dB an octave, which levels the fall of music's spectrum.
    frames = np.lib.stride_tricks.sliding_window_view(np.diff(sound), N_FFT)[::HOP]
    decibels = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(N_FFT), axis=1)) + 1e-12)
    size = (2 * SPREAD_FRAMES + 1, 2 * SPREAD_BINS + 1)
    greatest = maximum_filter(decibels, size=size, mode="constant", cval=-np.inf)
    peak = (decibels == greatest) & (decibels > decibels.max() - FLOOR_DB)
    peak[:, :2] = False
    frame, bin_ = np.nonzero(peak)
    level = decibels[frame, bin_]
    half = round(RATE / HOP / 2)
    near = np.abs(frame[:, None] - frame) <= half
    keep = (near & (level > level[:, None])).sum(axis=1) < DENSITY
    return frame[keep], bin_[keep]


def _pairs(frames: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes uint32 (n,) and first frames int32 (n,) of pairs of peaks."""
    hashes, starts = [], []
    for i in range(len(frames)):
        first, last = np.searchsorted(frames, [frames[i] + LEAST_GAP, frames[i] + MOST_GAP + 1])
        step = bins[first:last] - bins[i]
        there = first + np.flatnonzero(np.abs(step) <= MOST_STEP)[:FAN_OUT]
        hashes.append((bins[i] << 14) | ((bins[there] - bins[i] + 64) << 7) | (frames[there] - frames[i]))
        starts.append(np.full(len(there), frames[i]))
    if not hashes:
        return np.zeros(0, np.uint32), np.zeros(0, np.int32)
    return np.concatenate(hashes).astype(np.uint32), np.concatenate(starts).astype(np.int32)
