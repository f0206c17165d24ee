"""The state of every item of a build: `ok`, `filtered`, `failed` or `gone`, with the stage and the reason.

Not a log: it holds the last word on each item, in a fixed order, and nothing that differs between two equal builds.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tiktok_dm.errors import Filtered, Gone, UserError
from tiktok_dm.files import write_atomic
from tiktok_dm.runtime.store import canonical_json

Status = Literal["ok", "filtered", "failed", "gone"]


@dataclass(frozen=True)
class Entry:
    """The last word on one item.

    Args:
        item: `compilation:3` or `clip:12`.
        stage: the stage that had the last word (`export` for an item that is in the dataset).
        status: `ok`; `filtered`, it does not belong in the dataset; `failed`, worth another try; `gone`, not.
        reason: in a few words, for people; empty when ok.
        error: class name of the exception, empty when ok.
        message: its raw message.
    """

    item: str
    stage: str
    status: Status
    reason: str = ""
    error: str = ""
    message: str = ""


def entry_for(item: str, stage: str, error: BaseException) -> Entry:
    """What an exception of a stage says of its item."""
    name = type(error).__name__
    if isinstance(error, Filtered):
        return Entry(item, stage, "filtered", str(error), name, str(error))
    if isinstance(error, Gone):
        return Entry(item, stage, "gone", error.reason, name, error.raw)
    message = str(error)
    reason = message.splitlines()[0] if message else name
    if not isinstance(error, UserError) and not hasattr(error, "reason"):
        reason = f"{name}: {reason}" if message else name
    elif hasattr(error, "reason"):
        reason = str(error.reason)
    return Entry(item, stage, "failed", reason, name, message)


class Ledger:
    """All entries of a build, one an item."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def set(self, entry: Entry) -> None:
        """The last word on an item, in place of an earlier one."""
        self._entries[entry.item] = entry

    def get(self, item: str) -> Entry | None:
        """The last word on an item, if one was said."""
        return self._entries.get(item)

    @property
    def entries(self) -> list[Entry]:
        """All entries: compilations, then clips, each by number."""

        def place(entry: Entry) -> tuple[int, int]:
            kind, _, number = entry.item.partition(":")
            return ("compilation", "clip").index(kind), int(number)

        return sorted(self._entries.values(), key=place)

    def counts(self, kind: str) -> Counter[str]:
        """How many items of a kind (`clip`, `compilation`) have each status."""
        return Counter(entry.status for entry in self.entries if entry.item.startswith(kind + ":"))

    def write(self, path: Path) -> None:
        """One JSON object a line."""
        write_atomic(path, "".join(canonical_json(asdict(entry)) + "\n" for entry in self.entries))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger in a file; empty if there is no file."""
        ledger = cls()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                ledger.set(Entry(**json.loads(line)))
        return ledger
