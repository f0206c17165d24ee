"""The shots of a compilation: where each begins and ends, what it shows, how sure that is, and why.

Joins what the picture says (`transitions`, `transition_evidence`), what the music says (`music_changes`) and what is to
be seen between two cuts (`cards`). Where picture and music both change, a new clip is sure; where only the picture
does, it is likely; where only the music does, there is none. Not for songs and not for dancers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tiktok_dm.curate.cuts.cards import judge, look
from tiktok_dm.curate.cuts.music_changes import runs_on
from tiktok_dm.curate.cuts.scan import Scan, scan
from tiktok_dm.curate.cuts.transition_evidence import (
    FAR_S,
    HOPELESS,
    Evidence,
    evidence,
    not_taken,
    picture_odds,
    taken,
)
from tiktok_dm.curate.cuts.transitions import Candidate, Change, changes, find_candidates

USED = 0.5  # confidence from which on a boundary counts
SURE = 0.9  # boundaries from here on limit what their neighbours look at
MUSIC_AGAINST, MUSIC_FOR = -1.0, 4.0  # most that the music may take from or add to the log-odds by the picture
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
    total = odds
    if heard is not None:
        heard = float(np.clip(heard, 0.01, 0.99))
        total += float(np.clip(np.log((1 - heard) / heard), MUSIC_AGAINST, MUSIC_FOR))
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
        if within and strongest >= 0.5 * soft.evidence.amount:
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
        if one.heard < 0.35:
            reason += ", and the music changes with it"
        elif one.heard > 0.65:
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
