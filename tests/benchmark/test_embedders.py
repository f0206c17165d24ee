"""Embedders: values worked by hand, published front ends and shapes, random weights under the public names."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm.benchmark.embedders import base as embedder_base
from tiktok_dm.benchmark.embedders.base import Embedder, clip_point, embed_all
from tiktok_dm.benchmark.embedders.log_mel import LogMelEmbedder, log_mel
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.errors import UserError

RATE = 22_050


def tone(hz: float, seconds: float = 2.0, rate: int = RATE, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def clicks(bpm: float, seconds: float = 2.0) -> np.ndarray:
    sound = np.zeros(round(seconds * RATE), np.float32)
    for first in np.arange(0.05, seconds - 0.02, 60 / bpm):
        at = round(first * RATE)
        sound[at : at + 400] += noise(400 / RATE, seed=1) * np.exp(-np.arange(400) / 80)
    return sound


# ------------------------------------------------------------------------------------------- log-mel


def test_log_mel_of_a_full_scale_sine_by_hand() -> None:
    # The sine falls on FFT bin 100; a mel band whose peak is 1 takes its share of power 1, so that bands whose
    # triangles meet there sum to about 1 (the Hann window's two side bins add 1/4 each).
    spectrum = log_mel(tone(100 * RATE / 2048, peak=1.0))
    assert spectrum.shape == (64, 83)
    power = (10**spectrum).sum(axis=0)
    assert power == pytest.approx(1.5, rel=0.05)
    assert log_mel(np.zeros(44_100)) == pytest.approx(-8)


def test_log_mel_embedding_of_silence_is_the_floor() -> None:
    row = LogMelEmbedder().embed(np.zeros(44_100, np.float32), RATE)
    assert row.shape == (1, 64)
    assert row.dtype == np.float64
    assert row[0, 0] == pytest.approx(-8)  # mean over bands, in units of 10 dB
    assert row[0, 1:] == pytest.approx(0)


def test_log_mel_embedding_does_not_hear_gain() -> None:
    model = LogMelEmbedder()
    assert model.embed(0.2 * noise(), RATE) == pytest.approx(model.embed(noise(), RATE), abs=1e-5)


def test_log_mel_embedding_hears_the_pulse() -> None:
    lags = np.geomspace(0.1, 1.2, 16)
    row = LogMelEmbedder().embed(clicks(60 / lags[10]), RATE)[0]  # about 114 bpm
    pulse = row[48:]
    assert pulse.argmax() == 10
    assert pulse[10] > 0.5
    assert abs(pulse[8]) < 0.2


def test_log_mel_windows() -> None:
    model = get_embedder()
    assert isinstance(model, Embedder)
    assert (model.name, model.dim, model.sample_rate) == ("log-mel", 64, RATE)
    sound = noise(5.5)
    rows = model.embed(sound, RATE)
    assert rows.shape == (2, 64)  # the rest of 1.5 s is dropped
    assert model.embed(sound[:RATE], RATE).shape == (1, 64)  # a short one is filled up
    assert clip_point(rows) == pytest.approx((rows[0] + rows[1]) / 2)
    assert (model.embed(sound, RATE) == rows).all()
    assert embed_all(model, [(sound, RATE), (sound, RATE)]).shape == (4, 64)
    assert embed_all(model, []).shape == (0, 64)


def test_log_mel_embedding_at_another_rate() -> None:
    model = LogMelEmbedder()
    same, other = model.embed(tone(440), RATE), model.embed(tone(440, rate=44_100), 44_100)
    assert np.abs(same - other).max() < 0.1


def test_log_mel_sets_differ_by_what_they_are() -> None:
    from tiktok_dm.benchmark.metrics.distribution import kad

    model = LogMelEmbedder()
    noises = embed_all(model, ((noise(seed=seed), RATE) for seed in range(16)))
    again = embed_all(model, ((noise(seed=seed), RATE) for seed in range(16, 32)))
    clicky = embed_all(model, ((clicks(bpm), RATE) for bpm in range(90, 138, 3)))
    assert kad(noises, again) < 10
    assert kad(noises, clicky) > 50


def test_the_default_embedder_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np\nfrom tiktok_dm.benchmark.embedders.registry import get_embedder\n"
        "get_embedder().embed(np.ones(100, np.float32), 22050)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros((9, 2), np.float32), "mono"),
        (np.full(99, np.nan, np.float32), "not finite"),
    ],
)
def test_what_cannot_be_embedded(audio: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        LogMelEmbedder().embed(audio, RATE)


def test_embedders_that_are_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of log-mel, vggish"):
        get_embedder("openl3")
    with pytest.raises(UserError, match="has no weights"):
        get_embedder("log-mel", tmp_path)
    for name in ("vggish", "panns", "clap"):
        with pytest.raises(UserError, match="is not shipped: give its path"):
            get_embedder(name)
        with pytest.raises(UserError, match="do not exist"):
            get_embedder(name, tmp_path / "none")


def test_the_version_tells_weights_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    versions = {embedder_base.version_of(1, {"x": 1}, tmp_path / name) for name in "ab"}
    versions |= {embedder_base.version_of(1, {"x": x}) for x in (1, 2)}
    assert len(versions) == 4
    assert embedder_base.version_of(1, {"x": 1}) == embedder_base.version_of(1, {"x": 1})


# ------------------------------------------------------------------------------------------- VGGish and PANNs


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights under the names and shapes of the public file."""
    torch = pytest.importorskip("torch", reason="VGGish needs PyTorch")
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}
    wide = (1, 64, 128, 256, 256, 512, 512)
    for i, index in enumerate((0, 3, 6, 8, 11, 13)):
        shapes[f"features.{index}.weight"], shapes[f"features.{index}.bias"] = (
            (wide[i + 1], wide[i], 3, 3),
            (wide[i + 1],),
        )
    for index, (inner, outer) in {0: (12_288, 4096), 2: (4096, 4096), 4: (4096, 128)}.items():
        shapes[f"embeddings.{index}.weight"], shapes[f"embeddings.{index}.bias"] = (outer, inner), (outer,)
    state = {
        name: torch.randn(shape, generator=generator) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
        for name, shape in shapes.items()
    }
    path = tmp_path_factory.mktemp("weights") / "vggish.pth"
    torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    yield path
    path.unlink()  # of a size that nobody wants to keep


