"""Verification finds each kind of damage, all of it at once, and none in a sound dataset."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_factory import META, RATE, make_items, pictures, sound

from tiktok_dm.dataset import verify as module
from tiktok_dm.dataset.checks import sound_offset, video_sound
from tiktok_dm.dataset.export import export, write_manifest
from tiktok_dm.dataset.rows import ShardWriter, array_values
from tiktok_dm.dataset.verify import VerifyReport
from tiktok_dm.errors import UserError
from tiktok_dm.media import encode_audio, write_video

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "tiny"
    export(make_items(tmp_path_factory.mktemp("stages")), out, META)
    return out


@pytest.fixture
def out(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "tiny")


def verify(out: Path, *, decode: bool = False) -> VerifyReport:
    return module.verify(out, decode=decode, decoders=False)


def messages(out: Path, *, decode: bool = False) -> list[str]:
    return [str(finding) for finding in verify(out, decode=decode).findings]


def change(out: Path, config: str, edit: Callable[[Rows], Rows], split: str = "train") -> None:
    """Write a split's rows again after `edit`, with a manifest that knows of it."""
    import pyarrow.parquet

    folder = out / "data" / config
    rows: Rows = []
    for path in sorted(folder.glob(f"{split}-*")):
        table = pyarrow.parquet.read_table(path)
        columns = {
            name: [value for part in table[name].chunks for value in array_values(part)] for name in table.schema.names
        }
        rows += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        path.unlink()
    with ShardWriter(folder, config, split, 2**28) as writer:
        for row in edit(rows):
            writer.add(row)
        writer.finish()
    head = json.loads((out / "manifest.json").read_text())
    write_manifest(out, {key: head[key] for key in ("export", "name", "counts")}, META)


def set_column(column: str, value: Any, row: int = 0) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        rows[row][column] = value(rows[row][column]) if callable(value) else value
        return rows

    return edit


def stored(data: bytes, name: str) -> dict[str, Any]:
    return {"bytes": data, "path": name}


def test_a_sound_dataset_has_no_findings(original: Path) -> None:
    report = verify(original, decode=True)
    assert report.findings == []
    assert report.ok
    assert report.counts == {"files": 6, "clips": 4, "segments": 4, "songs": 3, "compilations": 2}
    assert report.max_start_ms <= 1
    assert report.max_sync_ms <= 1
    assert str(report).startswith(
        "Nothing wrong in 6 files, 4 clips, 4 segments.\nPicture and sound start within 0.0 ms"
    )


def test_progress_counts_clips(original: Path) -> None:
    calls: list[tuple[int, int]] = []
    module.verify(original, decode=False, decoders=False, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no dataset: give the folder"):
        module.verify(tmp_path)
    with pytest.raises(UserError, match="holds no dataset: give the folder"):
        module.verify(tmp_path / "nowhere")


def test_files_missing_changed_cut_and_extra_are_all_said(out: Path) -> None:
    (out / "report.html").unlink()
    (out / "notes.txt").write_text("mine")
    (out / ".cache").mkdir()
    (out / ".cache" / "x").write_text("a hub client's")
    card = out / "README.md"
    card.write_text(card.read_text() + "x")
    shard = out / "data/clips/test-00000-of-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    found = messages(out)
    assert "report.html: is listed in the manifest but missing: copy it again or run the same build again" in found
    assert "notes.txt: is not listed in the manifest: remove it if it is no part of the dataset" in found
    assert any(m.startswith("README.md: has ") and m.endswith("it was changed or cut") for m in found)
    assert "data/clips/test-00000-of-00001.parquet: has another SHA-256 than the manifest says: it was changed" in found
    assert not any(".cache" in m for m in found)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"files": {"README.md": 3}}'])
def test_a_damaged_manifest(out: Path, text: str) -> None:
    (out / "manifest.json").write_text(text)
    assert messages(out) == ["manifest.json: cannot be read: run the same build again"]


def test_an_unfinished_export(out: Path) -> None:
    (out / "manifest.json").unlink()
    assert messages(out) == ["manifest.json: is missing, so the export did not finish: run the same build again"]


