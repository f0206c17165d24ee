from __future__ import annotations

import pytest
import torch
from torch import nn

from d2m_model.networks.residual import ResidualBlock, WeightNormConv1d, fold_weight_norm


def test_weight_is_g_times_the_direction_of_v():
    convolution = WeightNormConv1d(1, 2, 2)
    with torch.no_grad():
        convolution.weight_v.copy_(torch.tensor([[[3.0, 4.0]], [[0.0, -2.0]]]))
        convolution.weight_g.copy_(torch.tensor([[[2.0]], [[5.0]]]))
    # By hand: (3, 4) / 5 * 2 and (0, -2) / 2 * 5.
    torch.testing.assert_close(convolution.weight, torch.tensor([[[1.2, 1.6]], [[0.0, -5.0]]]))


def test_fresh_weight_norm_is_the_plain_convolution_it_was_made_from():
    torch.manual_seed(1)
    plain = nn.Conv1d(4, 6, 3, groups=2)
    torch.manual_seed(1)
    normed = WeightNormConv1d(4, 6, 3, groups=2)
    assert [name for name, _ in normed.named_parameters()] == ["bias", "weight_g", "weight_v"]
    x = torch.randn(2, 4, 9)
    torch.testing.assert_close(normed(x), plain(x))


@pytest.mark.parametrize("dilation", [1, 3, 9, 27])
def test_residual_block_keeps_the_length(dilation: int):
    assert ResidualBlock(4, dilation)(torch.randn(2, 4, 40)).shape == (2, 4, 40)


def test_residual_block_by_hand():
    block = ResidualBlock(1, 2)
    first, second = block.block[2], block.block[4]
    with torch.no_grad():
        first.weight_v.copy_(torch.tensor([[[1.0, 0.0, 0.0]]]))
        first.weight_g.fill_(1.0)
        first.bias.fill_(-3.0)
        second.weight_v.fill_(1.0)
        second.weight_g.fill_(10.0)
        second.bias.fill_(0.5)
        block.shortcut.weight_v.fill_(-1.0)
        block.shortcut.weight_g.fill_(2.0)
        block.shortcut.bias.fill_(0.0)
    x = torch.tensor([[[1.0, -5.0, 3.0, 4.0]]])
    # LeakyReLU: 1, -1, 3, 4. Reflected by 2: 3, -1, | 1, -1, 3, 4 | ... The tap two to the left: 3, -1, 1, -1; minus 3:
    # 0, -4, -2, -4; LeakyReLU: 0, -0.8, -0.4, -0.8; times 10 plus 0.5: 0.5, -7.5, -3.5, -7.5. Shortcut: -2 x.
    expected = torch.tensor([[[0.5 - 2.0, -7.5 + 10.0, -3.5 - 6.0, -7.5 - 8.0]]])
    torch.testing.assert_close(block(x), expected)


def test_folding_leaves_plain_convolutions_and_the_same_output():
    network = nn.Sequential(
        ResidualBlock(4, 1), nn.Sequential(WeightNormConv1d(4, 8, 5, stride=2, padding=2, groups=2))
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weight_g"):
                parameter.mul_(1.7)
    x = torch.randn(2, 4, 20)
    before = network(x)
    fold_weight_norm(network)
    assert not any(isinstance(module, WeightNormConv1d) for module in network.modules())
    torch.testing.assert_close(network(x), before)
