"""From people in single pictures to dancers followed through a clip: association, stable ids, gaps, order.

Common to all estimators, and the only place that knows of time. Not for finding people or joints (`estimator`).

`estimate_poses` streams: it holds one batch of pictures at a time, and of the past only poses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tiktok_dm.pose.estimator import Detection, Estimator, Picture, Region
from tiktok_dm.pose.skeletons import BODY_25, Pose, to_body_25

T = TypeVar("T")
# Heads nearer than this, in region widths, are one person's.
_SAME_HEAD = 0.1
_JOINTS = len(BODY_25.joints)


@dataclass(frozen=True)
class TrackingParams:
    """What the tracker may be told; times in pictures of the 30-fps grid.

    Args:
        max_dancers: at most so many dancers are kept, largest first.
        detect_every: while all dancers are being followed, the detector looks for new ones every so many pictures.
        settle: at the beginning of a clip the detector looks at so many pictures, one by one: dancers half hidden by
            others are seen in some only.
        patience: a dancer lost for longer than this comes back as a new track (and may be joined to the old one later).
        min_score: below this chance of a person in the region, the picture does not count.
        min_confidence: joints below this are missing (zeros).
        same_person: two poses nearer than this, in units of `pose_scale`, are one person.
        reach: how far a lost dancer may have moved, in units of `pose_scale`.
        min_share: tracks seen in a smaller share of the clip are not dancers (passers-by, false finds).
        max_gap: shorter gaps in a track are bridged by straight lines; longer ones stay empty.
        bridged_confidence: factor on the confidence of bridged joints.
    """

    max_dancers: int = 5
    detect_every: int = 6
    settle: int = 15
    patience: int = 30
    min_score: float = 0.5
    min_confidence: float = 0.2
    same_person: float = 0.25
    reach: float = 0.8
    min_share: float = 0.2
    max_gap: int = 10
    bridged_confidence: float = 0.5


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


_NOWHERE = Region(0, 0, 1, 1)


@dataclass
class Observation:
    """One person in one picture, as an estimator saw it."""

    pose: Pose  # (25, 3), px of the content box
    score: float
    region: Region  # where to look in the next picture
    detected: float = 0.0  # score of the detection that shows the same person; 0 where there is none
    track: Track | None = None  # whose region it came from, if any


@dataclass
class Track:
    """One person through time."""

    poses: dict[int, Pose] = field(default_factory=dict)
    region: Region = _NOWHERE
    detected: float = 0.0  # best score of a detection that showed this person

    @property
    def first(self) -> int:
        """First picture with a pose."""
        return next(iter(self.poses))

    @property
    def last(self) -> int:
        """Last picture with a pose."""
        return next(reversed(self.poses))

    def add(self, index: int, seen: Observation) -> None:
        """Note a pose."""
        self.poses[index] = seen.pose
        self.region = seen.region
        self.detected = max(self.detected, seen.detected)


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
        return following < len(self._lost())

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
        params = self.params
        valid = [o for o in observations if o.score >= params.min_score and (o.pose[:, 2] > 0).sum() >= 3]
        kept = self._without_doubles(valid)
        for o in kept:
            if o.track is not None:
                o.track.add(self.index, o)
        free = [o for o in kept if o.track is None]
        lost = [track for track in self._lost() if self.index not in track.poses]
        if free and lost:
            distance = np.array([[pose_distance(o.pose, t.poses[t.last]) for t in lost] for o in free])
            cost = np.minimum(distance, 1e3)
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if distance[row, column] < params.reach:
                    lost[column].add(self.index, free[row])
                    free[row].track = lost[column]
        for o in free:
            if o.track is None:
                track = Track()
                track.add(self.index, o)
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


def _pose(keypoints: NDArray[np.float32], estimator: Estimator, picture: Picture, min_confidence: float) -> Pose:
    """(joints, 3) of the estimator -> BODY_25, joints outside the picture or hardly seen being missing."""
    height, width = picture.shape[:2]
    x, y, confidence = keypoints.T
    good = (confidence >= min_confidence) & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return to_body_25(np.where(good[:, None], keypoints, 0).astype(np.float32), estimator.skeleton)


def estimate_poses(
    frames: Iterable[tuple[float, Picture]],
    content_box: tuple[int, int, int, int],
    estimator: Estimator,
    params: TrackingParams | None = None,
) -> NDArray[np.float32]:
    """Poses of every dancer in a clip.

    Args:
        frames: (seconds, RGB picture) on the 30-fps grid.
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
    views = (np.ascontiguousarray(rgb[top : top + height, left : left + width]) for _, rgb in frames)
    for batch in _batches(views, max(1, estimator.batch)):
        if estimator.batch > 1:
            _look_at_all(tracker, estimator, batch)
        else:
            _follow(tracker, estimator, batch[0])
    poses = assemble(tracker.tracks, tracker.index, estimator.high_score, params)
    poses[..., :2] += np.where(poses[..., 2:] > 0, np.array([left, top], np.float32), 0)
    return poses


