"""The contract that every pose estimator keeps.

An estimator does two things on pictures, and both take many pictures at once, so that one GPU call can serve several
clips: `detect` finds people, `estimate` finds the joints of each. It knows nothing of time: following dancers through
a clip and the conversion to BODY_25 are common to all estimators and live in `tracking` and `skeletons`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.pose.skeletons import Skeleton

Picture = NDArray[np.uint8]
"""(height, width, 3) RGB."""


@dataclass(frozen=True)
class Region:
    """Where one person is looked at: a rectangle about (x, y), turned by `angle`.

    Args:
        x, y: centre, px.
        width, height: sides, px, before turning.
        angle: radians, clockwise on the screen; 0 is upright.
        head: x, y of the middle of the head, px, where known: of two people who stand close together it is the part
            that is least often mistaken for the other's.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0
    head: tuple[float, float] | None = None

    def distance(self, other: Region) -> float:
        """Distance of the heads, or of the centres where a head is unknown, in units of the larger width."""
        a, b = (self.head, other.head) if self.head and other.head else ((self.x, self.y), (other.x, other.y))
        return float(np.hypot(a[0] - b[0], a[1] - b[1])) / max(self.width, other.width)


@dataclass(frozen=True)
class Detection:
    """One person that the detector sees.

    Args:
        region: where to look for the joints.
        score: 0..1.
    """

    region: Region
    score: float


@dataclass(frozen=True)
class Estimates:
    """Joints of N (picture, region) pairs.

    Args:
        keypoints: (N, joints, 3) float32 in the estimator's skeleton: x px, y px, confidence 0..1.
        scores: (N,) float32, 0..1: is there a person in the region at all?
        regions: N regions in which to look for the same person in the next picture of a clip.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    regions: tuple[Region, ...]


# Bias and weights (1 + 4) of a logistic model that tells people's tracks from furniture's: see `tracking.evidence`.
PersonWeights = tuple[float, float, float, float, float]


@runtime_checkable
class Estimator(Protocol):
    """What `tracking.track_poses` needs.

    Attributes:
        name: by which it is asked for.
        version: of the model and of the code around it that changes its output.
        weights_sha256: hex digest of the weights.
        skeleton: of `estimate`'s keypoints.
        batch: pictures that are worth handing over at once. At 1 the tracker goes picture by picture, looks for
            each dancer where `Estimates.regions` says and calls the detector only now and then; above 1 it calls
            the detector for every picture of a batch and then `estimate` once for all people in it.
        low_score, high_score: detections from `low_score` on are looked at; somebody counts as a dancer only when the
            detector was sure of them (`high_score`) once, or saw them faintly many times.

    An estimator whose skeletons also settle on furniture may have `person_weights: PersonWeights`.
    """

    name: str
    version: str
    weights_sha256: str
    skeleton: Skeleton
    batch: int
    low_score: float
    high_score: float

    def detect(self, frames: Sequence[Picture]) -> list[list[Detection]]:
        """People in each picture, best first, from `low_score` on; pictures may differ in size."""
        ...

    def estimate(
        self,
        frames: Sequence[Picture],
        regions: Sequence[tuple[int, Region]],
        others: Sequence[tuple[int, Region]] = (),
    ) -> Estimates:
        """Joints of the person in each region; a region is (index into `frames`, where).

        `others` are further people in the pictures, whose joints are known already: an estimator may use them, and
        the other `regions` of the same picture, to keep neighbours apart.
        """
        ...


@dataclass(frozen=True)
class Options:
    """What an estimator may be told behind its name: `mmpose:model=s,device=cuda:1,weights=/data/rtmpose-s.pth`.

    Args:
        model: which network: a size of RTMPose (`mmpose`), an id of the hub or a folder (`vitpose`); the estimator's
            own choice when empty.
        weights: file to load instead of the published one.
        detector: the person detector, an id of the hub or a folder; the estimator's own choice when empty.
        flip: also look at each crop mirrored, and take the mean: a little better, twice the time.
        half: half precision; on a GPU unless told otherwise, never on a CPU unless told.
        device: cpu, cuda, cuda:1; auto is the first GPU, or the CPU where there is none.
        batch: pictures that are handed over at once; 0 leaves it to the estimator.
        models: a bundle or folder with BlazePose's networks (`mediapipe`); the published ones when empty.
    """

    model: str = ""
    weights: str = ""
    detector: str = ""
    flip: bool = False
    half: bool | None = None
    device: str = "auto"
    batch: int = 0
    models: str = ""
