"""Killed at any moment and started again, with any number of workers: the finished dataset is the same, byte for byte.

Real processes; the real command and the real estimator in a test that takes minutes, an estimator that costs nothing
in the others.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.pipeline.build_factory import OnePerson, options, tree, write_films
from tiktok_dm.pipeline.run import build
from tiktok_dm.pose import registry

ROOT = Path(__file__).parents[2]
DEMO = ["--demo", "--clips", "4", "--songs", "2", "--seed", "3"]


def start(out: Path, arguments: list[str], path: Path = ROOT) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tiktok_dm", "build", *arguments, "--out", str(out)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}"},
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
    # The new version is filled beside its place.
    begun = (out / "lock.json").exists() or out.with_name(f".{out.name}.next").exists()
    return counts | {"export": int(begun)}


def wait_for(out: Path, stage: str, count: int, process: subprocess.Popen[str] | BaseProcess) -> None:
    deadline = time.monotonic() + 300
    ended = process.poll if isinstance(process, subprocess.Popen) else lambda: process.exitcode
    while progress(out)[stage] < count and ended() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert progress(out)[stage] >= count


@pytest.mark.slow
def test_the_demo_killed_again_and_again(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed" / "demo"
    assert "4 of 4 clips" in finish(start(undisturbed, [*DEMO, "--workers", "2"]))
    out = tmp_path / "demo"
    for stage, count in (("segment", 1), ("poses", 1), ("poses", 3), ("export", 1)):
        process = start(out, [*DEMO, "--workers", "1"])
        wait_for(out, stage, count, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert progress(out)["poses"] >= 3
    finish(start(out, [*DEMO, "--workers", "1"]))
    assert_same(tree(out), tree(undisturbed))


def assert_same(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


class Slow(OnePerson):
    """Takes its time, as networks do, so that a build can be killed between two clips."""

    batch = 1

    def detect(self, frames):  # type: ignore[no-untyped-def]
        time.sleep(0.01)
        return super().detect(frames)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("films"))


def build_alone(root: Path) -> None:
    """What a process of its own does: a build by `Slow`."""
    registry.ESTIMATORS["one-person"] = Slow
    build(options(root))


def test_killed_again_and_again(films: Path, tmp_path: Path) -> None:
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["tests.pipeline.build_factory", "tiktok_dm.pipeline.preload"])
    undisturbed, root = tmp_path / "undisturbed" / "here", tmp_path / "killed" / "here"
    for copy in (undisturbed, root):
        shutil.copytree(films, copy)
    for stage, count in (("segment", 1), ("poses", 1), ("poses", 3), ("export", 1)):
        process = forked.Process(target=build_alone, args=(root,))
        process.start()
        wait_for(root / "out", stage, count, process)
        process.kill()
        process.join()
    for folder in (undisturbed, root):
        process = forked.Process(target=build_alone, args=(folder,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert_same(tree(root / "out"), tree(undisturbed / "out"))


def test_stopped_by_the_keyboard_it_says_how_to_go_on(films: Path, tmp_path: Path) -> None:
    # A package from outside, as pip would have put it there: so the real command knows the estimator.
    info = tmp_path / "slow_person-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-person\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tiktok_dm.estimators]\nslow = tests.pipeline.test_resume:Slow\n")
    out = tmp_path / "out"
    sources = [str(films / "films"), "--media", str(films / "media"), "--pose", "slow"]
    process = start(out, [*sources, "--workers", "1"], tmp_path)
    wait_for(out, "poses", 1, process)
    os.kill(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    # A shell shows 130 for both: an exit code, or an end by the very signal, as Python makes of it in some places.
    assert process.returncode in (130, -signal.SIGINT), text
    assert "run the same command again" in text
    assert "Traceback" not in text
