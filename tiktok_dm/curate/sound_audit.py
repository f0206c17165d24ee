"""Songs that sound the same under two ids, and clips that appear twice: what a split's table alone cannot show.

Each clip is heard and seen once: a sketch of its music (`tiktok_dm.curate.songs`) and a track of tiny grey pictures of
the dance, the frame's static decoration left out. Music tells which clips share a song, at any usual speed and pitch,
and at which second of each; where nearly the whole of a clip lies under the same stretch of music, the pictures tell
whether it is the same clip again (coded anew, mirrored, in another border) or another dance to it. Two takes by one
dancer before one wall are told apart by their motion: the still part of the picture is compared on its own.

A clip without sound, or with other music under the same dance, is not found; clips that could not be heard are named.
What the findings mean for a split is said by `tiktok_dm.splits.audit_splits`.
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

from tiktok_dm.annotations import Annotations
from tiktok_dm.content_box import find_content_box
from tiktok_dm.curate.proposals import work_folder
from tiktok_dm.curate.songs import SameSong, SongIndex, SongSketch, sketch
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.splits import Finding, audit_splits

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str, int, int, str], None]  # ("clips" or "songs", done, of how many, what)

VERSION = 1  # of what is kept of a clip; changes with the numbers below
RATE = 22_050  # Hz, of the sound that is sketched
PICTURES_PER_S = 8  # at 4, a dancer's fast moves fall between the pictures of two clips that start out of step
SIDE = 16  # px of a picture of the track
_HEIGHT = 240  # px of the pictures in which the content box is looked for
_FIRST_PICTURES = 12 * PICTURES_PER_S  # of them
_BOX_PICTURES = 24
_MOST_PICTURES = 300 * PICTURES_PER_S  # of a clip; a "clip" of an hour is told by its first minutes

SAME_SONG = 0.5  # confidence from which on a pair of clips has the same song
NEARLY_WHOLE = 0.8  # share of the shorter clip that lies under the same stretch of music as the other
_LEAST_S = 2.0  # of pictures that are compared
_SEARCH_S = 0.5  # how far the pictures may lie from where the music says: coders shift sound by up to 0.1 s
_STEP_S = 1 / 16
STILL, MOVING = 0.8, 0.6
"""Correlations from which on two tracks are one: of what stands still, and of what moves.

Measured on 20 clips of real dancers, each against itself coded anew, mirrored, darker, half a picture out of step: at
least 0.92 of what moves (0.72 where 7 % of the picture was cut off as well); different dancers at their best of 102
alignments: at most 0.43.
"""
_MOTION = 1.0  # levels (of 255) of root mean square: less is coding noise, not motion


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
        pictures: RGB pictures, `PICTURES_PER_S` a second, at most 240 px high.
    """

    clip_id: int
    key: str
    sound: Callable[[], tuple[np.ndarray, float]]
    pictures: Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Twice:
    """Two clips that are one.

    Args:
        clips: their ids, ascending.
        still, moving: correlation of what stands still and of what moves in their pictures, -1..1.
        mirrored: one is the other's mirror image.
        speed: of the second over the first.
        share: of the shorter clip that is in both.
    """

    clips: tuple[int, int]
    still: float
    moving: float
    mirrored: bool
    speed: float
    share: float

    def __str__(self) -> str:
        words = [f"{round(100 * self.share)} % of the music, pictures {min(self.still, self.moving):.2f} alike"]
        if self.mirrored:
            words.append("mirrored")
        if abs(self.speed - 1) > 0.02:
            words.append(f"played {self.speed:.2f} times as fast")
        return ", ".join(words)


