"""Read, check and write a folder of annotations: `compilations.csv`, `clips.csv`, `songs.csv`, `dataset.yaml`.

For the files and for what holds between them; what a cell or a row may be is `tiktok_dm.annotations.rules`. Not for
other people's layouts: `tiktok_dm.annotations.author_file` turns those into this one. The media are never looked at.

Files are UTF-8 (a byte order mark and Windows line ends are accepted). `songs.csv` may be absent: every song of
`clips.csv` then counts as known and has no title. Rows without times, and compilations without a link or a file name,
are good annotations; they are counted as not buildable yet.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tiktok_dm.annotations.rules import RawTable, cell_problem, check_table, header_problems, refers_to, shown, within
from tiktok_dm.errors import DiskFull, Problem, ProblemsError, UserError, is_no_room
from tiktok_dm.schema import SPLITS, TABLES, Column, nearest_name, whole_segments

if TYPE_CHECKING:
    import pandas as pd


class DatasetMeta(BaseModel):
    """`dataset.yaml`: what the annotations cannot say of the dataset as a whole. Empty where nothing is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = ""
    title: str = ""
    license: str = ""
    homepage: str = ""
    citation: str = ""
    description: str = ""

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return "" if value is None else value

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if value and (problem := cell_problem(Column("name", "file", ""), value)):
            raise ValueError(problem)
        return value

    @field_validator("homepage")
    @classmethod
    def _homepage(cls, value: str) -> str:
        if value and (problem := cell_problem(Column("homepage", "url", ""), value)):
            raise ValueError(problem)
        return value


@dataclass(frozen=True)
class Annotations:
    """A checked annotation folder; the frames have the columns and dtypes of `tiktok_dm.schema.TABLES`.

    Args:
        name: of the dataset: from `dataset.yaml`, else the folder's name.
        root: the folder.
        splits: `song_id`, `split`; None where no splits file exists.
        lines: line number in its file of every row, by table name (empty when the frames came from no file).
    """

    name: str
    root: Path
    meta: DatasetMeta
    compilations: pd.DataFrame
    clips: pd.DataFrame
    songs: pd.DataFrame
    splits: pd.DataFrame | None = None
    lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Report:
    """What `check_annotations` found: counts by name, problems (to be mended), notes (to be known)."""

    counts: dict[str, int]
    problems: list[Problem]
    notes: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems


def read_annotations(
    folder: Path | str,
    splits: Path | str | None = None,
    durations: Mapping[int, float] | None = None,
    with_splits: bool = True,
) -> Annotations:
    """Read a folder of annotations.

    Args:
        folder: holds `compilations.csv` and `clips.csv`, and maybe `songs.csv` and `dataset.yaml`.
        splits: the splits file; by default `<folder>/splits.csv` or `<folder>/../../splits/<name>.csv`, where one is.
        durations: length in s of compilations whose media are known, by id; no clip may end past it.
        with_splits: False to leave any splits file alone, as for making a new one.

    Raises:
        ProblemsError: anything is wrong; it names everything that is.

    Example:
        >>> from tiktok_dm import read_annotations
        >>> from tiktok_dm.shipped import shipped
        >>> annotations = read_annotations(shipped("annotations", "tiktok_dm"))
        >>> len(annotations.clips), annotations.clips.song_id.nunique()
        (445, 86)
    """
    places = None if splits is None else Path(splits)
    annotations, problems = _load(Path(folder), places, durations or {}, with_splits)
    if problems or annotations is None:
        raise ProblemsError(problems)
    return annotations


def check_annotations(
    folder: Path | str, splits: Path | str | None = None, durations: Mapping[int, float] | None = None
) -> Report:
    """Check a folder of annotations as `read_annotations` does, but give the problems back instead of raising them."""
    annotations, problems = _load(Path(folder), None if splits is None else Path(splits), durations or {})
    if annotations is None:
        return Report({}, problems, [])
    return Report(count(annotations), problems, _notes(annotations))


