"""Align clips of known order, song and rough length with what a program saw in a video, by an exact segment model.

For `tiktok_dm.curate.recover`: which stretch of the video is clip `i`, and how sure is that. Pure numpy: no files, no
tables, no media.

The video is a sequence of clips in a known order, with gaps between them (cards, clips that nobody asks for). A clip
with `K` whole segments of 2 s lasts 2K to 2K + 2 s. Boundaries lie at candidate instants, each with the odds that it
is one, or, where a cut was missed, anywhere on a fine grid at the price of a miss. A candidate that is passed over
inside a clip (a false cut) costs its odds; a clip that is not in the video costs a skip. Proposed songs and numbers of
dancers add log-likelihood ratios for the stretch that a clip covers. That is a hidden semi-Markov model (Ostendorf,
Digalakis and Kimball 1996): the forward-backward recursion over (clip, boundary) sums over all ways to lay the clips
out, so the confidence of a clip is the posterior probability that both its ends lie within half a second of those
given.

Three things are not known beforehand and are estimated from the posterior, then used in the next round: which proposed
song is which known song, how often cuts are missed, and how far the candidates' confidences can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.schema import SEGMENT_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE_S = 0.5  # a clip is found when both ends are this near
_NEVER = -np.inf
_SAME_INSTANT_S = 0.02  # candidates nearer to each other than this are one: half a frame at 25 fps
_EDGE_S = 0.1  # a candidate this near to the first or last instant is that edge
_ONE_CUT_S = 0.3  # two candidates this near are seldom two boundaries
_LONG_S, _LONG_GRID_S = 1500.0, 1 / 3  # longer videos get a coarser grid: time and memory grow with its square
_LEAST_MASS = 1e-5  # pairs of boundaries that are less probable are left out when the best are chosen


@dataclass(frozen=True)
class VideoEvidence:
    """What a program saw in one video.

    Args:
        duration_s: length of the video.
        candidate_s: (C,) instants that may be boundaries, ascending.
        candidate_confidence: (C,) how sure the program is of each, 0..1.
        stretch_s: (P, 2) start and end of the proposed clips, ascending.
        stretch_song: (P,) proposed song of each, -1 where none.
        stretch_song_confidence: (P,) of the song, 0..1.
        stretch_dancers: (P,) number of dancers, 0 where not counted.
        rejected_s: (R, 2) stretches that were taken for no clip.
        rejected_confidence: (R,) how sure of that, 0..1.
        same_song: (M, 3) rows `(a, b, confidence)`: stretches `a` and `b` may have the same song.
    """

    duration_s: float
    candidate_s: Floats
    candidate_confidence: Floats
    stretch_s: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    stretch_song: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    stretch_song_confidence: Floats = field(default_factory=lambda: np.zeros(0))
    stretch_dancers: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    rejected_s: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    rejected_confidence: Floats = field(default_factory=lambda: np.zeros(0))
    same_song: Floats = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass(frozen=True)
class ClipFact:
    """What is known of one clip.

    Args:
        song: any integer; equal for clips with the same song.
        segments: whole 2-s segments in it, None where unknown.
        n_dancers: 0 where unknown.
        start_s, end_s: where a person has said so; they are kept and hold their neighbours in place.
    """

    song: int
    segments: int | None = None
    n_dancers: int = 0
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class AlignmentModel:
    """Chances and widths of the model; the defaults suit proposals of middling quality.

    Args:
        missed: chance that a boundary has no candidate.
        gap: chance of a gap between two clips.
        edge_gap: chance that something stands before the first clip, or after the last.
        gap_mean_s: mean length of a gap.
        gap_boundaries: chance that a candidate inside a gap is a real boundary (of a card, of another clip).
        skipped: chance that a clip is not in the video at all.
        segment_edge_s: softness of the limits of a clip's length: boundaries jitter by a frame or two.
        off_length: chance that a clip was cut so freely that its segments do not tell the length of the shot.
        off_length_s: how far outside the limits its length then is, on the average.
        no_segments_s: range of length of a clip without known segments.
        grid_s: distance of the instants at which a missed boundary may lie.
        least_confidence, most_confidence: candidates' confidences are taken to lie between these.
        song_prior, column_prior: clips' worth of doubt in the map of songs, seen from either side.
        rounds: of estimating songs, misses and trust; 1 estimates nothing.
        songs, dancers, calibrate: whether to use songs, dancers, and to estimate misses and trust.
    """

    missed: float = 0.05
    gap: float = 0.04
    edge_gap: float = 0.5
    gap_mean_s: float = 8.0
    gap_boundaries: float = 0.3
    skipped: float = 0.005
    segment_edge_s: float = 0.04
    off_length: float = 0.02
    off_length_s: float = 0.4
    no_segments_s: tuple[float, float] = (2.0, 60.0)
    grid_s: float = 0.2
    least_confidence: float = 0.003
    most_confidence: float = 0.997
    song_prior: float = 0.4
    column_prior: float = 0.4
    rounds: int = 6
    songs: bool = True
    dancers: bool = True
    calibrate: bool = True


@dataclass(frozen=True)
class Alignment:
    """Where the clips are; all arrays have one entry a clip unless said otherwise.

    Args:
        start_s, end_s: NaN for a clip that is more likely not in the video.
        confidence: probability that both ends are within `TOLERANCE_S`.
        start_confidence, end_confidence: the same for each end alone.
        present: probability that the clip is in the video at all.
        start_candidate, end_candidate: index of the candidate at that end; -1 where no candidate is there (a missed
            cut, placed by the lengths), -2 at the video's first or last instant, -3 where a person said so.
        song_share: share of the clip's time that lies in proposed clips with the song it is matched to.
        grid_s, covered: instants, and probability that any clip covers the stretch from each to the next.
        candidate_used: (C,) probability that each candidate is a boundary of a clip.
        song_map: known song -> proposed song and share of its clips' time, for songs with any evidence.
        log_evidence: log-probability of the video under the clips, up to a constant of the video: clip lists can be
            compared by it for one video.
        missed: estimated chance that a boundary has no candidate.
        rounds: that it took.
    """

    start_s: Floats
    end_s: Floats
    confidence: Floats
    start_confidence: Floats
    end_confidence: Floats
    present: Floats
    start_candidate: Ints
    end_candidate: Ints
    song_share: Floats
    grid_s: Floats
    covered: Floats
    candidate_used: Floats
    song_map: dict[int, tuple[int, float]]
    log_evidence: float
    missed: float
    rounds: int


def align(video: VideoEvidence, clips: Sequence[ClipFact], model: AlignmentModel | None = None) -> Alignment:
    """The places of `clips`, in their order, in `video`.

    Raises:
        ValueError: times that are given contradict the order of the clips.
    """
    model = model or AlignmentModel()
    clips = list(clips)
    _check_order(clips)
    lattice = _Lattice(video, clips, model)
    songs = _SongEvidence(video, clips, model)
    trust, missed = (0.0, 1.0), model.missed
    bonus: list[Floats | None] = [None] * len(clips)
    rounds = 0
    for rounds in range(1, max(1, model.rounds) + 1):
        posterior = lattice.solve(bonus, trust, missed)
        if rounds >= model.rounds:
            break
        before = (trust, missed, [b if b is None else b.copy() for b in bonus])
        if model.calibrate:
            trust, missed = lattice.calibrated(posterior, model)
        bonus = songs.bonus(lattice, posterior)
        if _settled(before, (trust, missed, bonus)):
            break
    return lattice.result(posterior, songs, missed, rounds)


def log_evidence(video: VideoEvidence, clips: Sequence[ClipFact], model: AlignmentModel | None = None) -> float:
    """`Alignment.log_evidence` alone, from order and lengths only and on a coarser grid: a tenth of the time."""
    quick = replace(model or AlignmentModel(), grid_s=0.5, rounds=1)
    clips = list(clips)
    lattice = _Lattice(video, clips, quick)
    return lattice.forward([None] * len(clips), (0.0, 1.0), quick.missed)[2]


def _check_order(clips: Sequence[ClipFact]) -> None:
    latest = -np.inf
    for i, clip in enumerate(clips):
        for at in (clip.start_s, clip.end_s):
            if at is None:
                continue
            if at < latest - _SAME_INSTANT_S:
                raise ValueError(f"clip {i} in order has a time of {at:g} s, after one at {latest:g} s")
            latest = max(latest, at)


def _settled(before: tuple, after: tuple) -> bool:
    moved = max(abs(before[0][0] - after[0][0]), abs(before[0][1] - after[0][1]), 20 * abs(before[1] - after[1]))
    for old, new in zip(before[2], after[2], strict=True):
        if new is not None and len(new):
            step = np.diff(new) - (0 if old is None else np.diff(old))  # of at most one grid step each
            moved = max(moved, 2 * float(np.abs(step).max(initial=0.0)))
    return moved < 0.05


# ------------------------------------------------------------------------------------------- the lattice


@dataclass(frozen=True)
class _Pairs:
    """Pairs of positions that one clip may span, ordered by start; `by_end` orders them by end."""

    start: Ints
    end: Ints
    log_density: Floats
    by_end: Ints
    starts: Ints  # distinct starts, and where each begins
    start_at: Ints
    ends: Ints
    end_at: Ints


@dataclass(frozen=True)
class _Posterior:
    """Per clip: probabilities of its pairs; per position: of being a boundary; per clip and position: the marginals."""

    pairs: list[_Pairs]
    mass: list[Floats]
    start: Floats  # (clips, positions)
    end: Floats
    boundary: Floats  # (positions,)
    log_evidence: float

    @property
    def cover(self) -> Floats:
        """(clips, positions) probability that the clip covers the stretch from this position to the next."""
        return np.clip(np.cumsum(self.start - self.end, axis=1), 0.0, 1.0)


class _Lattice:
    """Positions at which a clip may begin or end, and the recursions over them."""

    def __init__(self, video: VideoEvidence, clips: list[ClipFact], model: AlignmentModel) -> None:
        self.clips, self.n_candidates = clips, len(video.candidate_s)
        told = [t for clip in clips for t in (clip.start_s, clip.end_s) if t is not None]
        last = max([float(video.duration_s), *told, model.grid_s])
        if last > _LONG_S:
            model = replace(model, grid_s=max(model.grid_s, _LONG_GRID_S))
        self.model = model
        self.t, self.candidate, self.logit = _positions(video, sorted(told), last, model)
        n = len(self.t)
        self.rate = (len(clips) + 1) / last
        self.log_gap = np.full(n, np.log(model.gap))
        self.log_no_gap = np.full(n, np.log1p(-model.gap))
        self.log_gap[0], self.log_no_gap[0] = np.log(model.edge_gap), np.log1p(-model.edge_gap)
        rejected = np.zeros(n)
        for (a, b), confidence in zip(video.rejected_s, video.rejected_confidence, strict=True):
            share = (np.clip(self.t, a, b) - a) / max(b - a, 1e-9)
            rejected += share * _logit(confidence, model)
        self.rejected = rejected
        self._windows: dict[object, _Pairs] = {}
        self.pairs = [self._pairs_of(clip) for clip in clips]

    # ---- which pairs a clip may span

    def _pairs_of(self, clip: ClipFact) -> _Pairs:
        if clip.start_s is None and clip.end_s is None:
            if clip.segments not in self._windows:
                self._windows[clip.segments] = self._window(clip.segments)
            return self._windows[clip.segments]
        if clip.start_s is not None and clip.end_s is not None:
            return _pairs(
                np.array([self._at(clip.start_s)]), np.array([max(self._at(clip.end_s), self._at(clip.start_s) + 1)])
            )
        window = self._pairs_of(replace(clip, start_s=None, end_s=None))
        told = self._at(clip.start_s if clip.start_s is not None else clip.end_s or 0.0)
        kept = np.flatnonzero((window.end if clip.start_s is None else window.start) == told)
        if len(kept):
            return _pairs(window.start[kept], window.end[kept], window.log_density[kept])
        # No length that its segments allow: a person's word counts for more.
        others = np.arange(told) if clip.start_s is None else np.arange(told + 1, len(self.t))
        here = np.full(len(others), told)
        return _pairs(others, here) if clip.start_s is None else _pairs(here, others)

    def _at(self, seconds: float) -> int:
        return int(np.abs(self.t - seconds).argmin())

    def _window(self, segments: int | None) -> _Pairs:
        model, t = self.model, self.t
        if segments is None:
            low, high = model.no_segments_s
            soft = 0.0
        else:
            low, high = SEGMENT_S * segments, SEGMENT_S * (segments + 1)
            soft = max(8 * model.segment_edge_s, 3 * model.off_length_s if model.off_length else 0.0)
        first = np.searchsorted(t, t + max(low - soft, 1e-6))
        stop = np.searchsorted(t, t + high + soft, side="right")
        count = np.maximum(stop - first, 0)
        start = np.repeat(np.arange(len(t)), count)
        end = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        length = t[end] - t[start]
        if segments is None:
            density = -np.log(length) - np.log(np.log(high / low))
        else:
            edges = _sigmoid((length - low) / model.segment_edge_s) * _sigmoid((high - length) / model.segment_edge_s)
            outside = np.maximum(0.0, np.maximum(low - length, length - high))
            tail = np.exp(-outside / model.off_length_s) / (high - low + 2 * model.off_length_s)
            mixed = (1 - model.off_length) * edges / (high - low) + model.off_length * tail
            density = np.log(mixed + 1e-300)
        return _pairs(start, end, density)

    # ---- the recursions

    def weights(self, trust: tuple[float, float], missed: float) -> tuple[Floats, Floats]:
        """Log-weight of a boundary at each position, and of passing over it inside a gap."""
        is_candidate = self.candidate >= 0
        log_odds = trust[0] + trust[1] * self.logit
        arrive = np.where(is_candidate, log_odds - np.log(self.rate), np.log(missed * self.model.grid_s))
        arrive[self.candidate == -3] = _logit(0.99, self.model) - np.log(self.rate)
        arrive[-1] = 0.0
        q = self.model.gap_boundaries
        passed = np.where(is_candidate, np.logaddexp(np.log1p(-q), np.log(q) + log_odds), 0.0)
        return arrive, passed

    def forward(
        self, bonus: list[Floats | None], trust: tuple[float, float], missed: float
    ) -> tuple[list[Floats], tuple[list[Floats], Floats, Floats], float]:
        """The recursion from the start.

        Returns:
            Per clip, log-weight of all beginnings that end where the clip may start; what the way back needs; and
            the logarithm of the sum over all layouts.
        """
        model, n = self.model, len(self.t)
        arrive, passed = self.weights(trust, missed)
        passed_to = np.cumsum(passed)
        here = np.full(n, _NEVER)
        here[0] = 0.0
        ready, scores = [], []
        for clip, pairs, extra in zip(self.clips, self.pairs, bonus, strict=True):
            begin = np.logaddexp(here + self.log_no_gap, self._gap_to(here + self.log_gap, arrive, passed_to))
            score = pairs.log_density + arrive[pairs.end] + np.log1p(-model.skipped)
            if extra is not None:
                score = score + self._mean_bonus(pairs, extra)
            ready.append(begin)
            scores.append(score)
            ended = np.full(n, _NEVER)
            ended[pairs.ends] = _segment_lse((begin[pairs.start] + score)[pairs.by_end], pairs.end_at)
            may_skip = clip.start_s is None and clip.end_s is None
            here = np.logaddexp(ended, here + np.log(model.skipped)) if may_skip else ended
        final = self._final(passed_to)
        return ready, (scores, arrive, passed_to), float(_lse(here + final))

    def _final(self, passed_to: Floats) -> Floats:
        """Log-weight of what comes after the last clip, for each place where that ends."""
        model = self.model
        length = self.t[-1] - self.t
        between = passed_to[-2] - passed_to if len(passed_to) > 1 else np.zeros_like(length)
        gap = np.log(model.edge_gap) - length / model.gap_mean_s - np.log(model.gap_mean_s)
        out = gap + between + (self.rejected[-1] - self.rejected)
        out[-1] = np.log1p(-model.edge_gap)
        return out

    def _gap_to(self, from_: Floats, arrive: Floats, passed_to: Floats) -> Floats:
        """Log-weight of being at the end of a gap at each position, given that of its beginnings."""
        mean = self.model.gap_mean_s
        collected = np.logaddexp.accumulate(from_ - passed_to + self.t / mean - self.rejected)
        out = np.full(len(self.t), _NEVER)
        out[1:] = collected[:-1] + passed_to[:-1]
        return out - self.t / mean + self.rejected + arrive - np.log(mean)

    def _gap_from(self, to: Floats, arrive: Floats, passed_to: Floats) -> Floats:
        """The same the other way: of all gaps that begin at each position, given the log-weight of their ends."""
        mean = self.model.gap_mean_s
        ends = np.full(len(self.t), _NEVER)
        ends[:-1] = (to + arrive - self.t / mean + self.rejected)[1:] + passed_to[:-1]
        collected = np.logaddexp.accumulate(ends[::-1])[::-1]
        return collected - passed_to + self.t / mean - self.rejected - np.log(mean)

    def solve(self, bonus: list[Floats | None], trust: tuple[float, float], missed: float) -> _Posterior:
        """Posterior of every pair of boundaries of every clip."""
        n, model = len(self.t), self.model
        ready, (scores, arrive, passed_to), evidence = self.forward(bonus, trust, missed)
        start, end = np.zeros((len(self.clips), n)), np.zeros((len(self.clips), n))
        mass: list[Floats] = [np.zeros(0)] * len(self.clips)
        boundary = np.zeros(n)
        after = self._final(passed_to)
        for i in reversed(range(len(self.clips))):
            pairs = self.pairs[i]
            rest = scores.pop() + after[pairs.end]
            mass[i] = np.exp(ready[i][pairs.start] + rest - evidence)
            start[i] = np.bincount(pairs.start, mass[i], n)
            end[i] = np.bincount(pairs.end, mass[i], n)
            begin = np.full(n, _NEVER)
            begin[pairs.starts] = _segment_lse(rest, pairs.start_at)
            via_gap = self.log_gap + self._gap_from(begin, arrive, passed_to)
            here = np.logaddexp(begin + self.log_no_gap, via_gap)
            if self.clips[i].start_s is None and self.clips[i].end_s is None:
                here = np.logaddexp(here, after + np.log(model.skipped))
            after = here
        # A boundary is where a clip ends, or where one starts that no other ended at: the union is bounded by both.
        boundary = np.clip(np.maximum(start.sum(0), end.sum(0)), 0.0, 1.0)
        return _Posterior(self.pairs, mass, start, end, boundary, evidence)

    def _mean_bonus(self, pairs: _Pairs, collected: Floats) -> Floats:
        return (collected[pairs.end] - collected[pairs.start]) / (self.t[pairs.end] - self.t[pairs.start])

    # ---- what is estimated between rounds

    def calibrated(self, posterior: _Posterior, model: AlignmentModel) -> tuple[tuple[float, float], float]:
        """Trust in the candidates' log-odds as `(offset, slope)`, and the chance of a miss, from the posterior.

        A logistic regression of "is a boundary" on the candidates' log-odds, by Newton's method, held near (0, 1) by a
        penalty that is worth a handful of candidates; candidates inside gaps tell nothing.
        """
        at = np.flatnonzero(self.candidate >= 0)
        used = posterior.boundary[at]
        cover = posterior.cover.sum(0)
        inside = np.minimum(cover[at], cover[np.maximum(at - 1, 0)])
        weight = np.clip(np.maximum(used, inside), 0.0, 1.0)
        x = np.stack([np.ones(len(at)), self.logit[at]], axis=1)
        prior, theta = np.array([0.0, 1.0]), np.array([0.0, 1.0])
        stiff = np.diag([2.0, 8.0])
        for _ in range(8):
            p = _sigmoid(x @ theta)
            gradient = x.T @ (weight * (used - p)) - stiff @ (theta - prior)
            hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + stiff
            theta = theta + np.linalg.solve(hessian, gradient)
        theta = np.clip(theta, [-3.0, 0.2], [3.0, 1.5])
        grid = self.candidate == -1
        lost, all_ = posterior.boundary[grid].sum(), posterior.boundary[1:-1].sum()
        prior_n = 10.0
        missed = (lost + prior_n * model.missed) / (all_ + prior_n)
        return (float(theta[0]), float(theta[1])), float(np.clip(missed, 0.003, 0.5))

    # ---- the answer

    def result(self, posterior: _Posterior, songs: _SongEvidence, missed: float, rounds: int) -> Alignment:
        n = len(self.clips)
        time = {name: np.full(n, np.nan) for name in ("start", "end")}
        sure = {name: np.zeros(n) for name in ("start", "end", "both")}
        kind = {name: np.full(n, -1) for name in ("start", "end")}
        for i, (a, b) in enumerate(_most_within(self.t, posterior)):
            if a >= 0:
                for name, index, told in (("start", a, self.clips[i].start_s), ("end", b, self.clips[i].end_s)):
                    time[name][i] = self.t[index] if told is None else told
                    kind[name][i] = self.candidate[index] if told is None else -3
        _join(time["start"], time["end"], kind["start"], kind["end"])
        for i in np.flatnonzero(~np.isnan(time["start"])):
            near_start, near_end = self._near(time["start"][i]), self._near(time["end"][i])
            pairs = self.pairs[i]
            sure["start"][i] = 1.0 if kind["start"][i] == -3 else posterior.start[i] @ near_start
            sure["end"][i] = 1.0 if kind["end"][i] == -3 else posterior.end[i] @ near_end
            sure["both"][i] = posterior.mass[i] @ (near_start[pairs.start] * near_end[pairs.end])
        used = np.zeros(self.n_candidates)
        at = np.flatnonzero(self.candidate >= 0)
        used[self.candidate[at]] = posterior.boundary[at]
        share, song_map = songs.summary(time["start"], time["end"], self, posterior)
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
            self.t,
            np.clip(posterior.cover.sum(0), 0.0, 1.0),
            used,
            song_map,
            posterior.log_evidence,
            missed,
            rounds,
        )

    def _near(self, at: float) -> Floats:
        """(positions,) 1 where within the tolerance of `at`; an instant of the grid counts for the step around it."""
        away = np.abs(self.t - at)
        step = self.model.grid_s
        on_grid = np.clip((TOLERANCE_S + step / 2 - away) / step, 0.0, 1.0)
        return np.where(self.candidate == -1, on_grid, away <= TOLERANCE_S + 1e-9)


def _join(start: Floats, end: Floats, start_kind: Ints, end_kind: Ints) -> None:
    """Let neighbours that meet at a missed cut, chosen for each apart, meet in one instant."""
    for i in range(len(start) - 1):
        if not 0 < start[i + 1] - end[i] <= TOLERANCE_S or -1 not in (end_kind[i], start_kind[i + 1]):
            continue
        if end_kind[i] == start_kind[i + 1]:
            end[i] = start[i + 1] = (end[i] + start[i + 1]) / 2
        elif end_kind[i] == -1:
            end[i], end_kind[i] = start[i + 1], start_kind[i + 1]
        else:
            start[i + 1], start_kind[i + 1] = end[i], end_kind[i]


def _positions(
    video: VideoEvidence, told: list[float], last: float, model: AlignmentModel
) -> tuple[Floats, Ints, Floats]:
    """Instants, candidate index (-1 grid, -2 edge, -3 told by a person) and log-odds of every position, ascending."""
    taken: list[tuple[float, int, float]] = [(0.0, -2, 0.0), (last, -2, 0.0)]
    for at in told:
        if all(abs(at - other[0]) > _SAME_INSTANT_S for other in taken):
            taken.append((at, -3, 0.0))
    fixed = np.array([at for at, _, _ in taken])
    confidence = np.asarray(video.candidate_confidence, np.float64)
    kept: list[tuple[float, int, float]] = []
    for k in np.argsort(-confidence, kind="stable"):
        at = float(video.candidate_s[k])
        if not (_EDGE_S < at < last - _EDGE_S) or np.abs(fixed - at).min() <= _SAME_INSTANT_S:
            continue
        if any(abs(at - other[0]) <= _SAME_INSTANT_S for other in kept):
            continue
        kept.append((at, int(k), float(_logit(confidence[k], model))))
    # Of two candidates so near to each other (the two ends of a cross-fade) at most one is used; the weaker is no
    # evidence against a clip that begins or ends at the stronger.
    for place, (at, k, value) in enumerate(kept):
        if value > 0 and any(abs(at - stronger[0]) <= _ONE_CUT_S for stronger in kept[:place]):
            kept[place] = (at, k, 0.0)
    taken += kept
    taken.sort()
    times = np.array([at for at, _, _ in taken])
    grid = np.arange(model.grid_s, last, model.grid_s)
    after = np.minimum(np.searchsorted(times, grid), len(times) - 1)
    free = np.minimum(np.abs(times[after] - grid), np.abs(grid - times[np.maximum(after - 1, 0)])) > _SAME_INSTANT_S
    grid = grid[free]
    t = np.concatenate([times, grid])
    candidate = np.concatenate([[k for _, k, _ in taken], np.full(len(grid), -1)]).astype(np.int64)
    logit = np.concatenate([[value for _, _, value in taken], np.zeros(len(grid))])
    order = np.argsort(t, kind="stable")
    return t[order], candidate[order], logit[order]


def _pairs(start: Ints, end: Ints, log_density: Floats | None = None) -> _Pairs:
    by_end = np.argsort(end, kind="stable")
    starts, start_at = np.unique(start, return_index=True)
    ends, end_at = np.unique(end[by_end], return_index=True)
    density = np.zeros(len(start)) if log_density is None else log_density
    return _Pairs(start, end, density, by_end, starts, start_at, ends, end_at)


def _most_within(t: Floats, posterior: _Posterior) -> list[tuple[int, int]]:
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
        worth = np.where(gain > 1 - mass.sum(), gain + 0.01 * own, _NEVER)
        total = best[a] + worth
        by_end = np.full(len(t), _NEVER)
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
        top = float(reach.max(initial=_NEVER))
        if top <= before[limit]:
            out.append((-1, -1))
            continue
        k = int(pick[int(np.flatnonzero(reach == top)[-1])])
        a, b, *_ = options[i]
        out.append((int(a[k]), int(b[k])))
        limit = int(a[k])
    return out[::-1]


# ------------------------------------------------------------------------------------------- songs and dancers


class _SongEvidence:
    """What proposed songs and numbers of dancers say of where each clip is."""

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

    def overlap(self, lattice: _Lattice, cover: Floats) -> Floats:
        """(clips, stretches) expected seconds of each clip in each stretch."""
        t = lattice.t
        out = np.zeros((len(cover), len(self.video.stretch_s)))
        for i, row in enumerate(cover):
            total = np.concatenate([[0.0], np.cumsum(row[:-1] * np.diff(t))])
            out[i] = np.diff(np.interp(self.video.stretch_s, t, total), axis=1)[:, 0] if out.shape[1] else 0.0
        return out

    def bonus(self, lattice: _Lattice, posterior: _Posterior) -> list[Floats | None]:
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
        of_clip *= np.minimum(1.0, overlap.sum(1, keepdims=True) / 1.0)
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
        self, start_s: Floats, end_s: Floats, lattice: _Lattice, posterior: _Posterior
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


# ------------------------------------------------------------------------------------------- sums of logarithms


def _logit(confidence: float | Floats, model: AlignmentModel) -> Floats:
    p = np.clip(confidence, model.least_confidence, model.most_confidence)
    return np.log(p) - np.log1p(-p)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _lse(values: Floats) -> float:
    top = values.max(initial=_NEVER)
    return float(top) if not np.isfinite(top) else float(top + np.log(np.exp(values - top).sum()))


def _segment_lse(values: Floats, at: Ints) -> Floats:
    """Log-sum-exp of each run of `values`; the runs begin at `at`."""
    if not len(at):
        return np.zeros(0)
    top = np.maximum.reduceat(values, at)
    safe = np.where(np.isfinite(top), top, 0.0)
    width = np.diff(np.append(at, len(values)))
    with np.errstate(divide="ignore"):
        return np.log(np.add.reduceat(np.exp(values - np.repeat(safe, width)), at)) + safe
