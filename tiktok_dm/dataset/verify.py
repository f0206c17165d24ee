"""Check a finished dataset: files, tables, split, and that picture, sound and poses of each clip belong together.

Everything is read from the dataset itself and every finding is reported, one plain sentence each. Nothing is mended:
that is for another build. Not for the numbers of a dataset: those are `stats`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.dataset.checks import clip_problems, digest
from tiktok_dm.dataset.export import (
    CARD,
    DATA,
    LEDGER,
    LOCK,
    MANIFEST,
    PLAN,
    REPORT,
    TOMBSTONES,
    dataset_files,
    read_tombstones,
)
from tiktok_dm.dataset.rows import array_values
from tiktok_dm.errors import UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.reading import decode_audio, features, missing_decoder

if TYPE_CHECKING:
    import pyarrow as pa

_GENRES = ("",) * 10  # that there are ten is known; their order is the dataset's


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `where` is a file, a clip or a segment; `message` a sentence."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Args:
        counts: files, clips, segments, songs, compilations that were looked at.
        max_start_ms: the largest distance between the starts of picture and sound in `video`.
        max_sync_ms: the largest distance of the sound in `video` from the sound in `audio`.
        notes: no faults of the dataset: how well picture and sound agree, which decoders of `datasets` are missing.
    """

    findings: list[Finding]
    counts: dict[str, int]
    max_start_ms: float = 0.0
    max_sync_ms: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.findings

    def __str__(self) -> str:
        count = self.counts
        looked = f"{count['files']} files, {count['clips']} clips, {count['segments']} segments"
        lines = [str(finding) for finding in self.findings]
        if self.ok:
            lines.append(f"Nothing wrong in {looked}.")
        else:
            lines.append(f"{len(lines)} problem{'' if len(lines) == 1 else 's'} in {looked}.")
        return "\n".join([*lines, *self.notes])


