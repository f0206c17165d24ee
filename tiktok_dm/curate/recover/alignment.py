"""Known clips laid over proposed ones, compilation by compilation, with what is known of their songs.

Clips of one song should lie in proposed clips of one song, whatever either is called: from where the clips probably
are, a table of known songs by proposed songs is estimated, and each clip gains where its own column stands out. For the
rounds of `align`; not for finding out which clips share a song (`song_index`, `song_groups`).

For `tiktok_dm.curate.recover.driver`: which stretch of the video is clip `i`, and how sure is that. Pure numpy: no
files, no tables, no media.

The video is a sequence of clips in a known order, with gaps between them (cards, clips that nobody asks for). A clip
with `K` whole segments of 2 s lasts 2K to 2K + 2 s. Boundaries lie at candidate instants, each with the odds that it is
one, or, where a cut was missed, anywhere on a fine grid at the price of a miss. A candidate that is passed over inside
a clip (a false cut) costs its odds; a clip that is not in the video costs a skip. Proposed songs and numbers of dancers
add log-likelihood ratios for the stretch that a clip covers (`alignment`). That is a hidden semi-Markov model
(Ostendorf, Digalakis and Kimball 1996): the forward-backward recursion over (clip, boundary) sums over all ways to lay
the clips out (`lattice`), so the confidence of a clip is the posterior probability that both its ends lie
within half a second of those given.

Three things are not known beforehand and are estimated from the posterior, then used in the next round: which proposed
song is which known song, how often cuts are missed, and how far the candidates' confidences can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tiktok_dm.curate.recover.lattice import NEVER, SAME_INSTANT_S, Lattice, Posterior
from tiktok_dm.curate.recover.model import (
    GRID,
    TOLD,
    TOLERANCE_S,
    Alignment,
    AlignmentModel,
    ClipFact,
    Floats,
    Ints,
    VideoEvidence,
)


class SongEvidence:
    """What proposed songs and numbers of dancers say of where each clip is.

    Attributes:
        names: (names,) proposed songs, -1 among them where a stretch has none.
        length: (stretches,) in s.
        member: (stretches, names) probability that a stretch has each proposed song.
        unsure: (stretches,) what is left to 1 of that.
        share: (names,) of the time of all proposed clips.
        songs: known songs, ascending.
    """

    def __init__(self, video: VideoEvidence, clips: list[ClipFact], model: AlignmentModel) -> None:
        self.video, self.clips, self.model = video, clips, model
        names, group = np.unique(video.stretch_song, return_inverse=True)
        self.names = names
        length = np.maximum(np.diff(video.stretch_s, axis=1)[:, 0], 0.0) if len(video.stretch_s) else np.zeros(0)
        self.length = length
        known = video.stretch_song >= 0
        member = np.zeros((len(group), len(names)))
        if len(group):
            member[np.arange(len(group)), group] = known
        # Pairs that were not sure enough to join two songs still make a stretch a possible member of the other.
        loose = np.zeros_like(member)
        for a, b, confidence in video.same_song:
            for one, other in ((int(a), int(b)), (int(b), int(a))):
                loose[one] = np.maximum(loose[one], confidence * member[other])
        sure = np.clip(video.stretch_song_confidence, 0.0, 0.98)[:, None]
        doubt = loose * (1 - member)
        doubt *= np.minimum(1.0, 0.5 / np.maximum(doubt.sum(1, keepdims=True), 1e-9))
        self.member = (member * (1 - doubt.sum(1, keepdims=True)) + doubt) * sure * known[:, None]
        self.share = length @ (member * known[:, None])
        self.share = self.share / self.share.sum() if self.share.sum() > 0 else self.share
        self.unsure = np.where(known, 1 - self.member.sum(1), 1.0)
        self.songs = np.unique([clip.song for clip in clips])
        self.use = model.songs and len(names) > 1 and bool(known.any())
        counted = video.stretch_dancers > 0
        self.use_dancers = model.dancers and bool(counted.any()) and any(clip.n_dancers for clip in clips)

    def overlap(self, lattice: Lattice, cover: Floats) -> Floats:
        """(clips, stretches) expected seconds of each clip in each stretch."""
        t = lattice.t
        out = np.zeros((len(cover), len(self.video.stretch_s)))
        for i, row in enumerate(cover):
            total = np.concatenate([[0.0], np.cumsum(row[:-1] * np.diff(t))])
            out[i] = np.diff(np.interp(self.video.stretch_s, t, total), axis=1)[:, 0] if out.shape[1] else 0.0
        return out

    def bonus(self, lattice: Lattice, posterior: Posterior) -> list[Floats | None]:
        """Per clip, collected seconds times log-likelihood ratio up to each position; None where nothing is told."""
        if not self.use and not self.use_dancers:
            return [None] * len(self.clips)
        value = np.zeros((len(self.clips), len(self.video.stretch_s)))
        if self.use:
            value += self._song_value(self.overlap(lattice, posterior.cover))
        if self.use_dancers:
            value += self._dancer_value()
        edges = self.video.stretch_s.ravel()
        out: list[Floats | None] = []
        for row in value:
            gained = np.stack([np.zeros(len(row)), row * self.length], axis=1).ravel().cumsum()
            out.append(np.interp(lattice.t, edges, gained) if len(edges) else None)
        return out

    def _song_value(self, overlap: Floats) -> Floats:
        """(clips, stretches) log-ratio of seeing this stretch's song given the clip's, from all other clips.

        Two Dirichlet estimates, one from each side of the table of songs by proposed songs: how often the known
        song goes with the proposed one, and how often the proposed one goes with the known one. The lower counts, so
        that a map far from one-to-one gains nothing.
        """
        model = self.model
        of_clip = overlap @ self.member
        of_clip /= np.maximum(overlap.sum(1, keepdims=True), 1e-6)
        of_clip *= np.minimum(1.0, overlap.sum(1, keepdims=True))  # less than a second of a clip tells less
        songs = np.searchsorted(self.songs, [clip.song for clip in self.clips])
        table = np.zeros((len(self.songs), len(self.names)))
        np.add.at(table, songs, of_clip)
        usual = np.bincount(songs, minlength=len(self.songs)) / len(songs)
        share = np.maximum(self.share, 1e-6)
        out = np.zeros((len(self.clips), len(self.video.stretch_s)))
        for i, s in enumerate(songs):
            seen = np.maximum(table[s] - of_clip[i], 0.0)
            column = np.maximum(table.sum(0) - of_clip[i], 0.0)
            row_ratio = (seen + model.song_prior * share) / ((seen.sum() + model.song_prior) * share)
            column_ratio = (seen + model.column_prior * usual[s]) / ((column + model.column_prior) * usual[s])
            ratio = np.minimum(row_ratio, column_ratio)
            out[i] = np.log(np.maximum(self.member @ ratio + self.unsure, 1e-4))
        return out

    def _dancer_value(self) -> Floats:
        """(clips, stretches) log-ratio of counting as many dancers as were counted, right four times out of five."""
        counted = self.video.stretch_dancers
        known = counted > 0
        out = np.zeros((len(self.clips), len(counted)))
        for n in np.unique(counted[known]):
            usual = (np.sum(counted[known] == n) + 0.5) / (known.sum() + 1.0)
            for i, clip in enumerate(self.clips):
                if clip.n_dancers:
                    likely = 0.8 / usual if clip.n_dancers == n else 0.2 / (1 - usual)
                    out[i, counted == n] = np.log(min(max(likely, 0.2), 5.0))
        return out

    def summary(
        self, start_s: Floats, end_s: Floats, lattice: Lattice, posterior: Posterior
    ) -> tuple[Floats, dict[int, tuple[int, float]]]:
        """Share of each clip's time under the proposed song that its own is matched to, and that map of songs."""
        share, matched = np.zeros(len(self.clips)), {}
        if not len(self.names) or not (self.video.stretch_song >= 0).any():
            return share, {}
        overlap = self.overlap(lattice, posterior.cover) @ (self.member > self.member.max(1, keepdims=True) - 1e-9)
        for song in self.songs:
            rows = [i for i, clip in enumerate(self.clips) if clip.song == song]
            total = overlap[rows].sum(0)
            if total.sum() > 0:
                matched[int(song)] = (int(self.names[total.argmax()]), float(total.max() / total.sum()))
        for i, clip in enumerate(self.clips):
            if np.isnan(start_s[i]) or clip.song not in matched:
                continue
            a, b = self.video.stretch_s[:, 0], self.video.stretch_s[:, 1]
            shared = np.clip(np.minimum(b, end_s[i]) - np.maximum(a, start_s[i]), 0.0, None)
            right = self.video.stretch_song == matched[clip.song][0]
            share[i] = float(shared[right].sum() / max(end_s[i] - start_s[i], 1e-9))
        return np.clip(share, 0.0, 1.0), matched


