"""D2M-GAN: motion encoder, fusion and generator of one preset and level; its shapes and parameter counts.

Fusion is what the released code does: the motion vector, then the visual vector, then the genre's embedding, end to
end. Motion, visual and genre are each optional in the configuration, and a model without one of them has no weights for
it.

Any length: motion of several windows (2 s each) is encoded window by window. In the `paper` preset the generator lays
the windows' signals end to end and convolves them once; the `released` one is made for a single window (see
`generator`), and a sampler tiles it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import LEVELS, SAMPLE_RATE, ModelConfig
from d2m_model.model_folder import find_checkpoint, read_into, write_model
from d2m_model.networks.discriminator import MultiScaleDiscriminator
from d2m_model.networks.generator import Generator
from d2m_model.networks.layers import initialise, initialise_as_released
from d2m_model.networks.motion_encoder import MotionEncoder
from tiktok_dm.errors import UserError

try:
    from huggingface_hub import ModelHubMixin
except ImportError:  # beside PyTorch and numpy alone the networks still run, and benchmarks/model.py

    class ModelHubMixin:  # type: ignore[no-redef]
        """Nothing of the hub's."""

        def __init_subclass__(cls, **_: Any) -> None:
            super().__init_subclass__()


LEAST_SPREAD = 0.02
"""Torso lengths; half of what an estimator's error is."""


class D2MGAN(
    nn.Module,
    ModelHubMixin,
    library_name="d2m_model",
    tags=["dance-to-music", "audio-generation", "vector-quantisation"],
):
    """Dance to latent: the generator's side of D2M-GAN.

    Args:
        config: sizes, preset and level.

    Example:
        >>> from d2m_model import D2MGAN
        >>> from d2m_model.config import preset_config
        >>> model = D2MGAN(preset_config("paper", "high", visual_features=0, width=0.0625))
        >>> motion = torch.zeros(1, 60, 75)
        >>> model(motion).shape
        torch.Size([1, 64, 344])
    """

    motion_encoder: MotionEncoder | None
    motion_spread: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # The folder's config.yaml says everything; the mixin need not write a second file of its own.
        self._hub_mixin_config = None
        self.motion_encoder = MotionEncoder(config) if config.motion_frames else None
        self.generator = Generator(config)
        if config.motion_units == "movement":
            self.register_buffer("motion_spread", torch.ones(config.motion_features))
        if config.preset == "paper":
            if self.motion_encoder is not None:
                initialise(self.motion_encoder)
            initialise(self.generator, last_gain=0.1)
        else:
            initialise_as_released(self)

    def fit_motion(self, motion: np.ndarray) -> None:
        """Take the spread by which a model in the units `movement` divides its input from the training data.

        Args:
            motion: training windows in the model's units, (windows, motion_frames, motion_features). Spreads below
                `LEAST_SPREAD` count as it, so that a joint that hardly moves does not become noise.
        """
        if self.config.motion_units == "movement":
            spread = np.maximum(np.sqrt(np.square(motion, dtype=np.float64).mean(axis=(0, 1))), LEAST_SPREAD)
            self.motion_spread.copy_(torch.from_numpy(spread))

    def encode_motion(self, motion: Tensor) -> Tensor:
        """Motion vectors (batch, windows, motion_embedding) of poses (batch, windows * motion_frames, features).

        Raises:
            UserError: the model has no motion encoder, or the poses have another shape.
        """
        frames, width = self.config.motion_frames, self.config.motion_features
        if self.motion_encoder is None:
            raise UserError("This model was made without motion input; give visual features only.")
        if motion.ndim != 3 or motion.shape[2] != width or not motion.shape[1] or motion.shape[1] % frames:
            raise UserError(
                f"Motion has shape {tuple(motion.shape)}; this model takes (batch, {frames} per 2 s, {width})."
            )
        if self.config.motion_units == "movement":
            motion = motion / self.motion_spread
        batch, windows = motion.shape[0], motion.shape[1] // frames
        return self.motion_encoder(motion.reshape(batch * windows, frames, width)).reshape(batch, windows, -1)

    def fuse(self, motion_vector: Tensor | None, visual: Tensor | None) -> Tensor:
        """Motion and visual vectors, (batch, windows, features) each, end to end on the last axis, motion first.

        Raises:
            UserError: a part that the model wants is missing, one that it does not know is given, or shapes differ.
        """
        wanted = self.config.visual_features
        if visual is None and wanted:
            raise UserError("This model was made with visual features; give them, or use a motion-only model.")
        if visual is not None and not wanted:
            raise UserError("This model was made without visual features; give none.")
        if visual is not None and (visual.ndim != 3 or visual.shape[2] != wanted):
            raise UserError(
                f"Visual features have shape {tuple(visual.shape)}; this model takes (batch, windows, {wanted})."
            )
        if motion_vector is not None and visual is not None and motion_vector.shape[:2] != visual.shape[:2]:
            raise UserError(
                f"Motion has {tuple(motion_vector.shape[:2])} and visual features {tuple(visual.shape[:2])} as batch "
                "and windows; they must agree."
            )
        parts = [part for part in (motion_vector, visual) if part is not None]
        return torch.cat(parts, dim=-1)

    def forward(
        self, motion: Tensor | None = None, visual: Tensor | None = None, genre: Tensor | None = None
    ) -> Tensor:
        """The latent (batch, latent_channels, windows * latent_frames) that the dance asks for.

        Args:
            motion: (batch, windows * motion_frames, motion_features) float, or None for a model without motion.
            visual: (batch, windows, visual_features) float, or None for a model without visual features.
            genre: (batch,) integer, or None for a model without genres.

        Raises:
            UserError: inputs that do not fit the model's configuration.
        """
        if motion is None and self.motion_encoder is not None:
            raise UserError("This model was made with motion input; give the poses.")
        vector = None if motion is None else self.encode_motion(motion)
        return self.generator(self.fuse(vector, visual), genre)

    def new_discriminator(self) -> MultiScaleDiscriminator:
        """A fresh discriminator that fits this model's preset, width and scale."""
        return MultiScaleDiscriminator(self.config.preset, self.config.width, self.config.output_scale)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_model(self, self.config, save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> D2MGAN:
        """The model in a checkpoint folder, or of that id on the Hugging Face hub.

        Args:
            pretrained_model_name_or_path: a folder with model.safetensors and config.yaml, or a hub id.
            options: passed to `huggingface_hub.snapshot_download` (revision, cache_dir, token, local_files_only).

        Raises:
            UserError: no such folder or id, or a folder that is not a checkpoint of this model.
        """
        return read_into(cls, find_checkpoint(pretrained_model_name_or_path, **options))


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
