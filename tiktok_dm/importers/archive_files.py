"""The files of the authors' preprocessed archives: fetched and unpacked without harm, found under a folder, read.

Folders, names and formats are the published ones, as far as these are known: motion, 60 poses (30 fps) of BODY_25 x (x
px, y px, confidence), which the authors' code reshapes to (60, 75); visual features (1, 2048), I3D; sound, 22,050 Hz
mono, 2 s. Nothing is opened with pickle, and no memory is asked for on a header's word alone.

The downloads go on where they broke off, what is there already is checked by size and checksum and not fetched again,
and nothing of an archive is written outside its folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from tiktok_dm import schema
from tiktok_dm.annotations.author_file import download_from_drive
from tiktok_dm.errors import UserError, is_no_room
from tiktok_dm.files import no_room, sha256_file, write_atomic
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


# The Google Drive ids in the README of the authors' repository.
ARCHIVES = {
    "motion": "1Zi2Ut4r6UONN-OrVhkjT2o43kqqlAUga",
    "visual": "1oJ9cmyKZQuSPETGZBSCwJd3J6I11Qq1c",
    "audio": "1RPRlansMmpPtCY1zDVI5-hMC0EpbVFrh",
}
UNPACKED = "unpacked"
# The archives hold 2,691 files each, 0.3 GB at most: far beyond that, something else was fetched.
MAX_FILES = 100_000
MAX_BYTES = 8 * 2**30
_BLOCK = 1 << 20

Tell = Callable[[str], None]


def fetch_archives(
    folder: Path | str,
    *,
    ids: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
    retries: int = 4,
    tell: Tell | None = None,
) -> Path:
    """Download the archives into `folder` and unpack them into its folder `unpacked`.

    What an earlier call finished is kept: an archive whose size and checksum are those of `<kind>.json` is not asked
    for again, and one that is unpacked is not unpacked again. An archive that was saved by hand into `folder/<kind>/`
    (`motion`, `visual`, `audio`) is taken instead of a download.

    Args:
        ids: Google Drive id by kind; by default the authors'.
        tell: called with a sentence before each step.

    Returns:
        The folder with everything unpacked, for `preprocessed.import_preprocessed`.

    Raises:
        UserError: an archive cannot be downloaded, is damaged, or wants to write where it must not.
        DiskFull: it did not fit; what is finished is kept.
    """
    folder, tell = Path(folder), tell or (lambda sentence: None)
    for kind, file_id in (ids or ARCHIVES).items():
        archive, digest = _download(kind, file_id, folder, timeout_s, retries, tell)
        place = folder / UNPACKED / FOLDERS[kind]
        stamp = place / ".archive.sha256"
        if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == digest):
            tell(f"unpacking {archive.name}")
            _unpack_beside(archive, place, digest)
    return folder / UNPACKED


def _download(kind: str, file_id: str, folder: Path, timeout_s: float, retries: int, tell: Tell) -> tuple[Path, str]:
    """The archive of a kind, and its checksum."""
    place, record = folder / kind, folder / f"{kind}.json"
    if archive := _recorded(place, record):
        return archive, str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    here = _by_hand(place)
    if here is None:
        tell(f"fetching {FOLDERS[kind]} from Google Drive ({file_id})")
        then = f"put it into {place}, then run the same command again"
        # A finished file without a record is of a call that was stopped in between: it counts as saved by hand above.
        here = download_from_drive(file_id, place, then=then, timeout_s=timeout_s, retries=retries, resume=True)
    entry = {"id": file_id, "file": here.name, "bytes": here.stat().st_size, "sha256": sha256_file(here)}
    write_atomic(record, json.dumps(entry, indent=1) + "\n")
    return here, str(entry["sha256"])


def _recorded(place: Path, record: Path) -> Path | None:
    """The archive that a record speaks of, if it is there; it must still be that one, to the last byte."""
    try:
        entry = json.loads(record.read_text(encoding="utf-8"))
        archive = place / PurePosixPath(str(entry["file"])).name
        size, wanted = archive.stat().st_size, int(entry["bytes"])
        same = size == wanted and sha256_file(archive) == entry["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not same:
        raise UserError(
            f"{archive} is no longer the file that was fetched ({size:,} bytes, {wanted:,} then): remove it and run "
            f"the same command again, or remove {record.name} to take it as it is"
        )
    return archive


def _by_hand(place: Path) -> Path | None:
    """The one archive in a folder, parts of downloads aside."""
    with contextlib.suppress(OSError):
        files = [path for path in sorted(place.iterdir()) if path.is_file() and path.suffix != ".part"]
        archives = [path for path in files if zipfile.is_zipfile(path) or _is_tar(path)]
        if len(archives) > 1:
            raise UserError(f"{place} holds several archives ({', '.join(p.name for p in archives)}): leave one there")
        if archives:
            return archives[0]
    return None


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


# ------------------------------------------------------------------------------------------------------------ unpacking


def _unpack_beside(archive: Path, place: Path, digest: str) -> None:
    """Unpack into a folder beside `place` and rename it into place."""
    beside = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        unpack(archive, beside)
        (beside / ".archive.sha256").write_text(digest, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.rename(beside, place)
    except OSError as error:
        if is_no_room(error):
            raise no_room(place) from error
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> int:
    """Write the plain files of a zip or tar archive into `folder`; links and devices are not written.

    Nothing is written unless every name in the archive stays inside `folder`.

    Returns:
        How many files were written.

    Raises:
        UserError: no such archive, a damaged one, a name that leads out of the folder, or far more than belongs.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return _write_members(archive, folder, list(_zip_members(opened)))
        if _is_tar(archive):
            with tarfile.open(archive) as opened_tar:
                return _write_members(archive, folder, list(_tar_members(opened_tar)))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{archive} is damaged ({_line(error)}): remove it, then run the same command again") from error
    except (NotImplementedError, RuntimeError) as error:  # a method of packing that Python lacks, or a password
        raise UserError(f"{archive} cannot be unpacked ({_line(error)}): unpack it by hand and use --root") from error
    raise UserError(
        f"{archive} is neither a zip nor a tar archive: remove it and run the same command again, or unpack it by hand "
        "and use --root"
    )


