"""Executors: results in any order, exceptions whole, a dead worker contained."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tiktok_dm.errors import Filtered, Gone, MediaError, Problem, ProblemsError, UserError
from tiktok_dm.pipeline.acquire import StopAsking, TemporaryFailure
from tiktok_dm.runtime.executor import InlineExecutor, LocalExecutor, RemoteError, WorkerDied, make_executor


def square(x: int) -> int:
    return x * x


def fail(error: Exception) -> None:
    raise error


class Stubborn(Exception):
    """Pickles, but cannot be rebuilt."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def fail_stubbornly() -> None:
    raise Stubborn(1, 2)


def unsendable() -> object:
    return lambda: None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def surroundings() -> dict[str, object]:
    import numpy  # noqa: F401
    import threadpoolctl

    return {
        "pid": os.getpid(),
        "threads": {pool["num_threads"] for pool in threadpoolctl.threadpool_info()},
        "sigint": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "omp": os.environ["OMP_NUM_THREADS"],
    }


ERRORS = [
    Gone("private", "ERROR: [youtube] x: Private video"),
    Filtered("the clip is silent"),
    ProblemsError([Problem("clips.csv", 3, "start_s", "is after the end")]),
    MediaError("broken.mp4 is empty"),
    TemporaryFailure("network", "timed out"),
    StopAsking("bot_check", "not a bot"),
    OSError(28, "No space left on device"),
    ValueError("plain"),
]


@pytest.fixture(scope="module")
def local():
    with LocalExecutor(2) as executor:
        yield executor


@pytest.fixture(params=["inline", "local"])
def executor(request, local):
    return local if request.param == "local" else InlineExecutor()


def test_every_task_gets_its_own_result(executor):
    futures = {x: executor.submit(square, x) for x in range(20)}
    assert {x: future.result() for x, future in futures.items()} == {x: x * x for x in range(20)}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_exceptions_keep_type_text_and_fields(executor, error):
    back = executor.submit(fail, error).exception()
    assert type(back) is type(error)
    assert str(back) == str(error)
    for name in ("reason", "raw", "errno", "problems"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_an_exception_of_a_worker_shows_where_it_was_raised(local):
    back = local.submit(fail, ValueError("plain")).exception()
    assert any("in fail" in note for note in back.__notes__)


def test_what_cannot_travel_is_told_in_words(local):
    back = local.submit(fail_stubbornly).exception()
    assert isinstance(back, RemoteError)
    assert str(back) == "Stubborn: 1 and 2"
    back = local.submit(unsendable).exception()
    assert isinstance(back, RemoteError)
    assert "the result of unsendable cannot be sent" in str(back)
    assert local.submit(square, 3).result() == 9


def test_a_worker_that_dies_costs_only_its_own_task(local, tmp_path):
    before = [local.submit(square, x) for x in range(4)]
    dying = local.submit(die)
    once = local.submit(die_once, str(tmp_path / "marker"))
    after = [local.submit(square, x) for x in range(4, 12)]
    assert [future.result() for future in before + after] == [x * x for x in range(12)]
    assert once.result() == "alive"
    error = dying.exception()
    assert isinstance(error, WorkerDied)
    assert isinstance(error, UserError)
    assert "died twice" in str(error)


def test_workers_have_one_thread_and_leave_ctrl_c_to_the_driver(local):
    found = local.submit(surroundings).result()
    assert found["threads"] == {1}
    assert found["omp"] == "1"
    assert found["sigint"] is True
    assert found["pid"] != os.getpid()
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != ""


def test_workers_stay(local):
    pids = {local.submit(os.getpid).result() for _ in range(10)}
    assert len(pids) <= 2


def test_leaving_the_block_waits_for_what_was_submitted():
    with LocalExecutor(1) as executor:
        futures = [executor.submit(square, x) for x in range(5)]
    assert [future.done() for future in futures] == [True] * 5
    assert executor.workers == 1
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(square, 1)


def test_an_error_in_the_block_stops_what_runs():
    futures = []

    def interrupted():
        with LocalExecutor(1) as executor:
            futures.append(executor.submit(os.getpid))
            pid = futures[0].result()
            futures.append(executor.submit(signal.pause))
            futures.append(executor.submit(square, 1))
            raise KeyError(pid)

    with pytest.raises(KeyError) as error:
        interrupted()
    assert isinstance(futures[1].exception(), RemoteError)
    assert futures[2].cancelled()
    assert error.value.args[0] not in {child.pid for child in multiprocessing.active_children()}


def test_workers_end_when_the_driver_is_killed():
    script = """
        import os, signal, sys
        from tiktok_dm.runtime.executor import LocalExecutor
        executor = LocalExecutor(1)
        print(executor.submit(os.getpid).result(), flush=True)
        executor.submit(signal.pause)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    driver = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert driver.returncode == -signal.SIGKILL
    # Its output came to an end, though the worker held that pipe too: so the worker is gone.
    assert driver.stdout.strip().isdigit()


def test_make_executor():
    assert isinstance(make_executor("inline"), InlineExecutor)
    assert isinstance(make_executor("local", 0), InlineExecutor)
    with make_executor("local", 3) as executor:
        assert executor.workers == 3
    with make_executor("local") as executor:
        assert executor.workers == len(os.sched_getaffinity(0))
    with pytest.raises(UserError, match="no executor 'threads'"):
        make_executor("threads", 2)
    with pytest.raises(UserError, match="-1 workers"):
        make_executor("local", -1)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed_is_named():
    with pytest.raises(UserError, match=r"tiktok-dm\[ray\]"):
        make_executor("ray", 2)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (tiktok-dm[ray])")
def test_ray(tmp_path):
    with make_executor("ray", 1) as executor:
        assert executor.workers == 1
        assert [executor.submit(square, x).result() for x in range(3)] == [0, 1, 4]
        for error in ERRORS:
            back = executor.submit(fail, error).exception()
            assert (type(back), str(back)) == (type(error), str(error))
        assert str(executor.submit(fail_stubbornly).exception()) == "Stubborn: 1 and 2"
        once = executor.submit(die_once, str(tmp_path / "marker"))
        dying = executor.submit(die)
        assert once.result() == "alive"
        assert isinstance(dying.exception(), WorkerDied)
        assert executor.submit(square, 5).result() == 25
