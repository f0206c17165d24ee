"""A recovery as a folder: annotations and proposals, every clip in one line, what was not matched, a readme.

It appears whole or not at all. Not for what is found (`recover_times`).
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiktok_dm.annotations.tables import Annotations, write_annotations, write_text
from tiktok_dm.curate.proposals import rows_of, work_folder, write_proposals
from tiktok_dm.curate.recover.times import Recovery
from tiktok_dm.errors import UserError


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
