"""What is compared when a split is looked over for leaks: sketches of sound and frames of every clip.

The track shows the picture proper, so that static decoration around it, its size and its coding make no difference.
What was computed once is kept for the next audit. For `leaks`.

Each is told from all others by a key, and opened only when it is asked for.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.audio.spectrogram_sketch import SongSketch, sketch
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.media.content_box import find_content_box

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str, int, int, str], None]  # ("clips" or "songs", done, of how many, what)

VERSION = 1  # of what is kept of a clip; changes with the numbers below
RATE = 22_050  # Hz, of the sound that is sketched
PICTURES_PER_S = 8  # at 4, a dancer's fast moves fall between the pictures of two clips that start out of step
SIDE = 16  # px of a picture of the track
HEIGHT = 240  # px of the pictures in which the content box is looked for
_FIRST_PICTURES = 12 * PICTURES_PER_S  # of them
_BOX_PICTURES = 24
_MOST_PICTURES = 300 * PICTURES_PER_S  # of a clip; a "clip" of an hour is told by its first minutes


@dataclass(frozen=True)
class Evidence:
    """What is kept of a clip.

    Args:
        music: sketch of its sound.
        pictures: uint8 (n, 16, 16), grey, `PICTURES_PER_S` a second, of the picture proper.
        duration_s: of its sound.
    """

    music: SongSketch
    pictures: np.ndarray = field(repr=False)
    duration_s: float

    def to_bytes(self) -> bytes:
        out = io.BytesIO()
        music = np.frombuffer(self.music.to_bytes(), np.uint8)
        np.savez_compressed(out, music=music, pictures=self.pictures, duration_s=np.float64(self.duration_s))
        return out.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Evidence:
        """The inverse, for what `to_bytes` wrote."""
        with np.load(io.BytesIO(data)) as stored:
            music = SongSketch.from_bytes(stored["music"].tobytes())
            return Evidence(music, stored["pictures"], float(stored["duration_s"]))


@dataclass(frozen=True)
class ClipSource:
    """A clip that can be heard and seen.

    Args:
        key: changes when its bytes or its times do.
        sound: float32 (samples,), and their rate in Hz; raises `MediaError` where there is none.
        pictures: RGB pictures (h, w, 3) uint8, `PICTURES_PER_S` a second, at most `HEIGHT` px high.
    """

    clip_id: int
    key: str
    sound: Callable[[], tuple[np.ndarray, float]]
    pictures: Callable[[], Iterable[np.ndarray]]


def listen(
    sources: Iterable[ClipSource],
    not_heard: dict[str, list[int]] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    total: int = 0,
) -> dict[int, Evidence]:
    """What is to be kept of each clip, by id; each is decoded once, and kept in the folder `cache` for the next time.

    A clip that holds no sound, or only silence, or cannot be decoded is put into `not_heard` instead.
    """
    reasons = not_heard if not_heard is not None else {}
    evidence: dict[int, Evidence] = {}
    for done, source in enumerate(sources, 1):
        place = cache / f"{source.key}.npz" if cache is not None else None
        found = _cached(place)
        if found is None:
            try:
                found = evidence_of(source)
            except MediaError as error:
                reasons.setdefault(_one_line(error), []).append(source.clip_id)
            else:
                _keep(place, found)
        if found is not None and found.music.silent:
            reasons.setdefault("silence", []).append(source.clip_id)
        elif found is not None:
            evidence[source.clip_id] = found
        if progress is not None:
            progress("clips", done, total, f"clip {source.clip_id}")
    return evidence


def evidence_of(source: ClipSource) -> Evidence:
    """Hear and see one clip; raises `MediaError` where its sound or its picture cannot be decoded."""
    samples, rate = source.sound()
    return Evidence(sketch(samples, rate), picture_track(source.pictures()), len(samples) / rate)


def picture_track(pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Tiny grey pictures uint8 (n, 16, 16) of RGB ones: of the picture proper, whatever its shape.

    Memory does not grow with the clip: the content box is found in the first twelve seconds.
    """
    from PIL import Image

    first: list[np.ndarray] = []
    track: list[np.ndarray] = []
    box: tuple[int, int, int, int] | None = None

    def tiny(picture: np.ndarray) -> np.ndarray:
        grey = Image.fromarray(picture).convert("L")
        return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX, box=box))

    def settle() -> None:
        nonlocal box
        sample = first[:: max(1, len(first) // _BOX_PICTURES)]
        if sample:
            found = find_content_box(np.stack(sample))
            box = (found.x, found.y, found.x + found.width, found.y + found.height)
        track.extend(tiny(picture) for picture in first)
        first.clear()

    for count, picture in enumerate(pictures):
        if count >= _MOST_PICTURES:
            break
        if count < _FIRST_PICTURES:
            first.append(picture)
            continue
        if first:
            settle()
        track.append(tiny(picture))
    settle()
    return np.stack(track) if track else np.zeros((0, SIDE, SIDE), np.uint8)


def _cached(place: Path | None) -> Evidence | None:
    """What was kept of a clip; None where nothing was, or nothing that can still be read."""
    if place is None or not place.is_file():
        return None
    try:
        return Evidence.from_bytes(place.read_bytes())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, UserError):  # half, or of another version
        return None


def _keep(place: Path | None, found: Evidence) -> None:
    from tiktok_dm.files import write_atomic

    if place is None:
        return
    try:
        write_atomic(place, found.to_bytes())
    except (OSError, UserError):  # it only saves time; an audit needs no place to write
        return


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def sources_of_media(
    annotations: Annotations, media: Path, not_heard: dict[str, list[int]] | None = None
) -> Iterator[ClipSource]:
    """The clips of local compilations, in the table's order; what cannot be opened is put into `not_heard`.

    Raises:
        UserError: `media` is no folder.
    """
    import pandas as pd

    from tiktok_dm.media import read_audio, read_frames
    from tiktok_dm.pipeline.acquire import find_local

    if not media.is_dir():
        raise UserError(f"the media folder {media} does not exist: give the folder with the compilations")
    missing = not_heard if not_heard is not None else {}
    named = annotations.compilations
    files = {int(n): None if pd.isna(f) else str(f) for n, f in zip(named.compilation_id, named.file, strict=True)}
    paths = {number: find_local(media, number, file) for number, file in files.items()}

    def source(clip: int, path: Path, start: float, end: float) -> ClipSource:
        state = path.stat()
        key = _key([str(path.resolve()), state.st_size, state.st_mtime_ns, start, end])
        return ClipSource(
            clip,
            key,
            lambda: (read_audio(path, sample_rate=RATE, start_s=start, end_s=end), RATE),
            lambda: (
                rgb for _, rgb in read_frames(path, start_s=start, end_s=end, fps=PICTURES_PER_S, max_height=HEIGHT)
            ),
        )

    for row in annotations.clips.to_dict("records"):
        clip, number = int(row["clip_id"]), int(row["compilation_id"])
        path = paths.get(number)
        if path is None:
            missing.setdefault(f"no file of compilation {number} is in {media}", []).append(clip)
        elif pd.isna(row["start_s"]) or pd.isna(row["end_s"]):
            missing.setdefault("no start or no end", []).append(clip)
        else:
            yield source(clip, path, float(row["start_s"]), float(row["end_s"]))


def sources_of_dataset(dataset: Path | str) -> tuple[pd.DataFrame, Iterator[ClipSource]]:
    """The clips of a built dataset: `clip_id`, `song_id`, `compilation_id` and `split` of each, and the clips one after
    another (only one clip's bytes are held at a time).

    Raises:
        UserError: there is no dataset.
    """
    import pandas as pd

    from tiktok_dm.reading import open_dataset

    opened = open_dataset(dataset, "clips", streaming=True)
    columns = ["clip_id", "song_id", "compilation_id", "split"]
    rows = [row for split in opened.values() for row in split.select_columns(columns)]
    table = pd.DataFrame(rows, columns=columns).astype(
        {name: "string" if name == "split" else "Int64" for name in columns}
    )

    def clips() -> Iterator[ClipSource]:
        for split in opened.values():
            for row in split.select_columns(["clip_id", "video", "audio"]):
                yield _stored_clip(row)

    return table, clips()


def _stored_clip(row: Mapping[str, Any]) -> ClipSource:
    from tiktok_dm.reading import decode_audio, stored_bytes

    def sound() -> tuple[np.ndarray, float]:
        samples, rate = decode_audio(row["audio"])
        return (samples if samples.ndim == 1 else samples.mean(axis=1)), rate

    digests = [hashlib.sha256(stored_bytes(row[name])).hexdigest() for name in ("video", "audio")]
    return ClipSource(int(row["clip_id"]), _key(digests), sound, lambda: _stored_pictures(row["video"]))


def _stored_pictures(value: Any) -> Iterator[np.ndarray]:
    """The pictures on screen at k / PICTURES_PER_S of a stored video, scaled down."""
    from tiktok_dm.reading import video_frames

    held: Any = None
    count = 0

    def small(picture: Any) -> np.ndarray:
        height = min(HEIGHT, picture.height)
        width = max(1, round(picture.width * height / picture.height))
        return picture.to_ndarray(format="rgb24", width=width, height=height)

    for time, picture in video_frames(value):
        while held is not None and count / PICTURES_PER_S < time - 1e-6:
            yield small(held)
            count += 1
        held = picture
    if held is not None:
        yield small(held)


def _key(inputs: Sequence[Any]) -> str:
    """Content key of a clip's evidence: of what it is made from, and how."""
    from tiktok_dm.runtime.store import content_key

    parameters = {"rate": RATE, "pictures": PICTURES_PER_S, "side": SIDE, "height": HEIGHT}
    return content_key("audit", VERSION, parameters, {str(k): value for k, value in enumerate(inputs)})
