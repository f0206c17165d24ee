"""What a person may do to proposals: accept, move an edge, cut, merge, reject, name the song, count the dancers.

Each edit is a pure function from proposals to an `Edit`: nothing is read, written or decoded here. Not for undoing
(`history`), and not for the page (`server`).

What every edit keeps: clips of a compilation don't overlap, each lasts at least one picture, times that are set lie on
pictures that exist, and no id is ever used twice. A value that a person set has confidence 1, and the clip is marked
`mended`. Clips that change only because a neighbour or a song did keep the mark that they had, since nobody looked at
them yet; one that was accepted as it stood is then `mended`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.proposals import Proposals, work_folder
from tiktok_dm.errors import UserError
from tiktok_dm.schema import MAX_DANCERS, OVERLAP_TOLERANCE_S

VALUES = ("start", "end", "song", "dancers")
SET = "set in the review"
_EDGE_S = 0.02  # a candidate this near to an edge is that edge: half a picture at 25 a second
_RETIRED = re.compile(r"was clip (\d+) with song (\d+)(?: and (\d) dancers?)?")

Row = dict[str, Any]


class Refused(UserError):
    """An edit that would break a rule of the annotations; nothing was changed."""


class SplitNeeded(Refused):
    """Two clips of one song were called different: a person has to say which of its clips go to a new song.

    Args:
        clips: all clips of the song.
        suggested: those that belong to the second of the two, by what is known.
    """

    def __init__(self, sentence: str, clips: list[int], suggested: list[int]) -> None:
        super().__init__(sentence)
        self.clips, self.suggested = clips, suggested


@dataclass(frozen=True)
class Ids:
    """The least ids that are still free, whatever the tables say: ids of merged and rejected clips are not in them."""

    clip: int = 0
    song: int = 0


@dataclass(frozen=True)
class Edit:
    """An edit that was made.

    Args:
        proposals: the new tables; `revision` is still that of the old ones.
        what: what was done, as a sentence without its full stop.
        clip_id: the clip to look at next; None where there is none.
        was: the clip to look at when the edit is taken back.
    """

    proposals: Proposals
    what: str
    clip_id: int | None = None
    was: int | None = None


class FrameTimes:
    """When the pictures of a video come, to which edges are snapped.

    Args:
        times: s from the first instant, ascending, (pictures + 1,); the last is the end of the last picture.
    """

    def __init__(self, times: NDArray[np.float64]) -> None:
        if len(times) < 2:
            raise ValueError("a video has at least one picture")
        self.times = times

    def __len__(self) -> int:
        """How many instants there are: pictures, and the end."""
        return len(self.times)

    def nearest(self, t_s: float) -> int:
        """Number of the instant that is nearest to `t_s`."""
        after = int(np.searchsorted(self.times, t_s))
        near = [k for k in (after - 1, after) if 0 <= k < len(self.times)]
        return min(near, key=lambda k: abs(float(self.times[k]) - t_s))

    def on_screen(self, t_s: float) -> int:
        """Number of the picture that is shown at `t_s`; the last one past the end."""
        return min(max(int(np.searchsorted(self.times, t_s + 1e-4, side="right")) - 1, 0), len(self.times) - 2)

    def at(self, index: int) -> float:
        """The instant `index` in s, as it is written down."""
        return round(float(self.times[index]), 6)


def kept_ids(folder: Path | str) -> Ids:
    """The ids that the reviews of a folder have given away, merged clips' too; none where it was never reviewed."""
    try:
        return Ids(**json.loads((work_folder(folder) / "review" / "ids.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Ids()


def next_ids(proposals: Proposals, least: Ids | None = None) -> Ids:
    """The next free ids: above all in the tables, all that rejected stretches speak of, and `least`."""
    clips = [*map(int, proposals.clips.clip_id), *map(int, proposals.rejected.clip_id.dropna())]
    songs = [*map(int, proposals.clips.song_id), *map(int, proposals.annotations.songs.song_id)]
    for reason in proposals.rejected.reason.dropna():
        if found := _RETIRED.search(reason):
            clips.append(int(found[1]))
            songs.append(int(found[2]))
    least = least or Ids()
    return Ids(max([least.clip, *(k + 1 for k in clips)]), max([least.song, *(k + 1 for k in songs)]))


# ------------------------------------------------------------------------------------------- edits


def accept(proposals: Proposals, clip_id: int) -> Edit:
    """All values of a clip are right as they are; a clip that was mended stays so marked."""
    draft = _Draft(proposals)
    draft.clip(clip_id)
    row = draft.proposal(clip_id)
    row["review"] = row["review"] or "accepted"
    return draft.done(f"Clip {clip_id} accepted", clip_id)


def move(proposals: Proposals, clip_id: int, edge: str, index: int, frames: FrameTimes, *, alone: bool = False) -> Edit:
    """Put the start or end of a clip to instant `index` of its video.

    Where the neighbour touches this edge, it is one cut: the neighbour's edge goes along.

    Args:
        edge: `start` or `end`.
        alone: leave the neighbour where it is.

    Raises:
        Refused: the clip or its neighbour would lose its last picture, or two clips would overlap.
    """
    draft = _Draft(proposals)
    clip = draft.timed(clip_id)
    index = _inside(index, frames)
    other = "end" if edge == "start" else "start"
    before, to = clip[f"{edge}_s"], frames.at(index)
    if (
        (to >= clip["end_s"] - OVERLAP_TOLERANCE_S)
        if edge == "start"
        else (to <= clip["start_s"] + OVERLAP_TOLERANCE_S)
    ):
        raise Refused(f"Clip {clip_id} would have no picture left: its {other} is at {clip[f'{other}_s']:.2f} s")
    touching = next(
        (c for c in draft.neighbours(clip) if frames.nearest(c[f"{other}_s"]) == frames.nearest(before)), None
    )
    if touching is not None and not alone:
        kept = touching["start_s"] if edge == "start" else touching["end_s"]
        if (to - kept if edge == "start" else kept - to) < OVERLAP_TOLERANCE_S:
            raise Refused(f"Clip {touching['clip_id']} would have no picture left: merge the two clips instead")
        draft.set_edge(touching, other, to)
        draft.touched(touching["clip_id"])
    draft.set_edge(clip, edge, to)
    draft.hold_apart(clip)
    draft.mended(clip_id)
    return draft.done(f"{edge.capitalize()} of clip {clip_id} put to {to:.2f} s", clip_id)


def nudge(proposals: Proposals, clip_id: int, edge: str, by: int, frames: FrameTimes, *, alone: bool = False) -> Edit:
    """`move` by `by` pictures; from between two pictures, from the nearer one."""
    at = _Draft(proposals).timed(clip_id)[f"{edge}_s"]
    return move(proposals, clip_id, edge, frames.nearest(at) + by, frames, alone=alone)


def cut(proposals: Proposals, clip_id: int, index: int, frames: FrameTimes, ids: Ids) -> Edit:
    """Make two clips of one: the picture at `index` is the first of the second, which takes the next free id.

    Both keep the song and the number of dancers. The second part is for review if the whole was.
    """
    draft = _Draft(proposals)
    clip = draft.timed(clip_id)
    at = frames.at(_inside(index, frames))
    if not clip["start_s"] + OVERLAP_TOLERANCE_S < at < clip["end_s"] - OVERLAP_TOLERANCE_S:
        raise Refused(
            f"Clip {clip_id} cannot be cut at {at:.2f} s: it lasts from {clip['start_s']:.2f} to {clip['end_s']:.2f} s"
        )
    second = {**clip, "clip_id": ids.clip, "start_s": at, "released_segments": None}
    first_row = draft.proposal(clip_id)
    second_row = {**first_row, "clip_id": ids.clip, "review": first_row["review"] and "mended"}
    draft.insert_after("clips", clip, second)
    draft.insert_after("proposals", first_row, second_row)
    draft.set_edge(clip, "end", at)
    draft.sure(ids.clip, "start")
    draft.mended(clip_id)
    return draft.done(f"Clip {clip_id} cut at {at:.2f} s; clip {ids.clip} begins there", ids.clip, clip_id)


def merge(proposals: Proposals, clip_id: int, other_id: int) -> Edit:
    """Make one clip of two neighbours and of what lies between them; it keeps the lower id.

    The song is that of the longer one, the number of dancers the larger.
    """
    draft = _Draft(proposals)
    one, two = sorted((draft.timed(clip_id), draft.timed(other_id)), key=lambda c: c["start_s"])
    if one is two or one["compilation_id"] != two["compilation_id"]:
        raise Refused(f"Clips {clip_id} and {other_id} cannot be merged: choose two clips of one compilation")
    between = [c["clip_id"] for c in draft.neighbours(one) if one["start_s"] < c["start_s"] < two["start_s"]]
    if between:
        raise Refused(f"Clips {clip_id} and {other_id} cannot be merged: clip {between[0]} lies between them")
    kept, gone = sorted((one, two), key=lambda c: c["clip_id"])
    start, end = one["start_s"], two["end_s"]
    longer = max(kept, gone, key=lambda c: c["end_s"] - c["start_s"])
    row, gone_row = draft.proposal(kept["clip_id"]), draft.proposal(gone["clip_id"])
    values = {"start": one, "end": two, "song": longer}
    dancers = [c for c in (kept, gone) if c["n_dancers"] is not None]
    if dancers:
        values["dancers"] = max(dancers, key=lambda c: c["n_dancers"])
    sources = {value: dict(row if of is kept else gone_row) for value, of in values.items()}
    for value, source in sources.items():
        row[f"{value}_confidence"], row[f"{value}_reason"] = source[f"{value}_confidence"], source[f"{value}_reason"]
    lost_song = kept["song_id"] if longer is gone else gone["song_id"]
    kept["song_id"] = longer["song_id"]
    if dancers:
        kept["n_dancers"] = values["dancers"]["n_dancers"]
    notes = [c["notes"] for c in (one, two) if c["notes"]]
    kept["notes"] = "; ".join(dict.fromkeys(notes))[:2000] or None
    # Pairs tell offsets from the starts of their clips.
    draft.shift_pairs(gone["clip_id"], start - gone["start_s"])
    draft.shift_pairs(kept["clip_id"], start - kept["start_s"])
    draft.replace_in_pairs(gone["clip_id"], kept["clip_id"])
    kept["start_s"], kept["end_s"] = start, end
    draft.remove_clip(gone)
    draft.hold_apart(kept)
    draft.mended(kept["clip_id"])
    draft.sweep_song(lost_song)
    draft.agree_answers()
    what = f"Clips {one['clip_id']} and {two['clip_id']} merged; the clip is {kept['clip_id']}"
    return draft.done(what, kept["clip_id"], clip_id)


def set_song(proposals: Proposals, clip_id: int, song_id: int | None, ids: Ids) -> Edit:
    """Give a clip a song that is known, or (None) a new one."""
    draft = _Draft(proposals)
    clip = draft.clip(clip_id)
    before = clip["song_id"]
    if song_id is None:
        song_id = draft.new_song(ids)
    elif song_id not in draft.songs():
        raise Refused(f"There is no song {song_id}: choose one of the list, or a new song")
    clip["song_id"] = song_id
    draft.sure(clip_id, "song")
    draft.mended(clip_id)
    draft.sweep_song(before)
    draft.agree_answers()
    return draft.done(f"Clip {clip_id} has song {song_id}", clip_id)


def set_dancers(proposals: Proposals, clip_id: int, n: int) -> Edit:
    """Say how many people dance in a clip, 1 to 5."""
    if not 1 <= n <= MAX_DANCERS:
        raise Refused(f"{n} dancers do not fit: 1 to {MAX_DANCERS} can be told apart; more count as {MAX_DANCERS}")
    draft = _Draft(proposals)
    draft.clip(clip_id)["n_dancers"] = n
    draft.sure(clip_id, "dancers")
    draft.mended(clip_id)
    return draft.done(f"Clip {clip_id} has {n} dancer{'' if n == 1 else 's'}", clip_id)


def reject(proposals: Proposals, clip_id: int) -> Edit:
    """A clip is none: it becomes a rejected stretch, and its id is never used again."""
    draft = _Draft(proposals)
    clip = draft.timed(clip_id)
    if len(draft.rows("clips")) == 1:
        raise Refused(f"Clip {clip_id} is the last one: annotations without a clip cannot be kept")
    n = clip["n_dancers"]
    reason = f"rejected in the review; was clip {clip_id} with song {clip['song_id']}"
    reason += f" and {n} dancer{'' if n == 1 else 's'}" if n is not None else ""
    stretch = {name: clip[name] for name in ("compilation_id", "start_s", "end_s")}
    row = {**stretch, "kind": "rejected", "confidence": 1.0, "reason": reason, "clip_id": clip_id}
    draft.rows("rejected").append(row)
    draft.remove_clip(clip)
    draft.sweep_song(clip["song_id"])
    return draft.done(f"Clip {clip_id} rejected", None, clip_id)


def restore(
    proposals: Proposals, compilation_id: int, start_s: float, end_s: float, ids: Ids, frames: FrameTimes | None
) -> Edit:
    """Make a clip of a rejected stretch after all, with a new id; what other clips took of it meanwhile stays theirs.

    A clip that was rejected in the review gets its song and dancers back, any other stretch a song of its own.
    """
    draft = _Draft(proposals)
    found = next(
        (
            row
            for row in draft.rows("rejected")
            if row["compilation_id"] == compilation_id
            and abs(row["start_s"] - start_s) < 1e-6
            and abs(row["end_s"] - end_s) < 1e-6
        ),
        None,
    )
    if found is None:
        raise Refused("This stretch is no longer among the rejected ones: look at the list again")
    start, end = found["start_s"], found["end_s"]
    if frames is not None:
        start, end = frames.at(frames.nearest(start)), frames.at(frames.nearest(end))
    taken = [(c["start_s"], c["end_s"]) for c in draft.of_compilation(compilation_id)]
    free = max(_without(start, end, taken), key=lambda part: part[1] - part[0], default=(start, start))
    if free[1] - free[0] <= OVERLAP_TOLERANCE_S:
        raise Refused(f"The stretch from {start:.2f} to {end:.2f} s is covered by clips: there is nothing to restore")
    was = _RETIRED.search(found["reason"] or "")
    song = int(was[2]) if was else None
    known = song is not None and song in draft.songs()
    if not known:
        song = draft.new_song(ids)
    clip: Row = dict.fromkeys(draft.columns("clips"))
    clip |= {"clip_id": ids.clip, "compilation_id": compilation_id, "song_id": song, "start_s": free[0]}
    clip |= {"end_s": free[1], "n_dancers": int(was[3]) if was and was[3] else None}
    draft.rows("rejected").remove(found)
    draft.insert_clip(clip)
    for value in ("start", "end"):
        draft.sure(ids.clip, value)
    row = draft.proposal(ids.clip)
    row["song_confidence"] = 0.5 if known else 0.0
    row["song_reason"] = "the song it had before it was rejected" if known else "a song of its own until one is chosen"
    row["dancers_confidence"], row["dancers_reason"] = 0.0, "not counted since the stretch was restored"
    draft.mended(ids.clip)
    return draft.done(f"The stretch from {free[0]:.2f} s is a clip again, {ids.clip}", ids.clip)


def answer_pair(
    proposals: Proposals, clip_a: int, clip_b: int, answer: str, ids: Ids, move: Collection[int] | None = None
) -> Edit:
    """Say whether two clips have the same song.

    `same` makes one song of theirs, with the lower id. `different` takes the clips `move` out of their song into a new
    one, where both have the same song by now.

    Raises:
        SplitNeeded: `move` is needed.
        Refused: `same` would join clips that were called different.
    """
    draft = _Draft(proposals)
    pair = next((p for p in draft.rows("same_songs") if {p["clip_a"], p["clip_b"]} == {clip_a, clip_b}), None)
    if pair is None:
        raise Refused(f"Clips {clip_a} and {clip_b} are no pair any more: look at the list again")
    songs = [draft.clip(k)["song_id"] for k in (clip_a, clip_b)]
    what = f"Clips {clip_a} and {clip_b}: {answer} song"
    if answer == "same" and songs[0] != songs[1]:
        apart = next(
            (
                p
                for p in draft.rows("same_songs")
                if p is not pair
                and p["answer"] == "different"
                and {draft.clip(p["clip_a"])["song_id"], draft.clip(p["clip_b"])["song_id"]} == set(songs)
            ),
            None,
        )
        if apart is not None:
            raise Refused(
                f"Songs {min(songs)} and {max(songs)} cannot be one: clips {apart['clip_a']} and {apart['clip_b']} "
                "were called different; change that answer first"
            )
        draft.merge_songs(min(songs), max(songs))
        what += f"; song {max(songs)} is now song {min(songs)}"
    if answer == "different" and songs[0] == songs[1]:
        members = [c["clip_id"] for c in draft.rows("clips") if c["song_id"] == songs[0]]
        if move is None:
            sentence = f"Clips {clip_a} and {clip_b} share song {songs[0]}: choose which of its clips go to a new song"
            raise SplitNeeded(sentence, members, suggested_split(proposals, clip_a, clip_b))
        moved = set(move)
        if not moved <= set(members) or len(moved & {clip_a, clip_b}) != 1:
            raise Refused(
                f"One of clips {clip_a} and {clip_b} goes to the new song and one stays, with any others of song "
                f"{songs[0]}"
            )
        new = draft.new_song(ids)
        for clip_id in sorted(moved):
            draft.clip(clip_id)["song_id"] = new
            draft.sure(clip_id, "song")
            draft.touched(clip_id)
        what += f"; {len(moved)} of the clips went to song {new}"
    pair["answer"] = answer
    for clip_id in (clip_a, clip_b):
        draft.sure(clip_id, "song")
    draft.agree_answers()
    return draft.done(what, clip_b)


def suggested_split(proposals: Proposals, clip_a: int, clip_b: int) -> list[int]:
    """Which clips of a song go with `clip_b`, if it and `clip_a` have different songs after all; ascending.

    Pairs join clips in order of confidence (those answered `same` first, those answered `different` never), as in
    Kruskal's algorithm, but never the two sides; clips that nothing joins to `clip_b` stay.
    """
    clips = proposals.clips
    song = int(clips.song_id[clips.clip_id == clip_a].iloc[0])
    side = {int(k): int(k) for k in clips.clip_id[clips.song_id == song]}

    def find(k: int) -> int:
        while side[k] != k:
            k = side[k]
        return k

    pairs = [p for p in _records(proposals, "same_songs") if p["clip_a"] in side and p["clip_b"] in side]
    pairs = [p for p in pairs if p["answer"] != "different" and {p["clip_a"], p["clip_b"]} != {clip_a, clip_b}]
    for pair in sorted(pairs, key=lambda p: (p["answer"] != "same", -(p["confidence"] or 0.0))):
        one, two = find(pair["clip_a"]), find(pair["clip_b"])
        if {one, two} != {find(clip_a), find(clip_b)}:
            side[one] = two
    return sorted(k for k in side if find(k) == find(clip_b))


# ------------------------------------------------------------------------------------------- the tables, being edited


class _Draft:
    """Rows of the tables as dictionaries, taken out only where they are asked for."""

    def __init__(self, proposals: Proposals) -> None:
        self.proposals = proposals
        self._rows: dict[str, list[Row]] = {}

    def rows(self, table: str) -> list[Row]:
        if table not in self._rows:
            self._rows[table] = _records(self.proposals, table)
        return self._rows[table]

    def columns(self, table: str) -> list[str]:
        return list(self.proposals.table(table).columns)

    def clip(self, clip_id: int) -> Row:
        row = next((c for c in self.rows("clips") if c["clip_id"] == clip_id), None)
        if row is None:
            raise Refused(f"There is no clip {clip_id} any more: choose one of the list")
        return row

    def timed(self, clip_id: int) -> Row:
        clip = self.clip(clip_id)
        if clip["start_s"] is None or clip["end_s"] is None:
            raise Refused(f"Clip {clip_id} has no times: write its start and end into clips.csv first")
        return clip

    def of_compilation(self, compilation_id: int) -> list[Row]:
        timed = [c for c in self.rows("clips") if c["start_s"] is not None]
        return sorted((c for c in timed if c["compilation_id"] == compilation_id), key=lambda c: c["start_s"])

    def neighbours(self, clip: Row) -> list[Row]:
        return [c for c in self.of_compilation(clip["compilation_id"]) if c is not clip]

    def songs(self) -> set[int]:
        return {s["song_id"] for s in self.rows("songs")}

    def proposal(self, clip_id: int) -> Row:
        """The row of `proposals.csv` of a clip, made where it is absent."""
        row = next((p for p in self.rows("proposals") if p["clip_id"] == clip_id), None)
        if row is None:
            row = dict.fromkeys(self.columns("proposals"))
            row["clip_id"] = clip_id
            self.rows("proposals").append(row)
        return row

    def sure(self, clip_id: int, value: str) -> None:
        row = self.proposal(clip_id)
        row[f"{value}_confidence"], row[f"{value}_reason"] = 1.0, SET

    def mended(self, clip_id: int) -> None:
        self.proposal(clip_id)["review"] = "mended"

    def touched(self, clip_id: int) -> None:
        row = self.proposal(clip_id)
        row["review"] = row["review"] and "mended"

    def set_edge(self, clip: Row, edge: str, to: float) -> None:
        if edge == "start":
            self.shift_pairs(clip["clip_id"], to - clip["start_s"])
        clip[f"{edge}_s"] = to
        self.sure(clip["clip_id"], edge)

    def hold_apart(self, clip: Row) -> None:
        """Refuse an overlap with another clip; what is a clip is no rejected stretch."""
        start, end = clip["start_s"], clip["end_s"]
        for other in self.neighbours(clip):
            if min(end, other["end_s"]) - max(start, other["start_s"]) > OVERLAP_TOLERANCE_S:
                raise Refused(
                    f"Clip {other['clip_id']} lasts from {other['start_s']:.2f} to {other['end_s']:.2f} s: clips may "
                    "touch but not overlap"
                )
        if not len(self.proposals.rejected):
            return
        kept: list[Row] = []
        for row in self.rows("rejected"):
            elsewhere = row["compilation_id"] != clip["compilation_id"]
            if elsewhere or min(end, row["end_s"]) - max(start, row["start_s"]) <= OVERLAP_TOLERANCE_S:
                kept.append(row)
            else:
                parts = _without(row["start_s"], row["end_s"], [(start, end)])
                kept += [{**row, "start_s": a, "end_s": b} for a, b in parts if b - a > OVERLAP_TOLERANCE_S]
        self._rows["rejected"] = kept

    def insert_after(self, table: str, row: Row, new: Row) -> None:
        rows = self.rows(table)
        rows.insert(next(k for k, r in enumerate(rows) if r is row) + 1, new)

    def insert_clip(self, clip: Row) -> None:
        """Put a clip, and a row of `proposals.csv` for it, behind the one before it in its compilation."""
        before = [c for c in self.of_compilation(clip["compilation_id"]) if c["start_s"] < clip["start_s"]]
        if before:
            self.insert_after("clips", before[-1], clip)
            row = {**dict.fromkeys(self.columns("proposals")), "clip_id": clip["clip_id"]}
            self.insert_after("proposals", self.proposal(before[-1]["clip_id"]), row)
        else:
            self.rows("clips").append(clip)

    def remove_clip(self, clip: Row) -> None:
        gone = clip["clip_id"]
        self._rows["clips"] = [c for c in self.rows("clips") if c is not clip]
        self._rows["proposals"] = [p for p in self.rows("proposals") if p["clip_id"] != gone]
        self._rows["same_songs"] = [p for p in self.rows("same_songs") if gone not in (p["clip_a"], p["clip_b"])]

    def shift_pairs(self, clip_id: int, by: float) -> None:
        """Keep the offsets of pairs when the start of a clip moves by `by` s."""
        if abs(by) < 1e-9:
            return
        for pair in self.rows("same_songs"):
            if pair["offset_s"] is None:
                continue
            if pair["clip_a"] == clip_id:
                pair["offset_s"] = round(pair["offset_s"] + by / (pair["speed"] or 1.0), 4)
            elif pair["clip_b"] == clip_id:
                pair["offset_s"] = round(pair["offset_s"] - by, 4)

    def replace_in_pairs(self, old: int, new: int) -> None:
        """Let pairs speak of `new` instead of `old`; of two about the same clips, the answered or surer one stays."""
        for pair in self.rows("same_songs"):
            for name in ("clip_a", "clip_b"):
                if pair[name] == old:
                    pair[name] = new
        best: dict[frozenset[int], Row] = {}
        for pair in self.rows("same_songs"):
            key = frozenset((pair["clip_a"], pair["clip_b"]))
            rank = (pair["answer"] is not None, pair["confidence"] or 0.0)
            held = best.get(key)
            if len(key) == 2 and (held is None or rank > (held["answer"] is not None, held["confidence"] or 0.0)):
                best[key] = pair
        kept = {id(pair) for pair in best.values()}
        self._rows["same_songs"] = [pair for pair in self.rows("same_songs") if id(pair) in kept]

    def new_song(self, ids: Ids) -> int:
        row: Row = dict.fromkeys(self.columns("songs"))
        row["song_id"] = ids.song
        self.rows("songs").append(row)
        return ids.song

    def sweep_song(self, song_id: int) -> None:
        """Take a song out of the table if no clip has it and nothing is known of it but its id."""
        if any(c["song_id"] == song_id for c in self.rows("clips")):
            return
        self._rows["songs"] = [
            s
            for s in self.rows("songs")
            if s["song_id"] != song_id or any(value is not None for name, value in s.items() if name != "song_id")
        ]

    def merge_songs(self, kept: int, gone: int) -> None:
        for clip in self.rows("clips"):
            if clip["song_id"] == gone:
                clip["song_id"] = kept
                self.touched(clip["clip_id"])
        by_id = {s["song_id"]: s for s in self.rows("songs")}
        stays, goes = by_id[kept], by_id[gone]
        lost = []
        for name, value in goes.items():
            if name == "song_id" or value is None:
                continue
            if stays[name] is None:
                stays[name] = value
            elif stays[name] != value:
                lost.append(f"{name} {value}")
        if lost:
            told = f"song {gone}, merged into this one, had {', '.join(lost)}"
            stays["notes"] = f"{stays['notes']}; {told}"[:2000] if stays["notes"] else told[:2000]
        self._rows["songs"] = [s for s in self.rows("songs") if s is not goes]

    def agree_answers(self) -> None:
        """Let answers say what the songs say by now: the last word counts."""
        if not self.proposals.same_songs.answer.notna().any() and "same_songs" not in self._rows:
            return
        song = {c["clip_id"]: c["song_id"] for c in self.rows("clips")}
        for pair in self.rows("same_songs"):
            if pair["answer"] is not None:
                pair["answer"] = "same" if song[pair["clip_a"]] == song[pair["clip_b"]] else "different"

    def done(self, what: str, clip_id: int | None, was: int | None = None) -> Edit:
        import pandas as pd

        self._mark_candidates()
        frames = {}
        for table, rows in self._rows.items():
            frames[table] = pd.DataFrame(rows, columns=pd.Index(self.columns(table)), dtype=object)
        return Edit(self.proposals.with_tables(**frames), what, clip_id, clip_id if was is None else was)

    def _mark_candidates(self) -> None:
        """Say of candidates near edges that came or went whether a clip starts or ends there."""
        if "clips" not in self._rows or not len(self.proposals.candidates):
            return
        before, after = _edges(_records(self.proposals, "clips")), _edges(self.rows("clips"))
        came, went = after - before, before - after
        if not came and not went:
            return
        for row in self.rows("candidates"):
            if _near(row, came):
                row["used"] = "yes"
            elif _near(row, went) and not _near(row, after):
                row["used"] = "no"


def _records(proposals: Proposals, table: str) -> list[Row]:
    """Rows with None for what is empty and plain numbers, so that nothing of pandas is left in them."""
    frame = proposals.table(table)
    plain: dict[str, Callable[[Any], Any]] = {"Int64": int, "Float64": float, "string": str}
    columns = [
        [None if empty else plain[str(series.dtype)](value) for value, empty in zip(series, series.isna(), strict=True)]
        for series in (frame[name] for name in frame.columns)
    ]
    return [dict(zip(frame.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def _edges(clips: Iterable[Row]) -> set[tuple[int, float]]:
    return {(c["compilation_id"], c[e]) for c in clips for e in ("start_s", "end_s") if c[e] is not None}


def _near(candidate: Row, edges: set[tuple[int, float]]) -> bool:
    return any(c == candidate["compilation_id"] and abs(t - candidate["at_s"]) <= _EDGE_S for c, t in edges)


def _inside(index: int, frames: FrameTimes) -> int:
    if not 0 <= index < len(frames):
        raise Refused(f"The video ends there: it lasts {frames.at(len(frames) - 1):.2f} s")
    return index


def _without(start: float, end: float, taken: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of a stretch without the stretches `taken`."""
    parts = [(start, end)]
    for a, b in taken:
        around = [side for s, e in parts for side in ((s, min(e, a)), (max(s, b), e))]
        parts = [(s, e) for s, e in around if e - s > 1e-9]
    return parts
