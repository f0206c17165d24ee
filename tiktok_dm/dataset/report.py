"""The dataset's report: one HTML file that opens without a network, with every clip, every count and every failure.

The numbers are made here, the page in `templates/report.html.j2`. Not for checking a dataset: that is `verify`.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.dataset.card import STATUSES, accuracy_table, clip_status, environment, missing_table, outcome
from tiktok_dm.errors import MediaError
from tiktok_dm.schema import MAX_DANCERS, POSE_FPS, SPLITS

if TYPE_CHECKING:
    from tiktok_dm.dataset.rows import ClipItem, DatasetMeta

# Thumbnails are drawn twice as large as they are shown, but a page of hundreds stays a few megabytes.
_THUMBNAIL_PX, _MANY_CLIPS, _THUMBNAIL_PX_MANY = 320, 120, 200
_JPEG_QUALITY = 68


def report(items: Sequence[ClipItem], meta: DatasetMeta) -> str:
    """The text of `report.html`. Reads each clip's poses and one frame of its video."""
    items = sorted(items, key=lambda item: item.clip_id)
    counts = outcome(items, meta)
    clips = [_clip(item, len(items)) for item in items]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            meta=meta,
            outcome=[(status, counts[status]) for status in STATUSES if counts[status]],
            counts=counts,
            figures=_figures(items, meta),
            compilations=_compilations(items, meta),
            charts=_charts(items),
            pose=_pose(items),
            accuracy=accuracy_table(meta),
            songs=_songs(items, meta),
            splits=_splits(items),
            missing=missing_table(meta),
            clips=clips,
            ratio=_ratio(clips),
            notes=_notes(items),
            parameters=list(flatten(meta.parameters)),
        )
    )