def count(annotations: Annotations) -> dict[str, int]:
    """How many of everything, and how many clips cannot be built yet for lack of times or of a source."""
    clips, compilations = annotations.clips, annotations.compilations
    untimed = clips.start_s.isna() | clips.end_s.isna()
    sourced = set(compilations.compilation_id[compilations.url.notna() | compilations.file.notna()].dropna())
    counts = {
        "compilations": len(compilations),
        "clips": len(clips),
        "songs": len(annotations.songs),
        "clips_without_times": int(untimed.sum()),
        "compilations_without_link_and_file": len(compilations) - len(sourced),
        "clips_not_buildable_yet": int((untimed | ~clips.compilation_id.isin(sourced)).sum()),
    }
    if annotations.splits is not None:
        by_song = dict(zip(annotations.splits.song_id, annotations.splits.split, strict=True))
        of_clip = clips.song_id.map(by_song)
        for split in SPLITS:
            songs = int((annotations.splits.split == split).sum())
            if songs or split != "validation":
                counts[f"{split}_songs"] = songs
                counts[f"{split}_clips"] = int((of_clip == split).sum())
                if clips.released_segments.notna().any():
                    counts[f"{split}_released_segments"] = int(clips.released_segments[of_clip == split].sum())
    return counts


def _notes(annotations: Annotations) -> list[str]:
    clips, notes = annotations.clips, []
    counts = count(annotations)
    if counts["clips_not_buildable_yet"]:
        notes.append(
            f"{counts['clips_not_buildable_yet']} of {counts['clips']} clips are not buildable yet: "
            f"{counts['clips_without_times']} have no start and end, and "
            f"{counts['compilations_without_link_and_file']} of {counts['compilations']} compilations have neither a "
            "link nor a file name (a local file named by its id serves too)"
        )
    short = sum(whole_segments(s) == 0 for s in (clips.end_s - clips.start_s).dropna() if s > 0)
    if short:
        notes.append(f"{short} clips are shorter than one segment of 2 s and give none")
    for noun, frame in (("compilation_id", annotations.compilations), ("song_id", annotations.songs)):
        idle = sorted(set(frame[noun].dropna()) - set(clips[noun].dropna()))
        if idle:
            notes.append(f"no clip has {noun} {', '.join(map(str, idle[:10]))}{' ...' if len(idle) > 10 else ''}")
    from tiktok_dm.annotations.splits import near_songs

    for (a, b), (one, other) in near_songs(annotations.songs).items():
        notes.append(f"songs {a} and {b} are called {one!r} and {other!r}: if they are one song, give them one id")
    if annotations.splits is None:
        notes.append("there is no splits file: make one with `tiktok-dm split`")
    else:
        notes.extend(f"no song is in {s}" for s in SPLITS[:2] if not (annotations.splits.split == s).any())
    return notes


# ------------------------------------------------------------------------------------------- reading


def _load(
    folder: Path, splits: Path | None, durations: Mapping[int, float], with_splits: bool = True
) -> tuple[Annotations | None, list[Problem]]:
    if not folder.is_dir():
        return None, [Problem(str(folder), None, None, "is not a folder: give the folder that holds clips.csv")]
    meta, problems = _read_meta(folder / "dataset.yaml")
    name = meta.name or folder.resolve().name
    if splits is None and with_splits:
        beside = folder.resolve().parent.parent / "splits"
        places = [folder / "splits.csv", *(beside / f"{n}.csv" for n in dict.fromkeys((name, folder.resolve().name)))]
        splits = next((place for place in places if place.is_file()), None)
    wanted = {"compilations": folder / "compilations.csv", "songs": folder / "songs.csv", "clips": folder / "clips.csv"}
    if not wanted["songs"].is_file():
        del wanted["songs"]
    if splits is not None and with_splits:
        wanted["splits"] = splits

    frames: dict[str, pd.DataFrame] = {}
    lines: dict[str, tuple[int, ...]] = {}
    ids: dict[str, set[int]] = {}  # of tables whose ids could all be read: one bad id must not make others unknown
    for table, path in wanted.items():
        raw, found = read_table(path, table)
        problems += found
        if raw is None:
            continue
        rules = [refers_to(f"{kind[:-1]}_id", known, f"{kind}.csv") for kind, known in ids.items() if kind != table]
        if table == "clips":
            rules.append(within(durations))
        if table == "splits":
            rules = [refers_to("song_id", ids["songs"], "songs.csv")] if "songs" in ids else []
        checked = check_table(table, raw, rules if table in ("clips", "splits") else [])
        problems += checked.problems
        frames[table], lines[table] = checked.frame, raw.lines
        key = TABLES[table][0].name
        if key in raw.frame.columns and not any(name == key for _, name in checked.bad):
            ids[table] = set(checked.frame[key])
        if table == "clips" and "songs" not in wanted:
            frames["songs"] = songs_of(checked.frame)
            ids["songs"] = set(frames["songs"].song_id)
    if "clips" in frames and "splits" in ids:
        problems += _songs_without_split(frames["clips"], ids["splits"], str(wanted["splits"].name))
    if any(table not in frames for table in ("compilations", "clips", "songs")):
        return None, problems
    return Annotations(name, folder, meta, **frames, lines=lines), problems


