"""From people in single frames to dancers followed through a clip, and from their tracks to the array of a clip.

What is done once a clip has been seen to its end.

Common to all estimators.

`track_poses` streams: it holds one batch of pictures, or the last few, at a time; of the rest only poses.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.pose.base import Detection, Estimator, PersonWeights, Picture, Region
from tiktok_dm.pose.skeletons import BODY_25, Pose, to_body_25

_JOINTS = len(BODY_25.joints)
# Faint detections must add up to this before they make a dancer: five to ten of them, each of score 0.2 to 0.4.
_FAINT_DETECTIONS = 2.0
# Shorter pieces of track are no evidence of anybody, and there may be many of them.
SHORTEST_PIECE = 3
# Savitzky and Golay (1964), five points, quadratic: keeps 91 % of a movement at 5 Hz, 23 % of one at 10 Hz, and does
# not delay. On rendered dancers it brings the mean second difference from 2.5 times the true one to 1.5 times, and the
# correlation of wrist speed with the true one from 0.97 to 0.99.
_SMOOTHING = np.array([-3, 12, 17, 12, -3], np.float32) / 35
_NOWHERE = Region(0, 0, 1, 1)
# Of dancers in real clips the least sure has 0.95 of the surest one's mean confidence, and is 0.23 as wide as high.
_GHOST_SURE = 0.65
_LIKE_OTHERS = 0.92
_GHOST_WIDTH = 0.12
_GHOST_INSIDE = 0.6  # share of a second skeleton's rectangle that lies inside the first one's
# How far people get, in units of `pose_scale` a picture, and how much their size changes while nobody sees them.
_SPEED = 0.5
_GROWTH = 2.0


@dataclass(frozen=True)
class TrackingParams:
    """What the tracker may be told; times in pictures of the 30-fps grid.

    Args:
        max_dancers: at most so many dancers are kept, largest first.
        detect_every: while all dancers are being followed, the detector looks for new ones every so many pictures.
        settle: at the beginning of a clip the detector looks at so many pictures, one by one: dancers half hidden by
            others are seen in some only.
        look_back: a dancer noticed late is followed backwards through so many pictures, which are held in memory.
        patience: a dancer lost for longer than this comes back as a new track (and may be joined to the old one later).
        min_score: below this chance of a person in the region, the picture does not count.
        min_confidence: joints below this are missing (zeros).
        same_person: two poses nearer than this, in units of `pose_scale`, are one person.
        reach: how far a lost dancer may have moved, in units of `pose_scale`.
        min_share: tracks seen in a smaller share of the clip are not dancers (passers-by, false finds).
        max_gap: shorter gaps in a track are bridged by straight lines; longer ones stay empty.
        bridged_confidence: factor on the confidence of bridged joints.
        smooth: take single pictures' jitter out (see `smoothed`).
    """

    max_dancers: int = 5
    detect_every: int = 6
    settle: int = 15
    look_back: int = 12
    patience: int = 30
    min_score: float = 0.5
    min_confidence: float = 0.2
    same_person: float = 0.25
    reach: float = 0.8
    min_share: float = 0.2
    max_gap: int = 10
    bridged_confidence: float = 0.5
    smooth: bool = True


def pose_scale(pose: Pose) -> float:
    """Size of a person in px: square root of the area of the rectangle about the visible joints, at least 1."""
    seen = pose[pose[:, 2] > 0, :2]
    if len(seen) < 2:
        return 1.0
    return float(max(1.0, np.sqrt(np.prod(np.maximum(np.ptp(seen, axis=0), 1)))))


def pose_distance(a: Pose, b: Pose) -> float:
    """Mean distance of the joints that both poses show, over the larger `pose_scale`; infinite below three joints."""
    both = (a[:, 2] > 0) & (b[:, 2] > 0)
    if both.sum() < 3:
        return float("inf")
    distance = np.linalg.norm(a[both, :2] - b[both, :2], axis=1).mean()
    return float(distance / max(pose_scale(a), pose_scale(b)))


@dataclass
class Track:
    """One person through time."""

    poses: dict[int, Pose] = field(default_factory=dict)
    region: Region = _NOWHERE
    origin: Region = _NOWHERE  # where to look before the first pose
    best_detection: float = 0.0  # of the detections that showed this person
    all_detections: float = 0.0  # sum of their scores
    searches: int = 0  # pictures with a pose in which the detector looked for people

    @property
    def first(self) -> int:
        """First picture with a pose."""
        return next(iter(self.poses))

    @property
    def last(self) -> int:
        """Last picture with a pose."""
        return next(reversed(self.poses))

    def add(self, index: int, pose: Pose, region: Region, detected: float) -> None:
        """Note a pose, where to look next, and the score of the detection that shows the same person (or 0)."""
        if not self.poses:
            self.origin = region
        self.poses[index] = pose
        self.region = region
        self.best_detection = max(self.best_detection, detected)
        self.all_detections += detected

    def add_before(self, index: int, pose: Pose, region: Region) -> None:
        """Note a pose earlier than all others."""
        self.poses = {index: pose, **self.poses}
        self.origin = region


def assemble(
    tracks: Sequence[Track],
    n_frames: int,
    high_score: float,
    params: TrackingParams,
    weights: PersonWeights | None = None,
) -> NDArray[np.float32]:
    """Tracks -> (frames, dancers, 25, 3): pieces of one dancer joined, short ones dropped, gaps bridged, ordered.

    A track begins with any detection, but counts only when the detector was sure of it (`high_score`) once, or saw it
    faintly many times (`_FAINT_DETECTIONS`), and it is not furniture by the estimator's `weights` (`is_person`).
    """
    least = max(2, params.min_share * n_frames)
    tracks = [
        track
        for track in _rejoined(_without_ghosts(_joined(tracks, params), weights), params)
        if len(track.poses) >= least
        and (track.best_detection >= high_score or track.all_detections >= _FAINT_DETECTIONS)
    ]
    out = np.zeros((n_frames, len(tracks), _JOINTS, 3), np.float32)
    for dancer, track in enumerate(tracks):
        for index, pose in track.poses.items():
            out[index, dancer] = pose
    areas = visible_area(out).sum(axis=0)
    out = out[:, np.argsort(-areas, kind="stable")[: params.max_dancers]]
    if params.smooth:
        out = smoothed(out)
    for dancer in range(out.shape[1]):
        bridge(out[:, dancer], params.max_gap, params.bridged_confidence)
    return out


def visible_area(poses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Area in px^2 of the rectangle about the visible joints; 0 where there are none. (..., 25, 3) -> (...)."""
    seen = poses[..., 2:] > 0
    low = np.where(seen, poses[..., :2], np.inf).min(axis=-2)
    high = np.where(seen, poses[..., :2], -np.inf).max(axis=-2)
    sides = np.where(seen.any(axis=-2), high - low, 0)
    return np.asarray(np.prod(sides, axis=-1), dtype=np.float32)


