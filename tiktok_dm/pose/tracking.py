"""From people in single pictures to dancers followed through a clip: when to look where, and who is who.

Common to all estimators. Not for finding people or joints (`estimator`), nor for what happens to tracks once the clip
has been seen to its end (`assembly`).

`estimate_poses` streams: it holds one batch of pictures, or the last few, at a time; of the rest only poses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.pose.assembly import SHORTEST_PIECE, Track, TrackingParams, assemble, pose_distance
from tiktok_dm.pose.base import Detection, Estimator, Picture, Region
from tiktok_dm.pose.skeletons import Pose, to_body_25

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


def estimate_poses(
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
    """What a tracker that has seen the last picture knows of a clip: as `estimate_poses` returns it."""
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
