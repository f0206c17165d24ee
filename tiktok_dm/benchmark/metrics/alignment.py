"""Does the dance move to the music? Beat alignment of motion beats and music beats, beside its level by chance.

A motion beat is a local minimum of a dancer's mean joint speed: dancers hit a pose on the beat. Two scores carry the
name "beat alignment score" in the literature and are kept apart here:

- `beat_align_motion_aistpp` (AIST++: Li et al., ICCV 2021), the mean over *motion* beats of exp(-d^2 / (2 sigma^2)), d
  the time to the nearest music beat: it asks that movement is musical, and a music with many beats gains. Its motion
  beats are `motion_beats_aistpp`; with Bailando's, `motion_beats`, it is `beat_align_motion_smoothed` here.
- `beat_align_music_bailando` (Bailando: Siyao et al., CVPR 2022), the same mean over *music* beats, d to the nearest
  motion beat: it asks that the music is danced, and a music with few beats gains.

sigma = 3 frames at 60 frames a second = 0.05 s. Both are 0..1, and neither is anywhere near 0 by chance: beats are
dense, so that any music gets a good part of the score with any dance. So each is printed beside its level with the
pairing shuffled (`shuffled_level`), and with the probability that chance does as well (`p_value`).

Conventions: a dance without a motion beat is nan and leaves the mean; music without a beat scores 0.

Not for finding music beats (`clip_features`) nor for poses (`tiktok_dm.pose`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from tiktok_dm.schema import POSE_FPS

SIGMA_S = 3 / 60
SMOOTHING_S = 5 / 60
"""Standard deviation of the Gaussian that smooths the speed: Bailando's 5 frames at 60 a second."""
_FEWEST_JOINTS = 5


# ------------------------------------------------------------------------------------------- motion beats


def joint_speed(pose: np.ndarray, fps: float = POSE_FPS) -> np.ndarray:
    """Mean speed of one dancer's joints from frame to frame, px/s, (frames - 1,); value k lies at (k + 1/2) / fps s.

    Joints count that are present in both frames; nan where fewer than five are.

    Args:
        pose: (frames, joints, 3): x px, y px, confidence; a missing joint has confidence 0.
    """
    pose = np.asarray(pose, dtype=np.float64)
    if pose.ndim != 3 or pose.shape[-1] != 3:
        raise ValueError(f"a dancer's pose must be (frames, joints, 3), not {pose.shape}")
    seen = (pose[1:, :, 2] > 0) & (pose[:-1, :, 2] > 0)
    step = np.linalg.norm(np.diff(pose[..., :2], axis=0), axis=-1)
    count = seen.sum(axis=1)
    speed = np.full(len(count), np.nan)
    enough = count >= min(_FEWEST_JOINTS, pose.shape[1])
    speed[enough] = (step * seen).sum(axis=1)[enough] / count[enough] * fps
    return speed


