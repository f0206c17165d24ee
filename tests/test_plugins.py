"""A package from outside adds one of each kind, by its entry points alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.build_factory import write_film
from tiktok_dm import plugins
from tiktok_dm.benchmark.codec_round_trip import open_codec
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.metrics import definitions
from tiktok_dm.benchmark.reference import Item, Reference
from tiktok_dm.errors import UserError
from tiktok_dm.pose import registry
from tiktok_dm.pose.video import estimate_poses
from tiktok_dm.visual.base import VisualSource
from tiktok_dm.visual.registry import get_extractor

OUTSIDE = """
import numpy as np
from tests.pipeline.build_factory import OnePerson
from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.benchmark.metrics.definitions import ClipMetric, Metric


def extractor(flow, size, source):
    return ("extractor", flow, size)


class Mean:
    name, version, dim, licence = "mean", "1", 1, ""

    def __init__(self, weights=None):
        self.weights = weights

    def embed(self, audio, sample_rate):
        return np.abs(audio[: len(audio) // 4410 * 4410]).reshape(-1, 4410).mean(axis=1)[:, None].astype(np.float32)


class Quiet:
    name, licence = "quiet", ""

    def __init__(self, argument="2"):
        self.divisor = float(argument)

    def __call__(self, audio, sample_rate):
        return audio / self.divisor


LEVEL = Metric("level_error", "levels", ("level_error",), intervals.mean, "lower", "", "|rms - rms|", "")
level = ClipMetric((LEVEL,), lambda a, b, rate, item: {"level_error": abs(float(a.std() - b.std()))})


def every_half_second(sound, sample_rate):
    return np.arange(0, len(sound) / sample_rate, 0.5), 120.0
"""
ENTRY_POINTS = """
[tiktok_dm.estimators]
outside-person = outside_toolkit:OnePerson
[tiktok_dm.extractors]
outside-extractor = outside_toolkit:extractor
[tiktok_dm.embedders]
outside-mean = outside_toolkit:Mean
[tiktok_dm.codecs]
outside-quiet = outside_toolkit:Quiet
[tiktok_dm.metrics]
outside-level = outside_toolkit:level
[tiktok_dm.detectors]
outside-beats = outside_toolkit:every_half_second
outside-broken = outside_toolkit:absent
"""


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution on the path, as pip would have put it there."""
    (tmp_path / "outside_toolkit.py").write_text(OUTSIDE)
    info = tmp_path / "outside_toolkit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-toolkit\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(definitions, "METRICS", dict(definitions.METRICS))
    for module in ("evaluate", "evaluation"):
        monkeypatch.setattr(f"tiktok_dm.benchmark.{module}.METRICS", definitions.METRICS)
    plugins.added.cache_clear()
    registry.get_estimator.cache_clear()
    yield
    sys.modules.pop("outside_toolkit", None)
    plugins.added.cache_clear()
    registry.get_estimator.cache_clear()


def test_an_estimator(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", seed=1)
    poses = estimate_poses(tmp_path / "film.mp4", "outside-person")
    assert poses.shape == (180, 1, 25, 3)
    with pytest.raises(UserError, match="did you mean 'outside-person'"):
        estimate_poses(tmp_path / "film.mp4", "outside-persn")


def test_an_extractor() -> None:
    assert get_extractor("outside-extractor", "tvl1", 224, VisualSource()) == ("extractor", "tvl1", 224)


def test_an_embedder_a_metric_and_a_detector() -> None:
    rng = np.random.default_rng(0)
    sounds = {f"clip_{k:06d}": rng.normal(0, 0.1 * (k + 1), 4 * 22_050).astype(np.float32) for k in range(4)}
    beats = np.arange(0, 4, 0.5)
    items = {name: Item(name, sound, song_id=k, beats_s=beats) for k, (name, sound) in enumerate(sounds.items())}
    halves = {name: sound / 2 for name, sound in sounds.items()}
    options = EvaluateOptions(resamples=100, embedder="outside-mean", detector="outside-beats")
    scores = evaluate(Reference(items, "four noises"), halves, options)
    # By hand: half as loud is half a standard deviation less, of 0.1, 0.2, 0.3, 0.4.
    assert scores.metrics["level_error"].value == pytest.approx(0.125, rel=0.01)
    assert scores.metrics["beat_f_70ms"].value == 1.0
    assert scores.parameters["embedding"]["embedder"] == "mean"
    assert get_embedder("outside-mean").dim == 1
    with pytest.raises(UserError, match="outside-beats, outside-broken"):
        evaluate(Reference(items, "four noises"), halves, EvaluateOptions(detector="madmom"))
    with pytest.raises(UserError, match="outside-broken, which the package outside-toolkit adds to detectors"):
        evaluate(Reference(items, "four noises"), halves, EvaluateOptions(detector="outside-broken"))


def test_a_codec() -> None:
    codec = open_codec("outside-quiet:4")
    assert codec is not None
    np.testing.assert_array_equal(codec(np.ones(4, np.float32), 22_050), np.full(4, 0.25))


def test_a_metric_may_not_take_a_name_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    definitions.clip_metrics()
    import outside_toolkit

    taken = definitions.METRICS["beat_f_70ms"]
    monkeypatch.setattr(
        outside_toolkit, "level", definitions.ClipMetric((outside_toolkit.LEVEL, taken), outside_toolkit.level.score)
    )
    definitions.clip_metrics()  # the very same definition
    other = definitions.Metric("beat_f_70ms", "g", ("beat_f_70ms",), taken.statistic, "lower", "", "other", "")
    monkeypatch.setattr(outside_toolkit, "level", definitions.ClipMetric((other,), outside_toolkit.level.score))
    with pytest.raises(UserError, match="adds a metric beat_f_70ms, which there is already"):
        definitions.clip_metrics()