@dataclass
class _Seen:
    """What the clips say, for the checks that need all of them; small, whatever the number of clips."""

    cut_from_clips: bool = True  # whether the segments are those of the clips, whose poses and sound they must have
    clips: Counter[int] = field(default_factory=Counter)
    songs: dict[int, dict[str, list[int]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    compilations: set[int] = field(default_factory=set)
    # What each segment must hold: its scalar columns, digest of its motion, digest of its 16-bit samples (or None).
    expected: dict[str, tuple[dict[str, Any], str, str | None]] = field(default_factory=dict)
    segments: Counter[str] = field(default_factory=Counter)
    start_ms: float = 0.0
    sync_ms: float = 0.0


def verify(
    out: Path | str,
    *,
    decode: bool = True,
    decoders: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check everything that can be checked of the dataset in `out`.

    Args:
        decode: also decode every clip's video (most of the time that this takes).
        decoders: also look whether `datasets` can decode here by itself (costs seconds, loads PyTorch).
        progress: called with (clips done, clips in all).

    Raises:
        UserError: no dataset in `out`.

    Example:
        >>> from tiktok_dm import verify
        >>> report = verify("demo", decoders=False)
        >>> report.ok, report.findings
        (True, [])
    """
    out = Path(out)
    if not out.is_dir() or not any((out / name).exists() for name in (MANIFEST, CARD, DATA)):
        raise UserError(f"{out} holds no dataset: give the folder that `tiktok-dm build --out` wrote")
    findings = list(_file_findings(out))
    tables = {config: _tables(out, config, findings) for config in schema.DATASET_COLUMNS}
    findings += _card_findings(out, tables)
    findings += tombstone_findings(out)
    # Sets of segments alone have nothing to hold them against; AIST++'s are not cut from the poses of its clips.
    seen = _Seen(
        cut_from_clips=(out / DATA / "clips").is_dir() and not any(s.motion_of_smpl for s in tables["segments"])
    )
    total = sum(shard.rows for shard in tables["clips"])
    for shard in tables["clips"]:
        for row in _rows(shard, findings):
            findings += _clip_findings(row, shard, seen, decode)
            if progress is not None:
                progress(sum(seen.clips.values()), total)
    for shard in tables["segments"]:
        for row in _rows(shard, findings):
            findings += _segment_findings(row, shard, seen)
    findings += _dataset_findings(seen)
    counts = {
        "files": len(dataset_files(out)),
        "clips": sum(seen.clips.values()),
        "segments": sum(seen.segments.values()),
        "songs": len(seen.songs),
        "compilations": len(seen.compilations),
    }
    notes = []
    if decode and seen.clips:
        notes.append(
            f"Picture and sound start within {seen.start_ms:.1f} ms of each other in every video; its sound is within "
            f"{seen.sync_ms:.1f} ms of the audio column."
        )
    missing = missing_decoder() if decoders else None
    if missing:
        notes.append(missing)
    return VerifyReport(findings, counts, round(seen.start_ms, 2), round(seen.sync_ms, 2), tuple(notes))


# ------------------------------------------------------------------------------------------------------------ files


def _file_findings(out: Path) -> Iterator[Finding]:
    if not (out / MANIFEST).is_file():
        yield Finding(MANIFEST, "is missing, so the export did not finish: run the same build again")
        return
    try:
        listed = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
        told = {str(name): (str(entry["sha256"]), int(entry["bytes"])) for name, entry in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        yield Finding(MANIFEST, "cannot be read: run the same build again")
        return
    here = {path.relative_to(out).as_posix(): path for path in dataset_files(out)}
    for name in sorted(told.keys() | here.keys()):
        if name not in here:
            yield Finding(name, "is listed in the manifest but missing: copy it again or run the same build again")
        elif name not in told:
            yield Finding(name, "is not listed in the manifest: remove it if it is no part of the dataset")
        elif here[name].stat().st_size != told[name][1]:
            size = here[name].stat().st_size
            yield Finding(name, f"has {size:,} bytes where the manifest says {told[name][1]:,}: it was changed or cut")
        elif sha256_file(here[name]) != told[name][0]:
            yield Finding(name, "has another SHA-256 than the manifest says: it was changed")


@dataclass(frozen=True)
class _Shard:
    config: str
    split: str
    path: Path
    rows: int
    motion_of_smpl: bool = False


def _tables(out: Path, config: str, findings: list[Finding]) -> list[_Shard]:
    """The readable shards of a configuration whose columns are the schema's."""
    import pyarrow
    import pyarrow.parquet

    features(config)  # makes pyarrow know the types of arrays, before it reads a file with one
    length = 0  # of visual features: the first shard's, which the others are held to
    shards = []
    for path in sorted((out / DATA / config).glob("*")):
        name = path.relative_to(out).as_posix()
        split = path.name.split("-")[0]
        if path.suffix != ".parquet" or split not in schema.SPLITS:
            findings.append(Finding(name, "has no name of a shard (train-00000-of-00001.parquet): remove it"))
            continue
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                found, rows = file.schema_arrow, file.metadata.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            findings.append(Finding(name, f"is no readable Parquet file ({str(error).splitlines()[0]})"))
            continue
        length = length or (_visual_length(found) if config == "segments" else 0)
        smpl = config == "segments" and "genre" in found.names
        columns = (
            schema.smpl_segment_columns(_GENRES, length) if smpl else schema.segment_columns(length) if length else None
        )
        wanted = features(config, columns).arrow_schema
        problems = _schema_problems(found, wanted)
        findings += [Finding(name, problem) for problem in problems]
        if not problems:
            shards.append(_Shard(config, split, path, rows, smpl))
    return shards


def _visual_length(found: pa.Schema) -> int:
    """Length of the visual features; 0 where there are none."""
    import pyarrow

    if "visual" not in found.names or not pyarrow.types.is_fixed_size_list(found.field("visual").type):
        return 0
    return int(found.field("visual").type.list_size)


def _schema_problems(found: pa.Schema, wanted: pa.Schema) -> Iterator[str] | list[str]:
    missing = [name for name in wanted.names if name not in found.names]
    extra = [name for name in found.names if name not in wanted.names]
    problems = [f"lacks the column {name}" for name in missing] + [f"has an unknown column {name}" for name in extra]
    for name in wanted.names:
        if name in found.names and found.field(name).type != wanted.field(name).type:
            problems.append(f"holds {name} as {found.field(name).type} where {wanted.field(name).type} belongs")
    if (found.metadata or {}).get(b"huggingface") != wanted.metadata[b"huggingface"] and not problems:
        problems.append("says other features in its metadata than the dataset's")
    return problems


def _card_findings(out: Path, tables: Mapping[str, list[_Shard]]) -> Iterator[Finding]:
    """The card's counts against the files'."""
    import yaml

    try:
        head = yaml.safe_load((out / CARD).read_text(encoding="utf-8").split("---\n")[1])
        told = {
            (str(info["config_name"]), str(split["name"])): int(split["num_examples"])
            for info in head["dataset_info"]
            for split in info["splits"]
        }
    except (OSError, ValueError, IndexError, KeyError, TypeError, yaml.YAMLError):
        yield Finding(
            CARD, "is missing or has no readable YAML head, so load_dataset does not know the dataset's parts"
        )
        return
    rows: Counter[tuple[str, str]] = Counter()
    for config, shards in tables.items():
        for shard in shards:
            rows[config, shard.split] += shard.rows
    for config, split in sorted(told.keys() | rows.keys()):
        says, holds = told.get((config, split), 0), rows[config, split]
        if says != holds:
            yield Finding(CARD, f"says {says} rows of {config} in {split}, the files hold {holds}")


def tombstone_findings(out: Path) -> list[Finding]:
    """Where something is still found that was taken out on request: rows, plan, lock, ledger, report.

    Raises:
        UserError: the tombstones can't be read.
    """
    try:
        gone = {(str(t["kind"]), int(t["id"])) for t in read_tombstones(out)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / TOMBSTONES} cannot be read ({error}): bring back the file as it was") from error
    if not gone:
        return []

    def of(clip_id: Any, compilation_id: Any, song_id: Any) -> bool:
        return not gone.isdisjoint({("clip", clip_id), ("compilation", compilation_id), ("song", song_id)})

    found: list[Finding] = []
    removed = {number for kind, number in gone if kind == "clip"}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in (out / PLAN).read_text(encoding="utf-8").splitlines()[1:]:
            row = json.loads(line)
            if row["item"].startswith("clip:") and of(
                int(row["item"].split(":")[1]), row["compilation_id"], row["song_id"]
            ):
                removed.add(int(row["item"].split(":")[1]))
                if not row["excluded"]:
                    found.append(Finding(PLAN, f"still plans {row['item']}, which was taken out on request"))
    import pyarrow
    import pyarrow.parquet

    for path in sorted((out / DATA).glob("*/*.parquet")):
        with contextlib.suppress(pyarrow.ArrowException, OSError, KeyError):
            columns = ["clip_id", "compilation_id", "song_id"]
            for row in pyarrow.parquet.read_table(path, columns=columns).to_pylist():
                if row["clip_id"] in removed or of(*(row[name] for name in columns)):
                    removed.add(row["clip_id"])
                    name = path.relative_to(out).as_posix()
                    found.append(Finding(name, f"still holds clip {row['clip_id']}, which was taken out on request"))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        lock = json.loads((out / LOCK).read_text(encoding="utf-8"))
        for key, entry in lock["clips"].items():
            if int(key) in removed or of(int(key), entry["compilation_id"], entry["song_id"]):
                found.append(Finding(LOCK, f"still holds clip {key}, which was taken out on request"))
        for key in lock["sources"]:
            if ("compilation", int(key)) in gone:
                found.append(Finding(LOCK, f"still holds source {key}, which was taken out on request"))
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in (out / LEDGER).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            kind, _, number = entry["item"].partition(":")
            if entry["status"] == "ok" and (kind, int(number)) in gone | {("clip", k) for k in removed}:
                found.append(Finding(LEDGER, f"says that {entry['item']} is there, which was taken out on request"))
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (out / REPORT).read_text(encoding="utf-8")
        for clip_id in sorted(removed):
            if f'id="clip-{clip_id}"' in text:
                found.append(Finding(REPORT, f"still shows clip {clip_id}, which was taken out on request"))
    return list(dict.fromkeys(found))


def _rows(shard: _Shard, findings: list[Finding]) -> Iterator[dict[str, Any]]:
    """Rows of a shard, one at a time, array columns as numpy arrays."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(shard.path) as file:
            for batch in file.iter_batches(batch_size=1):
                yield {name: array_values(batch.column(name))[0] for name in batch.schema.names}
    except (pyarrow.ArrowException, OSError) as error:
        where = f"{DATA}/{shard.config}/{shard.path.name}"
        findings.append(Finding(where, f"cannot be read to its end ({str(error).splitlines()[0]})"))


# ------------------------------------------------------------------------------------------------------------ rows


def _clip_findings(row: Mapping[str, Any], shard: _Shard, seen: _Seen, decode: bool) -> Iterator[Finding]:
    clip_id = row["clip_id"]
    where = f"clip {clip_id}"
    seen.clips[clip_id] += 1
    seen.songs[row["song_id"]][row["split"]].append(clip_id)
    seen.compilations.add(row["compilation_id"])
    if row["split"] != shard.split:
        yield Finding(where, f"says it is in {row['split']} but stands in {shard.path.name}")
    problems, sound, offsets = clip_problems(row, decode=decode)
    for problem in problems:
        yield Finding(where, problem)
    seen.start_ms = max(seen.start_ms, 1000 * abs(offsets[0]))
    seen.sync_ms = max(seen.sync_ms, 1000 * abs(offsets[1]))
    shared = {name: row[name] for name in ("clip_id", "compilation_id", "song_id", "split", "n_dancers")}
    count = schema.whole_segments(row["duration_s"])
    for k in range(count if seen.cut_from_clips else 0):
        name = schema.segment_id(row["compilation_id"], row["song_id"], clip_id, k + 1)
        motion = row["pose"][k * schema.SEGMENT_POSES : (k + 1) * schema.SEGMENT_POSES, 0]
        part = None if sound is None else sound[k * schema.SEGMENT_SAMPLES : (k + 1) * schema.SEGMENT_SAMPLES]
        scalars = {**shared, "segment_index": k + 1, "start_s": k * schema.SEGMENT_S}
        heard = None if part is None else _sound_digest(part)
        seen.expected[name] = (scalars, digest(_filled(motion, schema.SEGMENT_POSES)), heard)


def _segment_findings(row: Mapping[str, Any], shard: _Shard, seen: _Seen) -> Iterator[Finding]:
    name = str(row["segment_id"])
    where = f"segment {name}"
    seen.segments[name] += 1
    if row["split"] != shard.split:
        yield Finding(where, f"says it is in {row['split']} but stands in {shard.path.name}")
    heard = None
    if not seen.cut_from_clips:
        clips = seen.songs[row["song_id"]][row["split"]]
        if row["clip_id"] not in clips:
            clips.append(row["clip_id"])
        seen.compilations.add(row["compilation_id"])
        if not np.isfinite(row["motion"]).all():
            yield Finding(where, "has a motion that is not finite numbers")
    elif name not in seen.expected:
        yield Finding(where, "belongs to no clip of this dataset, or lies past the end of its clip")
        return
    else:
        scalars, motion, heard = seen.expected[name]
        for column, value in scalars.items():
            if row[column] != value:
                yield Finding(where, f"says {column} = {row[column]} where its clip says {value}")
        if digest(row["motion"]) != motion:
            yield Finding(where, "has another motion than the poses of its clip's lead dancer")
    if "visual" in row and not (row["visual"] and np.isfinite(np.asarray(row["visual"], np.float64)).all()):
        yield Finding(where, "has visual features that are not finite numbers")
    try:
        samples, rate = decode_audio(row["audio"])
    except UserError as error:
        yield Finding(where, str(error))
        return
    if samples.shape != (schema.SEGMENT_SAMPLES,) or rate != schema.SAMPLE_RATE:
        shape = " x ".join(map(str, samples.shape))
        yield Finding(where, f"holds {shape} samples at {rate} Hz where {schema.SEGMENT_SAMPLES} at 22050 belong")
    elif heard is not None and _sound_digest(samples) != heard:
        yield Finding(where, "has another sound than its clip at that place")


def _dataset_findings(seen: _Seen) -> Iterator[Finding]:
    """What only all rows together show."""
    for clip_id, times in sorted(seen.clips.items()):
        if times > 1:
            yield Finding(f"clip {clip_id}", f"stands in {times} rows")
    for name, times in sorted(seen.segments.items()):
        if times > 1:
            yield Finding(f"segment {name}", f"stands in {times} rows")
    for name in sorted(seen.expected.keys() - seen.segments.keys()):
        yield Finding(f"segment {name}", "is missing, though its clip is long enough")
    for song, splits in sorted(seen.songs.items()):
        if len(splits) > 1:
            parts = " and ".join(f"{split} (clips {', '.join(map(str, ids))})" for split, ids in sorted(splits.items()))
            yield Finding(f"song {song}", f"is in {parts}: a song belongs to one split")


def _filled(motion: np.ndarray, length: int) -> np.ndarray:
    """Poses short of a segment's end by rounding count as missing ones, as `export` writes them."""
    filled = np.zeros((length, *motion.shape[1:]), motion.dtype)
    filled[: len(motion)] = motion
    return filled


def _sound_digest(samples: np.ndarray) -> str:
    """Of the samples as 16-bit numbers, filled with silence to a segment's length."""
    whole = np.zeros(schema.SEGMENT_SAMPLES, np.int16)
    whole[: len(samples)] = np.round(np.asarray(samples, np.float64) * 32768).clip(-32768, 32767).astype(np.int16)
    return hashlib.sha256(whole.tobytes()).hexdigest()
