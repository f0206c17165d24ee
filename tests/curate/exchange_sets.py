"""A small folder of proposals with known values, for the tests of the exports."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tiktok_dm.curate.exchange.base import TimedClip
from tiktok_dm.curate.proposals import Proposals, empty_proposals

FILES = {
    "compilations.csv": (
        "compilation_id,title,url,file,license,sha256\n"
        "0,Best dances <1> & more,,best of.mp4,,\n"
        "3,,https://example.org/watch?v=3,,,\n"
        "4,no times,,four.mov,,\n"
    ),
    "songs.csv": "song_id,title,artist\n0,Vibe Ace,\n1,,\n7,Ça & là,\n",
    "clips.csv": (
        "clip_id,compilation_id,song_id,start_s,end_s,n_dancers,released_segments,notes\n"
        "0,0,0,0,9.5,1,4,keep me\n"
        "1,0,7,9.5,21.2504,2,5,\n"
        "2,0,1,30.0167,38,,3,\n"
        "5,3,0,2,12.5,3,5,\n"
        "6,4,1,,,1,2,\n"
    ),
    "proposals.csv": (
        "clip_id,start_confidence,start_reason,end_confidence,end_reason,song_confidence,song_reason,"
        "dancers_confidence,dancers_reason,review\n"
        "0,0.99,the film starts,0.97,hard cut,0.9,as clip 5,0.8,two tracks,accepted\n"
        "1,0.97,hard cut,0.6,cross-fade of 0.4 s,0.75,sounds alone,0.9,,\n"
        "2,0.5,,0.55,,,,,,mended\n"
        "5,0.95,,0.9,,0.4,,0.85,,\n"
    ),
    "rejected.csv": "compilation_id,start_s,end_s,kind,confidence,reason\n0,21.2504,30.0167,card,0.9,a still title\n",
    "same_songs.csv": "clip_a,clip_b,confidence,speed,offset_s,reason,answer\n0,5,0.4,1,2.5,,\n",
}


def write_proposals_folder(folder: Path, proposals: bool = True) -> Path:
    """`FILES` as a folder; without the tables of proposals where those are not wanted."""
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        if proposals or name in ("compilations.csv", "clips.csv", "songs.csv"):
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def in_memory(clips: list[TimedClip]) -> Proposals:
    """Annotations of compilation 0 with these clips, and nothing on the disk."""
    rows = [
        {"clip_id": c.clip_id, "compilation_id": 0, "song_id": c.song_id, "start_s": c.start_s, "end_s": c.end_s}
        for c in clips
    ]
    songs = sorted({clip.song_id for clip in clips})
    return empty_proposals("none").with_tables(
        compilations=pd.DataFrame([{"compilation_id": 0, "file": "a.mp4"}]),
        clips=pd.DataFrame(rows),
        songs=pd.DataFrame({"song_id": songs}),
    )
