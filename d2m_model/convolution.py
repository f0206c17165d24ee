"""1-D convolutions with fewer multiplications, for processors: the same maths, another order of sums. Not for GPUs.

A convolution of stride 1 is cut into tiles of `outputs` samples, and each tile is computed by a bilinear algorithm

    y = A^T ((G w) * (B^T x)),        x: outputs + taps - 1 inputs, w: taps weights, y: outputs,

whose elementwise product `*` is the only place where inputs meet weights. Over channels each of its rows becomes one
matrix product (positions x in) (in x out), so that the cost is rows / outputs instead of `taps` per position. Two
families:

- few taps (Toom-Cook; Winograd 1980, for networks Lavin and Gray 2016): the polynomials are evaluated at eight points,
  A_ij = p_i^j, G_ij = p_i^j / prod_l (p_i - p_l), B_i the coefficients of prod_{l != i} (x - p_l), and the point at
  infinity. Three taps: 8 products for 6 outputs instead of 18.
- many taps: a cyclic Fourier transform of twice the taps (Cooley and Tukey 1965), with three real products for a
  complex one (Gauss). 40 taps: 119 products for 41 outputs instead of 1640.

Dilation interleaves independent convolutions. Rounding in float32 is about 1e-6 of the output's size (2e-7 for the
direct sum). On other devices, strides, groups and sizes `convolve` is PyTorch's own convolution, which is also what
compilers, exporters and autocast see.

Signals (batch, channels, length) that leave here lie in memory as (batch, length, channels), so that a tap is a whole
row; whatever follows takes them as they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Finite points of the Toom-Cook algorithms; small powers of two keep rounding low."""
_TOOM_COOK_TAPS = (3, 5)
_FOURIER_TAPS = 16

_NARROW = 96
"""With fewer channels than this the tiles' transforms cost more than the products that they save (measured)."""
_SHORT = 3
"""Fewer tiles than this, over batch and length, leave matrices too thin for the products to run at full speed."""


class Algorithm(NamedTuple):
    """A bilinear algorithm for `outputs` samples of a correlation with `taps` weights.

    Args:
        analysis: B^T, (rows, outputs + taps - 1).
        weights: G, (rows, taps).
        synthesis: A^T, (outputs, rows).
    """

    analysis: Tensor
    weights: Tensor
    synthesis: Tensor

    @property
    def taps(self) -> int:
        return self.weights.shape[1]

    @property
    def outputs(self) -> int:
        return self.synthesis.shape[0]

    @property
    def rows(self) -> int:
        return self.weights.shape[0]


def toom_cook(taps: int) -> Algorithm:
    """The algorithm on the seven points and infinity, for 9 - taps outputs; exact up to rounding, float64."""
    points = np.array(_POINTS)
    n = len(points) + 1
    outputs = n + 1 - taps
    powers = points[:, None] ** np.arange(n)
    analysis, weights, synthesis = np.zeros((n, n)), np.zeros((n, taps)), np.zeros((n, outputs))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        analysis[i, :-1] = np.poly(others)[::-1]
        weights[i] = powers[i, :taps] / np.prod(point - others)
        synthesis[i] = powers[i, :outputs]
    analysis[-1] = np.poly(points)[::-1]
    weights[-1, -1] = synthesis[-1, -1] = 1
    return Algorithm(*(torch.from_numpy(np.ascontiguousarray(m)) for m in (analysis, weights, synthesis.T)))


