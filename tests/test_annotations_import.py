"""Other people's annotation tables: columns, times, ids, the comparison with the release, and fetching."""

from __future__ import annotations

import csv
import datetime
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiktok_dm.annotations.author_file import AUTHORS_FILE_ID, fetch_annotations, import_annotations
from tiktok_dm.annotations.foreign_clips import canonical_link
from tiktok_dm.annotations.foreign_table import format_time, parse_range, parse_time
from tiktok_dm.annotations.released import compare_with_released, released_annotations
from tiktok_dm.annotations.splits import audit_splits
from tiktok_dm.annotations.tables import Annotations, DatasetMeta, check_annotations, read_annotations, typed
from tiktok_dm.annotations.titles import near_titles, normal_title
from tiktok_dm.errors import ProblemsError, UserError

A, B = "https://www.youtube.com/watch?v=aaaaaaaaaaa", "https://www.youtube.com/watch?v=bbbbbbbbbbb"
HEADER = ["Video link", "Music ID", "Video ID", "Duration", "Number of dancers"]
ROWS = [[A, 0, 0, "0:02-0:12", 1], [A, 1, 1, "0:12-0:19", 2], [B, 2, 2, "1:00-1:05.5", 1]]


@pytest.fixture
def release() -> Annotations:
    """Three released clips: two of compilation 0, one of compilation 1, each with a song of its own."""
    clips = pd.DataFrame(
        {"clip_id": [0, 1, 2], "compilation_id": [0, 0, 1], "song_id": [0, 1, 2], "released_segments": [5, 3, 2]}
    )
    return Annotations(
        "small",
        Path("small"),
        DatasetMeta(name="small", title="Small"),
        typed("compilations", pd.DataFrame({"compilation_id": [0, 1]})),
        typed("clips", clips),
        typed("songs", pd.DataFrame({"song_id": [0, 1, 2]})),
        typed("splits", pd.DataFrame({"song_id": [0, 1, 2], "split": ["train", "train", "test"]})),
    )


