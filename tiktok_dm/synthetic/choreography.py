"""A human body (proportions, inverse kinematics, joints) and its dance to a song, with poses on or near the beats.

Coordinates: x to the right of the picture, y up from the floor, z towards the camera. A dancer who faces the camera has
the left hand at positive x. Arrays run over frames first; sides are 0 = right, 1 = left.

A style's arm targets and stances are drawn into phrases of eight beats. A song has its own choreography, as songs do on
short-video platforms; clips vary it, and the dancers of one clip dance it together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiktok_dm.synthetic.music import SECTION_BEATS, SONG_BEATS, Song

HIP_HEIGHT, SPINE, HEAD_ABOVE = 0.53, 0.29, 0.118
SHOULDER, HIP = 0.108, 0.058
UPPER_ARM, FOREARM, HAND, FINGERS = 0.165, 0.145, 0.050, 0.042
THIGH, SHIN, ANKLE = 0.243, 0.243, 0.045
SIDE = np.array([-1.0, 1.0])  # x of right and left in the dancer's own frame

# Points of the face in the head's own frame: x to the dancer's left, y up, z forward.
NOSE = (0.0, -0.006, 0.060)
EYE = (0.0195, 0.010, 0.047)
EAR = (0.046, 0.002, 0.010)  # where the ear meets the cheek, which is what estimators mean by it


@dataclass(frozen=True)
class Controls:
    """What drives a body over n frames; lengths in body heights, angles in rad.

    Args:
        yaw: turn about the vertical, (n,).
        hip: sideways and forward shift of the hips, (n, 2).
        drop: how far the hips are lowered from standing, (n,).
        pelvis_roll, chest_roll, chest_twist, lean: rotations of pelvis and chest, each (n,).
        head: yaw, pitch, roll of the head beside the chest's, (n, 3).
        hands: wrist targets from the shoulder as (outwards, up, forward), (n, 2, 3).
        feet: ankles as (x, height above standing, z) in the dancer's frame, (n, 2, 3).
        foot_pitch: toes down, (n, 2).
    """

    yaw: np.ndarray
    hip: np.ndarray
    drop: np.ndarray
    pelvis_roll: np.ndarray
    chest_roll: np.ndarray
    chest_twist: np.ndarray
    lean: np.ndarray
    head: np.ndarray
    hands: np.ndarray
    feet: np.ndarray
    foot_pitch: np.ndarray


@dataclass(frozen=True)
class Skeleton:
    """A posed body over n frames.

    Args:
        joints: BODY_25 joints, (n, 25, 3).
        head: centre of the head, (n, 3).
        head_axes, chest_axes, pelvis_axes: columns are left, up, forward, (n, 3, 3).
        fingertips: (n, 2, 3).
    """

    joints: np.ndarray
    head: np.ndarray
    head_axes: np.ndarray
    chest_axes: np.ndarray
    pelvis_axes: np.ndarray
    fingertips: np.ndarray


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3): roll about z, then pitch about x (positive leans forward), then yaw about y."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    about_y = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    about_x = np.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], -1).reshape(-1, 3, 3)
    about_z = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return about_y @ about_x @ about_z


def two_bones(
    root: np.ndarray, target: np.ndarray, first: float, second: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end of a chain of two bones that reaches for a target, bent towards `pole`.

    Args:
        root, target, pole: (..., 3); `pole` is a direction.
        first, second: lengths of the bones.

    Returns:
        Elbow (or knee) and wrist (or ankle); the end stops short of a target that is out of reach.
    """
    span = target - root
    distance = np.linalg.norm(span, axis=-1, keepdims=True)
    direction = span / np.maximum(distance, 1e-9)
    distance = np.clip(distance, abs(first - second) + 1e-3, (first + second) * 0.998)
    bend = pole - (pole * direction).sum(-1, keepdims=True) * direction
    bend /= np.maximum(np.linalg.norm(bend, axis=-1, keepdims=True), 1e-9)
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    middle = root + first * (cosine * direction + np.sqrt(np.maximum(1 - cosine**2, 0)) * bend)
    return middle, root + direction * distance


