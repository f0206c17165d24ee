"""Write sound and video: FLAC and WAV bytes, H.264 + AAC films, a film with new sound.

Not for cutting a source (`cutting`). Everything is bit-exact: the same input gives the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from itertools import chain, pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from tiktok_dm.errors import DiskFull, MediaError, is_no_room
from tiktok_dm.media.frames import Transform, color_matrix, decoded, frame_end
from tiktok_dm.media.source import Source, decode, packets, stored_geometry

# ISO/IEC 14496-3 sampling frequencies that the encoder takes.
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_AAC_FRAME = 1024
# x264's macroblock tree reads memory that nobody wrote when the picture is not a whole number of macroblocks high and
# the processor has AVX-512: the same input then gives one of several outputs. Without it the bytes are always the same.
_X264 = "mbtree=0"
# What a nearly full disk still shows as free.
_LAST_BYTES = 1 << 16


@cache
def ffmpeg_executable() -> str | None:
    """Path of an ffmpeg program that starts: the first on the PATH, else the packaged one, or None.

    The package is imageio-ffmpeg (extra `youtube`). A program that lacks a library is passed over: it would fail at
    each video.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = [path for folder in folders if folder and (path := shutil.which("ffmpeg", path=folder))]
    with contextlib.suppress(ImportError, RuntimeError):  # RuntimeError: a package without its binary
        import imageio_ffmpeg

        found.append(imageio_ffmpeg.get_ffmpeg_exe())
    for path in found:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([path, "-version"], capture_output=True, timeout=20, check=False).returncode == 0:
                return path
    return None


def encode_audio(samples: np.ndarray, sample_rate: int, format: str = "flac") -> bytes:
    """Sound as the bytes of a 16-bit file.

    Args:
        samples: float in -1..1 (beyond is clipped), (samples,) or (samples, channels).
        sample_rate: Hz.
        format: `flac` or `wav`.

    Raises:
        ValueError: another format (the other ones put random numbers into their headers).
    """
    import soundfile

    if format not in ("flac", "wav"):
        raise ValueError(f"format {format!r} is not flac or wav")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), sample_rate, format=format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def encode_jpeg(picture: np.ndarray, quality: int = 85) -> bytes:
    """A picture, uint8 RGB (H, W, 3), as the bytes of a JPEG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@contextmanager
def whole_file(out: str | PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `out`, renamed to it on success and removed on failure.

    Raises:
        OSError: with its errno, where the disk, quota or file-size limit is reached.
    """
    out = Path(out)
    partial = out.with_name(f".{out.name}.partial")
    try:
        yield partial
        os.replace(partial, out)
    except av.error.FFmpegError as error:
        if is_no_room(error) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, os.strerror(error.errno or 0), str(out)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_room(folder: Path, out: Path) -> None:
    """Raise DiskFull when the disk is full: FFmpeg does not report what fails when it closes a file."""
    if shutil.disk_usage(folder).free < _LAST_BYTES:
        raise DiskFull(f"No room is left on the disk while writing {out}: make room and start again.")


