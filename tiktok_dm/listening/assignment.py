"""Who hears what next: the order of a session, and the choice of a cell so that votes stay balanced.

A cell is one item under one condition. The rule: a cell is handed out only while it has the fewest votes of all cells
and nobody else holds it. Then a vote always raises a cell from the lowest count, so that the votes of any two cells
differ by at most one at any time, whoever comes, leaves, or comes back. The price is that at the end of a round (all
cells once) raters may wait a moment for the last clips that others are hearing.

Pure functions of what the store knows; not for transactions (`store`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tiktok_dm.listening.study import Study, TrialKind


@dataclass(frozen=True)
class Cell:
    """An item under a condition, as it stands.

    Args:
        index: `item * n_conditions + condition`.
        item, condition: which.
        votes: answers that it has.
        free: whether nobody else holds it.
    """

    index: int
    item: int
    condition: int
    votes: int
    free: bool


def draw(seed: int, *what: object) -> random.Random:
    """A generator that depends on the study's seed and on what it is for, and on nothing else."""
    text = ":".join(str(part) for part in (seed, *what))
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def steps(study: Study, rater: int) -> list[TrialKind]:
    """Kinds of a rater's trials in order: sound checks, practice, then ratings with the attention checks among them.

    Checks lie at random places, neither first nor last, and no two side by side where there is room.
    """
    opening: list[TrialKind] = ["volume", *["headphones"] * study.headphone_trials]  # type: ignore[list-item]
    if study.practice:
        opening.append("practice")
    session: list[TrialKind] = ["rating"] * study.items_a_rater
    gaps = range(1, study.items_a_rater) or range(1)
    rng = draw(study.seed, "checks", rater)
    places = rng.sample(gaps, min(study.checks, len(gaps)))
    places += rng.choices(gaps, k=study.checks - len(places))
    for place in sorted(places, reverse=True):
        session.insert(place, "check")
    return [*opening, *session]


def choose(cells: Sequence[Cell], met: Collection[int], heard: Sequence[int], study: Study, rater: int) -> Cell | None:
    """The cell that a rater gets next, or None when none is to be had now.

    Among the cells that may be handed out: first a condition that this rater has met least often, then the item that
    lacks most votes in this round (so that no item is left over for raters who have met it), then by lot.

    Args:
        cells: all cells.
        met: items that the rater has met.
        heard: by condition, how often the rater was given it.
        study: for its seed.
        rater: number.
    """
    fewest = min(cell.votes for cell in cells)
    lacking = [0] * study.n_items
    for cell in cells:
        lacking[cell.item] += cell.votes == fewest
    open_to = [cell for cell in cells if cell.votes == fewest and cell.free and cell.item not in met]
    if not open_to:
        return None

    def order(cell: Cell) -> tuple[int, int, float]:
        return heard[cell.condition], -lacking[cell.item], draw(study.seed, "cell", rater, cell.index).random()

    return min(open_to, key=order)
