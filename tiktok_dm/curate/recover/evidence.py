"""Proposals and annotations in the terms of the alignment: what was seen in a video, what is known of its clips.

For `recover_times` and `match_videos`: tables go in, `tiktok_dm.curate.recover.model` comes out. Not for what the
alignment makes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.proposals import Proposals, rows_of
from tiktok_dm.curate.recover.model import ClipFact, VideoEvidence

if TYPE_CHECKING:
    import pandas as pd

_SAME_CUT_S = 0.5  # a clip's end with a candidate this near needs no candidate of its own
_REVIEWED = 0.995  # confidence of a boundary that a person has looked at


def evidence(proposals: Proposals, proposed_id: int, duration_s: float | None = None) -> VideoEvidence:
    """What the proposals say of one of their compilations, in the terms of the alignment.

    Args:
        duration_s: length of the video; by default its `end` candidate, else the last instant that is mentioned.
    """

    def own(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame.compilation_id == proposed_id]

    candidates = own(proposals.candidates).sort_values("at_s", kind="stable")
    clips = own(proposals.clips)
    clips = clips[clips.start_s.notna() & clips.end_s.notna()].sort_values("start_s", kind="stable")
    rejected = own(proposals.rejected).sort_values("start_s", kind="stable")
    last = max(
        [0.0, *candidates.at_s.tolist(), *clips.end_s.tolist(), *rejected.end_s.tolist()]
        if duration_s is None
        else [float(duration_s)]
    )
    inner = candidates[~candidates.kind.isin(["start", "end"])]
    at = [float(value) for value in inner.at_s]
    sure = [float(value) for value in inner.confidence]
    told = proposals.proposals.set_index("clip_id")
    known = np.array(at)
    for row in rows_of(clips):
        said = told.loc[row.clip_id] if row.clip_id in told.index else None
        for name, instant in (("start", float(row.start_s)), ("end", float(row.end_s))):
            if said is not None and isinstance(said.review, str):
                at, sure = [*at, instant], [*sure, _REVIEWED]
            elif not len(known) or np.abs(known - instant).min() > _SAME_CUT_S:
                value = None if said is None else said[f"{name}_confidence"]
                at, sure = [*at, instant], [*sure, known_or(value, 0.8)]
    for row in rows_of(rejected):
        for instant in (float(row.start_s), float(row.end_s)):
            if not len(at) or np.abs(np.array(at) - instant).min() > _SAME_CUT_S:
                at, sure = [*at, instant], [*sure, max(0.5, float(row.confidence))]
    order = np.argsort(at, kind="stable")
    place = {int(clip): i for i, clip in enumerate(clips.clip_id)}
    pairs = [
        (place[int(row.clip_a)], place[int(row.clip_b)], _answered(row))
        for row in rows_of(proposals.same_songs)
        if row.clip_a in place and row.clip_b in place
    ]
    song_confidence = [
        1.0 if isinstance(row.review, str) else known_or(row.song_confidence, 0.8)
        for row in rows_of(told.reindex(clips.clip_id))
    ]
    return VideoEvidence(
        duration_s=last,
        candidate_s=np.array(at, np.float64)[order],
        candidate_confidence=np.array(sure, np.float64)[order],
        stretch_s=clips[["start_s", "end_s"]].to_numpy(np.float64).reshape(-1, 2),
        stretch_song=clips.song_id.fillna(-1).to_numpy(np.int64),
        stretch_song_confidence=np.array(song_confidence, np.float64),
        stretch_dancers=clips.n_dancers.fillna(0).to_numpy(np.int64),
        rejected_s=rejected[["start_s", "end_s"]].to_numpy(np.float64).reshape(-1, 2),
        rejected_confidence=rejected.confidence.to_numpy(np.float64),
        same_song=np.array(pairs, np.float64).reshape(-1, 3),
    )


def facts(annotations: Annotations, compilation_id: int) -> tuple[list[int], list[ClipFact]]:
    """Ids and facts of a compilation's clips, in their order in the video, which is that of their ids."""
    import pandas as pd

    clips = annotations.clips[annotations.clips.compilation_id == compilation_id].sort_values("clip_id")
    found = [
        ClipFact(
            song=int(row.song_id),
            segments=None if pd.isna(row.released_segments) else int(row.released_segments),
            n_dancers=0 if pd.isna(row.n_dancers) else int(row.n_dancers),
            start_s=None if pd.isna(row.start_s) else float(row.start_s),
            end_s=None if pd.isna(row.end_s) else float(row.end_s),
        )
        for row in rows_of(clips)
    ]
    return [int(clip) for clip in clips.clip_id], found


def known_or(value: Any, otherwise: float) -> float:
    """The number in a cell, or another where the cell is empty."""
    import pandas as pd

    return otherwise if value is None or pd.isna(value) else float(value)


def _answered(row: Any) -> float:
    """Confidence of a pair of `same_songs.csv`, 0..1; what a person said of it goes before."""
    return {"same": 1.0, "different": 0.0}.get(row.answer, float(row.confidence))
