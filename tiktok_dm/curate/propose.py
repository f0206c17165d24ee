"""Proposes clips, songs and dancers of raw compilations, each with a confidence and a reason.

The driver: it has new videos looked at (`video_findings`), their clips' songs found (`clip_songs`), and adds the rows
(`proposal_rows`) to a folder as `tiktok_dm.curate.proposals` lays it out.

A folder grows: videos that were proposed before are left as they are, with everything that a person said about them,
and new ones take the next free ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm import media
from tiktok_dm.curate.cuts.shots import Shot
from tiktok_dm.curate.proposals import (
    VALUES,
    Proposals,
    kept_ids,
    next_ids,
    read_or_begin,
    read_sources,
    work_folder,
    write_proposals,
    write_sources,
)
from tiktok_dm.curate.song_groups import ClipIds, SongGroups, clip_sketches, group_clips
from tiktok_dm.curate.video_findings import SURE_CLIP, Advance, DancerCount, Expect, VideoFindings, find_in_videos
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.pipeline.acquire import VIDEO_SUFFIXES
from tiktok_dm.pose.registry import get_estimator

if TYPE_CHECKING:
    import pandas as pd

_DOUBTFUL = 0.15  # pairs below this are not worth a person's look


def with_rows(before: Proposals, found: Sequence[VideoFindings], ids: ClipIds, groups: SongGroups) -> Proposals:
    """`before` with the rows of new videos after its own; nothing is written.

    Args:
        ids: of the new clips.
        groups: songs of all clips, old and new.
    """
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("compilations", "clips", "proposals")}
    rows |= {name: [] for name in ("rejected", "candidates")}
    for one in found:
        number = one.compilation_id
        rows["compilations"].append({"compilation_id": number, "file": one.path.name, "sha256": one.sha256})
        clips = one.clips
        for k, shot in enumerate(one.shots):
            if k in clips:
                clip = ids[number, k]
                rows["clips"].append(_clip_row(clip, number, shot, groups.song_of[str(clip)], one.dancers.get(k)))
                rows["proposals"].append(_proposal_row(clip, shot, groups, one.dancers.get(k)))
            else:
                rows["rejected"].append(_rejected_row(number, shot))
        ends = {round(t, 4) for k in clips for t in (one.shots[k].start_s, one.shots[k].end_s)}
        for boundary in one.boundaries:
            rows["candidates"].append(
                {
                    "compilation_id": number,
                    "at_s": _time(boundary.at_s),
                    "kind": boundary.kind,
                    "confidence": round(boundary.confidence, 3),
                    "used": "yes" if round(boundary.at_s, 4) in ends else "no",
                    "reason": boundary.reason,
                }
            )
    known_songs = set(before.annotations.songs.song_id)
    fresh = sorted({song for song in groups.song_of.values()} - known_songs)
    tables = {name: pd.concat([before.table(name), pd.DataFrame(new)]) for name, new in rows.items() if new}
    tables["songs"] = pd.concat([before.annotations.songs, pd.DataFrame({"song_id": fresh})])
    pairs = [
        {
            "clip_a": int(pair.a),
            "clip_b": int(pair.b),
            "confidence": round(pair.confidence, 3),
            "speed": round(pair.speed, 4),
            "offset_s": round(pair.offset_s, 3),
            "reason": pair.reason,
        }
        for pair in groups.pairs
        if pair.confidence >= _DOUBTFUL
    ]
    if pairs:
        listed = {(row.clip_a, row.clip_b) for row in before.same_songs.itertuples()}
        fresh_pairs = [pair for pair in pairs if (pair["clip_a"], pair["clip_b"]) not in listed]
        tables["same_songs"] = pd.concat([before.same_songs, pd.DataFrame(fresh_pairs)])
    return before.with_tables(**tables)


def _time(seconds: float) -> float:
    """As it is written down: to the microsecond."""
    return round(float(seconds), 6)


def _clip_row(clip: int, number: int, shot: Shot, song: int, count: DancerCount | None) -> dict[str, Any]:
    return {
        "clip_id": clip,
        "compilation_id": number,
        "song_id": song,
        "start_s": _time(shot.start_s),
        "end_s": _time(shot.end_s),
        "n_dancers": count.n if count is not None and count.n else None,
    }


def _proposal_row(clip: int, shot: Shot, groups: SongGroups, count: DancerCount | None) -> dict[str, Any]:
    row: dict[str, Any] = {"clip_id": clip}
    for name, boundary in (("start", shot.start), ("end", shot.end)):
        # An end is no surer than that this is a clip at all.
        row[f"{name}_confidence"] = round(min(boundary.confidence, shot.confidence), 3)
        doubt = shot.confidence < min(SURE_CLIP, boundary.confidence)
        row[f"{name}_reason"] = f"{boundary.reason}; {shot.reason}" if doubt else boundary.reason
    row["song_confidence"] = round(groups.confidence[str(clip)], 3)
    row["song_reason"] = groups.reason[str(clip)]
    if count is not None:
        row["dancers_confidence"] = count.confidence
        row["dancers_reason"] = count.reason
    return row


def _rejected_row(number: int, shot: Shot) -> dict[str, Any]:
    nobody = shot.kind == "clip"
    return {
        "compilation_id": number,
        "start_s": _time(shot.start_s),
        "end_s": _time(shot.end_s),
        "kind": "card" if nobody else shot.kind,
        "confidence": round(1 - shot.confidence if nobody else shot.confidence, 3),
        "reason": f"nobody is seen in it; {shot.reason}" if nobody else shot.reason,
    }


@dataclass(frozen=True)
class Summary:
    """What `propose` did.

    Args:
        out: the folder.
        new: compilation ids that were added, with the number of clips of each.
        known: compilation ids that were there already and were left as they are.
        failed: videos that could not be read, with the sentence that says why.
        notes: sentences worth reading, such as songs that turn out to be one.
        clips, songs, rejected, unsure: of the whole folder; `unsure` are clips with a value below 0.5 to look at first.
    """

    out: Path
    new: dict[int, int]
    known: tuple[int, ...]
    failed: dict[str, str]
    notes: tuple[str, ...]
    clips: int
    songs: int
    rejected: int
    unsure: int


def propose(
    videos: Sequence[Path],
    out: Path,
    *,
    dancers: bool = True,
    estimator: str = "mediapipe",
    workers: int = 1,
    expect: Expect = lambda stage, total: None,
    advance: Advance = lambda stage, item, note: None,
) -> Summary:
    """Propose clips, songs and dancers for `videos`, and add them to the folder `out`.

    Args:
        videos: files of compilations; a folder stands for all videos in it.
        out: folder of annotations, new or grown; `<out>.work` keeps what can be computed again.
        dancers: count dancers too, which takes most of the time.
        estimator: of poses, by name.
        workers: processes.
        expect, advance: told of progress: (stage, items to come) and (stage, item, what is unusual).

    Raises:
        UserError: no video can be read, nothing that could be a clip was found, two videos of one name, `out` cannot
            be a folder, or it was changed by someone else meanwhile.
    """
    paths = _videos(videos)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder for the annotations")
    before = read_or_begin(out)
    work = work_folder(out)
    sums: dict[Path, str] = {}
    failed: dict[str, str] = {}
    for path in paths:
        try:
            media.probe(path)
            sums[path] = sha256_file(path)
        except MediaError as error:
            failed[path.name] = str(error)
    known, new = _sort_out(before, sums)
    sources = read_sources(out) | {number: path for path, number in (known | new).items()}

    if new:
        get_estimator("mediapipe")  # cards are told from dancers by it: without it nothing can be proposed
        _make(work)
    found = find_in_videos(new, sums, work, dancers, estimator, workers, failed, expect, advance)
    for one in found:
        if not one.clips:
            failed[one.path.name] = f"{one.path.name} holds nothing that could be a clip: {one.why_nothing()}"
    found = sorted((one for one in found if one.clips), key=lambda one: one.compilation_id)
    if not found and not known:
        raise UserError("; ".join(failed.values()) or "no video was given: name video files, or a folder with some")
    after, notes = _added(before, found, sources, work, expect, advance)
    if found:
        after = write_proposals(after)
    there = {one.compilation_id for one in found} | set(known.values()) | set(read_sources(out))
    write_sources(out, {number: path for number, path in sources.items() if number in there})
    return _summary(after, found, known, failed, notes)


def _videos(videos: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    for path in videos:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
            if not inside:
                raise UserError(f"{path} holds no video: name video files, or a folder with some")
            paths += inside
        else:
            paths.append(path)
    unique = list(dict.fromkeys(path.resolve() for path in paths))
    names: dict[str, Path] = {}
    for path in unique:
        if path.name in names:
            raise UserError(
                f"{names[path.name]} and {path} have one name, and annotations tell videos apart by it: rename one"
            )
        names[path.name] = path
    return unique


def _make(work: Path) -> None:
    """Make the work folder before the long work starts."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work} cannot be made ({error.strerror}): give a place where you may write") from error


