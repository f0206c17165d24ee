"""The alignments of all compilations as tables: times under the clips' own ids, and why.

Tables in, tables out; nothing is read or written. Times that the annotations already have are kept. Not for the files
(`recover_files`), and not for the alignment itself (`align`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.proposals import Proposals, empty_proposals, rows_of
from tiktok_dm.curate.recover.alignment import OutOfOrder, align
from tiktok_dm.curate.recover.evidence import Match, evidence, facts, known_or
from tiktok_dm.curate.recover.lattice import SAME_INSTANT_S
from tiktok_dm.curate.recover.model import EDGE, GRID, TOLD, Alignment, AlignmentModel, ClipFact, VideoEvidence
from tiktok_dm.errors import UserError
from tiktok_dm.schema import whole_segments

if TYPE_CHECKING:
    import pandas as pd

_LEAST_GAP_S = 0.5  # shorter stretches between clips are the ends of a cross-fade, and not listed


@dataclass(frozen=True)
class Unmatched:
    """A clip that was not found, or a stretch of video that no clip claims.

    Args:
        compilation_id: of the annotations; None for a video that belongs to none of them.
        clip_id: None for a stretch.
        start_s, end_s: of a stretch, or the best guess for a clip; None without one.
        reason: in one sentence.
    """

    compilation_id: int | None
    clip_id: int | None
    start_s: float | None
    end_s: float | None
    reason: str


@dataclass(frozen=True)
class Recovery:
    """The annotations with the times that were found, and what is to be said of them.

    Args:
        proposals: annotations under their own ids, and why (see `tiktok_dm.curate.proposals`).
        confidence: by clip id, probability that both ends are within half a second; of every clip.
        reasons: by clip id, in words.
        unmatched: clips and stretches.
        matches: compilation by compilation.
        alignments: by compilation id, of those that were matched.
    """

    proposals: Proposals
    confidence: dict[int, float]
    reasons: dict[int, str]
    unmatched: list[Unmatched]
    matches: list[Match]
    alignments: dict[int, Alignment] = field(default_factory=dict, repr=False)

    def summary(self) -> dict[str, Any]:
        """Counts for people: how many clips, recovered, sure, and how many of them are expected to be right."""
        clips = self.proposals.clips
        timed = clips.clip_id[clips.start_s.notna() & clips.end_s.notna()].tolist()
        sure = [self.confidence[clip] for clip in timed]
        return {
            "clips": len(clips),
            "compilations_with_video": len(self.matches),
            "recovered": len(timed),
            "recovered_surely": sum(value >= 0.9 for value in sure),
            "expected_within_half_a_second": round(float(sum(sure)), 1),
            "clips_not_found": sum(item.clip_id is not None for item in self.unmatched),
            "stretches_unclaimed": sum(item.clip_id is None and item.start_s is not None for item in self.unmatched),
        }


def recover_times(
    annotations: Annotations,
    proposals: Proposals,
    matches: Sequence[Match],
    durations: Mapping[int, float] | None = None,
    *,
    model: AlignmentModel | None = None,
    least_confidence: float = 0.2,
    folder: Path | str = "recovered",
) -> Recovery:
    """Align every matched compilation; pure, nothing is read or written.

    Args:
        durations: as for `match_videos`.
        least_confidence: clips that are found less surely get no times; they are listed with the best guess.
        folder: that the result names as its own.

    Raises:
        UserError: times in the annotations contradict the order of the clips.
    """
    import pandas as pd

    durations = durations or {}
    by_id = {match.compilation_id: match for match in matches}
    clips = annotations.clips.copy()
    row_of = {int(clip): row for row, clip in zip(clips.index, clips.clip_id, strict=True)}
    compilations = annotations.compilations.copy()
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("proposals", "rejected", "candidates")}
    confidence: dict[int, float] = {}
    reasons: dict[int, str] = {}
    unmatched: list[Unmatched] = []
    alignments: dict[int, Alignment] = {}
    for number in sorted(set(clips.compilation_id)):
        number = int(number)
        ids, known = facts(annotations, number)
        match = by_id.get(number)
        if match is None:
            for clip, fact in zip(ids, known, strict=True):
                told = fact.start_s is not None and fact.end_s is not None
                confidence[clip] = 1.0 if told else 0.0
                reasons[clip] = "times as given" if told else f"compilation {number} has no video here"
                if not told:
                    unmatched.append(Unmatched(number, clip, None, None, reasons[clip]))
            continue
        video = evidence(proposals, match.proposed_id, durations.get(match.proposed_id))
        found = _aligned(number, video, known, model)
        alignments[number] = found
        _fill_source(compilations, number, match, proposals)
        candidates = _candidates(proposals, match.proposed_id, number)
        rejected_before = proposals.rejected[proposals.rejected.compilation_id == match.proposed_id]
        stretches = proposals.clips[proposals.clips.compilation_id == match.proposed_id]
        spans: list[tuple[float, float]] = []
        for i, clip in enumerate(ids):
            told = known[i].start_s is not None and known[i].end_s is not None
            sure = 1.0 if told else float(found.confidence[i])
            confidence[clip] = round(sure, 4)
            start, end = float(found.start_s[i]), float(found.end_s[i])
            if np.isnan(start) or (sure < least_confidence and not told):
                reasons[clip] = _not_found(found, i, start, end)
                at, until = (None, None) if np.isnan(start) else (round(start, 3), round(end, 3))
                unmatched.append(Unmatched(number, clip, at, until, reasons[clip]))
                continue
            if not told:
                start, end = round(start, 4), round(end, 4)
                clips.loc[row_of[clip], ["start_s", "end_s"]] = [start, end]
            spans.append((start, end))
            row, said = _reasons(clip, i, known[i], found, video, start, end, sure)
            counted = _dancers(stretches, proposals, start, end)
            if pd.isna(clips.loc[row_of[clip], "n_dancers"]) and counted is not None:
                clips.loc[row_of[clip], "n_dancers"] = counted[0]
                row |= {"dancers_confidence": counted[1], "dancers_reason": counted[2]}
            tables["proposals"].append(row)
            reasons[clip] = said
        for start, end in _gaps(spans, video.duration_s):
            kind, why = _why_unclaimed(start, end, rejected_before)
            unmatched.append(Unmatched(number, None, round(start, 3), round(end, 3), why))
            tables["rejected"].append(
                {
                    "compilation_id": number,
                    "start_s": round(start, 4),
                    "end_s": round(end, 4),
                    "kind": kind,
                    "confidence": round(_uncovered(found, start, end), 4),
                    "reason": why,
                }
            )
        ends = np.array(spans).ravel()
        for candidate in candidates:
            is_used = len(ends) and np.abs(ends - candidate["at_s"]).min() <= SAME_INSTANT_S
            tables["candidates"].append({**candidate, "used": "yes" if is_used else "no"})
    matched = {match.proposed_id for match in matches}
    for source in rows_of(proposals.annotations.compilations):
        if source.compilation_id not in matched:
            name = f"video {source.compilation_id}" if pd.isna(source.file) else str(source.file)
            unmatched.append(Unmatched(None, None, None, None, f"{name} is none of the compilations"))
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    filled = empty_proposals(folder).with_tables(
        compilations=compilations, clips=clips, songs=annotations.songs, **frames
    )
    return Recovery(filled, confidence, reasons, unmatched, list(matches), alignments)


def _aligned(
    compilation_id: int, video: VideoEvidence, clips: Sequence[ClipFact], model: AlignmentModel | None
) -> Alignment:
    try:
        return align(video, clips, model)
    except OutOfOrder:
        raise UserError(
            f"compilation {compilation_id}: the times that the annotations already have do not follow the order of the "
            "clip ids: correct or empty them"
        ) from None


def _fill_source(compilations: pd.DataFrame, number: int, match: Match, proposals: Proposals) -> None:
    """Put file name and checksum of the matched video where the annotations have none."""
    import pandas as pd

    source = proposals.annotations.compilations
    row = source[source.compilation_id == match.proposed_id].iloc[0]
    at = compilations.compilation_id == number
    for name in ("file", "sha256"):
        if compilations.loc[at, name].isna().all() and not pd.isna(row[name]):
            compilations.loc[at, name] = row[name]


def _candidates(proposals: Proposals, proposed_id: int, number: int) -> list[dict[str, Any]]:
    """The rows of `candidates.csv` of one video, under the compilation's own id."""
    own = proposals.candidates[proposals.candidates.compilation_id == proposed_id].sort_values("at_s", kind="stable")
    return [
        {**{str(key): value for key, value in row.items()}, "compilation_id": number} for row in own.to_dict("records")
    ]


