"""What the toolkit brings along beside its code: released annotations and splits, and the example of a submission.

In a repository these are the folders `annotations`, `splits` and `submissions` at its top; in an installed package they
lie in this folder.
"""

from __future__ import annotations

from pathlib import Path

from tiktok_dm.errors import UserError

_HERE = Path(__file__).resolve().parent
_ROOTS = (_HERE, _HERE.parents[1])


def shipped(*parts: str) -> Path:
    """The shipped folder or file of that name, such as `shipped("splits", "tiktok_dm.csv")`.

    Raises:
        UserError: this installation lacks it.
    """
    for root in _ROOTS:
        if (root / Path(*parts)).exists():
            return root / Path(*parts)
    raise UserError(f"This installation lacks {'/'.join(parts)}: install tiktok-dm again, from a wheel or a checkout.")


def annotations_folder(name: str) -> Path:
    """A folder with annotations: the path `name`, or where none lie there, shipped ones of that name (`tiktok_dm`)."""
    path = Path(name)
    return path if (path / "clips.csv").is_file() else _shipped_instead(path, "annotations")


def split_table(name: str) -> Path:
    """A split table: the file `name`, or where there is none, a shipped one of that name (`tiktok_dm`)."""
    path = Path(name)
    return path if path.is_file() else _shipped_instead(path, "splits", ".csv")


def _shipped_instead(path: Path, kind: str, suffix: str = "") -> Path:
    # `splits/tiktok_dm.csv`, as it is called in a checkout, is the shipped one elsewhere.
    if path.parent.as_posix() in (".", kind):
        for root in _ROOTS:
            inside = root / kind / (path.name.removesuffix(suffix) + suffix)
            if inside.exists():
                return inside
    return path
