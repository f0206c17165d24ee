"""Sound of a media file by its time stamps: sample-accurate, gaps and late starts as silence.

Not for writing sound (`encoding`) and not for what it means (`pipeline.music`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


# Share of each speaker in the left and the right channel (ITU-R BS.775; low-frequency effects are left out, as there).
_HALF = math.sqrt(0.5)
_BOTH = {"FC": _HALF, "BC": 0.5}
_LEFT = _BOTH | {"FL": 1.0, "WL": 1.0, "BL": _HALF, "SL": _HALF, "FLC": _HALF, "TFL": _HALF, "TBL": 0.5}
_RIGHT = _BOTH | {"FR": 1.0, "WR": 1.0, "BR": _HALF, "SR": _HALF, "FRC": _HALF, "TFR": _HALF, "TBR": 0.5}
_OPPOSED = 0.02  # the mean of two channels that are each other's opposite has less than this of their energy
_LOOKED_AT_S = 20


def mixed_down(sound: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
    """Float32 (channels, samples) of named speakers as (2, samples), never louder than full scale.

    The coefficients are ITU-R BS.775's, divided by their sum, so that nothing clips where all speakers play at once.
    Speakers without a name that is known count for both sides.
    """
    known = any(name in _LEFT or name in _RIGHT for name in speakers)
    mix = np.array(
        [[side.get(name, 0.0) if known else 1.0 for name in speakers] for side in (_LEFT, _RIGHT)], np.float32
    )
    mix /= np.maximum(mix.sum(axis=1, keepdims=True), 1e-9)
    return mix @ sound


class Timeline:
    """Sound from `start` on, read in consecutive blocks; memory does not grow with length.

    Args:
        source: the open file, which has sound; its position is moved.
        start: seconds from the file's first instant at which sample 0 lies.
        channels: 1 (the mean of left and right; the left one where they are each other's opposite, which a mean would
            silence) or 2; None: the file's own, at most 2. More channels are mixed down by `mixed_down`.
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
        self._opposed = self.channels == 1 and context.layout.nb_channels == 2 and _opposed(source)

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
                self._resampler = av.AudioResampler("fltp", frame.layout, self.sample_rate)
                self._resampler_key = key
            frames = self._resampler.resample(frame)
        arrays = []
        for piece in frames:
            array = piece.to_ndarray()
            if array.shape[0] > 2:
                array = mixed_down(array, [channel.name for channel in piece.layout.channels])
            if self.channels == 1 and array.shape[0] == 2:
                array = array[:1] if self._opposed else array.mean(axis=0, keepdims=True, dtype=np.float32)
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
                source.rewind()
                stream = source.audio
                assert stream is not None
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
        tick = Fraction(self.source.audio.time_base)
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


def _opposed(source: Source) -> bool:
    """Whether left and right are each other's opposite, looked at in the first seconds that are not silent."""
    assert source.audio is not None
    with Source(source.path, "audio", source.audio_track) as own:
        both = mean = 0.0
        heard = 0
        for packet in packets(own.container, [own.audio]):
            for frame in decode(packet):
                sound = _as_float(frame)
                if sound.shape[0] != 2:
                    return False
                energy = float(np.mean(sound**2))
                if energy > 1e-7:
                    both, mean = both + energy, mean + float(np.mean(sound.mean(axis=0) ** 2))
                    heard += 1
                    if mean > _OPPOSED * both or heard * sound.shape[1] > _LOOKED_AT_S * frame.sample_rate:
                        return mean <= _OPPOSED * both
    return both > 0 and mean <= _OPPOSED * both


def _as_float(frame: Any) -> np.ndarray:
    """A decoded frame as float32 (channels, samples)."""
    pieces = av.AudioResampler("fltp", frame.layout, frame.sample_rate).resample(frame)
    return np.concatenate([np.asarray(piece.to_ndarray(), np.float32) for piece in pieces], axis=1)


def read_audio(
    path: str | PathLike[str],
    *,
    sample_rate: int = 22050,
    mono: bool = True,
    start_s: float | None = None,
    end_s: float | None = None,
    track: int | None = None,
) -> np.ndarray:
    """Sound of a file between two instants, sample-accurate by its time stamps.

    Args:
        path: the file.
        sample_rate: Hz, of the result.
        mono: the mean of left and right; otherwise the file's own channels, at most 2 (more are mixed down).
        start_s: seconds from the file's start; None: 0.
        end_s: likewise; None: the end of the file.
        track: number of the sound track, where it should not be the one that `Source` chooses.

    Returns:
        float32 (samples,) if `mono`, else (samples, channels); exactly `round((end_s - start_s) * sample_rate)`
        samples; gaps, a late start and an early end are silence.

    Raises:
        MediaError: the file cannot be read, or has no sound.
        ValueError: the end comes before the start.
    """
    with Source(path, "audio", track) as source:
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
