"""One clip performed: its joints, its sound and its pictures, each as a function of the plan.

Joints and sound cost milliseconds, so that training sets need no pictures. Not for files (`demo`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tiktok_dm.errors import UserError
from tiktok_dm.synthetic import figure
from tiktok_dm.synthetic.choreography import GROOVES, Skeleton, dance
from tiktok_dm.synthetic.figure import Camera, dress, projected
from tiktok_dm.synthetic.instruments import SAMPLE_RATE
from tiktok_dm.synthetic.music import make_song, render_song
from tiktok_dm.synthetic.plan import SHORTEST, ClipPlan, DemoParams, make_plan
from tiktok_dm.synthetic.scene import make_room

POSE_FPS = 30
DATASET_RATE = 22_050
FLOOR = 0.93  # where feet stand, as part of the window's height
_PLACES = {1: (0.5,), 2: (0.28, 0.72), 3: (0.5, 0.175, 0.825)}


def find_clip(params: DemoParams, clip_id: int) -> ClipPlan:
    """The plan of one clip; `UserError` when the demo has no such clip."""
    for compilation in make_plan(params):
        for clip in compilation.clips:
            if clip.clip_id == clip_id:
                return clip
    raise UserError(f"the demo has clips 0 to {params.clips - 1}, and no clip {clip_id}.")


def skeletons(params: DemoParams, clip: ClipPlan, times_s: np.ndarray) -> list[Skeleton]:
    """The dancers of a clip at moments counted from its start, in body heights."""
    song = make_song(params.seed, clip.song_id)
    groove = GROOVES[params.groove]
    return [dance(song, clip.clip_id, dancer, clip.song_offset_s + times_s, groove) for dancer in clip.dancers]


@lru_cache(maxsize=512)
def cameras(params: DemoParams, clip: ClipPlan) -> tuple[Camera, ...]:
    """One camera a dancer, so placed that all joints stay inside the window."""
    x0, y0, width, height = clip.window
    coarse = np.arange(0, clip.frames / params.fps, 0.1)
    places = _PLACES[len(clip.dancers)]
    size = clip.height * height
    for skeleton, place in zip(skeletons(params, clip, coarse), places, strict=True):
        reach = skeleton.joints[..., 0]
        room = width * min(place, 1 - place) - 0.02 * width
        size = min(size, room / (1.04 * np.abs(reach).max()))
    size = max(size, SHORTEST * height)
    return tuple(
        Camera(x0 + place * width, y0 + FLOOR * height, size, 0.15 if k == 0 and len(places) > 1 else 0.0)
        for k, place in enumerate(places)
    )


def camera_drift(clip: ClipPlan, times_s: np.ndarray) -> np.ndarray:
    """How far a hand-held camera has moved everything, px (n, 2)."""
    rng = np.random.default_rng((*clip.seed, 6))
    size = clip.window[3] / 432 * np.array([2.2, 1.5])
    periods, phases = rng.uniform(2.5, 6.0, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
    return size * np.sin(2 * np.pi * times_s[:, None, None] / periods + phases).mean(-1)


def joints_px(params: DemoParams, clip: ClipPlan, times_s: np.ndarray) -> np.ndarray:
    """True BODY_25 joints in px of the frame, (n, dancers, 25, 2)."""
    people = skeletons(params, clip, times_s)
    views = cameras(params, clip)
    joints = np.stack([camera.joints(s) for camera, s in zip(views, people, strict=True)], 1)
    return joints + camera_drift(clip, times_s)[:, None, None]


def beats_of(params: DemoParams, clip: ClipPlan) -> np.ndarray:
    """The song's beats within the clip, seconds from the clip's start."""
    beats = make_song(params.seed, clip.song_id).beats_s() - clip.song_offset_s
    return beats[(beats >= 0) & (beats < clip.frames / params.fps)]


def sound(params: DemoParams, clip: ClipPlan, samples: int, *, rate: int = SAMPLE_RATE) -> np.ndarray:
    """The clip's stretch of its song, mono float32; silence after the song's end."""
    song = (
        render_song(params.seed, clip.song_id) if rate == SAMPLE_RATE else _resampled(params.seed, clip.song_id, rate)
    )
    start = round(clip.song_offset_s * rate)
    part = song[start : start + samples]
    return np.pad(part, (0, samples - len(part)))


@lru_cache(maxsize=64)  # about 5 MB a song; training sets go back and forth between songs
def _resampled(seed: int, song_id: int, rate: int) -> np.ndarray:
    import soxr

    return soxr.resample(render_song(seed, song_id), SAMPLE_RATE, rate).astype(np.float32)


def clip_truth(params: DemoParams, clip_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Everything a model trains on, without drawing a picture.

    Returns:
        joints: BODY_25 in px with confidence 1, float32 (n, dancers, 25, 3), 30 a second from the clip's start.
        audio: mono float32 at 22,050 Hz, as long as the clip.
        beats_s: the song's beats, seconds from the clip's start.
        song_id: which song it is.

    Raises:
        UserError: no such clip.
    """
    clip = find_clip(params, clip_id)
    seconds = clip.frames / params.fps
    times = np.arange(int(seconds * POSE_FPS + 1e-6)) / POSE_FPS
    joints = joints_px(params, clip, times)
    joints = np.concatenate([joints, np.ones_like(joints[..., :1])], -1).astype(np.float32)
    audio = sound(params, clip, round(seconds * DATASET_RATE), rate=DATASET_RATE)
    return joints, audio, beats_of(params, clip), clip.song_id


