"""What a build must do, written down before it does anything: sources, clips, times, splits, parameters.

Not for running anything, and not for what was found on the way: that is `lock.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm.errors import UserError
from tiktok_dm.pipeline.acquire import find_local
from tiktok_dm.pipeline.music import MusicParams
from tiktok_dm.pipeline.poses import PosesParams
from tiktok_dm.pipeline.segment import SegmentParams
from tiktok_dm.pipeline.visual import VisualParams
from tiktok_dm.runtime.store import OMITTED, canonical_json
from tiktok_dm.schema import POSE_FPS, whole_segments

if TYPE_CHECKING:
    from tiktok_dm.annotations.tables import Annotations

# Times in a plan are presentation timestamps in this time base, so that no reader has to guess a rounding.
TIME_BASE = 1_000_000

# Rough processor seconds on one 2020s server core, from `benchmarks/build.py`; only for the estimate of a dry run.
_CPU_S_PER_VIDEO_S = {"segment": 0.3, "music": 0.01}
_CPU_S_PER_DANCER_FRAME = 0.024
_CPU_S_PER_SEGMENT = {"i3d": 40.0}  # TV-L1 flow and both streams, on a processor
_BYTES_PER_VIDEO_S = 200_000


@dataclass(frozen=True)
class Parameters:
    """Everything that changes what comes out of a build, and nothing that does not.

    Args:
        max_height: of downloads and of stored clips, in px; None keeps the source's.
        test_fraction: share of test clips where the annotations bring no split.
        seed: of that split.
        visual: None leaves visual features out.
    """

    max_height: int | None = 720
    test_fraction: float = 0.2
    seed: int = 0
    segment: SegmentParams = field(default_factory=SegmentParams)
    poses: PosesParams = field(default_factory=PosesParams)
    music: MusicParams = field(default_factory=MusicParams)
    visual: VisualParams | None = field(default=None, metadata={OMITTED: True})

    def published(self) -> Parameters:
        """The same without what is true of one machine alone (its device, where its weights lie): what keys, plan and
        lock hold. The weights themselves are told by their checksum."""
        from tiktok_dm.pose.registry import portable_request

        request = portable_request(self.poses.estimator)
        return self if request == self.poses.estimator else replace(self, poses=replace(self.poses, estimator=request))


@dataclass(frozen=True)
class PlannedSource:
    """One compilation: where it comes from. `file` is set where a local file was found, `url` where there is a link."""

    compilation_id: int
    source: str
    file: Path | None = None
    url: str | None = None
    sha256: str | None = None

    @property
    def item(self) -> str:
        """Its name in the ledger."""
        return f"compilation:{self.compilation_id}"


@dataclass(frozen=True)
class PlannedClip:
    """One clip as annotated; times in seconds from the source's first instant."""

    clip_id: int
    compilation_id: int
    song_id: int
    split: str
    start_s: float | None
    end_s: float | None
    n_dancers: int | None = None
    excluded: str = ""

    @property
    def item(self) -> str:
        """Its name in the ledger."""
        return f"clip:{self.clip_id}"


@dataclass(frozen=True)
class Plan:
    """All sources and clips of a build, in the order of their ids.

    Args:
        name: of the dataset; a folder belongs to the build of one name.
    """

    name: str
    sources: tuple[PlannedSource, ...]
    clips: tuple[PlannedClip, ...]
    parameters: Parameters

    @property
    def buildable(self) -> tuple[PlannedClip, ...]:
        """Clips that have times and that nobody asked to take out."""
        return tuple(clip for clip in self.clips if not clip.excluded)

    @property
    def missing(self) -> tuple[PlannedSource, ...]:
        """Sources of buildable clips that have neither a link nor a file that is there."""
        wanted = {clip.compilation_id for clip in self.buildable}
        return tuple(s for s in self.sources if s.compilation_id in wanted and s.file is None and not s.url)

    @property
    def duration_s(self) -> float:
        """Seconds of video in the buildable clips."""
        return sum((clip.end_s or 0) - (clip.start_s or 0) for clip in self.buildable)

    def lines(self) -> str:
        """The plan as `plan.jsonl`: a head, the compilations, the clips. Equal plans give equal text."""
        head = {
            "plan": self.name,
            "parameters": self.parameters.published(),
            "time_base": f"1/{TIME_BASE}",
            "compilations": len(self.sources),
            "clips": len(self.clips),
        }
        rows: list[Mapping[str, Any]] = [head]
        rows += [
            {"item": source.item, "source": source.source, "local": source.file is not None, "sha256": source.sha256}
            for source in self.sources
        ]
        rows += [
            {
                "item": clip.item,
                "compilation_id": clip.compilation_id,
                "song_id": clip.song_id,
                "split": clip.split,
                "start_pts": None if clip.start_s is None else round(clip.start_s * TIME_BASE),
                "end_pts": None if clip.end_s is None else round(clip.end_s * TIME_BASE),
                "n_dancers": clip.n_dancers,
                "excluded": clip.excluded,
            }
            for clip in self.clips
        ]
        return "".join(canonical_json(row) + "\n" for row in rows)

    def cost(self, stages_done: int = 0) -> dict[str, float]:
        """A rough estimate: processor seconds by stage, bytes on the disk, and what must be downloaded."""
        frames = self.duration_s * POSE_FPS
        dancers = sum(
            ((clip.end_s or 0) - (clip.start_s or 0)) * POSE_FPS * (clip.n_dancers or 1) for clip in self.buildable
        )
        used = {clip.compilation_id for clip in self.buildable}
        visual = {}
        if self.parameters.visual is not None:
            segments = sum(whole_segments((clip.end_s or 0) - (clip.start_s or 0)) for clip in self.buildable)
            visual["cpu_s_visual"] = round(segments * _CPU_S_PER_SEGMENT.get(self.parameters.visual.extractor, 0), 1)
        return {
            "video_s": round(self.duration_s, 1),
            "frames": round(frames),
            "cpu_s_segment": round(self.duration_s * _CPU_S_PER_VIDEO_S["segment"], 1),
            "cpu_s_poses": round(dancers * _CPU_S_PER_DANCER_FRAME, 1),
            "cpu_s_music": round(self.duration_s * _CPU_S_PER_VIDEO_S["music"], 1),
            **visual,
            "disk_bytes": round(self.duration_s * _BYTES_PER_VIDEO_S),
            "downloads": sum(1 for s in self.sources if s.file is None and s.url and s.compilation_id in used),
        }


