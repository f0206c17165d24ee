"""Edits of proposals as pure functions, and the page's requests turned into them.

Each edit is a pure function from proposals to an `Edit`: nothing is read, written or decoded here.

What every edit keeps (`draft` sees to it): clips of a compilation don't overlap, each lasts at least one picture, times
that are set lie on pictures that exist, and no id is ever used twice. A value that a person set has confidence 1, and
the clip is marked `mended`. Clips that change only because a neighbour or a song did keep the mark that they had, since
nobody looked at them yet; one that was accepted as it stood is then `mended`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from tiktok_dm.curate.proposals import Ids, Proposals
from tiktok_dm.curate.review.assets import Assets, FrameTimes
from tiktok_dm.curate.review.draft import Draft, Edit, Refused, Row, records, without
from tiktok_dm.errors import UserError
from tiktok_dm.schema import MAX_DANCERS, OVERLAP_TOLERANCE_S


class SplitNeeded(Refused):
    """Two clips of one song were called different: a person has to say which of its clips go to a new song.

    Args:
        clips: all clips of the song.
        suggested: those that belong to the second of the two, by what is known.
    """

    def __init__(self, sentence: str, clips: list[int], suggested: list[int]) -> None:
        super().__init__(sentence)
        self.clips, self.suggested = clips, suggested


def accept(proposals: Proposals, clip_id: int) -> Edit:
    """All values of a clip are right as they are; a clip that was mended stays so marked."""
    draft = Draft(proposals)
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
    draft = Draft(proposals)
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
    at = Draft(proposals).timed(clip_id)[f"{edge}_s"]
    return move(proposals, clip_id, edge, frames.nearest(at) + by, frames, alone=alone)


def cut(proposals: Proposals, clip_id: int, index: int, frames: FrameTimes, ids: Ids) -> Edit:
    """Make two clips of one: the picture at `index` is the first of the second, which takes the next free id.

    Both keep the song and the number of dancers. The second part is for review if the whole was.
    """
    draft = Draft(proposals)
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
    draft = Draft(proposals)
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
    draft = Draft(proposals)
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
    draft = Draft(proposals)
    draft.clip(clip_id)["n_dancers"] = n
    draft.sure(clip_id, "dancers")
    draft.mended(clip_id)
    return draft.done(f"Clip {clip_id} has {n} dancer{'' if n == 1 else 's'}", clip_id)


def reject(proposals: Proposals, clip_id: int) -> Edit:
    """A clip is none: it becomes a rejected stretch, and its id is never used again."""
    draft = Draft(proposals)
    clip = draft.timed(clip_id)
    if len(draft.rows("clips")) == 1:
        raise Refused(f"Clip {clip_id} is the last one: annotations without a clip cannot be kept")
    row = {name: clip[name] for name in ("compilation_id", "start_s", "end_s", "clip_id", "song_id", "n_dancers")}
    row |= {"kind": "rejected", "confidence": 1.0, "reason": "rejected in the review"}
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
    draft = Draft(proposals)
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
    free = max(without(start, end, taken), key=lambda part: part[1] - part[0], default=(start, start))
    if free[1] - free[0] <= OVERLAP_TOLERANCE_S:
        raise Refused(f"The stretch from {start:.2f} to {end:.2f} s is covered by clips: there is nothing to restore")
    song = found.get("song_id")
    known = song is not None and song in draft.songs()
    if not known:
        song = draft.new_song(ids)
    clip: Row = dict.fromkeys(draft.columns("clips"))
    clip |= {"clip_id": ids.clip, "compilation_id": compilation_id, "song_id": song, "start_s": free[0]}
    clip |= {"end_s": free[1], "n_dancers": found.get("n_dancers")}
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
    draft = Draft(proposals)
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

    pairs = [p for p in records(proposals, "same_songs") if p["clip_a"] in side and p["clip_b"] in side]
    pairs = [p for p in pairs if p["answer"] != "different" and {p["clip_a"], p["clip_b"]} != {clip_a, clip_b}]
    for pair in sorted(pairs, key=lambda p: (p["answer"] != "same", -(p["confidence"] or 0.0))):
        one, two = find(pair["clip_a"]), find(pair["clip_b"])
        if {one, two} != {find(clip_a), find(clip_b)}:
            side[one] = two
    return sorted(k for k in side if find(k) == find(clip_b))


def _inside(index: int, frames: FrameTimes) -> int:
    if not 0 <= index < len(frames):
        raise Refused(f"The video ends there: it lasts {frames.at(len(frames) - 1):.2f} s")
    return index


class Malformed(Exception):
    """A request that the page never makes."""


def _whole(body: Mapping[str, Any], name: str, low: int = 0) -> int:
    value = body.get(name)
    if type(value) is not int or not low <= value <= 999_999_999:
        raise Malformed(name)
    return value


def _one_of(body: Mapping[str, Any], name: str, *known: str) -> str:
    value = body.get(name)
    if value not in known:
        raise Malformed(name)
    return str(value)


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name)
    if type(value) not in (int, float):
        raise Malformed(name)
    return float(value)  # type: ignore[arg-type]


def edit_asked(body: Mapping[str, Any], assets: Assets) -> Callable[[Proposals, Ids], Edit]:
    """The edit that a request asks for.

    Raises:
        Malformed: it asks for none.
    """
    action = body.get("action")
    if action == "restore":
        return _restore(body, assets)
    if action == "answer":
        pair = _whole(body, "a"), _whole(body, "b")
        answer, moves = _one_of(body, "answer", "same", "different"), body.get("move")
        if moves is not None and not (isinstance(moves, list) and all(type(k) is int for k in moves)):
            raise Malformed("move")
        return lambda p, ids: answer_pair(p, *pair, answer, ids, moves)
    clip = _whole(body, "clip")

    def frames(p: Proposals) -> FrameTimes:
        found = p.clips.compilation_id[p.clips.clip_id == clip]
        if not len(found):
            raise Refused(f"There is no clip {clip} any more: choose one of the list")
        try:
            return assets.frame_times(int(found.iloc[0]))
        except UserError as error:
            raise Refused(str(error)) from error

    if action in ("move", "nudge"):
        edge, alone = _one_of(body, "edge", "start", "end"), bool(body.get("alone"))
        if action == "move":
            index = _whole(body, "frame")
            return lambda p, ids: move(p, clip, edge, index, frames(p), alone=alone)
        by = _whole(body, "by", -1000)
        return lambda p, ids: nudge(p, clip, edge, by, frames(p), alone=alone)
    if action == "cut":
        at = _whole(body, "frame")
        return lambda p, ids: cut(p, clip, at, frames(p), ids)
    if action == "merge":
        other = _whole(body, "other")
        return lambda p, ids: merge(p, clip, other)
    if action == "song":
        song = None if body.get("song") is None else _whole(body, "song")
        return lambda p, ids: set_song(p, clip, song, ids)
    if action == "dancers":
        n = _whole(body, "n")
        return lambda p, ids: set_dancers(p, clip, n)
    if action == "accept":
        return lambda p, ids: accept(p, clip)
    if action == "reject":
        return lambda p, ids: reject(p, clip)
    raise Malformed("action")


def _restore(body: Mapping[str, Any], assets: Assets) -> Callable[[Proposals, Ids], Edit]:
    compilation, start, end = _whole(body, "compilation"), _number(body, "start"), _number(body, "end")

    def change(p: Proposals, ids: Ids) -> Edit:
        try:
            frames = assets.frame_times(compilation)
        except UserError:
            frames = None
        return restore(p, compilation, start, end, ids, frames)

    return change
