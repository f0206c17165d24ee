"""The training split beside the generated music: copies and near neighbours, and a classifier of its songs' genres.

Puts `memorisation` and `genre` into the columns that `evaluate` prints. Not for how either is measured.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.audio.landmark_fingerprint import FOUND
from tiktok_dm.benchmark.embedders.base import Embedder, clip_point
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.benchmark.metrics.genre import CentroidClassifier, GenreClassifier, agreement, fit_centroids
from tiktok_dm.benchmark.metrics.memorisation import Sound, TrainingMusic
from tiktok_dm.benchmark.pairs import read_reference
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.errors import UserError
from tiktok_dm.schema import SAMPLE_RATE

NEAR = 0.05
"""Share of the reference music that counts as near to training music: the yardstick of `training_closer`."""


@dataclass(frozen=True)
class Both:
    """The scored clips' sounds, in one order.

    Args:
        reference, generated: the same ids.
    """

    reference: Sequence[Sound]
    generated: Sequence[Sound]


class Training:
    """The training split, listened to once.

    Args:
        items: its clips or segments.
        embedder: for nearness and for genres.
        name: what it is, in words.
    """

    def __init__(self, items: Sequence[Item], embedder: Embedder, name: str) -> None:
        self.items, self.embedder, self.name = items, embedder, name
        self.sounds = [Sound(item.id, item.sound(), SAMPLE_RATE) for item in items]

    def describe(self) -> dict[str, Any]:
        """What stands beside the numbers."""
        return {
            "training_set": self.name,
            "embedder": self.embedder.name,
            "embedder_version": self.embedder.version,
            "copied_from_fingerprint": FOUND,
        }

    def memorisation(self, both: Both) -> dict[str, list[Any]]:
        """Columns by name, one value a clip: nearest training clip, fingerprint and distance, also of the reference."""
        music = TrainingMusic(self.sounds, self.embedder)
        ours, theirs = music.nearest(both.reference), music.nearest(both.generated)
        near = float(np.quantile(ours["embedding_distance"], NEAR))
        columns: dict[str, list[Any]] = {
            "training_nearest": theirs["nearest_embedding_id"].tolist(),
            "training_nearest_by_fingerprint": theirs["nearest_fingerprint_id"].tolist(),
            "training_closer": (theirs["embedding_distance"] < near).astype(float).tolist(),
        }
        for suffix, table in (("", theirs), ("_reference", ours)):
            columns[f"training_copied{suffix}"] = (table["fingerprint_score"] >= FOUND).astype(float).tolist()
            columns[f"training_fingerprint{suffix}"] = table["fingerprint_score"].tolist()
            columns[f"training_distance{suffix}"] = table["embedding_distance"].tolist()
        return columns

    def classifier(self, genres: Path) -> CentroidClassifier:
        """A classifier of the genres in a csv file with `song_id` and `genre`, fitted to the training songs among them.

        Raises:
            UserError: the file lacks a column, or labels no two genres of training songs.
        """
        labels = read_genres(genres)
        known = [(item, sound) for item, sound in zip(self.items, self.sounds, strict=True) if item.song_id in labels]
        names = [labels[item.song_id] for item, _ in known if item.song_id is not None]
        if len(set(names)) < 2:
            raise UserError(
                f"{genres} gives {len(set(names))} genres to songs of the train split: a classifier needs two at least"
            )
        points = np.stack([clip_point(self.embedder.embed(sound.audio, sound.sample_rate)) for _, sound in known])
        return CentroidClassifier(self.embedder, fit_centroids(points, names))


def read_training(dataset: Path, config: str, embedder: str | None, weights: Path | None) -> Training:
    """The train split of a dataset.

    Args:
        config: `clips` or `segments`.
        embedder, weights: see `embedders.get_embedder`; None: log-mel.

    Raises:
        UserError: no dataset, or no train split in it.
    """
    if not (dataset / "data" / config).is_dir():
        config = "segments" if config == "clips" else "clips"
    reference = read_reference(dataset, split="train", config=config)
    if not reference.has_songs:
        raise UserError(f"{dataset} is no dataset: memorisation is looked for in the train split of a built dataset")
    return Training(list(reference.items.values()), get_embedder(embedder or "log-mel", weights), reference.name)


def read_genres(path: Path) -> dict[int, str]:
    """Genre by song id of a csv file with the columns `song_id` and `genre`; songs without one are left out.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return {int(row["song_id"]): row["genre"].strip() for row in rows if (row["genre"] or "").strip()}
    except (OSError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a table of genres ({error}): it needs the columns song_id and genre"
        ) from error


def genre_agreement(both: Both, classifier: GenreClassifier) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Columns by name (labels of both, whether they agree, how often they would by chance), and what stands beside."""
    labels = [
        [classifier.predict(sound.audio, sound.sample_rate).label for sound in sounds]
        for sounds in (both.reference, both.generated)
    ]
    found = agreement(*labels)
    columns: dict[str, list[Any]] = {
        "genre_reference": labels[0],
        "genre_generated": labels[1],
        "genre_agreement": [float(a == b) for a, b in zip(*labels, strict=True)],
        # Of each clip: how often the other clips' music has its reference's genre.
        "genre_agreement_shuffled": [labels[1].count(name) / len(labels[1]) for name in labels[0]],
    }
    return columns, {
        "classifier": classifier.name,
        "version": classifier.version,
        "genres": list(classifier.labels),
        "chance": found.chance,
        "kappa": None if np.isnan(found.kappa) else found.kappa,
    }
