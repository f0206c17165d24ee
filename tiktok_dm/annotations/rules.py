"""What is wrong with an annotation table, cell by cell and row by row, in plain words.

For the tables that `tiktok_dm.schema` defines. Not for files: `tiktok_dm.annotations.tables` reads them.

A table is checked twice: as text (is this cell a number, a link, a file name?), then as values (ranges, duplicates,
rows against each other). Every failure becomes one `Problem`; none is lost because another came first. pandas is
imported where it is used, since that takes long.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tiktok_dm.errors import Problem
from tiktok_dm.schema import (
    DURATION_TOLERANCE_S,
    MAX_DANCERS,
    OVERLAP_TOLERANCE_S,
    SPLITS,
    TABLES,
    Column,
    nearest_name,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RawTable:
    """A table as it was read: text cells (an empty cell is NA), and the file and line that each row came from."""

    file: str
    frame: pd.DataFrame
    lines: tuple[int, ...]


@dataclass(frozen=True)
class CheckedTable:
    """A table's values in the schema's columns and dtypes, and what is wrong with it.

    `bad` holds the (row, column) pairs whose text could not be read; they are NA in `frame`.
    """

    frame: pd.DataFrame
    problems: list[Problem]
    bad: frozenset[tuple[int, str]]


@dataclass(frozen=True)
class RowRule:
    """A rule over rows of values: `holds(frame)` is one bool a row, `message(frame, row, lines)` what is wrong
    (`lines` are the file's line numbers of the rows).

    `column` is the one to blame; `needs` are columns without whose values the rule says nothing of a row.
    """

    name: str
    column: str
    holds: Callable[[pd.DataFrame], pd.Series]
    message: Callable[[pd.DataFrame, int, Sequence[int]], str]
    needs: tuple[str, ...] = ()


def header_problems(table: str, header: Sequence[str], file: str) -> list[Problem]:
    """What is wrong with the column names of a table: missing, unknown, empty or doubled."""
    known = {column.name: column for column in TABLES[table]}
    problems = []
    for name in dict.fromkeys(header):
        if not name:
            message = "a column has no name in the header: name it or remove it"
            problems.append(Problem(file, 1, None, message))
        elif header.count(name) > 1:
            problems.append(Problem(file, 1, name, f"stands {header.count(name)} times in the header: keep one"))
        elif name not in known:
            near = nearest_name(name, known)
            hint = f"did you mean {near}?" if near else f"remove it; the known ones are {', '.join(known)}"
            problems.append(Problem(file, 1, shown(name), f"this table has no such column: {hint}"))
    for name, column in known.items():
        if column.required and name not in header:
            empty = "" if column.filled else "; its cells may stay empty"
            problems.append(Problem(file, 1, name, f"is missing from the header: add it ({column.meaning}{empty})"))
    return problems


def check_table(table: str, raw: RawTable, rules: Sequence[RowRule] = ()) -> CheckedTable:
    """Check one table's text and values, and give it back in the schema's columns and dtypes.

    Args:
        table: a key of `TABLES`.
        raw: text cells. Columns that are absent count as empty, and unknown ones are not looked at: `header_problems`
            speaks of both.
        rules: rules beside the table's own, such as `refers_to`.
    """
    import pandas as pd

    columns = TABLES[table]
    absent = {column.name for column in columns if column.required} - set(raw.frame.columns)
    text = raw.frame.reindex(columns=[column.name for column in columns]).astype("string").reset_index(drop=True)
    problems: set[tuple[int, str, str]] = set()
    for column in columns:
        needed = column.filled and column.name not in absent
        for row, cell in enumerate(text[column.name]):
            message = (
                ("is empty: every row needs it" if needed else None) if pd.isna(cell) else cell_problem(column, cell)
            )
            if message is not None:
                problems.add((row, column.name, message))
    bad = frozenset((row, name) for row, name, _ in problems)

    values = text.copy()
    for row, name in bad:
        values.loc[row, name] = pd.NA
    for column in columns:
        if column.kind == "sha256":
            values[column.name] = values[column.name].str.lower()
        if column.dtype != "string":
            numbers = values[column.name] = _numbers(values[column.name], column)
            for row, value in enumerate(numbers):
                if not pd.isna(value) and not column.low <= value <= column.high:
                    problems.add((row, column.name, _range_message(column, value)))

    for rule in {rule.name: rule for rule in [*_own_rules(table), *rules]}.values():
        for row in (~rule.holds(values).to_numpy(dtype=bool, na_value=False)).nonzero()[0].tolist():
            if not any(name in absent or (row, name) in bad for name in (rule.column, *rule.needs)):
                problems.add((row, rule.column, rule.message(values, row, raw.lines)))
    order = {column.name: k for k, column in enumerate(columns)}
    ordered = sorted(problems, key=lambda problem: (problem[0], order[problem[1]], problem[2]))
    return CheckedTable(values, [Problem(raw.file, raw.lines[row], name, text) for row, name, text in ordered], bad)


def _numbers(cells: pd.Series, column: Column) -> Any:
    import pandas as pd

    read: Callable[[str], float] = int if column.dtype == "Int64" else float
    # Adding zero turns -0.0 into 0.0.
    numbers: list[Any] = [None if pd.isna(cell) else read(cell) + 0 for cell in cells]
    return pd.array(numbers, dtype=column.dtype)  # type: ignore[call-overload]


def _range_message(column: Column, value: float) -> str:
    if column.name == "n_dancers" and value > column.high:
        return (
            f"{value:g} dancers do not fit: a pose row of the dataset holds {MAX_DANCERS}; write {MAX_DANCERS} (the "
            "most visible ones are kept) or leave the cell empty"
        )
    if value < column.low:
        return f"{value:g} is too small: the least is {column.low}"
    if column.kind in ("share", "number"):
        return f"{value:g} is too large: the greatest is {column.high:g}"
    if column.kind == "seconds":
        return f"{value:g} s is longer than a day: write seconds from the first instant of the compilation"
    return f"{value:,} is too large: the greatest is {column.high:,.0f}"


# ------------------------------------------------------------------------------------------- cells

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def shown(text: str) -> str:
    """`text` in quotes as a message can show it: short, and with control characters made visible."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def cell_problem(column: Column, text: str) -> str | None:
    """What is wrong with one non-empty text cell of `column`, in words; None when it is good."""
    for k, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            return f"holds a control character (U+{ord(character):04X}) as character {k + 1}: retype the cell"
    check: dict[str, Callable[[str], str | None]] = {
        "id": _integer_problem,
        "count": _integer_problem,
        "seconds": _seconds_problem,
        "share": _number_problem,
        "number": _number_problem,
        "choice": lambda text: _choice_problem(column, text),
        "file": _file_problem,
        "url": _url_problem,
        "sha256": lambda text: (
            None
            if re.fullmatch(r"[0-9a-fA-F]{64}", text)
            else f"{shown(text)} is not a SHA-256: write its 64 hexadecimal digits or leave the cell empty"
        ),
        "split": _split_problem,
        "text": lambda text: None if len(text) <= 2000 else f"holds {len(text):,} characters: shorten it to 2,000",
    }
    return check[column.kind](text)


def _integer_problem(text: str) -> str | None:
    if _INTEGER.fullmatch(text):
        return None if len(text) <= 16 else f"{shown(text)} is too large: write a whole number below 1,000,000,000"
    rounded = re.fullmatch(r"([0-9]+)\.0*", text)
    if rounded:
        return f"{shown(text)} is not a whole number: write {rounded[1]}"
    return f"{shown(text)} is not a whole number: write digits alone, such as 12"


def _seconds_problem(text: str) -> str | None:
    if _NUMBER.fullmatch(text):
        return None if math.isfinite(float(text)) else f"{shown(text)} is too large for a time: write seconds"
    if re.fullmatch(r"[0-9]+,[0-9]+", text):
        return f"{shown(text)} is not a number: write a point instead of the comma"
    if ":" in text:
        return f"{shown(text)} is not a number: write seconds, so that 1:05.5 is 65.5"
    return f"{shown(text)} is not a time: write seconds, such as 65.5, or leave the cell empty"


def _choice_problem(column: Column, text: str) -> str | None:
    if text in column.choices:
        return None
    return f"{shown(text)} is not known here: write {' or '.join(column.choices)}, or leave the cell empty"


def _number_problem(text: str) -> str | None:
    if _NUMBER.fullmatch(text):
        return None if math.isfinite(float(text)) else f"{shown(text)} is too large: write a smaller number"
    return f"{shown(text)} is not a number: write such as 0.75, or leave the cell empty"


def _file_problem(text: str) -> str | None:
    if "/" in text or "\\" in text or re.match(r"[A-Za-z]:", text):
        return f"{shown(text)} holds a path: write the file's name alone, and give its folder when you build"
    if text in (".", ".."):
        return f"{shown(text)} is a folder, not a file: write the file's name"
    if len(text.encode("utf-8", "surrogatepass")) > 255:
        return f"{shown(text)} is too long for a file name: 255 bytes are the most"
    return None


def _url_problem(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        host, secret = parts.hostname, parts.username or parts.password
    except ValueError:
        return f"{shown(text)} is not a link: copy it again from the browser"
    if parts.scheme.lower() not in ("http", "https"):
        return f"{shown(text)} is not an http or https link: other kinds are never opened; copy it from the browser"
    if not host or re.search(r"\s", text):
        return f"{shown(text)} is not a whole link: copy it again from the browser"
    if secret:
        return "the link holds a user name or password: remove it, since links are published with the dataset"
    return None


def _split_problem(text: str) -> str | None:
    if text in SPLITS:
        return None
    near = nearest_name(text, SPLITS)
    return f"{shown(text)} is not a split: write " + (near or "train, test or validation")


# ------------------------------------------------------------------------------------------- rows


def _own_rules(table: str) -> list[RowRule]:
    if table == "clips":
        times = ("start_s", "end_s")
        return [
            unique("clip_id"),
            RowRule("half", "end_s", lambda f: f.start_s.isna() == f.end_s.isna(), _half_message, times),
            RowRule("order", "end_s", lambda f: (f.end_s > f.start_s).fillna(True), _order_message, times),
            RowRule("overlap", "start_s", lambda f: overlapped(f).isna(), _overlap_message, (*times, "compilation_id")),
        ]
    return {
        "compilations": [unique("compilation_id"), unique("url"), unique("file")],
        "proposals": [unique("clip_id")],
        "rejected": [],
        "candidates": [],
        "same_songs": [],
    }.get(table, [unique("song_id")])


def unique(column: str) -> RowRule:
    """No value of `column` stands in two rows; empty cells are no values."""

    def message(frame: pd.DataFrame, row: int, lines: Sequence[int]) -> str:
        value = frame[column][row]
        first = lines[int((frame[column] == value).fillna(False).to_numpy().argmax())]
        return f"{value} stands in line {first} already: give each row its own, or remove one of the two"

    return RowRule(f"unique {column}", column, lambda f: f[column].isna() | ~f[column].duplicated(), message)


def refers_to(column: str, known: Collection[int], file: str) -> RowRule:
    """Every value of `column` is in `known`, which came from `file`."""

    def message(frame: pd.DataFrame, row: int, lines: Sequence[int]) -> str:
        return f"there is no {column} {frame[column][row]} in {file}: add it there, or correct it here"

    return RowRule(f"known {column}", column, lambda f: f[column].isin(list(known)) | f[column].isna(), message)


def within(durations: Mapping[int, float]) -> RowRule:
    """No clip ends past its compilation's duration (s, by `compilation_id`), where that is known."""

    def holds(frame: pd.DataFrame) -> pd.Series:
        limit = frame.compilation_id.map(lambda c: durations.get(c, math.inf), na_action="ignore").astype("Float64")
        return (frame.end_s <= limit + DURATION_TOLERANCE_S).fillna(True)

    def message(frame: pd.DataFrame, row: int, lines: Sequence[int]) -> str:
        compilation = frame.compilation_id[row]
        return (
            f"the clip ends at {frame.end_s[row]:g} s, but compilation {compilation} is only "
            f"{durations[compilation]:.3f} s long: correct the time or the compilation"
        )

    return RowRule("within", "end_s", holds, message, ("compilation_id",))


def overlapped(clips: pd.DataFrame) -> pd.Series:
    """For each clip, the earlier clip of the same compilation that it overlaps by more than 1 ms, or NA."""
    import pandas as pd

    other = pd.Series(pd.NA, index=clips.index, dtype="Int64")
    timed = clips[(clips.end_s > clips.start_s).fillna(False) & clips.compilation_id.notna()]
    for _, group in timed.sort_values(["start_s", "end_s"], kind="stable").groupby("compilation_id"):
        latest: int | None = None
        for row in group.index:
            if latest is not None and group.start_s[row] < group.end_s[latest] - OVERLAP_TOLERANCE_S:
                other[row] = latest
            if latest is None or group.end_s[row] > group.end_s[latest]:
                latest = row
    return other


def _half_message(frame: pd.DataFrame, row: int, lines: Sequence[int]) -> str:
    given, missing = ("end_s", "start_s") if frame.start_s.isna()[row] else ("start_s", "end_s")
    return f"the row has {given} but no {missing}: fill in both, or leave both empty"


def _order_message(frame: pd.DataFrame, row: int, lines: Sequence[int]) -> str:
    return f"the clip ends at {frame.end_s[row]:g} s but starts at {frame.start_s[row]:g} s: correct the times"


def _overlap_message(frame: pd.DataFrame, row: int, lines: Sequence[int]) -> str:
    other = int(overlapped(frame)[row])
    return (
        f"the clip starts at {frame.start_s[row]:g} s, before clip {frame.clip_id[other]} (line {lines[other]}) of the "
        f"same compilation ends at {frame.end_s[other]:g} s: clips may touch but not overlap"
    )
