"""Stimuli of a study: found in folders or a dataset, brought to one loudness and length, and the checks' own sounds.

The id of a file is its stem. The ids of a dataset are its segment ids, or `clip_000012` for its clips, which files may
also write as `12`.

Everything that could tell one version of a clip from another but its music is the same: length, sample rate, channels,
codec, bit rate, picture, tags (none) and the kind of name.

The headphone check is the one of Woods, Siegel, Traer and McDermott ("Headphone screening to facilitate web-based
auditory experiments", 2017): of three 200-Hz tones one is 6 dB quieter and one has its right channel inverted, which
loudspeakers and a phone's single one cancel, so that it seems the quietest there.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiktok_dm.errors import Problem, ProblemsError, UserError
from tiktok_dm.media import cut, mux_audio, read_audio, write_video
from tiktok_dm.media.encoding import Mp4Writer, whole_file
from tiktok_dm.media.source import Source
from tiktok_dm.schema import SEGMENT_S

SOUND = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".aif", ".aiff"}
FILM = {".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"}

_CLIP_STEM = re.compile(r"(?:clip[_-]?)?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Piece:
    """A part of a media file.

    Args:
        path: the file.
        start_s: where the part begins, seconds from the file's start.
        end_s: where it ends; None: with the file.
        song: pieces with the same one share their music; None: not known.
    """

    path: Path
    start_s: float = 0.0
    end_s: float | None = None
    song: str | None = None


def clip_name(stem: str) -> str:
    """`12` -> `clip_000012`; what is no clip id stays."""
    match = _CLIP_STEM.fullmatch(stem)
    return f"clip_{int(match[1]):06d}" if match else stem


def folder_pieces(folder: Path, kinds: Collection[str], of_dataset: bool = False) -> dict[str, Piece]:
    """The media files of a folder by id.

    Args:
        folder: of the files.
        kinds: endings that count; other files are left alone.
        of_dataset: whether numbers are clip ids of a dataset.

    Raises:
        UserError: no such folder, or nothing of these kinds in it.
        ProblemsError: two files of one stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one that holds the files, named by id")
    found: dict[str, Piece] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in kinds or not path.is_file() or path.name.startswith("."):
            continue
        name = clip_name(path.stem) if of_dataset else path.stem
        if name in found:
            other = found[name].path.name
            problems.append(Problem(path.name, None, None, f"has the same id as {other}: remove one of them"))
        found[name] = Piece(path)
    if problems:
        raise ProblemsError(problems, f"{folder} names some ids twice")
    if not found:
        raise UserError(f"{folder} holds no files of the kinds {', '.join(sorted(kinds))}: check the folder")
    return found


def is_dataset(folder: Path) -> bool:
    """Whether a folder was written by `tiktok-dm build`."""
    return (folder / "README.md").is_file() and (folder / "data").is_dir()


def dataset_pieces(folder: Path, wanted: Collection[str], split: str | None, unpacked: Path) -> dict[str, Piece]:
    """Clips or segments of a dataset by id.

    Args:
        folder: of the dataset.
        wanted: ids of the generated files; only what they name is unpacked.
        split: rows of this split alone; None: all.
        unpacked: folder for the videos' bytes.

    Raises:
        UserError: no dataset, no such split.
    """
    from tiktok_dm.reading import open_dataset, stored_bytes

    segments, clips = (open_dataset(folder, config, streaming=True) for config in ("segments", "clips"))
    if split is not None and split not in clips:
        raise UserError(f"the dataset {folder} has no split {split!r}: it has {', '.join(clips)}")
    splits = list(clips) if split is None else [split]
    parts: dict[int, dict[str, float]] = {}
    for name in splits:
        for row in segments[name].select_columns(["segment_id", "clip_id", "start_s"]) if name in segments else ():
            if row["segment_id"] in wanted:
                parts.setdefault(row["clip_id"], {})[row["segment_id"]] = row["start_s"]
    found: dict[str, Piece] = {}
    for name in splits:
        for row in clips[name].select_columns(["clip_id", "song_id", "video"]):
            clip, song = row["clip_id"], str(row["song_id"])
            whole = clip_name(str(clip))
            if clip not in parts and whole not in wanted:
                continue
            path = unpacked / f"{clip}.mp4"
            path.write_bytes(stored_bytes(row["video"]))
            if whole in wanted:
                found[whole] = Piece(path, song=song)
            for segment, start in parts.get(clip, {}).items():
                found[segment] = Piece(path, start, start + SEGMENT_S, song)
    return found


