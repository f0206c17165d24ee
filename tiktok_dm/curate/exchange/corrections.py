"""Annotations to Label Studio and ELAN, and corrections made there brought home."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm.annotations.rules import check_table, refers_to, within
from tiktok_dm.annotations.tables import Annotations, read_table, table_text, typed, write_annotations, write_text
from tiktok_dm.curate.exchange.base import Film, Region, TimedClip, cell_text, listed, read_folder, ticks
from tiktok_dm.curate.exchange.elan import elan_files, read_elan
from tiktok_dm.curate.exchange.label_studio import LOCAL_FILES, label_studio_files, read_label_studio
from tiktok_dm.curate.proposals import VALUES, Proposals, write_proposals
from tiktok_dm.errors import Problem, ProblemsError, UserError
from tiktok_dm.schema import TABLES

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class Returned:
    """What came back.

    Args:
        out: the folder that was written.
        changed: ids of clips of which anything differs from before.
        added: ids that new stretches got.
        removed: ids of clips that are gone.
        notes: what had to be decided, one sentence each.
    """

    out: Path
    changed: tuple[int, ...]
    added: tuple[int, ...]
    removed: tuple[int, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as for JSON."""
        ids = {"changed": list(self.changed), "added": list(self.added), "removed": list(self.removed)}
        return {"out": str(self.out), **ids, "notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [f"note: {note}" for note in self.notes]
        lines += [
            f"{what}: {listed(ids)}"
            for what, ids in (("changed", self.changed), ("added", self.added), ("removed", self.removed))
            if ids
        ]
        if not (self.changed or self.added or self.removed):
            lines.append("nothing differs from before")
        return "\n".join([*lines, f"written: {self.out}"])


def comes_from_a_tool(file: Path | str) -> bool:
    """Whether a file (or folder) is one that `import_exported` reads, by its name."""
    return Path(file).is_dir() or Path(file).suffix.lower() in (".eaf", ".json")


def import_exported(
    file: Path | str, base: Path | str | None, out: Path | str, *, drop_missing: bool = False, overwrite: bool = False
) -> Returned:
    """Take a corrected export home: an EAF file or a folder of them, or a JSON export of Label Studio.

    Args:
        base: the annotations that were exported; the other arguments as `import_regions`.

    Raises:
        UserError, ProblemsError: as `import_regions`, or there is no `base`.
    """
    if base is None:
        raise UserError(f"say with --base which annotations {file} was exported from: it holds only what changes")

    def read(home: Annotations) -> tuple[list[Region], list[str]]:
        return read_label_studio(file, home) if Path(file).suffix.lower() == ".json" else read_elan(file, home)

    return import_regions(read, base, out, drop_missing=drop_missing, overwrite=overwrite)


def import_regions(
    read: Callable[[Annotations], tuple[list[Region], list[str]]],
    base: Path | str,
    out: Path | str,
    *,
    drop_missing: bool = False,
    overwrite: bool = False,
) -> Returned:
    """Take stretches that came back from a tool over into annotations.

    Clips keep their ids; what was not touched keeps its exact value; stretches without an id get the next free ones.
    Everything that the tool does not show (titles, links, notes, released segments) is as before. Where `base` holds
    proposals, so does `out`, with what changed marked as mended.

    Args:
        read: gives the stretches and sentences about them (`label_studio.read_label_studio`, `elan.read_elan`).
        base: the annotations that were exported.
        out: where to write; `base` itself is possible with `overwrite`.
        drop_missing: remove clips of a returned compilation that did not come back; else they stay, and are listed.
        overwrite: write over annotations that `out` already holds.

    Raises:
        UserError: `out` already holds annotations.
        ProblemsError: what came back, or what it would make, is not good; nothing is written.
    """
    home, place = read_folder(base), Path(out)
    if place.exists() and not place.is_dir():
        raise UserError(f"{place} is a file: give a folder for the annotations")
    if not overwrite and any((place / f"{name}.csv").exists() for name in ("clips", "compilations", "songs")):
        raise UserError(f"{place} already holds annotations: give another folder, or say --overwrite")
    regions, said = read(home.annotations)
    made, told = apply_regions(home, regions, drop_missing)
    _check(made)
    same = place.resolve() == Path(base).resolve()
    if (Path(base) / "proposals.csv").exists():
        if not same:
            write_annotations(replace(made.annotations, splits=None), place)
        there = made if same else replace(made, annotations=replace(made.annotations, root=place))
        write_proposals(there, force=not same)
    else:
        write_annotations(replace(made.annotations, splits=None), place)
    return replace(told, out=place, notes=(*said, *told.notes))


def apply_regions(home: Proposals, regions: Sequence[Region], drop_missing: bool = False) -> tuple[Proposals, Returned]:
    """`home` with what came back: see `import_regions`. Nothing is written.

    Raises:
        ProblemsError: an id that is not known or of another compilation, a new clip without song.
    """
    import pandas as pd

    old = {int(row["clip_id"]): row for row in home.clips.to_dict("records")}
    kept, added, notes = _claimed(old, regions)
    rows, changed = {clip: dict(row) for clip, row in old.items()}, []
    seen = set()
    for clip, region in kept.items():
        if _take(rows[clip], region):
            changed.append(clip)
        if region.seen:
            seen.add(clip)
    free = max(old, default=-1) + 1
    fresh = []
    for region in added:
        row: dict[Any, Any] = {column.name: pd.NA for column in TABLES["clips"]}
        row.update(clip_id=free, compilation_id=region.compilation_id, song_id=region.song_id)
        row.update(start_s=region.start_s, end_s=region.end_s)
        row["n_dancers"] = pd.NA if region.n_dancers is None else region.n_dancers
        rows[free] = row
        fresh.append(free)
        free += 1
    returned = {region.compilation_id for region in regions}
    missing = [
        clip
        for clip, row in old.items()
        if clip not in kept and int(row["compilation_id"]) in returned and not _untimed(row)
    ]
    if missing and drop_missing:
        rows = {clip: row for clip, row in rows.items() if clip not in set(missing)}
    elif missing:
        notes.append(
            f"clip {listed(missing)} did not come back and stays as it was: say --drop-missing where it should go"
        )
    clips = typed("clips", pd.DataFrame(list(rows.values())))
    songs = home.annotations.songs
    unknown = sorted({int(song) for song in clips.song_id.dropna()} - {int(song) for song in songs.song_id})
    if unknown:
        notes.append(f"song {listed(unknown)} is new: songs.csv has a line for it without title")
        songs = typed("songs", pd.concat([songs, pd.DataFrame({"song_id": unknown})], ignore_index=True))
    tables = {"clips": clips, "songs": songs}
    if len(home.proposals):
        gone = set(missing) if drop_missing else set()
        tables |= _reviewed(home, set(changed) | set(fresh), seen, gone)
    made = home.with_tables(**tables)
    removed = tuple(missing) if drop_missing else ()
    return made, Returned(home.root, tuple(sorted(changed)), tuple(fresh), removed, tuple(notes))


def _claimed(
    old: Mapping[int, Mapping[Any, Any]], regions: Sequence[Region]
) -> tuple[dict[int, Region], list[Region], list[str]]:
    """Which stretch is which clip, which are new, and sentences.

    Of several with one id (a stretch cut in two keeps it on both), the one that shares most time with the clip keeps
    it.
    """
    problems: list[Problem] = []
    rivals: dict[int, list[Region]] = {}
    added = []
    notes = []
    for region in sorted(regions, key=lambda r: (r.compilation_id, r.start_s, r.end_s)):
        if region.clip_id is None:
            added.append(region)
        elif region.clip_id not in old:
            message = f"there is no clip {region.clip_id}: leave the id empty for a new clip"
            problems.append(Problem(region.where, None, "clip_id", message))
        elif int(old[region.clip_id]["compilation_id"]) != region.compilation_id:
            message = f"clip {region.clip_id} belongs to compilation {old[region.clip_id]['compilation_id']}, not here"
            problems.append(Problem(region.where, None, "clip_id", message))
        else:
            rivals.setdefault(region.clip_id, []).append(region)
    kept = {}
    for clip, several in rivals.items():
        best = max(several, key=lambda r: (_shared(old[clip], r), -r.start_s))
        kept[clip] = best
        rest = [region for region in several if region is not best]
        added += rest
        if rest:
            notes.append(f"{len(several)} stretches carry the id {clip}: the one at {best.start_s:g} s keeps it")
    for region in added:
        if region.song_id is None:
            message = f"the new clip at {region.start_s:g} s has no song: write its id"
            problems.append(Problem(region.where, None, "song", message))
    if problems:
        raise ProblemsError(problems)
    added.sort(key=lambda r: (r.compilation_id, r.start_s, r.end_s))
    return kept, added, notes


def _shared(row: Mapping[Any, Any], region: Region) -> float:
    if _untimed(row):
        return 0.0
    return min(float(row["end_s"]), region.end_s) - max(float(row["start_s"]), region.start_s)


def _untimed(row: Mapping[Any, Any]) -> bool:
    return cell_text(row["start_s"]) == "" or cell_text(row["end_s"]) == ""


def _take(row: dict[Any, Any], region: Region) -> bool:
    """Put what a stretch says into a clip's row; whether anything differs from before."""
    before = [cell_text(row[name]) for name in ("start_s", "end_s", "song_id", "n_dancers")]
    for name, value in (("start_s", region.start_s), ("end_s", region.end_s)):
        was = row[name]
        moved = cell_text(was) == "" or (abs(ticks(float(was), region.rate) - ticks(value, region.rate)) > region.slack)
        if moved:
            row[name] = value
    if region.song_id is not None:
        row["song_id"] = region.song_id
    if region.n_dancers is not None:
        row["n_dancers"] = region.n_dancers
    return before != [cell_text(row[name]) for name in ("start_s", "end_s", "song_id", "n_dancers")]


def _reviewed(home: Proposals, mended: set[int], seen: set[int], gone: set[int]) -> dict[str, pd.DataFrame]:
    """The tables beside the annotations, with what a person said by handing the clips in."""
    import pandas as pd

    table = home.proposals[~home.proposals.clip_id.isin(gone)].copy()
    known = {int(clip) for clip in table.clip_id}
    table.loc[table.clip_id.isin(seen - mended) & table.review.isna(), "review"] = "accepted"
    table.loc[table.clip_id.isin(mended), "review"] = "mended"
    fresh = pd.DataFrame({"clip_id": sorted(mended - known), "review": "mended"})
    pairs = home.same_songs
    pairs = pairs[~pairs.clip_a.isin(gone) & ~pairs.clip_b.isin(gone)]
    parts = [table, typed("proposals", fresh)] if len(fresh) else [table]
    return {"proposals": pd.concat(parts, ignore_index=True), "same_songs": pairs}


def _check(made: Proposals) -> None:
    """Hold the clips that would be written against every rule, before a file of the user's is touched."""
    annotations = made.annotations
    known = {"compilation_id": annotations.compilations.compilation_id, "song_id": annotations.songs.song_id}
    with tempfile.TemporaryDirectory(prefix="tiktok-dm-") as folder:
        raw, problems = read_table(write_text(Path(folder) / "clips.csv", table_text("clips", made.clips)), "clips")
    if raw is not None:
        rules = [refers_to(name, set(ids), f"{name.removesuffix('_id')}s.csv") for name, ids in known.items()]
        problems += check_table("clips", raw, [*rules, within({})]).problems
    if problems:
        raise ProblemsError(problems, "what came back cannot be taken over; nothing was written")