_LEAST_MASS = 1e-5  # pairs of boundaries that are less probable are left out when the best are chosen


class OutOfOrder(ValueError):
    """Times that are given contradict the order of the clips."""


def align(video: VideoEvidence, clips: Sequence[ClipFact], model: AlignmentModel | None = None) -> Alignment:
    """The places of `clips`, in their order, in `video`.

    Raises:
        OutOfOrder: times that are given contradict the order of the clips.
    """
    model = model or AlignmentModel()
    clips = list(clips)
    _check_order(clips)
    lattice = Lattice(video, clips, model)
    songs = SongEvidence(video, clips, model)
    trust, missed = (0.0, 1.0), model.missed
    bonus: list[Floats | None] = [None] * len(clips)
    rounds = 0
    for rounds in range(1, max(1, model.rounds) + 1):
        posterior = lattice.solve(bonus, trust, missed)
        if rounds >= model.rounds:
            break
        before = (trust, missed, [b if b is None else b.copy() for b in bonus])
        if model.calibrate:
            trust, missed = lattice.calibrated(posterior)
        bonus = songs.bonus(lattice, posterior)
        if _settled(before, (trust, missed, bonus)):
            break
    return _answer(lattice, posterior, songs, missed, rounds)


def log_evidence(video: VideoEvidence, clips: Sequence[ClipFact], model: AlignmentModel | None = None) -> float:
    """`Alignment.log_evidence` alone, from order and lengths only and on a coarser grid: a tenth of the time."""
    quick = replace(model or AlignmentModel(), grid_s=0.5, rounds=1)
    clips = list(clips)
    lattice = Lattice(video, clips, quick)
    return lattice.forward([None] * len(clips), (0.0, 1.0), quick.missed)[2]


