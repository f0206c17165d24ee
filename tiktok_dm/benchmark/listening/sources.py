"""Where music and pictures of a study come from: a folder of files, or a built dataset, both by id.

The id of a file is its stem. The ids of a dataset are its segment ids where the generated files bear such, else its
clip ids, which files may also write as `000003` or `clip_3`. Not for what is made of them (`stimuli`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tiktok_dm.errors import Problem, ProblemsError, UserError

SOUND = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus"}
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


def folder_pieces(folder: Path, kinds: Collection[str]) -> dict[str, Piece]:
    """The media files of a folder by stem.

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
        if path.stem in found:
            other = found[path.stem].path.name
            problems.append(Problem(path.name, None, None, f"has the same id as {other}: remove one of them"))
        found[path.stem] = Piece(path)
    if problems:
        raise ProblemsError(problems, f"{folder} names some ids twice")
    if not found:
        raise UserError(f"{folder} holds no files of the kinds {', '.join(sorted(kinds))}: check the folder")
    return found


def is_dataset(folder: Path) -> bool:
    """Whether a folder was written by `tiktok-dm build`."""
    return (folder / "README.md").is_file() and (folder / "data").is_dir()


def dataset_pieces(folder: Path, stems: Iterable[str], split: str | None, unpacked: Path) -> dict[str, Piece]:
    """Clips or segments of a dataset by the ids that the generated files bear.

    Args:
        folder: of the dataset.
        stems: of the generated files; only what they name is unpacked.
        split: rows of this split alone; None: all.
        unpacked: folder for the videos' bytes.

    Raises:
        UserError: no dataset, no such split.
    """
    from tiktok_dm.reading import open_dataset, stored_bytes

    wanted = set(stems)
    opened = open_dataset(folder, "segments", streaming=True)
    splits = list(opened) if split is None else [split]
    if split is not None and split not in opened:
        raise UserError(f"the dataset {folder} has no split {split!r}: it has {', '.join(opened)}")
    parts: dict[int, dict[str, tuple[float, float]]] = {}
    plain = ["segment_id", "clip_id", "start_s"]
    for name in splits:
        for row in opened[name].select_columns(plain):
            if row["segment_id"] in wanted:
                parts.setdefault(row["clip_id"], {})[row["segment_id"]] = (row["start_s"], row["start_s"] + 2.0)
    named: dict[int, str] = {}
    if not parts:
        for stem in wanted:
            match = _CLIP_STEM.fullmatch(stem)
            if match:
                named[int(match[1])] = stem
    found: dict[str, Piece] = {}
    clips = open_dataset(folder, "clips", streaming=True)
    for name in splits:
        for row in clips[name].select_columns(["clip_id", "song_id", "video"]):
            clip = row["clip_id"]
            if clip not in parts and clip not in named:
                continue
            path = unpacked / f"{clip}.mp4"
            path.write_bytes(stored_bytes(row["video"]))
            song = str(row["song_id"])
            if clip in named:
                found[named[clip]] = Piece(path, song=song)
            for segment, (start, end) in parts.get(clip, {}).items():
                found[segment] = Piece(path, start, end, song)
    return found
