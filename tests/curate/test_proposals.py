"""The folder of proposals: read back equal, changed whole, and never over someone else's change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tiktok_dm.annotations.tables import read_annotations
from tiktok_dm.curate import proposals as module
from tiktok_dm.curate.proposals import (
    EditedMeanwhile,
    Proposals,
    empty_proposals,
    read_proposals,
    read_sources,
    revision_of,
    work_folder,
    write_proposals,
    write_sources,
)
from tiktok_dm.errors import ProblemsError, UserError


def small(folder: Path) -> Proposals:
    return empty_proposals(folder).with_tables(
        compilations=pd.DataFrame({"compilation_id": [0], "file": ["film.mp4"]}),
        clips=pd.DataFrame(
            {
                "clip_id": [0, 1],
                "compilation_id": [0, 0],
                "song_id": [0, 0],
                "start_s": [0.0, 2.5],
                "end_s": [2.5, 6.006],
                "n_dancers": [1, None],
            }
        ),
        songs=pd.DataFrame({"song_id": [0]}),
        proposals=pd.DataFrame(
            {"clip_id": [0, 1], "start_confidence": [1.0, 0.4], "start_reason": ["the film starts", 'a, "b"']}
        ),
        rejected=pd.DataFrame(
            {"compilation_id": [0], "start_s": [6.006], "end_s": [8.0], "kind": ["outro_card"], "confidence": [0.9]}
        ),
        same_songs=pd.DataFrame(
            {"clip_a": [0], "clip_b": [1], "confidence": [0.8], "speed": [1.06], "offset_s": [-1.5]}
        ),
    )


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    written = write_proposals(small(tmp_path / "p"))
    read = read_proposals(tmp_path / "p")
    assert read.revision == written.revision != ""
    for name in module.ALL_TABLES:
        pd.testing.assert_frame_equal(read.table(name), written.table(name))
    assert (tmp_path / "p" / "clips.csv").read_text().splitlines()[2] == "1,0,0,2.5,6.006,"
    # The folder is an ordinary folder of annotations.
    assert list(read_annotations(tmp_path / "p").clips.end_s) == [2.5, 6.006]
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == sorted(f"{n}.csv" for n in module.ALL_TABLES)


def test_nothing_is_written_over_someone_elses_change(tmp_path: Path) -> None:
    mine = write_proposals(small(tmp_path / "p"))
    clips = tmp_path / "p" / "clips.csv"
    clips.write_text(clips.read_text().replace("6.006", "5.9"))
    with pytest.raises(EditedMeanwhile, match="changed by someone else since it was read, so nothing was written"):
        write_proposals(mine.with_tables(songs=pd.DataFrame({"song_id": [0, 1]})))
    assert "5.9" in clips.read_text()
    assert (tmp_path / "p" / "songs.csv").read_text() == "song_id,title,artist\n0,,\n"
    with pytest.raises(EditedMeanwhile):
        write_proposals(small(tmp_path / "p"))  # made without reading what is there
    read = read_proposals(tmp_path / "p")
    assert write_proposals(read.with_tables(songs=pd.DataFrame({"song_id": [0, 1]}))).revision != read.revision


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_change_that_was_cut_off_is_finished_or_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """Killed while the second of two files was being moved: whoever reads next gets both."""
    first = write_proposals(small(tmp_path / "p"))
    after = first.with_tables(songs=pd.DataFrame({"song_id": [0, 1]}), clips=first.clips.assign(song_id=[0, 1]))
    replace, count = Path.replace, [0]

    def stop(self: Path, target: Path) -> Path:
        if self.parent.name == ".pending" and self.suffix == ".csv" and not self.name.startswith("."):
            if count[0] == moved:
                raise KeyboardInterrupt
            count[0] += 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    if moved < 2:
        with pytest.raises(KeyboardInterrupt):
            write_proposals(after)
    else:
        write_proposals(after)
    monkeypatch.undo()
    read = read_proposals(tmp_path / "p")
    assert list(read.clips.song_id) == [0, 1]
    assert list(read.annotations.songs.song_id) == [0, 1]
    assert not (tmp_path / "p" / ".pending").exists()


def test_a_change_without_its_mark_never_was(tmp_path: Path) -> None:
    first = write_proposals(small(tmp_path / "p"))
    pending = tmp_path / "p" / ".pending"
    pending.mkdir()
    (pending / "songs.csv").write_text("song_id\n7\n")
    assert list(read_proposals(tmp_path / "p").annotations.songs.song_id) == [0]
    assert revision_of(tmp_path / "p") == first.revision
    assert not pending.exists()


def test_problems_are_named_with_file_line_and_column(tmp_path: Path) -> None:
    write_proposals(small(tmp_path / "p"))
    (tmp_path / "p" / "proposals.csv").write_text("clip_id,start_confidence,review\n0,1.5,\n7,0.5,maybe\n")
    with pytest.raises(ProblemsError) as error:
        read_proposals(tmp_path / "p")
    assert [str(problem) for problem in error.value.problems] == [
        "proposals.csv, line 2, column start_confidence: 1.5 is too large: the greatest is 1",
        "proposals.csv, line 3, column clip_id: there is no clip_id 7 in clips.csv: add it there, or correct it here",
        "proposals.csv, line 3, column review: 'maybe' is not known here: write accepted or mended, or leave the cell "
        "empty",
    ]
    with pytest.raises(UserError, match="is not a folder"):
        read_proposals(tmp_path / "nowhere")


def test_a_work_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    write_proposals(small(tmp_path / "p"))
    shutil.rmtree(tmp_path / "p.work")
    (tmp_path / "p.work").write_text("mine")
    with pytest.raises(UserError, match=r"p\.work cannot be written \(File exists\): give a folder"):
        read_proposals(tmp_path / "p")


def test_a_rejected_clip_keeps_its_id(tmp_path: Path) -> None:
    first = write_proposals(small(tmp_path / "p"))
    gone = first.rejected.assign(clip_id=[5], kind=["rejected"])
    write_proposals(first.with_tables(rejected=gone))
    assert list(read_proposals(tmp_path / "p").rejected.clip_id) == [5]


def test_sources_are_remembered_beside_the_folder(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"x")
    write_sources(tmp_path / "p", {0: film, 1: tmp_path / "gone.mp4"})
    assert read_sources(tmp_path / "p") == {0: film.resolve()}
    assert json.loads((work_folder(tmp_path / "p") / "sources.json").read_text())["1"].endswith("gone.mp4")
    assert read_sources(tmp_path / "q") == {}
