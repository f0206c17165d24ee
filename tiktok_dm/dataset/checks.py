"""What must hold of one clip's row: checksums, lengths, poses, and picture and sound at the same time.

Not for what only several rows show (ids, splits, segments): that is `verify`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.reading import decode_audio, stored_bytes, video_frames

SYNC_TOLERANCE_S = 0.010
# Rounding of container time bases and of resampling; far below a frame.
_LENGTH_TOLERANCE_S = 0.005
_COVERAGE_TOLERANCE = 0.001  # records are rounded
_SEARCH_S = 0.25  # how far apart the two sounds are looked for
_HEARD_S = 20.0  # how much of a clip is compared; more does not make it surer
_SILENCE = 1e-3  # root mean square below which there is nothing to compare
_SAME = 0.3  # correlation of a sound with itself through AAC is above 0.9, of two songs below 0.1


def clip_problems(
    row: Mapping[str, Any], *, decode: bool = True
) -> tuple[list[str], np.ndarray | None, tuple[float, float]]:
    """Everything wrong with a clip's row, its samples (None where they cannot be read), and two offsets in s.

    Args:
        row: a row of `clips`, media undecoded, `pose` as an array (frames, 5, 25, 3).
        decode: decode the video too; without it the offsets are 0.

    Returns:
        sentences; samples float32 (samples,); how much later the sound of `video` starts than its picture, and how much
        later it is heard there than in `audio`.
    """
    problems = [*_stored_problems(row), *_pose_problems(row), *_music_problems(row)]
    samples: np.ndarray | None = None
    try:
        samples, rate = decode_audio(row["audio"])
        problems += _length_problems(row, samples, rate)
        if samples.ndim != 1 or rate != schema.SAMPLE_RATE:
            samples = None
    except UserError as error:
        problems.append(str(error))
    offsets = (0.0, 0.0)
    if decode:
        try:
            found, offsets = _video_problems(row, samples)
            problems += found
        except UserError as error:
            problems.append(str(error))
    return problems, samples, offsets


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's values as float32, whatever its shape."""
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()


def _stored_problems(row: Mapping[str, Any]) -> Iterator[str]:
    for name in ("video", "audio"):
        data = (row[name] or {}).get("bytes")
        if not data:
            yield f"holds no bytes in {name}"
        elif hashlib.sha256(data).hexdigest() != row[f"{name}_sha256"]:
            yield f"has another SHA-256 of {name} than {name}_sha256 says"
    if abs(row["end_s"] - row["start_s"] - row["duration_s"]) > _LENGTH_TOLERANCE_S:
        yield f"lasts {row['duration_s']:.3f} s but runs from {row['start_s']:.3f} s to {row['end_s']:.3f} s"
    x, y, width, height = row["content_box"]
    if min(x, y) < 0 or min(width, height) < 1 or x + width > row["width"] or y + height > row["height"]:
        yield f"has a content box {list(row['content_box'])} outside its {row['width']} x {row['height']} picture"


def _pose_problems(row: Mapping[str, Any]) -> Iterator[str]:
    pose = row["pose"]
    wanted = row["duration_s"] * schema.POSE_FPS
    if abs(len(pose) - wanted) > 1.5:
        yield f"has {len(pose)} poses where {wanted:.0f} belong to its {row['duration_s']:.3f} s"
    if not np.isfinite(pose).all():
        yield "has poses that are not finite numbers"
    elif len(pose) and not (pose[..., 2].min() >= 0 and pose[..., 2].max() <= 1):
        yield "has pose confidences outside 0..1"
    shown = int((pose != 0).any(axis=(0, 2, 3)).sum())
    if shown > min(row["n_dancers"], schema.MAX_DANCERS):
        yield f"has poses of {shown} dancers where n_dancers says {row['n_dancers']}"
    covered = float((pose != 0).any(axis=(1, 2, 3)).mean()) if len(pose) else 0.0
    if abs(covered - row["pose_coverage"]) > _COVERAGE_TOLERANCE:
        yield f"says pose_coverage = {row['pose_coverage']:.3f}, though {covered:.3f} of its poses show a dancer"
    if not 0 <= row["pose_coverage"] <= 1 or not 0 <= row["pose_confidence"] <= 1:
        yield "has a pose_coverage or pose_confidence outside 0..1"


def _music_problems(row: Mapping[str, Any]) -> Iterator[str]:
    beats = np.asarray(row["beats_s"], float)
    if len(beats) and (beats[0] < 0 or beats[-1] > row["duration_s"] + 0.1 or (np.diff(beats) <= 0).any()):
        yield "has beats that do not rise from 0 to its duration"