def _joined(tracks: Sequence[Track], params: TrackingParams) -> list[Track]:
    """Join pieces that follow one another in time at about the same place and size, nearest in time first."""
    pieces = [replace(track, poses=dict(track.poses)) for track in tracks if len(track.poses) >= SHORTEST_PIECE]
    while True:
        best: tuple[int, float, Track, Track] | None = None
        for a in pieces:
            for b in pieces:
                if a.last < b.first:
                    distance = pose_distance(a.poses[a.last], b.poses[b.first])
                    if distance < params.reach and (best is None or (b.first - a.last, distance) < best[:2]):
                        best = (b.first - a.last, distance, a, b)
        if best is None:
            return pieces
        _join(best[2], best[3])
        pieces = [piece for piece in pieces if piece is not best[3]]


def evidence(track: Track) -> NDArray[np.float64]:
    """What tells a person's track from one on furniture, (4,): a skeleton that is unsure of its joints and trembles.

    Mean confidence of the joints; log of the mean second difference of the joints' places, in `pose_scale` a picture
    squared; log-odds of the best detection's score; log of the mean score over the pictures that were searched.
    """
    poses = np.stack(list(track.poses.values()))
    shown = poses[..., 2] > 0
    steady = shown[2:] & shown[1:-1] & shown[:-2]
    turns = np.linalg.norm(np.diff(poses[..., :2], n=2, axis=0), axis=-1)
    scale = float(np.median([pose_scale(pose) for pose in poses]))
    best = min(max(track.best_detection, 1e-3), 1 - 1e-3)
    return np.array(
        [
            poses[..., 2][shown].mean(),
            math.log(max(1e-4, turns[steady].mean() / scale)) if steady.any() else 0.0,
            math.log(best / (1 - best)),
            math.log(max(0.01, track.all_detections / max(1, track.searches))),
        ]
    )


def is_person(track: Track, weights: PersonWeights | None) -> bool:
    """Whether a track of at least `SHORTEST_PIECE` poses rather shows a person than furniture; yes without weights."""
    return weights is None or weights[0] + float(evidence(track) @ weights[1:]) > 0


