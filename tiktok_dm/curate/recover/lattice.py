"""Every way to lay a list of clips out in a video, summed: the hidden semi-Markov model behind `align`.

Positions are the instants at which a clip may begin or end: candidates, the video's edges, times that a person gave,
and a fine grid for cuts that were missed. A clip spans a pair of positions; between two clips there is nothing or a
gap. The forward-backward recursion over (clip, position) gives the posterior of every pair (Ostendorf, Digalakis and
Kimball 1996). All weights are logarithms.

Not for choosing one layout, nor for the rounds in which songs and trust are estimated (`align`); not for what songs say
(`alignment_songs`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tiktok_dm.curate.recover.model import EDGE, GRID, TOLD, AlignmentModel, ClipFact, Floats, Ints, VideoEvidence
from tiktok_dm.schema import SEGMENT_S

NEVER = -np.inf
SAME_INSTANT_S = 0.02  # candidates nearer to each other than this are one: half a frame at 25 fps
_EDGE_S = 0.1  # a candidate this near to the first or last instant is that edge
_ONE_CUT_S = 0.3  # two candidates this near are seldom two boundaries
_LONG_S, _LONG_GRID_S = 1500.0, 1 / 3  # longer videos get a coarser grid: time and memory grow with its square


@dataclass(frozen=True)
class Pairs:
    """Pairs of positions that one clip may span, ordered by start; `by_end` orders them by end.

    Args:
        start, end: (pairs,) indices of positions.
        log_density: (pairs,) of a clip's length, per second.
        by_end: (pairs,) indices of pairs, ordered by end.
        starts, start_at: distinct starts, and the first of the pairs with each.
        ends, end_at: the same of ends, in the order of `by_end`.
    """

    start: Ints
    end: Ints
    log_density: Floats
    by_end: Ints
    starts: Ints
    start_at: Ints
    ends: Ints
    end_at: Ints


@dataclass(frozen=True)
class Posterior:
    """Where the clips are, as probabilities.

    Args:
        pairs: of each clip.
        mass: (pairs,) of each clip: probability of each of its pairs.
        start, end: (clips, positions) probability that the clip starts, or ends, there.
        boundary: (positions,) probability that any clip starts or ends there.
        log_evidence: logarithm of the sum over all layouts.
    """

    pairs: list[Pairs]
    mass: list[Floats]
    start: Floats
    end: Floats
    boundary: Floats
    log_evidence: float

    @property
    def cover(self) -> Floats:
        """(clips, positions) probability that the clip covers the stretch from this position to the next."""
        return np.clip(np.cumsum(self.start - self.end, axis=1), 0.0, 1.0)


class Lattice:
    """Positions at which a clip may begin or end, and the recursions over them.

    Args:
        clips: in their order in the video.
        model: its grid is made coarser for a long video.

    Attributes:
        t: (positions,) instants in s, ascending, from 0 to the end of the video.
        candidate: (positions,) index of the candidate there, else `GRID`, `EDGE` or `TOLD`.
        logit: (positions,) log-odds of the candidate there; 0 elsewhere.
        rejected: (positions,) log-odds collected from the start on that a gap gains by lying in rejected stretches.
        pairs: of each clip.
    """

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
        self._windows: dict[object, Pairs] = {}
        self.pairs = [self._pairs_of(clip) for clip in clips]

    # ---- which pairs a clip may span

    def _pairs_of(self, clip: ClipFact) -> Pairs:
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

    def _window(self, segments: int | None) -> Pairs:
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
        """Log-weight of a boundary at each position, and of passing over it inside a gap.

        Args:
            trust: (offset, slope) that is put on the candidates' log-odds.
            missed: chance that a boundary has no candidate.
        """
        is_candidate = self.candidate >= 0
        log_odds = trust[0] + trust[1] * self.logit
        arrive = np.where(is_candidate, log_odds - np.log(self.rate), np.log(missed * self.model.grid_s))
        arrive[self.candidate == TOLD] = _logit(0.99, self.model) - np.log(self.rate)
        arrive[-1] = 0.0
        q = self.model.gap_boundaries
        passed = np.where(is_candidate, np.logaddexp(np.log1p(-q), np.log(q) + log_odds), 0.0)
        return arrive, passed

    def forward(
        self, bonus: list[Floats | None], trust: tuple[float, float], missed: float
    ) -> tuple[list[Floats], tuple[list[Floats], Floats, Floats], float]:
        """The recursion from the start.

        Args:
            bonus: per clip, (positions,) log-likelihood ratio collected up to each position, see `_mean_bonus`; None
                where nothing is told.
            trust, missed: see `weights`.

        Returns:
            Per clip, log-weight of all beginnings that end where the clip may start; what the way back needs; and
            the logarithm of the sum over all layouts.
        """
        model, n = self.model, len(self.t)
        arrive, passed = self.weights(trust, missed)
        passed_to = np.cumsum(passed)
        here = np.full(n, NEVER)
        here[0] = 0.0
        ready, scores = [], []
        for clip, pairs, extra in zip(self.clips, self.pairs, bonus, strict=True):
            begin = np.logaddexp(here + self.log_no_gap, self._gap_to(here + self.log_gap, arrive, passed_to))
            score = pairs.log_density + arrive[pairs.end] + np.log1p(-model.skipped)
            if extra is not None:
                score = score + self._mean_bonus(pairs, extra)
            ready.append(begin)
            scores.append(score)
            ended = np.full(n, NEVER)
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
        out = np.full(len(self.t), NEVER)
        out[1:] = collected[:-1] + passed_to[:-1]
        return out - self.t / mean + self.rejected + arrive - np.log(mean)

    def _gap_from(self, to: Floats, arrive: Floats, passed_to: Floats) -> Floats:
        """The same the other way: of all gaps that begin at each position, given the log-weight of their ends."""
        mean = self.model.gap_mean_s
        ends = np.full(len(self.t), NEVER)
        ends[:-1] = (to + arrive - self.t / mean + self.rejected)[1:] + passed_to[:-1]
        collected = np.logaddexp.accumulate(ends[::-1])[::-1]
        return collected - passed_to + self.t / mean - self.rejected - np.log(mean)

    def solve(self, bonus: list[Floats | None], trust: tuple[float, float], missed: float) -> Posterior:
        """Posterior of every pair of boundaries of every clip; arguments as for `forward`."""
        n, model = len(self.t), self.model
        ready, (scores, arrive, passed_to), evidence = self.forward(bonus, trust, missed)
        start, end = np.zeros((len(self.clips), n)), np.zeros((len(self.clips), n))
        mass: list[Floats] = [np.zeros(0)] * len(self.clips)
        after = self._final(passed_to)
        for i in reversed(range(len(self.clips))):
            pairs = self.pairs[i]
            rest = scores.pop() + after[pairs.end]
            mass[i] = np.exp(ready[i][pairs.start] + rest - evidence)
            start[i] = np.bincount(pairs.start, mass[i], n)
            end[i] = np.bincount(pairs.end, mass[i], n)
            begin = np.full(n, NEVER)
            begin[pairs.starts] = _segment_lse(rest, pairs.start_at)
            via_gap = self.log_gap + self._gap_from(begin, arrive, passed_to)
            here = np.logaddexp(begin + self.log_no_gap, via_gap)
            if self.clips[i].start_s is None and self.clips[i].end_s is None:
                here = np.logaddexp(here, after + np.log(model.skipped))
            after = here
        # A boundary is where a clip ends, or where one starts that no other ended at: the union is bounded by both.
        boundary = np.clip(np.maximum(start.sum(0), end.sum(0)), 0.0, 1.0)
        return Posterior(self.pairs, mass, start, end, boundary, evidence)

    def _mean_bonus(self, pairs: Pairs, collected: Floats) -> Floats:
        """(pairs,) mean of what is collected over each pair: a longer clip is no surer of its song."""
        return (collected[pairs.end] - collected[pairs.start]) / (self.t[pairs.end] - self.t[pairs.start])

    # ---- what is estimated between rounds

    def calibrated(self, posterior: Posterior) -> tuple[tuple[float, float], float]:
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
        grid = self.candidate == GRID
        lost, all_ = posterior.boundary[grid].sum(), posterior.boundary[1:-1].sum()
        prior_n = 10.0
        missed = (lost + prior_n * self.model.missed) / (all_ + prior_n)
        return (float(theta[0]), float(theta[1])), float(np.clip(missed, 0.003, 0.5))


def _positions(
    video: VideoEvidence, told: list[float], last: float, model: AlignmentModel
) -> tuple[Floats, Ints, Floats]:
    """`t`, `candidate` and `logit` of a `Lattice`."""
    taken: list[tuple[float, int, float]] = [(0.0, EDGE, 0.0), (last, EDGE, 0.0)]
    for at in told:
        if all(abs(at - other[0]) > SAME_INSTANT_S for other in taken):
            taken.append((at, TOLD, 0.0))
    fixed = np.array([at for at, _, _ in taken])
    confidence = np.asarray(video.candidate_confidence, np.float64)
    kept: list[tuple[float, int, float]] = []
    for k in np.argsort(-confidence, kind="stable"):
        at = float(video.candidate_s[k])
        if not (_EDGE_S < at < last - _EDGE_S) or np.abs(fixed - at).min() <= SAME_INSTANT_S:
            continue
        if any(abs(at - other[0]) <= SAME_INSTANT_S for other in kept):
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
    free = np.minimum(np.abs(times[after] - grid), np.abs(grid - times[np.maximum(after - 1, 0)])) > SAME_INSTANT_S
    grid = grid[free]
    t = np.concatenate([times, grid])
    candidate = np.concatenate([[k for _, k, _ in taken], np.full(len(grid), GRID)]).astype(np.int64)
    logit = np.concatenate([[value for _, _, value in taken], np.zeros(len(grid))])
    order = np.argsort(t, kind="stable")
    return t[order], candidate[order], logit[order]


def _pairs(start: Ints, end: Ints, log_density: Floats | None = None) -> Pairs:
    by_end = np.argsort(end, kind="stable")
    starts, start_at = np.unique(start, return_index=True)
    ends, end_at = np.unique(end[by_end], return_index=True)
    density = np.zeros(len(start)) if log_density is None else log_density
    return Pairs(start, end, density, by_end, starts, start_at, ends, end_at)


# ------------------------------------------------------------------------------------------- sums of logarithms


def _logit(confidence: float | Floats, model: AlignmentModel) -> Floats:
    p = np.clip(confidence, model.least_confidence, model.most_confidence)
    return np.log(p) - np.log1p(-p)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _lse(values: Floats) -> float:
    """Log-sum-exp; minus infinity of nothing."""
    top = values.max(initial=NEVER)
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
