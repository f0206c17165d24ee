"""Where music and pictures of a study come from: a folder of files, or a built dataset, both by id.

The id of a file is its stem. The ids of a dataset are its segment ids, or `clip_000012` for its clips, which files may
also write as `12`. Not for what is made of them (`stimuli`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tiktok_dm.errors import Problem, ProblemsError, UserError
from tiktok_dm.schema import SEGMENT_S

SOUND = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".aif", ".aiff"}
FILM = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}

_CLIP_STEM = re.compile(r"(?:clip[_-]?)?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Piece:
    """A part of a media file.

    Args:
        path: the file.
        start_s: where the part begins, seconds from the file's start.
        end_s: where it ends; None: with the file.
        song: pieces with the same one share their music; None: not known.
    """

    path: Path
    start_s: float = 0.0
    end_s: float | None = None
    song: str | None = None


def clip_name(stem: str) -> str:
    """`12` -> `clip_000012`; what is no clip id stays."""
    match = _CLIP_STEM.fullmatch(stem)
    return f"clip_{int(match[1]):06d}" if match else stem


def folder_pieces(folder: Path, kinds: Collection[str], of_dataset: bool = False) -> dict[str, Piece]:
    """The media files of a folder by id.

    Args:
        folder: of the files.
        kinds: endings that count; other files are left alone.
        of_dataset: whether numbers are clip ids of a dataset.

    Raises:
        UserError: no such folder, or nothing of these kinds in it.
        ProblemsError: two files of one stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one that holds the files, named by id")
    found: dict[str, Piece] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in kinds or not path.is_file() or path.name.startswith("."):
            continue
        name = clip_name(path.stem) if of_dataset else path.stem
        if name in found:
            other = found[name].path.name
            problems.append(Problem(path.name, None, None, f"has the same id as {other}: remove one of them"))
        found[name] = Piece(path)
    if problems:
        raise ProblemsError(problems, f"{folder} names some ids twice")
    if not found:
        raise UserError(f"{folder} holds no files of the kinds {', '.join(sorted(kinds))}: check the folder")
    return found


def is_dataset(folder: Path) -> bool:
    """Whether a folder was written by `tiktok-dm build`."""
    return (folder / "README.md").is_file() and (folder / "data").is_dir()


def dataset_pieces(folder: Path, wanted: Collection[str], split: str | None, unpacked: Path) -> dict[str, Piece]:
    """Clips or segments of a dataset by id.

    Args:
        folder: of the dataset.
        wanted: ids of the generated files; only what they name is unpacked.
        split: rows of this split alone; None: all.
        unpacked: folder for the videos' bytes.

    Raises:
        UserError: no dataset, no such split.
    """
    from tiktok_dm.reading import open_dataset, stored_bytes

    segments, clips = (open_dataset(folder, config, streaming=True) for config in ("segments", "clips"))
    if split is not None and split not in clips:
        raise UserError(f"the dataset {folder} has no split {split!r}: it has {', '.join(clips)}")
    splits = list(clips) if split is None else [split]
    parts: dict[int, dict[str, float]] = {}
    for name in splits:
        for row in segments[name].select_columns(["segment_id", "clip_id", "start_s"]) if name in segments else ():
            if row["segment_id"] in wanted:
                parts.setdefault(row["clip_id"], {})[row["segment_id"]] = row["start_s"]
    found: dict[str, Piece] = {}
    for name in splits:
        for row in clips[name].select_columns(["clip_id", "song_id", "video"]):
            clip, song = row["clip_id"], str(row["song_id"])
            whole = clip_name(str(clip))
            if clip not in parts and whole not in wanted:
                continue
            path = unpacked / f"{clip}.mp4"
            path.write_bytes(stored_bytes(row["video"]))
            if whole in wanted:
                found[whole] = Piece(path, song=song)
            for segment, start in parts.get(clip, {}).items():
                found[segment] = Piece(path, start, start + SEGMENT_S, song)
    return found
