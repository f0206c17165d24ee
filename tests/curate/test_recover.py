"""Released clips found again: in simulated compilations, in the real ones, and what is written of them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.recover_simulation import (
    Damage,
    Extras,
    Stretch,
    annotations_of_truth,
    film_of_truth,
    simulate_films,
    simulate_proposals,
)
from tiktok_dm.annotations.released import released_annotations
from tiktok_dm.annotations.tables import Annotations, read_annotations, write_annotations
from tiktok_dm.curate.proposals import Proposals, empty_proposals, read_proposals, read_sources, write_proposals
from tiktok_dm.curate.recover.driver import recover
from tiktok_dm.curate.recover.evidence import Match, evidence, facts, match_videos
from tiktok_dm.curate.recover.model import AlignmentModel
from tiktok_dm.curate.recover.times import Recovery, recover_times
from tiktok_dm.errors import UserError
from tiktok_dm.schema import whole_segments

Films = dict[int, list[Stretch]]


@pytest.fixture(scope="module")
def released() -> Annotations:
    return released_annotations()


def part(annotations: Annotations, *numbers: int) -> Annotations:
    """Some compilations of a folder."""
    clips, compilations = annotations.clips, annotations.compilations
    clips = clips[clips.compilation_id.isin(numbers)].reset_index(drop=True)
    return replace(
        annotations,
        clips=clips,
        compilations=compilations[compilations.compilation_id.isin(numbers)].reset_index(drop=True),
        songs=annotations.songs[annotations.songs.song_id.isin(clips.song_id)].reset_index(drop=True),
        splits=None,
        lines={},
    )


def truth_of(films: Films) -> dict[int, tuple[float, float]]:
    return {s.clip_id: (s.start_s, s.end_s) for film in films.values() for s in film if s.clip_id is not None}


def found(clips: pd.DataFrame, truth: dict[int, tuple[float, float]]) -> np.ndarray:
    """Per clip, whether both ends are within half a second of the truth."""
    wanted = np.array([truth[clip] for clip in clips.clip_id])
    times = clips[["start_s", "end_s"]].to_numpy(float, na_value=np.inf)
    return (np.abs(times - wanted) <= 0.5 + 1e-9).all(axis=1)


def same_ids(annotations: Annotations) -> list[Match]:
    return [Match(int(n), int(n), "", "told") for n in annotations.compilations.compilation_id]


def proposed_in_order(proposals: Proposals, annotations: Annotations) -> pd.DataFrame:
    """The plain way: the i-th proposed clip is the i-th known one."""
    clips = annotations.clips.copy()
    for number, rows in clips.groupby("compilation_id"):
        mine = proposals.clips[proposals.clips.compilation_id == number].sort_values("start_s")
        k = min(len(rows), len(mine))
        clips.loc[rows.index[:k], ["start_s", "end_s"]] = mine[["start_s", "end_s"]].to_numpy()[:k]
    return clips


# ------------------------------------------------------------------------------------------- the simulation


def test_simulated_films_hold_the_released_clips(released: Annotations) -> None:
    films = simulate_films(released, np.random.default_rng(0))
    clips = released.clips.set_index("clip_id")
    for number, film in films.items():
        assert film[0].start_s == 0
        assert all(a.end_s == b.start_s for a, b in pairwise(film))
        ids = [s.clip_id for s in film if s.clip_id is not None]
        assert ids == sorted(clips.index[clips.compilation_id == number])
        for s in film:
            if s.clip_id is not None:
                assert whole_segments(s.end_s - s.start_s) == clips.released_segments[s.clip_id]
                assert s.song == clips.song_id[s.clip_id]
    others = [s for film in films.values() for s in film if s.clip_id is None]
    assert {s.is_card for s in others} == {True, False}


def test_damage_errs_at_its_rates(released: Annotations) -> None:
    rng = np.random.default_rng(1)
    films = simulate_films(released, rng, Extras(edge_card=0, card=0, left_out=0))
    told = simulate_proposals(films, Damage(missed=0.2, false_cuts=0.1, rejected=0.1, crossfade=0.0), rng)
    hit = n_true = n_false = 0
    for number, film in films.items():
        used = told.candidates[(told.candidates.compilation_id == number) & (told.candidates.used == "yes")].at_s
        true = np.array([s.start_s for s in film[1:]])
        away = np.abs(used.to_numpy(float)[:, None] - true).min(axis=0)
        hit, n_true = hit + int((away < 0.1).sum()), n_true + len(true)
        n_false += int((np.abs(used.to_numpy(float)[1:-1, None] - true).min(axis=1) >= 0.1).sum())
    # 430 cuts: three binomial deviations are 0.06 and 0.045.
    assert hit / n_true == pytest.approx(0.8, abs=0.06)
    assert n_false / n_true == pytest.approx(0.1, abs=0.045)
    assert len(told.rejected) / (len(told.rejected) + len(told.clips)) == pytest.approx(0.1, abs=0.045)


def test_undamaged_proposals_are_the_truth_to_two_frames(released: Annotations) -> None:
    rng = np.random.default_rng(2)
    some = part(released, 10)
    films = simulate_films(some, rng, Extras(edge_card=0, card=0, left_out=0))
    told = simulate_proposals(films, Damage(crossfade=0, weak=0), rng)
    wanted = np.array(sorted(truth_of(films).values()))
    assert (
        np.abs(np.sort(told.clips[["start_s", "end_s"]].to_numpy(float), axis=0) - np.sort(wanted, axis=0)).max() < 0.07
    )
    pairs = set(zip(some.clips.song_id, told.clips.song_id, strict=True))
    assert len(pairs) == some.clips.song_id.nunique() == told.clips.song_id.nunique()


# ------------------------------------------------------------------------------------------- how many are found


def recovered(annotations: Annotations, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each clip was found, its confidence, and whether the plain way finds it."""
    rng = np.random.default_rng(seed)
    films = simulate_films(annotations, rng)
    told = simulate_proposals(films, Damage.at(rate), rng)
    got = recover_times(annotations, told, same_ids(annotations), least_confidence=0.0)
    sure = np.array([got.confidence[clip] for clip in annotations.clips.clip_id])
    right = truth_of(films)
    return found(got.proposals.clips, right), sure, found(proposed_in_order(told, annotations), right)