def _length_problems(row: Mapping[str, Any], samples: np.ndarray, rate: int) -> Iterator[str]:
    if rate != schema.SAMPLE_RATE or samples.ndim != 1:
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        yield f"holds sound of {channels} channels at {rate} Hz where mono at {schema.SAMPLE_RATE} Hz belongs"
    elif abs(len(samples) / rate - row["duration_s"]) > _LENGTH_TOLERANCE_S:
        yield f"holds {len(samples) / rate:.3f} s of sound where its duration is {row['duration_s']:.3f} s"


def _video_problems(row: Mapping[str, Any], samples: np.ndarray | None) -> tuple[list[str], tuple[float, float]]:
    problems = []
    frames, first, last, size = 0, 0.0, 0.0, (0, 0)
    for t_s, picture in video_frames(row["video"]):
        first = t_s if not frames else first
        last, size, frames = t_s, (picture.width, picture.height), frames + 1
    if not frames:
        return ["holds a video without a picture"], (0.0, 0.0)
    frame_s = 1 / row["fps"]
    if abs(frames - row["duration_s"] * row["fps"]) > 1.5:
        wanted = row["duration_s"] * row["fps"]
        problems.append(f"holds {frames} pictures where {wanted:.0f} belong to its duration and frame rate")
    if abs(last - first + frame_s - row["duration_s"]) > max(2 * frame_s, 0.05):
        problems.append(
            f"holds a video of {last - first + frame_s:.3f} s where its duration is {row['duration_s']:.3f} s"
        )
    if size != (row["width"], row["height"]):
        told = f"{row['width']} x {row['height']}"
        problems.append(f"holds pictures of {size[0]} x {size[1]} where its row says {told}")
    sound = video_sound(row["video"])
    if sound is None:
        if samples is not None and _loud(samples):
            problems.append("holds a video without sound, though its audio is not silent")
        return problems, (0.0, 0.0)
    heard, begin = sound
    start = begin - first
    if abs(start) > SYNC_TOLERANCE_S:
        problems.append(f"holds a video whose sound starts {1000 * start:.1f} ms after its picture (at most 10 belong)")
    if samples is None or not _loud(samples):
        return problems, (start, 0.0)
    lag, likeness = sound_offset(heard, samples)
    if likeness < _SAME:
        problems.append("holds another sound in its video than in its audio")
        return problems, (start, 0.0)
    if abs(start + lag) > SYNC_TOLERANCE_S:
        problems.append(
            f"is heard {1000 * (start + lag):.1f} ms later in its video than in its audio (at most 10 belong)"
        )
    return problems, (start, start + lag)


def video_sound(value: Mapping[str, Any] | bytes) -> tuple[np.ndarray, float] | None:
    """Sound of a video value: float32 (samples,) at 22,050 Hz, mono, and the time of its first sample, s; None if none.

    Raises:
        MediaError: the bytes are no video.
    """
    import av
    import soxr

    parts: list[np.ndarray] = []
    begin, rate, resampler = 0.0, 0, None
    try:
        with av.open(io.BytesIO(stored_bytes(value)), "r") as container:
            if not container.streams.audio:
                return None
            for frame in container.decode(container.streams.audio[0]):
                if resampler is None:
                    begin, rate = float(frame.time or 0.0), frame.sample_rate
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
    except av.FFmpegError as error:
        raise MediaError(f"the sound in a stored video cannot be decoded ({error})") from error
    if not parts:
        return None
    return soxr.resample(np.concatenate(parts), rate, schema.SAMPLE_RATE).astype(np.float32), begin


def sound_offset(late: np.ndarray, early: np.ndarray) -> tuple[float, float]:
    """How much later (s) the same sound stands in `late` than in `early`, and how alike they are there, 0..1.

    The peak of the cross-correlation within a quarter of a second, over their root energies. Both are (samples,) at
    22,050 Hz.
    """
    from scipy.signal import correlate

    most = round(_HEARD_S * schema.SAMPLE_RATE)
    a, b = late[:most].astype(np.float64), early[:most].astype(np.float64)
    energy = float(np.sqrt((a @ a) * (b @ b)))
    if not energy:
        return 0.0, 0.0
    reach = round(_SEARCH_S * schema.SAMPLE_RATE)
    both = correlate(a, b, mode="full", method="fft")
    zero = len(b) - 1
    low, high = max(0, zero - reach), min(len(both), zero + reach + 1)
    peak = low + int(np.argmax(both[low:high]))
    return (peak - zero) / schema.SAMPLE_RATE, float(both[peak]) / energy


def _loud(samples: np.ndarray) -> bool:
    return bool(len(samples)) and float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) > _SILENCE