def _songs_without_split(clips: pd.DataFrame, known: set[int], file: str) -> list[Problem]:
    lost = sorted(set(clips.song_id.dropna()) - known)
    return [Problem(file, None, "song_id", f"song {song} has clips but no split: add a line for it") for song in lost]


def songs_of(clips: pd.DataFrame) -> pd.DataFrame:
    """A songs table that knows nothing but the ids of the songs in `clips`."""
    import pandas as pd

    ids = sorted(set(clips.song_id.dropna()))
    return typed("songs", pd.DataFrame({"song_id": pd.array(ids, dtype="Int64")}))


def typed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` in the columns, order and dtypes of `table`; absent columns are empty. Checks nothing."""
    columns = TABLES[table]
    out = frame.reindex(columns=[column.name for column in columns]).reset_index(drop=True)
    return out.astype({column.name: column.dtype for column in columns})


def read_table(path: Path, table: str) -> tuple[RawTable | None, list[Problem]]:
    """Read a CSV file of `table` as text cells; None when it cannot be read at all. Blank lines are skipped."""
    try:
        text = decode_text(path)
    except UserError as error:
        return None, [Problem(path.name, None, None, str(error))]
    records, problems = split_records(text, path.name)
    if not records:
        return None, problems or [Problem(path.name, None, None, "is empty: it needs a header and one line a row")]
    header = [cell.strip() for cell in records[0][1]]
    if len(header) == 1 and (separator := next((s for s in ";\t|" if s in header[0]), None)):
        message = f"its columns are separated by {shown(separator)}: save it with commas"
        return None, [Problem(path.name, records[0][0], None, message)]
    problems += header_problems(table, header, path.name)
    if len(records) == 1 and not problems:
        problems.append(Problem(path.name, None, None, "has a header but no rows: add one line a row"))
    rows, lines = [], []
    for line, cells in records[1:]:
        if len(cells) != len(header):
            message = f"has {len(cells)} cells where the header has {len(header)}: quote cells that hold a comma"
            problems.append(Problem(path.name, line, None, message))
        else:
            rows.append([cell.strip() or None for cell in cells])
            lines.append(line)
    import pandas as pd

    frame = pd.DataFrame(rows, columns=pd.Index(header), dtype="string")
    return RawTable(path.name, frame.loc[:, ~frame.columns.duplicated()], tuple(lines)), problems


def split_records(text: str, file: str, delimiter: str = ",") -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    """The records of a CSV text, each with the line it starts on; records without any content are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    records = []
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        message = f"the quotes of this line do not match ({error}): close them, and double a quote inside a cell"
        return records, [Problem(file, start, None, message)]
    return records, []


def decode_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; `UserError` names the first byte that is not."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError("is missing: add it to the folder") from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}): look at what it is and who may read it") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError("is UTF-16, as its byte 1 shows: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With a byte order mark, the codec counts from behind it.
        at = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, at) + 1
        raise UserError(
            f"is not UTF-8: byte {at + 1:,}, in line {line}, is 0x{data[at]:02X} (Latin-1 perhaps); save it as UTF-8"
        ) from None
    if (at := data.find(b"\0")) >= 0:
        raise UserError(f"holds a zero byte as byte {at + 1:,} (UTF-16 perhaps): save it as UTF-8 text")
    return text


def _read_meta(path: Path) -> tuple[DatasetMeta, list[Problem]]:
    import yaml

    if not path.exists():
        return DatasetMeta(), []
    try:
        data = yaml.safe_load(decode_text(path))
    except UserError as error:
        return DatasetMeta(), [Problem(path.name, None, None, str(error))]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        what = getattr(error, "problem", None) or "not readable"
        return DatasetMeta(), [Problem(path.name, line, None, f"is not YAML here ({what}): correct it")]
    if data is None:
        return DatasetMeta(), []
    if not isinstance(data, dict):
        return DatasetMeta(), [
            Problem(path.name, None, None, "holds no `key: value` lines: write such as `name: mine`")
        ]
    try:
        return DatasetMeta.model_validate({str(key): value for key, value in data.items()}), []
    except ValidationError as error:
        return DatasetMeta(), [_meta_problem(path.name, item) for item in error.errors()]


def _meta_problem(file: str, error: Mapping[str, Any]) -> Problem:
    key = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        near = nearest_name(key, DatasetMeta.model_fields)
        hint = (
            f"did you mean {near}?" if near else f"remove it; the known ones are {', '.join(DatasetMeta.model_fields)}"
        )
        return Problem(file, None, shown(key), f"there is no such key: {hint}")
    if error["type"] == "value_error":
        return Problem(file, None, key, str(error["ctx"]["error"]))
    return Problem(file, None, key, f"{shown(str(error['input']))} is not text: put it in quotes")


# ------------------------------------------------------------------------------------------- writing


def write_annotations(annotations: Annotations, folder: Path | str | None = None, readme: str | None = None) -> Path:
    """Write a folder that `read_annotations` reads back equal; the same annotations give the same bytes.

    Each file appears whole or not at all. Columns marked `extra` in the schema are written where they hold something;
    splits go to `<folder>/splits.csv`.

    Args:
        folder: by default `annotations.root`; made when absent.
        readme: text of `README.md`, the provenance of every column; None leaves that file as it is.
    """
    out = Path(annotations.root if folder is None else folder)
    files = {
        f"{table}.csv": table_text(table, getattr(annotations, table)) for table in ("compilations", "clips", "songs")
    }
    if annotations.splits is not None:
        files["splits.csv"] = table_text("splits", annotations.splits)
    meta = {key: value for key, value in annotations.meta.model_dump().items() if value}
    if meta:
        import yaml

        files["dataset.yaml"] = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=110)
    if readme is not None:
        files["README.md"] = readme
    for name, text in files.items():
        write_text(out / name, text)
    return out


def write_splits(splits: pd.DataFrame, path: Path | str) -> Path:
    """Write a splits table (`song_id`, `split`), ordered by song; whole or not at all."""
    return write_text(Path(path), table_text("splits", splits.sort_values("song_id")))


def table_text(table: str, frame: pd.DataFrame) -> str:
    """`frame` as the CSV text of `table`: schema order, UTF-8, line feeds, shortest numbers that read back the same."""
    import pandas as pd

    columns = [c for c in TABLES[table] if c.name in frame.columns and not (c.extra and frame[c.name].isna().all())]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([c.name for c in columns])
    for row in frame[[c.name for c in columns]].itertuples(index=False, name=None):
        writer.writerow(["" if pd.isna(value) else _cell_text(c, value) for c, value in zip(columns, row, strict=True)])
    return out.getvalue()


def _cell_text(column: Column, value: object) -> str:
    if column.dtype == "Int64":
        return str(int(value))  # type: ignore[call-overload]
    if column.dtype == "Float64":
        text = format(Decimal(repr(float(value))), "f")  # type: ignore[arg-type]
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)


def write_text(path: Path, text: str) -> Path:
    """Write a text file beside its place and move it there, so that it is never seen half written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        if is_no_room(error):
            raise DiskFull(f"no room is left to write {path}: free some space and try again") from error
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path} cannot be written ({reason}): give a place where you may write") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path
