"""Small models with full-length windows, and stubs that say what they saw: for tests of sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from d2m_model.codec.interface import Quantised, freeze
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
from d2m_model.config import ModelConfig, preset_config
from d2m_model.networks.d2m_gan import D2MGAN

RATE, HOP, FRAMES = 22_050, 128, 344


def tiny_config(preset: str = "paper", level: str = "high", **changes: object) -> ModelConfig:
    """A model of real window length that runs in milliseconds."""
    sizes = {"visual_features": 0, "latent_channels": 8, "motion_embedding": 16, "output_scale": 2.0, "width": 1 / 32}
    return preset_config(preset, level, **{**sizes, **({"pose_axis": 80} if preset == "paper" else {}), **changes})


def tiny_model(config: ModelConfig | None = None, seed: int = 0) -> D2MGAN:
    """Random weights."""
    torch.manual_seed(seed)
    return D2MGAN(config or tiny_config()).eval()


def tiny_codec(level: int = 2, seed: int = 0) -> JukeboxVQVAE:
    """Real hops, 16 codes of 8 dimensions, random weights."""
    torch.manual_seed(seed)
    codec = JukeboxVQVAE(level, JukeboxConfig(width=8, depth=2, latent_channels=8, n_codes=16))
    freeze(codec)
    return codec


class Stub(nn.Module):
    """A model of one latent channel whose latent is what `says(motion)` gives, (windows, 344) of (windows, 60, 75)."""

    def __init__(self, says) -> None:
        super().__init__()
        self.config = tiny_config(latent_channels=1, motion_units="as_given")
        self.says = says

    def forward(self, motion: Tensor, visual: Tensor | None = None, genre: Tensor | None = None) -> Tensor:
        return self.says(motion)[:, None]


class PlainCodec:
    """One channel in steps of `step`, decoded to a soft tone (1378 Hz, 16 samples) on a level that is the latent."""

    sample_rate, hop, n_codes, latent_channels, licence = RATE, HOP, 100_000, 1, ""

    def __init__(self, step: float = 1e-3) -> None:
        self.step = step

    def n_frames(self, n_samples: int) -> int:
        return n_samples // self.hop

    def encode(self, audio: Tensor) -> Tensor:
        raise NotImplementedError

    def quantise(self, latent: Tensor) -> Quantised:
        codes = torch.round(latent[:, 0] / self.step).long()
        return Quantised(codes, self.dequantise(codes))

    def dequantise(self, codes: Tensor) -> Tensor:
        return (codes * self.step)[:, None].float()

    def decode(self, latent: Tensor) -> Tensor:
        samples = latent.shape[2] * self.hop
        level = nn.functional.interpolate(latent, samples, mode="linear")
        return level + 0.01 * torch.sin(2 * torch.pi * torch.arange(samples) / 16)


def moving_poses(seconds: float, fps: float = 30.0, seed: int = 0) -> np.ndarray:
    """(frames, 25, 3): a figure whose joints swing at rates of their own."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fps))[:, None] / fps
    swing = 20 * np.sin(2 * np.pi * rng.uniform(0.5, 2.0, 25) * t + rng.uniform(0, 6, 25))
    place = rng.uniform(100, 300, (25, 2))
    place[1], place[8] = (200, 100), (200, 200)
    return np.stack([place[:, 0] + swing, place[:, 1] + 0.3 * swing, np.full_like(swing, 0.9)], -1).astype(np.float32)


def write_checkpoint(folder: Path, *, codec: JukeboxVQVAE | None = None, config: ModelConfig | None = None) -> Path:
    """A model folder, with its own codec if one is given."""
    from d2m_model.checkpoint import save_model
    from d2m_model.codec.files import write_codec

    extra = [] if codec is None else [lambda place: write_codec(codec, place)]
    save_model(tiny_model(config), folder, extra)
    return folder
