"""From two real compilations to a dataset, against their truth files: what `tiktok-dm build` promises on real input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.truth_annotations import write_annotations
from tiktok_dm.schema import whole_segments

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "tiktok_dm"]


@pytest.fixture(scope="module")
def built(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Both compilations built by the command; the dataset's folder and the truth of each clip."""
    root = tmp_path_factory.mktemp("acceptance")
    truth = write_annotations(shared_data, root / "films")
    media = shared_data / "compilations"
    command = [*COMMAND, "build", str(root / "films"), "--media", str(media), "--out", str(root / "out"), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["clips"] == {"ok": len(truth)}
    return root / "out", truth


@pytest.fixture(scope="module")
def rows(
    built: tuple[Path, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Any]]:
    """The rows that `load_dataset` gives, by clip id, media undecoded."""
    import datasets

    loaded = datasets.load_dataset(str(built[0]), cache_dir=str(tmp_path_factory.mktemp("cache")))
    found = {}
    for split, table in loaded.items():
        plain = table.cast_column("video", datasets.Video(decode=False)).cast_column(
            "audio", datasets.Audio(decode=False)
        )
        for row in plain:
            assert row["split"] == split
            found[row["clip_id"]] = row
    return found


def test_rows_equal_the_truth(rows: dict[int, dict[str, Any]], built: tuple[Path, list[dict[str, Any]]]) -> None:
    truth = built[1]
    assert sorted(rows) == [clip["clip_id"] for clip in truth]
    for clip in truth:
        row = rows[clip["clip_id"]]
        for name in ("compilation_id", "song_id"):
            assert row[name] == clip[name]
        assert row["n_dancers_annotated"] == clip["n_dancers"]
        assert [row["width"], row["height"]] == clip["size"]
        assert row["fps"] == pytest.approx(clip["fps"], abs=0.01)
        assert abs(row["start_s"] - clip["start_s"]) <= 1 / clip["fps"]
        assert abs(row["end_s"] - clip["end_s"]) <= 1 / clip["fps"]
        assert row["duration_s"] == pytest.approx(row["end_s"] - row["start_s"], abs=1e-4)
        assert np.asarray(row["pose"]).shape == (round(row["duration_s"] * 30), 5, 25, 3)


def test_every_cut_starts_and_ends_on_the_true_frame(
    rows: dict[int, dict[str, Any]], built: tuple[Path, list[dict[str, Any]]]
) -> None:
    import io

    import av

    for clip in built[1]:
        with av.open(io.BytesIO(rows[clip["clip_id"]]["video"]["bytes"])) as container:
            count = sum(1 for _ in container.decode(video=0))
        assert count == clip["end_frame"] - clip["start_frame"], clip["clip_id"]


def test_poses_cover_the_clips(rows: dict[int, dict[str, Any]], built: tuple[Path, list[dict[str, Any]]]) -> None:
    """A pose in at least 95 % of the frames of studio clips, 90 % of phone clips; all three dancers in 80 %."""
    for clip in built[1]:
        pose = np.asarray(rows[clip["clip_id"]]["pose"], dtype=np.float32)
        present = (pose[..., 2] > 0).sum(axis=2) >= 8
        floor = 0.95 if clip["source"].startswith("D2M") else 0.90
        assert present.any(axis=1).mean() >= floor, (clip["clip_id"], clip["source"])
        if clip["n_dancers"] == 3:
            assert (present.sum(axis=1) >= 3).mean() >= 0.80, clip["clip_id"]


def test_dancers_are_counted(rows: dict[int, dict[str, Any]], built: tuple[Path, list[dict[str, Any]]]) -> None:
    right = [rows[clip["clip_id"]]["n_dancers"] == clip["n_dancers"] for clip in built[1]]
    assert np.mean(right) >= 0.9


def test_clips_of_one_song_agree_in_tempo(
    rows: dict[int, dict[str, Any]], built: tuple[Path, list[dict[str, Any]]]
) -> None:
    """Within 4 % or an octave, each clip's speed taken out."""
    tempi: dict[int, list[float]] = defaultdict(list)
    for clip in built[1]:
        tempi[clip["song_id"]].append(rows[clip["clip_id"]]["tempo_bpm"] / clip["song_speed"])
    for song, found in tempi.items():
        for one, other in pairwise(found):
            octaves = np.log2(one / other)
            assert abs(octaves - np.clip(np.round(octaves), -1, 1)) <= np.log2(1.04), (song, found)


def test_split_is_by_song(rows: dict[int, dict[str, Any]]) -> None:
    songs = defaultdict(set)
    for row in rows.values():
        songs[row["split"]].add(row["song_id"])
    assert songs["train"]
    assert songs["test"]
    assert not songs["train"] & songs["test"]


def test_segments_tile_the_clips(
    built: tuple[Path, list[dict[str, Any]]], rows: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    import io

    import datasets
    import soundfile

    loaded = datasets.load_dataset(str(built[0]), "segments", cache_dir=str(tmp_path))
    expected = {row["clip_id"]: whole_segments(row["duration_s"]) for row in rows.values()}
    seen: dict[int, int] = defaultdict(int)
    for table in loaded.values():
        for row in table.cast_column("audio", datasets.Audio(decode=False)):
            seen[row["clip_id"]] += 1
            assert row["segment_index"] == seen[row["clip_id"]]
            first = (row["segment_index"] - 1) * 60
            pose = np.asarray(rows[row["clip_id"]]["pose"], dtype=np.float32)[first : first + 60, 0]
            np.testing.assert_array_equal(np.asarray(row["motion"], dtype=np.float32), pose.reshape(60, 75))
            assert soundfile.info(io.BytesIO(row["audio"]["bytes"])).frames == 44_100
    assert dict(seen) == expected


def test_the_dataset_is_sound(built: tuple[Path, list[dict[str, Any]]]) -> None:
    done = subprocess.run([*COMMAND, "verify", str(built[0]), "--json"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["findings"] == []
    assert done.returncode == 0
