"""AIST++ as it is published (v1.0): names, splits, and the files of poses and motions.

    keypoints2d/<name>.pkl   keypoints2d (9 cameras, N, 17, 3) COCO-17: x px, y px, score; det_scores; timestamps
    keypoints3d/<name>.pkl   keypoints3d (N, 17, 3), keypoints3d_optim (N, 17, 3)
    motions/<name>.pkl       smpl_poses (N, 72) axis-angles, smpl_scaling (1,), smpl_trans (N, 3)
    cameras/                 mapping.txt (name, setting), <setting>.json
    splits/crossmodal_{train,val,test}.txt, ignore_list.txt

60 frames a second throughout. A name such as `gBR_sBM_cAll_d04_mBR0_ch01` is genre, situation (sBM: basic, sFM:
advanced), camera, dancer, music, choreography. Not for what a dataset makes of it: that is `aist`.

What the two-second segments of the D2M-GAN paper are was found by counting, since it is written down nowhere: all of
`crossmodal_train` and `crossmodal_test`, the ignore list not applied, one camera (c01), cut from the start, the rest
dropped. Dances last 16 beats (sBM) or 64 (sFM) of music at 80 to 130 beats a minute (house: 110 to 135), and that rule
gives 6,632 and 86 segments, as many as are published.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiktok_dm.errors import UserError
from tiktok_dm.importers.aist.pickles import load_plain_pickle
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
