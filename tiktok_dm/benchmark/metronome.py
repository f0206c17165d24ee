"""The failure of the published beat scores, shown: a click track of 2 Hz against songs whose beats are known.

The embedded demo's songs are synthesised; each is "scored" with itself, with another song, and with the same click
track of two clicks a second for all of them. Not the baselines of a benchmark's tables: those are made for a dataset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tiktok_dm.benchmark.clip_features import FeatureCache
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.evaluation import Evaluation
from tiktok_dm.benchmark.motion_pulse import clicks_at
from tiktok_dm.benchmark.reference import Item, Reference
from tiktok_dm.errors import UserError
from tiktok_dm.schema import SAMPLE_RATE

SONGS = 12
SECONDS = 12.0
START_S = 8.0
"""Of the stretch in its song: past the quiet beginning."""

ROWS = ("the song itself", "another song", "2 Hz click track")


def click_track(seconds: float, hertz: float = 2.0, *, first_s: float = 0.0) -> np.ndarray:
    """Clicks at a steady rate, float32 (samples,) at 22,050 Hz: 1,000 Hz, dying away within 20 ms, peak about 0.7.

    Args:
        seconds: length.
        hertz: clicks a second.
        first_s: time of the first.
    """
    if not hertz > 0 or not seconds > 0:
        raise ValueError(f"a click track needs a length and a rate above 0, not {seconds} s at {hertz} Hz")
    return clicks_at(np.arange(first_s, seconds, 1 / hertz), round(seconds * SAMPLE_RATE))


def demo_songs(songs: int = SONGS, seed: int = 0) -> Reference:
    """Twelve seconds of each of the demo's first songs, with the beats and the tempo that they were made with."""
    import soxr

    from tiktok_dm.synthetic.music import make_song, render_song

    if songs < 2:
        raise UserError(f"the check pairs songs with other songs and needs at least two, not {songs}")
    items = {}
    for number in range(songs):
        song = make_song(seed, number)
        whole = soxr.resample(render_song(seed, number), 44_100, SAMPLE_RATE).astype(np.float32)
        first = round(START_S * SAMPLE_RATE)
        beats = song.beats_s() - START_S
        name = f"song_{number:03d}"
        items[name] = Item(
            name,
            whole[first : first + round(SECONDS * SAMPLE_RATE)],
            song_id=number,
            beats_s=beats[(beats >= 0) & (beats < SECONDS)],
            tempo_bpm=song.tempo_bpm,
        )
    return Reference(items, f"{songs} songs of the embedded demo, {SECONDS:g} s each")


def metronome_check(
    songs: int = SONGS,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Evaluation]:
    """Evaluations of `ROWS` on the demo's songs, by name.

    Args:
        songs: how many.
        seed: of the demo.
        workers: processes.

    Raises:
        UserError: fewer than two songs.
    """
    reference = demo_songs(songs, seed)
    names = list(reference.items)
    sounds: dict[str, np.ndarray] = {name: np.asarray(item.audio) for name, item in reference.items.items()}
    clicks = click_track(SECONDS)
    given = (sounds, {name: sounds[names[k - 1]] for k, name in enumerate(names)}, dict.fromkeys(names, clicks))
    options = EvaluateOptions(seed=seed, workers=workers, embedder=None)
    cache = FeatureCache()
    return {
        row: evaluate(reference, dict(music), options, cache=cache, progress=progress)
        for row, music in zip(ROWS, given, strict=True)
    }
