"""BlazePose's two networks as files: MediaPipe's published ones, fetched once and held by checksum, or the user's own.

MediaPipe's package is not installed for them (600 MB, for 9.4 MB of models): its wheel is downloaded as a file by pip,
with the index settings that the user has, and the models are taken out of it as data. They are the same in the wheels
of all platforms and Python versions.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic

VERSION = "0.10.21"
"""The last release of MediaPipe whose wheels carry pose models."""
REQUIREMENT = f"mediapipe=={VERSION}"
LICENCE = "Apache-2.0"


class ModelFile(NamedTuple):
    """A published model.

    Args:
        name: of the file in the cache.
        member: its place in MediaPipe's wheel.
        size: bytes.
        sha256: of its bytes.
    """

    name: str
    member: str
    size: int
    sha256: str


DETECTOR = ModelFile(
    "pose_detection.tflite",
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    2_959_046,
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
LANDMARKER = ModelFile(
    "pose_landmark_full.tflite",
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    6_440_512,
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
FILES = (DETECTOR, LANDMARKER)

# A bundle of Google's pose landmarker (lite, full or heavy) is a zip with these two.
_TASK_MEMBERS = ("pose_detector.tflite", "pose_landmarks_detector.tflite")
# The largest published model (heavy) has 30 MB; far beyond that, something else was given.
_MOST_BYTES = 128 << 20
# pip takes the wheel of a platform that is asked for whatever it runs on; an index may have some of them only.
_PLATFORMS = ("manylinux_2_28_x86_64", "macosx_11_0_universal2", "macosx_11_0_x86_64", "win_amd64")
_PYTHONS = ("312", "311", "310", "39")

Tell = Callable[[str], None]


def tell_on_stderr(sentence: str) -> None:
    """Print a sentence where results don't go."""
    print(f"tiktok-dm: {sentence}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Models:
    """BlazePose's two networks.

    Args:
        detector: bytes of the person detector, TensorFlow Lite.
        landmarker: bytes of the landmark model, TensorFlow Lite.
        place: where they were read.
    """

    detector: bytes
    landmarker: bytes
    place: Path

    @property
    def sha256(self) -> str:
        """Of the detector's bytes and the landmark model's behind them, hexadecimal."""
        return hashlib.sha256(self.detector + self.landmarker).hexdigest()

    @property
    def version(self) -> str:
        """MediaPipe's version for its own models, else the beginning of their checksum."""
        if all(_is(data, file) for data, file in zip((self.detector, self.landmarker), FILES, strict=True)):
            return f"{VERSION}-full"
        return f"models-{self.sha256[:12]}"


def cache_folder() -> Path:
    """Where the published models are kept: the user's cache."""
    import platformdirs

    return platformdirs.user_cache_path("tiktok-dm") / "models" / f"mediapipe-{VERSION}"


def state() -> dict[str, str]:
    """`ok`, `missing` or `damaged` for each published model in the cache, by file name."""
    out = {}
    for file in FILES:
        path = cache_folder() / file.name
        out[file.name] = "missing" if not path.is_file() else "ok" if _is(path.read_bytes(), file) else "damaged"
    return out


def load(place: str | Path | None = None, tell: Tell = tell_on_stderr) -> Models:
    """The models: the published ones, which are fetched where the cache lacks them, or those of a place.

    Args:
        place: a `.task` bundle, or a folder with one, or with `pose_detection.tflite` and one
            `pose_landmark_*.tflite`; None for the published models.
        tell: is given a sentence before something is downloaded.

    Raises:
        UserError: nothing of that kind there, or the published models are neither in the cache nor to be had.
    """
    if place is not None:
        return _read(Path(place).expanduser())
    folder = cache_folder()
    if set(state().values()) != {"ok"}:
        fetch(tell=tell)
    return Models((folder / DETECTOR.name).read_bytes(), (folder / LANDMARKER.name).read_bytes(), folder)


def fetch(source: str | Path | None = None, tell: Tell = tell_on_stderr) -> Path:
    """Bring the published models into the cache; the folder that holds them.

    Several processes may ask at once: one fetches, the others find the files.

    Args:
        source: MediaPipe's wheel, or a folder with the wheel or with the two files, for a machine without a network;
            None downloads the wheel with pip.
        tell: is given a sentence before the download.

    Raises:
        UserError: they can't be had, or are not the published ones.
    """
    from filelock import FileLock

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if source is not None:
                _keep(_given(Path(source).expanduser()), folder)
            elif set(state().values()) != {"ok"}:
                megabytes = sum(file.size for file in FILES) / 1e6
                tell(
                    f"fetching MediaPipe's pose models ({megabytes:.1f} MB, {LICENCE}) out of its published wheel "
                    f"(36 MB), once, into {folder}"
                )
                with tempfile.TemporaryDirectory(prefix="tiktok-dm-models-") as scratch:
                    _keep(_from_wheel(_download(Path(scratch))), folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def _keep(models: Sequence[bytes], folder: Path) -> None:
    for data, file in zip(models, FILES, strict=True):
        write_atomic(folder / file.name, data)


def _is(data: bytes, file: ModelFile) -> bool:
    return len(data) == file.size and hashlib.sha256(data).hexdigest() == file.sha256


def _given(source: Path) -> list[bytes]:
    """The published models out of a wheel, or a folder with the wheel or the files."""
    wheels = sorted(source.glob("mediapipe-*.whl")) if source.is_dir() else []
    if source.is_dir() and not wheels:
        missing = [file.name for file in FILES if not (source / file.name).is_file()]
        if missing:
            raise UserError(
                f"{source} holds neither MediaPipe's wheel nor {' and '.join(missing)}: give the wheel of {REQUIREMENT}"
            )
        return _checked([(source / file.name).read_bytes() for file in FILES], source)
    return _from_wheel(wheels[-1] if wheels else source)


def _from_wheel(wheel: Path) -> list[bytes]:
    return _checked(_members(wheel, [file.member for file in FILES], f"the wheel of {REQUIREMENT}"), wheel)


def _checked(models: list[bytes], place: Path) -> list[bytes]:
    for data, file in zip(models, FILES, strict=True):
        if not _is(data, file):
            raise UserError(
                f"{file.name} in {place} is not the published one (SHA-256 {hashlib.sha256(data).hexdigest()[:12]}..., "
                f"expected {file.sha256[:12]}...): get {REQUIREMENT} again"
            )
    return models


def _members(archive: Path, names: Sequence[str], what: str) -> list[bytes]:
    """Members of a zip, bounded in size."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = [opened.getinfo(name) for name in names]
            if any(info.file_size > _MOST_BYTES for info in infos):
                raise UserError(f"{archive} holds a model of more than {_MOST_BYTES >> 20} MB: give {what}")
            return [opened.read(info) for info in infos]
    except FileNotFoundError:
        raise UserError(f"{archive} does not exist: give {what}") from None
    except KeyError:
        missing = [name for name in names if name not in opened.namelist()]
        raise UserError(f"{archive} lacks {missing[0]}: give {what}") from None
    # NotImplementedError, RuntimeError: a compression or an encryption that zipfile doesn't know.
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{archive} cannot be read as a zip ({error}): give {what}") from error


def _read(place: Path) -> Models:
    """The models of a bundle or a folder."""
    what = (
        "a .task bundle of Google's pose landmarker, or a folder with pose_detection.tflite and pose_landmark_*.tflite"
    )
    if place.is_file():
        networks = _members(place, _TASK_MEMBERS, what)
        return Models(networks[0], networks[1], place)
    if not place.is_dir():
        raise UserError(f"There are no pose models at {place}: give {what}.")
    landmarkers, bundles = sorted(place.glob("pose_landmark*.tflite")), sorted(place.glob("*.task"))
    detector = place / DETECTOR.name
    choices = [path.name for path in [*landmarkers, *bundles]]
    if len(choices) > 1:
        raise UserError(f"{place} holds several landmark models ({', '.join(choices)}): name the bundle, or keep one.")
    if bundles:
        return _read(bundles[0])
    if not landmarkers or not detector.is_file():
        raise UserError(f"There are no pose models in {place}: give {what}.")
    for path in (detector, landmarkers[0]):
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES >> 20} MB and is no pose model: give {what}.")
    return Models(detector.read_bytes(), landmarkers[0].read_bytes(), place)


def _download(folder: Path) -> Path:
    """The wheel, downloaded by pip."""
    pip = _pip()
    call = [
        *pip,
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--quiet",
    ]
    call += [f"--platform={platform}" for platform in _PLATFORMS]
    said = ""
    for python in _PYTHONS:
        done = subprocess.run(
            [*call, f"--python-version={python}", f"--dest={folder}", REQUIREMENT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        wheels = sorted(folder.glob("mediapipe-*.whl"))
        if done.returncode == 0 and wheels:
            return wheels[0]
        said = said or _last_words(done.stderr)
        # An index that answered has other wheels perhaps; one that did not won't answer the next question either.
        if "Retrying" in done.stderr or "No matching distribution" not in done.stderr:
            break
    raise _not_to_be_had(f"pip could not download its wheel ({said or 'it gave no reason'})")


def _pip() -> list[str]:
    """How pip is called: this environment's, else one on the PATH (an environment need not hold one)."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
        return own
    for call in (["pip"], ["pip3"], ["uv", "tool", "run", "pip"]):
        if shutil.which(call[0]):
            return call
    raise _not_to_be_had("there is no pip here to download its wheel with")


def _not_to_be_had(why: str) -> UserError:
    return UserError(
        f"MediaPipe's pose models are not in {cache_folder()}, and {why}: run 'tiktok-dm models fetch' where there "
        f"is a network, or get the wheel of {REQUIREMENT} elsewhere ('pip download --no-deps {REQUIREMENT}') and run "
        "'tiktok-dm models fetch --from WHEEL'"
    )


def _last_words(text: str) -> str:
    """pip's reason: the first error that it names, without the warnings around it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors[-1] if errors else lines[-1] if lines else "")[:300]
