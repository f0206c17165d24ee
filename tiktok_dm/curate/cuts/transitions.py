"""Where the picture of a compilation may change from one clip to the next: every instant that is worth a closer look.

Picture only. Found is every instant at which something abrupt, or something gradual and straight, happens; whether it
is a cut, or a flash, a zoom, a leap, is weighed by `transition_evidence`. All levels are of 255, on the mean of the
three channels of pictures 96 px long. Not for the music (`music_changes`) and not for what lies between two cuts
(`shots`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.cuts.scan import Scan

Array = NDArray[np.float32]

NOISE = 4.0  # changes of a pixel below this are compression and grain
TILE = 6  # px: sides of the tiles in which parts of the picture are judged; a dancer covers some ten of them
PEAK = 1.45  # a hard cut changes this much more than any of its neighbours do; a leap or a shaking camera less often
PEAK_S = 0.12  # neighbours: this far, s (a flash's rise and a stutter in between are shorter)
LEAST = 0.12  # mean change of the picture, levels: a dancer who jumps in a fifth of the picture makes ten times that
FADE_S = (0.12, 0.2, 0.33, 0.55, 0.9, 1.3)  # lengths at which gradual changes are looked for
STRAIGHT = 0.62  # a fade goes straight from one picture to the other: share of way made good; dancing stays below 0.5
FADE_LEAST = 2.5  # mean change by a fade, levels
FADE_USUAL = 1.7  # and so much more than the same time changes nearby
FOREIGN = 1.3  # both sides of a fade differ this much more than the pictures of one side do
FLAT = 14.0  # standard deviation of what black, white or any other single colour leaves of the picture


@dataclass(frozen=True)
class Candidate:
    """An instant at which one clip may go over into another.

    Args:
        kind: `hard_cut`, `crossfade` or `fade`, as in `shots.Boundary`.
        first, last: frames `first` to `last - 1` belong to neither side.
        middle: the first frame of what follows.
        peak: of a hard cut: its change over the greatest change nearby.
    """

    kind: str
    first: int
    middle: int
    last: int
    peak: float = 1.0


@dataclass(frozen=True)
class Change:
    """How much every picture differs from the one before.

    Args:
        whole: (n,) mean over the picture, levels above the noise; 0 for the first.
        tiles: (n, rows, columns) float16, mean over each tile, levels.
    """

    whole: Array
    tiles: NDArray[np.float16]


def changes(scan: Scan, block: int = 512) -> Change:
    """One pass over the small pictures, block by block."""
    n, height, width = scan.pictures.shape[:3]
    rows, columns = max(1, height // TILE), max(1, width // TILE)
    whole, tiles = np.zeros(n, np.float32), np.zeros((n, rows, columns), np.float16)
    side = min(height, TILE), min(width, TILE)
    for start in range(0, n, block):
        part = np.asarray(scan.pictures[max(0, start - 1) : start + block]).astype(np.int16)
        if len(part) < 2:
            continue
        step = np.abs(part[1:] - part[:-1]).sum(-1, dtype=np.int16).astype(np.float32) * (1 / 3)
        where = slice(max(1, start), start + len(part) - (1 if start else 0))
        whole[where] = np.maximum(step - NOISE, 0).mean((1, 2))
        cut = step[:, : rows * side[0], : columns * side[1]]
        tiles[where] = cut.reshape(len(step), rows, side[0], columns, side[1]).mean((2, 4))
        scan.release()
    return Change(whole, tiles)


def _around(values: Array, reach: int) -> Array:
    """Greatest of the neighbours up to `reach` away on either side."""
    result = np.zeros_like(values)
    for k in range(1, reach + 1):
        result[k:] = np.maximum(result[k:], values[:-k])
        result[:-k] = np.maximum(result[:-k], values[k:])
    return result


def find_candidates(scan: Scan, change: Change) -> list[Candidate]:
    """Every instant worth a closer look, in order."""
    return sorted([*_hard(scan, change), *_gradual(scan)], key=lambda c: (c.middle, c.first))


def _hard(scan: Scan, change: Change) -> list[Candidate]:
    from scipy.ndimage import median_filter

    n, fps = len(change.whole), scan.fps
    if n < 3:
        return []
    reach = max(2, round(PEAK_S * fps))
    usual = median_filter(change.whole, max(3, 2 * round(0.5 * fps) + 1), mode="nearest")
    near = _around(change.whole, reach)
    peak = change.whole / np.maximum(near, 0.02)
    # The parts that move may be a small share of the picture: tiles vote too.
    taken = (change.whole > LEAST) & (peak > PEAK) & (change.whole > usual)
    # A cut between two abrupt changes that are not one (a flash beside it): greatest of its surroundings, no more.
    taken |= (change.whole > 8) & (peak >= 1.0) & (change.whole > 3 * usual)
    return [Candidate("hard_cut", int(t), int(t), int(t), float(peak[t])) for t in np.flatnonzero(taken) if t > 0]


def _gradual(scan: Scan, block: int = 2048) -> list[Candidate]:
    """Stretches in which the picture goes straight from one to another, or through a single colour."""
    n, fps = len(scan.pictures), scan.fps
    margin = round(2.5 * max(FADE_S) * fps)
    found: list[Candidate] = []
    for begin in range(0, n, block):
        low, high = max(0, begin - margin), min(n, begin + block + margin)
        small = _halved(scan, low, high)
        through = _through_colour(small, fps)
        # Either half of a fade through black goes straight, too.
        direct = _fitted(small, [*_straight(small, fps), *_other_scene(small, fps)], fps)
        direct = [c for c in direct if not any(_overlap(c, o) for o in through)]
        here = [c for c in direct if _foreign(small, c, fps) > FOREIGN] + through
        for c in here:
            moved = replace(c, first=c.first + low, middle=c.middle + low, last=c.last + low)
            if begin <= moved.middle < begin + block:
                found.append(moved)
    return found


def _overlap(a: Candidate, b: Candidate) -> bool:
    return a.first <= b.last and b.first <= a.last


def _halved(scan: Scan, low: int, high: int) -> NDArray[np.uint8]:
    """Pictures `low` to `high` at half the size, (n, h / 2, w / 2, 3) uint8: a quarter of the room, and less grain."""
    height, width = scan.pictures.shape[1:3]
    h, w = height // 2, width // 2
    small = np.empty((high - low, h, w, 3), np.uint8)
    for start in range(low, high, 512):
        part = np.asarray(scan.pictures[start : min(high, start + 512), : 2 * h, : 2 * w]).astype(np.uint16)
        part = part[:, ::2] + part[:, 1::2]
        small[start - low : start - low + len(part)] = (part[:, :, ::2] + part[:, :, 1::2] + 2) >> 2
    scan.release()
    return small


def _straight(small: NDArray[np.uint8], fps: float) -> list[Candidate]:
    """Where the picture goes from one to another on the straight way, and further than it goes nearby."""
    n = len(small)
    found: list[Candidate] = []
    for length in FADE_S:
        span = max(4, round(length * fps))
        if n < span + 3:
            continue
        stride = max(1, span // 8)
        centres = np.arange(span // 2, n - (span - span // 2), stride)
        grid = np.round(np.linspace(-(span // 2), span - span // 2, 7)).astype(int)
        straight, way = np.zeros(len(centres), np.float32), np.zeros(len(centres), np.float32)
        for begin in range(0, len(centres), 256):
            at = centres[begin : begin + 256]
            shots = small[at[:, None] + grid[None]].astype(np.int16)
            steps = np.maximum(np.abs(np.diff(shots, axis=1)) - 1, 0)
            step = steps.mean((2, 3, 4), dtype=np.float32)
            direct = np.maximum(np.abs(shots[:, -1] - shots[:, 0]) - 1, 0).mean((1, 2, 3), dtype=np.float32)
            path = step.sum(1)
            way[begin : begin + 256] = direct
            # A hard cut goes straight too, in one of the steps.
            jump = step.max(1) / np.maximum(path, 1e-3)
            straight[begin : begin + 256] = np.where(jump > 0.5, 0, direct / np.maximum(path, 0.3))
        # What the same time changes in the picture nearby, where nothing fades.
        nearby = _usual(way, max(2, round((1.0 + 1.3 * length) * fps / stride)))
        good = np.where((way > FADE_LEAST) & (way > FADE_USUAL * nearby), straight, 0)
        best = (good > STRAIGHT) & (good >= _around(good, max(1, span // stride // 2)))
        found += [Candidate("crossfade", int(c - span // 2), int(c), int(c + span - span // 2)) for c in centres[best]]
    return found


def _usual(values: Array, reach: int) -> Array:
    """Lower third of the neighbours: what a fade, which fills much of its own surroundings, does not lift."""
    from scipy.ndimage import percentile_filter

    return percentile_filter(values, 33, 2 * reach + 1, mode="nearest")


def _other_scene(small: NDArray[np.uint8], fps: float) -> list[Candidate]:
    """Where the pictures half a second and more ahead are all unlike those as far back, however one became the other.

    Finds what goes by no straight way: a fade between two people who both move a lot, a slide, a wipe.
    """
    offsets = np.unique(np.round(np.array([0.5, 0.68, 0.9, 1.2]) * fps).astype(int))
    n, reach = len(small), int(offsets[-1])
    stride = max(1, round(0.1 * fps))
    centres = np.arange(reach, n - reach, stride)
    if not len(centres):
        return []
    score = np.zeros(len(centres), np.float32)
    for k, c in enumerate(centres):
        back, ahead = small[c - offsets].astype(np.int16), small[c + offsets].astype(np.int16)
        cross = np.maximum(np.abs(back[:, None] - ahead[None]) - 3, 0).mean((2, 3, 4)).min()
        if cross < FADE_LEAST:
            continue
        usual = max(
            float(np.maximum(np.abs(side[1:] - side[:-1]) - 3, 0).mean((1, 2, 3)).max()) for side in (back, ahead)
        )
        score[k] = cross / max(usual, 1.0)
    best = (score > FOREIGN) & (score >= _around(score, max(1, round(0.5 * fps / stride))))
    half = int(offsets[0])
    return [Candidate("crossfade", int(c - half), int(c), int(c + half)) for c in centres[best]]


def _foreign(small: NDArray[np.uint8], candidate: Candidate, fps: float) -> float:
    """Least difference of the pictures on both sides of a fade over the usual one within a side."""
    n = len(small)
    offsets = np.unique(np.round(np.array([0.04, 0.12, 0.25, 0.4]) * fps).astype(int))
    back = small[np.clip(candidate.first - 1 - offsets, 0, n - 1)].astype(np.int16)
    ahead = small[np.clip(candidate.last + offsets, 0, n - 1)].astype(np.int16)
    cross = float(np.maximum(np.abs(back[:, None] - ahead[None]) - 3, 0).mean((2, 3, 4)).min())
    usual = max(float(np.maximum(np.abs(side[1:] - side[:-1]) - 3, 0).mean((1, 2, 3)).max()) for side in (back, ahead))
    return cross / max(usual, 0.3)


def _fitted(small: NDArray[np.uint8], found: list[Candidate], fps: float) -> list[Candidate]:
    """The straight stretches as fades with a begin and an end: the best of those that overlap.

    In a fade from A to B, each picture is (1 - u) A + u B with u rising evenly: u is found by projection (in which
    pixels that move on either side count little), the fade's middle and length by a straight line through it, and what
    is left over tells how well that describes the pictures.
    """
    fits: list[tuple[float, Candidate]] = []
    seen: set[tuple[int, int]] = set()
    for candidate in found:
        start = candidate.first, candidate.last
        if start not in seen:
            seen.add(start)
            fit = _fit(small, candidate, fps)
            if fit is not None:
                fits.append(fit)
    kept: list[Candidate] = []
    for _, fitted in sorted(fits, key=lambda f: (-f[0], f[1].first, f[1].last)):
        if not any(_overlap(fitted, other) for other in kept):
            kept.append(fitted)
    return kept


def _fit(small: NDArray[np.uint8], candidate: Candidate, fps: float) -> tuple[float, Candidate] | None:
    """(how much of the change the fade explains, the fade), or None where none fits."""
    n = len(small)
    first, last = candidate.first, candidate.last
    for _ in range(4):
        margin = max(3, (last - first) // 3)
        low, high = max(0, first - margin), min(n - 1, last + margin)
        stretch = small[low : high + 1].astype(np.float32).reshape(high - low + 1, -1)
        before, after = stretch[: max(2, first - low)], stretch[min(last - low, len(stretch) - 2) :]
        a = before.mean(0)
        way = after.mean(0) - a
        weight = 1 / (before.var(0) + after.var(0) + 9)
        energy = float((way * way * weight).sum())
        share = (stretch - a) @ (way * weight) / max(energy, 1e-3)
        inside = np.flatnonzero((share > 0.12) & (share < 0.88))
        if energy < 1.0 or len(inside) < 2:
            return None
        slope, offset = np.polyfit(inside.astype(np.float64), share[inside], 1)
        if slope <= 0.2 / fps:
            return None
        middle, half = float((0.5 - offset) / slope + low), min(0.5 / float(slope), 0.8 * fps)
        was = first, last
        first, last = max(1, int(np.floor(middle - half))), min(n - 1, int(np.ceil(middle + half)))
        if last - first < 2 or not 0 < middle < n - 1:
            return None
        if was == (first, last):
            break
    left = stretch[inside] - a - share[inside, None] * way
    residue = float(np.sqrt(((left**2) * weight).mean() / max(1e-6, float(((way**2) * weight).mean()))))
    uneven = float(np.abs(share[inside] - (slope * inside + offset)).max())
    # What follows begins where it is the greater part of the mixture.
    frame = int(np.clip(np.ceil(middle - 0.01), 1, n - 1))
    if not first < frame <= last or uneven > 0.3:
        return None
    explained = float(np.abs(way).mean()) * (1 - min(1.0, residue)) * (1 - uneven)
    return explained, Candidate("crossfade", first, frame, last)


def _through_colour(small: NDArray[np.uint8], fps: float) -> list[Candidate]:
    """Stretches in which what changes becomes a single colour, nearly black or white, and then another picture."""
    n = len(small)
    found: list[Candidate] = []
    luma = small.mean(-1).astype(np.float32)
    for length in (0.12, 0.3, 0.6):
        reach = max(2, round(length * fps))
        stride = max(1, reach // 8)
        for centre in range(reach, n - reach, stride):
            here = luma[centre]
            changed = np.abs(luma[centre - reach] - here) + np.abs(luma[centre + reach] - here) > 24
            if changed.mean() < 0.06:
                continue
            flat = here[changed]
            mean = float(flat.mean())
            if 48 < mean < 205 or float(flat.std()) > FLAT:
                continue
            sides = [luma[centre - reach][changed], luma[centre + reach][changed]]
            if max(float(side.std()) for side in sides) < 1.5 * FLAT or float(flat.std()) > 0.5 * max(
                float(side.std()) for side in sides
            ):
                continue
            found.append(_colour_fade(luma, centre, changed, mean, fps))
    merged: list[Candidate] = []
    for candidate in sorted(found, key=lambda c: (c.first, c.last)):
        if merged and candidate.first <= merged[-1].last:
            if candidate.last - candidate.first > merged[-1].last - merged[-1].first:
                merged[-1] = candidate
        else:
            merged.append(candidate)
    return merged


def _colour_fade(luma: Array, centre: int, changed: NDArray[np.bool_], colour: float, fps: float) -> Candidate:
    """The whole of a fade through a colour around a frame at which all is of that colour."""
    n = len(luma)
    reach = round(1.6 * fps)
    low = max(0, centre - reach)
    away = np.abs(luma[low : centre + reach + 1][:, changed] - colour).mean(1)
    at = centre - low

    def length(steps: Array) -> int:
        """Frames until the picture is all there; its last tenth is hard to see."""
        level = np.maximum.accumulate(steps - steps[0])[: max(2, round(1.2 * fps))]
        frames = int(np.argmax(level >= 0.9 * np.quantile(level, 0.6)))
        return frames + frames // 9

    back, ahead = length(away[at::-1]), length(away[at:])
    # People who move on look like a fade that goes on.
    back, ahead = min(back, 1 + 8 * ahead // 5), min(ahead, 1 + 8 * back // 5)
    first, last = max(1, centre - back), min(n - 1, centre + ahead)
    # Middle: of the time in which less than a quarter of either picture shows.
    pure = 0.0 if colour < 128 else 255.0
    both = np.abs(luma[first] - pure) + np.abs(luma[last] - pure) > 24
    if both.any():
        away = np.abs(luma[first : last + 1][:, both] - pure).mean(1)
        dark = np.flatnonzero(away < 0.25 * min(away[0], away[-1]))
        if len(dark):
            centre = first + int(np.ceil(dark.mean() - 0.01))
    return Candidate("fade", first, min(max(first + 1, centre), last), last)
