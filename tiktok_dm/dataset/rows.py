"""What a dataset says of a clip and of itself, and rows written to Parquet shards that `datasets` opens.

Where these come from is `dataset`'s matter, what is written of them that of `export`, `card` and `report`.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from tiktok_dm import schema
from tiktok_dm.files import sha256_file
from tiktok_dm.reading import features
from tiktok_dm.runtime.store import OMITTED
from tiktok_dm.schema import DATASET_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa


class SegmentRecord(TypedDict, total=False):
    """What the segment stage says of a cut; `content_box` is x, y, width, height in px."""

    start_s: float
    end_s: float
    duration_s: float
    n_frames: int
    width: int
    height: int
    fps: float
    has_audio: bool
    content_box: Sequence[int]
    video_sha256: str
    audio_sha256: str | None


class PosesRecord(TypedDict, total=False):
    """What the poses stage says of a clip; `best_frame` is on the 30-fps grid, None without any pose."""

    n_frames: int
    n_dancers: int
    n_dancers_at_once: int
    coverage: float
    coverage_by_dancer: Sequence[float]
    mean_confidence: float
    best_frame: int | None
    estimator: str
    estimator_version: str
    weights_sha256: str


class MusicRecord(TypedDict, total=False):
    """What the music stage says of a clip."""

    tempo_bpm: float | None
    tempo_confidence: float | None
    beats_s: Sequence[float]
    loudness_lufs: float | None
    peak_dbfs: float
    n_samples: int
    sample_rate: int
    onset_rate_hz: float
    librosa_version: str


class VisualRecord(TypedDict, total=False):
    """What the visual stage says of a clip's features."""

    n_windows: int
    n_features: int
    extractor: str
    extractor_version: str
    method: str
    weights: Mapping[str, str]


@dataclass(frozen=True)
class ClipItem:
    """Everything the dataset says of one finished clip.

    Args:
        annotated_start_s, annotated_end_s: as asked for, s from the source's first instant.
        segment, poses, music: records of these stages.
        n_dancers_annotated: None where the annotation says nothing.
        source: link or file name of the compilation.
        video, audio, pose: `clip.mp4`; `audio.flac`, 22,050 Hz mono; `poses.npy`, (frames, dancers, 25, 3) float32.
        visual: record of the visual stage, where features were asked for.
        features: `visual.npy`, (segments, n_features) float32.
    """

    clip_id: int
    compilation_id: int
    song_id: int
    split: str
    annotated_start_s: float
    annotated_end_s: float
    segment: SegmentRecord
    poses: PosesRecord
    music: MusicRecord
    n_dancers_annotated: int | None
    source: str
    source_sha256: str
    video: Path
    audio: Path
    pose: Path
    visual: VisualRecord | None = field(default=None, metadata={OMITTED: True})
    features: Path | None = field(default=None, metadata={OMITTED: True})

    @property
    def n_segments(self) -> int:
        """How many whole segments tile the clip."""
        return schema.whole_segments(float(self.segment["duration_s"]))

    @property
    def pose_model(self) -> str:
        """The estimator and its version, as in the `pose_model` column."""
        return f"{self.poses['estimator']} {self.poses['estimator_version']}".strip()


@dataclass(frozen=True)
class DatasetMeta:
    """Everything the dataset says of itself.

    Args:
        license: an identifier of the Hugging Face hub (`mit`, `cc-by-4.0`, `other`, ...), or `""` where none is known.
        citation: BibTeX, or `""`.
        parameters: of the build, JSON-able.
        tools: version by name, of tools and models.
        ledger: one dict an item: item (`clip:12`, `compilation:3`), stage, status (`ok`, `filtered`, `failed`, `gone`),
            reason, error, message.
        plan_clips, plan_compilations: how many were planned.
        songs: `title` and `artist` by song id, where known.
        tombstones: what was taken out on request: kind, id, reason.
        pose_accuracy: recall, mean_error_torso, pck02 against rendered truth, where there is one.
        planned: the planned clips (clip_id, compilation_id, song_id), so that the report can count by compilation.
        sources: link or file name by compilation id, also of those that gave no clip.
    """

    name: str
    title: str
    license: str
    homepage: str
    citation: str
    description: str
    parameters: Mapping[str, Any]
    tools: Mapping[str, str]
    ledger: Sequence[Mapping[str, Any]]
    plan_clips: int
    plan_compilations: int
    songs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    tombstones: Sequence[Mapping[str, Any]] = ()
    pose_accuracy: Mapping[str, float] | None = None
    planned: Sequence[Mapping[str, Any]] = ()
    sources: Mapping[int, str] = field(default_factory=dict)


