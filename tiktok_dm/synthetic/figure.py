"""What a dancer looks like: a posed body dressed as capsules, the camera, and the loops that shade them.

Compiled by numba (a dependency of librosa) and cached beside the module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from tiktok_dm.synthetic.choreography import EYE, HAND, NOSE, SIDE, Skeleton

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


Colour = tuple[float, float, float]
SKINS: tuple[Colour, ...] = ((244, 208, 182), (226, 178, 142), (198, 142, 104), (150, 98, 68), (104, 68, 48))
HAIR: tuple[Colour, ...] = ((34, 26, 24), (74, 46, 30), (126, 80, 42), (196, 152, 88), (150, 52, 38), (48, 40, 56))
TOPS: tuple[Colour, ...] = (
    (226, 58, 62), (44, 120, 214), (246, 190, 42), (40, 168, 120), (236, 112, 172), (240, 240, 236), (142, 84, 206),
    (248, 136, 48), (36, 40, 50), (92, 206, 214),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = (
    (42, 58, 98), (34, 34, 40), (98, 124, 166), (196, 180, 148), (88, 92, 74), (222, 222, 226), (120, 54, 70),
    (64, 44, 104),
)  # fmt: skip
SHOES: tuple[Colour, ...] = (
    (246, 246, 246),
    (230, 66, 60),
    (40, 42, 48),
    (250, 204, 60),
    (66, 140, 230),
    (120, 220, 160),
)
HAIRSTYLES = ("short", "long", "bun", "ponytail", "afro", "cap")
SLEEVES = ("short", "long", "none")


@dataclass(frozen=True)
class Look:
    """Colours (RGB 0..255) and cut of one dancer's clothes and hair."""

    skin: Colour
    hair: Colour
    hairstyle: str
    top: Colour
    top_trim: Colour
    sleeves: str
    trousers: Colour
    shorts: bool
    shoes: Colour


def make_look(rng: np.random.Generator, taken: tuple[Look, ...] = ()) -> Look:
    """A random look; tops and trousers contrast, and differ from those of the dancers beside."""
    tops = [c for c in TOPS if c not in {look.top for look in taken}]
    top = tops[rng.integers(len(tops))]
    far = [c for c in TROUSERS if np.abs(np.subtract(c, top)).sum() > 170]
    trims = [c for c in TOPS if np.abs(np.subtract(c, top)).sum() > 200]
    styles = [s for s in HAIRSTYLES if s not in {look.hairstyle for look in taken}]
    return Look(
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIR[rng.integers(len(HAIR))],
        hairstyle=styles[rng.integers(len(styles))],
        top=top,
        top_trim=trims[rng.integers(len(trims))],
        sleeves=SLEEVES[rng.choice(3, p=(0.5, 0.3, 0.2))],
        trousers=far[rng.integers(len(far))],
        shorts=bool(rng.random() < 0.3),
        shoes=SHOES[rng.integers(len(SHOES))],
    )


@dataclass(frozen=True)
class Camera:
    """Mild perspective, centred on one dancer.

    Args:
        x, floor_y: where the dancer's feet stand in the picture, px.
        height: the dancer's height in px.
        nearer: how far the dancer stands before the others, in body heights (only decides who hides whom).
    """

    x: float
    floor_y: float
    height: float
    nearer: float = 0.0

    DISTANCE = 4.4  # from the dancer, in body heights
    EYE_LEVEL = 0.6

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x px, y px, depth px (greater is nearer) and px per body height for points (..., 3) in body heights."""
        scale = self.height * self.DISTANCE / (self.DISTANCE - points[..., 2])
        x = self.x + points[..., 0] * scale
        y = self.floor_y - self.EYE_LEVEL * self.height - (points[..., 1] - self.EYE_LEVEL) * scale
        return x, y, (points[..., 2] + self.nearer) * self.height, scale

    def joints(self, skeleton: Skeleton) -> np.ndarray:
        """BODY_25 joints in px, (n, 25, 2)."""
        x, y, _, _ = self.project(skeleton.joints)
        return np.stack([x, y], -1)


class _Parts:
    """Collects capsules over all frames."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.ends: list[tuple[np.ndarray, float, np.ndarray, float]] = []
        self.materials: list[list[float]] = []

    def add(
        self,
        a: np.ndarray,
        ra: float,
        b: np.ndarray,
        rb: float,
        colour: Colour,
        *,
        gloss: float = 0.0,
        stripe: tuple[Colour, float, float] | None = None,
        smooth: bool = False,
    ) -> None:
        second, low, high = stripe or (colour, 2.0, 2.0)
        self.ends.append((a, ra, b, rb))
        self.materials.append([*colour, gloss, *second, low, high, float(smooth)])


