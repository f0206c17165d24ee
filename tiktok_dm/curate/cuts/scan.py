"""One pass over a compilation: every picture small, a still now and then, and the whole sound.

Everything that curation looks at comes from one demultiplexing and one decoding of the file; afterwards the file is not
touched again. The arrays lie in the work folder and are mapped into memory, so that an hour of video needs no more room
than a minute. Not for what the pictures show (`transitions`, `cards`), and not for exact cutting (`tiktok_dm.media`).
"""

from __future__ import annotations

import io
import mmap
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from tiktok_dm.errors import MediaError
from tiktok_dm.files import sha256_file
from tiktok_dm.media import AudioProbe, Probe, encode_jpeg, probe
from tiktok_dm.media.frames import Transform, frame_end
from tiktok_dm.media.sound import Timeline
from tiktok_dm.media.source import Source, decode, packets, stored_geometry
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.schema import SAMPLE_RATE

VERSION = 1
# Longer side of the small pictures, px: a vertical window in a landscape frame is still 30 px wide, and an hour at
# 30 fps takes 1.7 GB of disk.
LONG_SIDE = 96
# Stills for whoever must see a face or a border: this high at most, this often.
STILL_HEIGHT = 360
STILL_EVERY_S = 0.5
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Scan:
    """What one pass over a file gives; arrays are read-only.

    Args:
        path: the file.
        sha256: of its bytes.
        probe: what it holds.
        times_s: (n,) float64: when each picture of the source comes on screen, s from the source's first instant.
        end_s: when the last picture leaves the screen.
        pictures: (n, h, w, 3) uint8 RGB, upright, square pixels, longer side `LONG_SIDE`.
        sound: (samples,) float32 mono at `schema.SAMPLE_RATE`; sample 0 lies at the source's first instant. Empty
            without a sound track.
        stills_s: (m,) float64: when the pictures of `still` come on screen, about `STILL_EVERY_S` apart.
    """

    path: Path
    sha256: str
    probe: Probe
    times_s: np.ndarray
    end_s: float
    pictures: np.ndarray
    sound: np.ndarray
    stills_s: np.ndarray
    _stills: np.ndarray = field(repr=False)
    _offsets: np.ndarray = field(repr=False)

    @property
    def fps(self) -> float:
        """Usual number of pictures a second: by the median of their distances."""
        return 1 / max(1e-3, float(np.median(np.diff(self.times_s)))) if len(self.times_s) > 1 else self.probe.fps

    def still(self, index: int) -> np.ndarray:
        """Still `index`, uint8 RGB (H, W, 3), at most `STILL_HEIGHT` px high."""
        from PIL import Image

        data = self._stills[self._offsets[index] : self._offsets[index + 1]].tobytes()
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def release(self) -> None:
        """Let go of the pages that were looked at; they are read from disk again when needed."""
        for mapped in (self.pictures, self.sound, self._stills):
            pages = getattr(mapped, "_mmap", None)
            if isinstance(pages, mmap.mmap) and hasattr(pages, "madvise"):
                pages.madvise(mmap.MADV_DONTNEED)


def scan(path: Path, work: Path, *, sha256: str | None = None, progress: Callable[[float], None] | None = None) -> Scan:
    """Look once at every picture of a file and listen to all of its sound.

    Args:
        path: a video; rotated, with odd pixels, variable frame rate, without sound: as it comes.
        work: folder for what was found; a file seen before is not decoded again.
        sha256: of the file, where it is known.
        progress: called with the share that is done, 0..1, now and then.

    Raises:
        MediaError: the file is missing, empty, not a video, or holds no picture that decodes.
        DiskFull: the work folder has no room.
    """
    path = Path(path)
    found = probe(path)
    checksum = sha256 or sha256_file(path)
    parameters = [LONG_SIDE, STILL_HEIGHT, STILL_EVERY_S, SAMPLE_RATE]
    store = Store(Path(work))
    key = content_key("scan", VERSION, parameters, {"video": checksum})
    record = store.run("scan", key, lambda folder: _scan(path, found, folder, progress))
    if progress is not None:
        progress(1.0)
    folder = store.folder("scan", key)
    height, width = record["size"]
    stored = dict(record["probe"])
    audio = stored.pop("audio")
    return Scan(
        path=path,
        sha256=checksum,
        probe=Probe(**stored, audio=AudioProbe(**audio) if audio else None),
        times_s=np.fromfile(folder / "times.f64"),
        end_s=record["end_s"],
        pictures=_mapped(folder / "pictures.u8", np.uint8).reshape(-1, height, width, 3),
        sound=_mapped(folder / "sound.f32", np.float32),
        stills_s=np.fromfile(folder / "stills.f64"),
        _stills=_mapped(folder / "stills.jpg", np.uint8),
        _offsets=np.fromfile(folder / "stills.i64", np.int64),
    )


def _mapped(path: Path, dtype: Any) -> np.ndarray:
    if path.stat().st_size == 0:  # nothing can be mapped of an empty file
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")


