"""Between the stages' records and the exported dataset: the lock, the rows to be, and the way back from a dataset.

`lock.json` holds what was found and which tools found it, and every stage record of every clip: with it and the Parquet
files a dataset can be exported again after its work folder is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiktok_dm import __version__
from tiktok_dm.dataset.export import LEDGER, LOCK, MANIFEST, PLAN, TOMBSTONES
from tiktok_dm.dataset.rows import ClipItem, DatasetMeta, MusicRecord, PosesRecord, SegmentRecord, VisualRecord
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic
from tiktok_dm.runtime.store import Entry, Store, canonical_json

if TYPE_CHECKING:
    from tiktok_dm.annotations.tables import Annotations
    from tiktok_dm.pipeline.plan import Plan
    from tiktok_dm.pipeline.scheduler import Outcome
    from tiktok_dm.runtime.store import Ledger

_TOOLS = (
    "av",
    "ai-edge-litert",
    "librosa",
    "numpy",
    "scipy",
    "soundfile",
    "pyloudnorm",
    "pyarrow",
    "yt-dlp",
)


# Those that have a hand in visual features alone.
_VISUAL_TOOLS = ("torch", "scikit-image", "torchvision", "transformers")


def tool_versions(visual: bool = False) -> dict[str, str]:
    """Versions of what had a hand in the dataset; `visual`: also of what visual features are made with."""
    versions = {"tiktok-dm": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in _TOOLS + (_VISUAL_TOOLS if visual else ()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def clip_items(plan: Plan, outcome: Outcome, store: Store) -> list[ClipItem]:
    """The rows to be, for every clip that came through all stages, by id."""
    items = []
    for clip in plan.buildable:
        state = outcome.clips[clip.clip_id]
        entry = outcome.ledger.get(clip.item)
        if entry is None or entry.status != "ok":
            continue
        source = outcome.sources[clip.compilation_id]
        cut = store.folder("segment", state.keys["segment"])
        assert clip.start_s is not None
        assert clip.end_s is not None
        items.append(
            ClipItem(
                clip_id=clip.clip_id,
                compilation_id=clip.compilation_id,
                song_id=clip.song_id,
                split=clip.split,
                annotated_start_s=clip.start_s,
                annotated_end_s=clip.end_s,
                segment=cast(SegmentRecord, state.records["segment"]),
                poses=cast(PosesRecord, state.records["poses"]),
                music=cast(MusicRecord, state.records["music"]),
                n_dancers_annotated=clip.n_dancers,
                source=source["source"],
                source_sha256=source["sha256"],
                video=cut / "clip.mp4",
                audio=cut / "audio.flac",
                pose=store.folder("poses", state.keys["poses"]) / "poses.npy",
                visual=cast("VisualRecord | None", state.records.get("visual")),
                features=store.folder("visual", state.keys["visual"]) / "visual.npy"
                if "visual" in state.records
                else None,
            )
        )
    return items


def lock_table(
    plan: Plan, outcome: Outcome, annotations: Annotations, truth: Path | None, items: list[ClipItem]
) -> dict[str, Any]:
    """What was found: sources with checksum and probe, each clip's keys and records, tool versions, parameters."""
    used = {item.compilation_id for item in items}
    songs = {
        str(row["song_id"]): {"title": _cell(row, "title"), "artist": _cell(row, "artist")}
        for row in annotations.songs.to_dict("records")
    }
    meta = annotations.meta
    accuracy = None
    if truth is not None:
        from tiktok_dm.pipeline.demo import demo_accuracy

        accuracy = demo_accuracy(truth, items)
    return {
        "dataset": {
            "name": plan.name,
            **{
                key: getattr(meta, key, None) or ""
                for key in ("title", "license", "homepage", "citation", "description")
            },
        },
        "parameters": json.loads(canonical_json(plan.parameters.published())),
        "tools": tool_versions(plan.parameters.visual is not None),
        "pose_accuracy": accuracy,
        "songs": songs,
        "sources": {str(key): value for key, value in sorted(outcome.sources.items()) if key in used},
        "clips": {
            str(item.clip_id): {
                "compilation_id": item.compilation_id,
                "song_id": item.song_id,
                "split": item.split,
                "annotated_start_s": item.annotated_start_s,
                "annotated_end_s": item.annotated_end_s,
                "n_dancers_annotated": item.n_dancers_annotated,
                "keys": outcome.clips[item.clip_id].keys,
                **{stage: getattr(item, stage) for stage in outcome.clips[item.clip_id].stages},
            }
            for item in items
        },
    }


