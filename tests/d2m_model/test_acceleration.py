"""Long convolutions by tiles are convolutions: values, gradients, rounding, and when they are chosen."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from d2m_model import acceleration
from d2m_model.acceleration import accelerate, algorithm, convolve, fourier
from d2m_model.config import preset_config
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.networks.residual import WeightNormConv1d, fold_weight_norm


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles whatever the number of channels, in blocks so small that there are several."""
    monkeypatch.setattr(acceleration, "_NARROW", 0)
    monkeypatch.setattr(acceleration, "_LEAST_TAPS", 2)
    monkeypatch.setattr(acceleration, "_BLOCK", 200)
    monkeypatch.setattr(acceleration, "_THINNEST", 2)


def rows_like(x: torch.Tensor) -> torch.Tensor:
    """The same signal, lying in memory as (batch, length, channels)."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize("taps", [3, 4, 5, 16, 40, 41])
def test_an_algorithm_is_the_correlation(taps: int):
    form = algorithm(taps)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(form.outputs + taps - 1), rng.standard_normal(taps)
    made = form.synthesis.numpy() @ ((form.weights.numpy() @ w) * (form.analysis.numpy() @ x))
    np.testing.assert_allclose(made, np.correlate(x, w, "valid"), atol=1e-12)


def test_products_per_output_are_what_the_docstring_says():
    assert (fourier(40).rows, fourier(40).outputs) == (119, 41)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("channels", "out", "taps", "dilation", "padding", "length"),
    [
        (3, 5, 3, 1, 0, 8),
        (3, 5, 3, 1, 1, 7),
        (5, 3, 3, 3, 0, 31),
        (2, 2, 3, 9, 0, 40),
        (2, 3, 3, 27, 27, 30),
        (3, 2, 4, 1, 0, 23),
        (4, 2, 5, 1, 2, 9),
        (3, 2, 16, 1, 0, 50),
        (2, 3, 40, 1, 1, 100),
        (2, 3, 41, 1, 0, 41),
        (2, 3, 1, 1, 0, 9),
    ],
)
def test_values_and_gradients_are_pytorchs(channels, out, taps, dilation, padding, length):
    x = torch.randn(3, channels, length, dtype=torch.float64)
    weight = torch.randn(out, channels, taps, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(out, dtype=torch.float64, requires_grad=True)
    results = []
    for lay, compute in ((rows_like, convolve), (torch.clone, functional.conv1d)):
        mine = lay(x).requires_grad_(True)
        y = compute(mine, weight, bias, *(1, padding, dilation)[compute is convolve :])
        grads = torch.autograd.grad(y.square().sum(), (mine, weight, bias))
        results.append((y, *grads))
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("taps", "dilation"), [(3, 2), (17, 1)])
def test_gradcheck(taps: int, dilation: int):
    x = torch.randn(2, 2, 20, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, taps, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: convolve(*given, dilation=dilation), (x, weight, bias))


@pytest.mark.usefixtures("always")
def test_only_wanted_gradients_are_computed():
    x, weight = torch.randn(1, 2, 12, requires_grad=True), torch.randn(2, 2, 3)
    convolve(x, weight, None).sum().backward()
    assert x.grad is not None
    # The sum of all outputs: an inner sample meets every tap of every output channel once.
    torch.testing.assert_close(x.grad[0, :, 5], weight.sum(dim=(0, 2)))
    x, weight = x.detach(), weight.requires_grad_(True)
    convolve(x, weight, None).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[1, :, 0], x[0, :, :10].sum(dim=1))


@pytest.mark.parametrize(
    ("channels", "out", "taps", "length"), [(48, 48, 16, 128), (64, 64, 41, 160), (32, 32, 40, 344)]
)
@pytest.mark.parametrize("seed", range(3))
def test_rounding_in_float32_is_no_more_than_twice_pytorchs(channels, out, taps, length, seed):
    """Against float64, on whatever processor this runs: root mean square, and the worst of all outputs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, length, generator=generator)
    weight = torch.randn(out, channels, taps, generator=generator) / (channels * taps) ** 0.5
    truth = functional.conv1d(x.double(), weight.double())
    ours = convolve(x, weight, None) - truth
    theirs = functional.conv1d(x, weight) - truth
    assert ours.square().mean().sqrt() <= 2 * theirs.square().mean().sqrt()
    assert ours.abs().max() <= 2 * theirs.abs().max()


