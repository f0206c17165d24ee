"""Which clips use the same music: an index of sketches that is searched at every usual speed and pitch.

A search has two steps. First, stretches of a second and a half ("patches") of the clip, at each speed and pitch of a
grid, are compared with the patches of all clips by a few dozen numbers each; those that agree vote for a clip, a speed
and an offset. Then the best votes are looked at closely (`song_overlay`), which refines speed, pitch and offset and
gives a confidence. Speed and pitch may change together (played faster), or one alone (time-stretched, transposed).

For the same recording in two clips. Not for grouping clips by song (`song_groups`), nor for the sound itself
(`song_sketch`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tiktok_dm.audio.spectrogram_sketch import (
    BINS,
    BINS_PER_OCTAVE,
    FRAME_RATE,
    Overlay,
    SongSketch,
    edit_of,
    overlay,
    raised,
    unit_frames,
)
from tiktok_dm.errors import UserError

USED, DOUBTFUL = 0.5, 0.1
"""A pair is used from the first confidence on, and told at all from the second."""

_PATCH = 32  # frames, 1.5 s
_HOP_INDEX, _HOP_QUERY = 3, 10  # frames between patches
# Of the cosine transform of a patch over time: up to 2 Hz, so that 0.14 s from patch to patch is enough.
_TIME_TERMS = 6
_NUMBERS = 128  # of a patch
_MOST_BINS = 10  # of speed and pitch, both ways: 2 ** (10 / 24) = 1.33
_LIKE = 0.33  # cosine of two patches from which on they vote; patches of other music stay below in 999 of 1,000
_BOX = 6  # frames of offset whose votes are counted together
_LEAST_VOTES = 0.3
_PLAIN = 1.25  # times the votes of music as it is: the likeliest, and it should win where notes only repeat
_CLOSER_LOOKS, _LOOKS_A_CLIP = 20, 4
_SURE = 4.0  # log-odds from which on a clip needs no other look


@dataclass(frozen=True)
class SameSong:
    """Two clips that may have the same song.

    Args:
        a: key of the clip that was added first.
        b: key of the other; empty for a sketch that is not in the index.
        confidence: 0..1 that both have the same song; from 0.5 on it is used.
        speed: of b's music over a's (1.25: b is played faster).
        offset_s: second of b at which a's start sounds; negative where b starts later in the music.
        overlap_s: seconds of b whose music is found in both.
        reason: in plain words.
        pitch: of b's music over a's (1.06: a semitone higher).
        agreement: 0..1, how alike the two pictures are where they overlap.
    """

    a: str
    b: str
    confidence: float
    speed: float
    offset_s: float
    overlap_s: float
    reason: str
    pitch: float = 1.0
    agreement: float = 0.0


@lru_cache(maxsize=1)
def _grid() -> tuple[tuple[float, int], ...]:
    """(speed, pitch in bins) that a search tries: as it is, both together, speed alone, pitch alone."""
    octave = range(-_MOST_BINS, _MOST_BINS + 1)
    together = {(2 ** (k / BINS_PER_OCTAVE), k) for k in octave}
    speed = {(2 ** (k / BINS_PER_OCTAVE), 0) for k in octave if k % 2 == 0}
    pitch = {(1.0, k) for k in octave}
    return tuple(sorted(together | speed | pitch, key=lambda one: (abs(np.log(one[0])) + abs(one[1]), one)))


@lru_cache(maxsize=1)
def _bases() -> tuple[np.ndarray, np.ndarray]:
    """Cosines over time (32, 6), and a random projection (720, 128)."""
    k, t = np.arange(_TIME_TERMS), np.arange(_PATCH)
    cosines = np.cos(np.pi * k * (t[:, None] + 0.5) / _PATCH) * np.sin(np.pi * (t[:, None] + 0.5) / _PATCH) ** 0.5
    cosines /= np.linalg.norm(cosines, axis=0)
    rng = np.random.default_rng(20)
    projection = rng.standard_normal((BINS * _TIME_TERMS, _NUMBERS)) / np.sqrt(_NUMBERS)
    return cosines.astype(np.float32), projection.astype(np.float32)


def _patches(frames: np.ndarray, hop: int) -> np.ndarray:
    """Numbers (patches, 128) of length one, of frames (frames, 120)."""
    cosines, projection = _bases()
    if len(frames) < _PATCH:
        return np.zeros((0, _NUMBERS), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(frames, _PATCH, axis=0)[::hop]  # (n, 120, 32)
    found = (views.reshape(-1, _PATCH) @ cosines).reshape(len(views), -1) @ projection
    return found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-6)


def _smooth(frames: np.ndarray) -> np.ndarray:
    """Smoothed over bins, so that half a bin of pitch is no loss."""
    out = 0.5 * frames
    out[:, 1:] += 0.25 * frames[:, :-1]
    out[:, :-1] += 0.25 * frames[:, 1:]
    return out


def _slower(frames: np.ndarray, speed: float) -> np.ndarray:
    """Frames of music played `speed` times as fast, at its first speed."""
    if not len(frames):
        return frames
    times = np.arange(int((len(frames) - 1) * speed) + 1) / speed
    low = np.minimum(times.astype(int), len(frames) - 1)
    part = (times - low)[:, None].astype(np.float32)
    return (1 - part) * frames[low] + part * frames[np.minimum(low + 1, len(frames) - 1)]


class SongIndex:
    """Sketches of many clips, in which those with the same music are found without comparing every two.

    A clip of ten seconds takes 60 kB of memory. A search takes a quarter of a second of a core among a thousand clips,
    and grows with their number; adding a clip does not.

    Example:
        >>> from tiktok_dm import SongIndex, decode_audio, open_dataset
        >>> from tiktok_dm.audio.spectrogram_sketch import sketch
        >>> clip = open_dataset("demo")["train"][0]
        >>> samples, rate = decode_audio(clip["audio"])
        >>> index = SongIndex()
        >>> index.add("the clip", sketch(samples, rate))
        >>> [found.a for found in index.search(sketch(samples[rate:-rate], rate))]
        ['the clip']
    """

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._sketches: list[SongSketch] = []
        self._patches = np.zeros((0, _NUMBERS), np.float32)
        self._owners = np.zeros(0, np.int32)
        self._times = np.zeros(0, np.int32)
        self._ends: list[int] = []

    def __len__(self) -> int:
        return len(self._sketches)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def add(self, key: str, sketch: SongSketch) -> None:
        """Take a clip in.

        Raises:
            UserError: a clip of this key is in already.
        """
        if key in self._keys:
            raise UserError(f"clip {key} is in the index of songs already: give each clip once")
        number = len(self._keys)
        self._keys[key] = number
        self._sketches.append(sketch)
        patches = _patches(_smooth(unit_frames(sketch)), _HOP_INDEX)
        if sketch.silent:
            patches = patches[:0]
        times = _HOP_INDEX * np.arange(len(patches), dtype=np.int32)
        first = self._ends[-1] if self._ends else 0
        self._reserve(first + len(patches))
        rows = slice(first, first + len(patches))
        self._patches[rows], self._owners[rows], self._times[rows] = patches, number, times
        self._ends.append(first + len(patches))

    def search(self, key_or_sketch: str | SongSketch) -> list[SameSong]:
        """All clips that may have the same song, down to a confidence of 0.1, best first.

        Raises:
            UserError: no clip of this key is in the index.
        """
        if isinstance(key_or_sketch, SongSketch):
            return self._search(key_or_sketch, "", len(self), None)
        if key_or_sketch not in self._keys:
            raise UserError(f"clip {key_or_sketch} is not in the index of songs: add it first")
        number = self._keys[key_or_sketch]
        return self._search(self._sketches[number], key_or_sketch, len(self), number)

    def pairs(self) -> list[SameSong]:
        """All pairs of clips that may have the same song, best first: each clip is searched among those before it."""
        found = [
            pair
            for key, number in self._keys.items()
            for pair in self._search(self._sketches[number], key, number, None)
        ]
        return sorted(found, key=lambda pair: (-pair.confidence, self._keys[pair.a], self._keys[pair.b]))

    def _search(self, query: SongSketch, key: str, until: int, me: int | None) -> list[SameSong]:
        frames = unit_frames(query)
        best: dict[int, Overlay] = {}
        for looks, (clip, speed, bins, offset) in enumerate(_distinct(self._votes(query, until, me))):
            # Clips that have the song pay for their own looks: of many clips of one song, all are found.
            if looks >= max(_CLOSER_LOOKS, _LOOKS_A_CLIP * sum(one.logit >= 0 for one in best.values())):
                break
            if clip in best and best[clip].logit > _SURE:
                continue
            found = overlay(unit_frames(self._sketches[clip]), frames, speed, bins, offset)
            if clip not in best or found.logit > best[clip].logit:
                best[clip] = found
        names = list(self._keys)
        pairs = [_pair(names[clip], key, found, me is not None and clip > me) for clip, found in best.items()]
        pairs = [pair for pair in pairs if pair.confidence >= DOUBTFUL]
        order = {**self._keys, "": len(self._keys)}
        return sorted(pairs, key=lambda pair: (-pair.confidence, order[pair.a], order[pair.b]))

    def _reserve(self, count: int) -> None:
        """Room for `count` patches. It doubles, so that adding clips one by one copies each patch twice at most."""
        if count > len(self._owners):
            room = max(count, 2 * len(self._owners)) - len(self._owners)
            self._patches = np.concatenate([self._patches, np.zeros((room, _NUMBERS), np.float32)])
            self._owners = np.concatenate([self._owners, np.zeros(room, np.int32)])
            self._times = np.concatenate([self._times, np.zeros(room, np.int32)])

    def _votes(self, query: SongSketch, until: int, me: int | None) -> Iterator[tuple[int, float, int, float]]:
        """Clips before `until` with the most votes first: (clip, speed, pitch in bins, offset in its frames)."""
        count = self._ends[until - 1] if until else 0
        if query.silent or not count:
            return
        grid = _grid()
        frames = _smooth(unit_frames(query))
        tried = [_patches(raised(_slower(frames, speed), -bins), _HOP_QUERY) for speed, bins in grid]
        wanted = np.concatenate(tried)
        if not len(wanted):
            return
        at = np.concatenate([_HOP_QUERY * np.arange(len(one)) for one in tried])
        mode = np.repeat(np.arange(len(grid)), [len(one) for one in tried])
        rows, places, likes = [], [], []
        block = max(256, 4_000_000 // len(wanted))
        for first in range(0, count, block):
            like = wanted @ self._patches[first : min(first + block, count)].T
            hit = np.flatnonzero(like > _LIKE)
            row, place = np.divmod(hit, like.shape[1])
            rows.append(row)
            places.append(place + first)
            likes.append(like.ravel()[hit])
        row, place, weight = np.concatenate(rows), np.concatenate(places), np.concatenate(likes) ** 3
        owner = self._owners[place].astype(np.int64)
        if me is not None:
            others = owner != me
            row, place, weight, owner = row[others], place[others], weight[others], owner[others]
        if not len(row):
            return
        offset = self._times[place] - at[row]
        low = int(offset.min())
        span = (int(offset.max()) - low) // _BOX + 2
        speeds, pitches = (np.array(values) for values in zip(*grid, strict=True))
        votes = []
        for half in (0, _BOX // 2):
            box = (owner * len(grid) + mode[row]) * span + (offset - low + half) // _BOX
            # A patch of the query has one vote in a box, its best.
            order = np.lexsort((weight, row, box))
            last = np.append((np.diff(box[order]) != 0) | (np.diff(row[order]) != 0), True)
            order = order[last]
            boxes, inverse = np.unique(box[order], return_inverse=True)
            sums = np.bincount(inverse, weight[order])
            middle = np.bincount(inverse, weight[order] * offset[order]) / sums
            clips, what = np.divmod(boxes // span, len(grid))
            plain = (speeds[what] == 1) & (pitches[what] == 0)
            # Music that is slowed down for the comparison has more patches.
            totals = sums / speeds[what] * np.where(plain, _PLAIN, 1)
            enough = totals >= _LEAST_VOTES
            votes.append([part[enough] for part in (middle, pitches[what], speeds[what], clips, -totals)])
        columns = [np.concatenate(parts) for parts in zip(*votes, strict=True)]
        best = np.lexsort(columns)
        middles, bins, rates, clips, _ = columns
        for k in best:
            yield int(clips[k]), float(rates[k]), int(bins[k]), float(middles[k])


def _distinct(votes: Iterable[tuple[int, float, int, float]]) -> Iterator[tuple[int, float, int, float]]:
    """The votes without those that say what an earlier one says, a few a clip."""
    chosen: dict[int, list[tuple[float, int, float]]] = {}
    for clip, speed, bins, offset in votes:
        same = chosen.setdefault(clip, [])
        if len(same) >= _LOOKS_A_CLIP or any(
            abs(np.log2(s / speed)) < 0.07 and abs(k - bins) <= 1 and abs(o - offset) < 8 for s, k, o in same
        ):
            continue
        same.append((speed, bins, offset))
        yield clip, speed, bins, offset


def _pair(indexed: str, query: str, found: Overlay, query_first: bool) -> SameSong:
    """A query laid over a clip of the index, as a pair of clips in the order in which they were added."""
    confidence = round(float(1 / (1 + np.exp(-found.logit))), 4)
    speed, bins = found.speed, found.bins
    offset_s = -found.offset / speed / FRAME_RATE
    overlap_s = found.frames / FRAME_RATE
    first, second = indexed, query
    if query_first:
        first, second = query, indexed
        overlap_s *= speed
        offset_s = found.offset / FRAME_RATE
        speed, bins = 1 / speed, -bins
    words = edit_of(speed, bins, found.frames)[1]
    sure = "of the same recording" if confidence >= USED else "that may be of the same recording"
    return SameSong(
        first,
        second,
        confidence,
        round(speed, 4),
        round(offset_s, 3),
        round(overlap_s, 2),
        f"{overlap_s:.1f} s {sure}, {words}",
        round(2 ** (bins / BINS_PER_OCTAVE), 4),
        round(found.agreement, 3),
    )
