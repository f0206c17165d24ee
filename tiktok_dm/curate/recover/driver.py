"""`tiktok-dm recover`: from videos to the times of known clips, written as annotations with their confidence.

For `tiktok-dm recover`: somebody has the compilations, but not the times of the released clips. Works for any folder of
annotations that says which clips a compilation has, in which order, and how many whole segments each holds. The
alignment itself is `tiktok_dm.curate.recover.alignment`; proposals come from `tiktok_dm.curate.propose`, or from a
folder that a person has already mended.

What comes out is a folder of annotations with the ids that went in, and the times that were found; beside them, why
(`proposals.csv`), every clip in one line (`recovered.csv`), and what could not be matched (`unmatched.csv`, and the
stretches of video that no clip claims in `rejected.csv`), so that `tiktok-dm review` opens it as it is. Times that the
annotations already have are kept, and hold their neighbours in place. The folder that went in is never written to.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiktok_dm.annotations.released import released_annotations
from tiktok_dm.annotations.tables import Annotations, read_annotations, write_annotations, write_text
from tiktok_dm.curate.proposals import (
    Proposals,
    read_proposals,
    read_sources,
    rows_of,
    work_folder,
    write_proposals,
    write_sources,
)
from tiktok_dm.curate.recover.evidence import match_videos
from tiktok_dm.curate.recover.model import AlignmentModel
from tiktok_dm.curate.recover.times import Recovery, recover_times
from tiktok_dm.errors import UserError
from tiktok_dm.pipeline.acquire import VIDEO_SUFFIXES


def write_recovery(found: Recovery, known: Annotations, out: Path) -> None:
    """Write the folder beside its place and move it there; tables, splits and the dataset's words together."""
    part = out.resolve().with_name(f".{out.resolve().name}.part")
    for path in (part, work_folder(part)):
        shutil.rmtree(path, ignore_errors=True)
    try:
        inner = replace(found.proposals.annotations, root=part, meta=known.meta, splits=known.splits)
        write_proposals(replace(found.proposals, annotations=inner))
        write_annotations(inner, part, _readme(found))
        write_text(part / "recovered.csv", _recovered_csv(found))
        write_text(part / "unmatched.csv", _unmatched_csv(found))
        try:
            if out.is_dir():
                out.rmdir()  # empty, as was seen before
            part.rename(out)
        except OSError as error:
            raise UserError(f"{out} cannot be written ({error.strerror}): give a place where you may write") from error
    finally:
        for path in (part, work_folder(part)):
            shutil.rmtree(path, ignore_errors=True)


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue()


def _recovered_csv(found: Recovery) -> str:
    import pandas as pd

    rows = []
    for row in rows_of(found.proposals.clips):
        times = [None if pd.isna(at) else float(at) for at in (row.start_s, row.end_s)]
        clip = int(row.clip_id)
        rows.append([clip, row.compilation_id, row.song_id, *times, found.confidence[clip], found.reasons[clip]])
    return _csv(["clip_id", "compilation_id", "song_id", "start_s", "end_s", "confidence", "reason"], rows)


def _unmatched_csv(found: Recovery) -> str:
    rows = [[u.compilation_id, u.clip_id, u.start_s, u.end_s, u.reason] for u in found.unmatched]
    return _csv(["compilation_id", "clip_id", "start_s", "end_s", "reason"], rows)


def _readme(found: Recovery) -> str:
    told = found.summary()
    lines = [
        "# Clips recovered from their compilations",
        "",
        f"{told['recovered']} of {told['clips']} clips have times, {told['recovered_surely']} of them with a "
        f"confidence of at least 0.9. About {told['expected_within_half_a_second']:.0f} are expected to be right "
        "within half a second at both ends.",
        "",
        "Ids, songs and `released_segments` are those of the annotations that went in. `start_s` and `end_s` were",
        "found by `tiktok-dm recover`: an alignment of the clips' order, lengths and songs with proposed cuts and",
        "songs. Look at the doubtful ones with `tiktok-dm review`.",
        "",
        "| file | what it says |",
        "|---|---|",
        "| `recovered.csv` | every clip: times, the probability that both are right within 0.5 s, and why |",
        "| `unmatched.csv` | clips that were not found (with the best guess), stretches of video that no clip claims |",
        "| `proposals.csv`, `candidates.csv`, `rejected.csv` | the same for `tiktok-dm review` |",
        "",
        "| compilation | video | how it was told |",
        "|---|---|---|",
        *(f"| {m.compilation_id} | {m.file or '?'} | {m.how} |" for m in found.matches),
    ]
    return "\n".join(lines) + "\n"


Propose = Callable[[Sequence[Path], Path], object]  # videos, folder to write proposals into


def recover(
    media: Path | str | None,
    out: Path | str,
    *,
    proposals: Path | str | None = None,
    annotations: Path | str | None = None,
    propose: Propose | None = None,
    model: AlignmentModel | None = None,
    least_confidence: float = 0.2,
) -> Recovery:
    """Find the clips of `annotations` in the videos of `media`, and write them with their times into `out`.

    Args:
        media: folder with the compilations; may be None where `proposals` is given.
        out: folder to be: annotations, with `proposals.csv`, `rejected.csv`, `candidates.csv`, `recovered.csv`,
            `unmatched.csv`, `README.md`.
        proposals: a folder that `tiktok-dm propose` wrote of these videos, reviewed or not.
        annotations: what is known of the clips; by default the 445 released ones.
        propose: called with the videos and a folder to write proposals into, where `proposals` is None.
        model, least_confidence: see `recover_times`.

    Raises:
        UserError: no videos, no proposals, `out` is not empty or cannot be written, or see `match_videos` and
            `recover_times`.
        ProblemsError: the annotations or the proposals are not in order.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: give --out a new folder, so that nothing is lost")
    known = released_annotations() if annotations is None else read_annotations(annotations)
    videos = _videos(Path(media)) if media is not None else []
    if proposals is None:
        if propose is None or not videos:
            raise UserError(
                "there is nothing to align: give --media a folder with videos, or --proposals their proposals"
            )
        proposals = work_folder(out) / "proposals"
        propose(videos, proposals)
    given = read_proposals(proposals)
    places = _places(given, Path(proposals), videos)
    durations = {number: _duration(path) for number, path in places.items()}
    matches = match_videos(known, given, durations, model=model)
    if not matches:
        raise UserError(f"{proposals} holds no video: give the folder that `tiktok-dm propose --out` wrote")
    found = recover_times(known, given, matches, durations, model=model, least_confidence=least_confidence, folder=out)
    write_recovery(found, known, out)
    write_sources(out, {m.compilation_id: places[m.proposed_id] for m in matches if m.proposed_id in places})
    return found


def _videos(media: Path) -> list[Path]:
    if not media.is_dir():
        raise UserError(f"{media} is not a folder: give --media the folder with the compilations")
    found = sorted(path for path in media.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{media} holds no video: give --media the folder with the compilations")
    return found


def _places(proposals: Proposals, folder: Path, videos: Sequence[Path]) -> dict[int, Path]:
    """Where the video of each proposed compilation lies: in the media folder by its name, else where it was."""
    import pandas as pd

    named = {path.name: path for path in videos}
    places = read_sources(folder)
    for row in rows_of(proposals.annotations.compilations):
        if not pd.isna(row.file) and str(row.file) in named:
            places[int(row.compilation_id)] = named[str(row.file)]
    return places


def _duration(path: Path) -> float:
    from tiktok_dm.media import probe

    return probe(path).duration_s
