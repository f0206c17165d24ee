"""Poses as OpenPose's JSON files, in and out: one file a frame, `<name>_000000000012_keypoints.json`, format 1.3.

For poses that OpenPose (or a tool that writes its format) estimated, and for tools that read it. Hands and faces are
left out. Not for converting between skeletons: that is `skeletons`. Frames are numbered from 0, whatever their rate.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.errors import DiskFull, UserError, is_no_room
from tiktok_dm.pose.skeletons import BODY_25, Pose, Skeleton

VERSION = 1.3  # of the format
MAX_FRAMES = 1_000_000  # more than nine hours at 30 fps: a number beyond that counts something else than frames
_FILE = re.compile(r"(?P<name>.+)_(?P<frame>\d+)_keypoints\.json")
_ABSENT = (
    "face_keypoints_2d",
    "hand_left_keypoints_2d",
    "hand_right_keypoints_2d",
    "pose_keypoints_3d",
    "face_keypoints_3d",
    "hand_left_keypoints_3d",
    "hand_right_keypoints_3d",
)


def file_name(name: str, frame: int) -> str:
    """Name of a frame's file, as OpenPose numbers them: twelve digits."""
    return f"{name}_{frame:012d}_keypoints.json"


def frame_to_json(people: Pose) -> dict[str, Any]:
    """One frame as OpenPose writes it: `{"version": 1.3, "people": [...]}`.

    Args:
        people: (dancers, joints, 3); a dancer that is all zeros is not there, and so not in the list. The place of each
            dancer is the `person_id`, as where OpenPose tracks people.
    """
    return {
        "version": VERSION,
        "people": [
            {
                "person_id": [dancer],
                # The shortest decimals that give the same float32.
                "pose_keypoints_2d": [float(str(value)) for value in np.asarray(person, np.float32).ravel()],
                **{key: [] for key in _ABSENT},
            }
            for dancer, person in enumerate(people)
            if np.any(person)
        ],
    }


def frame_from_json(document: Any, where: str, skeleton: Skeleton = BODY_25) -> list[tuple[int, Pose]]:
    """The people of one frame, in the file's order.

    Args:
        document: a parsed file.
        where: what it is called in messages.
        skeleton: whose joints `pose_keypoints_2d` holds.

    Returns:
        (`person_id`, or -1 where the file tells people apart by their order alone; (joints, 3) float32) of each person
        with a pose. Confidences above 1, which OpenPose gives now and then, are 1; a joint without confidence is zeros.

    Raises:
        UserError: not OpenPose's format, another number of joints, or values that are no finite numbers.
    """
    people = document.get("people") if isinstance(document, Mapping) else None
    if not isinstance(people, Sequence) or isinstance(people, str):
        raise UserError(f"{where} is not in OpenPose's format: it has no list 'people'")
    found = []
    for place, person in enumerate(people):
        flat = person.get("pose_keypoints_2d", []) if isinstance(person, Mapping) else None
        if not isinstance(flat, list):
            raise UserError(f"{where}, person {place}: 'pose_keypoints_2d' is not a list of numbers")
        if not flat:  # OpenPose writes an empty list for someone of whom only hands or face were found
            continue
        if len(flat) != 3 * len(skeleton.joints):
            raise UserError(
                f"{where}, person {place}: {len(flat)} values are not the {len(skeleton.joints)} joints x 3 of "
                f"{skeleton.name}: run OpenPose with its model for them (BODY_25 is its default)"
            )
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in flat):
            raise UserError(f"{where}, person {place}: 'pose_keypoints_2d' holds something that is not a number")
        try:
            pose = np.array(flat, np.float32).reshape(-1, 3)
        except OverflowError:  # an integer of hundreds of digits
            pose = np.full((1, 3), np.nan, np.float32)
        if not np.isfinite(pose).all():
            raise UserError(f"{where}, person {place}: 'pose_keypoints_2d' holds values that are not finite")
        pose[:, 2] = pose[:, 2].clip(0, 1)
        pose[pose[:, 2] == 0] = 0
        if pose.any():
            found.append((_person_id(person), pose))
    return found


