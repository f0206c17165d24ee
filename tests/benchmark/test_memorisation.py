"""Memorisation: copies of training music are named, other music is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tiktok_dm.audio.landmark_fingerprint import FOUND
from tiktok_dm.benchmark.codec_round_trip import AAC
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.benchmark.training_music import (
    COLUMNS,
    Sound,
    TrainingMusic,
    memorisation_summary,
    nearest_training,
)
from tiktok_dm.errors import UserError
from tiktok_dm.synthetic import DemoParams, clip_truth

RATE = 22_050
DEMO = DemoParams(clips=16, songs=12)


@pytest.fixture(scope="module")
def clips() -> dict[int, list[np.ndarray]]:
    """Sounds by song."""
    found: dict[int, list[np.ndarray]] = {}
    for number in range(12):
        _, audio, _, song = clip_truth(DEMO, number)
        found.setdefault(song, []).append(audio)
    return found


@pytest.fixture(scope="module")
def training(clips: dict[int, list[np.ndarray]]) -> list[Sound]:
    songs = sorted(clips)[:5]
    return [Sound(f"song{song}", clips[song][0], RATE) for song in songs]


def test_copies_are_named(training: list[Sound]) -> None:
    audio = training[2].audio
    noise = np.random.default_rng(0).standard_normal(len(audio)) * 10**-1.5 * np.sqrt(np.mean(audio**2))
    copies = [
        Sound("same", audio, RATE),
        Sound("quiet", 0.1 * audio, RATE),
        Sound("coded", AAC(64)(audio, RATE), RATE),
        Sound("shifted", np.concatenate([np.zeros(11_025, np.float32), audio])[: len(audio)], RATE),
        Sound("noisy", (audio + noise).astype(np.float32), RATE),
    ]
    table = nearest_training(copies, training, get_embedder())
    assert tuple(table.columns) == COLUMNS
    assert table["id"].tolist() == [copy.id for copy in copies]
    assert (table["nearest_fingerprint_id"] == training[2].id).all()
    assert (table["fingerprint_score"] > FOUND).all()
    assert table["offset_s"].tolist() == pytest.approx([0, 0, 0, -0.5, 0], abs=0.03)
    by_id = table.set_index("id")
    assert (by_id.loc[["same", "quiet", "coded"], "nearest_embedding_id"] == training[2].id).all()
    assert by_id.loc["same", "embedding_distance"] == pytest.approx(0, abs=1e-6)
    assert by_id.loc["quiet", "embedding_distance"] == pytest.approx(0, abs=1e-4)


def test_other_songs_are_not_copies(clips: dict[int, list[np.ndarray]], training: list[Sound]) -> None:
    other = [Sound(f"o{song}", clips[song][0], RATE) for song in sorted(clips)[5:]]
    table = nearest_training(other, training, get_embedder())
    assert (table["fingerprint_score"] < FOUND).all()
    assert (table["embedding_distance"] > 0.02).all()
    copied = nearest_training(training, training, get_embedder())
    summary = memorisation_summary(copied, table)
    assert summary["copied_share"] == 1
    assert summary["copied_share_reference"] == 0
    assert summary["closer_share"] == 1
    assert summary["embedding_distance"] < summary["embedding_distance_reference"]


def test_silence_is_near_nothing_by_fingerprint(training: list[Sound]) -> None:
    table = nearest_training([Sound("s", np.zeros(44_100, np.float32), RATE)], training, get_embedder())
    assert table.loc[0, "nearest_fingerprint_id"] is None or pd.isna(table.loc[0, "nearest_fingerprint_id"])
    assert table.loc[0, "fingerprint_score"] == 0
    assert np.isnan(table.loc[0, "offset_s"])
    assert 0 <= table.loc[0, "embedding_distance"] <= 2


class Plain:
    """An embedder of known rows: the sound's own samples, two to a row."""

    name, version, sample_rate, dim = "plain", "1", RATE, 2

    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return audio.astype(np.float64).reshape(-1, 2)


def test_embedding_distance_by_hand() -> None:
    # Training windows (3, 0), (-3, 0), (0, 5), (0, -5): mean 0, deviations 3 / sqrt 2 and 5 / sqrt 2.
    music = TrainingMusic(
        [Sound("x", np.array([3, 0, -3, 0], np.float32), RATE), Sound("y", np.array([0, 5, 0, -5], np.float32), RATE)],
        Plain(),
    )
    # (3, 5) standardises to the diagonal: 45 degrees from x's and y's nearest windows; (0, 0.1) points along y's.
    table = music.nearest(
        [Sound("a", np.array([3, 5], np.float32), RATE), Sound("b", np.array([6, 5, 0, 0.1], np.float32), RATE)]
    )
    assert table["embedding_distance"].tolist() == pytest.approx([1 - np.sqrt(0.5), 0], abs=1e-6)
    assert table["nearest_embedding_id"].tolist() == ["x", "y"]


def test_the_summary_by_hand() -> None:
    def table(scores: list[float], distances: list[float]) -> pd.DataFrame:
        return pd.DataFrame({"fingerprint_score": scores, "embedding_distance": distances})

    found = memorisation_summary(
        table([0.9, 0.1, FOUND], [0.05, 0.3, 0.4]), table([0.0, 0.0, 0.1, 0.1], [0.2, 0.4, 0.6, 0.8])
    )
    assert found["copied_share"] == pytest.approx(2 / 3)
    assert found["fingerprint_score_reference"] == pytest.approx(0.05)
    assert found["embedding_distance"] == pytest.approx(0.3)
    assert found["embedding_distance_reference"] == pytest.approx(0.5)
    assert found["closer_share"] == pytest.approx(1 / 3)  # nearer than 0.23, the reference's nearest twentieth


def test_what_cannot_be_compared(training: list[Sound]) -> None:
    with pytest.raises(UserError, match="no training music"):
        nearest_training(training, [], get_embedder())
    with pytest.raises(UserError, match="given twice"):
        nearest_training(training, [training[0], training[0]], get_embedder())
    with pytest.raises(UserError, match="needs a generated"):
        memorisation_summary(pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(COLUMNS)))
