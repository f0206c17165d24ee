"""The audit by ear and eye: planted leaks are found, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from audit_sets import FPS, dance, mirrored, other_take, write_dataset, write_leaks
from truth_annotations import read_truth, song_ids, write_annotations
from typer.testing import CliRunner

from tiktok_dm.annotations.tables import read_annotations
from tiktok_dm.cli.main import app
from tiktok_dm.curate import leak_evidence as audit_evidence
from tiktok_dm.curate.leak_evidence import ClipSource, Evidence, evidence_of, listen, picture_track, sources_of_media
from tiktok_dm.curate.leaks import MOVING, STILL, SoundAudit, audit_sound, compare, same_pictures
from tiktok_dm.errors import UserError


@pytest.fixture(scope="module")
def leaks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_leaks(tmp_path_factory.mktemp("leaks"))


@pytest.fixture(scope="module")
def audit(leaks: Path) -> SoundAudit:
    return audit_sound(read_annotations(leaks / "annotations"), media=leaks / "media")


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, UserError):
        return 1, str(done.exception)
    return done.exit_code, done.output


# ------------------------------------------------------------------------------------------- planted leaks

ACROSS = [
    ("near_duplicate_across_splits", "error", (0, 1), (0, 1)),
    ("near_duplicate_across_splits", "error", (2, 3), (2, 3)),
    ("clip_twice_across_splits", "error", (2, 3), (2, 3)),
]
WITHIN = [("clip_twice_within_split", "warning", (5,), (7, 8))]


def shape(findings) -> list[tuple]:
    return [(f.kind, f.severity, f.song_ids, f.clip_ids) for f in findings]


def test_the_planted_leaks_are_found_and_nothing_else(audit):
    kinds = shape(audit.findings)
    # The two pairs of songs are ordered by likeness, which is 1.00 for both.
    assert sorted(kinds[:2]) == ACROSS[:2]
    assert kinds[2:] == [ACROSS[2], *WITHIN]
    assert [pair[:2] for pair in audit.songs] == [(0, 1), (2, 3)]
    assert all(confidence > 0.9 for *_, confidence in audit.songs)


def test_a_clip_twice_is_told_from_two_dances_to_one_stretch(audit):
    (again, darker) = audit.twice
    assert (again.clips, again.mirrored) == ((2, 3), True)
    assert again.speed == pytest.approx(1, abs=0.01)
    assert again.share > 0.9
    assert (darker.clips, darker.mirrored, darker.share) == ((7, 8), False, pytest.approx(1, abs=0.02))
    # Clips 4 (dance 3), 5 (dance 4) and 6 (another dance in clip 4's room) have one stretch of one song.
    assert not {4, 5, 6} & {clip for pair in audit.twice for clip in pair.clips}


def test_the_findings_say_what_to_do(audit):
    messages = {finding.kind: finding.message for finding in audit.findings}
    assert messages["near_duplicate_across_splits"].startswith("songs ")
    assert messages["near_duplicate_across_splits"].endswith(
        "sound the same (similarity 1.00) and are in train and test: give them one id, or one split"
    )
    assert messages["clip_twice_across_splits"].startswith("clips 2 and 3 are one clip (")
    assert messages["clip_twice_across_splits"].endswith(
        " alike, mirrored) and are in train and test: remove one of them, or give their songs one split"
    )
    assert messages["clip_twice_within_split"].endswith(" alike): remove one of them")


def test_what_could_not_be_heard_is_named_and_the_rest_is_compared(leaks, audit):
    assert audit.heard == 10
    assert audit.not_heard == {
        f"{leaks / 'media' / '10.mp4'} has no sound: give a file with an audio track": (10,),
        f"no file of compilation 11 is in {leaks / 'media'}": (11,),
        "silence": (9,),
    }
    assert audit.notes[-1] == "clip 9 not compared: silence"


def test_the_command_ends_with_1_where_a_leak_crosses_splits(leaks):
    code, text = run("split", leaks / "annotations", "--audit", "--media", leaks / "media", "--json")
    told = json.loads(text)
    assert code == 1
    assert not told["ok"]
    assert [detail["kind"] for detail in told["details"]] == [kind for kind, *_ in [*ACROSS, *WITHIN]]
    assert told["findings"][2].startswith("error: clips 2 and 3 are one clip")
    assert told["heard"] == 10
    assert "clip 9 not compared: silence" in told["notes"]
    # The tables alone show nothing.
    assert run("split", leaks / "annotations", "--audit")[0] == 0


def test_within_one_split_it_is_a_warning(leaks, tmp_path):
    shutil.copytree(leaks / "annotations", tmp_path / "mended")
    shutil.copytree(leaks / "annotations.work", tmp_path / "mended.work")
    text = (tmp_path / "mended" / "splits.csv").read_text()
    text = text.replace("1,test", "1,train").replace("2,train", "2,test")
    (tmp_path / "mended" / "splits.csv").write_text(text)
    code, said = run("split", tmp_path / "mended", "--audit", "--media", leaks / "media")
    lines = said.splitlines()
    findings = [line for line in lines if line.startswith(("error", "warning"))]
    assert code == 0
    assert sorted(findings[:2])[0].startswith("warning: songs 0 and 1 sound the same (similarity 1.00) under two ids")
    assert [line.split(" (")[0] for line in findings[2:]] == [
        "warning: clips 2 and 3 are one clip",
        "warning: clips 7 and 8 are one clip",
    ]
    assert lines[-2:] == ["10 of 13 clips compared by sound and picture", "no leak found"]


def test_a_built_dataset_is_audited_alike(leaks, audit, tmp_path):
    dataset = write_dataset(leaks, tmp_path / "dataset", wrong_split=12)
    steps = []
    found = audit_sound(
        read_annotations(leaks / "annotations"), dataset=dataset, progress=lambda *step: steps.append(step)
    )
    kinds = shape(found.findings)
    # Clip 12's song is in test, and the dataset has it in train.
    assert kinds[0] == ("clip_in_two_splits", "error", (7,), (12,))
    assert (sorted(kinds[1:3]), kinds[3:]) == (ACROSS[:2], [ACROSS[2], *WITHIN])
    assert [pair.clips for pair in found.twice] == [(2, 3), (7, 8)]
    assert found.not_heard == {"not in the dataset": (9, 10, 11)}
    assert found.heard == 10
    assert [step[:3] for step in steps] == [(stage, k, 10) for stage in ("clips", "songs") for k in range(1, 11)]


# ------------------------------------------------------------------------------------------- kept for the next time


def test_a_second_audit_decodes_nothing_and_says_the_same(leaks, audit, monkeypatch):
    seen = []
    monkeypatch.setattr(
        audit_evidence, "evidence_of", lambda source: seen.append(source.clip_id) or evidence_of(source)
    )
    again = audit_sound(read_annotations(leaks / "annotations"), media=leaks / "media")
    assert again == audit
    assert seen == [10]  # the one without sound has nothing to keep


def test_a_damaged_or_foreign_kept_file_is_made_again(leaks, tmp_path):
    annotations = read_annotations(leaks / "annotations")
    source = next(sources_of_media(annotations, leaks / "media"))
    first = listen([source], cache=tmp_path)[0]
    (kept,) = tmp_path.glob("*.npz")
    whole = kept.read_bytes()
    for damage in (whole[:200], b"", b"nothing", whole[:-50]):
        kept.write_bytes(damage)
        again = listen([source], cache=tmp_path)[0]
        np.testing.assert_array_equal(again.pictures, first.pictures)
        assert kept.read_bytes() == whole


def test_evidence_is_read_back_as_it_was(leaks):
    found = evidence_of(next(sources_of_media(read_annotations(leaks / "annotations"), leaks / "media")))
    back = Evidence.from_bytes(found.to_bytes())
    np.testing.assert_array_equal(back.pictures, found.pictures)
    np.testing.assert_array_equal(back.music.picture, found.music.picture)
    assert (back.duration_s, back.music.duration_s) == (found.duration_s, found.music.duration_s)
    assert back.pictures.shape == (48, 16, 16)  # 6 s, 8 a second
    assert len(back.to_bytes()) < 40_000


# ------------------------------------------------------------------------------------------- pictures


def track(shown, every: int = 1) -> np.ndarray:
    """At the film's 15 pictures a second, taken for 8."""
    return picture_track(shown[::every])