def test_vggish_front_end() -> None:
    pytest.importorskip("torch", reason="VGGish needs PyTorch")
    from tiktok_dm.benchmark.embedders.vggish import log_mel_patch, mel_weights

    weights = mel_weights()
    assert weights.shape == (257, 64)
    assert not weights[0].any()
    # 125 and 7,500 Hz are 185.1 and 2,771.8 mel; bands are 39.8 mel apart, so that band 32's centre lies at 1,498.3
    # mel, 1,944 Hz, between the bins 62 and 63 of 31.25 Hz.
    assert weights[:, 32].argmax() == 62
    peak = log_mel_patch(tone(1944, 1, 16_000)[:15_600]).mean(axis=0)
    assert peak.shape == (64,)
    assert peak.argmax() == 32
    assert log_mel_patch(np.zeros(15_600)) == pytest.approx(np.log(0.01))


def test_vggish_runs_on_weights_with_the_public_names(vggish_file: Path) -> None:
    import torch

    from tiktok_dm.benchmark.embedders.vggish import log_mel_patch

    model = get_embedder("vggish", vggish_file)
    sound = noise(3.0, 16_000)
    rows = model.embed(sound, 16_000)
    assert rows.shape == (3, 128)
    assert rows.dtype == np.float64
    assert (model.embed(sound, 16_000) == rows).all()
    assert model.embed(sound[:100], 16_000).shape == (1, 128)
    assert rows.min() < 0 < rows.max()  # no rectifier after the last layer

    # The first patch once more, by the functional forms and the order of the TensorFlow release.
    state = {name: tensor.float() for name, tensor in torch.load(vggish_file, weights_only=True).items()}
    x = torch.from_numpy(log_mel_patch(sound[:15_600])).float()[None, None]
    for index, pooled in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, padding=1))
        x = torch.nn.functional.max_pool2d(x, 2) if pooled else x
    assert x.shape == (1, 512, 6, 4)
    flat = x[0].numpy().transpose(1, 2, 0).reshape(-1)
    for index in (0, 2, 4):
        flat = state[f"embeddings.{index}.weight"].numpy() @ flat + state[f"embeddings.{index}.bias"].numpy()
        flat = np.maximum(flat, 0) if index < 4 else flat
    assert rows[0] == pytest.approx(flat, rel=1e-3, abs=1e-4)


