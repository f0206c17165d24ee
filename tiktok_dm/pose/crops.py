"""Top-down pre- and post-processing for all people of a batch at once: crops out of pictures, joints out of maps.

On whatever device the pictures are: a handful of tensor operations a batch, none a person. Knows no network, and not
for finding people (`detectors`) or following them (`tracking`).

A crop is upright, so that its pixels lie on a grid: one vector of source columns and one of source rows a person.
Two ways of reading between pixels are here, because the networks were trained with one or the other, and a tenth of
a pixel is visible in the joints:

- `STEPS_32`, as OpenCV's warpAffine does it: positions rounded to 1/1024 and cut to 1/32 px, integer weights, what
  lies outside the picture is black and is blended in. Integer arithmetic throughout, so the bytes are the same as
  OpenCV's (held by `tests/pose/test_mmpose.py`), on a GPU as on a CPU.
- `CONTINUOUS`, as scipy's affine_transform of order 1 does it: exact positions, and black from the first position
  outside the outermost pixel centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiktok_dm.pose.base import Picture, Region

STEPS_32 = 32
CONTINUOUS = 0
# What mmpose, ViTPose and their ancestors add about a detector's box.
PADDING = 1.25
# OpenCV's fixed point: positions are computed to 1/1024 px.
_FINE = 1024
# A joint is sought where its map is highest; below this it is nowhere.
_NOWHERE = -1.0
# DARK (Zhang et al., CVPR 2020) with unbiased data processing (Huang et al., CVPR 2020), as published.
_DARK_SIGMA = 0.8
_DARK_KERNEL = 11
_DARK_RANGE = (0.001, 50.0)


Neighbours = tuple[Tensor, Tensor, Tensor, Tensor]
"""Before and after each position: indices (N, count) twice, weights (N, count) twice."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of any sizes on one device.

    Args:
        pixels: (sum of height x width, 3) uint8 RGB, one picture after the other.
        offsets: (n,) int64, where each begins in `pixels`.
        sizes: (height, width) of each.
    """

    pixels: Tensor
    offsets: Tensor
    sizes: tuple[tuple[int, int], ...]

    def planes(self, size: int, start: int, stop: int) -> Tensor:
        """Pictures `start` to `stop` squeezed to squares: (stop - start, 3, size, size) float32, 0..255.

        Bilinear with the anti-aliasing that Pillow's resize has.
        """
        out = []
        here = int(self.offsets[start])
        for height, width in self.sizes[start:stop]:
            picture = self.pixels[here : here + height * width].view(1, height, width, 3).permute(0, 3, 1, 2)
            here += height * width
            out.append(torch.nn.functional.interpolate(picture.float(), (size, size), mode="bilinear", antialias=True))
        return torch.cat(out)


def upload(frames: Sequence[Picture], device: torch.device) -> Pictures:
    """Put pictures on a device, through one pinned buffer where that is a GPU."""
    sizes = tuple((frame.shape[0], frame.shape[1]) for frame in frames)
    lengths = [height * width for height, width in sizes]
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1].astype(np.int64))
    if device.type == "cpu" and len(frames) == 1 and frames[0].flags.carray:
        pixels = torch.from_numpy(frames[0]).view(-1, 3)
    else:
        pixels = torch.empty((sum(lengths), 3), dtype=torch.uint8, pin_memory=device.type == "cuda")
        buffer, here = pixels.numpy(), 0
        for frame, length in zip(frames, lengths, strict=True):
            buffer[here : here + length] = frame.reshape(length, 3)
            here += length
    return Pictures(pixels.to(device, non_blocking=True), offsets.to(device), sizes)


def boxes_of(regions: Sequence[Region]) -> NDArray[np.float32]:
    """(N, 4) left, top, right, bottom in px; a region's turn is not looked at."""
    values = np.array([(r.x, r.y, r.width, r.height) for r in regions], np.float64).reshape(-1, 4)
    half = values[:, 2:] / 2
    return np.concatenate([values[:, :2] - half, values[:, :2] + half], axis=1).astype(np.float32)


