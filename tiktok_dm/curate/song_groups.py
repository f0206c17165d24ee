"""Songs of new clips: sketched, searched among all others, and grouped, so that unlike songs are never made one.

A pair's confidence is evidence for one song, as log-odds; two groups of clips become one song when the evidence between
them outweighs what is missing: of two big groups, many pairs should match, and one doubtful pair is not enough. Pairs
between the same two groups are no independent witnesses (two songs with one drum loop match a little wherever they are
compared), so that many doubtful ones count little more than one. A third clip does connect two that have no common
stretch of music. The best evidence goes first (greedy agglomeration for correlation clustering, Bansal, Blum and Chawla
2004).

Ids are stable: a clip whose song is known is never moved, and two known songs are never made one.

For `propose`: puts `spectrogram_sketch`, `song_index` and `song_groups` to work on scanned videos.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiktok_dm.audio.song_index import USED, SameSong, SongIndex
from tiktok_dm.audio.spectrogram_sketch import SongSketch, sketch
from tiktok_dm.curate.cuts.scan import Scan, scan
from tiktok_dm.curate.proposals import Proposals, kept_ids, next_ids
from tiktok_dm.curate.video_findings import VideoFindings
from tiktok_dm.schema import SAMPLE_RATE

SURE = 0.995  # a confidence above counts as this one: nothing that was measured is surer
ALONE = 0.8  # that a clip without any match has a song of its own: it may share one, but no stretch of it
FAILED = 0.25  # weight of a match that fails: two clips of one song need not have a stretch of it in common
RUNS_ON = -1.8  # log-odds that music goes on over a cut between clips, before anything is heard: one cut in seven
MISSING = 0.3  # log-odds against one song, times the root of the number of pairs that do not match


@dataclass(frozen=True)
class SongGroups:
    """The songs of clips.

    Args:
        song_of: song id of each clip.
        confidence: 0..1 of that, for each clip.
        reason: in plain words, for each clip.
        pairs: the evidence, doubtful pairs too, best first.
        notes: what a person should look at: songs that sound the same under two ids, matches that were not followed.
    """

    song_of: dict[str, int]
    confidence: dict[str, float]
    reason: dict[str, str]
    pairs: list[SameSong]
    notes: list[str]


def group_songs(
    keys: Sequence[str],
    pairs: Iterable[SameSong],
    *,
    known: Mapping[str, int] = {},
    runs_on: Iterable[tuple[str, str, float]] = (),
    answers: Mapping[tuple[str, str], str] = {},
    next_id: int = 0,
    silent: Collection[str] = (),
) -> SongGroups:
    """Give each clip a song.

    Args:
        keys: of all clips, in the order in which new songs are numbered.
        pairs: of clips that may have the same song; those with other keys are left out.
        known: songs that are set already, by an earlier run or a person; never moved. Other clips may join them.
        runs_on: (a, b, probability) where b's music goes on with a's across a cut.
        answers: what a person said of two clips, `same` or `different`; goes before all evidence.
        next_id: of the first new song, unless a known one is as high; nothing below is given out.
        silent: clips without music; each has a song of its own, unless it is known, with confidence 0.

    Raises:
        ValueError: an answer is neither `same` nor `different`.
    """
    order = {key: number for number, key in enumerate(keys)}
    for pair, answer in answers.items():
        if answer not in ("same", "different"):
            raise ValueError(f"the answer on {pair} is {answer!r}, not 'same' or 'different'")
    told = {_ordered(pair, order): answer for pair, answer in answers.items() if _both(pair, order)}
    evidence = sorted(
        (pair for pair in pairs if _both((pair.a, pair.b), order)),
        key=lambda pair: (-pair.confidence, order[pair.a], order[pair.b]),
    )
    continued = [(a, b, p) for a, b, p in runs_on if _both((a, b), order)]
    odds = _log_odds(evidence, told, silent, order)
    groups = _Groups(keys, {key: song for key, song in known.items() if key in order}, silent, told)
    groups.merge(odds)
    links = {_ordered((a, b), order): _logit(p) + RUNS_ON for a, b, p in continued}
    links = {at: value for at, value in links.items() if at not in told and not {*at} & {*silent}}
    groups.link({at: value for at, value in links.items() if value > 0})
    for at, value in links.items():  # a sign of one song, too: it never speaks against one
        odds[at] = max(odds.get(at, value), value) + max(min(odds.get(at, 0.0), value), 0.0)
    song_of = groups.numbered(max([next_id, *(song + 1 for song in known.values())]))
    confidence, reason = {}, {}
    for key in keys:
        confidence[key], reason[key] = _judge(key, song_of, known, silent, odds, told, evidence, continued)
    return SongGroups(song_of, confidence, reason, evidence, _notes(song_of, known, evidence, odds, told))


def _both(pair: tuple[str, str], order: Mapping[str, int]) -> bool:
    return pair[0] in order and pair[1] in order and pair[0] != pair[1]


def _ordered(pair: tuple[str, str], order: Mapping[str, int]) -> tuple[str, str]:
    a, b = pair
    return (a, b) if order[a] <= order[b] else (b, a)


def _logit(confidence: float) -> float:
    held = min(max(confidence, 1 - SURE), SURE)
    return float(np.log(held / (1 - held)))


def _log_odds(
    evidence: list[SameSong],
    told: Mapping[tuple[str, str], str],
    silent: Collection[str],
    order: Mapping[str, int],
) -> dict[tuple[str, str], float]:
    """Evidence of pairs of clips that were compared; a person's answers stand apart."""
    odds: dict[tuple[str, str], float] = {}
    for pair in evidence:
        value, at = _logit(pair.confidence), _ordered((pair.a, pair.b), order)
        if at in told or at[0] in silent or at[1] in silent:
            continue
        value = value if value > 0 else FAILED * value
        odds[at] = value if at not in odds else max(odds[at], value) + max(min(odds[at], value), 0.0)
    return odds


