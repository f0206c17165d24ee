"""The authors' annotation file, or another of its kind, turned into an annotation folder and held against the release.

The authors name what their file holds (video link, music id, video id, duration, number of dancers), not its layout. So
columns are known by many names or told, times are seconds, clock times or ranges, and whatever the file leaves open is
left empty or taken from the released facts, and said. Not for the project's own layout: that needs no import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tiktok_dm.annotations.foreign_clips import ForeignClips
from tiktok_dm.annotations.foreign_table import ForeignTable, match_columns, read_foreign_table
from tiktok_dm.annotations.released import Difference, compare_with_released, released_annotations
from tiktok_dm.annotations.tables import Annotations, count, write_annotations
from tiktok_dm.errors import DiskFull, UserError, is_no_room

AUTHORS_FILE_ID = "1AUN-5rKBRI1sU0YbiSlTrgbtOmyUmhBM"  # the Google Drive id in the README of the authors' repository


@dataclass(frozen=True)
class ImportResult:
    """What an import made.

    Args:
        annotations: as written, and as `read_annotations` reads them.
        differences: from the release, all of them; empty when nothing was compared.
        columns: the file's column name by field.
        ignored: column names of the file that were left out.
        notes: what had to be decided, one sentence each.
        compared: how many released clips it was held against.
    """

    annotations: Annotations
    differences: list[Difference]
    columns: dict[str, str]
    ignored: list[str]
    notes: list[str] = field(default_factory=list)
    compared: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as for JSON."""
        return {
            "out": str(self.annotations.root),
            "counts": count(self.annotations),
            "columns": self.columns,
            "ignored": self.ignored,
            "notes": self.notes,
            "compared": self.compared,
            "differences": [asdict(difference) for difference in self.differences],
        }

    def __str__(self) -> str:
        lines = [f"{name}: column {theirs!r}" for name, theirs in self.columns.items()]
        lines += [f"left out: column {name!r}" for name in self.ignored]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"difference: {difference}" for difference in self.differences]
        lines.append(", ".join(f"{n} {name.replace('_', ' ')}" for name, n in count(self.annotations).items()))
        if self.compared:
            lines.append(f"{len(self.differences)} differences from the {self.compared} released clips")
        return "\n".join([*lines, f"written: {self.annotations.root}"])


def import_annotations(
    file: Path | str,
    out: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    sheet: str | None = None,
    released: Annotations | None = None,
    compare: bool = True,
    overwrite: bool = False,
) -> ImportResult:
    """Turn a csv, tsv or xlsx file into the annotation folder `out`, and compare it with the release.

    Args:
        columns: field (a key of `foreign_table.ALIASES`) to the file's column name, where names are not recognised.
        ignore: column names of the file to leave out.
        sheet: of an xlsx file with several.
        released: what to compare with and to take missing ids from; by default the shipped 445 clips.
        compare: False for a dataset of one's own: nothing is taken from the release or compared with it.
        overwrite: replace annotations that `out` already holds.

    Raises:
        UserError: the file cannot be read, or `out` already holds annotations.
        ProblemsError: everything that is wrong with columns and cells; nothing is written then.
    """
    out, path = Path(out), Path(file)
    _refuse_overwriting(out, overwrite)
    if compare and released is None:
        released = released_annotations()
    if not compare:
        released = None
    table = read_foreign_table(path, sheet, list((columns or {}).values()))
    places, ignored = match_columns(table, columns or {}, ignore)
    reading = ForeignClips(table, places, released)
    annotations = reading.annotations(out)
    differences = reading.differences
    if released is not None:
        differences = differences + compare_with_released(annotations, released, reading.durations)
    named = {name: table.header[place] for name, place in sorted(reading.places.items())}
    result = ImportResult(
        annotations, differences, named, ignored, reading.notes, 0 if released is None else len(released.clips)
    )
    write_annotations(annotations, out, _readme(table, result))
    return result