def read_openpose(folder: Path | str, name: str | None = None, skeleton: Skeleton = BODY_25) -> Pose:
    """The poses in a folder of OpenPose's files.

    Frames that have no file are frames without people. Where every person has a `person_id` of 0 or more, and no
    frame has one twice, the ids tell dancers apart, the lowest first; else the order in each file does.

    Args:
        name: the part of the file names before the frame's number; needed only where the folder holds several.
        skeleton: whose joints the files hold.

    Returns:
        (frames, dancers, joints, 3) float32; a dancer that is not in a frame is all zeros. Frames go from 0 to the
        highest number of a file.

    Raises:
        UserError: no such folder, no such files, files of several names, or a file that is not as it should be.
    """
    folder = Path(folder)
    files = _files(folder, name)
    n_frames = max(files) + 1
    if n_frames > MAX_FRAMES:
        raise UserError(f"{files[max(files)]} numbers a frame beyond {MAX_FRAMES:,}: number the files by frames from 0")
    frames = {}
    for frame, path in sorted(files.items()):
        try:
            document = json.loads(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is no JSON: write it again, or remove it for a frame without people") from error
        frames[frame] = frame_from_json(document, str(path), skeleton)
    ids = [[person_id for person_id, _ in people] for people in frames.values()]
    tracked = all(len(set(each)) == len(each) and min(each, default=0) >= 0 for each in ids)
    slots = {number: slot for slot, number in enumerate(sorted({number for each in ids for number in each}))}
    dancers = len(slots) if tracked else max(map(len, ids))
    poses = np.zeros((n_frames, dancers, len(skeleton.joints), 3), np.float32)
    for frame, people in frames.items():
        for place, (person_id, pose) in enumerate(people):
            poses[frame, slots[person_id] if tracked else place] = pose
    return poses


def write_openpose(poses: Pose, folder: Path | str, name: str) -> int:
    """Write poses as OpenPose's files, one for every frame, also for frames without people.

    The folder is written beside its place and renamed into it, so it is whole or absent. What is read back is the same
    to the last bit, except that dancers who are in no frame are gone.

    Args:
        poses: (frames, dancers, joints, 3).
        folder: a new or empty folder.
        name: of the clip; the first part of every file's name.

    Returns:
        How many files were written.

    Raises:
        UserError: the folder holds something, or the name is no file name.
        DiskFull: they did not fit; nothing was written.
        ValueError: poses of another shape, or not finite.
    """
    poses, folder = np.asarray(poses, np.float32), Path(folder)
    if poses.ndim != 4 or poses.shape[-1] != 3:
        raise ValueError(f"poses are (frames, dancers, joints, 3), got {poses.shape}")
    if not np.isfinite(poses).all():
        raise ValueError("poses hold values that are not finite")
    if not name or name.startswith(".") or re.search(r"[/\\\0]", name):
        raise UserError(f"{name!r} cannot begin a file name: give a plain name, such as clip_000012")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and holds something: choose another folder, or remove it first")
    beside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        beside.chmod(0o755)  # a temporary folder is its owner's alone
        for frame, people in enumerate(poses):
            text = json.dumps(frame_to_json(people), separators=(",", ":"))
            (beside / file_name(name, frame)).write_text(text, encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
        os.rename(beside, folder)
    except OSError as error:
        if is_no_room(error):
            raise DiskFull(f"no room left to write the poses into {folder}: make room, then try again") from error
        raise
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
    return len(poses)


def _files(folder: Path, name: str | None) -> dict[int, Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: name the one that OpenPose wrote with --write_json")
    by_name: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(path.name):
            frames = by_name.setdefault(match["name"], {})
            frame = int(match["frame"])
            if frame in frames:
                raise UserError(f"{frames[frame]} and {path.name} are the same frame: remove one")
            frames[frame] = path
    if name is not None:
        by_name = {name: by_name[name]} if name in by_name else {}
    if not by_name:
        wanted = file_name(name or "NAME", 0)
        raise UserError(f"{folder} holds no files such as {wanted}: name the folder that OpenPose wrote")
    if len(by_name) > 1:
        raise UserError(f"{folder} holds the files of {len(by_name)} clips ({', '.join(list(by_name)[:3])}): name one")
    return next(iter(by_name.values()))


def _person_id(person: Mapping[str, Any]) -> int:
    value = person.get("person_id", -1)
    if isinstance(value, list):
        value = value[0] if value else -1
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
