"""Files that appear only when they are whole. Not for what is in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiktok_dm.errors import UserError


def write_file(path: Path, content: bytes) -> None:
    """Write beside the place, then rename."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes its name when the block ends without an error.

    Args:
        folder: the name it gets.
        replace: whether a folder of that name gives way; otherwise one that exists and is not empty is an error.

    Raises:
        UserError: the folder exists, or cannot be written.
    """
    if not replace and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; choose another name or remove it first.")
    folder = folder.absolute()
    unfinished = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield unfinished
        unfinished.chmod(0o777 & ~_umask())
        if replace and folder.exists():
            # Two renames: for a moment neither has the name; whoever resumes looks for the old one too (`recover`).
            old = folder.with_name(f".{folder.name}.replaced")
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
            os.rename(unfinished, folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(unfinished, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def recover(folder: Path) -> None:
    """Give `folder` back its replaced version if a stop fell between the two renames of `new_folder`."""
    old = folder.with_name(f".{folder.name}.replaced")
    if old.is_dir() and not folder.exists():
        os.rename(old, folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
