"""A media file opened for reading: what it holds, where its time begins, which way up it is.

Not for pictures or sound themselves: see `frames` and `sound`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import av.logging

from tiktok_dm.errors import MediaError

# What libavformat opens that is no film: single pictures, text, subtitles.
_NOT_A_VIDEO = {"tty", "srt", "webvtt", "ass", "image2", "aqtitle", "jacosub", "microdvd", "lrc", "vobsub", "concat"}

# Titles that are no UTF-8 are nobody's loss: PyAV 19 replaces what it can't read by itself and takes no word for it.
_FORGIVING: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}

LIMITS = "TIKTOK_DM_MEDIA_LIMITS"
"""Environment variable; `off` lifts the bounds below, for whoever knows his files."""
MAX_PIXELS = 36_000_000  # of a frame: 8K is 33 million
MAX_STREAMS = 64
MAX_SECONDS = 86_400
MAX_CHANNELS = 32

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOMEM}

_COVER = 0x400 | 0x800  # attached picture, timed thumbnails
_DEFAULT = 0x1
_ASIDE = 0x8 | 0x80 | 0x100 | 0x20000  # commentary; for hearing, for visually impaired; descriptions

av.logging.set_level(None)  # findings are raised as errors, not printed among progress bars


@dataclass(frozen=True)
class AudioProbe:
    """The sound of a file.

    Args:
        sample_rate: Hz.
        channels: as stored.
        codec: FFmpeg's name of it.
        duration_s: length of the sound itself (the file's length where the container does not say).
    """

    sample_rate: int
    channels: int
    codec: str
    duration_s: float


@dataclass(frozen=True)
class Probe:
    """What a video file holds.

    Args:
        duration_s: length of the file, seconds, from its first to its last instant.
        width: of the upright picture with square pixels.
        height: likewise.
        fps: mean frame rate.
        fps_rational: the same as a fraction in text, such as `30000/1001`.
        n_frames: number of frames according to the header, None where it does not say.
        rotation: degrees clockwise by which stored pictures are turned for display (0, 90, 180, 270).
        video_codec: FFmpeg's name of it.
        container: FFmpeg's name of it.
        start_s: time stamp of the file's first instant; all other times in this project are counted from it.
        audio: its sound, or None.
        interlaced: whether its first frame is two fields; such films are deinterlaced when their frames are read.
        audio_track: number of its sound track that is read, from 0 among all its sound tracks; None without sound.
    """

    duration_s: float
    width: int
    height: int
    fps: float
    fps_rational: str
    n_frames: int | None
    rotation: int
    video_codec: str
    container: str
    start_s: float
    audio: AudioProbe | None
    interlaced: bool = False
    audio_track: int | None = None


@dataclass(frozen=True)
class Geometry:
    """How stored pictures become upright ones with square pixels.

    Args:
        coded: width and height as stored.
        square: width and height with square pixels, still turned as stored.
        turn: libavfilter steps that make it upright, in order.
        rotation: degrees clockwise.
        upright: width and height as displayed.
    """

    coded: tuple[int, int]
    square: tuple[int, int]
    turn: tuple[tuple[str, str], ...]
    rotation: int
    upright: tuple[int, int]

    @property
    def swapped(self) -> bool:
        return self.rotation in (90, 270)


def _turn(matrix: bytes | None, rotation_ccw: int) -> tuple[tuple[tuple[str, str], ...], int]:
    """Filter steps for a display matrix (nine little-endian int32, ISO/IEC 14496-12 order) and its clockwise angle."""
    clockwise = round(-rotation_ccw / 90) * 90 % 360
    m = struct.unpack("<9i", matrix[:36]) if matrix and len(matrix) >= 36 else (1, 0, 0, 0, 1, 0, 0, 0, 1)
    if clockwise == 90:
        return (("transpose", "cclock_flip" if m[3] > 0 else "clock"),), 90
    if clockwise == 270:
        return (("transpose", "clock_flip" if m[3] < 0 else "cclock"),), 270
    if clockwise == 180:
        return tuple((name, "") for name, at in (("hflip", 0), ("vflip", 4)) if m[at] < 0), 180
    return ((("vflip", ""),) if m[4] < 0 else ()), 0


def stored_geometry(stream: Any, frame: Any) -> Geometry:
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = bytes(data) if data is not None else None
    turn, rotation = _turn(matrix, int(frame.rotation)) if matrix else ((), 0)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 10) <= aspect <= 10:
        aspect = Fraction(1)
    square = (max(1, round(frame.width * aspect)), frame.height)
    upright = square[::-1] if rotation in (90, 270) else square
    return Geometry((frame.width, frame.height), square, turn, rotation, upright)


class Source:
    """A file open for reading; use it as a context manager.

    Of several streams of a kind the one is read that its container marks as the default one, as players do, else the
    first. Cover pictures are no video, and commentary, descriptions and mixes for impaired people are taken only where
    there is nothing else, whatever they are marked as.

    Args:
        path: the file.
        need: `"video"` or `"audio"`: the stream that must be there.
        audio_track: number of another sound track, from 0 among all of the file's sound tracks.

    Raises:
        MediaError: the file is missing, empty, truncated, not a media file, lacks the needed stream or track, or states
            sizes that no film has (`MAX_PIXELS` and the like; `LIMITS` lifts that).
    """

    def __init__(self, path: str | PathLike[str], need: str = "video", audio_track: int | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.container = self._open()
        try:
            self._check_sizes()
            self.video = self._video_stream()
            self.audio_track, self.audio = self._audio_stream(audio_track)
            if need == "video" and self.video is None:
                what = "holds sound but no moving picture" if self.audio else "is not a video"
                raise MediaError(f"{self.path} {what}: give a video file.")
            if need == "audio" and self.audio is None:
                raise MediaError(f"{self.path} has no sound: give a file with an audio track.")
            self.origin = self._origin()
        except (AttributeError, TypeError, ValueError, OverflowError, ZeroDivisionError, av.error.FFmpegError) as error:
            # What PyAV and libav say of headers that make no sense.
            self.container.close()
            raise MediaError(f"{self.path} is damaged: its header cannot be read. Get the file again.") from error
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()
        if isinstance(error, (av.error.FFmpegError, OverflowError, ZeroDivisionError)) and (
            getattr(error, "errno", None) not in _DISK
        ):
            # A seek or a filter that fails on what the file states; a full disk is another matter.
            why = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"{self.path} is damaged ({why}): get the file again.") from error

    def _open(self) -> Any:
        path = self.path
        if not path.exists():
            raise MediaError(f"{path} does not exist: check the name and the folder.")
        if not path.is_file():
            raise MediaError(f"{path} is not a file: give a video file.")
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty: get the file again.")
        try:
            container = av.open(str(path), **_FORGIVING)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            try:
                with path.open("rb") as file:
                    head = file.read(16)
            except OSError as unread:
                raise MediaError(f"{path} may not be read ({unread.strerror}): change its permissions.") from error
            if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide"):
                raise MediaError(f"{path} is truncated (its index is missing): get the file again.") from error
            raise MediaError(f"{path} is not a video that can be read: give a video file.") from error
        if container.format.name in _NOT_A_VIDEO or container.format.name.endswith("_pipe"):
            name = container.format.name
            container.close()
            raise MediaError(f"{path} is not a video (it reads as {name}): give a video file.")
        return container

    def _video_stream(self) -> Any:
        # A cover picture is a video stream to FFmpeg, and nothing that moves.
        films = [s for s in self.container.streams.video if not int(s.disposition) & _COVER and s.codec_context]
        chosen = min(films, key=lambda stream: not int(stream.disposition) & _DEFAULT, default=None)
        if chosen is not None and _limited():
            chosen.codec_context.options = {**chosen.codec_context.options, "max_pixels": str(MAX_PIXELS)}
        return chosen

    def _audio_stream(self, track: int | None) -> tuple[int | None, Any]:
        """Number among all sound tracks, and stream."""
        every = list(enumerate(self.container.streams.audio))
        if track is not None:
            if not 0 <= track < len(every):
                raise MediaError(f"{self.path} has no sound track {track}: it has {len(every)}, counted from 0.")
            return every[track]
        usable = [(k, s) for k, s in every if s.codec_context and s.codec_context.sample_rate and _channels(s)]

        def rank(one: tuple[int, Any]) -> tuple[bool, bool]:
            flags = int(one[1].disposition)
            return bool(flags & _ASIDE), not flags & _DEFAULT

        return min(usable, key=rank, default=(None, None))

    def rewind(self) -> None:
        """Open the file anew, at its start: where a seek back would give other time stamps (clocks that wrap)."""
        self.container.close()
        self.container = self._open()
        self.video = self._video_stream()
        if self.audio_track is not None:
            self.audio = self.container.streams.audio[self.audio_track]

    def _check_sizes(self) -> None:
        """Refuse what a header states, before anything is decoded."""
        if not _limited():
            return
        what = ""
        if len(self.container.streams) > MAX_STREAMS:
            what = f"{len(self.container.streams)} streams"
        for stream in self.container.streams.video:
            context = stream.codec_context
            if context and (context.width or 0) * (context.height or 0) > MAX_PIXELS:
                what = f"frames of {context.width} x {context.height} px"
        for stream in self.container.streams.audio:
            if _channels(stream) > MAX_CHANNELS:
                what = f"{_channels(stream)} channels of sound"
        if (self.container.duration or 0) > MAX_SECONDS * av.time_base:
            what = f"a length of {self.container.duration / av.time_base / 3600:,.0f} hours"
        if what:
            raise MediaError(f"{self.path} states {what}, more than a film has; if that is right, set {LIMITS}=off.")

    def _origin(self) -> Fraction:
        """Time stamp of the first instant: the earliest stream's start, except sound primed before a picture at 0."""
        start = self.container.start_time
        if start is None:
            return Fraction(0)
        origin = Fraction(start, av.time_base)
        # The container's figure is rounded to microseconds; the stream's own is exact.
        for stream in (self.video, self.audio):
            if stream is not None and stream.start_time is not None:
                own = stream.start_time * stream.time_base
                if abs(own - origin) <= Fraction(2, 1_000_000):
                    origin = own
                    break
        if origin < 0 and self.video is not None and (self.video.start_time or 0) >= 0:
            return Fraction(0)
        return origin

    @property
    def duration(self) -> Fraction:
        """Length of the file in seconds, by its header, else by its packets."""
        if self.container.duration:
            start = Fraction(self.container.start_time or 0, av.time_base)
            return start + Fraction(self.container.duration, av.time_base) - self.origin
        end = self.origin
        with av.open(str(self.path)) as container:
            for packet in packets(container, [s for s in container.streams if s.type in ("video", "audio")]):
                if packet.pts is not None and packet.time_base:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        return end - self.origin

    @property
    def rate(self) -> Fraction:
        """Mean frame rate; 30 where the file says nothing sensible."""
        for rate in (self.video.average_rate, self.video.guessed_rate, self.video.base_rate):
            if rate and 0 < rate <= 1000:
                return Fraction(rate)
        return Fraction(30)

    def first_frame(self) -> Any:
        """The first picture that decodes; the container is moved."""
        for packet in packets(self.container, [self.video]):
            for frame in decode(packet):
                return frame
        raise MediaError(f"{self.path} holds no picture that can be decoded: get the file again.")


def _limited() -> bool:
    return os.environ.get(LIMITS, "").lower() != "off"


def _channels(stream: Any) -> int:
    layout = stream.codec_context.layout if stream.codec_context else None
    return int(layout.nb_channels) if layout else 0


def is_interlaced(frame: Any) -> bool:
    """Whether a frame is two fields, taken one after the other."""
    return bool(frame.interlaced_frame)


def packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Packets until the end of the file, or until where a damaged file breaks off; then one empty packet a stream."""
    iterator = container.demux(*streams)
    while True:
        try:
            packet = next(iterator)
        except StopIteration:
            return
        except IndexError:  # of a stream that begins in mid-file: PyAV knows those that the beginning told of
            iterator = container.demux(*streams)
            continue
        except av.error.FFmpegError:  # whatever libav calls it, the file is readable up to here
            break
        yield packet
    yield from streams


def decode(packet: Any) -> list[Any]:
    """Frames of a packet (or, given a stream, the ones still inside its decoder); a damaged packet gives none."""
    try:
        if isinstance(packet, av.Packet):
            return packet.decode()
        return packet.codec_context.decode(None)
    except av.error.FFmpegError:
        return []


def geometry(path: str | PathLike[str]) -> Geometry:
    """Stored, square and upright sizes of a video; decodes its first picture."""
    with Source(path) as source:
        return stored_geometry(source.video, source.first_frame())


def probe(path: str | PathLike[str]) -> Probe:
    """Say what a video file holds; decodes its first picture.

    Raises:
        MediaError: the file is missing, empty, truncated, not a video, sound only, or cannot be decoded.
    """
    with Source(path) as source:
        video, audio = source.video, source.audio
        duration = source.duration
        frame = source.first_frame()
        shape = stored_geometry(video, frame)
        sound = None
        if audio is not None:
            length = audio.duration * audio.time_base if audio.duration else duration
            context = audio.codec_context
            sound = AudioProbe(context.sample_rate, context.layout.nb_channels, context.name, float(length))
        return Probe(
            duration_s=float(duration),
            width=shape.upright[0],
            height=shape.upright[1],
            fps=float(source.rate),
            fps_rational=f"{source.rate.numerator}/{source.rate.denominator}",
            n_frames=video.frames or None,
            rotation=shape.rotation,
            video_codec=video.codec_context.name,
            container=source.container.format.name,
            start_s=float(source.origin),
            audio=sound,
            interlaced=is_interlaced(frame),
            audio_track=source.audio_track,
        )