@dataclass(frozen=True)
class SoundAudit:
    """An audit with everything that can be heard and seen.

    Args:
        findings: as `audit_splits` gives them.
        heard: number of clips that were compared.
        not_heard: ids of clips that could not be, by the reason in words.
        songs: pairs of songs that sound the same under two ids, (song, song, confidence).
        twice: clips that are one.
    """

    findings: list[Finding]
    heard: int
    not_heard: dict[str, tuple[int, ...]]
    songs: list[tuple[int, int, float]]
    twice: list[Twice]

    @property
    def notes(self) -> list[str]:
        """A sentence for each reason for which clips were not compared."""
        notes = []
        for reason, clips in self.not_heard.items():
            shown = ", ".join(map(str, clips[:20])) + (f" and {len(clips) - 20} more" if len(clips) > 20 else "")
            notes.append(f"clip{'' if len(clips) == 1 else 's'} {shown} not compared: {reason}")
        return notes


def audit_sound(
    annotations: Annotations,
    *,
    media: Path | str | None = None,
    dataset: Path | str | None = None,
    progress: Progress | None = None,
) -> SoundAudit:
    """Audit a split by ear and eye.

    Args:
        annotations: with `splits`.
        media: folder with the compilations; or
        dataset: a built dataset, whose own splits are held against the annotations' too.
        progress: called after each clip that was heard, then after each whose music was compared.

    Raises:
        UserError: both or none of `media` and `dataset`, or they are not there; no splits.
    """
    if (media is None) == (dataset is None):
        raise UserError("say where the clips are: --media FOLDER with the compilations, or --dataset OUT")
    if annotations.splits is None:
        raise UserError(f"{annotations.root} has no split to look at: make one with `tiktok-dm split`")
    clips = annotations.clips
    not_heard: dict[str, list[int]] = {}
    if media is not None:
        here = list(sources_of_media(annotations, Path(media), not_heard))
        sources: Iterable[ClipSource] = here
        total = len(here)
    else:
        assert dataset is not None
        rows, sources = sources_of_dataset(dataset)
        total = len(rows)
        absent = sorted({int(clip) for clip in clips.clip_id} - {int(clip) for clip in rows.clip_id})
        if absent:
            not_heard["not in the dataset"] = absent
        clips = _joined(clips, rows)
    cache = work_folder(annotations.root) / "audit"
    evidence = listen(sources, not_heard, cache, progress, total)
    songs_of = {int(c): int(s) for c, s in zip(clips.clip_id, clips.song_id, strict=True)}
    songs, twice = compare(evidence, songs_of, progress)
    findings = audit_splits(clips, annotations.splits, songs, [(*pair.clips, str(pair)) for pair in twice])
    reasons = {reason: tuple(sorted(ids)) for reason, ids in sorted(not_heard.items())}
    return SoundAudit(findings, len(evidence), reasons, songs, twice)


def _joined(clips: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The annotated clips and the dataset's, which say their split."""
    import pandas as pd

    return pd.concat([clips[["clip_id", "song_id", "compilation_id"]], rows], ignore_index=True)


# ------------------------------------------------------------------------------------------- where clips are


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
                rgb for _, rgb in read_frames(path, start_s=start, end_s=end, fps=PICTURES_PER_S, max_height=_HEIGHT)
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
        height = min(_HEIGHT, picture.height)
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
    from tiktok_dm.pipeline.store import content_key

    parameters = {"rate": RATE, "pictures": PICTURES_PER_S, "side": SIDE, "height": _HEIGHT}
    return content_key("audit", VERSION, parameters, {str(k): value for k, value in enumerate(inputs)})


# ------------------------------------------------------------------------------------------- hearing and seeing


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
    if place is None or not place.is_file():
        return None
    try:
        return Evidence.from_bytes(place.read_bytes())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, UserError):  # half, or of another version
        return None


def _keep(place: Path | None, found: Evidence) -> None:
    from tiktok_dm.pipeline.store import write_atomic

    if place is None:
        return
    try:
        write_atomic(place, found.to_bytes())
    except (OSError, UserError):  # it only saves time; an audit needs no place to write
        return


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


# ------------------------------------------------------------------------------------------- comparing