def table(path: Path, rows: list, header: list | None = None, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with open(path, "w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=delimiter).writerows([HEADER if header is None else header, *rows])
    return path


def problems(*args, **options) -> list[str]:
    with pytest.raises(ProblemsError) as caught:
        import_annotations(*args, **options)
    return [str(problem) for problem in caught.value.problems]


# ------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("65.5", 65.5), ("65,5", 65.5), ("7", 7), ("7 s", 7), ("12sec", 12), ("1:05", 65), ("01:05.25", 65.25),
        ("1:05,250", 65.25), ("75:10", 4510), ("1:02:03.004", 3723.004), ("0:00:00", 0), ("1m5s", 65),
        ("1h 2m 3.5s", 3723.5), ("2 min", 120), (" 0:07 ", 7), (".5", 0.5),
    ],
)  # fmt: skip
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-3", "1:60", "1:99:00", "1:2:3:4", "1e3", "nan", "0:12-0:25", "::", "1:5:"])
def test_texts_that_are_no_times(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


@pytest.mark.parametrize(
    "text", ["0:12-0:25.5", "0:12 – 0:25.5", "12~25.5", "0:12 to 0:25.5", "12s -> 25.5s", "00:00:12—00:00:25.500"]
)
def test_ranges(text):
    assert parse_range(text) == (12, 25.5)


@pytest.mark.parametrize("text", ["12", "0:12-", "1-2-3", "a-b", ""])
def test_texts_that_are_no_ranges(text):
    with pytest.raises(ValueError, match="is not a"):
        parse_range(text)


@given(st.integers(0, 86_400_000))
def test_times_round_trip(milliseconds):
    assert parse_time(format_time(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.sampled_from(["-", " - ", "–", "~", " to "]))
def test_ranges_round_trip(start, end, between):
    text = format_time(start / 1000) + between + format_time(end / 1000)
    assert parse_range(text) == (start / 1000, end / 1000)


@given(st.text(max_size=12))
def test_any_text_is_a_time_of_zero_or_more_or_refused(text):
    try:
        assert parse_time(text) >= 0
    except ValueError:
        with pytest.raises(ValueError, match="is not a time"):
            parse_time(text)


def test_format_time():
    assert [format_time(s) for s in (0, 7, 65.5, 3599.999, 3600, 3723.004)] == [
        "0:00",
        "0:07",
        "1:05.5",
        "59:59.999",
        "1:00:00",
        "1:02:03.004",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "aaaaaaaaaaa", "https://youtu.be/aaaaaaaaaaa?t=12", "youtube.com/watch?v=aaaaaaaaaaa&list=x", A + "&t=1m",
        "https://m.youtube.com/shorts/aaaaaaaaaaa", "http://www.youtube.com/embed/aaaaaaaaaaa?start=3",
    ],
)  # fmt: skip
def test_every_form_of_a_youtube_link_is_one_link(text):
    assert canonical_link(text) == A


def test_other_links_stay_as_they_are():
    for text in ("https://example.org/v/1?t=3#x", "ftp://a", "", "https://[", "https://www.youtube.com/watch?v=../x"):
        assert canonical_link(text) == text


# ------------------------------------------------------------------------------------------- good files


def test_the_file_as_the_authors_describe_it(tmp_path, release):
    result = import_annotations(table(tmp_path / "a.csv", ROWS), tmp_path / "out", released=release)
    assert result.differences == []
    assert result.compared == 3
    assert result.columns == {
        "clip_id": "Video ID",
        "n_dancers": "Number of dancers",
        "song_id": "Music ID",
        "time_range": "Duration",
        "url": "Video link",
    }
    read = read_annotations(tmp_path / "out")
    assert read.name == "small"
    assert read.meta.title == "Small"
    assert read.compilations.url.tolist() == [A, B]
    assert read.clips[["start_s", "end_s"]].values.tolist() == [[2, 12], [12, 19], [60, 65.5]]
    assert read.clips.n_dancers.tolist() == [1, 2, 1]
    assert read.splits.split.tolist() == ["train", "train", "test"]
    pd.testing.assert_frame_equal(read.clips, result.annotations.clips)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| `time_range` | `Duration` |" in text
    assert "Held against 3 released clips: 0 differences." in text
    assert result.as_dict()["counts"]["clips_not_buildable_yet"] == 0
    assert str(result).endswith(f"0 differences from the 3 released clips\nwritten: {tmp_path / 'out'}")


def test_two_imports_write_the_same_bytes(tmp_path, release):
    file = table(tmp_path / "a.csv", ROWS)
    for name in ("one", "two"):
        import_annotations(file, tmp_path / name, released=release)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert sorted(one) == ["README.md", "clips.csv", "compilations.csv", "dataset.yaml", "songs.csv", "splits.csv"]


def xlsx(path: Path, rows: list, **sheets: list) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for title, more in sheets.items():
        page = book.create_sheet(title)
        for row in more:
            page.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "semicolons", "tsv", "txt with tabs", "bom", "xlsx", "titled", "crlf", "gaps"])
