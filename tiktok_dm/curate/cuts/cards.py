"""What a shot shows: a dancer, a card (a title, an outro, an advertisement), or nothing.

A clip shows people who move. A card is still, or is moved and enlarged as a whole, or has letters and ornaments that
move while nobody does; a photo of a dancer on a card is a person who does not move. So two things are measured: where
the person detector sees people, and how much moves there that a pan or a zoom of the whole picture does not explain.
For one shot at a time. Not for where shots begin and end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.cuts.scan import Scan
from tiktok_dm.media.content_box import find_content_box

Array = NDArray[np.float32]

LAG_S = 0.2  # s between pictures that are compared: a dancer's arm moves by its own width in it
CHANGED = 12.0  # levels by which a pixel must change in that time: above grain and compression
STILLS = 6  # pictures that the person detector looks at: 20 ms each
# Median score of the detector from which on somebody is there: dancers have 0.8 and more in nine shots of ten, letters
# and confetti are seldom above 0.5.
PERSON = 0.6
UNSURE = 0.15  # scores so near to PERSON leave it open
MOVES = 0.03  # share of a person's region that changes within LAG_S: a dancer's is 0.1 and more, a photo's 0
ANYTHING = 0.004  # share of the picture that changes within LAG_S where anything moves at all
SHORT_S, LONG_S = 1.5, 8.0  # clips are hardly ever shorter, cards hardly ever longer
DARK, FLAT = 24.0, 8.0  # greatest mean level, greatest standard deviation of black


@dataclass(frozen=True)
class Content:
    """What a shot shows.

    Args:
        people: median over the stills of the detector's best score; None where there was nothing to look at.
        moving: median share of the picture that changes within `LAG_S` beyond a pan or zoom of the whole.
        person_moves: the same within the regions of people, upper quartile; 0 where there is nobody.
        black: nearly nothing is to be seen.
    """

    people: float | None
    moving: float
    person_moves: float
    black: bool


def look(scan: Scan, first: int, last: int) -> Content:
    """Measure the shot of the frames `first` to `last - 1`."""
    lag = max(1, round(LAG_S * scan.fps))
    count = int(np.clip((last - first) // lag, 1, 40))
    at = np.unique(np.linspace(first, max(first, last - 1 - lag), count).astype(int))
    pictures = np.asarray(scan.pictures[at]).astype(np.float32).mean(-1)
    later = np.asarray(scan.pictures[np.minimum(at + lag, last - 1)]).astype(np.float32).mean(-1)
    scan.release()
    if float(pictures.mean((1, 2)).max()) < DARK and float(np.median(pictures.std((1, 2)))) < FLAT:
        return Content(None, 0.0, 0.0, True)
    changed = np.stack([np.abs(unexplained(a, b)) > CHANGED for a, b in zip(pictures, later, strict=True)])
    moving = float(np.median(changed.mean((1, 2))))
    people, where = _people(scan, first, last, changed.shape[1:])
    person_moves = 0.0
    if where is not None and where.any():
        person_moves = float(np.quantile(changed[:, where].mean(1), 0.75))
    return Content(people, moving, person_moves, False)


def unexplained(a: Array, b: Array, rounds: int = 2) -> Array:
    """What a pan and a zoom of all of `a` leave of b - a, (h, w) (Lucas and Kanade 1981, with three unknowns)."""
    height, width = a.shape
    y, x = np.meshgrid(np.arange(height) - height / 2, np.arange(width) - width / 2, indexing="ij")
    gy, gx = np.gradient(a)
    basis = np.stack([gx, gy, gx * x + gy * y], -1).reshape(-1, 3)
    left = (b - a).reshape(-1)
    weight = np.ones_like(left)
    best = left
    for _ in range(rounds):
        # Small leftovers count most: people who move must not bend what moves the whole.
        normal = basis.T @ (basis * weight[:, None]) + np.eye(3, dtype=np.float32)
        best = left - basis @ np.linalg.solve(normal, basis.T @ (left * weight))
        weight = 1 / (1 + (best / 8) ** 2)
    kept = np.where(np.abs(best) < np.abs(left), best, left)
    return kept.reshape(height, width).astype(np.float32)


def _people(scan: Scan, first: int, last: int, shape: tuple[int, ...]) -> tuple[float | None, NDArray[np.bool_] | None]:
    """(share of stills with somebody, px of the small picture that belong to people's regions)."""

    start, end = float(scan.times_s[first]), float(scan.times_s[last - 1])
    inside = np.flatnonzero((scan.stills_s >= start - 1e-6) & (scan.stills_s <= end + 1e-6))
    if not len(inside):
        return None, None
    chosen = inside[np.unique(np.linspace(0, len(inside) - 1, min(STILLS, len(inside))).round().astype(int))]
    stills = [scan.still(int(k)) for k in chosen]
    height, width = stills[0].shape[:2]
    where = np.zeros(shape, bool)
    scores = [_look_at(still, (0, 0, width, height), where) for still in stills]
    # People who are small in a wide picture are found in a part of it: the window, if there is one, or a square.
    parts: list[tuple[int, int, int, int]] = []
    if np.median(scores) < PERSON + UNSURE:
        if len(stills) >= 3:
            box = find_content_box(np.stack(stills))
            if (box.width, box.height) != (width, height):
                parts.append((box.x, box.y, box.width, box.height))
        if width > height:
            parts += [(x, 0, height, height) for x in (0, (width - height) // 2, width - height)]
    for part in parts:
        for k, still in enumerate(stills):
            if scores[k] < PERSON + UNSURE:
                scores[k] = max(scores[k], _look_at(still, part, where))
    return float(np.median(scores)), where


def _look_at(still: NDArray[np.uint8], view: tuple[int, int, int, int], where: NDArray[np.bool_]) -> float:
    """Best score in a part (x, y, width, height) of a still; regions of people are marked in `where`."""
    from tiktok_dm.pose.registry import get_estimator

    x, y, w, h = view
    height, width = still.shape[:2]
    found = get_estimator("mediapipe").detect([np.ascontiguousarray(still[y : y + h, x : x + w])])[0]
    for person in found:
        if person.score < PERSON - UNSURE:
            continue
        region = person.region
        # The region is a square about the person; the middle of its width is where arms and legs are.
        rows = _span(y + region.y, 0.45 * region.height, where.shape[0] / height)
        columns = _span(x + region.x, 0.3 * region.width, where.shape[1] / width)
        where[rows, columns] = True
    return max((person.score for person in found), default=0.0)


def _span(centre: float, reach: float, scale: float) -> slice:
    return slice(max(0, int((centre - reach) * scale)), max(0, int(np.ceil((centre + reach) * scale))))


def judge(content: Content, seconds: float) -> tuple[str, float, str]:
    """(`clip`, `card` or `black`, confidence, reason) of what a shot of that length shows."""
    people, moving, moves = content.people, content.moving, content.person_moves
    if content.black:
        return "black", 0.95, "nothing but black"
    if people is None:
        if moving < ANYTHING:
            return "card", 0.7, "nothing moves"
        return "clip", 0.5, "something moves, too short to see whether somebody is there"
    if moving < ANYTHING and (people < PERSON or moves < MOVES):
        there = "a picture of somebody who does not move" if people >= PERSON else "nothing moves, and nobody is there"
        return "card", float(np.clip(0.97 - 30 * moving, 0.6, 0.97)), there
    if people >= PERSON:
        if moves < MOVES:
            sure = float(np.clip(0.5 + 15 * (MOVES - moves), 0.5, 0.9))
            return "card", sure, "a picture of somebody who does not move"
        sure = float(np.clip(0.5 + 1.5 * (people - PERSON) + 3 * (moves - MOVES), 0.5, 0.97))
        return "clip", sure if seconds >= SHORT_S else min(sure, 0.6), "somebody is there and moves"
    if people >= PERSON - UNSURE and seconds >= LONG_S:
        return "clip", 0.5, "something moves; perhaps somebody is there"
    # A long stretch of moving pictures without anybody to be seen is more often a dancer whom the detector misses.
    sure = 0.8 if seconds < LONG_S else 0.55
    return "card", sure - 0.5 * people * (people > 0.3), "something moves, but nobody is there"
