"""Annotations on their way into other people's tools: which clips go out, with which confidence and reason.

For `tiktok-dm annotations export`. Not for the formats themselves (`label_studio`, `elan`), and not for the way back
(`exchange_home`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tiktok_dm.annotations.tables import write_text
from tiktok_dm.curate.exchange.base import Film, TimedClip, cell_text, listed, read_folder
from tiktok_dm.curate.exchange.elan import elan_files
from tiktok_dm.curate.exchange.label_studio import LOCAL_FILES, label_studio_files
from tiktok_dm.curate.proposals import VALUES
from tiktok_dm.errors import UserError

FORMATS = ("label-studio", "elan")


@dataclass(frozen=True)
class Exported:
    """What an export wrote: its files, how many compilations and clips, and what is to be known, a sentence each."""

    files: tuple[Path, ...]
    compilations: int
    clips: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as for JSON."""
        counts = {"compilations": self.compilations, "clips": self.clips}
        return {"files": [str(path) for path in self.files], **counts, "notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [f"note: {note}" for note in self.notes]
        lines += [f"written: {path}" for path in self.files]
        return "\n".join([*lines, f"{self.clips} clips of {self.compilations} compilations"])


def export_annotations(
    folder: Path | str,
    format: str,
    out: Path | str,
    *,
    media: Path | str | None = None,
    fps: float | None = None,
    video_prefix: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a folder of annotations, or of proposals, for another tool.

    Args:
        format: one of `FORMATS`.
        out: a folder; made when absent.
        media: folder with the compilations: for their frame rate (Label Studio) and their place (ELAN).
        fps: frames a second of compilations whose file is not there; Label Studio alone needs it.
        video_prefix: what Label Studio puts before a video's file name; `label_studio.LOCAL_FILES` by default.
        overwrite: write over files that are there already.

    Raises:
        UserError: no such format, a frame rate that is not known, files that are there already, nothing to export.
        ProblemsError: the annotations are not good.
    """
    if format not in FORMATS:
        raise UserError(f"there is no format {format!r}: give {' or '.join(FORMATS)}")
    if fps is not None and not 0 < fps <= 1000:
        raise UserError(f"--fps is {fps:g}: give frames a second, such as 30 or 29.97")
    films, notes = films_of(folder, Path(media) if media is not None else None, fps)
    if not films:
        raise UserError(f"no clip of {folder} has a start and an end, so nothing can be exported: fill them in first")
    if format == "elan":
        files, said = elan_files(films)
    else:
        files, said = label_studio_files(films, LOCAL_FILES if video_prefix is None else video_prefix)
    places = {Path(out) / name: text for name, text in files.items()}
    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out} is a file: give a folder for the export")
    there = [path.name for path in places if path.exists()]
    if there and not overwrite:
        raise UserError(f"{out} already holds {listed(there)}: give another folder, or say --overwrite")
    for path, text in places.items():
        write_text(path, text)
    return Exported(tuple(places), len(films), sum(len(film.clips) for film in films), (*notes, *said))


def films_of(folder: Path | str, media: Path | None = None, fps: float | None = None) -> tuple[list[Film], list[str]]:
    """The compilations of a folder that have clips with times, and sentences about what is left out.

    Raises:
        ProblemsError: the annotations are not good.
        UserError: `media` is no folder.
    """
    from tiktok_dm.media import probe
    from tiktok_dm.pipeline.acquire import find_local

    if media is not None and not media.is_dir():
        raise UserError(f"the media folder {media} does not exist: give the folder with the compilations")
    told = read_folder(folder)
    songs = told.annotations.songs
    titles = {int(song): cell_text(title) for song, title in zip(songs.song_id, songs.title, strict=True)}
    proposed = {int(row["clip_id"]): row for row in told.proposals.to_dict("records")}
    clips, untimed = told.clips, told.clips.start_s.isna() | told.clips.end_s.isna()
    notes = []
    if untimed.any():
        notes.append(
            f"{int(untimed.sum())} of {len(clips)} clips have no start or no end and were left out: "
            f"{listed(clips.clip_id[untimed])}"
        )
    films = []
    unseen = []
    for source in told.annotations.compilations.to_dict("records"):
        number, file = int(source["compilation_id"]), cell_text(source["file"])
        mine = clips[(clips.compilation_id == number) & ~untimed].sort_values(["start_s", "clip_id"])
        if not len(mine):
            continue
        path = find_local(media, number, file or None) if media is not None else None
        if media is not None and path is None:
            unseen.append(number)
        rate = Fraction(probe(path).fps_rational) if path is not None else None
        if rate is None and fps is not None:
            rate = Fraction(fps).limit_denominator(100_000)
        found = tuple(_timed(row, titles, proposed.get(int(row["clip_id"]))) for row in mine.to_dict("records"))
        name = file or (path.name if path is not None else "")
        films.append(Film(number, cell_text(source["title"]), name, cell_text(source["url"]), path, rate, found))
    if unseen:
        notes.append(f"no file of compilation {listed(unseen)} is in {media}")
    return films, notes


def _timed(row: Mapping[Any, Any], titles: Mapping[int, str], said: Mapping[Any, Any] | None) -> TimedClip:
    """A clip of `row` of `clips.csv`; `said`: its row of `proposals.csv`, if it has one."""
    review = "" if said is None else (cell_text(said["review"]) or "open")
    said = said or {}
    confidence = {v: float(said[f"{v}_confidence"]) for v in VALUES if cell_text(said.get(f"{v}_confidence"))}
    reason = {v: str(said[f"{v}_reason"]) for v in VALUES if cell_text(said.get(f"{v}_reason"))}
    song = int(row["song_id"])
    return TimedClip(
        clip_id=int(row["clip_id"]),
        song_id=song,
        start_s=float(row["start_s"]),
        end_s=float(row["end_s"]),
        n_dancers=None if cell_text(row["n_dancers"]) == "" else int(row["n_dancers"]),
        song_title=titles.get(song, ""),
        confidence=confidence,
        reason=reason,
        review=review,
    )
