"""Two clips' music laid over each other: at which speed, pitch and offset they agree best, and how well.

The pictures are those of `song_sketch`. From a guess, speed, pitch and offset are refined until the agreement along one
line is greatest; the longest agreeing stretch of it, and the peaks that both have there, become the log-odds of one
song. For the close look of a search (`songs`), which brings the guess. Not for finding candidates among many clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiktok_dm.audio.spectrogram_sketch import BINS, BINS_PER_OCTAVE, FRAME_RATE

_WINDOW_S = 40.0  # of music that is looked at closely
_CHANCE = 0.12  # agreement of frames that other music reaches often
_STRONG = 0.12  # of a frame of length one: a bin that counts as there

# Logits of a pair: intercept, log2(evidence / 20), peaks that are kept. See `benchmarks/songs.py` for what they give.
_PLAYED = (-7.7, 1.8, 10.9)  # as it is, or speed and pitch together
_EDITED = (-14.0, 1.2, 15.5)  # speed or pitch alone: other songs of one key or one tempo may come near
_ODD = (-16.0, 1.2, 15.5)  # any other pair of speed and pitch


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
        kind, _ = edit_of(self.speed, self.bins, self.frames)
        intercept, much, clear = {"played": _PLAYED, "odd": _ODD}.get(kind, _EDITED)
        return intercept + much * float(np.log2(evidence / 20)) + clear * self.kept


def edit_of(speed: float, bins: float, frames: int) -> tuple[str, str]:
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


def raised(frames: np.ndarray, bins: float) -> np.ndarray:
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
    pair = raised(a, bins)[:, keep], b[:, keep]
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
