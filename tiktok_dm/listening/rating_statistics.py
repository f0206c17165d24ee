"""Intervals and tests on ratings: the statistics behind the report, on plain arrays.

Not for which ratings count (`exclusions`) and which systems are compared (`report`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def cluster_bootstrap(
    values: np.ndarray, raters: np.ndarray, items: np.ndarray, conditions: np.ndarray, *, draws: int, seed: int
) -> np.ndarray:
    """Means by condition under resampling of raters and items (pigeonhole bootstrap, Owen 2007).

    Args:
        values: ratings, (n,).
        raters, items, conditions: whose, of what, and under which, integers (n,).
        draws: number of resamplings.
        seed: of the generator.

    Returns:
        float64 (draws, conditions); nan where a draw holds no rating of a condition.
    """
    rng = np.random.default_rng(seed)
    _, rater = np.unique(raters, return_inverse=True)
    _, item = np.unique(items, return_inverse=True)
    n_raters, n_items = rater.max() + 1, item.max() + 1
    of = np.eye(int(conditions.max()) + 1)[conditions]
    means = np.full((draws, of.shape[1]), np.nan)
    for first in range(0, draws, 500):
        n = min(500, draws - first)
        by_rater = rng.multinomial(n_raters, np.full(n_raters, 1 / n_raters), n)
        by_item = rng.multinomial(n_items, np.full(n_items, 1 / n_items), n)
        weight = (by_rater[:, rater] * by_item[:, item]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[first : first + n] = (weight * values) @ of / (weight @ of)
    return means


def interval(draws: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of bootstrap draws (those that are defined); nan without any."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def signed_rank(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of the Wilcoxon signed-rank test on pairs, (n,) each; 1 where no pair differs."""
    from scipy.stats import wilcoxon

    # Means of a few ratings: what differs in the last bits only is equal.
    differences = np.round(np.asarray(first, np.float64) - np.asarray(second, np.float64), 9)
    if not np.any(differences):
        return 1.0
    return float(wilcoxon(differences, zero_method="wilcox", alternative="two-sided").pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected after Holm (1979)."""
    if not p:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(list(p), method="holm")[1]]
