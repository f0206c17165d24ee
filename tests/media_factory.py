"""Small odd films, made with PyAV: numbered pictures, flashes with clicks, late sound, turned and oblong pixels."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 10
CELL = 16


def numbered(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A picture that carries its number as bright and dark cells, readable after compression and scaling.

    Ten cells, most significant bit first, five in a row from the upper left; uint8 RGB (height, width, 3).
    """
    picture = np.full((height, width, 3), 90, np.uint8)
    for bit in range(BITS):
        y, x = bit // 5 * CELL, bit % 5 * CELL
        picture[y : y + CELL, x : x + CELL] = 230 if number >> (BITS - 1 - bit) & 1 else 20
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that `numbered` put into a picture."""
    bits = [picture[b // 5 * CELL + 8, b % 5 * CELL + 8].mean() > 128 for b in range(BITS)]
    return int("".join("1" if bit else "0" for bit in bits), 2)


def clicks(times_s: Sequence[float], duration_s: float, sample_rate: int, channels: int = 1) -> np.ndarray:
    """Silence with a click of one millisecond centred on each time: float32 (samples, channels)."""
    t = np.arange(round(duration_s * sample_rate)) / sample_rate
    sound = np.zeros(len(t), np.float32)
    for at in times_s:
        sound += (0.8 * np.exp(-(((t - at) / 0.0003) ** 2))).astype(np.float32)
    return np.repeat(sound[:, None], channels, axis=1)


def click_times(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Times (s) of the loudest sample of each click in mono sound."""
    loud = np.flatnonzero(np.abs(samples) > 0.25)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > sample_rate // 20) + 1) if len(loud) else []
    return np.array([g[np.argmax(np.abs(samples[g]))] / sample_rate for g in groups])


def film(
    path: Path,
    pictures: Sequence[np.ndarray],
    stamps: Sequence[int],
    time_base: Fraction,
    *,
    sound: np.ndarray | None = None,
    sample_rate: int = 48000,
    sound_from_s: float = 0.0,
    gop: int = 12,
    b_frames: int = 0,
    aspect: Fraction | None = None,
    pixel_format: str = "yuv420p",
    codec: str = "libx264",
    sound_codec: str = "aac",
    rotation: int = 0,
) -> Path:
    """Write a film frame by frame; the container follows the file's name.

    Args:
        stamps: each picture's time stamp in ticks of `time_base`; the last one lasts as long as the one before.
        sound: float32 (samples, channels); begins at `sound_from_s`.
        gop, b_frames: key-frame distance and number of B-frames of x264.
        aspect: of a pixel, where it is not square.
        rotation: degrees clockwise by which a player has to turn the pictures.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as out:
        rate = Fraction(len(stamps) - 1, stamps[-1] - stamps[0]) / time_base
        options = {"crf": "12", "preset": "ultrafast", "bf": str(b_frames), "sc_threshold": "0"}
        video = out.add_stream(codec, rate=rate.limit_denominator(1001), options=options if "264" in codec else {})
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        video.codec_context.time_base = time_base
        video.codec_context.gop_size = gop
        video.time_base = time_base
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(-rotation)
        heard = None
        if sound is not None:
            layout = "mono" if sound.shape[1] == 1 else "stereo"
            heard = out.add_stream(sound_codec, rate=sample_rate, layout=layout)
        durations = dict(zip(stamps, [*np.diff(stamps).tolist(), stamps[-1] - stamps[-2]], strict=True))
        position = 0
        for picture, stamp in zip(pictures, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = stamp, time_base
            for packet in video.encode(frame):
                packet.duration = durations.get(packet.pts, 1)
                out.mux(packet)
            until = int(float((stamp + durations[stamp]) * time_base - Fraction(sound_from_s)) * sample_rate)
            while heard is not None and sound is not None and position + 1024 <= min(until, len(sound)):
                position = _sound(out, heard, sound, position, 1024, sample_rate, sound_from_s)
        for packet in video.encode(None):
            packet.duration = durations.get(packet.pts, 1)
            out.mux(packet)
        while heard is not None and sound is not None and position < len(sound):
            position = _sound(out, heard, sound, position, min(1024, len(sound) - position), sample_rate, sound_from_s)
        if heard is not None:
            out.mux(heard.encode(None))
    return path


def _sound(out, heard, sound, position, count, sample_rate, sound_from_s) -> int:
    block = np.ascontiguousarray(sound[position : position + count].T)
    frame = av.AudioFrame.from_ndarray(block, "fltp", heard.codec_context.layout.name)
    frame.sample_rate = sample_rate
    frame.pts = position + round(sound_from_s * sample_rate)
    frame.time_base = Fraction(1, sample_rate)
    out.mux(heard.encode(frame))
    return position + count


def constant(n: int, fps: Fraction) -> tuple[list[int], Fraction]:
    """(time stamps, time base) of n frames at a constant rate."""
    return [k * fps.denominator for k in range(n)], Fraction(1, fps.numerator)


def variable(n: int, seed: int = 0) -> tuple[list[int], Fraction]:
    """(time stamps, time base) of n frames 1/60 to 1/12 s apart, in ticks of 1/90000 s."""
    rng = np.random.default_rng(seed)
    return [0, *np.cumsum(rng.integers(1500, 7500, n - 1)).tolist()], Fraction(1, 90000)


def flashing(
    path: Path,
    stamps: list[int],
    time_base: Fraction,
    every: int,
    *,
    sample_rate: int = 48000,
    channels: int = 1,
    **more,
) -> tuple[Path, list[float]]:
    """A dark film that flashes white on every `every`-th frame, with a click at each flash's very instant.

    Returns:
        The film and the times of its flashes.
    """
    times = [float(s * time_base) for s in stamps]
    dark, white = np.full((48, 64, 3), 16, np.uint8), np.full((48, 64, 3), 240, np.uint8)
    lit = [i for i in range(len(stamps)) if i % every == every // 2]
    pictures = [white if i in set(lit) else dark for i in range(len(stamps))]
    flashes = [times[i] for i in lit]
    sound = clicks(flashes, times[-1] + 0.05, sample_rate, channels)
    return film(path, pictures, stamps, time_base, sound=sound, sample_rate=sample_rate, **more), flashes