def test_every_kind_of_file_reads_the_same(tmp_path, release, kind):
    wanted = import_annotations(table(tmp_path / "a.csv", ROWS), tmp_path / "out", released=release).annotations
    if kind == "semicolons":
        file = table(tmp_path / "b.csv", ROWS, delimiter=";")
    elif kind in ("tsv", "txt with tabs"):
        file = table(tmp_path / ("b.tsv" if kind == "tsv" else "b.txt"), ROWS, delimiter="\t")
    elif kind == "bom":
        file = table(tmp_path / "b.csv", ROWS, encoding="utf-8-sig")
    elif kind == "xlsx":
        file = xlsx(tmp_path / "b.xlsx", [HEADER, *ROWS])
    elif kind == "titled":
        file = xlsx(tmp_path / "b.xlsx", [["TikTok annotations"], [], HEADER, *ROWS], Empty=[])
    elif kind == "crlf":
        file = tmp_path / "b.csv"
        file.write_bytes((tmp_path / "a.csv").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    else:
        file = table(tmp_path / "b.csv", [ROWS[0], [], ROWS[1], [""] * 5, ROWS[2]])
    found = import_annotations(file, tmp_path / "out2", released=release).annotations
    for name in ("compilations", "clips", "songs", "splits"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(wanted, name))


def test_a_spreadsheet_that_took_times_for_times_of_day(tmp_path, release):
    file = xlsx(
        tmp_path / "a.xlsx",
        [
            ["link", "song", "clip", "start", "end"],
            [A, 0, 0, datetime.time(0, 2), datetime.time(0, 12)],  # typed 0:02 and 0:12, shown so
            [A, 1, 1, datetime.time(0, 0, 12), datetime.time(0, 0, 19, 500000)],  # typed 0:00:12
            [B, 2, 2, datetime.timedelta(hours=25, minutes=20), datetime.timedelta(hours=25, minutes=25)],  # 25:20
        ],
    )
    book = openpyxl.load_workbook(file)
    for row, shape in ((2, "h:mm"), (3, "h:mm:ss"), (4, "[h]:mm:ss")):
        for column in (4, 5):
            book.active.cell(row, column).number_format = shape
    book.save(file)
    clips = import_annotations(file, tmp_path / "out", released=release).annotations.clips
    assert clips[["start_s", "end_s"]].values.tolist() == [[2, 12], [12, 19.5], [1520, 1525]]


def test_merged_cells_and_hyperlinks(tmp_path, release):
    file = xlsx(tmp_path / "a.xlsx", [HEADER, ["one", *ROWS[0][1:]], [None, *ROWS[1][1:]], ["two", *ROWS[2][1:]]])
    book = openpyxl.load_workbook(file)
    book.active.merge_cells("A2:A3")
    book.active["A2"].hyperlink, book.active["A4"].hyperlink = A, B
    book.save(file)
    read = import_annotations(file, tmp_path / "out", released=release).annotations
    assert read.compilations.url.tolist() == [A, B]
    assert read.clips.compilation_id.tolist() == [0, 0, 1]


def test_a_link_on_the_first_row_of_its_clips(tmp_path, release):
    rows = [ROWS[0], ["", *ROWS[1][1:]], ROWS[2]]
    result = import_annotations(table(tmp_path / "a.csv", rows), tmp_path / "out", released=release)
    assert result.differences == []
    assert "1 rows without a link take that of the row above" in result.notes


def test_start_and_duration(tmp_path, release):
    rows = [[A, 0, 0, 2, 10], [A, 1, 1, "0:12", 7], [B, 2, 2, "1:00", "5.5"]]
    file = table(tmp_path / "a.csv", rows, ["URL", "song", "clip", "Begin", "Length (s)"])
    clips = import_annotations(file, tmp_path / "out", released=release).annotations.clips
    assert clips.end_s.tolist() == [12, 19, 65.5]


def test_a_column_named_time_may_hold_starts(tmp_path, release):
    rows = [[A, 0, 0, "0:02", 10], [A, 1, 1, "0:12", 7], [B, 2, 2, "1:00", 5]]
    file = table(tmp_path / "a.csv", rows, ["video link", "music id", "video id", "time", "duration"])
    assert import_annotations(file, tmp_path / "out", released=release).annotations.clips.start_s.tolist() == [
        2,
        12,
        60,
    ]


def test_durations_alone_leave_times_empty_and_are_compared(tmp_path, release):
    rows = [[A, 0, 0, "10.5", 1], [A, 1, 1, "9", 2], [B, 2, 2, "0:05", 1]]
    result = import_annotations(table(tmp_path / "a.csv", rows), tmp_path / "out", released=release)
    assert result.annotations.clips[["start_s", "end_s"]].isna().all(axis=None)
    assert (
        "the file holds only durations, so start and end stay empty: clips cannot be built from it yet" in result.notes
    )
    assert [str(d) for d in result.differences] == [
        "clip 1: its 9 s hold 4 segments of 2 s in the file, 3 in the release"
    ]
    assert check_annotations(tmp_path / "out").counts["clips_not_buildable_yet"] == 3


def test_missing_ids_are_those_of_the_release(tmp_path, release):
    file = table(tmp_path / "a.csv", [[2, 1], [0, 2], [1, 1]], ["video id", "dancers"])
    result = import_annotations(file, tmp_path / "out", released=release)
    assert result.annotations.clips[["clip_id", "compilation_id", "song_id"]].values.tolist() == [
        [0, 0, 0],
        [1, 0, 1],
        [2, 1, 2],
    ]
    assert result.notes[1:3] == [
        "the file has no links: each clip's compilation is the released one",
        "the file names no songs: each clip's song is the released one",
    ]


def test_links_take_the_released_ids_whatever_their_order(tmp_path, release):
    result = import_annotations(table(tmp_path / "a.csv", ROWS[::-1]), tmp_path / "out", released=release)
    assert result.differences == []
    assert result.annotations.compilations.url.tolist() == [A, B]


def test_song_names_take_released_ids_and_stay_as_titles(tmp_path, release):
    rows = [[A, "Zeta", 0], [A, "Alpha", 1], [B, "Mid", 2]]
    file = table(tmp_path / "a.csv", rows, ["link", "music", "video id"])
    songs = import_annotations(file, tmp_path / "out", released=release).annotations.songs
    assert songs[["song_id", "title"]].values.tolist() == [[0, "Zeta"], [1, "Alpha"], [2, "Mid"]]


def test_ids_from_one_are_counted_from_zero(tmp_path, release):
    rows = [[link, song + 1, clip + 1, time, n] for link, song, clip, time, n in ROWS]
    result = import_annotations(table(tmp_path / "a.csv", rows), tmp_path / "out", released=release)
    assert result.differences == []
    assert "clip_id counts from 1 in the file and from 0 in the release: one is taken off" in result.notes


def test_clip_ids_that_start_again_in_each_compilation(tmp_path, release):
    rows = [ROWS[0], ROWS[1], [B, 2, 0, *ROWS[2][3:]]]
    result = import_annotations(table(tmp_path / "a.csv", rows), tmp_path / "out", released=release)
    assert result.annotations.clips.clip_id.tolist() == [0, 1, 2]
    assert result.differences == []


def test_a_dataset_of_ones_own_takes_nothing_from_the_release(tmp_path):
    rows = [[A, "b side", "0:00-0:05", "train"], [A, "hit", "0:05-0:10", "test"], [B, "b side", "0:01-0:06", "Train"]]
    file = table(tmp_path / "a.csv", rows, ["link", "song", "time", "split"])
    result = import_annotations(file, tmp_path / "mine", compare=False)
    assert result.differences == []
    assert result.compared == 0
    read = read_annotations(tmp_path / "mine")
    assert read.name == "mine"
    assert read.clips[["clip_id", "compilation_id", "song_id"]].values.tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 0]]
    assert read.songs.title.tolist() == ["b side", "hit"]
    assert read.splits.split.tolist() == ["train", "test"]
    assert read.clips.released_segments.isna().all()