class _Pictures:
    """Takes decoded frames as they come; writes small pictures, times and stills."""

    def __init__(
        self, source: Source, shape: tuple[int, int], pictures_file: IO[bytes], stills_file: IO[bytes]
    ) -> None:
        self.source, self.base = source, source.video.time_base
        self.by_dts = source.container.format.name == "avi"  # as in `media.frames.decoded`
        width, height = shape
        scale = LONG_SIDE / max(width, height)
        self.size = max(8, round(width * scale)), max(8, round(height * scale))
        share = min(1.0, STILL_HEIGHT / height)
        self.still_size = max(1, round(width * share)), max(1, round(height * share))
        self.times, self.stills_s, self.offsets = array("d"), array("d"), array("q", [0])
        self.last: int | None = None
        self.end_s = 0.0
        self._small: Transform | None = None
        self._still: Transform | None = None
        self._pictures_file, self._stills_file = pictures_file, stills_file

    def take(self, frame: Any) -> None:
        stamp = frame.dts if self.by_dts else frame.pts
        if stamp is None:
            usual = max(1, round(1 / (self.source.rate * self.base)))
            stamp = self.last + usual if self.last is not None else 0
        if self.last is not None and stamp <= self.last:
            return
        if self._small is None or self._still is None:
            shape = stored_geometry(self.source.video, frame)
            # Area averaging: every pixel counts, so that a small picture neither shimmers nor misses thin things.
            self._small = Transform(shape, "rgb24", None, self.size, "area")
            self._still = Transform(shape, "rgb24", None, self.still_size, "area")
        self.last = stamp
        time = float(stamp * self.base - self.source.origin)
        self.times.append(time)
        self._pictures_file.write(self._small(frame).to_ndarray().tobytes())
        if not self.stills_s or time >= self.stills_s[-1] + STILL_EVERY_S - 1e-3:
            data = encode_jpeg(self._still(frame).to_ndarray(), 85)
            self._stills_file.write(data)
            self.stills_s.append(time)
            self.offsets.append(self.offsets[-1] + len(data))
        self.end_s = float(frame_end(self.source, stamp, frame) * self.base - self.source.origin)


class _Both(Timeline):
    """The sound of a file, which hands on every picture that it meets on its way through the packets."""

    def __init__(self, source: Source, on_picture: Callable[[Any], None]) -> None:
        super().__init__(source, Fraction(0), 1)
        self._on_picture = on_picture
        self.ended = False

    def _frames(self) -> Iterator[tuple[int, Any]]:
        audio, video = self.source.audio, self.source.video
        assert audio is not None
        for packet in packets(self.source.container, [video, audio]):
            stream = getattr(packet, "stream", packet)
            for frame in decode(packet):
                if stream.index == video.index:
                    self._on_picture(frame)
                elif frame.pts is not None:
                    time = frame.pts * Fraction(frame.time_base or audio.time_base) - self.source.origin
                    yield round(time * self.sample_rate), frame
        self.ended = True


def _scan(path: Path, found: Probe, folder: Path, progress: Callable[[float], None] | None) -> dict[str, Any]:
    import soxr

    with (
        Source(path) as source,
        open(folder / "pictures.u8", "wb") as pictures_file,
        open(folder / "stills.jpg", "wb") as stills_file,
        open(folder / "sound.f32", "wb") as sound_file,
    ):
        source.video.codec_context.thread_count = 1  # one core a video; others are there for other videos
        pictures = _Pictures(source, (found.width, found.height), pictures_file, stills_file)
        told = 0.0

        def take(frame: Any) -> None:
            nonlocal told
            pictures.take(frame)
            share = pictures.times[-1] / found.duration_s if pictures.times and found.duration_s else 0.0
            if progress is not None and share >= told + 0.01:
                told = share
                progress(min(share, 1.0))

        samples = 0
        if source.audio is None:
            for packet in packets(source.container, [source.video]):
                for frame in decode(packet):
                    take(frame)
        else:
            both = _Both(source, take)
            resample = soxr.ResampleStream(both.sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
            done = 0
            while not both.ended:
                block = both.read(_BLOCK)[0]
                if both.ended:  # `read` fills up with silence: only what was there counts
                    block = block[: max(0, round(both.reached * both.sample_rate) - done)]
                done += len(block)
                part = resample.resample_chunk(np.ascontiguousarray(block), last=both.ended)
                sound_file.write(part.astype(np.float32, copy=False).tobytes())
                samples += len(part)
        if not pictures.times:
            raise MediaError(f"{path} holds no picture that can be decoded: get the file again.")
        (folder / "times.f64").write_bytes(pictures.times.tobytes())
        (folder / "stills.f64").write_bytes(pictures.stills_s.tobytes())
        (folder / "stills.i64").write_bytes(pictures.offsets.tobytes())
        width, height = pictures.size
        return {"size": [height, width], "end_s": pictures.end_s, "samples": samples, "probe": asdict(found)}