def _check_order(clips: Sequence[ClipFact]) -> None:
    latest = -np.inf
    for i, clip in enumerate(clips):
        for at in (clip.start_s, clip.end_s):
            if at is None:
                continue
            if at < latest - SAME_INSTANT_S:
                raise OutOfOrder(f"clip {i} in order has a time of {at:g} s, after one at {latest:g} s")
            latest = max(latest, at)


def _settled(before: tuple, after: tuple) -> bool:
    """Whether a round changed next to nothing of (trust, missed, bonus)."""
    moved = max(abs(before[0][0] - after[0][0]), abs(before[0][1] - after[0][1]), 20 * abs(before[1] - after[1]))
    for old, new in zip(before[2], after[2], strict=True):
        if new is not None and len(new):
            step = np.diff(new) - (0 if old is None else np.diff(old))  # of at most one grid step each
            moved = max(moved, 2 * float(np.abs(step).max(initial=0.0)))
    return moved < 0.05


# ------------------------------------------------------------------------------------------- the answer


def _answer(lattice: Lattice, posterior: Posterior, songs: SongEvidence, missed: float, rounds: int) -> Alignment:
    """One layout out of the posterior, and how sure each of its ends is."""
    n = len(lattice.clips)
    time = {name: np.full(n, np.nan) for name in ("start", "end")}
    sure = {name: np.zeros(n) for name in ("start", "end", "both")}
    kind = {name: np.full(n, GRID) for name in ("start", "end")}
    for i, (a, b) in enumerate(_most_within(lattice.t, posterior)):
        if a >= 0:
            for name, index, told in (("start", a, lattice.clips[i].start_s), ("end", b, lattice.clips[i].end_s)):
                time[name][i] = lattice.t[index] if told is None else told
                kind[name][i] = lattice.candidate[index] if told is None else TOLD
    _join(time["start"], time["end"], kind["start"], kind["end"])
    for i in map(int, np.flatnonzero(~np.isnan(time["start"]))):
        near_start, near_end = _near(lattice, time["start"][i]), _near(lattice, time["end"][i])
        pairs = lattice.pairs[i]
        sure["start"][i] = 1.0 if kind["start"][i] == TOLD else posterior.start[i] @ near_start
        sure["end"][i] = 1.0 if kind["end"][i] == TOLD else posterior.end[i] @ near_end
        sure["both"][i] = posterior.mass[i] @ (near_start[pairs.start] * near_end[pairs.end])
    used = np.zeros(lattice.n_candidates)
    at = np.flatnonzero(lattice.candidate >= 0)
    used[lattice.candidate[at]] = posterior.boundary[at]
    share, song_map = songs.summary(time["start"], time["end"], lattice, posterior)
    present = np.array([mass.sum() for mass in posterior.mass])
    return Alignment(
        time["start"],
        time["end"],
        np.clip(sure["both"], 0.0, 1.0),
        np.clip(sure["start"], 0.0, 1.0),
        np.clip(sure["end"], 0.0, 1.0),
        np.clip(present, 0.0, 1.0),
        kind["start"],
        kind["end"],
        share,
        lattice.t,
        np.clip(posterior.cover.sum(0), 0.0, 1.0),
        used,
        song_map,
        posterior.log_evidence,
        missed,
        rounds,
    )


