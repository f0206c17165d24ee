"""What a demo is asked for, and who dances what to which song, where and when.

What a demo of given parameters consists of: which clip shows whom, where, to which song.

The plan is a pure function of the parameters; nothing here is rendered or synthesised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from tiktok_dm.errors import UserError
from tiktok_dm.synthetic.choreography import GROOVES, Dancer
from tiktok_dm.synthetic.figure import Look, make_look
from tiktok_dm.synthetic.music import make_song
from tiktok_dm.synthetic.scene import ROOMS

# Window's width over its height (None: the whole frame); dancers' height by their number, as part of the window's.
LAYOUTS: dict[str, tuple[float | None, dict[int, float]]] = {
    "portrait": (0.62, {1: 0.66}),
    "square": (1.0, {1: 0.78, 2: 0.52}),
    "full": (None, {1: 0.82, 2: 0.74, 3: 0.60}),
}


@dataclass(frozen=True)
class DemoParams:
    """Size and seed of a demo.

    Args:
        clips, songs, compilations: how many of each; each song is danced to in `clips / songs` clips.
        seed: another seed gives other songs, dances, dancers and rooms.
        width, height: px of the videos, even.
        fps: frame rate of the videos (truth for the fast path is always at 30).
        shortest_s, longest_s: bounds of the clips' lengths.
        layouts: of the compilations, in turn: `portrait` (a vertical window between static decoration, solo), `square`
            (a square window, solo and duo), `full` (no decoration, solo to trio).
        title_s: length of a title card before the first clip; 0 for none.
        crossfade_s: length of a cross-fade between clips, which belongs to neither; 0 for hard cuts.
        groove: how dancers keep time: `human` (jitter, other paces, syncopation, holds; see `choreography.Groove`) or
            `exact` (a pose on every step).
    """

    clips: int = 8
    songs: int = 4
    compilations: int = 2
    seed: int = 0
    width: int = 768
    height: int = 432
    fps: int = 30
    shortest_s: float = 6.2
    longest_s: float = 8.8
    layouts: tuple[str, ...] = ("full", "portrait", "square")
    title_s: float = 1.0
    crossfade_s: float = 0.0
    groove: str = "human"

    def __post_init__(self) -> None:
        def check(ok: bool, sentence: str) -> None:
            if not ok:
                raise UserError(sentence)

        check(
            self.compilations >= 1,
            f"a demo needs at least one compilation, not {self.compilations}.",
        )
        check(
            self.clips >= self.compilations,
            f"{self.clips} clips cannot fill {self.compilations} compilations: ask for at least as many clips.",
        )
        check(
            1 <= self.songs <= self.clips,
            f"a demo of {self.clips} clips can hold 1 to {self.clips} songs, not {self.songs}.",
        )
        check(self.seed >= 0, f"the demo's seed must be 0 or more, not {self.seed}.")
        check(
            self.width % 2 == 0 and self.height % 2 == 0 and self.height >= 96 and self.width >= self.height,
            f"demo videos must be landscape with even sides of at least 96 px, not {self.width} x {self.height}.",
        )
        check(10 <= self.fps <= 120, f"the demo's frame rate must lie between 10 and 120, not {self.fps}.")
        check(
            1.0 <= self.shortest_s <= self.longest_s <= 30.0,
            f"demo clips must last 1 to 30 seconds, not {self.shortest_s:g} to {self.longest_s:g}.",
        )
        check(
            bool(self.layouts) and all(layout in LAYOUTS for layout in self.layouts),
            f"demo layouts are {', '.join(LAYOUTS)}, not {', '.join(self.layouts)}.",
        )
        check(
            0 <= self.title_s <= 10 and 0 <= self.crossfade_s <= 1,
            "title cards last up to 10 seconds, cross-fades up to 1.",
        )
        check(self.groove in GROOVES, f"the demo's groove is {' or '.join(GROOVES)}, not {self.groove}.")


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
