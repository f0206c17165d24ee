"""What the picture alone says, on pictures drawn here: no file, no codec."""

from __future__ import annotations

from pathlib import Path

import compilation_factory as factory
import numpy as np
import pytest

from tiktok_dm.curate.cuts.music_changes import features, runs_on
from tiktok_dm.curate.cuts.scan import Scan
from tiktok_dm.curate.cuts.shots import unexplained
from tiktok_dm.curate.cuts.transition_evidence import cut_odds, evidence, picture_odds
from tiktok_dm.curate.cuts.transitions import TILE, Candidate, changes, find_candidates
from tiktok_dm.media import Probe
from tiktok_dm.schema import SAMPLE_RATE

FPS = 30.0
HEIGHT, WIDTH = 54, 96


def scan_of(pictures: np.ndarray, sound: np.ndarray | None = None) -> Scan:
    """A scan of pictures that lie in memory."""
    n = len(pictures)
    probe = Probe(n / FPS, WIDTH, HEIGHT, FPS, "30/1", n, 0, "none", "none", 0.0, None)
    none = np.zeros(0)
    heard = np.zeros(0, np.float32) if sound is None else sound
    return Scan(Path("none"), "", probe, np.arange(n) / FPS, n / FPS, pictures, heard, none, none, none)


def room(seed: int) -> np.ndarray:
    """A still picture with shapes of all sizes, float (h, w, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT, WIDTH, 3)) + rng.uniform(40, 200, 3)
    for _ in range(60):
        h, w = rng.integers(3, 20, 2)
        y, x = rng.integers(0, HEIGHT - 3), rng.integers(0, WIDTH - 3)
        picture[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    return picture


def take(seed: int, count: int, *, start: float = 0.0, colour: int = 0, place: float = 0.5) -> np.ndarray:
    """A dancer (a dark body with bright arms) who swings before a still room, float (count, h, w, 3)."""
    frames = np.repeat(room(seed)[None], count, 0)
    for k in range(count):
        t = start + k / FPS
        x = round(WIDTH * (place + 0.12 * np.sin(2 * np.pi * 0.9 * t)))
        arm = round(8 + 7 * np.sin(2 * np.pi * 1.3 * t))
        frames[k, 14:50, x - 5 : x + 5] = (30, 20 + colour, 50)
        frames[k, 20 + arm // 2 : 24 + arm // 2, x - 5 - arm : x + 5 + arm] = (220, 190, 160)
    return frames


def decorated(frames: np.ndarray) -> np.ndarray:
    """The same inside a window, the rest a still pattern."""
    inner = np.broadcast_to(room(99), frames.shape).copy()
    inner[:, :, 33:63] = frames[:, :, 33:63]
    return inner


def levels(frames: np.ndarray, seed: int = 5) -> np.ndarray:
    """As uint8, with grain."""
    grain = np.random.default_rng(seed).normal(0, 1.5, frames.shape)
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def judged(frames: np.ndarray) -> list[tuple[Candidate, float]]:
    scan = scan_of(levels(frames))
    change = changes(scan)
    return [(c, picture_odds(c.kind, evidence(scan, change, c))) for c in find_candidates(scan, change)]


def cuts(frames: np.ndarray) -> list[tuple[str, int]]:
    return [(c.kind, c.middle) for c, odds in judged(frames) if odds > 0]


def test_changes_by_hand() -> None:
    frames = np.full((3, HEIGHT, WIDTH, 3), 100, np.uint8)
    frames[1:, :TILE, :TILE] = 130
    frames[2] = 50
    change = changes(scan_of(frames))
    tile = TILE * TILE / (HEIGHT * WIDTH)
    assert change.whole == pytest.approx([0, (30 - 4) * tile, (50 - 4) * (1 - tile) + (80 - 4) * tile], rel=1e-5)
    assert change.tiles.shape == (3, HEIGHT // TILE, WIDTH // TILE)
    assert change.tiles[1, 0, 0] == 30
    assert change.tiles[1].sum() == 30
    assert change.tiles[2, 0, 1] == 50


def test_changes_do_not_depend_on_the_blocks() -> None:
    scan = scan_of(levels(take(1, 40)))
    one, many = changes(scan, block=512), changes(scan, block=7)
    assert np.array_equal(one.whole, many.whole)
    assert np.array_equal(one.tiles, many.tiles)


@pytest.mark.parametrize("framed", [False, True])
def test_a_hard_cut_at_its_very_frame(framed: bool) -> None:
    frames = np.concatenate([take(1, 61), take(2, 70, start=0.7)])
    assert cuts(decorated(frames) if framed else frames) == [("hard_cut", 61)]


def test_a_cut_in_a_small_window_is_the_same_evidence() -> None:
    """What stands still about a window is left out: its cut changes as much of what is looked at."""
    frames = np.concatenate([take(1, 60), take(2, 60)])
    small = np.broadcast_to(room(99), frames.shape).copy()
    small[:, 12:36, 24:66] = frames[:, :48:2, 6:90:2]
    found = {}
    for name, shown in (("whole", frames), ("window", small)):
        scan = scan_of(levels(shown))
        found[name] = evidence(scan, changes(scan), Candidate("hard_cut", 60, 60, 60, 5.0))
    assert found["window"].area == pytest.approx(found["whole"].area, abs=0.1)
    assert found["window"].amount == pytest.approx(found["whole"].amount, rel=0.3)
    assert picture_odds("hard_cut", found["window"]) > 0


def test_colours_and_cameras_that_take_turns() -> None:
    first, second = take(1, 200), take(2, 200)
    turns = first.copy()
    for begin in (60, 120):
        turns[begin : begin + 30] = second[begin : begin + 30]
    other = np.concatenate([first[:60], second[60:]])
    found = {}
    for name, shown in (("turns", turns), ("other", other)):
        scan = scan_of(levels(shown))
        found[name] = evidence(scan, changes(scan), Candidate("hard_cut", 60, 60, 60, 5.0))
    assert found["turns"].returns < 0.15 < 0.6 < found["other"].returns
    one = scan_of(levels(first))
    within = evidence(one, changes(one), Candidate("hard_cut", 60, 60, 60, 1.0))
    assert within.strangers < 0.03 < found["other"].strangers
    assert within.palette < 0.5 * found["other"].palette
    assert 0 <= found["other"].palette <= 1


def test_music_moves_the_odds_of_a_cut() -> None:
    scan = scan_of(levels(np.concatenate([take(1, 60), take(2, 60)])))
    found = evidence(scan, changes(scan), Candidate("hard_cut", 60, 60, 60, 5.0))
    for kind in ("hard_cut", "crossfade"):
        odds = [cut_odds(kind, found, runs_on) for runs_on in (0.05, 0.3, 0.7, 0.95)]
        assert odds == sorted(odds, reverse=True)
        assert cut_odds(kind, found, None) == picture_odds(kind, found)


def test_one_take_has_no_cut() -> None:
    assert cuts(take(3, 150)) == []


@pytest.mark.parametrize("flat", [0.0, 255.0])
def test_a_flash_comes_back(flat: float) -> None:
    frames = take(4, 140)
    for k, share in ((60, 0.95), (61, 0.8), (62, 0.5), (63, 0.2)):
        frames[k] += (flat - frames[k]) * share
    found = judged(frames)
    assert found, "a flash is a candidate"
    assert max(odds for _, odds in found) < -2


def test_a_strobe_is_no_row_of_cuts() -> None:
    frames = take(5, 180)
    for k in range(60, 120):
        frames[k] *= 1.2 if k // 3 % 2 else 0.3
    assert cuts(frames) == []


def test_a_punch_zoom_is_the_same_picture_nearer() -> None:
    frames = take(6, 140)
    for k in range(12):
        frames[60 + k] = factory._moved(frames[60 + k], 1 + 0.35 * (1 - k / 12), 0, 0)
    assert cuts(frames) == []


@pytest.mark.parametrize("length", [6, 12, 24])
def test_a_cross_fade_is_met_at_its_middle(length: int) -> None:
    a, b = take(7, 100 + length), take(8, 100 + length, start=0.4)
    share = np.clip((np.arange(200 + length) - 100 + 0.5) / length, 0, 1)[:, None, None, None]
    early = np.concatenate([a, np.repeat(a[-1:], 100, 0)])
    late = np.concatenate([np.repeat(b[:1], 100, 0), b])
    found = cuts((1 - share) * early + share * late)
    assert [kind for kind, _ in found] == ["crossfade"]
    assert abs(found[0][1] - (100 + length / 2)) <= 1


@pytest.mark.parametrize(("colour", "length"), [(0.0, 16), (255.0, 24)])
def test_a_fade_through_a_colour(colour: float, length: int) -> None:
    a, b = take(9, 90), take(10, 90, start=0.4)
    half = length // 2
    for k in range(half):
        a[-1 - k] += (colour - a[-1 - k]) * (1 - (k + 0.5) / half)
        b[k] += (colour - b[k]) * (1 - (k + 0.5) / half)
    found = cuts(np.concatenate([a, b]))
    assert [kind for kind, _ in found] == ["fade"]
    assert abs(found[0][1] - 90) <= 1


def test_captions_over_a_dancer_are_no_cut() -> None:
    frames = take(11, 150)
    frames[70:, 44:50, 30:66] = 255
    frames[70:, 45:49:2, 32:64] = 0
    assert cuts(frames) == []


def test_a_dancer_who_jumps_counts_more_than_one_who_dances_on() -> None:
    """Same room, another place: not sure by itself (the music decides), but far above anything inside a take."""
    jump = np.concatenate([take(12, 70), take(12, 70, start=1.4, colour=60, place=0.25)])
    at = [odds for c, odds in judged(jump) if c.kind == "hard_cut" and c.middle == 70]
    inside = [odds for _, odds in judged(take(12, 140))]
    assert len(at) == 1
    assert at[0] > max([-8.0, *inside]) + 2


def test_unexplained_is_what_a_zoom_leaves() -> None:
    from scipy.ndimage import gaussian_filter, zoom

    picture = gaussian_filter(room(13).mean(-1), 2).astype(np.float32)
    nearer = zoom(picture, 1.04, order=1)
    y, x = (nearer.shape[0] - HEIGHT) // 2, (nearer.shape[1] - WIDTH) // 2
    later = nearer[y : y + HEIGHT, x : x + WIDTH].astype(np.float32)
    raw, left = np.abs(later - picture)[4:-4, 4:-4].mean(), np.abs(unexplained(picture, later))[4:-4, 4:-4].mean()
    assert left < 0.35 * raw
    moved = picture.copy()
    moved[20:34, 40:52] = 255 - moved[20:34, 40:52]
    there = np.abs(unexplained(picture, moved))[20:34, 40:52].mean()
    assert there > 0.8 * np.abs(moved - picture)[20:34, 40:52].mean()


# ------------------------------------------------------------------------------------------------------------- music


def test_music_goes_on_or_changes() -> None:
    songs = factory.demo_music(5, 20.0)
    on, off = [], []
    for k, song in enumerate(songs):
        for at in (5.3, 9.1, 12.7):
            on.append(runs_on(song.samples, at))
            other = songs[(k + 1) % len(songs)].stretch(at, 5 * SAMPLE_RATE)
            spliced = np.concatenate([song.samples[: round(at * SAMPLE_RATE)], other])
            off.append(runs_on(spliced, at))
    assert None not in on + off
    assert np.mean(np.array(on, float) > 0.5) >= 0.85
    # The demo's songs share their instruments: a splice between two of them is harder to hear than between recordings.
    assert np.mean(np.array(off, float)) < np.mean(np.array(on, float)) - 0.25


@pytest.mark.parametrize("fade_s", [0.2, 0.37, 0.6])
def test_music_that_changes_within_a_fade_is_heard_beside_it(fade_s: float) -> None:
    """Silent in there, as where clips end before the picture has gone over, or mixed by equal powers."""
    songs = factory.demo_music(5, 20.0)
    n = round(fade_s * SAMPLE_RATE)
    turn = np.linspace(0, np.pi / 2, n, dtype=np.float32)
    silent, mixed, on = [], [], []
    for k, song in enumerate(songs):
        for at in (5.3, 9.1, 12.7):
            first = round(at * SAMPLE_RATE)
            before, fading = song.samples[:first], song.samples[first : first + n]
            other = songs[(k + 1) % len(songs)].stretch(at, 5 * SAMPLE_RATE)
            silent.append(runs_on(np.concatenate([before, np.zeros(n, np.float32), other]), at + fade_s / 2, fade_s))
            mix = fading * np.cos(turn) + other[:n] * np.sin(turn)
            mixed.append(runs_on(np.concatenate([before, mix, other[n:]]), at + fade_s / 2, fade_s))
            on.append(runs_on(song.samples, at + fade_s / 2, fade_s))
    assert silent == [0.05] * 15
    assert np.mean(np.array(on, float) > 0.5) >= 0.85
    assert np.mean(np.array(mixed, float)) < np.mean(np.array(on, float)) - 0.25


def test_what_lies_beyond_another_change_is_not_heard() -> None:
    """A silent title card a second before a fade, say: as if the sound began and ended with the limits."""
    song = factory.demo_music(5, 20.0)[2].samples
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    sound = np.concatenate([silence, song[: 5 * SAMPLE_RATE], silence])
    alone = runs_on(song[: 5 * SAMPLE_RATE], 1.5, 0.4)
    assert alone is not None
    assert runs_on(sound, 3.5, 0.4, (2.0, 7.0)) == alone
    assert runs_on(sound, 3.5, 0.4) != alone
    assert runs_on(sound, 3.5, 0.4, (2.9, 7.0)) is None, "less than half a second beside the fade"


def test_silence_says_nothing_or_much() -> None:
    song = factory.demo_music(5, 20.0)[0].samples
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    assert runs_on(silence, 2.0) is None
    assert runs_on(np.zeros(0, np.float32), 0.0) is None
    assert runs_on(song, 0.2) is None, "less than half a second before it"
    begins = runs_on(np.concatenate([silence, song]), 4.0)
    assert begins is not None
    assert begins < 0.1


def test_music_louder_and_softer_is_the_same_evidence() -> None:
    song = factory.demo_music(5, 20.0)[1].samples
    loud, soft = features(song, 7.0), features(song * 0.25, 7.0)
    assert loud is not None
    assert soft is not None
    assert not isinstance(loud, float)
    assert not isinstance(soft, float)
    assert soft.harmony == pytest.approx(loud.harmony, abs=1e-3)
    assert soft.level == pytest.approx(loud.level, abs=1e-3)
