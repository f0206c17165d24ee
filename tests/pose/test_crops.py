"""Crops and decoding: worked by hand, against plain loops, and against scipy. Needs no pose package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from tiktok_dm.pose import crops
from tiktok_dm.pose.base import Region
from tiktok_dm.pose.crops import (
    CONTINUOUS,
    STEPS_32,
    Grid,
    boxes_of,
    centres_and_scales,
    cut,
    decode_dark,
    decode_simcc,
    flipped_simcc,
    grid_opencv,
    grid_unbiased,
    normalised,
    to_picture,
    upload,
)

CPU = torch.device("cpu")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_boxes_are_the_regions_corners() -> None:
    boxes = boxes_of([Region(10, 20, 4, 6), Region(0.5, 0, 1, 1, angle=0.3)])
    np.testing.assert_array_equal(boxes, np.float32([[8, 17, 12, 23], [0, -0.5, 1, 0.5]]))
    assert boxes_of([]).shape == (0, 4)


def test_a_box_is_padded_and_brought_to_the_crops_proportions() -> None:
    boxes = np.float32([[10, 20, 50, 180], [0, 0, 300, 40]])  # 40 x 160 and 300 x 40
    centres, scales = centres_and_scales(boxes, (192, 256))
    np.testing.assert_array_equal(centres, np.float32([[30, 100], [150, 20]]))
    # 160 x 1.25 = 200 high, so 150 wide; 300 x 1.25 = 375 wide, so 500 high.
    np.testing.assert_array_equal(scales, np.float32([[150, 200], [375, 500]]))


def test_a_crop_of_the_pictures_own_pixels_is_the_picture() -> None:
    picture = noise(256, 192)
    grid = grid_opencv(np.float32([[96, 128]]), np.float32([[192, 256]]), (192, 256))
    np.testing.assert_array_equal(grid.columns[0], 32 * np.arange(192))
    np.testing.assert_array_equal(cut(upload([picture], CPU), [0], grid).numpy()[0], picture)


def test_between_pixels_and_beyond_the_border_by_hand() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[..., 0] = [[100, 200], [50, 250]]
    # In 32nds of a pixel: a quarter right of the first column; one row up from the top by half.
    grid = Grid(np.array([[8.0, -16.0, 48.0]]), np.array([[0.0, 16.0]]), STEPS_32)
    crop = cut(upload([picture], CPU), [0], grid).numpy()[0, :, :, 0]
    # Row 0: .75 x 100 + .25 x 200; half of 100 and half of black; half of 200 and half of black.
    # Row 1 is the mean of both rows: 75 and 225; 81.25 + 31.25 = 112.5 rounds up; 37.5 to 38; 112.5 to 113.
    np.testing.assert_array_equal(crop, [[125, 50, 100], [113, 38, 113]])


def test_opencvs_way_of_reading_against_its_formula_pixel_by_pixel() -> None:
    """cv2.warpAffine, INTER_LINEAR, black border, as its documentation and source describe it, in plain loops."""
    pictures = [noise(40, 30), noise(21, 55, 1)]
    centres, scales = np.float32([[12.3, 19.1], [50.2, -3.7]]), np.float32([[15.6, 20.8], [33.0, 44.0]])
    size = (12, 16)
    crops = cut(upload(pictures, CPU), [0, 1], grid_opencv(centres, scales, size)).numpy()
    for n, picture in enumerate(pictures):
        step = scales[n, 0] / np.float64(12)
        left, top = centres[n] - step * np.array([6, 8])
        for v in range(16):
            y = (int(np.rint((step * v + top) * 1024)) + 16) >> 5
            for u in range(12):
                x = (int(np.rint(left * 1024)) + int(np.rint(step * u * 1024)) + 16) >> 5
                total = np.zeros(3, np.int64)
                for dy, wy in ((0, 32 - y % 32), (1, y % 32)):
                    for dx, wx in ((0, 32 - x % 32), (1, x % 32)):
                        yy, xx = (y >> 5) + dy, (x >> 5) + dx
                        if 0 <= yy < picture.shape[0] and 0 <= xx < picture.shape[1]:
                            total += wy * wx * picture[yy, xx].astype(np.int64)
                assert crops[n, v, u].tolist() == ((total + 512) >> 10).tolist(), (n, u, v)


def test_continuous_reading_is_scipys() -> None:
    picture = noise(50, 40)
    grid = grid_unbiased(np.float32([[20, 30]]), np.float32([[45, 60]]), (24, 32))
    assert grid.steps == CONTINUOUS
    # The first and the last pixel lie on the sides: 20 -+ 22.5 and 30 -+ 30.
    np.testing.assert_allclose(grid.columns[0, [0, -1]], [-2.5, 42.5])
    np.testing.assert_allclose(grid.rows[0, [0, -1]], [0, 60])
    crop = cut(upload([picture], CPU), [0], grid).numpy()[0]
    y, x = np.meshgrid(grid.rows[0], grid.columns[0], indexing="ij")
    for channel in range(3):
        exact = map_coordinates(picture[..., channel].astype(np.float64), [y, x], order=1, mode="constant")
        np.testing.assert_allclose(crop[..., channel], exact, atol=0.5 + 1e-4)


def test_many_crops_are_the_same_as_one_by_one() -> None:
    pictures = [noise(40, 30), noise(21, 55, 1), noise(64, 64, 2)]
    index = [2, 0, 1, 1, 0]
    rng = np.random.default_rng(3)
    centres, scales = rng.uniform(0, 50, (5, 2)).astype(np.float32), rng.uniform(5, 90, (5, 2)).astype(np.float32)
    for make in (grid_opencv, grid_unbiased):
        together = cut(upload(pictures, CPU), index, make(centres, scales, (12, 16)))
        for n, k in enumerate(index):
            alone = cut(upload([pictures[k]], CPU), [0], make(centres[n : n + 1], scales[n : n + 1], (12, 16)))
            torch.testing.assert_close(together[n], alone[0], rtol=0, atol=0)


def test_a_gpus_way_gives_the_same_as_a_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = upload([noise(40, 30), noise(21, 55, 1)], CPU)
    rng = np.random.default_rng(5)
    centres, scales = rng.uniform(-10, 50, (6, 2)).astype(np.float32), rng.uniform(5, 90, (6, 2)).astype(np.float32)
    grids = [make(centres, scales, (12, 16)) for make in (grid_opencv, grid_unbiased)]
    here = [cut(pictures, [0, 1] * 3, grid) for grid in grids]
    monkeypatch.setattr(crops, "_sum_in_cache", crops._sum_at_once)
    there = [cut(pictures, [0, 1] * 3, grid) for grid in grids]
    torch.testing.assert_close(here[0], there[0], rtol=0, atol=0)
    # Single precision in another order: a value between two grey levels may go the other way.
    assert (here[1] != there[1]).float().mean() < 0.002


def test_upload_takes_views_and_squeezes_to_squares() -> None:
    picture = noise(20, 40)
    pictures = upload([picture[:, ::-1], picture], CPU)
    assert pictures.offsets.tolist() == [0, 800]
    np.testing.assert_array_equal(pictures.pixels[:800].numpy().reshape(20, 40, 3), picture[:, ::-1])
    squares = pictures.planes(10, 1, 2)
    assert squares.shape == (1, 3, 10, 10)
    # Anti-aliased: the mean colour stays.
    np.testing.assert_allclose(squares.mean(dim=(0, 2, 3)), picture.mean(axis=(0, 1)), atol=2)


def test_normalised_takes_out_mean_and_deviation_channel_by_channel() -> None:
    crops = torch.full((1, 2, 2, 3), 10.0)
    out = normalised(crops, torch.tensor([0.0, 10.0, 20.0]), torch.tensor([1.0, 2.0, 5.0]))
    assert out.shape == (1, 3, 2, 2)
    assert out[0, :, 0, 0].tolist() == [10, 0, -2]
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_simcc_by_hand() -> None:
    x, y = torch.full((1, 3, 8), -1.0), torch.full((1, 3, 6), -1.0)
    x[0, 0, 5], y[0, 0, 2] = 0.9, 0.4  # found: bin 5 and 2, the lower value counts
    x[0, 1, [2, 6]], y[0, 1, 1] = 0.5, 0.8  # two equal bins: the first
    x[0, 2, 3], y[0, 2, 3] = 0.7, 0.0  # not above 0 on one axis: nowhere
    places, scores = decode_simcc(x, y, 2.0)
    assert places[0].tolist() == [[2.5, 1.0], [1.0, 0.5], [-0.5, -0.5]]
    torch.testing.assert_close(scores[0], torch.tensor([0.4, 0.5, 0.0]))


def test_a_mirrored_crop_is_mirrored_back() -> None:
    x, y = torch.arange(6.0).view(1, 2, 3), torch.arange(4.0).view(1, 2, 2)
    back_x, back_y = flipped_simcc(x, y, torch.tensor([1, 0]))
    assert back_x[0].tolist() == [[5, 4, 3], [2, 1, 0]]
    assert back_y[0].tolist() == [[2, 3], [0, 1]]


@pytest.mark.parametrize(("x", "y"), [(20.0, 30.0), (20.3, 29.6), (8.5, 50.1)])
def test_dark_finds_the_middle_of_a_gaussian_between_cells(x: float, y: float) -> None:
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    heatmap = torch.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 2.0**2))
    places, scores = decode_dark(torch.stack([heatmap, heatmap.flip(-1)])[None])
    np.testing.assert_allclose(places[0, 0], [x, y], atol=0.01)
    np.testing.assert_allclose(places[0, 1], [47 - places[0, 0, 0], places[0, 0, 1]], atol=1e-3)
    assert scores[0, 0] == heatmap.max()


def test_places_in_crops_go_back_to_the_picture() -> None:
    places = np.float32([[[0, 0], [96, 128], [192, 256]]])
    out = to_picture(places, np.float32([[30, 100]]), np.float32([[150, 200]]), (192, 256))
    np.testing.assert_array_equal(out, np.float32([[[-45, 0], [30, 100], [105, 200]]]))
