"""Cut one clip out of a source, exactly: it begins and ends on frames that exist, picture and sound agree.

Re-encoding from the nearest source frame is the only way of cutting that keeps picture and sound together and
starts where it should (a stream copy begins at the key frame before). Not for finding where clips begin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.errors import MediaError
from tiktok_dm.media.encoding import Mp4Writer, aac_rate, check_room, whole_file
from tiktok_dm.media.frames import Transform, color_matrix, decoded, frame_end, scaled_size
from tiktok_dm.media.sound import Timeline
from tiktok_dm.media.source import Geometry, Source, packets, stored_geometry

_H273 = {"bt709": 1, "fcc": 4, "bt601": 6, "smpte240m": 7, "bt2020": 9}
# A source whose sound ends this much before its header says so is broken off, not short.
_TRUNCATED_S = Fraction(1, 2)


@dataclass(frozen=True)
class Cut:
    """A clip as it was cut.

    Args:
        start_s: first instant, seconds from the source's start: the time of a source frame.
        end_s: first instant after it, likewise (or the end of the source's last frame).
        duration_s: `end_s - start_s`.
        n_frames: stored frames.
        width: px, upright, square pixels, even.
        height: likewise.
        fps: mean rate, `n_frames / duration_s`.
        has_audio: whether it has sound.
        start_pts: the first frame's time stamp in the source.
        end_pts: the time stamp in the source at which the last frame leaves the screen.
        time_base: seconds a tick of both, as a fraction in text.
    """

    start_s: float
    end_s: float
    duration_s: float
    n_frames: int
    width: int
    height: int
    fps: float
    has_audio: bool
    start_pts: int
    end_pts: int
    time_base: str


def stored_size(shape: Geometry, max_height: int | None) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """(size to scale to or None, size that is stored) of a clip: even, at most `max_height` high, aspect kept."""
    width, height = shape.upright
    if max_height is not None and height > max_height:
        even = max(2, max_height // 2 * 2)
        scaled = (max(2, round(width * even / height / 2) * 2), even)
        return scaled, scaled
    return None, (max(2, width // 2 * 2), max(2, height // 2 * 2))


def cut(
    source: str | PathLike[str],
    start_s: float,
    end_s: float,
    out: str | PathLike[str],
    *,
    max_height: int | None = None,
    crf: int = 20,
    preset: str = "veryfast",
    threads: int = 1,
    on_frame: Callable[[float, np.ndarray], None] | None = None,
    sample_s: float = 0.5,
    sample_height: int = 360,
    audio_track: int | None = None,
) -> Cut:
    """Cut `[start_s, end_s)` out of a source into an H.264 + AAC MP4, in one decode.

    Both ends go to the nearest time stamps of source frames. Source time stamps are kept (a variable frame rate stays
    one), shifted so that the first frame is at 0. Sound keeps its rate and covers exactly the same instants, in one or
    two channels. Pictures are stored upright, with square pixels, as yuv420p; an odd size loses its last row or column.

    Args:
        source: the compilation.
        start_s: first instant, seconds from the source's start.
        end_s: first instant after the clip.
        out: MP4 to write; it appears only when complete and checked.
        max_height: scale down to this height (even), aspect kept.
        crf: x264's constant quality.
        preset: x264's preset.
        threads: of decoder and encoder; the bytes depend on it and on nothing of the machine.
        on_frame: gets (seconds from the clip's start, uint8 RGB (h, w, 3)) of a sample of the clip's frames, made in
            the same pass.
        sample_s: seconds between sampled frames.
        sample_height: px, greatest height of sampled frames.
        audio_track: number of the source's sound track, where it should not be the one that `Source` chooses.

    Raises:
        MediaError: the source cannot be read, is truncated before `end_s`, or is shorter than that.
        ValueError: the end does not come after the start.
        OSError: the disk is full (also DiskFull).
    """
    if not 0 <= start_s < end_s:
        raise ValueError(f"a clip from {start_s} s to {end_s} s does not end after its start")
    out = Path(out)
    with Source(source) as film, Source(source, audio_track=audio_track) as sound:
        length = film.duration
        frame_s = 1 / film.rate
        if Fraction(end_s) > length + frame_s:
            raise MediaError(
                f"The clip from {start_s:g} s to {end_s:g} s runs past the end of {film.name}, "
                f"which is {float(length):.2f} s long: correct the clip's times."
            )
        with whole_file(out) as partial:
            job = _Cutting(film, sound, Fraction(start_s), Fraction(end_s))
            sampler = _Sampler(on_frame, sample_s, sample_height) if on_frame else None
            result = job.run(partial, max_height, crf, preset, threads, sampler)
            _check_cut(partial, result, job.sound_samples, out)
    return result


class _Cutting:
    """One cut under way: finds the two instants that bound it, and feeds encoder and sound in step."""

    def __init__(self, film: Source, sound: Source, start: Fraction, end: Fraction) -> None:
        self.film, self.sound, self.start, self.end = film, sound, start, end
        self.base: Fraction = film.video.time_base
        self.origin_pts = film.origin / self.base
        self.frame_s = 1 / film.rate
        self.sound_samples = 0
        self.picture_end: Fraction | None = None  # where the picture stops, if that is well before the clip's end

    def run(
        self, path: Path, max_height: int | None, crf: int, preset: str, threads: int, sampler: _Sampler | None
    ) -> Cut:
        film, base = self.film, self.base
        pictures = self._pictures(threads)
        first = next(pictures, None)
        if first is None:
            raise MediaError(f"{self._clip()} is shorter than one frame: correct the clip's times.")
        first_pts, frame, end_pts = first
        shape = stored_geometry(film.video, frame)
        scaled, size = stored_size(shape, max_height)
        crop = None if scaled or size == shape.upright else (0, 0, *size)
        transform = Transform(shape, "yuv420p", crop, scaled, flags="bicubic")
        timescale, count, durations = base.denominator, 0, {}
        with Mp4Writer(path, _film_clock(timescale)) as writer:
            # Reordered pictures that last for different times leave a track's length open: keep those in order.
            steady = film.video.average_rate == film.video.base_rate
            stream = writer.add_h264(size, film.rate, base, crf, preset, threads, reorder=steady)
            context = stream.codec_context
            context.colorspace = 1 if frame.format.is_rgb else _H273[color_matrix(frame)]
            context.color_range = 1  # MPEG ("tv") range
            context.color_primaries, context.color_trc = int(frame.color_primaries), int(frame.color_trc)
            timeline = None
            if self.sound.audio is not None:
                rate = aac_rate(self.sound.audio.codec_context.sample_rate)
                timeline = Timeline(self.sound, self._seconds(first_pts), sample_rate=rate)
                writer.add_aac(rate, timeline.channels, timeline.read)
            for pts, frame, following in chain([first], pictures):
                count, end_pts = count + 1, following
                picture = transform(frame)
                if sampler:
                    sampler(float((pts - first_pts) * base), picture)
                picture.pts, picture.time_base = pts - first_pts, base
                picture.pict_type = 0  # the source's key frames are not this clip's
                durations[pts - first_pts] = following - pts
                writer.put_pictures(stream.encode(picture), durations)
                if timeline:
                    writer.sound_until(int((following - first_pts) * base * timeline.sample_rate))
            writer.last_pictures(stream.encode(None), durations, end_pts - first_pts)
            duration = (end_pts - first_pts) * base
            if timeline:
                self.sound_samples = round(duration * timeline.sample_rate)
                writer.sound_until(self.sound_samples, last=True)
        self._check_sound(timeline, self._seconds(end_pts))
        return Cut(
            start_s=float(self._seconds(first_pts)),
            end_s=float(self._seconds(end_pts)),
            duration_s=float(duration),
            n_frames=count,
            width=size[0],
            height=size[1],
            fps=float(count / duration),
            has_audio=timeline is not None,
            start_pts=first_pts,
            end_pts=end_pts,
            time_base=f"{base.numerator}/{base.denominator}",
        )

    def _clip(self) -> str:
        return f"The clip from {float(self.start):g} s to {float(self.end):g} s of {self.film.name}"

    def _broken_off(self, at: Fraction) -> MediaError:
        return MediaError(
            f"{self._clip()} cannot be cut, since the file breaks off at {float(at):.2f} s: "
            "get the file again or correct the clip's times."
        )

    def _seconds(self, pts: int) -> Fraction:
        return (pts - self.origin_pts) * self.base

    def _stamp(self, seconds: Fraction) -> int:
        return round(seconds / self.base + self.origin_pts)

    def _bound(self, wanted: Fraction, before: int, after: int) -> int:
        """Time stamp of a clip's end between two neighbouring frames': the nearer one, the earlier on a tie.

        Where even that is more than a frame away (a picture that stays on screen for long), the instant itself.
        """
        nearer = before if wanted - self._seconds(before) <= self._seconds(after) - wanted else after
        if abs(self._seconds(nearer) - wanted) > self.frame_s:
            return self._stamp(wanted)
        return nearer

    def _shown(self, threads: int) -> Iterator[tuple[int, Any, int]]:
        """(time stamp from which, frame, time stamp until which it is on screen), from about the clip's start on."""
        held: tuple[int, Any] | None = None
        for pts, frame in decoded(self.film, self.start, threads):
            if held is not None:
                yield held[0], held[1], pts
            elif self._seconds(pts) - self.start > self.frame_s:
                pts = self._stamp(self.start)  # the picture begins late: its first frame stands in
            held = pts, frame
        if held is None:
            raise self._broken_off(Fraction(0))
        last = frame_end(self.film, *held)
        missing = self.end - self._seconds(last)
        if missing > self.frame_s:
            claimed = self.film.video.duration
            known = (self.film.video.start_time or 0) + claimed if claimed else None
            goes_on = self.sound.audio is not None and self._seconds(last) > self.start
            if not goes_on or (known is not None and (known - last) * self.base > _TRUNCATED_S):
                raise self._broken_off(self._seconds(last))
            # Sound goes on under the last picture, as players show it (the caller looks whether it really does).
            self.picture_end = self._seconds(last)
            last = self._stamp(self.end)
        yield held[0], held[1], last

    def _pictures(self, threads: int) -> Iterator[tuple[int, Any, int]]:
        """(first time stamp, frame, following time stamp) of the clip's pictures."""
        begin: int | None = None
        for pts, frame, following in self._shown(threads):
            if begin is None:
                if self._seconds(following) <= self.start:
                    continue
                begin = pts if self._seconds(pts) >= self.start else self._bound(self.start, pts, following)
            if begin >= following:
                continue
            if self._seconds(following) >= self.end:
                stop = self._bound(self.end, pts, following)
                if stop > max(pts, begin):
                    yield max(pts, begin), frame, stop
                return
            yield max(pts, begin), frame, following

    def _check_sound(self, timeline: Timeline | None, end: Fraction) -> None:
        """Raise MediaError where the sound breaks off before the clip's end and its header says that it should not."""
        if timeline is None or self.sound.audio is None:
            return
        claimed = self.sound.audio.duration
        until = end
        if self.picture_end is None:
            if not claimed:
                return
            start = self.sound.audio.start_time or 0
            until = min(end, (start + claimed) * self.sound.audio.time_base - self.film.origin)
        if until > self.start + _TRUNCATED_S and timeline.reached < until - _TRUNCATED_S:
            raise self._broken_off(max(timeline.reached, self.picture_end or Fraction(0)))


def _film_clock(timescale: int) -> int:
    """Ticks a second of a film's own clock, in which the lengths of its pictures are whole: they may count frames."""
    return min(timescale * -(-600 // timescale), 1_000_000)


class _Sampler:
    """Hands small RGB copies of some of a clip's pictures to a callback."""

    def __init__(self, on_frame: Callable[[float, np.ndarray], None], every_s: float, max_height: int) -> None:
        self.on_frame, self.every_s, self.max_height = on_frame, every_s, max_height
        self.count = 0

    def __call__(self, time_s: float, picture: Any) -> None:
        if time_s + 1e-9 < self.count * self.every_s:
            return
        self.count = int(time_s / self.every_s + 1e-9) + 1
        width, height = scaled_size(picture.width, picture.height, self.max_height)
        small = picture.reformat(width, height, "rgb24", interpolation="BILINEAR", threads=1)
        self.on_frame(time_s, small.to_ndarray())


def _check_cut(path: Path, cut: Cut, sound_samples: int, out: Path) -> None:
    """Open the result and compare frame count, lengths and starts with what was meant."""
    base = Fraction(cut.time_base)
    with Source(path) as film:
        streams = [film.video] + ([film.audio] if film.audio is not None else [])
        frames = sum(1 for p in packets(film.container, streams) if getattr(p, "size", 0) and p.stream is film.video)
        wrong = []
        if frames != cut.n_frames:
            wrong.append(f"{frames} frames instead of {cut.n_frames}")
        if abs((film.video.start_time or 0) * film.video.time_base) > base:
            wrong.append("a first frame that is not at 0")
        length = (film.video.duration or 0) * film.video.time_base
        # A film's own clock may be coarser than its picture's.
        if abs(length - Fraction(cut.end_pts - cut.start_pts) * base) > max(base, Fraction(1, 500_000)):
            wrong.append(f"a picture of {float(length):.4f} s instead of {cut.duration_s:.4f} s")
        if cut.has_audio:
            stored = 0 if film.audio is None else round(film.audio.duration * film.audio.time_base * film.audio.rate)
            if abs(stored - sound_samples) > 1 or (film.audio is not None and film.audio.start_time):
                wrong.append(f"{stored} samples of sound instead of {sound_samples}")
    if wrong:
        check_room(out.parent, out)
        raise MediaError(f"{out.name} was written with {' and '.join(wrong)}: cut it again.")
