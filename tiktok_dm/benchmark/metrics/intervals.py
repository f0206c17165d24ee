"""95 % intervals over songs, and the paired comparison of two systems.

Clips of one song are no independent evidence: they stand and fall together. Where no song is known each clip is its
own, and callers say so. Each song's share in a statistic is what leaving the song out changes (jackknife pseudo-values;
for a mean of equally many clips a song these are the songs' means), also where the statistic is no mean of clips: a
standard deviation, or an F1 of two means. The interval is Student's, corrected for the shares' skewness (Hall, "On the
removal of skewness by transformation", J. R. Stat. Soc. B 54, 1992). `benchmarks/intervals.json` has how often it and
others hold the truth: scores of a few songs are skewed, and percentiles of resampled songs hold it in 0.5 to 0.9 where
they say 0.95. Below six songs nothing does, and there is no interval.

Not for the scores themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
FEWEST_SONGS = 6
"""With fewer, no kind of interval held a skewed score's truth in nine of ten cases, or it said next to nothing."""

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(values (clips, columns), weights (draws, clips)) -> (draws,): the statistic of each draw; weights are counts."""


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval.

    Args:
        value: None where it is not defined.
        low, high: of the interval; None where there are fewer than `FEWEST_SONGS`, or the songs do not differ.
        n: clips it rests on.
        songs: songs (or, without songs, clips) it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    songs: int


@dataclass(frozen=True)
class Difference:
    """One system less another on the same clips.

    Args:
        value: difference of the two statistics; None where one is not defined.
        low, high: its 95 % interval, of the songs' differences; None as in `Score`.
        p_value: two-sided, of a test that swaps the two systems on random songs; None where it is not defined.
        n, songs: clips and songs that both have.
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    songs: int


# ------------------------------------------------------------------------------------------- statistics


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of the only column over clips, nan left out; a `Statistic`."""
    return _mean(values[:, 0], weights)


def deviation(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sample standard deviation (ddof 1) of the only column over clips, nan left out; a `Statistic`."""
    column = values[:, 0]
    known = ~np.isnan(column)
    column, weights = column[known], weights[:, known].astype(np.float64)
    count = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = weights @ column / count
        squares = weights @ column**2 - count * centre**2
        spread = np.sqrt(np.maximum(squares, 0) / (count - 1))
    return np.where(count > 1, spread, np.nan)


