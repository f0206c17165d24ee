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


@_compiled
def background(room, dx, dy, out):
    """Copy the part of `room` (height + 2 m, width + 2 m, 3) that a camera shifted by (dx, dy) px sees, bilinearly."""
    height, width = out.shape[0], out.shape[1]
    margin_y, margin_x = (room.shape[0] - height) // 2, (room.shape[1] - width) // 2
    x0, y0 = int(np.floor(dx)), int(np.floor(dy))
    fx, fy = int((dx - x0) * 16 + 0.5), int((dy - y0) * 16 + 0.5)
    w00, w01, w10, w11 = (16 - fx) * (16 - fy), fx * (16 - fy), (16 - fx) * fy, fx * fy
    left = margin_x + x0
    for y in range(height):
        upper, lower = room[margin_y + y0 + y], room[margin_y + y0 + y + 1]
        row = out[y]
        for x in range(width):
            for c in range(3):
                value = (
                    w00 * numba.int32(upper[left + x, c])
                    + w01 * numba.int32(upper[left + x + 1, c])
                    + w10 * numba.int32(lower[left + x, c])
                    + w11 * numba.int32(lower[left + x + 1, c])
                    + 128
                )
                row[x, c] = numba.uint8(value >> 8)


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
                    out[j, i, c] = numba.uint8(out[j, i, c] * keep + 0.5)


@_compiled
def capsules(geometry, material, light, depth, colour):
    """Draw capsules (P, 8) with materials (P, 10) into depth (h, w) and colour (h, w, 3), nearest surface first.

    `light` is (5, 3): direction to the key light, its colour, ambient colour, direction to the rim light, its colour.
    """
    height, width = depth.shape
    for p in range(geometry.shape[0]):
        ax, ay, az, ar, bx, by, bz, br = geometry[p]
        reach = max(ar, br)
        vx, vy, vz = bx - ax, by - ay, bz - az
        length2 = max(vx * vx + vy * vy, 1e-6)
        slope = vz * vz / length2
        for y in range(max(0, int(min(ay, by) - reach)), min(height, int(max(ay, by) + reach) + 2)):
            for x in range(max(0, int(min(ax, bx) - reach)), min(width, int(max(ax, bx) + reach) + 2)):
                px, py = x - ax, y - ay
                along = px * vx + py * vy
                t = min(max(along / length2, 0.0), 1.0)
                radius = ar + t * (br - ar)
                rest = radius * radius - (px * px + py * py - along * along / length2)
                if rest <= 0:
                    continue
                # The nearest surface is that of the sphere at t which maximises its depth plus its bulge.
                t = min(max((along + vz * np.sqrt(rest / (1 + slope))) / length2, 0.0), 1.0)
                nx, ny = px - t * vx, py - t * vy
                radius = ar + t * (br - ar)
                rest = radius * radius - nx * nx - ny * ny
                if rest <= 0:
                    continue
                nz = np.sqrt(rest)
                z = az + t * vz + nz
                if z <= depth[y, x]:
                    continue
                depth[y, x] = z
                if material[p, 9] > 0:  # one of a stack: shaded as the smooth body that the stack stands for
                    ny *= 0.15
                norm = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
                nx, ny, nz = nx * norm, ny * norm, nz * norm
                lambert = max(0.0, nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2])
                rim = max(0.0, nx * light[3, 0] + ny * light[3, 1] + nz * light[3, 2])
                rim = rim * rim * (1 - max(nz, 0.0))
                second = material[p, 7] <= t <= material[p, 8]
                edge = 0.80 + 0.20 * max(nz, 0.0)
                shine = material[p, 3] * lambert**12
                for c in range(3):
                    base = material[p, 4 + c] if second else material[p, c]
                    value = base * edge * (light[2, c] + light[1, c] * lambert) + 255 * shine
                    colour[y, x, c] = min(255.0, value + 255 * light[4, c] * rim)


@_compiled
def compose(depth, colour, out):
    """Average 2 x 2 samples over `out`, and empty the buffers for the next frame."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            covered = 0
            red, green, blue = 0.0, 0.0, 0.0
            for j in range(2):
                for i in range(2):
                    if depth[2 * y + j, 2 * x + i] > FAR:
                        depth[2 * y + j, 2 * x + i] = FAR
                        covered += 1
                        red += colour[2 * y + j, 2 * x + i, 0]
                        green += colour[2 * y + j, 2 * x + i, 1]
                        blue += colour[2 * y + j, 2 * x + i, 2]
            if covered:
                keep = (4 - covered) * 0.25
                out[y, x, 0] = numba.uint8(out[y, x, 0] * keep + 0.25 * red + 0.5)
                out[y, x, 1] = numba.uint8(out[y, x, 1] * keep + 0.25 * green + 0.5)
                out[y, x, 2] = numba.uint8(out[y, x, 2] * keep + 0.25 * blue + 0.5)


@_compiled
def blend(first, second, weight, out):
    """`out` = first (1 - weight) + second weight, for cross-fades."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for c in range(3):
                out[y, x, c] = numba.uint8(first[y, x, c] * (1 - weight) + second[y, x, c] * weight + 0.5)
