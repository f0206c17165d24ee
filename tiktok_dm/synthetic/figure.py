"""What a dancer looks like: a posed body dressed as a list of capsules, and the camera that sees them.

Not for the pixel loops (`raster`) or the pose (`body`, `choreography`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiktok_dm.synthetic.body import EYE, HAND, NOSE, SIDE, Skeleton
from tiktok_dm.synthetic.raster import GEOMETRY, MATERIAL, SUPERSAMPLING

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
