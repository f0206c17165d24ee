"""The build as a whole, on small films: what it makes, what it does again, and what it survives."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.build_factory import (
    CLIPS,
    options,
    tree,
    use_one_person,
    write_annotations,
    write_film,
    write_films,
)
from tiktok_dm.dataset.verify import verify
from tiktok_dm.errors import DiskFull, Gone, ProblemsError, UserError
from tiktok_dm.pipeline import scheduler, stages
from tiktok_dm.pipeline.acquire import StopAsking
from tiktok_dm.pipeline.plan import parse_only
from tiktok_dm.pipeline.remove import remove
from tiktok_dm.pipeline.run import build, plan_build
from tiktok_dm.runtime.publish import locked


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with media/ (two films) and films/ (their annotations)."""
    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture
def root(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the films that a test may change."""
    use_one_person(monkeypatch)
    shutil.copytree(films, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that really ran, in order."""
    names: list[str] = []
    # Poses are kept one clip at a time, however many were looked at together.
    made = ((stages.segment, "segment", "segment"), (stages.poses, "keep", "poses"), (stages.music, "music", "music"))
    for module, function, name in made:
        original = getattr(module, function)

        def counted(*args: Any, name: str = name, original: Any = original) -> Any:
            names.append(name)
            return original(*args)

        monkeypatch.setattr(module, function, counted)
    return names


def ledger(root: Path) -> dict[str, dict[str, Any]]:
    lines = (root / "out" / "ledger.jsonl").read_text().splitlines()
    return {row["item"]: row for row in map(json.loads, lines)}


def rows(root: Path) -> dict[int, dict[str, Any]]:
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in sorted((root / "out" / "data" / "clips").glob("*.parquet"))]
    return {row["clip_id"]: row for table in tables for row in table.drop(["video", "audio", "pose"]).to_pylist()}


def test_a_build_makes_every_clip_and_accounts_for_it(root: Path) -> None:
    result = build(options(root))
    assert result.counts == {"ok": 4}
    assert not result.unchanged
    found = rows(root)
    assert {i: (r["compilation_id"], r["song_id"], r["start_s"], r["end_s"]) for i, r in found.items()} == CLIPS
    assert {r["n_dancers"] for r in found.values()} == {1}
    assert {row["status"] for row in ledger(root).values()} == {"ok"}
    assert len(ledger(root)) == 6
    plan = [json.loads(line) for line in (root / "out" / "plan.jsonl").read_text().splitlines()]
    assert plan[0]["clips"] == 4
    assert [row["start_pts"] for row in plan[3:]] == [0, 2_500_000, 0, 3_000_000]
    lock = json.loads((root / "out" / "lock.json").read_text())
    assert lock["sources"]["0"]["sha256"] == found[0]["source_sha256"]
    assert verify(root / "out").findings == []
    assert str(root) not in "".join(str(v) for k, v in tree(root / "out").items() if not k.endswith("parquet"))


def test_the_second_run_does_nothing(root: Path, ran: list[str]) -> None:
    build(options(root))
    before = {p: p.stat().st_mtime_ns for p in (root / "out").rglob("*")}
    ran.clear()
    assert build(options(root)).unchanged
    assert ran == []
    assert {p: p.stat().st_mtime_ns for p in (root / "out").rglob("*")} == before


def test_a_damaged_dataset_is_made_whole_again(root: Path) -> None:
    build(options(root))
    good = tree(root / "out")
    (root / "out" / "report.html").unlink()
    path = next((root / "out" / "data" / "clips").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:1000])
    build(options(root))
    assert tree(root / "out") == good


@pytest.mark.parametrize("keep_work", [True, False])
def test_a_changed_parameter_redoes_only_what_depends_on_it(root: Path, ran: list[str], keep_work: bool) -> None:
    """Also when the cut clips were cleaned away: they come back out of the dataset."""
    first = options(root, keep_work=keep_work)
    build(first)
    cuts = list((root / "out.work" / "objects" / "segment").glob("*/*/clip.mp4"))
    assert len(cuts) == (4 if keep_work else 0)
    ran.clear()
    parameters = replace(first.parameters, poses=replace(first.parameters.poses, max_dancers=4))
    build(replace(first, parameters=parameters))
    assert ran == ["poses"] * 4
    ran.clear()
    parameters = replace(first.parameters, music=replace(first.parameters.music, start_bpm=100.0))
    build(replace(first, parameters=parameters))
    assert ran == ["music"] * 4
    assert verify(root / "out").findings == []


def test_one_annotation_changed_redoes_one_clip(root: Path, ran: list[str]) -> None:
    build(options(root))
    write_annotations(root / "films", CLIPS | {3: (1, 2, 3.5, 6.0)})
    ran.clear()
    build(options(root))
    assert sorted(ran) == ["music", "poses", "segment"]
    assert rows(root)[3]["start_s"] == 3.5


