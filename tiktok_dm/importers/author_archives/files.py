"""The files of the authors' preprocessed archives: where they lie under a folder, and what is in one.

Folders, names and formats are the published ones, as far as these are known: motion, 60 poses (30 fps) of BODY_25 x
(x px, y px, confidence), which the authors' code reshapes to (60, 75); visual features (1, 2048), I3D; sound, 22,050 Hz
mono, 2 s. Nothing is opened with pickle, and no memory is asked for on a header's word alone. Not for which segments
there should be, nor for what is made of them: that is `preprocessed`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiktok_dm import schema
from tiktok_dm.errors import UserError
from tiktok_dm.importers.segment_set import examples

FOLDERS = {"motion": "motion_s2", "visual": "video_s2", "audio": "audio_s2"}
SUFFIXES = {"motion": ".npy", "visual": ".npy", "audio": ".wav"}
VISUAL_FEATURES = 2048
_WORDS = {"motion": "motion", "video": "visual", "visual": "visual", "audio": "audio"}
_SLACK = schema.SAMPLE_RATE // 20  # samples: cutting by time stamps is off by less than 50 ms
_MAX_FILE = 64 * 2**20  # bytes: the largest of these files has 0.5 MB


class BrokenFileError(Exception):
    """Why a file cannot be used, in a few words."""


@dataclass(frozen=True)
class FoundFiles:
    """The files of a root.

    Args:
        files: kind -> segment id -> its files, in order of their paths.
        strange: files in the right folders whose names are no segment ids.
    """

    files: dict[str, dict[str, list[Path]]]
    strange: list[Path]


# ------------------------------------------------------------------------------------------------------ what is there


def find_files(root: Path) -> FoundFiles:
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name the one that holds {', '.join(FOLDERS.values())}")
    files: dict[str, dict[str, list[Path]]] = {kind: {} for kind in FOLDERS}
    strange = []
    for path in sorted(_walk(root)):
        # What macOS and Windows leave in archives is nobody's.
        if path.name.startswith((".", "Thumbs.db")) or "__MACOSX" in path.parts:
            continue
        kind = _kind(path.relative_to(root.parent if root.name else root))
        if kind is None or path.suffix.lower() != SUFFIXES[kind]:
            continue
        try:
            schema.parse_segment_id(path.stem)
        except UserError:
            strange.append(path)
        else:
            files[kind].setdefault(path.stem, []).append(path)
    for kind in ("motion", "audio"):
        if not files[kind]:
            archives = [path.name for path in sorted(root.iterdir()) if path.name.endswith((".zip", ".tar", ".gz"))]
            hint = f"; unpack {examples(archives)} there first, or use --fetch" if archives else ""
            wanted = f"{FOLDERS[kind]}/000000_0_0_seg1{SUFFIXES[kind]}"
            raise UserError(f"{root} holds no files such as {wanted}: name the folder with the unpacked archives{hint}")
    return FoundFiles(files, strange)


def _walk(root: Path) -> Iterator[Path]:
    """All files under a folder, also behind links to folders, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(folder) / name for name in names)


def _kind(path: Path) -> str | None:
    """What the nearest folder above a file says it is."""
    for folder in reversed(path.parent.parts):
        for word, kind in _WORDS.items():
            if folder.lower().startswith(word):
                return kind
    return None


# ------------------------------------------------------------------------------------------------------ what is in it


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise BrokenFileError(f"{path.stat().st_size / 2**20:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise BrokenFileError(f"cannot be read: {error.strerror}") from error


def _read_numbers(path: Path) -> np.ndarray:
    """A file of one array of finite real numbers, as float32 of its shape."""
    data = _bytes(path)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise BrokenFileError(f"NumPy format {version[0]}.{version[1]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, SyntaxError, EOFError, RecursionError, MemoryError) as error:
        raise BrokenFileError("is no NumPy array") from error
    if dtype.hasobject:
        raise BrokenFileError("holds Python objects, which are not loaded")
    if dtype.kind not in "fiu":
        raise BrokenFileError(f"holds {dtype.name} where numbers belong")
    # The header is believed only as far as there are bytes for it: no memory is asked for on its word alone.
    count = 1
    for length in shape:
        count *= length
    if len(data) - stream.tell() < count * dtype.itemsize:
        raise BrokenFileError("is cut short")
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BrokenFileError("is no NumPy array") from error
    with np.errstate(over="ignore"):
        array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise BrokenFileError("holds NaN or infinite values")
    return array


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "one number"


def read_motion(path: Path) -> np.ndarray:
    """Motion as (60, 75) float32; (60, 25, 3), one flat row, and dimensions of length 1 are taken too."""
    array = _read_numbers(path)
    flat = schema.SEGMENT_POSES * schema.N_JOINTS * 3
    if array.squeeze().shape not in ((60, 75), (60, 25, 3), (flat,)):
        raise BrokenFileError(f"shape {_shape(array)} where 60x75 belongs")
    return array.reshape(schema.SEGMENT_POSES, schema.N_JOINTS * 3)


def read_visual(path: Path) -> np.ndarray:
    """Visual features as (2048,) float32."""
    array = _read_numbers(path)
    if array.squeeze().shape != (VISUAL_FEATURES,):
        raise BrokenFileError(f"shape {_shape(array)} where 1x{VISUAL_FEATURES} belongs")
    return array.reshape(VISUAL_FEATURES)


def read_sound(path: Path) -> tuple[np.ndarray, bool]:
    """Sound as (44100,) float32, and whether samples had to be added or taken away at its end to make it so."""
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(_bytes(path)), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise BrokenFileError("is no sound file") from error
    if rate != schema.SAMPLE_RATE:
        raise BrokenFileError(f"{rate:,} Hz where {schema.SAMPLE_RATE:,} belong")
    if samples.shape[1] != 1:
        raise BrokenFileError(f"{samples.shape[1]} channels where one belongs")
    missing = schema.SEGMENT_SAMPLES - len(samples)
    if abs(missing) > _SLACK:
        raise BrokenFileError(f"{len(samples) / rate:.2f} s where {schema.SEGMENT_S:g} belong")
    sound = samples[: schema.SEGMENT_SAMPLES, 0]
    if not np.isfinite(sound).all():
        raise BrokenFileError("holds NaN or infinite values")
    return np.pad(sound, (0, max(0, missing))), missing != 0
