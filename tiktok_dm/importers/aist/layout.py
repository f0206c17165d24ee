"""AIST++ as it is published (v1.0): names, splits, files of poses and motions, videos, and what an import found.

    keypoints2d/<name>.pkl   keypoints2d (9 cameras, N, 17, 3) COCO-17: x px, y px, score; det_scores; timestamps
    keypoints3d/<name>.pkl   keypoints3d (N, 17, 3), keypoints3d_optim (N, 17, 3)
    motions/<name>.pkl       smpl_poses (N, 72) axis-angles, smpl_scaling (1,), smpl_trans (N, 3)
    cameras/                 mapping.txt (name, setting), <setting>.json
    splits/crossmodal_{train,val,test}.txt, ignore_list.txt

60 frames a second throughout. A name such as `gBR_sBM_cAll_d04_mBR0_ch01` is genre, situation (sBM: basic, sFM:
advanced), camera, dancer, music, choreography.

What the two-second segments of the D2M-GAN paper are was found by counting, since it is written down nowhere: all of
`crossmodal_train` and `crossmodal_test`, the ignore list not applied, one camera (c01), cut from the start, the rest
dropped. Dances last 16 beats (sBM) or 64 (sFM) of music at 80 to 130 beats a minute (house: 110 to 135), and that rule
gives 6,632 and 86 segments, as many as are published.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.importers.aist.pickles import load_plain_pickle
from tiktok_dm.importers.segment_set import counted, examples
from tiktok_dm.schema import SEGMENT_S

FPS = 60
CAMERAS = tuple(f"c{number:02d}" for number in range(1, 10))
GENRES = ("BR", "PO", "LO", "MH", "LH", "HO", "WA", "KR", "JS", "JB")
"""Break, pop, lock, middle hip-hop, LA hip-hop, house, waack, krump, street jazz, ballet jazz: AIST's own order."""
SONGS_PER_GENRE = 6
PUBLISHED_SEGMENTS = {"train": 6_632, "test": 86}
PICTURE = (1920, 1080)  # px, of the published videos, where `cameras` does not say

_NAME = re.compile(
    r"g(?P<genre>[A-Z]{2})_s(?P<situation>BM|FM)_cAll_d(?P<dancer>\d\d)_m(?P=genre)(?P<song>[0-5])_ch(?P<ch>\d\d)"
)
_BEATS = {"BM": 16, "FM": 64}


@dataclass(frozen=True, order=True)
class Sequence:
    """One dance, by its name."""

    name: str
    genre: str
    situation: str
    dancer: int
    song_number: int
    choreography: int

    @property
    def music(self) -> str:
        """The music's id, such as `mBR0`."""
        return f"m{self.genre}{self.song_number}"

    @property
    def song_id(self) -> int:
        """0 to 59: six songs to a genre, genres in the order of `GENRES`."""
        return GENRES.index(self.genre) * SONGS_PER_GENRE + self.song_number

    @property
    def tempo_bpm(self) -> int:
        """Of the music, which its number tells."""
        return 110 + 5 * self.song_number if self.genre == "HO" else 80 + 10 * self.song_number

    @property
    def segments_by_beats(self) -> int:
        """Whole two-second segments of a dance of that situation to music of that tempo."""
        return math.floor(_BEATS[self.situation] * 60 / self.tempo_bpm / SEGMENT_S + 1e-9)

    def video(self, camera: str) -> str:
        """Name of the video of one camera, without its suffix."""
        return self.name.replace("cAll", camera)


def parse_name(name: str) -> Sequence:
    """A sequence by its name.

    Raises:
        UserError: not the name of one of AIST++'s sequences.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["genre"] not in GENRES:
        raise UserError(f"{name!r} is no sequence of AIST++: names look like gBR_sBM_cAll_d04_mBR0_ch01")
    return Sequence(
        name, match["genre"], match["situation"], int(match["dancer"]), int(match["song"]), int(match["ch"])
    )


@dataclass(frozen=True)
class AistFolder:
    """A folder with AIST++'s annotations.

    Args:
        root: holds motions, keypoints2d, splits, ...
        splits: the cross-modality split: names by train, val, test, sorted.
        ignored: names of ignore_list.txt, whose reconstruction the authors found poor.
        settings: camera setting by name.
    """

    root: Path
    splits: dict[str, tuple[Sequence, ...]]
    ignored: frozenset[str]
    settings: dict[str, str]

    def clip_id(self, sequence: Sequence) -> int:
        """Place of a sequence among all of the split's, by name."""
        return self._places[sequence.name]

    @property
    def _places(self) -> dict[str, int]:
        names = sorted({sequence.name for part in self.splits.values() for sequence in part})
        return {name: place for place, name in enumerate(names)}

    def picture_size(self, sequence: Sequence, camera: str) -> tuple[int, int]:
        """Width and height in px of the pictures that the keypoints were found in."""
        path = self.root / "cameras" / f"{self.settings.get(sequence.name, '')}.json"
        try:
            cameras = json.loads(path.read_text(encoding="utf-8"))
            size = next(entry["size"] for entry in cameras if entry["name"] == camera)
            width, height = (int(length) for length in size)
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            return PICTURE
        return (width, height) if min(width, height) > 0 else PICTURE


