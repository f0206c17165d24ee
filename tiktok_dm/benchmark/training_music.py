"""The training music of a benchmark: how near to it a system comes, and which genre each clip sounds like.

The fingerprint finds copies (the same recording, cropped, coded or louder); the embedding finds likeness. No number
means anything alone: real test music has near neighbours in the training set too, so the same distances for the
reference test music stand beside them as the yardstick (`memorisation_summary`).

Puts these and `genre` into the columns that `evaluate` prints.
"""

from __future__ import annotations

import contextlib
import csv
import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs

from tiktok_dm.audio.landmark_fingerprint import FOUND, Fingerprint, Index, fingerprint
from tiktok_dm.audio.landmark_fingerprint import VERSION as FINGERPRINT_VERSION
from tiktok_dm.benchmark.embedders.base import Embedder, clip_point
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.benchmark.metrics.genre import CentroidClassifier, GenreClassifier, agreement, fit_centroids
from tiktok_dm.benchmark.pairs import read_reference
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.errors import DiskFull, UserError
from tiktok_dm.files import sha256_file, write_atomic
from tiktok_dm.runtime.store import content_key
from tiktok_dm.schema import SAMPLE_RATE

COLUMNS = (
    "id",
    "nearest_fingerprint_id",
    "fingerprint_score",
    "offset_s",
    "nearest_embedding_id",
    "embedding_distance",
)


@dataclass(frozen=True)
class Sound:
    """One clip.

    Args:
        id: as in its file name.
        audio: mono, float32 (samples,).
        sample_rate: Hz.
    """

    id: str
    audio: np.ndarray
    sample_rate: int


@dataclass(frozen=True)
class Listened:
    """One clip, fingerprinted and embedded.

    Args:
        id: as in its file name.
        print: its fingerprint.
        rows: its embedding, (windows, dimensions).
    """

    id: str
    print: Fingerprint
    rows: np.ndarray


def listen(sounds: Iterable[Sound], embedder: Embedder) -> list[Listened]:
    """Fingerprints and embeddings of sounds, in their order."""
    return [
        Listened(
            sound.id,
            fingerprint(sound.audio, sound.sample_rate),
            np.asarray(embedder.embed(sound.audio, sound.sample_rate)),
        )
        for sound in sounds
    ]


class TrainingMusic:
    """The training clips, fingerprinted and embedded once, to look up any number of clips in.

    The embedding distance of two clips is the least cosine distance, 1 - cos in 0..2, of any window of the one to any
    window of the other, each dimension first standardised by mean and standard deviation over the training windows
    (dimensions that don't vary are left out): raw embeddings all point one way, and their cosines say nothing.

    Args:
        training: clips with unique ids.
        embedder: see `tiktok_dm.benchmark.embedders.base`.

    Raises:
        UserError: no clip, or an id twice.
    """

    def __init__(self, training: Iterable[Sound] | Sequence[Listened], embedder: Embedder) -> None:
        self.embedder = embedder
        known = [one if isinstance(one, Listened) else listen([one], embedder)[0] for one in training]
        self.ids = [one.id for one in known]
        if not known:
            raise UserError("there is no training music to compare with: give a dataset with a train split")
        twice = sorted({name for name in self.ids if self.ids.count(name) > 1})
        if twice:
            raise UserError(f"training clip {twice[0]} is given twice: each id may come once")
        self._index = Index([(one.id, one.print) for one in known])
        rows = [one.rows for one in known]
        self._starts = np.cumsum([0, *(len(part) for part in rows[:-1])])
        windows = np.concatenate(rows)
        self._mean, self._std = windows.mean(axis=0), windows.std(axis=0)
        self._varies = self._std > 1e-9
        self._directions = self._standardised(windows)

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        """Rows as unit vectors (windows, dimensions that vary); a row at the training mean stays 0."""
        centred = (rows - self._mean)[:, self._varies] / self._std[self._varies]
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return centred / np.maximum(length, 1e-12)

    def nearest(self, sounds: Iterable[Sound]) -> pd.DataFrame:
        """One row a clip, in their order, with the columns `COLUMNS`.

        `fingerprint_score` is 0..1 and `offset_s` the second of the training clip at which the clip starts (see
        `fingerprint.match`); without any agreement the id is None, the score 0 and the offset nan.
        """
        rows = []
        for sound in sounds:
            name, found = self._index.search(fingerprint(sound.audio, sound.sample_rate))
            directions = self._standardised(self.embedder.embed(sound.audio, sound.sample_rate))
            windows = (directions @ self._directions.T).max(axis=0)
            clips = np.maximum.reduceat(windows, self._starts)
            best = int(clips.argmax())
            distance = float(np.clip(1 - clips[best], 0, 2))
            rows.append((sound.id, name, found.score, found.offset_s, self.ids[best], distance))
        return pd.DataFrame(rows, columns=list(COLUMNS))


def nearest_training(generated: Iterable[Sound], training: Iterable[Sound], embedder: Embedder) -> pd.DataFrame:
    """The nearest training clip of each generated clip; see `TrainingMusic.nearest`."""
    return TrainingMusic(training, embedder).nearest(generated)


