"""From videos to a folder of proposed annotations: cuts, songs and dancers, each with a confidence and a reason.

The driver: it calls `scan`, `shots`, `dancers`, `songs` and `song_groups` and writes what they found as
`tiktok_dm.curate.proposals` lays it out. Not for deciding anything about a cut or a song.

A folder grows: videos that were proposed before are left as they are, with everything that a person said about them,
and new ones take the next free ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm import media
from tiktok_dm.curate.dancers import DancerCount, DancersParams, count_dancers
from tiktok_dm.curate.proposals import (
    Proposals,
    empty_proposals,
    read_proposals,
    read_sources,
    revision_of,
    work_folder,
    write_proposals,
    write_sources,
)
from tiktok_dm.curate.review.session import kept_ids, next_ids
from tiktok_dm.curate.scan import Scan, scan
from tiktok_dm.curate.shots import Shot, find_shots
from tiktok_dm.curate.song_groups import SongGroups, group_songs
from tiktok_dm.curate.song_sketch import SongSketch, sketch
from tiktok_dm.curate.songs import SameSong, SongIndex
from tiktok_dm.curate.transitions import Boundary
from tiktok_dm.errors import MediaError, UserError, is_no_room
from tiktok_dm.pipeline.executor import make_executor
from tiktok_dm.pipeline.store import sha256_file
from tiktok_dm.schema import SAMPLE_RATE

if TYPE_CHECKING:
    import pandas as pd

# Pairs below this are not worth a person's look.
_DOUBTFUL = 0.15
# A stretch in which hardly anybody is ever seen is no clip, unless the pictures say so clearly.
_NOBODY = 0.1
_SURE_CLIP = 0.9


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


@dataclass
class _Found:
    """One new video and what was found in it."""

    path: Path
    sha256: str
    compilation_id: int
    shots: list[Shot]
    boundaries: list[Boundary]
    dancers: dict[int, DancerCount] = field(default_factory=dict)  # by place in `shots`
    has_sound: bool = True


def propose(
    videos: Sequence[Path],
    out: Path,
    *,
    dancers: bool = True,
    estimator: str = "mediapipe",
    workers: int = 1,
    expect: Callable[[str, int], None] = lambda stage, total: None,
    advance: Callable[[str, str, str], None] = lambda stage, item, note: None,
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
        UserError: no video can be read, nothing that could be a clip was found, two videos of one name, or the folder
            was changed by someone else meanwhile.
    """
    paths = _videos(videos)
    before = read_proposals(out) if revision_of(out) else empty_proposals(out)
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

    found = _look(new, sums, work, dancers, estimator, workers, failed, expect, advance)
    found = [one for one in found if _clips_of(one)] + [one for one in found if not _clips_of(one)]
    for one in found:
        if not _clips_of(one):
            failed[one.path.name] = f"{one.path.name} holds nothing that could be a clip: {_nothing(one)}"
    found = sorted((one for one in found if _clips_of(one)), key=lambda one: one.compilation_id)
    if not found and not known:
        raise UserError("; ".join(failed.values()) or "no video was given: name video files, or a folder with some")
    after, notes = _added(before, found, sources, work, expect, advance)
    if found:
        after = write_proposals(after)
    missing = {one.compilation_id for one in found} | set(known.values())
    write_sources(out, {number: path for number, path in sources.items() if number in missing | set(read_sources(out))})
    return _summary(after, found, known, failed, notes)


def _videos(videos: Sequence[Path]) -> list[Path]:
    suffixes = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".flv"}
    paths: list[Path] = []
    for path in videos:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
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


# ------------------------------------------------------------------------------------------- looking


def scan_and_cut(path: Path, sha256: str, work: Path) -> tuple[list[Shot], list[Boundary], bool]:
    """Shots and boundaries of one video, and whether it has sound. Runs in a worker."""
    seen = scan(path, work, sha256=sha256)
    shots, boundaries = find_shots(seen)
    return shots, boundaries, bool(len(seen.sound))