_Member = tuple[str, int, Callable[[], IO[bytes]]]


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if not info.is_dir() and not link:
            yield info.filename, info.file_size, lambda info=info: opened.open(info)  # type: ignore[misc]


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for info in opened.getmembers():
        if info.isreg():
            yield info.name, info.size, lambda info=info: opened.extractfile(info)  # type: ignore[misc]


def _write_members(archive: Path, folder: Path, members: list[_Member]) -> int:
    if len(members) > MAX_FILES or sum(size for _, size, _ in members) > MAX_BYTES:
        raise UserError(
            f"{archive} unpacks to {len(members):,} files of {sum(size for _, size, _ in members) / 2**30:.1f} GB, far "
            "more than the published data: it is another file"
        )
    places = [_place(archive, folder, name) for name, _, _ in members]
    for place, (_, size, read) in zip(places, members, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        # A name that comes twice is written once; a folder of that name is a damaged archive.
        if place.is_dir():
            raise UserError(f"{archive} is damaged ({place.name} is a file and a folder): remove it and fetch it again")
        with read() as source, open(place, "wb") as target:
            left = size
            while block := source.read(min(_BLOCK, left + 1)):
                left -= len(block)
                if left < 0:  # more than its directory says
                    raise UserError(f"{archive} is damaged ({place.name} is longer than it says): fetch it again")
                target.write(block)
    return len(members)


def _place(archive: Path, folder: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise UserError(f"{archive} holds a file named {name!r}, which leads out of its folder: do not unpack it")
    return folder.joinpath(*parts)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