def test_told_columns_ignored_columns_and_row_numbers(tmp_path, release):
    header = ["No.", "Quelle", "Lied", "Video ID", "clip", "Zeit", "Wetter"]
    rows = [[k + 1, link, song, clip, 99, time, "rain"] for k, (link, song, clip, time, _) in enumerate(ROWS)]
    columns = {"url": "Quelle", "song_id": "lied", "time_range": "Zeit", "clip_id": "Video ID"}
    file = table(tmp_path / "a.csv", rows, header)
    result = import_annotations(file, tmp_path / "out", columns=columns, ignore=["Wetter"], released=release)
    assert result.differences == []
    assert result.ignored == ["No.", "clip", "Wetter"]


# ------------------------------------------------------------------------------------------- the comparison


def test_every_difference_is_listed(tmp_path, release):
    rows = [[A, 0, 0, "0:02-0:12", 1], [B, 0, 1, "0:12-0:16", 1], [B, 2, 7, "1:00-1:05", 1]]
    result = import_annotations(table(tmp_path / "a.csv", rows), tmp_path / "out", released=release)
    assert [(d.kind, d.clip_id) for d in result.differences] == [
        ("other_song", 1),
        ("other_compilation", 1),
        ("other_segments", 1),
        ("missing_clip", 2),
        ("extra_clip", 7),
    ]
    assert [str(d) for d in result.differences] == [
        "clip 1: song 0 in the file, 1 in the release",
        "clip 1: compilation 1 in the file, 0 in the release",
        "clip 1: its 4 s hold 2 segments of 2 s in the file, 3 in the release",
        "clip 2 is in the release but not in the file",
        "clip 7 is in the file but not in the release",
    ]
    assert result.annotations.splits is None
    assert "some clips are not as released" in " ".join(result.notes)
    assert "difference: clip 7 is in the file but not in the release" in str(result)


def test_a_file_that_disagrees_with_itself(tmp_path, release):
    rows = [[A, 0, 0, 0, 10, 10.5], [A, 1, 1, 10, 17, 20], [B, 2, 2, 0, 5, 5]]
    file = table(tmp_path / "a.csv", rows, ["link", "song", "clip", "start", "end", "duration"])
    differences = import_annotations(file, tmp_path / "out", released=release).differences
    assert [str(d) for d in differences] == ["clip 1: the file says 20 s, but its start and end are 7 s apart"]


def test_splits_are_compared(release):
    other = typed("splits", pd.DataFrame({"song_id": [0, 1, 2], "split": ["train", "test", "test"]}))
    (difference,) = compare_with_released(replace(release, splits=other), release)
    assert str(difference) == "clip 1: song 1 is in test in the file, in train in the release"


def test_the_shipped_release_against_itself():
    release = released_annotations()
    assert compare_with_released(release, release) == []
    lost = replace(release, clips=release.clips.iloc[:400])
    assert [d.kind for d in compare_with_released(lost, release)] == ["missing_clip"] * 45


