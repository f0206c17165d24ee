"""Long convolutions with fewer multiplications, put into a network from outside: for processors, not for GPUs.

`accelerate(network)` lets every convolution of stride 1 with many taps be cut into tiles of `outputs` samples, each
computed by a bilinear algorithm

    y = A^T ((G w) * (B^T x)),        x: outputs + taps - 1 inputs, w: taps weights, y: outputs,

whose elementwise product `*` is the only place where inputs meet weights: a cyclic Fourier transform of twice the taps
(Cooley and Tukey 1965), with three real products for a complex one (Gauss). Over channels each of its rows becomes one
matrix product (positions x in) (in x out), so that the cost is rows / outputs instead of `taps` per position: 40 taps
are 119 products for 41 outputs instead of 1640. Dilation interleaves independent convolutions. In float32 the largest
error of an output is a tenth to a quarter of PyTorch's own, that of an input's gradient 1.2 to 2.1 times, and that of a
weight's 0.7 to 1.1 times (docs/figures.md). Few taps are left to PyTorch: no such algorithm for three of them (Winograd
1980; two to six outputs, seven sets of points) stayed within twice PyTorch's error, the best 2.6 times, and none was
faster by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.networks.residual import WeightNormConv1d

_LEAST_TAPS = 16

_NARROW = 32
"""With fewer channels than this the tiles' transforms cost more than the products that they save (measured)."""
_BLOCK = 6_000_000
"""Numbers in an intermediate: 24 MB of float32, less than glibc's largest threshold for memory that it keeps."""
_THINNEST = 64


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


def fourier(taps: int) -> Algorithm:
    """The algorithm on the frequencies of a cyclic transform of 2 taps, for taps + 1 outputs; float64.

    With X = a + ib and the conjugate W = c + ie of the weights' spectrum, X W = (p1 - p3) + i (p1 + p2) where
    p1 = (a + b) c, p2 = a (e - c), p3 = b (c + e).
    """
    n, outputs = 2 * taps, taps + 1
    t, w, y = np.arange(n), np.arange(taps), np.arange(outputs)
    analysis: list[np.ndarray] = [np.ones(n)]
    weights: list[np.ndarray] = [np.ones(taps)]
    synthesis: list[np.ndarray] = [np.full(outputs, 1 / n)]
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
    return Algorithm(*(_constant(np.array(rows)) for rows in (analysis, weights, np.array(synthesis).T)))


@lru_cache(maxsize=64)
def algorithm(taps: int, dtype: torch.dtype = torch.float64) -> Algorithm:
    """`fourier` in a type, made once."""
    with torch.inference_mode(False):
        return Algorithm(*(matrix.to(dtype) for matrix in fourier(taps)))


class _Tiling(NamedTuple):
    """Where the rows of tiles come from and go to, as indices into flattened (batch, length) rows.

    Args:
        tiles: their number.
        inputs: (n, tiles): sample j of a tile is this input row.
        inputs_back: the same, with one past the end for what lies beyond the signal.
        outputs: (batch * length',): this row of the tiles is the output row.
        outputs_back: (outputs * tiles,): its inverse; any output row for those that are dropped.
        dropped: rows of the tiles that are no output.
    """

    tiles: int
    inputs: Tensor
    inputs_back: Tensor
    outputs: Tensor
    outputs_back: Tensor
    dropped: Tensor


@lru_cache(maxsize=128)
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
    tiles = batch * start.size
    grids = (_constant(grid.reshape(n, tiles)) for grid in (inputs, inputs_back))
    lists = (_constant(rows) for rows in (forward, outputs_back, np.flatnonzero(~kept)))
    return _Tiling(tiles, *grids, *lists)


def _constant(values: np.ndarray) -> Tensor:
    """A tensor that training may use even where sampling made it first."""
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(values))


