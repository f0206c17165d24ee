"""Edits of the review: what they do to the tables, and what no sequence of them can break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from review_factory import frames, tables

from tiktok_dm.curate.proposals import Ids, Proposals, next_ids, read_proposals, write_proposals
from tiktok_dm.curate.review import edits
from tiktok_dm.curate.review.assets import FrameTimes
from tiktok_dm.curate.review.draft import Refused
from tiktok_dm.curate.review.edits import SplitNeeded
from tiktok_dm.curate.review.session import History, Step, page_state

TIMES = frames(60.0)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Proposals:
    """Clips 0 and 1 touch at 10 s, clip 2 follows after a rejected stretch; clips 3 and 4 are in another video."""
    return tables(
        tmp_path_factory.mktemp("review") / "p",
        [
            (0, 0, 0, 2.0, 10.0, 1),
            (1, 0, 1, 10.0, 20.0, 2),
            (2, 0, 0, 22.0, 30.0, None),
            (3, 1, 1, 0.0, 10.0, 1),
            (4, 1, 2, 12.0, 20.0, 3),
        ],
        rejected=[(0, 0.0, 2.0, "title_card"), (0, 20.0, 22.0, "card"), (1, 10.0, 12.0, "black")],
        pairs=[(0, 2, 0.9, 1.25, 3.0), (1, 3, 0.8, 1.0, -1.0), (0, 1, 0.4, 1.0, 0.0), (3, 4, 0.3, 1.0, 0.0)],
        candidates=[(0, 10.01, "hard_cut", 0.9, "yes"), (0, 15.0, "flash", 0.2, "no"), (1, 10.0, "fade", 0.5, "yes")],
    )


def clip(proposals: Proposals, clip_id: int) -> dict[str, Any]:
    (row,) = proposals.clips[proposals.clips.clip_id == clip_id].to_dict("records")
    return row


def said(proposals: Proposals, clip_id: int) -> dict[str, Any]:
    frame = proposals.proposals
    (row,) = frame[frame.clip_id == clip_id].astype(object).where(frame.notna(), None).to_dict("records")
    return row


def pair(proposals: Proposals, a: int, b: int) -> dict[str, Any]:
    frame = proposals.same_songs
    chosen = frame[(frame.clip_a == a) & (frame.clip_b == b)].astype(object)
    (row,) = chosen.where(chosen.notna(), None).to_dict("records")
    return row


def rejected(proposals: Proposals) -> list[tuple[int, float, float, str]]:
    frame = proposals.rejected
    return list(zip(frame.compilation_id, frame.start_s, frame.end_s, frame.kind, strict=True))


def ids(proposals: Proposals) -> Ids:
    return next_ids(proposals)


def test_accepting_changes_nothing_but_the_mark(before: Proposals) -> None:
    edit = edits.accept(before, 1)
    assert edit.what == "Clip 1 accepted"
    assert said(edit.proposals, 1) == said(before, 1) | {"review": "accepted"}
    for table in ("clips", "songs", "rejected", "same_songs", "candidates"):
        assert edit.proposals.table(table).equals(before.table(table))
    mended = edits.set_dancers(edit.proposals, 1, 3).proposals
    assert said(edits.accept(mended, 1).proposals, 1)["review"] == "mended"


def test_a_cut_between_touching_clips_moves_both_edges(before: Proposals) -> None:
    after = edits.nudge(before, 1, "start", 2, TIMES).proposals
    assert (clip(after, 1)["start_s"], clip(after, 0)["end_s"]) == (10.066667, 10.066667)
    assert said(after, 1)["start_confidence"] == said(after, 0)["end_confidence"] == 1
    assert said(after, 1)["start_reason"] == "set in the review"
    # The neighbour was not looked at: it stays for review.
    assert (said(after, 1)["review"], said(after, 0)["review"]) == ("mended", None)
    back = edits.nudge(after, 0, "end", -2, TIMES).proposals
    assert (clip(back, 1)["start_s"], clip(back, 0)["end_s"]) == (10.0, 10.0)


def test_an_edge_alone_opens_a_gap_but_never_an_overlap(before: Proposals) -> None:
    after = edits.nudge(before, 1, "start", 3, TIMES, alone=True).proposals
    assert (clip(after, 1)["start_s"], clip(after, 0)["end_s"]) == (10.1, 10.0)
    with pytest.raises(Refused, match=r"Clip 0 lasts from 2.00 to 10.00 s: clips may touch but not overlap"):
        edits.nudge(before, 1, "start", -1, TIMES, alone=True)


def test_a_nudge_starts_from_the_nearest_picture_and_lands_on_one(before: Proposals) -> None:
    odd = before.with_tables(clips=before.clips.assign(end_s=before.clips.end_s.replace(30.0, 29.99)))
    assert clip(edits.nudge(odd, 2, "end", 1, TIMES).proposals, 2)["end_s"] == round(30 + 1 / 30, 6)
    uneven = FrameTimes(TIMES.times[[0, 1, 600, 660, 661, 900, 1200]])  # 0, .033, 20, 22, 22.033, 30, 40
    assert clip(edits.nudge(before, 2, "end", 1, uneven).proposals, 2)["end_s"] == 40
    assert clip(edits.nudge(before, 2, "start", 1, uneven).proposals, 2)["start_s"] == 22.033333


@pytest.mark.parametrize(("edge", "index"), [("start", 600), ("start", 700), ("end", 300), ("end", 299)])
def test_a_clip_keeps_at_least_one_picture(before: Proposals, edge: str, index: int) -> None:
    with pytest.raises(Refused, match="Clip 1 would have no picture left"):
        edits.move(before, 1, edge, index, TIMES)
    with pytest.raises(Refused, match="Clip 0 would have no picture left: merge"):
        edits.move(before, 1, "start", 60, TIMES)


def test_nothing_lies_outside_the_video(before: Proposals) -> None:
    with pytest.raises(Refused, match=r"it lasts 30.00 s"):
        edits.nudge(before, 2, "end", 1, frames(30.0))
    with pytest.raises(Refused, match=r"The video ends there"):
        edits.nudge(before, 3, "start", -1, TIMES)


def test_a_clip_that_grows_takes_from_a_rejected_stretch(before: Proposals) -> None:
    after = edits.move(before, 2, "start", 630, TIMES).proposals
    assert rejected(after)[1] == (0, 20.0, 21.0, "card")
    gone = edits.move(after, 2, "start", 600, TIMES).proposals
    assert [row[3] for row in rejected(gone)] == ["title_card", "black"]


def test_offsets_of_pairs_follow_the_starts(before: Proposals) -> None:
    # Clip 2's music is 1.25 times as fast and has the start of clip 0 at its second 3.
    later = edits.move(before, 0, "start", 135, TIMES).proposals  # from 2 to 4.5 s
    assert pair(later, 0, 2)["offset_s"] == 3 + 2.5 / 1.25
    earlier = edits.move(later, 2, "start", 630, TIMES).proposals  # from 22 to 21 s
    assert pair(earlier, 0, 2)["offset_s"] == 3 + 2.5 / 1.25 + 1


def test_cutting_gives_the_second_part_the_next_id(before: Proposals) -> None:
    edit = edits.cut(before, 1, 450, TIMES, ids(before))
    after = edit.proposals
    assert (edit.clip_id, edit.what) == (5, "Clip 1 cut at 15.00 s; clip 5 begins there")
    assert [(int(k), a, b) for k, a, b in after.clips[["clip_id", "start_s", "end_s"]].itertuples(index=False)][:4] == [
        (0, 2.0, 10.0),
        (1, 10.0, 15.0),
        (5, 15.0, 20.0),
        (2, 22.0, 30.0),
    ]
    assert (clip(after, 5)["song_id"], clip(after, 5)["n_dancers"]) == (1, 2)
    first, second = said(after, 1), said(after, 5)
    assert (first["end_confidence"], first["review"]) == (1, "mended")
    assert (second["start_confidence"], second["end_confidence"], second["review"]) == (
        1,
        said(before, 1)["end_confidence"],
        None,
    )
    assert list(after.candidates.used) == ["yes", "yes", "yes"]
    for index in (300, 600, 700):
        with pytest.raises(Refused, match="Clip 1 cannot be cut"):
            edits.cut(before, 1, index, TIMES, ids(before))


def test_merging_keeps_the_lower_id_the_longer_ones_song_and_the_most_dancers(before: Proposals) -> None:
    edit = edits.merge(before, 1, 0)
    after = edit.proposals
    assert edit.clip_id == 0
    assert 1 not in set(after.clips.clip_id)
    assert 1 not in set(after.proposals.clip_id)
    kept = clip(after, 0)
    assert (kept["start_s"], kept["end_s"], kept["song_id"], kept["n_dancers"]) == (2.0, 20.0, 1, 2)
    assert said(after, 0)["song_confidence"] == said(before, 1)["song_confidence"]
    assert said(after, 0)["review"] == "mended"
    assert list(after.candidates.used) == ["no", "no", "yes"]
    # The pair of the two is gone; clip 1's pair speaks of clip 0, whose start is 8 s earlier.
    assert [(p.clip_a, p.clip_b) for p in after.same_songs.itertuples()] == [(0, 2), (0, 3), (3, 4)]
    assert pair(after, 0, 3)["offset_s"] == -1 - 8
    with pytest.raises(Refused, match="choose two clips of one compilation"):
        edits.merge(before, 2, 3)
    with pytest.raises(Refused, match="clip 1 lies between them"):
        edits.merge(before, 0, 2)


def test_merging_over_a_rejected_stretch_takes_it_in(before: Proposals) -> None:
    after = edits.merge(before, 1, 2).proposals
    assert clip(after, 1)["end_s"] == 30
    assert [row[3] for row in rejected(after)] == ["title_card", "black"]


def test_songs_come_and_go_with_their_clips(before: Proposals) -> None:
    edit = edits.set_song(before, 4, None, ids(before))
    assert clip(edit.proposals, 4)["song_id"] == 3
    assert list(edit.proposals.annotations.songs.song_id) == [0, 1, 3]  # song 2 had no other clip, and no name
    assert said(edit.proposals, 4)["song_confidence"] == 1
    named = before.with_tables(songs=before.annotations.songs.assign(title=["", "", "La La"]).replace("", None))
    assert list(edits.set_song(named, 4, 1, ids(before)).proposals.annotations.songs.song_id) == [0, 1, 2]
    with pytest.raises(Refused, match="There is no song 7"):
        edits.set_song(before, 4, 7, ids(before))


def test_one_to_five_dancers(before: Proposals) -> None:
    after = edits.set_dancers(before, 2, 4).proposals
    assert (clip(after, 2)["n_dancers"], said(after, 2)["dancers_reason"]) == (4, "set in the review")
    for n in (0, 6):
        with pytest.raises(Refused, match="1 to 5"):
            edits.set_dancers(before, 2, n)


def test_a_rejected_clip_comes_back_with_a_new_id_and_what_was_known_of_it(before: Proposals) -> None:
    after = edits.reject(before, 4).proposals
    assert 4 not in set(after.clips.clip_id)
    assert [(p.clip_a, p.clip_b) for p in after.same_songs.itertuples()] == [(0, 2), (1, 3), (0, 1)]
    assert rejected(after)[-1] == (1, 12.0, 20.0, "rejected")
    assert 2 not in set(after.annotations.songs.song_id)
    assert ids(after) == Ids(5, 3)  # neither id is free again
    back = edits.restore(after, 1, 12.0, 20.0, ids(after), TIMES)
    assert back.clip_id == 5
    # Its song is gone with it, so it has one of its own.
    row = clip(back.proposals, 5)
    assert (row["start_s"], row["end_s"], row["song_id"], row["n_dancers"]) == (12.0, 20.0, 3, 3)
    again = edits.restore(edits.reject(before, 3).proposals, 1, 0.0, 10.0, Ids(5, 3), TIMES).proposals
    assert clip(again, 5)["song_id"] == 1
    with pytest.raises(Refused, match="no longer among the rejected"):
        edits.restore(back.proposals, 1, 12.0, 20.0, ids(after), TIMES)


def test_restoring_leaves_clips_what_they_took(before: Proposals) -> None:
    grown = before.with_tables(rejected=before.rejected.assign(end_s=before.rejected.end_s.replace(22.0, 24.0)))
    after = edits.restore(grown, 0, 20.0, 24.0, ids(grown), None).proposals
    assert (clip(after, 5)["start_s"], clip(after, 5)["end_s"], clip(after, 5)["song_id"]) == (20.0, 22.0, 3)
    full = before.with_tables(rejected=before.rejected.assign(start_s=2.0, end_s=5.0))
    with pytest.raises(Refused, match="covered by clips"):
        edits.restore(full, 0, 2.0, 5.0, ids(full), TIMES)


def test_the_last_clip_cannot_be_rejected(tmp_path: Path) -> None:
    alone = tables(tmp_path / "p", [(0, 0, 0, 0.0, 5.0, 1)])
    with pytest.raises(Refused, match="Clip 0 is the last one"):
        edits.reject(alone, 0)


def test_a_clip_without_times_can_be_named_but_not_moved(tmp_path: Path) -> None:
    untimed = tables(tmp_path / "p", [(0, 0, 0, None, None, 1), (1, 0, 1, 2.0, 5.0, 1)])
    assert clip(edits.set_song(untimed, 0, 1, Ids(2, 2)).proposals, 0)["song_id"] == 1
    with pytest.raises(Refused, match="Clip 0 has no times"):
        edits.nudge(untimed, 0, "end", 1, TIMES)


# ------------------------------------------------------------------------------------------- pairs


def test_same_makes_one_song_of_two(before: Proposals) -> None:
    songs = before.annotations.songs.assign(title=["One", "Two", None], artist=[None, "Anna", None])
    edit = edits.answer_pair(before.with_tables(songs=songs), 0, 1, "same", ids(before))
    after = edit.proposals
    assert edit.what == "Clips 0 and 1: same song; song 1 is now song 0"
    assert list(after.clips.song_id) == [0, 0, 0, 0, 2]
    (zero,) = after.annotations.songs[after.annotations.songs.song_id == 0].to_dict("records")
    assert (zero["title"], zero["artist"]) == ("One", "Anna")
    assert zero["notes"] == "song 1, merged into this one, had title Two"
    assert pair(after, 0, 1)["answer"] == "same"
    assert said(after, 0)["song_confidence"] == said(after, 1)["song_confidence"] == 1
    assert said(after, 0)["review"] is None  # its cuts were not looked at


def test_same_never_joins_what_was_called_different(before: Proposals) -> None:
    after = edits.answer_pair(before, 3, 4, "different", ids(before)).proposals
    assert list(after.clips.song_id) == list(before.clips.song_id)
    more = edits.set_song(after, 1, 2, ids(after)).proposals  # clips 1 and 4 have song 2, clip 3 song 1
    with pytest.raises(Refused, match=r"Songs 1 and 2 cannot be one: clips 3 and 4 were called different"):
        edits.answer_pair(more, 1, 3, "same", ids(more))


def test_different_asks_who_goes_where_they_share_a_song(before: Proposals) -> None:
    joined = edits.answer_pair(before, 1, 3, "same", ids(before)).proposals  # they share song 1 anyway
    joined = edits.answer_pair(joined, 0, 1, "same", ids(joined)).proposals  # all but clip 4 have song 0 now
    with pytest.raises(SplitNeeded) as needed:
        edits.answer_pair(joined, 0, 1, "different", ids(joined))
    assert needed.value.clips == [0, 1, 2, 3]
    assert needed.value.suggested == [1, 3]  # clip 3 was called the same as clip 1, clip 2 is surely like clip 0
    for move in ([0, 1], [2], [1, 4]):
        with pytest.raises(Refused, match="One of clips 0 and 1 goes"):
            edits.answer_pair(joined, 0, 1, "different", ids(joined), move)
    after = edits.answer_pair(joined, 0, 1, "different", ids(joined), [1, 3]).proposals
    assert list(after.clips.song_id) == [0, 3, 0, 3, 2]
    assert [pair(after, *k)["answer"] for k in ((0, 1), (1, 3), (0, 2))] == ["different", "same", None]


def test_the_last_word_on_songs_counts(before: Proposals) -> None:
    answered = edits.answer_pair(before, 1, 3, "same", ids(before)).proposals
    after = edits.set_song(answered, 3, 2, ids(answered)).proposals
    assert pair(after, 1, 3)["answer"] == "different"


# ------------------------------------------------------------------------------------------- what always holds

EDITS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "nudge", "move", "cut", "merge", "song", "dancers", "reject", "restore", "answer"]),
        st.integers(0, 12),
        st.integers(-40, 1800),
        st.booleans(),
    ),
    max_size=14,
)


def _apply(p: Proposals, kind: str, k: int, n: int, flag: bool, least: Ids) -> Proposals:
    clips = [int(c) for c in p.clips.clip_id]
    one = clips[k % len(clips)]
    edge = "start" if flag else "end"
    if kind == "accept":
        return edits.accept(p, one).proposals
    if kind == "nudge":
        return edits.nudge(p, one, edge, n % 41 - 20, TIMES, alone=n % 3 == 0).proposals
    if kind == "move":
        return edits.move(p, one, edge, n, TIMES, alone=n % 3 == 0).proposals
    if kind == "cut":
        return edits.cut(p, one, n, TIMES, least).proposals
    if kind == "merge":
        return edits.merge(p, one, clips[(k + 1) % len(clips)]).proposals
    if kind == "song":
        return edits.set_song(p, one, None if flag else n % 5, least).proposals
    if kind == "dancers":
        return edits.set_dancers(p, one, n % 7).proposals
    if kind == "reject":
        return edits.reject(p, one).proposals
    if kind == "restore":
        row = p.rejected.iloc[k % max(1, len(p.rejected))]
        return edits.restore(p, int(row.compilation_id), row.start_s, row.end_s, least, TIMES).proposals
    row = p.same_songs.iloc[k % max(1, len(p.same_songs))]
    a, b = int(row.clip_a), int(row.clip_b)
    try:
        return edits.answer_pair(p, a, b, "same" if flag else "different", least).proposals
    except SplitNeeded as needed:
        return edits.answer_pair(p, a, b, "different", least, needed.suggested).proposals


@settings(max_examples=15, deadline=None)
@given(made=EDITS)
def test_whatever_is_done_the_files_stay_good(before: Proposals, made: list) -> None:
    now, least = before, next_ids(before)
    ever = {int(k): None for k in before.clips.clip_id}
    for edit in made:
        known = set(map(int, now.clips.clip_id))
        try:
            now = _apply(now, *edit, least)
        except (Refused, IndexError):
            continue
        fresh = set(map(int, now.clips.clip_id)) - known
        assert not fresh & set(ever), "an id came back"
        ever |= dict.fromkeys(fresh)
        least = next_ids(now, least)
        song = dict(zip(now.clips.clip_id, now.clips.song_id, strict=True))
        for row in now.same_songs.dropna(subset=["answer"]).itertuples():
            assert (row.answer == "same") == (song[row.clip_a] == song[row.clip_b])
    assert list(now.proposals.clip_id) == list(now.clips.clip_id)
    write_proposals(now, force=True)
    again = read_proposals(before.root)  # checks overlaps, orders, references, ranges
    assert again.clips.equals(now.clips)
    assert again.rejected.equals(now.rejected)


# ------------------------------------------------------------------------------------------- history and view


def test_history_goes_back_and_forth_and_branches(before: Proposals) -> None:
    history = History()
    assert (history.last, history.next) == (None, None)
    steps = [Step(before, before, f"edit {k}") for k in range(3)]
    history.add(steps[0])
    history.add(steps[1])
    history.went_back()
    assert (history.last, history.next) == (steps[0], steps[1])
    history.went_on()
    assert (history.last, history.next) == (steps[1], None)
    history.went_back()
    history.add(steps[2])
    assert (history.last, history.next) == (steps[2], None)
    history.forget()
    assert history.last is None


def test_the_page_is_told_progress_and_the_least_sure_value(before: Proposals) -> None:
    state = page_state(edits.accept(before, 1).proposals, {0})
    assert state["progress"] == {"clips": 5, "reviewed": 1, "seconds_left": 8 + 8 + 10 + 8}
    assert [c["present"] for c in state["compilations"]] == [True, False]
    # The factory gives clip 2, the third, .75 .65 .55 .95.
    assert state["clips"][2]["values"]["end"] == {"confidence": 0.65, "reason": "because of end"}
    assert [c["confidence"] for c in state["clips"][:3]] == [0.95, 0.75, 0.55]
    assert [(s["id"], s["clips"]) for s in state["songs"]] == [(0, 2), (1, 2), (2, 1)]


def test_frame_times_find_pictures() -> None:
    uneven = FrameTimes(TIMES.times[[0, 30, 60, 65, 90]])  # 0, 1, 2, 2.167, 3 (the end)
    assert [uneven.nearest(t) for t in (-1, 0.4, 0.6, 2.07, 2.1, 9)] == [0, 0, 1, 2, 3, 4]
    assert [uneven.on_screen(t) for t in (0, 0.99, 1.0, 2.1, 2.9, 9)] == [0, 0, 1, 2, 3, 3]
    assert uneven.at(3) == 2.166667


# What a person may type into a cell of words: anything, also what an older version read ids out of.
WORDS = st.one_of(
    st.text(max_size=60).filter(lambda text: text == text.strip() and text.isprintable()),
    st.sampled_from(
        ["was clip 91 with song 83 and 4 dancers", "rejected in the review; was clip 4 with song 7", "clip 3"]
    ),
    st.from_regex(r"was clip \d{1,3} with song \d{1,3}( and \d dancers)?", fullmatch=True),
)


@settings(max_examples=60, deadline=None)
@given(reason=WORDS, title=WORDS)
def test_no_words_that_a_person_types_change_an_id_a_dancer_or_a_song(
    before: Proposals, reason: str, title: str
) -> None:
    rejecting = edits.reject(before, 3).proposals
    worded = rejecting.with_tables(
        rejected=rejecting.rejected.assign(reason=reason or None),
        proposals=rejecting.proposals.assign(
            **{f"{value}_reason": reason or None for value in ("start", "end", "song", "dancers")}
        ),
        same_songs=rejecting.same_songs.assign(reason=reason or None),
        songs=rejecting.annotations.songs.assign(title=title or None, artist=title or None),
        compilations=rejecting.annotations.compilations.assign(title=title or None),
    )
    assert next_ids(worded) == next_ids(rejecting)
    for edit in (
        lambda p: edits.restore(p, 1, 0.0, 10.0, next_ids(p), TIMES),
        lambda p: edits.cut(p, 1, 450, TIMES, next_ids(p)),
        lambda p: edits.set_song(p, 2, None, next_ids(p)),
        lambda p: edits.merge(p, 1, 2),
    ):
        after, wanted = edit(worded).proposals, edit(rejecting).proposals
        assert after.clips.equals(wanted.clips)
        assert [*after.annotations.songs.song_id] == [*wanted.annotations.songs.song_id] or title
        assert after.rejected.drop(columns="reason").equals(wanted.rejected.drop(columns="reason"))