def fourier(taps: int) -> Algorithm:
    """The algorithm on the frequencies of a cyclic transform of 2 taps, for taps + 1 outputs; float64.

    With X = a + ib and the conjugate W = c + ie of the weights' spectrum, X W = (p1 - p3) + i (p1 + p2) where
    p1 = (a + b) c, p2 = a (e - c), p3 = b (c + e).
    """
    n, outputs = 2 * taps, taps + 1
    t, w, y = np.arange(n), np.arange(taps), np.arange(outputs)
    analysis, weights, synthesis = [np.ones(n)], [np.ones(taps)], [np.full(outputs, 1 / n)]
    for frequency in range(1, taps):
        angle = 2 * np.pi * frequency / n
        a, b, c, e = np.cos(angle * t), -np.sin(angle * t), np.cos(angle * w), np.sin(angle * w)
        cos, sin = 2 / n * np.cos(angle * y), 2 / n * np.sin(angle * y)
        analysis += [a + b, a, b]
        weights += [c, e - c, c + e]
        synthesis += [cos - sin, -sin, -cos]
    analysis.append((-1.0) ** t)
    weights.append((-1.0) ** w)
    synthesis.append((-1.0) ** y / n)
    return Algorithm(*(torch.from_numpy(np.array(rows)) for rows in (analysis, weights, np.array(synthesis).T.copy())))


@lru_cache(maxsize=64)
def algorithm(taps: int, dtype: torch.dtype = torch.float64) -> Algorithm:
    """The algorithm that is used for so many taps."""
    made = fourier(taps) if taps > _TOOM_COOK_TAPS[1] else toom_cook(taps)
    return Algorithm(*(matrix.to(dtype) for matrix in made))


class _Tiling(NamedTuple):
    """Where the rows of tiles come from and go to, as indices into flattened (batch, length) rows.

    Args:
        inputs: (n * tiles,): row `j * tiles + tile` of the tiles is this input row.
        inputs_back: the same, with one past the end for what lies beyond the signal.
        outputs: (batch * length',): this row of the tiles is the output row.
        outputs_back: (outputs * tiles,): its inverse; any output row for those that are dropped.
        dropped: rows of the tiles that are no output.
        tiles: their number.
    """

    inputs: Tensor
    inputs_back: Tensor
    outputs: Tensor
    outputs_back: Tensor
    dropped: Tensor
    tiles: int


