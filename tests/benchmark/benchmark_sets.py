"""Sounds whose beats are known, as folders and as a dataset, for the benchmark's tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.benchmark.clip_features import ClipFeatures, FeatureCache, Pulse, checksum
from tiktok_dm.media import encode_audio
from tiktok_dm.schema import MAX_DANCERS, SAMPLE_RATE, SEGMENT_POSES, SEGMENT_SAMPLES, segment_id

# clip: compilation, song, split, beats a minute, beat offset in s, dancers, seconds
CLIPS = {
    0: (0, 0, "train", 100.0, 0.20, 1, 4.0),
    1: (0, 1, "test", 96.0, 0.10, 1, 6.0),
    2: (0, 1, "test", 96.0, 0.35, 2, 6.5),
    3: (1, 2, "test", 131.0, 0.05, 1, 6.0),
    4: (1, 3, "test", 117.0, 0.30, 3, 11.0),
    5: (1, 4, "test", 141.0, 0.15, 1, 6.0),
}


def beat_times(bpm: float, offset_s: float, seconds: float) -> np.ndarray:
    """Beats, s."""
    return np.arange(offset_s, seconds - 0.02, 60 / bpm)


def pulse_train(bpm: float, offset_s: float, seconds: float) -> np.ndarray:
    """A low thump on each beat over quiet noise, float32 (samples,)."""
    rng = np.random.default_rng(round(1000 * bpm + 100 * offset_s))
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = 0.002 * rng.standard_normal(len(time))
    for beat in beat_times(bpm, offset_s, seconds):
        since = np.maximum(time - beat, 0)
        sound += (
            (time >= beat) * 0.6 * np.exp(-18 * since) * (np.sin(2 * np.pi * 110 * since) + 0.3 * rng.standard_normal())
        )
    return np.clip(sound, -1, 1).astype(np.float32)


def dance(bpm: float, offset_s: float, seconds: float, dancers: int) -> np.ndarray:
    """Poses (frames, 5, 25, 3) that stand still on each beat and move between; absent dancers are zeros."""
    frames = round(seconds * 30)
    phase = (np.arange(frames) / 30 - offset_s) * bpm / 60
    # The place's derivative is 1 - cos(2 pi phase): zero on the beat.
    place = 60 * (phase - np.sin(2 * np.pi * phase) / (2 * np.pi))
    poses = np.zeros((frames, MAX_DANCERS, 25, 3), np.float32)
    for dancer in range(dancers):
        poses[:, dancer, :, 0] = 200 + 100 * dancer + np.arange(25) + place[:, None]
        poses[:, dancer, :, 1] = 100 + 4 * np.arange(25)
        poses[:, dancer, :, 2] = 0.5 + 0.1 * dancer
    return poses


def clip_sounds() -> dict[int, np.ndarray]:
    """The music of `CLIPS`."""
    return {clip: pulse_train(bpm, offset, seconds) for clip, (_, _, _, bpm, offset, _, seconds) in CLIPS.items()}


def write_dataset(folder: Path) -> Path:
    """`CLIPS` as a built dataset writes its Parquet files, clips and segments, with a card that only names it."""
    from tiktok_dm.dataset.rows import ShardWriter

    sounds = clip_sounds()
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# a dataset\n", encoding="utf-8")
    for split in ("train", "test"):
        with (
            ShardWriter(folder / "data" / "clips", "clips", split, 2**24) as clips,
            ShardWriter(folder / "data" / "segments", "segments", split, 2**24) as segments,
        ):
            for clip, values in CLIPS.items():
                if values[2] == split:
                    row = clip_row(clip, sounds[clip])
                    clips.add(row)
                    for segment in segment_rows(row, sounds[clip]):
                        segments.add(segment)
            clips.finish()
            segments.finish()
    return folder


def clip_row(clip: int, sound: np.ndarray) -> dict[str, Any]:
    """One row of `clips`."""
    compilation, song, split, bpm, offset, dancers, seconds = CLIPS[clip]
    media = {"bytes": encode_audio(sound, SAMPLE_RATE, "flac"), "path": f"clip_{clip:06d}.flac"}
    return {
        "clip_id": clip,
        "compilation_id": compilation,
        "song_id": song,
        "split": split,
        "start_s": 0.0,
        "end_s": seconds,
        "duration_s": seconds,
        "fps": 30.0,
        "width": 640,
        "height": 480,
        "content_box": [0, 0, 640, 480],
        "n_dancers": dancers,
        "n_dancers_annotated": None,
        "video": {"bytes": b"", "path": "none.mp4"},
        "audio": media,
        "pose": dance(bpm, offset, seconds, dancers),
        "pose_fps": 30.0,
        "pose_coverage": 1.0,
        "pose_confidence": 0.5 + 0.05 * clip,
        "pose_model": "none",
        "beats_s": list(beat_times(bpm, offset, seconds)),
        "tempo_bpm": bpm,
        "loudness_lufs": -16.0,
        "source": "none",
        "source_sha256": "0" * 64,
        "video_sha256": "0" * 64,
        "audio_sha256": "0" * 64,
    }


def segment_rows(row: Mapping[str, Any], sound: np.ndarray) -> list[dict[str, Any]]:
    """Its whole two-second segments."""
    rows = []
    for k in range(len(sound) // SEGMENT_SAMPLES):
        name = segment_id(row["compilation_id"], row["song_id"], row["clip_id"], k + 1)
        part = sound[k * SEGMENT_SAMPLES : (k + 1) * SEGMENT_SAMPLES]
        motion = row["pose"][k * SEGMENT_POSES : (k + 1) * SEGMENT_POSES, 0].reshape(SEGMENT_POSES, 75)
        rows.append(
            {
                "segment_id": name,
                **{key: row[key] for key in ("clip_id", "compilation_id", "song_id", "split", "n_dancers")},
                "segment_index": k + 1,
                "start_s": 2.0 * k,
                "audio": {"bytes": encode_audio(part, SAMPLE_RATE, "flac"), "path": f"{name}.flac"},
                "motion": motion,
            }
        )
    return rows


def write_wav(path: Path, sound: np.ndarray, rate: int = SAMPLE_RATE, subtype: str = "FLOAT") -> Path:
    """A wav file, float unless said otherwise: the samples come back as they are."""
    import soundfile

    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def injected(cache: FeatureCache, sound: np.ndarray, d2m: list[float], loris: list[float] | None = None) -> np.ndarray:
    """Let `evaluate` find these onsets in this sound, through the cache, without any detector."""
    features = ClipFeatures(
        samples=len(sound),
        peak_dbfs=-3.0,
        onsets_s={"d2m": np.array(d2m), "loris": np.array(d2m if loris is None else loris)},
        whole=Pulse(np.array(d2m), 120.0),
        windows=(),
    )
    cache.put(checksum(sound), "", features)
    return sound
