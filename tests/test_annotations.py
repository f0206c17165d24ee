"""Reading, checking and writing annotation folders; the shipped 445 clips."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiktok_dm.annotations.tables import (
    Annotations,
    DatasetMeta,
    check_annotations,
    read_annotations,
    table_text,
    typed,
    write_annotations,
    write_splits,
    write_text,
)
from tiktok_dm.errors import DiskFull, ProblemsError, UserError

REPOSITORY = Path(__file__).resolve().parents[1]
COMPILATIONS = "compilation_id,title,url,file,license,sha256\n0,One,https://a.b/0,,,\n1,Two,,two.mp4,,\n"
CLIPS = "clip_id,compilation_id,song_id,start_s,end_s,n_dancers\n0,0,0,0,10,1\n1,0,1,10,20.5,2\n2,1,0,,,\n"
SONGS = "song_id,title,artist\n0,,\n1,Second,Someone\n"


def folder(path: Path, **files: str | bytes | None) -> Path:
    """A good annotation folder, with files replaced (by table name) or left out (None)."""
    contents: dict[str, str | bytes | None] = {"compilations": COMPILATIONS, "clips": CLIPS, "songs": SONGS, **files}
    path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if content is not None:
            data = content if isinstance(content, bytes) else content.encode()
            (path / (name if "." in name else f"{name}.csv")).write_bytes(data)
    return path


def problems(path: Path, **options) -> list[str]:
    return [str(problem) for problem in check_annotations(path, **options).problems]


# ------------------------------------------------------------------------------------------- good folders


def test_a_good_folder_is_read(tmp_path):
    annotations = read_annotations(folder(tmp_path / "mine"))
    assert annotations.name == "mine"
    assert annotations.root == tmp_path / "mine"
    assert annotations.compilations.url[0] == "https://a.b/0"
    assert annotations.compilations.file.isna().tolist() == [True, False]
    assert annotations.clips.end_s.tolist()[:2] == [10.0, 20.5]
    assert annotations.songs.artist[1] == "Someone"
    assert annotations.splits is None
    assert annotations.lines["clips"] == (2, 3, 4)


@pytest.mark.parametrize(
    "clips",
    [
        CLIPS.replace("\n", "\r\n").encode(),
        CLIPS.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + CLIPS.encode(),
        CLIPS.rstrip("\n").encode(),
        (CLIPS + "\n\n,,,,,\n").encode(),
        CLIPS.replace(",", " , ").encode(),
        CLIPS.replace("clip_id", '"clip_id"').encode(),
    ],
    ids=["crlf", "cr", "bom", "no last line end", "blank lines", "spaces", "quotes"],
)
def test_harmless_variants_of_a_file_read_the_same(tmp_path, clips):
    plain = read_annotations(folder(tmp_path / "plain"))
    variant = read_annotations(folder(tmp_path / "variant", clips=clips))
    pd.testing.assert_frame_equal(variant.clips, plain.clips)
    assert variant.lines["clips"] == (2, 3, 4)


def test_songs_may_be_absent(tmp_path):
    annotations = read_annotations(folder(tmp_path, songs=None))
    assert annotations.songs.song_id.tolist() == [0, 1]
    assert annotations.songs.title.isna().all()


def test_extra_columns_are_kept(tmp_path):
    songs = "song_id,genre,notes\n0,pop,\n1,,fades out\n"
    read = read_annotations(folder(tmp_path, songs=songs))
    assert read.songs.genre[0] == "pop"
    assert read.songs.notes[1] == "fades out"


def test_counts_and_notes(tmp_path):
    here = folder(
        tmp_path,
        clips=CLIPS + "3,0,1,21,22.5,1\n",
        songs=SONGS + "7,,\n",
        compilations=COMPILATIONS + "5,,,,,\n",
        splits="song_id,split\n0,train\n1,train\n7,train\n",
    )
    report = check_annotations(here)
    assert report.ok
    assert report.counts == {
        "compilations": 3,
        "clips": 4,
        "songs": 3,
        "clips_without_times": 1,
        "compilations_without_link_and_file": 1,
        "clips_not_buildable_yet": 1,
        "train_songs": 3,
        "train_clips": 4,
        "test_songs": 0,
        "test_clips": 0,
    }
    assert report.notes == [
        "1 of 4 clips are not buildable yet: 1 have no start and end, and 1 of 3 compilations have neither a link nor "
        "a file name (a local file named by its id serves too)",
        "1 clips are shorter than one segment of 2 s and give none",
        "no clip has compilation_id 5",
        "no clip has song_id 7",
        "no song is in test",
    ]


def test_dataset_yaml(tmp_path):
    text = "name: my-set\ntitle: Mine\nlicense:\nhomepage: https://a.b\ncitation: |-\n  Two\n  lines\n"
    annotations = read_annotations(folder(tmp_path, **{"dataset.yaml": text}))
    assert annotations.name == "my-set"
    assert annotations.meta.license == ""
    assert annotations.meta.citation == "Two\nlines"


def test_where_splits_are_looked_for(tmp_path):
    here = folder(tmp_path / "annotations" / "mine")
    beside = tmp_path / "splits" / "mine.csv"
    beside.parent.mkdir()
    beside.write_text("song_id,split\n0,train\n1,test\n")
    assert read_annotations(here).splits.split.tolist() == ["train", "test"]
    (here / "splits.csv").write_text("song_id,split\n0,test\n1,train\n")
    assert read_annotations(here).splits.split.tolist() == ["test", "train"]
    assert read_annotations(here, beside).splits.split.tolist() == ["train", "test"]


# ------------------------------------------------------------------------------------------- bad folders


def test_all_problems_of_all_files_at_once(tmp_path):
    here = folder(
        tmp_path,
        compilations="compilation_id,url,file\n0,ftp://a.b,\n1,,../x\n",
        clips="clip_id,compilation_id,song_id,start_s,end_s\n0,0,0,5,3\n1,9,8,0,1\n",
        songs="song_id,titel\n0,x\n",
        **{"dataset.yaml": "nmae: x\ntitle: 3\nhomepage: a.b\n"},
        splits="song_id,split\n0,trian\n4,test\n",
    )
    expected = [
        "dataset.yaml, column 'nmae': there is no such key: did you mean name?",
        "dataset.yaml, column homepage: 'a.b' is not an http or https link: other kinds are never opened; copy it from "
        "the browser",
        "dataset.yaml, column title: '3' is not text: put it in quotes",
        "compilations.csv, line 2, column url: 'ftp://a.b' is not an http or https link: other kinds are never opened; "
        "copy it from the browser",
        "compilations.csv, line 3, column file: '../x' holds a path: write the file's name alone, and give its folder "
        "when you build",
        "songs.csv, line 1, column 'titel': this table has no such column: did you mean title?",
        "clips.csv, line 2, column end_s: the clip ends at 3 s but starts at 5 s: correct the times",
        "clips.csv, line 3, column compilation_id: there is no compilation_id 9 in compilations.csv: add it there, or "
        "correct it here",
        "clips.csv, line 3, column song_id: there is no song_id 8 in songs.csv: add it there, or correct it here",
        "splits.csv, line 2, column split: 'trian' is not a split: write train",
        "splits.csv, line 3, column song_id: there is no song_id 4 in songs.csv: add it there, or correct it here",
        "splits.csv, column song_id: song 8 has clips but no split: add a line for it",
    ]
    assert sorted(problems(here)) == sorted(expected)
    with pytest.raises(ProblemsError) as caught:
        read_annotations(here)
    assert len(caught.value.problems) == len(expected)
    assert str(caught.value).startswith("12 problems found:\n")


BAD_FILES = [
    ("missing", None, "clips.csv: is missing: add it to the folder"),
    ("empty", b"", "clips.csv: is empty: it needs a header and one line a row"),
    ("blank", b"\n \n", "clips.csv: is empty: it needs a header and one line a row"),
    (
        "header alone",
        b"clip_id,compilation_id,song_id,start_s,end_s\n",
        "clips.csv: has a header but no rows: add one line a row",
    ),
    (
        "latin-1",
        CLIPS.replace("n_dancers", "notes").replace("10,1\n", "10,Caf\xe9\n").encode("latin-1"),
        "clips.csv: is not UTF-8: byte 66, in line 2, is 0xE9 (Latin-1 perhaps); save it as UTF-8",
    ),
    (
        "latin-1 behind a byte order mark",
        b"\xef\xbb\xbfclip_id\n\xe9\n",
        "clips.csv: is not UTF-8: byte 12, in line 2, is 0xE9 (Latin-1 perhaps); save it as UTF-8",
    ),
    ("utf-16", CLIPS.encode("utf-16"), "clips.csv: is UTF-16, as its byte 1 shows: save it as UTF-8"),
    (
        "utf-16 without mark",
        CLIPS.encode("utf-16-le"),
        "clips.csv: holds a zero byte as byte 2 (UTF-16 perhaps): save it as UTF-8 text",
    ),
    (
        "semicolons",
        CLIPS.replace(",", ";").encode(),
        "clips.csv, line 1: its columns are separated by ';': save it with commas",
    ),
    (
        "ragged",
        (CLIPS + "3,1,0,0,5,1,7\n4,1,0\n").encode(),
        [
            "clips.csv, line 5: has 7 cells where the header has 6: quote cells that hold a comma",
            "clips.csv, line 6: has 3 cells where the header has 6: quote cells that hold a comma",
        ],
    ),
    (
        "open quote",
        (CLIPS + '3,1,0,0,5,"1\n').encode(),
        "clips.csv, line 5: the quotes of this line do not match (unexpected end of data): close them, and double a "
        "quote inside a cell",
    ),
    (
        "doubled header",
        CLIPS.replace("n_dancers", "end_s").encode(),
        "clips.csv, line 1, column end_s: stands 2 times in the header: keep one",
    ),
    (
        "line feed in a cell",
        (CLIPS.replace("n_dancers", "notes") + '3,1,0,0,5,"a\nb"\n4,1,0,5,4,\n').encode(),
        [
            "clips.csv, line 5, column notes: holds a control character (U+000A) as character 2: retype the cell",
            "clips.csv, line 7, column end_s: the clip ends at 4 s but starts at 5 s: correct the times",
        ],
    ),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])
def test_bad_files(tmp_path, content, message):
    assert problems(folder(tmp_path, clips=content)) == ([message] if isinstance(message, str) else message)


def test_a_folder_in_place_of_a_file(tmp_path):
    here = folder(tmp_path, clips=None)
    (here / "clips.csv").mkdir()
    assert problems(here) == [
        "clips.csv: cannot be read (Is a directory): look at what it is and who may read it",
    ]


def test_no_folder(tmp_path):
    assert problems(tmp_path / "none") == [
        f"{tmp_path / 'none'}: is not a folder: give the folder that holds clips.csv"
    ]


def test_one_unreadable_id_does_not_make_others_unknown(tmp_path):
    here = folder(tmp_path, compilations="compilation_id,url,file\n0.0,,\n1,,\n")
    assert problems(here) == ["compilations.csv, line 2, column compilation_id: '0.0' is not a whole number: write 0"]


def test_splits_that_are_told_but_missing(tmp_path):
    here = folder(tmp_path)
    assert problems(here, splits=tmp_path / "no.csv") == ["no.csv: is missing: add it to the folder"]


def test_a_stale_splits_file_can_be_left_alone(tmp_path):
    here = folder(tmp_path, splits="song_id,split\n0,train\n")
    assert problems(here) == ["splits.csv, column song_id: song 1 has clips but no split: add a line for it"]
    assert read_annotations(here, with_splits=False).splits is None


def test_a_song_in_two_splits(tmp_path):
    here = folder(tmp_path, splits="song_id,split\n0,train\n1,test\n0,test\n")
    assert problems(here) == [
        "splits.csv, line 4, column song_id: 0 stands in line 2 already: give each row its own, or remove one of the "
        "two"
    ]


def test_times_past_the_end(tmp_path):
    here = folder(tmp_path)
    assert problems(here, durations={0: 20.5, 1: 3.0}) == []
    assert problems(here, durations={0: 20.0}) == [
        "clips.csv, line 3, column end_s: the clip ends at 20.5 s, but compilation 0 is only 20.000 s long: correct "
        "the time or the compilation"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "dataset.yaml: holds no `key: value` lines: write such as `name: mine`"),
        (
            "name: [\n",
            "dataset.yaml, line 2: is not YAML here (expected the node content, but found '<stream end>'): correct it",
        ),
        (
            "name: a/b\n",
            "dataset.yaml, column name: 'a/b' holds a path: write the file's name alone, and give its folder when you "
            "build",
        ),
        ("lisence: x\n", "dataset.yaml, column 'lisence': there is no such key: did you mean license?"),
        ("title: [a]\n", "dataset.yaml, column title: \"['a']\" is not text: put it in quotes"),
    ],
)
def test_bad_dataset_yaml(tmp_path, text, message):
    assert problems(folder(tmp_path, **{"dataset.yaml": text})) == [message]


# ------------------------------------------------------------------------------------------- writing


def test_numbers_are_written_short_and_exact():
    clips = pd.DataFrame({"clip_id": [1, 2, 3], "start_s": [12.0, 0.1 + 0.2, 1e-7], "end_s": [13.25, None, None]})
    assert table_text("clips", clips) == ("clip_id,start_s,end_s\n1,12,13.25\n2,0.30000000000000004,\n3,0.0000001,\n")


# What the reader strips, and control characters, are no part of a cell.
_texts = st.none() | st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20).map(
    lambda text: text.strip() or None
)
_tables = st.lists(st.tuples(st.integers(0, 900), st.floats(0, 80_000), st.floats(0.001, 100), _texts), max_size=8)


@settings(max_examples=10, deadline=None)
@given(rows=_tables, titles=st.lists(_texts, min_size=3, max_size=3))
def test_what_is_written_is_read_back_equal(tmp_path_factory, rows, titles):
    clips = pd.DataFrame(
        [(k, k, song, start, start + length, 1, None, note) for k, (song, start, length, note) in enumerate(rows)]
        or [(0, 0, 0, None, None, None, None, None)],
        columns=["clip_id", "compilation_id", "song_id", "start_s", "end_s", "n_dancers", "released_segments", "notes"],
    )
    compilations = pd.DataFrame(
        {"compilation_id": clips.clip_id, "title": pd.Series([titles[k % 3] for k in clips.clip_id])}
    )
    songs = pd.DataFrame({"song_id": sorted(set(clips.song_id)), "title": titles[0]})
    splits = pd.DataFrame({"song_id": songs.song_id, "split": "train"})
    frames = {
        name: typed(name, frame)
        for name, frame in (("compilations", compilations), ("clips", clips), ("songs", songs), ("splits", splits))
    }
    meta = DatasetMeta(name="x", citation="a: b\n c", license=titles[1] or "")
    out = tmp_path_factory.mktemp("folder")
    annotations = Annotations("x", out, meta, **frames)  # type: ignore[arg-type]
    write_annotations(annotations, readme="# Read me\n")
    read = read_annotations(out)
    assert read.meta == meta
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(getattr(read, name), frame)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_annotations(replace(read, root=out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_splits_are_written_in_the_order_of_songs(tmp_path):
    frame = typed("splits", pd.DataFrame({"song_id": [3, 1], "split": ["test", "train"]}))
    assert write_splits(frame, tmp_path / "a" / "s.csv").read_text() == "song_id,split\n1,train\n3,test\n"


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "a.csv"
    write_text(target, "old")

    def full(self, *_args, **_options):
        with open(self, "w") as stream:
            stream.write("ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFull, match=r"^no room is left to write .*a\.csv: free some space and try again$"):
        write_text(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert target.read_text() == "old"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.*\): give a place where you may write$"):
        write_text(tmp_path / "file" / "a.csv", "x")


# ------------------------------------------------------------------------------------------- the shipped clips


@pytest.fixture(scope="module")
def released() -> Annotations:
    return read_annotations(REPOSITORY / "annotations" / "tiktok_dm")


def test_released_counts():
    report = check_annotations(REPOSITORY / "annotations" / "tiktok_dm")
    assert report.problems == []
    assert report.counts == {
        "compilations": 15,
        "clips": 445,
        "songs": 86,  # the paper says 85
        "clips_without_times": 445,
        "compilations_without_link_and_file": 15,
        "clips_not_buildable_yet": 445,
        "train_songs": 43,
        "train_clips": 392,
        "train_released_segments": 2384,
        "test_songs": 43,
        "test_clips": 53,
        "test_released_segments": 307,
    }


def test_released_ids_have_no_gaps(released):
    assert released.name == "tiktok_dm"
    assert released.clips.clip_id.tolist() == list(range(445))
    assert released.compilations.compilation_id.tolist() == list(range(15))
    assert released.songs.song_id.tolist() == list(range(86))
    assert released.splits.song_id.tolist() == list(range(86))
    assert released.clips.compilation_id.is_monotonic_increasing
    assert released.clips.groupby("song_id").compilation_id.nunique().max() == 1


def test_released_split_shares_no_song(released):
    splits = released.splits
    train, test = (set(splits.song_id[splits.split == name]) for name in ("train", "test"))
    assert (len(train), len(test), train & test) == (43, 43, set())
    tested = released.clips[released.clips.song_id.isin(test)]
    assert sorted(set(tested.compilation_id)) == [7, 9, 10, 11]
    trained = released.clips[released.clips.song_id.isin(train)]
    assert {7, 9, 10, 11} <= set(trained.compilation_id)
    assert trained.song_id.value_counts().head(10).sum() == 278


def test_nothing_is_invented(released):
    assert released.clips[["start_s", "end_s", "n_dancers", "notes"]].isna().all(axis=None)
    assert released.compilations.drop(columns="compilation_id").isna().all(axis=None)
    assert released.songs.drop(columns="song_id").isna().all(axis=None)
    assert released.meta.license == ""


def test_readme_gives_the_provenance_of_every_column(released):
    text = (released.root / "README.md").read_text()
    for table in ("compilations", "clips", "songs"):
        section = text.split(f"## {table}.csv")[1].split("\n## ")[0]
        header = (released.root / f"{table}.csv").read_text().splitlines()[0].split(",")
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == header
    assert "The paper counts 85 songs; the released lists carry 86 song ids" in text


def test_the_script_makes_the_shipped_files(released, tmp_path):
    facts = released.clips.merge(released.splits, on="song_id")
    facts = facts.rename(columns={"clip_id": "video_id", "released_segments": "n_segments_2s"})
    columns = ["video_id", "compilation_id", "song_id", "split", "n_segments_2s"]
    facts[columns].sample(frac=1, random_state=0).to_csv(tmp_path / "facts.csv", index=False)
    spec = importlib.util.spec_from_file_location("tool", REPOSITORY / "tools" / "make_released_annotations.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.make(tmp_path / "facts.csv", tmp_path)
    made = ["annotations/tiktok_dm/clips.csv", "annotations/tiktok_dm/compilations.csv",
            "annotations/tiktok_dm/songs.csv", "splits/tiktok_dm.csv"]  # fmt: skip
    found = [os.path.relpath(path, tmp_path) for path in sorted(tmp_path.rglob("*.csv")) if path.name != "facts.csv"]
    assert found == made
    for name in made:
        assert (tmp_path / name).read_bytes() == (REPOSITORY / name).read_bytes()
