"""Songs that sound the same under two ids, and clips that appear twice: what a split's table alone cannot show.

For `tiktok-dm split --audit`: each clip is found (`audit_sources`), heard and seen once (`audit_evidence`) and compared
with the others (`audit_matches`).

A clip without sound, or with other music under the same dance, is not found; clips that could not be heard are named.
What the findings mean for a split is said by `tiktok_dm.annotations.splits.audit_splits`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiktok_dm.annotations.splits import Finding, audit_splits
from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.audit.evidence import ClipSource, Progress, listen
from tiktok_dm.curate.audit.matches import Twice, compare
from tiktok_dm.curate.audit.sources import sources_of_dataset, sources_of_media
from tiktok_dm.curate.proposals import work_folder
from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SoundAudit:
    """An audit with everything that can be heard and seen.

    Args:
        findings: as `audit_splits` gives them.
        heard: number of clips that were compared.
        not_heard: ids of clips that could not be, by the reason in words.
        songs: pairs of songs that sound the same under two ids, (song, song, confidence).
        twice: clips that are one.
    """

    findings: list[Finding]
    heard: int
    not_heard: dict[str, tuple[int, ...]]
    songs: list[tuple[int, int, float]]
    twice: list[Twice]

    @property
    def notes(self) -> list[str]:
        """A sentence for each reason for which clips were not compared."""
        notes = []
        for reason, clips in self.not_heard.items():
            shown = ", ".join(map(str, clips[:20])) + (f" and {len(clips) - 20} more" if len(clips) > 20 else "")
            notes.append(f"clip{'' if len(clips) == 1 else 's'} {shown} not compared: {reason}")
        return notes


def audit_sound(
    annotations: Annotations,
    *,
    media: Path | str | None = None,
    dataset: Path | str | None = None,
    progress: Progress | None = None,
) -> SoundAudit:
    """Audit a split by ear and eye.

    Args:
        annotations: with `splits`.
        media: folder with the compilations; or
        dataset: a built dataset, whose own splits are held against the annotations' too.
        progress: called after each clip that was heard, then after each whose music was compared.

    Raises:
        UserError: both or none of `media` and `dataset`, or they are not there; no splits.
    """
    if (media is None) == (dataset is None):
        raise UserError("say where the clips are: --media FOLDER with the compilations, or --dataset OUT")
    if annotations.splits is None:
        raise UserError(f"{annotations.root} has no split to look at: make one with `tiktok-dm split`")
    clips = annotations.clips
    not_heard: dict[str, list[int]] = {}
    if media is not None:
        here = list(sources_of_media(annotations, Path(media), not_heard))
        sources: Iterable[ClipSource] = here
        total = len(here)
    else:
        assert dataset is not None
        rows, sources = sources_of_dataset(dataset)
        total = len(rows)
        absent = sorted({int(clip) for clip in clips.clip_id} - {int(clip) for clip in rows.clip_id})
        if absent:
            not_heard["not in the dataset"] = absent
        clips = _joined(clips, rows)
    cache = work_folder(annotations.root) / "audit"
    evidence = listen(sources, not_heard, cache, progress, total)
    songs_of = {int(c): int(s) for c, s in zip(clips.clip_id, clips.song_id, strict=True)}
    songs, twice = compare(evidence, songs_of, progress)
    findings = audit_splits(clips, annotations.splits, songs, [(*pair.clips, str(pair)) for pair in twice])
    reasons = {reason: tuple(sorted(ids)) for reason, ids in sorted(not_heard.items())}
    return SoundAudit(findings, len(evidence), reasons, songs, twice)


def _joined(clips: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The annotated clips and the dataset's, which say their split."""
    import pandas as pd

    return pd.concat([clips[["clip_id", "song_id", "compilation_id"]], rows], ignore_index=True)