def test_all_445_are_found_where_the_cuts_are_right(released: Annotations) -> None:
    right, sure, plain = recovered(released, 0.0, seed=3)
    assert len(right) == 445
    assert right.mean() >= 0.97
    assert right[sure >= 0.9].mean() >= 0.99
    assert plain.mean() < 0.9  # cards and clips that the list leaves out are enough to spoil it


def test_most_are_found_and_confidences_are_true_at_a_tenth_of_errors(released: Annotations) -> None:
    right, sure, plain = recovered(released, 0.1, seed=4)
    assert right.mean() >= 0.9
    assert plain.mean() < 0.6
    assert abs(right.mean() - sure.mean()) < 0.03
    assert right[sure >= 0.95].mean() >= 0.97
    doubtful = sure < 0.8
    assert doubtful.sum() >= 15
    assert abs(right[doubtful].mean() - sure[doubtful].mean()) < 0.2


def test_songs_help_where_several_are_danced_to(released: Annotations) -> None:
    some = part(released, 10)
    # Nothing is told of the lengths here, so that order and songs must do.
    some = replace(some, clips=some.clips.assign(released_segments=pd.array([pd.NA] * len(some.clips), "Int64")))
    rng = np.random.default_rng(5)
    films = simulate_films(part(released, 10), rng, Extras(left_out=0.1))
    told = simulate_proposals(films, Damage(missed=0.03, false_cuts=0.03, songs=0.05), rng)
    shares = [
        found(
            recover_times(some, told, same_ids(some), model=model, least_confidence=0).proposals.clips, truth_of(films)
        )
        for model in (AlignmentModel(grid_s=0.5), AlignmentModel(grid_s=0.5, songs=False))
    ]
    assert shares[0].mean() > shares[1].mean() + 0.2
    assert shares[0].mean() > 0.7


