"""One task on its way to a worker and back: what executors of other processes share.

A worker's result or exception comes back pickled by `call`, so that whatever cannot travel is told in words and breaks
no executor. Not for where tasks run: that is `executor` and `ray_executor`.
"""

from __future__ import annotations

import pickle
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from tiktok_dm.errors import UserError

# A worker that dies takes its task with it; it may have been another program's fault, so the task gets a second chance.
CHANCES = 2


class WorkerDied(UserError):
    """The process that worked on an item was killed, twice."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "the worker process died twice while it worked on this item (most often for want of memory): "
            "run again with fewer workers, or with more memory"
        )


class RemoteError(Exception):
    """Stands for an exception, or a result, that cannot travel between processes; its text tells what it was."""


class Closing(ABC):
    """`with` for executors: wait at the end, but stop at once when an error leaves the block."""

    @abstractmethod
    def shutdown(self, cancel: bool = False) -> None:
        """See `Executor.shutdown`."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel=error is not None)


class Task:
    """A function, its arguments, and the future that its caller holds."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function, self.args = function, args
        self.future: Future[Any] = Future()
        self.chances = CHANCES

    def finish(self, outcome: bytes) -> None:
        """Pass on what `call` brought back."""
        try:
            good, value = pickle.loads(outcome)
        except Exception as error:
            good, value = False, RemoteError(f"the result cannot be read here ({type(error).__name__}: {error})")
        if good:
            self.future.set_result(value)
        else:
            self.future.set_exception(value)


def call(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Run a task in a worker: (True, result) or (False, exception), pickled, and sure to be unpicklable elsewhere."""
    try:
        value = function(*args)
    except Exception as error:
        return pickle.dumps((False, _portable(error)))
    try:
        return pickle.dumps((True, value))
    except Exception as error:
        text = (
            f"the result of {getattr(function, '__name__', function)} cannot be sent ({type(error).__name__}: {error})"
        )
        return pickle.dumps((False, RemoteError(text)))


def _portable(error: Exception) -> Exception:
    """The exception itself where it survives pickling with its type and text, else a RemoteError that tells of it."""
    trace = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            if not isinstance(error, UserError):
                error.add_note(f"in a worker:\n{trace}")
                pickle.loads(pickle.dumps(error))
            return error
    except Exception:
        pass
    told = RemoteError(f"{type(error).__name__}: {error}")
    told.add_note(f"in a worker:\n{trace}")
    return told
