"""Raters, trials and votes: each step one transaction of the `database`, beside which no other one runs.

Each takes a few milliseconds, and a rater makes a few a minute. Not for who holds which clip (`leases`), what raters
see (`server`) and what the answers mean (`report`).
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tiktok_dm.errors import UserError
from tiktok_dm.listening.assignment import Leases, draw, steps
from tiktok_dm.listening.database import CELLS, RATERS, TRIALS, Database
from tiktok_dm.listening.study import HIGHEST, LOWEST, Clip, Key, Material, Study, TrialKind, invitations

_VOLUME_TRIES = 3
_AWAY_S = 1800.0
"""A rater of whom nothing was heard for so long no longer keeps a place in the study."""
_EARLY_S, _EARLY_SHARE = 0.5, 0.05
"""Clocks, buffers and rounding may let a clip end so much before its length."""


class Refused(Exception):
    """A request that may not be granted; `status` is HTTP's, the text is for the rater."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Trial:
    """A trial as it is handed out.

    Args:
        trial: its random id.
        kind: of it.
        expected: the right answer of a check, or None.
        choices: possible answers are 1 to so many.
        clip, original: what is played.
        number: place among the rating trials, from 1 (an attention check has that of the clip after it); 0 for others.
    """

    trial: str
    kind: TrialKind
    expected: int | None
    choices: int
    clip: Clip
    original: Clip | None
    number: int


@dataclass(frozen=True)
class Position:
    """Where a rater stands.

    Args:
        stage: `trial`, `wait`, or `done`.
        trial: what is to be answered next.
        answered: rating trials answered.
        code: completion code, when done.
        cut_short: whether the session ended before all its clips.
    """

    stage: str
    answered: int
    trial: Trial | None = None
    code: str = ""
    cut_short: bool = False


@dataclass(frozen=True)
class Place:
    """A session as the owner sees it.

    Args:
        rater: its number.
        state: `finished`, `here`, `away` (unfinished, and long not seen), or `freed`.
        answered: rating trials answered.
        seen_at: seconds since 1970.
        counts: whether it takes a place.
    """

    rater: int
    state: str
    answered: int
    seen_at: float
    counts: bool


