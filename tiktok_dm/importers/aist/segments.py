"""The two-second segments of AIST++ as D2M-GAN's AIST++ models take them: motion, genre, sound, visual features.

What is known of the arrays that the paper's authors trained on, and what is assumed:

- Motion is (120, 219) at 60 fps. The first author says that it follows AIST++'s own preparation (issue 7 of the D2M-GAN
  repository), and their loader takes the arrays as they lie. AIST++'s own (mint, `tools/preprocessing.py`) puts the
  translation over the scaling first (3), then SMPL's 24 joint rotations as matrices, row by row (24 x 9). That order is
  taken here; it was not compared with the arrays themselves.
- Genre is a one-hot of ten, a row a segment, in arrays beside the lists. The order of the ten is told nowhere in text:
  AIST's own is assumed (`aist_layout.GENRES`), and `AistOptions.genres` takes another. A model that is trained here
  learns any order; a released checkpoint knows one.
- Visual features are 2,048 numbers a segment, by shape 1,024 of RGB and 1,024 of flow, I3D. At which rate and on which
  part of the picture is not known: here as everywhere in this package (`tiktok_dm.visual.base`).

Not for reading AIST++'s files (`aist_layout`, `aist_media`), nor for clips (`aist_clips`).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.importers.aist.layout import GENRES, AistFolder, Sequence, read_motion
from tiktok_dm.importers.aist.media import AistMedia
from tiktok_dm.importers.aist.report import Findings, reason
from tiktok_dm.importers.aist.visual import DanceFeatures

FRAMES, FEATURES = schema.SMPL_FRAMES, schema.SMPL_FEATURES
# A dance of a whole number of segments may end some frames, or its sound some milliseconds, before its last one does.
_SLACK_FRAMES = 3
_SLACK_SAMPLES = schema.SAMPLE_RATE // 20


def smpl_motion(poses: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Motion as the models take it.

    Args:
        poses: (N, 24, 3) axis-angles, rad.
        places: (N, 3) translation.

    Returns:
        (N, 219) float32: translation, then 24 rotation matrices (Rodrigues), row by row.
    """
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix()
    return np.concatenate([places, matrices.reshape(len(poses), -1)], axis=-1).astype(np.float32)


def genre_of(sequence: Sequence, genres: Several[str] = GENRES) -> np.ndarray:
    """One-hot (10,) float32 in that order."""
    return np.eye(len(genres), dtype=np.float32)[genres.index(sequence.genre)]


@dataclass(frozen=True)
class SegmentMaker:
    """Makes the rows of sequences, and notes what is missing or broken on the way.

    Args:
        folder: the annotations.
        media: sound, and videos for visual features.
        genres: order of the one-hot.
        sums: SHA-256 of videos by file name.
        seen: gives visual features; None leaves their column out.
        findings: grows.
    """

    folder: AistFolder
    media: AistMedia
    genres: tuple[str, ...]
    sums: Mapping[str, str]
    seen: DanceFeatures | None
    findings: Findings

    def rows(self, sequence: Sequence, split: str) -> list[dict[str, Any]]:
        """The rows of a sequence, none where something is missing or broken."""
        motion, sound = self._motion(sequence), None
        if motion is not None:
            sound = self._sound(sequence)
        if motion is None or sound is None:
            return []
        count = min((len(motion) + _SLACK_FRAMES) // FRAMES, (len(sound) + _SLACK_SAMPLES) // schema.SEGMENT_SAMPLES)
        visual = None
        if self.seen is not None:
            visual = self._visual(self.seen, sequence, count)
            if visual is None:
                return []
            count = len(visual)
        rows = self._segments(sequence, split, motion, sound, count, visual)
        if len(rows) != sequence.segments_by_beats:
            entry = {"sequence": sequence.name, "segments": len(rows), "by_beats": sequence.segments_by_beats}
            self.findings.other_length.append(entry)
        return rows

    def _motion(self, sequence: Sequence) -> np.ndarray | None:
        path = self.folder.root / "motions" / f"{sequence.name}.pkl"
        if not path.is_file():
            self.findings.missing["motion"].append(sequence.name)
            return None
        try:
            return smpl_motion(*read_motion(path))
        except UserError as error:
            self._broken(path, error)
            return None

    def _sound(self, sequence: Sequence) -> np.ndarray | None:
        try:
            where = self.media.sound(sequence)
            if where is None:
                self.findings.missing["sound"].append(sequence.name)
                return None
            return self.media.read(where)
        except MediaError as error:
            self._broken(self.media.video(sequence) or self.media.files[sequence.music], error)
            return None

    def _visual(self, seen: DanceFeatures, sequence: Sequence, count: int) -> np.ndarray | None:
        video = self.media.video(sequence)
        if video is None:
            self.findings.missing.setdefault("video", []).append(sequence.name)
            return None
        try:
            return seen.of(video, self.sums[video.name], count)
        except MediaError as error:
            self._broken(video, error)
            return None

    def _broken(self, path: Path, error: UserError) -> None:
        entry = {"file": path.name, "reason": reason(error, path)}
        if entry not in self.findings.broken:  # a music that many dances share, or what cutting its clip has told
            self.findings.broken.append(entry)

    def _segments(
        self,
        sequence: Sequence,
        split: str,
        motion: np.ndarray,
        sound: np.ndarray,
        count: int,
        visual: np.ndarray | None,
    ) -> list[dict[str, Any]]:
        from tiktok_dm.media import encode_audio

        # The last pose stands, and silence follows, where a segment ends a moment later than they do.
        frames = np.minimum(np.arange(count * FRAMES), len(motion) - 1)
        samples = np.pad(sound, (0, _SLACK_SAMPLES))
        rows = []
        for k in range(count):
            name = f"{sequence.video(self.media.camera)}_seg{k + 1}"
            part = samples[k * schema.SEGMENT_SAMPLES : (k + 1) * schema.SEGMENT_SAMPLES]
            rows.append(
                {
                    "segment_id": name,
                    "clip_id": self.folder.clip_id(sequence),
                    "compilation_id": sequence.dancer,
                    "song_id": sequence.song_id,
                    "split": split,
                    "segment_index": k + 1,
                    "start_s": k * schema.SEGMENT_S,
                    "audio": {"bytes": encode_audio(part, schema.SAMPLE_RATE, "flac"), "path": f"{name}.flac"},
                    "motion": motion[frames[k * FRAMES : (k + 1) * FRAMES]],
                    "n_dancers": 1,
                    "genre": genre_of(sequence, self.genres),
                    **({} if visual is None else {"visual": visual[k]}),
                }
            )
        return rows