class _Groups:
    """Clips in groups, which are merged as long as evidence outweighs what is missing."""

    def __init__(
        self,
        keys: Sequence[str],
        known: Mapping[str, int],
        silent: Collection[str],
        told: Mapping[tuple[str, str], str],
    ) -> None:
        self._keys = list(keys)
        self._group = {key: number for number, key in enumerate(keys)}
        self._members: dict[int, list[str]] = {number: [key] for number, key in enumerate(keys)}
        self._song: dict[int, int] = {self._group[key]: song for key, song in known.items()}
        self._alone = {self._group[key] for key in keys if key in silent and key not in known}
        self._apart: dict[int, set[int]] = {number: set() for number in self._members}
        self._size = {number: 1 for number in self._members}
        first: dict[int, int] = {}
        for key, song in known.items():  # what is known to be one song is one group from the start
            group = self._group[key]
            if song in first:
                self._join(first[song], group)
            else:
                first[song] = group
        for (a, b), answer in told.items():
            if answer == "different":
                self._apart[self._group[a]].add(self._group[b])
                self._apart[self._group[b]].add(self._group[a])
        for (a, b), answer in told.items():
            one, other = self._group[a], self._group[b]
            if answer == "same" and one != other and self._may(one, other, sounding=False):
                self._join(one, other)

    def _may(self, one: int, other: int, sounding: bool = True) -> bool:
        if other in self._apart[one] or (sounding and (one in self._alone or other in self._alone)):
            return False
        return not (one in self._song and other in self._song and self._song[one] != self._song[other])

    def _join(self, into: int, gone: int) -> None:
        for key in self._members[gone]:
            self._group[key] = into
        self._members[into] += self._members.pop(gone)
        if gone in self._song:
            self._song[into] = self._song.pop(gone)
        for other in self._apart.pop(gone):
            self._apart[other].discard(gone)
            self._apart[other].add(into)
            self._apart[into].add(other)
        self._alone.discard(gone)

    def merge(self, odds: Mapping[tuple[str, str], float]) -> None:
        """Merge the two groups with the most evidence again and again."""
        between: _Between = {group: {} for group in self._members}
        for (a, b), value in odds.items():
            one, other = self._group[a], self._group[b]
            if one != other:
                _add(between, one, other, _Evidence(value, 1, 0.0, 0) if value > 0 else _Evidence(0.0, 0, value, 1))
        heap = [self._entry(one, other, between) for one in between for other in between[one] if one < other]
        heapq.heapify(heap)
        while heap:
            entry = heapq.heappop(heap)
            gain, one, other = -entry[0], entry[1], entry[2]
            if gain <= 0:
                break
            stale = one not in self._members or other not in self._members or other not in between.get(one, {})
            if stale or entry != self._entry(one, other, between) or not self._may(one, other):
                continue
            self._join(one, other)
            for third, found in between.pop(other).items():
                between[third].pop(other, None)
                if third != one:
                    _add(between, one, third, found)
            between[one].pop(other, None)
            for third in between[one]:
                heapq.heappush(heap, self._entry(min(one, third), max(one, third), between))

    def link(self, links: Mapping[tuple[str, str], float]) -> None:
        """Join neighbours whose music runs on, the surest first, where one of them has no song with others yet.

        Two songs of several clips each are never made one by it: what is heard of a single cut carries over to nobody.
        """
        for a, b in sorted(links, key=lambda at: (-links[at], at)):
            one, other = self._group[a], self._group[b]
            few = min(len(self._members[one]), len(self._members[other])) == 1
            if one != other and few and self._may(one, other):
                self._join(one, other)

    def _entry(self, one: int, other: int, between: _Between) -> tuple[float, int, int]:
        found = between[one][other]
        missing = len(self._members[one]) * len(self._members[other]) - found.matches - found.doubts
        return MISSING * missing**0.5 - found.log_odds, one, other

    def numbered(self, next_id: int) -> dict[str, int]:
        """Song of each clip: a known one, or the next number in the order of the clips."""
        song_of = {}
        for key in self._keys:
            group = self._group[key]
            if group not in self._song:
                self._song[group], next_id = next_id, next_id + 1
            song_of[key] = self._song[group]
        return song_of


