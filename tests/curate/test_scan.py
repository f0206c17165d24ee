"""One pass over a file: times, pictures, sound and stills against what was written into it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import media_factory as films
import numpy as np
import pytest

from tiktok_dm import media
from tiktok_dm.curate.cuts.scan import LONG_SIDE, STILL_EVERY_S, scan
from tiktok_dm.errors import MediaError
from tiktok_dm.schema import SAMPLE_RATE


def ramp(count: int, size: tuple[int, int] = (128, 72)) -> list[np.ndarray]:
    """Pictures whose grey level is their number, with a bright left half."""
    pictures = []
    for k in range(count):
        picture = np.full((size[1], size[0], 3), 20 + 2 * k, np.uint8)
        picture[:, : size[0] // 2] += 60
        pictures.append(picture)
    return pictures


def tone(seconds: float, rate: int = 48000) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 330 * t) * (1 + np.sin(2 * np.pi * 1.5 * t)) / 2)[:, None].astype(np.float32)


def test_times_pictures_and_sound(tmp_path: Path) -> None:
    stamps, base = films.constant(45, Fraction(30000, 1001))
    path = films.film(tmp_path / "a.mp4", ramp(45), stamps, base, sound=tone(1.5), b_frames=2)
    shares: list[float] = []
    seen = scan(path, tmp_path / "work", progress=shares.append)
    assert seen.times_s == pytest.approx(np.arange(45) * 1001 / 30000, abs=1e-6)
    assert seen.end_s == pytest.approx(45 * 1001 / 30000, abs=1e-3)
    assert seen.fps == pytest.approx(30000 / 1001, rel=1e-3)
    assert seen.pictures.shape == (45, LONG_SIDE * 72 // 128, LONG_SIDE, 3)
    assert seen.pictures.dtype == np.uint8
    right = seen.pictures[:, :, 60:].mean((1, 2, 3))
    assert right == pytest.approx(20 + 2 * np.arange(45), abs=3)
    assert seen.pictures[:, :, :40].mean((1, 2, 3)) - right == pytest.approx(np.full(45, 60), abs=4)
    alone = media.read_audio(path, sample_rate=SAMPLE_RATE)
    both = min(len(alone), len(seen.sound))
    assert abs(len(alone) - len(seen.sound)) < 0.1 * SAMPLE_RATE
    assert np.abs(alone[: both - 200] - seen.sound[: both - 200]).max() < 1e-3
    assert seen.stills_s == pytest.approx([0.0, STILL_EVERY_S, 2 * STILL_EVERY_S], abs=0.034)
    assert seen.still(2).shape == (72, 128, 3)
    k = int(np.searchsorted(seen.times_s, seen.stills_s[2] - 1e-6))
    assert seen.still(2)[:, 70:].mean() == pytest.approx(20 + 2 * k, abs=4)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        seen.pictures[0, 0, 0, 0] = 1


def test_the_second_time_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps, base = films.constant(12, Fraction(25))
    path = films.film(tmp_path / "a.mp4", ramp(12), stamps, base)
    first = scan(path, tmp_path / "work")

    def forbidden(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("tiktok_dm.curate.cuts.scan._scan", forbidden)
    again = scan(path, tmp_path / "work", sha256=first.sha256)
    assert np.array_equal(again.pictures, first.pictures)
    assert again.probe == first.probe
    assert (again.end_s, again.sha256) == (first.end_s, first.sha256)


def test_a_stopped_scan_leaves_nothing(tmp_path: Path) -> None:
    stamps, base = films.constant(40, Fraction(25))
    path = films.film(tmp_path / "a.mp4", ramp(40), stamps, base)

    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(path, tmp_path / "work", progress=stop)
    assert not [p for p in (tmp_path / "work").rglob("*") if p.is_file()]
    assert len(scan(path, tmp_path / "work").times_s) == 40


def test_variable_frame_rate_keeps_every_time_stamp(tmp_path: Path) -> None:
    stamps, base = films.variable(40, seed=3)
    path = films.film(tmp_path / "a.mp4", ramp(40), stamps, base)
    assert scan(path, tmp_path / "work").times_s == pytest.approx(np.array(stamps) / 90000, abs=2e-5)


def test_rotated_pictures_are_upright(tmp_path: Path) -> None:
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:, :48] = 200  # the left of what is stored is the top of what is shown
    path = films.film(tmp_path / "a.mp4", [stored] * 5, *films.constant(5, Fraction(30)), rotation=90)
    seen = scan(path, tmp_path / "work")
    assert seen.pictures.shape[1:3] == (LONG_SIDE, 64)
    assert seen.pictures[2, :40].mean() == pytest.approx(200, abs=8)
    assert seen.pictures[2, 56:].mean() == pytest.approx(0, abs=8)


def test_no_sound_and_late_sound(tmp_path: Path) -> None:
    stamps, base = films.constant(60, Fraction(30))
    assert len(scan(films.film(tmp_path / "a.mp4", ramp(60), stamps, base), tmp_path / "work").sound) == 0
    late = films.film(tmp_path / "b.mp4", ramp(60), stamps, base, sound=tone(1.0), sound_from_s=0.8)
    heard = np.abs(scan(late, tmp_path / "work").sound)
    assert heard[: round(0.75 * SAMPLE_RATE)].max() < 1e-3
    assert heard[round(0.85 * SAMPLE_RATE) : round(1.7 * SAMPLE_RATE)].max() > 0.2


def test_what_is_no_video(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no film at all, only words\n" * 50)
    with pytest.raises(MediaError, match="not a video"):
        scan(text, tmp_path / "work")
    with pytest.raises(MediaError, match="does not exist"):
        scan(tmp_path / "nowhere.mp4", tmp_path / "work")


def test_a_truncated_file_gives_what_is_left(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (72, 128, 3), dtype=np.uint8) for _ in range(60)]
    whole = films.film(tmp_path / "whole.mkv", noise, *films.constant(60, Fraction(30)), sound=tone(2.0))
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    seen = scan(broken, tmp_path / "work")
    assert 15 < len(seen.times_s) < 45
    assert seen.end_s == pytest.approx(len(seen.times_s) / 30, abs=0.05)
    assert len(seen.sound) / SAMPLE_RATE == pytest.approx(seen.end_s, abs=0.4)