def test_equal_mirrored_and_shifted_pictures_are_known():
    plain, flipped = track(dance(2)), track(mirrored(dance(2)))
    assert same_pictures(plain, plain, 1.0, 0.0) == (pytest.approx(1), pytest.approx(1), False)
    still, moving, turned = same_pictures(plain, flipped, 1.0, 0.0)
    assert (still, moving, turned) == (pytest.approx(1, abs=0.01), pytest.approx(1, abs=0.01), True)
    # Second 1 of the first lies at second 0 of the other, whose start is missing; the music says so only roughly.
    assert same_pictures(plain, plain[8:], 1.0, -1.0)[:2] == (pytest.approx(1), pytest.approx(1))
    assert same_pictures(plain, plain[8:], 1.0, -0.8)[1] > 0.9
    # Played twice as fast: every other picture.
    assert same_pictures(plain, plain[::2], 2.0, 0.0)[1] > 0.9
    assert same_pictures(plain[::2], plain, 0.5, 0.0)[1] > 0.9


def test_another_dance_is_not_the_same_not_even_in_the_same_room():
    here, elsewhere, take = track(dance(3)), track(dance(4)), track(other_take(3, 1))
    still, moving, _ = same_pictures(here, elsewhere, 1.0, 0.0)
    assert min(still, moving) < 0.4
    still, moving, _ = same_pictures(here, take, 1.0, 0.0)
    assert still > STILL
    assert moving < MOVING - 0.2


