"""What music is scored against: references with what is known of their dances, and those that a built dataset holds.

Not for folders of sound files, nor for finding the music that belongs to a reference (`pairs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.benchmark.clip_features import Audio, read_sound
from tiktok_dm.errors import UserError
from tiktok_dm.schema import MAX_DANCERS, N_JOINTS, POSE_FPS, SEGMENT_POSES, SEGMENT_S, SPLITS


@dataclass(frozen=True)
class Item:
    """One reference: its sound, and what is known about its dance.

    Args:
        id: by which generated music is found.
        audio: the sound, encoded or not; see `sound`.
        song_id: None where unknown (plain files).
        clip_id, compilation_id: likewise.
        poses: (frames, dancers, 25, 3) float32 at 30 fps from the item's start: x px, y px, confidence; dancer 0 leads.
        beats_s: beats of the music, s from the item's start, ascending.
        tempo_bpm: beats a minute.
        n_dancers: found in the clip.
        pose_confidence: mean confidence of the clip's keypoints, 0..1.
        seen_compilation: whether the compilation also gives train clips.
        clip_seconds: length of the whole clip, s.
    """

    id: str
    audio: Audio = field(repr=False)
    song_id: int | None = None
    clip_id: int | None = None
    compilation_id: int | None = None
    poses: np.ndarray | None = field(default=None, repr=False)
    beats_s: np.ndarray | None = field(default=None, repr=False)
    tempo_bpm: float | None = None
    n_dancers: int | None = None
    pose_confidence: float | None = None
    seen_compilation: bool | None = None
    clip_seconds: float | None = None

    def sound(self) -> np.ndarray:
        """Its music, mono float32 (samples,) at 22,050 Hz.

        Raises:
            MediaError: it cannot be decoded.
        """
        return read_sound(self.audio)


@dataclass(frozen=True)
class Reference:
    """All references of an evaluation.

    Args:
        items: by id, in the order of their names.
        name: what the reference set is, in words, for people alone.
        config: `clips` or `segments` of a built dataset; None for plain sound files.
        notes: what could not be had from it, a sentence each.
    """

    items: dict[str, Item]
    name: str
    config: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_songs(self) -> bool:
        """Whether every item's song is known."""
        return all(item.song_id is not None for item in self.items.values())


# ------------------------------------------------------------------------------------------- datasets

_CLIP_COLUMNS = (
    "clip_id",
    "compilation_id",
    "song_id",
    "split",
    "duration_s",
    "n_dancers",
    "audio",
    "pose",
    "pose_confidence",
    "beats_s",
    "tempo_bpm",
)
_SEGMENT_COLUMNS = (
    "segment_id",
    "clip_id",
    "compilation_id",
    "song_id",
    "split",
    "start_s",
    "audio",
    "motion",
    "n_dancers",
)


def clip_name(clip_id: int) -> str:
    """The id of a dataset's clip."""
    return f"clip_{clip_id:06d}"


def read_dataset(source: Path, split: str, config: str) -> Reference:
    """References of a built dataset; see `pairs.read_reference`.

    Raises:
        UserError: no such split or configuration, or files that cannot be read.
    """
    if config not in ("clips", "segments"):
        raise UserError(f"there is no configuration {config!r} in a dataset: take clips or segments")
    if split not in (*SPLITS, "all"):
        raise UserError(f"there is no split {split!r}: take {', '.join(SPLITS)} or all")
    notes = []
    seen = _train_compilations(source, config)
    clips = {
        row["clip_id"]: row
        for row in _rows(source, "clips", [c for c in _CLIP_COLUMNS if c != "audio" or config == "clips"], split)
    }
    if config == "clips":
        items = [_clip_item(row, seen) for row in clips.values()]
    else:
        items = [
            _segment_item(row, clips.get(row["clip_id"]), seen)
            for row in _rows(source, config, _SEGMENT_COLUMNS, split)
        ]
        if not clips:
            notes.append(
                "the dataset has no clips beside its segments: beats are tracked in the segments, and "
                + ("only the lead dancer's poses" if any(item.poses is not None for item in items) else "no poses")
                + " in the picture are known"
            )
    if not items:
        raise UserError(f"{source} has no {config} of the split {split!r}: choose another split or configuration")
    items.sort(key=lambda item: (item.clip_id or 0, len(item.id), item.id))
    which = "all splits" if split == "all" else f"the split {split}"
    return Reference(
        {item.id: item for item in items}, f"{len(items)} {config} of {which} of {source.name}", config, tuple(notes)
    )


