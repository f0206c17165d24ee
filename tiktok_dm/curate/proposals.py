"""A folder of proposed annotations: the annotation tables, and beside them why each value is what it is.

`compilations.csv`, `clips.csv` and `songs.csv` are ordinary annotations: `tiktok-dm build` and `annotations check` read
the folder as it is. Beside them lie `proposals.csv` (confidence and reason of every value of a clip, and what a person
said), `rejected.csv` (stretches that are no clips), `candidates.csv` (every instant that was considered as a boundary)
and `same_songs.csv` (pairs of clips that may share a song). `<folder>.work` holds what can be made again: where the
videos lie on this machine, and what was computed of them.

For the files and for changing them safely. Not for what is proposed (`tiktok_dm.curate.propose`).

Writing: all files of a change appear together or not at all, also when the process is killed between two of them, and
only if nobody else changed the folder since it was read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm.annotations.rules import check_table, refers_to
from tiktok_dm.annotations.tables import (
    Annotations,
    DatasetMeta,
    read_annotations,
    read_table,
    table_text,
    typed,
    write_text,
)
from tiktok_dm.errors import Problem, ProblemsError, UserError
from tiktok_dm.schema import PROPOSAL_TABLES

if TYPE_CHECKING:
    import pandas as pd

ANNOTATION_TABLES = ("compilations", "clips", "songs")
ALL_TABLES = (*ANNOTATION_TABLES, *PROPOSAL_TABLES)
VALUES = ("start", "end", "song", "dancers")  # of a clip: what `proposals.csv` gives a confidence and a reason for
_PENDING = ".pending"
_LOCK_S = 10.0


class EditedMeanwhile(UserError):
    """The folder's files are not what they were when they were read."""