def _mix(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    return a + t * (b - a)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255.0, c * factor) for c in colour)
    return red, green, blue


def dress(skeleton: Skeleton, look: Look) -> tuple[list, np.ndarray]:
    """The capsules of a dancer.

    Returns:
        Ends: a list of (point (n, 3), radius, point (n, 3), radius) in body heights; materials (P, 10) for `raster`.
    """
    parts = _Parts(len(skeleton.joints))
    _torso(parts, skeleton, look)
    for side in (0, 1):
        _arm(parts, skeleton, look, side)
        _leg(parts, skeleton, look, side)
    _head(parts, skeleton, look)
    return parts.ends, np.array(parts.materials, float).reshape(-1, MATERIAL)


def _torso(parts: _Parts, s: Skeleton, look: Look) -> None:
    hip, neck = s.joints[:, 8], s.joints[:, 1]
    levels = np.linspace(-0.13, 1.0, 17)
    at = (-0.13, -0.08, -0.055, 0.10, 0.42, 0.80, 0.94, 1.0)
    widths = np.interp(levels, at, (0.016, 0.036, 0.050, 0.054, 0.038, 0.058, 0.074, 0.058))
    radii = np.interp(levels, at, (0.046, 0.052, 0.058, 0.066, 0.049, 0.053, 0.041, 0.034))
    for level, width, radius in zip(levels, widths, radii, strict=True):
        axis = _mix(s.pelvis_axes[:, :, 0], s.chest_axes[:, :, 0], float(np.clip(level, 0, 1)))
        centre = _mix(hip, neck, float(level)) - 0.004 * s.chest_axes[:, :, 2]
        if level < 0.05:  # the top hangs over the trousers
            colour = look.trousers
        elif 0.56 < level < 0.68:
            colour = look.top_trim
        else:
            colour = look.top
        parts.add(centre - width * axis, radius, centre + width * axis, radius, colour, smooth=True)
    up, forward = s.chest_axes[:, :, 1], s.chest_axes[:, :, 2]
    parts.add(neck - 0.01 * up, 0.033, _mix(neck, s.head, 0.62), 0.029, _shade(look.skin, 0.88))
    if look.sleeves == "long":  # a hood lies on the shoulders
        for side in SIDE:
            across = s.chest_axes[:, :, 0] * side
            parts.add(
                neck + 0.004 * up - 0.035 * forward,
                0.036,
                neck + 0.012 * up + 0.045 * across,
                0.024,
                _shade(look.top, 0.86),
            )