def _train_compilations(source: Path, config: str) -> set[int]:
    rows = _rows(source, config, ["compilation_id", "split"], "train")
    return {row["compilation_id"] for row in rows}


def _rows(source: Path, config: str, columns: Sequence[str], split: str) -> list[dict[str, Any]]:
    """Rows of a configuration, of one split or all; arrays as numpy arrays. Read from Parquet without a cache."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows: list[dict[str, Any]] = []
    for path in sorted((source / "data" / config).glob("*.parquet")):
        try:
            with parquet.ParquetFile(path) as file:
                given = [name for name in columns if name in file.schema_arrow.names]
                for batch in file.iter_batches(batch_size=16, columns=given):
                    table = pa.table(batch)
                    wanted = [split in ("all", value) for value in table["split"].to_pylist()]
                    table = table.filter(pa.array(wanted))
                    names = [name for name in table.column_names if name not in ("pose", "motion")]
                    part = table.select(names).to_pylist()
                    for name, shape in (
                        ("pose", (-1, MAX_DANCERS, N_JOINTS, 3)),
                        ("motion", (SEGMENT_POSES, 1, N_JOINTS, 3)),
                    ):
                        if name in table.column_names:
                            for row, value in zip(part, _arrays(table[name]), strict=True):
                                other = name == "motion" and value.size != SEGMENT_POSES * N_JOINTS * 3
                                row[name] = None if other else value.reshape(shape)  # SMPL's are no poses in px
                    rows += part
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): run `tiktok-dm verify` on the dataset") from error
    return rows


def _arrays(column: Any) -> list[np.ndarray]:
    """The flat float32 values of each row of a column of nested lists."""
    arrays = []
    for chunk in column.chunks:
        storage = getattr(chunk, "storage", chunk)
        for k in range(len(storage)):
            values = storage.slice(k, 1)
            while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
                values = values.flatten()
            arrays.append(np.asarray(values.to_numpy(zero_copy_only=False), np.float32))
    return arrays


def _clip_item(row: Mapping[str, Any], seen: set[int]) -> Item:
    poses = row["pose"][:, : max(1, row["n_dancers"] or 0)]
    return Item(
        id=clip_name(row["clip_id"]),
        audio=_bytes(row),
        song_id=row["song_id"],
        clip_id=row["clip_id"],
        compilation_id=row["compilation_id"],
        poses=poses,
        beats_s=np.asarray(row["beats_s"], np.float64),
        tempo_bpm=row["tempo_bpm"],
        n_dancers=row["n_dancers"],
        pose_confidence=row["pose_confidence"],
        seen_compilation=row["compilation_id"] in seen,
        clip_seconds=row["duration_s"],
    )


def _segment_item(row: Mapping[str, Any], clip: Mapping[str, Any] | None, seen: set[int]) -> Item:
    item = Item(
        id=row["segment_id"],
        audio=_bytes(row),
        song_id=row["song_id"],
        clip_id=row["clip_id"],
        compilation_id=row["compilation_id"],
        poses=row["motion"],
        n_dancers=row["n_dancers"],
        seen_compilation=row["compilation_id"] in seen,
    )
    if clip is None:
        return item
    start = float(row["start_s"])
    beats = np.asarray(clip["beats_s"], np.float64) - start
    first = round(start * POSE_FPS)
    poses = clip["pose"][first : first + SEGMENT_POSES, : max(1, clip["n_dancers"] or 0)]
    return replace(
        item,
        poses=poses if len(poses) >= 2 else item.poses,
        beats_s=beats[(beats >= 0) & (beats < SEGMENT_S)],
        tempo_bpm=clip["tempo_bpm"],
        pose_confidence=clip["pose_confidence"],
        clip_seconds=clip["duration_s"],
    )


def _bytes(row: Mapping[str, Any]) -> bytes:
    data = (row.get("audio") or {}).get("bytes")
    if not data:
        raise UserError(
            f"clip {row['clip_id']} of the dataset holds no sound bytes: it was not exported by `tiktok-dm build`"
        )
    return data
