"""A split with planted leaks: small films of drawn dancers and synthesised songs, one film a compilation."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import soxr

from tiktok_dm.media import write_video
from tiktok_dm.synthetic import DemoParams
from tiktok_dm.synthetic.music import render_song
from tiktok_dm.synthetic.performance import find_clip, pictures

RATE = 44_100
FPS = 15
SECONDS = 6.0
PARAMS = DemoParams(
    clips=6, songs=6, compilations=1, width=160, height=96, fps=FPS, shortest_s=6.2, longest_s=6.6, layouts=("full",)
)


@cache
def dance(number: int) -> tuple[np.ndarray, ...]:
    """The pictures of one drawn dance."""
    return tuple(pictures(PARAMS, find_clip(PARAMS, number)))


def other_take(number: int, dance_of: int) -> list[np.ndarray]:
    """Another dance by the same dancers in the same room."""
    clip, other = find_clip(PARAMS, number), find_clip(PARAMS, dance_of)
    count = min(len(clip.dancers), len(other.dancers))
    mixed = replace(clip, dancers=other.dancers[:count], looks=clip.looks[:count], song_id=other.song_id)
    return list(pictures(PARAMS, mixed))


def music(song: int, start_s: float, seconds: float = SECONDS, speed: float = 1.0) -> np.ndarray:
    """A stretch of a song, played `speed` times as fast (and as high)."""
    whole = render_song(3, song)
    part = whole[round(start_s * RATE) : round((start_s + seconds * speed) * RATE)]
    return np.asarray(soxr.resample(part, RATE * speed, RATE), np.float32) if speed != 1 else part


def film(path: Path, shown: list[np.ndarray] | tuple[np.ndarray, ...], heard: np.ndarray | None, **options) -> float:
    """Write a film; its length in s."""
    frames = list(shown)[: round(SECONDS * FPS)]
    if heard is not None:
        options |= {"audio": heard[: round(len(frames) / FPS * RATE)], "sample_rate": RATE}
    write_video(path, frames, FPS, **options)
    return len(frames) / FPS


def mirrored(shown: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    return [picture[:, ::-1] for picture in shown]


def write_leaks(folder: Path) -> Path:
    """Annotations in `folder/annotations`, films in `folder/media`.

    | clip | song | split | what |
    |---|---|---|---|
    | 0 | 0 | train | music 0 from 4 s, dance 0 |
    | 1 | 1 | test | music 0 from 3 s, 1.1 times as fast, dance 1: the song of clip 0 under another id |
    | 2 | 2 | train | music 1, dance 2 |
    | 3 | 3 | test | clip 2 again: mirrored, small, coarse, begun 0.4 s later |
    | 4 | 4 | train | music 2 from 5 s, dance 3 |
    | 5 | 4 | train | the same stretch, dance 4 |
    | 6 | 4 | train | the same stretch, another dance by the dancers of clip 4 in their room |
    | 7 | 5 | test | music 3, dance 5 |
    | 8 | 5 | test | clip 7 again, darker |
    | 9 | 6 | train | silence |
    | 10 | 6 | train | no sound track |
    | 11 | 6 | train | its file is missing |
    | 12 | 7 | test | music 4 |
    """
    media = folder / "media"
    media.mkdir(parents=True)
    late = round(0.4 * FPS)
    dark = [(0.7 * picture + 10).astype(np.uint8) for picture in dance(5)]
    made = [
        (0, dance(0), music(0, 4.0), {}),
        (1, dance(1), music(0, 3.0, speed=1.1), {}),
        (2, dance(2), music(1, 2.0), {}),
        (3, mirrored(dance(2))[late:], music(1, 2.0 + late / FPS), {"crf": 32, "size": (120, 72)}),
        (4, dance(3), music(2, 5.0), {}),
        (4, dance(4), music(2, 5.0), {}),
        (4, other_take(3, 1), music(2, 5.0), {}),
        (5, dance(5), music(3, 1.0), {}),
        (5, dark, music(3, 1.0), {"crf": 28}),
        (6, dance(0), np.zeros(round(SECONDS * RATE), np.float32), {}),
        (6, dance(1), None, {}),
        (6, (), None, {}),
        (7, dance(0), music(4, 3.0), {}),
    ]
    rows = []
    for number, (song, shown, heard, options) in enumerate(made):
        length = film(media / f"{number}.mp4", shown, heard, **options) if len(shown) else SECONDS
        rows.append(f"{number},{number},{song},0,{length}\n")
    here = folder / "annotations"
    here.mkdir()
    sources = "".join(f"{number},,{number}.mp4\n" for number in range(len(made)))
    (here / "compilations.csv").write_text("compilation_id,url,file\n" + sources)
    (here / "clips.csv").write_text("clip_id,compilation_id,song_id,start_s,end_s\n" + "".join(rows))
    splits = {0: "train", 1: "test", 2: "train", 3: "test", 4: "train", 5: "test", 6: "train", 7: "test"}
    (here / "splits.csv").write_text("song_id,split\n" + "".join(f"{k},{v}\n" for k, v in splits.items()))
    return folder


def write_dataset(leaks: Path, out: Path, wrong_split: int | None = None) -> Path:
    """The clips of `write_leaks` that have sound, as a built dataset holds them; clip `wrong_split` in the other one.

    Columns that an audit does not read hold nothing.
    """
    from tiktok_dm.dataset.rows import ShardWriter
    from tiktok_dm.media import encode_audio, read_audio

    songs = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 4, 7: 5, 8: 5, 12: 7}
    tested = {1, 3, 5, 7}
    (out / "data").mkdir(parents=True)
    (out / "README.md").write_text(_CARD, encoding="utf-8")
    for split in ("train", "test"):
        with ShardWriter(out / "data" / "clips", "clips", split, 2**24) as clips:
            for clip, song in songs.items():
                if ((song in tested) != (clip == wrong_split)) != (split == "test"):
                    continue
                path = leaks / "media" / f"{clip}.mp4"
                sound = encode_audio(read_audio(path), 22_050, "flac")
                clips.add(
                    {
                        **_EMPTY,
                        "clip_id": clip,
                        "compilation_id": clip,
                        "song_id": song,
                        "split": split,
                        "video": {"bytes": path.read_bytes(), "path": f"{clip}.mp4"},
                        "audio": {"bytes": sound, "path": f"{clip}.flac"},
                    }
                )
            clips.finish()
    return out


_CARD = """\
---
configs:
- config_name: clips
  data_files:
  - split: train
    path: data/clips/train-*.parquet
  - split: test
    path: data/clips/test-*.parquet
---
# a dataset
"""
_EMPTY = {
    **dict.fromkeys(("start_s", "end_s", "duration_s", "fps", "pose_fps", "pose_coverage", "pose_confidence"), 0.0),
    **dict.fromkeys(("tempo_bpm", "loudness_lufs"), 0.0),
    **dict.fromkeys(("width", "height", "n_dancers"), 0),
    **dict.fromkeys(("pose_model", "source", "source_sha256", "video_sha256", "audio_sha256"), ""),
    "content_box": [0, 0, 0, 0],
    "n_dancers_annotated": None,
    "pose": np.zeros((1, 5, 25, 3), np.float32),
    "beats_s": [],
}
