"""Where the picture proper is inside a decorated frame.

Compilations show upright phone videos inside a landscape frame: pictures, logos, black bars or a blurred, enlarged copy
fill the rest. A person must be looked for in the picture proper only. Motion alone does not tell: a dancer in a studio
stands before surroundings that are as still as any decoration. What gives a window away is its border: a step in
brightness that lies in exactly the same column, row after row, picture after picture, on both sides, with everything
that happens between them.

For one clip (one layout). Not for finding cuts, and not for finding people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Levels (of 255) by which a step must stand out from the steps beside it.
_STEP = 4.0
# Widths to heights of phone videos and of the crops that platforms make: such a window needs less proof.
_USUAL_ASPECTS = (0.462, 0.5, 0.5625, 2 / 3, 0.75, 0.8, 1.0)
_ASPECTS = (0.38, 1.45)
# Share of rows in which both borders must show: of a window in the middle with a usual aspect, of any other, of a
# window whose one side is the side of the frame.
_ROWS_LEAST, _ROWS_ANY, _ROWS_ONE_SIDE = 0.6, 0.9, 0.97
# Windows are looked for in frames wider than this (to height): what is left between black bars is the picture itself.
_LANDSCAPE = 1.1
# Black: what video levels and their compression noise leave of nothing.
_BLACK = 26.0


@dataclass(frozen=True)
class ContentBox:
    """The picture proper, in px of the pictures it was found in.

    Args:
        x: left column.
        y: top row.
        width: columns.
        height: rows.
        confidence: 0..1: share of the border in which the step was seen; 1 for a whole frame without any such border.
    """

    x: int
    y: int
    width: int
    height: int
    confidence: float = 1.0

    def scaled(self, source: tuple[int, int], target: tuple[int, int]) -> ContentBox:
        """The same box in a picture of another size (both as width, height)."""
        horizontal, vertical = target[0] / source[0], target[1] / source[1]
        left, right = round(self.x * horizontal), round((self.x + self.width) * horizontal)
        top, bottom = round(self.y * vertical), round((self.y + self.height) * vertical)
        return ContentBox(left, top, right - left, bottom - top, self.confidence)


def find_content_box(frames: Iterable[np.ndarray] | np.ndarray) -> ContentBox:
    """Find the picture proper in a sparse sample of one clip's pictures.

    Args:
        frames: uint8 RGB, each (H, W, 3): some 24 to 48 of them, spread over the clip; 360 px of height are enough.

    Returns:
        The window inside static or blurred decoration or black bars; the whole frame where there is none, and where
        the sample is too small to tell (fewer than three pictures).
    """
    pictures = np.stack([np.asarray(frame) for frame in frames]) if not isinstance(frames, np.ndarray) else frames
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or len(pictures) == 0:
        raise ValueError("frames must be RGB pictures (H, W, 3) of one size, at least one")
    height, width = pictures.shape[1:3]
    if len(pictures) < 3 or width < 32 or height < 32:
        return ContentBox(0, 0, width, height)
    left, top, right, bottom = _without_black_bars(pictures)
    confidence = 1.0
    window = _window(pictures[:, top:bottom, left:right])
    if window is not None:
        x0, y0, x1, y1, confidence = window
        right, bottom = left + round(x1), top + round(y1)
        left, top = left + round(x0), top + round(y0)
    return ContentBox(left, top, right - left, bottom - top, confidence)


def _without_black_bars(pictures: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) without black bars; a dark scene, which has no abrupt border, keeps its frame."""
    brightest = _greatest(pictures.max(axis=0))
    height, width = brightest.shape

    def bar(lines: np.ndarray) -> int:
        """How many of the outermost lines (lines, px) are black, if the picture then begins abruptly."""
        lines = lines[:, (lines > _BLACK).mean(axis=0) > 0.1]  # bars along the other sides say nothing
        if lines.shape[1] == 0:
            return 0
        black = (lines > _BLACK).mean(axis=1) <= 0.03
        count = int(np.argmin(black)) if not black.all() else 0
        if count < 2 or count > 0.45 * len(lines):
            return 0
        inside = lines[min(count + 2, len(lines) - 1)]
        return count if (inside > _BLACK + 20).mean() >= 0.5 else 0

    top, bottom = bar(brightest), height - bar(brightest[::-1])
    columns = brightest[top:bottom].T
    left, right = bar(columns), width - bar(columns[::-1])
    return left, top, right, bottom


def _greatest(channels: np.ndarray) -> np.ndarray:
    """Maximum over the three channels (a reduction over so short an axis is slow)."""
    return np.maximum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2])


