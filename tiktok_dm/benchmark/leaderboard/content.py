"""What a test split holds, whatever bytes it is stored in: an exact identity, sketches that forgive another build.

A submission is bound to the content that is scored: ids, songs, decoded music, poses. The identity is a checksum over
these, so it depends neither on the Parquet library nor on shards, compression or the order of rows. The same dataset
built on another processor or with another FFmpeg differs by a few steps in a sample and a pixel in a pose, and has
another identity; sketches tell that from other content.

The sketch of an item:

- Sound: its slope, smoothed by a Gaussian (a band-pass around `band_hz`), at up to 128 instants a second, in 63 levels
  that are finer towards zero (mu-law). Two sounds are the same where the difference of their slopes stays small beside
  the slopes, in each stretch of about a second. A shift, another speed or other music change the slope at nearly every
  instant.
- Poses: eight keypoints of the lead dancer in four frames a second, in whole pixels. Two dances are the same where
  the keypoints lie at the same places on the whole (`POSE_SHIFT`) and nearly one by one (`POSE_FAR`), and are not moved
  along the way that they go (`POSE_LAG`).

A submission carries the sketches of the dataset that its music was made for, so that whoever checks it can tell another
build of that dataset from another dataset.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiktok_dm.benchmark.leaderboard.tables import not_whole_numbers, read_table, table_text
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.errors import Problem
from tiktok_dm.runtime.store import canonical_json
from tiktok_dm.schema import POSE_FPS, SAMPLE_RATE

VERSION = 1
"""Of the identity and the sketches; changes with any number below."""

BANDS_HZ = (300, 1200, 4800)
"""Low bands come through coding and resampling best: the first one that is loud enough is taken."""
BAND_LEVEL = 0.3  # of the loudest band's level, from which on a band is loud enough
INSTANTS_A_SECOND = 128
MOST_INSTANTS = 1024  # 8 s; a longer sound has them further apart
LEVELS = 31  # on each side of zero: a character an instant
MU = 255  # of the mu-law between them, as in telephony (ITU-T G.711): what is 48 dB below the peak still counts
STRETCH = 128  # instants that are compared together
QUIET = 16.0  # 16-bit steps: a slope below is not told from silence

KEYPOINTS = (1, 4, 7, 8, 10, 11, 13, 14)  # neck, wrists, mid hip, knees, ankles: what moves most, and the torso
FRAMES_A_SECOND = 4
MOST_FRAMES = 32
MOST_PX = 4094  # a coordinate is two of 64 signs in the file, and one value means missing
MISSING = -1

LENGTH_S = 0.005
"""Lengths that differ by no more are the same: resamplers round differently. A frame is 33 ms."""
SOUND_ERROR = 0.25
"""Root mean square of the slopes' difference over that of the slopes, at most, in each stretch.

