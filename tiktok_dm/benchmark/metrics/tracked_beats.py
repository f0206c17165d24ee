"""Do the generated beats fall where the reference's do? Tracked beats, compared as the beat-tracking field does.

A tracker finds the beats of both musics (or the dataset says the reference's); mir_eval compares them: F-measure
within 70 ms (Davies et al. 2009), CMLt and AMLt (Hainsworth 2004, Klapuri et al. 2006), tempo error. Unlike the
published onset scores these need the beats at the right instants: a metronome at another tempo gets what chance gives,
about 2 * 70 ms / the beat's period.

Two warnings. A tracker always finds beats where there is a pulse, and it finds a metronome's perfectly: a metronome at
the true tempo and phase scores high here, rightly, since nothing but its beats is looked at. And a tracker errs: the
score of the reference against itself is the ceiling only because the same tracker is used on both.

Nothing is trimmed: mir_eval's own `evaluate` drops the beats of the first five seconds, that is, all of a 2-s segment.

Conventions: a clip whose reference has no beat (fewer than two for CMLt and AMLt) is nan and leaves the mean; generated
music without a beat scores 0; generated music without a tempo has a tempo error of 100 %.

Not for finding beats (`clip_features`) and not for onsets (`published_beats`).
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np

WINDOW_S = 0.07
"""How far from a reference beat a generated one may lie."""
OCTAVES = (1 / 3, 1 / 2, 1, 2, 3)
"""Ratios of tempi that count as one, for the tolerant tempo error."""
_LONGEST_S = 30_000.0  # mir_eval's own bound


class Continuity(NamedTuple):
    """Shares of beats, 0..1, that are right in phase and period at the reference's level, or at any level."""

    cmlt: float
    amlt: float


def validate(reference_s: np.ndarray, generated_s: np.ndarray) -> None:
    """Check two rows of beat times.

    Raises:
        ValueError: not one-dimensional, not finite, negative, not ascending, or beyond mir_eval's 30,000 s.
    """
    for name, beats in (("reference", reference_s), ("generated", generated_s)):
        if beats.ndim != 1 or not np.isfinite(beats).all():
            raise ValueError(f"{name} beats must be finite seconds (n,)")
        if len(beats) and (beats[0] < 0 or beats[-1] > _LONGEST_S or (np.diff(beats) < 0).any()):
            raise ValueError(f"{name} beats must ascend from 0 s")


def beat_f_measure(reference_s: np.ndarray, generated_s: np.ndarray) -> float:
    """F-measure of two rows of beats within 70 ms, 0..1 (`mir_eval.beat.f_measure`); nan without a reference beat.

    Beats are matched one to one; with m matches, F = 2 m / (number of reference beats + number of generated beats).

    Args:
        reference_s, generated_s: s, ascending, (n,) and (m,).

    Raises:
        ValueError: see `validate`.
    """
    validate(reference_s, generated_s)
    if not len(reference_s):
        return math.nan
    if not len(generated_s):
        return 0.0
    import mir_eval.beat

    return float(mir_eval.beat.f_measure(reference_s, generated_s, f_measure_threshold=WINDOW_S))


def beat_continuity(reference_s: np.ndarray, generated_s: np.ndarray) -> Continuity:
    """CMLt and AMLt of two rows of beats (`mir_eval.beat.continuity`); nan below two reference beats.

    A generated beat is right when it lies within 17.5 % of the beat's period of a reference beat and its interval to
    the beat before differs by less than 17.5 %. CMLt is the share of right beats (of the longer row), AMLt the best
    such share over the reference, its off-beats, double and half tempo.

    Raises:
        ValueError: see `validate`.
    """
    validate(reference_s, generated_s)
    if len(reference_s) < 2:
        return Continuity(math.nan, math.nan)
    if len(generated_s) < 2:
        return Continuity(0.0, 0.0)
    import mir_eval.beat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variations with a single beat, which count as 0
        _, cmlt, _, amlt = mir_eval.beat.continuity(reference_s, generated_s)
    return Continuity(float(cmlt), float(amlt))


def tempo_error(reference_bpm: float | None, generated_bpm: float | None, *, octaves: bool = False) -> float:
    """|generated - reference| / reference in per cent, 0 upwards.

    nan without a reference tempo; 100 with one and without a generated tempo.

    Args:
        octaves: also compare a third, half, double and three times the generated tempo, and take the least error.

    Raises:
        ValueError: a tempo that is not above 0.
    """
    if reference_bpm is None or math.isnan(reference_bpm):
        return math.nan
    if generated_bpm is None or math.isnan(generated_bpm):
        return 100.0
    if reference_bpm <= 0 or generated_bpm <= 0:
        raise ValueError(f"tempi must be above 0, not {reference_bpm} and {generated_bpm}")
    ratios = OCTAVES if octaves else (1,)
    return min(100 * abs(ratio * generated_bpm - reference_bpm) / reference_bpm for ratio in ratios)


def clip_scores(
    reference_s: np.ndarray, generated_s: np.ndarray, reference_bpm: float | None, generated_bpm: float | None
) -> dict[str, float]:
    """All scores of one clip by name."""
    continuity = beat_continuity(reference_s, generated_s)
    return {
        "beat_f_70ms": beat_f_measure(reference_s, generated_s),
        "beat_cmlt": continuity.cmlt,
        "beat_amlt": continuity.amlt,
        "tempo_error": tempo_error(reference_bpm, generated_bpm),
        "tempo_error_octave": tempo_error(reference_bpm, generated_bpm, octaves=True),
    }
