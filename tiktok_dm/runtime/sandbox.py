"""A function run in a process of its own with limits on memory, time and files: for what strangers made."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class OverLimit(Exception):
    """The function needed more memory, time or disk than it was given, or its process died."""


def run_limited(
    function: Callable[..., Any], *args: Any, memory_mb: int = 512, seconds: float = 60, file_mb: int = 4096
) -> Any:
    """`function(*args)` in a fresh process; both, and the result, must be picklable.

    Args:
        memory_mb: beyond what the process has once the function's module is imported.
        seconds: of processor time, and of time by the clock.
        file_mb: size of each file that it writes.

    Raises:
        OverLimit: it needed more.
        Exception: whatever the function raises.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, function, args, memory_mb, seconds, file_mb), daemon=True)
    process.start()
    theirs.close()
    try:
        done, value = ours.recv() if ours.poll(seconds + 30) else (None, None)  # starting Python takes a while, too
    except EOFError:
        done, value = None, None
    finally:
        process.kill()
        process.join()
        ours.close()
    if done is None:
        raise OverLimit(f"it needs more than {memory_mb} MB of memory or {seconds:g} s")
    if done:
        return value
    if isinstance(value, MemoryError | RecursionError):
        raise OverLimit(f"it needs more than {memory_mb} MB of memory")
    assert isinstance(value, BaseException)
    raise value


def _child(
    pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...], memory_mb: int, seconds: float, file_mb: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says what a keyboard's interrupt means
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of the write that is too long, not a death
    with contextlib.suppress(ValueError, OSError):  # systems that know a limit by name only
        resource.setrlimit(resource.RLIMIT_AS, (_size() + (memory_mb << 20),) * 2)
    for limit, value in (
        (resource.RLIMIT_CPU, max(1, round(seconds))),
        (resource.RLIMIT_FSIZE, file_mb << 20),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    try:
        answer = (True, function(*args))
    except BaseException as error:
        answer = (False, error)
    try:
        pipe.send(answer)
    except Exception as error:  # an exception that can't be pickled
        pipe.send((False, RuntimeError(f"{type(answer[1]).__name__}: {error}")))


def _size() -> int:
    """Bytes of address space that this process has now; a gigabyte where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 1 << 30