def test_an_unreadable_and_a_misnamed_shard(out: Path) -> None:
    (out / "data/segments/test-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    (out / "data/segments/other.parquet").write_bytes(b"")
    found = messages(out)
    assert any(m.startswith("data/segments/test-00000-of-00001.parquet: is no readable Parquet file (") for m in found)
    assert "data/segments/other.parquet: has no name of a shard (train-00000-of-00001.parquet): remove it" in found
    assert "segment 000001_1_7_seg1: is missing, though its clip is long enough" in found
    assert "README.md: says 1 rows of segments in test, the files hold 0" in found


def test_another_schema(out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = out / "data/clips/train-00000-of-00001.parquet"
    table = pq.read_table(path).drop_columns(["tempo_bpm"])
    table = table.set_column(0, "clip_id", table["clip_id"].cast(pa.int32())).append_column("mood", pa.array(["a"] * 3))
    pq.write_table(table, path)
    found = [m for m in messages(out) if m.startswith("data/clips/train")]
    assert found[1:] == [
        "data/clips/train-00000-of-00001.parquet: lacks the column tempo_bpm",
        "data/clips/train-00000-of-00001.parquet: has an unknown column mood",
        "data/clips/train-00000-of-00001.parquet: holds clip_id as int32 where int64 belongs",
    ]


def test_other_features_in_the_metadata(out: Path) -> None:
    import pyarrow.parquet as pq

    path = out / "data/clips/test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    name = "data/clips/test-00000-of-00001.parquet"
    assert f"{name}: says other features in its metadata than the dataset's" in messages(out)


def test_card_without_head(out: Path) -> None:
    (out / "README.md").write_text("# Mine\n")
    sentence = "README.md: is missing or has no readable YAML head, so load_dataset does not know the dataset's parts"
    assert sentence in messages(out)


def test_a_song_in_two_splits(out: Path) -> None:
    change(out, "clips", set_column("song_id", 1, row=2))
    assert messages(out) == ["song 1: is in test (clips 7) and train (clips 3): a song belongs to one split"]


def test_a_clip_twice_and_a_segment_twice(out: Path) -> None:
    change(out, "clips", lambda rows: [*rows, rows[2]])
    change(out, "segments", lambda rows: [*rows, rows[0]])
    assert messages(out) == [
        "README.md: says 3 rows of clips in train, the files hold 4",
        "README.md: says 3 rows of segments in train, the files hold 4",
        "clip 3: stands in 2 rows",
        "segment 000000_0_0_seg1: stands in 2 rows",
    ]


def test_a_row_in_the_wrong_file(out: Path) -> None:
    change(out, "clips", set_column("split", "test", row=2))
    assert "clip 3: says it is in test but stands in train-00000-of-00001.parquet" in messages(out)


def test_segments_must_agree_with_their_clips(out: Path) -> None:
    def edit(rows: Rows) -> Rows:
        rows[0]["n_dancers"] = 4
        rows[1]["motion"] = rows[1]["motion"] + np.float32(0.5)
        rows[2]["audio"], rows[0]["audio"] = rows[1]["audio"], rows[2]["audio"]
        return [*rows, {**rows[0], "segment_id": "000000_0_0_seg2"}]

    change(out, "segments", edit)
    assert messages(out)[1:] == [
        "segment 000000_0_0_seg1: says n_dancers = 4 where its clip says 1",
        "segment 000000_0_0_seg1: has another sound than its clip at that place",
        "segment 000000_0_1_seg1: has another motion than the poses of its clip's lead dancer",
        "segment 000000_0_1_seg2: has another sound than its clip at that place",
        "segment 000000_0_0_seg2: belongs to no clip of this dataset, or lies past the end of its clip",
    ]


def test_a_segment_of_another_length(out: Path) -> None:
    short = stored(encode_audio(sound(0, 1.5), RATE, "flac"), "x.flac")
    change(out, "segments", set_column("audio", short))
    assert messages(out) == ["segment 000000_0_0_seg1: holds 33075 samples at 22050 Hz where 44100 at 22050 belong"]
    change(out, "segments", set_column("audio", stored(b"no sound", "x.flac")))
    assert messages(out)[0].startswith("segment 000000_0_0_seg1: a stored sound cannot be decoded (")


def test_missing_segments(out: Path) -> None:
    change(out, "segments", lambda rows: [row for row in rows if row["segment_id"] != "000000_0_1_seg2"])
    assert "segment 000000_0_1_seg2: is missing, though its clip is long enough" in messages(out)


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        (
            "video",
            lambda v: stored(v["bytes"] + b"\0", v["path"]),
            "has another SHA-256 of video than video_sha256 says",
        ),
        ("video", stored(b"", "x.mp4"), "holds no bytes in video"),
        ("end_s", lambda v: v + 0.5, "lasts 2.500 s but runs from 0.500 s to 3.500 s"),
        ("content_box", [20, 0, 80, 64], "has a content box [20, 0, 80, 64] outside its 96 x 64 picture"),
        ("pose", lambda v: v[:70], "has 70 poses where 75 belong to its 2.500 s"),
        ("pose", lambda v: np.where(v == v.max(), np.nan, v), "has poses that are not finite numbers"),
        ("pose", lambda v: v * np.float32([1, 1, 2]), "has pose confidences outside 0..1"),
        ("pose", lambda v: np.repeat(v[:, :1], 5, axis=1), "has poses of 5 dancers where n_dancers says 1"),
        ("pose_coverage", 0.5, "says pose_coverage = 0.500, though 0.867 of its poses show a dancer"),
        ("pose_confidence", 1.5, "has a pose_coverage or pose_confidence outside 0..1"),
        ("beats_s", [0.5, 0.4], "has beats that do not rise from 0 to its duration"),
        ("beats_s", [0.5, 4.4], "has beats that do not rise from 0 to its duration"),
    ],
)
def test_a_clip_that_does_not_fit_itself(out: Path, column: str, value: Any, sentence: str) -> None:
    change(out, "clips", set_column(column, value))
    assert f"clip 0: {sentence}" in messages(out)