def test_a_missing_film_costs_only_its_clips_and_comes_back_later(root: Path, tmp_path_factory: Any) -> None:
    build(options(root))
    whole = tree(root / "out")
    shutil.rmtree(root / "out")
    shutil.rmtree(root / "out.work")
    shutil.move(root / "media" / "film_1.mp4", root / "film_1.mp4")
    result = build(options(root))
    assert result.counts == {"ok": 2, "failed": 2}
    entries = ledger(root)
    assert entries["compilation:1"]["status"] == "failed"
    assert "film_1.mp4" in entries["compilation:1"]["reason"]
    assert entries["clip:2"]["reason"].startswith("its compilation 1 is failed")
    assert sorted(rows(root)) == [0, 1]
    shutil.move(root / "film_1.mp4", root / "media" / "film_1.mp4")
    assert build(options(root)).counts == {"ok": 4}
    assert tree(root / "out") == whole


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (b"not a film" * 500, "")])
def test_a_file_that_is_no_film_is_said_so(root: Path, content: bytes, word: str) -> None:
    (root / "media" / "film_1.mp4").write_bytes(content)
    assert build(options(root)).counts == {"ok": 2, "failed": 2}
    reason = ledger(root)["compilation:1"]["reason"]
    assert "film_1.mp4" in reason
    assert word in reason
    assert "\n" not in reason


def test_a_clip_past_the_end_fails_alone(root: Path) -> None:
    write_annotations(root / "films", CLIPS | {3: (1, 2, 3.0, 9.0)})
    assert build(options(root)).counts == {"ok": 3, "failed": 1}
    entry = ledger(root)["clip:3"]
    assert (entry["stage"], entry["status"]) == ("segment", "failed")
    assert "9" in entry["reason"]


def test_silent_and_empty_clips_are_filtered(root: Path) -> None:
    write_film(root / "media" / "film_0.mp4", 0, silent=True)
    write_film(root / "media" / "film_1.mp4", 1, black=True)
    with pytest.raises(UserError, match="nothing was exported"):
        build(options(root))
    entries = ledger(root)
    assert {entries[f"clip:{i}"]["status"] for i in range(4)} == {"filtered"}
    assert "silent" in entries["clip:0"]["reason"]
    assert "dancer" in entries["clip:2"]["reason"]


def test_a_film_that_is_not_the_annotated_one_is_refused(root: Path) -> None:
    path = root / "films" / "compilations.csv"
    path.write_text(path.read_text().replace("1,Film 1,,film_1.mp4,,", "1,Film 1,,film_1.mp4,," + "ab" * 32))
    assert build(options(root)).counts == {"ok": 2, "failed": 2}
    assert "not the file that was annotated" in ledger(root)["compilation:1"]["reason"]


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """Let every download end in an error; gives the addresses, as they are asked for."""
    asked: list[str] = []

    def acquire(url: str, params: object, out: Path) -> dict:
        asked.append(url)
        raise error

    monkeypatch.setattr(scheduler, "acquire_url", acquire)
    return asked


def test_gone_is_remembered_and_asked_again_only_when_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refuse(monkeypatch, Gone("private", "ERROR: [site] abc: Private video"))
    write_annotations(root / "films", urls={1: "https://example.org/watch?v=abc"})
    result = build(options(root))
    assert result.counts == {"ok": 2, "gone": 2}
    entry = ledger(root)["compilation:1"]
    assert (entry["status"], entry["reason"]) == ("gone", "private")
    assert entry["message"] == "ERROR: [site] abc: Private video"
    assert (root / "out" / "report.html").read_text().count("Private video") >= 1
    assert build(options(root)).unchanged
    write_annotations(root / "films", CLIPS | {1: (0, 1, 2.5, 5.0)}, urls={1: "https://example.org/watch?v=abc"})
    build(options(root))
    assert len(asked) == 1
    build(options(root, retry_gone=True))
    assert len(asked) == 2


def test_a_host_that_wants_a_pause_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = refuse(monkeypatch, StopAsking("rate_limited", "HTTP Error 429: Too Many Requests"))
    clips = CLIPS | {4: (2, 3, 0.0, 2.0)}
    write_annotations(root / "films", clips, urls={1: "https://example.org/1", 2: "https://example.org/2"})
    assert build(options(root)).counts == {"ok": 2, "failed": 3}
    assert asked == ["https://example.org/1"]
    assert ledger(root)["compilation:2"]["reason"] == "rate_limited"
    build(options(root))
    assert len(asked) == 2


