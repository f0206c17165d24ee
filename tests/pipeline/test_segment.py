"""The segment stage: its files, its record, and that they agree with each other."""

from __future__ import annotations

import hashlib
import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tiktok_dm import media
from tiktok_dm.errors import MediaError
from tiktok_dm.pipeline.segment import SegmentParams, segment

FPS = Fraction(30000, 1001)
QUICK = SegmentParams(preset="ultrafast")


def picture(index: int) -> np.ndarray:
    """A 9:16 window (130 to 190 of 320 columns wide is 60) of moving stripes on a still, coloured ground."""
    rgb = np.zeros((108, 320, 3), np.uint8)
    rgb[:] = np.linspace(40, 220, 320)[None, :, None] * np.array([1, 0.3, 0.8])
    rows, columns = np.mgrid[:108, :60]
    wave = 128 + 100 * np.sin((rows + columns * 2 + index * 9) / 7)
    rgb[:, 130:190] = wave[..., None]
    return rgb


@pytest.fixture(scope="module")
def compilation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "c.mp4"
    t = np.arange(48000 * 5) / 48000
    sound = np.stack([0.5 * np.sin(2 * np.pi * (300 + 40 * t) * t)] * 2, axis=1)
    media.write_video(path, (picture(i) for i in range(150)), FPS, audio=sound, sample_rate=48000)
    return path


def test_files_and_record_agree(compilation: Path, tmp_path: Path) -> None:
    record = segment(compilation, 1.0, 3.5, QUICK, tmp_path)
    frame = 1001 / 30000
    assert abs(record["start_s"] - 1.0) <= frame / 2 + 1e-6
    assert abs(record["end_s"] - 3.5) <= frame / 2 + 1e-6
    assert record["duration_s"] == pytest.approx(record["end_s"] - record["start_s"], abs=2e-6)
    assert record["n_frames"] == 75  # frames 30 to 104
    assert record["start_pts"] == 30 * 1001
    assert record["end_pts"] == 105 * 1001
    assert record["time_base"] == "1/30000"
    assert (record["width"], record["height"], record["has_audio"]) == (320, 108, True)
    assert record["fps"] == pytest.approx(29.97003, abs=1e-4)
    clip = media.probe(tmp_path / "clip.mp4")
    assert (clip.width, clip.height, clip.n_frames) == (320, 108, 75)
    assert clip.duration_s == pytest.approx(record["duration_s"], abs=1e-4)
    for name, key in [("clip.mp4", "video_sha256"), ("audio.flac", "audio_sha256")]:
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == record[key]
    json.dumps(record)


def test_the_sound_is_the_sources_own(compilation: Path, tmp_path: Path) -> None:
    record = segment(compilation, 1.0, 3.5, QUICK, tmp_path)
    sound, rate = soundfile.read(io.BytesIO((tmp_path / "audio.flac").read_bytes()), dtype="float32")
    assert rate == 22050
    assert sound.shape == (round(record["duration_s"] * 22050),)
    t = record["start_s"] + np.arange(len(sound)) / 22050
    truth = 0.5 * np.sin(2 * np.pi * (300 + 40 * t) * t)
    assert np.corrcoef(sound, truth)[0, 1] > 0.999  # a shift of one millisecond at 500 Hz would give -1


def test_the_content_box_is_found_in_stored_pixels(compilation: Path, tmp_path: Path) -> None:
    x, y, width, height = segment(compilation, 1.0, 3.5, QUICK, tmp_path)["content_box"]
    assert (y, height) == (0, 108)
    assert x == pytest.approx(130, abs=1)
    assert width == pytest.approx(60, abs=2)
    smaller = SegmentParams(preset="ultrafast", max_height=54)
    record = segment(compilation, 1.0, 3.5, smaller, tmp_path)
    assert (record["width"], record["height"]) == (160, 54)
    assert record["content_box"][0] == pytest.approx(65, abs=2)


def test_a_second_run_gives_the_same_bytes(compilation: Path, tmp_path: Path) -> None:
    records, contents = [], []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        records.append(segment(compilation, 0.5, 1.5, QUICK, tmp_path / name))
        contents.append([p.read_bytes() for p in sorted((tmp_path / name).iterdir())])
    assert records[0] == records[1]
    assert contents[0] == contents[1]


def test_without_sound_there_is_no_sound_file(tmp_path: Path) -> None:
    media.write_video(tmp_path / "c.mp4", (picture(i) for i in range(40)), 30)
    (tmp_path / "out").mkdir()
    record = segment(tmp_path / "c.mp4", 0, 1, QUICK, tmp_path / "out")
    assert record["has_audio"] is False
    assert record["audio_sha256"] is None
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_a_clip_past_the_end_says_so_and_leaves_nothing(compilation: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="runs past the end"):
        segment(compilation, 4.0, 9.0, QUICK, tmp_path)
    assert list(tmp_path.iterdir()) == []
