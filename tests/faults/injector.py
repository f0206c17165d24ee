"""Kills a process at its n-th change of a file, in a child that is forked from a warm parent."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiktok_dm.runtime import publish

KILLED = 137
_CHANGES = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link", "symlink", "fsync", "truncate", "utime")


def arm(moment: int, under: Path, fail: Callable[[], None] | None = None) -> list[str]:
    """From now on, count every change of a file under `under`, and die just before change number `moment`.

    Args:
        fail: called at every change from `moment` on, in place of dying: raises what a full or read-only disk raises.

    Returns:
        a list that grows by the name of each change.
    """
    done: list[str] = []
    prefix = os.path.realpath(under)

    def inside(path: Any) -> bool:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        try:
            text = os.fsdecode(path)
        except TypeError:
            return False
        # A name alone is one beside an open folder, as `shutil.rmtree` deletes.
        return not text.startswith("/") or text == prefix or text.startswith(prefix + "/")

    def change(name: str) -> None:
        done.append(name)
        if len(done) >= moment:
            if fail is not None:
                fail()
            elif len(done) == moment:
                os._exit(KILLED)

    def wrapped(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if args and inside(args[0]):
                change(name)
            return original(*args, **kwargs)

        setattr(module, name, call)

    for name in _CHANGES:
        wrapped(os, name)
    wrapped(publish, "_exchange")
    low, high = os.open, io.open

    def open_low(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and inside(path):
            change("open")
        return low(path, flags, *args, **kwargs)

    def open_high(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax+") and inside(file):
            change("open")
        return high(file, mode, *args, **kwargs)

    os.open, io.open, builtins.open = open_low, open_high, open_high  # type: ignore[assignment]
    return done


def in_child(act: Callable[[], None]) -> int:
    """Run `act` in a forked child; its exit code: 0, 1 where it raised, `KILLED`."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def changes_of(act: Callable[[], None], under: Path) -> int:
    """How many changes `act` makes under a folder."""
    read, write = os.pipe()

    def count() -> None:
        done = arm(1 << 60, under)
        act()
        os.write(write, str(len(done)).encode())

    assert in_child(count) == 0
    os.close(write)
    with os.fdopen(read) as file:
        return int(file.read())