def centres_and_scales(
    boxes: NDArray[np.float32], size: tuple[int, int], padding: float = PADDING
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Middle (N, 2) and sides (N, 2), px, of the part of the picture that becomes a crop.

    The box grown by `padding`, and one side grown further to the crop's proportions: mmpose's GetBBoxCenterScale and
    TopdownAffine, in their precision.

    Args:
        boxes: (N, 4) left, top, right, bottom in px.
        size: width, height of the crop in px.
        padding: factor on both sides.
    """
    scales = (boxes[:, 2:] - boxes[:, :2]) * padding
    centres = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    aspect = size[0] / size[1]
    width, height = scales[:, :1], scales[:, 1:]
    wide = width > height * aspect
    scales = np.where(wide, np.hstack([width, width / aspect]), np.hstack([height * aspect, height]))
    return centres.astype(np.float32), scales.astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of N crops lie in their pictures.

    Args:
        columns: (N, width) x of each column of the crop, px of the picture, float64.
        rows: (N, height) y of each row.
        steps: `STEPS_32` or `CONTINUOUS`; with the former, columns and rows are whole numbers of 1/32 px.
    """

    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    steps: int


def grid_opencv(centres: NDArray[np.float32], scales: NDArray[np.float32], size: tuple[int, int]) -> Grid:
    """Grid of cv2.warpAffine with mmpose's `get_warp_matrix`: pixel u of the crop lies at left + u width / size."""
    width, height = size
    # Three points in single precision define the matrix there; so they do here.
    left = (centres[:, 0] - scales[:, 0] / 2).astype(np.float32)
    below = (centres[:, 1] + (centres[:, 0] - left)).astype(np.float32)
    step_x = (centres[:, 0].astype(np.float64) - left)[:, None] / (width / 2)
    step_y = (below.astype(np.float64) - centres[:, 1])[:, None] / (width / 2)
    top = centres[:, 1:].astype(np.float64) - step_y * (height / 2)
    # OpenCV rounds the start of a row and the way along it apart from each other.
    columns = np.rint(left[:, None].astype(np.float64) * _FINE) + np.rint(step_x * np.arange(width) * _FINE)
    rows = np.rint((step_y * np.arange(height) + top) * _FINE)
    cell = _FINE // STEPS_32
    return Grid(np.floor((columns + cell // 2) / cell), np.floor((rows + cell // 2) / cell), STEPS_32)


def grid_unbiased(centres: NDArray[np.float32], scales: NDArray[np.float32], size: tuple[int, int]) -> Grid:
    """Grid of unbiased data processing: the first and the last pixel of the crop lie on the sides of the part."""
    half = scales.astype(np.float64) / 2
    u, v = (np.linspace(-1, 1, n)[None] for n in size)
    return Grid(centres[:, :1] + half[:, :1] * u, centres[:, 1:] + half[:, 1:] * v, CONTINUOUS)


def _neighbours(position: Tensor, limit: Tensor, steps: int) -> Neighbours:
    """Pixels before and after each position and their weights; of pixels outside 0 .. limit - 1 the weight is 0.

    Args:
        position: (N, count) of a `Grid`.
        limit: (N, 1) int64, pixels of the picture along this axis.
        steps: of the `Grid`.

    Returns:
        Two (N, count) int64 indices inside the picture, two (N, count) weights: int32, whole numbers that add to 32,
        or float32 that add to 1.
    """
    if steps:
        whole = position.to(torch.int64)
        before = whole >> 5
        share = (whole & (STEPS_32 - 1)).to(torch.int32)
        w_before, w_after = STEPS_32 - share, share
        ok_before = (before >= 0) & (before < limit)
        ok_after = (before + 1 >= 0) & (before + 1 < limit)
    else:
        floor = position.floor()
        before = floor.to(torch.int64)
        w_after = (position - floor).float()
        w_before = 1 - w_after
        ok_before = (position >= 0) & (position <= limit - 1)
        ok_after = ok_before & (before + 1 < limit)
    none = torch.zeros((), dtype=w_before.dtype, device=position.device)
    last = limit - 1
    return (
        torch.minimum(before.clamp(min=0), last),
        torch.minimum((before + 1).clamp(min=0), last),
        torch.where(ok_before, w_before, none),
        torch.where(ok_after, w_after, none),
    )


def cut(pictures: Pictures, index: Sequence[int], grid: Grid) -> Tensor:
    """N crops out of pictures.

    Args:
        pictures: see `upload`.
        index: N places in `pictures`, of the picture that each crop is taken from.
        grid: where its pixels lie.

    Returns:
        (N, height, width, 3) float32 RGB of whole numbers 0..255, on the pictures' device.
    """
    device = pictures.pixels.device
    which = torch.as_tensor(list(index), dtype=torch.int64, device=device)
    sizes = torch.as_tensor(pictures.sizes, dtype=torch.int64, device=device)[which]
    columns = _neighbours(torch.from_numpy(grid.columns).to(device), sizes[:, 1:], grid.steps)
    rows = _neighbours(torch.from_numpy(grid.rows).to(device), sizes[:, :1], grid.steps)
    start = pictures.offsets[which]
    total = (_sum_in_cache if device.type == "cpu" else _sum_at_once)(pictures.pixels, start, sizes, columns, rows)
    if grid.steps:
        # OpenCV's weights sum to 2^15; these to 2^10, and rounding half up is the same.
        return total.add_(512).bitwise_right_shift_(10).float()
    return total.add_(0.5).floor_()


def _sum_at_once(pixels: Tensor, start: Tensor, sizes: Tensor, columns: Neighbours, rows: Neighbours) -> Tensor:
    """Weighted sums of each position's four neighbours, (N, height, width, 3): all people in one go."""
    x0, x1, wx0, wx1 = columns
    y0, y1, wy0, wy1 = rows
    shape = (len(start), y0.shape[1], x0.shape[1])
    total: Tensor | None = None
    for y, wy in ((y0, wy0), (y1, wy1)):
        first = start[:, None] + y * sizes[:, 1:]
        line: Tensor | None = None
        for x, wx in ((x0, wx0), (x1, wx1)):
            at = (first[:, :, None] + x[:, None, :]).view(-1)
            part = pixels.index_select(0, at).view(*shape, 3).to(wx.dtype).mul_(wx[:, None, :, None])
            line = part if line is None else line.add_(part)
        assert line is not None
        line.mul_(wy[:, :, None, None])
        total = line if total is None else total.add_(line)
    assert total is not None
    return total


def _sum_in_cache(pixels: Tensor, start: Tensor, sizes: Tensor, columns: Neighbours, rows: Neighbours) -> Tensor:
    """The same on a CPU, in half the time: rows are taken whole, and one person at a time fits the cache.

    Down first, then across, each by whole lines in memory; with whole numbers the order of sums does not matter.
    """
    x0, x1, wx0, wx1 = columns
    y0, y1, wy0, wy1 = rows
    count, height, width = len(start), y0.shape[1], x0.shape[1]
    out = torch.empty((count, height, width, 3), dtype=wx0.dtype)
    # Down, in 16 bits: 255 x 32 fits.
    small = torch.int16 if wx0.dtype == torch.int32 else wx0.dtype
    wy0, wy1 = wy0.to(small), wy1.to(small)
    left, right = x0.amin(dim=1), x1.amax(dim=1) + 1
    spans = zip(start.tolist(), sizes.tolist(), left.tolist(), right.tolist(), strict=True)
    for n, (begin, (high, wide), low, end) in enumerate(spans):
        picture = pixels[begin : begin + high * wide].view(high, wide * 3)
        inside = slice(3 * low, 3 * end)
        down = picture.index_select(0, y0[n])[:, inside].to(small).mul_(wy0[n, :, None])
        down.addcmul_(picture.index_select(0, y1[n])[:, inside].to(small), wy1[n, :, None])
        lines = down.view(height, end - low, 3).transpose(0, 1).reshape(end - low, height * 3)
        across = lines.index_select(0, x0[n] - low).to(wx0.dtype).mul_(wx0[n, :, None])
        across.addcmul_(lines.index_select(0, x1[n] - low).to(wx0.dtype), wx1[n, :, None])
        out[n] = across.view(width, height, 3).transpose(0, 1)
    return out


def normalised(crops: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(N, height, width, 3) -> (N, 3, height, width), channels still last in memory; `mean` and `std` are (3,).

    `crops` is changed.
    """
    return crops.sub_(mean).div_(std).permute(0, 3, 1, 2)


def decode_simcc(x: Tensor, y: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Joints from SimCC classifications (Li et al., ECCV 2022): the place of the greatest value on each axis.

    Args:
        x: (N, joints, width x ratio), y: (N, joints, height x ratio).
        ratio: bins a pixel.

    Returns:
        (N, joints, 2) float32 px of the crop; (N, joints) float32, the lower of the two greatest values. Where that
        is not above 0 the place is -1 / ratio on both axes, as mmpose has it.
    """
    at = torch.stack([x.argmax(-1), y.argmax(-1)], dim=-1)
    score = torch.minimum(x.amax(-1), y.amax(-1)).float()
    places = torch.where(score[..., None] > 0, at.float(), torch.full_like(score[..., None], _NOWHERE))
    return places / ratio, score


def flipped_simcc(x: Tensor, y: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """What the mirrored crop's SimCC values are in the crop itself; `order` (joints,) swaps left and right joints."""
    return x[:, order].flip(-1), y[:, order]


def _gaussian(device: torch.device) -> Tensor:
    reach = _DARK_KERNEL // 2
    along = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (along / _DARK_SIGMA) ** 2)
    return (weights / weights.sum()).float().to(device)


def decode_dark(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Joints from heatmaps, between cells by DARK: one Newton step on the logarithm of the smoothed map.

    Args:
        heatmaps: (N, joints, height, width) float32.

    Returns:
        (N, joints, 2) float32 cells, (N, joints) float32 the map's greatest value. Where that is not above 0, the
        place means nothing.
    """
    n, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(n * joints, 1, height, width)
    score, at = flat.view(n, joints, -1).max(-1)
    kernel, reach = _gaussian(heatmaps.device), _DARK_KERNEL // 2
    # scipy's "reflect" repeats the outermost cell, torch's does not: hence the indices.
    rows = _reflected(height, reach, heatmaps.device)
    columns = _reflected(width, reach, heatmaps.device)
    smooth = torch.nn.functional.conv2d(flat[:, :, rows], kernel.view(1, 1, -1, 1))
    smooth = torch.nn.functional.conv2d(smooth[..., columns], kernel.view(1, 1, 1, -1))
    logs = smooth.clamp(*_DARK_RANGE).log().view(n * joints, -1)
    x, y = (at % width).view(-1), torch.div(at, width, rounding_mode="floor").view(-1)

    def value(dx: int, dy: int) -> Tensor:
        where = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
        return logs.gather(1, where[:, None])[:, 0].double()

    middle, right, left, below, above = value(0, 0), value(1, 0), value(-1, 0), value(0, 1), value(0, -1)
    gx, gy = 0.5 * (right - left), 0.5 * (below - above)
    epsilon = float(np.finfo(np.float32).eps)
    xx, yy = right - 2 * middle + left + epsilon, below - 2 * middle + above + epsilon
    xy = 0.5 * (value(1, 1) - right - below + 2 * middle - left - above + value(-1, -1))
    determinant = xx * yy - xy * xy
    shift = torch.stack([(yy * gx - xy * gy) / determinant, (xx * gy - xy * gx) / determinant], dim=-1)
    places = torch.stack([x, y], dim=-1) - shift
    return places.view(n, joints, 2).float(), score


def _reflected(count: int, reach: int, device: torch.device) -> Tensor:
    """Indices -reach .. count + reach - 1 brought inside 0 .. count - 1 by mirroring at the cells' outer edges."""
    index = torch.arange(-reach, count + reach, device=device) % (2 * count)
    return torch.where(index < count, index, 2 * count - 1 - index)


def to_picture(
    places: NDArray[np.float32], centres: NDArray[np.float32], scales: NDArray[np.float32], size: tuple[float, float]
) -> NDArray[np.float32]:
    """Places (N, joints, 2) in crops whose sides measure `size` -> px of the pictures."""
    spread = places.astype(np.float64) / np.array(size, np.float64) * scales[:, None]
    return (spread + centres[:, None] - 0.5 * scales[:, None]).astype(np.float32)
