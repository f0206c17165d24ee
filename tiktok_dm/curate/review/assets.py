"""What the review page shows of a video: frame times, frames, sound, beats, skeletons, computed when asked for.

Everything is made when it is first asked for and kept in the work folder, under the video's name, size and time of
change: another video under the same id is another thing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.errors import Filtered, MediaError, UserError
from tiktok_dm.files import sha256_file


class FrameTimes:
    """When the pictures of a video come, to which edges are snapped.

    Args:
        times: s from the first instant, ascending, (pictures + 1,); the last is the end of the last picture.
    """

    def __init__(self, times: NDArray[np.float64]) -> None:
        if len(times) < 2:
            raise ValueError("a video has at least one picture")
        self.times = times

    def __len__(self) -> int:
        """How many instants there are: pictures, and the end."""
        return len(self.times)

    def nearest(self, t_s: float) -> int:
        """Number of the instant that is nearest to `t_s`."""
        after = int(np.searchsorted(self.times, t_s))
        near = [k for k in (after - 1, after) if 0 <= k < len(self.times)]
        return min(near, key=lambda k: abs(float(self.times[k]) - t_s))

    def on_screen(self, t_s: float) -> int:
        """Number of the picture that is shown at `t_s`; the last one past the end."""
        return min(max(int(np.searchsorted(self.times, t_s + 1e-4, side="right")) - 1, 0), len(self.times) - 2)

    def at(self, index: int) -> float:
        """The instant `index` in s, as it is written down."""
        return round(float(self.times[index]), 6)


PEAKS_HZ = 100
HEIGHTS = {"small": 160, "large": 720}
_BLOCK_S = 120.0
_STRIP_S = 8
_AROUND = 2
_PEAK_RATE = 8000  # Hz; the outline of the sound needs no more


@dataclass(frozen=True)
class Facts:
    """What the page must know of a video: length in s, upright size in px, whether it has sound."""

    duration_s: float
    width: int
    height: int
    fps: float
    sound: bool


class Assets:
    """Assets of the videos of a folder.

    Args:
        work: the work folder.
        sources: the video of each compilation, by id.
    """

    def __init__(self, work: Path, sources: Mapping[int, Path]) -> None:
        self.work, self.sources = work, dict(sources)
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._times: dict[Path, FrameTimes] = {}

    def source(self, compilation_id: int) -> Path:
        """The video of a compilation.

        Raises:
            UserError: it is not on this machine.
        """
        path = self.sources.get(compilation_id)
        if path is None or not path.is_file():
            raise UserError(
                f"The video of compilation {compilation_id} is not here: start the review again with --media and the "
                "folder that holds it"
            )
        return path

    def folder(self, compilation_id: int) -> Path:
        """Where the assets of a compilation's video are kept."""
        path = self.source(compilation_id)
        stat = path.stat()
        what = f"{path.name} {stat.st_size} {stat.st_mtime_ns}"
        return self.work / "review" / f"{compilation_id}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"

    def facts(self, compilation_id: int) -> Facts:
        """Length, size and sound of a video."""

        def make() -> bytes:
            from tiktok_dm.media import probe

            seen = probe(self.source(compilation_id))
            end = float(self.frame_times(compilation_id).times[-1])
            facts = Facts(max(seen.duration_s, end), seen.width, seen.height, seen.fps, seen.audio is not None)
            return json.dumps(asdict(facts)).encode()

        return Facts(**json.loads(self._kept(self.folder(compilation_id) / "facts.json", make)))

    def frame_times(self, compilation_id: int) -> FrameTimes:
        """When the pictures of a video come."""
        path = self.folder(compilation_id) / "frames.f64"
        if path not in self._times:
            data = self._kept(path, lambda: picture_times(self.source(compilation_id)).tobytes())
            self._times[path] = FrameTimes(np.frombuffer(data, np.float64))
        return self._times[path]

    def picture(self, compilation_id: int, index: int, size: str) -> bytes:
        """Picture `index` of a video as JPEG, `small` (160 px high) or `large` (720)."""
        frames = self.frame_times(compilation_id)
        index = min(max(index, 0), len(frames) - 2)
        path = self.folder(compilation_id) / size / f"{index}.jpg"

        def make() -> bytes:
            from tiktok_dm.media import encode_jpeg, read_frames

            wanted = [index] if size == "large" else together(frames, index)
            start, end = float(frames.times[wanted[0]]), float(frames.times[wanted[-1] + 1])
            source, found = self.source(compilation_id), b""
            for at, rgb in read_frames(source, start_s=start, end_s=end - 1e-4, max_height=HEIGHTS[size]):
                k = frames.nearest(at)
                if k not in wanted:
                    continue
                data = encode_jpeg(rgb, quality=80)
                if k == index:
                    found = data
                else:
                    _put(path.with_name(f"{k}.jpg"), data)
            if not found:  # a damaged picture: what a player shows in its place
                from tiktok_dm.media import frame_at

                at = (float(frames.times[index]) + float(frames.times[index + 1])) / 2
                found = encode_jpeg(frame_at(source, at, max_height=HEIGHTS[size]), quality=80)
            return found

        # One decodes, the others find theirs made.
        with self._lock(str(path.parent / str(together(frames, index)[0]))):
            return self._kept(path, make)

    def peaks(self, compilation_id: int) -> bytes:
        """The sound's outline: its greatest amplitude in each hundredth of a second, 0..255 for 0..1."""

        def make() -> bytes:
            facts = self.facts(compilation_id)
            if not facts.sound:
                return bytes(max(1, round(facts.duration_s * PEAKS_HZ)))
            return outline(self.source(compilation_id), facts.duration_s).tobytes()

        return self._kept(self.folder(compilation_id) / "outline.u8", make)

    def beats(self, compilation_id: int, start_s: float, end_s: float) -> bytes:
        """Beats and tempo of a clip as JSON: `beats_s` from the source's first instant, `tempo_bpm` or null."""
        name = f"{round(start_s * 1000)}-{round(end_s * 1000)}.json"

        def make() -> bytes:
            tempo, beats = _beats(self.source(compilation_id), start_s, end_s)
            return json.dumps({"tempo_bpm": tempo, "beats_s": [round(start_s + t, 4) for t in beats]}).encode()

        return self._kept(self.folder(compilation_id) / "beats" / name, make)

    def poses(self, compilation_id: int, start_s: float, end_s: float) -> NDArray[np.float32] | None:
        """Poses of a clip, (frames, dancers, 25, 3) at 30 fps from `start_s`; None where none were estimated."""
        from tiktok_dm.curate.video_findings import stored_poses

        return stored_poses(self.work, self.checksum(compilation_id), start_s, end_s)

    def checksum(self, compilation_id: int) -> str:
        """SHA-256 of a video."""
        path = self.source(compilation_id)
        return self._kept(self.folder(compilation_id) / "sha256.txt", lambda: sha256_file(path).encode()).decode()

    def _lock(self, name: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def _kept(self, path: Path, make: Callable[[], bytes]) -> bytes:
        """The bytes at `path`, made once even where several threads ask."""
        with self._lock(str(path)):
            try:
                return path.read_bytes()
            except OSError:
                data = make()
                _put(path, data)
                return data


def _put(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there; not synced to the disk, since it can be made again."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a place where you may write") from error
    finally:
        beside.unlink(missing_ok=True)


def together(frames: FrameTimes, index: int) -> list[int]:
    """Pictures to decode in one go when picture `index` is asked for, ascending: it costs hardly more than one.

    Of a picture on screen at a whole second, those of the eight seconds around it: strips show these. Of any other,
    its neighbours: edges are nudged by pictures.
    """
    last, end = len(frames) - 2, float(frames.times[-1])
    second = round(float(frames.times[index] + frames.times[index + 1]) / 2)
    for n in (second, second - 1, second + 1):
        if 0 <= n < end and frames.on_screen(float(n)) == index:
            first = n - n % _STRIP_S
            return sorted({frames.on_screen(float(k)) for k in range(first, first + _STRIP_S) if k < end})
    return [k for k in range(index - _AROUND, index + _AROUND + 1) if 0 <= k <= last]


def picture_times(path: Path) -> NDArray[np.float64]:
    """Time stamps of a video's pictures, s from the file's first instant, ascending, and the end of the last one.

    Read from the packets: nothing is decoded. Pictures that come before the first instant, which players drop, are left
    out.

    Raises:
        MediaError: as `tiktok_dm.media.probe`; or the video has no time stamps.
    """
    from tiktok_dm.media.source import Source, packets

    stamps: list[int] = []
    ends: dict[int, int] = {}
    with Source(path) as source:
        base, origin, rate = source.video.time_base, source.origin, source.rate
        for packet in packets(source.container, [source.video]):
            stamp = getattr(packet, "pts", None)
            if stamp is not None and stamp * base >= origin and not getattr(packet, "is_discard", False):
                stamps.append(stamp)
                ends[stamp] = stamp + (packet.duration or 0)
    if not stamps:
        raise MediaError(f"{path} has no time stamps: convert it to MP4 first.")
    stamps = sorted(set(stamps))
    last = ends[stamps[-1]] if ends[stamps[-1]] > stamps[-1] else stamps[-1] + round(1 / rate / base)
    return np.array([float(stamp * base - origin) for stamp in [*stamps, last]])


def outline(path: Path, duration_s: float) -> NDArray[np.uint8]:
    """Greatest amplitude of the sound in each 1 / PEAKS_HZ s, uint8 for 0..1; read in blocks."""
    from tiktok_dm.media import read_audio

    n = max(1, round(duration_s * PEAKS_HZ))
    per = _PEAK_RATE // PEAKS_HZ
    parts = []
    for first in range(0, n, round(_BLOCK_S * PEAKS_HZ)):
        last = min(n, first + round(_BLOCK_S * PEAKS_HZ))
        block = read_audio(path, sample_rate=_PEAK_RATE, start_s=first / PEAKS_HZ, end_s=last / PEAKS_HZ)
        whole = np.zeros((last - first) * per, np.float32)
        whole[: len(block)] = block[: len(whole)]
        parts.append(np.abs(whole).reshape(-1, per).max(axis=1))
    return np.round(255 * np.clip(np.concatenate(parts), 0, 1)).astype(np.uint8)


def _beats(path: Path, start_s: float, end_s: float) -> tuple[float | None, list[float]]:
    """Tempo and beats (s from the clip's start), as the build measures them; none where there is no music."""
    from tiktok_dm.media import encode_audio, read_audio
    from tiktok_dm.pipeline.music import MusicParams, music

    params = MusicParams()
    try:
        samples = read_audio(path, sample_rate=params.sample_rate, start_s=start_s, end_s=end_s)
        with tempfile.TemporaryDirectory() as folder:
            sound = Path(folder) / "clip.wav"
            sound.write_bytes(encode_audio(samples, params.sample_rate, "wav"))
            record = music(sound, params, Path(folder))
    except (Filtered, MediaError):
        return None, []
    return record["tempo_bpm"], record["beats_s"]