class _Evidence(NamedTuple):
    """What pairs between two groups say: sums of log-odds above and below 0, and of how many pairs."""

    fore: float
    matches: int
    against: float
    doubts: int

    @property
    def log_odds(self) -> float:
        """Of one song: the mean of each kind, times one plus the logarithm of their number."""
        sides = ((self.fore, self.matches), (self.against, self.doubts))
        return sum(value / count * (1 + log(count)) for value, count in sides if count)


_Between = dict[int, dict[int, _Evidence]]


def _add(between: _Between, one: int, other: int, found: _Evidence) -> None:
    for here, there in ((one, other), (other, one)):
        before = between[here].get(there, _Evidence(0.0, 0, 0.0, 0))
        between[here][there] = _Evidence(
            before.fore + found.fore,
            before.matches + found.matches,
            before.against + found.against,
            before.doubts + found.doubts,
        )


def _judge(
    key: str,
    song_of: Mapping[str, int],
    known: Mapping[str, int],
    silent: Collection[str],
    odds: Mapping[tuple[str, str], float],
    told: Mapping[tuple[str, str], str],
    evidence: list[SameSong],
    continued: list[tuple[str, str, float]],
) -> tuple[float, str]:
    """Confidence and reason of one clip's song."""
    mates = {other for other, song in song_of.items() if song == song_of[key] and other != key}
    for a, b in told:
        other = b if a == key else a
        if key in (a, b) and told[a, b] == "same" and other in mates:
            return 1.0, f"somebody said that it has the song of {other}"
    if key in known:
        return 1.0, f"its song was set before: {known[key]}"
    if key in silent:
        return 0.0, "no music to compare: the clip is silent, shorter than a second, or one constant sound"
    mine = {(b if a == key else a): value for (a, b), value in odds.items() if key in (a, b)}
    inside = sum(value for other, value in mine.items() if other in mates)
    outside = max((value for other, value in mine.items() if other not in mates), default=None)
    if not mates:
        if outside is None:
            return ALONE, "no other clip with this music was found"
        # As a doubt, a match that fails counts in full.
        doubt = outside if outside > 0 else outside / FAILED
        best = next(pair for pair in [*evidence, *_as_pairs(continued)] if key in (pair.a, pair.b))
        other = best.b if best.a == key else best.a
        confidence = ALONE * float(1 / (1 + np.exp(doubt)))
        return round(confidence, 4), f"no sure match; {other} may have the same song: {best.reason}"
    confidence = float(1 / (1 + np.exp(-max(inside, 0.0))))
    for pair in evidence:
        if key in (pair.a, pair.b) and pair.confidence >= USED:
            other = pair.b if pair.a == key else pair.a
            if other in mates:
                return round(confidence, 4), f"with {other}: {pair.reason}"
    for a, b, _ in sorted(continued, key=lambda one: -one[2]):
        other = b if a == key else a
        if key in (a, b) and other in mates:
            return round(confidence, 4), f"the music of {a} runs on into {b} across the cut"
    return round(confidence, 4), "several doubtful matches with clips of this song"


