"""Genre agreement: centroids and chance by hand, and the demo's styles told apart better than by chance."""

from __future__ import annotations

import numpy as np
import pytest

from tiktok_dm.benchmark.embedders.base import clip_point
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.benchmark.metrics.genre import CentroidClassifier, GenreClassifier, agreement, fit_centroids
from tiktok_dm.errors import UserError
from tiktok_dm.synthetic import DemoParams, clip_truth
from tiktok_dm.synthetic.music import make_song


def test_centroids_by_hand() -> None:
    # One dimension, mean 5, deviation 5: standardised centres at -1 and 1, all points on them.
    fitted = fit_centroids(np.array([[0.0], [0.0], [10.0], [10.0]]), ["slow", "slow", "fast", "fast"])
    assert fitted.labels == ("fast", "slow")
    assert fitted.centres.ravel().tolist() == [1, -1]
    assert [found.label for found in fitted.classify(np.array([[1.0], [9.0]]))] == ["slow", "fast"]


def test_probabilities_by_hand() -> None:
    # Points 1, 3 and 7, 9: mean 5, variance 10; own centres lie 1 away, so the spread is 0.1 in standard units.
    fitted = fit_centroids(np.array([[1.0], [3.0], [7.0], [9.0]]), ["a", "a", "b", "b"])
    assert fitted.spread == pytest.approx(0.1)
    found = fitted.classify(np.array([[5.0], [4.5]]))
    assert found[0].probabilities == pytest.approx({"a": 0.5, "b": 0.5})
    # Squared distances 0.625 and 1.225 over twice 0.1: the odds are exp(3).
    assert found[1].probabilities["a"] == pytest.approx(1 / (1 + np.exp(-3)))


def test_agreement_by_hand() -> None:
    found = agreement(["a", "a", "b", "c"], ["a", "b", "b", "b"])
    assert (found.share, found.n) == (0.5, 4)
    assert found.chance == pytest.approx(0.5 * 0.25 + 0.25 * 0.75)
    assert found.kappa == pytest.approx((0.5 - 0.3125) / (1 - 0.3125))
    assert str(found) == "0.500 (chance 0.312, kappa 0.273, n = 4)"
    assert np.isnan(agreement(["a"], ["a"]).kappa)
    assert agreement(["a", "b"], ["b", "a"]).kappa == -1


def test_chance_is_what_shuffling_gives() -> None:
    rng = np.random.default_rng(0)
    a, b = list(rng.choice(list("xyz"), 300, p=[0.6, 0.3, 0.1])), list(rng.choice(list("xyz"), 300))
    shuffled = [agreement(a, list(rng.permutation(b))).share for _ in range(200)]
    assert agreement(a, b).chance == pytest.approx(np.mean(shuffled), abs=0.01)


def test_the_demo_styles_are_told_apart() -> None:
    demo = DemoParams(clips=24, songs=12)
    embedder = get_embedder()
    points, labels, songs = [], [], []
    for number in range(24):
        _, audio, _, song = clip_truth(demo, number)
        points.append(clip_point(embedder.embed(audio, 22_050)))
        labels.append(make_song(demo.seed, song).style.name)
        songs.append(song)
    names = np.array(labels)
    held = np.array(songs) >= 6  # the first six songs have the six styles, and so have the next
    assert set(names[~held]) == set(names[held])
    assert held.sum() > 5
    fitted = fit_centroids(np.array(points)[~held], list(names[~held]))
    classifier = CentroidClassifier(embedder, fitted)
    assert isinstance(classifier, GenreClassifier)
    found = fitted.classify(np.array(points)[held])
    assert agreement(list(names[held]), [one.label for one in found]).kappa > 0.3
    _, audio, _, _ = clip_truth(demo, 0)
    one = classifier.predict(audio, 22_050)
    assert one.label == fitted.classify(np.array(points)[:1])[0].label
    assert sum(one.probabilities.values()) == pytest.approx(1)
    assert embedder.version in classifier.version


def test_what_cannot_be_fitted_or_compared() -> None:
    with pytest.raises(UserError, match="two genres"):
        fit_centroids(np.zeros((2, 3)), ["a", "a"])
    with pytest.raises(UserError, match="do not fit"):
        fit_centroids(np.zeros((2, 3)), ["a"])
    with pytest.raises(UserError, match="not finite"):
        fit_centroids(np.array([[np.nan], [1.0]]), ["a", "b"])
    with pytest.raises(UserError, match="pair by pair"):
        agreement(["a"], [])
