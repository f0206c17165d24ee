"""A dataset that has segments and no clips: its folder, whole or absent.

For sets whose segments come from somewhere else than cut clips: the demo's known joints (`demo_segments`), the authors'
archives (`preprocessed`), AIST++ (`aist`). Not for what their rows hold, and not for builds (`export`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiktok_dm.errors import UserError, is_no_room
from tiktok_dm.pipeline.export import DATA, MANIFEST, file_table
from tiktok_dm.pipeline.store import no_room

CONFIG = "segments"
SHARD_BYTES = 400 * 2**20


def write_segment_set(
    out: Path, key: str, write: Callable[[Path], None], *, replaces: str | None = None
) -> dict[str, Any]:
    """Fill a folder beside `out` by `write(folder)`, then rename it into place.

    Args:
        out: a new or empty folder, or one with the set of the same key, which is left as it is.
        key: the set's content key, which `write` puts into the manifest as `export`.
        write: fills an empty folder; writes the manifest.
        replaces: name of a set that is replaced if `out` holds it, whole, and nothing else; nothing else ever is.

    Returns:
        name, what the manifest counts, bytes, unchanged.

    Raises:
        UserError: `out` holds something else.
        DiskFull: it did not fit; what was in `out` is untouched.
    """
    if (found := held(out, key)) is not None:
        return {**found, "unchanged": True}
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (replaces and _is_whole(out, replaces)):
        raise UserError(f"{out} is there already and holds something else: choose another folder, or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            (beside / "new").mkdir()
            write(beside / "new")
            _put(beside, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        if is_no_room(error):
            raise no_room(out / DATA) from error
        raise
    found = held(out, key)
    assert found is not None
    return {**found, "unchanged": False}


def _put(beside: Path, out: Path) -> None:
    """Make `beside/new` be `out`; an earlier `out` comes back if that fails."""
    if not out.exists():
        os.rename(beside / "new", out)
        return
    os.rename(out, beside / "old")
    try:
        os.rename(beside / "new", out)
    except BaseException:
        os.rename(beside / "old", out)
        raise


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