On synthetic songs, AAC at 128 kbit/s gives up to 0.20, 3 dB of gain 0.28 to 0.32, a shift of 20 ms 0.9 to 1.8."""
POSE_SHIFT = (1.5, 0.025)
"""How far the keypoints on the whole (their median) may be displaced: px, or torso lengths where that is more."""
POSE_FAR = (6.0, 0.1)
"""A keypoint that is displaced further than this is another one; likewise."""
FAR_SHARE = 0.15
"""So many keypoints may be others: an estimator that wavers loses a wrist for a moment."""
POSE_LAG = 0.5
"""Frames by which the poses may be early or late."""
MOTION = 100.0  # px^2, squares of all keypoints' steps from frame to frame: below, jitter looks like a lag
SEEN_SHARE = 0.2
"""So many keypoints may be seen by one estimate and missed by the other."""

_EXAMPLES = 1  # ids that a sentence names
_GOLDEN = (math.sqrt(5) - 1) / 2


# ------------------------------------------------------------------------------------------- the identity


def content_identity(dataset: str, config: str, items: Iterable[Item]) -> str:
    """The identity of one configuration of a dataset's test split: `1:ab12...`, version and SHA-256.

    Over the dataset's name, the configuration, and of each item in the order of ids: id, song, the music's samples as
    16-bit numbers, and the poses that are scored, in whole pixels with a missing keypoint where the confidence is 0.

    Args:
        dataset: its name.
        config: `clips` or `segments`.
        items: of the test split, in any order.

    Raises:
        MediaError: an item's music cannot be decoded.
    """
    rows = [_exact(item) for item in sorted(items, key=lambda item: item.id)]
    whole = {"version": VERSION, "dataset": dataset, "config": config, "split": "test", "items": rows}
    return f"{VERSION}:{hashlib.sha256(canonical_json(whole).encode()).hexdigest()}"


def _exact(item: Item) -> list[object]:
    sound = item.sound()
    shape, poses = None, None
    if item.poses is not None:
        seen = item.poses[..., 2] > 0
        places = np.where(seen[..., None], np.rint(item.poses[..., :2]), 0)
        shape = list(item.poses.shape)
        poses = hashlib.sha256(places.astype("<i4").tobytes() + seen.tobytes()).hexdigest()
    return [item.id, item.song_id, len(sound), sound_digest(sound), shape, poses]


def sound_digest(sound: np.ndarray) -> str:
    """SHA-256 of samples (samples,) as 16-bit numbers, so that a float file of the same sound has the same one."""
    return hashlib.sha256(np.rint(np.asarray(sound, np.float64) * 2**15).astype("<i4").tobytes()).hexdigest()


# ------------------------------------------------------------------------------------------- sketches


@dataclass(frozen=True)
class Sketch:
    """What is kept of an item to know it again, about 500 characters for two seconds.

    Args:
        id, song_id: of the item.
        samples: length at 22,050 Hz.
        band_hz: middle of the band in which the sound is looked at, one of `BANDS_HZ`.
        peak: 16-bit steps of slope that the outermost level stands for, at least 1.
        sound: levels -31..31, int64 (instants,), `instants(samples)` of them.
        poses: px of the lead dancer's `KEYPOINTS`, int64 (frames, 8, 2), `pose_frames(samples)` of them;
            `MISSING` where missing. None: no poses are known.
    """

    id: str
    song_id: int | None
    samples: int
    band_hz: int
    peak: int
    sound: np.ndarray = field(repr=False)
    poses: np.ndarray | None = field(repr=False)


def sketch(item: Item) -> Sketch:
    """The sketch of an item.

    Raises:
        MediaError: its music cannot be decoded.
    """
    sound = item.sound()
    slopes = [_slopes(sound, len(sound), band) for band in BANDS_HZ]
    loudness = [_rms(slope) for slope in slopes]
    chosen = next(k for k, level in enumerate(loudness) if level >= BAND_LEVEL * max(loudness))
    slope = slopes[chosen]
    peak = max(1, math.ceil(np.abs(slope).max(initial=0.0)))
    poses = None if item.poses is None else _places(item.poses, pose_frames(len(sound)))
    levels = np.rint(np.sign(slope) * LEVELS * np.log1p(MU * np.abs(slope) / peak) / np.log1p(MU)).astype(np.int64)
    return Sketch(item.id, item.song_id, len(sound), BANDS_HZ[chosen], peak, levels, poses)


def instants(samples: int) -> np.ndarray:
    """At which samples a sound of so many is looked at, ascending, int64 (instants,).

    They are spread evenly but not regularly (by the golden ratio), so that no beat and no tone falls in with them.
    """
    count = min(MOST_INSTANTS, round(INSTANTS_A_SECOND * samples / SAMPLE_RATE), samples)
    k = np.arange(count)
    return ((k + (k + 1) * _GOLDEN % 1) * samples / max(1, count)).astype(np.int64)


def pose_frames(samples: int) -> np.ndarray:
    """In which frames (30 a second) the poses of an item are looked at, ascending, int64 (frames,)."""
    seconds = samples / SAMPLE_RATE
    count = min(MOST_FRAMES, max(1, round(FRAMES_A_SECOND * seconds)))
    return ((np.arange(count) + 0.5) * seconds * POSE_FPS / count).astype(np.int64)


def _slopes(sound: np.ndarray, samples: int, band_hz: float) -> np.ndarray:
    """Smoothed slope at each of `instants(samples)`, in 16-bit steps: 1 where a tone in the band's middle has 1."""
    width = SAMPLE_RATE / (
        2 * math.pi * band_hz
    )  # standard deviation of the Gaussian whose derivative has its gain there
    reach = math.ceil(5 * width)
    t = np.arange(-reach, reach + 1)
    shape = t * np.exp(-(t**2) / (2 * width**2))
    kernel = shape / np.abs(shape @ np.exp(-2j * np.pi * band_hz * t / SAMPLE_RATE))
    padded = np.pad(np.asarray(sound, np.float64)[:samples], (reach, reach + max(0, samples - len(sound))))
    around = padded[instants(samples)[:, None] + np.arange(len(t))]
    return 2**15 * (around @ kernel)