def _near(lattice: Lattice, at: float) -> Floats:
    """(positions,) 1 where within the tolerance of `at`; an instant of the grid counts for the step around it."""
    away = np.abs(lattice.t - at)
    step = lattice.model.grid_s
    on_grid = np.clip((TOLERANCE_S + step / 2 - away) / step, 0.0, 1.0)
    return np.where(lattice.candidate == GRID, on_grid, away <= TOLERANCE_S + 1e-9)


def _join(start: Floats, end: Floats, start_kind: Ints, end_kind: Ints) -> None:
    """Let neighbours that meet at a missed cut, chosen for each apart, meet in one instant."""
    for i in range(len(start) - 1):
        if not 0 < start[i + 1] - end[i] <= TOLERANCE_S or GRID not in (end_kind[i], start_kind[i + 1]):
            continue
        if end_kind[i] == start_kind[i + 1]:
            end[i] = start[i + 1] = (end[i] + start[i + 1]) / 2
        elif end_kind[i] == GRID:
            end[i], end_kind[i] = start[i + 1], start_kind[i + 1]
        else:
            start[i + 1], start_kind[i + 1] = end[i], end_kind[i]


def _most_within(t: Floats, posterior: Posterior) -> list[tuple[int, int]]:
    """For each clip the pair of positions to give.

    The clips that are expected to be found within the tolerance are made as many as possible, under the order of the
    clips: a second, smaller recursion over the probable pairs of each clip. `(-1, -1)` for a clip that is left out.
    """
    options: list[tuple[Ints, Ints, Floats, Floats]] = []
    for pairs, mass in zip(posterior.pairs, posterior.mass, strict=True):
        kept = np.flatnonzero(mass > _LEAST_MASS)
        kept = np.sort(kept[np.argsort(-mass[kept], kind="stable")[:400]])
        a, b, p = pairs.start[kept], pairs.end[kept], mass[kept]
        near = np.abs(t[a][:, None] - t[a]) <= TOLERANCE_S + 1e-9
        near &= np.abs(t[b][:, None] - t[b]) <= TOLERANCE_S + 1e-9
        options.append((a, b, near @ p, p))
    best = np.zeros(len(t))  # most that can be gained by the clips so far, ending at or before each position
    chosen: list[tuple[Floats, Floats, Ints]] = []
    for (a, b, gain, own), mass in zip(options, posterior.mass, strict=True):
        # A little for the probability of the very pair: of many places within reach of the same mass, neighbouring
        # clips then take the same one. A clip that is likelier absent than here is left out.
        worth = np.where(gain > 1 - mass.sum(), gain + 0.01 * own, NEVER)
        total = best[a] + worth
        by_end = np.full(len(t), NEVER)
        pick = np.full(len(t), -1)
        for k in np.argsort(total, kind="stable"):
            by_end[b[k]], pick[b[k]] = total[k], k
        chosen.append((best, by_end, pick))
        best = np.maximum(best, np.maximum.accumulate(by_end))
    out: list[tuple[int, int]] = []
    limit = len(t) - 1
    for i in reversed(range(len(options))):
        before, by_end, pick = chosen[i]
        reach = by_end[: limit + 1]
        top = float(reach.max(initial=NEVER))
        if top <= before[limit]:
            out.append((-1, -1))
            continue
        k = int(pick[int(np.flatnonzero(reach == top)[-1])])
        a, b, *_ = options[i]
        out.append((int(a[k]), int(b[k])))
        limit = int(a[k])
    return out[::-1]
