"""BlazePose: MediaPipe's two pose networks, run by LiteRT on one core.

MediaPipe's package is not needed: its Python code wants system libraries (libGL, libglib) that a bare machine lacks,
and it follows one person only. Where the networks come from is `model_files`'s matter. Decoding follows the graphs that
ship with the models (pose_detection, pose_landmark_by_roi, Apache-2.0) and Bazarevsky et al., "BlazePose: On-device
Real-time Body Pose Tracking", 2020.

Not for tracking: each call looks at pictures alone.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiktok_dm.errors import UserError
from tiktok_dm.pose import model_files
from tiktok_dm.pose.base import Detection, Estimates, Options, PersonWeights, Picture, Region
from tiktok_dm.pose.skeletons import BLAZEPOSE_33

_DETECTOR_SIZE = 224
_CROP_SIZE = 256
# What the networks give, by shape: bundles of other releases name the same outputs otherwise.
_BOXES, _LOGITS = (1, 2254, 12), (1, 2254, 1)
_LANDMARKS, _PRESENCE, _HEATMAP = (1, 195), (1, 1), (1, 64, 64, 39)
_HEATMAP_KERNEL = 3  # cells to each side: MediaPipe refines in a window of 7
# An overlap of head boxes above this is the same head.
_SAME_HEAD = 0.3
# People whose heads are closer than this (in region widths; a region is about 1.25 body heights wide) hide each other
# from the landmark model.
_NEAR = 0.3
# The middle of the detector's head box lies below the middle of the face as the landmark model sees it, by this share
# of the region's width: mean over the frames of six clips of real dancers, 0.044 to 0.057 in each.
_HEAD_ABOVE_BOX = 0.047
# MediaPipe draws the circle about hip centre through the body-scale point and widens it by a quarter.
_REGION_SCALE = 2 * 1.25


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(1, 1 + np.exp(-np.clip(x, -80, 80)))


def _anchors() -> NDArray[np.float32]:
    """Anchor centres (2254, 2) in 0..1: 2 a cell at stride 8, 2 at stride 16, 6 at stride 32."""
    grids = []
    for stride, per_cell in ((8, 2), (16, 2), (32, 6)):
        cells = _DETECTOR_SIZE // stride
        centres = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        grids.append(np.repeat(grid, per_cell, axis=0))
    return np.concatenate(grids)


def _region(hip: NDArray[np.floating], scale_point: NDArray[np.floating], head: NDArray[np.floating]) -> Region:
    """The square about the hip centre whose upward axis points from the hips through the body-scale point."""
    dx, dy = float(scale_point[0] - hip[0]), float(scale_point[1] - hip[1])
    size = max(1.0, _REGION_SCALE * math.hypot(dx, dy))
    return Region(float(hip[0]), float(hip[1]), size, size, math.atan2(dx, -dy), (float(head[0]), float(head[1])))


def _iou(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Overlap of one x0, y0, x1, y1 box with many."""
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    inter = np.prod(np.clip(inner, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    area = np.prod(np.clip(box[2:] - box[:2], 0, None))
    return inter / np.maximum(areas + area - inter, 1e-9)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT greets on the process's standard error, past Python's, which would break into progress bars."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Network:
    """A TensorFlow Lite model of one square picture in, and outputs told apart by their shapes.

    Args:
        content: the model's bytes.
        size: side of the picture, px.
        outputs: shapes, in the order in which they are given back.
        name: for errors.

    Raises:
        UserError: not a model, or another one.
    """

    def __init__(self, content: bytes, size: int, outputs: Sequence[tuple[int, ...]], name: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            # One thread: workers are processes, and one thread gives the same sums in the same order everywhere.
            with _quiet():
                self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{name} is no model that LiteRT can load: give BlazePose's.") from error
        [given] = self._interpreter.get_input_details()[:1]
        found = {tuple(map(int, out["shape"])): out["index"] for out in self._interpreter.get_output_details()}
        if tuple(given["shape"]) != (1, size, size, 3) or not set(outputs) <= set(found):
            raise UserError(f"{name} is not BlazePose's: its inputs and outputs have other shapes.")
        self._input, self._outputs = given["index"], [found[shape] for shape in outputs]

    def __call__(self, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for a picture (size, size, 3) float32, without their batch axis."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


class BlazePose:
    """MediaPipe's person detector and full landmark model; keeps the `Estimator` contract.

    Confidence of a joint is visibility x presence, both as the model gives them: the chance that the joint is inside
    the region and not hidden. The networks are loaded on first use.

    Args:
        options: `models` says which networks, see `model_files.load`; MediaPipe's full ones otherwise.

    Raises:
        UserError: the networks are not to be had.
    """

    name = "mediapipe"
    skeleton = BLAZEPOSE_33
    batch = 1
    low_score = 0.2
    high_score = 0.5
    # Fitted by `python -m benchmarks.people fit` to rendered rooms and real dancers.
    person_weights: PersonWeights = (-16.334, 15.525, -1.611, 1.402, 0.677)

    def __init__(self, options: Options = Options()) -> None:
        self._models = model_files.load(options.models or None)
        self.version = self._models.version
        self.weights_sha256 = self._models.sha256
        self._anchors = _anchors()

    @cached_property
    def _detector(self) -> Network:
        return Network(self._models.detector, _DETECTOR_SIZE, (_BOXES, _LOGITS), f"{self._models.place}: the detector")

    @cached_property
    def _landmarker(self) -> Network:
        outputs = (_LANDMARKS, _PRESENCE, _HEATMAP)
        return Network(self._models.landmarker, _CROP_SIZE, outputs, f"{self._models.place}: the landmark model")

    def detect(self, frames: Sequence[Picture]) -> list[list[Detection]]:
        """See `Estimator.detect`."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Picture) -> list[Detection]:
        height, width = frame.shape[:2]
        side = max(height, width)
        small = (max(1, round(width * _DETECTOR_SIZE / side)), max(1, round(height * _DETECTOR_SIZE / side)))
        left, top = (_DETECTOR_SIZE - small[0]) // 2, (_DETECTOR_SIZE - small[1]) // 2
        boxed = Image.new("RGB", (_DETECTOR_SIZE, _DETECTOR_SIZE))
        boxed.paste(Image.fromarray(frame).resize(small, Image.Resampling.BILINEAR), (left, top))
        picture = np.asarray(boxed, dtype=np.float32) / 127.5 - 1
        raw, logits = self._detector(picture)
        scores = _sigmoid(logits[:, 0])
        kept = np.flatnonzero(scores >= self.low_score)
        if not kept.size:
            return []
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        scores, values = scores[kept], raw[kept].reshape(-1, 6, 2) / _DETECTOR_SIZE
        values[:, 0] += self._anchors[kept]
        values[:, 2:] += self._anchors[kept][:, None]
        boxes = np.concatenate([values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2], axis=1)
        scale = np.array([width / small[0], height / small[1]]) * _DETECTOR_SIZE
        offset = np.array([left, top]) / _DETECTOR_SIZE
        found = []
        free = np.ones(len(kept), dtype=bool)
        for best in range(len(kept)):
            if not free[best]:
                continue
            same = free & (_iou(boxes[best], boxes) > _SAME_HEAD)
            same[best] = True
            free &= ~same
            # All boxes of one head vote on its points, as in BlazeFace: less jitter than the best one alone.
            points = (np.average(values[same], axis=0, weights=scores[same]) - offset) * scale
            head = points[0] + _HEAD_ABOVE_BOX * _REGION_SCALE * (points[3] - points[2])
            found.append(Detection(_region(points[2], points[3], head), float(scores[best])))
        return found

    def estimate(
        self,
        frames: Sequence[Picture],
        regions: Sequence[tuple[int, Region]],
        others: Sequence[tuple[int, Region]] = (),
    ) -> Estimates:
        """See `Estimator.estimate`. Neighbours are blotted out of a person's picture (`_hide`)."""
        keypoints = np.zeros((len(regions), len(BLAZEPOSE_33.joints), 3), np.float32)
        scores = np.zeros(len(regions), np.float32)
        following = []
        for n, (index, region) in enumerate(regions):
            neighbours = [
                other
                for m, (i, other) in enumerate([*regions, *others])
                if i == index and m != n and region.distance(other) < _NEAR
            ]
            keypoints[n], scores[n], next_region = self._estimate(frames[index], region, neighbours)
            following.append(next_region)
        return Estimates(keypoints, scores, tuple(following))

    def _estimate(
        self, frame: Picture, region: Region, neighbours: Sequence[Region]
    ) -> tuple[NDArray[np.float32], float, Region]:
        step = region.width / _CROP_SIZE
        cos, sin = math.cos(region.angle) * step, math.sin(region.angle) * step
        half = _CROP_SIZE / 2
        # Crop pixel (u, v) -> picture pixel; Pillow samples at pixel centres by itself.
        to_picture = np.array(
            [[cos, -sin, region.x - half * (cos - sin)], [sin, cos, region.y - half * (sin + cos)]], dtype=np.float64
        )
        # Pillow needs the source no larger than what the crop touches: fewer bytes to copy.
        reach = region.width * math.sqrt(0.5) + 2
        x0, y0 = max(0, int(region.x - reach)), max(0, int(region.y - reach))
        x1, y1 = int(region.x + reach) + 1, int(region.y + reach) + 1
        part = frame[y0 : max(y0, y1), x0 : max(x0, x1)]
        if part.size == 0:
            return np.zeros((len(BLAZEPOSE_33.joints), 3), np.float32), 0.0, region
        matrix = to_picture - [[0, 0, x0], [0, 0, y0]]
        crop = Image.fromarray(part).transform(
            (_CROP_SIZE, _CROP_SIZE), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BILINEAR
        )
        picture = np.asarray(crop, dtype=np.float32) / 255.0
        if neighbours:
            _hide(picture, to_picture, region, neighbours)
        raw, presence, heatmap = self._landmarker(picture)
        landmarks = raw.reshape(39, 5)
        points: NDArray[np.floating] = _refine(landmarks[:, :2], heatmap)
        points = points @ to_picture[:, :2].T + to_picture[:, 2]
        keypoints = np.empty((len(BLAZEPOSE_33.joints), 3), np.float32)
        keypoints[:, :2] = points[: len(keypoints)]
        keypoints[:, 2] = np.prod(_sigmoid(landmarks[: len(keypoints), 3:]), axis=1)
        # Landmarks 33 and 34 are not joints: hip centre and body-scale point, there to say where to look next.
        return keypoints, float(presence[0]), _region(points[33], points[34], points[:9].mean(axis=0))


def _spine(region: Region) -> NDArray[np.float64]:
    """A line from the head through the hips to the feet, (2, 2) px: what a person's pixels lie closest to."""
    up = np.array([math.sin(region.angle), -math.cos(region.angle)])
    hip = np.array([region.x, region.y])
    head = np.array(region.head) if region.head else hip + 0.25 * region.width * up
    return np.stack([head, head + 1.8 * (hip - head)])


def _hide(
    picture: NDArray[np.float32], to_picture: NDArray[np.float64], region: Region, neighbours: Sequence[Region]
) -> None:
    """Blot out, in place, the part of a crop that lies nearer to a neighbour's spine than to the person's own.

    The landmark model has seen one person a crop; with two it mixes their joints and slides from one to the other.
    """
    cell = 8  # px; a border of this coarseness is fine enough
    centres = np.arange(cell / 2, _CROP_SIZE, cell)
    grid = np.stack(np.meshgrid(centres, centres), axis=-1) @ to_picture[:, :2].T + to_picture[:, 2]

    def distance(spine: NDArray[np.float64]) -> NDArray[np.float64]:
        along = spine[1] - spine[0]
        share = np.clip(((grid - spine[0]) @ along) / max(float(along @ along), 1e-9), 0, 1)
        return np.asarray(np.linalg.norm(grid - spine[0] - share[..., None] * along, axis=-1))

    own = distance(_spine(region))
    hidden = np.any([distance(_spine(other)) < own for other in neighbours], axis=0)
    cells = _CROP_SIZE // cell
    picture.reshape(cells, cell, cells, cell, 3).swapaxes(1, 2)[hidden] = 0.5


def _refine(points: NDArray[np.float32], heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move regressed points (39, 2, crop px) to the centre of mass of their heatmaps (64, 64, 39) close by."""
    cells = heatmap.shape[0]
    stride = _CROP_SIZE / cells
    reach = np.arange(-_HEATMAP_KERNEL, _HEATMAP_KERNEL + 1)
    cell = np.trunc(points / stride).astype(np.int64)
    columns, rows = cell[:, 0, None, None] + reach, cell[:, 1, None, None] + reach[:, None]  # (39, 1, 7), (39, 7, 1)
    inside = (columns >= 0) & (columns < cells) & (rows >= 0) & (rows < cells)
    last = cells - 1
    logits = heatmap[rows.clip(0, last), columns.clip(0, last), np.arange(len(points))[:, None, None]]
    weights = np.where(inside, _sigmoid(logits), 0)
    # A point outside the crop, or one that no cell near by is sure of, stays where the regression put it.
    sure = ((cell >= 0) & (cell < cells)).all(axis=1) & (weights.max(axis=(1, 2)) >= 0.5)
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-9)
    centre = (
        np.stack([(weights * columns).sum(axis=(1, 2)), (weights * rows).sum(axis=(1, 2))], axis=1) / total[:, None]
    )
    return np.where(sure[:, None], centre * stride, points)