@pytest.fixture(scope="module")
def panns_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    torch = pytest.importorskip("torch", reason="PANNs needs PyTorch")
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> object:
        return torch.randn(shape, generator=generator) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5

    def norm(name: str, width: int) -> dict:
        return {
            f"{name}.weight": torch.ones(width),
            f"{name}.bias": torch.zeros(width),
            f"{name}.running_mean": torch.zeros(width),
            f"{name}.running_var": torch.ones(width),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    state = norm("bn0", 64) | {"logmel_extractor.melW": torch.zeros(513, 64), "fc_audioset.weight": draw(527, 2048)}
    state["bn0.running_mean"] += -30
    state["bn0.running_var"] *= 400
    widths = (1, 64, 128, 256, 512, 1024, 2048)
    for i in range(1, 7):
        block = f"conv_block{i}"
        state |= {f"{block}.conv1.weight": draw(widths[i], widths[i - 1], 3, 3)}
        state |= {f"{block}.conv2.weight": draw(widths[i], widths[i], 3, 3)}
        state |= norm(f"{block}.bn1", widths[i]) | norm(f"{block}.bn2", widths[i])
    state |= {"fc1.weight": draw(2048, 2048), "fc1.bias": torch.zeros(2048)}
    path = tmp_path_factory.mktemp("weights") / "Cnn14.pth"
    torch.save({"iteration": 3, "model": {name: tensor.half() for name, tensor in state.items()}}, path)
    yield path
    path.unlink()


def test_panns_front_end_agrees_with_librosa() -> None:
    pytest.importorskip("torch", reason="PANNs needs PyTorch")
    import librosa

    from tiktok_dm.benchmark.embedders.panns import log_mel as panns_log_mel

    sound = noise(0.5, 32_000)
    power = librosa.feature.melspectrogram(
        y=sound, sr=32_000, n_fft=1024, hop_length=320, n_mels=64, fmin=50, fmax=14_000, pad_mode="reflect"
    )
    found, expected = panns_log_mel(sound).T, librosa.power_to_db(power, amin=1e-10, top_db=None)
    assert found == pytest.approx(expected, abs=1e-3)


def test_panns_runs_on_weights_with_the_public_names(panns_file: Path) -> None:
    model = get_embedder("panns", panns_file)
    sound = noise(2.0, 32_000)
    rows = model.embed(sound, 32_000)
    assert rows.shape == (1, 2048)
    assert rows.min() == 0  # the published embedding is rectified
    assert rows.std() > 0
    assert (model.embed(sound, 32_000) == rows).all()
    assert np.abs(model.embed(tone(440, 2, 32_000), 32_000) - rows).max() > 1e-3
    assert model.embed(sound[:1000], 32_000).shape == (1, 2048)
    assert model.version.startswith("1-")


def test_the_wrong_weights(vggish_file: Path, tmp_path: Path) -> None:
    import torch

    with pytest.raises(UserError, match=r"is no PANNs CNN14: 6\d of its 7\d tensors are missing, such as bn0"):
        get_embedder("panns", vggish_file)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="cannot be opened as PyTorch weights"):
        get_embedder("vggish", tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no table of tensors"):
        get_embedder("vggish", tmp_path / "list.pth")
    state = torch.load(vggish_file, weights_only=True)
    state["embeddings.4.bias"] = torch.zeros(64)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(UserError, match=r"embeddings\.4\.bias has the shape \(64,\) instead of \(128,\)"):
        get_embedder("vggish", tmp_path / "shape.pth")


# ------------------------------------------------------------------------------------------- CLAP


def test_clap_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="CLAP needs PyTorch")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))
    with pytest.raises(UserError, match="pip install transformers"):
        get_embedder("clap", tmp_path)


def test_clap_runs_on_a_saved_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="CLAP runs on the transformers package")
    import torch

    with pytest.raises(UserError, match="is no folder of a CLAP model"):
        get_embedder("clap", tmp_path)
    audio = {"hidden_size": 64, "patch_embeds_hidden_size": 8, "depths": [1, 1, 1, 1], "num_attention_heads": [1] * 4}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
    torch.manual_seed(0)
    transformers.ClapModel(config).save_pretrained(tmp_path)
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(tmp_path)
    model = get_embedder("clap", tmp_path)
    assert (model.sample_rate, model.dim) == (48_000, 24)
    rows = model.embed(noise(21.0), RATE)
    assert rows.shape == (2, 24)
    assert (model.embed(noise(21.0), RATE) == rows).all()
    assert model.embed(noise(0.5), RATE).shape == (1, 24)
