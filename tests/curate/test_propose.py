"""From videos to proposals: whole runs on rendered compilations with known truth, growing folders, and bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.agreement import KnownClip, match_clips, pair_agreement, proposed_clips, score
from tests.media_factory import constant, film
from tiktok_dm import media
from tiktok_dm.annotations.tables import read_annotations
from tiktok_dm.curate.proposals import read_proposals, read_sources, revision_of, write_proposals
from tiktok_dm.curate.propose import propose
from tiktok_dm.errors import UserError
from tiktok_dm.synthetic import DemoParams, make_demo

PARAMS = DemoParams(
    clips=8, songs=3, compilations=2, width=320, height=180, fps=25, shortest_s=4.0, longest_s=5.0, seed=5
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered compilations of four clips, each with a title card."""
    return make_demo(tmp_path_factory.mktemp("demo"), PARAMS)


@pytest.fixture(scope="module")
def proposed(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after the first compilation, then after both."""
    out = tmp_path_factory.mktemp("proposed") / "p"
    propose([demo / "media" / "compilation_0.mp4"], out, dancers=False)
    shutil.copytree(out, out.with_name("first"))
    propose([demo / "media"], out, dancers=False)
    return out


def first_again(proposed: Path, out: Path) -> Path:
    """A folder of the first compilation alone, to be changed; what was measured of both films is there already."""
    shutil.copytree(proposed.with_name("first"), out)
    shutil.copytree(proposed.with_name(proposed.name + ".work"), out.with_name(out.name + ".work"))
    return out


def truth(demo: Path, number: int) -> dict[str, Any]:
    """A truth file as `score` reads it."""
    known = json.loads((demo / "truth" / f"compilation_{number}.json").read_text())
    annotated = read_annotations(demo / "annotations").clips
    rows = annotated[annotated.compilation_id == number].sort_values("start_s")
    clips = [
        {"start_s": r.start_s, "end_s": r.end_s, "song": str(r.song_id), "n_dancers": r.n_dancers}
        for r in rows.itertuples()
    ]
    starts = [clip["start_s"] for clip in clips]
    return {
        "fps": PARAMS.fps,
        "duration_s": known["duration_s"] if "duration_s" in known else clips[-1]["end_s"],
        "clips": clips,
        "transitions": [{"at_s": start} for start in starts],
        "non_clips": [{"start_s": 0.0, "end_s": starts[0]}],
    }


def test_cuts_cards_and_songs_of_rendered_compilations(demo: Path, proposed: Path) -> None:
    proposals = read_proposals(proposed)
    everything: list[KnownClip] = []
    known: list[KnownClip] = []
    for number in range(2):
        found = proposed_clips(proposals, number)
        result = score(found, truth(demo, number))
        assert result["cuts"]["precision"] == result["cuts"]["recall"] == 1.0
        assert result["cards_taken_for_clips"] == 0
        everything += [KnownClip(c.start_s + 1e5 * number, c.end_s + 1e5 * number, c.song) for c in found]
        known += [
            KnownClip(c["start_s"] + 1e5 * number, c["end_s"] + 1e5 * number, c["song"])
            for c in truth(demo, number)["clips"]
        ]
    assert list(proposals.rejected.kind) == ["title_card", "title_card"]
    pairs = pair_agreement(everything, known, match_clips(everything, known))
    assert pairs.f1 == 1.0
    assert pairs.right > 3


def test_every_value_has_a_confidence_and_a_reason(proposed: Path) -> None:
    table = read_proposals(proposed).proposals
    assert len(table) == 8
    for name in ("start", "end", "song"):
        assert table[f"{name}_confidence"].between(0, 1).all()
        assert (table[f"{name}_reason"].str.len() > 10).all()
    assert table.dancers_confidence.isna().all()
    assert table.review.isna().all()


def test_a_folder_grows_and_nothing_moves(demo: Path, proposed: Path) -> None:
    first = read_proposals(proposed.with_name("first"))
    both = read_proposals(proposed)
    # One more video only adds lines: every line that was there is there still, in its place.
    for name in ("compilations", "clips", "songs", "proposals", "rejected", "candidates"):
        old = (first.root / f"{name}.csv").read_text().splitlines()
        assert (both.root / f"{name}.csv").read_text().splitlines()[: len(old)] == old
    assert list(both.annotations.compilations.file) == ["compilation_0.mp4", "compilation_1.mp4"]
    assert sorted(both.clips.clip_id) == list(range(8))
    assert set(read_sources(proposed)) == {0, 1}
    revision = revision_of(proposed)
    again = propose([demo / "media"], proposed, dancers=False)
    assert (again.new, again.known) == ({}, (0, 1))
    assert revision_of(proposed) == revision


def test_what_a_person_said_stays(demo: Path, proposed: Path, tmp_path: Path) -> None:
    out = first_again(proposed, tmp_path / "p")
    before = read_proposals(out)
    clips = before.clips.copy()
    clips.loc[0, "start_s"] += 0.2
    clips.loc[0, "song_id"] = 77
    songs = before.annotations.songs.copy()
    songs.loc[len(songs), "song_id"] = 77
    table = before.proposals.copy()
    table.loc[0, "review"] = "mended"
    kept = write_proposals(before.with_tables(clips=clips, songs=songs, proposals=table))
    propose([demo / "media" / "compilation_1.mp4"], out, dancers=False)
    after = read_proposals(out)
    assert after.clips.iloc[0].to_dict() == kept.clips.iloc[0].to_dict()
    assert after.proposals.review[0] == "mended"
    assert set(after.annotations.songs.song_id) >= {77}


@pytest.mark.slow
def test_the_command_counts_dancers_and_its_folder_builds(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    command = [sys.executable, "-m", "tiktok_dm"]
    one = demo / "media" / "compilation_0.mp4"
    done = subprocess.run(
        [*command, "propose", str(one), "--out", str(out), "--workers", "2", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == {"0": 4}
    right = score(proposed_clips(read_proposals(out), 0), truth(demo, 0))
    assert (right["dancers_right"], right["dancers_known"]) == (4, 4)
    checked = subprocess.run([*command, "annotations", "check", str(out)], capture_output=True, text=True)
    assert checked.returncode == 0
    assert "no problems" in checked.stdout


# ------------------------------------------------------------------------------------------- bad input


def tone_film(path: Path, kind: str, seconds: float = 4.0) -> Path:
    """A film of 160 x 96 px at 25 fps: `black` with a tone, or `shot`, one moving pattern without a sound track."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (24, 100, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    n = round(seconds * 25)
    frames = [base[:, k : k + 160].copy() if kind == "shot" else np.zeros((96, 160, 3), np.uint8) for k in range(n)]
    heard = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 48_000)) / 48_000)
    return film(path, frames, *constant(n, Fraction(25)), sound=None if kind == "shot" else heard[:, None].astype("f4"))