Columns = Mapping[str, tuple[str, str]]  # name -> (kind, meaning), as in `schema`

# A reader fetches whole row groups: small enough for a worker's memory, large enough to compress.
_GROUP_ROWS = {"clips": 8, "segments": 256}
_GROUP_BYTES = 48 << 20


@dataclass(frozen=True)
class SplitInfo:
    """One split of one configuration on the disk.

    Args:
        num_bytes: size of its Arrow tables as `datasets` counts them when it opens the files.
        download_bytes: size of its Parquet files.
        files: their names in the configuration's folder, in order.
        sha256: of the files' checksums, one after the other.
        columns: name to (kind, meaning), where they are not the schema's own for this configuration.
    """

    config: str
    split: str
    num_examples: int
    num_bytes: int
    download_bytes: int
    files: tuple[str, ...]
    sha256: str = ""
    columns: Columns | None = None


class ShardWriter:
    """Writes the rows of one split of one configuration into `<folder>/<split>-00000-of-0000N.parquet`.

    At most one row group is held in memory. The shards get their names when the writer is closed.

    Args:
        max_shard_bytes: of columns in memory; only a single row may be larger.
        columns: name to (kind, meaning), where they are not the schema's own for this configuration.
    """

    def __init__(
        self, folder: Path, config: str, split: str, max_shard_bytes: float, columns: Columns | None = None
    ) -> None:
        self.folder, self.config, self.split, self.columns = folder, config, split, columns
        self._max = max_shard_bytes
        self._group_max = min(_GROUP_BYTES, max_shard_bytes)
        self._features = features(config, columns)
        self._rows: list[Mapping[str, Any]] = []
        self._rows_bytes = 0
        self._shards: list[Path] = []
        self._shard_bytes = 0
        self._writer: Any = None
        self._num_examples = 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one row: plain values, numpy arrays for array columns, `{"bytes", "path"}` for media."""
        size = sum(_size(value) for value in row.values())
        if self._rows and (self._rows_bytes + size > self._group_max or len(self._rows) >= _GROUP_ROWS[self.config]):
            self._flush()
        self._rows.append(row)
        self._rows_bytes += size
        self._num_examples += 1

    def finish(self) -> SplitInfo:
        """Write what is left, name the shards, and say what was written."""
        self._flush()
        self._close_shard()
        files = []
        for k, path in enumerate(self._shards):
            name = f"{self.split}-{k:05d}-of-{len(self._shards):05d}.parquet"
            os.replace(path, self.folder / name)
            files.append(name)
        paths = [self.folder / name for name in files]
        num_bytes = arrow_bytes(paths, self.config, self.columns) if files else 0
        size = sum(path.stat().st_size for path in paths)
        digest = hashlib.sha256("".join(map(sha256_file, paths)).encode()).hexdigest()
        return SplitInfo(
            self.config, self.split, self._num_examples, num_bytes, size, tuple(files), digest, self.columns
        )

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is not None and self._shard_bytes + self._rows_bytes > self._max:
            self._close_shard()
        if self._writer is None:
            path = self.folder / f"{self.split}-{len(self._shards):05d}.part"
            self._writer = _parquet_writer(
                path, self.columns or DATASET_COLUMNS[self.config], self._features.arrow_schema
            )
            self._shards.append(path)
        self._writer.write_table(table(self._rows, self.config, self.columns), row_group_size=len(self._rows))
        self._shard_bytes += self._rows_bytes
        self._rows, self._rows_bytes = [], 0

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._shard_bytes = None, 0


def table(rows: Sequence[Mapping[str, Any]], config: str, columns: Columns | None = None) -> pa.Table:
    """Rows as an Arrow table of the configuration's features, arrays without a detour through Python lists."""
    import pyarrow as pa

    schema = features(config, columns).arrow_schema
    arrays = []
    for column in schema:
        values = [row[column.name] for row in rows]
        if isinstance(column.type, pa.ExtensionType):
            arrays.append(pa.ExtensionArray.from_storage(column.type, _nested(values, column.type.storage_type)))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def arrow_bytes(paths: Sequence[Path], config: str, columns: Columns | None = None) -> int:
    """`num_bytes` of a split's files as `datasets` counts it: by its own writer, fed as its Parquet builder does."""
    import pyarrow as pa
    import pyarrow.dataset
    from datasets.arrow_writer import ArrowWriter

    writer = ArrowWriter(features=features(config, columns), stream=_Nowhere())
    # Without this the whole file is fetched into memory ahead of its batches.
    lazily = pyarrow.dataset.ParquetFileFormat(
        default_fragment_scan_options=pyarrow.dataset.ParquetFragmentScanOptions(pre_buffer=False)
    )
    for path in paths:
        with open(path, "rb") as file:
            fragment = lazily.make_fragment(file)
            if not fragment.row_groups:
                continue
            rows = fragment.row_groups[0].num_rows
            for batch in fragment.to_batches(batch_size=rows, batch_readahead=0, fragment_readahead=0):
                (writer.write_row if len(batch) == 1 else writer.write_table)(pa.Table.from_batches([batch]))
    return int(writer.finalize()[1])


