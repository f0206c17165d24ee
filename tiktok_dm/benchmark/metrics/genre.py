"""Does the generated music have the genre of the music that it stands in for? A classifier contract, and agreement.

No genre classifier is shipped. Whoever has labelled music fits centroids of embeddings to it (`fit_centroids`); that
is crude and honest, and enough for the embedded demo's styles, which are styles of this project's synthesiser and no
genres of real music. Any other classifier fits the contract. Not for multi-label tagging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tiktok_dm.benchmark.embedders.base import Embedder, clip_point
from tiktok_dm.errors import UserError


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a clip: its best label, and a probability for each label, which sum to 1."""

    label: str
    probabilities: Mapping[str, float]


@runtime_checkable
class GenreClassifier(Protocol):
    """Tells genres apart; `name` and `version` stand beside every number that it makes."""

    name: str
    version: str
    labels: tuple[str, ...]

    def predict(self, audio: np.ndarray, sample_rate: int) -> Prediction:
        """The genre of mono audio float32 (samples,)."""


@dataclass(frozen=True)
class Centroids:
    """Nearest centroid in a standardised embedding.

    Args:
        labels: (labels,), sorted.
        centres: (labels, d), means of each label's points, standardised.
        mean, std: (d,) over all points; a dimension that doesn't vary has std 1.
        spread: mean squared distance of the points to their own centre, which is the probabilities' temperature.
    """

    labels: tuple[str, ...]
    centres: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    spread: float

    def classify(self, points: np.ndarray) -> list[Prediction]:
        """Predictions for points (n, d): softmax of -squared distance / (2 * spread / d), best label by distance.

        That is Bayes' rule with equal priors and one round Gaussian a label.
        """
        z = (np.asarray(points, np.float64) - self.mean) / self.std
        squared = ((z[:, None] - self.centres) ** 2).sum(axis=2)
        scores = -squared / (2 * max(self.spread / z.shape[1], 1e-12))
        scores -= scores.max(axis=1, keepdims=True)
        likelihood = np.exp(scores)
        likelihood /= likelihood.sum(axis=1, keepdims=True)
        return [
            Prediction(self.labels[int(row.argmax())], dict(zip(self.labels, map(float, p), strict=True)))
            for row, p in zip(scores, likelihood, strict=True)
        ]


def fit_centroids(points: np.ndarray, labels: Sequence[str]) -> Centroids:
    """Centroids of labelled embeddings, one point a clip.

    Args:
        points: (n, d), of training clips only.
        labels: (n,).

    Raises:
        UserError: lengths differ, fewer than two labels, or values that are not finite.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) != len(labels):
        raise UserError(
            f"{len(labels)} labels do not fit embeddings of the shape {points.shape}: give one point a label"
        )
    if not np.isfinite(points).all():
        raise UserError("an embedding is not finite: find the clip and leave it out")
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise UserError("a genre classifier needs music of two genres at least")
    mean, std = points.mean(axis=0), points.std(axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    z = (points - mean) / std
    own = np.asarray(labels, dtype=object)
    centres = np.stack([z[own == name].mean(axis=0) for name in names])
    place = np.array([names.index(label) for label in labels])
    spread = float(((z - centres[place]) ** 2).sum(axis=1).mean())
    return Centroids(names, centres, mean, std, spread)


class CentroidClassifier:
    """A `GenreClassifier` of centroids and the embedder that made their points (clip means of its rows)."""

    name = "nearest-centroid"

    def __init__(self, embedder: Embedder, centroids: Centroids) -> None:
        self.embedder = embedder
        self.centroids = centroids
        self.labels = centroids.labels
        self.version = f"1 on {embedder.name} {embedder.version}"

    def predict(self, audio: np.ndarray, sample_rate: int) -> Prediction:
        """See `GenreClassifier.predict`."""
        return self.centroids.classify(clip_point(self.embedder.embed(audio, sample_rate))[None])[0]


@dataclass(frozen=True)
class Agreement:
    """How often two lists of labels agree.

    Args:
        share: of the pairs, 0..1.
        chance: the share that pairing them at random gives on average: sum over labels of the product of the two
            lists' shares of it.
        kappa: (share - chance) / (1 - chance) (Cohen 1960): 0 at chance, 1 when all agree; nan where chance is 1.
        n: pairs.
    """

    share: float
    chance: float
    kappa: float
    n: int

    def __str__(self) -> str:
        return f"{self.share:.3f} (chance {self.chance:.3f}, kappa {self.kappa:.3f}, n = {self.n})"


def agreement(reference_labels: Sequence[str], generated_labels: Sequence[str]) -> Agreement:
    """Agreement of the reference's labels with the generated music's, pair by pair.

    Label both with one classifier, so that its mistakes meet on both sides, or take annotated genres as the reference.

    Raises:
        UserError: the lists differ in length, or are empty.
    """
    if len(reference_labels) != len(generated_labels) or not len(reference_labels):
        raise UserError(
            f"genre agreement goes pair by pair, and there are {len(reference_labels)} reference and "
            f"{len(generated_labels)} generated labels"
        )
    a, b = np.asarray(reference_labels, dtype=object), np.asarray(generated_labels, dtype=object)
    share = float((a == b).mean())
    chance = float(sum((a == name).mean() * (b == name).mean() for name in sorted(set(a))))
    kappa = (share - chance) / (1 - chance) if chance < 1 else float("nan")
    return Agreement(share, chance, kappa, len(a))
