"""BlazePose from the model files inside the MediaPipe wheel, run by LiteRT on one core.

MediaPipe's Python code is not imported: it wants system libraries (libGL, libglib) that a bare machine lacks, and it
follows one person only. Decoding follows the graphs that ship with the models (pose_detection, pose_landmark_by_roi,
Apache-2.0) and Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking", 2020.

Not for tracking: each call looks at pictures alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiktok_dm.errors import UserError
from tiktok_dm.pose.estimator import Detection, Estimates, Picture, Region
from tiktok_dm.pose.skeletons import BLAZEPOSE_33

_DETECTOR = "mediapipe/modules/pose_detection/pose_detection.tflite"
_LANDMARKER = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
_DETECTOR_SIZE = 224
_CROP_SIZE = 256
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
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


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


class BlazePose:
    """MediaPipe's person detector and full landmark model; keeps the `Estimator` contract.

    Confidence of a joint is visibility x presence, both as the model gives them: the chance that the joint is inside
    the region and not hidden. The models are loaded on first use.
    """

    name = "mediapipe"
    skeleton = BLAZEPOSE_33
    batch = 1
    low_score = 0.2
    high_score = 0.5

    def __init__(self) -> None:
        try:
            wheel = distribution("mediapipe")
        except PackageNotFoundError:
            wheel = None
        paths = {name: Path(str(wheel.locate_file(name))) for name in (_DETECTOR, _LANDMARKER)} if wheel else {}
        if wheel is None or not all(path.is_file() for path in paths.values()):
            raise UserError(
                "The pose models of MediaPipe are not installed: install the version that carries them, "
                "'pip install mediapipe==0.10.21'."
            )
        self.version = f"{wheel.version}-full"
        self._models = {name: path.read_bytes() for name, path in paths.items()}
        self.weights_sha256 = hashlib.sha256(
            b"".join(self._models[name] for name in (_DETECTOR, _LANDMARKER))
        ).hexdigest()
        self._anchors = _anchors()

    def _interpreter(self, name: str) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        # One thread: workers are processes, and one thread gives the same sums in the same order everywhere.
        with _quiet():
            interpreter = Interpreter(model_content=self._models[name], num_threads=1)
            interpreter.allocate_tensors()
        return interpreter

    @cached_property
    def _detector(self) -> Any:
        return self._interpreter(_DETECTOR)

    @cached_property
    def _landmarker(self) -> Any:
        return self._interpreter(_LANDMARKER)

    @staticmethod
    def _run(interpreter: Any, picture: NDArray[np.float32], names: Sequence[str]) -> list[NDArray[np.float32]]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        index = {detail["name"]: detail["index"] for detail in interpreter.get_output_details()}
        return [interpreter.get_tensor(index[name])[0] for name in names]

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
        raw, logits = self._run(self._detector, picture, ("Identity", "Identity_1"))
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
        picture = np.asarray(crop, dtype=np.float32) / 255
        if neighbours:
            _hide(picture, to_picture, region, neighbours)
        raw, presence, heatmap = self._run(self._landmarker, picture, ("Identity", "Identity_1", "Identity_3"))
        landmarks = raw.reshape(39, 5)
        points = _refine(landmarks[:, :2], heatmap)
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
