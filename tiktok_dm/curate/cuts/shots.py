"""Shots of a video: evidence of picture and sound weighed into cuts, and title cards told from clips.

A clip shows people who move. A card is still, or is moved and enlarged as a whole, or has letters and ornaments that
move while nobody does; a photo of a dancer on a card is a person who does not move. So two things are measured: where
the person detector sees people, and how much moves there that a pan or a zoom of the whole picture does not explain.
For one shot at a time.

Joins what the picture says (`transitions`, `transition_evidence`), what the music says (`music_changes`) and what is to
be seen between two cuts (`cards`). Where picture and music both change, a new clip is sure; where only the picture
does, it is likely; where only the music does, there is none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.cuts.music_changes import runs_on
from tiktok_dm.curate.cuts.scan import Scan, scan
from tiktok_dm.curate.cuts.transition_evidence import (
    FAR_S,
    HOPELESS,
    Evidence,
    cut_odds,
    evidence,
    not_taken,
    picture_odds,
    taken,
)
from tiktok_dm.curate.cuts.transitions import Candidate, Change, changes, find_candidates
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


USED = 0.5  # confidence from which on a boundary counts
SURE = 0.9  # boundaries from here on limit what their neighbours look at
GOES_ON, CHANGES = 0.8, 0.2  # probability that the music runs on from which on, and down to which, it is spoken of
SHORTEST_S = 0.3  # two boundaries closer than this are one: a cut behind a flash


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
class Shot:
    """A stretch between two boundaries.

    Args:
        start_s, end_s: time stamp of its first frame, and of the first frame after it; s from the source's first
            instant.
        start, end: the boundaries.
        kind: `clip`, `title_card`, `outro_card`, `card` (between clips) or `black`.
        confidence: 0..1 that it is what `kind` says.
        reason: why, in plain words.
        music_runs_on: 0..1: probability that the music at its start goes on from the shot before it; None for the
            first one and where nothing is to be heard.
    """

    start_s: float
    end_s: float
    start: Boundary
    end: Boundary
    kind: str
    confidence: float
    reason: str
    music_runs_on: float | None


@dataclass(frozen=True)
class _Judged:
    candidate: Candidate
    evidence: Evidence
    odds: float  # by the picture
    heard: float | None  # probability that the music runs on
    confidence: float


def detect_shots(video: str | Path, work: Path | None = None) -> list[Shot]:
    """The shots of a video, which tile it in order: dancers, cards, nothing.

    Args:
        video: a compilation.
        work: folder for what the scan found, so that the next call is quick; a temporary one when None.

    Raises:
        MediaError: the file is missing, empty, not a video, or holds no frame that decodes.

    Example:
        >>> from tiktok_dm import detect_shots
        >>> shots = detect_shots("clip.mp4")
        >>> [(shot.kind, shot.start_s) for shot in shots]
        [('clip', 0.0)]
    """
    if work is not None:
        return find_shots(scan(Path(video), Path(work)))[0]
    with tempfile.TemporaryDirectory(prefix="tiktok-dm-shots-") as scratch:
        return find_shots(scan(Path(video), Path(scratch)))[0]


def find_shots(scan: Scan) -> tuple[list[Shot], list[Boundary]]:
    """The shots of a video, which tile it in order, and every boundary that was considered, by time."""
    judged = _judged(scan)
    used, others = _settled(judged, scan)
    n = len(scan.times_s)
    begin = float(scan.times_s[0])
    ends = [
        Boundary(begin, 0, "start", begin, begin, 1.0, "the first picture"),
        *(_boundary(one, scan, True) for one in used),
        Boundary(scan.end_s, n, "end", scan.end_s, scan.end_s, 1.0, "the end of the video"),
    ]  # fmt: skip
    shots = []
    for k in range(len(ends) - 1):
        first, last = ends[k].frame, ends[k + 1].frame
        kind, confidence, reason = judge(look(scan, first, last), ends[k + 1].at_s - ends[k].at_s)
        heard = used[k - 1].heard if k else None
        shots.append(
            Shot(ends[k].at_s, ends[k + 1].at_s, ends[k], ends[k + 1], kind, round(confidence, 3), reason, heard)
        )
    boundaries = sorted([*ends, *(_boundary(one, scan, False) for one in others)], key=lambda b: (b.at_s, b.kind))
    return _named(shots), boundaries


def _judged(scan: Scan) -> list[_Judged]:
    """Every candidate with its confidence, by time."""
    change = changes(scan)
    judged = [_judge(scan, change, candidate) for candidate in find_candidates(scan, change)]
    # Once more where a sure cut lies within sight: what is behind it says nothing about this side of it.
    sure = [one.candidate for one in judged if one.confidence >= SURE]
    reach = FAR_S * scan.fps
    result = []
    for one in judged:
        here = one.candidate
        low = max((c.last for c in sure if c.last <= here.first and c is not here), default=0)
        high = min((c.first for c in sure if c.first >= here.last and c is not here), default=len(scan.pictures))
        doubtful = 0.01 < one.confidence < 0.99
        near = (here.first - low < reach and low > 0) or (high - here.last < reach and high < len(scan.pictures))
        again = doubtful and near and here.first - low >= 3 and high - here.last >= 3
        result.append(_judge(scan, change, here, (low, high)) if again else one)
    return result


def _judge(scan: Scan, change: Change, candidate: Candidate, limits: tuple[int, int] | None = None) -> _Judged:
    found = evidence(scan, change, candidate, limits)
    scan.release()
    odds = picture_odds(candidate.kind, found)
    heard = None
    if odds > HOPELESS and len(scan.sound):
        fade_s = 0.0
        if candidate.kind != "hard_cut":
            last = min(candidate.last, len(scan.times_s) - 1)
            fade_s = float(scan.times_s[last] - scan.times_s[candidate.first])
        within_s = None
        if limits is not None:
            high = min(limits[1], len(scan.times_s) - 1)
            within_s = float(scan.times_s[limits[0]]), float(scan.times_s[high])
        heard = runs_on(scan.sound, float(scan.times_s[candidate.middle]), fade_s, within_s)
    total = cut_odds(candidate.kind, found, heard)
    return _Judged(candidate, found, odds, heard, 1 / (1 + float(np.exp(-total))))


def _settled(judged: Sequence[_Judged], scan: Scan) -> tuple[list[_Judged], list[_Judged]]:
    """(boundaries that count, the rest), each by time: of those that mean the same change only one is left."""
    counting = [one for one in judged if one.confidence >= USED]
    dropped: list[_Judged] = []

    def drop(one: _Judged) -> None:
        counting.remove(one)
        dropped.append(replace(one, confidence=min(one.confidence, 0.49)))

    # A hard cut that makes most of the change is no part of a fade, and a fade no consequence of it.
    for soft in [one for one in counting if one.candidate.kind != "hard_cut"]:
        within = [
            one
            for one in counting
            if one.candidate.kind == "hard_cut"
            and soft.candidate.first - 2 <= one.candidate.middle <= soft.candidate.last + 2
        ]
        strongest = max((one.evidence.amount for one in within), default=0.0)
        # Where all becomes one colour, whatever jumps beside its middle is that colour coming or going.
        coloured = soft.candidate.kind == "fade" and not any(
            abs(one.candidate.middle - soft.candidate.middle) <= 2 for one in within
        )
        if within and strongest >= 0.5 * soft.evidence.amount and not coloured:
            drop(soft)
        else:
            for one in within:
                drop(one)
    # Boundaries closer than any shot: the surest of them.
    shortest = max(2, round(SHORTEST_S * scan.fps))
    for one in sorted(counting, key=lambda one: (-one.confidence, -one.evidence.amount, one.candidate.middle)):
        if one not in counting:
            continue
        for other in [o for o in counting if o is not one]:
            if abs(other.candidate.middle - one.candidate.middle) < shortest:
                drop(other)
    n = len(scan.times_s)
    for one in [o for o in counting if not 2 <= o.candidate.middle <= n - 2]:
        drop(one)
    rest = [one for one in judged if one.confidence < USED]
    return sorted(counting, key=lambda one: one.candidate.middle), [*rest, *dropped]


def _boundary(one: _Judged, scan: Scan, used: bool) -> Boundary:
    candidate, n = one.candidate, len(scan.times_s)
    at = float(scan.times_s[candidate.middle])
    if candidate.kind == "hard_cut":
        start = end = at
    else:
        start = float(scan.times_s[candidate.first])
        end = float(scan.times_s[candidate.last]) if candidate.last < n else scan.end_s
    kind, reason = candidate.kind, taken(candidate.kind, one.evidence)
    if not used:
        kind, reason = not_taken(candidate.kind, one.evidence)
    elif one.heard is not None:
        if one.heard < CHANGES:
            reason += ", and the music changes with it"
        elif one.heard > GOES_ON:
            reason += "; the music goes on"
    return Boundary(at, candidate.middle, kind, min(start, at), max(end, at), round(one.confidence, 3), reason)


def _named(shots: Sequence[Shot]) -> list[Shot]:
    """Cards before the first clip are titles, those after the last one outros."""
    clips = [k for k, shot in enumerate(shots) if shot.kind == "clip"]
    named = []
    for k, shot in enumerate(shots):
        kind = shot.kind
        if kind == "card" and clips:
            kind = "title_card" if k < clips[0] else "outro_card" if k > clips[-1] else "card"
        named.append(replace(shot, kind=kind))
    return named