def test_too_little_to_compare_is_not_the_same():
    plain = track(dance(2))
    assert same_pictures(plain[:10], plain, 1.0, 0.0) == (-1.0, -1.0, False)
    assert same_pictures(plain, plain, 1.0, 30.0) == (-1.0, -1.0, False)
    assert same_pictures(plain[:0], plain, 1.0, 0.0) == (-1.0, -1.0, False)


def test_pictures_that_do_not_move_are_told_by_what_stands_still():
    one, other = (np.repeat(dance(k)[0][None], 40, axis=0) for k in (2, 3))
    assert same_pictures(track(one), track(one), 1.0, 0.0)[:2] == (pytest.approx(1), pytest.approx(1))
    assert min(same_pictures(track(one), track(other), 1.0, 0.0)[:2]) < STILL
    black = np.zeros((40, 16, 16), np.uint8)
    assert same_pictures(black, black, 1.0, 0.0)[:2] == (0, 0)  # a black film shows nothing


def test_the_track_leaves_black_bars_out_and_forgets_nothing():
    shown = dance(2)
    barred = [np.pad(picture, ((0, 0), (40, 40), (0, 0))) for picture in shown]
    plain = track(shown)
    assert len(track(barred)) == len(shown)
    assert np.abs(track(barred).astype(int) - plain).mean() < 3
    assert picture_track([]).shape == (0, 16, 16)
    # Longer than what is held for the content box at once.
    long = list(shown) * 3
    assert np.array_equal(track(long)[-len(shown) :], track(long)[: len(shown)])
    assert FPS == 15


# ------------------------------------------------------------------------------------------- bad input


def test_what_is_asked_for_must_be_there(leaks, tmp_path):
    annotations = read_annotations(leaks / "annotations")
    with pytest.raises(UserError, match="say where the clips are: --media FOLDER with the compilations, or --dataset"):
        audit_sound(annotations)
    with pytest.raises(UserError, match="say where the clips are"):
        audit_sound(annotations, media=leaks, dataset=leaks)
    with pytest.raises(UserError, match=r"the media folder .*gone does not exist"):
        audit_sound(annotations, media=leaks / "gone")
    with pytest.raises(UserError, match="there is no dataset at"):
        audit_sound(annotations, dataset=leaks / "gone")
    with pytest.raises(UserError, match="has no split to look at"):
        audit_sound(read_annotations(leaks / "annotations", with_splits=False), media=leaks / "media")
    code, text = run("split", leaks / "annotations", "--media", leaks / "media", "--out", tmp_path / "s.csv")
    assert (code, text) == (1, "--media and --dataset belong to --audit: a split is made from the annotations alone")
    assert not (tmp_path / "s.csv").exists()