class Mp4Writer:
    """An MP4 file in the making: one picture stream, and perhaps sound encoded in step with it.

    Args:
        path: where to write.
        timescale: ticks a second of the film's own clock, so that lengths in the header are exact.
    """

    def __init__(self, path: Path, timescale: int | None = None) -> None:
        options = {"movflags": "+faststart"}
        if timescale is not None:
            options["movie_timescale"] = str(timescale)
        self.container = av.open(str(path), "w", format="mp4", options=options)
        self.container.flags |= 0x400  # AVFMT_FLAG_BITEXACT: no versions and no dates inside
        self.audio: Any = None
        self._take: Callable[[int], np.ndarray] | None = None
        self._sent = 0
        self._held: Any = None
        self._first_dts = 0

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            self.container.close()
            return
        try:
            self.container.close()
        except (av.error.FFmpegError, ValueError):
            return  # the first error is the one to show

    def add_h264(
        self,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        crf: int,
        preset: str,
        threads: int,
        gop: int | None = None,
        reorder: bool = True,
    ) -> Any:
        if rate.numerator > 65535 * 2 or rate.denominator > 65535:
            rate = rate.limit_denominator(1001)
        options = {"crf": str(crf), "preset": preset, "x264-params": _X264}
        stream = self.container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = time_base
        context.thread_count = threads
        context.flags |= 0x800000  # AV_CODEC_FLAG_BITEXACT
        if gop is not None:
            context.gop_size = gop
        if not reorder:
            context.max_b_frames = 0
        stream.time_base = time_base
        return stream

    def put_pictures(self, encoded: list[Any], durations: dict[int, int]) -> None:
        """Mux packets with the durations that belong to their time stamps (the encoder does not keep them)."""
        for packet in encoded:
            packet.duration = durations.pop(packet.pts, 1)
            if self._held is None:
                self._first_dts = packet.dts
            else:
                self.container.mux(self._held)
            self._held = packet

    def last_pictures(self, encoded: list[Any], durations: dict[int, int], ticks: int) -> None:
        """As `put_pictures`, for what the encoder gives at the end of a picture track of `ticks` length.

        Readers take the sum of all decoding durations for a track's length; where pictures are reordered and last
        for different times, the packet that comes last has to make up that sum.
        """
        self.put_pictures(encoded, durations)
        self._held.duration = max(self._held.duration, ticks - (self._held.dts - self._first_dts))
        self.container.mux(self._held)
        self._held = None

    def add_aac(self, sample_rate: int, channels: int, take: Callable[[int], np.ndarray]) -> None:
        """Sound from `take(n)`, which gives the next n samples, float32 (channels, n)."""
        # The encoder's thorough search costs a quarter of the picture's time, and is not heard at these bit rates.
        self.audio = self.container.add_stream(
            "aac", rate=sample_rate, layout="mono" if channels == 1 else "stereo", options={"aac_coder": "fast"}
        )
        context = self.audio.codec_context
        context.bit_rate = (96_000 if channels == 1 else 192_000) if sample_rate >= 32000 else 64_000 * channels
        context.flags |= 0x800000
        context.time_base = Fraction(1, sample_rate)
        self._take = take

    def sound_until(self, samples: int, last: bool = False) -> None:
        """Encode and mux the sound before sample `samples`: whole frames, and with `last` also the rest."""
        if self.audio is None or self._take is None:
            return
        while self._sent < samples and (last or self._sent + _AAC_FRAME <= samples):
            count = min(_AAC_FRAME, samples - self._sent)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(self._take(count), np.float32), "fltp", self.audio.codec_context.layout.name
            )
            frame.sample_rate = self.audio.codec_context.sample_rate
            frame.pts, frame.time_base = self._sent, Fraction(1, frame.sample_rate)
            self._sent += count
            self.container.mux(self.audio.encode(frame))
        if last:
            self.container.mux(self.audio.encode(None))


def aac_rate(sample_rate: int) -> int:
    """The sound's own rate where AAC has it, else the next higher one (at most 96 kHz)."""
    return next((rate for rate in _AAC_RATES if rate >= sample_rate), 48000)


def _taker(samples: np.ndarray, sample_rate: int) -> tuple[int, int, int, Callable[[int], np.ndarray]]:
    """(rate, channels, length, take) of an array of sound, brought to a rate that AAC has."""
    sound = np.asarray(samples, np.float32)
    sound = sound[:, None] if sound.ndim == 1 else sound[:, :2]
    rate = aac_rate(sample_rate)
    if rate != sample_rate:
        import soxr

        sound = soxr.resample(sound, sample_rate, rate, quality="HQ")
    position = 0

    def take(count: int) -> np.ndarray:
        nonlocal position
        block = np.ascontiguousarray(sound[position : position + count].T)
        position += count
        return block

    return rate, sound.shape[1], len(sound), take