SAMPLE_RATE = 48_000
"""Hz, of every stimulus."""

LOUDNESS_LUFS = -23.0
"""EBU R128's programme loudness: it leaves 22 dB for peaks, so that next to nothing has to be turned down for them."""

PEAK = 10 ** (-1 / 20)
"""Greatest sample: 1 dB below full scale, so that the codec's overshoot does not clip."""

SHORTEST_S = 1.0
_FADE_S = 0.01
_SILENT_LUFS = -70.0  # the absolute gate of ITU-R BS.1770-4
_MAX_HEIGHT = 720


def length_s(piece: Piece, need: str) -> float:
    """Seconds of a piece.

    Args:
        need: `audio` or `video`: what has to be in it.

    Raises:
        MediaError: it cannot be read, or lacks that.
    """
    with Source(piece.path, need=need) as source:
        end = float(source.duration)
    return (min(end, piece.end_s) if piece.end_s is not None else end) - piece.start_s


def read_sound(piece: Piece, seconds: float) -> np.ndarray:
    """The piece's first `seconds`, mono, at `SAMPLE_RATE`, float32 (samples,).

    Mono, since the systems of this field make mono music: width would tell the recording from them at once.

    Raises:
        MediaError: it cannot be read, or has no sound.
    """
    return read_audio(piece.path, sample_rate=SAMPLE_RATE, start_s=piece.start_s, end_s=piece.start_s + seconds)


def loudness(sound: np.ndarray) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4) of mono sound at `SAMPLE_RATE`; -inf for silence."""
    import warnings

    import pyloudnorm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(np.asarray(sound, np.float64)))
    return value if value > _SILENT_LUFS else -math.inf


def normalise(sound: np.ndarray, target_lufs: float) -> tuple[np.ndarray, float]:
    """Sound at a loudness, faded in and out over 10 ms, and how many dB it stays below because of its peaks.

    Args:
        sound: float (samples,).
        target_lufs: integrated loudness to reach.

    Returns:
        float32 (samples,) and dB: 0 where the target was reached, inf for silence, which is left as it is.
    """
    faded = np.array(sound, np.float64)
    n = min(len(faded) // 2, round(_FADE_S * SAMPLE_RATE))
    ramp = np.sin(np.linspace(0, np.pi / 2, n, endpoint=False)) ** 2
    faded[:n] *= ramp
    faded[len(faded) - n :] *= ramp[::-1]
    level = loudness(faded)
    if level == -math.inf:
        return faded.astype(np.float32), math.inf
    gain = 10 ** ((target_lufs - level) / 20)
    peak = float(np.abs(faded).max()) * gain
    lack = max(0.0, 20 * math.log10(peak / PEAK))
    return (faded * gain * 10 ** (-lack / 20)).astype(np.float32), lack


def low_passed(sound: np.ndarray) -> np.ndarray:
    """The low anchor of ITU-R BS.1534-3: 3.5 kHz, ripple within 0.1 dB, 25 dB down at 4 kHz and 50 dB at 4.5 kHz."""
    from scipy.signal import ellip, sosfilt

    return np.asarray(sosfilt(ellip(10, 0.1, 60, 3500, fs=SAMPLE_RATE, output="sos"), sound), np.float32)


def _new_name(folder: Path, suffix: str) -> Path:
    return folder / f"{secrets.token_hex(12)}{suffix}"


def write_sound(folder: Path, sound: np.ndarray) -> str:
    """Write sound, (samples,) or (samples, channels) at `SAMPLE_RATE`, as AAC; returns the file's name."""
    channels = np.asarray(sound, np.float32)
    channels = channels[:, None] if channels.ndim == 1 else channels
    position = 0

    def take(count: int) -> np.ndarray:
        nonlocal position
        block = np.ascontiguousarray(channels[position : position + count].T)
        position += count
        return block

    out = _new_name(folder, ".m4a")
    with whole_file(out) as partial, Mp4Writer(partial) as writer:
        writer.add_aac(SAMPLE_RATE, channels.shape[1], take)
        writer.sound_until(len(channels), last=True)
    return out.name


def cut_picture(piece: Piece, seconds: float, out: Path) -> float:
    """Write the first `seconds` of a film as H.264 for browsers; returns its length to the nearest frame, s.

    Raises:
        MediaError: the film cannot be read or is shorter.
    """
    done = cut(piece.path, piece.start_s, piece.start_s + seconds, out, max_height=_MAX_HEIGHT)
    return done.duration_s


