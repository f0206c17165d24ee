"""JukeBox's VQ-VAE, one level at a time: encoder, code-book, decoder. Not for training it.

Dhariwal et al. 2020. Three independent levels work from and to raw audio at 22,050 Hz: bottom (0), middle (1) and top
(2), hops 8, 32 and 128, each with 2,048 codes of 64 dimensions. D2M-GAN uses middle (low level) and top (high level).
Only the level that is asked for is built, loaded and run. State-dict names are those of the public checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from d2m_model.codec.interface import Quantised
from tiktok_dm.errors import UserError

LICENCE = (
    "JukeBox's code and what is made with its weights are for non-commercial use only "
    "(https://github.com/openai/jukebox, LICENSE)."
)
N_LEVELS = 3


@dataclass(frozen=True)
class JukeboxConfig:
    """Sizes of the VQ-VAE; the defaults are the public checkpoint's.

    Args:
        width: channels inside a block, times the level's entry of `multipliers`.
        depth: residual units per step, times the same.
        multipliers: per level.
        downs: down-sampling steps of two in each block; level L chains blocks 0 to L, so its hop is 2^(sum to L).
        latent_channels: width of a code-book row.
        n_codes: rows of the code-book.
        dilation_growth: unit k of a step has dilation `dilation_growth ** k`.
        sample_rate: of the audio, in Hz.
    """

    width: int = 32
    depth: int = 4
    multipliers: tuple[int, ...] = (2, 1, 1)
    downs: tuple[int, ...] = (3, 2, 2)
    latent_channels: int = 64
    n_codes: int = 2048
    dilation_growth: int = 3
    sample_rate: int = 22050


class ResidualUnit(nn.Module):
    """`x + conv1(ReLU(conv3_dilated(ReLU(x))))`, (batch, width, length) unchanged in shape."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.model(x)


class ResidualUnits(nn.Module):
    """A chain of residual units, dilations growing, or shrinking in decoders."""

    def __init__(self, width: int, dilations: list[int]) -> None:
        super().__init__()
        self.model = nn.Sequential(*(ResidualUnit(width, dilation) for dilation in dilations))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _Block(nn.Module):
    """A numbered chain under the name `model`."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def _encoder_block(in_channels: int, width: int, out_channels: int, steps: int, dilations: list[int]) -> _Block:
    layers: list[nn.Module] = []
    for step in range(steps):
        down = nn.Conv1d(width if step else in_channels, width, 4, stride=2, padding=1)
        layers.append(nn.Sequential(down, ResidualUnits(width, dilations)))
    return _Block([*layers, nn.Conv1d(width, out_channels, 3, padding=1)])


def _decoder_block(channels: int, width: int, steps: int, dilations: list[int]) -> _Block:
    layers: list[nn.Module] = [nn.Conv1d(channels, width, 3, padding=1)]
    for step in range(steps):
        up = nn.ConvTranspose1d(width, channels if step == steps - 1 else width, 4, stride=2, padding=1)
        layers.append(nn.Sequential(ResidualUnits(width, dilations), up))
    return _Block(layers)


class Encoder(nn.Module):
    """Audio (batch, 1, samples) to latent (batch, channels, frames) of one level."""

    def __init__(self, config: JukeboxConfig, level: int) -> None:
        super().__init__()
        width, dilations, channels = _level_sizes(config, level)
        self.level_blocks = nn.ModuleList(
            _encoder_block(channels if block else 1, width, channels, config.downs[block], dilations)
            for block in range(level + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.level_blocks:
            x = block(x)
        return x


class Decoder(nn.Module):
    """Code-book rows (batch, channels, frames) of one level to audio (batch, 1, frames * hop), not clipped."""

    def __init__(self, config: JukeboxConfig, level: int) -> None:
        super().__init__()
        width, dilations, channels = _level_sizes(config, level)
        self.level_blocks = nn.ModuleList(
            _decoder_block(channels, width, config.downs[block], dilations[::-1]) for block in range(level + 1)
        )
        self.out = nn.Conv1d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for block in reversed(self.level_blocks):
            x = block(x)
        return self.out(x)


def _level_sizes(config: JukeboxConfig, level: int) -> tuple[int, list[int], int]:
    depth = config.depth * config.multipliers[level]
    dilations = [config.dilation_growth**k for k in range(depth)]
    return config.width * config.multipliers[level], dilations, config.latent_channels


class Codebook(nn.Module):
    """Nearest row of a table; `k` is (n_codes, channels)."""

    # Rows handled at once: bounds the distance table to 4096 x n_codes numbers whatever the batch.
    _ROWS = 4096

    k: Tensor

    def __init__(self, n_codes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("k", torch.randn(n_codes, channels))

    @torch.no_grad()
    def nearest(self, latent: Tensor) -> Tensor:
        """Codes (batch, frames) of a latent (batch, channels, frames): least |x|^2 - 2 x.k + |k|^2, first on ties.

        Always float32, with the |x|^2 term, as the public quantiser has it: rounding decides between near rows.
        """
        with torch.autocast(latent.device.type, enabled=False):
            rows = latent.float().transpose(1, 2).reshape(-1, latent.shape[1])
            table = self.k.float().t()
            squares = (table**2).sum(dim=0, keepdim=True)
            codes = [
                ((part**2).sum(dim=1, keepdim=True) - 2 * part @ table + squares).argmin(dim=1)
                for part in rows.split(self._ROWS)
            ]
        return torch.cat(codes).reshape(latent.shape[0], latent.shape[2])

    def rows(self, codes: Tensor) -> Tensor:
        """Rows (batch, channels, frames) of codes (batch, frames)."""
        return nn.functional.embedding(codes, self.k).transpose(1, 2)


class _Bottleneck(nn.Module):
    """Holds the code-book under the public checkpoint's name."""

    def __init__(self, level: int, codebook: Codebook) -> None:
        super().__init__()
        self.level_blocks = nn.ModuleDict({str(level): codebook})


