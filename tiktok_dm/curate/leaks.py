"""Leaks of a split by ear and eye: clips of both sides that share music, pictures or a source.

Music tells which clips share a song, at any usual speed and pitch, and at which second of each; where nearly the whole
of a clip lies under the same stretch of music, the pictures tell whether it is the same clip again (coded anew,
mirrored, in another border) or another dance to it. Two takes by one dancer before one wall are told apart by their
motion: the still part of the picture is compared on its own. For `sound_audit`; not for what it means for a split.

For `tiktok-dm split --audit`: each clip is found (`audit_sources`), heard and seen once (`audit_evidence`) and compared
with the others (`leaks`).

A clip without sound, or with other music under the same dance, is not found; clips that could not be heard are named.
What the findings mean for a split is said by `tiktok_dm.annotations.splits.audit_splits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiktok_dm.annotations.splits import Finding, audit_splits
from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.audio.song_index import USED, SameSong, SongIndex
from tiktok_dm.curate.leak_evidence import (
    PICTURES_PER_S,
    ClipSource,
    Evidence,
    Progress,
    listen,
    sources_of_dataset,
    sources_of_media,
)
from tiktok_dm.curate.proposals import work_folder
from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NEARLY_WHOLE = 0.8  # share of the shorter clip that lies under the same stretch of music as the other
_LEAST_S = 2.0  # of pictures that are compared
_SEARCH_S = 0.5  # how far the pictures may lie from where the music says: coders shift sound by up to 0.1 s
_STEP_S = 1 / 16
STILL, MOVING = 0.8, 0.6
"""Correlations from which on two tracks are one: of what stands still, and of what moves.

Measured on 20 clips of real dancers, each against itself coded anew, mirrored, darker, half a picture out of step: at
least 0.92 of what moves (0.72 where 7 % of the picture was cut off as well); different dancers at their best of 102
alignments: at most 0.43.
"""
_MOTION = 1.0  # levels (of 255) of root mean square: less is coding noise, not motion


@dataclass(frozen=True)
class Twice:
    """Two clips that are one.

    Args:
        clips: their ids, ascending.
        still, moving: correlation of what stands still and of what moves in their pictures, -1..1.
        mirrored: one is the other's mirror image.
        speed: of the second over the first.
        share: of the shorter clip that is in both.
    """

    clips: tuple[int, int]
    still: float
    moving: float
    mirrored: bool
    speed: float
    share: float

    def __str__(self) -> str:
        words = [f"{round(100 * self.share)} % of the music, pictures {min(self.still, self.moving):.2f} alike"]
        if self.mirrored:
            words.append("mirrored")
        if abs(self.speed - 1) > 0.02:
            words.append(f"played {self.speed:.2f} times as fast")
        return ", ".join(words)


def compare(
    evidence: Mapping[int, Evidence], songs: Mapping[int, int], progress: Progress | None = None
) -> tuple[list[tuple[int, int, float]], list[Twice]]:
    """Pairs of songs that sound the same under two ids, and clips that appear twice.

    Args:
        evidence: by clip id.
        songs: song id of each of those clips.

    Returns:
        (song, song, confidence) with the best confidence of each pair, and the clips; both in order of ids.
    """
    index = SongIndex()
    pairs: list[tuple[int, int, SameSong]] = []
    for done, clip in enumerate(sorted(evidence), 1):  # each among those before it: every two clips meet once
        found = index.search(evidence[clip].music)
        pairs += [(int(same.a), clip, same) for same in found if same.confidence >= USED]
        index.add(str(clip), evidence[clip].music)
        if progress is not None:
            progress("songs", done, len(evidence), f"clip {clip}")
    best: dict[tuple[int, int], float] = {}
    twice = []
    for a, b, same in sorted(pairs, key=lambda pair: pair[:2]):
        one, other = sorted((songs[a], songs[b]))
        if one != other:
            best[one, other] = max(best.get((one, other), 0.0), same.confidence)
        if (again := _same_clip((a, b), evidence[a], evidence[b], same)) is not None:
            twice.append(again)
    return [(*ids, confidence) for ids, confidence in sorted(best.items())], twice


def _same_clip(clips: tuple[int, int], a: Evidence, b: Evidence, same: SameSong) -> Twice | None:
    """Whether two clips with the same music are one clip; `same` is of the first and the second."""
    # Second t of a lies at second offset + t / speed of b.
    first = max(0.0, -same.offset_s * same.speed)
    last = min(a.duration_s, (b.duration_s - same.offset_s) * same.speed)
    shared = last - first
    share = max(shared / a.duration_s, shared / same.speed / b.duration_s)
    if share < NEARLY_WHOLE:
        return None
    still, moving, mirrored = same_pictures(a.pictures, b.pictures, same.speed, same.offset_s)
    if still < STILL or moving < MOVING:
        return None
    return Twice(clips, still, moving, mirrored, same.speed, min(1.0, share))


def same_pictures(a: np.ndarray, b: np.ndarray, speed: float, offset_s: float) -> tuple[float, float, bool]:
    """How alike two tracks are where the music puts them, or up to half a second beside it.

    Second t of `a` is compared with second `offset_s + t / speed` of `b`, as it is and mirrored.

    Returns:
        (correlation of the mean pictures, correlation of what is left of each picture without its track's mean,
        whether the mirror image is meant); the second is the first where neither track moves at all. (-1, -1, False)
        where less than two seconds can be compared.
    """
    best = (-1.0, -1.0, False)
    if min(len(a), len(b)) < _LEAST_S * PICTURES_PER_S:
        return best
    times = np.arange(len(a)) / PICTURES_PER_S
    flipped = b[:, :, ::-1]
    for shift in np.arange(-_SEARCH_S, _SEARCH_S + 1e-9, _STEP_S):
        places = (offset_s + shift + times / speed) * PICTURES_PER_S
        inside = (places >= 0) & (places <= len(b) - 1)
        if inside.sum() < _LEAST_S * PICTURES_PER_S:
            continue
        ours = a[inside].astype(np.float32)
        for mirrored, track in ((False, b), (True, flipped)):
            theirs = _between(track, places[inside])
            found = (*_correlations(ours, theirs), mirrored)
            if min(found[:2]) > min(best[:2]):
                best = found
    return best


def _between(track: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pictures at fractional places of a track, linearly between its pictures."""
    low = np.minimum(places.astype(int), max(len(track) - 2, 0))
    part = (places - low)[:, None, None].astype(np.float32)
    return (1 - part) * track[low] + part * track[np.minimum(low + 1, len(track) - 1)]


