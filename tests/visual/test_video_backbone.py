"""Video models of transformers behind the contract of visual features: tiny ones with random weights, no download."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm.errors import UserError
from tiktok_dm.visual.base import VisualSource
from tiktok_dm.visual.registry import get_extractor
from tiktok_dm.visual.video_backbone import picture_indices

SIDE = 40


@pytest.fixture(params=["videomae", "vjepa2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model's folder as the hub has it."""
    transformers = pytest.importorskip("transformers", reason="video models of the hub need transformers")
    import torch

    torch.manual_seed(0)
    if request.param == "videomae":
        config = transformers.VideoMAEConfig(
            image_size=32, patch_size=16, num_frames=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32,
        )  # fmt: skip
        network = transformers.VideoMAEModel(config)
    else:
        config = transformers.VJEPA2Config(
            crop_size=32, patch_size=16, frames_per_clip=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
            mlp_ratio=2.0, pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2,
        )  # fmt: skip
        network = transformers.VJEPA2Model(config)
    network.save_pretrained(tmp_path / "model")
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2], "size": {"shortest_edge": SIDE}}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(told))
    return tmp_path / "model"


def windows(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 255, (60, SIDE, SIDE, 3), np.uint8) for _ in range(count)]


def test_features_are_the_mean_of_the_last_tokens(folder: Path) -> None:
    import torch
    from transformers import AutoModel

    extractor = get_extractor("someone/tiny", "tvl1", 224, VisualSource((folder,), "cpu"))
    extractor.check()
    assert (extractor.features, extractor.side) == (24, SIDE)
    assert list(extractor.weights) == ["model.safetensors"]
    given = windows(3)
    found = extractor.extract(given)
    assert found.shape == (3, 24)
    assert found.dtype == np.float32
    assert np.abs(found[0] - found[1]).max() > 1e-4
    # By hand: pictures 3, 11, 18, 26, ... of the window, their middle 32 px, the folder's own mean and deviation.
    network = AutoModel.from_pretrained(folder).eval()
    part = given[1][[3, 11, 18, 26, 33, 41, 48, 56], 4:36, 4:36].astype(np.float64) / 255
    part = (part - [0.5, 0.4, 0.3]) / [0.5, 0.25, 0.2]
    values = torch.from_numpy(part.transpose(0, 3, 1, 2)[None]).float()
    with torch.inference_mode():
        wanted = network(values).last_hidden_state.mean(dim=1)[0]
    np.testing.assert_allclose(found[1], wanted.numpy(), atol=1e-5)
    assert extractor.extract([]).shape == (0, 24)


def test_damaged_and_other_models_are_said_in_a_sentence(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="someone/tiny cannot be opened"):
        get_extractor("someone/tiny", "tvl1", 224, VisualSource((folder,), "cpu")).check()
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights in safetensors"):
        get_extractor("someone/tiny", "tvl1", 224, VisualSource((folder,), "cpu"))
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 24}')
    with pytest.raises(UserError, match="is no video model"):
        get_extractor("someone/tiny", "tvl1", 224, VisualSource((folder,), "cpu"))
    with pytest.raises(UserError, match=r"folder with config.json"):
        get_extractor("someone/tiny", "tvl1", 224, VisualSource((folder.parent,), "cpu"))


def test_pictures_are_spread_evenly() -> None:
    assert picture_indices(4).tolist() == [7, 22, 37, 52]
    assert picture_indices(60).tolist() == list(range(60))
    spread = picture_indices(64)
    assert (spread[0], spread[-1], len(spread)) == (0, 59, 64)
    assert (np.diff(spread) >= 0).all()