def fetch_annotations(
    out: Path | str,
    file_id: str = AUTHORS_FILE_ID,
    *,
    columns: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
    sheet: str | None = None,
    released: Annotations | None = None,
    compare: bool = True,
    overwrite: bool = False,
    timeout_s: float = 30.0,
    retries: int = 2,
) -> ImportResult:
    """Download the authors' annotation file from Google Drive into `<out>.download/` and import it.

    The downloaded file stays there, so that an import that fails can be repeated with other options.

    Raises:
        UserError: it cannot be downloaded; the sentence says how to do it by hand.
        ProblemsError: as `import_annotations`.
    """
    out = Path(out)
    _refuse_overwriting(out, overwrite)
    file = download_from_drive(
        file_id,
        out.with_name(out.name + ".download"),
        then="give it to `tiktok-dm annotations import FILE --out DIR`",
        timeout_s=timeout_s,
        retries=retries,
    )
    return import_annotations(
        file,
        out,
        columns=columns,
        ignore=ignore,
        sheet=sheet,
        released=released,
        compare=compare,
        overwrite=overwrite,
    )


def download_from_drive(
    file_id: str, folder: Path, *, then: str, timeout_s: float = 30.0, retries: int = 2, resume: bool = False
) -> Path:
    """Download a file that is shared on Google Drive into `folder`, under the name it has there.

    Args:
        file_id: its id, or a link with the id in it.
        then: what to do with a file that was saved by hand, for the sentence that says so.
        resume: go on with a part that an earlier call left, and keep a file of that name that is there.

    Raises:
        UserError: it cannot be downloaded; the sentence says how to do it by hand.
        DiskFull: it did not fit.
    """
    import gdown
    import requests
    from gdown.exceptions import DownloadError, FileURLRetrievalError

    if match := re.search(r"(?:/d/|[?&]id=)([A-Za-z0-9_-]{10,100})", file_id):
        file_id = match[1]
    by_hand = f"open https://drive.google.com/file/d/{file_id}/view in a browser, save the file, and {then}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{10,100}", file_id):
        raise UserError(f"{file_id!r} is not the id of a Google Drive file: copy it from the file's link")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        got = gdown.download(
            id=file_id,
            output=f"{folder}/",
            quiet=True,
            use_cookies=False,
            timeout=timeout_s,
            retries=retries,
            resume=resume,
        )
    except FileURLRetrievalError:
        reason = "Google Drive does not hand the file out (it is not shared, or too many people fetched it today)"
    except requests.exceptions.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        gone = "the file is no longer there" if status in (404, 410) else "the file is not handed out"
        reason = f"Google Drive says that {gone} (status {status})"
    except requests.exceptions.Timeout:
        reason = f"Google Drive did not answer within {timeout_s:g} s"
    except requests.exceptions.RequestException:
        reason = "Google Drive cannot be reached (no network, or a proxy is in the way)"
    except DownloadError as error:
        reason = f"the download broke off ({str(error).splitlines()[0].rstrip('.:')})"
    except (KeyError, AssertionError):  # an answer that gdown does not foresee
        reason = "Google Drive gave an answer that is not a file"
    except OSError as error:
        if is_no_room(error):
            raise DiskFull(f"no room left in {folder} for the download: make room there, then try again") from error
        raise UserError(f"{folder} cannot be written ({error.strerror}): give another folder") from error
    else:
        return Path(str(got))
    raise UserError(f"{reason}: {by_hand}")


def _refuse_overwriting(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder for the annotations")
    if not overwrite and any((out / f"{name}.csv").exists() for name in ("clips", "compilations", "songs", "splits")):
        raise UserError(f"{out} already holds annotations: give another folder, or say --overwrite")


def _readme(table: ForeignTable, result: ImportResult) -> str:
    lines = [
        "# Imported annotations",
        "",
        f"Made by `tiktok-dm annotations import` from {_cell(table.file)}",
        f"(SHA-256 `{table.sha256}`). Where that file says nothing, a cell is empty; what was decided is noted below.",
        "",
        "| field | column of the file |",
        "|---|---|",
        *(f"| `{name}` | {_cell(theirs)} |" for name, theirs in result.columns.items()),
        "",
    ]
    if result.ignored:
        lines += [f"Left out: {', '.join(_cell(name) for name in result.ignored)}.", ""]
    lines += [*(f"- {note[0].upper()}{note[1:]}." for note in result.notes), *([""] if result.notes else [])]
    if result.compared:
        lines += [f"Held against {result.compared} released clips: {len(result.differences)} differences.", ""]
        lines += [*(f"- {difference}" for difference in result.differences), *([""] if result.differences else [])]
    return "\n".join(lines)


def _cell(name: str) -> str:
    return "`" + re.sub(r"[`|\s]+", " ", name).strip() + "`"
