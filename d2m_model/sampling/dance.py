"""Where the dance comes from: a video file, a row of a built dataset with its stored poses, or an array of poses.

Poses of a video are found as a build finds them: the picture proper first (`tiktok_dm.media.content_box`), then every
dancer on the 30-fps grid (`tiktok_dm.pose`). Not for windows or units (`windows`, `motion`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2m_model.config import one_of
from d2m_model.motion import N_JOINTS
from tiktok_dm.errors import UserError
from tiktok_dm.schema import POSE_FPS, SEGMENT_S

ALL_SPLITS = "all"


@dataclass(frozen=True)
class Dance:
    """One dancer's motion, and the picture that the music is for.

    Args:
        name: what the files made of it are called.
        poses: (frames, 25, 3) float32 BODY_25: x px, y px, confidence; a missing joint is all zeros. Or the rows of
            another skeleton, (frames, features), such as AIST++'s SMPL.
        duration_s: length of the dance, and of the music.
        fps: poses a second; pose k belongs to k / fps seconds after the start.
        video: the film, as a file or as its bytes; None where there is none.
        source: where it came from, in words.
        visual: (segments, features) float32 of the 2-s segments that tile the dance from its start, or None.
        genre: index of the dance's own genre, where it is known.

    Raises:
        UserError: poses of another shape, that are not finite, or that show nobody.
    """

    name: str
    poses: np.ndarray
    duration_s: float
    fps: float = POSE_FPS
    video: Path | bytes | None = None
    source: str = ""
    visual: np.ndarray | None = None
    genre: int | None = None

    def __post_init__(self) -> None:
        other_skeleton = self.poses.ndim == 2
        if not len(self.poses) or not (other_skeleton or self.poses.shape[1:] == (N_JOINTS, 3)):
            shape = "x".join(map(str, self.poses.shape))
            raise UserError(f"The poses of {self.name} are {shape}; give frames x 25 joints x (x, y, confidence).")
        if not np.isfinite(self.poses).all():
            raise UserError(f"The poses of {self.name} hold NaN or infinite values; estimate them again.")
        if not other_skeleton and not (self.poses[..., 2] > 0).any():
            raise UserError(f"The poses of {self.name} show nobody; choose another dancer or video.")


def dance_from_poses(
    poses: np.ndarray, *, fps: float = POSE_FPS, dancer: int = 0, name: str = "poses", duration_s: float | None = None
) -> Dance:
    """A dance given as numbers.

    Args:
        poses: BODY_25 in px, (frames, 25, 3), (frames, 75) or (frames, dancers, 25, 3).
        fps: poses a second.
        dancer: which one, where there are several.
        name: for messages and files.
        duration_s: length; frames / fps if None.

    Raises:
        UserError: as `Dance`, or no such dancer.
    """
    poses = np.asarray(poses, np.float32)
    if poses.ndim == 2 and poses.shape[1] == N_JOINTS * 3:
        poses = poses.reshape(len(poses), N_JOINTS, 3)
    if poses.ndim == 4:
        poses = _one_dancer(poses, dancer, name)
    return Dance(name, poses, len(poses) / fps if duration_s is None else duration_s, fps, source="poses")


def dance_from_video(path: str | Path, *, dancer: int = 0, estimator: str = "mediapipe") -> Dance:
    """The dance in a video, its poses estimated here (some 30 pictures a second on one core).

    Args:
        path: of the video.
        dancer: which one, from 0 by mean visible area.
        estimator: name, see `tiktok_dm.pose.registry.ESTIMATORS`.

    Raises:
        UserError: nobody is seen, or no such dancer.
        MediaError: not a video that can be read, or one without pictures.
    """
    from tiktok_dm import media
    from tiktok_dm.pose.video import estimate_poses

    path = Path(path)
    film = media.probe(path)
    found = estimate_poses(path, estimator)
    if found.shape[1] == 0:
        raise UserError(f"{path} shows no dancer in {len(found)} pictures; give a video in which a person is in view.")
    # The grid knows the pictures' length to a thirtieth of a second; the file's is exact, but may be its sound's.
    shown_s = len(found) / POSE_FPS
    duration_s = film.duration_s if abs(film.duration_s - shown_s) <= 1.01 / POSE_FPS else shown_s
    return Dance(path.stem, _one_dancer(found, dancer, str(path)), duration_s, video=path, source=path.name)


def read_clips(dataset: str | Path, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of the `clips` configuration of a built dataset, as they are stored; give each to `dance_from_clip`.

    Args:
        dataset: folder or hub id.
        split: one of the dataset's, or `all` for one after the other.

    Raises:
        UserError: no dataset there, or no such split.
    """
    for rows in _splits(dataset, "clips", split):
        yield from rows.with_format("numpy")


