"""Makes compilations of which everything is known: cuts, cross-fades, cards, and what looks like a cut and is none.

A compilation is drawn at random from footage and music that the caller gives, or that `demo_footage` and `demo_music`
make of the synthetic dancers. Footage is short and is played forward and backward, so it has no jump of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

RATE = 22_050
EFFECTS = (
    "flash", "double_flash", "blink", "strobe", "punch_zoom", "zoom", "whip_pan", "pumping", "shake", "freeze",
    "filter", "captions", "sticker", "glitch",
)  # fmt: skip
LAYOUTS = ("tall", "square", "side", "full", "blur", "animated", "logo")
CARDS = ("still", "zooming", "text", "photo", "photo_zooming", "confetti")


@dataclass(frozen=True)
class Footage:
    """A short take: frames uint8 (n, h, w, 3) at `fps`; `room` is equal where dancer and room are the same."""

    frames: np.ndarray
    fps: float
    room: str

    def index(self, t_s: float) -> int:
        n = len(self.frames)
        k = int(t_s * self.fps + 1e-6) % (2 * n - 2)
        return k if k < n else 2 * n - 2 - k


@dataclass(frozen=True)
class Music:
    """A song: mono float32 at `RATE`."""

    name: str
    samples: np.ndarray

    def stretch(self, start_s: float, samples: int) -> np.ndarray:
        """`samples` samples from `start_s` on; a song that is too short is played backward from its end on."""
        there_and_back = np.concatenate([self.samples, self.samples[::-1]])
        return np.take(there_and_back, np.arange(samples) + round(start_s * RATE), mode="wrap")


@dataclass(frozen=True)
class Part:
    """A stretch of the compilation: a clip, a card, or black."""

    kind: str
    frames: int
    footage: Footage | None = None
    phase_s: float = 0.0
    speed: float = 1.0
    framing: tuple[float, float, float] = (
        1.0,
        0.0,
        0.0,
    )  # how much nearer, and shifted by which parts, the camera stands
    music: Music | None = None
    offset_s: float = 0.0
    runs_on: bool = False  # its music goes on from the part before
    layout: str = "full"
    border: int = 0  # seed of the decoration
    effects: tuple[tuple[str, float, float], ...] = ()  # kind, start and length in s of the part
    jumps: tuple[float, ...] = ()  # s of the part at which the take jumps by `jump_s`
    jump_s: float = 0.9
    card: str = "still"
    text: str = ""
    transition: str = "hard_cut"  # how it begins: hard_cut, crossfade, fade_black, fade_white
    fade: int = 0  # frames of that transition, half of them before its start


@dataclass(frozen=True)
class Compilation:
    """All that is needed to render one."""

    parts: tuple[Part, ...]
    size: tuple[int, int] = (426, 240)
    fps: Fraction = Fraction(30)
    variable: bool = False
    crf: int = 23
    sound: str = "mono"  # mono, stereo, none, silent
    seed: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------- footage and music of the demo


@functools.cache
def demo_footage(count: int = 6, seconds: float = 1.6, seed: int = 3, height: int = 180) -> tuple[Footage, ...]:
    """Takes of the synthetic dancers; the last one is a second take of the first one's dancer and room."""
    from tiktok_dm.synthetic import DemoParams
    from tiktok_dm.synthetic.performance import pictures
    from tiktok_dm.synthetic.plan import make_plan

    width = round(height * 9 / 16 / 2) * 2
    params = DemoParams(
        clips=count - 1, songs=count - 1, compilations=1, seed=seed, width=16 * height // 9 // 2 * 2, height=height,
        layouts=("square",),
    )  # fmt: skip
    takes = []
    for number, clip in enumerate(make_plan(params)[0].clips):
        again = number == 0
        frames = round(seconds * 30) * (2 if again else 1)
        whole = replace(clip, frames=frames)
        x, y, w, h = clip.window
        shown = np.stack([p[y : y + h, x : x + w] for p in pictures(params, whole)])
        inset = (w - width) // 2
        shown = shown[:, :, inset : inset + width]
        takes.append(Footage(shown[: round(seconds * 30)], 30.0, f"demo{number}"))
        if again:
            second = Footage(shown[round(seconds * 30) :], 30.0, f"demo{number}")
    return (*takes, second)


