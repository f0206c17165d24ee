"""Small networks and the parity pack, for the model's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra tiktok-dm[model] is not installed")

from d2m_model.codec.interface import freeze  # noqa: E402
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE  # noqa: E402
from d2m_model.config import ModelConfig, preset_config  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def parity_pack() -> Path:
    """Folder of the parity pack; never part of the project."""
    told = os.environ.get("D2M_PARITY_PACK")
    path = Path(told) if told else Path(__file__).resolve().parents[3] / "shared" / "parity"
    if not (path / "state_dicts.json").is_file():
        pytest.skip("the parity pack is absent: set D2M_PARITY_PACK to its folder")
    return path


@pytest.fixture
def small() -> ModelConfig:
    """A paper model small enough to run in milliseconds, with the codec of `small_codec`."""
    return preset_config(
        "paper",
        "high",
        visual_features=24,
        latent_channels=8,
        latent_frames=32,
        pose_axis=80,
        motion_embedding=16,
        output_scale=2.0,
        width=1 / 32,
    )


@pytest.fixture
def small_codec() -> JukeboxVQVAE:
    """Top level, hop 128, 16 codes of 8 dimensions, frozen, with random weights."""
    codec = JukeboxVQVAE(2, JukeboxConfig(width=8, depth=2, latent_channels=8, n_codes=16))
    freeze(codec)
    return codec
