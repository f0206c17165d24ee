"""Find clips whose order, songs and numbers of segments are known in videos for which a program made proposals.

For `tiktok-dm recover`: somebody has the compilations, but not the times of the released clips. Works for any folder of
annotations that says which clips a compilation has, in which order, and how many whole segments each holds. The
alignment itself is `tiktok_dm.curate.align`; proposals come from `tiktok_dm.curate.propose`, or from a folder that a
person has already mended.

What comes out is a folder of annotations with the ids that went in, and the times that were found; beside them, why
(`proposals.csv`), every clip in one line (`recovered.csv`), and what could not be matched (`unmatched.csv`, and the
stretches of video that no clip claims in `rejected.csv`), so that `tiktok-dm review` opens it as it is. Times that the
annotations already have are kept, and hold their neighbours in place. The folder that went in is never written to.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.annotations import Annotations, read_annotations, write_annotations, write_text
from tiktok_dm.curate.align import Alignment, AlignmentModel, ClipFact, VideoEvidence, align, log_evidence
from tiktok_dm.curate.proposals import (
    Proposals,
    empty_proposals,
    read_proposals,
    read_sources,
    work_folder,
    write_proposals,
    write_sources,
)
from tiktok_dm.errors import UserError
from tiktok_dm.released import released_annotations
from tiktok_dm.schema import whole_segments

if TYPE_CHECKING:
    import pandas as pd

Propose = Callable[[Sequence[Path], Path], object]  # videos, folder to write proposals into

_VIDEO_SUFFIXES = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
_LEAST_GAP_S = 0.5  # shorter stretches between clips are the ends of a cross-fade, and not listed
_SAME_CUT_S = 0.5  # a clip's end with a candidate this near needs no candidate of its own
_REVIEWED = 0.995  # confidence of a boundary that a person has looked at


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
class Match:
    """Which video is a compilation, and how that is known.

    Args:
        compilation_id: of the annotations.
        proposed_id: of the proposals.
        file: name of the video, empty where the proposals do not say.
        how: in words.
    """

    compilation_id: int
    proposed_id: int
    file: str
    how: str


@dataclass(frozen=True)
class Recovery:
    """The annotations with the times that were found, and what is to be said of them.

    Args:
        proposals: annotations under their own ids, and why (see `tiktok_dm.curate.proposals`).
        confidence: by clip id, probability that both ends are within half a second; of every clip.
        reasons: by clip id, in words.
        unmatched: clips and stretches.
        matches: compilation by compilation.
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


# ------------------------------------------------------------------------------------------- tables to evidence


