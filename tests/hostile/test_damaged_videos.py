"""Films of many kinds, damaged at random: a film or one sentence, never another error, much memory or a hang.

A hundred by default; `make test-hostile` sets HOSTILE and tries ten thousand. Each batch runs in a process with limits.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from itertools import islice
from pathlib import Path

import pytest

from tiktok_dm import media
from tiktok_dm.errors import MediaError
from tiktok_dm.media.encoding import ffmpeg_executable
from tiktok_dm.runtime.sandbox import run_limited

FFMPEG = ffmpeg_executable()
pytestmark = pytest.mark.skipif(FFMPEG is None, reason="the films are made by an ffmpeg program; none starts here")
COUNT = 10_000 if os.environ.get("HOSTILE") else 100
BATCH = 50
SEEDS = {
    "a.mp4": "-c:v libx264 -c:a aac",
    "b.mkv": "-c:v libx264 -bf 2 -c:a flac",
    "c.webm": "-c:v libvpx -c:a libvorbis",
    "d.avi": "-c:v mpeg4 -c:a libmp3lame",
    "e.ts": "-c:v libx264 -c:a aac",
    "f.mov": "-c:v mjpeg -c:a pcm_s16le",
    "g.ogv": "-c:v libtheora -c:a libvorbis",
    "h.flv": "-c:v flv1 -c:a libmp3lame",
    "i.mpg": "-c:v mpeg1video -c:a mp2",
    "j.wmv": "-c:v wmv2 -c:a wmav2",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("corpus")
    for name, options in SEEDS.items():
        subprocess.run(
            f"{FFMPEG} -v error -y -f lavfi -i testsrc2=size=96x64:rate=15:duration=1.2 -f lavfi -i "
            f"sine=frequency=440:duration=1.2 -pix_fmt yuv420p {options} -strict -2 {folder / name}".split(),
            check=False,
            capture_output=True,
        )
    found = sorted(path for path in folder.iterdir() if path.stat().st_size)
    assert len(found) >= 5
    return found


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A film with some of its bytes changed: bits, pieces cut out, doubled, moved, or filled with one value."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        # Headers matter most: half of the damage lies in the first or last thousand bytes.
        reach = rng.choice([len(out), min(1000, len(out))])
        at = rng.randrange(reach) if rng.random() < 0.75 else max(0, len(out) - 1 - rng.randrange(reach))
        length = rng.choice([1, 2, 4, 8, 64, 512])
        kind = rng.randrange(7)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + length] = rng.randbytes(len(out[at : at + length]))
        elif kind == 2:
            out[at : at + length] = bytes([rng.choice([0, 0xFF, 0x7F, 0x80])]) * len(out[at : at + length])
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            other = rng.randrange(len(out))
            out[at : at + length], out[other : other + length] = out[other : other + length], out[at : at + length]
        elif len(out) > 100:
            del out[rng.randrange(50, len(out)) :]
        if not out:
            return b"\x00"
    return bytes(out)


def try_all(paths: list[Path]) -> list[tuple[str, str]]:
    """What reading each file raised that is no sentence, and what took longer than ten seconds."""
    wrong = []
    for path in paths:
        began = time.monotonic()
        for what, read in (
            ("probe", lambda path=path: media.probe(path)),
            (
                "frames",
                lambda path=path: list(islice(media.read_frames(path, max_height=64), 40)),
            ),
            ("sound", lambda path=path: media.read_audio(path, end_s=2.0)),
            ("cut", lambda path=path: media.cut(path, 0.2, 0.8, path.with_suffix(".cut.mp4"))),
        ):
            try:
                read()
            except MediaError as error:
                if "\n" in str(error):
                    wrong.append((path.name, f"{what}: several lines: {error}"))
            except Exception as error:
                wrong.append((path.name, f"{what}: {type(error).__name__}: {error}"))
        if time.monotonic() - began > 10:
            wrong.append((path.name, f"took {time.monotonic() - began:.0f} s"))
    return wrong


def test_a_damaged_film_is_read_or_refused_in_a_sentence(corpus: list[Path], tmp_path: Path) -> None:
    wrong = []
    for first in range(0, COUNT, BATCH):
        paths = []
        for k in range(first, min(first + BATCH, COUNT)):
            rng = random.Random(k)
            seed = corpus[k % len(corpus)]
            path = tmp_path / f"{k}{seed.suffix}"
            path.write_bytes(damaged(seed.read_bytes(), rng))
            paths.append(path)
        wrong += run_limited(try_all, paths, memory_mb=1000, seconds=300)
        for path in tmp_path.iterdir():
            path.unlink()
    print(f"\n{COUNT} damaged films, {len(wrong)} that were no film and no sentence")
    assert wrong == []
