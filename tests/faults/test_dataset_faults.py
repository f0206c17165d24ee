"""A dataset whose build or removal is killed at any change of a file is the old or the new; the next command finishes.

By default a few moments of each; all of them, and the disk's own failures, by `make test-faults`.
"""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.faults.injector import KILLED, arm, changes_of, in_child
from tests.pipeline.build_factory import CLIPS, options, tree, use_one_person, write_annotations, write_films
from tiktok_dm.dataset.export import read_tombstones
from tiktok_dm.dataset.verify import verify
from tiktok_dm.errors import DiskFull, UserError
from tiktok_dm.pipeline import run
from tiktok_dm.pipeline.remove import remove
from tiktok_dm.pipeline.run import build
from tiktok_dm.runtime import publish


@pytest.fixture(scope="module", autouse=True)
def one_person() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_one_person(patch)
        yield


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films and their annotations, nothing built."""
    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def built(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the dataset of the first three clips and its work folder."""
    root = tmp_path_factory.mktemp("built") / "here"
    shutil.copytree(films, root)
    write_annotations(root / "films", {k: v for k, v in CLIPS.items() if k < 3})
    assert build(options(root, keep_work=True)).counts == {"ok": 3}
    write_annotations(root / "films", CLIPS)
    return root


@dataclass(frozen=True)
class Case:
    """What is killed; what is run afterwards (again, where it is the same); from which state."""

    act: Callable[[Path], object]
    start: str
    again: Callable[[Path], object] | None = None


def _remove(root: Path) -> None:
    try:
        remove(root / "out", "clip", 1, "the dancer asked")
    except UserError as error:
        if "was taken out of" not in str(error):  # the second request, after the first one came through
            raise


def _without_a_source(root: Path) -> None:
    (root / "media" / "film_1.mp4").unlink(missing_ok=True)
    build(options(root))


CASES = {
    "first build": Case(lambda root: build(options(root)), "films"),
    "one clip more": Case(lambda root: build(options(root)), "built"),
    "remove": Case(_remove, "built"),
    "remove without the work folder": Case(
        lambda root: (shutil.rmtree(root / "out.work", ignore_errors=True), _remove(root)), "built", _remove
    ),
    "a source is gone": Case(_without_a_source, "built"),
}


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str], Path]:
    def copy(state: str, name: str) -> Path:
        root = tmp_path / name / "here"  # a build's bytes hang on no path, but the media's identity does
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(request.getfixturevalue(state), root)
        return root

    return copy


def moments(count: int, whole: bool, shown: int = 4) -> list[int]:
    return (
        list(range(1, count + 1)) if whole else sorted({round(1 + k * (count - 1) / (shown - 1)) for k in range(shown)})
    )


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name.startswith("."))


def killed_everywhere(name: str, start: Callable[[str, str], Path], whole: bool) -> tuple[int, int]:
    """Kill a case at the chosen moments; how many were tried, and how many left something else than they should."""
    case = CASES[name]
    undisturbed = start(case.start, "undisturbed")
    old = tree(undisturbed / "out") if (undisturbed / "out").exists() else {}
    case.act(undisturbed)
    new = tree(undisturbed / "out")
    counted = start(case.start, "counted")
    count = changes_of(lambda: case.act(counted), counted)
    tried = wrong = 0
    for moment in moments(count, whole):
        root = start(case.start, "killed")

        def act(root: Path = root, moment: int = moment) -> None:
            arm(moment, root)
            case.act(root)

        code = in_child(act)
        assert code in (0, KILLED), (name, moment, code)
        now = {k: v for k, v in (tree(root / "out") if (root / "out").exists() else {}).items() if "/." not in f"/{k}"}
        whole_one = not old or now in (old, new)  # a first build shows its plan before it has a dataset
        (case.again or case.act)(root)
        after = tree(root / "out")
        hidden = [left for left in leftovers(root)]
        tried += 1
        if not whole_one or after != new or hidden:
            wrong += 1
            print(f"{name}, change {moment} of {count}: whole {whole_one}, same {after == new}, left {hidden}")
    return tried, wrong