def open_aist(root: Path | str) -> AistFolder:
    """The annotations under `root`, or in a folder of it.

    Raises:
        UserError: no annotations there, or a split with names that are none.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name the one with AIST++'s annotations (motions, splits, ...)")
    places = [place for place in (root, *sorted(root.iterdir())) if (place / "motions").is_dir()]
    if not places:
        raise UserError(f"{root} holds no AIST++: name the folder with motions, keypoints2d and splits")
    root = places[0]
    splits = {
        part: tuple(sorted(map(parse_name, _lines(root / "splits" / f"crossmodal_{part}.txt", needed=part != "val"))))
        for part in ("train", "val", "test")
    }
    train = {sequence.music for sequence in splits["train"]}
    if shared := sorted(train & {sequence.music for sequence in splits["test"]}):
        raise UserError(f"{root / 'splits'}: music {shared[0]} is in train and in test: these are not AIST++'s lists")
    mapping = [line.split() for line in _lines(root / "cameras" / "mapping.txt", needed=False)]
    return AistFolder(
        root,
        splits,
        frozenset(_lines(root / "ignore_list.txt", needed=False)),
        {words[0]: words[1] for words in mapping if len(words) == 2},
    )


def _lines(path: Path, needed: bool) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        if not needed:
            return []
        raise UserError(f"{path} is missing: it comes with AIST++'s annotations") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text") from error
    return [line for line in lines if line]


def read_motion(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A motion file: SMPL's axis-angles (N, 24, 3) rad, and where the body is, (N, 3), in units of the SMPL body.

    The published translation is divided by the published scaling, as by the code that AIST++'s authors train with
    (mint), so that it is on the scale of the unscaled body, metres.

    Raises:
        UserError: damaged, refused, or of other shapes.
    """
    held = _dict(path, "smpl_poses", "smpl_trans", "smpl_scaling")
    poses, trans = (_numbers(held[key], path, key) for key in ("smpl_poses", "smpl_trans"))
    scaling = _numbers(held["smpl_scaling"], path, "smpl_scaling").ravel()
    frames = len(poses) if poses.ndim else 0
    if poses.size != frames * 72 or trans.shape != (frames, 3) or not frames:
        raise UserError(f"{path} holds poses {_shape(poses)} and places {_shape(trans)} where Nx72 and Nx3 belong")
    if scaling.shape != (1,) or not scaling[0] > 0:
        raise UserError(f"{path} holds no scaling above 0")
    return poses.reshape(frames, 24, 3), trans / scaling[0]


def read_keypoints2d(path: Path, camera: str) -> np.ndarray:
    """The 2-D keypoints of one camera: (N, 17, 3) float32, COCO-17: x px, y px, score 0..1; zeros where none is.

    Raises:
        UserError: damaged, refused, or of another shape.
    """
    points = _numbers(_dict(path, "keypoints2d")["keypoints2d"], path, "keypoints2d", finite=False)
    if points.ndim != 4 or points.shape[0] != len(CAMERAS) or points.shape[2:] != (17, 3):
        raise UserError(f"{path} holds keypoints {_shape(points)} where 9xNx17x3 belong")
    found = points[CAMERAS.index(camera)].astype(np.float32)
    found[..., 2] = np.nan_to_num(found[..., 2], nan=0.0).clip(0, 1)
    found[~np.isfinite(found).all(axis=-1) | (found[..., 2] == 0)] = 0
    return found


def read_keypoints3d(path: Path, optimised: bool = True) -> np.ndarray:
    """The 3-D keypoints, (N, 17, 3) float64, COCO-17, x, y, z in centimetres; NaN where none is.

    Args:
        optimised: those that AIST++ smoothed over time and by bone lengths.

    Raises:
        UserError: damaged, refused, or of another shape.
    """
    key = "keypoints3d_optim" if optimised else "keypoints3d"
    points = _numbers(_dict(path, key)[key], path, key, finite=False)
    if points.ndim != 3 or points.shape[1:] != (17, 3):
        raise UserError(f"{path} holds keypoints {_shape(points)} where Nx17x3 belong")
    return points


def _dict(path: Path, *keys: str) -> dict:
    held = load_plain_pickle(path)
    if not isinstance(held, dict) or any(key not in held for key in keys):
        raise UserError(f"{path} does not hold {' and '.join(keys)}: it is no such file of AIST++")
    return held