def motion_beats(pose: np.ndarray, fps: float = POSE_FPS) -> np.ndarray:
    """Motion beats of one dancer, s from the first frame, ascending: local minima of the smoothed mean joint speed.

    The speed is smoothed by a Gaussian of 83 ms (Bailando's five frames at 60 a second) within each stretch in which
    the dancer is seen; a minimum is lower than both its neighbours, so that a stretch's ends are none. A dancer who
    does not move has none.

    Args:
        pose: (frames, joints, 3), see `joint_speed`.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    speed = joint_speed(pose, fps)
    known = ~np.isnan(speed)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    found: list[np.ndarray] = []
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        if end - first < 3:
            continue
        smooth = gaussian_filter1d(speed[first:end], SMOOTHING_S * fps, mode="nearest")
        # Two equal values are one minimum between them. Rounding alone makes minima where nothing changes.
        _, found_at = find_peaks(-smooth, plateau_size=1, prominence=1e-9 * max(float(smooth.max()), 1e-12))
        minima = (found_at["left_edges"] + found_at["right_edges"]) / 2
        found.append((first + minima + 0.5) / fps)
    return np.concatenate(found) if found else np.zeros(0)


AISTPP_REACH_S = 10 / 60
"""AIST++ takes a speed for a beat that is below those of ten frames before and after, at 60 a second."""


def motion_beats_aistpp(pose: np.ndarray, fps: float = POSE_FPS) -> np.ndarray:
    """Motion beats of one dancer as AIST++ finds them, s from the first frame, ascending.

    Frames whose joints' mean speed from the frame before is strictly the least of all within 1/6 s, unsmoothed. The
    first frame has speed 0, so that none follows within 1/6 s of it, and an end of the dance is no beat. A stretch in
    which the dancer is not seen divides the dance; AIST++'s own poses have none.

    Args:
        pose: (frames, joints, 3), see `joint_speed`.
    """
    from scipy.signal import argrelextrema

    speed = np.concatenate([[0.0], joint_speed(pose, fps)]) if len(pose) > 1 else np.zeros(len(pose))
    known = ~np.isnan(speed)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int)))
    reach = max(1, round(AISTPP_REACH_S * fps))
    found = [
        first + argrelextrema(speed[first:end], np.less, order=reach)[0]
        for first, end in zip(edges[::2], edges[1::2], strict=True)
    ]
    return np.concatenate(found) / fps if found else np.zeros(0)


# ------------------------------------------------------------------------------------------- one pair


def validate(motion_s: np.ndarray, music_s: np.ndarray) -> None:
    """Check two rows of beats.

    Raises:
        ValueError: not one-dimensional, not finite, or not ascending.
    """
    for name, beats in (("motion", motion_s), ("music", music_s)):
        if beats.ndim != 1 or not np.isfinite(beats).all() or (np.diff(beats) < 0).any():
            raise ValueError(f"{name} beats must be finite, ascending seconds (n,)")


def closeness(beats_s: np.ndarray, others_s: np.ndarray) -> np.ndarray:
    """exp(-d^2 / (2 sigma^2)) of each beat, d its time to the nearest of the others; 0 where there are none."""
    if not len(others_s):
        return np.zeros(len(beats_s))
    place = np.searchsorted(others_s, beats_s)
    after = np.abs(others_s[np.minimum(place, len(others_s) - 1)] - beats_s)
    before = np.abs(others_s[np.maximum(place - 1, 0)] - beats_s)
    return np.exp(-(np.minimum(before, after) ** 2) / (2 * SIGMA_S**2))


def beat_align_motion_aistpp(motion_s: np.ndarray, music_s: np.ndarray) -> float:
    """Mean over motion beats of exp(-d^2 / (2 sigma^2)) to the nearest music beat, 0..1 (AIST++).

    nan without motion beats; 0 without music beats.

    Args:
        motion_s, music_s: s, ascending.

    Raises:
        ValueError: see `validate`.
    """
    validate(motion_s, music_s)
    return float(closeness(motion_s, music_s).mean()) if len(motion_s) else math.nan


def beat_align_music_bailando(motion_s: np.ndarray, music_s: np.ndarray) -> float:
    """Mean over music beats of exp(-d^2 / (2 sigma^2)) to the nearest motion beat, 0..1 (Bailando).

    nan without motion beats; 0 without music beats.

    Raises:
        ValueError: see `validate`.
    """
    validate(motion_s, music_s)
    if not len(motion_s):
        return math.nan
    return float(closeness(music_s, motion_s).mean()) if len(music_s) else 0.0


# ------------------------------------------------------------------------------------------- all pairs


def score_matrix(
    motions: Sequence[np.ndarray], musics: Sequence[np.ndarray], seconds: Sequence[float], *, over: str
) -> np.ndarray:
    """Scores of every dance with every music, (clips, clips); the diagonal holds the true pairs.

    Where a dance and a music of another clip differ in length, the beats of their common time are averaged over. nan
    where no motion beat is left; 0 where no music beat is.

    Args:
        motions, musics: beats in s, ascending, one row a clip.
        seconds: length of each clip.
        over: `motion` (AIST++) or `music` (Bailando).
    """
    if over not in ("motion", "music"):
        raise ValueError(f"alignment is averaged over motion or music beats, not {over!r}")
    rows, columns = (motions, musics) if over == "motion" else (musics, motions)
    joined = np.concatenate(rows) if rows else np.zeros(0)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(int)
    scores = np.zeros((len(rows), len(columns)))

    def by_row(values: np.ndarray) -> np.ndarray:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        return sums[starts[1:]] - sums[starts[:-1]]

    for j, others in enumerate(columns):
        common = joined < seconds[j]
        counts = by_row(common)
        with np.errstate(invalid="ignore"):
            scores[:, j] = by_row(closeness(joined, others) * common) / counts
    if over == "music":
        scores = np.nan_to_num(scores.T, nan=0.0)
        scores[[not len(motion) for motion in motions]] = np.nan
    return scores


def shuffled_level(scores: np.ndarray, songs: Sequence[Hashable]) -> np.ndarray:
    """Each dance's mean score with the musics of all other songs' clips, (clips,); nan where there is no other song.

    Args:
        scores: see `score_matrix`.
        songs: of each clip; clips of unknown song should each have their own.
    """
    number = _numbered(songs)
    usable = (number[:, None] != number[None, :]) & ~np.isnan(scores)
    count = usable.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (np.nan_to_num(scores, nan=0.0) * usable).sum(axis=1) / count


def p_value(scores: np.ndarray, songs: Sequence[Hashable], *, permutations: int = 999, seed: int = 0) -> float:
    """How probably chance pairs dances and musics as well as they are, one-sided; nan with fewer than two songs.

    Each draw gives all dances to a song the music of clips of one other song, since clips of one song stand or fall
    together: (1 + draws whose mean reaches the true pairs') / (1 + draws).

    Args:
        scores: see `score_matrix`; clips whose true pair is nan are left out.
        songs: see `shuffled_level`.
    """
    known = np.flatnonzero(~np.isnan(np.diagonal(scores)))
    scores = scores[np.ix_(known, known)]
    song = _numbered([songs[int(k)] for k in known])
    count = int(song.max(initial=-1)) + 1
    if count < 2:
        return math.nan
    true = float(np.diagonal(scores).mean())
    order = np.argsort(song, kind="stable")
    sizes = np.bincount(song)
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rng = np.random.default_rng(seed)
    reached = 0
    for _ in range(permutations):
        partner = rng.integers(count - 1, size=count)
        partner += partner >= np.arange(count)
        other = partner[song]
        columns = order[firsts[other] + (rng.random(len(song)) * sizes[other]).astype(int)]
        reached += float(np.nanmean(scores[np.arange(len(song)), columns])) >= true - 1e-12
    return (1 + reached) / (1 + permutations)


def _numbered(songs: Sequence[Hashable]) -> np.ndarray:
    numbers = {song: k for k, song in enumerate(dict.fromkeys(songs))}
    return np.array([numbers[song] for song in songs], dtype=int)
