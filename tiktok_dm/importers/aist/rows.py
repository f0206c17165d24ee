"""Rows of AIST++: clips of one camera with poses at 30 fps, and two-second segments as D2M-GAN takes them.

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

The windows are the published two seconds, 120 pictures of the video's 60 a second; an extractor takes 30 a second
(`tiktok_dm.visual.base`), so every second one of them, and the middle square of the whole picture: AIST's studio has no
decoration around it. A dance's windows go through the network by themselves, never mixed with another's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Several
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm import __version__, media, schema
from tiktok_dm.dataset.rows import ClipItem
from tiktok_dm.errors import DiskFull, Filtered, MediaError, UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.importers.aist.layout import (
    FPS,
    GENRES,
    AistFolder,
    AistMedia,
    Findings,
    Sequence,
    read_keypoints2d,
    read_motion,
    reason,
)
from tiktok_dm.pipeline.visual import SegmentReader, VisualParams, extractor_of, visual
from tiktok_dm.pose.skeletons import COCO_17, to_body_25
from tiktok_dm.pose.video import prefetch
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.schema import POSE_FPS, SEGMENT_S
from tiktok_dm.visual.base import WINDOW_PICTURES, Extractor, VisualSource, squared

CLIP_VERSION = 1  # of what this module writes


@dataclass(frozen=True)
class ClipJob:
    """One video to be cut, for one worker."""

    sequence: Sequence
    split: str
    clip_id: int
    video: Path
    keypoints: Path
    camera: str
    picture: tuple[int, int]
    max_height: int | None
    work: Path


@dataclass(frozen=True)
class LeftOut:
    """Why a video gave no clip: a broken file, or a video that cannot be one."""

    file: str
    reason: str
    broken: bool


def body_25_at_30_fps(
    keypoints: np.ndarray, n_poses: int, picture: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """COCO-17 keypoints at 60 fps as the dataset's poses.

    Args:
        keypoints: (N, 17, 3) in px of `picture`.
        n_poses: how many are wanted; the last keypoints stand for those past the end.
        picture, size: width and height in px of the pictures of the keypoints, and of those that the poses belong to.

    Returns:
        (n_poses, 1, 25, 3) float32.
    """
    every = FPS // schema.POSE_FPS
    chosen = np.array(keypoints[np.minimum(np.arange(n_poses) * every, len(keypoints) - 1)], np.float32)
    chosen[..., 0] *= np.float32(size[0] / picture[0])
    chosen[..., 1] *= np.float32(size[1] / picture[1])
    return to_body_25(chosen, COCO_17)[:, None]


def _make_clip(job: ClipJob) -> ClipItem | LeftOut:
    """The clip of a video, cut now or earlier, or why there is none."""
    from tiktok_dm.media import probe
    from tiktok_dm.pipeline.music import MusicParams, music
    from tiktok_dm.pipeline.segment import SegmentParams, segment

    store = Store(job.work)

    def make(out: Path) -> dict[str, Any]:
        keypoints = read_keypoints2d(job.keypoints, job.camera)
        end_s = min(probe(job.video).duration_s, len(keypoints) / FPS)
        cut = segment(job.video, 0.0, end_s, SegmentParams(max_height=job.max_height), out)
        if not cut["has_audio"]:
            raise Filtered("the video has no sound")
        poses = body_25_at_30_fps(
            keypoints, max(1, round(cut["duration_s"] * schema.POSE_FPS)), job.picture, (cut["width"], cut["height"])
        )
        np.save(out / "poses.npy", poses)
        seen = poses[:, 0, :, 2] > 0
        if not seen.any():
            raise Filtered("no keypoints in it")
        return {
            "segment": cut,
            "music": music(out / "audio.flac", MusicParams(), out),
            "poses": {
                "n_frames": len(poses),
                "n_dancers": 1,
                "coverage": round(float(seen.any(axis=1).mean()), 4),
                "mean_confidence": round(float(poses[:, 0, :, 2][seen].mean(dtype=np.float64)), 4),
                "estimator": "AIST++ keypoints2d",
                "estimator_version": "1.0",
                "weights_sha256": "",
            },
        }

    try:
        if not job.keypoints.is_file():
            raise Filtered("there are no keypoints2d of it")
        sha256 = sha256_file(job.video)
        inputs = {"video": sha256, "keypoints": sha256_file(job.keypoints), "package": __version__}
        parameters = [job.camera, list(job.picture), job.max_height]
        key = content_key("aist_clip", CLIP_VERSION, parameters, inputs)
        record = store.run("aist_clip", key, make)
    except DiskFull:
        raise
    except Filtered as verdict:
        return LeftOut(job.video.name, str(verdict), broken=False)
    except UserError as error:
        told = job.keypoints if str(job.keypoints) in str(error) else job.video
        return LeftOut(told.name, reason(error, told), broken=True)
    except OSError as error:
        return LeftOut(job.video.name, f"cannot be read: {error.strerror or error}", broken=True)
    place = store.folder("aist_clip", key)
    return ClipItem(
        clip_id=job.clip_id,
        compilation_id=job.sequence.dancer,
        song_id=job.sequence.song_id,
        split=job.split,
        annotated_start_s=0.0,
        annotated_end_s=float(record["segment"]["end_s"]),
        segment=record["segment"],
        poses=record["poses"],
        music=record["music"],
        n_dancers_annotated=1,
        source=job.video.name,
        source_sha256=sha256,
        video=place / "clip.mp4",
        audio=place / "audio.flac",
        pose=place / "poses.npy",
    )


def clip_items(jobs: list[ClipJob], workers: int) -> Iterator[ClipItem | LeftOut]:
    """Results in the order of the jobs."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_make_clip, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make_clip, jobs)


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