def test_a_whole_file_against_the_shipped_release(tmp_path):
    release, ends, rows = released_annotations(), {}, []
    for clip in release.clips.itertuples():
        start = ends.get(clip.compilation_id, 3)
        ends[clip.compilation_id] = start + 2 * clip.released_segments + 1
        span = f"{format_time(start)} - {format_time(ends[clip.compilation_id])}"
        rows.append([f"https://youtu.be/abcdefgh{clip.compilation_id:03d}", clip.song_id, clip.clip_id, span, 1])
    result = import_annotations(table(tmp_path / "a.csv", rows), tmp_path / "out")
    assert (result.compared, result.differences) == (445, [])
    counts = check_annotations(tmp_path / "out").counts
    assert counts["clips"] == 445
    assert counts["clips_not_buildable_yet"] == 0
    assert (counts["train_released_segments"], counts["test_released_segments"]) == (2384, 307)


# ------------------------------------------------------------------------------------------- bad files


def test_all_bad_columns_at_once(tmp_path, release):
    header = ["link", "Video link", "Musik", "clip", "mood", "start"]
    file = table(tmp_path / "a.csv", [[A, A, 0, 0, "x", 0]], header)
    columns = {"song": "Musik", "end_s": "Ende"}
    assert problems(file, tmp_path / "out", columns=columns, ignore=["muud"], released=release) == [
        "a.csv, line 1: there is no field 'song' to give a column for: did you mean song_id?",
        "a.csv, line 1: there is no column 'Ende': it has 'link', 'Video link', 'Musik', 'clip', 'mood', 'start'",
        "a.csv, line 1: there is no column 'muud': did you mean 'mood'?",
        "a.csv, line 1, column Musik: column 3 has no known meaning: say --column FIELD=NAME if it is that, or "
        "--ignore NAME",
        "a.csv, line 1, column mood: column 5 has no known meaning: say --column FIELD=NAME if it is that, or --ignore "
        "NAME",
        "a.csv, line 1: 'link' and 'Video link' could both be url: say which with --column url=NAME",
    ]
    assert not (tmp_path / "out").exists()


def test_all_bad_cells_at_once(tmp_path, release):
    rows = [
        [A, 0, 0, "0:12-0:10", 1],
        [A, "x", 0, "soon", 9],
        ["ftp://a.b", 2, "../2", "1:00-1:75", 1],
        [B, 2, 3, "0:05-0:09", ""],
        [B, 2, 4, "0:08-0:12", ""],
    ]
    assert problems(table(tmp_path / "a.csv", rows), tmp_path / "out", released=release) == [
        "a.csv, line 2, column end_s: the clip ends at 10 s but starts at 12 s: correct the times",
        "a.csv, line 3, column Duration: 'soon' is not a range of times: write such as 0:12-0:25",
        "a.csv, line 3, column Video ID: 0 stands in line 2 already: give each row its own, or remove one of the two",
        "a.csv, line 3, column Music ID: 'x' is not a whole number: write digits alone, such as 12",
        "a.csv, line 3, column Number of dancers: 9 dancers do not fit: a pose row of the dataset holds 5; write 5 "
        "(the most visible ones are kept) or leave the cell empty",
        "a.csv, line 4, column Duration: '1:75' is not a time: minutes and seconds end at 59",
        "a.csv, line 4, column Video ID: '../2' is not a whole number: write digits alone, such as 12",
        "a.csv, line 4, column Video link: 'ftp://a.b' is not an http or https link: other kinds are never opened; "
        "copy it from the browser",
        "a.csv, line 6, column start_s: the clip starts at 8 s, before clip 3 (line 5) of the same compilation ends at "
        "9 s: clips may touch but not overlap",
    ]
    assert not (tmp_path / "out").exists()


def test_two_links_for_one_compilation(tmp_path, release):
    file = table(tmp_path / "a.csv", [[0, A, 0, 0], [0, B, 1, 1]], ["compilation", "link", "song", "clip"])
    assert problems(file, tmp_path / "out", released=release) == [
        f"a.csv, line 3, column link: compilation_id 0 has {B!r} here but {A!r} in line 2: correct one of them"
    ]


