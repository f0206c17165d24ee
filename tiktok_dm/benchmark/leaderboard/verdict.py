"""Who is ranked, and where: a gate on how the music sounds, and rank ranges by how it follows the dance.

Clicks that watch the dance meet its beats better than music does, so following the dance ranks nobody alone. A system
passes the gate when its set of music lies nearer to the test music than half way from the test music's own halves to
noise (KAD), and reaches a share of the test music's neighbourhoods (coverage). Among those that pass, one stands before
another only where a paired test over songs says so (Holm's correction over all pairs): a rank is a range.

`benchmarks/gate.json` has how often the gate errs on drawn systems.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.benchmark.metrics.distribution import distribution_metrics

PRIMARY = "beat_f_70ms"
"""By which systems are ranked: it hears tempo and phase together."""
KAD_SHARE = 0.5
COVERAGE_SHARE = 0.01
"""Of the halves' own coverage."""
ALPHA = 0.05
_DRAWS = 10


@dataclass(frozen=True)
class Levels:
    """What the sound of a set is held against.

    Args:
        kad, coverage: of one half of the test music's songs against the other, medians over random halves; None with
            fewer than six.
        noise_kad: of pink noise.
    """

    kad: float | None
    coverage: float | None
    noise_kad: float

    @property
    def kad_limit(self) -> float:
        """Largest KAD that passes."""
        least = self.kad if self.kad is not None else 0.0
        return least + KAD_SHARE * (self.noise_kad - least)

    @property
    def coverage_floor(self) -> float:
        """Least coverage that passes."""
        return COVERAGE_SHARE * (self.coverage if self.coverage is not None else 1.0)


def halves(rows: Sequence[np.ndarray | None], songs: Sequence[Hashable], *, seed: int = 0) -> dict[str, float | None]:
    """KAD and coverage of one half of the songs against the other, medians over ten random halves.

    None for fewer than six songs: halves of two or three differ as two or three songs do.

    Args:
        rows: embedding of each clip, (windows, dimensions); None for a silent one.
        songs: of each clip.
    """
    names = list(dict.fromkeys(songs))
    rng = np.random.default_rng([seed, 7])
    found: list[dict[str, float]] = []
    for _ in range(_DRAWS if len(names) >= intervals.FEWEST_SONGS else 0):
        first = {names[k] for k in rng.permutation(len(names))[: len(names) // 2]}
        sides = [
            [row for row, song in zip(rows, songs, strict=True) if row is not None and (song in first) == side]
            for side in (True, False)
        ]
        if all(sum(map(len, side)) > 1 for side in sides):
            found.append(distribution_metrics(np.concatenate(sides[0]), np.concatenate(sides[1]), seed=seed))
    medians: dict[str, float | None] = {}
    for name in ("kad", "coverage"):
        values = [one[name] for one in found if math.isfinite(one[name])]
        medians[name] = float(np.median(values)) if values else None
    return medians


def failures(kad: float | None, coverage: float | None, levels: Levels) -> list[str]:
    """Why a set of music does not pass the gate, a sentence each; empty where it passes."""
    found = []
    if kad is None or kad > levels.kad_limit:
        told = "none can be computed" if kad is None else f"it is {kad:.1f}"
        found.append(
            f"It is farther from the test music than half way to noise: KAD may be {levels.kad_limit:.1f}, {told}."
        )
    if coverage is None or coverage < levels.coverage_floor:
        told = "none can be computed" if coverage is None else f"it is {coverage:.3f}"
        found.append(f"It covers too little of the test music: {levels.coverage_floor:.3f} is needed, {told}.")
    return found


def rank_ranges(
    scores: Sequence[Mapping[str, float | None]],
    songs: Mapping[str, Hashable],
    *,
    resamples: int = intervals.RESAMPLES,
    seed: int = 0,
) -> list[tuple[int, int]]:
    """Best and worst rank of each system that the data allow, 1 being best.

    Every pair is compared clip by clip by swapping the two systems on whole songs (`intervals.difference`), and the
    p-values are corrected for the number of pairs (Holm, Scand. J. Stat. 6, 1979). A system's best rank is 1 + those
    that are surely better, its worst the number of systems less those that are surely worse.

    Args:
        scores: of each system by clip, higher being better; None counts as 0.
        songs: of each clip.
    """
    clips = list(songs)
    values = np.array([[one.get(clip) or 0.0 for clip in clips] for one in scores]).reshape(len(scores), len(clips))
    pairs = list(combinations(range(len(scores)), 2))
    found = [
        intervals.difference(values[a], values[b], list(songs.values()), resamples=resamples, seed=seed)
        for a, b in pairs
    ]
    better, worse = [0] * len(scores), [0] * len(scores)
    order = sorted(range(len(pairs)), key=lambda k: 1.0 if (p := found[k].p_value) is None else p)
    for place, k in enumerate(order):
        p_value, value = found[k].p_value, found[k].value
        if p_value is None or value is None or p_value * (len(pairs) - place) > ALPHA:
            break
        a, b = pairs[k]
        first, second = (a, b) if value > 0 else (b, a)
        better[second] += 1
        worse[first] += 1
    return [(1 + better[k], len(scores) - worse[k]) for k in range(len(scores))]
