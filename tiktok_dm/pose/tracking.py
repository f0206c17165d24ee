"""From people in single frames to dancers followed through a clip, and from their tracks to the array of a clip.

What is done once a clip has been seen to its end.

Common to all estimators.

`track_poses` streams: it holds one batch of pictures, or the last few, at a time; of the rest only poses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.pose.base import Detection, Estimator, Picture, Region
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


def assemble(tracks: Sequence[Track], n_frames: int, high_score: float, params: TrackingParams) -> NDArray[np.float32]:
    """Tracks -> (frames, dancers, 25, 3): pieces of one dancer joined, short ones dropped, gaps bridged, ordered.

    A track begins with any detection, but counts only when the detector was sure of it (`high_score`) once, or saw it
    faintly many times (`_FAINT_DETECTIONS`).
    """
    least = max(2, params.min_share * n_frames)
    tracks = [
        track
        for track in _joined(tracks, params)
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
        best[2].poses.update(best[3].poses)
        best[2].best_detection = max(best[2].best_detection, best[3].best_detection)
        best[2].all_detections += best[3].all_detections
        pieces = [piece for piece in pieces if piece is not best[3]]


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
                self.tracks.append(track)
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
    poses = assemble(tracker.tracks, tracker.index, estimator.high_score, tracker.params)
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
        new = tracker.unknown(estimator.detect([frame])[0], seen)
        found = _look(tracker.params, estimator, [frame], [(0, d.region) for d in new], [(0, o.region) for o in seen])
        for detection, observation in zip(new, found, strict=True):
            observation.detected = detection.score
        seen += found
    tracker.step(seen)
    followed = tracker.followed()
    for track in followed:
        if len(track.poses) == SHORTEST_PIECE:
            _look_back(tracker, estimator, track, recent)
    recent.append(_Past(tracker.index - 1, frame, [track.region for track in followed]))


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
