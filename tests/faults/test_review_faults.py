"""An edit of the review that is killed at any change of a file is made whole or not at all; the next start goes on.

By default a few moments of each edit; all of them by `make test-faults`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.curate.review.review_factory import frames, tables
from tests.faults.injector import KILLED, arm, changes_of, in_child
from tiktok_dm.curate.proposals import Ids, Proposals, read_proposals, work_folder
from tiktok_dm.curate.review import edits
from tiktok_dm.curate.review.assets import Assets
from tiktok_dm.curate.review.draft import Edit
from tiktok_dm.curate.review.session import Session

CASES: dict[str, Callable[[Proposals, Ids], Edit]] = {
    "accept": lambda p, ids: edits.accept(p, 1),
    "cut": lambda p, ids: edits.cut(p, 1, 240, frames(), ids),
    "merge": lambda p, ids: edits.merge(p, 0, 1),
    "new song": lambda p, ids: edits.set_song(p, 1, None, ids),
    "reject": lambda p, ids: edits.reject(p, 1),
}


def csv_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}


def start(folder: Path) -> Path:
    tables(
        folder,
        [(0, 0, 0, 1.0, 5.0, 1), (1, 0, 0, 5.0, 10.0, 2), (2, 0, 1, 10.0, 15.0, 1)],
        rejected=[(0, 0.0, 1.0, "title_card")],
        pairs=[(0, 1, 0.9, 1.0, 0.0)],
        candidates=[(0, 5.0, "hard_cut", 0.9, "yes")],
    )
    return folder


def edit(folder: Path, name: str) -> None:
    session = Session(folder, Assets(work_folder(folder), {}))
    session.edit(session.state()["revision"], CASES[name])


def killed_everywhere(root: Path, name: str, shown: int | None) -> tuple[int, list[str]]:
    """Kill an edit at `shown` of its moments, or at all; how many were tried, and what went wrong."""
    undisturbed = start(root / "undisturbed")
    old = csv_files(undisturbed)
    edit(undisturbed, name)
    new = csv_files(undisturbed)
    assert new != old
    counted = start(root / "counted")
    count = changes_of(lambda: edit(counted, name), counted)
    step = 1 if shown is None else max(1, count // shown)
    wrong = []
    moments = range(1, count + 1, step)
    for moment in moments:
        folder = start(root / f"killed-{moment}")

        def act(folder: Path = folder, moment: int = moment) -> None:
            arm(moment, folder)
            edit(folder, name)

        code = in_child(act)
        assert code in (0, KILLED), (name, moment, code)
        read_proposals(folder)  # whoever opens the folder next finishes what was begun
        between = csv_files(folder)
        if between not in (old, new):
            wrong.append(f"{name}, change {moment} of {count}: neither the old tables nor the new ones")
        if between != new:
            edit(folder, name)
        session = Session(folder, Assets(work_folder(folder), {}))
        ids = {int(k) for k in read_proposals(folder).clips["clip_id"]}
        # An id that the killed edit took may stay unused; one that is in use is never given again.
        if session.state()["problems"] or len(ids) != len(read_proposals(folder).clips):
            wrong.append(f"{name}, change {moment} of {count}: the next start finds mistakes")
        if name not in ("cut", "new song") and csv_files(folder) != new:
            wrong.append(f"{name}, change {moment} of {count}: other tables after the edit was repeated")
        if list(folder.glob("**/complete.json")):
            wrong.append(f"{name}, change {moment} of {count}: something pending is left")
    return len(moments), wrong


@pytest.mark.parametrize("name", CASES)
def test_an_edit_killed_at_some_changes(name: str, tmp_path: Path) -> None:
    tried, wrong = killed_everywhere(tmp_path, name, shown=4)
    assert tried >= 4
    assert wrong == []


@pytest.mark.faults
@pytest.mark.parametrize("name", CASES)
def test_an_edit_killed_at_every_change(name: str, tmp_path: Path) -> None:
    tried, wrong = killed_everywhere(tmp_path, name, shown=None)
    print(f"{name}: {tried} moments tried, {len(wrong)} differences")
    assert wrong == []