def evidence(proposals: Proposals, proposed_id: int, duration_s: float | None = None) -> VideoEvidence:
    """What the proposals say of one of their compilations, in the terms of the alignment.

    Args:
        duration_s: length of the video; by default its `end` candidate, else the last instant that is mentioned.
    """

    def own(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame.compilation_id == proposed_id]

    candidates = own(proposals.candidates).sort_values("at_s", kind="stable")
    clips = own(proposals.clips)
    clips = clips[clips.start_s.notna() & clips.end_s.notna()].sort_values("start_s", kind="stable")
    rejected = own(proposals.rejected).sort_values("start_s", kind="stable")
    last = max(
        [0.0, *candidates.at_s.tolist(), *clips.end_s.tolist(), *rejected.end_s.tolist()]
        if duration_s is None
        else [float(duration_s)]
    )
    inner = candidates[~candidates.kind.isin(["start", "end"])]
    at = [float(value) for value in inner.at_s]
    sure = [float(value) for value in inner.confidence]
    told = proposals.proposals.set_index("clip_id")
    known = np.array(at)
    for row in _rows(clips):
        said = told.loc[row.clip_id] if row.clip_id in told.index else None
        for name, instant in (("start", float(row.start_s)), ("end", float(row.end_s))):
            if said is not None and isinstance(said.review, str):
                at, sure = [*at, instant], [*sure, _REVIEWED]
            elif not len(known) or np.abs(known - instant).min() > _SAME_CUT_S:
                value = None if said is None else said[f"{name}_confidence"]
                at, sure = [*at, instant], [*sure, _number(value, 0.8)]
    for row in _rows(rejected):
        for instant in (float(row.start_s), float(row.end_s)):
            if not len(at) or np.abs(np.array(at) - instant).min() > _SAME_CUT_S:
                at, sure = [*at, instant], [*sure, max(0.5, float(row.confidence))]
    order = np.argsort(at, kind="stable")
    place = {int(clip): i for i, clip in enumerate(clips.clip_id)}
    pairs = [
        (place[int(row.clip_a)], place[int(row.clip_b)], _answered(row))
        for row in _rows(proposals.same_songs)
        if row.clip_a in place and row.clip_b in place
    ]
    song_confidence = [
        1.0 if isinstance(row.review, str) else _number(row.song_confidence, 0.8)
        for row in _rows(told.reindex(clips.clip_id))
    ]
    return VideoEvidence(
        duration_s=last,
        candidate_s=np.array(at, np.float64)[order],
        candidate_confidence=np.array(sure, np.float64)[order],
        stretch_s=clips[["start_s", "end_s"]].to_numpy(np.float64).reshape(-1, 2),
        stretch_song=clips.song_id.fillna(-1).to_numpy(np.int64),
        stretch_song_confidence=np.array(song_confidence, np.float64),
        stretch_dancers=clips.n_dancers.fillna(0).to_numpy(np.int64),
        rejected_s=rejected[["start_s", "end_s"]].to_numpy(np.float64).reshape(-1, 2),
        rejected_confidence=rejected.confidence.to_numpy(np.float64),
        same_song=np.array(pairs, np.float64).reshape(-1, 3),
    )


