"""Small datasets with a `segments` configuration, for the model's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.media import encode_audio

_CARD = """---
configs:
- config_name: {config}
  data_files:
  - split: train
    path: data/{name}
---
"""

Change = Callable[[int, dict[str, Any]], Mapping[str, Any]]


def write_segments(
    folder: Path, songs: int = 4, each: int = 3, change: Change | None = None, config: str = "segments"
) -> Path:
    """A dataset of `songs * each` segments: a tone that is loud on the song's beats, a body that bends on them.

    Args:
        change: called with a row's number and the row; returns the row that is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    (folder / "data").mkdir(parents=True)
    rows = []
    for number in range(songs * each):
        song = number // each
        row = segment_row(number, song, beat_s=0.4 + 0.05 * song)
        rows.append(dict(change(number, row)) if change else row)
    # `datasets` caches by the card alone: the same card beside other data would give the earlier test's rows.
    name = f"train-{hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / name)
    (folder / "README.md").write_text(_CARD.format(config=config, name=name), encoding="utf-8")
    return folder


def segment_row(number: int, song: int, beat_s: float) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    offset = rng.uniform(0, beat_s)
    time = np.arange(44100) / 22050
    loud = np.exp(-(((time - offset) % beat_s) / 0.08))
    audio = (0.4 * loud * np.sin(2 * np.pi * (220 + 40 * song) * time)).astype(np.float32)
    frames = np.arange(60) / 30
    bend = np.cos(2 * np.pi * (frames - offset) / beat_s)
    joints = np.zeros((60, 25, 3), np.float32)
    joints[..., 0] = 300 + 10 * np.arange(25)
    joints[..., 1] = 100 + 20 * np.arange(25) + 15 * bend[:, None]
    joints[:, 1, :2] = [320, 120]
    joints[:, 8, :2] = [320, 220]
    joints[..., 2] = 0.9
    name = f"000000_{song}_{number}_seg1"
    return {
        "segment_id": name,
        "clip_id": number,
        "compilation_id": 0,
        "song_id": song,
        "split": "train",
        "segment_index": 1,
        "start_s": 0.0,
        "audio": {"bytes": encode_audio(audio, 22050, "flac"), "path": f"{name}.flac"},
        "motion": joints.reshape(60, 75).tolist(),
        "n_dancers": 1,
    }