def test_one_bad_video_does_not_stop_the_others(demo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video")
    done = propose([demo / "media" / "compilation_0.mp4", bad], tmp_path / "p", dancers=False)
    assert done.new == {0: 4}
    assert list(done.failed) == ["bad.mp4"]
    assert "bad.mp4" in done.failed["bad.mp4"]


def test_nothing_to_propose_is_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video")
    with pytest.raises(UserError, match=r"bad\.mp4"):
        propose([bad], tmp_path / "p", dancers=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no video"):
        propose([tmp_path / "empty"], tmp_path / "p", dancers=False)
    assert not (tmp_path / "p").exists()


def test_a_folder_that_cannot_be_is_told_before_the_work(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    video = demo / "media" / "compilation_0.mp4"
    with pytest.raises(UserError, match="file is a file: give a folder"):
        propose([video], tmp_path / "file", dancers=False)
    with pytest.raises(UserError, match=r"file/p\.work cannot be made \(Not a directory\): give a place"):
        propose([video], tmp_path / "file" / "p", dancers=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match="have one name"):
        propose([tmp_path / "a" / "x.mp4", tmp_path / "b" / "x.mp4"], tmp_path / "p", dancers=False)


def test_a_black_video_is_told_and_a_silent_one_gets_songs_of_its_own(demo: Path, tmp_path: Path) -> None:
    black = tone_film(tmp_path / "black.mp4", "black")
    with pytest.raises(UserError, match=r"black\.mp4 holds nothing that could be a clip: its picture is black through"):
        propose([black], tmp_path / "p", dancers=False)
    # The demo's first film without its sound: four clips, and nothing to say which share a song.
    mute = tmp_path / "mute.mp4"
    _without_sound(demo / "media" / "compilation_0.mp4", mute)
    done = propose([mute, black], tmp_path / "p", dancers=False)
    assert done.new == {0: 4}
    assert list(done.failed) == ["black.mp4"]
    assert done.notes == ("mute.mp4 has no sound: each of its clips got a song of its own",)
    proposals = read_proposals(tmp_path / "p")
    assert sorted(proposals.clips.song_id) == [0, 1, 2, 3]
    assert (proposals.proposals.song_confidence == 0).all()


def test_a_video_without_cuts_is_one_clip(demo: Path, tmp_path: Path) -> None:
    known = truth(demo, 0)["clips"][1]
    alone = media.cut(demo / "media" / "compilation_0.mp4", known["start_s"], known["end_s"], tmp_path / "alone.mp4")
    done = propose([tmp_path / "alone.mp4"], tmp_path / "p", dancers=False)
    clips = read_proposals(tmp_path / "p").clips
    assert done.new == {0: 1}
    assert (clips.start_s[0], clips.end_s[0]) == (0.0, pytest.approx(alone.duration_s, abs=0.001))


def test_a_video_in_which_nobody_dances_is_told(tmp_path: Path) -> None:
    shot = tone_film(tmp_path / "shot.mp4", "shot")
    with pytest.raises(UserError, match=r"shot\.mp4 holds nothing that could be a clip: all of it is card"):
        propose([shot], tmp_path / "p", dancers=False)


def test_a_folder_that_was_edited_by_hand_meanwhile(
    demo: Path, proposed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = first_again(proposed, tmp_path / "p")
    from tiktok_dm.curate import song_groups as module

    group = module.group_songs

    def slow(*args: Any, **kwargs: Any) -> Any:
        text = (out / "clips.csv").read_text()
        (out / "clips.csv").write_text(text.replace("0,0,0,", "0,0,1,", 1))
        return group(*args, **kwargs)

    monkeypatch.setattr(module, "group_songs", slow)
    with pytest.raises(UserError, match="changed by someone else since it was read, so nothing was written"):
        propose([demo / "media" / "compilation_1.mp4"], out, dancers=False)
    assert list(read_proposals(out).annotations.compilations.file) == ["compilation_0.mp4"]
    assert read_proposals(out).clips.song_id[0] == 1


def _without_sound(source: Path, out: Path) -> None:
    import av

    with av.open(str(source)) as read, av.open(str(out), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
