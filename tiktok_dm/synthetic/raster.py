"""Fast pixel loops: shaded tapered capsules with a z-buffer, drawn at twice the size and averaged over a background.

Compiled by numba (a dependency of librosa) and cached beside the module. Not for what is drawn (`figure`, `scene`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

SUPERSAMPLING = 2
FAR = -1e9

# Columns of a capsule's geometry: two ends (x, y, z, radius) in px; and of its material.
GEOMETRY = 8
MATERIAL = 10  # red, green, blue, gloss, second red, green, blue, from, to (of the second colour), smooth


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba's compiler; without a cache where there is no folder to hold one."""
    try:
        return numba.njit(cache=True, boundscheck=False)(function)
    except RuntimeError:
        return numba.njit(boundscheck=False)(function)


def bounds(geometry: np.ndarray, width: int, height: int) -> np.ndarray:
    """Box (n, 4) of each frame's capsules (n, P, 8): x0, y0, x1, y1 in px of a picture of that size."""
    reach = geometry[..., [3, 7]]
    boxes = []
    for axis, size in ((0, width), (1, height)):
        places = geometry[..., [axis, axis + 4]]
        first = np.floor((places - reach).min((1, 2)) / SUPERSAMPLING).astype(int) - 1
        last = np.ceil((places + reach).max((1, 2)) / SUPERSAMPLING).astype(int) + 2
        boxes.append((np.clip(first, 0, size), np.clip(last, 0, size)))
    (x0, x1), (y0, y1) = boxes
    return np.stack([x0, y0, x1, y1], -1)


@_compiled
def background(room, dx, dy, out):
    """Copy the part of `room` (height + 2 m, 3 (width + 2 m)) that a camera shifted by (dx, dy) px sees, bilinearly.

    Both arrays are uint8 with the three colours of a pixel side by side in a row; `out` is (height, 3 width).
    """
    height, width = out.shape
    margin_y, margin_x = (room.shape[0] - height) // 2, (room.shape[1] - width) // 6
    x0, y0 = int(np.floor(dx)), int(np.floor(dy))
    fx, fy = int((dx - x0) * 16 + 0.5), int((dy - y0) * 16 + 0.5)
    w00, w01 = np.uint16((16 - fx) * (16 - fy)), np.uint16(fx * (16 - fy))
    w10, w11 = np.uint16((16 - fx) * fy), np.uint16(fx * fy)
    left = 3 * (margin_x + x0)
    for y in range(height):
        upper, lower = room[margin_y + y0 + y, left:], room[margin_y + y0 + y + 1, left:]
        row = out[y]
        for x in range(width):
            # At most 255 * 256, which sixteen bits hold.
            above = w00 * np.uint16(upper[x]) + w01 * np.uint16(upper[x + 3])
            below = w10 * np.uint16(lower[x]) + w11 * np.uint16(lower[x + 3])
            row[x] = np.uint8(np.uint16(above + below) >> np.uint16(8))


@_compiled
def shadow(out, x, y, radius_x, radius_y, strength):
    """Darken a soft ellipse of the floor."""
    height, width = out.shape[0], out.shape[1]
    for j in range(max(0, int(y - 2 * radius_y)), min(height, int(y + 2 * radius_y) + 1)):
        for i in range(max(0, int(x - 2 * radius_x)), min(width, int(x + 2 * radius_x) + 1)):
            d = ((i - x) / radius_x) ** 2 + ((j - y) / radius_y) ** 2
            if d < 4:
                keep = 1 - strength * (1 - d / 4) ** 2
                for c in range(3):
                    out[j, i, c] = np.uint8(out[j, i, c] * keep + 0.5)


