"""Who hears what next, and who holds which cell until when, so that votes stay balanced.

A cell is one item under one condition. The rule: a cell is handed out only while it has the fewest votes of all cells
and nobody else holds it. Then a vote always raises a cell from the lowest count, so that the votes of any two cells
differ by at most one at any time, whoever comes, leaves, or comes back. The price is that at the end of a round (all
cells once) raters may wait a moment for the last clips that others are hearing.

Pure functions of what the store knows; not for transactions (`store`).

A cell is held while the rater's page says that it is open, at most as long as the study allows; then it may go to
someone else. Everything here runs inside a transaction of the caller's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tiktok_dm.listening.database import CELLS, TRIALS
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

    def need(cell: Cell) -> tuple[int, int]:
        return heard[cell.condition], -lacking[cell.item]

    first = min(map(need, open_to))
    alike = [cell for cell in open_to if need(cell) == first]
    return min(alike, key=lambda cell: draw(study.seed, "cell", rater, cell.index).random())


class Leases:
    """The cells of one study.

    Args:
        study: which.
    """

    def __init__(self, study: Study) -> None:
        self.study = study

    def met(self, db: Connection, number: int) -> set[int]:
        """Items that a rater was given, answered or not."""
        rows = db.execute(sa.select(TRIALS.c.item).where(TRIALS.c.rater == number, TRIALS.c.item.is_not(None)))
        return set(rows.scalars())

    def next_cell(self, db: Connection, number: int, now: float) -> Cell | None:
        """The cell that a rater gets next (not held yet), or None when none is to be had now."""
        conditions = self.study.n_conditions
        cells = [
            Cell(
                row.cell,
                row.cell // conditions,
                row.cell % conditions,
                row.votes,
                row.holder is None or row.held_until < now,
            )
            for row in db.execute(sa.select(CELLS).order_by(CELLS.c.cell))
        ]
        heard = [0] * conditions
        for cell in db.execute(
            sa.select(TRIALS.c.cell).where(TRIALS.c.rater == number, TRIALS.c.cell.is_not(None))
        ).scalars():
            heard[cell % conditions] += 1
        return choose(cells, self.met(db, number), heard, self.study, number)

    def hold(self, db: Connection, cell: int, rater: int, handed_at: float, now: float) -> None:
        """Let a rater hold a cell from `now` on, and no longer than a clip may take since it was handed out."""
        until = min(now + self.study.lease_s, handed_at + self.study.longest_s)
        db.execute(CELLS.update().where(CELLS.c.cell == cell).values(holder=rater, held_until=until))

    def may_vote(self, db: Connection, trial: Any, now: float) -> bool:
        """Whether a rating trial's cell is still this rater's, or came back and has the fewest votes."""
        row = db.execute(sa.select(CELLS).where(CELLS.c.cell == trial.cell)).one()
        if row.holder == trial.rater:
            return True
        fewest = db.execute(sa.select(sa.func.min(CELLS.c.votes))).scalar_one()
        return (row.holder is None or row.held_until < now) and row.votes == fewest

    def still_held(self, db: Connection, trial: Any, now: float) -> bool:
        """Whether a trial that was handed out before is still the rater's; then it is held anew."""
        if trial.kind != "rating":
            return True
        if not self.may_vote(db, trial, now):
            return False
        # Whoever comes back to a clip has all the time for it again.
        row = db.execute(sa.select(CELLS).where(CELLS.c.cell == trial.cell)).one()
        if row.holder != trial.rater or row.held_until < now:
            db.execute(TRIALS.update().where(TRIALS.c.trial == trial.trial).values(handed_at=now))
            self.hold(db, trial.cell, trial.rater, now, now)
        else:
            self.hold(db, trial.cell, trial.rater, trial.handed_at, now)
        return True

    def vote(self, db: Connection, cell: int) -> None:
        """A cell has one answer more, and nobody holds it."""
        db.execute(
            CELLS.update().where(CELLS.c.cell == cell).values(votes=CELLS.c.votes + 1, holder=None, held_until=None)
        )

    def prolong(self, db: Connection, cell: int, rater: int, handed_at: float, now: float) -> None:
        """Hold a cell for longer, if the rater holds it."""
        held = db.execute(sa.select(CELLS.c.holder).where(CELLS.c.cell == cell)).scalar()
        if held == rater:
            self.hold(db, cell, rater, handed_at, now)

    def give_back(self, db: Connection, cell: int, rater: int) -> None:
        """Let a cell go to someone else, if the rater holds it."""
        db.execute(
            CELLS.update().where(CELLS.c.cell == cell, CELLS.c.holder == rater).values(holder=None, held_until=None)
        )
