"""How well proposals agree with what is known of a compilation: cuts, clips, songs, dancers.

For measuring the proposer where the truth is known, and a person's corrections against the proposals. Not for finding
anything. Plain data in and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tiktok_dm.curate.proposals import Proposals


class Counts(NamedTuple):
    """How many were found rightly, falsely, and not at all."""

    right: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of what was found that is right; 1 where nothing was found."""
        found = self.right + self.false
        return self.right / found if found else 1.0

    @property
    def recall(self) -> float:
        """Share of what is there that was found; 1 where nothing is there."""
        there = self.right + self.missed
        return self.right / there if there else 1.0

    @property
    def f1(self) -> float:
        """2 P R / (P + R), which is 2 right / (2 right + false + missed)."""
        everything = 2 * self.right + self.false + self.missed
        return 2 * self.right / everything if everything else 1.0


@dataclass(frozen=True)
class KnownClip:
    """A clip as it is known or proposed.

    Args:
        start_s, end_s: s from the source's first instant.
        song: any name of its song; names of two lists need not agree.
        n_dancers: None where nobody knows.
    """

    start_s: float
    end_s: float
    song: str = ""
    n_dancers: int | None = None


def agree_in_time(found: Sequence[float], true: Sequence[float], tolerance_s: float) -> Counts:
    """Instants that agree within `tolerance_s`, each used once; as many pairs as possible.

    Both lists in order and one tolerance: taking the earliest free partner is optimal.
    """
    found, true = sorted(found), sorted(true)
    i = j = right = 0
    while i < len(found) and j < len(true):
        if abs(found[i] - true[j]) <= tolerance_s:
            right, i, j = right + 1, i + 1, j + 1
        elif found[i] < true[j]:
            i += 1
        else:
            j += 1
    return Counts(right, len(found) - right, len(true) - right)


def cut_agreement(
    found: Sequence[KnownClip], true_cuts: Sequence[float], duration_s: float, tolerance_s: float
) -> Counts:
    """Starts and ends of clips against true cuts; the first and the last instant of the source are no cuts."""
    instants = {round(t, 4) for clip in found for t in (clip.start_s, clip.end_s)}
    inner = [t for t in instants if tolerance_s < t < duration_s - tolerance_s]
    return agree_in_time(inner, list(true_cuts), tolerance_s)


def match_clips(found: Sequence[KnownClip], true: Sequence[KnownClip], least_overlap: float = 0.5) -> dict[int, int]:
    """For each true clip (by place), the found clip that is the same one: intersection over union above a half."""
    pairs = {}
    for t, clip in enumerate(true):
        overlaps = [_overlap(clip, other) for other in found]
        if overlaps and max(overlaps) > least_overlap:
            pairs[t] = int(np.argmax(overlaps))
    return pairs


def pair_agreement(found: Sequence[KnownClip], true: Sequence[KnownClip], pairs: Mapping[int, int]) -> Counts:
    """Pairs of true clips that share a song, against what the matched found clips say; unmatched ones are missed."""
    right = false = missed = 0
    for a, b in combinations(range(len(true)), 2):
        same = true[a].song == true[b].song
        said = a in pairs and b in pairs and pairs[a] != pairs[b] and found[pairs[a]].song == found[pairs[b]].song
        right += same and said
        false += said and not same
        missed += same and not said
    return Counts(right, false, missed)


def dancers_right(found: Sequence[KnownClip], true: Sequence[KnownClip], pairs: Mapping[int, int]) -> tuple[int, int]:
    """How many true clips have the right number of dancers, and of how many it is known."""
    known = [t for t, clip in enumerate(true) if clip.n_dancers is not None]
    return sum(t in pairs and found[pairs[t]].n_dancers == true[t].n_dancers for t in known), len(known)


def proposed_clips(proposals: Proposals, compilation_id: int) -> list[KnownClip]:
    """The proposed clips of one compilation, in order."""
    rows = proposals.clips[proposals.clips.compilation_id == compilation_id].sort_values("start_s")
    dancers = [None if missing else int(n) for n, missing in zip(rows.n_dancers, rows.n_dancers.isna(), strict=True)]
    return [
        KnownClip(float(start), float(end), str(song), n)
        for start, end, song, n in zip(rows.start_s, rows.end_s, rows.song_id, dancers, strict=True)
    ]


def true_clips(truth: Mapping[str, Any]) -> list[KnownClip]:
    """The clips of a truth file: `clips`, each with `start_s`, `end_s`, `song` and `n_dancers`."""
    return [KnownClip(c["start_s"], c["end_s"], c["song"], c["n_dancers"]) for c in truth["clips"]]


def score(found: Sequence[KnownClip], truth: Mapping[str, Any], tolerance_frames: float = 2.0) -> dict[str, Any]:
    """Agreement of one compilation's proposals with its truth file, in plain numbers.

    Args:
        truth: `fps`, `duration_s`, `clips` (see `true_clips`), `transitions` (each with `at_s`) and `non_clips` (each
            with `start_s` and `end_s`): a stretch that is no clip counts as taken for one from half a second on.
        tolerance_frames: of cuts; half a frame more is allowed for rounded times.
    """
    true = true_clips(truth)
    tolerance = (tolerance_frames + 0.5) / truth["fps"]
    cuts = cut_agreement(found, [t["at_s"] for t in truth["transitions"]], truth["duration_s"], tolerance)
    pairs = match_clips(found, true)
    songs = pair_agreement(found, true, pairs)
    right, known = dancers_right(found, true, pairs)
    cards = truth.get("non_clips", [])
    as_clips = sum(any(min(c.end_s, n["end_s"]) - max(c.start_s, n["start_s"]) > 0.5 for c in found) for n in cards)
    return {
        "cuts": cuts._asdict() | {"precision": cuts.precision, "recall": cuts.recall},
        "same_song_pairs": songs._asdict() | {"precision": songs.precision, "recall": songs.recall, "f1": songs.f1},
        "clips_found": len(pairs),
        "clips": len(true),
        "dancers_right": right,
        "dancers_known": known,
        "cards": len(cards),
        "cards_taken_for_clips": as_clips,
    }


def _overlap(a: KnownClip, b: KnownClip) -> float:
    shared = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
    return max(0.0, shared) / (max(a.end_s, b.end_s) - min(a.start_s, b.start_s))
