"""Undo and redo: the tables before and after each edit of this sitting.

Kept in memory alone; what was saved stays saved. Not for what an edit does (`edits`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tiktok_dm.curate.proposals import Proposals
from tiktok_dm.curate.review.draft import Edit, Refused

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
