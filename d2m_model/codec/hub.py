"""A residual codec of transformers as the model's codec, by hub id or folder: EnCodec or DAC, `hf:NAME[@BOOKS]`.

    codec: hf:facebook/encodec_24khz       all its code-books
    codec: hf:descript/dac_44khz@4         the first four

Its weights are fetched by transformers to the user's machine, and none of them is copied into what is trained on them.
What the model predicts is the encoder's continuous latent; what is decoded is the sum of the rows that each code-book
takes of what the ones before it left over (Zeghidour et al. 2021, algorithm 1). Seen from outside it works at the
project's 22,050 Hz like any other codec; sound is resampled on its way in and out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.codec.interface import Quantised, freeze
from d2m_model.config import SAMPLE_RATE
from tiktok_dm.errors import UserError

PREFIX = "hf:"


class HubCodec(nn.Module):
    """A mono EnCodec or DAC of transformers as a `Codec` whose codes are (batch, code-books, frames).

    Args:
        network: `EncodecModel` or `DacModel`.
        name: hub id or folder.
        books: how many of its code-books are used; all if 0.

    Raises:
        UserError: a network of another kind, one for stereo or for sound brought to a loudness, a frame that is no
            whole number of samples at 22,050 Hz, or more code-books than it has.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, network: nn.Module, name: str, books: int = 0) -> None:
        super().__init__()
        config: Any = network.config
        self.kind = str(config.model_type)
        if self.kind not in ("encodec", "dac"):
            raise UserError(f"{name} is a model of kind {self.kind}; the codec can be an EnCodec or a DAC.")
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False):
            raise UserError(f"{name} is a codec for stereo or for sound of one loudness; give one for mono as it is.")
        self.network: Any = network
        self.name = name
        self.rate = int(config.sampling_rate)
        self.inner_hop = math.prod(config.upsampling_ratios if self.kind == "encodec" else config.downsampling_ratios)
        if self.inner_hop * SAMPLE_RATE % self.rate:
            raise UserError(
                f"A frame of {name} is {self.inner_hop} samples at {self.rate} Hz, which is no whole number of them at "
                f"{SAMPLE_RATE} Hz; give another codec."
            )
        self.hop = self.inner_hop * SAMPLE_RATE // self.rate
        quantizer: Any = network.quantizer
        self._layers = quantizer.layers if self.kind == "encodec" else quantizer.quantizers
        self.books = books or len(self._layers)
        if not 1 <= self.books <= len(self._layers):
            raise UserError(f"{name} has {len(self._layers)} code-books; {books} cannot be used.")
        self.n_codes, self.latent_channels = int(config.codebook_size), int(config.hidden_size)
        self.licence = f"The weights of {name} have a licence of their own: see where they came from."

    @property
    def description(self) -> str:
        """What its numbers depend on beside the weights."""
        return f"{self.kind} {self.rate} Hz, hop {self.inner_hop}, {self.books} code-books"

    def train(self, mode: bool = True) -> HubCodec:
        """As for any module, but that recurrent layers stay in training mode: cuDNN has their gradient only there."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.RNNBase):
                module.train()
        return self

    def n_frames(self, n_samples: int) -> int:
        """Latent frames of that many samples at 22,050 Hz: whole ones."""
        return n_samples // self.hop

    def encode(self, audio: Tensor) -> Tensor:
        """Latent (batch, channels, frames) of audio (batch, 1, samples); a rest below one frame is left out.

        Raises:
            UserError: audio of another shape, or shorter than one frame.
        """
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.shape[2] < self.hop:
            raise UserError(
                f"Audio has shape {tuple(audio.shape)}; the codec takes (batch, 1, samples) with at least {self.hop}."
            )
        frames = self.n_frames(audio.shape[2])
        sound = resample(audio[..., : frames * self.hop], SAMPLE_RATE, self.rate)
        latent = self.network.encoder(_of_length(sound, frames * self.inner_hop))
        return _of_length(latent, frames)

    def quantise(self, latent: Tensor) -> Quantised:
        """Codes (batch, code-books, frames) and the sum of their rows, in float32, without gradient."""
        with torch.no_grad(), torch.autocast(latent.device.type, enabled=False):
            left, codes = latent.float(), []
            for layer in self._layers[: self.books]:
                if self.kind == "encodec":
                    chosen = layer.encode(left)
                    rows = layer.decode(chosen)
                else:
                    rows, _, _, chosen, _ = layer(left)
                left = left - rows
                codes.append(chosen)
            made = torch.stack(codes, dim=1)
            # Summed as `dequantise` sums them, so that decoding codes gives the same bits.
            return Quantised(made, self.dequantise(made).to(latent.dtype))

    def dequantise(self, codes: Tensor) -> Tensor:
        """The sum of the rows (batch, channels, frames) of codes (batch, code-books, frames)."""
        rows = []
        for layer, chosen in zip(self._layers, codes.unbind(1), strict=False):
            if self.kind == "encodec":
                rows.append(layer.decode(chosen))
            else:
                rows.append(layer.out_proj(layer.codebook(chosen).transpose(1, 2)))
        return torch.stack(rows).sum(0)

    def decode(self, latent: Tensor) -> Tensor:
        """Audio (batch, 1, frames * hop) at 22,050 Hz of summed rows (batch, channels, frames), not clipped."""
        sound = _of_length(self.network.decoder(latent), latent.shape[2] * self.inner_hop)
        return _of_length(resample(sound, self.rate, SAMPLE_RATE), latent.shape[2] * self.hop)


def open_hub_codec(name: str) -> HubCodec:
    """The frozen codec `hf:NAME[@BOOKS]`, on the CPU; NAME is a hub id, or a folder that transformers wrote.

    Raises:
        UserError: transformers is missing, nothing of that name can be had, or it is no codec that the model can use.
    """
    path, at, books = name.removeprefix(PREFIX).partition("@")
    if at and not (books.isdecimal() and int(books) > 0):
        raise UserError(f"{books!r} in {name} is no number of code-books; write for example {PREFIX}{path}@4.")
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"The codec {name} needs transformers: pip install 'tiktok-dm[visual]'.") from error
    transformers.utils.logging.disable_progress_bar()
    try:
        network = transformers.AutoModel.from_pretrained(path, use_safetensors=True)
    except Exception as error:  # transformers and the hub's client raise many kinds; all mean that it cannot be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"The codec {path} cannot be had: {reason}") from error
    codec = HubCodec(network, path, int(books or 0))
    freeze(codec)
    return codec


_ZEROS = 16  # crossings of zero of the filter on each side
_ROLL_OFF = 0.95  # of the lower rate's half


@lru_cache(maxsize=8)
def _filters(old: int, new: int) -> tuple[Tensor, int]:
    """Windowed sinc filters, one for each of the `new` places of an output among `old` inputs, and their reach.

    Smith 2002, "Digital audio resampling": the ideal low pass of the lower rate, under a Hann window.
    """
    low = min(old, new) * _ROLL_OFF
    reach = math.ceil(_ZEROS * old / low)
    places = torch.arange(-reach, reach + old, dtype=torch.float64)
    time = (places[None] / old - torch.arange(new, dtype=torch.float64)[:, None] / new) * low
    window = torch.cos(math.pi / 2 * (time / _ZEROS).clamp(-1, 1)) ** 2
    return (torch.sinc(time) * window * (low / old)).float()[:, None], reach


def resample(audio: Tensor, old: int, new: int) -> Tensor:
    """Audio (batch, 1, samples) at another rate, (batch, 1, ceil(samples * new / old)); differentiable.

    Args:
        audio: silence is taken to lie on both sides.
        old, new: rates in Hz.
    """
    common = math.gcd(old, new)
    old, new = old // common, new // common
    if old == new:
        return audio
    filters, reach = _filters(old, new)
    padded = functional.pad(audio, (reach, reach + old))
    made = functional.conv1d(padded, filters.to(audio), stride=old)
    length = -(-audio.shape[2] * new // old)
    return made.transpose(1, 2).flatten(1)[:, None, :length]


def _of_length(values: Tensor, length: int) -> Tensor:
    """The last axis cut, or filled up with zeros, to a length."""
    return functional.pad(values, (0, max(0, length - values.shape[-1])))[..., :length]