class _Nowhere(io.RawIOBase):
    """Takes bytes and keeps none."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def array_values(column: pa.Array) -> list[Any]:
    """Values of a column as Python has them, but array columns as numpy arrays of the shape that their type says."""
    import pyarrow as pa

    if not isinstance(column, pa.ExtensionArray):
        return column.to_pylist()
    shape = column.type.shape
    values = []
    for row in range(len(column)):
        flat = column.storage.slice(row, 1)
        for _ in shape:
            flat = flat.flatten()
        values.append(flat.to_numpy(zero_copy_only=False).reshape(-1, *shape[1:]))
    return values


def _nested(arrays: Iterable[np.ndarray], kind: pa.DataType) -> pa.Array:
    """Arrays of one shape but for the first dimension, as nested Arrow lists of the given type."""
    import pyarrow as pa

    stack = [np.ascontiguousarray(array) for array in arrays]
    kinds = []
    while pa.types.is_list(kind):
        kinds.append(kind)
        kind = kind.value_type
    values: pa.Array = pa.array(np.concatenate([array.ravel() for array in stack]), kind)
    for length, list_kind in zip(reversed(stack[0].shape[1:]), reversed(kinds[1:]), strict=True):
        offsets = np.arange(0, len(values) + 1, length, dtype=np.int32)
        values = pa.ListArray.from_arrays(offsets, values, type=list_kind)
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in stack])]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values, type=kinds[0])


def _parquet_writer(path: Path, columns: Columns, schema: pa.Schema) -> Any:
    import pyarrow.parquet

    plain = [name for name, (kind, _) in columns.items() if kind in ("string", "int64", "float64")]
    media = {name for name, (kind, _) in columns.items() if kind in ("video", "audio")}
    leaves = [leaf for column in schema for leaf in _leaves(column.name, column.type)]
    arrays = [leaf for leaf in leaves if leaf.split(".")[0] not in media and leaf not in plain]
    return pyarrow.parquet.ParquetWriter(
        path,
        schema,
        version="2.6",
        # Media bytes are compressed already.
        compression={leaf: "none" if leaf.split(".")[0] in media else "zstd" for leaf in leaves},
        use_dictionary=[name for name in plain if columns[name][0] == "string"],
        use_byte_stream_split=[leaf for leaf in arrays if columns[leaf.split(".")[0]][0][:5] == "float"],
        write_statistics=plain,
        write_page_index=True,
    )


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    """Dotted paths of a field's leaf columns, as Parquet names them."""
    import pyarrow as pa

    if isinstance(kind, pa.ExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind):
        return [leaf for inner in kind for leaf in _leaves(f"{path}.{inner.name}", inner.type)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]


def _size(value: Any) -> int:
    """Roughly the bytes that a value takes in memory."""
    if isinstance(value, Mapping):
        return len(value["bytes"])
    return value.nbytes if isinstance(value, np.ndarray) else 16