def _as_pairs(continued: list[tuple[str, str, float]]) -> list[SameSong]:
    return [SameSong(a, b, p, 1.0, 0.0, 0.0, "its music may run on across the cut") for a, b, p in continued]


def _notes(
    song_of: Mapping[str, int],
    known: Mapping[str, int],
    evidence: list[SameSong],
    odds: Mapping[tuple[str, str], float],
    told: Mapping[tuple[str, str], str],
) -> list[str]:
    """What the songs as they are do not follow: sure matches between two of them, answers that could not be kept."""
    notes = []
    fixed = set(known.values())
    seen: set[tuple[int, int]] = set()
    for (a, b), answer in told.items():
        if answer == "same" and song_of[a] != song_of[b]:
            notes.append(
                f"{a} and {b} were said to have the same song, and are set to songs {song_of[a]} and {song_of[b]}: "
                "merge them in the review"
            )
            seen.add((min(song_of[a], song_of[b]), max(song_of[a], song_of[b])))
        if answer == "different" and song_of[a] == song_of[b]:
            notes.append(f"{a} and {b} were said to have different songs, and are both set to song {song_of[a]}")
    for pair in evidence:
        songs = (min(song_of[pair.a], song_of[pair.b]), max(song_of[pair.a], song_of[pair.b]))
        if pair.confidence < USED or songs[0] == songs[1] or songs in seen:
            continue
        if any(at in told for at in ((pair.a, pair.b), (pair.b, pair.a))):
            continue
        seen.add(songs)
        if songs[0] in fixed and songs[1] in fixed:
            bridge = next((key for key in (pair.a, pair.b) if key not in known), None)
            through = f"through clip {bridge}" if bridge else f"in clips {pair.a} and {pair.b}"
            notes.append(f"songs {songs[0]} and {songs[1]} now sound the same {through}: merge them in the review")
        else:
            notes.append(
                f"clips {pair.a} and {pair.b} sound the same ({pair.reason}), but songs {songs[0]} and {songs[1]} "
                "agree too little otherwise: look at them in the review"
            )
    return notes


ClipIds = Mapping[tuple[int, int], int]  # (compilation, place among its shots) -> clip


def clip_sketches(
    before: Proposals, found: Sequence[VideoFindings], ids: ClipIds, sources: Mapping[int, Path], work: Path
) -> tuple[dict[str, SongSketch], list[str]]:
    """The music of every clip, old and new, by clip id as text; and sentences about what could not be heard.

    Args:
        before: proposals whose clips are old.
        found: new videos.
        ids: of the new clips.
        sources: where the video of each compilation lies, old and new.
        work: folder with what was scanned.
    """
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
        for k in one.clips:
            shot = one.shots[k]
            sketches[str(ids[one.compilation_id, k])] = sketch_of(heard, shot.start_s, shot.end_s)
    return sketches, notes


def group_clips(
    before: Proposals, found: Sequence[VideoFindings], ids: ClipIds, sketches: Mapping[str, SongSketch]
) -> SongGroups:
    """The song of every clip; those of old clips stay, and answers that a person gave are heeded."""
    fresh = {str(ids[one.compilation_id, k]) for one in found for k in one.clips}
    keys = [*(str(clip) for clip in before.clips.clip_id), *sorted(fresh, key=int)]
    pairs = same_songs({key: sketches[key] for key in keys if key in sketches}, fresh)
    runs_on = []
    for one in found:
        clips = one.clips
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


def sketch_of(heard: Scan, start_s: float, end_s: float) -> SongSketch:
    """The music of one clip of a scanned video."""
    sound = heard.sound[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    return sketch(np.asarray(sound, np.float32), SAMPLE_RATE)


def same_songs(sketches: Mapping[str, SongSketch], new: set[str] | None = None) -> list[SameSong]:
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