def test_a_full_disk_stops_the_build_and_loses_nothing(
    root: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(options(root))
    whole = tree(root / "out")
    shutil.rmtree(root / "out")
    shutil.rmtree(root / "out.work")
    count, keep = [], stages.poses.keep

    def full(*args: Any) -> dict:
        count.append(1)
        if len(count) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return keep(*args)

    monkeypatch.setattr(stages.poses, "keep", full)
    with pytest.raises(DiskFull, match="make room there"):
        build(options(root))
    monkeypatch.setattr(stages.poses, "keep", keep)
    done = len(list((root / "out.work" / "objects" / "poses").glob("*/*/record.json")))
    assert 2 <= done <= 3
    ran.clear()
    build(options(root))
    assert ran.count("segment") == 0
    assert ran.count("poses") == 4 - done
    assert tree(root / "out") == whole


@pytest.mark.parametrize(
    ("kind", "number", "left"), [("clip", 2, [0, 1, 3]), ("song", 0, [1, 3]), ("compilation", 1, [0, 1])]
)
def test_what_is_taken_out_stays_out(root: Path, kind: str, number: int, left: list[int]) -> None:
    build(options(root))
    removed = remove(root / "out", kind, number, "the dancer asked")
    assert sorted(set(range(4)) - set(removed)) == left
    assert sorted(rows(root)) == left
    after = tree(root / "out")
    assert json.loads(after["tombstones.jsonl"]) == {"id": number, "kind": kind, "reason": "the dancer asked"}
    assert "removed on request: the dancer asked" in ledger(root)[f"clip:{removed[0]}"]["reason"]
    assert verify(root / "out").findings == []
    sha = {i: r["video_sha256"] for i, r in rows(root).items()}
    assert set(sha) == set(left)
    # A later build of the same annotations keeps it out, and makes the very same dataset.
    result = build(options(root))
    assert result.counts["filtered"] == len(removed)
    assert tree(root / "out") == after
    shutil.rmtree(root / "out.work")
    build(options(root))
    assert tree(root / "out") == after


def test_removal_needs_a_dataset_an_item_and_a_reason(root: Path) -> None:
    with pytest.raises(UserError, match="holds no finished dataset"):
        remove(root / "out", "clip", 0, "x")
    build(options(root))
    before = tree(root / "out")
    with pytest.raises(UserError, match="has no clip 9"):
        remove(root / "out", "clip", 9, "x")
    with pytest.raises(UserError, match="--reason"):
        remove(root / "out", "clip", 0, "  ")
    assert tree(root / "out") == before
    remove(root / "out", "clip", 0, "x")
    with pytest.raises(UserError, match="before"):
        remove(root / "out", "clip", 0, "x")


def test_only_builds_a_part_and_the_rest_can_follow(root: Path) -> None:
    build(options(root))
    whole = tree(root / "out")
    splits = {i: row["split"] for i, row in rows(root).items()}
    shutil.rmtree(root / "out")
    assert build(options(root, only=("clip:1-2",))).counts == {"ok": 2}
    assert {i: row["split"] for i, row in rows(root).items()} == {i: splits[i] for i in (1, 2)}
    build(options(root))
    assert tree(root / "out") == whole
    with pytest.raises(UserError, match="names no clip"):
        build(options(root, only=("clip:77",)))
    for bad in ("clip", "dancer:3", "clip:7-3", "clip:-1", ""):
        with pytest.raises(UserError, match="--only"):
            parse_only([bad])
    assert parse_only(["clip:3-5,song:1", "clip:9"]) == {"clip": {3, 4, 5, 9}, "song": {1}}


def test_a_dry_run_writes_nothing(root: Path) -> None:
    before = tree(root)
    plan = plan_build(options(root))
    assert tree(root) == before
    assert not (root / "out").exists()
    assert not (root / "out.work").exists()
    assert plan.cost()["video_s"] == 11.5
    assert plan.cost()["downloads"] == 0


def test_a_folder_of_someone_else_is_left_alone(root: Path) -> None:
    (root / "out").mkdir()
    (root / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no dataset of this program"):
        build(options(root))
    shutil.rmtree(root / "out")
    build(options(root))
    before = tree(root / "out")
    shutil.copytree(root / "films", root / "other")
    with pytest.raises(UserError, match="belongs to the build of 'films'"):
        build(options(root, annotations=root / "other"))
    assert tree(root / "out") == before
    (root / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        build(options(root, out=root / "file"))


def test_bad_annotations_stop_before_anything_is_written(root: Path) -> None:
    write_annotations(root / "films", CLIPS | {3: (1, 2, 2.0, 1.0)})
    with pytest.raises(ProblemsError, match="line 5"):
        build(options(root))
    assert not (root / "out").exists()


def test_two_builds_of_one_folder_do_not_mix(root: Path) -> None:
    with locked(root / "out"):
        before = sorted(path.name for path in root.iterdir())
        with pytest.raises(UserError, match="another program is writing"):
            build(options(root))
        with pytest.raises(UserError, match="another program is writing"):
            remove(root / "out", "clip", 1, "asked")
        assert sorted(path.name for path in root.iterdir()) == before


def test_annotations_without_times_say_what_to_do(tmp_path: Path) -> None:
    released = Path(__file__).resolve().parents[2] / "annotations" / "tiktok_dm"
    with pytest.raises(UserError, match=r"none of the 445 clips .* annotations fetch"):
        build(options(tmp_path, annotations=released, media=None))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.work").exists()
