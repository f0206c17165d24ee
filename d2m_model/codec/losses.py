"""What a codec's training minimises: a codec and its losses as one module. Not for the model's losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.codec.interface import straight_through
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import LoudnessGuide, SpectralLoss
from d2m_model.codec.training_config import CodecTrainingConfig

LOSSES = ("waveform", "spectral", "commitment", "guide")


class CodecLosses(nn.Module):
    """A codec and its losses, as one module for a launcher to wrap.

    Args:
        codec: the one that is trained.
        config: kind of waveform loss, and FFT sizes.
    """

    def __init__(self, codec: JukeboxVQVAE, config: CodecTrainingConfig) -> None:
        super().__init__()
        self.codec = codec
        self.spectral = SpectralLoss(config.ffts) if config.ffts and config.spectral_weight else None
        self.waveform = functional.l1_loss if config.waveform == "l1" else functional.mse_loss
        self.weights = {name: getattr(config, f"{name}_weight") for name in LOSSES}
        self.guided = config.guided_channels
        self.guide: LoudnessGuide | None = None
        if self.guided:
            self.guide = LoudnessGuide(self.guided, codec.hop, codec.sample_rate, config.guide_scale)

    def forward(self, audio: Tensor, quantise: bool = True) -> dict[str, Tensor]:
        """Scalars `waveform`, `spectral`, `commitment`, `guide`, `total`; `latent` (n, channels), `codes` (n,).

        `commitment` is the mean squared distance of the latent to its code-book row (van den Oord et al. 2017, eq. 3),
        `guide` that of the guided channels to the loudness they are to tell.

        Args:
            audio: (batch, 1, whole latent frames).
            quantise: whether the latent goes through the code-book.
        """
        latent = self.codec.encode(audio)
        out: dict[str, Tensor] = {}
        if quantise:
            codes, rows = self.codec.quantise(latent)
            out["commitment"] = functional.mse_loss(latent.float(), rows.float())
            out["codes"] = codes.flatten()
            again = self.codec.decode(straight_through(latent, rows))
        else:
            again = self.codec.decode(latent)
        out["latent"] = latent.detach().float().transpose(1, 2).reshape(-1, latent.shape[1])
        if self.guide is not None:
            out["guide"] = functional.mse_loss(latent[:, : self.guided].float(), self.guide(audio))
        out["waveform"] = self.waveform(again.float(), audio)
        if self.spectral is not None:
            out["spectral"] = self.spectral(again[:, 0], audio[:, 0])
        parts = [weight * out[name] for name, weight in self.weights.items() if weight and name in out]
        out["total"] = torch.stack(parts).sum()
        return out
