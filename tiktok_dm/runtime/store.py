"""Stage outputs under content keys: a key exists only when its output is complete.

A key is the SHA-256 of a stage's name and version, its parameters and its inputs' checksums. An output folder is
written beside its place and renamed into it, so a build that is stopped anywhere never leaves a half-made output under
a key.
Not for the finished dataset: that is `export`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from tiktok_dm.errors import DiskFull, is_no_room
from tiktok_dm.files import no_room

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
            return json.loads((self.folder(stage, key) / RECORD).read_text(encoding="utf-8"))
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
            return json.loads(text)
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
