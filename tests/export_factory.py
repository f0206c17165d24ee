"""Tiny finished clips, as the stages would leave them, for tests of what is made of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiktok_dm.dataset.rows import ClipItem, DatasetMeta
from tiktok_dm.media import encode_audio, write_video

WIDTH, HEIGHT, FPS, RATE = 96, 64, 30, 22_050

# clip, compilation, song, split, frames, dancers, annotated dancers
CLIPS = (
    (0, 0, 0, "train", 75, 1, 1),  # 2.5 s: one segment
    (1, 0, 0, "train", 120, 3, None),  # exactly 4 s: two segments
    (3, 1, 2, "train", 33, 2, 2),  # 1.1 s: none
    (7, 1, 1, "test", 61, 1, 1),  # 2.033 s: one segment
)

HOSTILE = "</script><b>bold</b> & \"quoted\" | pipe `tick` {{ 7 * 7 }} 'q'"

META = DatasetMeta(
    name="tiny",
    title=f"Tiny dances {HOSTILE}",
    license="cc-by-4.0",
    homepage="https://example.org/tiny",
    citation="@misc{tiny,\n  title = {Tiny}\n}",
    description="A few rendered clips.",
    parameters={"max_height": 720, "poses": {"estimator": "mediapipe", "threshold": 0.3}},
    tools={"av": "18.1.0", "ai-edge-litert": "2.3.0"},
    ledger=(
        {"item": "compilation:0", "stage": "acquire", "status": "ok", "reason": "", "error": "", "message": ""},
        {"item": "compilation:1", "stage": "acquire", "status": "ok", "reason": "", "error": "", "message": ""},
        {
            "item": "compilation:2",
            "stage": "acquire",
            "status": "gone",
            "reason": "private",
            "error": "Gone",
            "message": "ERROR: <Private video> & gone",
        },
        *(
            {"item": f"clip:{n}", "stage": "export", "status": "ok", "reason": "", "error": "", "message": ""}
            for n in (0, 1, 3, 7)
        ),
        {
            "item": "clip:4",
            "stage": "music",
            "status": "filtered",
            "reason": "the source has no sound",
            "error": "Filtered",
            "message": "the source has no sound",
        },
        {
            "item": "clip:5",
            "stage": "segment",
            "status": "failed",
            "reason": "cannot read <frame> 12",
            "error": "MediaError",
            "message": "cannot read <frame> 12\nof file x",
        },
        {
            "item": "clip:8",
            "stage": "acquire",
            "status": "gone",
            "reason": "private",
            "error": "Gone",
            "message": "its compilation is gone",
        },
    ),
    plan_clips=7,
    plan_compilations=3,
    songs={0: {"title": HOSTILE, "artist": "A <i>band</i>"}, 1: {"title": "One", "artist": ""}},
    tombstones=({"kind": "clip", "id": 9, "reason": "asked <us> to"},),
    pose_accuracy={"recall": 0.991, "mean_error_torso": 0.041, "pck02": 0.996},
    planned=tuple(
        {"clip_id": clip, "compilation_id": compilation, "song_id": song}
        for clip, compilation, song in ((0, 0, 0), (1, 0, 0), (3, 1, 2), (4, 1, 1), (5, 0, 0), (7, 1, 1), (8, 2, 3))
    ),
    sources={0: "dances_0.mp4", 1: "https://example.org/watch?v=1&t=2", 2: "https://example.org/gone"},
)


def pictures(clip_id: int, frames: int) -> list[np.ndarray]:
    """A bright block that moves right by a pixel a frame, on a ground that names the clip; (64, 96, 3) each."""
    shown = []
    for k in range(frames):
        picture = np.full((HEIGHT, WIDTH, 3), 40 + 10 * clip_id, np.uint8)
        picture[20:44, k % 80 : k % 80 + 16] = (240, 220, 60)
        shown.append(picture)
    return shown


def sound(clip_id: int, seconds: float) -> np.ndarray:
    """Noise bursts, ten a second, so that any shift in time shows; float32 (samples,)."""
    rng = np.random.default_rng(clip_id)
    t = np.arange(round(seconds * RATE)) / RATE
    envelope = np.exp(-12 * (t * 10 % 1)) * (0.5 + 0.5 * rng.random(len(t) // 2205 + 1))[(t * 10).astype(int)]
    noise = np.convolve(rng.standard_normal(len(t)), np.ones(8) / 8, mode="same")
    return (0.5 * envelope * noise).astype(np.float32)


def skeletons(clip_id: int, frames: int, dancers: int) -> np.ndarray:
    """(frames, dancers, 25, 3) float32 inside the picture, all different; the last dancer is absent in ten frames."""
    rng = np.random.default_rng(100 + clip_id)
    poses = rng.random((frames, dancers, 25, 3)).astype(np.float32) * np.float32([WIDTH, HEIGHT, 1])
    poses[5:15, -1] = 0
    return poses


def make_items(folder: Path, clips: tuple = CLIPS, *, stereo: bool = False) -> list[ClipItem]:
    """Items with their files in `folder`, in the order of `clips`."""
    return [_make_item(folder, *clip, stereo=stereo) for clip in clips]


def _make_item(
    folder: Path,
    clip_id: int,
    compilation_id: int,
    song_id: int,
    split: str,
    frames: int,
    dancers: int,
    annotated: int | None,
    *,
    stereo: bool,
) -> ClipItem:
    place = folder / str(clip_id)
    place.mkdir(parents=True)
    seconds = frames / FPS
    samples = sound(clip_id, seconds)
    video, audio, pose = place / "clip.mp4", place / "audio.flac", place / "poses.npy"
    write_video(
        video,
        pictures(clip_id, frames),
        FPS,
        audio=np.stack([samples, samples], axis=1) if stereo else samples,
        sample_rate=RATE,
        preset="ultrafast",
    )
    audio.write_bytes(encode_audio(samples, RATE, "flac"))
    poses = skeletons(clip_id, frames, dancers)
    np.save(pose, poses)
    start_s = 10.0 * clip_id + 0.5
    found = (poses[..., 2] > 0).any(axis=2)
    return ClipItem(
        clip_id=clip_id,
        compilation_id=compilation_id,
        song_id=song_id,
        split=split,
        annotated_start_s=start_s + 0.01,
        annotated_end_s=start_s + seconds,
        segment={
            "start_s": start_s,
            "end_s": start_s + seconds,
            "duration_s": seconds,
            "n_frames": frames,
            "width": WIDTH,
            "height": HEIGHT,
            "fps": float(FPS),
            "has_audio": True,
            "content_box": [8, 0, 80, 64],
            "video_sha256": _sha(video),
            "audio_sha256": _sha(audio),
        },
        poses={
            "n_frames": frames,
            "n_dancers": dancers,
            "coverage": float(found.any(axis=1).mean()),
            "coverage_by_dancer": [float(share) for share in found.mean(axis=0)],
            "mean_confidence": float(poses[..., 2][poses[..., 2] > 0].mean()),
            "estimator": "mediapipe",
            "estimator_version": "0.10.21",
            "weights_sha256": "ab" * 32,
            "best_frame": frames // 2,
        },
        music={
            "tempo_bpm": 100.0 + clip_id,
            "beats_s": [0.1 + 0.5 * k for k in range(int(seconds * 2))],
            "loudness_lufs": -20.5 + clip_id,
            "onset_rate_hz": 10.0,
        },
        n_dancers_annotated=annotated,
        source=META.sources[compilation_id],
        source_sha256=f"{compilation_id}" * 64,
        video=video,
        audio=audio,
        pose=pose,
    )


def with_split(items: list[ClipItem], split: str) -> list[ClipItem]:
    """The same clips, all in one split."""
    return [replace(item, split=split) for item in items]


def changed(item: ClipItem, **records: dict[str, Any]) -> ClipItem:
    """An item with some entries of its records replaced: `changed(item, music={"tempo_bpm": 90.0})`."""
    return replace(item, **{name: {**getattr(item, name), **entries} for name, entries in records.items()})


def private_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let `datasets` keep its copies in `folder`, ask no hub and draw no bars."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