def _numbers(value: object, path: Path, key: str, finite: bool = True) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        array = value.astype(np.float64)
        if not finite or np.isfinite(array).all():
            return array
    raise UserError(f"{path}: {key} is no array of {'finite ' if finite else ''}numbers")


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "of one number"


_VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_SOUND = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
_KEPT_SOUNDS = 6  # the songs of a genre


class AistMedia:
    """The videos of one camera and the music under a folder, by name."""

    def __init__(self, root: Path, camera: str) -> None:
        if not root.is_dir():
            raise UserError(f"there is no folder {root}: name the one with AIST's videos or music")
        self.root, self.camera = root, camera
        self.files: dict[str, Path] = {}
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in (*_VIDEO, *_SOUND) and path.is_file() and not path.name.startswith("."):
                self.files.setdefault(path.stem, path)
        self._has_sound: dict[Path, bool] = {}
        self._sounds: dict[Path, np.ndarray] = {}

    def video(self, sequence: Sequence) -> Path | None:
        """The camera's video of a sequence."""
        path = self.files.get(sequence.video(self.camera))
        return path if path is not None and path.suffix.lower() in _VIDEO else None

    def sound(self, sequence: Sequence) -> Path | None:
        """Where a sequence's sound comes from: its video, if that has any, else the music.

        Raises:
            MediaError: the video cannot be read, and there is no music.
        """
        video, music = self.video(sequence), self.files.get(sequence.music)
        if video is None:
            return music
        try:
            if video not in self._has_sound:
                from tiktok_dm.media import probe

                self._has_sound[video] = probe(video).audio is not None
        except MediaError:
            if music is None:
                raise
            return music
        return video if self._has_sound[video] else music

    def read(self, path: Path) -> np.ndarray:
        """All of a file's sound, 22,050 Hz mono; a few are kept, since many dances share a music."""
        from tiktok_dm.media import read_audio

        if path not in self._sounds:
            if len(self._sounds) >= _KEPT_SOUNDS:
                del self._sounds[next(iter(self._sounds))]
            self._sounds[path] = read_audio(path, sample_rate=schema.SAMPLE_RATE)
        return self._sounds[path]


@dataclass(frozen=True)
class AistResult:
    """What came out.

    Args:
        counts: name, segments, clips, songs, splits, bytes, unchanged.
        report: as in `import.json`: camera; splits (sequences listed, segments, by_beats, published); missing (motion,
            sound, and video where visual features were asked for: names); broken (file, reason); other_length
            (sequence, segments, by_beats); ignored; clips_left_out.
    """

    out: Path
    counts: dict[str, Any]
    report: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether there are as many segments as published, in both splits."""
        return all(part["segments"] == part["published"] for part in self.report["splits"].values())

    @property
    def failed(self) -> bool:
        """Whether files were broken: got again, they may give what is left out now."""
        return bool(self.report["broken"])

    def sentences(self) -> list[str]:
        """What was found, one sentence each, with examples."""
        report, out = self.report, []
        for split, part in report["splits"].items():
            found, wanted = part["segments"], part["published"]
            if found == wanted:
                out.append(f"{split}: {found:,} segments, as many as are published")
            else:
                out.append(
                    f"{split}: {found:,} segments where {wanted:,} are published; the {part['sequences']:,} sequences "
                    f"of the list have {part['by_beats']:,} by their beats"
                )
        for what, names in report["missing"].items():
            if names:
                out.append(f"{counted(names, 'sequence')} without {what}: {examples(names)}")
        for key, noun, words in (("broken", "broken file", ""), ("clips_left_out", "video", " that gave no clip")):
            told = [f"{entry['file']} ({entry['reason']})" for entry in report[key]]
            if told:
                out.append(f"{counted(told, noun)}{words}: {examples(told)}")
        told = [f"{e['sequence']} ({e['segments']} segments, {e['by_beats']} by beats)" for e in report["other_length"]]
        if told:
            out.append(f"{counted(told, 'sequence')} of another length than by the beats: {examples(told)}")
        if report["ignored"]:
            names = report["ignored"]
            out.append(f"{counted(names, 'sequence')} of AIST++'s ignore list left out: {examples(names)}")
        return out


@dataclass
class Findings:
    """What import.json says, as it is gathered."""

    camera: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=lambda: {"motion": [], "sound": []})
    broken: list[dict[str, str]] = field(default_factory=list)
    other_length: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    clips_left_out: list[dict[str, str]] = field(default_factory=list)


def reason(error: Exception, *paths: Path) -> str:
    """What is wrong with a file, without the folder that it is in: the report is published."""
    text = str(error)
    for path in paths:
        text = text.replace(str(path), path.name)
    return text
