"""Proposals, submissions, leaderboards, trainings that are killed at any change of a file: the next run finishes them.

A few moments of each by default; all of them by `make test-faults`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from review_factory import tables
from submission_sets import demo, music, submission
from test_model_training import config, folder, same_runs

from d2m_model.training import trainer
from tests.faults.injector import KILLED, arm, changes_of, in_child
from tests.faults.test_dataset_faults import moments
from tests.pipeline.build_factory import tree
from tiktok_dm.benchmark.leaderboard import board
from tiktok_dm.benchmark.leaderboard.board import BoardOptions
from tiktok_dm.benchmark.leaderboard.new import new, seed_folders
from tiktok_dm.curate.proposals import read_or_begin, read_proposals, write_proposals
from tiktok_dm.errors import UserError

__all__ = ["folder"]

CLIPS = [(0, 0, 0, 1.0, 9.0, 1), (1, 0, 1, 9.0, 20.0, 1), (2, 0, 0, 21.0, 30.0, 2)]
PROPOSED = {"rejected": [(0, 0.0, 1.0, "card")], "pairs": [(0, 2, 0.9, 1.0, 0.0)]}


@dataclass(frozen=True)
class Case:
    """What is prepared in a folder, what is killed there, and which part of the folder is compared."""

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    outcome: str


def _propose(root: Path) -> None:
    """What `propose` does with its tables: begins a folder, or takes up what an earlier run left."""
    before = read_or_begin(root / "out")
    if len(before.clips):
        return
    found = read_proposals(root / "found")
    write_proposals(replace(found, annotations=replace(found.annotations, root=root / "out"), revision=before.revision))


def _review(root: Path) -> None:
    """An edit as the review saves it: several tables at once."""
    now = read_proposals(root / "out")
    clips = now.clips.copy()
    clips.loc[0, "start_s"], clips.loc[1, "song_id"] = 1.5, 0
    write_proposals(now.with_tables(clips=clips, songs=now.table("songs").iloc[:1], rejected=now.table("rejected")[:0]))


def _dances(root: Path) -> None:
    demo(root / "dances")
    music(root / "music")


def _submissions(root: Path) -> None:
    _dances(root)
    submission(root / "submissions" / "tunes" / "1.0", root / "dances", root / "music")


def _submit(root: Path) -> None:
    def make() -> None:
        new(root / "out", root / "dances", seed_folders(root / "music"), archive=root / "out.zip")

    try:
        make()
    except UserError:  # what stands there is not overwritten: whoever was killed clears it away
        shutil.rmtree(root / "out", ignore_errors=True)
        (root / "out.zip").unlink(missing_ok=True)
        make()


def _board(root: Path, out: str = "out") -> None:
    options = BoardOptions(resamples=100, audio=True)
    with patch.object(board, "RANDOM_SEEDS", 1):  # more would write the same kinds of file
        board.build(root / "submissions", root / "dances", root / out, options, work=root / "work")


def _scored(root: Path) -> None:
    """What a leaderboard is made of, and all scores known: what is left is to write it."""
    _submissions(root)
    _board(root, "before")
    shutil.rmtree(root / "before")


CASES = {
    "propose": Case(lambda root: tables(root / "found", CLIPS, **PROPOSED), _propose, "out"),
    "review": Case(lambda root: tables(root / "out", CLIPS, **PROPOSED), _review, "out"),
    "submit new": Case(_dances, _submit, "out"),
    "leaderboard": Case(_scored, _board, "out"),
    "first leaderboard": Case(_submissions, _board, "out"),
}
# Baselines and scores take long to make: the moments at which they are killed are a few spread over all.
LONG = ("first leaderboard",)


def killed(case: Case, root: Path, whole: bool, shown: int = 4) -> tuple[int, list[int]]:
    """How many moments were tried, and those after which the next run gave something else."""
    start = root / "start"
    start.mkdir()
    case.prepare(start)

    def fresh() -> Path:
        here = root / "here" / "it"  # one place for all: some of what is written names it
        shutil.rmtree(here.parent, ignore_errors=True)
        return Path(shutil.copytree(start, here))

    here = fresh()
    case.act(here)
    wanted = tree(here / case.outcome)
    assert wanted
    here = fresh()
    count = changes_of(lambda: case.act(here), here)
    wrong = []
    tried = moments(count, whole, shown)
    for moment in tried:
        here = fresh()
        code = in_child(lambda here=here, moment=moment: (arm(moment, here), case.act(here)))
        assert code in (0, KILLED), moment
        case.act(here)
        left = {name: data for name, data in tree(here / case.outcome).items() if not name.startswith(".")}
        if left != {name: data for name, data in wanted.items() if not name.startswith(".")}:
            wrong.append(moment)
    return len(tried), wrong


@pytest.mark.parametrize("name", CASES)
def test_killed_at_some_changes(name: str, tmp_path: Path) -> None:
    tried, wrong = killed(CASES[name], tmp_path, whole=name in ("propose", "review"), shown=2 if name in LONG else 4)
    assert tried >= 2
    assert wrong == []


@pytest.mark.faults
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_change(name: str, tmp_path: Path) -> None:
    tried, wrong = killed(CASES[name], tmp_path, whole=name not in LONG, shown=12)
    print(f"\n{name}: {tried} moments, {len(wrong)} differences")
    assert wrong == []


def trained_after_kills(folder: Path, root: Path, whole: bool) -> int:
    """Kill a training at each of its changes of a file, go on, and hold the run against an undisturbed one."""
    torch.set_num_threads(1)
    wanted = trainer.train(config(folder, root / "whole"))
    run = root / "here" / "run"
    count = changes_of(lambda: trainer.train(config(folder, run)), run.parent)
    tried = moments(count, whole)
    for moment in tried:
        shutil.rmtree(run.parent, ignore_errors=True)
        run.parent.mkdir()
        code = in_child(lambda moment=moment: (arm(moment, run.parent), trainer.train(config(folder, run))))
        assert code in (0, KILLED), moment
        trainer.train(config(folder, run))
        same_runs(run, wanted)
    return len(tried)


def test_a_training_killed_at_some_changes(folder: Path, tmp_path: Path) -> None:
    assert trained_after_kills(folder, tmp_path, whole=False) == 4


@pytest.mark.faults
def test_a_training_killed_at_every_change(folder: Path, tmp_path: Path) -> None:
    print(f"\ntraining: {trained_after_kills(folder, tmp_path, whole=True)} moments, 0 differences")
