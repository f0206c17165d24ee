"""How many dance: people who cross fast, leave and come back, hide each other, and shapes that are nobody."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from people_factory import Invented, numbered, person

from tiktok_dm.pose.tracking import track_poses

WIDTH, HEIGHT, FRAMES = 640, 240, 120
Seen = list[tuple[np.ndarray, float, float]]


def _shown(rng: np.random.Generator, places: np.ndarray, tall: np.ndarray, nearer: np.ndarray) -> list[Seen]:
    """What an estimator sees of people at `places` (frames, people) px: nobody outside, nobody behind another."""
    scenes = []
    for at in places:
        seen: Seen = []
        for k, x in enumerate(at):
            hidden = any(
                abs(x - other) < 0.15 * tall[k] and nearer[j] > nearer[k] for j, other in enumerate(at) if j != k
            )
            if 0 < x < WIDTH and not hidden:
                pose = person(x, 120, tall[k], rng.uniform(0.75, 0.95))
                pose[:, :2] += rng.normal(0, 0.01 * tall[k], (25, 2))
                seen.append((pose, rng.uniform(0.6, 0.95), 0.99))
        scenes.append(seen)
    return scenes


def _sway(rng: np.random.Generator, count: int) -> np.ndarray:
    t = np.arange(FRAMES)[:, None]
    return rng.uniform(2, 8, count) * np.sin(2 * np.pi * (t / rng.uniform(15, 40, count) + rng.uniform(0, 1, count)))


def crossing(rng: np.random.Generator) -> tuple[int, list[Seen]]:
    """Two who change places in 4 to 12 frames, once to three times."""
    side = np.ones(FRAMES)
    for at in rng.choice(np.arange(2, 9), rng.integers(1, 4), replace=False) * 12:
        n = int(rng.integers(4, 13))
        ramp = np.concatenate([np.ones(at), np.linspace(1, -1, n), -np.ones(FRAMES)])[:FRAMES]
        side = side * ramp
    apart = rng.uniform(90, 170)
    places = np.stack([320 + apart * side, 320 - apart * side], axis=1) + _sway(rng, 2)
    return 2, _shown(rng, places, rng.uniform(120, 190, 2), np.array([1, 0]))


def coming_back(rng: np.random.Generator) -> tuple[int, list[Seen]]:
    """One or two, of whom one leaves the picture for half a second to two seconds, and comes back from either side."""
    people = int(rng.integers(1, 3))
    places = np.linspace(180, 420, 2)[:people] + np.zeros((FRAMES, people)) + _sway(rng, people)
    out = int(rng.integers(30, 50))
    back = out + int(rng.integers(15, 60))
    edge = WIDTH if rng.random() < 0.5 else 0
    places[out - 15 : out, -1] = np.linspace(places[out - 15, -1], 700, 15)
    places[out:back, -1] = -500
    home = places[back + 15, -1] if back + 15 < FRAMES else 300
    places[back : back + 15, -1] = np.linspace(edge, home, 15)[: FRAMES - back]
    return people, _shown(rng, places, rng.uniform(120, 190, people), np.arange(people)[::-1])


def overlapping(rng: np.random.Generator) -> tuple[int, list[Seen]]:
    """Three side by side, so near that they hide each other now and then."""
    tall = rng.uniform(150, 190, 3)
    places = np.array([320 - 50, 320, 320 + 50]) * np.ones((FRAMES, 1)) + 2.5 * _sway(rng, 3)
    return 3, _shown(rng, places, tall, rng.permutation(3))


def ghosts(rng: np.random.Generator) -> tuple[int, list[Seen]]:
    """One to three people, and a shape on one of them or beside them: thin, faint or short-lived."""
    people = int(rng.integers(1, 4))
    places = np.linspace(120, 420, people) * np.ones((FRAMES, 1)) + _sway(rng, people)
    tall = rng.uniform(120, 190, people)
    scenes = _shown(rng, places, tall, np.arange(people))
    kind = rng.choice(["on", "beside"])
    begin = int(rng.integers(0, 80))
    for k in range(begin, min(FRAMES, begin + int(rng.integers(25, 60)))):
        if kind == "on":  # a second skeleton on somebody
            pose = person(places[k, 0] + 0.22 * tall[0], 120, 0.8 * tall[0], rng.uniform(0.3, 0.5))
        else:  # a curtain, a stand
            pose = person(570, 120, 120, rng.uniform(0.25, 0.45))
            pose[:, 0] = 570 + 0.25 * (pose[:, 0] - 570)
        scenes[k].append((pose, rng.uniform(0.25, 0.6), rng.uniform(0.5, 0.8)))
    return people, scenes


def counted(make: Callable[[np.random.Generator], tuple[int, list[Seen]]], seed: int, batch: int) -> tuple[int, int]:
    """True and found number of dancers."""
    people, scenes = make(np.random.default_rng(seed))
    poses = track_poses(numbered(FRAMES), (0, 0, WIDTH, HEIGHT), Invented(scenes.__getitem__, batch=batch))
    return people, poses.shape[1]


@pytest.mark.parametrize("make", [crossing, coming_back, overlapping, ghosts])
@pytest.mark.parametrize("batch", [1, 8])
def test_dancers_are_those_who_are_there(make: Callable, batch: int) -> None:
    right = [true == got for true, got in (counted(make, seed, batch) for seed in range(1000, 1006))]
    assert sum(right) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("make", [crossing, coming_back, overlapping, ghosts])
def test_dancers_of_many_seeds(make: Callable) -> None:
    """The thresholds were chosen on seeds below 40."""
    right = [true == got for true, got in (counted(make, seed, 1) for seed in range(1000, 1100))]
    assert np.mean(right) >= 0.9