def used(monkeypatch: pytest.MonkeyPatch, compute) -> bool:
    """Whether PyTorch's own convolution was called."""
    calls = []
    real = functional.conv1d
    monkeypatch.setattr(functional, "conv1d", lambda *given: calls.append(1) or real(*given))
    compute()
    return bool(calls)


@pytest.mark.parametrize(
    ("x", "weight", "direct"),
    [
        ((1, 32, 90), (64, 32, 40), False),
        ((1, 1, 90), (32, 1, 41), True),
        ((1, 128, 20), (128, 128, 3), True),
        ((1, 128, 20), (128, 128, 15), True),
    ],
)
def test_pytorchs_own_is_used_where_it_is_cheaper(monkeypatch, x, weight, direct):
    assert used(monkeypatch, lambda: convolve(torch.randn(x), torch.randn(weight), None)) is direct


def test_networks_are_made_of_pytorchs_layers_and_accelerated_from_outside():
    """The values change by rounding alone; names and the state dict do not."""
    torch.manual_seed(0)
    model = D2MGAN(preset_config("released", "high", visual_features=0, width=0.25)).eval()
    kinds = {type(module) for module in model.modules() if "Conv1d" in type(module).__name__}
    assert kinds <= {nn.Conv1d, WeightNormConv1d}
    motion = torch.randn(2, model.config.motion_frames, model.config.motion_features)
    with torch.no_grad():
        plain = model.double()(motion.double())
    names = list(model.state_dict())
    assert accelerate(model) is model
    changed = [name for name, module in model.named_modules() if type(module).__name__.startswith("_Long")]
    assert changed
    with torch.no_grad():
        torch.testing.assert_close(model(motion.double()), plain, rtol=1e-9, atol=1e-9)
        folded = accelerate(fold_weight_norm(model))
        torch.testing.assert_close(folded(motion.double()), plain, rtol=1e-9, atol=1e-9)
    assert names != list(folded.state_dict())  # weight norm is folded, and only that


def test_autocast_meets_pytorchs_own(monkeypatch: pytest.MonkeyPatch):
    def compute() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            assert convolve(torch.randn(1, 64, 50), torch.randn(64, 64, 40), None).dtype == torch.bfloat16

    assert used(monkeypatch, compute)


def test_shapes_alone_are_enough():
    x, weight = torch.empty(2, 128, 30, device="meta"), torch.empty(256, 128, 3, device="meta")
    assert convolve(x, weight, None, dilation=3).shape == (2, 256, 24)


@pytest.mark.usefixtures("always")
def test_sampling_first_and_training_after_share_nothing_that_hurts():
    """What is kept between calls is made once, and may be made while sampling."""
    network = accelerate(nn.Sequential(nn.ReflectionPad1d(2), nn.Conv1d(3, 3, 3, dilation=2), nn.Conv1d(3, 3, 3)))
    x = torch.randn(2, 3, 19)
    with torch.inference_mode():
        sampled = network(x)
    trained = network(x)
    trained.sum().backward()
    assert torch.equal(sampled, trained)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_the_benchmark_counts_a_gradient_as_two_convolutions(kind, groups: int, monkeypatch: pytest.MonkeyPatch):
    """By hand: two operations for each weight at each place of the output (of the transposed one: of the input)."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    counts = importlib.import_module("model").FLOP_COUNTS
    layer, x = kind(8, 16, 5, 2, groups=groups), torch.randn(3, 8, 40, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=counts) as forward:
        y = layer(x)
    with FlopCounterMode(display=False, custom_mapping=counts) as backward:
        y.sum().backward()
    positions = y.shape[2] if kind is nn.Conv1d else x.shape[2]
    assert forward.get_total_flops() == 2 * 3 * positions * 8 * 16 * 5 // groups
    assert backward.get_total_flops() == 2 * forward.get_total_flops()
