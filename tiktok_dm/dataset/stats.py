"""The numbers of the paper's section 3 (clips, compilations, songs, mean length, dancers, splits) for a built dataset.

Read from the Parquet files without their media columns. Not for what is missing: that is in the report.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiktok_dm.errors import UserError
from tiktok_dm.schema import SPLITS

_CLIP_COLUMNS = ["clip_id", "compilation_id", "song_id", "split", "duration_s", "n_dancers", "n_dancers_annotated"]
_SEGMENT_COLUMNS = ["song_id", "split"]

_PARTS = ("clip", "song", "segment")

# What the paper and its released lists say of the original 445 clips, for whoever compares a rebuilt dataset with it.
PUBLISHED = {
    "clips": 445,
    "compilations": 15,
    "songs": 86,
    "mean_s": 12.5,
    "most_dancers": 5,
    "segments": 2691,
    "splits": {"train": (392, 43, 2384), "test": (53, 43, 307)},
}


def stats(out: Path | str) -> dict[str, Any]:
    """Counts of the dataset in `out`.

    Returns:
        clips, compilations, songs, segments; seconds, mean_s, median_s, shortest_s, longest_s; most_dancers,
        usual_dancers (the most frequent number) and dancers (clips by number of dancers found); dancers_annotated (the
        same as annotated, where it is); splits: clips, songs, segments, seconds of each. Of a dataset that has
        segments alone: songs, segments; splits: songs, segments of each.

    Raises:
        UserError: no dataset in `out`.
    """
    rows = _read(Path(out), "segments", _SEGMENT_COLUMNS, needed=False)
    if rows and not any((Path(out) / "data" / "clips").glob("*.parquet")):
        return {**_of_segments(rows), "splits": {split: _of_segments(rows, split) for split in _splits(rows)}}
    clips = _read(Path(out), "clips", _CLIP_COLUMNS)
    segments = Counter(row["split"] for row in rows)
    lengths = [row["duration_s"] for row in clips]
    found = Counter(row["n_dancers"] for row in clips)
    told = Counter(row["n_dancers_annotated"] for row in clips if row["n_dancers_annotated"] is not None)
    splits = {}
    for split in _splits(clips):
        chosen = [row for row in clips if row["split"] == split]
        splits[split] = {
            "clips": len(chosen),
            "songs": len({row["song_id"] for row in chosen}),
            "segments": segments[split],
            "seconds": round(math.fsum(row["duration_s"] for row in chosen), 3),
        }
    return {
        "clips": len(clips),
        "compilations": len({row["compilation_id"] for row in clips}),
        "songs": len({row["song_id"] for row in clips}),
        "segments": segments.total(),
        "seconds": round(math.fsum(lengths), 3),
        "mean_s": round(statistics.fmean(lengths), 3),
        "median_s": round(statistics.median(lengths), 3),
        "shortest_s": round(min(lengths), 3),
        "longest_s": round(max(lengths), 3),
        "most_dancers": max(found),
        "usual_dancers": min(found, key=lambda n: (-found[n], n)),
        "dancers": {str(n): found[n] for n in sorted(found)},
        "dancers_annotated": {str(n): told[n] for n in sorted(told)},
        "splits": splits,
    }


def _splits(rows: list[dict[str, Any]]) -> list[str]:
    """Those that have a row."""
    return [split for split in SPLITS if any(row["split"] == split for row in rows)]


def _of_segments(rows: list[dict[str, Any]], split: str | None = None) -> dict[str, int]:
    chosen = [row for row in rows if split in (None, row["split"])]
    return {"songs": len({row["song_id"] for row in chosen}), "segments": len(chosen)}


def table(numbers: Mapping[str, Any]) -> str:
    """The numbers as a table for a terminal; the published dataset's stand beside them."""
    return _table(_clip_rows(numbers) if "clips" in numbers else _segment_rows(numbers))


def _segment_rows(numbers: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
    rows: list[tuple[str, str, str | None]] = [
        ("songs", f"{numbers['songs']}", f"{PUBLISHED['songs']} (the paper says 85)"),
        ("2-s segments", f"{numbers['segments']}", f"{PUBLISHED['segments']}"),
    ]
    for split, part in numbers["splits"].items():
        published = PUBLISHED["splits"].get(split)  # type: ignore[attr-defined]
        words = published and _counts(published[1:], _PARTS[1:])
        rows.append((split, _counts((part["songs"], part["segments"]), _PARTS[1:]), words))
    return rows


def _clip_rows(numbers: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
    total = numbers["clips"]
    rows: list[tuple[str, str, str | None]] = [
        ("clips", f"{total}", f"{PUBLISHED['clips']}"),
        ("compilations", f"{numbers['compilations']}", f"{PUBLISHED['compilations']}"),
        ("songs", f"{numbers['songs']}", f"{PUBLISHED['songs']} (the paper says 85)"),
        ("mean length", f"{numbers['mean_s']:.1f} s", f"about {PUBLISHED['mean_s']} s"),
        ("shortest, longest", f"{numbers['shortest_s']:.1f} s, {numbers['longest_s']:.1f} s", ""),
        ("dancers at most", f"{numbers['most_dancers']}", f"{PUBLISHED['most_dancers']}"),
        ("most clips have", _dancers(numbers["usual_dancers"], numbers["dancers"], total), "1"),
        *((f"  with {n}", _share(clips, total), "") for n, clips in numbers["dancers"].items()),
        ("2-s segments", f"{numbers['segments']}", f"{PUBLISHED['segments']}"),
    ]
    for split, part in numbers["splits"].items():
        published = PUBLISHED["splits"].get(split)  # type: ignore[attr-defined]
        counts = (part["clips"], part["songs"], part["segments"])
        rows.append((split, _counts(counts, _PARTS), published and _counts(published, _PARTS)))
    return rows


def _table(rows: list[tuple[str, str, str | None]]) -> str:
    first, second = (max(len(row[k] or "") for row in rows) for k in (0, 1))
    head = f"{'':{first}}  {'this dataset':{second}}  TikTok Dance-Music as published"
    return "\n".join([head, *(f"{a:{first}}  {b:{second}}  {c or ''}".rstrip() for a, b, c in rows)])


def _dancers(number: int, by_number: Mapping[str, int], total: int) -> str:
    return f"{number} ({_share(by_number[str(number)], total)})"


def _share(clips: int, total: int) -> str:
    return f"{clips} clip{'' if clips == 1 else 's'}, {100 * clips / total:.0f} %"


def _counts(numbers: Sequence[int], words: Sequence[str]) -> str:
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in zip(numbers, words, strict=True))


def _read(out: Path, config: str, columns: list[str], needed: bool = True) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    files = sorted((out / "data" / config).glob("*.parquet"))
    if not files and needed:
        raise UserError(f"{out} holds no dataset: give the folder that `tiktok-dm build --out` wrote")
    rows: list[dict[str, Any]] = []
    for path in files:
        try:
            rows += pyarrow.parquet.read_table(path, columns=columns).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read: run `tiktok-dm verify {out}` to see what is wrong") from error
    if not rows and needed:
        raise UserError(f"{out} holds a dataset without clips")
    return rows
