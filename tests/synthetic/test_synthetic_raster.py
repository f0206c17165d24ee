"""Pixel loops: spheres and capsules where geometry puts them, whole-pixel shifts, soft edges."""

from __future__ import annotations

import numpy as np
import pytest

from tiktok_dm.synthetic import figure

LIGHT = np.array([[0, 0, 1.0], [1, 1, 1], [0, 0, 0], [0, 0, -1.0], [0, 0, 0]])


def draw(shapes: list[list[float]], materials: list[list[float]], size: int = 40) -> np.ndarray:
    geometry, material = np.array(shapes, float), np.array(materials, float)
    depth = np.full((2 * size, 2 * size), figure.FAR, np.float32)
    surface, which = np.zeros((2 * size, 2 * size, 3), np.float32), np.zeros((2 * size, 2 * size), np.int32)
    out = np.full((size, size, 3), 10, np.uint8)
    figure.capsules(geometry, depth, surface, which)
    figure.compose(np.array([0, 0, size, size]), material, LIGHT, depth, surface, which, out)
    assert (depth == np.float32(figure.FAR)).all()  # empty again
    return out


def paint(red: float, green: float, blue: float) -> list[float]:
    return [red, green, blue, 0, red, green, blue, 2, 2, 0]


def test_a_sphere_is_a_disc_lit_at_its_middle():
    out = draw([[40, 40, 0, 20, 40, 40, 0, 20]], [paint(200, 100, 50)])
    np.testing.assert_allclose(out[20, 20], [200, 100, 50], atol=2)
    covered = (out != 10).any(-1).sum()
    assert covered == pytest.approx(np.pi * 10**2, rel=0.12)
    assert (out[0] == 10).all()
    assert out[20, 12, 0] < out[20, 20, 0]  # darker where the surface turns away


def test_the_nearer_of_two_spheres_is_seen_whatever_the_order():
    near, far = [40, 40, 50, 10, 40, 40, 50, 10], [40, 40, 0, 20, 40, 40, 0, 20]
    red, blue = paint(200, 0, 0), paint(0, 0, 200)
    one, two = draw([near, far], [red, blue]), draw([far, near], [blue, red])
    np.testing.assert_array_equal(one, two)
    assert one[20, 20, 0] > 190
    assert one[20, 28, 2] > 60


def test_a_capsule_covers_its_length_and_a_stripe_its_part():
    material = [0, 200, 0, 0, 200, 0, 0, 0.75, 1.0, 0]
    out = draw([[20, 40, 0, 6, 60, 40, 0, 6]], [material])
    assert out[20, 14, 1] > 180
    assert out[20, 28, 0] > 180
    assert (out[20, 35] == 10).all()
    assert (out[24, 20] == 10).all()


def test_a_capsule_that_points_at_the_camera_shows_its_near_end():
    out = draw([[40, 40, 0, 20, 40.5, 40, 60, 10]], [[0, 200, 0, 0, 200, 0, 0, 0.9, 1.0, 0]])
    assert out[20, 20, 0] > 180
    assert out[20, 20, 1] < 20


def test_the_background_shifts_by_whole_and_half_pixels():
    room = np.zeros((12, 12, 3), np.uint8)
    room[6, 6] = 160
    flat = room.reshape(12, 36)
    out = np.empty((4, 12), np.uint8)
    figure.background(flat, 0.0, 0.0, out)
    assert out.reshape(4, 4, 3)[2, 2, 0] == 160
    figure.background(flat, 1.0, -1.0, out)
    assert out.reshape(4, 4, 3)[3, 1, 0] == 160
    figure.background(flat, 0.5, 0.0, out)
    assert list(out.reshape(4, 4, 3)[2, :, 1]) == [0, 80, 80, 0]


def test_shadow_darkens_its_middle_most_and_nothing_far_away():
    out = np.full((30, 30, 3), 200, np.uint8)
    figure.shadow(out, 15.0, 15.0, 5.0, 3.0, 0.5)
    assert out[15, 15, 0] == 100
    assert 100 < out[15, 20, 0] < 200
    assert (out[0] == 200).all()


def test_blend_and_bounds():
    first, second = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 200, np.uint8)
    out = np.empty_like(first)
    figure.blend(first, second, 0.25, out)
    assert (out == 125).all()
    box = figure.bounds(np.array([[[20.0, 40, 0, 4, 60, 40, 0, 4]]]), 40, 40)[0]
    assert box[0] <= 8
    assert 32 <= box[2] <= 40
    assert box[1] <= 18
    assert box[3] >= 22
