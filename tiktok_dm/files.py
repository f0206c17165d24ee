"""One way to write a file whole, and the checksum by which files are told apart."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from pathlib import Path

from tiktok_dm.errors import DiskFull, is_no_room

_COUNTER = itertools.count()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file beside its place, then rename it into it: readers see the old or the new one, never half of it.

    Raises:
        DiskFull: nothing more can be written there; an older file of that name is untouched.
    """
    raw = data.encode() if isinstance(data, str) else data
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_COUNTER)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if is_no_room(error):
            raise no_room(path) from error
        raise


def clear_unfinished(folder: Path) -> None:
    """Delete what `write_atomic` was writing in a folder when its process was killed. Only where nobody else writes."""
    for path in folder.glob(".*.*.*"):
        if re.fullmatch(r"\..+\.\d+\.\d+", path.name) and path.is_file():
            path.unlink()


def no_room(path: Path) -> DiskFull:
    """The sentence for a full disk at `path`."""
    return DiskFull(
        f"no room left to write {path.name} in {path.parent}: make room there (or choose another folder), "
        "then run the same command again; what is finished is kept"
    )