# ------------------------------------------------------------------------------------------- what comes out


@pytest.fixture(scope="module")
def small(released: Annotations) -> tuple[Annotations, Films, Proposals]:
    annotations = part(released, 7, 8, 11)
    rng = np.random.default_rng(6)
    films = simulate_films(annotations, rng)
    return annotations, films, simulate_proposals(films, Damage.at(0.08), rng)


@pytest.fixture(scope="module")
def got(small: tuple[Annotations, Films, Proposals]) -> Recovery:
    annotations, _, told = small
    return recover_times(annotations, told, same_ids(annotations))


def test_ids_facts_and_order_stay(small: tuple[Annotations, Films, Proposals], got: Recovery) -> None:
    annotations, _, _ = small
    before, after = annotations.clips, got.proposals.clips
    for name in ("clip_id", "compilation_id", "song_id", "released_segments"):
        assert after[name].tolist() == before[name].tolist()
    assert before.start_s.isna().all()  # what went in is as it was
    for number in (7, 8, 11):
        times = after[after.compilation_id == number][["start_s", "end_s"]].dropna().to_numpy(float).ravel()
        assert (np.diff(times) >= 0).all()
    for row in after.itertuples():
        missing = any(item.clip_id == row.clip_id for item in got.unmatched)
        assert pd.isna(row.start_s) == pd.isna(row.end_s) == missing
        assert pd.isna(row.start_s) or got.confidence[row.clip_id] >= 0.2
    assert set(got.proposals.proposals.clip_id) == set(after.clip_id[after.start_s.notna()])
    assert after.n_dancers[after.start_s.notna()].eq(1).sum() > 50  # as counted in the proposals


def test_every_instant_of_the_video_is_accounted_for(
    small: tuple[Annotations, Films, Proposals], got: Recovery
) -> None:
    for number, film in small[1].items():
        clips = got.proposals.clips[got.proposals.clips.compilation_id == number].dropna(subset=["start_s"])
        gaps = got.proposals.rejected[got.proposals.rejected.compilation_id == number]
        spans = sorted([*zip(clips.start_s, clips.end_s, strict=True), *zip(gaps.start_s, gaps.end_s, strict=True)])
        at = 0.0
        for start, end in spans:
            assert -1e-3 <= start - at <= 0.5
            at = end
        assert film[-1].end_s - at <= 0.5
        assert set(gaps.kind) <= {"card", "rejected"}


def test_used_candidates_are_the_boundaries(small: tuple[Annotations, Films, Proposals], got: Recovery) -> None:
    tables = got.proposals
    assert len(tables.candidates) == len(small[2].candidates)
    used = tables.candidates[tables.candidates.used == "yes"]
    reasons = tables.proposals.set_index("clip_id").start_reason
    for row in tables.clips.dropna(subset=["start_s"]).itertuples():
        here = used[(used.compilation_id == row.compilation_id) & ((used.at_s - row.start_s).abs() < 0.021)]
        assert len(here) == (0 if "no cut was proposed" in reasons[row.clip_id] else 1)


def test_given_times_stay_to_the_last_digit(small: tuple[Annotations, Films, Proposals]) -> None:
    annotations, films, told = small
    annotations = part(annotations, 8)
    truth = truth_of(films)
    clips = annotations.clips.copy()
    row = int(clips.index[clips.compilation_id == 8][9])
    given = (round(truth[clips.clip_id[row]][0] + 0.0123456, 7), round(truth[clips.clip_id[row]][1] - 0.25, 7))
    clips.loc[row, ["start_s", "end_s"]] = given
    got = recover_times(replace(annotations, clips=clips), told, same_ids(annotations))
    assert tuple(got.proposals.clips.loc[row, ["start_s", "end_s"]]) == given
    assert got.confidence[clips.clip_id[row]] == 1.0
    clips.loc[row + 1, ["start_s", "end_s"]] = (1.0, 5.0)
    with pytest.raises(UserError, match="compilation 8: the times that the annotations already have do not follow"):
        recover_times(replace(annotations, clips=clips), told, same_ids(annotations))


