"""The 445 released clips as the project ships them, and how other annotations differ from them.

For `annotations import`, and for anyone who asks whether a copy of the dataset is the released one. Not for the rules
that annotations must keep: a difference is no mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiktok_dm.annotations.tables import Annotations, read_annotations
from tiktok_dm.schema import SEGMENT_S, whole_segments
from tiktok_dm.shipped import shipped


@dataclass(frozen=True)
class Difference:
    """One thing in which the imported file and the release disagree.

    Args:
        kind: `missing_clip`, `extra_clip`, `other_song`, `other_compilation`, `other_split`, `other_segments`, or
            `other_duration` (the file disagrees with itself).
        clip_id: the clip.
        message: both sides, in one sentence.
    """

    kind: str
    clip_id: int
    message: str

    def __str__(self) -> str:
        return self.message


def released_annotations() -> Annotations:
    """The 445 released clips as the project ships them."""
    return read_annotations(shipped("annotations", "tiktok_dm"), shipped("splits", "tiktok_dm.csv"))


def compare_with_released(
    annotations: Annotations, released: Annotations, durations: Mapping[int, float] | None = None
) -> list[Difference]:
    """Every clip in which `annotations` and `released` disagree, by clip.

    Args:
        durations: lengths in s of clips that have no start and end, by clip id.
    """
    mine: dict[int, Any] = {row.clip_id: row for row in annotations.clips.itertuples()}  # type: ignore[misc]
    theirs: dict[int, Any] = {row.clip_id: row for row in released.clips.itertuples()}  # type: ignore[misc]
    out = []
    for clip in sorted(set(mine) | set(theirs)):
        if clip not in mine:
            out.append(Difference("missing_clip", clip, f"clip {clip} is in the release but not in the file"))
            continue
        if clip not in theirs:
            out.append(Difference("extra_clip", clip, f"clip {clip} is in the file but not in the release"))
            continue
        a, b = mine[clip], theirs[clip]
        for noun, x, y in (("song", a.song_id, b.song_id), ("compilation", a.compilation_id, b.compilation_id)):
            if x != y:
                out.append(
                    Difference(f"other_{noun}", clip, f"clip {clip}: {noun} {x} in the file, {y} in the release")
                )
        out += _segment_difference(clip, a, b, (durations or {}).get(clip))
    if annotations.splits is not None and released.splits is not None:
        x = dict(zip(annotations.splits.song_id, annotations.splits.split, strict=True))
        y = dict(zip(released.splits.song_id, released.splits.split, strict=True))
        for clip in sorted(set(mine) & set(theirs)):
            song = mine[clip].song_id
            if song in x and song in y and x[song] != y[song]:
                text = f"clip {clip}: song {song} is in {x[song]} in the file, in {y[song]} in the release"
                out.append(Difference("other_split", clip, text))
    return out


def _segment_difference(clip: int, mine: Any, theirs: Any, duration: float | None) -> list[Difference]:
    import pandas as pd

    start, end = mine.start_s, mine.end_s
    wanted = theirs.released_segments
    if not (pd.isna(start) or pd.isna(end)):
        duration = float(end - start)
    if duration is None or pd.isna(wanted) or whole_segments(duration) == wanted:
        return []
    message = (
        f"clip {clip}: its {duration:g} s hold {whole_segments(duration)} segments of {SEGMENT_S:g} s in the file, "
        f"{wanted} in the release"
    )
    return [Difference("other_segments", clip, message)]
