"""What a dataset is made of: everything that it says of one clip, and everything that it says of itself.

Where these come from is `dataset`'s matter, what is written of them that of `export`, `card` and `report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiktok_dm import schema
from tiktok_dm.runtime.store import OMITTED


@dataclass(frozen=True)
class ClipItem:
    """Everything the dataset says of one finished clip.

    Args:
        annotated_start_s, annotated_end_s: as asked for, s from the source's first instant.
        segment: record of the segment stage: start_s, end_s, duration_s, n_frames, width, height, fps, has_audio,
            content_box (x, y, width, height in px), video_sha256, audio_sha256.
        poses: record of the poses stage: n_frames, n_dancers, coverage, coverage_by_dancer, mean_confidence, estimator,
            estimator_version, weights_sha256, best_frame (on the 30-fps grid; None without any pose).
        music: record of the music stage: tempo_bpm, beats_s, loudness_lufs, onset_rate_hz.
        n_dancers_annotated: None where the annotation says nothing.
        source: link or file name of the compilation.
        video, audio, pose: `clip.mp4`; `audio.flac`, 22,050 Hz mono; `poses.npy`, (frames, dancers, 25, 3) float32.
        visual: record of the visual stage, where features were asked for: n_windows, n_features, extractor,
            extractor_version, method, weights.
        features: `visual.npy`, (segments, n_features) float32.
    """

    clip_id: int
    compilation_id: int
    song_id: int
    split: str
    annotated_start_s: float
    annotated_end_s: float
    segment: Mapping[str, Any]
    poses: Mapping[str, Any]
    music: Mapping[str, Any]
    n_dancers_annotated: int | None
    source: str
    source_sha256: str
    video: Path
    audio: Path
    pose: Path
    visual: Mapping[str, Any] | None = field(default=None, metadata={OMITTED: True})
    features: Path | None = field(default=None, metadata={OMITTED: True})

    @property
    def n_segments(self) -> int:
        """How many whole segments tile the clip."""
        return schema.whole_segments(float(self.segment["duration_s"]))

    @property
    def pose_model(self) -> str:
        """The estimator and its version, as in the `pose_model` column."""
        return f"{self.poses['estimator']} {self.poses['estimator_version']}".strip()


@dataclass(frozen=True)
class DatasetMeta:
    """Everything the dataset says of itself.

    Args:
        license: an identifier of the Hugging Face hub (`mit`, `cc-by-4.0`, `other`, ...), or `""` where none is known.
        citation: BibTeX, or `""`.
        parameters: of the build, JSON-able.
        tools: version by name, of tools and models.
        ledger: one dict an item: item (`clip:12`, `compilation:3`), stage, status (`ok`, `filtered`, `failed`, `gone`),
            reason, error, message.
        plan_clips, plan_compilations: how many were planned.
        songs: `title` and `artist` by song id, where known.
        tombstones: what was taken out on request: kind, id, reason.
        pose_accuracy: recall, mean_error_torso, pck02 against rendered truth, where there is one.
        planned: the planned clips (clip_id, compilation_id, song_id), so that the report can count by compilation.
        sources: link or file name by compilation id, also of those that gave no clip.
    """

    name: str
    title: str
    license: str
    homepage: str
    citation: str
    description: str
    parameters: Mapping[str, Any]
    tools: Mapping[str, str]
    ledger: Sequence[Mapping[str, Any]]
    plan_clips: int
    plan_compilations: int
    songs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    tombstones: Sequence[Mapping[str, Any]] = ()
    pose_accuracy: Mapping[str, float] | None = None
    planned: Sequence[Mapping[str, Any]] = ()
    sources: Mapping[int, str] = field(default_factory=dict)
