"""Skeletons drawn on pictures, for a person to look at: thumbnails of the report, and whole overlay videos.

Not for numbers: nothing here is measured or kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tiktok_dm.pose.skeletons import BODY_25, Skeleton

# Told apart by most kinds of colour vision and on most clothes (Okabe and Ito, 2008, brightened).
COLOURS = ((0, 229, 255), (255, 171, 0), (255, 64, 160), (118, 255, 3), (179, 136, 255), (255, 255, 255))
_SUPERSAMPLING = 2


def draw_poses(
    rgb: NDArray[np.uint8],
    poses: NDArray[np.float32],
    *,
    skeleton: Skeleton = BODY_25,
    min_confidence: float = 0.05,
    thickness: float | None = None,
) -> NDArray[np.uint8]:
    """A copy of the picture with skeletons on it: one colour a dancer, opacity = confidence.

    Args:
        rgb: (height, width, 3).
        poses: (dancers, joints, 3) in pixels of `rgb`.
        skeleton: of `poses`.
        min_confidence: joints below this are not drawn.
        thickness: of a bone, px; by default it grows with the dancer's size.

    Returns:
        (height, width, 3) uint8.
    """
    picture = Image.fromarray(np.asarray(rgb, dtype=np.uint8)).convert("RGBA")
    k = _SUPERSAMPLING
    for dancer, pose in reversed(list(enumerate(np.asarray(poses, dtype=np.float64)))):
        seen = pose[:, 2] >= min_confidence
        if not seen.any():
            continue
        colour = COLOURS[dancer % len(COLOURS)]
        low, high = pose[seen, :2].min(axis=0), pose[seen, :2].max(axis=0)
        bone = thickness or float(np.clip(np.hypot(*(high - low)) / 110, 1.5, 8))
        # Only the rectangle about the dancer is drawn at double size and brought back: antialiasing at little cost.
        margin = int(3 * bone) + 2
        x0, y0 = (int(v) for v in np.floor(low) - margin)
        size = tuple(int(v) for v in np.ceil(high) - np.floor(low) + 2 * margin + 1)
        layer = Image.new("RGBA", (size[0] * k, size[1] * k), (*colour, 0))
        pen = ImageDraw.Draw(layer)

        def place(joint: int, points: NDArray[np.float64] = pose, x: int = x0, y: int = y0) -> tuple[float, float]:
            return (points[joint, 0] - x + 0.5) * k, (points[joint, 1] - y + 0.5) * k

        marks = [(min(pose[a, 2], pose[b, 2]), (a, b)) for a, b in skeleton.edges if seen[a] and seen[b]]
        for confidence, (a, b) in sorted(marks):
            alpha = round(255 * min(1.0, float(confidence)) * 0.9)
            pen.line([place(a), place(b)], fill=(*colour, alpha), width=max(1, round(bone * k)))
        for joint in np.flatnonzero(seen):
            alpha = round(255 * min(1.0, float(pose[joint, 2])))
            x, y = place(int(joint))
            for radius, fill in ((1.1 * bone * k, (20, 20, 28, alpha)), (0.75 * bone * k, (*colour, alpha))):
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
        small = layer.resize((size[0], size[1]), Image.Resampling.BOX)
        picture.alpha_composite(*_inside(small, x0, y0, picture.size))
    return np.asarray(picture.convert("RGB"))


def _inside(layer: Image.Image, x: int, y: int, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, int]]:
    """The part of a layer at (x, y) that lies within a picture of that size, and where it goes."""
    left, top = max(0, -x), max(0, -y)
    right = max(left, min(layer.width, size[0] - x))
    bottom = max(top, min(layer.height, size[1] - y))
    return layer.crop((left, top, right, bottom)), (max(0, x), max(0, y))


def write_overlay(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], poses: NDArray[np.float32], out: Path, *, fps: int = 30
) -> None:
    """A silent MP4 of the clip with its skeletons, to be looked at.

    Args:
        frames: (seconds, RGB) on the grid of `poses`; sides are cut to even numbers, which H.264 needs.
        poses: (frames, dancers, joints, 3).
        out: file to write.
        fps: of the grid.
    """
    import av

    with av.open(str(out), "w") as container:
        stream = None
        for (_, rgb), pose in zip(frames, poses, strict=False):
            height, width = (side - side % 2 for side in rgb.shape[:2])
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"preset": "veryfast", "crf": "20"}
            picture = np.ascontiguousarray(draw_poses(rgb, pose)[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
