"""What the page is told of the tables, as plain JSON: clips with their values, pairs, songs, progress.

Not for changing anything (`edits`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from tiktok_dm.curate.proposals import VALUES, Proposals

LOW = 0.8
"""A clip with a value that is less sure than this is of low confidence."""


def told(proposals: Proposals, present: set[int]) -> dict[str, Any]:
    """The tables as the page shows them.

    Args:
        present: compilations whose videos are on this machine.
    """
    rows = {int(row["clip_id"]): row for row in _rows(proposals.proposals)}
    clips = [_clip(row, rows.get(row["clip_id"], {})) for row in _rows(proposals.clips)]
    clips.sort(key=lambda c: (c["compilation"], c["start"] is None, c["start"] or 0.0))
    left = [c for c in clips if c["review"] is None]
    songs: dict[int, int] = {}
    for clip in clips:
        songs[clip["song"]] = songs.get(clip["song"], 0) + 1
    return {
        "revision": proposals.revision,
        "folder": proposals.root.resolve().name,
        "low": LOW,
        "progress": {
            "clips": len(clips),
            "reviewed": len(clips) - len(left),
            "seconds_left": round(sum(c["end"] - c["start"] for c in left if c["start"] is not None), 3),
        },
        "compilations": [
            {
                "id": row["compilation_id"],
                "title": row["title"] or row["file"] or f"compilation {row['compilation_id']}",
                "present": row["compilation_id"] in present,
            }
            for row in _rows(proposals.annotations.compilations)
        ],
        "clips": clips,
        "rejected": [
            {
                "compilation": row["compilation_id"],
                "start": row["start_s"],
                "end": row["end_s"],
                "kind": row["kind"] or "rejected",
                "confidence": row["confidence"],
                "reason": row["reason"] or "",
            }
            for row in _rows(proposals.rejected)
        ],
        "songs": [
            {
                "id": row["song_id"],
                "title": row["title"] or "",
                "artist": row["artist"] or "",
                "clips": songs.get(row["song_id"], 0),
            }
            for row in _rows(proposals.annotations.songs)
        ],
        "pairs": [
            {
                "a": row["clip_a"],
                "b": row["clip_b"],
                "confidence": row["confidence"],
                "speed": row["speed"] or 1.0,
                "offset": row["offset_s"] or 0.0,
                "reason": row["reason"] or "",
                "answer": row["answer"],
            }
            for row in _rows(proposals.same_songs)
        ],
    }


def candidates(proposals: Proposals, compilation_id: int) -> list[dict[str, Any]]:
    """The instants of a compilation that were considered as boundaries."""
    chosen = proposals.candidates[proposals.candidates.compilation_id == compilation_id]
    return [
        {"at": row["at_s"], "kind": row["kind"] or "", "confidence": row["confidence"], "used": row["used"] == "yes"}
        for row in _rows(chosen)
    ]


def _clip(row: dict[str, Any], proposal: dict[str, Any]) -> dict[str, Any]:
    values = {
        value: {
            "confidence": proposal.get(f"{value}_confidence"),
            "reason": proposal.get(f"{value}_reason") or "",
        }
        for value in VALUES
    }
    sure = [value["confidence"] for value in values.values()]
    return {
        "id": row["clip_id"],
        "compilation": row["compilation_id"],
        "song": row["song_id"],
        "start": row["start_s"],
        "end": row["end_s"],
        "dancers": row["n_dancers"],
        "notes": row["notes"] or "",
        "values": values,
        # What nothing is known of counts as unsure.
        "confidence": min(0.0 if c is None else c for c in sure),
        "review": proposal.get("review"),
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]
