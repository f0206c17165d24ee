"""Intervals over songs and paired comparison: properties, coverage, and numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    score = intervals.interval(values, list(range(400)))
    error = values.std(ddof=1) / 20
    assert score.high - score.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert (score.high + score.low) / 2 == pytest.approx(score.value, abs=0.15 * error)


def test_clips_of_one_song_do_not_narrow_it() -> None:
    values = RNG.normal(size=20)
    songs = list(range(20))
    alone = intervals.interval(values, songs)
    copied = intervals.interval(np.repeat(values, 10), np.repeat(songs, 10).tolist())
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert (copied.n, copied.songs) == (200, 20)
    naive = intervals.interval(np.repeat(values, 10), list(range(200)))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


COVERED = 400  # samples, of which about 95 % hold the truth


def covered(draw: Callable[[np.random.Generator], np.ndarray], truth: float, songs: list[int], seed: int) -> float:
    """Share of intervals that hold the truth."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(COVERED):
        score = intervals.interval(draw(rng), songs)
        held += score.low <= truth <= score.high
    return held / COVERED


@pytest.mark.parametrize("count", [6, 10, 25, 43])
def test_it_covers(count: int) -> None:
    """Normal and skewed scores of as many songs with two clips each; three standard errors of the count are 0.033."""
    songs = np.repeat(np.arange(count), 2).tolist()
    normal = covered(lambda r: np.repeat(r.normal(size=count), 2) + 0.3 * r.normal(size=2 * count), 0, songs, 11)
    skewed = covered(lambda r: np.repeat(r.exponential(size=count), 2), 1, songs, 12)
    shares = covered(lambda r: np.repeat(r.beta(0.9, 0.3, size=count), 2), 0.75, songs, 13)
    assert 0.91 <= normal <= 0.985
    assert 0.88 <= skewed <= 0.985
    assert 0.9 <= shares <= 1.0


def test_hall_by_hand() -> None:
    """Six songs with 0, 0, 0, 0, 0, 6: mean 1, standard deviation sqrt(6), third moment 20, second moment 5."""
    score = intervals.interval(np.array([0.0, 0, 0, 0, 0, 6]), list(range(6)))
    mean, deviation, quantile = 1.0, math.sqrt(6), 2.5705818
    skewness = (5 * (-1) ** 3 + 5**3) / 6 / 5**1.5
    assert skewness == pytest.approx(1.788854)

    def ends(limit: float) -> float:
        x = (limit - mean) / deviation  # of a truth there; what Student's t is compared with
        return -math.sqrt(6) * (-x + skewness * x**2 / 3 - skewness**2 * x**3 / 27 + skewness / 36)

    assert ends(score.low) == pytest.approx(-quantile, rel=1e-6)
    assert ends(score.high) == pytest.approx(quantile, rel=1e-6)
    assert score.high - mean > 3 * (mean - score.low)


def test_without_skew_it_is_students() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6, 7])
    score = intervals.interval(values, list(range(7)))
    error = values.std(ddof=1) / math.sqrt(7) * 2.4469119  # t of 6 degrees of freedom
    assert (score.low, score.high) == pytest.approx((4 - error, 4 + error), rel=1e-6)


def test_songs_that_are_all_at_a_bound() -> None:
    """1 - 0.025^(1/20) = 0.16843 is the limit of Clopper and Pearson."""
    songs = list(range(20))
    perfect = intervals.interval(np.ones(20), songs, bounds=(0, 1))
    assert (perfect.value, perfect.low, perfect.high) == pytest.approx((1, 0.8315665, 1), abs=1e-6)
    never = intervals.interval(np.zeros(20), songs, bounds=(0, 1))
    assert (never.low, never.high) == pytest.approx((0, 0.1684335), abs=1e-6)
    within = intervals.interval(np.r_[np.ones(19), 0.9], songs, bounds=(0, 1))
    assert within.high == 1
    assert within.low < 0.99
    alike = intervals.interval(np.full(20, 0.7), songs, bounds=(0, 1))
    assert (alike.value, alike.low, alike.high) == (pytest.approx(0.7), None, None)


def test_nothing_and_few_songs() -> None:
    assert intervals.interval(np.array([np.nan]), ["a"]) == intervals.Score(None, None, None, 0, 0)
    one = intervals.interval(np.array([1.0, 3.0]), ["a", "a"])
    assert (one.value, one.low, one.high, one.n, one.songs) == (2.0, None, None, 2, 1)
    five = intervals.interval(RNG.normal(size=5), list(range(5)))
    assert (five.low, five.high, five.songs) == (None, None, 5)
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
    assert (found.value, found.low, found.high, found.p_value) == (0, None, None, 1.0)  # no spread to judge by


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
    quantile = 2.0930241  # Student's t of 19 degrees of freedom
    assert (found.low, found.high) == pytest.approx((found.value - quantile * error, found.value + quantile * error))


def test_the_jackknife_leaves_whole_songs_out() -> None:
    songs = [*"aaaaabbbccdef"]
    left = []
    intervals.jackknife(lambda rows: left.append(tuple(rows)) or {"x": 1.0}, songs)
    assert left[0] == (True,) * 13
    assert sorted(sum(rows) for rows in left[1:]) == [8, 10, 11, 12, 12, 12]
    undefined = intervals.jackknife(lambda rows: {"x": math.nan}, songs)["x"]
    assert undefined == intervals.Score(None, None, None, 13, 6)
    assert intervals.jackknife(lambda rows: {"x": 2.0}, songs[:11])["x"].low is None
