"""The beat scores that the dance-to-music literature publishes, exactly. For comparison, never alone.

"Beats" are onsets here, in bins of one second: librosa's detector on mono sound at 22,050 Hz, b[trunc(t)] = 1 over
n = ceil(samples / 22,050) bins. With g the reference's bins and s the generated music's,

| score | per clip | reported by |
|---|---|---|
| `beat_coverage_d2m` | sum(s) / sum(g), a count ratio that may pass 1 | D2M-GAN (Zhu et al. 2022), CDCD, UniMuMo |
| `beat_hit_d2m` | sum(g and s) / sum(g) | the same |
| `beat_precision_loris` | sum(g and s) / sum(s) | LORIS (Yu et al. 2023) and later |
| `beat_recall_loris` | sum(g and s) / sum(g) | the same |

each with its own detector (`D2M`, `LORIS`); a system's score is the mean over clips. `csd` and `hsd` are the sample
standard deviations over clips of the last two, and `f1_loris` is the harmonic mean of their means. All are fractions
of 1 (papers print per cent). "BCS" and "BHS" mean the first pair in one paper and the second in another: the short
names are not used here.

These scores saturate: in music nearly every second has an onset, so that a click track of 2 Hz scores 1.000 and the
wrong music as much as the right one. `tracked_beats` and `alignment` are to be read beside them.

Conventions, where the originals say nothing:

- 0 / 0. A reference without onsets leaves coverage, hit and recall undefined: nan, and the clip leaves the mean
  (callers say how many did). Generated music without onsets has claimed no beat: precision 0 where the reference has
  some, nan where it has none either. Precision is 0, as the formula says, where only the generated music has onsets.
  f1 is 0 where precision and recall both are.
- Lengths. The reference's bins are what is scored: bins that the generated music lacks are empty, those beyond are left
  out. (The originals take equal lengths for granted.)
- An onset at the very end of a whole number of seconds has no bin and is dropped.

Not for reading files (`clip_features` finds the onsets), and not for intervals (`intervals`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiktok_dm.schema import SAMPLE_RATE

HOP_LENGTH = 512
"""Samples from one value of the onset envelope to the next: librosa's own."""


@dataclass(frozen=True)
class Detector:
    """Parameters of `librosa.onset.onset_detect`; what is None keeps librosa's value.

    Args:
        pre_max, post_max: frames before and after a peak among which it is the greatest (`post_max` counts its own).
        pre_avg, post_avg: frames before and after of whose mean it stands out (likewise).
        delta: by how much, as a share of the envelope's range.
        wait: frames between onsets.
    """

    name: str
    pre_avg: int
    post_avg: int
    post_max: int
    pre_max: int | None = None
    delta: float = 0.2
    wait: int = 1

    def onsets(self, envelope: np.ndarray) -> np.ndarray:
        """Onset times in s, ascending, in librosa's onset strength (n,) of sound at 22,050 Hz, hop 512."""
        import librosa.onset

        given: dict[str, Any] = {"pre_max": self.pre_max} if self.pre_max is not None else {}
        return librosa.onset.onset_detect(
            onset_envelope=envelope,
            sr=SAMPLE_RATE,
            hop_length=HOP_LENGTH,
            wait=self.wait,
            delta=self.delta,
            pre_avg=self.pre_avg,
            post_avg=self.post_avg,
            post_max=self.post_max,
            units="time",
            **given,
        )


D2M = Detector("d2m", pre_avg=1, post_avg=1, post_max=1)
LORIS = Detector("loris", pre_avg=3, post_avg=3, post_max=3, pre_max=3)


