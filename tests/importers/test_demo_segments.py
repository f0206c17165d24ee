"""Segments of synthetic dances: the folder, the truth in its rows, and the estimator's errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiktok_dm import schema
from tiktok_dm.cli.main import app
from tiktok_dm.errors import UserError
from tiktok_dm.importers.demo_segments import SegmentSetParams, write_demo_segments
from tiktok_dm.reading import decode_audio, open_dataset
from tiktok_dm.synthetic import clip_truth, pose_accuracy
from tiktok_dm.synthetic.accuracy import SMALL_TOES, as_estimated
from tiktok_dm.synthetic.music import make_song

EXACT = SegmentSetParams(songs=4, clips=6, seed=3, shortest_s=4.2, longest_s=6.4, test_share=0.3, noise=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("segments") / "set"
    return out, write_demo_segments(out, EXACT)


@pytest.fixture(scope="module")
def rows(made) -> dict[str, list[dict]]:
    opened = open_dataset(made[0], "segments", streaming=True)
    return {split: list(opened[split]) for split in opened}


def test_counts_and_files(made, rows):
    out, counts = made
    assert counts["clips"] == 6
    assert counts["songs"] == 4
    assert counts["segments"] == sum(len(part) for part in rows.values())
    assert {split: part["segments"] for split, part in counts["splits"].items()} == {
        split: len(part) for split, part in rows.items()
    }
    assert not counts["unchanged"]
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == [
        "README.md",
        "data/segments/test-00000-of-00001.parquet",
        "data/segments/train-00000-of-00001.parquet",
        "manifest.json",
    ]
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["files"]) == found[:3]
    assert manifest["parameters"]["seed"] == 3
    assert [path.name for path in out.parent.iterdir()] == ["set"]  # nothing is left beside it


def test_rows_are_the_known_joints_and_sounds(rows):
    """Every segment of every clip, against the truth itself."""
    by_id = {row["segment_id"]: row for part in rows.values() for row in part}
    expected = set()
    for clip_id in range(6):
        joints, audio, _, song_id = clip_truth(EXACT.demo, clip_id)
        count = schema.whole_segments(len(audio) / schema.SAMPLE_RATE)
        assert count in (2, 3)
        for k in range(count):
            name = schema.segment_id(0, song_id, clip_id, k + 1)
            expected.add(name)
            row = by_id[name]
            assert list(row) == list(schema.DATASET_COLUMNS["segments"])
            assert (row["clip_id"], row["song_id"], row["segment_index"], row["start_s"]) == (
                clip_id,
                song_id,
                k + 1,
                2.0 * k,
            )
            assert row["n_dancers"] == joints.shape[1]
            wanted = joints[60 * k : 60 * (k + 1), 0].reshape(60, 75)
            assert np.array_equal(np.asarray(row["motion"], np.float32), wanted)
            samples, rate = decode_audio(row["audio"])
            assert rate == 22_050
            part = audio[44_100 * k : 44_100 * (k + 1)]
            assert np.abs(samples - np.clip(part, -1, 1)).max() <= 1.5 / 32_768
    assert set(by_id) == expected


def test_no_song_is_in_two_splits(rows):
    songs = {split: {row["song_id"] for row in part} for split, part in rows.items()}
    assert set(songs) == {"train", "test"}
    assert not songs["train"] & songs["test"]
    assert songs["train"] | songs["test"] == {0, 1, 2, 3}
    assert all(row["split"] == split for split, part in rows.items() for row in part)


def test_load_dataset_opens_it(made, rows, tmp_path):
    import datasets

    opened = datasets.load_dataset(str(made[0]), "segments", cache_dir=str(tmp_path))
    assert opened.num_rows == {split: len(part) for split, part in rows.items()}
    motion = opened["train"].with_format("numpy").select_columns(["motion"])[0]["motion"]
    assert motion.shape == (60, 75)
    assert motion.dtype == np.float32


def test_the_card_says_what_it_is(made):
    text = (made[0] / "README.md").read_text()
    assert "Synthetic throughout: nobody was filmed and no recording was used." in text
    assert "exact, with confidence 1" in text
    for split, (low, high) in made[1]["tempo_bpm"].items():
        line = next(line for line in text.splitlines() if line.startswith(f"| {split} |"))
        assert f"{low:g}" in line
        assert line.rstrip(" |").endswith(f"{high:g}")
    tempi = [make_song(3, song).tempo_bpm for song in range(4)]
    spread = [bpm for pair in made[1]["tempo_bpm"].values() for bpm in pair]
    assert (min(spread), max(spread)) == (min(tempi), max(tempi))


def test_the_bytes_do_not_depend_on_the_workers(tmp_path):
    params = SegmentSetParams(songs=3, clips=3, seed=5, shortest_s=2.1, longest_s=2.6, test_share=0.4)
    tables = []
    told: list[int] = []
    for workers in (1, 2):
        write_demo_segments(
            tmp_path / str(workers), params, workers=workers, progress=lambda done, total, what: told.append(done)
        )
        tables.append(json.loads((tmp_path / str(workers) / "manifest.json").read_text()))
    assert tables[0] == tables[1]
    assert told == [1, 2, 3] * 2


def test_a_second_run_changes_nothing_and_nothing_else_is_overwritten(made):
    out, counts = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert write_demo_segments(out, EXACT) == {**counts, "unchanged": True}
    other = SegmentSetParams(songs=4, clips=6, seed=4, shortest_s=4.2, longest_s=6.4, test_share=0.3, noise=0)
    with pytest.raises(UserError, match="is there already and holds something else"):
        write_demo_segments(out, other)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    from tiktok_dm.importers import segment_set

    def broken(*args):
        raise RuntimeError("broken")

    monkeypatch.setattr(segment_set, "write_manifest", broken)
    params = SegmentSetParams(songs=2, clips=2, shortest_s=2.1, longest_s=2.2, test_share=0.5)
    with pytest.raises(RuntimeError):
        write_demo_segments(tmp_path / "set", params)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"songs": 1}, "at least two songs"),
        ({"test_share": 1.0}, "test share"),
        ({"noise": -1.0}, "the noise is -1"),
        ({"shortest_s": 1.5}, "may hold no segment"),
        ({"songs": 9, "clips": 4}, "1 to 4 songs"),
        ({"shortest_s": 9.0, "longest_s": 8.0}, "1 to 30 seconds"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_parameters_that_make_no_set(values, sentence):
    with pytest.raises(UserError, match=sentence):
        SegmentSetParams(**{"songs": 4, "clips": 8, **values})


def test_the_verb(tmp_path):
    words = ["demo-segments", str(tmp_path / "set"), "--songs", "2", "--clips", "2", "--seconds", "2.1", "2.4"]
    words += ["--test-share", "0.5", "--workers", "1", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["clips"], told["segments"], told["unchanged"]) == (2, 2, False)
    opened = open_dataset(tmp_path / "set", "segments", streaming=True)
    motion = np.asarray(next(iter(opened["train"]))["motion"]).reshape(60, 25, 3)
    assert (motion[:, SMALL_TOES] == 0).all()  # as the estimator has none: errors are the default
    result = CliRunner().invoke(app, words[:-1])
    assert "nothing had to be done" in result.stdout


# ------------------------------------------------------------------------------------------- the estimator's errors


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return clip_truth(EXACT.demo, 0)[0][:, :1]


def estimates(clip: np.ndarray, count: int, size: float = 1.0) -> np.ndarray:
    return np.stack([as_estimated(clip, np.random.default_rng(k), size) for k in range(count)])


def test_errors_are_as_large_as_the_estimators(clip):
    """BlazePose's mean joint error on the rendered demo was measured at 0.0437 torso lengths."""
    found = np.concatenate(list(estimates(clip, 40)))
    accuracy = pose_accuracy(found, np.concatenate([clip[..., :2]] * 40))
    assert accuracy["recall"] == 1
    assert accuracy["mean_error_torso"] == pytest.approx(0.0437, abs=0.003)
    assert accuracy["pck02"] > 0.999


