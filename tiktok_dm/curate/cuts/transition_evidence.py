"""Whether the picture changes to another clip at a candidate: the pictures before it held against those after it.

Does the picture come back (a flash), is it the same picture brighter, nearer or moved (an effect, a zoom, a pan), is it
more than the motion on both sides (a dancer's leap), and do the parts that move break off (a caption over a dancer who
dances on)? The answers are numbers (`Evidence`), the numbers become log-odds, and both become words. Static decoration
never counts: it neither changes nor moves.

For one candidate at a time. Not for where the candidates are (`transitions`), and not for what is decided with the
music and with its neighbours (`shots`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.cuts.scan import Scan
from tiktok_dm.curate.cuts.transitions import NOISE, TILE, Array, Candidate, Change

TILE_NOISE = 1.5  # mean change of a tile that stands still, at low bit rates
NEAR_S, FAR_S = 0.35, 1.2  # s: pictures that tell the motion on one side, pictures in which the old one may come back
# Log-odds of a cut, in the order of `Evidence.vector` and `music_terms`: logistic regression, drawn towards that on 96
# compilations of `tests/curate/compilation_factory.py`, on the candidates of 51 compilations of nine kinds
# (`benchmarks/unseen.py fit`), of 13 more of the factory's, and of 10 rows of its cards.
_HARD = np.array(
    [0.83, -0.47, 3.38, 2.16, 0.76, 0.26, 2.50, -4.24, -3.91, -0.81, 0.65, 3.80, 2.65, 0.27, 0.90], np.float32
)
_HARD_OFFSET = -5.86
_SOFT = np.array(
    [0.00, 2.55, 1.25, 2.83, 1.14, 2.24, -0.63, -2.24, 0.16, 1.21, 0.08, 0.33, 0.55, 0.11, 0.85], np.float32
)
_SOFT_OFFSET = -8.03
CHANGED = 14.0  # levels by which a pixel must change within the pictures about a candidate to belong to the content
LEAST_BOX = 0.4  # share of the picture's height and width: a word that comes on a still card is no content
RETURN_S, RETURN_STEP_S = 6.0, 0.4  # how far cameras that take turns are followed
HOPELESS = -5.5  # log-odds by the picture below which nothing else makes a cut
_SCALES = tuple(float(s) for s in np.geomspace(0.62, 1.62, 13))


@dataclass(frozen=True)
class Evidence:
    """What the pictures on both sides of a candidate say."""

    peak: float  # change over the greatest change nearby
    area: float  # share of the picture that changed
    broken: float  # share of the moving parts that break off
    apart: float  # share of the picture that looks on this side as it never does on the other
    strange: float  # least difference of both sides over the usual difference within one
    stays: float  # least difference of both sides within a second over the change: 0 where the old picture comes back
    same: float  # share of what changed that is still the same drawing, moved by a little, brighter or tinted
    moved: float  # correlation after the best zoom and shift of the whole
    amount: float  # mean change, levels of 255
    frames: int  # that belong to neither side
    strangers: float = 0.0  # share of either side's colours that the other side has not: another dress, another room
    palette: float = 0.0  # 1 - intersection of the colours of both sides (Swain and Ballard 1991)
    returns: float = 1.0  # as `stays`, within `RETURN_S`: 0 where a second camera gives back to the first

    def vector(self) -> Array:
        """(13,) the numbers as the regression takes them."""
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
                self.strangers,
                self.palette,
                min(self.returns, 1.0),
            ],
            np.float32,
        )


def _difference(a: Array, b: Array) -> float:
    """Mean difference of two pictures (h, w, 3) above the noise, levels of 255."""
    return float(np.maximum(np.abs(a - b).mean(-1) - NOISE, 0).mean())


def _drawing(picture: Array) -> Array:
    """Luma without brightness and contrast: each pixel against its neighbourhood, (h, w), about -2..2."""
    from scipy.ndimage import uniform_filter

    luma = picture.mean(-1)
    mean = uniform_filter(luma, 9, mode="nearest")
    deviation = np.sqrt(np.maximum(uniform_filter(luma * luma, 9, mode="nearest") - mean * mean, 0))
    return np.clip((luma - mean) / (deviation + 4.0), -2.5, 2.5)


def _half(picture: Array) -> Array:
    """A picture (h, w) or (h, w, 3) at half its size, by area."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    rows = picture[:height:2, :width] + picture[1:height:2, :width]
    return np.divide(rows[:, ::2] + rows[:, 1::2], 4)


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

    def spread(reach: int, count: int) -> NDArray[np.int64]:
        """Distances from the boundary, dense beside it."""
        return np.unique(np.round(np.geomspace(1, reach, count)).astype(int))

    back = first - spread(far, 11)
    ahead = last - 1 + spread(far, 11)
    back, ahead = back[back >= low], ahead[ahead < high]
    if not len(back) or not len(ahead):
        return Evidence(0, 0, 0, 0, 0, 0, 1, 1, 0, 0)
    before = np.asarray(scan.pictures[back]).astype(np.float32)  # nearest first
    after = np.asarray(scan.pictures[ahead]).astype(np.float32)
    rows, columns = _content(np.concatenate([before, after]))
    before, after = before[:, rows, columns], after[:, rows, columns]
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
    tiles = change.tiles[:, _tiled(rows, change.tiles.shape[1]), _tiled(columns, change.tiles.shape[2])]
    quiet_b = _level(tiles[b0:first]) if first > b0 else np.zeros(tiles.shape[1:], np.float32)
    quiet_a = _level(tiles[last + 1 : a1]) if a1 > last + 1 else np.zeros(tiles.shape[1:], np.float32)
    usual = _dilated(np.maximum(quiet_b, quiet_a))
    if candidate.kind == "hard_cut":
        here = tiles[first].astype(np.float32)
    else:
        height, width = tiles.shape[1] * TILE, tiles.shape[2] * TILE
        step = np.abs(before[0] - after[0]).mean(-1)[:height, :width]
        here = step.reshape(tiles.shape[1], TILE, tiles.shape[2], TILE).mean((1, 3))
    strangers, palette = _colours(before, after)
    returns = _returns(scan, (low, first), (last, high), (rows, columns))
    moving = np.clip(np.maximum(quiet_b, quiet_a) - TILE_NOISE, 0, 10)
    breaks = np.clip((here / (usual + TILE_NOISE) - 1.0) / 1.5, 0, 1)
    # Where nothing moves, nothing can break off but the whole.
    broken = float((moving * breaks).sum() / moving.sum()) if moving.sum() > 0.5 else float((breaks > 0).mean())
    found = Evidence(
        candidate.peak, area, broken, apart, strange, stays, 0.0, 0.0, amount, last - first, strangers, palette, returns
    )
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


