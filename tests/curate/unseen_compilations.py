"""Compilations of nine kinds, drawn by seed, for fitting what curation weighs and for reporting how well it does.

Builds on `compilation_factory`: its parts, cards, effects; here are edits of songs, placements of one or several takes,
transitions of video editors, and camera cuts inside a clip. A compilation comes as the `Scan` of it, so that nothing is
encoded. Even seeds and odd seeds share neither dancers nor songs: fit on even ones, report on odd ones.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.curate import compilation_factory as factory
from tests.curate.compilation_factory import RATE, Footage, Music, Part
from tiktok_dm.curate.cuts.scan import STILL_EVERY_S, Scan
from tiktok_dm.media import Probe, encode_jpeg

KINDS = ("editor", "camera", "edited", "window", "duets", "long", "one_song", "rough", "style")
FPS = 30.0
_SHRINK = 4  # rendered this much larger than the small pictures of a scan


@dataclass(frozen=True)
class Stock:
    """Takes and songs that one side of the split may use; songs of `style` share a style and nearly a tempo."""

    takes: tuple[Footage, ...]
    songs: tuple[Music, ...]
    style: tuple[Music, ...]


@functools.cache
def stock(side: int, data: Path | None = None) -> Stock:
    """Stock of even (0) or odd (1) seeds; with `data`, the folder of real footage, half of it goes to either side."""
    takes = factory.demo_footage(8, 1.6, 100 + side)
    songs = factory.demo_music(12, 30.0, 100 + side)
    if data is not None:
        takes += tuple(_real_takes(data)[side::2])
        songs += tuple(_real_songs(data)[side::2])
    every = factory.demo_music(36, 30.0, 200 + side)
    return Stock(takes, songs, every[side::6])  # every sixth song has one style


def _real_takes(data: Path) -> list[Footage]:
    from tiktok_dm import media

    takes = []
    for clip in json.loads((data / "clips" / "clips.json").read_text())["clips"]:
        x, y, w, h = clip["content_box"]
        frames = [p[y : y + h, x : x + w] for _, p in media.read_frames(data / "clips" / clip["file"], fps=FPS)][:60]
        scale = 360 / max(h, w)
        size = max(8, round(w * scale)), max(8, round(h * scale))
        shown = np.stack([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in frames])
        takes.append(Footage(shown, FPS, clip["file"]))
    return takes


def _real_songs(data: Path) -> list[Music]:
    from tiktok_dm import media

    pieces: dict[str, np.ndarray] = {}
    for path in sorted((data / "compilations").glob("*.truth.json")):
        truth = json.loads(path.read_text())
        for clip in truth["clips"]:
            if clip["song_speed"] != 1.0:
                continue
            film = path.with_name(truth["file"])
            sound = media.read_audio(
                film, sample_rate=RATE, mono=True, start_s=clip["start_s"] + 0.05, end_s=clip["end_s"] - 0.05
            )
            if len(sound) > len(pieces.get(clip["song"], ())):
                pieces[clip["song"]] = sound / max(1e-3, float(np.abs(sound).max()))
    return [Music(name, samples) for name, samples in sorted(pieces.items())]


# ---------------------------------------------------------------------------------------------------------- the picture


def _fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return factory._cover(picture, (max(2, size[0]), max(2, size[1])))


@dataclass(frozen=True)
class Placed:
    """A part of a compilation, and how its takes are placed.

    Args:
        part: length, music, effects, transition and card, as in `compilation_factory`.
        takes: one take, or two for a duet or a picture in a picture.
        place: `beside_blur`, `full`, `window`, `duet`, `inset`, `plain`.
        box: of a `window`, in parts of the picture.
        cuts: s of the part at which the camera changes, and which shot (scale, dx, dy, mirrored) is seen from there.
        overlay: `none`, `captions`, `emoji`, `watermark`; several may be joined by "+".
        light: factor on the picture.
        swap: how it begins: `hard_cut`, `dissolve`, `slide`, `whip`, `zoom`, `flash`, `wipe`, `fade`.
    """

    part: Part
    takes: tuple[Footage, ...] = ()
    place: str = "full"
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    cuts: tuple[tuple[float, tuple[float, float, float, bool]], ...] = ()
    overlay: str = ""
    light: float = 1.0
    swap: str = "hard_cut"
    seed: int = 0


def _shot(one: Placed, take: Footage, t: float, size: tuple[int, int]) -> np.ndarray:
    """The take as the camera shows it at `t` s of the part."""
    part = one.part
    at = part.phase_s + part.speed * max(0.0, t) + part.jump_s * sum(t >= jump - 1e-6 for jump in part.jumps)
    picture = _fit(take.frames[take.index(max(0.0, at))], size)
    view = (*part.framing, False)
    for instant, other in one.cuts:
        if t >= instant - 1e-6:
            view = other
    picture = factory._framed(picture, *view[:3])
    return picture[:, ::-1] if view[3] else picture


def _over(picture: np.ndarray, one: Placed, t: float) -> np.ndarray:
    """Captions, emoji and watermarks over the whole."""
    if not one.overlay:
        return picture
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng([one.seed, 31])
    beat = float(rng.uniform(0.4, 1.6))
    if "captions" in one.overlay:
        words = ("wait for it", "NO WAY", "dc: me", "part 3??", "so good", "try this")
        y = float(rng.uniform(0.1, 0.8))
        factory._write(draw, (width * 0.06, height * y), words[int(t / beat) % 6], max(height, width) / 16)
    if "emoji" in one.overlay:
        for k in range(int(rng.integers(1, 4))):
            x, y, r = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height, max(height, width) * 0.04
            if int(t / beat + k) % 2:
                box = [x - r, y - r, x + r, y + r]
                draw.ellipse(box, (255, int(rng.integers(100, 230)), 40))
    if "watermark" in one.overlay:
        corner = int(t / float(rng.uniform(1.5, 4.0))) % 4
        x, y = (0.03 if corner % 2 else 0.6) * width, (0.05 if corner < 2 else 0.85) * height
        factory._write(draw, (x, y), "@dance_user", max(height, width) / 22)
    return np.asarray(image)


def picture_at(one: Placed, size: tuple[int, int], k: int) -> np.ndarray:
    """Picture `k` of a part, (height, width, 3) uint8, also before its start and after its end."""
    t = k / FPS
    if one.part.kind != "clip":
        return factory._card(one.part, size, max(0.0, t))
    width, height = size
    take = one.takes[0]
    rng = np.random.default_rng([one.seed, 37, max(0, k)])
    if one.place == "duet":
        half = width // 2
        frame = np.concatenate(
            [_shot(one, take, t, (half, height)), _shot(one, one.takes[1], t, (width - half, height))], 1
        )
    elif one.place == "beside_blur":
        inner = _shot(one, take, t, (min(width, round(height * 9 / 16)), height))
        small = Image.fromarray(_fit(inner, (width // 8, height // 8))).filter(ImageFilter.GaussianBlur(1.5))
        frame = np.asarray(small.resize(size, Image.Resampling.BILINEAR)).copy()
        x = (width - inner.shape[1]) // 2
        frame[:, x : x + inner.shape[1]] = inner
    elif one.place in ("window", "plain"):
        frame = (
            factory._decoration(size, one.part.border).copy()
            if one.place == "window"
            else np.zeros((height, width, 3), np.uint8)
        )
        x, y = round(one.box[0] * width), round(one.box[1] * height)
        w, h = round(one.box[2] * width), round(one.box[3] * height)
        frame[y : y + h, x : x + w] = _shot(one, take, t, (w, h))
    else:
        frame = _shot(one, take, t, size).copy()
        if one.place == "inset":
            w, h = round(width * 0.3), round(height * 0.35)
            frame[4 : 4 + h, 4 : 4 + w] = _shot(replace(one, cuts=()), one.takes[1], t, (w, h))
    if one.part.effects:
        frame = factory._effects(frame, one.part, t, rng)
    if one.light != 1.0:
        frame = np.clip(frame * one.light + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
    return _over(frame, one, t)


def _between(a: np.ndarray, b: np.ndarray, u: float, swap: str) -> np.ndarray:
    """The transition's picture at its part `u` (0..1)."""
    width = a.shape[1]
    if swap == "dissolve":
        return factory._mixed(a, b, u, "crossfade")
    if swap == "fade":
        return factory._mixed(a, b, u, "fade_black")
    if swap == "flash":
        return factory._mixed(a, b, u, "fade_white")
    at = round(u * width)
    if swap == "wipe":
        return np.concatenate([b[:, :at], a[:, at:]], 1)
    if swap == "slide":
        return np.concatenate([a[:, at:], b[:, :at]], 1)
    shown, v = (a, u) if u < 0.5 else (b, 1 - u)
    if swap == "whip":
        return np.mean([factory._moved(shown, 1.0, 1.6 * v * v * 4 + d, 0) for d in (-0.05, 0.0, 0.05)], 0).astype(
            np.uint8
        )
    return factory._framed(shown, 1 + 2.5 * v, 0.0, 0.0)


