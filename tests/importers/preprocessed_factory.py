"""The authors' preprocessed folders, imitated: the published layout and formats, invented content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from tiktok_dm import schema

FOLDERS = {"motion": "motion_s2", "visual": "video_s2", "audio": "audio_s2"}
SUFFIXES = {"motion": ".npy", "visual": ".npy", "audio": ".wav"}


def motion_of(number: int) -> np.ndarray:
    """(60, 25, 3): distinct for every number; the last joint is missing."""
    rng = np.random.default_rng([1, number])
    motion = rng.uniform(0, 500, (60, 25, 3)).astype(np.float32)
    motion[..., 2] = rng.uniform(0.1, 1, (60, 25))
    motion[:, 24] = 0
    return motion


def visual_of(number: int) -> np.ndarray:
    return np.random.default_rng([2, number]).normal(size=(1, 2048)).astype(np.float32)


def sound_of(number: int) -> np.ndarray:
    """44,100 16-bit samples of a tone of its own."""
    time = np.arange(schema.SEGMENT_SAMPLES) / schema.SAMPLE_RATE
    return np.round(8000 * np.sin(2 * np.pi * (200 + 7 * number) * time)).astype(np.int16)


def write_one(root: Path, name: str, number: int) -> None:
    """The three files of a segment, in the folders of the published layout."""
    for folder in FOLDERS.values():
        (root / folder).mkdir(parents=True, exist_ok=True)
    np.save(root / "motion_s2" / f"{name}.npy", motion_of(number))
    np.save(root / "video_s2" / f"{name}.npy", visual_of(number))
    soundfile.write(root / "audio_s2" / f"{name}.wav", sound_of(number), schema.SAMPLE_RATE, subtype="PCM_16")


def write_many(root: Path, names: Iterable[str], kinds: int = 4) -> None:
    """The files of many segments, by hard links to those of a few."""
    for k in range(kinds):
        write_one(root.with_name(root.name + ".kinds"), f"kind{k}", k)
    for folder in FOLDERS.values():
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        for kind, folder in FOLDERS.items():
            source = root.with_name(root.name + ".kinds") / folder / f"kind{number % kinds}{SUFFIXES[kind]}"
            os.link(source, root / folder / f"{name}{SUFFIXES[kind]}")
