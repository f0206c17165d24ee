"""Write finished clips as a dataset: Parquet shards of clips and segments, card, report page, manifest.

The Parquet files carry the `datasets` features in their schema and the media bytes in their rows, so the folder opens
without a script, streamed or not, and can be pushed to a hub as it is. Rows are written as they are made: memory does
not grow with the number of clips. A dataset is published as a whole, in one step (`tiktok_dm.runtime.publish`): readers
see the old version or the new one. Not for checking one: `verify`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.dataset.rows import ClipItem, DatasetMeta, ShardWriter, SplitInfo
from tiktok_dm.errors import is_no_room
from tiktok_dm.files import no_room, sha256_file
from tiktok_dm.runtime.publish import link_tree, new_version, recover
from tiktok_dm.runtime.store import canonical_json

VERSION = 2  # of what this module writes; a change makes every dataset be written again
MANIFEST = "manifest.json"
CARD = "README.md"
REPORT = "report.html"
DATA = "data"
PLAN, LOCK, LEDGER, TOMBSTONES = "plan.jsonl", "lock.json", "ledger.jsonl", "tombstones.jsonl"


def export(
    items: Sequence[ClipItem],
    out: Path,
    meta: DatasetMeta,
    *,
    files: Mapping[str, str] | None = None,
    max_shard_mb: float = 400,
    force: bool = False,
) -> dict[str, Any]:
    """Publish the dataset of `items` as `out`, in place of an earlier one there, in one step.

    Whatever else `out` holds stays, and is listed in the manifest. The same items, meta and files give the same bytes.
    If `out` already holds the rows of these items, they are not written again; if nothing is new, nothing is touched.

    Args:
        files: text of further files of the dataset by name (plan, lock, ledger, tombstones).
        max_shard_mb: no Parquet file grows beyond this many MB of columns in memory, except by a single row.
        force: write everything even if it is there already.

    Returns:
        name, clips, segments, compilations, songs, seconds, splits (clips and segments by split), bytes, files,
        unchanged (nothing had to be written).

    Raises:
        DiskFull: the dataset did not fit; an earlier one in `out` is untouched.
        ValueError: two items of one clip, or an unknown split.
    """
    out = Path(out)
    items = sorted(items, key=lambda item: (schema.SPLITS.index(item.split), item.clip_id))
    if len({item.clip_id for item in items}) != len(items):
        raise ValueError("two items have the same clip_id")
    key = export_key(items, meta, max_shard_mb)
    head = {"export": key, "name": meta.name, "counts": _counts(items)}
    texts = dict(files or {})
    recover(out)
    unchanged = not force and _holds(out, key)
    try:
        manifest = _manifest(out, head, meta) if unchanged and _has(out, texts) else None
        if manifest is None or _json(manifest) != _text(out / MANIFEST):
            with new_version(out, {DATA, CARD, REPORT, MANIFEST, *texts}) as folder:
                for name, text in texts.items():
                    (folder / name).write_text(text, encoding="utf-8")
                if unchanged:
                    for name in (DATA, CARD, REPORT):
                        link_tree(out / name, folder / name)
                else:
                    _write(items, folder, meta, max_shard_mb)
                manifest = write_manifest(folder, head, meta)
    except OSError as error:
        if is_no_room(error):
            raise no_room(out / DATA) from error
        raise
    listed = manifest["files"]
    size = sum(entry["bytes"] for entry in listed.values())
    return {"name": meta.name, **manifest["counts"], "bytes": size, "files": len(listed), "unchanged": unchanged}


def export_key(items: Iterable[ClipItem], meta: DatasetMeta, max_shard_mb: float) -> str:
    """SHA-256 that changes whenever the dataset's bytes would: with items, meta, templates, this code, the writer."""
    import pyarrow

    from tiktok_dm.dataset.card import TEMPLATES, VISUAL_TEMPLATE

    items = list(items)
    visual = any(item.features is not None for item in items)
    digest = hashlib.sha256(canonical_json([VERSION, pyarrow.__version__, max_shard_mb, _plain(meta)]).encode())
    for template in sorted(TEMPLATES.iterdir()):
        if visual or template.name != VISUAL_TEMPLATE:
            digest.update(template.read_bytes())
    for item in items:
        plain = _plain(item)
        plain.pop("features", None)
        digest.update(canonical_json({**plain, "video": None, "audio": None, "pose": None}).encode())
        digest.update(sha256_file(item.pose).encode())
        if item.features is not None:
            digest.update(sha256_file(item.features).encode())
    return digest.hexdigest()