def test_nothing_says_which_compilation_or_song(tmp_path):
    file = table(tmp_path / "a.csv", [[0, "0:00-0:05"], [1, "0:05-0:09"]], ["clip", "time"])
    assert problems(file, tmp_path / "out", compare=False) == [
        "a.csv, line 2: no column holds the compilation's link, file or id: say which with --column url=NAME, "
        "--column file=NAME or --column compilation_id=NAME",
        "a.csv, line 2: no column holds the song: say which with --column song_id=NAME or song_title=NAME",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", None, r"a\.csv is missing: give the annotation file as csv, tsv or xlsx$"),
        ("a.csv", b"", "a.csv has nothing in it: give a table$"),
        ("a.csv", b"clip,song\n", "a.csv has no rows under its header: give a table$"),
        ("a.csv", b"clip,song\n1,\xe9\n", r"^a.csv is not UTF-8: byte 13, in line 2, is 0xE9 .*; save it as UTF-8$"),
        ("a.csv", "clip,song\n".encode("utf-16"), "^a.csv is UTF-16, as its byte 1 shows: save it as UTF-8$"),
        ("a.csv", b'clip,song\n1,"2\n', "a.csv, line 2: the quotes of this line do not match"),
        ("a.csv", b"<!DOCTYPE html><html>", "a.csv is a web page, not the file itself: save the table as xlsx or csv"),
        ("a.pdf", b"%PDF-1.7", "a.pdf is a PDF document: save the table as xlsx or csv and give that file$"),
        ("a.xls", b"\xd0\xcf\x11\xe0rest", "a.xls is an old xls workbook: save the table as xlsx or csv"),
        ("a.xlsx", b"PK\x03\x04broken", "a.xlsx is a damaged xlsx file: save the table as xlsx or csv"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        import_annotations(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_archive_is_no_workbook(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "clip,song\n0,0\n")
    with pytest.raises(UserError, match=r"a.zip is a zip archive or document without a workbook"):
        import_annotations(tmp_path / "a.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<broken")
    with pytest.raises(UserError, match=r"b.xlsx is a damaged xlsx file \(\w+\): save it again, or as csv$"):
        import_annotations(tmp_path / "b.xlsx", tmp_path / "out")


def test_sheets(tmp_path, release):
    file = xlsx(tmp_path / "a.xlsx", [["about"]], clips=[HEADER, *ROWS])
    with pytest.raises(
        UserError, match=r"^a.xlsx has 2 sheets with content: choose one of 'Sheet', 'clips' with --sheet$"
    ):
        import_annotations(file, tmp_path / "out", released=release)
    with pytest.raises(UserError, match=r"^a.xlsx has no sheet 'clip' with content: choose one of 'Sheet', 'clips'$"):
        import_annotations(file, tmp_path / "out", sheet="clip", released=release)
    assert import_annotations(file, tmp_path / "out", sheet="clips", released=release).differences == []
    with pytest.raises(UserError, match=r"b\.csv is text and has no sheets: leave the sheet out$"):
        import_annotations(table(tmp_path / "b.csv", ROWS), tmp_path / "out2", sheet="clips", released=release)


def test_annotations_are_not_overwritten_unasked(tmp_path, release):
    file = table(tmp_path / "a.csv", ROWS)
    import_annotations(file, tmp_path / "out", released=release)
    before = (tmp_path / "out" / "clips.csv").read_bytes()
    with pytest.raises(UserError, match=r"out already holds annotations: give another folder, or say --overwrite$"):
        import_annotations(table(tmp_path / "b.csv", ROWS[:1]), tmp_path / "out", released=release)
    assert (tmp_path / "out" / "clips.csv").read_bytes() == before
    import_annotations(table(tmp_path / "b.csv", ROWS[:1]), tmp_path / "out", released=release, overwrite=True)
    assert len(read_annotations(tmp_path / "out").clips) == 1
    with pytest.raises(UserError, match=r"a\.csv is a file: give a folder for the annotations$"):
        import_annotations(file, file, released=release)


# ------------------------------------------------------------------------------------------- fetching


BY_HAND = (
    rf"open https://drive.google.com/file/d/{AUTHORS_FILE_ID}/view in a browser, save the file, and give it to "
    r"`tiktok-dm annotations import FILE --out DIR`$"
)


def test_fetch_downloads_and_imports(tmp_path, drive, release):
    body = xlsx(tmp_path / "their.xlsx", [HEADER, *ROWS]).read_bytes()
    drive.share(AUTHORS_FILE_ID, "TikTok annotations.xlsx", body)
    result = fetch_annotations(tmp_path / "out", released=release, retries=0)
    assert drive.addresses == [f"https://drive.google.com/uc?id={AUTHORS_FILE_ID}"]
    assert result.differences == []
    assert (tmp_path / "out.download" / "TikTok annotations.xlsx").read_bytes() == body
    assert len(read_annotations(tmp_path / "out").clips) == 3


def test_fetch_takes_a_link_for_an_id(tmp_path, drive, release):
    drive.share("abc_DEF-1234567890", "a.csv", table(tmp_path / "a.csv", ROWS).read_bytes())
    link = "https://drive.google.com/file/d/abc_DEF-1234567890/view?usp=sharing"
    fetch_annotations(tmp_path / "out", link, released=release, retries=0)
    assert drive.addresses == ["https://drive.google.com/uc?id=abc_DEF-1234567890"]


def test_a_fetched_file_that_cannot_be_imported_stays(tmp_path, drive, release):
    drive.share(AUTHORS_FILE_ID, "a.csv", b"clip,song,mood\n0,0,x\n")
    with pytest.raises(ProblemsError, match="column 3 has no known meaning"):
        fetch_annotations(tmp_path / "out", released=release, retries=0)
    assert (tmp_path / "out.download" / "a.csv").is_file()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {"name": None, "body": b'<html><p class="uc-error-subcaption">Too many users have viewed it</p></html>'},
            r"^Google Drive does not hand the file out \(it is not shared, or too many people fetched it today\): ",
        ),
        (
            {"name": None, "body": b"<html>Sign in</html>"},
            r"^Google Drive does not hand the file out \(it is not shared, or too many people fetched it today\): ",
        ),
        (
            {"name": "a.csv", "body": b"gone", "statuses": (404,)},
            r"^Google Drive says that the file is no longer there \(status 404\): ",
        ),
        (
            {"name": "a.csv", "body": b"no", "statuses": (403,)},
            r"^Google Drive says that the file is not handed out \(status 403\): ",
        ),
        (
            {"name": "a.csv", "body": b"clip,song\n", "length": 99},
            r"^the download broke off \(.*\): ",
        ),
    ],
    ids=["quota", "sign in", "gone", "forbidden", "truncated"],
)
def test_what_drive_may_answer(tmp_path, drive, release, answer, message):
    drive.share(AUTHORS_FILE_ID, **answer)
    with pytest.raises(UserError, match=message + BY_HAND) as caught:
        fetch_annotations(tmp_path / "out", released=release, retries=0, timeout_s=5)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_network(tmp_path, monkeypatch, release):
    import requests

    def refuse(*_args, **_options):
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)
    with pytest.raises(
        UserError, match=r"^Google Drive cannot be reached \(no network, or a proxy is in the way\): " + BY_HAND
    ):
        fetch_annotations(tmp_path / "out", released=release, retries=0)


