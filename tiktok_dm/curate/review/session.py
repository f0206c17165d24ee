"""A review session: the files in hand, what the page is told of them, and the history for undo and redo.

Kept in memory alone; what was saved stays saved.

Every edit is on disk before `Session.edit` returns, and is made on the revision that the page saw: on files that are
others by now it is refused.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tiktok_dm.curate.proposals import (
    VALUES,
    EditedMeanwhile,
    Ids,
    Proposals,
    kept_ids,
    next_ids,
    read_proposals,
    revision_of,
    work_folder,
    write_proposals,
)
from tiktok_dm.curate.review.assets import Assets
from tiktok_dm.curate.review.draft import Edit, Refused
from tiktok_dm.errors import ProblemsError, UserError
from tiktok_dm.files import write_atomic
from tiktok_dm.pose.skeletons import BODY_25

LOW = 0.8
"""A clip with a value that is less sure than this is of low confidence."""


def page_state(proposals: Proposals, present: set[int]) -> dict[str, Any]:
    """The tables as the page shows them.

    Args:
        present: compilations whose videos are on this machine.
    """
    rows = {int(row["clip_id"]): row for row in _rows(proposals.proposals)}
    clips = [_clip(row, rows.get(row["clip_id"], {})) for row in _rows(proposals.clips)]
    clips.sort(key=lambda c: (c["compilation"], c["start"] is None, c["start"] or 0.0))
    left = [c for c in clips if c["review"] is None]
    songs: dict[int, int] = {}
    for clip in clips:
        songs[clip["song"]] = songs.get(clip["song"], 0) + 1
    return {
        "revision": proposals.revision,
        "folder": proposals.root.resolve().name,
        "low": LOW,
        "progress": {
            "clips": len(clips),
            "reviewed": len(clips) - len(left),
            "seconds_left": round(sum(c["end"] - c["start"] for c in left if c["start"] is not None), 3),
        },
        "compilations": [
            {
                "id": row["compilation_id"],
                "title": row["title"] or row["file"] or f"compilation {row['compilation_id']}",
                "present": row["compilation_id"] in present,
            }
            for row in _rows(proposals.annotations.compilations)
        ],
        "clips": clips,
        "rejected": [
            {
                "compilation": row["compilation_id"],
                "start": row["start_s"],
                "end": row["end_s"],
                "kind": row["kind"] or "rejected",
                "confidence": row["confidence"],
                "reason": row["reason"] or "",
            }
            for row in _rows(proposals.rejected)
        ],
        "songs": [
            {
                "id": row["song_id"],
                "title": row["title"] or "",
                "artist": row["artist"] or "",
                "clips": songs.get(row["song_id"], 0),
            }
            for row in _rows(proposals.annotations.songs)
        ],
        "pairs": [
            {
                "a": row["clip_a"],
                "b": row["clip_b"],
                "confidence": row["confidence"],
                "speed": row["speed"] or 1.0,
                "offset": row["offset_s"] or 0.0,
                "reason": row["reason"] or "",
                "answer": row["answer"],
            }
            for row in _rows(proposals.same_songs)
        ],
    }


def candidates(proposals: Proposals, compilation_id: int) -> list[dict[str, Any]]:
    """The instants of a compilation that were considered as boundaries."""
    chosen = proposals.candidates[proposals.candidates.compilation_id == compilation_id]
    return [
        {"at": row["at_s"], "kind": row["kind"] or "", "confidence": row["confidence"], "used": row["used"] == "yes"}
        for row in _rows(chosen)
    ]


def _clip(row: dict[str, Any], proposal: dict[str, Any]) -> dict[str, Any]:
    values = {
        value: {
            "confidence": proposal.get(f"{value}_confidence"),
            "reason": proposal.get(f"{value}_reason") or "",
        }
        for value in VALUES
    }
    sure = [value["confidence"] for value in values.values()]
    return {
        "id": row["clip_id"],
        "compilation": row["compilation_id"],
        "song": row["song_id"],
        "start": row["start_s"],
        "end": row["end_s"],
        "dancers": row["n_dancers"],
        "notes": row["notes"] or "",
        "values": values,
        # What nothing is known of counts as unsure.
        "confidence": min(0.0 if c is None else c for c in sure),
        "review": proposal.get("review"),
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


LONGEST = 500


@dataclass(frozen=True)
class Step:
    """One edit: the tables on both sides of it, what it was in words, and the clip to look at on either side."""

    before: Proposals
    after: Proposals
    what: str
    was: int | None = None
    clip_id: int | None = None


class History:
    """Edits that can be taken back, and taken-back ones that can be made again.

    They hold for the files as the last of them left these: once anything else changed the folder, `forget` them.
    """

    def __init__(self) -> None:
        self._done: deque[Step] = deque(maxlen=LONGEST)
        self._undone: list[Step] = []

    def add(self, step: Step) -> None:
        """An edit was made; whatever was taken back before it is gone for good."""
        self._done.append(step)
        self._undone.clear()

    def forget(self) -> None:
        """Nothing can be taken back any more."""
        self._done.clear()
        self._undone.clear()

    @property
    def last(self) -> Step | None:
        """The step that undo takes back."""
        return self._done[-1] if self._done else None

    @property
    def next(self) -> Step | None:
        """The step that redo makes again."""
        return self._undone[-1] if self._undone else None

    def undoing(self) -> Edit:
        """The edit that takes the last step back.

        Raises:
            Refused: there is none.
        """
        if self.last is None:
            raise Refused("There is nothing to undo: edits of earlier sittings stay")
        return Edit(self.last.before, f"Undone: {_lower(self.last.what)}", self.last.was)

    def redoing(self) -> Edit:
        """The edit that makes the next step again.

        Raises:
            Refused: there is none.
        """
        if self.next is None:
            raise Refused("There is nothing to redo")
        return Edit(self.next.after, f"Made again: {_lower(self.next.what)}", self.next.clip_id)

    def went_back(self) -> None:
        """The last step was taken back, and that is saved."""
        self._undone.append(self._done.pop())

    def went_on(self) -> None:
        """The next step was made again, and that is saved."""
        self._done.append(self._undone.pop())


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


class Stale(Exception):
    """An edit was made on files that have changed since."""


class Broken(Exception):
    """The files hold problems, so that nothing can be edited."""


_PLACE_KEYS = {"clip", "rejected", "compilation", "time", "filters", "zoom", "skeleton", "autoplay"}


class Session:
    """The folder under review, from one session's point of view; safe to use from several threads.

    Args:
        folder: of proposals.
        assets: of its videos.
    """

    def __init__(self, folder: Path, assets: Assets) -> None:
        self.folder, self.assets = folder, assets
        self.history = History()
        self.problems: list[dict[str, Any]] = []
        self._lock = threading.RLock()
        self._current: Proposals | None = None
        self._seen = ""
        self._kept = work_folder(folder) / "review"
        self._ids = kept_ids(folder)
        place = self._json("place.json")
        self.place = place if isinstance(place, dict) and is_place(place) else {}

    # ------------------------------------------------------------------------------------- the files

    def refresh(self) -> Proposals | None:
        """The tables as they lie there now; None, with `problems`, where they cannot be read."""
        with self._lock:
            try:
                revision = revision_of(self.folder)
                if self._seen and revision == self._seen:
                    return self._current
                if self._seen:
                    self.history.forget()
                self._current, self.problems = read_proposals(self.folder), []
                self._seen = self._current.revision
                self._ids = next_ids(self._current, self._ids)
            except ProblemsError as error:
                self._current, self._seen = None, revision
                self.problems = [
                    {"file": p.file, "line": p.row, "column": p.column, "message": p.message} for p in error.problems
                ]
            except (UserError, OSError) as error:
                self._current, self._seen = None, ""
                message = str(error) if isinstance(error, UserError) else f"cannot be read ({error.strerror})"
                where = getattr(error, "filename", None) or self.folder
                self.problems = [{"file": str(where), "line": None, "column": None, "message": message}]
            return self._current

    def state(self) -> dict[str, Any]:
        """Everything the page shows, or what is wrong with the files."""
        with self._lock:
            now = self.refresh()
            if now is None:
                return {"revision": self._seen, "folder": self.folder.resolve().name, "problems": self.problems}
            present = {k for k, path in self.assets.sources.items() if path.is_file()}
            last, following = self.history.last, self.history.next
            more = {"undo": last.what if last else None, "redo": following.what if following else None}
            return page_state(now, present) | more | {"problems": [], "place": self.place, "bones": BODY_25.edges}

    def edit(self, revision: str, change: Callable[[Proposals, Ids], Edit]) -> Edit:
        """Make an edit on the state `revision` and save it.

        Raises:
            Stale, Broken: the files are others by now; nothing was changed.
            Refused: the edit breaks a rule; nothing was changed.
        """
        with self._lock:
            now = self._held(revision)
            made = change(now, self._ids)
            self._save(made.proposals)
            # The files in hand are those that were just written, so that what comes next fits to them.
            assert self._current is not None
            self.history.add(Step(now, self._current, made.what, made.was, made.clip_id))
            return made

    def undo(self, revision: str) -> Edit:
        """Take the last edit of this session back; `edit` says what may go wrong."""
        return self._go(revision, self.history.undoing, self.history.went_back)

    def redo(self, revision: str) -> Edit:
        """Make the edit again that was undone last."""
        return self._go(revision, self.history.redoing, self.history.went_on)

    def _go(self, revision: str, step: Callable[[], Edit], went: Callable[[], None]) -> Edit:
        with self._lock:
            now = self._held(revision)  # first of all: the history is forgotten where the files are others by now
            made = step()
            self._save(replace(made.proposals, revision=now.revision))
            went()
            return made

    def _held(self, revision: str) -> Proposals:
        now = self.refresh()
        if now is None:
            raise Broken
        if now.revision != revision:
            raise Stale
        return now

    def _save(self, proposals: Proposals) -> None:
        ids = next_ids(proposals, self._ids)
        try:
            if ids != self._ids:  # before the tables: an id that was given away counts even if nothing comes of it
                write_atomic(self._kept / "ids.json", json.dumps({"clip": ids.clip, "song": ids.song}))
                self._ids = ids
            self._current = write_proposals(proposals)
        except EditedMeanwhile:
            raise Stale from None
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}): allow it, then look again and repeat the edit"
            ) from error
        self._seen = self._current.revision

    def gave(self, clip_id: int) -> bool:
        """Whether a clip has or once had this id."""
        return clip_id < self._ids.clip

    # ------------------------------------------------------------------------------------- the place

    def remember(self, place: dict[str, Any]) -> None:
        """Keep where the person is, for the next session."""
        with self._lock:
            self.place = place
            write_atomic(self._kept / "place.json", json.dumps(place))

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self._kept / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def is_place(place: Mapping[str, Any]) -> bool:
    """Whether this is what the page says of where a person is, and no more."""

    def plain(value: Any) -> bool:
        return value is None or (
            isinstance(value, bool | int | float | str) and len(str(value)) <= 200 and _can_be_sent(value)
        )

    filters = place.get("filters", {})
    return (
        set(place) <= _PLACE_KEYS
        and isinstance(filters, dict)
        and len(filters) <= 20
        and all(plain(key) and plain(value) for key, value in filters.items())
        and all(plain(value) for key, value in place.items() if key != "filters")
    )


def _can_be_sent(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True