@functools.cache
def demo_music(count: int = 5, seconds: float = 30.0, seed: int = 3) -> tuple[Music, ...]:
    import soxr

    from tiktok_dm.synthetic.instruments import SAMPLE_RATE
    from tiktok_dm.synthetic.music import render_song

    return tuple(
        Music(f"song{k}", soxr.resample(render_song(seed, k)[: round(seconds * SAMPLE_RATE)], SAMPLE_RATE, RATE))
        for k in range(count)
    )


# -------------------------------------------------------------------------------------------------------------- drawing


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _cover(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled to fill `size`, cut where it is too wide or too high."""
    height, width = picture.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    w, h = min(width, round(size[0] / scale)), min(height, round(size[1] / scale))
    x, y = (width - w) // 2, (height - h) // 3
    return _resized(np.ascontiguousarray(picture[y : y + h, x : x + w]), size)


@functools.lru_cache(maxsize=64)
def _decoration(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 11])
    width, height = size
    image = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    style = rng.integers(4)
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    if style == 1:
        for x in range(-height, width, max(8, width // 20)):
            draw.line([(x, height), (x + height, 0)], colour, max(2, width // 60))
    elif style == 2:
        for _ in range(60):
            x, y, r = rng.integers(width), rng.integers(height), rng.integers(2, max(4, height // 12))
            draw.ellipse(
                [int(x - r), int(y - r), int(x + r), int(y + r)], tuple(int(c) for c in rng.integers(0, 256, 3))
            )
    elif style == 3:
        draw.rectangle([0, 0, width // 2, height], colour)
    _write(draw, (width * 0.01, height * 0.05), f"MIX {seed % 100}", height // 14)
    return np.asarray(image)


def _write(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: float) -> None:
    font = ImageFont.load_default(max(8, int(size)))
    draw.text(at, text, fill=(255, 255, 255), font=font, stroke_width=max(1, int(size) // 12), stroke_fill=(0, 0, 0))


def _window(layout: str, size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    if layout in ("full",) or width < height:
        return 0, 0, width, height
    if layout == "square":
        return (width - height) // 2, 0, height, height
    inner = min(width, round(height * 9 / 16))
    if layout == "side":
        return round(width * 0.12), 0, inner, height
    return (width - inner) // 2, 0, inner, height


def _moved(picture: np.ndarray, scale: float, dx: float, dy: float) -> np.ndarray:
    """Zoomed about its centre by `scale` (at least 1) and shifted by parts of its size, mirrored at the edges."""
    height, width = picture.shape[:2]
    x = (np.arange(width) - width / 2) / scale + width / 2 - dx * width
    y = (np.arange(height) - height / 2) / scale + height / 2 - dy * height

    def folded(v: np.ndarray, n: int) -> np.ndarray:
        v = np.mod(v, 2 * n)
        return np.clip(np.where(v < n, v, 2 * n - 1 - v), 0, n - 1).astype(int)

    return picture[np.ix_(folded(y, height), folded(x, width))]


def _framed(picture: np.ndarray, scale: float, dx: float, dy: float) -> np.ndarray:
    """The picture enlarged by `scale` about its centre and shifted, smoothly."""
    if scale == 1.0:
        return picture
    height, width = picture.shape[:2]
    w, h = width / scale, height / scale
    x = (width - w) / 2 * (1 + dx)
    y = (height - h) / 2 * (1 + dy)
    image = Image.fromarray(picture)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h)))


def _effects(picture: np.ndarray, part: Part, t: float, rng: np.random.Generator) -> np.ndarray:
    """Effects on the picture proper."""
    for kind, start, length in part.effects:
        u = (t - start) / length
        if not 0 <= u < 1:
            continue
        value = picture.astype(np.float32)
        if kind == "flash":
            value = value + (255 - value) * max(0.0, 1 - u)
        elif kind == "double_flash":
            value = value + (255 - value) * max(0.0, 1 - 3 * (u % 0.5))
        elif kind == "blink":
            value = value * 0.03
        elif kind == "strobe":
            value = value * (1.25 if int(t * 10) % 2 else 0.25)
        elif kind == "pumping":
            value = value * (0.75 + 0.5 * abs(np.sin(np.pi * t * 2.1)))
        elif kind == "filter":
            value = value[..., [2, 0, 1]] if int(u * 4) % 2 else value.mean(-1, keepdims=True).repeat(3, -1)
        elif kind == "punch_zoom":
            value = _moved(value, 1 + 0.35 * max(0.0, 1 - u), 0, 0)
        elif kind == "zoom":
            value = _moved(value, 1 + 0.6 * np.sin(np.pi * u) ** 2, 0, 0)
        elif kind == "whip_pan":
            s = 0.9 * np.sin(np.pi * u) ** 2
            value = np.mean([_moved(value, 1.0, s + d, 0) for d in np.linspace(-0.06, 0.06, 5)], 0)
        elif kind == "shake":
            value = _moved(value, 1.08, *rng.uniform(-0.03, 0.03, 2))
        elif kind == "glitch" and int(t * 15) % 3 == 0:
            shifted = np.roll(value, picture.shape[1] // 12, 1)
            value = np.stack([shifted[..., 0], value[..., 1], value[..., 2]], -1)
            band = slice(picture.shape[0] // 3, picture.shape[0] // 2)
            value[band] = np.roll(value[band], picture.shape[1] // 6, 1)
        picture = np.clip(value, 0, 255).astype(np.uint8)
        if kind in ("captions", "sticker"):
            image = Image.fromarray(picture)
            draw = ImageDraw.Draw(image)
            h, w = picture.shape[:2]
            if kind == "captions":
                words = ("SO HOT", "dance with me", "OH", "one more time", "YEAH YEAH")
                _write(draw, (w * 0.08, h * 0.75), words[int(t / 0.6) % len(words)], h / 10)
            else:
                r = h * 0.09
                draw.ellipse([w * 0.7 - r, h * 0.2 - r, w * 0.7 + r, h * 0.2 + r], (255, 220, 40))
            picture = np.asarray(image)
    return picture


def _card(part: Part, size: tuple[int, int], t: float) -> np.ndarray:
    width, height = size
    base = _card_base(part.card, size, part.border, part.text, id(part.footage) if part.footage else 0, part.footage)
    if part.card in ("zooming", "photo_zooming"):
        return _framed(base, 1 + 0.02 * t, 0.0, 0.0)
    if part.card == "text":
        image = Image.fromarray(base)
        draw = ImageDraw.Draw(image)
        shown = part.text[: int(t * 14)]
        x = width * (0.25 + 0.05 * np.sin(2 * t))
        _write(draw, (x, height * 0.4), shown, height / 8)
        if t > 0.8:
            _write(draw, (width * 0.3, height * (0.9 - 0.2 * min(1.0, (t - 0.8) * 2))), "subscribe", height / 12)
        return np.asarray(image)
    if part.card == "confetti":
        image = Image.fromarray(base)
        draw = ImageDraw.Draw(image)
        rng = np.random.default_rng(part.border)
        for _ in range(40):
            x, y, speed = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.1, 0.4)
            y = (y + speed * t * height) % height
            r = height / 60
            draw.rectangle([x - r, y - r, x + r, y + r], tuple(int(c) for c in rng.integers(60, 256, 3)))
        return np.asarray(image)
    return base


_BASES: dict[tuple, np.ndarray] = {}


def _card_base(card: str, size: tuple[int, int], seed: int, text: str, key: int, footage: Footage | None) -> np.ndarray:
    name = (card, size, seed, text, key)
    if name not in _BASES:
        width, height = size
        rng = np.random.default_rng([seed, 13])
        top, bottom = rng.integers(0, 200, 3), rng.integers(40, 256, 3)
        t = np.linspace(0, 1, height)[:, None, None]
        image = Image.fromarray(np.broadcast_to(top * (1 - t) + bottom * t, (height, width, 3)).astype(np.uint8))
        if card.startswith("photo") and footage is not None:
            photo = _cover(footage.frames[0], (round(height * 0.5), round(height * 0.8)))
            image.paste(Image.fromarray(photo), (round(width * 0.06), round(height * 0.1)))
        if card != "text":
            _write(ImageDraw.Draw(image), (width * 0.4, height * 0.4), text, height / 8)
        if len(_BASES) > 40:
            _BASES.clear()
        _BASES[name] = np.asarray(image)
    return _BASES[name]


def part_picture(part: Part, size: tuple[int, int], k: int, fps: float, seed: int) -> np.ndarray:
    """Picture `k` of a part (before its start and after its end too, for cross-fades), without transitions."""
    t = k / fps
    if part.kind == "black":
        return np.zeros((size[1], size[0], 3), np.uint8)
    if part.kind != "clip" or part.footage is None:
        return _card(part, size, max(0.0, t))
    take = t
    for kind, start, length in part.effects:
        if kind == "freeze" and t >= start:
            take -= min(t - start, length)
    take = part.phase_s + part.speed * take + part.jump_s * sum(t >= at - 1e-6 for at in part.jumps)
    picture = part.footage.frames[part.footage.index(max(0.0, take))]
    x, y, w, h = _window(part.layout, size)
    inner = _framed(_cover(picture, (w, h)), *part.framing)
    if part.effects:
        inner = _effects(inner, part, t, np.random.default_rng([seed, 5, max(0, k)]))
    if (w, h) == size:
        frame = inner.copy()
    elif part.layout == "blur":
        small = Image.fromarray(_cover(inner, (size[0] // 8, size[1] // 8))).filter(ImageFilter.GaussianBlur(1.5))
        frame = np.asarray(small.resize(size, Image.Resampling.BILINEAR)).copy()
    else:
        frame = _decoration(size, part.border).copy()
        if part.layout == "animated":
            frame = np.roll(frame, round(t * size[0] * 0.08), 1)
    frame[y : y + h, x : x + w] = inner
    if part.layout == "logo":
        side = size[1] // 8
        angle = 2 * np.pi * t / 3
        mark = slice(4, 4 + side), slice(size[0] - side - 4, size[0] - 4)
        colour = 127 + 127 * np.cos(angle + np.array([0.0, 2.1, 4.2]))
        frame[mark] = colour.astype(np.uint8)
    return frame


# ------------------------------------------------------------------------------------------------------------ rendering


def rendered(plan: Compilation) -> Iterator[np.ndarray]:
    """All pictures of a compilation, uint8 (height, width, 3)."""
    fps = float(plan.fps)
    parts = plan.parts
    for number, part in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        before = parts[number - 1] if number else None
        for k in range(part.frames):
            picture = part_picture(part, plan.size, k, fps, plan.seed + number)
            # Half of a transition lies before the boundary, half after it.
            if before is not None and k < (part.fade + 1) // 2:
                other = part_picture(before, plan.size, before.frames + k, fps, plan.seed + number - 1)
                picture = _mixed(other, picture, (part.fade // 2 + k + 0.5) / part.fade, part.transition)
            elif following is not None and part.frames - k <= following.fade // 2:
                left = part.frames - k
                other = part_picture(following, plan.size, -left, fps, plan.seed + number + 1)
                u = (following.fade // 2 - left + 0.5) / following.fade
                picture = _mixed(picture, other, u, following.transition)
            yield picture


def _mixed(a: np.ndarray, b: np.ndarray, u: float, kind: str) -> np.ndarray:
    first, second = a.astype(np.float32), b.astype(np.float32)
    if kind == "crossfade":
        mixed = (1 - u) * first + u * second
    else:
        through = 0.0 if kind == "fade_black" else 255.0
        mixed = first + (through - first) * 2 * u if u < 0.5 else second + (through - second) * (2 - 2 * u)
    return np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def sounding(plan: Compilation) -> np.ndarray:
    """The sound, mono float32 at `RATE`: cut where the picture is cut, cross-faded where it is."""
    total = sum(part.frames for part in plan.parts)
    line = np.zeros(round(total / plan.fps * RATE), np.float32)
    first, offset, music = 0, 0.0, None
    for part in plan.parts:
        if part.runs_on and music is not None:
            pass
        else:
            music, offset = part.music, part.offset_s - first / float(plan.fps)
        start, end = round(first / plan.fps * RATE), round((first + part.frames) / plan.fps * RATE)
        if music is not None and part.kind != "black":
            piece = music.stretch(start / RATE + offset, end - start).copy()
            ramp = np.linspace(0, 1, 44, dtype=np.float32)
            if not part.runs_on:
                piece[:44] *= ramp
            line[start:end] = piece
        first += part.frames
    return 0.8 * line


def truth_of(plan: Compilation, times_s: np.ndarray) -> dict[str, Any]:
    """What is true of a compilation whose frame k is shown from `times_s[k]` (one more than frames) on."""
    clips, non_clips, transitions, distractors, jumps = [], [], [], [], []
    first = 0
    for number, part in enumerate(plan.parts):
        start, end = float(times_s[first]), float(times_s[first + part.frames])

        def instant(t: float, first: int = first, frames: int = part.frames) -> float:
            return float(times_s[first + min(frames, max(0, int(np.ceil(t * float(plan.fps) - 1e-6))))])

        if part.kind == "clip":
            clips.append(
                {
                    "start_s": start, "end_s": end, "song": part.music.name if part.music else None,
                    "runs_on": part.runs_on, "room": part.footage.room if part.footage else "", "layout": part.layout,
                }
            )  # fmt: skip
            for kind, at, length in part.effects:
                distractors.append({"kind": kind, "start_s": instant(at), "end_s": instant(at + length)})
            jumps += [{"at_s": instant(at)} for at in part.jumps]
        else:
            card = part.card if part.kind != "black" else ""
            non_clips.append({"start_s": start, "end_s": end, "kind": part.kind, "card": card})
        if number:
            before = plan.parts[number - 1]
            same_room = (
                part.kind == before.kind == "clip"
                and part.footage is not None
                and before.footage is not None
                and part.footage.room == before.footage.room
            )
            half = part.fade // 2
            transitions.append(
                {
                    "kind": part.transition, "at_s": start, "same_room": same_room, "song_changes": not part.runs_on,
                    "start_s": float(times_s[first - half]), "end_s": float(times_s[first + part.fade - half]),
                    "between_clips": part.kind == before.kind == "clip", "kinds": [before.kind, part.kind],
                }
            )  # fmt: skip
        first += part.frames
    return {
        "clips": clips, "non_clips": non_clips, "transitions": transitions, "distractors": distractors, "jumps": jumps,
        "duration_s": float(times_s[-1]), "size": list(plan.size), "fps": float(plan.fps), "variable": plan.variable,
        "crf": plan.crf, "sound": plan.sound, **plan.notes,
    }  # fmt: skip


def frame_ticks(plan: Compilation) -> np.ndarray:
    """Time stamps of all frames and of the end, in 1/90000 s; irregular where the frame rate is variable."""
    total = sum(part.frames for part in plan.parts)
    ticks = np.array([round(k * 90_000 / plan.fps) for k in range(total + 1)])
    if plan.variable:
        rng = np.random.default_rng([plan.seed, 17])
        step = 90_000 / float(plan.fps)
        ticks[1:-1] += np.round(rng.uniform(-0.4, 0.4, total - 1) * step).astype(ticks.dtype)
    return ticks


def write(plan: Compilation, path: Path) -> dict[str, Any]:
    """Render a compilation into an MP4 file and return its truth."""
    ticks = frame_ticks(plan)
    with av.open(str(path), "w") as container:
        rate = plan.fps.limit_denominator(1001)
        picture = container.add_stream("libx264", rate=rate, options={"crf": str(plan.crf), "preset": "ultrafast"})
        picture.width, picture.height, picture.pix_fmt = *plan.size, "yuv420p"
        picture.codec_context.time_base = picture.time_base = Fraction(1, 90_000)
        picture.codec_context.thread_count = 1
        sound = None
        if plan.sound != "none":
            sound = container.add_stream("aac", rate=RATE, layout="stereo" if plan.sound == "stereo" else "mono")
        for k, array in enumerate(rendered(plan)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = int(ticks[k]), Fraction(1, 90_000)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if sound is not None:
            line = sounding(plan) if plan.sound != "silent" else np.zeros(round(ticks[-1] / 90_000 * RATE), np.float32)
            line = np.stack([line, 0.9 * line]) if plan.sound == "stereo" else line[None]
            for at in range(0, line.shape[1], 1024):
                block = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(line[:, at : at + 1024]), "fltp", sound.codec_context.layout.name
                )
                block.sample_rate, block.pts, block.time_base = RATE, at, Fraction(1, RATE)
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return truth_of(plan, ticks / 90_000)


# --------------------------------------------------------------------------------------------------------- drawing lots


def drawn(
    seed: int,
    footage: tuple[Footage, ...],
    music: tuple[Music, ...],
    *,
    clips: int = 8,
    seconds: tuple[float, float] = (2.0, 10.0),
    size: tuple[int, int] = (426, 240),
    fps: Fraction = Fraction(30),
    variable: bool = False,
    crf: int = 23,
    sound: str = "mono",
    effects: float = 0.4,
    fades: float = 0.25,
    same_room: float = 0.15,
    runs_on: float = 0.12,
    jumps: float = 0.0,
    cards: bool = True,
    layouts: tuple[str, ...] = LAYOUTS,
    keep_layout: float = 0.6,
) -> Compilation:
    """A compilation drawn at random; shares of clips with an effect, a fade, the room before, music that runs on."""
    rng = np.random.default_rng([seed, 23])
    rate = float(fps)
    if size[0] < size[1]:
        footage = tuple(take for take in footage if take.frames.shape[2] <= take.frames.shape[1])
    parts: list[Part] = []
    layout, border = str(rng.choice(layouts)), int(rng.integers(1000))

    def card(kind: str) -> Part:
        style = str(rng.choice(CARDS))
        take = footage[int(rng.integers(len(footage)))]
        silent = rng.random() < 0.4
        return Part(
            kind, round(rng.uniform(1.5, 4.0) * rate), footage=take if style.startswith("photo") else None, card=style,
            border=int(rng.integers(1000)), text=str(rng.choice(["DANCE MIX", "Best of May", "Part 2", "Who won?"])),
            music=None if silent else music[int(rng.integers(len(music)))],
        )  # fmt: skip

    if cards and rng.random() < 0.8:
        parts.append(card("title_card"))
    last: Part | None = None
    for number in range(clips):
        length = float(np.exp(rng.uniform(np.log(seconds[0]), np.log(seconds[1]))))
        take = footage[int(rng.integers(len(footage)))]
        phase, framing = float(rng.uniform(0, 3)), (1.0, 0.0, 0.0)
        song = music[int(rng.integers(len(music)))]
        go_on = last is not None and rng.random() < runs_on
        if last is not None and last.footage is not None:
            if rng.random() < same_room and not go_on:
                take = next((f for f in footage if f.room == last.footage.room and f is not last.footage), last.footage)
                ended = last.footage.index(last.phase_s + last.speed * last.frames / rate)
                # The new take begins somewhere else than the old one ended.
                n = len(take.frames)
                start = (ended + n // 2) % n if take is last.footage else int(rng.integers(n))
                phase = start / take.fps
                if take is last.footage:  # a take of its own: no camera stands twice in the very same place
                    framing = (float(rng.uniform(1.04, 1.12)), float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1)))
            else:
                others = [f for f in footage if f.room != last.footage.room]
                take = others[int(rng.integers(len(others)))]
            while song.name == (last.music.name if last.music else "") and not go_on:
                song = music[int(rng.integers(len(music)))]
        if rng.random() > keep_layout:
            layout = str(rng.choice(layouts))
        # What stands at the sides of a wide take would be cut off.
        shown = "full" if take.frames.shape[2] > take.frames.shape[1] else layout
        if rng.random() > keep_layout:
            border = int(rng.integers(1000))
        happens: list[tuple[str, float, float]] = []
        if rng.random() < effects and length > 2.5:
            for _ in range(int(rng.integers(1, 3))):
                kind = str(rng.choice(EFFECTS))
                long = {
                    "flash": 0.2,
                    "double_flash": 0.5,
                    "blink": 0.1,
                    "punch_zoom": 0.35,
                    "zoom": 0.9,
                    "whip_pan": 0.4,
                }
                span = min(long.get(kind, float(rng.uniform(0.8, 2.5))), length - 1.2)
                happens.append((kind, 0.6 + float(rng.random()) * max(0.0, length - 1.2 - span), span))
        leaps = (float(rng.uniform(1.0, length - 1.0)),) if rng.random() < jumps and length > 3 else ()
        transition, fade = "hard_cut", 0
        if parts and rng.random() < fades:
            transition = str(rng.choice(["crossfade", "crossfade", "fade_black", "fade_white"]))
            fade = max(4, round(rng.uniform(0.2, 1.0) * rate))
        part = Part(
            "clip", round(length * rate), footage=take, phase_s=phase, speed=float(rng.choice([1.0, 1.0, 1.15, 0.9])),
            music=song, offset_s=float(rng.uniform(0, 12)), runs_on=go_on, layout=shown, framing=framing, border=border,
            effects=tuple(happens), jumps=leaps, transition=transition, fade=fade,
        )  # fmt: skip
        parts.append(part)
        last = replace(part, music=last.music if go_on and last is not None else part.music)
        if cards and rng.random() < 0.12 and number + 1 < clips:
            parts.append(card("card"))
            last = None
    if cards and rng.random() < 0.8:
        parts.append(card("outro_card"))
    return Compilation(tuple(parts), size, fps, variable, crf, sound, seed)
