"""A dataset whose segments come from somewhere else than cut clips: its folder, whole or absent, and its files.

For the demo's known joints (`demo_segments`), the authors' archives (`preprocessed`) and AIST++ (`aist`): they share
how a folder comes to be, one writer of rows a split, and the files that describe the rows. Not for what the rows hold,
and not for builds (`export`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import __version__
from tiktok_dm.dataset.export import CARD, DATA, MANIFEST, file_table, write_manifest
from tiktok_dm.dataset.rows import Columns, DatasetMeta, ShardWriter
from tiktok_dm.errors import UserError, is_no_room
from tiktok_dm.files import no_room, sha256_file
from tiktok_dm.runtime.publish import locked, new_version

CONFIG = "segments"
REPORT = "import.json"  # what was found in other people's files
SHARD_BYTES = 400 * 2**20
_SHOWN = 3  # examples in a sentence

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what was done)."""


# ------------------------------------------------------------------------------------------------------- the folder


def write_segment_set(
    out: Path, key: str, write: Callable[[Path], None], *, replaces: str | None = None
) -> dict[str, Any]:
    """Publish as `out`, in one step, a folder that `write(folder)` fills.

    Args:
        out: a new or empty folder, or one with the set of the same key, which is left as it is.
        key: the set's content key, which `write` puts into the manifest as `export`.
        write: fills an empty folder; writes the manifest.
        replaces: name of a set that is replaced if `out` holds it, whole, and nothing else; nothing else ever is.

    Returns:
        name, what the manifest counts, bytes, unchanged.

    Raises:
        UserError: `out` holds something else, or cannot be written; what is in it is untouched.
        DiskFull: it did not fit; what was in `out` is untouched.
    """
    with locked(out):
        if (found := held(out, key)) is not None:
            return {**found, "unchanged": True}
        if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (replaces and _is_whole(out, replaces)):
            raise UserError(
                f"{out} is there already and holds something else: choose another folder, or remove it first"
            )
        try:
            with new_version(out, {path.name for path in out.iterdir()} if out.is_dir() else ()) as folder:
                write(folder)
        except OSError as error:
            if is_no_room(error):
                raise no_room(out / DATA) from error
            where = f" ({error.filename})" if error.filename else ""
            raise UserError(
                f"{out} cannot be written: {error.strerror or error}{where}: choose another folder"
            ) from error
        found = held(out, key)
        assert found is not None
        return {**found, "unchanged": False}


def held(out: Path, key: str) -> dict[str, Any] | None:
    """The counts of the set in `out` if it is the one of this key, every byte of it; else None."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        if manifest["export"] != key or manifest["files"] != file_table(out):
            return None
        size = sum(entry["bytes"] for entry in manifest["files"].values())
        return {"name": manifest["name"], **manifest["counts"], "bytes": size}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(out: Path, name: str) -> bool:
    """Whether `out` holds a set of that name, every byte of it, and nothing else at all."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        if manifest["name"] != name or manifest["files"] != file_table(out):
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    here = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    return here == {MANIFEST, *manifest["files"]}


# -------------------------------------------------------------------------------------------------------- its files


def versions(*libraries: str) -> dict[str, str]:
    """What a set's key depends on beside its inputs: this package, and the libraries that make its bytes."""
    return {"package": __version__, **{name: importlib.metadata.version(name) for name in libraries}}


def checksum(path: Path) -> str:
    """SHA-256 of a file, or that it cannot be read: that is told when it is opened."""
    try:
        return sha256_file(path)
    except OSError as error:
        return f"unreadable: {error.errno}"


@contextlib.contextmanager
def segment_writers(
    folder: Path, splits: Iterable[str], columns: Columns | None = None
) -> Iterator[dict[str, ShardWriter]]:
    """A writer of segments for each split, closed whatever happens; `finish` them inside."""
    with contextlib.ExitStack() as stack:
        yield {
            split: stack.enter_context(ShardWriter(folder / DATA / CONFIG, CONFIG, split, SHARD_BYTES, columns=columns))
            for split in splits
        }


def set_meta(
    name: str,
    title: str,
    parameters: Mapping[str, Any],
    *,
    clips: int,
    compilations: int,
    license: str = "",
    homepage: str = "",
) -> DatasetMeta:
    """What a set says of itself; no item of it was planned, and none can have failed.

    Args:
        parameters: that it was made with.
        clips, compilations: that its segments are of.
    """
    return DatasetMeta(
        name=name,
        title=title,
        license=license,
        homepage=homepage,
        citation="",
        description="",
        parameters=parameters,
        tools={"tiktok_dm": __version__, "numpy": np.__version__},
        ledger=(),
        plan_clips=clips,
        plan_compilations=compilations,
    )


def describe_set(
    folder: Path,
    key: str,
    meta: DatasetMeta,
    counts: Mapping[str, Any],
    card: str,
    report: Mapping[str, Any] | None = None,
) -> None:
    """Write `import.json` (if there is a report), `README.md`, and the manifest, which lists all other files."""
    if report is not None:
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")
    write_manifest(folder, {"export": key, "name": meta.name, "counts": counts}, meta)


def column_table(columns: Columns) -> str:
    """The rows of a card's table `column | type | meaning`."""
    return "".join(f"| `{name}` | {kind} | {text} |\n" for name, (kind, text) in columns.items())


def counted(items: Sequence[object], noun: str) -> str:
    """How many, in words: `1 broken file`, `2,384 segments`."""
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def examples(items: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
