"""Bootstrap over songs and paired comparison: properties, and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tiktok_dm.benchmark.metrics import intervals

RNG = np.random.default_rng(0)


def test_values_are_those_of_numpy() -> None:
    values = RNG.normal(size=(30, 2)) + 2
    values[3, 0] = np.nan
    songs = list(range(30))
    first = values[:, :1]
    assert intervals.interval(first, songs).value == pytest.approx(np.nanmean(first))
    assert intervals.interval(first, songs).n == 29
    assert intervals.interval(first, songs, intervals.deviation).value == pytest.approx(np.nanstd(first, ddof=1))
    p, r = np.nanmean(values[:, 0]), values[:, 1].mean()
    assert intervals.interval(values, songs, intervals.harmonic).value == pytest.approx(2 * p * r / (p + r))


def test_weights_mean_repeated_clips() -> None:
    values = RNG.normal(size=(6, 2)) + 3
    counts = np.array([[2, 0, 1, 3, 0, 0]])
    repeated = np.repeat(values, counts[0], axis=0)
    one = np.ones((1, 6))
    for statistic in (intervals.mean, intervals.deviation, intervals.harmonic):
        assert statistic(values, counts) == pytest.approx(statistic(repeated, one))


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = RNG.normal(size=400)
    score = intervals.interval(values, list(range(400)), seed=3)
    error = values.std(ddof=1) / 20
    assert score.high - score.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert (score.high + score.low) / 2 == pytest.approx(score.value, abs=0.15 * error)


def test_clips_of_one_song_do_not_narrow_it() -> None:
    values = RNG.normal(size=20)
    songs = list(range(20))
    alone = intervals.interval(values, songs, seed=1)
    copied = intervals.interval(np.repeat(values, 10), np.repeat(songs, 10).tolist(), seed=1)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert (copied.n, copied.songs) == (200, 20)
    naive = intervals.interval(np.repeat(values, 10), list(range(200)), seed=1)
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_it_covers() -> None:
    """Of 300 samples of 25 songs with two clips each, about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(11)
    songs = np.repeat(np.arange(25), 2).tolist()
    held = 0
    for k in range(300):
        values = np.repeat(rng.normal(size=25), 2) + 0.3 * rng.normal(size=50)
        score = intervals.interval(values, songs, resamples=400, seed=k)
        held += score.low <= 0 <= score.high
    assert 0.89 <= held / 300 <= 0.98


def test_seeds_decide() -> None:
    values = RNG.normal(size=15)
    songs = list(range(15))
    assert intervals.interval(values, songs, seed=4) == intervals.interval(values, songs, seed=4)
    assert intervals.interval(values, songs, seed=4) != intervals.interval(values, songs, seed=5)


def test_nothing_and_one_song() -> None:
    assert intervals.interval(np.array([np.nan]), ["a"]) == intervals.Score(None, None, None, 0, 0)
    one = intervals.interval(np.array([1.0, 3.0]), ["a", "a"])
    assert (one.value, one.low, one.high, one.n, one.songs) == (2.0, None, None, 2, 1)
    same = intervals.interval(np.full(5, 0.7), list(range(5)))
    assert (same.low, same.high) == pytest.approx((0.7, 0.7))
    with pytest.raises(ValueError, match="2 clips and 1 songs"):
        intervals.interval(np.array([1.0, 2.0]), ["a"])
    with pytest.raises(ValueError, match="finite"):
        intervals.interval(np.array([math.inf]), ["a"])


# ------------------------------------------------------------------------------------------- two systems


def test_pairing_sees_a_small_difference() -> None:
    hard = RNG.normal(size=60) * 5  # what clips have in common hides it without pairing
    a, b = hard + 0.3 + 0.1 * RNG.normal(size=60), hard
    songs = list(range(60))
    found = intervals.difference(a, b, songs)
    assert found.low < 0.3 < found.high
    assert found.p_value == pytest.approx(1 / 2001)
    apart = intervals.interval(a, songs), intervals.interval(b, songs)
    assert apart[0].low < apart[1].value < apart[0].high
    back = intervals.difference(b, a, songs)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_equal_systems_do_not_differ() -> None:
    values = RNG.normal(size=10)
    found = intervals.difference(values, values, list(range(10)))
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1.0)


def test_the_test_is_honest() -> None:
    """Of 200 comparisons of systems that are alike, about 5 % have p <= 0.05, also with several clips a song."""
    rng = np.random.default_rng(3)
    songs = np.repeat(np.arange(15), 3).tolist()
    low = 0
    for k in range(200):
        a, b = (np.repeat(rng.normal(size=15), 3) for _ in range(2))
        low += intervals.difference(a, b, songs, resamples=200, seed=k).p_value <= 0.05
    assert low / 200 <= 0.1


def test_a_clip_without_one_score_is_left_out_of_both() -> None:
    a, b = np.array([1.0, np.nan, 3.0]), np.array([0.0, 5.0, 1.0])
    found = intervals.difference(a, b, ["x", "y", "z"])
    assert (found.value, found.n) == (1.5, 2)
    assert intervals.difference(a[:1], b[:1], ["x"]).p_value is None
    with pytest.raises(ValueError, match="shape"):
        intervals.difference(a[:, None], np.zeros((3, 2)), ["x", "y", "z"])


# ------------------------------------------------------------------------------------------- whole sets


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = RNG.normal(size=20)
    found = intervals.jackknife(lambda rows: {"mean": float(values[rows].mean())}, list(range(20)))["mean"]
    error = values.std(ddof=1) / math.sqrt(20)  # leaving one out gives exactly this for a mean
    assert (found.low, found.high) == pytest.approx((found.value - 1.96 * error, found.value + 1.96 * error))


def test_the_jackknife_leaves_whole_songs_out() -> None:
    songs = ["a"] * 5 + ["b"] * 3 + ["c"] * 2
    left = []
    intervals.jackknife(lambda rows: left.append(tuple(rows)) or {"x": 1.0}, songs)
    assert left[0] == (True,) * 10
    assert {sum(rows) for rows in left[1:]} == {5, 7, 8}
    undefined = intervals.jackknife(lambda rows: {"x": math.nan}, songs)["x"]
    assert undefined == intervals.Score(None, None, None, 10, 3)
    assert intervals.jackknife(lambda rows: {"x": 2.0}, ["a", "b"])["x"].low is None
