"""Convolutions with fewer multiplications are convolutions: values, gradients, and when they are chosen."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from d2m_model.networks import convolution
from d2m_model.networks.convolution import Conv1d, ReflectionPad1d, algorithm, convolve, fourier, toom_cook
from d2m_model.networks.residual import ResidualBlock, fold_weight_norm


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles whatever the number of channels, in blocks so small that there are several."""
    monkeypatch.setattr(convolution, "_NARROW", 0)
    monkeypatch.setattr(convolution, "_NARROW_FOURIER", 0)
    monkeypatch.setattr(convolution, "_BLOCK", 200)
    monkeypatch.setattr(convolution, "_THINNEST", 2)


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
    assert (toom_cook(3).rows, toom_cook(3).outputs) == (8, 6)
    assert (fourier(40).rows, fourier(40).outputs) == (119, 41)


def test_toom_cook_is_exact_in_fractions():
    """Every entry is a ratio of small integers, so that only the arithmetic rounds and not the algorithm."""
    form = toom_cook(3)
    exact = [[[Fraction(float(v)).limit_denominator(10_000) for v in row] for row in matrix] for matrix in form]
    analysis, weights, synthesis = exact
    for matrix, found in zip(form, exact, strict=True):
        assert np.abs(matrix.numpy() - np.array(found, float)).max() < 1e-15
    for output in range(6):
        for tap in range(3):
            for sample in range(8):
                entry = sum(synthesis[output][r] * weights[r][tap] * analysis[r][sample] for r in range(8))
                assert entry == (1 if sample == output + tap else 0)


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
        y = compute(mine, weight, bias, 1, padding, dilation)
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


def growth(form, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """|A^T| (|G| |w| * |B^T| |x|), summed over channels: what each rounding of an output (out, length') scales with."""
    analysis, weights, synthesis = (matrix.abs() for matrix in form)
    made = x.shape[2] - form.taps + 1
    tiles = -(-made // form.outputs)
    span = form.outputs + form.taps - 1
    padded = functional.pad(x[0].abs(), (0, tiles * form.outputs + form.taps - 1 - x.shape[2]))
    inputs = torch.einsum("rn,ctn->rct", analysis, padded.unfold(1, span, form.outputs))
    products = torch.einsum("rk,ock,rct->rot", weights, weight.abs(), inputs)
    return torch.einsum("yr,rot->oty", synthesis, products).reshape(len(weight), -1)[:, :made]


@pytest.mark.parametrize(
    ("channels", "out", "taps", "length"),
    [(256, 256, 3, 120), (512, 512, 3, 60), (128, 96, 4, 90), (128, 128, 5, 99), (48, 48, 16, 128), (64, 64, 41, 160)],
)
@pytest.mark.parametrize("seed", range(3))
def test_rounding_in_float32_follows_from_the_arithmetic(channels, out, taps, length, seed):
    """On every processor: with k roundings on the way to an output, errors stay under sqrt(k) u times the growth.

    That is the probabilistic bound of Higham and Mary (2019) with one standard deviation; the worst seen on AVX2,
    AVX-512 and plain code is a tenth of it. The growth is what the algorithm's constants cost.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, length, generator=generator)
    weight = torch.randn(out, channels, taps, generator=generator) / (channels * taps) ** 0.5
    form = algorithm(taps)
    error = (convolve(x, weight, None) - functional.conv1d(x.double(), weight.double())).abs()[0]
    roundings = (form.outputs + taps - 1) + taps + 1 + channels + form.rows
    unit = torch.finfo(torch.float32).eps / 2
    assert bool((error <= roundings**0.5 * unit * growth(form, x.double(), weight.double())).all())


def used(monkeypatch: pytest.MonkeyPatch, compute) -> bool:
    """Whether PyTorch's own convolution was called."""
    calls = []
    real = functional.conv1d
    monkeypatch.setattr(functional, "conv1d", lambda *given: calls.append(1) or real(*given))
    compute()
    return bool(calls)


@pytest.mark.parametrize(
    ("x", "weight", "settings", "direct"),
    [
        ((1, 128, 20), (128, 128, 3), {}, False),
        ((1, 64, 20), (64, 64, 3), {}, True),
        ((1, 32, 90), (64, 32, 40), {}, False),
        ((1, 1, 90), (32, 1, 41), {}, True),
        ((1, 128, 20), (128, 128, 3), {"stride": 2}, True),
        ((1, 256, 20), (128, 128, 3), {"groups": 2}, True),
        ((1, 128, 20), (128, 128, 6), {}, True),
    ],
)
def test_pytorchs_own_is_used_where_it_is_cheaper(monkeypatch, x, weight, settings, direct):
    assert used(monkeypatch, lambda: convolve(torch.randn(x), torch.randn(weight), None, **settings)) is direct


def test_autocast_meets_pytorchs_own(monkeypatch: pytest.MonkeyPatch):
    def compute() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            assert convolve(torch.randn(1, 128, 9), torch.randn(128, 128, 3), None).dtype == torch.bfloat16

    assert used(monkeypatch, compute)


def test_shapes_alone_are_enough():
    x, weight = torch.empty(2, 128, 30, device="meta"), torch.empty(256, 128, 3, device="meta")
    assert convolve(x, weight, None, dilation=3).shape == (2, 256, 24)


@pytest.mark.usefixtures("always")
def test_sampling_first_and_training_after_share_nothing_that_hurts():
    """What is kept between calls is made once, and may be made while sampling."""
    network = nn.Sequential(ReflectionPad1d(2), Conv1d(3, 3, 3, dilation=2), ReflectionPad1d(2), Conv1d(3, 3, 3))
    x = rows_like(torch.randn(2, 3, 19))
    with torch.inference_mode():
        sampled = network(x)
    trained = network(x)
    trained.sum().backward()
    assert torch.equal(sampled, trained)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.usefixtures("always")
def test_reflection_keeps_the_layout_and_the_values():
    x = torch.randn(2, 3, 11, dtype=torch.float64)
    mine, theirs = rows_like(x).requires_grad_(True), x.clone().requires_grad_(True)
    made, expected = ReflectionPad1d((4, 2))(mine), nn.ReflectionPad1d((4, 2))(theirs)
    assert torch.equal(made, expected)
    assert made.transpose(1, 2).is_contiguous()
    weights = torch.randn_like(expected)
    (made * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("folded", [False, True])
def test_residual_block_is_its_formula(monkeypatch: pytest.MonkeyPatch, dilation: int, folded: bool):
    """On rows the block merges its convolutions of size 1; values and gradients stay."""
    block = ResidualBlock(6, dilation).double()
    if folded:
        fold_weight_norm(block)
    x = torch.randn(2, 6, 20, dtype=torch.float64)
    results = []
    for narrow in (0, 1000):
        monkeypatch.setattr(convolution, "_NARROW", narrow)
        mine = x.clone().requires_grad_(True)
        y = block(mine)
        results.append([y, *torch.autograd.grad(y.square().sum(), [mine, *block.parameters()])])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
