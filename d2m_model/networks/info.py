"""Shapes and parameter counts of a configuration, found without computing anything. Not for trained models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import LEVELS, SAMPLE_RATE, ModelConfig
from d2m_model.networks.d2m_gan import D2MGAN


@dataclass(frozen=True)
class NetworkInfo:
    """One network: its parameters, and the shapes that go in and come out for a batch of one."""

    name: str
    parameters: int
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]


def networks(config: ModelConfig) -> list[NetworkInfo]:
    """The networks of a configuration, run on shapes alone (PyTorch's meta device)."""
    rows = []
    with torch.device("meta"):
        model, codec = D2MGAN(config), JukeboxVQVAE(LEVELS[config.level].codec_level)
        parts = []
        if model.motion_encoder is not None:
            motion = torch.empty(1, config.motion_frames, config.motion_features)
            parts.append(model.encode_motion(motion))
            rows.append(_row("motion encoder", model.motion_encoder, motion, parts[0]))
        if config.visual_features:
            parts.append(torch.empty(1, 1, config.visual_features))
        fused = torch.cat(parts, dim=-1)
        latent = model.generator(fused, torch.zeros(1, dtype=torch.long) if config.genres else None)
        rows.append(_row("generator", model.generator, fused, latent))
        discriminator = model.new_discriminator()
        rows.append(_row("discriminator", discriminator, latent, discriminator(latent)[0][-1]))
        rows.append(_row("codec decoder", codec.decoders, latent, codec.decode(latent)))
        audio = torch.empty(1, 1, config.latent_frames * codec.hop)
        rows.append(_row("codec encoder", codec.encoders, audio, codec.encode(audio)))
    return rows


def _row(name: str, network: nn.Module, given: torch.Tensor, result: torch.Tensor) -> NetworkInfo:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return NetworkInfo(name, parameters, tuple(given.shape), tuple(result.shape))


def describe(config: ModelConfig) -> str:
    """A readable table of `networks`."""
    level = LEVELS[config.level]
    lines = [
        f"{config.preset} {config.level}: hop {level.hop} samples at {SAMPLE_RATE} Hz, "
        f"codec level {level.codec_level}, latent {config.latent_channels} x {config.latent_frames}"
    ]
    for row in networks(config):
        shapes = f"{' x '.join(map(str, row.shape_in))} -> {' x '.join(map(str, row.shape_out))}"
        lines.append(f"  {row.name:15} {row.parameters:>12,} parameters   {shapes}")
    return "\n".join(lines) + "\n"