def pictures(
    params: DemoParams, clip: ClipPlan, extra_frames: int = 0, decoration: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """The clip's frames, uint8 (height, width, 3), and `extra_frames` more that a cross-fade needs.

    Args:
        decoration: the picture around the window, (height, width, 3).
    """
    x0, y0, width, height = clip.window
    times = np.arange(clip.frames + extra_frames) / params.fps
    room = make_room(clip.room, width, height, np.random.default_rng((*clip.seed, 7)))
    drift = camera_drift(clip, times)
    geometry, materials, ground = [], [], []
    for skeleton, look, view in zip(skeletons(params, clip, times), clip.looks, cameras(params, clip), strict=True):
        ends, material = dress(skeleton, look)
        inside = Camera(view.x - x0, view.floor_y - y0, view.height, view.nearer)
        geometry.append(projected(ends, inside))
        materials.append(material)
        ground.append(_shadows(skeleton, inside))
    shapes, material = np.concatenate(geometry, 1), np.concatenate(materials)
    shapes[..., [0, 4]] += figure.SUPERSAMPLING * drift[:, None, :1]
    shapes[..., [1, 5]] += figure.SUPERSAMPLING * drift[:, None, 1:]
    dark = np.concatenate(ground, 1)
    dark[..., :2] += drift[:, None]

    fine = (height * figure.SUPERSAMPLING, width * figure.SUPERSAMPLING)
    depth = np.full(fine, figure.FAR, np.float32)
    surface = np.zeros((*fine, 3), np.float32)
    which = np.zeros(fine, np.int32)
    boxes = figure.bounds(shapes, width, height)
    scenery = room.picture.reshape(len(room.picture), -1)
    frame = np.zeros((params.height, params.width, 3), np.uint8) if decoration is None else decoration.copy()
    inner = np.empty((height, width, 3), np.uint8)
    for k in range(len(times)):
        figure.background(scenery, -drift[k, 0], -drift[k, 1], inner.reshape(height, -1))
        for x, y, rx, ry, strength in dark[k]:
            figure.shadow(inner, x, y, rx, ry, strength * room.shadow)
        figure.capsules(shapes[k], depth, surface, which)
        figure.compose(boxes[k], material, room.light, depth, surface, which, inner)
        picture = frame.copy()
        picture[y0 : y0 + height, x0 : x0 + width] = inner
        yield picture


def _shadows(skeleton: Skeleton, camera: Camera) -> np.ndarray:
    """Soft shadows under both feet and the body: x, y, radii in px and strength, (n, 3, 5)."""
    spots = []
    for point, radius, strength in (
        ((skeleton.joints[:, 22] + skeleton.joints[:, 24]) / 2, 0.055, 0.9),
        ((skeleton.joints[:, 19] + skeleton.joints[:, 21]) / 2, 0.055, 0.9),
        (skeleton.joints[:, 8], 0.15, 0.75),
    ):
        foot = point * np.array([1.0, 0.0, 1.0])
        x, y, _, scale = camera.project(foot)
        # A shadow fades and widens as the foot leaves the floor.
        lifted = np.clip(point[:, 1] / 0.15, 0, 1) if radius < 0.1 else np.zeros(len(x))
        wide = radius * (1 + 0.8 * lifted) * scale
        spots.append(np.stack([x, y, wide, 0.24 * wide, strength * (1 - 0.6 * lifted)], -1))
    return np.stack(spots, 1)
