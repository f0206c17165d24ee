"""Other people's tables: csv, tsv and xlsx as text cells, their columns matched by name, their times as seconds.

For annotation files in layouts that nobody here chose. Not for what the columns mean together, which is
`tiktok_dm.annotations.author_file`, and not for the project's own tables (`tiktok_dm.annotations.tables`).
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import re
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from tiktok_dm.annotations.rules import shown
from tiktok_dm.annotations.tables import decode_text, split_records
from tiktok_dm.errors import Problem, ProblemsError, UserError
from tiktok_dm.schema import nearest_name

_MAX_BYTES = 50_000_000  # an annotation file of 445 clips has some 50 kB
_HEADER_ROWS = 10  # a header is looked for in this many rows: people write a heading above it

# What the columns may be called, without case, spaces and punctuation. A field's own name always counts.
_NAMES = {
    "clip_id": "videoid videono videonumber videoindex clip clipno clipnumber clipindex danceid id",
    "compilation_id": "compilation compilationno compilationnumber compilationindex sourceid linkid",
    "song_id": "musicid music musicno musicindex song songno songnumber songindex audioid trackid track",
    "url": "videolink videourl video link links youtube youtubelink youtubeurl compilationlink compilationurl source "
    "sourcelink sourceurl href",
    "file": "filename videofile localfile",
    "start_s": "start starttime startsec startsecond startseconds startat timestart begin begintime from",
    "end_s": "end endtime endsec endsecond endseconds endat timeend stop stoptime finish until to",
    "time_range": "time times range interval timestamp timestamps startend fromto span",
    "duration_s": "duration durationsec durationsecond durationseconds length lengthsec lengthseconds seconds",
    "n_dancers": "dancers dancer ndancer numdancers nodancers noofdancers numofdancers numberofdancers numberofdancer "
    "ofdancers dancercount people npeople numpeople numberofpeople peoplecount persons npersons numpersons "
    "numberofpersons performers numberofperformers",
    "song_title": "songname musicname musictitle trackname tracktitle",
    "artist": "artists singer performedby songartist musicartist",
    "genre": "musicgenre songgenre",
    "compilation_title": "videotitle videoname compilationname",
    "split": "subset partition set traintest",
    "notes": "note comment comments remark remarks",
}
ALIASES: dict[str, tuple[str, ...]] = {name: tuple(forms.split()) for name, forms in _NAMES.items()}
_ROW_NUMBERS = {"no", "nr", "index", "row", "rowid", "unnamed0"}  # counts rows, says nothing


@dataclass(frozen=True)
class ForeignTable:
    """A table as text cells (`""` for empty), with where each row stands in the file and its hidden link targets.

    Args:
        file: the file's name.
        header: column names as they are written.
        header_line: line (csv) or row (xlsx) of the header.
        rows, lines: the rows with any content, and the line or row of each.
        links: target of a cell's hyperlink, by (place in `rows`, place in `header`).
        sha256: checksum of the file.
    """

    file: str
    header: tuple[str, ...]
    header_line: int
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)
    sha256: str = ""


def read_foreign_table(path: Path, sheet: str | None = None, names: Sequence[str] = ()) -> ForeignTable:
    """Read a csv, tsv or xlsx file, told apart by what is in it.

    Args:
        sheet: which sheet of an xlsx file; by default the only one that is not empty.
        names: column names that the user gave, which help to find the header.

    Raises:
        UserError: the file is missing, too large, of another type, not UTF-8, or has no rows.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(
                f"{path.name} has more than {_MAX_BYTES // 1_000_000} MB: give a table, not a video or archive"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: give the annotation file as csv, tsv or xlsx") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a csv, tsv or xlsx file") from None
    _refuse_other_types(path, data)
    links: dict[tuple[int, int], str] = {}
    if data.startswith(b"PK"):
        records, links = _read_xlsx(path, sheet)
    elif sheet is not None:
        raise UserError(f"{path.name} is text and has no sheets: leave the sheet out")
    else:
        try:
            text = decode_text(path)
        except UserError as error:
            raise UserError(f"{path.name} {error}") from None
        records, problems = split_records(text, path.name, _delimiter(path, text))
        if problems:
            raise ProblemsError(problems)
    if records and names and all(name.isdecimal() for name in names) and not _has_header(records):
        width = max(len(cells) for _, cells in records)
        records = [(0, [str(k + 1) for k in range(width)]), *records]  # columns are told by their numbers
    if len(records) < 2:
        raise UserError(f"{path.name} has {'no rows under its header' if records else 'nothing in it'}: give a table")
    top = 0 if records[0][0] == 0 else _header_place(records, names)
    line, header = records[top]
    width = max(len(cells) for _, cells in records[top:])
    used = [k for k in range(width) if any(k < len(cells) and cells[k].strip() for _, cells in records[top:])]
    body = records[top + 1 :]
    return ForeignTable(
        path.name,
        tuple(header[k].strip() if k < len(header) else "" for k in used),
        line,
        tuple(tuple(cells[k].strip() if k < len(cells) else "" for k in used) for _, cells in body),
        tuple(line for line, _ in body),
        {(r, c): links[at, k] for r, (at, _) in enumerate(body) for c, k in enumerate(used) if (at, k) in links},
        hashlib.sha256(data).hexdigest(),
    )