@lru_cache(maxsize=256)
def _tiling(batch: int, length: int, taps: int, outputs: int, dilation: int) -> _Tiling:
    length_out = length - dilation * (taps - 1)
    per_phase = -(-length_out // dilation)
    tiles_per_phase = -(-per_phase // outputs)
    item = np.arange(batch)[:, None, None]
    phase = np.arange(dilation)[:, None]
    start = phase + dilation * outputs * np.arange(tiles_per_phase)  # (dilation, tiles)
    n = outputs + taps - 1
    position = (start + dilation * np.arange(n)[:, None, None])[:, None]  # (n, 1, dilation, tiles)
    inside = np.broadcast_to(position < length, (n, batch, *start.shape))
    inputs = item * length + np.minimum(position, length - 1)
    inputs_back = np.where(inside, inputs, batch * length)
    made = position[:outputs]
    kept = np.broadcast_to(made < length_out, (outputs, batch, *start.shape)).ravel()
    outputs_back = (item * length_out + np.minimum(made, length_out - 1)).ravel()
    forward = np.empty(batch * length_out, dtype=np.int64)
    forward[outputs_back[kept]] = np.flatnonzero(kept)
    indices = (torch.from_numpy(a.ravel()) for a in (inputs, inputs_back, forward, outputs_back, np.flatnonzero(~kept)))
    return _Tiling(*indices, tiles=batch * start.size)


class _Tiled(torch.autograd.Function):
    """The tiled convolution of (batch, length, in) to (batch * length', out); its gradient transposes the algorithm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        batch, length, channels = x.shape
        out_channels, _, taps = weight.shape
        form = algorithm(taps, x.dtype)
        tiling = _tiling(batch, length, taps, form.outputs, dilation)
        gathered = x.reshape(batch * length, channels).index_select(0, tiling.inputs)
        signal = (form.analysis @ gathered.view(-1, tiling.tiles * channels)).view(form.rows, tiling.tiles, channels)
        del gathered
        filters = (form.weights @ weight.reshape(-1, taps).t()).view(form.rows, out_channels, channels)
        product = torch.bmm(signal, filters.transpose(1, 2))
        made = (form.synthesis @ product.view(form.rows, -1)).view(-1, out_channels)
        # (batch * length', out), and not a view, so that an activation may work on it in place.
        y = made.index_select(0, tiling.outputs)
        if bias is not None:
            y += bias
        needs_input, needs_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(signal if needs_weight else None, filters if needs_input else None)
        ctx.shape, ctx.taps, ctx.dilation = x.shape, taps, dilation
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        signal, filters = ctx.saved_tensors
        batch, length, channels = ctx.shape
        out_channels = grad.shape[1]
        form = algorithm(ctx.taps, grad.dtype)
        tiling = _tiling(batch, length, ctx.taps, form.outputs, ctx.dilation)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(0)
        made = grad.index_select(0, tiling.outputs_back).index_fill_(0, tiling.dropped, 0)
        product = (form.synthesis.t() @ made.view(form.outputs, -1)).view(form.rows, tiling.tiles, out_channels)
        del made
        if signal is not None:
            by_row = torch.bmm(product.transpose(1, 2), signal)
            grad_weight = (by_row.view(form.rows, -1).t() @ form.weights).view(out_channels, channels, ctx.taps)
        if filters is not None:
            back = torch.bmm(product, filters)
            gathered = (form.analysis.t() @ back.view(form.rows, -1)).view(-1, channels)
            rows = grad.new_zeros(batch * length + 1, channels).index_add_(0, tiling.inputs_back, gathered)
            grad_x = rows[:-1].view(batch, length, channels)
        return grad_x, grad_weight, grad_bias, None


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """(batch, in, length) to (batch, out, length'), as `torch.nn.functional.conv1d`, in the cheapest way known here.

    Args:
        x: the signal.
        weight: (out, in / groups, taps).
        bias: (out,), or None.
        stride: samples between outputs.
        padding: zeros on each side.
        dilation: samples between taps.
        groups: number of independent groups of channels.
    """
    out_channels, channels, taps = weight.shape
    if stride != 1 or groups != 1 or not on_rows(x, min(channels, out_channels)):
        return functional.conv1d(x, weight, bias, stride, padding, dilation, groups)
    rows = x.transpose(1, 2)
    if taps == 1 and not padding:
        return functional.linear(rows, weight[..., 0], bias).transpose(1, 2)
    if not _TOOM_COOK_TAPS[0] <= taps <= _TOOM_COOK_TAPS[1] and taps < _FOURIER_TAPS:
        return functional.conv1d(x, weight, bias, stride, padding, dilation, groups)
    if padding:
        rows = functional.pad(rows, (0, 0, padding, padding))
    made = _Tiled.apply(rows, weight, bias, dilation)
    return made.view(len(x), -1, out_channels).transpose(1, 2)


def on_rows(x: Tensor, narrowest: int) -> bool:
    """Whether a convolution of stride 1 is computed here, on (batch, length, channels), and not by PyTorch's own.

    Args:
        x: (batch, in, length).
        narrowest: the smaller of its numbers of channels, in and out.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or narrowest < _NARROW:
        return False
    return not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu") or torch.jit.is_tracing())


class Conv1d(nn.Conv1d):
    """`nn.Conv1d` by `convolve`; the state dict is the same."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(
            x, self.weight, self.bias, self.stride[0], int(self.padding[0]), self.dilation[0], self.groups
        )


class ReflectionPad1d(nn.ReflectionPad1d):
    """`nn.ReflectionPad1d` that leaves a signal which lies in memory as (batch, length, channels) so."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2)
        if x.device.type != "cpu" or x.shape[1] < _NARROW or not rows.is_contiguous() or torch.compiler.is_compiling():
            return super().forward(x)
        left, right = self.padding
        return rows.index_select(1, _reflection(x.shape[2], left, right)).transpose(1, 2)


@lru_cache(maxsize=256)
def _reflection(length: int, left: int, right: int) -> Tensor:
    return torch.from_numpy(np.pad(np.arange(length), (left, right), mode="reflect"))
