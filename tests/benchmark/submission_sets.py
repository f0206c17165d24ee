"""A small dataset with a manifest, music for it, and submissions made of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from benchmark_sets import CLIPS, write_dataset, write_wav

from tiktok_dm.benchmark.leaderboard.new import new
from tiktok_dm.benchmark.leaderboard.submission import BLANK
from tiktok_dm.schema import SAMPLE_RATE

TEST = {f"clip_{clip:06d}": round(values[6] * SAMPLE_RATE) for clip, values in CLIPS.items() if values[2] == "test"}
"""Samples of each test clip's music, by id."""

FIELDS = {
    f"- {BLANK}": "- A. Author",
    f"paper: {BLANK}": "paper: https://example.org/paper",
    f"url: {BLANK}": "url: https://example.org/code",
    f"commit: {BLANK}": "commit: 0123abc",
    f"code: {BLANK}": "code: MIT",
    f"predictions: {BLANK}": "predictions: CC-BY-4.0",
    f"track: {BLANK}": "track: closed",
    f"overlap: {BLANK}": "overlap: none",
    f"overlap_note: {BLANK}": "overlap_note: all songs compared by fingerprint",
    f"parameters: {BLANK}": "parameters: 1234567",
    f"hardware: {BLANK}": "hardware: one processor core",
    f"real_time_factor: {BLANK}": "real_time_factor: 0.25",
}


def demo(folder: Path, name: str = "demo") -> Path:
    """`benchmark_sets.CLIPS` as a dataset with a manifest."""
    write_dataset(folder)
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in [folder / "README.md", *sorted(folder.glob("data/*/*.parquet"))]
    }
    (folder / "manifest.json").write_text(json.dumps({"name": name, "files": files}), encoding="utf-8")
    return folder


def tune(name: str, seed: int, samples: int) -> np.ndarray:
    """Music that nobody else makes: decaying notes of random pitch, four a second."""
    rng = np.random.default_rng([seed, int(name[-6:])])
    sound = np.zeros(samples)
    for start in range(0, samples, SAMPLE_RATE // 4):
        t = np.arange(samples - start) / SAMPLE_RATE
        sound[start:] += 0.2 * np.exp(-9 * t) * np.sin(2 * np.pi * rng.uniform(300, 3000) * t)
    return sound.astype(np.float32)


def music(folder: Path, seeds: tuple[int, ...] = (0, 1, 2), lengths: Mapping[str, int] = TEST) -> Path:
    """`<seed>/<id>.wav` of `tune`, 16 bit."""
    for seed in seeds:
        (folder / str(seed)).mkdir(parents=True)
        for name, samples in lengths.items():
            write_wav(folder / str(seed) / f"{name}.wav", tune(name, seed, samples), subtype="PCM_16")
    return folder


def fill(card: Path, fields: Mapping[str, str] = FIELDS) -> None:
    """Fill in a new card."""
    text = card.read_text(encoding="utf-8")
    for old, told in fields.items():
        assert old in text
        text = text.replace(old, told)
    card.write_text(text, encoding="utf-8")


def submission(folder: Path, dataset: Path, played: Path) -> Path:
    """A whole submission of the music in `played`."""
    new(folder, dataset, {int(path.name): path for path in sorted(played.iterdir())})
    fill(folder / "submission.yaml")
    return folder


def edit(path: Path, old: str, told: str) -> Path:
    """Replace a text that a file has exactly once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (text.count(old), old)
    path.write_text(text.replace(old, told), encoding="utf-8")
    return path
