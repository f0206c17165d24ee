"""Stages on a Ray cluster; Ray itself is an extra, imported only when asked for. See `executor` for the contract."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from tiktok_dm.errors import UserError
from tiktok_dm.runtime.task import CHANCES, Closing, RemoteError, Task, WorkerDied, call


class RayExecutor(Closing):
    """Tasks on a Ray cluster. All its machines must see the work folder and the media under the same paths.

    Args:
        workers: how many tasks run at a time, one CPU each; None: all CPUs of the cluster but one, which is left to
            the driver and to Ray itself.
        address: of a running cluster (`auto` finds it); None starts one on this machine, and ends it afterwards.

    Raises:
        UserError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "the executor ray needs Ray, which is not installed: pip install 'tiktok-dm[ray]', or take the executor"
                " local"
            ) from error
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            where = f"at {address}" if address else "on this machine"
            local: dict[str, Any] = {}
            if address is None:
                # Workers of a cluster that is started here find modules where the driver finds them. Ray is told of
                # one CPU more than tasks will take.
                local["runtime_env"] = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
                if workers:
                    local["num_cpus"] = workers + 1
            try:
                _check_answers(address)
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error", **local)
            except Exception as error:
                raise UserError(
                    f"no Ray cluster answers {where} ({error}): start one, or take the executor local"
                ) from error
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
        # `max_retries` counts deaths of the worker, not exceptions of the task.
        self._remote = ray.remote(num_cpus=1, max_retries=CHANCES - 1, retry_exceptions=False)(call)
        self._lock = threading.RLock()
        self._waiting: deque[Task] = deque()
        self._running: dict[Task, Any] = {}
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Queue a task; at most `workers` are with Ray at a time."""
        task = Task(function, args)
        with self._lock:
            if self._closed:
                raise RuntimeError("the executor is closed")
            self._waiting.append(task)
        self._dispatch()
        return task.future

    def _dispatch(self) -> None:
        with self._lock:
            while self._waiting and len(self._running) < self.workers:
                task = self._waiting.popleft()
                if not task.future.set_running_or_notify_cancel():
                    continue
                reference = self._running[task] = self._remote.remote(task.function, task.args)
                reference.future().add_done_callback(lambda done, task=task: self._done(task, done))

    def _done(self, task: Task, done: Future[Any]) -> None:
        with self._lock:
            self._running.pop(task, None)
        self._dispatch()
        error = done.exception()
        if error is None:
            task.finish(done.result())
        elif isinstance(error, self._ray.exceptions.WorkerCrashedError | self._ray.exceptions.OutOfMemoryError):
            task.future.set_exception(WorkerDied())
        else:
            task.future.set_exception(RemoteError(f"{type(error).__name__}: {error}"))

    def shutdown(self, cancel: bool = False) -> None:
        """Wait for everything that was submitted, or stop it; a cluster that was started here ends."""
        with self._lock:
            waiting, running = list(self._waiting), dict(self._running)
            if cancel:
                self._closed = True
                self._waiting.clear()
        if cancel:
            for task in waiting:
                task.future.cancel()
            for reference in running.values():
                self._ray.cancel(reference, force=True)
        else:
            wait([task.future for task in [*running, *waiting]])
        self._closed = True
        if self._started:
            self._ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Raise OSError where nobody listens at `host:port`: Ray itself tries for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
