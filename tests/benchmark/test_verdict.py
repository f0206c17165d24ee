"""The leaderboard's verdict: rank ranges worked by hand, and a gate that clicks and noise do not pass."""

from __future__ import annotations

import numpy as np
import pytest

from tiktok_dm.benchmark.leaderboard.verdict import Levels, failures, halves, rank_ranges

SONGS = {f"c{k}": k for k in range(20)}


def system(mean: float, seed: int = 0, spread: float = 0.02) -> dict[str, float | None]:
    rng = np.random.default_rng(seed)
    return {clip: mean + spread * float(rng.standard_normal()) for clip in SONGS}


def test_a_rank_is_a_range_where_systems_do_not_differ() -> None:
    best, middle, alike, worst = system(0.8, 1), system(0.6, 2), system(0.6, 3), system(0.2, 4)
    assert rank_ranges([worst, middle, best, alike], SONGS) == [(4, 4), (2, 3), (1, 1), (2, 3)]
    assert rank_ranges([best], SONGS) == [(1, 1)]
    assert rank_ranges([], SONGS) == []


def test_few_songs_rank_nobody() -> None:
    songs = {f"c{k}": k % 4 for k in range(20)}  # 2^4 swaps: no p-value below 1/16
    assert rank_ranges([system(0.8), system(0.2, 1)], songs) == [(1, 2), (1, 2)]


def test_a_clip_without_a_score_counts_as_0() -> None:
    gone: dict[str, float | None] = dict.fromkeys(SONGS)
    assert rank_ranges([gone, system(0.5)], SONGS) == [(2, 2), (1, 1)]


def test_chance_alone_rarely_ranks() -> None:
    """Of 40 boards of five equal systems, hardly any (5 % by Holm) ranks one before another."""
    wrong = 0
    for seed in range(40):
        systems = [system(0.5, 10 * seed + k, 0.1) for k in range(5)]
        wrong += any(ranks != (1, 5) for ranks in rank_ranges(systems, SONGS, resamples=400, seed=seed))
    assert wrong <= 6  # 99th percentile of a binomial of 40 draws at 0.05


def test_the_gate_lies_half_way_to_noise() -> None:
    levels = Levels(kad=2.0, coverage=0.6, noise_kad=122.0)
    assert levels.kad_limit == 62.0
    assert levels.coverage_floor == pytest.approx(0.006)
    assert failures(61.9, 0.01, levels) == []
    assert failures(62.1, 0.01, levels) == [
        "It is farther from the test music than half way to noise: KAD may be 62.0, it is 62.1."
    ]
    assert failures(None, 0.0, levels) == [
        "It is farther from the test music than half way to noise: KAD may be 62.0, none can be computed.",
        "It covers too little of the test music: 0.006 is needed, it is 0.000.",
    ]
    alone = Levels(kad=None, coverage=None, noise_kad=100.0)
    assert (alone.kad_limit, alone.coverage_floor) == (50.0, 0.01)


def test_halves_of_one_music_are_near_and_need_six_songs() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(12, 4)) for _ in range(30)]
    found = halves(rows, list(range(30)))
    assert found["kad"] == pytest.approx(0, abs=1.5)
    assert 0.8 < found["coverage"] <= 1.0  # type: ignore[operator]
    assert halves(rows[:25], [k % 5 for k in range(25)]) == {"kad": None, "coverage": None}
    assert halves([None, None], [1, 2]) == {"kad": None, "coverage": None}