def _correlations(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Of what stands still and of what moves in two tracks float32 (n, 16, 16)."""
    still_a, still_b = a.mean(axis=0), b.mean(axis=0)
    moving_a, moving_b = a - still_a, b - still_b
    still = _correlation(still_a, still_b)
    if max(moving_a.std(), moving_b.std()) < _MOTION:
        return still, still
    return still, _correlation(moving_a, moving_b)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, -1..1; 0 where one of the two is constant."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y / size) if size > 1e-9 else 0.0


@dataclass(frozen=True)
class SoundAudit:
    """An audit with everything that can be heard and seen.

    Args:
        findings: as `audit_splits` gives them.
        heard: number of clips that were compared.
        not_heard: ids of clips that could not be, by the reason in words.
        songs: pairs of songs that sound the same under two ids, (song, song, confidence).
        twice: clips that are one.
    """

    findings: list[Finding]
    heard: int
    not_heard: dict[str, tuple[int, ...]]
    songs: list[tuple[int, int, float]]
    twice: list[Twice]

    @property
    def notes(self) -> list[str]:
        """A sentence for each reason for which clips were not compared."""
        notes = []
        for reason, clips in self.not_heard.items():
            shown = ", ".join(map(str, clips[:20])) + (f" and {len(clips) - 20} more" if len(clips) > 20 else "")
            notes.append(f"clip{'' if len(clips) == 1 else 's'} {shown} not compared: {reason}")
        return notes


def audit_sound(
    annotations: Annotations,
    *,
    media: Path | str | None = None,
    dataset: Path | str | None = None,
    progress: Progress | None = None,
) -> SoundAudit:
    """Audit a split by ear and eye.

    Args:
        annotations: with `splits`.
        media: folder with the compilations; or
        dataset: a built dataset, whose own splits are held against the annotations' too.
        progress: called after each clip that was heard, then after each whose music was compared.

    Raises:
        UserError: both or none of `media` and `dataset`, or they are not there; no splits.
    """
    if (media is None) == (dataset is None):
        raise UserError("say where the clips are: --media FOLDER with the compilations, or --dataset OUT")
    if annotations.splits is None:
        raise UserError(f"{annotations.root} has no split to look at: make one with `tiktok-dm split`")
    clips = annotations.clips
    not_heard: dict[str, list[int]] = {}
    if media is not None:
        here = list(sources_of_media(annotations, Path(media), not_heard))
        sources: Iterable[ClipSource] = here
        total = len(here)
    else:
        assert dataset is not None
        rows, sources = sources_of_dataset(dataset)
        total = len(rows)
        absent = sorted({int(clip) for clip in clips.clip_id} - {int(clip) for clip in rows.clip_id})
        if absent:
            not_heard["not in the dataset"] = absent
        clips = _joined(clips, rows)
    cache = work_folder(annotations.root) / "audit"
    evidence = listen(sources, not_heard, cache, progress, total)
    songs_of = {int(c): int(s) for c, s in zip(clips.clip_id, clips.song_id, strict=True)}
    songs, twice = compare(evidence, songs_of, progress)
    findings = audit_splits(
        clips, annotations.splits, songs, [(*pair.clips, str(pair)) for pair in twice], annotations.songs
    )
    reasons = {reason: tuple(sorted(ids)) for reason, ids in sorted(not_heard.items())}
    return SoundAudit(findings, len(evidence), reasons, songs, twice)


def _joined(clips: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The annotated clips and the dataset's, which say their split."""
    import pandas as pd

    return pd.concat([clips[["clip_id", "song_id", "compilation_id"]], rows], ignore_index=True)