def _places(poses: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The lead dancer's keypoints in some frames, px (frames, 8, 2); beyond the ends they are missing."""
    lead = np.zeros((len(frames), len(KEYPOINTS), 3))
    there = (frames >= 0) & (frames < len(poses))
    if poses.shape[1]:
        lead[there] = poses[frames[there], 0][:, KEYPOINTS]
    return np.where(lead[..., 2:] > 0, np.clip(np.rint(lead[..., :2]), 0, MOST_PX), MISSING).astype(np.int64)


# ------------------------------------------------------------------------------------------- another build, or another


class Difference(NamedTuple):
    """One way in which content differs.

    Args:
        kind: `missing`, `extra`, `song`, `length`, `sound`, `poses`.
        ids: of which items, in their order.
    """

    kind: str
    ids: tuple[str, ...]


_SENTENCES = {
    "missing": "it lacks {ids}",
    "extra": "it has {ids} besides",
    "song": "the song of {ids} is another",
    "length": "the length of {ids} differs",
    "sound": "the music of {ids} differs",
    "poses": "the poses of {ids} differ",
}


def differences(sketches: Sequence[Sketch], items: Mapping[str, Item]) -> list[Difference]:
    """How items differ from those that were sketched, beyond what another processor or another FFmpeg explains.

    Args:
        sketches: ids unique.
        items: by id.

    Returns:
        Nothing where they are the same. Of an item with another length, neither music nor poses are compared.

    Raises:
        MediaError: an item's music cannot be decoded.
    """
    known = {one.id for one in sketches}
    ids: dict[str, list[str]] = {kind: [] for kind in _SENTENCES}
    ids["missing"] = [one.id for one in sketches if one.id not in items]
    ids["extra"] = [name for name in items if name not in known]
    for one in sketches:
        if one.id in items:
            for kind in _differs(one, items[one.id]):
                ids[kind].append(one.id)
    return [Difference(kind, tuple(names)) for kind, names in ids.items() if names]


def describe(found: Sequence[Difference]) -> str:
    """Differences in words: `it lacks clip_000012 and 3 more, and the music of clip_000007 differs`."""
    parts = []
    for kind, names in found:
        more = len(names) - _EXAMPLES
        shown = ", ".join(names[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
        parts.append(_SENTENCES[kind].format(ids=shown))
    return ", and ".join(parts)


def _differs(one: Sketch, item: Item) -> list[str]:
    sound = item.sound()
    kinds = []
    if one.song_id != item.song_id:
        kinds.append("song")
    if abs(one.samples - len(sound)) > LENGTH_S * SAMPLE_RATE:
        return [*kinds, "length"]
    if sound_error(one, sound) > SOUND_ERROR:
        kinds.append("sound")
    if not _same_poses(one, item.poses):
        kinds.append("poses")
    return kinds


def sound_error(one: Sketch, sound: np.ndarray) -> float:
    """Difference of a sound from the one that was sketched, in the stretch where it is greatest; 0 is the same.

    Root mean square of the slopes' difference, over the greater of both slopes' own; what is as faint as `QUIET` or the
    finest levels is not compared.

    Args:
        sound: float32 (samples,) at 22,050 Hz.
    """
    kept = np.sign(one.sound) * np.expm1(np.abs(one.sound) / LEVELS * np.log1p(MU)) * one.peak / MU
    now = _slopes(sound, one.samples, one.band_hz)
    least = max(QUIET, one.peak / MU)
    stretches = max(1, len(kept) // STRETCH)
    pairs = zip(np.array_split(kept, stretches), np.array_split(now, stretches), strict=True)
    return max(_rms(a - b) / max(_rms(a), _rms(b), least) for a, b in pairs)


def _same_poses(one: Sketch, poses: np.ndarray | None) -> bool:
    if one.poses is None or poses is None:
        return one.poses is None and poses is None
    frames = pose_frames(one.samples)
    kept, now = one.poses, _places(poses, frames)
    in_kept, in_now = kept[..., 0] >= 0, now[..., 0] >= 0
    if (in_kept != in_now).sum() > SEEN_SHARE * max(in_kept.sum(), in_now.sum()):
        return False
    both = in_kept & in_now
    if not both.any():
        return True
    moved = now - kept
    torso = _torso(kept)
    shift, far = (max(px, share * torso) for px, share in (POSE_SHIFT, POSE_FAR))
    near = both & (np.hypot(*np.moveaxis(moved, -1, 0)) <= far)
    together = np.median(moved[both], axis=0)
    if near.sum() < (1 - FAR_SHARE) * both.sum() or np.hypot(*together) > shift:
        return False
    before, after = _places(poses, frames - 1), _places(poses, frames + 1)
    near &= (before[..., 0] >= 0) & (after[..., 0] >= 0)
    step = (after - before)[near] / 2  # of each keypoint, px a frame
    motion = float((step**2).sum())
    # What moved early or late moved along its step: the lag is the least-squares factor.
    return motion < MOTION or abs(float(((moved[near] - together) * step).sum())) <= POSE_LAG * motion


def _torso(places: np.ndarray) -> float:
    """Median distance of neck and mid hip in px; 0 where they are never seen together."""
    neck, hip = places[:, KEYPOINTS.index(1)], places[:, KEYPOINTS.index(8)]
    seen = (neck[:, 0] >= 0) & (hip[:, 0] >= 0)
    return float(np.median(np.hypot(*(neck - hip)[seen].T))) if seen.any() else 0.0


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


REFERENCE = "reference.csv"
COLUMNS = ("version", "id", "song_id", "samples", "band_hz", "peak", "sound", "poses")
SHIPPED = Path(__file__).parent / "references"
"""Sketches of datasets that everybody should have, as `<dataset>-<configuration>.csv`."""

_MOST = 50_000_000  # bytes
# Signs that no spreadsheet takes for a formula: a level is one of them, a coordinate two.
_SIGNS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
_DIGITS = np.full(128, -1, np.int64)
_DIGITS[list(_SIGNS)] = np.arange(len(_SIGNS))


def shipped_reference(dataset: str, config: str) -> Path | None:
    """The file with the sketches of a dataset's test split; None where none is shipped.

    Args:
        dataset: its name, which anybody may have chosen.
        config: `clips` or `segments`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", dataset):
        return None
    path = SHIPPED / f"{dataset}-{config}.csv"
    return path if path.is_file() else None


def sketches_text(sketches: Iterable[Sketch]) -> str:
    """`reference.csv` of some sketches, in the order of their ids."""
    rows = []
    for one in sorted(sketches, key=lambda one: one.id):
        song = "" if one.song_id is None else one.song_id
        poses = "" if one.poses is None else _pairs(one.poses - MISSING)
        rows.append((VERSION, one.id, song, one.samples, one.band_hz, one.peak, _signs(one.sound + LEVELS), poses))
    return table_text(COLUMNS, rows)


def read_sketches(path: Path, name: str) -> tuple[list[Sketch], list[Problem]]:
    """The sketches of a file, and everything that is wrong with it.

    Args:
        path: the file, from anybody.
        name: what problems call it.

    Raises:
        OSError: it cannot be read.
    """
    rows, problems = read_table(path, name, COLUMNS, _MOST)
    sketches: dict[str, Sketch] = {}
    for line, cells in rows:
        if cells["version"] != str(VERSION):
            message = (
                f"it is of version {cells['version'][:20]!r} of the identity, and this program compares version "
                f"{VERSION}: run this program's `tiktok-dm submit new` again"
            )
            return [], [Problem(name, line, "version", message)]
        one: Sketch | list[tuple[str, str]] = _sketch(cells)
        if isinstance(one, Sketch) and one.id in sketches:
            one = [("id", f"{one.id} is on an earlier line already: leave one of them")]
        if isinstance(one, Sketch):
            sketches[one.id] = one
        else:
            problems += [Problem(name, line, column, message) for column, message in one]
    return list(sketches.values()), problems


def _sketch(cells: Mapping[str, str]) -> Sketch | list[tuple[str, str]]:
    """A line's sketch, or its faults by column."""
    songs = ("song_id",) if cells["song_id"] else ()
    wrong = list(not_whole_numbers(cells, (*songs, "samples", "band_hz", "peak")))
    # Ids come back in sentences: nothing else may stand in them.
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", cells["id"]):
        wrong.append(("id", f"{cells['id'][:70]!r} is no id: it may hold letters, digits, '.', '_' and '-'"))
    if wrong:
        return wrong
    samples, band, peak = (int(cells[column]) for column in ("samples", "band_hz", "peak"))
    if band not in BANDS_HZ:
        wrong.append(("band_hz", f"{band} is no band: take one of {', '.join(map(str, BANDS_HZ))}"))
    if peak < 1:
        wrong.append(("peak", "it must be at least 1"))
    sound = _values(cells["sound"], len(instants(samples)), 1)
    if sound is None or (len(sound) and sound.max() > 2 * LEVELS):
        wrong.append(("sound", f"it is no sketch of {samples} samples"))
    shape = (len(pose_frames(samples)), len(KEYPOINTS), 2)
    poses = _values(cells["poses"], int(np.prod(shape)), 2) if cells["poses"] else None
    if cells["poses"] and poses is None:
        wrong.append(("poses", f"it is no sketch of the poses of {samples} samples"))
    if wrong or sound is None:
        return wrong
    song = int(cells["song_id"]) if cells["song_id"] else None
    places = None if poses is None else poses.reshape(shape) + MISSING
    return Sketch(cells["id"], song, samples, band, peak, sound - LEVELS, places)


def _signs(values: np.ndarray) -> str:
    return bytes(_SIGNS[value] for value in values.ravel()).decode()


def _pairs(values: np.ndarray) -> str:
    return _signs(np.stack(np.divmod(values.ravel(), len(_SIGNS)), axis=-1))


def _values(text: str, count: int, width: int) -> np.ndarray | None:
    """Numbers of so many signs each; None where there are not so many, or others stand there."""
    if len(text) != count * width or not text.isascii():
        return None
    digits = _DIGITS[np.frombuffer(text.encode(), np.uint8)].reshape(count, width)
    if (digits < 0).any():
        return None
    return digits @ len(_SIGNS) ** np.arange(width)[::-1]