def pictures(parts: tuple[Placed, ...], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """All pictures of a compilation; half of a transition lies before its cut, half after it."""
    for number, one in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        before = parts[number - 1] if number else None
        for k in range(one.part.frames):
            frame = picture_at(one, size, k)
            fade = one.part.fade
            if before is not None and k < (fade + 1) // 2:
                other = picture_at(before, size, before.part.frames + k)
                frame = _between(other, frame, (fade // 2 + k + 0.5) / fade, one.swap)
            elif following is not None and one.part.frames - k <= following.part.fade // 2:
                left = one.part.frames - k
                other = picture_at(following, size, -left)
                frame = _between(
                    frame, other, (following.part.fade // 2 - left + 0.5) / following.part.fade, following.swap
                )
            yield frame


# ------------------------------------------------------------------------------------------------------------ the sound


def edited(sound: np.ndarray, edit: str, rng: np.random.Generator) -> np.ndarray:
    """Music with a voice over it, through a phone, or quieter; mono at `RATE`."""
    if "voice" in edit:
        sound = sound + float(rng.uniform(0.3, 1.0)) * voice(len(sound), rng)
    if "phone" in edit:
        from scipy.signal import butter, sosfilt

        low, high = float(rng.uniform(200, 400)), float(rng.uniform(2800, 4500))
        sound = sosfilt(butter(2, [low, high], "band", fs=RATE, output="sos"), sound)
        sound = np.tanh(3 * sound) / 2 + rng.normal(0, 0.01, len(sound))
    return np.asarray(sound, np.float32)


def voice(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Babble: syllables of a buzz through moving formants, as loud as music."""
    from scipy.signal import lfilter

    out, at = np.zeros(samples, np.float32), 0
    while at < samples:
        n = min(samples - at, int(RATE * rng.uniform(0.08, 0.3)))
        if rng.random() < 0.75 and n > 400:
            pitch = float(rng.uniform(90, 260)) * np.linspace(1, float(rng.uniform(0.85, 1.15)), n)
            buzz = 2 * (np.cumsum(pitch / RATE) % 1) - 1
            for centre in (rng.uniform(300, 800), rng.uniform(900, 2300)):
                r = 0.97
                buzz = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * centre / RATE), r * r], buzz)
            buzz *= np.hanning(n) / max(1e-6, float(np.abs(buzz).max()))
            out[at : at + n] = buzz
        at += n
    return 0.6 * out


def _piece(music: Music, offset_s: float, samples: int, speed: float, kept_pitch: bool) -> np.ndarray:
    """`samples` of a song played `speed` times as fast, higher with it or not."""
    import soxr

    if speed == 1.0:
        return music.stretch(offset_s, samples)
    if not kept_pitch:
        return soxr.resample(music.stretch(offset_s, int(samples * speed) + RATE // 10), RATE * speed, RATE)[:samples]
    window, hop = 2048, 512  # overlap and add: coarse, as quick editors do it
    raw = music.stretch(offset_s, int(samples * speed) + 4 * window)
    out, norm = np.zeros(samples + window, np.float32), np.zeros(samples + window, np.float32)
    shape, place = np.hanning(window).astype(np.float32), 0
    for at in range(0, samples, hop):
        wanted = int(at * speed)
        if at:  # the shift within 10 ms that goes on best from what was written (WSOLA)
            low = max(0, wanted - 220)
            target = raw[place + hop : place + hop + 512]
            score = np.correlate(raw[low : wanted + 220 + 512], target, "valid")
            place = low + int(np.argmax(score)) if len(target) == 512 and len(score) else wanted
        else:
            place = wanted
        out[at : at + window] += shape * raw[place : place + window]
        norm[at : at + window] += shape
    return out[:samples] / np.maximum(norm[:samples], 0.1)


# --------------------------------------------------------------------------------------------------------- drawing lots


@dataclass(frozen=True)
class Unseen:
    """A drawn compilation: its parts in order, sizes, and the sound, mono at `RATE`."""

    kind: str
    seed: int
    size: tuple[int, int]
    parts: tuple[Placed, ...]
    sound: np.ndarray
    grain: float


def draw(kind: str, seed: int, data: Path | None = None, clips: int = 8) -> Unseen:
    """A compilation of a kind of `KINDS`.

    Args:
        seed: even ones and odd ones share neither takes nor songs.
        data: folder of real footage; None: the embedded dancers and songs alone.
        clips: about so many.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind), 41])
    store = stock(seed % 2, data)
    size = (54 * _SHRINK, 96 * _SHRINK) if kind == "camera" or rng.random() < 0.15 else (96 * _SHRINK, 54 * _SHRINK)
    songs = list(store.style if kind == "style" else store.songs)
    chosen = [songs[k] for k in rng.permutation(len(songs))[: int(rng.integers(4, 7))]]
    if kind == "one_song":
        chosen = chosen[:1]
    one_take = store.takes[int(rng.integers(len(store.takes)))]
    place = {
        "editor": ("beside_blur",),
        "camera": ("full",),
        "edited": ("full", "beside_blur", "plain"),
        "window": ("window",),
        "duets": ("duet", "inset", "full"),
        "long": ("full", "beside_blur"),
        "one_song": ("full", "beside_blur", "plain"),
        "rough": ("full", "plain"),
        "style": ("full", "beside_blur", "window"),
    }[kind]
    box = _box(kind, rng, size)
    border = int(rng.integers(1000))
    parts: list[Placed] = []
    edits: list[tuple[float, bool, str]] = []
    last: Placed | None = None
    for number in range(clips):
        short, much = (2.5, 7.0) if kind != "long" else (3.0, 14.0)
        length = float(np.exp(rng.uniform(np.log(short), np.log(much))))
        if (kind == "long" and number and rng.random() < 0.6) or (number and rng.random() < 0.06):
            style = str(rng.choice(factory.CARDS))
            photo = store.takes[int(rng.integers(len(store.takes)))]
            card = Part(
                "card", round(float(rng.uniform(1.0, 3.0)) * FPS), footage=photo if style.startswith("photo") else None,
                card=style, border=int(rng.integers(1000)), text=f"Number {number}",
                music=chosen[int(rng.integers(len(chosen)))] if rng.random() < 0.4 else None,
            )  # fmt: skip
            parts.append(Placed(card, seed=int(rng.integers(1 << 30))))
            edits.append((1.0, False, ""))
            last = None
        music = chosen[int(rng.integers(len(chosen)))]
        runs_on = last is not None and (kind == "one_song" or rng.random() < 0.08)
        while last is not None and not runs_on and len(chosen) > 1 and music is last.part.music:
            music = chosen[int(rng.integers(len(chosen)))]
        if runs_on and last is not None and last.part.music is not None:
            music = last.part.music
        take = one_take if kind == "window" else store.takes[int(rng.integers(len(store.takes)))]
        while kind != "window" and last is not None and take.room == last.takes[0].room:
            take = store.takes[int(rng.integers(len(store.takes)))]
        framing, phase = (1.0, 0.0, 0.0), float(rng.uniform(0, 3))
        if kind == "window" and last is not None:
            n = len(take.frames)
            ended = take.index(last.part.phase_s + last.part.speed * last.part.frames / FPS)
            phase = ((ended + int(rng.integers(n // 4, 3 * n // 4))) % n) / take.fps
            framing = (float(rng.uniform(1.0, 1.12)), *(float(v) for v in rng.uniform(-1, 1, 2)))
        effects: tuple[tuple[str, float, float], ...] = ()
        if rng.random() < 0.35 and length > 3:
            name = str(rng.choice(factory.EFFECTS))
            brief = {"flash": 0.2, "blink": 0.1, "double_flash": 0.5, "punch_zoom": 0.35}
            span = brief.get(name, float(rng.uniform(0.5, 1.6)))
            effects = ((name, float(rng.uniform(0.6, length - 0.6 - span)), span),)
        if kind == "rough":
            effects = (*effects, ("shake", 0.0, length))
        cuts: tuple[tuple[float, tuple[float, float, float, bool]], ...] = ()
        if (kind == "camera" and rng.random() < 0.75) or rng.random() < 0.06:
            cuts = _camera(rng, length)
        swap, fade = "hard_cut", 0
        if parts and rng.random() < (0.8 if kind == "editor" else 0.12):
            swap = str(rng.choice(["dissolve", "slide", "whip", "zoom", "flash", "wipe", "fade"]))
            fade = max(4, round(float(rng.uniform(0.15, 0.7)) * FPS))
        overlay = "+".join(
            o for o, p in (("captions", 0.5), ("emoji", 0.4), ("watermark", 0.4))
            if rng.random() < p * (1.0 if kind == "camera" else 0.3)
        )  # fmt: skip
        where = str(rng.choice(place))
        second = store.takes[int(rng.integers(len(store.takes)))]
        part = Part(
            "clip", max(30, round(length * FPS)), footage=take, phase_s=phase,
            speed=float(rng.choice([1.0, 1.15, 0.9])), framing=framing, music=music, offset_s=float(rng.uniform(0, 3)),
            runs_on=runs_on, border=border, effects=effects, fade=fade,
        )  # fmt: skip
        last = Placed(
            part, (take, second), where, box, cuts, overlay,
            float(rng.uniform(0.25, 0.5)) if kind == "duets" and rng.random() < 0.35 else 1.0, swap,
            int(rng.integers(1 << 30)),
        )  # fmt: skip
        parts.append(last)
        speed, kept, how = 1.0, False, ""
        if kind == "edited":
            speed, kept = float(rng.choice([1.0, rng.uniform(0.85, 1.25)])), bool(rng.random() < 0.4)
            how = "+".join(h for h, p in (("voice", 0.35), ("phone", 0.3)) if rng.random() < p)
        edits.append((speed, kept, how))
    return Unseen(kind, seed, size, tuple(parts), _sound(parts, edits, rng), 4.0 if kind == "rough" else 1.0)


def _box(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, float, float, float]:
    share = float(rng.uniform(0.5, 0.75)) if kind == "window" else 1.0
    h = share
    w = min(1.0, share * size[1] / size[0] * (9 / 16 if rng.random() < 0.7 else 1.0)) if size[0] > size[1] else share
    return float(rng.uniform(0, 1 - w)), float(rng.uniform(0, 1 - h)), w, h


def _camera(rng: np.random.Generator, length: float) -> tuple[tuple[float, tuple[float, float, float, bool]], ...]:
    """Camera cuts on a beat: the dancer is seen nearer, from the side, mirrored, and as before again."""
    beat = float(rng.uniform(0.45, 0.65)) * int(rng.integers(2, 5))
    views = [(1.0, 0.0, 0.0, False)] + [
        (
            float(rng.uniform(1.25, 2.0)),
            float(rng.uniform(-0.6, 0.6)),
            float(rng.uniform(-1.0, 0.2)),
            bool(rng.random() < 0.3),
        )
        for _ in range(int(rng.integers(1, 3)))
    ]
    instants = np.arange(beat, length - 0.5, beat)
    return tuple((float(t), views[(k + 1) % len(views)]) for k, t in enumerate(instants))


def _sound(parts: list[Placed], edits: list[tuple[float, bool, str]], rng: np.random.Generator) -> np.ndarray:
    total = sum(one.part.frames for one in parts)
    line = np.zeros(round(total / FPS * RATE), np.float32)
    first, place = 0, 0.0
    edit: tuple[float, bool, str] = (1.0, False, "")
    for one, drawn in zip(parts, edits, strict=True):
        part = one.part
        begin, end = round(first / FPS * RATE), round((first + part.frames) / FPS * RATE)
        if part.music is not None:
            if not part.runs_on:
                place, edit = part.offset_s, drawn
            speed, kept, how = edit
            piece = edited(_piece(part.music, place, end - begin, speed, kept), how, rng)
            place += part.frames / FPS * speed
            line[begin:end] = piece[: end - begin] * (1.0 if part.runs_on else float(rng.uniform(0.5, 1.0)))
        first += part.frames
    return 0.6 * line


# --------------------------------------------------------------------------------------------------- scan and the truth


def scanned(one: Unseen) -> Scan:
    """What a scan of the compilation gives, with the grain that compression leaves."""
    rng = np.random.default_rng([one.seed, 43])
    small, stills, stills_s, offsets = [], [], [], [0]
    for k, picture in enumerate(pictures(one.parts, one.size)):
        height, width = picture.shape[:2]
        tiles = picture.reshape(height // _SHRINK, _SHRINK, width // _SHRINK, _SHRINK, 3)
        mean = tiles.mean((1, 3)) + rng.normal(0, one.grain, (height // _SHRINK, width // _SHRINK, 1))
        small.append(np.clip(mean, 0, 255).astype(np.uint8))
        if not stills_s or k / FPS >= stills_s[-1] + STILL_EVERY_S - 1e-3:
            stills.append(encode_jpeg(np.ascontiguousarray(picture), 85))
            stills_s.append(k / FPS)
            offsets.append(offsets[-1] + len(stills[-1]))
    n = len(small)
    probe = Probe(n / FPS, *one.size, FPS, "30/1", n, 0, "none", "none", 0.0, None)
    return Scan(
        path=Path(f"{one.kind}-{one.seed}.mp4"), sha256=f"{one.kind}-{one.seed}", probe=probe,
        times_s=np.arange(n) / FPS, end_s=n / FPS, pictures=np.stack(small), sound=_at_scan_rate(one.sound),
        stills_s=np.array(stills_s), _stills=np.frombuffer(b"".join(stills), np.uint8), _offsets=np.array(offsets),
    )  # fmt: skip


def _at_scan_rate(sound: np.ndarray) -> np.ndarray:
    import soxr

    from tiktok_dm.schema import SAMPLE_RATE

    return sound if SAMPLE_RATE == RATE else soxr.resample(sound, RATE, SAMPLE_RATE)


def truth(one: Unseen) -> dict[str, Any]:
    """The truth in the form that `benchmarks.agreement.score` reads."""
    clips, cards, cuts, first = [], [], [], 0
    for number, placed in enumerate(one.parts):
        part = placed.part
        start, end = first / FPS, (first + part.frames) / FPS
        if part.kind == "clip":
            song = part.music.name if part.music else ""
            clips.append({"start_s": start, "end_s": end, "song": song, "n_dancers": None, "runs_on": part.runs_on})
        else:
            cards.append({"start_s": start, "end_s": end})
        if number:
            half = part.fade / 2 / FPS
            cuts.append({"at_s": start, "start_s": start - half, "end_s": start + half, "kind": placed.swap})
        first += part.frames
    return {"fps": FPS, "duration_s": first / FPS, "clips": clips, "non_clips": cards, "transitions": cuts}