_ONLY = re.compile(r"^(compilation|clip|song):(\d+)(?:-(\d+))?$")


def parse_only(words: Sequence[str]) -> dict[str, set[int]]:
    """`clip:12`, `clip:3-7`, `compilation:0`, `song:4`, also with commas, as sets of ids by kind.

    Raises:
        UserError: a word that is none of these.
    """
    chosen: dict[str, set[int]] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        match = _ONLY.match(word)
        if not match:
            raise UserError(
                f"--only does not know '{word}': write compilation:ID, clip:ID, song:ID or a range such as clip:3-7"
            )
        kind, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if last < first or last - first > 1_000_000:
            raise UserError(f"--only got the range '{word}', which does not run from a smaller id to a larger one")
        chosen.setdefault(kind, set()).update(range(first, last + 1))
    return chosen


def make_plan(
    annotations: Annotations,
    parameters: Parameters,
    *,
    media: Path | None = None,
    only: Sequence[str] = (),
    tombstones: Sequence[Mapping[str, Any]] = (),
) -> Plan:
    """The plan for checked annotations.

    Args:
        media: folder in which local compilations are looked for, by file name or by id.
        only: see `parse_only`; splits are those of the whole dataset all the same.
        tombstones: what was taken out on request; it stays in the plan, marked as excluded.

    Raises:
        UserError: no such media folder, or `only` names nothing.
    """
    from tiktok_dm.annotations.splits import assign_splits

    if media is not None and not media.is_dir():
        raise UserError(f"the media folder {media} does not exist: give the folder that holds the compilations")
    table = annotations.splits
    if table is None:
        table = assign_splits(annotations.clips, parameters.test_fraction, parameters.seed)
    split_of: dict[int, str] = {
        int(song): str(split) for song, split in zip(table["song_id"], table["split"], strict=True)
    }
    gone = {(str(t["kind"]), int(t["id"])): str(t["reason"]) for t in tombstones}
    chosen = parse_only(only)

    clips = []
    row: Any
    for row in annotations.clips.sort_values("clip_id").itertuples(index=False):
        clip_id, compilation_id, song_id = int(row.clip_id), int(row.compilation_id), int(row.song_id)
        if chosen and not (
            clip_id in chosen.get("clip", ())
            or compilation_id in chosen.get("compilation", ())
            or song_id in chosen.get("song", ())
        ):
            continue
        start_s, end_s = _number(row.start_s), _number(row.end_s)
        excluded = ""
        for kind, number in (("clip", clip_id), ("song", song_id), ("compilation", compilation_id)):
            if (kind, number) in gone:
                excluded = f"removed on request: {gone[kind, number]}"
                break
        if not excluded and (start_s is None or end_s is None):
            excluded = "no start and end in the annotations"
        if not excluded and song_id not in split_of:
            excluded = f"song {song_id} has no split"
        dancers = _number(row.n_dancers)
        clips.append(
            PlannedClip(
                clip_id,
                compilation_id,
                song_id,
                split_of.get(song_id, ""),
                start_s,
                end_s,
                None if dancers is None else int(dancers),
                excluded,
            )
        )
    if chosen and not clips:
        raise UserError(
            f"--only {' '.join(only)} names no clip of {annotations.name}: look up the ids in its clips.csv"
        )

    used = {clip.compilation_id for clip in clips}
    sources = []
    for row in annotations.compilations.sort_values("compilation_id").itertuples(index=False):
        compilation_id = int(row.compilation_id)
        if compilation_id not in used:
            continue
        file, url = _text(row.file), _text(row.url)
        local = None if media is None else find_local(media, compilation_id, file)
        name = url or file or (local.name if local else "")
        sources.append(PlannedSource(compilation_id, name, local, url, _text(row.sha256)))
    return Plan(annotations.name, tuple(sources), tuple(clips), parameters)


def _number(value: Any) -> float | None:
    """A cell of a nullable column."""
    import pandas as pd

    return None if pd.isna(value) else float(value)


def _text(value: Any) -> str | None:
    import pandas as pd

    return None if pd.isna(value) or not str(value).strip() else str(value).strip()
