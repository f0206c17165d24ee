"""Which clips use the same music: an index of sketches that is searched at every usual speed and pitch.

A search has two steps. First, stretches of a second and a half ("patches") of the clip, at each speed and pitch of a
grid, are compared with the patches of all clips by a few dozen numbers each; those that agree vote for a clip, a speed
and an offset. Then the best votes are looked at closely: the two pictures (`song_sketch`) are laid over each other,
speed, pitch and offset are refined, and the longest agreeing stretch becomes a confidence. Speed and pitch may change
together (played faster), or one alone (time-stretched, transposed).

For the same recording in two clips. Not for grouping clips by song (`song_groups`), nor for the sound itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tiktok_dm.curate.song_sketch import BINS, BINS_PER_OCTAVE, FRAME_RATE, SongSketch, sketch, unit_frames
from tiktok_dm.errors import UserError

__all__ = ["DOUBTFUL", "USED", "SameSong", "SongIndex", "SongSketch", "sketch"]

USED, DOUBTFUL = 0.5, 0.1
"""A pair is used from the first confidence on, and shown to a person from the second."""

_PATCH = 32  # frames, 1.5 s
_HOP_INDEX, _HOP_QUERY = 3, 10  # frames between patches
_TIME_TERMS = (
    6  # of the cosine transform of a patch over time: up to 2 Hz, so that 0.14 s from patch to patch is enough
)
_NUMBERS = 128  # of a patch
_MOST_BINS = 10  # of speed and pitch, both ways: 2 ** (10 / 24) = 1.33
_LIKE = 0.33  # cosine of two patches from which on they vote; patches of other music stay below in 999 of 1,000
_BOX = 6  # frames of offset whose votes are counted together
_LEAST_VOTES = 0.3
_PLAIN = 1.25  # times the votes of music as it is: the likeliest, and it should win where notes only repeat
_CLOSER_LOOKS, _LOOKS_A_CLIP = 20, 4
_SURE = 4.0  # log-odds from which on a clip needs no other look
_WINDOW_S = 40.0  # of music that is looked at closely
_CHANCE = 0.12  # agreement of frames that other music reaches often
_STRONG = 0.12  # of a frame of length one: a bin that counts as there

# Logits of a pair: intercept, log2(evidence / 20), peaks that are kept. See `benchmarks/songs.py` for what they give.
_PLAYED = (-7.7, 1.8, 10.9)  # as it is, or speed and pitch together
_EDITED = (-14.0, 1.2, 15.5)  # speed or pitch alone: other songs of one key or one tempo may come near
_ODD = (-16.0, 1.2, 15.5)  # any other pair of speed and pitch


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


@dataclass(frozen=True)
class Overlay:
    """How one picture b lies over another a, and how well they agree there.

    Args:
        speed: of b over a.
        bins: of pitch, of b over a.
        offset: frame of a at which b starts.
        frames: of b that agree.
        agreement: mean cosine of these frames.
        kept: share of the stronger peaks of one that are there in the other, of whichever keeps more. Noise adds none,
            so that a noisy copy's peaks are found in the clean one.
    """

    speed: float
    bins: float
    offset: float
    frames: int = 0
    agreement: float = 0.0
    kept: float = 0.0

    @property
    def logit(self) -> float:
        """Log-odds that a and b have the same song."""
        evidence = (self.agreement - _CHANCE) * self.frames
        if evidence <= 0:
            return -20.0
        kind, _ = _edit(self.speed, self.bins, self.frames)
        intercept, much, clear = {"played": _PLAYED, "odd": _ODD}.get(kind, _EDITED)
        return intercept + much * float(np.log2(evidence / 20)) + clear * self.kept


def _edit(speed: float, bins: float, frames: int) -> tuple[str, str]:
    """What was done to music whose speed and pitch changed so: `played`, `stretched`, `transposed`, `odd`; in words.

    Speed is known better the more frames agree; two tracks of one key and nearly one tempo are told from one by that.
    """
    near = 0.12 + 22 / max(frames, 1)  # bins; measured on copies of three to ten seconds
    change = BINS_PER_OCTAVE * np.log2(speed)
    pitch = 12 * bins / BINS_PER_OCTAVE
    fast = f"played {speed:.2f} times as fast"
    if abs(change) < 0.4 and abs(bins) < 0.4 and abs(change - bins) < near:
        return "played", "at the same speed"
    if abs(change - bins) < near:
        return "played", fast
    if abs(bins) < 0.4:
        return "stretched", f"{fast} at the same pitch"
    if abs(change) < 0.4:
        return "transposed", f"{abs(pitch):.1f} semitones {'higher' if pitch > 0 else 'lower'} at the same speed"
    return "odd", f"{fast} and {abs(pitch):.1f} semitones {'higher' if pitch > 0 else 'lower'}"


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


def _raised(frames: np.ndarray, bins: float) -> np.ndarray:
    """Frames moved up by so many bins, linearly between bins; zeros come in."""
    out = np.zeros_like(frames)
    low = int(np.floor(bins))
    for step, weight in ((low, 1 - (bins - low)), (low + 1, bins - low)):
        if not weight or abs(step) >= BINS:
            continue
        if step >= 0:
            out[:, step:] += np.float32(weight) * frames[:, : BINS - step]
        else:
            out[:, :step] += np.float32(weight) * frames[:, -step:]
    return out


class SongIndex:
    """Sketches of many clips, in which those with the same music are found without comparing every two.

    A clip of ten seconds takes 60 kB of memory and its search some hundredths of a second among a thousand clips.
    """

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._sketches: list[SongSketch] = []
        self._patches = np.zeros((0, _NUMBERS), np.float32)
        self._owners = np.zeros(0, np.int32)
        self._times = np.zeros(0, np.int32)
        self._ends: list[int] = []
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

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
        self._new.append((patches, np.full(len(patches), number, np.int32), times))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(patches))

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
        for clip, speed, bins, offset in self._votes(query, until, me):
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

    def _settle(self) -> None:
        if self._new:
            patches, owners, times = zip(*self._new, strict=True)
            self._patches = np.concatenate([self._patches, *patches])
            self._owners = np.concatenate([self._owners, *owners])
            self._times = np.concatenate([self._times, *times])
            self._new.clear()

    def _votes(self, query: SongSketch, until: int, me: int | None) -> list[tuple[int, float, int, float]]:
        """Clips before `until` that are worth a closer look: (clip, speed, pitch in bins, offset in its frames)."""
        self._settle()
        count = self._ends[until - 1] if until else 0
        if query.silent or not count:
            return []
        grid = _grid()
        frames = _smooth(unit_frames(query))
        tried = [_patches(_raised(_slower(frames, speed), -bins), _HOP_QUERY) for speed, bins in grid]
        wanted = np.concatenate(tried)
        if not len(wanted):
            return []
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
            return []
        offset = self._times[place] - at[row]
        low = int(offset.min())
        span = (int(offset.max()) - low) // _BOX + 2
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
            for k in np.argsort(-sums, kind="stable")[:400]:
                clip, what = divmod(int(boxes[k]) // span, len(grid))
                speed, bins = grid[what]
                # Music that is slowed down for the comparison has more patches.
                total = float(sums[k]) / speed * (_PLAIN if speed == 1 and bins == 0 else 1)
                if total >= _LEAST_VOTES:
                    votes.append((total, clip, speed, bins, float(middle[k])))
        votes.sort(key=lambda vote: (-vote[0], *vote[1:]))
        return _distinct(votes)


def _distinct(votes: list[tuple[float, int, float, int, float]]) -> list[tuple[int, float, int, float]]:
    """The first few votes that do not say the same."""
    chosen: list[tuple[int, float, int, float]] = []
    for _, clip, speed, bins, offset in votes:
        same = [one for one in chosen if one[0] == clip]
        if len(same) >= _LOOKS_A_CLIP or any(
            abs(np.log2(s / speed)) < 0.07 and abs(k - bins) <= 1 and abs(o - offset) < 8 for _, s, k, o in same
        ):
            continue
        chosen.append((clip, speed, bins, offset))
        if len(chosen) == _CLOSER_LOOKS:
            break
    return chosen


def _pair(indexed: str, query: str, found: Overlay, query_first: bool) -> SameSong:
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
    words = _edit(speed, bins, found.frames)[1]
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


def overlay(a: np.ndarray, b: np.ndarray, speed: float, bins: float, offset: float) -> Overlay:
    """Lay b over a, as well as it goes near a guess.

    Args:
        a: frames of length one (frames, 120).
        b: likewise.
        speed, bins: of b over a, within 7 % and half a bin.
        offset: frame of a at which b starts, within four frames.
    """
    begin, end = _near(len(a), len(b), speed, offset)
    low = max(int(offset + begin * speed) - 8, 0)
    high = min(int(offset + end * speed) + 9, len(a))
    nothing = Overlay(speed, bins, offset)
    a, b = a[low:high], b[begin:end]
    if min(len(a), len(b)) < 8:
        return nothing
    offset += begin * speed - low
    middle = len(b) / 2
    every = 2
    line = b[:0, 0]
    for d_bins, d_speed, d_offset in (
        ((0, -0.5, 0.5), np.arange(-7, 8) * 0.01, np.arange(-4, 5.0)),
        ((0, -0.25, 0.25), np.arange(-4, 5) * 0.0025, np.arange(-4, 5) * 0.25),
    ):
        best = (2.0, speed, bins, offset)
        for change in d_bins:
            like = _likeness(a, b[::every], bins + change)
            speeds = np.repeat(speed * (1 + d_speed), len(d_offset))
            # The offset is meant in the middle of b, where a change of speed moves nothing.
            starts = offset + np.tile(d_offset, len(d_speed)) + middle * (speed - speeds)
            lines = _lines(like, every * speeds, starts)
            # A stretch that does not agree ends the common music; it should not count against the rest.
            sums = every * np.maximum(lines - _CHANCE, -0.3).sum(axis=1)
            k = int(np.argmax(sums))
            if sums[k] > best[0]:
                best, line = (float(sums[k]), float(speeds[k]), bins + change, float(starts[k])), lines[k]
        if best[0] == 2.0:
            return nothing
        _, speed, bins, offset = best
        every = 1
    first, last = _stretch(line)
    agreement = float(line[first:last].mean())
    kept = _kept(a, b[first:last], speed, bins, offset + first * speed)
    return Overlay(speed, bins, offset + low - begin * speed, last - first, agreement, kept)


def _near(a: int, b: int, speed: float, offset: float) -> tuple[int, int]:
    """Frames of b that lie over a; the middle ones where they are many."""
    begin = max(0, int(-offset / speed))
    end = max(begin, min(b, int((a - offset) / speed) + 1))
    more = end - begin - int(_WINDOW_S * FRAME_RATE)
    return (begin + more // 2, end - (more - more // 2)) if more > 0 else (begin, end)


def _kept(a: np.ndarray, b: np.ndarray, speed: float, bins: float, offset: float) -> float:
    """Share of the stronger peaks of one picture that are there in the other; the better of both ways."""
    places = np.clip(offset + speed * np.arange(len(b)), 0, len(a) - 1)
    low = np.minimum(places.astype(int), len(a) - 2)
    part = (places - low).astype(np.float32)[:, None]
    under, over = _shared((1 - part) * a[low] + part * a[low + 1], b, bins)
    shares = []
    for one, other in ((under, over), (over, under)):
        weight = np.maximum(one, 0) ** 3
        shares.append(float((weight * np.clip(other / _STRONG, 0, 1)).sum() / (weight.sum() + 1e-9)))
    return max(shares)


def _shared(a: np.ndarray, b: np.ndarray, bins: float) -> tuple[np.ndarray, np.ndarray]:
    """a moved up by so many bins, and b, in the bins that both have; frames of length one."""
    cut = int(np.ceil(abs(bins)))
    keep = slice(cut, None) if bins > 0 else slice(0, BINS - cut)
    pair = _raised(a, bins)[:, keep], b[:, keep]
    moved, still = (one / (np.linalg.norm(one, axis=1, keepdims=True) + 1e-2) for one in pair)
    return moved, still


def _likeness(a: np.ndarray, b: np.ndarray, bins: float) -> np.ndarray:
    """Cosine of every frame of b with every one of a moved up by so many bins, (b, a)."""
    moved, still = _shared(a, b, bins)
    return still @ moved.T


def _lines(like: np.ndarray, speeds: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Values along straight lines, (lines, b); outside a they are the threshold, which tells nothing."""
    places = starts[:, None] + speeds[:, None] * np.arange(len(like))
    inside = (places >= 0) & (places <= like.shape[1] - 1)
    low = np.clip(places.astype(int), 0, like.shape[1] - 2)
    part = (places - low).astype(np.float32)
    rows = np.arange(len(like))
    found = (1 - part) * like[rows, low] + part * like[rows, low + 1]
    return np.where(inside, found, _CHANCE)


def _stretch(line: np.ndarray) -> tuple[int, int]:
    """Beginning and end of the stretch with the greatest sum beyond the threshold (Kadane)."""
    total = np.concatenate([[0.0], np.cumsum(line - _CHANCE)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total - lowest))
    begin = int(np.argmin(total[: end + 1]))
    return begin, end
