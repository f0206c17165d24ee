"""Sound for training a codec: a folder of files or a built dataset, a held-out share, random crops.

Everything is held in memory as 16-bit mono at 22,050 Hz, 160 MB an hour. A batch is a function of seed and step alone,
which is what lets a training be continued exactly. Not for the model's segments: see `d2m_model.training.data`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2m_model.config import SAMPLE_RATE
from tiktok_dm.errors import MediaError, UserError

# Files with other endings are no sound and are passed over without a word; these must be readable.
_ENDINGS = "aac aif aiff flac m4a mka mkv mov mp3 mp4 oga ogg opus wav webm wma"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
_CROP_KEY, _HOLD_OUT_KEY = 1, 2


@dataclass(frozen=True)
class Sound:
    """One piece of audio.

    Args:
        name: of the file or segment.
        group: what is held out together: the song of a dataset, the file of a folder.
        samples: int16 (samples,), full scale 32767.
    """

    name: str
    group: str
    samples: np.ndarray

    def audio(self) -> np.ndarray:
        """float32 (samples,) in -1..1."""
        return self.samples.astype(np.float32) / np.float32(32767)


def read_sounds(path: str | Path, progress: Callable[[int, int], None] | None = None) -> list[Sound]:
    """All sounds of a file, a folder of files (and its sub-folders), or a dataset's training segments.

    Args:
        path: a sound file, a folder of them, or the folder of a built dataset, which is known by its Parquet files.
        progress: called with (done, in all).

    Raises:
        UserError: nothing there, no sound in it, or a file that cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no audio at {path}: give a folder of sound files or of a built dataset.")
    if path.is_dir() and (path / "README.md").is_file() and any(path.rglob("*.parquet")):
        sounds = _dataset_sounds(path)
    else:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"{path} holds no sound files; known are {', '.join(sorted(SUFFIXES))}.")
        root = path.parent if path.is_file() else path
        sounds = _file_sounds(files, root, progress or (lambda done, total: None))
    if not any(len(sound.samples) for sound in sounds):
        raise UserError(f"The sounds in {path} are all empty.")
    return sounds


def _file_sounds(files: list[Path], root: Path, progress: Callable[[int, int], None]) -> list[Sound]:
    from tiktok_dm.media import read_audio

    sounds = []
    for number, file in enumerate(files):
        name = file.relative_to(root).as_posix()
        try:
            sounds.append(Sound(name, name, to_int16(read_audio(file, sample_rate=SAMPLE_RATE))))
        except MediaError as error:
            raise UserError(f"{file} cannot be used as audio: {error}") from error
        progress(number + 1, len(files))
    return sounds


def _dataset_sounds(path: Path) -> list[Sound]:
    """The training segments; test and validation songs are none of the codec's business."""
    from tiktok_dm.reading import decode_audio, open_dataset

    opened = open_dataset(path, "segments", streaming=True)
    if "train" not in opened:
        raise UserError(f"The dataset in {path} has no training split; a codec is trained on nothing else.")
    rows = opened["train"].select_columns(["segment_id", "song_id", "audio"])
    return [Sound(row["segment_id"], f"song {row['song_id']}", to_int16(decode_audio(row["audio"])[0])) for row in rows]


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Float -1..1 to int16, rounded; what is louder than full scale is clipped."""
    return np.rint(np.clip(audio, -1, 1) * 32767).astype(np.int16)


def fingerprint(sounds: list[Sound]) -> str:
    """SHA-256 of names and samples: what a continued training is held to."""
    digest = hashlib.sha256()
    for sound in sounds:
        digest.update(f"{sound.name}\n{len(sound.samples)}\n".encode())
        digest.update(sound.samples.tobytes())
    return digest.hexdigest()


def hold_out(sounds: list[Sound], share: float, seed: int) -> tuple[list[Sound], list[Sound]]:
    """Training and held-out sounds; whole groups are held out, at least one, until they make up `share` of the audio.

    With a single group, the last part of each of its sounds is held out instead.

    Args:
        sounds: at least one.
        share: 0 to below 1; 0 holds out nothing.
        seed: which groups.
    """
    if not share:
        return sounds, []
    groups = sorted({sound.group for sound in sounds})
    if len(groups) == 1:
        cuts = [round(len(sound.samples) * (1 - share)) for sound in sounds]
        first = [Sound(s.name, s.group, s.samples[:cut]) for s, cut in zip(sounds, cuts, strict=True)]
        last = [Sound(s.name, s.group, s.samples[cut:]) for s, cut in zip(sounds, cuts, strict=True)]
        return first, last
    wanted = share * sum(len(sound.samples) for sound in sounds)
    held: set[str] = set()
    have = 0
    for index in np.random.default_rng([seed, _HOLD_OUT_KEY]).permutation(len(groups))[:-1]:
        if held and have >= wanted:
            break
        held.add(groups[index])
        have += sum(len(sound.samples) for sound in sounds if sound.group == groups[index])
    return [s for s in sounds if s.group not in held], [s for s in sounds if s.group in held]


class Crops:
    """Random crops of sounds, every sample equally likely to be in one.

    Args:
        sounds: at least one that is not empty; one shorter than a crop is followed by silence.
        samples: of a crop.
        batch: crops in a batch.
        seed: of the order.
        quietest: each crop is multiplied by a factor drawn between this and 1; 1 for none.
    """

    def __init__(self, sounds: list[Sound], samples: int, batch: int, seed: int, quietest: float = 1.0) -> None:
        self.sounds = [sound for sound in sounds if len(sound.samples)]
        self.samples, self.batch, self.seed, self.quietest = samples, batch, seed, quietest
        lengths = np.array([len(sound.samples) for sound in self.sounds], np.float64)
        self._share = lengths / lengths.sum()

    def at(self, step: int) -> np.ndarray:
        """The batch of a step, float32 (batch, 1, samples)."""
        rng = np.random.default_rng([self.seed, _CROP_KEY, step])
        out = np.zeros((self.batch, 1, self.samples), np.float32)
        chosen = rng.choice(len(self.sounds), self.batch, p=self._share)
        for row, index in enumerate(chosen):
            sound = self.sounds[index].samples
            start = int(rng.integers(max(len(sound) - self.samples, 0) + 1))
            part = sound[start : start + self.samples].astype(np.float32) / np.float32(32767)
            out[row, 0, : len(part)] = part * np.float32(rng.uniform(self.quietest, 1.0))
        return out


def blocks(sounds: list[Sound], samples: int, most: int) -> Iterator[np.ndarray]:
    """At most `most` blocks of exactly `samples`, float32 (1, samples), from all sounds in turn, none overlapping.

    The first block of every sound comes before the second of any. Sounds shorter than a block give none.
    """
    given, number = 0, 0
    while True:
        found = False
        for sound in sounds:
            part = sound.samples[number * samples : (number + 1) * samples]
            if len(part) < samples:
                continue
            found = True
            yield part[None].astype(np.float32) / np.float32(32767)
            given += 1
            if given == most:
                return
        if not found:
            return
        number += 1
