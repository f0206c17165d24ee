"""Where the stages' work runs: in this process, in worker processes of this machine, or on a Ray cluster.

All three take a function and its arguments and give a `concurrent.futures.Future`; stages don't know which one runs
them. Not for deciding what runs when: that is `scheduler`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Protocol

from tiktok_dm.errors import UserError
from tiktok_dm.machine import cores
from tiktok_dm.runtime.task import Closing, RemoteError, Task, WorkerDied, call

# One task a worker keeps one core busy; libraries that start a thread per core on top only get into each other's way.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


class Executor(Protocol):
    """What the driver asks of an executor. Functions, arguments and results must be picklable."""

    workers: int

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run `function(*args)` some time; the future brings its result or its exception."""
        ...

    def shutdown(self, cancel: bool = False) -> None:
        """Wait for what runs, or, with `cancel`, stop it and drop what waits."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_executor(
    kind: str = "local", workers: int | None = None, address: str | None = None, preload: Sequence[str] = ()
) -> Executor:
    """The executor of a name.

    Args:
        kind: `local` (worker processes), `ray`, or `inline` (this process, one task after the other).
        workers: how many tasks run at a time; None: one a core (Ray: one a CPU of the cluster but one).
            0 is `inline`.
        address: of a running Ray cluster; None starts one on this machine.
        preload: modules that are slow to import and wanted by nearly every task; see `LocalExecutor`.

    Raises:
        UserError: no such kind, a negative number, or Ray is not installed.
    """
    if workers is not None and workers < 0:
        raise UserError(f"{workers} workers cannot work: give a number from 1, or 0 to run everything in one process")
    if kind == "inline" or (kind == "local" and workers == 0):
        return InlineExecutor()
    if kind == "local":
        return LocalExecutor(workers or cores(), preload)
    if kind == "ray":
        from tiktok_dm.runtime.ray_executor import RayExecutor

        return RayExecutor(workers or None, address)
    raise UserError(f"there is no executor '{kind}': take local, ray or inline")


class InlineExecutor(Closing):
    """Runs each task at once, in this process: for debugging, and where processes are not to be had."""

    workers = 1

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run the task; the future is done when this returns."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, cancel: bool = False) -> None:
        """Nothing is left running."""


class LocalExecutor(Closing):
    """Worker processes on this machine, each with its task and nothing else.

    Workers are forked from a clean server process that has the heavy libraries loaded, keep warm between tasks, use
    one thread each, ignore Ctrl-C (the driver decides), and end when the driver does, even if it is killed. A worker
    that dies costs only its own task, and that only when it happens twice.

    Args:
        workers: number of processes; even one is a process of its own, so that a crash or a leak stays there.
        preload: modules that the server process imports once, before workers are forked from it.
    """

    def __init__(self, workers: int, preload: Sequence[str] = ()) -> None:
        self.workers = workers
        self._preload = [__name__, *preload]
        self._lock = threading.RLock()
        self._waiting: deque[Task] = deque()
        # A pool of one process a slot: when one breaks, it is certain which task it had.
        self._pools: list[ProcessPoolExecutor | None] = [None] * workers
        self._idle = list(range(workers))
        self._unfinished: set[Future[Any]] = set()
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Queue a task; tasks start in the order in which they came."""
        task = Task(function, args)
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            self._waiting.append(task)
            self._unfinished.add(task.future)
        task.future.add_done_callback(self._unfinished.discard)
        self._dispatch()
        return task.future

    def _dispatch(self) -> None:
        with self._lock:
            while self._idle and self._waiting:
                task = self._waiting.popleft()
                if task.future.set_running_or_notify_cancel():
                    self._start(self._idle.pop(), task)

    def _start(self, slot: int, task: Task) -> None:
        pool = self._pools[slot]
        if pool is None:
            pool = self._pools[slot] = _pool_of_one(self._preload)
        task.chances -= 1
        try:
            running = pool.submit(call, task.function, task.args)
        except BrokenProcessPool:  # it was killed while idle; that was not this task's doing
            task.chances += 1
            self._died(slot, task)
            return
        running.add_done_callback(lambda done: self._done(slot, task, done))

    def _done(self, slot: int, task: Task, done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, BrokenProcessPool):
            # From Python 3.12 on a pool tells of its end while it holds a lock, which shutting it down, or forgetting
            # it, wants too: not from within this call.
            threading.Thread(target=self._died, args=(slot, task), daemon=True).start()
            return
        # The future last: who waits for it may ask for the next task at once.
        with self._lock:
            self._idle.append(slot)
        self._dispatch()
        if done.cancelled():
            task.future.set_exception(RemoteError("stopped"))
        elif error is not None:
            task.future.set_exception(error)
        else:
            task.finish(done.result())

    def _died(self, slot: int, task: Task) -> None:
        with self._lock:
            pool, self._pools[slot] = self._pools[slot], None
            again = task.chances > 0 and not self._closed
            if not again:
                self._idle.append(slot)
        if pool is not None:
            pool.shutdown(wait=False)
        if again:
            self._start(slot, task)
            return
        self._dispatch()
        task.future.set_exception(RemoteError("stopped") if self._closed else WorkerDied())

    def shutdown(self, cancel: bool = False) -> None:
        """Wait for everything that was submitted, or stop it."""
        with self._lock:
            if cancel:
                self._closed = True
                for task in self._waiting:
                    task.future.cancel()
                self._waiting.clear()
            unfinished = list(self._unfinished)
        if not cancel:
            wait(unfinished)
        with self._lock:
            self._closed = True
            pools = [pool for pool in self._pools if pool is not None]
        for pool in pools:
            if cancel:
                for process in list((getattr(pool, "_processes", None) or {}).values()):
                    process.terminate()
        for pool in pools:
            pool.shutdown(wait=True)


def _pool_of_one(preload: list[str]) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    # The server keeps the environment it was started with, and its children inherit that.
    with _environment({name: "1" for name in _ONE_THREAD}):
        multiprocessing.forkserver.ensure_running()
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin_worker)


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update({name: "1" for name in _ONE_THREAD})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    # A worker holds both ends of its queue, so that it would wait for ever after the driver was killed.
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