def test_errors_are_offsets_and_a_slow_drift(clip):
    torso = np.median(np.linalg.norm(clip[:, 0, 1, :2] - clip[:, 0, 8, :2], axis=-1))
    errors = (estimates(clip, 60)[:, :, 0, :, :2] - clip[None, :, 0, :, :2]) / torso  # (draws, frames, joints, 2)
    wrist = errors[:, :, 4]
    offset = wrist.mean(axis=(0, 1))
    assert offset == pytest.approx([0.004, -0.006], abs=0.006)
    drift = wrist - wrist.mean(axis=1, keepdims=True)
    lagged = (drift[:, 1:] * drift[:, :-1]).mean() / (drift**2).mean()
    assert 0.82 < lagged < 0.92
    assert 0.015 < drift.std() < 0.026  # 0.023 less what the clip's own mean takes


def test_confidences_and_the_joints_that_blazepose_lacks(clip):
    found = estimates(clip, 5)
    assert found.dtype == np.float32
    assert (found[:, :, :, SMALL_TOES] == 0).all()
    others = [k for k in range(25) if k not in SMALL_TOES]
    sure = found[:, :, :, others, 2]
    assert ((sure > 0) & (sure <= 1)).all()
    assert found[..., 1, 2].mean() == pytest.approx(0.998, abs=0.003)
    assert found[..., 24, 2].mean() == pytest.approx(0.87, abs=0.04)  # heels are the least sure


def test_size_scales_places_and_absent_people_stay_absent(clip):
    whole, none = (as_estimated(clip, np.random.default_rng(1), size) for size in (1.0, 0.0))
    half = as_estimated(clip, np.random.default_rng(1), 0.5)
    seen = [k for k in range(25) if k not in SMALL_TOES]
    assert none[..., seen, :2] == pytest.approx(clip[..., seen, :2], abs=1e-3)
    assert (half - none)[..., seen, :2] == pytest.approx(0.5 * (whole - none)[..., seen, :2], abs=1e-3)
    away = clip.copy()
    away[10:20] = 0
    assert (as_estimated(away, np.random.default_rng(1))[10:20] == 0).all()