def test_a_compilation_without_video_is_listed_clip_by_clip(small: tuple[Annotations, Films, Proposals]) -> None:
    annotations, _, told = small
    got = recover_times(annotations, told, same_ids(annotations)[:2])
    lost = [item for item in got.unmatched if item.reason == "compilation 11 has no video here"]
    assert [item.clip_id for item in lost] == annotations.clips.clip_id[annotations.clips.compilation_id == 11].tolist()
    assert got.unmatched[-1].reason == "000011.mp4 is none of the compilations"
    assert got.summary()["compilations_with_video"] == 2


# ------------------------------------------------------------------------------------------- which video is which


def renumbered(told: Proposals, ids: dict[int, int], files: dict[int, str | None]) -> Proposals:
    tables = {}
    for name in ("compilations", "clips", "candidates", "rejected"):
        frame = told.table(name)
        frame = frame[frame.compilation_id.isin(list(ids))]
        tables[name] = frame.assign(compilation_id=frame.compilation_id.map(ids))
    tables["compilations"] = tables["compilations"].assign(
        file=tables["compilations"].compilation_id.map(files), sha256=None
    )
    kept = set(tables["clips"].clip_id)
    tables["proposals"] = told.proposals[told.proposals.clip_id.isin(kept)]
    pairs = told.same_songs
    tables["same_songs"] = pairs[pairs.clip_a.isin(kept) & pairs.clip_b.isin(kept)]
    tables["songs"] = told.annotations.songs
    return empty_proposals("renumbered").with_tables(**tables)


def test_names_say_which_video_is_which(released: Annotations, small: tuple[Annotations, Films, Proposals]) -> None:
    annotations, _, told = small
    other = renumbered(told, {7: 3, 8: 7, 11: 8}, {3: "000007.mkv", 7: "my film.mp4", 8: "compilation_11.webm"})
    compilations = annotations.compilations.assign(file=["", "my film.mp4", ""]).replace({"file": {"": None}})
    known = replace(annotations, compilations=compilations)
    got = match_videos(known, other)
    assert [(m.compilation_id, m.proposed_id, m.how) for m in got] == [
        (7, 3, "by its name"),
        (8, 7, "by its name"),
        (11, 8, "by its name"),
    ]
    twice = renumbered(told, {7: 0, 8: 1}, {0: "7.mp4", 1: "000007.mp4"})
    with pytest.raises(UserError, match=r"7.mp4 and 000007.mp4 could all be compilation 7: leave one of them there"):
        match_videos(known, twice)
    checked = other.annotations.compilations.assign(sha256=["a" * 64, "b" * 64, "c" * 64])
    swapped = replace(known, compilations=compilations.assign(sha256=["c" * 64, None, "a" * 64]))
    by_sum = match_videos(swapped, other.with_tables(compilations=checked))
    assert [(m.compilation_id, m.proposed_id, m.how) for m in by_sum] == [
        (7, 8, "by its checksum"),
        (8, 7, "by its name"),
        (11, 3, "by its checksum"),
    ]


def test_videos_without_names_are_told_apart_by_their_clips(released: Annotations) -> None:
    rng = np.random.default_rng(7)
    # 4, 5, 6, 12 and 13 are much alike: one song each, 24 to 29 clips of 3 to 7 segments.
    films = simulate_films(part(released, 4, 5, 6, 9, 12, 13), rng)
    told = simulate_proposals(films, Damage.at(0.1), rng)
    ids = {4: 2, 5: 0, 6: 1, 9: 5, 12: 3, 13: 4}
    other = renumbered(told, ids, {i: f"{name}.mp4" for i, name in enumerate("uvwxyz")})
    assert {m.compilation_id: m.proposed_id for m in match_videos(part(released, 4, 5, 6, 9, 12, 13), other)} == ids
    fewer = match_videos(part(released, 4, 6, 9), other)
    assert {m.compilation_id: m.proposed_id for m in fewer} == {4: 2, 6: 1, 9: 5}


# ------------------------------------------------------------------------------------------- evidence


