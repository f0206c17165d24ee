"""Agreement of proposals with the truth, worked by hand."""

from __future__ import annotations

import pytest

from benchmarks.agreement import (
    Counts,
    KnownClip,
    agree_in_time,
    cut_agreement,
    dancers_right,
    match_clips,
    pair_agreement,
    score,
)


def test_counts() -> None:
    counts = Counts(right=6, false=2, missed=1)
    assert (counts.precision, counts.recall) == (6 / 8, 6 / 7)
    assert counts.f1 == pytest.approx(2 * (6 / 8) * (6 / 7) / (6 / 8 + 6 / 7))
    assert Counts(0, 0, 0).f1 == Counts(0, 0, 0).precision == Counts(0, 0, 0).recall == 1.0
    assert Counts(0, 3, 0).precision == 0.0


def test_an_instant_is_used_once() -> None:
    assert agree_in_time([1.0, 1.05], [1.02], 0.1) == Counts(1, 1, 0)
    assert agree_in_time([2.0, 1.0], [1.05, 3.0], 0.1) == Counts(1, 1, 1)
    # Nearest first would take 1.0 for 1.08 and leave 0.95 alone.
    assert agree_in_time([0.95, 1.08], [1.0, 1.15], 0.09) == Counts(2, 0, 0)


def test_the_ends_of_the_source_are_no_cuts() -> None:
    clips = [KnownClip(0.0, 4.0), KnownClip(4.0, 9.0), KnownClip(10.0, 15.0)]
    assert cut_agreement(clips, [4.03, 9.0, 10.0], 15.0, 0.07) == Counts(3, 0, 0)
    assert cut_agreement(clips, [4.2, 9.0], 15.0, 0.07) == Counts(1, 2, 1)


def test_pairs_and_dancers() -> None:
    true = [KnownClip(0, 4, "x", 1), KnownClip(4, 8, "x", 2), KnownClip(8, 12, "y", 1), KnownClip(12, 16, "y", None)]
    found = [KnownClip(0, 4, "0", 1), KnownClip(4, 8.5, "0", 1), KnownClip(8.5, 11, "0", 1)]
    pairs = match_clips(found, true)
    assert pairs == {0: 0, 1: 1, 2: 2}
    # x-x is right; the two pairs with clip 2 are false; y-y is missed, since nothing was found there.
    assert pair_agreement(found, true, pairs) == Counts(1, 2, 1)
    assert dancers_right(found, true, pairs) == (2, 3)


def test_one_found_clip_is_no_pair() -> None:
    true = [KnownClip(0, 4, "x"), KnownClip(4, 8, "x")]
    assert pair_agreement([KnownClip(0, 8, "0")], true, {0: 0, 1: 0}) == Counts(0, 0, 1)


def test_score_of_a_compilation() -> None:
    truth = {
        "fps": 25.0,
        "duration_s": 12.0,
        "clips": [
            {"start_s": 2.0, "end_s": 7.0, "song": "x", "n_dancers": 1},
            {"start_s": 7.0, "end_s": 12.0, "song": "x", "n_dancers": 3},
        ],
        "transitions": [{"at_s": 2.0}, {"at_s": 7.0}],
        "non_clips": [{"start_s": 0.0, "end_s": 2.0}],
    }
    right = [KnownClip(2.08, 7.04, "5", 1), KnownClip(7.04, 12.0, "5", 2)]
    found = score(right, truth)
    assert found["cuts"] == {"right": 2, "false": 0, "missed": 0, "precision": 1.0, "recall": 1.0}
    assert found["same_song_pairs"]["f1"] == 1.0
    assert (found["dancers_right"], found["dancers_known"], found["clips_found"]) == (1, 2, 2)
    assert found["cards_taken_for_clips"] == 0
    wrong = score([KnownClip(0.0, 7.2, "5", 1), KnownClip(7.2, 12.0, "6", 3)], truth)
    assert wrong["cuts"] == {"right": 0, "false": 1, "missed": 2, "precision": 0.0, "recall": 0.0}
    assert wrong["same_song_pairs"]["missed"] == 1
    assert wrong["cards_taken_for_clips"] == 1
