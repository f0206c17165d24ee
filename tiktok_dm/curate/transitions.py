"""Where the picture of a compilation changes from one clip to the next, and what only looks like it.

Picture only. First every instant is found at which something abrupt, or something gradual and straight, happens
(`find_candidates`); then the pictures before and after are held against each other (`Evidence`): does the picture come
back (a flash), is it the same picture brighter, nearer or moved (an effect, a zoom, a pan), is it more than the motion
on both sides (a dancer's leap), and do the parts that move break off (a caption over a dancer who dances on)? Static
decoration never counts: it neither changes nor moves. Not for the music (`music_changes`) and not for what lies between
two cuts (`shots`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.scan import Scan

Array = NDArray[np.float32]

# All levels are of 255, on the mean of the three channels of pictures 96 px long.
NOISE = 4.0  # changes of a pixel below this are compression and grain
TILE = 6  # px: sides of the tiles in which parts of the picture are judged; a dancer covers some ten of them
TILE_NOISE = 1.5  # mean change of a tile that stands still, at low bit rates
PEAK = 1.45  # a hard cut changes this much more than any of its neighbours do; a leap or a shaking camera less often
PEAK_S = 0.12  # neighbours: this far, s (a flash's rise and a stutter in between are shorter)
LEAST = 0.12  # mean change of the picture, levels: a dancer who jumps in a fifth of the picture makes ten times that
NEAR_S, FAR_S = 0.35, 1.2  # s: pictures that tell the motion on one side, pictures in which the old one may come back
FADE_S = (0.12, 0.2, 0.33, 0.55, 0.9, 1.3)  # lengths at which gradual changes are looked for
STRAIGHT = 0.62  # a fade goes straight from one picture to the other: share of way made good; dancing stays below 0.5
FADE_LEAST = 2.5  # mean change by a fade, levels
FADE_USUAL = 1.7  # and so much more than the same time changes nearby
FOREIGN = 1.3  # both sides of a fade differ this much more than the pictures of one side do
FLAT = 14.0  # standard deviation of what black, white or any other single colour leaves of the picture
# Log-odds of a cut, in the order of `Evidence.vector`: logistic regression on the candidates of 96 compilations that
# `tests/curate/compilation_factory.py` makes of footage and of synthetic dancers; what the numbers mean: `Evidence`.
_HARD = np.array([2.25, 0.6, 0.65, 1.8, 1.45, 0.3, -0.2, -3.3, -3.15, 1.2], np.float32)
_HARD_OFFSET = -4.4
_SOFT = np.array([0.0, 2.55, 1.25, 2.85, 1.6, 1.85, -0.75, -2.1, 0.0, 1.2], np.float32)
_SOFT_OFFSET = -7.85
HOPELESS = -5.5  # log-odds by the picture below which nothing else makes a cut
_SCALES = tuple(float(s) for s in np.geomspace(0.62, 1.62, 13))


@dataclass(frozen=True)
class Boundary:
    """An instant that was considered as the start or end of a clip.

    Args:
        at_s: first instant of what follows: the time stamp of the first frame after a hard cut; a fade's middle.
        frame: the frame that comes on screen then.
        kind: `hard_cut`, `crossfade`, `fade` (through black, white or a colour), `flash`, `zoom`, `motion` (the last
            three are considered and not taken), `start`, `end`.
        start_s, end_s: of the transition; equal for a hard cut.
        confidence: 0..1 that a clip starts or ends here; from 0.5 on it counts.
        reason: in plain words.
    """

    at_s: float
    frame: int
    kind: str
    start_s: float
    end_s: float
    confidence: float
    reason: str


@dataclass(frozen=True)
class Candidate:
    """Frames `first` to `last - 1` belong to neither side; `middle` is the first frame of what follows."""

    kind: str
    first: int
    middle: int
    last: int
    strength: float  # of the peak, or straightness
    score: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """What the pictures on both sides of a candidate say; see `evidence`."""

    peak: float  # change over the greatest change nearby
    area: float  # share of the picture that changed
    broken: float  # share of the moving parts that break off
    apart: float  # share of the picture that looks on this side as it never does on the other
    strange: float  # least difference of both sides over the usual difference within one
    stays: float  # least difference of both sides within a second over the change: 0 where the old picture comes back
    same: float  # share of what changed that is still the same drawing, moved by a little, brighter or tinted
    moved: float  # correlation after the best zoom and shift of the whole
    amount: float  # mean change, levels
    straight: float  # of a fade: share of the way made good
    frames: int

    def vector(self) -> Array:
        return np.array(
            [
                np.log(np.clip(self.peak, 0.7, 8)),
                np.sqrt(self.area),
                self.broken,
                np.sqrt(self.apart),
                np.log(np.clip(self.strange, 0.2, 6)),
                self.stays,
                self.same,
                self.moved,
                np.clip((self.moved - 0.88) / 0.1, 0, 1),  # the very same picture, in another colour
                min(self.amount, 30) / 30,
            ],
            np.float32,
        )


# ----------------------------------------------------------------------------------------------------- change over time


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


def _around(values: Array, reach: int, *, skip: int = 0) -> Array:
    """Greatest of the neighbours up to `reach` away on either side, nearer ones than `skip` + 1 left out."""
    result = np.zeros_like(values)
    for k in range(skip + 1, reach + 1):
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
        found += [
            Candidate("crossfade", int(c - span // 2), int(c), int(c + span - span // 2), float(good[k]), float(way[k]))
            for k, c in zip(np.flatnonzero(best), centres[best], strict=True)
        ]
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
    return [
        Candidate("crossfade", int(c - half), int(c), int(c + half), 0.3, float(score[k]))
        for k, c in zip(np.flatnonzero(best), centres[best], strict=True)
    ]


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
    return explained, Candidate("crossfade", first, frame, last, candidate.strength, residue)


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
    return Candidate("fade", first, min(max(first + 1, centre), last), last, 1.0, 0.0)


# ----------------------------------------------------------------------------------------------------------- both sides


def _difference(a: Array, b: Array) -> float:
    return float(np.maximum(np.abs(a - b).mean(-1) - NOISE, 0).mean())


@lru_cache(maxsize=8)
def _window(height: int, width: int) -> Array:
    return np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)


def _drawing(picture: Array) -> Array:
    """Luma without brightness and contrast: each pixel against its neighbourhood, (h, w), about -2..2."""
    from scipy.ndimage import uniform_filter

    luma = picture.mean(-1)
    mean = uniform_filter(luma, 9, mode="nearest")
    deviation = np.sqrt(np.maximum(uniform_filter(luma * luma, 9, mode="nearest") - mean * mean, 0))
    return np.clip((luma - mean) / (deviation + 4.0), -2.5, 2.5)


def _half(picture: Array) -> Array:
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    rows = picture[:height:2, :width] + picture[1:height:2, :width]
    return (rows[:, ::2] + rows[:, 1::2]) / 4


def _same_drawing(a: Array, b: Array, weight: Array, reach: int = 2) -> float:
    """Share of `weight` (h, w) in whose neighbourhood drawing `a` is drawing `b`, moved by up to `reach` px."""
    from scipy.ndimage import uniform_filter

    best = np.full(a.shape, -1.0, np.float32)
    norm_a = uniform_filter(a * a, 9, mode="nearest")
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            other = np.roll(b, (dy, dx), (0, 1))
            norm = np.sqrt(np.maximum(norm_a * uniform_filter(other * other, 9, mode="nearest"), 0))
            np.maximum(best, uniform_filter(a * other, 9, mode="nearest") / (norm + 0.05), out=best)
    total = float(weight.sum())
    return float((weight * np.clip((best - 0.45) / 0.35, 0, 1)).sum() / total) if total > 0 else 1.0


def _scaled(picture: Array, scale: float, centre: tuple[float, float]) -> Array:
    """The drawing enlarged by `scale` about `centre` (y, x); nearest pixel, 0 outside."""
    height, width = picture.shape
    y = np.round((np.arange(height) - centre[0]) / scale + centre[0]).astype(int)
    x = np.round((np.arange(width) - centre[1]) / scale + centre[1]).astype(int)
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None]
    return picture[np.ix_(np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))] * inside


def _moved(a: Array, b: Array, weight: Array) -> float:
    """Best correlation of drawing `a` where `weight` says with a zoomed and shifted drawing `b`."""
    total = float(weight.sum())
    if total <= 0:
        return 1.0
    height, width = a.shape
    centre = (
        float((weight.sum(1) * np.arange(height)).sum() / total),
        float((weight.sum(0) * np.arange(width)).sum() / total),
    )
    shape = (2 * height, 2 * width)
    template = np.fft.rfft2(a * weight, shape)
    window = np.fft.rfft2(weight, shape)
    energy = float((weight * a * a).sum())
    best = 0.0
    for scale in _SCALES:
        other = _scaled(b, scale, centre)
        transform = np.fft.rfft2(other, shape).conj()
        squares = np.fft.rfft2(other * other, shape).conj()
        cross = np.fft.irfft2(template * transform, shape)
        power = np.fft.irfft2(window * squares, shape)
        score = cross / np.sqrt(energy * np.maximum(power, 0.25 * energy) + 1e-6)
        # No further than two fifths of the picture.
        reach_y, reach_x = 2 * height // 5, 2 * width // 5
        rows = np.r_[0:reach_y, shape[0] - reach_y : shape[0]]
        columns = np.r_[0:reach_x, shape[1] - reach_x : shape[1]]
        best = max(best, float(score[np.ix_(rows, columns)].max()))
    return best


def evidence(scan: Scan, change: Change, candidate: Candidate, limits: tuple[int, int] | None = None) -> Evidence:
    """Hold the pictures before a candidate against those after it.

    Args:
        limits: first frame and end of the stretch that may be looked at; None: everything within `FAR_S`.
    """
    n, fps = len(scan.pictures), scan.fps
    low, high = limits or (0, n)
    first, last = candidate.first, candidate.last
    near, far = max(3, round(NEAR_S * fps)), max(6, round(FAR_S * fps))
    hard = candidate.kind == "hard_cut"

    def spread(reach: int, count: int) -> NDArray[np.int64]:
        """Distances from the boundary, dense beside it."""
        return np.unique(np.round(np.geomspace(1, reach, count)).astype(int))

    back = first - spread(far, 11)
    ahead = last - 1 + spread(far, 11)
    back, ahead = back[back >= low], ahead[ahead < high]
    if not len(back) or not len(ahead):
        return Evidence(0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0)
    before = np.asarray(scan.pictures[back]).astype(np.float32)  # nearest first
    after = np.asarray(scan.pictures[ahead]).astype(np.float32)
    between = np.maximum(np.abs(before[:, None] - after[None]).mean(-1) - NOISE, 0)
    cross = between.mean((2, 3))
    amount = float(cross[0, 0])
    close_b, close_a = back >= first - near, ahead < last + near

    def within(frames: Array) -> float:
        if len(frames) < 2:
            return 0.0
        pairs = [_difference(frames[i], frames[j]) for i in range(len(frames)) for j in range(i)]
        return float(np.quantile(pairs, 0.8))

    inner = max(within(before[close_b]), within(after[close_a]), 0.05)
    strange = float(cross[np.ix_(close_b, close_a)].min()) / inner
    apart = float((between[np.ix_(close_b, close_a)].min((0, 1)) > NOISE).mean())
    stays = float(cross.min()) / max(amount, 1e-3)

    weight = np.clip(np.abs(before[0] - after[0]).mean(-1) - 2 * NOISE, 0, 40)
    area = float((weight > 0).mean())
    reach = round(0.6 * fps)
    b0, a1 = max(low + 1, first - reach), min(high, last + reach)
    tiles = change.tiles
    quiet_b = _level(tiles[b0:first]) if first > b0 else np.zeros(tiles.shape[1:], np.float32)
    quiet_a = _level(tiles[last + 1 : a1]) if a1 > last + 1 else np.zeros(tiles.shape[1:], np.float32)
    usual = _dilated(np.maximum(quiet_b, quiet_a))
    if hard:
        here = tiles[first].astype(np.float32)
    else:
        height, width = tiles.shape[1] * TILE, tiles.shape[2] * TILE
        step = np.abs(before[0] - after[0]).mean(-1)[:height, :width]
        here = step.reshape(tiles.shape[1], TILE, tiles.shape[2], TILE).mean((1, 3))
    moving = np.clip(np.maximum(quiet_b, quiet_a) - TILE_NOISE, 0, 10)
    breaks = np.clip((here / (usual + TILE_NOISE) - 1.0) / 1.5, 0, 1)
    # Where nothing moves, nothing can break off but the whole.
    broken = float((moving * breaks).sum() / moving.sum()) if moving.sum() > 0.5 else float((breaks > 0).mean())
    peak = candidate.strength if hard else 1.0
    straight = 0.0 if hard else candidate.strength
    found = Evidence(peak, area, broken, apart, strange, stays, 0.0, 0.0, amount, straight, last - first)
    if picture_odds(candidate.kind, found) < HOPELESS:
        # Whatever the drawings say makes it less of a cut.
        return replace(found, same=1.0, moved=1.0)
    drawn_b = _drawing(before[0])
    drawn_a = [_drawing(after[k]) for k in (0, min(2, len(after) - 1), min(5, len(after) - 1), min(8, len(after) - 1))]
    same = max(_same_drawing(drawn_b, other, weight) for other in drawn_a)
    half = np.sqrt(_half(weight))
    drawn_half = _drawing(_half(before[0]))
    moved = max(_moved(drawn_half, _drawing(_half(after[k])), half) for k in (0, min(2, len(after) - 1)))
    return replace(found, same=same, moved=moved)


def _level(tiles: NDArray[np.float16]) -> Array:
    return np.quantile(tiles.astype(np.float32), 0.85, axis=0).astype(np.float32)


def _dilated(values: Array) -> Array:
    from scipy.ndimage import maximum_filter

    return maximum_filter(values, 3, mode="nearest")


def picture_odds(kind: str, found: Evidence) -> float:
    """Log-odds that a new clip begins at a candidate, by its pictures alone."""
    weights, offset = (_HARD, _HARD_OFFSET) if kind == "hard_cut" else (_SOFT, _SOFT_OFFSET)
    return float(np.clip(found.vector() @ weights + offset, -8, 8))


def not_taken(kind: str, found: Evidence) -> tuple[str, str]:
    """(kind, reason) of a candidate that is no cut."""
    if found.stays < 0.35 or kind == "fade":
        return "flash", "the picture changes and comes back"
    if found.moved > 0.6 and found.same < 0.6 and found.area > 0.1:
        return "zoom", "the same picture, nearer or moved"
    if found.same > 0.6:
        return "motion", "the same picture with something moving or brighter in it"
    return "motion", "no more change than the motion around it"


def taken(kind: str, found: Evidence) -> str:
    """Why a candidate is a cut, as far as the picture goes."""
    if kind == "crossfade":
        return f"one picture goes over into another within {max(1, found.frames)} frames"
    if kind == "fade":
        return "the picture goes away into a single colour, and another one comes out of it"
    if found.area > 0.15 and found.same < 0.3:
        return "the picture changes completely between two frames"
    return "whoever moves jumps from one frame to the next, before surroundings that stay"
