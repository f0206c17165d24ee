"""Size and seed of a demo. What is made of them is `plan`'s matter; importing this costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tiktok_dm.errors import UserError

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
