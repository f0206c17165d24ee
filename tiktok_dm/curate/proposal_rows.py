"""What was found in new videos as rows of the tables of a folder of proposals.

For `propose`. Not for finding anything, and not for the files (`proposals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiktok_dm.curate.clip_songs import ClipIds
from tiktok_dm.curate.cuts.shots import Shot
from tiktok_dm.curate.dancers import DancerCount
from tiktok_dm.curate.proposals import Proposals
from tiktok_dm.curate.song_groups import SongGroups
from tiktok_dm.curate.video_findings import SURE_CLIP, VideoFindings

_DOUBTFUL = 0.15  # pairs below this are not worth a person's look


def with_rows(before: Proposals, found: Sequence[VideoFindings], ids: ClipIds, groups: SongGroups) -> Proposals:
    """`before` with the rows of new videos after its own; nothing is written.

    Args:
        ids: of the new clips.
        groups: songs of all clips, old and new.
    """
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("compilations", "clips", "proposals")}
    rows |= {name: [] for name in ("rejected", "candidates")}
    for one in found:
        number = one.compilation_id
        rows["compilations"].append({"compilation_id": number, "file": one.path.name, "sha256": one.sha256})
        clips = one.clips
        for k, shot in enumerate(one.shots):
            if k in clips:
                clip = ids[number, k]
                rows["clips"].append(_clip_row(clip, number, shot, groups.song_of[str(clip)], one.dancers.get(k)))
                rows["proposals"].append(_proposal_row(clip, shot, groups, one.dancers.get(k)))
            else:
                rows["rejected"].append(_rejected_row(number, shot))
        ends = {round(t, 4) for k in clips for t in (one.shots[k].start_s, one.shots[k].end_s)}
        for boundary in one.boundaries:
            rows["candidates"].append(
                {
                    "compilation_id": number,
                    "at_s": _time(boundary.at_s),
                    "kind": boundary.kind,
                    "confidence": round(boundary.confidence, 3),
                    "used": "yes" if round(boundary.at_s, 4) in ends else "no",
                    "reason": boundary.reason,
                }
            )
    known_songs = set(before.annotations.songs.song_id)
    fresh = sorted({song for song in groups.song_of.values()} - known_songs)
    tables = {name: pd.concat([before.table(name), pd.DataFrame(new)]) for name, new in rows.items() if new}
    tables["songs"] = pd.concat([before.annotations.songs, pd.DataFrame({"song_id": fresh})])
    pairs = [
        {
            "clip_a": int(pair.a),
            "clip_b": int(pair.b),
            "confidence": round(pair.confidence, 3),
            "speed": round(pair.speed, 4),
            "offset_s": round(pair.offset_s, 3),
            "reason": pair.reason,
        }
        for pair in groups.pairs
        if pair.confidence >= _DOUBTFUL
    ]
    if pairs:
        listed = {(row.clip_a, row.clip_b) for row in before.same_songs.itertuples()}
        fresh_pairs = [pair for pair in pairs if (pair["clip_a"], pair["clip_b"]) not in listed]
        tables["same_songs"] = pd.concat([before.same_songs, pd.DataFrame(fresh_pairs)])
    return before.with_tables(**tables)


def _time(seconds: float) -> float:
    """As it is written down: to the microsecond."""
    return round(float(seconds), 6)


def _clip_row(clip: int, number: int, shot: Shot, song: int, count: DancerCount | None) -> dict[str, Any]:
    return {
        "clip_id": clip,
        "compilation_id": number,
        "song_id": song,
        "start_s": _time(shot.start_s),
        "end_s": _time(shot.end_s),
        "n_dancers": count.n if count is not None and count.n else None,
    }


def _proposal_row(clip: int, shot: Shot, groups: SongGroups, count: DancerCount | None) -> dict[str, Any]:
    row: dict[str, Any] = {"clip_id": clip}
    for name, boundary in (("start", shot.start), ("end", shot.end)):
        # An end is no surer than that this is a clip at all.
        row[f"{name}_confidence"] = round(min(boundary.confidence, shot.confidence), 3)
        doubt = shot.confidence < min(SURE_CLIP, boundary.confidence)
        row[f"{name}_reason"] = f"{boundary.reason}; {shot.reason}" if doubt else boundary.reason
    row["song_confidence"] = round(groups.confidence[str(clip)], 3)
    row["song_reason"] = groups.reason[str(clip)]
    if count is not None:
        row["dancers_confidence"] = count.confidence
        row["dancers_reason"] = count.reason
    return row


def _rejected_row(number: int, shot: Shot) -> dict[str, Any]:
    nobody = shot.kind == "clip"
    return {
        "compilation_id": number,
        "start_s": _time(shot.start_s),
        "end_s": _time(shot.end_s),
        "kind": "card" if nobody else shot.kind,
        "confidence": round(1 - shot.confidence if nobody else shot.confidence, 3),
        "reason": f"nobody is seen in it; {shot.reason}" if nobody else shot.reason,
    }
