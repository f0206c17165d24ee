"""How often 95 % intervals over songs hold the truth: the shipped one, and those that were tried beside it.

    python -m benchmarks.intervals [--samples 2000] [--json benchmarks/intervals.json]

Scores of as many songs are drawn with a known mean: normal ones; skewed ones (exponential, log-normal); and shares of
which most are near 1 (beta of 0.9 and 0.3). Printed are coverage and median width.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from tiktok_dm.benchmark.metrics import intervals

SONGS = (2, 3, 6, 10, 20, 43)
RESAMPLES = 600
SCORES: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
    "log-normal": (lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5))),
    "shares near 1": (lambda rng, n: rng.beta(0.9, 0.3, size=n), 0.75),
}
Interval = tuple[float, float]


def every_interval(scores: np.ndarray, rng: np.random.Generator) -> dict[str, Interval]:
    """Intervals of a mean of songs' scores (songs,), by method."""
    n, mean, error = len(scores), scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores))
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    means = weights @ scores
    errors = np.sqrt(np.maximum(weights @ scores**2 - means**2, 0) / (n - 1))
    usable = errors > 1e-9 * error
    studentised = (means[usable] - mean) / errors[usable]
    t = stats.t.ppf(0.975, n - 1)
    below = stats.norm.ppf(np.clip((means < mean).mean(), 1e-3, 1 - 1e-3))
    moved = mean - scores
    acceleration = -(moved**3).sum() / (6 * (moved**2).sum() ** 1.5)
    levels = [
        stats.norm.cdf(below + (below + z) / (1 - acceleration * (below + z))) for z in stats.norm.ppf([0.025, 0.975])
    ]
    low, high = np.quantile(studentised, [0.025, 0.975]) if len(studentised) else (-np.inf, np.inf)
    shares = n * mean - (n - 1) * (scores.sum() - scores) / (n - 1)
    shipped = intervals._limits(float(mean), shares)
    return {
        "percentile": tuple(np.quantile(means, [0.025, 0.975])),
        "BCa": tuple(np.quantile(means, levels)),
        "Student": (mean - t * error, mean + t * error),
        "studentised bootstrap": (mean - high * error, mean - low * error),
        "shipped": (shipped[0] or 0.0, shipped[1] or 0.0),
    }


def coverage(samples: int) -> list[dict[str, object]]:
    """One row for each number of songs, kind of score and method."""
    rows: list[dict[str, object]] = []
    for songs in SONGS:
        for kind, (draw, truth) in SCORES.items():
            rng = np.random.default_rng([songs, len(kind)])
            held: dict[str, int] = {}
            widths: dict[str, list[float]] = {}
            for _ in range(samples):
                for method, (low, high) in every_interval(draw(rng, songs), rng).items():
                    held[method] = held.get(method, 0) + bool(low <= truth <= high)
                    widths.setdefault(method, []).append(high - low)
            for method, count in held.items():
                width = round(float(np.median(widths[method])), 3)
                rows.append({"songs": songs, "scores": kind, "method": method, "held": count / samples, "width": width})
    return rows


def main() -> None:
    """Print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = coverage(args.samples)
    for row in rows:
        print(f"{row['songs']:>3} songs, {row['scores']}: {row['method']} {row['held']:.3f}, width {row['width']}")
    if args.json:
        record = {"samples": args.samples, "resamples": RESAMPLES, "fewest_songs": intervals.FEWEST_SONGS, "rows": rows}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
