"""Dance to a song: poses that land on its beats, in the vocabulary of its style, bigger where the song is louder.

A style's arm targets and stances are drawn into phrases of eight beats. A song has its own choreography, as songs do
on short-video platforms; clips vary it, and the dancers of one clip dance it together. Not for drawing (`figure`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiktok_dm.synthetic.body import Controls, Skeleton, pose
from tiktok_dm.synthetic.music import SECTION_BEATS, Song

# Wrist from the shoulder in body heights: outwards, up, forward.
ARMS = {
    "low": (0.04, -0.290, 0.05),
    "low_out": (0.17, -0.215, 0.06),
    "hip": (-0.015, -0.215, 0.055),
    "out": (0.285, 0.010, 0.06),
    "diagonal": (0.185, 0.225, 0.04),
    "up": (0.045, 0.290, 0.03),
    "flex": (0.125, 0.100, 0.10),
    "head": (-0.020, 0.150, 0.060),
    "front": (0.015, -0.060, 0.205),
    "chest": (-0.075, -0.045, 0.130),
    "cross": (-0.140, 0.010, 0.150),
    "cross_low": (-0.105, -0.185, 0.130),
    "clap": (-0.080, 0.288, 0.060),
}
# Right ankle (x, up, z), left ankle (x, up, z), hip shift x, extra drop.
STANCES = {
    "neutral": ((-0.075, 0, 0.0), (0.075, 0, 0.0), 0.0, 0.004),
    "narrow": ((-0.050, 0, 0.01), (0.050, 0, 0.0), 0.0, 0.004),
    "wide": ((-0.130, 0, 0.0), (0.130, 0, 0.0), 0.0, 0.014),
    "squat": ((-0.125, 0, 0.0), (0.125, 0, 0.0), 0.0, 0.060),
    "squat_right": ((-0.150, 0, 0.0), (0.105, 0, 0.0), -0.045, 0.045),
    "squat_left": ((-0.105, 0, 0.0), (0.150, 0, 0.0), 0.045, 0.045),
    "step_right": ((-0.140, 0, 0.01), (0.030, 0, 0.0), -0.055, 0.010),
    "step_left": ((-0.030, 0, 0.0), (0.140, 0, 0.01), 0.055, 0.010),
    "tap_right": ((-0.185, 0.012, 0.03), (0.055, 0, 0.0), 0.035, 0.020),
    "tap_left": ((-0.055, 0, 0.0), (0.185, 0.012, 0.03), -0.035, 0.020),
    "knee_right": ((-0.085, 0.110, 0.05), (0.045, 0, 0.0), 0.025, 0.008),
    "knee_left": ((-0.045, 0, 0.0), (0.085, 0.110, 0.05), -0.025, 0.008),
}
PHRASE_BEATS = 8


@dataclass(frozen=True)
class Dancer:
    """How one dancer of a clip differs from the choreography.

    Args:
        mirrored: left for right.
        delay_s: behind the beat.
        size: factor of all movements.
        facing: mean turn in rad.
        seed: of the small slow movements that nobody choreographs.
    """

    mirrored: bool
    delay_s: float
    size: float
    facing: float
    seed: tuple[int, ...]


def _steps(song: Song, variation: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets of `count` steps from the song's start: hands (m, 2, 3), feet (m, 2, 3), hip shift (m,), drop (m,)."""
    style = song.style
    per_phrase = PHRASE_BEATS // style.step_beats
    phrases = []
    for phrase in range(2):
        rng = np.random.default_rng([song.seed, song.song_id, 71, phrase])
        moves = [_different(rng, len(style.arms), per_phrase), _different(rng, len(style.stances), per_phrase)]
        changed = np.random.default_rng([song.seed, song.song_id, 72, phrase, variation])
        for row, kinds in zip(moves, (len(style.arms), len(style.stances)), strict=True):
            for k in np.flatnonzero(changed.random(per_phrase) < 0.2):
                row[k] = int(changed.integers(kinds))
        phrases.append(moves)
    step = np.arange(count)
    which = (step // per_phrase) % 2
    arms = np.array([style.arms[phrases[w][0][s % per_phrase]] for s, w in zip(step, which, strict=True)])
    stances = [STANCES[style.stances[phrases[w][1][s % per_phrase]]] for s, w in zip(step, which, strict=True)]
    hands = np.array([[ARMS[r], ARMS[left]] for r, left in arms])
    feet = np.array([[s[0], s[1]] for s in stances], float)
    shift = np.array([s[2] for s in stances])
    drop = np.array([s[3] for s in stances])

    section = (step * style.step_beats // SECTION_BEATS) % len(song.energy)
    energy = np.array(song.energy)[section]
    accent = np.isin((step * style.step_beats) % PHRASE_BEATS, song.accents)
    size = np.clip(0.68 + 0.32 * energy + 0.08 * accent, 0, 1.04)[:, None, None]
    rest = np.array(ARMS["low"]) * [1, 0.9, 1.4]
    hands = rest + (hands - rest) * size
    ground = np.array([STANCES["neutral"][:2]], float)
    feet = ground + (feet - ground) * np.minimum(size, 1)
    return hands, feet, shift * size[:, 0, 0], drop * size[:, 0, 0]


def _different(rng: np.random.Generator, kinds: int, count: int) -> list[int]:
    """`count` draws of which no two neighbours are the same, not even last and first."""
    drawn: list[int] = []
    for k in range(count):
        taken = {drawn[-1]} if drawn else set()
        if k == count - 1 and drawn:
            taken.add(drawn[0])
        drawn.append(int(rng.choice([kind for kind in range(kinds) if kind not in taken])))
    return drawn


def _ease(fraction: np.ndarray, hold: float) -> np.ndarray:
    """0 while a pose is held, then up to 1 at the end of the step, at rest on both ends."""
    u = np.clip((fraction - hold) / (1 - hold), 0, 1)
    return u * u * u * (u * (6 * u - 15) + 10)


def dance(song: Song, variation: int, dancer: Dancer, song_time_s: np.ndarray) -> Skeleton:
    """One dancer at given moments of a song.

    Args:
        song_time_s: seconds from the song's start, (n,).
        variation: number of the clip: a fifth of the song's moves are drawn anew for it.

    Returns:
        Skeleton in body heights, standing about x = z = 0.
    """
    style = song.style
    time = np.asarray(song_time_s, float) - dancer.delay_s
    beat = np.maximum(time * song.tempo_bpm / 60, 0)
    position = beat / style.step_beats
    count = int(position.max()) + 2
    hands_at, feet_at, shift_at, drop_at = _steps(song, variation, count)
    step = np.minimum(position.astype(int), count - 2)
    ease = _ease(position - step, style.hold)

    def between(targets: np.ndarray) -> np.ndarray:
        e = ease.reshape(-1, *[1] * (targets.ndim - 1))
        return targets[step] * (1 - e) + targets[step + 1] * e

    hands, feet, shift, drop = between(hands_at), between(feet_at), between(shift_at), between(drop_at)
    travel = np.linalg.norm(hands_at[step + 1] - hands_at[step], axis=-1)
    arc = np.sin(np.pi * ease)
    hands[..., 2] += 0.16 * travel * arc[:, None]  # hands pass in front of the body, never through it
    moved = np.linalg.norm((feet_at[step + 1] - feet_at[step])[..., [0, 2]], axis=-1)
    feet[..., 1] += np.minimum(0.35 * moved, 0.03) * arc[:, None]

    energy = np.array(song.energy)[(beat // SECTION_BEATS).astype(int) % len(song.energy)]
    lift = 0.5 + 0.5 * np.cos(2 * np.pi * position)  # 1 on the beat
    bounce = np.abs(style.bounce) * (lift if style.bounce > 0 else 1 - lift) * (0.6 + 0.4 * energy)
    swing = np.cos(np.pi * position)  # at rest on every step, to and fro over two
    rng = np.random.default_rng(dancer.seed)

    def drift(size: float, slowest_s: float = 5.0) -> np.ndarray:
        periods, phases = rng.uniform(slowest_s, 2 * slowest_s, 2), rng.uniform(0, 2 * np.pi, 2)
        return size * sum(np.sin(2 * np.pi * time / p + f) for p, f in zip(periods, phases, strict=True)) / 2

    twist = style.twist * np.tanh(shift / 0.05 + 0.6 * swing)
    controls = Controls(
        yaw=dancer.facing + drift(0.30),
        hip=np.stack([shift + style.sway * swing + drift(0.012), drift(0.01)], -1),
        drop=drop + bounce,
        pelvis_roll=-2.2 * style.sway * swing,
        chest_roll=style.tilt * np.tanh(-shift / 0.05) * 0.8 + 0.35 * style.tilt * swing,
        chest_twist=twist,
        lean=0.03 + 1.2 * drop + drift(0.02),
        head=np.stack([drift(0.12) - 0.3 * twist, 0.02 + 2.2 * bounce + drift(0.03), drift(0.03)], -1),
        hands=hands * dancer.size,
        feet=feet,
        foot_pitch=np.clip(feet[..., 1] * 4.5, 0, 0.6),
    )
    skeleton = pose(controls)
    return mirror(skeleton) if dancer.mirrored else skeleton


_SWAP = np.array([0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21])


def mirror(skeleton: Skeleton) -> Skeleton:
    """The same pose seen in a mirror, with left and right swapped so that it is a body again."""
    flip = np.array([-1.0, 1.0, 1.0])
    # Reflect on both sides: the axes stay right-handed.
    both = flip[:, None] * flip[None, :]
    return Skeleton(
        skeleton.joints[:, _SWAP] * flip,
        skeleton.head * flip,
        skeleton.head_axes * both,
        skeleton.chest_axes * both,
        skeleton.pelvis_axes * both,
        skeleton.fingertips[:, ::-1] * flip,
    )