def _arm(parts: _Parts, s: Skeleton, look: Look, side: int) -> None:
    shoulder, elbow, wrist = (s.joints[:, (2, 5)[side] + k] for k in range(3))
    upper = look.skin if look.sleeves == "none" else look.top
    if look.sleeves == "short":
        parts.add(shoulder, 0.037, _mix(shoulder, elbow, 0.62), 0.036, look.top, stripe=(look.top_trim, 0.86, 0.999))
        upper = look.skin
    parts.add(shoulder, 0.035, elbow, 0.028, upper)
    if look.sleeves == "long":
        parts.add(elbow, 0.030, _mix(elbow, wrist, 0.92), 0.024, look.top, stripe=(look.top_trim, 0.88, 1.0))
    parts.add(elbow, 0.0275, wrist, 0.019, look.skin)
    tip = s.fingertips[:, side]
    palm = _mix(wrist, tip, 0.62 * HAND / (HAND + 0.042))
    parts.add(wrist, 0.018, palm, 0.022, look.skin)
    across = np.cross(tip - wrist, s.chest_axes[:, :, 2])
    across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
    for k in (-1.0, 0.0, 1.0):
        parts.add(
            palm + 0.012 * k * across,
            0.0105,
            _mix(palm, tip, 0.92 - 0.1 * abs(k)) + 0.017 * k * across,
            0.0075,
            look.skin,
        )
    thumb = SIDE[side] * across
    parts.add(_mix(wrist, palm, 0.4), 0.011, palm + 0.030 * thumb, 0.0075, look.skin)


def _leg(parts: _Parts, s: Skeleton, look: Look, side: int) -> None:
    hip, knee, ankle = (s.joints[:, (9, 12)[side] + k] for k in range(3))
    toe, heel = s.joints[:, (22, 19)[side]], s.joints[:, (24, 21)[side]]
    if look.shorts:
        parts.add(
            hip, 0.061, _mix(hip, knee, 0.66), 0.055, look.trousers, stripe=(_shade(look.trousers, 1.3), 0.9, 0.999)
        )
        parts.add(hip, 0.058, knee, 0.041, look.skin)
        parts.add(knee, 0.041, _mix(knee, ankle, 0.4), 0.037, look.skin)
        parts.add(_mix(knee, ankle, 0.4), 0.037, ankle, 0.023, look.skin)
        parts.add(_mix(knee, ankle, 0.80), 0.027, ankle, 0.025, (244, 244, 244))
    else:
        parts.add(hip, 0.061, knee, 0.042, look.trousers)
        cuff = (_shade(look.trousers, 0.8), 0.92, 0.999)
        parts.add(knee, 0.042, _mix(knee, ankle, 0.92), 0.033, look.trousers, stripe=cuff)
        parts.add(ankle, 0.022, ankle, 0.022, look.skin)
    sole: Colour = (236, 236, 232) if look.shoes != (246, 246, 246) else (176, 182, 196)
    up = np.array([0, 0.012, 0.0])
    parts.add(heel + up, 0.030, _mix(heel, toe, 0.55) + up, 0.028, look.shoes, gloss=0.12)
    parts.add(_mix(heel, toe, 0.5) + up * 0.6, 0.028, _mix(heel, toe, 0.90), 0.023, look.shoes, gloss=0.12)
    parts.add(heel - up * 0.6, 0.025, _mix(heel, toe, 0.94) - up * 0.5, 0.021, sole)


