"""The residual block of motion encoder and generators, and the weight-normalised convolution it is made of.

Table 4 of the appendix gives, per unit, "LeakyReLU, dilation d, Conv; LeakyReLU, dilation 1, Conv; shortcut path" with
d = 1, 3, 9. What it leaves open, and what both presets have (as in the authors' released code, the only other witness):

- kernels: 3 for the dilated convolution, 1 for the one after it;
- padding: reflection by d in front of the dilated convolution, so that a stack keeps the length;
- shortcut: a convolution of size 1 on the input without activation, rather than the identity;
- weight norm on all three convolutions; leaky slope 0.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAKY_SLOPE = 0.2

PAPER_DILATIONS = (1, 3, 9)
RELEASED_DILATIONS = (1, 3, 9, 27)


class WeightNormConv1d(nn.Module):
    """1-D convolution whose weight is `weight_g * weight_v / |weight_v|`, the norm taken per output channel.

    PyTorch's own parametrisation computes the same under other state-dict names; these are the names that published
    checkpoints carry. Shapes: `weight_g` (out, 1, 1), `weight_v` (out, in / groups, kernel), `bias` (out,).
    Source: Salimans and Kingma 2016, eq. 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        plain = nn.Conv1d(in_channels, out_channels, kernel_size, groups=groups)
        assert plain.bias is not None
        self.bias = nn.Parameter(plain.bias.detach())
        direction = plain.weight.detach()
        self.weight_g = nn.Parameter(torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True))
        self.weight_v = nn.Parameter(direction)

    @property
    def weight(self) -> Tensor:
        """The weight that the convolution applies, (out, in / groups, kernel)."""
        return self.weight_v * (self.weight_g / torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, length) to (batch, out, length')."""
        return functional.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    @torch.no_grad()
    def folded(self) -> nn.Conv1d:
        """The plain convolution that computes the same, for sampling."""
        out_channels, per_group, kernel = self.weight_v.shape
        plain = nn.Conv1d(
            per_group * self.groups,
            out_channels,
            kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            device=self.weight_v.device,
            dtype=self.weight_v.dtype,
        )
        plain.weight.copy_(self.weight)
        assert plain.bias is not None
        plain.bias.copy_(self.bias)
        return plain


def fold_weight_norm(network: nn.Module) -> nn.Module:
    """Replace every weight-normalised convolution inside `network` by its plain equal, in place; returns `network`."""
    for name, child in list(network.named_children()):
        if isinstance(child, WeightNormConv1d):
            setattr(network, name, child.folded())
        else:
            fold_weight_norm(child)
    return network


class ResidualBlock(nn.Module):
    """`shortcut(x) + conv1(LeakyReLU(conv3_dilated(pad(LeakyReLU(x)))))`, (batch, channels, length) unchanged in shape.

    The length must exceed the dilation, which is what reflection padding needs.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.ReflectionPad1d(dilation),
            WeightNormConv1d(channels, channels, 3, dilation=dilation),
            nn.LeakyReLU(LEAKY_SLOPE),
            WeightNormConv1d(channels, channels, 1),
        )
        self.shortcut = WeightNormConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)