def _splits(dataset: str | Path, config: str, split: str) -> Iterator[Any]:
    """The configuration's split of that name, or all of them."""
    from tiktok_dm.reading import open_dataset

    splits = open_dataset(dataset, config, streaming=True)
    one_of("split", split, [*splits, ALL_SPLITS])
    yield from splits.values() if split == ALL_SPLITS else [splits[split]]


def read_visual(dataset: str | Path, split: str) -> dict[int, np.ndarray]:
    """Visual features of the clips of a built dataset, (segments, features) float32 by `clip_id`.

    Args:
        dataset: folder or hub id.
        split: one of the dataset's, or `all`.

    Raises:
        UserError: no dataset there, or one that was built without visual features.
    """
    from tiktok_dm.reading import open_dataset

    try:
        splits = open_dataset(dataset, "segments", streaming=True)
    except (ValueError, FileNotFoundError) as error:  # what `datasets` raises for a configuration that is not there
        raise UserError(f"The dataset {dataset} has no segments: music is made for dances of at least 2 s.") from error
    found: dict[int, list[tuple[int, np.ndarray]]] = {}
    for name in splits if split == ALL_SPLITS else [name for name in splits if name == split]:
        if "visual" not in (splits[name].column_names or ()):
            raise UserError(
                f"The segments of {dataset} have no visual features, which this model was trained with: build the "
                "dataset with `tiktok-dm build --visual`, or use a motion-only model."
            )
        for row in splits[name].select_columns(["clip_id", "segment_index", "visual"]):
            found.setdefault(row["clip_id"], []).append((row["segment_index"], np.asarray(row["visual"], np.float32)))
    return {clip: np.stack([v for _, v in sorted(rows, key=lambda row: row[0])]) for clip, rows in found.items()}


def dance_from_clip(row: Mapping[str, Any], *, dancer: int = 0, visual: np.ndarray | None = None) -> Dance:
    """The dance of a dataset's row, with the poses and the video that are stored in it.

    Args:
        row: of the `clips` configuration, media undecoded.
        dancer: which one, from 0 by mean visible area.
        visual: features of its segments, see `read_visual`.

    Raises:
        UserError: nobody was found in the clip, or no such dancer.
    """
    from tiktok_dm.reading import stored_bytes

    name = clip_name(row)
    poses = np.asarray(row["pose"], np.float32)[:, : int(row["n_dancers"])]
    if poses.shape[1] == 0:
        raise UserError(f"No dancer was found in {name} when the dataset was built; leave it out.")
    return Dance(
        name,
        _one_dancer(poses, dancer, name),
        float(row["duration_s"]),
        float(row["pose_fps"]),
        stored_bytes(row["video"]),
        f"{row['source']}, {name}",
        visual,
    )


def has_clips(dataset: str | Path) -> bool:
    """Whether a dataset's folder holds whole clips; sets of segments, such as the authors' archives, have none."""
    return (Path(dataset) / "data" / "clips").is_dir()


def read_segments(dataset: str | Path, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of the `segments` configuration, as they are stored; give each to `dance_from_segment`.

    Args:
        dataset: folder or hub id.
        split: one of the dataset's, or `all` for one after the other.

    Raises:
        UserError: no dataset there, or no such split.
    """
    for rows in _splits(dataset, "segments", split):
        columns = [column for column in rows.column_names or () if column != "audio"]
        yield from rows.select_columns(columns).with_format("numpy")


def dance_from_segment(row: Mapping[str, Any]) -> Dance:
    """The two seconds of a dataset's segment, with the motion, visual features and genre that are stored in it.

    Args:
        row: of the `segments` configuration.

    Raises:
        UserError: as `Dance`.
    """
    name = str(row["segment_id"])
    motion = np.asarray(row["motion"], np.float32)
    fps = len(motion) / SEGMENT_S
    if motion.shape[1:] == (N_JOINTS * 3,):
        motion = motion.reshape(len(motion), N_JOINTS, 3)
    visual = row.get("visual")
    return Dance(
        name,
        motion,
        SEGMENT_S,
        fps,
        source=name,
        visual=None if visual is None else np.asarray(visual, np.float32)[None],
        genre=int(np.argmax(row["genre"])) if "genre" in row else None,
    )


def clip_name(row: Mapping[str, Any]) -> str:
    """What the files made of a dataset's row are called; its stored media have the same name."""
    return f"clip_{int(row['clip_id']):06d}"


def _one_dancer(poses: np.ndarray, dancer: int, where: str) -> np.ndarray:
    """(frames, 25, 3) of (frames, dancers, 25, 3)."""
    count = poses.shape[1]
    if not 0 <= dancer < count:
        raise UserError(
            f"{where} shows {count} dancer{'s' * (count != 1)}, counted from 0; there is no dancer {dancer}."
        )
    return poses[:, dancer]
