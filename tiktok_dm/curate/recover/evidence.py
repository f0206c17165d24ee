"""What a video says of where the known clips are, and which video is which compilation.

For `recover_times` and `match_videos`: tables go in, `tiktok_dm.curate.recover.model` comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.proposals import Proposals, rows_of
from tiktok_dm.curate.recover.alignment import log_evidence
from tiktok_dm.curate.recover.model import AlignmentModel, ClipFact, VideoEvidence
from tiktok_dm.errors import UserError
from tiktok_dm.pipeline.acquire import named_after

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


@dataclass(frozen=True)
class Match:
    """Which video is a compilation, and how that is known.

    Args:
        compilation_id: of the annotations.
        proposed_id: of the proposals.
        file: name of the video, empty where the proposals do not say.
        how: in words.
    """

    compilation_id: int
    proposed_id: int
    file: str
    how: str


def match_videos(
    annotations: Annotations,
    proposals: Proposals,
    durations: Mapping[int, float] | None = None,
    *,
    model: AlignmentModel | None = None,
) -> list[Match]:
    """Which of the proposals' compilations is which of the annotations'.

    By checksum, then by name (`file` of the annotations, or a name made of the id: `3.mp4`, `000003.mkv`,
    `compilation_3.webm`). Whatever is left is dealt out so that the clips fit best: the sum over videos of the
    alignments' log-evidence is made as great as possible (an assignment problem). A compilation without clips, and one
    for which no video is left, has no match.

    Args:
        durations: lengths in s of the videos, by the proposals' compilation id; see `evidence`.

    Raises:
        UserError: two videos have the name of one compilation.
    """
    import pandas as pd
    from scipy.optimize import linear_sum_assignment

    durations = durations or {}
    wanted = annotations.compilations[annotations.compilations.compilation_id.isin(annotations.clips.compilation_id)]
    videos = {int(row.compilation_id): row for row in rows_of(proposals.annotations.compilations)}
    files = {i: "" if pd.isna(row.file) else str(row.file) for i, row in videos.items()}
    found: dict[int, Match] = {}

    def take(compilation_id: int, those: list[int], how: str) -> None:
        if len(those) > 1:
            names = " and ".join(files[i] or f"video {i}" for i in those)
            raise UserError(f"{names} could all be compilation {compilation_id}: leave one of them there")
        for i in those:
            found[compilation_id] = Match(compilation_id, i, files[i], how)

    def free() -> list[int]:
        taken = {match.proposed_id for match in found.values()}
        return [i for i in videos if i not in taken]

    for row in rows_of(wanted):
        known = None if pd.isna(row.sha256) else str(row.sha256).lower()
        if known is not None:
            same = [i for i in free() if not pd.isna(videos[i].sha256) and str(videos[i].sha256).lower() == known]
            take(int(row.compilation_id), same[:1], "by its checksum")
    for row in rows_of(wanted):
        number = int(row.compilation_id)
        if number in found:
            continue
        named = [i for i in free() if not pd.isna(row.file) and files[i] == str(row.file)]
        pattern = named_after(number)
        by_id = [i for i in free() if files[i] and pattern.fullmatch(Path(files[i]).stem)]
        take(number, named or by_id, "by its name")
    left, rest = [int(i) for i in wanted.compilation_id if int(i) not in found], free()
    if left and rest:
        scores = np.empty((len(rest), len(left)))
        seen = [evidence(proposals, i, durations.get(i)) for i in rest]
        for k, number in enumerate(left):
            clips = facts(annotations, number)[1]
            scores[:, k] = [log_evidence(video, clips, model) for video in seen]
        for j, k in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
            others = np.delete(scores[j], k)
            lead = scores[j, k] - others.max() if len(others) else np.inf
            how = "it is the only one left" if not len(others) and len(rest) == 1 else "its clips fit best"
            if len(others):
                how += (
                    f", {lead:.0f} nats before the next"
                    if lead > 0
                    else f", all videos taken together (alone, another would fit it better by {-lead:.0f} nats)"
                )
            found[left[k]] = Match(left[k], rest[j], files[rest[j]], how)
    return [found[number] for number in sorted(found)]
