"""Studies without real media, raters without ears, and a clock that is set by hand."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from tiktok_dm.listening import study as studies
from tiktok_dm.listening.store import Store, Trial
from tiktok_dm.listening.study import Clip, Condition, Key, Material, Study

SECONDS = 2.0


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def study_of(
    folder: Path,
    *,
    items: int = 3,
    systems: tuple[str, ...] = ("alpha-net", "beta-net"),
    protocol: str = "quality",
    **more,
) -> tuple[Study, Key]:
    """A study whose stimuli are a few bytes each; conditions are the systems, `reference`, `anchor`, in this order."""
    (folder / studies.STIMULI).mkdir(parents=True)
    names = iter(f"{k:024x}.m4a" for k in range(1000))

    def clip() -> Clip:
        name = next(names)
        (folder / studies.STIMULI / name).write_bytes(f"sound {name}".encode())
        return Clip(file=name, seconds=SECONDS)

    conditions = [Condition(name=name, kind="system") for name in systems]
    conditions += [Condition(name="reference", kind="reference"), Condition(name="anchor", kind="anchor")]
    shown = studies.PROTOCOLS[protocol]
    settings = {"items_a_rater": items, "raters": 20, "checks": 1, "headphone_trials": 1, "longest_s": 300.0} | more
    study = Study(
        name=f"study-{random.SystemRandom().random()}",
        protocol=shown,
        seed=7,
        n_items=items,
        n_conditions=len(conditions),
        loudness_lufs=-23.0,
        consent=("You take part.",),
        **settings,
    )
    key = Key(
        admin_token="the admin token",
        conditions=tuple(conditions),
        items=tuple(f"clip{k}" for k in range(items)),
        clips=tuple(tuple(clip() for _ in conditions) for _ in range(items)),
        originals=tuple(clip() for _ in range(items)) if shown.beside_original else (),
        materials=(
            Material(kind="volume", clip=clip(), choices=5, expected=3),
            Material(kind="headphones", clip=clip(), choices=3, expected=2),
            Material(kind="practice", clip=clip()),
            Material(kind="check", clip=clip()),
        ),
    )
    studies.write(folder, study, key)
    return study, key


def open_store(folder: Path, clock: Clock, url: str | None = None) -> Store:
    study, key = studies.read(folder)
    return Store(folder, study, key, studies.digest(folder), url, clock)


def hear(store: Store, rater: int, trial: Trial, clock: Clock) -> None:
    """Fetch what a trial plays, and let its time pass."""
    store.fetched(rater, trial.trial, "clip")
    if trial.original is not None:
        store.fetched(rater, trial.trial, "original")
    clock.now += 5.0


def to_rating(store: Store, rater: int, clock: Clock) -> Trial:
    """Bring a rater through all that comes before the next rating trial."""
    while True:
        trial = store.position(rater).trial
        assert trial is not None
        if trial.kind == "rating":
            return trial
        hear(store, rater, trial, clock)
        store.answer(rater, trial.trial, trial.expected or 1, 1, 1)


def new_rater(store: Store) -> int:
    token = store.begin()
    assert token is not None
    rater = store.rater(token)
    assert rater is not None
    return rater


def cell_of(store: Store, trial: Trial) -> int:
    with store.database.alone() as db:
        query = sa.text("SELECT cell FROM listen_trials WHERE trial = :trial")
        return db.execute(query, {"trial": trial.trial}).scalar_one()


def spread(store: Store) -> int:
    votes = [n for row in store.votes() for n in row]
    return max(votes) - min(votes)


def table(
    key: Key, ratings: list[tuple[int, int, int, int]], *, seconds: float = 10.0
) -> tuple[list[dict], list[dict]]:
    """Raters and trials as `Store.everything` gives them, of (rater, item, condition, rating)."""
    numbers = sorted({rater for rater, *_ in ratings})
    raters = [{"number": n, "ended_at": 1.0, "cut_short": False} for n in numbers]
    trials = []
    for n in numbers:
        trials.append(trial_row(n, "volume", answer=3, expected=3))
    for rater, item, condition, rating in ratings:
        cell = item * len(key.conditions) + condition
        trials.append(trial_row(rater, "rating", answer=rating, cell=cell, at=float(len(trials)), seconds=seconds))
    return raters, trials


def trial_row(
    rater: int,
    kind: str,
    *,
    answer: int,
    expected: int | None = None,
    cell: int | None = None,
    at: float = 0.0,
    seconds: float = 10.0,
) -> dict:
    return {
        "rater": rater,
        "kind": kind,
        "cell": cell,
        "expected": expected,
        "answer": answer,
        "handed_at": at,
        "clip_at": at,
        "original_at": None,
        "answered_at": at + seconds,
        "plays": 1,
        "original_plays": 0,
    }


def tone(seconds: float, hz: float = 440.0, level: float = 0.3, rate: int = 22_050) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)