def _look(
    new: dict[Path, int],
    sums: dict[Path, str],
    work: Path,
    dancers: bool,
    estimator: str,
    workers: int,
    failed: dict[str, str],
    expect: Callable[[str, int], None],
    advance: Callable[[str, str, str], None],
) -> list[_Found]:
    found: list[_Found] = []
    if not new:
        return found
    with make_executor("local" if workers > 1 else "inline", max(1, workers)) as executor:
        expect("cuts", len(new))
        tasks = {executor.submit(scan_and_cut, path, sums[path], work): path for path in new}
        for task in as_completed(tasks):
            path = tasks[task]
            note = ""
            try:
                shots, boundaries, sound = task.result()
                found.append(_Found(path, sums[path], new[path], shots, boundaries, has_sound=sound))
            except MediaError as error:
                failed[path.name] = note = str(error)
            advance("cuts", path.name, note)
        if not dancers:
            return found
        wanted = [(one, k) for one in found for k, shot in enumerate(one.shots) if shot.kind == "clip"]
        expect("dancers", len(wanted))
        params = DancersParams(estimator=estimator)
        # Long ones first: a long clip that starts last would keep one worker busy alone.
        wanted.sort(key=lambda item: item[0].shots[item[1]].start_s - item[0].shots[item[1]].end_s)
        counts = {
            executor.submit(
                count_dancers, one.path, one.sha256, one.shots[k].start_s, one.shots[k].end_s, work, params
            ): (one, k)
            for one, k in wanted
        }
        for task in as_completed(counts):
            one, k = counts[task]
            note = ""
            try:
                one.dancers[k] = task.result()
            except Exception as error:
                if is_no_room(error):
                    raise
                note = f"its dancers could not be counted ({error})"
                one.dancers[k] = DancerCount(0, 0.0, note, 1.0)
            advance("dancers", f"{one.path.name} at {one.shots[k].start_s:.1f} s", note)
    return found


def _is_clip(one: _Found, k: int) -> bool:
    shot, count = one.shots[k], one.dancers.get(k)
    if shot.kind != "clip":
        return False
    return count is None or count.coverage > _NOBODY or shot.confidence >= _SURE_CLIP


def _clips_of(one: _Found) -> list[int]:
    return [k for k in range(len(one.shots)) if _is_clip(one, k)]


def _nothing(one: _Found) -> str:
    kinds = sorted({shot.kind for shot in one.shots})
    if kinds == ["black"]:
        return "its picture is black throughout"
    if kinds == ["clip"]:
        return "nobody is seen in it"
    return f"all of it is {' or '.join(kind.replace('_', ' ') for kind in kinds)}"


# ------------------------------------------------------------------------------------------- songs


def _sketches(
    before: Proposals, found: list[_Found], ids: dict[tuple[int, int], int], sources: dict[int, Path], work: Path
) -> tuple[dict[str, SongSketch], list[str]]:
    """The music of every clip, old and new, by clip id as text; and what could not be heard."""
    sketches: dict[str, SongSketch] = {}
    notes: list[str] = []
    sums = dict(
        zip(before.annotations.compilations.compilation_id, before.annotations.compilations.sha256, strict=True)
    )
    for number in sorted(int(n) for n in before.clips.compilation_id.unique()):
        rows = before.clips[before.clips.compilation_id == number]
        path = sources.get(number)
        timed = rows[rows.start_s.notna() & rows.end_s.notna()]
        if path is None or not isinstance(sums.get(number), str):
            notes.append(
                f"the songs of compilation {number} could not be compared with the new ones: its video is not where it "
                "was; give it again beside the new ones"
            )
            continue
        heard = scan(path, work, sha256=sums[number])
        for clip, start, end in zip(timed.clip_id, timed.start_s, timed.end_s, strict=True):
            sketches[str(clip)] = sketch_of(heard, float(start), float(end))
    for one in found:
        heard = scan(one.path, work, sha256=one.sha256)
        for k in _clips_of(one):
            shot = one.shots[k]
            sketches[str(ids[one.compilation_id, k])] = sketch_of(heard, shot.start_s, shot.end_s)
    return sketches, notes