def test_fetch_refuses_before_it_downloads(tmp_path, drive, release):
    import_annotations(table(tmp_path / "a.csv", ROWS), tmp_path / "out", released=release)
    with pytest.raises(UserError, match="already holds annotations"):
        fetch_annotations(tmp_path / "out", released=release)
    with pytest.raises(UserError, match="is not the id of a Google Drive file"):
        fetch_annotations(tmp_path / "new", "../x", released=release)
    assert drive.addresses == []


# ------------------------------------------------------------------------------------------- titles and plain tables

SPELLINGS = {
    "composed or not": lambda t: unicodedata.normalize("NFD", t),
    "case": str.upper,
    "lower case": str.lower,
    "spaces": lambda t: "  " + t.replace(" ", "   ") + " ",
    "no-break spaces": lambda t: t.replace(" ", "\u00a0"),
    "apostrophe": lambda t: t.replace("'", "\u2019"),
    "accent for apostrophe": lambda t: t.replace("'", "\u00b4"),
    "dash": lambda t: t.replace("-", "\u2013"),
    "full width": lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t),
    "zero width": lambda t: t[:1] + "\u200b" + t[1:],
}
TITLES = st.text("abcdeghk ÀéñößЖщ日本0123456789'-", min_size=1, max_size=20).filter(
    lambda t: bool(t.strip()) and " -" not in t and "- " not in t and t[:1] not in " -'" and "ß" not in t
)


@settings(max_examples=200, deadline=None)
@given(title=TITLES, how=st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=1, max_size=4))
def test_one_title_however_it_is_spelled(title: str, how: list[str]) -> None:
    other = title
    for name in how:
        other = SPELLINGS[name](other)
    assert normal_title(other) == normal_title(title), (title, other)
    assert normal_title(normal_title(title)) == normal_title(title)


