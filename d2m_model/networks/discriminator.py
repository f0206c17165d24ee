"""The three-scale discriminator on latents (Table 5). Not for its loss or its training: see `adversarial`.

Table 5 gives one block's convolutions; the appendix says that three blocks see the sequence and its downsampled
versions. What it leaves open, chosen for the `paper` preset:

- flattening: the 64 channel rows of the latent one after the other, (batch, 1, 64 * frames). Four strides of 4 need a
  long signal (344 frames would end on two scores), and with whole rows the pooling between scales averages neighbours
  in time, not unrelated channels;
- downsampling: average pooling, window 4, stride 2, padding 1 that does not count in the mean;
- padding: half the kernel on each side, by reflection in the first layer, by zeros in the others;
- weight norm everywhere, LeakyReLU with slope 0.2, start values as in `layers.initialise`;
- output scale: the latent is divided by the generator's scale (100), so that scores start at the hinge's own size.

The `released` preset has 32 channels at the start (32, 128, 512, 1024, 1024, 512, 1), an even first kernel (16, padding
7: one sample shorter), and takes the latent at its own scale.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from d2m_model.config import PRESETS, one_of
from d2m_model.networks.layers import initialise, scaled
from d2m_model.networks.residual import LEAKY_SLOPE, WeightNormConv1d
from tiktok_dm.errors import UserError

N_SCALES = 3

Maps = list[list[Tensor]]
"""Per scale, the outputs of all layers, each (batch, channels, length); the last one is the score map."""


@dataclass(frozen=True)
class _Row:
    channels: int
    kernel: int
    stride: int = 1
    groups: int = 1


TABLES: dict[str, tuple[_Row, ...]] = {
    "paper": (
        _Row(16, 15),
        _Row(64, 41, 4, 4),
        _Row(256, 41, 4, 16),
        _Row(1024, 41, 4, 64),
        _Row(1024, 41, 4, 256),
        _Row(1024, 5),
        _Row(1, 3),
    ),
    "released": (
        _Row(32, 16),
        _Row(128, 41, 4, 8),
        _Row(512, 41, 4, 32),
        _Row(1024, 41, 4, 128),
        _Row(1024, 41, 4, 256),
        _Row(512, 5),
        _Row(1, 3),
    ),
}


class DiscriminatorBlock(nn.Module):
    """One scale: a signal (batch, 1, length) to the outputs of its seven layers, the score map last."""

    def __init__(self, rows: tuple[_Row, ...], width: float) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 1
        for index, row in enumerate(rows):
            last = index == len(rows) - 1
            out = row.channels if last else scaled(row.channels, width)
            # Every grouped row of both tables has four input channels a group; a narrower network keeps that.
            groups = 1 if row.groups == 1 else channels // 4
            padding = (row.kernel - 1) // 2
            pad: list[nn.Module] = [nn.ReflectionPad1d(padding)] if index == 0 else []
            convolution = WeightNormConv1d(channels, out, row.kernel, row.stride, 0 if pad else padding, groups=groups)
            layers[f"layer_{index}"] = (
                convolution if last else nn.Sequential(*pad, convolution, nn.LeakyReLU(LEAKY_SLOPE))
            )
            channels = out
        self.model = nn.ModuleDict(layers)

    def forward(self, signal: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.model.values():
            signal = layer(signal)
            maps.append(signal)
        return maps


class MultiScaleDiscriminator(nn.Module):
    """A latent (batch, channels, frames) to `Maps`: three scales of seven layer outputs.

    Args:
        preset: `paper` or `released`.
        width: factor on hidden channels.
        input_scale: what the latent is divided by in the `paper` preset (the generator's output scale).
    """

    def __init__(self, preset: str = "paper", width: float = 1.0, input_scale: float = 100.0) -> None:
        super().__init__()
        one_of("preset", preset, PRESETS)
        self.input_scale = 1.0 if preset == "released" else input_scale
        self.model = nn.ModuleDict(
            {f"disc_{scale}": DiscriminatorBlock(TABLES[preset], width) for scale in range(N_SCALES)}
        )
        self.downsample = nn.AvgPool1d(4, stride=2, padding=1, count_include_pad=False)
        if preset == "paper":
            initialise(self)

    def forward(self, latent: Tensor) -> Maps:
        if latent.ndim != 3:
            raise UserError(f"The discriminator takes latents (batch, channels, frames), not {tuple(latent.shape)}.")
        signal = latent.flatten(1)[:, None] / self.input_scale
        maps = []
        for scale, block in enumerate(self.model.values()):
            if scale:
                signal = self.downsample(signal)
            maps.append(block(signal))
        return maps


def scores(maps: Maps) -> list[Tensor]:
    """The score map of each scale, (batch, 1, length)."""
    return [layers[-1] for layers in maps]


def features(maps: Maps) -> list[list[Tensor]]:
    """The outputs of all layers but the score map, per scale."""
    return [layers[:-1] for layers in maps]