def write_manifest(out: Path, head: Mapping[str, Any], meta: DatasetMeta) -> dict[str, Any]:
    """Write `manifest.json`: SHA-256 and size of every file in `out` but itself, tool versions, parameters.

    Names that start with a point are none of the dataset's and are left out.
    """
    manifest = _manifest(out, head, meta)
    (out / MANIFEST).write_text(_json(manifest), encoding="utf-8")
    return manifest


def _manifest(out: Path, head: Mapping[str, Any], meta: DatasetMeta) -> dict[str, Any]:
    return {
        "format": VERSION,
        **head,
        "tools": dict(meta.tools),
        "parameters": _plain(meta.parameters),
        "files": file_table(out),
    }


def _json(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _has(out: Path, texts: Mapping[str, str]) -> bool:
    return all(_text(out / name) == text for name, text in texts.items())


def read_tombstones(out: Path) -> list[dict[str, Any]]:
    """What was taken out of the dataset in `out` on request: kind (compilation, clip or song), id, reason."""
    text = _text(out / TOMBSTONES) or ""
    return [json.loads(line) for line in text.splitlines() if line]


def file_table(out: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size in bytes of each of a dataset's files but the manifest, by path in `out`."""
    return {
        path.relative_to(out).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in dataset_files(out)
    }


def dataset_files(out: Path) -> list[Path]:
    """A dataset's files in order of their names, without the manifest and without names that start with a point."""
    return [
        path
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and path != out / MANIFEST
        and not any(part.startswith(".") for part in path.relative_to(out).parts)
    ]


def _plain(value: Any) -> Any:
    """`value` as JSON types, dataclasses as dicts, with text keys."""
    return json.loads(canonical_json(value))


def _holds(out: Path, key: str) -> bool:
    """Whether `out` holds the whole dataset that has this key, every byte of it."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        if manifest["export"] != key:
            return False
        written = {name: entry for name, entry in manifest["files"].items() if _ours(name)}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return written == {name: entry for name, entry in file_table(out).items() if _ours(name)}


def _ours(name: str) -> bool:
    return name in (CARD, REPORT) or name.startswith(DATA + "/")


def _write(items: Sequence[ClipItem], folder: Path, meta: DatasetMeta, max_shard_mb: float) -> None:
    """The rows, the card and the report, into an empty folder."""
    from tiktok_dm.dataset.card import card
    from tiktok_dm.dataset.report import report

    splits = write_shards(items, folder / DATA, max_shard_mb=max_shard_mb)
    (folder / CARD).write_text(card(items, meta, splits), encoding="utf-8")
    (folder / REPORT).write_text(report(items, meta), encoding="utf-8")


def _counts(items: Sequence[ClipItem]) -> dict[str, Any]:
    splits = {
        split: {
            "clips": sum(1 for item in items if item.split == split),
            "segments": sum(item.n_segments for item in items if item.split == split),
        }
        for split in schema.SPLITS
    }
    return {
        "clips": len(items),
        "segments": sum(item.n_segments for item in items),
        "compilations": len({item.compilation_id for item in items}),
        "songs": len({item.song_id for item in items}),
        "seconds": round(math.fsum(float(item.segment["duration_s"]) for item in items), 3),
        "splits": {split: count for split, count in splits.items() if count["clips"]},
    }


# ------------------------------------------------------------------------------------------------------------- rows


def clip_row(item: ClipItem, poses: np.ndarray) -> dict[str, Any]:
    """The row of a clip, all columns of `schema.CLIP_COLUMNS`; `pose` is padded to (frames, 5, 25, 3)."""
    cut, music = item.segment, item.music
    name = f"clip_{item.clip_id:06d}"
    return {
        "clip_id": item.clip_id,
        "compilation_id": item.compilation_id,
        "song_id": item.song_id,
        "split": item.split,
        **{column: cut[column] for column in ("start_s", "end_s", "duration_s", "fps", "width", "height")},
        "content_box": list(cut["content_box"]),
        "n_dancers": item.poses["n_dancers"],
        "n_dancers_annotated": item.n_dancers_annotated,
        "video": {"bytes": item.video.read_bytes(), "path": f"{name}{item.video.suffix}"},
        "audio": {"bytes": item.audio.read_bytes(), "path": f"{name}{item.audio.suffix}"},
        "pose": pad_dancers(poses),
        "pose_fps": float(schema.POSE_FPS),
        "pose_coverage": item.poses["coverage"],
        "pose_confidence": item.poses["mean_confidence"],
        "pose_model": item.pose_model,
        "beats_s": [float(beat) for beat in music["beats_s"]],
        "tempo_bpm": _finite(music["tempo_bpm"]),
        "loudness_lufs": _finite(music["loudness_lufs"]),
        "source": item.source,
        "source_sha256": item.source_sha256,
        "video_sha256": cut["video_sha256"],
        "audio_sha256": cut["audio_sha256"],
    }


def segment_rows(item: ClipItem, poses: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rows of a clip's segments, in order. A clip a few samples short of its last segment is padded with zeros."""
    import soundfile

    from tiktok_dm.media import encode_audio

    count = item.n_segments
    if not count:
        return
    samples, rate = soundfile.read(item.audio, dtype="float32")
    if rate != schema.SAMPLE_RATE or samples.ndim != 1:
        raise ValueError(f"{item.audio.name} of clip {item.clip_id} is not {schema.SAMPLE_RATE} Hz mono")
    samples = _fit(samples, count * schema.SEGMENT_SAMPLES, slack=schema.SAMPLE_RATE // 20)
    lead = poses[:, 0] if poses.shape[1] else np.zeros((len(poses), schema.N_JOINTS, 3), np.float32)
    lead = _fit(lead, count * schema.SEGMENT_POSES, slack=2)
    seen = None if item.features is None else np.load(item.features)
    if seen is not None and len(seen) != count:
        raise ValueError(f"{len(seen)} visual features of clip {item.clip_id}, which has {count} segments")
    for k in range(count):
        name = schema.segment_id(item.compilation_id, item.song_id, item.clip_id, k + 1)
        part = samples[k * schema.SEGMENT_SAMPLES : (k + 1) * schema.SEGMENT_SAMPLES]
        motion = lead[k * schema.SEGMENT_POSES : (k + 1) * schema.SEGMENT_POSES]
        yield {
            "segment_id": name,
            "clip_id": item.clip_id,
            "compilation_id": item.compilation_id,
            "song_id": item.song_id,
            "split": item.split,
            "segment_index": k + 1,
            "start_s": k * schema.SEGMENT_S,
            "audio": {"bytes": encode_audio(part, schema.SAMPLE_RATE, "flac"), "path": f"{name}.flac"},
            "motion": motion.reshape(schema.SEGMENT_POSES, schema.N_JOINTS * 3),
            "n_dancers": item.poses["n_dancers"],
            **({} if seen is None else {"visual": seen[k]}),
        }


def visual_columns(items: Sequence[ClipItem]) -> dict[str, tuple[str, str]] | None:
    """Columns of the segments of clips with visual features; None where they have none.

    Raises:
        ValueError: some clips have features and others none, or theirs differ in length.
    """
    found = {None if item.visual is None else int(item.visual["n_features"]) for item in items}
    if len(found) > 1:
        raise ValueError(f"clips with visual features of different lengths: {found}")
    length = next(iter(found), None)
    if not length:
        return None
    methods = {str(item.visual["method"]) for item in items if item.visual is not None}
    return schema.segment_columns(length, methods.pop() if len(methods) == 1 else "")


def pad_dancers(poses: np.ndarray) -> np.ndarray:
    """(frames, dancers, 25, 3) as (frames, 5, 25, 3): absent dancers are zeros, a sixth and later ones are dropped."""
    padded = np.zeros((len(poses), schema.MAX_DANCERS, schema.N_JOINTS, 3), np.float32)
    kept = poses[:, : schema.MAX_DANCERS]
    padded[:, : kept.shape[1]] = kept
    return padded


def _fit(array: np.ndarray, length: int, slack: int) -> np.ndarray:
    """The first `length` entries; at most `slack` missing ones are zeros."""
    missing = length - len(array)
    if missing > slack:
        raise ValueError(f"{len(array)} entries where {length} belong")
    if missing > 0:
        array = np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
    return array[:length]


def _finite(value: float | None) -> float | None:
    """A number that JSON and readers without NaN understand; silence, for one, has no loudness."""
    return None if value is None or not math.isfinite(value) else float(value)


def write_shards(items: Sequence[ClipItem], folder: Path, *, max_shard_mb: float) -> list[SplitInfo]:
    """Write `folder/clips` and `folder/segments`; splits and configurations without rows are left out.

    Args:
        items: in the order of their rows; clips of one split stand together.
    """
    written: list[SplitInfo] = []
    limit = max_shard_mb * 2**20
    columns = visual_columns(items)
    for split in schema.SPLITS:
        chosen = [item for item in items if item.split == split]
        if not chosen:
            continue
        with (
            ShardWriter(folder / "clips", "clips", split, limit) as clips,
            ShardWriter(folder / "segments", "segments", split, limit, columns) as segments,
        ):
            for item in chosen:
                poses = np.load(item.pose)
                clips.add(clip_row(item, poses))
                for row in segment_rows(item, poses):
                    segments.add(row)
            written += [info for info in (clips.finish(), segments.finish()) if info.num_examples]
    return written
