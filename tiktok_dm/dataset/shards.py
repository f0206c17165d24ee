"""Rows to Parquet shards that `datasets` opens: small row groups, features in the schema, media bytes in the rows.

Not for what the rows hold: that is `export`.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.files import sha256_file
from tiktok_dm.reading import features
from tiktok_dm.schema import DATASET_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

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
    for field in schema:
        values = [row[field.name] for row in rows]
        if isinstance(field.type, pa.ExtensionType):
            arrays.append(pa.ExtensionArray.from_storage(field.type, _nested(values, field.type.storage_type)))
        else:
            arrays.append(pa.array(values, field.type))
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
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
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
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]


def _size(value: Any) -> int:
    """Roughly the bytes that a value takes in memory."""
    if isinstance(value, Mapping):
        return len(value["bytes"])
    return value.nbytes if isinstance(value, np.ndarray) else 16