def facts(annotations: Annotations, compilation_id: int) -> tuple[list[int], list[ClipFact]]:
    """Ids and facts of a compilation's clips, in their order in the video, which is that of their ids."""
    import pandas as pd

    clips = annotations.clips[annotations.clips.compilation_id == compilation_id].sort_values("clip_id")
    found = [
        ClipFact(
            song=int(row.song_id),
            segments=None if pd.isna(row.released_segments) else int(row.released_segments),
            n_dancers=0 if pd.isna(row.n_dancers) else int(row.n_dancers),
            start_s=None if pd.isna(row.start_s) else float(row.start_s),
            end_s=None if pd.isna(row.end_s) else float(row.end_s),
        )
        for row in _rows(clips)
    ]
    return [int(clip) for clip in clips.clip_id], found


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of `frame`, with its columns as attributes."""
    yield from frame.itertuples(index=False)


def _number(value: Any, otherwise: float) -> float:
    import pandas as pd

    return otherwise if value is None or pd.isna(value) else float(value)


def _answered(row: Any) -> float:
    return {"same": 1.0, "different": 0.0}.get(row.answer, float(row.confidence))


# ------------------------------------------------------------------------------------------- which video is which


def match_videos(
    annotations: Annotations,
    proposals: Proposals,
    durations: Mapping[int, float] | None = None,
    *,
    model: AlignmentModel | None = None,
) -> list[Match]:
    """Which of the proposals' compilations is which of the annotations'.

    By checksum, then by name (`file` of the annotations, or a name made of the id: `3.mp4`, `000003.mkv`,
    `compilation_3.webm`). Whatever is left is dealt out so that the clips fit best: the sum over videos of the
    alignments' log-evidence is made as great as possible (an assignment problem). A compilation without clips, and one
    for which no video is left, has no match.

    Args:
        durations: lengths in s of the videos, by the proposals' compilation id; see `evidence`.

    Raises:
        UserError: two videos have the name of one compilation.
    """
    import pandas as pd
    from scipy.optimize import linear_sum_assignment

    durations = durations or {}
    wanted = annotations.compilations[annotations.compilations.compilation_id.isin(annotations.clips.compilation_id)]
    videos = {int(row.compilation_id): row for row in _rows(proposals.annotations.compilations)}
    files = {i: "" if pd.isna(row.file) else str(row.file) for i, row in videos.items()}
    found: dict[int, Match] = {}

    def take(compilation_id: int, those: list[int], how: str) -> None:
        if len(those) > 1:
            names = " and ".join(files[i] or f"video {i}" for i in those)
            raise UserError(f"{names} could all be compilation {compilation_id}: leave one of them there")
        for i in those:
            found[compilation_id] = Match(compilation_id, i, files[i], how)

    def free() -> list[int]:
        taken = {match.proposed_id for match in found.values()}
        return [i for i in videos if i not in taken]

    for row in _rows(wanted):
        known = None if pd.isna(row.sha256) else str(row.sha256).lower()
        if known is not None:
            same = [i for i in free() if not pd.isna(videos[i].sha256) and str(videos[i].sha256).lower() == known]
            take(int(row.compilation_id), same[:1], "by its checksum")
    for row in _rows(wanted):
        number = int(row.compilation_id)
        if number in found:
            continue
        named = [i for i in free() if not pd.isna(row.file) and files[i] == str(row.file)]
        pattern = re.compile(rf"(compilation[_ -]?)?0*{number}", re.IGNORECASE)
        by_id = [i for i in free() if files[i] and pattern.fullmatch(Path(files[i]).stem)]
        take(number, named or by_id, "by its name")
    left, rest = [int(i) for i in wanted.compilation_id if int(i) not in found], free()
    if left and rest:
        scores = np.empty((len(rest), len(left)))
        seen = [evidence(proposals, i, durations.get(i)) for i in rest]
        for k, number in enumerate(left):
            clips = facts(annotations, number)[1]
            scores[:, k] = [log_evidence(video, clips, model) for video in seen]
        for j, k in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
            others = np.delete(scores[j], k)
            lead = scores[j, k] - others.max() if len(others) else np.inf
            how = "it is the only one left" if not len(others) and len(rest) == 1 else "its clips fit best"
            if len(others):
                how += (
                    f", {lead:.0f} nats before the next"
                    if lead > 0
                    else f", all videos taken together (alone, another would fit it better by {-lead:.0f} nats)"
                )
            found[left[k]] = Match(left[k], rest[j], files[rest[j]], how)
    return [found[number] for number in sorted(found)]


# ------------------------------------------------------------------------------------------- alignment to tables


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
        try:
            found = align(video, known, model)
        except ValueError:
            raise UserError(
                f"compilation {number}: the times that the annotations already have do not follow the order of the "
                "clip ids: correct or empty them"
            ) from None
        alignments[number] = found
        _fill_source(compilations, number, match, proposals)
        candidates = _candidates(proposals, match.proposed_id, number)
        rejected_before = proposals.rejected[proposals.rejected.compilation_id == match.proposed_id]
        stretches = proposals.clips[proposals.clips.compilation_id == match.proposed_id]
        boundaries: list[float] = []
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
            boundaries += [start, end]
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
        ends = np.array(boundaries)
        for candidate in candidates:
            is_used = len(ends) and np.abs(ends - candidate["at_s"]).min() <= 0.02
            tables["candidates"].append({**candidate, "used": "yes" if is_used else "no"})
    matched = {match.proposed_id for match in matches}
    for source in _rows(proposals.annotations.compilations):
        if source.compilation_id not in matched:
            name = f"video {source.compilation_id}" if pd.isna(source.file) else str(source.file)
            unmatched.append(Unmatched(None, None, None, None, f"{name} is none of the compilations"))
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    filled = empty_proposals(folder).with_tables(
        compilations=compilations, clips=clips, songs=annotations.songs, **frames
    )
    return Recovery(filled, confidence, reasons, unmatched, list(matches), alignments)


def _fill_source(compilations: pd.DataFrame, number: int, match: Match, proposals: Proposals) -> None:
    import pandas as pd

    source = proposals.annotations.compilations
    row = source[source.compilation_id == match.proposed_id].iloc[0]
    at = compilations.compilation_id == number
    for name in ("file", "sha256"):
        if compilations.loc[at, name].isna().all() and not pd.isna(row[name]):
            compilations.loc[at, name] = row[name]


def _candidates(proposals: Proposals, proposed_id: int, number: int) -> list[dict[str, Any]]:
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
                -1: "no cut was proposed here: placed by the lengths of the clips around it",
                -2: "the video's first or last instant",
                -3: "as given in the annotations",
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

    shared = np.minimum(stretches.end_s, end) - np.maximum(stretches.start_s, start)
    if not len(stretches) or pd.isna(stretches.n_dancers[shared.idxmax()]):
        return None
    best = stretches.loc[shared.idxmax()]
    longest = max(end - start, float(best.end_s - best.start_s))
    if float(shared.max()) < 0.8 * longest:
        return None
    said = proposals.proposals[proposals.proposals.clip_id == best.clip_id]
    value = _number(said.dancers_confidence.iloc[0], 0.8) if len(said) else 0.8
    reason = said.dancers_reason.iloc[0] if len(said) else None
    return int(best.n_dancers), value, str(reason) if isinstance(reason, str) else "as proposed"


def _gaps(spans: Sequence[tuple[float, float]], duration_s: float) -> list[tuple[float, float]]:
    out, at = [], 0.0
    for start, end in [*sorted(spans), (duration_s, duration_s)]:
        if start - at >= _LEAST_GAP_S:
            out.append((at, start))
        at = max(at, end)
    return out


def _why_unclaimed(start: float, end: float, rejected: pd.DataFrame) -> tuple[str, str]:
    shared = np.minimum(rejected.end_s, end) - np.maximum(rejected.start_s, start)
    if len(rejected) and float(shared.max()) > 0.5 * (end - start):
        kind = rejected.kind[shared.idxmax()]
        if not isinstance(kind, str) or kind == "rejected":
            return "rejected", "no clip claims it, and it was rejected before"
        words = kind.replace("_", " ")
        article = "an" if words[:1] in "aeiou" else "a"
        return kind, f"no clip claims it, and the proposals take it for {article} {words}"
    return "rejected", "no clip of the annotations claims it: one that they leave out, or one that was not found"


def _uncovered(found: Alignment, start: float, end: float) -> float:
    at = (found.grid_s >= start) & (found.grid_s <= end)
    return float(np.clip(1.0 - found.covered[at].mean(), 0.0, 1.0)) if at.any() else 0.5


# ------------------------------------------------------------------------------------------- files


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
    _write(found, known, out)
    write_sources(out, {m.compilation_id: places[m.proposed_id] for m in matches if m.proposed_id in places})
    return found


def _videos(media: Path) -> list[Path]:
    if not media.is_dir():
        raise UserError(f"{media} is not a folder: give --media the folder with the compilations")
    found = sorted(path for path in media.iterdir() if path.suffix.lower() in _VIDEO_SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{media} holds no video: give --media the folder with the compilations")
    return found


def _places(proposals: Proposals, folder: Path, videos: Sequence[Path]) -> dict[int, Path]:
    """Where the video of each proposed compilation lies: in the media folder by its name, else where it was."""
    import pandas as pd

    named = {path.name: path for path in videos}
    places = read_sources(folder)
    for row in _rows(proposals.annotations.compilations):
        if not pd.isna(row.file) and str(row.file) in named:
            places[int(row.compilation_id)] = named[str(row.file)]
    return places


def _duration(path: Path) -> float:
    from tiktok_dm.media import probe

    return probe(path).duration_s


def _write(found: Recovery, known: Annotations, out: Path) -> None:
    """Write the folder beside its place and move it there; tables, splits and the dataset's words together."""
    from dataclasses import replace

    part = out.with_name(f".{out.name}.part")
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
    rows = []
    for row in _rows(found.proposals.clips):
        times = [None if value is None or value != value else float(value) for value in _cells(row.start_s, row.end_s)]
        clip = int(row.clip_id)
        rows.append([clip, row.compilation_id, row.song_id, *times, found.confidence[clip], found.reasons[clip]])
    return _csv(["clip_id", "compilation_id", "song_id", "start_s", "end_s", "confidence", "reason"], rows)


def _cells(*values: Any) -> list[Any]:
    import pandas as pd

    return [None if pd.isna(value) else value for value in values]


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
