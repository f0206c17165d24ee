"""Networks from tables: a column of `Conv`, `Reflect`, `Stack` and activation rows becomes an `nn.Sequential`.

The rows read like the paper's tables, and each becomes one numbered module (a `Stack` becomes one module per dilation),
so that the released preset has the state-dict names of the authors' checkpoints. Not for anything with branches
outside the residual block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from d2m_model.networks.residual import LEAKY_SLOPE, ResidualBlock, WeightNormConv1d


@dataclass(frozen=True)
class Conv:
    """A 1-D convolution with bias.

    Args:
        channels: output channels, before the width factor.
        kernel: its size.
        stride: its stride.
        padding: zeros on each side, or `same`: a reflection in front of the layer (a module of its own) such that an
            input whose length is a multiple of the stride leaves with exactly length / stride.
        fixed: whether `channels` stays as it is whatever the width factor (the network's output).
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int | Literal["same"] = 0
    fixed: bool = False


@dataclass(frozen=True)
class Reflect:
    """Reflection padding of `size` on each side."""

    size: int


@dataclass(frozen=True)
class Stack:
    """A residual stack: one residual block per dilation, channels unchanged."""

    dilations: tuple[int, ...]


Activation = Literal["leaky_relu", "relu", "tanh"]
Row = Conv | Reflect | Stack | Activation


def scaled(channels: int, width: float) -> int:
    """Channels under a width factor, kept a multiple of four as the grouped convolutions need."""
    return channels if width == 1.0 else max(4, 4 * round(channels * width / 4))


def build(rows: Sequence[Row], in_channels: int, width: float = 1.0) -> nn.Sequential:
    """The network of a table: (batch, in_channels, length) to (batch, channels of the last `Conv`, shorter length)."""
    modules: list[nn.Module] = []
    channels = in_channels
    for row in rows:
        if isinstance(row, Conv):
            out = row.channels if row.fixed else scaled(row.channels, width)
            if row.padding == "same":
                total = row.kernel - row.stride
                modules.append(nn.ReflectionPad1d((total // 2, total - total // 2)))
                padding = 0
            else:
                padding = row.padding
            modules.append(nn.Conv1d(channels, out, row.kernel, row.stride, padding))
            channels = out
        elif isinstance(row, Reflect):
            modules.append(nn.ReflectionPad1d(row.size))
        elif isinstance(row, Stack):
            modules.extend(ResidualBlock(channels, dilation) for dilation in row.dilations)
        else:
            modules.append(activation(row))
    return nn.Sequential(*modules)


def activation(name: Activation) -> nn.Module:
    """The activation module of that name."""
    if name == "leaky_relu":
        return nn.LeakyReLU(LEAKY_SLOPE)
    return nn.ReLU() if name == "relu" else nn.Tanh()


@torch.no_grad()
def initialise(network: nn.Module, last_gain: float = 1.0) -> None:
    """Start values that keep the signal's size through many layers (paper preset; see `initialise_as_released`).

    Convolutions get He's normal values for the leaky slope (He et al. 2015, eq. 15) and zero biases, projections normal
    values of gain one. A residual block starts near the identity: shortcut the identity, branch a third of He's. The
    last convolution gets `last_gain` of He's. Under PyTorch's own values every convolution leaves about a third of its
    input's variance, and the output of a fresh generator differs between two dances by a millionth of its size.
    """
    last: nn.Module | None = None
    for module in network.modules():
        if isinstance(module, nn.Linear):
            # No activation follows a projection, so its gain is one.
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d | WeightNormConv1d):
            _he(module, 1.0)
            last = module
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            branch = module.block[4]
            assert isinstance(branch, WeightNormConv1d)
            _he(branch, 1 / 3)
            direction = module.shortcut.weight_v
            direction.copy_(torch.eye(len(direction), device=direction.device)[:, :, None])
            module.shortcut.weight_g.fill_(1.0)
    if last is not None and last_gain != 1.0:
        _he(last, last_gain)


RELEASED_STD = 0.02
"""Of the start values of plain convolutions in the authors' released code, which has it from MelGAN's."""


@torch.no_grad()
def initialise_as_released(network: nn.Module) -> None:
    """The start values of the authors' released code: plain convolutions are drawn from N(0, `RELEASED_STD`).

    Everything else keeps PyTorch's own values: biases, projections, embeddings, and weight-normalised convolutions,
    whose `weight` the authors' code sets too, to no effect, since it is computed from `weight_g` and `weight_v`.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, 0.0, RELEASED_STD)


def _he(convolution: nn.Module, gain: float) -> None:
    direction = convolution.weight_v if isinstance(convolution, WeightNormConv1d) else convolution.weight
    assert isinstance(direction, Tensor)
    assert isinstance(convolution.bias, Tensor)
    nn.init.kaiming_normal_(direction, a=LEAKY_SLOPE)
    nn.init.zeros_(convolution.bias)
    if isinstance(convolution, WeightNormConv1d):
        convolution.weight_g.copy_(gain * torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True))
    else:
        direction.mul_(gain)