def _turn(axes: np.ndarray, vector: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """A vector (3,) of a rotated frame, as seen from outside, (n, 3)."""
    return np.einsum("nij,j->ni", axes, np.asarray(vector, float))


def pose(controls: Controls) -> Skeleton:
    """The body that the controls describe; legs always reach their feet (the hips come down where they must)."""
    n = len(controls.yaw)
    zero = np.zeros(n)
    body_axes = rotation(controls.yaw, zero, zero)
    pelvis_axes = rotation(controls.yaw, zero, controls.pelvis_roll)
    chest_axes = rotation(controls.yaw + controls.chest_twist, controls.lean, controls.chest_roll)
    head_axes = rotation(
        controls.yaw + 0.5 * controls.chest_twist + controls.head[:, 0],
        controls.head[:, 1],
        controls.head[:, 2] + 0.4 * controls.chest_roll,
    )

    ankles = np.einsum("nij,nsj->nsi", body_axes, controls.feet + np.array([0, ANKLE, 0]))
    hip_centre = np.stack([controls.hip[:, 0], HIP_HEIGHT - controls.drop, controls.hip[:, 1]], -1)
    sideways = np.einsum("nij,sj->nsi", pelvis_axes, np.stack([SIDE * HIP, 0 * SIDE, 0 * SIDE], -1))
    level = hip_centre[:, None] + sideways
    apart = ((level - ankles)[..., [0, 2]] ** 2).sum(-1)
    reach = ankles[..., 1] + np.sqrt(np.maximum(((THIGH + SHIN) * 0.995) ** 2 - apart, 0.05)) - sideways[..., 1]
    hip_centre[:, 1] = np.minimum(hip_centre[:, 1], reach.min(1))
    hips = hip_centre[:, None] + sideways

    forward, left = body_axes[:, :, 2], body_axes[:, :, 0]
    knee_pole = forward[:, None] + 0.28 * SIDE[None, :, None] * left[:, None]
    knees, ankles = two_bones(hips, ankles, THIGH, SHIN, knee_pole)

    neck = hip_centre + SPINE * chest_axes[:, :, 1]
    shoulders = neck[:, None] + SHOULDER * SIDE[None, :, None] * chest_axes[:, None, :, 0]
    outwards = np.stack([SIDE, np.ones(2), np.ones(2)], -1)
    wrists = shoulders + np.einsum("nij,nsj->nsi", chest_axes, controls.hands * outwards)
    elbow_pole = np.einsum("nij,sj->nsi", chest_axes, np.array([0.75, -0.42, -0.5]) * outwards)
    elbows, wrists = two_bones(shoulders, wrists, UPPER_ARM, FOREARM, elbow_pole)
    along = (wrists - elbows) / np.linalg.norm(wrists - elbows, axis=-1, keepdims=True)
    fingertips = wrists + (HAND + FINGERS) * along

    head = neck + HEAD_ABOVE * (0.5 * chest_axes[:, :, 1] + 0.5 * head_axes[:, :, 1])
    joints = np.empty((n, 25, 3))
    joints[:, 0] = head + _turn(head_axes, NOSE)
    joints[:, 1], joints[:, 8] = neck, hip_centre
    for side, (arm, leg) in enumerate(((2, 9), (5, 12))):
        joints[:, arm], joints[:, arm + 1], joints[:, arm + 2] = shoulders[:, side], elbows[:, side], wrists[:, side]
        joints[:, leg], joints[:, leg + 1], joints[:, leg + 2] = hips[:, side], knees[:, side], ankles[:, side]
        mirror = np.array([SIDE[side], 1.0, 1.0])
        joints[:, 15 + side] = head + _turn(head_axes, np.array(EYE) * mirror)
        joints[:, 17 + side] = head + _turn(head_axes, np.array(EAR) * mirror)
        foot_axes = rotation(controls.yaw + SIDE[side] * 0.30, controls.foot_pitch[:, side], zero)
        big_toe, small_toe, heel = (22, 23, 24) if side == 0 else (19, 20, 21)
        joints[:, big_toe] = ankles[:, side] + _turn(foot_axes, (-0.008 * SIDE[side], -0.030, 0.088))
        joints[:, small_toe] = ankles[:, side] + _turn(foot_axes, (0.024 * SIDE[side], -0.032, 0.072))
        joints[:, heel] = ankles[:, side] + _turn(foot_axes, (0.0, -0.030, -0.028))
    return Skeleton(joints, head, head_axes, chest_axes, pelvis_axes, fingertips)


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
BAR_BEATS = 4
SHORTEST_MOVE = 0.3  # beats between two poses


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


@dataclass(frozen=True)
class Groove:
    """How far a dance keeps away from one exact pose on every step; shares are of bars of four beats or of poses.

    The defaults are chosen so that the dances resemble real dancers in `benchmarks/groove.py`.

    Args:
        jitter_s: standard deviation of the moment at which a pose is reached, s; half of its variance stays with the
            dancer from pose to pose, as a lateness that drifts.
        double, half: shares of bars danced at twice and at half the style's pace.
        free: share of bars whose poses fall at random moments.
        syncopated: share of poses that come half a step early or late.
        held: share of poses that are kept for a step more.
        size: standard deviation of the logarithm of each move's size.
        still: share of bars without bounce and sway.
    """

    jitter_s: float = 0.035
    double: float = 0.15
    half: float = 0.15
    free: float = 0.10
    syncopated: float = 0.12
    held: float = 0.12
    size: float = 0.25
    still: float = 0.30


GROOVES: dict[str, Groove | None] = {"human": Groove(), "exact": None}
"""How dancers keep time, by name; None reaches one pose on every step, to the millisecond."""


def arrivals(song: Song, variation: int, groove: Groove) -> np.ndarray:
    """When the choreography reaches its poses, in beats from the song's start, ascending, (m,); the first is 0.

    What is danced at another pace, off the beat or freely belongs to the choreography, so that the dancers of a clip
    share it; how far a dancer misses these moments does not.
    """
    rng = np.random.default_rng([song.seed, song.song_id, 73, variation])
    paces = {"double": song.style.step_beats / 2, "half": min(2 * song.style.step_beats, BAR_BEATS)}
    shares = np.array([groove.double, groove.half, groove.free])
    moments = [0.0]
    for first in range(0, SONG_BEATS + 2 * BAR_BEATS, BAR_BEATS):
        kind = rng.choice(["double", "half", "free", "plain"], p=[*shares, 1 - shares.sum()])
        pace = paces.get(kind, song.style.step_beats)
        count = round(BAR_BEATS / pace)
        aside = rng.choice([-0.5, 0.5], count) * pace * (rng.random(count) < groove.syncopated)
        planned = (np.arange(count) * pace + aside)[rng.random(count) >= groove.held]
        free = np.sort(rng.uniform(0, BAR_BEATS, count))
        for moment in first + (free if kind == "free" else np.sort(planned)):
            if moment - moments[-1] >= SHORTEST_MOVE:
                moments.append(float(moment))
    return np.array(moments)


def _lateness(rng: np.random.Generator, count: int, deviation_s: float) -> np.ndarray:
    """How late a dancer is at each of `count` moments, s: half of the variance is a drift, half comes anew."""
    drift = np.zeros(count)
    for k, new in enumerate(rng.standard_normal(count)):
        drift[k] = 0.8 * drift[k - 1] + 0.6 * new if k else new
    return deviation_s * np.sqrt(0.5) * (drift + rng.standard_normal(count))


def _danced_at(time_s: np.ndarray, planned_s: np.ndarray, late_s: np.ndarray) -> np.ndarray:
    """How many of the planned moments have passed at each time, with fractions, (n,)."""
    moments = np.maximum.accumulate(planned_s + late_s) + np.arange(len(planned_s)) * 1e-6
    return np.interp(time_s, moments, np.arange(len(moments)))


def _steps(
    song: Song, variation: int, beats: np.ndarray, spread: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets of the poses at `beats` (m,): hands (m, 2, 3), feet (m, 2, 3), hip shift (m,), drop (m,).

    `spread` is the standard deviation of the logarithm of the moves' sizes.
    """
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
    step = np.arange(len(beats))
    which = (step // per_phrase) % 2
    arms = np.array([style.arms[phrases[w][0][s % per_phrase]] for s, w in zip(step, which, strict=True)])
    stances = [STANCES[style.stances[phrases[w][1][s % per_phrase]]] for s, w in zip(step, which, strict=True)]
    hands = np.array([[ARMS[r], ARMS[left]] for r, left in arms])
    feet = np.array([[s[0], s[1]] for s in stances], float)
    shift = np.array([s[2] for s in stances])
    drop = np.array([s[3] for s in stances])

    energy = np.array(song.energy)[(beats // SECTION_BEATS).astype(int) % len(song.energy)]
    accent = np.isin(beats % PHRASE_BEATS, song.accents)
    own = np.exp(spread * np.random.default_rng([song.seed, song.song_id, 74, variation]).standard_normal(len(beats)))
    size = np.clip((0.68 + 0.32 * energy + 0.08 * accent) * own, 0, 1.04)[:, None, None]
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


def dance(
    song: Song, variation: int, dancer: Dancer, song_time_s: np.ndarray, groove: Groove | None = None
) -> Skeleton:
    """One dancer at given moments of a song.

    Args:
        song_time_s: seconds from the song's start, (n,).
        variation: number of the clip: a fifth of the song's moves are drawn anew for it.
        groove: how far from exact the dance is; None is a pose on every step.

    Returns:
        Skeleton in body heights, standing about x = z = 0.
    """
    style = song.style
    time = np.asarray(song_time_s, float) - dancer.delay_s
    beat = np.maximum(time * song.tempo_bpm / 60, 0)
    pulse = position = beat / style.step_beats
    at = np.arange(int(position.max()) + 2) * style.step_beats
    vigour = np.ones(len(beat))
    if groove is not None:
        beat_s, own = 60 / song.tempo_bpm, np.random.default_rng((*dancer.seed, 1))
        at = arrivals(song, variation, groove)
        position = _danced_at(time, at * beat_s, _lateness(own, len(at), groove.jitter_s))
        grid = np.arange(0, SONG_BEATS + 2 * BAR_BEATS, style.step_beats) * beat_s
        pulse = _danced_at(time, grid, _lateness(own, len(grid), groove.jitter_s))
        bars = own.random(SONG_BEATS // BAR_BEATS + 2) >= groove.still
        vigour = np.interp(beat / BAR_BEATS - 0.5, np.arange(len(bars)), bars)
    hands_at, feet_at, shift_at, drop_at = _steps(song, variation, at, 0.0 if groove is None else groove.size)
    step = np.minimum(position.astype(int), len(at) - 2)
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
    lift = 0.5 + 0.5 * np.cos(2 * np.pi * pulse)  # 1 on the beat
    bounce = np.abs(style.bounce) * (lift if style.bounce > 0 else 1 - lift) * (0.6 + 0.4 * energy) * vigour
    swing = vigour * np.cos(np.pi * pulse)  # at rest on every step, to and fro over two
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