def test_what_a_person_said_outweighs_what_was_proposed() -> None:
    told = empty_proposals("told").with_tables(
        compilations=pd.DataFrame({"compilation_id": [0]}),
        songs=pd.DataFrame({"song_id": [0, 1]}),
        clips=pd.DataFrame(
            {
                "clip_id": [0, 1, 2],
                "compilation_id": 0,
                "song_id": [0, 1, 1],
                "start_s": [0.0, 10.0, 20.0],
                "end_s": [10.0, 20.0, 28.0],
                "n_dancers": [1, 2, None],
            }
        ),
        proposals=pd.DataFrame(
            {
                "clip_id": [0, 1, 2],
                "start_confidence": [0.9, 0.6, 0.7],
                "end_confidence": [0.6, 0.7, 0.65],
                "song_confidence": [0.9, 0.5, None],
                "review": ["mended", None, None],
            }
        ),
        rejected=pd.DataFrame({"compilation_id": [0], "start_s": [28.0], "end_s": [30.0], "confidence": [0.9]}),
        candidates=pd.DataFrame(
            {
                "compilation_id": 0,
                "at_s": [0.0, 9.9, 20.1, 25.0, 30.0],
                "kind": ["start", "hard_cut", "hard_cut", "flash", "end"],
                "confidence": [0.9, 0.6, 0.7, 0.1, 0.9],
                "used": ["yes", "yes", "yes", "no", "yes"],
            }
        ),
        same_songs=pd.DataFrame(
            {
                "clip_a": [0, 0, 1],
                "clip_b": [1, 2, 2],
                "confidence": [0.4, 0.3, 0.8],
                "answer": ["different", None, "same"],
            }
        ),
    )
    seen = evidence(told, 0)
    assert seen.duration_s == 30.0
    assert list(zip(seen.candidate_s, seen.candidate_confidence, strict=True)) == [
        (0.0, 0.995),
        (9.9, 0.6),
        (10.0, 0.995),
        (20.1, 0.7),
        (25.0, 0.1),
        (28.0, 0.65),  # no candidate is near this end
        (30.0, 0.9),  # nor, but for the video's own, near this one
    ]
    assert seen.stretch_song_confidence.tolist() == [1.0, 0.5, 0.8]
    assert seen.stretch_dancers.tolist() == [1, 2, 0]
    assert seen.rejected_s.tolist() == [[28.0, 30.0]]
    assert seen.same_song.tolist() == [[0, 1, 0.0], [0, 2, 0.3], [1, 2, 1.0]]
    assert evidence(told, 0, 31.5).duration_s == 31.5


def test_facts_come_in_the_order_of_ids(released: Annotations) -> None:
    ids, known = facts(replace(released, clips=released.clips[::-1]), 0)
    assert ids == list(range(21))
    assert [fact.segments for fact in known][:4] == [14, 14, 13, 14]
    assert {fact.song for fact in known} == {0}
    assert known[0].start_s is None
    assert known[0].n_dancers == 0


# ------------------------------------------------------------------------------------------- files