class _ForwardClock:
    """A clock's steps forward alone, from a time that is not before `since`: one that is set back loses nobody's time.

    Args:
        clock: seconds.
        since: the last time that was written down.
    """

    def __init__(self, clock: Callable[[], float], since: float) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._last = clock()
        self._now = max(self._last, since)

    def __call__(self) -> float:
        with self._guard:
            last = self._clock()
            self._now += max(0.0, last - self._last)
            self._last = last
            return self._now


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Store:
    """The answers of one study.

    Args:
        folder: of the study.
        study, key: as read from it.
        design: `study.digest` of the folder; tied to the database when it is made.
        url: of a database; None: SQLite in the study's folder.
        clock: seconds; for tests. Where it is set back, the store's time goes on from where it was.

    Attributes:
        design_changed: whether the design is another one than when the database was made.
        known: raters by token, as far as they were asked for: a token's rater never changes.

    Raises:
        UserError: the database cannot be reached, or belongs to another study.
    """

    def __init__(
        self,
        folder: Path,
        study: Study,
        key: Key,
        design: str,
        url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.study, self.key = folder, study, key
        self.database = Database(folder, study, design, url)
        self.clock = _ForwardClock(clock, self._latest())
        self.leases = Leases(study)
        self.known: dict[str, int] = {}

    @property
    def design_changed(self) -> bool:
        """Whether the design is another one than when the database was made."""
        return self.database.design_changed

    def close(self) -> None:
        """Give the connections back."""
        self.database.close()

    def _latest(self) -> float:
        with self.database.alone() as db:
            times = (RATERS.c.seen_at, TRIALS.c.handed_at, TRIALS.c.clip_at, TRIALS.c.original_at, TRIALS.c.answered_at)
            return max(db.execute(sa.select(sa.func.max(time))).scalar() or 0.0 for time in times)

    # -------------------------------------------------------------------------------------------- raters

    def invited(self, token: str) -> bool:
        """Whether a token is one of the study's invitations."""
        return self.study.access == "invited" and token in invitations(self.folder)

    def begin(self, invitation: str = "") -> str | None:
        """A new rater's secret token, or None when enough raters have come.

        Args:
            invitation: token of an invited study; it becomes the rater's own, so that each invitation has one session.

        Raises:
            Refused: the study is by invitation, and this is none.
        """
        if self.study.access == "invited" and not self.invited(invitation):
            raise Refused(403, "This study is by invitation: open the link that you were given.")
        token = invitation if self.study.access == "invited" else secrets.token_urlsafe(24)
        with self.database.alone() as db:
            now = self.clock()
            if db.execute(sa.select(RATERS.c.number).where(RATERS.c.token == _hashed(token))).first() is not None:
                return token  # asked twice at once
            if not self._has_room(db, now):
                return None
            last = db.execute(sa.select(sa.func.max(RATERS.c.number))).scalar() or 0
            db.execute(
                RATERS.insert().values(
                    number=last + 1,
                    token=_hashed(token),
                    step=0,
                    tries=0,
                    began_at=now,
                    seen_at=now,
                    cut_short=False,
                    code=secrets.token_hex(4).upper(),
                )
            )
        return token

    def has_room(self) -> bool:
        """Whether a new rater would be let in."""
        with self.database.alone() as db:
            return self._has_room(db, self.clock())

    def _has_room(self, db: Connection, now: float) -> bool:
        return sum(place.counts for place in self._places(db, now)) < self.study.raters

    def _places(self, db: Connection, now: float) -> list[Place]:
        """All sessions. One counts from its first rating on; when finished or away, only with what the analysis takes.

        So that whoever begins sessions and rates nothing takes no place, and places come back.
        """
        votes = sa.func.count(TRIALS.c.trial)
        rated = sa.and_(TRIALS.c.rater == RATERS.c.number, TRIALS.c.kind == "rating", TRIALS.c.answered_at.is_not(None))
        rows = db.execute(
            sa.select(RATERS.c.number, RATERS.c.ended_at, RATERS.c.seen_at, RATERS.c.freed, votes.label("answered"))
            .select_from(RATERS.outerjoin(TRIALS, rated))
            .group_by(RATERS.c.number, RATERS.c.ended_at, RATERS.c.seen_at, RATERS.c.freed)
            .order_by(RATERS.c.number)
        )
        enough = max(1, math.ceil(self.study.exclusion.least_share * self.study.items_a_rater))
        places = []
        for number, ended_at, seen_at, freed, answered in rows:
            if freed:
                state, counts = "freed", False
            elif ended_at is not None:
                state, counts = "finished", answered >= enough
            elif seen_at > now - _AWAY_S:
                state, counts = "here", answered >= 1
            else:
                state, counts = "away", False
            places.append(Place(number, state, answered, seen_at, counts))
        return places

    def places(self) -> list[Place]:
        """All sessions, in the order in which they were begun."""
        with self.database.alone() as db:
            return self._places(db, self.clock())

    def unused_invitations(self) -> list[str]:
        """Tokens of invitations with which no session was begun yet."""
        with self.database.alone() as db:
            used = set(db.execute(sa.select(RATERS.c.token)).scalars())
        return [token for token in invitations(self.folder) if _hashed(token) not in used]

    def free(self, rater: int) -> None:
        """End a rater's session and give its place to others; its answers stay, and the exclusion rules judge them.

        Raises:
            UserError: there is no such rater.
        """
        with self.database.alone() as db:
            row = db.execute(sa.select(RATERS).where(RATERS.c.number == rater)).first()
            if row is None:
                raise UserError(f"There is no session {rater} in this study: `tiktok-dm listen places` lists them.")
            ended = {"ended_at": self.clock(), "cut_short": True} if row.ended_at is None else {}
            db.execute(RATERS.update().where(RATERS.c.number == rater).values(freed=True, **ended))
            db.execute(TRIALS.update().where(TRIALS.c.rater == rater, TRIALS.c.answered_at.is_(None)).values(lost=True))
            db.execute(CELLS.update().where(CELLS.c.holder == rater).values(holder=None, held_until=None))

    def rater(self, token: str) -> int | None:
        """The number of the rater to whom a token was given."""
        if token not in self.known:
            with self.database.alone() as db:
                number = db.execute(sa.select(RATERS.c.number).where(RATERS.c.token == _hashed(token))).scalar()
            if number is None:
                return None
            self.known[token] = number
        return self.known[token]

    # ------------------------------------------------------------------------------------------- handing out

    def position(self, rater: int) -> Position:
        """Where a rater stands; hands out the next trial where there is one."""
        with self.database.alone() as db:
            return self._position(db, rater)

    def _position(self, db: Connection, number: int) -> Position:
        now = self.clock()
        db.execute(RATERS.update().where(RATERS.c.number == number).values(seen_at=now))
        rater = db.execute(sa.select(RATERS).where(RATERS.c.number == number)).one()
        answered = db.execute(
            sa.select(sa.func.count()).where(
                TRIALS.c.rater == number, TRIALS.c.kind == "rating", TRIALS.c.answered_at.is_not(None)
            )
        ).scalar_one()
        if rater.ended_at is not None:
            return Position("done", answered, code=rater.code, cut_short=rater.cut_short)
        open_trial = db.execute(
            sa.select(TRIALS).where(TRIALS.c.rater == number, TRIALS.c.answered_at.is_(None), TRIALS.c.lost.is_(False))
        ).first()
        if open_trial is not None:
            if self.leases.still_held(db, open_trial, now):
                return Position("trial", answered, self._trial(open_trial, answered))
            db.execute(TRIALS.update().where(TRIALS.c.trial == open_trial.trial).values(lost=True))
        plan = steps(self.study, number)
        step = rater.step
        if step >= len(plan):
            return self._end(db, number, answered, now)
        values: dict[str, Any] = {
            "trial": secrets.token_urlsafe(12),
            "rater": number,
            "step": step,
            "kind": plan[step],
            "handed_at": now,
            "lost": False,
        }
        if plan[step] == "rating":
            cell = self.leases.next_cell(db, number, now)
            if cell is None:
                met = self.leases.met(db, number)
                since = rater.waits_since if rater.waits_since is not None else now
                if len(met) >= self.study.n_items or now - since >= self.study.patience_s:
                    return self._end(db, number, answered, now)
                db.execute(RATERS.update().where(RATERS.c.number == number).values(waits_since=since))
                return Position("wait", answered)
            self.leases.hold(db, cell.index, number, now, now)
            values |= {"cell": cell.index, "item": cell.item}
            db.execute(RATERS.update().where(RATERS.c.number == number).values(waits_since=None))
        else:
            material = self._material(db, number, plan[step])
            values |= {"material": material, "expected": self.key.materials[material].expected}
            if plan[step] == "check":
                values["expected"] = draw(self.study.seed, "told", number, step).randint(LOWEST, HIGHEST)
        db.execute(TRIALS.insert().values(**values))
        handed = db.execute(sa.select(TRIALS).where(TRIALS.c.trial == values["trial"])).one()
        return Position("trial", answered, self._trial(handed, answered))

    def _end(self, db: Connection, number: int, answered: int, now: float) -> Position:
        short = answered < self.study.items_a_rater
        db.execute(RATERS.update().where(RATERS.c.number == number).values(ended_at=now, cut_short=short))
        code = db.execute(sa.select(RATERS.c.code).where(RATERS.c.number == number)).scalar_one()
        return Position("done", answered, code=code, cut_short=short)

    def _material(self, db: Connection, number: int, kind: TrialKind) -> int:
        """Index of a rater's next material of a kind: all before one comes twice, in an order of the rater's own."""
        of_kind = self.key.of_kind(kind)
        draw(self.study.seed, kind, number).shuffle(of_kind)
        before = db.execute(
            sa.select(sa.func.count()).where(
                TRIALS.c.rater == number, TRIALS.c.kind == kind, TRIALS.c.answered_at.is_not(None)
            )
        ).scalar_one()
        return of_kind[before % len(of_kind)]

    def _files(self, trial: Any) -> tuple[Clip, Clip | None, int]:
        if trial.cell is None:
            material: Material = self.key.materials[trial.material]
            return material.clip, material.original, material.choices
        item, condition = divmod(trial.cell, self.study.n_conditions)
        return self.key.clips[item][condition], self.key.originals[item] if self.key.originals else None, HIGHEST

    def _trial(self, row: Any, answered: int) -> Trial:
        clip, original, choices = self._files(row)
        number = answered + 1 if row.kind in ("rating", "check") else 0
        return Trial(row.trial, row.kind, row.expected, choices, clip, original, number)

    def _own(self, db: Connection, rater: int, trial: str) -> Any:
        row = db.execute(sa.select(TRIALS).where(TRIALS.c.trial == trial, TRIALS.c.rater == rater)).first()
        if row is None:
            raise Refused(404, "There is no such clip in this session.")
        return row

    # -------------------------------------------------------------------------------------------- answering

    def fetched(self, rater: int, trial: str, which: str) -> str:
        """The file of a trial's `clip` or `original`; remembers when it was first asked for.

        Raises:
            Refused: not this rater's, already answered, or nothing of that name.
        """
        with self.database.alone() as db:
            row = self._own(db, rater, trial)
            if row.lost or row.answered_at is not None:
                raise Refused(410, "This clip is no longer open.")
            clip, original, _ = self._files(row)
            wanted = {"clip": clip, "original": original}.get(which)
            if wanted is None:
                raise Refused(404, "There is no such clip in this session.")
            column = TRIALS.c.clip_at if which == "clip" else TRIALS.c.original_at
            if row._mapping[column.name] is None:
                db.execute(TRIALS.update().where(TRIALS.c.trial == trial).values({column: self.clock()}))
        return wanted.file

    def answer(self, rater: int, trial: str, answer: int, plays: int, original_plays: int) -> bool:
        """Whether an answer is new; `answer_and_go_on` says more."""
        return self.answer_and_go_on(rater, trial, answer, plays, original_plays)[0]

    def answer_and_go_on(
        self, rater: int, trial: str, answer: int, plays: int, original_plays: int
    ) -> tuple[bool, Position]:
        """Keep an answer, and say where the rater stands then; an answer that is there already is not kept twice.

        Returns:
            Whether it is new, and the position.

        Raises:
            Refused: not this rater's trial, out of range, another answer than the first one, earlier than the clips can
                have been heard, or too late.
        """
        with self.database.alone() as db:
            now = self.clock()
            row = self._own(db, rater, trial)
            clip, original, choices = self._files(row)
            if not LOWEST <= answer <= choices:
                raise Refused(422, f"The answer is a number from {LOWEST} to {choices}.")
            if row.answered_at is not None:
                if row.answer == answer:
                    return False, self._position(db, rater)
                raise Refused(409, "This clip was rated already; the first rating stays.")
            if row.lost:
                raise Refused(410, "This clip is no longer open.")
            asked = [row.clip_at] + ([row.original_at] if original else [])
            seconds = clip.seconds + (original.seconds if original else 0.0)
            if (
                None in asked
                or now - min(asked) < seconds * (1 - _EARLY_SHARE) - _EARLY_S
                or plays < 1
                or (original is not None and original_plays < 1)
            ):
                raise Refused(425, "Please hear the whole clip before you rate it.")
            if row.kind != "rating" or self.leases.may_vote(db, row, now):
                if row.kind == "rating":
                    self.leases.vote(db, row.cell)
                db.execute(
                    TRIALS.update()
                    .where(TRIALS.c.trial == trial)
                    .values(answer=answer, answered_at=now, plays=plays, original_plays=original_plays)
                )
                values: dict[str, Any] = {"seen_at": now, "tries": 0}
                step_done = True
                if row.kind == "volume" and answer != row.expected:
                    tries = db.execute(sa.select(RATERS.c.tries).where(RATERS.c.number == rater)).scalar_one() + 1
                    step_done = tries >= _VOLUME_TRIES
                    values["tries"] = 0 if step_done else tries
                if step_done:
                    values["step"] = RATERS.c.step + 1
                db.execute(RATERS.update().where(RATERS.c.number == rater).values(values))
                return True, self._position(db, rater)
            db.execute(TRIALS.update().where(TRIALS.c.trial == trial).values(lost=True))
        raise Refused(410, "You were away for so long that this clip went to someone else.")

    def alive(self, rater: int, trial: str) -> None:
        """The rater's page is open: the clip stays theirs for a while."""
        with self.database.alone() as db:
            row = self._own(db, rater, trial)
            now = self.clock()
            db.execute(RATERS.update().where(RATERS.c.number == rater).values(seen_at=now))
            if row.cell is not None and row.answered_at is None:
                self.leases.prolong(db, row.cell, rater, row.handed_at, now)

    def leave(self, rater: int, trial: str) -> None:
        """The rater's page was closed: the clip may go to someone else (and to this rater, who may come back)."""
        with self.database.alone() as db:
            row = self._own(db, rater, trial)
            if row.cell is not None and row.answered_at is None:
                self.leases.give_back(db, row.cell, rater)

    # ---------------------------------------------------------------------------------------------- reading

    def votes(self) -> list[list[int]]:
        """Answers by item and condition."""
        with self.database.alone() as db:
            counts = [row.votes for row in db.execute(sa.select(CELLS).order_by(CELLS.c.cell))]
        n = self.study.n_conditions
        return [counts[k : k + n] for k in range(0, len(counts), n)]

    def everything(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All raters and all trials, in the order in which they came; no tokens."""
        with self.database.alone() as db:
            raters = [
                {k: v for k, v in row._mapping.items() if k not in ("token", "code")}
                for row in db.execute(sa.select(RATERS).order_by(RATERS.c.number))
            ]
            trials = [
                dict(row._mapping)
                for row in db.execute(sa.select(TRIALS).order_by(TRIALS.c.rater, TRIALS.c.step, TRIALS.c.handed_at))
            ]
        return raters, trials
