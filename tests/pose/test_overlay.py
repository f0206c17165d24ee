"""Skeletons on pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from people_factory import numbered, person

from tiktok_dm import media
from tiktok_dm.pose.overlay import COLOURS, draw_poses, write_overlay


def test_each_dancer_has_a_colour_and_the_rest_stays() -> None:
    picture = np.full((240, 320, 3), 90, np.uint8)
    poses = np.stack([person(80, 120, 200, 1), person(240, 120, 200, 1), np.zeros((25, 3), np.float32)])
    drawn = draw_poses(picture, poses)
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert (picture == 90).all(), "the picture given is not touched"
    for x, colour in ((80, COLOURS[0]), (240, COLOURS[1])):
        middle = drawn[90, x].astype(int)  # halfway between neck and hips
        assert np.abs(middle - np.array(colour) * 0.9 - 9).max() <= 3
    assert (drawn[:, 150:170] == 90).all()


def test_opacity_is_confidence() -> None:
    picture = np.zeros((240, 160, 3), np.uint8)
    full, faint = (draw_poses(picture, person(80, 120, 200, c)[None])[90, 80].astype(float) for c in (1.0, 0.5))
    np.testing.assert_allclose(faint, full / 2, atol=2)


def test_joints_outside_the_picture_are_cut_off() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    for x, y in ((-5, 30), (65, 30), (30, -80), (30, 500), (400, 400)):
        assert draw_poses(picture, person(x, y, 100, 1)[None]).shape == picture.shape
    np.testing.assert_array_equal(draw_poses(picture, person(400, 400, 100, 1)[None]), picture)
    np.testing.assert_array_equal(draw_poses(picture, np.zeros((0, 25, 3), np.float32)), picture)


def test_an_overlay_video_holds_every_picture(tmp_path: Path) -> None:
    frames = numbered(6, width=161, height=121)
    poses = np.stack([person(40 + 10 * k, 60, 80, 1)[None] for k in range(6)])
    write_overlay(frames, poses, tmp_path / "overlay.mp4")
    shown = [picture for _, picture in media.read_frames(tmp_path / "overlay.mp4")]
    assert len(shown) == 6
    assert shown[0].shape == (120, 160, 3)
    for k, picture in enumerate(shown):
        lit = np.flatnonzero(picture[48].sum(axis=1) > 200)  # halfway down the chest: both arms and the spine
        assert abs((lit.min() + lit.max()) / 2 - (40 + 10 * k)) <= 2
