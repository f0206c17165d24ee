"""A rendered compilation with proposals for it, as `tiktok-dm propose` would write them; tables alone; the command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiktok_dm.annotations.tables import read_annotations
from tiktok_dm.curate.proposals import (
    Proposals,
    empty_proposals,
    write_proposals,
    write_sources,
)
from tiktok_dm.curate.review.assets import FrameTimes
from tiktok_dm.synthetic.demo import make_demo
from tiktok_dm.synthetic.plan import DemoParams

FPS = 30


def frames(seconds: float = 60.0, fps: float = FPS) -> FrameTimes:
    return FrameTimes(np.arange(round(seconds * fps) + 1) / fps)


def tables(
    folder: Path,
    clips: list[tuple[int, int, int, float | None, float | None, int | None]],
    *,
    rejected: list[tuple[int, float, float, str]] | None = None,
    pairs: list[tuple[int, int, float, float, float]] | None = None,
    candidates: list[tuple[int, float, str, float, str]] | None = None,
) -> Proposals:
    """Proposals of clips (clip, compilation, song, start, end, dancers), written into `folder`.

    Args:
        rejected: compilation, start, end, kind.
        pairs: clip a, clip b, confidence, speed, offset.
        candidates: compilation, instant, kind, confidence, used.
    """
    known = sorted({clip[1] for clip in clips})
    names = ["clip_id", "compilation_id", "song_id", "start_s", "end_s", "n_dancers"]
    rows: list[dict[str, Any]] = []
    for k, clip in enumerate(clips):
        row: dict[str, Any] = {"clip_id": clip[0]}
        for j, value in enumerate(("start", "end", "song", "dancers")):
            row |= {
                f"{value}_confidence": round(0.95 - 0.05 * ((k + j) % 5) * (k % 3), 3),
                f"{value}_reason": f"because of {value}",
            }
        rows.append(row)
    proposals = empty_proposals(folder).with_tables(
        compilations=pd.DataFrame({"compilation_id": known, "file": [f"compilation_{c}.mp4" for c in known]}),
        clips=pd.DataFrame([dict(zip(names, clip, strict=True)) for clip in clips]),
        songs=pd.DataFrame({"song_id": sorted({clip[2] for clip in clips})}),
        proposals=pd.DataFrame(rows),
        rejected=pd.DataFrame(
            [
                {
                    "compilation_id": c,
                    "start_s": a,
                    "end_s": b,
                    "kind": kind,
                    "confidence": 0.9,
                    "reason": "a still card",
                }
                for c, a, b, kind in rejected or []
            ]
        ),
        same_songs=pd.DataFrame(
            [
                {"clip_a": a, "clip_b": b, "confidence": c, "speed": s, "offset_s": o, "reason": "the same notes"}
                for a, b, c, s, o in pairs or []
            ]
        ),
        candidates=pd.DataFrame(
            [
                {
                    "compilation_id": c,
                    "at_s": t,
                    "kind": kind,
                    "confidence": p,
                    "used": used,
                    "reason": "picture changes",
                }
                for c, t, kind, p, used in candidates or []
            ]
        ),
    )
    return write_proposals(proposals, force=True)


def rendered(root: Path, **params: Any) -> Path:
    """The media folder of a small demo in `root`, with `annotations/` beside it."""
    if not (root / "media").exists():
        make_demo(root, DemoParams(**params))
    return root / "media"


def proposed(root: Path, folder: Path) -> Path:
    """A folder of proposals for the demo in `root`: its true clips, with some doubt."""
    truth = read_annotations(root / "annotations", with_splits=False)
    clips = [
        (int(r.clip_id), int(r.compilation_id), int(r.song_id), float(r.start_s), float(r.end_s), int(r.n_dancers))
        for r in truth.clips.itertuples()
    ]
    first: dict[int, tuple[int, float]] = {}
    cards = []
    for _, compilation, _, start, _, _ in sorted(clips, key=lambda c: (c[1], c[3])):
        if compilation not in first:
            first[compilation] = (compilation, start)
            if start > 0:
                cards.append((compilation, 0.0, start, "title_card"))
    by_song: dict[int, list[int]] = {}
    for clip in clips:
        by_song.setdefault(clip[2], []).append(clip[0])
    pairs = [(a, b, 0.7, 1.0, 0.0) for ids in by_song.values() for a, b in pairwise(ids)]
    pairs.append((clips[0][0], clips[1][0], 0.45, 1.0, 0.5))
    edges = [(c[1], c[4], "hard_cut", 0.9, "yes") for c in clips]
    odd = [(c[1], round((c[3] + c[4]) / 2, 3), "flash", 0.3, "no") for c in clips]
    if folder.exists():
        shutil.rmtree(folder)
    tables(folder, clips, rejected=cards, pairs=pairs, candidates=edges + odd)
    write_sources(folder, {c: root / "media" / f"compilation_{c}.mp4" for c in first})
    return folder


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """`tiktok-dm review` of a folder in a process of its own, and the link that it prints."""
    code = (
        "import sys; from pathlib import Path; from tiktok_dm.curate.review import serve; "
        "serve(Path(sys.argv[1]), open_browser=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    return process, line.split(" at ")[1].split(" ")[0].rstrip("/")