def _not_found(found: Alignment, i: int, start: float, end: float) -> str:
    if np.isnan(start):
        return f"it is probably not in the video (probability that it is: {found.present[i]:.0%})"
    return f"not sure enough: {start:.2f} to {end:.2f} s is the best guess, at {found.confidence[i]:.0%}"


def _reasons(
    clip: int, i: int, fact: ClipFact, found: Alignment, video: VideoEvidence, start: float, end: float, sure: float
) -> tuple[dict[str, Any], str]:
    """The clip's row of `proposals.csv`, and the same in one sentence."""
    row: dict[str, Any] = {"clip_id": clip}
    for name, kind, value in (
        ("start", int(found.start_candidate[i]), float(found.start_confidence[i])),
        ("end", int(found.end_candidate[i]), float(found.end_confidence[i])),
    ):
        row[f"{name}_confidence"] = round(value, 4)
        row[f"{name}_reason"] = (
            f"a proposed cut ({video.candidate_confidence[kind]:.2f})"
            if kind >= 0
            else {
                GRID: "no cut was proposed here: placed by the lengths of the clips around it",
                EDGE: "the video's first or last instant",
                TOLD: "as given in the annotations",
            }[kind]
        )
    parts = [f"start: {row['start_reason']}", f"end: {row['end_reason']}"]
    if fact.segments is not None:
        fits = whole_segments(end - start) == fact.segments
        parts.append(f"{end - start:.2f} s {'fit' if fits else 'nearly fit'} {fact.segments} segments")
    inner = (video.candidate_s > start + 0.5) & (video.candidate_s < end - 0.5) & (video.candidate_confidence >= 0.5)
    if inner.any():
        parts.append(f"{int(inner.sum())} proposed cuts inside were taken for false")
    row["song_confidence"] = round(sure, 4)
    matched = found.song_map.get(fact.song)
    if matched is not None:
        row["song_reason"] = (
            f"as given; {found.song_share[i]:.0%} of the clip lie in proposed song {matched[0]}, "
            f"as {matched[1]:.0%} of the clips with song {fact.song} do"
        )
        parts.append(f"song: {row['song_reason']}")
    else:
        row["song_reason"] = "as given; the proposals say nothing of its song"
    return row, "; ".join(parts)


