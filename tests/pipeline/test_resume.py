"""Killed at any moment and started again, with any number of workers: the finished dataset is the same, byte for byte.

The real command, the real estimator, real processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.pipeline.build_factory import tree

ARGUMENTS = ["build", "--demo", "--clips", "4", "--songs", "2", "--seed", "3"]


def start(out: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tiktok_dm", *ARGUMENTS, "--out", str(out), "--workers", str(workers)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A process group of its own: a kill reaches the workers too, as pulling the plug would.
        start_new_session=True,
        # A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    return text


def progress(out: Path) -> dict[str, int]:
    """How many outputs of each stage are complete, and whether the export has begun."""
    objects = out.with_name(out.name + ".work") / "objects"
    counts = {
        stage: len(list((objects / stage).glob("*/*/record.json"))) for stage in ("demo", "segment", "poses", "music")
    }
    return counts | {"export": int((out / "lock.json").exists())}


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The dataset of a build with two workers that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "demo"
    text = finish(start(out, 2))
    assert "4 of 4 clips" in text
    return tree(out)


@pytest.mark.slow
def test_killed_again_and_again(never_killed: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    for stage, count in (("segment", 1), ("poses", 1), ("poses", 3), ("export", 1)):
        process = start(out, 1)
        deadline = time.monotonic() + 300
        while progress(out)[stage] < count and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert progress(out)[stage] >= count
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    before = progress(out)
    assert before["poses"] >= 3
    finish(start(out, 1))
    after = tree(out)
    assert sorted(after) == sorted(never_killed)
    assert [name for name in after if after[name] != never_killed[name]] == []


def test_stopped_by_the_keyboard_it_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = start(out, 1)
    while progress(out)["demo"] < 1 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    # A shell shows 130 for both: an exit code, or an end by the very signal, as Python makes of it in some places.
    assert process.returncode in (130, -signal.SIGINT), text
    assert "run the same command again" in text
    assert "Traceback" not in text
