"""Dance-video compilations to a published, song-disjoint dance-music dataset, and its benchmark.

What a program needs most is named here and loaded when it is asked for:

- `read_annotations`, `assign_splits`: tables of compilations, clips and songs, and who is tested;
- `build`, `BuildOptions`: a dataset of them; `open_dataset`, `decode_video`, `decode_audio`, `verify`: one that is
  there;
- `evaluate`: scores of generated music;
- `detect_shots`, `SongIndex`, `estimate_poses`: where a video is cut, which music is the same, how dancers move.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BuildOptions": "pipeline.run",
    "SongIndex": "audio.song_index",
    "assign_splits": "annotations.splits",
    "build": "pipeline.run",
    "decode_audio": "reading",
    "decode_video": "reading",
    "detect_shots": "curate.cuts.shots",
    "estimate_poses": "pose.video",
    "evaluate": "benchmark.evaluate",
    "open_dataset": "reading",
    "read_annotations": "annotations.tables",
    "verify": "dataset.verify",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