def write_video(
    path: str | PathLike[str],
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    *,
    audio: np.ndarray | None = None,
    sample_rate: int | None = None,
    crf: int = 20,
    preset: str = "veryfast",
    gop_s: float | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 1,
) -> None:
    """Write pictures (streamed) and sound as an H.264 + AAC MP4, yuv420p, index first.

    Args:
        path: where to write; it appears only when complete.
        frames: uint8 RGB (H, W, 3), all of one size.
        fps: constant frame rate.
        audio: float in -1..1, (samples,) or (samples, channels), at `sample_rate`; begins with the first picture.
        sample_rate: Hz.
        crf: x264's constant quality; lower is better and larger.
        preset: x264's preset.
        gop_s: seconds between key frames; None: x264's own choice.
        size: width and height to scale to; odd sizes lose their last row or column.
        threads: of the encoder; the bytes depend on it.

    Raises:
        ValueError: no frames, frames of several sizes, or sound without a rate.
        OSError: the disk is full.
    """
    if audio is not None and not sample_rate:
        raise ValueError("sound needs its sample_rate")
    rate = Fraction(fps).limit_denominator(1001)
    with whole_file(path) as partial, Mp4Writer(partial, rate.numerator) as writer:
        stream, shape, length, sound_rate, index = None, None, 0, 1, 0
        for index, picture in enumerate(frames):
            if stream is None:
                shape = picture.shape
                width, height = size or (shape[1], shape[0])
                stream = writer.add_h264(
                    (width // 2 * 2, height // 2 * 2),
                    rate,
                    1 / rate,
                    crf,
                    preset,
                    threads,
                    max(1, round(gop_s * rate)) if gop_s else None,
                )
                stream.codec_context.colorspace = 1  # BT.709, said aloud so that every player shows the same
                stream.codec_context.color_range = 1
                if audio is not None and sample_rate:
                    sound_rate, channels, length, take = _taker(audio, sample_rate)
                    writer.add_aac(sound_rate, channels, take)
            if picture.shape != shape:
                raise ValueError(f"frame {index} is {picture.shape}, the first one {shape}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if size is not None and (picture.shape[1], picture.shape[0]) != size:
                frame = frame.reformat(*size, interpolation="BICUBIC")
            if (frame.width % 2, frame.height % 2) != (0, 0):
                even: np.ndarray = frame.to_ndarray()[: frame.height // 2 * 2, : frame.width // 2 * 2]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = index, 1 / rate
            writer.put_pictures(stream.encode(frame), {})
            writer.sound_until(min(length, int((index + 1) / rate * sound_rate)))
        if stream is None:
            raise ValueError("there are no frames to write")
        writer.last_pictures(stream.encode(None), {}, index + 1)
        writer.sound_until(length, last=True)


def mux_audio(
    video: str | PathLike[str],
    audio_samples: np.ndarray,
    sample_rate: int,
    out: str | PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a film with new sound that begins with the file; its picture is copied where MP4 holds its codec.

    Where it can't be copied frame by frame (a codec that MP4 has no place for, a damaged file), it is encoded anew as
    H.264. Every frame of the film is in the result; that is counted.

    Args:
        video: the film; its own sound is left out.
        audio_samples: float in -1..1, (samples,) or (samples, channels).
        sample_rate: Hz.
        out: MP4 to write; it appears only when complete.
        metadata: FFmpeg's names of the container's tags (`title`, `comment`, `copyright`, ...) and their texts.

    Raises:
        MediaError: as `probe`; or a picture that can be neither copied nor decoded.
        OSError: the disk is full.
    """
    sound = (audio_samples, sample_rate, dict(metadata or {}))
    if not _copied(video, *sound, out):
        _encoded(video, *sound, out)


def _copied(
    video: str | PathLike[str],
    samples: np.ndarray,
    sample_rate: int,
    metadata: dict[str, str],
    out: str | PathLike[str],
) -> bool:
    """Whether the picture could be copied, each of its frames."""
    times = _packet_times(video)
    if times is None:
        return False
    with contextlib.suppress(_NotCopied), Source(video) as source, whole_file(out) as partial:
        try:
            with Mp4Writer(partial) as writer:
                writer.container.metadata.update(metadata)
                # `opaque`: by the stream's parameters alone, also where there is no encoder of its codec.
                stream = writer.container.add_stream_from_template(source.video, opaque=True)
                rate, channels, length, take = _taker(samples, sample_rate)
                writer.add_aac(rate, channels, take)
                shift = round(source.origin / source.video.time_base)
                count = 0
                for packet in packets(source.container, [source.video]):
                    if not isinstance(packet, av.Packet) or not packet.size:
                        continue
                    packet.pts, packet.dts = (stamp - shift for stamp in times[count])
                    count += 1
                    seconds = max(Fraction(0), packet.dts * packet.time_base)
                    packet.stream = stream
                    writer.container.mux(packet)
                    writer.sound_until(min(length, int(seconds * rate)))
                writer.sound_until(length, last=True)
        except (ValueError, NotImplementedError, av.error.FFmpegError) as error:
            if is_no_room(error):
                raise
            raise _NotCopied from error
        if count != len(times) or _frames_of(partial) != _frames_of(video):
            raise _NotCopied
        return True
    return False


class _NotCopied(Exception):
    pass


def _packet_times(video: str | PathLike[str]) -> list[tuple[int, int]] | None:
    """(pts, dts) of each packet of a film's picture, in decoding order; None where a pts is missing or given twice.

    Matroska stores no decoding times, and libavformat guesses none for the first reordered pictures: they are the
    presentation times in rising order, early enough that none comes after its picture is shown.
    """
    with Source(video) as source:
        by_dts = source.container.format.name == "avi"
        given = [
            (packet.dts if by_dts else packet.pts, packet.dts)
            for packet in packets(source.container, [source.video])
            if isinstance(packet, av.Packet) and packet.size
        ]
    shown = [pts for pts, _ in given if pts is not None]
    if by_dts or len(shown) != len(given) or len(set(shown)) != len(shown):
        return None
    decoded_at = [dts for _, dts in given if dts is not None]
    if len(decoded_at) != len(given) or any(a >= b for a, b in pairwise(decoded_at)):
        rising = sorted(shown)
        early = max((late - pts for late, pts in zip(rising, shown, strict=True)), default=0)
        decoded_at = [late - early for late in rising]
    return list(zip(shown, decoded_at, strict=True))


def _frames_of(video: str | PathLike[str]) -> int:
    """How many frames of a film decode."""
    with Source(video) as source:
        source.video.codec_context.thread_type = "AUTO"
        return sum(len(decode(packet)) for packet in packets(source.container, [source.video]))


def _encoded(
    video: str | PathLike[str],
    samples: np.ndarray,
    sample_rate: int,
    metadata: dict[str, str],
    out: str | PathLike[str],
) -> None:
    """The picture encoded anew, each frame at its own time."""
    with Source(video) as source, whole_file(out) as partial:
        frames = decoded(source, None)
        first = next(frames, None)
        if first is None:
            raise MediaError(f"{video} holds no picture that can be decoded: get the file again.")
        base, origin = source.video.time_base, round(source.origin / source.video.time_base)
        shape = stored_geometry(source.video, first[1])
        size = (max(2, shape.upright[0] // 2 * 2), max(2, shape.upright[1] // 2 * 2))
        transform = Transform(shape, "yuv420p", None if size == shape.upright else (0, 0, *size), None)
        count = 0
        with Mp4Writer(partial) as writer:
            writer.container.metadata.update(metadata)
            stream = writer.add_h264(size, source.rate, base, 20, "veryfast", 1, reorder=False)
            stream.codec_context.colorspace = {"bt709": 1, "bt601": 6, "bt2020": 9}.get(color_matrix(first[1]), 1)
            stream.codec_context.color_range = 1
            rate, channels, length, take = _taker(samples, sample_rate)
            writer.add_aac(rate, channels, take)
            durations: dict[int, int] = {}
            held = first
            for stamp, frame in chain(frames, [(None, None)]):
                following = frame_end(source, *held) if stamp is None else stamp
                picture = transform(held[1])
                picture.pts, picture.time_base, picture.pict_type = held[0] - origin, base, 0
                durations[held[0] - origin] = following - held[0]
                writer.put_pictures(stream.encode(picture), durations)
                writer.sound_until(min(length, int((following - origin) * base * rate)))
                count += 1
                if stamp is not None:
                    held = stamp, frame
            writer.last_pictures(stream.encode(None), durations, following - first[0])
            writer.sound_until(length, last=True)
        if _frames_of(partial) != count:
            raise MediaError(f"{video} could not be written with all of its {count} frames: convert it to H.264 first.")
