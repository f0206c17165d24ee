"""One sitting over a folder of proposals: its tables as they lie there, edits saved as they are made, undo, the place.

Every edit is on disk before `Sitting.edit` returns, and is made on the revision that the page saw: on files that are
others by now it is refused. Not for what an edit does (`edits`) nor for requests (`server`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiktok_dm.curate.proposals import (
    EditedMeanwhile,
    Proposals,
    read_proposals,
    revision_of,
    work_folder,
    write_proposals,
)
from tiktok_dm.curate.review.assets import Assets
from tiktok_dm.curate.review.draft import Edit
from tiktok_dm.curate.review.history import History, Step
from tiktok_dm.curate.review.ids import Ids, kept_ids, next_ids
from tiktok_dm.curate.review.view import told
from tiktok_dm.errors import ProblemsError, UserError
from tiktok_dm.files import write_atomic
from tiktok_dm.pose.skeletons import BODY_25


class Stale(Exception):
    """An edit was made on files that have changed since."""


class Broken(Exception):
    """The files hold problems, so that nothing can be edited."""


class Sitting:
    """The folder under review, from one sitting's point of view; safe to use from several threads.

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
        self.place = self._json("place.json") or {}

    # ------------------------------------------------------------------------------------- the files

    def look(self) -> Proposals | None:
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
            now = self.look()
            if now is None:
                return {"revision": self._seen, "folder": self.folder.resolve().name, "problems": self.problems}
            present = {k for k, path in self.assets.sources.items() if path.is_file()}
            last, following = self.history.last, self.history.next
            more = {"undo": last.what if last else None, "redo": following.what if following else None}
            return told(now, present) | more | {"problems": [], "place": self.place, "bones": BODY_25.edges}

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
        """Take the last edit of this sitting back; `edit` says what may go wrong."""
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
        now = self.look()
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
        """Keep where the person is, for the next sitting."""
        with self._lock:
            self.place = place
            write_atomic(self._kept / "place.json", json.dumps(place))

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self._kept / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
