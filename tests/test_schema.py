"""The shared constants, segment ids, the dataset's columns, and the words for every bad cell and row."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiktok_dm import schema
from tiktok_dm.annotations.rules import RawTable, cell_problem, check_table, header_problems, overlapped, within
from tiktok_dm.errors import UserError
from tiktok_dm.schema import TABLES, Column, nearest_name, parse_segment_id, segment_id, whole_segments


def check(table: str, header: str, *rows: str, rules=()):
    """Check comma-separated rows; the first row is line 2."""
    names = header.split(",")
    cells = [[cell or None for cell in row.split(",")] for row in rows]
    frame = pd.DataFrame(cells, columns=pd.Index(names), dtype="string")
    return check_table(table, RawTable(f"{table}.csv", frame, tuple(range(2, 2 + len(rows)))), rules)


def said(checked) -> list[str]:
    return [str(problem) for problem in checked.problems]


# ------------------------------------------------------------------------------------------- constants and ids


def test_constants_agree_with_each_other():
    assert schema.SAMPLE_RATE == 22_050
    assert schema.SEGMENT_SAMPLES == schema.SEGMENT_S * schema.SAMPLE_RATE == 44_100
    assert schema.SEGMENT_POSES == schema.SEGMENT_S * schema.POSE_FPS == 60
    assert (schema.N_JOINTS, schema.MAX_DANCERS) == (25, 5)


def test_segment_id_has_the_published_form():
    assert segment_id(7, 41, 210, 3) == "000007_41_210_seg3"
    assert parse_segment_id("000014_85_444_seg7") == (14, 85, 444, 7)
    assert parse_segment_id("000014_85_444_seg7").song_id == 85


@given(st.integers(0, 999_999), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 10**5))
def test_segment_id_round_trip(compilation, song, clip, k):
    assert parse_segment_id(segment_id(compilation, song, clip, k)) == (compilation, song, clip, k)


@pytest.mark.parametrize("numbers", [(-1, 0, 0, 1), (0, -1, 0, 1), (0, 0, -1, 1), (0, 0, 0, 0), (1_000_000, 0, 0, 1)])
def test_segment_id_refuses_numbers_that_have_no_id(numbers):
    with pytest.raises(ValueError, match="no segment id"):
        segment_id(*numbers)


@pytest.mark.parametrize(
    "text", ["", "7_41_210_seg3", "000007_41_210_seg0", "000007_041_210_seg3", "000007_41_210_seg3\n", "000007_41_210"]
)
def test_parse_segment_id_refuses_other_text(text):
    with pytest.raises(UserError, match=r"is not a segment id: it should look like 000007_41_210_seg3$"):
        parse_segment_id(text)


@pytest.mark.parametrize(("seconds", "n"), [(0, 0), (1.99, 0), (2, 1), (12.5, 6), (0.1 * 3 * 20, 3), (5.999999999, 3)])
def test_whole_segments_drop_the_rest(seconds, n):
    assert whole_segments(seconds) == n


def test_nearest_name():
    assert nearest_name("Start", ["start_s", "end_s"]) == "start_s"
    assert nearest_name("song id", ["song_id", "clip_id"]) == "song_id"
    assert nearest_name("zzz", ["start_s", "end_s"]) is None


def test_importing_the_schema_loads_no_table_library():
    code = "import sys, tiktok_dm.schema; print(sorted({'pandas', 'pandera', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------------------------------- the dataset's columns


def test_dataset_columns_are_those_of_the_published_dataset():
    assert " ".join(schema.CLIP_COLUMNS) == (
        "clip_id compilation_id song_id split start_s end_s duration_s fps width height content_box n_dancers "
        "n_dancers_annotated video audio pose pose_fps pose_coverage pose_confidence pose_model beats_s tempo_bpm "
        "loudness_lufs source source_sha256 video_sha256 audio_sha256"
    )
    assert " ".join(schema.SEGMENT_COLUMNS) == (
        "segment_id clip_id compilation_id song_id split segment_index start_s audio motion n_dancers"
    )
    assert schema.CLIP_COLUMNS["pose"][0] == "float32[None,5,25,3]"
    assert schema.SEGMENT_COLUMNS["motion"][0] == "float32[60,75]"
    kinds = {kind for columns in schema.DATASET_COLUMNS.values() for kind, _ in columns.values()}
    assert {kind for kind in kinds if "[" not in kind} == {"string", "int64", "float64", "video", "audio"}
    assert {kind for kind in kinds if "[" in kind} == {
        "int64[4]",
        "float64[]",
        "float32[None,5,25,3]",
        "float32[60,75]",
    }


# ------------------------------------------------------------------------------------------- good tables


def test_values_come_back_typed_and_in_schema_order():
    checked = check("clips", "song_id,clip_id,compilation_id,end_s,start_s", "4,007,2,12.5,-0", "5,8,2,,")
    assert checked.problems == []
    assert list(checked.frame.columns) == [column.name for column in TABLES["clips"]]
    assert checked.frame.clip_id.tolist() == [7, 8]
    assert str(checked.frame.start_s.dtype) == "Float64"
    assert checked.frame.start_s[0] == 0
    assert checked.frame.end_s.isna().tolist() == [False, True]
    assert checked.frame.n_dancers.isna().all()


def test_checksums_come_back_in_lower_case():
    checked = check("compilations", "compilation_id,sha256", "0," + "AB" * 32)
    assert checked.frame.sha256[0] == "ab" * 32


# ------------------------------------------------------------------------------------------- headers


def test_header_problems_name_the_nearest_column():
    names = ["clip_id", "compilation_id", "Song", "start_s", "strat_s", "start_s", "", "qqqq", "end_s"]
    assert [str(problem) for problem in header_problems("clips", names, "clips.csv")] == [
        "clips.csv, line 1, column 'Song': this table has no such column: did you mean song_id?",
        "clips.csv, line 1, column start_s: stands 2 times in the header: keep one",
        "clips.csv, line 1, column 'strat_s': this table has no such column: did you mean start_s?",
        "clips.csv, line 1: a column has no name in the header: name it or remove it",
        "clips.csv, line 1, column 'qqqq': this table has no such column: remove it; the known ones are clip_id, "
        "compilation_id, song_id, start_s, end_s, n_dancers, released_segments, notes",
        "clips.csv, line 1, column song_id: is missing from the header: add it (the song, an integer from 0)",
    ]


def test_a_missing_column_does_not_condemn_every_row():
    assert said(check("clips", "clip_id,song_id,end_s", "0,0,3", "1,0,5")) == []


# ------------------------------------------------------------------------------------------- cells

PATH = "holds a path: write the file's name alone, and give its folder when you build"
SCHEME = "is not an http or https link: other kinds are never opened; copy it from the browser"
CELLS = [
    ("id", "3.5", "'3.5' is not a whole number: write digits alone, such as 12"),
    ("id", "3.0", "'3.0' is not a whole number: write 3"),
    ("id", "../7", "'../7' is not a whole number: write digits alone, such as 12"),
    ("id", "7/8", "'7/8' is not a whole number: write digits alone, such as 12"),
    ("id", "１２", "'１２' is not a whole number: write digits alone, such as 12"),
    ("id", "nan", "'nan' is not a whole number: write digits alone, such as 12"),
    ("id", "9" * 30, "'999999999999999999999999999999' is too large: write a whole number below 1,000,000,000"),
    ("id", "7\x00", "holds a control character (U+0000) as character 2: retype the cell"),
    ("seconds", "nan", "'nan' is not a time: write seconds, such as 65.5, or leave the cell empty"),
    ("seconds", "inf", "'inf' is not a time: write seconds, such as 65.5, or leave the cell empty"),
    ("seconds", "1e999", "'1e999' is too large for a time: write seconds"),
    ("seconds", "abc", "'abc' is not a time: write seconds, such as 65.5, or leave the cell empty"),
    ("seconds", "1:05.5", "'1:05.5' is not a number: write seconds, so that 1:05.5 is 65.5"),
    ("seconds", "12,5", "'12,5' is not a number: write a point instead of the comma"),
    ("file", "../a.mp4", f"'../a.mp4' {PATH}"),
    ("file", "/etc/passwd", f"'/etc/passwd' {PATH}"),
    ("file", "a\\b.mp4", f"'a\\\\b.mp4' {PATH}"),
    ("file", "C:a.mp4", f"'C:a.mp4' {PATH}"),
    ("file", "..", "'..' is a folder, not a file: write the file's name"),
    ("file", "a" * 256, "'" + "a" * 57 + "...' is too long for a file name: 255 bytes are the most"),
    ("file", "a\nb", "holds a control character (U+000A) as character 2: retype the cell"),
    ("url", "ftp://a.b/c", f"'ftp://a.b/c' {SCHEME}"),
    ("url", "file:///etc", f"'file:///etc' {SCHEME}"),
    ("url", "youtu.be/x", f"'youtu.be/x' {SCHEME}"),
    ("url", "https://", "'https://' is not a whole link: copy it again from the browser"),
    ("url", "https://a.b/c d", "'https://a.b/c d' is not a whole link: copy it again from the browser"),
    ("url", "https://[a", "'https://[a' is not a link: copy it again from the browser"),
    (
        "url",
        "https://me:secret@a.b/c",
        "the link holds a user name or password: remove it, since links are published with the dataset",
    ),
    ("sha256", "abc", "'abc' is not a SHA-256: write its 64 hexadecimal digits or leave the cell empty"),
    ("split", "Train", "'Train' is not a split: write train"),
    ("split", "valid", "'valid' is not a split: write validation"),
    ("split", "x", "'x' is not a split: write train, test or validation"),
    ("text", "a\x1bb", "holds a control character (U+001B) as character 2: retype the cell"),
    ("text", "a" * 2001, "holds 2,001 characters: shorten it to 2,000"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "message"), CELLS, ids=[f"{k}-{t[:12]!r}" for k, t, _ in CELLS])
def test_bad_cells(kind, text, message):
    assert cell_problem(Column("x", kind, ""), text) == message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("id", "0"), ("id", "-1"), ("seconds", "12"), ("seconds", "12.50"), ("seconds", ".5"), ("seconds", "1e2"),
        ("seconds", "-3"), ("file", "my dance, part 2.mp4"), ("file", "..a"), ("url", "http://a.b"),
        ("url", "HTTPS://youtu.be/abc?t=1"), ("split", "validation"), ("text", "Ça va – 好"), ("sha256", "aB" * 32),
    ],
)  # fmt: skip
def test_good_cells(kind, text):
    assert cell_problem(Column("x", kind, ""), text) is None


@given(st.text(max_size=30))
def test_a_file_name_that_passes_stays_in_its_folder(text):
    from pathlib import Path, PureWindowsPath

    if text and cell_problem(Column("file", "file", ""), text) is None:
        assert Path("/media", text).name == text
        assert not PureWindowsPath(text).drive


# ------------------------------------------------------------------------------------------- rows


TWICE = "give each row its own, or remove one of the two"


def test_every_problem_of_a_table_is_named_at_once():
    checked = check(
        "clips",
        "clip_id,compilation_id,song_id,start_s,end_s,n_dancers",
        "0,0,0,0,10,1",
        "0,0,0,5,20,9",
        ",1,x,-1,5,0",
        "3,1,0,7,7,2",
        "4,1,0,9,,2",
        "5,1000000,0,100000,100001,2",
        "6,2,2000000000,3,abc,1.5",
    )
    assert said(checked) == [
        f"clips.csv, line 3, column clip_id: 0 stands in line 2 already: {TWICE}",
        "clips.csv, line 3, column start_s: the clip starts at 5 s, before clip 0 (line 2) of the same compilation "
        "ends at 10 s: clips may touch but not overlap",
        "clips.csv, line 3, column n_dancers: 9 dancers do not fit: a pose row of the dataset holds 5; write 5 (the "
        "most visible ones are kept) or leave the cell empty",
        "clips.csv, line 4, column clip_id: is empty: every row needs it",
        "clips.csv, line 4, column song_id: 'x' is not a whole number: write digits alone, such as 12",
        "clips.csv, line 4, column start_s: -1 is too small: the least is 0",
        "clips.csv, line 4, column n_dancers: 0 is too small: the least is 1",
        "clips.csv, line 5, column end_s: the clip ends at 7 s but starts at 7 s: correct the times",
        "clips.csv, line 6, column end_s: the row has start_s but no end_s: fill in both, or leave both empty",
        "clips.csv, line 7, column compilation_id: 1,000,000 is too large: the greatest is 999,999",
        "clips.csv, line 7, column start_s: 100000 s is longer than a day: write seconds from the first instant of the "
        "compilation",
        "clips.csv, line 7, column end_s: 100001 s is longer than a day: write seconds from the first instant of the "
        "compilation",
        "clips.csv, line 8, column song_id: 2,000,000,000 is too large: the greatest is 999,999,999",
        "clips.csv, line 8, column end_s: 'abc' is not a time: write seconds, such as 65.5, or leave the cell empty",
        "clips.csv, line 8, column n_dancers: '1.5' is not a whole number: write digits alone, such as 12",
    ]


@pytest.mark.parametrize(
    ("rows", "other"),
    [
        (["0,0,0,0,10", "1,0,0,10,20"], [None, None]),  # they touch
        (["0,0,0,0,10", "1,0,0,9.9995,20"], [None, None]),  # within a millisecond
        (["0,0,0,0,10", "1,0,0,9.998,20"], [None, 0]),  # two milliseconds
        (["0,0,0,5,20", "1,0,0,0,10"], [1, None]),  # the later one is to blame, not the lower row
        (["0,0,0,0,30", "1,0,0,5,6", "2,0,0,20,25"], [None, 0, 0]),  # one long clip over two short ones
        (["0,0,0,0,10", "1,1,0,5,20"], [None, None]),  # another compilation
        (["0,0,0,0,10", "1,0,0,,"], [None, None]),  # a clip without times overlaps nothing
    ],
)
def test_overlaps(rows, other):
    found = overlapped(check("clips", "clip_id,compilation_id,song_id,start_s,end_s", *rows).frame)
    assert [None if pd.isna(value) else value for value in found] == other


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(1, 10)), max_size=12),
)
def test_a_table_has_overlaps_exactly_if_two_of_its_clips_share_time(spans):
    frame = pd.DataFrame(spans, columns=["compilation_id", "start_s", "length"]).astype(
        {"compilation_id": "Int64", "start_s": "Float64"}
    )
    frame["end_s"] = frame.start_s + frame.length.astype("Float64")
    share = any(
        a[0] == b[0] and max(a[1], b[1]) < min(a[1] + a[2], b[1] + b[2]) for k, a in enumerate(spans) for b in spans[:k]
    )
    assert overlapped(frame).notna().any() == share


def test_the_same_video_twice_is_a_problem():
    checked = check("compilations", "compilation_id,url,file", "0,https://a.b/c,", "1,https://a.b/c,x.mp4", "2,,x.mp4")
    assert said(checked) == [
        f"compilations.csv, line 3, column url: https://a.b/c stands in line 2 already: {TWICE}",
        f"compilations.csv, line 4, column file: x.mp4 stands in line 3 already: {TWICE}",
    ]


def test_times_past_the_end_only_where_the_duration_is_known():
    header = "clip_id,compilation_id,song_id,start_s,end_s"
    rows = ["0,0,0,0,10", "1,0,0,10,20.04", "2,0,0,20.5,20.6", "3,1,0,0,500", "4,0,0,,"]
    assert said(check("clips", header, *rows)) == []
    assert said(check("clips", header, *rows, rules=[within({0: 20.0})])) == [
        "clips.csv, line 4, column end_s: the clip ends at 20.6 s, but compilation 0 is only 20.000 s long: correct "
        "the time or the compilation"
    ]
