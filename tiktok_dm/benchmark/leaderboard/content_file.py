"""Sketches of a test split as a file, `reference.csv`: a line an item, beside a submission's manifest or shipped here.

A submission carries the sketches of the dataset that its music was made for, so that whoever checks it can tell another
build of that dataset from another dataset. Not for what a sketch is, nor for comparing (`content`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tiktok_dm.benchmark.leaderboard.content import (
    BANDS_HZ,
    KEYPOINTS,
    LEVELS,
    MISSING,
    VERSION,
    Sketch,
    instants,
    pose_frames,
)
from tiktok_dm.benchmark.leaderboard.table import not_whole_numbers, read_table, table_text
from tiktok_dm.errors import Problem

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