def replace_media(column: str, data: bytes, name: str) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        rows[0][column] = stored(data, name)
        rows[0][f"{column}_sha256"] = hashlib.sha256(data).hexdigest()
        return rows

    return edit


def test_sound_of_another_length_rate_or_kind(out: Path) -> None:
    change(out, "clips", replace_media("audio", encode_audio(sound(0, 2.2), RATE), "x.flac"))
    assert "clip 0: holds 2.200 s of sound where its duration is 2.500 s" in messages(out)
    change(out, "clips", replace_media("audio", encode_audio(sound(0, 2.5), 44_100), "x.flac"))
    assert "clip 0: holds sound of 1 channels at 44100 Hz where mono at 22050 Hz belongs" in messages(out)
    change(out, "clips", replace_media("audio", b"no sound", "x.flac"))
    assert any(m.startswith("clip 0: a stored sound cannot be decoded (") for m in messages(out))


def film(tmp_path: Path, frames: int, samples: np.ndarray | None, fps: int = 30) -> bytes:
    path = tmp_path / "film.mp4"
    write_video(path, pictures(0, frames), fps, audio=samples, sample_rate=RATE, preset="ultrafast")
    return path.read_bytes()


def test_a_video_of_another_length(out: Path, tmp_path: Path) -> None:
    change(out, "clips", replace_media("video", film(tmp_path, 60, sound(0, 2.5)), "x.mp4"))
    assert messages(out, decode=True) == [
        "clip 0: holds 60 pictures where 75 belong to its duration and frame rate",
        "clip 0: holds a video of 2.000 s where its duration is 2.500 s",
    ]


def test_a_video_of_another_size(out: Path) -> None:
    change(out, "clips", set_column("width", 98))
    assert messages(out, decode=True) == ["clip 0: holds pictures of 96 x 64 where its row says 98 x 64"]


def test_a_video_with_another_songs_sound(out: Path, tmp_path: Path) -> None:
    change(out, "clips", replace_media("video", film(tmp_path, 75, sound(99, 2.5)), "x.mp4"))
    assert messages(out, decode=True) == ["clip 0: holds another sound in its video than in its audio"]


def test_a_video_without_sound(out: Path, tmp_path: Path) -> None:
    change(out, "clips", replace_media("video", film(tmp_path, 75, None), "x.mp4"))
    assert messages(out, decode=True) == ["clip 0: holds a video without sound, though its audio is not silent"]


def test_bytes_that_are_no_video(out: Path) -> None:
    change(out, "clips", replace_media("video", b"no video at all", "x.mp4"))
    assert any(m.startswith("clip 0: a stored video cannot be decoded (") for m in messages(out, decode=True))


@pytest.mark.parametrize(
    ("late_ms", "wrong"), [(0, False), (8, False), (-8, False), (15, True), (-30, True), (120, True)]
)
def test_sync_is_measured_on_the_content(out: Path, tmp_path: Path, late_ms: int, wrong: bool) -> None:
    samples, shift = sound(0, 2.5), round(late_ms / 1000 * RATE)
    moved = np.roll(samples, shift)
    moved[: max(0, shift)] = 0
    change(out, "clips", replace_media("video", film(tmp_path, 75, moved), "x.mp4"))
    report = verify(out, decode=True)
    assert report.max_sync_ms == pytest.approx(abs(late_ms), abs=1)
    assert [str(finding).split(" later")[0].split(" heard ")[0] for finding in report.findings] == (
        ["clip 0: is"] if wrong else []
    )


def test_sound_offset_finds_a_known_shift() -> None:
    samples = sound(5, 3.0)
    late = np.concatenate([np.zeros(331, np.float32), samples])
    assert sound_offset(late, samples) == (pytest.approx(331 / RATE), pytest.approx(1.0, abs=0.01))
    assert sound_offset(samples, late)[0] == pytest.approx(-331 / RATE)
    assert sound_offset(np.zeros(100), samples) == (0.0, 0.0)
    assert sound_offset(sound(6, 3.0), samples)[1] < 0.15


def test_the_sound_of_a_stored_video(tmp_path: Path) -> None:
    samples = sound(3, 2.0)
    found = video_sound(film(tmp_path, 60, np.stack([samples, samples], axis=1)))
    assert found is not None
    assert found[1] == 0.0
    offset, likeness = sound_offset(found[0], samples)
    assert abs(offset) < 0.001
    assert likeness > 0.9
    assert video_sound(film(tmp_path, 10, None)) is None


def test_missing_decoders_are_a_note_and_no_finding(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "missing_decoder", lambda: "To decode, install this.")
    report = module.verify(original, decode=False)
    assert report.ok
    assert report.notes == ("To decode, install this.",)