def _steps(pictures: np.ndarray) -> np.ndarray:
    """How much the step over each column border stands out (H, W), in levels, against the borders nearby.

    Entry x is the border between columns x - 1 and x, measured between the means of two columns on either side. Two
    measures, of which the greater counts: the mean size of the step (a moving picture beside anything) and the size of
    the mean step (a faint but lasting one, which noise does not drown).
    """
    height, width = pictures.shape[1:3]
    size = np.zeros((height, width - 3), np.float32)
    signed = np.zeros((height, width - 3, 3), np.int32)
    for picture in pictures:
        rgb = picture.astype(np.int16)
        pairs = rgb[:, 1:] + rgb[:, :-1]
        step = pairs[:, 2:] - pairs[:, :-2]
        signed += step
        size += _greatest(np.abs(step))
    result = np.zeros((height, width), np.float32)
    for measure in (size, _greatest(np.abs(signed)).astype(np.float32)):
        mean = measure / (2 * len(pictures))
        nearby = np.stack([np.roll(mean, offset, axis=1) for offset in (-8, -6, -5, 5, 6, 8)])
        nearby.partition(3, axis=0)
        np.maximum(result[:, 2 : width - 1], mean - nearby[3], out=result[:, 2 : width - 1])
    return result


def _activity(pictures: np.ndarray) -> np.ndarray:
    """Mean change from picture to picture (H, W), in levels, above the floor that noise gives everywhere."""
    total = np.zeros(pictures.shape[1:3], np.float32)
    for before, after in pairwise(pictures):
        total += _greatest(np.abs(after.astype(np.int16) - before))
    mean = total / (len(pictures) - 1)
    return np.maximum(mean - np.quantile(mean, 0.05), 0)


