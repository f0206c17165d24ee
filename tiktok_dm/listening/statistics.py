"""Statistics of ratings: whose answers are left out by a study's rules, intervals and tests on the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiktok_dm.listening.study import Key, Study


@dataclass
class Session:
    """A rater's trials, sorted out."""

    ratings: list[dict[str, Any]]
    checks: list[bool]
    headphones: list[bool]
    volume: list[bool]


def sessions_of(raters: Sequence[Mapping[str, Any]], trials: Sequence[Mapping[str, Any]]) -> dict[int, Session]:
    """The answered trials of each rater, by number; raters and trials as `Store.everything` gives them."""
    sessions = {rater["number"]: Session([], [], [], []) for rater in raters}
    for trial in trials:
        if trial["answered_at"] is None:
            continue
        session = sessions[trial["rater"]]
        right = trial["answer"] == trial["expected"]
        if trial["kind"] == "rating":
            session.ratings.append(dict(trial))
        elif trial["kind"] == "check":
            session.checks.append(right)
        elif trial["kind"] == "headphones":
            session.headphones.append(right)
        elif trial["kind"] == "volume":
            session.volume.append(right)
    return sessions


def reasons(study: Study, key: Key, session: Session, ended_short: bool = False) -> list[str]:
    """Why a rater is left out, by the rules of the study; empty for one who is kept.

    Args:
        session: the rater's answers.
        ended_short: the study itself ended the session before all clips, which is no fault of the rater.
    """
    rules, found = study.exclusion, []
    ratings = session.ratings
    failed = session.checks.count(False)
    if failed >= rules.failed_checks:
        found.append(f"failed {failed} of {len(session.checks)} attention checks")
    if not ended_short and len(ratings) < rules.least_share * study.items_a_rater:
        found.append(f"answered {len(ratings)} of {study.items_a_rater} clips")
    quick = 0
    for trial in ratings:
        item, condition = divmod(trial["cell"], study.n_conditions)
        least = key.clips[item][condition].seconds + (key.originals[item].seconds if key.originals else 0.0)
        began = min(at for at in (trial["clip_at"], trial["original_at"]) if at is not None)
        quick += trial["answered_at"] - began < least + rules.quick_s
    if ratings and quick > rules.quick_share * len(ratings):
        found.append(f"answered {quick} of {len(ratings)} clips too fast")
    reference = [
        trial["answer"] for trial in ratings if key.conditions[trial["cell"] % study.n_conditions].kind == "reference"
    ]
    if len(reference) >= 2 and np.mean(reference) < rules.reference_below:
        found.append(f"rated the hidden reference {np.mean(reference):.2f} on average")
    if len(ratings) >= rules.same_rating_from and len({trial["answer"] for trial in ratings}) == 1:
        found.append(f"gave the same rating {len(ratings)} times")
    if rules.volume and ratings and not any(session.volume):
        found.append("never passed the volume check")
    heard = session.headphones
    if rules.headphones == "exclude" and heard and sum(heard) < rules.headphones_right * len(heard) - 1e-9:
        found.append(f"{sum(heard)} of {len(heard)} right in the headphone check")
    return found


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