class _Tiled(torch.autograd.Function):
    """The tiled convolution of (batch, length, in) to (batch * length', out); its gradient transposes the algorithm.

    Output channels are worked through in blocks, and tiles too where they are gathered, so that every intermediate
    stays small: the allocator hands small memory out again, while fresh memory costs more than the arithmetic on it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        batch, length, channels = x.shape
        out_channels, _, taps = weight.shape
        form = algorithm(taps, x.dtype)
        tiling = _tiling(batch, length, taps, form.outputs, dilation)
        rows = x.reshape(batch * length, channels)
        signal = x.new_empty(form.rows, tiling.tiles, channels)
        for part in _blocks(tiling.tiles, form.analysis.shape[1] * channels):
            gathered = rows.index_select(0, tiling.inputs[:, part].flatten())
            torch.mm(form.analysis, gathered.view(len(tiling.inputs), -1), out=_columns(signal, part))
        # Rows by channels, and not a view, so that an activation may work on it in place.
        y = x.new_empty(len(tiling.outputs), out_channels)
        for part in _blocks(out_channels, form.rows * max(channels, tiling.tiles)):
            product = torch.bmm(signal, _filters(form, weight[part]).transpose(1, 2))
            made = (form.synthesis @ product.view(form.rows, -1)).view(form.outputs * tiling.tiles, -1)
            y[:, part] = made.index_select(0, tiling.outputs)
        if bias is not None:
            y += bias
        needs_input, needs_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(signal if needs_weight else None, weight)
        ctx.shape, ctx.dilation, ctx.needs_input = x.shape, dilation, needs_input
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        signal, weight = ctx.saved_tensors
        batch, length, channels = ctx.shape
        out_channels, _, taps = weight.shape
        form = algorithm(taps, grad.dtype)
        tiling = _tiling(batch, length, taps, form.outputs, ctx.dilation)
        grad_x = grad_weight = None
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        if signal is not None:
            grad_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        back = grad.new_zeros(form.rows, tiling.tiles, channels) if ctx.needs_input else None
        for part in _blocks(out_channels, form.rows * max(channels, tiling.tiles)):
            made = grad[:, part].index_select(0, tiling.outputs_back).index_fill_(0, tiling.dropped, 0)
            product = (form.synthesis.t() @ made.view(form.outputs, -1)).view(form.rows, tiling.tiles, -1)
            if grad_weight is not None:
                by_row = torch.bmm(product.transpose(1, 2), signal)
                torch.mm(by_row.view(form.rows, -1).t(), form.weights, out=grad_weight[part].view(-1, taps))
            if back is not None:
                back.baddbmm_(product, _filters(form, weight[part]))
        if back is not None:
            rows = grad.new_zeros(batch * length + 1, channels)
            for part in _blocks(tiling.tiles, form.analysis.shape[1] * channels):
                gathered = (form.analysis.t() @ _columns(back, part)).view(-1, channels)
                rows.index_add_(0, tiling.inputs_back[:, part].flatten(), gathered)
            grad_x = rows[:-1].view(batch, length, channels)
        return grad_x, grad_weight, grad_bias, None


def _filters(form: Algorithm, weight: Tensor) -> Tensor:
    """G w: (out, in, taps) to (rows, out, in)."""
    return (form.weights @ weight.reshape(-1, form.taps).t()).view(form.rows, *weight.shape[:2])


def _columns(tiles: Tensor, part: slice) -> Tensor:
    """Some of the tiles (rows, tiles, channels) as a matrix (rows, tiles * channels)."""
    rows, _, channels = tiles.shape
    return tiles.view(rows, -1)[:, part.start * channels : part.stop * channels]


def _blocks(n: int, numbers_each: int) -> Iterator[slice]:
    """0 to n in nearly equal parts of at most `_BLOCK` numbers, but no thinner than the products need."""
    size = max(_THINNEST, _BLOCK // numbers_each)
    parts = -(-n // size)
    for part in range(parts):
        yield slice(n * part // parts, n * (part + 1) // parts)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 0, dilation: int = 1) -> Tensor:
    """(batch, in, length) to (batch, out, length'), as `torch.nn.functional.conv1d`, by tiles where that is cheaper.

    Args:
        x: the signal.
        weight: (out, in, taps).
        bias: (out,), or None.
        padding: zeros on each side.
        dilation: samples between taps.
    """
    out_channels, channels, taps = weight.shape
    made = x.shape[2] + 2 * padding - dilation * (taps - 1)
    if made < 1 or not x.numel() or not _by_tiles(x, min(channels, out_channels), taps):
        return functional.conv1d(x, weight, bias, 1, padding, dilation)
    rows = functional.pad(x.transpose(1, 2), (0, 0, padding, padding)).contiguous()
    return _Tiled.apply(rows, weight, bias, dilation).view(len(x), -1, out_channels).transpose(1, 2)


def _by_tiles(x: Tensor, narrowest: int, taps: int) -> bool:
    """What compilers, exporters and autocast see is PyTorch's own convolution."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu") or torch.jit.is_tracing():
        return False
    return taps >= _LEAST_TAPS and narrowest >= _NARROW


class _LongConv1d(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, int(self.padding[0]), self.dilation[0])


class _LongWeightNormConv1d(WeightNormConv1d):
    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.padding, self.dilation)


def accelerate(network: nn.Module) -> nn.Module:
    """Let the long convolutions of `network` be computed by tiles, in place; returns `network`.

    Parameters, names and the state dict stay; the values differ by rounding.
    """
    for module in network.modules():
        weight = getattr(module, "weight_v", getattr(module, "weight", None))
        if weight is None or weight.ndim != 3 or weight.shape[2] < _LEAST_TAPS or module.groups != 1:
            continue
        if type(module) is nn.Conv1d and module.stride == (1,) and module.padding_mode == "zeros":
            module.__class__ = _LongConv1d
        elif type(module) is WeightNormConv1d and module.stride == 1:
            module.__class__ = _LongWeightNormConv1d
    return network