@_compiled
def capsules(geometry, depth, surface, which):
    """Find the nearest surface in every pixel of capsules (P, 8).

    Writes depth (h, w); surface (h, w, 3): the normal's x and y and the place along the capsule, 0..1; and which
    (h, w), the capsule's number.
    """
    height, width = depth.shape
    for p in range(geometry.shape[0]):
        ax, ay, az, ar, bx, by, bz, br = geometry[p]
        reach = max(ar, br)
        nearest = max(az, bz) + reach
        vx, vy, vz = bx - ax, by - ay, bz - az
        length2 = max(vx * vx + vy * vy, 1e-6)
        inverse = 1 / length2
        slope = 1 / (1 + vz * vz * inverse)
        band = reach * np.sqrt(length2)
        x_low, x_high = min(ax, bx) - reach, max(ax, bx) + reach
        for y in range(max(0, int(min(ay, by) - reach)), min(height, int(max(ay, by) + reach) + 2)):
            py = y - ay
            low, high = x_low, x_high
            if abs(vy) > 1e-3:  # only where the row crosses the band about the axis
                one, two = ax + (py * vx - band) / vy, ax + (py * vx + band) / vy
                low, high = max(low, min(one, two)), min(high, max(one, two))
            for x in range(max(0, int(low)), min(width, int(high) + 2)):
                if nearest <= depth[y, x]:
                    continue
                px = x - ax
                cross = px * vy - py * vx
                along = px * vx + py * vy
                t = min(max(along * inverse, 0.0), 1.0)
                radius = ar + t * (br - ar)
                rest = radius * radius - cross * cross * inverse
                if rest <= 0:
                    continue
                # The nearest surface is that of the sphere at t which maximises its depth plus its bulge.
                t = min(max((along + vz * np.sqrt(rest * slope)) * inverse, 0.0), 1.0)
                nx, ny = px - t * vx, py - t * vy
                radius = ar + t * (br - ar)
                rest = radius * radius - nx * nx - ny * ny
                if rest <= 0:
                    continue
                z = az + t * vz + np.sqrt(rest)
                if z <= depth[y, x]:
                    continue
                depth[y, x] = z
                which[y, x] = p
                surface[y, x, 0] = nx / radius
                surface[y, x, 1] = ny / radius
                surface[y, x, 2] = t


@_compiled
def compose(box, material, light, depth, surface, which, out):
    """Shade the visible surfaces, average 2 x 2 samples over `out`, and empty the buffers for the next frame.

    Args:
        box: x0, y0, x1, y1 in px of `out`: nothing was drawn outside it.
        material: (P, 10), see `MATERIAL`.
        light: (5, 3): direction to the key light, its colour, ambient colour, direction to the rim light, its colour.
    """
    for y in range(box[1], box[3]):
        for x in range(box[0], box[2]):
            covered = 0
            red, green, blue = 0.0, 0.0, 0.0
            for sample in range(4):
                j, i = 2 * y + sample // 2, 2 * x + sample % 2
                if depth[j, i] <= FAR:
                    continue
                depth[j, i] = FAR
                covered += 1
                nx, ny, t = surface[j, i]
                m = material[which[j, i]]
                nz = np.sqrt(max(1 - nx * nx - ny * ny, 0.0))
                if m[9] > 0:  # one of a stack: shaded as the smooth body that the stack stands for
                    ny *= 0.15
                    norm = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
                    nx, ny, nz = nx * norm, ny * norm, nz * norm
                lambert = max(0.0, nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2])
                rim = max(0.0, nx * light[3, 0] + ny * light[3, 1] + nz * light[3, 2])
                rim = 255 * rim * rim * (1 - nz)
                edge = 0.80 + 0.20 * nz  # slightly darker outlines set limbs off from the body
                shine = 0.0
                if m[3] > 0:
                    shine = 255 * m[3] * lambert**12
                first = 4 if m[7] <= t <= m[8] else 0
                r = m[first] * edge * (light[2, 0] + light[1, 0] * lambert) + shine + light[4, 0] * rim
                g = m[first + 1] * edge * (light[2, 1] + light[1, 1] * lambert) + shine + light[4, 1] * rim
                b = m[first + 2] * edge * (light[2, 2] + light[1, 2] * lambert) + shine + light[4, 2] * rim
                red, green, blue = red + min(255.0, r), green + min(255.0, g), blue + min(255.0, b)
            if covered:
                keep = (4 - covered) * 0.25
                out[y, x, 0] = np.uint8(out[y, x, 0] * keep + 0.25 * red + 0.5)
                out[y, x, 1] = np.uint8(out[y, x, 1] * keep + 0.25 * green + 0.5)
                out[y, x, 2] = np.uint8(out[y, x, 2] * keep + 0.25 * blue + 0.5)


@_compiled
def blend(first, second, weight, out):
    """`out` = first (1 - weight) + second weight, for cross-fades."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for c in range(3):
                out[y, x, c] = np.uint8(first[y, x, c] * (1 - weight) + second[y, x, c] * weight + 0.5)