@pytest.mark.parametrize("name", CASES)
def test_killed_at_some_changes(name: str, start: Callable[[str, str], Path]) -> None:
    tried, wrong = killed_everywhere(name, start, whole=False)
    assert (tried >= 2, wrong) == (True, 0)


@pytest.mark.faults
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_change(name: str, start: Callable[[str, str], Path]) -> None:
    tried, wrong = killed_everywhere(name, start, whole=True)
    print(f"\n{name}: {tried} moments, {wrong} differences")
    assert wrong == 0


@pytest.mark.faults
@pytest.mark.parametrize("name", ["one clip more", "remove"])
def test_killed_where_folders_cannot_be_exchanged(
    name: str, start: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_exchange", lambda one, other: False)
    case = CASES[name]
    undisturbed = start(case.start, "undisturbed")
    case.act(undisturbed)
    counted = start(case.start, "counted")
    count = changes_of(lambda: case.act(counted), counted)
    for moment in range(1, count + 1):
        root = start(case.start, "killed")
        in_child(lambda root=root, moment=moment: (arm(moment, root), case.act(root)))
        case.act(root)
        assert tree(root / "out") == tree(undisturbed / "out"), moment
        assert leftovers(root) == []
    print(f"\n{name}, two renames: {count} moments, 0 differences")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EROFS, Exception)])
@pytest.mark.parametrize("name", ["one clip more", "remove"])
def test_a_disk_that_takes_no_more_leaves_the_dataset(
    name: str, number: int, kind: type[Exception], start: Callable[[str, str], Path]
) -> None:
    case = CASES[name]
    counted = start(case.start, "counted")
    count = changes_of(lambda: case.act(counted), counted)
    for moment in moments(count, whole=False, shown=5)[:-1]:
        root = start(case.start, "full")
        before = tree(root / "out")

        def fail(root: Path = root) -> None:
            raise OSError(number, "the disk says no", str(root))

        def act(root: Path = root, moment: int = moment, fail: Callable[[], None] = fail) -> None:
            arm(moment, root, fail)
            try:
                case.act(root)
            except (UserError, OSError):
                return

        assert in_child(act) == 0
        # Whatever could not be cleared up by then is cleared up by the next command.
        assert {k: v for k, v in tree(root / "out").items() if not k.startswith(".")} in (before, tree(counted / "out"))
        case.act(root)
        assert leftovers(root) == []


def test_what_was_published_stays_when_sources_are_missing_or_damaged(films: Path, tmp_path: Path) -> None:
    root = tmp_path / "here"
    shutil.copytree(films, root)
    build(options(root))
    before = tree(root / "out")
    for damage in (
        lambda: (root / "media" / "film_1.mp4").unlink(),
        lambda: (root / "media" / "film_1.mp4").write_bytes((films / "media" / "film_1.mp4").read_bytes()[:30_000]),
        lambda: (root / "media" / "film_1.mp4").write_bytes(b"no film"),
        lambda: [path.unlink() for path in (root / "media").iterdir()],
    ):
        damage()
        shutil.rmtree(root / "out.work", ignore_errors=True)
        done = build(options(root))
        assert done.unchanged
        assert {2, 3} <= set(done.kept)
        assert done.counts == {"ok": 4}
        assert tree(root / "out") == before
        assert verify(root / "out").findings == []
        shutil.copytree(films / "media", root / "media", dirs_exist_ok=True)