def _refuse_other_types(path: Path, data: bytes) -> None:
    head = data[:1024].lstrip().lower()
    what = None
    if data.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                if "xl/workbook.xml" not in archive.namelist():
                    what = "a zip archive or document without a workbook"
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
            what = "a damaged xlsx file"
    elif data.startswith(b"\xd0\xcf\x11\xe0"):
        what = "an old xls workbook"
    elif data.startswith(b"%PDF"):
        what = "a PDF document"
    elif head.startswith((b"<!doctype", b"<html")):
        what = "a web page, not the file itself"
    if what:
        raise UserError(f"{path.name} is {what}: save the table as xlsx or csv and give that file")


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() in (".tsv", ".tab"):
        return "\t"
    first = "\n".join(text.splitlines()[:_HEADER_ROWS])
    return max(",;\t", key=lambda mark: (first.count(mark), mark == ","))


def _has_header(records: Sequence[tuple[int, list[str]]]) -> bool:
    """Whether two cells of one of the first rows are names of fields."""
    known = {alias for field_name, aliases in ALIASES.items() for alias in (plain(field_name), *aliases)}
    return any(
        sum(any(form in known for form in _forms(cell)) for cell in cells) >= 2 for _, cells in records[:_HEADER_ROWS]
    )


def _header_place(records: Sequence[tuple[int, list[str]]], names: Sequence[str]) -> int:
    known = {alias for field_name, aliases in ALIASES.items() for alias in (plain(field_name), *aliases)}
    known |= {plain(name) for name in names}

    def score(k: int) -> int:
        return sum(any(form in known for form in _forms(cell)) for cell in records[k][1])

    best = max(range(min(_HEADER_ROWS, len(records) - 1)), key=lambda k: (score(k), -k))
    return best if score(best) >= 2 else 0


# ------------------------------------------------------------------------------------------- xlsx


