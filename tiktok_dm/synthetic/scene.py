"""Where the demo's dancers dance, and the static decoration around a vertical video. Drawn once a clip with Pillow.

Not for anything that moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

MARGIN = 12  # px of room beyond each edge of the window, for the camera to drift
_FINE = 2  # rooms are drawn at twice the size and scaled down

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Room:
    """A background with its light.

    Args:
        picture: uint8 (height + 2 MARGIN, width + 2 MARGIN, 3).
        light: (5, 3) as `raster.capsules` wants it.
        floor: where feet stand, as a fraction of the window's height.
        shadow: darkness of shadows on the floor, 0..1.
    """

    picture: np.ndarray
    light: np.ndarray
    floor: float
    shadow: float


def light(
    direction: tuple[float, float, float],
    key: float,
    ambient: float,
    tint: RGB,
    rim: tuple[float, float],
    rim_colour: RGB,
) -> np.ndarray:
    """Light of a room: a key light, ambient light tinted by the room, and a coloured light from one side."""
    towards = np.array(direction) / np.linalg.norm(direction)
    side = np.array([rim[0], rim[1], 0.25])
    side /= np.linalg.norm(side)
    tinted = np.array(tint) / 255
    return np.array(
        [towards, key * (0.6 + 0.4 * tinted), ambient * (0.55 + 0.45 * tinted), side, np.array(rim_colour) / 255 * 0.55]
    )


class _Canvas:
    """A drawing in fractions of its width and height."""

    def __init__(self, width: int, height: int, base: RGB) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width, height), base)
        self.draw = ImageDraw.Draw(self.image)

    def gradient(self, top: RGB, bottom: RGB, y0: float = 0.0, y1: float = 1.0) -> None:
        first, last = int(y0 * self.height), int(y1 * self.height)
        t = np.linspace(0, 1, max(last - first, 1))[:, None, None]
        rows = np.array(top) * (1 - t) + np.array(bottom) * t
        block = np.broadcast_to(rows, (len(rows), self.width, 3)).astype(np.uint8)
        self.image.paste(Image.fromarray(np.ascontiguousarray(block)), (0, first))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, radius: float = 0.0, outline: RGB | None = None
    ) -> None:
        size = (x0 * self.width, y0 * self.height, x1 * self.width, y1 * self.height)
        line = max(2, self.height // 150) if outline else 0
        self.draw.rounded_rectangle(size, radius * self.height, fill, outline, line)

    def disc(self, x: float, y: float, r: float, fill: RGB, squeeze: float = 1.0) -> None:
        cx, cy, rx, ry = x * self.width, y * self.height, r * self.height, r * self.height * squeeze
        self.draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill)

    def line(self, points: list[tuple[float, float]], fill: RGB, thick: float) -> None:
        self.draw.line(
            [(x * self.width, y * self.height) for x, y in points], fill, max(1, int(thick * self.height)), "curve"
        )

    def polygon(self, points: list[tuple[float, float]], fill: RGB) -> None:
        self.draw.polygon([(x * self.width, y * self.height) for x, y in points], fill)

    def glow(self, paint: Callable[[_Canvas], None], blur: float, strength: float = 1.0) -> None:
        """Add the light of what `paint` draws on black, blurred."""
        layer = _Canvas(self.width // 4, self.height // 4, (0, 0, 0))
        paint(layer)
        soft = layer.image.filter(ImageFilter.GaussianBlur(blur * layer.height)).resize(
            self.image.size, Image.Resampling.BILINEAR
        )
        lit = np.asarray(self.image).astype(np.float32) + strength * np.asarray(soft).astype(np.float32)
        self.image.paste(Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)))

    def boards(self, y0: float, near: RGB, far: RGB, seam: RGB, count: int = 12) -> None:
        """A floor of boards that run away from the camera."""
        self.gradient(far, near, y0, 1.0)
        for k in range(-count, count + 1):
            self.line([(0.5 + 0.5 * k / count, y0), (0.5 + 1.9 * k / count, 1.0)], seam, 0.0022)
        depth = 0.03
        y = y0 + depth
        while y < 1:
            self.line([(0, y), (1, y)], seam, 0.0015)
            depth *= 1.7
            y += depth


def _vary(rng: np.random.Generator, colour: RGB, by: int = 14) -> RGB:
    red, green, blue = (int(np.clip(c + rng.integers(-by, by + 1), 0, 255)) for c in colour)
    return red, green, blue


def _plant(c: _Canvas, rng: np.random.Generator, x: float, base: float, size: float) -> None:
    aspect = c.height / c.width
    for _ in range(16):
        lean = rng.uniform(-1, 1)
        tip = (x + lean * size * 0.75 * aspect, base - size * rng.uniform(0.75, 1.25) * (1 - 0.3 * abs(lean)))
        middle = (x + lean * size * 0.25 * aspect, (base - size * 0.2 + tip[1]) / 2 - 0.02)
        c.line([(x, base - size * 0.25), middle, tip], _vary(rng, (62, 128, 74), 24), 0.013)
    w = size * 0.2 * aspect
    c.polygon(
        [(x - w, base - size * 0.36), (x + w, base - size * 0.36), (x + w * 0.75, base), (x - w * 0.75, base)],
        (206, 120, 84),
    )


def _bedroom(c: _Canvas, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    wall = _vary(rng, ((198, 176, 214), (176, 204, 216), (232, 200, 190))[rng.integers(3)])
    c.gradient(_vary(rng, wall, 8), tuple(int(v * 0.84) for v in wall), 0, 0.78)  # type: ignore[arg-type]
    c.boards(0.78, (176, 128, 92), (140, 98, 72), (120, 82, 60))
    c.box(-0.1, 0.755, 1.1, 0.785, (244, 240, 236))
    left = rng.random() < 0.5
    x = 0.06 if left else 0.66
    c.box(x, 0.16, x + 0.28, 0.46, (188, 222, 246), 0.008, (250, 250, 250))
    c.line([(x + 0.14, 0.16), (x + 0.14, 0.46)], (250, 250, 250), 0.01)
    side = 0.70 if left else 0.10
    for k in range(3):
        c.box(side + 0.075 * k, 0.2 + 0.03 * (k % 2), side + 0.055 + 0.075 * k, 0.32 + 0.03 * (k % 2),
              _vary(rng, ((238, 120, 110), (250, 210, 110), (110, 170, 190))[k]), 0.004, (250, 246, 240))  # fmt: skip
    c.box(side - 0.06, 0.62, side + 0.36, 0.80, (238, 234, 240), 0.02)
    c.box(side - 0.06, 0.66, side + 0.36, 0.82, _vary(rng, (120, 132, 196), 30), 0.015)
    c.box(side - 0.02, 0.585, side + 0.12, 0.65, (252, 250, 250), 0.02)
    _plant(c, rng, 0.10 if left else 0.90, 0.82, 0.22)
    colour = ((255, 80, 190), (90, 130, 255), (120, 255, 200))[rng.integers(3)]
    c.glow(lambda g: g.line([(0, 0.035), (1, 0.035)], colour, 0.02), 0.05, 0.9)
    c.line([(0, 0.035), (1, 0.035)], tuple(min(255, v + 90) for v in colour), 0.006)  # type: ignore[arg-type]
    return light((-0.4, -0.55, 0.75), 0.60, 0.52, (255, 240, 236), (1.0 if left else -1.0, -0.5), colour), 0.42


def _studio(c: _Canvas, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    c.gradient((206, 212, 220), (226, 228, 232), 0, 0.76)
    panels = 5
    for k in range(panels):
        c.box(k / panels + 0.004, 0.10, (k + 1) / panels - 0.004, 0.70, _vary(rng, (176, 196, 212), 5))
        x = k / panels
        c.polygon([(x + 0.03, 0.70), (x + 0.10, 0.10), (x + 0.145, 0.10), (x + 0.075, 0.70)], (194, 212, 226))
    c.gradient((120, 130, 142), (150, 138, 124), 0.665, 0.70)
    c.boards(0.76, (214, 166, 112), (178, 134, 90), (158, 116, 76), 10)
    c.box(-0.1, 0.70, 1.1, 0.762, (238, 238, 240))
    for y in (0.50,):
        c.line([(0, y), (1, y)], (150, 104, 66), 0.014)
        c.line([(0, y - 0.004), (1, y - 0.004)], (206, 158, 110), 0.004)
    for k in range(4):
        c.line([(0.125 + 0.25 * k, 0.50), (0.125 + 0.25 * k, 0.53)], (110, 110, 116), 0.008)

    def lamps(g: _Canvas) -> None:
        for k in range(3):
            g.box(0.1 + 0.3 * k, 0.0, 0.26 + 0.3 * k, 0.03, (255, 252, 240))

    c.glow(lamps, 0.06, 0.8)
    tint = _vary(rng, (255, 250, 240), 5)
    return light((0.25, -0.8, 0.6), 0.62, 0.55, tint, (-1.0, -0.3), (150, 190, 255)), 0.38


def _street(c: _Canvas, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    dusk = rng.random() < 0.5
    c.gradient(*(((92, 84, 160), (252, 176, 140)) if dusk else ((108, 172, 232), (222, 238, 248))), 0, 0.64)
    c.disc(rng.uniform(0.15, 0.85), 0.34 if dusk else 0.16, 0.055, (255, 236, 190))
    x = -0.05
    while x < 1.05:
        width, top = rng.uniform(0.07, 0.15), rng.uniform(0.18, 0.46)
        wall = _vary(rng, (84, 72, 112) if dusk else (150, 156, 172), 22)
        c.box(x, top, x + width, 0.7, wall)
        for wy in np.arange(top + 0.03, 0.62, 0.05):
            for wx in np.arange(x + 0.012, x + width - 0.02, 0.028):
                lit = rng.random() < (0.45 if dusk else 0.15)
                c.box(wx, wy, wx + 0.014, wy + 0.026, (255, 222, 140) if lit else tuple(int(v * 0.78) for v in wall))  # type: ignore[arg-type]
        x += width + rng.uniform(0, 0.012)
    c.box(-0.1, 0.64, 1.1, 0.70, _vary(rng, (150, 96, 82) if dusk else (176, 132, 112)))
    for k in range(40):
        c.line(
            [(k / 40 + (0.0125 if k % 2 else 0), 0.64), (k / 40 + (0.0125 if k % 2 else 0), 0.70)], (120, 80, 70), 0.002
        )
    c.gradient((118, 116, 126), (150, 148, 156), 0.70, 1.0)
    for k in range(-8, 9):
        c.line([(0.5 + 0.1 * k, 0.70), (0.5 + 0.36 * k, 1.0)], (104, 102, 112), 0.002)
    for y in (0.73, 0.78, 0.86, 0.98):
        c.line([(0, y), (1, y)], (104, 102, 112), 0.002)
    warm = (255, 196, 150) if dusk else (255, 248, 232)
    return light((0.7, -0.5, 0.6), 0.72, 0.50, warm, (-1.0, -0.2), (255, 150, 110) if dusk else (190, 220, 255)), 0.48


def _stage(c: _Canvas, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    first, second = (
        ((255, 60, 150), (60, 160, 255)),
        ((140, 80, 255), (60, 255, 200)),
        ((255, 140, 40), (255, 50, 110)),
    )[rng.integers(3)]
    c.gradient((34, 24, 58), (62, 42, 92), 0, 0.76)
    for k in range(14):
        c.box(k / 14, 0.08, (k + 1) / 14 - 0.006, 0.74, _vary(rng, (52, 38, 84), 6))
    c.gradient((58, 44, 84), (104, 88, 134), 0.76, 1.0)

    def neon(g: _Canvas) -> None:
        g.line([(0.14, 0.62), (0.14, 0.20), (0.32, 0.12), (0.68, 0.12), (0.86, 0.20), (0.86, 0.62)], first, 0.016)
        g.line([(0.06, 0.66), (0.06, 0.14)], second, 0.014)
        g.line([(0.94, 0.66), (0.94, 0.14)], second, 0.014)

    c.glow(neon, 0.035, 1.3)
    c.glow(neon, 0.004, 1.1)

    def beams(g: _Canvas) -> None:
        for x, dx, colour in ((0.2, 0.18, first), (0.8, -0.18, second)):
            g.polygon([(x, -0.05), (x + dx - 0.10, 0.9), (x + dx + 0.10, 0.9)], colour)

    c.glow(beams, 0.05, 0.22)
    c.glow(lambda g: g.disc(0.5, 0.92, 0.30, (200, 170, 255), 0.22), 0.03, 0.45)
    return light((-0.3, -0.6, 0.8), 0.66, 0.54, (240, 226, 255), (1.0, -0.2), second), 0.5


def _park(c: _Canvas, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    c.gradient((120, 188, 240), (226, 242, 250), 0, 0.6)
    for _ in range(5):
        x, y = rng.uniform(0, 1), rng.uniform(0.06, 0.26)
        for _ in range(5):
            c.disc(
                x + rng.uniform(-0.05, 0.05),
                y + rng.uniform(-0.01, 0.01),
                rng.uniform(0.015, 0.035),
                (250, 252, 254),
                0.7,
            )
    c.disc(0.25, 0.82, 0.36, (132, 184, 118), 0.8)
    c.disc(0.85, 0.84, 0.34, (118, 174, 112), 0.8)
    for x in (0.04, 0.20, 0.83, 0.97):
        x += rng.uniform(-0.03, 0.03)
        c.line([(x, 0.68), (x, 0.44)], (112, 82, 62), 0.022)
        for _ in range(26):
            c.disc(
                x + rng.normal(0, 0.035),
                0.36 + rng.normal(0, 0.07),
                rng.uniform(0.03, 0.055),
                _vary(rng, (78, 148, 82), 22),
            )
    c.box(-0.1, 0.585, 1.1, 0.68, (104, 158, 104))
    c.gradient((138, 190, 104), (112, 168, 88), 0.66, 1.0)
    for _ in range(260):
        x, y = rng.uniform(0, 1), rng.uniform(0.67, 1.0)
        c.line([(x, y), (x + rng.uniform(-0.004, 0.004), y - 0.014 * (y - 0.5))], _vary(rng, (92, 150, 74), 18), 0.003)
    c.polygon([(0.30, 0.70), (0.70, 0.70), (1.25, 1.02), (-0.25, 1.02)], (222, 206, 176))
    return light((-0.65, -0.65, 0.6), 0.74, 0.50, (255, 250, 232), (1.0, -0.3), (255, 244, 200)), 0.42


def _living_room(c: _Canvas, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    wall = _vary(rng, ((234, 222, 200), (196, 212, 196), (214, 196, 178))[rng.integers(3)], 8)
    c.gradient(wall, tuple(int(v * 0.88) for v in wall), 0, 0.77)  # type: ignore[arg-type]
    c.boards(0.77, (150, 108, 78), (120, 86, 64), (100, 70, 52), 14)
    c.box(-0.1, 0.752, 1.1, 0.775, (250, 248, 244))
    sofa = _vary(rng, ((70, 120, 124), (190, 104, 84), (96, 104, 150))[rng.integers(3)])
    dark, pale = (tuple(int(min(255, v * f)) for v in sofa) for f in (0.8, 1.15))
    c.box(0.02, 0.56, 0.40, 0.74, dark, 0.03)  # type: ignore[arg-type]
    c.box(0.0, 0.63, 0.42, 0.80, sofa, 0.03)
    c.box(0.06, 0.585, 0.14, 0.665, pale, 0.02)  # type: ignore[arg-type]
    c.box(0.28, 0.585, 0.36, 0.665, (246, 206, 110), 0.02)
    for k, (x, y) in enumerate(((0.08, 0.20), (0.22, 0.14), (0.24, 0.34))):
        w, h = ((0.11, 0.24), (0.14, 0.16), (0.10, 0.14))[k]
        c.box(x, y, x + w, y + h, (250, 248, 244), 0.003, (90, 74, 64))
        c.disc(
            x + w / 2,
            y + h * 0.55,
            min(w, h) * 0.3,
            _vary(rng, ((240, 150, 110), (110, 160, 200), (240, 200, 90))[k], 20),
        )
    c.box(0.72, 0.10, 0.96, 0.50, (176, 214, 240), 0.004, (252, 252, 252))
    c.line([(0.84, 0.10), (0.84, 0.50)], (252, 252, 252), 0.01)
    _plant(c, rng, 0.66, 0.81, 0.30)
    c.glow(lambda g: g.disc(0.92, 0.58, 0.05, (255, 214, 140)), 0.06, 0.8)
    c.polygon([(0.89, 0.60), (0.95, 0.60), (0.935, 0.53), (0.905, 0.53)], (255, 238, 196))
    c.line([(0.92, 0.60), (0.92, 0.80)], (80, 70, 66), 0.008)
    c.disc(0.5, 0.92, 0.42, _vary(rng, (206, 130, 116), 24), 0.16)
    c.disc(0.5, 0.92, 0.37, _vary(rng, (232, 206, 180), 12), 0.16)
    return light((0.6, -0.5, 0.7), 0.62, 0.53, (255, 244, 226), (-1.0, -0.2), (255, 206, 150)), 0.42


ROOMS: dict[str, Callable[[_Canvas, np.random.Generator], tuple[np.ndarray, float]]] = {
    "studio": _studio,
    "bedroom": _bedroom,
    "street": _street,
    "stage": _stage,
    "living room": _living_room,
    "park": _park,
}


def make_room(kind: str, width: int, height: int, rng: np.random.Generator) -> Room:
    """A room for a window of the given size in px; `kind` is a name in `ROOMS`."""
    full = (width + 2 * MARGIN, height + 2 * MARGIN)
    # A narrow window looks at the middle of a room that is as wide as in a landscape picture.
    wide = max(full)
    canvas = _Canvas(wide * _FINE, full[1] * _FINE, (128, 128, 128))
    lights, shadow = ROOMS[kind](canvas, rng)
    picture = canvas.image.resize((wide, full[1]), Image.Resampling.LANCZOS).filter(
        ImageFilter.GaussianBlur(height / 500)
    )
    left = (wide - full[0]) // 2
    picture = picture.crop((left, 0, left + full[0], full[1]))
    pixels = np.asarray(picture).astype(np.float32)
    y, x = np.mgrid[-1 : 1 : full[1] * 1j, -1 : 1 : full[0] * 1j]
    pixels *= (1 - 0.16 * np.clip(x**2 + y**2 - 0.35, 0, 2))[..., None]  # corners fall off, as in a phone's lens
    return Room(np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8)), np.ascontiguousarray(lights), 0.93, shadow)


def _text(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: float, fill: RGB) -> None:
    draw.text((x, y), text, fill, ImageFont.load_default(max(size, 8)), "mm")


def make_decoration(
    width: int, height: int, window: tuple[int, int, int, int], title: str, rng: np.random.Generator
) -> np.ndarray:
    """What surrounds the window of a compilation, uint8 (height, width, 3): it stays the same from start to end."""
    palettes = (((255, 92, 138), (72, 46, 142)), ((20, 184, 196), (32, 52, 120)), ((255, 168, 60), (190, 44, 96)))
    top, bottom = palettes[rng.integers(len(palettes))]
    canvas = _Canvas(width * _FINE, height * _FINE, bottom)
    canvas.gradient(top, bottom)
    pale = tuple(min(255, v + 46) for v in bottom)
    pattern = rng.integers(2)
    for k in range(-12, 30):
        if pattern == 0:
            canvas.line([(k * 0.06, 0), (k * 0.06 + 0.3, 1)], pale if k % 2 else top, 0.004)  # type: ignore[arg-type]
        else:
            for j in range(10):
                canvas.disc((k + (j % 2) * 0.5) * 0.045, j * 0.11, 0.007 + 0.002 * ((k + j) % 3), pale)  # type: ignore[arg-type]
    x, y, w, h = window
    image = canvas.image.resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    draw.rectangle((x - 3, y - 3, x + w + 2, y + h + 2), (255, 255, 255))
    side = x / 2
    words = title.split()
    size = min(height / 11, 1.5 * x / max(len(word) for word in words))
    for k, word in enumerate(words):
        _text(draw, side, height * 0.36 + k * size * 1.15, word.upper(), size, (255, 255, 255))
    other = (x + w + width) / 2
    r = min(side * 0.5, height * 0.11)
    cy = height * 0.42
    draw.ellipse((other - r, cy - r, other + r, cy + r), (255, 255, 255))
    draw.polygon([(other - r * 0.34, cy - r * 0.5), (other - r * 0.34, cy + r * 0.5), (other + r * 0.55, cy)], top)
    _text(draw, other, cy + r * 1.6, "dance mix", height / 22, (255, 255, 255))
    return np.asarray(image).copy()


def make_title_card(width: int, height: int, title: str, rng: np.random.Generator) -> np.ndarray:
    """A card that opens a compilation, uint8 (height, width, 3)."""
    canvas = _Canvas(width * _FINE, height * _FINE, (24, 20, 40))
    canvas.gradient((30, 22, 58), (88, 34, 92))
    colours = ((255, 92, 138), (72, 180, 255), (255, 196, 80))

    def spots(g: _Canvas) -> None:
        for k in range(6):
            g.disc(float(rng.uniform(0, 1)), float(rng.uniform(0, 1)), 0.12, colours[k % 3])

    canvas.glow(spots, 0.08, 0.5)
    image = canvas.image.resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    size = min(height / 7, 1.5 * width / max(len(title), 1))
    _text(draw, width / 2, height * 0.46, title, size, (255, 255, 255))
    _text(
        draw, width / 2, height * 0.46 + size * 1.1, "rendered dancers, synthesised songs", size * 0.36, (226, 210, 240)
    )
    return np.asarray(image).copy()