def digests(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_recover_writes_a_folder_that_everything_reads(
    small: tuple[Annotations, Films, Proposals], tmp_path: Path
) -> None:
    annotations, films, told = small
    given = tmp_path / "given"
    write_annotations(annotations, given)
    proposed = tmp_path / "proposed"
    write_proposals(replace(told, annotations=replace(told.annotations, root=proposed)))
    before = digests(given), digests(proposed)
    out = tmp_path / "out"
    got = recover(None, out, proposals=proposed, annotations=given)
    assert (digests(given), digests(proposed)) == before
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".work")) == [
        "given",
        "out",
        "proposed",
    ]
    read = read_proposals(out)
    assert read.clips.clip_id.tolist() == annotations.clips.clip_id.tolist()
    assert found(read.clips, truth_of(films)).mean() > 0.85
    assert read.annotations.compilations.file.tolist() == ["000007.mp4", "000008.mp4", "000011.mp4"]
    with (out / "recovered.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["clip_id"]) for row in rows] == annotations.clips.clip_id.tolist()
    assert [float(row["confidence"]) for row in rows] == [got.confidence[int(row["clip_id"])] for row in rows]
    assert sum(bool(row["start_s"]) for row in rows) == got.summary()["recovered"]
    with (out / "unmatched.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(got.unmatched)
    words = (out / "README.md").read_text(encoding="utf-8")
    assert f"{got.summary()['recovered']} of 79 clips have times" in words
    again = recover(None, tmp_path / "again", proposals=proposed, annotations=given)
    assert again.confidence == got.confidence
    assert digests(tmp_path / "again") == digests(out)
    with pytest.raises(UserError, match="is not empty: give --out a new folder"):
        recover(None, out, proposals=proposed, annotations=given)


def test_the_released_clips_are_the_default_and_stay_untouched(released: Annotations, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    told = simulate_proposals(simulate_films(part(released, 6), rng), Damage(), rng)
    write_proposals(replace(told, annotations=replace(told.annotations, root=tmp_path / "proposed")))
    before = digests(released.root)
    got = recover(None, tmp_path / "out", proposals=tmp_path / "proposed")
    assert digests(released.root) == before
    assert got.summary()["clips"] == 445
    assert got.summary()["recovered"] == 25
    out = read_annotations(tmp_path / "out")
    assert out.name == released.name
    assert out.splits is not None
    assert released.splits is not None
    assert out.splits.equals(released.splits)
    assert out.clips.start_s.notna().sum() == 25


def test_what_is_missing_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder: give --media"):
        recover(tmp_path / "none", tmp_path / "out")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "notes.txt").write_text("no video")
    with pytest.raises(UserError, match="holds no video: give --media"):
        recover(tmp_path / "media", tmp_path / "out")
    with pytest.raises(UserError, match="there is nothing to align"):
        recover(None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------- the real compilations


def truths(shared_data: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((shared_data / "compilations").glob("*.truth.json"))]


def test_the_real_lists_are_found_in_damaged_truth(shared_data: Path) -> None:
    told = truths(shared_data)
    annotations, films = annotations_of_truth(told), film_of_truth(told)
    assert annotations.clips.released_segments.tolist()[:4] == [4, 4, 4, 5]
    shares = {}
    for rate in (0.0, 0.1):
        right = []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            proposals = simulate_proposals(films, Damage.at(rate), rng)
            got = recover_times(annotations, proposals, match_videos(annotations, proposals), least_confidence=0)
            right.append(found(got.proposals.clips, truth_of(films)).mean())
        shares[rate] = np.mean(right)
    assert shares[0.0] >= 0.97
    assert shares[0.1] >= 0.88


def test_a_real_list_is_found_in_its_video(shared_data: Path, tmp_path: Path) -> None:
    """From a film whose name tells nothing, and two lists, to times: by the proposer that this project has."""
    from tiktok_dm.curate.propose import propose

    told = truths(shared_data)
    media = tmp_path / "media"
    media.mkdir()
    shutil.copy(shared_data / "compilations" / told[1]["file"], media / "my film.mp4")
    write_annotations(annotations_of_truth(told), tmp_path / "known")

    def propose_cuts_and_songs(videos: Sequence[Path], out: Path) -> None:
        propose(videos, out, dancers=False)

    got = recover(media, tmp_path / "out", annotations=tmp_path / "known", propose=propose_cuts_and_songs)
    assert [(m.compilation_id, m.file) for m in got.matches] == [(1, "my film.mp4")]
    assert "its clips fit best" in got.matches[0].how
    clips = got.proposals.clips
    assert clips.start_s[clips.compilation_id == 0].isna().all()
    mine = clips[clips.compilation_id == 1]
    assert found(mine, truth_of(film_of_truth(told))).sum() >= 8  # of 9
    cards = [item for item in got.unmatched if item.clip_id is None]
    for card in told[1]["non_clips"]:
        assert any(
            abs(item.start_s - card["start_s"]) < 0.5 and abs(item.end_s - card["end_s"]) < 0.5 for item in cards
        )
    assert read_sources(tmp_path / "out") == {1: media / "my film.mp4"}
