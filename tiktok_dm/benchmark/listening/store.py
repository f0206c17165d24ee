"""Raters, trials and votes in SQLite or PostgreSQL, each step one transaction.

Every transaction runs alone: on SQLite by BEGIN IMMEDIATE, on PostgreSQL by an advisory lock. Each takes a few
milliseconds, and a rater makes a few a minute. Not for what raters see (`server`) and not for what the answers mean
(`report`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tiktok_dm.benchmark.listening.assignment import Cell, choose, draw, steps
from tiktok_dm.benchmark.listening.study import HIGHEST, LOWEST, VOTES, Clip, Key, Material, Study, TrialKind
from tiktok_dm.errors import UserError

_LOCK = 0x7D4C15  # any number that other programs on the same server do not use for theirs
_BUSY_S = 30
_VOLUME_TRIES = 3
_AWAY_S = 1800.0
"""A rater of whom nothing was heard for so long no longer keeps a place in the study."""
_SESSIONS_A_PLACE = 20
"""So many sessions may be begun for each place: a script that opens sessions comes to an end."""
_EARLY_S, _EARLY_SHARE = 0.5, 0.05
"""Clocks, buffers and rounding may let a clip end so much before its length."""

_metadata = sa.MetaData()
_study = sa.Table(
    "listen_study",
    _metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("design", sa.String(64), nullable=False),
)
_raters = sa.Table(
    "listen_raters",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("began_at", sa.Double, nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
    sa.Column("waits_since", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("cut_short", sa.Boolean, nullable=False),
    sa.Column("code", sa.String(16), nullable=False, unique=True),
)
_cells = sa.Table(
    "listen_cells",
    _metadata,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("votes", sa.Integer, nullable=False),
    sa.Column("holder", sa.Integer),
    sa.Column("held_until", sa.Double),
)
_trials = sa.Table(
    "listen_trials",
    _metadata,
    sa.Column("trial", sa.String(32), primary_key=True),
    sa.Column("rater", sa.Integer, sa.ForeignKey("listen_raters.number"), nullable=False, index=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("item", sa.Integer),
    sa.Column("cell", sa.Integer),
    sa.Column("material", sa.Integer),
    sa.Column("expected", sa.Integer),
    sa.Column("handed_at", sa.Double, nullable=False),
    sa.Column("clip_at", sa.Double),
    sa.Column("original_at", sa.Double),
    sa.Column("answered_at", sa.Double),
    sa.Column("answer", sa.Integer),
    sa.Column("plays", sa.Integer),
    sa.Column("original_plays", sa.Integer),
    sa.Column("lost", sa.Boolean, nullable=False),
    sa.UniqueConstraint("rater", "item"),  # nobody meets an item twice; other trials have no item
)


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


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise UserError(
            "the database is named by a URL such as postgresql://user:password@host/name: this one cannot be read"
        ) from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise UserError(f"answers go to SQLite or PostgreSQL, not to {backend}: give a postgresql:// URL")
    if backend == "postgresql":
        # READ COMMITTED: what is read after the lock was got is what the last holder left.
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"), isolation_level="READ COMMITTED", pool_pre_ping=True
        )
    engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _open(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an answer that was acknowledged survives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Store:
    """The answers of one study.

    Args:
        folder: of the study.
        study, key: as read from it.
        design: `study.digest` of the folder; tied to the database when it is made.
        url: of a database; None: SQLite in the study's folder.
        clock: seconds; for tests.

    Attributes:
        design_changed: whether the design is another one than when the database was made.

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
        self.study, self.key, self.clock = study, key, clock
        local = folder / VOTES
        if url is None:
            os.close(os.open(local, os.O_WRONLY | os.O_CREAT, 0o600))
        self.engine = _engine(url or f"sqlite:///{local}")
        where = self.engine.url.render_as_string(hide_password=True)
        try:
            with self._alone() as db:
                _metadata.create_all(db)
                found = db.execute(sa.select(_study)).first()
                if found is None:
                    db.execute(_study.insert().values(name=study.name, design=design))
                    n = study.n_items * study.n_conditions
                    db.execute(_cells.insert(), [{"cell": k, "votes": 0} for k in range(n)])
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise UserError(
                f"the database {where} cannot be used ({reason}): check that it runs and its URL"
            ) from error
        if found is not None and found.name != study.name:
            raise UserError(f"the database {where} holds the answers of another study: give each study its own")
        self.design_changed = found is not None and found.design != design

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A transaction beside which no other one runs."""
        with self.engine.begin() as db:
            if self.engine.dialect.name == "postgresql":
                db.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield db

    # -------------------------------------------------------------------------------------------- raters

    def begin(self) -> str | None:
        """A new rater's secret token, or None when enough raters have come."""
        token = secrets.token_urlsafe(24)
        with self._alone() as db:
            now = self.clock()
            if not self._has_room(db, now):
                return None
            last = db.execute(sa.select(sa.func.max(_raters.c.number))).scalar() or 0
            db.execute(
                _raters.insert().values(
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
        with self._alone() as db:
            return self._has_room(db, self.clock())

    def _has_room(self, db: Connection, now: float) -> bool:
        here = sa.or_(_raters.c.ended_at.is_not(None), _raters.c.seen_at > now - _AWAY_S)
        taken, begun = db.execute(sa.select(sa.func.count().filter(here), sa.func.count()).select_from(_raters)).one()
        return taken < self.study.raters and begun < _SESSIONS_A_PLACE * self.study.raters

    def rater(self, token: str) -> int | None:
        """The number of the rater to whom a token was given."""
        with self._alone() as db:
            return db.execute(sa.select(_raters.c.number).where(_raters.c.token == _hashed(token))).scalar()

    # ------------------------------------------------------------------------------------------- handing out

    def position(self, rater: int) -> Position:
        """Where a rater stands; hands out the next trial where there is one."""
        with self._alone() as db:
            return self._position(db, rater)

    def _position(self, db: Connection, number: int) -> Position:
        now = self.clock()
        db.execute(_raters.update().where(_raters.c.number == number).values(seen_at=now))
        rater = db.execute(sa.select(_raters).where(_raters.c.number == number)).one()
        answered = db.execute(
            sa.select(sa.func.count()).where(
                _trials.c.rater == number, _trials.c.kind == "rating", _trials.c.answered_at.is_not(None)
            )
        ).scalar_one()
        if rater.ended_at is not None:
            return Position("done", answered, code=rater.code, cut_short=rater.cut_short)
        open_trial = db.execute(
            sa.select(_trials).where(
                _trials.c.rater == number, _trials.c.answered_at.is_(None), _trials.c.lost.is_(False)
            )
        ).first()
        if open_trial is not None:
            if self._still_held(db, open_trial, now):
                return Position("trial", answered, self._trial(open_trial, answered))
            db.execute(_trials.update().where(_trials.c.trial == open_trial.trial).values(lost=True))
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
            cell = self._next_cell(db, number, now)
            if cell is None:
                met = self._met(db, number)
                since = rater.waits_since if rater.waits_since is not None else now
                if len(met) >= self.study.n_items or now - since >= self.study.patience_s:
                    return self._end(db, number, answered, now)
                db.execute(_raters.update().where(_raters.c.number == number).values(waits_since=since))
                return Position("wait", answered)
            self._hold(db, cell.index, number, now, now)
            values |= {"cell": cell.index, "item": cell.item}
            db.execute(_raters.update().where(_raters.c.number == number).values(waits_since=None))
        else:
            material = self._material(db, number, plan[step], step, rater.tries)
            values |= {"material": material, "expected": self.key.materials[material].expected}
            if plan[step] == "check":
                values["expected"] = draw(self.study.seed, "told", number, step).randint(LOWEST, HIGHEST)
        db.execute(_trials.insert().values(**values))
        handed = db.execute(sa.select(_trials).where(_trials.c.trial == values["trial"])).one()
        return Position("trial", answered, self._trial(handed, answered))

    def _end(self, db: Connection, number: int, answered: int, now: float) -> Position:
        short = answered < self.study.items_a_rater
        db.execute(_raters.update().where(_raters.c.number == number).values(ended_at=now, cut_short=short))
        code = db.execute(sa.select(_raters.c.code).where(_raters.c.number == number)).scalar_one()
        return Position("done", answered, code=code, cut_short=short)

    def _material(self, db: Connection, number: int, kind: TrialKind, step: int, tries: int) -> int:
        """Index of the material for a step: all of a kind before one comes twice, in an order of the rater's own."""
        of_kind = self.key.of_kind(kind)
        draw(self.study.seed, kind, number).shuffle(of_kind)
        before = db.execute(
            sa.select(sa.func.count()).where(
                _trials.c.rater == number, _trials.c.kind == kind, _trials.c.answered_at.is_not(None)
            )
        ).scalar_one()
        return of_kind[before % len(of_kind)]

    def _met(self, db: Connection, number: int) -> set[int]:
        rows = db.execute(sa.select(_trials.c.item).where(_trials.c.rater == number, _trials.c.item.is_not(None)))
        return set(rows.scalars())

    def _next_cell(self, db: Connection, number: int, now: float) -> Cell | None:
        conditions = self.study.n_conditions
        cells = [
            Cell(
                row.cell,
                row.cell // conditions,
                row.cell % conditions,
                row.votes,
                row.holder is None or row.held_until < now,
            )
            for row in db.execute(sa.select(_cells).order_by(_cells.c.cell))
        ]
        heard = [0] * conditions
        for cell in db.execute(
            sa.select(_trials.c.cell).where(_trials.c.rater == number, _trials.c.cell.is_not(None))
        ).scalars():
            heard[cell % conditions] += 1
        return choose(cells, self._met(db, number), heard, self.study, number)

    def _hold(self, db: Connection, cell: int, rater: int, handed_at: float, now: float) -> None:
        until = min(now + self.study.lease_s, handed_at + self.study.longest_s)
        db.execute(_cells.update().where(_cells.c.cell == cell).values(holder=rater, held_until=until))

    def _may_vote(self, db: Connection, trial: Any, now: float) -> bool:
        """Whether a rating trial's cell is still this rater's, or came back and has the fewest votes."""
        row = db.execute(sa.select(_cells).where(_cells.c.cell == trial.cell)).one()
        if row.holder == trial.rater:
            return True
        fewest = db.execute(sa.select(sa.func.min(_cells.c.votes))).scalar_one()
        return (row.holder is None or row.held_until < now) and row.votes == fewest

    def _still_held(self, db: Connection, trial: Any, now: float) -> bool:
        if trial.kind != "rating":
            return True
        if not self._may_vote(db, trial, now):
            return False
        # Whoever comes back to a clip has all the time for it again.
        row = db.execute(sa.select(_cells).where(_cells.c.cell == trial.cell)).one()
        if row.holder != trial.rater or row.held_until < now:
            db.execute(_trials.update().where(_trials.c.trial == trial.trial).values(handed_at=now))
            self._hold(db, trial.cell, trial.rater, now, now)
        else:
            self._hold(db, trial.cell, trial.rater, trial.handed_at, now)
        return True

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
        row = db.execute(sa.select(_trials).where(_trials.c.trial == trial, _trials.c.rater == rater)).first()
        if row is None:
            raise Refused(404, "There is no such clip in this session.")
        return row

    # -------------------------------------------------------------------------------------------- answering

    def fetched(self, rater: int, trial: str, which: str) -> str:
        """The file of a trial's `clip` or `original`; remembers when it was first asked for.

        Raises:
            Refused: not this rater's, already answered, or nothing of that name.
        """
        with self._alone() as db:
            row = self._own(db, rater, trial)
            if row.lost or row.answered_at is not None:
                raise Refused(410, "This clip is no longer open.")
            clip, original, _ = self._files(row)
            wanted = {"clip": clip, "original": original}.get(which)
            if wanted is None:
                raise Refused(404, "There is no such clip in this session.")
            column = _trials.c.clip_at if which == "clip" else _trials.c.original_at
            if row._mapping[column.name] is None:
                db.execute(_trials.update().where(_trials.c.trial == trial).values({column: self.clock()}))
        return wanted.file

    def answer(self, rater: int, trial: str, answer: int, plays: int, original_plays: int) -> bool:
        """Keep an answer; an answer that is there already is not kept twice.

        Returns:
            Whether it is new.

        Raises:
            Refused: not this rater's trial, out of range, another answer than the first one, earlier than the clips can
                have been heard, or too late.
        """
        with self._alone() as db:
            now = self.clock()
            row = self._own(db, rater, trial)
            clip, original, choices = self._files(row)
            if not LOWEST <= answer <= choices:
                raise Refused(422, f"The answer is a number from {LOWEST} to {choices}.")
            if row.answered_at is not None:
                if row.answer == answer:
                    return False
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
            step_done = True
            if row.kind == "rating":
                if not self._may_vote(db, row, now):
                    db.execute(_trials.update().where(_trials.c.trial == trial).values(lost=True))
                    lost = True
                else:
                    lost = False
                    db.execute(
                        _cells.update()
                        .where(_cells.c.cell == row.cell)
                        .values(votes=_cells.c.votes + 1, holder=None, held_until=None)
                    )
            else:
                lost = False
            if not lost:
                db.execute(
                    _trials.update()
                    .where(_trials.c.trial == trial)
                    .values(answer=answer, answered_at=now, plays=plays, original_plays=original_plays)
                )
                values: dict[str, Any] = {"seen_at": now, "tries": 0}
                if row.kind == "volume" and answer != row.expected:
                    tries = db.execute(sa.select(_raters.c.tries).where(_raters.c.number == rater)).scalar_one() + 1
                    step_done = tries >= _VOLUME_TRIES
                    values["tries"] = 0 if step_done else tries
                if step_done:
                    values["step"] = _raters.c.step + 1
                db.execute(_raters.update().where(_raters.c.number == rater).values(values))
        if lost:
            raise Refused(410, "You were away for so long that this clip went to someone else.")
        return True

    def alive(self, rater: int, trial: str) -> None:
        """The rater's page is open: the clip stays theirs for a while."""
        with self._alone() as db:
            row = self._own(db, rater, trial)
            now = self.clock()
            db.execute(_raters.update().where(_raters.c.number == rater).values(seen_at=now))
            if row.cell is not None and row.answered_at is None:
                held = db.execute(sa.select(_cells.c.holder).where(_cells.c.cell == row.cell)).scalar()
                if held == rater:
                    self._hold(db, row.cell, rater, row.handed_at, now)

    def leave(self, rater: int, trial: str) -> None:
        """The rater's page was closed: the clip may go to someone else (and to this rater, who may come back)."""
        with self._alone() as db:
            row = self._own(db, rater, trial)
            if row.cell is not None and row.answered_at is None:
                db.execute(
                    _cells.update()
                    .where(_cells.c.cell == row.cell, _cells.c.holder == rater)
                    .values(holder=None, held_until=None)
                )

    # ---------------------------------------------------------------------------------------------- reading

    def votes(self) -> list[list[int]]:
        """Answers by item and condition."""
        with self._alone() as db:
            counts = [row.votes for row in db.execute(sa.select(_cells).order_by(_cells.c.cell))]
        n = self.study.n_conditions
        return [counts[k : k + n] for k in range(0, len(counts), n)]

    def everything(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All raters and all trials, in the order in which they came; no tokens."""
        with self._alone() as db:
            raters = [
                {k: v for k, v in row._mapping.items() if k not in ("token", "code")}
                for row in db.execute(sa.select(_raters).order_by(_raters.c.number))
            ]
            trials = [
                dict(row._mapping)
                for row in db.execute(sa.select(_trials).order_by(_trials.c.rater, _trials.c.step, _trials.c.handed_at))
            ]
        return raters, trials
