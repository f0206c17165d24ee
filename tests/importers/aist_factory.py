"""AIST++'s published layout, imitated: the folders, names and pickles, with invented dances."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from tiktok_dm.media import write_video


def write_layout(root: Path, train: Iterable[str], test: Iterable[str], ignored: Iterable[str] = ()) -> Path:
    """Folders, split lists and cameras; no dances yet."""
    for folder in ("motions", "keypoints2d", "keypoints3d", "cameras", "splits"):
        (root / folder).mkdir(parents=True)
    lists = {"crossmodal_train": train, "crossmodal_test": test, "crossmodal_val": ()}
    for name, names in lists.items():
        (root / "splits" / f"{name}.txt").write_text("".join(f"{one}\n" for one in names))
    (root / "ignore_list.txt").write_text("".join(f"{one} \n" for one in ignored) + "\n")  # as published: with spaces
    setting = [{"name": f"c{k:02d}", "size": [1920, 1080]} for k in range(1, 10)]
    (root / "cameras" / "setting1.json").write_text(json.dumps(setting))
    (root / "cameras" / "mapping.txt").write_text("".join(f"{one} setting1\n" for one in [*train, *test]))
    return root


def motion_of(frames: int, seed: int) -> dict[str, np.ndarray]:
    """Joints that turn about the vertical, at a rate of their own; the body walks along x."""
    rng = np.random.default_rng(seed)
    poses = np.zeros((frames, 24, 3))
    poses[..., 1] = np.arange(frames)[:, None] / 60 * rng.uniform(0.1, 1, 24)
    trans = np.stack([np.arange(frames) / 60, np.full(frames, 90.0), np.zeros(frames)], axis=-1)
    return {"smpl_poses": poses.reshape(frames, 72), "smpl_scaling": np.array([90.0]), "smpl_trans": trans}


def keypoints_of(frames: int) -> np.ndarray:
    """(9, frames, 17, 3): x = 100 camera + joint + frame, y = 10 joint, score 0.5; the left ankle is never found."""
    camera, frame, joint = np.meshgrid(np.arange(1, 10), np.arange(frames), np.arange(17), indexing="ij")
    points = np.stack([100.0 * camera + joint + frame, 10.0 * joint, np.full(joint.shape, 0.5)], axis=-1)
    points[:, :, 15] = np.nan
    return points


def write_dance(root: Path, name: str, frames: int, seed: int, protocol: int = 4) -> None:
    """The three pickles of a sequence."""
    files = {
        "motions": motion_of(frames, seed),
        "keypoints2d": {
            "keypoints2d": keypoints_of(frames),
            "det_scores": np.ones((9, frames)),
            "timestamps": np.arange(frames) * 1_000_000 // 60,
        },
        "keypoints3d": {"keypoints3d": np.zeros((frames, 17, 3)), "keypoints3d_optim": np.ones((frames, 17, 3))},
    }
    for folder, value in files.items():
        (root / folder / f"{name}.pkl").write_bytes(pickle.dumps(value, protocol=protocol))


def tone(seconds: float, pitch_hz: float, rate: int = 22_050) -> np.ndarray:
    """A tone that grows louder, so that every place in it sounds different."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * time / max(seconds, 0.1) * np.sin(2 * np.pi * pitch_hz * time)).astype(np.float32)


def write_music(media: Path, music: str, seconds: float, pitch_hz: float, rate: int = 22_050) -> None:
    media.mkdir(exist_ok=True)
    soundfile.write(media / f"{music}.wav", tone(seconds, pitch_hz, rate), rate, subtype="PCM_16")


def write_dance_video(media: Path, name: str, frames: int, sound: np.ndarray | None, rate: int = 22_050) -> None:
    """A video at 60 fps, 192 x 108."""
    media.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 200, (108, 192, 3)).astype(np.uint8)
    write_video(
        media / f"{name}.mp4",
        (np.roll(picture, k, axis=1) for k in range(frames)),
        60,
        audio=sound,
        sample_rate=None if sound is None else rate,
        preset="ultrafast",
    )