def _head(parts: _Parts, s: Skeleton, look: Look) -> None:
    def at(x: float, y: float, z: float) -> np.ndarray:
        return s.head + np.einsum("nij,j->ni", s.head_axes, np.array([x, y, z]))

    skin, hair = look.skin, look.hair
    dark = _shade(skin, 0.78)
    parts.add(at(0, 0.012, 0.002), 0.055, at(0, -0.012, 0.006), 0.050, skin)
    parts.add(at(0, -0.012, 0.006), 0.048, at(0, -0.041, 0.011), 0.031, skin)
    for side in SIDE:
        x, y, z = EYE
        parts.add(at(side * x, y, z - 0.001), 0.0092, at(side * x, y, z - 0.001), 0.0092, (250, 250, 250))
        parts.add(at(side * x, y, z + 0.006), 0.0056, at(side * x, y, z + 0.006), 0.0056, (38, 28, 24), gloss=0.9)
        brow = _shade(hair, 0.8)
        parts.add(at(side * 0.011, 0.0275, 0.0525), 0.0032, at(side * 0.030, 0.0255, 0.0455), 0.0026, brow)
        parts.add(at(side * 0.052, 0.002, 0.004), 0.011, at(side * 0.052, -0.012, 0.004), 0.008, dark)
    parts.add(at(0, 0.008, 0.054), 0.0055, at(NOSE[0], NOSE[1], NOSE[2] - 0.003), 0.0085, _shade(skin, 0.96))
    lips, teeth = (182, 66, 76), (250, 246, 242)
    for side in SIDE:  # a smile
        parts.add(at(0, -0.0365, 0.0470), 0.0052, at(side * 0.0165, -0.0300, 0.0460), 0.0036, lips)
        parts.add(at(0, -0.0350, 0.0503), 0.0034, at(side * 0.0115, -0.0305, 0.0495), 0.0022, teeth)

    if look.hairstyle == "cap":
        parts.add(at(0, 0.030, -0.004), 0.056, at(0, 0.022, -0.008), 0.058, look.top_trim)
        parts.add(at(-0.020, 0.034, 0.052), 0.013, at(0.020, 0.034, 0.052), 0.013, _shade(look.top_trim, 0.8))
        parts.add(at(-0.014, 0.031, 0.070), 0.009, at(0.014, 0.031, 0.070), 0.009, _shade(look.top_trim, 0.8))
        parts.add(at(0, -0.008, -0.014), 0.052, at(0, -0.022, -0.012), 0.046, hair)
        return
    if look.hairstyle == "afro":
        for x, y, z, r in (
            (0.0, 0.050, -0.010, 0.062), (0.036, 0.032, -0.014, 0.052), (-0.036, 0.032, -0.014, 0.052),
            (0.044, 0.002, -0.022, 0.044), (-0.044, 0.002, -0.022, 0.044), (0.0, 0.01, -0.032, 0.062),
        ):  # fmt: skip
            parts.add(at(x, y, z), r, at(x, y, z), r, hair)
        return
    parts.add(at(0, 0.026, -0.009), 0.0575, at(0, 0.0, -0.014), 0.0545, hair)
    parts.add(at(-0.026, 0.044, 0.022), 0.020, at(0.030, 0.048, 0.020), 0.018, hair, gloss=0.06)
    for side in SIDE:
        parts.add(at(side * 0.045, 0.030, 0.012), 0.015, at(side * 0.051, -0.002, -0.004), 0.010, hair)
    if look.hairstyle == "long":
        for side in SIDE:
            parts.add(at(side * 0.046, 0.015, -0.010), 0.020, at(side * 0.053, -0.085, -0.020), 0.021, hair, gloss=0.06)
        parts.add(at(0, 0.0, -0.035), 0.046, at(0, -0.105, -0.042), 0.040, hair)
    elif look.hairstyle == "bun":
        parts.add(at(0, 0.082, -0.022), 0.028, at(0, 0.086, -0.024), 0.028, hair, gloss=0.06)
    elif look.hairstyle == "ponytail":
        # The tail hangs straight down and lags behind the head, as tails do.
        root = at(0, 0.030, -0.066)
        lag = np.vstack([root[:1].repeat(4, 0), root[:-4]]) if len(root) > 4 else root
        end = 0.45 * root + 0.55 * lag + np.array([0, -0.115, -0.02])
        parts.add(root, 0.024, _mix(root, end, 0.6), 0.024, hair)
        parts.add(_mix(root, end, 0.6), 0.024, end, 0.008, hair)


def projected(ends: list, camera: Camera) -> np.ndarray:
    """Geometry (n, P, 8) of capsules for `raster.capsules`, in supersampled px."""
    points = np.stack([np.stack([a, b], 1) for a, _, b, _ in ends], 1)  # (n, P, 2, 3)
    radii = np.array([(ra, rb) for _, ra, _, rb in ends])
    x, y, z, scale = camera.project(points)
    geometry = np.stack([x + 0.25, y + 0.25, z, radii * scale], -1).reshape(len(x), len(ends), GEOMETRY)
    return geometry * SUPERSAMPLING