def _look(
    tracker: Tracker,
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
            _pose(estimates.keypoints[n], estimator, frames[index], tracker.params.min_confidence),
            float(estimates.scores[n]),
            estimates.regions[n],
        )
        for n, (index, _) in enumerate(regions)
    ]


def _follow(tracker: Tracker, estimator: Estimator, frame: Picture) -> None:
    """One picture: everyone where they were expected, then, when it is due, the detector for the rest."""
    followed = tracker.followed()
    seen = _look(tracker, estimator, [frame], [(0, track.region) for track in followed])
    for track, observation in zip(followed, seen, strict=True):
        observation.track = track
    seen = [o for o in seen if o.score >= tracker.params.min_score]
    if tracker.wants_detection(len(seen)):
        tracker.note_detection()
        new = tracker.unknown(estimator.detect([frame])[0], seen)
        found = _look(tracker, estimator, [frame], [(0, d.region) for d in new], [(0, o.region) for o in seen])
        for detection, observation in zip(new, found, strict=True):
            observation.detected = detection.score
        seen += found
    tracker.step(seen)


def _look_at_all(tracker: Tracker, estimator: Estimator, batch: Sequence[Picture]) -> None:
    """Many pictures: the detector on each, then all people of all pictures at once."""
    found = [(n, d) for n, of_frame in enumerate(estimator.detect(batch)) for d in of_frame]
    seen = _look(tracker, estimator, batch, [(n, d.region) for n, d in found])
    for (_, detection), observation in zip(found, seen, strict=True):
        observation.detected = detection.score
    for index in range(len(batch)):
        tracker.step([o for (n, _), o in zip(found, seen, strict=True) if n == index])


def assemble(tracks: Sequence[Track], n_frames: int, high_score: float, params: TrackingParams) -> NDArray[np.float32]:
    """Tracks -> (frames, dancers, 25, 3): pieces of one dancer joined, short ones dropped, gaps bridged, ordered.

    A track begins with any detection, but counts only when the detector was sure of it (`high_score`) at some time.
    """
    least = max(2, params.min_share * n_frames)
    tracks = [t for t in _joined(tracks, params) if len(t.poses) >= least and t.detected >= high_score]
    out = np.zeros((n_frames, len(tracks), _JOINTS, 3), np.float32)
    for dancer, track in enumerate(tracks):
        for index, pose in track.poses.items():
            out[index, dancer] = pose
    areas = visible_area(out).sum(axis=0)
    out = out[:, np.argsort(-areas, kind="stable")[: params.max_dancers]]
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
    pieces = [Track(dict(track.poses), track.region, track.detected) for track in tracks]
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
        best[2].detected = max(best[2].detected, best[3].detected)
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
        for a, b in zip(seen[:-1], seen[1:], strict=True):
            if 1 < b - a <= max_gap + 1:
                share = ((np.arange(a + 1, b) - a) / (b - a))[:, None]
                track[a + 1 : b, joint, :2] = track[a, joint, :2] * (1 - share) + track[b, joint, :2] * share
                track[a + 1 : b, joint, 2] = factor * min(track[a, joint, 2], track[b, joint, 2])