class JukeboxVQVAE(nn.Module):
    """One level of the VQ-VAE as a `Codec`.

    Args:
        level: 0 bottom, 1 middle, 2 top.
        config: sizes.

    Raises:
        UserError: a level that the configuration does not have.

    Example:
        >>> from d2m_model import JukeboxVQVAE
        >>> codec = JukeboxVQVAE(2)
        >>> latent = codec.encode(torch.zeros(1, 1, 44_032))
        >>> latent.shape, codec.hop
        (torch.Size([1, 64, 344]), 128)
    """

    licence: str = ""

    def __init__(self, level: int, config: JukeboxConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or JukeboxConfig()
        if not 0 <= level < len(config.downs):
            raise UserError(f"The codec has levels 0 to {len(config.downs) - 1}; there is no level {level}.")
        self.level = level
        self.sample_rate = config.sample_rate
        self.hop = prod(2**steps for steps in config.downs[: level + 1])
        self.n_codes, self.latent_channels = config.n_codes, config.latent_channels
        self.encoders = nn.ModuleDict({str(level): Encoder(config, level)})
        self.decoders = nn.ModuleDict({str(level): Decoder(config, level)})
        self.bottleneck = _Bottleneck(level, Codebook(config.n_codes, config.latent_channels))

    @property
    def codebook(self) -> Codebook:
        """The level's code-book."""
        codebook = self.bottleneck.level_blocks[str(self.level)]
        assert isinstance(codebook, Codebook)
        return codebook

    def n_frames(self, n_samples: int) -> int:
        """Latent frames of that many samples: each step of two rounds down, which amounts to one division."""
        return n_samples // self.hop

    def encode(self, audio: Tensor) -> Tensor:
        """Latent (batch, channels, samples // hop) of audio (batch, 1, samples) in -1..1.

        Raises:
            UserError: audio of another shape, or shorter than one frame.
        """
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.shape[2] < self.hop:
            raise UserError(
                f"Audio has shape {tuple(audio.shape)}; the codec takes (batch, 1, samples) with at least {self.hop}."
            )
        return self.encoders[str(self.level)](audio)

    def quantise(self, latent: Tensor) -> Quantised:
        """Nearest code-book rows of a latent (batch, channels, frames), without gradient."""
        codes = self.codebook.nearest(latent)
        return Quantised(codes, self.dequantise(codes).to(latent.dtype))

    def dequantise(self, codes: Tensor) -> Tensor:
        """Rows (batch, channels, frames) of integer codes (batch, frames)."""
        return self.codebook.rows(codes)

    def decode(self, latent: Tensor) -> Tensor:
        """Audio (batch, 1, frames * hop) of code-book rows (batch, channels, frames), not clipped."""
        return self.decoders[str(self.level)](latent)

    def load_public_state(self, state: Mapping[str, Tensor], source: str = "the state dict") -> JukeboxVQVAE:
        """Load this level out of a state dict with the public checkpoint's names; the other levels' entries are left.

        Raises:
            UserError: entries of this level that are missing, unknown or of another shape, with the first one named.
        """
        state = {key.removeprefix("module."): value for key, value in state.items()}
        prefixes = tuple(f"{part}.{self.level}." for part in ("encoders", "decoders", "bottleneck.level_blocks"))
        theirs = {key: value for key, value in state.items() if key.startswith(prefixes)}
        # Running sums that the public code keeps for training its code-books; no part of what is computed.
        for running in ("k_sum", "k_elem"):
            theirs.pop(f"bottleneck.level_blocks.{self.level}.{running}", None)
        mine = self.state_dict()
        for key, value in mine.items():
            if key not in theirs:
                raise UserError(f"The codec's entry {key} is missing in {source}; is it a JukeBox VQ-VAE?")
            if theirs[key].shape != value.shape:
                raise UserError(
                    f"The codec's entry {key} is {tuple(theirs[key].shape)} in {source}, not {tuple(value.shape)}."
                )
        if unknown := sorted(set(theirs) - set(mine)):
            raise UserError(f"Unknown codec entry {unknown[0]} in {source}; its sizes differ from this codec's.")
        self.load_state_dict(theirs)
        return self

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, level: int, config: JukeboxConfig | None = None, licence: str = LICENCE
    ) -> JukeboxVQVAE:
        """A frozen level of a checkpoint file: `vqvae.pth.tar`, a plain state dict, or safetensors.

        Args:
            path: the file.
            level: 0 bottom, 1 middle, 2 top.
            config: sizes; the public checkpoint's if None.
            licence: what music made with these weights carries; give an empty one for weights of your own.

        Raises:
            UserError: no such file, not a checkpoint, or not of this codec.
        """
        from d2m_model.codec.interface import freeze

        codec = cls(level, config)
        codec.load_public_state(read_state(Path(path)), str(path))
        codec.licence = licence
        freeze(codec)
        return codec


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, by name; nothing in the file is executed (`weights_only=True`).

    A file may hold them directly or, as `vqvae.pth.tar` does, under the key `model`.

    Raises:
        UserError: no such file, an unreadable or truncated one, or one without tensors.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint file {path}.")
    if not os.access(path, os.R_OK):
        raise UserError(f"The checkpoint file {path} may not be read by this account.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a file that is no checkpoint
        raise UserError(
            f"The file {path} is not a readable checkpoint (truncated, of another kind, or holding more than weights)."
        ) from error
    if isinstance(content, Mapping):
        for key in ("model", "state_dict"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise UserError(f"The checkpoint {path} holds no named tensors.")
