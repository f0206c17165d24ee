"""Sound of a media file by its time stamps: sample-accurate, gaps and late starts as silence.

Not for writing sound (`encoding`) and not for what it means (`pipeline.music`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from typing import Any

import av
import numpy as np

from tiktok_dm.media.source import Source, decode, packets

# Codecs want packets before the wanted one: overlapping transforms, MP3's bit reservoir, Opus' 80 ms.
_PREROLL_S = Fraction(1, 2)
_BACKSTEPS_S = (0, 5)
# Time stamps jitter (a container may count milliseconds): smaller jumps than this are no gap.
_JITTER_S = 0.004
_BLOCK = 1 << 16


class Timeline:
    """Sound from `start` on, read in consecutive blocks; memory does not grow with length.

    Args:
        source: the open file, which has sound; its position is moved.
        start: seconds from the file's first instant at which sample 0 lies.
        channels: 1 (the mean of left and right) or 2; None: the file's own, at most 2.
        sample_rate: Hz, where it should not be the file's own.

    Attributes:
        sample_rate: Hz.
        channels: of the blocks.
        reached: seconds from the file's first instant up to which sound was found.
    """

    def __init__(
        self, source: Source, start: Fraction, channels: int | None = None, sample_rate: int | None = None
    ) -> None:
        assert source.audio is not None
        context = source.audio.codec_context
        self.source, self.start = source, start
        self.sample_rate: int = sample_rate or context.sample_rate
        self._stored = 1 if context.layout.nb_channels == 1 else 2
        self.channels = channels or self._stored
        self.reached = Fraction(0)
        self._resampler: Any = None
        self._resampler_key: tuple | None = None
        self._blocks = self._placed()
        self._rest = np.zeros((self.channels, 0), np.float32)

    def read(self, samples: int) -> np.ndarray:
        """The next `samples` samples, float32 (channels, samples); silence where the file has none."""
        parts, have = [self._rest], self._rest.shape[1]
        while have < samples:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self.channels, samples - have), np.float32)
            parts.append(block)
            have += block.shape[1]
        joined = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        self._rest = joined[:, samples:]
        return joined[:, :samples]

    def _converted(self, frame: Any) -> list[np.ndarray]:
        """Float32 (channels, samples) arrays of one decoded frame at the timeline's rate."""
        if frame.format.name == "fltp" and frame.layout.nb_channels <= 2 and frame.sample_rate == self.sample_rate:
            frames = [frame]
        else:
            key = (frame.format.name, frame.layout.name, frame.sample_rate)
            if key != self._resampler_key:
                layout = "mono" if frame.layout.nb_channels == 1 else "stereo"
                self._resampler = av.AudioResampler("fltp", layout, self.sample_rate)
                self._resampler_key = key
            frames = self._resampler.resample(frame)
        arrays = []
        for piece in frames:
            array = piece.to_ndarray()
            if self.channels == 1 and array.shape[0] == 2:
                array = array.mean(axis=0, keepdims=True, dtype=np.float32)
            elif self.channels == 2 and array.shape[0] == 1:
                array = np.repeat(array, 2, axis=0)
            arrays.append(np.asarray(array, np.float32))
        return arrays

    def _frames(self) -> Iterator[tuple[int, Any]]:
        """(index of the first sample on this timeline, frame) from before the start, after a seek that fits."""
        source, stream = self.source, self.source.audio
        assert stream is not None
        want = self.start - _PREROLL_S
        steps: list[int | None] = [step for step in _BACKSTEPS_S if want - step > 0]
        for step in [*steps, None]:
            if step is not None:
                source.container.seek(math.floor((want - step + source.origin) / stream.time_base), stream=stream)
            elif steps:
                source.container.seek(min(0, stream.start_time or 0), stream=stream)
            found = False
            for packet in packets(source.container, [stream]):
                for frame in decode(packet):
                    if frame.pts is None:
                        continue
                    time = frame.pts * Fraction(frame.time_base or stream.time_base) - source.origin
                    if step is not None and not found and time > self.start:
                        break
                    found = True
                    yield round((time - self.start) * self.sample_rate), frame
                else:
                    continue
                break
            if found:
                return

    def _placed(self) -> Iterator[np.ndarray]:
        following: int | None = None  # index that the next sample has when there is no gap
        given = 0
        tick = Fraction(self.source.audio.time_base)  # type: ignore[union-attr]
        jitter = max(math.ceil(1.5 * tick * self.sample_rate), round(_JITTER_S * self.sample_rate))
        for stamped, frame in self._frames():
            index = stamped if following is None or abs(stamped - following) > jitter else following
            for array in self._converted(frame):
                end = index + array.shape[1]
                following = max(end, following or end)
                self.reached = self.start + Fraction(end, self.sample_rate)
                if end > given:
                    while given < index:
                        silence = min(index - given, _BLOCK)
                        yield np.zeros((self.channels, silence), np.float32)
                        given += silence
                    yield array[:, given - index :]
                    given = end
                index = end


def read_audio(
    path: str | PathLike[str],
    *,
    sample_rate: int = 22050,
    mono: bool = True,
    start_s: float | None = None,
    end_s: float | None = None,
) -> np.ndarray:
    """Sound of a file between two instants, sample-accurate by its time stamps.

    Args:
        path: the file.
        sample_rate: Hz, of the result.
        mono: the mean of left and right; otherwise the file's own channels, at most 2 (more are mixed down).
        start_s: seconds from the file's start; None: 0.
        end_s: likewise; None: the end of the file.

    Returns:
        float32 (samples,) if `mono`, else (samples, channels); exactly `round((end_s - start_s) * sample_rate)`
        samples; gaps, a late start and an early end are silence.

    Raises:
        MediaError: the file cannot be read, or has no sound.
        ValueError: the end comes before the start.
    """
    with Source(path, need="audio") as source:
        start = Fraction(start_s) if start_s is not None else Fraction(0)
        end = Fraction(end_s) if end_s is not None else source.duration
        if end < start:
            raise ValueError(f"end {float(end)} s comes before start {float(start)} s")
        timeline = Timeline(source, start, 1 if mono else None)
        wanted = round((end - start) * sample_rate)
        native = math.ceil((end - start) * timeline.sample_rate)
        sound = np.zeros((wanted, timeline.channels), np.float32)
        filled = 0
        for block in _resampled(timeline, native, sample_rate):
            taken = block[: wanted - filled]
            sound[filled : filled + len(taken)] = taken
            filled += len(taken)
    return sound[:, 0] if mono else sound


def _resampled(timeline: Timeline, native: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks (samples, channels) of `native` samples of a timeline, brought to `sample_rate`."""
    stream = None
    if sample_rate != timeline.sample_rate:
        import soxr

        stream = soxr.ResampleStream(
            timeline.sample_rate, sample_rate, timeline.channels, dtype="float32", quality="HQ"
        )
    done = 0
    while done < native:
        count = min(_BLOCK, native - done)
        done += count
        block = np.ascontiguousarray(timeline.read(count).T)
        yield (
            block
            if stream is None
            else stream.resample_chunk(block, last=done == native).reshape(-1, timeline.channels)
        )
