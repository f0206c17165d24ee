"""Which video is which compilation: by checksum, by name, or by how well the clips fit.

For `recover`, which is given a folder of videos and a list of clips. Not for where a video's file lies
(`tiktok_dm.pipeline.acquire.find_local`), and not for where its clips are (`recover_times`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.proposals import Proposals, rows_of
from tiktok_dm.curate.recover.alignment import log_evidence
from tiktok_dm.curate.recover.evidence import evidence, facts
from tiktok_dm.curate.recover.model import AlignmentModel
from tiktok_dm.errors import UserError
from tiktok_dm.pipeline.acquire import named_after


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
