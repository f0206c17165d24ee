"""Visual features of a dance's windows, from those of its segments."""

from __future__ import annotations

import numpy as np
import pytest
from sampling_factory import FRAMES, HOP, RATE, moving_poses, tiny_codec, tiny_config, tiny_model

from d2m_model.sampling.dance import dance_from_poses
from d2m_model.sampling.sampler import DanceToMusic
from d2m_model.sampling.windows import plan_windows, visual_windows
from tiktok_dm.errors import UserError

CONFIG = tiny_config(visual_features=2)
SEGMENTS = np.array([[0, 1], [10, 2], [20, 4]], np.float32)


def windows(duration_s: float, overlap: float = 0.25, visual: np.ndarray = SEGMENTS) -> np.ndarray:
    plan = plan_windows(duration_s, FRAMES, HOP, RATE, overlap)
    return visual_windows(visual, plan, CONFIG, "the dance")


def test_a_window_that_is_a_segment_has_its_features() -> None:
    assert windows(2.0, visual=SEGMENTS[1:2]).tolist() == [[10, 2]]


def test_a_window_across_two_segments_weighs_both() -> None:
    """Windows of 344 frames every 258: they begin at 0, 1.4977 s, 2.9954 s, ... and last 1.9969 s."""
    found = windows(6.0)
    frame_s = HOP / RATE
    second = 258 * frame_s
    in_first = (2 - second) / (FRAMES * frame_s)
    assert found[0].tolist() == [0, 1]
    np.testing.assert_allclose(found[1], [10 * (1 - in_first), in_first + 2 * (1 - in_first)], rtol=1e-5)
    third = 516 * frame_s
    np.testing.assert_allclose(
        found[2, 0], 10 * (4 - third) / (344 * frame_s) + 20 * (1 - (4 - third) / (344 * frame_s))
    )
    assert (np.diff(found[:, 0]) > 0).all()


def test_behind_the_last_segment_the_touched_ones_count_alone() -> None:
    found = windows(7.5)
    assert found[-1].tolist() == [20, 4]
    assert windows(7.999, overlap=0.0)[-1].tolist() == [20, 4]
    assert np.isfinite(found).all()


def test_features_of_another_length_are_refused() -> None:
    with pytest.raises(UserError, match=r"are 3x1; the model takes 2"):
        windows(6.0, visual=SEGMENTS[:, :1])
    with pytest.raises(UserError, match="NaN"):
        windows(6.0, visual=np.full((3, 2), np.nan, np.float32))


def test_a_dance_brings_its_features_along() -> None:
    maker = DanceToMusic(tiny_model(CONFIG), tiny_codec(), "cpu")
    dance = dance_from_poses(moving_poses(6.0))
    with pytest.raises(UserError, match="built with --visual"):
        maker(dance)
    object.__setattr__(dance, "visual", SEGMENTS)
    rows = visual_windows(SEGMENTS, maker.plan(dance), CONFIG, "")
    assert np.array_equal(maker(dance).codes, maker(dance, visual=rows).codes)
    assert np.array_equal(maker.many([dance, dance])[1].codes, maker(dance).codes)
    assert not np.array_equal(maker(dance, visual=-rows).codes, maker(dance).codes)
    # A model without visual features does not mind them.
    plain = DanceToMusic(tiny_model(), tiny_codec(), "cpu")
    assert len(plain.many([dance])[0].audio) == 6 * RATE