def write_film(folder: Path, picture: Path, sound: np.ndarray) -> str:
    """Write a film's picture with new sound at `SAMPLE_RATE`; returns the file's name."""
    out = _new_name(folder, ".mp4")
    mux_audio(picture, sound, SAMPLE_RATE, out)
    return out.name


_TONE_S, _GAP_S, _RAMP_S = 0.8, 0.3, 0.1
_TONE_HZ, _TONE_LEVEL, _QUIETER_DB = 200.0, 0.2, 6.0
_PIP_HZ, _PIP_S, _PIP_EVERY_S = 1000.0, 0.15, 0.55
_BEAT_S = 0.5
_FPS = 30


def _tone(hz: float, seconds: float, ramp_s: float) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    edge = np.clip(np.minimum(t, t[-1] - t) / ramp_s, 0, 1)
    return np.sin(2 * np.pi * hz * t) * np.sin(np.pi / 2 * edge) ** 2


def headphone_sound(quietest: int, inverted: int) -> np.ndarray:
    """Three tones, float32 (samples, 2).

    Args:
        quietest: place (1 to 3) of the tone that is 6 dB quieter: the right answer.
        inverted: place of the tone with its right channel inverted.

    Raises:
        ValueError: the same place, or one out of range.
    """
    if quietest == inverted or not {quietest, inverted} <= {1, 2, 3}:
        raise ValueError(f"places {quietest} and {inverted} are not two of 1, 2, 3")
    parts = []
    for place in (1, 2, 3):
        tone = _tone(_TONE_HZ, _TONE_S, _RAMP_S) * _TONE_LEVEL
        if place == quietest:
            tone = tone * 10 ** (-_QUIETER_DB / 20)
        parts += [np.stack([tone, -tone if place == inverted else tone], axis=1)]
        parts += [np.zeros((round(_GAP_S * SAMPLE_RATE), 2))]
    return np.concatenate(parts).astype(np.float32)


def volume_sound(tones: int, level: float = 0.02) -> np.ndarray:
    """So many short quiet tones, float32 (samples,); `level` is their amplitude, 14 dB below a clip at -23 LUFS."""
    pip = _tone(_PIP_HZ, _PIP_S, 0.02) * level
    sound = np.zeros(round((0.4 + 5 * _PIP_EVERY_S) * SAMPLE_RATE))
    for k in range(tones):
        at = round((0.3 + k * _PIP_EVERY_S) * SAMPLE_RATE)
        sound[at : at + len(pip)] += pip
    return sound.astype(np.float32)


def practice_sound(seconds: float, beat_s: float = _BEAT_S) -> np.ndarray:
    """A plain tune with a soft stroke on every beat, float32 (samples,)."""
    sound = np.zeros(round(seconds * SAMPLE_RATE))
    for k in range(int(seconds / beat_s) + 1):
        note = 220.0 * 2 ** ((0, 7, 4, 12)[k % 4] / 12)
        t = np.arange(round(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
        stroke = (np.sin(2 * np.pi * note * t) + 0.4 * np.sin(4 * np.pi * note * t)) * np.exp(-t / 0.12)
        stroke *= np.clip(t / 0.004, 0, 1)
        at = round(k * beat_s * SAMPLE_RATE)
        end = min(len(sound), at + len(stroke))
        sound[at:end] += 0.3 * stroke[: end - at]
    return sound.astype(np.float32)


def practice_film(out: Path, seconds: float, size: tuple[int, int] = (480, 270)) -> None:
    """A ball that touches the floor on every beat of `practice_sound`."""

    def pictures() -> Iterator[np.ndarray]:
        width, height = size
        y, x = np.mgrid[0:height, 0:width]
        radius, floor = height / 9, height * 0.84
        for k in range(round(seconds * _FPS)):
            phase = k / _FPS / _BEAT_S % 1
            centre = floor - radius - 4 * phase * (1 - phase) * height * 0.5
            picture = np.full((height, width, 3), (236, 232, 224), np.uint8)
            picture[round(floor) :] = (214, 208, 197)
            picture[(x - width / 2) ** 2 + (y - centre) ** 2 < radius**2] = (13, 110, 110)
            yield picture

    write_video(out, pictures(), _FPS)
