"""Is the generated music the training music? The nearest training clip by fingerprint and by embedding.

The fingerprint finds copies (the same recording, cropped, coded or louder); the embedding finds likeness. No number
means anything alone: real test music has near neighbours in the training set too, so the same distances for the
reference test music stand beside them as the yardstick (`memorisation_summary`). Not for leaks between splits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tiktok_dm.audio.landmark_fingerprint import FOUND, Index, fingerprint
from tiktok_dm.benchmark.embedders.base import Embedder
from tiktok_dm.errors import UserError

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

    def __init__(self, training: Iterable[Sound], embedder: Embedder) -> None:
        self.embedder = embedder
        prints, rows, self.ids = [], [], []
        for sound in training:
            self.ids.append(sound.id)
            prints.append((sound.id, fingerprint(sound.audio, sound.sample_rate)))
            rows.append(embedder.embed(sound.audio, sound.sample_rate))
        if not prints:
            raise UserError("there is no training music to compare with: give a dataset with a train split")
        twice = sorted({name for name in self.ids if self.ids.count(name) > 1})
        if twice:
            raise UserError(f"training clip {twice[0]} is given twice: each id may come once")
        self._index = Index(prints)
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
