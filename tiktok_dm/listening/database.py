"""The tables of a study's answers, in SQLite or PostgreSQL, and transactions that run alone.

On SQLite a transaction is alone by BEGIN IMMEDIATE, on PostgreSQL by an advisory lock. Not for what is read from the
tables and written to them (`store`).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tiktok_dm.errors import UserError
from tiktok_dm.listening.study import VOTES, Study

_LOCK = 0x7D4C15  # any number that other programs on the same server do not use for theirs
_BUSY_S = 30

_metadata = sa.MetaData()
STUDY = sa.Table(
    "listen_study",
    _metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("design", sa.String(64), nullable=False),
)
RATERS = sa.Table(
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
    sa.Column("freed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("code", sa.String(16), nullable=False, unique=True),
)
CELLS = sa.Table(
    "listen_cells",
    _metadata,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("votes", sa.Integer, nullable=False),
    sa.Column("holder", sa.Integer),
    sa.Column("held_until", sa.Double),
)
TRIALS = sa.Table(
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


class _Queue:
    """A lock that is given in the order in which it was asked for.

    SQLite lets whoever polls at the right moment in, so that one of many threads may wait for seconds.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


class Database:
    """The database of one study, its tables made where they are absent.

    Args:
        folder: of the study.
        study: as read from it.
        design: `study.digest` of the folder; tied to the database when it is made.
        url: of a database; None: SQLite in the study's folder.

    Attributes:
        design_changed: whether the design is another one than when the database was made.

    Raises:
        UserError: the database cannot be reached, or belongs to another study.
    """

    def __init__(self, folder: Path, study: Study, design: str, url: str | None = None) -> None:
        local = folder / VOTES
        if url is None:
            try:
                os.close(os.open(local, os.O_WRONLY | os.O_CREAT, 0o600))
            except OSError as error:
                raise UserError(
                    f"The answers cannot be written to {local} ({error.strerror}): allow writing in the study's folder."
                ) from error
        self.engine = _engine(url or f"sqlite:///{local}")
        self._queue = _Queue()
        where = self.engine.url.render_as_string(hide_password=True)
        try:
            with self.alone() as db:
                _metadata.create_all(db)
                if "freed" not in {column["name"] for column in sa.inspect(db).get_columns(RATERS.name)}:
                    # A study that began before places could be freed.
                    db.execute(sa.text(f"ALTER TABLE {RATERS.name} ADD COLUMN freed BOOLEAN NOT NULL DEFAULT FALSE"))
                found = db.execute(sa.select(STUDY)).first()
                if found is None:
                    db.execute(STUDY.insert().values(name=study.name, design=design))
                    n = study.n_items * study.n_conditions
                    db.execute(CELLS.insert(), [{"cell": k, "votes": 0} for k in range(n)])
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
    def alone(self) -> Iterator[Connection]:
        """A transaction beside which no other one runs; threads come in the order in which they asked."""
        with self._queue, self.engine.begin() as db:
            if self.engine.dialect.name == "postgresql":
                db.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield db


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
