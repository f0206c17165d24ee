"""The content store: what is under a key is complete, and equal inputs give equal keys."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tiktok_dm.errors import DiskFull
from tiktok_dm.files import write_atomic
from tiktok_dm.runtime.store import Store, canonical_json, content_key


@dataclass(frozen=True)
class Params:
    crf: int = 20
    preset: str = "veryfast"


def test_key_is_a_pinned_function_of_its_parts() -> None:
    # Pinned: a change here would make every user's work folder worthless without a VERSION having changed.
    key = content_key("segment", 1, Params(), {"source": "ab", "start_s": 1.5})
    assert key == "075ad41899faa078698c041f433cca5d"
    assert key == content_key("segment", 1, {"preset": "veryfast", "crf": 20}, {"start_s": 1.5, "source": "ab"})


@pytest.mark.parametrize(
    "other",
    [
        ("poses", 1, Params(), {"source": "ab"}),
        ("segment", 2, Params(), {"source": "ab"}),
        ("segment", 1, Params(crf=21), {"source": "ab"}),
        ("segment", 1, Params(), {"source": "ac"}),
    ],
)
def test_key_changes_with_each_part(other: tuple) -> None:
    assert content_key("segment", 1, Params(), {"source": "ab"}) != content_key(*other)


def test_canonical_json_refuses_what_is_not_data() -> None:
    assert canonical_json({"b": 1, "a": Path("x/y")}) == '{"a":"x/y","b":1}'
    with pytest.raises(TypeError):
        canonical_json({"a": object()})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_a_stage_runs_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def make(folder: Path) -> dict:
        calls.append(1)
        (folder / "a.txt").write_text("hello")
        return {"n": 3}

    assert store.run("s", "k1", make) == {"n": 3} == store.run("s", "k1", make) == store.record("s", "k1")
    assert calls == [1]
    assert (store.folder("s", "k1") / "a.txt").read_text() == "hello"
    assert list(store.keys("s")) == ["k1"]


def test_a_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def make(folder: Path) -> dict:
        (folder / "half").write_text("x")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        store.run("s", "k", make)
    assert store.record("s", "k") is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.run("s", "k", lambda folder: {"n": 1})
    (store.folder("s", "k") / "record.json").write_text('{"n":')
    assert store.record("s", "k") is None
    assert store.run("s", "k", lambda folder: {"n": 2}) == {"n": 2}


def test_the_first_of_two_workers_wins(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def slow(folder: Path) -> dict:
        Store(tmp_path).run("s", "k", lambda inner: {"by": "first"})
        return {"by": "second"}

    store.run("s", "k", slow)
    assert store.record("s", "k") == {"by": "first"}
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    store = Store(tmp_path)

    def make(folder: Path) -> dict:
        (folder / "half").write_text("x")
        raise OSError(number, "no room")

    with pytest.raises(DiskFull, match="make room there"):
        store.run("s", "k", make)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_write_atomic_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock.json"
    write_atomic(path, json.dumps({"a": 1}))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskFull, match=r"lock\.json"):
        write_atomic(path, "new")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["lock.json"]