def _without_ghosts(pieces: list[Track], weights: PersonWeights | None) -> list[Track]:
    """Pieces without skeletons on furniture, or on somebody who has one already: faint, thin, or short on another.

    A dancer half hidden by others may look like furniture, but is about as sure as somebody who does not.
    """

    def confidence(piece: Track) -> float:
        poses = np.stack(list(piece.poses.values()))
        return float(poses[..., 2][poses[..., 2] > 0].mean())

    def sides(poses: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([np.ptp(pose[pose[:, 2] > 0, :2], axis=0) for pose in poses])

    def is_on(piece: Track, other: Track) -> bool:
        both = piece.poses.keys() & other.poses.keys()
        shares = []
        for index in both:
            (low, high), (low_other, high_other) = (
                (seen.min(axis=0), seen.max(axis=0))
                for seen in (p[p[:, 2] > 0, :2] for p in (piece.poses[index], other.poses[index]))
            )
            inner = np.prod(np.clip(np.minimum(high, high_other) - np.maximum(low, low_other), 0, None))
            shares.append(inner / max(1.0, float(np.prod(high - low))))
        return len(both) >= 0.8 * len(piece.poses) and float(np.median(shares)) >= _GHOST_INSIDE

    sure = {id(piece): confidence(piece) for piece in pieces}
    people = {id(piece) for piece in pieces if is_person(piece, weights)}
    least = _LIKE_OTHERS if weights else _GHOST_SURE
    surest = max((sure[key] for key in people), default=math.inf)
    kept = []
    for piece in pieces:
        width, height = np.median(sides(np.stack(list(piece.poses.values()))), axis=0)
        doubled = any(
            2 * len(piece.poses) < len(other.poses) and sure[id(piece)] < sure[id(other)] and is_on(piece, other)
            for other in pieces
            if other is not piece
        )
        if (
            (sure[id(piece)] >= least * surest or (weights and id(piece) in people))
            and width >= _GHOST_WIDTH * height
            and not doubled
        ):
            kept.append(piece)
    return kept


def _rejoined(pieces: list[Track], params: TrackingParams) -> list[Track]:
    """Join pieces that are never seen together, nearest first, as far as somebody gets in the time between.

    So there are no more dancers than are seen together at some time, whoever left and came back: in one shot it is
    rarely somebody else.
    """
    pieces = list(pieces)
    while True:
        best: tuple[float, Track, Track] | None = None
        for a in pieces:
            for b in pieces:
                if a.last < b.first:
                    pose, then = a.poses[a.last], b.poses[b.first]
                    scales = pose_scale(pose), pose_scale(then)
                    distance = pose_distance(pose, then)
                    speed = distance - params.reach - _SPEED * (b.first - a.last)
                    if speed < 0 and max(scales) < _GROWTH * min(scales) and (best is None or distance < best[0]):
                        best = (distance, a, b)
        if best is None:
            return pieces
        _join(best[1], best[2])
        pieces = [piece for piece in pieces if piece is not best[2]]


def _join(first: Track, second: Track) -> None:
    """Add a later piece of a dancer to an earlier one."""
    first.poses.update(second.poses)
    first.best_detection = max(first.best_detection, second.best_detection)
    first.all_detections += second.all_detections
    first.searches += second.searches


def bridge(track: NDArray[np.float32], max_gap: int, factor: float) -> None:
    """Fill short gaps of each joint by straight lines, in place.

    A gap of at most `max_gap` pictures between two pictures that show the joint gets positions on the line between
    them, with confidence `factor` times the lower of the two ends. Longer gaps, and those at the ends of the clip,
    stay zeros: nobody knows what the dancer did in them.

    Args:
        track: (frames, joints, 3), changed.
    """
    for joint in range(track.shape[1]):
        seen = np.flatnonzero(track[:, joint, 2] > 0)
        for a, b in pairwise(seen):
            if 1 < b - a <= max_gap + 1:
                share = ((np.arange(a + 1, b) - a) / (b - a))[:, None]
                track[a + 1 : b, joint, :2] = track[a, joint, :2] * (1 - share) + track[b, joint, :2] * share
                track[a + 1 : b, joint, 2] = factor * min(track[a, joint, 2], track[b, joint, 2])


def smoothed(poses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions with single pictures' jitter taken out; a joint that is missing near by in time stays as it is.

    Args:
        poses: (frames, dancers, joints, 3).

    Returns:
        The same shape; confidences are unchanged.
    """
    out = poses.copy()
    inner = len(poses) - len(_SMOOTHING) + 1
    if inner < 1:
        return out
    windows = [poses[k : k + inner] for k in range(len(_SMOOTHING))]
    whole = np.all([window[..., 2] > 0 for window in windows], axis=0)
    mean = sum(weight * window[..., :2] for weight, window in zip(_SMOOTHING, windows, strict=True))
    middle = slice(len(_SMOOTHING) // 2, len(_SMOOTHING) // 2 + inner)
    out[middle, ..., :2] = np.where(whole[..., None], mean, poses[middle, ..., :2])
    return out


T = TypeVar("T")
# Heads nearer than this, in region widths, are one person's.
_SAME_HEAD = 0.1
# A detector that shrinks a picture to a few hundred px misses people whose region is narrower than about 0.15 of the
# picture's longer side. Where the largest person's is below this share, others may be smaller.
_SMALL = 0.25
# Poses of a track before it can be told from one on furniture.
_KNOWN = 5
# Sides of the square parts in which small people are looked for, in longer sides of the picture; smaller ones only
# where larger ones show nobody.
_TILES = (1 / 2, 1 / 4)
# Enlarged furniture looks like people, faintly: of detections in parts only surer ones count.
_SURE_IN_TILE = 0.5


@dataclass
class Observation:
    """One person in one picture, as an estimator saw it."""

    pose: Pose  # (25, 3), px of the content box
    score: float
    region: Region  # where to look in the next picture
    detected: float = 0.0  # score of the detection that shows the same person; 0 where there is none
    track: Track | None = None  # whose region it came from, if any


class Tracker:
    """Associates observations with tracks, picture by picture."""

    def __init__(self, params: TrackingParams) -> None:
        self.params = params
        self.tracks: list[Track] = []
        self.index = 0
        self._last_detected = -(10**9)
        self._last_tiled = -(10**9)

    def followed(self) -> list[Track]:
        """Tracks that the picture before this one showed."""
        return [track for track in self.tracks if track.last == self.index - 1]

    def _lost(self) -> list[Track]:
        return [t for t in self.tracks if self.index - self.params.patience <= t.last < self.index]

    def wants_detection(self, following: int) -> bool:
        """Whether the detector should look at this picture, when `following` tracks were found in it already."""
        if following == 0 or self.index < self.params.settle:
            return True
        if self.index - self._last_detected >= self.params.detect_every:
            return True
        # A track of one or two pictures was most likely nobody: not worth searching for.
        return following < sum(len(track.poses) >= SHORTEST_PIECE for track in self._lost())

    def note_detection(self) -> None:
        """The detector looked at this picture."""
        self._last_detected = self.index

    def wants_tiles(self, seen: Sequence[Observation], side: int) -> bool:
        """Whether to look for small people in parts of this picture, whose longer side is `side` px.

        So it is where the whole picture showed nobody, or only people so small that others are easily missed; now and
        then, since each part costs as much as a picture.
        """
        if self.index - self._last_tiled < self.params.detect_every:
            return False
        if max((o.region.width for o in seen), default=0.0) >= _SMALL * side:
            return False
        self._last_tiled = self.index
        return True

    @staticmethod
    def unknown(detections: Sequence[Detection], seen: Sequence[Observation]) -> list[Detection]:
        """Detections that are not one of the people seen in this picture already; those seen note their score."""
        new = []
        for detection in detections:
            near = min(seen, key=lambda o: detection.region.distance(o.region), default=None)
            if near is not None and detection.region.distance(near.region) < _SAME_HEAD:
                near.detected = max(near.detected, detection.score)
            else:
                new.append(detection)
        return new

    def step(self, observations: Sequence[Observation]) -> None:
        """Take in everyone seen in this picture and go on to the next."""
        from scipy.optimize import linear_sum_assignment

        params = self.params
        valid = [o for o in observations if o.score >= params.min_score and (o.pose[:, 2] > 0).sum() >= 3]
        kept = self._without_doubles(valid)
        for o in kept:
            if o.track is not None:
                o.track.add(self.index, o.pose, o.region, o.detected)
        free = [o for o in kept if o.track is None]
        lost = [track for track in self._lost() if self.index not in track.poses]
        if free and lost:
            distance = np.array([[pose_distance(o.pose, t.poses[t.last]) for t in lost] for o in free])
            cost = np.minimum(distance, 1e3)
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if distance[row, column] < params.reach:
                    taken = free[row]
                    lost[column].add(self.index, taken.pose, taken.region, taken.detected)
                    free[row].track = lost[column]
        for o in free:
            if o.track is None:
                track = Track()
                track.add(self.index, o.pose, o.region, o.detected)
                o.track = track
                self.tracks.append(track)
        if self._last_detected == self.index:
            for o in kept:
                if o.track is not None:
                    o.track.searches += 1
        self.index += 1

    def _without_doubles(self, observations: Sequence[Observation]) -> list[Observation]:
        """One observation a person: of two on the same person, the one that moved least since it was last seen."""

        def worth(o: Observation) -> tuple[int, float]:
            if o.track is None:
                return 0, o.score
            return 1, -pose_distance(o.pose, o.track.poses[o.track.last])

        kept: list[Observation] = []
        for o in sorted(observations, key=worth, reverse=True):
            if all(pose_distance(o.pose, other.pose) >= self.params.same_person for other in kept):
                kept.append(o)
        return kept


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def body_25_of(keypoints: NDArray[np.float32], estimator: Estimator, picture: Picture, min_confidence: float) -> Pose:
    """(joints, 3) of the estimator -> BODY_25, joints outside the picture or hardly seen being missing."""
    height, width = picture.shape[:2]
    x, y, confidence = keypoints.T
    good = (confidence >= min_confidence) & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return to_body_25(np.where(good[:, None], keypoints, 0).astype(np.float32), estimator.skeleton)


def track_poses(
    frames: Iterable[tuple[float, Picture]],
    content_box: tuple[int, int, int, int],
    estimator: Estimator,
    params: TrackingParams | None = None,
) -> NDArray[np.float32]:
    """Poses of every dancer in a clip.

    Args:
        frames: (seconds, RGB picture) on the 30-fps grid; the last few are kept, so none may be overwritten.
        content_box: x, y, width, height in px; nothing outside it is looked at.
        estimator: finds people and joints.
        params: of the tracker.

    Returns:
        (frames, dancers, 25, 3) float32 BODY_25 in pixels of the whole picture, dancers by mean visible area over the
        clip, largest first; `dancers` is 0 when nobody was found. Missing dancers and joints are all zeros.
    """
    params = params or TrackingParams()
    left, top, width, height = content_box
    tracker = Tracker(params)
    recent: deque[_Past] = deque(maxlen=params.look_back)
    views = (np.ascontiguousarray(rgb[top : top + height, left : left + width]) for _, rgb in frames)
    for batch in _batches(views, max(1, estimator.batch)):
        if estimator.batch > 1:
            for observations in look_at_all(estimator, batch, params):
                tracker.step(observations)
        else:
            _follow(tracker, estimator, batch[0], recent)
    return poses_of_tracks(tracker, estimator, content_box)


def look_at_all(estimator: Estimator, frames: Sequence[Picture], params: TrackingParams) -> list[list[Observation]]:
    """Everybody in each of many pictures, of one clip or of several: the detector on all, then all people at once."""
    if not frames:
        return []
    found = [(n, detection) for n, of_frame in enumerate(estimator.detect(frames)) for detection in of_frame]
    out: list[list[Observation]] = [[] for _ in frames]
    seen = _look(params, estimator, frames, [(n, detection.region) for n, detection in found])
    for (n, detection), observation in zip(found, seen, strict=True):
        observation.detected = detection.score
        out[n].append(observation)
    return out


def poses_of_tracks(
    tracker: Tracker, estimator: Estimator, content_box: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """What a tracker that has seen the last picture knows of a clip: as `track_poses` returns it."""
    poses = assemble(tracker.tracks, tracker.index, estimator.high_score, tracker.params, person_weights(estimator))
    poses[..., :2] += np.where(poses[..., 2:] > 0, np.array(content_box[:2], np.float32), 0)
    return poses


def _look(
    params: TrackingParams,
    estimator: Estimator,
    frames: Sequence[Picture],
    regions: Sequence[tuple[int, Region]],
    others: Sequence[tuple[int, Region]] = (),
) -> list[Observation]:
    if not regions:
        return []
    estimates = estimator.estimate(frames, regions, others)
    return [
        Observation(
            body_25_of(estimates.keypoints[n], estimator, frames[index], params.min_confidence),
            float(estimates.scores[n]),
            estimates.regions[n],
        )
        for n, (index, _) in enumerate(regions)
    ]


@dataclass(frozen=True)
class _Past:
    """A picture that was looked at, and where people were in it."""

    index: int
    frame: Picture
    regions: list[Region]


def _follow(tracker: Tracker, estimator: Estimator, frame: Picture, recent: deque[_Past]) -> None:
    """One picture: everyone where they were expected, then, when it is due, the detector for the rest."""
    followed = tracker.followed()
    seen = _look(tracker.params, estimator, [frame], [(0, track.region) for track in followed])
    for track, observation in zip(followed, seen, strict=True):
        observation.track = track
    seen = [o for o in seen if o.score >= tracker.params.min_score]
    if tracker.wants_detection(len(seen)):
        tracker.note_detection()
        seen += _look_at_new(tracker, estimator, frame, estimator.detect([frame])[0], seen)
        people = [o for o in seen if o.score >= tracker.params.min_score and _may_be_person(o, estimator)]
        if tracker.wants_tiles(people, max(frame.shape[:2])):
            for share in _TILES:
                new = _look_at_new(tracker, estimator, frame, detect_in_tiles(estimator, frame, share), seen)
                seen += new
                if people or any(o.score >= tracker.params.min_score for o in new):
                    break
    tracker.step(seen)
    followed = tracker.followed()
    for track in followed:
        if len(track.poses) == SHORTEST_PIECE:
            _look_back(tracker, estimator, track, recent)
    recent.append(_Past(tracker.index - 1, frame, [track.region for track in followed]))


def _may_be_person(seen: Observation, estimator: Estimator) -> bool:
    """Whether what is known so far speaks for a person and not for furniture."""
    track = seen.track
    if track is None or len(track.poses) < _KNOWN:
        return max(seen.detected, track.best_detection if track else 0.0) >= estimator.high_score
    return is_person(track, person_weights(estimator))


def person_weights(estimator: Estimator) -> PersonWeights | None:
    """An estimator's `person_weights`; None for one that has none."""
    return getattr(estimator, "person_weights", None)


def _look_at_new(
    tracker: Tracker, estimator: Estimator, frame: Picture, detections: list[Detection], seen: Sequence[Observation]
) -> list[Observation]:
    """Those of the detected people who were not seen in this picture already."""
    new = tracker.unknown(detections, seen)
    found = _look(tracker.params, estimator, [frame], [(0, d.region) for d in new], [(0, o.region) for o in seen])
    for detection, observation in zip(new, found, strict=True):
        observation.detected = detection.score
    return found


def detect_in_tiles(estimator: Estimator, frame: Picture, share: float) -> list[Detection]:
    """People in overlapping square parts of a picture, best first, each once.

    Args:
        share: the parts' side, of the picture's longer side. They overlap by at least half of it, so that anybody lower
            than that is whole in one of them.

    Returns:
        Detections in px of the whole picture, without faint ones.
    """
    height, width = frame.shape[:2]
    side = max(1, round(share * max(height, width)))

    def starts(length: int) -> list[int]:
        count = max(1, math.ceil(2 * length / side) - 1)
        return np.linspace(0, max(0, length - side), count).round().astype(int).tolist()

    corners = [(left, top) for top in starts(height) for left in starts(width)]
    tiles = [np.ascontiguousarray(frame[top : top + side, left : left + side]) for left, top in corners]
    everyone = []
    for (left, top), detections in zip(corners, estimator.detect(tiles), strict=True):
        for d in (d for d in detections if d.score >= _SURE_IN_TILE):
            head = (d.region.head[0] + left, d.region.head[1] + top) if d.region.head else None
            everyone.append(replace(d, region=replace(d.region, x=d.region.x + left, y=d.region.y + top, head=head)))
    once: list[Detection] = []
    for d in sorted(everyone, key=lambda d: -d.score):
        if all(d.region.distance(other.region) >= _SAME_HEAD for other in once):
            once.append(d)
    return once


def _look_back(tracker: Tracker, estimator: Estimator, track: Track, recent: deque[_Past]) -> None:
    """Follow someone who was just noticed back through the last pictures, as far as they can be seen."""
    for past in reversed(recent):
        if past.index >= track.first:
            continue
        [seen] = _look(
            tracker.params, estimator, [past.frame], [(0, track.origin)], [(0, region) for region in past.regions]
        )
        known = [other.poses[past.index] for other in tracker.tracks if past.index in other.poses]
        limit = tracker.params.same_person
        if (
            seen.score < tracker.params.min_score
            or pose_distance(seen.pose, track.poses[track.first]) >= limit
            or any(pose_distance(seen.pose, pose) < limit for pose in known)
        ):
            return
        track.add_before(past.index, seen.pose, seen.region)
