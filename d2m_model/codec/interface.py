"""What the model asks of an audio codec, so that another one can stand in for JukeBox's. Not for training one."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class Quantised(NamedTuple):
    """Code-book rows nearest to a latent.

    Args:
        codes: (batch, frames) int64; (batch, code-books, frames) of a residual codec, whose rows are summed.
        latent: the rows, (batch, channels, frames), same type and device as what was quantised.
    """

    codes: Tensor
    latent: Tensor


@runtime_checkable
class Codec(Protocol):
    """One level of a discrete codec, an `nn.Module` with these attributes and methods.

    `sample_rate` in Hz, `hop` in samples per latent frame, `n_codes` rows of `latent_channels` numbers. `licence` is
    the sentence that music made with its weights carries, empty where there is none.
    """

    sample_rate: int
    hop: int
    n_codes: int
    latent_channels: int
    licence: str

    def n_frames(self, n_samples: int) -> int:
        """Latent frames of that many samples."""

    def encode(self, audio: Tensor) -> Tensor:
        """Continuous latent (batch, channels, frames) of audio (batch, 1, samples) in -1..1."""

    def quantise(self, latent: Tensor) -> Quantised:
        """The nearest rows; no gradient."""

    def dequantise(self, codes: Tensor) -> Tensor:
        """Rows (batch, channels, frames) of codes, as `quantise` gives them."""

    def decode(self, latent: Tensor) -> Tensor:
        """Audio (batch, 1, frames * hop) of code-book rows (batch, channels, frames); differentiable in them."""


def straight_through(latent: Tensor, quantised: Tensor) -> Tensor:
    """Exactly `quantised` in value, with the identity as gradient with respect to `latent` (van den Oord 2017)."""
    return quantised.detach() + (latent - latent.detach())


def freeze(codec: nn.Module) -> nn.Module:
    """The codec with parameters that take no gradient, in evaluation mode; returns it."""
    return codec.requires_grad_(False).eval()