@dataclass(frozen=True)
class Proposals:
    """A checked folder of proposals; the frames have the columns and dtypes of `tiktok_dm.schema.TABLES`.

    Args:
        annotations: compilations, clips and songs; splits are left alone.
        proposals: one row a clip.
        rejected, candidates, same_songs: see the module.
        revision: of the files that were read; empty for a folder that does not exist yet.
    """

    annotations: Annotations
    proposals: pd.DataFrame
    rejected: pd.DataFrame
    candidates: pd.DataFrame
    same_songs: pd.DataFrame
    revision: str = ""

    @property
    def root(self) -> Path:
        return self.annotations.root

    @property
    def clips(self) -> pd.DataFrame:
        return self.annotations.clips

    def with_tables(self, **tables: pd.DataFrame) -> Proposals:
        """The same with other tables, by their names; dtypes and order of columns are put right."""
        frames = {name: typed(name, frame) for name, frame in tables.items()}
        inner = {name: frame for name, frame in frames.items() if name in ANNOTATION_TABLES}
        outer = {name: frame for name, frame in frames.items() if name in PROPOSAL_TABLES}
        return replace(self, annotations=replace(self.annotations, **inner, lines={}), **outer)  # type: ignore[arg-type]

    def table(self, name: str) -> pd.DataFrame:
        return getattr(self.annotations if name in ANNOTATION_TABLES else self, name)


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a table, its columns as attributes."""
    yield from frame.itertuples(index=False)


def work_folder(folder: Path | str) -> Path:
    """Where everything lies that can be made again: `<folder>.work`."""
    path = Path(folder).resolve()
    return path.with_name(f"{path.name}.work")


def empty_proposals(folder: Path | str) -> Proposals:
    """Proposals without a row, for a folder that is to be."""
    import pandas as pd

    root = Path(folder)
    none = {name: typed(name, pd.DataFrame()) for name in ALL_TABLES}
    known: dict[str, Any] = {name: none[name] for name in ANNOTATION_TABLES}
    proposed: dict[str, Any] = {name: none[name] for name in PROPOSAL_TABLES}
    return Proposals(Annotations(root.resolve().name, root, DatasetMeta(), **known), **proposed)


def read_or_begin(folder: Path | str) -> Proposals:
    """The proposals of a folder, after finishing a change that was cut off; none where the folder holds none."""
    root = Path(folder)
    if root.is_dir():
        with _locked(root):
            _finish_pending(root)
    return read_proposals(root) if revision_of(root) else empty_proposals(root)


def read_proposals(folder: Path | str) -> Proposals:
    """Read a folder of annotations with whatever stands beside them; tables that are absent are empty.

    A change that was cut off while it was being written is finished first.

    Raises:
        ProblemsError: anything is wrong in any table; it names everything that is.
    """
    import pandas as pd

    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the one that `tiktok-dm propose --out` wrote")
    with _locked(root):
        _finish_pending(root)
        revision = revision_of(root)
        problems: list[Problem] = []
        try:
            annotations = read_annotations(root, with_splits=False)
        except ProblemsError as error:
            raise ProblemsError([*error.problems]) from None
        clips, compilations = set(annotations.clips.clip_id), set(annotations.compilations.compilation_id)
        known = {"clip_id": clips, "clip_a": clips, "clip_b": clips, "compilation_id": compilations}
        frames = {}
        for name, columns in PROPOSAL_TABLES.items():
            path = root / f"{name}.csv"
            frames[name] = typed(name, pd.DataFrame())
            if not path.exists():
                continue
            raw, found = read_table(path, name)
            # A table of proposals may have no rows.
            problems += [problem for problem in found if "has a header but no rows" not in problem.message]
            if raw is not None and len(raw.frame):
                files = {"compilation_id": "compilations.csv"}
                rules = [
                    refers_to(c.name, known[c.name], files.get(c.name, "clips.csv"))
                    for c in columns
                    if c.name in known and (name, c.name) != ("rejected", "clip_id")  # a clip that is no more
                ]
                checked = check_table(name, raw, rules)
                problems += checked.problems
                frames[name] = checked.frame
    if problems:
        raise ProblemsError(problems)
    return Proposals(annotations, **frames, revision=revision)


def write_proposals(proposals: Proposals, *, force: bool = False) -> Proposals:
    """Write all tables of `proposals` into its folder, together or not at all.

    Args:
        force: write whatever the files hold by now.

    Returns:
        The same, with the revision of the new files.

    Raises:
        EditedMeanwhile: the files are not those that `proposals` was read from; nothing is written.
    """
    root = proposals.root
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{root} cannot be made ({error.strerror}): give a place where you may write") from error
    with _locked(root):
        _finish_pending(root)
        if not force and revision_of(root) != proposals.revision:
            raise EditedMeanwhile(
                f"{root} was changed by someone else since it was read, so nothing was written: read it again, then "
                "repeat the change"
            )
        files = {f"{name}.csv": table_text(name, proposals.table(name)) for name in ALL_TABLES}
        changed = {name: text for name, text in files.items() if _bytes(root / name) != text.encode()}
        if changed:
            pending = root / _PENDING
            shutil.rmtree(pending, ignore_errors=True)
            for name, text in changed.items():
                write_text(pending / name, text)
            # From here on the change counts: whoever opens the folder next finishes it.
            write_text(pending / "complete.json", json.dumps(sorted(changed)))
            _finish_pending(root)
        return replace(proposals, revision=revision_of(root))


def revision_of(folder: Path | str) -> str:
    """Digest of all table files of a folder as they lie there; empty where none exists."""
    root = Path(folder)
    found = {name: data for name in ALL_TABLES if (data := _bytes(root / f"{name}.csv")) is not None}
    if not found:
        return ""
    parts = [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(found.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_sources(folder: Path | str) -> dict[int, Path]:
    """Where on this machine the video of each compilation was, by id; what is gone since is left out."""
    path = work_folder(folder) / "sources.json"
    try:
        places = json.loads(path.read_text(encoding="utf-8"))
        return {int(number): Path(place) for number, place in places.items() if Path(place).is_file()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_sources(folder: Path | str, sources: Mapping[int, Path]) -> None:
    """Remember where the videos lie; kept out of the annotations, since it is true on this machine alone."""
    places = {str(number): str(Path(place).resolve()) for number, place in sorted(sources.items())}
    write_text(work_folder(folder) / "sources.json", json.dumps(places, indent=1) + "\n")


def _finish_pending(root: Path) -> None:
    pending = root / _PENDING
    marker = pending / "complete.json"
    if not pending.is_dir():
        return
    if marker.is_file():
        for name in json.loads(marker.read_text(encoding="utf-8")):
            with suppress(FileNotFoundError):  # moved before the process was stopped
                (pending / name).replace(root / name)
    shutil.rmtree(pending, ignore_errors=True)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    place = work_folder(root)
    lock = FileLock(place / "lock", timeout=_LOCK_S)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"another command is changing {root}: wait until it has ended and try again") from None
    except OSError as error:
        raise UserError(f"{place} cannot be written ({error.strerror}): give a folder where you may write") from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Ids:
    """The least ids that are still free, whatever the tables say: ids of merged and rejected clips are not in them."""

    clip: int = 0
    song: int = 0


def kept_ids(folder: Path | str) -> Ids:
    """The ids that the reviews of a folder have given away, merged clips' too; none where it was never reviewed."""
    try:
        return Ids(**json.loads((work_folder(folder) / "review" / "ids.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Ids()


def next_ids(proposals: Proposals, least: Ids | None = None) -> Ids:
    """The next free ids: above all in the tables, those of rejected clips too, and `least`.

    Tables alone don't tell: a merged clip is in none of them, so that a review writes down which ids it gave away.
    """
    clips = [*map(int, proposals.clips.clip_id), *map(int, proposals.rejected.clip_id.dropna())]
    songs = [*proposals.clips.song_id, *proposals.annotations.songs.song_id, *proposals.rejected.song_id.dropna()]
    least = least or Ids()
    return Ids(max([least.clip, *(k + 1 for k in clips)]), max([least.song, *(int(k) + 1 for k in songs)]))