def sketch_of(heard: Scan, start_s: float, end_s: float) -> SongSketch:
    """The music of one clip of a scanned video."""
    sound = heard.sound[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    if sound.dtype == np.int16:
        return sketch(np.asarray(sound, np.float32) / 32768, SAMPLE_RATE)
    return sketch(np.asarray(sound, np.float32), SAMPLE_RATE)


def same_songs(sketches: dict[str, SongSketch], new: set[str] | None = None) -> list[SameSong]:
    """Pairs of clips that may share a song, each once, best first; with `new`, only pairs that hold one of these."""
    index = SongIndex()
    pairs: dict[tuple[str, str], SameSong] = {}
    for key, found in sketches.items():
        if found.silent:
            continue
        if new is None or key in new:
            for pair in index.search(found):
                # The searched sketch is not in the index yet: whatever it is called, it is the later one.
                both = SameSong(**{**vars(pair), "a": pair.a, "b": key})
                pairs[both.a, both.b] = both
        index.add(key, found)
    return sorted(pairs.values(), key=lambda pair: (-pair.confidence, pair.a, pair.b))


def _group(
    before: Proposals, found: list[_Found], ids: dict[tuple[int, int], int], sketches: dict[str, SongSketch]
) -> SongGroups:
    fresh = {str(ids[one.compilation_id, k]) for one in found for k in _clips_of(one)}
    keys = [*(str(clip) for clip in before.clips.clip_id), *sorted(fresh, key=int)]
    pairs = same_songs({key: sketches[key] for key in keys if key in sketches}, fresh)
    runs_on = []
    for one in found:
        clips = _clips_of(one)
        for a, b in pairwise(clips):
            probability = one.shots[b].music_runs_on
            if b == a + 1 and probability is not None:
                runs_on.append((str(ids[one.compilation_id, a]), str(ids[one.compilation_id, b]), probability))
    answers = {
        (str(row.clip_a), str(row.clip_b)): str(row.answer)
        for row in before.same_songs.itertuples()
        if isinstance(row.answer, str)
    }
    known = {str(clip): int(song) for clip, song in zip(before.clips.clip_id, before.clips.song_id, strict=True)}
    return group_songs(
        keys,
        pairs,
        known=known,
        runs_on=runs_on,
        answers=answers,
        next_id=next_ids(before, kept_ids(before.root)).song,
        silent=[key for key in keys if key in sketches and sketches[key].silent],
    )


# ------------------------------------------------------------------------------------------- tables


def _added(
    before: Proposals,
    found: list[_Found],
    sources: dict[int, Path],
    work: Path,
    expect: Callable[[str, int], None],
    advance: Callable[[str, str, str], None],
) -> tuple[Proposals, list[str]]:
    """`before` with the new videos' rows."""
    if not found:
        return before, []
    import pandas as pd

    free = next_ids(before, kept_ids(before.root)).clip
    ids: dict[tuple[int, int], int] = {}
    for one in found:
        for k in _clips_of(one):
            ids[one.compilation_id, k] = free
            free += 1
    expect("songs", 1)
    sketches, notes = _sketches(before, found, ids, sources, work)
    groups = _group(before, found, ids, sketches)
    advance("songs", f"{len(ids)} clips", "")
    notes += groups.notes

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("compilations", "clips", "proposals")}
    rows |= {name: [] for name in ("rejected", "candidates")}
    for one in found:
        number = one.compilation_id
        rows["compilations"].append({"compilation_id": number, "file": one.path.name, "sha256": one.sha256})
        if not one.has_sound:
            notes.append(f"{one.path.name} has no sound: each of its clips got a song of its own")
        clips = _clips_of(one)
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
        answered = {(row.clip_a, row.clip_b) for row in before.same_songs.itertuples()}
        fresh_pairs = [pair for pair in pairs if (pair["clip_a"], pair["clip_b"]) not in answered]
        tables["same_songs"] = pd.concat([before.same_songs, pd.DataFrame(fresh_pairs)])
    return before.with_tables(**tables), notes


def _time(seconds: float) -> float:
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
        doubt = shot.confidence < min(_SURE_CLIP, boundary.confidence)
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


def unsure_clips(proposals: Proposals, below: float = 0.5) -> pd.Series:
    """Whether each row of `proposals.proposals` has a value whose confidence is below `below`, unreviewed."""
    table = proposals.proposals
    values = table[[f"{name}_confidence" for name in ("start", "end", "song", "dancers")]].astype("Float64")
    return (values < below).any(axis=1) & table.review.isna()


def _summary(
    after: Proposals, found: list[_Found], known: dict[Path, int], failed: dict[str, str], notes: list[str]
) -> Summary:
    return Summary(
        out=after.root,
        new={one.compilation_id: len(_clips_of(one)) for one in found},
        known=tuple(sorted(known.values())),
        failed=failed,
        notes=tuple(notes),
        clips=len(after.clips),
        songs=int(after.clips.song_id.nunique()),
        rejected=len(after.rejected),
        unsure=int(unsure_clips(after).sum()),
    )