# ------------------------------------------------------------------------------------------------------------ charts


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: from `low` to `high` on its axis, `count` items."""

    low: float
    high: float
    count: int

    @property
    def label(self) -> str:
        """`2-4`, or `3` where the bar stands for a single number."""
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}-{self.high:g}"


def histogram(values: Iterable[float], most: int = 14) -> list[Bar]:
    """Counts in at most `most` + 1 equal bins whose edges are round numbers (steps of 1, 2 or 5 times a power of ten).

    Bins are half open, `low <= value < high`. Empty for no values.
    """
    known = [float(value) for value in values]
    if not known:
        return []
    low, high = min(known), max(known)
    step = nice_step((high - low) / most) if high > low else nice_step(max(abs(high), 1.0) / most)
    first, last = math.floor(low / step), math.floor(high / step)
    counts = Counter(math.floor(value / step) for value in known)
    return [Bar(round(k * step, 10), round((k + 1) * step, 10), counts[k]) for k in range(first, last + 1)]


def nice_step(step: float) -> float:
    """The least of 1, 2 or 5 times a power of ten that is no less than `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= step * (1 - 1e-9))


def _charts(items: Sequence[ClipItem]) -> list[dict[str, Any]]:
    lengths = [float(item.segment["duration_s"]) for item in items]
    tempi = [float(item.music["tempo_bpm"]) for item in items if item.music["tempo_bpm"]]
    found = Counter(int(item.poses["n_dancers"]) for item in items)
    told = [item for item in items if item.n_dancers_annotated is not None]
    agree = sum(1 for item in told if item.n_dancers_annotated == item.poses["n_dancers"])
    dancers = [Bar(n, n, found[n]) for n in range(min([1, *found]), max([MAX_DANCERS, *found]) + 1)]
    return [
        {
            "title": "Length of clips",
            "unit": "seconds",
            "bars": histogram(lengths),
            "note": f"mean {statistics.fmean(lengths):.1f} s, median {statistics.median(lengths):.1f} s",
        }
        if lengths
        else {"title": "Length of clips", "unit": "seconds", "bars": [], "note": "no clips"},
        {
            "title": "Dancers found",
            "unit": "dancers in a clip",
            "bars": dancers if items else [],
            "note": f"as annotated in {agree} of {len(told)} clips" if told else "not annotated",
        },
        {
            "title": "Tempo",
            "unit": "beats a minute",
            "bars": histogram(tempi),
            "note": f"median {statistics.median(tempi):.0f}, in {len(tempi)} of {len(items)} clips"
            if tempi
            else "no beats found",
        },
    ]


def _pose(items: Sequence[ClipItem]) -> dict[str, Any]:
    """Points of the confidence-coverage plot, and both as means over clips."""
    points = [
        {"id": item.clip_id, "x": float(item.poses["coverage"]), "y": float(item.poses["mean_confidence"])}
        for item in items
    ]
    return {
        "points": points,
        "x": _axis(point["x"] for point in points),
        "y": _axis(point["y"] for point in points),
        "coverage": statistics.fmean(point["x"] for point in points) if points else 0.0,
        "confidence": statistics.fmean(point["y"] for point in points) if points else 0.0,
        "weak": [
            point["id"] for point in sorted(points, key=lambda point: (point["x"], point["id"])) if point["x"] < 0.9
        ],
        "models": sorted({item.pose_model for item in items}),
    }


def _axis(values: Iterable[float]) -> list[float]:
    """Ticks up to 1, from a round number below the least value, so that good datasets are not a dot in a corner."""
    low = min([0.8, *values])
    step = next(step for step, floor in ((0.05, 0.8), (0.1, 0.5), (0.2, 0.0), (0.25, -math.inf)) if low >= floor)
    return [round(1 - k * step, 2) for k in range(math.ceil(round((1 - low) / step, 6)), -1, -1)]


# ------------------------------------------------------------------------------------------------------------ tables


def _figures(items: Sequence[ClipItem], meta: DatasetMeta) -> list[tuple[str, str, str]]:
    """Value, name and remark of each headline figure."""
    seconds = math.fsum(float(item.segment["duration_s"]) for item in items)
    most = max((int(item.poses["n_dancers"]) for item in items), default=0)
    used = len({item.compilation_id for item in items})
    return [
        (f"{len(items):,}", "clips", f"of {meta.plan_clips:,} planned"),
        (f"{used:,}", "compilation" if used == 1 else "compilations", f"of {meta.plan_compilations:,} planned"),
        (f"{len({item.song_id for item in items}):,}", "songs", "none in two splits"),
        (f"{sum(item.n_segments for item in items):,}", "segments", "of 2 s"),
        (_rough(seconds), "of dance", f"{seconds / len(items):.1f} s a clip" if items else ""),
        (f"{most}", "dancers at most", "in one clip"),
    ]


def _compilations(items: Sequence[ClipItem], meta: DatasetMeta) -> list[dict[str, Any]]:
    """One row a compilation: planned clips by outcome, songs and seconds that came of it."""
    status = clip_status(meta)
    built = {item.clip_id for item in items}
    planned: dict[int, Counter[str]] = {}
    for clip in meta.planned:
        word = "ok" if clip["clip_id"] in built else status.get(int(clip["clip_id"]), "open")
        word = "open" if word == "ok" and clip["clip_id"] not in built else word
        planned.setdefault(int(clip["compilation_id"]), Counter())[word] += 1
    if not meta.planned:
        for item in items:
            planned.setdefault(item.compilation_id, Counter())["ok"] += 1
    sources = dict(meta.sources) | {item.compilation_id: item.source for item in items}
    of_compilation = _grouped(items, "compilation_id")
    return [
        {
            "id": key,
            "source": sources.get(key, ""),
            "planned": sum(planned[key].values()),
            "outcome": [(word, planned[key][word]) for word in STATUSES if planned[key][word]],
            "counts": planned[key],
            "songs": len({item.song_id for item in of_compilation.get(key, ())}),
            "length": _length(math.fsum(float(item.segment["duration_s"]) for item in of_compilation.get(key, ()))),
        }
        for key in sorted(planned)
    ]


def _songs(items: Sequence[ClipItem], meta: DatasetMeta) -> list[dict[str, Any]]:
    rows = []
    for song, chosen in sorted(_grouped(items, "song_id").items()):
        tempi = [float(item.music["tempo_bpm"]) for item in chosen if item.music["tempo_bpm"]]
        known = meta.songs.get(song, {})
        rows.append(
            {
                "id": song,
                "title": known.get("title") or "",
                "artist": known.get("artist") or "",
                "split": chosen[0].split,
                "clips": len(chosen),
                "segments": sum(item.n_segments for item in chosen),
                "seconds": math.fsum(float(item.segment["duration_s"]) for item in chosen),
                "tempo": f"{statistics.median(tempi):.0f}" if tempi else "",
            }
        )
    return rows


def _grouped(items: Sequence[ClipItem], name: str) -> dict[int, list[ClipItem]]:
    groups: dict[int, list[ClipItem]] = {}
    for item in items:
        groups.setdefault(getattr(item, name), []).append(item)
    return groups


def _splits(items: Sequence[ClipItem]) -> list[dict[str, Any]]:
    rows = []
    for split in SPLITS:
        chosen = [item for item in items if item.split == split]
        if chosen:
            rows.append(
                {
                    "name": split,
                    "clips": len(chosen),
                    "songs": len({item.song_id for item in chosen}),
                    "segments": sum(item.n_segments for item in chosen),
                    "length": _length(math.fsum(float(item.segment["duration_s"]) for item in chosen)),
                    "share": len(chosen) / len(items),
                }
            )
    return rows


def _notes(items: Sequence[ClipItem]) -> list[str]:
    """Sentences on what was measured of the cuts."""
    if not items:
        return []
    start = max(abs(float(item.segment["start_s"]) - item.annotated_start_s) for item in items)
    end = max(abs(float(item.segment["end_s"]) - item.annotated_end_s) for item in items)
    silent = [item.clip_id for item in items if not item.segment["has_audio"]]
    notes = [f"Starts were moved onto an existing frame by at most {1000 * start:.0f} ms, ends by {1000 * end:.0f} ms."]
    if silent:
        notes.append(f"Without sound: clips {', '.join(map(str, silent))}.")
    return notes


# ------------------------------------------------------------------------------------------------------------ clips


def _clip(item: ClipItem, n_clips: int) -> dict[str, Any]:
    thumbnail = _thumbnail(item, _THUMBNAIL_PX if n_clips <= _MANY_CLIPS else _THUMBNAIL_PX_MANY)
    return {
        "id": item.clip_id,
        "compilation": item.compilation_id,
        "song": item.song_id,
        "split": item.split,
        "seconds": float(item.segment["duration_s"]),
        "dancers": int(item.poses["n_dancers"]),
        "tempo": item.music["tempo_bpm"],
        "coverage": float(item.poses["coverage"]),
        "confidence": float(item.poses["mean_confidence"]),
        "by_dancer": [float(share) for share in item.poses["coverage_by_dancer"]],
        "image": thumbnail,
    }


def _ratio(clips: Sequence[Mapping[str, Any]]) -> float:
    """Width to height of the frame that suits most thumbnails."""
    ratios = [clip["image"][1] / clip["image"][2] for clip in clips if clip["image"]]
    return round(min(1.6, max(0.6, statistics.median(ratios))), 2) if ratios else 1.0


def _thumbnail(item: ClipItem, height: int) -> tuple[str, int, int] | None:
    """Data URI, width and height of the clip's best frame within its content box, with its skeletons drawn."""
    from tiktok_dm.media import encode_jpeg, frame_at, to_thumbnail
    from tiktok_dm.pose.overlay import draw_poses

    poses = np.load(item.pose, mmap_mode="r")
    best = item.poses.get("best_frame")
    k = len(poses) // 2 if best is None else int(best)
    x, y, w, h = (int(side) for side in item.segment["content_box"])
    try:
        picture = frame_at(item.video, k / POSE_FPS)
    except MediaError:
        return None
    picture = picture[y : y + h, x : x + w]
    if not picture.size:
        return None
    small = to_thumbnail(picture, height)
    if k < len(poses) and poses.shape[1]:
        pose = np.array(poses[k], dtype=np.float32)
        seen = pose[..., 2:] > 0
        pose[..., :2] = (pose[..., :2] - (x, y)) * (
            small.shape[1] / picture.shape[1],
            small.shape[0] / picture.shape[0],
        )
        small = draw_poses(small, pose * seen)
    data = base64.b64encode(encode_jpeg(small, _JPEG_QUALITY)).decode("ascii")
    return f"data:image/jpeg;base64,{data}", small.shape[1], small.shape[0]


# ------------------------------------------------------------------------------------------------------------ words


def flatten(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Leaves of nested parameters as (`a.b`, text)."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value, key=str):
            yield from flatten(value[key], f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _length(seconds: float) -> str:
    """`48 s`, `3 min 05 s` or `1 h 32 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rough(seconds: float) -> str:
    """`48 s`, `3.1 min` or `1.5 h`."""
    return (
        f"{seconds:.0f} s"
        if seconds < 60
        else f"{seconds / 60:.1f} min"
        if seconds < 3600
        else f"{seconds / 3600:.1f} h"
    )