def _detail(pictures: np.ndarray) -> np.ndarray:
    """Mean fine detail (H / 2, W / 2), in levels above the noise floor: what a blur takes away."""
    height, width = (n // 2 * 2 for n in pictures.shape[1:3])
    total = np.zeros((height // 2, width // 2), np.float32)
    for picture in pictures:
        g = picture[:height, :width, 1].astype(np.int16)
        g = g[::2, ::2] + g[1::2, ::2] + g[::2, 1::2] + g[1::2, 1::2]
        total[1:-1, 1:-1] += np.abs(4 * g[1:-1, 1:-1] - g[:-2, 1:-1] - g[2:, 1:-1] - g[1:-1, :-2] - g[1:-1, 2:])
    mean = total / (16 * len(pictures))
    return np.maximum(mean - np.quantile(mean[1:-1, 1:-1], 0.05), 0)


def _candidates(rows: np.ndarray, most: int = 12) -> list[int]:
    """Columns whose border shows in many rows (rows: bool (H, W)), the best of each neighbourhood, best first."""
    # Noise moves the best column of a soft border by one: a row counts if a neighbour shows it.
    share = rows.mean(axis=0)
    found: list[int] = []
    for x in np.argsort(-share, kind="stable"):
        if len(found) == most or share[x] < 0.3:
            break
        if all(abs(int(x) - other) > 5 for other in found):
            found.append(int(x))
    return found


def _longest(rows: np.ndarray) -> tuple[int, int]:
    """[first, last) of the stretch of rows (bool (H,)) with the most hits over misses (a miss costs two hits)."""
    best, best_span, total, begin = 0.0, (0, 0), 0.0, 0
    for y, hit in enumerate(rows):
        if total <= 0:
            total, begin = 0.0, y
        total += 1.0 if hit else -2.0
        if total > best:
            best, best_span = total, (begin, y + 1)
    return best_span


def _edge_position(steps: np.ndarray, x: int) -> float:
    """The border's place to a fraction of a column: the centre of the steps around `x` (steps: (H, W), excess)."""
    span = np.arange(max(x - 2, 0), min(x + 3, steps.shape[1]))
    weight = np.clip(steps[:, span], 0, None).mean(axis=0)
    weight = np.clip(weight - 0.5 * weight.max(), 0, None)
    return float((weight * span).sum() / weight.sum()) if weight.sum() > 0 else float(x)


def _is_decoration(activity: np.ndarray, detail: np.ndarray, inside: tuple[int, int, int, int], parts: list) -> bool:
    """Whether all parts outside a window are still, or blurred, compared with what is inside."""
    x0, y0, x1, y1 = inside
    moves = float(activity[y0:y1, x0:x1].mean())
    fine = float(np.quantile(detail[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2], 0.95))
    for rows, columns in parts:
        part = activity[rows, columns]
        if part.size == 0:
            continue
        # A watermark or a logo that moves over the border is a small part of it.
        busy = float(np.sort(part, axis=None)[: max(1, int(part.size * 0.85))].mean())
        still = busy <= max(0.12 * moves, 0.3)
        halves = detail[_half(rows), _half(columns)]
        blurred = halves.size > 0 and float(np.quantile(halves, 0.95)) <= 0.4 * fine
        if not still and not blurred:
            return False
    return True


def _half(span: slice) -> slice:
    return slice((span.start + 1) // 2, span.stop // 2)


def _window(pictures: np.ndarray) -> tuple[float, float, float, float, float] | None:
    """(left, top, right, bottom, confidence) of a decorated window, or None."""
    height, width = pictures.shape[1:3]
    if width < _LANDSCAPE * height:
        return None
    steps = _steps(pictures)
    shows = steps > _STEP
    columns = _candidates(shows)
    if not columns:
        return None
    activity, detail = _activity(pictures), _detail(pictures)
    near, margin = max(8, round(0.05 * width)), 4
    best: tuple[float, tuple[float, float, float, float, float]] | None = None
    sides = sorted({0, width, *columns})
    for i, x0 in enumerate(sides):
        for x1 in sides[i + 1 :]:
            if (x0, x1) == (0, width) or x1 - x0 < 0.15 * width:
                continue
            both = np.ones(height, bool)
            for x in (x0, x1):
                if 0 < x < width:
                    both &= shows[:, x]
            y0, y1 = _longest(both)
            if y1 - y0 < 0.45 * height or both[y0:y1].mean() < _ROWS_LEAST:
                continue
            y0, y1 = _vertical_ends(pictures, x0, x1, y0, y1)
            share = float(both[y0:y1].mean())
            aspect = (x1 - x0) / (y1 - y0)
            one_side = x0 == 0 or x1 == width
            usual = min(abs(aspect / a - 1) for a in _USUAL_ASPECTS) < 0.04
            centred = abs(x0 + x1 - width) <= 0.03 * width
            needed = _ROWS_ONE_SIDE if one_side else _ROWS_ANY - 0.1 * usual - 0.2 * (usual and centred)
            if (
                y1 - y0 < 0.5 * height
                or share < needed
                or not _ASPECTS[0] <= aspect <= _ASPECTS[1]
                or (one_side and not usual)
            ):
                continue
            outer = max(0, x0 - margin), min(width, x1 + margin)
            parts = [
                (slice(0, height), slice(0, outer[0])),
                (slice(0, height), slice(outer[1], width)),
                (slice(y0, y1), slice(max(0, outer[0] - near), outer[0])),
                (slice(y0, y1), slice(outer[1], min(width, outer[1] + near))),
                (slice(0, max(0, y0 - margin)), slice(0, width)),
                (slice(min(height, y1 + margin), height), slice(0, width)),
                # Legs that go on below a mirror or a door that looks like a window.
                (slice(max(0, y0 - near), max(0, y0 - margin)), slice(x0, x1)),
                (slice(min(height, y1 + margin), min(height, y1 + near)), slice(x0, x1)),
            ]
            if not _is_decoration(activity, detail, (x0, y0, x1, y1), parts):
                continue
            # Of nested windows equally well bordered (a frame drawn around the video), the inner one.
            score = share + 0.1 * usual + 0.1 * centred - 0.2 * one_side - 0.1 * (x1 - x0) / width
            if best is None or score > best[0]:
                left = _edge_position(steps[y0:y1], x0) if x0 else 0.0
                right = _edge_position(steps[y0:y1], x1) if x1 < width else float(width)
                best = score, (left, float(y0), right, float(y1), round(share, 3))
    return best[1] if best else None


def _vertical_ends(pictures: np.ndarray, x0: int, x1: int, y0: int, y1: int) -> tuple[int, int]:
    """Top and bottom of a window with sides `x0`, `x1`, whose sides show between `y0` and `y1`.

    An end counts where the step over it shows across the window; otherwise the window goes on to the frame's edge
    (where content and decoration happen to look alike, the sides do not show).
    """
    height = pictures.shape[1]
    inset = (x1 - x0) // 20
    part = pictures[:, :, x0 + inset : x1 - inset].transpose(0, 2, 1, 3)
    ends = []
    for y, edge in ((y0, 0), (y1, height)):
        if abs(y - edge) <= 0.03 * height:
            ends.append(edge)
            continue
        low, high = (0, min(height, y + 16)) if edge == 0 else (max(0, y - 16), height)
        rows = _steps(part[:, :, low:high])
        share = (rows > _STEP).mean(axis=0)
        at = int(np.argmax(share))
        ends.append(low + round(_edge_position(rows, at)) if share[at] >= 0.6 else edge)
    return ends[0], ends[1]
