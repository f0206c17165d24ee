"""The exported dataset: what went in comes out, streamed or not, and the same items give the same bytes."""

from __future__ import annotations

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from export_factory import CLIPS, META, changed, make_items, private_cache, with_split

from tiktok_dm import schema
from tiktok_dm.dataset import export as module
from tiktok_dm.dataset.export import export, file_table, pad_dancers
from tiktok_dm.dataset.rows import ClipItem
from tiktok_dm.errors import DiskFull
from tiktok_dm.reading import features, open_dataset
from tiktok_dm.runtime import publish


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[ClipItem]:
    return make_items(tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def out(items: list[ClipItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "tiny"
    export(items, folder, META)
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_cache(monkeypatch, tmp_path / "cache")


def rows(out: Path, config: str, *, streaming: bool = False) -> dict[Any, dict[str, Any]]:
    opened = open_dataset(out, config, streaming=streaming)
    key = "clip_id" if config == "clips" else "segment_id"
    return {row[key]: row for split in opened for row in opened[split]}


def test_clip_rows_equal_what_went_in(items: list[ClipItem], out: Path) -> None:
    found = rows(out, "clips")
    assert sorted(found) == [0, 1, 3, 7]
    for item in items:
        row, cut, music = found[item.clip_id], item.segment, item.music
        poses = np.load(item.pose)
        pose = np.asarray(row.pop("pose"), np.float32)
        assert pose.shape == (cut["n_frames"], 5, 25, 3)
        np.testing.assert_array_equal(pose[:, : poses.shape[1]], poses)
        assert not pose[:, poses.shape[1] :].any()
        assert row.pop("video") == {"bytes": item.video.read_bytes(), "path": f"clip_{item.clip_id:06d}.mp4"}
        assert row.pop("audio") == {"bytes": item.audio.read_bytes(), "path": f"clip_{item.clip_id:06d}.flac"}
        assert row == {
            "clip_id": item.clip_id,
            "compilation_id": item.compilation_id,
            "song_id": item.song_id,
            "split": item.split,
            "start_s": cut["start_s"],
            "end_s": cut["end_s"],
            "duration_s": cut["duration_s"],
            "fps": 30.0,
            "width": 96,
            "height": 64,
            "content_box": [8, 0, 80, 64],
            "n_dancers": poses.shape[1],
            "n_dancers_annotated": item.n_dancers_annotated,
            "pose_fps": 30.0,
            "pose_coverage": item.poses["coverage"],
            "pose_confidence": item.poses["mean_confidence"],
            "pose_model": "mediapipe 0.10.21",
            "beats_s": music["beats_s"],
            "tempo_bpm": music["tempo_bpm"],
            "loudness_lufs": music["loudness_lufs"],
            "source": item.source,
            "source_sha256": item.source_sha256,
            "video_sha256": cut["video_sha256"],
            "audio_sha256": cut["audio_sha256"],
        }


def test_segments_tile_their_clips(items: list[ClipItem], out: Path) -> None:
    found = rows(out, "segments")
    assert list(found) == ["000000_0_0_seg1", "000000_0_1_seg1", "000000_0_1_seg2", "000001_1_7_seg1"]
    by_clip = {item.clip_id: item for item in items}
    for name, row in found.items():
        item = by_clip[row["clip_id"]]
        k = row["segment_index"] - 1
        assert schema.parse_segment_id(name) == (item.compilation_id, item.song_id, item.clip_id, k + 1)
        assert (row["compilation_id"], row["song_id"], row["split"]) == (item.compilation_id, item.song_id, item.split)
        assert (row["start_s"], row["n_dancers"]) == (2.0 * k, item.poses["n_dancers"])
        motion = np.asarray(row["motion"], np.float32)
        np.testing.assert_array_equal(motion.reshape(60, 25, 3), np.load(item.pose)[60 * k : 60 * (k + 1), 0])
        part, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
        whole, _ = soundfile.read(item.audio, dtype="int16")
        assert (rate, part.shape) == (22_050, (44_100,))
        np.testing.assert_array_equal(part, whole[44_100 * k : 44_100 * (k + 1)])


def test_load_dataset_opens_both_configurations(out: Path) -> None:
    import datasets

    clips = datasets.load_dataset(str(out))
    assert {split: len(part) for split, part in clips.items()} == {"train": 3, "test": 1}
    assert clips["train"].features == features("clips")
    segments = datasets.load_dataset(str(out), "segments")
    assert {split: len(part) for split, part in segments.items()} == {"train": 3, "test": 1}
    assert segments["test"].features == features("segments")
    pose = clips["train"].with_format("numpy").select_columns("pose")[1]["pose"]
    assert (pose.shape, pose.dtype) == ((120, 5, 25, 3), np.float32)
    motion = segments["train"].with_format("numpy").select_columns("motion")[:]["motion"]
    assert (motion.shape, motion.dtype) == ((3, 60, 75), np.float32)


def test_a_dataset_made_anew_is_not_served_from_the_old_cache(
    items: list[ClipItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` knows a local dataset by its card; here nothing but the poses' values differ, and no size does."""
    from tiktok_dm.dataset import rows

    class Sizeless(rows.ShardWriter):
        def finish(self) -> rows.SplitInfo:
            return replace(super().finish(), download_bytes=1)

    monkeypatch.setattr(module, "ShardWriter", Sizeless)
    first = [item for item in items if item.clip_id == 0]
    poses = np.load(first[0].pose)
    np.save(tmp_path / "poses.npy", poses + np.float32(1))
    second = [replace(first[0], pose=tmp_path / "poses.npy")]
    for folder, chosen, shift in ((tmp_path / "a" / "set", first, 0), (tmp_path / "b" / "set", second, 1)):
        export(chosen, folder, META)
        row = open_dataset(folder, "clips")["train"][0]
        assert np.asarray(row["pose"])[0, 0, 0, 0] == poses[0, 0, 0, 0] + shift


def test_features_are_the_published_ones() -> None:
    import datasets

    clips, segments = features("clips"), features("segments")
    assert clips["video"] == datasets.Video()
    assert clips["audio"] == segments["audio"] == datasets.Audio(sampling_rate=22_050)
    assert clips["pose"] == datasets.Array4D(shape=(None, 5, 25, 3), dtype="float32")
    assert clips["content_box"] == datasets.List(datasets.Value("int64"), length=4)
    assert clips["beats_s"] == datasets.List(datasets.Value("float64"))
    assert segments["motion"] == datasets.Array2D(shape=(60, 75), dtype="float32")
    assert segments["segment_id"] == datasets.Value("string")


@pytest.mark.parametrize("config", ["clips", "segments"])
def test_streaming_gives_the_same_rows(out: Path, config: str) -> None:
    whole, streamed = rows(out, config), rows(out, config, streaming=True)
    assert list(whole) == list(streamed)
    for key, row in whole.items():
        assert streamed[key] == row


@pytest.mark.parametrize("config", ["clips", "segments"])
@pytest.mark.parametrize("max_shard_mb", [0.001, 0.5, 400])
def test_the_card_counts_as_datasets_counts(
    items: list[ClipItem], tmp_path: Path, config: str, max_shard_mb: float
) -> None:
    """num_bytes and num_examples of a build that reads the files without the card; a shard a row, some, one in all."""
    import datasets

    # Nine clips more, so that files have row groups of eight rows, of several, and of one.
    out = tmp_path / "many"
    more = [replace(items[0], clip_id=n, song_id=n) for n in range(10, 19)]
    export([*items, *more], out, META, max_shard_mb=max_shard_mb)
    told = datasets.load_dataset_builder(str(out), config).info.splits
    files = {split: [str(p) for p in sorted((out / "data" / config).glob(f"{split}-*"))] for split in told}
    read = datasets.load_dataset("parquet", data_files=files)
    assert {s: (told[s].num_bytes, told[s].num_examples) for s in told} == {
        s: (read[s].info.splits[s].num_bytes, read[s].info.splits[s].num_examples) for s in read
    }


def test_same_items_give_the_same_bytes(items: list[ClipItem], out: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere"
    export(list(reversed(items)), again, META)
    assert file_table(again) == file_table(out)
    assert (again / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()
    before = file_table(again)
    assert not export(items, again, META, force=True)["unchanged"]
    assert file_table(again) == before


def test_summary_and_manifest(items: list[ClipItem], tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    out.mkdir()
    (out / "plan.jsonl").write_text("{}\n")
    (out / ".cache").mkdir()
    (out / ".cache" / "note").write_text("not of the dataset")
    summary = export(items, out, META)
    assert {key: summary[key] for key in ("name", "clips", "segments", "compilations", "songs", "seconds")} == {
        "name": "tiny",
        "clips": 4,
        "segments": 4,
        "compilations": 2,
        "songs": 3,
        "seconds": 9.633,
    }
    assert summary["splits"] == {"train": {"clips": 3, "segments": 3}, "test": {"clips": 1, "segments": 1}}
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [
        "README.md",
        "data/clips/test-00000-of-00001.parquet",
        "data/clips/train-00000-of-00001.parquet",
        "data/segments/test-00000-of-00001.parquet",
        "data/segments/train-00000-of-00001.parquet",
        "plan.jsonl",
        "report.html",
    ]
    assert manifest["files"]["plan.jsonl"] == {
        "bytes": 3,
        "sha256": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
    }
    assert manifest["tools"] == dict(META.tools)
    assert manifest["parameters"] == dict(META.parameters)
    text = (out / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert str(tmp_path) not in (out / "README.md").read_text() + (out / "report.html").read_text()


def test_a_finished_export_is_not_done_again(
    items: list[ClipItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tiny"
    assert not export(items, out, META)["unchanged"]
    before = file_table(out)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_shards", lambda *a, **k: pytest.fail("written again"))
        assert export(items, out, META)["unchanged"]
    shard = out / "data/clips/test-00000-of-00001.parquet"
    damaged = bytearray(shard.read_bytes())
    damaged[1000] ^= 1
    shard.write_bytes(damaged)
    assert not export(items, out, META)["unchanged"], "a damaged file is written again, not listed as it is"
    assert file_table(out) == before
    assert not export([changed(items[0], music={"tempo_bpm": 90.0}), *items[1:]], out, META)["unchanged"]
    assert rows(out, "clips")[0]["tempo_bpm"] == 90.0


def test_a_smaller_export_leaves_nothing_of_the_larger(items: list[ClipItem], tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    export(items, out, META, max_shard_mb=0.001)
    assert len(list((out / "data/clips").glob("train-*-of-00003.parquet"))) == 3
    export(items[:1], out, META)
    assert [path.name for path in (out / "data/clips").iterdir()] == ["train-00000-of-00001.parquet"]
    assert [path.name for path in (out / "data/segments").iterdir()] == ["train-00000-of-00001.parquet"]
    assert list(rows(out, "clips")) == [0]


@pytest.mark.parametrize("split", schema.SPLITS)
def test_a_single_split_opens(items: list[ClipItem], tmp_path: Path, split: str) -> None:
    import datasets

    out = tmp_path / "one"
    export(with_split(items[:2], split), out, META)
    for config, count in (("clips", 2), ("segments", 3)):
        assert {name: len(part) for name, part in datasets.load_dataset(str(out), config).items()} == {split: count}


def test_clips_too_short_for_a_segment_make_no_segments(items: list[ClipItem], tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "short"
    export([item for item in items if item.clip_id == 3], out, META)
    assert len(datasets.load_dataset(str(out))["train"]) == 1
    assert datasets.get_dataset_config_names(str(out)) == ["clips"]


def test_shards_are_cut_by_size_and_numbered(items: list[ClipItem], tmp_path: Path) -> None:
    many = [replace(items[0], clip_id=n, song_id=n) for n in range(30)]
    out = tmp_path / "many"
    size = items[0].video.stat().st_size + items[0].audio.stat().st_size + 75 * 5 * 25 * 3 * 4
    export(many, out, META, max_shard_mb=17 * size / 2**20)
    names = sorted(path.name for path in (out / "data/clips").iterdir())
    assert names == [f"train-0000{k}-of-00002.parquet" for k in range(2)], "16 rows (two groups of 8), then 14"
    assert list(rows(out, "clips")) == list(range(30))


class Killed(BaseException):
    """Stands for a killed process: nothing catches it."""


@pytest.mark.parametrize("step", ["shards", "report", "manifest", "sync", "exchange", "rename", "second rename"])
def test_a_stopped_export_leaves_the_earlier_dataset(
    items: list[ClipItem], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place = tmp_path / "tiny"
    export(items[:2], place, META)
    old = file_table(place)

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "shards":
            patch.setattr(module, "segment_rows", stop)
        elif step == "report":
            import tiktok_dm.dataset.report

            patch.setattr(tiktok_dm.dataset.report, "report", stop)
        elif step == "sync":
            patch.setattr(publish, "sync_tree", stop)
        elif step == "exchange":
            patch.setattr(publish, "_exchange", stop)
        elif step in ("rename", "second rename"):  # where a file system can't exchange two folders
            left = iter(["done"] if step == "second rename" else [])
            rename = os.rename
            patch.setattr(publish, "_exchange", lambda *paths: False)
            patch.setattr(os, "rename", lambda *paths: rename(*paths) if next(left, None) else stop())
        else:
            patch.setattr(module, "write_manifest", stop)
        with pytest.raises(Killed):
            export(items, place, META)
    publish.recover(place)
    assert file_table(place) == old, "the earlier dataset is untouched"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    export(items, place, META)
    assert file_table(place) == file_table(out)
    assert (place / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_full_disk_leaves_the_earlier_dataset(
    items: list[ClipItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tiny"
    export(items[:2], place, META)
    old = file_table(place)

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "clip_row", full)
    with pytest.raises(DiskFull, match="no room left to write data"):
        export(items, place, META)
    assert file_table(place) == old
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("duration_s", "count"),
    [(0.0, 0), (1.998, 0), (1.9991, 1), (2.0, 1), (3.99, 1), (3.9995, 2), (4.0, 2), (12.5, 6), (28.0, 14)],
)
def test_segments_in_a_duration(duration_s: float, count: int) -> None:
    assert schema.whole_segments(duration_s) == count


def test_padding_keeps_the_largest_five() -> None:
    poses = np.arange(2 * 7 * 25 * 3, dtype=np.float32).reshape(2, 7, 25, 3)
    np.testing.assert_array_equal(pad_dancers(poses), poses[:, :5])
    assert pad_dancers(poses[:, :0]).shape == (2, 5, 25, 3)
    assert not pad_dancers(poses[:, :0]).any()


def test_a_sound_a_little_short_of_its_last_segment_is_padded(items: list[ClipItem], tmp_path: Path) -> None:
    item = items[1]
    samples, rate = soundfile.read(item.audio, dtype="int16")
    short = tmp_path / "audio.flac"
    soundfile.write(short, samples[:-20], rate)
    out = tmp_path / "short"
    export([changed(replace(item, audio=short), segment={"duration_s": 3.9995})], out, META)
    part, _ = soundfile.read(io.BytesIO(rows(out, "segments")["000000_0_1_seg2"]["audio"]["bytes"]), dtype="int16")
    np.testing.assert_array_equal(part[:-20], samples[44_100:-20])
    assert not part[-20:].any()


def test_what_cannot_be_is_a_bug_and_says_so(items: list[ClipItem], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same clip_id"):
        export([items[0], items[0]], tmp_path / "twice", META)
    with pytest.raises(ValueError, match="55125 entries where 88200 belong"):
        export([changed(items[0], segment={"duration_s": 4.0})], tmp_path / "long", META)


def test_silence_has_no_loudness_and_no_tempo(items: list[ClipItem], tmp_path: Path) -> None:
    out = tmp_path / "silent"
    silent = {"tempo_bpm": None, "beats_s": [], "loudness_lufs": None}
    export([changed(items[0], music=silent)], out, META)
    row = rows(out, "clips")[0]
    assert (row["tempo_bpm"], row["beats_s"], row["loudness_lufs"]) == (None, [], None)


def test_the_factory_has_all_cases() -> None:
    assert {frames // 60 for *_, frames, _, _ in CLIPS} == {0, 1, 2}
