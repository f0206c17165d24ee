"""Song-disjoint splits and the audit of splits."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiktok_dm.annotations.splits import assign_splits, audit_splits, count_splits
from tiktok_dm.errors import UserError


def clips_of(*rows: tuple[int, int, int]) -> pd.DataFrame:
    """`n` clips for each (song, compilation, n)."""
    table = [(song, compilation) for song, compilation, n in rows for _ in range(n)]
    frame = pd.DataFrame([(k, *pair) for k, pair in enumerate(table)], columns=["clip_id", "song_id", "compilation_id"])
    return frame.astype("Int64")


def splits_of(**songs: list[int]) -> pd.DataFrame:
    rows = [(song, split) for split, ids in songs.items() for song in ids]
    return pd.DataFrame(rows, columns=["song_id", "split"]).astype({"song_id": "Int64", "split": "string"})


_clips = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=30).map(
    lambda rows: clips_of(*rows)
)


# ------------------------------------------------------------------------------------------- assigning


@settings(max_examples=60, deadline=None)
@given(
    clips=_clips, fraction=st.floats(0.05, 0.6), seed=st.integers(0, 1000), validation=st.sampled_from([0.0, 0.1, 0.3])
)
def test_every_song_has_one_split_and_no_split_is_empty(clips, fraction, seed, validation):
    wanted = {"train", "test"} | ({"validation"} if validation else set())
    if clips.song_id.nunique() < len(wanted):
        with pytest.raises(UserError, match="a song belongs to one split alone: add songs, or ask for fewer splits"):
            assign_splits(clips, fraction, seed, validation)
        return
    splits = assign_splits(clips, fraction, seed, validation)
    assert splits.song_id.tolist() == sorted(set(clips.song_id))
    assert set(splits.split) == wanted
    assert audit_splits(clips, splits) == []


@settings(max_examples=60, deadline=None)
@given(clips=_clips, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_the_test_share_is_within_one_song_of_the_wanted_one(clips, fraction, seed):
    if clips.song_id.nunique() < 2:
        return
    tested = count_splits(clips, assign_splits(clips, fraction, seed))["test"]["clips"]
    slack = max(0.5, 0.01 * len(clips)) + clips.song_id.value_counts().max()
    assert abs(tested - fraction * len(clips)) <= slack


@settings(max_examples=30, deadline=None)
@given(clips=_clips, seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(clips, seed):
    if clips.song_id.nunique() < 2:
        return
    mixed = clips.sample(frac=1, random_state=seed).reset_index(drop=True).astype("int64")
    pd.testing.assert_frame_equal(assign_splits(mixed, 0.3, seed), assign_splits(clips, 0.3, seed))


@settings(max_examples=40, deadline=None)
@given(clips=_clips, fraction=st.floats(0.1, 0.5), seed=st.integers(0, 1000))
def test_no_song_more_less_or_other_brings_the_test_split_nearer(clips, fraction, seed):
    table = pd.crosstab(clips.song_id, clips.compilation_id).to_numpy(float)
    if len(table) < 2:
        return
    target = fraction * table.sum(axis=0)

    def cost(chosen):
        sums = table[list(chosen)].sum(axis=0)
        off = max(abs(sums.sum() - target.sum()) - max(0.5, 0.01 * table.sum()), 0)
        return 1e6 * off**2 + ((sums - target) ** 2 / target).sum()

    chosen = set((assign_splits(clips, fraction, seed).split == "test").to_numpy().nonzero()[0].tolist())
    rest = set(range(len(table))) - chosen
    others = [chosen - {i} for i in chosen] + [chosen | {o} for o in rest]
    others += [chosen - {i} | {o} for i in chosen for o in rest]
    nearest = min(cost(one) for one in others if 0 < len(one) < len(table)) if len(table) > 2 else cost(chosen)
    # Changes are rounded to 1e-6; a sum of 1e6 off^2 (off up to 180 clips) has 3e10 * 2^-52 = 1e-5 of rounding itself.
    assert cost(chosen) <= nearest + 2e-5


def test_a_seed_gives_one_split_and_another_seed_another():
    clips = clips_of(*((song, song % 4, 3) for song in range(40)))
    splits = [assign_splits(clips, 0.25, seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(splits[0], splits[1])
    assert splits[0].split.tolist() != splits[2].split.tolist()


def test_the_split_is_the_same_on_every_machine():
    clips = clips_of(*((song, song % 3, 1 + song % 5) for song in range(12)))
    splits = assign_splits(clips, 0.25, 7)
    assert splits.song_id[splits.split == "test"].tolist() == [1, 6, 8]  # 8 of 33 clips, one song of each compilation


def test_compilations_share_the_test_split_evenly():
    # 10 songs of 2 clips in each of 4 compilations: a fifth of each is exactly 2 songs.
    clips = clips_of(*((10 * compilation + k, compilation, 2) for compilation in range(4) for k in range(10)))
    splits = assign_splits(clips, 0.2, 3)
    tested = clips[clips.song_id.isin(splits.song_id[splits.split == "test"])]
    assert tested.compilation_id.value_counts().sort_index().tolist() == [4, 4, 4, 4]


def test_validation_is_balanced_too():
    clips = clips_of(*((10 * compilation + k, compilation, 2) for compilation in range(4) for k in range(10)))
    counts = count_splits(clips, assign_splits(clips, 0.2, 3, 0.1))
    assert counts == {
        "train": {"songs": 28, "clips": 56, "compilations": 4},
        "test": {"songs": 8, "clips": 16, "compilations": 4},
        "validation": {"songs": 4, "clips": 8, "compilations": 4},
    }


def test_a_song_too_large_for_test_stays_in_train():
    clips = clips_of((0, 0, 90), (1, 0, 3), (2, 0, 3), (3, 1, 4))
    splits = assign_splits(clips, 0.2, 0)
    assert splits.split.tolist() == ["train", "test", "test", "test"]


def test_two_songs_go_to_one_split_each():
    assert sorted(assign_splits(clips_of((5, 0, 1), (9, 0, 1)), 0.01, 0).split) == ["test", "train"]


@pytest.mark.parametrize(
    ("clips", "options", "message"),
    [
        (clips_of((0, 0, 9)), (0.2, 0), "there is 1 song for 2 splits, and a song belongs to one split alone"),
        (clips_of((0, 0, 1), (1, 0, 1)), (0.2, 0, 0.2), "there are 2 songs for 3 splits"),
        (clips_of((0, 0, 1)).iloc[:0], (0.2, 0), "there are no clips to split"),
        (clips_of((0, 0, 1), (1, 0, 1)), (0.0, 0), "the test fraction is 0: give a number between 0 and 1"),
        (clips_of((0, 0, 1), (1, 0, 1)), (float("nan"), 0), "the test fraction is nan"),
        (clips_of((0, 0, 1), (1, 0, 1)), (1.0, 0), "the test fraction is 1"),
        (clips_of((0, 0, 1), (1, 0, 1)), (0.2, 0, -0.1), "the validation fraction is -0.1"),
        (clips_of((0, 0, 1), (1, 0, 1)), (0.6, 0, 0.4), "the test and validation fractions make 1 together"),
        (clips_of((0, 0, 1), (1, 0, 1)).assign(song_id=pd.NA), (0.2, 0), "2 clips have no song_id"),
    ],
)
def test_what_cannot_be_split_is_said(clips, options, message):
    with pytest.raises(UserError, match=message):
        assign_splits(clips, *options)


# ------------------------------------------------------------------------------------------- auditing

CLIPS = clips_of((0, 0, 2), (1, 0, 1), (2, 1, 1))  # clips 0 and 1 dance to song 0, 2 to 1, 3 to 2


def test_a_good_split_has_no_findings():
    assert audit_splits(CLIPS, splits_of(train=[0, 1], test=[2])) == []
    assert audit_splits(CLIPS, splits_of(train=[0], test=[1], validation=[2])) == []


def test_a_song_in_two_splits():
    (finding,) = audit_splits(CLIPS, splits_of(train=[0, 1], test=[2, 0]))
    assert (finding.kind, finding.severity) == ("song_in_two_splits", "error")
    assert (finding.song_ids, finding.clip_ids) == ((0,), (0, 1))
    assert str(finding) == (
        "error: song 0 is in train and test: keep one line for it, so that no song is heard in two splits"
    )


def test_a_clip_whose_own_split_is_not_its_songs():
    clips = CLIPS.assign(split=["train", "test", "train", "test"])
    (finding,) = audit_splits(clips, splits_of(train=[0, 1], test=[2]))
    assert (finding.kind, finding.clip_ids, finding.song_ids) == ("clip_in_two_splits", (1,), (0,))
    assert finding.message == "clip 1 is in train and test: its own split, its songs' and its doubles' must be one"


def test_a_clip_with_two_songs_of_two_splits():
    clips = pd.concat([CLIPS, pd.DataFrame({"clip_id": [0], "song_id": [2], "compilation_id": [0]})])
    (finding,) = audit_splits(clips, splits_of(train=[0, 1], test=[2]))
    assert (finding.kind, finding.clip_ids, finding.song_ids) == ("clip_in_two_splits", (0,), (0, 2))


def test_everything_else_that_can_be_wrong():
    clips = pd.concat([CLIPS, pd.DataFrame({"clip_id": [9], "song_id": [pd.NA], "compilation_id": [0]})])
    findings = audit_splits(clips, splits_of(train=[0, 8], dev=[1]))
    assert [(f.kind, f.severity, f.song_ids, f.clip_ids) for f in findings] == [
        ("song_without_split", "error", (2,), (3,)),
        ("clip_without_song", "error", (), (9,)),
        ("unknown_split", "error", (1,), ()),
        ("unknown_song", "warning", (8,), ()),
        ("empty_split", "warning", (), ()),
    ]
    assert [f.message for f in findings] == [
        "song 2 has 1 clip but no split: add a line for it",
        "1 clip without song_id cannot be given a split: fill it in",
        "'dev' is not a split: write train, test or validation",
        "song 8 has a split but no clip: remove the line, or look for its clips",
        "no clip is in test: give it some songs",
    ]


def test_near_duplicates_across_splits_come_before_those_within():
    splits = splits_of(train=[0, 1], test=[2])
    pairs = [(1, 0, 0.99), (2, 1, 0.8), (1, 2, 0.9), (0, 0, 1.0)]
    findings = audit_splits(CLIPS, splits, pairs)
    assert [(f.kind, f.severity, f.song_ids, f.clip_ids) for f in findings] == [
        ("near_duplicate_across_splits", "error", (1, 2), (2, 3)),
        ("near_duplicate_within_split", "warning", (0, 1), (0, 1, 2)),
    ]
    assert findings[0].message == (
        "songs 1 and 2 sound the same (similarity 0.90) and are in train and test: give them one id, or one split"
    )
    assert findings[1].message == "songs 0 and 1 sound the same (similarity 0.99) under two ids: give them one id"


def test_near_duplicates_may_come_from_a_function_and_without_similarity():
    def compare(clips):
        assert clips is CLIPS
        return {(2, 0)}

    (finding,) = audit_splits(CLIPS, splits_of(train=[0, 1], test=[2]), compare)
    assert finding.message == "songs 0 and 2 sound the same and are in train and test: give them one id, or one split"


def test_a_clip_that_is_there_twice_is_a_leak_across_splits_and_a_warning_within():
    splits = splits_of(train=[0, 1], test=[2])
    twice = [(1, 0, "mirrored"), (3, 2), (2, 3, "again"), (2, 2)]
    findings = audit_splits(CLIPS, splits, [(1, 2)], twice)
    assert [(f.kind, f.severity, f.song_ids, f.clip_ids) for f in findings] == [
        ("near_duplicate_across_splits", "error", (1, 2), (2, 3)),
        ("clip_twice_across_splits", "error", (1, 2), (2, 3)),
        ("clip_twice_within_split", "warning", (0,), (0, 1)),
    ]
    assert findings[1].message == (
        "clips 2 and 3 are one clip and are in train and test: remove one of them, or give their songs one split"
    )
    assert findings[2].message == "clips 0 and 1 are one clip (mirrored): remove one of them"


def test_a_clip_that_is_there_twice_crosses_by_its_own_split_too():
    clips = CLIPS.assign(split=["train", "test", "train", "test"])
    kinds = [finding.kind for finding in audit_splits(clips, splits_of(train=[0, 1], test=[2]), None, [(0, 1)])]
    assert kinds == ["clip_in_two_splits", "clip_twice_across_splits"]


def test_counts_leave_out_a_split_without_songs():
    assert count_splits(CLIPS, splits_of(train=[0, 1], test=[2])) == {
        "train": {"songs": 2, "clips": 3, "compilations": 1},
        "test": {"songs": 1, "clips": 1, "compilations": 1},
    }
