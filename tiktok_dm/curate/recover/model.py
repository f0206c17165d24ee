"""What an alignment is told and what it answers: the terms of `tiktok_dm.curate.recover.alignment`.

Plain data in seconds and chances, one array entry a candidate, a proposed clip or a clip of the list. Not for the
alignment itself (`align`), and not for where the data come from (`recover_evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE_S = 0.5  # a clip is found when both ends are this near
GRID, EDGE, TOLD = -1, -2, -3
"""What is at a position where no candidate is: only the grid, the video's first or last instant, a person's word."""


@dataclass(frozen=True)
class VideoEvidence:
    """What a program saw in one video.

    Args:
        duration_s: length of the video.
        candidate_s: (C,) instants that may be boundaries, ascending.
        candidate_confidence: (C,) how sure the program is of each, 0..1.
        stretch_s: (P, 2) start and end of the proposed clips, ascending.
        stretch_song: (P,) proposed song of each, -1 where none.
        stretch_song_confidence: (P,) of the song, 0..1.
        stretch_dancers: (P,) number of dancers, 0 where not counted.
        rejected_s: (R, 2) stretches that were taken for no clip.
        rejected_confidence: (R,) how sure of that, 0..1.
        same_song: (M, 3) rows `(a, b, confidence)`: stretches `a` and `b` may have the same song.
    """

    duration_s: float
    candidate_s: Floats
    candidate_confidence: Floats
    stretch_s: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    stretch_song: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    stretch_song_confidence: Floats = field(default_factory=lambda: np.zeros(0))
    stretch_dancers: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    rejected_s: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    rejected_confidence: Floats = field(default_factory=lambda: np.zeros(0))
    same_song: Floats = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass(frozen=True)
class ClipFact:
    """What is known of one clip.

    Args:
        song: any integer; equal for clips with the same song.
        segments: whole 2-s segments in it, None where unknown.
        n_dancers: 0 where unknown.
        start_s, end_s: where a person has said so; they are kept and hold their neighbours in place.
    """

    song: int
    segments: int | None = None
    n_dancers: int = 0
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class AlignmentModel:
    """Chances and widths of the model; the defaults suit proposals of middling quality.

    Args:
        missed: chance that a boundary has no candidate.
        gap: chance of a gap between two clips.
        edge_gap: chance that something stands before the first clip, or after the last.
        gap_mean_s: mean length of a gap.
        gap_boundaries: chance that a candidate inside a gap is a real boundary (of a card, of another clip).
        skipped: chance that a clip is not in the video at all.
        segment_edge_s: softness of the limits of a clip's length: boundaries jitter by a frame or two.
        off_length: chance that a clip was cut so freely that its segments do not tell the length of the shot.
        off_length_s: how far outside the limits its length then is, on the average.
        no_segments_s: range of length of a clip without known segments.
        grid_s: distance of the instants at which a missed boundary may lie.
        least_confidence, most_confidence: candidates' confidences are taken to lie between these.
        song_prior, column_prior: clips' worth of doubt in the map of songs, seen from either side.
        rounds: of estimating songs, misses and trust; 1 estimates nothing.
        songs, dancers, calibrate: whether to use songs, dancers, and to estimate misses and trust.
    """

    missed: float = 0.05
    gap: float = 0.04
    edge_gap: float = 0.5
    gap_mean_s: float = 8.0
    gap_boundaries: float = 0.3
    skipped: float = 0.005
    segment_edge_s: float = 0.04
    off_length: float = 0.02
    off_length_s: float = 0.4
    no_segments_s: tuple[float, float] = (2.0, 60.0)
    grid_s: float = 0.2
    least_confidence: float = 0.003
    most_confidence: float = 0.997
    song_prior: float = 0.4
    column_prior: float = 0.4
    rounds: int = 6
    songs: bool = True
    dancers: bool = True
    calibrate: bool = True


@dataclass(frozen=True)
class Alignment:
    """Where the clips are; all arrays have one entry a clip unless said otherwise.

    Args:
        start_s, end_s: (clips,) NaN for a clip that is more likely not in the video.
        confidence: probability that both ends are within `TOLERANCE_S`.
        start_confidence, end_confidence: the same for each end alone.
        present: probability that the clip is in the video at all.
        start_candidate, end_candidate: index of the candidate at that end; `GRID` where no candidate is there (a missed
            cut, placed by the lengths), `EDGE` at the video's first or last instant, `TOLD` where a person said so.
        song_share: share of the clip's time that lies in proposed clips with the song it is matched to.
        grid_s, covered: instants, and probability that any clip covers the stretch from each to the next.
        candidate_used: (C,) probability that each candidate is a boundary of a clip.
        song_map: known song -> proposed song and share of its clips' time, for songs with any evidence.
        log_evidence: log-probability of the video under the clips, up to a constant of the video: clip lists can be
            compared by it for one video.
        missed: estimated chance that a boundary has no candidate.
        rounds: that it took.
    """

    start_s: Floats
    end_s: Floats
    confidence: Floats
    start_confidence: Floats
    end_confidence: Floats
    present: Floats
    start_candidate: Ints
    end_candidate: Ints
    song_share: Floats
    grid_s: Floats
    covered: Floats
    candidate_used: Floats
    song_map: dict[int, tuple[int, float]]
    log_evidence: float
    missed: float
    rounds: int