def onset_bins(onsets_s: np.ndarray, samples: int, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Which seconds hold an onset: bool (ceil(samples / sample_rate),), bin k for onsets in [k, k + 1) s."""
    bins = np.zeros(math.ceil(samples / sample_rate), dtype=bool)
    places = np.trunc(np.asarray(onsets_s, dtype=np.float64)).astype(int)
    bins[places[places < len(bins)]] = True
    return bins


def validate(reference: np.ndarray, generated: np.ndarray) -> None:
    """Check two rows of bins.

    Raises:
        ValueError: not one-dimensional, not bool, or a reference without a single bin.
    """
    for name, bins in (("reference", reference), ("generated", generated)):
        if bins.ndim != 1 or bins.dtype != bool:
            raise ValueError(f"{name} bins must be bool (n,), not {bins.dtype} {bins.shape}")
    if not len(reference):
        raise ValueError("the reference has no bins: it is empty")


def fitted(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """The generated bins over the reference's seconds, (len(reference),): missing ones empty, further ones left out."""
    bins = np.zeros(len(reference), dtype=bool)
    common = min(len(reference), len(generated))
    bins[:common] = generated[:common]
    return bins


def beat_coverage_d2m(reference: np.ndarray, generated: np.ndarray) -> float:
    """sum(s) / sum(g) of one clip, 0 upwards (Zhu et al., ECCV 2022); nan where the reference has no onset.

    Args:
        reference, generated: bins of `D2M` onsets, see `onset_bins`.

    Raises:
        ValueError: see `validate`.
    """
    validate(reference, generated)
    return _ratio(fitted(reference, generated).sum(), reference.sum())


def beat_hit_d2m(reference: np.ndarray, generated: np.ndarray) -> float:
    """sum(g and s) / sum(g) of one clip, 0..1 (Zhu et al., ECCV 2022); nan where the reference has no onset.

    Args:
        reference, generated: bins of `D2M` onsets, see `onset_bins`.

    Raises:
        ValueError: see `validate`.
    """
    validate(reference, generated)
    return _ratio((reference & fitted(reference, generated)).sum(), reference.sum())


def _common(reference: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both cut to the seconds that both have, as LORIS' own code does: an end that is missed costs nothing."""
    validate(reference, generated)
    common = min(len(reference), len(generated))
    return reference[:common], generated[:common]


def beat_precision_loris(reference: np.ndarray, generated: np.ndarray) -> float:
    """sum(g and s) / sum(s) over the seconds that both have, 0..1 (Yu et al., ICML 2023); 0 for 0 / 0, as published.

    Args:
        reference, generated: bins of `LORIS` onsets, see `onset_bins`.

    Raises:
        ValueError: see `validate`.
    """
    reference, generated = _common(reference, generated)
    return float((reference & generated).sum() / max(1, generated.sum()))


def beat_recall_loris(reference: np.ndarray, generated: np.ndarray) -> float:
    """sum(g and s) / sum(g) over the seconds that both have, 0..1 (Yu et al., ICML 2023); 0 for 0 / 0, as published.

    Args:
        reference, generated: bins of `LORIS` onsets, see `onset_bins`.

    Raises:
        ValueError: see `validate`.
    """
    reference, generated = _common(reference, generated)
    return float((reference & generated).sum() / max(1, reference.sum()))


def onset_precision_1s(reference: np.ndarray, generated: np.ndarray) -> float:
    """`beat_precision_loris` over the whole reference, nan for 0 / 0.

    Where the generated music has no onset: 0 if the reference has one, else nan.

    Args:
        reference, generated: bins of `LORIS` onsets, see `onset_bins`.

    Raises:
        ValueError: see `validate`.
    """
    validate(reference, generated)
    generated = fitted(reference, generated)
    if not generated.any() and reference.any():
        return 0.0
    return _ratio((reference & generated).sum(), generated.sum())


def onset_recall_1s(reference: np.ndarray, generated: np.ndarray) -> float:
    """`beat_recall_loris` over the whole reference, a second without music being missed; nan without an onset there.

    Args:
        reference, generated: bins of `LORIS` onsets, see `onset_bins`.

    Raises:
        ValueError: see `validate`.
    """
    validate(reference, generated)
    return _ratio((reference & fitted(reference, generated)).sum(), reference.sum())


def csd(precisions: Sequence[float] | np.ndarray) -> float:
    """Sample standard deviation (ddof 1) over clips of `beat_precision_loris`; nan below two clips."""
    return _deviation(precisions)


def hsd(recalls: Sequence[float] | np.ndarray) -> float:
    """Sample standard deviation (ddof 1) over clips of `beat_recall_loris`; nan below two clips."""
    return _deviation(recalls)


def f1_loris(precisions: Sequence[float] | np.ndarray, recalls: Sequence[float] | np.ndarray) -> float:
    """2 P R / (P + R) of the means P and R over clips, 0..1; 0 where both are 0, nan where one has no clip."""
    means = []
    for values in (precisions, recalls):
        known = np.asarray(values, dtype=np.float64)
        known = known[~np.isnan(known)]
        means.append(float(known.mean()) if len(known) else math.nan)
    precision, recall = means
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def clip_scores(
    reference_d2m: np.ndarray, generated_d2m: np.ndarray, reference_loris: np.ndarray, generated_loris: np.ndarray
) -> dict[str, float]:
    """The six scores of one clip by name, from the bins (n,) of both detectors."""
    return {
        "beat_coverage_d2m": beat_coverage_d2m(reference_d2m, generated_d2m),
        "beat_hit_d2m": beat_hit_d2m(reference_d2m, generated_d2m),
        "beat_precision_loris": beat_precision_loris(reference_loris, generated_loris),
        "beat_recall_loris": beat_recall_loris(reference_loris, generated_loris),
        "onset_precision_1s": onset_precision_1s(reference_loris, generated_loris),
        "onset_recall_1s": onset_recall_1s(reference_loris, generated_loris),
    }


def _ratio(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else math.nan


def _deviation(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.std(ddof=1)) if len(known) > 1 else math.nan
