"""Scores that papers report for dance-to-music systems, second-hand, each with where it was read.

They stand beside the leaderboard in a section of their own and are not comparable with it: other data, other code, no
intervals, and one name for two metrics. What was looked for and not found has no row: D2M-GAN's own scores on the
TikTok Dance-Music dataset, its genre accuracy, and its mean opinion scores.
"""

from __future__ import annotations

from dataclasses import dataclass

WARNING = "not comparable"


@dataclass(frozen=True)
class PublishedScore:
    """One system's scores in one table.

    Args:
        system: its name.
        scores: by column of its table, per cent.
        source: where the numbers were read.
        remark: what to bear in mind; `` for nothing.
    """

    system: str
    scores: tuple[float, ...]
    source: str
    remark: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """Scores on one benchmark by one definition.

    Args:
        title: the benchmark.
        columns: name here of each metric.
        meaning: what was measured, on what.
        rows: in the order of their source.
    """

    title: str
    columns: tuple[str, ...]
    meaning: str
    rows: tuple[PublishedScore, ...]


_UNIMUMO = "UniMuMo's Table 2, as transcribed in a public results file"

PUBLISHED = (
    PublishedTable(
        "AIST++",
        ("beat_coverage_d2m", "beat_hit_d2m"),
        "86 test segments of 2 s; coverage is a count ratio; per cent",
        (
            PublishedScore("Ground truth", (100.0, 100.0), _UNIMUMO),
            PublishedScore("Dance2Music", (83.5, 82.4), _UNIMUMO),
            PublishedScore("Foley Music", (74.1, 69.4), _UNIMUMO),
            PublishedScore("CMT", (85.5, 83.5), _UNIMUMO),
            PublishedScore("D2M-GAN", (88.2, 84.7), _UNIMUMO),
            PublishedScore("CDCD", (93.9, 90.7), _UNIMUMO),
            PublishedScore("UniMuMo", (93.0, 88.4), _UNIMUMO),
            PublishedScore(
                "UniMuMo, run again",
                (84.3, 80.8),
                "the same public results file",
                "an independent re-run of its released weights",
            ),
        ),
    ),
    PublishedTable(
        "TikTok Dance-Music",
        ("beat_precision_loris", "beat_recall_loris", "f1_loris"),
        "the precision and recall that LORIS prints under the names of coverage and hit; per cent",
        (
            PublishedScore("LORIS", (88.83, 82.66, 85.71), "a second-hand note"),
            PublishedScore("PN-Diffusion", (92.68, 88.56, 90.56), "a note on PN-Diffusion"),
            PublishedScore(
                "GACA-DiT",
                (91.55, 91.73, 91.21),
                "a note on GACA-DiT",
                "its F1 does not follow from its own precision and recall",
            ),
        ),
    ),
)
