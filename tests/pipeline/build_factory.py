"""Small compilations with sound, annotations, and an estimator that needs no model: for tests of the build itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm import media
from tiktok_dm.pipeline.plan import Parameters
from tiktok_dm.pipeline.poses import PosesParams
from tiktok_dm.pipeline.run import BuildOptions
from tiktok_dm.pose import registry as register
from tiktok_dm.pose.base import Detection, Estimates, Picture, Region
from tiktok_dm.pose.skeletons import COCO_17

WIDTH, HEIGHT, FPS, RATE = 160, 120, 30, 22_050
LENGTH_S = 6.0
CLIPS = {  # clip_id: compilation, song, start, end
    0: (0, 0, 0.0, 2.5),
    1: (0, 1, 2.5, 5.5),
    2: (1, 0, 0.0, 3.0),
    3: (1, 2, 3.0, 6.0),
}


class OnePerson:
    """An estimator that sees one person, the whole picture, wherever the picture is not black."""

    name, version, weights_sha256 = "one-person", "1", "00"
    skeleton = COCO_17
    batch = 8
    low_score, high_score = 0.5, 0.5

    def detect(self, frames: Sequence[Picture]) -> list[list[Detection]]:
        return [
            [Detection(Region(f.shape[1] / 2, f.shape[0] / 2, f.shape[0], f.shape[0]), 0.9)] if f.max() > 60 else []
            for f in frames
        ]

    def estimate(
        self,
        frames: Sequence[Picture],
        regions: Sequence[tuple[int, Region]],
        others: Sequence[tuple[int, Region]] = (),
    ) -> Estimates:
        joints = np.stack([np.linspace(30, 90, 17), np.linspace(10, 100, 17), np.full(17, 0.9)], axis=1)
        return Estimates(
            np.repeat(joints[None], len(regions), axis=0).astype(np.float32),
            np.full(len(regions), 0.9, dtype=np.float32),
            tuple(region for _, region in regions),
        )


def use_one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `--pose one-person` mean `OnePerson` in this process."""
    monkeypatch.setitem(register.ESTIMATORS, "one-person", OnePerson)


def write_film(path: Path, seed: int, *, silent: bool = False, black: bool = False) -> None:
    """Six seconds of moving noise over clicks at 120 bpm; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    base = rng.integers(80, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    count = round(LENGTH_S * FPS)
    frames = (np.zeros_like(base) if black else np.roll(base, 2 * k, axis=1) for k in range(count))
    t = np.arange(round(LENGTH_S * RATE)) / RATE
    beat = np.exp(-((t + seed / 10) % 0.5) * 40) * np.sin(2 * np.pi * (440 + 40 * seed) * t)
    sound = np.zeros_like(t) if silent else 0.5 * beat
    media.write_video(path, frames, FPS, audio=sound.astype(np.float32), sample_rate=RATE)


def write_annotations(folder: Path, clips: dict[int, tuple] = CLIPS, urls: dict[int, str] | None = None) -> Path:
    """`CLIPS` as annotations; compilation i comes from film_i.mp4 or from `urls[i]`."""
    folder.mkdir(parents=True, exist_ok=True)
    urls = urls or {}
    ids = sorted({clip[0] for clip in clips.values()})
    rows = ["compilation_id,title,url,file,license,sha256"]
    rows += [f"{i},Film {i},{urls.get(i, '')},{'' if i in urls else f'film_{i}.mp4'},," for i in ids]
    (folder / "compilations.csv").write_text("\n".join(rows) + "\n")
    rows = ["clip_id,compilation_id,song_id,start_s,end_s,n_dancers"]
    rows += [f"{i},{c},{s},{a},{b},1" for i, (c, s, a, b) in clips.items()]
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    songs = sorted({clip[1] for clip in clips.values()})
    (folder / "songs.csv").write_text("song_id,title,artist\n" + "".join(f"{s},Song {s},\n" for s in songs))
    return folder


def write_films(root: Path, clips: dict[int, tuple] = CLIPS) -> Path:
    """`root/media` with two films, and `root/films` with their annotations."""
    (root / "media").mkdir()
    for i in (0, 1):
        write_film(root / "media" / f"film_{i}.mp4", i)
    write_annotations(root / "films", clips)
    return root


def options(root: Path, **changes: object) -> BuildOptions:
    """Build options for `root/films` and `root/media` into `root/out`, in this process."""
    given: dict = {
        "out": root / "out",
        "annotations": root / "films",
        "media": root / "media",
        "parameters": Parameters(poses=PosesParams(estimator="one-person")),
        "executor": "inline",
        "workers": 1,
        "quiet": True,
    }
    return BuildOptions(**(given | changes))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name in it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