def test_what_is_new_joins_what_was_kept(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "here"
    shutil.copytree(built, root)
    (root / "media" / "film_0.mp4").unlink()
    shutil.rmtree(root / "out.work")
    done = build(options(root))  # clip 3, of the film that is there, is new
    assert done.counts == {"ok": 4}
    assert not done.unchanged
    assert sorted(done.kept) == [0, 1]
    assert verify(root / "out").findings == []
    lock = json.loads((root / "out" / "lock.json").read_text())
    assert sorted(lock["clips"]) == ["0", "1", "2", "3"]
    # A clip that the annotations no longer have goes, though its source is missing.
    write_annotations(root / "films", {k: v for k, v in CLIPS.items() if k != 1})
    assert build(options(root)).counts == {"ok": 3}
    assert sorted(json.loads((root / "out" / "lock.json").read_text())["clips"]) == ["0", "2", "3"]
    # Other parameters can't be had for a clip whose source is missing: nothing changes, and it is said.
    before = tree(root / "out")
    given = options(root)
    changed = run.replace(given.parameters, poses=run.replace(given.parameters.poses, max_dancers=4))
    shutil.rmtree(root / "out.work")
    with pytest.raises(UserError, match="can't be made again with these parameters"):
        build(options(root, parameters=changed))
    assert tree(root / "out") == before


def test_a_removal_that_an_earlier_version_left_half_done_is_finished(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "here"
    shutil.copytree(built, root)
    tombstone = {"id": 1, "kind": "clip", "reason": "the dancer asked"}
    (root / "out" / "tombstones.jsonl").write_text(json.dumps(tombstone) + "\n")
    found = [str(finding) for finding in verify(root / "out").findings]
    assert any("still holds clip 1" in text and text.startswith("data/clips/") for text in found)
    assert any(text.startswith("data/segments/") for text in found)
    for where in ("plan.jsonl", "lock.json", "ledger.jsonl", "report.html"):
        assert any(text.startswith(where) for text in found), where
    for folder in (root / "media", root / "films", root / "out.work"):
        shutil.rmtree(folder)  # out of the dataset alone
    assert remove(root / "out", "clip", 1, "asked again") == [1]
    assert read_tombstones(root / "out") == [tombstone]
    assert verify(root / "out").findings == []
    with pytest.raises(UserError, match="was taken out of"):
        remove(root / "out", "clip", 1, "and again")


def test_nothing_of_a_removed_clip_stays_in_the_work_folder(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "here"
    shutil.copytree(built, root)
    given = options(root, keep_work=True)
    build(
        run.replace(
            given, parameters=run.replace(given.parameters, poses=run.replace(given.parameters.poses, max_dancers=2))
        )
    )
    lock = json.loads((root / "out" / "lock.json").read_text())["clips"]["1"]
    video = lock["segment"]["video_sha256"]
    remove(root / "out", "clip", 1, "the dancer asked")
    kept = [path for path in (root / "out.work").rglob("record.json") if video in path.read_text()]
    assert kept == []
    objects = root / "out.work" / "objects"
    assert {
        stage: len(list((objects / stage).glob("*/*"))) for stage in ("segment", "poses", "music")
    } == dict.fromkeys(("segment", "poses", "music"), 3)


WRITER = """
import sys
from pathlib import Path
import pytest
from tests.pipeline.build_factory import options, use_one_person
from tiktok_dm.pipeline.run import build
use_one_person(pytest.MonkeyPatch())
root = Path(sys.argv[1])
build(options(root, executor=sys.argv[2], workers=int(sys.argv[3])))
"""


@pytest.mark.faults
def test_a_hundred_random_kills(films: Path, tmp_path: Path) -> None:
    """The whole group at a random moment of a build, as pulling the plug would; then one build that is let alone."""
    rng = np.random.default_rng(20_261_201)
    undisturbed = tmp_path / "undisturbed" / "here"
    shutil.copytree(films, undisturbed)
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", WRITER, str(undisturbed), "inline", "1"], check=True)
    lasts = time.monotonic() - began
    root = tmp_path / "killed" / "here"
    shutil.copytree(films, root)
    different = killed = finished = 0
    while killed < 100:
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(root), "inline", "1"], start_new_session=True)
        time.sleep(rng.uniform(0.2, 0.9) * lasts)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        if process.wait() == 0 or killed % 10 == 0:
            subprocess.run([sys.executable, "-c", WRITER, str(root), "inline", "1"], check=True)
            finished += 1
            different += tree(root / "out") != tree(undisturbed / "out") or leftovers(root) != []
            shutil.rmtree(root)
            shutil.copytree(films, root)
    print(f"\n{killed} kills at random moments, {finished} builds finished after them, {different} differences")
    assert different == 0
