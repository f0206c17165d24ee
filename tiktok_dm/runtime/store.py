"""What a build keeps: outputs of steps under content keys, complete or absent, and the state of every item.

A key is the SHA-256 of a stage's name and version, its parameters and its inputs' checksums. An output folder is
written beside its place and renamed into it, so a build that is stopped anywhere never leaves a half-made output under
a key.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from tiktok_dm.errors import DiskFull, Filtered, Gone, UserError, is_no_room
from tiktok_dm.files import no_room, write_atomic

RECORD = "record.json"
OMITTED = "omitted where None"  # see `canonical_json`
_COUNTER = itertools.count()


def canonical_json(value: Any) -> str:
    """`value` as JSON, the same text for equal values: sorted keys, no spaces, dataclasses as dicts, paths as text.

    A field of a dataclass that is None, and whose metadata says `OMITTED`, is left out: what may be asked for since a
    later version changes no key of those who do not ask.
    """

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            empty = {f.name for f in fields(item) if OMITTED in f.metadata and getattr(item, f.name) is None}
            return {name: part for name, part in asdict(item).items() if name not in empty}
        if isinstance(item, Path):
            return item.as_posix()
        if hasattr(item, "item"):  # numpy scalars
            return item.item()
        raise TypeError(f"{type(item).__name__} has no place in a record")

    return json.dumps(value, default=plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_key(stage: str, version: int | str, parameters: Any, inputs: Mapping[str, Any]) -> str:
    """Name of a stage's output: 32 hexadecimal digits that change when anything it depends on does."""
    text = canonical_json({"stage": stage, "version": version, "parameters": parameters, "inputs": dict(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Outputs of stages in a work folder.

    Args:
        root: the work folder; made when the first output is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, stage: str, key: str) -> Path:
        """Where the output of `stage` under `key` is, or would be."""
        return self.root / "objects" / stage / key[:2] / key

    def record(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a complete output, or None if there is none."""
        try:
            record: dict[str, Any] = json.loads((self.folder(stage, key) / RECORD).read_text(encoding="utf-8"))
            return record
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:  # a damaged record is no record: the stage runs again
            self.drop(stage, key)
            return None

    def run(self, stage: str, key: str, make: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
        """The record under `key`; `make(folder)` fills a new folder and returns its record if there is none yet.

        Raises:
            DiskFull: the output did not fit.
            Exception: whatever `make` raises; nothing is left under the key then.
        """
        done = self.record(stage, key)
        if done is not None:
            return done
        place = self.folder(stage, key)
        beside = self.root / "tmp" / f"{stage}-{key}.{os.getpid()}.{next(_COUNTER)}"
        try:
            beside.mkdir(parents=True)
            text = canonical_json(dict(make(beside)))
            (beside / RECORD).write_text(text, encoding="utf-8")
            for path in beside.iterdir():
                _sync(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(beside, place)
            except OSError:  # a damaged output, or another worker was first with the same bytes
                if self.record(stage, key) is not None:
                    shutil.rmtree(beside, ignore_errors=True)
                else:
                    shutil.rmtree(place, ignore_errors=True)
                    os.rename(beside, place)
            record: dict[str, Any] = json.loads(text)
            return record
        except BaseException as error:
            shutil.rmtree(beside, ignore_errors=True)
            if is_no_room(error) and not isinstance(error, DiskFull):
                raise no_room(self.root / f"the output of stage {stage}") from error
            raise

    def put(self, stage: str, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a record that has no files, such as a verdict, in place of what was there."""
        self.drop(stage, key)
        return self.run(stage, key, lambda folder: record)

    def drop(self, stage: str, key: str) -> None:
        """Forget an output."""
        shutil.rmtree(self.folder(stage, key), ignore_errors=True)

    def clear_unfinished(self) -> None:
        """Remove what stopped builds left half-made. Only while no other build uses this folder."""
        shutil.rmtree(self.root / "tmp", ignore_errors=True)

    def keys(self, stage: str) -> Iterator[str]:
        """Keys of all complete outputs of a stage."""
        for path in sorted((self.root / "objects" / stage).glob("*/*/" + RECORD)):
            yield path.parent.name


def _sync(path: Path) -> None:
    """Bytes of a file onto the disk, so that a rename after it never outlives them."""
    if path.is_file():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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

    def text(self) -> str:
        """One JSON object a line."""
        return "".join(canonical_json(asdict(entry)) + "\n" for entry in self.entries)

    def write(self, path: Path) -> None:
        """`text` as a file."""
        write_atomic(path, self.text())

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger in a file; empty if there is no file."""
        ledger = cls()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                ledger.set(Entry(**json.loads(line)))
        return ledger