def _content(shown: Array) -> tuple[slice, slice]:
    """Rows and columns, whole tiles, of what changes at all in pictures (n, h, w, 3): a window in a still frame."""
    changed = (shown.max(0) - shown.min(0)).mean(-1) > CHANGED
    spans = []
    for axis in (1, 0):
        used = np.flatnonzero(changed.mean(axis) > 0.03)
        size = changed.shape[1 - axis]
        if not len(used):
            return slice(0, changed.shape[0]), slice(0, changed.shape[1])
        low, high = used[0] // TILE * TILE, min(size, -(-(used[-1] + 1) // TILE) * TILE)
        while high - low < LEAST_BOX * size:
            low, high = max(0, low - TILE), min(size, high + TILE)
        spans.append(slice(int(low), int(high)))
    return spans[0], spans[1]


def _tiled(span: slice, count: int) -> slice:
    """The tiles of a span of pixels that begins with a whole one."""
    first = min(span.start // TILE, count - 1)
    return slice(first, max(first + 1, min(count, span.stop // TILE)))


def _colours(before: Array, after: Array) -> tuple[float, float]:
    """(share of one side's pixels whose colour the other side lacks, 1 - intersection of both histograms)."""
    from scipy.ndimage import maximum_filter

    sides = []
    for shown in (before, after):
        bins = np.clip(shown // 32, 0, 7).astype(np.int64)
        counts = np.bincount((bins[..., 0] * 64 + bins[..., 1] * 8 + bins[..., 2]).ravel(), minlength=512)
        sides.append((counts / counts.sum()).reshape(8, 8, 8))
    lacking = [
        float(one[maximum_filter(other, 3, mode="constant") < 0.004].sum()) for one, other in (sides, sides[::-1])
    ]
    return max(lacking), 1 - float(np.minimum(*sides).sum())


def _returns(scan: Scan, back: tuple[int, int], ahead: tuple[int, int], box: tuple[slice, slice]) -> float:
    """Least difference of pictures up to `RETURN_S` before and after a candidate, over that at the candidate itself."""
    reach, step = round(RETURN_S * scan.fps), max(1, round(RETURN_STEP_S * scan.fps))
    earlier = np.arange(back[1] - 1, max(back[0], back[1] - reach) - 1, -step)
    later = np.arange(ahead[0], min(ahead[1], ahead[0] + reach), step)
    if not len(earlier) or not len(later):
        return 1.0
    small = [np.asarray(scan.pictures[at])[:, box[0], box[1]][:, ::2, ::2].astype(np.int16) for at in (earlier, later)]
    cross = np.maximum(np.abs(small[0][:, None] - small[1][None]).mean(-1) - NOISE, 0).mean((2, 3))
    return float(cross.min()) / max(float(cross[0, 0]), 1e-3)


def _level(tiles: NDArray[np.float16]) -> Array:
    """How much each tile usually changes, (rows, columns), of tiles (n, rows, columns)."""
    return np.quantile(tiles.astype(np.float32), 0.85, axis=0).astype(np.float32)


def _dilated(values: Array) -> Array:
    from scipy.ndimage import maximum_filter

    return maximum_filter(values, 3, mode="nearest")


def picture_odds(kind: str, found: Evidence) -> float:
    """Log-odds that a new clip begins at a candidate, by its pictures alone."""
    return cut_odds(kind, found, None)


def cut_odds(kind: str, found: Evidence, runs_on: float | None) -> float:
    """Log-odds that a new clip begins at a candidate.

    Args:
        kind: of the candidate.
        runs_on: probability that the music goes on over it; None where nothing is to be heard.
    """
    weights, offset = (_HARD, _HARD_OFFSET) if kind == "hard_cut" else (_SOFT, _SOFT_OFFSET)
    return float(np.clip(np.append(found.vector(), music_terms(runs_on)) @ weights + offset, -8, 8))


def music_terms(runs_on: float | None) -> Array:
    """(2,) whether music is to be heard, and the log-odds that it changes, for the regression."""
    if runs_on is None:
        return np.zeros(2, np.float32)
    held = float(np.clip(runs_on, 0.05, 0.95))
    return np.array([1.0, np.log((1 - held) / held)], np.float32)


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
