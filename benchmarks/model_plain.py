"""What `benchmarks/model.py` compares with: the released loop, written plainly, on the same networks and weights.

Plain means: PyTorch's own convolutions, weight norm computed anew in every call, all three levels of the codec encoded
in every step, prediction and truth both decoded, the discriminator called separately on prediction and truth and with
gradients for its own weights where nobody needs them, every loss read as a number in every step. The order of updates
and all numbers are those of `d2m_model.training.step`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.acceleration import _LongConv1d, _LongWeightNormConv1d
from d2m_model.codec.interface import straight_through
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.networks.residual import WeightNormConv1d
from d2m_model.training.losses import WEIGHTS
from d2m_model.training.step import Batch


class _PlainWeightNorm(WeightNormConv1d):
    def forward(self, x: Tensor) -> Tensor:
        weight = torch._weight_norm(self.weight_v, self.weight_g, 0)
        return functional.conv1d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


_PLAIN: dict[type, type] = {
    WeightNormConv1d: _PlainWeightNorm,
    _LongWeightNormConv1d: _PlainWeightNorm,
    _LongConv1d: nn.Conv1d,
}


@contextmanager
def plain(*networks: nn.Module) -> Iterator[None]:
    """Inside, the networks compute by PyTorch's own layers, on the very same parameters."""
    changed = [(module, type(module)) for network in networks for module in network.modules() if type(module) in _PLAIN]
    for module, kind in changed:
        module.__class__ = _PLAIN[kind]
    try:
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind


class PlainStep:
    """One training step of the plain loop.

    Args:
        model: motion and visual features to a latent.
        discriminator: latent to maps.
        optimisers: the model's and the discriminator's.
        codecs: all levels, bottom first.
        level: the codec's level that the model predicts.
        preset: in `paper`, the audio terms reach the generator.
    """

    def __init__(
        self,
        model: nn.Module,
        discriminator: nn.Module,
        optimisers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        codecs: Sequence[JukeboxVQVAE],
        level: int,
        preset: str,
    ) -> None:
        self.model, self.discriminator, self.optimisers = model, discriminator, optimisers
        self.codecs, self.level, self.preset = codecs, level, preset
        self.mel = LogMel().to(next(model.parameters()).device)

    def __call__(self, batch: Batch) -> dict[str, float]:
        """Update both networks; all losses as numbers."""
        optimiser, optimiser_d = self.optimisers
        codec, audio = self.codecs[self.level], batch.audio
        assert audio is not None
        with torch.no_grad():
            encoded = [each.quantise(each.encode(audio)) for each in self.codecs]
            true_latent, rows = codec.encode(audio), encoded[self.level].latent
        fake = self.model(*batch.inputs())

        on_fake, on_real = self.discriminator(fake.detach()), self.discriminator(true_latent)
        loss_d = fake.new_zeros(())
        for fake_layers, real_layers in zip(on_fake, on_real, strict=True):
            loss_d = loss_d + (1 + fake_layers[-1]).relu().mean() + (1 - real_layers[-1]).relu().mean()
        optimiser_d.zero_grad()
        loss_d.backward()
        optimiser_d.step()

        on_fake = self.discriminator(fake)
        hinge, matching = fake.new_zeros(()), fake.new_zeros(())
        for fake_layers, real_layers in zip(on_fake, on_real, strict=True):
            hinge = hinge - fake_layers[-1].mean()
            for mine, truth in zip(fake_layers[:-1], real_layers[:-1], strict=True):
                matching = matching + 4 / 5 / len(on_fake) * (mine - truth.detach()).abs().mean()
        with torch.set_grad_enabled(self.preset == "paper"):
            heard = codec.decode(straight_through(fake, codec.quantise(fake).latent))
            with torch.no_grad():
                codec.decode(rows)
            length = min(heard.shape[-1], audio.shape[-1])
            waveform = (heard[..., :length] - audio[..., :length]).abs().mean()
            mel, true_mel = self.mel(heard[:, 0]), self.mel(audio[:, 0])
            frames = min(mel.shape[-1], true_mel.shape[-1])
            mel_loss = (mel[..., :frames] - true_mel[..., :frames]).abs().mean()
        losses = {
            "hinge": hinge,
            "feature_matching": matching,
            "latent": (fake - true_latent).abs().mean(),
            "commitment": (fake - rows).abs().mean(),
            "waveform": waveform,
            "mel": mel_loss,
        }
        total = sum(weight * losses[name] for name, weight in WEIGHTS.items())
        assert isinstance(total, Tensor)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        return {
            name: float(loss.detach()) for name, loss in (losses | {"discriminator": loss_d, "total": total}).items()
        }


@torch.no_grad()
def plain_sampling(
    model: nn.Module, codecs: Sequence[JukeboxVQVAE], level: int, motion: Tensor, visual: Tensor | None, audio: Tensor
) -> list[np.ndarray]:
    """The plain evaluation loop: window after window, each with its ground truth through all levels of the codec.

    Args:
        model: with weight norm, under `plain`.
        codecs: all levels, bottom first.
        level: the one that the model predicts.
        motion: (windows, motion_frames, motion_features).
        visual: (windows, 1, visual_features), or None.
        audio: the true sound, (windows, 1, samples).
    """
    made = []
    for index in range(len(motion)):
        window = slice(index, index + 1)
        for codec in codecs:
            codec.quantise(codec.encode(audio[window]))
        latent = model(motion[window], None if visual is None else visual[window])
        codec = codecs[level]
        made.append(codec.decode(codec.quantise(latent).latent)[0, 0].cpu().numpy())
    return made
