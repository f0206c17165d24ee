"""The window in a decorated frame: drawn scenes with known windows, and real footage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tiktok_dm import media
from tiktok_dm.media.content_box import ContentBox, find_content_box

WIDTH, HEIGHT, N = 480, 270, 12
Box = tuple[int, int, int, int]
TALL: Box = (164, 0, 152, 270)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    w = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def found(pictures: np.ndarray) -> Box:
    box = find_content_box(pictures)
    return box.x, box.y, box.width, box.height


def scene(width: int, height: int, seed: int, moving_camera: bool = False) -> np.ndarray:
    """A dancer in a room: a soft wall with a door and a lamp, a figure that moves; (N, height, width, 3)."""
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(N):
        pan = round(12 * np.sin(i / 2)) if moving_camera else 0
        picture = Image.new("RGB", (width, height))
        shade = np.linspace(150, 205, height)[:, None, None] * np.array([1.0, 0.97, 0.92])
        picture.paste(Image.fromarray(np.broadcast_to(shade, (height, width, 3)).astype(np.uint8)))
        draw = ImageDraw.Draw(picture)
        draw.rectangle([width * 0.62 + pan, height * 0.2, width * 0.9 + pan, height * 0.8], fill=(120, 90, 70))
        draw.ellipse([width * 0.1 + pan, height * 0.1, width * 0.3 + pan, height * 0.22], fill=(250, 240, 200))
        draw.line([0, height * 0.8, width, height * 0.8], fill=(90, 80, 75), width=2)
        x, y, s = width * (0.5 + 0.12 * rng.uniform(-1, 1)), height * 0.3, height * 0.09
        draw.ellipse([x - s / 2, y - s, x + s / 2, y], fill=(210, 160, 130))
        draw.rectangle([x - s, y, x + s, y + 3 * s], fill=(30, 40, 120))
        for side in (-1, 1):
            arm = (x + side * s * rng.uniform(1.5, 2.6), y + s * rng.uniform(-2, 3))
            draw.line([x + side * s, y + s / 3, *arm], fill=(210, 160, 130), width=max(2, int(s / 3)))
            foot = (x + side * s * rng.uniform(0.2, 1.5), height * 0.95)
            draw.line([x + side * s / 2, y + 3 * s, *foot], fill=(20, 20, 25), width=max(3, int(s / 2)))
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def clouds(_: np.ndarray) -> np.ndarray:
    """A still picture: coloured discs on a slope of colours."""
    rng = np.random.default_rng(5)
    slope = np.linspace(0, 1, WIDTH)[None, :, None]
    ground = (slope * np.array([120, 60, 160]) + (1 - slope) * np.array([40, 30, 90])).repeat(HEIGHT, axis=0)
    picture = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(60):
        x, y, r = rng.integers(0, WIDTH), rng.integers(0, HEIGHT), rng.integers(3, 24)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=tuple(rng.integers(0, 255, 3).tolist()))
    return np.repeat(np.asarray(picture)[None], N, axis=0)


def blurred(content: np.ndarray) -> np.ndarray:
    """The content itself, enlarged to fill the frame, blurred and darkened a little: it moves."""
    rows = round(content.shape[2] * HEIGHT / WIDTH)
    top = (content.shape[1] - rows) // 2
    large = (Image.fromarray(c[top : top + rows]).resize((WIDTH, HEIGHT)) for c in content)
    return np.stack([np.asarray(c.filter(ImageFilter.GaussianBlur(8))) // 5 * 4 for c in large])


def plain(level: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda _: np.full((N, HEIGHT, WIDTH, 3), level, np.uint8)


GROUNDS = {"picture": clouds, "blurred copy": blurred, "black": plain(0), "white": plain(250)}


def framed(ground: str, box: Box, seed: int = 1, moving_camera: bool = False) -> np.ndarray:
    x, y, w, h = box
    content = scene(w, h, seed, moving_camera)
    pictures = GROUNDS[ground](content).copy()
    pictures[:, y : y + h, x : x + w] = content
    return pictures


def grainy(pictures: np.ndarray, sigma: float = 4.0) -> np.ndarray:
    return np.clip(pictures + np.random.default_rng(2).normal(0, sigma, pictures.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(
    "box",
    [TALL, (138, 0, 203, 270), (105, 0, 270, 270), (67, 0, 152, 270), (176, 22, 127, 226), (142, 37, 195, 195)],
    ids=["9:16", "3:4", "1:1", "beside the middle", "with margins", "square with margins"],
)
def test_a_window_is_found(ground: str, box: Box) -> None:
    assert overlap(found(framed(ground, box)), box) >= 0.97


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_window_is_found_under_grain_and_with_a_moving_camera(ground: str) -> None:
    assert overlap(found(grainy(framed(ground, TALL, 3))), TALL) >= 0.97
    assert overlap(found(framed(ground, TALL, 4, moving_camera=True)), TALL) >= 0.97


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_mark_that_wanders_over_the_border_does_not_hide_it(ground: str) -> None:
    pictures = framed(ground, TALL, 6)
    for i in range(N):
        x, y = 145 + 3 * i, 40 + (i // 5) * 70
        pictures[i, y : y + 14, x : x + 45] = 255
        pictures[i, y + 4 : y + 10, x + 5 : x + 40 : 5] = 0
    assert overlap(found(pictures), TALL) >= 0.97


@pytest.mark.parametrize("moving_camera", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_full_frame_stays_whole(seed: int, moving_camera: bool) -> None:
    pictures = scene(WIDTH, HEIGHT, seed, moving_camera)
    assert found(pictures) == (0, 0, WIDTH, HEIGHT)
    assert found(grainy(pictures)) == (0, 0, WIDTH, HEIGHT)


def test_still_surroundings_with_upright_edges_are_no_decoration() -> None:
    pictures = scene(WIDTH, HEIGHT, 1)
    pictures[:, 45:225, 112:117] = 20  # two posts beside the dancer, not as high as the room
    pictures[:, 45:225, 360:365] = 20
    assert found(pictures) == (0, 0, WIDTH, HEIGHT)


def test_a_mirror_behind_the_dancer_is_no_window() -> None:
    """Upright edges of a usual window's shape, but the dancer's legs go on below them."""
    pictures = np.full((N, HEIGHT, WIDTH, 3), 150, np.uint8)
    pictures[:, 190:] = 120
    pictures[:, 20:190, 192:288] = 190  # the mirror
    for i, picture in enumerate(pictures):
        sway = round(10 * np.sin(i))
        picture[40:110, 225 + sway : 255 + sway] = (200, 60, 60)
        picture[110:250, 222 + sway // 2 : 236 + sway] = picture[110:250, 244 + sway : 258 + sway] = (30, 30, 60)
        picture[60 + sway : 70 + sway, 200:280] = (210, 160, 130)
    assert found(pictures) == (0, 0, WIDTH, HEIGHT)


def test_two_scenes_side_by_side_stay_whole() -> None:
    pictures = np.concatenate([scene(240, HEIGHT, 1), scene(240, HEIGHT, 2) // 2], axis=2)
    assert found(pictures) == (0, 0, WIDTH, HEIGHT)


def test_black_bars_above_and_below_are_cut_off() -> None:
    pictures = np.zeros((N, HEIGHT, WIDTH, 3), np.uint8)
    pictures[:, 34:236] = scene(WIDTH, 202, 1)
    assert found(pictures) == (0, 34, WIDTH, 202)


def test_a_dark_stage_stays_whole() -> None:
    light = np.exp(-(((np.arange(WIDTH) - 240) / 90) ** 2))[None, None, :, None]
    assert found((scene(WIDTH, HEIGHT, 2) * light).astype(np.uint8)) == (0, 0, WIDTH, HEIGHT)


def test_upright_films_stay_whole() -> None:
    assert found(scene(152, 270, 2)) == (0, 0, 152, 270)


def test_too_few_or_still_pictures_stay_whole() -> None:
    assert found(framed("picture", TALL)[:2]) == (0, 0, WIDTH, HEIGHT)
    assert found(np.zeros((8, 90, 160, 3), np.uint8)) == (0, 0, 160, 90)
    with pytest.raises(ValueError, match="RGB"):
        find_content_box(np.zeros((8, 90, 160), np.uint8))


def test_a_generator_of_pictures_will_do_and_boxes_scale() -> None:
    box = find_content_box(iter(framed("picture", TALL)))
    assert overlap((box.x, box.y, box.width, box.height), TALL) >= 0.97
    assert box.confidence > 0.9
    assert ContentBox(219, 0, 202, 360, 0.9).scaled((640, 360), (1280, 720)) == ContentBox(438, 0, 404, 720, 0.9)


def _sample(path: Path, start_s: float, end_s: float) -> np.ndarray:
    frames = media.read_frames(path, start_s=start_s, end_s=end_s, fps=16 / (end_s - start_s), max_height=270)
    return np.stack([rgb for _, rgb in frames])


def test_the_windows_of_real_clips(shared_data: Path) -> None:
    for clip in json.loads((shared_data / "clips" / "clips.json").read_text())["clips"]:
        pictures = _sample(shared_data / "clips" / clip["file"], 0, clip["n_frames"] / clip["fps"])
        size = pictures.shape[2], pictures.shape[1]
        box = find_content_box(pictures).scaled(size, tuple(clip["size"]))
        assert overlap((box.x, box.y, box.width, box.height), tuple(clip["content_box"])) >= 0.98, clip["file"]


@pytest.mark.parametrize("name", ["compilation_a", "compilation_b"])
def test_the_windows_of_real_compilations(shared_data: Path, name: str) -> None:
    truth = json.loads((shared_data / "compilations" / f"{name}.truth.json").read_text())
    for clip in truth["clips"]:
        # Two seconds tell as much as the clip: its footage is two seconds long, played to and fro.
        pictures = _sample(shared_data / "compilations" / f"{name}.mp4", clip["start_s"], clip["start_s"] + 2)
        want = TALL if clip["layout"] in ("own", "tall") else (0, 0, WIDTH, HEIGHT)
        assert overlap(found(pictures), want) >= 0.98, clip["index"]
