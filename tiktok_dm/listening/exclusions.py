"""Whose answers are left out, and why, by the rules that a study fixed when it was made.

Not for the rules themselves (`study.Exclusion`) and not for what the answers that stay say (`report`).
"""

from __future__ import annotations

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