def harmonic(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """2 P R / (P + R) of the means of two columns, 0 where both are 0; a `Statistic`."""
    first, second = _mean(values[:, 0], weights), _mean(values[:, 1], weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(first + second == 0, 0.0, 2 * first * second / (first + second))


def _mean(column: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = ~np.isnan(column)
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights[:, known] @ column[known] / weights[:, known].sum(axis=1)


# ------------------------------------------------------------------------------------------- intervals


def validate(values: np.ndarray, songs: Sequence[Hashable]) -> np.ndarray:
    """The values as float64 (clips, columns), checked.

    Raises:
        ValueError: another shape, infinite values, or not one song for each clip.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or np.isinf(array).any():
        raise ValueError("values must be finite or nan, (clips,) or (clips, columns)")
    if len(songs) != len(array):
        raise ValueError(f"{len(array)} clips and {len(songs)} songs")
    return array


def interval(
    values: np.ndarray,
    songs: Sequence[Hashable],
    statistic: Statistic = mean,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Score:
    """A statistic over clips with its interval over songs, see the module.

    Where all songs are at one bound of a score that has bounds, their spread says nothing; the interval then ends where
    it does for a share of S in S songs (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        values: (clips,) or (clips, columns); a clip that is nan in all columns does not count.
        songs: of each clip.
        statistic: see `Statistic`.
        bounds: least and most that the statistic can be; the interval ends there.

    Raises:
        ValueError: see `validate`.
    """
    array = validate(values, songs)
    known = ~np.isnan(array).all(axis=1)
    array = array[known]
    number = _numbered([song for song, use in zip(songs, known, strict=True) if use])
    count = int(number.max(initial=-1)) + 1
    value = _value(array, statistic)
    if value is None or count < FEWEST_SONGS:
        return Score(value, None, None, len(array), count)
    shares = count * value - (count - 1) * statistic(array, _without_each(number, count))
    return Score(value, *_limits(value, shares, bounds), len(array), count)


def difference(
    values_a: np.ndarray,
    values_b: np.ndarray,
    songs: Sequence[Hashable],
    statistic: Statistic = mean,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """A statistic of system a less that of system b, paired clip by clip.

    The p-value is of a permutation test: under the hypothesis that the systems are alike, their results on a song can
    be swapped; it is (1 + swaps with at least this difference) / (1 + swaps).

    Args:
        values_a, values_b: (clips,) or (clips, columns) of the same clips; a clip that has a nan in either is left out.
        songs: of each clip.
        resamples, seed: swaps of the test.

    Raises:
        ValueError: shapes that differ; see `validate`.
    """
    a, b = validate(values_a, songs), validate(values_b, songs)
    if a.shape != b.shape:
        raise ValueError(f"the two systems' values differ in shape: {a.shape} and {b.shape}")
    known = ~(np.isnan(a) | np.isnan(b)).any(axis=1)
    a, b = a[known], b[known]
    number = _numbered([song for song, use in zip(songs, known, strict=True) if use])
    count = int(number.max(initial=-1)) + 1
    first, second = _value(a, statistic), _value(b, statistic)
    if first is None or second is None:
        return Difference(None, None, None, None, len(a), count)
    value = first - second
    if count < 2:
        return Difference(value, None, None, None, len(a), count)
    low = high = None
    if count >= FEWEST_SONGS:
        without = _without_each(number, count)
        low, high = _limits(value, count * value - (count - 1) * (statistic(a, without) - statistic(b, without)))
    both = np.concatenate([a, b])
    swapped = np.random.default_rng([seed, 1]).random((resamples, count)) < 0.5
    own = 1.0 - swapped[:, number]
    swaps = statistic(both, np.hstack([own, 1 - own])) - statistic(both, np.hstack([1 - own, own]))
    swaps = swaps[~np.isnan(swaps)]
    reached = int((np.abs(swaps) >= abs(value) - 1e-12).sum())
    return Difference(value, low, high, (1 + reached) / (1 + len(swaps)), len(a), count)


def jackknife(
    statistics: Callable[[np.ndarray], Mapping[str, float]],
    songs: Sequence[Hashable],
    *,
    blocks: int = 20,
    seed: int = 0,
) -> dict[str, Score]:
    """Statistics of whole sets, each with Student's interval from leaving songs out (delete-a-group jackknife).

    For distances between distributions, which cost too much to be computed without each song. The songs are dealt at
    random into at most `blocks` groups, each left out once.

    Args:
        statistics: takes which clips are in, bool (clips,), and gives numbers by name.
        songs: of each clip.
    """
    number = _numbered(songs)
    count = int(number.max(initial=-1)) + 1
    whole = statistics(np.ones(len(number), dtype=bool))
    from scipy.stats import t

    groups = min(blocks, count)
    group = (np.random.default_rng(seed).permutation(count) % groups)[number] if groups else number
    left = [statistics(group != k) for k in range(groups)] if groups >= FEWEST_SONGS else []
    scores = {}
    for name, value in whole.items():
        if not math.isfinite(value):
            scores[name] = Score(None, None, None, len(number), count)
            continue
        without = np.array([part[name] for part in left])
        error = math.nan
        if len(without):
            error = math.sqrt((groups - 1) / groups * float(((without - without.mean()) ** 2).sum()))
            error *= float(t.ppf((1 + LEVEL) / 2, groups - 1))
        low, high = (float(value - error), float(value + error)) if math.isfinite(error) else (None, None)
        scores[name] = Score(float(value), low, high, len(number), count)
    return scores


def _numbered(songs: Sequence[Hashable]) -> np.ndarray:
    numbers = {song: k for k, song in enumerate(dict.fromkeys(songs))}
    return np.array([numbers[song] for song in songs], dtype=int)


def _without_each(number: np.ndarray, count: int) -> np.ndarray:
    """Weights of the clips (songs, clips) that leave one song after the other out."""
    return 1.0 - (np.arange(count)[:, None] == number[None, :])


def _value(array: np.ndarray, statistic: Statistic) -> float | None:
    if not len(array):
        return None
    value = float(statistic(array, np.ones((1, len(array))))[0])
    return value if math.isfinite(value) else None


def _limits(
    value: float, shares: np.ndarray, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float | None, float | None]:
    """Limits of a statistic from each song's share in it, (songs,)."""
    from scipy.stats import t

    count = len(shares)
    spread = float(shares.std(ddof=1))
    if not math.isfinite(spread):
        return None, None
    least, most = bounds
    if spread <= 1e-9 * max(1.0, abs(value)):
        # Of S songs that all succeed: the least chance of success with which that happens in 2.5 % of draws.
        missed = (1 - ((1 - LEVEL) / 2) ** (1 / count)) * (most - least)
        if value >= most - 1e-9:
            return most - missed, most
        return (least, least + missed) if value <= least + 1e-9 else (None, None)
    centred = shares - shares.mean()
    skewness = float((centred**3).mean() / (centred**2).mean() ** 1.5)
    quantile = float(t.ppf((1 + LEVEL) / 2, count - 1))
    low, high = (value - spread * _unskewed(limit, skewness, count) for limit in (quantile, -quantile))
    return max(low, least), min(high, most)


def _unskewed(limit: float, skewness: float, count: int) -> float:
    """Hall's transformation turned back: by how many standard deviations a mean lies off where t would lie at `limit`.

    With x = (mean - truth) / s, g = x + skewness x^2 / 3 + skewness^2 x^3 / 27 + skewness / (6 n) has hardly any skew,
    and sqrt(n) g is compared with Student's t.
    """
    aim = limit / math.sqrt(count)
    if abs(skewness) < 1e-6:
        return aim
    return (
        3 / skewness * (math.copysign(abs(cube := 1 + skewness * (aim - skewness / (6 * count))) ** (1 / 3), cube) - 1)
    )
