"""A new version of a folder in the place of the old one in one step, under one lock; finished or undone after a kill.

A version is filled beside its place (`.NAME.next`), brought onto the disk, and exchanged with the old folder in one
rename where the system can do that (Linux, macOS), in two where it can't. So readers see the old version or the new
one, whole. A mark in the new version tells what a killed process left: with it in place the old version is cleared
away, without it the new one is. `recover` does either, and everything that writes calls it first.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from tiktok_dm.errors import UserError
from tiktok_dm.files import clear_unfinished

_MARK = ".new-version"
_AT_FDCWD = -100  # Linux: paths are relative to the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux' renameat2, RENAME_SWAP of macOS' renamex_np


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of whatever writes `folder`, a file `.NAME.lock` beside it, and clear up what a kill left there.

    Raises:
        UserError: another program holds it, or the folder around it cannot be written.
    """
    place = _real(folder)
    path = _beside(place, "lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror} ({error.filename}): choose another folder, in one that you "
            "may write to"
        ) from error
    if handle is None:
        raise UserError(f"another program is writing {folder}: wait for it, or give another folder")
    try:
        recover(place)
        clear_unfinished(place)
        shutil.rmtree(_beside(place, "scratch"), ignore_errors=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int | None:
    """A descriptor that holds the lock; None where another process does. The file goes when the lock is released."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == os.stat(path).st_ino:
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass  # whoever held the lock released it, and the file, between the two calls
        os.close(handle)


@contextlib.contextmanager
def new_version(folder: Path, owned: Collection[str] | None) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends without an error.

    Args:
        folder: may be absent.
        owned: names in `folder` that the new version has of its own or not at all; everything else in it is carried
            over, as links to the same files. None for a version that has everything of its own.
    """
    place = _real(folder)
    recover(place)
    beside = _beside(place, "next")
    try:
        beside.mkdir(parents=True)
        (beside / _MARK).touch()
        if owned is not None and place.is_dir():
            for path in sorted(place.iterdir()):
                if path.name not in owned:
                    link_tree(path, beside / path.name)
        yield beside
        sync_tree(beside)
        _put(beside, place)
    except BaseException:
        if not (place / _MARK).exists():
            shutil.rmtree(beside, ignore_errors=True)
        raise
    recover(place)


@contextlib.contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes its name when the block ends without an error.

    Args:
        folder: the name it gets.
        replace: whether a folder of that name gives way, whole; otherwise one that exists and is not empty is an error.

    Raises:
        UserError: the folder exists, or cannot be written.
    """
    if not replace and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; choose another name or remove it first.")
    try:
        with new_version(folder, None) as unfinished:
            yield unfinished
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder on the disk of `folder`, gone at the end of the block; after a kill, when it is next `locked`."""
    beside = _beside(_real(folder), "scratch")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def recover(folder: Path) -> None:
    """Finish or undo what a killed `new_version` of `folder` left; nothing where it left nothing."""
    place = _real(folder)
    following, before = _beside(place, "next"), _beside(place, "old")
    if before.exists() and not place.exists():  # between the two renames
        os.rename(following if (following / _MARK).exists() else before, place)
    for left in (following, before):
        if left.exists():
            shutil.rmtree(left)
    if (place / _MARK).exists():
        (place / _MARK).unlink()
        _sync(place)
        _sync(place.parent)


def link_tree(source: Path, target: Path) -> None:
    """`source` (file, link or folder) again as `target`: files are hard links, or copies where these can't be made."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        for path in sorted(source.iterdir()):
            link_tree(path, target / path.name)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def sync_tree(folder: Path) -> None:
    """Bring all files of a folder and the folders themselves onto the disk, so that no rename outlives their bytes."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            _sync(path)
    _sync(folder)


def _put(beside: Path, place: Path) -> None:
    if not place.exists():
        os.rename(beside, place)
    elif not _exchange(beside, place):
        os.rename(place, _beside(place, "old"))
        os.rename(beside, place)
    _sync(place.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; False where the system or the file system can't."""
    first, second = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(first, second, _EXCHANGE)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _EXCHANGE)
    else:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def _beside(place: Path, kind: str) -> Path:
    return place.with_name(f".{place.name}.{kind}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(handle)