def read_published(out: Path) -> dict[str, Any] | None:
    """The lock of the finished dataset in `out`; None where there is none."""
    try:
        lock = json.loads((out / LOCK).read_text(encoding="utf-8")) if (out / MANIFEST).is_file() else None
        return lock if lock is not None and lock["clips"] and lock["sources"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_published(plan: Plan, outcome: Outcome, published: Mapping[str, Any]) -> dict[int, str]:
    """Published clips that this run could not make again though plan and annotations still want them, with the reason.

    What is published stays published unless the annotations or the user say otherwise: a clip is kept where its source
    is missing or damaged, or a stage failed, and its times are what they were. Where the source is another file than
    the published one, all published clips of it stay, so that no compilation is half of one file and half of another.
    The ledger says of a kept clip that it is there, and why it is the published one.

    Raises:
        UserError: clips would have to be kept that were made with other parameters.
    """
    wanted = {clip.clip_id: clip for clip in plan.buildable}
    same: dict[int, Mapping[str, Any]] = {}
    for key, found in published["clips"].items():
        clip = wanted.get(int(key))
        if clip is not None and (clip.compilation_id, clip.start_s, clip.end_s) == (
            found["compilation_id"],
            found["annotated_start_s"],
            found["annotated_end_s"],
        ):
            same[clip.clip_id] = found

    def other_source(compilation_id: int) -> bool:
        now = outcome.sources.get(compilation_id)
        return now is not None and now["sha256"] != published["sources"][str(compilation_id)]["sha256"]

    reasons: dict[int, str] = {}
    for clip_id, found in same.items():
        entry = outcome.ledger.get(wanted[clip_id].item)
        if entry is None or entry.status == "ok":
            continue
        if entry.status in ("failed", "gone") or other_source(found["compilation_id"]):
            reasons[clip_id] = entry.reason
    kept = dict(reasons)
    for clip_id, found in same.items():
        others = [k for k in reasons if same[k]["compilation_id"] == found["compilation_id"]]
        if others and other_source(found["compilation_id"]):
            kept.setdefault(
                clip_id, f"clip {others[0]} of the same compilation could not be made: {reasons[others[0]]}"
            )
    if kept and published["parameters"] != json.loads(canonical_json(plan.parameters.published())):
        some = next(iter(kept))
        raise UserError(
            f"{len(kept)} published clips can't be made again with these parameters (clip {some}: {kept[some]}). "
            "Nothing was changed: bring their sources back, build with the parameters that the dataset has, or build "
            "into another folder."
        )
    for clip_id, reason in kept.items():
        outcome.ledger.set(Entry(wanted[clip_id].item, "export", "ok", f"kept as published: {reason}"))
    return dict(sorted(kept.items()))


def keep_in_lock(lock: dict[str, Any], published: Mapping[str, Any], plan: Plan, kept: Iterable[int]) -> None:
    """Put what was published of the clips `kept` into a new lock; song and split are those of the annotations today."""
    wanted = {clip.clip_id: clip for clip in plan.buildable}
    for clip_id in kept:
        clip, found = wanted[clip_id], dict(published["clips"][str(clip_id)])
        found |= {"song_id": clip.song_id, "split": clip.split, "n_dancers_annotated": clip.n_dancers}
        lock["clips"][str(clip_id)] = found
        key = str(clip.compilation_id)
        lock["sources"][key] = published["sources"][key]
    lock["clips"] = dict(sorted(lock["clips"].items(), key=lambda pair: int(pair[0])))
    lock["pose_accuracy"] = lock["pose_accuracy"] or published.get("pose_accuracy")


def dataset_texts(
    plan_lines: str, lock: Mapping[str, Any], ledger: Ledger, tombstones: list[dict[str, Any]]
) -> dict[str, str]:
    """Plan, lock, ledger and tombstones as the files that a dataset has beside its rows."""
    texts = {
        PLAN: plan_lines,
        LOCK: json.dumps(lock, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        LEDGER: ledger.text(),
    }
    return texts | ({TOMBSTONES: "".join(canonical_json(t) + "\n" for t in tombstones)} if tombstones else {})


def dataset_meta(
    lock: Mapping[str, Any], plan_lines: str, ledger: Ledger, tombstones: list[dict[str, Any]]
) -> DatasetMeta:
    """What card and report say beyond the rows."""
    head, *rows = [json.loads(line) for line in plan_lines.splitlines()]
    planned = [
        {"clip_id": int(row["item"].split(":")[1]), "compilation_id": row["compilation_id"], "song_id": row["song_id"]}
        for row in rows
        if row["item"].startswith("clip:")
    ]
    sources = {int(row["item"].split(":")[1]): row["source"] for row in rows if row["item"].startswith("compilation:")}
    return DatasetMeta(
        **lock["dataset"],
        parameters=lock["parameters"],
        tools=lock["tools"],
        ledger=[asdict(entry) for entry in ledger.entries],
        plan_clips=head["clips"],
        plan_compilations=head["compilations"],
        songs={int(key): value for key, value in lock["songs"].items()},
        tombstones=tombstones,
        pose_accuracy=lock["pose_accuracy"],
        planned=planned,
        sources=sources,
    )


def items_from_dataset(out: Path, lock: Mapping[str, Any], scratch: Path) -> list[ClipItem]:
    """The rows of a finished dataset as items again, their media and poses written into `scratch`."""
    import numpy as np

    items = []
    seen = _visual_features(out) if any("visual" in found for found in lock["clips"].values()) else {}
    for row in _rows(out, ["clip_id", "video", "audio", "pose"]):
        key = str(row["clip_id"])
        if key not in lock["clips"]:
            continue
        found = lock["clips"][key]
        source = lock["sources"][str(found["compilation_id"])]
        folder = scratch / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "clip.mp4").write_bytes(row["video"]["bytes"])
        (folder / "audio.flac").write_bytes(row["audio"]["bytes"])
        pose = np.asarray(row["pose"], dtype=np.float32)
        np.save(folder / "poses.npy", pose[:, : found["poses"]["n_dancers"]])
        features = None
        if "visual" in found:
            features = folder / "visual.npy"
            none = np.zeros((0, found["visual"]["n_features"]), np.float32)
            np.save(features, np.stack(seen[int(key)]) if int(key) in seen else none)
        items.append(
            ClipItem(
                clip_id=int(key),
                **{
                    name: found[name]
                    for name in (
                        "compilation_id",
                        "song_id",
                        "split",
                        "annotated_start_s",
                        "annotated_end_s",
                        "n_dancers_annotated",
                        "segment",
                        "poses",
                        "music",
                    )
                },
                source=source["source"],
                source_sha256=source["sha256"],
                video=folder / "clip.mp4",
                audio=folder / "audio.flac",
                pose=folder / "poses.npy",
                visual=found.get("visual"),
                features=features,
            )
        )
    return sorted(items, key=lambda item: item.clip_id)


def restorer(out: Path, work: Path) -> Callable[[str, str | None, Path], bool]:
    """A function that brings back a cut's files from the dataset in `out`, by checksum; it says whether it could."""
    index: dict[str, tuple[Path, int]] | None = None

    def restore(video_sha256: str, audio_sha256: str | None, folder: Path) -> bool:
        nonlocal index
        import pyarrow as pa
        import pyarrow.parquet as pq

        if index is None:
            index = {}
            for path in sorted((out / "data" / "clips").glob("*.parquet")):
                # What is damaged or of another program cannot help; its clips are cut again.
                with contextlib.suppress(pa.ArrowException, OSError, KeyError), pq.ParquetFile(path) as file:
                    for group in range(file.num_row_groups):
                        for value in file.read_row_group(group, columns=["video_sha256"])["video_sha256"].to_pylist():
                            index[value] = (path, group)
        if video_sha256 not in index:
            return False
        path, group = index[video_sha256]
        with contextlib.suppress(pa.ArrowException), pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=["video_sha256", "audio_sha256", "video", "audio"])
            for row in table.to_pylist():
                video, audio = row["video"]["bytes"], row["audio"]["bytes"]
                # The bytes themselves are held to their checksums: a cut that was changed is no cut of ours.
                if (_sha256(video), _sha256(audio)) == (video_sha256, audio_sha256):
                    write_atomic(folder / "audio.flac", audio)
                    write_atomic(folder / "clip.mp4", video)
                    return True
        return False

    return restore


def _visual_features(out: Path) -> dict[int, list[Any]]:
    """The vectors of each clip's segments, in order."""
    import numpy as np

    found: dict[int, list[tuple[int, Any]]] = {}
    for row in _rows(out, ["clip_id", "segment_index", "visual"], "segments"):
        found.setdefault(row["clip_id"], []).append((row["segment_index"], np.asarray(row["visual"], np.float32)))
    return {clip_id: [vector for _, vector in sorted(rows, key=lambda row: row[0])] for clip_id, rows in found.items()}


def _rows(out: Path, columns: list[str], config: str = "clips") -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for path in sorted((out / "data" / config).glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1, columns=columns):
                yield from batch.to_pylist()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _cell(row: Mapping[Any, Any], name: str) -> str:
    import pandas as pd

    value = row.get(name)
    return "" if value is None or pd.isna(value) else str(value)