@pytest.mark.parametrize(
    "guest", ["feat. Ann", "ft. Ann", "ft Ann", "FEAT. Ann", "featuring Ann", "(feat. Ann)", "[ft. Ann]", "(Ft. Ann)"]
)
def test_a_guest_is_written_in_many_ways(guest: str) -> None:
    assert normal_title(f"Song {guest}") == "song feat. ann"


@pytest.mark.parametrize("title", ["Softly", "Left Alone", "Often", "The Feature", "Fifty Feet", "Lift", "ft", "A - B"])
def test_what_is_no_guest_stays(title: str) -> None:
    assert normal_title(title) == title.lower()


def test_near_titles_are_pairs_for_a_person(tmp_path: Path) -> None:
    titles = {
        0: "Levitating", 1: "Levitatng", 2: "Part 1 of it", 3: "Part 2 of it", 4: "Café", 5: "Cafe", 6: "Stay",
        7: "Stay",
        8: "Bad Guy", 9: "Bad Guy (feat. X)", 10: "Salt & Pepper", 11: "Salt and Pepper", 12: "Go", 13: "So", 14: "",
    }  # fmt: skip
    artists = {6: "Rihanna", 7: "The Kid LAROI"}
    assert near_titles(titles, artists) == [(0, 1), (4, 5), (8, 9), (10, 11)]


def test_near_titles_on_both_sides_of_a_split_are_told(tmp_path: Path) -> None:
    clips = pd.DataFrame({"clip_id": [0, 1, 2], "song_id": [0, 1, 2]})
    splits = pd.DataFrame({"song_id": [0, 1, 2], "split": ["train", "test", "train"]})
    songs = pd.DataFrame({"song_id": [0, 1, 2], "title": ["Bad Guy", "bad  guy", "Bad Guys"], "artist": [None] * 3})
    found = [(f.kind, f.severity, f.song_ids) for f in audit_splits(clips, splits, catalogue=songs)]
    assert ("near_title_across_splits", "error", (0, 1)) in found
    assert ("near_title_across_splits", "warning", (1, 2)) in found
    assert ("near_title_within_split", "warning", (0, 2)) in found


def imported(tmp_path: Path, text: str, **options: Any) -> Any:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return import_annotations(tmp_path / "t.csv", tmp_path / "out", compare=False, **options)


def test_the_plainest_tables(tmp_path: Path) -> None:
    made = imported(tmp_path, "file,start,end,song\na b.mp4,0:12.5,0:25,Salsa\na b.mp4,0:30,0:40,22\nc.mp4,3,9,salsa\n")
    assert [*made.annotations.compilations.file] == ["a b.mp4", "c.mp4"]
    assert [*made.annotations.clips.compilation_id] == [0, 0, 1]
    assert [*made.annotations.clips.song_id] == [0, 1, 0]
    assert [*made.annotations.songs.title] == ["Salsa", "22"]
    assert any("'Salsa' and 'salsa' are one title, spelled in 2 ways: song 0" in note for note in made.notes)


def test_a_table_without_a_header_by_the_numbers_of_its_columns(tmp_path: Path) -> None:
    columns = {"file": "1", "start_s": "3", "end_s": "4", "song_title": "2"}
    made = imported(tmp_path, "a.mp4,Salsa,3,9,x\nb.mp4,Tango,5,9,y\n", columns=columns)
    assert [*made.annotations.songs.title] == ["Salsa", "Tango"]
    assert [*made.annotations.clips.start_s] == [3, 5]
    assert made.ignored == ["5"]


def test_two_songs_of_one_title_by_two_artists_are_two(tmp_path: Path) -> None:
    rows = ["0,9,Stay,Rihanna", "9,18,Stay,The Kid LAROI", "18,27,stay,RIHANNA"]
    made = imported(tmp_path, "\n".join(["file,start,end,song title,artist", *(f"a.mp4,{row}" for row in rows)]))
    assert [*made.annotations.clips.song_id] == [0, 1, 0]


@given(st.text(alphabet="aB é\u0301-\u2014\u00a0 w/feat.()[]\uff54\ufb01'\u2019", max_size=14))
def test_a_normal_form_is_its_own(title: str) -> None:
    assert normal_title(normal_title(title)) == normal_title(title)


@pytest.mark.parametrize("guest", ["w/Ann", "w/ Ann", "(w/ Ann)", "W/ ANN", "[w/Ann]"])
def test_a_guest_may_be_with_the_singer(guest: str) -> None:
    assert normal_title(f"Song {guest}") == "song feat. ann"
