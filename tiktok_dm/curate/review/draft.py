"""The tables while one edit changes them, and what every edit keeps.

Clips of a compilation don't overlap, pairs and candidates follow the edges of clips, answers agree with songs, and a
value that a person set has confidence 1. Not for which edits there are (`edits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tiktok_dm.curate.proposals import Ids, Proposals
from tiktok_dm.errors import UserError
from tiktok_dm.schema import OVERLAP_TOLERANCE_S

SET = "set in the review"
_EDGE_S = 0.02  # a candidate this near to an edge is that edge: half a picture at 25 a second

Row = dict[str, Any]


class Refused(UserError):
    """An edit that would break a rule of the annotations; nothing was changed."""


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


class Draft:
    """Rows of the tables as dictionaries, taken out only where they are asked for.

    Args:
        proposals: the tables before the edit; they stay as they are.
    """

    def __init__(self, proposals: Proposals) -> None:
        self.proposals = proposals
        self._rows: dict[str, list[Row]] = {}

    def rows(self, table: str) -> list[Row]:
        if table not in self._rows:
            self._rows[table] = records(self.proposals, table)
        return self._rows[table]

    def columns(self, table: str) -> list[str]:
        return list(self.proposals.table(table).columns)

    def clip(self, clip_id: int) -> Row:
        row = next((c for c in self.rows("clips") if c["clip_id"] == clip_id), None)
        if row is None:
            raise Refused(f"There is no clip {clip_id} any more: choose one of the list")
        return row

    def timed(self, clip_id: int) -> Row:
        """A clip that has times; refused where it has none."""
        clip = self.clip(clip_id)
        if clip["start_s"] is None or clip["end_s"] is None:
            raise Refused(f"Clip {clip_id} has no times: write its start and end into clips.csv first")
        return clip

    def of_compilation(self, compilation_id: int) -> list[Row]:
        """Clips with times, by their starts."""
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
        """A person set this value."""
        row = self.proposal(clip_id)
        row[f"{value}_confidence"], row[f"{value}_reason"] = 1.0, SET

    def mended(self, clip_id: int) -> None:
        self.proposal(clip_id)["review"] = "mended"

    def touched(self, clip_id: int) -> None:
        """A clip changed only because another one did."""
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
                parts = without(row["start_s"], row["end_s"], [(start, end)])
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
        """The edit, with the tables that were taken out written back; `Edit` says what the others are."""
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
        before, after = _edges(records(self.proposals, "clips")), _edges(self.rows("clips"))
        came, went = after - before, before - after
        if not came and not went:
            return
        for row in self.rows("candidates"):
            if _near(row, came):
                row["used"] = "yes"
            elif _near(row, went) and not _near(row, after):
                row["used"] = "no"


def records(proposals: Proposals, table: str) -> list[Row]:
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


def without(start: float, end: float, taken: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of a stretch without the stretches `taken`."""
    parts = [(start, end)]
    for a, b in taken:
        around = [side for s, e in parts for side in ((s, min(e, a)), (max(s, b), e))]
        parts = [(s, e) for s, e in around if e - s > 1e-9]
    return parts
