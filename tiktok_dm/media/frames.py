"""Pictures of a video file, one after another, upright and with square pixels.

Not for writing (`encoding`, `cutting`) and not for sound (`sound`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from os import PathLike
from typing import Any

import av
import av.error
import av.filter
import numpy as np

from tiktok_dm.errors import MediaError
from tiktok_dm.media.source import Geometry, Source, decode, is_interlaced, packets, stored_geometry

# AVColorSpace numbers (ITU-T H.273 matrix coefficients) to swscale's words; 2 is "unspecified".
_MATRIX = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_FULL_RANGE = 2
# How far before the wanted time to look for a key frame, tried in turn; then the file is decoded from its start.
_BACKSTEPS_S = (0, 3, 30)
_STAMPED_BY_GUESS = ("mpeg",)
"""Containers that do not stamp each frame: after a seek libavformat guesses otherwise than from the start."""
_BACK_S = 1  # pictures that come in another order than they are shown differ by less
_ON_S = 10  # as FFmpeg tells a clock that was set anew from a gap


def color_matrix(frame: Any) -> str:
    """Swscale's word for a frame's YUV matrix; untagged pictures follow the players' rule (HD is BT.709)."""
    known = _MATRIX.get(int(frame.colorspace))
    return known or ("bt709" if frame.height > 576 else "bt601")


class Transform:
    """Turns decoded frames into upright, square-pixel ones in another pixel format, cropped and scaled.

    Args:
        shape: how the stored picture lies.
        pixel_format: FFmpeg's name, such as `rgb24`.
        crop: x, y, width, height in pixels of the upright picture, or None.
        size: width and height that come out, or None for no scaling.
        flags: swscale's scaling method.
    """

    def __init__(
        self,
        shape: Geometry,
        pixel_format: str,
        crop: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        flags: str = "bilinear",
    ) -> None:
        self.shape, self.pixel_format, self.crop, self.flags = shape, pixel_format, crop, flags
        if crop is not None:
            x, y, width, height = crop
            if (
                x < 0
                or y < 0
                or width < 1
                or height < 1
                or x + width > shape.upright[0]
                or y + height > shape.upright[1]
            ):
                raise ValueError(
                    f"crop {crop} does not lie within the picture of {shape.upright[0]}x{shape.upright[1]}"
                )
        self.size = size or (crop[2:] if crop else shape.upright)
        self._graph: Any = None
        self._key: tuple | None = None

    def _steps(self, frame: Any) -> list[tuple[str, str]]:
        shape = self.shape
        before_turn = shape.square
        whole = self.crop is None or self.crop == (0, 0, *shape.upright)
        if whole:
            before_turn = self.size[::-1] if shape.swapped else self.size
        full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
        color = (
            "" if frame.format.is_rgb else f":in_color_matrix={color_matrix(frame)}:in_range={'pc' if full else 'tv'}"
        )
        if self.pixel_format != "rgb24":
            color += f":out_color_matrix={'bt709' if frame.format.is_rgb else color_matrix(frame)}:out_range=tv"
        steps = []
        if (frame.width, frame.height) != before_turn:
            steps.append(("scale", f"{before_turn[0]}:{before_turn[1]}:flags={self.flags}{color}"))
            color = ""
        steps.extend(shape.turn)
        if not whole and self.crop is not None:
            x, y, width, height = self.crop
            steps.append(("crop", f"{width}:{height}:{x}:{y}:exact=1"))
        if not whole and self.size != self.crop[2:]:  # type: ignore[index]
            steps.append(("scale", f"{self.size[0]}:{self.size[1]}:flags={self.flags}{color}"))
            color = ""
        if color and (frame.format.name != self.pixel_format or full):
            steps.append(("scale", f"flags={self.flags}{color}"))
        if frame.format.name != self.pixel_format or full:
            steps.append(("format", self.pixel_format))
        return steps

    def __call__(self, frame: Any) -> Any:
        key = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range))
        if key != self._key:
            self._key, self._graph = key, self._build(frame)
        if self._graph is None:
            return frame
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _build(self, frame: Any) -> Any:
        steps = self._steps(frame)
        if not steps:
            return None
        graph = av.filter.Graph()
        graph.threads = 1
        node = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 90000)
        )
        for name, arguments in [*steps, ("buffersink", "")]:
            following = graph.add(name, arguments) if arguments else graph.add(name)
            node.link_to(following)
            node = following
        graph.configure()
        return graph