def _sort_out(before: Proposals, sums: dict[Path, str]) -> tuple[dict[Path, int], dict[Path, int]]:
    """Videos that the folder knows, with their ids, and new ones with the ids they get."""
    table = before.annotations.compilations
    by_sum = {s: int(n) for n, s in zip(table.compilation_id, table.sha256, strict=True) if isinstance(s, str)}
    by_name = {f: int(n) for n, f in zip(table.compilation_id, table.file, strict=True) if isinstance(f, str)}
    free = int(table.compilation_id.max()) + 1 if len(table) else 0
    known: dict[Path, int] = {}
    new: dict[Path, int] = {}
    taken: dict[str, Path] = {}
    for path, digest in sums.items():
        if digest in by_sum:
            known[path] = by_sum[digest]
        elif path.name in by_name:
            raise UserError(
                f"{path.name} is compilation {by_name[path.name]} of {before.root} already, but its bytes are others: "
                "rename the new video, or propose it into another folder"
            )
        elif digest in taken:
            raise UserError(f"{taken[digest]} and {path} are the same file: give one of them")
        else:
            taken[digest] = path
            new[path] = free
            free += 1
    return known, new


def _added(
    before: Proposals,
    found: list[VideoFindings],
    sources: dict[int, Path],
    work: Path,
    expect: Expect,
    advance: Advance,
) -> tuple[Proposals, list[str]]:
    """`before` with the new videos' rows, and what is worth a person's reading."""
    if not found:
        return before, []
    free = next_ids(before, kept_ids(before.root)).clip
    ids: dict[tuple[int, int], int] = {}
    for one in found:
        for k in one.clips:
            ids[one.compilation_id, k] = free
            free += 1
    expect("songs", 1)
    sketches, notes = clip_sketches(before, found, ids, sources, work)
    groups = group_clips(before, found, ids, sketches)
    advance("songs", f"{len(ids)} clips", "")
    notes += groups.notes
    notes += [
        f"{one.path.name} has no sound: each of its clips got a song of its own" for one in found if not one.has_sound
    ]
    return with_rows(before, found, ids, groups), notes


def unsure_clips(proposals: Proposals, below: float = 0.5) -> pd.Series:
    """Whether each row of `proposals.proposals` has a value whose confidence is below `below`, unreviewed."""
    table = proposals.proposals
    values = table[[f"{name}_confidence" for name in VALUES]].astype("Float64")
    return (values < below).any(axis=1) & table.review.isna()


def _summary(
    after: Proposals, found: list[VideoFindings], known: dict[Path, int], failed: dict[str, str], notes: list[str]
) -> Summary:
    return Summary(
        out=after.root,
        new={one.compilation_id: len(one.clips) for one in found},
        known=tuple(sorted(known.values())),
        failed=failed,
        notes=tuple(notes),
        clips=len(after.clips),
        songs=int(after.clips.song_id.nunique()),
        rejected=len(after.rejected),
        unsure=int(unsure_clips(after).sum()),
    )
