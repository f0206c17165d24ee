"""What guided channels are asked to say."""

from __future__ import annotations

import math

import pytest
import torch

from d2m_model.codec.spectral import LoudnessGuide


def test_a_band_tells_ten_times_the_sound_as_one_more():
    guide = LoudnessGuide(4, 128, 22050)
    tone = 0.05 * torch.sin(2 * math.pi * 300 * torch.arange(4096) / 22050)[None, None]
    quiet, loud = guide(tone), guide(10 * tone)
    assert quiet.shape == (1, 4, 32)
    torch.testing.assert_close(loud[0, 0], quiet[0, 0] + 1)
    assert bool((loud[0, 0] > loud[0, 3] + 1).all())  # 300 Hz lies in the lowest of the four bands
    torch.testing.assert_close(LoudnessGuide(4, 128, 22050, scale=3.0)(tone), 3 * quiet)


def test_silence_and_phase_make_no_difference():
    guide = LoudnessGuide(4, 128, 22050)
    assert guide(torch.zeros(1, 1, 1024)).flatten().tolist() == pytest.approx([-2.0] * 32)
    time = torch.arange(8192) / 22050
    one, other = (guide(torch.sin(2 * math.pi * 1000 * time + phase)[None, None]) for phase in (0.0, 1.5))
    assert float((one - other)[..., 4:-4].abs().max()) < 0.02


def test_a_click_is_told_in_its_own_frame():
    guide = LoudnessGuide(1, 128, 22050)
    audio = torch.zeros(1, 1, 128 * 40)
    audio[0, 0, 128 * 20 + 64] = 1.0
    assert int(guide(audio)[0, 0].argmax()) == 20