def test_a_file_that_breaks_off_and_clips_without_times_are_named(leaks, tmp_path):
    shutil.copytree(leaks / "media", tmp_path / "media")
    shutil.copytree(leaks / "annotations", tmp_path / "annotations")
    whole = (tmp_path / "media" / "2.mp4").read_bytes()
    (tmp_path / "media" / "2.mp4").write_bytes(whole[:3000])
    (tmp_path / "media" / "7.mp4").write_bytes(b"")
    clips = tmp_path / "annotations" / "clips.csv"
    clips.write_text(clips.read_text().replace("0,0,0,0,6.0", "0,0,0,,"))
    found = audit_sound(read_annotations(tmp_path / "annotations"), media=tmp_path / "media")
    assert found.heard == 7
    assert found.not_heard["no start or no end"] == (0,)
    assert {clip for ids in found.not_heard.values() for clip in ids} == {0, 2, 7, 9, 10, 11}
    assert found.findings == []


# ------------------------------------------------------------------------------------------- real footage


def test_songs_of_the_real_compilations_are_known_under_any_id(shared_data, tmp_path):
    """Every stretch that two clips share is found, also at 1.02 times the speed, and no two songs are mixed up."""
    clips = write_annotations(shared_data, tmp_path / "annotations")
    sources = sources_of_media(read_annotations(tmp_path / "annotations"), shared_data / "compilations")
    # Sound alone: pictures would take most of the time.
    heard = listen(ClipSource(s.clip_id, s.key, s.sound, lambda: ()) for s in sources)
    assert len(heard) == 20
    truth = read_truth(shared_data)
    first = [0, len(truth[0]["clips"])]
    shared = {
        (first[film] + pair["a"], first[film] + pair["b"]): pair["overlap_song_s"]
        for film in (0, 1)
        for pair in truth[film]["same_song_pairs"]
    }
    every, twice = compare(heard, {clip: clip for clip in heard})
    found = {pair[:2] for pair in every}
    songs = {clip["clip_id"]: clip["song"] for clip in clips}
    assert all(songs[a] == songs[b] for a, b in found)
    assert {pair for pair, overlap in shared.items() if overlap >= 2} <= found
    assert twice == []
    # The second film's songs under ids of their own: the two that are in both films are found, and no other.
    ids = song_ids(truth)
    renamed = {clip["clip_id"]: ids[clip["song"]] + 100 * clip["compilation_id"] for clip in clips}
    pairs, _ = compare(heard, renamed)
    assert [pair[:2] for pair in pairs] == sorted((ids[s], ids[s] + 100) for s in ("vibe_ace", "lets_go_fishing"))


def test_real_footage_is_known_in_another_border_and_mirrored(shared_data, tmp_path):
    """Clips 3 and 15 show the same three dancers, in two borders and two sizes; clip 6 shows others."""
    write_annotations(shared_data, tmp_path / "annotations")
    sources = sources_of_media(read_annotations(tmp_path / "annotations"), shared_data / "compilations")
    tracks = {s.clip_id: picture_track(s.pictures()) for s in sources if s.clip_id in (3, 6, 15)}
    best = max(
        (same_pictures(tracks[3], tracks[15], 1.0, offset) for offset in np.arange(-2, 2.1, 0.75)),
        key=lambda found: min(found[:2]),
    )
    assert min(best[:2]) > 0.85
    other = [min(same_pictures(tracks[3], tracks[6], 1.0, offset)[:2]) for offset in np.arange(-2, 2.1, 0.75)]
    assert max(other) < MOVING - 0.1