def decoded(source: Source, start: Fraction | None, threads: int = 1) -> Iterator[tuple[int, Any]]:
    """`_decoded`, with interlaced frames made whole ones, each at its own time stamp."""
    frames = _decoded(source, start, threads)
    first = next(frames, None)
    if first is None:
        return
    if not is_interlaced(first[1]):
        yield first
        yield from frames
        return
    yield from _deinterlaced(chain([first], frames))


def _deinterlaced(frames: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """FFmpeg's bwdif, one frame out for each that goes in; it looks a frame ahead."""
    graph: Any = None
    stamps: deque[int] = deque()
    shape = None
    for stamp, frame in frames:
        if graph is not None and (frame.width, frame.height, frame.format.name) != shape:
            graph.push(None)
            yield from ((stamps.popleft(), whole) for whole in _pulled(graph) if stamps)
            graph = None
        if graph is None:
            shape = (frame.width, frame.height, frame.format.name)
            graph = av.filter.Graph()
            graph.threads = 1
            node = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            for name, arguments in (("bwdif", "mode=send_frame:deint=interlaced"), ("buffersink", "")):
                following = graph.add(name, arguments) if arguments else graph.add(name)
                node.link_to(following)
                node = following
            graph.configure()
        stamps.append(stamp)
        graph.push(frame)
        yield from ((stamps.popleft(), whole) for whole in _pulled(graph) if stamps)
    if graph is not None:
        graph.push(None)
        yield from ((stamps.popleft(), whole) for whole in _pulled(graph) if stamps)


def _pulled(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _decoded(source: Source, start: Fraction | None, threads: int) -> Iterator[tuple[int, Any]]:
    """Frames with strictly rising time stamps (in the stream's time base, as stored), the picture at `start` included.

    Args:
        source: the open file; its position is moved.
        start: seconds from the file's first instant; decoding begins at a key frame at or before it. None: file start.
        threads: of the decoder.

    Yields:
        (time stamp, PyAV frame).

    Raises:
        MediaError: the file's clock jumps, back by more than a second, or on by more than ten in a stream whose clock
            may do so (FFmpeg's own bound for MPEG streams): times mean nothing from there on.
    """
    stream = source.video
    stream.codec_context.thread_count = threads
    base = stream.time_base
    # AVI stores no presentation times: libavformat gives decoding ones, in the order of the packets.
    by_dts = source.container.format.name == "avi"
    attempts = [step for step in _BACKSTEPS_S if start is not None and start - step > 0]
    if source.container.format.name in _STAMPED_BY_GUESS:
        attempts = []
    for step in [*attempts, None]:
        if step is None:
            target = None
            if attempts:
                source.rewind()
                stream = source.video
                stream.codec_context.thread_count = threads
        else:
            assert start is not None
            target = round((start + source.origin) / base)
            source.container.seek(round((start + source.origin - step) / base), stream=stream)
        key: int | None = None
        last: int | None = None
        for packet in packets(source.container, [stream]):
            if target is not None and key is None and isinstance(packet, av.Packet):
                if packet.size and not packet.is_keyframe:
                    continue
                if packet.size:
                    key = packet.dts if by_dts else packet.pts
                    if key is None or key > target:
                        break  # an inexact index, or pictures shown before their key frame: look further back
            for frame in decode(packet):
                stamp = frame.dts if by_dts else frame.pts
                if stamp is None:
                    stamp = last + max(1, round(1 / (source.rate * base))) if last is not None else 0
                step_s = 0 if last is None else (stamp - last) * base
                if step_s < -_BACK_S or (step_s > _ON_S and source.container.format.name in ("mpegts", "mpeg")):
                    at = float(last * base - source.origin)
                    way = "back" if step_s < 0 else "on"
                    raise MediaError(
                        f"{source.path} has a clock that jumps {way} at {at:.2f} s: write it anew with "
                        "`ffmpeg -fflags +genpts -i FILE -c:v libx264 -c:a aac NEW.mp4`, and take that."
                    )
                if (last is not None and stamp <= last) or (key is not None and stamp < key):
                    continue
                last = stamp
                yield stamp, frame
        if last is not None:
            return


def frame_end(source: Source, stamp: int, frame: Any) -> int:
    """Time stamp at which the last frame of a file leaves the screen."""
    duration = frame.duration or 0
    usual = max(1, round(1 / (source.rate * source.video.time_base)))
    video = source.video
    known = (video.start_time or 0) + video.duration if video.duration else 0
    return stamp + (duration if 0 < duration <= max(20 * usual, known - stamp + usual) else usual)


def scaled_size(width: int, height: int, max_height: int | None) -> tuple[int, int]:
    """Width and height at most `max_height` high, aspect kept."""
    if max_height is None or height <= max_height:
        return width, height
    return max(1, round(width * max_height / height)), max_height


def read_frames(
    path: str | PathLike[str],
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | Fraction | None = None,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    max_height: int | None = None,
    threads: int = 1,
) -> Iterator[tuple[float, np.ndarray]]:
    """Pictures of a video, streamed (memory does not grow with length).

    Args:
        path: the file.
        start_s: first instant wanted, seconds from the file's start; None: its start.
        end_s: first instant not wanted; None: the end of the file.
        fps: None gives every stored frame from `start_s` on; a number gives the pictures on screen at
            `start_s + k / fps` (k = 0, 1, ...), also where frames come faster, slower or irregularly.
        crop: x, y, width, height in px of the upright picture, taken before scaling.
        size: width and height that come out.
        max_height: scale down to this height, keeping the aspect; not together with `size`.
        threads: of the decoder.

    Yields:
        (time in seconds from the file's start: the frame's own, or its grid time; uint8 RGB (H, W, 3)).

    Raises:
        MediaError: as `probe`.
        ValueError: a crop outside the picture.
    """
    if size is not None and max_height is not None:
        raise ValueError("give size or max_height, not both")
    with Source(path) as source:
        base, origin = source.video.time_base, source.origin
        # A time stamp is known to half a tick: 0.067 in a file that counts milliseconds is 2/30.
        slack = base / 2
        start = Fraction(start_s) if start_s is not None else Fraction(0)
        end = Fraction(end_s) if end_s is not None else None
        step = None if fps is None else 1 / Fraction(fps).limit_denominator(100_000)
        transform: Transform | None = None

        def picture(frame: Any) -> np.ndarray:
            nonlocal transform
            if transform is None:
                shape = stored_geometry(source.video, frame)
                whole = crop[2:] if crop else shape.upright
                wanted = size or scaled_size(*whole, max_height)
                transform = Transform(shape, "rgb24", crop, wanted)
            return transform(frame).to_ndarray()

        count = 0  # grid points given

        def shown(frame: Any, until: Fraction) -> Iterator[tuple[float, np.ndarray]]:
            """The grid points at which a frame is on screen; each gets an array of its own."""
            nonlocal count
            assert step is not None
            rgb = picture(frame) if start + count * step < until - slack else None
            while rgb is not None:
                time = start + count * step
                count += 1
                more = start + count * step < until - slack
                yield float(time), rgb.copy() if more else rgb
                rgb = rgb if more else None

        held: tuple[int, Any] | None = None
        for stamp, frame in decoded(source, start if start_s is not None else None, threads):
            time = stamp * base - origin
            if step is None:
                if end is not None and time >= end - slack:
                    return
                if time >= start - slack or start_s is None:
                    yield float(time), picture(frame)
                held = stamp, frame
                continue
            if held is not None:
                until = time if end is None else min(time, end)
                yield from shown(held[1], until)
                if end is not None and time >= end:
                    return
            held = stamp, frame
        if held is None:
            raise MediaError(f"{source.path} holds no picture that can be decoded: get the file again.")
        if step is not None:
            last = frame_end(source, *held) * base - origin
            last = min(last, end) if end is not None else last
            yield from shown(held[1], last)


def frame_at(
    path: str | PathLike[str],
    t_s: float,
    *,
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    max_height: int | None = None,
) -> np.ndarray:
    """The picture on screen at `t_s` seconds (the last one where the file ends earlier), uint8 RGB (H, W, 3).

    Raises:
        MediaError: as `probe`.
    """
    frames = read_frames(path, start_s=max(0.0, t_s), fps=1, crop=crop, size=size, max_height=max_height)
    for _, rgb in frames:
        return rgb
    with Source(path) as source:
        length = float(source.duration)
    last = None
    for _, rgb in read_frames(path, start_s=max(0.0, length - 1), crop=crop, size=size, max_height=max_height):
        last = rgb
    if last is None:
        for _, rgb in read_frames(path, crop=crop, size=size, max_height=max_height):
            last = rgb
    assert last is not None
    return last


def to_thumbnail(picture: np.ndarray, max_height: int = 180) -> np.ndarray:
    """A small copy of a picture, uint8 RGB, at most `max_height` px high, aspect kept."""
    from PIL import Image

    height, width = picture.shape[:2]
    size = scaled_size(width, height, max_height)
    if size == (width, height):
        return picture.copy()
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
