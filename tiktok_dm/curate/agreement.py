"""How well proposals agree with what is known of a compilation: cuts, clips, songs, dancers.

For measuring the proposer where the truth is known, and a person's corrections against the proposals. Not for finding
anything. Plain data in and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np


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


def _overlap(a: KnownClip, b: KnownClip) -> float:
    shared = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
    return max(0.0, shared) / (max(a.end_s, b.end_s) - min(a.start_s, b.start_s))
