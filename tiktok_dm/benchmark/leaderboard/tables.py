"""The tables of a submission: read within bounds, and its manifest, a line a file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiktok_dm.benchmark.leaderboard.submission import label
from tiktok_dm.errors import Problem, UserError

Row = tuple[int, Mapping[str, str]]
"""Line, the header being 1, and cells by column."""


def read_table(path: Path, name: str, columns: Sequence[str], most: int) -> tuple[list[Row], list[Problem]]:
    """The rows of a table that have all cells.

    Args:
        path: the file.
        name: what problems call it.
        columns: of its header, exactly.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        return [], [Problem(name, None, None, f"it is larger than {most:,} bytes")]
    try:
        reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError:
        return [], [Problem(name, None, None, "it is not UTF-8 text: save it as UTF-8")]
    except csv.Error as error:
        return [], [Problem(name, reader.line_num, None, f"it is not valid CSV ({error}): mend this line")]
    if not rows or rows[0][1] != list(columns):
        return [], [Problem(name, 1, None, f"its first line must be {','.join(columns)}")]
    whole: list[Row] = [
        (line, dict(zip(columns, row, strict=True))) for line, row in rows[1:] if len(row) == len(columns)
    ]
    problems = [
        Problem(name, line, None, f"it has {len(row)} fields and needs {len(columns)}")
        for line, row in rows[1:]
        if len(row) != len(columns)
    ]
    return whole, problems


def not_whole_numbers(cells: Mapping[str, str], columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Column and message of each cell that is no whole number of up to twelve digits."""
    for column in columns:
        if not re.fullmatch(r"[0-9]{1,12}", cells[column]):
            yield column, f"{cells[column][:70]!r} is no whole number"


def table_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV file with its header."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()


MANIFEST = "manifest.csv"
COLUMNS = ("id", "seed", "sha256", "sample_rate", "samples")
_MOST = 50_000_000  # bytes


@dataclass(frozen=True)
class Entry:
    """One predicted file.

    Args:
        line: of `manifest.csv`, the header being 1.
        id: of the test split.
        seed: with which the system made it.
        sha256: of the file's bytes.
        sample_rate: Hz.
        samples: in the file.
    """

    line: int
    id: str
    seed: int
    sha256: str
    sample_rate: int
    samples: int


def read_manifest(folder: Path) -> tuple[list[Entry], list[Problem]]:
    """`manifest.csv` of a submission, and every row that cannot be read.

    Raises:
        UserError: there is no such file.
    """
    path = folder / MANIFEST
    name = f"{label(folder)}/{MANIFEST}"
    try:
        rows, problems = read_table(path, name, COLUMNS, _MOST)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): `tiktok-dm submit new` makes one"
        ) from error
    entries: list[Entry] = []
    for line, cells in rows:
        wrong = list(not_whole_numbers(cells, ("seed", "sample_rate", "samples")))
        if not re.fullmatch(r"[0-9a-f]{64}", cells["sha256"]):
            wrong.append(("sha256", f"{cells['sha256'][:70]!r} is no SHA-256 checksum in lower case"))
        problems += [Problem(name, line, column, message) for column, message in wrong]
        if not wrong:
            entries.append(
                Entry(
                    line,
                    cells["id"],
                    int(cells["seed"]),
                    cells["sha256"],
                    int(cells["sample_rate"]),
                    int(cells["samples"]),
                )
            )
    return entries, problems


def manifest_text(entries: Sequence[Entry]) -> str:
    """`manifest.csv` of some entries, in the order of seed and id."""
    ordered = sorted(entries, key=lambda entry: (entry.seed, entry.id))
    return table_text(COLUMNS, [[getattr(entry, column) for column in COLUMNS] for entry in ordered])