def _dancers(stretches: pd.DataFrame, proposals: Proposals, start: float, end: float) -> tuple[int, float, str] | None:
    """Number of dancers, confidence and reason of the proposed clip that is nearly the same stretch of the video."""
    import pandas as pd

    shared: Any = np.minimum(stretches.end_s, end) - np.maximum(stretches.start_s, start)
    if not len(stretches) or pd.isna(stretches.n_dancers[shared.idxmax()]):
        return None
    best = stretches.loc[shared.idxmax()]
    longest = max(end - start, float(best.end_s - best.start_s))
    if float(shared.max()) < 0.8 * longest:
        return None
    said = proposals.proposals[proposals.proposals.clip_id == best.clip_id]
    value = known_or(said.dancers_confidence.iloc[0], 0.8) if len(said) else 0.8
    reason = said.dancers_reason.iloc[0] if len(said) else None
    return int(best.n_dancers), value, str(reason) if isinstance(reason, str) else "as proposed"


def _gaps(spans: Sequence[tuple[float, float]], duration_s: float) -> list[tuple[float, float]]:
    """What `spans` leave of the video, ascending."""
    out, at = [], 0.0
    for start, end in [*sorted(spans), (duration_s, duration_s)]:
        if start - at >= _LEAST_GAP_S:
            out.append((at, start))
        at = max(at, end)
    return out


def _why_unclaimed(start: float, end: float, rejected: pd.DataFrame) -> tuple[str, str]:
    """Kind, as in `rejected.csv`, and reason of a stretch between clips; `rejected`: what the proposals rejected."""
    shared: Any = np.minimum(rejected.end_s, end) - np.maximum(rejected.start_s, start)
    if len(rejected) and float(shared.max()) > 0.5 * (end - start):
        kind = rejected.kind[shared.idxmax()]
        if not isinstance(kind, str) or kind == "rejected":
            return "rejected", "no clip claims it, and it was rejected before"
        words = kind.replace("_", " ")
        article = "an" if words[:1] in "aeiou" else "a"
        return kind, f"no clip claims it, and the proposals take it for {article} {words}"
    return "rejected", "no clip of the annotations claims it: one that they leave out, or one that was not found"


def _uncovered(found: Alignment, start: float, end: float) -> float:
    """Mean probability that no clip covers a stretch; a half where no instant of the grid lies in it."""
    at = (found.grid_s >= start) & (found.grid_s <= end)
    return float(np.clip(1.0 - found.covered[at].mean(), 0.0, 1.0)) if at.any() else 0.5