VISUAL_VERSION = 1  # of what this module writes
STAGE = "aist_visual"
_SLACK = 2  # pictures: a video may end a moment before its last segment does; the last picture stands


@dataclass(frozen=True)
class DanceFeatures:
    """What makes features, and where they are kept until the dataset is whole: a stopped build makes none again.

    Args:
        params: extractor, flow, size.
        source: weights and device.
        store: in the work folder.
    """

    params: VisualParams
    source: VisualSource
    store: Store

    @property
    def extractor(self) -> Extractor:
        """As asked for.

        Raises:
            UserError: no such extractor, or no weights for it.
        """
        return extractor_of(self.params, self.source)

    def published(self) -> dict[str, Any]:
        """What the features depend on, without where a machine keeps it."""
        extractor = self.extractor
        return {**asdict(self.params), "version": extractor.version, "weights": dict(extractor.weights)}

    def of(self, video: Path, sha256: str, count: int) -> NDArray[np.float32]:
        """Features of the first `count` segments of a dance, (segments, features); fewer if the video ends before.

        Args:
            sha256: of the video.

        Raises:
            MediaError: the video cannot be decoded.
            UserError: features that are not finite, from damaged weights.
            DiskFull: they could not be kept.
        """
        key = content_key(STAGE, VISUAL_VERSION, self.published(), {"video": sha256, "segments": count})
        record = self.store.run(STAGE, key, lambda out: self._describe(video, count, out))
        found: NDArray[np.float32] = np.load(self.store.folder(STAGE, key) / "visual.npy")
        return found[: (record["pictures"] + _SLACK) // WINDOW_PICTURES]

    def _describe(self, video: Path, count: int, out: Path) -> dict[str, Any]:
        extractor = self.extractor
        box = (0, 0, extractor.side, extractor.side)
        reader = SegmentReader(extractor, box, count * SEGMENT_S)
        pictures = 0
        # The next pictures are decoded and scaled while the network is busy; scaled, so that they may wait in memory.
        squares = _squares(video, extractor.side, reader.n_pictures)
        with contextlib.closing(prefetch(squares, 2 * WINDOW_PICTURES)) as ahead:
            for picture in ahead:
                reader.take(picture)
                pictures += 1
        record = visual(video, box, count * SEGMENT_S, self.params, self.source, out, reader)
        return {**record, "pictures": pictures}


def _squares(video: Path, side: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """The middle squares of a video's first pictures at `POSE_FPS` a second, (side, side, 3)."""
    for _, picture in islice(media.read_frames(video, fps=POSE_FPS), count):
        height, width = picture.shape[:2]
        yield squared(picture, (0, 0, width, height), side)