def memorisation_summary(generated: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """What a table prints of `nearest_training` of the generated and of the reference test clips, side by side.

    Returns:
        `copied_share` (clips whose fingerprint score reaches `fingerprint.FOUND`), `fingerprint_score` (the mean),
        `embedding_distance` (the median), each also with `_reference` for the real music; `closer_share`, the share of
        generated clips that lie nearer to training music than the nearest twentieth of the real test music does: 0.05
        is what chance gives.

    Raises:
        UserError: a table is empty.
    """
    if not len(generated) or not len(reference):
        raise UserError("memorisation needs a generated and a reference clip at least")
    out: dict[str, float] = {}
    for suffix, table in (("", generated), ("_reference", reference)):
        out[f"copied_share{suffix}"] = float((table["fingerprint_score"] >= FOUND).mean())
        out[f"fingerprint_score{suffix}"] = float(table["fingerprint_score"].mean())
        out[f"embedding_distance{suffix}"] = float(table["embedding_distance"].median())
    near = float(np.quantile(reference["embedding_distance"], 0.05))
    out["closer_share"] = float((generated["embedding_distance"] < near).mean())
    return out


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
        kept: file in which fingerprints and embeddings are kept from one run to the next; None keeps none.
    """

    def __init__(self, items: Sequence[Item], embedder: Embedder, name: str, kept: Path | None = None) -> None:
        self.items, self.embedder, self.name, self._kept = items, embedder, name, kept

    @cached_property
    def listened(self) -> list[Listened]:
        """Fingerprint and embedding of each item."""
        ids = [item.id for item in self.items]
        known = _read_listened(self._kept, ids) if self._kept is not None else None
        if known is None:
            known = listen((Sound(item.id, item.sound(), SAMPLE_RATE) for item in self.items), self.embedder)
            if self._kept is not None:
                _keep_listened(self._kept, known)
        return known

    @cached_property
    def music(self) -> TrainingMusic:
        """All of it, to look clips up in."""
        return TrainingMusic(self.listened, self.embedder)

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
        ours, theirs = self.music.nearest(both.reference), self.music.nearest(both.generated)
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
        known = [(item, one) for item, one in zip(self.items, self.listened, strict=True) if item.song_id in labels]
        names = [labels[item.song_id] for item, _ in known if item.song_id is not None]
        if len(set(names)) < 2:
            raise UserError(
                f"{genres} gives {len(set(names))} genres to songs of the train split: a classifier needs two at least"
            )
        points = np.stack([clip_point(one.rows) for _, one in known])
        return CentroidClassifier(self.embedder, fit_centroids(points, names))


def read_training(dataset: Path, config: str, embedder: str | None, weights: Path | None) -> Training:
    """The train split of a dataset, listened to once for each build of it, also by later processes.

    Args:
        config: `clips` or `segments`.
        embedder, weights: see `embedders.get_embedder`; None: log-mel.

    Raises:
        UserError: no dataset, or no train split in it.
    """
    if not (dataset / "data" / config).is_dir():
        config = "segments" if config == "clips" else "clips"
    made = get_embedder(embedder or "log-mel", weights)
    manifest = dataset / "manifest.json"
    kept = None
    if manifest.is_file():
        parameters = {"config": config, "embedder": [made.name, made.version], "fingerprint": FINGERPRINT_VERSION}
        if weights is not None:
            parameters["weights"] = sha256_file(weights)
        key = content_key("training", VERSION, parameters, {"manifest": sha256_file(manifest)})
        kept = platformdirs.user_cache_path("tiktok-dm") / "training" / f"{key}.npz"
    return _training(dataset, config, made, kept)


def _training(dataset: Path, config: str, embedder: Embedder, kept: Path | None) -> Training:
    """The one that was read last, where it is the same."""
    if kept is not None and kept in _LAST:
        return _LAST[kept]
    reference = read_reference(dataset, split="train", config=config)
    if not reference.has_songs:
        raise UserError(f"{dataset} is no dataset: memorisation is looked for in the train split of a built dataset")
    training = Training(list(reference.items.values()), embedder, reference.name, kept)
    if kept is not None:
        _LAST.clear()
        _LAST[kept] = training
    return training


VERSION = 1
"""Of what is kept."""
_LAST: dict[Path, Training] = {}


def _read_listened(path: Path, ids: Sequence[str]) -> list[Listened] | None:
    """What was kept; None where it is not there, not whole, or of other clips."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["ids"].tolist() != list(ids):
                return None
            parts = [
                np.split(file[name], np.cumsum(file[lengths])[:-1])
                for name, lengths in (("hashes", "prints"), ("frames", "prints"), ("rows", "windows"))
            ]
            seconds = file["seconds"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return [
        Listened(name, Fingerprint(hashes, frames, duration), rows)
        for name, hashes, frames, rows, duration in zip(ids, *parts, seconds, strict=True)
    ]


def _keep_listened(path: Path, known: Sequence[Listened]) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=np.array([one.id for one in known]),
        prints=np.array([len(one.print) for one in known]),
        windows=np.array([len(one.rows) for one in known]),
        seconds=np.array([one.print.duration_s for one in known]),
        hashes=np.concatenate([one.print.hashes for one in known]),
        frames=np.concatenate([one.print.frames for one in known]),
        rows=np.concatenate([one.rows for one in known]),
    )
    with contextlib.suppress(OSError, DiskFull):  # a home that cannot be written to costs time alone
        write_atomic(path, buffer.getvalue())


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