def compare(
    evidence: Mapping[int, Evidence], songs: Mapping[int, int], progress: Progress | None = None
) -> tuple[list[tuple[int, int, float]], list[Twice]]:
    """Pairs of songs that sound the same under two ids, and clips that appear twice.

    Args:
        evidence: by clip id.
        songs: song id of each of those clips.

    Returns:
        (song, song, confidence) with the best confidence of each pair, and the clips; both in order of ids.
    """
    index = SongIndex()
    pairs: list[tuple[int, int, SameSong]] = []
    for done, clip in enumerate(sorted(evidence), 1):  # each among those before it: every two clips meet once
        found = index.search(evidence[clip].music)
        pairs += [(int(same.a), clip, same) for same in found if same.confidence >= SAME_SONG]
        index.add(str(clip), evidence[clip].music)
        if progress is not None:
            progress("songs", done, len(evidence), f"clip {clip}")
    best: dict[tuple[int, int], float] = {}
    twice = []
    for a, b, same in sorted(pairs, key=lambda pair: pair[:2]):
        one, other = sorted((songs[a], songs[b]))
        if one != other:
            best[one, other] = max(best.get((one, other), 0.0), same.confidence)
        if (again := _same_clip((a, b), evidence[a], evidence[b], same)) is not None:
            twice.append(again)
    return [(*ids, confidence) for ids, confidence in sorted(best.items())], twice


def _same_clip(clips: tuple[int, int], a: Evidence, b: Evidence, same: SameSong) -> Twice | None:
    """Whether two clips with the same music are one clip; `same` is of the first and the second."""
    # Second t of a lies at second offset + t / speed of b.
    first = max(0.0, -same.offset_s * same.speed)
    last = min(a.duration_s, (b.duration_s - same.offset_s) * same.speed)
    shared = last - first
    share = max(shared / a.duration_s, shared / same.speed / b.duration_s)
    if share < NEARLY_WHOLE:
        return None
    still, moving, mirrored = same_pictures(a.pictures, b.pictures, same.speed, same.offset_s)
    if still < STILL or moving < MOVING:
        return None
    return Twice(clips, still, moving, mirrored, same.speed, min(1.0, share))


def same_pictures(a: np.ndarray, b: np.ndarray, speed: float, offset_s: float) -> tuple[float, float, bool]:
    """How alike two tracks are where the music puts them, or up to half a second beside it.

    Second t of `a` is compared with second `offset_s + t / speed` of `b`, as it is and mirrored.

    Returns:
        (correlation of the mean pictures, correlation of what is left of each picture without its track's mean,
        whether the mirror image is meant); the second is the first where neither track moves at all. (-1, -1, False)
        where less than two seconds can be compared.
    """
    best = (-1.0, -1.0, False)
    if min(len(a), len(b)) < _LEAST_S * PICTURES_PER_S:
        return best
    times = np.arange(len(a)) / PICTURES_PER_S
    flipped = b[:, :, ::-1]
    for shift in np.arange(-_SEARCH_S, _SEARCH_S + 1e-9, _STEP_S):
        places = (offset_s + shift + times / speed) * PICTURES_PER_S
        inside = (places >= 0) & (places <= len(b) - 1)
        if inside.sum() < _LEAST_S * PICTURES_PER_S:
            continue
        ours = a[inside].astype(np.float32)
        for mirrored, track in ((False, b), (True, flipped)):
            theirs = _between(track, places[inside])
            found = (*_correlations(ours, theirs), mirrored)
            if min(found[:2]) > min(best[:2]):
                best = found
    return best


def _between(track: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pictures at fractional places of a track, linearly between its pictures."""
    low = np.minimum(places.astype(int), max(len(track) - 2, 0))
    part = (places - low)[:, None, None].astype(np.float32)
    return (1 - part) * track[low] + part * track[np.minimum(low + 1, len(track) - 1)]


def _correlations(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    still_a, still_b = a.mean(axis=0), b.mean(axis=0)
    moving_a, moving_b = a - still_a, b - still_b
    still = _correlation(still_a, still_b)
    if max(moving_a.std(), moving_b.std()) < _MOTION:
        return still, still
    return still, _correlation(moving_a, moving_b)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, -1..1; 0 where one of the two is constant."""
    x, y = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y / size) if size > 1e-9 else 0.0
