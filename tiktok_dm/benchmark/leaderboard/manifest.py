"""A submission's `manifest.csv`: the list of its predictions, with checksums. Every row that cannot be read is named.

Not for the predictions themselves (`submission_files`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiktok_dm.benchmark.leaderboard.submission import label
from tiktok_dm.benchmark.leaderboard.table import not_whole_numbers, read_table, table_text
from tiktok_dm.errors import Problem, UserError

MANIFEST = "manifest.csv"
COLUMNS = ("id", "seed", "sha256", "sample_rate", "samples")
_MOST = 50_000_000  # bytes


@dataclass(frozen=True)
class Entry:
    """One predicted file.

    Args:
        line: of `manifest.csv`, the header being 1.
        id: of the test split.
        seed: with which the system made it.
        sha256: of the file's bytes.
        sample_rate: Hz.
        samples: in the file.
    """

    line: int
    id: str
    seed: int
    sha256: str
    sample_rate: int
    samples: int


def read_manifest(folder: Path) -> tuple[list[Entry], list[Problem]]:
    """`manifest.csv` of a submission, and every row that cannot be read.

    Raises:
        UserError: there is no such file.
    """
    path = folder / MANIFEST
    name = f"{label(folder)}/{MANIFEST}"
    try:
        rows, problems = read_table(path, name, COLUMNS, _MOST)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): `tiktok-dm submit new` makes one"
        ) from error
    entries: list[Entry] = []
    for line, cells in rows:
        wrong = list(not_whole_numbers(cells, ("seed", "sample_rate", "samples")))
        if not re.fullmatch(r"[0-9a-f]{64}", cells["sha256"]):
            wrong.append(("sha256", f"{cells['sha256'][:70]!r} is no SHA-256 checksum in lower case"))
        problems += [Problem(name, line, column, message) for column, message in wrong]
        if not wrong:
            entries.append(
                Entry(
                    line,
                    cells["id"],
                    int(cells["seed"]),
                    cells["sha256"],
                    int(cells["sample_rate"]),
                    int(cells["samples"]),
                )
            )
    return entries, problems


def manifest_text(entries: Sequence[Entry]) -> str:
    """`manifest.csv` of some entries, in the order of seed and id."""
    ordered = sorted(entries, key=lambda entry: (entry.seed, entry.id))
    return table_text(COLUMNS, [[getattr(entry, column) for column in COLUMNS] for entry in ordered])