_INFLATED = 64_000_000  # bytes of a workbook's parts together
_CELLS = 500_000  # of a sheet, from its first corner to its last cell
_PLACE = r"([A-Z]{1,7}\d{1,9})"
_CELL = re.compile(rf"<(?:\w+:)?(?:c|mergeCell)\b[^>]*?\b(?:r|ref)=[\"']{_PLACE}(?::{_PLACE})?[\"']")
_NAMELESS = re.compile(r"<(?:\w+:)?c(?:\s+(?!r=)\w+=[\"'][^\"']*[\"'])*\s*/?>")  # a cell that does not say where it is
_ROW = re.compile(r"<(?:\w+:)?row\b[^>]*?\br=[\"'](\d{1,12})[\"']")
_FORMULA = re.compile(
    r"<(?:\w+:)?c\b[^>]*?\br=[\"']([A-Z]+\d+)[\"'][^>]*>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*"
    r"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)


def _look_before(path: Path) -> None:
    """Refuse a workbook that would take much memory, or whose formulas were never computed, before it is opened.

    Raises:
        UserError: what is wrong, in which cell, and what to do.
    """
    again = "save the table again, or as csv"
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if len(parts) > 2000 or sum(part.file_size for part in parts) > _INFLATED:
                raise UserError(f"{path.name} inflates to more than {_INFLATED // 1_000_000} MB: {again}")
            for part in parts:
                if not part.filename.endswith((".xml", ".rels")):
                    continue
                text = archive.read(part).decode("utf-8", "replace")
                if "<!DOCTYPE" in text or "<!ENTITY" in text:
                    raise UserError(f"{path.name} defines entities of its own, as no spreadsheet program does: {again}")
                if part.filename.startswith("xl/worksheets/"):
                    _look_at_sheet(path.name, text, again)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise UserError(f"{path.name} is a damaged xlsx file ({type(error).__name__}): {again}") from None


def _look_at_sheet(name: str, text: str, again: str) -> None:
    rows, columns, far = 1, 1, "A1"
    for match in _CELL.finditer(text):
        for cell in filter(None, match.groups()):
            letters = cell.rstrip("0123456789")
            column = 0
            for letter in letters:
                column = 26 * column + ord(letter) - 64
            row = int(cell[len(letters) :])
            if row > rows or column > columns:
                far = cell
            rows, columns = max(rows, row), max(columns, column)
    if nameless := sum(1 for _ in _NAMELESS.finditer(text)):
        for match in _ROW.finditer(text):
            rows, far = max((rows, far), (int(match[1]), f"A{match[1]}"))
        columns = max(columns, nameless)
    if rows * columns > _CELLS:
        raise UserError(
            f"{name} has a sheet that reaches to cell {far} ({rows:,} rows, {columns:,} columns): delete what lies far "
            f"from the table, and {again}"
        )
    if match_formula := _FORMULA.search(text):
        raise UserError(
            f"{name} has a formula in cell {match_formula[1]} whose value is not in the file: open it in a spreadsheet "
            "program and save it there, or save it as csv"
        )


def _read_xlsx(path: Path, sheet: str | None) -> tuple[list[tuple[int, list[str]]], dict[tuple[int, int], str]]:
    import openpyxl

    _look_before(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions that do not matter here
            book = openpyxl.load_workbook(path, data_only=True)
    except Exception as error:  # openpyxl lets through whatever its XML and zip readers raise
        raise UserError(
            f"{path.name} is a damaged xlsx file ({type(error).__name__}): save it again, or as csv"
        ) from None
    full = [ws.title for ws in book.worksheets if any(cell.value is not None for row in ws.iter_rows() for cell in row)]
    if sheet is None and len(full) != 1:
        listed = ", ".join(shown(title) for title in full)
        raise UserError(
            f"{path.name} has {len(full)} sheets with content: "
            + (f"choose one of {listed} with --sheet" if full else "give another file")
        )
    if sheet is not None and sheet not in full:
        listed = ", ".join(shown(title) for title in full)
        raise UserError(f"{path.name} has no sheet {shown(sheet)} with content: choose one of {listed}")
    page = book[sheet or full[0]]
    covered = {}
    for area in page.merged_cells.ranges:
        for row in range(area.min_row, area.max_row + 1):
            covered[row, area.min_col] = page.cell(area.min_row, area.min_col)
    records, links = [], {}
    for cells in page.iter_rows():
        line = cells[0].row
        real = [covered.get((line, k), cell) for k, cell in enumerate(cells, start=1)]
        texts = [_cell_text(cell.value, getattr(cell, "number_format", "")) for cell in real]
        if any(text.strip() for text in texts):
            records.append((line, texts))
            for k, cell in enumerate(real):
                target = getattr(getattr(cell, "hyperlink", None), "target", None)
                if target:
                    links[line, k] = str(target)
    return records, links


def _cell_text(value: object, number_format: str) -> str:
    """A cell as the person who typed it saw it."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        if value.year > 1901:
            return value.isoformat(sep=" ")
        value = value - datetime.datetime(1899, 12, 30)
    if isinstance(value, datetime.time):
        value = datetime.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
    if isinstance(value, datetime.timedelta):
        total = Decimal(value // datetime.timedelta(microseconds=1)) / 1_000_000
        minutes, seconds = divmod(total, 60)
        # A spreadsheet takes a typed 0:12 for 12 minutes, shows 0:12 again, and takes 35:20 for 35 hours: the person
        # meant minutes and seconds both times.
        if seconds == 0 and ("s" not in number_format.lower() or total >= 86_400):
            return f"{minutes // 60}:{minutes % 60:02}"
        return format_time(float(total))
    return str(value)


# ------------------------------------------------------------------------------------------- columns


def plain(name: str) -> str:
    """A column name without case, accents, spaces and punctuation."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return re.sub(r"[^0-9a-z]+", "", letters)


def _forms(name: str) -> set[str]:
    return {plain(name), plain(re.sub(r"[(\[].*?[)\]]", "", name))} - {""}


def match_columns(
    table: ForeignTable, columns: Mapping[str, str], ignore: Sequence[str] = ()
) -> tuple[dict[str, int], list[str]]:
    """Which column of `table` holds which field of `ALIASES`.

    Args:
        columns: field to the table's own column name, as the user says; these come first.
        ignore: column names to leave out.

    Returns:
        Place in the header by field, and the names of the columns left out.

    Raises:
        ProblemsError: a column has no known meaning, two could be the same field, or a name given is not there.
    """
    problems = []
    places: dict[str, int] = {}

    def say(column: str | None, message: str) -> None:
        problems.append(Problem(table.file, table.header_line, column, message))

    def find(name: str) -> int | None:
        exact = [k for k, theirs in enumerate(table.header) if theirs == name]
        found = exact or [k for k, theirs in enumerate(table.header) if plain(theirs) == plain(name) != ""]
        if len(found) == 1:
            return found[0]
        if not found and name.isdecimal() and 1 <= int(name) <= len(table.header):
            return int(name) - 1
        near = difflib.get_close_matches(name, table.header, n=1, cutoff=0.5)
        hint = f"did you mean {shown(near[0])}?" if near else f"it has {', '.join(shown(t) for t in table.header)}"
        say(None, f"there {'are two columns' if found else 'is no column'} {shown(name)}: {hint}")
        return None

    for name, theirs in columns.items():
        if name not in ALIASES:
            near = nearest_name(name, ALIASES)
            hint = f"did you mean {near}?" if near else f"the known ones are {', '.join(ALIASES)}"
            say(None, f"there is no field {shown(name)} to give a column for: {hint}")
        elif (place := find(theirs)) is not None:
            places[name] = place
    dropped = {place for name in ignore if (place := find(name)) is not None}

    left: dict[str, list[int]] = {}
    for k, theirs in enumerate(table.header):
        if k in dropped or k in places.values():
            continue
        fields = [name for name, aliases in ALIASES.items() if _forms(theirs) & {plain(name), *aliases}]
        if fields:
            left.setdefault(fields[0], []).append(k)
        elif _forms(theirs) & _ROW_NUMBERS or table.header_line == 0:  # of a table without a header, what is not named
            dropped.add(k)
        else:
            near = nearest_name(theirs, ALIASES) or "FIELD"
            say(
                theirs or None,
                f"column {k + 1} has no known meaning: say --column {near}=NAME if it is that, or --ignore NAME",
            )
    for name, found in left.items():
        if name in places:
            dropped.update(found)  # the user has said which one it is
        elif len(found) > 1:
            listed = " and ".join(shown(table.header[k]) for k in found)
            say(None, f"{listed} could both be {name}: say which with --column {name}=NAME")
        else:
            places[name] = found[0]
    if problems:
        raise ProblemsError(problems)
    return places, [table.header[k] for k in sorted(dropped)]


# ------------------------------------------------------------------------------------------- times

_SECONDS = re.compile(r"([0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)\s*(?:s|secs?|seconds?)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]{1,4}):([0-9]{1,2}(?:[.,][0-9]+)?)")
_UNITS = re.compile(
    r"(?:([0-9]+)\s*h)?\s*(?:([0-9]+)\s*m(?:in)?)?\s*(?:([0-9]+(?:[.,][0-9]+)?)\s*s(?:ec)?)?", re.IGNORECASE
)
_BETWEEN = re.compile(r"\s*(?:->|→|-|–|—|~|〜|～|\bto\b|\buntil\b)\s*", re.IGNORECASE)


def parse_time(text: str) -> float:
    """Seconds in a text such as `65.5`, `65 s`, `1:05.5`, `0:01:05` or `1m5s`; `ValueError` says what is wrong."""
    text = text.strip()
    if match := _SECONDS.fullmatch(text):
        return float(match[1].replace(",", "."))
    match = _CLOCK.fullmatch(text) or _UNITS.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{shown(text)} is not a time: write seconds, m:ss or h:mm:ss")
    hours, minutes = int(match[1] or 0), int(match[2] or 0)
    seconds = Decimal((match[3] or "0").replace(",", "."))
    if ":" in text and (seconds >= 60 or (match[1] and minutes >= 60)):
        raise ValueError(f"{shown(text)} is not a time: minutes and seconds end at 59")
    return float(hours * 3600 + minutes * 60 + seconds)


def parse_range(text: str) -> tuple[float, float]:
    """Start and end in s in a text such as `0:12-0:25`; `ValueError` says what is wrong."""
    parts = _BETWEEN.split(text.strip())
    if len(parts) != 2:
        raise ValueError(f"{shown(text)} is not a range of times: write such as 0:12-0:25")
    return parse_time(parts[0]), parse_time(parts[1])


def format_time(seconds: float) -> str:
    """`seconds` (0 or more), to the millisecond, as `m:ss` or `h:mm:ss`, with decimals where there are any."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    tail = f"{rest // 1000:02d}" + (f".{rest % 1000:03d}".rstrip("0") if rest % 1000 else "")
    return f"{minutes // 60}:{minutes % 60:02d}:{tail}" if minutes >= 60 else f"{minutes}:{tail}"
