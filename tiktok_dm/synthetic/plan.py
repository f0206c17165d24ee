"""What a demo of given parameters consists of: which clip shows whom, where, to which song.

The plan is a pure function of the parameters; nothing here is rendered or synthesised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from tiktok_dm.synthetic.choreography import Dancer
from tiktok_dm.synthetic.figure import Look, make_look
from tiktok_dm.synthetic.music import make_song
from tiktok_dm.synthetic.params import LAYOUTS, DemoParams
from tiktok_dm.synthetic.scene import ROOMS

SHORTEST = 0.45


@dataclass(frozen=True)
class ClipPlan:
    """One clip. Frames count from the compilation's first picture; `song_offset_s` is where in its song it starts."""

    clip_id: int
    compilation_id: int
    song_id: int
    song_offset_s: float
    first_frame: int
    frames: int
    window: tuple[int, int, int, int]
    room: str
    height: float
    dancers: tuple[Dancer, ...]
    looks: tuple[Look, ...]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class CompilationPlan:
    """One compilation: its clips in order, and its window (x, y, width, height) within the frame."""

    compilation_id: int
    title: str
    layout: str
    window: tuple[int, int, int, int]
    title_frames: int
    frames: int
    clips: tuple[ClipPlan, ...]


def window_of(layout: str, width: int, height: int) -> tuple[int, int, int, int]:
    """x, y, width, height in px, all even, of a layout's window in a frame."""
    ratio, _ = LAYOUTS[layout]
    if ratio is None:
        return 0, 0, width, height
    inner = min(2 * round(ratio * height / 2), width)
    return (width - inner) // 4 * 2, 0, inner, height


@lru_cache(maxsize=16)
def make_plan(params: DemoParams) -> tuple[CompilationPlan, ...]:
    """All compilations of a demo."""
    rng = np.random.default_rng([params.seed, 1])
    bounds = [round(k * params.clips / params.compilations) for k in range(params.compilations + 1)]
    songs = _songs_of_clips(params, bounds)
    used = [0] * params.songs
    uses = [songs.count(song) for song in range(params.songs)]
    rooms = list(ROOMS)
    plans = []
    for number in range(params.compilations):
        layout = params.layouts[number % len(params.layouts)]
        window = window_of(layout, params.width, params.height)
        heights = LAYOUTS[layout][1]
        crowd = sorted(heights)
        turn = int(rng.integers(len(rooms)))
        frame = title_frames = round(params.title_s * params.fps)
        clips = []
        for clip_id in range(bounds[number], bounds[number + 1]):
            seed = (params.seed, 2, clip_id)
            own = np.random.default_rng(seed)
            seconds = round(float(own.uniform(params.shortest_s, params.longest_s)), 1)
            frames = round(seconds * params.fps)
            song = make_song(params.seed, songs[clip_id])
            # Each use of a song gets its own stretch of it, so that clips of one song differ.
            room_s = max(song.duration_s - seconds - 1.0, 0.0) / uses[song.song_id]
            offset = (used[song.song_id] + float(own.uniform(0.0, 1.0))) * room_s
            used[song.song_id] += 1
            position = clip_id - bounds[number]
            n_dancers = crowd[position % len(crowd)]
            clips.append(
                ClipPlan(
                    clip_id=clip_id,
                    compilation_id=number,
                    song_id=song.song_id,
                    song_offset_s=round(offset, 3),
                    first_frame=frame,
                    frames=frames,
                    window=window,
                    room=rooms[(turn + position) % len(rooms)],
                    height=heights[n_dancers],
                    dancers=_dancers(own, n_dancers, seed),
                    looks=_looks(own, n_dancers),
                    seed=seed,
                )
            )
            frame += frames + (round(params.crossfade_s * params.fps) if clip_id + 1 < bounds[number + 1] else 0)
        plans.append(
            CompilationPlan(number, f"Dance Mix {number + 1}", layout, window, title_frames, frame, tuple(clips))
        )
    return tuple(plans)


def _songs_of_clips(params: DemoParams, bounds: list[int]) -> list[int]:
    """Every song equally often, spread over compilations, in an order that is not the songs' own."""
    rng = np.random.default_rng([params.seed, 3])
    songs: list[int] = []
    for first, last in pairwise(bounds):
        block = [k % params.songs for k in range(first, last)]
        songs += [int(song) for song in rng.permutation(block)]
    return songs


def _dancers(rng: np.random.Generator, count: int, seed: tuple[int, ...]) -> tuple[Dancer, ...]:
    """The first leads, exactly on the beat; the others follow by up to 40 ms, in half of the clips as mirror images."""
    mirrored, alike = rng.random(2) < 0.5
    return tuple(
        Dancer(
            mirrored=bool(mirrored) ^ (k > 0 and not alike),
            delay_s=0.0 if k == 0 else round(float(rng.uniform(0.0, 0.04)), 3),
            size=float(rng.uniform(0.95, 1.0)) if k == 0 else float(rng.uniform(0.88, 1.0)),
            facing=float(rng.uniform(-0.12, 0.12)),
            seed=(*seed, 5, k),
        )
        for k in range(count)
    )


def _looks(rng: np.random.Generator, count: int) -> tuple[Look, ...]:
    looks: tuple[Look, ...] = ()
    for _ in range(count):
        looks = (*looks, make_look(rng, looks))
    return looks
