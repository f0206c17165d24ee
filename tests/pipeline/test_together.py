"""Poses of several clips as one task: the same dataset as from one clip a task, and one clip's trouble is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build_factory import OnePerson, options, tree, write_annotations, write_film

from tiktok_dm.errors import MediaError
from tiktok_dm.pipeline import stages
from tiktok_dm.pipeline.run import build
from tiktok_dm.pose import registry as register
from tiktok_dm.pose.base import Picture
from tiktok_dm.runtime import executor
from tiktok_dm.runtime.executor import InlineExecutor


class Counting(OnePerson):
    """Knows how many pictures it was shown at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def detect(self, frames: Sequence[Picture]) -> list:
        self.sizes.append(len(frames))
        return super().detect(frames)


class Noting(InlineExecutor):
    """Runs tasks inline, but claims two workers; notes each poses task's clips, 0 for one clip alone."""

    workers = 2

    def __init__(self) -> None:
        self.clips: list[int] = []

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future:
        if function is stages.run_poses_together:
            self.clips.append(len(args[1]))
        elif function is stages.run_poses:
            self.clips.append(0)
        return super().submit(function, *args)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("together")
    (root / "media").mkdir()
    for i in (0, 1):
        write_film(root / "media" / f"film_{i}.mp4", i)
    write_annotations(root / "films")
    return root


@pytest.fixture
def estimator(monkeypatch: pytest.MonkeyPatch) -> Counting:
    found = Counting()
    monkeypatch.setitem(register.ESTIMATORS, "one-person", lambda: found)
    register.get_estimator.cache_clear()
    return found


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Noting:
    found = Noting()
    monkeypatch.setattr("tiktok_dm.runtime.executor.make_executor", lambda *args: found)
    return found


def built(films: Path, out: Path) -> dict[str, bytes]:
    build(replace(options(films), out=out))
    return tree(out)


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "clips_together", lambda parameters: 1)


def test_together_gives_what_each_clip_gives_alone(
    films: Path, tmp_path: Path, estimator: Counting, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = built(films, tmp_path / "together")
    # A worker takes its share of what waits: two of four clips, one of two, the last. Batches of 8 pictures: 23 for the
    # first two clips, 12 and 10 for the others; 12 + 12 + 12 + 10 when each is alone.
    assert noting.clips == [2, 0, 0]
    assert sum(estimator.sizes) == 345
    assert len(estimator.sizes) == 45
    noting.clips.clear()
    estimator.sizes.clear()
    alone(monkeypatch)
    assert built(films, tmp_path / "alone") == together
    assert noting.clips == [0, 0, 0, 0]
    assert len(estimator.sizes) == 46


def test_one_clips_trouble_is_its_own_and_is_told_as_if_it_were_alone(
    films: Path, tmp_path: Path, estimator: Counting, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_look_at = stages.poses.to_look_at
    videos: list[Path] = []

    def damaged(key: Any, clip: Path, *args: Any) -> Any:
        found = to_look_at(key, clip, *args)
        videos.append(clip)
        if clip == videos[0]:

            def frames() -> Any:
                raise MediaError(f"{clip} cannot be decoded")

            return replace(found, open=frames)
        return found

    monkeypatch.setattr(stages.poses, "to_look_at", damaged)
    together = build(replace(options(films), out=tmp_path / "together"))
    assert together.counts == {"ok": 3, "failed": 1}
    assert noting.clips == [2, 0, 0, 0]
    ledger = (tmp_path / "together" / "ledger.jsonl").read_text()
    assert "clip.mp4 cannot be decoded" in ledger
    assert str(tmp_path) not in ledger


def test_a_network_that_fails_on_one_clip_costs_only_that_clip(
    films: Path, tmp_path: Path, estimator: Counting, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = stages.poses.look
    asked: list[int] = []

    def out_of_memory(clips: Any, *args: Any) -> Any:
        tasks = list(clips)
        asked.append(len(tasks))
        # The task of two clips fails as a whole, and the first of them alone does too.
        if asked in ([2], [2, 1, 1, 1]):
            raise RuntimeError("CUDA out of memory")
        return look(tasks, *args)

    monkeypatch.setattr(stages.poses, "look", out_of_memory)
    result = build(replace(options(films), out=tmp_path / "out"))
    assert asked == [2, 1, 1, 1, 1]
    assert result.counts == {"ok": 3, "failed": 1}
    assert "CUDA out of memory" in (tmp_path / "out" / "ledger.jsonl").read_text()


def test_a_clip_without_a_dancer_is_filtered_without_a_second_look(
    films: Path, tmp_path: Path, estimator: Counting, noting: Noting
) -> None:
    root = tmp_path / "with_black"
    (root / "media").mkdir(parents=True)
    write_film(root / "media" / "film_0.mp4", 0)
    write_film(root / "media" / "film_1.mp4", 1, black=True)
    write_annotations(root / "films")
    result = build(options(root))
    assert result.counts == {"ok": 2, "filtered": 2}
    assert "no dancer found in 90 pictures" in (root / "out" / "ledger.jsonl").read_text()
    assert sum(estimator.sizes) == 345


def test_an_estimator_that_goes_picture_by_picture_gets_one_clip_a_task(
    films: Path, tmp_path: Path, estimator: Counting, noting: Noting
) -> None:
    estimator.batch = 1
    built(films, tmp_path / "out")
    assert noting.clips == [0, 0, 0, 0]


def test_what_a_stopped_task_had_found_is_not_looked_at_again(
    films: Path, tmp_path: Path, estimator: Counting, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a worker is killed between two clips of its task, and the executor gives the task a second chance."""
    keep = stages.poses.keep
    kept: list[int] = []

    def killed(found: Any, *args: Any) -> Any:
        kept.append(len(found))
        if len(kept) == 2:
            raise executor.WorkerDied
        return keep(found, *args)

    monkeypatch.setattr(stages.poses, "keep", killed)
    result = build(replace(options(films), out=tmp_path / "out"))
    assert result.counts == {"ok": 4}
    # Of the first task one clip was kept and one was lost, and done again alone.
    assert len(kept) == 5
    assert noting.clips == [2, 0, 0, 0]
    assert stages.clips_together(options(films).parameters) == 16
